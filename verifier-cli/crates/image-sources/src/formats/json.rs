//! JSON, which is read as YAML: all that is kept of it has the same meaning there.

use super::guess::is_image_key;

/// Keys of documents that can name an image under other keys than those for images: services, targets of a bake, operations
/// of a patch, steps of Cloud Build and of workflows, pipes of Bitbucket.
const DOCUMENT_KEYS: [&str; 6] = ["services", "target", "op", "steps", "uses", "pipe"];
/// Keys that name an image together with a repository, which the data of other programs has alone.
const BESIDE_REPOSITORY: [&str; 2] = ["tag", "digest"];
/// The same in YAML, which tools also read from a file with the name of JSON.
const YAML_KEYS: [&str; 5] = ["apiVersion", "mage:", "services:", "ontainer:", "? "];

/// Whether JSON can name an image. Most files of a tree are the data of other programs, and are not parsed.
pub fn may_name_images(text: &str) -> bool {
    let is_json = text.trim_start().starts_with(['{', '[']);
    if !is_json || YAML_KEYS.iter().any(|key| text.contains(key)) {
        return true;
    }
    // A key may be written with escapes.
    keys(text).any(|key| DOCUMENT_KEYS.contains(&key) || key.contains('\\') || is_image_key(key))
        || (keys(text).any(|key| key == "repository") && keys(text).any(|key| BESIDE_REPOSITORY.contains(&key)))
}

/// The texts in quotes before a colon.
fn keys(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        loop {
            let string = rest.get(rest.find('"')?..)?;
            let (quoted, after) = string.split_at_checked(string_length(string.as_bytes()))?;
            rest = after;
            if after.trim_start().starts_with(':') {
                return Some(quoted.trim_matches('"'));
            }
        }
    })
}

/// JSON with comments and with commas before a closing bracket, as `devcontainer.json` has them, with blanks in their place:
/// every other character keeps its position.
pub fn without_comments(text: &str) -> String {
    let mut bytes = text.as_bytes().to_vec();
    let mut at = 0;
    // A comma after which nothing but blanks and comments came so far.
    let mut comma = None;
    while let Some(byte) = bytes.get(at).copied() {
        let length = match (byte, bytes.get(at + 1)) {
            (b'"', _) => string_length(&bytes[at..]),
            (b'/', Some(b'/')) => blank(&mut bytes[at..], |rest| rest.starts_with(b"\n"), 0),
            (b'/', Some(b'*')) => blank(&mut bytes[at..], |rest| rest.starts_with(b"*/"), 2),
            (b'}' | b']', _) => {
                if let Some(comma) = comma.take() {
                    bytes[comma] = b' ';
                }
                1
            }
            _ => 1,
        };
        match byte {
            b',' => comma = Some(at),
            b' ' | b'\t' | b'\r' | b'\n' | b'/' => {}
            _ => comma = None,
        }
        at += length;
    }
    // Only ASCII was replaced, and whole comments: it is still UTF-8.
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}

/// The length of the string that begins here, with its quotes.
fn string_length(text: &[u8]) -> usize {
    let mut escaped = false;
    let end = text.iter().skip(1).position(|byte| {
        let ends = *byte == b'"' && !escaped;
        escaped = *byte == b'\\' && !escaped;
        ends
    });
    end.map_or(text.len(), |end| end + 2)
}

/// Replaces a comment by blanks; line ends stay. `after` is the length of what ends it.
fn blank(comment: &mut [u8], ends: impl Fn(&[u8]) -> bool, after: usize) -> usize {
    let from = after.min(comment.len());
    let end = (from..comment.len()).find(|at| ends(&comment[*at..])).map_or(comment.len(), |at| at + after);
    comment[..end].iter_mut().filter(|byte| **byte != b'\n').for_each(|byte| *byte = b' ');
    end
}
