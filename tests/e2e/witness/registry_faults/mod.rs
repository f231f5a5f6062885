//! Registries that are sick, slow or hostile, a clock that jumps, a disk that is full or damaged: the witness agent
//! names each fault, signs nothing false, and reports everything else all the same.

// A test fails where it unwraps.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod cli_common;
mod witness_scene;

#[path = "witness_faults/answers.rs"]
mod answers;
#[path = "witness_faults/clock.rs"]
mod clock;
#[path = "witness_faults/disk.rs"]
mod disk;
#[path = "witness_faults/gone.rs"]
mod gone;
#[path = "witness_faults/lists.rs"]
mod lists;
#[path = "witness_faults/pauses.rs"]
mod pauses;
#[path = "witness_faults/privacy.rs"]
mod privacy;
