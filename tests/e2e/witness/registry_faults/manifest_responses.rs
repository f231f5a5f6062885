//! Answers about one tag that no honest registry gives.

use axum::http::Method;
use taglog_tests::hostile_registry::{
    Canned, HostileRegistry, Manner, Sent, manifest, manifest_digest, manifest_of_size,
};

use crate::witness_scene::{HEALTHY, Scene, digest_of, get, wait_patiently, watch};

/// An image, how it is answered, and what the status must say about it.
type Fault = (&'static str, Manner, &'static [&'static str]);

/// Faults that concern one tag alone.
fn faults(registry: &HostileRegistry) -> Vec<Fault> {
    // What is sent for a digest is the same for all tags of a repository.
    let claimed = |tag: &str, sent| Manner::Claims(manifest_digest(tag), sent);
    let mebibyte = 1 << 20;
    vec![
        ("team/app:refused", Manner::status(401), &["refuses access"]),
        ("team/app:forbidden", Manner::status(403), &["refuses access"]),
        ("team/app:misunderstood", Manner::status(400), &["answered 400"]),
        ("team/app:page", Manner::Answers(Canned::page(200)), &["does not answer like a registry"]),
        ("team/app:no-page", Manner::Answers(Canned::page(404)), &["does not answer like a registry"]),
        ("team/app:other", claimed("other", Sent::Bytes(manifest("else"))), &["should be", "bytes received"]),
        ("team/app:array", Manner::Serves(b"[]".to_vec()), &["does not answer like a registry"]),
        ("team/app:binary", Manner::Serves(b"\x7fELF".to_vec()), &["does not answer like a registry"]),
        ("team/app:vanished", claimed("vanished", Sent::Nothing), &["has no"]),
        ("team/app:endless", claimed("endless", Sent::Endless), &["larger than"]),
        ("team/app:huge", Manner::Serves(manifest_of_size("huge", 5 * mebibyte)), &["larger than"]),
        ("team/app:circle", Manner::SendsTo(format!("http://{}", registry.host)), &["too many redirects"]),
        ("team/app:away", Manner::SendsTo("http://registry.example".to_owned()), &["was not followed", "plain HTTP"]),
    ]
}

fn images(faults: &[Fault]) -> Vec<&'static str> {
    faults.iter().map(|(image, ..)| *image).collect()
}

#[test]
fn a_fault_from_the_start_is_named_and_nothing_is_signed() {
    let mut scene = Scene::new();
    let mut faults = faults(&scene.registry);
    // Whether it was ever there nobody knows.
    faults.push(("team/app:absent", Manner::status(404), &["has no"]));
    for (image, manner, _) in &faults {
        scene.registry.set(image, manner.clone());
    }
    scene.configure(&[("gone-looks", "2")], &[watch(&scene.registry, &images(&faults), "")]);
    scene.start();
    for (image, _, words) in &faults {
        scene.wait_error(image, words);
    }

    // The others are reported, and are looked at again.
    scene.wait_healthy_logged(&["one"]);
    scene.set_healthy("two");
    scene.wait_healthy_logged(&["one", "two"]);

    // Even after more looks than make a tag gone, nothing of it is in the log.
    scene.wait_looks(&images(&faults), 3);
    let status = scene.agent.status();
    for image in images(&faults) {
        assert_eq!(scene.logged(image), [""; 0], "{image}");
        assert_eq!(status.seen(&scene.registry.name(image)), None, "{image}");
    }

    // And once the fault is over, it is over.
    for image in images(&faults) {
        scene.registry.set(image, Manner::serves("mended"));
    }
    for image in images(&faults) {
        scene.wait_logged(image, &["mended"]);
    }
    let names: Vec<String> = images(&faults).into_iter().map(|image| scene.registry.name(image)).collect();
    scene.agent.wait_until("the end of all errors", |status| names.iter().all(|name| status.error(name).is_empty()));
}

#[test]
fn a_fault_that_begins_later_is_no_change() {
    let mut scene = Scene::new();
    let faults = faults(&scene.registry);
    for image in images(&faults) {
        scene.registry.set(image, Manner::serves("before"));
    }
    scene.configure(&[("gone-looks", "2")], &[watch(&scene.registry, &images(&faults), "")]);
    scene.start();
    for image in images(&faults) {
        scene.wait_logged(image, &["before"]);
    }
    for (image, manner, _) in &faults {
        scene.registry.set(image, manner.clone());
    }
    for (image, _, words) in &faults {
        scene.wait_error(image, words);
    }
    scene.wait_looks(&images(&faults), 3);
    scene.set_healthy("two");
    scene.wait_healthy_logged(&["one", "two"]);
    let status = scene.agent.status();
    for image in images(&faults) {
        assert_eq!(scene.logged(image), [digest_of("before")], "{image}");
        assert_eq!(status.seen(&scene.registry.name(image)), Some(&*digest_of("before")), "{image}");
    }
    for image in images(&faults) {
        scene.registry.set(image, Manner::serves("after"));
    }
    for image in images(&faults) {
        scene.wait_logged(image, &["before", "after"]);
    }
}

#[test]
fn a_registrys_words_do_not_steer_the_terminal() {
    let mut scene = Scene::new();
    let image = "team/app:1.0";
    let header = Canned::status(200).header("docker-content-digest", "sha256:\u{9b}2J");
    scene.registry.set(image, Manner::Answers(header));
    scene.configure(&[], &[watch(&scene.registry, &[image], "")]);
    scene.start();
    scene.wait_error(image, &["should be sha256:"]);
    let shown = scene.agent.command("status").output().unwrap();
    for text in [String::from_utf8(shown.stdout).unwrap(), scene.agent.stderr()] {
        assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
    }
}

#[test]
fn a_digest_that_head_does_not_give_is_computed() {
    let mut scene = Scene::new();
    let (silent, headless) = ("team/app:silent", "team/app:headless");
    scene.registry.set(silent, Manner::ServesWithoutDigest(manifest("a")));
    // A registry that knows no HEAD: 405, and then the manifest to GET.
    scene.registry.set(headless, Manner::InTurn(vec![Manner::status(405), Manner::serves("a")]));
    scene.configure(&[], &[watch(&scene.registry, &[silent, headless], "")]);
    scene.start();
    for image in [silent, headless] {
        scene.wait_logged(image, &["a"]);
    }
    scene.registry.set(silent, Manner::ServesWithoutDigest(manifest("b")));
    scene.wait_logged(silent, &["a", "b"]);
}

/// HEAD finds changes. Each new manifest is fetched once, and is then with the log.
#[test]
fn what_is_unchanged_costs_one_head_a_look() {
    let mut scene = Scene::new();
    scene.configure(&[], &[]);
    scene.start();
    scene.wait_healthy_logged(&["one"]);
    scene.set_healthy("two");
    scene.wait_healthy_logged(&["one", "two"]);
    scene.wait_looks(&[HEALTHY], 3);
    let seen = scene.registry.seen();
    let gets: Vec<&str> = seen.iter().filter(|seen| seen.method == Method::GET).map(|seen| seen.uri.path()).collect();
    let by_digest = ["one", "two"].map(|content| format!("/v2/team/healthy/manifests/{}", digest_of(content)));
    assert_eq!(gets, by_digest);
    let accept = "application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.list.v2+json, \
                  application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json";
    assert!(seen.iter().all(|seen| seen.header("accept") == Some(accept)), "{seen:?}");
    for content in ["one", "two"] {
        let url = format!("{}/api/v1/manifests/{}", scene.server.url, digest_of(content));
        let kept = wait_patiently(&scene.agent, "the manifest of a logged digest", || {
            Some(get(&url)).filter(|kept| kept.status == 200)
        });
        assert_eq!(kept.body, manifest(content));
    }
}
