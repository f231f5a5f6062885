//! Sinks, to which alerts are delivered: standard output, webhook, mail, feed.

pub mod feed;
pub mod mail;
pub mod webhook;

use std::io::Write as _;

use super::{
    alert::SequencedAlert,
    config::{SinkConfig, SinkTarget},
};
use feed::Feed;
use mail::Mail;
use webhook::Webhook;

/// The most alerts in one message.
const MAX_ALERTS_IN_MAIL: usize = 50;
/// The most alerts that are written to standard output at once.
const MAX_LINES: usize = 100;

/// Why alerts were not delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SinkError {
    /// The sink takes no alerts for now.
    Unavailable(String),
    /// The sink rejected these alerts; it may accept others.
    Refused(String),
}

impl SinkError {
    pub fn reason(&self) -> &str {
        match self {
            SinkError::Unavailable(reason) | SinkError::Refused(reason) => reason,
        }
    }
}

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
    /// `log` is the origin of the log that alerts are about. Fails if TLS cannot be set up.
    pub fn new(config: &SinkConfig, log: &str) -> Result<Sink, String> {
        Ok(match &config.target {
            SinkTarget::Stdout => Sink::Stdout,
            SinkTarget::Webhook { url, secret } => Sink::Webhook(Webhook::new(url.clone(), secret.clone())?),
            SinkTarget::Mail { command, from, to } => {
                Sink::Mail(Mail { command: command.clone(), from: from.clone(), to: to.clone() })
            }
            SinkTarget::Feed { path, entries } => Sink::Feed(Feed::new(path.clone(), *entries, log)),
        })
    }

    /// How many alerts one call of [`Sink::send`] takes.
    pub fn group(&self) -> usize {
        match self {
            Sink::Stdout => MAX_LINES,
            Sink::Webhook(_) => 1,
            Sink::Mail(_) => MAX_ALERTS_IN_MAIL,
            Sink::Feed(feed) => feed.entries(),
        }
    }

    /// Delivers alerts. A feed is replaced by these alerts.
    ///
    /// # Errors
    /// None of the alerts counts as delivered.
    pub async fn send(&self, alerts: &[SequencedAlert]) -> Result<(), SinkError> {
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

fn print(alerts: &[SequencedAlert]) -> Result<(), SinkError> {
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
    pub fn alert(number: i64) -> SequencedAlert {
        let key = SigningKey::from_seed("log.example/x", &[1; 32]).unwrap();
        let time = Timestamp::from_unix(1_800_000_000 + number).unwrap();
        let about = number.to_string();
        let message = format!("docker.io/library/busybox:1 was RETAGGED <{number}> & more");
        let alert = Alert::event(key.verifier_key(), AlertKind::Retag, &[&about], time, message);
        let image = Image::parse("docker.io/library/busybox:1").unwrap();
        SequencedAlert { sequence: number, alert: alert.with_image(&image).with_index(number.unsigned_abs()) }
    }
}
