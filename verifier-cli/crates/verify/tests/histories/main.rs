//! When a tag moved: recorded histories of real tags, one real rebuild changed in one place at a time, documents
//! that nobody honest would push, and the sources of manifests.
#![allow(clippy::unwrap_used, clippy::expect_used)] // What fails in here fails the test.

mod corpus;
mod hostile;
mod mutations;
mod sources;
mod world;
