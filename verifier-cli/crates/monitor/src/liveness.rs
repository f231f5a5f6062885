//! The liveness of the log: whether it can be reached, its checkpoint is fresh, it grows, and its clock is correct. It
//! is determined from one poll after the other, by the local clock.

use std::time::Duration;

use taglog_proto::{note::VerifierKey, time::Timestamp};

use super::{
    alert::{Alert, AlertKind, AlertState},
    alert_store::{AlertStore, AlertStoreError, LogCondition},
    config::AlertDelays,
};

/// How many seconds the newest seal may be ahead of the local clock: as many as SPEC.md allows a seal to be ahead of
/// cosignatures.
const AHEAD: i64 = 300;

/// What one look at the log has found.
#[derive(Clone, Debug)]
pub struct PollResult {
    /// The time by the local clock.
    pub now: Timestamp,
    /// Why the log, or a part of it, could not be fetched.
    pub unreachable: Option<String>,
    /// The size of the newest checkpoint; `None` if none could be fetched.
    pub size: Option<u64>,
    /// The greatest size seen before, where that is greater.
    pub behind: Option<u64>,
    /// The time of the newest seal that was audited, now or before.
    pub seal: Option<Timestamp>,
    /// The freshness of the checkpoint: by cosignatures if the trust file has a quorum, else by the newest seal.
    pub fresh: Option<Timestamp>,
}

/// Raises and ends the alerts about conditions of the log as a whole.
#[derive(Clone, Debug)]
pub struct Liveness {
    log: VerifierKey,
    delays: AlertDelays,
}

/// A condition that holds.
struct ActiveCondition {
    since: Timestamp,
    /// How long it must hold before an alert is raised.
    delays: Duration,
    message: String,
}

impl Liveness {
    pub fn new(log: &VerifierKey, delays: AlertDelays) -> Liveness {
        Liveness { log: log.clone(), delays }
    }

    /// Updates all conditions from the result of a poll.
    pub fn check(&self, store: &mut AlertStore, poll: &PollResult) -> Result<(), AlertStoreError> {
        store.begin()?;
        self.update_condition(
            store,
            AlertKind::UnreachableLog,
            poll.now,
            self.unreachable(poll),
            "can be reached again",
        )?;
        self.update_condition(store, AlertKind::StaleLog, poll.now, self.stale(poll), "is fresh again")?;
        self.update_condition(store, AlertKind::LogAhead, poll.now, ahead(poll), "is no longer ahead of this clock")?;
        if let Some(size) = poll.size {
            let frozen = self.frozen(store, poll, size)?;
            self.update_condition(store, AlertKind::FrozenLog, poll.now, frozen, "grows again")?;
            self.update_condition(
                store,
                AlertKind::LogBehind,
                poll.now,
                self.behind(poll, size),
                "serves its whole history again",
            )?;
        }
        Ok(())
    }

    fn unreachable(&self, poll: &PollResult) -> Option<ActiveCondition> {
        let why = poll.unreachable.as_ref()?;
        let message = format!("the log {} cannot be audited: {why}", self.log.name());
        Some(ActiveCondition { since: poll.now, delays: self.delays.unreachable, message })
    }

    fn stale(&self, poll: &PollResult) -> Option<ActiveCondition> {
        let since = poll.fresh.filter(|fresh| age(*fresh, poll.now) > seconds(self.delays.staleness))?;
        let message = format!("the newest checkpoint of the log {} is from {since}", self.log.name());
        Some(ActiveCondition { since, delays: Duration::ZERO, message })
    }

    fn frozen(
        &self,
        store: &AlertStore,
        poll: &PollResult,
        size: u64,
    ) -> Result<Option<ActiveCondition>, AlertStoreError> {
        let Some((_, since)) = store.grown()?.filter(|(grown, _)| size <= *grown) else {
            store.set_grown(size, poll.now)?;
            return Ok(None);
        };
        let message = format!("the log {} answers, but has not grown beyond {size} entries", self.log.name());
        let holds = age(since, poll.now) > seconds(self.delays.frozenness);
        Ok(holds.then_some(ActiveCondition { since, delays: Duration::ZERO, message }))
    }

    fn behind(&self, poll: &PollResult, size: u64) -> Option<ActiveCondition> {
        let greatest = poll.behind?;
        let message = format!("the log {} serves {size} entries, but has served {greatest} before", self.log.name());
        Some(ActiveCondition { since: poll.now, delays: self.delays.unreachable, message })
    }

    /// Updates the stored condition, and raises an alert when it has held long enough or has ended. It holds since the
    /// poll that first found it.
    fn update_condition(
        &self,
        store: &mut AlertStore,
        kind: AlertKind,
        now: Timestamp,
        active: Option<ActiveCondition>,
        over: &str,
    ) -> Result<(), AlertStoreError> {
        let known = store.condition(kind)?;
        let gauge = metrics::gauge!("taglog_monitor_condition", "kind" => kind.as_str());
        let Some(ActiveCondition { since, delays, message }) = active else {
            gauge.set(0.0);
            let Some(known) = known else { return Ok(()) };
            store.set_condition(kind, None)?;
            if known.raised {
                let message = format!("the log {} {over}", self.log.name());
                store.raise(&self.alert(kind, AlertState::Ended, known.since, now, message))?;
            }
            return Ok(());
        };
        let mut condition = known.unwrap_or(LogCondition { since, raised: false });
        if !condition.raised && age(condition.since, now) >= seconds(delays) {
            condition.raised = true;
            let message = format!("{message} (since {})", condition.since);
            store.raise(&self.alert(kind, AlertState::Raised, condition.since, now, message))?;
        }
        gauge.set(f64::from(u8::from(condition.raised)));
        if known != Some(condition) {
            store.set_condition(kind, Some(&condition))?;
        }
        Ok(())
    }

    fn alert(&self, kind: AlertKind, state: AlertState, since: Timestamp, now: Timestamp, message: String) -> Alert {
        let about = since.to_string();
        Alert::condition(&self.log, kind, state, &[&about], now, message).with_since(since)
    }
}

fn ahead(poll: &PollResult) -> Option<ActiveCondition> {
    let seal = poll.seal.filter(|seal| age(*seal, poll.now) < -AHEAD)?;
    let message = format!("the newest seal is dated {seal}, which is in the future by the local clock");
    Some(ActiveCondition { since: poll.now, delays: Duration::ZERO, message })
}

/// Seconds from then to now.
fn age(then: Timestamp, now: Timestamp) -> i64 {
    now.unix().saturating_sub(then.unix())
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        alert_store::Outbox,
        config::{SinkConfig, SinkTarget},
    };

    const HOUR: i64 = 3600;
    const START: i64 = 1_800_000_000;

    struct Scene {
        store: AlertStore,
        outbox: Outbox,
        liveness: Liveness,
        told: usize,
        _home: tempfile::TempDir,
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix(START + seconds).unwrap()
    }

    /// A poll of a log in good condition.
    fn well(now: i64, size: u64) -> PollResult {
        let seal = Some(at(now));
        PollResult { now: at(now), unreachable: None, size: Some(size), behind: None, seal, fresh: seal }
    }

    impl Scene {
        fn new() -> Scene {
            let home = tempfile::tempdir().unwrap();
            let key = taglog_proto::note::SigningKey::from_seed("log.example/x", &[1; 32]).unwrap();
            let sink = SinkConfig { name: "all".to_owned(), kinds: None, target: SinkTarget::Stdout };
            let (store, outbox) = AlertStore::open(home.path(), key.verifier_key(), &[sink]).unwrap();
            let hours = |n: u64| Duration::from_secs(n * 3600);
            let delays = AlertDelays {
                disagreement: hours(1),
                silence: hours(1),
                staleness: hours(1),
                frozenness: hours(2),
                unreachable: hours(3),
            };
            Scene { store, outbox, liveness: Liveness::new(key.verifier_key(), delays), told: 0, _home: home }
        }

        /// The kind and state of each new alert after a poll.
        fn poll(&mut self, poll: &PollResult) -> Vec<(AlertKind, AlertState)> {
            self.liveness.check(&mut self.store, poll).unwrap();
            self.store.commit().unwrap();
            let all = self.outbox.pending("all", 100).unwrap();
            let new =
                all[self.told..].iter().map(|pending| (pending.sequenced.alert.kind, pending.sequenced.alert.state));
            let new = new.collect();
            self.told = all.len();
            new
        }
    }

    #[test]
    fn a_healthy_log_raises_no_alerts() {
        let mut scene = Scene::new();
        for hour in 0..10 {
            assert!(scene.poll(&well(hour * HOUR, 10 + hour as u64)).is_empty());
        }
    }

    #[test]
    fn an_unreachable_log_is_reported_once_after_its_delay() {
        let mut scene = Scene::new();
        scene.poll(&well(0, 10));
        let away =
            |now| PollResult { unreachable: Some("refused".to_owned()), size: None, fresh: None, ..well(now, 10) };
        assert!(scene.poll(&away(HOUR)).is_empty() && scene.poll(&away(3 * HOUR)).is_empty());
        assert_eq!(scene.poll(&away(4 * HOUR)), [(AlertKind::UnreachableLog, AlertState::Raised)]);
        assert!(scene.poll(&away(5 * HOUR)).is_empty());
        let ended = scene.poll(&well(6 * HOUR, 11));
        assert_eq!(ended, [(AlertKind::UnreachableLog, AlertState::Ended)]);
        scene.poll(&away(7 * HOUR));
        assert!(scene.poll(&well(8 * HOUR, 12)).is_empty(), "what was not said does not end either");
    }

    #[test]
    fn a_stale_checkpoint_is_reported_once() {
        let mut scene = Scene::new();
        let old = |now, fresh| PollResult { fresh: Some(at(fresh)), ..well(now, now as u64) };
        assert!(scene.poll(&old(HOUR, 0)).is_empty());
        assert_eq!(scene.poll(&old(HOUR + 1, 0)), [(AlertKind::StaleLog, AlertState::Raised)]);
        // It moves on, and is too old all the same: it is one alert.
        assert!(scene.poll(&old(3 * HOUR, HOUR)).is_empty());
        assert_eq!(scene.poll(&old(4 * HOUR, 4 * HOUR)), [(AlertKind::StaleLog, AlertState::Ended)]);
        assert_eq!(scene.poll(&old(9 * HOUR, 4 * HOUR)), [(AlertKind::StaleLog, AlertState::Raised)]);
    }

    #[test]
    fn a_log_that_does_not_grow_is_reported() {
        let mut scene = Scene::new();
        scene.poll(&well(0, 10));
        assert!(scene.poll(&well(2 * HOUR, 10)).is_empty());
        assert_eq!(scene.poll(&well(3 * HOUR, 10)), [(AlertKind::FrozenLog, AlertState::Raised)]);
        assert!(scene.poll(&well(4 * HOUR, 9)).is_empty(), "less is not more");
        assert_eq!(scene.poll(&well(5 * HOUR, 11)), [(AlertKind::FrozenLog, AlertState::Ended)]);
    }

    #[test]
    fn a_seal_in_the_future_is_reported() {
        let mut scene = Scene::new();
        let ahead = |now: i64, by: i64| PollResult { seal: Some(at(now + by)), ..well(now, now as u64) };
        assert!(scene.poll(&ahead(0, 300)).is_empty());
        assert_eq!(scene.poll(&ahead(1, 301)), [(AlertKind::LogAhead, AlertState::Raised)]);
        assert_eq!(scene.poll(&ahead(2, 0)), [(AlertKind::LogAhead, AlertState::Ended)]);
    }

    #[test]
    fn a_log_that_shrinks_is_reported_after_its_delay() {
        let mut scene = Scene::new();
        let less = |now| PollResult { behind: Some(20), ..well(now, 10) };
        assert!(scene.poll(&less(0)).is_empty(), "a cache may be a moment behind");
        let said = scene.poll(&less(3 * HOUR));
        assert!(said.contains(&(AlertKind::LogBehind, AlertState::Raised)), "{said:?}");
        assert!(scene.poll(&well(3 * HOUR, 21)).contains(&(AlertKind::LogBehind, AlertState::Ended)));
    }

    #[test]
    fn conditions_are_not_reported_again_after_a_restart() {
        let mut scene = Scene::new();
        let old = PollResult { fresh: Some(at(0)), ..well(5 * HOUR, 10) };
        assert_eq!(scene.poll(&old).len(), 1);
        // All state is in the alert store.
        scene.liveness = Liveness::new(&scene.liveness.log.clone(), scene.liveness.delays);
        assert!(scene.poll(&PollResult { now: at(5 * HOUR + 1), ..old }).is_empty());
    }
}
