//! A log with three cosigners, two of which are a quorum.

use std::{future::Future, time::Duration};

use taglog_proto::{checkpoint::SignedCheckpoint, policy::Quorate};
use taglog_tests::{
    DataDirectory, FakeCosigner, Server, Witness,
    fake_cosigner::{policy, trust_policy},
    process::TIMEOUT,
    witness::now,
};

pub const APP: &str = "registry.example/team/app:1.0";

/// What cosigned logs are configured with.
pub const SETTINGS: &str = "policy = \"policy\"\ncosign-timeout-ms = 2000\ncosign-interval = 5";

/// A data directory with its witness and its cosigners.
pub struct CosignedLogFixture {
    pub data: DataDirectory,
    pub witness: Witness,
    pub cosigners: Vec<FakeCosigner>,
    start: i64,
}

impl CosignedLogFixture {
    /// A new log, not started, of which any two of three cosigners are a quorum.
    pub fn new() -> CosignedLogFixture {
        CosignedLogFixture::with(SETTINGS)
    }

    /// The same with other settings.
    pub fn with(settings: &str) -> CosignedLogFixture {
        let witness = Witness::new(1);
        let data = DataDirectory::with(&[&witness], settings);
        let cosigners = ["a", "b", "c"].map(|name| FakeCosigner::start(name, &data.vkey)).into();
        let fixture = CosignedLogFixture { data, witness, cosigners, start: now() - 1000 };
        fixture.data.write_policy(&policy(&fixture.all(), 2));
        fixture
    }

    pub fn all(&self) -> Vec<&FakeCosigner> {
        self.cosigners.iter().collect()
    }

    /// What a verifier makes of a checkpoint.
    pub fn judge(&self, checkpoint: &SignedCheckpoint) -> Quorate {
        trust_policy(&self.data.vkey, &self.all(), 2).evaluate(checkpoint).unwrap()
    }

    /// The observation of this number: the same bytes every time, and no other number's.
    pub fn observation(&self, number: usize) -> Vec<u8> {
        self.witness.observe(&format!("registry.example/team/app:{number}"), "x", self.start)
    }

    /// Adds one entry and returns its index.
    pub async fn add(&self, server: &Server, number: usize) -> u64 {
        server.submit(&self.observation(number)).await.added()
    }

    /// Adds one entry and waits until it is published.
    pub async fn publish(&self, server: &Server, number: usize) -> SignedCheckpoint {
        let index = self.add(server, number).await;
        published_beyond(server, index).await
    }
}

/// Waits for something.
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut condition: impl FnMut() -> F) -> T {
    let wait = async {
        loop {
            if let Some(found) = condition().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(TIMEOUT, wait).await.unwrap_or_else(|_| panic!("waited for {what}"))
}

/// Waits until the published checkpoint covers an index.
pub async fn published_beyond(server: &Server, index: u64) -> SignedCheckpoint {
    eventually("the publication", || async {
        let checkpoint = server.checkpoint().await;
        (checkpoint.unverified().size > index).then_some(checkpoint)
    })
    .await
}

/// Waits until the published checkpoint bears cosignatures by these, and by no one else.
pub async fn cosigned_by(fixture: &CosignedLogFixture, server: &Server, names: &[&str]) -> SignedCheckpoint {
    eventually(&format!("cosignatures by {names:?}"), || async {
        let checkpoint = server.checkpoint().await;
        let cosigned: Vec<String> = fixture.judge(&checkpoint).cosignatures.into_iter().map(|(name, _)| name).collect();
        (cosigned == names).then_some(checkpoint)
    })
    .await
}

/// The value of a metric, `None` if it is not there.
pub async fn metric(server: &Server, name: &str) -> Option<f64> {
    let text = server.get("/metrics").await.text();
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

/// What `/readyz` says of a cosigner: whether it is up, and what is the matter.
pub async fn readiness(server: &Server, name: &str) -> (Option<bool>, String) {
    let json = server.get("/readyz").await.json();
    let cosigners = json["cosigners"].as_array().unwrap();
    let cosigner = cosigners.iter().find(|cosigner| cosigner["name"] == name).unwrap();
    (cosigner["up"].as_bool(), cosigner["problem"].as_str().unwrap().to_owned())
}
