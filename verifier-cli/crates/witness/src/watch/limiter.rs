//! Limits the requests to one registry: rate, pauses after failures, pull limit.

use std::{
    num::NonZeroU32,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio::time::Instant;

use crate::config::RegistryConfig;
use taglog_oci_registry::{RegistryError, ResponseMetadata};

/// The first pause after failures, doubled each time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest of them; what a registry asks for may be longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(900);
/// Consecutive failures, of any tags, before the registry is paused.
const FAILURES_BEFORE_PAUSE: u32 = 3;
/// Pulls that are left to others that share the limit.
const RESERVE: u64 = 2;

/// The limits that all requests to one registry share.
#[derive(Debug)]
pub struct RequestLimiter {
    limiter: DefaultDirectRateLimiter,
    state: Mutex<LimiterState>,
}

#[derive(Debug, Default)]
struct LimiterState {
    failures: u32,
    paused_until: Option<Instant>,
    /// When the last pause was set: failures of requests that were started before are not counted again.
    paused_at: Option<Instant>,
    no_pulls_until: Option<Instant>,
}

impl RequestLimiter {
    pub fn new(config: RegistryConfig) -> RequestLimiter {
        let rate = NonZeroU32::new(config.requests_per_second).unwrap_or(NonZeroU32::MIN);
        RequestLimiter { limiter: RateLimiter::direct(Quota::per_second(rate)), state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, LimiterState> {
        // Nothing that is done with it can panic halfway through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until one more request may be made.
    pub async fn ready(&self) {
        self.limiter.until_ready().await;
    }

    /// The rate limiter, for lists of several pages.
    pub fn rate_limiter(&self) -> &DefaultDirectRateLimiter {
        &self.limiter
    }

    /// Until when requests are paused.
    pub fn paused_until(&self) -> Option<Instant> {
        self.state().paused_until.filter(|until| *until > Instant::now())
    }

    /// Resets the failure count, and reads the pull limit.
    pub fn record_success(&self, metadata: &ResponseMetadata) {
        let mut state = self.state();
        state.failures = 0;
        if let Some(pulls) = metadata.pulls.filter(|pulls| pulls.remaining <= RESERVE) {
            let share = u32::try_from(pulls.limit.max(1)).unwrap_or(u32::MAX);
            state.no_pulls_until = Some(Instant::now() + pulls.window / share);
        }
    }

    /// How long no manifest may be fetched because of the pull limit.
    pub fn pull_wait(&self) -> Option<Duration> {
        let until = self.state().no_pulls_until?;
        Some(until.saturating_duration_since(Instant::now())).filter(|wait| !wait.is_zero())
    }

    /// Records the failure of a request made at `started`; one that concerns the whole registry may pause it.
    pub fn record_failure(&self, error: &RegistryError, started: Instant) {
        let limited = matches!(error, RegistryError::RateLimited { .. });
        if !limited && !concerns_registry(error) {
            // The registry has answered.
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
            None => state.failures.checked_sub(FAILURES_BEFORE_PAUSE).map(doubled),
        };
        if let Some(pause) = pause {
            let now = Instant::now();
            let until = now + pause;
            state.paused_at = Some(now);
            state.paused_until = Some(state.paused_until.map_or(until, |earlier| earlier.max(until)));
        }
    }
}

/// Whether an error is likely to affect all tags of the registry.
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

    fn pause(limiter: &RequestLimiter) -> Option<f64> {
        limiter.paused_until().map(|until| (until - Instant::now()).as_secs_f64().round())
    }

    #[test]
    fn pauses_grow_with_failures_and_end_with_an_answer() {
        let limiter = RequestLimiter::new(RegistryConfig::default());
        for _ in 0..2 {
            limiter.record_failure(&server(None), Instant::now());
            assert_eq!(pause(&limiter), None, "one bad tag is no bad registry");
        }
        limiter.record_failure(&server(None), Instant::now());
        assert_eq!(pause(&limiter), Some(1.0));
        limiter.record_failure(&server(None), Instant::now());
        assert_eq!(pause(&limiter), Some(2.0));
        for _ in 0..40 {
            limiter.record_failure(&server(None), Instant::now());
        }
        assert_eq!(pause(&limiter), Some(900.0));
        let limiter = RequestLimiter::new(RegistryConfig::default());
        limiter.record_failure(&server(None), Instant::now());
        limiter.record_failure(&server(None), Instant::now());
        limiter.record_success(&ResponseMetadata::default());
        limiter.record_failure(&server(None), Instant::now());
        assert_eq!(pause(&limiter), None);
        limiter.record_failure(&server(None), Instant::now());
        limiter.record_failure(&not_found(), Instant::now());
        limiter.record_failure(&server(None), Instant::now());
        assert_eq!(pause(&limiter), None, "a 404 is an answer");
    }

    #[test]
    fn concurrent_failures_count_once() {
        let limiter = RequestLimiter::new(RegistryConfig::default());
        let started = Instant::now();
        for _ in 0..50 {
            limiter.record_failure(&server(None), started);
        }
        assert_eq!(pause(&limiter), Some(1.0));
    }

    #[test]
    fn retry_after_is_obeyed() {
        let limiter = RequestLimiter::new(RegistryConfig::default());
        limiter.record_failure(&limited(None), Instant::now());
        assert_eq!(pause(&limiter), Some(2.0));
        limiter.record_failure(&limited(Some(Duration::from_secs(4000))), Instant::now());
        limiter.record_failure(&limited(Some(Duration::from_secs(3))), Instant::now());
        assert_eq!(pause(&limiter), Some(4000.0), "the longest holds");
        let other = RequestLimiter::new(RegistryConfig::default());
        other.record_failure(&server(Some(Duration::from_secs(7))), Instant::now());
        assert_eq!(pause(&other), Some(7.0));
    }

    #[test]
    fn the_last_pulls_are_left_to_others() {
        let limiter = RequestLimiter::new(RegistryConfig::default());
        let budget = |remaining| ResponseMetadata {
            pulls: Some(PullBudget { remaining, limit: 100, window: Duration::from_secs(21_600) }),
            ..ResponseMetadata::default()
        };
        limiter.record_success(&budget(3));
        assert_eq!(limiter.pull_wait(), None);
        limiter.record_success(&budget(2));
        let wait = limiter.pull_wait().unwrap();
        assert!(wait <= Duration::from_secs(216) && wait > Duration::from_secs(200), "{wait:?}");
    }
}
