//! Directives: the comments at the top that say how the file is read (moby/buildkit, frontend/dockerfile/parser/directives.go).

use std::{collections::HashSet, ops::Range, sync::LazyLock};

use regex::Regex;

use super::{
    dialect::Directives,
    text::{Text, trim_start},
};

static DIRECTIVE: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"^([a-zA-Z][a-zA-Z0-9]*)[\t\n\f\r ]*=[\t\n\f\r ]*(.+?)[\t\n\f\r ]*$").ok());
/// openshift/imagebuilder, dockerfile/parser/parser.go.
static PODMAN: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"^(?i)#[ \t]*escape[ \t]*=[ \t]*(.).*$").ok());

/// Where the image is named that BuildKit runs to read the file (docs.docker.com, "Custom Dockerfile syntax"): among the
/// directives at the top, which a line for a shell (`#!`) may precede. What follows the name is for the frontend.
pub fn syntax(text: &str) -> Option<Range<usize>> {
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let shell = at == 0 && line.starts_with("#!");
        if !shell {
            let line = line.strip_suffix('\n').unwrap_or(line);
            let line = line.strip_suffix('\r').unwrap_or(line);
            let comment = line.strip_prefix('#')?.trim_start();
            let directive = DIRECTIVE.as_ref()?.captures(comment)?;
            match directive[1].to_ascii_lowercase().as_str() {
                "syntax" => {
                    let value = directive.get(2)?;
                    let start = at + line.len() - comment.len() + value.start();
                    return Some(start..start + value.as_str().find(' ').unwrap_or(value.len()));
                }
                "escape" | "check" => {}
                _ => return None,
            }
        }
        at += line.len();
    }
    None
}

/// Looks for directives until a line is none.
pub struct DirectiveReader {
    kind: Directives,
    seen: HashSet<String>,
    done: bool,
    pub escape: u8,
}

impl DirectiveReader {
    pub fn new(kind: Directives) -> DirectiveReader {
        DirectiveReader { kind, seen: HashSet::new(), done: false, escape: b'\\' }
    }

    /// Takes the next line, without its end.
    ///
    /// # Errors
    /// A directive that is given twice, or an escape character that is none.
    pub fn line(&mut self, text: &Text, line: Range<usize>) -> Result<(), String> {
        if self.done {
            return Ok(());
        }
        let Some((name, value)) = self.directive(text, line) else {
            self.done = true;
            return Ok(());
        };
        if !self.seen.insert(name.clone()) {
            return Err(format!("the directive {name} is given twice: remove one"));
        }
        match (name.as_str(), value.as_str()) {
            ("escape", "\\") => self.escape = b'\\',
            ("escape", "`") => self.escape = b'`',
            ("escape", _) => return Err(format!("the escape character is {value:?}: want \\ or `")),
            _ => {}
        }
        Ok(())
    }

    fn directive(&self, text: &Text, line: Range<usize>) -> Option<(String, String)> {
        let line = String::from_utf8_lossy(&text.bytes()[line]);
        let Directives::BuildKit { check, unicode_blanks } = self.kind else {
            let escape = PODMAN.as_ref()?.captures(&line)?;
            return Some(("escape".to_owned(), escape[1].to_owned()));
        };
        let comment = line.strip_prefix('#')?;
        let comment = comment.trim_start_matches(|c: char| match c {
            '\t' | '\n' | '\x0c' | '\r' | ' ' => true,
            c => unicode_blanks && c.is_whitespace(),
        });
        let directive = DIRECTIVE.as_ref()?.captures(comment)?;
        let name = directive[1].to_ascii_lowercase();
        let known = matches!(name.as_str(), "syntax" | "escape") || (check && name == "check");
        known.then(|| (name, directive[2].to_owned()))
    }
}

/// The text of a line without what ends it, and without white space at its begin.
pub fn without_ends(text: &Text, line: Range<usize>) -> Range<usize> {
    let line = without_line_end(text.bytes(), line);
    trim_start(text.bytes(), line)
}

/// The line without line feeds and carriage returns at its end.
pub fn without_line_end(bytes: &[u8], line: Range<usize>) -> Range<usize> {
    let ends = bytes[line.clone()].iter().rev().take_while(|byte| matches!(byte, b'\n' | b'\r')).count();
    line.start..line.end - ends
}
