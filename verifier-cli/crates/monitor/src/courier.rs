//! Couriers: one brings alerts from the outbox to one sink, at least once, whatever becomes of the others.

use std::{collections::HashSet, time::Duration};

use backon::{BackoffBuilder as _, ExponentialBuilder, Retryable as _};
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use super::{
    alert::Numbered,
    ledger::{LedgerError, Outbox},
    sinks::{Sink, SinkError, feed::Feed},
};

/// How many alerts are read at once.
const PAGE: u32 = 100;
/// The longest pause before a sink that fails is tried again.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// How often it is looked for alerts that nobody has announced.
const IDLE: Duration = Duration::from_secs(60);
/// How often an alert is tried again by a monitor that is about to end.
const LAST_TRIES: usize = 3;

/// Brings alerts to one sink.
#[derive(Debug)]
pub struct Courier {
    name: String,
    sink: Sink,
    outbox: Outbox,
}

/// Why a round ended early, or not all of it went well.
#[derive(Clone, Debug)]
enum Trouble {
    Sink(SinkError),
    Ledger(LedgerError),
}

impl Trouble {
    fn reason(&self) -> String {
        match self {
            Trouble::Sink(error) => error.reason().to_owned(),
            Trouble::Ledger(error) => error.to_string(),
        }
    }
}

impl From<LedgerError> for Trouble {
    fn from(error: LedgerError) -> Trouble {
        Trouble::Ledger(error)
    }
}

impl Courier {
    /// A courier for the sink of this name.
    pub fn new(name: &str, sink: Sink, outbox: Outbox) -> Courier {
        Courier { name: name.to_owned(), sink, outbox }
    }

    /// Delivers until told to stop. What is under way then may end.
    pub async fn run(self, stop: CancellationToken) {
        let backoff = ExponentialBuilder::default().with_max_delay(LONGEST_PAUSE).with_jitter().without_max_times();
        let mut delays = backoff.build();
        let mut news = self.outbox.news();
        while !stop.is_cancelled() {
            news.mark_unchanged();
            let pause = match self.round().await {
                Ok(()) => {
                    delays = backoff.build();
                    IDLE
                }
                Err(trouble) => {
                    tracing::warn!(sink = self.name, "alerts are not delivered, trying again: {}", trouble.reason());
                    delays.next().unwrap_or(LONGEST_PAUSE)
                }
            };
            // While a sink fails, news are no reason to try it sooner.
            let fails = pause != IDLE;
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(pause) => {}
                changed = news.changed(), if !fails => if changed.is_err() { stop.cancelled().await },
            }
        }
    }

    /// Delivers all that there is, with a few tries.
    ///
    /// # Errors
    /// In words, when something could not be delivered.
    pub async fn drain(&self) -> Result<(), String> {
        let pauses = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(500))
            .with_max_times(LAST_TRIES)
            .with_jitter();
        let outcome = (|| self.round()).retry(pauses).await;
        outcome.map_err(|trouble| format!("sink {}: {}", self.name, trouble.reason()))
    }

    /// Tries every alert that the sink has still to get once, or until nothing gets through.
    async fn round(&self) -> Result<(), Trouble> {
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

    async fn send_all(&self) -> Result<(), Trouble> {
        let (mut tried, mut refused) = (HashSet::new(), None);
        loop {
            let page = self.with(|outbox, name| outbox.pending(name, PAGE)).await?;
            let page: Vec<Numbered> = page.into_iter().map(|pending| pending.numbered).collect();
            let new: Vec<Numbered> = page.into_iter().filter(|alert| tried.insert(alert.sequence)).collect();
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
                            SinkError::Refused(_) => refused = Some(Trouble::Sink(error)),
                            SinkError::Unavailable(_) => return Err(Trouble::Sink(error)),
                        }
                    }
                }
            }
        }
    }

    /// Makes the feed anew if something is missing in it.
    async fn feed(&self, feed: &Feed) -> Result<(), Trouble> {
        loop {
            let pending = self.with(|outbox, name| outbox.pending(name, PAGE)).await?;
            if pending.is_empty() && feed.exists() {
                return Ok(());
            }
            let most = u32::try_from(feed.entries()).unwrap_or(u32::MAX);
            // Read after `pending`, so that nothing is marked that is not in it, or too old for it.
            let newest = self.with(move |outbox, name| outbox.newest(name, most)).await?;
            feed.write(&newest).map_err(Trouble::Sink)?;
            let sequences: Vec<i64> = pending.iter().map(|pending| pending.numbered.sequence).collect();
            self.with(move |outbox, name| outbox.delivered(name, &sequences)).await?;
        }
    }

    /// Asks the outbox on a thread that may wait for the disk.
    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Outbox, &str) -> Result<T, LedgerError> + Send + 'static,
    ) -> Result<T, LedgerError> {
        let (outbox, name) = (self.outbox.clone(), self.name.clone());
        let done = spawn_blocking(move || work(&outbox, &name)).await;
        done.unwrap_or_else(|error| Err(LedgerError::Database(error.to_string())))
    }
}

#[cfg(test)]
mod tests;
