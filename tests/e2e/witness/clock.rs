//! Wrong clocks: no entry is dated by them, and none is lost.

use std::path::PathBuf;

use taglog_tests::{
    Agent,
    hostile_registry::{HostileRegistry, ManifestResponse},
    witness::now,
};

use taglog_tests::agent_fixture::{
    AgentFixture, HEALTHY, digest_of, logged, logged_digests, pending, start_by, wait_for_agent, wait_logged, watch,
};

const APP: &str = "team/app:1.0";

/// The clock of one agent, which a test may set.
struct FakeClock(PathBuf);

impl FakeClock {
    /// A right clock for the agent in this home.
    fn of(agent: &Agent) -> FakeClock {
        let clock = FakeClock(agent.path("clock"));
        clock.set("+0");
        clock
    }

    /// How far it is off: `+1y`, `-1h`.
    fn set(&self, offset: &str) {
        // Never half written.
        let new = self.0.with_extension("new");
        std::fs::write(&new, offset).and_then(|()| std::fs::rename(new, &self.0)).unwrap();
    }

    fn start(&self, agent: &mut Agent) {
        let mut command = agent.command("run");
        command.env("LD_PRELOAD", library()).env("FAKETIME_TIMESTAMP_FILE", &self.0).env("FAKETIME_NO_CACHE", "1");
        // Time passes as it does; only what the clock on the wall says is wrong.
        command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1").env("DONT_FAKE_MONOTONIC", "1");
        start_by(agent, &mut command);
    }
}

/// What replaces the system's clock in a program; Debian's package `faketime` has it.
fn library() -> PathBuf {
    let directories = std::fs::read_dir("/usr/lib").unwrap().map(|entry| entry.unwrap().path());
    let files = directories.map(|directory| directory.join("faketime/libfaketimeMT.so.1"));
    files.into_iter().find(|file| file.is_file()).expect("libfaketime is not installed: apt-get install faketime")
}

/// The clock jumps while the agent runs; tags move meanwhile; the clock is set right.
fn jump(offset: &str) {
    let mut fixture = AgentFixture::new();
    fixture.registry.set(APP, ManifestResponse::serves("one"));
    fixture.configure(&[("gone-looks", "2")], &[watch(&fixture.registry, &[APP], "")]);
    let clock = FakeClock::of(&fixture.agent);
    clock.start(&mut fixture.agent);
    fixture.wait_logged(APP, &["one"]);
    fixture.wait_healthy_logged(&["one"]);

    clock.set(offset);
    fixture.set_healthy("two");
    fixture.registry.remove(APP);
    let status = fixture.agent.wait_until("the clock alarm", |status| status.alarms().contains(&"clock"));
    let subject = status.alarm("clock").unwrap()["subject"].as_str().unwrap();
    assert!(subject == fixture.registry.host || subject == fixture.other.host, "{status:?}");
    assert_eq!(status.exit_code(), 3);
    // Many polls of what has changed, and no entry about it: neither in the log nor in the spool.
    fixture.wait_polls(&[HEALTHY, APP], 4);
    let status = fixture.agent.status();
    assert_eq!(pending(&status, &fixture.server), 0, "{status:?}");
    let images = [fixture.registry.name(APP), fixture.registry.name(HEALTHY), fixture.other.name(HEALTHY)];
    for image in &images {
        assert_eq!(logged_digests(&fixture.server, image), [digest_of("one")], "{image}");
        assert_eq!(status.seen(image), Some(&*digest_of("one")), "{image}");
    }

    clock.set("+0");
    fixture.wait_healthy_logged(&["one", "two"]);
    fixture.wait_logged(APP, &["one", "gone"]);
    let status = fixture.agent.wait_until("the end of the alarm", |status| status.alarms().is_empty());
    assert_eq!(status.exit_code(), 0);
    let right = now() - 120..=now();
    for (seen, observed) in images.iter().flat_map(|image| logged(&fixture.server, image)) {
        assert!(right.contains(&observed.unix()), "{seen} dated {observed}");
    }
}

#[test]
fn a_clock_that_jumps_ahead_by_a_year() {
    jump("+1y");
}

#[test]
fn a_clock_that_jumps_back_by_an_hour() {
    jump("-1h");
}

/// Too little for a registry's `Date` to show, and still before what was signed already.
#[test]
fn a_clock_that_jumps_back_by_two_minutes() {
    jump("-2m");
}

/// The clock was wrong from the start, as on a machine whose battery is empty.
#[test]
fn a_clock_that_is_wrong_from_the_start() {
    let mut fixture = AgentFixture::new();
    fixture.configure(&[], &[]);
    let clock = FakeClock::of(&fixture.agent);
    clock.set("-20y");
    clock.start(&mut fixture.agent);
    fixture.agent.wait_until("the clock alarm", |status| status.alarms().contains(&"clock"));
    fixture.wait_polls(&[HEALTHY], 2);
    assert_eq!(pending(&fixture.agent.status(), &fixture.server), 0);
    assert_eq!(fixture.logged(HEALTHY), [""; 0]);
    clock.set("+0");
    fixture.wait_healthy_logged(&["one"]);
    fixture.agent.wait_until("the end of the alarm", |status| status.alarms().is_empty());
}

/// The clock of a registry is wrong: only its own tags have to wait.
#[test]
fn a_registry_whose_clock_is_wrong() {
    let mut fixture = AgentFixture::new();
    let (ahead, behind) = (HostileRegistry::start(), HostileRegistry::start());
    for (registry, offset) in [(&ahead, 3600), (&behind, -3600)] {
        registry.clock(offset);
        registry.set(APP, ManifestResponse::serves("one"));
    }
    fixture.configure(&[], &[watch(&ahead, &[APP], ""), watch(&behind, &[APP], "")]);
    fixture.start();
    for registry in [&ahead, &behind] {
        let has_alarm = |status: &taglog_tests::Status| {
            let alarms = status.0["alarms"].as_array().unwrap();
            alarms.iter().any(|alarm| alarm["kind"] == "clock" && alarm["subject"] == registry.host)
        };
        fixture.agent.wait_until("the alarm about this registry's clock", has_alarm);
        let name = registry.name(APP);
        fixture.agent.wait_until("the error to be named", |status| status.error(&name).contains("clock"));
        wait_for_agent(&fixture.agent, "two looks", || (registry.polls(APP) >= 2).then_some(()));
        assert_eq!(logged_digests(&fixture.server, &registry.name(APP)), [""; 0]);
    }
    fixture.wait_healthy_logged(&["one"]);
    fixture.set_healthy("two");
    fixture.wait_healthy_logged(&["one", "two"]);
    for registry in [&ahead, &behind] {
        registry.clock(0);
        wait_logged(&fixture.agent, &fixture.server, &registry.name(APP), &["one"]);
    }
    fixture.agent.wait_until("the end of both alarms", |status| status.alarms().is_empty());
}
