//! Which cosigners the log asks: its policy file (c2sp.org/tlog-policy).

use std::{net::IpAddr, path::Path};

use reqwest::Url;
use taglog_proto::policy::{PolicyCosigner, PolicyLog, TrustPolicy};
use tokio::sync::watch;

use crate::{
    config::{Config, ConfigError},
    keys::LogKeys,
    publisher::{
        Publishing,
        endpoint::{Cosigner, Endpoint},
        rounds::Rounds,
        status::Statuses,
    },
    store::Store,
};

/// Reads the policy, which must be about this log if it names any.
///
/// # Errors
/// [`ConfigError::Read`], [`ConfigError::Policy`].
pub fn read_policy(path: &Path, keys: &LogKeys) -> Result<TrustPolicy, ConfigError> {
    let text = std::fs::read(path).map_err(|error| ConfigError::Read { path: path.to_owned(), error })?;
    let refused = |why: String| ConfigError::Policy { path: path.to_owned(), why };
    let policy = TrustPolicy::parse(&text).map_err(|error| refused(error.to_string()))?;
    if !policy.logs().is_empty() && !policy.logs().iter().any(|log| is_this_log(log, keys)) {
        let vkeys = keys.vkeys().join(" and ");
        return Err(refused(format!("its 'log' lines name other logs or keys; this log is {vkeys}")));
    }
    for PolicyCosigner { name, url, .. } in policy.cosigners() {
        if let Err(why) = parse_url(url.as_deref()) {
            return Err(refused(format!("witness {name}: {why}")));
        }
    }
    Ok(policy)
}

fn is_this_log(log: &PolicyLog, keys: &LogKeys) -> bool {
    let ml_dsa = keys.ml_dsa.as_ref().map(|key| key.key());
    log.key == *keys.verifier_key() && log.ml_dsa.as_ref().is_none_or(|key| Some(key) == ml_dsa)
}

fn parse_url(url: Option<&str>) -> Result<Url, &'static str> {
    const WANT: &str = "want its submission prefix, http:// or https://, at the end of the line";
    let url: Url = url.ok_or(WANT)?.parse().map_err(|_| WANT)?;
    let plain = url.query().is_none() && url.fragment().is_none() && url.has_host();
    if plain && matches!(url.scheme(), "http" | "https") { Ok(url) } else { Err(WANT) }
}

/// What it takes to get cosignatures.
pub struct Cosigning {
    /// Whom to ask.
    pub endpoints: Vec<Endpoint>,
    /// The task that asks.
    pub rounds: Rounds,
    /// How the cosigners are.
    pub statuses: Statuses,
}

impl Cosigning {
    /// For a policy that [`read_policy`] has accepted, and a log of `size` entries. Of the cosigners
    /// it is assumed that they have cosigned all of them; they say so if not.
    ///
    /// # Errors
    /// When no HTTP client can be made.
    pub fn new(
        policy: TrustPolicy,
        config: &Config,
        store: Store,
        size: u64,
        committed: watch::Receiver<u64>,
        publishing: Publishing,
    ) -> reqwest::Result<Cosigning> {
        let endpoint = |(url, cosigners)| Endpoint::new(url, cosigners, config.cosign_timeout(), store, size);
        let endpoints = by_url(&policy).into_iter().map(endpoint).collect::<Result<_, _>>()?;
        let (rounds, statuses) = Rounds::new(store, policy, config.cosign_interval(), committed, publishing);
        Ok(Cosigning { endpoints, rounds, statuses })
    }
}

/// Cosigners at one address are one endpoint.
fn by_url(policy: &TrustPolicy) -> Vec<(Url, Vec<Cosigner>)> {
    let mut by_url: Vec<(Url, Vec<Cosigner>)> = Vec::new();
    for (index, PolicyCosigner { name, key, url }) in policy.cosigners().iter().enumerate() {
        let Ok(url) = parse_url(url.as_deref()) else { continue };
        let cosigner = Cosigner { index, name: name.clone(), key: key.clone() };
        match by_url.iter_mut().find(|(known, _)| *known == url) {
            Some((_, cosigners)) => cosigners.push(cosigner),
            None => by_url.push((url, vec![cosigner])),
        }
    }
    by_url
}

/// Whether an address is this machine's own, which no proxy could reach.
pub fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or("").trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cosigner_needs_a_submission_prefix() {
        for good in ["http://127.0.0.1:8530", "https://witness.example/prefix/"] {
            assert!(parse_url(Some(good)).is_ok(), "{good}");
        }
        for bad in
            [None, Some(""), Some("witness.example"), Some("ftp://witness.example"), Some("https://w.example/?a=b")]
        {
            assert!(parse_url(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn loopback_is_known() {
        for (url, is) in [
            ("http://127.0.0.1:1", true),
            ("http://[::1]:1", true),
            ("http://localhost", true),
            ("https://w.example", false),
        ] {
            assert_eq!(is_loopback(&url.parse().unwrap()), is, "{url}");
        }
    }
}
