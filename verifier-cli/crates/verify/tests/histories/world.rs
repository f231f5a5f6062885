//! A registry and a log of bases in memory, and recorded histories made into documents.

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
};

use serde::Deserialize;
use serde_json::{Value, json};
use taglog_proto::name::{Digest, Image, Repository};
use taglog_verify::platform::Platform;
use taglog_verify::rebuilt::{BaseSightings, DocumentKind, ManifestSource, Unavailable};

/// One tag's recorded history.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct History {
    pub image: String,
    pub sources: Vec<String>,
    #[serde(default)]
    pub base: Option<String>,
    #[serde(default = "unstated")]
    pub expectation: String,
    /// When each sighting is evaluated, counted from itself.
    #[serde(default = "three_days")]
    pub minutes_later: i64,
    #[serde(default)]
    pub settings: Settings,
    #[serde(default)]
    pub build: Vec<Build>,
    pub sighting: Vec<Pointed>,
}

/// How an image is run.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    env: Vec<String>,
    entrypoint: Vec<String>,
    cmd: Vec<String>,
    user: String,
    ports: Vec<String>,
}

/// One platform's image.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Build {
    pub name: String,
    pub platform: String,
    /// The build of the base that it stands on.
    pub on: Option<String>,
    /// As recorded. The documents made here cannot have the recorded digests.
    pub manifest: String,
    pub config: String,
    /// Without those of the base.
    pub layers: Vec<String>,
    pub steps: Vec<String>,
}

/// A digest that the tag pointed to, and the expected verdict at that time.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pointed {
    pub digest: String,
    #[serde(default)]
    pub page: Option<String>,
    pub seen: String,
    #[serde(default)]
    pub builds: Vec<String>,
    /// Platforms that are listed too, and of which nothing else is told here.
    #[serde(default)]
    pub others: usize,
    pub comparison: Option<String>,
    pub verdict: String,
    pub why: Option<String>,
    /// The verdict under what taglog ships, where that is another one.
    pub shipped: Option<String>,
    /// The verdict under a `min-age` of three days. It must not pass.
    pub guarded: Option<String>,
}

fn unstated() -> String {
    "unstated".to_owned()
}

fn three_days() -> i64 {
    3 * 24 * 60
}

impl History {
    pub fn read(name: &str) -> History {
        let text = std::fs::read_to_string(data().join(name)).unwrap();
        toml::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    pub fn image(&self) -> Image {
        Image::parse(&self.image).unwrap()
    }
}

/// The directory of the recorded histories.
pub fn data() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/histories/data")
}

/// Documents by digest, and what is logged of bases.
#[derive(Default)]
pub struct World {
    pub documents: HashMap<Digest, Vec<u8>>,
    pub bases: HashMap<Image, Vec<Digest>>,
    builds: BTreeMap<(String, String), Made>,
}

/// An image made of recorded facts, before it is written down.
#[derive(Clone)]
pub struct Made {
    pub config: Value,
    pub manifest: Value,
    /// Its line in an index.
    pub entry: Value,
}

impl World {
    /// A document's digest, and the document with it.
    pub fn put(&mut self, bytes: Vec<u8>) -> Digest {
        let digest = Digest::sha256(&bytes);
        self.documents.insert(digest, bytes);
        digest
    }

    pub fn put_json(&mut self, value: &Value) -> Digest {
        self.put(serde_json::to_vec(value).unwrap())
    }

    /// Writes an image down: its entry for an index.
    pub fn write(&mut self, made: &Made) -> Value {
        let mut made = made.clone();
        made.manifest["config"]["digest"] = json!(self.put_json(&made.config).to_string());
        made.entry["digest"] = json!(self.put_json(&made.manifest).to_string());
        made.entry
    }

    /// An index of these entries.
    pub fn index(&mut self, entries: &[Value]) -> Digest {
        let index = "application/vnd.oci.image.index.v1+json";
        self.put_json(&json!({ "schemaVersion": 2, "mediaType": index, "manifests": entries }))
    }

    /// What one build of a history is, without writing it down.
    pub fn made(&self, history: &History, build: &str) -> Made {
        self.builds[&(history.image.clone(), build.to_owned())].clone()
    }

    /// Takes in a history, that of its base first. What its tag pointed to, in order, under the digests that the
    /// documents made here have; where nothing was recorded, under the recorded one.
    pub fn take_in(&mut self, history: &History) -> Vec<Digest> {
        let base = history.base.as_deref().map(History::read);
        if let Some(base) = &base {
            let sighted = self.take_in(base);
            self.bases.insert(base.image(), sighted);
        }
        for build in &history.build {
            let made = self.make(history, build, base.as_ref());
            self.builds.insert((history.image.clone(), build.name.clone()), made);
        }
        history.sighting.iter().map(|pointed| self.pointed(history, pointed)).collect()
    }

    fn pointed(&mut self, history: &History, pointed: &Pointed) -> Digest {
        if pointed.builds.is_empty() {
            return Digest::parse(&pointed.digest).unwrap();
        }
        let mut entries = Vec::new();
        for build in &pointed.builds {
            let made = self.made(history, build);
            entries.push(self.write(&made));
            entries.push(attestation(&pointed.digest));
        }
        entries.extend((0..pointed.others).map(|i| other(&format!("{}{i}", pointed.digest), i)));
        self.index(&entries)
    }

    fn make(&self, history: &History, build: &Build, base_history: Option<&History>) -> Made {
        for recorded in [&build.manifest, &build.config] {
            Digest::parse(recorded).unwrap();
        }
        let below = build.on.as_ref().map(|on| self.made(base_history.unwrap(), on));
        let mut layers = below.as_ref().map_or_else(Vec::new, |base| array(&base.manifest["layers"]));
        layers.extend(build.layers.iter().map(|layer| descriptor("layer.v1.tar+gzip", layer)));
        let mut steps = below.as_ref().map_or_else(Vec::new, |base| array(&base.config["history"]));
        steps.extend(build.steps.iter().map(|step| self::step(step, &build.name)));
        // Of the uncompressed layers nothing is recorded: each has its own here.
        let diff = |layer: &Value| Digest::sha256(format!("unpacked {}", layer["digest"]).as_bytes()).to_string();
        let diffs: Vec<String> = layers.iter().map(diff).collect();
        let platform: Platform = build.platform.parse().unwrap();
        let config = json!({
            "architecture": platform.architecture, "os": platform.os, "variant": platform.variant,
            "created": build.name, "config": history.settings.as_json(),
            "rootfs": { "type": "layers", "diff_ids": diffs }, "history": steps,
        });
        // As meta.jq of docker-library/meta-scripts sets them, on the manifest and on its line in the index.
        let annotations = match (base_history, &below) {
            (Some(base), Some(below)) => json!({
                "org.opencontainers.image.base.name": base.image.replace("docker.io/library/", ""),
                "org.opencontainers.image.base.digest": written(below).to_string(),
                "org.opencontainers.image.created": build.name,
            }),
            _ => json!({}),
        };
        let kind = "application/vnd.oci.image.manifest.v1+json";
        let manifest = json!({
            "schemaVersion": 2, "mediaType": kind, "config": descriptor("config.v1+json", &build.config),
            "layers": layers, "annotations": annotations,
        });
        let entry = json!({
            "mediaType": kind, "digest": build.manifest, "size": 1000, "annotations": annotations,
            "platform": { "architecture": platform.architecture, "os": platform.os, "variant": platform.variant },
        });
        Made { config, manifest, entry }
    }
}

/// The digest that an image's manifest has once it is written down.
fn written(made: &Made) -> Digest {
    let entry = World::default().write(made);
    Digest::parse(entry["digest"].as_str().unwrap()).unwrap()
}

impl Settings {
    fn as_json(&self) -> Value {
        let ports: BTreeMap<&String, Value> = self.ports.iter().map(|port| (port, json!({}))).collect();
        json!({
            "Env": self.env, "Entrypoint": self.entrypoint, "Cmd": self.cmd, "User": self.user, "ExposedPorts": ports,
        })
    }
}

fn array(value: &Value) -> Vec<Value> {
    value.as_array().unwrap().clone()
}

fn descriptor(kind: &str, digest: &str) -> Value {
    json!({ "mediaType": format!("application/vnd.oci.image.{kind}"), "digest": digest, "size": 1000 })
}

/// A step of a history: those that only say something make no layer.
fn step(text: &str, created: &str) -> Value {
    let empty = !["RUN", "COPY", "ADD"].iter().any(|word| text.starts_with(word));
    json!({ "created": created, "created_by": text, "empty_layer": empty, "comment": "buildkit.dockerfile.v0" })
}

fn attestation(of: &str) -> Value {
    let mut entry = other(&format!("attestation {of}"), 0);
    entry["platform"] = json!({ "architecture": "unknown", "os": "unknown" });
    entry
}

/// A line of an index for a platform of which nothing else is told.
fn other(name: &str, number: usize) -> Value {
    let digest = Digest::sha256(name.as_bytes()).to_string();
    let architecture = ["arm64", "386", "ppc64le", "riscv64", "s390x", "mips64le", "loong64"][number];
    let kind = "application/vnd.oci.image.manifest.v1+json";
    json!({ "mediaType": kind, "digest": digest, "size": 1000, "platform": { "architecture": architecture, "os": "linux" } })
}

impl ManifestSource for World {
    async fn get(&self, _: &Repository, digest: &Digest, _: DocumentKind) -> Result<Vec<u8>, Unavailable> {
        self.documents.get(digest).cloned().ok_or_else(|| Unavailable("there is no such document".to_owned()))
    }
}

impl BaseSightings for World {
    async fn sighted(&self, base: &Image) -> Result<Vec<Digest>, Unavailable> {
        Ok(self.bases.get(base).cloned().unwrap_or_default())
    }
}
