//! Responses about one tag that no honest registry gives.

use axum::http::Method;
use taglog_tests::hostile_registry::{
    DigestBody, FixedResponse, HostileRegistry, ManifestResponse, manifest, manifest_digest, manifest_of_size,
};

use taglog_tests::agent_fixture::{AgentFixture, HEALTHY, digest_of, get, wait_for_agent, watch};

/// An image, how it is answered, and what the status must say about it.
type Fault = (&'static str, ManifestResponse, &'static [&'static str]);

/// Faults that concern one tag alone.
fn faults(registry: &HostileRegistry) -> Vec<Fault> {
    // What is sent for a digest is the same for all tags of a repository.
    let claimed = |tag: &str, sent| ManifestResponse::Claims(manifest_digest(tag), sent);
    let mebibyte = 1 << 20;
    vec![
        ("team/app:refused", ManifestResponse::status(401), &["refuses access"]),
        ("team/app:forbidden", ManifestResponse::status(403), &["refuses access"]),
        ("team/app:misunderstood", ManifestResponse::status(400), &["answered 400"]),
        ("team/app:page", ManifestResponse::Answers(FixedResponse::page(200)), &["does not answer like a registry"]),
        ("team/app:no-page", ManifestResponse::Answers(FixedResponse::page(404)), &["does not answer like a registry"]),
        ("team/app:other", claimed("other", DigestBody::Bytes(manifest("else"))), &["should be", "bytes received"]),
        ("team/app:array", ManifestResponse::Serves(b"[]".to_vec()), &["does not answer like a registry"]),
        ("team/app:binary", ManifestResponse::Serves(b"\x7fELF".to_vec()), &["does not answer like a registry"]),
        ("team/app:vanished", claimed("vanished", DigestBody::Nothing), &["has no"]),
        ("team/app:endless", claimed("endless", DigestBody::Endless), &["larger than"]),
        ("team/app:huge", ManifestResponse::Serves(manifest_of_size("huge", 5 * mebibyte)), &["larger than"]),
        ("team/app:circle", ManifestResponse::SendsTo(format!("http://{}", registry.host)), &["too many redirects"]),
        (
            "team/app:away",
            ManifestResponse::SendsTo("http://registry.example".to_owned()),
            &["was not followed", "plain HTTP"],
        ),
    ]
}

fn images(faults: &[Fault]) -> Vec<&'static str> {
    faults.iter().map(|(image, ..)| *image).collect()
}

#[test]
fn a_fault_from_the_start_is_named_and_nothing_is_signed() {
    let mut fixture = AgentFixture::new();
    let mut faults = faults(&fixture.registry);
    // It is unknown whether it ever existed.
    faults.push(("team/app:absent", ManifestResponse::status(404), &["has no"]));
    for (image, response, _) in &faults {
        fixture.registry.set(image, response.clone());
    }
    fixture.configure(&[("gone-looks", "2")], &[watch(&fixture.registry, &images(&faults), "")]);
    fixture.start();
    for (image, _, words) in &faults {
        fixture.wait_error(image, words);
    }

    // The others are reported, and are polled again.
    fixture.wait_healthy_logged(&["one"]);
    fixture.set_healthy("two");
    fixture.wait_healthy_logged(&["one", "two"]);

    // Even after more polls than make a tag gone, nothing of it is in the log.
    fixture.wait_polls(&images(&faults), 3);
    let status = fixture.agent.status();
    for image in images(&faults) {
        assert_eq!(fixture.logged(image), [""; 0], "{image}");
        assert_eq!(status.seen(&fixture.registry.name(image)), None, "{image}");
    }

    // Once the fault is over, the tag is reported.
    for image in images(&faults) {
        fixture.registry.set(image, ManifestResponse::serves("mended"));
    }
    for image in images(&faults) {
        fixture.wait_logged(image, &["mended"]);
    }
    let names: Vec<String> = images(&faults).into_iter().map(|image| fixture.registry.name(image)).collect();
    fixture.agent.wait_until("the end of all errors", |status| names.iter().all(|name| status.error(name).is_empty()));
}

#[test]
fn a_later_fault_is_not_reported_as_a_change() {
    let mut fixture = AgentFixture::new();
    let faults = faults(&fixture.registry);
    for image in images(&faults) {
        fixture.registry.set(image, ManifestResponse::serves("before"));
    }
    fixture.configure(&[("gone-looks", "2")], &[watch(&fixture.registry, &images(&faults), "")]);
    fixture.start();
    for image in images(&faults) {
        fixture.wait_logged(image, &["before"]);
    }
    for (image, response, _) in &faults {
        fixture.registry.set(image, response.clone());
    }
    for (image, _, words) in &faults {
        fixture.wait_error(image, words);
    }
    fixture.wait_polls(&images(&faults), 3);
    fixture.set_healthy("two");
    fixture.wait_healthy_logged(&["one", "two"]);
    let status = fixture.agent.status();
    for image in images(&faults) {
        assert_eq!(fixture.logged(image), [digest_of("before")], "{image}");
        assert_eq!(status.seen(&fixture.registry.name(image)), Some(&*digest_of("before")), "{image}");
    }
    for image in images(&faults) {
        fixture.registry.set(image, ManifestResponse::serves("after"));
    }
    for image in images(&faults) {
        fixture.wait_logged(image, &["before", "after"]);
    }
}

#[test]
fn registry_messages_cannot_control_the_terminal() {
    let mut fixture = AgentFixture::new();
    let image = "team/app:1.0";
    let header = FixedResponse::status(200).header("docker-content-digest", "sha256:\u{9b}2J");
    fixture.registry.set(image, ManifestResponse::Answers(header));
    fixture.configure(&[], &[watch(&fixture.registry, &[image], "")]);
    fixture.start();
    fixture.wait_error(image, &["should be sha256:"]);
    let shown = fixture.agent.command("status").output().unwrap();
    for text in [String::from_utf8(shown.stdout).unwrap(), fixture.agent.stderr()] {
        assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
    }
}

#[test]
fn a_digest_missing_in_the_head_response_is_computed() {
    let mut fixture = AgentFixture::new();
    let (silent, headless) = ("team/app:silent", "team/app:headless");
    fixture.registry.set(silent, ManifestResponse::ServesWithoutDigest(manifest("a")));
    // A registry that knows no HEAD: 405, and then the manifest to GET.
    fixture
        .registry
        .set(headless, ManifestResponse::InTurn(vec![ManifestResponse::status(405), ManifestResponse::serves("a")]));
    fixture.configure(&[], &[watch(&fixture.registry, &[silent, headless], "")]);
    fixture.start();
    for image in [silent, headless] {
        fixture.wait_logged(image, &["a"]);
    }
    fixture.registry.set(silent, ManifestResponse::ServesWithoutDigest(manifest("b")));
    fixture.wait_logged(silent, &["a", "b"]);
}

/// HEAD finds changes. Each new manifest is fetched once, and is then with the log.
#[test]
fn an_unchanged_tag_costs_one_head_request_per_poll() {
    let mut fixture = AgentFixture::new();
    fixture.configure(&[], &[]);
    fixture.start();
    fixture.wait_healthy_logged(&["one"]);
    fixture.set_healthy("two");
    fixture.wait_healthy_logged(&["one", "two"]);
    fixture.wait_polls(&[HEALTHY], 3);
    let seen = fixture.registry.seen();
    let gets: Vec<&str> = seen.iter().filter(|seen| seen.method == Method::GET).map(|seen| seen.uri.path()).collect();
    let by_digest = ["one", "two"].map(|content| format!("/v2/team/healthy/manifests/{}", digest_of(content)));
    assert_eq!(gets, by_digest);
    let accept = "application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.list.v2+json, \
                  application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json";
    assert!(seen.iter().all(|seen| seen.header("accept") == Some(accept)), "{seen:?}");
    for content in ["one", "two"] {
        let url = format!("{}/api/v1/manifests/{}", fixture.server.url, digest_of(content));
        let kept = wait_for_agent(&fixture.agent, "the manifest of a logged digest", || {
            Some(get(&url)).filter(|kept| kept.status == 200)
        });
        assert_eq!(kept.body, manifest(content));
    }
}
