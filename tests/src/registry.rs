//! A real registry, and images pushed to it.

use std::{
    net::TcpListener,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use taglog_proto::name::Digest;
use tempfile::TempDir;

use crate::{
    process::{Process, TIMEOUT},
    server::http_status,
};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// The `docker-registry` program (CNCF Distribution) on a free port. Dropping it kills it.
pub struct Registry {
    // First, so that the process is gone before its directory is.
    process: Process,
    /// `127.0.0.1:port`, the host part of its repositories.
    pub host: String,
    _directory: TempDir,
}

impl Registry {
    /// Starts a registry that allows deletion, and waits until it answers.
    pub fn start() -> Registry {
        Registry::start_with("")
    }

    /// Starts a registry with further YAML at the top level of its configuration.
    pub fn start_with(more: &str) -> Registry {
        // Between choosing a free port and the registry's use of it, another program may take it.
        (0..5).find_map(|_| Registry::try_start(more)).expect("docker-registry does not start")
    }

    fn try_start(more: &str) -> Option<Registry> {
        let directory = tempfile::tempdir().unwrap();
        let host = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).unwrap().to_string();
        let root = directory.path().join("data");
        let config = format!(
            "version: 0.1\nlog:\n  level: error\nstorage:\n  delete:\n    enabled: true\n  \
             filesystem:\n    rootdirectory: {}\nhttp:\n  addr: {host}\n{more}",
            root.display()
        );
        let path = directory.path().join("config.yml");
        std::fs::write(&path, config).unwrap();
        let process = Process::spawn(Command::new("docker-registry").arg("serve").arg(&path));
        let mut registry = Registry { process, host, _directory: directory };
        registry.answers().then_some(registry)
    }

    fn answers(&mut self) -> bool {
        let deadline = Instant::now() + TIMEOUT;
        while self.process.is_running() && Instant::now() < deadline {
            // 401 is what a registry with logins answers.
            if matches!(http_status(&self.host, "/v2/"), Some(200 | 401)) {
                return self.process.is_running();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        false
    }

    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// The full name of a repository in this registry.
    pub fn repository(&self, path: &str) -> String {
        format!("{}/{path}", self.host)
    }
}

/// Pushes an image with one layer that holds `content`, for linux/amd64, and returns its digest.
pub fn push_image(registry: &Registry, repository: &str, tag: &str, content: &str) -> Digest {
    let layout = Layout::new();
    let image = layout.image("amd64", content);
    layout.push(registry, repository, tag, &image)
}

/// Pushes a multi-platform image, one architecture and content each, and returns the index's digest
/// and those of the platforms.
pub fn push_index(
    registry: &Registry,
    repository: &str,
    tag: &str,
    platforms: &[(&str, &str)],
) -> (Digest, Vec<Digest>) {
    let layout = Layout::new();
    let images: Vec<(&str, Blob)> =
        platforms.iter().map(|(architecture, content)| (*architecture, layout.image(architecture, content))).collect();
    let index = layout.index(&images);
    (layout.push(registry, repository, tag, &index), images.iter().map(|(_, image)| image.digest).collect())
}

/// Pushes images, each a tag and a content, to one repository, eight at a time; their digests, in the same order.
pub async fn push_quickly(registry: &Registry, path: &str, images: &[(String, String)]) -> Vec<Digest> {
    let push = QuickPush::to(registry, path).await;
    let lane = |images: &[(String, String)]| {
        let (push, images) = (push.clone(), images.to_vec());
        tokio::spawn(async move {
            let mut digests = Vec::with_capacity(images.len());
            for (tag, content) in &images {
                digests.push(push.push(tag, content).await);
            }
            digests
        })
    };
    let lanes: Vec<_> = images.chunks(images.len().div_ceil(8).max(1)).map(lane).collect();
    let mut digests = Vec::with_capacity(images.len());
    for lane in lanes {
        digests.extend(lane.await.unwrap());
    }
    digests
}

/// Pushes to one repository over HTTP, in a few milliseconds: all images share configuration and layer, and only
/// their manifests differ.
#[derive(Clone)]
pub struct QuickPush {
    client: reqwest::Client,
    /// `http://host/v2/path`.
    base: String,
}

impl QuickPush {
    /// Makes the repository ready by uploading what the images share.
    pub async fn to(registry: &Registry, path: &str) -> QuickPush {
        let client = reqwest::Client::builder().no_proxy().timeout(TIMEOUT).build().unwrap();
        let push = QuickPush { client, base: format!("http://{}/v2/{path}", registry.host) };
        let layer = layer("shared");
        push.upload(&config("amd64", &layer)).await;
        push.upload(&layer).await;
        push
    }

    async fn upload(&self, blob: &Blob) {
        let begun = self.client.post(format!("{}/blobs/uploads/", self.base)).send().await.unwrap();
        assert_eq!(begun.status(), 202, "{begun:?}");
        // It has a query already: the registry keeps its state there.
        let location = begun.headers()["location"].to_str().unwrap();
        let upload = self.client.put(format!("{location}&digest={}", blob.digest)).body(blob.bytes.clone());
        let done = upload.send().await.unwrap();
        assert_eq!(done.status(), 201, "{done:?}");
    }

    /// Pushes an image that differs from others by `content`, and returns its digest.
    pub async fn push(&self, tag: &str, content: &str) -> Digest {
        let layer = layer("shared");
        let manifest = manifest(&config("amd64", &layer), &layer, Some(content));
        let request = self.client.put(format!("{}/manifests/{tag}", self.base));
        let answer = request.header("content-type", manifest.media_type).body(manifest.bytes).send().await.unwrap();
        assert_eq!(answer.status(), 201, "{answer:?}");
        manifest.digest
    }

    /// Deletes an image, and with it every tag that points to it.
    pub async fn delete(&self, digest: &Digest) {
        let answer = self.client.delete(format!("{}/manifests/{digest}", self.base)).send().await.unwrap();
        assert_eq!(answer.status(), 202, "{answer:?}");
    }
}

/// A layer whose one file holds `content`.
fn layer(content: &str) -> Blob {
    Blob::new(LAYER, tar("content.txt", content.as_bytes()))
}

/// The configuration of an image with one layer.
fn config(architecture: &str, layer: &Blob) -> Blob {
    let rootfs = json!({ "type": "layers", "diff_ids": [layer.digest.to_string()] });
    let config = json!({ "architecture": architecture, "os": "linux", "config": {}, "rootfs": rootfs });
    Blob::new(CONFIG, config.to_string().into_bytes())
}

/// The manifest of an image with one layer, with an annotation or not.
fn manifest(config: &Blob, layer: &Blob, annotation: Option<&str>) -> Blob {
    let mut manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": config.descriptor(),
        "layers": [layer.descriptor()],
    });
    if let Some(annotation) = annotation {
        manifest["annotations"] = json!({ "example.content": annotation });
    }
    Blob::new(MANIFEST, manifest.to_string().into_bytes())
}

/// A blob: a layer, a configuration, a manifest.
pub struct Blob {
    media_type: &'static str,
    /// The digest of `bytes`.
    pub digest: Digest,
    /// What it holds.
    pub bytes: Vec<u8>,
}

impl Blob {
    fn new(media_type: &'static str, bytes: Vec<u8>) -> Blob {
        Blob { media_type, digest: Digest::sha256(&bytes), bytes }
    }

    fn descriptor(&self) -> Value {
        json!({ "mediaType": self.media_type, "digest": self.digest.to_string(), "size": self.bytes.len() })
    }
}

/// An OCI image layout in a temporary directory.
pub struct Layout(TempDir);

impl Default for Layout {
    fn default() -> Self {
        Layout::new()
    }
}

impl Layout {
    pub fn new() -> Layout {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(directory.path().join("blobs/sha256")).unwrap();
        std::fs::write(directory.path().join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        Layout(directory)
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    fn add(&self, blob: Blob) -> Blob {
        let path = self.path().join("blobs").join(blob.digest.to_string().replace(':', "/"));
        std::fs::write(path, &blob.bytes).unwrap();
        blob
    }

    /// An image with one layer, whose one file holds `content`.
    pub fn image(&self, architecture: &str, content: &str) -> Blob {
        let layer = self.add(layer(content));
        let config = self.add(config(architecture, &layer));
        self.add(manifest(&config, &layer, None))
    }

    /// An index over images, each with its architecture.
    pub fn index(&self, images: &[(&str, Blob)]) -> Blob {
        let entry = |(architecture, image): &(&str, Blob)| {
            let mut descriptor = image.descriptor();
            descriptor["platform"] = json!({ "architecture": architecture, "os": "linux" });
            descriptor
        };
        let manifests: Vec<Value> = images.iter().map(entry).collect();
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests });
        self.add(Blob::new(INDEX, index.to_string().into_bytes()))
    }

    /// Pushes an image or an index under a tag, byte for byte, and returns its digest.
    pub fn push(&self, registry: &Registry, repository: &str, tag: &str, blob: &Blob) -> Digest {
        let mut descriptor = blob.descriptor();
        descriptor["annotations"] = json!({ "org.opencontainers.image.ref.name": "main" });
        let index = json!({ "schemaVersion": 2, "manifests": [descriptor] });
        std::fs::write(self.path().join("index.json"), index.to_string()).unwrap();
        let mut skopeo = Command::new("skopeo");
        skopeo.args(["--insecure-policy", "copy", "--quiet", "--all", "--preserve-digests"]);
        skopeo.arg("--dest-tls-verify=false").arg(format!("oci:{}:main", self.path().display()));
        let output = skopeo.arg(format!("docker://{}/{repository}:{tag}", registry.host)).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        blob.digest
    }
}

/// A tar archive of one small file (POSIX ustar).
fn tar(name: &str, content: &[u8]) -> Vec<u8> {
    let mut header = [0; 512];
    let mut put = |at: usize, field: &str| header[at..at + field.len()].copy_from_slice(field.as_bytes());
    put(0, name);
    put(100, "0000644\0" /* mode */);
    put(108, "0000000\0" /* user */);
    put(116, "0000000\0" /* group */);
    put(124, &format!("{:011o}\0", content.len()));
    put(136, "00000000000\0" /* time */);
    put(148, "        " /* the checksum counts as spaces */);
    put(156, "0" /* a file */);
    put(257, "ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut archive = [&header[..], content].concat();
    // Whole blocks, and two empty ones at the end.
    archive.resize(archive.len().next_multiple_of(512) + 1024, 0);
    archive
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::HttpResponse;

    async fn fetch(registry: &Registry, path: &str) -> Vec<u8> {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let request = client.get(format!("http://{}/v2/{path}", registry.host));
        let answer = HttpResponse::of(request.header("accept", format!("{INDEX}, {MANIFEST}"))).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.body
    }

    #[tokio::test]
    async fn push_quickly_pushes_complete_images() {
        let registry = Registry::start();
        let images: Vec<(String, String)> = (0..20).map(|i| (format!("t{i}"), format!("content {}", i / 2))).collect();
        let digests = push_quickly(&registry, "team/app", &images).await;
        for ((tag, content), digest) in images.iter().zip(&digests) {
            assert!(digest.matches(&fetch(&registry, &format!("team/app/manifests/{tag}")).await), "{tag} {content}");
        }
        assert!(digests[0] == digests[1] && digests[1] != digests[2]);
        QuickPush::to(&registry, "team/app").await.delete(&digests[0]).await;
        let gone =
            HttpResponse::of(reqwest::Client::new().get(format!("http://{}/v2/team/app/manifests/t0", registry.host)));
        assert_eq!(gone.await.status, 404);
    }

    #[tokio::test]
    async fn images_arrive_byte_for_byte() {
        let registry = Registry::start();
        let one = push_image(&registry, "team/app", "1.0", "one");
        let two = push_image(&registry, "team/app", "1.0", "two");
        assert_ne!(one, two);
        assert!(two.matches(&fetch(&registry, "team/app/manifests/1.0").await));
        assert!(one.matches(&fetch(&registry, &format!("team/app/manifests/{one}")).await));
        let (index, platforms) = push_index(&registry, "team/multi", "1.0", &[("amd64", "a"), ("arm64", "b")]);
        assert!(index.matches(&fetch(&registry, "team/multi/manifests/1.0").await));
        assert!(platforms[1].matches(&fetch(&registry, &format!("team/multi/manifests/{}", platforms[1])).await));
    }
}
