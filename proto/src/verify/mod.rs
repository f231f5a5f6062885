//! What a verifier of a tag runs: one signed checkpoint, one multiproof, the proofs of the tag index.

pub mod multiproof;
pub mod prefix_tree;
pub mod tag_proof;
