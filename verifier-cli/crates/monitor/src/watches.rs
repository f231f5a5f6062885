//! The tags for which alerts are raised.

use globset::{GlobBuilder, GlobMatcher};
use regex::{Regex, RegexBuilder};
use taglog_proto::name::{Image, Reference, Repository};

use taglog_tag_selection::{REGEX_LIMIT, Selection};

/// A repository, or a pattern of repository names.
#[derive(Clone, Debug)]
pub enum RepositoryPattern {
    Name(Repository),
    /// A glob over the whole name: `*` matches within one part of the path, `**` across parts.
    Glob(GlobMatcher),
    /// A regular expression, anywhere in the name unless anchored.
    Regex(Regex),
}

impl RepositoryPattern {
    /// Parses a repository in its short or full form (`busybox` is `docker.io/library/busybox`), `glob:…` or `regex:…`.
    pub fn parse(text: &str) -> Result<RepositoryPattern, String> {
        let explain = |error: &dyn std::fmt::Display| format!("{text:?}: {error}");
        if let Some(glob) = text.strip_prefix("glob:") {
            let glob = GlobBuilder::new(glob).literal_separator(true).build();
            return glob
                .map(|glob| RepositoryPattern::Glob(glob.compile_matcher()))
                .map_err(|error| explain(&error.kind()));
        }
        if let Some(regex) = text.strip_prefix("regex:") {
            let regex = RegexBuilder::new(regex).size_limit(REGEX_LIMIT).build();
            return regex.map(RepositoryPattern::Regex).map_err(|error| explain(&error));
        }
        let reference = Reference::parse(text).map_err(|error| explain(&error))?;
        match reference {
            Reference { repository, tag: None, digest: None } => Ok(RepositoryPattern::Name(repository)),
            _ => Err(format!("{text:?}: want a repository without tag or digest: its tags go into 'tags'")),
        }
    }

    fn matches(&self, repository: &Repository) -> bool {
        match self {
            RepositoryPattern::Name(own) => own == repository,
            RepositoryPattern::Glob(glob) => glob.is_match(repository.as_str()),
            RepositoryPattern::Regex(regex) => regex.is_match(repository.as_str()),
        }
    }
}

// The state directory stores a hash of the `Debug` output of all watches: with other names of types or fields, the
// tracking state of watched tags would be rebuilt after an update.

/// Some tags of some repositories, and the changes of them that raise alerts.
#[derive(Clone, Debug)]
pub struct Watch {
    pub repository: RepositoryPattern,
    pub tags: Selection,
    pub wanted: Wanted,
}

/// The changes of a tag that raise alerts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// It points to another digest.
    pub retag: bool,
    /// It is new.
    pub new_tag: bool,
    /// Witnesses disagree about it.
    pub disagreement: bool,
}

impl Wanted {
    pub fn any(self) -> bool {
        self.retag || self.new_tag || self.disagreement
    }
}

/// The changes of an image that raise alerts, by all watches that match it.
pub fn wanted(watches: &[Watch], image: &Image) -> Wanted {
    let matching = watches.iter().filter(|watch| watch.repository.matches(&image.repository));
    let matching = matching.filter(|watch| watch.tags.covers(&image.tag));
    matching.fold(Wanted::default(), |all, watch| Wanted {
        retag: all.retag || watch.wanted.retag,
        new_tag: all.new_tag || watch.wanted.new_tag,
        disagreement: all.disagreement || watch.wanted.disagreement,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use taglog_tag_selection::Pattern;

    fn matches(pattern: &str, repository: &str) -> bool {
        RepositoryPattern::parse(pattern).unwrap().matches(&Repository::parse(repository).unwrap())
    }

    #[test]
    fn every_kind_of_pattern_matches() {
        assert!(matches("busybox", "docker.io/library/busybox"));
        assert!(matches("localhost:5000/a", "localhost:5000/a"));
        assert!(!matches("busybox", "docker.io/library/busybox2"));
        assert!(matches("glob:ghcr.io/team/*", "ghcr.io/team/a"));
        assert!(!matches("glob:ghcr.io/team/*", "ghcr.io/team/a/b"));
        assert!(matches("glob:ghcr.io/team/**", "ghcr.io/team/a/b"));
        assert!(!matches("glob:team/*", "ghcr.io/team/a"));
        assert!(matches("regex:^ghcr\\.io/(a|b)/", "ghcr.io/b/c"));
        assert!(!matches("regex:^ghcr\\.io/(a|b)/", "ghcr.io/c/b/"[..11].trim_end_matches('/')));
    }

    #[test]
    fn errors_name_the_bad_pattern() {
        for bad in ["", "A", "busybox:1", "glob:[", "regex:(", "regex:(a{1000}){1000}"] {
            let answer = RepositoryPattern::parse(bad);
            assert!(answer.as_ref().is_err_and(|message| message.contains(bad)), "{bad}: {answer:?}");
        }
    }

    #[test]
    fn watches_are_combined_and_exclusions_apply_to_their_own_watch_only() {
        let watch = |repository: &str, exclude: &[&str], wanted: Wanted| Watch {
            repository: RepositoryPattern::parse(repository).unwrap(),
            tags: Selection {
                include: vec![Pattern::parse("glob:*").unwrap()],
                exclude: exclude.iter().map(|text| Pattern::parse(text).unwrap()).collect(),
                newest: None,
            },
            wanted,
        };
        let retag = Wanted { retag: true, ..Wanted::default() };
        let new_tag = Wanted { new_tag: true, ..Wanted::default() };
        let watches = [watch("glob:r.example/*", &["latest"], retag), watch("r.example/a", &[], new_tag)];
        let of = |image: &str| wanted(&watches, &Image::parse(image).unwrap());
        assert_eq!(of("r.example/a:1"), Wanted { retag: true, new_tag: true, disagreement: false });
        assert_eq!(of("r.example/a:latest"), new_tag);
        assert_eq!(of("r.example/b:1"), retag);
        assert!(!of("r.example/b:latest").any() && !of("x.example/a:1").any());
    }
}
