//! The witness agent: watches registries, signs what it saw, and reports it to logs.

pub mod alarm;
pub mod clock;
pub mod config;
pub mod decision;
pub mod deliver;
pub mod push;
pub mod selection;
pub mod spool;
