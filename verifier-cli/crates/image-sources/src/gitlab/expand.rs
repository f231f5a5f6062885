//! Variables and inputs within texts, as GitLab and its runner replace them: `$NAME`, `${NAME}`, `$$` for a dollar (the
//! runner uses Go's `os.Expand`), and before that `$[[ inputs.NAME ]]`. Shell forms such as `${NAME:-default}` mean nothing.

/// The longest result in bytes: longer than any reference.
const MAX_VALUE: usize = 1024;

/// What a piece of a text stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Name<'t> {
    Variable(&'t str),
    /// `$[[ inputs.NAME ]]`.
    Input(&'t str),
    /// Anything else between `$[[` and `]]`.
    Other(&'t str),
}

/// A piece of a text.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece<'t> {
    Text(&'t str),
    Named(Name<'t>),
    /// A form that is not understood.
    Unknown(&'t str),
}

/// Splits a text.
pub fn pieces(mut text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    while let Some(at) = text.find('$') {
        pieces.push(Piece::Text(&text[..at]));
        let (piece, rest) = after_dollar(&text[at..]);
        pieces.push(piece);
        text = rest;
    }
    pieces.push(Piece::Text(text));
    pieces.retain(|piece| *piece != Piece::Text(""));
    pieces
}

/// The piece that begins with the dollar of `text`, and the rest.
fn after_dollar(text: &str) -> (Piece<'_>, &str) {
    let after = &text[1..];
    if let Some(inner) = after.strip_prefix("[[") {
        return match inner.split_once("]]") {
            Some((inner, rest)) => (Piece::Named(interpolation(inner.trim())), rest),
            None => (Piece::Unknown(text), ""),
        };
    }
    if let Some(inner) = after.strip_prefix('{') {
        return match inner.split_once('}') {
            Some((name, rest)) if is_name(name) => (Piece::Named(Name::Variable(name)), rest),
            Some((_, rest)) => (Piece::Unknown(&text[..text.len() - rest.len()]), rest),
            None => (Piece::Unknown(text), ""),
        };
    }
    if let Some(rest) = after.strip_prefix('$') {
        return (Piece::Text("$"), rest);
    }
    let length = after.find(|c: char| c != '_' && !c.is_ascii_alphanumeric()).unwrap_or(after.len());
    let (name, rest) = after.split_at(length);
    if is_name(name) { (Piece::Named(Name::Variable(name)), rest) } else { (Piece::Text("$"), after) }
}

fn interpolation(inner: &str) -> Name<'_> {
    inner.strip_prefix("inputs.").map_or(Name::Other(inner), Name::Input)
}

fn is_name(name: &str) -> bool {
    let is_word = |c: char| c == '_' || c.is_ascii_alphanumeric();
    !name.is_empty() && !name.starts_with(|c: char| c.is_ascii_digit()) && name.chars().all(is_word)
}

/// The text with each variable and interpolation replaced by what `value_of` says.
///
/// # Errors
/// The first that has no value, a form that is not understood, or a result that is too long.
pub fn replaced<'t>(
    text: &'t str,
    mut value_of: impl FnMut(Name<'t>) -> Result<String, String>,
) -> Result<String, String> {
    let mut result = String::new();
    for piece in pieces(text) {
        match piece {
            Piece::Text(text) => result.push_str(text),
            Piece::Unknown(form) => {
                return Err(format!("{form} is not a variable to GitLab: only $NAME and ${{NAME}} are"));
            }
            Piece::Named(name) => result.push_str(&value_of(name)?),
        }
        if result.len() > MAX_VALUE {
            return Err(format!("with its variables replaced the name is over {MAX_VALUE} bytes"));
        }
    }
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::{Name::*, Piece::*, *};

    #[test]
    fn forms() {
        for (text, want) in [
            ("a$B-${C}d", vec![Text("a"), Named(Variable("B")), Text("-"), Named(Variable("C")), Text("d")]),
            ("$$A$", vec![Text("$"), Text("A"), Text("$")]),
            ("${A:-b}c", vec![Unknown("${A:-b}"), Text("c")]),
            ("${A", vec![Unknown("${A")]),
            ("$[[ inputs.a ]]:$[[b]]", vec![Named(Input("a")), Text(":"), Named(Other("b"))]),
            ("$[[a", vec![Unknown("$[[a")]),
            ("$1", vec![Text("$"), Text("1")]),
        ] {
            assert_eq!(pieces(text), want, "{text}");
        }
    }
}
