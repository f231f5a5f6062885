//! The state of the agent, read from its spool, whether it runs or not.

use std::{collections::BTreeMap, fmt::Write as _, path::Path};

use serde_json::{Value, json};
use taglog_proto::{note::VerifierKey, time::Timestamp};

use super::{
    alarm::{AlarmKind, alarm_json},
    spool::{LogStatus, SpoolError, SpoolSnapshot, WatchedTagRow},
};

/// The content of the spool, for display.
#[derive(Debug)]
pub struct Status {
    snapshot: SpoolSnapshot,
}

/// Numbers of tags of one registry: all, and those whose last poll failed.
#[derive(Debug, Default)]
struct RegistryCounts {
    tags: usize,
    failing: usize,
}

fn text(time: Option<Timestamp>) -> Option<String> {
    time.map(|time| time.to_string())
}

impl Status {
    /// Reads the spool in a state directory.
    ///
    /// # Errors
    /// [`SpoolError`].
    pub fn read(state: &Path) -> Result<Status, SpoolError> {
        Ok(Status { snapshot: SpoolSnapshot::read(state)? })
    }

    /// Whether an agent is running and no alarm is active.
    pub fn is_healthy(&self) -> bool {
        self.snapshot.running && self.snapshot.alarms.is_empty()
    }

    /// Whether misbehaviour of a log was proven.
    pub fn has_misbehaviour(&self) -> bool {
        self.snapshot.alarms.iter().any(|alarm| alarm.kind == AlarmKind::Misbehaviour.as_str())
    }

    fn witness(&self) -> String {
        let vkey: Option<VerifierKey> = self.snapshot.witness.parse().ok();
        vkey.map(|vkey| format!("{}+{}", vkey.name(), vkey.key_id())).unwrap_or_default()
    }

    fn registries(&self) -> BTreeMap<&str, RegistryCounts> {
        let mut registries: BTreeMap<&str, RegistryCounts> = BTreeMap::new();
        for row in &self.snapshot.tags {
            let counts = registries.entry(row.image.repository.registry()).or_default();
            counts.tags += 1;
            counts.failing += usize::from(row.error.is_some());
        }
        registries
    }

    pub fn to_json(&self) -> Value {
        let registries: Vec<Value> = self
            .registries()
            .into_iter()
            .map(|(registry, counts)| json!({ "registry": registry, "tags": counts.tags, "failing": counts.failing }))
            .collect();
        let repositories: Vec<Value> = self
            .snapshot
            .repositories
            .iter()
            .map(|row| json!({ "repository": row.name.as_str(), "confirmed": text(row.confirmed), "error": row.error }))
            .collect();
        json!({
            "witness": self.witness(),
            "running": self.snapshot.running,
            "healthy": self.is_healthy(),
            "registries": registries,
            "repositories": repositories,
            "tags": self.snapshot.tags.iter().map(tag_json).collect::<Vec<_>>(),
            "logs": self.snapshot.logs.iter().map(log_json).collect::<Vec<_>>(),
            "alarms": self.snapshot.alarms.iter().map(|alarm| alarm_json(alarm, None)).collect::<Vec<_>>(),
        })
    }

    /// Human-readable: alarms and logs first, then each registry with its failing tags; every tag if `all`.
    pub fn to_text(&self, all: bool) -> String {
        let mut out = String::new();
        let state = if self.snapshot.running { "running" } else { "NOT RUNNING" };
        // Writing to a String cannot fail.
        let _ = writeln!(out, "witness {} is {state}", self.witness());
        for alarm in &self.snapshot.alarms {
            let times =
                if alarm.count > 1 { format!(", {} times since {}", alarm.count, alarm.first) } else { String::new() };
            let _ = writeln!(out, "ALARM {} ({}), {}{times}: {}", alarm.kind, alarm.subject, alarm.last, alarm.message);
            if let Some(evidence) = &alarm.evidence {
                let _ = writeln!(out, "      kept in {evidence}");
            }
        }
        for log in &self.snapshot.logs {
            let _ = writeln!(out, "log {}: {}", log.origin(), log_text(log));
        }
        for (registry, counts) in self.registries() {
            let _ = writeln!(out, "registry {registry}: {} tags, {} failing", counts.tags, counts.failing);
            for row in self.snapshot.repositories.iter().filter(|row| row.name.registry() == registry) {
                if let Some(error) = &row.error {
                    let _ = writeln!(out, "  {}: its tags cannot be listed: {error}", row.name);
                }
            }
            let rows = self.snapshot.tags.iter().filter(|row| row.image.repository.registry() == registry);
            for row in rows.filter(|row| all || row.error.is_some()) {
                let _ = writeln!(out, "  {}", tag_text(row));
            }
        }
        out
    }
}

fn tag_json(row: &WatchedTagRow) -> Value {
    let reported = row.state.reported;
    json!({
        "image": row.image.to_string(),
        "seen": reported.map(|reported| reported.seen.to_string()),
        "observed": text(reported.map(|reported| reported.observed)),
        "looked": text(row.state.polled),
        "missing": row.state.missing,
        "error": row.error,
    })
}

fn tag_text(row: &WatchedTagRow) -> String {
    let seen = match row.state.reported {
        Some(reported) => format!("{} since {}", reported.seen, reported.observed),
        None => "nothing seen yet".to_owned(),
    };
    let polled = text(row.state.polled).map(|polled| format!(", polled at {polled}")).unwrap_or_default();
    let missing = if row.state.missing > 0 {
        format!(", missing at the last {} polls", row.state.missing)
    } else {
        String::new()
    };
    let error = row.error.as_ref().map(|error| format!("; {error}")).unwrap_or_default();
    format!("{}  {seen}{polled}{missing}{error}", row.image)
}

fn log_json(log: &LogStatus) -> Value {
    json!({
        "origin": log.origin(),
        "vkey": log.vkey,
        "delivered": log.delivered,
        "pending": log.pending,
        "refused": log.refused,
        "refusals": log.refusals.iter().map(|(about, why)| json!({ "about": about, "reason": why })).collect::<Vec<_>>(),
        "checkpoint": log.checkpoint.map(|(size, verified)| json!({ "size": size, "verified": verified.to_string() })),
        "error": log.error,
    })
}

fn log_text(log: &LogStatus) -> String {
    let mut text = format!("{} delivered, {} waiting", log.delivered, log.pending);
    if log.refused > 0 {
        text.push_str(&format!(", {} refused for good", log.refused));
    }
    if let Some((size, verified)) = log.checkpoint {
        text.push_str(&format!("; checkpoint of size {size} verified at {verified}"));
    }
    if let Some(error) = &log.error {
        text.push_str(&format!("; last error: {error}"));
    }
    text
}
