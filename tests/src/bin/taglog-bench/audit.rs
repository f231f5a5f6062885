//! `taglog audit` of a whole log, from files in a directory that are made here and not by a server.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use taglog_memory_log::MemoryLog;
use taglog_proto::{
    checkpoint::Checkpoint,
    entry::{Entry, Limits, Roster, Seal},
    index::Batch,
    merkle::{Frontier, Hash, leaf_hash},
    note::SigningKey,
    tile::{FULL_WIDTH, TileKind, TilePath, decode_bundle, encode_bundle},
    time::Timestamp,
};

use crate::{
    BenchResult, process,
    report::{Bound, Report, Row},
    workload::Workload,
};

/// Entries of a batch, as a busy log has them.
const BATCH: u64 = 5_000;
/// How often the auditor's use of memory is measured.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// How long one audit may take.
const LIMIT: Duration = Duration::from_secs(3600);
const ORIGIN: &str = "log.example/bench";

/// The benchmark of the auditor.
pub struct AuditBenchmark<'a> {
    /// The `taglog` program.
    pub program: &'a Path,
    /// Where log and state are made.
    pub directory: &'a Path,
    /// Distinct tags.
    pub tags: u64,
    /// Observations in all.
    pub entries: u64,
    /// How long each of the machine's limits is measured.
    pub probe: Duration,
}

impl AuditBenchmark<'_> {
    /// Makes a log, audits it twice, and reports.
    pub fn measure(&self, report: &mut Report) -> BenchResult<()> {
        let log = self.directory.join("log");
        eprintln!("making a log of {} observations of {} tags", self.entries, self.tags);
        let made = LogGenerator::new(&log, self.tags)?.make(self.entries)?;
        fs::write(self.directory.join("trust"), format!("log {}\nquorum none\n", made.vkey))?;
        // What is still to be written would be written while the audit is measured.
        Command::new("sync").arg("--file-system").arg(&log).status()?;
        eprintln!("auditing {} entries", made.size);
        let whole = self.audit(&log)?;
        report.machine.measure_batches_again(self.probe);
        eprintln!("auditing again, with nothing new");
        let again = self.audit(&log)?;

        let rate = made.size as f64 / whole.elapsed.as_secs_f64();
        let all = report.machine.batch_all_cores;
        let row = Row::new("audit of a whole log", rate, "/s").goal(Bound::AtLeast(0.7 * all));
        let row = row.beside(format!("{:.0} % of Ed25519 in batches, all cores", 100.0 * rate / all));
        report.add(row.note(format!(
            "{} entries in {:.1} s, the program's start and end included",
            made.size,
            whole.elapsed.as_secs_f64()
        )));
        let micros = whole.cpu.as_secs_f64() * 1e6 / made.size as f64;
        let row = Row::new("processor time for an entry", micros, "µs");
        report.add(row.beside(format!("{:.2} signatures in a batch", micros * report.machine.batch_one_core / 1e6)));
        let row = Row::new("auditor memory at its greatest (VmHWM)", whole.peak, "MiB").goal(Bound::AtMost(2048.0));
        report.add(row.note(format!("{} tags; the goal is for 10,000,000 entries and 1,000,000 tags", self.tags)));
        let state = process::disk_bytes(&self.directory.join("state"))? as f64;
        let row = Row::new("disk of the auditor for each byte of the entries", state / made.bytes as f64, "×");
        report.add(row.note(format!("{:.0} MB", state / 1e6)));
        let row = Row::new("audit with nothing new", again.elapsed.as_secs_f64(), "s");
        report.add(row.note(format!("reads the state of {} tags; {:.0} MiB", self.tags, again.peak)));
        Ok(())
    }

    fn audit(&self, log: &Path) -> BenchResult<AuditUsage> {
        let mut command = Command::new(self.program);
        command
            .arg("audit")
            .arg(log)
            .env_clear()
            .env("HOME", self.directory)
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        command.env("TAGLOG_TRUST", self.directory.join("trust")).env("TAGLOG_STATE", self.directory.join("state"));
        let start = Instant::now();
        watch(command.spawn()?, start)
    }
}

/// What an audit has used.
struct AuditUsage {
    elapsed: Duration,
    cpu: Duration,
    peak: f64,
}

fn watch(mut child: Child, start: Instant) -> BenchResult<AuditUsage> {
    let mut used = AuditUsage { elapsed: Duration::ZERO, cpu: Duration::ZERO, peak: 0.0 };
    loop {
        // Keeps the last values when the process has just ended.
        if let (Ok(memory), Ok(cpu)) = (process::memory(child.id()), process::cpu(child.id())) {
            (used.peak, used.cpu) = (memory.peak, cpu);
        }
        if let Some(status) = child.try_wait()? {
            used.elapsed = start.elapsed();
            return if status.success() { Ok(used) } else { Err(format!("the audit failed: {status}").into()) };
        }
        if start.elapsed() > LIMIT {
            child.kill()?;
            return Err("the audit takes too long".into());
        }
        std::thread::sleep(POLL_INTERVAL);
    }
}

/// A log that was made.
struct GeneratedLog {
    vkey: String,
    size: u64,
    bytes: u64,
}

/// Makes a log as files.
struct LogGenerator {
    workload: Workload,
    files: TileFiles,
    /// Records and the tree over them; no entries.
    index: MemoryLog,
    tags: u64,
    time: Timestamp,
}

impl LogGenerator {
    fn new(directory: &Path, tags: u64) -> BenchResult<LogGenerator> {
        let time = Timestamp::from_system_time(std::time::SystemTime::now());
        let files = TileFiles::new(directory);
        Ok(LogGenerator { workload: Workload::new(tags)?, files, index: MemoryLog::default(), tags: 0, time })
    }

    fn make(mut self, entries: u64) -> BenchResult<GeneratedLog> {
        let keys = self.workload.vkeys().iter().map(|vkey| vkey.parse()).collect::<Result<Vec<_>, _>>()?;
        let limits = Limits { future: 300, past: 7_776_000, quiet: 600 };
        let roster = Roster::new(self.time, limits, keys)?;
        self.files.append(roster.to_string().as_bytes())?;
        self.seal(&[])?;
        let mut done = 0;
        while done < entries {
            let count = BATCH.min(entries - done);
            let bundles = self.workload.bundles(done, count, count.div_ceil(4))?;
            for bundle in &bundles {
                for entry in decode_bundle(&bundle.body, usize::MAX)? {
                    self.files.append(entry)?;
                }
            }
            let bodies: Vec<&[u8]> = bundles.iter().map(|bundle| &bundle.body[..]).collect();
            self.seal(&bodies)?;
            done += count;
        }
        let key = SigningKey::from_seed(ORIGIN, &[9; 32])?;
        let (size, bytes) = (self.files.frontier.size(), self.files.bytes);
        self.files.finish(&key)?;
        Ok(GeneratedLog { vkey: key.verifier_key().to_string(), size, bytes })
    }

    /// Closes a batch of these bundles, which are in the files already.
    fn seal(&mut self, bundles: &[&[u8]]) -> BenchResult<()> {
        let mut batch = Batch::new(&self.index, self.tags);
        let entries = bundles.iter().map(|bundle| decode_bundle(bundle, usize::MAX)).collect::<Result<Vec<_>, _>>()?;
        let entries: Vec<&[u8]> = entries.concat();
        let size = self.files.frontier.size();
        for (index, entry) in (size - entries.len() as u64..).zip(entries) {
            if let Entry::Observation(entry) = Entry::parse(entry)? {
                batch.observe(index, &entry)?;
            }
        }
        let changes = batch.finish()?;
        self.tags = changes.records.tags;
        let seal = Seal { time: self.time, size, roster: 0, tags: self.tags, index: changes.tree.root };
        self.index.apply(&changes.records, changes.tree);
        self.files.append(seal.to_string().as_bytes())
    }
}

/// The files of a static log.
struct TileFiles {
    directory: PathBuf,
    frontier: Frontier,
    bytes: u64,
    bundle: Vec<Vec<u8>>,
    /// The last, partial tile of each level.
    tiles: BTreeMap<u8, Vec<Hash>>,
}

impl TileFiles {
    fn new(directory: &Path) -> TileFiles {
        let directory = directory.to_owned();
        TileFiles { directory, frontier: Frontier::default(), bytes: 0, bundle: Vec::new(), tiles: BTreeMap::new() }
    }

    fn append(&mut self, entry: &[u8]) -> BenchResult<()> {
        self.bytes += entry.len() as u64;
        self.bundle.push(entry.to_vec());
        let mut nodes = Vec::new();
        self.frontier.append(leaf_hash(entry), |level, index, hash| {
            if level % 8 == 0 {
                nodes.push((level / 8, index, hash));
            }
        });
        if self.bundle.len() as u64 == FULL_WIDTH {
            self.write_bundle()?;
        }
        for (level, index, hash) in nodes {
            let tile = self.tiles.entry(level).or_default();
            tile.push(hash);
            if tile.len() as u64 == FULL_WIDTH {
                let hashes = std::mem::take(tile);
                self.write_tile(level, index / FULL_WIDTH, &hashes)?;
            }
        }
        Ok(())
    }

    fn write_bundle(&mut self) -> BenchResult<()> {
        let index = (self.frontier.size() - 1) / FULL_WIDTH;
        let path = TilePath { kind: TileKind::Entries, index, width: self.bundle.len() as u16 };
        let bytes = encode_bundle(self.bundle.iter().map(Vec::as_slice))?;
        self.bundle.clear();
        self.write(&format!("tile/{path}"), &bytes)
    }

    fn write_tile(&self, level: u8, index: u64, hashes: &[Hash]) -> BenchResult<()> {
        let path = TilePath { kind: TileKind::Hashes(level), index, width: hashes.len() as u16 };
        let bytes: Vec<u8> = hashes.iter().flat_map(|hash| hash.0).collect();
        self.write(&format!("tile/{path}"), &bytes)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> BenchResult<()> {
        let path = self.directory.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        Ok(fs::write(path, bytes)?)
    }

    fn finish(mut self, key: &SigningKey) -> BenchResult<()> {
        let size = self.frontier.size();
        if !self.bundle.is_empty() {
            self.write_bundle()?;
        }
        for (level, hashes) in &self.tiles {
            if !hashes.is_empty() {
                self.write_tile(*level, (size >> (8 * level)) / FULL_WIDTH, hashes)?;
            }
        }
        let checkpoint = Checkpoint { origin: ORIGIN.to_owned(), size, root: self.frontier.root() }.sign(key);
        self.write("checkpoint", checkpoint.to_string().as_bytes())
    }
}
