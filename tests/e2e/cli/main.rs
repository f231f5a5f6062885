//! The commands of `taglog` that a user or a CI job runs: `init`, `observe`, `verify`, `history`, `inspect`, `pin`,
//! `policy`, `approve`;
//! and what any command may write to a terminal.

// A test fails where it unwraps.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod cosigner_quorum;
mod directories;
mod file_cases;
mod inspect;
mod ml_dsa_keys;
mod multiple_logs;
mod observe;
mod offline_proofs;
mod output;
mod pin;
mod policy;
mod rebuilt_images;
mod terminal_output;
mod trust_and_memory;
mod verdicts;
mod verify;
mod verify_files;
