//! Files as users have them, most of them after public bug reports of other tools, and what must be found in them: the
//! same by `verify -f`, by `witness import` and by `pin`. A case is a folder in `file_cases/`: the files in `in/`, and
//! `case.json` with their source, the options, and the answer.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::Mutex,
};

use serde::Deserialize;
use serde_json::Value;
use taglog_proto::{entry::Seen, note::VerifierKey};
use taglog_tests::{
    Registry, Server, Witness,
    cli_fixture::{CommandOutput, User, add},
    push_image,
    witness::now,
};

/// What the files of the cases call the registry.
const NAMED_REGISTRY: &str = "127.0.0.1:5611";
/// The images of that registry.
const IMAGES: [(&str, &[&str]); 8] = [
    ("lib/alpine", &["3.20", "latest"]),
    ("lib/busybox", &["1.36", "latest"]),
    ("lib/golang", &["1.23"]),
    ("lib/nginx", &["1.27"]),
    ("lib/node", &["22"]),
    ("lib/postgres", &["16"]),
    ("lib/redis", &["7", "latest"]),
    ("lib/tool", &["v1", "v2", "v3", "latest"]),
];

/// The content of a `case.json`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    /// Where the input comes from, and why the answer is right: for readers only.
    #[serde(rename = "source")]
    _source: String,
    /// The options of the commands.
    options: Vec<String>,
    /// What `-f` names.
    file: String,
    /// One line for each thing that must be said, sorted; see [`Run::lines`].
    answer: Vec<String>,
}

/// A registry with the images, and a log that has seen each of them for three days.
struct Fixture {
    registry: Registry,
    server: Server,
}

/// What a run needs to know of the fixture.
struct Addresses {
    registry: String,
    log: String,
    vkey: VerifierKey,
}

impl Fixture {
    fn new() -> Fixture {
        let witness = Witness::new(1);
        let server = Server::start(&[&witness], "");
        let registry = Registry::start();
        let mut notes = Vec::new();
        for (path, tag) in IMAGES.iter().flat_map(|(path, tags)| tags.iter().map(move |tag| (path, tag))) {
            let digest = push_image(&registry, path, tag, &format!("{path}:{tag}"));
            let name = format!("{}:{tag}", registry.repository(path));
            notes.push(witness.see(&name, Seen::Digest(digest), now() - 3 * 86_400));
        }
        add(&server, &notes);
        Fixture { registry, server }
    }

    fn addresses(&self) -> Addresses {
        let Fixture { registry, server } = self;
        Addresses { registry: registry.host.clone(), log: server.url.clone(), vkey: server.vkey.clone() }
    }
}

impl Addresses {
    /// Runs the three commands on a copy of the case's files.
    fn run(&self, directory: &Path, case: &Case) -> Run {
        let user = User::new();
        user.trust(&self.vkey, &self.log);
        let home = user.path("files");
        copy(&directory.join("in"), &home, &self.registry);
        let run = |command: &[&str], more: &[&str]| {
            let options: Vec<String> =
                case.options.iter().map(|option| option.replace(NAMED_REGISTRY, &self.registry)).collect();
            let options: Vec<&str> = options.iter().map(String::as_str).collect();
            let arguments = [command, more, &options, &["--output", "json"]].concat();
            // No other registry is asked: a proxy where nothing listens.
            let mut command = user.command(&arguments);
            command.current_dir(&home).env("HTTPS_PROXY", "http://127.0.0.1:1").env("HTTP_PROXY", "http://127.0.0.1:1");
            command.env("NO_PROXY", "127.0.0.1");
            CommandOutput::of(&arguments, command.output().unwrap())
        };
        Run {
            verify: run(&["verify"], &["-f", &case.file]),
            import: run(&["witness", "import"], &["-f", &case.file]),
            pin: run(&["pin", "--dry-run"], &["-f", &case.file]),
            host: self.registry.clone(),
        }
    }
}

/// What the three commands said about one case.
struct Run {
    verify: CommandOutput,
    import: CommandOutput,
    pin: CommandOutput,
    host: String,
}

impl Run {
    /// `verify` and its exit code; `image PLACE NAME` for each image that was looked up; `digest only PLACE NAME`; `left
    /// out PLACE`; `excluded PLACE NAME`; `refused PLACE`, for an input that ends the command; and what `pin` did,
    /// `pin PLACE STATUS`.
    fn lines(&self) -> Vec<String> {
        let mut lines = vec![format!("verify exits {}", self.verify.code)];
        lines.extend(self.images().into_iter().map(|image| format!("image {image}")));
        lines.extend(
            rows(&self.verify, "untagged").flat_map(|row| named_places(&row)).map(|row| format!("digest only {row}")),
        );
        lines.extend(places(&self.verify, "leftOut").into_iter().map(|place| format!("left out {place}")));
        lines.extend(
            rows(&self.verify, "excluded").map(|row| format!("excluded {} {}", place(&row), text(&row, "what"))),
        );
        lines.extend(self.refusal());
        let status = |row: Value| format!("pin {} {}", place(&row), text(&row, "status"));
        lines.extend(rows(&self.pin, "images").map(status));
        let mut lines: Vec<String> =
            lines.into_iter().map(|line| line.replace(&self.host, "REGISTRY").replace(" ./", " ")).collect();
        lines[1..].sort();
        lines.dedup();
        lines
    }

    /// Where `verify` found images, and which.
    fn images(&self) -> BTreeSet<String> {
        let images = rows(&self.verify, "images").chain(rows(&self.verify, "unanswered"));
        images.flat_map(|row| named_places(&row)).collect()
    }

    fn refusal(&self) -> Option<String> {
        let refused = self.verify.stdout.is_empty();
        let message = self.verify.stderr.strip_prefix("taglog: ").unwrap_or(&self.verify.stderr);
        let place = message.split(": ").next().unwrap_or_default();
        refused.then(|| format!("refused {place}"))
    }

    /// What the commands say differently about the same files.
    fn disagreement(&self) -> Option<String> {
        if self.refusal().is_some() {
            let agreed = self.verify.code == 2 && self.import.code == 2 && self.pin.code == 2;
            return (!agreed).then(|| "one command refuses what another reads".to_owned());
        }
        let found: BTreeSet<String> = self.images().iter().map(|image| first_word(image)).collect();
        let imported: BTreeSet<String> = rows(&self.import, "watch")
            .flat_map(|watch| watch["from"].as_array().cloned().unwrap_or_default())
            .map(|from| from.as_str().unwrap().to_owned())
            .collect();
        let digests: BTreeSet<String> =
            rows(&self.verify, "untagged").flat_map(|row| named_places(&row)).map(|row| first_word(&row)).collect();
        let pinned: BTreeSet<String> =
            rows(&self.pin, "images").map(|row| place(&row)).filter(|place| !digests.contains(place)).collect();
        if imported != found {
            return Some(format!("'witness import' lists {imported:?}, 'verify' {found:?}"));
        }
        if pinned != found {
            return Some(format!("'pin' lists {pinned:?}, 'verify' {found:?}"));
        }
        let left_out = places(&self.verify, "leftOut");
        (places(&self.pin, "leftOut") != left_out).then(|| "'pin' and 'verify' leave out different things".to_owned())
    }
}

fn first_word(text: &str) -> String {
    text.split(' ').next().unwrap_or_default().to_owned()
}

/// The rows of a list in a command's answer; none where the command ended without an answer.
fn rows(output: &CommandOutput, list: &str) -> impl Iterator<Item = Value> {
    let answer: Value = serde_json::from_str(&output.stdout).unwrap_or_default();
    answer[list].as_array().cloned().unwrap_or_default().into_iter()
}

fn text<'a>(row: &'a Value, key: &str) -> &'a str {
    row[key].as_str().unwrap_or_else(|| panic!("no {key} in {row}"))
}

fn place(row: &Value) -> String {
    format!("{}:{}", text(row, "file"), row["line"])
}

fn places(output: &CommandOutput, list: &str) -> BTreeSet<String> {
    rows(output, list).map(|row| place(&row)).collect()
}

fn named_places(row: &Value) -> Vec<String> {
    let places = row["places"].as_array().unwrap().iter();
    places.map(|place| format!("{} {}", self::place(place), text(row, "image"))).collect()
}

/// Copies a folder, links as links, with the registry's real address in the files.
fn copy(from: &Path, to: &Path, host: &str) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type().unwrap();
        if kind.is_symlink() {
            symlink(fs::read_link(&from).unwrap(), &to).unwrap();
        } else if kind.is_dir() {
            copy(&from, &to, host);
        } else {
            fs::write(&to, replaced(fs::read(&from).unwrap(), NAMED_REGISTRY.as_bytes(), host.as_bytes())).unwrap();
        }
    }
}

/// Some files are not UTF-8.
fn replaced(content: Vec<u8>, name: &[u8], by: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(content.len());
    let mut rest = &content[..];
    while let Some(first) = rest.first() {
        if let Some(after) = rest.strip_prefix(name) {
            out.extend_from_slice(by);
            rest = after;
        } else {
            out.push(*first);
            rest = &rest[1..];
        }
    }
    out
}

fn cases() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("e2e/cli/file_cases");
    let mut cases: Vec<PathBuf> = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    cases
}

#[test]
fn every_file_is_read_as_its_tool_reads_it() {
    let fixture = Fixture::new();
    let addresses = fixture.addresses();
    let faults = Mutex::new(Vec::new());
    let cases = Mutex::new(cases().into_iter());
    let next = || cases.lock().unwrap().next();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some(directory) = next() {
                    let found = check(&addresses, &directory);
                    faults.lock().unwrap().extend(found);
                }
            });
        }
    });
    let faults = faults.into_inner().unwrap();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// What is wrong with the answers to a case.
fn check(addresses: &Addresses, directory: &Path) -> Option<String> {
    let name = directory.file_name().unwrap().to_string_lossy().into_owned();
    let case: Case = serde_json::from_slice(&fs::read(directory.join("case.json")).unwrap()).unwrap();
    let run = addresses.run(directory, &case);
    let lines = run.lines();
    let wrong =
        (lines != case.answer).then(|| format!("want {:#?}\nhave {lines:#?}\n{}", case.answer, run.verify.stderr));
    let problem = wrong.or_else(|| run.disagreement());
    problem.map(|problem| format!("{name}: {problem}"))
}

/// As large as the custom resource definitions of an operator are.
#[test]
fn a_bundle_of_4_6_mb_is_read() {
    let fixture = Fixture::new();
    let user = User::trusting(&fixture.server);
    let definition = |i: usize| {
        let text = "description of a field in a sentence of usual length. ".repeat(40);
        format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: c{i}}}\ndata: {{text: \"{text}\"}}\n---\n")
    };
    let mut bundle: String = (0..2100).map(definition).collect();
    assert!(bundle.len() > 4_600_000);
    let line = bundle.lines().count() + 5;
    bundle += &format!(
        "apiVersion: v1\nkind: Pod\nspec:\n  containers:\n    - image: {}/lib/tool:v1\n",
        fixture.registry.host
    );
    user.write("bundle.yaml", bundle);
    let ran = user.run_json(&["verify", "-f", "bundle.yaml"]).exits(0);
    assert_eq!(ran.json()["images"][0]["places"][0]["line"], line);
}
