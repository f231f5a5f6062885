//! Whether the log lives: it can be reached, its word is fresh, it grows, and its clock is right. This goes by the
//! clock of this machine, and by what one look at the log after the other finds.

use std::time::Duration;

use taglog_proto::{note::VerifierKey, time::Timestamp};

use super::{
    alert::{Alert, AlertKind, State},
    config::Patience,
    ledger::{Condition, Ledger, LedgerError},
};

/// How far the newest seal may be dated ahead of this machine's clock, in seconds: as far as SPEC.md lets a seal be
/// ahead of the cosignatures.
const AHEAD: i64 = 300;

/// What one look at the log has found.
#[derive(Clone, Debug)]
pub struct Look {
    /// When, by the clock of this machine.
    pub now: Timestamp,
    /// Why the log, or a part of it, could not be had.
    pub unreachable: Option<String>,
    /// The size of the newest checkpoint; `None` if there was none to be had now.
    pub size: Option<u64>,
    /// The greatest size seen before, where that is greater.
    pub behind: Option<u64>,
    /// The time of the newest seal that was audited, now or before.
    pub seal: Option<Timestamp>,
    /// How fresh the log's word is: by cosignatures where the trust file has a quorum, else by the newest seal.
    pub fresh: Option<Timestamp>,
}

/// Raises and ends what is wrong with the log as a whole.
#[derive(Clone, Debug)]
pub struct Liveness {
    log: VerifierKey,
    patience: Patience,
}

/// Something that holds, since when, and what is said of it.
struct Holding {
    since: Timestamp,
    /// How long it must hold before it is said.
    patience: Duration,
    message: String,
}

impl Liveness {
    /// For a log, with what must last how long.
    pub fn new(log: &VerifierKey, patience: Patience) -> Liveness {
        Liveness { log: log.clone(), patience }
    }

    /// Takes note of what a look at the log has found.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn check(&self, ledger: &mut Ledger, look: &Look) -> Result<(), LedgerError> {
        ledger.begin()?;
        self.settle(ledger, AlertKind::UnreachableLog, look.now, self.unreachable(look), "can be reached again")?;
        self.settle(ledger, AlertKind::StaleLog, look.now, self.stale(look), "is fresh again")?;
        self.settle(ledger, AlertKind::LogAhead, look.now, ahead(look), "is no longer ahead of this clock")?;
        if let Some(size) = look.size {
            let frozen = self.frozen(ledger, look, size)?;
            self.settle(ledger, AlertKind::FrozenLog, look.now, frozen, "grows again")?;
            self.settle(
                ledger,
                AlertKind::LogBehind,
                look.now,
                self.behind(look, size),
                "shows all that it has shown",
            )?;
        }
        Ok(())
    }

    fn unreachable(&self, look: &Look) -> Option<Holding> {
        let why = look.unreachable.as_ref()?;
        let message = format!("the log {} cannot be audited: {why}", self.log.name());
        Some(Holding { since: look.now, patience: self.patience.absence, message })
    }

    fn stale(&self, look: &Look) -> Option<Holding> {
        let since = look.fresh.filter(|fresh| age(*fresh, look.now) > seconds(self.patience.staleness))?;
        let message = format!("the newest word of the log {} is from {since}", self.log.name());
        Some(Holding { since, patience: Duration::ZERO, message })
    }

    fn frozen(&self, ledger: &Ledger, look: &Look, size: u64) -> Result<Option<Holding>, LedgerError> {
        let Some((_, since)) = ledger.grown()?.filter(|(grown, _)| size <= *grown) else {
            ledger.set_grown(size, look.now)?;
            return Ok(None);
        };
        let message = format!("the log {} answers, but has not grown beyond {size} entries", self.log.name());
        let holds = age(since, look.now) > seconds(self.patience.frozenness);
        Ok(holds.then_some(Holding { since, patience: Duration::ZERO, message }))
    }

    fn behind(&self, look: &Look, size: u64) -> Option<Holding> {
        let greatest = look.behind?;
        let message = format!("the log {} shows {size} entries, but has shown {greatest} before", self.log.name());
        Some(Holding { since: look.now, patience: self.patience.absence, message })
    }

    /// Makes what is remembered of a condition agree with whether it holds. It lasts since it was first seen to.
    fn settle(
        &self,
        ledger: &mut Ledger,
        kind: AlertKind,
        now: Timestamp,
        holding: Option<Holding>,
        over: &str,
    ) -> Result<(), LedgerError> {
        let known = ledger.condition(kind)?;
        let gauge = metrics::gauge!("taglog_monitor_condition", "kind" => kind.as_str());
        let Some(Holding { since, patience, message }) = holding else {
            gauge.set(0.0);
            let Some(known) = known else { return Ok(()) };
            ledger.set_condition(kind, None)?;
            if known.raised {
                let message = format!("the log {} {over}", self.log.name());
                ledger.raise(&self.alert(kind, State::Ended, known.since, now, message))?;
            }
            return Ok(());
        };
        let mut condition = known.unwrap_or(Condition { since, raised: false });
        if !condition.raised && age(condition.since, now) >= seconds(patience) {
            condition.raised = true;
            let message = format!("{message} (since {})", condition.since);
            ledger.raise(&self.alert(kind, State::Raised, condition.since, now, message))?;
        }
        gauge.set(f64::from(u8::from(condition.raised)));
        if known != Some(condition) {
            ledger.set_condition(kind, Some(&condition))?;
        }
        Ok(())
    }

    fn alert(&self, kind: AlertKind, state: State, since: Timestamp, now: Timestamp, message: String) -> Alert {
        let about = since.to_string();
        Alert::condition(&self.log, kind, state, &[&about], now, message).with_since(since)
    }
}

fn ahead(look: &Look) -> Option<Holding> {
    let seal = look.seal.filter(|seal| age(*seal, look.now) < -AHEAD)?;
    let message = format!("the newest seal is dated {seal}, which is in the future by this machine's clock");
    Some(Holding { since: look.now, patience: Duration::ZERO, message })
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
        config::{SinkConfig, Way},
        ledger::Outbox,
    };

    const HOUR: i64 = 3600;
    const START: i64 = 1_800_000_000;

    struct Scene {
        ledger: Ledger,
        outbox: Outbox,
        liveness: Liveness,
        told: usize,
        _home: tempfile::TempDir,
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix(START + seconds).unwrap()
    }

    /// A log that is well at this time.
    fn well(now: i64, size: u64) -> Look {
        let seal = Some(at(now));
        Look { now: at(now), unreachable: None, size: Some(size), behind: None, seal, fresh: seal }
    }

    impl Scene {
        fn new() -> Scene {
            let home = tempfile::tempdir().unwrap();
            let key = taglog_proto::note::SigningKey::from_seed("log.example/x", &[1; 32]).unwrap();
            let sink = SinkConfig { name: "all".to_owned(), kinds: None, way: Way::Stdout };
            let (ledger, outbox) = Ledger::open(home.path(), key.verifier_key(), &[sink]).unwrap();
            let hours = |n: u64| Duration::from_secs(n * 3600);
            let patience = Patience {
                disagreement: hours(1),
                silence: hours(1),
                staleness: hours(1),
                frozenness: hours(2),
                absence: hours(3),
            };
            Scene { ledger, outbox, liveness: Liveness::new(key.verifier_key(), patience), told: 0, _home: home }
        }

        /// What a look makes known: kind and state of each alert.
        fn look(&mut self, look: &Look) -> Vec<(AlertKind, State)> {
            self.liveness.check(&mut self.ledger, look).unwrap();
            self.ledger.commit().unwrap();
            let all = self.outbox.pending("all", 100).unwrap();
            let new =
                all[self.told..].iter().map(|pending| (pending.numbered.alert.kind, pending.numbered.alert.state));
            let new = new.collect();
            self.told = all.len();
            new
        }
    }

    #[test]
    fn a_log_that_is_well() {
        let mut scene = Scene::new();
        for hour in 0..10 {
            assert!(scene.look(&well(hour * HOUR, 10 + hour as u64)).is_empty());
        }
    }

    #[test]
    fn a_log_that_cannot_be_reached_is_said_after_a_while_and_once() {
        let mut scene = Scene::new();
        scene.look(&well(0, 10));
        let away = |now| Look { unreachable: Some("refused".to_owned()), size: None, fresh: None, ..well(now, 10) };
        assert!(scene.look(&away(HOUR)).is_empty() && scene.look(&away(3 * HOUR)).is_empty());
        assert_eq!(scene.look(&away(4 * HOUR)), [(AlertKind::UnreachableLog, State::Raised)]);
        assert!(scene.look(&away(5 * HOUR)).is_empty());
        let ended = scene.look(&well(6 * HOUR, 11));
        assert_eq!(ended, [(AlertKind::UnreachableLog, State::Ended)]);
        scene.look(&away(7 * HOUR));
        assert!(scene.look(&well(8 * HOUR, 12)).is_empty(), "what was not said does not end either");
    }

    #[test]
    fn a_word_that_grows_old() {
        let mut scene = Scene::new();
        let old = |now, fresh| Look { fresh: Some(at(fresh)), ..well(now, now as u64) };
        assert!(scene.look(&old(HOUR, 0)).is_empty());
        assert_eq!(scene.look(&old(HOUR + 1, 0)), [(AlertKind::StaleLog, State::Raised)]);
        // It moves on, and is too old all the same: it is one alert.
        assert!(scene.look(&old(3 * HOUR, HOUR)).is_empty());
        assert_eq!(scene.look(&old(4 * HOUR, 4 * HOUR)), [(AlertKind::StaleLog, State::Ended)]);
        assert_eq!(scene.look(&old(9 * HOUR, 4 * HOUR)), [(AlertKind::StaleLog, State::Raised)]);
    }

    #[test]
    fn a_log_that_answers_and_does_not_grow() {
        let mut scene = Scene::new();
        scene.look(&well(0, 10));
        assert!(scene.look(&well(2 * HOUR, 10)).is_empty());
        assert_eq!(scene.look(&well(3 * HOUR, 10)), [(AlertKind::FrozenLog, State::Raised)]);
        assert!(scene.look(&well(4 * HOUR, 9)).is_empty(), "less is not more");
        assert_eq!(scene.look(&well(5 * HOUR, 11)), [(AlertKind::FrozenLog, State::Ended)]);
    }

    #[test]
    fn a_seal_from_the_future() {
        let mut scene = Scene::new();
        let ahead = |now: i64, by: i64| Look { seal: Some(at(now + by)), ..well(now, now as u64) };
        assert!(scene.look(&ahead(0, 300)).is_empty());
        assert_eq!(scene.look(&ahead(1, 301)), [(AlertKind::LogAhead, State::Raised)]);
        assert_eq!(scene.look(&ahead(2, 0)), [(AlertKind::LogAhead, State::Ended)]);
    }

    #[test]
    fn a_log_that_shows_less_than_before() {
        let mut scene = Scene::new();
        let less = |now| Look { behind: Some(20), ..well(now, 10) };
        assert!(scene.look(&less(0)).is_empty(), "a cache may be a moment behind");
        let said = scene.look(&less(3 * HOUR));
        assert!(said.contains(&(AlertKind::LogBehind, State::Raised)), "{said:?}");
        assert!(scene.look(&well(3 * HOUR, 21)).contains(&(AlertKind::LogBehind, State::Ended)));
    }

    #[test]
    fn after_a_restart_nothing_is_said_again() {
        let mut scene = Scene::new();
        let old = Look { fresh: Some(at(0)), ..well(5 * HOUR, 10) };
        assert_eq!(scene.look(&old).len(), 1);
        // What is remembered is in the ledger alone.
        scene.liveness = Liveness::new(&scene.liveness.log.clone(), scene.liveness.patience);
        assert!(scene.look(&Look { now: at(5 * HOUR + 1), ..old }).is_empty());
    }
}
