//! The witness agent, which reports to the log, and what it notices of it.

use taglog_proto::evidence::Evidence;
use taglog_tests::{
    Agent, DishonestLog, Status, Witness,
    agent::{log_table, registry_table, watch_table},
    dishonest::Withholding,
    hostile_registry::{HostileRegistry, Manner},
    witness::now,
};

/// The tag that the agent watches.
const WATCHED: &str = "team/app:1.0";

/// An agent that reports one tag to the log.
pub struct AgentScene {
    pub agent: Agent,
    pub log: DishonestLog,
    pub registry: HostileRegistry,
}

impl AgentScene {
    /// The agent does not run yet; what is not published within a second is an alarm.
    pub fn new() -> AgentScene {
        let (witness, other) = (Witness::new(1), Witness::new(2));
        let log = DishonestLog::start(&[&witness, &other]);
        let agent = Agent::new(&witness);
        agent.trust("trust", log.vkey(), &log.url);
        let registry = HostileRegistry::start();
        let keys = ["interval", "list-interval", "gone-interval", "publish-deadline"];
        let keys: String = keys.iter().map(|key| format!("{key} = \"1s\"\n")).collect();
        let watch = watch_table(&registry.name("team/app"), &["1.0"], "");
        agent.configure(&keys, &[log_table("trust"), registry_table(&registry.host, 4), watch]);
        let scene = AgentScene { agent, log, registry };
        scene.move_to("one");
        scene
    }

    /// Moves the tag.
    pub fn move_to(&self, content: &str) {
        self.registry.set(WATCHED, Manner::serves(content));
    }
}

impl AgentScene {
    /// An agent that runs, and whose first report has been delivered.
    fn running() -> AgentScene {
        let mut scene = AgentScene::new();
        scene.agent.start();
        scene.wait_delivered(1);
        scene
    }

    fn wait_delivered(&mut self, count: u64) {
        let vkey = self.log.vkey().clone();
        let delivered = |status: &Status| status.log(&vkey)["delivered"] == count;
        self.agent.wait_until(&format!("{count} delivered"), delivered);
    }

    fn wait_alarm(&mut self, kind: &str) -> Status {
        self.agent.wait_until(&format!("the alarm {kind}"), |status| status.alarms().contains(&kind))
    }

    /// The alarm that people are woken for, with the evidence that was kept.
    fn is_caught(&mut self) -> String {
        let status = self.wait_alarm("misbehaviour");
        assert_eq!(status.exit_code(), 4);
        let alarm = status.alarm("misbehaviour").unwrap().clone();
        let evidence = alarm["evidence"].as_str().unwrap_or_else(|| panic!("no evidence: {alarm}"));
        let evidence = self.agent.path(evidence);
        assert!(evidence.starts_with(self.agent.path("state/evidence")), "{}", evidence.display());
        std::fs::read_to_string(evidence).unwrap()
    }

    /// What was kept convicts the log by itself, of this kind.
    fn convicts(&self, kept: &str, kind: &str) {
        assert!(kept.contains(kind), "not {kind}: {kept}");
        Evidence::from_json(kept.as_bytes()).unwrap().convict(self.log.vkey()).unwrap();
    }

    fn pending(&self) -> u64 {
        self.agent.status().pending()
    }
}

/// An acknowledgement is no publication. The entry stays with the agent until it holds a receipt.
#[test]
fn withholds_what_it_acknowledged() {
    let mut scene = AgentScene::running();
    scene.log.withhold(Some(Withholding::Acknowledges));
    scene.move_to("two");
    let status = scene.wait_alarm("unpublished");
    assert_eq!((status.exit_code(), scene.pending()), (3, 1), "{status:?}");
    // It gives the place away, and cannot keep its word any more.
    scene.log.add(&[Witness::new(2).observe("registry.example/team/other:1.0", "o", now())]);
    scene.log.withhold(None);
    let kept = scene.is_caught();
    assert!(kept.contains("taglog/observation@v1"), "what it acknowledged is kept: {kept}");
}

/// A receipt under a checkpoint that nobody else is shown: the next one betrays it.
#[test]
fn withholds_what_it_gave_a_receipt_for() {
    let mut scene = AgentScene::running();
    scene.log.withhold(Some(Withholding::GivesReceipt));
    scene.move_to("two");
    scene.wait_delivered(2);
    scene.log.withhold(None);
    scene.move_to("three");
    let kept = scene.is_caught();
    scene.convicts(&kept, "taglog/evidence/fork@v1");
    assert_eq!(scene.pending(), 1, "the report that betrayed it is kept");
}

#[test]
fn freezes() {
    let mut scene = AgentScene::running();
    scene.log.freeze();
    scene.move_to("two");
    let status = scene.wait_alarm("unpublished");
    assert_eq!(status.exit_code(), 3, "{status:?}");
    assert!(!status.alarms().contains(&"misbehaviour"), "late is not false: {status:?}");
    scene.log.thaw();
    scene.wait_delivered(2);
    scene.agent.wait_until("the end of the alarm", |status| status.alarms().is_empty());
}

#[test]
fn rolls_back() {
    let mut scene = AgentScene::running();
    scene.move_to("two");
    scene.wait_delivered(2);
    scene.log.roll_back(2);
    scene.move_to("three");
    scene.is_caught();
    assert!(scene.pending() >= 1);
}

#[test]
fn reorders_what_is_published() {
    let mut scene = AgentScene::running();
    let (two, image) = (Witness::new(2), "registry.example/team/other:1.0");
    scene.log.add(&[two.observe(image, "o", now()), two.observe(image, "p", now())]);
    scene.move_to("two");
    scene.wait_delivered(2);
    // The roster, a seal, the agent's first report, a seal, and then the other witness's.
    scene.log.rewrite(|entries| entries.swap(4, 5));
    scene.move_to("three");
    scene.is_caught();
}
