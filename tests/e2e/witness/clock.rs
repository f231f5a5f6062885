//! Clocks that are wrong: nothing is dated by them, and nothing is lost.

use std::path::PathBuf;

use taglog_tests::{
    Agent,
    hostile_registry::{HostileRegistry, Manner},
    witness::now,
};

use crate::witness_scene::{
    HEALTHY, Scene, digest_of, logged, logged_digests, pending, start_by, wait_logged, wait_patiently, watch,
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
    let mut scene = Scene::new();
    scene.registry.set(APP, Manner::serves("one"));
    scene.configure(&[("gone-looks", "2")], &[watch(&scene.registry, &[APP], "")]);
    let clock = FakeClock::of(&scene.agent);
    clock.start(&mut scene.agent);
    scene.wait_logged(APP, &["one"]);
    scene.wait_healthy_logged(&["one"]);

    clock.set(offset);
    scene.set_healthy("two");
    scene.registry.remove(APP);
    let status = scene.agent.wait_until("the clock alarm", |status| status.alarms().contains(&"clock"));
    let subject = status.alarm("clock").unwrap()["subject"].as_str().unwrap();
    assert!(subject == scene.registry.host || subject == scene.other.host, "{status:?}");
    assert_eq!(status.exit_code(), 3);
    // Many looks at what has changed, and not a word about it: neither in the log nor on the way to it.
    scene.wait_looks(&[HEALTHY, APP], 4);
    let status = scene.agent.status();
    assert_eq!(pending(&status, &scene.server), 0, "{status:?}");
    let images = [scene.registry.name(APP), scene.registry.name(HEALTHY), scene.other.name(HEALTHY)];
    for image in &images {
        assert_eq!(logged_digests(&scene.server, image), [digest_of("one")], "{image}");
        assert_eq!(status.seen(image), Some(&*digest_of("one")), "{image}");
    }

    clock.set("+0");
    scene.wait_healthy_logged(&["one", "two"]);
    scene.wait_logged(APP, &["one", "gone"]);
    let status = scene.agent.wait_until("the end of the alarm", |status| status.alarms().is_empty());
    assert_eq!(status.exit_code(), 0);
    let right = now() - 120..=now();
    for (seen, observed) in images.iter().flat_map(|image| logged(&scene.server, image)) {
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
    let mut scene = Scene::new();
    scene.configure(&[], &[]);
    let clock = FakeClock::of(&scene.agent);
    clock.set("-20y");
    clock.start(&mut scene.agent);
    scene.agent.wait_until("the clock alarm", |status| status.alarms().contains(&"clock"));
    scene.wait_looks(&[HEALTHY], 2);
    assert_eq!(pending(&scene.agent.status(), &scene.server), 0);
    assert_eq!(scene.logged(HEALTHY), [""; 0]);
    clock.set("+0");
    scene.wait_healthy_logged(&["one"]);
    scene.agent.wait_until("the end of the alarm", |status| status.alarms().is_empty());
}

/// The clock of a registry is wrong: only its own tags have to wait.
#[test]
fn a_registry_whose_clock_is_wrong() {
    let mut scene = Scene::new();
    let (ahead, behind) = (HostileRegistry::start(), HostileRegistry::start());
    for (registry, offset) in [(&ahead, 3600), (&behind, -3600)] {
        registry.clock(offset);
        registry.set(APP, Manner::serves("one"));
    }
    scene.configure(&[], &[watch(&ahead, &[APP], ""), watch(&behind, &[APP], "")]);
    scene.start();
    for registry in [&ahead, &behind] {
        let has_alarm = |status: &taglog_tests::Status| {
            let alarms = status.0["alarms"].as_array().unwrap();
            alarms.iter().any(|alarm| alarm["kind"] == "clock" && alarm["subject"] == registry.host)
        };
        scene.agent.wait_until("the alarm about this registry's clock", has_alarm);
        let name = registry.name(APP);
        scene.agent.wait_until("the error to be named", |status| status.error(&name).contains("clock"));
        wait_patiently(&scene.agent, "two looks", || (registry.looks(APP) >= 2).then_some(()));
        assert_eq!(logged_digests(&scene.server, &registry.name(APP)), [""; 0]);
    }
    scene.wait_healthy_logged(&["one"]);
    scene.set_healthy("two");
    scene.wait_healthy_logged(&["one", "two"]);
    for registry in [&ahead, &behind] {
        registry.clock(0);
        wait_logged(&scene.agent, &scene.server, &registry.name(APP), &["one"]);
    }
    scene.agent.wait_until("the end of both alarms", |status| status.alarms().is_empty());
}
