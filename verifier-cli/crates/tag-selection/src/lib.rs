//! Selects tags of a repository, by name or by pattern.
//!
//! A tag is named literally (`1.36.1`), or by a pattern that is matched against the registry's list of tags:
//! `glob:1.36*`, `regex:^v[0-9]+$` (anywhere in the tag unless anchored), `semver:>=1.30, <2` (a leading `v`
//! and missing numbers are allowed: `v1.2` is 1.2.0). A tag cannot contain a colon, so the two are distinct.

use std::{cmp::Reverse, collections::HashSet};

use globset::{GlobBuilder, GlobMatcher};
use regex::{Regex, RegexBuilder};
use semver::{BuildMetadata, Prerelease, Version, VersionReq};
use taglog_proto::name::Tag;

/// The most memory that a compiled regex may take, in bytes; real ones take a few kilobytes.
pub const REGEX_LIMIT: usize = 1 << 20;

/// A literal tag or a pattern.
#[derive(Clone, Debug)]
pub enum Pattern {
    /// Exactly this tag.
    Tag(Tag),
    /// Shell-like: `*`, `?`, `[a-z]`, `{a,b}`, over the whole tag.
    Glob(GlobMatcher),
    /// A regular expression.
    Regex(Regex),
    /// A range of versions, as Cargo writes them.
    Semver(VersionReq),
}

impl Pattern {
    /// Parses a tag or a pattern.
    ///
    /// # Errors
    /// What is wrong with it, for users.
    pub fn parse(text: &str) -> Result<Pattern, String> {
        let explain = |error: &dyn std::fmt::Display| format!("{text:?}: {error}");
        match text.split_once(':') {
            None => Tag::parse(text).map(Pattern::Tag).map_err(|error| explain(&error)),
            Some(("glob", glob)) => {
                let glob = GlobBuilder::new(glob).build().map_err(|error| explain(&error.kind()))?;
                Ok(Pattern::Glob(glob.compile_matcher()))
            }
            Some(("regex", regex)) => {
                let regex = RegexBuilder::new(regex).size_limit(REGEX_LIMIT).build();
                regex.map(Pattern::Regex).map_err(|error| explain(&error))
            }
            Some(("semver", range)) => VersionReq::parse(range).map(Pattern::Semver).map_err(|error| explain(&error)),
            Some((kind, _)) => {
                Err(format!("{text:?}: unknown kind of pattern {kind:?}: want a tag, glob:…, regex:… or semver:…"))
            }
        }
    }

    /// Whether the pattern matches this tag.
    pub fn matches(&self, tag: &Tag) -> bool {
        match self {
            Pattern::Tag(own) => own == tag,
            Pattern::Glob(glob) => glob.is_match(tag.as_str()),
            Pattern::Regex(regex) => regex.is_match(tag.as_str()),
            Pattern::Semver(range) => version(tag).is_some_and(|version| range.matches(&version)),
        }
    }
}

/// The selection of tags of one repository.
#[derive(Clone, Debug)]
pub struct Selection {
    /// Tags that match one of these are selected,
    pub include: Vec<Pattern>,
    /// unless they match one of these.
    pub exclude: Vec<Pattern>,
    /// The most tags that are selected by patterns only: those with the greatest versions.
    pub newest: Option<usize>,
}

impl Selection {
    /// Whether the registry's list of tags is needed.
    pub fn needs_list(&self) -> bool {
        self.include.iter().any(|pattern| !matches!(pattern, Pattern::Tag(_)))
    }

    /// The literal tags that are not excluded.
    pub fn named(&self) -> Vec<Tag> {
        let named = self.include.iter().filter_map(|pattern| match pattern {
            Pattern::Tag(tag) => Some(tag.clone()),
            _ => None,
        });
        named.filter(|tag| self.covers(tag)).collect()
    }

    /// Whether a tag is included literally.
    pub fn names(&self, tag: &Tag) -> bool {
        self.include.iter().any(|pattern| matches!(pattern, Pattern::Tag(own) if own == tag))
    }

    /// Whether a tag is included and not excluded, without regard to `newest`.
    pub fn covers(&self, tag: &Tag) -> bool {
        let any = |patterns: &[Pattern]| patterns.iter().any(|pattern| pattern.matches(tag));
        any(&self.include) && !any(&self.exclude)
    }

    /// The selected tags, given the registry's list: the literal ones, listed or not, and the newest of those that
    /// match.
    pub fn select(&self, listed: &[Tag]) -> Vec<Tag> {
        let named = self.named();
        let known: HashSet<&Tag> = named.iter().collect();
        let mut matching: Vec<&Tag> = listed.iter().filter(|tag| !known.contains(tag) && self.covers(tag)).collect();
        if let Some(newest) = self.newest {
            matching.sort_by_cached_key(|tag| Reverse(age_order(tag)));
            matching.truncate(newest);
        }
        let matching: Vec<Tag> = matching.into_iter().cloned().collect();
        named.into_iter().chain(matching).collect()
    }
}

/// Orders tags from old to new by their names: tags that are not versions first, then by version.
fn age_order(tag: &Tag) -> (Option<Version>, &str) {
    (version(tag), tag.as_str())
}

/// Parses a tag as a version. A leading `v` and missing numbers are allowed, more than three numbers are not.
fn version(tag: &Tag) -> Option<Version> {
    let text = tag.as_str();
    let text = text.strip_prefix('v').unwrap_or(text);
    let numbers_end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (numbers, rest) = text.split_at(numbers_end);
    let numbers: Vec<u64> = numbers.split('.').map(|number| number.parse().ok()).collect::<Option<_>>()?;
    let (major, minor, patch) = match numbers[..] {
        [major] => (major, 0, 0),
        [major, minor] => (major, minor, 0),
        [major, minor, patch] => (major, minor, patch),
        _ => return None,
    };
    let pre = match rest.strip_prefix('-') {
        Some(pre) => Prerelease::new(pre).ok()?,
        None if rest.is_empty() => Prerelease::EMPTY,
        None => return None,
    };
    Some(Version { major, minor, patch, pre, build: BuildMetadata::EMPTY })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(texts: &[&str]) -> Vec<Tag> {
        texts.iter().map(|text| Tag::parse(text).unwrap()).collect()
    }

    fn selection(include: &[&str], exclude: &[&str], newest: Option<usize>) -> Selection {
        let parse = |texts: &[&str]| texts.iter().map(|text| Pattern::parse(text).unwrap()).collect();
        Selection { include: parse(include), exclude: parse(exclude), newest }
    }

    fn selected(selection: &Selection, listed: &[&str]) -> Vec<String> {
        selection.select(&tags(listed)).iter().map(Tag::to_string).collect()
    }

    const LISTED: [&str; 8] = ["latest", "1.9.0", "1.10.0", "v1.11", "2", "2.0.0-rc.1", "nightly", "sha-abc"];

    #[test]
    fn every_kind_of_pattern_selects_tags() {
        for (include, want) in [
            (&["1.10.0"][..], &["1.10.0"][..]),
            (&["glob:1.*"], &["1.9.0", "1.10.0"]),
            (&["glob:{latest,night*}"], &["latest", "nightly"]),
            (&["regex:^v?[0-9]+\\.[0-9]+$"], &["v1.11"]),
            (&["regex:sha"], &["sha-abc"]),
            (&["semver:>=1.10, <3"], &["1.10.0", "v1.11", "2"]),
            (&["semver:2.0.0-rc.1"], &["2", "2.0.0-rc.1"]),
            (&["2", "glob:2*"], &["2", "2.0.0-rc.1"]),
        ] {
            assert_eq!(selected(&selection(include, &[], None), &LISTED), want, "{include:?}");
        }
    }

    #[test]
    fn literal_tags_are_selected_listed_or_not() {
        let selection = selection(&["absent", "latest"], &[], Some(1));
        assert!(!selection.needs_list());
        assert_eq!(selected(&selection, &[]), ["absent", "latest"]);
    }

    #[test]
    fn exclusion_wins() {
        let selection = selection(&["latest", "glob:*"], &["latest", "glob:*-*", "semver:<2"], None);
        assert_eq!(selected(&selection, &LISTED), ["2", "nightly"]);
        assert!(selection.needs_list());
    }

    #[test]
    fn newest_orders_by_version_and_does_not_limit_literal_tags() {
        let newest = |count| selected(&selection(&["latest", "glob:*"], &[], Some(count)), &LISTED);
        assert_eq!(newest(3), ["latest", "2", "2.0.0-rc.1", "v1.11"]);
        assert_eq!(newest(5), ["latest", "2", "2.0.0-rc.1", "v1.11", "1.10.0", "1.9.0"]);
        assert_eq!(newest(100).len(), LISTED.len());
    }

    #[test]
    fn errors_contain_the_invalid_pattern() {
        for bad in ["", "a b", "glob:[", "regex:(", "semver:one", "semver:", "tag:1", "regex:(a{1000}){1000}"] {
            let answer = Pattern::parse(bad);
            assert!(answer.as_ref().is_err_and(|message| message.contains(bad)), "{bad}: {answer:?}");
        }
    }
}
