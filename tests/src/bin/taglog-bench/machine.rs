//! What this machine can do at best, measured before anything is compared with it.

use std::{
    fs::File,
    hint::black_box,
    io::Write as _,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use sha2::{Digest as _, Sha256};

use crate::BenchResult;

/// Signatures in one batch verification, as auditors use it.
const BATCH: usize = 256;

/// The machine's own limits.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Cores that were used at once.
    pub cores: usize,
    /// Ed25519 strict verifications per second on one core.
    pub strict_one_core: f64,
    /// The same on all cores at once.
    pub strict_all_cores: f64,
    /// Signatures per second in batches of 256 on one core.
    pub batch_one_core: f64,
    /// The same on all cores at once.
    pub batch_all_cores: f64,
    /// SHA-256 tree nodes (65 bytes each) per second on one core.
    pub tree_nodes: f64,
    /// Median milliseconds of writing 4 KiB and fsync.
    pub fsync_ms: f64,
    /// Sequential writing, fsync included, in MB/s.
    pub write_mb: f64,
}

impl Machine {
    /// Measures each limit for about `probe`, the disk in `directory`.
    pub fn measure(directory: &Path, probe: Duration) -> BenchResult<Machine> {
        let cores = thread::available_parallelism()?.get();
        let signed = Signed::new(BATCH);
        Ok(Machine {
            cores,
            strict_one_core: signed.strict_rate(probe),
            strict_all_cores: on_all_cores(cores, || signed.strict_rate(probe)),
            batch_one_core: signed.batch_rate(probe),
            batch_all_cores: on_all_cores(cores, || signed.batch_rate(probe)),
            tree_nodes: tree_nodes(probe),
            fsync_ms: fsync_ms(directory, probe)?,
            write_mb: write_mb(directory, probe)?,
        })
    }

    /// Measures batches again, and takes the mean with what was measured before: a machine that others share gets
    /// faster and slower, and what ran in between ran on both.
    pub fn measure_batches_again(&mut self, probe: Duration) {
        let signed = Signed::new(BATCH);
        let mean = |before: f64, after: f64| (before + after) / 2.0;
        self.batch_one_core = mean(self.batch_one_core, signed.batch_rate(probe));
        self.batch_all_cores = mean(self.batch_all_cores, on_all_cores(self.cores, || signed.batch_rate(probe)));
    }

    /// How a rate of entries stands beside what strict verification alone would allow.
    pub fn verifications(&self, rate: f64) -> String {
        format!("{:.0} % of strict Ed25519, {} cores", 100.0 * rate / self.strict_all_cores, self.cores)
    }
}

/// The sum of the rates of as many threads as there are cores.
fn on_all_cores(cores: usize, rate: impl Fn() -> f64 + Sync) -> f64 {
    thread::scope(|scope| {
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(&rate)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or(0.0)).sum()
    })
}

/// Messages as long as an observation's text, signed by a few keys.
struct Signed {
    messages: Vec<Vec<u8>>,
    signatures: Vec<Signature>,
    keys: Vec<VerifyingKey>,
}

impl Signed {
    fn new(count: usize) -> Signed {
        let secret: Vec<SigningKey> = (0..4).map(|i| SigningKey::from_bytes(&[i; 32])).collect();
        let messages: Vec<Vec<u8>> = (0..count).map(|i| format!("{i:0>220}").into_bytes()).collect();
        let signers = || secret.iter().cycle();
        Signed {
            signatures: messages.iter().zip(signers()).map(|(message, key)| key.sign(message)).collect(),
            keys: messages.iter().zip(signers()).map(|(_, key)| key.verifying_key()).collect(),
            messages,
        }
    }

    fn strict_rate(&self, probe: Duration) -> f64 {
        rate(probe, || {
            let all = self.messages.iter().zip(&self.signatures).zip(&self.keys);
            all.filter(|((message, signature), key)| key.verify_strict(message, signature).is_ok()).count()
        })
    }

    fn batch_rate(&self, probe: Duration) -> f64 {
        let messages: Vec<&[u8]> = self.messages.iter().map(Vec::as_slice).collect();
        rate(probe, || match ed25519_dalek::verify_batch(&messages, &self.signatures, &self.keys) {
            Ok(()) => messages.len(),
            Err(_) => 0,
        })
    }
}

/// Repeats `work`, which says how much it did, for about `probe`.
fn rate(probe: Duration, mut work: impl FnMut() -> usize) -> f64 {
    let start = Instant::now();
    let mut done = 0;
    while start.elapsed() < probe {
        done += work();
    }
    done as f64 / start.elapsed().as_secs_f64()
}

fn tree_nodes(probe: Duration) -> f64 {
    let mut node = [1_u8; 65];
    rate(probe, || {
        for _ in 0..1000 {
            let hash = Sha256::digest(black_box(node));
            node[33..].copy_from_slice(&hash);
        }
        1000
    })
}

fn fsync_ms(directory: &Path, probe: Duration) -> BenchResult<f64> {
    let mut file = File::create(directory.join("fsync.probe"))?;
    let mut latencies = Vec::new();
    let start = Instant::now();
    while start.elapsed() < probe || latencies.len() < 10 {
        let begin = Instant::now();
        file.write_all(&[7; 4096])?;
        file.sync_data()?;
        latencies.push(begin.elapsed().as_secs_f64() * 1e3);
    }
    std::fs::remove_file(directory.join("fsync.probe"))?;
    latencies.sort_by(f64::total_cmp);
    Ok(latencies[latencies.len() / 2])
}

fn write_mb(directory: &Path, probe: Duration) -> BenchResult<f64> {
    /// Enough for a stable rate, and not more than a small disk can hold.
    const MOST: usize = 1 << 30;
    let path = directory.join("write.probe");
    let mut file = File::create(&path)?;
    let block: Vec<u8> = (0..1_u32 << 20).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let (start, mut written) = (Instant::now(), 0);
    while start.elapsed() < probe && written < MOST {
        file.write_all(&block)?;
        written += block.len();
    }
    file.sync_data()?;
    let rate = written as f64 / start.elapsed().as_secs_f64() / 1e6;
    std::fs::remove_file(&path)?;
    Ok(rate)
}
