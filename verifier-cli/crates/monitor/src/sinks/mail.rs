//! Mail through the interface of sendmail: a program that reads a message, with its recipients, from standard input.

use std::{process::Stdio, time::Duration};

use lettre::{
    Message,
    message::{Mailbox, header},
};
use taglog_proto::time::Timestamp;
use tokio::{io::AsyncWriteExt as _, process::Command};

use super::SinkError;
use crate::alert::SequencedAlert;
use taglog_base::text::{line_within, one_line, whole_line};

/// How long the program may take.
const TIMEOUT: Duration = Duration::from_secs(60);
/// The most characters of a message in the subject.
const MAX_SUBJECT: usize = 160;

/// A program that sends mail.
#[derive(Debug)]
pub struct Mail {
    /// The program and its arguments.
    pub command: Vec<String>,
    pub from: Mailbox,
    pub to: Vec<Mailbox>,
}

impl Mail {
    /// Sends alerts as one message.
    pub async fn send(&self, alerts: &[SequencedAlert]) -> Result<(), SinkError> {
        let Some(first) = alerts.first() else { return Ok(()) };
        let message = self.message(first, alerts).map_err(SinkError::Refused)?;
        match tokio::time::timeout(TIMEOUT, self.run(&message)).await {
            Ok(outcome) => outcome.map_err(|why| SinkError::Unavailable(format!("{}: {why}", self.program()))),
            Err(_) => Err(SinkError::Unavailable(format!("{} has not ended within {TIMEOUT:?}", self.program()))),
        }
    }

    fn program(&self) -> &str {
        self.command.first().map_or("", String::as_str)
    }

    async fn run(&self, message: &[u8]) -> Result<(), String> {
        let mut command = Command::new(self.program());
        command.args(&self.command[1..]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.kill_on_drop(true).spawn().map_err(|error| error.to_string())?;
        let mut stdin = child.stdin.take().ok_or("it has no standard input")?;
        let write = async move {
            stdin.write_all(message).await?;
            stdin.shutdown().await
        };
        // Both at once: a program that writes much output before it has read the message must not block.
        let (written, output) = tokio::join!(write, child.wait_with_output());
        let output = output.map_err(|error| error.to_string())?;
        if !output.status.success() {
            let message = one_line(&String::from_utf8_lossy(&output.stderr));
            return Err(format!("it ended with {}: {message}", output.status));
        }
        written.map_err(|error| format!("it did not take the message: {error}"))
    }

    /// The message, with the line ends of local programs (LF).
    fn message(&self, first: &SequencedAlert, alerts: &[SequencedAlert]) -> Result<Vec<u8>, String> {
        let time = first.alert.time.parse::<Timestamp>().map_err(|error| error.to_string())?;
        let seconds = Duration::from_secs(u64::try_from(time.unix()).unwrap_or(0));
        let mut builder = Message::builder()
            .from(self.from.clone())
            .subject(subject(first, alerts.len()))
            .date(std::time::SystemTime::UNIX_EPOCH + seconds)
            // The same alerts have the same id when they are sent twice, so that mail clients show them once.
            .message_id(Some(format!("<{}.{}@taglog.invalid>", first.alert.id, alerts.len())))
            .header(AutoSubmitted)
            .header(header::ContentType::TEXT_PLAIN);
        for to in &self.to {
            builder = builder.to(to.clone());
        }
        let message = builder.body(body(alerts)).map_err(|error| error.to_string())?;
        let text = message.formatted();
        Ok(String::from_utf8_lossy(&text).replace("\r\n", "\n").into_bytes())
    }
}

/// Prevents automatic replies (RFC 3834).
#[derive(Clone)]
struct AutoSubmitted;

impl header::Header for AutoSubmitted {
    fn name() -> header::HeaderName {
        header::HeaderName::new_from_ascii_str("Auto-Submitted")
    }

    fn parse(_: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(AutoSubmitted)
    }

    fn display(&self) -> header::HeaderValue {
        header::HeaderValue::new(Self::name(), "auto-generated".to_owned())
    }
}

fn subject(first: &SequencedAlert, count: usize) -> String {
    let more = if count > 1 { format!(" (and {} more)", count - 1) } else { String::new() };
    let message: String = line_within(&first.alert.message, MAX_SUBJECT);
    format!("[taglog] {}: {message}{more}", first.alert.kind)
}

fn body(alerts: &[SequencedAlert]) -> String {
    let mut body = String::new();
    for SequencedAlert { alert, .. } in alerts {
        body.push_str(&format!("{}\n\n", whole_line(&alert.message)));
        let fields = [
            ("kind", Some(alert.kind.to_string())),
            ("state", Some(alert.state.as_str().to_owned())),
            ("time", Some(alert.time.clone())),
            ("log", Some(alert.log.clone())),
            ("image", alert.image.clone()),
            ("digest", alert.digest.clone()),
            ("previous", Some(alert.previous.join(" ")).filter(|previous| !previous.is_empty())),
            ("witness", alert.witness.clone()),
            ("observed", alert.observed.clone()),
            ("entry", alert.index.map(|index| index.to_string())),
            ("since", alert.since.clone()),
            ("evidence", alert.evidence.clone()),
            ("id", Some(alert.id.clone())),
        ];
        for (name, value) in fields {
            if let Some(value) = value {
                body.push_str(&format!("  {name:9} {}\n", whole_line(&value)));
            }
        }
        body.push('\n');
    }
    body
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use mailparse::{MailHeaderMap as _, parse_mail};

    use super::*;
    use crate::sinks::tests::alert;

    /// A sendmail that keeps what it gets, unless it is made to fail.
    fn sendmail(home: &tempfile::TempDir) -> Mail {
        let script = home.path().join("sendmail");
        let text = "#!/bin/sh\nd=$(dirname \"$0\")\nif [ -e \"$d/fail\" ]; then echo 'no \x1b[31mqueue' >&2; exit 75; fi\n\
                    echo \"$@\" > \"$d/args\"\ncat > \"$d/message\"\n";
        std::fs::write(&script, text).unwrap();
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
        Mail {
            command: vec![script.display().to_string(), "-t".to_owned(), "-i".to_owned()],
            from: "taglog <taglog@example.org>".parse().unwrap(),
            to: vec!["ops@example.org".parse().unwrap(), "Séc <sec@example.org>".parse().unwrap()],
        }
    }

    fn read(home: &tempfile::TempDir, name: &str) -> Vec<u8> {
        std::fs::read(home.path().join(name)).unwrap()
    }

    #[tokio::test]
    async fn another_parser_reads_the_message() {
        let home = tempfile::tempdir().unwrap();
        sendmail(&home).send(&[alert(1), alert(2)]).await.unwrap();
        assert_eq!(read(&home, "args"), b"-t -i\n");
        let message = read(&home, "message");
        assert!(!message.contains(&b'\r'));
        let mail = parse_mail(&message).unwrap();
        let header = |name: &str| mail.headers.get_all_values(name);
        assert_eq!(header("From"), ["taglog <taglog@example.org>"]);
        assert!(header("To")[0].contains("ops@example.org") && header("To")[0].contains("sec@example.org"));
        let subject = header("Subject").remove(0);
        assert!(subject.starts_with("[taglog] retag: docker.io/library/busybox:1 was RETAGGED"), "{subject}");
        assert!(subject.ends_with("(and 1 more)"), "{subject}");
        assert_eq!(header("Auto-Submitted"), ["auto-generated"]);
        assert_eq!(header("Message-ID").len(), 1);
        let body = mail.get_body().unwrap();
        assert!(body.contains(&alert(1).alert.id) && body.contains(&alert(2).alert.id), "{body}");
    }

    #[tokio::test]
    async fn text_cannot_inject_headers_or_messages() {
        let home = tempfile::tempdir().unwrap();
        let mut hostile = alert(1);
        hostile.alert.message = "x\r\nBcc: thief@example.net\r\n\r\n.\r\nFrom evil".to_owned();
        hostile.alert.evidence = Some("a\nBcc: b@example.net".to_owned());
        sendmail(&home).send(&[hostile]).await.unwrap();
        let message = read(&home, "message");
        let mail = parse_mail(&message).unwrap();
        assert!(mail.headers.get_first_value("Bcc").is_none());
        assert_eq!(mail.headers.get_all_values("From").len(), 1);
        let text = mail.get_body().unwrap();
        assert!(!text.lines().any(|line| line == "." || line.starts_with("Bcc")), "{text}");
    }

    #[tokio::test]
    async fn failures_are_reported_with_their_reason() {
        let home = tempfile::tempdir().unwrap();
        let mut mail = sendmail(&home);
        std::fs::write(home.path().join("fail"), "").unwrap();
        let error = mail.send(&[alert(1)]).await.unwrap_err();
        assert!(error.reason().contains(r"no \u001b[31mqueue") && error.reason().contains("75"), "{error:?}");
        mail.command = vec![home.path().join("absent").display().to_string()];
        assert!(matches!(mail.send(&[alert(1)]).await, Err(SinkError::Unavailable(why)) if why.contains("absent")));
    }
}
