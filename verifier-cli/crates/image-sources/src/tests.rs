//! What all kinds of files have in common.

pub mod pieces;

use std::path::Path;

use proptest::prelude::*;

use super::{FoundImage, MAX_FILE, Options, ScanResult, SourceError, SourceProblem, read_bytes, read_from};

/// Reads `text` as a file of this name; without a kind in the name, by its content.
pub fn read_text(name: &str, text: &str) -> Result<ScanResult, SourceError> {
    read_text_with(name, text, &Options::default())
}

/// As [`read_text`], with more said about the file.
pub fn read_text_with(name: &str, text: &str, options: &Options) -> Result<ScanResult, SourceError> {
    read_bytes(Path::new(name), text.as_bytes(), options)
}

/// Line and reference of each image, and line and reason of each note.
pub fn summary(name: &str, text: &str) -> (Vec<String>, Vec<String>) {
    let found = read_text(name, text).unwrap();
    let notes = found.left_out.iter().map(|left_out| format!("{} {}", left_out.place.line, left_out.reason));
    (found.images.iter().map(image_line).collect(), notes.collect())
}

fn image_line(FoundImage { place, reference, .. }: &FoundImage) -> String {
    let tag = reference.tag.as_ref().map(|tag| format!(":{tag}")).unwrap_or_default();
    let digest = reference.digest.map(|digest| format!("@{digest}")).unwrap_or_default();
    format!("{} {}{tag}{digest}", place.line, reference.repository)
}

/// The line and the problem of a file that must be refused.
pub fn refusal(name: &str, text: &str) -> (usize, SourceProblem) {
    let error = read_text(name, text).unwrap_err();
    (error.place.line, error.problem)
}

#[test]
fn the_name_decides_before_the_content() {
    let (dockerfile, yaml) = ("FROM a\n", "services: {a: {image: b}}\n");
    for name in ["Dockerfile", "dockerfile", "Dockerfile.dev", "x/app.Dockerfile", "app.dockerfile", "Containerfile"] {
        assert_eq!(summary(name, dockerfile).0, ["1 docker.io/library/a"], "{name}");
        assert!(matches!(refusal(name, yaml).1, SourceProblem::SyntaxError(_)), "{name}");
    }
    for name in ["compose.yaml", "docker-compose.prod.yml", "x.yaml", "x.YML", "-", "stack", "x.json"] {
        assert_eq!(summary(name, yaml).0, ["1 docker.io/library/b"], "{name}");
    }
    for name in ["-", "build", "x.txt"] {
        assert_eq!(summary(name, "# a comment\n\n  arg X=1\nFROM a:$X").0, ["4 docker.io/library/a:1"], "{name}");
    }
    for (name, text) in [("x.yaml", dockerfile), ("x", "hello"), ("-", ""), ("x.yaml", "- a\n"), ("compose.yaml", "a")]
    {
        assert_eq!(refusal(name, text), (1, SourceProblem::UnknownKind), "{name}: {text}");
    }
    assert_eq!(summary("compose.yaml", "volumes: {a: null}\n").0, [""; 0]);
}

#[test]
fn byte_order_marks_and_other_bytes() {
    assert_eq!(summary("Dockerfile", "\u{feff}# escape=`\r\nFROM `\r\n  a\r\n").0, ["3 docker.io/library/a"]);
    assert_eq!(summary("-", "\u{feff}FROM a").0, ["1 docker.io/library/a"]);
    assert_eq!(summary("x.yaml", "\u{feff}services:\r\n  a:\r\n    image: b\r\n").0, ["3 docker.io/library/b"]);
    let latin = read_bytes(Path::new("Dockerfile"), b"FROM \xe4", &Options::default()).unwrap_err();
    assert_eq!(latin.problem, SourceProblem::NotText);
}

#[test]
fn files_over_the_limit_are_refused() {
    let most = usize::try_from(MAX_FILE).unwrap();
    let padded = |length: usize| format!("FROM a\n{}", "#".repeat(length - 7));
    assert_eq!(summary("Dockerfile", &padded(most)).0, ["1 docker.io/library/a"]);
    assert_eq!(refusal("Dockerfile", &padded(most + 1)), (1, SourceProblem::TooLarge));
    assert_eq!(refusal("x.yaml", &"a: b\n".repeat(most / 5 + 1)), (1, SourceProblem::TooLarge));
    // An endless input ends as well.
    let endless = read_from(&mut std::io::repeat(b'#'), Path::new("-"), &Options::default()).unwrap_err();
    assert_eq!(endless.problem, SourceProblem::TooLarge);
}

#[test]
fn a_file_is_read_once_however_it_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    std::fs::create_dir(at("sub")).unwrap();
    std::fs::write(at("sub/Dockerfile"), "FROM a\nCOPY --from=$X / /\n").unwrap();
    std::fs::write(at("broken.yaml"), "x: [\n").unwrap();
    let named = [at("sub/../sub/Dockerfile"), directory.path().to_owned(), at("sub"), at("sub/Dockerfile")];
    let found = super::read(&named).unwrap();
    assert_eq!((found.images.len(), found.left_out.len()), (1, 2), "{found:?}");
    assert_eq!(found.images[0].place.file, named[0].display().to_string());
    // What a directory's walk leaves out with a note, whoever names it gets as an error.
    assert!(super::read(&[directory.path().to_owned(), at("broken.yaml")]).is_err());
}

#[test]
fn keys_of_another_tool_do_not_hide_what_a_file_is() {
    for (name, text, line) in [
        (".gitlab-ci.yml", "pipelines:\n  tags: [x]\n  script: x\n  services: ['a:1']\n", 4),
        ("dockerfile.gitlab-ci.yml", "build:\n  script: x\n  services: ['a:1']\n", 3),
        (".gitlab-ci.yml", "on: {script: x}\njobs:\n  script: x\n  image: a:1\n", 4),
        ("compose.yaml", "on: x\njobs: {}\nservices:\n  s:\n    image: a:1\n", 5),
        ("x.yaml", "apiVersion: v1\nkind: Pod\nversion: '2'\njobs: {}\nspec: {containers: [{image: 'a:1'}]}\n", 5),
    ] {
        let (images, _) = summary(name, text);
        assert_eq!(images, [format!("{line} docker.io/library/a:1")], "{name}: {text}");
    }
}

#[test]
fn what_is_printed_is_one_line() {
    let error = read_text("a\nb\u{1b}[2J.yaml", "x: [\n").unwrap_err().to_string();
    assert!(!error.contains(char::is_control), "{error:?}");
    let (_, notes) = summary("Dockerfile", "FROM a\u{1b}[2Jb\n");
    assert!(notes.len() == 1 && !notes[0].contains(char::is_control), "{notes:?}");
    let (_, notes) = summary("Dockerfile", &format!("FROM ${}\n", "A".repeat(100_000)));
    assert!(notes.len() == 1 && notes[0].len() < 1000, "{} bytes", notes[0].len());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn no_input_panics(text in pieces::pieces()) {
        for name in ["Dockerfile", "compose.yaml", "x.yaml", "-"] {
            let lines = text.split('\n').count();
            match read_text(name, &text) {
                Ok(found) => {
                    let places = found.images.iter().map(|image| &image.place);
                    for place in places.chain(found.left_out.iter().map(|left_out| &left_out.place)) {
                        prop_assert!((1..=lines).contains(&place.line), "{place} of {lines}: {text:?}");
                    }
                }
                Err(error) => prop_assert!((1..=lines + 1).contains(&error.place.line), "{error} of {lines}: {text:?}"),
            }
        }
    }
}
