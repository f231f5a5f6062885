use super::*;

fn documents(text: &str) -> Vec<Rc<Node>> {
    let mut readings = parse(text).unwrap();
    assert_eq!(readings.len(), 1);
    readings.remove(0)
}

fn only(text: &str) -> Rc<Node> {
    let mut documents = documents(text);
    assert_eq!(documents.len(), 1);
    documents.remove(0)
}

fn refused(text: &str) -> String {
    let SyntaxError { line, reason } = parse(text).unwrap_err();
    format!("{line} {reason}")
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
    assert_eq!(documents("a: 1\n---\n---\nb: 2\n...\n").len(), 3);
    assert_eq!(documents("").len(), 0);
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
    assert_eq!(broken_line("a: 1\nb: [\n  c\n"), 2);
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
fn alias_expansion_is_bounded() {
    let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
    for level in 1..12 {
        let item = format!("*a{},", level - 1);
        bomb += &format!("a{level}: &a{level} [{}]\n", item.repeat(10));
    }
    let broken = parse(&bomb).unwrap_err();
    assert!(broken.line == 7 && broken.reason.contains("aliases"), "{broken:?}");
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

#[test]
fn what_the_programs_read_is_read() {
    let text = |text: &str, path: &[&str]| only(text).at(path).and_then(Node::text).map(str::to_owned);
    assert_eq!(text("a: [\n  x\n]\nb: y\n", &["b"]).as_deref(), Some("y"));
    assert_eq!(text("a:\n  b: [\n  x,\n  y\n  ]\n  c: z\n", &["a", "c"]).as_deref(), Some("z"));
    assert_eq!(text("a:\n  b: \"x\n  y\"\n", &["a", "b"]).as_deref(), Some("x y"));
    assert_eq!(text("a: 'x\ny'\n", &["a"]).as_deref(), Some("x y"));
    assert_eq!(text("a:\tb\t# c\n", &["a"]).as_deref(), Some("b"));
    // Blank lines that are indented more than the text of a block scalar: the programs refuse them as well.
    assert_eq!(parse("a: |+\n      \n  x\nb: z\n").unwrap_err().line, 3);
    assert_eq!(text("%YAML 1.1\n---\n? a\n: b\n", &["a"]).as_deref(), Some("b"));
    assert_eq!(text("\"\\x61\": \"\\u2028\"\n", &["a"]).as_deref(), Some("\u{2028}"));
}

#[test]
fn characters_and_lines_that_parsers_read_differently_are_refused() {
    for character in ["\u{85}", "\u{2028}", "\u{2029}", "\u{feff}", "\0", "\u{b}", "\u{7f}", "\u{9f}", "\u{ffff}"] {
        for text in ["a: b\n# c{}\n", "a: b\n\"c{}d\": e\n", "a: |\n  b{}c\n"] {
            let reason = refused(&text.replace("{}", character));
            assert!(reason.starts_with("2 the character U+"), "{character:?} {reason}");
        }
    }
    for line in ["---#", "---# a: |", "---\u{a0}", "--- \u{3000}# a"] {
        assert!(refused(&format!("a: b\n{line}\n  c: d\n")).starts_with("2 a line that only kubectl"), "{line}");
    }
    for line in ["---", "--- # x", "---\t", "--- {a: b}"] {
        assert_eq!(documents(&format!("a: b\n{line}\n")).len(), 2, "{line}");
    }
    assert!(refused("%TAG ! tag:yaml.org,2002:\n---\na: !binary aW1hZ2U=\n").starts_with("1 a %TAG"));
}

#[test]
fn tags_that_parsers_read_differently_are_refused() {
    for text in [
        "!!binary aW1hZ2U=: a",
        "a: !!binary aW1hZ2U=",
        "!!null image: a",
        "!<tag:yaml.org,2002:binary> aW1hZ2U=: a",
        "!!merge a: {b: c}",
    ] {
        assert!(refused(text).contains("read differently"), "{text}");
    }
    for text in ["a: !!omap [b: c]", "a: !!str {=: b}", "a: !!set {b}", "a: !!map [b]", "a: !!pairs [b: c]"] {
        assert!(refused(text).contains("read differently here"), "{text}");
    }
    let text = "a: !!str ~\nb: !reset null\nc: !override x\nd: !!map {!!str e: !x y}\nf: !!seq [g]\nh: !!null\n";
    let root = only(text);
    let at = |path: &[&str]| root.at(path).and_then(Node::text).map(str::to_owned);
    assert_eq!(at(&["a"]).as_deref(), Some("~"));
    assert!(root.get("b").unwrap().is_null() && root.get("h").unwrap().is_null());
    assert_eq!(at(&["c"]).as_deref(), Some("x"));
    assert_eq!(at(&["d", "e"]).as_deref(), Some("y"));
    assert!(refused("a: b\n!!str a: c\n").starts_with("2 the key \"a\" is given twice"));
    // Tags of other programs do not make a file unreadable.
    only("nav: !ENV [A, b]\nslugify: !!python/object/apply:x.y {kwds: {case: lower}}\nname: !!python/name:z ''\n");
}

#[test]
fn merge_keys_after_a_key_have_two_readings() {
    let values = |text: &str| -> Vec<Option<String>> {
        let readings = parse(text).unwrap();
        readings.iter().map(|reading| reading[0].at(&["a", "b"]).and_then(Node::text).map(str::to_owned)).collect()
    };
    let some = |texts: &[&str]| -> Vec<_> { texts.iter().map(|text| Some((*text).to_owned())).collect() };
    assert_eq!(values("a: {b: own, <<: {b: merged}}"), some(&["own", "merged"]));
    assert_eq!(values("a: {b: own, <<: [{c: d}, {b: first}, {b: second}]}"), some(&["own", "first"]));
    assert_eq!(values("a: {<<: {b: merged}, b: own}"), some(&["own"]));
    assert_eq!(values("a: {b: own, <<: {c: d}}"), some(&["own"]));
    assert_eq!(values("a: {b: same, <<: {b: same}}"), some(&["same"]));
    assert_eq!(values("x: &x {c: 1, <<: {b: 2}}\na: {b: own, <<: *x}"), some(&["own", "2"]));
    for text in ["\"<<\": {a: b}", "!!str <<: {a: b}", "&x <<: {a: b}\nc: {*x : {d: e}}"] {
        assert!(refused(text).contains("a key << that some"), "{text}");
    }
    for text in ["<<: a", "<<: [a]", "<<: [[{a: b}]]", "<<:"] {
        assert!(refused(text).contains("neither a mapping"), "{text}");
    }
    assert!(refused("<<: {a: b}\n<<: {c: d}\n").starts_with("2 the key \"<<\""));
}

#[test]
fn names_of_anchors() {
    assert!(refused("a: &b:c d\n").starts_with("1 the name \"&b:c\""));
    assert!(refused("x: &a y\n? *a: b\n").contains("2 "));
    assert_eq!(only("a: &b-c_1 d\ne: *b-c_1\n").get("e").and_then(Node::text), Some("d"));
}

/// Compose removes the value whatever it is; kubectl and others pass the tag over.
#[test]
fn what_is_reset_is_null_or_refused() {
    for text in ["a: !reset null", "a: !reset", "a: !reset []", "a: !reset {}"] {
        assert!(only(text).get("a").unwrap().is_null(), "{text}");
    }
    for text in ["a: !reset .", "a: !reset ''", "a: !reset [b]", "a: !reset {b: c}"] {
        assert!(parse(text).unwrap_err().reason.contains("!reset"), "{text}");
    }
}
