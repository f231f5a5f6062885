//! YAML as a tree with line numbers, bounded whatever the text says.
//!
//! Aliases share what they stand for instead of copying it, and count as if they copied it: so neither building
//! the tree nor walking it can take more than [`MAX_NODES`] steps.

use std::{
    collections::{BTreeMap, HashMap, btree_map::Entry},
    ops::Range,
    rc::Rc,
};

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Tag};

use super::model::SyntaxError;

/// Nodes in one file, with every alias written out.
const MAX_NODES: usize = 500_000;
/// Characters that part the values of flow collections (`[a, b]`). The parser holds all of such a collection
/// before it gives its first value, at a few hundred bytes each.
const MAX_INDICATORS: usize = 600_000;
/// Collections in collections. Trees are dropped and walked by recursion.
const MAX_DEPTH: usize = 128;

/// A value and the line on which it is written. An alias has the line of its anchor.
#[derive(Debug)]
pub struct Node {
    /// From 1 on.
    pub line: usize,
    span: Range<usize>,
    value: Value,
    /// Nodes from here on down, with every alias written out.
    size: usize,
}

#[derive(Debug)]
enum Value {
    Null,
    Text(String),
    Sequence(Vec<Rc<Node>>),
    /// A sequence tagged `!reference`: the keys that lead to the value.
    Reference(Vec<Rc<Node>>),
    Mapping(BTreeMap<String, Rc<Node>>),
}

impl Node {
    /// The text of a scalar, of whatever type YAML thinks it is.
    pub fn text(&self) -> Option<&str> {
        if let Value::Text(text) = &self.value { Some(text) } else { None }
    }

    /// The bytes of the text that a scalar is written in, with its anchor, tag and quotes.
    pub fn span(&self) -> Range<usize> {
        self.span.clone()
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
            Value::Mapping(own) => own.iter().map(|(key, node)| (Some(key.as_str()), node.as_ref())).collect(),
        }
    }

    fn collect<'a>(&'a self, entries: &mut BTreeMap<&'a str, &'a Node>) {
        let Value::Mapping(own) = &self.value else { return };
        for (key, node) in own.iter().filter(|(key, _)| *key != "<<") {
            entries.entry(key).or_insert(node);
        }
        self.merged().for_each(|node| node.collect(entries));
    }

    /// The mappings that are merged into this one, the strongest first.
    fn merged(&self) -> impl Iterator<Item = &Node> {
        let merge = if let Value::Mapping(own) = &self.value { own.get("<<") } else { None };
        merge
            .into_iter()
            .flat_map(|node| std::iter::once(node.as_ref()).filter(|node| node.is_mapping()).chain(node.items()))
    }
}

/// Parses every document of a stream.
///
/// # Errors
/// Broken YAML, keys that are twice there or no text, and what goes beyond the limits.
pub fn parse(text: &str) -> Result<Vec<Rc<Node>>, SyntaxError> {
    let indicators = text.bytes().filter(|byte| b",:[]{}?".contains(byte)).count();
    if indicators > MAX_INDICATORS {
        return Err(SyntaxError {
            line: 1,
            reason: format!("over {MAX_INDICATORS} of the characters ,:[]{{}}?: split the file"),
        });
    }
    let mut tree = Tree::default();
    let bytes = ByteOffsets::new(text);
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(syntax_error)?;
        let line = span.start.line();
        match event {
            Event::Scalar(text, style, anchor, _) => {
                let span = bytes.at(span.start.index())..bytes.at(span.end.index());
                tree.leaf(line, span, scalar(&text, style), anchor)?;
            }
            Event::Alias(anchor) => tree.alias(line, anchor)?,
            Event::SequenceStart(anchor, tag) => tree.open(line, anchor, sequence(tag.as_deref()))?,
            Event::MappingStart(anchor, _) => tree.open(line, anchor, Collection::Mapping(BTreeMap::new(), None))?,
            Event::SequenceEnd | Event::MappingEnd => tree.close()?,
            Event::DocumentEnd => tree.anchors.clear(),
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentStart(_) => {}
        }
    }
    Ok(tree.documents)
}

/// Turns positions in characters, as the parser counts, into positions in bytes.
struct ByteOffsets<'t> {
    text: &'t str,
    /// The byte at which every [`STRIDE`]th character begins.
    strides: Vec<usize>,
}

const STRIDE: usize = 64;

impl ByteOffsets<'_> {
    fn new(text: &str) -> ByteOffsets<'_> {
        ByteOffsets { text, strides: text.char_indices().step_by(STRIDE).map(|(byte, _)| byte).collect() }
    }

    fn at(&self, character: usize) -> usize {
        let stride = self.strides.get(character / STRIDE).copied().unwrap_or(self.text.len());
        let rest = self.text[stride..].char_indices().nth(character % STRIDE);
        rest.map_or(self.text.len(), |(byte, _)| stride + byte)
    }
}

fn syntax_error(error: ScanError) -> SyntaxError {
    SyntaxError { line: error.marker().line().max(1), reason: format!("broken YAML: {}", error.info()) }
}

fn scalar(text: &str, style: ScalarStyle) -> Value {
    let null = style == ScalarStyle::Plain && matches!(text, "" | "~" | "null" | "Null" | "NULL");
    if null { Value::Null } else { Value::Text(text.to_owned()) }
}

fn sequence(tag: Option<&Tag>) -> Collection {
    if tag.is_some_and(|tag| tag.handle == "!" && tag.suffix == "reference") {
        Collection::Reference(Vec::new())
    } else {
        Collection::Sequence(Vec::new())
    }
}

/// The first line where `{{` stands where YAML wants a value: a template, and the reason why the rest is broken.
pub fn template_line(text: &str) -> Option<usize> {
    let unquoted = |line: &str| {
        line.split_once("{{")
            .is_some_and(|(before, _)| matches!(before.trim_end().chars().last(), None | Some(':' | '-')))
    };
    text.lines().position(unquoted).map(|index| index + 1)
}

/// A collection that is still open.
struct Open {
    line: usize,
    anchor: usize,
    size: usize,
    collection: Collection,
}

enum Collection {
    Sequence(Vec<Rc<Node>>),
    Reference(Vec<Rc<Node>>),
    /// With the key whose value comes next.
    Mapping(BTreeMap<String, Rc<Node>>, Option<String>),
}

#[derive(Default)]
struct Tree {
    documents: Vec<Rc<Node>>,
    open: Vec<Open>,
    /// The anchors of the document; 0 is none.
    anchors: HashMap<usize, Rc<Node>>,
    /// Nodes so far, with every alias written out.
    size: usize,
}

impl Tree {
    fn leaf(&mut self, line: usize, span: Range<usize>, value: Value, anchor: usize) -> Result<(), SyntaxError> {
        self.count(line, 1)?;
        self.add(Node { line, span, value, size: 1 }, anchor)
    }

    fn alias(&mut self, line: usize, anchor: usize) -> Result<(), SyntaxError> {
        let Some(node) = self.anchors.get(&anchor).cloned() else {
            return Err(SyntaxError {
                line,
                reason: "an alias for something that is not complete before it".to_owned(),
            });
        };
        self.count(line, node.size)?;
        self.place(line, node)
    }

    fn open(&mut self, line: usize, anchor: usize, collection: Collection) -> Result<(), SyntaxError> {
        self.count(line, 1)?;
        if self.open.len() == MAX_DEPTH {
            return Err(SyntaxError { line, reason: format!("nested over {MAX_DEPTH} deep") });
        }
        self.open.push(Open { line, anchor, size: 1, collection });
        Ok(())
    }

    fn close(&mut self) -> Result<(), SyntaxError> {
        let Some(Open { line, anchor, size, collection }) = self.open.pop() else { return Ok(()) };
        let value = match collection {
            Collection::Sequence(items) => Value::Sequence(items),
            Collection::Reference(items) => Value::Reference(items),
            Collection::Mapping(entries, _) => Value::Mapping(entries),
        };
        self.add(Node { line, span: 0..0, value, size }, anchor)
    }

    fn count(&mut self, line: usize, more: usize) -> Result<(), SyntaxError> {
        self.size += more;
        let reason = || format!("over {MAX_NODES} values, aliases written out: split the file");
        if self.size > MAX_NODES { Err(SyntaxError { line, reason: reason() }) } else { Ok(()) }
    }

    fn add(&mut self, node: Node, anchor: usize) -> Result<(), SyntaxError> {
        let (line, node) = (node.line, Rc::new(node));
        if anchor > 0 {
            self.anchors.insert(anchor, Rc::clone(&node));
        }
        self.place(line, node)
    }

    /// Puts a complete node where it belongs.
    fn place(&mut self, line: usize, node: Rc<Node>) -> Result<(), SyntaxError> {
        let Some(parent) = self.open.last_mut() else {
            self.documents.push(node);
            return Ok(());
        };
        parent.size += node.size;
        match &mut parent.collection {
            Collection::Sequence(items) | Collection::Reference(items) => items.push(node),
            Collection::Mapping(entries, key) => match key.take() {
                None => *key = Some(new_key(line, &node, entries)?),
                Some(key) => drop(entries.insert(key, node)),
            },
        }
        Ok(())
    }
}

/// A key must be text, and only once there: of two values, one program would take the first, another the last.
fn new_key(line: usize, node: &Node, entries: &mut BTreeMap<String, Rc<Node>>) -> Result<String, SyntaxError> {
    let key = match &node.value {
        Value::Null => String::new(),
        Value::Text(text) => text.clone(),
        _ => return Err(SyntaxError { line, reason: "a key that is no text".to_owned() }),
    };
    match entries.entry(key) {
        Entry::Occupied(entry) => {
            Err(SyntaxError { line, reason: format!("the key {:?} is there twice", entry.key()) })
        }
        Entry::Vacant(entry) => Ok(entry.into_key()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only(text: &str) -> Rc<Node> {
        let mut documents = parse(text).unwrap();
        assert_eq!(documents.len(), 1);
        documents.remove(0)
    }

    fn broken_line(text: &str) -> usize {
        parse(text).unwrap_err().line
    }

    #[test]
    fn lines_and_paths() {
        let root = only("# comment\na:\n  - b: 'c'\n    d: >-\n      folded\n      text\n  - ~\n");
        let first = root.get("a").and_then(|a| a.items().next()).unwrap();
        let text = |key| first.get(key).map(|node| (node.line, node.text().unwrap().to_owned()));
        assert_eq!(text("b"), Some((3, "c".to_owned())));
        assert_eq!(text("d").unwrap().1, "folded text");
        assert!(root.get("a").and_then(|a| a.items().nth(1)).unwrap().is_null());
        assert!(root.at(&["a", "b"]).is_none() && root.at(&["x"]).is_none());
        assert_eq!(parse("a: 1\n---\n---\nb: 2\n...\n").unwrap().len(), 3);
        assert_eq!(parse("").unwrap().len(), 0);
    }

    #[test]
    fn merge_keys_yield_to_the_mapping_itself() {
        let text = "x: &x {a: x, b: x, c: x}\ny: &y {b: y, d: y}\nz: {<<: [*y, *x], a: z}\nw: {<<: *x, b: null}\n";
        let root = only(text);
        let at = |path: &[&str]| root.at(path).and_then(Node::text).map(str::to_owned);
        assert_eq!(at(&["z", "a"]).as_deref(), Some("z"));
        assert_eq!(at(&["z", "b"]).as_deref(), Some("y"));
        assert_eq!(at(&["z", "c"]).as_deref(), Some("x"));
        assert_eq!(at(&["w", "b"]), None);
        let values: Vec<_> = root.get("z").unwrap().values().filter_map(Node::text).collect();
        assert_eq!(values, ["z", "y", "x", "y"]);
    }

    #[test]
    fn broken_yaml_says_where() {
        assert_eq!(broken_line("a: 1\nb: [\n  c\n"), 4);
        assert_eq!(broken_line("a: 1\nb: 2\n c: 3\n"), 3);
        assert_eq!(broken_line("a:\n\tb: 2\n"), 2);
        assert_eq!(broken_line("a: 1\nb: 2\na: 3\n"), 3);
        assert_eq!(broken_line("a: 1\n? [b]\n: c\n"), 2);
        assert_eq!(broken_line("a: *b\n"), 1);
        assert_eq!(broken_line("a: &a\n  - *a\n"), 2);
        assert_eq!(broken_line("a: &a 1\n---\nb: *a\n"), 3);
        assert_eq!(broken_line("ok: 1\n---\nb: 'c\n"), 3);
    }

    #[test]
    fn bombs_are_refused() {
        let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
        for level in 1..12 {
            let item = format!("*a{},", level - 1);
            bomb += &format!("a{level}: &a{level} [{}]\n", item.repeat(10));
        }
        let broken = parse(&bomb).unwrap_err();
        assert!(broken.line == 6 && broken.reason.contains("aliases"), "{broken:?}");
        // The same through merge keys, and as a long chain, which must not exhaust the stack either.
        let chain = |n: usize| {
            (1..n).fold("a0: &a0 {k: v}\n".to_owned(), |text, level| {
                text + &format!("a{level}: &a{level} {{<<: *a{}}}\n", level - 1)
            })
        };
        assert!(parse(&chain(2000)).unwrap_err().reason.contains("aliases"));
        let root = only(&chain(500));
        assert_eq!(root.at(&["a499", "k"]).and_then(Node::text), Some("v"));
        assert_eq!(root.get("a499").unwrap().values().count(), 1);
        assert!(parse(&"- a\n".repeat(MAX_NODES)).unwrap_err().reason.contains("values"));
        let flow = |items: usize| format!("[{}]", "a,".repeat(items));
        assert!(parse(&flow(MAX_NODES)).unwrap_err().reason.contains("values"));
        assert!(parse(&flow(MAX_INDICATORS)).unwrap_err().reason.contains("characters"));
    }

    #[test]
    fn depth_is_bounded() {
        for opening in ["[", "- ", "? ", "{a: ", "&a [", "? - "] {
            assert!(parse(&opening.repeat(100_000)).is_err(), "{opening}");
        }
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(parse(&nested(MAX_DEPTH)).is_ok() && parse(&nested(MAX_DEPTH + 1)).is_err());
    }

    #[test]
    fn templates_are_told_from_text() {
        assert_eq!(template_line("a: 1\n{{- if .Values.x }}\n"), Some(2));
        assert_eq!(template_line("a: {{ .Values.x }}\n"), Some(1));
        assert_eq!(template_line("a:\n  - {{ x }}\n"), Some(2));
        assert_eq!(template_line("a: \"{{ x }}\"\nb: c {{ d }}\n"), None);
    }
}
