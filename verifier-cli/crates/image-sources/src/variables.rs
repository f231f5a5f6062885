//! Variables in the names of images, as Dockerfiles and Compose files write them.

use std::{iter::Peekable, str::Chars};

use thiserror::Error;

/// The longest value in bytes: longer than any reference, and short enough that values made of values of values
/// stay small.
const MAX_VALUE: usize = 1024;
/// How deep defaults may hold variables with defaults.
const MAX_DEPTH: usize = 8;

/// Whose rules a text follows.
#[derive(Clone, Copy, Debug)]
pub enum Syntax {
    /// Dockerfiles: quotes are taken off, and this character takes its meaning from the one after it.
    Dockerfile {
        /// `\`, or what the escape directive says.
        escape: char,
    },
    /// Compose files: `$$` is a dollar.
    Compose,
}

/// Why it cannot be told what a text with variables means.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Unresolved {
    /// The variable has no value in the file.
    #[error("variable {0} has no default in this file, so that only a build or a deploy knows which image it is")]
    Unknown(String),
    /// A form of substitution beyond `:-`, `-`, `:+`, `+`, `:?` and `?`, or one that does not end.
    #[error("a substitution is not understood: want ${{NAME}}, ${{NAME:-default}} or ${{NAME:+alternative}}")]
    NotUnderstood,
    /// Over [`MAX_VALUE`].
    #[error("with its variables replaced the name is over 1024 bytes")]
    TooLong,
}

/// The text with each variable replaced by what `value_of` says.
///
/// # Errors
/// The first variable that has no value but needs one, or a form that is not understood.
pub fn expand(text: &str, syntax: Syntax, value_of: &dyn Fn(&str) -> Option<String>) -> Result<String, Unresolved> {
    let mut expander = Expander { rest: text.chars().peekable(), syntax, value_of, broken: false };
    let value = expander.text(None, 0);
    if expander.broken { Err(Unresolved::NotUnderstood) } else { value.finish() }
}

/// A value so far. What is unresolved only counts where the value is used: `${A:+$B}` needs no B without an A.
#[derive(Default)]
struct Value {
    text: String,
    unresolved: Option<Unresolved>,
}

impl Value {
    fn push(&mut self, more: &str) {
        if self.text.len() + more.len() > MAX_VALUE {
            self.fail(Unresolved::TooLong);
        } else {
            self.text.push_str(more);
        }
    }

    fn append(&mut self, other: Value) {
        self.push(&other.text);
        other.unresolved.into_iter().for_each(|reason| self.fail(reason));
    }

    fn fail(&mut self, reason: Unresolved) {
        self.unresolved.get_or_insert(reason);
    }

    fn finish(self) -> Result<String, Unresolved> {
        self.unresolved.map_or(Ok(self.text), Err)
    }
}

impl From<Unresolved> for Value {
    fn from(reason: Unresolved) -> Value {
        Value { text: String::new(), unresolved: Some(reason) }
    }
}

struct Expander<'a> {
    rest: Peekable<Chars<'a>>,
    syntax: Syntax,
    value_of: &'a dyn Fn(&str) -> Option<String>,
    /// Whether a form is not understood; that counts even where its value is not used.
    broken: bool,
}

impl Expander<'_> {
    /// Reads up to `end`, or to the end of the text.
    fn text(&mut self, end: Option<char>, depth: usize) -> Value {
        let mut value = Value::default();
        let mut quoted = false;
        while let Some(c) = self.rest.next() {
            match (c, self.syntax) {
                ('$', _) => value.append(self.dollar(depth)),
                ('"', Syntax::Dockerfile { .. }) => quoted = !quoted,
                ('\'', Syntax::Dockerfile { .. }) if !quoted => self.single_quoted(&mut value),
                (c, Syntax::Dockerfile { escape }) if c == escape => self.literal(&mut value),
                (c, _) if Some(c) == end && !quoted => return value,
                (c, _) => value.push(c.encode_utf8(&mut [0; 4])),
            }
        }
        self.broken |= end.is_some();
        value
    }

    fn single_quoted(&mut self, value: &mut Value) {
        while let Some(c) = self.rest.next_if(|c| *c != '\'') {
            value.push(c.encode_utf8(&mut [0; 4]));
        }
        self.rest.next();
    }

    fn literal(&mut self, value: &mut Value) {
        if let Some(c) = self.rest.next() {
            value.push(c.encode_utf8(&mut [0; 4]));
        }
    }

    /// What a `$` begins.
    fn dollar(&mut self, depth: usize) -> Value {
        match (self.rest.peek(), self.syntax) {
            (Some('$'), Syntax::Compose) => {
                self.rest.next();
                Value { text: "$".to_owned(), unresolved: None }
            }
            (Some('{'), _) => {
                self.rest.next();
                self.braces(depth)
            }
            (Some(c), _) if is_name_start(*c) => {
                let name = self.name();
                self.variable(name)
            }
            _ => Value { text: "$".to_owned(), unresolved: None },
        }
    }

    fn variable(&self, name: String) -> Value {
        match (self.value_of)(&name) {
            Some(text) => Value { text, unresolved: None },
            None => Unresolved::Unknown(name).into(),
        }
    }

    fn name(&mut self) -> String {
        let mut name = String::new();
        while let Some(c) = self.rest.next_if(|c| *c == '_' || c.is_ascii_alphanumeric()) {
            name.push(c);
        }
        name
    }

    /// `${…}` after its brace.
    fn braces(&mut self, depth: usize) -> Value {
        let name = self.name();
        if self.rest.next_if_eq(&'}').is_some() && name.starts_with(is_name_start) {
            return self.variable(name);
        }
        // "Empty counts as unset" is what the colon means.
        let colon = self.rest.next_if_eq(&':').is_some();
        let operator = self.rest.next();
        if depth == MAX_DEPTH || !name.starts_with(is_name_start) {
            self.broken = true;
            return Value::default();
        }
        let word = self.text(Some('}'), depth + 1);
        let set = (self.value_of)(&name).filter(|value| !(colon && value.is_empty()));
        match (operator, set) {
            (Some('-' | '?'), Some(text)) => Value { text, unresolved: None },
            (Some('-'), None) | (Some('+'), Some(_)) => word,
            (Some('+'), None) => Value::default(),
            (Some('?'), None) => Unresolved::Unknown(name).into(),
            _ => {
                self.broken = true;
                Value::default()
            }
        }
    }
}

fn is_name_start(c: char) -> bool {
    c == '_' || c.is_ascii_alphabetic()
}

/// Splits a line of a Dockerfile at white space that is not in quotes, quotes kept; `None` if a quote stays open.
pub fn words(text: &str, escape: char) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c.is_whitespace() && quote.is_none() {
            words.push(std::mem::take(&mut word));
            continue;
        }
        word.push(c);
        if c == escape && quote != Some('\'') {
            word.extend(chars.next());
        } else if quote == Some(c) {
            quote = None;
        } else if quote.is_none() && matches!(c, '"' | '\'') {
            quote = Some(c);
        }
    }
    words.push(word);
    words.retain(|word| !word.is_empty());
    quote.is_none().then_some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value_of(name: &str) -> Option<String> {
        match name {
            "SET" => Some("v".to_owned()),
            "EMPTY" => Some(String::new()),
            "LONG" => Some("x".repeat(MAX_VALUE)),
            _ => None,
        }
    }

    fn dockerfile(text: &str) -> Result<String, Unresolved> {
        expand(text, Syntax::Dockerfile { escape: '\\' }, &value_of)
    }

    fn compose(text: &str) -> Result<String, Unresolved> {
        expand(text, Syntax::Compose, &value_of)
    }

    #[test]
    fn both_know_these_forms() {
        for (text, want) in [
            ("a$SET-b${SET}c", "av-bvc"),
            ("${SET:-d}${SET-d}", "vv"),
            ("${EMPTY:-d}.${EMPTY-d}", "d."),
            ("${NO:-d}${NO-e}${NO:-}", "de"),
            ("${SET:+a}${SET+b}${EMPTY:+c}${EMPTY+d}${NO:+e}${NO+f}", "abd"),
            ("${SET:?message}${EMPTY?message}", "v"),
            ("${NO:-${SET}}${NO:-${NO:-x}}${NO:-a${SET}b}", "vxavb"),
            ("${SET:-$NO}${NO:+$NO}", "v"),
            ("a$", "a$"),
            ("$1", "$1"),
        ] {
            assert_eq!(dockerfile(text).as_deref(), Ok(want), "{text}");
            assert_eq!(compose(text).as_deref(), Ok(want), "{text}");
        }
        let unknown = Err(Unresolved::Unknown("NO".to_owned()));
        for text in ["$NO", "a${NO}b", "${NO:?m}", "${EMPTY:-$NO}", "${NO:-${NO}}", "${SET:+$NO}"] {
            assert_eq!((dockerfile(text), compose(text)), (unknown.clone(), unknown.clone()), "{text}");
        }
        for text in
            ["${", "${SET", "${SET:-a", "${}", "${1}", "${SET#a}", "${SET/a/b}", "${SET:=a}", "${SET:}", "${-a}"]
        {
            assert_eq!(dockerfile(text), Err(Unresolved::NotUnderstood), "{text}");
            assert_eq!(compose(text), Err(Unresolved::NotUnderstood), "{text}");
        }
    }

    #[test]
    fn each_has_its_own_escapes() {
        assert_eq!(compose("a$$SET$${SET}").as_deref(), Ok("a$SET${SET}"));
        assert_eq!(compose(r#""a'\"#).as_deref(), Ok(r#""a'\"#));
        assert_eq!(dockerfile(r#""a b"'$SET'"$SET"\$SET\"#).as_deref(), Ok("a b$SETv$SET"));
        assert_eq!(dockerfile(r#"${NO:-"}"}x"#).as_deref(), Ok("}x"));
    }

    #[test]
    fn values_stay_small() {
        assert_eq!(dockerfile("$LONG").map(|value| value.len()), Ok(MAX_VALUE));
        assert_eq!(dockerfile("$LONG$SET"), Err(Unresolved::TooLong));
        let deep = format!("{}x{}", "${NO:-".repeat(100_000), "}".repeat(100_000));
        assert_eq!(dockerfile(&deep), Err(Unresolved::NotUnderstood));
        assert!(dockerfile(&"$LONG".repeat(100_000)).is_err());
    }

    #[test]
    fn words_keep_their_quotes() {
        let split = |text| words(text, '\\');
        let want = |words: &[&str]| Some(words.iter().map(ToString::to_string).collect());
        assert_eq!(split(r#" A="x y"  B='z "'	C=\"d e\ f "#), want(&[r#"A="x y""#, r#"B='z "'"#, r#"C=\"d"#, r"e\ f"]));
        assert_eq!(split(""), want(&[]));
        assert_eq!((split("it's"), split(r#"'a' ""#)), (None, None));
    }
}
