//! Images in, verdicts out: what the command `verify` does, for programs such as an admission controller or a proxy in

#![warn(missing_docs)]
//! front of registries.
//!
//! A [`Verifier`] takes any number of [`Question`]s and answers them with one look-up in each log; the registries are
//! asked in parallel with it. Nothing else is asked on the network, unless a tag has moved or a platform's manifest is
//! to be found in its index: then manifests are read. [`saved`] answers from a file instead, without network.
//!
//! ```text
//! questions ─┬─ look-up in each log ── proofs, checkpoint, quorum ─┐
//!            └─ registries ── what they serve now ─────────────────┴─ policy for each log ─ the gravest ─ one Answer
//! ```
//!
//! Invariants: an image that was asked about is in exactly one of [`Verification::answers`] and
//! [`Verification::unanswered`]; nothing is judged that was not verified; different logs are never mixed into one
//! history; nothing here prints.

mod age;
mod ask;
mod cache;
mod inquiry;
pub mod platform;
mod platforms;
pub mod rebuilt;
mod rules;
pub mod saved;
mod served;
mod weigh;

use std::fmt;

use taglog_proto::{
    name::{Digest, Image},
    tag_proof::ImageReport,
};

pub use ask::{Log, Parts, Verifier, VerifyError};
pub use inquiry::Documents;
pub use rules::Rules;

use taglog_image_sources::{LeftOut, Place};
use taglog_log_client::lookup::LogLookup;
use taglog_policy::{Demands, Ignore, Judgement, Verdict};

/// One image that somebody wants to use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The image as asked: its registry is the one that is asked. Policy says under which name it is logged.
    pub image: Image,
    /// The digest, where it is known already: then the registry is not asked.
    pub digest: Option<Digest>,
    /// Where files name it; empty for what was asked directly.
    pub places: Vec<Place>,
}

impl fmt::Display for Question {
    /// The image as people write it, and where files name it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.image.fmt(f)?;
        self.digest.iter().try_for_each(|digest| write!(f, "@{digest}"))?;
        match &self.places[..] {
            [] => Ok(()),
            [only] => write!(f, " ({only})"),
            [first, more @ ..] => write!(f, " ({first} and {} more)", more.len()),
        }
    }
}

/// What follows for one image.
#[derive(Clone, Debug)]
pub struct Answer {
    /// What was asked.
    pub question: Question,
    /// The image by the name under which it is logged.
    pub logged: Image,
    /// What the registry serves, or the digest that was asked about; `None` where only the history was judged.
    pub served: Option<Digest>,
    /// The verdict.
    pub judgement: Judgement,
    /// Why the verdict does not count, and until when.
    pub ignored: Option<Ignore>,
    /// What was demanded of the image; [`Demands::in_log`] says what of it applies to one log.
    pub demands: Demands,
    /// What each log says; empty where one of them misbehaves.
    pub logs: Vec<LogAnswer>,
}

/// What one log says of one image.
#[derive(Clone, Debug)]
pub struct LogAnswer {
    /// The log's origin.
    pub log: String,
    /// The verdict by this log alone.
    pub judgement: Judgement,
    /// All that the log holds of the image; `None` where it did not answer for it.
    pub report: Option<ImageReport>,
}

impl Answer {
    /// Whether the image may be used.
    pub fn passes(&self) -> bool {
        self.judgement.passes || self.ignored.is_some()
    }

    /// The digest to use, if the image may be used.
    pub fn digest(&self) -> Option<Digest> {
        self.judgement.digest.filter(|_| self.judgement.passes).or(self.served.filter(|_| self.passes()))
    }
}

/// An image about which nothing can be said, because its registry could not be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unanswered {
    /// The image as asked.
    pub what: String,
    /// Where files name it.
    pub places: Vec<Place>,
    /// Why.
    pub problem: String,
}

/// An image that files name by its digest alone: it cannot be retagged, and there is nothing to check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Untagged {
    /// `repository@digest`.
    pub what: String,
    /// Where files name it.
    pub places: Vec<Place>,
}

impl fmt::Display for Untagged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} names no tag: a digest alone cannot be retagged, there is nothing to check", self.what)
    }
}

/// All answers, and what they rest on.
#[derive(Debug, Default)]
pub struct Verification {
    /// One for each image, in the order of the questions.
    pub answers: Vec<Answer>,
    /// Images whose registries could not be asked.
    pub unanswered: Vec<Unanswered>,
    /// What files name in a way that cannot be told. The verifier leaves it empty; who reads files fills it.
    pub left_out: Vec<LeftOut>,
    /// What files name by digest alone. The verifier leaves it empty; who reads files fills it.
    pub untagged: Vec<Untagged>,
    /// The verified proofs of each log; empty when one misbehaves or nothing was asked.
    pub looked: Vec<LogLookup>,
    /// The verified proofs of base images that were looked up because a tag has moved.
    pub bases: Vec<LogLookup>,
    /// Manifests and configurations that were read because a tag has moved or a platform's manifest was in question.
    pub documents: Documents,
    /// What each log did that misbehaves, and where that is kept as evidence.
    pub misbehaviour: Vec<String>,
}

/// What a [`Verification`] says as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conclusion {
    /// Everything that was asked about passes.
    Passes,
    /// Some of the images could not be verified.
    Unanswered,
    /// Something that may name an image could not be read.
    LeftOut,
    /// At least one image does not pass.
    Fails,
    /// A log misbehaves.
    Misbehaved,
}

impl Verification {
    /// What follows from an answer of the log that is false: nothing of what was asked about passes.
    fn misbehaved(rules: &Rules, questions: Vec<Question>, alarms: Vec<String>) -> Verification {
        let answer = |question: Question| {
            let logged = rules.policy.logged_name(&question.image);
            let demands = rules.policy.demands(&logged);
            let judgement = Judgement::fails(Verdict::Misbehaved, alarms.join("; "));
            let (served, logs) = (question.digest, Vec::new());
            Answer { served, question, logged, judgement, ignored: None, demands, logs }
        };
        let answers = questions.into_iter().map(answer).collect();
        Verification { answers, misbehaviour: alarms, ..Verification::default() }
    }

    /// The most severe that applies.
    pub fn conclusion(&self) -> Conclusion {
        if !self.misbehaviour.is_empty() {
            Conclusion::Misbehaved
        } else if !self.answers.iter().all(Answer::passes) {
            Conclusion::Fails
        } else if !self.left_out.is_empty() {
            Conclusion::LeftOut
        } else if !self.unanswered.is_empty() {
            Conclusion::Unanswered
        } else {
            Conclusion::Passes
        }
    }
}
