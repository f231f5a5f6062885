//! Walks over small trees.

use std::{fs, os::unix::fs::symlink, path::Path, process::Command};

use tempfile::TempDir;

use super::list;
use crate::{Options, ScanResult, SourceError, SourceProblem, read, read_with};

/// A directory with these files.
fn tree(files: &[(&str, &str)]) -> TempDir {
    let tree = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = tree.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    tree
}

fn git(tree: &TempDir, arguments: &[&str]) {
    let mut command = Command::new("git");
    command.arg("-C").arg(tree.path()).args(arguments).env("GIT_CONFIG_GLOBAL", "/dev/null");
    assert!(command.output().expect("this test needs git").status.success(), "git {arguments:?}");
}

fn below(root: &Path, path: &str) -> String {
    path.strip_prefix(&format!("{}/", root.display())).unwrap_or(path).to_owned()
}

/// The paths of the files that are read, of what is noted, and of what is skipped.
fn listed(root: &Path) -> [Vec<String>; 3] {
    let listing = list(root);
    let files = listing.files.iter().map(|file| below(root, &file.display().to_string())).collect();
    let notes = listing.left_out.iter().map(|note| below(root, &note.place.file)).collect();
    [files, notes, listing.skipped.iter().map(|skipped| below(root, &skipped.path)).collect()]
}

fn found(root: &Path) -> Result<ScanResult, SourceError> {
    read(&[root.to_owned()])
}

/// File and name of each image.
fn images(root: &Path) -> Vec<String> {
    let found = found(root).unwrap();
    found.images.iter().map(|image| format!("{} {}", below(root, &image.place.file), image.written)).collect()
}

#[test]
fn hidden_directories_are_walked_and_those_of_others_are_not() {
    let files = [
        ".circleci/config.yml",
        ".devcontainer/Dockerfile",
        ".git/x.yaml",
        ".gitea/workflows/a.yml",
        ".hg/a.yaml",
        "Dockerfile",
        "a/node_modules/b/Dockerfile",
        "a/vendor/b.yaml",
        "a/x.json",
        "readme.txt",
        "src/x.go",
    ];
    let tree = tree(&files.map(|name| (name, "")));
    let [read, notes, skipped] = listed(tree.path());
    assert_eq!(read, [files[0], files[1], files[3], files[5], files[8]]);
    assert_eq!(skipped, [".git", ".hg", "a/node_modules", "a/vendor"]);
    assert!(notes.is_empty());
    // What is named itself is walked.
    assert_eq!(listed(&tree.path().join("a/vendor"))[0], ["b.yaml"]);
}

#[test]
fn only_what_git_does_not_track_is_hidden_by_gitignore() {
    let tree = tree(&[
        (".gitignore", "/out\n*.secret.yaml\ndeploy/\n!keep.secret.yaml\n"),
        ("a.secret.yaml", ""),
        ("b.yaml", ""),
        ("deploy/prod.yaml", ""),
        ("deploy/sub/.gitignore", "!*\n"),
        ("deploy/sub/new.yaml", ""),
        ("keep.secret.yaml", ""),
        ("out/c.yaml", ""),
        ("sub/.gitignore", "d.yaml\n"),
        ("sub/d.yaml", ""),
    ]);
    let all = [
        "a.secret.yaml",
        "b.yaml",
        "deploy/prod.yaml",
        "deploy/sub/new.yaml",
        "keep.secret.yaml",
        "out/c.yaml",
        "sub/d.yaml",
    ];
    // Without a repository, a .gitignore is a file like any other.
    assert_eq!(listed(tree.path())[0], all);
    git(&tree, &["init", "-q"]);
    // Without an index, nobody knows what is tracked.
    assert_eq!(listed(tree.path())[0], all);
    git(&tree, &["add", "b.yaml"]);
    let [read, _, skipped] = listed(tree.path());
    assert_eq!(read, ["b.yaml", "keep.secret.yaml"]);
    assert_eq!(skipped, [".git", "a.secret.yaml", "deploy", "out", "sub/d.yaml"]);
    // An ignored directory is named itself: its parents' .gitignore is not asked about it.
    assert_eq!(listed(&tree.path().join("out"))[0], ["c.yaml"]);
    // A file that is added in spite of .gitignore is deployed.
    git(&tree, &["add", "-f", "deploy/prod.yaml", "sub/d.yaml"]);
    let [read, _, skipped] = listed(tree.path());
    assert_eq!(read, ["b.yaml", "deploy/prod.yaml", "keep.secret.yaml", "sub/d.yaml"]);
    assert_eq!(skipped, [".git", "a.secret.yaml", "deploy/sub", "out"]);
}

#[test]
fn symbolic_links() {
    let tree = tree(&[("a/real/Dockerfile", "FROM x\n"), ("b/text", "FROM y\n"), ("outside/z.yaml", "")]);
    let at = |name: &str| tree.path().join(name);
    symlink("real/Dockerfile", at("a/Dockerfile")).unwrap();
    symlink("../b/text", at("a/app.Dockerfile")).unwrap();
    symlink("..", at("a/real/loop")).unwrap();
    symlink("real", at("a/again")).unwrap();
    symlink("nowhere", at("a/broken.yaml")).unwrap();
    symlink("nowhere", at("a/broken.txt")).unwrap();
    symlink("../outside", at("a/out")).unwrap();
    let [read, notes, _] = listed(&at("a"));
    assert_eq!(read, ["real/Dockerfile", "Dockerfile", "app.Dockerfile"]);
    assert_eq!(notes, ["broken.yaml", "out"]);
    // One file has one place; a linked file outside of the directory counts.
    assert_eq!(images(&at("a")), ["real/Dockerfile x", "app.Dockerfile y"]);
    let found = found(&at("a")).unwrap();
    assert!(found.left_out[1].reason.contains("outside"), "{:?}", found.left_out);
    // Within what is named, the directory is not outside.
    assert_eq!(listed(tree.path())[1], ["a/broken.yaml"]);
    // A link to a directory that is walked by no other name.
    fs::create_dir(at("vendor")).unwrap();
    fs::write(at("vendor/Dockerfile"), "FROM v\n").unwrap();
    symlink("vendor", at("deploy")).unwrap();
    assert!(images(tree.path()).contains(&"deploy/Dockerfile v".to_owned()));
}

#[test]
fn a_pipe_does_not_stop_a_walk() {
    let tree = tree(&[("Dockerfile", "FROM x\n")]);
    let made = Command::new("mkfifo").arg(tree.path().join("x.yaml")).status();
    assert!(made.is_ok_and(|status| status.success()));
    symlink("x.yaml", tree.path().join("y.yaml")).unwrap();
    assert_eq!(listed(tree.path())[1], ["x.yaml", "y.yaml"]);
}

#[test]
fn a_path_without_images_is_an_error() {
    let problem = |root: &Path| found(root).unwrap_err().problem;
    let empty = |text: &str, name: &str| tree(&[(name, text)]);
    let config_map = "apiVersion: v1\nkind: ConfigMap\n";
    for tree in
        [empty("", "readme.txt"), empty("{\"a\": 1}", "x.json"), empty("a: 1\n", "x.yaml"), empty(config_map, "x.yaml")]
    {
        assert!(matches!(problem(tree.path()), SourceProblem::NothingFound(_)));
        let options = Options { allow_empty: true, ..Options::default() };
        assert!(read_with(&[tree.path().to_owned()], &options).unwrap().images.is_empty());
    }
    // Each path must name something, also beside others; a Dockerfile may build on no image.
    let tree = tree(&[
        ("Dockerfile", "FROM scratch\n"),
        ("docs/x.txt", ""),
        ("app/Dockerfile", "FROM a\n"),
        ("maps/x.yaml", config_map),
    ]);
    let at = |name: &str| tree.path().join(name);
    assert!(read(&[at("Dockerfile")]).unwrap().images.is_empty());
    assert_eq!(read(&[at("app"), at("docs")]).unwrap_err().problem, SourceProblem::NothingFound(None));
    std::fs::create_dir_all(at("docs/vendor")).unwrap();
    let message = read(&[at("docs")]).unwrap_err().to_string();
    assert!(message.contains("vendor: skipped: a directory of other"), "{message}");
    for path in [at("maps"), at("maps/x.yaml")] {
        assert_eq!(read(&[at("app"), path]).unwrap_err().problem, SourceProblem::NothingFound(None));
    }
    // What is left out is not nothing.
    let broken = tree_with_broken();
    assert_eq!(found(broken.path()).unwrap().left_out.len(), 1);
}

fn tree_with_broken() -> TempDir {
    tree(&[("x.yaml", "a: [\n")])
}

#[test]
fn source_files_named_like_dockerfiles_are_skipped() {
    let tree = tree(&[
        ("Dockerfile", "FROM a\n"),
        ("Dockerfile.go", "# for Go\nFROM golang\n"),
        ("Dockerfile.md", "# Dockerfiles\n\nFROM is the first\n"),
        ("DockerfileParser.java", "package x;\n"),
        ("Dockerfile_test.go", "package x\n"),
        ("dockerfile.py", "from x import y\n"),
        ("dockerfile.yaml", "services: {a: {image: b}}\n"),
    ]);
    fs::write(tree.path().join("Dockerfile.png"), b"\x89PNG\xff").unwrap();
    assert_eq!(images(tree.path()), ["Dockerfile a", "Dockerfile.go golang", "dockerfile.yaml b"]);
    assert!(found(tree.path()).unwrap().left_out.is_empty());
}
