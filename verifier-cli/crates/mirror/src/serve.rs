//! Serves a copy as c2sp.org/tlog-tiles requires: every tile at every width up to the copy's size.

use std::path::Path as FilePath;

use axum::{
    Router,
    extract::{Path, State},
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::get,
};
use taglog_proto::{
    note::VerifierKey,
    tile::{FULL_WIDTH, TileKind, TilePath},
};
use tokio::sync::watch;
use tower_http::{compression::CompressionLayer, cors::CorsLayer};

use super::{MirrorError, directory::OwnCheckpoint, edge::nodes, update::copy_in};
use taglog_log_client::static_log::{StaticError, StaticLog, cut_tile};

/// `Cache-Control` of tiles, which never change.
const IMMUTABLE: &str = "public, max-age=31536000, immutable";
/// `Cache-Control` of the checkpoint, which changes, and of errors, which may be temporary.
const NO_CACHE: &str = "no-cache";

#[derive(Clone)]
struct MirrorState {
    copy: StaticLog,
    checkpoint: watch::Receiver<Option<OwnCheckpoint>>,
    welcome: String,
}

/// The HTTP routes of the copy in a directory, under the last checkpoint received from `checkpoint`.
pub fn router(
    directory: &FilePath,
    log: &VerifierKey,
    checkpoint: watch::Receiver<Option<OwnCheckpoint>>,
) -> Result<Router, MirrorError> {
    let welcome = format!(
        "This is a mirror of the taglog log {log}.\n\n\
         /checkpoint  the log's signed state\n\
         /tile/...    the log itself (c2sp.org/tlog-tiles)\n"
    );
    let served = MirrorState { copy: copy_in(directory)?, checkpoint, welcome };
    Ok(Router::new()
        .route("/", get(|State(served): State<MirrorState>| async move { served.welcome }))
        .route("/checkpoint", get(get_checkpoint))
        .route("/tile/{*path}", get(tile))
        .route("/healthz", get(|| async { "ok\n" }))
        .layer(CompressionLayer::new())
        .layer(CorsLayer::permissive())
        .with_state(served))
}

async fn get_checkpoint(State(served): State<MirrorState>) -> Response {
    let checkpoint = served.checkpoint.borrow().as_ref().map(|checkpoint| checkpoint.bytes.clone());
    let Some(checkpoint) = checkpoint else { return no_copy_yet() };
    let headers = [(header::CONTENT_TYPE, "text/plain; charset=utf-8"), (header::CACHE_CONTROL, NO_CACHE)];
    (headers, checkpoint).into_response()
}

async fn tile(State(served): State<MirrorState>, Path(path): Path<String>) -> Response {
    let size = served.checkpoint.borrow().as_ref().map(|checkpoint| checkpoint.signed.unverified().size);
    let Some(size) = size else { return no_copy_yet() };
    let path = match TilePath::parse(&path) {
        Ok(path) if path.exists_at(size) => path,
        Ok(_) => return refuse(StatusCode::NOT_FOUND, &format!("the copy of {size} entries has no such tile")),
        Err(error) => return refuse(StatusCode::NOT_FOUND, &error.to_string()),
    };
    match served.read(&path, size).await {
        Ok(tile) => {
            let headers = [(header::CONTENT_TYPE, "application/octet-stream"), (header::CACHE_CONTROL, IMMUTABLE)];
            (headers, tile).into_response()
        }
        Err(error) => {
            tracing::error!(%error, "cannot serve a tile, because the copy is damaged: run 'taglog mirror --check' to list the damaged files");
            refuse(StatusCode::INTERNAL_SERVER_ERROR, "this tile is damaged here; ask another mirror, or the log")
        }
    }
}

impl MirrorState {
    /// Reads a tile: cuts it out of the widest one that the copy has.
    async fn read(&self, path: &TilePath, size: u64) -> Result<Vec<u8>, StaticError> {
        let level = match path.kind {
            TileKind::Hashes(level) => level,
            TileKind::Entries => 0,
        };
        let width = nodes(size, level).saturating_sub(path.index * FULL_WIDTH).min(FULL_WIDTH) as u16;
        let tile = self.copy.tile(&TilePath { width, ..*path }).await?;
        cut_tile(path, tile).map_err(|reason| StaticError::Malformed { what: format!("tile/{path}"), reason })
    }
}

fn no_copy_yet() -> Response {
    refuse(StatusCode::SERVICE_UNAVAILABLE, "the first copy is not complete yet")
}

fn refuse(status: StatusCode, why: &str) -> Response {
    (status, [(header::CACHE_CONTROL, NO_CACHE)], format!("{why}\n")).into_response()
}
