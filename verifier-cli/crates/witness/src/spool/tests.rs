use std::collections::BTreeMap;

use futures_util::future::join_all;
use taglog_proto::{
    entry::{Confirmation, Observation, Seen},
    note::SigningKey,
};
use taglog_state::OpenError;

use super::*;
use crate::decision::LastReport;

const LIMIT: u64 = 64 << 20;

fn key(name: &str) -> SigningKey {
    SigningKey::from_seed(name, &[name.len() as u8; 32]).unwrap()
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_unix(1_800_000_000 + second).unwrap()
}

fn image(tag: &str) -> Image {
    Image::parse(&format!("registry.example/team/app:{tag}")).unwrap()
}

fn digest(content: &str) -> Digest {
    Digest::sha256(content.as_bytes())
}

fn observation(tag: &str, content: &str, second: i64) -> Statement {
    let seen = Seen::Digest(digest(content));
    Statement::Observation(Observation::sign(image(tag), seen, at(second), &key("w.example/a")).unwrap())
}

fn confirmation(second: i64) -> Statement {
    let repository = image("x").repository;
    Statement::Confirmation(Confirmation::sign(repository, at(second), &key("w.example/a")).unwrap())
}

fn manifest(content: &str) -> RawManifest {
    RawManifest { digest: digest(content), bytes: content.as_bytes().to_vec() }
}

struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Home {
        Home(tempfile::tempdir().unwrap())
    }

    fn try_open(&self, logs: &[&str]) -> Result<(Spool, SpoolGuard, OpenedSpool), SpoolError> {
        let logs: Vec<VerifierKey> = logs.iter().map(|log| key(log).verifier_key().clone()).collect();
        Spool::open(self.0.path(), key("w.example/a").verifier_key(), &logs, LIMIT)
    }

    fn open(&self, logs: &[&str]) -> (Spool, SpoolGuard, OpenedSpool) {
        self.try_open(logs).unwrap()
    }

    fn file(&self) -> PathBuf {
        self.0.path().join(FILE)
    }
}

fn close(spool: Spool, guard: SpoolGuard) {
    drop(spool);
    guard.close();
}

async fn pending_tags(spool: &Spool, log: LogId) -> Vec<String> {
    let pending = spool.pending(log, 100).await.unwrap();
    pending.into_iter().map(|entry| entry.tag.unwrap_or_else(|| "(confirmation)".to_owned())).collect()
}

#[tokio::test]
async fn entries_stay_in_order_until_each_log_has_them() {
    let home = Home::new();
    let (spool, guard, opened) = home.open(&["log.example/a", "log.example/bb"]);
    let [first, second] = opened.logs[..] else { panic!() };
    spool.record(observation("1", "a", 0), Some(manifest("a"))).await.unwrap();
    spool.record(observation("2", "a", 1), Some(manifest("a"))).await.unwrap();
    spool.record(confirmation(2), None).await.unwrap();
    close(spool, guard);

    let (spool, guard, opened) = home.open(&["log.example/a", "log.example/bb"]);
    assert_eq!(opened.repositories[0].confirmed, Some(at(2)));
    let known: BTreeMap<String, Option<LastReport>> =
        opened.tags.iter().map(|row| (row.image.tag.to_string(), row.state.reported)).collect();
    assert_eq!(known["2"], Some(LastReport { seen: Seen::Digest(digest("a")), observed: at(1) }));
    assert_eq!(pending_tags(&spool, first).await, ["1", "2", "(confirmation)"]);

    let entries = spool.pending(first, 100).await.unwrap();
    let next = || async { spool.next_manifests(first, 10, 1000).await.unwrap() };
    assert!(next().await.is_empty(), "the log does not have the digest yet");
    spool.settle(first, vec![(entries[0].seq, Settlement::Delivered)], at(3)).await.unwrap();
    let manifests: Vec<Vec<u8>> = next().await.into_iter().map(|manifest| manifest.bytes).collect();
    assert_eq!(manifests, [b"a"]);
    spool.manifests_done(first, vec![digest("a")]).await.unwrap();
    assert!(next().await.is_empty());

    let settled =
        vec![(entries[1].seq, Settlement::Acknowledged(17)), (entries[2].seq, Settlement::Refused("x".into()))];
    spool.settle(first, settled, at(4)).await.unwrap();
    spool.settle(first, vec![(entries[1].seq, Settlement::Acknowledged(18))], at(5)).await.unwrap();
    let left = spool.pending(first, 100).await.unwrap();
    assert_eq!(left.iter().map(|entry| entry.acknowledged).collect::<Vec<_>>(), [Some((17, at(4)))], "the first stays");
    assert_eq!(pending_tags(&spool, second).await, ["1", "2", "(confirmation)"], "one log does not hold up another");
    let status = &spool.logs().await.unwrap()[0];
    assert_eq!((status.delivered, status.pending, status.refused), (1, 1, 1));
    close(spool, guard);
}

#[tokio::test]
async fn a_new_log_gets_every_tag_again_and_an_old_one_is_forgotten() {
    let home = Home::new();
    let (spool, guard, _) = home.open(&["log.example/a"]);
    spool.record(observation("1", "a", 0), Some(manifest("a"))).await.unwrap();
    close(spool, guard);
    let (spool, guard, opened) = home.open(&["log.example/bb"]);
    assert!(opened.tags[0].state.report_again && opened.tags[0].state.reported.is_some());
    assert_eq!(pending_tags(&spool, opened.logs[0]).await, [""; 0]);
    assert_eq!(spool.logs().await.unwrap().len(), 1);
    close(spool, guard);
    let (spool, guard, opened) = home.open(&["log.example/bb"]);
    assert!(opened.tags[0].state.report_again, "still owed");
    spool.record(observation("1", "a", 9), None).await.unwrap();
    close(spool, guard);
    assert!(!home.open(&["log.example/bb"]).2.tags[0].state.report_again);
}

#[tokio::test]
async fn what_is_remembered_lazily_is_on_disk_at_the_latest_when_the_spool_closes() {
    let home = Home::new();
    let (spool, guard, _) = home.open(&["log.example/a"]);
    spool.record(observation("1", "a", 0), None).await.unwrap();
    let reported = Some(LastReport { seen: Seen::Digest(digest("a")), observed: at(0) });
    let state =
        WatchedTagState { reported, polled: Some(at(0)), missing: 2, missing_at: Some(at(5)), report_again: false };
    spool.remember(image("1"), state, Some("no such host".to_owned()));
    spool.remember(image("2"), WatchedTagState::default(), Some("no such tag".to_owned()));
    spool.remember_list(image("1").repository, Some("no list".to_owned()));
    close(spool, guard);
    let snapshot = SpoolSnapshot::read(home.0.path()).unwrap();
    assert_eq!((snapshot.tags[0].state, snapshot.tags[0].error.as_deref()), (state, Some("no such host")));
    assert_eq!(snapshot.tags[1].error.as_deref(), Some("no such tag"));
    assert_eq!(snapshot.repositories[0].error.as_deref(), Some("no list"));
    // Errors are not restored.
    let (_, _, opened) = home.open(&["log.example/a"]);
    assert_eq!(opened.tags, [WatchedTagRow { image: image("1"), state, error: None }]);
    assert_eq!(opened.repositories[0].error, None);
}

#[tokio::test]
async fn one_agent_one_witness_one_version() {
    let home = Home::new();
    let (spool, guard, _) = home.open(&["log.example/a"]);
    assert!(matches!(home.try_open(&["log.example/a"]), Err(SpoolError::Open(error)) if error.is_in_use()));
    assert!(SpoolSnapshot::read(home.0.path()).unwrap().running);
    close(spool, guard);
    assert!(!SpoolSnapshot::read(home.0.path()).unwrap().running);
    let other = Spool::open(home.0.path(), key("other.example/b").verifier_key(), &[], LIMIT);
    assert!(matches!(other, Err(SpoolError::OtherWitness(_))));
    Connection::open(home.file()).unwrap().pragma_update(None, "user_version", 99).unwrap();
    assert!(matches!(home.try_open(&[]), Err(SpoolError::Open(OpenError::NewerVersion { version: 99, .. }))));
}

#[tokio::test]
async fn a_full_spool_refuses_whole_entries_and_goes_on_when_there_is_room() {
    let home = Home::new();
    let witness = key("w.example/a");
    let log = key("log.example/a").verifier_key().clone();
    // The smallest that there is.
    let (spool, guard, opened) = Spool::open(home.0.path(), witness.verifier_key(), &[log], 0).unwrap();
    let big = RawManifest { digest: digest("big"), bytes: vec![b'x'; 200_000] };
    spool.record(observation("big", "big", 0), Some(big)).await.unwrap();
    let mut kept = vec!["big".to_owned()];
    let full = loop {
        let number = kept.len();
        assert!(number < 2000, "the limit is none");
        match spool.record(observation(&format!("t{number}"), "a", 0), Some(manifest("a"))).await {
            Ok(()) => kept.push(format!("t{number}")),
            Err(error) => break error,
        }
    };
    assert!(matches!(full, SpoolError::Full), "{full}");
    assert!(kept.len() > 50, "a manifest never keeps entries out");
    let alarm = Alarm {
        subject: "spool".into(),
        kind: "spool".into(),
        message: "x".repeat(1000),
        evidence: None,
        first: at(0),
        last: at(0),
        count: 1,
    };
    spool.raise(alarm.clone()).await.unwrap();
    assert_eq!(SpoolSnapshot::read(home.0.path()).unwrap().alarms.len(), 1, "the alarm about the full spool is stored");
    // SQLite undoes a transaction for one that finds no room; no such one may take the alarm along.
    let others = (0..100).map(|number| spool.record(observation(&format!("o{number}"), "o", 0), None));
    let (raised, others) = tokio::join!(spool.raise(Alarm { subject: "other".into(), ..alarm }), join_all(others));
    assert!(others.iter().all(Result::is_err), "{others:?}");
    raised.expect("others that find no room take no alarm along");
    assert_eq!(SpoolSnapshot::read(home.0.path()).unwrap().alarms.len(), 2);
    let refused = spool.record(observation("more", "more", 0), None).await;
    assert!(matches!(refused, Err(SpoolError::Full)), "the limit holds still");
    let pending = spool.pending(opened.logs[0], 3000).await.unwrap();
    let tags: Vec<String> = pending.iter().filter_map(|entry| entry.tag.clone()).collect();
    assert_eq!(tags, kept, "what was refused left nothing behind");
    let acknowledged = pending.iter().map(|entry| (entry.seq, Settlement::Acknowledged(1 << 40))).collect();
    spool.settle(opened.logs[0], acknowledged, at(0)).await.expect("acknowledgements can always be stored");
    let delivered = pending.iter().map(|entry| (entry.seq, Settlement::Delivered)).collect();
    spool.settle(opened.logs[0], delivered, at(0)).await.unwrap();
    spool.record(observation("again", "x", 0), None).await.unwrap();
    close(spool, guard);
}

/// Whatever part of the file is destroyed, entries elsewhere in it are found again, and nothing is invented.
#[tokio::test]
async fn entries_survive_damage() {
    let home = Home::new();
    let (spool, guard, _) = home.open(&["log.example/a"]);
    for number in 0..200 {
        spool.record(observation(&format!("t{number}"), "a", number), None).await.unwrap();
    }
    close(spool, guard);
    let whole = std::fs::read(home.file()).unwrap();
    for (name, range) in [("header", 0..100), ("first page", 0..4096), ("middle", 40_000..44_096)] {
        let damaged = Home::new();
        let mut bytes = whole.clone();
        bytes[range].fill(0xa5);
        std::fs::write(damaged.file(), &bytes).unwrap();
        let (spool, guard, opened) = damaged.open(&["log.example/a"]);
        let aside = opened.recovered.unwrap_or_else(|| panic!("{name}: not noticed"));
        assert_eq!(std::fs::read(aside).unwrap(), bytes, "{name}: set aside as it was");
        assert!(!opened.complete, "{name}");
        let pending = spool.pending(opened.logs[0], 1000).await.unwrap();
        let seconds: Vec<i64> = pending
            .iter()
            .map(|entry| match taglog_proto::entry::Entry::parse(entry.note.as_bytes()).unwrap() {
                taglog_proto::entry::Entry::Observation(entry) => entry.observed.unix(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert!(opened.tags.len() >= 180, "{name}: {} of 200 tags", opened.tags.len());
        // A page of 4 KiB holds about a dozen entries.
        assert!(seconds.len() >= 180 && seconds.is_sorted(), "{name}: {} of 200", seconds.len());
        assert!(opened.tags.iter().all(|row| row.state.report_again), "{name}");
        close(spool, guard);
        let (_, _, opened) = damaged.open(&["log.example/a"]);
        assert!(opened.recovered.is_none() && !opened.complete, "{name}: once is enough, and is remembered");
    }
}

#[tokio::test]
async fn alarms_are_counted_and_sent_once() {
    let home = Home::new();
    let (spool, guard, _) = home.open(&["log.example/a"]);
    let alarm = |message: &str, second, evidence: Option<&str>| Alarm {
        subject: "log.example/a".to_owned(),
        kind: "misbehaviour".to_owned(),
        message: message.to_owned(),
        evidence: evidence.map(str::to_owned),
        first: at(second),
        last: at(second),
        count: 1,
    };
    spool.raise(alarm("first", 0, Some("file"))).await.unwrap();
    spool.raise(alarm("second", 5, None)).await.unwrap();
    let unsent = spool.unsent_alarms().await.unwrap();
    assert_eq!(unsent, [Alarm { first: at(0), count: 2, ..alarm("second", 5, Some("file")) }]);
    spool.alarm_sent("log.example/a".into(), "misbehaviour".into()).await.unwrap();
    assert_eq!(spool.unsent_alarms().await.unwrap(), []);
    assert_eq!(SpoolSnapshot::read(home.0.path()).unwrap().alarms.len(), 1);
    spool.clear("log.example/a".into(), "misbehaviour".into()).await.unwrap();
    assert_eq!(SpoolSnapshot::read(home.0.path()).unwrap().alarms, []);
    close(spool, guard);
}

/// Wherever a recovery is interrupted, the next start has everything that was in the damaged file.
#[tokio::test]
async fn an_interrupted_recovery_is_repeated() {
    let home = Home::new();
    let (spool, guard, _) = home.open(&["log.example/a"]);
    for number in 0..50 {
        spool.record(observation(&format!("t{number}"), "a", number), None).await.unwrap();
    }
    close(spool, guard);
    let mut damaged = std::fs::read(home.file()).unwrap();
    damaged[..100].fill(0xa5);
    let beside = |home: &Home, suffix: &str| PathBuf::from(format!("{}{suffix}", home.file().display()));
    let recovered = {
        let home = Home::new();
        std::fs::write(home.file(), &damaged).unwrap();
        let (spool, guard, _) = home.open(&["log.example/a"]);
        close(spool, guard);
        std::fs::read(home.file()).unwrap()
    };
    for (name, files) in [
        ("half made", vec![("", damaged.clone()), (".salvaging", b"half".to_vec())]),
        ("made", vec![("", damaged.clone()), (".salvaged", recovered.clone())]),
        ("set aside", vec![(".damaged-1", damaged.clone()), (".salvaged", recovered.clone())]),
        ("the second time", vec![("", damaged.clone()), (".damaged-1-wal", b"old".to_vec())]),
    ] {
        let home = Home::new();
        for (suffix, bytes) in files {
            std::fs::write(beside(&home, suffix), bytes).unwrap();
        }
        let (spool, guard, opened) = home.open(&["log.example/a"]);
        assert_eq!(spool.pending(opened.logs[0], 1000).await.unwrap().len(), 50, "{name}");
        assert!(opened.recovered.is_some(), "{name}");
        if name == "the second time" {
            assert_eq!(std::fs::read(beside(&home, ".damaged-1-wal")).unwrap(), b"old", "nothing is overwritten");
        }
        close(spool, guard);
    }
}

#[tokio::test]
async fn an_unreadable_value_counts_as_damage() {
    let home = Home::new();
    let (spool, guard, _) = home.open(&["log.example/a"]);
    spool.record(observation("1", "a", 0), None).await.unwrap();
    close(spool, guard);
    Connection::open(home.file()).unwrap().execute("UPDATE tag SET seen = 'sha256:xyz'", []).unwrap();
    let (spool, guard, opened) = home.open(&["log.example/a"]);
    assert!(opened.recovered.is_some());
    assert_eq!(pending_tags(&spool, opened.logs[0]).await, ["1"]);
    close(spool, guard);
}

/// Where a log has refused an observation for good, a confirmation would vouch for what was seen before.
#[tokio::test]
async fn a_log_that_refused_an_observation_gets_no_confirmation() {
    let home = Home::new();
    let (spool, guard, opened) = home.open(&["log.example/a", "log.example/bb"]);
    let [first, second] = opened.logs[..] else { panic!() };
    spool.record(observation("1", "a", 0), Some(manifest("a"))).await.unwrap();
    spool.record(confirmation(1), None).await.unwrap();
    let refused = spool.pending(first, 10).await.unwrap()[0].seq;
    spool.settle(first, vec![(refused, Settlement::Refused("too old".into()))], at(2)).await.unwrap();
    spool.record(confirmation(3), None).await.unwrap();
    assert_eq!(pending_tags(&spool, first).await, [""; 0]);
    assert_eq!(pending_tags(&spool, second).await, ["1", "(confirmation)"]);
    let status = &spool.logs().await.unwrap()[0];
    assert_eq!(status.refusals, [(image("1").to_string(), "too old".to_owned())]);
    // Once the log has something newer about the tag, it is as good as any other.
    spool.record(observation("1", "b", 4), None).await.unwrap();
    let newer = spool.pending(first, 10).await.unwrap()[0].seq;
    spool.settle(first, vec![(newer, Settlement::Delivered)], at(5)).await.unwrap();
    assert_eq!(spool.logs().await.unwrap()[0].refused, 0);
    spool.record(confirmation(6), None).await.unwrap();
    assert_eq!(pending_tags(&spool, first).await, ["(confirmation)"]);
    close(spool, guard);
}

#[tokio::test]
async fn the_long_queue_of_one_tag_does_not_delay_others() {
    let home = Home::new();
    let (spool, guard, opened) = home.open(&["log.example/a"]);
    for number in 0..20 {
        spool.record(observation("busy", &number.to_string(), number), None).await.unwrap();
    }
    spool.record(observation("calm", "a", 30), None).await.unwrap();
    let tags: Vec<Option<String>> =
        spool.pending(opened.logs[0], 2).await.unwrap().into_iter().map(|entry| entry.tag).collect();
    assert_eq!(tags, [Some("busy".to_owned()), Some("calm".to_owned())]);
    close(spool, guard);
}
