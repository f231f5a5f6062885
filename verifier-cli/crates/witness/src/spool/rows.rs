//! Queries of the spool's tables. Every function works within the caller's transaction.

use rusqlite::{Connection, OptionalExtension as _, Row, params, types::Type};
use taglog_proto::{
    entry::{Seen, Statement},
    name::{Digest, Image, Repository, Tag},
    note::VerifierKey,
    time::Timestamp,
};

use super::{
    entries::{LogId, RawManifest, Settlement},
    error::SpoolError,
    schema,
};
use crate::decision::{LastReport, WatchedTagState};

/// The most refused entries of a log that are kept, so that a log that refuses everything does not fill the spool.
const MAX_REFUSED: i64 = 1000;

/// The stored state of a tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchedTagRow {
    pub image: Image,
    pub state: WatchedTagState,
    /// Why the last poll failed.
    pub error: Option<String>,
}

/// The stored state of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchedRepositoryRow {
    pub name: Repository,
    /// Its latest confirmation.
    pub confirmed: Option<Timestamp>,
    /// Why its tags could not be listed.
    pub error: Option<String>,
}

/// An entry that is not yet delivered to a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingEntry {
    /// Its place in the order of signing.
    pub seq: i64,
    /// The repository it is about.
    pub repository: String,
    /// The tag it is about; a confirmation is about all of them.
    pub tag: Option<String>,
    /// The signed note.
    pub note: String,
    /// The index that the log gave, and when, if it has acknowledged the entry.
    pub acknowledged: Option<(u64, Timestamp)>,
}

/// The state of deliveries to one log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogStatus {
    /// Its number in the spool.
    pub id: LogId,
    /// Its key.
    pub vkey: String,
    /// Entries whose receipts verified.
    pub delivered: u64,
    /// Entries that are not yet delivered.
    pub pending: u64,
    /// Entries that it has refused permanently.
    pub refused: u64,
    /// What the latest of these are about, and why; at most 100.
    pub refusals: Vec<(String, String)>,
    /// The size of the last verified checkpoint, and when it was verified.
    pub checkpoint: Option<(u64, Timestamp)>,
    /// The last error, unless a delivery succeeded since.
    pub error: Option<String>,
}

impl LogStatus {
    /// The log's origin: the name of its key.
    pub fn origin(&self) -> String {
        self.vkey.split('+').next().unwrap_or_default().to_owned()
    }
}

/// A condition that needs an operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alarm {
    /// What it is about: a log's origin, a registry, the spool.
    pub subject: String,
    /// What kind of alarm; one subject has at most one of a kind.
    pub kind: String,
    /// What happened.
    pub message: String,
    /// The file with the evidence.
    pub evidence: Option<String>,
    /// When it first happened.
    pub first: Timestamp,
    /// When it last happened.
    pub last: Timestamp,
    /// How often.
    pub count: u64,
}

fn bad_value(what: &str) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(0, Type::Text, format!("no {what}").into())
}

fn time(seconds: i64) -> rusqlite::Result<Timestamp> {
    Timestamp::from_unix(seconds).ok_or_else(|| bad_value("time"))
}

fn optional_time(row: &Row<'_>, column: &str) -> rusqlite::Result<Option<Timestamp>> {
    row.get::<_, Option<i64>>(column)?.map(time).transpose()
}

/// A column that only ever grows from 0.
fn count(row: &Row<'_>, column: &str) -> rusqlite::Result<u64> {
    u64::try_from(row.get::<_, i64>(column)?).map_err(|_| bad_value("count"))
}

fn signed(index: u64) -> Result<i64, SpoolError> {
    i64::try_from(index).map_err(|_| SpoolError::Database(format!("{index} is no log index")))
}

pub(super) fn witness(connection: &Connection) -> Result<Option<String>, SpoolError> {
    let mut query = connection.prepare_cached("SELECT value FROM meta WHERE key = 'witness'")?;
    Ok(query.query_row([], |row| row.get(0)).optional()?)
}

/// Checks for free space: writes as much as an entry may need, and deletes it.
pub(super) fn try_room(connection: &Connection) -> Result<(), SpoolError> {
    let entry = "x".repeat(4 * taglog_proto::entry::MAX_STATEMENT);
    connection.execute("INSERT INTO meta (key, value) VALUES ('room', ?1)", [entry])?;
    connection.execute("DELETE FROM meta WHERE key = 'room'", [])?;
    Ok(())
}

/// Whether the spool was never damaged, so that every tag that was ever reported is in it.
pub(super) fn is_complete(connection: &Connection) -> Result<bool, SpoolError> {
    let mut query = connection.prepare_cached("SELECT NOT EXISTS (SELECT 1 FROM meta WHERE key = 'salvaged')")?;
    Ok(query.query_row([], |row| row.get(0))?)
}

/// Stores permanently that reported tags may be missing.
pub(super) fn mark_recovered(connection: &Connection) -> Result<(), SpoolError> {
    connection.execute("INSERT OR IGNORE INTO meta (key, value) VALUES ('salvaged', 'yes')", [])?;
    Ok(())
}

/// The first witness to use a spool owns it.
pub(super) fn claim(connection: &Connection, own: &VerifierKey) -> Result<(), SpoolError> {
    match witness(connection)? {
        Some(owner) if owner == own.to_string() => Ok(()),
        Some(owner) => Err(SpoolError::OtherWitness(owner)),
        None => {
            connection.execute("INSERT INTO meta (key, value) VALUES ('witness', ?1)", [own.to_string()])?;
            Ok(())
        }
    }
}

/// Sets the logs of the spool to the configured ones. A new log has no earlier entries, so every tag is to be reported again.
pub(super) fn set_logs(connection: &Connection, vkeys: &[VerifierKey]) -> Result<Vec<LogId>, SpoolError> {
    let transaction = connection.unchecked_transaction()?;
    let mut ids = Vec::with_capacity(vkeys.len());
    let mut added = false;
    for vkey in vkeys {
        added |= transaction.execute("INSERT OR IGNORE INTO log (vkey) VALUES (?1)", [vkey.to_string()])? > 0;
        let id = transaction.query_row("SELECT id FROM log WHERE vkey = ?1", [vkey.to_string()], |row| row.get(0))?;
        ids.push(LogId(id));
    }
    if added {
        report_all_again(&transaction)?;
    }
    let known: Vec<i64> =
        transaction.prepare("SELECT id FROM log")?.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    for id in known.into_iter().filter(|id| !ids.contains(&LogId(*id))) {
        transaction.execute("DELETE FROM pending WHERE log = ?1", [id])?;
        transaction.execute("DELETE FROM upload WHERE log = ?1", [id])?;
        transaction.execute("DELETE FROM log WHERE id = ?1", [id])?;
    }
    drop_unneeded(&transaction)?;
    transaction.commit()?;
    Ok(ids)
}

/// Every tag is to be reported again.
pub(super) fn report_all_again(connection: &Connection) -> Result<(), SpoolError> {
    connection.execute("UPDATE tag SET again = 1", [])?;
    Ok(())
}

/// Deletes what the next polls determine again: errors, and tags that were never reported.
pub(super) fn reset_transient_state(connection: &Connection) -> Result<(), SpoolError> {
    connection.execute_batch(
        "DELETE FROM tag WHERE seen IS NULL; UPDATE tag SET error = NULL; UPDATE repository SET error = NULL",
    )?;
    Ok(())
}

/// Entries and manifests that no log waits for any more.
fn drop_unneeded(connection: &Connection) -> Result<(), SpoolError> {
    connection.execute("DELETE FROM entry WHERE seq NOT IN (SELECT seq FROM pending)", [])?;
    connection.execute("DELETE FROM manifest WHERE digest NOT IN (SELECT digest FROM upload)", [])?;
    Ok(())
}

fn repository_id(connection: &Connection, repository: &Repository) -> Result<i64, SpoolError> {
    let mut query = connection.prepare_cached("SELECT id FROM repository WHERE name = ?1")?;
    if let Some(id) = query.query_row([repository.as_str()], |row| row.get(0)).optional()? {
        return Ok(id);
    }
    connection.prepare_cached("INSERT INTO repository (name) VALUES (?1)")?.execute([repository.as_str()])?;
    Ok(connection.last_insert_rowid())
}

pub(super) fn remember(
    connection: &Connection,
    image: &Image,
    state: &WatchedTagState,
    error: Option<&str>,
) -> Result<(), SpoolError> {
    let repository = repository_id(connection, &image.repository)?;
    let unix = |time: Option<Timestamp>| time.map(Timestamp::unix);
    connection
        .prepare_cached(
            "INSERT INTO tag (repository, name, seen, observed, looked, missing, missing_at, again, error)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
             ON CONFLICT DO UPDATE SET
                 seen = ?3, observed = ?4, looked = ?5, missing = ?6, missing_at = ?7, again = ?8, error = ?9",
        )?
        .execute(params![
            repository,
            image.tag.as_str(),
            state.reported.map(|reported| reported.seen.to_string()),
            unix(state.reported.map(|reported| reported.observed)),
            unix(state.polled),
            state.missing,
            unix(state.missing_at),
            state.report_again,
            error,
        ])?;
    Ok(())
}

const TAGS: &str =
    "SELECT r.name AS repository, t.name, seen, observed, looked, missing, missing_at, again, t.error AS error
     FROM tag t JOIN repository r ON r.id = t.repository ORDER BY r.name, t.name";

pub(super) fn tags(connection: &Connection) -> Result<Vec<WatchedTagRow>, SpoolError> {
    let mut query = connection.prepare(TAGS)?;
    Ok(query.query_map([], tag_row)?.collect::<Result<_, _>>()?)
}

/// The rows of a damaged table, up to where it cannot be read.
pub(super) fn readable_tags(connection: &Connection) -> Result<Vec<WatchedTagRow>, SpoolError> {
    let mut query = connection.prepare(TAGS)?;
    Ok(query.query_map([], tag_row)?.map_while(Result::ok).collect())
}

fn tag_row(row: &Row<'_>) -> rusqlite::Result<WatchedTagRow> {
    let repository = Repository::parse(row.get_ref("repository")?.as_str()?).map_err(|_| bad_value("repository"))?;
    let tag = Tag::parse(row.get_ref("name")?.as_str()?).map_err(|_| bad_value("tag"))?;
    let seen = row.get::<_, Option<String>>("seen")?.map(|seen| Seen::parse(&seen)).transpose();
    let seen = seen.map_err(|_| bad_value("digest"))?;
    let reported = seen.zip(optional_time(row, "observed")?).map(|(seen, observed)| LastReport { seen, observed });
    let state = WatchedTagState {
        reported,
        polled: optional_time(row, "looked")?,
        missing: row.get("missing")?,
        missing_at: optional_time(row, "missing_at")?,
        report_again: row.get("again")?,
    };
    Ok(WatchedTagRow { image: Image { repository, tag }, state, error: row.get("error")? })
}

pub(super) fn repositories(connection: &Connection) -> Result<Vec<WatchedRepositoryRow>, SpoolError> {
    let mut query = connection.prepare("SELECT name, confirmed, error FROM repository ORDER BY name")?;
    let rows = query.query_map([], |row| {
        let name = Repository::parse(row.get_ref("name")?.as_str()?).map_err(|_| bad_value("repository"))?;
        Ok(WatchedRepositoryRow { name, confirmed: optional_time(row, "confirmed")?, error: row.get("error")? })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(super) fn remember_list(
    connection: &Connection,
    repository: &Repository,
    error: Option<&str>,
) -> Result<(), SpoolError> {
    let id = repository_id(connection, repository)?;
    connection.prepare_cached("UPDATE repository SET error = ?2 WHERE id = ?1")?.execute(params![id, error])?;
    Ok(())
}

/// Stores an entry for every log, with the tag state that it reports.
pub(super) fn record(
    connection: &Connection,
    statement: &Statement,
    manifest: Option<&RawManifest>,
) -> Result<(), SpoolError> {
    match statement {
        Statement::Observation(entry) => {
            let reported = LastReport { seen: entry.seen, observed: entry.observed };
            let state = WatchedTagState {
                reported: Some(reported),
                polled: Some(entry.observed),
                ..WatchedTagState::default()
            };
            remember(connection, &entry.image, &state, None)?;
        }
        Statement::Confirmation(entry) => {
            let id = repository_id(connection, &entry.repository)?;
            let mut update = connection.prepare_cached("UPDATE repository SET confirmed = ?2 WHERE id = ?1")?;
            update.execute(params![id, entry.observed.unix()])?;
        }
    }
    enqueue(connection, statement)?;
    // An entry is stored without the manifest if necessary; manifests must never displace entries.
    if let Some(manifest) = manifest
        && schema::has_room_for_extra(connection, manifest.bytes.len())?
    {
        let digest = manifest.digest.to_string();
        let mut insert = connection.prepare_cached("INSERT OR IGNORE INTO manifest (digest, bytes) VALUES (?1, ?2)")?;
        insert.execute(params![digest, manifest.bytes])?;
        let mut insert =
            connection.prepare_cached("INSERT OR IGNORE INTO upload (log, digest) SELECT id, ?1 FROM log")?;
        insert.execute([digest])?;
    }
    Ok(())
}

/// Puts an entry into the queue of every log. A log that has refused an observation permanently gets no confirmation of
/// that repository: there it would vouch for what was seen before.
pub(super) fn enqueue(connection: &Connection, statement: &Statement) -> Result<(), SpoolError> {
    let (repository, tag, digest, note) = match statement {
        Statement::Observation(entry) => {
            let digest = match entry.seen {
                Seen::Digest(digest) => Some(digest.to_string()),
                Seen::Gone => None,
            };
            (&entry.image.repository, Some(entry.image.tag.as_str()), digest, entry.to_string())
        }
        Statement::Confirmation(entry) => (&entry.repository, None, None, entry.to_string()),
    };
    connection
        .prepare_cached("INSERT INTO entry (repository, tag, digest, note) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![repository.as_str(), tag, digest, note])?;
    let seq = connection.last_insert_rowid();
    let confirms = matches!(statement, Statement::Confirmation(_));
    connection
        .prepare_cached(
            "INSERT INTO pending (log, seq) SELECT id, ?1 FROM log WHERE NOT (?2 AND EXISTS (
                 SELECT 1 FROM pending JOIN entry USING (seq)
                 WHERE log = log.id AND refused IS NOT NULL AND repository = ?3
             ))",
        )?
        .execute(params![seq, confirms, repository.as_str()])?;
    drop_entry(connection, seq)
}

/// The first entry of each tag, and of each repository as a whole, in the order of signing: what comes after these
/// cannot go yet, however long a single tag's queue is.
pub(super) fn pending(connection: &Connection, log: LogId, most: usize) -> Result<Vec<PendingEntry>, SpoolError> {
    let mut query = connection.prepare_cached(
        "SELECT seq, repository, tag, note, acknowledged, acknowledged_at FROM pending JOIN entry USING (seq)
         WHERE log = ?1 AND seq IN (
             SELECT min(seq) FROM pending JOIN entry USING (seq)
             WHERE log = ?1 AND refused IS NULL GROUP BY repository, tag
         )
         ORDER BY seq LIMIT ?2",
    )?;
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    let rows = query.query_map(params![log.0, most], |row| {
        let index = row.get::<_, Option<i64>>("acknowledged")?.map(u64::try_from).transpose();
        let index = index.map_err(|_| bad_value("log index"))?;
        Ok(PendingEntry {
            seq: row.get("seq")?,
            repository: row.get("repository")?,
            tag: row.get("tag")?,
            note: row.get("note")?,
            acknowledged: index.zip(optional_time(row, "acknowledged_at")?),
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(super) fn settle(
    connection: &Connection,
    log: LogId,
    settled: &[(i64, Settlement)],
    at: Timestamp,
) -> Result<(), SpoolError> {
    settled.iter().try_for_each(|(seq, settlement)| match settlement {
        Settlement::Delivered => deliver(connection, log, *seq),
        Settlement::Acknowledged(index) => acknowledge(connection, log, *seq, *index, at),
        Settlement::Refused(reason) => refuse(connection, log, *seq, reason),
    })
}

/// Keeps an entry that a log has refused permanently, for `status`. Confirmations behind it must not go to this log.
fn refuse(connection: &Connection, log: LogId, seq: i64, reason: &str) -> Result<(), SpoolError> {
    connection
        .prepare_cached("UPDATE pending SET refused = ?3 WHERE log = ?1 AND seq = ?2")?
        .execute(params![log.0, seq, reason])?;
    connection.execute(
        "DELETE FROM pending WHERE log = ?1 AND refused IS NULL AND seq IN (
             SELECT later.seq FROM entry later JOIN entry refused ON refused.repository = later.repository
             WHERE refused.seq = ?2 AND later.tag IS NULL
         )",
        params![log.0, seq],
    )?;
    connection.execute(
        "DELETE FROM upload WHERE log = ?1 AND ready = 0 AND digest = (SELECT digest FROM entry WHERE seq = ?2)",
        params![log.0, seq],
    )?;
    connection.execute(
        "DELETE FROM pending WHERE log = ?1 AND refused IS NOT NULL AND seq NOT IN (
             SELECT seq FROM pending WHERE log = ?1 AND refused IS NOT NULL ORDER BY seq DESC LIMIT ?2
         )",
        params![log.0, MAX_REFUSED],
    )?;
    drop_unneeded(connection)
}

/// An entry that no log waits for any more.
fn drop_entry(connection: &Connection, seq: i64) -> Result<(), SpoolError> {
    connection
        .prepare_cached("DELETE FROM entry WHERE seq = ?1 AND NOT EXISTS (SELECT 1 FROM pending WHERE seq = ?1)")?
        .execute([seq])?;
    Ok(())
}

fn deliver(connection: &Connection, log: LogId, seq: i64) -> Result<(), SpoolError> {
    connection.prepare_cached("DELETE FROM pending WHERE log = ?1 AND seq = ?2")?.execute(params![log.0, seq])?;
    connection.prepare_cached("UPDATE log SET delivered = delivered + 1 WHERE id = ?1")?.execute([log.0])?;
    // Now the log has the digest, and takes the manifest.
    connection
        .prepare_cached(
            "UPDATE upload SET ready = 1 WHERE log = ?1 AND digest = (SELECT digest FROM entry WHERE seq = ?2)",
        )?
        .execute(params![log.0, seq])?;
    // What the log has now is newer than whatever it has refused about this tag.
    connection
        .prepare_cached(
            "DELETE FROM pending WHERE log = ?1 AND refused IS NOT NULL AND seq IN (
                 SELECT old.seq FROM entry old JOIN entry new ON new.repository = old.repository AND new.tag = old.tag
                 WHERE new.seq = ?2 AND old.seq < ?2
             )",
        )?
        .execute(params![log.0, seq])?;
    drop_entry(connection, seq)
}

/// The first acknowledgement stays: the deadline for publication counts from it.
fn acknowledge(connection: &Connection, log: LogId, seq: i64, index: u64, at: Timestamp) -> Result<(), SpoolError> {
    connection
        .prepare_cached(
            "UPDATE pending SET acknowledged = ?3, acknowledged_at = ?4
             WHERE log = ?1 AND seq = ?2 AND acknowledged IS NULL",
        )?
        .execute(params![log.0, seq, signed(index)?, at.unix()])?;
    Ok(())
}

pub(super) fn remember_log(
    connection: &Connection,
    log: LogId,
    at: Timestamp,
    outcome: &Result<u64, String>,
) -> Result<(), SpoolError> {
    match outcome {
        Ok(size) => connection.execute(
            "UPDATE log SET size = ?2, verified = ?3, error = NULL WHERE id = ?1",
            params![log.0, signed(*size)?, at.unix()],
        )?,
        Err(error) => connection.execute("UPDATE log SET error = ?2 WHERE id = ?1", params![log.0, error])?,
    };
    Ok(())
}

/// Manifests that a log takes now: at least one if there is any, and no more than so many, of so many bytes.
pub(super) fn next_manifests(
    connection: &Connection,
    log: LogId,
    most: usize,
    bytes: usize,
) -> Result<Vec<RawManifest>, SpoolError> {
    let mut query = connection
        .prepare_cached("SELECT digest, bytes FROM upload JOIN manifest USING (digest) WHERE log = ?1 AND ready = 1")?;
    let mut rows = query.query([log.0])?;
    let (mut manifests, mut size) = (Vec::new(), 0);
    while manifests.len() < most
        && size < bytes
        && let Some(row) = rows.next()?
    {
        let digest = Digest::parse(row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?);
        let manifest = RawManifest { digest: digest.map_err(|_| bad_value("digest"))?, bytes: row.get(1)? };
        size += manifest.bytes.len();
        manifests.push(manifest);
    }
    Ok(manifests)
}

pub(super) fn manifests_done(connection: &Connection, log: LogId, digests: &[Digest]) -> Result<(), SpoolError> {
    let mut upload = connection.prepare_cached("DELETE FROM upload WHERE log = ?1 AND digest = ?2")?;
    let mut manifest = connection.prepare_cached(
        "DELETE FROM manifest WHERE digest = ?1 AND NOT EXISTS (SELECT 1 FROM upload WHERE digest = ?1)",
    )?;
    for digest in digests {
        let digest = digest.to_string();
        upload.execute(params![log.0, digest])?;
        manifest.execute([digest])?;
    }
    Ok(())
}

pub(super) fn logs(connection: &Connection) -> Result<Vec<LogStatus>, SpoolError> {
    let mut query = connection.prepare(
        "SELECT id, vkey, delivered, size, verified, error,
                (SELECT count(*) FROM pending WHERE log = id AND refused IS NULL) AS pending,
                (SELECT count(*) FROM pending WHERE log = id AND refused IS NOT NULL) AS refused
         FROM log ORDER BY id",
    )?;
    let rows = query.query_map([], |row| {
        let size = row.get::<_, Option<i64>>("size")?.map(u64::try_from).transpose().map_err(|_| bad_value("size"))?;
        Ok(LogStatus {
            id: LogId(row.get("id")?),
            vkey: row.get("vkey")?,
            delivered: count(row, "delivered")?,
            pending: count(row, "pending")?,
            refused: count(row, "refused")?,
            refusals: Vec::new(),
            checkpoint: size.zip(optional_time(row, "verified")?),
            error: row.get("error")?,
        })
    })?;
    let mut logs: Vec<LogStatus> = rows.collect::<Result<_, _>>()?;
    for log in logs.iter_mut().filter(|log| log.refused > 0) {
        log.refusals = refusals(connection, log.id)?;
    }
    Ok(logs)
}

fn refusals(connection: &Connection, log: LogId) -> Result<Vec<(String, String)>, SpoolError> {
    let mut query = connection.prepare_cached(
        "SELECT repository || coalesce(':' || tag, ''), refused FROM pending JOIN entry USING (seq)
         WHERE log = ?1 AND refused IS NOT NULL ORDER BY seq DESC LIMIT 100",
    )?;
    Ok(query.query_map([log.0], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?)
}

pub(super) fn raise(connection: &Connection, alarm: &Alarm) -> Result<(), SpoolError> {
    connection.execute(
        "INSERT INTO alarm (subject, kind, message, evidence, first, last) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
         ON CONFLICT DO UPDATE SET message = ?3, evidence = coalesce(?4, evidence), last = ?6, count = count + 1",
        params![alarm.subject, alarm.kind, alarm.message, alarm.evidence, alarm.first.unix(), alarm.last.unix(),],
    )?;
    Ok(())
}

pub(super) fn clear(connection: &Connection, subject: &str, kind: &str) -> Result<(), SpoolError> {
    connection.execute("DELETE FROM alarm WHERE subject = ?1 AND kind = ?2", [subject, kind])?;
    Ok(())
}

pub(super) fn clear_all(connection: &Connection) -> Result<usize, SpoolError> {
    Ok(connection.execute("DELETE FROM alarm", [])?)
}

pub(super) fn alarm_sent(connection: &Connection, subject: &str, kind: &str) -> Result<(), SpoolError> {
    connection.execute("UPDATE alarm SET notified = 1 WHERE subject = ?1 AND kind = ?2", [subject, kind])?;
    Ok(())
}

/// The alarms, the latest first; only those not sent on, if asked for.
pub(super) fn alarms(connection: &Connection, unsent: bool) -> Result<Vec<Alarm>, SpoolError> {
    let mut query =
        connection.prepare("SELECT * FROM alarm WHERE NOT (?1 AND notified) ORDER BY last DESC, subject, kind")?;
    let rows = query.query_map([unsent], |row| {
        Ok(Alarm {
            subject: row.get("subject")?,
            kind: row.get("kind")?,
            message: row.get("message")?,
            evidence: row.get("evidence")?,
            first: time(row.get("first")?)?,
            last: time(row.get("last")?)?,
            count: count(row, "count")?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}
