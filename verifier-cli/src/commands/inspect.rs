//! `taglog inspect`: shows a file of the log's formats to people. Says of each signature and proof
//! whether it verifies, if a trust file is there.

use std::{
    fmt::Write as _,
    io::Read as _,
    path::{Path, PathBuf},
};

use clap::Args;
use serde_json::{Value, json};
use taglog_proto::{
    checkpoint::SignedCheckpoint,
    entry::Entry,
    evidence::Evidence,
    note::VerifierKey,
    receipt::Receipt,
    tag_proof::MAX_TAG_PROOF,
    tile::{FULL_WIDTH, decode_bundle},
};

use super::{
    Failure, Format, Global, Report, output,
    session::{Session, trust_path},
    verify::parse_proofs,
};
use crate::client::{
    lookup::{MISBEHAVIOUR, verify_saved},
    printable,
};

/// Show a checkpoint, entry, entry bundle, receipt, tag proof or evidence file to people
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  curl -s https://log.example/taglog/checkpoint | taglog inspect -
  taglog inspect app.tagproof
  curl -s https://log.example/taglog/tile/entries/000.p/5 | taglog inspect -

With a trust file, proofs and signatures are checked against it; without one, they are shown only.
Exit code 4 says that one does not verify.")]
pub struct InspectArgs {
    /// The file, or - for standard input
    file: PathBuf,
}

/// What was found, as pairs for people and programs, and whether it verifies.
struct Found {
    kind: &'static str,
    body: Value,
    text: String,
    /// `None` without a trust file.
    verified: Option<Result<(), String>>,
}

/// Recognizes the format by its first bytes.
pub fn run(global: &Global, args: &InspectArgs) -> Result<Report, Failure> {
    let bytes = read(&args.file).map_err(|error| Failure::usage(format!("{}: {error}", args.file.display())))?;
    let log = match trust_path(global)?.exists() {
        true => Some(Session::open(global)?.trust.log),
        false => None,
    };
    let found = inspect(&bytes, log.as_ref())
        .map_err(|error| Failure::usage(format!("{}: {}", args.file.display(), printable(&error))))?;
    let verdict = match (&found.verified, &log) {
        (Some(Ok(())), Some(log)) => format!("verified under {}", log.name()),
        (Some(Err(error)), _) => format!("DOES NOT VERIFY: {error}"),
        _ => "not verified: no trust file, or nothing to verify in it".to_owned(),
    };
    let mut report = Report::done(match global.output {
        Format::Text => format!("{}\n{}{verdict}\n", found.kind, found.text),
        Format::Json => {
            let verified = found.verified.as_ref().map(Result::is_ok);
            format!(
                "{}\n",
                json!({ "kind": found.kind, "verified": verified, "verdict": verdict, "content": found.body })
            )
        }
    });
    if matches!(found.verified, Some(Err(_))) {
        report.exit = super::exit::MISBEHAVED;
    }
    Ok(report)
}

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let limit = MAX_TAG_PROOF as u64 + 1;
    match path.as_os_str().to_str() {
        Some("-") => std::io::stdin().take(limit).read_to_end(&mut bytes)?,
        _ => std::fs::File::open(path)?.take(limit).read_to_end(&mut bytes)?,
    };
    if bytes.len() > MAX_TAG_PROOF {
        return Err(std::io::Error::other("the file is too large"));
    }
    Ok(bytes)
}

fn inspect(bytes: &[u8], log: Option<&VerifierKey>) -> Result<Found, String> {
    let text = std::str::from_utf8(bytes).unwrap_or("");
    if text.starts_with("c2sp.org/tlog-proof@v1\n") {
        return inspect_receipt(bytes, log);
    }
    if text.starts_with('{') {
        return inspect_json(text, log);
    }
    if text.starts_with("taglog/") {
        return inspect_entry(bytes);
    }
    if let Ok(checkpoint) = SignedCheckpoint::parse(bytes) {
        return Ok(inspect_checkpoint(&checkpoint, log));
    }
    match decode_bundle(bytes, FULL_WIDTH as usize) {
        Ok(entries) if !entries.is_empty() => inspect_bundle(&entries),
        _ => Err("neither a checkpoint, an entry, an entry bundle, a receipt, a tag proof nor evidence".to_owned()),
    }
}

fn inspect_json(text: &str, log: Option<&VerifierKey>) -> Result<Found, String> {
    let value: Value = serde_json::from_str(text).unwrap_or_default();
    match value["type"].as_str() {
        Some(kind) if kind == MISBEHAVIOUR => Ok(inspect_misbehaviour(value)),
        Some(kind) if kind.starts_with("taglog/evidence/") => inspect_evidence(text.as_bytes(), log),
        _ => inspect_proofs(text, log),
    }
}

/// What `taglog` kept of a false answer: shown, since it convicts nobody by itself.
fn inspect_misbehaviour(value: Value) -> Found {
    let error = printable(value["error"].as_str().unwrap_or(""));
    let size = |key: &str| {
        let checkpoint = SignedCheckpoint::parse(value[key].as_str().unwrap_or("").as_bytes());
        checkpoint.map_or_else(|_| "-".to_owned(), |checkpoint| checkpoint.unverified().size.to_string())
    };
    let text = format!(
        "error       {error}\nremembered  size {}\nanswered    size {}\n",
        size("remembered"),
        size("checkpoint")
    );
    Found { kind: "kept misbehaviour", body: value, text, verified: None }
}

fn inspect_checkpoint(checkpoint: &SignedCheckpoint, log: Option<&VerifierKey>) -> Found {
    let said = checkpoint.unverified();
    let signatures: Vec<String> =
        checkpoint.note().signatures.iter().map(|s| format!("{}+{}", printable(&s.name), s.key_id)).collect();
    let origin = printable(&said.origin);
    Found {
        kind: "checkpoint",
        text: format!(
            "origin  {origin}\nsize    {}\nroot    {}\nsigned  {}\n",
            said.size,
            said.root,
            signatures.join(", ")
        ),
        body: json!({ "origin": origin, "size": said.size, "root": said.root.to_base64(), "signatures": signatures }),
        verified: log.map(|log| checkpoint.verify(log).map(|_| ()).map_err(|error| error.to_string())),
    }
}

fn inspect_entry(bytes: &[u8]) -> Result<Found, String> {
    let entry = Entry::parse(bytes).map_err(|error| error.to_string())?;
    let text = entry.to_string();
    Ok(Found { kind: "entry", body: Value::from(text.clone()), text, verified: None })
}

fn inspect_bundle(entries: &[&[u8]]) -> Result<Found, String> {
    let mut text = String::new();
    let mut rows = Vec::new();
    for (i, bytes) in entries.iter().enumerate() {
        let entry = Entry::parse(bytes).map_err(|error| format!("entry {i} of the bundle: {error}"))?;
        // Writing to a String cannot fail.
        let _ = writeln!(text, "--- {i}\n{entry}");
        rows.push(Value::from(entry.to_string()));
    }
    Ok(Found { kind: "entry bundle", body: Value::from(rows), text, verified: None })
}

fn inspect_receipt(bytes: &[u8], log: Option<&VerifierKey>) -> Result<Found, String> {
    let receipt = Receipt::parse(bytes).map_err(|error| error.to_string())?;
    let said = receipt.checkpoint.unverified();
    let entry = receipt.extra.as_ref().map(|extra| printable_entry(extra)).unwrap_or_default();
    Ok(Found {
        kind: "receipt (tlog-proof)",
        text: format!(
            "index   {}\nlog     {} at {} entries\n\n{entry}\n",
            receipt.index,
            printable(&said.origin),
            said.size
        ),
        body: json!({ "index": receipt.index, "origin": said.origin, "size": said.size, "entry": entry }),
        verified: log.map(|log| receipt.verify_extra(log).map(|_| ()).map_err(|error| error.to_string())),
    })
}

fn printable_entry(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).chars().filter(|c| !c.is_control() || *c == '\n').collect()
}

fn inspect_proofs(text: &str, log: Option<&VerifierKey>) -> Result<Found, String> {
    let proofs = parse_proofs(text)?;
    let images: Vec<String> = proofs.iter().flat_map(|p| &p.images).map(|answer| printable(&answer.image)).collect();
    let unverified = format!("images  {}\n", images.join(", "));
    let Some(log) = log else {
        return Ok(Found { kind: "tag proof", text: unverified, body: json!({ "images": images }), verified: None });
    };
    let looked = match verify_saved(proofs, log) {
        Ok(looked) => looked,
        Err(error) => {
            let verified = Some(Err(error.to_string()));
            return Ok(Found { kind: "tag proof", text: unverified, body: json!({ "images": images }), verified });
        }
    };
    let mut text = String::new();
    let mut rows = Vec::new();
    for report in looked.parts.iter().flat_map(|part| &part.images) {
        let _ = write!(text, "{}\n{}", report.image, output::history_lines(report, "  "));
        rows.push(json!({ "image": report.image.to_string(), "history": output::history_json(report) }));
    }
    if let Some(part) = looked.oldest() {
        let _ = writeln!(text, "sealed  {} at {} entries", part.seal.time, part.checkpoint.size);
    }
    Ok(Found { kind: "tag proof", text, body: json!({ "images": rows }), verified: Some(Ok(())) })
}

fn inspect_evidence(bytes: &[u8], log: Option<&VerifierKey>) -> Result<Found, String> {
    let evidence = Evidence::from_json(bytes).map_err(|error| error.to_string())?;
    let convicts = log.map(|log| evidence.convict(log));
    let text = match &convicts {
        Some(Ok(accusation)) => format!("{accusation}\n"),
        Some(Err(_)) | None => String::new(),
    };
    let verified = convicts.map(|outcome| outcome.map(|_| ()).map_err(|error| error.to_string()));
    Ok(Found { kind: "evidence of misbehaviour", body: json!({ "says": text.trim_end() }), text, verified })
}
