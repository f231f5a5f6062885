//! Invalid lists of tags.

use taglog_tests::{
    agent::watch_table,
    hostile_registry::{FixedResponse, ManifestResponse, TagList},
};

use taglog_tests::agent_fixture::{AgentFixture, errors_naming};

/// Far more than the agent needs, and far less than the lists would fill.
const MEMORY_KIB: u64 = 256 * 1024;

#[test]
fn a_faulty_tag_list_affects_only_its_repository() {
    let mut fixture = AgentFixture::new();
    let own = format!("http://{}", fixture.registry.host);
    let elsewhere = "http://127.0.0.1:9/v2/team/away/tags/list".to_owned();
    let lists = [
        ("team/giant", TagList::Endless, "tags"),
        ("team/circle", TagList::Circle, "goes on without further tags"),
        ("team/away", TagList::GoesOnAt(elsewhere), "on the same host"),
        ("team/never-ends", TagList::NeverEnds, "larger than"),
        ("team/page", TagList::Answers(FixedResponse::page(200)), "does not answer like a registry"),
        ("team/no-list", TagList::Answers(FixedResponse::status(200)), "does not answer like a registry"),
        ("team/refused", TagList::Answers(FixedResponse::status(401)), "refuses access"),
        ("team/absent", TagList::Answers(FixedResponse::status(404)), "has no"),
        ("team/unreadable", TagList::GoesOnAt(format!("{own}/>;rel=\"")), "cannot be read"),
    ];
    let mut tables = Vec::new();
    for (path, list, _) in &lists {
        fixture.registry.list(path, list.clone());
        for tag in ["latest", "1", "2"] {
            fixture.registry.set(&format!("{path}:{tag}"), ManifestResponse::serves(tag));
        }
        tables.push(watch_table(&fixture.registry.name(path), &["latest", "glob:*"], ""));
    }
    fixture.configure(&[], &tables);
    fixture.start();
    for (path, _, words) in &lists {
        let name = fixture.registry.name(path);
        fixture.agent.wait_until(&format!("{words:?} about the list of {name}"), |status| {
            errors_naming(status, &name).iter().any(|error| error.contains(words))
        });
        // What is named one by one needs no list.
        fixture.wait_logged(&format!("{path}:latest"), &["latest"]);
    }
    fixture.wait_healthy_logged(&["one"]);
    fixture.set_healthy("two");
    fixture.wait_healthy_logged(&["one", "two"]);
    // Nothing is taken from an invalid list, not even its first page.
    let status = fixture.agent.status();
    let watched = |path: &str| {
        let prefix = format!("{}:", fixture.registry.name(path));
        status.tags().iter().filter(|tag| tag["image"].as_str().is_some_and(|image| image.starts_with(&prefix))).count()
    };
    for (path, ..) in &lists {
        assert_eq!(watched(path), 1, "{path}: {status:?}");
    }
    assert!(resident_kib(fixture.agent.id()) < MEMORY_KIB, "{} KiB", resident_kib(fixture.agent.id()));

    // Once there is a real list, its tags are taken up.
    for (path, ..) in &lists {
        fixture.registry.list(path, TagList::Tags(vec!["1".to_owned(), "2".to_owned()]));
    }
    for (path, ..) in &lists {
        fixture.wait_logged(&format!("{path}:1"), &["1"]);
        fixture.wait_logged(&format!("{path}:2"), &["2"]);
    }
}

/// A tag that the list no longer has is not gone before it does not resolve.
#[test]
fn a_tag_missing_in_the_list_is_still_watched() {
    let mut fixture = AgentFixture::new();
    fixture.registry.set("team/app:1.0", ManifestResponse::serves("one"));
    fixture.registry.set("team/app:2.0", ManifestResponse::serves("one"));
    let table = watch_table(&fixture.registry.name("team/app"), &["glob:*"], "");
    fixture.configure(&[("gone-looks", "2")], &[table]);
    fixture.start();
    fixture.wait_logged("team/app:1.0", &["one"]);
    fixture.registry.list("team/app", TagList::Tags(vec!["2.0".to_owned()]));
    let lists = fixture.registry.asked("/v2/team/app/tags/list");
    taglog_tests::agent_fixture::wait_for_agent(&fixture.agent, "two more lists", || {
        (fixture.registry.asked("/v2/team/app/tags/list") >= lists + 2).then_some(())
    });
    fixture.registry.set("team/app:1.0", ManifestResponse::serves("two"));
    fixture.wait_logged("team/app:1.0", &["one", "two"]);
    fixture.registry.remove("team/app:1.0");
    fixture.wait_logged("team/app:1.0", &["one", "two", "gone"]);
}

/// The most memory that a process held at once.
fn resident_kib(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
