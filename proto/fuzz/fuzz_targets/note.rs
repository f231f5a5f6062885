#![no_main]
//! Notes.

use libfuzzer_sys::fuzz_target;
use taglog_proto::note::Note;
use taglog_proto_fuzz::{HISTORY, one_spelling};

fuzz_target!(|data: &[u8]| {
    one_spelling(data, |_| Note::parse(data));
    if let Ok(note) = Note::parse(data)
        && note.verify(HISTORY.key.verifier_key()).is_ok()
    {
        // Only the history's own checkpoint is signed by this key.
        assert_eq!(note.text, HISTORY.checkpoint.note().text);
    }
});
