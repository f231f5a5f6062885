//! The witness agent in continuous operation: real registries, a real log, tags that move, and outages of everything.
//! At the end the log has all that was observable, and nothing else.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::TcpListener,
    ops::Range,
    time::Duration,
};

use crate::push_record::{Push, PushRecord, Pushed, Sighting, histories, push};
use taglog_proto::{entry::Entry, time::Timestamp};
use taglog_tests::cli_fixture::{User, runtime, wait};
use taglog_tests::{
    Agent, DataDirectory, QuickPush, Registry, Server, Status, Witness,
    agent::{log_table, push_table, registry_table, watch_table},
    process::{TIMEOUT, wait_for},
    random::{self, Random},
    replay,
    server::lasting_address,
};

/// Tags in each of the two repositories.
const TAGS: usize = 100;
/// How often the agent is killed at a random moment.
const KILLS: usize = 10;
/// The log's quotas are not what is tested here.
const QUOTA: &str = "[quota]\nentries-per-second = 1000000\nsightings-per-tag-per-hour = 1000000";
/// Polls every second, reports tags gone after two seconds.
const SHORT_INTERVALS: &str = "interval = \"1s\"\nlist-interval = \"1s\"\ngone-looks = 2\ngone-interval = \"1s\"\n";

/// A repository in a registry of its own.
struct WatchedRepository {
    registry: Registry,
    name: String,
    push: QuickPush,
}

impl WatchedRepository {
    fn in_registry(registry: Registry) -> WatchedRepository {
        let push = wait(QuickPush::to(&registry, "team/app"));
        WatchedRepository { name: registry.repository("team/app"), registry, push }
    }

    /// A registry that sends no notifications.
    fn silent() -> WatchedRepository {
        WatchedRepository::in_registry(Registry::start())
    }

    /// A registry that sends notifications to this address.
    fn telling(address: &str) -> WatchedRepository {
        WatchedRepository::in_registry(Registry::start_with(&format!(
            "notifications:\n  endpoints:\n    - name: taglog\n      url: http://{address}/push/distribution\n      \
             timeout: 5s\n      threshold: 3\n      backoff: 100ms\n"
        )))
    }

    fn image(&self, tag: &str) -> String {
        format!("{}:{tag}", self.name)
    }

    fn to_push(&self, tag: &str, content: &str) -> Push {
        Push { to: self.push.clone(), image: self.image(tag), content: content.to_owned() }
    }

    /// Pushes one image; its digest.
    fn push(&self, tag: &str, content: &str) -> String {
        wait(self.push.push(tag, content)).to_string()
    }
}

/// A log that can go down and come back at the same address.
struct RestartableLog {
    address: String,
    data: DataDirectory,
    server: Option<Server>,
}

impl RestartableLog {
    /// Not running yet.
    fn admitting(witness: &Witness) -> RestartableLog {
        RestartableLog { address: lasting_address(), data: DataDirectory::with(&[witness], QUOTA), server: None }
    }

    fn up(&mut self) {
        self.server = Some(self.data.start_at(&self.address));
    }

    fn down(&mut self) {
        self.server.take().expect("it is up").kill();
    }

    fn server(&self) -> &Server {
        self.server.as_ref().expect("it is up")
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

/// An agent that reports to these logs.
fn agent_for(witness: &Witness, logs: &[&RestartableLog], keys: &str, tables: &[String]) -> Agent {
    let agent = Agent::new(witness);
    let names = (0..logs.len()).map(|number| format!("trust{number}"));
    let mut all: Vec<String> = names.clone().map(|name| log_table(&name)).collect();
    names.zip(logs).for_each(|(name, log)| agent.trust(&name, &log.data.vkey, &log.url()));
    all.extend_from_slice(tables);
    agent.configure(keys, &all);
    agent
}

/// What the log has of one image.
fn history(log: &RestartableLog, witness: &Witness, image: &str) -> Vec<Sighting> {
    let images = [image.to_owned()];
    wait(histories(log.server(), witness, &images)).remove(image).unwrap()
}

fn digests(history: &[Sighting]) -> Vec<&str> {
    history.iter().map(|(digest, _)| digest.as_str()).collect()
}

/// Two hundred tags, half found by polling, half by notifications.
struct OutageFixture {
    witness: Witness,
    /// Polled every second.
    silent: WatchedRepository,
    /// Polled every hour, which is never in this test, and after notifications.
    telling: WatchedRepository,
    /// The address of the notifications.
    receiver: String,
    log: RestartableLog,
    agent: Agent,
    record: PushRecord,
    moves: usize,
}

impl OutageFixture {
    fn new() -> OutageFixture {
        let (witness, receiver) = (Witness::new(1), lasting_address());
        let (silent, telling) = (WatchedRepository::silent(), WatchedRepository::telling(&receiver));
        let mut log = RestartableLog::admitting(&witness);
        log.up();
        let agent = agent_for(&witness, &[&log], "", &[]);
        let (record, moves) = (PushRecord::default(), 0);
        let fixture = OutageFixture { witness, silent, telling, receiver, log, agent, record, moves };
        fixture.configure("24h", "1h");
        fixture
    }

    /// The confirmation interval, and the poll interval for the registry with notifications.
    fn configure(&self, confirm: &str, interval: &str) {
        let every = format!("interval = {interval:?}\nlist-interval = {interval:?}");
        let tables = [
            log_table("trust0"),
            registry_table(&self.silent.registry.host, 8),
            registry_table(&self.telling.registry.host, 8),
            watch_table(&self.silent.name, &["glob:*"], ""),
            watch_table(&self.telling.name, &["glob:*"], &every),
            push_table("distribution", &self.telling.registry.host, ""),
        ];
        let keys = format!("listen = {:?}\nconfirm = {confirm:?}\n{SHORT_INTERVALS}", self.receiver);
        self.agent.configure(&keys, &tables);
    }

    /// Pushes something new under these tags of both repositories.
    fn moves(&mut self, tags: impl IntoIterator<Item = usize>) -> Vec<Push> {
        let mut moves = Vec::new();
        for tag in tags {
            self.moves += 1;
            let content = format!("move {}", self.moves);
            moves.extend([&self.silent, &self.telling].map(|to| to.to_push(&format!("t{tag:02}"), &content)));
        }
        moves
    }

    /// Pushes and does not wait for a poll.
    fn push_unseen(&mut self, tags: Range<usize>) -> Vec<Pushed> {
        let moves = self.moves(tags);
        wait(push(moves))
    }

    /// Pushes and waits until the agent has signed it.
    fn push_seen(&mut self, tags: Range<usize>) -> Status {
        let pushed = self.push_unseen(tags);
        self.record.add(pushed);
        self.wait_until_seen()
    }

    fn wait_until_seen(&mut self) -> Status {
        let OutageFixture { agent, record, .. } = self;
        agent.wait_until("the agent to have seen everything", |status| {
            record.add_status(status);
            record.is_up_to_date(status)
        })
    }

    /// Moves tags and kills the agent at whatever it is doing, as often as [`KILLS`]; the log too now and then.
    /// The random moments are the point of the test; there is no condition to wait for.
    fn kill_at_random(&mut self, random: &mut Random, tags: Range<usize>) {
        for round in 0..KILLS {
            // No tag twice: a poll dates what was overwritten while it was answered.
            let choices: BTreeSet<usize> =
                (0..15).map(|_| tags.start + random.below(tags.len() as u64) as usize).collect();
            let pushing = runtime().spawn(push(self.moves(choices)));
            std::thread::sleep(Duration::from_millis(random.below(600)));
            if round % 3 == 1 {
                self.log.down();
            }
            std::thread::sleep(Duration::from_millis(random.below(600)));
            self.agent.kill();
            if self.log.server.is_none() {
                self.log.up();
            }
            self.record.add(wait(pushing).unwrap());
            // Whatever it has said it signed is on disk, and will reach the log.
            self.record.add_status(&self.agent.status());
            self.agent.launch(&[]);
        }
    }

    /// Puts tags back to what they were, and waits until the agent has signed it.
    fn roll_back(&mut self, tags: Range<usize>) {
        for content in ["one", "other", "one"] {
            let both = [&self.silent, &self.telling];
            let moves = tags.clone().flat_map(|tag| both.map(|to| to.to_push(&format!("t{tag:02}"), content)));
            let moves: Vec<Push> = moves.collect();
            self.record.add(wait(push(moves)));
            self.wait_until_seen();
        }
    }
}

#[test]
fn two_hundred_tags_are_followed_through_every_outage() {
    let mut random = Random::new(random::seed());
    let mut fixture = OutageFixture::new();
    let pushed = fixture.push_unseen(0..TAGS);
    fixture.record.add(pushed);
    fixture.agent.start();
    fixture.wait_until_seen();
    fixture.agent.wait_delivered();

    // While all is well.
    fixture.push_seen(0..10);
    fixture.roll_back(10..15);

    // While the log is down, and the agent with it for a moment.
    fixture.log.down();
    fixture.push_seen(20..40);
    fixture.agent.kill();
    fixture.agent.start();
    let status = fixture.push_seen(20..30);
    assert!(status.pending() >= 60, "{status:?}");
    fixture.log.up();
    fixture.agent.wait_delivered();

    // While the agent is dead: what is overwritten before it comes back was never there to be seen, whatever the
    // registry tells it afterwards.
    fixture.agent.kill();
    let overwritten = fixture.push_unseen(40..50);
    fixture.record.add_invisible(overwritten);
    let stays = fixture.push_unseen(40..60);
    fixture.record.add(stays);
    fixture.agent.start();
    fixture.wait_until_seen();

    fixture.kill_at_random(&mut random, 60..90);
    fixture.agent.wait_ready().unwrap();
    fixture.wait_until_seen();
    // From now on it polls everywhere, and so it can confirm.
    fixture.configure("3s", "2s");
    fixture.agent.hangup();
    fixture.agent.wait_until("the confirmation of both repositories", |status| {
        status.rows("repositories").iter().filter(|row| row["confirmed"].is_string()).count() == 2
    });
    fixture.agent.wait_delivered();

    let images = fixture.record.images();
    let histories = wait(histories(fixture.log.server(), &fixture.witness, &images));
    fixture.record.check(&histories);
    wait_for_manifests(&fixture.log, &histories);
    fixture.agent.terminate();
    let status = fixture.agent.status();
    assert_eq!((&status.0["running"], status.pending(), status.alarms()), (&false.into(), 0, vec![]));
    check_log(&fixture.log);
    check_verdicts(&fixture, &images);
    check_history_command(&fixture, &histories);
    let sightings: usize = histories.values().map(Vec::len).sum();
    println!("{} states shown, {sightings} sightings in the log, {} moves", fixture.record.shown(), fixture.moves);
}

/// The log gets the manifest of every digest that was seen, also of those that the registry does not serve any more.
fn wait_for_manifests(log: &RestartableLog, histories: &BTreeMap<String, Vec<Sighting>>) {
    let digests: BTreeSet<&str> = histories.values().flatten().map(|(digest, _)| digest.as_str()).collect();
    for digest in digests {
        let kept = || wait(log.server().get_status(&format!("/api/v1/manifests/{digest}"))) == Some(200);
        wait_for(&format!("the manifest of {digest}"), TIMEOUT, || kept().then_some(()));
    }
}

/// A whole audit; nothing was said twice, and confirmations were made.
fn check_log(log: &RestartableLog) {
    let audited = wait(replay(log.server()));
    let mut statements = BTreeSet::new();
    let mut confirmations = 0;
    for entry in audited.entries() {
        match Entry::parse(entry).unwrap() {
            Entry::Observation(entry) => assert!(statements.insert(entry.text()), "twice: {entry}"),
            Entry::Confirmation(_) => confirmations += 1,
            _ => {}
        }
    }
    assert!(confirmations >= 2, "only {confirmations} confirmations");
}

/// `taglog verify` of everything names exactly the tags that were moved.
fn check_verdicts(fixture: &OutageFixture, images: &[String]) {
    let user = User::trusting(fixture.log.server());
    let arguments: Vec<&str> = ["verify"].into_iter().chain(images.iter().map(String::as_str)).collect();
    let answer = user.run_json(&arguments).exits(1).json();
    assert_eq!(answer["errors"], serde_json::json!([]));
    let rows: Vec<(&str, &str)> = answer["images"].as_array().unwrap().iter().map(verdict).collect();
    let named = |verdict: &str| -> BTreeSet<String> {
        rows.iter().filter(|row| row.1 == verdict).map(|row| row.0.to_owned()).collect()
    };
    let moved = fixture.record.moved();
    assert!(moved.len() > 100 && moved.len() < images.len(), "{} moved", moved.len());
    assert_eq!(named("retagged"), moved);
    assert_eq!(named("ok").len(), images.len() - moved.len(), "{rows:?}");
}

fn verdict(row: &serde_json::Value) -> (&str, &str) {
    (row["image"].as_str().unwrap(), row["verdict"].as_str().unwrap())
}

/// `taglog history` shows what the test has looked up.
fn check_history_command(fixture: &OutageFixture, histories: &BTreeMap<String, Vec<Sighting>>) {
    let user = User::trusting(fixture.log.server());
    for (repository, tag) in [(&fixture.silent, "t10"), (&fixture.telling, "t10"), (&fixture.telling, "t95")] {
        let image = repository.image(tag);
        let answer = user.run_json(&["history", &image]).exits(0).json();
        let rows = answer["history"]["sightings"].as_array().unwrap().iter();
        let sightings: Vec<Sighting> =
            rows.map(|row| (row["digest"].as_str().unwrap().to_owned(), seconds(&row["observed"]))).collect();
        assert_eq!(sightings, histories[&image], "{image}");
        assert_eq!(sightings.len(), if tag == "t10" { 4 } else { 1 }, "{image}: {sightings:?}");
    }
}

/// A time in an answer, in seconds since 1970.
fn seconds(time: &serde_json::Value) -> i64 {
    time.as_str().and_then(|time| time.parse::<Timestamp>().ok()).unwrap_or_else(|| panic!("no time: {time}")).unix()
}

#[test]
fn an_unreachable_log_later_gets_every_change_in_order_with_its_time() {
    let (witness, repository) = (Witness::new(1), WatchedRepository::silent());
    let mut log = RestartableLog::admitting(&witness);
    log.up();
    let image = repository.image("1.0");
    let tables = [registry_table(&repository.registry.host, 4), watch_table(&repository.name, &["1.0"], "")];
    let mut agent = agent_for(&witness, &[&log], SHORT_INTERVALS, &tables);
    let first = repository.push("1.0", "harmless");
    agent.start();
    let status = agent.wait_until("the first digest", |status| status.seen(&image) == Some(&first));
    let mut signed = vec![(first, seconds(&status.tag(&image)["observed"]))];
    agent.wait_delivered();

    log.down();
    for change in 1..=5 {
        let digest = repository.push("1.0", &format!("evil {change}"));
        let status = agent.wait_until("the change", |status| status.seen(&image) == Some(&digest));
        signed.push((digest, seconds(&status.tag(&image)["observed"])));
        assert_eq!(status.pending(), change, "{status:?}");
        if change == 3 {
            agent.kill();
            agent.start();
        }
    }
    assert!(signed.windows(2).all(|pair| pair[0].1 < pair[1].1), "each has its own time: {signed:?}");
    log.up();
    let status = agent.wait_delivered();
    assert_eq!(status.log(&log.data.vkey)["error"], serde_json::Value::Null, "{status:?}");
    assert_eq!(history(&log, &witness, &image), signed);
    wait(replay(log.server()));
}

#[test]
fn an_unreachable_log_does_not_delay_another() {
    let (witness, repository) = (Witness::new(1), WatchedRepository::silent());
    let (mut up, mut down) = (RestartableLog::admitting(&witness), RestartableLog::admitting(&witness));
    up.up();
    // Worse than down: it takes connections and never answers.
    let mute = TcpListener::bind(&down.address).unwrap();
    let tags: Vec<String> = (0..20).map(|tag| format!("t{tag:02}")).collect();
    let images: Vec<String> = tags.iter().map(|tag| repository.image(tag)).collect();
    tags.iter().for_each(|tag| drop(repository.push(tag, tag)));
    let tables = [registry_table(&repository.registry.host, 4), watch_table(&repository.name, &["glob:*"], "")];
    let mut agent = agent_for(&witness, &[&down, &up], SHORT_INTERVALS, &tables);
    agent.start();
    let count = |status: &Status, log: &RestartableLog, what: &str| status.log(&log.data.vkey)[what].as_u64().unwrap();
    agent.wait_until("the first digests", |status| count(status, &up, "delivered") == 20);
    let moved = repository.push("t07", "moved");
    let status = agent.wait_until("the change", |status| count(status, &up, "delivered") == 21);
    assert_eq!((count(&status, &up, "pending"), count(&status, &down, "pending")), (0, 21), "{status:?}");
    let reported = wait(histories(up.server(), &witness, &images));
    assert_eq!(digests(&reported[&images[7]]).last(), Some(&moved.as_str()));
    assert!(reported.iter().all(|(image, history)| history.len() == if *image == images[7] { 2 } else { 1 }));

    drop(mute);
    down.up();
    agent.wait_delivered();
    assert_eq!(wait(histories(down.server(), &witness, &images)), reported, "the same, late");
}

#[test]
fn a_deleted_tag_is_reported_gone_once_and_may_return() {
    let (witness, repository) = (Witness::new(1), WatchedRepository::silent());
    let mut log = RestartableLog::admitting(&witness);
    log.up();
    let (image, kept) = (repository.image("1.0"), repository.image("kept"));
    let tables = [registry_table(&repository.registry.host, 4), watch_table(&repository.name, &["1.0", "kept"], "")];
    let mut agent = agent_for(&witness, &[&log], SHORT_INTERVALS, &tables);
    let digest = repository.push("1.0", "harmless");
    let other = repository.push("kept", "kept");
    agent.start();
    agent.wait_until("both digests", |status| {
        status.seen(&image) == Some(&digest) && status.seen(&kept) == Some(&other)
    });
    wait(repository.push.delete(&digest.parse().unwrap()));
    agent.wait_until("gone", |status| status.seen(&image) == Some("gone"));
    // Once is enough, however often nothing is found from then on.
    let before = agent.status().tag(&image)["observed"].clone();
    let looked = agent.status().tag(&image)["looked"].clone();
    let status = agent.wait_until("two more looks", |status| {
        status.tag(&image)["looked"].is_string() && seconds(&status.tag(&image)["looked"]) >= seconds(&looked) + 2
    });
    assert_eq!(status.tag(&image)["observed"], before);
    assert_eq!(repository.push("1.0", "harmless"), digest);
    agent.wait_until("the tag to be back", |status| status.seen(&image) == Some(&digest));
    agent.wait_delivered();
    assert_eq!(digests(&history(&log, &witness, &image)), [digest.as_str(), "gone", &digest]);
    assert_eq!(digests(&history(&log, &witness, &kept)), [other]);
}

#[test]
fn a_tag_first_named_by_a_push_is_polled_immediately() {
    let (witness, receiver) = (Witness::new(1), lasting_address());
    let repository = WatchedRepository::telling(&receiver);
    let mut log = RestartableLog::admitting(&witness);
    log.up();
    let (old, new, excluded) = (repository.image("1.0"), repository.image("1.1"), repository.image("1.2-rc1"));
    let tables = [
        registry_table(&repository.registry.host, 4),
        watch_table(&repository.name, &["glob:1.*"], "exclude = [\"glob:*-rc*\"]"),
        push_table("distribution", &repository.registry.host, ""),
    ];
    let hourly = format!("listen = {receiver:?}\ninterval = \"1h\"\nlist-interval = \"1h\"\n");
    let mut agent = agent_for(&witness, &[&log], &hourly, &tables);
    let first = repository.push("1.0", "old");
    agent.start();
    agent.wait_until("the tag that is there", |status| status.seen(&old) == Some(&first));
    repository.push("1.2-rc1", "not wanted");
    let second = repository.push("1.1", "new");
    let status = agent.wait_until("the tag that is new", |status| status.seen(&new) == Some(&second));
    assert!(status.tag(&excluded).is_null(), "{status:?}");
    agent.wait_delivered();
    assert_eq!(digests(&history(&log, &witness, &new)), [second]);
}
