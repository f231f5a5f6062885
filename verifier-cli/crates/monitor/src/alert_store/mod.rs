//! The alert store: alerts, their deliveries, and the tracking state between batches, in one SQLite file.
//!
//! [`AlertStore`] is the side of the auditor: alerts, and the tracking state from which they were derived, are
//! committed in one transaction *before* the auditor commits the batches that caused them. After a crash the auditor is
//! therefore never ahead of the store; batches that it audits again are recognised by their size and skipped. So no
//! alert is lost or duplicated. [`Outbox`] is the side of the dispatchers, with a connection of its own.

mod error;
mod outbox;
mod schema;
mod tracking_state;
mod values;

use std::path::Path;

use rusqlite::{Connection, OptionalExtension as _, params};
use taglog_base::directory_lock::{DirectoryLock, LockFile};
use taglog_proto::note::VerifierKey;
use taglog_state::OpenError;
use tokio::sync::watch;

use super::{alert::Alert, config::SinkConfig};

use error::damaged;

pub use error::AlertStoreError;
pub use outbox::{Outbox, Pending};
pub use tracking_state::{Disagreement, LogCondition, WitnessActivity, WitnessTagState};

/// The database in the state directory.
const FILE: &str = "monitor.sqlite";
const LOCK: LockFile = LockFile {
    name: "monitor.lock",
    program: "monitor",
    remedy: "stop that one, or give each monitor a state directory of its own",
};

/// The most stored alerts, delivered or not; older ones are deleted, except alerts about misbehaviour.
const MAX_ALERTS: i64 = 100_000;
/// How many more there may be before the oldest are removed.
const PRUNE_SLACK: i64 = 1000;

/// The side of the auditor: raises alerts, and keeps the tracking state.
pub struct AlertStore {
    connection: Connection,
    sinks: Vec<SinkConfig>,
    /// The number of alerts since the last commit.
    raised: u64,
    /// The number of alerts since the store was opened.
    total: u64,
    /// Counts commits with new alerts, so that dispatchers wake up.
    news: watch::Sender<u64>,
    /// Held while the store is open.
    _lock: DirectoryLock,
}

impl AlertStore {
    /// Opens the store in a state directory, which is created if it does not exist.
    pub fn open(
        directory: &Path,
        log: &VerifierKey,
        sinks: &[SinkConfig],
    ) -> Result<(AlertStore, Outbox), AlertStoreError> {
        let lock = LOCK.acquire(directory).map_err(OpenError::from)?;
        let path = directory.join(FILE);
        let connection = schema::open(&path)?;
        let news = watch::Sender::new(0);
        let outbox = Outbox::new(schema::connect(&path)?, news.subscribe());
        let mut store = AlertStore { connection, sinks: sinks.to_vec(), raised: 0, total: 0, news, _lock: lock };
        store.begin()?;
        match store.meta("log")? {
            None => store.set_meta("log", &log.to_string())?,
            Some(own) if own == log.to_string() => {}
            Some(own) => return Err(AlertStoreError::OtherLog(own)),
        }
        store.prune()?;
        store.commit()?;
        Ok((store, outbox))
    }

    /// Begins a transaction, unless one is open.
    pub fn begin(&self) -> Result<(), AlertStoreError> {
        if self.connection.is_autocommit() {
            self.connection.execute_batch("BEGIN IMMEDIATE")?;
        }
        Ok(())
    }

    /// Makes all since [`AlertStore::begin`] durable, and wakes up those who deliver. How many alerts were new.
    ///
    /// # Errors
    /// [`AlertStoreError`]; then nothing of it is kept.
    pub fn commit(&mut self) -> Result<u64, AlertStoreError> {
        if !self.connection.is_autocommit() {
            self.connection.execute_batch("COMMIT")?;
        }
        let raised = std::mem::take(&mut self.raised);
        if raised > 0 {
            self.news.send_modify(|commits| *commits += 1);
        }
        Ok(raised)
    }

    /// Raises an alert unless it was raised before. Returns whether it is new.
    pub fn raise(&mut self, alert: &Alert) -> Result<bool, AlertStoreError> {
        let json = serde_json::to_string(alert).map_err(damaged)?;
        let insert = "INSERT INTO alert (id, kind, json) VALUES (?, ?, ?) ON CONFLICT (id) DO NOTHING";
        let new = self.connection.prepare_cached(insert)?.execute(params![alert.id, alert.kind.as_str(), json])? == 1;
        if !new {
            return Ok(false);
        }
        let sequence = self.connection.last_insert_rowid();
        let mut deliver = self.connection.prepare_cached("INSERT INTO delivery (sink, sequence) VALUES (?, ?)")?;
        for sink in self.sinks.iter().filter(|sink| sink.takes(alert.kind)) {
            deliver.execute(params![sink.name, sequence])?;
        }
        self.raised += 1;
        self.total += 1;
        metrics::counter!("taglog_monitor_alerts_total", "kind" => alert.kind.as_str()).increment(1);
        tracing::warn!(kind = alert.kind.as_str(), id = alert.id, state = alert.state.as_str(), "{}", alert.message);
        Ok(true)
    }

    /// Whether this alert was raised before.
    pub fn has(&self, alert: &Alert) -> Result<bool, AlertStoreError> {
        let mut select = self.connection.prepare_cached("SELECT 1 FROM alert WHERE id = ?")?;
        Ok(select.exists([&alert.id])?)
    }

    /// The number of new alerts since the store was opened.
    pub fn total_raised(&self) -> u64 {
        self.total
    }

    /// Deletes the oldest alerts beyond the bound. Undelivered ones among them are logged.
    pub fn prune(&self) -> Result<(), AlertStoreError> {
        self.keep_newest(MAX_ALERTS, PRUNE_SLACK)
    }

    fn keep_newest(&self, most: i64, slack: i64) -> Result<(), AlertStoreError> {
        let count: i64 = self.connection.query_row("SELECT count(*) FROM alert", [], |row| row.get(0))?;
        if count <= most + slack {
            return Ok(());
        }
        let first_kept = "SELECT sequence FROM alert ORDER BY sequence DESC LIMIT 1 OFFSET ?";
        let first_kept: i64 = self.connection.query_row(first_kept, [most - 1], |row| row.get(0))?;
        let old = "sequence < ? AND kind NOT IN ('violation', 'split-view')";
        let undelivered = format!(
            "SELECT count(*) FROM delivery WHERE done = 0 AND sequence IN (SELECT sequence FROM alert WHERE {old})"
        );
        let undelivered: i64 = self.connection.query_row(&undelivered, [first_kept], |row| row.get(0))?;
        self.connection.execute(&format!("DELETE FROM alert WHERE {old}"), [first_kept])?;
        if undelivered > 0 {
            tracing::error!(
                "{undelivered} alerts were deleted undelivered, because more than {most} are stored; check the sinks"
            );
        }
        Ok(())
    }

    fn meta(&self, key: &str) -> Result<Option<String>, AlertStoreError> {
        let mut select = self.connection.prepare_cached("SELECT value FROM meta WHERE key = ?")?;
        Ok(select.query_row([key], |row| row.get(0)).optional()?)
    }

    fn set_meta(&self, key: &str, value: &str) -> Result<(), AlertStoreError> {
        let set = "INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value";
        self.connection.prepare_cached(set)?.execute([key, value])?;
        Ok(())
    }

    fn number(&self, key: &str) -> Result<Option<i64>, AlertStoreError> {
        self.meta(key)?.map(|text| text.parse().map_err(|_| damaged(format!("{key} is {text}")))).transpose()
    }
}

#[cfg(test)]
mod tests {
    use taglog_proto::{note::SigningKey, time::Timestamp};

    use super::*;
    use crate::{alert::AlertKind, config::SinkTarget};

    pub(super) fn key(number: u8) -> VerifierKey {
        SigningKey::from_seed("log.example/x", &[number; 32]).unwrap().verifier_key().clone()
    }

    fn sink(name: &str, kinds: Option<&[AlertKind]>) -> SinkConfig {
        SinkConfig {
            name: name.to_owned(),
            kinds: kinds.map(|kinds| kinds.iter().copied().collect()),
            target: SinkTarget::Stdout,
        }
    }

    fn sinks() -> Vec<SinkConfig> {
        vec![sink("all", None), sink("some", Some(&[AlertKind::Violation]))]
    }

    fn alert(kind: AlertKind, about: &str) -> Alert {
        Alert::event(&key(1), kind, &[about], Timestamp::UNIX_EPOCH, format!("about {about}"))
    }

    fn abouts(pending: &[Pending]) -> Vec<&str> {
        pending.iter().map(|pending| pending.sequenced.alert.message.as_str()).collect()
    }

    #[test]
    fn an_alert_is_stored_once_for_the_sinks_that_take_it() {
        let home = tempfile::tempdir().unwrap();
        let (mut store, outbox) = AlertStore::open(home.path(), &key(1), &sinks()).unwrap();
        store.begin().unwrap();
        assert!(store.raise(&alert(AlertKind::Retag, "a")).unwrap());
        assert!(!store.raise(&alert(AlertKind::Retag, "a")).unwrap());
        assert!(store.raise(&alert(AlertKind::Violation, "b")).unwrap());
        assert!(outbox.pending("all", 10).unwrap().is_empty(), "nothing is delivered before the commit");
        assert_eq!(store.commit().unwrap(), 2);
        assert_eq!(abouts(&outbox.pending("all", 10).unwrap()), ["about a", "about b"]);
        assert_eq!(abouts(&outbox.pending("some", 10).unwrap()), ["about b"]);
        drop((store, outbox));
        let (mut store, outbox) = AlertStore::open(home.path(), &key(1), &sinks()).unwrap();
        assert!(!store.raise(&alert(AlertKind::Retag, "a")).unwrap(), "a restart forgets nothing");
        assert_eq!(outbox.pending("all", 10).unwrap().len(), 2);
    }

    #[test]
    fn deliveries_of_sinks_are_independent() {
        let home = tempfile::tempdir().unwrap();
        let (mut store, outbox) = AlertStore::open(home.path(), &key(1), &sinks()).unwrap();
        for about in ["a", "b", "c"] {
            store.raise(&alert(AlertKind::Violation, about)).unwrap();
        }
        store.commit().unwrap();
        let all = outbox.pending("all", 10).unwrap();
        outbox.delivered("all", &[all[1].sequenced.sequence]).unwrap();
        outbox.failed("all", &[all[0].sequenced.sequence]).unwrap();
        let rest = outbox.pending("all", 10).unwrap();
        assert_eq!(abouts(&rest), ["about c", "about a"], "what has failed comes after what was never tried");
        assert_eq!((rest[0].attempts, rest[1].attempts), (0, 1));
        assert_eq!(outbox.pending("some", 10).unwrap().len(), 3);
        assert_eq!(outbox.pending_count("all").unwrap(), 2);
        let newest = outbox.newest("all", 2).unwrap();
        assert_eq!(newest.iter().map(|n| n.alert.message.as_str()).collect::<Vec<_>>(), ["about c", "about b"]);
    }

    #[test]
    fn uncommitted_alerts_are_lost() {
        let home = tempfile::tempdir().unwrap();
        let (mut store, _) = AlertStore::open(home.path(), &key(1), &sinks()).unwrap();
        store.begin().unwrap();
        store.raise(&alert(AlertKind::Retag, "a")).unwrap();
        drop(store);
        let (mut store, outbox) = AlertStore::open(home.path(), &key(1), &sinks()).unwrap();
        assert!(outbox.pending("all", 10).unwrap().is_empty());
        assert!(store.raise(&alert(AlertKind::Retag, "a")).unwrap());
    }

    #[test]
    fn one_directory_is_for_one_monitor_of_one_log() {
        let home = tempfile::tempdir().unwrap();
        let first = AlertStore::open(home.path(), &key(1), &[]).unwrap();
        assert!(
            matches!(AlertStore::open(home.path(), &key(1), &[]), Err(AlertStoreError::Open(error)) if error.is_in_use())
        );
        drop(first);
        assert!(matches!(AlertStore::open(home.path(), &key(2), &[]), Err(AlertStoreError::OtherLog(_))));
    }

    #[test]
    fn old_alerts_are_deleted_except_those_about_misbehaviour() {
        let home = tempfile::tempdir().unwrap();
        let (mut store, outbox) = AlertStore::open(home.path(), &key(1), &sinks()).unwrap();
        store.raise(&alert(AlertKind::Violation, "v")).unwrap();
        for about in 0..20 {
            store.raise(&alert(AlertKind::Retag, &about.to_string())).unwrap();
        }
        store.commit().unwrap();
        store.keep_newest(5, 100).unwrap();
        assert_eq!(outbox.pending_count("all").unwrap(), 21);
        store.keep_newest(5, 0).unwrap();
        let left = outbox.pending("all", 100).unwrap();
        assert_eq!(abouts(&left), ["about v", "about 15", "about 16", "about 17", "about 18", "about 19"]);
    }
}
