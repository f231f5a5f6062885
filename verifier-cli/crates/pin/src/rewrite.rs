//! Rewrites a file with digests after the names of its images.

use taglog_proto::name::{Digest, Reference};
use thiserror::Error;

use super::edit::{Edit, apply};
use taglog_image_sources::{FoundImage, LeftOut, Options, Place, ScanResult, SourceFile, read_bytes};

/// Why a file cannot be rewritten.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{place}: writing the digests would change which images the file names: write them by hand")]
pub struct RewriteError {
    /// The first image that differs, or the file.
    pub place: Place,
}

/// The name with its tag and this digest. Everything before the digest is kept.
pub fn pinned_name(name: &str, reference: &Reference, digest: &Digest) -> String {
    let unpinned = name.split_once('@').map_or(name, |(unpinned, _)| unpinned);
    // A digest without a tag would hide which tag it was pinned for.
    let latest = if reference.tag.is_none() { ":latest" } else { "" };
    format!("{unpinned}{latest}@{digest}")
}

/// Writes the digest that `digest_of` gives after each image. Images that are not literals in the file, and those
/// without a digest, stay as they are.
///
/// The result is parsed again: it must name the same images in the same lines, and only their digests may differ.
///
/// # Errors
/// The rewritten file would name other images.
pub fn rewritten(
    file: &SourceFile,
    options: &Options,
    digest_of: impl Fn(&FoundImage) -> Option<Digest>,
) -> Result<Vec<u8>, RewriteError> {
    let whole_file = || RewriteError { place: Place { file: file.path.display().to_string(), line: 1 } };
    let edited = |image: &FoundImage| image.span.as_ref().and_then(|span| Some((span.clone(), digest_of(image)?)));
    let mut edits = Vec::new();
    let mut want = file.found.clone();
    for image in &mut want.images {
        let Some((span, digest)) = edited(image) else { continue };
        let name =
            file.bytes.get(span.clone()).and_then(|name| std::str::from_utf8(name).ok()).ok_or_else(whole_file)?;
        edits.push(Edit::new(span, pinned_name(name, &image.reference, &digest)));
        image.reference.tag = image.image().ok().map(|image| image.tag);
        image.reference.digest = Some(digest);
    }
    let bytes = apply(&file.bytes, edits).map_err(|_| whole_file())?;
    let found = read_bytes(&file.path, &bytes, options).map_err(|error| RewriteError { place: error.place })?;
    difference(&want, &found).map_or(Ok(bytes), |place| Err(RewriteError { place }))
}

/// The first place at which two parses name different images. Spans and spellings may differ.
fn difference(want: &ScanResult, found: &ScanResult) -> Option<Place> {
    let image = |image: &FoundImage| (image.place.clone(), Some(image.reference.clone()));
    let note = |left_out: &LeftOut| (left_out.place.clone(), None);
    let all = |found: &ScanResult| -> Vec<(Place, Option<Reference>)> {
        found.images.iter().map(image).chain(found.left_out.iter().map(note)).collect()
    };
    let (want, found) = (all(want), all(found));
    let length = want.len().max(found.len());
    let differs = (0..length).find(|index| want.get(*index) != found.get(*index))?;
    want.get(differs).or_else(|| found.get(differs)).map(|(place, _)| place.clone())
}
