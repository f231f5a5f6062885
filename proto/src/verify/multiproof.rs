//! One proof that several leaves are in the tree of a signed checkpoint.
//!
//! The tree is RFC 6962's; rs_merkle computes it from the leaves and the fewest further nodes. Its
//! own checking is lax (left-over hashes, repeated and out-of-range indices, sizes on trust), so
//! everything is checked here before its `root` is called.

use rs_merkle::{Hasher, MerkleProof, utils::indices::proof_indices_by_layers};

use crate::c2sp::{
    OperationError,
    merkle::{Hash, NodeReader, ProofError, ProveError, leaf_hash, node_hash, subtree_root},
};

/// The most leaves that one multiproof may prove: rs_merkle's index selection is quadratic.
pub const MAX_LEAVES: usize = 4096;

/// RFC 6962 hashing for rs_merkle: an unpaired node moves up as it is.
#[derive(Clone)]
struct Rfc6962;

impl Hasher for Rfc6962 {
    type Hash = [u8; 32];

    fn hash(data: &[u8]) -> [u8; 32] {
        leaf_hash(data).0
    }

    fn concat_and_hash(left: &[u8; 32], right: Option<&[u8; 32]>) -> [u8; 32] {
        match right {
            Some(right) => node_hash(&Hash(*left), &Hash(*right)).0,
            None => *left,
        }
    }
}

/// The nodes that must be known besides the leaves at `indices` to compute the root of `size`
/// leaves: (layer, index within the layer), layer by layer from the leaves, left to right.
fn helper_positions(indices: &[u64], size: u64) -> Vec<(u8, u64)> {
    let mut positions = Vec::new();
    let (mut layer, mut width, mut known) = (0, size, indices.to_vec());
    while width > 1 {
        let mut parents = Vec::with_capacity(known.len());
        for (i, &node) in known.iter().enumerate() {
            let sibling = node ^ 1;
            let neighbour = if node & 1 == 0 { known.get(i + 1) } else { i.checked_sub(1).and_then(|j| known.get(j)) };
            if sibling < width && neighbour != Some(&sibling) {
                positions.push((layer, sibling));
            }
            if parents.last() != Some(&(node >> 1)) {
                parents.push(node >> 1);
            }
        }
        (layer, width, known) = (layer + 1, width.div_ceil(2), parents);
    }
    positions
}

fn check_indices(indices: &[u64], size: u64) -> Result<(), ProofError> {
    let increasing = indices.windows(2).all(|pair| pair[0] < pair[1]);
    let last = *indices.last().ok_or(ProofError::BadIndices)?;
    if !increasing || indices.len() > MAX_LEAVES {
        return Err(ProofError::BadIndices);
    }
    if last >= size {
        return Err(ProofError::IndexOutOfRange { index: last, size });
    }
    Ok(())
}

/// Builds the proof that the leaves at `indices` (strictly increasing, 1 to [`MAX_LEAVES`]) are in
/// the tree of the first `size` leaves.
///
/// # Errors
/// [`ProofError::BadIndices`] and [`ProofError::IndexOutOfRange`] as refusals.
pub fn build<R: NodeReader>(reader: &R, indices: &[u64], size: u64) -> Result<Vec<Hash>, ProveError<R>> {
    check_indices(indices, size).map_err(OperationError::Refused)?;
    let node = |(layer, index): (u8, u64)| {
        let start = index << layer;
        subtree_root(reader, start, size.min(start + (1 << layer))).map_err(OperationError::Reader)
    };
    helper_positions(indices, size).into_iter().map(node).collect()
}

/// Checks that the leaves, given as (index, entry bytes), are in the tree of `size` leaves with
/// this root. `size` and `root` must come from a signed checkpoint.
///
/// # Errors
/// No leaves or over [`MAX_LEAVES`], indices that do not strictly increase or are not below `size`,
/// a number of hashes other than exactly what is needed, or another root.
pub fn verify(leaves: &[(u64, &[u8])], size: u64, proof: &[Hash], root: &Hash) -> Result<(), ProofError> {
    let indices: Vec<u64> = leaves.iter().map(|(index, _)| *index).collect();
    check_indices(&indices, size)?;
    let too_large = |_| ProofError::IndexOutOfRange { index: size, size };
    let size = usize::try_from(size).map_err(too_large)?;
    let indices: Vec<usize> = indices.into_iter().map(usize::try_from).collect::<Result<_, _>>().map_err(too_large)?;

    let needed: usize = proof_indices_by_layers(&indices, size).iter().map(Vec::len).sum();
    if proof.len() != needed {
        return Err(ProofError::WrongLength { got: proof.len() });
    }
    let hashes: Vec<[u8; 32]> = leaves.iter().map(|(_, data)| leaf_hash(data).0).collect();
    let proof = MerkleProof::<Rfc6962>::new(proof.iter().map(|hash| hash.0).collect());
    match proof.root(&indices, &hashes, size) {
        Ok(computed) if computed == root.0 => Ok(()),
        _ => Err(ProofError::WrongRoot),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The linear selection here and rs_merkle's must agree, else honest proofs would be refused.
    #[test]
    fn helper_positions_are_those_of_rs_merkle() {
        for size in 1..70u64 {
            for seed in 1..60u64 {
                let chosen: Vec<u64> =
                    (0..size).filter(|i| (i * 2654435761 + seed * 40503) % 7 < seed % 7 + 1).collect();
                if chosen.is_empty() {
                    continue;
                }
                let theirs: Vec<(u8, u64)> =
                    proof_indices_by_layers(&chosen.iter().map(|i| *i as usize).collect::<Vec<_>>(), size as usize)
                        .into_iter()
                        .enumerate()
                        .flat_map(|(layer, nodes)| nodes.into_iter().map(move |n| (layer as u8, n as u64)))
                        .collect();
                assert_eq!(helper_positions(&chosen, size), theirs, "size {size}, indices {chosen:?}");
            }
        }
    }
}
