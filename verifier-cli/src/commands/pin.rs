//! `taglog pin`: writes digests into the files that name images.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use clap::Args;

use super::{
    context::{Failure, Global, Report, ReportFormat, exit},
    pin_report::{PinReportOptions, PinStatus, ReportRow, Unchecked, report},
    progress_bar::Bar,
    session::{self, Logs},
    source_options::SourceOptions,
    verification,
};
use taglog_image_sources::{self as sources, FoundImage, Options, Skipped, SourceFile};
use taglog_pin::{
    decide::{NamedImage, PinAction, PinDecisions, PinMode, decide},
    rewrite::rewritten,
    write::{FileChange, replace_all},
};
use taglog_policy::Policy;
use taglog_verify::VerificationOptions;

/// Write the digests of images into the files that name them
#[derive(Debug, Args)]
#[command(after_help = format!("\
Examples:
  taglog pin -f Dockerfile -f compose.yaml -f k8s/
  taglog pin -f . --dry-run
  taglog pin -f . --check
  taglog pin -f . --update
  helm template chart | taglog pin -f - | kubectl apply -f -

repository:tag becomes repository:tag@sha256:…, and every other byte of the files stays. Only digests
that verify are written, as 'taglog verify' has it; if one image does not verify, no file is
touched. Each file is replaced whole.

Without --update the images that are pinned already are verified, and keep their pins. With it a pin is updated
to the newest digest that has settled (was first seen 'min-age' ago, else 24 h), where policy lets
the tag move, or to the digest that a person approved.

Images that contain variables cannot be pinned in place: the digest to write by hand is shown.

{}

{}", super::source_options::FILE_KINDS, super::context::EXIT_CODES))]
pub struct PinArgs {
    /// A file, a directory, or '-' for standard input, rewritten to standard output; may be repeated
    #[arg(short, long = "file", required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Write nothing; fail unless every image is pinned, and every pin verifies
    #[arg(long, conflicts_with_all = ["update", "dry_run"])]
    check: bool,
    /// Also update pins, where the tag may move and the new digest verifies and has settled
    #[arg(long)]
    update: bool,
    /// Write nothing; print what would change as a patch
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    sources: SourceOptions,
}

impl PinArgs {
    fn mode(&self) -> PinMode {
        match (self.check, self.update) {
            (true, _) => PinMode::Check,
            (_, true) => PinMode::Update,
            _ => PinMode::Pin,
        }
    }
}

/// The files that name images, and what is neither pinned nor checked in them.
struct ReadFiles {
    files: Vec<SourceFile>,
    unchecked: Unchecked,
    skipped: Vec<Skipped>,
}

/// Reads the files, decides about every image, and only then writes.
pub async fn run(global: &Global, args: PinArgs) -> Result<Report, Failure> {
    if !(args.check || matches!(global.report, ReportFormat::Text | ReportFormat::Json)) {
        return Err(Failure::usage("--output sarif, junit and github need 'pin --check': without it use text or json"));
    }
    let piped = args.files.iter().any(|path| path == Path::new("-")) && !args.check && !args.dry_run;
    if piped && (args.files.len() > 1 || global.report != ReportFormat::Text) {
        let remedy = "give no other file and no --output, or use --check or --dry-run";
        return Err(Failure::usage(format!("'-' is rewritten to standard output: {remedy}")));
    }
    let policy = session::policy(global)?;
    let options = args.sources.options(&policy)?;
    let ReadFiles { files, unchecked, skipped } = read(&args.files, &options)?;
    let notes = args.sources.notes(&policy, &skipped);
    let decisions = decided(global, policy, args.mode(), &files).await?;
    let rows: Vec<ReportRow> =
        files.iter().flat_map(|file| &file.found.images).map(|image| row(image, &decisions)).collect();
    let blocked = !decisions.misbehaviour.is_empty() || rows.iter().any(ReportRow::blocks);
    let changes = if blocked || args.check { Vec::new() } else { changes(&files, &options, &decisions)? };
    if !args.dry_run && !piped {
        replace_all(&changes).map_err(Failure::usage)?;
    }
    let report_options = PinReportOptions { format: global.report, dry_run: args.dry_run, check: args.check };
    let mut report = report(report_options, &rows, &unchecked, &changes, decisions.misbehaviour)?;
    report.notes.extend(notes);
    if piped { filtered(report, files, changes) } else { Ok(report) }
}

fn read(paths: &[PathBuf], options: &Options) -> Result<ReadFiles, Failure> {
    let (mut files, mut unchecked) = (Vec::new(), Unchecked::default());
    let besides = sources::read_each(paths, options, |file| {
        unchecked.left_out.extend(file.found.left_out.iter().cloned());
        unchecked.excluded.extend(file.found.excluded.iter().cloned());
        files.push(file);
    });
    let besides = besides.map_err(Failure::usage)?;
    unchecked.left_out.extend(besides.left_out);
    unchecked.excluded.extend(besides.excluded);
    Ok(ReadFiles { files, unchecked, skipped: besides.skipped })
}

/// The image with its pin; `None` for a digest without a tag.
fn named(image: &FoundImage) -> Option<NamedImage> {
    Some(NamedImage { image: image.image().ok()?, pin: image.reference.digest })
}

async fn decided(
    global: &Global,
    policy: Policy,
    mode: PinMode,
    files: &[SourceFile],
) -> Result<PinDecisions, Failure> {
    let all: BTreeSet<NamedImage> = files.iter().flat_map(|file| &file.found.images).filter_map(named).collect();
    if all.is_empty() {
        return Ok(PinDecisions::default());
    }
    let (_, lock) = session::lock(&policy)?;
    let logs = Logs::open(global, &policy)?;
    let verification_options = VerificationOptions { policy, lock, locked: false, settled: false, platform: None };
    let verifier = verification::verifier(global, &logs, verification_options)?.with_progress(Bar::images(all.len()));
    Ok(decide(&verifier, mode, &all).await?)
}

fn row(image: &FoundImage, decisions: &PinDecisions) -> ReportRow {
    let decision = named(image).and_then(|named| decisions.by_image.get(&named)).cloned();
    let status = match decision.as_ref().map(|decision| decision.action) {
        None => PinStatus::DigestAlone,
        Some(PinAction::Write(digest)) if image.span.is_none() => PinStatus::ByHand(digest),
        Some(PinAction::Write(digest)) if image.reference.digest.is_some() => PinStatus::Updated(digest),
        Some(PinAction::Write(digest)) => PinStatus::Pinned(digest),
        Some(PinAction::Keep) => PinStatus::Kept,
        Some(PinAction::Unpinned) => PinStatus::NotPinned,
        Some(PinAction::Ignored) => PinStatus::Ignored,
        Some(PinAction::Refused) => PinStatus::Refused,
        Some(PinAction::Unresolved) => PinStatus::Unresolved,
    };
    ReportRow { found: image.clone(), status, decision }
}

fn changes(files: &[SourceFile], options: &Options, decisions: &PinDecisions) -> Result<Vec<FileChange>, Failure> {
    let digest_of = |image: &FoundImage| match decisions.by_image.get(&named(image)?)?.action {
        PinAction::Write(digest) => Some(digest),
        _ => None,
    };
    let mut changes = Vec::new();
    for file in files {
        let after = rewritten(file, options, digest_of).map_err(Failure::usage)?;
        if after != file.bytes {
            changes.push(FileChange { path: file.path.clone(), before: file.bytes.clone(), after });
        }
    }
    Ok(changes)
}

/// Writes the rewritten standard input to standard output, and nothing unless every image is pinned. The report goes to
/// the notes.
fn filtered(report: Report, files: Vec<SourceFile>, changes: Vec<FileChange>) -> Result<Report, Failure> {
    let mut notes: Vec<String> = report.output.lines().map(str::to_owned).collect();
    notes.extend(report.notes);
    let changed = changes.into_iter().map(|change| change.after);
    let bytes = changed.chain(files.into_iter().map(|file| file.bytes)).next().filter(|_| report.exit == exit::OK);
    let output = String::from_utf8(bytes.unwrap_or_default()).map_err(Failure::usage)?;
    Ok(Report { output, notes, exit: report.exit })
}
