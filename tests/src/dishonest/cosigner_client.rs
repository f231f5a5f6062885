//! Requests cosignatures by add-checkpoint of c2sp.org/tlog-witness. It asks each one for a cosignature of
//! whatever history it is told to, with the best proof that this history gives.

use std::sync::LazyLock;

use taglog_proto::{merkle::consistency_proof, note::SigningKey};

use super::history::History;

static CLIENT: LazyLock<reqwest::Client> = LazyLock::new(|| {
    let builder = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0);
    builder.timeout(crate::process::TIMEOUT).build().unwrap()
});

/// The response of a cosigner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CosignerAnswer {
    /// The HTTP status; 0 when nobody answered.
    pub status: u16,
    pub body: String,
}

impl CosignerAnswer {
    /// The signature lines; none when it refused.
    pub fn cosignatures(&self) -> &str {
        if self.status == 200 { &self.body } else { "" }
    }
}

/// A cosigner as the log knows it.
pub(super) struct CosignerClient {
    url: String,
    /// The size that it cosigned last, as far as the log knows.
    old: u64,
}

impl CosignerClient {
    pub(super) fn new(url: &str) -> CosignerClient {
        CosignerClient { url: url.trim_end_matches('/').to_owned(), old: 0 }
    }

    /// Asks it to cosign the history; once more when it says that it remembers another size, or is not ready yet.
    pub(super) async fn ask(&mut self, history: &History, key: &SigningKey) -> CosignerAnswer {
        let deadline = std::time::Instant::now() + crate::process::TIMEOUT;
        let mut corrected = false;
        loop {
            let asked = self.ask_once(history, key).await;
            match asked.status {
                200 => self.old = history.size(),
                409 if !corrected => {
                    corrected = true;
                    self.old = asked.body.trim_end().parse().unwrap_or(self.old);
                    continue;
                }
                // An auditing cosigner that has not caught up yet.
                503 if std::time::Instant::now() < deadline => {
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                    continue;
                }
                _ => {}
            }
            return asked;
        }
    }

    async fn ask_once(&self, history: &History, key: &SigningKey) -> CosignerAnswer {
        let request = CLIENT.post(format!("{}/add-checkpoint", self.url)).body(self.body(history, key));
        let unreachable = |error: reqwest::Error| CosignerAnswer { status: 0, body: error.to_string() };
        match request.send().await {
            Ok(answer) => {
                let status = answer.status().as_u16();
                answer.text().await.map_or_else(unreachable, |body| CosignerAnswer { status, body })
            }
            Err(error) => unreachable(error),
        }
    }

    /// A log that has been cut or has another past gives the proof that it has, if any.
    fn body(&self, history: &History, key: &SigningKey) -> String {
        let old = self.old.min(history.size());
        let proof = match old {
            0 => Vec::new(),
            old => consistency_proof(history.memory(), old, history.size()).unwrap_or_default(),
        };
        let proof: String = proof.iter().map(|hash| format!("{hash}\n")).collect();
        format!("old {old}\n{proof}\n{}", history.signed(key))
    }
}
