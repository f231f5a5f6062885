//! A log that is stale, frozen or away.

use taglog_tests::{Data, Witness, server::lasting_address, witness::now};

use crate::scene::{Scene, await_alert, wait};

#[test]
fn a_log_that_freezes_goes_away_and_comes_back() {
    let witness = Witness::new(1);
    let data = Data::with(&[&witness], "");
    let address = lasting_address();
    let server = data.start_at(&address);
    let keys =
        "stale-after = \"10s\"\nfrozen-after = \"10s\"\nunreachable-after = \"1s\"\n[[sink]]\nkind = \"stdout\"\n";
    let scene = Scene::new(&server.vkey, &format!("http://{address}"), keys);
    let monitor = scene.start(&[]);
    // It seals only every ten minutes while nobody says anything.
    let stale = await_alert(&monitor, "stale-log", "raised");
    let frozen = await_alert(&monitor, "frozen-log", "raised");
    wait(server.add(&[witness.observe("registry.example/a:1", "x", now())]));
    assert_eq!(await_alert(&monitor, "stale-log", "ended")["about"], stale["about"]);
    assert_eq!(await_alert(&monitor, "frozen-log", "ended")["about"], frozen["about"]);
    server.stop();
    let away = await_alert(&monitor, "unreachable-log", "raised");
    let _server = data.start_at(&address);
    assert_eq!(await_alert(&monitor, "unreachable-log", "ended")["about"], away["about"]);
}
