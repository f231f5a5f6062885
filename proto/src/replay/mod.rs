//! What follows from entries: the rules they obey, the index they make, and what proves that a log broke a rule.

pub mod audit;
pub mod evidence;
pub mod index;
pub mod rules;
