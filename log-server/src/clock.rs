//! What time a seal says, and when the log refuses to say any.

use std::time::{Duration, Instant, SystemTime};

use taglog_proto::time::Timestamp;
use thiserror::Error;

/// How far the clock may run ahead of the last seal plus the time that has passed.
const TOLERANCE: Duration = Duration::from_secs(3600);

/// The clock cannot be right: sealing would date the log into the future for ever.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error(
    "the clock says {now}, over an hour ahead of the last seal ({last}) plus the time that has passed; \
     set the clock right, or start with --accept-clock if it is"
)]
pub struct ClockError {
    /// What the clock says.
    pub now: Timestamp,
    /// The time of the last seal.
    pub last: Timestamp,
}

/// Guards the times of seals. One seal dated 2099 could never be taken back.
#[derive(Debug)]
pub struct Clock {
    /// The last seal's time, and when it was made by a clock that cannot jump.
    last: Option<(Timestamp, Instant)>,
    accept: bool,
}

impl Clock {
    /// A clock without a last seal that this process made: after a start nothing here says how
    /// much time has passed, so the first seal takes the system's word.
    pub fn new(accept: bool) -> Clock {
        Clock { last: None, accept }
    }

    /// The time for a seal that is made now: never before `previous`, the last seal's time.
    ///
    /// # Errors
    /// [`ClockError`] when the system's clock has jumped ahead.
    pub fn seal_time(&self, previous: Option<Timestamp>) -> Result<Timestamp, ClockError> {
        self.check(Timestamp::from_system_time(SystemTime::now()), Instant::now(), previous)
    }

    fn check(&self, now: Timestamp, instant: Instant, previous: Option<Timestamp>) -> Result<Timestamp, ClockError> {
        if let (Some((last, made)), false) = (self.last, self.accept) {
            let passed = instant.saturating_duration_since(made) + TOLERANCE;
            if now.unix() > last.unix().saturating_add_unsigned(passed.as_secs()) {
                return Err(ClockError { now, last });
            }
        }
        Ok(previous.map_or(now, |previous| previous.max(now)))
    }

    /// Remembers that a seal with this time was made now.
    pub fn sealed(&mut self, time: Timestamp) {
        self.last = Some((time, Instant::now()));
    }

    /// How long ago this process made its last seal.
    pub fn since_last_seal(&self) -> Option<Duration> {
        self.last.map(|(_, made)| made.elapsed())
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
        let mut clock = Clock { last: Some((time(1000), start)), accept: false };
        let later = start + Duration::from_secs(50);
        assert_eq!(clock.check(time(1000 + 50 + 3600), later, Some(time(1000))), Ok(time(4650)));
        assert!(clock.check(time(1000 + 50 + 3601), later, Some(time(1000))).is_err());
        clock.accept = true;
        assert!(clock.check(time(9_000_000), later, Some(time(1000))).is_ok());
    }

    #[test]
    fn seal_times_never_decrease() {
        let clock = Clock { last: None, accept: false };
        assert_eq!(clock.check(time(10), Instant::now(), Some(time(20))), Ok(time(20)));
        assert_eq!(clock.check(time(30), Instant::now(), Some(time(20))), Ok(time(30)));
    }
}
