//! What time it is, if that can be known: what is signed is dated, and a wrong date cannot be taken back.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use taglog_proto::time::Timestamp;
use thiserror::Error;

/// How far two clocks may differ: as far as logs let an entry lie in the future by default (DESIGN 3.2, `future`).
const TOLERANCE: Duration = Duration::from_secs(300);

/// Why nothing can be dated now.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ClockError {
    /// The registry's answer is dated otherwise.
    #[error("this machine's clock and the registry's differ by {} s: nothing is signed until they agree", .0.as_secs())]
    Disagrees(Duration),
    /// The clock has moved otherwise than time has passed, and the registry does not say what time it is.
    #[error("this machine's clock has jumped by {} s, and the registry tells no time: nothing is signed; restart the agent once the clock is right", .0.as_secs())]
    Jumped(Duration),
}

/// The machine's clock, and when it was last known to be right. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Clock {
    anchor: Arc<Mutex<(SystemTime, Instant)>>,
}

fn difference(one: SystemTime, other: SystemTime) -> Duration {
    one.duration_since(other).unwrap_or_else(|error| error.duration())
}

impl Clock {
    /// Starts now.
    pub fn start() -> Clock {
        Clock { anchor: Arc::new(Mutex::new((SystemTime::now(), Instant::now()))) }
    }

    /// The time to date a look with whose answer says `date`.
    ///
    /// A registry can keep its own tags from being reported by a false date. It could do so as well by not answering.
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
    fn a_date_needs_two_clocks_that_agree() {
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
        // After a sleep of the machine its clock has moved on and the time that has passed has not: a registry
        // that tells the time settles it for those that do not.
        assert_eq!(date(now, 5, Some(now - second(300))), Ok(Timestamp::from_system_time(now)));
        assert_eq!(date(now + second(1), 6, None), Ok(Timestamp::from_system_time(now + second(1))));
    }
}
