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
    receipt::Receipt,
    tag_proof::MAX_TAG_PROOF,
    tile::{FULL_WIDTH, decode_bundle},
};

use super::{
    context::{Failure, Format, Global, Report, exit},
    output,
    session::{trust_file, trust_path},
};
use taglog_base::text::{lines, one_line, path_line, whole_line};
use taglog_log_client::{
    lookup::{CosignedLookup, MISBEHAVIOUR, origin, verify_saved},
    trust::{Trust, TrustFile},
};
use taglog_verify::saved::parse_proofs;

/// Show a checkpoint, entry, entry bundle, receipt, tag proof or evidence file as text
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

/// The content as text and JSON, and whether it verifies.
struct Inspection {
    kind: &'static str,
    body: Value,
    text: String,
    /// The logs under whose keys it verifies, or why it does not; `None` without a trust file.
    verified: Option<Result<String, String>>,
}

/// Recognizes the format by its first bytes.
pub fn run(global: &Global, args: &InspectArgs) -> Result<Report, Failure> {
    let bytes = read(&args.file).map_err(|error| Failure::usage(format!("{}: {error}", path_line(&args.file))))?;
    let path = trust_path(global)?;
    let trust = if path.exists() { Some(trust_file(&path)?) } else { None };
    let found = inspect(&bytes, trust.as_ref().map(TrustFile::logs).unwrap_or_default())
        .map_err(|error| Failure::usage(format!("{}: {}", path_line(&args.file), one_line(&error))))?;
    let verdict = match &found.verified {
        Some(Ok(logs)) => format!("verified under {logs}"),
        Some(Err(error)) => format!("DOES NOT VERIFY: {error}"),
        None => "not verified: no trust file, or nothing to verify in it".to_owned(),
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
        report.exit = exit::MISBEHAVED;
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

fn inspect(bytes: &[u8], trust: &[Trust]) -> Result<Inspection, String> {
    let text = std::str::from_utf8(bytes).unwrap_or("");
    if text.starts_with("c2sp.org/tlog-proof@v1\n") {
        return inspect_receipt(bytes, trust);
    }
    if text.starts_with('{') {
        return inspect_json(text, trust);
    }
    if text.starts_with("taglog/") {
        return inspect_entry(bytes);
    }
    if let Ok(checkpoint) = SignedCheckpoint::parse(bytes) {
        return Ok(inspect_checkpoint(&checkpoint, trust));
    }
    match decode_bundle(bytes, FULL_WIDTH as usize) {
        Ok(entries) if !entries.is_empty() => inspect_bundle(&entries),
        _ => Err("neither a checkpoint, an entry, an entry bundle, a receipt, a tag proof nor evidence".to_owned()),
    }
}

fn inspect_json(text: &str, trust: &[Trust]) -> Result<Inspection, String> {
    let value: Value = serde_json::from_str(text).unwrap_or_default();
    match value["type"].as_str() {
        Some(kind) if kind == MISBEHAVIOUR => Ok(inspect_misbehaviour(value)),
        Some(kind) if kind.starts_with("taglog/evidence/") => inspect_evidence(text.as_bytes(), trust),
        _ => inspect_proofs(text, trust),
    }
}

/// A false response that `taglog` has stored. It is only shown, since it proves nothing by itself.
fn inspect_misbehaviour(value: Value) -> Inspection {
    let error = one_line(value["error"].as_str().unwrap_or(""));
    let size = |key: &str| {
        let checkpoint = SignedCheckpoint::parse(value[key].as_str().unwrap_or("").as_bytes());
        checkpoint.map_or_else(|_| "-".to_owned(), |checkpoint| checkpoint.unverified().size.to_string())
    };
    let text = format!(
        "error       {error}\nremembered  size {}\nanswered    size {}\n",
        size("remembered"),
        size("checkpoint")
    );
    Inspection { kind: "kept misbehaviour", body: value, text, verified: None }
}

fn inspect_checkpoint(checkpoint: &SignedCheckpoint, trust: &[Trust]) -> Inspection {
    let said = checkpoint.unverified();
    let signatures: Vec<String> =
        checkpoint.note().signatures.iter().map(|s| format!("{}+{}", s.name, s.key_id)).collect();
    let checked = log_of(trust, &said.origin).map(|log| log.check(checkpoint));
    let cosigned = checked.as_ref().and_then(|checked| checked.as_ref().ok()).cloned().unwrap_or_default();
    Inspection {
        kind: "checkpoint",
        text: format!(
            "origin  {}\nsize    {}\nroot    {}\nsigned  {}\n{}",
            one_line(&said.origin),
            said.size,
            said.root,
            whole_line(&signatures.join(", ")),
            output::cosigned_lines(&cosigned)
        ),
        body: json!({
            "origin": said.origin, "size": said.size, "root": said.root.to_base64(), "signatures": signatures,
            "cosignatures": output::cosignatures_json(&cosigned),
        }),
        verified: checked.map(|checked| checked.map(|_| said.origin.clone()).map_err(|error| error.to_string())),
    }
}

fn inspect_entry(bytes: &[u8]) -> Result<Inspection, String> {
    let entry = Entry::parse(bytes).map_err(|error| error.to_string())?;
    let text = entry.to_string();
    Ok(Inspection { kind: "entry", body: Value::from(text.clone()), text, verified: None })
}

fn inspect_bundle(entries: &[&[u8]]) -> Result<Inspection, String> {
    let mut text = String::new();
    let mut rows = Vec::new();
    for (i, bytes) in entries.iter().enumerate() {
        let entry = Entry::parse(bytes).map_err(|error| format!("entry {i} of the bundle: {error}"))?;
        // Writing to a String cannot fail.
        let _ = writeln!(text, "--- {i}\n{entry}");
        rows.push(Value::from(entry.to_string()));
    }
    Ok(Inspection { kind: "entry bundle", body: Value::from(rows), text, verified: None })
}

fn inspect_receipt(bytes: &[u8], trust: &[Trust]) -> Result<Inspection, String> {
    let receipt = Receipt::parse(bytes).map_err(|error| error.to_string())?;
    let said = receipt.checkpoint.unverified();
    let entry = receipt.extra.as_ref().map(|extra| lines(&String::from_utf8_lossy(extra))).unwrap_or_default();
    Ok(Inspection {
        kind: "receipt (tlog-proof)",
        text: format!(
            "index   {}\nlog     {} at {} entries\n\n{entry}\n",
            receipt.index,
            one_line(&said.origin),
            said.size
        ),
        body: json!({ "index": receipt.index, "origin": said.origin, "size": said.size, "entry": entry }),
        verified: log_of(trust, &said.origin).map(|log| check_receipt(&receipt, log)),
    })
}

fn check_receipt(receipt: &Receipt, log: &Trust) -> Result<String, String> {
    receipt.verify_extra(&log.log).map_err(|error| error.to_string())?;
    log.check(&receipt.checkpoint).map_err(|error| error.to_string())?;
    Ok(log.origin().to_owned())
}

/// The log of this origin; the first log for an origin that the trust file does not name, so that its error is shown.
fn log_of<'a>(trust: &'a [Trust], origin: &str) -> Option<&'a Trust> {
    trust.iter().find(|log| log.origin() == origin).or(trust.first())
}

fn inspect_proofs(text: &str, trust: &[Trust]) -> Result<Inspection, String> {
    let proofs = parse_proofs(text)?;
    let images: Vec<String> = proofs.iter().flat_map(|p| &p.images).map(|answer| answer.image.clone()).collect();
    let unverified = format!("images  {}\n", whole_line(&images.join(", ")));
    let is_here = |log: &&Trust| proofs.iter().any(|proof| origin(proof) == log.origin());
    let mut logs: Vec<Trust> = trust.iter().filter(is_here).cloned().collect();
    if logs.is_empty() {
        logs.extend(trust.first().cloned());
    }
    if logs.is_empty() {
        return Ok(Inspection {
            kind: "tag proof",
            text: unverified,
            body: json!({ "images": images }),
            verified: None,
        });
    }
    let looked = match verify_saved(proofs, &logs) {
        Ok(looked) => looked,
        Err(error) => {
            let verified = Some(Err(error.to_string()));
            return Ok(Inspection { kind: "tag proof", text: unverified, body: json!({ "images": images }), verified });
        }
    };
    let mut text = String::new();
    let mut rows = Vec::new();
    for looked in &looked {
        for report in looked.parts.iter().flat_map(|part| &part.lookup.images) {
            let _ = write!(text, "{}\n{}", report.image, output::history_lines(report, "  "));
            let (image, history) = (report.image.to_string(), output::history_json(report));
            rows.push(json!({ "log": looked.log, "image": image, "history": history }));
        }
        if let Some(CosignedLookup { lookup, cosigned }) = looked.oldest() {
            let (log, sealed, size) = (&looked.log, lookup.seal.time, lookup.checkpoint.size);
            let _ = writeln!(text, "log     {log}\nsealed  {sealed} at {size} entries");
            text += &output::cosigned_lines(cosigned);
        }
    }
    let verified = logs.iter().map(Trust::origin).collect::<Vec<_>>().join(", ");
    Ok(Inspection { kind: "tag proof", text, body: json!({ "images": rows }), verified: Some(Ok(verified)) })
}

fn inspect_evidence(bytes: &[u8], trust: &[Trust]) -> Result<Inspection, String> {
    let evidence = Evidence::from_json(bytes).map_err(|error| error.to_string())?;
    let prove = |log: &Trust| match evidence.proves_misbehaviour(&log.log) {
        Ok(accusation) => Ok((format!("{accusation}\n"), log.origin().to_owned())),
        Err(error) => Err(error.to_string()),
    };
    // The evidence is about one log; errors under the other keys do not matter if it verifies under one.
    let results = trust.iter().map(prove).reduce(|one, other| one.or(other));
    let text = results.iter().flatten().map(|(accusation, _)| accusation.clone()).collect::<String>();
    let verified = results.map(|result| result.map(|(_, log)| log));
    Ok(Inspection { kind: "evidence of misbehaviour", body: json!({ "says": text.trim_end() }), text, verified })
}
