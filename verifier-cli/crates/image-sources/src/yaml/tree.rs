//! Builds the tree from the events of the parser.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    ops::Range,
    rc::Rc,
};

use granit_parser::{Event, Options, Parser, ScalarStyle, ScanError, Span, Tag};

use super::{MAX_DEPTH, MAX_NODES, MERGE_KEY, Mapping, Node, Value};
use crate::model::SyntaxError;

/// Which value counts where a mapping has a key itself, and a merge key after it brings the same key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MergePrecedence {
    /// The mapping's own: yaml.v3 and later (Docker Compose, Kustomize), PyYAML.
    OwnKeys,
    /// The later one: sigs.k8s.io/yaml (kubectl), Psych (GitLab).
    LaterKeys,
}

/// The documents of a stream, and whether they depend on the precedence.
///
/// # Errors
/// As [`super::parse`].
pub fn build(text: &str, precedence: MergePrecedence) -> Result<(Vec<Rc<Node>>, bool), SyntaxError> {
    let mut tree = Tree { precedence, ..Tree::new() };
    for event in Parser::new_from_str_with_options(text, options()) {
        let (event, span) = event.map_err(syntax_error)?;
        tree.take(event, &span, text)?;
    }
    Ok((tree.documents, tree.order_counts))
}

fn options() -> Options {
    let mut options = Options::default();
    options.set_emit_comments(false);
    // The names of anchors are checked.
    options.emit_anchor_events = true;
    // As libyaml and its descendants have it.
    options.block_scalar_eof_without_line_feed = true;
    options
}

fn syntax_error(error: ScanError) -> SyntaxError {
    SyntaxError { line: error.marker().line().max(1), reason: format!("broken YAML: {}", error.info()) }
}

/// A collection that is still open.
struct Open {
    line: usize,
    anchor: usize,
    size: usize,
    collection: Collection,
    /// Whether it is tagged `!reset`, as Docker Compose writes what it removes.
    reset: bool,
}

enum Collection {
    Sequence(Vec<Rc<Node>>),
    Reference(Vec<Rc<Node>>),
    /// With the key whose value comes next.
    Mapping(Vec<Entry>, Option<(usize, Rc<str>)>),
}

struct Entry {
    /// Of the key.
    line: usize,
    key: Rc<str>,
    node: Rc<Node>,
}

/// Where a node stands as a key: whether the parsers agree on what `<<` is there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Written {
    Plainly,
    /// Quoted, tagged, or by an alias.
    Otherwise,
}

struct Tree {
    documents: Vec<Rc<Node>>,
    open: Vec<Open>,
    /// The anchors of the document; 0 is none.
    anchors: HashMap<usize, Rc<Node>>,
    /// Keys, which repeat much.
    keys: HashSet<Rc<str>>,
    /// Nodes so far, with every alias written out.
    size: usize,
    precedence: MergePrecedence,
    order_counts: bool,
}

impl Tree {
    fn new() -> Tree {
        Tree {
            documents: Vec::new(),
            open: Vec::new(),
            anchors: HashMap::new(),
            keys: HashSet::new(),
            size: 0,
            precedence: MergePrecedence::OwnKeys,
            order_counts: false,
        }
    }

    fn take(&mut self, event: Event<'_>, span: &Span, text: &str) -> Result<(), SyntaxError> {
        let line = span.start.line();
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let value = scalar(line, &text, style, tag.as_deref())?;
                self.check_key_tag(line, tag.as_deref())?;
                let plain = style == ScalarStyle::Plain && tag.is_none();
                let written = if plain { Written::Plainly } else { Written::Otherwise };
                self.leaf(line, bytes(span), value, anchor, written)
            }
            Event::Alias(anchor) => {
                check_name(line, span.slice(text).unwrap_or_default())?;
                self.alias(line, anchor)
            }
            Event::Anchor(_, name) => check_name(line, &format!("&{name}")),
            Event::SequenceStart(_, anchor, tag) => {
                check_collection_tag(line, tag.as_deref(), "seq")?;
                self.open(line, anchor, sequence(tag.as_deref()), is_reset(tag.as_deref()))
            }
            Event::MappingStart(_, anchor, tag) => {
                check_collection_tag(line, tag.as_deref(), "map")?;
                self.open(line, anchor, Collection::Mapping(Vec::new(), None), is_reset(tag.as_deref()))
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(),
            Event::DocumentEnd => {
                self.anchors.clear();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Refuses a key with a tag that makes another value of its text (`!!null image` is no key `image` to PyYAML).
    fn check_key_tag(&self, line: usize, tag: Option<&Tag>) -> Result<(), SyntaxError> {
        let is_key = matches!(self.open.last(), Some(Open { collection: Collection::Mapping(_, None), .. }));
        match core_tag(tag).filter(|name| is_key && name != "str") {
            Some(name) => {
                error(line, &format!("a key tagged !!{name}, which YAML parsers read differently: remove the tag"))
            }
            None => Ok(()),
        }
    }

    fn leaf(
        &mut self,
        line: usize,
        span: Range<u32>,
        value: Value,
        anchor: usize,
        written: Written,
    ) -> Result<(), SyntaxError> {
        self.count(line, 1)?;
        self.add(Node { line, span, size: 1, value }, anchor, written)
    }

    fn alias(&mut self, line: usize, anchor: usize) -> Result<(), SyntaxError> {
        let Some(node) = self.anchors.get(&anchor).cloned() else {
            return error(line, "an alias for something that is not complete before it");
        };
        self.count(line, node.size as usize)?;
        self.place(line, node, Written::Otherwise)
    }

    fn open(&mut self, line: usize, anchor: usize, collection: Collection, reset: bool) -> Result<(), SyntaxError> {
        self.count(line, 1)?;
        if self.open.len() == MAX_DEPTH {
            return error(line, &format!("nested over {MAX_DEPTH} deep"));
        }
        self.open.push(Open { line, anchor, size: 1, collection, reset });
        Ok(())
    }

    fn close(&mut self) -> Result<(), SyntaxError> {
        let Some(Open { line, anchor, size, collection, reset }) = self.open.pop() else { return Ok(()) };
        let value = match collection {
            _ if reset && size == 1 => Value::Null,
            _ if reset => return error(line, KEPT_AFTER_RESET),
            Collection::Sequence(items) => Value::Sequence(items.into()),
            Collection::Reference(items) => Value::Reference(items.into()),
            Collection::Mapping(entries, _) => Value::Mapping(self.mapping(entries)?),
        };
        let size = u32::try_from(size).unwrap_or(u32::MAX);
        self.add(Node { line, span: 0..0, size, value }, anchor, Written::Otherwise)
    }

    fn count(&mut self, line: usize, more: usize) -> Result<(), SyntaxError> {
        self.size += more;
        if self.size > MAX_NODES {
            return error(line, &format!("over {MAX_NODES} values, aliases written out: split the file"));
        }
        Ok(())
    }

    fn add(&mut self, node: Node, anchor: usize, written: Written) -> Result<(), SyntaxError> {
        let (line, node) = (node.line, Rc::new(node));
        if anchor > 0 {
            self.anchors.insert(anchor, Rc::clone(&node));
        }
        self.place(line, node, written)
    }

    /// Puts a complete node where it belongs.
    fn place(&mut self, line: usize, node: Rc<Node>, written: Written) -> Result<(), SyntaxError> {
        let Some(parent) = self.open.last_mut() else {
            self.documents.push(node);
            return Ok(());
        };
        parent.size += node.size as usize;
        match &mut parent.collection {
            Collection::Sequence(items) | Collection::Reference(items) => items.push(node),
            Collection::Mapping(entries, next) => match next.take() {
                None => *next = Some((line, key(line, &node, written, &mut self.keys)?)),
                Some((line, key)) => entries.push(Entry { line, key, node }),
            },
        }
        Ok(())
    }

    /// A key must be only once there: of two values, one program would take the first, another the last.
    fn mapping(&mut self, mut entries: Vec<Entry>) -> Result<Mapping, SyntaxError> {
        self.merge(&mut entries)?;
        entries.sort_by(|a, b| a.key.cmp(&b.key));
        let twice = entries.windows(2).filter(|pair| pair[0].key == pair[1].key).map(|pair| &pair[1]);
        if let Some(entry) = twice.min_by_key(|entry| entry.line) {
            return error(entry.line, &format!("the key {:?} is given twice: remove one", entry.key));
        }
        Ok(Mapping(entries.into_iter().map(|entry| (entry.key, entry.node)).collect()))
    }

    /// Checks the merge key, and removes the keys before it whose values it replaces where it does.
    fn merge(&mut self, entries: &mut Vec<Entry>) -> Result<(), SyntaxError> {
        let Some(position) = entries.iter().position(|entry| entry.key.as_ref() == MERGE_KEY) else { return Ok(()) };
        let Some(Entry { line, node, .. }) = entries.get(position) else { return Ok(()) };
        let sources: Vec<&Node> = match &node.value {
            Value::Mapping(_) => vec![node],
            Value::Sequence(items) => items.iter().map(Rc::as_ref).collect(),
            _ => Vec::new(),
        };
        if sources.is_empty() || !sources.iter().all(|node| node.is_mapping()) {
            return error(*line, "the value of << is neither a mapping nor a list of mappings: merge only these");
        }
        if position == 0 {
            return Ok(());
        }
        let mut merged = std::collections::BTreeMap::new();
        sources.iter().for_each(|node| node.collect(&mut merged));
        let replaced: HashSet<Rc<str>> = entries[..position]
            .iter()
            .filter(|entry| merged.get(entry.key.as_ref()).is_some_and(|other| differ(&entry.node, other)))
            .map(|entry| Rc::clone(&entry.key))
            .collect();
        self.order_counts |= !replaced.is_empty();
        if self.precedence == MergePrecedence::LaterKeys {
            let mut index = 0;
            entries.retain(|entry| {
                index += 1;
                index > position || !replaced.contains(&entry.key)
            });
        }
        Ok(())
    }
}

/// Whether it matters which of two values counts.
fn differ(own: &Rc<Node>, merged: &Node) -> bool {
    let same_text = own.text().is_some() && own.text() == merged.text();
    !same_text && !std::ptr::eq(own.as_ref(), merged)
}

/// The text of a key.
fn key(line: usize, node: &Node, written: Written, keys: &mut HashSet<Rc<str>>) -> Result<Rc<str>, SyntaxError> {
    let text = match &node.value {
        Value::Null => "",
        Value::Text(text) => text,
        _ => return error(line, "a key that is no text"),
    };
    if text == MERGE_KEY && written == Written::Otherwise {
        return error(line, "a key << that some YAML parsers merge and others do not: write it without quotes or tags");
    }
    if let Some(key) = keys.get(text) {
        return Ok(Rc::clone(key));
    }
    let key = Rc::<str>::from(text);
    keys.insert(Rc::clone(&key));
    Ok(key)
}

fn bytes(span: &Span) -> Range<u32> {
    let range = span.byte_range().unwrap_or_default();
    let position = |byte| u32::try_from(byte).unwrap_or(u32::MAX);
    position(range.start)..position(range.end)
}

/// What a tag of YAML's own is called (`str` for `!!str`, however it is written).
fn core_tag(tag: Option<&Tag>) -> Option<Cow<'_, str>> {
    tag?.suffix_in_namespace("tag:yaml.org,2002:")
}

fn local_tag(tag: Option<&Tag>) -> Option<&str> {
    tag.filter(|tag| tag.handle() == "!").map(Tag::suffix)
}

/// What a scalar is. Tags that parsers do not know are passed over, as they do: tools give a meaning to them later.
fn scalar(line: usize, text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Result<Value, SyntaxError> {
    let core = core_tag(tag);
    if let Some(name @ ("binary" | "merge" | "value")) = core.as_deref() {
        return error(line, &format!("a tag !!{name}, which YAML parsers read differently: write the text itself"));
    }
    let kept = matches!(local_tag(tag), Some("reset" | "override")) || matches!(core.as_deref(), Some("null"));
    let untagged = tag.is_none() || kept;
    let null = untagged && style == ScalarStyle::Plain && matches!(text, "" | "~" | "null" | "Null" | "NULL");
    if is_reset(tag) && !null {
        return error(line, KEPT_AFTER_RESET);
    }
    Ok(if null { Value::Null } else { Value::Text(text.into()) })
}

/// Why a value tagged `!reset` is refused unless it is null or empty (compose-spec, "Reset value").
const KEPT_AFTER_RESET: &str =
    "a value tagged !reset, which Docker Compose removes and other programs keep: write !reset null";

fn is_reset(tag: Option<&Tag>) -> bool {
    local_tag(tag) == Some("reset")
}

/// Refuses tags that make something else of a sequence or a mapping.
fn check_collection_tag(line: usize, tag: Option<&Tag>, own: &str) -> Result<(), SyntaxError> {
    const CHANGING: [&str; 14] = [
        "binary",
        "bool",
        "float",
        "int",
        "map",
        "merge",
        "null",
        "omap",
        "pairs",
        "seq",
        "set",
        "str",
        "timestamp",
        "value",
    ];
    match core_tag(tag).as_deref() {
        Some(name) if name != own && CHANGING.contains(&name) => {
            error(line, &format!("a tag !!{name} that YAML parsers read differently here: remove it"))
        }
        _ => Ok(()),
    }
}

fn sequence(tag: Option<&Tag>) -> Collection {
    if local_tag(tag) == Some("reference") {
        Collection::Reference(Vec::new())
    } else {
        Collection::Sequence(Vec::new())
    }
}

/// Where the name of an anchor or an alias (`&name`, `*name`) ends, parsers agree on only with these characters.
fn check_name(line: usize, name: &str) -> Result<(), SyntaxError> {
    let agreed = |character: char| character.is_ascii_alphanumeric() || "_-".contains(character);
    if name.chars().skip(1).all(agreed) {
        return Ok(());
    }
    error(
        line,
        &format!("the name {name:?} of an anchor, which YAML parsers read differently: use letters, digits, - and _"),
    )
}

fn error<T>(line: usize, reason: &str) -> Result<T, SyntaxError> {
    Err(SyntaxError { line, reason: reason.to_owned() })
}
