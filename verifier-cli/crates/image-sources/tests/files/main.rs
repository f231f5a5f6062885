//! Files that name images: a corpus in this repository, and public files where they were fetched.
#![allow(clippy::unwrap_used, clippy::expect_used)] // What fails in here fails the test.

mod corpus;
mod public;
