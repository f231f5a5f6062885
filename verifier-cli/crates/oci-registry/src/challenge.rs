//! `WWW-Authenticate` headers.

use http_auth::ChallengeRef;
use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};

/// How a registry wants a request to be authorized.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    /// Fetch a token from `realm`.
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
    /// Send user name and password.
    Basic,
}

impl Challenge {
    /// The challenge to answer: Bearer where it is offered, since then the password only goes to the token service; else
    /// Basic; `None` where there is no well-formed challenge of either scheme.
    pub(super) fn strongest(headers: &HeaderMap) -> Option<Self> {
        let texts = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        let offers: Vec<Self> = texts.flat_map(offers).collect();
        let bearer = offers.iter().find(|offer| matches!(offer, Self::Bearer { .. }));
        bearer.or_else(|| offers.first()).cloned()
    }
}

fn offers(header: &str) -> Vec<Challenge> {
    // Challenges before a syntax error still count.
    let readable = http_auth::parser::ChallengeParser::new(header).map_while(Result::ok);
    readable.filter_map(|challenge| offer(&challenge)).collect()
}

fn offer(challenge: &ChallengeRef<'_>) -> Option<Challenge> {
    let parameter = |wanted: &str| {
        let found = challenge.params.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted));
        found.map(|(_, value)| value.to_unescaped()).filter(|value| !value.is_empty())
    };
    if challenge.scheme.eq_ignore_ascii_case("basic") {
        return Some(Challenge::Basic);
    }
    if !challenge.scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    let (realm, service, scope) = (parameter("realm")?, parameter("service"), parameter("scope"));
    Some(Challenge::Bearer { realm, service, scope })
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderValue;

    use super::*;

    fn strongest(values: &[&'static str]) -> Option<Challenge> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(WWW_AUTHENTICATE, HeaderValue::from_static(value));
        }
        Challenge::strongest(&headers)
    }

    #[test]
    fn bearer_is_preferred_to_basic() {
        let bearer = Challenge::Bearer {
            realm: "https://auth.example/token".into(),
            service: Some("reg".into()),
            scope: Some("repository:a:pull,push".into()),
        };
        let text = r#"bearer realm="https://auth.example/token",service="reg",scope="repository:a:pull,push""#;
        assert_eq!(strongest(&[text]), Some(bearer.clone()));
        assert_eq!(strongest(&[r#"Basic realm="x""#, text]), Some(bearer));
        assert_eq!(strongest(&[r#"Basic realm="x""#]), Some(Challenge::Basic));
    }

    #[test]
    fn other_schemes_and_malformed_challenges_are_ignored() {
        for values in [&[][..], &["Negotiate"], &["Bearer service=\"x\""], &["Bearer realm=\"\""], &["\"\"\""]] {
            assert_eq!(strongest(values), None, "{values:?}");
        }
    }
}
