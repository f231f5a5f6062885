//! A tag that moved, and what `taglog verify` makes of it: real log, real registry, images with bases and histories.

// A test fails where it unwraps.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod cli_common;

use std::{cell::RefCell, time::Duration};

use cli_common::{User, add, wait};
use serde_json::{Value, json};
use taglog_proto::{entry::Seen, name::Digest};
use taglog_tests::{Registry, Server, Witness, witness::now};

const DAY: i64 = 86_400;
/// What is by default, and a base that may move.
const BASE_MOVES: &str = "[[rule]]\nrepositories = [\"**/team/base\"]\nexpect = \"moving\"\n";
const TYPES: &str = "application/vnd.oci.image";

/// An image as its builder knows it.
#[derive(Clone)]
struct Image {
    /// Content of each layer.
    layers: Vec<String>,
    /// What made each layer.
    steps: Vec<String>,
    entrypoint: String,
    annotations: Value,
}

/// A pushed image: its index, and the one manifest in it.
#[derive(Clone, Copy)]
struct Pushed {
    index: Digest,
    manifest: Digest,
}

/// A log, a registry with images in it, and somebody who deploys.
struct Scene {
    user: User,
    server: Server,
    registry: Registry,
    witness: Witness,
    http: reqwest::Client,
    /// Every manifest and configuration that was pushed, in an order in which a log takes them.
    documents: RefCell<Vec<Vec<u8>>>,
}

impl Scene {
    fn new() -> Scene {
        let witness = Witness::new(1);
        let server = Server::start(&[&witness], "");
        let user = User::trusting(&server);
        user.write("taglog.toml", BASE_MOVES);
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(30)).build().unwrap();
        Scene { user, server, registry: Registry::start(), witness, http, documents: RefCell::default() }
    }

    fn name(&self, path: &str) -> String {
        format!("{}:1.0", self.registry.repository(path))
    }

    /// Pushes an image, and logs it as seen so long ago.
    fn publish(&self, path: &str, image: &Image, age: i64) -> Pushed {
        let pushed = self.push(path, image);
        add(&self.server, &[self.witness.see(&self.name(path), Seen::Digest(pushed.index), now() - age)]);
        pushed
    }

    fn push(&self, path: &str, image: &Image) -> Pushed {
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
        Pushed { index, manifest }
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

    fn verify(&self, more: &[&str]) -> cli_common::Ran {
        self.user.run(&[&["verify", "--platform", "linux/amd64"], more].concat())
    }

    /// `team/app:1.0` on `team/base:1.0`, rebuilt after the base moved; and where both are now.
    fn rebuilt(&self) -> (Image, Pushed) {
        let old = self.publish("team/base", &base("first"), 13 * DAY);
        self.publish("team/app", &self.on(&base("first"), old, "one"), 12 * DAY);
        let new = self.publish("team/base", &base("second"), 7 * DAY);
        let image = self.on(&base("second"), new, "two");
        (image.clone(), self.publish("team/app", &image, 6 * DAY))
    }

    /// An application on a base, built once more.
    fn on(&self, base: &Image, pushed: Pushed, build: &str) -> Image {
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

fn base(release: &str) -> Image {
    Image {
        layers: vec![format!("the base, {release} release")],
        steps: vec![format!("ADD {release} /")],
        entrypoint: "/bin/sh".to_owned(),
        annotations: json!({}),
    }
}

#[test]
fn a_rebuild_passes_with_a_warning_and_says_what_was_found() {
    let scene = Scene::new();
    let (_, pushed) = scene.rebuilt();
    let app = scene.name("team/app");
    scene.verify(&[&app]).exits(0).says(&["rebuilt ", &app, "both logged", "not looked into"]);
    // For another platform there is nothing to compare.
    scene.user.run(&["verify", "--platform", "linux/arm64", &app]).exits(1).says(&["retagged", "linux/arm64"]);
    // A tag that its publisher promised never to move.
    scene.user.write("taglog.toml", "[[rule]]\nrepositories = [\"**\"]\nexpect = \"immutable\"\n");
    scene.verify(&[&app]).exits(1).says(&["retagged"]);
    // A base that may not move is no base to follow; it fails by itself too, and has nothing to follow.
    std::fs::remove_file(scene.user.path("taglog.toml")).unwrap();
    scene.verify(&[&app]).exits(1).says(&["retagged", "team/base:1.0 has moved, and policy does not say that it may"]);
    scene.verify(&[&scene.name("team/base")]).exits(1).says(&["retagged", "does not say on what it was built"]);
    scene.user.write("taglog.toml", BASE_MOVES);

    // Saved, it is judged again without anybody to ask; and the log alone is enough where it keeps the documents.
    let (file, pinned) = (scene.user.argument("app.tagproof"), format!("{app}@{}", pushed.index));
    scene.verify(&["--save", &file, &app]).exits(0);
    scene.keep();
    let Scene { user, server, registry, .. } = scene;
    drop(registry);
    user.run(&["verify", "--platform", "linux/amd64", &pinned]).exits(0).says(&["rebuilt "]);
    drop(server);
    user.run(&["verify", "--platform", "linux/amd64", "--offline", &file, &pinned]).exits(0).says(&["rebuilt "]);

    // A document in it is nobody's word: one that is not what it should be makes the file unusable, and convicts no log.
    let saved = user.read("app.tagproof");
    let at = saved.find("\"bytes\":\"").unwrap() + "\"bytes\":\"".len();
    let other = if saved.as_bytes()[at] == b'A' { "B" } else { "A" };
    let damaged = user.write("damaged.tagproof", format!("{}{other}{}", &saved[..at], &saved[at + 1..]));
    let says = [&damaged[..], "does not hash to that", "save it again"];
    user.run(&["verify", "--offline", &damaged, &pinned]).exits(2).prints_nothing().says(&says);
}

#[test]
fn what_is_no_rebuild_fails_and_says_why() {
    type Attack = fn(&mut Image);
    let attacks: [(&str, Attack); 4] = [
        ("its entrypoint changed", |image| image.entrypoint = "/evil".to_owned()),
        ("its history changed", |image| image.steps[1] = "COPY evil /app".to_owned()),
        ("its leading layers are not those of its base", |image| image.layers[0] = "an evil base".to_owned()),
        ("does not say on what it was built", |image| image.annotations = json!({})),
    ];
    let scene = Scene::new();
    let old = scene.publish("team/base", &base("first"), 13 * DAY);
    let before = scene.on(&base("first"), old, "one");
    let new = scene.publish("team/base", &base("second"), 7 * DAY);
    for (number, (why, attack)) in attacks.into_iter().enumerate() {
        let path = format!("team/app-{number}");
        scene.publish(&path, &before, 12 * DAY);
        let mut evil = scene.on(&base("second"), new, "two");
        attack(&mut evil);
        scene.publish(&path, &evil, 6 * DAY);
        scene.verify(&[&scene.name(&path)]).exits(1).says(&["retagged", why]);
    }
    // Quick is no excuse.
    scene.publish("team/quick", &before, 5 * DAY);
    let mut evil = scene.on(&base("second"), new, "two");
    evil.entrypoint = "/evil".to_owned();
    scene.publish("team/quick", &evil, 4 * DAY);
    scene.verify(&[&scene.name("team/quick")]).exits(1).says(&["retagged", "48 hours", "its entrypoint changed"]);
    // New layers on the base of before, and a base that nobody logged.
    scene.publish("team/same", &before, 12 * DAY);
    scene.publish("team/same", &scene.on(&base("first"), old, "two"), 6 * DAY);
    scene.verify(&[&scene.name("team/same")]).exits(1).says(&["retagged", "did not"]);
    scene.publish("team/hidden", &before, 12 * DAY);
    let unlogged = scene.push("team/base", &base("third"));
    scene.publish("team/hidden", &scene.on(&base("third"), unlogged, "two"), 6 * DAY);
    scene.verify(&[&scene.name("team/hidden")]).exits(1).says(&["retagged", "is not logged"]);
}

/// After a rebuild and an approval of what is no rebuild, only that passes which was looked at.
#[test]
fn a_rebuild_does_not_excuse_what_comes_after_it() {
    let scene = Scene::new();
    let (image, _) = scene.rebuilt();
    let app = scene.name("team/app");
    let mut evil = image;
    evil.entrypoint = "/evil".to_owned();
    scene.publish("team/app", &evil, 5 * DAY);
    scene.verify(&[&app]).exits(1).says(&["retagged", "did not"]);
}
