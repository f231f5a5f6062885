//! Tile paths and entry bundles (c2sp.org/tlog-tiles).

use std::fmt;

use thiserror::Error;

/// Hashes in a full tile, and entries in a full bundle.
pub const FULL_WIDTH: u64 = 256;

/// The most bytes of an entry: what the length prefix of an entry bundle can say.
pub const MAX_ENTRY: usize = u16::MAX as usize;

/// Why a tile path or a bundle was refused.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum TileError {
    /// The path is not `<L>/<N>[.p/<W>]`.
    #[error("tile path {0:?}: want <level 0 to 63>/<index in groups of 3 digits>[.p/<width 1 to 255>]")]
    Path(String),
    /// A bundle ends within an entry.
    #[error("the entry bundle ends within entry {0}")]
    Truncated(usize),
    /// A bundle has more entries than asked for.
    #[error("the entry bundle has more than {0} entries")]
    TooMany(usize),
}

/// Hashes or entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TileKind {
    /// Hashes of this level, 0 being the leaves.
    Hashes(u8),
    /// The entries themselves: an entry bundle.
    Entries,
}

/// One tile: kind, index within its level, width.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TilePath {
    /// Hashes of a level, or entries.
    pub kind: TileKind,
    /// The index within the level.
    pub index: u64,
    /// 1 to 256; below 256 the tile is partial.
    pub width: u16,
}

impl TilePath {
    /// Parses what follows `/tile/`: `<L>/<N>[.p/<W>]`, with `entries` for L in bundles.
    ///
    /// # Errors
    /// [`TileError::Path`] for everything but the canonical encoding.
    pub fn parse(text: &str) -> Result<TilePath, TileError> {
        let error = || TileError::Path(text.chars().take(80).collect());
        let (level, rest) = text.split_once('/').ok_or_else(error)?;
        let kind = match level {
            "entries" => TileKind::Entries,
            _ => TileKind::Hashes(level.parse().map_err(|_| error())?),
        };
        let (index, width) = match rest.split_once(".p/") {
            Some((index, width)) => (index, width.parse().map_err(|_| error())?),
            None => (rest, FULL_WIDTH as u16),
        };
        let digits: String = index.chars().filter(char::is_ascii_digit).collect();
        let path = TilePath { kind, index: digits.parse().map_err(|_| error())?, width };
        let in_range = !matches!(kind, TileKind::Hashes(64..)) && (1..=FULL_WIDTH as u16).contains(&width);
        // Printing gives the canonical encoding, so a wrong grouping or a leading zero cannot match.
        if in_range && path.to_string() == text { Ok(path) } else { Err(error()) }
    }

    /// Whether a log of `size` entries has this tile at this width.
    pub fn exists_at(&self, size: u64) -> bool {
        let level = match self.kind {
            TileKind::Hashes(level) => level,
            TileKind::Entries => 0,
        };
        let nodes = size.checked_shr(8 * u32::from(level)).unwrap_or(0);
        self.index
            .checked_mul(FULL_WIDTH)
            .and_then(|start| start.checked_add(u64::from(self.width)))
            .is_some_and(|end| end <= nodes)
    }
}

impl fmt::Display for TilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            TileKind::Hashes(level) => write!(f, "{level}")?,
            TileKind::Entries => write!(f, "entries")?,
        }
        let digits = self.index.to_string();
        let padded = format!("{digits:0>width$}", width = digits.len().next_multiple_of(3));
        let groups = padded.len() / 3;
        for group in 0..groups {
            let x = if group + 1 < groups { "x" } else { "" };
            write!(f, "/{x}{}", &padded[3 * group..3 * group + 3])?;
        }
        if u64::from(self.width) < FULL_WIDTH { write!(f, ".p/{}", self.width) } else { Ok(()) }
    }
}

/// Writes an entry bundle: each entry after its length as a big-endian u16.
///
/// # Errors
/// [`TileError::Truncated`] for an entry over [`MAX_ENTRY`] bytes, which a bundle cannot hold.
pub fn encode_bundle<'a>(entries: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<u8>, TileError> {
    let mut bundle = Vec::new();
    for (i, entry) in entries.into_iter().enumerate() {
        let length = u16::try_from(entry.len()).map_err(|_| TileError::Truncated(i))?;
        bundle.extend_from_slice(&length.to_be_bytes());
        bundle.extend_from_slice(entry);
    }
    Ok(bundle)
}

/// Reads an entry bundle of at most `limit` entries, each at most [`MAX_ENTRY`] bytes.
///
/// # Errors
/// [`TileError::Truncated`], [`TileError::TooMany`].
pub fn decode_bundle(bundle: &[u8], limit: usize) -> Result<Vec<&[u8]>, TileError> {
    const { assert!(MAX_ENTRY == u16::MAX as usize) };
    let mut entries = Vec::new();
    let mut rest = bundle;
    while !rest.is_empty() {
        let truncated = TileError::Truncated(entries.len());
        let (length, after) = rest.split_first_chunk::<2>().ok_or(truncated.clone())?;
        let (entry, after) = after.split_at_checked(usize::from(u16::from_be_bytes(*length))).ok_or(truncated)?;
        if entries.len() == limit {
            return Err(TileError::TooMany(limit));
        }
        entries.push(entry);
        rest = after;
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tile_paths_have_one_canonical_encoding() {
        for good in ["0/000", "0/x001/x234/067", "63/999", "1/x001/000.p/1", "entries/000.p/255", "entries/x001/000"] {
            assert_eq!(TilePath::parse(good).unwrap().to_string(), good);
        }
        for bad in [
            "",
            "0",
            "0/",
            "0/0",
            "0/00",
            "0/0000",
            "00/000",
            "64/000",
            "-1/000",
            "+1/000",
            "0/001/000",
            "0/x000/001",
            "0/x1/000",
            "0/000.p/0",
            "0/000.p/256",
            "0/000.p/01",
            "0/000.p/",
            "0/x001",
            "0/000/",
            "0/000.p/1/",
            "Entries/000",
            "0/x999/x999/x999/x999/x999/x999/x999/999",
            "0/0a0",
        ] {
            assert!(TilePath::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn tiles_exist_up_to_the_size() {
        let exists = |path: &str, size| TilePath::parse(path).unwrap().exists_at(size);
        assert!(exists("0/000.p/5", 5) && !exists("0/000.p/6", 5) && !exists("0/000", 255) && exists("0/000", 256));
        assert!(exists("1/000.p/1", 256) && !exists("1/000.p/1", 255) && exists("entries/x001/000.p/1", 256_001));
        assert!(!exists("63/000.p/1", u64::MAX));
    }

    #[test]
    fn bundles_are_decoded_up_to_the_limit_and_never_past_their_end() {
        let bundle = encode_bundle([&b"ab"[..], b"", b"c"]).unwrap();
        assert_eq!(bundle, b"\0\x02ab\0\0\0\x01c");
        assert_eq!(decode_bundle(&bundle, 3).unwrap(), [&b"ab"[..], b"", b"c"]);
        assert_eq!(decode_bundle(&bundle, 2), Err(TileError::TooMany(2)));
        for cut in [1, 3, 5, 8] {
            assert!(matches!(decode_bundle(&bundle[..cut], 3), Err(TileError::Truncated(_))), "{cut}");
        }
        assert!(encode_bundle([&vec![0; 65_536][..]]).is_err());
    }
}
