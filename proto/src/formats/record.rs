//! What the tag index commits to: tag records and repository records (SPEC.md section 5).
//!
//! Both keep one line for each witness, so that one that floods a tag cannot hide what the others
//! saw, and interleaved reports make no false changes.

use std::fmt;

use thiserror::Error;

use crate::{
    c2sp::{
        encoding::{field, from_decimal, to_text},
        merkle::{Frontier, Hash, leaf_hash},
        time::{Timestamp, TimestampError},
    },
    formats::{
        entry::Seen,
        name::{Image, NameError, Repository, WitnessId},
    },
};

/// Why a record was refused.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum RecordError {
    /// The first line is not the record's kind, or the last has no newline.
    #[error("not a record of kind {0}")]
    Kind(&'static str),
    /// A line of another shape.
    #[error("malformed record line {0:?}")]
    Line(String),
    /// Lines out of order, or two for one witness.
    #[error("the lines of a record must be sorted, one for each witness")]
    Order,
    /// No sighting, or more sightings than observations.
    #[error("record line with impossible counts: {0:?}")]
    Counts(String),
    /// A name in it is refused.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A time in it is refused.
    #[error(transparent)]
    Time(#[from] TimestampError),
}

/// A key of the tag index: the SHA-256 of a name.
pub type Key = [u8; 32];

/// The key of an image in the tag index: SHA-256 of `repository:tag`.
pub fn tag_key(image: &Image) -> Key {
    Hash::of_text(image).0
}

/// The key of a repository in the tag index: SHA-256 of the repository.
pub fn repository_key(repository: &Repository) -> Key {
    Hash::of(repository.as_str().as_bytes()).0
}

/// An observation whose digest differs from the same witness's previous one for the tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// The log index of the observation.
    pub index: u64,
    /// The digest, or `gone`.
    pub seen: Seen,
}

impl Sighting {
    /// Parses `<log index> <digest or gone>`.
    ///
    /// # Errors
    /// [`RecordError::Line`], [`RecordError::Name`].
    pub fn parse(text: &str) -> Result<Sighting, RecordError> {
        let error = || RecordError::Line(text.chars().take(80).collect());
        let (index, seen) = text.split_once(' ').ok_or_else(error)?;
        Ok(Sighting { index: from_decimal(index).ok_or_else(error)?, seen: Seen::parse(seen)? })
    }

    /// The hash of the leaf text `<log index> <digest or gone>`, without a newline.
    pub fn leaf_hash(&self) -> Hash {
        /// An index and a SHA-512 digest.
        const LONGEST: usize = 160;
        leaf_hash(to_text(self, LONGEST).as_bytes())
    }
}

impl fmt::Display for Sighting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.index, self.seen)
    }
}

/// The right edge of the tree over a list of sightings, oldest first.
pub fn sightings_frontier<'a>(sightings: impl IntoIterator<Item = &'a Sighting>) -> Frontier {
    let mut frontier = Frontier::default();
    sightings.into_iter().for_each(|sighting| frontier.append(sighting.leaf_hash(), |_, _, _| {}));
    frontier
}

/// What one witness has reported of one tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagLine {
    /// The witness that reported.
    pub witness: WitnessId,
    /// How many observations of this tag it has made.
    pub observations: u64,
    /// How many of them were sightings.
    pub sightings: u64,
    /// The RFC 6962 root over its sightings.
    pub root: Hash,
    /// The log index of its latest observation.
    pub index: u64,
    /// The time of its latest observation.
    pub observed: Timestamp,
    /// The digest that it saw then, or `gone`.
    pub seen: Seen,
}

impl TagLine {
    /// Whether these are all of the witness's sightings: as many as the line counts, with its root.
    pub fn commits_to<'a>(&self, sightings: impl IntoIterator<Item = &'a Sighting>) -> bool {
        let frontier = sightings_frontier(sightings);
        frontier.size() == self.sightings && frontier.root() == self.root
    }

    fn parse(line: &str) -> Result<TagLine, RecordError> {
        let error = || RecordError::Line(line.chars().take(400).collect());
        let fields: Vec<&str> = field(line, "witness").ok_or_else(error)?.split(' ').collect();
        let [witness, observations, sightings, root, index, observed, seen] = fields[..] else { return Err(error()) };
        let number = |text| from_decimal(text).ok_or_else(error);
        let parsed = TagLine {
            witness: WitnessId::parse(witness)?,
            observations: number(observations)?,
            sightings: number(sightings)?,
            root: Hash::from_base64(root).ok_or_else(error)?,
            index: number(index)?,
            observed: observed.parse()?,
            seen: Seen::parse(seen)?,
        };
        let possible = parsed.sightings >= 1 && parsed.sightings <= parsed.observations;
        if possible { Ok(parsed) } else { Err(RecordError::Counts(line.chars().take(400).collect())) }
    }
}

impl fmt::Display for TagLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TagLine { witness, observations, sightings, root, index, observed, seen } = self;
        writeln!(f, "witness {witness} {observations} {sightings} {root} {index} {observed} {seen}")
    }
}

/// All that witnesses have reported of one tag, one line for each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagRecord {
    /// Repository and tag.
    pub image: Image,
    /// Sorted by witness id.
    lines: Vec<TagLine>,
}

impl TagRecord {
    const KIND: &'static str = "taglog/tag@v1";

    /// A record without lines; it gets its first with the first observation.
    pub fn new(image: Image) -> TagRecord {
        TagRecord { image, lines: Vec::new() }
    }

    /// Parses the record's text.
    ///
    /// # Errors
    /// Every variant of [`RecordError`].
    pub fn parse(text: &str) -> Result<TagRecord, RecordError> {
        let (name, lines) = split_record(text, Self::KIND)?;
        let lines: Vec<TagLine> = lines.map(TagLine::parse).collect::<Result<_, _>>()?;
        check_order(lines.iter().map(|line| &line.witness))?;
        Ok(TagRecord { image: Image::parse(name)?, lines })
    }

    /// A record from its lines, in any order; the caller sees to it that each witness has one.
    pub fn from_lines(image: Image, mut lines: Vec<TagLine>) -> TagRecord {
        lines.sort_by(|a, b| a.witness.cmp(&b.witness));
        TagRecord { image, lines }
    }

    /// One line for each witness that ever reported the tag, sorted.
    pub fn lines(&self) -> &[TagLine] {
        &self.lines
    }

    /// The line of this witness.
    pub fn line(&self, witness: &WitnessId) -> Option<&TagLine> {
        self.lines.iter().find(|line| line.witness == *witness)
    }

    /// The witness's line to change; a new one has no observation yet.
    pub(crate) fn line_mut(&mut self, witness: &WitnessId, seen: Seen) -> &mut TagLine {
        let place = self.lines.binary_search_by(|line| line.witness.cmp(witness)).unwrap_or_else(|place| {
            let line = TagLine {
                witness: witness.clone(),
                observations: 0,
                sightings: 0,
                root: crate::c2sp::merkle::empty_root(),
                index: 0,
                observed: Timestamp::UNIX_EPOCH,
                seen,
            };
            self.lines.insert(place, line);
            place
        });
        &mut self.lines[place]
    }
}

impl fmt::Display for TagRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n{}", Self::KIND, self.image)?;
        self.lines.iter().try_for_each(|line| line.fmt(f))
    }
}

/// A witness's latest confirmation of a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Confirmed {
    /// The log index of the confirmation.
    pub index: u64,
    /// Its time.
    pub observed: Timestamp,
}

/// What one witness has reported of one repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepositoryLine {
    /// The witness.
    pub witness: WitnessId,
    /// How many tags of the repository it has reported.
    pub tags: u64,
    /// Its latest confirmation.
    pub confirmed: Option<Confirmed>,
}

impl RepositoryLine {
    fn parse(line: &str) -> Result<RepositoryLine, RecordError> {
        let error = || RecordError::Line(line.chars().take(400).collect());
        let fields: Vec<&str> = field(line, "witness").ok_or_else(error)?.split(' ').collect();
        let [witness, tags, index, observed] = fields[..] else { return Err(error()) };
        let confirmed = match (index, observed) {
            ("-", "-") => None,
            _ => Some(Confirmed { index: from_decimal(index).ok_or_else(error)?, observed: observed.parse()? }),
        };
        let tags = from_decimal(tags).filter(|tags| *tags > 0).ok_or_else(error)?;
        Ok(RepositoryLine { witness: WitnessId::parse(witness)?, tags, confirmed })
    }
}

impl fmt::Display for RepositoryLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "witness {} {} ", self.witness, self.tags)?;
        match &self.confirmed {
            Some(Confirmed { index, observed }) => writeln!(f, "{index} {observed}"),
            None => writeln!(f, "- -"),
        }
    }
}

/// Who has reported tags of one repository, one line for each witness.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepositoryRecord {
    /// The repository.
    pub repository: Repository,
    /// Sorted by witness id.
    lines: Vec<RepositoryLine>,
}

impl RepositoryRecord {
    const KIND: &'static str = "taglog/repository@v1";

    /// A record without lines.
    pub fn new(repository: Repository) -> RepositoryRecord {
        RepositoryRecord { repository, lines: Vec::new() }
    }

    /// Parses the record's text.
    ///
    /// # Errors
    /// Every variant of [`RecordError`].
    pub fn parse(text: &str) -> Result<RepositoryRecord, RecordError> {
        let (name, lines) = split_record(text, Self::KIND)?;
        let lines: Vec<RepositoryLine> = lines.map(RepositoryLine::parse).collect::<Result<_, _>>()?;
        check_order(lines.iter().map(|line| &line.witness))?;
        Ok(RepositoryRecord { repository: Repository::parse(name)?, lines })
    }

    /// A record from its lines, in any order; the caller sees to it that each witness has one.
    pub fn from_lines(repository: Repository, mut lines: Vec<RepositoryLine>) -> RepositoryRecord {
        lines.sort_by(|a, b| a.witness.cmp(&b.witness));
        RepositoryRecord { repository, lines }
    }

    /// One line for each witness that ever reported a tag of the repository, sorted.
    pub fn lines(&self) -> &[RepositoryLine] {
        &self.lines
    }

    /// The line of this witness.
    pub fn line(&self, witness: &WitnessId) -> Option<&RepositoryLine> {
        self.lines.iter().find(|line| line.witness == *witness)
    }

    /// The witness's line to change; a new one counts no tags yet.
    pub(crate) fn line_mut(&mut self, witness: &WitnessId) -> &mut RepositoryLine {
        let place = self.lines.binary_search_by(|line| line.witness.cmp(witness));
        let place = place.unwrap_or_else(|place| {
            self.lines.insert(place, RepositoryLine { witness: witness.clone(), tags: 0, confirmed: None });
            place
        });
        &mut self.lines[place]
    }
}

impl fmt::Display for RepositoryRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n{}", Self::KIND, self.repository)?;
        self.lines.iter().try_for_each(|line| line.fmt(f))
    }
}

/// Gives the records that the index holds as of the last seal.
pub trait RecordReader {
    /// What can go wrong in reading.
    type Error;

    /// Where this reader keeps a tag, so that it searches for the name once in a batch. `()` for a reader that has
    /// nothing better than the name.
    type Place: Clone + fmt::Debug;

    /// Finds the place of a tag, whether or not it has a record.
    ///
    /// # Errors
    /// When storage fails.
    fn place(&self, image: &Image) -> Result<Self::Place, Self::Error>;

    /// The record of a tag, if any witness has reported it.
    ///
    /// # Errors
    /// When storage fails.
    fn tag_record(&self, image: &Image) -> Result<Option<TagRecord>, Self::Error>;

    /// The record of a repository, if any witness has reported a tag of it.
    ///
    /// # Errors
    /// When storage fails.
    fn repository_record(&self, repository: &Repository) -> Result<Option<RepositoryRecord>, Self::Error>;

    /// The right edge of a witness's list of sightings of a tag; `line` is its line in the record.
    ///
    /// # Errors
    /// When storage fails, or the list is not `line.sightings` long.
    fn sightings_frontier(&self, image: &Image, line: &TagLine) -> Result<Frontier, Self::Error>;

    /// As [`RecordReader::tag_record`], at the place that [`RecordReader::place`] gave.
    ///
    /// # Errors
    /// As [`RecordReader::tag_record`].
    fn tag_record_at(&self, image: &Image, _: &Self::Place) -> Result<Option<TagRecord>, Self::Error> {
        self.tag_record(image)
    }

    /// As [`RecordReader::sightings_frontier`], at the place that [`RecordReader::place`] gave.
    ///
    /// # Errors
    /// As [`RecordReader::sightings_frontier`].
    fn frontier_at(&self, image: &Image, _: &Self::Place, line: &TagLine) -> Result<Frontier, Self::Error> {
        self.sightings_frontier(image, line)
    }
}

/// The commitment to a record: SHA-256 of its text.
pub fn commitment(record: &impl std::fmt::Display) -> Hash {
    Hash::of_text(record)
}

/// Splits a record into its name and its lines, of which there is at least one.
fn split_record<'a>(
    text: &'a str,
    kind: &'static str,
) -> Result<(&'a str, impl Iterator<Item = &'a str>), RecordError> {
    let body = text.strip_prefix(kind).and_then(|rest| rest.strip_prefix('\n')).ok_or(RecordError::Kind(kind))?;
    let body = body.strip_suffix('\n').ok_or(RecordError::Kind(kind))?;
    let (name, lines) = body.split_once('\n').ok_or(RecordError::Kind(kind))?;
    Ok((name, lines.split('\n')))
}

/// The order of ids is that of the lines' bytes: names, in which every byte is above the `+` that ends them, then
/// the key ids' digits.
fn check_order<'a>(witnesses: impl Iterator<Item = &'a WitnessId>) -> Result<(), RecordError> {
    if witnesses.is_sorted_by(|a, b| a < b) { Ok(()) } else { Err(RecordError::Order) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_sorted_as_lines_are() {
        let mut ids: Vec<WitnessId> = ["a", "a-", "a.", "a/", "a0", "a_", "aa", "ab", "b", "-", ".", "/"]
            .iter()
            .flat_map(|name| {
                ["00000000", "0a000000", "a0000000", "ffffffff"].map(|id| format!("{name}+{id}").parse().unwrap())
            })
            .collect();
        ids.sort();
        let lines: Vec<String> = ids.iter().map(|id| format!("witness {id} 1 - -")).collect();
        assert!(lines.is_sorted());
    }
}
