//! Checks whether a moved tag looks like a rebuild: the same image on a newer base.
//!
//! Publishers rebuild what they published, under the same tag, whenever the base image gets security updates. A log
//! shows such a move just as it shows an attack, and users who get an alarm for each rebuild stop looking at alarms. So
//! [`compare_moves`] compares the two manifests of each move, and finds the moves that need no review: nothing changed
//! for this platform, or everything that can be compared is consistent with a rebuild. It never says that an image is
//! safe.
//!
//! # What an attacker controls
//!
//! Assume that the attacker may push to the repository, knows this code, and has all the time there is. Then everything
//! in the new manifest and configuration is the attacker's: history, dates, labels, annotations, environment, which
//! base it claims, the order of the entries in an index. What the attacker does not control:
//!
//! - the digest that was there before, and with it every byte of the older manifest and configuration;
//! - what the log holds of *another* publisher's tag. So a base counts only if its digest was sighted under the name
//!   that the *older* image gave its base: a base of the attacker's choosing has another name, and that alone requires
//!   a review. Nor may it be one that the attacker pushed under the old name: a base that has moved counts only if
//!   policy allows it ([`base_digests`]), since an account can seldom push one image only;
//! - the bytes behind a digest. The leading layers must be the base's by digest, and every document is hashed here;
//! - the order in which digests were first sighted. A rebuild moves to a newer base, not to the same or an older one.
//!
//! What remains: an attacker who waits for the base to move, builds on the new base, copies history and configuration,
//! and puts the attack into the layers on top. From manifests that cannot be told from a rebuild, since a rebuild makes
//! new layers too. The comparison states that their content was not inspected, and the verdict is `rebuilt`, which
//! passes with a warning. Where that is not good enough, policy can expect `immutable`. It stops attackers who do less.
//!
//! # What is rejected as uncertain
//!
//! - An index with several entries that a runtime on this platform might choose, or one without a platform: any change
//!   of it is unexplained. Otherwise a second entry for the same platform could go unnoticed.
//! - JSON that Go's runtimes could read in another way than this module (see `json`), a document that is an index and a
//!   manifest at once, one whose media type does not match its structure, and schema 1.
//! - Anything in `config` that changed, known or not; a health check is a command too. Excepted are variables and
//!   labels inherited from the base, which may follow it, and the label that dates the build.
//! - Documents that are not available or too large.

mod base;
mod base_sightings;
mod compare;
mod configuration;
mod documents;
mod json;
mod manifest;

use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use taglog_proto::name::Image;
use tokio::time::{Instant, timeout_at};

pub use base_sightings::base_digests;
pub use documents::{BaseSightings, DocumentKind, MAX_CONFIGURATION, ManifestSource, RemoteDocuments, Unavailable};

use crate::platform::Platform;
use documents::DocumentCache;
use taglog_policy::{Move, MoveComparison, UnexplainedReason};

/// The most moves of one tag that are compared, the latest ones. Older moves stay unexplained.
pub const MAX_MOVES: usize = 200;
/// Moves that are compared at the same time.
const PARALLEL: usize = 8;
/// The time limit for all moves of one tag.
const MAX_TIME: Duration = Duration::from_secs(60);

/// Compares the two digests of each move of an image's tag; one comparison for each, in the same order. `image` is the
/// name in the log.
///
/// Fetches documents from `source` and the sightings of base images from `bases`. Neither is trusted beyond what
/// [`ManifestSource`] and [`BaseSightings`] specify.
pub async fn compare_moves(
    image: &Image,
    moves: &[Move],
    platform: &Platform,
    source: &impl ManifestSource,
    bases: &impl BaseSightings,
) -> Vec<MoveComparison> {
    let cache = DocumentCache::new(source, bases);
    let comparer = MoveComparer { image, platform, cache, deadline: Instant::now() + MAX_TIME };
    let too_many = moves.len().saturating_sub(MAX_MOVES);
    let reason = format!("only the latest {MAX_MOVES} moves are compared");
    let mut comparisons = vec![MoveComparison::Unexplained { reason: reason.into() }; too_many];
    // Collected: the compiler cannot prove otherwise that these futures are `Send`.
    let pending: Vec<_> = moves[too_many..].iter().map(|change| comparer.compare(change)).collect();
    comparisons.extend(stream::iter(pending).buffered(PARALLEL).collect::<Vec<_>>().await);
    comparisons
}

struct MoveComparer<'a, S, B> {
    image: &'a Image,
    platform: &'a Platform,
    cache: DocumentCache<'a, S, B>,
    deadline: Instant,
}

impl<S: ManifestSource, B: BaseSightings> MoveComparer<'_, S, B> {
    async fn compare(&self, change: &Move) -> MoveComparison {
        let explanation = timeout_at(self.deadline, self.explain(change)).await;
        let timed_out = || format!("the comparison took longer than {} s", MAX_TIME.as_secs()).into();
        match explanation.unwrap_or_else(|_| Err(timed_out())) {
            Ok(comparison) => comparison,
            Err(reason) if change.within_release => MoveComparison::WithinRelease { reason },
            Err(reason) => MoveComparison::Unexplained { reason },
        }
    }

    async fn explain(&self, change: &Move) -> Result<MoveComparison, UnexplainedReason> {
        let repository = &self.image.repository;
        let from = base::document(&self.cache, repository, &change.from).await?.candidates(&change.from, self.platform);
        let to = base::document(&self.cache, repository, &change.to).await?.candidates(&change.to, self.platform);
        let same = from.iter().map(|entry| &entry.digest).eq(to.iter().map(|entry| &entry.digest));
        if same && !from.is_empty() {
            return Ok(MoveComparison::PlatformUnchanged { platform: self.platform.to_string() });
        }
        let from = base::read(&self.cache, repository, &from, self.platform).await?;
        let to = base::read(&self.cache, repository, &to, self.platform).await?;
        let (old_base, new_base) = (from.base.reference()?, to.base.reference()?);
        // Checked before a look-up of a base that only the newer image names.
        if old_base.image != new_base.image {
            return Err(format!("its base image changed from {} to {}", old_base.image, new_base.image).into());
        }
        let old_base = base::logged(&self.cache, &old_base, self.platform).await?;
        let new_base = base::logged(&self.cache, &new_base, self.platform).await?;
        let facts = compare::rebuild((&from, &old_base), (&to, &new_base))?;
        Ok(MoveComparison::Rebuild { base: new_base.image.to_string(), facts })
    }
}
