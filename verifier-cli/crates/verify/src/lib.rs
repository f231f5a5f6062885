//! Verifies images: the library behind the command `verify`, for programs such as an admission controller or a registry
//! proxy.
//!
//! A [`Verifier`] takes any number of [`ImageQuery`]s and gives a result for each, with one look-up in each log and the
//! registries in parallel. Manifests are only read if a tag has moved, or if a digest may be a platform's manifest.
//! [`saved`] verifies with a proof file instead, without network.
//!
//! ```text
//! queries ─┬─ look-up in each log ── proofs, checkpoint, quorum ─┐
//!          └─ registries ── the digests that they serve now ─────┴─ policy in each log ─ the most severe ─ one ImageResult
//! ```
//!
//! Invariants: every image that was asked about is in exactly one of [`Verification::results`] and
//! [`Verification::unresolved`]; nothing is evaluated that was not verified; different logs are never merged into one
//! history; nothing here prints.

#![warn(missing_docs)]

mod age;
mod cache;
mod combine;
mod dependencies;
mod evaluate;
mod log_source;
mod options;
pub mod platform;
mod platform_index;
pub mod rebuilt;
pub mod saved;
mod served;
mod verifier;

use std::fmt;

use taglog_proto::{
    name::{Digest, Image},
    tag_proof::ImageReport,
};

pub use dependencies::{Dependencies, TrustedLog};
pub use log_source::Documents;
pub use options::VerificationOptions;
pub use verifier::{Verifier, VerifyError};

use taglog_base::place::{Excluded, LeftOut, Place};
use taglog_log_client::lookup::LogLookup;
use taglog_policy::{Demands, Evaluation, Ignore, Verdict};

/// An image to verify.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageQuery {
    /// The image as requested; its registry is the one that is asked. Policy gives its name in the log.
    pub image: Image,
    /// The digest, if it is known already; then the registry is not asked.
    pub digest: Option<Digest>,
    /// Where files name the image; empty for a direct query.
    pub places: Vec<Place>,
}

impl fmt::Display for ImageQuery {
    /// The image, and where files name it.
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

/// The result for one image.
#[derive(Clone, Debug)]
pub struct ImageResult {
    /// The query that this answers.
    pub query: ImageQuery,
    /// The image by its name in the log.
    pub logged: Image,
    /// The digest that the registry serves, or that was asked about; `None` if the history alone was evaluated.
    pub served: Option<Digest>,
    /// The combined evaluation of all logs.
    pub evaluation: Evaluation,
    /// The exception that lets the image pass whatever its verdict.
    pub ignored: Option<Ignore>,
    /// What was demanded of the image; [`Demands::in_log`] gives what applies to one log.
    pub demands: Demands,
    /// The evaluation of each log; empty if a log misbehaves.
    pub logs: Vec<LogEvaluation>,
}

/// The evaluation of one image in one log.
#[derive(Clone, Debug)]
pub struct LogEvaluation {
    /// The log's origin.
    pub log: String,
    /// The evaluation of this log alone.
    pub evaluation: Evaluation,
    /// All that the log has about the image; `None` if it did not answer for it.
    pub report: Option<ImageReport>,
}

impl ImageResult {
    /// Whether the image may be used.
    pub fn passes(&self) -> bool {
        self.evaluation.passes || self.ignored.is_some()
    }

    /// The digest to use, if the image may be used.
    pub fn digest(&self) -> Option<Digest> {
        self.evaluation.digest.filter(|_| self.evaluation.passes).or(self.served.filter(|_| self.passes()))
    }
}

/// An image without a verdict, because its registry gave no digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnresolvedImage {
    /// The image as requested.
    pub image: String,
    /// Where files name it.
    pub places: Vec<Place>,
    /// Why the registry gave no digest.
    pub problem: String,
    /// The exception that lets the image pass without a verdict.
    pub ignored: Option<Ignore>,
}

/// An image that files name by its digest alone. It cannot be retagged, so there is nothing to verify.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UntaggedImage {
    /// `repository@digest`.
    pub image: String,
    /// Where files name it.
    pub places: Vec<Place>,
}

impl fmt::Display for UntaggedImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} names no tag: a digest alone cannot be retagged, there is nothing to check", self.image)
    }
}

/// All results, with the proofs and documents that they depend on.
#[derive(Debug, Default)]
pub struct Verification {
    /// One for each image, in the order of the queries.
    pub results: Vec<ImageResult>,
    /// Images whose registries could not be asked.
    pub unresolved: Vec<UnresolvedImage>,
    /// References in files that cannot be resolved to an image. Filled in by the caller that reads files.
    pub left_out: Vec<LeftOut>,
    /// What is deliberately not checked in files. Filled in by the caller that reads files.
    pub excluded: Vec<Excluded>,
    /// Images that files name by digest alone. Filled in by the caller that reads files.
    pub untagged: Vec<UntaggedImage>,
    /// The verified look-up of each log; empty if a log misbehaves or there was no query.
    pub lookups: Vec<LogLookup>,
    /// The verified look-ups of base images, which moved tags need.
    pub bases: Vec<LogLookup>,
    /// The manifests and configurations that were read for moved tags and for platforms' manifests.
    pub documents: Documents,
    /// What each misbehaving log did, and where the evidence is kept.
    pub misbehaviour: Vec<String>,
}

/// The outcome of a [`Verification`] as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conclusion {
    /// Every image passes.
    Passes,
    /// The registry of an image that no exception covers gave no digest.
    Unresolved,
    /// A reference in a file could not be resolved to an image.
    LeftOut,
    /// At least one image does not pass.
    Fails,
    /// A log misbehaves.
    Misbehaved,
}

impl Verification {
    /// The verification if a log misbehaves: no image passes.
    fn misbehaved(options: &VerificationOptions, queries: Vec<ImageQuery>, alarms: Vec<String>) -> Verification {
        let result = |query: ImageQuery| {
            let logged = options.policy.logged_name(&query.image);
            let demands = options.policy.demands(&logged);
            let evaluation = Evaluation::fails(Verdict::Misbehaved, alarms.join("; "));
            let (served, logs) = (query.digest, Vec::new());
            ImageResult { served, query, logged, evaluation, ignored: None, demands, logs }
        };
        let results = queries.into_iter().map(result).collect();
        Verification { results, misbehaviour: alarms, ..Verification::default() }
    }

    /// The most severe that applies.
    pub fn conclusion(&self) -> Conclusion {
        if !self.misbehaviour.is_empty() {
            Conclusion::Misbehaved
        } else if !self.results.iter().all(ImageResult::passes) {
            Conclusion::Fails
        } else if !self.left_out.is_empty() {
            Conclusion::LeftOut
        } else if self.unresolved.iter().any(|unresolved| unresolved.ignored.is_none()) {
            Conclusion::Unresolved
        } else {
            Conclusion::Passes
        }
    }
}
