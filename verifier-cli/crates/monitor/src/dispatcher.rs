//! Dispatchers: each delivers alerts from the outbox to one sink, at least once, independently of the other sinks.

use std::{collections::HashSet, time::Duration};

use backon::{BackoffBuilder as _, ExponentialBuilder, Retryable as _};
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use super::{
    alert::SequencedAlert,
    alert_store::{AlertStoreError, Outbox},
    sinks::{Sink, SinkError, feed::Feed},
};

/// How many alerts are read from the store at once.
const PAGE: u32 = 100;
/// The longest delay before a failed delivery is retried.
const MAX_RETRY_DELAY: Duration = Duration::from_secs(300);
/// How often the store is read although no new alert was announced.
const IDLE_INTERVAL: Duration = Duration::from_secs(60);
/// How often a delivery is retried with `--once`.
const FINAL_RETRIES: usize = 3;

/// Delivers alerts to one sink.
#[derive(Debug)]
pub struct Dispatcher {
    name: String,
    sink: Sink,
    outbox: Outbox,
}

/// Why not all pending alerts were delivered.
#[derive(Clone, Debug)]
enum DispatchError {
    Sink(SinkError),
    AlertStore(AlertStoreError),
}

impl DispatchError {
    fn reason(&self) -> String {
        match self {
            DispatchError::Sink(error) => error.reason().to_owned(),
            DispatchError::AlertStore(error) => error.to_string(),
        }
    }
}

impl From<AlertStoreError> for DispatchError {
    fn from(error: AlertStoreError) -> DispatchError {
        DispatchError::AlertStore(error)
    }
}

impl Dispatcher {
    pub fn new(name: &str, sink: Sink, outbox: Outbox) -> Dispatcher {
        Dispatcher { name: name.to_owned(), sink, outbox }
    }

    /// Delivers until `stop`. A delivery that has started then is completed.
    pub async fn run(self, stop: CancellationToken) {
        let backoff = ExponentialBuilder::default().with_max_delay(MAX_RETRY_DELAY).with_jitter().without_max_times();
        let mut delays = backoff.build();
        let mut news = self.outbox.news();
        while !stop.is_cancelled() {
            news.mark_unchanged();
            let pause = match self.deliver_pending().await {
                Ok(()) => {
                    delays = backoff.build();
                    IDLE_INTERVAL
                }
                Err(error) => {
                    tracing::warn!(
                        sink = self.name,
                        "alerts could not be delivered and will be retried: {}",
                        error.reason()
                    );
                    delays.next().unwrap_or(MAX_RETRY_DELAY)
                }
            };
            // New alerts do not shorten the retry delay of a failed sink.
            let fails = pause != IDLE_INTERVAL;
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(pause) => {}
                changed = news.changed(), if !fails => if changed.is_err() { stop.cancelled().await },
            }
        }
    }

    /// Delivers all pending alerts, with a few retries.
    pub async fn drain(&self) -> Result<(), String> {
        let pauses = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(500))
            .with_max_times(FINAL_RETRIES)
            .with_jitter();
        let outcome = (|| self.deliver_pending()).retry(pauses).await;
        outcome.map_err(|error| format!("sink {}: {}", self.name, error.reason()))
    }

    /// Tries to deliver every pending alert once, until the sink is unavailable.
    async fn deliver_pending(&self) -> Result<(), DispatchError> {
        let outcome = match &self.sink {
            Sink::Feed(feed) => self.feed(feed).await,
            _ => self.send_all().await,
        };
        if outcome.is_err() {
            metrics::counter!("taglog_monitor_delivery_failures_total", "sink" => self.name.clone()).increment(1);
        }
        let pending = self.with(Outbox::pending_count).await?;
        // Far fewer alerts than a float can count.
        metrics::gauge!("taglog_monitor_pending_alerts", "sink" => self.name.clone()).set(pending as f64);
        outcome
    }

    async fn send_all(&self) -> Result<(), DispatchError> {
        let (mut tried, mut refused) = (HashSet::new(), None);
        loop {
            let page = self.with(|outbox, name| outbox.pending(name, PAGE)).await?;
            let page: Vec<SequencedAlert> = page.into_iter().map(|pending| pending.sequenced).collect();
            let new: Vec<SequencedAlert> = page.into_iter().filter(|alert| tried.insert(alert.sequence)).collect();
            if new.is_empty() {
                return refused.map_or(Ok(()), Err);
            }
            for group in new.chunks(self.sink.group()) {
                let sequences: Vec<i64> = group.iter().map(|alert| alert.sequence).collect();
                match self.sink.send(group).await {
                    Ok(()) => self.with(move |outbox, name| outbox.delivered(name, &sequences)).await?,
                    Err(error) => {
                        self.with(move |outbox, name| outbox.failed(name, &sequences)).await?;
                        match error {
                            SinkError::Refused(_) => refused = Some(DispatchError::Sink(error)),
                            SinkError::Unavailable(_) => return Err(DispatchError::Sink(error)),
                        }
                    }
                }
            }
        }
    }

    /// Rebuilds the feed if alerts are missing in it.
    async fn feed(&self, feed: &Feed) -> Result<(), DispatchError> {
        loop {
            let pending = self.with(|outbox, name| outbox.pending(name, PAGE)).await?;
            if pending.is_empty() && feed.exists() {
                return Ok(());
            }
            let most = u32::try_from(feed.entries()).unwrap_or(u32::MAX);
            // Read after `pending`: every alert that is marked as delivered is in the feed, or too old for it.
            let newest = self.with(move |outbox, name| outbox.newest(name, most)).await?;
            feed.write(&newest).map_err(DispatchError::Sink)?;
            let sequences: Vec<i64> = pending.iter().map(|pending| pending.sequenced.sequence).collect();
            self.with(move |outbox, name| outbox.delivered(name, &sequences)).await?;
        }
    }

    /// Uses the outbox on a blocking thread.
    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Outbox, &str) -> Result<T, AlertStoreError> + Send + 'static,
    ) -> Result<T, AlertStoreError> {
        let (outbox, name) = (self.outbox.clone(), self.name.clone());
        let done = spawn_blocking(move || work(&outbox, &name)).await;
        done.unwrap_or_else(|error| Err(AlertStoreError::Database(error.to_string())))
    }
}

#[cfg(test)]
mod tests;
