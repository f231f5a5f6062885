//! What `verify`, `history` and `observe` detect by themselves, for a user who has verified the log before the attack.

use std::path::{Path, PathBuf};

use taglog_proto::{
    entry::{Limits, Roster},
    evidence::Evidence,
};
use taglog_tests::{
    DishonestLog, Witness,
    dishonest::{
        Attack, History,
        attack::{APP, OTHER},
    },
    witness::{now, time},
};

use super::DishonestLogFixture;
use taglog_tests::cli_fixture::{User, other_digest, pinned};

impl DishonestLogFixture {
    /// The user has verified the log, and then it lies.
    fn after(attack: Attack) -> DishonestLogFixture {
        let fixture = DishonestLogFixture::new();
        assert_eq!(fixture.user.verdict(&[&pinned(APP, "a")]), "ok");
        attack.commit(&fixture.log);
        fixture
    }

    /// Every command that looks the image up says that the log misbehaves; the user's memory does not move. Returns
    /// what `verify` kept.
    fn is_detected(&self, image: &str) -> PathBuf {
        let remembered = self.user.remembered();
        let caught = self.user.run(&["verify", &pinned(image, "a")]).exits(4).prints(&["misbehaved", "kept in"]);
        let kept = self.user.evidence().into_iter().find(|path| caught.stderr.contains(path.to_str().unwrap()));
        self.user.run(&["history", image]).exits(4).has_empty_stdout().prints(&["THE LOG MISBEHAVES"]);
        self.user.run(&["verify", "--print-digest", &pinned(image, "a")]).exits(4).has_empty_stdout();
        assert_eq!(self.user.remembered(), remembered, "the remembered checkpoint moved");
        kept.unwrap_or_else(|| panic!("the file is not named: {caught:?}"))
    }

    /// The kept evidence is of this kind and proves misbehaviour by itself.
    fn proves_misbehaviour(&self, kept: &Path, kind: &str) {
        let bytes = std::fs::read(kept).unwrap();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        assert!(text.contains(kind), "not {kind}: {text}");
        Evidence::from_json(&bytes).unwrap().proves_misbehaviour(self.log.vkey()).unwrap();
    }

    /// Verifiers cannot see it: it is for auditors, or for an auditing cosigner in the quorum.
    fn is_not_noticed(&self) {
        assert_eq!(self.user.verdict(&[&pinned(APP, "a")]), "ok");
        assert!(self.user.evidence().is_empty());
    }
}

#[test]
fn omits_a_sighting_from_the_index() {
    DishonestLogFixture::after(Attack::OmitsASightingFromTheIndex).is_not_noticed();
}

#[test]
fn omits_a_sighting_from_a_list() {
    DishonestLogFixture::after(Attack::OmitsASightingFromAList).is_not_noticed();
}

#[test]
fn cites_an_entry_falsely() {
    DishonestLogFixture::after(Attack::CitesAnEntryFalsely).is_detected(APP);
}

#[test]
fn forges_an_index_root() {
    DishonestLogFixture::after(Attack::ForgesAnIndexRoot).is_detected(APP);
}

#[test]
fn replays_an_old_seal() {
    DishonestLogFixture::after(Attack::ReplaysAnOldSeal).is_detected(APP);
}

#[test]
fn signs_without_a_seal() {
    DishonestLogFixture::after(Attack::SignsWithoutASeal).is_detected(APP);
}

#[test]
fn breaks_the_order_of_a_witness() {
    DishonestLogFixture::after(Attack::BreaksTheOrderOfAWitness).is_detected(APP);
}

#[test]
fn reorders_published_entries() {
    DishonestLogFixture::after(Attack::ReordersPublishedEntries).is_detected(APP);
}

#[test]
fn rolls_back() {
    let fixture = DishonestLogFixture::new();
    let one = Witness::new(1);
    fixture.log.add(&[one.observe(APP, "a", now() - 600)]);
    assert_eq!(fixture.user.verdict(&[&pinned(APP, "a")]), "ok");
    fixture.log.roll_back(1);
    fixture.is_detected(APP);
    // Once it has the same size again, it is another history, and two checkpoints of one size prove misbehaviour.
    fixture.log.add(&[one.observe(OTHER, "instead", now() - 500)]);
    let kept = fixture.is_detected(APP);
    fixture.proves_misbehaviour(&kept, "taglog/evidence/fork@v1");
    fixture.log.add(&[one.observe(OTHER, "instead", now() - 400)]);
    fixture.is_detected(APP);
}

#[test]
fn equivocates() {
    let fixture = DishonestLogFixture::new();
    let twin = fixture.log.twin();
    let one = Witness::new(1);
    fixture.log.add(&[one.observe(APP, "a", now() - 500)]);
    twin.add(&[one.observe(OTHER, "a", now() - 500)]);
    assert_eq!(fixture.user.verdict(&[&pinned(APP, "a")]), "ok");
    // A user who has only ever seen the other view cannot detect it: this is what cosigners are for.
    let newcomer = User::new();
    newcomer.trust(twin.vkey(), &twin.url);
    assert_eq!(newcomer.verdict(&[&pinned(APP, "a")]), "ok");

    fixture.user.trust(twin.vkey(), &twin.url);
    let kept = fixture.is_detected(APP);
    fixture.proves_misbehaviour(&kept, "taglog/evidence/fork@v1");
    let observe = ["observe", "--digest", &other_digest().to_string(), APP].map(str::to_owned);
    let observe: Vec<&str> = observe.iter().map(String::as_str).collect();
    fixture.user.run(&observe).exits(4).prints(&["THE LOG MISBEHAVES"]);
}

#[test]
fn back_dates_an_observation() {
    DishonestLogFixture::after(Attack::BackDatesAnObservation).is_not_noticed();
}

#[test]
fn seals_before_the_last_seal() {
    DishonestLogFixture::after(Attack::SealsBeforeTheLastSeal).is_not_noticed();
}

#[test]
fn logs_a_malformed_entry() {
    DishonestLogFixture::after(Attack::LogsAMalformedEntry).is_not_noticed();
}

/// A date that is not yet is as useless as one that is long past: freshness would count from it for ever.
#[test]
fn seals_in_the_future() {
    let fixture = DishonestLogFixture::after(Attack::SealsInTheFuture);
    assert_eq!(fixture.user.verdict(&[&pinned(APP, "a")]), "stale");
    fixture.user.run(&["verify", &pinned(APP, "a")]).exits(1).prints(&["in the future"]);
}

#[test]
fn forges_a_signature() {
    DishonestLogFixture::after(Attack::ForgesASignature).is_detected(OTHER);
}

/// The signature of a witness who is not in the roster is unchecked: a verifier has no key for it.
#[test]
fn admits_an_unknown_witness() {
    let fixture = DishonestLogFixture::after(Attack::AdmitsAnUnknownWitness);
    let stranger = Witness::new(9).id().to_string();
    for more in [&[][..], &["--witness", &stranger], &["--moving", "1.0"]] {
        let ran = fixture.user.run(&[&["verify", &pinned(OTHER, "a")], more].concat());
        assert!(ran.code != 0, "the word of a witness outside the roster counted: {ran:?}");
    }
}

/// The log removes a witness from the roster, and forges its observations.
#[test]
fn forges_an_observation_of_a_removed_witness() {
    let fixture = DishonestLogFixture::new();
    let (one, two) = (Witness::new(1), Witness::new(2));
    let limits = Limits { future: 300, past: 7_776_000, quiet: 600 };
    let roster = Roster::new(time(now()), limits, vec![two.vkey().clone()]).unwrap();
    let mut forged = String::from_utf8(one.observe(OTHER, "a", now())).unwrap();
    let signature = forged.rfind(' ').unwrap() + 20;
    let other = if forged.as_bytes()[signature] == b'A' { "B" } else { "A" };
    forged.replace_range(signature..=signature, other);
    fixture.log.force(&[roster.to_string().into_bytes(), forged.into_bytes()]);
    let id = one.id().to_string();
    let ran = fixture.user.run(&["verify", "--witness", &id, &pinned(OTHER, "a")]);
    assert!(ran.code != 0, "a signature that nobody has checked counted: {ran:?}");
}

/// Without new seals, the last one grows old.
#[test]
fn freezes() {
    let (one, two) = (Witness::new(1), Witness::new(2));
    let hours = |hours: i64| now() - hours * 3600;
    let mut history = History::begun_at(&[&one, &two], hours(5));
    let observed = [one.observe(APP, "a", hours(5)), two.observe(APP, "a", hours(5))];
    history.close(&observed, Some(&taglog_tests::dishonest::Lie::SealsAt(hours(2))));
    let log = DishonestLog::with(history);
    log.freeze();
    log.force(&[one.observe(APP, "b", now())]);
    let user = User::new();
    user.trust(log.vkey(), &log.url);
    assert_eq!(user.verdict(&[&pinned(APP, "a")]), "stale");
    user.run(&["verify", &pinned(APP, "a")]).exits(1).prints(&["may be frozen"]);
    assert_eq!(user.verdict(&["--max-age", "3h", &pinned(APP, "a")]), "ok", "whoever asks for less gets less");
    user.use_key(&one);
    let observe = ["observe", "--digest", &other_digest().to_string(), APP].map(str::to_owned);
    let observe: Vec<&str> = observe.iter().map(String::as_str).collect();
    user.run(&observe).exits(3).prints(&["not-published"]);
    log.thaw();
    assert_eq!(user.verdict(&[&pinned(APP, "a")]), "retagged");
}
