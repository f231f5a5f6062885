//! Finds the sighted index that lists one platform's manifest.

use oci_spec::image::ImageIndex;
use taglog_proto::{
    entry::Seen,
    name::{Digest, Repository},
    tag_proof::ImageReport,
};

use crate::platform::Platform;
use crate::rebuilt::{DocumentKind, ManifestSource};
use taglog_base::digest::short;
use taglog_policy::Demands;

/// The most sighted digests of a tag that are read, newest first.
const MAX_CANDIDATES: usize = 16;

/// The digest of an index that was sighted under the tag and lists `served` for the platform.
///
/// # Errors
/// Which indexes could not be read, if none of the others lists it.
pub(super) async fn index_of(
    report: &ImageReport,
    demands: &Demands,
    served: Digest,
    platform: &Platform,
    source: &impl ManifestSource,
) -> Result<Option<Digest>, String> {
    let mut missing = Vec::new();
    for candidate in sighted(report, demands).into_iter().take(MAX_CANDIDATES) {
        match read(&report.image.repository, candidate, source).await {
            Ok(bytes) if lists(&bytes, served, platform) => return Ok(Some(candidate)),
            Ok(_) => {}
            Err(why) => missing.push(why),
        }
    }
    match &missing[..] {
        [] => Ok(None),
        [only] => Err(only.clone()),
        [first, ..] => Err(format!("{} indexes that were sighted cannot be read, among them {first}", missing.len())),
    }
}

async fn read(repository: &Repository, digest: Digest, source: &impl ManifestSource) -> Result<Vec<u8>, String> {
    let bytes = source.get(repository, &digest, DocumentKind::Manifest).await;
    let bytes = bytes.map_err(|error| format!("{repository}@{} cannot be read: {error}", short(&digest)))?;
    if digest.matches(&bytes) {
        Ok(bytes)
    } else {
        Err(format!("{repository}@{}: the received document has another digest", short(&digest)))
    }
}

/// The digests that trusted witnesses have sighted, the newest sighting first.
fn sighted(report: &ImageReport, demands: &Demands) -> Vec<Digest> {
    let mut sightings: Vec<(u64, Digest)> = Vec::new();
    for witness in &report.witnesses {
        let Some(trusted) = demands.trusts(&witness.line.witness) else { continue };
        let counts = |index: u64| trusted.until.is_none_or(|until| index < until);
        for sighting in witness.sightings.iter().map(|sighted| sighted.sighting) {
            if let Seen::Digest(digest) = sighting.seen
                && counts(sighting.index)
            {
                sightings.push((sighting.index, digest));
            }
        }
    }
    sightings.sort_unstable_by(|a, b| b.cmp(a));
    let mut digests = Vec::new();
    for (_, digest) in sightings {
        if !digests.contains(&digest) {
            digests.push(digest);
        }
    }
    digests
}

/// Whether these are the bytes of an index that lists this manifest for the platform.
fn lists(index: &[u8], manifest: Digest, platform: &Platform) -> bool {
    let Ok(index) = serde_json::from_slice::<ImageIndex>(index) else { return false };
    let manifest = manifest.to_string();
    index.manifests().iter().any(|entry| {
        let listed = entry.platform().as_ref().map(|listed| {
            Platform::new(&listed.os().to_string(), &listed.architecture().to_string(), listed.variant().as_deref())
        });
        entry.digest().as_ref() == manifest && listed.is_some_and(|listed| platform.accepts(&listed))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_entry_for_the_platform_counts() {
        let (intel, arm, other) = (Digest::sha256(b"intel"), Digest::sha256(b"arm"), Digest::sha256(b"other"));
        let entry = |digest: Digest, platform: &str| {
            let kind = "application/vnd.oci.image.manifest.v1+json";
            format!(r#"{{"mediaType":"{kind}","digest":"{digest}","size":1{platform}}}"#)
        };
        let index = format!(
            r#"{{"schemaVersion":2,"manifests":[{},{},{}]}}"#,
            entry(intel, r#","platform":{"os":"linux","architecture":"amd64"}"#),
            entry(arm, r#","platform":{"os":"linux","architecture":"arm64","variant":"v8"}"#),
            entry(other, ""),
        );
        let lists = |digest, platform: &str| lists(index.as_bytes(), digest, &platform.parse().unwrap());
        assert!(lists(intel, "linux/amd64") && lists(arm, "linux/arm64") && lists(arm, "linux/arm64/v8"));
        assert!(!lists(intel, "linux/arm64") && !lists(arm, "linux/amd64") && !lists(arm, "linux/arm64/v9"));
        assert!(!lists(other, "linux/amd64"), "an entry that does not say what it is for");
        assert!(!lists(Digest::sha256(b""), "linux/amd64"));
        assert!(!super::lists(b"{}", intel, &Platform::here()) && !super::lists(b"\xff", intel, &Platform::here()));
    }
}
