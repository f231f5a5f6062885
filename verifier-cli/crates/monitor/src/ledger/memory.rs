//! What the monitor remembers from batch to batch: how far it has come, what witnesses last said of watched tags, what
//! they disagree about, when each was last heard of, and what is wrong with the log as a whole.

use rusqlite::{OptionalExtension as _, Row, params};
use taglog_proto::{
    entry::Seen,
    name::{Digest, Image, WitnessId},
    time::Timestamp,
};

use super::{
    Ledger,
    error::{LedgerError, damaged},
    values::{from_sql, to_sql},
};
use crate::alert::AlertKind;

/// What one witness says of a tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The witness.
    pub witness: WitnessId,
    /// What it last saw.
    pub seen: Seen,
    /// The last digest it saw.
    pub digest: Option<Digest>,
    /// The entry with which it came to that digest.
    pub arrived: u64,
}

/// That witnesses say different things of a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dispute {
    /// Since when, by the log's seals.
    pub since: Timestamp,
    /// The entry with which it began.
    pub entry: u64,
    /// Whether it was said.
    pub raised: bool,
}

/// When a witness was last heard of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    /// When, by the log's seals.
    pub time: Timestamp,
    /// With which entry: a statement of its own, or the roster that admitted it.
    pub entry: u64,
    /// Whether it was said that it is silent.
    pub silent: bool,
}

/// That something is wrong with the log as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Since when.
    pub since: Timestamp,
    /// Whether it was said.
    pub raised: bool,
}

fn time(seconds: i64) -> Result<Timestamp, LedgerError> {
    Timestamp::from_unix(seconds).ok_or_else(|| damaged(format!("a time of {seconds}")))
}

impl Ledger {
    /// The size of the log up to which batches were taken; `None` in a new ledger.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn size(&self) -> Result<Option<u64>, LedgerError> {
        self.number("size")?.map(from_sql).transpose()
    }

    /// Moves the size on.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn set_size(&self, size: u64) -> Result<(), LedgerError> {
        self.set_meta("size", &size.to_string())
    }

    /// The size of the log up to which everything is past, and not alerted on; `None` until it is known.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn past(&self) -> Result<Option<u64>, LedgerError> {
        self.number("past")?.map(from_sql).transpose()
    }

    /// Sets what is past.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn set_past(&self, size: u64) -> Result<(), LedgerError> {
        self.set_meta("past", &size.to_string())
    }

    /// Forgets what witnesses said of tags, unless it is of what is watched now.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn forget_unless_watched(&self, watched: &str) -> Result<(), LedgerError> {
        if self.meta("watched")?.as_deref() != Some(watched) {
            self.connection.execute_batch("DELETE FROM word; DELETE FROM arrival; DELETE FROM dispute")?;
            self.set_meta("watched", watched)?;
        }
        Ok(())
    }

    /// The size at which the log was last seen to grow, and when that was, by this machine's clock.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn grown(&self) -> Result<Option<(u64, Timestamp)>, LedgerError> {
        match (self.number("grown-size")?, self.number("grown-at")?) {
            (Some(size), Some(at)) => Ok(Some((from_sql(size)?, time(at)?))),
            _ => Ok(None),
        }
    }

    /// Sets when the log was last seen to grow.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn set_grown(&self, size: u64, at: Timestamp) -> Result<(), LedgerError> {
        self.set_meta("grown-size", &size.to_string())?;
        self.set_meta("grown-at", &at.unix().to_string())
    }

    /// What witnesses say of a tag, in the order of their ids.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn standings(&self, image: &Image) -> Result<Vec<Standing>, LedgerError> {
        let select = "SELECT witness, seen, digest, arrived FROM word WHERE image = ? ORDER BY witness";
        let mut select = self.connection.prepare_cached(select)?;
        let mut rows = select.query([image.to_string()])?;
        let mut standings = Vec::new();
        while let Some(row) = rows.next()? {
            standings.push(standing(row)?);
        }
        Ok(standings)
    }

    /// Sets what a witness says of a tag.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn set_standing(&self, image: &Image, standing: &Standing) -> Result<(), LedgerError> {
        let set = "INSERT OR REPLACE INTO word (image, witness, seen, digest, arrived) VALUES (?, ?, ?, ?, ?)";
        let Standing { witness, seen, digest, arrived } = standing;
        let digest = digest.map(|digest| digest.to_string());
        let (image, witness, seen) = (image.to_string(), witness.to_string(), seen.to_string());
        self.connection.prepare_cached(set)?.execute(params![image, witness, seen, digest, to_sql(*arrived)])?;
        Ok(())
    }

    /// The last entry with which any witness came to a digest of a tag.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn arrival(&self, image: &Image, digest: &Digest) -> Result<Option<u64>, LedgerError> {
        let select = "SELECT entry FROM arrival WHERE image = ? AND digest = ?";
        let mut select = self.connection.prepare_cached(select)?;
        let entry = select.query_row([image.to_string(), digest.to_string()], |row| row.get(0)).optional()?;
        entry.map(from_sql).transpose()
    }

    /// Sets the last entry with which a witness came to a digest of a tag.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn set_arrival(&self, image: &Image, digest: &Digest, entry: u64) -> Result<(), LedgerError> {
        let set = "INSERT OR REPLACE INTO arrival (image, digest, entry) VALUES (?, ?, ?)";
        let mut set = self.connection.prepare_cached(set)?;
        set.execute(params![image.to_string(), digest.to_string(), to_sql(entry)])?;
        Ok(())
    }

    /// All that witnesses disagree about.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn disputes(&self) -> Result<Vec<(Image, Dispute)>, LedgerError> {
        let mut select = self.connection.prepare_cached("SELECT image, since, entry, raised FROM dispute")?;
        let mut rows = select.query([])?;
        let mut disputes = Vec::new();
        while let Some(row) = rows.next()? {
            let image = Image::parse(row.get_ref(0)?.as_str().map_err(damaged)?).map_err(damaged)?;
            let (since, entry) = (time(row.get(1)?)?, from_sql(row.get(2)?)?);
            disputes.push((image, Dispute { since, entry, raised: row.get(3)? }));
        }
        Ok(disputes)
    }

    /// Sets or forgets what witnesses disagree about.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn set_dispute(&self, image: &Image, dispute: Option<&Dispute>) -> Result<(), LedgerError> {
        let image = image.to_string();
        match dispute {
            Some(Dispute { since, entry, raised }) => {
                let set = "INSERT OR REPLACE INTO dispute (image, since, entry, raised) VALUES (?, ?, ?, ?)";
                self.connection.prepare_cached(set)?.execute(params![image, since.unix(), to_sql(*entry), raised])?
            }
            None => self.connection.prepare_cached("DELETE FROM dispute WHERE image = ?")?.execute([image])?,
        };
        Ok(())
    }

    /// The witnesses in the roster in force, and when each was last heard of.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn witnesses(&self) -> Result<Vec<(WitnessId, Heard)>, LedgerError> {
        let mut select = self.connection.prepare_cached("SELECT id, heard, entry, silent FROM witness")?;
        let mut rows = select.query([])?;
        let mut witnesses = Vec::new();
        while let Some(row) = rows.next()? {
            let id = WitnessId::parse(row.get_ref(0)?.as_str().map_err(damaged)?).map_err(damaged)?;
            let (time, entry) = (time(row.get(1)?)?, from_sql(row.get(2)?)?);
            witnesses.push((id, Heard { time, entry, silent: row.get(3)? }));
        }
        Ok(witnesses)
    }

    /// Sets when a witness was last heard of, or forgets one that is not in the roster any more.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn set_witness(&self, id: &WitnessId, heard: Option<&Heard>) -> Result<(), LedgerError> {
        let id = id.to_string();
        match heard {
            Some(Heard { time, entry, silent }) => {
                let set = "INSERT OR REPLACE INTO witness (id, heard, entry, silent) VALUES (?, ?, ?, ?)";
                self.connection.prepare_cached(set)?.execute(params![id, time.unix(), to_sql(*entry), silent])?
            }
            None => self.connection.prepare_cached("DELETE FROM witness WHERE id = ?")?.execute([id])?,
        };
        Ok(())
    }

    /// What is wrong with the log as a whole in this way.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn condition(&self, kind: AlertKind) -> Result<Option<Condition>, LedgerError> {
        let mut select = self.connection.prepare_cached("SELECT since, raised FROM condition WHERE kind = ?")?;
        let row = select.query_row([kind.as_str()], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
        row.map(|(since, raised)| Ok(Condition { since: time(since)?, raised })).transpose()
    }

    /// Sets or ends what is wrong with the log as a whole.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn set_condition(&self, kind: AlertKind, condition: Option<&Condition>) -> Result<(), LedgerError> {
        match condition {
            Some(Condition { since, raised }) => {
                let set = "INSERT OR REPLACE INTO condition (kind, since, raised) VALUES (?, ?, ?)";
                self.connection.prepare_cached(set)?.execute(params![kind.as_str(), since.unix(), raised])?
            }
            None => self.connection.prepare_cached("DELETE FROM condition WHERE kind = ?")?.execute([kind.as_str()])?,
        };
        Ok(())
    }
}

fn standing(row: &Row<'_>) -> Result<Standing, LedgerError> {
    let text = |column: usize| row.get_ref(column)?.as_str().map_err(damaged).map(str::to_owned);
    let digest: Option<String> = row.get(2)?;
    Ok(Standing {
        witness: WitnessId::parse(&text(0)?).map_err(damaged)?,
        seen: Seen::parse(&text(1)?).map_err(damaged)?,
        digest: digest.map(|digest| Digest::parse(&digest)).transpose().map_err(damaged)?,
        arrived: from_sql(row.get(3)?)?,
    })
}
