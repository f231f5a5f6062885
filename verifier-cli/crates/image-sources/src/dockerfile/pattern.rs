//! Patterns in `${NAME#pattern}`, `${NAME%pattern}` and `${NAME/pattern/replacement}` (moby/buildkit,
//! frontend/dockerfile/shell/lex.go, `convertShellPatternToRegex`).

use regex::Regex;

/// The longest pattern in bytes, which bounds the time.
const MAX_PATTERN: usize = 128;

/// The value without the shortest or, with the operator doubled, the longest match at its begin (`#`) or end (`%`).
pub fn trim(value: &str, word: &str, operator: char) -> Option<String> {
    let (pattern, greedy) = word.strip_prefix(operator).map_or((word, false), |pattern| (pattern, true));
    if operator == '#' {
        return without_prefix(value, pattern, greedy);
    }
    let reversed = without_prefix(&reverse(value), &reverse_pattern(pattern), greedy)?;
    Some(reverse(&reversed))
}

/// The value with the first match or all replaced.
pub fn replace(value: &str, pattern: &str, replacement: &str, all: bool) -> Option<String> {
    let pattern = to_regex(pattern, true, false)?;
    // In a replacement of all matches Go's library gives `$` a meaning.
    if all && replacement.contains('$') {
        return None;
    }
    let limit = usize::from(!all);
    Some(pattern.replacen(value, limit, regex::NoExpand(replacement)).into_owned())
}

fn without_prefix(value: &str, pattern: &str, greedy: bool) -> Option<String> {
    let end = to_regex(pattern, greedy, true)?.find(value).map_or(0, |found| found.end());
    Some(value[end..].to_owned())
}

fn to_regex(pattern: &str, greedy: bool, anchored: bool) -> Option<Regex> {
    if pattern.len() > MAX_PATTERN {
        return None;
    }
    let mut regex = if anchored { "^".to_owned() } else { String::new() };
    let mut rest = pattern.strip_prefix('\u{feff}').unwrap_or(pattern).chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '*' => regex.push_str(if greedy { ".*" } else { ".*?" }),
            '?' => regex.push('.'),
            '\\' if matches!(rest.peek(), Some('}' | '/')) => {}
            '\\' => {
                let escaped = rest.next().filter(|c| matches!(c, '*' | '?' | '\\'))?;
                regex.push_str(&regex::escape(&escaped.to_string()));
            }
            c => regex.push_str(&regex::escape(&c.to_string())),
        }
    }
    Regex::new(&regex).ok()
}

fn reverse(text: &str) -> String {
    text.chars().rev().collect()
}

/// Reverses a pattern, but leaves each escape before what it escapes.
fn reverse_pattern(pattern: &str) -> String {
    let mut pieces = Vec::new();
    let mut rest = pattern.chars();
    while let Some(c) = rest.next() {
        match (c, rest.clone().next()) {
            ('\\', Some(escaped)) => {
                rest.next();
                pieces.push(vec![c, escaped]);
            }
            _ => pieces.push(vec![c]),
        }
    }
    pieces.into_iter().rev().flatten().collect()
}
