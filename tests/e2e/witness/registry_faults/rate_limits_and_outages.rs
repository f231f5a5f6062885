//! Registries that want to be left alone, and registries that do not answer.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use axum::http::Method;
use taglog_tests::{
    agent::{registry_table, watch_table},
    hostile_registry::{Canned, HostileRegistry, Manner, Sent, manifest_digest},
    server::lasting_address,
};

use crate::witness_scene::{HEALTHY, Scene, digest_of, logged_digests, wait_logged, wait_patiently, watch};

const APP: &str = "team/app:1.0";
const PAUSE: Duration = Duration::from_secs(10);

/// A registry that asks for a pause gets it, from all its tags; the others do not.
#[test]
fn retry_after_pauses_the_whole_registry() {
    let mut scene = Scene::new();
    let limited = [429, 503].map(|status| (status, HostileRegistry::start()));
    let mut tables = Vec::new();
    for (_, registry) in &limited {
        registry.set(APP, Manner::serves("one"));
        registry.set(HEALTHY, Manner::serves("one"));
        // One request at a time: then none is on the way when the answer comes.
        tables.push(registry_table(&registry.host, 1));
        tables.extend([APP, HEALTHY].map(|image| watch(registry, &[image], "")));
    }
    scene.configure(&[], &tables);
    scene.start();
    for (_, registry) in &limited {
        wait_logged(&scene.agent, &scene.server, &registry.name(APP), &["one"]);
    }
    for (status, registry) in &limited {
        let pause = Canned::status(*status).header("retry-after", PAUSE.as_secs().to_string());
        registry.set(APP, Manner::InTurn(vec![Manner::Answers(pause), Manner::serves("two")]));
    }
    // The pauses are as short as a test wants them: both are looked for at once.
    let names = limited.each_ref().map(|(_, registry)| registry.name(APP));
    let said = ["limits how often", "answered 503"];
    let mut named = [false; 2];
    scene.agent.wait_until("both pauses to be named", |status| {
        for at in 0..2 {
            named[at] |= status.error(&names[at]).contains(said[at]);
        }
        named == [true; 2]
    });
    for name in &names {
        wait_logged(&scene.agent, &scene.server, name, &["one", "two"]);
    }
    scene.agent.wait_until("the end of both errors", |status| names.iter().all(|name| status.error(name).is_empty()));
    for (status, registry) in &limited {
        let seen = registry.seen();
        let looks: Vec<Instant> = registry.seen_for(APP).iter().map(|seen| seen.at).collect();
        let silences = seen.windows(2).map(|pair| (pair[0].at, pair[1].at.duration_since(pair[0].at)));
        let (asked, silence) = silences.max_by_key(|(_, silence)| *silence).unwrap();
        assert!(looks.contains(&asked), "{status}: the longest silence follows another request");
        assert!(silence >= PAUSE, "{status}: asked again after {silence:?}");
        // Meanwhile the other registry is looked at every second.
        let meanwhile = |at: Instant| at > asked && at < asked + silence;
        assert!(scene.other.seen().iter().filter(|seen| meanwhile(seen.at)).count() >= 2, "{status}");
    }
}

/// As Docker Hub does it: HEAD is free, GET is counted, and every answer says how much is left. The last ones are left to
/// others.
#[test]
fn a_pull_budget_is_not_used_up() {
    let mut scene = Scene::new();
    scene.registry.set(APP, Manner::serves("one"));
    scene.configure(&[], &[watch(&scene.registry, &[APP], "")]);
    let budget = |registry: &HostileRegistry, left: &str| {
        registry.states(&[("ratelimit-limit", "100;w=1000"), ("ratelimit-remaining", &format!("{left};w=1000"))]);
    };
    budget(&scene.registry, "3");
    scene.start();
    scene.wait_logged(APP, &["one"]);
    scene.wait_healthy_logged(&["one"]);

    budget(&scene.registry, "2");
    scene.wait_looks(&[APP], 1);
    let pulls = |registry: &HostileRegistry| registry.seen().iter().filter(|seen| seen.method == Method::GET).count();
    let before = pulls(&scene.registry);
    scene.registry.set(APP, Manner::serves("two"));
    scene.wait_error(APP, &["pull budget"]);
    // Looks go on, at this registry and elsewhere.
    scene.wait_looks(&[APP, HEALTHY], 2);
    scene.other.set(HEALTHY, Manner::serves("two"));
    wait_logged(&scene.agent, &scene.server, &scene.other.name(HEALTHY), &["one", "two"]);
    assert_eq!(pulls(&scene.registry), before, "the last pulls are used");
    assert_eq!(scene.logged(APP), [digest_of("one")]);

    budget(&scene.registry, "100");
    scene.wait_logged(APP, &["one", "two"]);
    assert!(pulls(&scene.registry) > before);
    let name = scene.registry.name(APP);
    scene.agent.wait_until("the end of the error", |status| status.error(&name).is_empty());
}

/// One tag at which the registry breaks, among others at which it does not.
#[test]
fn a_tag_that_breaks_its_registry_does_not_starve_the_others() {
    let mut scene = Scene::new();
    scene.registry.set(APP, Manner::status(500));
    scene.configure(&[], &[watch(&scene.registry, &[APP], "")]);
    scene.start();
    scene.wait_error(APP, &["answered 500"]);
    scene.wait_healthy_logged(&["one"]);
    scene.set_healthy("two");
    scene.wait_healthy_logged(&["one", "two"]);
    assert_eq!(scene.logged(APP), [""; 0]);
    scene.registry.set(APP, Manner::serves("mended"));
    scene.wait_logged(APP, &["mended"]);
}

#[test]
fn a_broken_registry_is_asked_less_and_less() {
    const TAGS: usize = 40;
    let mut scene = Scene::new();
    let images: Vec<String> = (0..TAGS).map(|number| format!("team/app:{number}")).collect();
    let images: Vec<&str> = images.iter().map(String::as_str).collect();
    for image in &images {
        scene.registry.set(image, Manner::serves("one"));
    }
    scene.registry.everything(Some(Canned::status(502)));
    scene.configure(&[], &[watch(&scene.registry, &images, "")]);
    scene.start();
    wait_logged(&scene.agent, &scene.server, &scene.other.name(HEALTHY), &["one"]);
    // Until the other registry has been looked at six times; then it would have been asked 240 times.
    wait_patiently(&scene.agent, "six looks", || (scene.other.looks(HEALTHY) >= 6).then_some(()));
    let asked = scene.registry.seen().len();
    assert!(asked < 2 * TAGS, "asked {asked} times");
    let name = scene.registry.name(HEALTHY);
    scene.agent.wait_until("the error to be named", |status| status.error(&name).contains("answered 502"));

    scene.registry.everything(None);
    for image in &images {
        scene.wait_logged(image, &["one"]);
    }
}

/// Nobody at the address, then a registry, then nobody again.
#[test]
fn a_registry_that_is_away_comes_back() {
    let mut scene = Scene::new();
    let host = lasting_address();
    let (address, name): (SocketAddr, String) = (host.parse().unwrap(), format!("{host}/{APP}"));
    let tables = [registry_table(&host, 4), watch_table(name.rsplit_once(':').unwrap().0, &["1.0"], "")];
    scene.configure(&[("gone-looks", "2")], &tables);
    scene.start();
    let is_away = |status: &taglog_tests::Status| status.error(&name).contains("cannot reach");
    scene.agent.wait_until("the error to be named", is_away);
    scene.wait_healthy_logged(&["one"]);

    let back = HostileRegistry::start_at(address);
    back.set(APP, Manner::serves("one"));
    wait_logged(&scene.agent, &scene.server, &name, &["one"]);
    scene.agent.wait_until("no error", |status| status.error(&name).is_empty());

    drop(back);
    scene.agent.wait_until("the error to be named again", is_away);
    scene.set_healthy("two");
    scene.wait_healthy_logged(&["one", "two"]);
    assert_eq!(logged_digests(&scene.server, &name), [digest_of("one")], "away is not gone");
}

/// Answers that never come, and answers that never end, hold up neither their registry nor others.
#[test]
fn a_registry_that_stalls_holds_up_nobody() {
    let mut scene = Scene::new();
    let (silent, drops) = ("team/app:silent", "team/app:drops");
    scene.registry.set(silent, Manner::Stalls);
    scene.registry.set(drops, Manner::Claims(manifest_digest("drops"), Sent::Drops));
    scene.configure(&[], &[watch(&scene.registry, &[silent, drops], "")]);
    scene.start();
    wait_logged(&scene.agent, &scene.server, &scene.other.name(HEALTHY), &["one"]);
    let looks = |registry: &HostileRegistry, image| {
        let seen = registry.seen_for(image).into_iter().filter(|seen| seen.method == Method::HEAD);
        seen.map(|seen| seen.at).collect::<Vec<_>>()
    };
    let asked = wait_patiently(&scene.agent, "the question", || looks(&scene.registry, silent).first().copied());
    let third = wait_patiently(&scene.agent, "three looks after it", || {
        looks(&scene.other, HEALTHY).into_iter().filter(|at| *at > asked).nth(2)
    });
    // The agent waits five seconds for an answer.
    let waited = third.duration_since(asked);
    assert!(waited < Duration::from_secs(5), "the other registry had to wait {waited:?}");
    for image in [silent, drops] {
        scene.wait_error(image, &["gave no complete answer", "5 seconds"]);
    }
    scene.wait_healthy_logged(&["one"]);
    scene.set_healthy("two");
    scene.wait_healthy_logged(&["one", "two"]);
    for image in [silent, drops] {
        assert_eq!(scene.logged(image), [""; 0], "{image}");
        scene.registry.set(image, Manner::serves("mended"));
    }
    for image in [silent, drops] {
        scene.wait_logged(image, &["mended"]);
    }
}
