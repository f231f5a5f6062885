//! Rosters: the log names the witnesses it accepts, and the limits that auditors apply.

use std::{collections::HashSet, fmt};

use super::{EntryError, Lines};
use crate::{
    c2sp::{
        encoding::{field, from_decimal},
        note::VerifierKey,
        time::Timestamp,
    },
    formats::name::{WitnessId, WitnessName},
};

/// The limits that a roster sets, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How far `observed` may lie after the seal that closes the batch.
    pub future: u64,
    /// How far `observed` may lie before the previous seal.
    pub past: u64,
    /// After how long without entries a seal alone is written.
    pub quiet: u64,
}

impl Limits {
    fn parse(text: &str) -> Option<Limits> {
        let mut parts = text.split(' ');
        let mut number = |name: &str| from_decimal(parts.next()?.strip_prefix(name)?.strip_prefix('=')?);
        let limits = Limits { future: number("future")?, past: number("past")?, quiet: number("quiet")? };
        parts.next().is_none().then_some(limits)
    }
}

impl fmt::Display for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "future={} past={} quiet={}", self.future, self.past, self.quiet)
    }
}

/// The full set of accepted witnesses from here on, and the limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roster {
    /// When the log wrote it.
    pub time: Timestamp,
    /// The limits in force.
    pub limits: Limits,
    /// The keys of the witnesses, sorted by their vkeys' bytes, with distinct ids.
    witnesses: Vec<VerifierKey>,
}

impl Roster {
    pub(super) const KIND: &'static str = "taglog/roster@v1";

    /// A roster of these witnesses, in any order.
    ///
    /// # Errors
    /// [`EntryError::Name`] for a key whose name is no witness name, [`EntryError::RosterOrder`]
    /// for two keys with one id.
    pub fn new(time: Timestamp, limits: Limits, mut witnesses: Vec<VerifierKey>) -> Result<Roster, EntryError> {
        witnesses.sort_by_cached_key(VerifierKey::to_string);
        let roster = Roster { time, limits, witnesses };
        roster.check()?;
        Ok(roster)
    }

    /// The keys of the witnesses, sorted.
    pub fn witnesses(&self) -> &[VerifierKey] {
        &self.witnesses
    }

    /// The key of the witness with this id.
    pub fn key(&self, id: &WitnessId) -> Option<&VerifierKey> {
        self.witnesses.iter().find(|key| key.key_id() == id.key_id && key.name() == id.name.as_str())
    }

    /// The ids of the witnesses.
    pub fn ids(&self) -> impl Iterator<Item = WitnessId> {
        // `check` has parsed every name.
        self.witnesses.iter().filter_map(|key| witness_id(key).ok())
    }

    fn check(&self) -> Result<(), EntryError> {
        let vkeys: Vec<String> = self.witnesses.iter().map(VerifierKey::to_string).collect();
        let ids = self.witnesses.iter().map(witness_id).collect::<Result<HashSet<WitnessId>, _>>()?;
        let sorted = vkeys.windows(2).all(|pair| pair[0] < pair[1]);
        if sorted && ids.len() == self.witnesses.len() { Ok(()) } else { Err(EntryError::RosterOrder) }
    }

    pub(super) fn parse_body(body: &str) -> Result<Roster, EntryError> {
        let mut lines = Lines::new(body);
        let time = lines.time("time")?;
        let limits = Limits::parse(lines.field("limits")?).ok_or(EntryError::Value("limits"))?;
        let witnesses = lines.rest.split_terminator('\n').map(|line| {
            let vkey = field(line, "witness").ok_or(EntryError::Line("witness"))?;
            Ok(vkey.parse()?)
        });
        let witnesses = witnesses.collect::<Result<Vec<VerifierKey>, EntryError>>()?;
        let roster = Roster { time, limits, witnesses };
        roster.check()?;
        Ok(roster)
    }
}

fn witness_id(key: &VerifierKey) -> Result<WitnessId, EntryError> {
    Ok(WitnessId { name: WitnessName::parse(key.name())?, key_id: key.key_id() })
}

impl fmt::Display for Roster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\ntime {}\nlimits {}", Self::KIND, self.time, self.limits)?;
        self.witnesses.iter().try_for_each(|key| writeln!(f, "witness {key}"))
    }
}
