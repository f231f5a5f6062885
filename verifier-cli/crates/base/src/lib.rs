//! What every other crate may use: text that is safe to show, durations and digests as people write them, configuration
//! files, places in files, locks on directories, and how progress is reported.

#![warn(missing_docs)]

pub mod config_file;
pub mod digest;
pub mod directory_lock;
pub mod duration;
pub mod place;
pub mod progress;
pub mod text;
