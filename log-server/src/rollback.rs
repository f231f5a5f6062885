//! Protection against an old backup: before the log seals anything, it asks every cosigner whether
//! they know a longer or another history of it.
//!
//! Only cosigners remember what a restored backup has forgotten. One that has cosigned more than the
//! store holds, or finds the store's checkpoint inconsistent, stops the server for good; one that
//! gives no answer stops it unless the operator excuses it by name. An excuse is for silence alone:
//! whoever does answer is heard.

use std::time::{Duration, Instant};

use taglog_proto::{note::VerifierKey, time::Timestamp};
use thiserror::Error;
use tokio::task::JoinSet;

use crate::{
    publisher::{
        endpoint::{Conflict, CosignError, Cosignature, Endpoint},
        rounds::Report,
    },
    snapshot::Snapshot,
};

/// How long a start waits for cosigners that say they are busy: an auditing one reads first what it
/// has not seen.
const BUSY_PATIENCE: Duration = Duration::from_secs(60);
/// How long after an attempt the next one is made, if the cosigner does not say.
const PAUSE: Duration = Duration::from_millis(500);

/// What to do about a conflict. It has to be right when someone reads it at night.
pub const REMEDY: &str = "\
The log has signed more, or something else, than this data directory holds. To go on from here would fork it, and that
can be proven for ever. So the server stops and will not start again on this data directory.
What to do:
  1. Delete nothing, and keep this data directory as it is.
  2. If a newer copy of the data directory exists (another disk, machine or backup), stop what runs on it and start
     from the newest one.
  3. If it is really lost, this log cannot go on under its name: start a new one with a new origin
     ('taglog-server init'), and tell everyone who trusts the old one.
  4. If you are certain that it is the cosigner that is wrong, talk to its operator. Removing it from the policy file
     makes the server start without asking it; who relies on it will not believe this log again.";

/// Why the server may not start.
#[derive(Debug, Error)]
pub enum RollbackError {
    /// A cosigner contradicts the store.
    #[error("cosigner {cosigner} contradicts this log: {conflict}.\n{REMEDY}")]
    Conflict {
        /// Its name in the policy.
        cosigner: String,
        /// What it says.
        conflict: Conflict,
    },
    /// Cosigners give no answer.
    #[error(
        "before it seals anything, the log asks every cosigner whether this data directory is the newest one, and there \
         is no answer from:\n{}\
         Start them, or correct their URLs in the policy file. If one is away for long, and you are certain that this data \
         directory is the newest, start with {}.",
        .0.iter().map(|(name, why)| format!("  {name}: {why}\n")).collect::<String>(),
        .0.iter().map(|(name, _)| format!("--without-cosigner {}", name.replace(", ", " --without-cosigner "))).collect::<Vec<_>>().join(" ")
    )]
    Silent(Vec<(String, String)>),
    /// An excuse for nobody.
    #[error("--without-cosigner {0}: the policy file has no cosigner of that name")]
    NoSuchCosigner(String),
}

/// What the cosigners say at the start.
pub struct Checked {
    /// The endpoints, which have learnt what is cosigned.
    pub endpoints: Vec<Endpoint>,
    /// What each answered.
    pub reports: Vec<Report>,
    /// The time of the newest cosignature.
    pub newest: Option<Timestamp>,
}

/// Asks all endpoints for the last commit, all at once. Those whose every cosigner is `excused`
/// may be silent. `patience` is for those that cannot be reached.
///
/// # Errors
/// [`RollbackError`].
pub async fn check(
    endpoints: Vec<Endpoint>,
    last: Option<&Snapshot>,
    log: &VerifierKey,
    excused: &[String],
    patience: Duration,
) -> Result<Checked, RollbackError> {
    check_excuses(&endpoints, excused)?;
    let Some(last) = last else {
        check_unknown(&endpoints, log).await?;
        return Ok(Checked { endpoints, reports: Vec::new(), newest: None });
    };
    let mut asked = JoinSet::new();
    for (number, endpoint) in endpoints.into_iter().enumerate() {
        let is_excused = endpoint.cosigners().iter().all(|cosigner| excused.contains(&cosigner.name));
        let patience = if is_excused { Patience::NONE } else { Patience { away: patience, busy: BUSY_PATIENCE } };
        let checkpoint = last.checkpoint.clone();
        asked.spawn(async move {
            let mut endpoint = endpoint;
            let outcome = ask(&mut endpoint, &checkpoint, patience).await;
            (number, endpoint, is_excused, outcome)
        });
    }
    let mut answered = asked.join_all().await;
    answered.sort_by_key(|(number, ..)| *number);
    judge(answered, last.size())
}

fn check_excuses(endpoints: &[Endpoint], excused: &[String]) -> Result<(), RollbackError> {
    let known = |name: &String| endpoints.iter().any(|e| e.cosigners().iter().any(|c| c.name == *name));
    match excused.iter().find(|name| !known(name)) {
        Some(name) => Err(RollbackError::NoSuchCosigner(name.clone())),
        None => Ok(()),
    }
}

/// A new log has no checkpoint to ask about. But a key whose store was lost looks the same, so
/// whoever shows a checkpoint by this key stops the start. (Who shows none finds the fork as soon as
/// it is asked to cosign, before anything is published.)
async fn check_unknown(endpoints: &[Endpoint], log: &VerifierKey) -> Result<(), RollbackError> {
    for endpoint in endpoints {
        let Some(shown) = endpoint.monitored(log.name()).await else { continue };
        if let Ok(checkpoint) = shown.verify(log) {
            let conflict = Conflict::Longer { theirs: checkpoint.size, ours: 0 };
            return Err(RollbackError::Conflict { cosigner: endpoint.names(), conflict });
        }
    }
    Ok(())
}

/// How long to go on asking.
#[derive(Clone, Copy)]
struct Patience {
    away: Duration,
    busy: Duration,
}

impl Patience {
    const NONE: Patience = Patience { away: Duration::ZERO, busy: Duration::ZERO };
}

async fn ask(
    endpoint: &mut Endpoint,
    checkpoint: &taglog_proto::checkpoint::SignedCheckpoint,
    patience: Patience,
) -> Result<Vec<Cosignature>, CosignError> {
    let start = Instant::now();
    loop {
        let error = match endpoint.cosign(checkpoint).await {
            Ok(cosignatures) => return Ok(cosignatures),
            Err(error) => error,
        };
        let (pause, patience) = match &error {
            CosignError::Conflict(_) | CosignError::Store(_) | CosignError::UnknownLog => return Err(error),
            CosignError::Busy { wait, .. } => ((*wait).clamp(PAUSE, patience.busy.max(PAUSE)), patience.busy),
            CosignError::Away(_) => (PAUSE, patience.away),
        };
        if start.elapsed() + pause > patience {
            return Err(error);
        }
        tracing::info!(cosigner = endpoint.names(), %error, "waiting for the cosigner");
        tokio::time::sleep(pause).await;
    }
}

type Answered = (usize, Endpoint, bool, Result<Vec<Cosignature>, CosignError>);

/// Contradiction weighs more than silence.
fn judge(answered: Vec<Answered>, size: u64) -> Result<Checked, RollbackError> {
    for (_, endpoint, _, outcome) in &answered {
        if let Err(CosignError::Conflict(conflict)) = outcome {
            return Err(RollbackError::Conflict { cosigner: endpoint.names(), conflict: conflict.clone() });
        }
    }
    let silent = answered.iter().filter_map(|(_, endpoint, is_excused, outcome)| match outcome {
        Err(error) if !is_excused => Some((endpoint.names(), error.to_string())),
        _ => None,
    });
    let silent: Vec<(String, String)> = silent.collect();
    if !silent.is_empty() {
        return Err(RollbackError::Silent(silent));
    }
    let cosignatures = answered.iter().filter_map(|(.., outcome)| outcome.as_ref().ok()).flatten();
    let newest = cosignatures.map(|cosignature| cosignature.time).max();
    let (mut endpoints, mut reports) = (Vec::new(), Vec::new());
    for (number, endpoint, _, outcome) in answered {
        if let Err(error) = &outcome {
            tracing::warn!(cosigner = endpoint.names(), %error, "starting without the cosigner, as was asked");
        }
        endpoints.push(endpoint);
        reports.push(Report::first(number, size, outcome));
    }
    Ok(Checked { endpoints, reports, newest })
}
