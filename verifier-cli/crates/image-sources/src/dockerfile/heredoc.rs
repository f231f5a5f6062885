//! Which here-documents an instruction begins (moby/buildkit, frontend/dockerfile/parser/parser.go, `heredocsFromLine`).

use super::{
    dialect::{Dialect, HereDocuments},
    shell::{LexError, Lexer},
};

/// The end of a here-document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HereDocument {
    /// The line that ends it.
    pub name: String,
    /// Whether tabs before the name do not matter (`<<-`).
    tabs: bool,
}

impl HereDocument {
    /// Whether a line, without its line feed, ends the document.
    pub fn ends_at(&self, line: &[u8]) -> bool {
        let tabs = if self.tabs { line.iter().take_while(|byte| **byte == b'\t').count() } else { 0 };
        &line[tabs..] == self.name.as_bytes()
    }
}

/// The here-documents that a line begins, in their order. The escape character of words is always `\` here, and a line
/// whose quotes do not end begins none.
///
/// # Errors
/// A name whose quotes do not end; a line that is nested too deep to be read.
pub fn begun_by(line: &str, dialect: &Dialect) -> Result<Vec<HereDocument>, String> {
    if !line.contains("<<") {
        return Ok(Vec::new());
    }
    let words = match Lexer::raw(line, dialect, true, true).words() {
        Ok(words) => words,
        Err(LexError::Syntax(_)) => return Ok(Vec::new()),
        Err(error) => return Err(error.to_string()),
    };
    words.iter().filter_map(|word| begun_by_word(word, dialect).transpose()).collect()
}

/// `<<EOF`, `<<-EOF`, `3<<"EOF"`.
fn begun_by_word(word: &str, dialect: &Dialect) -> Result<Option<HereDocument>, String> {
    let Some(rest) = word.trim_start_matches(|c: char| c.is_ascii_digit()).strip_prefix("<<") else {
        return Ok(None);
    };
    let (rest, tabs) = rest.strip_prefix('-').map_or((rest, false), |rest| (rest, true));
    let rest = match dialect.here_documents {
        HereDocuments::Blank => rest.trim_start_matches(['\t', '\n', '\x0c', '\r', ' ']),
        HereDocuments::Tight | HereDocuments::None => rest,
    };
    if rest.is_empty() || rest.contains('<') {
        return Ok(None);
    }
    let words = |quotes| Lexer::raw(rest, dialect, quotes, false).words().map_err(|error| error.to_string());
    let names = words(false)?;
    let [name] = &names[..] else { return Ok(None) };
    if words(true)?.len() != 1 {
        return Err(format!("the name of a here-document is not understood: {rest}"));
    }
    Ok(Some(HereDocument { name: name.clone(), tabs }))
}

#[cfg(test)]
mod tests {
    use super::{super::dialect::CURRENT, *};

    fn names(line: &str, here_documents: HereDocuments) -> Vec<String> {
        let found = begun_by(line, &Dialect { here_documents, ..CURRENT }).unwrap();
        found.into_iter().map(|document| document.name).collect()
    }

    /// Facts of moby/buildkit, frontend/dockerfile/parser/parser_heredoc_test.go.
    #[test]
    fn names_of_here_documents() {
        for (line, want) in [
            ("RUN <<EOF", vec!["EOF"]),
            ("RUN <<-EOF", vec!["EOF"]),
            ("RUN 4<<EOF", vec!["EOF"]),
            ("RUN <<'EOF'", vec!["EOF"]),
            ("RUN <<EOF <<EOF2", vec!["EOF", "EOF2"]),
            ("RUN '<<EOF'", vec![]),
            ("RUN \"<<EOF\"", vec![]),
            ("RUN <<", vec![]),
            ("RUN <<-", vec![]),
            ("RUN <<- EOF", vec![]),
            ("RUN <EOF", vec![]),
            ("RUN <<<EOF", vec![]),
            ("RUN a<<EOF", vec![]),
            ("RUN <<EO\"F\" sh", vec!["EOF"]),
            ("RUN <<eo'f'", vec!["eof"]),
            ("RUN <<eo\\'f", vec!["eo'f"]),
            ("RUN <<'e'o\\'f", vec!["eo'f"]),
            ("RUN <<'one two'", vec!["one two"]),
            ("RUN <<$EOF", vec!["$EOF"]),
            ("COPY <<file.txt /dest", vec!["file.txt"]),
            // A quote that does not end is left to the shell, with all that looks like a here-document.
            ("RUN it's <<EOF", vec![]),
            ("RUN echo ${x=y} <<EOF", vec![]),
        ] {
            for here_documents in [HereDocuments::Tight, HereDocuments::Blank] {
                assert_eq!(names(line, here_documents), want, "{line}");
            }
        }
    }

    #[test]
    fn versions_differ_about_blanks() {
        for (line, want) in [
            ("RUN << EOF", "EOF"),
            ("RUN << -EOF", "-EOF"),
            ("RUN <<  EOF  > foo", "EOF"),
            ("RUN <<\t'a b'", "a b"),
            ("RUN echo $((1 << 3))", "3))"),
        ] {
            assert_eq!(names(line, HereDocuments::Blank), [want], "{line}");
            assert_eq!(names(line, HereDocuments::Tight), [""; 0], "{line}");
        }
    }

    /// A default drops what was read of its word before it since BuildKit 0.17.
    #[test]
    fn defaults_within_words() {
        let documents = |dialect: &Dialect| begun_by("RUN <<${A:-b}c", dialect).unwrap().len();
        assert_eq!(documents(&CURRENT), 0);
        assert_eq!(documents(&Dialect { shared_word_buffer: false, ..CURRENT }), 1);
    }

    #[test]
    fn what_cannot_be_told_is_an_error() {
        let deep = format!("RUN {}x{} <<EOF", "${A:-".repeat(1000), "}".repeat(1000));
        assert!(begun_by(&deep, &CURRENT).is_err());
    }
}
