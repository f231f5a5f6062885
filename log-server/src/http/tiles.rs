//! The static log: checkpoint, tiles and entry bundles (c2sp.org/tlog-tiles).
//!
//! Every partial width up to the published size is served permanently, and nothing beyond it: entries that are not
//! published may still be lost, and caches keep what they have seen.

use axum::{
    extract::{Path, State, rejection::PathRejection},
    http::header,
    response::{IntoResponse, Response},
};
use taglog_proto::tile::{FULL_WIDTH, TileKind, TilePath, encode_bundle};

use super::{
    cache::{IMMUTABLE, no_cache},
    problem::{Problem, path_problem},
    state::AppState,
};

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
        // A tile of level L has the nodes of level 8 * L.
        TileKind::Hashes(level) => {
            state.run_blocking(move || Ok(published.view().nodes(level * 8, first, width)?)).await?
        }
        TileKind::Entries => {
            let bundle = move || {
                let entries = published.view().entries(first, width)?;
                encode_bundle(entries.iter().map(Vec::as_slice)).map_err(|_| Problem::internal())
            };
            state.run_blocking(bundle).await?
        }
    };
    let headers = [(header::CONTENT_TYPE, "application/octet-stream"), (header::CACHE_CONTROL, IMMUTABLE)];
    Ok((headers, bytes).into_response())
}
