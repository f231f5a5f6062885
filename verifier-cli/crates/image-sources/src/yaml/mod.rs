//! YAML as a tree with line numbers, as the programs read it that deploy from it.
//!
//! kubectl and Docker Compose read YAML with Go's yaml packages, GitLab with libyaml, Ansible and others with PyYAML.
//! Where two of them read a text differently, and an image could hide in the difference, the text is refused
//! ([`screen`], [`tree`]), or each of the readings is returned. tests/differential/yaml compares with these programs.
//!
//! Aliases share what they stand for instead of copying it, and count as if they copied it: so neither building
//! the tree nor walking it can take more than [`MAX_NODES`] steps.

mod screen;
#[cfg(test)]
mod tests;
mod tree;

use std::{collections::BTreeMap, ops::Range, rc::Rc};

use super::model::SyntaxError;

/// Nodes in one file, with every alias written out. In memory each takes about 120 bytes, and its text.
const MAX_NODES: usize = 2_000_000;
/// Collections in collections. Trees are dropped and walked by recursion.
const MAX_DEPTH: usize = 128;
/// The key whose value is merged into the mapping that it stands in (yaml.org/type/merge).
const MERGE_KEY: &str = "<<";

/// A value and the line on which it is written. An alias has the line of its anchor.
#[derive(Debug)]
pub struct Node {
    /// From 1 on.
    pub line: usize,
    /// In bytes, which are fewer than 4 GiB.
    span: Range<u32>,
    /// Nodes from here on down, with every alias written out.
    size: u32,
    value: Value,
}

#[derive(Debug)]
enum Value {
    Null,
    Text(Box<str>),
    Sequence(Box<[Rc<Node>]>),
    /// A sequence tagged `!reference`: the keys that lead to the value.
    Reference(Box<[Rc<Node>]>),
    Mapping(Mapping),
}

/// A mapping's own entries, sorted by key.
#[derive(Debug)]
struct Mapping(Box<[(Rc<str>, Rc<Node>)]>);

impl Mapping {
    fn get(&self, key: &str) -> Option<&Rc<Node>> {
        let index = self.0.binary_search_by(|(own, _)| own.as_ref().cmp(key)).ok()?;
        self.0.get(index).map(|(_, node)| node)
    }
}

impl Node {
    /// The text of a scalar, of whatever type YAML thinks it is.
    pub fn text(&self) -> Option<&str> {
        if let Value::Text(text) = &self.value { Some(text) } else { None }
    }

    /// The bytes of the text that a scalar is written in, with its quotes.
    pub fn span(&self) -> Range<usize> {
        self.span.start as usize..self.span.end as usize
    }

    /// Whether nothing is written, or `null`.
    pub fn is_null(&self) -> bool {
        matches!(self.value, Value::Null)
    }

    /// Whether it is a mapping.
    pub fn is_mapping(&self) -> bool {
        matches!(self.value, Value::Mapping(_))
    }

    /// Whether it is a sequence.
    pub fn is_sequence(&self) -> bool {
        matches!(self.value, Value::Sequence(_) | Value::Reference(_))
    }

    /// The items of a sequence; nothing for all else.
    pub fn items(&self) -> impl Iterator<Item = &Node> {
        let items: &[Rc<Node>] =
            if let Value::Sequence(items) | Value::Reference(items) = &self.value { items } else { &[] };
        items.iter().map(Rc::as_ref)
    }

    /// Whether it is a sequence tagged `!reference`, as GitLab writes what stands elsewhere; its items are the keys to it.
    pub fn is_reference(&self) -> bool {
        matches!(self.value, Value::Reference(_))
    }

    /// What a mapping has under a key, merge keys (`<<`) included.
    pub fn get(&self, key: &str) -> Option<&Node> {
        let Value::Mapping(own) = &self.value else { return None };
        own.get(key).map(Rc::as_ref).or_else(|| self.merged().find_map(|node| node.get(key)))
    }

    /// What stands at a path of keys.
    pub fn at(&self, path: &[&str]) -> Option<&Node> {
        path.iter().try_fold(self, |node, key| node.get(key))
    }

    /// The values of a mapping, merge keys included; nothing for all else.
    pub fn values(&self) -> impl Iterator<Item = &Node> {
        self.entries().map(|(_, value)| value)
    }

    /// The keys and values of a mapping by key, merge keys included; nothing for all else.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &Node)> {
        let mut entries = BTreeMap::new();
        self.collect(&mut entries);
        entries.into_iter()
    }

    /// The key, if it has one, and the value of all that is written directly below: a merge key is a key.
    pub fn children(&self) -> Vec<(Option<&str>, &Node)> {
        match &self.value {
            Value::Null | Value::Text(_) => Vec::new(),
            Value::Sequence(items) | Value::Reference(items) => {
                items.iter().map(|item| (None, item.as_ref())).collect()
            }
            Value::Mapping(own) => own.0.iter().map(|(key, node)| (Some(key.as_ref()), node.as_ref())).collect(),
        }
    }

    fn collect<'a>(&'a self, entries: &mut BTreeMap<&'a str, &'a Node>) {
        let Value::Mapping(own) = &self.value else { return };
        for (key, node) in own.0.iter().filter(|(key, _)| key.as_ref() != MERGE_KEY) {
            entries.entry(key).or_insert(node);
        }
        self.merged().for_each(|node| node.collect(entries));
    }

    /// The mappings that are merged into this one, the strongest first.
    fn merged(&self) -> impl Iterator<Item = &Node> {
        let merge = if let Value::Mapping(own) = &self.value { own.get(MERGE_KEY) } else { None };
        merge
            .into_iter()
            .flat_map(|node| std::iter::once(node.as_ref()).filter(|node| node.is_mapping()).chain(node.items()))
    }
}

/// Parses every document of a stream. Where a mapping has a key both itself and, after it, by a merge key, the programs
/// differ in which value counts: then there are two readings, in both of which images are to be looked for.
///
/// # Errors
/// Broken YAML, what programs read differently, keys that are twice there or no text, and what goes beyond the limits.
pub fn parse(text: &str) -> Result<Vec<Vec<Rc<Node>>>, SyntaxError> {
    screen::check(text)?;
    let (documents, order_counts) = tree::build(text, tree::MergePrecedence::OwnKeys)?;
    let mut readings = vec![documents];
    if order_counts {
        readings.push(tree::build(text, tree::MergePrecedence::LaterKeys)?.0);
    }
    Ok(readings)
}

/// The first line where `{{` stands where YAML wants a value: a template, and the reason why the rest is broken.
pub fn template_line(text: &str) -> Option<usize> {
    let unquoted = |line: &str| {
        line.split_once("{{")
            .is_some_and(|(before, _)| matches!(before.trim_end().chars().last(), None | Some(':' | '-')))
    };
    text.lines().position(unquoted).map(|index| index + 1)
}
