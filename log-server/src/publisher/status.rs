//! The status of each cosigner, for metrics, readiness and messages.

use std::time::SystemTime;

use serde_json::{Value, json};
use taglog_proto::time::Timestamp;
use tokio::sync::watch;

#[derive(Clone, Debug)]
pub struct CosignerStatus {
    pub name: String,
    pub vkey: String,
    /// Whether it answered the last request with a cosignature; `None` before the first response.
    pub up: Option<bool>,
    /// Why the last request failed; empty if it did not.
    pub problem: String,
    /// The time of its latest cosignature.
    pub cosigned: Option<Timestamp>,
}

/// The current statuses of all cosigners, in the order of the policy.
pub type Statuses = watch::Receiver<Vec<CosignerStatus>>;

/// The statuses of a log without cosigners.
pub fn none() -> Statuses {
    watch::channel(Vec::new()).1
}

impl CosignerStatus {
    pub fn new(name: String, vkey: String) -> CosignerStatus {
        CosignerStatus { name, vkey, up: None, problem: String::new(), cosigned: None }
    }

    pub fn record_cosignature(&mut self, time: Timestamp) {
        if self.up == Some(false) {
            tracing::info!(cosigner = self.name, "the cosigner cosigns again");
        }
        (self.up, self.problem) = (Some(true), String::new());
        self.cosigned = Some(time);
        self.record_up(1.0);
    }

    pub fn record_failure(&mut self, problem: String) {
        if self.up != Some(false) || self.problem != problem {
            tracing::warn!(cosigner = self.name, problem, "no cosignature");
        }
        (self.up, self.problem) = (Some(false), problem);
        self.record_up(0.0);
    }

    fn record_up(&self, up: f64) {
        metrics::gauge!("taglog_cosigner_up", "cosigner" => self.name.clone()).set(up);
    }

    /// For `/readyz` and `GET log`.
    pub fn to_json(&self) -> Value {
        json!({
            "name": self.name,
            "vkey": self.vkey,
            "up": self.up,
            "problem": self.problem,
            "cosigned": self.cosigned.map(|time| time.to_string()),
        })
    }

    fn describe(&self) -> String {
        match self.up {
            None => format!("{} has not answered yet", self.name),
            Some(true) => format!("{} cosigns", self.name),
            Some(false) => format!("{}: {}", self.name, self.problem),
        }
    }
}

/// One line with the name and status of every cosigner.
pub fn summary(statuses: &[CosignerStatus]) -> String {
    statuses.iter().map(CosignerStatus::describe).collect::<Vec<_>>().join("; ")
}

/// Records the age of each cosigner's latest cosignature.
pub fn record_ages(statuses: &[CosignerStatus]) {
    let now = Timestamp::from_system_time(SystemTime::now()).unix();
    for CosignerStatus { name, cosigned, .. } in statuses {
        let Some(time) = cosigned else { continue };
        let age = now.saturating_sub(time.unix()).max(0);
        metrics::gauge!("taglog_cosignature_age_seconds", "cosigner" => name.clone()).set(age as f64);
    }
}
