//! Alerts about tags and witnesses, through every sink.

use std::os::unix::fs::PermissionsExt as _;

use taglog_tests::{
    Server, Witness,
    process::{TIMEOUT, wait_for},
    server::http_status,
    witness::{digest, now},
};

use crate::fixture::{MonitorFixture, WebhookReceiver, address_of, await_alert, next_alert, wait};

const IMAGE: &str = "registry.example/team/app:1.0";

const SENDMAIL: &str = "#!/bin/sh\ncat >> \"$(dirname \"$0\")/outgoing\"\n";

fn add(server: &Server, notes: &[Vec<u8>]) -> Vec<u64> {
    wait(server.add(notes))
}

fn read(fixture: &MonitorFixture, name: &str) -> String {
    std::fs::read_to_string(fixture.path(name)).unwrap_or_default()
}

#[test]
fn every_kind_of_change_reaches_every_sink() {
    let (one, other, third) = (Witness::new(1), Witness::new(2), Witness::new(3));
    let server = Server::start(&[&one, &other, &third], "[limits]\nquiet = 1\n");
    let receiver = WebhookReceiver::start(|asked| if asked < 2 { 503 } else { 204 });
    let sinks = format!(
        "disagree-after = \"1s\"\nsilent-after = \"3s\"\nlisten = \"127.0.0.1:0\"\n\
         [[sink]]\nkind = \"stdout\"\n[[sink]]\nkind = \"webhook\"\nurl = {:?}\n\
         [[sink]]\nkind = \"mail\"\ncommand = [\"./sendmail\", \"-t\"]\nfrom = \"taglog@example.org\"\n\
         to = [\"ops@example.org\"]\n[[sink]]\nkind = \"feed\"\npath = \"alerts.xml\"\n",
        receiver.url
    );
    let fixture = MonitorFixture::new(&server.vkey, &server.url, &sinks);
    fixture.write("sendmail", SENDMAIL);
    std::fs::set_permissions(fixture.path("sendmail"), std::fs::Permissions::from_mode(0o755)).unwrap();
    // Entries from before the first start cause no alerts.
    let start = now() - 100;
    add(&server, &[one.observe(IMAGE, "old", start), one.observe(IMAGE, "old again", start + 1)]);

    let mut monitor = fixture.start(&["--log-format", "text"]);
    let address = address_of(&monitor);
    wait_for("it to be ready", TIMEOUT, || (http_status(&address, "/readyz") == Some(200)).then_some(()));

    let new = add(&server, &[one.observe("registry.example/team/app:2.0", "x", start + 2)]);
    let alert = await_alert(&monitor, "new-tag", "event");
    assert_eq!((&alert["index"], &alert["schema"]), (&new[0].into(), &"taglog/alert@v1".into()));
    assert_eq!(alert["image"], "registry.example/team/app:2.0");

    let moved = add(&server, &[one.observe(IMAGE, "moved", start + 3), other.observe(IMAGE, "moved", start + 3)]);
    let retag = await_alert(&monitor, "retag", "event");
    assert_eq!((&retag["index"], &retag["rollback"]), (&moved[0].into(), &false.into()));
    assert_eq!(retag["digest"], digest("moved").to_string());
    assert_eq!(retag["previous"][0], digest("old again").to_string());

    add(&server, &[other.observe(IMAGE, "old", start + 4)]);
    assert_eq!(await_alert(&monitor, "retag", "event")["rollback"], true);
    let disagreement = await_alert(&monitor, "disagreement", "raised");
    assert_eq!(disagreement["words"].as_array().unwrap().len(), 2);
    add(&server, &[one.observe(IMAGE, "old", start + 5)]);
    assert_eq!(await_alert(&monitor, "disagreement", "ended")["about"], disagreement["about"]);

    // The first observation by the third witness.
    wait_for("the feed to name the third", TIMEOUT, || {
        read(&fixture, "alerts.xml").contains(&format!("witness {} is silent", third.id())).then_some(())
    });
    add(&server, &[third.observe(IMAGE, "old", start + 6)]);
    loop {
        let ended = await_alert(&monitor, "silent-witness", "ended");
        if ended["witness"] == third.id().to_string() {
            break;
        }
    }

    let ids = |kind: &str| {
        let of_kind = receiver.taken().into_iter().filter(|alert| alert["kind"] == kind);
        of_kind.map(|alert| alert["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    wait_for("the webhook to be told", TIMEOUT, || {
        ids("retag").contains(&retag["id"].as_str()?.to_owned()).then_some(())
    });
    let id = retag["id"].as_str().unwrap();
    wait_for("the mail", TIMEOUT, || read(&fixture, "outgoing").contains(id).then_some(()));
    assert!(read(&fixture, "outgoing").contains("To: ops@example.org\n"), "{}", read(&fixture, "outgoing"));
    let in_feed = format!("urn:taglog:alert:{id}");
    wait_for("the feed", TIMEOUT, || read(&fixture, "alerts.xml").contains(&in_feed).then_some(()));
    assert_eq!(ids("new-tag").len(), 1, "what is past is silent");
    let metrics =
        wait(async { reqwest::get(format!("http://{address}/metrics")).await.unwrap().text().await.unwrap() });
    assert!(metrics.contains("taglog_monitor_alerts_total{kind=\"retag\"} 2"), "{metrics}");
    assert_eq!(http_status(&address, "/healthz"), Some(200));

    monitor.terminate();
    let status = monitor.wait(TIMEOUT);
    assert!(status.success(), "{status}: {}", monitor.stderr());
}

#[test]
fn once_exits_with_the_result() {
    let witness = Witness::new(1);
    let server = Server::start(&[&witness], "");
    let fixture = MonitorFixture::new(&server.vkey, &server.url, "[[sink]]\nkind = \"stdout\"\n");
    let start = now() - 100;
    add(&server, &[witness.observe(IMAGE, "a", start), witness.observe(IMAGE, "b", start + 1)]);
    let ran = fixture.once(&[]);
    assert_eq!((ran.code, ran.alerts.len()), (Some(0), 0), "{ran:?}");
    let index = add(&server, &[witness.observe(IMAGE, "c", start + 2)])[0];
    let ran = fixture.once(&[]);
    assert_eq!((ran.code, ran.alerts.len()), (Some(1), 1), "{ran:?}");
    assert_eq!((&ran.alerts[0]["kind"], &ran.alerts[0]["index"]), (&"retag".into(), &index.into()));
    assert_eq!(fixture.once(&[]).code, Some(0));
    // What a sink does not take is not lost.
    add(&server, &[witness.observe(IMAGE, "d", start + 3)]);
    let nobody = "[[sink]]\nkind = \"webhook\"\nurl = \"http://127.0.0.1:1/\"\n[[sink]]\nkind = \"stdout\"\n";
    fixture.configure(&server.url, nobody);
    let ran = fixture.once(&[]);
    assert_eq!((ran.code, ran.alerts.len()), (Some(3), 1), "{ran:?}");
    let receiver = WebhookReceiver::start(|_| 200);
    fixture.configure(&server.url, &nobody.replace("http://127.0.0.1:1/", &receiver.url));
    let ran = fixture.once(&[]);
    assert_eq!((ran.code, receiver.taken().len()), (Some(0), 1), "{ran:?}");
}

#[test]
fn from_start_alerts_about_past_entries() {
    let witness = Witness::new(1);
    let server = Server::start(&[&witness], "");
    let start = now() - 100;
    add(&server, &[witness.observe(IMAGE, "a", start), witness.observe(IMAGE, "b", start + 1)]);
    let fixture = MonitorFixture::new(&server.vkey, &server.url, "[[sink]]\nkind = \"stdout\"\n");
    let monitor = fixture.start(&["--from-start"]);
    assert_eq!(next_alert(&monitor)["kind"], "new-tag");
    assert_eq!(next_alert(&monitor)["kind"], "retag");
}

#[test]
fn check_config_and_test_alert() {
    let witness = Witness::new(1);
    let server = Server::start(&[&witness], "");
    let receiver = WebhookReceiver::start(|_| 200);
    let sinks = format!("[[sink]]\nkind = \"webhook\"\nname = \"pager\"\nurl = \"{}?token=t0k3n\"\n", receiver.url);
    let fixture = MonitorFixture::new(&server.vkey, &server.url, &sinks);
    let output = fixture.command(&["check-config"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && text.contains("sink pager") && !text.contains("t0k3n"), "{text}");
    let output = fixture.command(&["test-alert", "--output", "json"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(receiver.taken()[0]["kind"], "test");
    fixture.configure(&server.url, "[[sink]]\nkind = \"pigeon\"\n");
    assert_eq!(fixture.command(&["check-config"]).output().unwrap().status.code(), Some(2));
    assert_eq!(fixture.once(&[]).code, Some(2));
}
