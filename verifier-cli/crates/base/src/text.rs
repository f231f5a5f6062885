//! Text from outside (file names, images, what registries, logs and other programs answer) made safe to show.
//!
//! A terminal obeys control characters, and invisible or bidirectional characters make one digest or verdict look like
//! another. Each such character is replaced by its escape sequence of JSON, such as `\u202e`: unlike a `?` it shows which
//! character is there, so that two different texts never look the same, and JSON that passes through here keeps its
//! meaning.
//!
//! There are two lines of defence. Messages are made with [`one_line`] and its relatives, so that nobody can add a line
//! to them; and whatever leaves a program as text goes through [`for_terminal`] or [`LogWriter`] in any case.

use std::{borrow::Cow, io, path::Path};

use icu_properties::{
    CodePointMapData, CodePointSetData,
    props::{DefaultIgnorableCodePoint, GeneralCategory as Category},
};

/// The longest text that [`one_line`] returns, in characters, without the mark.
pub const MAX_LINE: usize = 500;
/// The longest text that [`excerpt`] returns, in characters, without the mark.
pub const MAX_EXCERPT: usize = 200;
/// Ends a text that was cut.
pub const CUT: char = '…';

/// Whether this character is not shown as itself: it controls the terminal or the direction of text, breaks a line, is
/// invisible, or has no meaning that all systems share (private use, unassigned, noncharacter).
///
/// By Unicode's general categories Cc, Cf, Zl, Zp, Co, Cs and Cn, and the property `Default_Ignorable_Code_Point` (which
/// adds variation selectors, Hangul fillers and the like).
pub fn is_unsafe(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_control();
    }
    let category = CodePointMapData::<Category>::new().get(c);
    let is_unsafe_category = matches!(
        category,
        Category::Control
            | Category::Format
            | Category::LineSeparator
            | Category::ParagraphSeparator
            | Category::PrivateUse
            | Category::Surrogate
            | Category::Unassigned
    );
    is_unsafe_category || CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(c)
}

/// What a message quotes: one line of at most [`MAX_LINE`] characters, and [`CUT`] where there was more.
pub fn one_line(text: &str) -> String {
    clean(text, Rules { limit: MAX_LINE, ..Rules::ONE_LINE })
}

/// What a message quotes of another program's words: trimmed, one line of at most [`MAX_EXCERPT`] characters, and [`CUT`]
/// where there was more.
pub fn excerpt(text: &str) -> String {
    line_within(text.trim(), MAX_EXCERPT)
}

/// One line of at most `limit` characters, and [`CUT`] where there was more.
pub fn line_within(text: &str, limit: usize) -> String {
    clean(text, Rules { limit, ..Rules::ONE_LINE })
}

/// One line, however long.
pub fn whole_line(text: &str) -> String {
    clean(text, Rules::ONE_LINE)
}

/// A path in a message: one line, however long. Its line ends and what is not UTF-8 are escaped or replaced.
pub fn path_line(path: &Path) -> String {
    whole_line(&path.display().to_string())
}

/// The whole text with its line ends and tabs.
pub fn lines(text: &str) -> String {
    clean(text, Rules { lines: true, ..Rules::ONE_LINE })
}

/// What a program prints as text, just before it prints it: the whole, with its line ends and tabs; with `styles` also
/// with its colours, which are the sequences `ESC [ … m` and nothing else.
pub fn for_terminal(text: &str, styles: bool) -> String {
    clean(text, Rules { lines: true, styles, ..Rules::ONE_LINE })
}

/// Writes the lines of a program's own log, where each call of `write` is one event: whatever it holds, it remains one
/// line.
#[derive(Debug)]
pub struct LogWriter<W> {
    inner: W,
    styles: bool,
}

impl<W> LogWriter<W> {
    /// With `styles`, colours pass (`ESC [ … m`).
    pub fn new(inner: W, styles: bool) -> LogWriter<W> {
        LogWriter { inner, styles }
    }
}

impl<W: io::Write> io::Write for LogWriter<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        let (line, end) = text.strip_suffix('\n').map_or((&*text, ""), |line| (line, "\n"));
        let line = clean(line, Rules { styles: self.styles, ..Rules::ONE_LINE });
        self.inner.write_all(format!("{line}{end}").as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// What passes besides safe characters, and how much.
#[derive(Clone, Copy)]
struct Rules {
    /// Line ends (`\n`, `\r\n`) and tabs.
    lines: bool,
    /// `ESC [ … m`.
    styles: bool,
    /// Characters of the result without the mark.
    limit: usize,
}

impl Rules {
    const ONE_LINE: Rules = Rules { lines: false, styles: false, limit: usize::MAX };

    /// How many bytes at the beginning of the text pass as they are.
    fn passing(self, text: &str) -> usize {
        if self.lines && text.starts_with("\r\n") {
            return 2;
        }
        if self.lines && text.starts_with(['\n', '\t']) {
            return 1;
        }
        match text.chars().next() {
            Some(c) if !is_unsafe(c) => c.len_utf8(),
            Some('\u{1b}') if self.styles => style(text),
            _ => 0,
        }
    }
}

/// The bytes of the sequence `ESC [ … m` (SGR, "select graphic rendition") at the beginning of the text; 0 if there is
/// none.
fn style(text: &str) -> usize {
    let Some(parameters) = text.strip_prefix("\u{1b}[") else { return 0 };
    let end = parameters.find(|c: char| !c.is_ascii_digit() && c != ';' && c != ':');
    end.filter(|end| parameters[*end..].starts_with('m')).map_or(0, |end| "\u{1b}[m".len() + end)
}

fn clean(mut text: &str, rules: Rules) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut length = 0;
    while let Some(first) = text.chars().next() {
        let passing = rules.passing(text);
        let (taken, piece) = match passing {
            0 => (first.len_utf8(), Cow::from(escape(first))),
            _ => (passing, Cow::from(&text[..passing])),
        };
        length += piece.chars().count();
        if length > rules.limit {
            clean.push(CUT);
            break;
        }
        clean.push_str(&piece);
        text = &text[taken..];
    }
    clean
}

/// The escape sequence of JSON (RFC 8259 section 7).
fn escape(c: char) -> String {
    match c {
        '\n' => "\\n".to_owned(),
        '\r' => "\\r".to_owned(),
        '\t' => "\\t".to_owned(),
        c => c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")).collect(),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    /// Half of the characters are ones that must not pass: otherwise arbitrary text would rarely hold one.
    fn hostile_text() -> impl Strategy<Value = String> {
        let unsafe_char = any::<char>().prop_filter("safe", |c| is_unsafe(*c));
        let ascii_control = prop::sample::select(vec!['\0', '\t', '\n', '\r', '\u{1b}', '\u{7f}']);
        let sequence = prop::sample::select(vec!["\u{1b}[31m", "\u{1b}[2J", "\r\n", "\u{1b}["]).prop_map(str::to_owned);
        let one = |c: char| c.to_string();
        let piece = prop_oneof![
            any::<char>().prop_map(one),
            "[ -~]{1,8}",
            unsafe_char.prop_map(one),
            ascii_control.prop_map(one),
            sequence
        ];
        prop::collection::vec(piece, 0..80).prop_map(|pieces| pieces.concat())
    }

    #[test]
    fn what_steers_hides_or_reorders_is_unsafe() {
        let ranges = [
            '\0'..='\u{1f}',
            '\u{7f}'..='\u{9f}',
            '\u{ad}'..='\u{ad}',
            '\u{34f}'..='\u{34f}',
            '\u{61c}'..='\u{61c}',
            '\u{115f}'..='\u{1160}',
            '\u{180b}'..='\u{180f}',
            '\u{200b}'..='\u{200f}',
            '\u{2028}'..='\u{202e}',
            '\u{2060}'..='\u{206f}',
            '\u{3164}'..='\u{3164}',
            '\u{e000}'..='\u{f8ff}',
            '\u{fdd0}'..='\u{fdef}',
            '\u{fe00}'..='\u{fe0f}',
            '\u{feff}'..='\u{feff}',
            '\u{fff0}'..='\u{fffb}',
            '\u{fffe}'..='\u{ffff}',
            '\u{1d173}'..='\u{1d17a}',
            '\u{e0000}'..='\u{e0fff}',
            '\u{f0000}'..='\u{10ffff}',
        ];
        for c in ranges.into_iter().flatten() {
            assert!(is_unsafe(c), "{c:?} U+{:04X}", u32::from(c));
        }
    }

    #[test]
    fn text_of_any_script_is_unchanged() {
        for text in [
            "busybox:1.36",
            "Grüße, Ångström – naïve…",
            "שלום",
            "مرحبا",
            "日本語 テスト",
            "한국어",
            "ไทย",
            "🦀 \u{fffd}",
        ] {
            assert_eq!(one_line(text), text);
            assert_eq!(whole_line(text), text);
            assert_eq!(lines(text), text);
            assert_eq!(for_terminal(text, false), text);
        }
    }

    #[test]
    fn the_replacement_says_which_character_it_was() {
        assert_eq!(one_line("a\u{1b}[2Jb\r\n\tc\u{202e}\u{e0001}"), r"a\u001b[2Jb\r\n\tc\u202e\udb40\udc01");
        assert_eq!(lines("a\r\n\tb\rc\nd\u{200b}"), "a\r\n\tb\\rc\nd\\u200b");
        assert_eq!(excerpt(" a\nb "), r"a\nb");
    }

    #[test]
    fn a_cut_is_marked_and_never_inside_an_escape() {
        assert_eq!(line_within("abc", 3), "abc");
        assert_eq!(line_within("abcd", 3), "abc…");
        assert_eq!(line_within("ab\u{202e}", 7), "ab…");
        assert_eq!(line_within("a\u{202e}", 7), r"a\u202e");
        assert_eq!(one_line(&"é".repeat(MAX_LINE + 1)), "é".repeat(MAX_LINE) + "…");
        assert_eq!(excerpt(&"x".repeat(MAX_EXCERPT)), "x".repeat(MAX_EXCERPT));
    }

    #[test]
    fn only_styles_pass_where_styles_pass() {
        let styled = "\u{1b}[1;31mFAIL\u{1b}[0m \u{1b}[38:5:1mx\u{1b}[m\n";
        assert_eq!(for_terminal(styled, true), styled);
        assert!(!for_terminal(styled, false).contains('\u{1b}'));
        for other in
            ["\u{1b}[2J", "\u{1b}[1", "\u{1b}[?25l", "\u{1b}]0;x\u{7}", "\u{1b}", "\u{9b}31m", "\u{1b}[1\u{1b}"]
        {
            assert!(!for_terminal(other, true).contains(is_unsafe), "{other:?}");
        }
    }

    #[test]
    fn an_event_of_the_log_is_one_line() {
        let mut out = Vec::new();
        let mut log = LogWriter::new(&mut out, false);
        log.write_all(b"WARN a\nERROR forged\x1b[1m\r\n").unwrap();
        log.write_all("INFO b \u{202e}\n".as_bytes()).unwrap();
        log.flush().unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "WARN a\\nERROR forged\\u001b[1m\\r\nINFO b \\u202e\n");
    }

    proptest! {
        #[test]
        fn nothing_unsafe_ever_comes_out(text in hostile_text(), limit in 0_usize..100) {
            for line in [one_line(&text), excerpt(&text), whole_line(&text), line_within(&text, limit)] {
                prop_assert!(!line.contains(is_unsafe), "{:?}", line);
            }
            for lines in [lines(&text), for_terminal(&text, false)] {
                let rest = lines.replace("\r\n", "").replace(['\n', '\t'], "");
                prop_assert!(!rest.contains(is_unsafe), "{:?}", lines);
            }
        }

        #[test]
        fn with_styles_nothing_but_styles_comes_out(text in hostile_text()) {
            let shown = for_terminal(&text, true).replace("\r\n", "").replace(['\n', '\t'], "");
            for after in shown.split('\u{1b}').skip(1) {
                let end = after.find(|c: char| !"[0123456789;:".contains(c));
                prop_assert!(after.starts_with('[') && end.is_some_and(|end| after[end..].starts_with('m')), "{:?}", shown);
            }
            let rest = shown.replace('\u{1b}', "");
            prop_assert!(!rest.contains(is_unsafe), "{:?}", shown);
        }

        #[test]
        fn safe_text_is_unchanged(text in hostile_text()) {
            let safe: String = text.chars().filter(|c| !is_unsafe(*c)).collect();
            prop_assert_eq!(whole_line(&safe), &*safe);
            prop_assert_eq!(lines(&safe), &*safe);
            prop_assert_eq!(for_terminal(&safe, true), safe);
        }

        #[test]
        fn lines_are_bounded(text in hostile_text(), limit in 0_usize..100) {
            prop_assert!(line_within(&text, limit).chars().count() <= limit + 1);
            prop_assert!(one_line(&text.repeat(20)).chars().count() <= MAX_LINE + 1);
            prop_assert!(excerpt(&text.repeat(20)).chars().count() <= MAX_EXCERPT + 1);
        }

        #[test]
        fn once_is_enough(text in hostile_text(), limit in 0_usize..100) {
            prop_assert_eq!(whole_line(&whole_line(&text)), whole_line(&text));
            prop_assert_eq!(for_terminal(&whole_line(&text), true), whole_line(&text));
            prop_assert_eq!(whole_line(&line_within(&text, limit)), line_within(&text, limit));
        }

        #[test]
        fn json_keeps_its_meaning(text in hostile_text()) {
            let value = Value::from(text);
            prop_assert_eq!(serde_json::from_str::<Value>(&whole_line(&value.to_string())).unwrap(), value);
        }
    }
}
