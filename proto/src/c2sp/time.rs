//! Points in time as text: UTC, whole seconds, `2026-11-23T02:05:00Z`.

use std::{fmt, str::FromStr, time::SystemTime};

use thiserror::Error;

use crate::c2sp::encoding::is_text;

/// 0000-01-01T00:00:00Z. Four digits are all that the format has for a year; the last second is jiff's own.
const FIRST_SECOND: i64 = -62_167_219_200;

/// Seconds since 1970-01-01T00:00:00Z, without leap seconds; between the years 0000 and 9999.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

/// A time that is not of the form `YYYY-MM-DDThh:mm:ssZ`, or does not exist.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("time {0:?} is not of the form 2026-11-23T02:05:00Z (UTC, whole seconds)")]
pub struct TimestampError(String);

impl Timestamp {
    /// 1970-01-01T00:00:00Z.
    pub const UNIX_EPOCH: Timestamp = Timestamp(0);

    /// A system's time in whole seconds; [`Timestamp::UNIX_EPOCH`] outside the years that an entry
    /// can hold, so that everything is refused while the clock is so far off.
    pub fn from_system_time(time: SystemTime) -> Timestamp {
        let since_1970 = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let seconds = i64::try_from(since_1970.as_secs()).unwrap_or(0);
        Timestamp::from_unix(seconds).unwrap_or(Timestamp::UNIX_EPOCH)
    }

    /// The time that is `seconds` after 1970; `None` outside the years 0000 to 9999.
    pub fn from_unix(seconds: i64) -> Option<Timestamp> {
        let possible = seconds >= FIRST_SECOND && jiff::Timestamp::from_second(seconds).is_ok();
        possible.then_some(Timestamp(seconds))
    }

    /// Seconds since 1970.
    pub fn unix(self) -> i64 {
        self.0
    }
}

impl FromStr for Timestamp {
    type Err = TimestampError;

    fn from_str(text: &str) -> Result<Timestamp, TimestampError> {
        let error = || TimestampError(text.chars().take(40).collect());
        if text.len() != 20 {
            return Err(error());
        }
        let time: jiff::Timestamp = text.parse().map_err(|_| error())?;
        // The parser is liberal (leap seconds, lower case); what it prints is the canonical encoding.
        if is_text(&time, text) { Ok(Timestamp(time.as_second())) } else { Err(error()) }
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Every second that one can be made of is one of jiff's.
        jiff::Timestamp::from_second(self.0).map_err(|_| fmt::Error)?.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_one_canonical_encoding() {
        let time: Timestamp = "2026-11-23T02:05:00Z".parse().unwrap();
        assert_eq!(time.to_string(), "2026-11-23T02:05:00Z");
        assert_eq!(Timestamp::from_unix(time.unix()), Some(time));
        // Every time that can be made prints as one that is read.
        let first = Timestamp::from_unix(FIRST_SECOND).unwrap();
        assert_eq!((first.to_string().as_str(), first.to_string().parse()), ("0000-01-01T00:00:00Z", Ok(first)));
        let last = Timestamp::from_unix(253_402_207_200).unwrap();
        assert_eq!((last.to_string().as_str(), last.to_string().parse()), ("9999-12-30T22:00:00Z", Ok(last)));
        for beyond in [FIRST_SECOND - 1, 253_402_207_201, i64::MIN, i64::MAX] {
            assert_eq!(Timestamp::from_unix(beyond), None, "{beyond}");
        }
        for bad in [
            "",
            "9999-12-30T22:00:01Z",
            "2026-00-30T02:05:00Z",
            "2026-01-00T02:05:00Z",
            "2026-04-31T02:05:00Z",
            "1900-02-29T02:05:00Z",
            "2026-11-23T02:60:00Z",
            "2026-11-23T02:05:00",
            "2026-11-23t02:05:00z",
            "2026-11-23 02:05:00Z",
            "2026-11-23T02:05:60Z",
            "2026-02-30T02:05:00Z",
            "2026-13-23T02:05:00Z",
            "2026-11-23T24:00:00Z",
            "+026-11-23T02:05:00Z",
            "2026-11-23T02:05:0éZ",
            "2026-11-23T020500.0Z",
            "-00001-1-1T00:00:00Z",
        ] {
            assert!(bad.parse::<Timestamp>().is_err(), "{bad:?}");
        }
    }
}
