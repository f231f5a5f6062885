//! `POST /api/v1/entries`: takes observations and confirmations.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    Json,
    body::Bytes,
    extract::{
        Query, State,
        rejection::{BytesRejection, QueryRejection},
    },
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::{Value, json};
use taglog_proto::{
    entry::{Entry, Roster},
    merkle::inclusion_proof,
    receipt::Receipt,
    tag_proof::LookupSource,
    tile::decode_bundle,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::{AppState, MAX_SUBMITTED_ENTRIES, Problem, problem::query_problem};
use crate::{
    publisher::Published,
    refusal::Refusal,
    sequencer::{Outcome, Sequenced, Statement, Submission, find_duplicate},
    snapshot::Snapshot,
    store::StatementKey,
};

/// How long `?wait=published` waits.
const PUBLICATION_TIMEOUT: Duration = Duration::from_secs(30);

/// The way to the sequencer, which holds a bounded number of entries.
#[derive(Clone)]
pub struct Intake {
    sender: mpsc::Sender<Submission>,
    room: Arc<Semaphore>,
    open: Arc<AtomicBool>,
}

impl Intake {
    /// Room for `capacity` entries that wait for their batch. It is not open yet.
    pub fn new(sender: mpsc::Sender<Submission>, capacity: usize) -> Intake {
        Intake { sender, room: Arc::new(Semaphore::new(capacity)), open: Arc::new(AtomicBool::new(false)) }
    }

    /// Takes entries from now on.
    pub fn open(&self) {
        self.open.store(true, Ordering::Release);
    }

    /// # Errors
    /// The problem to answer with before [`Intake::open`].
    pub(super) fn check_open(&self) -> Result<(), Problem> {
        if self.open.load(Ordering::Acquire) { Ok(()) } else { Err(Problem::starting()) }
    }

    /// Whether the sequencer is gone.
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    fn reserve(&self, entries: usize) -> Result<OwnedSemaphorePermit, Problem> {
        let entries = u32::try_from(entries).unwrap_or(u32::MAX);
        Arc::clone(&self.room).try_acquire_many_owned(entries).map_err(|_| Problem::overloaded(1))
    }

    /// Hands statements over and waits until their batch is committed.
    async fn sequence(&self, statements: Vec<Statement>, checked: u64) -> Result<Vec<Outcome>, Problem> {
        let room = self.reserve(statements.len())?;
        let (answer, outcome) = oneshot::channel();
        let submission = Submission { statements, checked, answer, room };
        self.sender.send(submission).await.map_err(|_| Problem::stopping())?;
        outcome.await.map_err(|_| Problem::stopping())
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubmitQuery {
    wait: Option<String>,
}

/// Takes one note (`text/plain`) or an entry bundle (`application/octet-stream`).
pub async fn submit(
    State(state): State<AppState>,
    query: Result<Query<SubmitQuery>, QueryRejection>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let Query(query) = query.map_err(query_problem)?;
    let wait = match query.wait.as_deref() {
        None => false,
        Some("published") => true,
        Some(_) => return Err(Problem::bad_request("wait: only 'published' is known")),
    };
    let body = body.map_err(body_problem)?;
    let single = is_single_note(&headers)?;
    state.intake.check_open()?;
    let known = state.snapshot()?;
    let checked = check(&state, &known, body, single).await?;
    let outcomes = sequence(&state, checked, known.size()).await?;
    if let (true, [Err(refusal)]) = (single, &outcomes[..]) {
        return Err(refusal.clone().into());
    }
    let answers = if wait { with_receipts(&state, &outcomes).await? } else { outcomes.iter().map(answer).collect() };
    Ok(Json(answers).into_response())
}

/// A body that did not arrive.
pub(super) fn body_problem(rejection: BytesRejection) -> Problem {
    match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", "the body is over this call's limit")
        }
        _ => Problem::new(StatusCode::REQUEST_TIMEOUT, "body-incomplete", "the body did not arrive whole and in time"),
    }
}

fn is_single_note(headers: &HeaderMap) -> Result<bool, Problem> {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    match content_type.split(';').next().unwrap_or("").trim() {
        "text/plain" => Ok(true),
        "application/octet-stream" => Ok(false),
        _ => Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported-media-type",
            "send one note as text/plain, or an entry bundle as application/octet-stream",
        )),
    }
}

/// A statement that goes to the sequencer, or is answered already.
enum Checked {
    Answered(Outcome),
    ToSequence(Box<Statement>),
}

async fn check(state: &AppState, known: &Arc<Snapshot>, body: Bytes, single: bool) -> Result<Vec<Checked>, Problem> {
    let (quotas, known) = (Arc::clone(&state.quotas), Arc::clone(known));
    let check_all = move || {
        let entries = match single {
            true => vec![&body[..]],
            false => decode_bundle(&body, MAX_SUBMITTED_ENTRIES)
                .map_err(|error| Problem::new(StatusCode::BAD_REQUEST, "malformed-bundle", error.to_string()))?,
        };
        let check_one = |bytes: &[u8]| check_entry(&known, &quotas, bytes);
        entries.into_iter().map(check_one).collect()
    };
    if single { check_all() } else { state.verify(check_all).await }
}

/// Parses one entry; finds it in the log; else checks membership, signature and quota.
fn check_entry(known: &Snapshot, quotas: &crate::quota::Quotas, bytes: &[u8]) -> Result<Checked, Problem> {
    let statement = match parse(bytes) {
        Ok(statement) => statement,
        Err(refusal) => return Ok(Checked::Answered(Err(refusal))),
    };
    // Deduplication comes first: a retry is answered even if its witness has left the roster.
    if let Some(index) = find_duplicate(&known.view, &statement, &StatementKey::of(&statement))? {
        return Ok(Checked::Answered(Ok(Sequenced::Duplicate(index))));
    }
    let admitted = admit(&known.roster, quotas, &statement);
    Ok(match admitted {
        Ok(()) => Checked::ToSequence(Box::new(statement)),
        Err(refusal) => Checked::Answered(Err(refusal)),
    })
}

fn parse(bytes: &[u8]) -> Result<Statement, Refusal> {
    match Entry::parse(bytes) {
        Ok(entry) => Statement::from_entry(entry).ok_or(Refusal::NotAStatement),
        Err(error) => Err(Refusal::Malformed(error)),
    }
}

fn admit(roster: &Roster, quotas: &crate::quota::Quotas, statement: &Statement) -> Result<(), Refusal> {
    let witness = statement.witness();
    let key = roster.key(witness).ok_or_else(|| Refusal::UnknownWitness(witness.to_string()))?;
    statement.verify(key).map_err(|_| Refusal::BadSignature(witness.to_string()))?;
    // Only now, so that nobody uses up another's quota.
    quotas.take_entry(witness)?;
    Ok(())
}

/// Sequences what is to be sequenced, and puts all outcomes in the order of the request.
async fn sequence(state: &AppState, checked: Vec<Checked>, size: u64) -> Result<Vec<Outcome>, Problem> {
    let mut waiting = Vec::new();
    let mut places = Vec::with_capacity(checked.len());
    for checked in checked {
        match checked {
            Checked::Answered(outcome) => places.push(Some(outcome)),
            Checked::ToSequence(statement) => {
                waiting.push(*statement);
                places.push(None);
            }
        }
    }
    let sequenced = if waiting.is_empty() { Vec::new() } else { state.intake.sequence(waiting, size).await? };
    let mut sequenced = sequenced.into_iter();
    places.into_iter().map(|place| place.or_else(|| sequenced.next()).ok_or_else(Problem::internal)).collect()
}

fn answer(outcome: &Outcome) -> Value {
    match outcome {
        Ok(Sequenced::Added(index)) => json!({ "index": index, "status": "added" }),
        Ok(Sequenced::Duplicate(index)) => json!({ "index": index, "status": "duplicate" }),
        Err(refusal) => json!({ "error": Problem::from(refusal.clone()).to_json() }),
    }
}

/// Waits until a published checkpoint covers all outcomes, and adds each one's receipt.
async fn with_receipts(state: &AppState, outcomes: &[Outcome]) -> Result<Vec<Value>, Problem> {
    let last = outcomes.iter().flatten().map(|sequenced| sequenced.index()).max();
    let published = published_beyond(state, last).await?;
    let outcomes = outcomes.to_vec();
    state.heavy(move || outcomes.iter().map(|outcome| answer_with_receipt(&published, outcome)).collect()).await
}

async fn published_beyond(state: &AppState, last: Option<u64>) -> Result<Arc<Published>, Problem> {
    let covers = |published: &Option<Arc<Published>>| {
        published.as_ref().is_some_and(|published| last.is_none_or(|last| last < published.size()))
    };
    let mut publications = state.outlets.publications.clone();
    match tokio::time::timeout(PUBLICATION_TIMEOUT, publications.wait_for(covers)).await {
        Ok(Ok(published)) => published.clone().ok_or_else(Problem::internal),
        Ok(Err(_)) => Err(Problem::stopping()),
        Err(_) => Err(Problem::not_yet_published(&state.cosigners())),
    }
}

fn answer_with_receipt(published: &Published, outcome: &Outcome) -> Result<Value, Problem> {
    let mut value = answer(outcome);
    if let Ok(sequenced) = outcome {
        let index = sequenced.index();
        let proof = inclusion_proof(published.view(), index, published.size())
            .map_err(|error| error.map_refused(|_| Problem::internal()))?;
        let extra = Some(published.view().entry(index)?);
        let receipt = Receipt { extra, index, proof, checkpoint: published.checkpoint.clone() };
        value["proof"] = Value::String(receipt.to_string());
    }
    Ok(value)
}
