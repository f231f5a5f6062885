//! The static log: checkpoint, tiles and entry bundles (c2sp.org/tlog-tiles).
//!
//! Every partial width up to the published size is served for ever, and nothing beyond it: a cache
//! must never hold what a restore could undo.

use axum::{
    extract::{Path, State, rejection::PathRejection},
    http::header,
    response::{IntoResponse, Response},
};
use taglog_proto::tile::{FULL_WIDTH, TileKind, TilePath, encode_bundle};

use super::{AppState, Problem, no_cache, problem::path_problem};

/// Tiles never change.
const IMMUTABLE: &str = "public, max-age=31536000, immutable";

/// `GET /checkpoint`.
pub async fn checkpoint(State(state): State<AppState>) -> Result<Response, Problem> {
    let text = state.published()?.checkpoint.to_string();
    Ok(no_cache(([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response()))
}

/// `GET /tile/<L>/<N>[.p/<W>]` and `GET /tile/entries/<N>[.p/<W>]`.
pub async fn tile(
    State(state): State<AppState>,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    let Path(path) = path.map_err(path_problem)?;
    let tile = TilePath::parse(&path).map_err(|error| Problem::not_found(error.to_string()))?;
    let published = state.published()?;
    if !tile.exists_at(published.size()) {
        return Err(Problem::not_found(format!("the published log of {} entries has no such tile", published.size())));
    }
    let (first, width) = (tile.index * FULL_WIDTH, usize::from(tile.width));
    let bytes = match tile.kind {
        // Nodes at multiples of eight levels are the hashes of tiles.
        TileKind::Hashes(level) => state.heavy(move || Ok(published.view().nodes(level * 8, first, width)?)).await?,
        TileKind::Entries => {
            let bundle = move || {
                let entries = published.view().entries(first, width)?;
                encode_bundle(entries.iter().map(Vec::as_slice)).map_err(|_| Problem::internal())
            };
            state.heavy(bundle).await?
        }
    };
    let headers = [(header::CONTENT_TYPE, "application/octet-stream"), (header::CACHE_CONTROL, IMMUTABLE)];
    Ok((headers, bytes).into_response())
}
