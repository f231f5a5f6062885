//! Splits a Dockerfile into instructions, byte for byte as the builders do (moby/buildkit,
//! frontend/dockerfile/parser/{parser,split_command,line_parsers}.go and frontend/dockerfile/instructions/parse.go).

use std::ops::Range;

use super::{
    dialect::{Dialect, HereDocuments},
    directives::{DirectiveReader, without_ends, without_line_end},
    heredoc::{self, HereDocument},
    text::{Text, Word, is_blank, lower_case, trim, trim_start},
};

/// What an instruction does, as far as images are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keyword {
    From,
    Arg,
    Env,
    Copy,
    Add,
    Run,
    /// Runs another instruction when the result is built upon.
    OnBuild,
    /// Names no image.
    Other,
}

/// An instruction that names images, or whose variables may stand in their names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instruction {
    pub keyword: Keyword,
    /// Where it begins in the file.
    pub place: usize,
    pub flags: Vec<Word>,
    /// The arguments of FROM, ARG and ENV, quotes and escapes kept.
    pub words: Vec<Word>,
    /// Whether it runs only in builds upon the result.
    pub on_build: bool,
}

/// What a dialect reads, up to where it refuses the file.
#[derive(Debug, PartialEq, Eq)]
pub struct Reading {
    pub escape: char,
    pub instructions: Vec<Instruction>,
    pub refused: Option<Refused>,
}

/// Why a dialect refuses a file.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused {
    pub line: usize,
    pub reason: String,
}

/// Reads a whole file.
pub fn read(text: &Text, dialect: &Dialect) -> Reading {
    let mut parser = Parser::new(text, dialect, None);
    let refused = parser.read().err().map(|reason| Refused { line: parser.first_line, reason });
    Reading { escape: char::from(parser.directives.escape), instructions: parser.instructions, refused }
}

struct Parser<'a> {
    text: &'a Text,
    dialect: &'a Dialect,
    directives: DirectiveReader,
    at: usize,
    line: usize,
    /// The line in which the instruction begins.
    first_line: usize,
    /// Where the `ONBUILD` stands whose instruction is read.
    on_build: Option<usize>,
    any_stage: bool,
    count: usize,
    instructions: Vec<Instruction>,
}

/// One instruction, its lines put together.
struct Line {
    keyword: Keyword,
    text: Text,
    /// What follows the keyword.
    rest: Range<usize>,
    flags: Vec<Word>,
    /// What follows the flags.
    arguments: Range<usize>,
}

impl<'a> Parser<'a> {
    fn new(text: &'a Text, dialect: &'a Dialect, on_build: Option<usize>) -> Parser<'a> {
        Parser {
            text,
            dialect,
            directives: DirectiveReader::new(dialect.directives),
            at: 0,
            line: 0,
            first_line: 1,
            on_build,
            any_stage: on_build.is_some(),
            count: 0,
            instructions: Vec::new(),
        }
    }

    fn read(&mut self) -> Result<(), String> {
        while let Some(line) = self.next_line() {
            self.first_line = self.line;
            let line = without_ends(self.text, line);
            self.directives.line(self.text, line.clone())?;
            let line = if self.is_comment(&line) { line.start..line.start } else { line };
            let (line, ended) = self.without_continuation(line);
            if ended && line.is_empty() {
                continue;
            }
            let mut text = Text::default();
            text.push(self.text, line);
            if !ended {
                self.continued(&mut text);
            }
            self.instruction(text)?;
        }
        self.first_line = 1;
        match (self.count, self.any_stage) {
            (0, _) => Err("there is no instruction".to_owned()),
            (_, false) => Err("there is no FROM".to_owned()),
            _ => Ok(()),
        }
    }

    /// The next line with its end.
    fn next_line(&mut self) -> Option<Range<usize>> {
        let rest = self.text.bytes().get(self.at..).filter(|rest| !rest.is_empty())?;
        let length = rest.iter().position(|byte| *byte == b'\n').map_or(rest.len(), |at| at + 1);
        let line = self.at..self.at + length;
        self.at = line.end;
        self.line += 1;
        Some(line)
    }

    fn is_comment(&self, line: &Range<usize>) -> bool {
        let line = trim_start(self.text.bytes(), line.clone());
        self.text.bytes()[line].starts_with(b"#")
    }

    /// A line without the escape character that continues it, and whether none does.
    fn without_continuation(&self, line: Range<usize>) -> (Range<usize>, bool) {
        let bytes = &self.text.bytes()[line.clone()];
        let blanks = bytes.iter().rev().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        let escape = self.directives.escape;
        let before = bytes[..bytes.len() - blanks].strip_suffix(&[escape]);
        let continued = before.filter(|before| self.dialect.escaped_escape_continues || !before.ends_with(&[escape]));
        match continued {
            Some(before) => (line.start..line.start + before.len(), false),
            None => (line, true),
        }
    }

    /// Adds the lines that continue an instruction. Comments and blank lines among them do not belong to it.
    fn continued(&mut self, text: &mut Text) {
        while let Some(line) = self.next_line() {
            let line = without_line_end(self.text.bytes(), line);
            if self.is_comment(&line) || trim_start(self.text.bytes(), line.clone()).is_empty() {
                continue;
            }
            let (line, ended) = self.without_continuation(line);
            text.push(self.text, line);
            if ended {
                return;
            }
        }
    }

    fn instruction(&mut self, text: Text) -> Result<(), String> {
        let line = self.split(text)?;
        let here_documents = self.here_documents(&line)?;
        let mut bodies = Text::default();
        for document in here_documents {
            self.body(&document, &mut bodies)?;
        }
        self.count += 1;
        self.add(line, &bodies)
    }

    fn split(&self, text: Text) -> Result<Line, String> {
        let whole = trim(text.bytes(), 0..text.bytes().len());
        let (keyword, rest) = split_keyword(text.bytes(), whole)?;
        let escape = if self.dialect.escape_in_flags { self.directives.escape } else { b'\\' };
        let (flags, arguments) = split_flags(&text, rest.clone(), escape);
        Ok(Line { keyword, arguments: trim(text.bytes(), arguments), rest, flags, text })
    }

    /// The here-documents that an instruction begins: RUN, COPY, ADD and those in ONBUILD can, but not as JSON.
    fn here_documents(&self, line: &Line) -> Result<Vec<HereDocument>, String> {
        if self.dialect.here_documents == HereDocuments::None {
            return Ok(Vec::new());
        }
        let inner = match line.keyword {
            Keyword::OnBuild => Some(self.split(part(&line.text, line.arguments.clone()))?),
            _ => None,
        };
        let Line { keyword, text, arguments, .. } = inner.as_ref().unwrap_or(line);
        let can = matches!(keyword, Keyword::Run | Keyword::Copy | Keyword::Add);
        if !can || is_json(&text.bytes()[arguments.clone()], self.dialect.json_prefix) {
            return Ok(Vec::new());
        }
        heredoc::begun_by(&String::from_utf8_lossy(line.text.bytes()), self.dialect)
    }

    /// Passes over the lines of a here-document, and keeps them as a later build gets them.
    fn body(&mut self, document: &HereDocument, bodies: &mut Text) -> Result<(), String> {
        bodies.push_made("\n");
        while let Some(line) = self.next_line() {
            let content = without_line_end(self.text.bytes(), line.clone());
            if document.ends_at(&self.text.bytes()[content]) {
                bodies.push_made(&document.name);
                return Ok(());
            }
            bodies.push(self.text, line);
        }
        Err(format!("a here-document does not end: there is no line {:?} after it", document.name))
    }

    fn add(&mut self, line: Line, bodies: &Text) -> Result<(), String> {
        if !self.any_stage && !matches!(line.keyword, Keyword::From | Keyword::Arg) {
            return Err("an instruction before the first FROM".to_owned());
        }
        let words = match line.keyword {
            Keyword::From => {
                self.any_stage = true;
                from_words(&line)?
            }
            Keyword::Arg => split_words(&line.text, line.arguments.clone(), self.directives.escape),
            Keyword::Env => env_words(&line, self.directives.escape)?,
            Keyword::OnBuild => return self.on_build(&line, bodies),
            Keyword::Other => return Ok(()),
            Keyword::Copy | Keyword::Add | Keyword::Run => Vec::new(),
        };
        if matches!(line.keyword, Keyword::From) && self.on_build.is_some() {
            return Err("FROM cannot stand in ONBUILD".to_owned());
        }
        let place = self.on_build.unwrap_or_else(|| line.text.place(0));
        let on_build = self.on_build.is_some();
        self.instructions.push(Instruction { keyword: line.keyword, place, flags: line.flags, words, on_build });
        Ok(())
    }

    /// Later builds read what follows ONBUILD as a file of its own, in which the escape character is `\` again.
    fn on_build(&mut self, line: &Line, bodies: &Text) -> Result<(), String> {
        if self.on_build.is_some() {
            return Err("ONBUILD cannot stand in ONBUILD".to_owned());
        }
        if let Some(flag) = line.flags.first() {
            return Err(format!("ONBUILD has no flag {}", flag.text));
        }
        let mut later = part(&line.text, line.rest.start..line.text.bytes().len());
        later.push(bodies, 0..bodies.bytes().len());
        let mut parser = Parser::new(&later, self.dialect, Some(line.text.place(0)));
        parser.read()?;
        if parser.count != 1 {
            return Err("ONBUILD wants one instruction".to_owned());
        }
        self.instructions.append(&mut parser.instructions);
        Ok(())
    }
}

fn part(text: &Text, range: Range<usize>) -> Text {
    let mut part = Text::default();
    part.push(text, range);
    part
}

fn split_keyword(bytes: &[u8], whole: Range<usize>) -> Result<(Keyword, Range<usize>), String> {
    let line = &bytes[whole.clone()];
    let end = line.iter().position(|byte| is_blank(*byte)).unwrap_or(line.len());
    let blanks = line[end..].iter().take_while(|byte| is_blank(**byte)).count();
    let written = String::from_utf8_lossy(&line[..end]);
    let keyword = match lower_case(&written).as_str() {
        "from" => Keyword::From,
        "arg" => Keyword::Arg,
        "env" => Keyword::Env,
        "copy" => Keyword::Copy,
        "add" => Keyword::Add,
        "run" => Keyword::Run,
        "onbuild" => Keyword::OnBuild,
        "cmd" | "entrypoint" | "expose" | "healthcheck" | "label" | "maintainer" | "shell" | "stopsignal" | "user"
        | "volume" | "workdir" => Keyword::Other,
        _ => return Err(format!("there is no instruction {written:?}")),
    };
    Ok((keyword, whole.start + end + blanks..whole.end))
}

/// White space as the splitter of flags sees it, which takes each byte for a character (split_command.go).
fn is_flag_blank(byte: u8) -> bool {
    char::from(byte).is_whitespace()
}

/// The words that begin with `--`, without their quotes and escapes, and what follows them.
fn split_flags(text: &Text, rest: Range<usize>, escape: u8) -> (Vec<Word>, Range<usize>) {
    let bytes = text.bytes();
    let (mut flags, mut at) = (Vec::new(), rest.start);
    loop {
        at += bytes[at..rest.end].iter().take_while(|byte| is_flag_blank(**byte)).count();
        if !bytes[at..rest.end].starts_with(b"--") {
            return (flags, at..rest.end);
        }
        let (word, quoted, end) = flag(text, at..rest.end, escape);
        at = end;
        if word.text == "--" {
            return (flags, at..rest.end);
        }
        if quoted || !word.text.is_empty() {
            flags.push(word);
        }
    }
}

/// The flag at the begin of a range, whether it holds quotes, and where it ends.
fn flag(text: &Text, range: Range<usize>, escape: u8) -> (Word, bool, usize) {
    let bytes = text.bytes();
    let (mut word, mut quoted, mut quote, mut at) = (Word::default(), false, None, range.start);
    while at < range.end {
        let mut byte = bytes[at];
        match quote {
            None if is_flag_blank(byte) => break,
            None if matches!(byte, b'\'' | b'"') => {
                (quote, quoted) = (Some(byte), true);
                at += 1;
                continue;
            }
            Some(open) if byte == open => {
                quote = None;
                at += 1;
                continue;
            }
            _ => {}
        }
        if byte == escape {
            at += 1;
            if at == range.end {
                break;
            }
            byte = bytes[at];
        }
        word.push(char::from(byte), text.place(at));
        at += 1;
    }
    (word, quoted, at)
}

/// The arguments of FROM: an image, and perhaps AS and the name of the stage.
fn from_words(line: &Line) -> Result<Vec<Word>, String> {
    let words = blank_separated(&line.text, line.arguments.clone());
    let texts: Vec<&str> = words.iter().map(|word| word.text.as_str()).collect();
    match texts[..] {
        [_] => Ok(words),
        // `ſ` is an `s` where case does not matter.
        [_, r#as, name] if matches!(lower_case(r#as).replace('ſ', "s").as_str(), "as") => {
            if is_stage_name(&lower_case(name)) {
                Ok(words)
            } else {
                Err(format!(
                    "{name:?} cannot be the name of a stage: want a letter, then letters, digits, '-', '_', '.'"
                ))
            }
        }
        [_, comment, ..] if comment.starts_with('#') => {
            Err("a comment cannot follow FROM in its line: put it into a line of its own".to_owned())
        }
        _ => Err("FROM wants an image, and then AS and a name or nothing".to_owned()),
    }
}

/// What a stage can be called, in lower case.
pub fn is_stage_name(name: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.');
    name.starts_with(|c: char| c.is_ascii_lowercase()) && name.chars().all(inner)
}

fn blank_separated(text: &Text, range: Range<usize>) -> Vec<Word> {
    let (mut words, mut start) = (Vec::new(), range.start);
    for at in range.clone() {
        if is_blank(text.bytes()[at]) {
            words.push(text.word(start..at));
            start = at + 1;
        }
    }
    words.push(text.word(start..range.end));
    words.retain(|word| !word.text.is_empty());
    words
}

/// The pairs of ENV as `NAME=value`; the old form `NAME value` has one.
fn env_words(line: &Line, escape: u8) -> Result<Vec<Word>, String> {
    let words = split_words(&line.text, line.arguments.clone(), escape);
    match words.first() {
        None => Err("ENV wants a name and a value".to_owned()),
        Some(first) if !first.text.contains('=') => {
            let bytes = line.text.bytes();
            let arguments = line.arguments.clone();
            let blank = |at: &usize| is_blank(bytes[*at]);
            let end = arguments.clone().find(blank).ok_or_else(|| "ENV wants a name and a value".to_owned())?;
            let value = (end..arguments.end).find(|at| !blank(at)).unwrap_or(arguments.end);
            let mut pair = line.text.word(arguments.start..end);
            pair.push('=', line.text.place(end));
            pair.append(&line.text.word(value..arguments.end), 0..arguments.end - value);
            Ok(vec![pair])
        }
        Some(_) if words.iter().all(|word| word.text.contains('=')) => Ok(words),
        Some(_) => Err("ENV wants NAME=value".to_owned()),
    }
}

/// Splits at white space that is not quoted; quotes and escapes are kept (line_parsers.go, `parseWords`).
fn split_words(text: &Text, range: Range<usize>, escape: u8) -> Vec<Word> {
    let source = text.word(range);
    let escape = char::from(escape);
    let (mut words, mut word, mut quote) = (Vec::new(), Word::default(), None);
    let mut characters = source.text.char_indices();
    while let Some((at, c)) = characters.next() {
        if quote.is_none() && c.is_whitespace() {
            words.push(std::mem::take(&mut word));
            continue;
        }
        let mut end = at + c.len_utf8();
        if c == escape && quote != Some('\'') {
            // An escape character at the very end is dropped.
            let Some((next, escaped)) = characters.next() else { continue };
            end = next + escaped.len_utf8();
        } else if quote == Some(c) {
            quote = None;
        } else if quote.is_none() && matches!(c, '\'' | '"') {
            quote = Some(c);
        }
        word.append(&source, at..end);
    }
    words.push(word);
    words.retain(|word| !word.text.is_empty());
    words
}

/// Whether the text is a JSON array of strings; with `prefix` other text may follow it.
fn is_json(text: &[u8], prefix: bool) -> bool {
    let text = &text[trim_start(text, 0..text.len())];
    match array_of_strings(text) {
        Some(rest) => prefix || rest.iter().all(|byte| is_json_blank(*byte)),
        None => false,
    }
}

fn is_json_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// What follows a JSON array of strings.
fn array_of_strings(text: &[u8]) -> Option<&[u8]> {
    let mut rest = skip_blanks(text.strip_prefix(b"[")?);
    if let Some(rest) = rest.strip_prefix(b"]") {
        return Some(rest);
    }
    loop {
        rest = skip_blanks(json_string(rest)?);
        match rest.split_first()? {
            (b',', more) => rest = skip_blanks(more),
            (b']', more) => return Some(more),
            _ => return None,
        }
    }
}

fn skip_blanks(text: &[u8]) -> &[u8] {
    let blanks = text.iter().take_while(|byte| is_json_blank(**byte)).count();
    &text[blanks..]
}

/// What follows a JSON string.
fn json_string(text: &[u8]) -> Option<&[u8]> {
    let mut rest = text.strip_prefix(b"\"")?;
    loop {
        match rest {
            [b'"', more @ ..] => return Some(more),
            [b'\\', b'u', digits @ ..] => {
                let four = digits.get(..4)?;
                rest = four.iter().all(u8::is_ascii_hexdigit).then(|| &digits[4..])?;
            }
            [b'\\', b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', more @ ..] => rest = more,
            [b'\\' | 0..0x20, ..] | [] => return None,
            [_, more @ ..] => rest = more,
        }
    }
}
