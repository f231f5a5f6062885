//! What time a seal says, and when the log refuses to say any.

use std::time::{Duration, Instant, SystemTime};

use taglog_proto::time::Timestamp;
use thiserror::Error;

/// How far the clock may run ahead of the last seal plus the time that has passed.
const TOLERANCE: Duration = Duration::from_secs(3600);

/// The clock cannot be right: sealing would date the log into the future for ever.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error(
    "the clock says {now}, over an hour ahead of the last seal or cosignature ({last}) plus the time that has passed; \
     set the clock right, or start with --accept-clock if it is"
)]
pub struct ClockError {
    /// What the clock says.
    pub now: Timestamp,
    /// The time of the last seal, or of the newest cosignature.
    pub last: Timestamp,
}

/// Guards the times of seals. One seal dated 2099 could never be taken back.
#[derive(Debug)]
pub struct Clock {
    /// A time that is known to have been right, and when by a clock that cannot jump: the last
    /// seal's, or before the first one the newest cosignature's.
    known: Option<(Timestamp, Instant)>,
    sealed: Option<Instant>,
    accept: bool,
}

impl Clock {
    /// The clock of a process that has not sealed yet. `cosigned` is the time of the newest
    /// cosignature, made just now; without one nothing says how much time has passed since the last
    /// seal, and the first seal takes the system's word.
    pub fn new(accept: bool, cosigned: Option<Timestamp>) -> Clock {
        Clock { known: cosigned.map(|time| (time, Instant::now())), sealed: None, accept }
    }

    /// The time for a seal that is made now: never before `previous`, the last seal's time.
    ///
    /// # Errors
    /// [`ClockError`] when the system's clock has jumped ahead.
    pub fn seal_time(&self, previous: Option<Timestamp>) -> Result<Timestamp, ClockError> {
        self.check(Timestamp::from_system_time(SystemTime::now()), Instant::now(), previous)
    }

    fn check(&self, now: Timestamp, instant: Instant, previous: Option<Timestamp>) -> Result<Timestamp, ClockError> {
        if let (Some((last, made)), false) = (self.known, self.accept) {
            let passed = instant.saturating_duration_since(made) + TOLERANCE;
            if now.unix() > last.unix().saturating_add_unsigned(passed.as_secs()) {
                return Err(ClockError { now, last });
            }
        }
        Ok(previous.map_or(now, |previous| previous.max(now)))
    }

    /// Remembers that a seal with this time was made now.
    pub fn sealed(&mut self, time: Timestamp) {
        let now = Instant::now();
        (self.known, self.sealed) = (Some((time, now)), Some(now));
    }

    /// How long ago this process made its last seal.
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
    fn a_clock_that_jumps_ahead_is_refused() {
        let start = Instant::now();
        let mut clock = Clock { known: Some((time(1000), start)), sealed: Some(start), accept: false };
        let later = start + Duration::from_secs(50);
        assert_eq!(clock.check(time(1000 + 50 + 3600), later, Some(time(1000))), Ok(time(4650)));
        assert!(clock.check(time(1000 + 50 + 3601), later, Some(time(1000))).is_err());
        clock.accept = true;
        assert!(clock.check(time(9_000_000), later, Some(time(1000))).is_ok());
    }

    #[test]
    fn seal_times_never_decrease() {
        let clock = Clock::new(false, None);
        assert_eq!(clock.check(time(10), Instant::now(), Some(time(20))), Ok(time(20)));
        assert_eq!(clock.check(time(30), Instant::now(), Some(time(20))), Ok(time(30)));
    }
    #[test]
    fn after_a_restart_the_newest_cosignature_says_what_time_it_is() {
        let clock = Clock::new(false, Some(time(1000)));
        let now = Instant::now();
        assert!(clock.check(time(1000 + 3601 + 60), now, Some(time(500))).is_err());
        assert_eq!(clock.check(time(1000 + 3600), now, Some(time(500))), Ok(time(4600)));
        assert_eq!(clock.since_last_seal(), None, "a cosignature is no seal");
    }
}
