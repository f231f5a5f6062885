//! Renders the result of `taglog pin`, as text and as JSON.

use serde_json::{Value, json};
use similar::TextDiff;
use taglog_proto::name::Digest;

use super::{
    context::{Failure, Report, ReportFormat, exit},
    verify_output::{self, Item, Level},
};
use taglog_base::text::one_line;
use taglog_image_sources::{Excluded, FoundImage, LeftOut};
use taglog_pin::{decide::PinDecision, rewrite::pinned_name, write::FileChange};

/// Options of the report.
#[derive(Clone, Copy, Debug)]
pub struct PinReportOptions {
    pub format: ReportFormat,
    /// Whether the changes are only shown.
    pub dry_run: bool,
    /// Whether the files are only checked.
    pub check: bool,
}

/// The result for one reference in one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PinStatus {
    /// It had no digest, and gets this one.
    Pinned(Digest),
    /// It gets this newer digest.
    Updated(Digest),
    /// It is pinned, and verifies.
    Kept,
    /// It names a digest and no tag.
    DigestAlone,
    /// Policy ignores it.
    Ignored,
    /// It has no digest.
    NotPinned,
    /// It is not a literal: this digest has to be written by hand.
    ByHand(Digest),
    /// It does not verify.
    Refused,
    /// The registry gave no digest.
    Unresolved,
}

/// One reference in one file, with its result.
#[derive(Clone, Debug)]
pub struct ReportRow {
    pub found: FoundImage,
    pub status: PinStatus,
    /// The decision; `None` for a digest without a tag.
    pub decision: Option<PinDecision>,
}

impl ReportRow {
    /// Whether it prevents that files are written.
    pub fn blocks(&self) -> bool {
        matches!(self.status, PinStatus::Refused | PinStatus::Unresolved)
    }

    fn exit(&self) -> u8 {
        match self.status {
            PinStatus::Refused | PinStatus::NotPinned | PinStatus::ByHand(_) => exit::VERDICT,
            PinStatus::Unresolved => exit::FAILED,
            _ => exit::OK,
        }
    }

    fn status(&self, written: bool) -> &'static str {
        match self.status {
            PinStatus::Pinned(_) if written => "pinned",
            PinStatus::Updated(_) if written => "updated",
            PinStatus::Pinned(_) => "to pin",
            PinStatus::Updated(_) => "to update",
            PinStatus::Kept => "kept",
            PinStatus::DigestAlone => "digest alone",
            PinStatus::Ignored => "ignored",
            PinStatus::NotPinned => "not pinned",
            PinStatus::ByHand(_) => "by hand",
            PinStatus::Refused => "refused",
            PinStatus::Unresolved => "not answered",
        }
    }

    /// The digest that is or would be written.
    fn digest(&self) -> Option<Digest> {
        match self.status {
            PinStatus::Pinned(digest) | PinStatus::Updated(digest) | PinStatus::ByHand(digest) => Some(digest),
            _ => None,
        }
    }

    fn text(&self, written: bool) -> String {
        let FoundImage { place, written: name, reference, .. } = &self.found;
        let literal = reference_text(&self.found);
        let shown = self.digest().map_or_else(|| name.clone(), |digest| pinned_name(&literal, reference, &digest));
        let mut lines = vec![format!("{place}: {}: {}", self.status(written), one_line(&shown))];
        let indented = |text: &str| format!("    {}", one_line(text));
        if let PinStatus::ByHand(_) = self.status {
            lines.push(indented(&format!("the file has {name}, which is not a literal: write the digest by hand")));
        }
        if let Some(PinDecision { verdict, reason, notes, .. }) = &self.decision {
            match verdict {
                Some(verdict) => lines.push(indented(&format!("{verdict}: {reason}"))),
                None if !reason.is_empty() => lines.push(indented(reason)),
                None => {}
            }
            lines.extend(notes.iter().map(|note| indented(note)));
        }
        lines.join("\n") + "\n"
    }

    /// The item of 'pin --check' for the formats of CI systems.
    fn item(&self) -> Item {
        let (rule, level) = match self.status {
            PinStatus::Refused => ("pin-fails", Level::Failure),
            PinStatus::NotPinned | PinStatus::ByHand(_) | PinStatus::Pinned(_) => ("unpinned", Level::Failure),
            PinStatus::Unresolved => ("unanswered", Level::Problem),
            PinStatus::Ignored => ("unpinned", Level::Ignored),
            PinStatus::DigestAlone => ("untagged", Level::Pass),
            PinStatus::Kept | PinStatus::Updated(_) => ("ok", Level::Pass),
        };
        let decision = self.decision.as_ref();
        let reason = decision.map(|decision| match decision.verdict {
            Some(verdict) => format!("{}: {verdict}: {}", self.status(false), decision.reason),
            None => format!("{}: {}", self.status(false), decision.reason),
        });
        Item {
            rule,
            level,
            image: self.found.written.clone(),
            digest: None,
            places: vec![self.found.place.clone()],
            message: reason.unwrap_or_else(|| self.status(false).to_owned()),
            details: decision.map(|decision| decision.notes.clone()).unwrap_or_default(),
        }
    }

    fn json(&self, written: bool) -> Value {
        let FoundImage { place, written: name, reference, .. } = &self.found;
        let decision = self.decision.as_ref();
        json!({
            "file": place.file,
            "line": place.line,
            "written": name,
            "image": self.found.image().map_or_else(|_| reference.repository.to_string(), |image| image.to_string()),
            "status": self.status(written).replace(' ', "-"),
            "from": reference.digest.map(|digest| digest.to_string()),
            "to": self.digest().map(|digest| digest.to_string()),
            "verdict": decision.and_then(|decision| decision.verdict),
            "reason": decision.map(|decision| &decision.reason),
            "notes": decision.map_or(&[][..], |decision| &decision.notes),
        })
    }
}

/// The reference as written if it is a literal, else the image that it resolves to.
fn reference_text(found: &FoundImage) -> String {
    match (&found.span, found.image()) {
        (None, Ok(image)) => image.to_string(),
        _ => found.written.clone(),
    }
}

/// What is neither pinned nor checked in files.
#[derive(Clone, Debug, Default)]
pub struct Unchecked {
    pub left_out: Vec<LeftOut>,
    pub excluded: Vec<Excluded>,
}

/// The output of the command, and its exit code: the most severe that applies.
pub fn report(
    options: PinReportOptions,
    rows: &[ReportRow],
    unchecked: &Unchecked,
    changes: &[FileChange],
    misbehaviour: Vec<String>,
) -> Result<Report, Failure> {
    let blocked = !misbehaviour.is_empty() || rows.iter().any(ReportRow::blocks);
    let written = !blocked && !options.dry_run && !options.check;
    let exits: Vec<u8> = rows.iter().map(ReportRow::exit).collect();
    let exit = match &misbehaviour[..] {
        [_, ..] => exit::MISBEHAVED,
        [] if exits.contains(&exit::VERDICT) => exit::VERDICT,
        [] if !unchecked.left_out.is_empty() => exit::USAGE,
        [] if exits.contains(&exit::FAILED) => exit::FAILED,
        [] => exit::OK,
    };
    let mut notes = misbehaviour;
    notes.extend(unchecked.left_out.iter().map(|LeftOut { place, reason }| format!("{place}: {reason}")));
    let excluded = |Excluded { place, what, reason }: &Excluded| format!("{place}: excluded: {what}: {reason}");
    notes.extend(unchecked.excluded.iter().map(excluded));
    notes.extend(nothing_written(options, blocked, rows));
    let lines: String = rows.iter().map(|row| row.text(written)).collect();
    let output = match (options.format, options.dry_run) {
        (ReportFormat::Text, false) => lines,
        (ReportFormat::Text, true) => {
            notes.splice(0..0, lines.lines().map(str::to_owned));
            patch(changes)
        }
        (ReportFormat::Json, _) => json_report(options, rows, unchecked, changes, written),
        (format, _) => {
            let left_out = unchecked.left_out.iter().map(Item::left_out);
            let excluded = unchecked.excluded.iter().map(Item::excluded);
            let items: Vec<Item> = rows.iter().map(ReportRow::item).chain(left_out).chain(excluded).collect();
            verify_output::render_items(format, &items, exit, false)?.unwrap_or_default()
        }
    };
    Ok(Report { output, notes, exit })
}

fn nothing_written(options: PinReportOptions, blocked: bool, rows: &[ReportRow]) -> Option<String> {
    if rows.is_empty() {
        return Some("nothing to pin: these files name no image".to_owned());
    }
    let refused = rows.iter().filter(|row| row.blocks()).count();
    let wanted = blocked && !options.check;
    wanted.then(|| {
        format!(
            "nothing is written: {refused} of {} images do not verify or have no digest from their registry",
            rows.len()
        )
    })
}

fn json_report(
    options: PinReportOptions,
    rows: &[ReportRow],
    unchecked: &Unchecked,
    changes: &[FileChange],
    written: bool,
) -> String {
    let images: Vec<Value> = rows.iter().map(|row| row.json(written)).collect();
    let files: Vec<String> = changes.iter().map(|change| change.path.display().to_string()).collect();
    let Unchecked { left_out, excluded } = unchecked;
    let left_out: Vec<Value> = left_out
        .iter()
        .map(|LeftOut { place, reason }| json!({ "file": place.file, "line": place.line, "reason": reason }))
        .collect();
    let patch = options.dry_run.then(|| patch(changes));
    let report = json!({
        "written": written && !changes.is_empty(),
        "images": images,
        "files": files,
        "leftOut": left_out,
        "excluded": excluded.iter().map(verify_output::excluded_json).collect::<Vec<_>>(),
        "patch": patch,
    });
    format!("{report}\n")
}

/// The changes as a unified diff.
fn patch(changes: &[FileChange]) -> String {
    let one = |change: &FileChange| {
        let name = one_line(&change.path.display().to_string());
        let (before, after) = (String::from_utf8_lossy(&change.before), String::from_utf8_lossy(&change.after));
        let diff = TextDiff::from_lines(&*before, &*after);
        diff.unified_diff().context_radius(3).header(&name, &name).to_string()
    };
    changes.iter().map(one).collect()
}
