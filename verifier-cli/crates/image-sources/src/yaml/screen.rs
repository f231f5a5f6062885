//! Characters and lines that the programs that read YAML take for different things, whatever is around them.

use crate::model::SyntaxError;

/// Refuses a text that contains any of them.
pub fn check(text: &str) -> Result<(), SyntaxError> {
    for (index, line) in text.split('\n').enumerate() {
        let problem = line.chars().find_map(character_problem).or_else(|| line_problem(line));
        if let Some(reason) = problem {
            return Err(SyntaxError { line: index + 1, reason });
        }
    }
    Ok(())
}

fn character_problem(character: char) -> Option<String> {
    let code = u32::from(character);
    let what = match character {
        '\u{85}' | '\u{2028}' | '\u{2029}' => "a line end to some YAML parsers and not to others",
        '\u{feff}' => "a byte order mark, which some YAML parsers skip and others take for text",
        '\t' | '\r' | ' '..='~' => return None,
        '\0'..='\u{9f}' | '\u{fffe}' | '\u{ffff}' => "a control character, which YAML does not allow",
        _ => return None,
    };
    Some(format!("the character U+{code:04X} is {what}: remove it, or write it as an escape in double quotes"))
}

fn line_problem(line: &str) -> Option<String> {
    if line.starts_with("%TAG") {
        return Some("a %TAG directive, which gives tags another meaning: write the tags out".to_owned());
    }
    // kubectl splits a file at these lines before it parses YAML (k8s.io/apimachinery, pkg/util/yaml, YAMLReader).
    let rest = line.strip_prefix("---")?;
    let ends = |rest: &str| rest.is_empty() || rest.starts_with('#');
    let splits_for_kubectl = ends(rest.trim());
    let splits_for_parsers = ends(rest.trim_matches([' ', '\t', '\r'])) && !rest.starts_with('#');
    let reason = "a line that only kubectl takes for the end of a document: put a space after '---'";
    (splits_for_kubectl && !splits_for_parsers).then(|| reason.to_owned())
}
