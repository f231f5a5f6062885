//! The tag index in memory: every record as of the last seal, in compact form, and the prefix tree over them.

use std::{collections::HashMap, convert::Infallible};

use taglog_proto::{
    entry::Seen,
    index::{ChangedTag, RecordChanges, RecordReader, commitment},
    merkle::{Frontier, Hash},
    name::{Digest, Image, Repository, Tag, WitnessId},
    prefix_tree::{Key, Leaf, PrefixProof},
    record::{RepositoryLine, RepositoryRecord, TagLine, TagRecord, repository_key, tag_key},
    time::Timestamp,
};

use super::{
    codec,
    record_state::{LineState, RepositoryLineState, RepositoryState, TagState},
    rows::{IndexRows, RepositoryRow, TagRow},
    trie::{TooLarge, Trie},
};

/// How many records are added to a rebuilt tree at once, so that not all leaves are in memory twice.
const AT_ONCE: usize = if cfg!(test) { 3 } else { 1 << 18 };

/// One witness's list of sightings of one tag, to which a batch has added.
pub(super) struct GrownList {
    /// The number of the tag.
    pub tag: u32,
    /// The number of the witness.
    pub witness: u32,
    /// The witness's last observation before the batch.
    pub old: Option<Seen>,
    /// Whether no witness had reported the tag before the batch.
    pub new_tag: bool,
}

/// The tag index: every record, and the prefix tree over them.
#[derive(Debug, Default)]
pub struct Index {
    pub(super) witnesses: Vec<WitnessId>,
    witness_places: HashMap<WitnessId, u32>,
    pub(super) repositories: Vec<RepositoryState>,
    repository_places: HashMap<Repository, u32>,
    pub(super) tags: Vec<TagState>,
    /// For each repository, the numbers of its tags.
    tag_places: Vec<HashMap<Tag, u32>>,
    trie: Trie,
    /// The numbers of the tags and repositories that changed since the last commit.
    dirty_tags: Vec<u32>,
    dirty_repositories: Vec<u32>,
    /// How many of `witnesses` are stored already.
    stored_witnesses: usize,
}

/// Read access to one tag of the index.
#[derive(Clone, Copy, Debug)]
pub struct TagView<'a> {
    index: &'a Index,
    state: &'a TagState,
}

/// The latest observation of a tag by one witness.
#[derive(Clone, Debug)]
pub struct Current<'a> {
    pub witness: &'a WitnessId,
    /// The log index of the observation.
    pub index: u64,
    /// When the witness resolved the tag.
    pub observed: Timestamp,
    pub seen: Seen,
    /// The number of sightings: observations by this witness that differ from its previous one, if any.
    pub sightings: u64,
}

impl TagView<'_> {
    pub fn image(&self) -> Image {
        self.index.image(self.state)
    }

    /// The log index of the retag: the first sighting, by any witness, of a digest other than the first one sighted.
    pub fn retagged(&self) -> Option<u64> {
        self.state.retagged
    }

    /// The latest observation of each witness that ever reported the tag.
    pub fn current(&self) -> impl Iterator<Item = Current<'_>> {
        self.state.lines.iter().map(|line| Current {
            witness: &self.index.witnesses[line.witness as usize],
            index: line.index,
            observed: line.observed,
            seen: line.seen.get(),
            sightings: line.sightings,
        })
    }
}

impl Index {
    /// The root of the prefix tree.
    pub(super) fn root(&self) -> Hash {
        self.trie.root()
    }

    /// All tags, in the order of their first observation.
    pub fn tags(&self) -> impl Iterator<Item = TagView<'_>> {
        self.tags.iter().map(|state| TagView { index: self, state })
    }

    pub fn tag(&self, image: &Image) -> Option<TagView<'_>> {
        self.tag_state(image).map(|state| TagView { index: self, state })
    }

    /// The number of repositories with records.
    pub fn repositories(&self) -> usize {
        self.repositories.len()
    }

    /// The number of witnesses with statements in the log.
    pub fn witnesses(&self) -> usize {
        self.witnesses.len()
    }

    /// Proves what the tree has under a key.
    pub(super) fn prove(&self, key: &Key) -> PrefixProof {
        self.trie.prove(key)
    }

    /// Adds the changed records to the tree only, and returns its new root. [`Index::take`] or [`Index::forget`] must follow.
    pub(super) fn propose(&mut self, changes: &RecordChanges<Option<u32>>) -> Result<Hash, TooLarge> {
        let tags = changes.tag_records.iter().map(|tag| tag_leaf(&tag.record));
        let repositories = changes.repository_records.iter().map(repository_leaf);
        self.trie.update(tags.chain(repositories).collect())?;
        Ok(self.trie.root())
    }

    /// Undoes [`Index::propose`] by rebuilding the tree from the records. This is slow, but needed only once, at the end of an
    /// audit that found a violation.
    pub(super) fn forget(&mut self) -> Result<(), TooLarge> {
        self.trie = Trie::default();
        self.trie = self.tree()?;
        Ok(())
    }

    /// Builds the tree over all records.
    fn tree(&self) -> Result<Trie, TooLarge> {
        let tags = self.tags.iter().map(|state| tag_leaf(&self.record(state)));
        let repositories = self.repositories.iter().map(|state| repository_leaf(&self.repository(state)));
        let (mut trie, mut leaves) = (Trie::default(), Vec::new());
        for leaf in tags.chain(repositories) {
            leaves.push(leaf);
            if leaves.len() == AT_ONCE {
                trie.update(std::mem::take(&mut leaves))?;
            }
        }
        trie.update(leaves)?;
        Ok(trie)
    }

    /// Takes the changed records, which [`Index::propose`] has added to the tree. Returns one item for each list in
    /// `changes.sightings`, in the same order.
    pub(super) fn take(&mut self, changes: &RecordChanges<Option<u32>>) -> Vec<GrownList> {
        for record in &changes.repository_records {
            self.take_repository(record);
        }
        let mut grown: Vec<GrownList> = Vec::with_capacity(changes.sightings.len());
        // Lists and records have the same order, so each tag is looked up once.
        let mut lists = changes.sightings.iter().peekable();
        for ChangedTag { record, place } in &changes.tag_records {
            let tag = place.unwrap_or_else(|| self.tag_place(&record.image));
            let first = grown.len();
            let new_tag = self.tags[tag as usize].lines.is_empty();
            while let Some(((_, witness), _)) = lists.next_if(|((image, _), _)| *image == record.image) {
                let witness = self.witness_place(witness);
                let old = self.tags[tag as usize].line(witness).map(|line| line.seen.get());
                grown.push(GrownList { tag, witness, old, new_tag });
            }
            self.take_tag(tag, record);
            for (grown, (_, list)) in grown[first..].iter().zip(&changes.sightings[first..]) {
                if let Some(line) = self.tags[tag as usize].line_mut(grown.witness) {
                    line.edge = list.frontier.nodes().into();
                }
            }
        }
        debug_assert!(lists.next().is_none(), "a list of sightings without its record");
        grown
    }

    fn take_repository(&mut self, record: &RepositoryRecord) {
        let place = self.repository_place(&record.repository);
        let lines = record.lines().iter().map(|line| RepositoryLineState {
            witness: self.witness_place(&line.witness),
            tags: line.tags,
            confirmed: line.confirmed,
        });
        let lines = lines.collect();
        let state = &mut self.repositories[place as usize];
        state.lines = lines;
        if !std::mem::replace(&mut state.dirty, true) {
            self.dirty_repositories.push(place);
        }
    }

    fn take_tag(&mut self, place: u32, record: &TagRecord) {
        for line in record.lines() {
            let (witnesses, lines) = (&self.witnesses, &mut self.tags[place as usize].lines);
            let state = match lines.iter().position(|state| witnesses[state.witness as usize] == line.witness) {
                Some(at) => &mut lines[at],
                None => self.add_line(place, line),
            };
            (state.observations, state.sightings) = (line.observations, line.sightings);
            (state.index, state.observed, state.root) = (line.index, line.observed, line.root);
            state.seen = line.seen.into();
        }
        self.mark_tag(place);
    }

    fn add_line(&mut self, place: u32, line: &TagLine) -> &mut LineState {
        let witness = self.witness_place(&line.witness);
        let lines = &mut self.tags[place as usize].lines;
        // There are many tags, most with few witnesses, so spare capacity would add up.
        lines.reserve_exact(1);
        lines.push(LineState {
            witness,
            observations: 0,
            sightings: 0,
            index: 0,
            observed: line.observed,
            seen: line.seen.into(),
            edge: Box::default(),
            root: line.root,
        });
        let last = lines.len() - 1;
        &mut lines[last]
    }

    /// Notes a sighting of the tag with this number, to detect retags. Sightings must come in log order.
    pub(super) fn sighted(&mut self, tag: u32, index: u64, seen: &Seen) {
        let state = &mut self.tags[tag as usize];
        if let Some(digest) = digest_hash(seen) {
            let first = *state.first.get_or_insert(digest);
            if first != digest && state.retagged.is_none() {
                state.retagged = Some(index);
            }
        }
    }

    fn mark_tag(&mut self, place: u32) {
        if !std::mem::replace(&mut self.tags[place as usize].dirty, true) {
            self.dirty_tags.push(place);
        }
    }

    /// The number of changed tags that the next commit writes.
    pub(super) fn uncommitted(&self) -> usize {
        self.dirty_tags.len()
    }

    /// The rows that were added or changed since the last commit, ordered by number.
    pub(super) fn take_rows(&mut self) -> IndexRows {
        let stored = std::mem::replace(&mut self.stored_witnesses, self.witnesses.len());
        let witnesses =
            self.witnesses.iter().zip(0..).skip(stored).map(|(witness, id)| (id, witness.clone())).collect();
        IndexRows { witnesses, repositories: self.take_repository_rows(), tags: self.take_tag_rows() }
    }

    fn take_repository_rows(&mut self) -> Vec<RepositoryRow> {
        let mut changed = std::mem::take(&mut self.dirty_repositories);
        changed.sort_unstable();
        let row = |id: u32| {
            let state = &mut self.repositories[id as usize];
            state.dirty = false;
            RepositoryRow { id, name: state.name.clone(), lines: codec::repository_lines(&state.lines) }
        };
        changed.into_iter().map(row).collect()
    }

    fn take_tag_rows(&mut self) -> Vec<TagRow> {
        let mut changed = std::mem::take(&mut self.dirty_tags);
        changed.sort_unstable();
        let row = |id: u32| {
            let TagState { repository, tag, first, retagged, lines, dirty } = &mut self.tags[id as usize];
            *dirty = false;
            let (repository, first, retagged) = (*repository, *first, *retagged);
            TagRow { id, repository, name: tag.clone(), first, retagged, lines: codec::tag_lines(lines) }
        };
        changed.into_iter().map(row).collect()
    }

    /// The number of a witness, which is assigned if it has none yet.
    pub(super) fn witness_place(&mut self, witness: &WitnessId) -> u32 {
        if let Some(place) = self.witness_places.get(witness) {
            return *place;
        }
        self.witnesses.push(witness.clone());
        // Fits: there are no more witnesses than names in the trie, which are limited.
        let place = (self.witnesses.len() - 1) as u32;
        self.witness_places.insert(witness.clone(), place);
        place
    }

    fn repository_place(&mut self, name: &Repository) -> u32 {
        if let Some(place) = self.repository_places.get(name) {
            return *place;
        }
        let place = self.repositories.len() as u32;
        self.repositories.push(RepositoryState { name: name.clone(), lines: Vec::new(), dirty: false });
        self.tag_places.push(HashMap::new());
        self.repository_places.insert(name.clone(), place);
        place
    }

    fn tag_place(&mut self, image: &Image) -> u32 {
        let repository = self.repository_place(&image.repository);
        let places = &mut self.tag_places[repository as usize];
        if let Some(place) = places.get(&image.tag) {
            return *place;
        }
        let (place, tag) = (self.tags.len() as u32, image.tag.clone());
        places.insert(tag.clone(), place);
        self.tags.push(TagState { repository, tag, first: None, retagged: None, lines: Vec::new(), dirty: false });
        place
    }

    pub(super) fn image(&self, state: &TagState) -> Image {
        Image { repository: self.repositories[state.repository as usize].name.clone(), tag: state.tag.clone() }
    }

    /// The number of a tag, by which its sightings are stored.
    pub(super) fn number(&self, image: &Image) -> Option<u32> {
        let repository = self.repository_places.get(&image.repository)?;
        self.tag_places[*repository as usize].get(&image.tag).copied()
    }

    fn tag_state(&self, image: &Image) -> Option<&TagState> {
        self.number(image).map(|place| &self.tags[place as usize])
    }

    fn tag_line(&self, line: &LineState) -> TagLine {
        TagLine {
            witness: self.witnesses[line.witness as usize].clone(),
            observations: line.observations,
            sightings: line.sightings,
            root: line.root,
            index: line.index,
            observed: line.observed,
            seen: line.seen.get(),
        }
    }

    pub(super) fn record(&self, state: &TagState) -> TagRecord {
        TagRecord::from_lines(self.image(state), state.lines.iter().map(|line| self.tag_line(line)).collect())
    }

    pub(super) fn repository(&self, state: &RepositoryState) -> RepositoryRecord {
        let lines = state.lines.iter().map(|line| RepositoryLine {
            witness: self.witnesses[line.witness as usize].clone(),
            tags: line.tags,
            confirmed: line.confirmed,
        });
        RepositoryRecord::from_lines(state.name.clone(), lines.collect())
    }

    /// Restores an index from stored records; `None` if they refer to unknown repositories or witnesses.
    pub(super) fn from_parts(
        witnesses: Vec<WitnessId>,
        repositories: Vec<RepositoryState>,
        tags: Vec<TagState>,
    ) -> Option<Index> {
        let stored_witnesses = witnesses.len();
        let mut index = Index { witnesses, repositories, tags, stored_witnesses, ..Index::default() };
        let numbered = |length: usize| 0..length as u32;
        index.witness_places = index.witnesses.iter().cloned().zip(numbered(index.witnesses.len())).collect();
        let names = index.repositories.iter().map(|state| state.name.clone());
        index.repository_places = names.zip(numbered(index.repositories.len())).collect();
        if index.tags.iter().any(|state| state.repository as usize >= index.repositories.len()) {
            return None;
        }
        let witness_known = |witness: u32| (witness as usize) < index.witnesses.len();
        let tags_known = index.tags.iter().flat_map(|tag| &tag.lines).all(|line| witness_known(line.witness));
        let repositories_known =
            index.repositories.iter().flat_map(|state| &state.lines).all(|line| witness_known(line.witness));
        if !tags_known || !repositories_known {
            return None;
        }
        index.tag_places.resize_with(index.repositories.len(), HashMap::new);
        for (state, place) in index.tags.iter().zip(0..) {
            index.tag_places[state.repository as usize].insert(state.tag.clone(), place);
        }
        index.trie = index.tree().ok()?;
        Some(index)
    }
}

fn tag_leaf(record: &TagRecord) -> Leaf {
    Leaf { key: tag_key(&record.image), commitment: commitment(record) }
}

fn repository_leaf(record: &RepositoryRecord) -> Leaf {
    Leaf { key: repository_key(&record.repository), commitment: commitment(record) }
}

fn frontier(line: &LineState) -> Frontier {
    Frontier::from_parts(line.sightings, line.edge.to_vec()).unwrap_or_default()
}

/// A digest as 32 bytes: a SHA-512 digest is hashed. `None` for `gone`.
fn digest_hash(seen: &Seen) -> Option<Hash> {
    match seen {
        Seen::Digest(Digest::Sha256(digest)) => Some(Hash(*digest)),
        Seen::Digest(Digest::Sha512(digest)) => Some(Hash::of(digest)),
        Seen::Gone => None,
    }
}

impl RecordReader for Index {
    type Error = Infallible;
    /// The number of the tag, if it has one.
    type Place = Option<u32>;

    fn place(&self, image: &Image) -> Result<Option<u32>, Infallible> {
        Ok(self.number(image))
    }

    fn tag_record(&self, image: &Image) -> Result<Option<TagRecord>, Infallible> {
        self.tag_record_at(image, &self.number(image))
    }

    fn repository_record(&self, repository: &Repository) -> Result<Option<RepositoryRecord>, Infallible> {
        let place = self.repository_places.get(repository);
        Ok(place.map(|place| self.repository(&self.repositories[*place as usize])))
    }

    fn sightings_frontier(&self, image: &Image, line: &TagLine) -> Result<Frontier, Infallible> {
        self.frontier_at(image, &self.number(image), line)
    }

    fn tag_record_at(&self, _: &Image, number: &Option<u32>) -> Result<Option<TagRecord>, Infallible> {
        Ok(number.map(|number| self.record(&self.tags[number as usize])))
    }

    fn frontier_at(&self, _: &Image, number: &Option<u32>, line: &TagLine) -> Result<Frontier, Infallible> {
        let lines = number.and_then(|number| self.tags.get(number as usize)).map(|state| &state.lines);
        let is_of = |stored: &&LineState| self.witnesses[stored.witness as usize] == line.witness;
        Ok(lines.and_then(|lines| lines.iter().find(is_of)).map(frontier).unwrap_or_default())
    }
}
