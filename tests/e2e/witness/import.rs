//! `taglog witness import`: its output and its exit codes.

use std::{
    collections::BTreeMap,
    io::Write as _,
    path::Path,
    process::{Command, Output, Stdio},
};

use serde_json::{Value, json};

const WATCH_LIST: &str = "\
# from deploy/list.yml:21
[[watch]]
repository = \"docker.io/fluent/fluent-bit\"
tags = [\"3.1\"]

# from -:1, deploy/list.yml:10
[[watch]]
repository = \"docker.io/library/busybox\"
tags = [\"1.36.1\", \"latest\"]

# from -:2, app/compose.yaml:19
[[watch]]
repository = \"docker.io/library/postgres\"
tags = [\"16.4\", \"latest\"]

# from app/compose.yaml:23
[[watch]]
repository = \"docker.io/valkey/valkey\"
tags = [\"latest\"]

# from app/compose.yaml:4
[[watch]]
repository = \"registry.example:5000/shop/worker\"
tags = [\"2024.11\"]
";

fn import(directory: &Path, args: &[&str], input: &str) -> Output {
    let mut child = Command::new(taglog_tests::process::binary("taglog"))
        .args(["witness", "import"])
        .args(args)
        .current_dir(directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A program that does not read its input may end before all of it is written.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn corpus() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../verifier-cli/crates/image-sources/tests/files/corpus")
}

/// Repository and tags of each table.
fn watched(printed: &str) -> BTreeMap<String, Vec<String>> {
    let parsed: toml::Table = printed.parse().unwrap();
    assert!(parsed.keys().all(|key| key == "watch"), "{printed}");
    let tables = parsed.get("watch").map(|watch| watch.as_array().unwrap().clone()).unwrap_or_default();
    let watched = tables.iter().map(|table| {
        let table = table.as_table().unwrap();
        assert_eq!(table.keys().collect::<Vec<_>>(), ["repository", "tags"]);
        let tags = table["tags"].as_array().unwrap().iter().map(|tag| tag.as_str().unwrap().to_owned());
        (table["repository"].as_str().unwrap().to_owned(), tags.collect())
    });
    let count = tables.len();
    let watched: BTreeMap<_, _> = watched.collect();
    assert_eq!(watched.len(), count, "a repository is there twice");
    watched
}

#[test]
fn two_files_give_one_watch_list() {
    let ended = import(
        &corpus(),
        &["-f", "app/compose.yaml", "--file", "deploy/list.yml", "-f", "-"],
        "FROM busybox:1.36.1\nFROM postgres\n",
    );
    assert_eq!(text(&ended.stdout), WATCH_LIST);
    let notes: Vec<&str> = text(&ended.stderr).lines().collect();
    assert_eq!(notes.len(), 3, "{notes:?}");
    assert!(notes[0].starts_with("taglog: app/compose.yaml:17: left out: variable REPORT_TAG"), "{notes:?}");
    assert!(notes[1].starts_with("taglog: deploy/list.yml:13: left out: named by its digest alone"), "{notes:?}");
    assert!(notes[2].contains("a part of a configuration"), "{notes:?}");
    assert_eq!(ended.status.code(), Some(2), "a list that is not complete is no success");
}

#[test]
fn toml_and_json_are_equivalent() {
    let toml = import(&corpus(), &["-f", "."], "");
    let json = import(&corpus(), &["-f", ".", "--output", "json"], "");
    let json: Value = serde_json::from_slice(&json.stdout).unwrap();
    let watched = watched(text(&toml.stdout));
    assert_eq!(watched.len(), 19);
    let as_json = json["watch"].as_array().unwrap().iter().map(|watch| (&watch["repository"], &watch["tags"]));
    let as_toml: Vec<_> = watched.iter().map(|(repository, tags)| (json!(repository), json!(tags))).collect();
    assert!(as_json.eq(as_toml.iter().map(|(repository, tags)| (repository, tags))), "{json}");
    let postgres =
        json["watch"].as_array().unwrap().iter().find(|watch| watch["repository"] == "docker.io/library/postgres");
    assert_eq!(
        postgres.unwrap()["from"],
        json!(["./.github/workflows/build.yml:14", "./app/compose.yaml:19", "./deploy/all.yaml:46"])
    );
    let left_out = json["leftOut"].as_array().unwrap();
    assert_eq!(left_out.len(), 8, "{json}");
    let tools = left_out.iter().find(|row| row["file"] == "./app/tools.Dockerfile").unwrap();
    assert_eq!(tools["line"], 2);
    assert!(tools["reason"].as_str().unwrap().starts_with("variable BASE"));
}

#[test]
fn file_names_cannot_inject_output() {
    let tree = tempfile::tempdir().unwrap();
    let hostile = "x\"\n[[watch]]\nrepository = \"evil\"\ntags = []\n#.yaml";
    let content = "services: {a: {image: \"b:1\"}, c: {image: \"d:1\\n[[watch]]\"}}\n";
    std::fs::write(tree.path().join(hostile), content).unwrap();
    let ended = import(tree.path(), &["-f", "."], "");
    let want = BTreeMap::from([("docker.io/library/b".to_owned(), vec!["1".to_owned()])]);
    assert_eq!(watched(text(&ended.stdout)), want);
    assert_eq!(text(&ended.stderr).lines().count(), 2);
}

#[test]
fn exit_codes() {
    let code = |args: &[&str], input: &str| import(&corpus(), args, input).status.code();
    assert_eq!(code(&["-f", "app/Dockerfile"], ""), Some(0));
    assert_eq!(code(&[], ""), Some(2));
    for file in ["no-such-file", "other/broken.yaml", "helm/templates/deployment.yaml"] {
        let ended = import(&corpus(), &["-f", "app/Dockerfile", "-f", file], "");
        assert_eq!((ended.status.code(), text(&ended.stdout)), (Some(2), ""), "{file}");
        assert!(text(&ended.stderr).starts_with(&format!("taglog: {file}:")), "{}", text(&ended.stderr));
    }
    assert_eq!(code(&["-f", "other/pipeline.yml"], ""), Some(2));
    assert_eq!(code(&["-f", "-"], "what is this"), Some(2));
    let nothing = import(&corpus(), &["-f", "-"], "FROM scratch\n");
    assert_eq!((nothing.status.code(), text(&nothing.stdout)), (Some(0), ""));
    assert!(text(&nothing.stderr).contains("nothing to watch"));
}
