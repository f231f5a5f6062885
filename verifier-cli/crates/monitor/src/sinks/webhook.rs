//! The webhook: one POST for each alert, signed according to Standard Webhooks (www.standardwebhooks.com), so that
//! receivers can verify it with existing libraries.

use std::time::{Duration, SystemTime};

use reqwest::{Client, StatusCode, Url, header::CONTENT_TYPE, redirect::Policy};

use super::SinkError;
use crate::{alert::SequencedAlert, webhook_secret::Secret};

/// How long the receiver may take to answer.
const TIMEOUT: Duration = Duration::from_secs(20);
#[derive(Debug)]
pub struct Webhook {
    url: Url,
    secret: Option<Secret>,
    client: Client,
}

impl Webhook {
    /// Fails if TLS cannot be set up.
    pub fn new(url: Url, secret: Option<Secret>) -> Result<Webhook, String> {
        let builder = Client::builder().timeout(TIMEOUT).user_agent(concat!("taglog/", env!("CARGO_PKG_VERSION")));
        // A redirect would turn the POST into a GET, or send the alert to an address that is not configured.
        let client = builder.redirect(Policy::none()).build().map_err(|error| error.to_string())?;
        Ok(Webhook { url, secret, client })
    }

    /// Sends one alert. Errors do not contain the address, which may contain a secret.
    pub async fn send(&self, alert: &SequencedAlert) -> Result<(), SinkError> {
        let body = alert.to_json().to_string();
        let timestamp = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let id = &alert.alert.id;
        let mut request = self.client.post(self.url.clone()).header(CONTENT_TYPE, "application/json");
        request = request.header("webhook-id", id).header("webhook-timestamp", timestamp);
        if let Some(secret) = &self.secret {
            request = request.header("webhook-signature", secret.sign(id, timestamp, &body));
        }
        let answer = request.body(body).send().await.map_err(|error| SinkError::Unavailable(reason(error)))?;
        classify(answer.status())
    }
}

/// Whether a status means that the alert was accepted, rejected, or that the receiver is unavailable.
fn classify(status: StatusCode) -> Result<(), SinkError> {
    let reason = || format!("the webhook answers {status}");
    match status.as_u16() {
        200..=299 => Ok(()),
        // Errors of this request, in contrast to errors of the address, the permissions and the rate.
        400 | 405..=407 | 409..=428 | 431 | 451 => Err(SinkError::Refused(reason())),
        _ => Err(SinkError::Unavailable(reason())),
    }
}

fn reason(error: reqwest::Error) -> String {
    let reason = error.without_url();
    let mut text = reason.to_string();
    // The innermost cause is the most specific.
    let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(&reason);
    while let Some(inner) = cause {
        text = inner.to_string();
        cause = inner.source();
    }
    format!("the webhook cannot be reached: {text}")
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use axum::{Router, body::Bytes, extract::State, http::HeaderMap, routing::post};
    use tokio::net::TcpListener;

    use super::*;
    use crate::sinks::tests::alert;

    const SECRET: &str = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz";

    #[derive(Default)]
    struct Receiver {
        /// What it answers, the last first.
        answers: Vec<u16>,
        got: Vec<(HeaderMap, Bytes)>,
    }

    type Shared = Arc<Mutex<Receiver>>;

    async fn receive(State(shared): State<Shared>, headers: HeaderMap, body: Bytes) -> (StatusCode, HeaderMap) {
        let mut receiver = shared.lock().unwrap();
        receiver.got.push((headers, body));
        let status = receiver.answers.pop().unwrap_or(204);
        let mut answer = HeaderMap::new();
        answer.insert("location", "/elsewhere".parse().unwrap());
        (StatusCode::from_u16(status).unwrap(), answer)
    }

    async fn receiver(answers: &[u16]) -> (Url, Shared) {
        let answers = answers.iter().rev().copied().collect();
        let shared: Shared = Arc::new(Mutex::new(Receiver { answers, ..Receiver::default() }));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = Url::parse(&format!("http://{}/hook?token=t0k3n", listener.local_addr().unwrap())).unwrap();
        let router = Router::new().fallback(post(receive)).with_state(Arc::clone(&shared));
        tokio::spawn(async move { axum::serve(listener, router).await });
        (url, shared)
    }

    #[tokio::test]
    async fn another_implementation_verifies_the_signature() {
        let (url, shared) = receiver(&[]).await;
        let webhook = Webhook::new(url, Some(Secret::parse(SECRET).unwrap())).unwrap();
        webhook.send(&alert(7)).await.unwrap();
        let (headers, body) = shared.lock().unwrap().got.remove(0);
        assert_eq!(headers["webhook-id"], alert(7).alert.id);
        assert_eq!(headers["content-type"], "application/json");
        let value: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(value, alert(7).to_json());
        let theirs = standardwebhooks::Webhook::new(SECRET).unwrap();
        theirs.verify(&body, &headers).unwrap();
        assert!(theirs.verify(b"{}", &headers).is_err());
        let mut other = headers.clone();
        other.insert("webhook-id", "0".parse().unwrap());
        assert!(theirs.verify(&body, &other).is_err(), "the signature does not cover the id");
    }

    #[tokio::test]
    async fn statuses_are_classified_and_errors_do_not_contain_the_address() {
        let statuses = [200, 204, 302, 400, 401, 404, 413, 422, 429, 500, 503];
        let (url, _) = receiver(&statuses).await;
        let webhook = Webhook::new(url, None).unwrap();
        let mut said = Vec::new();
        for status in statuses {
            match webhook.send(&alert(1)).await {
                Ok(()) => said.push((status, "ok")),
                Err(SinkError::Refused(reason)) => {
                    assert!(reason.contains(&status.to_string()) && !reason.contains("t0k3n"), "{reason}");
                    said.push((status, "refused"));
                }
                Err(SinkError::Unavailable(reason)) => {
                    assert!(reason.contains(&status.to_string()) && !reason.contains("t0k3n"), "{reason}");
                    said.push((status, "unavailable"));
                }
            }
        }
        let of =
            |want: &str| said.iter().filter(|(_, got)| *got == want).map(|(status, _)| *status).collect::<Vec<_>>();
        assert_eq!(of("ok"), [200, 204]);
        assert_eq!(of("refused"), [400, 413, 422]);
        assert_eq!(of("unavailable"), [302, 401, 404, 429, 500, 503]);
    }

    #[tokio::test]
    async fn an_unreachable_receiver_is_reported_without_its_address() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = Url::parse(&format!("http://{}/t0k3n", listener.local_addr().unwrap())).unwrap();
        drop(listener);
        let outcome = Webhook::new(url, None).unwrap().send(&alert(1)).await;
        assert!(matches!(&outcome, Err(SinkError::Unavailable(why)) if !why.contains("t0k3n")), "{outcome:?}");
    }
}
