//! `taglog witness`: operation, configuration, and every fault of registries, logs, clocks and disks.

// A test fails where it unwraps.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod clock;
mod configuration;
mod disk;
mod import;
mod log_faults;
mod once;
mod outages;
mod push_record;
mod registry_faults;
mod reload;
mod run;
