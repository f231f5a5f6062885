//! Lists of tags that no registry should give.

use taglog_tests::{
    agent::watch_table,
    hostile_registry::{Canned, List, Manner},
};

use crate::witness_scene::{Scene, errors_naming};

/// Far more than the agent needs, and far less than the lists would fill.
const MEMORY_KIB: u64 = 256 * 1024;

#[test]
fn a_list_that_is_a_fault_concerns_its_repository_alone() {
    let mut scene = Scene::new();
    let own = format!("http://{}", scene.registry.host);
    let elsewhere = "http://127.0.0.1:9/v2/team/away/tags/list".to_owned();
    let lists = [
        ("team/giant", List::Endless, "tags"),
        ("team/circle", List::Circle, "goes on without further tags"),
        ("team/away", List::GoesOnAt(elsewhere), "on the same host"),
        ("team/never-ends", List::NeverEnds, "larger than"),
        ("team/page", List::Answers(Canned::page(200)), "does not answer like a registry"),
        ("team/no-list", List::Answers(Canned::status(200)), "does not answer like a registry"),
        ("team/refused", List::Answers(Canned::status(401)), "refuses access"),
        ("team/absent", List::Answers(Canned::status(404)), "has no"),
        ("team/unreadable", List::GoesOnAt(format!("{own}/>;rel=\"")), "cannot be read"),
    ];
    let mut tables = Vec::new();
    for (path, list, _) in &lists {
        scene.registry.list(path, list.clone());
        for tag in ["latest", "1", "2"] {
            scene.registry.set(&format!("{path}:{tag}"), Manner::serves(tag));
        }
        tables.push(watch_table(&scene.registry.name(path), &["latest", "glob:*"], ""));
    }
    scene.configure(&[], &tables);
    scene.start();
    for (path, _, words) in &lists {
        let name = scene.registry.name(path);
        scene.agent.wait_until(&format!("{words:?} about the list of {name}"), |status| {
            errors_naming(status, &name).iter().any(|error| error.contains(words))
        });
        // What is named one by one needs no list.
        scene.wait_logged(&format!("{path}:latest"), &["latest"]);
    }
    scene.wait_healthy_logged(&["one"]);
    scene.set_healthy("two");
    scene.wait_healthy_logged(&["one", "two"]);
    // A list that is no list says nothing, not even by its first page.
    let status = scene.agent.status();
    let watched = |path: &str| {
        let prefix = format!("{}:", scene.registry.name(path));
        status.tags().iter().filter(|tag| tag["image"].as_str().is_some_and(|image| image.starts_with(&prefix))).count()
    };
    for (path, ..) in &lists {
        assert_eq!(watched(path), 1, "{path}: {status:?}");
    }
    assert!(resident_kib(scene.agent.id()) < MEMORY_KIB, "{} KiB", resident_kib(scene.agent.id()));

    // Once there is a real list, its tags are taken up.
    for (path, ..) in &lists {
        scene.registry.list(path, List::Tags(vec!["1".to_owned(), "2".to_owned()]));
    }
    for (path, ..) in &lists {
        scene.wait_logged(&format!("{path}:1"), &["1"]);
        scene.wait_logged(&format!("{path}:2"), &["2"]);
    }
}

/// A tag that the list no longer has is not gone before it does not resolve.
#[test]
fn a_tag_that_is_left_out_of_the_list_is_still_watched() {
    let mut scene = Scene::new();
    scene.registry.set("team/app:1.0", Manner::serves("one"));
    scene.registry.set("team/app:2.0", Manner::serves("one"));
    let table = watch_table(&scene.registry.name("team/app"), &["glob:*"], "");
    scene.configure(&[("gone-looks", "2")], &[table]);
    scene.start();
    scene.wait_logged("team/app:1.0", &["one"]);
    scene.registry.list("team/app", List::Tags(vec!["2.0".to_owned()]));
    let lists = scene.registry.asked("/v2/team/app/tags/list");
    crate::witness_scene::wait_patiently(&scene.agent, "two more lists", || {
        (scene.registry.asked("/v2/team/app/tags/list") >= lists + 2).then_some(())
    });
    scene.registry.set("team/app:1.0", Manner::serves("two"));
    scene.wait_logged("team/app:1.0", &["one", "two"]);
    scene.registry.remove("team/app:1.0");
    scene.wait_logged("team/app:1.0", &["one", "two", "gone"]);
}

/// The most memory that a process held at once.
fn resident_kib(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
