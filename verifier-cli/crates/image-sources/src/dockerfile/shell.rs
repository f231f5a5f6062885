//! Words and variables (moby/buildkit, frontend/dockerfile/shell/lex.go).

use std::sync::LazyLock;

use regex::Regex;
use thiserror::Error;

use super::{
    dialect::{CURRENT, Dialect},
    pattern,
};
use crate::variables::Unresolved;

/// The longest value in bytes: longer than any reference, and short enough that values made of values of values
/// stay small.
const MAX_VALUE: usize = 1024;
/// How deep `${…}` may nest.
const MAX_DEPTH: usize = 50;

/// Why a text cannot be split or expanded.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum LexError {
    /// BuildKit refuses it too.
    #[error("{0}")]
    Syntax(&'static str),
    #[error("variables nest too deep: over {MAX_DEPTH} levels")]
    TooDeep,
}

/// What a variable is at some place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Variable {
    Unset,
    Value(Expansion),
    /// It has a value that is not known.
    Unresolved(Unresolved),
}

/// A text with its variables replaced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expansion {
    pub text: String,
    /// The variable of the platform that it depends on.
    pub platform: Option<String>,
}

/// What a variable is.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Variable;

/// Replaces the variables of a text and takes off its quotes and escapes.
///
/// # Errors
/// A syntax that BuildKit refuses.
pub fn expand(text: &str, escape: char, lookup: Lookup<'_>) -> Result<Result<Expansion, Unresolved>, LexError> {
    let mut lexer = Lexer { variables: Some(lookup), escape, ..Lexer::raw(text, &CURRENT, false, false) };
    lexer.skip_words = true;
    let (value, _) = lexer.until(None, false, false)?;
    Ok(match value.unresolved {
        Some(reason) => Err(reason),
        None => Ok(Expansion { text: value.text, platform: value.platform }),
    })
}

/// A value so far. What is unresolved only counts where the value is used: `${A:+$B}` needs no B without an A.
#[derive(Clone, Default)]
struct Value {
    text: String,
    platform: Option<String>,
    unresolved: Option<Unresolved>,
}

impl Value {
    fn literal(text: impl Into<String>) -> Value {
        Value { text: text.into(), ..Value::default() }
    }

    fn unresolved(reason: Unresolved) -> Value {
        Value { unresolved: Some(reason), ..Value::default() }
    }

    fn depends_on(mut self, platform: Option<String>) -> Value {
        self.platform = self.platform.or(platform);
        self
    }
}

impl From<Expansion> for Value {
    fn from(expansion: Expansion) -> Value {
        Value { text: expansion.text, platform: expansion.platform, unresolved: None }
    }
}

/// Reads one text, as the `shellWord` of BuildKit does.
pub struct Lexer<'a> {
    rest: std::iter::Peekable<std::str::Chars<'a>>,
    dialect: &'a Dialect,
    escape: char,
    /// Without them every `$` stays as it is.
    variables: Option<Lookup<'a>>,
    raw_quotes: bool,
    raw_escapes: bool,
    skip_words: bool,
    /// The word that is being read.
    word: String,
    depth: usize,
}

/// The words of one level.
#[derive(Default)]
struct Words {
    words: Vec<String>,
    in_word: bool,
}

impl<'a> Lexer<'a> {
    /// A lexer that leaves variables as they are, and quotes and escapes if they are `raw`.
    pub fn raw(text: &'a str, dialect: &'a Dialect, raw_quotes: bool, raw_escapes: bool) -> Lexer<'a> {
        // A byte order mark at the begin is passed over (Go, text/scanner).
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let rest = text.chars().peekable();
        let (escape, word) = ('\\', String::new());
        Lexer { rest, dialect, escape, variables: None, raw_quotes, raw_escapes, skip_words: false, word, depth: 0 }
    }

    /// The words of the whole text.
    pub fn words(mut self) -> Result<Vec<String>, LexError> {
        let raw_escapes = self.raw_escapes;
        self.until(None, raw_escapes, false).map(|(_, words)| words)
    }

    /// Reads up to `stop`, or to the end of the text without one.
    fn until(&mut self, stop: Option<char>, raw: bool, pattern: bool) -> Result<(Value, Vec<String>), LexError> {
        if self.depth == MAX_DEPTH {
            return Err(LexError::TooDeep);
        }
        self.depth += 1;
        let before = std::mem::replace(&mut self.raw_escapes, raw);
        let outer = std::mem::take(&mut self.word);
        let result = self.level(stop, pattern);
        if !self.dialect.shared_word_buffer {
            self.word = outer;
        }
        self.raw_escapes = before;
        self.depth -= 1;
        result
    }

    fn level(&mut self, stop: Option<char>, pattern: bool) -> Result<(Value, Vec<String>), LexError> {
        let (mut value, mut words) = (Value::default(), Words::default());
        while let Some(c) = self.rest.peek().copied() {
            if Some(c) == stop {
                self.rest.next();
                return Ok((value, self.finish(words)));
            }
            match c {
                '$' => {
                    let more = self.dollar()?;
                    more.text.chars().for_each(|c| self.add(&mut words, c, false));
                    self.append(&mut value, more);
                }
                '\'' | '"' => {
                    let more = if c == '"' { self.double_quoted(pattern)? } else { self.single_quoted(pattern)? };
                    self.add_all(&mut words, &more.text);
                    self.append(&mut value, more);
                }
                '<' if self.dialect.here_documents == super::dialect::HereDocuments::Blank => {
                    let more = self.here_document();
                    self.add_all(&mut words, &more);
                    self.append(&mut value, Value::literal(more));
                }
                _ => self.character(&mut value, &mut words),
            }
        }
        match stop {
            None => Ok((value, self.finish(words))),
            Some('/') => Err(LexError::Syntax("a '/' is missing in ${NAME/pattern/replacement}")),
            Some(_) => Err(LexError::Syntax("a '}' is missing")),
        }
    }

    fn character(&mut self, value: &mut Value, words: &mut Words) {
        let Some(c) = self.rest.next() else { return };
        if c != self.escape {
            self.add(words, c, false);
            return self.push(value, c);
        }
        if self.raw_escapes {
            self.add(words, c, true);
            self.push(value, c);
        }
        if let Some(next) = self.rest.next() {
            self.add(words, next, true);
            self.push(value, next);
        }
    }

    fn add(&mut self, words: &mut Words, c: char, raw: bool) {
        if self.skip_words || (!raw && c.is_whitespace() && !words.in_word) {
            return;
        }
        if raw || !c.is_whitespace() {
            self.word.push(c);
            words.in_word = true;
        } else if !self.word.is_empty() {
            words.words.push(std::mem::take(&mut self.word));
            words.in_word = false;
        }
    }

    fn add_all(&mut self, words: &mut Words, text: &str) {
        if !self.skip_words {
            self.word.push_str(text);
            words.in_word = true;
        }
    }

    fn finish(&mut self, mut words: Words) -> Vec<String> {
        if !self.word.is_empty() {
            words.words.push(std::mem::take(&mut self.word));
        }
        words.words
    }

    fn push(&self, value: &mut Value, c: char) {
        self.append(value, Value::literal(c));
    }

    fn append(&self, value: &mut Value, more: Value) {
        let Value { text, platform, unresolved } = more;
        if self.variables.is_some() && value.text.len() + text.len() > MAX_VALUE {
            value.unresolved.get_or_insert(Unresolved::TooLong);
        } else {
            value.text.push_str(&text);
        }
        value.platform = value.platform.take().or(platform);
        value.unresolved = value.unresolved.take().or(unresolved);
    }

    /// `<`, or `<<` with the blanks after it.
    fn here_document(&mut self) -> String {
        self.rest.next();
        if self.rest.next_if_eq(&'<').is_none() {
            return "<".to_owned();
        }
        let mut text = "<<".to_owned();
        while let Some(blank) = self.rest.next_if(|c| matches!(c, '\t' | '\r' | ' ')) {
            text.push(blank);
        }
        text
    }

    fn single_quoted(&mut self, pattern: bool) -> Result<Value, LexError> {
        let mut value = Value::default();
        self.quote(&mut value);
        loop {
            let c = self.rest.next().ok_or(LexError::Syntax("a single quote does not end"))?;
            if c == '\'' {
                if self.raw_quotes {
                    self.push(&mut value, c);
                }
                return Ok(value);
            }
            if pattern && c == self.escape {
                if self.dialect.raw_escapes_doubled {
                    self.push(&mut value, c);
                    continue;
                }
                if self.variables.is_some() {
                    // Versions differ in what it means.
                    value.unresolved.get_or_insert(Unresolved::NotUnderstood);
                }
                self.push(&mut value, c);
            }
            self.push(&mut value, c);
        }
    }

    /// The opening quote.
    fn quote(&mut self, value: &mut Value) {
        if let Some(quote) = self.rest.next().filter(|_| self.raw_quotes) {
            self.push(value, quote);
        }
    }

    fn double_quoted(&mut self, pattern: bool) -> Result<Value, LexError> {
        let mut value = Value::default();
        self.quote(&mut value);
        loop {
            match self.rest.peek().copied().ok_or(LexError::Syntax("a double quote does not end"))? {
                '$' => {
                    let more = self.dollar()?;
                    self.append(&mut value, more);
                }
                '"' => {
                    self.quote(&mut value);
                    return Ok(value);
                }
                c => {
                    self.rest.next();
                    if c == self.escape {
                        self.escaped_in_quotes(&mut value, pattern);
                    } else {
                        self.push(&mut value, c);
                    }
                }
            }
        }
    }

    /// In double quotes only `"`, `$` and the escape character itself are escaped.
    fn escaped_in_quotes(&mut self, value: &mut Value, pattern: bool) {
        let escape = self.escape;
        let Some(next) = self.rest.peek().copied() else { return };
        let special = matches!(next, '"' | '$') || next == escape;
        let doubled = self.dialect.raw_escapes_doubled || !self.raw_quotes || pattern;
        if self.raw_escapes && (special || doubled) {
            self.push(value, escape);
        }
        if special {
            self.rest.next();
        }
        self.push(value, if special { next } else { escape });
    }

    /// What a `$` begins.
    fn dollar(&mut self) -> Result<Value, LexError> {
        self.rest.next();
        if self.rest.next_if_eq(&'{').is_some() {
            return self.braces();
        }
        let name = self.name();
        match (name.is_empty(), self.variables) {
            (true, _) => Ok(Value::literal("$")),
            (false, None) => Ok(Value::literal(format!("${name}"))),
            (false, Some(lookup)) => Ok(plain(lookup(&name), &name)),
        }
    }

    /// A name; what does not begin with a letter or `_` is a number or one character.
    fn name(&mut self) -> String {
        let mut name = String::new();
        match self.rest.peek().copied() {
            Some(c) if is_digit(c) => {
                while let Some(digit) = self.rest.next_if(|c| is_digit(*c)) {
                    name.push(digit);
                }
            }
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => name.extend(self.rest.next()),
            _ => {
                while let Some(c) = self.rest.next_if(|c| *c == '_' || is_letter(*c) || is_digit(*c)) {
                    name.push(c);
                }
            }
        }
        name
    }

    /// `${…}` after its brace.
    fn braces(&mut self) -> Result<Value, LexError> {
        match self.rest.peek() {
            None => return Err(LexError::Syntax("a '}' is missing")),
            Some('{' | '}' | ':') => return Err(BAD_SUBSTITUTION),
            Some(_) => {}
        }
        let name = self.name();
        let mut operator = self.rest.next().ok_or(BAD_SUBSTITUTION)?;
        if operator == '}' {
            return Ok(match self.variables {
                None => Value::literal(format!("${{{name}}}")),
                Some(lookup) => plain(lookup(&name), &name),
            });
        }
        if operator == '/' && self.dialect.patterns {
            return self.replaced(&name);
        }
        let colon = operator == ':';
        if colon {
            operator = self.rest.next().ok_or(BAD_SUBSTITUTION)?;
        }
        let trims = matches!(operator, '#' | '%');
        if (!colon && !matches!(operator, '+' | '-' | '?' | '#' | '%')) || (trims && (colon || !self.dialect.patterns))
        {
            return Err(BAD_SUBSTITUTION);
        }
        let raw = if self.dialect.patterns { trims } else { self.raw_escapes };
        let (word, _) = self.until(Some('}'), raw, trims)?;
        let Some(lookup) = self.variables else {
            let colon = if colon { ":" } else { "" };
            return Ok(Value::literal(format!("${{{name}{colon}{operator}{}}}", word.text)));
        };
        let variable = lookup(&name);
        match operator {
            '-' => Ok(or_default(variable, colon, word)),
            '+' => Ok(or_nothing(variable, colon, word)),
            '?' => Ok(plain(empty_as_unset(variable, colon), &name)),
            '#' | '%' => trimmed(plain(variable, &name), operator, word),
            _ => Err(BAD_SUBSTITUTION),
        }
    }

    /// `${NAME/pattern/replacement}` after its first slash.
    fn replaced(&mut self, name: &str) -> Result<Value, LexError> {
        let all = self.rest.next_if_eq(&'/').is_some();
        let (pattern, _) = self.until(Some('/'), true, true)?;
        let (replacement, _) = self.until(Some('}'), true, false)?;
        let Some(lookup) = self.variables else {
            return Ok(Value::literal(format!("${{{name}/{}/{}}}", pattern.text, replacement.text)));
        };
        let value = plain(lookup(name), name);
        computed(value, &[pattern, replacement], |value, words| match words {
            [pattern, replacement] => pattern::replace(value, pattern, replacement, all),
            _ => None,
        })
    }
}

const BAD_SUBSTITUTION: LexError = LexError::Syntax(
    "a substitution that Dockerfiles do not have: want ${NAME}, ${NAME:-default}, ${NAME#pattern} or the like",
);

fn plain(variable: Variable, name: &str) -> Value {
    match variable {
        Variable::Unset => Value::unresolved(Unresolved::BuildArgument(name.to_owned())),
        Variable::Unresolved(reason) => Value::unresolved(reason),
        Variable::Value(expansion) => expansion.into(),
    }
}

fn empty_as_unset(variable: Variable, colon: bool) -> Variable {
    match variable {
        Variable::Value(Expansion { text, platform: None }) if colon && text.is_empty() => Variable::Unset,
        other => other,
    }
}

fn or_default(variable: Variable, colon: bool, word: Value) -> Value {
    match variable {
        Variable::Unset => word,
        Variable::Value(value) if colon && value.text.is_empty() => word.depends_on(value.platform),
        Variable::Value(value) => value.into(),
        Variable::Unresolved(reason) => Value::unresolved(reason),
    }
}

fn or_nothing(variable: Variable, colon: bool, word: Value) -> Value {
    match variable {
        Variable::Unset => Value::default(),
        Variable::Value(value) if colon && value.text.is_empty() => Value::default().depends_on(value.platform),
        Variable::Value(value) => word.depends_on(value.platform),
        Variable::Unresolved(reason) => Value::unresolved(reason),
    }
}

/// `${NAME#pattern}` and the other patterns.
fn trimmed(value: Value, operator: char, word: Value) -> Result<Value, LexError> {
    computed(value, &[word], |value, words| match words {
        [word] => pattern::trim(value, word, operator),
        _ => None,
    })
}

/// What a pattern makes of a value. What depends on the platform is not computed: no list of platforms is complete.
fn computed(
    value: Value,
    words: &[Value],
    compute: impl Fn(&str, &[&str]) -> Option<String>,
) -> Result<Value, LexError> {
    let all = || std::iter::once(&value).chain(words);
    if let Some(reason) = all().find_map(|value| value.unresolved.clone()) {
        return Ok(Value::unresolved(reason));
    }
    if let Some(name) = all().find_map(|value| value.platform.clone()) {
        return Ok(Value::unresolved(Unresolved::BuildArgument(name)));
    }
    let texts: Vec<&str> = words.iter().map(|word| word.text.as_str()).collect();
    Ok(compute(&value.text, &texts).map_or_else(|| Value::unresolved(Unresolved::NotUnderstood), Value::literal))
}

static LETTER: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"^\p{L}$").ok());
static DIGIT: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"^\p{Nd}$").ok());

fn is_letter(c: char) -> bool {
    c.is_ascii_alphabetic() || (!c.is_ascii() && matches(&LETTER, c))
}

fn is_digit(c: char) -> bool {
    c.is_ascii_digit() || (!c.is_ascii() && matches(&DIGIT, c))
}

fn matches(class: &LazyLock<Option<Regex>>, c: char) -> bool {
    class.as_ref().is_some_and(|class| class.is_match(c.encode_utf8(&mut [0; 4])))
}
