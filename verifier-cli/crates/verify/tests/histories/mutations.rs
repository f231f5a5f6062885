//! A real rebuild, changed in one place at a time: nothing of it may still pass for a rebuild.

use crate::world::{History, Made, World};
use serde_json::{Value, json};
use taglog_policy::{Finding, Move, Why};
use taglog_proto::{
    name::{Digest, Image, Repository},
    time::Timestamp,
};
use taglog_verify::platform::Platform;
use taglog_verify::rebuilt::{BaseSightings, Kind, ManifestSource, Missing, findings};

const BASE: &str = "org.opencontainers.image.base.name";
const BASE_DIGEST: &str = "org.opencontainers.image.base.digest";

/// memcached:1.6.45 before and after its base moved.
struct Rebuild {
    world: World,
    image: Image,
    from: Made,
    to: Made,
    /// Further lines of the newer index.
    beside: Vec<Value>,
}

fn rebuild() -> Rebuild {
    let (mut world, history) = (World::default(), History::read("memcached-1.6.45.toml"));
    world.take_in(&history);
    let (from, to) = (world.made(&history, "august-5"), world.made(&history, "august-25"));
    Rebuild { world, image: history.image(), from, to, beside: Vec::new() }
}

fn change(from: Digest, to: Digest) -> Move {
    Move { from, to, at: Timestamp::UNIX_EPOCH, within_release: false }
}

fn amd64() -> Platform {
    "linux/amd64".parse().unwrap()
}

impl Rebuild {
    async fn finding(mut self) -> Finding {
        let (from, to) = (self.world.write(&self.from), self.world.write(&self.to));
        let from = self.world.index(&[from]);
        let to = self.world.index(&[vec![to], self.beside.clone()].concat());
        one(&self.image, change(from, to), &self.world, &self.world).await
    }
}

async fn one(image: &Image, change: Move, source: &impl ManifestSource, bases: &impl BaseSightings) -> Finding {
    let found = findings(image, &[change], &amd64(), source, bases).await;
    let [finding] = <[Finding; 1]>::try_from(found).unwrap();
    finding
}

/// Asserts that the rebuild, changed so, is not explained, and for this reason.
async fn refused(why: &str, mutate: impl FnOnce(&mut Rebuild)) {
    let mut rebuild = rebuild();
    mutate(&mut rebuild);
    match rebuild.finding().await {
        Finding::Unexplained { why: reason } => assert!(reason.to_string().contains(why), "{why}: {reason}"),
        other => panic!("{why}: {other}"),
    }
}

/// Asserts that the rebuild, changed so, still is one.
async fn accepted(what: &str, mutate: impl FnOnce(&mut Rebuild)) {
    let mut rebuild = rebuild();
    mutate(&mut rebuild);
    let finding = rebuild.finding().await;
    assert!(matches!(finding, Finding::Rebuild { .. }), "{what}: {finding}");
}

fn push(list: &mut Value, item: Value) {
    list.as_array_mut().unwrap().push(item);
}

fn annotate(made: &mut Made, key: &str, value: Value) {
    made.manifest["annotations"][key] = value.clone();
    made.entry["annotations"][key] = value;
}

fn forget(made: &mut Made, key: &str) {
    for place in [&mut made.manifest, &mut made.entry] {
        place["annotations"].as_object_mut().unwrap().remove(key).unwrap();
    }
}

#[tokio::test]
async fn the_rebuild_itself() {
    let finding = rebuild().finding().await;
    let Finding::Rebuild { base, what } = &finding else { panic!("{finding}") };
    assert_eq!(base, "docker.io/library/debian:trixie-slim");
    assert!(what.iter().any(|line| line.contains("not looked into")), "{what:?}");
}

#[tokio::test]
async fn what_a_rebuild_may_change() {
    accepted("dates", |it| {
        it.to.config["created"] = json!("2030-01-01T00:00:00Z");
        it.to.config["history"].as_array_mut().unwrap().iter_mut().for_each(|step| step["created"] = json!("x"));
    })
    .await;
    accepted("the label that dates the build", |it| {
        it.from.config["config"]["Labels"] = json!({ "org.opencontainers.image.created": "1" });
        it.to.config["config"]["Labels"] = json!({ "org.opencontainers.image.created": "2" });
    })
    .await;
    accepted("no word of the base on the manifest, only in the index", |it| {
        it.to.manifest["annotations"] = json!({});
        it.from.manifest["annotations"] = Value::Null;
    })
    .await;
    accepted("no word of the base in the index, only on the manifest", |it| {
        it.to.entry["annotations"] = json!({});
    })
    .await;
}

/// The base sets what its images inherit, and may set something else one day.
#[tokio::test]
async fn what_is_inherited_may_follow_the_base() {
    let changed = |own: bool| async move {
        let mut it = rebuild();
        let history = History::read("debian-trixie-slim.toml");
        let mut base = it.world.made(&history, "20260824");
        base.config["config"]["Env"] = json!(["PATH=/new/bin", "TZ=UTC"]);
        let entry = it.world.write(&base);
        let index = it.world.index(std::slice::from_ref(&entry));
        it.world.bases.get_mut(&history.image()).unwrap().push(index);
        annotate(&mut it.to, BASE_DIGEST, entry["digest"].clone());
        let env = it.to.config["config"]["Env"].as_array_mut().unwrap();
        env[0] = json!(if own { "PATH=/evil/bin" } else { "PATH=/new/bin" });
        env.insert(1, json!("TZ=UTC"));
        it.finding().await
    };
    assert!(matches!(changed(false).await, Finding::Rebuild { .. }));
    assert!(matches!(changed(true).await, Finding::Unexplained { .. }));
}

#[tokio::test]
async fn how_it_is_run() {
    let set = |key: &'static str, value: Value| move |it: &mut Rebuild| it.to.config["config"][key] = value;
    refused("its entrypoint changed", set("Entrypoint", json!(["docker-entrypoint.sh", "--"]))).await;
    refused("its entrypoint changed", set("Entrypoint", Value::Null)).await;
    refused("its command changed", set("Cmd", json!(["memcached", "-v"]))).await;
    refused("its user changed", set("User", json!("root"))).await;
    refused("its user changed", set("User", json!(""))).await;
    refused("\"Healthcheck\" of its configuration changed", set("Healthcheck", json!({ "Test": ["CMD", "x"] }))).await;
    refused("\"OnBuild\" of its configuration changed", set("OnBuild", json!(["RUN x"]))).await;
    refused("\"Volumes\" of its configuration changed", set("Volumes", json!({ "/x": {} }))).await;
    refused("\"Unheard\" of its configuration changed", set("Unheard", json!(1))).await;
    refused("its labels changed", set("Labels", json!({ "traefik.enable": "true" }))).await;
    refused("its environment changed", |it| push(&mut it.to.config["config"]["Env"], json!("LD_PRELOAD=/x.so"))).await;
    refused("its environment changed", |it| it.to.config["config"]["Env"][1] = json!("MEMCACHED_VERSION=1.6.46")).await;
    refused("its environment changed", |it| {
        it.to.config["config"]["Env"].as_array_mut().unwrap().remove(3);
    })
    .await;
    refused("its environment changed", |it| it.to.config["config"]["Env"][0] = json!("PATH=/x")).await;
    refused("lacks \"PATH\"", |it| {
        it.to.config["config"]["Env"].as_array_mut().unwrap().remove(0);
    })
    .await;
    refused("sets \"PATH\" twice", |it| push(&mut it.to.config["config"]["Env"], json!("PATH=/x"))).await;
    refused("what it is built for changed", |it| it.to.config["architecture"] = json!("arm64")).await;
}

#[tokio::test]
async fn what_its_history_tells() {
    let steps = |it: &mut Rebuild| it.to.config["history"].as_array().unwrap().len();
    refused("its history changed", |it| it.to.config["history"][6]["created_by"] = json!("RUN (another build)")).await;
    refused("its history changed", |it| it.to.config["history"][6]["comment"] = json!("by hand")).await;
    refused("its history changed", |it| it.to.config["history"][6]["author"] = json!("somebody")).await;
    refused("its history changed", |it| {
        push(&mut it.to.config["history"], json!({ "created_by": "CMD []", "empty_layer": true }));
    })
    .await;
    refused("its history changed", |it| {
        let last = steps(it) - 1;
        it.to.config["history"].as_array_mut().unwrap().remove(last);
    })
    .await;
    refused("does not fit its layers", |it| it.to.config["history"][6]["empty_layer"] = json!(true)).await;
    refused("does not begin with that of its base", |it| it.to.config["history"][0]["created_by"] = json!("RUN x"))
        .await;
    // One more layer, told or not told.
    let layer = json!({ "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "size": 1,
        "digest": Digest::sha256(b"one more").to_string() });
    let add = |it: &mut Rebuild, layer: &Value| {
        push(&mut it.to.manifest["layers"], layer.clone());
        push(&mut it.to.config["rootfs"]["diff_ids"], json!(Digest::sha256(b"unpacked").to_string()));
    };
    refused("does not fit its layers", |it| add(it, &layer)).await;
    refused("its history changed", |it| {
        add(it, &layer);
        push(&mut it.to.config["history"], json!({ "created_by": "COPY x y" }));
    })
    .await;
    refused("different layers", |it| push(&mut it.to.manifest["layers"], layer.clone())).await;
}

#[tokio::test]
async fn what_it_stands_on() {
    let bad = Digest::sha256(b"another layer").to_string();
    refused("leading layers", |it| it.to.manifest["layers"][0]["digest"] = json!(bad)).await;
    refused("leading layers", |it| it.to.config["rootfs"]["diff_ids"][0] = json!(bad)).await;
    refused("of the older image, its leading layers", |it| it.from.manifest["layers"][0]["digest"] = json!(bad)).await;
    refused("does not say on what it was built", |it| forget(&mut it.to, BASE)).await;
    refused("does not say on what it was built", |it| forget(&mut it.to, BASE_DIGEST)).await;
    refused("does not say on what it was built", |it| forget(&mut it.from, BASE)).await;
    refused("different bases", |it| it.to.entry["annotations"][BASE] = json!("debian:bookworm-slim")).await;
    refused("different bases", |it| it.to.manifest["annotations"][BASE_DIGEST] = json!(bad)).await;
    refused("is not logged", |it| annotate(&mut it.to, BASE_DIGEST, json!(bad))).await;
    refused("no usable digest", |it| annotate(&mut it.to, BASE_DIGEST, json!("sha256:x"))).await;
    refused("no usable name", |it| annotate(&mut it.to, BASE, json!("Not A Name"))).await;
    refused("nothing is logged of its base", |it| it.world.bases.clear()).await;
}

/// Another base is another image, even where its history is logged as well.
#[tokio::test]
async fn a_base_of_another_name() {
    refused("its base was docker.io/library/debian:trixie-slim and is evil.example/debian:trixie-slim", |it| {
        let genuine = it.world.bases.values().next().unwrap().clone();
        it.world.bases.insert(Image::parse("evil.example/debian:trixie-slim").unwrap(), genuine);
        annotate(&mut it.to, BASE, json!("evil.example/debian:trixie-slim"));
    })
    .await;
}

#[tokio::test]
async fn a_base_that_did_not_move_on() {
    let history = History::read("memcached-1.6.45.toml");
    // New layers on the base of before.
    refused("and its base docker.io/library/debian:trixie-slim did not", |it| {
        let mut stale = it.world.made(&history, "august-5");
        stale.manifest["layers"][3]["digest"] = json!(Digest::sha256(b"another build").to_string());
        it.to = stale;
    })
    .await;
    // Back to the base of before.
    refused("went back to an older", |it| std::mem::swap(&mut it.from, &mut it.to)).await;
}

#[tokio::test]
async fn several_images_for_one_platform() {
    let other = |architecture: &'static str, variant: Option<&'static str>| {
        json!({ "mediaType": "application/vnd.oci.image.manifest.v1+json", "size": 1,
            "digest": Digest::sha256(b"other").to_string(),
            "platform": { "os": "linux", "architecture": architecture, "variant": variant } })
    };
    for architecture in ["amd64", "x86_64", "AMD64"] {
        refused("more than one image for linux/amd64", |it| it.beside.push(other(architecture, None))).await;
    }
    refused("more than one image for linux/amd64", |it| it.beside.push(other("amd64", Some("v3")))).await;
    refused("more than one image for linux/amd64", |it| {
        let mut entry = other("amd64", None);
        entry.as_object_mut().unwrap().remove("platform");
        it.beside.push(entry);
    })
    .await;
    accepted("another platform", |it| it.beside.push(other("arm64", None))).await;
}

/// An unchanged image, with something put beside it that a runtime might take in its place.
#[tokio::test]
async fn unchanged_and_yet_not() {
    let unchanged = |beside: Option<Value>| async move {
        let mut it = rebuild();
        it.to = it.from.clone();
        it.beside = vec![json!({ "mediaType": "application/vnd.oci.image.manifest.v1+json", "size": 1,
            "digest": Digest::sha256(b"arm").to_string(), "platform": { "os": "linux", "architecture": "arm64" } })];
        it.beside.extend(beside);
        it.finding().await
    };
    let second = json!({ "mediaType": "application/vnd.oci.image.manifest.v1+json", "size": 1,
        "digest": Digest::sha256(b"second").to_string(), "platform": { "os": "linux", "architecture": "amd64" } });
    assert_eq!(unchanged(None).await, Finding::PlatformUnchanged { platform: "linux/amd64".to_owned() });
    assert!(matches!(unchanged(Some(second)).await, Finding::Unexplained { .. }));
}

/// Documents that one reader takes for this and another for that.
#[tokio::test]
async fn documents_that_can_be_read_in_two_ways() {
    for (why, old, new) in [
        ("stands twice", "\"layers\":", "\"Layers\":[],\"layers\":"),
        ("stands twice", "\"config\":", "\"config\":{},\"config\":"),
        ("index and image at once", "\"schemaVersion\":2", "\"manifests\":[],\"schemaVersion\":2"),
        ("media type is not that of its shape", "image.manifest.v1+json\",\"schema", "image.index.v1+json\",\"schema"),
        ("schema version is 1", "\"schemaVersion\":2", "\"schemaVersion\":1"),
    ] {
        let mut it = rebuild();
        let (from, mut to) = (it.world.write(&it.from), it.world.write(&it.to));
        let written = Digest::parse(to["digest"].as_str().unwrap()).unwrap();
        let text = String::from_utf8(it.world.documents[&written].clone()).unwrap();
        let changed = text.replacen(old, new, 1);
        assert_ne!(text, changed, "{old}");
        to["digest"] = json!(it.world.put(changed.into_bytes()).to_string());
        let (from, to) = (it.world.index(&[from]), it.world.index(&[to]));
        let finding = one(&it.image, change(from, to), &it.world, &it.world).await;
        assert!(finding.to_string().contains(why), "{why}: {finding}");
    }
}

/// Every value of the newer configuration and every layer counts, but for what is listed here.
#[tokio::test]
async fn each_value_counts() {
    let free = |pointer: &str| {
        pointer == "/created"
            || pointer.ends_with("/created")
            // Layers on top are new in any rebuild, and other readers of a list of media types and sizes go by digests.
            || (1..6).any(|own| pointer == format!("/rootfs/diff_ids/{own}"))
    };
    let mut pointers = Vec::new();
    leaves(&rebuild().to.config, String::new(), &mut pointers);
    assert!(pointers.len() > 60, "{pointers:?}");
    for pointer in pointers {
        let mut it = rebuild();
        let leaf = it.to.config.pointer_mut(&pointer).unwrap();
        *leaf = match &*leaf {
            Value::String(text) if text.starts_with("sha256:") => json!(Digest::sha256(b"changed").to_string()),
            Value::String(text) => json!(format!("{text}x")),
            Value::Bool(value) => json!(!value),
            Value::Null => json!("something"),
            _ => json!({ "something": 1 }),
        };
        let finding = it.finding().await;
        assert_eq!(matches!(finding, Finding::Rebuild { .. }), free(&pointer), "{pointer}: {finding}");
    }
}

/// Pointers to all values that hold no others.
fn leaves(value: &Value, at: String, found: &mut Vec<String>) {
    match value {
        Value::Object(map) if !map.is_empty() => map.iter().for_each(|(key, value)| {
            let key = key.replace('~', "~0").replace('/', "~1");
            leaves(value, format!("{at}/{key}"), found);
        }),
        Value::Array(list) if !list.is_empty() => {
            list.iter().enumerate().for_each(|(i, value)| leaves(value, format!("{at}/{i}"), found));
        }
        _ => found.push(at),
    }
}

/// A registry that sends other bytes, and one that has lost some.
#[tokio::test]
async fn sources_that_lie_or_forget() {
    struct Lying<'a>(&'a World, Kind);
    impl ManifestSource for Lying<'_> {
        async fn get(&self, repository: &Repository, digest: &Digest, kind: Kind) -> Result<Vec<u8>, Missing> {
            let mut bytes = self.0.get(repository, digest, kind).await?;
            if kind == self.1 {
                bytes.push(b' ');
            }
            Ok(bytes)
        }
    }
    let mut it = rebuild();
    let (from, to) = (it.world.write(&it.from), it.world.write(&it.to));
    let (from, to) = (it.world.index(&[from]), it.world.index(&[to]));
    for kind in [Kind::Manifest, Kind::Configuration] {
        let finding = one(&it.image, change(from, to), &Lying(&it.world, kind), &it.world).await;
        assert!(finding.to_string().contains("does not hash to that"), "{finding}");
    }
    let config = Digest::sha256(&serde_json::to_vec(&it.to.config).unwrap());
    it.world.documents.remove(&config).unwrap();
    let finding = one(&it.image, change(from, to), &it.world, &it.world).await;
    assert!(finding.to_string().contains("cannot be had"), "{finding}");
    // Within one release the tag may do as it likes; the stronger finding still comes first.
    let early = Move { within_release: true, ..change(from, to) };
    let finding = one(&it.image, early, &it.world, &it.world).await;
    assert!(
        matches!(&finding, Finding::WithinRelease { why: Why::Missing { digest, .. } } if *digest == config),
        "{finding}"
    );
}
