//! Alarms: conditions that need an operator. Each is logged, counted, stored in the spool, and sent to the webhook.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use backon::{BackoffBuilder as _, ExponentialBuilder};
use reqwest::Client;
use serde_json::json;
use taglog_proto::time::Timestamp;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::spool::{Alarm, Spool};

const WEBHOOK_TIMEOUT: Duration = Duration::from_secs(10);

/// The interval at which an active alarm is logged and counted again: a wrong clock concerns every tag.
const REPEAT: Duration = Duration::from_secs(60);

/// How long a new alarm may be missing from the alarms that were read from the spool meanwhile.
const SETTLING: Duration = Duration::from_secs(10);

/// Subject and kind.
type AlarmKey = (String, String);

/// The active alarms, cached in memory.
#[derive(Debug, Default)]
struct ActiveAlarms {
    /// Active alarms, and when they were last stored; `None`: by an earlier agent.
    up: BTreeMap<AlarmKey, Option<Instant>>,
    /// Alarms that were logged within [`REPEAT`], also ended ones.
    logged: BTreeMap<AlarmKey, Instant>,
}

/// What raising an alarm has changed.
#[derive(Debug, PartialEq, Eq)]
enum AlarmChange {
    /// It is active and was logged recently.
    Unchanged,
    /// It had ended shortly before: it is stored again, but not logged.
    Reinstated,
    /// It is logged, counted and sent.
    New,
}

impl ActiveAlarms {
    /// Marks an alarm as active.
    fn raise(&mut self, key: &AlarmKey, has_evidence: bool) -> AlarmChange {
        let now = Instant::now();
        self.logged.retain(|_, last| now - *last < REPEAT);
        let is_new = has_evidence || !self.logged.contains_key(key);
        if is_new {
            self.logged.insert(key.clone(), now);
        }
        if !is_new && self.up.contains_key(key) {
            return AlarmChange::Unchanged;
        }
        self.up.insert(key.clone(), Some(now));
        if is_new { AlarmChange::New } else { AlarmChange::Reinstated }
    }
}

/// The kinds of alarms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AlarmKind {
    /// A log gave a false proof or contradicted itself.
    Misbehaviour,
    /// A log has acknowledged an entry and not published it in time.
    Unpublished,
    /// A log refuses an entry permanently.
    Refused,
    /// A log does not know this witness.
    NotAdmitted,
    /// Entries wait for a log that has accepted none for too long.
    Undelivered,
    /// The remembered checkpoint of a log cannot be read or written.
    Memory,
    /// The clock is wrong.
    Clock,
    /// The spool cannot be written.
    Spool,
    /// The spool was damaged.
    SpoolDamaged,
}

impl AlarmKind {
    pub const ALL: [AlarmKind; 9] = [
        AlarmKind::Misbehaviour,
        AlarmKind::Unpublished,
        AlarmKind::Refused,
        AlarmKind::NotAdmitted,
        AlarmKind::Undelivered,
        AlarmKind::Memory,
        AlarmKind::Clock,
        AlarmKind::Spool,
        AlarmKind::SpoolDamaged,
    ];

    /// The name in metrics and JSON; stable between versions.
    pub fn as_str(self) -> &'static str {
        match self {
            AlarmKind::Misbehaviour => "misbehaviour",
            AlarmKind::Unpublished => "unpublished",
            AlarmKind::Refused => "refused",
            AlarmKind::NotAdmitted => "not-admitted",
            AlarmKind::Undelivered => "undelivered",
            AlarmKind::Memory => "memory",
            AlarmKind::Clock => "clock",
            AlarmKind::Spool => "spool",
            AlarmKind::SpoolDamaged => "spool-damaged",
        }
    }
}

impl fmt::Display for AlarmKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Raises and ends alarms. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Alarms {
    spool: Spool,
    /// Makes ending an inactive alarm cheap.
    known: Arc<Mutex<ActiveAlarms>>,
    raised: Arc<Notify>,
}

impl Alarms {
    /// Starts with the active alarms of the spool.
    pub fn new(spool: Spool, up: &[Alarm]) -> Alarms {
        let up = up.iter().map(|alarm| ((alarm.subject.clone(), alarm.kind.clone()), None)).collect();
        let known = ActiveAlarms { up, ..ActiveAlarms::default() };
        let alarms = Alarms { spool, known: Arc::new(Mutex::new(known)), raised: Arc::default() };
        alarms.gauge();
        // Some may not have been sent before the last shutdown.
        alarms.raised.notify_one();
        alarms
    }

    /// Raises an alarm, or counts it again unless that was done recently.
    pub async fn raise(&self, subject: &str, kind: AlarmKind, message: &str, evidence: Option<String>) {
        let key = (subject.to_owned(), kind.to_string());
        let change = self.change(|known| known.raise(&key, evidence.is_some()));
        match change {
            AlarmChange::Unchanged => return,
            AlarmChange::Reinstated => tracing::debug!(subject, kind = kind.as_str(), "{message}"),
            AlarmChange::New => tracing::error!(subject, kind = kind.as_str(), evidence, "{message}"),
        }
        let now = Timestamp::from_system_time(SystemTime::now());
        let alarm = Alarm {
            subject: key.0,
            kind: key.1,
            message: message.to_owned(),
            evidence,
            first: now,
            last: now,
            count: 1,
        };
        if let Err(error) = self.spool.raise(alarm).await {
            tracing::error!(%error, "the alarm could not be stored");
        }
        if change == AlarmChange::New {
            self.raised.notify_one();
        }
    }

    /// Ends an alarm, if it is active.
    pub async fn clear(&self, subject: &str, kind: AlarmKind) {
        let key = (subject.to_owned(), kind.to_string());
        let Some(raised) = self.locked(|known| known.up.remove(&key)) else { return };
        self.gauge();
        tracing::info!(subject, kind = kind.as_str(), "the alarm has ended");
        if let Err(error) = self.spool.clear(subject.to_owned(), kind.to_string()).await {
            tracing::error!(%error, "the end of the alarm could not be stored");
            self.change(|known| known.up.insert(key, raised));
        }
    }

    /// Drops alarms that were acknowledged with `status --acknowledge`: those that are not in `kept`. The alarm about the
    /// spool may never have been stored, and a new one may have been stored after `kept` was read.
    pub fn follow(&self, kept: &[Alarm]) {
        let is_kept = |subject: &str, kind: &str| {
            kind == AlarmKind::Spool.as_str() || kept.iter().any(|alarm| alarm.subject == subject && alarm.kind == kind)
        };
        let is_fresh = |raised: &Option<Instant>| raised.is_some_and(|raised| raised.elapsed() < SETTLING);
        self.change(|known| known.up.retain(|(subject, kind), raised| is_fresh(raised) || is_kept(subject, kind)));
    }

    /// Whether an alarm of this kind is active.
    pub fn is_up(&self, kind: AlarmKind) -> bool {
        self.locked(|known| known.up.keys().any(|(_, other)| other == kind.as_str()))
    }

    fn locked<T>(&self, work: impl FnOnce(&mut ActiveAlarms) -> T) -> T {
        // Nothing that is done with it can panic halfway through a change.
        work(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn change<T>(&self, work: impl FnOnce(&mut ActiveAlarms) -> T) -> T {
        let changed = self.locked(work);
        self.gauge();
        changed
    }

    fn gauge(&self) {
        for kind in AlarmKind::ALL {
            let up = self.locked(|known| known.up.keys().filter(|(_, other)| other == kind.as_str()).count());
            // Far fewer alarms than a float can count.
            metrics::gauge!("taglog_witness_alarms", "kind" => kind.as_str()).set(up as f64);
        }
    }

    /// Sends each new alarm to the webhook, at least once, until `stop` is cancelled.
    pub async fn send_on(&self, url: String, witness: String, stop: CancellationToken) {
        tokio::select! {
            // May be aborted at any time: an alarm that is not marked as sent is sent again.
            () = self.keep_sending(&url, &witness) => {}
            () = stop.cancelled() => {}
        }
    }

    async fn keep_sending(&self, url: &str, witness: &str) {
        let backoff =
            ExponentialBuilder::default().with_max_delay(Duration::from_secs(300)).with_jitter().without_max_times();
        let mut delays = backoff.build();
        loop {
            match self.send_unsent(url, witness).await {
                Ok(()) => {
                    delays = backoff.build();
                    // A reinstated alarm does not notify, but is sent if it stays active.
                    let _ = tokio::time::timeout(REPEAT, self.raised.notified()).await;
                }
                Err(error) => {
                    tracing::warn!(%error, "an alarm could not be sent, trying again");
                    tokio::time::sleep(delays.next().unwrap_or_default()).await;
                }
            }
        }
    }

    /// Sends each new alarm to the webhook; stops at the first failure.
    ///
    /// # Errors
    /// The reason, without the webhook's URL, which may hold a secret.
    pub async fn send_unsent(&self, url: &str, witness: &str) -> Result<(), String> {
        let unsent = self.spool.unsent_alarms().await.map_err(|error| error.to_string())?;
        if unsent.is_empty() {
            return Ok(());
        }
        let client = Client::builder().timeout(WEBHOOK_TIMEOUT).build().map_err(without_url)?;
        for alarm in unsent {
            let body = alarm_json(&alarm, Some(witness));
            let response = client.post(url).json(&body).send().await.map_err(without_url)?;
            response.error_for_status().map_err(without_url)?;
            self.spool.alarm_sent(alarm.subject, alarm.kind).await.map_err(|error| error.to_string())?;
        }
        Ok(())
    }
}

fn without_url(error: reqwest::Error) -> String {
    error.without_url().to_string()
}

/// An alarm as JSON, for the webhook and for `status`.
pub fn alarm_json(alarm: &Alarm, witness: Option<&str>) -> serde_json::Value {
    let mut value = json!({
        "subject": alarm.subject,
        "kind": alarm.kind,
        "message": alarm.message,
        "evidence": alarm.evidence,
        "first": alarm.first.to_string(),
        "last": alarm.last.to_string(),
        "count": alarm.count,
    });
    if let Some(witness) = witness {
        value["witness"] = witness.into();
    }
    value
}

#[cfg(test)]
mod tests {
    use axum::{Json, Router, extract::State, routing::post};
    use futures_util::FutureExt as _;
    use taglog_proto::note::SigningKey;
    use tokio::sync::mpsc;

    use super::*;

    const KIND: AlarmKind = AlarmKind::Clock;

    /// Alarms in a spool of their own.
    fn alarms() -> (Alarms, tempfile::TempDir) {
        let home = tempfile::tempdir().unwrap();
        let key = SigningKey::from_seed("w.example/a", &[1; 32]).unwrap();
        let (spool, _guard, opened) = Spool::open(home.path(), key.verifier_key(), &[], 64 << 20).unwrap();
        let alarms = Alarms::new(spool, &opened.alarms);
        assert!(is_announced(&alarms), "what was there before");
        (alarms, home)
    }

    fn is_announced(alarms: &Alarms) -> bool {
        alarms.raised.notified().now_or_never().is_some()
    }

    async fn kept(alarms: &Alarms) -> Vec<u64> {
        alarms.spool.alarms().await.unwrap().iter().map(|alarm| alarm.count).collect()
    }

    #[tokio::test]
    async fn an_alarm_that_ends_and_returns_is_announced_once() {
        let (alarms, _home) = alarms();
        alarms.raise("r.example", KIND, "wrong", None).await;
        assert!(is_announced(&alarms));
        for _ in 0..2 {
            alarms.clear("r.example", KIND).await;
            assert_eq!((alarms.is_up(KIND), kept(&alarms).await), (false, vec![]));
            for _ in 0..2 {
                alarms.raise("r.example", KIND, "wrong", None).await;
                assert_eq!((alarms.is_up(KIND), kept(&alarms).await), (true, vec![1]));
                assert!(!is_announced(&alarms), "it was announced recently");
            }
        }
        alarms.raise("r.example", KIND, "wrong", Some("evidence".to_owned())).await;
        assert!(is_announced(&alarms), "evidence is always news");
        alarms.raise("other.example", KIND, "wrong", None).await;
        assert!(is_announced(&alarms));
    }

    #[tokio::test]
    async fn a_new_alarm_is_not_dropped_as_acknowledged() {
        let (alarms, _home) = alarms();
        let before = alarms.spool.alarms().await.unwrap();
        alarms.raise("r.example", KIND, "wrong", None).await;
        alarms.follow(&before);
        assert!(alarms.is_up(KIND));
        // One that an agent before has raised, and that a person has seen.
        let restarted = Alarms::new(alarms.spool.clone(), &alarms.spool.alarms().await.unwrap());
        assert!(restarted.is_up(KIND));
        restarted.follow(&before);
        assert!(!restarted.is_up(KIND));
    }

    #[tokio::test]
    async fn each_alarm_is_sent_once() {
        let (alarms, _home) = alarms();
        let (sender, mut received) = mpsc::unbounded_channel();
        let take = |State(sender): State<mpsc::UnboundedSender<serde_json::Value>>, Json(alarm)| async move {
            sender.send(alarm).unwrap();
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let router = Router::new().route("/", post(take)).with_state(sender);
        let server = tokio::spawn(async move { axum::serve(listener, router).await });
        alarms.raise("r.example", KIND, "wrong", None).await;
        for _ in 0..2 {
            alarms.send_unsent(&url, "w.example/a").await.unwrap();
        }
        let first = received.try_recv().unwrap();
        assert_eq!((&first["subject"], &first["witness"]), (&"r.example".into(), &"w.example/a".into()));
        assert!(received.try_recv().is_err(), "it is sent twice");
        server.abort();
    }

    #[tokio::test]
    async fn errors_do_not_contain_the_url_of_the_webhook() {
        let (alarms, _home) = alarms();
        alarms.raise("r.example", KIND, "wrong", None).await;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/token", listener.local_addr().unwrap());
        let server = tokio::spawn(async move { axum::serve(listener, Router::new()).await });
        let refused = alarms.send_unsent(&url, "w").await.unwrap_err();
        assert!(refused.contains("404") && !refused.contains("token"), "{refused}");
        server.abort();
        assert!(server.await.unwrap_err().is_cancelled());
        let unreachable = alarms.send_unsent(&url, "w").await.unwrap_err();
        assert!(!unreachable.contains("token"), "{unreachable}");
    }
}
