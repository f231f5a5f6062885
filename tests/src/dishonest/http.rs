//! The calls of a log, as its tools use them. All answers are as of what is published.

use std::sync::Arc;

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Path, Query, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde_json::{Value, json};
use taglog_proto::{
    OperationError,
    merkle::{Hash, NodeReader as _, consistency_proof, inclusion_proof},
    multiproof,
    name::{Digest, Image},
    receipt::Receipt,
    tag_proof::{self, Consistency, IndexedEntry, LookupRequest, TagProof},
    tile::{FULL_WIDTH, TileKind, TilePath, decode_bundle, encode_bundle},
};

use super::{History, LogShared, LogState, Published, Withholding};

/// The most entries in one submission.
const MAX_ENTRIES: usize = 10_000;
/// The most bytes in one answer of candidate entries.
const MAX_CANDIDATE: usize = 4 << 20;

type Log = State<Arc<LogShared>>;
type Parameters = Query<Vec<(String, String)>>;

pub(super) fn router(shared: Arc<LogShared>) -> Router {
    Router::new()
        .route("/checkpoint", get(checkpoint))
        .route("/tile/{*path}", get(tile))
        .route("/api/v1/log", get(about))
        .route("/api/v1/entries", post(submit))
        .route("/api/v1/lookup", get(look_up).post(look_up_many))
        .route("/api/v1/proof/inclusion", get(inclusion))
        .route("/api/v1/proof/consistency", get(consistency))
        .route("/api/v1/manifests/{digest}", get(manifest).put(keep_manifest))
        .route("/api/v1/candidate/entries", get(candidate))
        .layer(DefaultBodyLimit::max(64 << 20))
        .with_state(shared)
}

fn problem(status: u16, kind: &str) -> Response {
    let body = json!({
        "type": format!("urn:taglog:problem:{kind}"),
        "title": kind,
        "status": status,
        "detail": "as a dishonest log says it",
    });
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, [(header::CONTENT_TYPE, "application/problem+json")], body.to_string()).into_response()
}

fn bytes(bytes: Vec<u8>) -> Response {
    ([(header::CONTENT_TYPE, "application/octet-stream")], bytes).into_response()
}

async fn checkpoint(State(log): Log) -> Response {
    log.state().published.checkpoint.to_string().into_response()
}

async fn tile(State(log): Log, Path(path): Path<String>) -> Response {
    let history = log.state().published.history.clone();
    match TilePath::parse(&path).ok().filter(|tile| tile.exists_at(history.size())) {
        Some(tile) => bytes(tile_bytes(&history, &tile)),
        None => problem(404, "not-found"),
    }
}

fn tile_bytes(history: &History, tile: &TilePath) -> Vec<u8> {
    let first = tile.index * FULL_WIDTH;
    let covered = first..first + u64::from(tile.width);
    match tile.kind {
        TileKind::Hashes(level) => {
            covered.flat_map(|index| history.memory().node(level * 8, index).unwrap().0).collect()
        }
        TileKind::Entries => bundle(&history.memory().entries()[covered.start as usize..covered.end as usize]),
    }
}

fn bundle(entries: &[Vec<u8>]) -> Vec<u8> {
    encode_bundle(entries.iter().map(Vec::as_slice)).unwrap()
}

/// A decimal parameter.
fn number(parameters: &[(String, String)], name: &str) -> Option<u64> {
    parameters.iter().find(|(key, _)| key == name)?.1.parse().ok()
}

async fn candidate(State(log): Log, Query(parameters): Parameters) -> Response {
    let history = log.state().committed().clone();
    let (from, to) = (number(&parameters, "from").unwrap_or(0), number(&parameters, "to").unwrap_or(history.size()));
    if from >= to || to > history.size() {
        return problem(422, "size-out-of-range");
    }
    let mut room = MAX_CANDIDATE;
    let fits = |entry: &&Vec<u8>| {
        let fits = room >= entry.len() + 2;
        room = room.saturating_sub(entry.len() + 2);
        fits
    };
    let entries = history.memory().entries()[from as usize..to as usize].iter().take_while(fits);
    bytes(encode_bundle(entries.map(Vec::as_slice)).unwrap())
}

async fn about(State(log): Log) -> Response {
    let state = log.state();
    let (index, roster) = state.published.history.roster();
    let (vkey, limits) = (log.key.verifier_key(), roster.limits);
    let witnesses: Vec<String> = roster.witnesses().iter().map(ToString::to_string).collect();
    Json(json!({
        "origin": vkey.name(),
        "vkey": vkey.to_string(),
        "size": state.published.history.size(),
        "roster": {
            "index": index,
            "witnesses": witnesses,
            "limits": { "future": limits.future, "past": limits.past, "quiet": limits.quiet },
        },
        "cosigners": [],
        "limits": {},
        "versions": { "formats": ["v1"], "api": "v1", "server": "dishonest" },
    }))
    .into_response()
}

async fn inclusion(State(log): Log, Query(parameters): Parameters) -> Response {
    let history = log.state().published.history.clone();
    let (index, size) = (number(&parameters, "index").unwrap_or(0), number(&parameters, "size").unwrap_or(0));
    match Some(size).filter(|size| *size <= history.size()).map(|size| inclusion_proof(history.memory(), index, size)) {
        Some(Ok(proof)) => Json(json!({ "index": index, "size": size, "proof": base64(&proof) })).into_response(),
        _ => problem(422, "size-out-of-range"),
    }
}

async fn consistency(State(log): Log, Query(parameters): Parameters) -> Response {
    let (from, to) = (number(&parameters, "from").unwrap_or(0), number(&parameters, "to").unwrap_or(0));
    let history = log.state().proven(to);
    match history.map(|history| consistency_proof(history.memory(), from, to)) {
        Some(Ok(proof)) => Json(json!({ "from": from, "to": to, "proof": base64(&proof) })).into_response(),
        _ => problem(422, "size-out-of-range"),
    }
}

fn base64(proof: &[Hash]) -> Vec<String> {
    proof.iter().map(Hash::to_base64).collect()
}

async fn manifest(State(log): Log, Path(digest): Path<String>) -> Response {
    let kept = log.state().manifests.iter().find(|(kept, _)| *kept == digest).map(|(_, bytes)| bytes.clone());
    kept.map_or_else(|| problem(404, "not-found"), bytes)
}

async fn keep_manifest(State(log): Log, Path(digest): Path<String>, body: Bytes) -> Response {
    match Digest::parse(&digest) {
        Ok(parsed) if parsed.matches(&body) => {
            log.state().manifests.push((digest, body.to_vec()));
            StatusCode::CREATED.into_response()
        }
        _ => problem(422, "digest-mismatch"),
    }
}

async fn look_up(State(log): Log, Query(parameters): Parameters) -> Response {
    let images = parameters.iter().filter(|(key, _)| key == "image").map(|(_, image)| image.as_str());
    answer(&log, images, number(&parameters, "from"), number(&parameters, "page"))
}

async fn look_up_many(State(log): Log, Json(asked): Json<Value>) -> Response {
    let images = asked["images"].as_array().into_iter().flatten().filter_map(Value::as_str);
    answer(&log, images, asked["from"].as_u64(), asked["page"].as_u64())
}

fn answer<'a>(
    log: &LogShared,
    images: impl Iterator<Item = &'a str>,
    from: Option<u64>,
    page: Option<u64>,
) -> Response {
    let Ok(images) = images.map(Image::parse).collect::<Result<_, _>>() else { return problem(400, "malformed-image") };
    let published = log.state().published.clone();
    let request = LookupRequest { images, page: page.unwrap_or(0), from };
    match published.tag_proof(&request, log) {
        Ok(proof) => ([(header::CONTENT_TYPE, "application/json")], proof.to_json()).into_response(),
        Err(tag_proof::LookupError::From { .. }) => problem(422, "size-out-of-range"),
        Err(tag_proof::LookupError::TooManyEntries(_)) => problem(422, "lookup-too-large"),
        Err(_) => problem(400, "malformed-request"),
    }
}

/// The history is in memory, so nothing in it is missing.
fn as_asked<E: std::fmt::Debug>(
    built: Result<TagProof, OperationError<tag_proof::LookupError, E>>,
) -> Result<TagProof, tag_proof::LookupError> {
    built.map_err(|error| match error {
        OperationError::Refused(error) => error,
        OperationError::Reader(error) => panic!("{error:?}"),
    })
}

impl Published {
    fn tag_proof(&self, request: &LookupRequest, log: &LogShared) -> Result<TagProof, tag_proof::LookupError> {
        let Some(sealed) = &self.sealed else {
            return as_asked(tag_proof::build(self.history.memory(), &self.checkpoint, request));
        };
        // Without a seal of its own the checkpoint says what the last seal says, and shows what it ends in instead.
        let as_of_seal = LookupRequest { from: None, ..request.clone() };
        let old = as_asked(tag_proof::build(sealed.memory(), &sealed.signed(&log.key), &as_of_seal))?;
        let (memory, size) = (self.history.memory(), self.history.size());
        let mut entries = old.entries;
        let last = String::from_utf8_lossy(&memory.entries()[size as usize - 1]).into_owned();
        entries.push(IndexedEntry { index: size - 1, entry: last });
        let indices: Vec<u64> = entries.iter().map(|entry| entry.index).collect();
        let multiproof = multiproof::build(memory, &indices, size).unwrap();
        let consistency = request.from.map(|from| match consistency_proof(memory, from, size) {
            Ok(proof) => Ok(Consistency { from, proof }),
            Err(_) => Err(tag_proof::LookupError::From { from, size }),
        });
        let consistency = consistency.transpose()?;
        Ok(TagProof { checkpoint: self.checkpoint.to_string(), entries, multiproof, consistency, ..old })
    }
}

/// The result for one submitted entry.
enum EntryResult {
    Added(u64),
    Duplicate(u64),
    Refused(&'static str, u16),
}

impl EntryResult {
    fn index(&self) -> Option<u64> {
        match self {
            EntryResult::Added(index) | EntryResult::Duplicate(index) => Some(*index),
            EntryResult::Refused(..) => None,
        }
    }
}

async fn submit(State(log): Log, Query(parameters): Parameters, headers: HeaderMap, body: Bytes) -> Response {
    let waits = parameters.iter().any(|(key, value)| key == "wait" && value == "published");
    let single = headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"text/plain"));
    let notes = if single { Ok(vec![&body[..]]) } else { decode_bundle(&body, MAX_ENTRIES) };
    let Ok(notes) = notes else { return problem(400, "malformed-bundle") };
    let _writing = log.writing.lock().await;
    let withholding = log.state().withholding;
    match withholding {
        Some(how) => withhold(&log, &notes, how, waits),
        None => take(&log, &notes, waits).await,
    }
}

/// Accepts what an honest log would accept.
async fn take(log: &LogShared, notes: &[&[u8]], waits: bool) -> Response {
    let mut history = log.state().committed().clone();
    let outcomes = sequence(&mut history, notes);
    if history.size() > log.state().committed().size() {
        log.state().histories.push(history);
        log.publish().await;
    }
    if let [EntryResult::Refused(kind, status)] = outcomes[..] {
        return problem(status, kind);
    }
    let published = log.state().published.clone();
    if waits && outcomes.iter().filter_map(EntryResult::index).any(|index| index >= published.history.size()) {
        return problem(503, "not-published");
    }
    Json(answers(&outcomes, waits.then_some(&published))).into_response()
}

/// Acknowledges everything and adds nothing.
fn withhold(log: &LogShared, notes: &[&[u8]], how: Withholding, waits: bool) -> Response {
    let mut shown = log.state().committed().clone();
    let outcomes = sequence(&mut shown, notes);
    match (how, waits) {
        (Withholding::Acknowledges, true) => problem(503, "not-published"),
        (Withholding::Acknowledges, false) => {
            Json(answers(&remembered(&mut log.state(), notes, outcomes), None)).into_response()
        }
        (Withholding::GivesReceipt, _) => {
            log.state().shown = Some(shown.clone());
            let shown = Published { checkpoint: shown.signed(&log.key), history: shown, sealed: None };
            Json(answers(&outcomes, waits.then_some(&shown))).into_response()
        }
    }
}

/// Gives an entry that was withheld before the same index again, so that the log does not contradict itself.
fn remembered(state: &mut LogState, notes: &[&[u8]], outcomes: Vec<EntryResult>) -> Vec<EntryResult> {
    let remember =
        |(note, outcome): (&&[u8], EntryResult)| match (state.withheld.iter().find(|(old, _)| old == note), outcome) {
            (Some((_, index)), _) => EntryResult::Duplicate(*index),
            (None, EntryResult::Added(index)) => {
                state.withheld.push((note.to_vec(), index));
                EntryResult::Added(index)
            }
            (None, outcome) => outcome,
        };
    notes.iter().zip(outcomes).map(remember).collect()
}

/// Appends what may be appended, in one batch.
fn sequence(history: &mut History, notes: &[&[u8]]) -> Vec<EntryResult> {
    let mut batch: Vec<Vec<u8>> = Vec::new();
    let mut outcomes = Vec::with_capacity(notes.len());
    for note in notes {
        let in_batch = batch.iter().position(|taken| taken == note).map(|place| history.size() + place as u64);
        let outcome = match history.duplicate(note).or(in_batch) {
            Some(index) => EntryResult::Duplicate(index),
            None => match history.refusal(note) {
                Some((kind, status)) => EntryResult::Refused(kind, status),
                None => {
                    batch.push(note.to_vec());
                    EntryResult::Added(history.size() + batch.len() as u64 - 1)
                }
            },
        };
        outcomes.push(outcome);
    }
    if !batch.is_empty() {
        history.close(&batch, None);
    }
    outcomes
}

/// The answer to a submission, with receipts under what is published or shown.
fn answers(outcomes: &[EntryResult], receipts: Option<&Published>) -> Vec<Value> {
    let answer = |outcome: &EntryResult| match *outcome {
        EntryResult::Added(index) => with_receipt(index, "added", receipts),
        EntryResult::Duplicate(index) => with_receipt(index, "duplicate", receipts),
        EntryResult::Refused(kind, status) => json!({ "error": {
            "type": format!("urn:taglog:problem:{kind}"), "title": kind, "status": status, "detail": "refused",
        }}),
    };
    outcomes.iter().map(answer).collect()
}

fn with_receipt(index: u64, status: &str, receipts: Option<&Published>) -> Value {
    let mut answer = json!({ "index": index, "status": status });
    if let Some(Published { checkpoint, history, .. }) = receipts
        && let Some(entry) = history.memory().entries().get(index as usize)
    {
        let proof = inclusion_proof(history.memory(), index, history.size()).unwrap();
        let receipt = Receipt { extra: Some(entry.clone()), index, proof, checkpoint: checkpoint.clone() };
        answer["proof"] = receipt.to_string().into();
    }
    answer
}
