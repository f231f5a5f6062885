//! Reads the policy file (c2sp.org/tlog-policy), and sets up the cosigning of checkpoints from it.

use std::path::Path;

use reqwest::Url;
use taglog_proto::policy::{PolicyCosigner, PolicyLog, TrustPolicy};
use tokio::sync::watch;

use crate::{
    config::{Config, ConfigError},
    keys::LogKeys,
    publisher::{
        PublicationSender,
        cosigning_task::CosigningTask,
        endpoint::{Endpoint, EndpointCosigner},
        status::Statuses,
    },
    store::Store,
};

/// Reads and checks a policy. If it names logs, this log must be one of them; every cosigner needs an address.
pub fn read_policy(path: &Path, keys: &LogKeys) -> Result<TrustPolicy, ConfigError> {
    let text = std::fs::read(path).map_err(|error| ConfigError::Read { path: path.to_owned(), error })?;
    let invalid = |why: String| ConfigError::Policy { path: path.to_owned(), why };
    let policy = TrustPolicy::parse(&text).map_err(|error| invalid(error.to_string()))?;
    if !policy.logs().is_empty() && !policy.logs().iter().any(|log| is_this_log(log, keys)) {
        let vkeys = keys.vkeys().join(" and ");
        return Err(invalid(format!(
            "its 'log' lines name other logs or keys; name this log, {vkeys}, or remove the lines"
        )));
    }
    for PolicyCosigner { name, url, .. } in policy.cosigners() {
        if let Err(why) = parse_url(url.as_deref()) {
            return Err(invalid(format!("witness {name}: {why}")));
        }
    }
    Ok(policy)
}

fn is_this_log(log: &PolicyLog, keys: &LogKeys) -> bool {
    let ml_dsa = keys.ml_dsa.as_ref().map(|key| key.key());
    log.key == *keys.verifier_key() && log.ml_dsa.as_ref().is_none_or(|key| Some(key) == ml_dsa)
}

fn parse_url(url: Option<&str>) -> Result<Url, &'static str> {
    const EXPECTED: &str = "want its submission prefix, http:// or https://, at the end of the line";
    let url: Url = url.ok_or(EXPECTED)?.parse().map_err(|_| EXPECTED)?;
    let plain = url.query().is_none() && url.fragment().is_none() && url.has_host();
    if plain && matches!(url.scheme(), "http" | "https") { Ok(url) } else { Err(EXPECTED) }
}

/// Everything needed to get cosignatures.
pub struct CosigningSetup {
    pub endpoints: Vec<Endpoint>,
    pub task: CosigningTask,
    pub statuses: Statuses,
}

impl CosigningSetup {
    /// `policy` must come from [`read_policy`], and the log has `size` entries. The cosigners are assumed to have cosigned
    /// them all; a cosigner with another size answers with it (409).
    ///
    /// # Errors
    /// No HTTP client can be created.
    pub fn new(
        policy: TrustPolicy,
        config: &Config,
        store: Store,
        size: u64,
        committed: watch::Receiver<u64>,
        publishing: PublicationSender,
    ) -> reqwest::Result<CosigningSetup> {
        let endpoint = |(url, cosigners)| Endpoint::new(url, cosigners, config.cosign_timeout(), store, size);
        let endpoints = by_url(&policy).into_iter().map(endpoint).collect::<Result<_, _>>()?;
        let (task, statuses) = CosigningTask::new(store, policy, config.cosign_interval(), committed, publishing);
        Ok(CosigningSetup { endpoints, task, statuses })
    }
}

/// Groups the cosigners by address: one endpoint for each address.
fn by_url(policy: &TrustPolicy) -> Vec<(Url, Vec<EndpointCosigner>)> {
    let mut by_url: Vec<(Url, Vec<EndpointCosigner>)> = Vec::new();
    for (index, PolicyCosigner { name, key, url }) in policy.cosigners().iter().enumerate() {
        let Ok(url) = parse_url(url.as_deref()) else { continue };
        let cosigner = EndpointCosigner { index, name: name.clone(), key: key.clone() };
        match by_url.iter_mut().find(|(other, _)| *other == url) {
            Some((_, cosigners)) => cosigners.push(cosigner),
            None => by_url.push((url, vec![cosigner])),
        }
    }
    by_url
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
}
