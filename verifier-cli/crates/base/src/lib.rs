//! What every other crate of the client may use: durations and digests as people write them, configuration files, locks on
//! directories, and how progress is reported.

#![warn(missing_docs)]

pub mod config_file;
pub mod digest;
pub mod directory_lock;
pub mod duration;
pub mod progress;
