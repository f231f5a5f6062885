//! Where custom kinds of Kubernetes objects name images: the paths of the option `--crd`.

use std::str::FromStr;

use thiserror::Error;

use super::yaml::Node;
use taglog_base::text::one_line;

/// Keys in a path: as many as collections may be nested in a file.
const MAX_KEYS: usize = 128;
/// The longest option that a note suggests, in bytes: a note must stay one readable line.
const MAX_SUGGESTION: usize = 300;
/// The longest key that is written out in a suggested option, in bytes.
const MAX_SUGGESTED_KEY: usize = 100;

/// Says where the objects of a kind have a pod's specification, a container, or the name of an image:
/// `[GROUP/]KIND:PATH`, as `argoproj.io/Rollout:spec.template.spec`.
///
/// A path is keys with dots between them. A key that holds other characters than a word does is quoted in brackets, as
/// `metadata.annotations["example.com/image"]`, with `\"` and `\\` for a quote and a backslash. `*` is every key. Lists
/// are followed item by item, which `[]` after a key may say but need not. Without a group the kind is meant in every
/// group; the version never counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CrdPath {
    group: Option<String>,
    kind: String,
    keys: Vec<Key>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Key {
    Every,
    Named(String),
}

/// Not the form of a [`CrdPath`].
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error(
    "{0:?}: want [GROUP/]KIND:PATH, such as argoproj.io/Rollout:spec.template.spec; a key with dots or slashes is \
     quoted: Pod:metadata.annotations[\"example.com/image\"]"
)]
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
    let keys = parse_keys(path)?;
    let good = is_kind(kind) && group.is_none_or(is_group);
    good.then(|| CrdPath { group: group.map(str::to_owned), kind: kind.to_owned(), keys })
}

/// Kubernetes' rule: in lower case a kind is a DNS label.
fn is_kind(text: &str) -> bool {
    text.split('-').all(is_word)
}

fn is_group(text: &str) -> bool {
    text.split(['.', '-']).all(is_word)
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

fn is_plain_key(key: &str) -> bool {
    !key.is_empty() && !key.contains(|c: char| c.is_whitespace() || c.is_control() || ".[]/:\"'".contains(c))
}

fn parse_keys(path: &str) -> Option<Vec<Key>> {
    let (mut rest, mut keys) = (path, Vec::new());
    loop {
        let (key, after) = match rest.strip_prefix("[\"") {
            Some(quoted) => unquote(quoted)?,
            None => plain_key(rest)?,
        };
        keys.push(key);
        rest = after;
        while let Some(after) = rest.strip_prefix("[]") {
            rest = after;
        }
        match rest.strip_prefix('.') {
            Some(after) => rest = after,
            None if rest.is_empty() => return (keys.len() <= MAX_KEYS).then_some(keys),
            None if rest.starts_with("[\"") => {}
            None => return None,
        }
    }
}

fn plain_key(text: &str) -> Option<(Key, &str)> {
    let (key, rest) = text.split_at(text.find(['.', '[']).unwrap_or(text.len()));
    let named = || is_plain_key(key).then(|| Key::Named(key.to_owned()));
    let key = if key == "*" { Key::Every } else { named()? };
    Some((key, rest))
}

/// The key before `"]`, and what follows that.
fn unquote(text: &str) -> Option<(Key, &str)> {
    let (mut key, mut characters) = (String::new(), text.chars());
    loop {
        match characters.next()? {
            '"' => return Some((Key::Named(key), characters.as_str().strip_prefix(']')?)),
            '\\' => key.push(characters.next().filter(|c| matches!(c, '"' | '\\'))?),
            other => key.push(other),
        }
    }
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

/// What an object has at the path of a [`CrdPath`]; nothing for a path that is none.
pub(super) fn places_at<'a>(object: &'a Node, path: &str) -> Vec<&'a Node> {
    let mut places = Vec::new();
    follow(object, &parse_keys(path).unwrap_or_default(), &mut places);
    places
}

/// The `--crd` option, quoted for a shell, that leads to what stands at a path of keys in the objects of a kind. `None`
/// if the kind is none that the option can name, or if the option would be very long.
///
/// A key that cannot be written on one line is given as `*`.
pub(super) fn suggestion(group: &str, kind: &str, keys: &[&str]) -> Option<String> {
    let group = if is_group(group) { format!("{group}/") } else { String::new() };
    let mut path = String::new();
    for key in keys {
        if is_plain_key(key) && *key != "*" && key.len() <= MAX_SUGGESTED_KEY {
            path += if path.is_empty() { "" } else { "." };
            path += key;
        } else if is_quotable(key) {
            path += &format!("[\"{}\"]", key.replace('\\', "\\\\").replace('"', "\\\""));
        } else {
            path += if path.is_empty() { "*" } else { ".*" };
        }
    }
    let option = format!("{group}{kind}:{path}");
    let usable = option.len() <= MAX_SUGGESTION && parse(&option).is_some();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/:".contains(&byte);
    usable.then(|| if option.bytes().all(plain) { format!("--crd {option}") } else { format!("--crd '{option}'") })
}

/// Whether a key can stand between the quotes of a shell, on one line and as it is.
fn is_quotable(key: &str) -> bool {
    key.len() <= MAX_SUGGESTED_KEY && one_line(key) == *key && !key.contains('\'')
}

fn follow<'a>(node: &'a Node, keys: &[Key], places: &mut Vec<&'a Node>) {
    if node.is_sequence() {
        return node.items().for_each(|item| follow(item, keys, places));
    }
    match keys.split_first() {
        None => places.push(node),
        Some((Key::Every, rest)) => node.values().for_each(|value| follow(value, rest, places)),
        Some((Key::Named(key), rest)) => node.get(key).into_iter().for_each(|value| follow(value, rest, places)),
    }
}

#[cfg(test)]
mod tests;
