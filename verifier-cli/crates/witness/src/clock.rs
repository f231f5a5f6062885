//! The clock for signed observations: a wrong date cannot be taken back, so the clock is compared with the registries'.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use taglog_proto::time::Timestamp;
use thiserror::Error;

/// The most by which two clocks may differ: as far as logs let an entry lie in the future by default.
const TOLERANCE: Duration = Duration::from_secs(300);

/// Why an observation cannot be dated.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ClockError {
    /// The registry's date differs too much.
    #[error("this machine's clock and the registry's differ by {} s: nothing is signed until they agree", .0.as_secs())]
    Disagrees(Duration),
    /// The clock has jumped, and the registry sends no date to compare with.
    #[error("this machine's clock has jumped by {} s, and the registry tells no time: nothing is signed; restart the agent once the clock is right", .0.as_secs())]
    Jumped(Duration),
}

/// The system clock, and when it was last checked. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Clock {
    anchor: Arc<Mutex<(SystemTime, Instant)>>,
}

fn difference(one: SystemTime, other: SystemTime) -> Duration {
    one.duration_since(other).unwrap_or_else(|error| error.duration())
}

impl Clock {
    pub fn start() -> Clock {
        Clock { anchor: Arc::new(Mutex::new((SystemTime::now(), Instant::now()))) }
    }

    /// The time for an observation from a response with this `date`.
    ///
    /// With a false date a registry can prevent reports of its own tags, as it can by not answering.
    ///
    /// # Errors
    /// [`ClockError`].
    pub fn date(&self, date: Option<SystemTime>) -> Result<Timestamp, ClockError> {
        self.date_at(SystemTime::now(), Instant::now(), date)
    }

    fn date_at(&self, now: SystemTime, instant: Instant, date: Option<SystemTime>) -> Result<Timestamp, ClockError> {
        // Nothing that is done with it can panic halfway through a change.
        let mut anchor = self.anchor.lock().unwrap_or_else(PoisonError::into_inner);
        match date {
            Some(date) => {
                let off = difference(now, date);
                if off > TOLERANCE {
                    return Err(ClockError::Disagrees(off));
                }
                *anchor = (now, instant);
            }
            None => {
                let off = difference(now, anchor.0 + instant.saturating_duration_since(anchor.1));
                if off > TOLERANCE {
                    return Err(ClockError::Jumped(off));
                }
            }
        }
        Ok(Timestamp::from_system_time(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_observation_is_dated_only_if_the_clocks_agree() {
        let clock = Clock::start();
        let (start, instant) = *clock.anchor.lock().unwrap();
        let second = Duration::from_secs;
        let date =
            |now: SystemTime, passed: u64, date: Option<SystemTime>| clock.date_at(now, instant + second(passed), date);
        let now = start + second(1000);
        assert_eq!(date(now, 1000, None), Ok(Timestamp::from_system_time(now)));
        assert_eq!(date(now, 5, None), Err(ClockError::Jumped(second(995))));
        assert_eq!(date(start - second(400), 1000, None), Err(ClockError::Jumped(second(1400))));
        assert_eq!(date(now, 1000, Some(now + second(301))), Err(ClockError::Disagrees(second(301))));
        assert_eq!(date(now, 1000, Some(now - second(301))), Err(ClockError::Disagrees(second(301))));
        // After a suspend the clock has advanced and the monotonic time has not: a registry with a date settles it for
        // those without.
        assert_eq!(date(now, 5, Some(now - second(300))), Ok(Timestamp::from_system_time(now)));
        assert_eq!(date(now + second(1), 6, None), Ok(Timestamp::from_system_time(now + second(1))));
    }
}
