//! Evaluates one image in several logs: in each log on its own, then combined.
//!
//! In one log: first the age of the log's answer, then policy and approvals, then the comparison of manifests if the
//! tag has moved. The most severe of the logs' evaluations decides; `--locked` is applied last.

use taglog_proto::{
    entry::Seen,
    name::{Digest, Image},
    tag_proof::ImageReport,
};

use super::{
    ImageQuery, ImageResult, LogEvaluation, age,
    combine::{combine, conflicting_digest},
    log_source::LogSource,
    options::{EvaluationTime, VerificationOptions},
    platform_index,
};
use crate::platform::Platform;
use crate::rebuilt;
use taglog_log_client::lookup::CosignedLookup;
use taglog_policy::{
    self, Demands, Evaluation, EvaluationInput, Verdict, WARN_AGE, apply_comparisons, evaluate, newest_settled,
};

/// Evaluates one image against what policy demands of it.
pub(super) struct ImageEvaluator<'a> {
    options: &'a VerificationOptions,
    /// The image by its name in the log.
    pub(super) logged: Image,
    demands: Demands,
    approved: Vec<Digest>,
    time: EvaluationTime,
}

/// The digest that is evaluated.
#[derive(Clone, Copy)]
struct EvaluatedDigest {
    /// The digest that the registry serves, or that was asked about.
    served: Option<Digest>,
    /// Without a served digest: the one that was chosen from the logs' histories.
    chosen: Option<Digest>,
}

impl<'a> ImageEvaluator<'a> {
    /// Looks up what policy demands of an image, by its name as requested.
    pub(super) fn new(options: &'a VerificationOptions, image: &Image, time: EvaluationTime) -> ImageEvaluator<'a> {
        let logged = options.policy.logged_name(image);
        let (demands, approved) = (options.policy.demands(&logged), options.lock.approved(&logged));
        ImageEvaluator { options, logged, demands, approved, time }
    }

    /// The result of a query about this image, with one source for each log.
    ///
    /// Each log's history is evaluated on its own and to the end, with explained moves, approvals and platforms, and
    /// the most severe evaluation decides. This is right as long as all evaluations are about one digest; a digest that
    /// is `new` in one log is not settled in all of them. Without a served digest, the logs' histories could lead to
    /// different digests, each of which would pass. So one digest is chosen first if the newest settled digest is asked
    /// for; and if different digests pass, all logs are evaluated again with the digest of the first.
    pub(super) async fn result(
        self,
        query: ImageQuery,
        served: Option<Digest>,
        sources: &[LogSource<'_>],
    ) -> ImageResult {
        let settled = (self.options.settled && served.is_none()).then(|| self.newest_settled(sources));
        let chosen = settled.as_ref().and_then(|settled| settled.as_ref().ok()).copied();
        let mut logs = self.evaluate_logs(EvaluatedDigest { served, chosen }, sources).await;
        if let Some(chosen) = conflicting_digest(&logs) {
            logs = self.evaluate_logs(EvaluatedDigest { served, chosen: Some(chosen) }, sources).await;
        }
        let evaluation = match (combine(&logs), settled) {
            (evaluation, Some(Err(reason))) if evaluation.passes => Evaluation::fails(Verdict::New, reason),
            (evaluation, _) => evaluation,
        };
        let mut evaluation = if self.options.locked { self.require_approval(evaluation) } else { evaluation };
        let now = self.time.now();
        let (ignored, expired) = match self.demands.ignore.clone() {
            Some(ignore) if ignore.applies(now) => (Some(ignore), None),
            other => (None, other),
        };
        evaluation
            .notes
            .extend(expired.map(|ignore| format!("no longer ignored since {}: {}", ignore.until, ignore.reason)));
        ImageResult { query, logged: self.logged, served, evaluation, ignored, demands: self.demands, logs }
    }

    /// The newest digest that is old enough in every log.
    fn newest_settled(&self, sources: &[LogSource<'_>]) -> Result<Digest, String> {
        let logs: Vec<LogEvaluator> = sources.iter().map(|source| self.in_log(source)).collect();
        let inputs: Vec<EvaluationInput> = logs.iter().filter_map(|log| Some(log.input(log.answer()?, None))).collect();
        newest_settled(&inputs, self.demands.min_age.unwrap_or(WARN_AGE))
    }

    async fn evaluate_logs(&self, digest: EvaluatedDigest, sources: &[LogSource<'_>]) -> Vec<LogEvaluation> {
        let mut evaluations = Vec::new();
        for source in sources {
            evaluations.push(self.in_log(source).evaluate(digest).await);
        }
        evaluations
    }

    fn in_log<'s>(&'s self, source: &'s LogSource<'s>) -> LogEvaluator<'s> {
        LogEvaluator { image: self, source, demands: self.demands.in_log(&source.lookup.log) }
    }

    /// Lets only approved digests pass.
    fn require_approval(&self, evaluation: Evaluation) -> Evaluation {
        let passing = evaluation.digest.filter(|_| evaluation.passes);
        let Some(digest) = passing.filter(|digest| !self.approved.contains(digest)) else { return evaluation };
        let differs = match &self.approved[..] {
            [] => format!("taglog.lock has no digest of {}", self.logged),
            [only] => format!("taglog.lock has {only}, not {digest}"),
            several => format!("taglog.lock has {} digests of {}, not {digest}", several.len(), self.logged),
        };
        let reason = format!("{differs}: review the digest, then run 'taglog approve {}@{digest}'", self.logged);
        Evaluation { passes: false, warning: false, reason, digest: None, ..evaluation }
    }
}

/// Evaluates the image in one log.
struct LogEvaluator<'a> {
    image: &'a ImageEvaluator<'a>,
    source: &'a LogSource<'a>,
    /// What is demanded in this log.
    demands: Demands,
}

impl LogEvaluator<'_> {
    /// The log's verified answer about the image.
    fn answer(&self) -> Option<(&CosignedLookup, &ImageReport)> {
        let part = self.source.lookup.part(&self.image.logged)?;
        Some((part, part.lookup.report(&self.image.logged)?))
    }

    /// Ages are measured now, or for a proof file at the time of its seal.
    fn input<'a>(
        &'a self,
        (part, report): (&CosignedLookup, &'a ImageReport),
        served: Option<Digest>,
    ) -> EvaluationInput<'a> {
        let now = match self.image.time {
            EvaluationTime::Live(now) => now,
            EvaluationTime::Saved(..) => part.lookup.seal.time,
        };
        EvaluationInput { report, served, demands: &self.demands, approved: &self.image.approved, now }
    }

    async fn evaluate(&self, digest: EvaluatedDigest) -> LogEvaluation {
        let (index, note) = self.index_of(digest.served).await;
        let evaluation = self.evaluate_history(digest, index);
        let mut evaluation = self.explain_moves(evaluation).await;
        evaluation.notes.extend(note);
        // The digest that passes is the served one, not the index that lists it.
        evaluation.digest = evaluation.digest.map(|passes| index.and(digest.served).unwrap_or(passes));
        let report = self.answer().map(|(_, report)| report.clone());
        LogEvaluation { log: self.source.lookup.log.clone(), evaluation, report }
    }

    /// Evaluates the logged history. The age of the log's answer comes first: an old answer says nothing about now.
    fn evaluate_history(&self, digest: EvaluatedDigest, index: Option<Digest>) -> Evaluation {
        let EvaluatedDigest { served, chosen } = digest;
        let Some(answer) = self.answer() else {
            return Evaluation::fails(Verdict::Incomplete, "the log did not answer for this image");
        };
        let max_age = match self.image.time {
            EvaluationTime::Live(_) => Some(self.demands.max_age),
            EvaluationTime::Saved(_, max_age) => max_age,
        };
        if let Some(stale) = age::stale(answer.0, max_age, self.image.time.now()) {
            return stale;
        }
        let evaluation = evaluate(&self.input(answer, index.or(served).or(chosen)));
        let settled = chosen.filter(|_| self.image.options.settled && evaluation.verdict == Verdict::Behind);
        match settled {
            // The tag may have moved on since, which policy allows. Every other verdict stands.
            Some(digest) => {
                let reason = "of a tag that may move, the newest digest that is old enough";
                Evaluation { notes: evaluation.notes, ..Evaluation::passes(Verdict::Moving, digest, reason) }
            }
            None => evaluation,
        }
    }

    /// The sighted index that lists the served digest for the platform, if there is one; and a note about it.
    async fn index_of(&self, served: Option<Digest>) -> (Option<Digest>, Option<String>) {
        let (Some((_, report)), Some(served), Some(platform)) = (self.answer(), served, &self.image.options.platform)
        else {
            return (None, None);
        };
        let sightings = report.witnesses.iter().flat_map(|witness| &witness.sightings);
        if sightings.into_iter().any(|sighted| sighted.sighting.seen == Seen::Digest(served)) {
            return (None, None);
        }
        match platform_index::index_of(report, &self.demands, served, platform, self.source).await {
            Ok(Some(index)) => {
                let note = format!("{served} is the manifest for {platform} in {index}, which witnesses have sighted");
                (Some(index), Some(note))
            }
            Ok(None) => (None, Some(format!("no index that was sighted lists {served} for {platform}"))),
            Err(reason) => (None, Some(reason)),
        }
    }

    /// Compares the manifests of a tag that moved, unless it moved too often for all moves to be compared.
    async fn explain_moves(&self, evaluation: Evaluation) -> Evaluation {
        let explainable = evaluation.verdict == Verdict::Retagged && evaluation.moves.len() <= rebuilt::MAX_MOVES;
        let Some((part, _)) = self.answer().filter(|_| explainable) else { return evaluation };
        let (logged, cache, root) = (&self.image.logged, self.source.cache, part.lookup.checkpoint.root);
        let comparisons = match cache.comparisons(logged, &root) {
            Some(cached) => cached,
            None => {
                let platform = self.image.options.platform.clone().unwrap_or_else(Platform::here);
                let moves = &evaluation.moves;
                let comparisons = rebuilt::compare_moves(logged, moves, &platform, self.source, self.source).await;
                cache.keep_comparisons(logged, root, &comparisons);
                comparisons
            }
        };
        apply_comparisons(evaluation, &self.demands, &comparisons)
    }
}
