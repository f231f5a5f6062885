//! Well-known public files, against lists of the images in them that were made without this program.
//!
//! `public.txt` has facts alone, and says what they mean and how they were checked. The files are others' work and not kept
//! here: `fetch-public.sh DIR` fetches them, and with `TAGLOG_PUBLIC_FILES=DIR` (a full path) what is found in them is
//! compared with the lists. They are in `DIR/<owner>+<name>/`.

#![allow(clippy::unwrap_used)]

use std::{fs, path::PathBuf};

use taglog_image_sources::{FoundImage, LeftOut, ScanResult, read};
use taglog_proto::name::{Digest, Reference};

/// A file and what a person finds in it, as `public.txt` writes it.
struct Listed {
    path: String,
    digest: Digest,
    lines: Vec<String>,
}

fn listed() -> Vec<Listed> {
    let (mut files, mut repository) = (Vec::<Listed>::new(), String::new());
    for line in include_str!("public.txt").lines().filter(|line| !line.starts_with('#')) {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["@", name, commit, licence] => {
                assert!(commit.len() == 40 && matches!(licence, "CC0-1.0" | "Apache-2.0" | "MIT"), "{line}");
                repository = name.replace('/', "+");
            }
            ["-", path, digest] => {
                let digest = Digest::parse(&format!("sha256:{digest}")).unwrap();
                files.push(Listed { path: format!("{repository}/{path}"), digest, lines: Vec::new() });
            }
            [number, "?"] | [number, _] | [number, _, "=", _] => {
                let name = words.last().filter(|name| **name != "?");
                assert!(name.is_none_or(|name| Reference::parse(name).is_ok()), "{line}");
                assert!(number.parse::<usize>().unwrap() > 0, "{line}");
                files.last_mut().unwrap().lines.push(line.to_owned());
            }
            _ => panic!("{line}"),
        }
    }
    files
}

/// What the program finds, in the same form.
fn lines_of(found: &ScanResult) -> Vec<String> {
    let meaning = |image: &FoundImage| {
        let Reference { repository, tag, digest } = &image.reference;
        let tag = tag.as_ref().map(|tag| format!(":{tag}")).unwrap_or_default();
        let digest = digest.map(|digest| format!("@{digest}")).unwrap_or_default();
        format!("{repository}{tag}{digest}")
    };
    let image = |image: &FoundImage| {
        let means = if image.span.is_some() { String::new() } else { format!(" = {}", meaning(image)) };
        (image.place.line, format!("{} {}{means}", image.place.line, image.written))
    };
    let left_out = |left_out: &LeftOut| (left_out.place.line, format!("{} ?", left_out.place.line));
    let mut lines: Vec<(usize, String)> =
        found.images.iter().map(image).chain(found.left_out.iter().map(left_out)).collect();
    lines.sort_by_key(|(number, _)| *number);
    lines.into_iter().map(|(_, line)| line).collect()
}

#[test]
fn what_is_found_is_what_is_listed() {
    let files = listed();
    assert!(files.len() >= 120 && files.iter().filter(|file| file.lines.is_empty()).count() < 10);
    let Some(directory) = std::env::var_os("TAGLOG_PUBLIC_FILES").map(PathBuf::from) else {
        println!("TAGLOG_PUBLIC_FILES names no directory: only the form of the lists is checked");
        return;
    };
    let mut wrong = Vec::new();
    for Listed { path, digest, lines } in files {
        let file = directory.join(&path);
        let bytes = fs::read(&file).unwrap_or_else(|error| panic!("{path}: {error}: run fetch-public.sh"));
        assert!(digest.matches(&bytes), "{path} is not the file that was listed");
        let found = read(&[file]).map(|found| lines_of(&found)).unwrap_or_else(|error| vec![error.to_string()]);
        if found != lines {
            wrong.push(format!("{path}\n  listed {lines:#?}\n  found {found:#?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
