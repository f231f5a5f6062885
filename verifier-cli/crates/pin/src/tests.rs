//! Files of every kind, pinned and unpinned again.

use std::path::PathBuf;

use proptest::prelude::*;
use taglog_proto::name::Digest;

#[path = "../../image-sources/src/tests/pieces.rs"]
mod pieces;

use super::rewrite::{pinned_name, rewritten};
use taglog_image_sources::{FoundImage, Options, SourceFile, read_bytes};

fn file(name: &str, bytes: &[u8]) -> Option<SourceFile> {
    let path = PathBuf::from(name);
    let found = read_bytes(&path, bytes, &Options::default()).ok()?;
    Some(SourceFile { path, bytes: bytes.to_vec(), found })
}

/// The digest that stands for an image in these tests.
fn digest_of(image: &FoundImage) -> Digest {
    Digest::sha256(image.reference.repository.as_str().as_bytes())
}

fn pin(file: &SourceFile) -> String {
    let bytes = rewritten(file, &Options::default(), |image| Some(digest_of(image))).unwrap();
    String::from_utf8(bytes).unwrap()
}

/// Takes every digest off, and the tag that came with it where none was written.
fn unpinned(text: &str) -> String {
    let digest = regex::Regex::new("(:latest)?@sha256:[0-9a-f]{64}").unwrap();
    digest.replace_all(text, "").into_owned()
}

#[test]
fn the_digest_follows_the_name_and_tag() {
    let digest = Digest::sha256(b"");
    for (name, want) in [
        ("busybox", "busybox:latest"),
        ("busybox:1.36", "busybox:1.36"),
        ("localhost:5000/a/b", "localhost:5000/a/b:latest"),
        ("localhost:5000/a/b:c", "localhost:5000/a/b:c"),
        ("Docker.io/busybox:1", "Docker.io/busybox:1"),
        (&format!("a:1@{}", Digest::sha256(b"old")), "a:1"),
    ] {
        assert_eq!(pinned_name(name, &name.parse().unwrap(), &digest), format!("{want}@{digest}"), "{name}");
    }
}

#[test]
fn a_file_of_each_kind_to_the_byte() {
    let digest = |name: &str| Digest::sha256(format!("docker.io/library/{name}").as_bytes());
    let (a, b) = (digest("a"), digest("b"));
    let old = Digest::sha256(b"old");
    for (name, before, after) in [
        (
            "Dockerfile",
            format!("\u{feff}# é\r\nFROM  a:1   AS x\r\nCOPY --from=b / /\r\nFROM b:2@{old}"),
            format!("\u{feff}# é\r\nFROM  a:1@{a}   AS x\r\nCOPY --from=b:latest@{b} / /\r\nFROM b:2@{b}"),
        ),
        (
            "compose.yaml",
            "services:\n  x:   {image:  'a:1' } # a:1\n  y:\n    image: \"b\"  # b: é\n\n  z: &z {image: b:2}\n  w: *z\n"
                .to_owned(),
            format!(
                "services:\n  x:   {{image:  'a:1@{a}' }} # a:1\n  y:\n    image: \"b:latest@{b}\"  # b: é\n\n  z: &z \
                 {{image: b:2@{b}}}\n  w: *z\n"
            ),
        ),
        (
            "ci.yml",
            "on: push\njobs: {x: {container: a:1, steps: [{uses: docker://b:2}, {uses: a/b@v1}]}}\n".to_owned(),
            format!(
                "on: push\njobs: {{x: {{container: a:1@{a}, steps: [{{uses: docker://b:2@{b}}}, {{uses: a/b@v1}}]}}}}\n"
            ),
        ),
    ] {
        let file = file(name, before.as_bytes()).unwrap_or_else(|| panic!("{name}: {before}"));
        assert_eq!(pin(&file), after, "{name}");
    }
}

#[test]
fn images_that_are_not_literals_are_kept() {
    let text = "ARG V=1\nFROM a:$V\nFROM b:1\nFROM $X\n";
    let b = Digest::sha256(b"docker.io/library/b");
    assert_eq!(pin(&file("Dockerfile", text.as_bytes()).unwrap()), text.replace("b:1", &format!("b:1@{b}")));
}

#[test]
fn a_rewrite_that_changes_the_named_images_is_refused() {
    // An anchor's scalar is a part of another name too, which would no longer be understood.
    let text = "x: &x a:1\nservices: {s: {image: *x}}\n";
    let mut source = file("compose.yaml", text.as_bytes()).unwrap();
    // Spans that are wrong, as a bug would make them.
    source.found.images[0].span = Some(0..1);
    let error = rewritten(&source, &Options::default(), |image| Some(digest_of(image))).unwrap_err();
    assert_eq!(error.place.file, "compose.yaml");
    source.found.images[0].span = Some(7..999);
    assert!(rewritten(&source, &Options::default(), |image| Some(digest_of(image))).is_err());
}

/// A name without a digest, as people write them; `None` in the place of the tag is no tag.
fn name() -> impl Strategy<Value = String> {
    let host = prop::sample::select(vec!["", "localhost:5000/", "registry.example/", "Docker.io/", "team/"]);
    (host, "[a-z]{1,6}([._-][a-z0-9]{1,3})?", prop::option::of("[0-9A-Z_][A-Za-z0-9._-]{0,8}"))
        .prop_map(|(host, path, tag)| format!("{host}{path}{}", tag.map(|tag| format!(":{tag}")).unwrap_or_default()))
}

/// What may stand around anything: comments with what looks like images, and other letters.
fn noise() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["", " ", "  # image: é", " # a:1", "\t# 🦀 'b:2", " #@sha256:", "   "])
        .prop_map(str::to_owned)
}

fn quoted() -> impl Strategy<Value = String> {
    (name(), 0..3usize).prop_map(|(name, quote)| match quote {
        0 => name,
        1 => format!("'{name}'"),
        _ => format!("\"{name}\""),
    })
}

fn dockerfile() -> impl Strategy<Value = String> {
    let from = (name(), 0..5usize, noise()).prop_map(|(name, form, _)| match form {
        0 => format!("FROM {name}\n"),
        1 => format!("from   --platform=linux/amd64 {name} AS s\nRUN echo 'FROM x:1'\n"),
        2 => format!("FROM \\\n# é\n  {name} \\\n  AS t\nCOPY --chown=0 --from={name} /a /b\n"),
        3 => format!("FROM '{name}'\nRUN --mount=type=bind,from={name},target=/x <<E\nFROM y:1\nE\n"),
        _ => format!("ARG V={name}\nFROM $V\nFROM {name}\nENV A=é\n"),
    });
    let syntax = prop::option::of(name()).prop_map(|name| name.map(|name| format!("# syntax={name} é\n")));
    (syntax, prop::collection::vec(from, 1..5))
        .prop_map(|(syntax, parts)| format!("{}FROM z\n{}", syntax.unwrap_or_default(), parts.concat()))
}

fn compose() -> impl Strategy<Value = String> {
    let service = (quoted(), name(), 0..5usize, noise()).prop_map(|(quoted, name, form, noise)| match form {
        0 => format!("image: {quoted}{noise}\n"),
        1 => format!("&a{noise}\n    image: &n {quoted}{noise}\n"),
        2 => format!("{{x: 'é', image: {quoted} ,y: 1}}\n"),
        3 => format!("image: >-\n      {name}\n    y: {noise}\n"),
        _ => format!("image: ${{X:-{name}}}{noise}\n"),
    });
    prop::collection::vec(service, 1..5).prop_map(|services| {
        let service = |(index, text): (usize, &String)| {
            let line = if text.starts_with('{') || text.starts_with('&') { " " } else { "\n    " };
            format!("  s{index}:{line}{text}")
        };
        format!("services:\n{}", services.iter().enumerate().map(service).collect::<String>())
    })
}

fn kubernetes() -> impl Strategy<Value = String> {
    let container = (quoted(), noise()).prop_map(|(quoted, noise)| format!("    - image: {quoted}{noise}\n"));
    (prop::collection::vec(container, 1..4), quoted()).prop_map(|(containers, quoted)| {
        let pod = format!("apiVersion: v1\nkind: Pod\nspec:\n  containers:\n{}", containers.concat());
        let job = format!(
            "{{apiVersion: batch/v1, kind: Job, spec: {{template: {{spec: {{containers: [{{image: {quoted}}}]}}}}}}}}"
        );
        format!("{pod}---\n# é\n{job}\n---\n{pod}")
    })
}

fn pipelines() -> impl Strategy<Value = String> {
    (quoted(), quoted(), name(), noise(), any::<bool>()).prop_map(|(one, two, name, noise, github)| {
        if github {
            format!("on: push\njobs:\n  a:\n    container: {one}{noise}\n    services: {{s: {{image: {two}}}}}\n    steps:\n    - uses: docker://{name}{noise}\n    - uses: 'docker://{name}'\n")
        } else {
            format!("default: {{image: {one}}}\njob:\n  script: é\n  image: {{name: {two}}}{noise}\n  services: [{one}, {name}]\n")
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn unpinning_what_was_pinned_gives_the_file(
        (name, text) in prop_oneof![
            dockerfile().prop_map(|text| ("Dockerfile", text)),
            compose().prop_map(|text| ("compose.yaml", text)),
            kubernetes().prop_map(|text| ("x.yaml", text)),
            pipelines().prop_map(|text| ("x.yaml", text)),
        ],
        crlf: bool,
        mark: bool,
    ) {
        let text = if crlf { text.replace('\n', "\r\n") } else { text };
        let text = if mark { format!("\u{feff}{text}") } else { text };
        let before = file(name, text.as_bytes());
        prop_assert!(before.is_some(), "{text}");
        let before = before.unwrap();
        for image in &before.found.images {
            prop_assert_eq!(image.span.is_some(), !image.written.contains('$'), "{} in {}", image.written, text);
        }
        let after = pin(&before);
        prop_assert_eq!(unpinned(&after), text.clone());
        // Every image that is a literal has its digest now, and pinning again changes nothing.
        let again = file(name, after.as_bytes()).unwrap();
        for (image, was) in again.found.images.iter().zip(&before.found.images) {
            let want = was.span.is_some().then(|| digest_of(image));
            prop_assert_eq!(image.reference.digest, want, "{} in {}", image.written, after);
        }
        prop_assert_eq!(pin(&again), after);
    }

    /// Whatever is understood at all is pinned without any other change, or refused.
    #[test]
    fn arbitrary_text_is_pinned_exactly_or_refused(text in pieces::pieces()) {
        for name in ["Dockerfile", "compose.yaml", "x.yaml"] {
            let Some(before) = file(name, text.as_bytes()) else { continue };
            let Ok(bytes) = rewritten(&before, &Options::default(), |image| Some(digest_of(image))) else { continue };
            let after = String::from_utf8(bytes).unwrap();
            let mut spans: Vec<_> = before.found.images.iter().filter_map(|image| image.span.clone()).collect();
            spans.sort_by_key(|span| span.start);
            spans.dedup();
            // What stands between the names is there, in its order, byte for byte.
            let (mut rest, mut at) = (&after[..], 0);
            for span in spans {
                let kept = &text[at..span.start];
                prop_assert!(rest.starts_with(kept), "{after:?} of {text:?}");
                rest = &rest[kept.len()..];
                let digest = rest.find("@sha256:").unwrap();
                let name = &text[span.clone()];
                let stem = name.split('@').next().unwrap();
                let named = rest[..digest].strip_suffix(":latest").unwrap_or(&rest[..digest]);
                prop_assert_eq!(named, stem.strip_suffix(":latest").unwrap_or(stem));
                rest = &rest[digest + "@sha256:".len() + 64..];
                at = span.end;
            }
            prop_assert_eq!(rest, &text[at..]);
        }
    }
}
