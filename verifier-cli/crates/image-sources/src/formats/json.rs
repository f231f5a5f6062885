//! JSON, which is read as YAML: all that is kept of it has the same meaning there.

/// Whether JSON can name an image. Most files of a tree are the data of other programs, and are not parsed.
pub fn may_name_images(text: &str) -> bool {
    let has = |word: &str| text.contains(word);
    // A name may be written with escapes.
    has("apiVersion") || has("mage") || has("MAGE") || has("\\u") || (has("\"target\"") && has("\"context"))
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
