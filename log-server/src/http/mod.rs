//! The HTTP interface (SPEC.md section 6): parses requests, answers from what is published.

mod candidate;
mod entries;
mod listener;
mod listings;
mod lookup;
mod manifests;
mod metrics;
mod problem;
mod proofs;
mod tiles;

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, State},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post, put},
};
use serde_json::json;
use taglog_proto::{note::VerifierKey, tag_proof::MAX_IMAGES};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tower_http::{
    catch_panic::CatchPanicLayer, compression::CompressionLayer, cors::CorsLayer, timeout::RequestBodyTimeoutLayer,
};

use crate::{
    config::Config,
    keys::LogKeys,
    publisher::{
        Publications, Published,
        status::{self, Statuses},
    },
    quota::Quotas,
    snapshot::Snapshot,
    store::Store,
};

pub use entries::Intake;
pub use listener::serve;
pub use metrics::install as install_metrics;
use problem::Problem;

/// The most bytes of a submission: about 20,000 observations.
const MAX_SUBMISSION: usize = 8 << 20;
/// The most entries of a submission.
const MAX_SUBMITTED_ENTRIES: usize = 16_384;
/// The most bytes of a raw manifest, as registries limit them.
const MAX_MANIFEST: usize = 4 << 20;
/// The most bytes of a look-up that is posted.
const MAX_LOOKUP_BODY: usize = 512 << 10;
/// How long a client may take to send the next part of a body.
const BODY_TIMEOUT: Duration = Duration::from_secs(15);
/// Requests that may do heavy work (look-ups, tiles, manifests) at once.
const MAX_HEAVY: usize = 64;

/// How long a request waits for its turn at heavy work.
const HEAVY_WAIT: Duration = Duration::from_secs(2);
/// How long a bundle waits for its turn to be verified; its body is here already.
const VERIFYING_WAIT: Duration = Duration::from_secs(10);

/// What the handlers read of publishing.
#[derive(Clone)]
pub struct Outlets {
    /// What is published.
    pub publications: Publications,
    /// The number of entries that are committed.
    pub committed: watch::Receiver<u64>,
    /// How the cosigners are.
    pub statuses: Statuses,
}

/// What all handlers share.
#[derive(Clone)]
pub struct AppState {
    log_key: VerifierKey,
    vkeys: Arc<Vec<String>>,
    store: Store,
    outlets: Outlets,
    intake: Intake,
    quotas: Arc<Quotas>,
    metrics: metrics_exporter_prometheus::PrometheusHandle,
    heavy: Arc<Semaphore>,
    verifying: Arc<Semaphore>,
    about: Arc<serde_json::Value>,
}

impl AppState {
    /// The state of a server that is about to listen.
    pub fn new(
        keys: &LogKeys,
        store: Store,
        outlets: Outlets,
        intake: Intake,
        quotas: Arc<Quotas>,
        metrics: metrics_exporter_prometheus::PrometheusHandle,
        config: &Config,
    ) -> AppState {
        let about = Arc::new(about_limits(config));
        let heavy = Arc::new(Semaphore::new(MAX_HEAVY));
        // One core is left to the sequencer: more threads that verify would only take turns with it.
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let verifying = Arc::new(Semaphore::new(cores.saturating_sub(1).max(1)));
        let (log_key, vkeys) = (keys.verifier_key().clone(), Arc::new(keys.vkeys()));
        AppState { log_key, vkeys, store, outlets, intake, quotas, metrics, heavy, verifying, about }
    }

    /// What is published now.
    fn published(&self) -> Result<Arc<Published>, Problem> {
        let published = self.outlets.publications.borrow().clone();
        published.ok_or_else(|| Problem::not_published(&self.cosigners()))
    }

    /// What is published now, or, when nothing is, the last commit: to judge what is submitted.
    fn snapshot(&self) -> Result<Arc<Snapshot>, Problem> {
        if let Some(published) = self.outlets.publications.borrow().as_ref() {
            return Ok(published.snapshot());
        }
        let last = Snapshot::read(self.store.view(), None)?;
        last.map(Arc::new).ok_or_else(Problem::starting)
    }

    /// How the cosigners are, in words; empty if there are none.
    fn cosigners(&self) -> String {
        status::in_words(&self.outlets.statuses.borrow())
    }

    /// The number of entries that are committed and not published.
    fn unpublished(&self) -> u64 {
        let published = self.outlets.publications.borrow().as_ref().map_or(0, |published| published.size());
        self.outlets.committed.borrow().saturating_sub(published)
    }

    /// Runs work that takes a while on a thread of its own; refused when too much runs already.
    async fn heavy<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        on_a_thread(permit(&self.heavy, HEAVY_WAIT).await?, work).await
    }

    /// Verifies the signatures of a bundle on a thread of its own.
    async fn verify<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        on_a_thread(permit(&self.verifying, VERIFYING_WAIT).await?, work).await
    }

    /// Runs work that takes less than handing it to another thread would, under the same bound.
    async fn brief<T>(&self, work: impl FnOnce() -> Result<T, Problem>) -> Result<T, Problem> {
        let _permit = permit(&self.heavy, HEAVY_WAIT).await?;
        work()
    }
}

/// A place among those that work at once; refused when none gets free in time.
async fn permit(places: &Arc<Semaphore>, wait: Duration) -> Result<OwnedSemaphorePermit, Problem> {
    match tokio::time::timeout(wait, Arc::clone(places).acquire_owned()).await {
        Ok(Ok(permit)) => Ok(permit),
        _ => Err(Problem::overloaded(1)),
    }
}

async fn on_a_thread<T: Send + 'static>(
    permit: OwnedSemaphorePermit,
    work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    let work = move || {
        let _permit = permit;
        work()
    };
    tokio::task::spawn_blocking(work).await.map_err(|_| Problem::internal())?
}

/// All routes.
pub fn router(state: AppState) -> Router {
    let api = Router::new()
        .route("/entries", post(entries::submit).layer(DefaultBodyLimit::max(MAX_SUBMISSION)))
        .route("/candidate/entries", get(candidate::entries))
        .route("/lookup", get(lookup::get).post(lookup::post).layer(DefaultBodyLimit::max(MAX_LOOKUP_BODY)))
        .route("/proof/inclusion", get(proofs::inclusion))
        .route("/proof/consistency", get(proofs::consistency))
        .route("/tags", get(listings::tags))
        .route("/retags", get(listings::retags))
        .route("/digests/{digest}", get(listings::digests))
        .route(
            "/manifests/{digest}",
            put(manifests::put).get(manifests::get).layer(DefaultBodyLimit::max(MAX_MANIFEST)),
        )
        .route("/log", get(about))
        .route("/openapi.json", get(openapi));
    Router::new()
        .route("/", get(welcome))
        .route("/checkpoint", get(tiles::checkpoint))
        .route("/tile/{*path}", get(tiles::tile))
        .nest("/api/v1", api)
        .route("/metrics", get(metrics::render))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .fallback(no_such_page)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(axum::middleware::from_fn(metrics::measure))
        .layer(CompressionLayer::new())
        .layer(CorsLayer::permissive())
        .layer(RequestBodyTimeoutLayer::new(BODY_TIMEOUT))
        .layer(CatchPanicLayer::custom(|_| Problem::internal().into_response()))
        .with_state(state)
}

fn about_limits(config: &Config) -> serde_json::Value {
    json!({
        "batchIntervalMs": config.batch_interval_ms,
        "submissionBytes": MAX_SUBMISSION,
        "submissionEntries": MAX_SUBMITTED_ENTRIES,
        "manifestBytes": MAX_MANIFEST,
        "lookupImages": MAX_IMAGES,
        "entriesPerSecond": config.quota.entries_per_second,
        "newTagsPerHour": config.quota.new_tags_per_hour,
        "sightingsPerTagPerHour": config.quota.sightings_per_tag_per_hour,
    })
}

/// `GET /api/v1/log`: who this log is.
async fn about(State(state): State<AppState>) -> Result<Response, Problem> {
    let published = state.published()?;
    let witnesses: Vec<String> = published.roster().witnesses().iter().map(ToString::to_string).collect();
    let limits = published.roster().limits;
    let body = json!({
        "origin": state.log_key.name(),
        "vkey": state.log_key.to_string(),
        "vkeys": *state.vkeys,
        "size": published.size(),
        "roster": {
            "index": published.seal().roster,
            "witnesses": witnesses,
            "limits": { "future": limits.future, "past": limits.past, "quiet": limits.quiet },
        },
        "cosigners": cosigners_json(&state),
        "limits": *state.about,
        "versions": { "formats": ["v1"], "api": "v1", "server": env!("CARGO_PKG_VERSION") },
    });
    Ok(Json(body).into_response())
}

async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], include_str!("openapi.json")).into_response()
}

async fn welcome(State(state): State<AppState>) -> String {
    format!(
        "This is the taglog log {}.\n\n\
         A transparency log for container tags: what repository:tag has ever pointed to.\n\n\
         /checkpoint            the log's signed state\n\
         /tile/...              the log itself (c2sp.org/tlog-tiles)\n\
         /api/v1/log            origin, key, witnesses, limits\n\
         /api/v1/lookup?image=  everything ever seen of a tag, with proofs\n\
         /api/v1/openapi.json   all calls\n",
        state.log_key
    )
}

async fn no_such_page() -> Problem {
    Problem::not_found("no such page; /api/v1/openapi.json lists what there is")
}

async fn method_not_allowed() -> Problem {
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "this page does not take this method")
}

fn cosigners_json(state: &AppState) -> Vec<serde_json::Value> {
    state.outlets.statuses.borrow().iter().map(status::CosignerStatus::to_json).collect()
}

/// The process is up.
async fn healthz() -> &'static str {
    "ok\n"
}

/// The log serves and takes entries.
async fn readyz(State(state): State<AppState>) -> Result<Response, Problem> {
    let published = state.published()?;
    if state.intake.is_closed() {
        return Err(Problem::stopping());
    }
    state.intake.check_open()?;
    let body = json!({
        "ready": true,
        "size": published.size(),
        "lastSeal": published.seal().time.to_string(),
        "unpublished": state.unpublished(),
        "cosigners": cosigners_json(&state),
    });
    Ok(Json(body).into_response())
}

/// For answers that change with every batch.
fn no_cache(mut response: Response) -> Response {
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}
