//! The ways in which alerts leave: standard output, webhook, mail, feed.

pub mod feed;
pub mod mail;
pub mod webhook;

use std::io::Write as _;

use super::{
    alert::Numbered,
    config::{SinkConfig, Way},
};
use feed::Feed;
use mail::Mail;
use webhook::Webhook;

/// How many alerts go into one message.
const MOST_IN_MAIL: usize = 50;
/// How many alerts are written to standard output in one go.
const MOST_LINES: usize = 100;

/// Why alerts did not leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SinkError {
    /// Nothing gets through for now.
    Unavailable(String),
    /// These were refused; others may get through.
    Refused(String),
}

impl SinkError {
    /// In words.
    pub fn reason(&self) -> &str {
        match self {
            SinkError::Unavailable(reason) | SinkError::Refused(reason) => reason,
        }
    }
}

/// One way out.
#[derive(Debug)]
pub enum Sink {
    /// Lines of JSON.
    Stdout,
    /// One request for each alert.
    Webhook(Webhook),
    /// One message for several alerts.
    Mail(Mail),
    /// A file with the newest alerts.
    Feed(Feed),
}

impl Sink {
    /// Gets a sink ready. `log` is the origin of the log that alerts are about.
    ///
    /// # Errors
    /// In words, when TLS cannot be set up.
    pub fn new(config: &SinkConfig, log: &str) -> Result<Sink, String> {
        Ok(match &config.way {
            Way::Stdout => Sink::Stdout,
            Way::Webhook { url, secret } => Sink::Webhook(Webhook::new(url.clone(), secret.clone())?),
            Way::Mail { command, from, to } => {
                Sink::Mail(Mail { command: command.clone(), from: from.clone(), to: to.clone() })
            }
            Way::Feed { path, entries } => Sink::Feed(Feed::new(path.clone(), *entries, log)),
        })
    }

    /// How many alerts it takes in one go.
    pub fn group(&self) -> usize {
        match self {
            Sink::Stdout => MOST_LINES,
            Sink::Webhook(_) => 1,
            Sink::Mail(_) => MOST_IN_MAIL,
            Sink::Feed(feed) => feed.entries(),
        }
    }

    /// Lets alerts leave. A feed is made of them all, whatever was in it.
    ///
    /// # Errors
    /// [`SinkError`]; none of them counts as delivered then.
    pub async fn send(&self, alerts: &[Numbered]) -> Result<(), SinkError> {
        match self {
            Sink::Stdout => print(alerts),
            Sink::Webhook(webhook) => {
                for alert in alerts {
                    webhook.send(alert).await?;
                }
                Ok(())
            }
            Sink::Mail(mail) => mail.send(alerts).await,
            Sink::Feed(feed) => feed.write(alerts),
        }
    }
}

fn print(alerts: &[Numbered]) -> Result<(), SinkError> {
    let lines: String = alerts.iter().map(|alert| format!("{}\n", alert.to_json())).collect();
    let mut out = std::io::stdout().lock();
    let written = out.write_all(lines.as_bytes()).and_then(|()| out.flush());
    written.map_err(|error| SinkError::Unavailable(format!("standard output: {error}")))
}

#[cfg(test)]
pub(super) mod tests {
    use taglog_proto::{name::Image, note::SigningKey, time::Timestamp};

    use super::*;
    use crate::alert::{Alert, AlertKind};

    /// A retag with this number.
    pub fn alert(number: i64) -> Numbered {
        let key = SigningKey::from_seed("log.example/x", &[1; 32]).unwrap();
        let time = Timestamp::from_unix(1_800_000_000 + number).unwrap();
        let about = number.to_string();
        let message = format!("docker.io/library/busybox:1 was RETAGGED <{number}> & more");
        let alert = Alert::event(key.verifier_key(), AlertKind::Retag, &[&about], time, message);
        let image = Image::parse("docker.io/library/busybox:1").unwrap();
        Numbered { sequence: number, alert: alert.with_image(&image).with_index(number.unsigned_abs()) }
    }
}
