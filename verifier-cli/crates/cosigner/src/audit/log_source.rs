//! Fetches the entries of a log for an auditing cosigner: published ones from tiles, unpublished ones as candidate
//! entries.
//!
//! Only lengths and encodings are checked here; the audit verifies the entries.

use std::{ops::Range, time::Duration};

use futures_util::{Stream, StreamExt as _, TryStreamExt as _, stream};
use taglog_proto::{
    OperationError,
    checkpoint::SignedCheckpoint,
    merkle::{Hash, consistency_proof},
    tile::{FULL_WIDTH, TileKind, TilePath, decode_bundle},
};

use taglog_log_client::{LogClient, static_log::StaticLog, tile_nodes::TileNodes};

/// How many tiles are fetched at once.
const TILES_AT_ONCE: usize = 16;
/// How many chunks of candidate entries are in memory at once.
const CHUNKS_AT_ONCE: usize = 2;

/// The clients for the published and the unpublished entries of one log.
#[derive(Clone, Debug)]
pub struct LogSource {
    published: StaticLog,
    candidate: LogClient,
}

impl LogSource {
    /// The log at this address. Sends nothing. `timeout` is for each request.
    pub fn new(url: &str, timeout: Duration) -> Result<LogSource, String> {
        let published = StaticLog::open(url, timeout).map_err(|error| error.to_string())?;
        let candidate = LogClient::new(url, timeout).map_err(|error| error.to_string())?;
        Ok(LogSource { published, candidate })
    }

    /// Fetches the published checkpoint, which is not verified.
    pub async fn checkpoint(&self) -> Result<SignedCheckpoint, String> {
        let bytes = self.published.checkpoint().await.map_err(|error| error.to_string())?;
        SignedCheckpoint::parse(&bytes).map_err(|error| error.to_string())
    }

    /// Fetches the committed entries `from..to`, published or not.
    pub async fn candidate(&self, from: u64, to: u64) -> Result<Vec<Vec<u8>>, String> {
        let mut entries = Vec::new();
        let mut next = from;
        while next < to {
            let bundle = self.candidate.candidate_entries(next, to).await.map_err(|error| error.to_string())?;
            let limit = usize::try_from(to - next).unwrap_or(usize::MAX);
            let some = decode_bundle(&bundle, limit).map_err(|error| error.to_string())?;
            if some.is_empty() {
                return Err(format!("the log has no candidate entry {next}"));
            }
            next += some.len() as u64;
            entries.extend(some.into_iter().map(<[u8]>::to_vec));
        }
        Ok(entries)
    }

    /// Fetches the committed entries of one chunk after the other, each while the one before it is processed.
    pub fn candidates(&self, chunks: Vec<Range<u64>>) -> impl Stream<Item = Result<Vec<Vec<u8>>, String>> + use<> {
        let source = self.clone();
        let fetch = move |chunk: Range<u64>| {
            let source = source.clone();
            async move {
                let fetched = tokio::spawn(async move { source.candidate(chunk.start, chunk.end).await });
                fetched.await.unwrap_or_else(|error| Err(error.to_string()))
            }
        };
        stream::iter(chunks).map(fetch).buffered(CHUNKS_AT_ONCE)
    }

    /// Fetches the entries `from..to` of a log whose published size is `size`.
    pub async fn published(&self, from: u64, to: u64, size: u64) -> Result<Vec<Vec<u8>>, String> {
        let bundles = from / FULL_WIDTH..to.div_ceil(FULL_WIDTH);
        let paths = bundles.map(|index| {
            let width = FULL_WIDTH.min(size.saturating_sub(index * FULL_WIDTH)) as u16;
            TilePath { kind: TileKind::Entries, index, width }
        });
        let fetch = |path: TilePath| async move {
            let bundle = self.published.tile(&path).await.map_err(|error| error.to_string())?;
            let entries = decode_bundle(&bundle, FULL_WIDTH as usize).map_err(|error| error.to_string())?;
            let first = path.index * FULL_WIDTH;
            let wanted = (first..).zip(entries).filter(|(index, _)| (from..to).contains(index));
            Ok::<_, String>(wanted.map(|(_, entry)| entry.to_vec()).collect::<Vec<_>>())
        };
        let fetched: Vec<Vec<Vec<u8>>> = stream::iter(paths).map(fetch).buffered(TILES_AT_ONCE).try_collect().await?;
        Ok(fetched.into_iter().flatten().collect())
    }

    /// The consistency proof from size `from` to size `to`, which is published.
    pub async fn consistency(&self, from: u64, to: u64) -> Result<Vec<Hash>, String> {
        let mut nodes = TileNodes::new(&self.published, to);
        let proof = nodes.run(|tiles| OperationError::unless_refused(consistency_proof(tiles, from, to))).await;
        let proof = proof.map_err(|error| error.to_string())?;
        proof.ok_or_else(|| format!("there is no consistency proof from size {from} to size {to}"))
    }
}
