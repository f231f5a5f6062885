//! Facts of moby/buildkit, frontend/dockerfile/shell: envVarTest, wordsTest and lex_test.go.

use super::{dialect::CURRENT, shell::*};
use crate::variables::Unresolved;

fn value_of(name: &str) -> Variable {
    let known = [
        ("PWD", "/home"),
        ("SHELL", "bash"),
        ("NULL", ""),
        ("KOREAN", "한국어"),
        ("FOO", "xxyy"),
        ("DOT", "a.b.c"),
        ("STAR", "a*b"),
        ("LONG", &"x".repeat(1024)),
    ];
    match known.iter().find(|(known, _)| *known == name) {
        Some((_, text)) => Variable::Value(Expansion { text: (*text).to_owned(), platform: None }),
        None => Variable::Unset,
    }
}

/// The expansion; an error of the syntax is `Err(None)`.
fn expanded(text: &str) -> Result<String, Option<Unresolved>> {
    match expand(text, '\\', &value_of) {
        Ok(Ok(expansion)) => Ok(expansion.text),
        Ok(Err(unresolved)) => Err(Some(unresolved)),
        Err(_) => Err(None),
    }
}

#[test]
fn words_expand_as_in_buildkit() {
    for (text, want) in [
        ("hello", "hello"),
        ("he'll'o", "hello"),
        (r"he\'llo", "he'llo"),
        (r"abc\tdef", "abctdef"),
        (r#""abc\tdef""#, r"abc\tdef"),
        (r#""abc\\tdef""#, r"abc\tdef"),
        (r"'abc\tdef'", r"abc\tdef"),
        (r"hello\", "hello"),
        (r"hello\\", r"hello\"),
        (r#""hel'lo""#, "hel'lo"),
        (r"'hello\'", r"hello\"),
        (r"'hello\\there'", r"hello\\there"),
        (r#""''""#, "''"),
        ("$.", "$."),
        ("he$.x", "he$.x"),
        ("he$PWD", "he/home"),
        (r"he\$PWD", "he$PWD"),
        (r"he\\$PWD", r"he\/home"),
        (r#""he\$PWD""#, "he$PWD"),
        (r"\${}aaa", "${}aaa"),
        ("he${XXX:-000}xx", "he000xx"),
        ("he${PWD:-000}xx", "he/homexx"),
        ("he${XXX:-${PWD:-yyy}}xx", "he/homexx"),
        ("he${XXX:-${YYY:-yyy}}xx", "heyyyxx"),
        ("he${PWD?}he${PWD:?}he${NULL?}", "he/homehe/homehe"),
        ("he${XXX:+${PWD}}xx${XXX+a}", "hexx"),
        ("he${PWD:+${SHELL}}xx${NULL:+a}${NULL+b}", "hebashxxb"),
        ("'he${XX}'", "he${XX}"),
        ("\"he'$PWD'\"", "he'/home'"),
        ("he${PWD:+${PWD}:}xx", "he/home:xx"),
        (r"he${XXX:-\${PWD}z}xx", "he${PWDz}xx"),
        ("안녕하세요\\", "안녕하세요"),
        ("안녕$KOREAN", "안녕한국어"),
        ("${SHELL}}", "bash}"),
        ("${aaa:-bbb}}", "bbb}"),
        ("${aaa:-bbb {foo}", "bbb {foo"),
        ("${1:-bbb}${001:-c}aaa", "bbbcaaa"),
        ("${@:-bbb}${*:+c}${#:-d}${$:-e}", "bbbde"),
        ("\u{feff}a", "a"),
    ] {
        assert_eq!(expanded(text).as_deref(), Ok(want), "{text}");
    }
}

#[test]
fn what_is_no_expansion() {
    for text in [
        "he'llo",
        r"he\\'llo",
        "\"hello",
        r#""hello\""#,
        "'hello",
        "${}",
        "he${}xx",
        "he${.}",
        "he${XXX:YYY}",
        "he${PWD",
        "he${PWD:=000}xx",
        "he${PWD=000}xx",
        "${{aaa}",
        "${aaa:-bbb ${foo}",
        "${:}",
        "${:-bbb}",
        "${PWD:#a}",
        "${PWD,,}",
        "${!PWD}",
        "${PWD/a}",
    ] {
        assert_eq!(expanded(text), Err(None), "{text}");
    }
}

#[test]
fn variables_without_a_value_are_named() {
    for (text, name) in [
        ("$XXX", "XXX"),
        ("a${XXX}b", "XXX"),
        ("${XXX:?m}", "XXX"),
        ("${NULL:?m}", "NULL"),
        ("${XXX:-$YYY}", "YYY"),
        ("${PWD:+$YYY}", "YYY"),
        ("he$1x", "1"),
        ("$안", "안"),
        ("${XXX#a}", "XXX"),
        ("${XXX/a/b}", "XXX"),
        ("${PWD#$XXX}", "XXX"),
    ] {
        assert_eq!(expanded(text), Err(Some(Unresolved::BuildArgument(name.to_owned()))), "{text}");
    }
    assert_eq!(expanded("${PWD:-$XXX}${XXX:+$XXX}").as_deref(), Ok("/home"));
}

#[test]
fn patterns_match_as_in_buildkit() {
    for (text, want) in [
        ("${FOO#xx}", "yy"),
        ("${FOO#x}", "xyy"),
        ("${FOO#*x}", "xyy"),
        ("${FOO##*x}", "yy"),
        ("${FOO#?x}", "yy"),
        ("${FOO#y}", "xxyy"),
        ("${FOO%y}", "xxy"),
        ("${FOO%y*}", "xxy"),
        ("${FOO%%y*}", "xx"),
        ("${FOO%%x}", "xxyy"),
        ("${FOO/x/z}", "zxyy"),
        ("${FOO//x/z}", "zzyy"),
        ("${FOO/*/z}", "z"),
        ("${FOO/y*/}", "xx"),
        ("${FOO/q/z}", "xxyy"),
        ("${DOT#*.}", "b.c"),
        ("${DOT##*.}", "c"),
        ("${DOT%.*}", "a.b"),
        ("${DOT%%.*}", "a"),
        ("${DOT//./-}", "a-b-c"),
        (r"${STAR/\*/-}", "a-b"),
        (r"${PWD/\//-}", "-home"),
        ("${PWD#$SHELL}", "/home"),
        ("${FOO#'xx'}", "yy"),
        ("${NULL#a}", ""),
    ] {
        assert_eq!(expanded(text).as_deref(), Ok(want), "{text}");
    }
    for text in [r"${FOO#\x}", "${FOO//x/'$y'}", &format!("${{FOO#{}}}", "*".repeat(1000))] {
        assert_eq!(expanded(text), Err(Some(Unresolved::NotUnderstood)), "{text}");
    }
}

#[test]
fn values_that_depend_on_the_platform() {
    let lookup = |name: &str| match name {
        "ARCH" => Variable::Value(Expansion { text: "arm".to_owned(), platform: Some("ARCH".to_owned()) }),
        _ => Variable::Unset,
    };
    for text in ["a-$ARCH", "${ARCH:-b}", "${ARCH:+b}", "${X:-$ARCH}"] {
        let expansion = expand(text, '\\', &lookup).unwrap().unwrap();
        assert_eq!(expansion.platform.as_deref(), Some("ARCH"), "{text}");
    }
    for text in ["${X:+$ARCH}", "${X:-b}"] {
        assert_eq!(expand(text, '\\', &lookup).unwrap().unwrap().platform, None, "{text}");
    }
    let unresolved = Unresolved::BuildArgument("ARCH".to_owned());
    for text in ["${ARCH#a}", "${ARCH//a/b}"] {
        assert_eq!(expand(text, '\\', &lookup), Ok(Err(unresolved.clone())), "{text}");
    }
}

#[test]
fn values_stay_small() {
    assert_eq!(expanded("$LONG").map(|value| value.len()), Ok(1024));
    assert_eq!(expanded("$LONG$PWD"), Err(Some(Unresolved::TooLong)));
    assert_eq!(expanded(&"$LONG".repeat(100_000)), Err(Some(Unresolved::TooLong)));
    let deep = format!("{}x{}", "${NO:-".repeat(100_000), "}".repeat(100_000));
    assert_eq!(expand(&deep, '\\', &value_of), Err(LexError::TooDeep));
}

#[test]
fn words_without_variables() {
    let words = |text, raw| Lexer::raw(text, &CURRENT, raw, raw).words().unwrap();
    for (text, want) in [
        ("hello", vec!["hello"]),
        ("hello  ${hi}bye", vec!["hello", "${hi}bye"]),
        ("hello\u{a0}bye", vec!["hello", "bye"]),
        ("'a b' \"c d\" e\\ f", vec!["a b", "c d", "e f"]),
        ("a '' b", vec!["a", "b"]),
        ("$ a", vec!["$", "a"]),
        ("x<<  y", vec!["x<<  y"]),
        ("x < y", vec!["x", "<", "y"]),
    ] {
        assert_eq!(words(text, false), want, "{text}");
    }
    let raw = r#"'a b' "c\"\d" e\ f"#;
    assert_eq!(words(raw, true), [r"'a b'", r#""c\"\d""#, r"e\ f"]);
    let doubled = super::dialect::Dialect { raw_escapes_doubled: true, ..CURRENT };
    assert_eq!(Lexer::raw(r#""\d""#, &doubled, true, true).words().unwrap(), [r#""\\d""#]);
}
