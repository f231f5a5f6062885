//! A data directory, `taglog-server` on it, and its HTTP calls.

use std::{
    fmt,
    hash::{BuildHasher as _, RandomState},
    net::TcpListener,
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use reqwest::{
    Method, RequestBuilder,
    header::{CONTENT_TYPE, HeaderMap},
};
use serde_json::Value;
use taglog_proto::{
    checkpoint::SignedCheckpoint,
    note::VerifierKey,
    tag_proof::{TagProof, VerifiedLookup},
    tile::encode_bundle,
};
use tempfile::TempDir;

use crate::{
    process::{IDLE, Process, TIMEOUT, binary},
    witness::Witness,
};

/// The origin of every log in the tests, unless a test names another one.
pub const ORIGIN: &str = "log.example/test";
/// The configuration file in a data directory.
pub const CONFIG_FILE: &str = "taglog-server.toml";
/// Fast enough that tests do not wait, slow enough that several requests meet in one batch.
const BATCH_INTERVAL_MS: u64 = 20;

/// `taglog-server` without the environment of the test.
pub fn command() -> Command {
    let mut command = Command::new(binary("taglog-server"));
    command.env_clear();
    command
}

/// How a server process ended.
#[derive(Debug)]
pub struct ServerExit {
    pub code: Option<i32>,
    /// What it wrote to standard error.
    pub message: String,
}

/// A data directory, removed when the last copy of this is dropped.
#[derive(Clone)]
pub struct DataDirectory {
    directory: Arc<TempDir>,
    /// The log's key, as `init` printed it.
    pub vkey: VerifierKey,
}

impl DataDirectory {
    /// A new data directory with the server's own configuration file.
    pub fn init() -> DataDirectory {
        DataDirectory::init_with(&[])
    }

    /// The same, with further arguments to `init`.
    pub fn init_with(arguments: &[&str]) -> DataDirectory {
        DataDirectory::named(ORIGIN, arguments)
    }

    /// The same, for a log of this origin.
    pub fn named(origin: &str, arguments: &[&str]) -> DataDirectory {
        let directory = Arc::new(tempfile::tempdir().unwrap());
        let path = directory.path().join("data");
        let output = command().arg("init").arg(&path).args(["--origin", origin]).args(arguments).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let vkeys = String::from_utf8(output.stdout).unwrap();
        DataDirectory { directory, vkey: vkeys.lines().next().unwrap().parse().unwrap() }
    }

    /// A new data directory that admits these witnesses. `more` is TOML: keys first, tables last.
    pub fn with(witnesses: &[&Witness], more: &str) -> DataDirectory {
        let data = DataDirectory::init();
        data.configure(witnesses, more);
        data
    }

    /// Writes the policy file `policy`; the configuration has to name it.
    pub fn write_policy(&self, policy: &str) {
        std::fs::write(self.path().join("policy"), policy).unwrap();
    }

    pub fn configure(&self, witnesses: &[&Witness], more: &str) {
        let vkeys: Vec<String> = witnesses.iter().map(|witness| format!("{:?}", witness.vkey().to_string())).collect();
        self.write_config(&format!("witnesses = [{}]\n{more}\n", vkeys.join(", ")));
    }

    /// Writes the configuration file as it is given.
    pub fn write_config(&self, toml: &str) {
        std::fs::write(self.path().join(CONFIG_FILE), toml).unwrap();
    }

    pub fn path(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// The command that serves this directory on a free port.
    pub fn run_command(&self) -> Command {
        let mut command = command();
        command.args(["run", "--data"]).arg(self.path());
        // By the environment, so that a test may still give the flags.
        command.env("TAGLOG_LISTEN", "127.0.0.1:0").env("TAGLOG_BATCH_INTERVAL_MS", BATCH_INTERVAL_MS.to_string());
        command
    }

    /// Starts the server and waits until it is ready.
    pub fn start(&self) -> Server {
        self.start_with(&[])
    }

    /// Starts the server at an address of [`lasting_address`], as after an outage, and waits until it is ready.
    pub fn start_at(&self, address: &str) -> Server {
        self.start_with(&["--listen", address])
    }

    /// Starts the server with further arguments and waits until it is ready.
    pub fn start_with(&self, arguments: &[&str]) -> Server {
        match self.try_start(arguments) {
            Ok(server) => server,
            Err(refusal) => panic!("the server does not start: {refusal:?}"),
        }
    }

    /// Starts the server, or says how it refused.
    ///
    /// # Errors
    /// [`ServerExit`] when it ended instead of getting ready.
    pub fn try_start(&self, arguments: &[&str]) -> Result<Server, ServerExit> {
        let mut server = self.try_start_unpublished(arguments)?;
        let deadline = Instant::now() + TIMEOUT;
        while http_status(&server.address, "/readyz") != Some(200) {
            if !server.process.is_running() {
                return Err(ended(server.process));
            }
            assert!(Instant::now() < deadline, "not ready: {}", server.process.stderr());
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(server)
    }

    /// Starts the server and waits until it takes entries, which may be before anything is published.
    ///
    /// # Errors
    /// [`ServerExit`] when it ended instead.
    pub fn try_start_unpublished(&self, arguments: &[&str]) -> Result<Server, ServerExit> {
        let process = Process::spawn(self.run_command().args(arguments));
        let Some(line) = process.line(TIMEOUT) else { return Err(ended(process)) };
        let (_, url) = line.rsplit_once(" at ").unwrap_or_else(|| panic!("announced {line:?}"));
        assert!(line.contains(&self.vkey.to_string()), "announced {line:?}, want {}", self.vkey);
        let address = url.strip_prefix("http://").unwrap().to_owned();
        let client =
            reqwest::Client::builder().no_proxy().no_gzip().timeout(TIMEOUT).pool_idle_timeout(IDLE).build().unwrap();
        let (vkey, url) = (self.vkey.clone(), url.to_owned());
        Ok(Server { process, url, address, vkey, data: self.clone(), client })
    }
}

fn ended(mut process: Process) -> ServerExit {
    let status = process.wait(TIMEOUT);
    ServerExit { code: status.code(), message: process.stderr() }
}

/// A free loopback address that no outgoing connection can take in the meantime: outside the range from which the
/// system takes the ports of outgoing connections.
pub fn lasting_address() -> String {
    // Where the search begins differs from process to process and from call to call.
    let random = RandomState::new().hash_one(());
    let ports = (0..1000).map(|i| 20_000 + (random.wrapping_add(i) % 12_000) as u16);
    let address = ports.map(|port| format!("127.0.0.1:{port}")).find(|address| TcpListener::bind(address).is_ok());
    address.expect("no free port")
}

/// The status of a `GET` without an HTTP client library; `None` without an answer.
pub fn http_status(address: &str, path: &str) -> Option<u16> {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n").as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.split(' ').nth(1)?.parse().ok()
}

/// A running server. Dropping it kills it.
pub struct Server {
    // First, so that the process is gone before its directory is.
    process: Process,
    /// `http://127.0.0.1:port`.
    pub url: String,
    /// `127.0.0.1:port`.
    pub address: String,
    pub vkey: VerifierKey,
    pub data: DataDirectory,
    /// Does not decompress and does not use a proxy.
    pub client: reqwest::Client,
}

impl Server {
    /// A new log that admits these witnesses. `more` is TOML: keys first, tables last.
    pub fn start(witnesses: &[&Witness], more: &str) -> Server {
        DataDirectory::with(witnesses, more).start()
    }

    /// Asks it to stop, with SIGTERM.
    pub fn terminate(&self) {
        self.process.terminate();
    }

    /// Stops it with SIGTERM; it must end with exit code 0, now or before.
    pub fn stop(mut self) -> DataDirectory {
        self.end();
        self.data
    }

    /// Stops it as [`Server::stop`] does, and starts it again on the same directory. Its address is another one then.
    pub fn restart(&mut self) {
        self.end();
        *self = self.data.start();
    }

    fn end(&mut self) {
        if self.process.is_running() {
            self.process.terminate();
        }
        let status = self.process.wait(TIMEOUT);
        assert!(status.success(), "{status}: {}", self.process.stderr());
    }

    /// Waits until it ends by itself: its exit code and what it wrote to standard error.
    pub fn ended(self) -> ServerExit {
        ended(self.process)
    }

    pub fn kill(mut self) -> DataDirectory {
        self.process.kill();
        let status = self.process.wait(TIMEOUT);
        assert_eq!(status.signal(), Some(9), "it ended before: {}", self.process.stderr());
        self.data
    }

    pub fn id(&self) -> u32 {
        self.process.id()
    }

    pub fn request(&self, method: &str, path: &str) -> RequestBuilder {
        self.client.request(Method::from_bytes(method.as_bytes()).unwrap(), format!("{}{path}", self.url))
    }

    pub async fn get(&self, path: &str) -> HttpResponse {
        HttpResponse::of(self.request("GET", path)).await
    }

    /// The status of `GET path`; `None` when nobody answers.
    pub async fn get_status(&self, path: &str) -> Option<u16> {
        HttpResponse::try_of(self.request("GET", path)).await.ok().map(|answer| answer.status)
    }

    pub async fn post(&self, path: &str, content_type: &str, body: impl Into<reqwest::Body>) -> HttpResponse {
        HttpResponse::of(self.request("POST", path).header(CONTENT_TYPE, content_type).body(body)).await
    }

    pub async fn put(&self, path: &str, body: impl Into<reqwest::Body>) -> HttpResponse {
        HttpResponse::of(self.request("PUT", path).body(body)).await
    }

    /// Submits one note and returns the answer as it is.
    pub async fn post_note(&self, note: &[u8]) -> HttpResponse {
        self.post("/api/v1/entries", "text/plain", note.to_vec()).await
    }

    /// Submits one note.
    pub async fn submit(&self, note: &[u8]) -> SubmissionResult {
        let answer = self.post_note(note).await;
        match answer.status {
            200 => SubmissionResult::of(&answer.json()[0]),
            _ => SubmissionResult::Refused(answer.problem().1),
        }
    }

    /// Submits notes as one bundle; one result for each.
    pub async fn submit_bundle(&self, notes: &[Vec<u8>]) -> Vec<SubmissionResult> {
        self.try_submit_bundle(notes).await.expect("nobody answers")
    }

    /// Submits notes as one bundle; `None` when the server goes away, or says 503 because it will.
    pub async fn try_submit_bundle(&self, notes: &[Vec<u8>]) -> Option<Vec<SubmissionResult>> {
        let bundle = encode_bundle(notes.iter().map(Vec::as_slice)).unwrap();
        let request = self.request("POST", "/api/v1/entries").header(CONTENT_TYPE, "application/octet-stream");
        let answer = HttpResponse::try_of(request.body(bundle)).await.ok().filter(|answer| answer.status != 503)?;
        assert_eq!(answer.status, 200, "{answer:?}");
        let outcomes: Vec<SubmissionResult> =
            answer.json().as_array().unwrap().iter().map(SubmissionResult::of).collect();
        assert_eq!(outcomes.len(), notes.len());
        Some(outcomes)
    }

    /// Submits notes as one bundle, which must all be added; returns their indices.
    pub async fn add(&self, notes: &[Vec<u8>]) -> Vec<u64> {
        let outcomes = self.submit_bundle(notes).await;
        outcomes.iter().map(|outcome| outcome.added()).collect()
    }

    /// The published checkpoint, verified.
    pub async fn checkpoint(&self) -> SignedCheckpoint {
        let answer = self.get("/checkpoint").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let checkpoint = SignedCheckpoint::parse(&answer.body).unwrap();
        checkpoint.verify(&self.vkey).unwrap();
        checkpoint
    }

    pub async fn size(&self) -> u64 {
        self.checkpoint().await.unverified().size
    }

    /// A look-up, verified. `query` follows the image parameters: empty, or `&from=…&page=…`.
    pub async fn lookup(&self, images: &[&str], query: &str) -> VerifiedLookup {
        let proof = self.tag_proof(images, query).await;
        proof.verify(&self.vkey).unwrap_or_else(|error| panic!("{images:?}: {error}"))
    }

    /// A look-up's tag proof, not verified.
    pub async fn tag_proof(&self, images: &[&str], query: &str) -> TagProof {
        let images: Vec<String> = images.iter().map(|image| format!("image={image}")).collect();
        let answer = self.get(&format!("/api/v1/lookup?{}{query}", images.join("&"))).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        TagProof::from_json(&answer.body).unwrap()
    }
}

/// The result of submitting one entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubmissionResult {
    /// A new entry at this index.
    Added(u64),
    /// The entry was already in the log, at this index.
    Duplicate(u64),
    /// The last part of the problem type.
    Refused(String),
}

impl SubmissionResult {
    /// Reads one row of the answer to a submission.
    pub fn of(answer: &Value) -> SubmissionResult {
        match (answer["status"].as_str(), answer["index"].as_u64()) {
            (Some("added"), Some(index)) => SubmissionResult::Added(index),
            (Some("duplicate"), Some(index)) => SubmissionResult::Duplicate(index),
            _ => SubmissionResult::Refused(problem_of(&answer["error"]).1),
        }
    }

    /// The index where it is, added now or before.
    pub fn index(&self) -> u64 {
        match self {
            SubmissionResult::Added(index) | SubmissionResult::Duplicate(index) => *index,
            SubmissionResult::Refused(kind) => panic!("refused: {kind}"),
        }
    }

    /// The index of what must be new.
    pub fn added(&self) -> u64 {
        match self {
            SubmissionResult::Added(index) => *index,
            other => panic!("want added, got {other:?}"),
        }
    }
}

/// A response whose body has been read.
pub struct HttpResponse {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl fmt::Debug for HttpResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let body: String = self.text().chars().take(500).collect();
        write!(f, "{} {:?} {body}", self.status, self.headers)
    }
}

impl HttpResponse {
    pub async fn of(request: RequestBuilder) -> HttpResponse {
        HttpResponse::try_of(request).await.unwrap()
    }

    /// Sends a request and reads the answer.
    ///
    /// # Errors
    /// When nobody answers, or not to the end.
    pub async fn try_of(request: RequestBuilder) -> reqwest::Result<HttpResponse> {
        let response = request.send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Ok(HttpResponse { status, headers, body: response.bytes().await?.to_vec() })
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// A header field, empty if it is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap_or(""))
    }

    /// Status and last part of the type of a problem document, whose shape is checked.
    pub fn problem(&self) -> (u16, String) {
        assert_eq!(self.header("content-type"), "application/problem+json", "{self:?}");
        let (status, kind) = problem_of(&self.json());
        assert_eq!(status, self.status, "{self:?}");
        (status, kind)
    }
}

/// Status and last part of the type of a problem document.
fn problem_of(problem: &Value) -> (u16, String) {
    let kind = problem["type"].as_str().and_then(|kind| kind.strip_prefix("urn:taglog:problem:"));
    let kind = kind.unwrap_or_else(|| panic!("no problem type in {problem}"));
    let texts = ["title", "detail"].map(|field| problem[field].as_str().unwrap_or(""));
    assert!(texts.iter().all(|text| !text.is_empty()), "title and detail in {problem}");
    let status = problem["status"].as_u64().and_then(|status| status.try_into().ok());
    (status.unwrap_or_else(|| panic!("no status in {problem}")), kind.to_owned())
}

/// Copies a directory with all that is in it.
pub fn copy_directory(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_directory(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
