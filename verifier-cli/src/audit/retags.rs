//! The retagged tags of a log that was audited, each with all that witnesses have said of it, as a look-up would report
//! it: what a policy judges.

use std::collections::{BTreeSet, HashMap};

use taglog_proto::{
    index::RecordReader as _,
    name::WitnessId,
    record::Sighting,
    tag_proof::{ImageReport, Sighted, WitnessReport},
};

use super::{
    auditor::{Auditor, AuditorError},
    store::StoredSighting,
};

/// The most sightings of one tag that are held in memory. The lists of a tag that has more are reported as incomplete.
const MOST_SIGHTINGS: usize = 100_000;

/// Tells `hear` of every retagged tag, as of the last commit: the log index of its retag, and its history. One tag at a
/// time is in memory, so there may be any number of them.
///
/// # Errors
/// [`AuditorError`] when the state cannot be read.
pub fn retagged(auditor: &Auditor, mut hear: impl FnMut(u64, ImageReport)) -> Result<(), AuditorError> {
    let roster: BTreeSet<WitnessId> = auditor.roster().map(|(_, roster)| roster.ids().collect()).unwrap_or_default();
    let mut tag: Vec<StoredSighting> = Vec::new();
    let mut close = |tag: &mut Vec<StoredSighting>| {
        if let Some((index, report)) = reported(auditor, &roster, tag) {
            hear(index, report);
        }
        tag.clear();
    };
    auditor.each_retagged_sighting(|sighting| {
        if tag.first().is_some_and(|first| first.tag != sighting.tag) {
            close(&mut tag);
        }
        if tag.len() < MOST_SIGHTINGS {
            tag.push(sighting);
        }
    })?;
    close(&mut tag);
    Ok(())
}

/// What all these sightings of one tag, in log order, are the history of.
fn reported(
    auditor: &Auditor,
    roster: &BTreeSet<WitnessId>,
    sightings: &[StoredSighting],
) -> Option<(u64, ImageReport)> {
    let index = auditor.index();
    let state = index.tags.get(sightings.first()?.tag as usize)?;
    let image = index.image(state);
    let (Ok(record), Ok(repository)) = (index.tag_record(&image), index.repository_record(&image.repository));
    let confirmed = |witness: &WitnessId| repository.as_ref()?.line(witness)?.confirmed;
    let mut lists: HashMap<&WitnessId, Vec<Sighted>> = HashMap::new();
    for StoredSighting { index: at, witness, observed, seen, .. } in sightings {
        let sighted = Sighted { sighting: Sighting { index: *at, seen: *seen }, observed: *observed };
        lists.entry(index.witnesses.get(*witness as usize)?).or_default().push(sighted);
    }
    let record = record?;
    let witnesses = record.lines().iter().map(|line| {
        let sightings = lists.remove(&line.witness).unwrap_or_default();
        WitnessReport {
            complete: sightings.len() as u64 == line.sightings,
            start: 0,
            sightings,
            confirmed: confirmed(&line.witness),
            in_roster: roster.contains(&line.witness),
            line: line.clone(),
        }
    });
    let report = ImageReport { witnesses: witnesses.collect(), image, repository_covered: true };
    Some((state.retagged?, report))
}
