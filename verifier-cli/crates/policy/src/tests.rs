//! Tests of verdicts on synthetic histories, and of policy and lock files.

mod files;
mod locks;
mod make;
mod moves;
mod settling;
mod totality;
mod verdicts;
