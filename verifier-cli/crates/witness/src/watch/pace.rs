//! How fast one registry may be asked: its rate, its pauses, its pull budget.

use std::{
    num::NonZeroU32,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio::time::Instant;

use crate::config::RegistryConfig;
use taglog_oci_registry::{Circumstances, RegistryError};

/// The first pause after failures, doubled each time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest of them; what a registry asks for may be longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(900);
/// How many failures in a row, of any tags, before the registry itself is thought to be in trouble.
const FAILURES: u32 = 3;
/// How many pulls are left to others that share the budget.
const RESERVE: u64 = 2;

/// What all looks at one registry share.
#[derive(Debug)]
pub struct Pace {
    limiter: DefaultDirectRateLimiter,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    failures: u32,
    paused_until: Option<Instant>,
    /// When the last pause was set: failures of requests that were under way then say nothing new.
    paused_at: Option<Instant>,
    no_pulls_until: Option<Instant>,
}

impl Pace {
    /// Keeps to a registry's configuration.
    pub fn new(config: RegistryConfig) -> Pace {
        let rate = NonZeroU32::new(config.requests_per_second).unwrap_or(NonZeroU32::MIN);
        Pace { limiter: RateLimiter::direct(Quota::per_second(rate)), state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that is done with it can panic halfway through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until one more request may be made.
    pub async fn ready(&self) {
        self.limiter.until_ready().await;
    }

    /// What makes requests wait for their turn.
    pub fn limiter(&self) -> &DefaultDirectRateLimiter {
        &self.limiter
    }

    /// Until when nothing is to be asked.
    pub fn paused_until(&self) -> Option<Instant> {
        self.state().paused_until.filter(|until| *until > Instant::now())
    }

    /// Takes note of an answer.
    pub fn answered(&self, circumstances: &Circumstances) {
        let mut state = self.state();
        state.failures = 0;
        if let Some(pulls) = circumstances.pulls.filter(|pulls| pulls.remaining <= RESERVE) {
            let share = u32::try_from(pulls.limit.max(1)).unwrap_or(u32::MAX);
            state.no_pulls_until = Some(Instant::now() + pulls.window / share);
        }
    }

    /// How long no manifest may be fetched, where the registry counts those.
    pub fn pull_wait(&self) -> Option<Duration> {
        let until = self.state().no_pulls_until?;
        Some(until.saturating_duration_since(Instant::now())).filter(|wait| !wait.is_zero())
    }

    /// Takes note of a failure of what was asked at `started`: one that concerns the whole registry pauses it.
    pub fn failed(&self, error: &RegistryError, started: Instant) {
        let limited = matches!(error, RegistryError::RateLimited { .. });
        if !limited && !concerns_registry(error) {
            // It has answered.
            self.state().failures = 0;
            return;
        }
        let mut state = self.state();
        if error.retry_after().is_none() && state.paused_at.is_some_and(|paused| started < paused) {
            return;
        }
        state.failures = state.failures.saturating_add(1);
        let doubled =
            |times: u32| FIRST_PAUSE.saturating_mul(1_u32.checked_shl(times).unwrap_or(u32::MAX)).min(LONGEST_PAUSE);
        let pause = match error.retry_after() {
            Some(asked) => Some(asked),
            None if limited => Some(doubled(state.failures)),
            None => state.failures.checked_sub(FAILURES).map(doubled),
        };
        if let Some(pause) = pause {
            let now = Instant::now();
            let until = now + pause;
            state.paused_at = Some(now);
            state.paused_until = Some(state.paused_until.map_or(until, |earlier| earlier.max(until)));
        }
    }
}

/// Whether an error is likely to meet every other tag too.
pub fn concerns_registry(error: &RegistryError) -> bool {
    matches!(
        error,
        RegistryError::RateLimited { .. }
            | RegistryError::Server { .. }
            | RegistryError::Network { .. }
            | RegistryError::Timeout { .. }
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use taglog_oci_registry::PullBudget;

    fn server(retry_after: Option<Duration>) -> RegistryError {
        RegistryError::Server { target: "r.example/a:b".into(), registry: "r.example".into(), status: 503, retry_after }
    }

    fn limited(retry_after: Option<Duration>) -> RegistryError {
        RegistryError::RateLimited { target: "r.example/a:b".into(), registry: "r.example".into(), retry_after }
    }

    fn not_found() -> RegistryError {
        RegistryError::NotFound { target: "r.example/a:b".into(), registry: "r.example".into() }
    }

    fn pause(pace: &Pace) -> Option<f64> {
        pace.paused_until().map(|until| (until - Instant::now()).as_secs_f64().round())
    }

    #[test]
    fn pauses_grow_with_failures_and_end_with_an_answer() {
        let pace = Pace::new(RegistryConfig::default());
        for _ in 0..2 {
            pace.failed(&server(None), Instant::now());
            assert_eq!(pause(&pace), None, "one bad tag is no bad registry");
        }
        pace.failed(&server(None), Instant::now());
        assert_eq!(pause(&pace), Some(1.0));
        pace.failed(&server(None), Instant::now());
        assert_eq!(pause(&pace), Some(2.0));
        for _ in 0..40 {
            pace.failed(&server(None), Instant::now());
        }
        assert_eq!(pause(&pace), Some(900.0));
        let pace = Pace::new(RegistryConfig::default());
        pace.failed(&server(None), Instant::now());
        pace.failed(&server(None), Instant::now());
        pace.answered(&Circumstances::default());
        pace.failed(&server(None), Instant::now());
        assert_eq!(pause(&pace), None);
        pace.failed(&server(None), Instant::now());
        pace.failed(&not_found(), Instant::now());
        pace.failed(&server(None), Instant::now());
        assert_eq!(pause(&pace), None, "a 404 is an answer");
    }

    #[test]
    fn what_fails_together_counts_once() {
        let pace = Pace::new(RegistryConfig::default());
        let started = Instant::now();
        for _ in 0..50 {
            pace.failed(&server(None), started);
        }
        assert_eq!(pause(&pace), Some(1.0));
    }

    #[test]
    fn what_a_registry_asks_for_is_kept_to() {
        let pace = Pace::new(RegistryConfig::default());
        pace.failed(&limited(None), Instant::now());
        assert_eq!(pause(&pace), Some(2.0));
        pace.failed(&limited(Some(Duration::from_secs(4000))), Instant::now());
        pace.failed(&limited(Some(Duration::from_secs(3))), Instant::now());
        assert_eq!(pause(&pace), Some(4000.0), "the longest holds");
        let other = Pace::new(RegistryConfig::default());
        other.failed(&server(Some(Duration::from_secs(7))), Instant::now());
        assert_eq!(pause(&other), Some(7.0));
    }

    #[test]
    fn the_last_pulls_are_left_to_others() {
        let pace = Pace::new(RegistryConfig::default());
        let budget = |remaining| Circumstances {
            pulls: Some(PullBudget { remaining, limit: 100, window: Duration::from_secs(21_600) }),
            ..Circumstances::default()
        };
        pace.answered(&budget(3));
        assert_eq!(pace.pull_wait(), None);
        pace.answered(&budget(2));
        let wait = pace.pull_wait().unwrap();
        assert!(wait <= Duration::from_secs(216) && wait > Duration::from_secs(200), "{wait:?}");
    }
}
