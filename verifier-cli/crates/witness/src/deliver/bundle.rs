//! Chooses the entries of a bundle.

use std::collections::HashSet;

use taglog_proto::{entry::Entry, note::VerifierKey};

use crate::spool::PendingEntry;

/// Chooses at most `most` entries, in order, no two of which depend on each other's order.
///
/// A log may accept one entry of a bundle and refuse another temporarily. If the refused one were the earlier of two for one
/// tag, it would be out of order from then on (SPEC.md section 3.5). So an entry waits while an earlier one for its tag, or
/// a confirmation of its repository, is undelivered; a confirmation waits for all earlier entries of its repository.
pub(super) fn choose(waiting: Vec<PendingEntry>, most: usize) -> Vec<PendingEntry> {
    let mut tags: HashSet<(String, String)> = HashSet::new();
    let mut repositories: HashSet<String> = HashSet::new();
    let mut confirmed: HashSet<String> = HashSet::new();
    let mut chosen = Vec::new();
    for entry in waiting {
        if chosen.len() == most {
            break;
        }
        let repository = entry.repository.clone();
        let (waits, first) = match &entry.tag {
            Some(tag) => {
                let first = tags.insert((repository.clone(), tag.clone()));
                (confirmed.contains(&repository), first)
            }
            None => (repositories.contains(&repository), confirmed.insert(repository.clone())),
        };
        repositories.insert(repository);
        if first && !waits {
            chosen.push(entry);
        }
    }
    chosen
}

/// Whether an entry still has a valid signature of the witness.
pub(super) fn is_intact(entry: &PendingEntry, witness: &VerifierKey) -> bool {
    match Entry::parse(entry.note.as_bytes()) {
        Ok(Entry::Observation(observation)) => observation.verify(witness).is_ok(),
        Ok(Entry::Confirmation(confirmation)) => confirmation.verify(witness).is_ok(),
        _ => false,
    }
}

/// A name for an entry in messages.
pub(super) fn subject(entry: &PendingEntry) -> String {
    match &entry.tag {
        Some(tag) => format!("the observation of {}:{tag}", entry.repository),
        None => format!("the confirmation of {}", entry.repository),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(seq: i64, repository: u8, tag: Option<u8>) -> PendingEntry {
        PendingEntry {
            seq,
            repository: format!("r{repository}"),
            tag: tag.map(|tag| format!("t{tag}")),
            note: String::new(),
            acknowledged: None,
        }
    }

    /// Whether the order of two entries matters to a log.
    fn depend(one: &PendingEntry, other: &PendingEntry) -> bool {
        one.repository == other.repository && (one.tag == other.tag || one.tag.is_none() || other.tag.is_none())
    }

    proptest! {
        #[test]
        fn order_is_kept_and_every_entry_is_chosen_eventually(kinds in prop::collection::vec((0_u8..3, prop::option::of(0_u8..3)), 0..40), most in 1_usize..10) {
            let mut waiting: Vec<PendingEntry> =
                kinds.iter().zip(0..).map(|((repository, tag), seq)| entry(seq, *repository, *tag)).collect();
            let mut rounds = 0;
            while !waiting.is_empty() {
                let chosen = choose(waiting.clone(), most);
                prop_assert!(!chosen.is_empty() && chosen.len() <= most);
                for one in &chosen {
                    let earlier = waiting.iter().filter(|other| other.seq < one.seq);
                    prop_assert!(!earlier.clone().any(|other| depend(one, other)), "{one:?} overtakes");
                }
                waiting.retain(|entry| !chosen.contains(entry));
                rounds += 1;
            }
            prop_assert!(rounds <= kinds.len());
        }
    }

    #[test]
    fn independent_entries_share_a_bundle() {
        let waiting = vec![
            entry(0, 0, Some(0)),
            entry(1, 0, Some(1)),
            entry(2, 1, None),
            entry(3, 0, Some(0)),
            entry(4, 2, Some(0)),
        ];
        let chosen: Vec<i64> = choose(waiting, 10).iter().map(|entry| entry.seq).collect();
        assert_eq!(chosen, [0, 1, 2, 4]);
    }
}
