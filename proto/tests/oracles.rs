//! Agreement with implementations that others made of the same specifications: `signed_note`,
//! `tlog_tiles` and `ct-merkle`.

#![allow(clippy::unwrap_used)]

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
};

use ct_merkle::{ConsistencyProof, InclusionProof, RootHash, mem_backed_tree::MemoryBackedTree};
use proptest::{prelude::*, sample::subsequence};
use rs_merkle::{Hasher, MerkleProof};
use sha2::Sha256;
use signed_note::{Signer as _, StandardSigner, StandardVerifier, VerifierList};
use taglog_memory_log::MemoryLog;
use taglog_proto::{
    OperationError,
    checkpoint::{Checkpoint, SignedCheckpoint},
    merkle::{
        self, Hash, NodeReader, ProofError, consistency_proof, inclusion_proof, leaf_hash, node_hash,
        verify_consistency, verify_inclusion,
    },
    multiproof,
    name::KeyId,
    note::{MAX_SIGNATURES, Note, NoteSignature, SigningKey, VerifierKey},
    tile::{TileKind, TilePath, decode_bundle, encode_bundle},
};
use tlog_tiles::{Tile, TileHashReader, TileReader, tlog};

const ORIGIN: &str = "log.example/taglog";
/// Every size up to this one is tried with every index and every older size.
const SIZES: u64 = 300;

fn log_key() -> SigningKey {
    SigningKey::from_seed(ORIGIN, &[9; 32]).unwrap()
}

fn leaf(index: u64) -> Vec<u8> {
    format!("leaf {index}").into_bytes()
}

fn log_of(size: u64) -> MemoryLog {
    let leaves: Vec<Vec<u8>> = (0..size).map(leaf).collect();
    let mut log = MemoryLog::default();
    log.append(&leaves.iter().map(Vec::as_slice).collect::<Vec<_>>());
    log
}

fn theirs(hash: Hash) -> tlog::Hash {
    tlog::Hash(hash.0)
}

fn all_theirs(hashes: &[Hash]) -> Vec<tlog::Hash> {
    hashes.iter().copied().map(theirs).collect()
}

fn all_ours(hashes: &[tlog::Hash]) -> Vec<Hash> {
    hashes.iter().map(|hash| Hash(hash.0)).collect()
}

fn joined(hashes: &[Hash]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| hash.0).collect()
}

// Notes, keys, checkpoints

fn verifiers(vkey: &VerifierKey) -> VerifierList {
    VerifierList::new(vec![Box::new(StandardVerifier::new(&vkey.to_string()).unwrap())])
}

#[test]
fn signed_note_reads_our_keys_and_notes() {
    let key = log_key();
    let signer = StandardSigner::new(&key.to_secret_string()).unwrap();
    assert_eq!(signer.key_id().to_be_bytes(), key.verifier_key().key_id().0);
    let text = "a text\n\nwith an empty line\n";
    let ours = Note { text: text.to_owned(), signatures: vec![key.sign(text)] };

    let read = signed_note::Note::from_bytes(ours.to_string().as_bytes()).unwrap();
    assert_eq!(read.text(), text.as_bytes());
    assert_eq!(read.verify(&verifiers(key.verifier_key())).unwrap().0.len(), 1);
    let other = SigningKey::from_seed(ORIGIN, &[8; 32]).unwrap();
    assert!(read.verify(&verifiers(other.verifier_key())).is_err());
}

#[test]
fn we_read_the_notes_of_signed_note() {
    let key = log_key();
    let signer = StandardSigner::new(&key.to_secret_string()).unwrap();
    let mut theirs = signed_note::Note::new(b"another\ntext\n", &[]).unwrap();
    theirs.add_sigs(&[&signer]).unwrap();
    let read = Note::parse(&theirs.to_bytes()).unwrap();
    assert_eq!(read.to_string().as_bytes(), theirs.to_bytes());
    assert_eq!(read.verify(key.verifier_key()), Ok(()));
}

fn cosigned(checkpoint: &Checkpoint, cosignatures: usize) -> SignedCheckpoint {
    let signed = checkpoint.sign(&log_key());
    let mut note = signed.note().clone();
    for i in 0..cosignatures {
        // As long as an ML-DSA-44 cosignature: 8 bytes of time, 2420 of signature.
        let signature = vec![i as u8; 2428];
        note.signatures.push(NoteSignature { name: format!("cosigner.example/{i}"), key_id: KeyId([4; 4]), signature });
    }
    SignedCheckpoint::parse(note.to_string().as_bytes()).unwrap()
}

#[test]
fn checkpoints_are_read_by_others() {
    for size in [1, 2, 255, 256, 257, 70_000] {
        let checkpoint = Checkpoint { origin: ORIGIN.to_owned(), size, root: leaf_hash(&leaf(size)) };
        let signed = cosigned(&checkpoint, MAX_SIGNATURES - 1);
        assert_eq!(signed.verify(log_key().verifier_key()), Ok(&checkpoint));

        let note = signed_note::Note::from_bytes(signed.to_string().as_bytes()).unwrap();
        let (known, unknown) = note.verify(&verifiers(log_key().verifier_key())).unwrap();
        assert_eq!((known.len(), unknown.len()), (1, MAX_SIGNATURES - 1));
        let read = tlog_tiles::Checkpoint::from_bytes(note.text()).unwrap();
        assert_eq!((read.origin(), read.size(), read.extension()), (ORIGIN, size, ""));
        assert_eq!(*read.hash(), theirs(checkpoint.root));
        assert_eq!(read.to_bytes(), checkpoint.to_text().as_bytes());
    }
}

/// Pieces of notes that a byte-wise generator would hardly ever put together.
fn notes() -> impl Strategy<Value = String> {
    let line = "(— |- |—)(a|a\\.b/c|a\\+b|\u{a0}x|é)? ?(AAAAAAA=|AAAAAAAB|AAAAAA==|AAAAAAB=|AAAA AAA=|=)?";
    let text = prop_oneof![Just("a\n"), Just("a\n\nb\n"), Just("\n"), Just(""), Just("a\tb\n"), Just("é\r\n")];
    (text, prop::collection::vec(line, 0..4), "\n{0,2}")
        .prop_map(|(text, lines, end)| format!("{text}\n{}{end}", lines.join("\n")))
}

proptest! {
    #[test]
    fn notes_are_accepted_by_both_or_by_none(text in notes()) {
        let ours = Note::parse(text.as_bytes());
        let theirs = signed_note::Note::from_bytes(text.as_bytes());
        prop_assert_eq!(ours.is_ok(), theirs.is_ok(), "{:?}: {:?}", text, ours);
        if let (Ok(ours), Ok(theirs)) = (ours, theirs) {
            prop_assert_eq!(ours.text.as_bytes(), theirs.text());
            prop_assert_eq!(ours.to_string().into_bytes(), theirs.to_bytes());
        }
    }
}

// Tiles and bundles

/// The path of a tile as `tlog_tiles` spells it, in the spelling of c2sp.org/tlog-tiles.
fn standard_path(tile: &Tile) -> String {
    let path = tile.path().replacen("tile/8/", "", 1);
    path.strip_prefix("data/").map_or(path.clone(), |rest| format!("entries/{rest}"))
}

#[test]
fn tile_paths_are_those_of_tlog_tiles() {
    let indices = [0, 1, 9, 10, 99, 100, 999, 1000, 1001, 999_999, 1_000_000, 1_234_067, u64::MAX];
    for (level, index, width) in combinations(&[0, 1, 7, 9, 10, 63], &indices, &[1, 2, 99, 100, 255, 256]) {
        let hashes = Tile::new(8, level, index, u32::from(width), false);
        let entries = Tile::new(8, 0, index, u32::from(width), true);
        for (tile, kind) in [(hashes, TileKind::Hashes(level)), (entries, TileKind::Entries)] {
            let ours = TilePath { kind, index, width };
            assert_eq!(ours.to_string(), standard_path(&tile));
            assert_eq!(TilePath::parse(&standard_path(&tile)), Ok(ours));
        }
    }
}

fn combinations<'a>(
    levels: &'a [u8],
    indices: &'a [u64],
    widths: &'a [u16],
) -> impl Iterator<Item = (u8, u64, u16)> + 'a {
    let pairs = levels.iter().flat_map(|level| indices.iter().map(|index| (*level, *index)));
    pairs.flat_map(|(level, index)| widths.iter().map(move |width| (level, index, *width)))
}

proptest! {
    #[test]
    fn tile_paths_are_accepted_by_both_or_by_none(
        path in "(0|1|63|00|07|entries)(/x?[0-9]{1,4}){1,3}(\\.p/(1|01|37|255|256|9))?/?",
    ) {
        let theirs = Tile::from_path(&format!("tile/8/{}", path.replacen("entries", "data", 1)));
        let ours = TilePath::parse(&path).ok();
        prop_assert_eq!(ours.map(|p| (p.index, u32::from(p.width))), theirs.ok().map(|t| (t.level_index(), t.width())));
    }
}

/// Serves our tiles, and no tile that the log does not have.
struct OurTiles {
    log: MemoryLog,
    size: u64,
    read: Cell<usize>,
}

impl TileReader for OurTiles {
    fn height(&self) -> u8 {
        8
    }

    fn read_tiles(&self, tiles: &[Tile]) -> Result<Vec<Vec<u8>>, tlog::Error> {
        let read = tiles.iter().map(|tile| {
            let path = TilePath::parse(&standard_path(tile)).map_err(|_| tlog::Error::InvalidTile)?;
            let TileKind::Hashes(level) = path.kind else { return Err(tlog::Error::InvalidTile) };
            assert!(path.exists_at(self.size), "{path} at {}", self.size);
            let first = path.index * 256;
            let nodes = first..first + u64::from(path.width);
            Ok(nodes.flat_map(|node| self.log.node(8 * level, node).unwrap().0).collect())
        });
        self.read.set(self.read.get() + tiles.len());
        read.collect()
    }

    fn save_tiles(&self, _tiles: &[Tile], _data: &[Vec<u8>]) {}
}

#[test]
fn others_prove_from_our_tiles() {
    // One level, two levels, three levels of tiles; full and partial ones.
    for size in [1, 2, 255, 256, 257, 512, 1000, 65_535, 65_536, 65_537, 66_000] {
        let log = log_of(size);
        let root = merkle::root(&log, size).unwrap();
        let tiles = OurTiles { log, size, read: Cell::new(0) };
        let reader = TileHashReader::new(size, theirs(root), &tiles);
        assert_eq!(tlog::tree_hash(size, &reader).unwrap(), theirs(root));
        for index in BTreeSet::from([0, 1, size / 3, size / 2, size - 1].map(|index| index.min(size - 1))) {
            let proof = tlog::prove_record(size, index, &reader).unwrap();
            let hash = leaf_hash(&leaf(index));
            assert_eq!(verify_inclusion(&hash, index, size, &all_ours(&proof), &root), Ok(()));
            let old = index + 1;
            let old_root = merkle::root(&tiles.log, old).unwrap();
            let proof = tlog::prove_tree(size, old, &reader).unwrap();
            assert_eq!(verify_consistency(old, size, &all_ours(&proof), &old_root, &root), Ok(()));
        }
        assert!(tiles.read.get() > 0);
    }
}

#[test]
fn tiles_exist_exactly_where_others_say() {
    for size in (0..1100).chain([65_535, 65_536, 65_537, 131_072]) {
        let listed: BTreeSet<String> = Tile::new_tiles(8, 0, size).iter().map(standard_path).collect();
        for path in &listed {
            let path = TilePath::parse(path).unwrap();
            assert!(path.exists_at(size), "{path} at {size}");
            // One node more is beyond the size, unless the tile is full.
            if path.width < 256 {
                assert!(!TilePath { width: path.width + 1, ..path }.exists_at(size), "{path} at {size}");
            }
            let next = TilePath { index: path.index + 1, width: 1, ..path };
            assert!(next.exists_at(size) == listed.iter().any(|p| p.starts_with(&prefix(&next))), "{next} at {size}");
        }
    }
}

fn prefix(path: &TilePath) -> String {
    TilePath { width: 256, ..*path }.to_string()
}

/// Reads a bundle by its definition: lengths as big-endian u16, entries, nothing after.
fn read_bundle(mut bundle: &[u8]) -> Vec<Vec<u8>> {
    let mut entries = Vec::new();
    while let [high, low, rest @ ..] = bundle {
        let (entry, after) = rest.split_at(usize::from(*high) * 256 + usize::from(*low));
        entries.push(entry.to_vec());
        bundle = after;
    }
    assert!(bundle.is_empty());
    entries
}

#[test]
fn bundles_hash_to_the_level_0_tile() {
    let size = 256 + 100;
    let log = log_of(size);
    for (first, width) in [(0, 256), (256, 100), (0, 1)] {
        let entries: Vec<&[u8]> = log.entries()[first..first + width].iter().map(Vec::as_slice).collect();
        let bundle = encode_bundle(entries.iter().copied()).unwrap();
        assert_eq!(read_bundle(&bundle), entries);
        assert_eq!(decode_bundle(&bundle, 256).unwrap(), entries);
        for (i, entry) in read_bundle(&bundle).iter().enumerate() {
            assert_eq!(theirs(log.node(0, (first + i) as u64).unwrap()), tlog::record_hash(entry));
        }
    }
    let longest = vec![7; 65_535];
    assert_eq!(read_bundle(&encode_bundle([&longest[..]]).unwrap()), [longest]);
}

// Single proofs

/// The storage of `tlog_tiles`, filled by its own code.
struct Stored(RefCell<Vec<tlog::Hash>>);

impl tlog::HashReader for Stored {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<tlog::Hash>, tlog::Error> {
        let stored = self.0.borrow();
        Ok(indexes.iter().map(|index| stored[*index as usize]).collect())
    }
}

impl Stored {
    fn of(size: u64) -> Stored {
        let stored = Stored(RefCell::default());
        for index in 0..size {
            let new = tlog::stored_hashes(index, &leaf(index), &stored).unwrap();
            stored.0.borrow_mut().extend(new);
        }
        stored
    }
}

#[test]
fn every_node_and_root_is_that_of_tlog_tiles() {
    let (log, stored) = (log_of(SIZES), Stored::of(SIZES));
    for (i, hash) in (0u64..).zip(stored.0.borrow().iter()) {
        let (level, index) = tlog::split_stored_hash_index(i);
        assert_eq!(log.node(level, index).map(theirs), Ok(*hash));
    }
    for size in 0..=SIZES {
        assert_eq!(theirs(merkle::root(&log, size).unwrap()), tlog::tree_hash(size, &stored).unwrap());
    }
}

#[test]
fn every_inclusion_proof_is_that_of_tlog_tiles_and_ct_merkle() {
    let (log, stored) = (log_of(SIZES), Stored::of(SIZES));
    let mut tree = MemoryBackedTree::<Sha256, Vec<u8>>::new();
    for size in 1..=SIZES {
        tree.push(leaf(size - 1));
        let root = merkle::root(&log, size).unwrap();
        assert_eq!(tree.root().as_bytes()[..], root.0);
        for index in 0..size {
            let proof = inclusion_proof(&log, index, size).unwrap();
            let hash = leaf_hash(&leaf(index));
            assert_eq!(verify_inclusion(&hash, index, size, &proof, &root), Ok(()));
            assert_eq!(all_theirs(&proof), tlog::prove_record(size, index, &stored).unwrap());
            tlog::check_record(&all_theirs(&proof), size, theirs(root), index, theirs(hash)).unwrap();
            assert_eq!(joined(&proof), tree.prove_inclusion(index as usize).as_bytes());
            let theirs = InclusionProof::<Sha256>::from_bytes(joined(&proof));
            tree.root().verify_inclusion(&leaf(index), index, &theirs).unwrap();
        }
    }
}

#[test]
fn every_consistency_proof_is_that_of_tlog_tiles_and_ct_merkle() {
    let (log, stored) = (log_of(SIZES), Stored::of(SIZES));
    let mut tree = MemoryBackedTree::<Sha256, Vec<u8>>::new();
    for to in 1..=SIZES {
        tree.push(leaf(to - 1));
        let new = merkle::root(&log, to).unwrap();
        for from in 1..=to {
            let old = merkle::root(&log, from).unwrap();
            let proof = consistency_proof(&log, from, to).unwrap();
            assert_eq!(verify_consistency(from, to, &proof, &old, &new), Ok(()));
            assert_eq!(all_theirs(&proof), tlog::prove_tree(to, from, &stored).unwrap());
            tlog::check_tree(&all_theirs(&proof), to, theirs(new), from, theirs(old)).unwrap();
            assert_eq!(joined(&proof), tree.prove_consistency((to - from) as usize).as_bytes());
            let old = RootHash::<Sha256>::new(old.0.into(), from);
            tree.root().verify_consistency(&old, &ConsistencyProof::try_from_bytes(joined(&proof)).unwrap()).unwrap();
        }
    }
}

/// Ways to spoil a proof.
fn spoiled(proof: &[Hash]) -> Vec<Vec<Hash>> {
    let mut all = vec![[proof, &[Hash::ZERO]].concat(), [&[Hash::ZERO], proof].concat()];
    for i in 0..proof.len() {
        let mut changed = proof.to_vec();
        changed[i].0[31] ^= 1;
        all.push(changed);
        all.push([&proof[..i], &proof[i + 1..]].concat());
        all.push([&proof[..i], &[proof[i]], &proof[i..]].concat());
    }
    all
}

#[test]
fn wrong_proofs_and_places_are_refused_by_both() {
    let log = log_of(40);
    let root = |size| merkle::root(&log, size).unwrap();
    for (size, index) in (1..=40).flat_map(|size| (0..size).map(move |index| (size, index))) {
        let proof = inclusion_proof(&log, index, size).unwrap();
        let hash = leaf_hash(&leaf(index));
        for wrong in spoiled(&proof) {
            assert!(verify_inclusion(&hash, index, size, &wrong, &root(size)).is_err());
        }
        for (other_size, other_index) in (0..=size + 9).flat_map(|s| (0..=index + 9).map(move |i| (s, i))) {
            let ours = verify_inclusion(&hash, other_index, other_size, &proof, &root(size));
            let (proof, root) = (all_theirs(&proof), theirs(root(size)));
            let other = tlog::check_record(&proof, other_size, root, other_index, theirs(hash));
            assert_eq!(ours.is_ok(), other.is_ok(), "{index}/{size} as {other_index}/{other_size}");
        }
    }
}

#[test]
fn wrong_consistency_proofs_are_refused_by_both() {
    let log = log_of(40);
    let root = |size| merkle::root(&log, size).unwrap();
    for (to, from) in (1..=40).flat_map(|to| (1..=to).map(move |from| (to, from))) {
        let proof = consistency_proof(&log, from, to).unwrap();
        for wrong in spoiled(&proof) {
            assert!(verify_consistency(from, to, &wrong, &root(from), &root(to)).is_err());
        }
        for (other_to, other_from) in (0..=to + 9).flat_map(|t| (0..=from + 9).map(move |f| (t, f))) {
            let ours = verify_consistency(other_from, other_to, &proof, &root(from), &root(to));
            let theirs =
                tlog::check_tree(&all_theirs(&proof), other_to, theirs(root(to)), other_from, theirs(root(from)));
            assert_eq!(ours.is_ok(), theirs.is_ok(), "{from} to {to} as {other_from} to {other_to}");
        }
    }
}

// Large trees and multiproofs

/// A tree of any size in which all leaves are alike, but for a few.
struct SparseTree {
    size: u64,
    special: BTreeSet<u64>,
    /// The root over 2^level common leaves.
    common: Vec<Hash>,
}

impl SparseTree {
    fn new(size: u64, special: impl IntoIterator<Item = u64>) -> SparseTree {
        let mut common = vec![leaf_hash(b"common")];
        for level in 0..53 {
            common.push(node_hash(&common[level], &common[level]));
        }
        SparseTree { size, special: special.into_iter().collect(), common }
    }

    fn hash(&self, level: u8, index: u64) -> Hash {
        let (start, end) = (index << level, (index + 1) << level);
        assert!(end <= self.size, "asked for a node beyond the tree");
        if self.special.range(start..end).next().is_none() {
            return self.common[usize::from(level)];
        }
        match level {
            0 => leaf_hash(&leaf(index)),
            _ => node_hash(&self.hash(level - 1, 2 * index), &self.hash(level - 1, 2 * index + 1)),
        }
    }
}

impl NodeReader for SparseTree {
    type Error = Infallible;

    fn node(&self, level: u8, index: u64) -> Result<Hash, Infallible> {
        Ok(self.hash(level, index))
    }
}

/// MTH of RFC 6962 section 2.1, by the book.
fn tree_hash(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => merkle::empty_root(),
        [only] => *only,
        _ => {
            let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
            node_hash(&tree_hash(left), &tree_hash(right))
        }
    }
}

/// The hashes of a multiproof by its definition: layer by layer from the leaves, left to right, each
/// node that covers none of the leaves and whose sibling covers one.
fn multiproof_by_definition(indices: &[u64], leaves: &[Hash]) -> Vec<Hash> {
    let size = leaves.len() as u64;
    let mut hashes = Vec::new();
    for layer in (0..64).take_while(|layer| size > 1 << layer) {
        let covers = |node: u64| indices.iter().any(|index| index >> layer == node);
        for node in (0..size.div_ceil(1 << layer)).filter(|node| !covers(*node) && covers(node ^ 1)) {
            let (start, end) = (node << layer, size.min((node + 1) << layer));
            hashes.push(tree_hash(&leaves[start as usize..end as usize]));
        }
    }
    hashes
}

fn check_multiproof<R: NodeReader<Error: std::fmt::Debug>>(tree: &R, size: u64, indices: &[u64], data: &[Vec<u8>]) {
    let root = merkle::root(tree, size).unwrap();
    let proof = multiproof::build(tree, indices, size).unwrap();
    let leaves: Vec<(u64, &[u8])> = indices.iter().copied().zip(data.iter().map(Vec::as_slice)).collect();
    assert_eq!(multiproof::verify(&leaves, size, &proof, &root), Ok(()), "{indices:?} of {size}");
    for (index, data) in &leaves {
        let single = inclusion_proof(tree, *index, size).unwrap();
        assert_eq!(verify_inclusion(&leaf_hash(data), *index, size, &single, &root), Ok(()));
        tlog::check_record(&all_theirs(&single), size, theirs(root), *index, theirs(leaf_hash(data))).unwrap();
    }
    for i in 0..leaves.len() {
        let mut lie = leaves.clone();
        lie[i].1 = b"a lie";
        assert_eq!(multiproof::verify(&lie, size, &proof, &root), Err(ProofError::WrongRoot));
        let fewer = [&leaves[..i], &leaves[i + 1..]].concat();
        assert!(multiproof::verify(&fewer, size, &proof, &root).is_err());
    }
    for i in 0..proof.len() {
        let mut changed = proof.clone();
        changed[i].0[0] ^= 1;
        assert_eq!(multiproof::verify(&leaves, size, &changed, &root), Err(ProofError::WrongRoot));
    }
}

/// Index sets of every kind: one, two neighbours or not, edges, all, every second, and many others.
fn index_sets(size: u64) -> BTreeSet<Vec<u64>> {
    let filtered = |keep: &dyn Fn(u64) -> bool| (0..size).filter(|index| keep(*index)).collect::<Vec<u64>>();
    let mut sets: BTreeSet<Vec<u64>> = (0..size).map(|index| vec![index]).collect();
    sets.extend((0..size).map(|first| filtered(&|i| i == first || i == size - 1)));
    sets.extend((0..size).map(|first| filtered(&|i| i >= first)));
    sets.extend((0..size).map(|last| filtered(&|i| i <= last)));
    for step in 2..6 {
        sets.extend((0..step).map(|offset| filtered(&|i| i % step == offset)));
    }
    for seed in 1..20u64 {
        let mixed = |i: u64| (i + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left((seed * 7 % 64) as u32) % 5;
        sets.insert(filtered(&|i| mixed(i) < seed % 5));
    }
    sets.remove(&Vec::new());
    sets
}

#[test]
fn multiproofs_of_all_small_sizes() {
    for size in 1..=70 {
        let log = log_of(size);
        let hashes: Vec<Hash> = (0..size).map(|index| leaf_hash(&leaf(index))).collect();
        assert_eq!(merkle::root(&log, size), Ok(tree_hash(&hashes)));
        for indices in index_sets(size) {
            let proof = multiproof::build(&log, &indices, size).unwrap();
            assert_eq!(proof, multiproof_by_definition(&indices, &hashes), "{indices:?} of {size}");
            // The negative checks are quadratic, so they run on every seventh size.
            if size % 7 == 1 || indices.len() < 3 {
                let data: Vec<Vec<u8>> = indices.iter().copied().map(leaf).collect();
                check_multiproof(&log, size, &indices, &data);
            }
        }
    }
}

/// Sizes up to 2^53, with those around powers of two among them.
fn large_sizes() -> impl Strategy<Value = u64> {
    let around = (2u32..53, -2i64..3).prop_map(|(power, off)| (1u64 << power).saturating_add_signed(off).max(1));
    prop_oneof![around, (1u32..53, any::<u64>()).prop_map(|(bits, n)| n % (1 << bits) + 1)]
}

/// A size and strictly increasing indices below it, the last one often among them.
fn size_and_indices() -> impl Strategy<Value = (u64, Vec<u64>)> {
    (large_sizes(), prop::collection::vec(any::<u64>(), 1..12), any::<bool>()).prop_map(|(size, picks, last)| {
        let mut indices: BTreeSet<u64> = picks.iter().map(|pick| pick % size).collect();
        indices.extend(last.then_some(size - 1));
        (size, indices.into_iter().collect())
    })
}

proptest! {
    // Each case checks dozens of changed proofs.
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn multiproofs_of_large_sizes((size, indices) in size_and_indices()) {
        let data: Vec<Vec<u8>> = indices.iter().copied().map(leaf).collect();
        check_multiproof(&SparseTree::new(size, indices.clone()), size, &indices, &data);
    }

    #[test]
    fn multiproofs_of_random_sets(
        (size, indices) in (1u64..2000).prop_flat_map(|size| {
            let all: Vec<u64> = (0..size).collect();
            (Just(size), subsequence(all, 1..=(size as usize).min(64)))
        }),
    ) {
        let data: Vec<Vec<u8>> = indices.iter().copied().map(leaf).collect();
        check_multiproof(&SparseTree::new(size, indices.clone()), size, &indices, &data);
    }

    #[test]
    fn consistency_of_large_sizes((to, picks) in size_and_indices()) {
        let tree = SparseTree::new(to, picks.clone());
        let new = merkle::root(&tree, to).unwrap();
        for from in picks.iter().map(|pick| pick + 1) {
            let old = merkle::root(&tree, from).unwrap();
            let proof = consistency_proof(&tree, from, to).unwrap();
            prop_assert_eq!(verify_consistency(from, to, &proof, &old, &new), Ok(()));
            prop_assert!(tlog::check_tree(&all_theirs(&proof), to, theirs(new), from, theirs(old)).is_ok());
            for wrong in spoiled(&proof) {
                prop_assert!(verify_consistency(from, to, &wrong, &old, &new).is_err());
            }
        }
    }
}

// What rs_merkle lets pass and must never reach it

#[derive(Clone)]
struct Rfc6962;

impl Hasher for Rfc6962 {
    type Hash = [u8; 32];

    fn hash(data: &[u8]) -> [u8; 32] {
        leaf_hash(data).0
    }

    fn concat_and_hash(left: &[u8; 32], right: Option<&[u8; 32]>) -> [u8; 32] {
        right.map_or(*left, |right| node_hash(&Hash(*left), &Hash(*right)).0)
    }
}

/// What rs_merkle alone makes of it.
fn lax_root(leaves: &[(u64, &[u8])], size: u64, proof: &[Hash]) -> Option<Hash> {
    let indices: Vec<usize> = leaves.iter().map(|(index, _)| *index as usize).collect();
    let hashes: Vec<[u8; 32]> = leaves.iter().map(|(_, data)| leaf_hash(data).0).collect();
    let proof = MerkleProof::<Rfc6962>::new(proof.iter().map(|hash| hash.0).collect());
    proof.root(&indices, &hashes, size as usize).ok().map(Hash)
}

#[test]
fn two_arbitrary_leaves_of_any_tree_are_proven() {
    let log = log_of(4);
    let root = merkle::root(&log, 4).unwrap();
    let lies: [(u64, &[u8]); 2] = [(3, b"a lie"), (3, b"another lie")];
    let proof = [log.node(0, 2), log.node(0, 3), log.node(1, 0)].map(Result::unwrap);
    assert_eq!(lax_root(&lies, 4, &proof), Some(root), "the attack works on rs_merkle alone");
    assert_eq!(multiproof::verify(&lies, 4, &proof, &root), Err(ProofError::BadIndices));
}

#[test]
fn repeated_and_unsorted_indices_are_refused() {
    let log = log_of(5);
    let root = merkle::root(&log, 5).unwrap();
    for indices in [&[1, 1][..], &[2, 1], &[0, 1, 1, 4], &[4, 4], &[]] {
        assert_eq!(multiproof::build(&log, indices, 5), Err(OperationError::Refused(ProofError::BadIndices)));
        let data: Vec<Vec<u8>> = indices.iter().copied().map(leaf).collect();
        let leaves: Vec<(u64, &[u8])> = indices.iter().copied().zip(data.iter().map(Vec::as_slice)).collect();
        let distinct: Vec<u64> = indices.iter().copied().collect::<BTreeSet<_>>().into_iter().collect();
        let proof = multiproof::build(&log, &distinct, 5).unwrap_or_default();
        assert_eq!(multiproof::verify(&leaves, 5, &proof, &root), Err(ProofError::BadIndices));
    }
}

#[test]
fn indices_out_of_range_are_refused() {
    let mut accepted_alone = 0;
    for size in 1..20 {
        let log = log_of(size);
        let root = merkle::root(&log, size).unwrap();
        for (index, claimed) in (0..size).flat_map(|index| (size..size + 40).map(move |claimed| (index, claimed))) {
            let data = leaf(index);
            let leaves = [(claimed, &data[..])];
            let proof = multiproof::build(&log, &[index], size).unwrap();
            accepted_alone += u32::from(lax_root(&leaves, size, &proof) == Some(root));
            let refused = Err(ProofError::IndexOutOfRange { index: claimed, size });
            assert_eq!(multiproof::verify(&leaves, size, &proof, &root), refused);
        }
    }
    assert!(accepted_alone > 0, "rs_merkle alone accepts some");
    let log = log_of(3);
    let out_of_range = Err(ProofError::IndexOutOfRange { index: u64::MAX, size: 3 });
    assert_eq!(multiproof::verify(&[(u64::MAX, b"")], 3, &[], &merkle::root(&log, 3).unwrap()), out_of_range);
}

#[test]
fn left_over_hashes_are_refused() {
    for size in 1..20 {
        let log = log_of(size);
        let root = merkle::root(&log, size).unwrap();
        for index in 0..size {
            let data = leaf(index);
            let leaves = [(index, &data[..])];
            let mut proof = multiproof::build(&log, &[index], size).unwrap();
            proof.push(Hash::ZERO);
            assert_eq!(lax_root(&leaves, size, &proof), Some(root), "rs_merkle alone ignores it");
            let refused = Err(ProofError::WrongLength { got: proof.len() });
            assert_eq!(multiproof::verify(&leaves, size, &proof, &root), refused);
        }
    }
}

/// No check can tell sizes apart whose proofs have one shape, so the size must come with its root
/// from one signed checkpoint: with the root of that size the proof of another fails.
#[test]
fn a_multiproof_verifies_for_no_other_size() {
    let log = log_of(70);
    let root = |size| merkle::root(&log, size).unwrap();
    let mut accepted_alone = BTreeSet::new();
    for (size, claimed) in (1..40).flat_map(|size| (1..=size + 30).map(move |claimed| (size, claimed))) {
        for index in 0..size.min(claimed) {
            let data = leaf(index);
            let leaves = [(index, &data[..])];
            let proof = multiproof::build(&log, &[index], size).unwrap();
            if lax_root(&leaves, claimed, &proof) == Some(root(size)) {
                accepted_alone.insert((size, claimed));
            }
            let verdict = multiproof::verify(&leaves, claimed, &proof, &root(claimed));
            assert_eq!(verdict.is_ok(), size == claimed, "{index}: {size} as {claimed}");
        }
    }
    assert!([6, 7, 8].iter().all(|claimed| accepted_alone.contains(&(5, *claimed))), "rs_merkle alone accepts them");
}

#[test]
fn a_multiproof_of_too_many_leaves_is_refused() {
    let size = multiproof::MAX_LEAVES as u64 + 1;
    let log = log_of(size);
    let root = merkle::root(&log, size).unwrap();
    let data: BTreeMap<u64, Vec<u8>> = (0..size).map(|index| (index, leaf(index))).collect();
    let leaves: Vec<(u64, &[u8])> = data.iter().map(|(index, data)| (*index, &data[..])).collect();
    assert_eq!(multiproof::verify(&leaves, size, &[], &root), Err(ProofError::BadIndices));
    let most = &leaves[..multiproof::MAX_LEAVES];
    let indices: Vec<u64> = most.iter().map(|(index, _)| *index).collect();
    let proof = multiproof::build(&log, &indices, size).unwrap();
    assert_eq!(multiproof::verify(most, size, &proof, &root), Ok(()));
}
