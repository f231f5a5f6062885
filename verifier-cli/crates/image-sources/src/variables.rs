//! Variables in the names of images, as Compose files write them, and why a name with variables cannot be resolved.

use std::{iter::Peekable, str::Chars};

use thiserror::Error;

/// The longest value in bytes: longer than any reference, and short enough that values made of values of values
/// stay small.
const MAX_VALUE: usize = 1024;
/// How deep defaults may hold variables with defaults.
const MAX_DEPTH: usize = 8;

/// Why a text with variables cannot be resolved.
#[derive(Clone, Debug, Error, PartialEq, Eq, Hash)]
pub enum Unresolved {
    /// The variable has no value in the file.
    #[error("variable {0} has no default in this file, so that only a build or a deploy knows which image it is")]
    Unknown(String),
    /// The variable of a Dockerfile has no value, or depends on the platform.
    #[error(
        "variable {0} has no value in this file: name the one that the build takes with --build-arg {0}=VALUE, or \
         --build-arg {0}= for none"
    )]
    BuildArgument(String),
    /// The variable of a Dockerfile is set by ENV in another stage, or by ENV and ARG.
    #[error("variable {0} may have a value from ENV, which builders treat differently: write the name without it")]
    Environment(String),
    /// A substitution that the tool refuses, too.
    #[error("{0}")]
    Syntax(String),
    /// A form of substitution beyond `:-`, `-`, `:+`, `+`, `:?` and `?`, or one that does not end.
    #[error("a substitution is not understood: want ${{NAME}}, ${{NAME:-default}} or ${{NAME:+alternative}}")]
    NotUnderstood,
    /// Over [`MAX_VALUE`].
    #[error("with its variables replaced the name is over 1024 bytes")]
    TooLong,
}

/// The text with each variable replaced by what `value_of` says, as Compose does; `$$` is a dollar.
///
/// # Errors
/// The first variable that has no value but needs one, or a form that is not understood.
pub fn expand(text: &str, value_of: &dyn Fn(&str) -> Option<String>) -> Result<String, Unresolved> {
    let mut expander = Expander { rest: text.chars().peekable(), value_of, broken: false };
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
    value_of: &'a dyn Fn(&str) -> Option<String>,
    /// Whether a form is not understood; that counts even where its value is not used.
    broken: bool,
}

impl Expander<'_> {
    /// Reads up to `end`, or to the end of the text.
    fn text(&mut self, end: Option<char>, depth: usize) -> Value {
        let mut value = Value::default();
        while let Some(c) = self.rest.next() {
            match c {
                '$' => value.append(self.dollar(depth)),
                c if Some(c) == end => return value,
                c => value.push(c.encode_utf8(&mut [0; 4])),
            }
        }
        self.broken |= end.is_some();
        value
    }

    /// What a `$` begins.
    fn dollar(&mut self, depth: usize) -> Value {
        match self.rest.peek() {
            Some('$') => {
                self.rest.next();
                Value { text: "$".to_owned(), unresolved: None }
            }
            Some('{') => {
                self.rest.next();
                self.braces(depth)
            }
            Some(c) if is_name_start(*c) => {
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

    fn compose(text: &str) -> Result<String, Unresolved> {
        expand(text, &value_of)
    }

    #[test]
    fn forms_of_substitution() {
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
            assert_eq!(compose(text).as_deref(), Ok(want), "{text}");
        }
        let unknown = Err(Unresolved::Unknown("NO".to_owned()));
        for text in ["$NO", "a${NO}b", "${NO:?m}", "${EMPTY:-$NO}", "${NO:-${NO}}", "${SET:+$NO}"] {
            assert_eq!(compose(text), unknown, "{text}");
        }
        for text in
            ["${", "${SET", "${SET:-a", "${}", "${1}", "${SET#a}", "${SET/a/b}", "${SET:=a}", "${SET:}", "${-a}"]
        {
            assert_eq!(compose(text), Err(Unresolved::NotUnderstood), "{text}");
        }
    }

    #[test]
    fn dollars_are_escaped_and_quotes_stay() {
        assert_eq!(compose("a$$SET$${SET}").as_deref(), Ok("a$SET${SET}"));
        assert_eq!(compose(r#""a'\"#).as_deref(), Ok(r#""a'\"#));
    }

    #[test]
    fn values_stay_small() {
        assert_eq!(compose("$LONG").map(|value| value.len()), Ok(MAX_VALUE));
        assert_eq!(compose("$LONG$SET"), Err(Unresolved::TooLong));
        let deep = format!("{}x{}", "${NO:-".repeat(100_000), "}".repeat(100_000));
        assert_eq!(compose(&deep), Err(Unresolved::NotUnderstood));
        assert!(compose(&"$LONG".repeat(100_000)).is_err());
    }
}
