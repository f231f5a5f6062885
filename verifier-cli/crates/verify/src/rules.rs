//! From what was verified to an answer. In each log on its own: the age of the log's word first, then policy and
//! approvals, then what manifests tell. Then the gravest of the logs' judgements, held against the lock.

use std::time::Duration;

use taglog_proto::{
    entry::Seen,
    name::{Digest, Image},
    tag_proof::ImageReport,
    time::Timestamp,
};

use super::{
    Answer, LogAnswer, Question, age,
    inquiry::Inquiry,
    platforms,
    weigh::{contested, weigh},
};
use crate::platform::Platform;
use crate::rebuilt;
use taglog_log_client::lookup::CosignedLookup;
use taglog_policy::{self, Case, Demands, Judgement, Policy, Verdict, WARN_AGE, explained, judge, lock::Lock};

/// What is demanded of images.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Whose word counts, and what may move.
    pub policy: Policy,
    /// What people have approved.
    pub lock: Lock,
    /// Whether only digests that stand in the lock pass.
    pub locked: bool,
    /// Whether the newest digest that is old enough is asked for, and not the one that the registry serves.
    pub settled: bool,
    /// The platform whose own manifest passes where the index that lists it passes. Moved tags are compared for it, or
    /// for this machine's.
    pub platform: Option<Platform>,
}

/// As of when images are judged.
#[derive(Clone, Copy, Debug)]
pub(super) enum Moment {
    /// Now, by an answer of the log that was just asked for.
    Live(Timestamp),
    /// By a file, which may be as old as this; what it says of times counts from its own seal.
    Saved(Timestamp, Option<Duration>),
}

impl Moment {
    fn now(self) -> Timestamp {
        match self {
            Moment::Live(now) | Moment::Saved(now, _) => now,
        }
    }
}

/// One image before the court: what is demanded of it, whatever logs say.
pub(super) struct Hearing<'a> {
    rules: &'a Rules,
    /// The image by the name under which it is logged.
    pub(super) logged: Image,
    demands: Demands,
    approved: Vec<Digest>,
    moment: Moment,
}

/// Which digest is judged.
#[derive(Clone, Copy)]
struct InQuestion {
    /// What the registry serves, or what was asked about.
    served: Option<Digest>,
    /// Where neither is known: the one that the logs' histories leave.
    chosen: Option<Digest>,
}

impl Rules {
    /// Collects what is demanded of an image, by its name as asked.
    pub(super) fn hear(&self, image: &Image, moment: Moment) -> Hearing<'_> {
        let logged = self.policy.logged_name(image);
        let (demands, approved) = (self.policy.demands(&logged), self.lock.approved(&logged));
        Hearing { rules: self, logged, demands, approved, moment }
    }
}

impl Hearing<'_> {
    /// The answer to a question about the image that this is about; an inquiry for each log.
    ///
    /// Each log's history is judged on its own, to the end: moves that are explained, approvals and platforms included.
    /// Then the gravest of the finished judgements stands. That is right as long as all are about one digest, and then
    /// also for `new`: a digest that is too young, or seen by too few, in one of the logs has not settled. Where no
    /// digest is in question the logs' histories may each lead to another one, and each would pass: so one is chosen
    /// first where the newest that has settled is asked for, and where passing histories differ afterwards, all are
    /// judged again by what the first of them leads to.
    pub(super) async fn answer(self, question: Question, served: Option<Digest>, inquiries: &[Inquiry<'_>]) -> Answer {
        let settled = (self.rules.settled && served.is_none()).then(|| self.settled(inquiries));
        let chosen = settled.as_ref().and_then(|settled| settled.as_ref().ok()).copied();
        let mut logs = self.judged(InQuestion { served, chosen }, inquiries).await;
        if let Some(chosen) = contested(&logs) {
            logs = self.judged(InQuestion { served, chosen: Some(chosen) }, inquiries).await;
        }
        let judgement = match (weigh(&logs), settled) {
            (judgement, Some(Err(reason))) if judgement.passes => Judgement::fails(Verdict::New, reason),
            (judgement, _) => judgement,
        };
        let mut judgement = if self.rules.locked { self.held_to_the_lock(judgement) } else { judgement };
        let now = self.moment.now();
        let (ignored, expired) = match self.demands.ignore.clone() {
            Some(ignore) if ignore.applies(now) => (Some(ignore), None),
            other => (None, other),
        };
        judgement.notes.extend(expired.map(|it| format!("no longer ignored since {}: {}", it.until, it.reason)));
        Answer { question, logged: self.logged, served, judgement, ignored, demands: self.demands, logs }
    }

    /// The newest digest that is old enough in every log.
    fn settled(&self, inquiries: &[Inquiry<'_>]) -> Result<Digest, String> {
        let logs = inquiries.iter().map(|inquiry| self.in_log(inquiry));
        let logs: Vec<InLog> = logs.collect();
        let cases: Vec<Case> = logs.iter().filter_map(|log| Some(log.case(log.known()?, None))).collect();
        taglog_policy::settled(&cases, self.demands.min_age.unwrap_or(WARN_AGE))
    }

    /// What follows in each log.
    async fn judged(&self, digest: InQuestion, inquiries: &[Inquiry<'_>]) -> Vec<LogAnswer> {
        let mut judged = Vec::new();
        for inquiry in inquiries {
            judged.push(self.in_log(inquiry).judged(digest).await);
        }
        judged
    }

    fn in_log<'a>(&'a self, inquiry: &'a Inquiry<'a>) -> InLog<'a> {
        InLog { hearing: self, inquiry, demands: self.demands.in_log(&inquiry.looked.log) }
    }

    fn held_to_the_lock(&self, judgement: Judgement) -> Judgement {
        let Some(digest) = judgement.digest.filter(|digest| judgement.passes && !self.approved.contains(digest)) else {
            return judgement;
        };
        let differs = match &self.approved[..] {
            [] => format!("taglog.lock has no digest of {}", self.logged),
            [only] => format!("taglog.lock has {only}, not {digest}"),
            several => format!("taglog.lock has {} digests of {}, not {digest}", several.len(), self.logged),
        };
        let reason = format!("{differs}: let a person look, then 'taglog approve {}@{digest}'", self.logged);
        Judgement { passes: false, warning: false, reason, digest: None, ..judgement }
    }
}

/// The image in one log.
struct InLog<'a> {
    hearing: &'a Hearing<'a>,
    inquiry: &'a Inquiry<'a>,
    /// What is demanded there.
    demands: Demands,
}

impl InLog<'_> {
    /// What the log says of the image, and as of when.
    fn known(&self) -> Option<(&CosignedLookup, &ImageReport)> {
        let part = self.inquiry.looked.part(&self.hearing.logged)?;
        Some((part, part.lookup.report(&self.hearing.logged)?))
    }

    /// What is to be judged; ages count from now, or in a file from its own seal.
    fn case<'a>(&'a self, (part, report): (&CosignedLookup, &'a ImageReport), served: Option<Digest>) -> Case<'a> {
        let now = match self.hearing.moment {
            Moment::Live(now) => now,
            Moment::Saved(..) => part.lookup.seal.time,
        };
        Case { report, served, demands: &self.demands, approved: &self.hearing.approved, now }
    }

    async fn judged(&self, digest: InQuestion) -> LogAnswer {
        let (stands_for, note) = self.index_of(digest.served).await;
        let judgement = self.judge(digest, stands_for);
        let mut judgement = self.explain(judgement).await;
        judgement.notes.extend(note);
        // What passes is what was asked about, and not the index that it stands for.
        judgement.digest = judgement.digest.map(|passes| stands_for.and(digest.served).unwrap_or(passes));
        let report = self.known().map(|(_, report)| report.clone());
        LogAnswer { log: self.inquiry.looked.log.clone(), judgement, report }
    }

    /// The judgement by what is logged. The age of the log's word comes first: an old one says nothing about now.
    fn judge(&self, InQuestion { served, chosen }: InQuestion, stands_for: Option<Digest>) -> Judgement {
        let Some(known) = self.known() else {
            return Judgement::fails(Verdict::Incomplete, "the log did not answer for this image");
        };
        let max_age = match self.hearing.moment {
            Moment::Live(_) => Some(self.demands.max_age),
            Moment::Saved(_, max_age) => max_age,
        };
        if let Some(stale) = age::stale(known.0, max_age, self.hearing.moment.now()) {
            return stale;
        }
        let judgement = judge(&self.case(known, stands_for.or(served).or(chosen)));
        let settled = chosen.filter(|_| self.hearing.rules.settled && judgement.verdict == Verdict::Behind);
        match settled {
            // What policy lets move may have moved on since; whatever else is wrong with the tag stays wrong.
            Some(digest) => {
                let reason = "of a tag that may move, the newest digest that is old enough";
                Judgement { notes: judgement.notes, ..Judgement::passes(Verdict::Moving, digest, reason) }
            }
            None => judgement,
        }
    }

    /// The sighted index that a platform's manifest stands for, if that is what was served; and what to say of it.
    async fn index_of(&self, served: Option<Digest>) -> (Option<Digest>, Option<String>) {
        let (Some((_, report)), Some(served), Some(platform)) = (self.known(), served, &self.hearing.rules.platform)
        else {
            return (None, None);
        };
        let sightings = report.witnesses.iter().flat_map(|witness| &witness.sightings);
        if sightings.into_iter().any(|sighted| sighted.sighting.seen == Seen::Digest(served)) {
            return (None, None);
        }
        match platforms::index_of(report, &self.demands, served, platform, self.inquiry).await {
            Ok(Some(index)) => {
                let note = format!("{served} is the manifest for {platform} of {index}, which is what was sighted");
                (Some(index), Some(note))
            }
            Ok(None) => (None, Some(format!("no index that was sighted lists {served} for {platform}"))),
            Err(why) => (None, Some(why)),
        }
    }

    /// Compares the manifests of a tag that moved, unless it moved so often that they cannot all be compared.
    async fn explain(&self, judgement: Judgement) -> Judgement {
        let explainable = judgement.verdict == Verdict::Retagged && judgement.moves.len() <= rebuilt::MAX_MOVES;
        let Some((part, _)) = self.known().filter(|_| explainable) else { return judgement };
        let (logged, cache, root) = (&self.hearing.logged, self.inquiry.cache, part.lookup.checkpoint.root);
        let findings = match cache.findings(logged, &root) {
            Some(known) => known,
            None => {
                let platform = self.hearing.rules.platform.clone().unwrap_or_else(Platform::here);
                let moves = &judgement.moves;
                let findings = rebuilt::findings(logged, moves, &platform, self.inquiry, self.inquiry).await;
                cache.keep_findings(logged, root, &findings);
                findings
            }
        };
        explained(judgement, &self.demands, &findings)
    }
}
