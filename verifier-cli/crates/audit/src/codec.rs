//! The stored encoding of the lines of tag and repository records. Integers are little-endian.

use taglog_proto::{
    entry::Seen,
    merkle::{Hash, edge_root},
    name::Digest,
    record::Confirmed,
    time::Timestamp,
};

use super::record_state::{LineState, RepositoryLineState};

/// The bytes of a digest; empty for `gone`.
pub(super) fn seen_bytes(seen: &Seen) -> &[u8] {
    match seen {
        Seen::Digest(Digest::Sha256(digest)) => digest,
        Seen::Digest(Digest::Sha512(digest)) => digest,
        Seen::Gone => &[],
    }
}

/// Decodes [`seen_bytes`].
pub(super) fn seen_from(bytes: &[u8]) -> Option<Seen> {
    match bytes.len() {
        0 => Some(Seen::Gone),
        32 => Some(Seen::Digest(Digest::Sha256(bytes.try_into().ok()?))),
        64 => Some(Seen::Digest(Digest::Sha512(bytes.try_into().ok()?))),
        _ => None,
    }
}

/// Encodes the lines of a tag record, each as: witness (u32), observations, sightings, log index (u64), observed (i64, Unix
/// seconds), length of the digest (u8), digest, number of edge nodes (u8), edge nodes (32 bytes each).
pub(super) fn tag_lines(lines: &[LineState]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(112 * lines.len());
    for line in lines {
        bytes.extend_from_slice(&line.witness.to_le_bytes());
        for number in [line.observations, line.sightings, line.index] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(&line.observed.unix().to_le_bytes());
        let seen = line.seen.get();
        let seen = seen_bytes(&seen);
        // A digest has 0, 32 or 64 bytes, and an edge at most 64 nodes.
        bytes.push(seen.len() as u8);
        bytes.extend_from_slice(seen);
        bytes.push(line.edge.len() as u8);
        line.edge.iter().for_each(|node| bytes.extend_from_slice(&node.0));
    }
    bytes
}

/// Decodes [`tag_lines`].
pub(super) fn tag_lines_from(bytes: &[u8]) -> Option<Vec<LineState>> {
    let mut reader = Reader(bytes);
    let mut lines = Vec::new();
    while !reader.0.is_empty() {
        let witness = reader.u32()?;
        let (observations, sightings, index) = (reader.u64()?, reader.u64()?, reader.u64()?);
        let observed = reader.time()?;
        let length = reader.u8()?;
        let seen = seen_from(reader.take(length.into())?)?;
        let nodes = reader.u8()?;
        let edge = (0..nodes).map(|_| reader.hash()).collect::<Option<Box<[Hash]>>>()?;
        if edge.len() != sightings.count_ones() as usize {
            return None;
        }
        let (seen, root) = (seen.into(), edge_root(&edge));
        lines.push(LineState { witness, observations, sightings, index, observed, seen, edge, root });
    }
    // There is one list per tag, so spare capacity would add up.
    lines.shrink_to_fit();
    Some(lines)
}

/// Encodes the lines of a repository record, each as: witness (u32), tags (u64), 0 or 1 (u8); if 1, log index (u64) and time
/// (i64, Unix seconds) of the confirmation.
pub(super) fn repository_lines(lines: &[RepositoryLineState]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(32 * lines.len());
    for line in lines {
        bytes.extend_from_slice(&line.witness.to_le_bytes());
        bytes.extend_from_slice(&line.tags.to_le_bytes());
        bytes.push(line.confirmed.is_some().into());
        if let Some(Confirmed { index, observed }) = line.confirmed {
            bytes.extend_from_slice(&index.to_le_bytes());
            bytes.extend_from_slice(&observed.unix().to_le_bytes());
        }
    }
    bytes
}

/// Decodes [`repository_lines`].
pub(super) fn repository_lines_from(bytes: &[u8]) -> Option<Vec<RepositoryLineState>> {
    let mut reader = Reader(bytes);
    let mut lines = Vec::new();
    while !reader.0.is_empty() {
        let (witness, tags) = (reader.u32()?, reader.u64()?);
        let confirmed = match reader.u8()? {
            0 => None,
            1 => Some(Confirmed { index: reader.u64()?, observed: reader.time()? }),
            _ => return None,
        };
        lines.push(RepositoryLineState { witness, tags, confirmed });
    }
    Some(lines)
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn u8(&mut self) -> Option<u8> {
        Some(u8::from_le_bytes(self.array()?))
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.array()?))
    }

    fn time(&mut self) -> Option<Timestamp> {
        Timestamp::from_unix(i64::from_le_bytes(self.array()?))
    }

    fn hash(&mut self) -> Option<Hash> {
        Some(Hash(self.array()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record_state::StoredSeen;

    #[test]
    fn every_kind_of_digest_survives_encoding() {
        for text in ["gone", &format!("sha256:{}", "1f".repeat(32)), &format!("sha512:{}", "2e".repeat(64))] {
            let seen = Seen::parse(text).unwrap();
            let stored = StoredSeen::from(seen);
            assert_eq!((stored.get(), stored.get().to_string().as_str()), (seen, text));
            let line = LineState {
                witness: 7,
                observations: 2,
                sightings: 1,
                index: 9,
                observed: Timestamp::UNIX_EPOCH,
                seen: stored,
                edge: Box::new([Hash([3; 32])]),
                root: Hash([3; 32]),
            };
            let bytes = tag_lines(std::slice::from_ref(&line));
            assert_eq!(tag_lines_from(&bytes), Some(vec![line]));
        }
    }
}
