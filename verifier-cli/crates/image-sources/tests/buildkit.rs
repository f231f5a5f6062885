//! Dockerfiles with all that is hard to read, against BuildKit's own parser: no image that it sees is missed.
//!
//! The parser is that of the Go module in `tests/differential/dockerfile`. Without Go, or where its modules cannot be had,
//! the test says that it is skipped. `TAGLOG_DIFFERENTIAL_FILES` sets the number of files, `TAGLOG_DIFFERENTIAL_SEED` the
//! first of them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // What fails in here fails the test.

mod go_program;

use std::{
    collections::HashSet,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
};

use taglog_image_sources::{Options, ScanResult, read_bytes};
use taglog_proto::name::Reference;

/// Few enough for every run of the tests.
const FILES: usize = 4000;
/// How many files the parser gets at once.
const BATCH: usize = 500;

#[test]
fn no_image_is_missed() {
    let Some(program) = go_program::build("dockerfile") else { return };
    let number = |name| std::env::var(name).ok().map(|number| number.parse::<usize>().unwrap());
    let files = number("TAGLOG_DIFFERENTIAL_FILES").unwrap_or(FILES);
    let first = number("TAGLOG_DIFFERENTIAL_SEED").unwrap_or(1);
    let (mut accepted, mut images, mut refused, mut missed) = (0, 0, Vec::new(), Vec::new());
    let mut seed = first;
    while seed < first + files {
        let batch: Vec<String> = (seed..(seed + BATCH).min(first + files)).map(dockerfile).collect();
        for (index, (text, answer)) in batch.iter().zip(answers(&program, &batch)).enumerate() {
            let Some(seen) = answer else { continue };
            accepted += 1;
            images += seen.len();
            let found = read_bytes(Path::new("Dockerfile"), text.as_bytes(), &Options::default());
            let found = match found {
                Ok(found) => found,
                // A file that is refused is not passed over, but few may be.
                Err(error) => {
                    refused.push(format!("{error}: {text:?}"));
                    continue;
                }
            };
            let lost: Vec<&Seen> = seen.iter().filter(|seen| !covers(&found, seen)).collect();
            if !lost.is_empty() {
                missed.push(format!("seed {}: {lost:?} in {text:?}", seed + index));
            }
        }
        seed += BATCH;
    }
    println!(
        "{files} files; BuildKit accepts {accepted}, with {images} images; {} of these files are refused here, and an image \
         is missed in {}",
        refused.len(),
        missed.len()
    );
    assert!(missed.is_empty(), "{}", missed.into_iter().take(20).collect::<Vec<_>>().join("\n"));
    assert!(accepted > files / 5 && images > accepted, "the generated files test too little");
    assert!(refused.len() < accepted / 50, "{}", refused.into_iter().take(20).collect::<Vec<_>>().join("\n"));
}

/// An image that BuildKit sees, in these lines.
#[derive(Debug)]
struct Seen {
    first: usize,
    last: usize,
    name: String,
}

/// Whether an image that BuildKit sees was found, or something was noted in its lines.
fn covers(found: &ScanResult, seen: &Seen) -> bool {
    // RUN --mount takes quotes, escapes and variables for a part of the name: no build gets further.
    if seen.name.contains(['\\', '`', '\'', '"', '$']) {
        return true;
    }
    let within = |line: usize| seen.first == 0 || (seen.first..=seen.last).contains(&line);
    let reference = Reference::parse(&seen.name);
    let is_same = |other: &Reference| reference.as_ref().is_ok_and(|reference| reference == other);
    found.images.iter().any(|image| within(image.place.line) && is_same(&image.reference))
        || found.left_out.iter().any(|note| within(note.place.line))
        || found.excluded.iter().any(|note| within(note.place.line))
}

/// What BuildKit sees in each file; `None` where it refuses the file.
fn answers(program: &Path, files: &[String]) -> Vec<Option<Vec<Seen>>> {
    let mut child = Command::new(program)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null()) // Go's scanner complains there about NUL.
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut files_in: Vec<u8> = Vec::new();
    for file in files {
        write!(files_in, "{}\n{file}", file.len()).unwrap();
    }
    let writer = std::thread::spawn(move || input.write_all(&files_in).unwrap());
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let answers: Vec<_> = lines.map(|line| answer(&line.unwrap())).collect();
    writer.join().unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(answers.len(), files.len());
    answers
}

fn answer(line: &str) -> Option<Vec<Seen>> {
    let mut fields = line.split('\t');
    match fields.next() {
        Some("refused") => None,
        Some("accepted") => Some(fields.map(seen).collect()),
        _ => panic!("{line}"),
    }
}

fn seen(field: &str) -> Seen {
    let unquoted = field.strip_prefix('"').and_then(|field| field.strip_suffix('"')).unwrap();
    let (lines, name) = unquoted.split_once('=').unwrap();
    let (first, last) = lines.split_once('-').unwrap();
    // Names with escapes are no references; that they are not is all that counts.
    Seen { first: first.parse().unwrap(), last: last.parse().unwrap(), name: name.to_owned() }
}

/// Numbers that follow from a seed (SplitMix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }

    fn one_in(&mut self, bound: usize) -> bool {
        self.below(bound) == 0
    }

    /// One of the nasty parts in one case of so many, else a plain one.
    fn mostly<'a>(&mut self, cases: usize, plain: &[&'a str], nasty: &[&'a str]) -> &'a str {
        if self.one_in(cases) { self.pick(nasty) } else { self.pick(plain) }
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }
}

/// A Dockerfile with nasty parts, most of which BuildKit still accepts.
fn dockerfile(seed: usize) -> String {
    let mut random = Random(seed as u64);
    let mut text = String::new();
    if random.one_in(3) {
        text.push_str(random.pick(TOPS));
    }
    let escape = if text.contains("escape") && text.contains('`') { "`" } else { "\\" };
    for _ in 0..random.below(3) {
        text.push_str(&line(&mut random, escape, "ARG "));
    }
    text.push_str(&line(&mut random, escape, "FROM "));
    for _ in 0..1 + random.below(6) {
        let keyword = random.pick(KEYWORDS).to_owned();
        text.push_str(&line(&mut random, escape, &keyword));
    }
    if random.one_in(4) {
        text = text.replace('\n', "\r\n");
    }
    for _ in 0..random.below(4).saturating_sub(1) {
        text = mutated(&mut random, text);
    }
    text
}

const TOPS: &[&str] = &[
    "# syntax=docker/dockerfile:1\n",
    "# syntax = a/b:1 --x\n# escape = `\n",
    "# escape=`\n",
    "#\u{a0}escape=`\n",
    "  # escape=`\n",
    "# check=skip=all\n# escape=`\n",
    "#!/bin/x\n# escape=`\n",
    "# escape=\\\n",
    "\u{feff}",
    "\u{feff}# escape=`\n",
    "\n",
    "# a comment\n# escape=`\n",
];

const KEYWORDS: &[&str] = &[
    "COPY ",
    "COPY ",
    "COPY ",
    "copy\t",
    "RUN ",
    "RUN ",
    "RUN ",
    "run ",
    "FROM ",
    "FROM ",
    "from ",
    "ARG ",
    "ENV ",
    "ONBUILD COPY ",
    "ONBUILD RUN ",
    "onbuild  run ",
    "ONBUILD ADD ",
    "ADD ",
    "USER root\n",
    "CMD x\n",
    "LABEL a=b\n",
    "# comment\n",
    "\n",
    "WOR\u{212a}DIR ",
    "ONBU\u{130}LD RUN ",
    "HEALTHCHECK CMD ",
];

const PLAIN_NAMES: &[&str] =
    &["a", "b:1", "evil/x:1", "base", "c/d@sha256:3fbc632167424a6d997e74f52b878d7cc478225cffac6bc977eedfe51c7f4e79"];

const NAMES: &[&str] = &[
    "a",
    "b:1",
    "evil/x:1",
    "r.example:5000/c@sha256:3fbc632167424a6d997e74f52b878d7cc478225cffac6bc977eedfe51c7f4e79",
    "base",
    "base-amd64",
    "scratch",
    "0",
    "1",
    "+0",
    "$A",
    "${A}",
    "${A:-d:2}",
    "${B:+e}f",
    "base-${TARGETARCH}",
    "base-$TARGETARCH$TARGETVARIANT",
    "${TARGETVARIANT:+x/}y",
    "${A#a}",
    "${A%%*b}g",
    "${A/a/h}",
    "${A//a/i}",
    "'j'",
    "\"k:1\"",
    "l\\m",
    "n`o",
    "A",
    "\u{feff}p",
    "${B:-${A:-q}}",
    "$B",
    "$$r",
    "${A:?x}",
    "${A#'\\a'}",
    "\\$A",
];

const FLAGS: &[&str] = &[
    "--from=",
    "--from=",
    "--from=",
    "--\"from\"=",
    "--fr\\om=",
    "--fr`om=",
    "--'fr'om=",
    "--from=\"\"",
    "--link ",
    "--chown=1:1 --from=",
    "--chown='a b' --from=",
    "--chown=\u{e0}--from=x --from=",
    "--exclude=\"x\\\"\" --from=",
    "-- ",
    "--from=''",
    "--chmod=\"7\"'7'7 --from=",
    "--exclude=a\\ --from=b --from=",
    "--chown=`' --from=",
    "\u{a0}--from=",
    "",
];

const MOUNTS: &[&str] = &[
    "--mount=type=bind,from=",
    "--mount=from=",
    "--mo'unt'=from=",
    "--mount=type=bind,\\\"from=",
    "--mount=\"type=bind,target=/a b,from=",
    "--mount='\"from=",
    "--mount=type=cache,target=/x --mount=from=",
    "--network=none --mount=FROM=",
    "--mount=type=bind,target=/x,from=a,from=",
    "--mount=type=tmpfs,target=/x,from=",
    "--security=insecure --mount=\\from=",
    "--mount=ty\\pe=bind,fr\u{f6}m=",
    "",
];

const STAGES: &[&str] =
    &["", " AS base", " as Base-amd64", " aS base-arm", "\tAS\tx1", " a\u{17f} y", " AS 1", " # comment"];

const ENDS: &[&str] = &[
    "",
    "",
    " ",
    " AS base",
    " as Base-amd64",
    " aS base-arm",
    "\tAS\tx1",
    " a\u{17f} y",
    " /a /b",
    " true",
    " x y",
    ",target=/x y",
    "\\\" y",
    "\" y",
    "' y",
    "\"' y",
    "\\",
    " \\",
    "\\\\",
    " \\\\\\",
    "`",
    "``",
    " # comment",
    " [\"x\", \"y\"]",
    " [\"x\"] y",
    "\u{a0}",
    " a b <<EOF",
    " <<EOF x",
    " << EOF x",
    " <<-EOF",
    " <<\"EOF\" <<X y",
    " 3<<'E'OF",
    " <<EO\\F",
    " <<$X y",
    " a<<EOF",
    " '<<EOF'",
    " it's <<EOF",
    " ${x=y} <<EOF",
    " ${x#y} <<EOF",
    " ${x:-y} <<EOF",
    " <<${x:-EOF}",
    " <<<EOF",
    " $((1 << 3))",
    " <<\"USER root\"",
    " << \"USER root\"",
    " \"a\\\\b\" <<EOF",
    " `<<EOF",
    " <<`EOF",
    " <<\u{feff}EOF",
    " [\"<<EOF\"]",
    " [\"a\"] <<EOF",
    " <<EOF\\",
];

const BETWEEN: &[&str] = &[
    "",
    "",
    "",
    "",
    "",
    "\\\n",
    "`\n",
    " \\\n ",
    " \\ \t\n# comment\n\n ",
    "\\\\\n",
    "``\n",
    " `\n  # c\n ",
    "\\\r\n",
    " \\\n\u{a0}# c\n",
];

const BODIES: &[&str] = &[
    "EOF\n",
    "COPY --from=hidden a b\nEOF\n",
    "FROM hidden2\nEOF\nEOF\n",
    "\tEOF\nEOF\n",
    "EOF \nEOF\n",
    "x \\\nEOF\n",
    "RUN <<X\nEOF\nX\n",
    "USER root\n",
    "X\nEOF\nX\n",
    "$X\nEOF\n",
    "# a\nEOF\n",
    "",
];

const PIECES: &[&str] = &[
    "\\",
    "`",
    "\n",
    "\"",
    "'",
    "<<",
    "<",
    " ",
    "\t",
    "\u{a0}",
    "\u{b}",
    "\u{85}",
    "\u{2028}",
    "$",
    "{",
    "}",
    "#",
    "--",
    "=",
    ",",
    "\r",
    "\r\n",
    "\u{e0}",
    "\u{420}\u{4800}",
    "EOF",
    "\nEOF\n",
    "\\\n",
    "ONBUILD ",
    "FROM x\n",
    "[",
    "]",
    "\0",
    "\u{feff}",
    "\u{fffd}",
    "--from=z ",
    "AS ",
    ":",
    "/",
    "\u{c}",
];

/// An instruction in one or more lines, most of whose parts are plain.
fn line(random: &mut Random, escape: &str, keyword: &str) -> String {
    if keyword.ends_with('\n') {
        return keyword.to_owned();
    }
    let mut line = keyword.to_owned();
    let lower = keyword.to_lowercase();
    if lower.contains("arg") || lower.contains("env") {
        line.push_str(random.pick(&["A=", "A=", "B=", "B=1 A=", "\"A\"=", "TARGETARCH="]));
        line.push_str(random.mostly(
            4,
            &["a", "ab:1", "base", "$B"],
            &["a'", "a\"", "'x y'", "x\\ y", "${B:-x}", "a b"],
        ));
    } else if lower.contains("from") {
        line.push_str(random.mostly(
            4,
            &[""],
            &["--platform=$BUILDPLATFORM ", "--platform=x\\ y ", "--pl'at'form=a/b "],
        ));
        line.push_str(random.mostly(2, PLAIN_NAMES, NAMES));
        line.push_str(random.mostly(9, &[""], BETWEEN));
        line.push_str(random.mostly(5, &["", " AS base", " AS base-amd64"], STAGES));
    } else {
        match lower.as_str() {
            lower if lower.contains("run") => source(random, &mut line, MOUNTS),
            lower if lower.contains("copy") => source(random, &mut line, FLAGS),
            _ => line.push_str(random.mostly(9, &[""], FLAGS)),
        }
        line.push_str(random.mostly(9, &[""], BETWEEN));
        line.push_str(random.mostly(
            9,
            &[" a b"],
            &[" a", " true", "", " x y", " [\"x\", \"y\"]", " [\"<<EOF\", \"y\"]"],
        ));
        line.push_str(random.mostly(3, &[""], ENDS));
    }
    let line = if random.one_in(3) { line.replace('\\', escape) } else { line };
    let body = if line.contains("<<") && !random.one_in(5) { random.pick(BODIES) } else { "" };
    format!("{line}\n{body}")
}

/// The flags of an instruction that name a stage or an image.
fn source(random: &mut Random, line: &mut String, flags: &[&str]) {
    line.push_str(random.mostly(9, &[""], BETWEEN));
    let flag = random.mostly(2, &flags[..2], flags);
    line.push_str(flag);
    line.push_str(random.mostly(9, &[""], BETWEEN));
    if flag.ends_with('=') {
        line.push_str(random.mostly(4, PLAIN_NAMES, NAMES));
        if flag.matches('"').count() % 2 == 1 && !random.one_in(4) {
            line.push_str(if flag.contains("\\\"") { "\\\"" } else { "\"" });
        }
        if flag.ends_with("'\"from=") {
            line.push('\'');
        }
    }
}

/// The text with a piece put in, cut out or doubled.
fn mutated(random: &mut Random, text: String) -> String {
    let places: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
    let start = places[random.below(places.len())];
    let end = places[(places.binary_search(&start).unwrap() + random.below(4)).min(places.len() - 1)];
    match random.below(4) {
        0 => format!("{}{}", &text[..start], &text[end..]),
        1 => format!("{}{}{}", &text[..end], &text[start..end], &text[end..]),
        _ => format!("{}{}{}", &text[..start], random.pick(PIECES), &text[start..]),
    }
}

#[test]
fn generated_files_differ() {
    let files: HashSet<String> = (0..1000).map(dockerfile).collect();
    assert!(files.len() > 950, "{}", files.len());
}
