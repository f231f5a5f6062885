//! The task that collects cosignatures and publishes.
//!
//! It works in rounds. A round takes the newest commit as the candidate and requests cosignatures from every endpoint,
//! each in a task of its own, so that a slow endpoint does not delay the others. As soon as the quorum has cosigned,
//! the candidate is published and the next round may start; later cosignatures are added to the published checkpoint.
//! The candidate does not change during a round: with a new candidate for every commit, a quorum that takes longer than
//! a batch would never be reached. The next round covers what is committed meanwhile. When all endpoints have answered
//! without a quorum, the newest commit replaces the candidate.

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
    PublicationSender,
    endpoint::{Conflict, CosignError, Endpoint, EndpointCosigner, VerifiedCosignature},
    publish,
    status::{CosignerStatus, Statuses},
};
use crate::{
    snapshot::Snapshot,
    store::{Store, StoreError},
};

/// The shortest time between the starts of two rounds if the first has no quorum.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Why publishing stopped for good.
#[derive(Debug, Error)]
pub enum PublishError {
    /// `cosigner` is its name in the policy.
    #[error("cosigner {cosigner}: {conflict}")]
    Conflict { cosigner: String, conflict: Conflict },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The checkpoint to cosign in a round.
#[derive(Clone)]
struct CosignRequest {
    round: u64,
    checkpoint: SignedCheckpoint,
}

/// The reply of an endpoint to the request for cosignatures of a checkpoint of `size` entries.
pub struct EndpointReply {
    round: u64,
    /// The position of the endpoint.
    endpoint: usize,
    size: u64,
    outcome: Result<Vec<VerifiedCosignature>, CosignError>,
}

impl EndpointReply {
    /// A reply from before the first round.
    pub fn before_first_round(
        endpoint: usize,
        size: u64,
        outcome: Result<Vec<VerifiedCosignature>, CosignError>,
    ) -> EndpointReply {
        EndpointReply { round: 0, endpoint, size, outcome }
    }
}

/// A commit and the latest cosignature by each cosigner.
struct Candidate {
    snapshot: Arc<Snapshot>,
    cosignatures: BTreeMap<usize, VerifiedCosignature>,
}

impl Candidate {
    fn new(snapshot: Arc<Snapshot>) -> Candidate {
        Candidate { snapshot, cosignatures: BTreeMap::new() }
    }

    fn add(&mut self, cosignatures: Vec<VerifiedCosignature>) {
        self.cosignatures.extend(cosignatures.into_iter().map(|cosignature| (cosignature.cosigner, cosignature)));
    }

    /// The checkpoint with the cosignatures, in the order of the policy.
    fn checkpoint(&self) -> SignedCheckpoint {
        self.snapshot.checkpoint.with_signatures(self.cosignatures.values().map(|cosignature| cosignature.line.clone()))
    }
}

/// The task, between two rounds or within one.
pub struct CosigningTask {
    store: Store,
    policy: TrustPolicy,
    interval: Duration,
    committed: watch::Receiver<u64>,
    publishing: PublicationSender,
    statuses: watch::Sender<Vec<CosignerStatus>>,
    /// The cosigners of each endpoint.
    endpoint_cosigners: Vec<Vec<EndpointCosigner>>,
    candidate: Option<Candidate>,
    published: Option<Candidate>,
    round: u64,
    round_started: Instant,
    /// The endpoints that have not answered in this round.
    pending: BTreeSet<usize>,
}

impl CosigningTask {
    /// While nothing new is committed, new cosignatures are requested every `interval`.
    pub fn new(
        store: Store,
        policy: TrustPolicy,
        interval: Duration,
        committed: watch::Receiver<u64>,
        publishing: PublicationSender,
    ) -> (CosigningTask, Statuses) {
        let status = |cosigner: &taglog_proto::policy::PolicyCosigner| {
            CosignerStatus::new(cosigner.name.clone(), cosigner.key.to_string())
        };
        let (statuses, statuses_receiver) = watch::channel(policy.cosigners().iter().map(status).collect());
        let task = CosigningTask {
            store,
            policy,
            interval,
            committed,
            publishing,
            statuses,
            endpoint_cosigners: Vec::new(),
            candidate: None,
            published: None,
            round: 0,
            round_started: Instant::now(),
            pending: BTreeSet::new(),
        };
        (task, statuses_receiver)
    }

    /// Publishes the last commit if the replies from before the first round are a quorum.
    pub fn start_with(&mut self, endpoints: &[Endpoint], replies: Vec<EndpointReply>) -> Result<(), PublishError> {
        self.endpoint_cosigners = endpoints.iter().map(|endpoint| endpoint.cosigners().to_vec()).collect();
        self.update_candidate()?;
        self.publish_if_quorum();
        replies.into_iter().try_for_each(|reply| self.process_reply(reply))
    }

    /// Runs until the sequencer has ended.
    ///
    /// # Errors
    /// The server must end.
    pub async fn run(mut self, endpoints: Vec<Endpoint>) -> Result<(), PublishError> {
        let (requests, _) = watch::channel(None);
        let (reply_sender, mut replies) = mpsc::channel(endpoints.len().max(1));
        for (number, endpoint) in endpoints.into_iter().enumerate() {
            tokio::spawn(serve_endpoint(number, endpoint, requests.subscribe(), reply_sender.clone()));
        }
        loop {
            let due = self.next_round_at();
            tokio::select! {
                reply = replies.recv() => match reply {
                    Some(reply) => self.process_reply(reply)?,
                    None => return Ok(()),
                },
                () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    if let Some(request) = self.start_round()? {
                        requests.send_replace(Some(request));
                    }
                }
                // A commit may make a round due.
                changed = self.committed.changed(), if due.is_some() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// When the next round starts; `None` during a round.
    fn next_round_at(&self) -> Option<Instant> {
        match &self.candidate {
            Some(_) if !self.pending.is_empty() => None,
            Some(_) => Some(self.round_started + RETRY_INTERVAL),
            None if *self.committed.borrow() > self.published_size() => Some(self.round_started),
            None => Some(self.round_started + self.interval),
        }
    }

    fn published_size(&self) -> u64 {
        self.published.as_ref().map_or(0, |published| published.snapshot.size())
    }

    /// Starts a round for the newest commit, or, if nothing new is committed, for the published checkpoint, so that the
    /// times of its cosignatures stay fresh. `None` while the log is empty.
    fn start_round(&mut self) -> Result<Option<CosignRequest>, StoreError> {
        self.update_candidate()?;
        self.round_started = Instant::now();
        self.publish_if_quorum();
        let Some(current) = self.candidate.as_ref().or(self.published.as_ref()) else { return Ok(None) };
        self.round += 1;
        self.pending = (0..self.endpoint_cosigners.len()).collect();
        Ok(Some(CosignRequest { round: self.round, checkpoint: current.snapshot.checkpoint.clone() }))
    }

    /// Makes the newest commit the candidate, unless it is the candidate or published already.
    fn update_candidate(&mut self) -> Result<(), StoreError> {
        let current = self.candidate.as_ref().or(self.published.as_ref());
        let current = current.map(|current| Arc::clone(&current.snapshot));
        let Some(newest) = Snapshot::read(self.store.view(), current.as_deref())? else { return Ok(()) };
        if current.is_none_or(|current| current.size() < newest.size()) {
            self.candidate = Some(Candidate::new(Arc::new(newest)));
        }
        Ok(())
    }

    /// Records a reply, adds its cosignatures, and publishes the candidate if they complete the quorum.
    fn process_reply(&mut self, reply: EndpointReply) -> Result<(), PublishError> {
        if reply.round == self.round {
            self.pending.remove(&reply.endpoint);
        }
        match reply.outcome {
            Ok(cosignatures) => {
                self.record_success(reply.endpoint, &cosignatures);
                self.add(reply.size, cosignatures);
            }
            Err(CosignError::Conflict(conflict)) => {
                let names: Vec<&str> =
                    self.endpoint_cosigners[reply.endpoint].iter().map(|c| c.name.as_str()).collect();
                return Err(PublishError::Conflict { cosigner: names.join(", "), conflict });
            }
            Err(CosignError::Store(error)) => return Err(error.into()),
            Err(error) => self.record_failure(reply.endpoint, &error.to_string()),
        }
        Ok(())
    }

    fn add(&mut self, size: u64, cosignatures: Vec<VerifiedCosignature>) {
        let of_size = |candidate: &&mut Candidate| candidate.snapshot.size() == size;
        if let Some(candidate) = self.candidate.as_mut().filter(of_size) {
            candidate.add(cosignatures);
            self.publish_if_quorum();
        } else if let Some(published) = self.published.as_mut().filter(of_size) {
            published.add(cosignatures);
            publish(&self.publishing, published.checkpoint(), Arc::clone(&published.snapshot));
        }
    }

    /// With `quorum none` every candidate is published at once.
    fn publish_if_quorum(&mut self) {
        let Some(candidate) = &self.candidate else { return };
        let checkpoint = candidate.checkpoint();
        if self.policy.evaluate(&checkpoint).is_ok() {
            publish(&self.publishing, checkpoint, Arc::clone(&candidate.snapshot));
            self.published = self.candidate.take();
        }
    }

    fn record_success(&self, endpoint: usize, cosignatures: &[VerifiedCosignature]) {
        self.statuses.send_modify(|statuses| {
            for EndpointCosigner { index, .. } in &self.endpoint_cosigners[endpoint] {
                match cosignatures.iter().find(|cosignature| cosignature.cosigner == *index) {
                    Some(cosignature) => statuses[*index].record_cosignature(cosignature.time),
                    None => statuses[*index].record_failure("its response has no cosignature by this key".to_owned()),
                }
            }
        });
    }

    fn record_failure(&self, endpoint: usize, problem: &str) {
        self.statuses.send_modify(|statuses| {
            self.endpoint_cosigners[endpoint]
                .iter()
                .for_each(|cosigner| statuses[cosigner.index].record_failure(problem.to_owned()));
        });
    }
}

/// Sends the latest request to one endpoint, again and again. Requests that were replaced while the endpoint was busy
/// are skipped.
async fn serve_endpoint(
    number: usize,
    mut endpoint: Endpoint,
    mut requests: watch::Receiver<Option<CosignRequest>>,
    replies: mpsc::Sender<EndpointReply>,
) {
    while requests.changed().await.is_ok() {
        let Some(CosignRequest { round, checkpoint }) = requests.borrow_and_update().clone() else { continue };
        let outcome = endpoint.cosign(&checkpoint).await;
        let reply = EndpointReply { round, endpoint: number, size: checkpoint.unverified().size, outcome };
        if replies.send(reply).await.is_err() {
            return;
        }
    }
}
