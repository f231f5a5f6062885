//! Copies of logs in directories, for trees of all shapes and with damaged files.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use taglog_base::{directory_lock::LockError, progress::Silent};
use taglog_proto::{
    checkpoint::{Checkpoint, SignedCheckpoint},
    evidence::Evidence,
    merkle::{Frontier, Hash, leaf_hash},
    note::SigningKey,
    tile::{FULL_WIDTH, TileKind, TilePath, encode_bundle},
};
use tempfile::TempDir;

use super::{
    MirrorError,
    check::check,
    update::{Mirror, MirrorUpdate},
};
use taglog_log_client::{static_log::StaticLog, trust::Trust};

const ORIGIN: &str = "log.example/mirrored";

fn key() -> SigningKey {
    SigningKey::from_seed(ORIGIN, &[3; 32]).unwrap()
}

fn trust() -> Trust {
    Trust::of_log(key().verifier_key().clone(), None)
}

/// A log as a directory of files. Its entries have their log index as text; those from `fork` on have another text.
struct Source {
    directory: TempDir,
    fork: u64,
}

impl Source {
    fn new(size: u64) -> Source {
        Source::forked(size, u64::MAX)
    }

    fn forked(size: u64, fork: u64) -> Source {
        let source = Source { directory: tempfile::tempdir().unwrap(), fork };
        source.grow(size);
        source
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn entry(&self, index: u64) -> String {
        if index >= self.fork { format!("another entry {index}") } else { format!("entry {index}") }
    }

    fn grow(&self, size: u64) {
        let entries: Vec<String> = (0..size).map(|index| self.entry(index)).collect();
        let mut levels: Vec<Vec<Hash>> = vec![Vec::new(); 8];
        let mut frontier = Frontier::default();
        for entry in &entries {
            frontier.append(leaf_hash(entry.as_bytes()), |level, _, hash| {
                if level % 8 == 0 {
                    levels[usize::from(level / 8)].push(hash);
                }
            });
        }
        for (level, hashes) in (0..).zip(&levels) {
            for (index, tile) in (0..).zip(hashes.chunks(FULL_WIDTH as usize)) {
                let bytes: Vec<u8> = tile.iter().flat_map(|hash| hash.0).collect();
                self.write(TileKind::Hashes(level), index, tile.len(), &bytes);
            }
        }
        for (index, bundle) in (0..).zip(entries.chunks(FULL_WIDTH as usize)) {
            let bytes = encode_bundle(bundle.iter().map(String::as_bytes)).unwrap();
            self.write(TileKind::Entries, index, bundle.len(), &bytes);
        }
        self.publish(Checkpoint { origin: ORIGIN.to_owned(), size, root: frontier.root() }.sign(&key()));
    }

    fn publish(&self, checkpoint: SignedCheckpoint) {
        std::fs::write(self.path().join("checkpoint"), checkpoint.to_string()).unwrap();
    }

    fn write(&self, kind: TileKind, index: u64, width: usize, bytes: &[u8]) {
        let path = self.path().join(format!("tile/{}", TilePath { kind, index, width: width as u16 }));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
}

fn open(source: &Source, copy: &Path) -> Result<Mirror, MirrorError> {
    let log = StaticLog::open(source.path().to_str().unwrap(), Duration::from_secs(5)).unwrap();
    Mirror::open(trust(), log, copy, Silent::shared())
}

async fn mirror(source: &Source, copy: &Path) -> Result<MirrorUpdate, MirrorError> {
    open(source, copy)?.update().await
}

async fn damaged(copy: &Path) -> Vec<String> {
    check(copy, &trust(), Silent::shared()).await.unwrap().unwrap().damaged
}

/// The content of the files of a copy or a source, by name.
fn files(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = walkdir::WalkDir::new(directory).into_iter().map(Result::unwrap);
    let files = files.filter(|file| file.file_type().is_file());
    let relative = files.map(|file| (file.path().strip_prefix(directory).unwrap().to_owned(), file.into_path()));
    let of_the_log = relative.filter(|(name, _)| !name.starts_with(".taglog-mirror"));
    of_the_log.map(|(name, path)| (name, std::fs::read(path).unwrap())).collect()
}

/// Asserts that every file of the copy is the same in the source.
fn assert_true(source: &Source, copy: &Path) {
    let source = files(source.path());
    for (name, bytes) in files(copy) {
        assert_eq!(source.get(&name), Some(&bytes), "{}", name.display());
    }
}

#[tokio::test]
async fn trees_of_all_shapes_are_copied() {
    for size in [1, 2, 255, 256, 257, 512, 700, 65_536, 65_537, 65_536 + 300] {
        let (source, copy) = (Source::new(size), tempfile::tempdir().unwrap());
        let update = mirror(&source, copy.path()).await.unwrap();
        assert_eq!((update.before, update.checkpoint.signed.unverified().size), (0, size));
        assert_eq!(files(copy.path()), files(source.path()), "{size}");
        assert_eq!(damaged(copy.path()).await, [""; 0], "{size}");
    }
}

#[tokio::test]
async fn a_copy_follows_a_growing_log() {
    let (source, copy) = (Source::new(1), tempfile::tempdir().unwrap());
    let mut mirror = open(&source, copy.path()).unwrap();
    let mut before = 0;
    for size in [1, 5, 5, 256, 300, 600, 65_535, 65_537, 66_000] {
        source.grow(size);
        let update = mirror.update().await.unwrap();
        assert_eq!((update.before, update.checkpoint.signed.unverified().size), (before, size));
        assert_eq!(damaged(copy.path()).await, [""; 0], "{size}");
        assert_true(&source, copy.path());
        before = size;
    }
    // Partial tiles are removed once their tile is full; those of the last tiles remain.
    let partials: Vec<String> = files(copy.path()).keys().map(|name| name.display().to_string()).collect();
    let partials: Vec<&String> = partials.iter().filter(|name| name.contains(".p/")).collect();
    let widths = ["0/257.p/208", "1/000.p/1", "2/000.p/1", "1/001.p/1", "entries/257.p/208", "0/256.p/1"];
    assert!(partials.iter().all(|name| widths.iter().any(|width| name.ends_with(width))), "{partials:?}");
}

#[tokio::test]
async fn a_directory_is_for_one_process_and_one_log() {
    let (source, copy) = (Source::new(10), tempfile::tempdir().unwrap());
    let first = open(&source, copy.path()).unwrap();
    assert!(matches!(open(&source, copy.path()), Err(MirrorError::Lock(LockError::InUse { .. }))));
    drop(first);
    mirror(&source, copy.path()).await.unwrap();
    let another = SigningKey::from_seed(ORIGIN, &[4; 32]).unwrap();
    let log = StaticLog::open(source.path().to_str().unwrap(), Duration::from_secs(5)).unwrap();
    let opened = Mirror::open(Trust::of_log(another.verifier_key().clone(), None), log, copy.path(), Silent::shared());
    assert!(matches!(opened, Err(MirrorError::OwnCheckpoint { .. })));
}

/// Damages each file of the source in turn: either the update does not need the file, or it fails and the copy is unchanged.
#[tokio::test]
async fn damaged_files_are_not_copied() {
    let (source, start) = (Source::new(66_000), Source::new(300));
    let names: Vec<PathBuf> = files(source.path()).into_keys().collect();
    // All files of the higher levels and of the edge, and one of the many others.
    let interesting = |name: &&PathBuf| {
        let name = name.display().to_string();
        let is_low = name.starts_with("tile/0/") || name.starts_with("tile/entries/");
        name.starts_with("tile/") && (!is_low || name.contains(".p/") || name.ends_with("/100"))
    };
    let old = files(start.path());
    let mut harmless = 0;
    for name in names.iter().filter(interesting) {
        let copy = tempfile::tempdir().unwrap();
        mirror(&start, copy.path()).await.unwrap();
        let file = source.path().join(name);
        let good = std::fs::read(&file).unwrap();
        let mut bad = good.clone();
        let last = bad.len() - 1;
        bad[last] ^= 1;
        std::fs::write(&file, &bad).unwrap();
        let outcome = mirror(&source, copy.path()).await;
        std::fs::write(&file, &good).unwrap();
        let checkpoint = std::fs::read(copy.path().join("checkpoint")).unwrap();
        match outcome {
            Ok(_) => harmless += 1,
            Err(error) => {
                let blames = matches!(error, MirrorError::Untrue { .. } | MirrorError::Compare(_));
                assert!(blames && checkpoint == old[Path::new("checkpoint")], "{}: {error}", name.display());
            }
        }
        for (name, bytes) in files(copy.path()).iter().filter(|(name, _)| !name.ends_with("checkpoint")) {
            let in_old = old.get(name) == Some(bytes);
            let in_new = std::fs::read(source.path().join(name)).is_ok_and(|there| there == *bytes);
            assert!(in_old || in_new, "{}", name.display());
        }
    }
    // Hash tiles of level 0 are computed from the entries, not fetched.
    assert!(harmless > 0);
}

#[tokio::test]
async fn check_finds_damage_and_updates_repair_it() {
    let (source, copy) = (Source::new(66_000), tempfile::tempdir().unwrap());
    mirror(&source, copy.path()).await.unwrap();
    for name in [
        "tile/0/007",
        "tile/entries/007",
        "tile/1/000",
        "tile/0/257.p/208",
        "tile/entries/257.p/208",
        "tile/1/001.p/1",
        "tile/2/000.p/1",
    ] {
        let file = copy.path().join(name);
        let good = std::fs::read(&file).unwrap();
        let mut bad = good.clone();
        bad[5] ^= 1;
        std::fs::write(&file, &bad).unwrap();
        let found = damaged(copy.path()).await;
        assert!(found.contains(&name.to_owned()), "{name}: {found:?}");
        std::fs::remove_file(&file).unwrap();
        let found = damaged(copy.path()).await;
        assert!(found.contains(&name.to_owned()), "{name}: {found:?}");
        mirror(&source, copy.path()).await.unwrap();
        assert_eq!(std::fs::read(&file).unwrap(), good, "{name}");
        assert_eq!(damaged(copy.path()).await, [""; 0], "{name}");
    }
}

async fn assert_misbehaved(source: &Source, copy: &Path, accusation_part: Option<&str>) {
    let before = files(copy);
    let error = mirror(source, copy).await.unwrap_err();
    assert!(matches!(error, MirrorError::Misbehaved { .. }), "{error}");
    assert_eq!(files(copy), before);
    let kept: Vec<PathBuf> =
        std::fs::read_dir(copy.join(".taglog-mirror/evidence")).unwrap().map(|file| file.unwrap().path()).collect();
    assert_eq!(kept.len(), 1, "{kept:?}");
    let evidence = Evidence::from_json(&std::fs::read(&kept[0]).unwrap());
    match accusation_part {
        Some(part) => {
            let accusation = evidence.unwrap().proves_misbehaviour(key().verifier_key()).unwrap();
            assert!(accusation.contains(part), "{accusation}");
        }
        None => assert!(evidence.is_err()),
    }
    std::fs::remove_file(&kept[0]).unwrap();
}

#[tokio::test]
async fn forks_and_rollbacks_change_nothing() {
    let (source, copy) = (Source::new(700), tempfile::tempdir().unwrap());
    mirror(&source, copy.path()).await.unwrap();
    for (size, part) in [(700, "two different roots"), (900, "is no prefix of"), (650, "is no prefix of")] {
        assert_misbehaved(&Source::forked(size, 600), copy.path(), Some(part)).await;
    }
    // An old checkpoint of the same log is reported, but proves nothing to others.
    assert_misbehaved(&Source::new(650), copy.path(), None).await;
    // A signed fork cannot be proven without its tiles.
    let withheld = Source::new(700);
    let forked = std::fs::read(Source::forked(900, 600).path().join("checkpoint")).unwrap();
    std::fs::write(withheld.path().join("checkpoint"), forked).unwrap();
    assert!(matches!(mirror(&withheld, copy.path()).await, Err(MirrorError::Compare(_))));
}

#[tokio::test]
async fn cosignatures_are_added_and_never_lost() {
    let (source, copy) = (Source::new(300), tempfile::tempdir().unwrap());
    let path = source.path().join("checkpoint");
    let bare = std::fs::read_to_string(&path).unwrap();
    let cosigned = format!("{bare}— cosigner.example {}\n", taglog_proto::encoding::to_base64(&[1; 76]));
    for (served, kept) in [(&bare, &bare), (&cosigned, &cosigned), (&bare, &cosigned)] {
        std::fs::write(&path, served).unwrap();
        mirror(&source, copy.path()).await.unwrap();
        assert_eq!(&std::fs::read_to_string(copy.path().join("checkpoint")).unwrap(), kept);
    }
    // Checkpoints of other logs, and damaged ones.
    for bad in ["", "log.example/x\n1\n\n", &bare.replace("300", "301")] {
        std::fs::write(&path, bad).unwrap();
        assert!(matches!(mirror(&source, copy.path()).await, Err(MirrorError::Checkpoint(_))), "{bad}");
    }
}
