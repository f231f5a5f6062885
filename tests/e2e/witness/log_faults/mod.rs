//! Logs that lie, lose or withhold entries, refuse them, or are no logs: the witness agent detects it, raises an alarm,
//! keeps the evidence, and keeps every entry until it has a valid receipt.

mod histories;
mod not_a_log;
mod publication;
mod receipts;
mod refusals;

use std::{path::PathBuf, process::Command};

use serde_json::Value;
use taglog_tests::{
    Server, Status, Witness, agent::metric, binary, hostile_registry::ManifestResponse, server::ORIGIN,
};

use taglog_tests::agent_fixture::{
    AgentFixture, forwarder::Forwarder, get, pending, wait_for_agent, watch, webhook::Webhook,
};

/// The tag whose moves are reported to the log.
const APP: &str = "team/app:1.0";

/// A fixture whose log may turn out to be another one.
struct LogFaultFixture {
    fixture: AgentFixture,
    /// The log's address in the agent's trust file.
    forwarder: Forwarder,
    /// Where its alarms go.
    webhook: Webhook,
}

impl LogFaultFixture {
    /// An agent that runs, and whose first reports have been delivered.
    fn new() -> LogFaultFixture {
        LogFaultFixture::with(Server::start(&[&Witness::new(1), &Witness::new(2)], ""))
    }

    /// The same with this log.
    fn with(server: Server) -> LogFaultFixture {
        let mut log = LogFaultFixture::not_started(server);
        log.fixture.start();
        log.wait_logged(&["one"]);
        log.fixture.wait_healthy_logged(&["one"]);
        log.wait_delivered();
        log
    }

    fn not_started(server: Server) -> LogFaultFixture {
        let fixture = AgentFixture::with(server);
        let forwarder = Forwarder::to(&fixture.server.url);
        fixture.agent.trust("trust", &fixture.server.vkey, &forwarder.url);
        // The first attempt fails: an alarm is sent at least once, not at most.
        let webhook = Webhook::failing_first(1);
        let settings = [("alarm-webhook", format!("{:?}", webhook.url)), ("publish-deadline", "\"1s\"".to_owned())];
        let settings: Vec<(&str, &str)> = settings.iter().map(|(key, value)| (*key, value.as_str())).collect();
        fixture.registry.set(APP, ManifestResponse::serves("one"));
        fixture.configure(&settings, &[watch(&fixture.registry, &[APP], "")]);
        LogFaultFixture { fixture, forwarder, webhook }
    }

    /// Moves the tag.
    fn move_to(&self, content: &str) {
        self.fixture.registry.set(APP, ManifestResponse::serves(content));
    }

    /// Waits until the honest log has exactly these contents of the tag.
    fn wait_logged(&self, contents: &[&str]) {
        self.fixture.wait_logged(APP, contents);
    }

    /// Waits until nothing is pending.
    fn wait_delivered(&mut self) -> Status {
        let server = &self.fixture.server;
        self.fixture.agent.wait_until("delivery", |status| pending(status, server) == 0)
    }

    fn wait_alarm(&mut self, kind: &str) -> Status {
        self.fixture.agent.wait_until(&format!("the alarm {kind}"), |status| status.alarms().contains(&kind))
    }

    fn wait_calm(&mut self) {
        let status = self.fixture.agent.wait_until("the end of all alarms", |status| status.alarms().is_empty());
        assert_eq!(status.exit_code(), 0, "{status:?}");
    }

    /// Waits until the webhook has received an alarm of this kind; returns it.
    fn wait_webhook(&self, kind: &str) -> Value {
        let heard = || self.webhook.received().into_iter().find(|alarm| alarm["kind"] == kind);
        let alarm = wait_for_agent(&self.fixture.agent, &format!("{kind} at the webhook"), heard);
        assert_eq!(alarm["subject"], ORIGIN, "{alarm}");
        assert!(alarm["message"].as_str().is_some_and(|message| !message.is_empty()), "{alarm}");
        alarm
    }

    /// What must hold after a lie: the alarm and its exit code, evidence that the tool can show, the entry kept, the
    /// webhook told. Returns the evidence.
    fn is_detected(&mut self) -> Value {
        let status = self.wait_alarm("misbehaviour");
        assert_eq!(status.exit_code(), 4);
        assert!(pending(&status, &self.fixture.server) >= 1, "let go before a receipt held: {status:?}");
        let alarm = status.alarm("misbehaviour").unwrap().clone();
        assert_eq!(alarm["subject"], ORIGIN);
        let evidence =
            self.fixture.agent.path(alarm["evidence"].as_str().unwrap_or_else(|| panic!("no evidence: {alarm}")));
        assert!(evidence.starts_with(self.fixture.agent.path("state/evidence")), "{}", evidence.display());
        let inspected = Command::new(binary("taglog")).arg("inspect").arg(&evidence).output().unwrap();
        assert_ne!(inspected.status.code(), Some(2), "taglog cannot read what it wrote: {inspected:?}");
        self.wait_webhook("misbehaviour");
        assert_eq!(self.alarm_metric("misbehaviour"), 1.0);
        serde_json::from_slice(&std::fs::read(&evidence).unwrap()).unwrap()
    }

    /// The evidence files that there are.
    fn evidence(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.fixture.agent.path("state/evidence")).into_iter().flatten();
        entries.map(|entry| entry.unwrap().path()).collect()
    }

    /// The log is honest again, and the agent asks it at once: it would by itself, after a wait that grows with every
    /// failure.
    fn turn_to_honest(&self) {
        self.forwarder.turn_to(&self.fixture.server.url);
        self.fixture.agent.hangup();
    }

    /// The log is honest again: what was kept is delivered; the alarm stays until a person has seen it.
    fn is_honest_again(&mut self, contents: &[&str]) {
        self.turn_to_honest();
        let status = self.wait_delivered();
        self.wait_logged(contents);
        assert_eq!(status.exit_code(), 4, "{status:?}");
        self.acknowledge();
        self.wait_calm();
        let gauge = || (self.alarm_metric("misbehaviour") == 0.0).then_some(());
        wait_for_agent(&self.fixture.agent, "the end of the alarm in the metrics", gauge);
    }

    /// Acknowledges all alarms, as an operator does.
    fn acknowledge(&self) {
        let acknowledged = self.fixture.agent.command("status").arg("--acknowledge").output().unwrap();
        assert!(matches!(acknowledged.status.code(), Some(0 | 3 | 4)), "{acknowledged:?}");
    }

    fn alarm_metric(&self, kind: &str) -> f64 {
        let text = get(&format!("{}/metrics", self.fixture.agent.url())).text();
        metric(&text, "taglog_witness_alarms", &format!("kind={kind:?}"))
    }
}
