//! A file with digests after the names of its images.

use taglog_proto::name::{Digest, Reference};
use thiserror::Error;

use super::edit::{Edit, apply};
use taglog_image_sources::{FoundImage, LeftOut, Options, Place, ScanResult, SourceFile, read_bytes};

/// Why a file cannot be rewritten.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{place}: with digests in it the file would no longer name the same images: write them by hand")]
pub struct RewriteError {
    /// The first image that differs, or the file.
    pub place: Place,
}

/// The name of an image with its tag and this digest: what stood before the digest stays as it was.
pub fn pinned_name(name: &str, reference: &Reference, digest: &Digest) -> String {
    let unpinned = name.split_once('@').map_or(name, |(unpinned, _)| unpinned);
    // A digest without a tag would hide what it was pinned for.
    let latest = if reference.tag.is_none() { ":latest" } else { "" };
    format!("{unpinned}{latest}@{digest}")
}

/// The bytes of a file with the digest that `digest_of` gives after each image. Images that are not written as one
/// literal stay as they are, and so do those without a digest.
///
/// The result is read again before it is given out: it must name the same images in the same lines, and only their
/// digests may differ.
///
/// # Errors
/// [`RewriteError`], if it does not.
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

/// Where two readings name different images first; spans and spellings differ when a file was rewritten.
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
