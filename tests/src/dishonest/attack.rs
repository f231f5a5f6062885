//! The attacks, with the names that `verifier-cli/docs/ATTACKS.md` lists them under. Each is committed on a log of
//! [`begun`], so that every tool is tested against the same attack.

use taglog_proto::entry::{Entry, Seen};

use super::{DishonestLog, Lie};
use crate::witness::{Witness, digest, now};

/// The image that the attacks are about.
pub const APP: &str = "registry.example/team/app:1.0";
/// An image that was not reported before an attack.
pub const OTHER: &str = "registry.example/team/other:1.0";

/// A log that two witnesses, numbers 1 and 2, have honestly reported [`APP`] to, with content `a`.
pub fn begun() -> DishonestLog {
    let (one, two) = (Witness::new(1), Witness::new(2));
    let log = DishonestLog::start(&[&one, &two]);
    log.add(&[one.observe(APP, "a", now() - 1000), two.observe(APP, "a", now() - 1000)]);
    log
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attack {
    /// A new content of [`APP`] is logged, and the tag index never learns of it.
    OmitsASightingFromTheIndex,
    /// [`APP`] had another content for a while; the list of sightings does not say so.
    OmitsASightingFromAList,
    /// A new content of [`APP`] is logged, and the tag index says that it was the old one.
    CitesAnEntryFalsely,
    /// A seal has an index root that nothing leads to.
    ForgesAnIndexRoot,
    /// A batch ends in a copy of an earlier seal.
    ReplaysAnOldSeal,
    /// A checkpoint is signed that does not end in a seal.
    SignsWithoutASeal,
    /// A witness's observation is logged after a later one of the same tag.
    BreaksTheOrderOfAWitness,
    /// Two published entries change places.
    ReordersPublishedEntries,
    /// A published batch is taken back, and the log goes on without it.
    RollsBack,
    /// An observation is logged that is older than the roster allows.
    BackDatesAnObservation,
    /// A seal is dated before the one before it.
    SealsBeforeTheLastSeal,
    /// A seal is dated ten years ahead.
    SealsInTheFuture,
    /// An observation of [`OTHER`] by a witness who is not in the roster is logged.
    AdmitsAnUnknownWitness,
    /// An observation of [`OTHER`] with a false signature is logged.
    ForgesASignature,
    /// An entry is logged whose encoding is malformed.
    LogsAMalformedEntry,
}

impl Attack {
    /// Commits it, on a log of [`begun`].
    pub fn commit(self, log: &DishonestLog) {
        let (one, two, now) = (Witness::new(1), Witness::new(2), now());
        let later = one.observe(APP, "a", now - 500);
        let moved = two.observe(APP, "b", now - 500);
        match self {
            Attack::OmitsASightingFromTheIndex => drop(log.lie(&Lie::Omits(0), &[moved])),
            Attack::OmitsASightingFromAList => {
                log.lie(&Lie::Omits(0), &[moved]);
                log.add(&[two.observe(APP, "a", now - 400)]);
            }
            Attack::CitesAnEntryFalsely => drop(log.lie(&Lie::Cites(0, Seen::Digest(digest("a"))), &[moved])),
            Attack::ForgesAnIndexRoot => drop(log.lie(&Lie::ForgesRoot, &[later])),
            Attack::ReplaysAnOldSeal => drop(log.lie(&Lie::ReplaysSeal, &[later])),
            Attack::SignsWithoutASeal => drop(log.lie(&Lie::EndsWithoutSeal, &[later])),
            Attack::BreaksTheOrderOfAWitness => {
                log.add(&[two.observe(APP, "b", now - 500)]);
                log.force(&[two.observe(APP, "a", now - 600)]);
            }
            Attack::ReordersPublishedEntries => {
                log.rewrite(|entries| {
                    // Both witnesses' first observations: the roster is 0, the first seal 1.
                    entries.swap(2, 3);
                });
                log.add(&[later]);
            }
            Attack::RollsBack => {
                log.roll_back(1);
                log.add(&[one.observe(OTHER, "instead", now - 500)]);
            }
            Attack::BackDatesAnObservation => drop(log.force(&[one.observe(OTHER, "a", now - 7_776_000 - 3600)])),
            Attack::SealsBeforeTheLastSeal => drop(log.lie(&Lie::SealsAt(now - 60), &[later])),
            Attack::SealsInTheFuture => drop(log.lie(&Lie::SealsAt(now + 10 * 365 * 86_400), &[later])),
            Attack::AdmitsAnUnknownWitness => drop(log.force(&[Witness::new(9).observe(OTHER, "a", now - 500)])),
            Attack::ForgesASignature => drop(log.force(&[forged(&one.observe(OTHER, "a", now - 500))])),
            Attack::LogsAMalformedEntry => {
                let text = String::from_utf8(one.observe(OTHER, "a", now - 500)).unwrap();
                log.force(&[text.replace("digest sha256", "digest  sha256").into_bytes()]);
            }
        }
    }
}

/// The same observation with a signature that is not its witness's.
fn forged(note: &[u8]) -> Vec<u8> {
    let Ok(Entry::Observation(mut observation)) = Entry::parse(note) else { panic!("no observation") };
    observation.signature.bytes[40] ^= 1;
    observation.to_string().into_bytes()
}
