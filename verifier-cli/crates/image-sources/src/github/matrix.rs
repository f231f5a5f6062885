//! The jobs that `strategy.matrix` makes of one (docs.github.com, "Running variations of jobs in a workflow").

use std::{cell::Cell, collections::BTreeMap};

use super::expression::UNKNOWN;
use crate::yaml::Node;

/// GitHub makes no more jobs of one matrix.
const MAX_COMBINATIONS: usize = 256;
/// Axes of a matrix, and values that one entry adds.
const MAX_KEYS: usize = 64;
/// Combinations evaluated in one file: limits the time for many jobs that share a matrix.
const MAX_LOOKED_AT: usize = 200_000;

/// The values of one job; keys in lower case, since expressions do not tell it apart.
pub type Combination<'a> = BTreeMap<String, &'a Node>;
/// All jobs of a matrix, or why they are not known.
pub type Combinations<'a> = Result<Vec<Combination<'a>>, String>;

/// What is left of [`MAX_LOOKED_AT`].
pub struct Budget(Cell<usize>);

impl Default for Budget {
    fn default() -> Budget {
        Budget(Cell::new(MAX_LOOKED_AT))
    }
}

impl Budget {
    /// Takes a number of combinations off.
    pub fn take(&self, count: usize) -> Result<(), String> {
        let left = self.0.get().checked_sub(count);
        self.0.set(left.unwrap_or(0));
        left.map(drop).ok_or_else(|| "too many jobs in the matrices of this file: split it".to_owned())
    }
}

/// The combinations for a job. An axis that is an expression has that as its value.
pub fn combinations(job: &Node) -> Combinations<'_> {
    let Some(matrix) = job.at(&["strategy", "matrix"]).filter(|matrix| !matrix.is_null()) else {
        return Err(UNKNOWN.to_owned());
    };
    if !matrix.is_mapping() {
        return Err("the matrix is an expression, so that only a run of the workflow knows its values".to_owned());
    }
    let axes: Vec<(String, Vec<&Node>)> = matrix
        .entries()
        .filter(|(key, _)| !matches!(*key, "include" | "exclude"))
        .map(|(key, values)| {
            let items = if values.is_sequence() { values.items().collect() } else { vec![values] };
            (key.to_lowercase(), items)
        })
        .collect();
    if axes.len() > MAX_KEYS {
        return Err(format!("the matrix has over {MAX_KEYS} axes"));
    }
    let mut all = product(&axes)?;
    for entry in entries(matrix, "exclude")? {
        all.retain(|combination| !entry.entries().all(|(key, value)| has(combination, key, value)));
    }
    include(&mut all, &axes, entries(matrix, "include")?)?;
    Ok(all)
}

fn entries<'a>(matrix: &'a Node, key: &str) -> Result<Vec<&'a Node>, String> {
    let Some(list) = matrix.get(key).filter(|list| !list.is_null()) else { return Ok(Vec::new()) };
    let is_small = |entry: &Node| entry.is_mapping() && entry.entries().count() <= MAX_KEYS;
    if list.is_sequence() && list.items().all(is_small) && list.items().count() <= MAX_COMBINATIONS {
        return Ok(list.items().collect());
    }
    Err(format!("{key} of the matrix is an expression or too long, so that its values are not known here"))
}

fn product<'a>(axes: &[(String, Vec<&'a Node>)]) -> Combinations<'a> {
    if axes.is_empty() {
        return Ok(Vec::new());
    }
    let mut all = vec![Combination::new()];
    for (key, values) in axes {
        if all.len().saturating_mul(values.len()) > MAX_COMBINATIONS {
            return Err(format!("the matrix has over {MAX_COMBINATIONS} jobs, which GitHub does not allow"));
        }
        let with = |combination: &Combination<'a>, value: &'a Node| {
            let mut combination = combination.clone();
            combination.insert(key.clone(), value);
            combination
        };
        all = all.iter().flat_map(|combination| values.iter().map(|value| with(combination, value))).collect();
    }
    Ok(all)
}

/// Adds what is included: to each combination of which no value of the axes is overwritten, and if there is none, as a
/// combination of its own.
fn include<'a>(
    all: &mut Vec<Combination<'a>>,
    axes: &[(String, Vec<&'a Node>)],
    entries: Vec<&'a Node>,
) -> Result<(), String> {
    let of_axes = all.len();
    for entry in entries {
        let is_axis = |key: &str| axes.iter().any(|(axis, _)| axis.eq_ignore_ascii_case(key));
        let mut fits = false;
        for combination in all.iter_mut().take(of_axes) {
            if entry.entries().all(|(key, value)| !is_axis(key) || has(combination, key, value)) {
                fits = true;
                combination.extend(entry.entries().map(|(key, value)| (key.to_lowercase(), value)));
            }
        }
        if !fits {
            all.push(entry.entries().map(|(key, value)| (key.to_lowercase(), value)).collect());
        }
    }
    Ok(())
}

/// Whether a combination has this value. Only texts are compared, and a quoted one is not the number that is written
/// like it (`reflect.DeepEqual` in nektos/act): what is wrongly taken for different is one more combination.
fn has(combination: &Combination<'_>, key: &str, value: &Node) -> bool {
    let is_plain = |node: &Node| node.text().is_some_and(|text| text.len() == node.span().len());
    let own = combination.get(&key.to_lowercase());
    own.is_some_and(|own| own.text().is_some() && own.text() == value.text() && is_plain(own) == is_plain(value))
}
