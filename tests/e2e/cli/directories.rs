//! Directories, files of further tools, and the exceptions of `taglog.toml`, in `verify`, `pin` and `witness import`.

use std::os::unix::fs::symlink;

use serde_json::{Value, json};
use taglog_proto::entry::Seen;
use taglog_tests::cli_fixture::{User, add, pinned};
use taglog_tests::{
    Server, Witness,
    witness::{digest, now},
};

const DAY: i64 = 86_400;
const APP: &str = "registry.example/team/app:1.0";
/// An image of an unreachable registry, as one that is only built.
const BUILT: &str = "127.0.0.1:1/team/built:1.0";

/// A log that knows one image, and a user in an empty directory.
struct DirectoryFixture {
    user: User,
    _server: Server,
}

impl DirectoryFixture {
    fn new() -> DirectoryFixture {
        let witness = Witness::new(1);
        let server = Server::start(&[&witness], "");
        add(&server, &[witness.see(APP, Seen::Digest(digest("app")), now() - 3 * DAY)]);
        DirectoryFixture { user: User::trusting(&server), _server: server }
    }

    fn write(&self, name: &str, content: &str) {
        std::fs::create_dir_all(self.user.path(name).parent().unwrap()).unwrap();
        self.user.write(name, content);
    }

    fn exclude(&self, text: &str, until: &str) {
        let exclusion = format!("[[exclude]]\n{text}\nreason = 'reviewed'\nuntil = '{until}'\n");
        self.user.write("taglog.toml", exclusion);
    }
}

fn files(rows: &Value) -> Vec<&str> {
    rows.as_array().unwrap().iter().map(|row| row["file"].as_str().unwrap()).collect()
}

#[test]
fn a_directory_is_read_whole_or_what_is_not_read_is_named() {
    let fixture = DirectoryFixture::new();
    let image = pinned(APP, "app");
    fixture.write("d/.devcontainer/devcontainer.json", &format!("{{\n  // for all\n  \"image\": \"{image}\",\n}}\n"));
    fixture.write("d/.drone.yml", &format!("kind: pipeline\nsteps:\n- name: a\n  image: {image}\n"));
    fixture.write("d/app.container", &format!("[Container]\nImage={image}\n"));
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "spec": {"containers": [{"name": "c", "image": image}]}});
    fixture.write("d/pod.json", &pod.to_string());
    fixture.write("d/package.json", "{\"name\": \"x\"}");
    fixture.write("d/node_modules/x/Dockerfile", "FROM evil\n");
    fixture.write("other/Dockerfile", &format!("FROM {image}\n"));
    symlink("../other/Dockerfile", fixture.user.path("d/Dockerfile")).unwrap();
    let ran = fixture.user.run_json(&["verify", "-f", "d", "--verbose"]).exits(0);
    let mut places = files(&ran.json()["images"][0]["places"]).into_iter().map(str::to_owned).collect::<Vec<_>>();
    places.sort();
    let want = ["d/.devcontainer/devcontainer.json", "d/.drone.yml", "d/Dockerfile", "d/app.container", "d/pod.json"];
    assert_eq!(places, want);
    ran.prints(&["d/node_modules: skipped", "d/package.json: skipped"]);

    fixture.write("d/main.tf", "resource \"docker_image\" \"a\" {\n  name = \"x:1\"\n}\n");
    fixture.write("d/unknown.yaml", "app:\n  image: x/y:1\n");
    symlink("nowhere", fixture.user.path("d/gone.yaml")).unwrap();
    let answer = fixture.user.run_json(&["verify", "-f", "d"]).exits(2).json();
    assert_eq!(files(&answer["leftOut"]), ["d/main.tf", "d/unknown.yaml", "d/gone.yaml"]);
    fixture.user.run(&["witness", "import", "-f", "d"]).exits(2).prints(&[
        "repository = ",
        "main.tf:1",
        "witness.toml",
    ]);
    fixture.user.run(&["verify", "-f", "d/main.tf"]).exits(2).prints(&["a Terraform file is not read"]);
}

#[test]
fn nothing_found_is_no_success() {
    let fixture = DirectoryFixture::new();
    fixture.write("docs/readme.txt", "x");
    let commands: [&[&str]; 3] = [&["verify"], &["pin"], &["witness", "import"]];
    for command in commands {
        let ran = fixture.user.run(&[command, &["-f", "docs"]].concat()).exits(2).has_empty_stdout();
        ran.prints(&["docs", "no image was found", "--allow-empty"]);
        fixture.user.run(&[command, &["-f", "docs", "--allow-empty"]].concat()).exits(0);
        fixture.user.run_with_input(&[command, &["-f", "-"]].concat(), b"").exits(2).has_empty_stdout();
        fixture.user.run_with_input(&[command, &["-f", "-", "--allow-empty"]].concat(), b"").exits(0);
    }
    fixture.user.run(&["verify"]).exits(2).has_empty_stdout().prints(&["-f"]);
}

#[test]
fn exceptions_take_out_what_they_cover_and_are_listed() {
    let fixture = DirectoryFixture::new();
    fixture.write("k8s/Dockerfile", &format!("FROM {}\nFROM {BUILT}\nFROM x:$V\n", pinned(APP, "app")));
    fixture.write("k8s/broken.yaml", "a: [\n");
    let verify = |arguments: &[&str]| fixture.user.run(&[&["verify", "-f", "k8s"], arguments].concat());
    verify(&[]).exits(2);
    let all = "files = ['k8s/*.yaml']\nreason = 'rendered'\nuntil = '2999-01-01'\n[[exclude]]\nfiles = ['k8s/Dockerfile']\n\
               images = ['127.0.0.1:1/*']\nreason = 'built'\nuntil = '2999-01-01'\n[[exclude]]\nfiles = ['k8s/']\nlines = [3]";
    fixture.exclude(all, "2999-01-01");
    let answer = fixture.user.run_json(&["verify", "-f", "k8s"]).exits(0).json();
    assert_eq!(files(&answer["excluded"]), ["k8s/Dockerfile", "k8s/Dockerfile", "k8s/broken.yaml"], "{answer}");
    assert_eq!((&answer["excluded"][0]["what"], &answer["totals"]["excluded"]), (&json!(BUILT), &json!(3)));
    assert!(
        answer["excluded"][0]["reason"].as_str().unwrap().starts_with("built (excluded until 2999-01-01"),
        "{answer}"
    );
    for format in ["text", "sarif", "junit", "github"] {
        verify(&["--output", format]).exits(0).prints(&["rendered", "built", "reviewed", "k8s/broken.yaml"]);
    }
    // In another directory, by another way to the policy.
    let dockerfile = fixture.user.argument("k8s/Dockerfile");
    fixture.user.run(&["verify", "-f", &dockerfile]).exits(0).prints(&["excluded"]);
    // 'pin' touches nothing of it.
    let before = fixture.user.read("k8s/Dockerfile");
    fixture.user.run(&["pin", "-f", "k8s"]).exits(0).prints(&["kept", "k8s/Dockerfile:2: excluded"]);
    fixture.user.run(&["pin", "--check", "-f", "k8s"]).exits(0);
    assert_eq!(fixture.user.read("k8s/Dockerfile"), before);
    let import = fixture.user.run_json(&["witness", "import", "-f", "k8s"]).exits(0).json();
    assert_eq!((import["watch"].as_array().unwrap().len(), import["excluded"].as_array().unwrap().len()), (1, 3));
    fixture.user.run(&["policy", "check"]).exits(0).prints(&["3 exceptions"]);
    // An exception that has ended holds nothing back.
    fixture.exclude("files = ['k8s/']", "2020-01-01");
    verify(&[]).exits(2).prints(&["taglog.toml:1", "ended on 2020-01-01", "broken.yaml"]);
    fixture.user.run(&["policy", "check"]).exits(1).prints(&["'exclude' ended"]);
    fixture.user.write("taglog.toml", "[[exclude]]\nfiles = ['k8s/']\n");
    verify(&[]).exits(2).has_empty_stdout().prints(&["taglog.toml", "reason"]);
}

#[test]
fn ignored_images_need_no_registry() {
    let fixture = DirectoryFixture::new();
    fixture.write("Dockerfile", &format!("FROM {}\nFROM {BUILT}\n", pinned(APP, "app")));
    let run = |arguments: &[&str]| fixture.user.run(&[arguments, &["-f", "Dockerfile"]].concat());
    run(&["verify"]).exits(3);
    run(&["pin"]).exits(3);
    run(&["pin", "--check"]).exits(1);
    let rule =
        "[[rule]]\nrepositories = ['127.0.0.1:1/**']\nignore = { reason = 'built here', until = '2999-01-01' }\n";
    fixture.user.write("taglog.toml", rule);
    run(&["verify"]).exits(0).prints(&["unanswered", BUILT, "built here", "1 ignored"]);
    run(&["verify", "--print-digest"]).exits(3).has_empty_stdout().prints(&[BUILT]);
    run(&["pin"]).exits(0).prints(&["ignored", "built here"]);
    run(&["pin", "--check"]).exits(0).prints(&["ignored", "built here"]);
}

#[test]
fn reports_have_paths_of_the_repository() {
    let fixture = DirectoryFixture::new();
    fixture.write("repo/deploy/Dockerfile", &format!("FROM {}\n", pinned(APP, "evil")));
    std::fs::create_dir(fixture.user.path("repo/.git")).unwrap();
    for format in ["sarif", "junit", "github"] {
        let mut command = fixture.user.command(&["verify", "-f", "./Dockerfile", "--output", format]);
        let output = command.current_dir(fixture.user.path("repo/deploy")).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(
            output.status.code() == Some(1)
                && text.contains("\"deploy/Dockerfile\"") | text.contains("file=deploy/Dockerfile,"),
            "{text}"
        );
    }
}
