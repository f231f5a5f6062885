//! `taglog pin` writes digests into files, only those that verify, and changes no other byte; real log, real registry.

use std::{fs, os::unix::fs::PermissionsExt as _};

use taglog_proto::{entry::Seen, name::Digest};
use taglog_tests::cli_fixture::{User, add};
use taglog_tests::{
    Registry, Server, Witness, push_image,
    witness::{digest, now},
};

const DAY: i64 = 86_400;

/// A log, a registry, and a user with files.
struct PinFixture {
    user: User,
    server: Server,
    registry: Registry,
    witness: Witness,
}

impl PinFixture {
    fn new() -> PinFixture {
        let witness = Witness::new(1);
        let server = Server::start(&[&witness], "");
        let user = User::trusting(&server);
        PinFixture { user, server, registry: Registry::start(), witness }
    }

    /// Pushes an image, which the witness saw so many days ago.
    fn push(&self, tag: &str, content: &str, days: i64) -> (String, Digest) {
        let digest = push_image(&self.registry, "team/app", tag, content);
        let name = format!("{}:{tag}", self.registry.repository("team/app"));
        self.log(&name, digest, days);
        (name, digest)
    }

    fn log(&self, name: &str, digest: Digest, days: i64) {
        add(&self.server, &[self.witness.see(name, Seen::Digest(digest), now() - days * DAY)]);
    }

    /// The status of each name, from the JSON answer, with the exit code.
    fn statuses(&self, arguments: &[&str], code: i32) -> Vec<String> {
        let answer = self.user.run_json(&[&["pin"], arguments].concat()).exits(code).json();
        let images = answer["images"].as_array().unwrap();
        images.iter().map(|image| image["status"].as_str().unwrap().to_owned()).collect()
    }
}

#[test]
fn files_are_pinned_and_nothing_else_in_them_changes() {
    let fixture = PinFixture::new();
    let (app, digest) = fixture.push("1.0", "app", 3);
    let repository = app.strip_suffix(":1.0").unwrap();
    let (_, latest) = fixture.push("latest", "newest", 3);
    let dockerfile = format!("\u{feff}# {app}\r\nFROM  {app}  AS a\r\nCOPY --from={repository} / /\r\n");
    let compose = format!("services:\n  a: {{image: '{app}' }} # é\n  b:\n    image: \"{app}\"\n\n");
    let other = "services: {a: {build: .}}\n";
    fixture.user.write("Dockerfile", &dockerfile);
    fixture.user.write("compose.yaml", &compose);
    fixture.user.write("other.yaml", other);
    fs::set_permissions(fixture.user.path("compose.yaml"), fs::Permissions::from_mode(0o640)).unwrap();
    let untouched = fs::metadata(fixture.user.path("other.yaml")).unwrap().modified().unwrap();

    // What is not pinned is told with its place, and nothing is written.
    let files = ["-f", "Dockerfile", "-f", "."];
    let check = fixture.user.run(&[&["pin", "--check"][..], &files].concat()).exits(1);
    check.prints(&["Dockerfile:2: not pinned:", "Dockerfile:3: not pinned:", "./compose.yaml:4: not pinned:"]);
    let dry = fixture.user.run(&[&["pin", "--dry-run"][..], &files].concat()).exits(0);
    assert!(dry.stdout.contains(&format!("-  a: {{image: '{app}' }} # é\n")), "{dry:?}");
    assert!(dry.stdout.contains(&format!("+  a: {{image: '{app}@{digest}' }} # é\n")), "{dry:?}");
    assert_eq!(
        (fixture.user.read("Dockerfile"), fixture.user.read("compose.yaml")),
        (dockerfile.clone(), compose.clone())
    );

    let ran = fixture.user.run(&[&["pin"][..], &files].concat()).exits(0);
    ran.prints(&["Dockerfile:2: pinned: ", &format!("{app}@{digest}"), "ok: ", "Dockerfile:3: pinned: "]);
    let pinned = |text: &str| text.replace(&app, &format!("{app}@{digest}"));
    let head = format!("\u{feff}# {app}\r\nFROM  {app}@{digest}  AS a\r\n");
    assert_eq!(fixture.user.read("Dockerfile"), head + &format!("COPY --from={repository}:latest@{latest} / /\r\n"));
    assert_eq!(fixture.user.read("compose.yaml"), pinned(&compose));
    assert_eq!(fs::metadata(fixture.user.path("compose.yaml")).unwrap().permissions().mode() & 0o777, 0o640);
    assert_eq!(fs::metadata(fixture.user.path("other.yaml")).unwrap().modified().unwrap(), untouched);
    let left: Vec<_> = fs::read_dir(fixture.user.path(".")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().contains("taglog-pin")), "{left:?}");

    // Once more: everything is pinned, and nothing changes.
    fixture.user.run(&[&["pin", "--check"][..], &files].concat()).exits(0);
    assert_eq!(fixture.statuses(&files, 0), ["kept"; 4]);
    assert_eq!(fixture.user.read("compose.yaml"), pinned(&compose));
}

#[test]
fn if_one_image_does_not_verify_nothing_is_written() {
    let fixture = PinFixture::new();
    let (app, _) = fixture.push("1.0", "app", 3);
    let (moved, _) = fixture.push("2.0", "moved", 6);
    fixture.log(&moved, digest("evil"), 2);
    let (dockerfile, compose) = (format!("FROM {app}\n"), format!("services: {{a: {{image: {moved}}}}}\n"));
    fixture.user.write("Dockerfile", &dockerfile);
    fixture.user.write("compose.yaml", &compose);
    let files = ["-f", "Dockerfile", "-f", "compose.yaml"];
    let ran = fixture.user.run(&[&["pin"][..], &files].concat()).exits(1);
    ran.prints(&["compose.yaml:1: refused: ", "retagged", "nothing is written", "Dockerfile:1: to pin: "]);
    assert_eq!((fixture.user.read("Dockerfile"), fixture.user.read("compose.yaml")), (dockerfile.clone(), compose));

    // The same where a registry does not answer, and where a pin does not verify any more.
    fixture.user.write("compose.yaml", "services: {a: {image: '127.0.0.1:1/team/app:1.0'}}\n");
    fixture
        .user
        .run(&[&["pin"][..], &files].concat())
        .exits(3)
        .prints(&["compose.yaml:1: not answered", "nothing is written"]);
    let pin = format!("services: {{a: {{image: '{app}@{}'}}}}\n", digest("evil"));
    fixture.user.write("compose.yaml", &pin);
    fixture.user.run(&[&["pin"][..], &files].concat()).exits(1).prints(&["compose.yaml:1: refused: ", "mismatch"]);
    fixture.user.run(&["pin", "--check", "-f", "compose.yaml"]).exits(1).prints(&["compose.yaml:1: refused: "]);
    assert_eq!((fixture.user.read("Dockerfile"), fixture.user.read("compose.yaml")), (dockerfile, pin));
}

#[test]
fn a_pin_is_updated_where_the_tag_may_move_and_the_digest_has_settled() {
    let fixture = PinFixture::new();
    // The user's own policy asks for no age; without it a digest settles in 24 hours.
    fixture.user.write("taglog.toml", "");
    let (latest, old) = fixture.push("latest", "old", 6);
    let (fixed, first) = fixture.push("1.0", "first", 6);
    fixture.user.write("Dockerfile", format!("FROM {latest}@{old}\nFROM {fixed}@{first}\n"));
    let update = ["--update", "-f", "Dockerfile"];
    assert_eq!(fixture.statuses(&update, 0), ["kept", "kept"]);

    // A newer digest, seen for long enough.
    let (_, newer) = fixture.push("latest", "newer", 3);
    assert_eq!(fixture.statuses(&["-f", "Dockerfile"], 0), ["kept", "kept"], "only with --update");
    assert_eq!(
        fixture.statuses(&["--check", "-f", "Dockerfile"], 0),
        ["kept", "kept"],
        "moving on is what pins are for"
    );
    assert_eq!(fixture.statuses(&update, 0), ["updated", "kept"]);
    assert_eq!(fixture.user.read("Dockerfile"), format!("FROM {latest}@{newer}\nFROM {fixed}@{first}\n"));

    // The newest was seen a moment ago: it must settle first, and one that has settled since then is taken.
    let (_, next) = fixture.push("latest", "next", 2);
    let (_, newest) = fixture.push("latest", "newest", 0);
    let ran = fixture.user.run(&[&["pin"][..], &update].concat()).exits(0);
    ran.prints(&["Dockerfile:1: updated: ", &next.to_string(), &format!("{newest}, which has not settled yet")]);
    assert_eq!(fixture.statuses(&update, 0), ["kept", "kept"]);
    // A pin to what has not settled stays: updates only move forward.
    fixture.user.write("Dockerfile", format!("FROM {latest}@{newest}\n"));
    assert_eq!(fixture.statuses(&update, 0), ["kept"]);

    // A tag that may not move, and has: a person must look.
    fixture.user.write("Dockerfile", format!("FROM {latest}@{old}\nFROM {fixed}@{first}\n"));
    let (_, second) = fixture.push("1.0", "second", 2);
    assert_eq!(fixture.statuses(&update, 1), ["to-update", "refused"]);
    fixture.user.run(&["approve", &format!("{fixed}@{second}"), "--reason", "a release that was broken"]).exits(0);
    assert_eq!(fixture.statuses(&update, 0), ["updated", "updated"]);
    assert_eq!(fixture.user.read("Dockerfile"), format!("FROM {latest}@{next}\nFROM {fixed}@{second}\n"));
    assert_eq!(fixture.statuses(&["--check", "-f", "Dockerfile"], 0), ["kept", "kept"]);
}

#[test]
fn references_that_cannot_be_rewritten_are_reported_with_their_line() {
    let fixture = PinFixture::new();
    let (app, pinned) = fixture.push("1.0", "app", 3);
    let repository = app.strip_suffix(":1.0").unwrap();
    let text =
        format!("ARG V=1.0 X\nFROM {repository}:$V\nFROM {app}\nCOPY --from={repository}@{pinned} / /\nFROM $X\n");
    fixture.user.write("Dockerfile", &text);
    let ran = fixture.user.run(&["pin", "-f", "Dockerfile"]).exits(1);
    ran.prints(&[
        &format!("Dockerfile:2: by hand: {app}@{pinned}"),
        "Dockerfile:3: pinned: ",
        "Dockerfile:4: digest alone: ",
        "Dockerfile:5: variable X has no value",
    ]);
    assert_eq!(
        fixture.user.read("Dockerfile"),
        text.replace(&format!("FROM {app}\n"), &format!("FROM {app}@{pinned}\n"))
    );
    // What a build says of its variables counts.
    let build = ["--build-arg", &format!("V=1.0@{pinned}"), "--build-arg", &format!("X={app}@{pinned}")];
    fixture.user.run(&[&["pin", "--check", "-f", "Dockerfile"][..], &build].concat()).exits(0);
    fixture.user.write("Dockerfile", format!("ARG X\nFROM {app}\nFROM $X\n"));
    fixture
        .user
        .run(&["pin", "-f", "Dockerfile"])
        .exits(2)
        .prints(&["Dockerfile:2: pinned", "Dockerfile:3: variable X"]);
}

#[test]
fn standard_input_is_rewritten_to_standard_output() {
    let fixture = PinFixture::new();
    let (app, digest) = fixture.push("1.0", "app", 3);
    let rollout = format!(
        "apiVersion: deploy.example/v1alpha1\nkind: Rollout\nspec:\n  template:\n    spec:\n      containers:\n      - image: {app}\n"
    );
    let filter = |arguments: &[&str], text: &str| {
        fixture.user.run_with_input(&[&["pin", "-f", "-"], arguments].concat(), text.as_bytes())
    };
    let ran = filter(&["--crd", "deploy.example/Rollout:spec.template.spec"], &rollout).exits(0);
    assert_eq!(ran.stdout, rollout.replace(&app, &format!("{app}@{digest}")));
    assert!(ran.stderr.contains("-:7: pinned: "), "{ran:?}");
    // Nothing that is not pinned as a whole goes on to the next program.
    filter(&[], &rollout)
        .exits(2)
        .has_empty_stdout()
        .prints(&["-:7: ", "--crd deploy.example/Rollout:spec.template.spec"]);
    filter(&[], &format!("FROM {app}0\n")).exits(3).has_empty_stdout();
    filter(&[], "a: [\n").exits(2).has_empty_stdout();
    filter(&["--output", "json"], "FROM a\n").exits(2).has_empty_stdout();
    filter(&["-f", "Dockerfile"], "FROM a\n").exits(2).has_empty_stdout();
    filter(&["--check"], &format!("FROM {app}@{digest}\n")).exits(0).prints(&["-:1: kept: "]);
    let nothing = filter(&[], "FROM scratch\n").exits(0).prints(&["nothing to pin"]);
    assert_eq!(nothing.stdout, "FROM scratch\n");
}

#[test]
fn broken_files_and_wrong_usage_change_nothing() {
    let fixture = PinFixture::new();
    let (app, _) = fixture.push("1.0", "app", 3);
    let dockerfile = format!("FROM {app}\n");
    fixture.user.write("Dockerfile", &dockerfile);
    fixture.user.write("broken.yaml", "services: {a: {image: [}}\n");
    fixture.user.write("template.yaml", "apiVersion: v1\nkind: Pod\nspec: {{ .Values.spec }}\n");
    for (file, says) in [("broken.yaml", "broken.yaml:1"), ("template.yaml", "template.yaml:3"), ("none", "none:1")] {
        fixture.user.run(&["pin", "-f", "Dockerfile", "-f", file]).exits(2).prints(&[says]);
    }
    for wrong in [&["--check", "--update"][..], &["--crd", "Rollout"], &["--build-arg", "X"], &["--check", "--dry-run"]]
    {
        fixture.user.run(&[&["pin", "-f", "Dockerfile"], wrong].concat()).exits(2);
    }
    fixture.user.run(&["pin"]).exits(2);
    assert_eq!(fixture.user.read("Dockerfile"), dockerfile);
    // In a directory a file that is broken is passed over with a note, as everywhere.
    fixture.user.run(&["pin", "-f", "."]).exits(2).prints(&["./broken.yaml:1", "./Dockerfile:1: pinned"]);
}
