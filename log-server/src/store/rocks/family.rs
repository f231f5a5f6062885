//! Column families: the kinds of records, and how each is stored.

use rocksdb::{BlockBasedOptions, Cache, ColumnFamily, DB, DBCompressionType, DataBlockIndexType, Options};

use crate::store::StoreError;

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
/// Digests that a stored manifest names.
pub const NAMED: &str = "named";

pub const ALL: [&str; 13] =
    [META, ENTRIES, NODES, PAGES, TAGS, REPOSITORIES, SIGHTINGS, STATEMENTS, DIGESTS, RETAGS, KEYS, MANIFESTS, NAMED];

/// The handle of a column family.
pub fn handle<'a>(db: &'a DB, name: &str) -> Result<&'a ColumnFamily, StoreError> {
    db.cf_handle(name).ok_or_else(|| StoreError::Missing(format!("column family {name}")))
}

/// The options of the column family `name`.
pub fn options(cache: &Cache, name: &str) -> Options {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(cache);
    // Filters avoid a disk read for absent keys: most statements are new.
    blocks.set_bloom_filter(10.0, false);
    blocks.set_cache_index_and_filter_blocks(true);
    blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
    blocks.set_format_version(5);
    // Nearly all reads are of single keys.
    blocks.set_data_block_index_type(DataBlockIndexType::BinaryAndHash);
    blocks.set_data_block_hash_ratio(0.75);
    blocks.set_block_size(match name {
        ENTRIES | MANIFESTS => 32 << 10,
        _ => 8 << 10,
    });
    let mut options = Options::default();
    options.set_block_based_table_factory(&blocks);
    options.set_write_buffer_size(16 << 20);
    // Most keys are not in memory: a filter avoids the search of every memtable.
    options.set_memtable_prefix_bloom_ratio(0.1);
    options.set_memtable_whole_key_filtering(true);
    options.set_max_write_buffer_number(3);
    options.set_target_file_size_base(32 << 20);
    options.set_level_compaction_dynamic_level_bytes(true);
    let (fast, bottom) = match name {
        // Hashes do not compress.
        NODES | STATEMENTS | PAGES => (DBCompressionType::None, DBCompressionType::None),
        // Read back for nearly every observation.
        TAGS | REPOSITORIES | SIGHTINGS => (DBCompressionType::Lz4, DBCompressionType::Lz4),
        _ => (DBCompressionType::Lz4, DBCompressionType::Zstd),
    };
    options.set_compression_type(fast);
    options.set_bottommost_compression_type(bottom);
    options
}
