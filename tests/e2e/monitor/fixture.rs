//! A monitor with a home directory, and a receiver of its webhook.

use std::{
    future::Future,
    path::PathBuf,
    process::{Command, Stdio},
    sync::{Arc, LazyLock, Mutex},
};

use axum::{Json, Router, extract::State, http::StatusCode, routing::post};
use serde_json::Value;
use taglog_proto::note::VerifierKey;
use taglog_tests::{
    Process, binary,
    process::{TIMEOUT, wait_for},
};
use tempfile::TempDir;
use tokio::{net::TcpListener, runtime::Runtime};

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());

/// Blocks on a future.
pub fn wait<T>(future: impl Future<Output = T>) -> T {
    RUNTIME.block_on(future)
}

/// Receives alerts; a test chooses which it refuses.
#[derive(Clone)]
pub struct WebhookReceiver {
    pub url: String,
    taken: Arc<Mutex<Vec<Value>>>,
    answer: Arc<dyn Fn(usize) -> u16 + Send + Sync>,
    asked: Arc<Mutex<usize>>,
}

impl WebhookReceiver {
    /// Answers with a status that follows from how many requests there were before.
    pub fn start(answer: impl Fn(usize) -> u16 + Send + Sync + 'static) -> WebhookReceiver {
        wait(async move {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("http://{}/hook", listener.local_addr().unwrap());
            let (taken, asked) = (Arc::default(), Arc::default());
            let receiver = WebhookReceiver { url, taken, answer: Arc::new(answer), asked };
            let router = Router::new().route("/hook", post(take)).with_state(receiver.clone());
            tokio::spawn(async move { axum::serve(listener, router).await });
            receiver
        })
    }

    /// What was taken so far.
    pub fn taken(&self) -> Vec<Value> {
        self.taken.lock().unwrap().clone()
    }
}

async fn take(State(receiver): State<WebhookReceiver>, Json(alert): Json<Value>) -> StatusCode {
    let mut asked = receiver.asked.lock().unwrap();
    let status = (receiver.answer)(*asked);
    *asked += 1;
    if status < 300 {
        receiver.taken.lock().unwrap().push(alert);
    }
    StatusCode::from_u16(status).unwrap()
}

/// A home with a configuration.
pub struct MonitorFixture {
    home: TempDir,
}

/// How a run of `--once` ended.
#[derive(Debug)]
pub struct OnceOutput {
    pub code: Option<i32>,
    /// Shown when an assertion fails.
    #[allow(dead_code)] // Read by Debug alone.
    pub stderr: String,
    /// The alerts on standard output.
    pub alerts: Vec<Value>,
}

impl MonitorFixture {
    /// A monitor of this log, that watches everything. `more` is TOML: keys first, tables last. `log` is an address, or
    /// a directory in the home.
    pub fn new(vkey: &VerifierKey, log: &str, more: &str) -> MonitorFixture {
        let fixture = MonitorFixture { home: tempfile::tempdir().unwrap() };
        fixture.write("trust", &format!("log {vkey}\nquorum none\n"));
        fixture.configure(log, more);
        fixture
    }

    pub fn configure(&self, log: &str, more: &str) {
        let watch = "[[watch]]\nrepository = \"glob:**\"\n";
        self.write(
            "monitor.toml",
            &format!("trust = \"trust\"\nlog = {log:?}\nstate = \"state\"\ninterval = \"1s\"\n{more}\n{watch}"),
        );
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    pub fn write(&self, name: &str, content: &str) {
        std::fs::write(self.path(name), content).unwrap();
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary("taglog"));
        command.env_clear().env("HOME", self.home.path()).env("PATH", "/usr/bin:/bin").current_dir(self.home.path());
        command.arg("monitor").args(arguments).stdin(Stdio::null());
        command
    }

    pub fn start(&self, arguments: &[&str]) -> Process {
        Process::spawn(&mut self.command(arguments))
    }

    pub fn once(&self, arguments: &[&str]) -> OnceOutput {
        let output = self.command(&[&["--once"], arguments].concat()).output().unwrap();
        let stdout = String::from_utf8(output.stdout).unwrap();
        OnceOutput {
            code: output.status.code(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            alerts: stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect(),
        }
    }
}

/// Lines of standard output as alerts, one after the other.
pub fn next_alert(process: &Process) -> Value {
    let line = process.line(TIMEOUT).unwrap_or_else(|| panic!("no alert comes: {}", process.stderr()));
    serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

/// The next alert of this kind and state; others may come before it.
pub fn await_alert(process: &Process, kind: &str, state: &str) -> Value {
    loop {
        let alert = next_alert(process);
        if alert["kind"] == kind && alert["state"] == state {
            return alert;
        }
    }
}

/// Where a monitor serves metrics, from its log.
pub fn address_of(process: &Process) -> String {
    wait_for("the address", TIMEOUT, || {
        let stderr = process.stderr();
        let (_, rest) = stderr.split_once("listening on http://")?;
        Some(rest.split_once('\n')?.0.trim().to_owned())
    })
}
