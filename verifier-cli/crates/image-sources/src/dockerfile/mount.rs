//! What `RUN --mount` mounts (moby/buildkit, frontend/dockerfile/instructions/commands_runmount.go; the fields are those
//! of github.com/tonistiigi/go-csvvalue).

use super::text::{Word, lower_case};

/// The stages and images of a mount. The last `from` counts, and others might take the first.
///
/// # Errors
/// Quotes that are not those of CSV.
pub fn sources(mount: &Word) -> Result<Vec<Word>, String> {
    let fields = fields(mount).ok_or_else(|| "the quotes in --mount are not those of CSV".to_owned())?;
    let from = |field: Word| {
        let (key, _) = field.text.split_once('=')?;
        (lower_case(key) == "from").then(|| field.part(key.len() + 1..field.text.len()))
    };
    Ok(fields.into_iter().filter_map(from).collect())
}

/// The fields of a line of CSV; quotes stand at the begin of a field only.
fn fields(line: &Word) -> Option<Vec<Word>> {
    let (mut fields, mut at) = (Vec::new(), 0);
    let end = line.text.len();
    loop {
        let rest = &line.text[at..];
        if let Some(quoted) = rest.strip_prefix('"') {
            let (field, length) = quoted_field(line, at + 1, quoted)?;
            fields.push(field);
            at += 1 + length;
            match line.text.as_bytes().get(at) {
                None => return Some(fields),
                Some(b',') => at += 1,
                Some(_) => return None,
            }
        } else {
            let length = rest.find(',').unwrap_or(rest.len());
            if rest[..length].contains('"') {
                return None;
            }
            fields.push(line.part(at..at + length));
            at += length + 1;
            if at > end {
                return Some(fields);
            }
        }
    }
}

/// A field after its opening quote, and its length with the closing quote.
fn quoted_field(line: &Word, start: usize, rest: &str) -> Option<(Word, usize)> {
    let (mut field, mut at) = (Word::default(), 0);
    loop {
        let quote = at + rest[at..].find('"')?;
        field.append(line, start + at..start + quote);
        if !rest[quote + 1..].starts_with('"') {
            return Some((field, quote + 1));
        }
        field.append(line, start + quote..start + quote + 1);
        at = quote + 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(text: &str) -> Word {
        let mut word = Word::default();
        text.char_indices().for_each(|(at, c)| word.push(c, at));
        word
    }

    fn found(text: &str) -> Option<Vec<String>> {
        sources(&word(text)).ok().map(|found| found.into_iter().map(|source| source.text).collect())
    }

    #[test]
    fn fields_are_those_of_csv() {
        for (text, want) in [
            ("type=bind,from=a:1,target=/x", vec!["a:1"]),
            ("FROM=a", vec!["a"]),
            ("\"from=a\"", vec!["a"]),
            ("x,\"from=a,b\",from=c", vec!["a,b", "c"]),
            ("\"from=a\"\"b\"", vec!["a\"b"]),
            ("from=a=b,", vec!["a=b"]),
            ("from", vec![]),
            ("from =a", vec![]),
            (" from=a", vec![]),
        ] {
            assert_eq!(found(text), Some(want.iter().map(ToString::to_string).collect()), "{text}");
        }
        for text in ["from=\"a\"", "\"from=a\"b", "\"from=a", "a,\"", "\"a\",b\""] {
            assert_eq!(found(text), None, "{text}");
        }
    }

    #[test]
    fn sources_keep_their_place() {
        let source = sources(&word("target=/x,from=a:1")).unwrap();
        assert_eq!(source[0].range(), 15..18);
        // Two quotes for one leave no place where the name stands as it is.
        assert_eq!(sources(&word("\"from=a\"\"b\"")).unwrap()[0].range(), 6..6);
    }
}
