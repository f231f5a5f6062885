//! `taglog audit`: re-derives everything that a log claims from its public data alone.

use std::{
    io::{BufWriter, ErrorKind},
    path::PathBuf,
    time::Instant,
};

use clap::Args;
use taglog_proto::{checkpoint::SignedCheckpoint, note::VerifierKey};

use super::{
    audit_classes::Classes,
    audit_report::AuditReport,
    context::{Failure, Format, Global, Report},
    progress_bar::Bar,
    session::{self, Session, now},
};
use taglog_audit::{AuditOutcome, AuditRunError, Auditor, AuditorError, FullReplay, Run};
use taglog_base::progress::Progress as _;
use taglog_log_client::{
    static_log::{StaticError, StaticLog},
    trust::Trust,
};

/// Audit a whole log: every entry, signature, rule, seal, tile and checkpoint
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  taglog audit                                   the log of the trust file
  taglog audit https://mirror.example/taglog     a mirror of it
  taglog audit /srv/taglog-mirror                a directory with 'checkpoint' and 'tile/'
  taglog audit --policy deploy/taglog.toml
  taglog audit --output json | jq '.retagged[] | select(.passes | not)'

Retagged tags are listed with the verdict that policy has on their history, as 'taglog verify' would evaluate it: which \
witnesses count, which tags may move (rules, then the shipped profiles), what was approved in taglog.lock. It is evaluated as of the \
log's last seal and by the log alone: no registry is asked, so there is no 'behind' or 'mismatch', and no manifest is \
compared, so what is 'retagged' here 'taglog verify' may find 'rebuilt'. No verdict changes the exit code.

The state directory keeps the progress: the next audit resumes there, also after an interruption. It also keeps every \
checkpoint that was ever verified, so a log that is truncated or forked is detected. Evidence of misbehaviour is written \
to 'evidence' in the state directory; 'taglog evidence verify' checks it with the log's key alone.

Exit code 3: data was unavailable, or needs a newer version of taglog; this is not misbehaviour.
Exit code 4: the log broke a rule, forked, or shrank.")]
pub struct AuditArgs {
    /// Where to read the log: a URL or a directory [default: the log of the trust file]
    location: Option<String>,
    /// Audit from the first entry on, whatever was audited before
    #[arg(long)]
    full: bool,
}

/// Runs one audit and reports the result.
pub async fn run(global: &Global, args: AuditArgs) -> Result<Report, Failure> {
    let policy = session::policy(global)?;
    let (_, lock) = session::lock(&policy)?;
    let session = Session::open_under(global, &policy)?;
    let log_key = &session.trust.log;
    let location = match &args.location {
        Some(location) => location.clone(),
        None => session.client()?.url().to_owned(),
    };
    let log = StaticLog::open(&location, global.timeout()).map_err(Failure::usage)?;
    let checkpoint = fetch_checkpoint(&log, &session.trust).await?;
    let remembered = session.memory.load(log_key).map_err(Failure::usage)?;

    let directory = session.memory.audit_directory(log_key);
    let (full_replay, auditor) = open(directory, log_key, args.full)?;
    let progress = Bar::entries("auditing");
    let begin = Instant::now();
    let seen = remembered.iter().cloned().collect();
    let run = Run { log: &log, checkpoint: &checkpoint, seen, progress: progress.shared(), follower: None };
    let (auditor, outcome) = run.audit(auditor).await.map_err(run_failure)?;
    let elapsed = begin.elapsed();
    progress.finish();

    let auditor = match full_replay {
        Some(full_replay) if outcome.complete => full_replay.replace(auditor).map_err(auditor_failure)?,
        _ => auditor,
    };
    if outcome.complete && outcome.behind.is_none() {
        session.memory.advance(log_key, remembered.as_ref(), &checkpoint).map_err(Failure::usage)?;
    }
    let classes = Classes::evaluate(&auditor, &policy, &lock).map_err(auditor_failure)?;
    let report = AuditReport {
        auditor: &auditor,
        checkpoint: checkpoint.unverified(),
        location: &location,
        outcome: &outcome,
        evidence: keep_evidence(&session, &outcome),
        classes: &classes,
        policy: &policy,
        is_copy: args.location.is_some(),
        elapsed,
        now: now(),
    };
    let output = match global.output {
        Format::Json => {
            print_json(&report)?;
            String::new()
        }
        Format::Text => report.text().map_err(auditor_failure)?,
    };
    Ok(Report { output, notes: report.notes(), exit: report.exit() })
}

fn print_json(report: &AuditReport<'_>) -> Result<(), Failure> {
    match report.write_json(&mut BufWriter::new(std::io::stdout().lock())) {
        // A reader that closes the pipe early is not an error.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::failed(format!("cannot write the report: {error}")))
        }
        _ => Ok(()),
    }
}

/// Fetches the checkpoint and checks that the log and the quorum of the trust file signed it.
async fn fetch_checkpoint(log: &StaticLog, trust: &Trust) -> Result<SignedCheckpoint, Failure> {
    let bytes = log.checkpoint().await.map_err(static_failure)?;
    let misbehaved = |error| Failure::misbehaved(format!("the checkpoint of {} is false: {error}", log.location()));
    let checkpoint = SignedCheckpoint::parse(&bytes).map_err(misbehaved)?;
    checkpoint.verify(&trust.log).map_err(misbehaved)?;
    trust.check(&checkpoint).map_err(Failure::failed)?;
    Ok(checkpoint)
}

fn static_failure(error: StaticError) -> Failure {
    Failure::failed(format!("{error} (unavailable, not evidence)"))
}

fn open(directory: PathBuf, log: &VerifierKey, full: bool) -> Result<(Option<FullReplay>, Auditor), Failure> {
    if full {
        let (full_replay, auditor) = FullReplay::open(&directory, log).map_err(auditor_failure)?;
        return Ok((Some(full_replay), auditor));
    }
    Ok((None, Auditor::open(&directory, log).map_err(auditor_failure)?))
}

fn auditor_failure(error: AuditorError) -> Failure {
    Failure::usage(error)
}

fn run_failure(error: AuditRunError) -> Failure {
    match error {
        AuditRunError::Auditor(error) => auditor_failure(error),
        AuditRunError::Thread(_) | AuditRunError::Follower(_) => Failure::failed(error),
    }
}

/// Writes the evidence of each finding to a file and returns its path; `None` for a finding without evidence.
fn keep_evidence(session: &Session, outcome: &AuditOutcome) -> Vec<Option<String>> {
    let findings = outcome.findings.iter().map(|finding| {
        let evidence = finding.evidence.as_ref()?;
        let kept = session.memory.keep_evidence(finding.kind.word(), evidence.to_json().as_bytes());
        Some(kept.map_or_else(|error| format!("(could not be kept: {error})"), |path| path.display().to_string()))
    });
    findings.collect()
}
