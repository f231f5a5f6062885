//! Where custom kinds of Kubernetes objects name images.

use std::str::FromStr;

use thiserror::Error;

use super::yaml::Node;
use taglog_base::text::one_line;

/// Keys in a path; beyond what any kind has.
const MAX_KEYS: usize = 64;

/// Says where the objects of a kind have a pod's specification, a container, or the name of an image:
/// `[GROUP/]KIND:PATH`, as `argoproj.io/Rollout:spec.template.spec`.
///
/// A path is keys with dots between them. `*` is every key; lists are gone through item by item, which `[]` after a key
/// may say but need not. Without a group the kind is meant in every group; the version never counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CrdPath {
    group: Option<String>,
    kind: String,
    keys: Vec<String>,
}

/// Not the form of a [`CrdPath`].
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{0:?}: want [GROUP/]KIND:PATH, such as argoproj.io/Rollout:spec.template.spec")]
pub struct CrdPathError(String);

impl FromStr for CrdPath {
    type Err = CrdPathError;

    fn from_str(text: &str) -> Result<CrdPath, CrdPathError> {
        parse(text).ok_or_else(|| CrdPathError(one_line(text)))
    }
}

fn parse(text: &str) -> Option<CrdPath> {
    let (object, path) = text.split_once(':')?;
    let (group, kind) = object.split_once('/').map_or((None, object), |(group, kind)| (Some(group), kind));
    let keys: Vec<&str> = path.split('.').map(|key| key.strip_suffix("[]").unwrap_or(key)).collect();
    let is_word = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let is_group = |text: &str| text.split(['.', '-']).all(is_word);
    let is_key = |key: &&str| !key.is_empty() && !key.contains(|c: char| c.is_whitespace() || "[]/:".contains(c));
    let good = is_word(kind) && group.is_none_or(is_group) && keys.iter().all(is_key) && keys.len() <= MAX_KEYS;
    good.then(|| CrdPath {
        group: group.map(str::to_owned),
        kind: kind.to_owned(),
        keys: keys.into_iter().map(str::to_owned).collect(),
    })
}

impl CrdPath {
    /// Whether the objects of this group (empty for the core) and kind are meant.
    pub(super) fn is_for(&self, group: &str, kind: &str) -> bool {
        self.kind == kind && self.group.as_deref().is_none_or(|own| own == group)
    }

    /// What an object has there; lists item by item.
    pub(super) fn places<'a>(&self, object: &'a Node) -> Vec<&'a Node> {
        let mut places = Vec::new();
        follow(object, &self.keys, &mut places);
        places
    }
}

fn follow<'a>(node: &'a Node, keys: &[String], places: &mut Vec<&'a Node>) {
    if node.is_sequence() {
        return node.items().for_each(|item| follow(item, keys, places));
    }
    match keys.split_first() {
        None => places.push(node),
        Some((key, rest)) if key == "*" => node.values().for_each(|value| follow(value, rest, places)),
        Some((key, rest)) => node.get(key).into_iter().for_each(|value| follow(value, rest, places)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Options, tests::read_text_with};

    fn images(paths: &[&str], text: &str) -> (Vec<String>, Vec<String>) {
        let crd_paths = paths.iter().map(|path| path.parse().unwrap()).collect();
        let found = read_text_with("x.yaml", text, &Options { crd_paths, ..Options::default() }).unwrap();
        let images = found.images.iter().map(|image| format!("{} {}", image.place.line, image.written));
        let notes = found.left_out.iter().map(|note| format!("{} {}", note.place.line, note.reason));
        (images.collect(), notes.collect())
    }

    const ROLLOUT: &str = "\
apiVersion: argoproj.io/v1alpha1
kind: Rollout
spec:
  template:
    spec:
      initContainers: [{image: a:1}]
      containers:
        - image: b:2
  tools:
    one: {image: c:3}
    two: {image: d:4}
  names: [e:5, f:6]
";

    #[test]
    fn pods_containers_and_names() {
        let pod = (vec!["6 a:1".to_owned(), "8 b:2".to_owned()], vec![]);
        for path in ["argoproj.io/Rollout:spec.template.spec", "Rollout:spec.template.spec"] {
            assert_eq!(images(&[path], ROLLOUT), pod, "{path}");
        }
        assert_eq!(images(&["Rollout:spec.template.spec.containers[].image"], ROLLOUT).0, ["8 b:2"]);
        assert_eq!(images(&["Rollout:spec.template.spec.containers"], ROLLOUT).0, ["8 b:2"]);
        assert_eq!(images(&["Rollout:spec.tools.*"], ROLLOUT).0, ["10 c:3", "11 d:4"]);
        assert_eq!(
            images(&["Rollout:spec.tools.two.image", "Rollout:spec.names"], ROLLOUT).0,
            ["11 d:4", "12 e:5", "12 f:6"]
        );
        assert_eq!(images(&["Rollout:spec.none"], ROLLOUT), (vec![], vec![]));
        let (none, notes) = images(&["Rollout:spec.template"], ROLLOUT);
        assert!(none.is_empty() && notes.len() == 1 && notes[0].starts_with("5 where --crd points"), "{notes:?}");
    }

    #[test]
    fn kinds_with_containers_are_not_passed_over() {
        for paths in [&["other.example/Rollout:spec.template.spec"][..], &[]] {
            let (none, notes) = images(paths, ROLLOUT);
            assert!(none.is_empty() && notes.len() == 1, "{none:?} {notes:?}");
            assert!(notes[0].starts_with("8 the images of kind Rollout are not read"), "{notes:?}");
            assert!(notes[0].ends_with("--crd argoproj.io/Rollout:spec.template.spec"), "{notes:?}");
        }
        let definition = "apiVersion: v1\nkind: X\nspec: {properties: {containers: {items: {image: string}}}}\n";
        assert_eq!(images(&[], definition), (vec![], vec![]));
    }

    #[test]
    fn kinds_that_name_an_image_are_not_passed_over() {
        let object =
            |api: &str, image: &str| format!("apiVersion: {api}\nkind: Server\nspec:\n  main: {{image: {image}}}\n");
        let (none, notes) = images(&[], &object("db.example.com/v1", "registry.example/db:4"));
        assert!(none.is_empty() && notes.len() == 1, "{none:?} {notes:?}");
        assert!(notes[0].starts_with("4 the images of kind Server are not read"), "{notes:?}");
        assert!(notes[0].ends_with("--crd db.example.com/Server:spec.main"), "{notes:?}");
        let told = images(&["db.example.com/Server:spec.main"], &object("db.example.com/v1", "registry.example/db:4"));
        assert_eq!(told, (vec!["4 registry.example/db:4".to_owned()], vec![]));
        let (_, notes) = images(&[], "apiVersion: db.example.com/v1\nkind: Tool\nimage: db:4\n");
        assert!(notes[0].ends_with("--crd db.example.com/Tool:image"), "{notes:?}");
        // Without a tag it may be anything, and what Kubernetes' own kinds hold is no image.
        for (api, image) in [
            ("db.example.com/v1", "db"),
            ("db.example.com/v1", "{repository: db, tag: '4'}"),
            ("v1", "db:4"),
            ("apps/v1", "db:4"),
            ("apiextensions.k8s.io/v1", "db:4"),
        ] {
            assert_eq!(images(&[], &object(api, image)), (vec![], vec![]), "{api} {image}");
        }
    }

    #[test]
    fn forms_that_are_refused() {
        for text in
            ["", "Rollout", "Rollout:", ":a", "a/b/C:d", "/C:d", "C:a..b", "C:a b", "C:a[0]", "argo_x/C:d", "C:.a"]
        {
            assert!(text.parse::<CrdPath>().is_err(), "{text}");
        }
        let error = "x\u{1b}".parse::<CrdPath>().unwrap_err().to_string();
        assert!(!error.contains(char::is_control) && error.contains("Rollout:spec"), "{error}");
        assert!(format!("C:{}a", "a.".repeat(MAX_KEYS)).parse::<CrdPath>().is_err());
    }
}
