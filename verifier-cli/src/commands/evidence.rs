//! `taglog evidence`: verifies evidence of misbehaviour, and searches for it.

use std::{
    io::Read as _,
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use taglog_proto::{
    checkpoint::SignedCheckpoint,
    evidence::{Evidence, EvidenceError, MAX_EVIDENCE},
    note::VerifierKey,
    tag_proof::MAX_TAG_PROOF,
};

use super::{
    context::{Failure, Format, Global, Report, exit},
    progress_bar::Bar,
    session::Session,
};
use taglog_base::text::{one_line, path_line};
use taglog_evidence::{
    from_tag_proof::{Comparer, ProofFinding},
    split_view::Comparison,
    views::{ComparedView, View, compare_with},
};
use taglog_log_client::{
    lookup::{MISBEHAVIOUR, origin},
    memory::Memory,
    static_log::StaticLog,
};
use taglog_verify::saved::parse_proofs;

/// Verify evidence of misbehaviour, or search for it
#[derive(Debug, Args)]
pub struct EvidenceArgs {
    #[command(subcommand)]
    command: EvidenceCommand,
}

#[derive(Debug, Subcommand)]
enum EvidenceCommand {
    Verify(VerifyArgs),
    Compare(CompareArgs),
    FromProof(FromProofArgs),
}

/// Verify an evidence file offline with the log's key alone
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  taglog evidence verify misbehaviour-1f0c2a.json
  taglog evidence verify --vkey log.example/taglog+53d1a4be+AYY... fork.json

Exit codes: 0 the evidence proves misbehaviour of the log, 1 it does not, 2 the file is not an evidence file.")]
struct VerifyArgs {
    /// The evidence file, or - for standard input
    file: PathBuf,
    /// The log's public key [default: the trust file's]
    #[arg(long, value_name = "VKEY")]
    vkey: Option<VerifierKey>,
}

/// Compare the log's checkpoint with those of mirrors and cosigners, to find out whether all see the same history
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  taglog evidence compare --with https://mirror.example/taglog --with https://cosigner.example
  taglog evidence compare --checkpoint saved-last-year --with https://mirror.example/taglog

Compared are the log's checkpoint, the one remembered here, and those at the addresses given and of all cosigners that the
trust file names with an address. Two histories under the log's Ed25519 signature prove misbehaviour, whether or not its
ML-DSA-44 key and cosigners have signed both; the evidence is kept in the state directory (exit code 4).
Exit code 3: a checkpoint could not be compared, or the log's checkpoint lacks a signature that the trust file requires.
This is not evidence; try again later.")]
struct CompareArgs {
    /// A mirror's address or directory, or a cosigner's submission prefix; may be repeated
    #[arg(long, value_name = "LOCATION")]
    with: Vec<String>,
    /// A saved checkpoint of the log; may be repeated
    #[arg(long, value_name = "FILE")]
    checkpoint: Vec<PathBuf>,
}

/// Compare a saved tag proof with the log's entries, to find observations that it leaves out or makes up
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  taglog evidence from-proof app.tagproof
  taglog evidence from-proof app.tagproof --from /srv/taglog-mirror

All entries up to the proof's checkpoint are read, which is fastest from the directory of a mirror.
Evidence is kept in the state directory (exit code 4).")]
struct FromProofArgs {
    /// The saved tag proof
    file: PathBuf,
    /// Where to read entries and tiles: a log, a mirror or a directory [default: the trust file's log]
    #[arg(long, value_name = "LOCATION")]
    from: Option<String>,
}

/// Runs one of the subcommands.
pub async fn run(global: &Global, args: EvidenceArgs) -> Result<Report, Failure> {
    match args.command {
        EvidenceCommand::Verify(args) => verify(global, &args),
        EvidenceCommand::Compare(args) => compare(global, &args).await,
        EvidenceCommand::FromProof(args) => from_proof(global, &args).await,
    }
}

fn verify(global: &Global, args: &VerifyArgs) -> Result<Report, Failure> {
    let log = match &args.vkey {
        Some(vkey) => vkey.clone(),
        None => {
            let session = Session::open(global);
            session.map_err(|failure| Failure::usage(format!("{}; or give --vkey", failure.message)))?.trust.log
        }
    };
    let bytes = read(&args.file, MAX_EVIDENCE)?;
    let result = match Evidence::from_json(&bytes) {
        Ok(evidence) => evidence.proves_misbehaviour(&log),
        // 'taglog' keeps false answers in files of another type, which prove nothing to others but are not malformed.
        Err(EvidenceError::Json(_)) if is_kept_answer(&bytes) => {
            Err(EvidenceError::Incomplete("a second statement by the log: this is a false answer that was kept".into()))
        }
        Err(error) => {
            return Err(Failure::usage(format!("{}: {}", path_line(&args.file), one_line(&error.to_string()))));
        }
    };
    let (proven, sentence) = match result {
        Ok(accusation) => (true, one_line(&accusation)),
        Err(error) => (false, one_line(&error.to_string())),
    };
    let mut report = Report::done(match (global.output, proven) {
        (Format::Text, true) => format!("PROVES MISBEHAVIOUR: {sentence}\n"),
        (Format::Text, false) => format!("does not prove misbehaviour of {}: {sentence}\n", log.name()),
        (Format::Json, _) => {
            let key = if proven { "accusation" } else { "reason" };
            format!("{}\n", json!({ "convicts": proven, "log": log.name(), "kind": kind(&bytes), key: sentence }))
        }
    });
    report.exit = if proven { exit::OK } else { exit::VERDICT };
    Ok(report)
}

fn is_kept_answer(bytes: &[u8]) -> bool {
    kind(bytes).as_deref() == Some(MISBEHAVIOUR)
}

fn kind(bytes: &[u8]) -> Option<String> {
    let value: Value = serde_json::from_slice(bytes).ok()?;
    value["type"].as_str().map(str::to_owned)
}

fn read(path: &Path, limit: usize) -> Result<Vec<u8>, Failure> {
    let error = |error: std::io::Error| Failure::usage(format!("{}: {error}", path_line(path)));
    let reader: Box<dyn std::io::Read> = match path.as_os_str().to_str() {
        Some("-") => Box::new(std::io::stdin()),
        _ => Box::new(std::fs::File::open(path).map_err(error)?),
    };
    let mut bytes = Vec::new();
    reader.take(limit as u64 + 1).read_to_end(&mut bytes).map_err(error)?;
    if bytes.len() > limit {
        return Err(Failure::usage(format!("{}: it is over {limit} bytes", path_line(path))));
    }
    Ok(bytes)
}

async fn compare(global: &Global, args: &CompareArgs) -> Result<Report, Failure> {
    let session = Session::open(global)?;
    let log = &session.trust.log;
    let url = session.address()?;
    let tiles = StaticLog::open(url, global.timeout()).map_err(Failure::usage)?;
    let checkpoint = tiles.checkpoint().await.map_err(Failure::failed)?;
    let checkpoint = parse_checkpoint(&checkpoint, log).map_err(|error| Failure::failed(format!("{url}: {error}")))?;
    let own = View { source: url.to_owned(), checkpoint, tiles: Some(tiles) };
    let mut given = Vec::new();
    for path in &args.checkpoint {
        let checkpoint = parse_checkpoint(&read(path, taglog_proto::note::MAX_NOTE)?, log);
        let checkpoint = checkpoint.map_err(|error| Failure::usage(format!("{}: {error}", path_line(path))))?;
        given.push(View { source: path.display().to_string(), checkpoint, tiles: None });
    }
    if let Some(checkpoint) = session.memory.load(log).map_err(Failure::usage)? {
        given.push(View { source: "remembered".to_owned(), checkpoint, tiles: None });
    }
    let cosigners = session.trust.policy().cosigners().iter().filter_map(|cosigner| cosigner.url.clone());
    let locations: Vec<String> = args.with.iter().cloned().chain(cosigners).collect();
    if locations.is_empty() && given.is_empty() {
        return Err(Failure::usage("nothing to compare with: give --with LOCATION or --checkpoint FILE"));
    }
    let compared = compare_with(&own, given, &locations, log, global.timeout()).await;
    let mut report = compare_report(global.output, &own, &compared, &session.memory)?;
    // Checked last: two histories under the log's Ed25519 signature are misbehaviour even without the other signatures.
    if let Err(distrust) = session.trust.check(&own.checkpoint) {
        report.notes.push(distrust.to_string());
        report.exit = report.exit.max(exit::FAILED);
    }
    Ok(report)
}

fn parse_checkpoint(bytes: &[u8], log: &VerifierKey) -> Result<SignedCheckpoint, String> {
    let checkpoint = SignedCheckpoint::parse(bytes).map_err(|error| error.to_string())?;
    checkpoint.verify(log).map_err(|error| error.to_string())?;
    Ok(checkpoint)
}

fn compare_report(format: Format, own: &View, compared: &[ComparedView], memory: &Memory) -> Result<Report, Failure> {
    let size = own.checkpoint.unverified().size;
    let mut report = Report::done("");
    let mut rows = Vec::new();
    for ComparedView { source, size, outcome } in compared {
        let (result, detail) = match outcome {
            Ok(Comparison::Same) => ("same", None),
            Ok(Comparison::Consistent) => ("consistent", None),
            Ok(Comparison::Split(split)) => {
                report.exit = exit::MISBEHAVED;
                let path = memory.keep_evidence("split-view", split.evidence.to_json().as_bytes());
                let path = path.map_err(Failure::failed)?;
                report.notes.push(format!("THE LOG MISBEHAVES: {}; evidence: {}", split.accusation, path_line(&path)));
                ("split", Some(path.display().to_string()))
            }
            Err(error) => {
                report.exit = report.exit.max(exit::FAILED);
                ("unknown", Some(one_line(error)))
            }
        };
        rows.push((source.clone(), *size, result, detail));
    }
    report.output = match format {
        Format::Text => {
            let line = |(source, size, result, detail): &(String, Option<u64>, &str, Option<String>)| {
                let size = size.map_or_else(|| "-".to_owned(), |size| size.to_string());
                let detail = detail.as_ref().map(|detail| format!("  {detail}")).unwrap_or_default();
                format!("{result:<10}  {size:>10}  {}{detail}\n", one_line(source))
            };
            let own = format!("{:<10}  {size:>10}  {}\n", "log", own.source);
            own + &rows.iter().map(line).collect::<String>()
        }
        Format::Json => {
            let row = |(source, size, result, detail): &(String, Option<u64>, &str, Option<String>)| json!({ "source": source, "size": size, "result": result, "detail": detail });
            let rows: Vec<Value> = rows.iter().map(row).collect();
            format!("{}\n", json!({ "log": own.source, "size": size, "compared": rows }))
        }
    };
    Ok(report)
}

async fn from_proof(global: &Global, args: &FromProofArgs) -> Result<Report, Failure> {
    let session = Session::open(global)?;
    let log = &session.trust.log;
    let text = String::from_utf8(read(&args.file, MAX_TAG_PROOF)?).unwrap_or_default();
    let bad_file = |error: String| Failure::usage(format!("{}: {}", path_line(&args.file), one_line(&error)));
    let mut proofs = parse_proofs(&text).map_err(bad_file)?;
    proofs.retain(|proof| origin(proof) == log.name());
    if proofs.is_empty() {
        return Err(bad_file(format!("it has no proof of {}", log.name())));
    }
    let location = args.from.as_deref().map_or_else(|| session.address(), Ok)?;
    let tiles = StaticLog::open(location, global.timeout()).map_err(Failure::usage)?;
    let progress = Bar::entries("reading");
    let mut findings = Vec::new();
    for proof in &proofs {
        let comparer = Comparer::new(log, proof, &proofs, &tiles);
        let mut comparer = comparer.map_err(|error| bad_file(error.to_string()))?;
        findings.extend(comparer.phantoms().await.map_err(Failure::failed)?);
        findings.extend(comparer.omissions(&progress).await.map_err(Failure::failed)?);
    }
    findings_report(global.output, &findings, &session.memory)
}

fn findings_report(format: Format, findings: &[ProofFinding], memory: &Memory) -> Result<Report, Failure> {
    let mut report = Report::done("");
    let mut rows = Vec::new();
    for ProofFinding { evidence, accusation } in findings {
        let path = memory.keep_evidence("tag-proof", evidence.to_json().as_bytes()).map_err(Failure::failed)?;
        report.exit = exit::MISBEHAVED;
        report.notes.push(format!("THE LOG MISBEHAVES: {accusation}; evidence: {}", path_line(&path)));
        rows.push(json!({ "accusation": accusation, "evidence": path.display().to_string() }));
    }
    report.output = match format {
        Format::Text if findings.is_empty() => "the proof tells what the log's entries say\n".to_owned(),
        Format::Text => String::new(),
        Format::Json => format!("{}\n", json!({ "findings": rows })),
    };
    Ok(report)
}
