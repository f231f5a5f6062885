//! Registries that limit rates, and registries that do not respond.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use axum::http::Method;
use taglog_tests::{
    agent::{registry_table, watch_table},
    hostile_registry::{DigestBody, FixedResponse, HostileRegistry, ManifestResponse, manifest_digest},
    server::lasting_address,
};

use taglog_tests::agent_fixture::{
    AgentFixture, HEALTHY, digest_of, logged_digests, wait_for_agent, wait_logged, watch,
};

const APP: &str = "team/app:1.0";
const PAUSE: Duration = Duration::from_secs(10);

/// A registry that asks for a pause gets it, from all its tags; the others do not.
#[test]
fn retry_after_pauses_the_whole_registry() {
    let mut fixture = AgentFixture::new();
    let limited = [429, 503].map(|status| (status, HostileRegistry::start()));
    let mut tables = Vec::new();
    for (_, registry) in &limited {
        registry.set(APP, ManifestResponse::serves("one"));
        registry.set(HEALTHY, ManifestResponse::serves("one"));
        // One request at a time: then none is on the way when the answer comes.
        tables.push(registry_table(&registry.host, 1));
        tables.extend([APP, HEALTHY].map(|image| watch(registry, &[image], "")));
    }
    fixture.configure(&[], &tables);
    fixture.start();
    for (_, registry) in &limited {
        wait_logged(&fixture.agent, &fixture.server, &registry.name(APP), &["one"]);
    }
    for (status, registry) in &limited {
        let pause = FixedResponse::status(*status).header("retry-after", PAUSE.as_secs().to_string());
        registry.set(
            APP,
            ManifestResponse::InTurn(vec![ManifestResponse::Answers(pause), ManifestResponse::serves("two")]),
        );
    }
    // The pauses are as short as a test wants them: both are looked for at once.
    let names = limited.each_ref().map(|(_, registry)| registry.name(APP));
    let said = ["limits how often", "answered 503"];
    let mut named = [false; 2];
    fixture.agent.wait_until("both pauses to be named", |status| {
        for at in 0..2 {
            named[at] |= status.error(&names[at]).contains(said[at]);
        }
        named == [true; 2]
    });
    for name in &names {
        wait_logged(&fixture.agent, &fixture.server, name, &["one", "two"]);
    }
    fixture.agent.wait_until("the end of both errors", |status| names.iter().all(|name| status.error(name).is_empty()));
    for (status, registry) in &limited {
        let seen = registry.seen();
        let looks: Vec<Instant> = registry.seen_for(APP).iter().map(|seen| seen.at).collect();
        let silences = seen.windows(2).map(|pair| (pair[0].at, pair[1].at.duration_since(pair[0].at)));
        let (asked, silence) = silences.max_by_key(|(_, silence)| *silence).unwrap();
        assert!(looks.contains(&asked), "{status}: the longest silence follows another request");
        assert!(silence >= PAUSE, "{status}: asked again after {silence:?}");
        // Meanwhile the other registry is polled every second.
        let meanwhile = |at: Instant| at > asked && at < asked + silence;
        assert!(fixture.other.seen().iter().filter(|seen| meanwhile(seen.at)).count() >= 2, "{status}");
    }
}

/// As Docker Hub does it: HEAD is free, GET is counted, and every answer says how much is left. The last ones are left
/// to others.
#[test]
fn the_pull_budget_is_not_exhausted() {
    let mut fixture = AgentFixture::new();
    fixture.registry.set(APP, ManifestResponse::serves("one"));
    fixture.configure(&[], &[watch(&fixture.registry, &[APP], "")]);
    let budget = |registry: &HostileRegistry, left: &str| {
        registry.states(&[("ratelimit-limit", "100;w=1000"), ("ratelimit-remaining", &format!("{left};w=1000"))]);
    };
    budget(&fixture.registry, "3");
    fixture.start();
    fixture.wait_logged(APP, &["one"]);
    fixture.wait_healthy_logged(&["one"]);

    budget(&fixture.registry, "2");
    fixture.wait_polls(&[APP], 1);
    let pulls = |registry: &HostileRegistry| registry.seen().iter().filter(|seen| seen.method == Method::GET).count();
    let before = pulls(&fixture.registry);
    fixture.registry.set(APP, ManifestResponse::serves("two"));
    fixture.wait_error(APP, &["pull budget"]);
    // Polling goes on, at this registry and elsewhere.
    fixture.wait_polls(&[APP, HEALTHY], 2);
    fixture.other.set(HEALTHY, ManifestResponse::serves("two"));
    wait_logged(&fixture.agent, &fixture.server, &fixture.other.name(HEALTHY), &["one", "two"]);
    assert_eq!(pulls(&fixture.registry), before, "the last pulls are used");
    assert_eq!(fixture.logged(APP), [digest_of("one")]);

    budget(&fixture.registry, "100");
    fixture.wait_logged(APP, &["one", "two"]);
    assert!(pulls(&fixture.registry) > before);
    let name = fixture.registry.name(APP);
    fixture.agent.wait_until("the end of the error", |status| status.error(&name).is_empty());
}

/// One tag at which the registry breaks, among others at which it does not.
#[test]
fn a_failing_tag_does_not_starve_others_of_its_registry() {
    let mut fixture = AgentFixture::new();
    fixture.registry.set(APP, ManifestResponse::status(500));
    fixture.configure(&[], &[watch(&fixture.registry, &[APP], "")]);
    fixture.start();
    fixture.wait_error(APP, &["answered 500"]);
    fixture.wait_healthy_logged(&["one"]);
    fixture.set_healthy("two");
    fixture.wait_healthy_logged(&["one", "two"]);
    assert_eq!(fixture.logged(APP), [""; 0]);
    fixture.registry.set(APP, ManifestResponse::serves("mended"));
    fixture.wait_logged(APP, &["mended"]);
}

#[test]
fn a_failing_registry_is_polled_with_backoff() {
    const TAGS: usize = 40;
    let mut fixture = AgentFixture::new();
    let images: Vec<String> = (0..TAGS).map(|number| format!("team/app:{number}")).collect();
    let images: Vec<&str> = images.iter().map(String::as_str).collect();
    for image in &images {
        fixture.registry.set(image, ManifestResponse::serves("one"));
    }
    fixture.registry.everything(Some(FixedResponse::status(502)));
    fixture.configure(&[], &[watch(&fixture.registry, &images, "")]);
    fixture.start();
    wait_logged(&fixture.agent, &fixture.server, &fixture.other.name(HEALTHY), &["one"]);
    // Until the other registry has been polled six times; without backoff this one would have been asked 240 times.
    wait_for_agent(&fixture.agent, "six looks", || (fixture.other.polls(HEALTHY) >= 6).then_some(()));
    let asked = fixture.registry.seen().len();
    assert!(asked < 2 * TAGS, "asked {asked} times");
    let name = fixture.registry.name(HEALTHY);
    fixture.agent.wait_until("the error to be named", |status| status.error(&name).contains("answered 502"));

    fixture.registry.everything(None);
    for image in &images {
        fixture.wait_logged(image, &["one"]);
    }
}

/// No server at the address, then a registry, then none again.
#[test]
fn polling_resumes_when_a_registry_is_reachable_again() {
    let mut fixture = AgentFixture::new();
    let host = lasting_address();
    let (address, name): (SocketAddr, String) = (host.parse().unwrap(), format!("{host}/{APP}"));
    let tables = [registry_table(&host, 4), watch_table(name.rsplit_once(':').unwrap().0, &["1.0"], "")];
    fixture.configure(&[("gone-looks", "2")], &tables);
    fixture.start();
    let is_away = |status: &taglog_tests::Status| status.error(&name).contains("cannot reach");
    fixture.agent.wait_until("the error to be named", is_away);
    fixture.wait_healthy_logged(&["one"]);

    let back = HostileRegistry::start_at(address);
    back.set(APP, ManifestResponse::serves("one"));
    wait_logged(&fixture.agent, &fixture.server, &name, &["one"]);
    fixture.agent.wait_until("no error", |status| status.error(&name).is_empty());

    drop(back);
    fixture.agent.wait_until("the error to be named again", is_away);
    fixture.set_healthy("two");
    fixture.wait_healthy_logged(&["one", "two"]);
    assert_eq!(logged_digests(&fixture.server, &name), [digest_of("one")], "away is not gone");
}

/// Responses that never come, and responses that never end, delay neither their registry nor others.
#[test]
fn a_stalling_registry_does_not_delay_others() {
    let mut fixture = AgentFixture::new();
    let (silent, drops) = ("team/app:silent", "team/app:drops");
    fixture.registry.set(silent, ManifestResponse::Stalls);
    fixture.registry.set(drops, ManifestResponse::Claims(manifest_digest("drops"), DigestBody::Drops));
    fixture.configure(&[], &[watch(&fixture.registry, &[silent, drops], "")]);
    fixture.start();
    wait_logged(&fixture.agent, &fixture.server, &fixture.other.name(HEALTHY), &["one"]);
    let looks = |registry: &HostileRegistry, image| {
        let seen = registry.seen_for(image).into_iter().filter(|seen| seen.method == Method::HEAD);
        seen.map(|seen| seen.at).collect::<Vec<_>>()
    };
    let asked = wait_for_agent(&fixture.agent, "the question", || looks(&fixture.registry, silent).first().copied());
    let third = wait_for_agent(&fixture.agent, "three looks after it", || {
        looks(&fixture.other, HEALTHY).into_iter().filter(|at| *at > asked).nth(2)
    });
    // The agent waits five seconds for an answer.
    let waited = third.duration_since(asked);
    assert!(waited < Duration::from_secs(5), "the other registry had to wait {waited:?}");
    for image in [silent, drops] {
        fixture.wait_error(image, &["gave no complete answer", "5 seconds"]);
    }
    fixture.wait_healthy_logged(&["one"]);
    fixture.set_healthy("two");
    fixture.wait_healthy_logged(&["one", "two"]);
    for image in [silent, drops] {
        assert_eq!(fixture.logged(image), [""; 0], "{image}");
        fixture.registry.set(image, ManifestResponse::serves("mended"));
    }
    for image in [silent, drops] {
        fixture.wait_logged(image, &["mended"]);
    }
}
