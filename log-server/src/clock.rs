//! The time of seals, and the check that refuses to seal when the system clock is wrong.

use std::time::{Duration, Instant, SystemTime};

use taglog_proto::time::Timestamp;
use thiserror::Error;

/// How far the system clock may be ahead of the reference time plus the time that has passed since.
const TOLERANCE: Duration = Duration::from_secs(3600);

/// The system clock is wrong: a seal would date the log into the future, and could never be taken back.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error(
    "the system clock shows {now}, more than an hour ahead of the last seal or cosignature ({last}) plus the time that \
     has passed; a seal with a future date could never be taken back; correct the clock, or start with --accept-clock \
     if it is correct"
)]
pub struct ClockError {
    pub now: Timestamp,
    /// The time of the last seal, or of the newest cosignature.
    pub last: Timestamp,
}

/// Determines the times of seals.
#[derive(Debug)]
pub struct Clock {
    /// A correct time, with the monotonic instant at which it was correct: that of the last seal, or before the first
    /// seal of this process that of the newest cosignature.
    reference: Option<(Timestamp, Instant)>,
    /// When this process made its last seal.
    sealed: Option<Instant>,
    accept_any_time: bool,
}

impl Clock {
    /// The clock of a process that has not sealed yet. `cosigned` is the time of the newest cosignature, made just now.
    /// Without it there is no reference time, and the first seal uses the system clock without a check.
    pub fn new(accept_any_time: bool, cosigned: Option<Timestamp>) -> Clock {
        Clock { reference: cosigned.map(|time| (time, Instant::now())), sealed: None, accept_any_time }
    }

    /// The time for a seal that is made now, never before `previous`, the time of the last seal.
    ///
    /// # Errors
    /// The system clock has jumped ahead.
    pub fn seal_time(&self, previous: Option<Timestamp>) -> Result<Timestamp, ClockError> {
        self.check(Timestamp::from_system_time(SystemTime::now()), Instant::now(), previous)
    }

    fn check(&self, now: Timestamp, instant: Instant, previous: Option<Timestamp>) -> Result<Timestamp, ClockError> {
        if let (Some((last, made)), false) = (self.reference, self.accept_any_time) {
            let passed = instant.saturating_duration_since(made) + TOLERANCE;
            if now.unix() > last.unix().saturating_add_unsigned(passed.as_secs()) {
                return Err(ClockError { now, last });
            }
        }
        Ok(previous.map_or(now, |previous| previous.max(now)))
    }

    /// Records that a seal with this time was made now.
    pub fn record_seal(&mut self, time: Timestamp) {
        let now = Instant::now();
        (self.reference, self.sealed) = (Some((time, now)), Some(now));
    }

    /// The time since this process made its last seal; `None` if it has not made any.
    pub fn since_last_seal(&self) -> Option<Duration> {
        self.sealed.map(|made| made.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(seconds: i64) -> Timestamp {
        Timestamp::from_unix(seconds).unwrap()
    }

    #[test]
    fn a_clock_that_jumped_ahead_is_rejected() {
        let start = Instant::now();
        let mut clock = Clock { reference: Some((time(1000), start)), sealed: Some(start), accept_any_time: false };
        let later = start + Duration::from_secs(50);
        assert_eq!(clock.check(time(1000 + 50 + 3600), later, Some(time(1000))), Ok(time(4650)));
        assert!(clock.check(time(1000 + 50 + 3601), later, Some(time(1000))).is_err());
        clock.accept_any_time = true;
        assert!(clock.check(time(9_000_000), later, Some(time(1000))).is_ok());
    }

    #[test]
    fn seal_times_never_decrease() {
        let clock = Clock::new(false, None);
        assert_eq!(clock.check(time(10), Instant::now(), Some(time(20))), Ok(time(20)));
        assert_eq!(clock.check(time(30), Instant::now(), Some(time(20))), Ok(time(30)));
    }

    #[test]
    fn after_a_restart_the_newest_cosignature_is_the_reference_time() {
        let clock = Clock::new(false, Some(time(1000)));
        let now = Instant::now();
        assert!(clock.check(time(1000 + 3601 + 60), now, Some(time(500))).is_err());
        assert_eq!(clock.check(time(1000 + 3600), now, Some(time(500))), Ok(time(4600)));
        assert_eq!(clock.since_last_seal(), None, "a cosignature is no seal");
    }
}
