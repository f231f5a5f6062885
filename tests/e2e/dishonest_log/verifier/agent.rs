//! What the witness agent detects of the log that it reports to.

use taglog_proto::evidence::Evidence;
use taglog_tests::{
    Agent, DishonestLog, Status, Witness,
    agent::{log_table, registry_table, watch_table},
    dishonest::Withholding,
    hostile_registry::{HostileRegistry, ManifestResponse},
    witness::now,
};

/// The tag that the agent watches.
const WATCHED: &str = "team/app:1.0";

/// An agent that reports one tag to the log.
pub struct WatchedLogFixture {
    pub agent: Agent,
    pub log: DishonestLog,
    pub registry: HostileRegistry,
}

impl WatchedLogFixture {
    /// The agent does not run yet; what is not published within a second is an alarm.
    pub fn new() -> WatchedLogFixture {
        let (witness, other) = (Witness::new(1), Witness::new(2));
        let log = DishonestLog::start(&[&witness, &other]);
        let agent = Agent::new(&witness);
        agent.trust("trust", log.vkey(), &log.url);
        let registry = HostileRegistry::start();
        let keys = ["interval", "list-interval", "gone-interval", "publish-deadline"];
        let keys: String = keys.iter().map(|key| format!("{key} = \"1s\"\n")).collect();
        let watch = watch_table(&registry.name("team/app"), &["1.0"], "");
        agent.configure(&keys, &[log_table("trust"), registry_table(&registry.host, 4), watch]);
        let fixture = WatchedLogFixture { agent, log, registry };
        fixture.move_to("one");
        fixture
    }

    /// Moves the tag.
    pub fn move_to(&self, content: &str) {
        self.registry.set(WATCHED, ManifestResponse::serves(content));
    }
}

impl WatchedLogFixture {
    /// An agent that runs, and whose first report has been delivered.
    fn running() -> WatchedLogFixture {
        let mut fixture = WatchedLogFixture::new();
        fixture.agent.start();
        fixture.wait_delivered(1);
        fixture
    }

    fn wait_delivered(&mut self, count: u64) {
        let vkey = self.log.vkey().clone();
        let delivered = |status: &Status| status.log(&vkey)["delivered"] == count;
        self.agent.wait_until(&format!("{count} delivered"), delivered);
    }

    fn wait_alarm(&mut self, kind: &str) -> Status {
        self.agent.wait_until(&format!("the alarm {kind}"), |status| status.alarms().contains(&kind))
    }

    /// The misbehaviour alarm, with the evidence that was kept.
    fn is_detected(&mut self) -> String {
        let status = self.wait_alarm("misbehaviour");
        assert_eq!(status.exit_code(), 4);
        let alarm = status.alarm("misbehaviour").unwrap().clone();
        let evidence = alarm["evidence"].as_str().unwrap_or_else(|| panic!("no evidence: {alarm}"));
        let evidence = self.agent.path(evidence);
        assert!(evidence.starts_with(self.agent.path("state/evidence")), "{}", evidence.display());
        std::fs::read_to_string(evidence).unwrap()
    }

    /// The kept evidence is of this kind and proves misbehaviour by itself.
    fn proves_misbehaviour(&self, kept: &str, kind: &str) {
        assert!(kept.contains(kind), "not {kind}: {kept}");
        Evidence::from_json(kept.as_bytes()).unwrap().proves_misbehaviour(self.log.vkey()).unwrap();
    }

    fn pending(&self) -> u64 {
        self.agent.status().pending()
    }
}

/// An acknowledgement is no publication. The entry stays with the agent until it holds a receipt.
#[test]
fn withholds_an_acknowledged_entry() {
    let mut fixture = WatchedLogFixture::running();
    fixture.log.withhold(Some(Withholding::Acknowledges));
    fixture.move_to("two");
    let status = fixture.wait_alarm("unpublished");
    assert_eq!((status.exit_code(), fixture.pending()), (3, 1), "{status:?}");
    // It gives the index to another entry, and cannot keep the acknowledgement any more.
    fixture.log.add(&[Witness::new(2).observe("registry.example/team/other:1.0", "o", now())]);
    fixture.log.withhold(None);
    let kept = fixture.is_detected();
    assert!(kept.contains("taglog/observation@v1"), "what it acknowledged is kept: {kept}");
}

/// A receipt under a checkpoint that is shown to nobody else: the next receipt reveals it.
#[test]
fn withholds_an_entry_with_a_receipt() {
    let mut fixture = WatchedLogFixture::running();
    fixture.log.withhold(Some(Withholding::GivesReceipt));
    fixture.move_to("two");
    fixture.wait_delivered(2);
    fixture.log.withhold(None);
    fixture.move_to("three");
    let kept = fixture.is_detected();
    fixture.proves_misbehaviour(&kept, "taglog/evidence/fork@v1");
    assert_eq!(fixture.pending(), 1, "the report that betrayed it is kept");
}

#[test]
fn freezes() {
    let mut fixture = WatchedLogFixture::running();
    fixture.log.freeze();
    fixture.move_to("two");
    let status = fixture.wait_alarm("unpublished");
    assert_eq!(status.exit_code(), 3, "{status:?}");
    assert!(!status.alarms().contains(&"misbehaviour"), "late is not false: {status:?}");
    fixture.log.thaw();
    fixture.wait_delivered(2);
    fixture.agent.wait_until("the end of the alarm", |status| status.alarms().is_empty());
}

#[test]
fn rolls_back() {
    let mut fixture = WatchedLogFixture::running();
    fixture.move_to("two");
    fixture.wait_delivered(2);
    fixture.log.roll_back(2);
    fixture.move_to("three");
    fixture.is_detected();
    assert!(fixture.pending() >= 1);
}

#[test]
fn reorders_published_entries() {
    let mut fixture = WatchedLogFixture::running();
    let (two, image) = (Witness::new(2), "registry.example/team/other:1.0");
    fixture.log.add(&[two.observe(image, "o", now()), two.observe(image, "p", now())]);
    fixture.move_to("two");
    fixture.wait_delivered(2);
    // The roster, a seal, the agent's first report, a seal, and then the other witness's.
    fixture.log.rewrite(|entries| entries.swap(4, 5));
    fixture.move_to("three");
    fixture.is_detected();
}
