//! A log that is stale, frozen or unreachable.

use taglog_tests::{DataDirectory, Witness, server::lasting_address, witness::now};

use crate::fixture::{MonitorFixture, await_alert, wait};

#[test]
fn a_log_that_freezes_becomes_unreachable_and_recovers() {
    let witness = Witness::new(1);
    let data = DataDirectory::with(&[&witness], "");
    let address = lasting_address();
    let server = data.start_at(&address);
    let keys =
        "stale-after = \"10s\"\nfrozen-after = \"10s\"\nunreachable-after = \"1s\"\n[[sink]]\nkind = \"stdout\"\n";
    let fixture = MonitorFixture::new(&server.vkey, &format!("http://{address}"), keys);
    let monitor = fixture.start(&[]);
    // It seals only every ten minutes without new entries.
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
