//! The retagged tags of an audited log, each with its complete history in the form that a look-up reports: the input for the
//! evaluation by a policy.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
};

use taglog_proto::{
    name::WitnessId,
    record::Sighting,
    tag_proof::{ImageReport, Sighted, WitnessReport},
};

use super::{auditor::Auditor, error::AuditorError, index::Index, rows::StoredSighting};

/// The maximum number of sightings of one tag that are held in memory. The lists of a tag with more sightings are reported as
/// incomplete.
const MOST_SIGHTINGS: usize = 100_000;

/// The approximate number of sightings in one unit of work for a thread. Small in tests, so that they cross chunk borders.
const CHUNK: usize = if cfg!(test) { 3 } else { 10_000 };
/// More threads do not help, because a single thread reads from SQLite.
const MOST_THREADS: usize = 8;

/// The sightings of several tags, grouped by tag.
type Tags = Vec<Vec<StoredSighting>>;

/// Calls `evaluate` with the history of every retagged tag as of the last commit. Returns each result with the log index of
/// the retag, in no particular order. Runs on up to 8 threads and holds only a few tags in memory at a time.
pub fn retagged<T: Send>(
    auditor: &Auditor,
    evaluate: impl Fn(&ImageReport) -> T + Sync,
) -> Result<Vec<(u64, T)>, AuditorError> {
    let roster: BTreeSet<WitnessId> = auditor.roster().map(|(_, roster)| roster.ids().collect()).unwrap_or_default();
    let (index, threads) = (auditor.index(), thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS));
    let evaluated = |tag: &Vec<StoredSighting>| {
        let (at, report) = reported(index, &roster, tag)?;
        Some((at, evaluate(&report)))
    };
    let (sender, receiver) = mpsc::sync_channel::<Tags>(1);
    let receiver = Arc::new(Mutex::new(receiver));
    let work = &|receiver: Arc<Mutex<mpsc::Receiver<Tags>>>| -> Vec<(u64, T)> {
        let next = || receiver.lock().unwrap_or_else(PoisonError::into_inner).recv().ok();
        std::iter::from_fn(next).flat_map(|tags| tags.iter().filter_map(evaluated).collect::<Vec<_>>()).collect()
    };
    thread::scope(|scope| {
        let spawn = |_| {
            let receiver = Arc::clone(&receiver);
            thread::Builder::new().spawn_scoped(scope, move || work(receiver))
        };
        let workers: Vec<_> = (0..threads).map(spawn).collect::<Result<_, _>>().map_err(AuditorError::Thread)?;
        drop(receiver);
        let read = read_tags(auditor, |tags| {
            // Fails only if every worker has panicked; the panic is resumed below.
            let _ = sender.send(tags);
        });
        // The workers end when the sender is gone.
        drop(sender);
        let evaluated = workers.into_iter().flat_map(|worker| -> Vec<(u64, T)> {
            worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        let evaluated = evaluated.collect();
        read.map(|()| evaluated)
    })
}

/// Reads the sightings of all retagged tags and passes them to `hand_on` in chunks.
fn read_tags(auditor: &Auditor, mut hand_on: impl FnMut(Tags)) -> Result<(), AuditorError> {
    let (mut tags, mut count) = (Tags::new(), 0);
    auditor.each_retagged_sighting(|sighting| {
        let same = |tag: &&mut Vec<StoredSighting>| tag.first().is_some_and(|first| first.tag == sighting.tag);
        match tags.last_mut().filter(same) {
            Some(tag) if tag.len() >= MOST_SIGHTINGS => {}
            Some(tag) => tag.push(sighting),
            None => {
                if count >= CHUNK {
                    hand_on(std::mem::take(&mut tags));
                    count = 0;
                }
                tags.push(vec![sighting]);
            }
        }
        count += 1;
    })?;
    hand_on(tags);
    Ok(())
}

/// The report on one tag, from all of its sightings in log order, and the log index of the retag.
fn reported(index: &Index, roster: &BTreeSet<WitnessId>, sightings: &[StoredSighting]) -> Option<(u64, ImageReport)> {
    let state = index.tags.get(sightings.first()?.tag as usize)?;
    let (record, repository) = (index.record(state), index.repository(&index.repositories[state.repository as usize]));
    let confirmed = |witness: &WitnessId| repository.line(witness)?.confirmed;
    let mut lists: HashMap<&WitnessId, Vec<Sighted>> = HashMap::new();
    for StoredSighting { index: at, witness, observed, seen, .. } in sightings {
        let sighted = Sighted { sighting: Sighting { index: *at, seen: *seen }, observed: *observed };
        lists.entry(index.witnesses.get(*witness as usize)?).or_default().push(sighted);
    }
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
    let report = ImageReport { witnesses: witnesses.collect(), image: record.image.clone(), repository_covered: true };
    Some((state.retagged?, report))
}
