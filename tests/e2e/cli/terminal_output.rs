//! Whatever files, arguments, logs, registries and cosigners say: no command writes a character as text that steers a
//! terminal, hides, or reorders what people read.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use taglog_proto::name::Digest;
use taglog_tests::{
    DataDirectory, Server, Witness, binary,
    hostile_registry::{FixedResponse, HostileRegistry, ManifestResponse},
    witness::now,
};
use tempfile::TempDir;

const APP: &str = "registry.example/team/app:1.0";
/// Every kind of forbidden character: what a file's name, an argument and a text in a file may hold.
const HOSTILE: &str =
    "x\u{202e}\u{2066}\u{200b}\u{61c}\u{ad}\u{feff}\u{2028}\u{e0041}\u{fe0f}\u{1b}[31m\u{1b}]0;y\u{7}\u{9b}2J\u{85}z";
/// The same without control characters, which parsers of YAML, TOML and HTTP refuse before anything else is looked at.
const QUIET: &str = "x\u{202e}\u{2066}\u{200b}\u{61c}\u{ad}\u{feff}\u{2028}\u{e0041}\u{fe0f}z";
/// A line that pretends to be one of the program's own.
const FORGED: &str = "\nFORGED: all is well";
/// After this long a program that runs for ever has said what it has to say.
const PATIENCE: Duration = Duration::from_secs(10);

/// As the requirement has it, not as the programs do it.
fn is_forbidden(c: char) -> bool {
    match c {
        '\n' | '\t' => false,
        c => {
            c.is_control()
                || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
                || matches!(c, '\u{2060}'..='\u{206f}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
                || matches!(c, '\u{e0000}'..='\u{e007f}')
        }
    }
}

/// What a program wrote.
#[derive(Debug)]
struct Ran {
    stdout: String,
    stderr: String,
}

impl Ran {
    /// Whether a hostile character is there in its visible form.
    fn shows_escapes(&self) -> bool {
        [&self.stdout, &self.stderr].iter().any(|text| text.contains("202e"))
    }

    fn check(&self, what: &dyn std::fmt::Debug) {
        for text in [&self.stdout, &self.stderr] {
            assert!(!text.contains(is_forbidden), "{what:?}: {self:?}");
            assert!(!text.lines().any(|line| line.starts_with("FORGED")), "{what:?}: {self:?}");
            assert!(!text.contains("panicked"), "{what:?}: {self:?}");
        }
    }
}

/// Runs a program until it ends, or for [`PATIENCE`].
fn run(command: &mut Command) -> Ran {
    let output = tempfile::tempdir().unwrap();
    let path = |name: &str| output.path().join(name);
    let file = |name: &str| File::create(path(name)).unwrap();
    let child = command.stdin(Stdio::null()).stdout(file("stdout")).stderr(file("stderr")).spawn();
    let mut child = child.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let deadline = Instant::now() + PATIENCE;
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            child.kill().unwrap();
            child.wait().unwrap();
        } else {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    let text = |name: &str| String::from_utf8(std::fs::read(path(name)).unwrap()).expect("text is UTF-8");
    Ran { stdout: text("stdout"), stderr: text("stderr") }
}

/// The commands of a program, by its own help: each as the words that lead to it.
fn commands(program: &str, words: &[String]) -> Vec<Vec<String>> {
    let help = run(Command::new(binary(program)).env_clear().args(words).arg("--help"));
    let list = help.stdout.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let names = list.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let names: Vec<&str> = names.filter_map(|line| line.split_whitespace().next()).filter(|n| *n != "help").collect();
    if names.is_empty() {
        return vec![words.to_vec()];
    }
    names.iter().flat_map(|name| commands(program, &[words, &[(*name).to_owned()]].concat())).collect()
}

/// A server that answers every request with the same bytes, which no well-behaved library would send.
struct Outside {
    url: String,
}

impl Outside {
    /// It runs until the test ends.
    fn start(answer: Vec<u8>) -> Outside {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let answer = answer.clone();
                std::thread::spawn(move || send(stream, &answer));
            }
        });
        Outside { url }
    }

    fn host(&self) -> &str {
        self.url.trim_start_matches("http://")
    }
}

/// Whoever asks may have had enough: errors do not matter.
fn send(mut stream: TcpStream, answer: &[u8]) {
    let (mut request, mut buffer) = (Vec::new(), [0; 4096]);
    drop(stream.set_read_timeout(Some(Duration::from_secs(5))));
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        request.extend_from_slice(&buffer[..count]);
        let text = String::from_utf8_lossy(&request).to_lowercase();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
        if body.len() >= length.unwrap_or(0) {
            break;
        }
    }
    drop(stream.write_all(answer));
}

fn response(status: &str, headers: &[(&str, &str)], body: &str) -> Vec<u8> {
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let length = body.len();
    format!("HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n{body}").into_bytes()
}

/// Everything that logs, registries and cosigners may say, each kind from a server of its own.
fn outsiders() -> Vec<Outside> {
    let text = format!("{HOSTILE}{FORGED}");
    let json_type = ("content-type", "application/json");
    let problem = json!({
        "type": format!("urn:taglog:problem:{text}"), "title": text, "detail": text, "status": 403, "message": text,
        "errors": [{ "code": text, "message": text, "detail": text }],
    });
    let about = json!({
        "origin": QUIET, "vkey": format!("{QUIET}+00000000+AAAA"), "vkeys": [text], "witnesses": [text],
        "name": text, "size": 1, "version": text, "tags": [text], "token": text, "mediaType": text,
    });
    let proof = json!({ "type": "taglog/tag-proof@v1", "checkpoint": text, "images": [{ "image": text }] });
    let hash = format!("{}=", "A".repeat(43));
    let note = format!("{QUIET}\n5\n{hash}\n\n— {QUIET} AAAAAAAA\n");
    let digest = format!("sha256:{QUIET}");
    [
        response(&format!("403 {QUIET}"), &[("content-type", "application/problem+json")], &problem.to_string()),
        response("500 x", &[json_type, ("retry-after", QUIET)], &problem.to_string()),
        response("401 x", &[("www-authenticate", &format!("Bearer realm=\"http://{QUIET}/\"")), json_type], &text),
        response("307 x", &[("location", &format!("http://other.example/{QUIET}"))], ""),
        response("200 x", &[json_type], &about.to_string()),
        response("200 x", &[json_type], &proof.to_string()),
        response("200 x", &[("content-type", "text/plain")], &note),
        response("200 x", &[("content-type", QUIET), ("docker-content-digest", &digest)], &text),
        response("409 x", &[("content-type", "text/x.tlog.size")], &text),
        response("422 x", &[("content-type", "text/plain")], &text),
        response(&format!("200 x\r\nheader: {HOSTILE}"), &[], &text),
        format!("{text}\r\n\r\n").into_bytes(),
    ]
    .map(Outside::start)
    .into()
}

/// A home with hostile files, an honest log, and everything outside.
struct Scene {
    home: TempDir,
    server: Server,
    witness: Witness,
    outsiders: Vec<Outside>,
    registry: HostileRegistry,
}

impl Scene {
    fn new() -> Scene {
        let witness = Witness::new(1);
        let server = Server::start(&[&witness], "");
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(server.add(&[witness.observe(APP, "a", now() - 100)]));
        let scene = Scene {
            home: tempfile::tempdir().unwrap(),
            server,
            witness,
            outsiders: outsiders(),
            registry: HostileRegistry::start(),
        };
        scene.write("key", &format!("{}\n", scene.witness.key.to_secret_string()));
        scene.write("trust", &format!("log {} {}\nquorum none\n", scene.server.vkey, scene.server.url));
        scene.write_files();
        scene
    }

    fn write(&self, name: &str, content: &str) -> String {
        let path = self.home.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Files that name images, in every format, some of them under hostile names.
    fn write_files(&self) {
        let escaped = "x\\u202e\\u200b\\x1b[31m\\nFORGED";
        for text in [HOSTILE, QUIET] {
            let docker = format!("FROM {text}\nFROM registry.example/{text}:1 AS {text}\nFROM ${{{text}}}\n# {text}\n");
            self.write(&format!("files/{text}/Dockerfile"), &docker);
            self.write(&format!("files/{text}.Dockerfile"), &docker);
            let pod = format!(
                "apiVersion: v1\nkind: Pod\nmetadata: {{name: {text:?}}}\nspec:\n  containers:\n  - image: \
                 \"registry.example/team/{escaped}:1\"\n  - image: \"{text}\"\n  - image: {APP}@{}\n",
                Digest::sha256(b"b")
            );
            self.write(&format!("files/{text}.yaml"), &pod);
            let compose = format!("services:\n  \"{text}\":\n    image: \"{text}\"\n  b:\n    image: \"{escaped}\"\n");
            self.write(&format!("files/{text}/compose.yaml"), &compose);
        }
        self.write("files/broken.yaml", &format!("a: [{QUIET}\n{QUIET}: *{QUIET}\n"));
    }

    fn home(&self) -> String {
        self.home.path().to_str().unwrap().to_owned()
    }

    /// One command, in the environment of this home and no other; on the way to the log in `trust`.
    fn command(&self, trust: &str, arguments: &[String]) -> Command {
        let mut command = Command::new(binary("taglog"));
        command.env_clear().env("HOME", self.home.path()).current_dir(self.home.path());
        command.env("TAGLOG_STATE", self.home.path().join("state")).env("TAGLOG_KEY", self.home.path().join("key"));
        command.env("TAGLOG_TRUST", trust).args(arguments);
        command
    }

    /// Tag proofs: a real one, of which texts were replaced by hostile ones, and what only looks like one.
    fn documents(&self) -> Vec<String> {
        let saved = self.home.path().join("saved.tagproof");
        let pinned = format!("{APP}@{}", Digest::sha256(b"a"));
        let save = ["verify", "--policy", "none", "--save", saved.to_str().unwrap(), &pinned].map(str::to_owned);
        let ran = run(&mut self.command(&format!("{}/trust", self.home()), &save));
        let proof = std::fs::read_to_string(&saved).unwrap_or_else(|error| panic!("{error}: {ran:?}"));
        let text = format!("{HOSTILE}{FORGED}");
        let quoted = Value::from(text.as_str()).to_string();
        let quoted = quoted.trim_matches('"');
        let hash = format!("{}=", "A".repeat(43));
        let entry = "x\u{202e}\u{1b}[2J\nFORGED";
        let contents = [
            text.clone(),
            proof.replace(APP, quoted),
            proof.replace("log.example/test", QUIET),
            proof.replace("witness.example", QUIET),
            proof.replace("taglog/", &format!("taglog/{quoted}")),
            format!("{QUIET}\n5\n{hash}\n\n— {QUIET} AAAAAAAA\n"),
            format!("{{\"type\":\"taglog/evidence/{quoted}\",\"checkpoints\":[{quoted:?}]}}"),
            format!("{{\"type\":\"taglog/misbehaviour@v1\",\"error\":\"{quoted}\",\"checkpoint\":\"{quoted}\"}}"),
            format!("{{\"{HOSTILE}\":1}}"),
            format!("taglog/{text}\n"),
            format!("taglog/observation@v1\nimage {QUIET}\ntag {QUIET}\n"),
            format!("c2sp.org/tlog-proof@v1\nextra {entry}\nindex {text}\n"),
        ];
        let write = |(i, content): (usize, &String)| self.write(&format!("document-{QUIET}-{i}"), content);
        contents.iter().enumerate().map(write).collect()
    }

    /// Configuration and policy files: broken ones, and ones with hostile values.
    fn configurations(&self) -> Vec<String> {
        let escaped = "x\\u202e\\u200b\\u001b[31m\\u009b2J\\nFORGED";
        let outside = &self.outsiders[0].url;
        let contents = [
            format!("{HOSTILE}{FORGED}"),
            format!("\"{escaped}\" = 1\n"),
            format!(
                "key = \"{escaped}\"\ntrust = \"{escaped}\"\nlog = \"{escaped}\"\nstate = \"{escaped}\"\nlisten = \"{escaped}\"\n"
            ),
            format!("[[rule]]\nrepositories = [\"{escaped}\"]\nwitnesses = [\"{escaped}\"]\n"),
            format!("[[rule]]\nrepositories = [\"**\"]\nmin-age = \"{escaped}\"\n"),
            format!("[[rule]]\nrepositories = [\"**\"]\n[[ignore]]\nimage = \"{escaped}\"\nreason = \"{escaped}\"\n"),
            format!(
                "key = \"key\"\nstate = \"state/w\"\n[[log]]\ntrust = \"{escaped}\"\n[[watch]]\nrepository = \"{escaped}\"\ntags = [\"{escaped}\"]\n"
            ),
            format!(
                "trust = \"trust\"\nlog = \"{outside}/{escaped}\"\nstate = \"state/m\"\n[[watch]]\nrepository = \"glob:{escaped}\"\n"
            ),
            format!(
                "trust = \"trust\"\nlog = \"{outside}\"\nstate = \"state/m\"\n[[sink]]\nkind = \"{escaped}\"\nname = \"{escaped}\"\n"
            ),
            format!("key = \"key\"\nstate = \"state/c\"\nlisten = \"127.0.0.1:0\"\n[[log]]\nvkey = [\"{escaped}\"]\n"),
        ];
        let write = |(i, content): (usize, &String)| self.write(&format!("configuration-{QUIET}-{i}.toml"), content);
        contents.iter().enumerate().map(write).collect()
    }

    /// Trust files: one for each log that lies, and ones that are none.
    fn trust_files(&self) -> Vec<String> {
        let vkey = &self.server.vkey;
        let of_logs = self.outsiders.iter().map(|log| format!("log {vkey} {}\nquorum none\n", log.url));
        let broken = [
            format!("{HOSTILE}{FORGED}"),
            format!("log {QUIET}\nquorum {QUIET}\n"),
            format!("log {vkey} http://{QUIET}/\nquorum none\n"),
            format!("log {vkey} {}\nwitness {QUIET} {QUIET}\nquorum {QUIET}\n", self.server.url),
        ];
        let contents: Vec<String> = of_logs.chain(broken).collect();
        let write = |(i, content): (usize, &String)| self.write(&format!("trust-{QUIET}-{i}"), content);
        contents.iter().enumerate().map(write).collect()
    }

    /// Images: misspelled ones, ones at registries that lie, and one that the log knows.
    fn images(&self) -> Vec<String> {
        let digest = Digest::sha256(b"a");
        let mut images =
            vec![HOSTILE.to_owned(), QUIET.to_owned(), format!("{APP}@{QUIET}"), format!("{APP}@{digest}")];
        images.extend(self.outsiders.iter().map(|registry| format!("{}/team/app:1", registry.host())));
        let manners = [
            ("page", ManifestResponse::Answers(FixedResponse::page(200))),
            (
                "claims",
                ManifestResponse::Answers(
                    FixedResponse::status(200).header("docker-content-digest", "sha256:nonsense"),
                ),
            ),
            (
                "media-type",
                ManifestResponse::Serves(json!({ "mediaType": HOSTILE, "schemaVersion": 2 }).to_string().into_bytes()),
            ),
        ];
        images.extend(manners.map(|(tag, manner)| self.registry.set(&format!("team/app:{tag}"), manner)));
        images
    }
}

/// What each command is run with, after its own words.
fn cases(scene: &Scene) -> BTreeMap<&'static str, Vec<Vec<String>>> {
    let line = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<String>>();
    let each = |before: &[&str], values: &[String]| -> Vec<Vec<String>> {
        values.iter().map(|value| [line(before), vec![value.clone()]].concat()).collect()
    };
    let after = |values: &[String], more: &[&str]| -> Vec<Vec<String>> {
        values.iter().map(|value| [vec![value.clone()], line(more)].concat()).collect()
    };
    let (images, documents, configurations) = (scene.images(), scene.documents(), scene.configurations());
    let urls: Vec<String> = scene.outsiders.iter().map(|log| log.url.clone()).collect();
    let locations = [urls.clone(), vec![format!("directory-{HOSTILE}"), format!("http://{QUIET}/")]].concat();
    let digest = Digest::sha256(b"a").to_string();
    let pinned = format!("{APP}@{digest}");
    let files = [line(&["files"]), line(&[&format!("absent-{HOSTILE}")]), line(&["files/broken.yaml"])].concat();
    let policies: Vec<Vec<String>> = configurations.iter().map(|policy| line(&["--policy", policy, &pinned])).collect();
    let text_report = format!("text=report-{HOSTILE}/x");
    BTreeMap::from([
        (
            "init",
            [after(&locations, &["--yes"]), after(&locations, &[]), vec![line(&["x", "--vkey", HOSTILE])]].concat(),
        ),
        ("keygen", vec![line(&[HOSTILE]), line(&["--cosigner", QUIET]), line(&["w.example/x", "--key", HOSTILE])]),
        (
            "observe",
            [each(&[], &images), vec![line(&["--digest", QUIET, APP]), line(&["--key", HOSTILE, APP])]].concat(),
        ),
        (
            "verify",
            [
                each(&[], &images),
                each(&["-f"], &files),
                each(&["--print-digest", "-f"], &files),
                each(&["--output", "github", "-f"], &files),
                each(&["--offline"], &documents),
                policies.clone(),
                vec![line(&["--platform", HOSTILE, APP]), line(&["--report", &text_report, &pinned])],
                vec![line(&["--moving", HOSTILE, "--witness", HOSTILE, APP])],
            ]
            .concat(),
        ),
        (
            "approve",
            [after(&images, &["--reason", HOSTILE]), vec![line(&[&pinned, "--reason", QUIET, "--by", QUIET])]].concat(),
        ),
        ("policy check", [each(&[], &configurations), vec![line(&[HOSTILE])]].concat()),
        ("policy explain", [policies, each(&[], &images)].concat()),
        ("pin", [each(&["--dry-run", "-f"], &files), each(&["--check", "-f"], &files)].concat()),
        ("history", [each(&[], &images), vec![line(&["--log", HOSTILE, APP])]].concat()),
        ("inspect", [each(&[], &documents), vec![line(&[&format!("absent-{HOSTILE}")])]].concat()),
        ("audit", [each(&[], &locations), vec![line(&[])]].concat()),
        ("search", vec![line(&[QUIET]), line(&["--log", QUIET, &digest])]),
        ("witness run", each(&["--once", "--config"], &configurations)),
        ("witness check-config", each(&["--config"], &configurations)),
        ("witness status", each(&["--config"], &configurations)),
        ("witness import", each(&["-f"], &files)),
        (
            "mirror",
            [
                after(&locations, &["--directory", &format!("mirror-{HOSTILE}")]),
                vec![line(&["--check", "--directory", &format!("mirror-{HOSTILE}")])],
                vec![line(&[&urls[0], "--interval", "1s", "--directory", &format!("mirror-{HOSTILE}")])],
            ]
            .concat(),
        ),
        ("cosign serve", each(&["--config"], &configurations)),
        ("evidence verify", each(&[], &documents)),
        ("evidence compare", [each(&["--with"], &locations), each(&["--checkpoint"], &documents)].concat()),
        ("evidence from-proof", [each(&[], &documents), each(&[&documents[1], "--from"], &locations)].concat()),
        ("monitor", each(&["--once", "--config"], &configurations)),
        ("monitor check-config", each(&["--config"], &configurations)),
        ("monitor test-alert", each(&["--config"], &configurations)),
        ("completions", [vec![line(&[QUIET])], ["bash", "zsh", "fish"].map(|shell| line(&[shell])).to_vec()].concat()),
        ("man", vec![line(&[&format!("absent-{HOSTILE}/x")])]),
    ])
}

/// A command under test is one that the program lists; a new one has to be given its cases here.
#[test]
fn no_command_of_taglog_writes_a_forbidden_character() {
    let scene = Scene::new();
    let cases = cases(&scene);
    let mut listed: BTreeSet<String> = commands("taglog", &[]).iter().map(|words| words.join(" ")).collect();
    // It has subcommands, and runs without one.
    listed.insert("monitor".to_owned());
    let covered: BTreeSet<String> = cases.keys().map(|name| (*name).to_owned()).collect();
    assert_eq!(listed, covered, "every command has cases, and no other");
    let honest = format!("{}/trust", scene.home());
    for (name, lines) in &cases {
        let words: Vec<String> = name.split(' ').map(str::to_owned).collect();
        let check = |trust: &str, more: &[String]| {
            let arguments = [&words[..], &["--timeout".to_owned(), "2".to_owned()], more].concat();
            let ran = run(&mut scene.command(trust, &arguments));
            ran.check(&(&arguments, trust));
            ran.shows_escapes()
        };
        let shown = lines.iter().filter(|more| check(&honest, more)).count();
        assert!(shown > 0, "{name}: nothing hostile was shown at all");
        assert!(check(&honest, &[format!("--absent-{HOSTILE}")]), "{name}");
        check(&honest, &["--trust".to_owned(), HOSTILE.to_owned()]);
    }
}

/// Each log that lies, and each trust file that is none, under every command that asks a log.
#[test]
fn no_log_and_no_trust_file_makes_a_command_write_a_forbidden_character() {
    let scene = Scene::new();
    let digest = Digest::sha256(b"a").to_string();
    let pinned = format!("{APP}@{digest}");
    let documents = scene.documents();
    let lines: [&[&str]; 12] = [
        &["verify", "--policy", "none", &pinned],
        &["verify", "--offline", &documents[2]],
        &["history", APP],
        &["observe", "--digest", &digest, APP],
        &["approve", &pinned, "--reason", "x"],
        &["policy", "explain", &pinned],
        &["inspect", &documents[5]],
        &["audit"],
        &["search", &digest],
        &["evidence", "verify", &documents[6]],
        &["evidence", "compare"],
        &["mirror", "--directory", "mirror"],
    ];
    let mut shown = 0;
    for trust in scene.trust_files() {
        for line in lines {
            let arguments: Vec<String> =
                line.iter().chain(&["--timeout", "2"]).map(|word| (*word).to_owned()).collect();
            let ran = run(&mut scene.command(&trust, &arguments));
            ran.check(&(&arguments, std::fs::read_to_string(&trust)));
            shown += usize::from(ran.shows_escapes());
        }
    }
    assert!(shown >= lines.len(), "hostile text was shown {shown} times only");
}

#[test]
fn no_command_of_taglog_server_writes_a_forbidden_character() {
    let home = tempfile::tempdir().unwrap();
    let listed: BTreeSet<String> = commands("taglog-server", &[]).iter().map(|words| words.join(" ")).collect();
    assert_eq!(listed, BTreeSet::from(["init", "run"].map(str::to_owned)), "a new command needs cases here");
    let server = |arguments: &[&str]| {
        let mut command = Command::new(binary("taglog-server"));
        command.env_clear().current_dir(home.path()).args(arguments);
        run(&mut command)
    };
    let origin = ["--origin", "log.example/x"];
    let cases: [(&[&str], bool); 10] = [
        (&["init", HOSTILE, origin[0], origin[1]], true),
        (&["init", HOSTILE, origin[0], origin[1]], true),
        (&["init", "other", "--origin", QUIET], true),
        (&["run", "--data", &format!("absent-{HOSTILE}")], true),
        (&["run", "--data", HOSTILE, "--config", QUIET], true),
        (&["run", "--data", HOSTILE, "--listen", QUIET], true),
        (&["run", "--data", HOSTILE, "--listen", "127.0.0.1:0", "--witness", QUIET], true),
        (&["run", "--data", HOSTILE, "--listen", "127.0.0.1:0", "--without-cosigner", QUIET], false),
        (&[HOSTILE], true),
        (&["run", &format!("--absent-{HOSTILE}")], true),
    ];
    for (arguments, shows) in cases {
        let ran = server(arguments);
        ran.check(&arguments);
        assert!(ran.shows_escapes() || !shows, "{arguments:?}: {ran:?}");
    }
    let escaped = "x\\u202e\\u200b\\u001b[31m\\u009b2J\\nFORGED";
    for (i, config) in [
        format!("{HOSTILE}{FORGED}"),
        format!("\"{escaped}\" = 1\n"),
        format!("witnesses = [\"{escaped}\"]\n"),
        format!("listen = \"{escaped}\"\n"),
        format!("policy = \"{escaped}\"\n"),
    ]
    .iter()
    .enumerate()
    {
        let path = home.path().join(format!("{i}.toml"));
        std::fs::write(&path, config).unwrap();
        let ran = server(&["run", "--data", HOSTILE, "--config", path.to_str().unwrap()]);
        ran.check(config);
        assert!(ran.shows_escapes(), "{config:?}: {ran:?}");
    }
}

/// What a cosigner answers reaches the server's messages and its log.
#[test]
fn no_cosigner_makes_the_server_write_a_forbidden_character() {
    let mut shown = 0;
    for outside in outsiders() {
        let data = DataDirectory::with(&[&Witness::new(1)], "policy = \"policy\"");
        data.write_policy(&policy(&outside));
        let ran = run(data.run_command().env("RUST_LOG", "debug,hyper=warn,hyper_util=warn"));
        ran.check(&outside.url);
        shown += usize::from(ran.shows_escapes());
    }
    assert!(shown > 0, "no answer of a cosigner was shown");
}

/// A policy with one cosigner at this address, whose key nobody has.
fn policy(outside: &Outside) -> String {
    let key = taglog_proto::cosignature::CosignerSigningKey::from_seed(
        "cosigner.example/w",
        taglog_proto::cosignature::Algorithm::Ed25519,
        &[7; 32],
    );
    format!("witness one {} {}\nquorum one\n", key.unwrap().key(), outside.url)
}
