//! Answers a registry's challenge with the stored credentials: the value for the `Authorization` header.

use docker_credential::DockerCredential;
use reqwest::{Method, Response, StatusCode, Url, header::HeaderMap};
use serde::Deserialize;

use super::{
    authorization_cache::{AuthScheme, Authorization},
    challenge::Challenge,
    error::RegistryError,
    target::Target,
    transport::{RegistryRequest, Transport, not_a_registry, read_body, redirected_away, refusal},
};

/// The largest response of a token service, in bytes. Real ones are a few kilobytes.
const MAX_TOKEN_RESPONSE: usize = 256 * 1024;

/// The response of a token service, which has the token under either name.
#[derive(Deserialize)]
#[serde(untagged)]
enum TokenResponse {
    Token { token: String },
    AccessToken { access_token: String },
}

/// Answers `challenge` with `credentials`; without them, requests an anonymous token.
pub(super) async fn authorize(
    transport: &Transport,
    target: &Target,
    challenge: Challenge,
    credentials: Option<DockerCredential>,
) -> Result<Authorization, RegistryError> {
    let Challenge::Bearer { realm, service, scope } = challenge else {
        return basic(target, credentials);
    };
    let scope = scope.unwrap_or_else(|| format!("repository:{}:pull", target.repository.path()));
    let realm = token_service(transport, target, &realm)?;
    let service = service.as_deref();
    let logged_in = credentials.is_some();
    let response = match credentials {
        Some(DockerCredential::IdentityToken(token)) => {
            exchange_identity_token(transport, target, realm, service, &scope, &token).await?
        }
        other => request_token(transport, target, realm, service, &scope, other).await?,
    };
    let token = read_token(target, response, logged_in).await?;
    Ok(Authorization { auth: AuthScheme::Bearer(token), logged_in })
}

fn basic(target: &Target, credentials: Option<DockerCredential>) -> Result<Authorization, RegistryError> {
    match credentials {
        Some(DockerCredential::UsernamePassword(user, password)) => {
            Ok(Authorization { auth: AuthScheme::Basic(user, password), logged_in: true })
        }
        Some(DockerCredential::IdentityToken(_)) => Err(RegistryError::Credentials {
            target: target.to_string(),
            registry: target.registry().to_owned(),
            reason: "an identity token is stored, but the registry asks for user name and password".to_owned(),
        }),
        None => Err(RegistryError::Unauthorized {
            target: target.to_string(),
            registry: target.registry().to_owned(),
            logged_in: false,
        }),
    }
}

/// The address of the token service. It receives the password, so it must use TLS, unless plain HTTP is allowed for the
/// registry.
fn token_service(transport: &Transport, target: &Target, realm: &str) -> Result<Url, RegistryError> {
    let Ok(url) = Url::parse(realm) else {
        return Err(not_a_registry(target, &format!("its token service {realm} is no URL")));
    };
    match url.scheme() {
        "https" => Ok(url),
        "http" if transport.is_plain(target.registry()) => Ok(url),
        _ => Err(redirected_away(target, &url, "its token service must use HTTPS")),
    }
}

/// Requests a token by GET, with user name and password if there are any.
async fn request_token(
    transport: &Transport,
    target: &Target,
    mut url: Url,
    service: Option<&str>,
    scope: &str,
    credentials: Option<DockerCredential>,
) -> Result<Response, RegistryError> {
    {
        let mut query = url.query_pairs_mut();
        query.extend_pairs(service.map(|service| ("service", service)));
        query.extend_pairs(scope.split_whitespace().map(|scope| ("scope", scope)));
    }
    let login = match credentials {
        Some(DockerCredential::UsernamePassword(user, password)) => {
            Some(Authorization { auth: AuthScheme::Basic(user, password), logged_in: true })
        }
        _ => None,
    };
    let request = RegistryRequest { method: Method::GET, url, headers: HeaderMap::new() };
    let answer = transport.fetch(target, &request, login.as_ref()).await?;
    Ok(answer.response)
}

/// Exchanges an identity token (an OAuth 2 refresh token) for a token to pull with.
async fn exchange_identity_token(
    transport: &Transport,
    target: &Target,
    url: Url,
    service: Option<&str>,
    scope: &str,
    identity_token: &str,
) -> Result<Response, RegistryError> {
    let fields = [
        ("grant_type", "refresh_token"),
        ("client_id", "taglog"),
        ("service", service.unwrap_or_default()),
        ("scope", scope),
        ("refresh_token", identity_token),
    ];
    transport.post_form(target, url, &fields).await
}

async fn read_token(target: &Target, response: Response, logged_in: bool) -> Result<String, RegistryError> {
    match response.status() {
        StatusCode::OK => {}
        // OAuth 2 returns 400 for a refresh token that is no longer valid.
        StatusCode::BAD_REQUEST if logged_in => {
            return Err(refusal(target, StatusCode::UNAUTHORIZED, response.headers(), logged_in));
        }
        StatusCode::NOT_FOUND => {
            return Err(not_a_registry(target, "its token service does not exist"));
        }
        status => return Err(refusal(target, status, response.headers(), logged_in)),
    }
    let no_token = || not_a_registry(target, "its token service returned no token");
    let body = match read_body(target, response, MAX_TOKEN_RESPONSE).await {
        Err(RegistryError::TooLarge { .. }) => return Err(no_token()),
        other => other?,
    };
    let (TokenResponse::Token { token } | TokenResponse::AccessToken { access_token: token }) =
        serde_json::from_slice(&body).map_err(|_| no_token())?;
    let sendable = |token: &str| !token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic());
    if sendable(&token) { Ok(token) } else { Err(no_token()) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // What fails in here fails the test.
mod tests {
    use taglog_proto::name::Image;

    use super::*;

    #[test]
    fn a_token_service_needs_tls_where_its_registry_does() {
        let transport = Transport::new(vec!["plain.example".to_owned()]).unwrap();
        let service = |repository: &str, realm: &str| {
            let target = Target::from(&Image::parse(&format!("{repository}:v1")).unwrap());
            token_service(&transport, &target, realm)
        };
        for repository in ["reg.example/a", "plain.example/a", "127.0.0.1:5000/a"] {
            assert!(service(repository, "https://auth.example/token").is_ok());
        }
        for repository in ["plain.example/a", "127.0.0.1:5000/a"] {
            assert!(service(repository, "http://auth.example/token").is_ok());
        }
        for realm in ["http://reg.example/token", "http://127.0.0.1/token", "ftp://reg.example/"] {
            let answer = service("reg.example/a", realm);
            assert!(matches!(answer, Err(RegistryError::RedirectedAway { .. })), "{realm}");
        }
        for realm in ["", "token", "https://"] {
            let answer = service("reg.example/a", realm);
            assert!(matches!(answer, Err(RegistryError::NotARegistry { .. })), "{realm}");
        }
    }
}
