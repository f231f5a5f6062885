//! Docker's stored credentials: config.json, its credential helpers and its credential store.
//!
//! `docker_credential` parses the file and runs the helpers. This module adds: a missing file, or a helper without an
//! entry for the registry, means anonymous access; an unreadable file or a failing helper is an error; a helper that hangs
//! does not block the program.

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
    time::Duration,
};

use docker_credential::{CredentialRetrievalError, DockerCredential};
use serde_json::Value;
use taglog_base::text::{excerpt, path_line};
use tokio::sync::oneshot;

/// What every credential helper prints, by Docker's protocol, when it has no entry for a registry.
const HELPER_HAS_NONE: &str = "credentials not found in native keychain";

/// The stored credentials under `key`; `None` where there are none.
///
/// `directory` is where config.json is looked for; `None` means `$DOCKER_CONFIG`, else `~/.docker`. A helper
/// gets `limit` to answer. The error is the reason as text.
pub(super) async fn load(
    directory: Option<PathBuf>,
    key: String,
    limit: Duration,
) -> Result<Option<DockerCredential>, String> {
    let (answer, wait) = oneshot::channel();
    // A thread of its own and not tokio's blocking pool: the pool waits for its tasks when the program ends,
    // and a helper may hang for ever.
    std::thread::Builder::new()
        .name("docker-credentials".to_owned())
        .spawn(move || {
            // After the time limit the receiver is gone, and the result is not needed.
            let _ = answer.send(load_blocking(directory, &key));
        })
        .map_err(|error| error.to_string())?;
    match tokio::time::timeout(limit, wait).await {
        Ok(Ok(credentials)) => credentials,
        Ok(Err(_)) => Err("reading them failed unexpectedly".to_owned()),
        Err(_) => Err(format!("the credential helper did not answer within {} seconds", limit.as_secs_f32())),
    }
}

fn load_blocking(directory: Option<PathBuf>, key: &str) -> Result<Option<DockerCredential>, String> {
    let Some(path) = directory.or_else(default_directory).map(|directory| directory.join("config.json")) else {
        return Ok(None);
    };
    let Some(config) = read_config(&path)? else {
        return Ok(None);
    };
    match docker_credential::get_credential_from_reader(config.to_string().as_bytes(), key) {
        Ok(credentials) if is_empty(&credentials) => Ok(None),
        Ok(credentials) => Ok(Some(credentials)),
        Err(CredentialRetrievalError::NoCredentialConfigured) => Ok(None),
        Err(CredentialRetrievalError::HelperFailure { stdout, .. }) if stdout.trim() == HELPER_HAS_NONE => Ok(None),
        Err(error) => Err(describe(&error, &path)),
    }
}

fn default_directory() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let home = || set("HOME").map(|home| Path::new(&home).join(".docker"));
    set("DOCKER_CONFIG").map(PathBuf::from).or_else(home)
}

fn read_config(path: &Path) -> Result<Option<Value>, String> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("{}: {error}", path_line(path))),
    };
    let mut config = serde_json::from_slice(&bytes)
        .map_err(|error| format!("{} is not JSON, line {}", path_line(path), error.line()))?;
    drop_empty_settings(&mut config);
    Ok(Some(config))
}

/// Docker takes an empty string for "not set"; `docker_credential` would run a helper without a name, or fail
/// to decode an empty login.
fn drop_empty_settings(config: &mut Value) {
    let Some(config) = config.as_object_mut() else {
        return;
    };
    config.retain(|name, value| name != "credsStore" || value != "");
    let logins = config.get_mut("auths").and_then(Value::as_object_mut);
    for login in logins.into_iter().flat_map(|logins| logins.values_mut()) {
        if let Some(fields) = login.as_object_mut() {
            fields.retain(|_, value| value != "");
        }
    }
}

fn is_empty(credentials: &DockerCredential) -> bool {
    match credentials {
        DockerCredential::IdentityToken(token) => token.is_empty(),
        DockerCredential::UsernamePassword(user, password) => user.is_empty() && password.is_empty(),
    }
}

fn describe(error: &CredentialRetrievalError, path: &Path) -> String {
    match error {
        // By Docker's protocol a helper says on its standard output why it failed.
        CredentialRetrievalError::HelperFailure { helper, stdout, stderr } => {
            let output = if stdout.trim().is_empty() { stderr } else { stdout };
            format!("{} failed: {}", excerpt(helper), excerpt(output))
        }
        CredentialRetrievalError::HelperCommunicationError => {
            format!("the credential helper named in {} cannot be run", path_line(path))
        }
        CredentialRetrievalError::ConfigReadError => {
            format!("{} has fields of the wrong kind", path_line(path))
        }
        other => format!("{}: {}", path_line(path), excerpt(&other.to_string())),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // What fails in here fails the test.
mod tests {
    use super::*;

    fn with_config(json: &str, key: &str) -> Result<Option<DockerCredential>, String> {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("config.json"), json).unwrap();
        load_blocking(Some(directory.path().to_owned()), key)
    }

    #[test]
    fn nothing_stored_means_anonymous() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(load_blocking(Some(directory.path().to_owned()), "r.example"), Ok(None));
        for json in [
            "{}",
            r#"{"auths":{"r.example":{}}}"#,
            r#"{"auths":{"r.example":{"auth":""}},"credsStore":""}"#,
            r#"{"auths":{"r.example":{"identitytoken":""}}}"#,
            r#"{"auths":{"other.example":{"auth":"dTpw"}}}"#,
        ] {
            assert_eq!(with_config(json, "r.example"), Ok(None), "{json}");
        }
    }

    #[test]
    fn logins_are_found() {
        let password = DockerCredential::UsernamePassword("u".into(), "p".into());
        let found = with_config(r#"{"auths":{"r.example":{"auth":"dTpw"}}}"#, "r.example");
        assert_eq!(found, Ok(Some(password)));
        let hub = r#"{"auths":{"https://index.docker.io/v1/":{"auth":"AAAA","identitytoken":"t"}}}"#;
        let found = with_config(hub, "https://index.docker.io/v1/");
        assert_eq!(found, Ok(Some(DockerCredential::IdentityToken("t".into()))));
    }

    #[test]
    fn broken_settings_are_errors() {
        for json in [
            "{",
            "[]",
            r#"{"auths":3}"#,
            r#"{"auths":{"r.example":{"auth":"%%%"}}}"#,
            r#"{"credHelpers":{"r.example":"taglog-no-such-helper"}}"#,
            r#"{"credsStore":"taglog-no-such-helper"}"#,
        ] {
            assert!(with_config(json, "r.example").is_err(), "{json}");
        }
    }
}
