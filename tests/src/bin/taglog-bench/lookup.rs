//! Looks images up: many clients with kept-alive connections, each asking as soon as it is answered.

use std::{
    cell::RefCell,
    rc::Rc,
    time::{Duration, Instant},
};

use reqwest::Client;
use taglog_proto::{note::VerifierKey, tag_proof::TagProof};
use tokio::task::LocalSet;

use crate::{
    BenchResult,
    ingest::{Latency, client},
    process,
    server::Server,
    workload::Workload,
};

/// One answer in so many is verified: enough to know that answers are right, too few to cost much.
const VERIFIED: u64 = 512;
/// A prime step through the tags.
const STRIDE: u64 = 15_485_863;

/// What a phase of look-ups did.
pub struct LookUps {
    /// From request to the last byte of the answer.
    pub latency: Latency,
    elapsed: Duration,
    bytes: u64,
    server_cpu: Duration,
    own_cpu: Duration,
}

impl LookUps {
    /// Answers per second.
    pub fn rate(&self) -> f64 {
        self.latency.count() as f64 / self.elapsed.as_secs_f64()
    }

    /// The circumstances, as text.
    pub fn describe(&self, clients: usize) -> String {
        format!(
            "{clients} clients; {:.1} kB an answer; generator {:.2} cores, server {:.2}",
            self.bytes as f64 / 1e3 / self.latency.count().max(1) as f64,
            self.own_cpu.as_secs_f64() / self.elapsed.as_secs_f64(),
            self.server_cpu.as_secs_f64() / self.elapsed.as_secs_f64(),
        )
    }
}

struct Shared {
    latency: Latency,
    bytes: u64,
    next: u64,
}

/// Looks up one image after the other for as long as `window`.
pub async fn run(
    server: &Server,
    workload: &Workload,
    clients: usize,
    window: Duration,
    gzip: bool,
) -> BenchResult<LookUps> {
    let client = client(gzip)?;
    let shared = Rc::new(RefCell::new(Shared { latency: Latency::new()?, bytes: 0, next: 0 }));
    let (server_cpu, own_cpu) = (process::cpu(server.id())?, process::cpu(std::process::id())?);
    let start = Instant::now();
    let tasks = LocalSet::new();
    let url = format!("{}/api/v1/lookup?image=", server.url);
    let spawn = |_| {
        let one =
            OneClient { client: client.clone(), url: url.clone(), workload: workload.clone(), end: start + window };
        tasks.spawn_local(one.run(server.key.clone(), Rc::clone(&shared)))
    };
    let handles: Vec<_> = (0..clients).map(spawn).collect();
    tasks.await;
    for handle in handles {
        handle.await??;
    }
    let elapsed = start.elapsed();
    let Shared { latency, bytes, .. } = Rc::into_inner(shared).ok_or("a client still runs")?.into_inner();
    Ok(LookUps {
        latency,
        elapsed,
        bytes,
        server_cpu: process::cpu(server.id())?.saturating_sub(server_cpu),
        own_cpu: process::cpu(std::process::id())?.saturating_sub(own_cpu),
    })
}

struct OneClient {
    client: Client,
    url: String,
    workload: Workload,
    end: Instant,
}

impl OneClient {
    async fn run(self, key: VerifierKey, shared: Rc<RefCell<Shared>>) -> BenchResult<()> {
        while Instant::now() < self.end {
            let number = {
                let mut shared = shared.borrow_mut();
                shared.next += 1;
                shared.next
            };
            let image = self.workload.image(number.wrapping_mul(STRIDE))?;
            let start = Instant::now();
            let response = self.client.get(format!("{}{image}", self.url)).send().await?.error_for_status()?;
            let answer = response.bytes().await?;
            let mut shared = shared.borrow_mut();
            shared.latency.record(start.elapsed());
            shared.bytes += answer.len() as u64;
            if number.is_multiple_of(VERIFIED) {
                let verified = TagProof::from_json(&answer)?.verify(&key)?;
                let seen = verified.report(&image).is_some_and(|report| !report.witnesses.is_empty());
                seen.then_some(()).ok_or_else(|| format!("the log denies to know {image}"))?;
            }
        }
        Ok(())
    }
}
