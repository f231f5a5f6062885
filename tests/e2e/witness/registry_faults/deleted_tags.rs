//! What is missing for a while, what is gone, and what changes faster than anybody can look.

use std::time::{Duration, Instant};

use taglog_tests::{
    agent::push_table,
    hostile_registry::{Canned, HostileRegistry, Manner},
};

use crate::{
    cli_common::wait,
    witness_scene::{HEALTHY, Scene, digest_of, logged, logged_digests, pending, wait_logged, wait_patiently, watch},
};

const APP: &str = "team/app:1.0";

fn missing(scene: &mut Scene, image: &str, condition: impl Fn(u64) -> bool) -> u64 {
    let name = scene.registry.name(image);
    let count = |status: &taglog_tests::Status| status.tag(&name)["missing"].as_u64().unwrap_or(0);
    let status = scene.agent.wait_until("the count of looks that found nothing", |status| condition(count(status)));
    count(&status)
}

#[test]
fn one_404_is_not_yet_gone() {
    let mut scene = Scene::new();
    scene.registry.set(APP, Manner::serves("one"));
    scene.configure(&[("gone-looks", "3"), ("gone-interval", "\"5s\"")], &[watch(&scene.registry, &[APP], "")]);
    scene.start();
    scene.wait_logged(APP, &["one"]);
    // Missing for one or two looks, and then back.
    scene.registry.remove(APP);
    assert!(missing(&mut scene, APP, |missing| missing >= 1) < 3);
    scene.registry.set(APP, Manner::serves("one"));
    missing(&mut scene, APP, |missing| missing == 0);
    assert_eq!(scene.logged(APP), [digest_of("one")]);

    // The count begins anew: three looks, and so two intervals, from here.
    let removed = Instant::now();
    scene.registry.remove(APP);
    scene.wait_logged(APP, &["one", "gone"]);
    assert!(removed.elapsed() >= Duration::from_secs(10), "gone after {:?}", removed.elapsed());
    assert!(scene.registry.asked("/v2/") >= 1, "whether the registry is well was not asked");
    assert_eq!(scene.agent.status().seen(&scene.registry.name(APP)), Some("gone"));
    scene.wait_looks(&[APP], 4);
    assert_eq!(scene.logged(APP).len(), 2, "gone is said once");

    scene.registry.set(APP, Manner::serves("two"));
    scene.wait_logged(APP, &["one", "gone", "two"]);
    scene.set_healthy("two");
    scene.wait_healthy_logged(&["one", "two"]);
}

/// A registry that has lost its mind, its database or its place behind a proxy answers 404 to everything.
#[test]
fn nothing_is_gone_from_a_sick_registry() {
    let mut scene = Scene::new();
    let sick = [Canned::status(500), Canned::status(404), Canned::page(200), Canned::page(404)];
    let sick: Vec<(HostileRegistry, Canned)> = sick.map(|canned| (HostileRegistry::start(), canned)).into();
    let mut tables = Vec::new();
    for (registry, _) in &sick {
        registry.set(APP, Manner::serves("one"));
        tables.push(watch(registry, &[APP], ""));
    }
    scene.configure(&[("gone-looks", "2")], &tables);
    scene.start();
    for (registry, _) in &sick {
        wait_logged(&scene.agent, &scene.server, &registry.name(APP), &["one"]);
    }
    for (registry, canned) in &sick {
        registry.protocol(Some(canned.clone()));
        registry.remove(APP);
    }
    // It was about to be reported, and then again, and each time the registry was asked how it is.
    for (registry, canned) in &sick {
        let asked = || (registry.asked("/v2/") >= 2).then_some(());
        wait_patiently(&scene.agent, &format!("two questions about {canned:?}"), asked);
    }
    scene.set_healthy("two");
    scene.wait_healthy_logged(&["one", "two"]);
    for (registry, canned) in &sick {
        assert_eq!(logged_digests(&scene.server, &registry.name(APP)), [digest_of("one")], "{canned:?}");
    }

    // Half of them find the tag again, and with the others it was true.
    for (at, (registry, _)) in sick.iter().enumerate() {
        if at % 2 == 0 {
            registry.set(APP, Manner::serves("two"));
        }
        registry.protocol(None);
    }
    for (at, (registry, _)) in sick.iter().enumerate() {
        let last = if at % 2 == 0 { "two" } else { "gone" };
        wait_logged(&scene.agent, &scene.server, &registry.name(APP), &["one", last]);
    }
}

/// The list had it, and when it was looked at it was no more.
#[test]
fn what_vanishes_between_list_and_look_was_never_there() {
    let mut scene = Scene::new();
    scene.registry.list("team/app", taglog_tests::hostile_registry::List::Tags(vec!["brief".into(), "1.0".into()]));
    scene.registry.set(APP, Manner::serves("one"));
    let table = taglog_tests::agent::watch_table(&scene.registry.name("team/app"), &["glob:*"], "");
    scene.configure(&[("gone-looks", "2")], &[table]);
    scene.start();
    scene.wait_logged(APP, &["one"]);
    scene.wait_error("team/app:brief", &["has no"]);
    scene.wait_looks(&["team/app:brief"], 3);
    assert_eq!(scene.logged("team/app:brief"), [""; 0]);
}

/// Two changes in one second: what is signed is dated in seconds, and no two statements about a tag may be of one.
#[test]
fn a_tag_that_flaps_is_reported_once_a_second_at_most() {
    let mut scene = Scene::new();
    let images: Vec<String> = (0..5).map(|number| format!("team/app:{number}")).collect();
    let images: Vec<&str> = images.iter().map(String::as_str).collect();
    for image in &images {
        scene.registry.set(image, Manner::InTurn(["a", "b", "a"].map(Manner::serves).to_vec()));
    }
    let push = push_table("generic", &scene.registry.host, "");
    // Only pushes make it look before a minute is over, and what it has itself to look at again.
    scene.configure(&[("interval", "\"1m\"")], &[push, watch(&scene.registry, &images, "")]);
    scene.start();
    for image in &images {
        scene.wait_logged(image, &["a"]);
    }
    let names: Vec<String> = images.iter().map(|image| scene.registry.name(image)).collect();
    let body = serde_json::json!({ "images": names }).to_string();
    for looks in [2, 3] {
        let request = scene.server.client.post(format!("{}/push/generic", scene.agent.url())).body(body.clone());
        let answer = wait(async { request.header("content-type", "application/json").send().await.unwrap() });
        assert_eq!(answer.status(), 202);
        let all = || images.iter().all(|image| scene.registry.looks(image) >= looks).then_some(());
        wait_patiently(&scene.agent, "the looks after a push", all);
    }
    // Within the second or not: in the end the log has what is true now.
    let (a, b) = (digest_of("a"), digest_of("b"));
    for name in &names {
        let known = wait_patiently(&scene.agent, &format!("the last look at {name} in the log"), || {
            let known = logged(&scene.server, name);
            let settled =
                known.last().is_some_and(|(seen, _)| *seen == a) && pending(&scene.agent.status(), &scene.server) == 0;
            settled.then_some(known)
        });
        let digests: Vec<&String> = known.iter().map(|(seen, _)| seen).collect();
        assert!(digests == [&a] || digests == [&a, &b, &a], "{name}: {known:?}");
        assert!(known.is_sorted_by(|one, next| one.1 < next.1), "two of one second: {name}: {known:?}");
    }
    let status = scene.agent.status();
    assert_eq!(status.log(&scene.server.vkey)["refused"], 0, "{status:?}");
    assert!(scene.registry.looks(HEALTHY) > 0);
}
