//! Here-documents in Dockerfiles, taken out before the rest is parsed.
//!
//! The parser knows them only right after RUN, one at most. A body that it took for instructions would break the
//! file, or bring in images that no build ever asks for.

use super::{model::SyntaxError, variables::words};

/// The text with every body made a comment and every `<<` harmless. No byte changes its position or its line.
///
/// # Errors
/// A body without its last line.
pub fn without_bodies(text: &str, escape: char) -> Result<String, SyntaxError> {
    let mut out = String::with_capacity(text.len());
    let mut lines = text.split_inclusive('\n').enumerate();
    while let Some((index, first)) = lines.next() {
        if is_blank_or_comment(first) {
            out.push_str(first);
            continue;
        }
        let mut instruction = vec![first];
        while goes_on(instruction.last(), escape)
            && let Some((_, line)) = lines.next()
        {
            instruction.push(line);
        }
        let text = joined(&instruction, escape);
        let bodies = may_have_bodies(&text);
        let harmless = |line: &&str| if bodies { line.replace("<<", "xx") } else { (*line).to_owned() };
        out.extend(instruction.iter().map(harmless));
        for delimiter in delimiters(&text, escape) {
            let mut body = lines.by_ref().map(|(_, line)| line).inspect(|line| blank(line, &mut out));
            if !body.any(|line| delimiter.ends_at(line)) {
                return Err(SyntaxError { line: index + 1, reason: "a here-document does not end".to_owned() });
            }
        }
    }
    Ok(out)
}

fn is_blank_or_comment(line: &str) -> bool {
    let line = line.trim();
    line.is_empty() || line.starts_with('#')
}

/// A comment or a blank line within an instruction neither belongs to it nor ends it.
fn goes_on(last: Option<&&str>, escape: char) -> bool {
    last.is_some_and(|line| is_blank_or_comment(line) || line.trim_end().ends_with(escape))
}

/// The lines of one instruction as one.
fn joined(lines: &[&str], escape: char) -> String {
    let lines = lines.iter().filter(|line| !is_blank_or_comment(line)).map(|line| line.trim_end());
    lines.map(|line| line.strip_suffix(escape).unwrap_or(line)).collect()
}

fn may_have_bodies(instruction: &str) -> bool {
    let is = |word: &str, name: &str| word.eq_ignore_ascii_case(name);
    let mut words = instruction.split_whitespace();
    let keyword = words.next().and_then(|word| if is(word, "ONBUILD") { words.next() } else { Some(word) });
    keyword.is_some_and(|word| is(word, "RUN") || is(word, "COPY") || is(word, "ADD"))
}

/// Writes a line of the same length that is a comment.
fn blank(line: &str, out: &mut String) {
    let content = line.trim_end_matches(['\r', '\n']);
    out.extend(std::iter::repeat_n('#', content.len()));
    out.push_str(&line[content.len()..]);
}

/// What the bodies after this instruction end with, in their order.
fn delimiters(instruction: &str, escape: char) -> Vec<Delimiter> {
    if !may_have_bodies(instruction) || !instruction.contains("<<") {
        return Vec::new();
    }
    // Quotes that stay open are the shell's affair, and then nothing is a here-document.
    words(instruction, escape).unwrap_or_default().iter().filter_map(|word| Delimiter::parse(word)).collect()
}

struct Delimiter {
    name: String,
    tabs_stripped: bool,
}

impl Delimiter {
    /// Parses `<<EOF`, `<<-EOF`, `3<<"EOF"`.
    fn parse(word: &str) -> Option<Delimiter> {
        let rest = word.trim_start_matches(|c: char| c.is_ascii_digit()).strip_prefix("<<")?;
        let (rest, tabs_stripped) = rest.strip_prefix('-').map_or((rest, false), |rest| (rest, true));
        let name: String = rest.chars().filter(|c| !matches!(c, '"' | '\'' | '\\')).collect();
        (!rest.contains('<') && !name.is_empty()).then_some(Delimiter { name, tabs_stripped })
    }

    fn ends_at(&self, line: &str) -> bool {
        let line = line.trim_end_matches(['\r', '\n']);
        let line = if self.tabs_stripped { line.trim_start_matches('\t') } else { line };
        line == self.name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_become_comments_of_the_same_length() {
        let text = "FROM a\nRUN cat <<EOF > x && \\\n  cat <<-'E F' > y\nFROM é\nEOF\n\tFROM c\n\tE F\nRUN echo '<<no'\nCMD b\n";
        let want = "FROM a\nRUN cat xxEOF > x && \\\n  cat xx-'E F' > y\n#######\n###\n#######\n####\nRUN echo 'xxno'\nCMD b\n";
        assert_eq!(without_bodies(text, '\\').unwrap(), want);
    }

    #[test]
    fn only_words_of_run_copy_and_add_begin_one() {
        for text in
            ["LABEL a=<<EOF\nFROM b\n", "RUN a<<EOF\nFROM b\n", "RUN cat <<<EOF\nFROM b\n", "RUN it's <<EOF\nFROM b\n"]
        {
            let out = without_bodies(text, '\\').unwrap();
            assert!(out.contains("\nFROM b\n"), "{text:?} became {out:?}");
        }
        for text in
            ["COPY <<EOF /x\nFROM b\nEOF", "ONBUILD add <<EOF /x\nFROM b\nEOF", "RUN 3<<EOF a\r\nFROM b\r\nEOF\r\n"]
        {
            let out = without_bodies(text, '\\').unwrap();
            assert!(!out.contains("FROM") && out.len() == text.len(), "{text:?} became {out:?}");
        }
    }

    #[test]
    fn the_escape_character_continues_lines() {
        let text = "RUN a `\n\n# comment\n <<EOF\nFROM b\nEOF\n";
        assert!(!without_bodies(text, '`').unwrap().contains("FROM"));
        assert_eq!(without_bodies("FROM a\nRUN <<EOF\nEO\n", '\\').unwrap_err().line, 2);
    }
}
