//! What every other crate of the client may use: texts for people, durations and digests as people write them,

#![warn(missing_docs)]
//! configuration files, and how progress is reported.

pub mod config_file;
pub mod digest;
pub mod duration;
pub mod progress;
