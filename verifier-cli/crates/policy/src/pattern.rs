//! The patterns of rules, for repositories and for tags.

use std::{fmt, sync::OnceLock};

use globset::{Glob, GlobBuilder, GlobMatcher};
use serde::{Deserialize, Deserializer, de};
use taglog_proto::name::{Repository, Tag};

use taglog_tag_selection::Pattern;

/// A glob over whole repository names: `*` and `?` within a part, `**` over parts, `{a,b}`, `[a-z]`. Docker's short
/// names are expanded as in references: `busybox` is `docker.io/library/busybox`.
#[derive(Clone, Debug)]
pub struct RepositoryPattern {
    full: String,
    /// The length of the literal prefix. Most patterns are ruled out by it and never compiled.
    prefix_length: usize,
    glob: Glob,
    matcher: OnceLock<GlobMatcher>,
}

impl RepositoryPattern {
    /// # Errors
    /// What is wrong with the pattern, for users.
    pub fn parse(text: &str) -> Result<RepositoryPattern, String> {
        let full = expand(text).map_err(|why| format!("repository pattern {text:?}: {why}"))?;
        let glob = GlobBuilder::new(&full).literal_separator(true).build();
        let glob = glob.map_err(|error| format!("repository pattern {text:?}: {}", error.kind()))?;
        let prefix_length = full.find(is_meta).unwrap_or(full.len());
        Ok(RepositoryPattern { full, prefix_length, glob, matcher: OnceLock::new() })
    }

    /// Whether the pattern matches this repository.
    pub fn matches(&self, repository: &Repository) -> bool {
        let name = repository.as_str();
        if self.prefix_length == self.full.len() {
            return name == self.full;
        }
        name.starts_with(&self.full[..self.prefix_length])
            && self.matcher.get_or_init(|| self.glob.compile_matcher()).is_match(name)
    }

    /// Whether it certainly matches everything that the other matches; `false` if that cannot be told easily.
    pub fn covers(&self, other: &RepositoryPattern) -> bool {
        let whole_tree = self.full.strip_suffix("**").filter(|tree| !tree.contains(is_meta));
        whole_tree.is_some_and(|tree| other.prefix().starts_with(tree) && other.full != tree) || self.full == other.full
    }

    /// The literal prefix of every match.
    pub fn prefix(&self) -> &str {
        &self.full[..self.prefix_length]
    }
}

impl fmt::Display for RepositoryPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.full.fmt(f)
    }
}

impl<'de> Deserialize<'de> for RepositoryPattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        RepositoryPattern::parse(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

fn is_meta(c: char) -> bool {
    matches!(c, '*' | '?' | '[' | ']' | '{' | '}' | '\\')
}

/// Expands a short pattern to one over full names. As in references, the first part is a registry if it could be one.
fn expand(text: &str) -> Result<String, String> {
    let allowed = |c: char| {
        c.is_ascii_lowercase()
            || c.is_ascii_digit()
            || is_meta(c)
            || matches!(c, '.' | '_' | '-' | '/' | ':' | ',' | '!')
    };
    if text.is_empty() {
        return Err("it is empty".to_owned());
    }
    if let Some(wrong) = text.chars().find(|c| !allowed(*c)) {
        return Err(format!("{wrong:?} is not allowed in a repository name"));
    }
    let (first, rest) = match text.split_once('/') {
        Some((first, rest)) => (first, Some(rest)),
        None => (text, None),
    };
    if rest.unwrap_or(first).contains(':') {
        return Err("it has a tag: put tags into 'tags'".to_owned());
    }
    match rest {
        None if text == "**" => Ok(text.to_owned()),
        None if text == "*" => Err("no repository name has a single part; '**' means every repository".to_owned()),
        None => Ok(format!("docker.io/library/{text}")),
        Some(rest) if matches!(first, "docker.io" | "index.docker.io" | "registry-1.docker.io") => {
            // As in references: Docker Hub's official images are in `library`.
            let library = if rest.contains('/') || rest == "**" { "" } else { "library/" };
            Ok(format!("docker.io/{library}{rest}"))
        }
        Some(_) if first.contains(['.', ':']) || first == "localhost" || first.contains(is_meta) => Ok(text.to_owned()),
        Some(_) => Ok(format!("docker.io/{text}")),
    }
}

/// A pattern for tags: a glob over the whole tag, or `regex:…` or `semver:…` as in `witness.toml`.
#[derive(Clone, Debug)]
pub struct TagPattern {
    written: String,
    /// Compiled on first use: a run needs few of the shipped profiles.
    pattern: OnceLock<Option<Pattern>>,
}

impl TagPattern {
    /// Parses and compiles a pattern.
    ///
    /// # Errors
    /// What is wrong with the pattern, for users.
    pub fn parse(text: &str) -> Result<TagPattern, String> {
        let pattern = compile(text).map_err(|why| format!("tag pattern {why}"))?;
        Ok(TagPattern { written: text.to_owned(), pattern: OnceLock::from(Some(pattern)) })
    }

    /// A pattern that is known to be valid. An invalid one matches nothing.
    pub(super) fn shipped(text: String) -> TagPattern {
        TagPattern { written: text, pattern: OnceLock::new() }
    }

    /// Whether the pattern matches this tag.
    pub fn matches(&self, tag: &Tag) -> bool {
        let pattern = self.pattern.get_or_init(|| compile(&self.written).ok());
        pattern.as_ref().is_some_and(|pattern| pattern.matches(tag))
    }

    /// Whether it certainly matches everything that the other matches; `false` if that cannot be told easily.
    pub fn covers(&self, other: &TagPattern) -> bool {
        matches!(self.written.as_str(), "*" | "**") || self.written == other.written
    }
}

impl fmt::Display for TagPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.written.fmt(f)
    }
}

impl<'de> Deserialize<'de> for TagPattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        TagPattern::parse(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

fn compile(text: &str) -> Result<Pattern, String> {
    if text.contains(':') {
        return Pattern::parse(text);
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || is_meta(c) || matches!(c, '.' | '_' | '-' | ',' | '!');
    match text.chars().find(|c| !allowed(*c)) {
        Some(wrong) => Err(format!("{text:?}: {wrong:?} is not allowed in a tag")),
        None if text.is_empty() || text.starts_with(['.', '-']) => {
            Err(format!("{text:?}: a tag cannot begin like this"))
        }
        None => Pattern::parse(&format!("glob:{text}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, name: &str) -> bool {
        RepositoryPattern::parse(pattern).unwrap().matches(&Repository::parse(name).unwrap())
    }

    #[test]
    fn repositories() {
        for (pattern, name) in [
            ("**", "a.example/b"),
            ("a.example/b", "a.example/b"),
            ("a.example/*", "a.example/b"),
            ("a.example/**", "a.example/b/c/d"),
            ("a.example/**/d", "a.example/b/c/d"),
            ("*.example/b", "a.example/b"),
            ("*/b", "a.example/b"),
            ("localhost:5000/{b,c}", "localhost:5000/c"),
            ("localhost/b", "localhost/b"),
            ("busybox", "docker.io/library/busybox"),
            ("busy*", "docker.io/library/busybox"),
            ("docker.io/busybox", "docker.io/library/busybox"),
            ("index.docker.io/busybox", "docker.io/library/busybox"),
            ("docker.io/*", "docker.io/library/busybox"),
            ("docker.io/**", "docker.io/team/app"),
            ("team/app", "docker.io/team/app"),
            ("team/**", "docker.io/team/app"),
            ("library/*", "docker.io/library/busybox"),
        ] {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("a.example/b", "a.example/bc"),
            ("a.example/*", "a.example/b/c"),
            ("a.example/**", "aa.example/b"),
            ("a?example/b", "a/b.example/b"),
            ("busybox", "a.example/busybox"),
            ("busy*", "docker.io/busy/box"),
            ("docker.io/*", "docker.io/team/app"),
        ] {
            assert!(Repository::parse(name).is_err() || !matches(pattern, name), "{pattern} {name}");
        }
        for bad in
            ["", "*", "Busybox", "busybox:1.36", "a.example/b:1", "a b", "a.example/[", "a.example/{b", "a@b", "é/x"]
        {
            let error = RepositoryPattern::parse(bad).unwrap_err();
            assert!(error.contains("repository pattern"), "{bad}: {error}");
        }
    }

    #[test]
    fn tags() {
        let matches = |pattern: &str, tag: &str| TagPattern::parse(pattern).unwrap().matches(&Tag::parse(tag).unwrap());
        for (pattern, tag) in [
            ("*", "1.0"),
            ("v*", "v1"),
            ("1.36", "1.36"),
            ("{1,2}.*", "2.0"),
            ("regex:^[0-9]+$", "15"),
            ("semver:>=1.2", "v1.3"),
        ] {
            assert!(matches(pattern, tag), "{pattern} {tag}");
        }
        for (pattern, tag) in [("v*", "1"), ("1.36", "1.36.1"), ("regex:^[0-9]+$", "15a"), ("?", "10")] {
            assert!(!matches(pattern, tag), "{pattern} {tag}");
        }
        for bad in ["", ".x", "-x", "a b", "a/b", "[", "regex:(", "other:x", "a@b"] {
            assert!(TagPattern::parse(bad).unwrap_err().contains("tag pattern"), "{bad}");
        }
    }

    #[test]
    fn a_pattern_covers_another() {
        let covers =
            |a: &str, b: &str| RepositoryPattern::parse(a).unwrap().covers(&RepositoryPattern::parse(b).unwrap());
        for (a, b) in [
            ("**", "a.example/b"),
            ("a.example/**", "a.example/b"),
            ("a.example/**", "a.example/b/*"),
            ("busybox", "docker.io/busybox"),
        ] {
            assert!(covers(a, b), "{a} {b}");
        }
        for (a, b) in [
            ("a.example/b", "**"),
            ("a.example/**", "a.example*/b"),
            ("a.example/b/**", "a.example/*"),
            ("*.example/**", "a.example/b"),
        ] {
            assert!(!covers(a, b), "{a} {b}");
        }
    }
}
