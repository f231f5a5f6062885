//! Text that remembers where in the file it stands.

use std::ops::Range;

/// Bytes put together from places of a file.
#[derive(Clone, Debug, Default)]
pub struct Text {
    bytes: Vec<u8>,
    /// Where each part begins, in these bytes and in the file.
    parts: Vec<(usize, usize)>,
}

impl Text {
    /// The whole of a file.
    pub fn whole(text: &str) -> Text {
        Text { bytes: text.as_bytes().to_vec(), parts: vec![(0, 0)] }
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Appends a range of another text.
    pub fn push(&mut self, other: &Text, range: Range<usize>) {
        let mut at = range.start;
        while at < range.end {
            let part = other.parts.partition_point(|(start, _)| *start <= at);
            let end = other.parts.get(part).map_or(range.end, |(start, _)| range.end.min(*start));
            self.parts.push((self.bytes.len(), other.place(at)));
            self.bytes.extend_from_slice(&other.bytes[at..end]);
            at = end;
        }
    }

    /// Appends text that is not in the file.
    pub fn push_made(&mut self, text: &str) {
        self.bytes.extend_from_slice(text.as_bytes());
    }

    /// Where in the file a byte stands.
    pub fn place(&self, at: usize) -> usize {
        let part = self.parts.partition_point(|(start, _)| *start <= at);
        let (start, place) = part.checked_sub(1).and_then(|last| self.parts.get(last)).copied().unwrap_or_default();
        place + (at - start)
    }

    /// A range as text.
    pub fn word(&self, range: Range<usize>) -> Word {
        match std::str::from_utf8(&self.bytes[range.clone()]) {
            Ok(text) => Word { text: text.to_owned(), places: range.map(|at| self.place(at)).collect() },
            Err(_) => {
                let mut word = Word::default();
                let text = String::from_utf8_lossy(&self.bytes[range.clone()]).into_owned();
                text.chars().for_each(|c| word.push(c, self.place(range.start)));
                word
            }
        }
    }
}

/// A word of an instruction, with the place of each of its bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Word {
    pub text: String,
    places: Vec<usize>,
}

impl Word {
    pub fn push(&mut self, c: char, place: usize) {
        self.text.push(c);
        self.places.extend(std::iter::repeat_n(place, c.len_utf8()));
    }

    /// A part of the word; the bounds are those of characters.
    pub fn part(&self, range: Range<usize>) -> Word {
        Word { text: self.text[range.clone()].to_owned(), places: self.places[range].to_vec() }
    }

    /// Appends a part of another word.
    pub fn append(&mut self, other: &Word, range: Range<usize>) {
        self.text.push_str(&other.text[range.clone()]);
        self.places.extend_from_slice(&other.places[range]);
    }

    /// Where the word begins in the file.
    pub fn place(&self) -> Option<usize> {
        self.places.first().copied()
    }

    /// The bytes of the file that are this word; none, at its begin, if it is not there byte for byte.
    pub fn range(&self) -> Range<usize> {
        let start = self.place().unwrap_or_default();
        let unbroken = self.places.windows(2).all(|pair| matches!(pair, [first, second] if *second == first + 1));
        if unbroken { start..start + self.places.len() } else { start..start }
    }
}

/// Lower case as Go has it: one character for one (`İ` is `i`).
pub fn lower_case(text: &str) -> String {
    let lower = |c: char| {
        let mut lower = c.to_lowercase();
        match (c, lower.next(), lower.next()) {
            ('\u{130}', ..) => 'i',
            (_, Some(single), None) => single,
            _ => c,
        }
    };
    text.chars().map(lower).collect()
}

/// What `[\t\v\f\r ]` matches.
pub fn is_blank(byte: u8) -> bool {
    matches!(byte, b'\t' | 0x0b | 0x0c | b'\r' | b' ')
}

/// The range without Unicode white space at its begin.
pub fn trim_start(bytes: &[u8], range: Range<usize>) -> Range<usize> {
    let text = String::from_utf8_lossy(&bytes[range.clone()]);
    let blanks: usize = text.chars().take_while(|c| c.is_whitespace()).map(char::len_utf8).sum();
    range.start + blanks..range.end
}

/// The range without Unicode white space at both ends.
pub fn trim(bytes: &[u8], range: Range<usize>) -> Range<usize> {
    let range = trim_start(bytes, range);
    let text = String::from_utf8_lossy(&bytes[range.clone()]);
    let blanks: usize = text.chars().rev().take_while(|c| c.is_whitespace()).map(char::len_utf8).sum();
    range.start..range.end - blanks
}
