//! `POST /api/v1/entries`: accepts observations and confirmations.

use std::{sync::Arc, time::Duration};

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
    entry::{Entry, Roster, Statement},
    merkle::inclusion_proof,
    receipt::Receipt,
    tag_proof::LookupSource,
    tile::decode_bundle,
};

use super::{
    limits::MAX_SUBMITTED_ENTRIES,
    problem::{Problem, body_problem, query_problem},
    state::AppState,
};
use crate::{
    deduplication::find_duplicate,
    publisher::PublishedState,
    quota::Quotas,
    rejection::Rejection,
    sequencer::{Sequenced, StatementResult},
    snapshot::Snapshot,
    store::StatementKey,
};

/// How long `?wait=published` waits.
const PUBLICATION_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubmitQuery {
    wait: Option<String>,
}

/// Accepts one note (`text/plain`) or an entry bundle (`application/octet-stream`).
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
        Some(_) => return Err(Problem::bad_request("wait: the only value is 'published'")),
    };
    let body = body.map_err(body_problem)?;
    let single = is_single_note(&headers)?;
    state.submissions.check_open()?;
    let snapshot = state.snapshot()?;
    let checked = check(&state, &snapshot, body, single).await?;
    let results = sequence(&state, checked, snapshot.size()).await?;
    if let (true, [Err(rejection)]) = (single, &results[..]) {
        return Err(rejection.clone().into());
    }
    let answers = if wait { with_receipts(&state, &results).await? } else { results.iter().map(answer).collect() };
    Ok(Json(answers).into_response())
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

/// A statement after the checks that need no sequencer.
enum CheckedStatement {
    /// A duplicate, or rejected.
    Decided(StatementResult),
    ToSequence(Box<Statement>),
}

async fn check(
    state: &AppState,
    snapshot: &Arc<Snapshot>,
    body: Bytes,
    single: bool,
) -> Result<Vec<CheckedStatement>, Problem> {
    let (quotas, snapshot) = (Arc::clone(&state.quotas), Arc::clone(snapshot));
    let check_all = move || {
        let entries = match single {
            true => vec![&body[..]],
            false => decode_bundle(&body, MAX_SUBMITTED_ENTRIES)
                .map_err(|error| Problem::new(StatusCode::BAD_REQUEST, "malformed-bundle", error.to_string()))?,
        };
        let check_one = |bytes: &[u8]| check_entry(&snapshot, &quotas, bytes);
        entries.into_iter().map(check_one).collect()
    };
    if single { check_all() } else { state.run_verification(check_all).await }
}

/// Parses one entry and looks for it in the log; if it is new, checks its witness, signature and quota.
fn check_entry(snapshot: &Snapshot, quotas: &Quotas, bytes: &[u8]) -> Result<CheckedStatement, Problem> {
    let statement = match parse(bytes) {
        Ok(statement) => statement,
        Err(rejection) => return Ok(CheckedStatement::Decided(Err(rejection))),
    };
    // Deduplication comes first: a retry succeeds even if its witness has left the roster.
    if let Some(index) = find_duplicate(&snapshot.view, &statement, &StatementKey::of(&statement))? {
        return Ok(CheckedStatement::Decided(Ok(Sequenced::Duplicate(index))));
    }
    let admitted = admit(&snapshot.roster, quotas, &statement);
    Ok(match admitted {
        Ok(()) => CheckedStatement::ToSequence(Box::new(statement)),
        Err(rejection) => CheckedStatement::Decided(Err(rejection)),
    })
}

fn parse(bytes: &[u8]) -> Result<Statement, Rejection> {
    match Entry::parse(bytes) {
        Ok(entry) => Statement::from_entry(entry).ok_or(Rejection::NotAStatement),
        Err(error) => Err(Rejection::Malformed(error)),
    }
}

fn admit(roster: &Roster, quotas: &Quotas, statement: &Statement) -> Result<(), Rejection> {
    let witness = statement.witness();
    let key = roster.key(witness).ok_or_else(|| Rejection::UnknownWitness(witness.to_string()))?;
    statement.verify(key).map_err(|_| Rejection::BadSignature(witness.to_string()))?;
    // After the signature, so that a forged entry cannot use up the quota of another witness.
    quotas.take_entry(witness)?;
    Ok(())
}

/// Sequences the undecided statements, and returns the results of all in the order of the request.
async fn sequence(
    state: &AppState,
    checked: Vec<CheckedStatement>,
    size: u64,
) -> Result<Vec<StatementResult>, Problem> {
    let mut waiting = Vec::new();
    let mut decided = Vec::with_capacity(checked.len());
    for checked in checked {
        match checked {
            CheckedStatement::Decided(result) => decided.push(Some(result)),
            CheckedStatement::ToSequence(statement) => {
                waiting.push(*statement);
                decided.push(None);
            }
        }
    }
    let sequenced = if waiting.is_empty() { Vec::new() } else { state.submissions.sequence(waiting, size).await? };
    let mut sequenced = sequenced.into_iter();
    decided.into_iter().map(|result| result.or_else(|| sequenced.next()).ok_or_else(Problem::internal)).collect()
}

fn answer(result: &StatementResult) -> Value {
    match result {
        Ok(Sequenced::Added(index)) => json!({ "index": index, "status": "added" }),
        Ok(Sequenced::Duplicate(index)) => json!({ "index": index, "status": "duplicate" }),
        Err(rejection) => json!({ "error": Problem::from(rejection.clone()).to_json() }),
    }
}

/// Waits until a published checkpoint covers all entries, and adds the receipt of each.
async fn with_receipts(state: &AppState, results: &[StatementResult]) -> Result<Vec<Value>, Problem> {
    let last = results.iter().flatten().map(|sequenced| sequenced.index()).max();
    let published = published_beyond(state, last).await?;
    let results = results.to_vec();
    state.run_blocking(move || results.iter().map(|result| answer_with_receipt(&published, result)).collect()).await
}

async fn published_beyond(state: &AppState, last: Option<u64>) -> Result<Arc<PublishedState>, Problem> {
    let covers = |published: &Option<Arc<PublishedState>>| {
        published.as_ref().is_some_and(|published| last.is_none_or(|last| last < published.size()))
    };
    let mut publications = state.publisher_state.publications.clone();
    match tokio::time::timeout(PUBLICATION_TIMEOUT, publications.wait_for(covers)).await {
        Ok(Ok(published)) => published.clone().ok_or_else(Problem::internal),
        Ok(Err(_)) => Err(Problem::stopping()),
        Err(_) => Err(Problem::not_yet_published(&state.cosigner_summary())),
    }
}

fn answer_with_receipt(published: &PublishedState, result: &StatementResult) -> Result<Value, Problem> {
    let mut value = answer(result);
    if let Ok(sequenced) = result {
        let index = sequenced.index();
        let proof = inclusion_proof(published.view(), index, published.size())
            .map_err(|error| error.map_refused(|_| Problem::internal()))?;
        let extra = Some(published.view().entry(index)?);
        let receipt = Receipt { extra, index, proof, checkpoint: published.checkpoint.clone() };
        value["proof"] = Value::String(receipt.to_string());
    }
    Ok(value)
}
