//! Views of one log: the checkpoints that the log itself, its mirrors and its cosigners serve.

use std::time::Duration;

use taglog_proto::{
    checkpoint::{CheckpointError, SignedCheckpoint},
    name::Digest,
    note::VerifierKey,
};
use thiserror::Error;

use super::split_view::{CompareError, Comparison, compare};
use taglog_log_client::static_log::{StaticError, StaticLog};

/// A checkpoint and its source.
#[derive(Clone, Debug)]
pub struct View {
    /// The source as text for users: an address or a file.
    pub source: String,
    pub checkpoint: SignedCheckpoint,
    /// The tree of the checkpoint; `None` if the source serves none, like a cosigner.
    pub tiles: Option<StaticLog>,
}

/// Why a view could not be fetched.
#[derive(Debug, Error)]
pub enum ViewError {
    /// The address is unreachable or serves no checkpoint.
    #[error(transparent)]
    Static(#[from] StaticError),
    /// The checkpoint is malformed or not signed by this log.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
}

/// The result of comparing one other view with one's own.
#[derive(Debug)]
pub struct ComparedView {
    /// The source of the other view.
    pub source: String,
    /// The size of its checkpoint; `None` if it could not be fetched.
    pub size: Option<u64>,
    /// How it relates to one's own view, or why that could not be determined.
    pub outcome: Result<Comparison, String>,
}

/// Fetches the view of a log or mirror at an address. If that has no checkpoint, the address is taken as that of a cosigner,
/// with the monitoring endpoint of c2sp.org/tlog-witness.
pub async fn fetch(location: &str, log: &VerifierKey, timeout: Duration) -> Result<View, ViewError> {
    let tiles = StaticLog::open(location, timeout)?;
    let (bytes, tiles) = match tiles.checkpoint().await {
        Err(StaticError::NotFound { .. }) => {
            let cosigner = StaticLog::open(&monitoring_prefix(location, log), timeout)?;
            (cosigner.checkpoint().await?, None)
        }
        bytes => (bytes?, Some(tiles)),
    };
    let checkpoint = SignedCheckpoint::parse(&bytes)?;
    checkpoint.verify(log)?;
    Ok(View { source: location.to_owned(), checkpoint, tiles })
}

/// The address prefix under which a cosigner serves the last checkpoint of a log that it cosigned.
pub fn monitoring_prefix(location: &str, log: &VerifierKey) -> String {
    let hash = Digest::sha256(log.name().as_bytes()).to_string();
    format!("{}/{}", location.trim_end_matches('/'), hash.trim_start_matches("sha256:"))
}

/// Compares one's own view with the given views and with those at other addresses, which are fetched concurrently.
pub async fn compare_with(
    own: &View,
    given: Vec<View>,
    locations: &[String],
    log: &VerifierKey,
    timeout: Duration,
) -> Vec<ComparedView> {
    let views = locations.iter().map(|location| fetch(location, log, timeout));
    let views = futures_util::future::join_all(views).await;
    let tiles: Vec<StaticLog> = views.iter().flatten().chain([own]).filter_map(|view| view.tiles.clone()).collect();
    let given = given.into_iter().map(|view| (view.source.clone(), Ok(view)));
    let mut compared = Vec::new();
    for (source, view) in given.chain(locations.iter().cloned().zip(views)) {
        let size = view.as_ref().ok().map(|view| view.checkpoint.unverified().size);
        let outcome = match view {
            Ok(view) => compare_views(own, &view, &tiles, log).await.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        compared.push(ComparedView { source, size, outcome });
    }
    compared
}

/// Compares two views. The tree of the larger one is read from its source, or from any of `everybody`.
///
/// # Errors
/// That of the last source tried, if none serves the tree.
pub async fn compare_views(
    own: &View,
    other: &View,
    everybody: &[StaticLog],
    log: &VerifierKey,
) -> Result<Comparison, CompareError> {
    let is_larger = other.checkpoint.unverified().size > own.checkpoint.unverified().size;
    let larger = if is_larger { other } else { own };
    let mut last = None;
    for tiles in larger.tiles.iter().chain(everybody) {
        match compare(log, &own.checkpoint, &other.checkpoint, tiles).await {
            Ok(comparison) => return Ok(comparison),
            Err(error) => last = Some(error),
        }
    }
    let nobody = || StaticError::NotFound { what: format!("the tree of {}", larger.source) }.into();
    Err(last.unwrap_or_else(nobody))
}
