//! A home directory and the `taglog cosign serve` in it, and logs that only grow for it to cosign.

use std::{
    path::PathBuf,
    process::{Command, ExitStatus},
};

use taglog_memory_log::MemoryLog;
use taglog_proto::{
    add_checkpoint::AddCheckpoint,
    checkpoint::SignedCheckpoint,
    cosignature::{Algorithm, CosignerKey, CosignerSigningKey},
    merkle::{Hash, consistency_proof},
    note::SigningKey,
};
use tempfile::TempDir;

use crate::{
    process::{IDLE, Process, TIMEOUT, binary},
    server::HttpResponse,
};

/// A cosigner in a home of its own, with an Ed25519 and an ML-DSA-44 key. Dropping it kills it.
pub struct CosignerProcess {
    // First, so that the process is gone before its directory is.
    process: Option<Process>,
    url: String,
    /// The public keys: Ed25519, ML-DSA-44.
    pub keys: [CosignerKey; 2],
    client: reqwest::Client,
    home: TempDir,
}

impl CosignerProcess {
    /// A home for a cosigner of these logs, each a `[[log]]` table of [`log_table`]; nothing is started.
    pub fn new(name: &str, tables: &[String]) -> CosignerProcess {
        let home = tempfile::tempdir().unwrap();
        let secrets = [Algorithm::Ed25519, Algorithm::MlDsa44]
            .map(|algorithm| CosignerSigningKey::from_seed(name, algorithm, &[77; 32]).unwrap());
        for (secret, file) in secrets.iter().zip(["ed25519.key", "ml-dsa.key"]) {
            std::fs::write(home.path().join(file), secret.to_secret_string()).unwrap();
        }
        let keys = secrets.map(|secret| secret.key().clone());
        let client = reqwest::Client::builder().no_proxy().timeout(TIMEOUT).pool_idle_timeout(IDLE).build().unwrap();
        let cosigner = CosignerProcess { process: None, url: String::new(), keys, client, home };
        cosigner.configure("key = [\"ed25519.key\", \"ml-dsa.key\"]", tables);
        cosigner
    }

    /// Writes the configuration: lines of keys, and tables.
    pub fn configure(&self, lines: &str, tables: &[String]) {
        let text = format!("{lines}\nstate = \"state\"\nlisten = \"127.0.0.1:0\"\n{}", tables.concat());
        std::fs::write(self.path("cosigner.toml"), text).unwrap();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// `taglog cosign serve` on this home.
    pub fn command(&self) -> Command {
        let mut command = Command::new(binary("taglog"));
        command.env_clear().env("HOME", self.home.path()).current_dir(self.home.path());
        command.args(["cosign", "serve", "--config", "cosigner.toml"]);
        command
    }

    /// Starts it with both keys and further arguments, and waits until it is ready.
    pub fn start(&mut self, arguments: &[&str]) {
        self.start_with(self.keys.len(), arguments);
    }

    /// Starts it when it is configured with this many keys, and waits until it is ready.
    pub fn start_with(&mut self, keys: usize, arguments: &[&str]) {
        let process = Process::spawn(self.command().args(arguments));
        let lines: Vec<String> = (0..keys).filter_map(|_| process.line(TIMEOUT)).collect();
        let last = lines.last().unwrap_or_else(|| panic!("the cosigner does not start: {}", process.stderr()));
        let (said, url) = last.rsplit_once(" at ").unwrap();
        assert!(said.starts_with("cosigner: "), "{last}");
        self.url = url.to_owned();
        self.process = Some(process);
    }

    /// Starts it and expects that it refuses to; returns the exit code and what it says.
    pub fn refusal(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let mut process = Process::spawn(self.command().args(arguments));
        let status = process.wait(TIMEOUT);
        (status.code(), process.stderr())
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("the cosigner does not run")
    }

    pub fn kill(&mut self) {
        self.process().kill();
        self.process = None;
    }

    /// Stops it with SIGTERM; returns how it ended.
    pub fn stop(&mut self) -> ExitStatus {
        self.process().terminate();
        let status = self.process().wait(TIMEOUT);
        self.process = None;
        status
    }

    pub async fn post(&self, call: &str, body: impl Into<reqwest::Body>) -> HttpResponse {
        self.try_post(call, body).await.unwrap()
    }

    /// `POST` of any body to a call.
    ///
    /// # Errors
    /// When nobody answers.
    pub async fn try_post(&self, call: &str, body: impl Into<reqwest::Body>) -> reqwest::Result<HttpResponse> {
        HttpResponse::try_of(self.client.post(format!("{}/{call}", self.url)).body(body)).await
    }

    pub async fn get(&self, path: &str) -> HttpResponse {
        HttpResponse::of(self.client.get(format!("{}{path}", self.url))).await
    }

    /// The latest checkpoint that it serves of this origin.
    pub async fn latest(&self, origin: &str) -> SignedCheckpoint {
        let hash = Hash::of(origin.as_bytes()).0;
        let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        let answer = self.get(&format!("/{hash}/checkpoint")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        SignedCheckpoint::parse_any(&answer.body).unwrap()
    }
}

/// `[[log]]` with these vkeys; `more` is TOML.
pub fn log_table(vkeys: &[String], more: &str) -> String {
    format!("[[log]]\nvkey = {vkeys:?}\n{more}\n")
}

/// A log that grows by leaves of whatever bytes, as cosigners see it.
pub struct GrowingLog {
    /// Its key, of which the name is its origin.
    pub key: SigningKey,
    memory: MemoryLog,
}

impl GrowingLog {
    /// A log of this many leaves.
    pub fn new(origin: &str, size: u64) -> GrowingLog {
        let mut log =
            GrowingLog { key: SigningKey::from_seed(origin, &[9; 32]).unwrap(), memory: MemoryLog::default() };
        log.grow_to(size, "honest");
        log
    }

    /// Its `[[log]]` table.
    pub fn table(&self) -> String {
        log_table(&[self.key.verifier_key().to_string()], "")
    }

    pub fn origin(&self) -> &str {
        self.key.verifier_key().name()
    }

    /// Grows with leaves that follow from their index and a word.
    pub fn grow_to(&mut self, size: u64, word: &str) {
        for index in self.memory.entries().len() as u64..size {
            self.memory.append(&[format!("{word} {index}").as_bytes()]);
        }
    }

    pub fn checkpoint(&self) -> SignedCheckpoint {
        self.memory.checkpoint(self.origin()).sign(&self.key)
    }

    /// The consistency proof to now; empty from size 0.
    pub fn proof(&self, old: u64) -> Vec<Hash> {
        let size = self.memory.entries().len() as u64;
        if old == 0 { Vec::new() } else { consistency_proof(&self.memory, old, size).unwrap() }
    }

    /// The nodes of its tree.
    pub fn memory(&self) -> &MemoryLog {
        &self.memory
    }

    /// The request to cosign it as it is now.
    pub fn request(&self, old: u64) -> String {
        AddCheckpoint { old, proof: self.proof(old), checkpoint: self.checkpoint() }.to_string()
    }
}
