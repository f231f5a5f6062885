//! Whether a moved tag looks like a rebuild: the same image on a newer base.
//!
//! Publishers rebuild what they published, under the same tag, whenever the base image gets security updates. A log shows
//! such a move just as it shows an attack, and people who are alarmed by each rebuild stop looking. So [`findings`]
//! compares the two manifests of each move, and says which of them need no person to look: because nothing changed for
//! this platform, or because all that can be compared is what a rebuild would leave. It never says that an image is safe.
//!
//! # What an attacker controls
//!
//! Assume that the attacker may push to the repository, knows this code, and has all the time there is. Then everything
//! in the new manifest and configuration is the attacker's: history, dates, labels, annotations, environment, which base
//! it claims, the order of the entries in an index. What the attacker does not control:
//!
//! - the digest that was there before, and with it every byte of the older manifest and configuration;
//! - what the log holds of *another* publisher's tag. So a base counts only if its digest was sighted under the name that
//!   the *older* image gave its base: a base of the attacker's choosing, logged or not, is another name, and that alone
//!   is reason enough to ask a person. Nor may it be one of the attacker's making under the old name: a base that has
//!   moved counts only if policy lets it ([`sighted`]), since an account is seldom good for one image alone;
//! - the bytes behind a digest. The leading layers must be the base's by digest, and every document is hashed here;
//! - the order in which digests were first sighted. A rebuild moves to a newer base, not to the same or an older one.
//!
//! What remains: an attacker who waits for the base to move, builds on the new base, copies history and configuration,
//! and puts the attack into the layers on top. From manifests that cannot be told from a rebuild, since a rebuild makes
//! new layers too. The finding says that nobody looked into them, the verdict is `rebuilt`, passes with a warning, and
//! where that is not good enough, policy says `immutable`. It stops whoever does less.
//!
//! # What is refused for want of certainty
//!
//! - An index with several entries that a runtime on this platform might choose, or one without a platform: compared as
//!   a whole, and any change unexplained. Else a second entry for the same platform could go unseen.
//! - JSON that Go's runtimes could read in another way than this module (see `json`), a document that is index and
//!   image at once, one whose media type is not that of its shape, and schema 1.
//! - Anything in `config` that changed, known or not; a health check is a command too. Excepted are variables and labels
//!   inherited from the base, which may follow it, and the label that dates the build.
//! - Documents that cannot be had, or not in bounds.

mod base;
mod compare;
mod configuration;
mod json;
mod logged;
mod manifest;
mod source;

use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use taglog_proto::name::Image;
use tokio::time::{Instant, timeout_at};

pub use logged::sighted;
pub use source::{BaseSightings, Kind, MAX_CONFIGURATION, ManifestSource, Manifests, Missing};

use crate::platform::Platform;
use source::Shelf;
use taglog_policy::{Finding, Move, Why};

/// The most moves of one tag that are looked into; the oldest of more stay unexplained.
pub const MAX_MOVES: usize = 200;
/// Moves that are looked into at once.
const AT_ONCE: usize = 8;
/// How long all moves of one tag may take together.
const MOST_TIME: Duration = Duration::from_secs(60);

/// Looks into each move of an image's tag; one finding each, in their order. `image` is the name in the log.
///
/// Asks `source` for what the digests stand for, and `bases` for what is logged of base images, and trusts neither
/// beyond what [`ManifestSource`] and [`BaseSightings`] say.
pub async fn findings(
    image: &Image,
    moves: &[Move],
    platform: &Platform,
    source: &impl ManifestSource,
    bases: &impl BaseSightings,
) -> Vec<Finding> {
    let look = Look { image, platform, shelf: Shelf::new(source, bases), until: Instant::now() + MOST_TIME };
    let too_many = moves.len().saturating_sub(MAX_MOVES);
    let why = format!("only the latest {MAX_MOVES} moves are looked into");
    let mut findings = vec![Finding::Unexplained { why: why.into() }; too_many];
    // Collected, or else the compiler cannot tell that all this may move between threads.
    let looking: Vec<_> = moves[too_many..].iter().map(|change| look.at(change)).collect();
    let looked: Vec<Finding> = stream::iter(looking).buffered(AT_ONCE).collect().await;
    findings.extend(looked);
    findings
}

struct Look<'a, S, B> {
    image: &'a Image,
    platform: &'a Platform,
    shelf: Shelf<'a, S, B>,
    until: Instant,
}

impl<S: ManifestSource, B: BaseSightings> Look<'_, S, B> {
    async fn at(&self, change: &Move) -> Finding {
        let in_time = timeout_at(self.until, self.explained(change)).await;
        let too_long = || format!("it took longer than {} s to look into it", MOST_TIME.as_secs()).into();
        match in_time.unwrap_or_else(|_| Err(too_long())) {
            Ok(finding) => finding,
            Err(why) if change.within_release => Finding::WithinRelease { why },
            Err(why) => Finding::Unexplained { why },
        }
    }

    async fn explained(&self, change: &Move) -> Result<Finding, Why> {
        let repository = &self.image.repository;
        let from = base::document(&self.shelf, repository, &change.from).await?.candidates(&change.from, self.platform);
        let to = base::document(&self.shelf, repository, &change.to).await?.candidates(&change.to, self.platform);
        let same = from.iter().map(|entry| &entry.digest).eq(to.iter().map(|entry| &entry.digest));
        if same && !from.is_empty() {
            return Ok(Finding::PlatformUnchanged { platform: self.platform.to_string() });
        }
        let from = base::read(&self.shelf, repository, &from, self.platform).await?;
        let to = base::read(&self.shelf, repository, &to, self.platform).await?;
        let (old_base, new_base) = (from.note.base()?, to.note.base()?);
        // Before anybody is asked about a base that only the newer image names.
        if old_base.image != new_base.image {
            return Err(format!("its base was {} and is {}", old_base.image, new_base.image).into());
        }
        let old_base = base::logged(&self.shelf, &old_base, self.platform).await?;
        let new_base = base::logged(&self.shelf, &new_base, self.platform).await?;
        let what = compare::rebuild((&from, &old_base), (&to, &new_base))?;
        Ok(Finding::Rebuild { base: new_base.image.to_string(), what })
    }
}
