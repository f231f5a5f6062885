//! The witness agent: watches registries, signs what it saw, and reports it to logs.

pub mod push;
