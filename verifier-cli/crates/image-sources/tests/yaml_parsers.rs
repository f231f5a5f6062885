//! Generated YAML, read by this crate and by the parsers of the programs that deploy from YAML: no image that one of
//! them sees may be missed. The other parsers are in tests/differential/yaml: Go's (kubectl, Docker Compose, Kustomize)
//! and PyYAML, with and without libyaml. Those that are not installed are left out, which is said.
//!
//! TAGLOG_DIFFERENTIAL_FILES sets the number of files. TAGLOG_DIFFERENTIAL_SEED sets the first one's seed.

#![allow(clippy::unwrap_used, clippy::expect_used)] // What fails in here fails the test.

mod go_program;

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use serde_json::Value;
use taglog_image_sources::{Options, ScanResult, SourceError, read_bytes};
use taglog_proto::name::Reference;

const FILES: u64 = 3_000;

/// A program that reads one stream a line.
struct Parser {
    program: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Parser {
    fn start(command: &mut Command) -> Parser {
        let mut program = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (input, output) = (program.stdin.take().unwrap(), program.stdout.take().unwrap());
        Parser { program, input, output: BufReader::new(output) }
    }

    fn send(&mut self, text: &str) {
        writeln!(self.input, "{}", Value::from(text)).unwrap();
    }

    /// The documents that each reader saw, and whether it accepted all of the stream.
    fn receive(&mut self) -> BTreeMap<String, (Vec<Value>, bool)> {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        let results: BTreeMap<String, Value> = serde_json::from_str(&line).unwrap();
        let parts = |result: Value| {
            let documents = result["documents"].as_array().cloned().unwrap_or_default();
            (documents, result.get("error").is_none())
        };
        results.into_iter().map(|(name, result)| (name, parts(result))).collect()
    }
}

impl Drop for Parser {
    fn drop(&mut self) {
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}

fn succeeds(command: &mut Command) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// The parsers that can be had here.
fn parsers() -> Vec<Parser> {
    let go = go_program::build("yaml").map(|program| Parser::start(&mut Command::new(program)));
    let mut parsers = Vec::from_iter(go);
    if succeeds(Command::new("python3").args(["-c", "import yaml"])) {
        parsers.push(Parser::start(Command::new("python3").arg(go_program::programs().join("yaml/read.py"))));
    } else {
        go_program::skipped("yaml: python3 has no PyYAML");
    }
    parsers
}

/// A small generator (SplitMix64): the same files from the same seed everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }
}

/// What is put into a file where it may do harm.
const PIECES: &[&str] = &[
    " ",
    "  ",
    "\t",
    "\n",
    "\r",
    "\r\n",
    "\n\n",
    ": ",
    ":",
    "- ",
    "-",
    "? ",
    "?",
    "# ",
    "#",
    " #",
    ", ",
    ",",
    "[",
    "]",
    "{",
    "}",
    "'",
    "\"",
    "|",
    ">",
    "|-\n",
    ">+2\n",
    "|1\n",
    "\n---\n",
    "\n--- ",
    "\n---\t# x\n",
    "---",
    "\n...\n",
    "...",
    "\n---#\n",
    "\n---\u{a0}\n",
    "%YAML 1.1\n---\n",
    "\n%TAG ! tag:yaml.org,2002:\n---\n",
    "&a ",
    "*a",
    "*a ",
    "&b ",
    "*b",
    "&a:b ",
    "*a:",
    "<<: ",
    "<<: *a",
    "<<: *b\n",
    "\"<<\": ",
    "<<",
    "!!str ",
    "!!binary ",
    "! ",
    "!x ",
    "!reset ",
    "!!null ",
    "!!merge ",
    "!!set ",
    "!!omap ",
    "!<tag:yaml.org,2002:str> ",
    "!!",
    "!",
    "aW1hZ2U=",
    "image",
    "image: ",
    "image: evil:1",
    "\"\\x69mage\": evil:2",
    "\"im\\\nage\": evil:3",
    "? image\n",
    "name: x",
    "spec: ",
    "containers:",
    "services:",
    "kind: Pod",
    "\u{2028}",
    "\u{2029}",
    "\u{85}",
    "\u{feff}",
    "\u{a0}",
    "\0",
    "\u{7f}",
    "\u{1b}",
    "é",
    "\\",
    "\\\n",
    "\\x",
    "\\u2028",
    "@",
    "`",
    "%",
    "~",
    "null",
    "=",
    "key: value",
    "\n  key: value",
    "\n    image: evil:4\n",
    "\n- image: evil:5\n",
    "{image: evil:6}",
    "[image: evil:7]",
    "{? image : evil:8}",
    "{\"image\":evil:9}",
    "# \u{2028}    image: evil:10",
    "x: |\n      \n    text\n",
    "x: [\n]",
    "x: 'a\n b'",
    "x: \"a\n\tb\"",
    "x: >\n  a\n\n   b\n",
];

/// A file of one of the two shapes, with some pieces in it, taken from it, or moved.
fn generate(seed: u64) -> (&'static str, String) {
    let random = &mut Random(seed);
    let name = if random.one_in(2) { "compose.yaml" } else { "pod.yaml" };
    let mut text = if name == "pod.yaml" { pods(random) } else { services(random) };
    if random.one_in(4) {
        text = text.replace('\n', random.pick(&["\r\n", "\r", "\n"]));
    }
    for _ in 0..random.below(7).saturating_sub(3) {
        mutate(&mut text, random);
    }
    (name, text)
}

fn mutate(text: &mut String, random: &mut Random) {
    let boundaries: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
    let at = boundaries[random.below(boundaries.len())];
    // Where a token may begin more is read differently than within one.
    let token = text[at..].find(['\n', ' ', ':']).map_or(at, |found| at + found + 1);
    let place = if random.one_in(3) { at } else { token };
    let end = boundaries.iter().copied().find(|end| *end > place).unwrap_or(place);
    match random.below(8) {
        0 => text.replace_range(place..end, ""),
        1 => text.replace_range(place..end, random.pick(PIECES)),
        2 => {
            let until = boundaries[random.below(boundaries.len())].clamp(place, (place + 40).min(text.len()));
            let until = boundaries.iter().copied().rfind(|end| *end <= until).unwrap_or(place).max(place);
            let copy = text[place..until].to_owned();
            text.insert_str(place, &copy);
        }
        _ => text.insert_str(place, random.pick(PIECES)),
    }
}

/// A value that is an image, in one of the ways to write it.
fn image(random: &mut Random, indent: &str, number: &mut usize) -> String {
    *number += 1;
    let name = format!("image{number}:{}", random.below(3));
    match random.below(14) {
        0 => format!("'{name}'"),
        1 => format!("\"{name}\""),
        2 => format!("!!str {name}"),
        3 => format!("&i{number} {name}"),
        4 => format!("|-\n{indent}  {name}"),
        5 => format!(">-\n\n{indent}   {name}\n"),
        6 => format!("\n{indent}  {name}"),
        7 => format!("\"image\\\n{indent}{number}:1\""),
        8 => format!("\t{name}\t# comment"),
        9 if *number > 1 => format!("&i{number} {name}\n{indent}other: *i{number}"),
        10 => format!("!override {name}"),
        _ => name,
    }
}

/// A mapping of a container or a service.
fn holder(random: &mut Random, indent: &str, number: &mut usize) -> String {
    const OTHERS: &[&str] = &[
        "name: x",
        "args: [a, \"b: c\", {d: e}]",
        "command: [\n]",
        "list: [\n  x,\n y]",
        "note: \"a\n  b\"",
        "text: |\n          \n       b",
        "on: yes",
        "~: x",
        "? y\nINDENT: z",
        "env: {A: 1.10, B: null}",
        "more:\nINDENT- a\nINDENT- b",
        "'q': 'it''s'",
        "<<: *base",
        "<<: [*base, {x: y}]",
        "<<: {image: merged:1}",
        "r: !reset null",
        "z: &base {image: base:2, b: c}",
        "# comment",
        "k: a#b",
        "url: http://x:1/?a=b",
        "empty:",
        "t: !custom {image: no:1}",
    ];
    // Each at most once: what is there twice is refused.
    let others: BTreeSet<&str> = (0..random.below(4)).map(|_| random.pick(OTHERS)).collect();
    let mut lines: Vec<String> = others.into_iter().map(|line| line.replace("INDENT", indent)).collect();
    if !lines.is_empty() {
        let first = random.below(lines.len());
        lines.rotate_left(first);
    }
    for _ in 0..1 + usize::from(random.one_in(30)) {
        let value = image(random, indent, number);
        let key = random.pick(&[
            "image",
            "image",
            "image",
            "image",
            "\"image\"",
            "'image'",
            "!!str image",
            "\"\\u0069mage\"",
        ]);
        let line = if random.one_in(10) { format!("? {key}\n{indent}: {value}") } else { format!("{key}: {value}") };
        lines.insert(random.below(lines.len() + 1), line);
    }
    if random.one_in(6) {
        let flow: Vec<&str> =
            lines.iter().map(String::as_str).filter(|line| !line.contains(['\n', '#', '?'])).collect();
        return format!("{{{}}}", flow.join(random.pick(&[", ", ",", ",\n    "])));
    }
    lines.join(&format!("\n{indent}"))
}

fn pods(random: &mut Random) -> String {
    let mut text = random.pick(&["", "", "# first\n", "%YAML 1.1\n---\n", "---\n"]).to_owned();
    let mut number = 0;
    for _ in 0..1 + random.below(3) {
        let kind = random.pick(&["Pod", "Pod", "ConfigMap"]);
        text += &format!("apiVersion: v1\nkind: {kind}\nmetadata: {{name: x}}\nspec:\n");
        text += "  base: &base {image: base:1, name: b}\n";
        text += random.pick(&["  containers:\n", "  initContainers:\n", "  \"containers\":\n"]);
        for _ in 0..1 + random.below(3) {
            text += &format!("  - {}\n", holder(random, "    ", &mut number));
        }
        if kind == "ConfigMap" {
            text += "data:\n  a: |\n    ---\n    kind: Pod\n  b: \"---\\n\"\n";
        }
        text += random.pick(&["---\n", "---\n", "--- # next\n", "...\n---\n"]);
    }
    text
}

fn services(random: &mut Random) -> String {
    let mut text =
        random.pick(&["x-base: &base {image: base:1}\n", "x-base: &base\n  image: base:1\n  restart: no\n"]).to_owned();
    let mut number = 0;
    text += "services:\n";
    for service in 0..1 + random.below(4) {
        let key = random.pick(&["s", "on", "\"q\"", "? s", "&k s", "1"]);
        let value = holder(random, "    ", &mut number);
        let separator = if value.starts_with('{') { " " } else { "\n    " };
        let colon = if key.starts_with('?') { "\n  :" } else { ":" };
        text += &format!("  {key}{service}{colon}{separator}{value}\n");
    }
    text
}

/// The images that a document names as another parser reads it; an empty text is none.
fn images_of(document: &Value) -> Vec<&str> {
    let mut holders: Vec<&Value> = Vec::new();
    if document["kind"] == "Pod" && document["apiVersion"].is_string() {
        for key in ["containers", "initContainers"] {
            holders.extend(document["spec"][key].as_array().into_iter().flatten());
        }
    }
    if document.get("kind").is_none() {
        holders.extend(document["services"].as_object().into_iter().flat_map(serde_json::Map::values));
    }
    holders.into_iter().filter_map(|holder| holder["image"].as_str()).filter(|image| !image.is_empty()).collect()
}

/// Whether an image that another parser saw is found, noted, or stands in a file that is refused.
fn is_accounted_for(image: &str, ours: &Result<ScanResult, SourceError>) -> bool {
    let Ok(found) = ours else { return true };
    match Reference::parse(image) {
        Ok(reference) => found.images.iter().any(|found| found.reference == reference),
        Err(_) => !found.left_out.is_empty(),
    }
}

#[derive(Default)]
struct Counts {
    files: u64,
    images: u64,
    accepted_by_all: u64,
    /// Of these, with the reason.
    refused: BTreeMap<String, u64>,
}

#[test]
fn no_image_that_another_parser_sees_is_missed() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let mut parsers = parsers();
    if parsers.is_empty() {
        return;
    }
    let (first, files) =
        (number("TAGLOG_DIFFERENTIAL_SEED").unwrap_or(0), number("TAGLOG_DIFFERENTIAL_FILES").unwrap_or(FILES));
    let (mut counts, mut missed) = (Counts::default(), Vec::new());
    for seed in first..first + files {
        let (name, text) = generate(seed);
        parsers.iter_mut().for_each(|parser| parser.send(&text));
        let ours = read_bytes(Path::new(name), text.as_bytes(), &Options::default());
        let mut all_accept = true;
        let mut seen = BTreeSet::new();
        for (reader, (documents, accepted)) in parsers.iter_mut().flat_map(Parser::receive) {
            all_accept &= accepted;
            for image in documents.iter().flat_map(images_of) {
                seen.insert(image.to_owned());
                if !is_accounted_for(image, &ours) {
                    missed.push(format!("seed {seed}: {reader} sees {image:?} in {name}: {text:?}\n  found {ours:?}"));
                }
            }
        }
        counts.add(all_accept && !seen.is_empty(), seen.len(), &ours, &text);
    }
    println!("{} files with {} images; all parsers accept {}", counts.files, counts.images, counts.accepted_by_all);
    println!("refused nevertheless: {}: {:#?}", counts.refused.values().sum::<u64>(), counts.refused);
    assert!(missed.is_empty(), "{} missed:\n{}", missed.len(), missed[..missed.len().min(10)].join("\n"));
    assert!(counts.images > counts.files && counts.accepted_by_all * 10 > counts.files, "too little is compared");
}

impl Counts {
    fn add(&mut self, accepted: bool, images: usize, ours: &Result<ScanResult, SourceError>, text: &str) {
        self.files += 1;
        self.images += images as u64;
        self.accepted_by_all += u64::from(accepted);
        if let Err(error) = ours
            && accepted
        {
            let reason = error.problem.to_string();
            if std::env::var_os("TAGLOG_DIFFERENTIAL_SHOW").is_some() {
                println!("{reason}: {text:?}");
            }
            let words: Vec<&str> = reason.split(' ').filter(|word| !word.contains(['"', '\''])).collect();
            *self.refused.entry(words.join(" ")).or_default() += 1;
        }
    }
}

/// A bundle of custom resource definitions, as large as operators have them, with a Deployment in it.
#[test]
fn a_bundle_of_4_6_mb_is_read() {
    let property = "                  fieldNAME:\n                    description: Describes what the field does, in a sentence.\n                    type: string\n";
    let mut text = String::new();
    for number in 0.. {
        if text.len() > 4_600_000 {
            break;
        }
        text += &format!(
            "---\napiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata:\n  name: kind{number}s.example.com\n\
             spec:\n  versions:\n  - name: v1\n    schema:\n      openAPIV3Schema:\n        properties:\n          spec:\n            \
             properties:\n              nested:\n                properties:\n"
        );
        text.extend((0..1_000).map(|field| property.replace("NAME", &field.to_string())));
    }
    text += "---\napiVersion: apps/v1\nkind: Deployment\nspec: {template: {spec: {containers: [{image: a:1}]}}}\n";
    let found = read_bytes(Path::new("bundle.yaml"), text.as_bytes(), &Options::default()).unwrap();
    let written: Vec<_> = found.images.iter().map(|image| (image.written.as_str(), image.place.line)).collect();
    assert_eq!(written, [("a:1", text.lines().count())]);
    assert!(found.left_out.is_empty(), "{:?}", found.left_out);
}
