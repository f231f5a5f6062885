//! Alerts. The id of an alert is derived from its subject, so that the same fact, found again after a crash or at the
//! next poll, gives the same alert.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use taglog_proto::{
    merkle::Hash,
    name::{Digest, HexBytes, Image, WitnessId},
    note::VerifierKey,
    time::Timestamp,
};

/// The schema identifier of alerts; it changes with the meaning of the fields.
pub const SCHEMA: &str = "taglog/alert@v1";

/// The kinds of alerts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AlertKind {
    /// A watched tag points to another digest than before.
    Retag,
    /// A watched tag that no witness has reported before.
    NewTag,
    /// Witnesses report different digests of one tag for longer than `disagree-after`.
    Disagreement,
    /// A witness has submitted nothing for longer than `silent-after`.
    SilentWitness,
    /// The newest checkpoint is older than `stale-after`.
    StaleLog,
    /// The log answers, but has not grown for longer than `frozen-after`.
    FrozenLog,
    /// The log's newest seal is dated in the future.
    LogAhead,
    /// The log serves a smaller checkpoint than before.
    LogBehind,
    /// The log, or part of its data, cannot be fetched.
    UnreachableLog,
    /// The log has entries of a kind that this version does not know.
    UpgradeNeeded,
    /// The log broke a rule.
    Violation,
    /// The log shows different histories to different clients.
    SplitView,
    /// Sent by `taglog monitor test-alert`.
    Test,
}

impl AlertKind {
    pub const ALL: [AlertKind; 13] = [
        AlertKind::Retag,
        AlertKind::NewTag,
        AlertKind::Disagreement,
        AlertKind::SilentWitness,
        AlertKind::StaleLog,
        AlertKind::FrozenLog,
        AlertKind::LogAhead,
        AlertKind::LogBehind,
        AlertKind::UnreachableLog,
        AlertKind::UpgradeNeeded,
        AlertKind::Violation,
        AlertKind::SplitView,
        AlertKind::Test,
    ];

    /// The name in JSON and in the configuration; it does not change between versions.
    pub fn as_str(self) -> &'static str {
        match self {
            AlertKind::Retag => "retag",
            AlertKind::NewTag => "new-tag",
            AlertKind::Disagreement => "disagreement",
            AlertKind::SilentWitness => "silent-witness",
            AlertKind::StaleLog => "stale-log",
            AlertKind::FrozenLog => "frozen-log",
            AlertKind::LogAhead => "log-ahead",
            AlertKind::LogBehind => "log-behind",
            AlertKind::UnreachableLog => "unreachable-log",
            AlertKind::UpgradeNeeded => "upgrade-needed",
            AlertKind::Violation => "violation",
            AlertKind::SplitView => "split-view",
            AlertKind::Test => "test",
        }
    }

    /// Whether alerts of this kind report misbehaviour of the log.
    pub fn is_misbehaviour(self) -> bool {
        matches!(self, AlertKind::Violation | AlertKind::SplitView)
    }
}

impl fmt::Display for AlertKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether the alert is an event, or the start or the end of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AlertState {
    Event,
    /// The condition holds. An alert with the same `about` and the state `ended` follows when it ends.
    Raised,
    /// The condition has ended.
    Ended,
}

impl AlertState {
    /// The name in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            AlertState::Event => "event",
            AlertState::Raised => "raised",
            AlertState::Ended => "ended",
        }
    }
}

/// What one witness last saw of a tag.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WitnessSighting {
    pub witness: String,
    /// A digest, or `gone`.
    pub seen: String,
}

/// An alert. Fields that do not apply to its kind are absent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Alert {
    /// Derived from the subject of the alert; 32 hexadecimal digits.
    pub id: String,
    pub kind: AlertKind,
    pub state: AlertState,
    /// The same for the `raised` and `ended` alerts of one condition; equal to the id for events.
    pub about: String,
    /// The log's origin.
    pub log: String,
    /// The time of the seal for alerts about entries, otherwise the time by the local clock.
    pub time: String,
    /// One human-readable line.
    pub message: String,
    /// `repository:tag`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// The id of the witness that the alert is about, or that reported the change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub witness: Option<String>,
    /// What the tag points to now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// What it pointed to before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub previous: Vec<String>,
    /// Whether the new digest is one that the tag had before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback: Option<bool>,
    /// When the witness resolved the tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed: Option<String>,
    /// What each witness last saw.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub words: Vec<WitnessSighting>,
    /// The ids of the witnesses outside the majority, if there is a majority.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub minority: Vec<String>,
    /// The log index of the entry that the alert is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<u64>,
    /// When the condition started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// The path of the evidence file on the monitor's machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<String>,
}

impl Alert {
    /// An event, identified by `about`, which distinguishes it from all others of its kind.
    pub fn event(log: &VerifierKey, kind: AlertKind, about: &[&str], time: Timestamp, message: String) -> Alert {
        let id = id(log, kind, about);
        Alert::new(log, kind, AlertState::Event, (id.clone(), id), time, message)
    }

    /// The start or the end of a condition, which is identified by `about`.
    pub fn condition(
        log: &VerifierKey,
        kind: AlertKind,
        state: AlertState,
        about: &[&str],
        time: Timestamp,
        message: String,
    ) -> Alert {
        let whole = [about, &[state.as_str()]].concat();
        Alert::new(log, kind, state, (id(log, kind, &whole), id(log, kind, about)), time, message)
    }

    fn new(
        log: &VerifierKey,
        kind: AlertKind,
        state: AlertState,
        (id, about): (String, String),
        time: Timestamp,
        message: String,
    ) -> Alert {
        Alert {
            id,
            kind,
            state,
            about,
            log: log.name().to_owned(),
            time: time.to_string(),
            message,
            image: None,
            witness: None,
            digest: None,
            previous: Vec::new(),
            rollback: None,
            observed: None,
            words: Vec::new(),
            minority: Vec::new(),
            index: None,
            since: None,
            evidence: None,
        }
    }

    pub fn with_image(mut self, image: &Image) -> Alert {
        self.image = Some(image.to_string());
        self
    }

    pub fn with_witness(mut self, witness: &WitnessId) -> Alert {
        self.witness = Some(witness.to_string());
        self
    }

    pub fn with_digest(mut self, digest: &Digest) -> Alert {
        self.digest = Some(digest.to_string());
        self
    }

    pub fn with_index(mut self, index: u64) -> Alert {
        self.index = Some(index);
        self
    }

    pub fn with_since(mut self, since: Timestamp) -> Alert {
        self.since = Some(since.to_string());
        self
    }
}

/// The first 16 bytes of SHA-256 over the log's key, the kind and the subject.
fn id(log: &VerifierKey, kind: AlertKind, about: &[&str]) -> String {
    // No part contains a newline: they are names, numbers, times, hashes and printable reasons.
    let text = format!("{SCHEMA}\n{log}\n{kind}\n{}", about.join("\n"));
    HexBytes(&Hash::of(text.as_bytes()).0[..16]).to_string()
}

/// An alert with its number in the order in which alerts were raised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SequencedAlert {
    /// Increases from alert to alert, possibly with gaps.
    pub sequence: i64,
    pub alert: Alert,
}

impl SequencedAlert {
    /// The JSON that sinks send: the alert with its schema and its sequence number.
    pub fn to_json(&self) -> Value {
        let mut value = json!({ "schema": SCHEMA, "sequence": self.sequence });
        // The serialization of an alert cannot fail: it is an object of strings, lists and numbers.
        if let (Some(object), Ok(Value::Object(fields))) = (value.as_object_mut(), serde_json::to_value(&self.alert)) {
            object.extend(fields);
        }
        value
    }
}

#[cfg(test)]
mod tests {
    use taglog_proto::note::SigningKey;

    use super::*;

    fn key(number: u8) -> VerifierKey {
        SigningKey::from_seed("log.example/x", &[number; 32]).unwrap().verifier_key().clone()
    }

    #[test]
    fn ids_depend_only_on_the_subject() {
        let alert = |log: u8, kind, about: &[&str], time| {
            Alert::event(&key(log), kind, about, Timestamp::from_unix(time).unwrap(), time.to_string()).id
        };
        let id = alert(1, AlertKind::Retag, &["a", "b"], 0);
        assert_eq!((id.len(), &id), (32, &alert(1, AlertKind::Retag, &["a", "b"], 9)));
        let others = [
            alert(2, AlertKind::Retag, &["a", "b"], 0),
            alert(1, AlertKind::NewTag, &["a", "b"], 0),
            alert(1, AlertKind::Retag, &["a", "c"], 0),
            alert(1, AlertKind::Retag, &["ab"], 0),
        ];
        assert!(!others.contains(&id));
    }

    #[test]
    fn start_and_end_of_a_condition_have_the_same_about() {
        let condition = |state| {
            let time = Timestamp::UNIX_EPOCH;
            Alert::condition(&key(1), AlertKind::StaleLog, state, &["x"], time, String::new())
        };
        let (raised, ended) = (condition(AlertState::Raised), condition(AlertState::Ended));
        assert_eq!(raised.about, ended.about);
        assert_ne!(raised.id, ended.id);
    }

    #[test]
    fn json_has_the_schema_and_parses_back() {
        let alert = Alert::event(&key(1), AlertKind::NewTag, &["a"], Timestamp::UNIX_EPOCH, "m".into()).with_index(3);
        let mut value = SequencedAlert { sequence: 7, alert: alert.clone() }.to_json();
        assert_eq!((value["schema"].as_str(), value["sequence"].as_i64()), (Some(SCHEMA), Some(7)));
        assert_eq!((value["kind"].as_str(), value["state"].as_str()), (Some("new-tag"), Some("event")));
        assert!(value.get("image").is_none());
        let fields = value.as_object_mut().unwrap();
        fields.remove("schema");
        fields.remove("sequence");
        assert_eq!(serde_json::from_value::<Alert>(value).unwrap(), alert);
    }

    #[test]
    fn names_of_kinds_are_those_in_json() {
        for kind in AlertKind::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
        }
    }
}
