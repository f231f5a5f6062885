//! How what was pinned is shown, for people and as JSON.

use serde_json::{Value, json};
use similar::TextDiff;
use taglog_proto::name::Digest;

use super::{
    context::{Failure, Report, ReportFormat, exit},
    verify_output::{self, Item, Level},
};
use taglog_image_sources::{FoundImage, LeftOut};
use taglog_log_client::printable;
use taglog_pin::{decide::Decision, rewrite::pinned_name, write::Change};

/// What was asked for.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// For whom.
    pub format: ReportFormat,
    /// Whether the changes are shown and not made.
    pub dry_run: bool,
    /// Whether it is only asked if all is pinned.
    pub check: bool,
}

/// What became of one name in one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It had no digest, and got this one.
    Pinned(Digest),
    /// It has this newer digest now.
    Updated(Digest),
    /// It is pinned, and verifies.
    Kept,
    /// It names a digest and no tag.
    DigestAlone,
    /// Policy ignores it.
    Ignored,
    /// It has no digest.
    NotPinned,
    /// It would get this digest if it were a literal.
    ByHand(Digest),
    /// It does not verify.
    Refused,
    /// Its registry could not be asked.
    Unanswered,
}

/// One name in one file, and what became of it.
#[derive(Clone, Debug)]
pub struct Row {
    /// The name and where it is.
    pub found: FoundImage,
    /// What became of it.
    pub outcome: Outcome,
    /// Why; `None` where nothing was asked.
    pub decision: Option<Decision>,
}

impl Row {
    /// Whether nothing may be written because of it.
    pub fn blocks(&self) -> bool {
        matches!(self.outcome, Outcome::Refused | Outcome::Unanswered)
    }

    fn exit(&self) -> u8 {
        match self.outcome {
            Outcome::Refused | Outcome::NotPinned | Outcome::ByHand(_) => exit::VERDICT,
            Outcome::Unanswered => exit::FAILED,
            _ => exit::OK,
        }
    }

    fn status(&self, written: bool) -> &'static str {
        match self.outcome {
            Outcome::Pinned(_) if written => "pinned",
            Outcome::Updated(_) if written => "updated",
            Outcome::Pinned(_) => "to pin",
            Outcome::Updated(_) => "to update",
            Outcome::Kept => "kept",
            Outcome::DigestAlone => "digest alone",
            Outcome::Ignored => "ignored",
            Outcome::NotPinned => "not pinned",
            Outcome::ByHand(_) => "by hand",
            Outcome::Refused => "refused",
            Outcome::Unanswered => "not answered",
        }
    }

    /// The digest that is or would be written.
    fn digest(&self) -> Option<Digest> {
        match self.outcome {
            Outcome::Pinned(digest) | Outcome::Updated(digest) | Outcome::ByHand(digest) => Some(digest),
            _ => None,
        }
    }

    fn text(&self, written: bool) -> String {
        let FoundImage { place, written: name, reference, .. } = &self.found;
        let literal = reference_text(&self.found);
        let shown = self.digest().map_or_else(|| name.clone(), |digest| pinned_name(&literal, reference, &digest));
        let mut lines = vec![format!("{place}: {}: {}", self.status(written), printable(&shown))];
        let indented = |text: &str| format!("    {}", printable(text));
        if let Outcome::ByHand(_) = self.outcome {
            lines.push(indented(&format!("it is written as {name}, which is no literal that could be rewritten")));
        }
        if let Some(Decision { verdict, reason, notes, .. }) = &self.decision {
            match verdict {
                Some(verdict) => lines.push(indented(&format!("{verdict}: {reason}"))),
                None if !reason.is_empty() => lines.push(indented(reason)),
                None => {}
            }
            lines.extend(notes.iter().map(|note| indented(note)));
        }
        lines.join("\n") + "\n"
    }

    /// What 'pin --check' says of it in the formats of CI systems.
    fn item(&self) -> Item {
        let (rule, level) = match self.outcome {
            Outcome::Refused => ("pin-fails", Level::Failure),
            Outcome::NotPinned | Outcome::ByHand(_) | Outcome::Pinned(_) => ("unpinned", Level::Failure),
            Outcome::Unanswered => ("unanswered", Level::Problem),
            Outcome::Ignored => ("unpinned", Level::Ignored),
            Outcome::DigestAlone => ("untagged", Level::Pass),
            Outcome::Kept | Outcome::Updated(_) => ("ok", Level::Pass),
        };
        let decision = self.decision.as_ref();
        let reason = decision.map(|decision| match decision.verdict {
            Some(verdict) => format!("{}: {verdict}: {}", self.status(false), decision.reason),
            None => format!("{}: {}", self.status(false), decision.reason),
        });
        Item {
            rule,
            level,
            image: printable(&self.found.written),
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

/// The name as it is written where it is a literal, else what it means.
fn reference_text(found: &FoundImage) -> String {
    match (&found.span, found.image()) {
        (None, Ok(image)) => image.to_string(),
        _ => found.written.clone(),
    }
}

/// What the command prints, and its exit code: the gravest that applies.
pub fn report(
    manner: Manner,
    rows: &[Row],
    left_out: &[LeftOut],
    changes: &[Change],
    misbehaviour: Vec<String>,
) -> Result<Report, Failure> {
    let blocked = !misbehaviour.is_empty() || rows.iter().any(Row::blocks);
    let written = !blocked && !manner.dry_run && !manner.check;
    let exits: Vec<u8> = rows.iter().map(Row::exit).collect();
    let exit = match &misbehaviour[..] {
        [_, ..] => exit::MISBEHAVED,
        [] if exits.contains(&exit::VERDICT) => exit::VERDICT,
        [] if !left_out.is_empty() => exit::USAGE,
        [] if exits.contains(&exit::FAILED) => exit::FAILED,
        [] => exit::OK,
    };
    let mut notes = misbehaviour;
    notes.extend(left_out.iter().map(|LeftOut { place, reason }| format!("{place}: {reason}")));
    notes.extend(nothing_written(manner, blocked, rows));
    let lines: String = rows.iter().map(|row| row.text(written)).collect();
    let output = match (manner.format, manner.dry_run) {
        (ReportFormat::Text, false) => lines,
        (ReportFormat::Text, true) => {
            notes.splice(0..0, lines.lines().map(str::to_owned));
            patch(changes)
        }
        (ReportFormat::Json, _) => as_json(manner, rows, left_out, changes, written),
        (format, _) => {
            let items: Vec<Item> = rows.iter().map(Row::item).chain(left_out.iter().map(Item::left_out)).collect();
            verify_output::render_items(format, &items, exit, false)?.unwrap_or_default()
        }
    };
    Ok(Report { output, notes, exit })
}

fn nothing_written(manner: Manner, blocked: bool, rows: &[Row]) -> Option<String> {
    if rows.is_empty() {
        return Some("nothing to pin: these files name no image".to_owned());
    }
    let refused = rows.iter().filter(|row| row.blocks()).count();
    let wanted = blocked && !manner.check;
    wanted
        .then(|| format!("nothing is written: {refused} of {} images do not verify or could not be asked", rows.len()))
}

fn as_json(manner: Manner, rows: &[Row], left_out: &[LeftOut], changes: &[Change], written: bool) -> String {
    let images: Vec<Value> = rows.iter().map(|row| row.json(written)).collect();
    let files: Vec<String> = changes.iter().map(|change| change.path.display().to_string()).collect();
    let left_out: Vec<Value> = left_out
        .iter()
        .map(|LeftOut { place, reason }| json!({ "file": place.file, "line": place.line, "reason": reason }))
        .collect();
    let patch = manner.dry_run.then(|| patch(changes));
    let report = json!({
        "written": written && !changes.is_empty(),
        "images": images,
        "files": files,
        "leftOut": left_out,
        "patch": patch,
    });
    format!("{report}\n")
}

/// The changes as a patch.
fn patch(changes: &[Change]) -> String {
    let one = |change: &Change| {
        let name = printable(&change.path.display().to_string());
        let (before, after) = (String::from_utf8_lossy(&change.before), String::from_utf8_lossy(&change.after));
        let diff = TextDiff::from_lines(&*before, &*after);
        diff.unified_diff().context_radius(3).header(&name, &name).to_string()
    };
    changes.iter().map(one).collect()
}
