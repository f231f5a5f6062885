//! The state that the monitor keeps between batches: the processed size, the last sightings of watched tags,
//! disagreements, the last activity of each witness, and conditions of the log as a whole.

use rusqlite::{OptionalExtension as _, Row, params};
use taglog_proto::{
    entry::Seen,
    name::{Digest, Image, WitnessId},
    time::Timestamp,
};

use super::{
    AlertStore,
    error::{AlertStoreError, damaged},
    values::{from_sql, to_sql},
};
use crate::alert::AlertKind;

/// What one witness has seen of a tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WitnessTagState {
    pub witness: WitnessId,
    /// What it last saw.
    pub seen: Seen,
    /// The last digest it saw.
    pub digest: Option<Digest>,
    /// The log index of the entry in which it first reported that digest.
    pub arrived: u64,
}

/// A disagreement of witnesses about a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disagreement {
    /// When it started, by the log's seals.
    pub since: Timestamp,
    /// The log index of the entry with which it started.
    pub entry: u64,
    /// Whether an alert was raised.
    pub raised: bool,
}

/// The last activity of a witness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WitnessActivity {
    /// The time by the log's seals.
    pub time: Timestamp,
    /// The log index of its last statement, or of the roster that admitted it.
    pub entry: u64,
    /// Whether an alert about its silence was raised.
    pub silent: bool,
}

/// A condition of the log as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogCondition {
    pub since: Timestamp,
    /// Whether an alert was raised.
    pub raised: bool,
}

fn time(seconds: i64) -> Result<Timestamp, AlertStoreError> {
    Timestamp::from_unix(seconds).ok_or_else(|| damaged(format!("a time of {seconds}")))
}

impl AlertStore {
    /// The size of the log up to which batches were processed; `None` in a new store.
    pub fn size(&self) -> Result<Option<u64>, AlertStoreError> {
        self.number("size")?.map(from_sql).transpose()
    }

    pub fn set_size(&self, size: u64) -> Result<(), AlertStoreError> {
        self.set_meta("size", &size.to_string())
    }

    /// Entries before this index raise no alerts; `None` before the first checkpoint.
    pub fn past(&self) -> Result<Option<u64>, AlertStoreError> {
        self.number("past")?.map(from_sql).transpose()
    }

    pub fn set_past(&self, size: u64) -> Result<(), AlertStoreError> {
        self.set_meta("past", &size.to_string())
    }

    /// Deletes the state of tags if other tags are watched than before; `watched` identifies the watched tags.
    pub fn clear_unless_watched(&self, watched: &str) -> Result<(), AlertStoreError> {
        if self.meta("watched")?.as_deref() != Some(watched) {
            self.connection.execute_batch("DELETE FROM word; DELETE FROM arrival; DELETE FROM dispute")?;
            self.set_meta("watched", watched)?;
        }
        Ok(())
    }

    /// The size at which the log was last seen to grow, and when that was, by the local clock.
    pub fn grown(&self) -> Result<Option<(u64, Timestamp)>, AlertStoreError> {
        match (self.number("grown-size")?, self.number("grown-at")?) {
            (Some(size), Some(at)) => Ok(Some((from_sql(size)?, time(at)?))),
            _ => Ok(None),
        }
    }

    pub fn set_grown(&self, size: u64, at: Timestamp) -> Result<(), AlertStoreError> {
        self.set_meta("grown-size", &size.to_string())?;
        self.set_meta("grown-at", &at.unix().to_string())
    }

    /// The states of a tag by witness, in the order of their ids.
    pub fn tag_states(&self, image: &Image) -> Result<Vec<WitnessTagState>, AlertStoreError> {
        let select = "SELECT witness, seen, digest, arrived FROM word WHERE image = ? ORDER BY witness";
        let mut select = self.connection.prepare_cached(select)?;
        let mut rows = select.query([image.to_string()])?;
        let mut tag_states = Vec::new();
        while let Some(row) = rows.next()? {
            tag_states.push(tag_state(row)?);
        }
        Ok(tag_states)
    }

    pub fn set_tag_state(&self, image: &Image, tag_state: &WitnessTagState) -> Result<(), AlertStoreError> {
        let set = "INSERT OR REPLACE INTO word (image, witness, seen, digest, arrived) VALUES (?, ?, ?, ?, ?)";
        let WitnessTagState { witness, seen, digest, arrived } = tag_state;
        let digest = digest.map(|digest| digest.to_string());
        let (image, witness, seen) = (image.to_string(), witness.to_string(), seen.to_string());
        self.connection.prepare_cached(set)?.execute(params![image, witness, seen, digest, to_sql(*arrived)])?;
        Ok(())
    }

    /// The log index of the last entry with which any witness changed to a digest of a tag.
    pub fn arrival(&self, image: &Image, digest: &Digest) -> Result<Option<u64>, AlertStoreError> {
        let select = "SELECT entry FROM arrival WHERE image = ? AND digest = ?";
        let mut select = self.connection.prepare_cached(select)?;
        let entry = select.query_row([image.to_string(), digest.to_string()], |row| row.get(0)).optional()?;
        entry.map(from_sql).transpose()
    }

    pub fn set_arrival(&self, image: &Image, digest: &Digest, entry: u64) -> Result<(), AlertStoreError> {
        let set = "INSERT OR REPLACE INTO arrival (image, digest, entry) VALUES (?, ?, ?)";
        let mut set = self.connection.prepare_cached(set)?;
        set.execute(params![image.to_string(), digest.to_string(), to_sql(entry)])?;
        Ok(())
    }

    pub fn disagreements(&self) -> Result<Vec<(Image, Disagreement)>, AlertStoreError> {
        let mut select = self.connection.prepare_cached("SELECT image, since, entry, raised FROM dispute")?;
        let mut rows = select.query([])?;
        let mut disagreements = Vec::new();
        while let Some(row) = rows.next()? {
            let image = Image::parse(row.get_ref(0)?.as_str().map_err(damaged)?).map_err(damaged)?;
            let (since, entry) = (time(row.get(1)?)?, from_sql(row.get(2)?)?);
            disagreements.push((image, Disagreement { since, entry, raised: row.get(3)? }));
        }
        Ok(disagreements)
    }

    /// Sets or deletes a disagreement.
    pub fn set_disagreement(&self, image: &Image, dispute: Option<&Disagreement>) -> Result<(), AlertStoreError> {
        let image = image.to_string();
        match dispute {
            Some(Disagreement { since, entry, raised }) => {
                let set = "INSERT OR REPLACE INTO dispute (image, since, entry, raised) VALUES (?, ?, ?, ?)";
                self.connection.prepare_cached(set)?.execute(params![image, since.unix(), to_sql(*entry), raised])?
            }
            None => self.connection.prepare_cached("DELETE FROM dispute WHERE image = ?")?.execute([image])?,
        };
        Ok(())
    }

    /// The last activity of the witnesses in the roster in force.
    pub fn witnesses(&self) -> Result<Vec<(WitnessId, WitnessActivity)>, AlertStoreError> {
        let mut select = self.connection.prepare_cached("SELECT id, heard, entry, silent FROM witness")?;
        let mut rows = select.query([])?;
        let mut witnesses = Vec::new();
        while let Some(row) = rows.next()? {
            let id = WitnessId::parse(row.get_ref(0)?.as_str().map_err(damaged)?).map_err(damaged)?;
            let (time, entry) = (time(row.get(1)?)?, from_sql(row.get(2)?)?);
            witnesses.push((id, WitnessActivity { time, entry, silent: row.get(3)? }));
        }
        Ok(witnesses)
    }

    /// Sets the last activity of a witness, or deletes a witness that is no longer in the roster.
    pub fn set_witness(&self, id: &WitnessId, activity: Option<&WitnessActivity>) -> Result<(), AlertStoreError> {
        let id = id.to_string();
        match activity {
            Some(WitnessActivity { time, entry, silent }) => {
                let set = "INSERT OR REPLACE INTO witness (id, heard, entry, silent) VALUES (?, ?, ?, ?)";
                self.connection.prepare_cached(set)?.execute(params![id, time.unix(), to_sql(*entry), silent])?
            }
            None => self.connection.prepare_cached("DELETE FROM witness WHERE id = ?")?.execute([id])?,
        };
        Ok(())
    }

    pub fn condition(&self, kind: AlertKind) -> Result<Option<LogCondition>, AlertStoreError> {
        let mut select = self.connection.prepare_cached("SELECT since, raised FROM condition WHERE kind = ?")?;
        let row = select.query_row([kind.as_str()], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
        row.map(|(since, raised)| Ok(LogCondition { since: time(since)?, raised })).transpose()
    }

    /// Sets or deletes a condition.
    pub fn set_condition(&self, kind: AlertKind, condition: Option<&LogCondition>) -> Result<(), AlertStoreError> {
        match condition {
            Some(LogCondition { since, raised }) => {
                let set = "INSERT OR REPLACE INTO condition (kind, since, raised) VALUES (?, ?, ?)";
                self.connection.prepare_cached(set)?.execute(params![kind.as_str(), since.unix(), raised])?
            }
            None => self.connection.prepare_cached("DELETE FROM condition WHERE kind = ?")?.execute([kind.as_str()])?,
        };
        Ok(())
    }
}

fn tag_state(row: &Row<'_>) -> Result<WitnessTagState, AlertStoreError> {
    let text = |column: usize| row.get_ref(column)?.as_str().map_err(damaged).map(str::to_owned);
    let digest: Option<String> = row.get(2)?;
    Ok(WitnessTagState {
        witness: WitnessId::parse(&text(0)?).map_err(damaged)?,
        seen: Seen::parse(&text(1)?).map_err(damaged)?,
        digest: digest.map(|digest| Digest::parse(&digest)).transpose().map_err(damaged)?,
        arrived: from_sql(row.get(3)?)?,
    })
}
