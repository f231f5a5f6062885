//! `taglog cosign serve`: the protocol of c2sp.org/tlog-witness, and the audit before each cosignature.

// A test fails where it unwraps.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod audit;
mod protocol;
