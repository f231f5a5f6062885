//! How `taglog verify` tells a rebuild from another change of a tag: real log, real registry, images with bases and
//! histories.

use std::{cell::RefCell, time::Duration};

use serde_json::{Value, json};
use taglog_proto::{entry::Seen, name::Digest};
use taglog_tests::cli_fixture::{User, add, wait};
use taglog_tests::{Registry, Server, Witness, witness::now};

const DAY: i64 = 86_400;
/// What is by default, and a base that may move.
const BASE_MOVES: &str = "[[rule]]\nrepositories = [\"**/team/base\"]\nexpect = \"moving\"\n";
const TYPES: &str = "application/vnd.oci.image";

/// An image as its builder knows it.
#[derive(Clone)]
struct BuiltImage {
    /// Content of each layer.
    layers: Vec<String>,
    /// What made each layer.
    steps: Vec<String>,
    entrypoint: String,
    annotations: Value,
}

/// A pushed image: its index, and the one manifest in it.
#[derive(Clone, Copy)]
struct PushedImage {
    index: Digest,
    manifest: Digest,
}

/// A log, a registry with images, and a user.
struct RebuildFixture {
    user: User,
    server: Server,
    registry: Registry,
    witness: Witness,
    http: reqwest::Client,
    /// Every manifest and configuration that was pushed, in an order in which a log takes them.
    documents: RefCell<Vec<Vec<u8>>>,
}

impl RebuildFixture {
    fn new() -> RebuildFixture {
        let witness = Witness::new(1);
        let server = Server::start(&[&witness], "");
        let user = User::trusting(&server);
        user.write("taglog.toml", BASE_MOVES);
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(30)).build().unwrap();
        RebuildFixture { user, server, registry: Registry::start(), witness, http, documents: RefCell::default() }
    }

    fn name(&self, path: &str) -> String {
        format!("{}:1.0", self.registry.repository(path))
    }

    /// Pushes an image, and logs it as seen so long ago.
    fn publish(&self, path: &str, image: &BuiltImage, age: i64) -> PushedImage {
        let pushed = self.push(path, image);
        add(&self.server, &[self.witness.see(&self.name(path), Seen::Digest(pushed.index), now() - age)]);
        pushed
    }

    fn push(&self, path: &str, image: &BuiltImage) -> PushedImage {
        let layers: Vec<Value> =
            image.layers.iter().map(|layer| self.blob(path, layer.as_bytes(), "layer.v1.tar")).collect();
        let diff_ids: Vec<&Value> = layers.iter().map(|layer| &layer["digest"]).collect();
        let history: Vec<Value> = image.steps.iter().map(|step| json!({ "created_by": step })).collect();
        let config = json!({
            "architecture": "amd64", "os": "linux", "created": format!("{}", now()), "history": history,
            "config": { "Env": ["PATH=/bin"], "Entrypoint": [image.entrypoint] },
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        let config = config.to_string().into_bytes();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": format!("{TYPES}.manifest.v1+json"), "layers": layers,
            "config": self.blob(path, &config, "config.v1+json"), "annotations": image.annotations,
        });
        let (manifest, bytes) = self.manifest(path, &manifest, None);
        let index = json!({
            "schemaVersion": 2, "mediaType": format!("{TYPES}.index.v1+json"),
            "manifests": [{
                "mediaType": format!("{TYPES}.manifest.v1+json"), "digest": manifest.to_string(), "size": bytes.len(),
                "platform": { "os": "linux", "architecture": "amd64" },
            }],
        });
        let (index, index_bytes) = self.manifest(path, &index, Some("1.0"));
        self.documents.borrow_mut().extend([index_bytes, bytes, config]);
        PushedImage { index, manifest }
    }

    /// Uploads a blob; its descriptor.
    fn blob(&self, path: &str, bytes: &[u8], kind: &str) -> Value {
        let digest = Digest::sha256(bytes).to_string();
        let base = format!("http://{}/v2/{path}/blobs/uploads/", self.registry.host);
        let begun = send(self.http.post(base));
        let location = begun.headers()["location"].to_str().unwrap();
        let upload = self.http.put(format!("{location}&digest={digest}")).body(bytes.to_vec());
        assert_eq!(send(upload).status(), 201);
        json!({ "mediaType": format!("{TYPES}.{kind}"), "digest": digest, "size": bytes.len() })
    }

    fn manifest(&self, path: &str, manifest: &Value, tag: Option<&str>) -> (Digest, Vec<u8>) {
        let bytes = manifest.to_string().into_bytes();
        let digest = Digest::sha256(&bytes);
        let reference = tag.map_or_else(|| digest.to_string(), str::to_owned);
        let url = format!("http://{}/v2/{path}/manifests/{reference}", self.registry.host);
        let kind = manifest["mediaType"].as_str().unwrap();
        let put = self.http.put(url).header("content-type", kind).body(bytes.clone());
        assert_eq!(send(put).status(), 201);
        (digest, bytes)
    }

    /// Gives the log all that was pushed.
    fn keep(&self) {
        for bytes in self.documents.borrow().iter() {
            let url = format!("{}/api/v1/manifests/{}", self.server.url, Digest::sha256(bytes));
            let status = send(self.http.put(url).body(bytes.clone())).status();
            assert!(status.is_success(), "{status}: {}", String::from_utf8_lossy(bytes));
        }
    }

    fn verify(&self, more: &[&str]) -> taglog_tests::cli_fixture::CommandOutput {
        self.user.run(&[&["verify", "--platform", "linux/amd64"], more].concat())
    }

    /// `team/app:1.0` on `team/base:1.0`, rebuilt after the base moved; and where both are now.
    fn rebuilt(&self) -> (BuiltImage, PushedImage) {
        let old = self.publish("team/base", &base("first"), 13 * DAY);
        self.publish("team/app", &self.on(&base("first"), old, "one"), 12 * DAY);
        let new = self.publish("team/base", &base("second"), 7 * DAY);
        let image = self.on(&base("second"), new, "two");
        (image.clone(), self.publish("team/app", &image, 6 * DAY))
    }

    /// An application on a base, built once more.
    fn on(&self, base: &BuiltImage, pushed: PushedImage, build: &str) -> BuiltImage {
        let mut image = base.clone();
        image.layers.push(format!("the application, build {build}"));
        image.steps.push("COPY app /app".to_owned());
        image.entrypoint = "/app".to_owned();
        image.annotations = json!({
            "org.opencontainers.image.base.name": self.name("team/base"),
            "org.opencontainers.image.base.digest": pushed.manifest.to_string(),
        });
        image
    }
}

fn send(request: reqwest::RequestBuilder) -> reqwest::Response {
    wait(async { request.send().await }).unwrap()
}

fn base(release: &str) -> BuiltImage {
    BuiltImage {
        layers: vec![format!("the base, {release} release")],
        steps: vec![format!("ADD {release} /")],
        entrypoint: "/bin/sh".to_owned(),
        annotations: json!({}),
    }
}

#[test]
fn a_rebuild_passes_with_a_warning_and_its_evidence() {
    let fixture = RebuildFixture::new();
    let (_, pushed) = fixture.rebuilt();
    let app = fixture.name("team/app");
    fixture.verify(&[&app]).exits(0).prints(&["rebuilt ", &app, "both logged", "not inspected"]);
    // For another platform there is nothing to compare.
    fixture.user.run(&["verify", "--platform", "linux/arm64", &app]).exits(1).prints(&["retagged", "linux/arm64"]);
    // A tag that its publisher promised never to move.
    fixture.user.write("taglog.toml", "[[rule]]\nrepositories = [\"**\"]\nexpect = \"immutable\"\n");
    fixture.verify(&[&app]).exits(1).prints(&["retagged"]);
    // A base that may not move is no base to follow; it fails by itself too, and has nothing to follow.
    std::fs::remove_file(fixture.user.path("taglog.toml")).unwrap();
    fixture.verify(&[&app]).exits(1).prints(&["retagged", "team/base:1.0 has moved, which policy does not allow"]);
    fixture.verify(&[&fixture.name("team/base")]).exits(1).prints(&["retagged", "does not name its base image"]);
    fixture.user.write("taglog.toml", BASE_MOVES);

    // Saved, it is judged again without anybody to ask; and the log alone is enough where it keeps the documents.
    let (file, pinned) = (fixture.user.argument("app.tagproof"), format!("{app}@{}", pushed.index));
    fixture.verify(&["--save", &file, &app]).exits(0);
    fixture.keep();
    let RebuildFixture { user, server, registry, .. } = fixture;
    drop(registry);
    user.run(&["verify", "--platform", "linux/amd64", &pinned]).exits(0).prints(&["rebuilt "]);
    drop(server);
    user.run(&["verify", "--platform", "linux/amd64", "--offline", &file, &pinned]).exits(0).prints(&["rebuilt "]);

    // Documents in it are not signed: a wrong one makes the file unusable, and proves no misbehaviour of the log.
    let saved = user.read("app.tagproof");
    let at = saved.find("\"bytes\":\"").unwrap() + "\"bytes\":\"".len();
    let other = if saved.as_bytes()[at] == b'A' { "B" } else { "A" };
    let damaged = user.write("damaged.tagproof", format!("{}{other}{}", &saved[..at], &saved[at + 1..]));
    let says = [&damaged[..], "has another digest", "save it again"];
    user.run(&["verify", "--offline", &damaged, &pinned]).exits(2).has_empty_stdout().prints(&says);
}

#[test]
fn changes_that_are_no_rebuild_fail_with_the_reason() {
    type Attack = fn(&mut BuiltImage);
    let attacks: [(&str, Attack); 4] = [
        ("its entrypoint changed", |image| image.entrypoint = "/evil".to_owned()),
        ("its history changed", |image| image.steps[1] = "COPY evil /app".to_owned()),
        ("its leading layers are not those of its base", |image| image.layers[0] = "an evil base".to_owned()),
        ("does not name its base image", |image| image.annotations = json!({})),
    ];
    let fixture = RebuildFixture::new();
    let old = fixture.publish("team/base", &base("first"), 13 * DAY);
    let before = fixture.on(&base("first"), old, "one");
    let new = fixture.publish("team/base", &base("second"), 7 * DAY);
    for (number, (why, attack)) in attacks.into_iter().enumerate() {
        let path = format!("team/app-{number}");
        fixture.publish(&path, &before, 12 * DAY);
        let mut evil = fixture.on(&base("second"), new, "two");
        attack(&mut evil);
        fixture.publish(&path, &evil, 6 * DAY);
        fixture.verify(&[&fixture.name(&path)]).exits(1).prints(&["retagged", why]);
    }
    // Quick is no excuse.
    fixture.publish("team/quick", &before, 5 * DAY);
    let mut evil = fixture.on(&base("second"), new, "two");
    evil.entrypoint = "/evil".to_owned();
    fixture.publish("team/quick", &evil, 4 * DAY);
    fixture.verify(&[&fixture.name("team/quick")]).exits(1).prints(&["retagged", "48 hours", "its entrypoint changed"]);
    // New layers on the same base, and a base that is not logged.
    fixture.publish("team/same", &before, 12 * DAY);
    fixture.publish("team/same", &fixture.on(&base("first"), old, "two"), 6 * DAY);
    fixture.verify(&[&fixture.name("team/same")]).exits(1).prints(&["retagged", "did not"]);
    fixture.publish("team/hidden", &before, 12 * DAY);
    let unlogged = fixture.push("team/base", &base("third"));
    fixture.publish("team/hidden", &fixture.on(&base("third"), unlogged, "two"), 6 * DAY);
    fixture.verify(&[&fixture.name("team/hidden")]).exits(1).prints(&["retagged", "is not logged"]);
}

/// After a rebuild and an approval of what is no rebuild, only the approved digest passes.
#[test]
fn a_rebuild_does_not_cover_later_changes() {
    let fixture = RebuildFixture::new();
    let (image, _) = fixture.rebuilt();
    let app = fixture.name("team/app");
    let mut evil = image;
    evil.entrypoint = "/evil".to_owned();
    fixture.publish("team/app", &evil, 5 * DAY);
    fixture.verify(&[&app]).exits(1).prints(&["retagged", "did not"]);
}
