//! Protection against an old backup: before the log seals anything, it asks every cosigner whether it has cosigned a
//! longer or another history of this log.
//!
//! Only cosigners remember what is missing from a restored backup. A cosigner that has cosigned more entries than the
//! store has, or rejects the store's checkpoint as inconsistent, stops the server for good. A cosigner that does not
//! answer stops it unless the operator exempts it by name. The exemption covers only a missing answer: a conflict from
//! an exempt cosigner still stops the server.

use std::time::{Duration, Instant};

use taglog_proto::{note::VerifierKey, time::Timestamp};
use thiserror::Error;
use tokio::task::JoinSet;

use crate::{
    publisher::{
        cosigning_task::EndpointReply,
        endpoint::{Conflict, CosignError, Endpoint, VerifiedCosignature},
    },
    snapshot::Snapshot,
};

/// How long the start waits for cosigners that answer that they are busy: an auditing cosigner first reads the entries
/// that it has not audited.
const BUSY_TIMEOUT: Duration = Duration::from_secs(60);
/// The time between two attempts, unless the cosigner asks for another.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);

/// What the operator has to do about a conflict.
pub const REMEDY: &str = "\
The log has signed more entries, or other entries, than this data directory holds. Continuing from here would fork the
log, and everyone could prove that. So the server stops, and does not start again on this data directory.
What to do:
  1. Delete nothing, and keep this data directory as it is.
  2. If a newer copy of the data directory exists (on another disk, machine or backup), stop any server that runs on it,
     and start the server from the newest copy.
  3. If the newer data is lost for good, this log cannot continue under its name: create a new log with a new origin
     ('taglog-server init'), and tell everyone who trusts the old one.
  4. If you are certain that the cosigner is wrong, contact its operator. Without the cosigner in the policy file the
     server starts without asking it, but everyone who relies on that cosigner will reject this log.";

/// Why the server may not start.
#[derive(Debug, Error)]
pub enum RollbackError {
    /// `cosigner` is its name in the policy.
    #[error("cosigner {cosigner} contradicts this log: {conflict}.\n{REMEDY}")]
    Conflict { cosigner: String, conflict: Conflict },
    /// The names of cosigners that do not answer, and why.
    #[error(
        "the log does not start, because there is no answer from these cosigners:\n{}\
         Only cosigners can tell whether this data directory is the newest one. Start them, or correct their URLs in \
         the policy file. If a cosigner is unreachable for long, and you are certain that this data directory is the \
         newest, start with {}.",
        .0.iter().map(|(name, why)| format!("  {name}: {why}\n")).collect::<String>(),
        .0.iter().map(|(name, _)| format!("--without-cosigner {}", name.replace(", ", " --without-cosigner "))).collect::<Vec<_>>().join(" ")
    )]
    Unanswered(Vec<(String, String)>),
    #[error("--without-cosigner {0}: the policy file has no cosigner of that name")]
    UnknownCosigner(String),
}

/// The result of a check in which no cosigner contradicts the log.
pub struct RollbackCheck {
    /// The endpoints, with the sizes that they have cosigned.
    pub endpoints: Vec<Endpoint>,
    pub replies: Vec<EndpointReply>,
    /// The time of the newest cosignature.
    pub newest: Option<Timestamp>,
}

/// Requests cosignatures of the last commit from all endpoints at once. An endpoint may fail to answer if all its
/// cosigners are `exempt`. `timeout` is how long unreachable endpoints are retried.
pub async fn check(
    endpoints: Vec<Endpoint>,
    last: Option<&Snapshot>,
    log: &VerifierKey,
    exempt: &[String],
    timeout: Duration,
) -> Result<RollbackCheck, RollbackError> {
    check_exempt_names(&endpoints, exempt)?;
    let Some(last) = last else {
        check_new_log(&endpoints, log).await?;
        return Ok(RollbackCheck { endpoints, replies: Vec::new(), newest: None });
    };
    let mut requests = JoinSet::new();
    for (number, endpoint) in endpoints.into_iter().enumerate() {
        let is_exempt = endpoint.cosigners().iter().all(|cosigner| exempt.contains(&cosigner.name));
        let limits =
            if is_exempt { RetryLimits::NONE } else { RetryLimits { unavailable: timeout, busy: BUSY_TIMEOUT } };
        let checkpoint = last.checkpoint.clone();
        requests.spawn(async move {
            let mut endpoint = endpoint;
            let outcome = ask(&mut endpoint, &checkpoint, limits).await;
            (number, endpoint, is_exempt, outcome)
        });
    }
    let mut outcomes = requests.join_all().await;
    outcomes.sort_by_key(|(number, ..)| *number);
    evaluate(outcomes, last.size())
}

fn check_exempt_names(endpoints: &[Endpoint], exempt: &[String]) -> Result<(), RollbackError> {
    let is_in_policy = |name: &String| endpoints.iter().any(|e| e.cosigners().iter().any(|c| c.name == *name));
    match exempt.iter().find(|name| !is_in_policy(name)) {
        Some(name) => Err(RollbackError::UnknownCosigner(name.clone())),
        None => Ok(()),
    }
}

/// A new log has no checkpoint to ask about. A lost store looks the same, so a cosigner that serves a checkpoint by
/// this key stops the start. A cosigner that serves none detects the fork when it is asked to cosign, before anything
/// is published.
async fn check_new_log(endpoints: &[Endpoint], log: &VerifierKey) -> Result<(), RollbackError> {
    for endpoint in endpoints {
        let Some(served) = endpoint.retrieve_checkpoint(log.name()).await else { continue };
        if let Ok(checkpoint) = served.verify(log) {
            let conflict = Conflict::LongerHistory { cosigned: checkpoint.size, committed: 0 };
            return Err(RollbackError::Conflict { cosigner: endpoint.names(), conflict });
        }
    }
    Ok(())
}

/// How long failed requests are retried.
#[derive(Clone, Copy)]
struct RetryLimits {
    unavailable: Duration,
    busy: Duration,
}

impl RetryLimits {
    const NONE: RetryLimits = RetryLimits { unavailable: Duration::ZERO, busy: Duration::ZERO };
}

async fn ask(
    endpoint: &mut Endpoint,
    checkpoint: &taglog_proto::checkpoint::SignedCheckpoint,
    limits: RetryLimits,
) -> Result<Vec<VerifiedCosignature>, CosignError> {
    let start = Instant::now();
    loop {
        let error = match endpoint.cosign(checkpoint).await {
            Ok(cosignatures) => return Ok(cosignatures),
            Err(error) => error,
        };
        let (pause, limit) = match &error {
            CosignError::Conflict(_) | CosignError::Store(_) | CosignError::UnknownLog => return Err(error),
            CosignError::Busy { wait, .. } => {
                ((*wait).clamp(RETRY_INTERVAL, limits.busy.max(RETRY_INTERVAL)), limits.busy)
            }
            CosignError::Unavailable(_) => (RETRY_INTERVAL, limits.unavailable),
        };
        if start.elapsed() + pause > limit {
            return Err(error);
        }
        tracing::info!(cosigner = endpoint.names(), %error, "waiting for the cosigner");
        tokio::time::sleep(pause).await;
    }
}

type EndpointOutcome = (usize, Endpoint, bool, Result<Vec<VerifiedCosignature>, CosignError>);

/// A conflict takes precedence over a missing answer.
fn evaluate(outcomes: Vec<EndpointOutcome>, size: u64) -> Result<RollbackCheck, RollbackError> {
    for (_, endpoint, _, outcome) in &outcomes {
        if let Err(CosignError::Conflict(conflict)) = outcome {
            return Err(RollbackError::Conflict { cosigner: endpoint.names(), conflict: conflict.clone() });
        }
    }
    let unanswered = outcomes.iter().filter_map(|(_, endpoint, is_exempt, outcome)| match outcome {
        Err(error) if !is_exempt => Some((endpoint.names(), error.to_string())),
        _ => None,
    });
    let unanswered: Vec<(String, String)> = unanswered.collect();
    if !unanswered.is_empty() {
        return Err(RollbackError::Unanswered(unanswered));
    }
    let cosignatures = outcomes.iter().filter_map(|(.., outcome)| outcome.as_ref().ok()).flatten();
    let newest = cosignatures.map(|cosignature| cosignature.time).max();
    let (mut endpoints, mut replies) = (Vec::new(), Vec::new());
    for (number, endpoint, _, outcome) in outcomes {
        if let Err(error) = &outcome {
            tracing::warn!(cosigner = endpoint.names(), %error, "starting without the cosigner (--without-cosigner)");
        }
        endpoints.push(endpoint);
        replies.push(EndpointReply::before_first_round(number, size, outcome));
    }
    Ok(RollbackCheck { endpoints, replies, newest })
}
