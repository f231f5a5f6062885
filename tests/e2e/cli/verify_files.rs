//! `taglog verify -f`: every file format that names images, in one command and one look-up; real log, real registry.

use std::sync::{Arc, Mutex};

use taglog_proto::{entry::Seen, name::Digest};
use taglog_tests::cli_fixture::{User, add, pinned, proxy::Proxy};
use taglog_tests::{
    Registry, Server, Witness,
    hostile_registry::{HostileRegistry, ManifestResponse, manifest_digest},
    push_image,
    registry::push_index,
    witness::{digest, now},
};

const DAY: i64 = 86_400;
/// Images of an unreachable registry: their digests are given.
const FIXED: &str = "registry.example/team/fixed:1.0";
const MOVED: &str = "registry.example/team/moved:1.0";

/// A log, a registry, and a user who deploys from files.
struct FilesFixture {
    user: User,
    server: Server,
    registry: Registry,
    witness: Witness,
}

impl FilesFixture {
    /// The witness has seen `app:1.0` and `web:2.0` for three days.
    fn new() -> FilesFixture {
        let witness = Witness::new(1);
        let server = Server::start(&[&witness], "");
        let user = User::trusting(&server);
        // What is by default.
        std::fs::remove_file(user.path("taglog.toml")).unwrap();
        let fixture = FilesFixture { user, server, registry: Registry::start(), witness };
        fixture.push_and_log("team/app", "1.0", "app");
        fixture.push_and_log("team/web", "2.0", "web");
        fixture
    }

    fn push_and_log(&self, path: &str, tag: &str, content: &str) -> Digest {
        let digest = push_image(&self.registry, path, tag, content);
        self.log(&self.name(path, tag), digest, 3 * DAY);
        digest
    }

    fn log(&self, name: &str, digest: Digest, age: i64) {
        add(&self.server, &[self.witness.see(name, Seen::Digest(digest), now() - age)]);
    }

    fn name(&self, path: &str, tag: &str) -> String {
        format!("{}:{tag}", self.registry.repository(path))
    }

    /// Files of four kinds that name the two images.
    fn write_files(&self) {
        let (app, web) = (self.name("team/app", "1.0"), self.name("team/web", "2.0"));
        self.user.write(
            "Dockerfile",
            format!("# builds\nARG BASE={app}\nFROM $BASE AS build\nFROM scratch\nCOPY --from=build / /\n"),
        );
        self.user.write("compose.yaml", format!("services:\n  web:\n    image: {web}\n  app:\n    image: \"{app}\"\n"));
        for directory in ["k8s", ".github", ".github/workflows"] {
            std::fs::create_dir_all(self.user.path(directory)).unwrap();
        }
        self.user.write("k8s/pod.yaml", pod(&[&web]));
        let workflow =
            format!("on: push\njobs:\n  test:\n    runs-on: ubuntu-latest\n    container: {app}\n    steps: []\n");
        self.user.write(".github/workflows/ci.yml", workflow);
    }
}

/// A pod whose containers have these images, the first of them in line 8.
fn pod(images: &[&str]) -> String {
    let container = |image: &&str| format!("  - name: c\n    image: {image}\n");
    let containers: String = images.iter().map(container).collect();
    format!("apiVersion: v1\nkind: Pod\nmetadata:\n  name: p\nspec:\n  containers:\n{containers}")
}

/// Where files name the image of a row.
fn places(row: &serde_json::Value) -> Vec<String> {
    let places = row["places"].as_array().unwrap().iter();
    places.map(|place| format!("{}:{}", place["file"].as_str().unwrap(), place["line"])).collect()
}

#[test]
fn all_file_formats_are_verified_in_one_lookup() {
    let fixture = FilesFixture::new();
    fixture.write_files();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&asked);
    let proxy = Proxy::asking(&fixture.server, move |path, body| {
        seen.lock().unwrap().push(path.to_owned());
        body
    });
    let files = ["-f", "Dockerfile", "-f", "compose.yaml", "-f", "k8s", "--file", "."];
    let ran = fixture.user.run(&[&["verify", "--log", &proxy.url][..], &files].concat()).exits(0);
    let (app, web) = (fixture.name("team/app", "1.0"), fixture.name("team/web", "2.0"));
    for image in [&app, &web] {
        assert_eq!(ran.stdout.matches(&format!("ok          {image} ")).count(), 1, "each image once: {ran:?}");
    }
    assert_eq!(*asked.lock().unwrap(), ["/api/v1/lookup"], "one look-up, and nothing else");

    let answer = fixture.user.run_json(&[&["verify"][..], &files].concat()).exits(0).json();
    let places: Vec<String> = answer["images"].as_array().unwrap().iter().flat_map(places).collect();
    for place in ["Dockerfile:3", "compose.yaml:3", "compose.yaml:5", "k8s/pod.yaml:8", "./.github/workflows/ci.yml:5"]
    {
        assert!(places.iter().any(|found| found == place), "{place}: {places:?}");
    }

    // One that fails names the places that must be changed.
    fixture.log(&web, digest("evil"), DAY);
    let answer = fixture.user.run_json(&[&["verify"][..], &files].concat()).exits(1).json();
    let rows = answer["images"].as_array().unwrap();
    let row = rows.iter().find(|row| row["verdict"] == "retagged").unwrap_or_else(|| panic!("{answer}"));
    assert_eq!(row["image"], *web);
    assert_eq!(self::places(row), ["compose.yaml:3", "k8s/pod.yaml:8"], "each once, though it is named and walked");
    // Why the move is not explained is said once and in short.
    let reason = row["reason"].as_str().unwrap();
    let evil = digest("evil").to_string();
    let says =
        format!("{}@{}… is not available: the log does not keep it; ", web.rsplit_once(':').unwrap().0, &evil[..19]);
    assert!(reason.matches(&says).count() == 1 && reason.ends_with(" does not have it"), "{reason}");
    assert!(!reason.contains(&evil), "{reason}");
}

#[test]
fn each_image_is_requested_once_and_only_by_head() {
    let witness = Witness::new(1);
    let server = Server::start(&[&witness], "");
    let registry = HostileRegistry::start();
    let images: Vec<String> =
        (0..40).map(|i| registry.set(&format!("team/app:{i}"), ManifestResponse::serves(&i.to_string()))).collect();
    let note =
        |(i, name): (usize, &String)| witness.see(name, Seen::Digest(manifest_digest(&i.to_string())), now() - 3 * DAY);
    add(&server, &images.iter().enumerate().map(note).collect::<Vec<_>>());
    let user = User::trusting(&server);
    let names: Vec<&str> = images.iter().map(String::as_str).collect();
    user.write("a.yaml", pod(&names));
    user.write("b.yaml", pod(&names[20..]));
    let answer = user.run_json(&["verify", "-f", "a.yaml", "-f", "b.yaml"]).exits(0).json();
    assert_eq!(answer["images"].as_array().unwrap().len(), 40);
    let requests = registry.seen();
    assert!(requests.iter().all(|request| request.method == "HEAD"), "{requests:?}");
    assert_eq!(requests.len(), 40, "{requests:?}");
}

#[test]
fn standard_input_and_undeterminable_images() {
    let fixture = FilesFixture::new();
    let app = fixture.name("team/app", "1.0");
    let from_input = |text: &str| fixture.user.run_with_input(&["verify", "-f", "-"], text.as_bytes());
    from_input(&format!("FROM {app}\n")).exits(0).prints(&["ok ", &app, "-:1"]);
    // With Windows line ends and a byte order mark.
    from_input(&format!("\u{feff}FROM scratch\r\nFROM {app}\r\n")).exits(0).prints(&["-:2"]);
    // A variable without a value.
    let unknown = format!("FROM {app}\nARG V\nFROM busybox:$V\n");
    from_input(&unknown).exits(2).prints(&["ok ", &app, "-:3"]);
    from_input("FROM busybox:$V\n").exits(2).prints(&["-:1"]);
    let answer = fixture.user.run_with_input(&["verify", "-f", "-", "--output", "json"], unknown.as_bytes()).exits(2);
    assert!(answer.json()["errors"][0].as_str().unwrap().contains("-:3"), "{answer:?}");
    // What cannot be retagged is said, and keeps nothing back.
    let by_digest = format!("FROM {app}\nFROM registry.example/x@{}\n", digest("x"));
    from_input(&by_digest).exits(0).prints(&["names no tag", "-:2"]);
    // No file of images at all.
    for (bad, says) in [
        ("a: [", "broken YAML"),
        ("spec: {{ .Values }}\nkind: Pod\n", "not rendered"),
        ("hello: 1\n", "no kind of file"),
    ] {
        from_input(bad).exits(2).has_empty_stdout().prints(&[says]);
    }
    fixture.user.run(&["verify", "-f", "nowhere.yaml"]).exits(2).has_empty_stdout().prints(&["nowhere.yaml"]);
    fixture.user.run(&["verify"]).exits(2).has_empty_stdout();
    from_input("FROM scratch\n").exits(0);
}

/// The most severe result decides the exit code: a verdict, then an undeterminable image, then an unreachable registry
/// or log.
#[test]
fn the_most_severe_exit_code_wins() {
    let fixture = FilesFixture::new();
    let (app, down) = (fixture.name("team/app", "1.0"), "127.0.0.1:1/team/down:1.0");
    let (fails, cannot_be_told) = (format!("FROM {}\n", pinned(&app, "evil")), "FROM busybox:$V\n");
    let (passes, cannot_be_asked) = (format!("FROM {app}\n"), format!("FROM {down}\n"));
    let run = |parts: &[&str]| fixture.user.run_with_input(&["verify", "-f", "-"], parts.concat().as_bytes());
    run(&[&passes]).exits(0);
    run(&[&passes, &cannot_be_asked]).exits(3).prints(&[down, "-:2", "ok "]);
    run(&[&passes, &cannot_be_asked, cannot_be_told]).exits(2).prints(&[down, "-:3"]);
    run(&[&passes, &cannot_be_asked, cannot_be_told, &fails]).exits(1).prints(&["mismatch", down, "-:3", "-:4"]);
}

#[test]
fn the_same_image_with_and_without_digest() {
    let fixture = FilesFixture::new();
    let app = fixture.name("team/app", "1.0");
    let served = push_image(&fixture.registry, "team/app", "1.0", "app");
    fixture.user.write("Dockerfile", format!("FROM {app}\nFROM {app}@{served}\nFROM {}\n", pinned(&app, "evil")));
    let answer = fixture.user.run_json(&["verify", "-f", "Dockerfile"]).exits(1).json();
    let rows = answer["images"].as_array().unwrap();
    let verdicts: Vec<_> =
        rows.iter().map(|row| (row["verdict"].as_str().unwrap(), row["places"][0]["line"].as_u64().unwrap())).collect();
    assert_eq!(verdicts, [("ok", 1), ("ok", 2), ("mismatch", 3)]);
}

#[test]
fn files_are_verified_offline() {
    let fixture = FilesFixture::new();
    fixture.write_files();
    add(&fixture.server, &[fixture.witness.observe(FIXED, "f", now() - 3 * DAY)]);
    let pinned = pinned(FIXED, "f");
    fixture.user.write("more.Dockerfile", format!("FROM {pinned}\n"));
    let bundle = fixture.user.argument("deploy.tagproof");
    let files = ["-f", "compose.yaml", "-f", "k8s", "-f", "more.Dockerfile"];
    let verify = |more: &[&str]| fixture.user.run(&[&["verify"], more, &files].concat());
    verify(&["--save", &bundle]).exits(0);
    let FilesFixture { user, server, registry, .. } = fixture;
    drop((server, registry));
    std::fs::remove_dir_all(user.path("state")).unwrap();

    let verify = |more: &[&str]| user.run(&[&["verify", "--offline", &bundle], more].concat());
    let ran = verify(&files).exits(0).prints(&["compose.yaml:3", "compose.yaml:3 +1", "more.Dockerfile:1", "s old"]);
    assert_eq!(ran.stdout.matches("ok ").count(), 3, "{ran:?}");
    verify(&[]).exits(0);
    // A file that changed since.
    user.write("k8s/pod.yaml", pod(&[&taglog_tests::cli_fixture::pinned(FIXED, "evil")]));
    verify(&files).exits(1).prints(&["mismatch", "k8s/pod.yaml:8"]);
    user.write("k8s/pod.yaml", pod(&["registry.example/team/added:1.0"]));
    verify(&files).exits(2).has_empty_stdout().prints(&["has no proof of", "team/added:1.0", "k8s/pod.yaml:8"]);
    user.write("empty.Dockerfile", "FROM scratch\n");
    let ran = verify(&["-f", "empty.Dockerfile"]).exits(0);
    assert!(!ran.stdout.contains("ok "), "a file that names nothing asks about nothing: {ran:?}");
}

#[test]
fn a_platform_manifest_of_a_logged_index_passes() {
    let fixture = FilesFixture::new();
    let (index, platforms) =
        push_index(&fixture.registry, "team/multi", "1.0", &[("amd64", "intel"), ("arm64", "arm")]);
    let multi = fixture.name("team/multi", "1.0");
    fixture.log(&multi, index, 3 * DAY);
    let [intel, arm] = [platforms[0], platforms[1]].map(|digest| format!("{multi}@{digest}"));
    let verify = |more: &[&str]| fixture.user.run(&[&["verify"], more].concat());
    verify(&[&multi]).exits(0).prints(&["ok "]);
    verify(&[&intel]).exits(1).prints(&["mismatch"]);
    verify(&["--platform", "linux/amd64", &intel]).exits(0).prints(&["ok ", "linux/amd64", &index.to_string()]);
    verify(&["--platform", "linux/arm64/v8", &arm]).exits(0).prints(&["ok "]);
    verify(&["--platform", "linux/arm64", &intel]).exits(1).prints(&["mismatch"]);
    verify(&["--platform", "linux/amd64", &pinned(&multi, "evil")]).exits(1).prints(&["mismatch"]);
    verify(&["--platform", "amd64", &intel]).exits(2).prints(&["linux/amd64"]);
    let printed = verify(&["--platform", "linux/amd64", "--print-digest", &intel]).exits(0).stdout;
    assert_eq!(printed, format!("{}@{}\n", fixture.registry.repository("team/multi"), platforms[0]));

    // A mirror that serves one platform alone.
    let file = fixture.user.argument("multi.tagproof");
    verify(&["--platform", "linux/arm64", "--save", &file, &arm]).exits(0);
    let FilesFixture { user, server, registry, .. } = fixture;
    drop((server, registry));
    user.run(&["verify", "--platform", "linux/arm64", "--offline", &file, &arm]).exits(0).prints(&["ok "]);
    user.run(&["verify", "--platform", "linux/amd64", "--offline", &file, &intel]).exits(0).prints(&["ok "]);
    user.run(&["verify", "--offline", &file, &arm]).exits(1).prints(&["mismatch"]);
}

#[test]
fn the_newest_digest_that_is_old_enough_is_printed() {
    let fixture = FilesFixture::new();
    let app = fixture.name("team/tool", "latest");
    let old = push_image(&fixture.registry, "team/tool", "latest", "old");
    fixture.log(&app, old, 3 * DAY);
    let new = push_image(&fixture.registry, "team/tool", "latest", "new");
    fixture.log(&app, new, 60);
    let repository = fixture.registry.repository("team/tool");
    let print = |more: &[&str]| fixture.user.run(&[&["verify", "--print-digest"], more, &[&app]].concat());
    assert_eq!(print(&[]).exits(0).stdout, format!("{repository}@{new}\n"));
    assert_eq!(print(&["--settled"]).exits(0).stdout, format!("{repository}@{old}\n"));
    assert_eq!(print(&["--settled", "--min-age", "10s"]).exits(0).stdout, format!("{repository}@{new}\n"));
    print(&["--settled", "--min-age", "7d"]).exits(1).has_empty_stdout().prints(&["new"]);
    // A tag that must not move has no newest digest to offer once it has moved.
    let fixed = fixture.name("team/app", "1.0");
    fixture.user.run(&["verify", "--print-digest", "--settled", &fixed]).exits(0);
    fixture.log(&fixed, digest("evil"), 2 * DAY);
    fixture
        .user
        .run(&["verify", "--print-digest", "--settled", &fixed])
        .exits(1)
        .has_empty_stdout()
        .prints(&["retagged"]);
    fixture.user.run(&["verify", "--settled", &fixed]).exits(2).prints(&["--print-digest"]);
}

#[test]
fn locked_accepts_only_digests_in_the_lock_file() {
    let fixture = FilesFixture::new();
    let (app, web) = (fixture.name("team/app", "1.0"), fixture.name("team/web", "2.0"));
    let served = push_image(&fixture.registry, "team/app", "1.0", "app");
    fixture.user.write("Dockerfile", format!("FROM {app}\n"));
    let locked = |more: &[&str]| fixture.user.run(&[&["verify", "--locked"], more].concat());
    locked(&["-f", "Dockerfile"]).exits(1).prints(&["taglog.lock has no digest", "taglog approve", "Dockerfile:1"]);
    let mut approved = String::new();
    let mut approve = |digest: Digest| {
        approved += &format!(
            "  {{ image = \"{app}\", digest = \"{digest}\", date = \"2026-11-24\", reason = \"looked at\" }},\n"
        );
        fixture.user.write("taglog.lock", format!("version = 1\napproved = [\n{approved}]\n"));
    };
    approve(served);
    locked(&["-f", "Dockerfile"]).exits(0).prints(&["ok "]);
    locked(&["-f", "Dockerfile", &web]).exits(1).prints(&[&web, "no digest"]);

    // The tag has moved: a person looks, and lets exactly that digest pass.
    let evil = push_image(&fixture.registry, "team/app", "1.0", "evil");
    fixture.log(&app, evil, 2 * DAY);
    fixture.user.run(&["verify", "-f", "Dockerfile"]).exits(1).prints(&["retagged"]);
    approve(evil);
    locked(&["-f", "Dockerfile"]).exits(0).prints(&["approved"]);
    let later = push_image(&fixture.registry, "team/app", "1.0", "later");
    fixture.log(&app, later, DAY + 60);
    locked(&["-f", "Dockerfile"]).exits(1).prints(&["retagged"]);
}

#[test]
fn the_policy_in_a_parent_directory_is_found_and_names_the_trust_file() {
    let fixture = FilesFixture::new();
    let app = fixture.name("team/app", "1.0");
    let mirror = HostileRegistry::start();
    let served = push_image(&fixture.registry, "team/app", "1.0", "app");
    let at_mirror = mirror
        .set("hub/team/app:1.0", ManifestResponse::Claims(served, taglog_tests::hostile_registry::DigestBody::Nothing));
    fixture.user.write("company.trust", fixture.user.read("trust"));
    fixture.user.write(
        "taglog.toml",
        format!(
            "trust = \"company.trust\"\n[mirrors]\n\"{}/hub/\" = \"{}/\"\n[[rule]]\nrepositories = [\"registry.example/**\"]\n\
             ignore = {{ reason = \"not logged yet\", until = \"2199-01-01\" }}\n",
            mirror.host, fixture.registry.host
        ),
    );
    std::fs::create_dir_all(fixture.user.path("deep/down")).unwrap();
    let run = |arguments: &[&str]| {
        let mut command = fixture.user.command(arguments);
        command.env_remove("TAGLOG_TRUST").current_dir(fixture.user.path("deep/down"));
        taglog_tests::cli_fixture::CommandOutput::of(arguments, command.output().unwrap())
    };
    run(&["verify", &app]).exits(0).prints(&["ok "]);
    run(&["verify", &at_mirror]).exits(0).prints(&["ok ", &at_mirror]);
    let printed = run(&["verify", "--print-digest", &at_mirror]).exits(0).stdout;
    assert_eq!(printed, format!("{}@{served}\n", mirror.name("hub/team/app")), "from where it was asked");
    let ignored = run(&["verify", &pinned(MOVED, "x")]).exits(0);
    ignored.prints(&["uncovered", "ignored until 2199-01-01", "not logged yet"]);
    run(&["verify", "--policy", "none", &pinned(MOVED, "x")]).exits(2).prints(&["taglog init"]);
}
