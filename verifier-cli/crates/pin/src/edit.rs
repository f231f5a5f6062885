//! Replaces ranges of bytes, and keeps every other byte.

use std::ops::Range;

use thiserror::Error;

/// New text for a range of bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Edit {
    /// The first byte that is replaced.
    pub start: usize,
    /// The end of the range, exclusive.
    pub end: usize,
    /// The new text.
    pub text: String,
}

impl Edit {
    /// `text` in place of the bytes at `span`.
    pub fn new(span: Range<usize>, text: String) -> Edit {
        Edit { start: span.start, end: span.end, text }
    }
}

/// The edits overlap, or reach beyond the end of the file.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("two edits of the same bytes, or one beyond the end of the file")]
pub struct EditError;

/// Applies all edits. Equal edits are applied once: two YAML aliases share one anchor.
pub fn apply(bytes: &[u8], mut edits: Vec<Edit>) -> Result<Vec<u8>, EditError> {
    edits.sort();
    edits.dedup();
    let mut edited = Vec::with_capacity(bytes.len());
    let mut done = 0;
    for edit in edits {
        if edit.start < done || edit.end < edit.start {
            return Err(EditError);
        }
        edited.extend_from_slice(bytes.get(done..edit.start).ok_or(EditError)?);
        edited.extend_from_slice(edit.text.as_bytes());
        done = edit.end;
    }
    edited.extend_from_slice(bytes.get(done..).ok_or(EditError)?);
    Ok(edited)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn edited(edits: &[(Range<usize>, &str)]) -> Result<String, EditError> {
        let edits = edits.iter().map(|(span, text)| Edit::new(span.clone(), (*text).to_owned())).collect();
        apply(b"0123456789", edits).map(|bytes| String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn edits_apply_in_any_order() {
        assert_eq!(edited(&[]).as_deref(), Ok("0123456789"));
        assert_eq!(edited(&[(8..10, "z"), (0..1, "aaa"), (3..3, "-")]).as_deref(), Ok("aaa12-34567z"));
        assert_eq!(edited(&[(2..4, "x"), (2..4, "x"), (4..5, "y")]).as_deref(), Ok("01xy56789"));
    }

    #[test]
    #[allow(clippy::reversed_empty_ranges)] // A reversed range is one of the cases.
    fn edits_that_overlap_or_reach_beyond_the_end_are_refused() {
        for edits in [&[(2..4, "x"), (2..4, "y")][..], &[(2..4, "x"), (3..5, "y")], &[(9..11, "")], &[(4..2, "")]] {
            assert_eq!(edited(edits), Err(EditError), "{edits:?}");
        }
    }

    proptest! {
        #[test]
        fn bytes_outside_the_edits_are_kept(bytes: Vec<u8>, cuts in prop::collection::vec((any::<usize>(), 0..9usize, "[a-z]{0,9}"), 0..9)) {
            let edits: Vec<Edit> = cuts
                .iter()
                .map(|(at, length, text)| {
                    let start = at % (bytes.len() + 1);
                    Edit::new(start..(start + length).min(bytes.len()), text.clone())
                })
                .collect();
            if let Ok(edited) = apply(&bytes, edits.clone()) {
                let mut sorted = edits;
                sorted.sort();
                sorted.dedup();
                // Undoing the edits from first to last gives the old bytes.
                let (mut undone, mut at, mut done) = (Vec::new(), 0, 0);
                for edit in sorted {
                    let kept = edit.start - done;
                    undone.extend_from_slice(&edited[at..at + kept]);
                    prop_assert_eq!(&edited[at + kept..at + kept + edit.text.len()], edit.text.as_bytes());
                    undone.extend_from_slice(&bytes[edit.start..edit.end]);
                    (at, done) = (at + kept + edit.text.len(), edit.end);
                }
                undone.extend_from_slice(&edited[at..]);
                prop_assert_eq!(undone, bytes);
            }
        }
    }
}
