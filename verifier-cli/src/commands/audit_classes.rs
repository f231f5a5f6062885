//! The verdict of policy on each retagged tag of an audited log.

use std::collections::{BTreeMap, HashMap};

use taglog_proto::{
    name::{Digest, Image},
    tag_proof::ImageReport,
    time::Timestamp,
};

use taglog_audit::{Auditor, AuditorError, retags::retagged};
use taglog_policy::{Demands, EvaluationInput, Ignore, Policy, Verdict, evaluate_history, lock::Lock};

/// The verdict on one retagged tag, from its history in the log alone.
#[derive(Clone, Debug)]
pub struct Class {
    /// The verdict.
    pub verdict: Verdict,
    /// Whether the verdict passes.
    pub passes: bool,
    /// Why, in one sentence.
    pub reason: Box<str>,
    /// Policy lets it pass whatever the verdict, for a while.
    pub ignored: Option<Box<Ignore>>,
}

/// The classes of all retagged tags, by the log index of the retag.
#[derive(Debug, Default)]
pub struct Classes(HashMap<u64, Class>);

impl Classes {
    /// Evaluates every retagged tag as of the log's last seal: the same log and the same policy give the same classes.
    ///
    /// # Errors
    /// [`AuditorError`] when the state cannot be read.
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

    /// The class of the tag that was retagged with this entry.
    pub fn of(&self, index: u64) -> Option<&Class> {
        self.0.get(&index)
    }

    /// How many tags are of each class, by the names of the verdicts.
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
