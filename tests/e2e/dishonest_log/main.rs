//! A log that lies in every way listed in `verifier-cli/docs/ATTACKS.md`, and who detects it. Tests have the name of the
//! attack; an attack that verifiers cannot detect has a test in `verifier` that shows so, and one in `auditor` that shows
//! who can.

// A test fails where it unwraps.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod auditor;
mod forged_responses;
mod verifier;
