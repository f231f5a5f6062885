//! Reads the store, as of one commit.

use rocksdb::{DB, Direction, IteratorMode, ReadOptions, Snapshot};
use taglog_proto::{
    checkpoint::SignedCheckpoint,
    index::RecordReader,
    merkle::{Frontier, Hash, NodeReader},
    name::{Digest, Image, Repository, WitnessId},
    prefix_tree::{Page, PagePath, PageReader},
    record::{RepositoryRecord, Sighting, TagLine, TagRecord},
    tag_proof::{LookupSource, PAGE},
};

use super::{CHECKPOINT_KEY, Store, family};
use crate::store::{
    StatementKey, StoreError,
    codec::{SightingsPage, digest_key, node_key, read_index, sightings_key},
};

type KeyValue = (Box<[u8]>, Box<[u8]>);

/// A snapshot of one commit; later commits do not change it.
pub struct View {
    pub(super) db: &'static DB,
    pub(super) snapshot: Snapshot<'static>,
}

/// Reads a page of sightings from a snapshot, or from the latest state.
pub fn read_sightings_page(
    db: &DB,
    snapshot: Option<&Snapshot<'_>>,
    image: &Image,
    witness: &WitnessId,
    number: u64,
) -> Result<SightingsPage, StoreError> {
    let key = sightings_key(image, witness, number);
    let handle = family::handle(db, family::SIGHTINGS)?;
    let bytes = match snapshot {
        Some(snapshot) => snapshot.get_pinned_cf(handle, key)?,
        None => db.get_pinned_cf(handle, key)?,
    };
    let bytes = bytes.ok_or_else(|| StoreError::Missing(format!("sightings of {image} by {witness}")))?;
    SightingsPage::from_bytes(&bytes).ok_or_else(|| StoreError::Corrupt(format!("sightings of {image}")))
}

impl View {
    fn get(&self, name: &str, key: impl AsRef<[u8]>) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.snapshot.get_cf(family::handle(self.db, name)?, key)?)
    }

    fn text(&self, name: &str, key: impl AsRef<[u8]>) -> Result<Option<String>, StoreError> {
        let bytes = self.get(name, key)?;
        bytes.map(String::from_utf8).transpose().map_err(|_| StoreError::Corrupt(name.to_owned()))
    }

    /// The keys and values from `start` on whose keys start with `prefix`, at most `limit`.
    fn scan(&self, name: &str, prefix: Vec<u8>, start: Vec<u8>, limit: usize) -> Result<Vec<KeyValue>, StoreError> {
        let mode = IteratorMode::From(&start, Direction::Forward);
        let items = self.snapshot.iterator_cf_opt(family::handle(self.db, name)?, ReadOptions::default(), mode);
        let within = items.take_while(|item| item.as_ref().map_or(true, |(key, _)| key.starts_with(&prefix)));
        Ok(within.take(limit).collect::<Result<_, _>>()?)
    }

    /// The signed checkpoint of the commit; `None` for an empty log.
    pub fn checkpoint(&self) -> Result<Option<SignedCheckpoint>, StoreError> {
        let Some(text) = self.get(family::META, CHECKPOINT_KEY)? else { return Ok(None) };
        let parsed = SignedCheckpoint::parse(&text).map_err(|_| StoreError::Corrupt("checkpoint".to_owned()))?;
        Ok(Some(parsed))
    }

    /// Consecutive entries from `first` on, at most `count`.
    pub fn entries(&self, first: u64, count: usize) -> Result<Vec<Vec<u8>>, StoreError> {
        let items = self.scan(family::ENTRIES, Vec::new(), first.to_be_bytes().to_vec(), count)?;
        Ok(items.into_iter().map(|(_, entry)| entry.into_vec()).collect())
    }

    /// The hashes of consecutive nodes of one level, concatenated, at most `count`.
    pub fn nodes(&self, level: u8, first: u64, count: usize) -> Result<Vec<u8>, StoreError> {
        let items = self.scan(family::NODES, vec![level], node_key(level, first).to_vec(), count)?;
        Ok(items.iter().flat_map(|(_, hash)| hash.iter().copied()).collect())
    }

    /// The log index of a statement with this key. The caller compares the texts, because the key is a truncated hash.
    pub fn statement(&self, key: &StatementKey) -> Result<Option<u64>, StoreError> {
        self.get(family::STATEMENTS, key.0)?.map(|bytes| read_index(&bytes)).transpose()
    }

    /// The public key of a witness id, if it was ever in a roster.
    pub fn witness_key(&self, witness: &WitnessId) -> Result<Option<Vec<u8>>, StoreError> {
        self.get(family::KEYS, witness.to_string())
    }

    /// The tag records of a repository in the order of their tags, from the first after `after` on, at most `limit`.
    pub fn tags(
        &self,
        repository: &Repository,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<TagRecord>, StoreError> {
        let prefix = format!("{repository}:").into_bytes();
        // No tag contains NUL, so this key is greater than that of `after` and less than that of every later tag.
        let start = after.map_or_else(|| prefix.clone(), |tag| format!("{repository}:{tag}\0").into_bytes());
        let records = self.scan(family::TAGS, prefix, start, limit)?;
        records.into_iter().map(|(_, text)| parse_tag_record(&text)).collect()
    }

    /// Sightings from log index `since` on that show a tag to be retagged, with their images, at most `limit`.
    pub fn retags(&self, since: u64, limit: usize) -> Result<Vec<(u64, String)>, StoreError> {
        let items = self.scan(family::RETAGS, Vec::new(), since.to_be_bytes().to_vec(), limit)?;
        let read = |(index, image): KeyValue| Ok((read_index(&index)?, String::from_utf8_lossy(&image).into_owned()));
        items.into_iter().map(read).collect()
    }

    /// Images that ever had this digest, with the log index of the first sighting, at most `limit`.
    pub fn images_with(&self, digest: &Digest, limit: usize) -> Result<Vec<(String, u64)>, StoreError> {
        let prefix = digest_key(digest);
        let items = self.scan(family::DIGESTS, prefix.clone(), prefix.clone(), limit)?;
        let read = |(key, index): KeyValue| {
            Ok((String::from_utf8_lossy(&key[prefix.len()..]).into_owned(), read_index(&index)?))
        };
        items.into_iter().map(read).collect()
    }

    pub fn manifest(&self, digest: &Digest) -> Result<Option<Vec<u8>>, StoreError> {
        self.get(family::MANIFESTS, digest_key(digest))
    }

    /// Whether a manifest with this digest may be stored: an entry or a stored manifest names it.
    pub fn wants_manifest(&self, digest: &Digest) -> Result<bool, StoreError> {
        let named = self.get(family::NAMED, digest_key(digest))?.is_some();
        Ok(named || !self.images_with(digest, 1)?.is_empty())
    }
}

fn parse_tag_record(text: &[u8]) -> Result<TagRecord, StoreError> {
    let text = std::str::from_utf8(text).ok().and_then(|text| TagRecord::parse(text).ok());
    text.ok_or_else(|| StoreError::Corrupt("tag record".to_owned()))
}

impl NodeReader for View {
    type Error = StoreError;

    fn node(&self, level: u8, index: u64) -> Result<Hash, StoreError> {
        let bytes = self.snapshot.get_pinned_cf(family::handle(self.db, family::NODES)?, node_key(level, index))?;
        read_node(bytes.as_deref(), level, index)
    }
}

/// Nodes never change, so proofs between committed sizes need no snapshot.
impl NodeReader for Store {
    type Error = StoreError;

    fn node(&self, level: u8, index: u64) -> Result<Hash, StoreError> {
        let bytes = self.db.get_pinned_cf(family::handle(self.db, family::NODES)?, node_key(level, index))?;
        read_node(bytes.as_deref(), level, index)
    }
}

fn read_node(bytes: Option<&[u8]>, level: u8, index: u64) -> Result<Hash, StoreError> {
    let hash = bytes.and_then(|bytes| bytes.try_into().ok());
    hash.map(Hash).ok_or_else(|| StoreError::Missing(format!("tree node {level}/{index}")))
}

impl PageReader for View {
    type Error = StoreError;

    fn page(&self, path: &PagePath) -> Result<Page, StoreError> {
        let bytes = self.snapshot.get_pinned_cf(family::handle(self.db, family::PAGES)?, path.to_bytes())?;
        match bytes {
            Some(bytes) => Page::from_bytes(&bytes).map_err(|_| StoreError::Corrupt("index page".to_owned())),
            None if *path == PagePath::ROOT => Ok(Page::default()),
            None => Err(StoreError::Missing(format!("index page {path:?}"))),
        }
    }
}

impl RecordReader for View {
    type Error = StoreError;
    type Place = ();

    fn place(&self, _: &Image) -> Result<(), StoreError> {
        Ok(())
    }

    fn tag_record(&self, image: &Image) -> Result<Option<TagRecord>, StoreError> {
        self.get(family::TAGS, image.to_string())?.map(|text| parse_tag_record(&text)).transpose()
    }

    fn repository_record(&self, repository: &Repository) -> Result<Option<RepositoryRecord>, StoreError> {
        let text = self.text(family::REPOSITORIES, repository.as_str())?;
        let parsed = text.map(|text| RepositoryRecord::parse(&text)).transpose();
        parsed.map_err(|_| StoreError::Corrupt(format!("repository record of {repository}")))
    }

    fn sightings_frontier(&self, image: &Image, line: &TagLine) -> Result<Frontier, StoreError> {
        let number = line.sightings.saturating_sub(1) / PAGE;
        let page = read_sightings_page(self.db, Some(&self.snapshot), image, &line.witness, number)?;
        let frontier = page.frontier(number).filter(|frontier| frontier.size() == line.sightings);
        frontier.ok_or_else(|| StoreError::Corrupt(format!("sightings of {image}")))
    }
}

impl LookupSource for View {
    fn entry(&self, index: u64) -> Result<Vec<u8>, StoreError> {
        let entry = self.get(family::ENTRIES, index.to_be_bytes())?;
        entry.ok_or_else(|| StoreError::Missing(format!("entry {index}")))
    }

    fn sightings(&self, image: &Image, line: &TagLine, start: u64) -> Result<Vec<Sighting>, StoreError> {
        let page = read_sightings_page(self.db, Some(&self.snapshot), image, &line.witness, start / PAGE)?;
        Ok(page.sightings)
    }
}
