//! Expressions (`${{ … }}`) of which the file tells the value: those of the matrix, and texts.

use super::matrix::Combination;
use crate::{scan::FileScan, yaml::Node, yaml_number::scalar_text};

/// Why an expression has no value here.
pub const UNKNOWN: &str =
    "an expression (${{ … }}) that only a run of the workflow can evaluate: write the image out, or into the matrix";

/// The text with each expression replaced by its value in a job.
///
/// # Errors
/// An expression that is not understood, or whose value is not in the file.
pub fn evaluate(text: &str, job: &Combination<'_>, scan: &FileScan) -> Result<String, String> {
    let (mut value, mut rest) = (String::new(), text);
    while let Some((before, after)) = rest.split_once("${{") {
        let (expression, after) = after.split_once("}}").ok_or_else(|| UNKNOWN.to_owned())?;
        value.push_str(before);
        value.push_str(&any_of(expression, job, scan)?);
        rest = after;
    }
    value.push_str(rest);
    Ok(value)
}

/// The image of a container that is wholly an expression for a mapping in the matrix; `None` if it is anything else.
pub fn evaluate_whole(text: &str, job: &Combination<'_>, scan: &FileScan) -> Option<Result<String, String>> {
    let expression = text.trim().strip_prefix("${{")?.strip_suffix("}}")?;
    let container = path(expression.trim()).and_then(|path| find(&path, job)).filter(|node| node.is_mapping())?;
    Some(container.get("image").map_or(Ok(String::new()), |image| known_text(image, scan)))
}

/// `A || B`: the first that is not empty, or the last. A number 0 is false and a text "0" is not, so that neither it nor
/// `false` is evaluated.
fn any_of(expression: &str, job: &Combination<'_>, scan: &FileScan) -> Result<String, String> {
    let mut value = String::new();
    for operand in expression.split("||") {
        value = operand_value(operand.trim(), job, scan)?;
        match value.as_str() {
            "" => {}
            "false" | "0" => return Err(UNKNOWN.to_owned()),
            _ => break,
        }
    }
    Ok(value)
}

fn operand_value(operand: &str, job: &Combination<'_>, scan: &FileScan) -> Result<String, String> {
    if let Some(literal) = operand.strip_prefix('\'').and_then(|operand| operand.strip_suffix('\'')) {
        let plain = !literal.contains('\'');
        return plain.then(|| literal.to_owned()).ok_or_else(|| UNKNOWN.to_owned());
    }
    let path = path(operand).ok_or_else(|| UNKNOWN.to_owned())?;
    find(&path, job).map_or(Ok(String::new()), |node| known_text(node, scan))
}

/// The keys of `matrix.a.b` or `matrix['a']`.
fn path(expression: &str) -> Option<Vec<String>> {
    let is_key = |key: &str| !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
    let dotted = expression.replace("['", ".").replace("']", "");
    let mut keys = dotted.split('.').map(|key| key.trim().to_lowercase());
    let keys: Vec<String> = keys.next().filter(|context| context == "matrix").map(|_| keys.collect())?;
    (!keys.is_empty() && keys.iter().all(|key| is_key(key))).then_some(keys)
}

fn find<'a>(path: &[String], job: &Combination<'a>) -> Option<&'a Node> {
    let (first, rest) = path.split_first()?;
    let under =
        |node: &'a Node, key: &String| node.entries().find(|(own, _)| own.to_lowercase() == *key).map(|(_, node)| node);
    let start = job.get(first).copied()?;
    // A key below an expression is as unknown as the expression.
    rest.iter().try_fold(start, |node, key| if node.text().is_some() { Some(node) } else { under(node, key) })
}

fn known_text(node: &Node, scan: &FileScan) -> Result<String, String> {
    let text = scalar_text(node, scan)?;
    if text.contains("${{") { Err(UNKNOWN.to_owned()) } else { Ok(text.to_owned()) }
}
