//! `[[exclude]]`: reviewed exceptions for files, and for what stands in them, until a day.

use globset::{GlobBuilder, GlobMatcher};
use serde::{Deserialize, Deserializer, de};
use taglog_proto::time::Timestamp;

use crate::demands::Ignore;

/// One `[[exclude]]`: what in which files is not checked, why, and until when.
///
/// Without `lines`, `images` and `notes`, the files are not read at all.
#[derive(Clone, Debug)]
pub struct Exclusion {
    files: Vec<FilePattern>,
    lines: Vec<usize>,
    images: Vec<TextPattern>,
    notes: Vec<TextPattern>,
    /// The reason, and the end.
    pub ignore: Ignore,
    /// The line of the policy file at which it begins, counted from 1.
    pub line: usize,
}

impl Exclusion {
    /// Whether it still holds at this time.
    pub fn applies(&self, now: Timestamp) -> bool {
        self.ignore.applies(now)
    }

    /// Whether a file is not to be read. `path` is relative to the policy file's directory, with `/` between its parts;
    /// `-` is standard input.
    pub fn covers_file(&self, path: &str) -> bool {
        self.lines.is_empty() && self.images.is_empty() && self.notes.is_empty() && self.is_in(path)
    }

    /// Whether an image at this place is not to be checked: by its name as it is written, or by the one that it stands for.
    pub fn covers_image(&self, path: &str, line: usize, names: &[&str]) -> bool {
        let named = self.images.iter().any(|pattern| names.iter().any(|name| pattern.matches(name)));
        self.covers_place(path, line) && (named || (self.images.is_empty() && self.notes.is_empty()))
    }

    /// Whether it is accepted that something at this place cannot be read, by the reason that is given.
    pub fn covers_note(&self, path: &str, line: usize, reason: &str) -> bool {
        let noted = self.notes.iter().any(|pattern| pattern.matches(reason));
        self.covers_place(path, line) && (noted || (self.images.is_empty() && self.notes.is_empty()))
    }

    fn covers_place(&self, path: &str, line: usize) -> bool {
        (self.lines.is_empty() || self.lines.contains(&line)) && self.is_in(path)
    }

    fn is_in(&self, path: &str) -> bool {
        self.files.iter().any(|pattern| pattern.matches(path))
    }
}

/// The table as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ExclusionToml {
    files: Vec<FilePattern>,
    #[serde(default)]
    lines: Vec<usize>,
    #[serde(default)]
    images: Vec<TextPattern>,
    #[serde(default)]
    notes: Vec<TextPattern>,
    reason: String,
    until: toml::Value,
}

impl ExclusionToml {
    /// The exclusion that begins at this line.
    ///
    /// # Errors
    /// What is wrong with it, for users.
    pub(super) fn checked(self, line: usize) -> Result<Exclusion, String> {
        let ExclusionToml { files, lines, images, notes, reason, until } = self;
        if files.is_empty() {
            return Err("'files' is empty; [\"**\"] means every file".to_owned());
        }
        let ignore = Ignore::parse(&reason, &until)?;
        Ok(Exclusion { files, lines, images, notes, ignore, line })
    }
}

/// A glob on the path of a file: `*` and `?` within a part, `**` over parts, `{a,b}`, `[a-z]`. One that ends in `/` means
/// everything below a directory.
#[derive(Clone, Debug)]
struct FilePattern(GlobMatcher);

impl FilePattern {
    fn parse(text: &str) -> Result<FilePattern, String> {
        let wrong = |why: &str| format!("file pattern {text:?}: {why}");
        if text.is_empty() || text.starts_with('/') || text.split('/').any(|part| part == "..") {
            return Err(wrong("want a path below the directory of this file"));
        }
        let path = text.strip_prefix("./").unwrap_or(text);
        let whole = if path.ends_with('/') { format!("{path}**") } else { path.to_owned() };
        let glob = GlobBuilder::new(&whole).literal_separator(true).build();
        glob.map(|glob| FilePattern(glob.compile_matcher())).map_err(|error| wrong(&error.kind().to_string()))
    }

    fn matches(&self, path: &str) -> bool {
        self.0.is_match(path)
    }
}

impl<'de> Deserialize<'de> for FilePattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        FilePattern::parse(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

/// A text in which `*` stands for any text, and every other character for itself: names with variables have braces and
/// brackets in them.
#[derive(Clone, Debug)]
struct TextPattern {
    /// What stands between the stars.
    parts: Vec<String>,
}

impl TextPattern {
    fn parse(text: &str) -> Result<TextPattern, String> {
        let parts = text.split('*').map(str::to_owned).collect();
        if text.is_empty() {
            Err("a pattern is empty; \"*\" matches everything".to_owned())
        } else {
            Ok(TextPattern { parts })
        }
    }

    fn matches(&self, text: &str) -> bool {
        let [first, rest @ ..] = &self.parts[..] else { return false };
        let Some(text) = text.strip_prefix(first.as_str()) else { return false };
        let Some((last, middle)) = rest.split_last() else { return text.is_empty() };
        // The first occurrence of each part leaves the most for those that follow.
        let left = middle.iter().try_fold(text, |text, part| text.split_once(part.as_str()).map(|(_, after)| after));
        left.is_some_and(|text| text.ends_with(last.as_str()))
    }
}

impl<'de> Deserialize<'de> for TextPattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        TextPattern::parse(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn texts() {
        let matches = |pattern: &str, text: &str| TextPattern::parse(pattern).unwrap().matches(text);
        for (pattern, text) in [
            ("a", "a"),
            ("*", ""),
            ("*", "a b"),
            ("a*", "a"),
            ("*a", "ba"),
            ("a*b*c", "a.b.b.c"),
            ("${CI}/[x]*", "${CI}/[x]:1"),
            ("*ab", "aab"),
        ] {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [("a", "ab"), ("a*", "ba"), ("*a", "ab"), ("a*b*c", "acb"), ("aa*aa", "aaa"), ("?", "a")]
        {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
        assert!(TextPattern::parse("").is_err());
    }

    #[test]
    fn files() {
        let matches = |pattern: &str, path: &str| FilePattern::parse(pattern).unwrap().matches(path);
        for (pattern, path) in [
            ("**", "a/b"),
            ("a/", "a/b/c"),
            ("./a.yaml", "a.yaml"),
            ("*/x.yaml", "a/x.yaml"),
            ("**/x.yaml", "x.yaml"),
            ("-", "-"),
        ] {
            assert!(matches(pattern, path), "{pattern} {path}");
        }
        for (pattern, path) in [("a", "a/b"), ("*.yaml", "a/x.yaml"), ("a/", "a"), ("a/", "ab/c")] {
            assert!(!matches(pattern, path), "{pattern} {path}");
        }
        for wrong in ["", "/etc/x", "../x", "a/../../b", "[a"] {
            assert!(FilePattern::parse(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn a_pattern_matches_as_a_glob_of_stars_does(pattern in "[ab*]{1,6}", text in "[ab]{0,8}") {
            let glob = GlobBuilder::new(&pattern).build().unwrap().compile_matcher();
            prop_assert_eq!(TextPattern::parse(&pattern).unwrap().matches(&text), glob.is_match(&text));
        }
    }
}
