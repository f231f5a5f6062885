//! Mirrors: maps the name of an image in a mirror registry to its name in the log.

use std::collections::BTreeMap;

use taglog_proto::name::{Image, Reference, Repository};

/// Prefixes of repository names, and the prefixes that replace them in the log.
#[derive(Clone, Debug, Default)]
pub struct Mirrors(BTreeMap<String, String>);

impl Mirrors {
    /// Checks pairs of prefixes (both end in '/') or of whole repositories.
    ///
    /// # Errors
    /// Which pair is invalid and why, for users.
    pub fn parse(pairs: BTreeMap<String, String>) -> Result<Mirrors, String> {
        for (mirror, original) in &pairs {
            let wrong = |why: &str| Err(format!("{mirror:?} = {original:?}: {why}"));
            if mirror.ends_with('/') != original.ends_with('/') {
                return wrong("want two prefixes that end in '/', or two repositories");
            }
            let whole = |name: &str| if name.ends_with('/') { format!("{name}x") } else { name.to_owned() };
            if Repository::parse(&whole(mirror)).is_err() {
                return wrong("the mirror is not a registry or a part of one, such as \"corp.example/hub/\"");
            }
            match Reference::parse(&whole(original)) {
                Ok(Reference { tag: None, digest: None, .. }) if original.contains('/') => {}
                _ => return wrong("the original is not a registry or a part of one, such as \"docker.io/\""),
            }
        }
        Ok(Mirrors(pairs))
    }

    /// The image's name in the log: the longest matching prefix is replaced, once.
    pub fn logged_name(&self, image: &Image) -> Image {
        let name = image.repository.as_str();
        let fits = |mirror: &str| if mirror.ends_with('/') { name.starts_with(mirror) } else { name == mirror };
        let pair = self.0.iter().filter(|(mirror, _)| fits(mirror)).max_by_key(|(mirror, _)| mirror.len());
        let Some((mirror, original)) = pair else { return image.clone() };
        // If the result is not a valid name (too long), it cannot be in the log either: keep the name.
        match Reference::parse(&format!("{original}{}", &name[mirror.len()..])) {
            Ok(Reference { repository, tag: None, digest: None }) => Image { repository, tag: image.tag.clone() },
            _ => image.clone(),
        }
    }

    /// The mirror that replaces every name with this prefix, so that no rule ever sees such a name.
    pub fn hides(&self, prefix: &str) -> Option<&str> {
        let hides =
            |mirror: &&String| mirror.ends_with('/') && prefix.starts_with(mirror.as_str()) || **mirror == prefix;
        self.0.keys().find(hides).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mirrors(pairs: &[(&str, &str)]) -> Result<Mirrors, String> {
        Mirrors::parse(pairs.iter().map(|(mirror, original)| ((*mirror).to_owned(), (*original).to_owned())).collect())
    }

    #[test]
    fn the_longest_prefix_is_replaced_once() {
        let mirrors = mirrors(&[
            ("corp.example/hub/", "docker.io/"),
            ("corp.example/hub/quay/", "quay.io/"),
            ("corp.example/hub/our/app", "registry.example/team/app"),
            ("localhost:5000/", "corp.example/hub/"),
        ])
        .unwrap();
        for (image, logged) in [
            ("corp.example/hub/library/busybox:1", "docker.io/library/busybox:1"),
            ("corp.example/hub/busybox:1", "docker.io/library/busybox:1"),
            ("corp.example/hub/team/app:1", "docker.io/team/app:1"),
            ("corp.example/hub/quay/team/app:1", "quay.io/team/app:1"),
            ("corp.example/hub/our/app:1", "registry.example/team/app:1"),
            ("corp.example/hub/our/app2:1", "docker.io/our/app2:1"),
            ("corp.example/other/app:1", "corp.example/other/app:1"),
            ("localhost:5000/busybox:1", "corp.example/hub/busybox:1"),
        ] {
            assert_eq!(mirrors.logged_name(&Image::parse(image).unwrap()).to_string(), logged);
        }
        let long = format!("corp.example/hub/{}:1", "a".repeat(238));
        let at_limit = Image::parse(&long).unwrap();
        let longer = self::mirrors(&[("corp.example/hub/", "registry.example/and/more/")]).unwrap();
        assert_eq!(longer.logged_name(&at_limit), at_limit);
    }

    #[test]
    fn invalid_pairs_are_rejected() {
        for pair in [
            ("corp.example/hub", "docker.io/"),
            ("corp.example/hub/", "docker.io"),
            ("hub/", "docker.io/"),
            ("/", "docker.io/"),
            ("", ""),
            ("corp.example/hub/", "/"),
            ("corp.example/app", "busybox:1"),
            ("corp.example/Hub/", "docker.io/"),
        ] {
            assert!(mirrors(&[pair]).unwrap_err().contains(pair.0), "{pair:?}");
        }
    }
}
