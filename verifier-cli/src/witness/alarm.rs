//! Alarms: what a person must look at. Each is logged, counted, kept in the spool, and sent on.

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

/// How long the webhook has for its answer.
const WEBHOOK_TIMEOUT: Duration = Duration::from_secs(10);

/// How often one that stays up is logged and counted again: what is wrong with a clock is wrong for every tag.
const REPEAT: Duration = Duration::from_secs(60);

/// Subject and kind of what is up, and when it was last raised; `None`: by an agent before this one.
type Up = BTreeMap<(String, String), Option<Instant>>;

/// What kinds of alarms there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AlarmKind {
    /// A log gave a false proof or contradicts itself.
    Misbehaviour,
    /// A log has acknowledged an entry and not published it in time.
    Unpublished,
    /// A log will never take an entry.
    Refused,
    /// A log does not know this witness.
    NotAdmitted,
    /// The clock cannot be right.
    Clock,
    /// The spool cannot be written.
    Spool,
    /// The spool was damaged.
    SpoolDamaged,
}

impl AlarmKind {
    /// All of them.
    pub const ALL: [AlarmKind; 7] = [
        AlarmKind::Misbehaviour,
        AlarmKind::Unpublished,
        AlarmKind::Refused,
        AlarmKind::NotAdmitted,
        AlarmKind::Clock,
        AlarmKind::Spool,
        AlarmKind::SpoolDamaged,
    ];

    /// A short word that does not change between versions.
    pub fn as_str(self) -> &'static str {
        match self {
            AlarmKind::Misbehaviour => "misbehaviour",
            AlarmKind::Unpublished => "unpublished",
            AlarmKind::Refused => "refused",
            AlarmKind::NotAdmitted => "not-admitted",
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
    /// What is up, so that ending what is not costs nothing, and when it was last raised.
    up: Arc<Mutex<Up>>,
    raised: Arc<Notify>,
}

impl Alarms {
    /// Starts with the alarms that are up in the spool.
    pub fn new(spool: Spool, up: &[Alarm]) -> Alarms {
        let up = up.iter().map(|alarm| ((alarm.subject.clone(), alarm.kind.clone()), None)).collect();
        let alarms = Alarms { spool, up: Arc::new(Mutex::new(up)), raised: Arc::default() };
        alarms.gauge();
        // Some may not have been sent on before the last end.
        alarms.raised.notify_one();
        alarms
    }

    /// Raises an alarm, or counts it again, if that was not done a moment ago.
    pub async fn raise(&self, subject: &str, kind: AlarmKind, message: &str, evidence: Option<String>) {
        let now = Instant::now();
        let before = self.change(|up| up.insert((subject.to_owned(), kind.to_string()), Some(now)));
        let is_repetition = before.flatten().is_some_and(|last| now - last < REPEAT);
        if is_repetition && evidence.is_none() {
            // Its time stays the one of the last count.
            self.locked(|up| up.insert((subject.to_owned(), kind.to_string()), before.flatten()));
            return;
        }
        tracing::error!(subject, kind = kind.as_str(), evidence, "{message}");
        let now = Timestamp::from_system_time(SystemTime::now());
        let alarm = Alarm {
            subject: subject.to_owned(),
            kind: kind.to_string(),
            message: message.to_owned(),
            evidence,
            first: now,
            last: now,
            count: 1,
        };
        if let Err(error) = self.spool.raise(alarm).await {
            tracing::error!(%error, "the alarm could not be kept");
        }
        self.raised.notify_one();
    }

    /// Ends an alarm, if it is up.
    pub async fn clear(&self, subject: &str, kind: AlarmKind) {
        let key = (subject.to_owned(), kind.to_string());
        if !self.locked(|up| up.contains_key(&key)) {
            return;
        }
        let raised = self.change(|up| up.remove(&key)).flatten();
        tracing::info!(subject, kind = kind.as_str(), "the alarm is over");
        if let Err(error) = self.spool.clear(subject.to_owned(), kind.to_string()).await {
            tracing::error!(%error, "the end of the alarm could not be kept");
            self.change(|up| up.insert(key, raised));
        }
    }

    /// Forgets alarms that a person has ended from outside. The one about the spool may never have got into it.
    pub fn follow(&self, kept: &[Alarm]) {
        let is_kept = |subject: &str, kind: &str| {
            kind == AlarmKind::Spool.as_str() || kept.iter().any(|alarm| alarm.subject == subject && alarm.kind == kind)
        };
        self.change(|up| up.retain(|(subject, kind), _| is_kept(subject, kind)));
    }

    /// Whether an alarm of this kind is up.
    pub fn is_up(&self, kind: AlarmKind) -> bool {
        self.locked(|up| up.keys().any(|(_, other)| other == kind.as_str()))
    }

    fn locked<T>(&self, work: impl FnOnce(&mut Up) -> T) -> T {
        // Each use is a single operation on the map, so that a panic elsewhere cannot leave it half done.
        work(&mut self.up.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn change<T>(&self, work: impl FnOnce(&mut Up) -> T) -> T {
        let changed = self.locked(work);
        self.gauge();
        changed
    }

    fn gauge(&self) {
        for kind in AlarmKind::ALL {
            let up = self.locked(|up| up.keys().filter(|(_, other)| other == kind.as_str()).count());
            // Far fewer alarms than a float can count.
            metrics::gauge!("taglog_witness_alarms", "kind" => kind.as_str()).set(up as f64);
        }
    }

    /// Sends each new alarm to the webhook, at least once, until told to stop.
    pub async fn send_on(&self, url: String, witness: String, stop: CancellationToken) {
        let client = match Client::builder().timeout(WEBHOOK_TIMEOUT).build() {
            Ok(client) => client,
            Err(error) => return tracing::error!(%error, "alarms cannot be sent on"),
        };
        let backoff =
            ExponentialBuilder::default().with_max_delay(Duration::from_secs(300)).with_jitter().without_max_times();
        let mut delays = backoff.build();
        loop {
            let sent = self.send_unsent(&client, &url, &witness).await;
            let wait = match &sent {
                Ok(()) => None,
                Err(error) => {
                    tracing::warn!(%error, "an alarm could not be sent on, trying again");
                    delays.next()
                }
            };
            if sent.is_ok() {
                delays = backoff.build();
            }
            let retry = async {
                match wait {
                    Some(delay) => tokio::time::sleep(delay).await,
                    None => self.raised.notified().await,
                }
            };
            tokio::select! {
                () = retry => {}
                () = stop.cancelled() => return,
            }
        }
    }

    async fn send_unsent(&self, client: &Client, url: &str, witness: &str) -> Result<(), String> {
        for alarm in self.spool.unsent_alarms().await.map_err(|error| error.to_string())? {
            let body = alarm_json(&alarm, Some(witness));
            let response = client.post(url).json(&body).send().await.map_err(|error| error.to_string())?;
            response.error_for_status().map_err(|error| error.without_url().to_string())?;
            self.spool.alarm_sent(alarm.subject, alarm.kind).await.map_err(|error| error.to_string())?;
        }
        Ok(())
    }
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
