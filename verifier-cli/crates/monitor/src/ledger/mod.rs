//! The ledger: alerts and their deliveries, and what the monitor remembers from batch to batch, in one SQLite file.
//!
//! [`Ledger`] belongs to whoever audits: alerts, and the memory that they followed from, are committed together and
//! *before* the auditor commits the batches that caused them. After a crash the auditor is therefore never ahead of the
//! ledger; batches that it audits again are known by their size and passed over. So no alert is lost, and none is there
//! twice. [`Outbox`] is for those who deliver, over a connection of its own.

mod error;
mod memory;
mod outbox;
mod schema;
mod values;

use std::path::Path;

use rusqlite::{Connection, OptionalExtension as _, params};
use taglog_base::directory_lock::{DirectoryLock, LockFile};
use taglog_proto::note::VerifierKey;
use taglog_state::OpenError;
use tokio::sync::watch;

use super::{alert::Alert, config::SinkConfig};

use error::damaged;

pub use error::LedgerError;
pub use memory::{Condition, Dispute, Heard, Standing};
pub use outbox::{Outbox, Pending};

/// The database in the state directory.
const FILE: &str = "monitor.sqlite";
const LOCK: LockFile = LockFile {
    name: "monitor.lock",
    program: "monitor",
    remedy: "stop that one, or give each monitor a state directory of its own",
};

/// How many alerts are kept, delivered or not; older ones are given up. What says that the log misbehaves is kept
/// for ever.
const MOST_ALERTS: i64 = 100_000;
/// How many more there may be before the oldest are removed.
const SLACK: i64 = 1000;

/// The auditing side: raises alerts, and remembers.
pub struct Ledger {
    connection: Connection,
    sinks: Vec<SinkConfig>,
    /// How many alerts were raised since the last commit.
    raised: u64,
    /// How many were raised since it was opened.
    total: u64,
    /// Counts commits with new alerts, so that couriers wake up.
    news: watch::Sender<u64>,
    /// Held as long as the ledger is open.
    _lock: DirectoryLock,
}

impl Ledger {
    /// Opens the ledger in a state directory, which is made if it is not there.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn open(directory: &Path, log: &VerifierKey, sinks: &[SinkConfig]) -> Result<(Ledger, Outbox), LedgerError> {
        let lock = LOCK.acquire(directory).map_err(OpenError::from)?;
        let path = directory.join(FILE);
        let connection = schema::open(&path)?;
        let news = watch::Sender::new(0);
        let outbox = Outbox::new(schema::connect(&path)?, news.subscribe());
        let mut ledger = Ledger { connection, sinks: sinks.to_vec(), raised: 0, total: 0, news, _lock: lock };
        ledger.begin()?;
        match ledger.meta("log")? {
            None => ledger.set_meta("log", &log.to_string())?,
            Some(own) if own == log.to_string() => {}
            Some(own) => return Err(LedgerError::OtherLog(own)),
        }
        ledger.prune()?;
        ledger.commit()?;
        Ok((ledger, outbox))
    }

    /// Begins a transaction, unless one is open.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn begin(&self) -> Result<(), LedgerError> {
        if self.connection.is_autocommit() {
            self.connection.execute_batch("BEGIN IMMEDIATE")?;
        }
        Ok(())
    }

    /// Makes all since [`Ledger::begin`] durable, and wakes up those who deliver. How many alerts were new.
    ///
    /// # Errors
    /// [`LedgerError`]; then nothing of it is kept.
    pub fn commit(&mut self) -> Result<u64, LedgerError> {
        if !self.connection.is_autocommit() {
            self.connection.execute_batch("COMMIT")?;
        }
        let raised = std::mem::take(&mut self.raised);
        if raised > 0 {
            self.news.send_modify(|commits| *commits += 1);
        }
        Ok(raised)
    }

    /// Raises an alert, unless it was before. Whether it is new.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn raise(&mut self, alert: &Alert) -> Result<bool, LedgerError> {
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

    /// Whether this alert was raised already.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn has(&self, alert: &Alert) -> Result<bool, LedgerError> {
        let mut select = self.connection.prepare_cached("SELECT 1 FROM alert WHERE id = ?")?;
        Ok(select.exists([&alert.id])?)
    }

    /// How many alerts were new since the ledger was opened.
    pub fn total_raised(&self) -> u64 {
        self.total
    }

    /// Removes the oldest alerts beyond the bound. What was not delivered is given up, and said so.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn prune(&self) -> Result<(), LedgerError> {
        self.keep_newest(MOST_ALERTS, SLACK)
    }

    fn keep_newest(&self, most: i64, slack: i64) -> Result<(), LedgerError> {
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
            tracing::error!("{undelivered} deliveries are given up: more than {most} alerts wait");
        }
        Ok(())
    }

    fn meta(&self, key: &str) -> Result<Option<String>, LedgerError> {
        let mut select = self.connection.prepare_cached("SELECT value FROM meta WHERE key = ?")?;
        Ok(select.query_row([key], |row| row.get(0)).optional()?)
    }

    fn set_meta(&self, key: &str, value: &str) -> Result<(), LedgerError> {
        let set = "INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value";
        self.connection.prepare_cached(set)?.execute([key, value])?;
        Ok(())
    }

    fn number(&self, key: &str) -> Result<Option<i64>, LedgerError> {
        self.meta(key)?.map(|text| text.parse().map_err(|_| damaged(format!("{key} is {text}")))).transpose()
    }
}

#[cfg(test)]
mod tests {
    use taglog_proto::{note::SigningKey, time::Timestamp};

    use super::*;
    use crate::{alert::AlertKind, config::Way};

    pub(super) fn key(number: u8) -> VerifierKey {
        SigningKey::from_seed("log.example/x", &[number; 32]).unwrap().verifier_key().clone()
    }

    fn sink(name: &str, kinds: Option<&[AlertKind]>) -> SinkConfig {
        SinkConfig {
            name: name.to_owned(),
            kinds: kinds.map(|kinds| kinds.iter().copied().collect()),
            way: Way::Stdout,
        }
    }

    fn sinks() -> Vec<SinkConfig> {
        vec![sink("all", None), sink("some", Some(&[AlertKind::Violation]))]
    }

    fn alert(kind: AlertKind, about: &str) -> Alert {
        Alert::event(&key(1), kind, &[about], Timestamp::UNIX_EPOCH, format!("about {about}"))
    }

    fn abouts(pending: &[Pending]) -> Vec<&str> {
        pending.iter().map(|pending| pending.numbered.alert.message.as_str()).collect()
    }

    #[test]
    fn an_alert_is_kept_once_and_goes_to_those_who_take_it() {
        let home = tempfile::tempdir().unwrap();
        let (mut ledger, outbox) = Ledger::open(home.path(), &key(1), &sinks()).unwrap();
        ledger.begin().unwrap();
        assert!(ledger.raise(&alert(AlertKind::Retag, "a")).unwrap());
        assert!(!ledger.raise(&alert(AlertKind::Retag, "a")).unwrap());
        assert!(ledger.raise(&alert(AlertKind::Violation, "b")).unwrap());
        assert!(outbox.pending("all", 10).unwrap().is_empty(), "nothing is delivered before the commit");
        assert_eq!(ledger.commit().unwrap(), 2);
        assert_eq!(abouts(&outbox.pending("all", 10).unwrap()), ["about a", "about b"]);
        assert_eq!(abouts(&outbox.pending("some", 10).unwrap()), ["about b"]);
        drop((ledger, outbox));
        let (mut ledger, outbox) = Ledger::open(home.path(), &key(1), &sinks()).unwrap();
        assert!(!ledger.raise(&alert(AlertKind::Retag, "a")).unwrap(), "a restart forgets nothing");
        assert_eq!(outbox.pending("all", 10).unwrap().len(), 2);
    }

    #[test]
    fn each_sink_has_its_own_state() {
        let home = tempfile::tempdir().unwrap();
        let (mut ledger, outbox) = Ledger::open(home.path(), &key(1), &sinks()).unwrap();
        for about in ["a", "b", "c"] {
            ledger.raise(&alert(AlertKind::Violation, about)).unwrap();
        }
        ledger.commit().unwrap();
        let all = outbox.pending("all", 10).unwrap();
        outbox.delivered("all", &[all[1].numbered.sequence]).unwrap();
        outbox.failed("all", &[all[0].numbered.sequence]).unwrap();
        let rest = outbox.pending("all", 10).unwrap();
        assert_eq!(abouts(&rest), ["about c", "about a"], "what has failed comes after what was never tried");
        assert_eq!((rest[0].attempts, rest[1].attempts), (0, 1));
        assert_eq!(outbox.pending("some", 10).unwrap().len(), 3);
        assert_eq!(outbox.pending_count("all").unwrap(), 2);
        let newest = outbox.newest("all", 2).unwrap();
        assert_eq!(newest.iter().map(|n| n.alert.message.as_str()).collect::<Vec<_>>(), ["about c", "about b"]);
    }

    #[test]
    fn what_was_not_committed_never_was() {
        let home = tempfile::tempdir().unwrap();
        let (mut ledger, _) = Ledger::open(home.path(), &key(1), &sinks()).unwrap();
        ledger.begin().unwrap();
        ledger.raise(&alert(AlertKind::Retag, "a")).unwrap();
        drop(ledger);
        let (mut ledger, outbox) = Ledger::open(home.path(), &key(1), &sinks()).unwrap();
        assert!(outbox.pending("all", 10).unwrap().is_empty());
        assert!(ledger.raise(&alert(AlertKind::Retag, "a")).unwrap());
    }

    #[test]
    fn one_directory_is_for_one_monitor_of_one_log() {
        let home = tempfile::tempdir().unwrap();
        let first = Ledger::open(home.path(), &key(1), &[]).unwrap();
        assert!(matches!(Ledger::open(home.path(), &key(1), &[]), Err(LedgerError::Open(error)) if error.is_in_use()));
        drop(first);
        assert!(matches!(Ledger::open(home.path(), &key(2), &[]), Err(LedgerError::OtherLog(_))));
    }

    #[test]
    fn old_alerts_go_but_not_those_about_misbehaviour() {
        let home = tempfile::tempdir().unwrap();
        let (mut ledger, outbox) = Ledger::open(home.path(), &key(1), &sinks()).unwrap();
        ledger.raise(&alert(AlertKind::Violation, "v")).unwrap();
        for about in 0..20 {
            ledger.raise(&alert(AlertKind::Retag, &about.to_string())).unwrap();
        }
        ledger.commit().unwrap();
        ledger.keep_newest(5, 100).unwrap();
        assert_eq!(outbox.pending_count("all").unwrap(), 21);
        ledger.keep_newest(5, 0).unwrap();
        let left = outbox.pending("all", 100).unwrap();
        assert_eq!(abouts(&left), ["about v", "about 15", "about 16", "about 17", "about 18", "about 19"]);
    }
}
