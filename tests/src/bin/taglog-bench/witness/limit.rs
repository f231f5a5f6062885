//! What a registry gives at best: HEAD and GET of each tag, by the plainest of clients.

use std::time::{Duration, Instant};

use taglog_proto::name::Digest;
use taglog_tests::Registry;

use crate::{BenchResult, ingest::client, process};

/// What every honest witness sends (SPEC.md section 6.3).
const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
                      application/vnd.docker.distribution.manifest.list.v2+json, \
                      application/vnd.oci.image.manifest.v1+json, \
                      application/vnd.docker.distribution.manifest.v2+json";

/// How long it took to ask for all tags.
pub struct Limit {
    tags: usize,
    elapsed: Duration,
    registry_cpu: Duration,
    own_cpu: Duration,
}

impl Limit {
    /// Asks for the digest and the manifest of each tag, `concurrency` at once.
    pub async fn measure(registry: &Registry, path: &str, tags: &[String], concurrency: usize) -> BenchResult<Limit> {
        let (client, base) = (client(false)?, format!("http://{}/v2/{path}/manifests", registry.host));
        let (registry_cpu, own_cpu) = (process::cpu(registry.id())?, process::cpu(std::process::id())?);
        let start = Instant::now();
        let lane = |tags: &[String]| {
            let (client, base, tags) = (client.clone(), base.clone(), tags.to_vec());
            tokio::spawn(async move {
                for tag in &tags {
                    look(&client, &base, tag).await?;
                }
                BenchResult::Ok(())
            })
        };
        let lanes: Vec<_> = tags.chunks(tags.len().div_ceil(concurrency).max(1)).map(lane).collect();
        for lane in lanes {
            lane.await??;
        }
        Ok(Limit {
            tags: tags.len(),
            elapsed: start.elapsed(),
            registry_cpu: process::cpu(registry.id())?.saturating_sub(registry_cpu),
            own_cpu: process::cpu(std::process::id())?.saturating_sub(own_cpu),
        })
    }

    /// Tags per second.
    pub fn rate(&self) -> f64 {
        self.tags as f64 / self.elapsed.as_secs_f64()
    }

    /// The faster of two: what disturbs only makes it slower.
    pub fn or_better(self, other: Limit) -> Limit {
        if other.rate() > self.rate() { other } else { self }
    }

    /// The circumstances, as text.
    pub fn describe(&self) -> String {
        format!(
            "client {:.2} cores, registry {:.2}",
            self.own_cpu.as_secs_f64() / self.elapsed.as_secs_f64(),
            self.registry_cpu.as_secs_f64() / self.elapsed.as_secs_f64(),
        )
    }
}

async fn look(client: &reqwest::Client, base: &str, tag: &str) -> BenchResult<()> {
    let head = client.head(format!("{base}/{tag}")).header("accept", ACCEPT).send().await?.error_for_status()?;
    let digest = head.headers().get("docker-content-digest").ok_or("no digest in the answer")?.to_str()?.to_owned();
    let manifest = client.get(format!("{base}/{digest}")).header("accept", ACCEPT).send().await?.error_for_status()?;
    let right = digest.parse::<Digest>()?.matches(&manifest.bytes().await?);
    Ok(right.then_some(()).ok_or_else(|| format!("the manifest of {tag} does not hash to its digest"))?)
}
