//! Alerts: what a person should know. Each has an id that follows from what it is about, so that whatever finds the
//! same thing again, after a crash or at the next look, finds the same alert.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use taglog_proto::{
    merkle::Hash,
    name::{Digest, HexBytes, Image, WitnessId},
    note::VerifierKey,
    time::Timestamp,
};

/// What the alert says that it is; changes with its fields' meaning.
pub const SCHEMA: &str = "taglog/alert@v1";

/// What kinds of alerts there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AlertKind {
    /// A watched tag points to another digest than before.
    Retag,
    /// A tag that nobody has reported before, in a watched repository.
    NewTag,
    /// Witnesses say different things of one tag, for longer than is usual.
    Disagreement,
    /// A witness says nothing any more.
    SilentWitness,
    /// The log's word is older than it may be.
    StaleLog,
    /// The log answers, and does not grow.
    FrozenLog,
    /// The log's newest seal is dated in the future.
    LogAhead,
    /// The log shows less than it has shown before.
    LogBehind,
    /// The log, or part of its data, cannot be fetched.
    UnreachableLog,
    /// The log has entries of a kind that this version does not know.
    UpgradeNeeded,
    /// The log broke a rule.
    Violation,
    /// The log shows different histories to different people.
    SplitView,
    /// Sent by `taglog monitor test-alert`.
    Test,
}

impl AlertKind {
    /// All of them.
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

    /// A short word that does not change between versions.
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

    /// Whether it says that the log misbehaves.
    pub fn is_misbehaviour(self) -> bool {
        matches!(self, AlertKind::Violation | AlertKind::SplitView)
    }
}

impl fmt::Display for AlertKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether something has happened, or holds from now on, or holds no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// It has happened, once and for all.
    Event,
    /// It holds; an alert with the same `about` and the state `ended` follows when it does no longer.
    Raised,
    /// It holds no longer.
    Ended,
}

impl State {
    /// The word in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Event => "event",
            State::Raised => "raised",
            State::Ended => "ended",
        }
    }
}

/// What one witness says of a tag.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Word {
    /// The witness's id.
    pub witness: String,
    /// A digest, or `gone`.
    pub seen: String,
}

/// What a person should know. Fields that do not apply to its kind are absent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Alert {
    /// Follows from what the alert is about; 32 hexadecimal digits.
    pub id: String,
    /// The kind.
    pub kind: AlertKind,
    /// Whether it has happened, holds, or holds no longer.
    pub state: State,
    /// What `raised` and `ended` of one condition have in common; the id itself for what has happened.
    pub about: String,
    /// The log's origin.
    pub log: String,
    /// When: by the log's own seals for what its entries say, else by this machine's clock.
    pub time: String,
    /// One line for people.
    pub message: String,
    /// `repository:tag`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// The witness that it is about, or that saw it.
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
    /// When the witness looked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed: Option<String>,
    /// What each witness says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub words: Vec<Word>,
    /// Who stands against the majority, if there is one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub minority: Vec<String>,
    /// The log index of the entry that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<u64>,
    /// Since when a condition holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// The file with evidence, on the machine of the monitor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<String>,
}

impl Alert {
    /// Something that has happened, identified by `about`: what makes it different from all others of its kind.
    pub fn event(log: &VerifierKey, kind: AlertKind, about: &[&str], time: Timestamp, message: String) -> Alert {
        let id = id(log, kind, about);
        Alert::new(log, kind, State::Event, (id.clone(), id), time, message)
    }

    /// A condition that begins to hold, or does so no longer.
    pub fn condition(
        log: &VerifierKey,
        kind: AlertKind,
        state: State,
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
        state: State,
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

    /// With the image it is about.
    pub fn with_image(mut self, image: &Image) -> Alert {
        self.image = Some(image.to_string());
        self
    }

    /// With the witness it is about.
    pub fn with_witness(mut self, witness: &WitnessId) -> Alert {
        self.witness = Some(witness.to_string());
        self
    }

    /// With what the tag points to now.
    pub fn with_digest(mut self, digest: &Digest) -> Alert {
        self.digest = Some(digest.to_string());
        self
    }

    /// With the entry it is about.
    pub fn with_index(mut self, index: u64) -> Alert {
        self.index = Some(index);
        self
    }

    /// With the time since when it holds.
    pub fn with_since(mut self, since: Timestamp) -> Alert {
        self.since = Some(since.to_string());
        self
    }
}

/// SHA-256 over the log's key, the kind and what it is about, cut to 16 bytes.
fn id(log: &VerifierKey, kind: AlertKind, about: &[&str]) -> String {
    // No part has a newline in it: names, numbers, times and hashes.
    let text = format!("{SCHEMA}\n{log}\n{kind}\n{}", about.join("\n"));
    HexBytes(&Hash::of(text.as_bytes()).0[..16]).to_string()
}

/// An alert with its place in the order in which alerts were raised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Numbered {
    /// Grows from alert to alert; not without gaps.
    pub sequence: i64,
    /// The alert.
    pub alert: Alert,
}

impl Numbered {
    /// What sinks send: the alert with its schema and its sequence.
    pub fn to_json(&self) -> Value {
        let mut value = json!({ "schema": SCHEMA, "sequence": self.sequence });
        // An alert is an object of strings, lists and numbers, which always becomes one.
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
    fn ids_follow_from_what_the_alert_is_about_and_from_nothing_else() {
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
    fn beginning_and_end_of_a_condition_belong_together() {
        let condition = |state| {
            let time = Timestamp::UNIX_EPOCH;
            Alert::condition(&key(1), AlertKind::StaleLog, state, &["x"], time, String::new())
        };
        let (raised, ended) = (condition(State::Raised), condition(State::Ended));
        assert_eq!(raised.about, ended.about);
        assert_ne!(raised.id, ended.id);
    }

    #[test]
    fn json_has_the_schema_and_reads_back() {
        let alert = Alert::event(&key(1), AlertKind::NewTag, &["a"], Timestamp::UNIX_EPOCH, "m".into()).with_index(3);
        let mut value = Numbered { sequence: 7, alert: alert.clone() }.to_json();
        assert_eq!((value["schema"].as_str(), value["sequence"].as_i64()), (Some(SCHEMA), Some(7)));
        assert_eq!((value["kind"].as_str(), value["state"].as_str()), (Some("new-tag"), Some("event")));
        assert!(value.get("image").is_none());
        let fields = value.as_object_mut().unwrap();
        fields.remove("schema");
        fields.remove("sequence");
        assert_eq!(serde_json::from_value::<Alert>(value).unwrap(), alert);
    }

    #[test]
    fn words_of_kinds_are_those_of_json() {
        for kind in AlertKind::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
        }
    }
}
