//! A complete small log with a key of its own, over real HTTP, that is honest until a test makes it lie.
//!
//! | attack | how |
//! |---|---|
//! | equivocates | [`DishonestLog::twin`]: same key and past, another address, another future |
//! | rolls back | [`DishonestLog::roll_back`] |
//! | reorders what is published | [`DishonestLog::rewrite`] |
//! | omits, cites falsely, forges the root, replays or omits a seal, misdates it | [`DishonestLog::lie`] |
//! | takes entries that break a rule | [`DishonestLog::force`] |
//! | withholds what it acknowledged | [`DishonestLog::withhold`] |
//! | freezes | [`DishonestLog::freeze`] |
//!
//! [`attack`] has all of them ready for use; [`history`] has the tree and the index, [`http`] the calls,
//! [`cosigner_client`] the way to cosigners.

pub mod attack;
pub mod cosigner_client;
pub mod history;
mod http;

use std::{
    future::Future,
    sync::{Arc, LazyLock, Mutex, MutexGuard},
};

use taglog_proto::{
    checkpoint::SignedCheckpoint,
    note::{SigningKey, VerifierKey},
};
use tokio::{net::TcpListener, runtime::Runtime, task::AbortHandle};

use crate::{server::ORIGIN, witness::Witness};
pub use attack::Attack;
use cosigner_client::{CosignerAnswer, CosignerClient};
pub use history::{History, Lie};

/// A runtime of its own, so that a test may block on another one.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());

/// The seed of every dishonest log's key: they are all one log.
const SEED: [u8; 32] = [66; 32];

/// How the log withholds an entry that it has acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Withholding {
    /// It gives an index, and answers requests that wait for publication with 503.
    Acknowledges,
    /// It gives a receipt, under a checkpoint that it shows to nobody else.
    GivesReceipt,
}

/// The published checkpoint and the history that it covers.
#[derive(Clone)]
struct Published {
    checkpoint: SignedCheckpoint,
    history: History,
    /// The history before, if this one does not end in a seal.
    sealed: Option<History>,
}

struct LogState {
    /// All that is committed, after each batch. Never empty.
    histories: Vec<History>,
    published: Published,
    frozen: bool,
    withholding: Option<Withholding>,
    /// What was acknowledged and withheld, with the index that it was given.
    withheld: Vec<(Vec<u8>, u64)>,
    /// The history that receipts for withheld entries were given under.
    shown: Option<History>,
    manifests: Vec<(String, Vec<u8>)>,
}

impl LogState {
    /// The history of at least this size that consistency is proven with.
    fn proven(&self, size: u64) -> Option<History> {
        let histories = [Some(&self.published.history), self.shown.as_ref()];
        histories.into_iter().flatten().find(|history| history.size() >= size).cloned()
    }

    fn committed(&self) -> &History {
        self.histories.last().expect("a log has begun")
    }
}

struct LogShared {
    key: SigningKey,
    state: Mutex<LogState>,
    /// Locked while they are asked; the state is not, because auditing cosigners ask back.
    cosigners: tokio::sync::Mutex<Vec<CosignerClient>>,
    /// One batch at a time.
    writing: tokio::sync::Mutex<()>,
}

impl LogShared {
    fn state(&self) -> MutexGuard<'_, LogState> {
        self.state.lock().unwrap()
    }
}

/// A running log. Dropping it closes it.
pub struct DishonestLog {
    pub url: String,
    shared: Arc<LogShared>,
    task: AbortHandle,
}

impl Drop for DishonestLog {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl DishonestLog {
    /// A log without observations that admits these witnesses.
    pub fn start(witnesses: &[&Witness]) -> DishonestLog {
        DishonestLog::with(History::new(witnesses))
    }

    /// A log with this history, served at an address of its own.
    pub fn with(history: History) -> DishonestLog {
        let key = SigningKey::from_seed(ORIGIN, &SEED).unwrap();
        let published = Published { checkpoint: history.signed(&key), history: history.clone(), sealed: None };
        let state = LogState {
            histories: vec![history],
            published,
            frozen: false,
            withholding: None,
            withheld: Vec::new(),
            shown: None,
            manifests: Vec::new(),
        };
        let shared = LogShared {
            key,
            state: Mutex::new(state),
            cosigners: tokio::sync::Mutex::default(),
            writing: tokio::sync::Mutex::default(),
        };
        let shared = Arc::new(shared);
        let listener = block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = http::router(Arc::clone(&shared));
        let task = RUNTIME.spawn(async move { axum::serve(listener, router).await });
        DishonestLog { url, shared, task: task.abort_handle() }
    }

    /// Equivocation: the same log with the same past, at another address, whose future is its own.
    pub fn twin(&self) -> DishonestLog {
        DishonestLog::with(self.history())
    }

    pub fn vkey(&self) -> &VerifierKey {
        self.shared.key.verifier_key()
    }

    pub fn key(&self) -> &SigningKey {
        &self.shared.key
    }

    /// All that is committed.
    pub fn history(&self) -> History {
        self.shared.state().committed().clone()
    }

    pub fn checkpoint(&self) -> SignedCheckpoint {
        self.shared.state().published.checkpoint.clone()
    }

    pub fn size(&self) -> u64 {
        self.checkpoint().unverified().size
    }

    /// Adds notes honestly, in one batch; returns their indices.
    pub fn add(&self, notes: &[Vec<u8>]) -> Vec<u64> {
        for note in notes {
            assert_eq!(self.shared.state().committed().refusal(note), None, "{}", String::from_utf8_lossy(note));
        }
        self.write(notes, None)
    }

    /// Adds entries in one batch, whatever rules they break; returns their indices.
    pub fn force(&self, entries: &[Vec<u8>]) -> Vec<u64> {
        self.write(entries, None)
    }

    /// Adds entries in one batch, and deceives about it; returns their indices.
    pub fn lie(&self, lie: &Lie, entries: &[Vec<u8>]) -> Vec<u64> {
        self.write(entries, Some(lie))
    }

    fn write(&self, entries: &[Vec<u8>], lie: Option<&Lie>) -> Vec<u64> {
        block_on(async {
            let _writing = self.shared.writing.lock().await;
            let indices = self.shared.close(entries, lie);
            self.shared.publish().await;
            indices
        })
    }

    /// Rollback: removes the last batches and serves the shorter history.
    pub fn roll_back(&self, batches: usize) {
        let mut state = self.shared.state();
        let kept = state.histories.len() - batches;
        state.histories.truncate(kept);
        assert!(!state.histories.is_empty(), "a log keeps its beginning");
        drop(state);
        self.publish();
    }

    /// Rewrites the history as if these had always been the entries.
    pub fn rewrite(&self, rewrite: impl FnOnce(&mut Vec<Vec<u8>>)) {
        let rewritten = self.history().rewritten(rewrite);
        self.shared.state().histories = vec![rewritten];
        self.publish();
    }

    /// From now on the published checkpoint stays what it is, whatever is added.
    pub fn freeze(&self) {
        self.shared.state().frozen = true;
    }

    /// Ends a freeze, and publishes what there is.
    pub fn thaw(&self) {
        self.shared.state().frozen = false;
        self.publish();
    }

    /// From now on, submitted entries are acknowledged and withheld; with `None`, taken again.
    pub fn withhold(&self, withholding: Option<Withholding>) {
        self.shared.state().withholding = withholding;
    }

    /// From now on, checkpoints are submitted to the cosigners with these submission prefixes.
    pub fn set_cosigners(&self, urls: &[String]) {
        let cosigners = urls.iter().map(|url| CosignerClient::new(url)).collect();
        block_on(async { *self.shared.cosigners.lock().await = cosigners });
    }

    /// Asks the cosigners about all that is committed (or, in a freeze, about what is published, again), and
    /// publishes it with the cosignatures that there are; returns what each cosigner said last.
    pub fn publish(&self) -> Vec<CosignerAnswer> {
        block_on(self.shared.publish())
    }
}

impl LogShared {
    fn close(&self, entries: &[Vec<u8>], lie: Option<&Lie>) -> Vec<u64> {
        let mut history = self.state().committed().clone();
        let indices = history.close(entries, lie);
        self.state().histories.push(history);
        indices
    }

    /// Asks the cosigners, and publishes with what they give.
    async fn publish(&self) -> Vec<CosignerAnswer> {
        let next = {
            let state = self.state();
            match state.frozen {
                true => state.published.clone(),
                false => self.next(&state),
            }
        };
        let mut asked = Vec::new();
        let mut cosigned = next.history.signed(&self.key).to_string();
        for cosigner in self.cosigners.lock().await.iter_mut() {
            let answer = cosigner.ask(&next.history, &self.key).await;
            cosigned += answer.cosignatures();
            asked.push(answer);
        }
        let checkpoint = SignedCheckpoint::parse(cosigned.as_bytes()).expect("cosigners answer with signature lines");
        self.state().published = Published { checkpoint, ..next };
        asked
    }

    fn next(&self, state: &LogState) -> Published {
        let history = state.committed().clone();
        let sealed = match history.ends_in_seal() {
            true => None,
            false => state.histories.iter().rev().find(|history| history.ends_in_seal()).cloned(),
        };
        Published { checkpoint: history.signed(&self.key), history, sealed }
    }
}

/// For tests, which are on no runtime or on another one.
fn block_on<T: Send>(future: impl Future<Output = T> + Send) -> T {
    std::thread::scope(|scope| scope.spawn(|| RUNTIME.block_on(future)).join().unwrap())
}
