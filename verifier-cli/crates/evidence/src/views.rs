//! What different people are shown of one log: its own checkpoint, and those that mirrors and cosigners have.

use std::time::Duration;

use taglog_proto::{
    checkpoint::{CheckpointError, SignedCheckpoint},
    name::Digest,
    note::VerifierKey,
};
use thiserror::Error;

use super::split_view::{CompareError, Comparison, compare};
use taglog_log_client::static_log::{StaticError, StaticLog};

/// A checkpoint and whoever gave it.
#[derive(Clone, Debug)]
pub struct View {
    /// Who, in words for people: an address, or where it was remembered.
    pub source: String,
    /// What the log signed for them.
    pub checkpoint: SignedCheckpoint,
    /// Where they have the tree, if they do: cosigners have none.
    pub tiles: Option<StaticLog>,
}

/// Why somebody's view could not be had.
#[derive(Debug, Error)]
pub enum ViewError {
    /// They did not answer, or not with a checkpoint.
    #[error(transparent)]
    Static(#[from] StaticError),
    /// They have no checkpoint that this log signed.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
}

/// What was found out about one other view.
#[derive(Debug)]
pub struct ComparedView {
    /// Whose view it is.
    pub source: String,
    /// The size of its checkpoint, if there is one.
    pub size: Option<u64>,
    /// What it is to the view that one has oneself.
    pub outcome: Result<Comparison, String>,
}

/// Fetches the view at an address: of a log or mirror, or else, by the monitoring endpoint of c2sp.org/tlog-witness,
/// of a cosigner.
///
/// # Errors
/// [`ViewError`].
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

/// Where a cosigner shows what it last cosigned of a log.
pub fn monitoring_prefix(location: &str, log: &VerifierKey) -> String {
    let hash = Digest::sha256(log.name().as_bytes()).to_string();
    format!("{}/{}", location.trim_end_matches('/'), hash.trim_start_matches("sha256:"))
}

/// Compares one's own view with those given, and with those at other addresses, which are asked at once.
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

/// Compares two views; the tree of the larger one may be had from whoever has it, whoever's view it is.
///
/// # Errors
/// [`CompareError`] of the last one asked, when nobody has the tree.
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
