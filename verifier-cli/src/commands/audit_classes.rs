//! The verdict of the policy on each retagged tag of an audited log.

use std::collections::{BTreeMap, HashMap};

use taglog_proto::{
    name::{Digest, Image},
    tag_proof::ImageReport,
    time::Timestamp,
};

use taglog_audit::{Auditor, AuditorError, retags::retagged};
use taglog_policy::{Demands, EvaluationInput, Ignore, Policy, Verdict, evaluate_history, lock::Lock};

/// The verdict on one retagged tag, evaluated from its history in the log alone.
#[derive(Clone, Debug)]
pub struct Class {
    pub verdict: Verdict,
    pub passes: bool,
    /// The reason for the verdict, in one sentence.
    pub reason: Box<str>,
    /// The `ignore` of the policy that applies now, which lets the tag pass until it expires.
    pub ignored: Option<Box<Ignore>>,
}

/// The verdicts on all retagged tags, by the log index of the retag.
#[derive(Debug, Default)]
pub struct Classes(HashMap<u64, Class>);

impl Classes {
    /// Evaluates every retagged tag as of the time of the log's last seal, so that the result depends only on log and policy.
    pub fn evaluate(auditor: &Auditor, policy: &Policy, lock: &Lock) -> Result<Classes, AuditorError> {
        let Some(now) = auditor.seal().map(|seal| seal.time) else { return Ok(Classes::default()) };
        let mut approved: HashMap<&Image, Vec<Digest>> = HashMap::new();
        for approval in lock.approvals() {
            approved.entry(&approval.image).or_default().push(approval.digest);
        }
        let log = auditor.log().name();
        let classes = retagged(auditor, |report| {
            let approved = approved.get(&report.image).map_or(&[][..], Vec::as_slice);
            class(report, policy.demands(&report.image).in_log(log), approved, now)
        })?;
        Ok(Classes(classes.into_iter().collect()))
    }

    /// The verdict on the tag that was retagged by the entry at this log index.
    pub fn of(&self, index: u64) -> Option<&Class> {
        self.0.get(&index)
    }

    /// The number of retagged tags for each verdict name.
    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        let mut counts = BTreeMap::new();
        self.0.values().for_each(|class| *counts.entry(class.verdict.name()).or_default() += 1);
        counts
    }
}

fn class(report: &ImageReport, demands: Demands, approved: &[Digest], now: Timestamp) -> Class {
    let evaluation = evaluate_history(&EvaluationInput { report, served: None, demands: &demands, approved, now });
    let ignored = demands.ignore.filter(|ignore| ignore.applies(now)).map(Box::new);
    Class { verdict: evaluation.verdict, passes: evaluation.passes, reason: evaluation.reason.into(), ignored }
}
