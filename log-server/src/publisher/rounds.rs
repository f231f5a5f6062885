//! The task that gets cosignatures and publishes.
//!
//! It goes in rounds. A round takes the newest commit as the candidate, and every endpoint is asked
//! for it, each on a task of its own, so that one that hangs holds up nobody else. As soon as the
//! quorum is there, the candidate is published and the next round may begin; cosignatures that come
//! later are added to what is published. While a round is under way the candidate stays: a new one
//! with every commit would never be cosigned by a quorum that takes longer than a batch. What is
//! committed meanwhile is covered by the next round. When everyone has answered and the quorum is not
//! there, the candidate is given up for the newest commit.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use taglog_proto::{checkpoint::SignedCheckpoint, policy::TrustPolicy};
use thiserror::Error;
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

use super::{
    Publishing,
    endpoint::{Conflict, CosignError, Cosignature, Cosigner, Endpoint},
    publish,
    status::{CosignerStatus, Statuses},
};
use crate::{
    snapshot::Snapshot,
    store::{Store, StoreError},
};

/// How long after the beginning of a round without a quorum the next one may begin.
const RETRY: Duration = Duration::from_secs(1);

/// Why publishing stopped for good.
#[derive(Debug, Error)]
pub enum PublishError {
    /// A cosigner contradicts the log.
    #[error("cosigner {cosigner}: {conflict}")]
    Conflict {
        /// Its name in the policy.
        cosigner: String,
        /// What it says.
        conflict: Conflict,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What the endpoints are asked for: a checkpoint in a round.
#[derive(Clone)]
struct Question {
    round: u64,
    checkpoint: SignedCheckpoint,
}

/// What became of a question.
pub struct Report {
    round: u64,
    endpoint: usize,
    size: u64,
    outcome: Result<Vec<Cosignature>, CosignError>,
}

impl Report {
    /// What an endpoint answered before the first round, when it was asked for `size` entries.
    pub fn first(endpoint: usize, size: u64, outcome: Result<Vec<Cosignature>, CosignError>) -> Report {
        Report { round: 0, endpoint, size, outcome }
    }
}

/// A commit and the latest cosignature by each cosigner.
struct Candidate {
    snapshot: Arc<Snapshot>,
    cosignatures: BTreeMap<usize, Cosignature>,
}

impl Candidate {
    fn new(snapshot: Arc<Snapshot>) -> Candidate {
        Candidate { snapshot, cosignatures: BTreeMap::new() }
    }

    fn add(&mut self, cosignatures: Vec<Cosignature>) {
        self.cosignatures.extend(cosignatures.into_iter().map(|cosignature| (cosignature.cosigner, cosignature)));
    }

    /// With the cosignatures, in the order of the policy.
    fn checkpoint(&self) -> SignedCheckpoint {
        self.snapshot.checkpoint.with_signatures(self.cosignatures.values().map(|cosignature| cosignature.line.clone()))
    }
}

/// The state of the task.
pub struct Rounds {
    store: Store,
    policy: TrustPolicy,
    interval: Duration,
    committed: watch::Receiver<u64>,
    publishing: Publishing,
    statuses: watch::Sender<Vec<CosignerStatus>>,
    /// Which cosigners are behind each endpoint.
    behind: Vec<Vec<Cosigner>>,
    candidate: Option<Candidate>,
    published: Option<Candidate>,
    round: u64,
    begun: Instant,
    /// The endpoints that have not answered in this round.
    waiting: BTreeSet<usize>,
}

impl Rounds {
    /// Rounds that have not begun. While nothing is committed, cosigners are asked again every
    /// `interval`.
    pub fn new(
        store: Store,
        policy: TrustPolicy,
        interval: Duration,
        committed: watch::Receiver<u64>,
        publishing: Publishing,
    ) -> (Rounds, Statuses) {
        let status = |cosigner: &taglog_proto::policy::PolicyCosigner| {
            CosignerStatus::new(cosigner.name.clone(), cosigner.key.to_string())
        };
        let (statuses, statuses_receiver) = watch::channel(policy.cosigners().iter().map(status).collect());
        let rounds = Rounds {
            store,
            policy,
            interval,
            committed,
            publishing,
            statuses,
            behind: Vec::new(),
            candidate: None,
            published: None,
            round: 0,
            begun: Instant::now(),
            waiting: BTreeSet::new(),
        };
        (rounds, statuses_receiver)
    }

    /// Publishes the last commit if what the endpoints answered before the first round is a quorum.
    ///
    /// # Errors
    /// [`PublishError`].
    pub fn begin_with(&mut self, endpoints: &[Endpoint], reports: Vec<Report>) -> Result<(), PublishError> {
        self.behind = endpoints.iter().map(|endpoint| endpoint.cosigners().to_vec()).collect();
        self.take_newest()?;
        self.publish_if_quorate();
        reports.into_iter().try_for_each(|report| self.take(report))
    }

    /// Runs until the sequencer is gone.
    ///
    /// # Errors
    /// [`PublishError`]: the server must end.
    pub async fn run(mut self, endpoints: Vec<Endpoint>) -> Result<(), PublishError> {
        let (questions, _) = watch::channel(None);
        let (answers, mut reports) = mpsc::channel(endpoints.len().max(1));
        for (number, endpoint) in endpoints.into_iter().enumerate() {
            tokio::spawn(keep_asking(number, endpoint, questions.subscribe(), answers.clone()));
        }
        loop {
            let due = self.due();
            tokio::select! {
                report = reports.recv() => match report {
                    Some(report) => self.take(report)?,
                    None => return Ok(()),
                },
                () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    if let Some(question) = self.begin()? {
                        questions.send_replace(Some(question));
                    }
                }
                // Whether a round is due may have changed.
                changed = self.committed.changed(), if due.is_some() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// When the next round begins; `None` while one is under way.
    fn due(&self) -> Option<Instant> {
        match &self.candidate {
            Some(_) if !self.waiting.is_empty() => None,
            Some(_) => Some(self.begun + RETRY),
            None if *self.committed.borrow() > self.published_size() => Some(self.begun),
            None => Some(self.begun + self.interval),
        }
    }

    fn published_size(&self) -> u64 {
        self.published.as_ref().map_or(0, |published| published.snapshot.size())
    }

    /// Begins a round: for the newest commit, or while nothing new is committed, for what is
    /// published, so that the times of its cosignatures stay fresh. `None` while the log is empty.
    fn begin(&mut self) -> Result<Option<Question>, StoreError> {
        self.take_newest()?;
        self.begun = Instant::now();
        self.publish_if_quorate();
        let Some(asked) = self.candidate.as_ref().or(self.published.as_ref()) else { return Ok(None) };
        self.round += 1;
        self.waiting = (0..self.behind.len()).collect();
        Ok(Some(Question { round: self.round, checkpoint: asked.snapshot.checkpoint.clone() }))
    }

    /// Makes the newest commit the candidate, unless it is or is published already.
    fn take_newest(&mut self) -> Result<(), StoreError> {
        let known = self.candidate.as_ref().or(self.published.as_ref()).map(|known| Arc::clone(&known.snapshot));
        let Some(newest) = Snapshot::read(self.store.view(), known.as_deref())? else { return Ok(()) };
        if known.is_none_or(|known| known.size() < newest.size()) {
            self.candidate = Some(Candidate::new(Arc::new(newest)));
        }
        Ok(())
    }

    /// Takes an answer: notes it, adds what it brings, publishes what it completes.
    fn take(&mut self, report: Report) -> Result<(), PublishError> {
        if report.round == self.round {
            self.waiting.remove(&report.endpoint);
        }
        match report.outcome {
            Ok(cosignatures) => {
                self.note_answer(report.endpoint, &cosignatures);
                self.add(report.size, cosignatures);
            }
            Err(CosignError::Conflict(conflict)) => {
                let names: Vec<&str> = self.behind[report.endpoint].iter().map(|c| c.name.as_str()).collect();
                return Err(PublishError::Conflict { cosigner: names.join(", "), conflict });
            }
            Err(CosignError::Store(error)) => return Err(error.into()),
            Err(error) => self.note_failure(report.endpoint, &error.to_string()),
        }
        Ok(())
    }

    fn add(&mut self, size: u64, cosignatures: Vec<Cosignature>) {
        let of_size = |candidate: &&mut Candidate| candidate.snapshot.size() == size;
        if let Some(candidate) = self.candidate.as_mut().filter(of_size) {
            candidate.add(cosignatures);
            self.publish_if_quorate();
        } else if let Some(published) = self.published.as_mut().filter(of_size) {
            published.add(cosignatures);
            publish(&self.publishing, published.checkpoint(), Arc::clone(&published.snapshot));
        }
    }

    /// With `quorum none` that is as soon as there is a candidate.
    fn publish_if_quorate(&mut self) {
        let Some(candidate) = &self.candidate else { return };
        let checkpoint = candidate.checkpoint();
        if self.policy.evaluate(&checkpoint).is_ok() {
            publish(&self.publishing, checkpoint, Arc::clone(&candidate.snapshot));
            self.published = self.candidate.take();
        }
    }

    fn note_answer(&self, endpoint: usize, cosignatures: &[Cosignature]) {
        self.statuses.send_modify(|statuses| {
            for Cosigner { index, .. } in &self.behind[endpoint] {
                match cosignatures.iter().find(|cosignature| cosignature.cosigner == *index) {
                    Some(cosignature) => statuses[*index].has_cosigned(cosignature.time),
                    None => statuses[*index].has_failed("its endpoint does not sign with this key".to_owned()),
                }
            }
        });
    }

    fn note_failure(&self, endpoint: usize, problem: &str) {
        self.statuses.send_modify(|statuses| {
            self.behind[endpoint].iter().for_each(|cosigner| statuses[cosigner.index].has_failed(problem.to_owned()));
        });
    }
}

/// Asks one endpoint the latest question, again and again; those that came while it was busy are
/// left out.
async fn keep_asking(
    number: usize,
    mut endpoint: Endpoint,
    mut questions: watch::Receiver<Option<Question>>,
    answers: mpsc::Sender<Report>,
) {
    while questions.changed().await.is_ok() {
        let Some(Question { round, checkpoint }) = questions.borrow_and_update().clone() else { continue };
        let outcome = endpoint.cosign(&checkpoint).await;
        let report = Report { round, endpoint: number, size: checkpoint.unverified().size, outcome };
        if answers.send(report).await.is_err() {
            return;
        }
    }
}
