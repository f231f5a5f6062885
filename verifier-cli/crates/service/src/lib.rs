//! What programs that run for long share: how they serve HTTP, and that none of their tasks ends unnoticed.

pub mod listener;
pub mod parts;
