//! Reads a static log (c2sp.org/tlog-tiles) from a server, a mirror or a directory of files.
//!
//! Responses are bounded and well-formed, but not verified.

use std::{
    io::{ErrorKind, Read as _},
    path::PathBuf,
    time::Duration,
};

use backon::{ExponentialBuilder, Retryable as _};
use reqwest::{Client, Response, StatusCode, Url, header::RETRY_AFTER};
use taglog_base::text::one_line;
use taglog_proto::{
    entry::MAX_ENTRY,
    note::MAX_NOTE,
    tile::{FULL_WIDTH, TileKind, TilePath, decode_bundle},
};
use thiserror::Error;

use super::{cause, is_loopback};

/// Bytes of a hash.
const HASH: usize = 32;
/// Retries after temporary failures.
const RETRIES: usize = 5;
/// The pause before the first retry; doubled for each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// The longest pause, even if the log asks for a longer one.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Why a part of a static log could not be read. None of these proves misbehaviour.
#[derive(Debug, Error)]
pub enum StaticError {
    /// The location is neither a URL nor a directory.
    #[error("{0:?} is neither the http or https address of a log nor a directory")]
    Location(String),
    /// It is not there.
    #[error("{what} is not there")]
    NotFound {
        /// The address or the file.
        what: String,
    },
    /// No connection, no answer in time, a broken one, or an error of the server: trying again may help.
    #[error("cannot read {what}: {reason}")]
    Unavailable {
        /// The address or the file.
        what: String,
        /// The innermost cause.
        reason: String,
        /// How long the server asks to wait, if it does.
        wait: Option<Duration>,
    },
    /// It is refused permanently, or does not have the length and shape of its path.
    #[error("{what} is no part of a static log: {reason}")]
    Malformed {
        /// The address or the file.
        what: String,
        /// What is wrong.
        reason: String,
    },
}

impl StaticError {
    fn unavailable(what: &str, reason: impl ToString) -> StaticError {
        StaticError::Unavailable { what: what.to_owned(), reason: one_line(&reason.to_string()), wait: None }
    }

    fn malformed(what: &str, reason: impl ToString) -> StaticError {
        StaticError::Malformed { what: what.to_owned(), reason: one_line(&reason.to_string()) }
    }
}

/// Where a static log is read from.
#[derive(Clone, Debug)]
enum LogLocation {
    Server { http: Client, base: Url },
    Directory(PathBuf),
}

/// A static log that can be read by many at once.
#[derive(Clone, Debug)]
pub struct StaticLog {
    source: LogLocation,
}

impl StaticLog {
    /// The static log at an http or https address, or in a directory. Sends nothing. `timeout` is for each exchange.
    ///
    /// # Errors
    /// [`StaticError::Location`]; [`StaticError::Unavailable`] when TLS cannot be set up.
    pub fn open(location: &str, timeout: Duration) -> Result<StaticLog, StaticError> {
        if !location.starts_with("http://") && !location.starts_with("https://") {
            let directory = PathBuf::from(location);
            let error = || StaticError::Location(one_line(location));
            return directory
                .is_dir()
                .then_some(StaticLog { source: LogLocation::Directory(directory) })
                .ok_or_else(error);
        }
        let base = Url::parse(&format!("{}/", location.trim_end_matches('/')));
        let base = base.map_err(|_| StaticError::Location(one_line(location)))?;
        let builder = Client::builder().timeout(timeout).user_agent(concat!("taglog/", env!("CARGO_PKG_VERSION")));
        // A proxy could not reach this machine itself.
        let builder = if is_loopback(&base) { builder.no_proxy() } else { builder };
        let http = builder.build().map_err(|error| StaticError::unavailable(base.as_str(), cause(&error)))?;
        Ok(StaticLog { source: LogLocation::Server { http, base } })
    }

    /// The address or the directory.
    pub fn location(&self) -> String {
        match &self.source {
            LogLocation::Server { base, .. } => base.as_str().trim_end_matches('/').to_owned(),
            LogLocation::Directory(directory) => directory.display().to_string(),
        }
    }

    /// The checkpoint: at most [`MAX_NOTE`] bytes, not verified.
    ///
    /// # Errors
    /// [`StaticError`].
    pub async fn checkpoint(&self) -> Result<Vec<u8>, StaticError> {
        self.read("checkpoint", MAX_NOTE).await
    }

    /// A tile of hashes (32 bytes for each) or an entry bundle, with exactly as many as `path` is wide; not verified.
    ///
    /// A partial tile that is no longer there is cut out of the full one, as tlog-tiles has it; in a directory, out of
    /// any wider one.
    ///
    /// # Errors
    /// [`StaticError`].
    pub async fn tile(&self, path: &TilePath) -> Result<Vec<u8>, StaticError> {
        let full = TilePath { width: FULL_WIDTH as u16, ..*path };
        match self.exact_tile(path).await {
            Err(StaticError::NotFound { what }) if path.width < full.width => match self.exact_tile(&full).await {
                Ok(tile) => cut_tile(path, tile).map_err(|reason| StaticError::malformed(&what, reason)),
                Err(StaticError::NotFound { .. }) => match self.wider_file(path) {
                    Some(wider) => {
                        let tile = self.exact_tile(&wider).await?;
                        cut_tile(path, tile).map_err(|reason| StaticError::malformed(&what, reason))
                    }
                    None => Err(StaticError::NotFound { what }),
                },
                Err(error) => Err(error),
            },
            outcome => outcome,
        }
    }

    /// The narrowest partial tile in a directory that is wider than this one: a copy has those of its own sizes only.
    fn wider_file(&self, path: &TilePath) -> Option<TilePath> {
        let LogLocation::Directory(directory) = &self.source else { return None };
        let file = directory.join(format!("tile/{path}"));
        let files = std::fs::read_dir(file.parent()?).ok()?.filter_map(Result::ok);
        let widths = files.filter_map(|file| file.file_name().to_str()?.parse::<u16>().ok());
        let width = widths.filter(|width| (path.width..FULL_WIDTH as u16).contains(width)).min()?;
        Some(TilePath { width, ..*path })
    }

    async fn exact_tile(&self, path: &TilePath) -> Result<Vec<u8>, StaticError> {
        let name = format!("tile/{path}");
        let tile = self.read(&name, max_tile_len(path)).await?;
        check_tile(path, &tile).map_err(|reason| StaticError::malformed(&self.name(&name), reason))?;
        Ok(tile)
    }

    fn name(&self, path: &str) -> String {
        format!("{}/{path}", self.location())
    }

    async fn read(&self, path: &str, limit: usize) -> Result<Vec<u8>, StaticError> {
        match &self.source {
            LogLocation::Directory(directory) => read_file(directory.join(path), limit).await,
            LogLocation::Server { http, base } => {
                let url = base.join(path).map_err(|error| StaticError::malformed(path, error))?;
                let pauses = ExponentialBuilder::default()
                    .with_min_delay(FIRST_PAUSE)
                    .with_max_delay(LONGEST_PAUSE)
                    .with_max_times(RETRIES)
                    .with_jitter();
                (|| fetch(http, &url, limit))
                    .retry(pauses)
                    .when(|error| matches!(error, StaticError::Unavailable { .. }))
                    .adjust(|error, pause| match error {
                        StaticError::Unavailable { wait: Some(wait), .. } => {
                            pause.map(|pause| pause.max((*wait).min(LONGEST_PAUSE)))
                        }
                        _ => pause,
                    })
                    .await
            }
        }
    }
}

async fn read_file(path: PathBuf, limit: usize) -> Result<Vec<u8>, StaticError> {
    let what = path.display().to_string();
    let read = move || -> std::io::Result<Vec<u8>> {
        let (file, limit) = (std::fs::File::open(path)?, limit as u64 + 1);
        // One byte more than there are, so that the end is seen without growing.
        let mut bytes = Vec::with_capacity(file.metadata()?.len().saturating_add(1).min(limit) as usize);
        file.take(limit).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let read = tokio::task::spawn_blocking(read).await.map_err(|error| StaticError::unavailable(&what, error))?;
    match read {
        Ok(bytes) if bytes.len() > limit => Err(StaticError::malformed(&what, too_long(limit))),
        Ok(bytes) => Ok(bytes),
        Err(error) if error.kind() == ErrorKind::NotFound => Err(StaticError::NotFound { what }),
        Err(error) => Err(StaticError::unavailable(&what, error)),
    }
}

async fn fetch(http: &Client, url: &Url, limit: usize) -> Result<Vec<u8>, StaticError> {
    let what = url.as_str();
    let broken = |error: reqwest::Error| StaticError::unavailable(what, cause(&error));
    let mut response = http.get(url.clone()).send().await.map_err(broken)?;
    if response.status() != StatusCode::OK {
        return Err(refusal(what, &response));
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(broken)? {
        if chunk.len() > limit - body.len() {
            return Err(StaticError::malformed(what, too_long(limit)));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn refusal(what: &str, response: &Response) -> StaticError {
    let status = response.status();
    let passes = status.is_server_error()
        || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY);
    let (what, reason) = (what.to_owned(), format!("the server answers {status}"));
    match status {
        StatusCode::NOT_FOUND | StatusCode::GONE => StaticError::NotFound { what },
        _ if passes => StaticError::Unavailable { what, reason, wait: wait(response) },
        _ => StaticError::Malformed { what, reason },
    }
}

/// `Retry-After` in seconds; a date is ignored.
fn wait(response: &Response) -> Option<Duration> {
    let seconds = response.headers().get(RETRY_AFTER)?.to_str().ok()?;
    seconds.parse().ok().map(Duration::from_secs)
}

fn too_long(limit: usize) -> String {
    format!("it is over {limit} bytes")
}

/// The most bytes of a tile of this kind and width.
fn max_tile_len(path: &TilePath) -> usize {
    let each = match path.kind {
        TileKind::Hashes(_) => HASH,
        TileKind::Entries => 2 + MAX_ENTRY,
    };
    each * usize::from(path.width)
}

/// Checks that a tile has as many hashes or entries as it is wide.
fn check_tile(path: &TilePath, tile: &[u8]) -> Result<(), String> {
    let width = usize::from(path.width);
    match path.kind {
        TileKind::Hashes(_) if tile.len() == HASH * width => Ok(()),
        TileKind::Hashes(_) => Err(format!("it has {} bytes, want {}", tile.len(), HASH * width)),
        TileKind::Entries => match decode_bundle(tile, width) {
            Ok(entries) if entries.len() == width => Ok(()),
            Ok(entries) => Err(format!("it has {} entries, want {width}", entries.len())),
            Err(error) => Err(error.to_string()),
        },
    }
}

/// Cuts the front out of a wider tile of the same kind: as many hashes or entries as `path` is wide.
///
/// # Errors
/// The tile is narrower than `path`, or no entry bundle.
pub fn cut_tile(path: &TilePath, mut tile: Vec<u8>) -> Result<Vec<u8>, String> {
    let width = usize::from(path.width);
    let length = match path.kind {
        TileKind::Hashes(_) => HASH * width,
        TileKind::Entries => {
            let entries = decode_bundle(&tile, FULL_WIDTH as usize).map_err(|error| error.to_string())?;
            entries.iter().take(width).map(|entry| 2 + entry.len()).sum()
        }
    };
    tile.truncate(length);
    check_tile(path, &tile)?;
    Ok(tile)
}

#[cfg(test)]
mod tests {
    use taglog_proto::tile::encode_bundle;

    use super::*;

    fn path(text: &str) -> TilePath {
        TilePath::parse(text).unwrap()
    }

    fn bundle(count: usize) -> Vec<u8> {
        let entries: Vec<String> = (0..count).map(|i| format!("entry {i}")).collect();
        encode_bundle(entries.iter().map(String::as_bytes)).unwrap()
    }

    fn directory(files: &[(&str, Vec<u8>)]) -> (tempfile::TempDir, StaticLog) {
        let directory = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            let file = directory.path().join(name);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, bytes).unwrap();
        }
        let log = StaticLog::open(directory.path().to_str().unwrap(), Duration::from_secs(5)).unwrap();
        (directory, log)
    }

    #[tokio::test]
    async fn a_directory_of_files() {
        let files = [
            ("checkpoint", b"x".to_vec()),
            ("tile/0/000", (0..8192).map(|i| (i / 32) as u8).collect()),
            ("tile/entries/000", bundle(256)),
            ("tile/entries/001.p/3", bundle(3)),
            ("tile/0/001.p/3", vec![0; 95]),
            ("tile/entries/002.p/3", bundle(2)),
            ("tile/entries/003.p/3", bundle(4)),
        ];
        let (_directory, log) = directory(&files);
        assert_eq!(log.checkpoint().await.unwrap(), b"x");
        assert_eq!(log.tile(&path("0/000")).await.unwrap().len(), 8192);
        assert_eq!(log.tile(&path("entries/001.p/3")).await.unwrap(), bundle(3));
        // Partial tiles that are gone are cut out of the full ones.
        assert_eq!(log.tile(&path("0/000.p/2")).await.unwrap(), [[0; 32], [1; 32]].concat());
        assert_eq!(log.tile(&path("entries/000.p/7")).await.unwrap(), bundle(7));
        assert_eq!(log.tile(&path("entries/001.p/2")).await.unwrap(), bundle(2));
        for missing in ["0/002", "1/000.p/1", "entries/001.p/4", "entries/001"] {
            assert!(matches!(log.tile(&path(missing)).await, Err(StaticError::NotFound { .. })), "{missing}");
        }
        for malformed in ["0/001.p/3", "entries/002.p/3", "entries/003.p/3"] {
            assert!(matches!(log.tile(&path(malformed)).await, Err(StaticError::Malformed { .. })), "{malformed}");
        }
    }

    #[tokio::test]
    async fn lengths_are_bounded() {
        let (_directory, log) = directory(&[("checkpoint", vec![b'a'; MAX_NOTE + 1]), ("tile/0/000.p/1", vec![0; 33])]);
        assert!(matches!(log.checkpoint().await, Err(StaticError::Malformed { .. })));
        assert!(matches!(log.tile(&path("0/000.p/1")).await, Err(StaticError::Malformed { .. })));
    }

    #[test]
    fn locations() {
        let open = |location: &str| StaticLog::open(location, Duration::from_secs(5));
        assert_eq!(open("https://log.example/taglog/").unwrap().location(), "https://log.example/taglog");
        for bad in ["", "/no/such/directory", "ftp://log.example/", "http://", "https://:80/"] {
            assert!(matches!(open(bad), Err(StaticError::Location(_))), "{bad}");
        }
    }

    /// Answers that come in a row, the last one for ever.
    async fn server(answers: &'static [(u16, &'static str)]) -> StaticLog {
        use axum::{Router, http::StatusCode as Status};
        let count = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let answer = move || {
            let i = count.fetch_add(1, std::sync::atomic::Ordering::SeqCst).min(answers.len() - 1);
            let (status, body) = answers[i];
            async move { (Status::from_u16(status).unwrap(), body) }
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let location = format!("http://{}/some/log", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });
        StaticLog::open(&location, Duration::from_secs(5)).unwrap()
    }

    #[tokio::test]
    async fn what_passes_is_tried_again() {
        let log = server(&[(503, ""), (429, ""), (200, "good")]).await;
        assert_eq!(log.checkpoint().await.unwrap(), b"good");
        let log = server(&[(403, ""), (200, "too late")]).await;
        assert!(matches!(log.checkpoint().await, Err(StaticError::Malformed { .. })));
        let log = server(&[(404, "")]).await;
        assert!(matches!(log.tile(&path("0/000.p/1")).await, Err(StaticError::NotFound { .. })));
    }
}
