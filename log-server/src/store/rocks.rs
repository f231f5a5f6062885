//! The embedded store: RocksDB, one column family for each kind of thing.

use std::{collections::HashSet, path::Path};

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType, Direction, IteratorMode,
    Options, ReadOptions, Snapshot, WriteBatch, WriteOptions,
};
use taglog_proto::{
    checkpoint::SignedCheckpoint,
    index::{ChangedTag, NewSightings, RecordReader},
    merkle::{Frontier, Hash, NodeReader},
    name::{Digest, Image, Repository, WitnessId},
    prefix_tree::{Page, PagePath, PageReader},
    record::{RepositoryRecord, Sighting, TagLine, TagRecord},
    tag_proof::{LookupSource, PAGE},
};

use super::{
    Commit, KeptManifest, StatementKey, StoreError,
    codec::{SightingsPage, digest_image_key, digest_key, node_key, read_index, sightings_key},
};

/// The layout of keys and values in this file; stored, and checked when a store is opened.
const VERSION: &str = "taglog/store@v1";
const VERSION_KEY: &str = "version";
const CHECKPOINT_KEY: &str = "checkpoint";

/// Column families: what is stored, and how.
mod family {
    /// Version, last checkpoint.
    pub const META: &str = "meta";
    /// Log index → entry.
    pub const ENTRIES: &str = "entries";
    /// Level and index → hash of every perfect subtree.
    pub const NODES: &str = "nodes";
    /// Path → page of the prefix tree.
    pub const PAGES: &str = "pages";
    /// Image → tag record.
    pub const TAGS: &str = "tags";
    /// Repository → repository record.
    pub const REPOSITORIES: &str = "repositories";
    /// Image, witness, page → sightings.
    pub const SIGHTINGS: &str = "sightings";
    /// Statement key → log index.
    pub const STATEMENTS: &str = "statements";
    /// Digest and image → log index of the first sighting.
    pub const DIGESTS: &str = "digests";
    /// Log index → image that this sighting shows to be retagged.
    pub const RETAGS: &str = "retags";
    /// Witness id → public key, of every witness that was ever in a roster.
    pub const KEYS: &str = "keys";
    /// Digest → raw manifest.
    pub const MANIFESTS: &str = "manifests";
    /// Digests that a kept manifest names.
    pub const NAMED: &str = "named";

    pub const ALL: [&str; 13] = [
        META,
        ENTRIES,
        NODES,
        PAGES,
        TAGS,
        REPOSITORIES,
        SIGHTINGS,
        STATEMENTS,
        DIGESTS,
        RETAGS,
        KEYS,
        MANIFESTS,
        NAMED,
    ];
}

/// Memory for blocks that were read, shared by all column families.
const BLOCK_CACHE: usize = 192 << 20;
/// Memory for writes that are not yet in files, over all column families.
const WRITE_BUFFERS: usize = 128 << 20;
/// Write-ahead log kept at most.
const WRITE_AHEAD: u64 = 192 << 20;

/// An open store. There is one for the life of the process.
#[derive(Clone, Copy)]
pub struct Store {
    // Leaked, so that snapshots can be held without borrowing: the process opens one store, holds
    // it until it ends, and RocksDB's log makes an end without closing harmless.
    db: &'static DB,
}

/// A key and its value.
type KeyValue = (Box<[u8]>, Box<[u8]>);

/// Everything as of one commit; later commits do not change it.
pub struct View {
    db: &'static DB,
    snapshot: Snapshot<'static>,
}

fn options(cache: &Cache, name: &str) -> Options {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(cache);
    // Filters spare a disk read for keys that are not there: most statements are new.
    blocks.set_bloom_filter(10.0, false);
    blocks.set_cache_index_and_filter_blocks(true);
    blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
    blocks.set_format_version(5);
    // Nearly all reads are of one key.
    blocks.set_data_block_index_type(rocksdb::DataBlockIndexType::BinaryAndHash);
    blocks.set_data_block_hash_ratio(0.75);
    blocks.set_block_size(match name {
        family::ENTRIES | family::MANIFESTS => 32 << 10,
        _ => 8 << 10,
    });
    let mut options = Options::default();
    options.set_block_based_table_factory(&blocks);
    options.set_write_buffer_size(16 << 20);
    // Most keys looked up are not in memory: a filter spares the search of every memtable.
    options.set_memtable_prefix_bloom_ratio(0.1);
    options.set_memtable_whole_key_filtering(true);
    options.set_max_write_buffer_number(3);
    options.set_target_file_size_base(32 << 20);
    options.set_level_compaction_dynamic_level_bytes(true);
    let (fast, bottom) = match name {
        // Hashes do not compress.
        family::NODES | family::STATEMENTS | family::PAGES => (DBCompressionType::None, DBCompressionType::None),
        // Read back for nearly every observation.
        family::TAGS | family::REPOSITORIES | family::SIGHTINGS => (DBCompressionType::Lz4, DBCompressionType::Lz4),
        _ => (DBCompressionType::Lz4, DBCompressionType::Zstd),
    };
    options.set_compression_type(fast);
    options.set_bottommost_compression_type(bottom);
    options
}

impl Store {
    /// Opens the store in `path`, and makes it if it is not there.
    ///
    /// # Errors
    /// [`StoreError::Engine`] when RocksDB refuses, [`StoreError::Version`].
    pub fn open(path: &Path) -> Result<Store, StoreError> {
        let mut database = Options::default();
        database.create_if_missing(true);
        database.create_missing_column_families(true);
        database.set_db_write_buffer_size(WRITE_BUFFERS);
        database.set_max_open_files(512);
        database.set_max_background_jobs(2);
        database.set_keep_log_file_num(4);
        database.set_bytes_per_sync(1 << 20);
        // A write-ahead log lives until the last family that it holds is flushed; without a bound the
        // small families keep gigabytes of it, which cost disk now and time at the next start.
        database.set_max_total_wal_size(WRITE_AHEAD);
        let cache = Cache::new_lru_cache(BLOCK_CACHE);
        let families = family::ALL.map(|name| ColumnFamilyDescriptor::new(name, options(&cache, name)));
        let store = Store { db: Box::leak(Box::new(DB::open_cf_descriptors(&database, path, families)?)) };
        store.check_version().inspect_err(|_| store.close())?;
        Ok(store)
    }

    fn check_version(&self) -> Result<(), StoreError> {
        let meta = family(self.db, family::META)?;
        match self.db.get_cf(meta, VERSION_KEY)? {
            Some(version) if version == VERSION.as_bytes() => Ok(()),
            Some(version) => Err(StoreError::Version(String::from_utf8_lossy(&version).into_owned(), VERSION)),
            None => Ok(self.db.put_cf_opt(meta, VERSION_KEY, VERSION, &durable())?),
        }
    }

    /// Everything as of the last commit.
    pub fn view(&self) -> View {
        View { db: self.db, snapshot: self.db.snapshot() }
    }

    /// The number of entries, as of the last commit.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn size(&self) -> Result<u64, StoreError> {
        Ok(self.view().checkpoint()?.map_or(0, |checkpoint| checkpoint.unverified().size))
    }

    /// Writes a batch. When this returns, all of it is on disk; after a crash, all or nothing is.
    ///
    /// # Errors
    /// [`StoreError`]; whether the batch was written is then unknown until the store is opened again.
    pub fn commit(&self, commit: &Commit<'_>) -> Result<(), StoreError> {
        let mut writer = Writer::new(self.db);
        writer.put_log(commit)?;
        writer.put_index(commit)?;
        writer.put(family::META, CHECKPOINT_KEY, commit.checkpoint.to_string())?;
        Ok(self.db.write_opt(writer.batch, &durable())?)
    }

    /// Keeps a raw manifest, durably. The caller has checked the digest.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn keep_manifest(&self, manifest: &KeptManifest<'_>) -> Result<(), StoreError> {
        let mut writer = Writer::new(self.db);
        writer.put(family::MANIFESTS, digest_key(&manifest.digest), manifest.bytes)?;
        for named in &manifest.names {
            writer.put(family::NAMED, digest_key(named), [])?;
        }
        Ok(self.db.write_opt(writer.batch, &durable())?)
    }

    /// Ends background work before the process ends.
    pub fn close(&self) {
        self.db.cancel_all_background_work(true);
    }
}

fn durable() -> WriteOptions {
    let mut options = WriteOptions::default();
    options.set_sync(true);
    options
}

fn family<'a>(db: &'a DB, name: &str) -> Result<&'a ColumnFamily, StoreError> {
    db.cf_handle(name).ok_or_else(|| StoreError::Missing(format!("column family {name}")))
}

/// Collects the writes of one commit.
struct Writer {
    db: &'static DB,
    batch: WriteBatch,
    /// Images that this commit lists under a digest.
    listed: HashSet<Vec<u8>>,
}

impl Writer {
    fn new(db: &'static DB) -> Writer {
        Writer { db, batch: WriteBatch::default(), listed: HashSet::new() }
    }

    fn put(&mut self, name: &str, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<(), StoreError> {
        self.batch.put_cf(family(self.db, name)?, key, value);
        Ok(())
    }

    fn put_log(&mut self, commit: &Commit<'_>) -> Result<(), StoreError> {
        for (index, entry) in (commit.first..).zip(commit.entries) {
            self.put(family::ENTRIES, index.to_be_bytes(), entry)?;
        }
        for (level, index, hash) in commit.nodes {
            self.put(family::NODES, node_key(*level, *index), hash.0)?;
        }
        for (StatementKey(key), index) in commit.statements {
            self.put(family::STATEMENTS, key, index.to_be_bytes())?;
        }
        for (witness, key) in commit.admitted {
            self.put(family::KEYS, witness.to_string(), key)?;
        }
        Ok(())
    }

    fn put_index(&mut self, commit: &Commit<'_>) -> Result<(), StoreError> {
        for (path, page) in &commit.index.tree.pages {
            self.put(family::PAGES, path.to_bytes(), page.to_bytes())?;
        }
        let records = &commit.index.records;
        for ChangedTag { record, .. } in &records.tag_records {
            self.put(family::TAGS, record.image.to_string(), record.to_string())?;
        }
        for record in &records.repository_records {
            self.put(family::REPOSITORIES, record.repository.to_string(), record.to_string())?;
        }
        for ((image, witness), new) in &records.sightings {
            self.put_sightings(image, witness, new)?;
        }
        for (index, image) in commit.retags {
            self.put(family::RETAGS, index.to_be_bytes(), image.to_string())?;
        }
        Ok(())
    }

    /// Appends to a list of sightings: the last page is read and rewritten, full ones are followed
    /// by new ones.
    fn put_sightings(&mut self, image: &Image, witness: &WitnessId, new: &NewSightings) -> Result<(), StoreError> {
        let mut number = new.before / PAGE;
        let mut page = match new.before {
            0 => SightingsPage::default(),
            // A full page is read for the right edge that the next one begins with.
            before => {
                let last = (before - 1) / PAGE;
                let read = read_sightings_page(self.db, None, image, witness, last)?;
                if last == number { read } else { next_page(&read, last, image)? }
            }
        };
        for sighting in &new.added {
            if page.sightings.len() as u64 == PAGE {
                self.put(family::SIGHTINGS, sightings_key(image, witness, number), page.to_bytes())?;
                page = next_page(&page, number, image)?;
                number += 1;
            }
            page.sightings.push(*sighting);
            self.put_digest(image, sighting)?;
        }
        self.put(family::SIGHTINGS, sightings_key(image, witness, number), page.to_bytes())
    }

    /// Lists the image under the digest; the first sighting's index stays.
    fn put_digest(&mut self, image: &Image, sighting: &Sighting) -> Result<(), StoreError> {
        let taglog_proto::entry::Seen::Digest(digest) = sighting.seen else { return Ok(()) };
        let key = digest_image_key(&digest, image);
        let stored = self.db.get_pinned_cf(family(self.db, family::DIGESTS)?, &key)?.is_some();
        if !stored && self.listed.insert(key.clone()) {
            self.put(family::DIGESTS, key, sighting.index.to_be_bytes())?;
        }
        Ok(())
    }
}

fn next_page(full: &SightingsPage, number: u64, image: &Image) -> Result<SightingsPage, StoreError> {
    let edge = full.frontier(number).ok_or_else(|| StoreError::Corrupt(format!("sightings of {image}")))?;
    Ok(SightingsPage { before: edge.nodes().to_vec(), sightings: Vec::new() })
}

fn read_sightings_page(
    db: &DB,
    snapshot: Option<&Snapshot<'_>>,
    image: &Image,
    witness: &WitnessId,
    number: u64,
) -> Result<SightingsPage, StoreError> {
    let key = sightings_key(image, witness, number);
    let handle = family(db, family::SIGHTINGS)?;
    let bytes = match snapshot {
        Some(snapshot) => snapshot.get_pinned_cf(handle, key)?,
        None => db.get_pinned_cf(handle, key)?,
    };
    let bytes = bytes.ok_or_else(|| StoreError::Missing(format!("sightings of {image} by {witness}")))?;
    SightingsPage::from_bytes(&bytes).ok_or_else(|| StoreError::Corrupt(format!("sightings of {image}")))
}

impl View {
    fn get(&self, name: &str, key: impl AsRef<[u8]>) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.snapshot.get_cf(family(self.db, name)?, key)?)
    }

    fn text(&self, name: &str, key: impl AsRef<[u8]>) -> Result<Option<String>, StoreError> {
        let bytes = self.get(name, key)?;
        bytes.map(String::from_utf8).transpose().map_err(|_| StoreError::Corrupt(name.to_owned()))
    }

    /// Keys and values of a column family from `start` on, as long as keys begin with `prefix`.
    fn scan(&self, name: &str, prefix: Vec<u8>, start: Vec<u8>, limit: usize) -> Result<Vec<KeyValue>, StoreError> {
        let mode = IteratorMode::From(&start, Direction::Forward);
        let items = self.snapshot.iterator_cf_opt(family(self.db, name)?, ReadOptions::default(), mode);
        let within = items.take_while(|item| item.as_ref().map_or(true, |(key, _)| key.starts_with(&prefix)));
        Ok(within.take(limit).collect::<Result<_, _>>()?)
    }

    /// The last signed checkpoint, if any was committed.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn checkpoint(&self) -> Result<Option<SignedCheckpoint>, StoreError> {
        let Some(text) = self.get(family::META, CHECKPOINT_KEY)? else { return Ok(None) };
        let parsed = SignedCheckpoint::parse(&text).map_err(|_| StoreError::Corrupt("checkpoint".to_owned()))?;
        Ok(Some(parsed))
    }

    /// Consecutive entries from `first` on, at most `count`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn entries(&self, first: u64, count: usize) -> Result<Vec<Vec<u8>>, StoreError> {
        let items = self.scan(family::ENTRIES, Vec::new(), first.to_be_bytes().to_vec(), count)?;
        Ok(items.into_iter().map(|(_, entry)| entry.into_vec()).collect())
    }

    /// Consecutive nodes of one level, at most `count`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn nodes(&self, level: u8, first: u64, count: usize) -> Result<Vec<u8>, StoreError> {
        let items = self.scan(family::NODES, vec![level], node_key(level, first).to_vec(), count)?;
        Ok(items.iter().flat_map(|(_, hash)| hash.iter().copied()).collect())
    }

    /// The log index of a statement that is in the log already. The caller compares the texts: the
    /// key is a shortened hash.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn statement(&self, key: &StatementKey) -> Result<Option<u64>, StoreError> {
        self.get(family::STATEMENTS, key.0)?.map(|bytes| read_index(&bytes)).transpose()
    }

    /// The public key that a witness id has stood for, if it was ever in a roster.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn witness_key(&self, witness: &WitnessId) -> Result<Option<Vec<u8>>, StoreError> {
        self.get(family::KEYS, witness.to_string())
    }

    /// Tag records of a repository in the order of their tags, those after `after` first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn tags(
        &self,
        repository: &Repository,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<TagRecord>, StoreError> {
        let prefix = format!("{repository}:").into_bytes();
        // The byte after a tag's last is at least NUL, which no tag holds.
        let start = after.map_or_else(|| prefix.clone(), |tag| format!("{repository}:{tag}\0").into_bytes());
        let records = self.scan(family::TAGS, prefix, start, limit)?;
        records.into_iter().map(|(_, text)| parse_tag_record(&text)).collect()
    }

    /// Log indices from `since` on whose sightings show a tag to be retagged, with the tag.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn retags(&self, since: u64, limit: usize) -> Result<Vec<(u64, String)>, StoreError> {
        let items = self.scan(family::RETAGS, Vec::new(), since.to_be_bytes().to_vec(), limit)?;
        let read = |(index, image): KeyValue| Ok((read_index(&index)?, String::from_utf8_lossy(&image).into_owned()));
        items.into_iter().map(read).collect()
    }

    /// Images that ever had this digest, with the log index of the first sighting.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn images_with(&self, digest: &Digest, limit: usize) -> Result<Vec<(String, u64)>, StoreError> {
        let prefix = digest_key(digest);
        let items = self.scan(family::DIGESTS, prefix.clone(), prefix.clone(), limit)?;
        let read = |(key, index): KeyValue| {
            Ok((String::from_utf8_lossy(&key[prefix.len()..]).into_owned(), read_index(&index)?))
        };
        items.into_iter().map(read).collect()
    }

    /// A raw manifest.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn manifest(&self, digest: &Digest) -> Result<Option<Vec<u8>>, StoreError> {
        self.get(family::MANIFESTS, digest_key(digest))
    }

    /// Whether a manifest with this digest may be kept: the log or a kept manifest names it.
    ///
    /// # Errors
    /// [`StoreError`].
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
        let bytes = self.snapshot.get_pinned_cf(family(self.db, family::NODES)?, node_key(level, index))?;
        read_node(bytes.as_deref(), level, index)
    }
}

/// Nodes never change, so proofs between sizes that are committed need no view.
impl NodeReader for Store {
    type Error = StoreError;

    fn node(&self, level: u8, index: u64) -> Result<Hash, StoreError> {
        let bytes = self.db.get_pinned_cf(family(self.db, family::NODES)?, node_key(level, index))?;
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
        let bytes = self.snapshot.get_pinned_cf(family(self.db, family::PAGES)?, path.to_bytes())?;
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
