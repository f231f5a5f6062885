//! A log, two registries and a witness agent between them.

pub mod forwarder;
pub mod webhook;

use std::{
    collections::BTreeMap,
    process::Command,
    sync::LazyLock,
    time::{Duration, Instant},
};

use crate::{
    Agent, HttpResponse, Server, Status, Witness,
    agent::{log_table, registry_table, watch_table},
    hostile_registry::{HostileRegistry, LOGIN, ManifestResponse, manifest_digest},
    process::TIMEOUT,
};
use serde_json::Value;
use taglog_proto::{tag_proof::TagProof, time::Timestamp};

use crate::cli_fixture::wait;

/// A tag without faults.
pub const HEALTHY: &str = "team/healthy:1.0";

/// A log, two registries whose responses a test chooses, and an agent whose witness the log admits.
pub struct AgentFixture {
    pub agent: Agent,
    pub witness: Witness,
    pub server: Server,
    /// The registry that the test is about.
    pub registry: HostileRegistry,
    /// A registry without faults.
    pub other: HostileRegistry,
}

impl Default for AgentFixture {
    fn default() -> AgentFixture {
        AgentFixture::new()
    }
}

impl AgentFixture {
    /// With [`HEALTHY`] in both registries, whose content is `one`.
    pub fn new() -> AgentFixture {
        AgentFixture::with(Server::start(&[&Witness::new(1)], ""))
    }

    /// The same with this log, which may admit `Witness::new(1)` or not.
    pub fn with(server: Server) -> AgentFixture {
        let witness = Witness::new(1);
        let agent = Agent::new(&witness);
        agent.trust("trust", &server.vkey, &server.url);
        let (registry, other) = (HostileRegistry::start(), HostileRegistry::start());
        let fixture = AgentFixture { agent, witness, server, registry, other };
        fixture.set_healthy("one");
        fixture
    }

    /// Moves [`HEALTHY`] in both registries.
    pub fn set_healthy(&self, content: &str) {
        for registry in [&self.registry, &self.other] {
            registry.set(HEALTHY, ManifestResponse::serves(content));
        }
    }

    /// Watches [`HEALTHY`] in both registries, and what `tables` say.
    pub fn configure(&self, settings: &[(&str, &str)], tables: &[String]) {
        let hosts = [&self.registry, &self.other];
        let registries = hosts.map(|registry| registry_table(&registry.host, 4));
        let healthy = hosts.map(|registry| watch(registry, &[HEALTHY], ""));
        let all = [&[log_table("trust")], &registries[..], &healthy[..], tables].concat();
        self.agent.configure(&keys(settings), &all);
    }

    /// Starts the agent, which gives a registry or a log five seconds for an answer.
    pub fn start(&mut self) {
        let mut command = self.agent.command("run");
        start_by(&mut self.agent, command.args(["--timeout", "5"]));
    }

    /// Waits until the log has exactly these contents of an image in the registry.
    pub fn wait_logged(&self, image: &str, contents: &[&str]) {
        wait_logged(&self.agent, &self.server, &self.registry.name(image), contents);
    }

    /// Waits until the log has exactly these contents of [`HEALTHY`] in both registries.
    pub fn wait_healthy_logged(&self, contents: &[&str]) {
        self.wait_logged(HEALTHY, contents);
        wait_logged(&self.agent, &self.server, &self.other.name(HEALTHY), contents);
    }

    /// What the log has of an image in the registry, oldest first.
    pub fn logged(&self, image: &str) -> Vec<String> {
        logged_digests(&self.server, &self.registry.name(image))
    }

    /// Waits until the error of an image in the registry contains all these words.
    pub fn wait_error(&mut self, image: &str, words: &[&str]) -> Status {
        let name = self.registry.name(image);
        let named = |status: &Status| words.iter().all(|word| status.error(&name).contains(word));
        self.agent.wait_until(&format!("{words:?} about {name}"), named)
    }

    /// Waits until each of these images in the registry was polled so many times more.
    pub fn wait_polls(&self, images: &[&str], more: usize) {
        let before: Vec<usize> = images.iter().map(|image| self.registry.polls(image)).collect();
        wait_for_agent(&self.agent, &format!("{more} more polls of {images:?}"), || {
            images.iter().zip(&before).all(|(image, before)| self.registry.polls(image) >= before + more).then_some(())
        });
    }
}

/// The keys of a configuration: those that all tests have in common, overridden and extended by `settings`.
pub fn keys(settings: &[(&str, &str)]) -> String {
    let mut all = BTreeMap::from([
        ("listen", "\"127.0.0.1:0\""),
        ("interval", "\"1s\""),
        ("list-interval", "\"1s\""),
        ("gone-interval", "\"1s\""),
    ]);
    all.extend(settings.iter().copied());
    all.iter().map(|(key, value)| format!("{key} = {value}\n")).collect()
}

/// A `[[watch]]` of these tags, all of one repository of the registry, each given as `path:tag`.
pub fn watch(registry: &HostileRegistry, images: &[&str], more: &str) -> String {
    let split: Vec<(&str, &str)> = images.iter().map(|image| image.split_once(':').unwrap()).collect();
    let path = split[0].0;
    assert!(split.iter().all(|(other, _)| *other == path), "{images:?} are of several repositories");
    let tags: Vec<&str> = split.iter().map(|(_, tag)| *tag).collect();
    watch_table(&registry.name(path), &tags, more)
}

/// Starts the agent by this command, and waits until it is ready.
pub fn start_by(agent: &mut Agent, command: &mut Command) -> String {
    agent.try_start_by(command).unwrap_or_else(|ended| panic!("the agent does not start: {ended:?}"))
}

/// Stores the login of the hostile registries' user in the agent's home, as `docker login` does.
pub fn log_in(agent: &Agent, registry: &HostileRegistry) {
    std::fs::create_dir_all(agent.path("docker")).unwrap();
    let host = &registry.host;
    agent.write("docker/config.json", &format!("{{\"auths\":{{{host:?}:{{\"auth\":{LOGIN:?}}}}}}}"));
}

/// The digest of a content as text; `gone` is `gone`.
pub fn digest_of(content: &str) -> String {
    if content == "gone" { content.to_owned() } else { manifest_digest(content).to_string() }
}

/// Each request on a connection of its own: a log may close an idle connection just when it is used again.
static CLIENT: LazyLock<reqwest::Client> =
    LazyLock::new(|| reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).build().unwrap());

pub fn get(url: &str) -> HttpResponse {
    wait(async { HttpResponse::of(CLIENT.get(url)).await })
}

/// All sightings of an image in the log, proven, oldest first: what was observed, and when.
pub fn logged(server: &Server, image: &str) -> Vec<(String, Timestamp)> {
    let answer = get(&format!("{}/api/v1/lookup?image={image}", server.url));
    assert_eq!(answer.status, 200, "{answer:?}");
    let lookup = TagProof::from_json(&answer.body).unwrap().verify(&server.vkey).unwrap();
    let witnesses = lookup.images.into_iter().flat_map(|report| report.witnesses);
    let sightings = witnesses.flat_map(|witness| witness.sightings);
    sightings.map(|sighted| (sighted.sighting.seen.to_string(), sighted.observed)).collect()
}

/// What the log has of an image, oldest first, without the times.
pub fn logged_digests(server: &Server, image: &str) -> Vec<String> {
    logged(server, image).into_iter().map(|(seen, _)| seen).collect()
}

/// Waits until the log has exactly these contents of an image.
pub fn wait_logged(agent: &Agent, server: &Server, image: &str, contents: &[&str]) {
    let want: Vec<String> = contents.iter().map(|content| digest_of(content)).collect();
    let has = wait_for_agent(agent, &format!("{contents:?} of {image} in the log"), || {
        let has = logged_digests(server, image);
        (has.len() >= want.len()).then_some(has)
    });
    assert_eq!(has, want, "{image}: the agent says:\n{}", agent.stderr());
}

/// Waits until the condition gives something; otherwise fails with the output of the agent.
pub fn wait_for_agent<T>(agent: &Agent, what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited for {what}; the agent says:\n{}", agent.stderr());
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// How many entries are not yet delivered to the log.
pub fn pending(status: &Status, server: &Server) -> u64 {
    status.log(&server.vkey)["pending"].as_u64().unwrap()
}

/// All errors anywhere in a status that name this, whether of a tag, a repository or a registry.
pub fn errors_naming<'a>(status: &'a Status, name: &str) -> Vec<&'a str> {
    let mut found = Vec::new();
    collect_errors(&status.0, &mut found);
    found.into_iter().filter(|error| error.contains(name)).collect()
}

fn collect_errors<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
    match value {
        Value::Object(fields) => {
            found.extend(fields.get("error").and_then(Value::as_str));
            fields.values().for_each(|value| collect_errors(value, found));
        }
        Value::Array(values) => values.iter().for_each(|value| collect_errors(value, found)),
        _ => {}
    }
}
