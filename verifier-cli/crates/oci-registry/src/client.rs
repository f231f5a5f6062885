//! The requests of [`Registry`](crate::Registry): time limit, log-in, and retry with new authorization.

use std::{path::PathBuf, time::Duration};

use reqwest::{Method, StatusCode, Url, header::HeaderMap};

use super::{
    auth,
    authorization_cache::{Authorization, AuthorizationCache},
    challenge::Challenge,
    credentials,
    error::RegistryError,
    metadata::ResponseMetadata,
    options::{Login, RegistryOptions},
    target::Target,
    transport::{self, RegistryRequest, RegistryResponse, Transport, not_a_registry, refuse_html},
};

#[derive(Debug)]
pub(super) struct RegistryClient {
    transport: Transport,
    timeout: Duration,
    login: Login,
    docker_config: Option<PathBuf>,
    authorizations: AuthorizationCache,
}

impl RegistryClient {
    pub(super) fn new(options: RegistryOptions) -> Result<Self, RegistryError> {
        Ok(Self {
            transport: Transport::new(options.plain_http)?,
            timeout: options.timeout,
            login: options.login,
            docker_config: options.docker_config,
            authorizations: AuthorizationCache::default(),
        })
    }

    pub(super) async fn within_timeout<T>(
        &self,
        target: &Target,
        work: impl Future<Output = Result<T, RegistryError>>,
    ) -> Result<T, RegistryError> {
        tokio::time::timeout(self.timeout, work).await.unwrap_or_else(|_| {
            let (registry, after) = (target.registry().to_owned(), self.timeout);
            Err(RegistryError::Timeout { target: target.to_string(), registry, after })
        })
    }

    pub(super) fn url(&self, target: &Target) -> Result<Url, RegistryError> {
        target.url(self.transport.is_plain(target.registry()))
    }

    pub(super) async fn ping(&self, target: &Target) -> Result<ResponseMetadata, RegistryError> {
        let request = RegistryRequest { method: Method::GET, url: self.url(target)?, headers: HeaderMap::new() };
        let answer = self.transport.fetch(target, &request, None).await?;
        match answer.status() {
            StatusCode::OK | StatusCode::UNAUTHORIZED => refuse_html(target, answer.headers())?,
            StatusCode::NOT_FOUND => return Err(not_a_registry(target, "it answered 404 to GET /v2/")),
            _ => return Err(answer.refusal(target)),
        }
        Ok(answer.metadata())
    }

    /// Sends a request, logging in where the registry asks for it. Returns the response whatever its status.
    pub(super) async fn request(
        &self,
        target: &Target,
        request: RegistryRequest,
    ) -> Result<RegistryResponse, RegistryError> {
        // The next page of a list may be on the host that a redirect led to, which must not get the authorization.
        if self.url(target)?.origin() != request.url.origin() {
            return self.transport.fetch(target, &request, None).await;
        }
        let mut refused = None;
        if let Some(authorization) = self.authorizations.get(&target.repository).await {
            let answer = self.transport.fetch(target, &request, Some(&authorization)).await?;
            // 403 too: some registries return it when a token has expired.
            if !matches!(answer.status(), StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
                return Ok(answer);
            }
            self.authorizations.invalidate(&target.repository, &authorization).await;
            let has_challenge = answer.status() == StatusCode::UNAUTHORIZED && challenge(target, &answer).is_ok();
            refused = has_challenge.then_some(answer);
        }
        let answer = match refused {
            Some(answer) => answer,
            None => self.transport.fetch(target, &request, None).await?,
        };
        if answer.status() != StatusCode::UNAUTHORIZED {
            return Ok(answer);
        }
        let challenge = challenge(target, &answer)?;
        // Returns the connection to the pool for the log-in and the next request.
        drop(answer);
        let authorization = self.authorizations.renew(&target.repository, self.log_in(target, challenge)).await?;
        let answer = self.transport.fetch(target, &request, Some(&authorization)).await?;
        if answer.status() == StatusCode::UNAUTHORIZED {
            self.authorizations.invalidate(&target.repository, &authorization).await;
        }
        Ok(answer)
    }

    async fn log_in(&self, target: &Target, challenge: Challenge) -> Result<Authorization, RegistryError> {
        let credentials = match self.login {
            Login::Never => None,
            Login::Stored => {
                let key = target.credentials_key().to_owned();
                let loaded = credentials::load(self.docker_config.clone(), key, self.timeout / 2).await;
                loaded.map_err(|reason| RegistryError::Credentials {
                    target: target.to_string(),
                    registry: target.registry().to_owned(),
                    reason,
                })?
            }
        };
        auth::authorize(&self.transport, target, challenge, credentials).await
    }
}

/// The challenge in a 401 response.
fn challenge(target: &Target, refused: &RegistryResponse) -> Result<Challenge, RegistryError> {
    if refused.left_origin {
        let reason = "that host asks for credentials, and they are only sent to the registry itself";
        return Err(transport::redirected_away(target, refused.response.url(), reason));
    }
    Challenge::strongest(refused.headers()).ok_or_else(|| refused.refusal(target))
}
