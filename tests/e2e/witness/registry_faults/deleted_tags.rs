//! Tags that are missing for a while, deleted, or change faster than they are polled.

use std::time::{Duration, Instant};

use taglog_tests::{
    agent::push_table,
    hostile_registry::{FixedResponse, HostileRegistry, ManifestResponse},
};

use taglog_tests::agent_fixture::{
    AgentFixture, HEALTHY, digest_of, logged, logged_digests, pending, wait_for_agent, wait_logged, watch,
};
use taglog_tests::cli_fixture::wait;

const APP: &str = "team/app:1.0";

fn missing(fixture: &mut AgentFixture, image: &str, condition: impl Fn(u64) -> bool) -> u64 {
    let name = fixture.registry.name(image);
    let count = |status: &taglog_tests::Status| status.tag(&name)["missing"].as_u64().unwrap_or(0);
    let status = fixture.agent.wait_until("the count of looks that found nothing", |status| condition(count(status)));
    count(&status)
}

#[test]
fn one_404_is_not_reported_as_gone() {
    let mut fixture = AgentFixture::new();
    fixture.registry.set(APP, ManifestResponse::serves("one"));
    fixture.configure(&[("gone-looks", "3"), ("gone-interval", "\"5s\"")], &[watch(&fixture.registry, &[APP], "")]);
    fixture.start();
    fixture.wait_logged(APP, &["one"]);
    // Missing for one or two polls, and then back.
    fixture.registry.remove(APP);
    assert!(missing(&mut fixture, APP, |missing| missing >= 1) < 3);
    fixture.registry.set(APP, ManifestResponse::serves("one"));
    missing(&mut fixture, APP, |missing| missing == 0);
    assert_eq!(fixture.logged(APP), [digest_of("one")]);

    // The count restarts: three polls, and so two intervals, from here.
    let removed = Instant::now();
    fixture.registry.remove(APP);
    fixture.wait_logged(APP, &["one", "gone"]);
    assert!(removed.elapsed() >= Duration::from_secs(10), "gone after {:?}", removed.elapsed());
    assert!(fixture.registry.asked("/v2/") >= 1, "whether the registry is well was not asked");
    assert_eq!(fixture.agent.status().seen(&fixture.registry.name(APP)), Some("gone"));
    fixture.wait_polls(&[APP], 4);
    assert_eq!(fixture.logged(APP).len(), 2, "gone is said once");

    fixture.registry.set(APP, ManifestResponse::serves("two"));
    fixture.wait_logged(APP, &["one", "gone", "two"]);
    fixture.set_healthy("two");
    fixture.wait_healthy_logged(&["one", "two"]);
}

/// A registry that has lost its configuration, its database or its place behind a proxy answers 404 to everything.
#[test]
fn nothing_is_reported_gone_from_a_failing_registry() {
    let mut fixture = AgentFixture::new();
    let sick =
        [FixedResponse::status(500), FixedResponse::status(404), FixedResponse::page(200), FixedResponse::page(404)];
    let sick: Vec<(HostileRegistry, FixedResponse)> = sick.map(|fixed| (HostileRegistry::start(), fixed)).into();
    let mut tables = Vec::new();
    for (registry, _) in &sick {
        registry.set(APP, ManifestResponse::serves("one"));
        tables.push(watch(registry, &[APP], ""));
    }
    fixture.configure(&[("gone-looks", "2")], &tables);
    fixture.start();
    for (registry, _) in &sick {
        wait_logged(&fixture.agent, &fixture.server, &registry.name(APP), &["one"]);
    }
    for (registry, fixed) in &sick {
        registry.protocol(Some(fixed.clone()));
        registry.remove(APP);
    }
    // It was about to be reported, repeatedly, and each time the registry's health was checked.
    for (registry, fixed) in &sick {
        let asked = || (registry.asked("/v2/") >= 2).then_some(());
        wait_for_agent(&fixture.agent, &format!("two questions about {fixed:?}"), asked);
    }
    fixture.set_healthy("two");
    fixture.wait_healthy_logged(&["one", "two"]);
    for (registry, fixed) in &sick {
        assert_eq!(logged_digests(&fixture.server, &registry.name(APP)), [digest_of("one")], "{fixed:?}");
    }

    // Half of the polls find the tag again, and for the others its deletion was real.
    for (at, (registry, _)) in sick.iter().enumerate() {
        if at % 2 == 0 {
            registry.set(APP, ManifestResponse::serves("two"));
        }
        registry.protocol(None);
    }
    for (at, (registry, _)) in sick.iter().enumerate() {
        let last = if at % 2 == 0 { "two" } else { "gone" };
        wait_logged(&fixture.agent, &fixture.server, &registry.name(APP), &["one", last]);
    }
}

/// The tag is in the list, and does not exist when it is polled.
#[test]
fn a_tag_deleted_between_list_and_poll_is_not_reported() {
    let mut fixture = AgentFixture::new();
    fixture
        .registry
        .list("team/app", taglog_tests::hostile_registry::TagList::Tags(vec!["brief".into(), "1.0".into()]));
    fixture.registry.set(APP, ManifestResponse::serves("one"));
    let table = taglog_tests::agent::watch_table(&fixture.registry.name("team/app"), &["glob:*"], "");
    fixture.configure(&[("gone-looks", "2")], &[table]);
    fixture.start();
    fixture.wait_logged(APP, &["one"]);
    fixture.wait_error("team/app:brief", &["has no"]);
    fixture.wait_polls(&["team/app:brief"], 3);
    assert_eq!(fixture.logged("team/app:brief"), [""; 0]);
}

/// Two changes in one second: what is signed is dated in seconds, and no two observations of a tag may have the same.
#[test]
fn a_flapping_tag_is_reported_at_most_once_a_second() {
    let mut fixture = AgentFixture::new();
    let images: Vec<String> = (0..5).map(|number| format!("team/app:{number}")).collect();
    let images: Vec<&str> = images.iter().map(String::as_str).collect();
    for image in &images {
        fixture.registry.set(image, ManifestResponse::InTurn(["a", "b", "a"].map(ManifestResponse::serves).to_vec()));
    }
    let push = push_table("generic", &fixture.registry.host, "");
    // Within a minute, it polls only after pushes and for its own retries.
    fixture.configure(&[("interval", "\"1m\"")], &[push, watch(&fixture.registry, &images, "")]);
    fixture.start();
    for image in &images {
        fixture.wait_logged(image, &["a"]);
    }
    let names: Vec<String> = images.iter().map(|image| fixture.registry.name(image)).collect();
    let body = serde_json::json!({ "images": names }).to_string();
    for looks in [2, 3] {
        let request = fixture.server.client.post(format!("{}/push/generic", fixture.agent.url())).body(body.clone());
        let answer = wait(async { request.header("content-type", "application/json").send().await.unwrap() });
        assert_eq!(answer.status(), 202);
        let all = || images.iter().all(|image| fixture.registry.polls(image) >= looks).then_some(());
        wait_for_agent(&fixture.agent, "the looks after a push", all);
    }
    // Within the second or not: in the end the log has the current state.
    let (a, b) = (digest_of("a"), digest_of("b"));
    for name in &names {
        let known = wait_for_agent(&fixture.agent, &format!("the last look at {name} in the log"), || {
            let known = logged(&fixture.server, name);
            let settled = known.last().is_some_and(|(seen, _)| *seen == a)
                && pending(&fixture.agent.status(), &fixture.server) == 0;
            settled.then_some(known)
        });
        let digests: Vec<&String> = known.iter().map(|(seen, _)| seen).collect();
        assert!(digests == [&a] || digests == [&a, &b, &a], "{name}: {known:?}");
        assert!(known.is_sorted_by(|one, next| one.1 < next.1), "two of one second: {name}: {known:?}");
    }
    let status = fixture.agent.status();
    assert_eq!(status.log(&fixture.server.vkey)["refused"], 0, "{status:?}");
    assert!(fixture.registry.polls(HEALTHY) > 0);
}
