//! The encoding of keys and values in the store.

use taglog_proto::{
    entry::Seen,
    merkle::{Frontier, Hash},
    name::{Digest, Image, WitnessId},
    record::Sighting,
    tag_proof::PAGE,
};

use super::StoreError;

/// The key of a node: level, then index, big-endian.
pub fn node_key(level: u8, index: u64) -> [u8; 9] {
    let mut key = [level; 9];
    key[1..].copy_from_slice(&index.to_be_bytes());
    key
}

/// The key of one page of a witness's sightings of a tag. No name contains NUL.
pub fn sightings_key(image: &Image, witness: &WitnessId, page: u64) -> Vec<u8> {
    [format!("{image}\0{witness}\0").as_bytes(), &page.to_be_bytes()].concat()
}

/// A digest: a byte for the algorithm, then the hash.
pub fn digest_key(digest: &Digest) -> Vec<u8> {
    match digest {
        Digest::Sha256(hash) => [&[1][..], hash].concat(),
        Digest::Sha512(hash) => [&[2][..], hash].concat(),
    }
}

/// The key under which an image is listed for a digest that it had.
pub fn digest_image_key(digest: &Digest, image: &Image) -> Vec<u8> {
    [&digest_key(digest)[..], image.to_string().as_bytes()].concat()
}

/// Decodes a big-endian log index.
pub fn read_index(bytes: &[u8]) -> Result<u64, StoreError> {
    let bytes = bytes.try_into().map_err(|_| StoreError::Corrupt("log index".to_owned()))?;
    Ok(u64::from_be_bytes(bytes))
}

/// One page of a witness's sightings of a tag: at most [`PAGE`] of them, and the right edge of the
/// list before the page, so that appending never reads more than one page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SightingsPage {
    /// The roots of the perfect subtrees of all pages before this one, largest first.
    pub before: Vec<Hash>,
    pub sightings: Vec<Sighting>,
}

impl SightingsPage {
    /// The right edge of the list up to and including this page, which has number `page`.
    pub fn frontier(&self, page: u64) -> Option<Frontier> {
        let mut frontier = Frontier::from_parts(page.checked_mul(PAGE)?, self.before.clone())?;
        for sighting in &self.sightings {
            frontier.append(sighting.leaf_hash(), |_, _, _| {});
        }
        Some(frontier)
    }

    /// The encoding: the number of hashes, the hashes, then for each sighting its log index, a byte 0 (`gone`), 1
    /// (SHA-256) or 2 (SHA-512), and the hash of the digest.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![self.before.len() as u8];
        self.before.iter().for_each(|hash| bytes.extend_from_slice(&hash.0));
        for Sighting { index, seen } in &self.sightings {
            bytes.extend_from_slice(&index.to_be_bytes());
            match seen {
                Seen::Gone => bytes.push(0),
                Seen::Digest(digest) => bytes.extend_from_slice(&digest_key(digest)),
            }
        }
        bytes
    }

    /// Decodes a page; `None` if it is damaged.
    pub fn from_bytes(bytes: &[u8]) -> Option<SightingsPage> {
        let (count, mut rest) = bytes.split_first()?;
        let mut page = SightingsPage::default();
        for _ in 0..*count {
            let (hash, after) = rest.split_first_chunk()?;
            page.before.push(Hash(*hash));
            rest = after;
        }
        while !rest.is_empty() {
            let (index, after) = rest.split_first_chunk()?;
            let (kind, after) = after.split_first()?;
            let (seen, after) = match kind {
                0 => (Seen::Gone, after),
                1 => after.split_first_chunk().map(|(hash, after)| (Seen::Digest(Digest::Sha256(*hash)), after))?,
                2 => after.split_first_chunk().map(|(hash, after)| (Seen::Digest(Digest::Sha512(*hash)), after))?,
                _ => return None,
            };
            page.sightings.push(Sighting { index: u64::from_be_bytes(*index), seen });
            rest = after;
        }
        Some(page)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sightings_pages_round_trip() {
        let seen = [Seen::Gone, Seen::Digest(Digest::sha256(b"a")), Seen::Digest(Digest::Sha512([7; 64]))];
        let sightings = seen.into_iter().zip(5..).map(|(seen, index)| Sighting { index, seen }).collect();
        let page = SightingsPage { before: vec![Hash::of(b"x")], sightings };
        let bytes = page.to_bytes();
        assert_eq!(SightingsPage::from_bytes(&bytes), Some(page.clone()));
        assert_eq!(page.frontier(1).map(|frontier| frontier.size()), Some(256 + 3));
        assert_eq!(page.frontier(3), None, "512 + 256 entries have two perfect subtrees");
        for cut in 1..bytes.len() {
            let cut_page = SightingsPage::from_bytes(&bytes[..cut]);
            assert!(cut_page.is_none_or(|p| p.sightings.len() < 3), "{cut}");
        }
    }
}
