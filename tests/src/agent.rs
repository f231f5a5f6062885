//! A home directory and `taglog witness run` in it, with its status.

use std::{
    cell::OnceCell,
    path::PathBuf,
    process::{Command, Output},
    time::{Duration, Instant},
};

use serde_json::Value;
use taglog_proto::note::VerifierKey;
use tempfile::TempDir;

use crate::{
    process::{Process, TIMEOUT, binary},
    witness::Witness,
};

/// The configuration file in an agent's home.
pub const CONFIG_FILE: &str = "witness.toml";
/// How often the status is queried while a test waits: each time costs a process.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// `[[log]]`: reports to the log of this trust file.
pub fn log_table(trust: &str) -> String {
    format!("[[log]]\ntrust = {trust:?}\n")
}

/// `[[watch]]`: tags and patterns of a repository. `more` is TOML.
pub fn watch_table(repository: &str, tags: &[&str], more: &str) -> String {
    format!("[[watch]]\nrepository = {repository:?}\ntags = {tags:?}\n{more}\n")
}

/// `[registry."host"]`, asked as fast as the configuration allows, with this many requests at once.
pub fn registry_table(host: &str, concurrency: usize) -> String {
    format!("[registry.{host:?}]\nconcurrency = {concurrency}\nrequests-per-second = 10000\n")
}

/// `[[push]]`: takes what this registry sends. `more` is TOML.
pub fn push_table(kind: &str, host: &str, more: &str) -> String {
    format!("[[push]]\nkind = {kind:?}\nregistry = {host:?}\n{more}\n")
}

/// A witness agent in a home of its own. Dropping it kills it.
pub struct Agent {
    // First, so that the process is gone before its directory is.
    process: Option<Process>,
    url: OnceCell<String>,
    home: TempDir,
}

impl Agent {
    /// A home with this witness's key; nothing is started.
    pub fn new(witness: &Witness) -> Agent {
        let agent = Agent { process: None, url: OnceCell::new(), home: tempfile::tempdir().unwrap() };
        agent.write("witness.key", &format!("{}\n", witness.key.to_secret_string()));
        agent
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    pub fn write(&self, name: &str, content: &str) {
        std::fs::write(self.path(name), content).unwrap();
    }

    /// Writes a trust file for one log without cosigners.
    pub fn trust(&self, name: &str, vkey: &VerifierKey, url: &str) {
        self.write(name, &format!("log {vkey} {url}\nquorum none\n"));
    }

    /// Writes the configuration: where key and state are, further keys, and then tables. What runs already does not
    /// see it before [`Agent::hangup`].
    pub fn configure(&self, keys: &str, tables: &[String]) {
        let tables = tables.concat();
        self.write(CONFIG_FILE, &format!("key = \"witness.key\"\nstate = \"state\"\n{keys}\n{tables}"));
    }

    /// One of the witness's commands on this home, in its environment and no other.
    pub fn command(&self, name: &str) -> Command {
        let mut command = Command::new(binary("taglog"));
        command.env_clear().env("HOME", self.home.path()).current_dir(self.home.path());
        command.args(["witness", name, "--config"]).arg(self.path(CONFIG_FILE));
        command
    }

    /// Starts the agent with further arguments and does not wait for anything.
    pub fn launch(&mut self, arguments: &[&str]) {
        let mut command = self.command("run");
        self.launch_by(command.args(arguments));
    }

    /// Starts the agent by a command of [`Agent::command`] that was added to, and does not wait for anything.
    pub fn launch_by(&mut self, command: &mut Command) {
        assert!(self.process.is_none(), "the agent runs already");
        self.url = OnceCell::new();
        self.process = Some(Process::spawn(command));
    }

    /// Starts the agent and waits until it is ready; returns the line that says so.
    pub fn start(&mut self) -> String {
        self.try_start().unwrap_or_else(|ended| panic!("the agent does not start: {ended:?}"))
    }

    /// Starts the agent and waits until it is ready.
    ///
    /// # Errors
    /// How it ended, when it did instead of getting ready.
    pub fn try_start(&mut self) -> Result<String, AgentExit> {
        let mut command = self.command("run");
        self.try_start_by(&mut command)
    }

    /// Starts the agent by a command of [`Agent::command`] that was added to, and waits until it is ready.
    ///
    /// # Errors
    /// How it ended, when it did instead of getting ready.
    pub fn try_start_by(&mut self, command: &mut Command) -> Result<String, AgentExit> {
        self.launch_by(command);
        self.wait_ready()
    }

    /// Waits until an agent that was launched is ready; before that, it takes no signals.
    ///
    /// # Errors
    /// How it ended, when it did instead of getting ready.
    pub fn wait_ready(&mut self) -> Result<String, AgentExit> {
        let Some(line) = self.process().line(TIMEOUT) else { return Err(self.wait_end(TIMEOUT)) };
        assert!(line.starts_with("watching "), "announced {line:?}");
        Ok(line)
    }

    fn process(&self) -> &Process {
        self.process.as_ref().expect("the agent does not run")
    }

    /// Where it listens: `http://127.0.0.1:port`.
    pub fn url(&self) -> &str {
        self.url.get_or_init(|| {
            loop {
                let line = self.process().line(TIMEOUT).expect("no line says where the agent listens");
                if let Some(url) = line.strip_prefix("listening on ") {
                    return url.to_owned();
                }
            }
        })
    }

    pub fn id(&self) -> u32 {
        self.process().id()
    }

    /// What it has written to standard error so far.
    pub fn stderr(&self) -> String {
        self.process().stderr()
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<AgentExit> {
        let running = self.process.as_mut().expect("the agent was not started").is_running();
        (!running).then(|| self.wait_end(TIMEOUT))
    }

    /// Waits until it has ended by itself.
    pub fn wait_end(&mut self, timeout: Duration) -> AgentExit {
        let mut process = self.process.take().expect("the agent was not started");
        let status = process.wait(timeout);
        let stdout = std::iter::from_fn(|| process.line(TIMEOUT)).map(|line| line + "\n").collect();
        AgentExit { code: status.code(), stdout, stderr: process.stderr() }
    }

    /// Kills it with SIGKILL, at whatever it is doing.
    pub fn kill(&mut self) {
        if let Some(ended) = self.ended() {
            panic!("the agent ended before it was killed: {ended:?}");
        }
        self.process.as_mut().expect("it has not ended").kill();
        self.process = None;
    }

    /// Stops it with SIGTERM; it must end with exit code 0.
    pub fn terminate(&mut self) -> AgentExit {
        self.process().terminate();
        let ended = self.wait_end(TIMEOUT);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        ended
    }

    /// Sends SIGHUP: it shall read its configuration again.
    pub fn hangup(&self) {
        let status = Command::new("kill").args(["-HUP", &self.id().to_string()]).status().unwrap();
        assert!(status.success(), "kill -HUP");
    }

    /// Runs it with `--once`, to its end.
    pub fn once(&self) -> AgentExit {
        AgentExit::of(self.command("run").arg("--once").output().unwrap())
    }

    /// What `taglog witness status` says, whether it runs or not. The exit code is checked.
    pub fn status(&self) -> Status {
        let ended = AgentExit::of(self.command("status").args(["--output", "json"]).output().unwrap());
        let json = serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {ended:?}"));
        let status = Status(json);
        assert_eq!(ended.code, Some(status.exit_code()), "{ended:?}");
        status
    }

    /// Waits until the status is as `condition` wants it.
    pub fn wait_until(&mut self, what: &str, mut condition: impl FnMut(&Status) -> bool) -> Status {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let status = self.status();
            if condition(&status) {
                return status;
            }
            if let Some(ended) = self.ended() {
                panic!("the agent ended before {what}: {ended:?}");
            }
            assert!(Instant::now() < deadline, "waited for {what}: {status:?}\n{}", self.stderr());
            std::thread::sleep(POLL_INTERVAL);
        }
    }

    /// Waits until the logs have everything that was signed, and have refused nothing.
    pub fn wait_delivered(&mut self) -> Status {
        let status = self.wait_until("delivery", |status| status.pending() == 0);
        let refused: Vec<&Value> = status.logs().iter().filter(|log| log["refused"] != 0).collect();
        assert!(refused.is_empty(), "{refused:?}");
        status
    }
}

/// The exit code and the output of `taglog witness`.
#[derive(Debug)]
pub struct AgentExit {
    /// The exit code; `None` when it was killed.
    pub code: Option<i32>,
    /// The lines of standard output that were not read before.
    pub stdout: String,
    pub stderr: String,
}

impl AgentExit {
    /// Reads the output of an ended run, which must not have panicked or been killed.
    pub fn of(output: Output) -> AgentExit {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let ended = AgentExit { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) };
        assert!(ended.code.is_some() && !ended.stderr.contains("panicked"), "{ended:?}");
        ended
    }
}

/// The answer of `taglog witness status --output json`.
#[derive(Clone, Debug)]
pub struct Status(pub Value);

impl Status {
    /// The rows of one of its lists: `tags`, `repositories`, `registries`, `logs`, `alarms`.
    pub fn rows(&self, key: &str) -> &[Value] {
        self.0[key].as_array().unwrap_or_else(|| panic!("no {key} in {}", self.0))
    }

    pub fn tags(&self) -> &[Value] {
        self.rows("tags")
    }

    pub fn logs(&self) -> &[Value] {
        self.rows("logs")
    }

    /// The row of a tag; null if it is not watched.
    pub fn tag(&self, image: &str) -> &Value {
        self.tags().iter().find(|tag| tag["image"] == image).unwrap_or(&Value::Null)
    }

    /// What was last signed about a tag: a digest, `gone`, or nothing yet.
    pub fn seen(&self, image: &str) -> Option<&str> {
        self.tag(image)["seen"].as_str()
    }

    /// The error of the last poll of a tag; empty without one.
    pub fn error(&self, image: &str) -> &str {
        self.tag(image)["error"].as_str().unwrap_or("")
    }

    /// The row of the log with this key.
    pub fn log(&self, vkey: &VerifierKey) -> &Value {
        let vkey = vkey.to_string();
        self.logs().iter().find(|log| log["vkey"] == *vkey).unwrap_or_else(|| panic!("no {vkey} in {}", self.0))
    }

    /// Entries that are not delivered yet, of all logs together.
    pub fn pending(&self) -> u64 {
        self.logs().iter().map(|log| log["pending"].as_u64().unwrap()).sum()
    }

    /// The kinds of the active alarms.
    pub fn alarms(&self) -> Vec<&str> {
        self.rows("alarms").iter().map(|alarm| alarm["kind"].as_str().unwrap()).collect()
    }

    /// The active alarm of a kind.
    pub fn alarm(&self, kind: &str) -> Option<&Value> {
        self.rows("alarms").iter().find(|alarm| alarm["kind"] == kind)
    }

    /// The exit code that `taglog witness status` must have with this answer.
    pub fn exit_code(&self) -> i32 {
        match (&self.0["running"], &self.0["healthy"]) {
            _ if self.alarms().contains(&"misbehaviour") => 4,
            (Value::Bool(true), Value::Bool(true)) => 0,
            _ => 3,
        }
    }
}

/// The sum of a metric in Prometheus's text format, over all label sets in which `label` (such as `kind="gone"`, or
/// nothing) occurs.
pub fn metric(text: &str, name: &str, label: &str) -> f64 {
    let value = |line: &str| {
        let (labels, value) = line.strip_prefix(name)?.rsplit_once(' ')?;
        let is_it = labels.is_empty() || labels.starts_with('{');
        (is_it && labels.contains(label)).then(|| value.parse::<f64>().unwrap())
    };
    text.lines().filter_map(value).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_summed_over_labels() {
        let text = "# TYPE a_total counter\na_total{kind=\"x\",log=\"l\"} 3\na_total{kind=\"y\"} 4\n\
                    a_total_more{kind=\"x\"} 100\nb 1.5\n";
        assert_eq!(metric(text, "a_total", "kind=\"x\""), 3.0);
        assert_eq!(metric(text, "a_total", ""), 7.0);
        assert_eq!(metric(text, "b", ""), 1.5);
        assert_eq!(metric(text, "c", ""), 0.0);
    }
}
