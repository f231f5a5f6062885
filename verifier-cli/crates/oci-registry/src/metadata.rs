//! The date and the rate limit in the headers of a response.

use std::time::{Duration, SystemTime};

use reqwest::header::{AGE, DATE, HeaderMap};

/// The date and the rate limit of a registry's response. Nothing proves them; a field is `None` where the header is missing
/// or malformed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ResponseMetadata {
    /// The registry's clock: the `Date` header plus the `Age` of a cached response (RFC 9111 section 5.1).
    pub date: Option<SystemTime>,
    /// The rate limit for pulls, as Docker Hub sends it.
    pub pulls: Option<PullBudget>,
    /// Whether the request was sent with stored credentials.
    pub logged_in: bool,
}

/// A rate limit for manifest requests by GET; Docker Hub does not count HEAD.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PullBudget {
    /// Requests left in the current window.
    pub remaining: u64,
    /// Requests allowed in one window.
    pub limit: u64,
    /// The length of a window; never zero.
    pub window: Duration,
}

impl ResponseMetadata {
    pub(super) fn of(headers: &HeaderMap, logged_in: bool) -> Self {
        let date = text(headers, DATE.as_str()).and_then(|date| httpdate::parse_http_date(date).ok());
        // At most 32 bits, so that sums with it cannot overflow.
        let age = text(headers, AGE.as_str()).and_then(|age| age.trim().parse::<u32>().ok()).unwrap_or(0);
        let date = date.and_then(|date| date.checked_add(Duration::from_secs(age.into())));
        Self { date, pulls: PullBudget::of(headers), logged_in }
    }
}

impl PullBudget {
    /// Reads `ratelimit-limit: 100;w=21600` and `ratelimit-remaining: 76;w=21600`.
    fn of(headers: &HeaderMap) -> Option<Self> {
        let (limit, window) = quota(text(headers, "ratelimit-limit")?)?;
        let (remaining, other_window) = quota(text(headers, "ratelimit-remaining")?)?;
        Some(Self { remaining, limit, window: window.or(other_window)? })
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// A number and, among the parameters after it, the window in seconds.
fn quota(text: &str) -> Option<(u64, Option<Duration>)> {
    let mut parts = text.split(';').map(str::trim);
    let number = parts.next()?.parse().ok()?;
    // At most 32 bits, so that sums with it cannot overflow.
    let seconds = parts.find_map(|part| part.strip_prefix("w=")?.trim().parse::<u32>().ok());
    Some((number, seconds.filter(|seconds| *seconds > 0).map(|seconds| Duration::from_secs(seconds.into()))))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // What fails in here fails the test.
mod tests {
    use reqwest::header::HeaderValue;

    use super::*;

    fn pulls(limit: &'static str, remaining: &'static str) -> Option<(u64, u64, u64)> {
        let mut headers = HeaderMap::new();
        headers.insert("ratelimit-limit", HeaderValue::from_static(limit));
        headers.insert("ratelimit-remaining", HeaderValue::from_static(remaining));
        PullBudget::of(&headers).map(|budget| (budget.remaining, budget.limit, budget.window.as_secs()))
    }

    #[test]
    fn pull_budgets() {
        for (limit, remaining) in [
            ("100;w=21600", "76;w=21600"),
            (" 100 ; x=1; w=21600 ", "76"),
            ("100", "76; w=21600"),
            ("100;w=21600;w=3", "76;comment"),
        ] {
            assert_eq!(pulls(limit, remaining), Some((76, 100, 21600)), "{limit} {remaining}");
        }
        assert_eq!(pulls("200;w=4294967295", "0"), Some((0, 200, 4_294_967_295)));
        for (limit, remaining) in [
            ("100", "76"),
            ("100;w=", "76;w=0"),
            ("100;w=4294967296", "76"),
            ("100;w=-1", "76"),
            ("", "76;w=1"),
            ("100;w=1", "-1"),
            ("100, 200;w=1", "76"),
            ("18446744073709551616;w=1", "76"),
        ] {
            assert_eq!(pulls(limit, remaining), None, "{limit} {remaining}");
        }
        assert_eq!(PullBudget::of(&HeaderMap::new()), None);
    }

    #[test]
    fn dates() {
        let date = |value: HeaderValue| {
            let headers = HeaderMap::from_iter([(DATE, value)]);
            ResponseMetadata::of(&headers, false).date
        };
        let read = date(HeaderValue::from_static("Sun, 06 Nov 1994 08:49:37 GMT"));
        assert_eq!(read, Some(SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777)));
        for text in ["", "now", "784111777", "Sun, 06 Nov 10994 08:49:37 GMT"] {
            assert_eq!(date(HeaderValue::from_static(text)), None, "{text}");
        }
        assert_eq!(date(HeaderValue::from_bytes(b"\xff").unwrap()), None);
    }

    /// What a cache kept for an hour is dated an hour ago, and was answered now.
    #[test]
    fn the_age_of_a_cached_response_is_added_to_its_date() {
        let second = |age: Option<&'static str>| {
            let mut headers = HeaderMap::from_iter([(DATE, HeaderValue::from_static("Sun, 06 Nov 1994 08:49:37 GMT"))]);
            headers.extend(age.map(|age| (AGE, HeaderValue::from_static(age))));
            let date = ResponseMetadata::of(&headers, false).date.unwrap();
            date.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() - 784_111_777
        };
        for (age, want) in [(None, 0), (Some("3600"), 3600), (Some(" 7 "), 7), (Some("4294967295"), 4_294_967_295)] {
            assert_eq!(second(age), want, "{age:?}");
        }
        for nonsense in ["", "-1", "an hour", "4294967296", "1.5"] {
            assert_eq!(second(Some(nonsense)), 0, "{nonsense}");
        }
    }
}
