//! Durations as people write them.

use std::time::Duration;

/// Parses `90s`, `15m`, `24h`, `7d`.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let error = || format!("{text:?}: want a number and s, m, h or d, such as 24h");
    let unit = text.chars().last().ok_or_else(error)?;
    let seconds: u64 = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        _ => return Err(error()),
    };
    let number: u64 = text[..text.len() - 1].parse().map_err(|_| error())?;
    number.checked_mul(seconds).map(Duration::from_secs).ok_or_else(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(parse_duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("7d"), Ok(Duration::from_secs(604_800)));
        for bad in ["", "s", "5", "5x", "-5s", "5 s", "99999999999999999999d", "18446744073709551615d", "5é"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }
}
