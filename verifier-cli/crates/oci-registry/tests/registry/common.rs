//! A real registry and servers that only pretend to be one, all on loopback.
#![allow(dead_code)] // Each test program uses its own part of this.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use axum::{
    extract::Request,
    http::{HeaderMap, HeaderName, Method, Uri},
    response::Response,
};
use sha2::Digest as _;
use taglog_oci_registry::{Login, ManifestReference, Registry, RegistryOptions};
use taglog_proto::name::{Digest, Image, Repository, Tag};
use tempfile::TempDir;

pub fn sha256(bytes: &[u8]) -> Digest {
    Digest::sha256(bytes)
}

pub fn sha512(bytes: &[u8]) -> Digest {
    Digest::Sha512(sha2::Sha512::digest(bytes).into())
}

pub fn tagged(repository: &Repository, tag: &str) -> Image {
    Image { repository: repository.clone(), tag: Tag::parse(tag).unwrap() }
}

pub fn by_tag(tag: &str) -> ManifestReference {
    ManifestReference::Tag(Tag::parse(tag).unwrap())
}

pub fn by_digest(digest: Digest) -> ManifestReference {
    ManifestReference::Digest(digest)
}

/// A registry client that reads `config` instead of the user's own Docker configuration.
pub fn client(config: &DockerConfig) -> Registry {
    client_with(config, Duration::from_secs(20))
}

pub fn client_with(config: &DockerConfig, timeout: Duration) -> Registry {
    let docker_config = Some(config.path().to_owned());
    Registry::new(RegistryOptions { timeout, docker_config, ..RegistryOptions::default() }).unwrap()
}

/// A registry client that must not use the logins in `config`.
pub fn client_without_login(config: &DockerConfig) -> Registry {
    let docker_config = Some(config.path().to_owned());
    Registry::new(RegistryOptions { login: Login::Never, docker_config, ..RegistryOptions::default() }).unwrap()
}

pub struct DockerConfig(TempDir);

impl DockerConfig {
    pub fn none() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn new(json: &str) -> Self {
        let config = Self::none();
        std::fs::write(config.path().join("config.json"), json).unwrap();
        config
    }

    pub fn login(host: &str, user: &str, password: &str) -> Self {
        Self::new(&format!(r#"{{"auths":{{"{host}":{{"username":"{user}","password":"{password}"}}}}}}"#))
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

/// For talking to a [`RealRegistry`] directly, past the proxy that the system may have.
pub fn http() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().unwrap()
}

/// The one user of a [`RealRegistry`] with login.
pub const USER: &str = "ann";
pub const PASSWORD: &str = "correct horse";
/// The two as `htpasswd -Bbn -C 5` hashes them (bcrypt, the only hash that the registry takes).
const PASSWORD_FILE: &str = "ann:$2y$05$AxMENzLPYuaZEr99s7EGvu0JB2QOL9EB7l/5lWLiSjnns08QeKNxa\n";

/// Writes the password file into a registry's directory, and gives the part of its configuration that uses it.
fn login_in(directory: &Path) -> String {
    let passwords = directory.join("htpasswd");
    std::fs::write(&passwords, PASSWORD_FILE).unwrap();
    format!("auth:\n  htpasswd:\n    realm: test\n    path: {}\n", passwords.display())
}

/// The `docker-registry` program, killed on drop.
pub struct RealRegistry {
    child: Child,
    pub host: String,
    pub directory: TempDir,
}

impl Drop for RealRegistry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl RealRegistry {
    pub async fn start() -> Self {
        Self::start_with("").await
    }

    /// With basic authentication for [`USER`] and [`PASSWORD`].
    pub async fn start_with_login() -> Self {
        Self::start_in(login_in).await
    }

    /// With further YAML at the top level of its configuration.
    pub async fn start_with(more: &str) -> Self {
        Self::start_in(|_| more.to_owned()).await
    }

    /// `more` gets the registry's directory and gives further YAML.
    async fn start_in(more: impl Fn(&Path) -> String) -> Self {
        // Between choosing a free port and the registry's use of it, another program may take it.
        for _ in 0..5 {
            if let Some(registry) = Self::try_start(&more).await {
                return registry;
            }
        }
        panic!("docker-registry does not start");
    }

    async fn try_start(more: impl Fn(&Path) -> String) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let host = format!("127.0.0.1:{port}");
        let root = directory.path().join("data");
        let config = format!(
            "version: 0.1\nlog:\n  level: error\nstorage:\n  delete:\n    enabled: true\n  filesystem:\n    \
             rootdirectory: {}\nhttp:\n  addr: {host}\n{}",
            root.display(),
            more(directory.path())
        );
        let config_path = directory.path().join("config.yml");
        std::fs::write(&config_path, config).unwrap();
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(&config_path)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut registry = Self { child, host, directory };
        registry.ready().await.then_some(registry)
    }

    pub fn repository(&self, path: &str) -> Repository {
        Repository::parse(&format!("{}/{path}", self.host)).unwrap()
    }

    async fn ready(&mut self) -> bool {
        let deadline = Instant::now() + Duration::from_secs(30);
        let url = format!("http://{}/v2/", self.host);
        while Instant::now() < deadline {
            if self.child.try_wait().unwrap().is_some() {
                return false;
            }
            if let Ok(answer) = http().get(&url).send().await {
                return answer.headers().contains_key("docker-distribution-api-version");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        false
    }

    /// Puts a blob, for manifests that are put directly.
    pub async fn put_blob(&self, path: &str, bytes: &[u8]) {
        let http = http();
        let start = format!("http://{}/v2/{path}/blobs/uploads/", self.host);
        let answer = http.post(start).send().await.unwrap();
        let location = answer.headers()["location"].to_str().unwrap().to_owned();
        let url = format!("{location}&digest={}", sha256(bytes));
        let answer = http.put(url).body(bytes.to_owned()).send().await.unwrap();
        assert_eq!(answer.status(), 201, "{}", answer.text().await.unwrap());
    }

    pub async fn delete_manifest(&self, path: &str, digest: &Digest) {
        let url = format!("http://{}/v2/{path}/manifests/{digest}", self.host);
        let answer = http().delete(url).send().await.unwrap();
        assert_eq!(answer.status(), 202, "{}", answer.text().await.unwrap());
    }

    pub async fn put_manifest(&self, path: &str, reference: &str, kind: &str, bytes: &[u8]) {
        let url = format!("http://{}/v2/{path}/manifests/{reference}", self.host);
        let request = http().put(url).header("content-type", kind);
        let answer = request.body(bytes.to_owned()).send().await.unwrap();
        assert_eq!(answer.status(), 201, "{}", answer.text().await.unwrap());
    }
}

/// An OCI image layout on disk.
pub struct Layout(TempDir);

pub struct Blob {
    pub bytes: Vec<u8>,
    pub digest: Digest,
}

impl Layout {
    pub fn new() -> Self {
        let layout = Self(tempfile::tempdir().unwrap());
        std::fs::create_dir_all(layout.path().join("blobs/sha256")).unwrap();
        std::fs::write(layout.path().join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        layout
    }

    pub fn path(&self) -> PathBuf {
        self.0.path().to_owned()
    }

    pub fn blob(&self, text: &str) -> Blob {
        let digest = sha256(text.as_bytes());
        std::fs::write(self.path().join("blobs").join(digest.to_string().replace(':', "/")), text).unwrap();
        Blob { bytes: text.as_bytes().to_vec(), digest }
    }

    /// An image without layers for `architecture`.
    pub fn image(&self, architecture: &str) -> Blob {
        let config = self.blob(&format!(
            r#"{{"architecture":"{architecture}","os":"linux","rootfs":{{"type":"layers","diff_ids":[]}}}}"#
        ));
        self.blob(&format!(
            r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{},"layers":[]}}"#,
            descriptor("application/vnd.oci.image.config.v1+json", &config, "")
        ))
    }

    pub fn index(&self, architectures: &[&str]) -> Blob {
        let entry = |architecture: &&str| {
            let platform = format!(r#","platform":{{"architecture":"{architecture}","os":"linux"}}"#);
            let image = self.image(architecture);
            descriptor("application/vnd.oci.image.manifest.v1+json", &image, &platform)
        };
        let entries: Vec<String> = architectures.iter().map(entry).collect();
        self.blob(&format!(
            r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{}]}}"#,
            entries.join(",")
        ))
    }

    /// Makes `blob` what the name `main` of this layout stands for.
    pub fn main(&self, kind: &str, blob: &Blob) {
        let name = r#","annotations":{"org.opencontainers.image.ref.name":"main"}"#;
        let index = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, descriptor(kind, blob, name));
        std::fs::write(self.path().join("index.json"), index).unwrap();
    }

    /// Pushes `main` with skopeo, byte for byte.
    pub fn push(&self, image: &Image, login: Option<&str>) {
        let mut command = Command::new("skopeo");
        command.args(["--insecure-policy", "copy", "--quiet", "--all", "--preserve-digests"]);
        command.arg("--dest-tls-verify=false");
        command.args(login.map(|login| format!("--dest-creds={login}")));
        command.arg(format!("oci:{}:main", self.path().display()));
        let output = command.arg(format!("docker://{image}")).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

pub fn descriptor(kind: &str, blob: &Blob, more: &str) -> String {
    let (digest, size) = (&blob.digest, blob.bytes.len());
    format!(r#"{{"mediaType":"{kind}","digest":"{digest}","size":{size}{more}}}"#)
}

/// One request as a pretended registry saw it.
#[derive(Debug, Clone)]
pub struct Seen {
    pub method: Method,
    pub uri: Uri,
    pub headers: HeaderMap,
    pub body: String,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

/// A server whose every answer a test chooses.
pub struct Fake {
    pub host: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Fake {
    /// `answer` gets the request and this server's own `host:port`.
    pub async fn start(answer: impl Fn(&Seen, &str) -> Response + Clone + Send + Sync + 'static) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (log, own_host) = (seen.clone(), host.clone());
        let app = axum::Router::new().fallback(move |request: Request| async move {
            let (parts, body) = request.into_parts();
            let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
            let body = String::from_utf8_lossy(&body).into_owned();
            let one = Seen { method: parts.method, uri: parts.uri, headers: parts.headers, body };
            let response = answer(&one, &own_host);
            log.lock().unwrap().push(one);
            response
        });
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { host, seen, task }
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub fn repository(&self) -> Repository {
        Repository::parse(&format!("{}/team/app", self.host)).unwrap()
    }

    /// The tag `v1` of that repository.
    pub fn image(&self) -> Image {
        tagged(&self.repository(), "v1")
    }
}

pub fn reply(status: u16, headers: &[(&str, &str)], body: impl Into<axum::body::Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status.try_into().unwrap();
    for (name, value) in headers {
        let name: HeaderName = name.parse().unwrap();
        response.headers_mut().append(name, value.parse().unwrap());
    }
    response
}
