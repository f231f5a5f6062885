//! The report of an audit, as text and as JSON.

use std::{fmt::Write as _, io, time::Duration};

use serde::{
    Serialize, Serializer,
    ser::{Error as _, SerializeSeq as _},
};
use serde_json::{Value, json};
use taglog_proto::{checkpoint::Checkpoint, time::Timestamp};

use super::{
    audit_classes::{Class, Classes},
    context::exit,
    output::age,
};
use taglog_audit::{AuditOutcome, Auditor, AuditorError, Counts, TagView};
use taglog_base::text::one_line;
use taglog_policy::{Policy, Verdict};

/// The maximum number of retagged tags in the text report; the JSON report has all of them.
const SHOWN: usize = 20;

pub struct AuditReport<'a> {
    pub auditor: &'a Auditor,
    /// The audited checkpoint.
    pub checkpoint: &'a Checkpoint,
    /// The URL or directory that the log was read from.
    pub location: &'a str,
    pub outcome: &'a AuditOutcome,
    /// For each finding, the path of its evidence file, if any.
    pub evidence: Vec<Option<String>>,
    /// The verdicts on the retagged tags.
    pub classes: &'a Classes,
    /// The policy that the verdicts are evaluated with.
    pub policy: &'a Policy,
    /// Whether the location may be a copy, which may be behind the log.
    pub is_copy: bool,
    /// The duration of the audit.
    pub elapsed: Duration,
    pub now: Timestamp,
}

impl AuditReport<'_> {
    pub fn exit(&self) -> u8 {
        let AuditOutcome { findings, upgrade, unavailable, .. } = self.outcome;
        match () {
            () if !findings.is_empty() || self.shrunk().is_some() => exit::MISBEHAVED,
            () if upgrade.is_some() || unavailable.is_some() => exit::FAILED,
            () => exit::OK,
        }
    }

    /// The largest size seen before, if the log (not a copy of it) has fewer entries now.
    fn shrunk(&self) -> Option<u64> {
        self.outcome.behind.filter(|_| !self.is_copy)
    }

    /// The findings, problems and warnings, one line each.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        for (finding, evidence) in self.outcome.findings.iter().zip(&self.evidence) {
            let place = finding.index.map(|index| format!("entry {index}: ")).unwrap_or_default();
            let evidence = match evidence {
                Some(path) => format!("evidence that proves this: {path}"),
                None => "there is no evidence file for this, but anyone who audits the log finds the same".to_owned(),
            };
            notes.push(format!("THE LOG MISBEHAVES: {place}{}; {evidence}", one_line(&finding.reason)));
        }
        if let Some(before) = self.shrunk() {
            let size = self.checkpoint.size;
            notes.push(format!("THE LOG MISBEHAVES: it has shrunk to {size} entries; it has signed {before} before"));
        } else if let Some(before) = self.outcome.behind {
            notes.push(format!("this copy is behind: it has {} entries of {before}", self.checkpoint.size));
        }
        if let Some((index, kind)) = &self.outcome.upgrade {
            notes.push(format!("cannot audit past entry {index}, upgrade: {}", one_line(&kind.to_string())));
        }
        if let Some(reason) = &self.outcome.unavailable {
            notes.push(format!("{} (unavailable, not evidence)", one_line(reason)));
        }
        let lax = self.auditor.counts().lax_signatures;
        if lax > 0 {
            notes.push(format!("warning: {lax} entries have signatures that some Ed25519 libraries reject"));
        }
        notes
    }

    /// The retagged tags, the latest retag first.
    fn retagged(&self) -> Vec<(u64, TagView<'_>)> {
        let tags = self.auditor.index().tags();
        let mut retagged: Vec<_> = tags.filter_map(|tag| Some((tag.retagged()?, tag))).collect();
        retagged.sort_by_key(|(index, _)| std::cmp::Reverse(*index));
        retagged
    }

    /// The retagged tags for the text report: those that do not pass come first.
    fn retagged_to_show(&self) -> Vec<(u64, TagView<'_>, Option<&Class>)> {
        let retagged = self.retagged().into_iter();
        let mut retagged: Vec<_> = retagged.map(|(index, tag)| (index, tag, self.classes.of(index))).collect();
        retagged.sort_by_key(|(.., class)| class.is_some_and(|class| class.passes || class.ignored.is_some()));
        retagged
    }

    fn retag_json(&self, index: u64, tag: TagView<'_>) -> Result<Value, AuditorError> {
        let by = self.auditor.sighting(index)?.map(|(witness, observed, seen)| {
            json!({
                "index": index,
                "witness": witness.to_string(),
                "observed": observed.to_string(),
                "digest": seen.to_string(),
            })
        });
        let current = tag.current().map(|current| {
            json!({
                "witness": current.witness.to_string(),
                "index": current.index,
                "observed": current.observed.to_string(),
                "digest": current.seen.to_string(),
                "sightings": current.sightings,
            })
        });
        let class = self.classes.of(index);
        let ignored = class.and_then(|class| class.ignored.as_ref());
        Ok(json!({
            "image": tag.image().to_string(),
            "verdict": class.map(|class| class.verdict),
            "passes": class.map(|class| class.passes),
            "reason": class.map(|class| &class.reason),
            "ignored": ignored.map(|it| json!({ "reason": it.reason, "until": it.until.to_string() })),
            "retagged": by,
            "witnesses": current.collect::<Vec<_>>(),
        }))
    }

    fn rate(&self) -> f64 {
        self.outcome.audited as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }

    /// Writes the report as one JSON document. It is streamed, since the number of retagged tags is not limited.
    ///
    /// # Errors
    /// Those of the writer, or that the auditor's state cannot be read.
    pub fn write_json(&self, out: &mut impl io::Write) -> io::Result<()> {
        serde_json::to_writer(&mut *out, &Document { head: self.head(), retagged: RetaggedTags(self) })?;
        writeln!(out)?;
        out.flush()
    }

    /// The JSON document without the list of retagged tags.
    fn head(&self) -> Value {
        let AuditOutcome { findings, upgrade, unavailable, behind, audited, complete } = self.outcome;
        let findings = findings.iter().zip(&self.evidence).map(|(finding, evidence)| {
            json!({
                "kind": finding.kind.word(),
                "index": finding.index,
                "reason": finding.reason,
                "evidence": evidence,
            })
        });
        let seal = self.auditor.seal();
        let Counts { observations, confirmations, seals, rosters, lax_signatures } = self.auditor.counts();
        json!({
            "origin": self.checkpoint.origin,
            "location": self.location,
            "size": self.checkpoint.size,
            "root": self.checkpoint.root.to_string(),
            "auditedSize": self.auditor.size(),
            "complete": complete,
            "sealed": seal.map(|seal| seal.time.to_string()),
            "ageSeconds": seal.map(|seal| self.now.unix() - seal.time.unix()),
            "auditedNow": audited,
            "seconds": self.elapsed.as_secs_f64(),
            "entriesPerSecond": self.rate(),
            "counts": {
                "observations": observations,
                "confirmations": confirmations,
                "seals": seals,
                "rosters": rosters,
                "tags": seal.map_or(0, |seal| seal.tags),
                "repositories": self.auditor.index().repositories(),
                "witnesses": self.auditor.index().witnesses(),
                "laxSignatures": lax_signatures,
            },
            "policy": self.policy.path().map(|path| path.display().to_string()),
            "retaggedByVerdict": self.classes.counts(),
            "findings": findings.collect::<Vec<_>>(),
            "upgrade": upgrade.as_ref().map(|(index, kind)| json!({ "index": index, "reason": kind.to_string() })),
            "unavailable": unavailable,
            "behind": behind,
        })
    }

    /// The report as text.
    pub fn text(&self) -> Result<String, AuditorError> {
        let mut text = String::new();
        let size = self.auditor.size();
        let state = if self.outcome.complete { "all of it is right" } else { "NOT COMPLETE" };
        // Writing to a String cannot fail, here and below.
        let _ =
            writeln!(text, "{}: {size} of {} entries audited, {state}", self.checkpoint.origin, self.checkpoint.size);
        let _ = writeln!(
            text,
            "  now        {} entries in {:.1} s ({:.0}/s), from {}",
            self.outcome.audited,
            self.elapsed.as_secs_f64(),
            self.rate(),
            one_line(self.location),
        );
        if let Some(seal) = self.auditor.seal() {
            let _ = writeln!(text, "  sealed     {} ({})", seal.time, age(seal.time, self.now));
            let _ = writeln!(
                text,
                "  index      {} tags in {} repositories, by {} witnesses",
                seal.tags,
                self.auditor.index().repositories(),
                self.auditor.index().witnesses(),
            );
        }
        let Counts { observations, confirmations, seals, rosters, .. } = self.auditor.counts();
        let _ = writeln!(
            text,
            "  entries    {observations} observations, {confirmations} confirmations, {seals} seals, {rosters} rosters"
        );
        self.retagged_lines(&mut text)?;
        Ok(text)
    }

    fn retagged_lines(&self, text: &mut String) -> Result<(), AuditorError> {
        let retagged = self.retagged_to_show();
        let counts: Vec<String> =
            self.classes.counts().into_iter().map(|(verdict, count)| format!("{count} {verdict}")).collect();
        let counts = if counts.is_empty() { String::new() } else { format!(": {}", counts.join(", ")) };
        let _ = writeln!(text, "  retagged   {}{counts}", retagged.len());
        for (index, tag, class) in retagged.iter().take(SHOWN) {
            let by = self.auditor.sighting(*index)?;
            let by = by.map(|(witness, observed, seen)| format!("{observed}  {seen}  {witness}")).unwrap_or_default();
            let verdict = class.map_or("", |class| class.verdict.name());
            let ignored = class.and_then(|class| class.ignored.as_ref());
            let ignored =
                ignored.map(|it| format!("  (ignored until {}: {})", it.until, it.reason)).unwrap_or_default();
            let _ = writeln!(text, "    {verdict:<10}  {}  {by}  entry {index}{ignored}", tag.image());
        }
        if retagged.len() > SHOWN {
            let more = retagged.len() - SHOWN;
            let _ = writeln!(text, "    … and {more} more; --output json lists all of them");
        }
        if retagged.iter().any(|(.., class)| class.is_some_and(|class| class.verdict == Verdict::Retagged)) {
            let _ =
                writeln!(text, "    by the log alone: 'taglog verify' compares manifests, and may find some 'rebuilt'");
        }
        Ok(())
    }
}

#[derive(Serialize)]
struct Document<'a> {
    #[serde(flatten)]
    head: Value,
    retagged: RetaggedTags<'a>,
}

/// Serializes the retagged tags of a report one by one.
struct RetaggedTags<'a>(&'a AuditReport<'a>);

impl Serialize for RetaggedTags<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let retagged = self.0.retagged();
        let mut list = serializer.serialize_seq(Some(retagged.len()))?;
        for (index, tag) in retagged {
            list.serialize_element(&self.0.retag_json(index, tag).map_err(S::Error::custom)?)?;
        }
        list.end()
    }
}
