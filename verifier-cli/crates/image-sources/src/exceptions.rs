//! What of the files is deliberately not checked.

use std::{fmt, path::Path};

use super::model::{Excluded, FoundImage, LeftOut, Place, ScanResult};
use taglog_base::text::one_line;

/// Decides what of the files is deliberately not checked. Each answer is the reason, if there is one.
pub trait Exceptions: fmt::Debug + Send + Sync {
    /// Why a file is not read at all.
    fn of_file(&self, path: &Path) -> Option<String>;

    /// Why an image is not checked.
    fn of_image(&self, image: &FoundImage) -> Option<String>;

    /// Why it is accepted that something is left out.
    fn of_left_out(&self, left_out: &LeftOut) -> Option<String>;
}

/// The result for a file that is not read.
pub fn excluded_file(path: &Path, exceptions: Option<&dyn Exceptions>) -> Option<ScanResult> {
    let reason = exceptions?.of_file(path)?;
    let place = Place { file: path.display().to_string(), line: 1 };
    let excluded = Excluded { place, what: "the whole file".to_owned(), reason: one_line(&reason) };
    Some(ScanResult { excluded: vec![excluded], ..ScanResult::default() })
}

/// Takes what is not checked out of the images and the notes.
pub fn exclude(found: &mut ScanResult, exceptions: Option<&dyn Exceptions>) {
    let Some(exceptions) = exceptions else { return };
    let excluded = &mut found.excluded;
    let mut keep = |place: &Place, what: &str, reason: Option<String>| {
        let kept = reason.is_none();
        let entry = |reason: String| Excluded { place: place.clone(), what: one_line(what), reason: one_line(&reason) };
        excluded.extend(reason.map(entry));
        kept
    };
    found.images.retain(|image| keep(&image.place, &image.written, exceptions.of_image(image)));
    found.left_out.retain(|note| keep(&note.place, &note.reason, exceptions.of_left_out(note)));
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{Options, read_bytes, read_with};

    /// Excludes files, names and reasons that contain a word.
    #[derive(Debug)]
    struct Containing(&'static str);

    impl Containing {
        fn reason(&self, text: &str) -> Option<String> {
            text.contains(self.0).then(|| "reviewed".to_owned())
        }
    }

    impl Exceptions for Containing {
        fn of_file(&self, path: &Path) -> Option<String> {
            self.reason(&path.display().to_string())
        }

        fn of_image(&self, image: &FoundImage) -> Option<String> {
            self.reason(&image.written)
        }

        fn of_left_out(&self, left_out: &LeftOut) -> Option<String> {
            self.reason(&left_out.reason)
        }
    }

    fn options(word: &'static str) -> Options {
        Options { exceptions: Some(Arc::new(Containing(word))), ..Options::default() }
    }

    #[test]
    fn what_is_excluded_is_listed() {
        let text = b"FROM a:1\nFROM local/b\nFROM c:$V\n";
        let found = |word| read_bytes(Path::new("Dockerfile"), text, &options(word)).unwrap();
        let image = found("local");
        assert_eq!((image.images.len(), image.left_out.len()), (1, 1));
        assert_eq!(
            image.excluded.iter().map(|e| (e.place.line, e.what.as_str())).collect::<Vec<_>>(),
            [(2, "local/b")]
        );
        let note = found("V");
        assert_eq!((note.images.len(), note.left_out.len(), note.excluded.len()), (2, 0, 1));
        let whole = found("Dockerfile");
        assert_eq!((whole.images.len(), whole.left_out.len(), whole.excluded.len()), (0, 0, 1));
    }

    #[test]
    fn an_excluded_file_is_not_opened() {
        let tree = tempfile::tempdir().unwrap();
        let path = tree.path().join("broken.yaml");
        std::fs::write(&path, "a: [\n").unwrap();
        std::os::unix::fs::symlink("nowhere", tree.path().join("gone.yaml")).unwrap();
        let named = read_with(&[path], &options("broken")).unwrap();
        assert_eq!(named.excluded.len(), 1);
        let walked = read_with(&[tree.path().to_owned()], &options("broken")).unwrap();
        assert_eq!((walked.excluded.len(), walked.left_out.len()), (1, 1));
        let walked = read_with(&[tree.path().to_owned()], &options("link")).unwrap();
        assert_eq!((walked.excluded.len(), walked.left_out.len()), (1, 1));
    }
}
