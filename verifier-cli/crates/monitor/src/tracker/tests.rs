use std::{
    collections::{HashMap, HashSet},
    path::Path,
};

use proptest::prelude::*;
use taglog_proto::{
    entry::{Confirmation, Limits, Observation, Seal, WitnessSignature},
    name::{Repository, WitnessName},
    note::SigningKey,
};

use super::*;
use crate::{
    alert_store::{Outbox, Pending},
    config::Config,
};

const START: i64 = 1_800_000_000;
const HOUR: i64 = 3600;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_unix(START + seconds).unwrap()
}

fn key(number: u8) -> SigningKey {
    SigningKey::from_seed(&format!("w.example/{number}"), &[number; 32]).unwrap()
}

fn witness(number: u8) -> WitnessId {
    let key = key(number);
    WitnessId { name: WitnessName::parse(key.verifier_key().name()).unwrap(), key_id: key.verifier_key().key_id() }
}

fn log_key() -> VerifierKey {
    SigningKey::from_seed("log.example/x", &[99; 32]).unwrap().verifier_key().clone()
}

fn image(name: &str) -> Image {
    Image::parse(&format!("r.example/{name}")).unwrap()
}

fn digest(content: &str) -> Digest {
    Digest::sha256(content.as_bytes())
}

/// A statement of a witness: that `a:1` has the content `x`, that it is gone, or a confirmation of `a`.
#[derive(Clone, Debug)]
enum Statement {
    Saw(u8, &'static str, &'static str),
    Gone(u8, &'static str),
    Confirms(u8, &'static str),
}
use Statement::{Confirms, Gone, Saw};

/// A log as the auditor reports it. Nothing in it is signed, because the tracker relies on the auditor.
#[derive(Default)]
struct Log {
    reports: Vec<BatchReport>,
    size: u64,
    seen: HashMap<(Image, WitnessId), Seen>,
    tags: HashSet<Image>,
}

impl Log {
    /// A log that admits witnesses 1 to 3.
    fn new() -> Log {
        let mut log = Log::default();
        log.roster(0, &[1, 2, 3]);
        log
    }

    fn roster(&mut self, time: i64, witnesses: &[u8]) {
        let limits = Limits { future: 300, past: 7_776_000, quiet: 600 };
        let keys = witnesses.iter().map(|number| key(*number).verifier_key().clone()).collect();
        let roster = Roster::new(at(time), limits, keys).unwrap();
        self.close(time, vec![Entry::Roster(roster)], Vec::new());
    }

    fn batch(&mut self, time: i64, statement: &[Statement]) {
        let (mut entries, mut changes) = (Vec::new(), Vec::new());
        let known = self.tags.clone();
        for statement in statement {
            let (number, name, seen) = match statement {
                Saw(number, name, content) => (*number, name, Seen::Digest(digest(content))),
                Gone(number, name) => (*number, name, Seen::Gone),
                Confirms(number, name) => {
                    let repository = Repository::parse(&format!("r.example/{name}")).unwrap();
                    entries.push(Entry::Confirmation(Confirmation {
                        repository,
                        observed: at(time),
                        signature: signature(*number),
                    }));
                    continue;
                }
            };
            let (image, index) = (image(name), self.size + entries.len() as u64);
            let old = self.seen.insert((image.clone(), witness(number)), seen);
            if old != Some(seen) {
                let new_tag = !known.contains(&image);
                let (image, witness) = (image.clone(), witness(number));
                changes.push(TagChange { index, image, witness, observed: at(time), old, new: seen, new_tag });
            }
            self.tags.insert(image.clone());
            let signature = signature(number);
            entries.push(Entry::Observation(Observation { image, seen, observed: at(time), signature }));
        }
        self.close(time, entries, changes);
    }

    fn close(&mut self, time: i64, mut entries: Vec<Entry>, changes: Vec<TagChange>) {
        let size = self.size + entries.len() as u64;
        let seal = Seal { time: at(time), size, roster: 0, tags: self.tags.len() as u64, index: Hash::of(b"") };
        entries.push(Entry::Seal(seal));
        self.reports.push(BatchReport { first: self.size, entries, seal, changes, lax_signatures: Vec::new() });
        self.size = size + 1;
    }

    fn known(&self, batches: usize) -> RecordsAt<'_> {
        RecordsAt(&self.reports[..batches])
    }
}

fn signature(number: u8) -> WitnessSignature {
    WitnessSignature { witness: witness(number), bytes: [0; 64] }
}

/// The records of tags after these batches.
struct RecordsAt<'a>(&'a [BatchReport]);

impl TagRecords for RecordsAt<'_> {
    fn lines(&self, image: &Image) -> Vec<(WitnessId, Seen, u64)> {
        let mut lines: BTreeMap<WitnessId, (Seen, u64)> = BTreeMap::new();
        let changes = self.0.iter().flat_map(|report| &report.changes).filter(|change| change.image == *image);
        for change in changes {
            let line = lines.entry(change.witness.clone()).or_insert((change.new, 0));
            *line = (change.new, line.1 + 1);
        }
        lines.into_iter().map(|(witness, (seen, sightings))| (witness, seen, sightings)).collect()
    }
}

fn config(watch: &str) -> Config {
    let text = format!(
        "trust = \"t\"\nstate = \"s\"\nsilent-after = \"10h\"\ndisagree-after = \"2h\"\n{watch}\n\
         [[sink]]\nkind = \"stdout\"\nname = \"all\"\n"
    );
    Config::parse(&text, Path::new("monitor.toml")).unwrap()
}

const EVERYTHING: &str = "[[watch]]\nrepository = \"glob:r.example/**\"";

/// A monitor without an auditor.
struct Scene {
    home: tempfile::TempDir,
    config: Config,
    open: Option<(AlertStore, Outbox, Tracker)>,
    reported: usize,
}

impl Scene {
    fn new(watch: &str, past: u64) -> Scene {
        let mut scene = Scene { home: tempfile::tempdir().unwrap(), config: config(watch), open: None, reported: 0 };
        scene.start(Baseline::default());
        let (store, _, tracker) = scene.open.as_mut().unwrap();
        tracker.set_past(store, past).unwrap();
        scene
    }

    fn start(&mut self, baseline: Baseline<'_>) {
        self.open = None;
        let (mut store, outbox) = AlertStore::open(self.home.path(), &log_key(), &self.config.sinks).unwrap();
        let tracker = Tracker::open(&mut store, &self.config, &log_key(), baseline).unwrap();
        self.open = Some((store, outbox, tracker));
    }

    fn take(&mut self, log: &Log, batches: std::ops::Range<usize>) {
        let (store, _, tracker) = self.open.as_mut().unwrap();
        tracker.process(store, &log.reports[batches.clone()], &log.known(batches.end)).unwrap();
    }

    fn commit(&mut self) {
        self.open.as_mut().unwrap().0.commit().unwrap();
    }

    fn all(&self) -> Vec<Alert> {
        let pending = self.open.as_ref().unwrap().1.pending("all", 10_000).unwrap();
        pending.into_iter().map(|Pending { sequenced, .. }| sequenced.alert).collect()
    }

    /// Processes the new batches of the log, and returns the new alerts.
    fn news(&mut self, log: &Log) -> Vec<Alert> {
        let size = self.open.as_ref().unwrap().2.size();
        let first = log.reports.iter().take_while(|report| report.seal.size < size).count();
        self.take(log, first..log.reports.len());
        self.commit();
        let all = self.all();
        let new = all[self.reported..].to_vec();
        self.reported = all.len();
        new
    }
}

/// Kind and subject of each alert.
fn brief(alerts: &[Alert]) -> Vec<(AlertKind, AlertState, String)> {
    let subject = |alert: &Alert| alert.image.clone().or(alert.witness.clone()).unwrap_or_default();
    alerts.iter().map(|alert| (alert.kind, alert.state, subject(alert).replace("r.example/", ""))).collect()
}

fn event(kind: AlertKind, image: &str) -> (AlertKind, AlertState, String) {
    (kind, AlertState::Event, image.to_owned())
}

#[test]
fn a_retag_raises_one_alert_for_all_witnesses() {
    let (mut log, mut scene) = (Log::new(), Scene::new(EVERYTHING, 0));
    log.batch(1, &[Saw(1, "a:1", "x"), Saw(2, "a:1", "x"), Saw(1, "a:2", "x")]);
    let new = [event(AlertKind::NewTag, "a:1"), event(AlertKind::NewTag, "a:2")];
    assert_eq!(brief(&scene.news(&log)), new);
    log.batch(2, &[Saw(1, "a:1", "y"), Saw(1, "a:2", "x")]);
    log.batch(3, &[Saw(2, "a:1", "y"), Saw(3, "a:1", "y")]);
    let alerts = scene.news(&log);
    assert_eq!(brief(&alerts), [event(AlertKind::Retag, "a:1")]);
    let retag = &alerts[0];
    assert_eq!(retag.digest, Some(digest("y").to_string()));
    assert_eq!(retag.previous, [digest("x").to_string()]);
    assert_eq!((retag.rollback, retag.index, &retag.witness), (Some(false), Some(6), &Some(witness(1).to_string())));
    assert_eq!((retag.time.as_str(), &retag.observed), (at(2).to_string().as_str(), &Some(at(2).to_string())));
}

#[test]
fn a_rollback_is_reported_although_one_witness_never_saw_another_digest() {
    let (mut log, mut scene) = (Log::new(), Scene::new(EVERYTHING, 0));
    log.batch(1, &[Saw(1, "a:1", "x"), Saw(2, "a:1", "x"), Saw(1, "a:1", "y")]);
    assert_eq!(scene.news(&log).len(), 2);
    log.batch(2, &[Saw(1, "a:1", "x"), Saw(2, "a:1", "x")]);
    let alerts = scene.news(&log);
    assert_eq!(brief(&alerts), [event(AlertKind::Retag, "a:1")]);
    assert_eq!(alerts[0].rollback, Some(true));
    // And there again.
    log.batch(3, &[Saw(1, "a:1", "y")]);
    assert_eq!(brief(&scene.news(&log)), [event(AlertKind::Retag, "a:1")]);
}

#[test]
fn a_new_witness_raises_no_alert_unless_it_saw_another_digest() {
    let (mut log, mut scene) = (Log::new(), Scene::new(EVERYTHING, 0));
    log.batch(1, &[Saw(1, "a:1", "x"), Saw(1, "a:1", "y"), Saw(1, "a:1", "z")]);
    assert_eq!(scene.news(&log).len(), 3);
    log.batch(2, &[Saw(2, "a:1", "z")]);
    assert!(scene.news(&log).is_empty());
    log.batch(3, &[Saw(3, "a:1", "w")]);
    let alerts = scene.news(&log);
    assert_eq!(brief(&alerts), [event(AlertKind::Retag, "a:1")]);
    assert_eq!(alerts[0].previous, [digest("z").to_string()]);
}

#[test]
fn a_tag_that_returns_is_a_retag_only_with_another_digest() {
    let (mut log, mut scene) = (Log::new(), Scene::new(EVERYTHING, 0));
    log.batch(1, &[Gone(1, "a:1")]);
    assert!(scene.news(&log).is_empty(), "what never was is not new");
    log.batch(2, &[Saw(1, "a:1", "x"), Gone(1, "a:1"), Saw(1, "a:1", "x")]);
    assert_eq!(brief(&scene.news(&log)), [event(AlertKind::NewTag, "a:1")]);
    log.batch(3, &[Gone(1, "a:1")]);
    log.batch(4, &[Saw(1, "a:1", "y")]);
    let alerts = scene.news(&log);
    assert_eq!(brief(&alerts), [event(AlertKind::Retag, "a:1")]);
    assert_eq!(alerts[0].previous, [digest("x").to_string()]);
}

#[test]
fn past_entries_raise_no_alerts_but_present_conditions_do() {
    let mut log = Log::new();
    log.batch(1, &[Saw(1, "a:1", "x"), Saw(2, "a:1", "y"), Saw(3, "a:1", "x")]);
    log.batch(20 * HOUR, &[Saw(1, "a:1", "z"), Saw(3, "a:1", "z")]);
    let mut scene = Scene::new(EVERYTHING, log.size);
    let raised = |kind, subject: String| (kind, AlertState::Raised, subject);
    let want =
        [raised(AlertKind::SilentWitness, witness(2).to_string()), raised(AlertKind::Disagreement, "a:1".to_owned())];
    assert_eq!(brief(&scene.news(&log)), want);
    log.batch(21 * HOUR, &[Saw(1, "a:1", "x")]);
    let alerts = scene.news(&log);
    assert_eq!(brief(&alerts), [event(AlertKind::Retag, "a:1")]);
    assert_eq!(alerts[0].rollback, Some(true), "the past is remembered");
}

#[test]
fn a_lasting_disagreement_is_raised_and_ended() {
    let (mut log, mut scene) = (Log::new(), Scene::new(EVERYTHING, log_size_after_roster()));
    log.batch(1, &[Saw(1, "a:1", "x"), Saw(2, "a:1", "x"), Saw(3, "a:1", "x")]);
    log.batch(HOUR, &[Saw(3, "a:1", "y")]);
    log.batch(3 * HOUR, &[]);
    assert!(!brief(&scene.news(&log)).iter().any(|(kind, _, _)| *kind == AlertKind::Disagreement), "two hours exactly");
    log.batch(3 * HOUR + 1, &[]);
    let alerts = scene.news(&log);
    assert_eq!(brief(&alerts), [(AlertKind::Disagreement, AlertState::Raised, "a:1".to_owned())]);
    assert_eq!(alerts[0].minority, [witness(3).to_string()]);
    assert_eq!(alerts[0].words.len(), 3);
    assert_eq!(alerts[0].since, Some(at(HOUR).to_string()));
    log.batch(4 * HOUR, &[Saw(1, "a:1", "y")]);
    assert!(scene.news(&log).is_empty(), "it is one disagreement, and the retag was reported");
    log.batch(5 * HOUR, &[Saw(2, "a:1", "y")]);
    let ended = scene.news(&log);
    assert_eq!(brief(&ended), [(AlertKind::Disagreement, AlertState::Ended, "a:1".to_owned())]);
    assert_eq!(ended[0].about, alerts[0].about);
}

fn log_size_after_roster() -> u64 {
    Log::new().size
}

#[test]
fn leaving_the_roster_ends_silence_and_disagreement() {
    let (mut log, mut scene) = (Log::new(), Scene::new(EVERYTHING, 0));
    log.batch(1, &[Saw(1, "a:1", "x"), Saw(2, "a:1", "y")]);
    log.batch(11 * HOUR, &[Saw(1, "a:1", "x")]);
    let kinds = |alerts: &[Alert], state| {
        let kinds = alerts.iter().filter(|alert| alert.state == state).map(|alert| (alert.kind, alert.witness.clone()));
        kinds.collect::<Vec<_>>()
    };
    let gone = [2, 3].map(|number| (AlertKind::SilentWitness, Some(witness(number).to_string())));
    let raised = kinds(&scene.news(&log), AlertState::Raised);
    assert_eq!(raised, [gone[0].clone(), gone[1].clone(), (AlertKind::Disagreement, None)]);
    log.roster(12 * HOUR, &[1]);
    let ended = kinds(&scene.news(&log), AlertState::Ended);
    assert_eq!(ended, [gone[0].clone(), gone[1].clone(), (AlertKind::Disagreement, None)]);
}

#[test]
fn a_silent_witness_is_raised_and_ended() {
    let (mut log, mut scene) = (Log::new(), Scene::new(EVERYTHING, 0));
    log.batch(HOUR, &[Saw(1, "a:1", "x"), Saw(2, "a:1", "x"), Saw(3, "a:1", "x")]);
    log.batch(2 * HOUR, &[Confirms(1, "a")]);
    log.batch(11 * HOUR, &[Saw(3, "a:1", "x")]);
    assert_eq!(scene.news(&log).len(), 1, "a new tag, and ten hours are not over");
    log.batch(12 * HOUR, &[]);
    let alerts = scene.news(&log);
    assert_eq!(brief(&alerts), [(AlertKind::SilentWitness, AlertState::Raised, witness(2).to_string())]);
    assert_eq!(alerts[0].since, Some(at(HOUR).to_string()));
    log.batch(12 * HOUR + 1, &[Confirms(2, "a"), Confirms(1, "a")]);
    let ended = scene.news(&log);
    assert_eq!(brief(&ended), [(AlertKind::SilentWitness, AlertState::Ended, witness(2).to_string())]);
    assert_eq!(ended[0].about, alerts[0].about);
}

#[test]
fn only_watched_tags_and_counted_witnesses_raise_alerts() {
    let id = witness(1);
    let watch = format!(
        "witnesses = [\"{id}\"]\n[[watch]]\nrepository = \"r.example/a\"\nexclude = [\"latest\"]\nalerts = [\"retag\"]"
    );
    let (mut log, mut scene) = (Log::new(), Scene::new(&watch, 0));
    for (time, content) in [(1, "x"), (2, "y")] {
        log.batch(time, &[Saw(1, "a:1", content), Saw(1, "a:latest", content), Saw(1, "b:1", content)]);
    }
    log.batch(3, &[Saw(2, "a:1", "z"), Saw(2, "a:1", "x")]);
    assert_eq!(brief(&scene.news(&log)), [event(AlertKind::Retag, "a:1")]);
    log.batch(20 * HOUR, &[]);
    let silent = (AlertKind::SilentWitness, AlertState::Raised, id.to_string());
    assert_eq!(brief(&scene.news(&log)), [silent], "the others may be silent");
}

#[test]
fn a_newly_watched_tag_is_compared_with_its_records() {
    let (mut log, mut scene) = (Log::new(), Scene::new("[[watch]]\nrepository = \"r.example/b\"", 0));
    log.batch(1, &[Saw(1, "a:1", "x"), Saw(2, "a:1", "x"), Saw(1, "a:2", "x"), Saw(1, "a:3", "x"), Gone(1, "a:3")]);
    assert!(scene.news(&log).is_empty());
    scene.config = config(EVERYTHING);
    scene.start(Baseline { size: log.size, ..Baseline::default() });
    log.batch(2, &[Saw(1, "a:1", "x"), Saw(2, "a:1", "y"), Saw(1, "a:1", "y"), Saw(2, "a:2", "x")]);
    log.batch(3, &[Saw(1, "a:3", "z"), Saw(1, "a:4", "z"), Gone(1, "a:5"), Saw(1, "a:5", "x")]);
    let alerts = scene.news(&log);
    let want = [
        event(AlertKind::Retag, "a:1"),
        event(AlertKind::Retag, "a:3"),
        event(AlertKind::NewTag, "a:4"),
        event(AlertKind::NewTag, "a:5"),
    ];
    assert_eq!(brief(&alerts), want);
    assert_eq!(alerts[0].previous, [digest("x").to_string()]);
}

#[test]
fn a_new_alert_store_starts_at_the_size_of_its_auditor() {
    let mut log = Log::new();
    log.batch(1, &[Saw(1, "a:1", "x")]);
    let Entry::Roster(roster) = &log.reports[0].entries[0] else { panic!("no roster") };
    let mut scene = Scene { home: tempfile::tempdir().unwrap(), config: config(EVERYTHING), open: None, reported: 0 };
    scene.start(Baseline { size: log.size, time: Some(at(1)), roster: Some(roster) });
    let (store, _, tracker) = scene.open.as_mut().unwrap();
    tracker.set_past(store, log.size).unwrap();
    log.batch(11 * HOUR, &[Saw(1, "a:1", "y")]);
    let silent = |number| (AlertKind::SilentWitness, AlertState::Raised, witness(number).to_string());
    assert_eq!(brief(&scene.news(&log)), [event(AlertKind::Retag, "a:1"), silent(2), silent(3)]);
}

#[test]
fn an_auditor_ahead_of_the_alert_store_is_rejected() {
    let (mut log, mut scene) = (Log::new(), Scene::new(EVERYTHING, 0));
    scene.news(&log);
    log.batch(1, &[Saw(1, "a:1", "x")]);
    log.batch(2, &[Saw(1, "a:1", "y")]);
    let (store, _, tracker) = scene.open.as_mut().unwrap();
    let skipped = tracker.process(store, &log.reports[2..], &log.known(3));
    assert!(matches!(skipped, Err(TrackerError::Gap { audited: 4, tracked: 2 })), "{skipped:?}");
    scene.open = None;
    let (mut store, _) = AlertStore::open(scene.home.path(), &log_key(), &scene.config.sinks).unwrap();
    let baseline = Baseline { size: log.size, ..Baseline::default() };
    assert!(matches!(Tracker::open(&mut store, &scene.config, &log_key(), baseline), Err(TrackerError::Gap { .. })));
}

const TAGS: [&str; 3] = ["a:1", "a:2", "b:1"];
const CONTENTS: [&str; 3] = ["x", "y", "z"];

fn statement() -> impl Strategy<Value = Statement> {
    (1..=3_u8, 0..3_usize, 0..5_usize).prop_map(|(witness, tag, what)| match what {
        0..3 => Saw(witness, TAGS[tag], CONTENTS[what]),
        3 => Gone(witness, TAGS[tag]),
        _ => Confirms(witness, &TAGS[tag][..1]),
    })
}

/// A batch: how many hours after the one before, its statements, or else a new roster.
fn batches() -> impl Strategy<Value = Vec<BatchSpec>> {
    let roster = prop::option::weighted(0.1, prop::sample::subsequence(vec![1, 2, 3], 1..=3));
    prop::collection::vec((0..8_i64, prop::collection::vec(statement(), 0..6), roster), 1..25)
}

/// Seconds since the batch before, the statements, and the witnesses of a new roster.
type BatchSpec = (i64, Vec<Statement>, Option<Vec<u8>>);

fn history(batches: &[BatchSpec]) -> Log {
    let (mut log, mut time, mut admitted) = (Log::new(), 0, vec![1, 2, 3]);
    for (hours, statement, roster) in batches {
        time += hours * HOUR;
        match roster {
            Some(roster) => {
                admitted = roster.clone();
                log.roster(time, roster);
            }
            None => {
                let by = |statement: &Statement| match statement {
                    Saw(number, ..) | Gone(number, _) | Confirms(number, _) => *number,
                };
                let statement: Vec<Statement> =
                    statement.iter().filter(|statement| admitted.contains(&by(statement))).cloned().collect();
                log.batch(time, &statement);
            }
        }
    }
    log
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// The same log gives the same alerts, in groups of any size, and with crashes between any two of them: before the
    /// commit of the alert store, and between it and the auditor's commit.
    #[test]
    fn the_same_batches_give_the_same_alerts(
        batches in batches(),
        past in 0..3_usize,
        pieces in prop::collection::vec((1..6_usize, 0..4_u8), 30),
    ) {
        let log = history(&batches);
        let past = log.reports.get(past * 4).map_or(0, |report| report.first);
        let mut whole = Scene::new(EVERYTHING, past);
        for batch in 0..log.reports.len() {
            whole.take(&log, batch..batch + 1);
            whole.commit();
        }
        let mut pieced = Scene::new(EVERYTHING, past);
        pieced.commit();
        // Where the auditor's last commit was.
        let mut audited = 0;
        let mut from = 0;
        for (count, end) in pieces.iter().cycle() {
            let to = (from + count).min(log.reports.len());
            pieced.take(&log, from..to);
            from = to;
            if *end == 0 || to == log.reports.len() {
                pieced.commit();
                audited = to;
            }
            if *end == 1 {
                pieced.commit();
            }
            if *end == 1 || *end == 2 {
                let size = log.reports.get(audited).map_or(log.size, |report| report.first);
                pieced.start(Baseline { size, ..Baseline::default() });
                from = audited;
            }
            if audited == log.reports.len() {
                break;
            }
            // A crash at every piece would never come to an end.
            if *end == 2 {
                let to = (from + count).min(log.reports.len());
                pieced.take(&log, from..to);
                pieced.commit();
                (audited, from) = (to, to);
            }
        }
        let (whole, pieced) = (whole.all(), pieced.all());
        prop_assert_eq!(&whole, &pieced);
        let ids: HashSet<&String> = whole.iter().map(|alert| &alert.id).collect();
        prop_assert_eq!(ids.len(), whole.len());
    }
}
