//! What cosigners cosign and what they refuse: plain ones only check that the log is append-only, auditing ones
//! everything.

use std::{path::PathBuf, process::Command};

use taglog_proto::cosignature::{Algorithm, CosignerSigningKey};
use taglog_tests::{
    DishonestLog, Process, Witness, binary,
    dishonest::{
        Attack, History, Lie, Withholding,
        attack::{self, APP, OTHER},
        cosigner_client::CosignerAnswer,
    },
    process::TIMEOUT,
    witness::now,
};
use tempfile::TempDir;

use super::{proves_misbehaviour, user_trusting};
use taglog_tests::cli_fixture::{User, other_digest, pinned};

/// `taglog cosign serve` in a home of its own.
struct CosignServe {
    // First, so that the process is gone before its directory is.
    _process: Process,
    url: String,
    vkey: String,
    home: TempDir,
}

impl CosignServe {
    fn start(log: &DishonestLog, audit: bool) -> CosignServe {
        let home = tempfile::tempdir().unwrap();
        let key = CosignerSigningKey::from_seed("cosigner.example/a", Algorithm::Ed25519, &[5; 32]).unwrap();
        let write = |name: &str, content: String| std::fs::write(home.path().join(name), content).unwrap();
        write("cosigner.key", format!("{}\n", key.to_secret_string()));
        let (vkey, url) = (log.vkey(), &log.url);
        let keys = format!("key = [\"cosigner.key\"]\nstate = \"state\"\nlisten = \"127.0.0.1:0\"\naudit = {audit}\n");
        write("cosigner.toml", format!("{keys}[[log]]\nvkey = [\"{vkey}\"]\nurl = \"{url}\"\n"));
        let mut command = Command::new(binary("taglog"));
        command.env_clear().env("HOME", home.path()).current_dir(home.path());
        let process = Process::spawn(command.args(["cosign", "serve", "--config", "cosigner.toml"]));
        let line = process.line(TIMEOUT).unwrap_or_else(|| panic!("it does not start: {}", process.stderr()));
        let (_, url) = line.rsplit_once(" at ").unwrap_or_else(|| panic!("announced {line:?}"));
        CosignServe { url: url.to_owned(), vkey: key.key().to_string(), _process: process, home }
    }

    /// A user who trusts only what this cosigner has cosigned.
    fn user(&self, log: &DishonestLog) -> User {
        let user = User::new();
        let (vkey, url) = (log.vkey(), &log.url);
        user.write("trust", format!("log {vkey} {url}\nwitness cosigner {}\nquorum cosigner\n", self.vkey));
        user
    }

    fn evidence(&self) -> Vec<PathBuf> {
        let files = std::fs::read_dir(self.home.path().join("state/evidence")).into_iter().flatten();
        files.map(|file| file.unwrap().path()).collect()
    }
}

/// A log whose cosigner has cosigned all that there is.
fn cosigned(audit: bool) -> (DishonestLog, CosignServe) {
    let log = attack::begun();
    let cosigner = CosignServe::start(&log, audit);
    log.set_cosigners(std::slice::from_ref(&cosigner.url));
    is_cosigned(&log);
    (log, cosigner)
}

fn ask(log: &DishonestLog) -> CosignerAnswer {
    log.publish().pop().unwrap()
}

fn is_cosigned(log: &DishonestLog) {
    let asked = ask(log);
    assert_eq!(asked.status, 200, "{asked:?}");
    assert!(asked.cosignatures().contains("cosigner.example/a"), "{asked:?}");
    assert_eq!(log.checkpoint().note().signatures.len(), 2, "the log's signature, and the cosigner's");
}

/// Nothing is cosigned, now or later; the kept evidence is of one of these kinds and proves misbehaviour.
fn is_not_cosigned(log: &DishonestLog, cosigner: &CosignServe, statuses: &[u16], kinds: &[&str]) {
    for _ in 0..2 {
        let asked = ask(log);
        assert!(statuses.contains(&asked.status), "{asked:?}");
        assert_eq!((asked.cosignatures(), log.checkpoint().note().signatures.len()), ("", 1));
    }
    for file in &cosigner.evidence() {
        let text = std::fs::read_to_string(file).unwrap();
        let kind = kinds.iter().find(|kind| text.contains(&format!("/{kind}@v1")));
        proves_misbehaviour(log, file, kind.unwrap_or_else(|| panic!("none of {kinds:?}: {text}")));
    }
}

/// The auditing cosigner refuses for ever, so that a user who requires it is shown nothing false; the plain one has no
/// reason to refuse.
fn only_an_auditing_cosigner_refuses(attack: Attack, kinds: &[&str]) {
    let (log, cosigner) = cosigned(true);
    let user = cosigner.user(&log);
    user.run(&["verify", &pinned(APP, "a")]).exits(0);
    let remembered = user.remembered();
    attack.commit(&log);
    is_not_cosigned(&log, &cosigner, &[422], kinds);
    assert_eq!(cosigner.evidence().is_empty(), kinds.is_empty(), "evidence is kept: {attack:?}");
    log.add(&[Witness::new(1).observe(OTHER, "more", now() - 100)]);
    is_not_cosigned(&log, &cosigner, &[422], kinds);
    let ran = user.run(&["verify", &pinned(APP, "a")]);
    assert!(matches!(ran.code, 3 | 4), "what is not cosigned was believed: {ran:?}");
    assert_eq!(user.remembered(), remembered, "the remembered checkpoint moved");

    let (log, cosigner) = cosigned(false);
    attack.commit(&log);
    is_cosigned(&log);
    assert!(cosigner.evidence().is_empty());
}

/// Both refuse what is no continuation.
fn every_cosigner_refuses(commit: impl Fn(&DishonestLog), statuses: &[u16]) -> Vec<(DishonestLog, CosignServe)> {
    let refused = |audit| {
        let (log, cosigner) = cosigned(audit);
        commit(&log);
        is_not_cosigned(&log, &cosigner, statuses, &["fork"]);
        (log, cosigner)
    };
    [false, true].map(refused).into()
}

#[test]
fn an_honest_log_is_cosigned_as_it_grows() {
    for audit in [false, true] {
        let (log, cosigner) = cosigned(audit);
        for i in 0..5 {
            log.add(&[Witness::new(1).observe(APP, &format!("content {i}"), now() - 100 + i)]);
            assert_eq!(log.checkpoint().note().signatures.len(), 2, "each one is cosigned before it is published");
        }
        is_cosigned(&log);
        assert!(cosigner.evidence().is_empty());
    }
}

#[test]
fn omits_a_sighting_from_the_index() {
    only_an_auditing_cosigner_refuses(Attack::OmitsASightingFromTheIndex, &["false-seal"]);
}

#[test]
fn omits_a_sighting_from_a_list() {
    only_an_auditing_cosigner_refuses(Attack::OmitsASightingFromAList, &["false-seal"]);
}

#[test]
fn cites_an_entry_falsely() {
    only_an_auditing_cosigner_refuses(Attack::CitesAnEntryFalsely, &["false-seal"]);
}

#[test]
fn forges_an_index_root() {
    only_an_auditing_cosigner_refuses(Attack::ForgesAnIndexRoot, &["false-seal"]);
}

#[test]
fn replays_an_old_seal() {
    only_an_auditing_cosigner_refuses(Attack::ReplaysAnOldSeal, &["false-seal", "no-seal"]);
}

#[test]
fn signs_without_a_seal() {
    only_an_auditing_cosigner_refuses(Attack::SignsWithoutASeal, &["no-seal"]);
}

#[test]
fn breaks_the_order_of_a_witness() {
    only_an_auditing_cosigner_refuses(Attack::BreaksTheOrderOfAWitness, &["false-seal"]);
}

#[test]
fn back_dates_an_observation() {
    only_an_auditing_cosigner_refuses(Attack::BackDatesAnObservation, &["false-seal"]);
}

#[test]
fn seals_before_the_last_seal() {
    only_an_auditing_cosigner_refuses(Attack::SealsBeforeTheLastSeal, &["false-seal"]);
}

#[test]
fn logs_a_malformed_entry() {
    only_an_auditing_cosigner_refuses(Attack::LogsAMalformedEntry, &["false-seal"]);
}

#[test]
fn admits_an_unknown_witness() {
    only_an_auditing_cosigner_refuses(Attack::AdmitsAnUnknownWitness, &["false-entry"]);
}

#[test]
fn forges_a_signature() {
    only_an_auditing_cosigner_refuses(Attack::ForgesASignature, &["false-entry"]);
}

#[test]
fn reorders_published_entries() {
    for (_log, cosigner) in every_cosigner_refuses(|log| Attack::ReordersPublishedEntries.commit(log), &[422]) {
        assert!(!cosigner.evidence().is_empty(), "two roots for one size prove misbehaviour");
    }
}

/// Smaller than what was cosigned: a conflict, and no evidence, because the smaller tree may be a prefix.
#[test]
fn rolls_back() {
    for (_log, cosigner) in every_cosigner_refuses(|log| Attack::RollsBack.commit(log), &[409]) {
        assert!(cosigner.evidence().is_empty());
    }
}

#[test]
fn equivocates() {
    for audit in [false, true] {
        let (log, cosigner) = cosigned(audit);
        let twin = log.twin();
        twin.set_cosigners(std::slice::from_ref(&cosigner.url));
        log.add(&[Witness::new(1).observe(OTHER, "a", now() - 500)]);
        twin.add(&[Witness::new(1).observe(OTHER, "b", now() - 500)]);
        is_not_cosigned(&twin, &cosigner, &[422], &["fork"]);
        assert!(!cosigner.evidence().is_empty(), "two roots for one size prove misbehaviour");
        // A user who has seen nothing before, and is shown the second view, is shown nothing false.
        let newcomer = cosigner.user(&twin);
        newcomer.run(&["verify", &pinned(OTHER, "b")]).exits(3).prints(&["not trusted"]);
        assert!(newcomer.remembered().is_empty());
    }
}

/// A cosigner's clock bounds the log's.
#[test]
fn seals_in_the_future() {
    let (log, cosigner) = cosigned(false);
    Attack::SealsInTheFuture.commit(&log);
    is_cosigned(&log);
    let user = cosigner.user(&log);
    user.run(&["verify", &pinned(APP, "a")]).exits(3).prints(&["the log's seal is dated", "not trusted"]);
}

/// A receipt that was given in secret was never cosigned.
#[test]
fn withholds_an_entry_with_a_receipt() {
    let (log, cosigner) = cosigned(false);
    let user = cosigner.user(&log);
    user.use_key(&Witness::new(1));
    log.withhold(Some(Withholding::GivesReceipt));
    let digest = other_digest().to_string();
    user.run(&["observe", "--digest", &digest, OTHER]).exits(3).prints(&["not trusted"]);
}

/// As long as nothing newer is shown to cosigners, the old checkpoint is the newest that there is, and their
/// cosignatures are recent. Missing seals are detected all the same, and missing entries by their witnesses.
#[test]
fn freezes() {
    let (one, two) = (Witness::new(1), Witness::new(2));
    let hours = |hours: i64| now() - hours * 3600;
    let mut history = History::begun_at(&[&one, &two], hours(5));
    history.close(&[one.observe(APP, "a", hours(5))], Some(&Lie::SealsAt(hours(2))));
    let log = DishonestLog::with(history);
    let cosigner = CosignServe::start(&log, false);
    log.set_cosigners(std::slice::from_ref(&cosigner.url));
    log.freeze();
    log.force(&[one.observe(APP, "b", now())]);
    is_cosigned(&log);
    let user = cosigner.user(&log);
    user.run(&["verify", &pinned(APP, "a")]).exits(1).prints(&["stale", "sealed nothing since", "cosigned by"]);
    assert_eq!(user.verdict(&["--max-age", "3h", &pinned(APP, "a")]), "ok", "whoever asks for less gets less");
    user_trusting(&log).run(&["verify", &pinned(APP, "a")]).exits(1).prints(&["stale"]);
}
