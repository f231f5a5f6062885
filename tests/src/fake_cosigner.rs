//! A small cosigner (c2sp.org/tlog-witness) with any fault that a test wants. It remembers one log.

use std::{
    net::TcpListener,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use taglog_proto::{
    add_checkpoint::AddCheckpoint,
    checkpoint::SignedCheckpoint,
    cosignature::{Algorithm, CosignerKey, CosignerSigningKey},
    merkle::verify_consistency,
    note::VerifierKey,
    policy::TrustPolicy,
    time::Timestamp,
};
use tokio::runtime::Runtime;

use crate::{server::lasting_address, witness::now};

/// How a cosigner responds to add-checkpoint.
#[derive(Clone, Debug)]
pub enum Behaviour {
    /// What c2sp.org/tlog-witness says.
    Honest,
    /// The same, after a while.
    Slow(Duration),
    /// Takes the question and never answers. Nothing is remembered.
    Hang,
    /// Cosigns, remembers, and answers with this status and text all the same.
    Lost(u16),
    /// Answers with this status, these header fields and this body. Nothing is remembered.
    Answer(u16, &'static str, String),
    /// Asks to come back later: 503 with `Retry-After: 1`.
    Busy,
    /// Cosigns with another key of the same name.
    OtherKey,
}

/// What it remembers, and its behaviour.
struct CosignerState {
    behaviour: Behaviour,
    /// The latest checkpoint that it cosigned, with its cosignatures.
    cosigned: Option<SignedCheckpoint>,
    /// How far its clock is off, in seconds.
    clock: i64,
    /// The old size and the size of every question that was understood.
    asked: Vec<(u64, u64)>,
    /// How often it refused a checkpoint as inconsistent.
    refuted: usize,
}

struct CosignerShared {
    log: VerifierKey,
    keys: Vec<CosignerSigningKey>,
    other_keys: Vec<CosignerSigningKey>,
    memory: Mutex<CosignerState>,
}

/// A cosigner whose address stays reserved while it is stopped.
pub struct FakeCosigner {
    /// Its name in policies, and the last part of its keys' name.
    pub name: String,
    address: String,
    shared: Arc<CosignerShared>,
    running: Mutex<Option<Runtime>>,
}

impl FakeCosigner {
    /// A running cosigner with an Ed25519 key, for one log.
    pub fn start(name: &str, log: &VerifierKey) -> FakeCosigner {
        FakeCosigner::start_with(name, log, &[Algorithm::Ed25519])
    }

    /// A running cosigner with a key of each kind.
    pub fn start_with(name: &str, log: &VerifierKey, algorithms: &[Algorithm]) -> FakeCosigner {
        let key = |salt: u8, algorithm: &Algorithm| {
            let seed = taglog_proto::merkle::Hash::of(&[name.as_bytes(), &[salt]].concat()).0;
            CosignerSigningKey::from_seed(&format!("cosigner.example/{name}"), *algorithm, &seed).unwrap()
        };
        let memory =
            CosignerState { behaviour: Behaviour::Honest, cosigned: None, clock: 0, asked: Vec::new(), refuted: 0 };
        let shared = Arc::new(CosignerShared {
            log: log.clone(),
            keys: algorithms.iter().map(|algorithm| key(0, algorithm)).collect(),
            other_keys: algorithms.iter().map(|algorithm| key(1, algorithm)).collect(),
            memory: Mutex::new(memory),
        });
        let cosigner =
            FakeCosigner { name: name.to_owned(), address: lasting_address(), shared, running: Mutex::new(None) };
        cosigner.listen_again();
        cosigner
    }

    pub fn keys(&self) -> Vec<CosignerKey> {
        self.shared.keys.iter().map(|key| key.key().clone()).collect()
    }

    /// Its submission prefix.
    pub fn url(&self) -> String {
        format!("http://{}/prefix", self.address)
    }

    /// Stops listening at its address; all connections end.
    pub fn stop_listening(&self) {
        if let Some(runtime) = self.running.lock().unwrap().take() {
            runtime.shutdown_background();
        }
    }

    /// Listens again, with all that it remembers.
    pub fn listen_again(&self) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = bind(&self.address);
        let app = Router::new()
            .route("/prefix/add-checkpoint", post(add_checkpoint))
            .route("/prefix/{origin}/checkpoint", get(monitored))
            .with_state(Arc::clone(&self.shared));
        runtime.spawn(async move {
            listener.set_nonblocking(true).unwrap();
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            axum::serve(listener, app).await.unwrap();
        });
        *self.running.lock().unwrap() = Some(runtime);
    }

    fn with_memory<T>(&self, change: impl FnOnce(&mut CosignerState) -> T) -> T {
        change(&mut self.shared.memory.lock().unwrap())
    }

    pub fn behave(&self, behaviour: Behaviour) {
        self.with_memory(|memory| memory.behaviour = behaviour);
    }

    /// Sets its clock off by so many seconds.
    pub fn set_clock(&self, seconds: i64) {
        self.with_memory(|memory| memory.clock = seconds);
    }

    /// Forgets all that it has cosigned.
    pub fn forget(&self) {
        self.with_memory(|memory| memory.cosigned = None);
    }

    /// The size that it cosigned last.
    pub fn cosigned(&self) -> u64 {
        self.with_memory(|memory| memory.cosigned.as_ref().map_or(0, |signed| signed.unverified().size))
    }

    /// The checkpoint that it cosigned last.
    pub fn checkpoint(&self) -> Option<SignedCheckpoint> {
        self.with_memory(|memory| memory.cosigned.clone())
    }

    /// The old size and the size of every question so far.
    pub fn asked(&self) -> Vec<(u64, u64)> {
        self.with_memory(|memory| memory.asked.clone())
    }

    /// How often it refused a checkpoint as inconsistent with what it had cosigned.
    pub fn refuted(&self) -> usize {
        self.with_memory(|memory| memory.refuted)
    }
}

impl Drop for FakeCosigner {
    fn drop(&mut self) {
        self.stop_listening();
    }
}

/// Connections from before a restart may hold the port for a moment.
fn bind(address: &str) -> TcpListener {
    crate::process::wait_for("the cosigner's port", crate::process::TIMEOUT, || TcpListener::bind(address).ok())
}

/// A policy of these cosigners of which any `want` are a quorum. Keys of one cosigner count once each,
/// under the names `<name>`, `<name>-2`, and so on.
pub fn policy(cosigners: &[&FakeCosigner], want: usize) -> String {
    let (mut lines, mut names) = (String::new(), Vec::new());
    for cosigner in cosigners {
        for (i, key) in cosigner.keys().iter().enumerate() {
            let name = if i == 0 { cosigner.name.clone() } else { format!("{}-{}", cosigner.name, i + 1) };
            lines.push_str(&format!("witness {name} {key} {}\n", cosigner.url()));
            names.push(name);
        }
    }
    format!("{lines}group enough {want} {}\nquorum enough\n", names.join(" "))
}

/// The same policy with the log's key, as verifiers have it.
pub fn trust_policy(log: &VerifierKey, cosigners: &[&FakeCosigner], want: usize) -> TrustPolicy {
    TrustPolicy::parse(format!("log {log}\n{}", policy(cosigners, want)).as_bytes()).unwrap()
}

async fn monitored(State(shared): State<Arc<CosignerShared>>) -> Response {
    match &shared.memory.lock().unwrap().cosigned {
        Some(checkpoint) => checkpoint.to_string().into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn add_checkpoint(State(shared): State<Arc<CosignerShared>>, body: Bytes) -> Response {
    let Ok(request) = AddCheckpoint::parse(&body) else { return StatusCode::BAD_REQUEST.into_response() };
    let behaviour = {
        let mut memory = shared.memory.lock().unwrap();
        memory.asked.push((request.old, request.checkpoint.unverified().size));
        memory.behaviour.clone()
    };
    let status = |status: u16| StatusCode::from_u16(status).unwrap();
    match behaviour {
        Behaviour::Honest => cosign(&shared, &request, &shared.keys),
        Behaviour::Slow(wait) => {
            tokio::time::sleep(wait).await;
            cosign(&shared, &request, &shared.keys)
        }
        Behaviour::Hang => std::future::pending().await,
        Behaviour::Lost(code) => {
            cosign(&shared, &request, &shared.keys);
            status(code).into_response()
        }
        Behaviour::Answer(code, content_type, body) => {
            (status(code), [(header::CONTENT_TYPE, content_type)], body).into_response()
        }
        Behaviour::Busy => (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "1")], "reading").into_response(),
        Behaviour::OtherKey => cosign(&shared, &request, &shared.other_keys),
    }
}

/// c2sp.org/tlog-witness, in its order.
fn cosign(shared: &CosignerShared, request: &AddCheckpoint, keys: &[CosignerSigningKey]) -> Response {
    let signed = &request.checkpoint;
    if signed.unverified().origin != shared.log.name() {
        return StatusCode::NOT_FOUND.into_response();
    }
    let Ok(checkpoint) = signed.verify(&shared.log) else { return StatusCode::FORBIDDEN.into_response() };
    let mut memory = shared.memory.lock().unwrap();
    let known = memory.cosigned.as_ref().map(|signed| signed.unverified().clone());
    let known_size = known.as_ref().map_or(0, |known| known.size);
    if request.old != known_size {
        let fields = [(header::CONTENT_TYPE, "text/x.tlog.size")];
        return (StatusCode::CONFLICT, fields, format!("{known_size}\n")).into_response();
    }
    let consistent = match &known {
        None => request.proof.is_empty(),
        Some(known) => {
            verify_consistency(known.size, checkpoint.size, &request.proof, &known.root, &checkpoint.root).is_ok()
        }
    };
    if !consistent {
        memory.refuted += 1;
        return (StatusCode::UNPROCESSABLE_ENTITY, "not consistent with what was cosigned").into_response();
    }
    let time = Timestamp::from_unix(now() + memory.clock).unwrap();
    let lines: Vec<_> = keys.iter().map(|key| key.cosign(signed, time).unwrap()).collect();
    let answer: String = lines.iter().map(ToString::to_string).collect();
    memory.cosigned = Some(signed.with_signatures(lines));
    answer.into_response()
}
