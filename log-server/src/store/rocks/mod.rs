//! The embedded store: RocksDB, with one column family for each kind of record.

mod family;
mod view;
mod writer;

use std::path::Path;

use rocksdb::{Cache, ColumnFamilyDescriptor, DB, Options, WriteOptions};

use self::writer::Writer;
use super::{Commit, KeptManifest, StoreError, codec::digest_key};

pub use self::view::View;

/// The format of keys and values. It is stored, and checked when a store is opened.
const VERSION: &str = "taglog/store@v1";
const VERSION_KEY: &str = "version";
const CHECKPOINT_KEY: &str = "checkpoint";

/// Bytes of cache for blocks, shared by all column families.
const BLOCK_CACHE: usize = 192 << 20;
/// Bytes of memory for writes that are not yet in table files, in all column families.
const WRITE_BUFFERS: usize = 128 << 20;
/// The most bytes of the write-ahead log.
const WRITE_AHEAD: u64 = 192 << 20;

/// An open store; a process opens one.
#[derive(Clone, Copy)]
pub struct Store {
    // Leaked, so that snapshots need not borrow it: the process holds its store until it ends, and after an exit
    // without closing RocksDB recovers from its write-ahead log.
    db: &'static DB,
}

impl Store {
    /// Opens the store in the directory `path`, and creates it if it does not exist.
    pub fn open(path: &Path) -> Result<Store, StoreError> {
        let mut database = Options::default();
        database.create_if_missing(true);
        database.create_missing_column_families(true);
        database.set_db_write_buffer_size(WRITE_BUFFERS);
        database.set_max_open_files(512);
        database.set_max_background_jobs(2);
        database.set_keep_log_file_num(4);
        database.set_bytes_per_sync(1 << 20);
        // A write-ahead log is kept until every family in it is flushed. Without a bound, families with few writes
        // would keep gigabytes of it, which cost disk space, and time at the next start.
        database.set_max_total_wal_size(WRITE_AHEAD);
        let cache = Cache::new_lru_cache(BLOCK_CACHE);
        let families = family::ALL.map(|name| ColumnFamilyDescriptor::new(name, family::options(&cache, name)));
        let store = Store { db: Box::leak(Box::new(DB::open_cf_descriptors(&database, path, families)?)) };
        store.check_version().inspect_err(|_| store.close())?;
        Ok(store)
    }

    fn check_version(&self) -> Result<(), StoreError> {
        let meta = family::handle(self.db, family::META)?;
        match self.db.get_cf(meta, VERSION_KEY)? {
            Some(version) if version == VERSION.as_bytes() => Ok(()),
            Some(version) => Err(StoreError::Version(String::from_utf8_lossy(&version).into_owned(), VERSION)),
            None => Ok(self.db.put_cf_opt(meta, VERSION_KEY, VERSION, &durable())?),
        }
    }

    /// A snapshot of the last commit.
    pub fn view(&self) -> View {
        View { db: self.db, snapshot: self.db.snapshot() }
    }

    /// The number of entries, as of the last commit.
    pub fn size(&self) -> Result<u64, StoreError> {
        Ok(self.view().checkpoint()?.map_or(0, |checkpoint| checkpoint.unverified().size))
    }

    /// Writes a batch in one transaction, durable when this returns. After a crash, all of it is on disk or nothing.
    ///
    /// # Errors
    /// Whether the batch was written is then unknown until the store is opened again.
    pub fn commit(&self, commit: &Commit<'_>) -> Result<(), StoreError> {
        let mut writer = Writer::new(self.db);
        writer.put_log(commit)?;
        writer.put_index(commit)?;
        writer.put(family::META, CHECKPOINT_KEY, commit.checkpoint.to_string())?;
        Ok(self.db.write_opt(writer.finish(), &durable())?)
    }

    /// Stores a raw manifest durably. The caller has checked the digest.
    pub fn keep_manifest(&self, manifest: &KeptManifest<'_>) -> Result<(), StoreError> {
        let mut writer = Writer::new(self.db);
        writer.put(family::MANIFESTS, digest_key(&manifest.digest), manifest.bytes)?;
        for named in &manifest.names {
            writer.put(family::NAMED, digest_key(named), [])?;
        }
        Ok(self.db.write_opt(writer.finish(), &durable())?)
    }

    /// Stops RocksDB's background threads, before the process ends.
    pub fn close(&self) {
        self.db.cancel_all_background_work(true);
    }
}

fn durable() -> WriteOptions {
    let mut options = WriteOptions::default();
    options.set_sync(true);
    options
}
