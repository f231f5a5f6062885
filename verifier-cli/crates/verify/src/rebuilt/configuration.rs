//! The image configuration: how the image is run, and its build history (OCI image-spec v1.1, `config.md`).

use oci_spec::image::{History, ImageConfiguration};
use serde_json::{Map, Value};
use taglog_proto::name::Digest;

use super::json;

/// The most steps of a build history.
const MAX_STEPS: usize = 5000;

/// A configuration with one history step for each layer.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Configuration {
    /// The target platform: architecture, operating system, variant, `os.version`, `os.features`.
    pub(super) target: [Value; 5],
    /// The whole object `config`, including what no specification defines, such as a health check, which is a command.
    pub(super) run: Map<String, Value>,
    /// The digest of each layer's uncompressed bytes.
    pub(super) diff_ids: Vec<Digest>,
    pub(super) history: Vec<HistoryStep>,
}

/// A step of the build history, without its date.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HistoryStep {
    pub(super) created_by: Option<String>,
    author: Option<String>,
    comment: Option<String>,
    /// Whether the step made no layer.
    pub(super) is_empty: bool,
}

impl Configuration {
    pub(super) fn parse(bytes: &[u8]) -> Result<Configuration, String> {
        let value = json::parse(bytes).map_err(|error| error.to_string())?;
        let part = |name: &str| value.get(name).cloned().unwrap_or_default();
        let target = ["architecture", "os", "variant", "os.version", "os.features"].map(part);
        let Value::Object(run) = part("config") else { return Err("it has no object 'config'".to_owned()) };
        let typed: ImageConfiguration = serde_json::from_value(value).map_err(|error| error.to_string())?;
        if typed.rootfs().typ() != "layers" {
            return Err("its root file system does not consist of layers".to_owned());
        }
        let diff_ids = typed.rootfs().diff_ids().iter().map(|id| Digest::parse(id)).collect::<Result<Vec<_>, _>>();
        let diff_ids = diff_ids.map_err(|error| error.to_string())?;
        let history: Vec<HistoryStep> = typed.history().iter().flatten().map(HistoryStep::of).collect();
        if history.len() > MAX_STEPS {
            return Err(format!("its history has more than {MAX_STEPS} steps"));
        }
        if history.is_empty() && !diff_ids.is_empty() {
            return Err("it lists no build steps (history)".to_owned());
        }
        if history.iter().filter(|step| !step.is_empty).count() != diff_ids.len() {
            return Err("its build steps and its layers do not match".to_owned());
        }
        Ok(Configuration { target, run, diff_ids, history })
    }

    /// Environment variables, in order.
    ///
    /// # Errors
    /// They are not a list of strings, or one is set twice: runtimes differ in which of the two they use.
    pub(super) fn environment(&self) -> Result<Vec<&str>, String> {
        let entries = match self.run.get("Env") {
            None | Some(Value::Null) => return Ok(Vec::new()),
            Some(entries) => entries.as_array().ok_or("its environment is not a list")?,
        };
        let entries: Option<Vec<&str>> = entries.iter().map(Value::as_str).collect();
        let entries = entries.ok_or("its environment is not a list of strings")?;
        let mut names: Vec<&str> = entries.iter().map(|entry| variable(entry)).collect();
        names.sort_unstable();
        match names.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(format!("its environment sets {:?} twice", pair[0])),
            None => Ok(entries),
        }
    }

    pub(super) fn labels(&self) -> Map<String, Value> {
        self.run.get("Labels").and_then(Value::as_object).cloned().unwrap_or_default()
    }
}

impl HistoryStep {
    fn of(entry: &History) -> HistoryStep {
        HistoryStep {
            created_by: entry.created_by().clone(),
            author: entry.author().clone(),
            comment: entry.comment().clone(),
            is_empty: entry.empty_layer().unwrap_or(false),
        }
    }
}

/// The name in `NAME=value`.
pub(super) fn variable(entry: &str) -> &str {
    entry.split_once('=').map_or(entry, |(name, _)| name)
}
