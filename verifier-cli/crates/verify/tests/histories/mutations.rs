//! A real rebuild, changed in one place at a time: no changed one may be taken for a rebuild.

use crate::world::{History, Made, World};
use serde_json::{Value, json};
use taglog_policy::{Move, MoveComparison, UnexplainedReason};
use taglog_proto::{
    name::{Digest, Image, Repository},
    time::Timestamp,
};
use taglog_verify::platform::Platform;
use taglog_verify::rebuilt::{BaseSightings, DocumentKind, ManifestSource, Unavailable, compare_moves};

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
    async fn comparison(mut self) -> MoveComparison {
        let (from, to) = (self.world.write(&self.from), self.world.write(&self.to));
        let from = self.world.index(&[from]);
        let to = self.world.index(&[vec![to], self.beside.clone()].concat());
        one(&self.image, change(from, to), &self.world, &self.world).await
    }
}

async fn one(image: &Image, change: Move, source: &impl ManifestSource, bases: &impl BaseSightings) -> MoveComparison {
    let found = compare_moves(image, &[change], &amd64(), source, bases).await;
    let [comparison] = <[MoveComparison; 1]>::try_from(found).unwrap();
    comparison
}

/// Asserts that the rebuild, changed so, is not explained, and for this reason.
async fn refused(why: &str, mutate: impl FnOnce(&mut Rebuild)) {
    let mut rebuild = rebuild();
    mutate(&mut rebuild);
    match rebuild.comparison().await {
        MoveComparison::Unexplained { reason } => assert!(reason.to_string().contains(why), "{why}: {reason}"),
        other => panic!("{why}: {other}"),
    }
}

/// Asserts that the rebuild, changed so, still is one.
async fn accepted(what: &str, mutate: impl FnOnce(&mut Rebuild)) {
    let mut rebuild = rebuild();
    mutate(&mut rebuild);
    let comparison = rebuild.comparison().await;
    assert!(matches!(comparison, MoveComparison::Rebuild { .. }), "{what}: {comparison}");
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
async fn the_unchanged_rebuild_is_accepted() {
    let comparison = rebuild().comparison().await;
    let MoveComparison::Rebuild { base, facts } = &comparison else { panic!("{comparison}") };
    assert_eq!(base, "docker.io/library/debian:trixie-slim");
    assert!(facts.iter().any(|line| line.contains("not inspected")), "{facts:?}");
}

#[tokio::test]
async fn dates_and_annotations_may_change() {
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
async fn inherited_variables_may_follow_the_base() {
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
        it.comparison().await
    };
    assert!(matches!(changed(false).await, MoveComparison::Rebuild { .. }));
    assert!(matches!(changed(true).await, MoveComparison::Unexplained { .. }));
}

#[tokio::test]
async fn changed_settings_are_refused() {
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
    refused("its target platform changed", |it| it.to.config["architecture"] = json!("arm64")).await;
}

#[tokio::test]
async fn changed_build_steps_are_refused() {
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
    refused("its build steps and its layers do not match", |it| {
        it.to.config["history"][6]["empty_layer"] = json!(true)
    })
    .await;
    refused("does not begin with that of its base", |it| it.to.config["history"][0]["created_by"] = json!("RUN x"))
        .await;
    // One more layer, told or not told.
    let layer = json!({ "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "size": 1,
        "digest": Digest::sha256(b"one more").to_string() });
    let add = |it: &mut Rebuild, layer: &Value| {
        push(&mut it.to.manifest["layers"], layer.clone());
        push(&mut it.to.config["rootfs"]["diff_ids"], json!(Digest::sha256(b"unpacked").to_string()));
    };
    refused("its build steps and its layers do not match", |it| add(it, &layer)).await;
    refused("its history changed", |it| {
        add(it, &layer);
        push(&mut it.to.config["history"], json!({ "created_by": "COPY x y" }));
    })
    .await;
    refused("different numbers of layers", |it| push(&mut it.to.manifest["layers"], layer.clone())).await;
}

#[tokio::test]
async fn changed_or_missing_bases_are_refused() {
    let bad = Digest::sha256(b"another layer").to_string();
    refused("leading layers", |it| it.to.manifest["layers"][0]["digest"] = json!(bad)).await;
    refused("leading layers", |it| it.to.config["rootfs"]["diff_ids"][0] = json!(bad)).await;
    refused("of the older image, its leading layers", |it| it.from.manifest["layers"][0]["digest"] = json!(bad)).await;
    refused("does not name its base image", |it| forget(&mut it.to, BASE)).await;
    refused("does not name its base image", |it| forget(&mut it.to, BASE_DIGEST)).await;
    refused("does not name its base image", |it| forget(&mut it.from, BASE)).await;
    refused("different base images", |it| it.to.entry["annotations"][BASE] = json!("debian:bookworm-slim")).await;
    refused("different base images", |it| it.to.manifest["annotations"][BASE_DIGEST] = json!(bad)).await;
    refused("is not logged", |it| annotate(&mut it.to, BASE_DIGEST, json!(bad))).await;
    refused("the digest of its base image is invalid", |it| annotate(&mut it.to, BASE_DIGEST, json!("sha256:x"))).await;
    refused("the name of its base image is invalid", |it| annotate(&mut it.to, BASE, json!("Not A Name"))).await;
    refused("trixie-slim is not logged", |it| it.world.bases.clear()).await;
}

/// Another base is another image, even where its history is logged as well.
#[tokio::test]
async fn a_base_of_another_name_is_refused() {
    refused(
        "its base image changed from docker.io/library/debian:trixie-slim to evil.example/debian:trixie-slim",
        |it| {
            let genuine = it.world.bases.values().next().unwrap().clone();
            it.world.bases.insert(Image::parse("evil.example/debian:trixie-slim").unwrap(), genuine);
            annotate(&mut it.to, BASE, json!("evil.example/debian:trixie-slim"));
        },
    )
    .await;
}

#[tokio::test]
async fn an_unchanged_or_older_base_is_refused() {
    let history = History::read("memcached-1.6.45.toml");
    // New layers on the base of before.
    refused("but its base image docker.io/library/debian:trixie-slim did not", |it| {
        let mut stale = it.world.made(&history, "august-5");
        stale.manifest["layers"][3]["digest"] = json!(Digest::sha256(b"another build").to_string());
        it.to = stale;
    })
    .await;
    // Back to the base of before.
    refused("went back to an older", |it| std::mem::swap(&mut it.from, &mut it.to)).await;
}

#[tokio::test]
async fn several_images_for_one_platform_are_refused() {
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
async fn an_unchanged_image_with_a_second_candidate_is_unexplained() {
    let unchanged = |beside: Option<Value>| async move {
        let mut it = rebuild();
        it.to = it.from.clone();
        it.beside = vec![json!({ "mediaType": "application/vnd.oci.image.manifest.v1+json", "size": 1,
            "digest": Digest::sha256(b"arm").to_string(), "platform": { "os": "linux", "architecture": "arm64" } })];
        it.beside.extend(beside);
        it.comparison().await
    };
    let second = json!({ "mediaType": "application/vnd.oci.image.manifest.v1+json", "size": 1,
        "digest": Digest::sha256(b"second").to_string(), "platform": { "os": "linux", "architecture": "amd64" } });
    assert_eq!(unchanged(None).await, MoveComparison::PlatformUnchanged { platform: "linux/amd64".to_owned() });
    assert!(matches!(unchanged(Some(second)).await, MoveComparison::Unexplained { .. }));
}

/// Documents that one reader takes for this and another for that.
#[tokio::test]
async fn ambiguous_documents_are_refused() {
    for (why, old, new) in [
        ("occurs twice", "\"layers\":", "\"Layers\":[],\"layers\":"),
        ("occurs twice", "\"config\":", "\"config\":{},\"config\":"),
        ("an index and a manifest at once", "\"schemaVersion\":2", "\"manifests\":[],\"schemaVersion\":2"),
        (
            "media type does not match its structure",
            "image.manifest.v1+json\",\"schema",
            "image.index.v1+json\",\"schema",
        ),
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
        let comparison = one(&it.image, change(from, to), &it.world, &it.world).await;
        assert!(comparison.to_string().contains(why), "{why}: {comparison}");
    }
}

/// Every value of the newer configuration and every layer counts, but for what is listed here.
#[tokio::test]
async fn every_changed_value_is_refused_but_dates_and_own_layers() {
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
        let comparison = it.comparison().await;
        assert_eq!(matches!(comparison, MoveComparison::Rebuild { .. }), free(&pointer), "{pointer}: {comparison}");
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
async fn wrong_and_missing_documents_are_unexplained() {
    struct Lying<'a>(&'a World, DocumentKind);
    impl ManifestSource for Lying<'_> {
        async fn get(
            &self,
            repository: &Repository,
            digest: &Digest,
            kind: DocumentKind,
        ) -> Result<Vec<u8>, Unavailable> {
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
    for kind in [DocumentKind::Manifest, DocumentKind::Configuration] {
        let comparison = one(&it.image, change(from, to), &Lying(&it.world, kind), &it.world).await;
        assert!(comparison.to_string().contains("the received document has another digest"), "{comparison}");
    }
    let config = Digest::sha256(&serde_json::to_vec(&it.to.config).unwrap());
    it.world.documents.remove(&config).unwrap();
    let comparison = one(&it.image, change(from, to), &it.world, &it.world).await;
    assert!(comparison.to_string().contains("is not available"), "{comparison}");
    // A move soon after the first sighting is compared like any other.
    let early = Move { within_release: true, ..change(from, to) };
    let comparison = one(&it.image, early, &it.world, &it.world).await;
    assert!(
        matches!(&comparison, MoveComparison::WithinRelease { reason: UnexplainedReason::MissingDocument { digest, .. } } if *digest == config),
        "{comparison}"
    );
}
