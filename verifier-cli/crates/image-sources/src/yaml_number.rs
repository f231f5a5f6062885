//! Plain YAML scalars that parsers take for numbers: `3.10` becomes `3.1` where it is put into a text again.

use std::sync::LazyLock;

use regex::Regex;

use super::{scan::FileScan, yaml::Node};

/// What YAML 1.1 and 1.2 parsers take for a number: decimal, octal, hexadecimal, binary, with an exponent, with
/// underscores, or of base 60 (yaml.org/type/int, yaml.org/type/float; YAML 1.2.2 section 10.3.2).
static NUMBER: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let decimal = r"[0-9][0-9_]*(\.[0-9_]*)?([eE][-+]?[0-9]+)?";
    let others =
        r"\.[0-9_]+([eE][-+]?[0-9]+)?|0x[0-9a-fA-F_]+|0o[0-7_]+|0b[01_]+|[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?";
    Regex::new(&format!("^[-+]?({decimal}|{others})$")).ok()
});

/// Numbers that every parser writes as they were written.
static UNCHANGED: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"^(0|[1-9][0-9]{0,14}|(0|[1-9][0-9]{0,8})\.[0-9]{0,5}[1-9])$").ok());

/// The text of a scalar that is used within another text.
///
/// # Errors
/// A number that the parser of another program would write differently, and what is not a scalar.
pub fn scalar_text<'n>(node: &'n Node, scan: &FileScan<'_>) -> Result<&'n str, String> {
    if node.is_null() {
        return Ok("");
    }
    let Some(text) = node.text() else { return Err("a list or a mapping stands where a text belongs".to_owned()) };
    let matches = |regex: &LazyLock<Option<Regex>>| regex.as_ref().is_some_and(|regex| regex.is_match(text));
    let plain = !scan.scalar_source(node).starts_with(['"', '\'', '|', '>']);
    if plain && matches(&NUMBER) && !matches(&UNCHANGED) {
        return Err(format!("{text} is a number to YAML, and may be written as another one: put it in quotes"));
    }
    Ok(text)
}
