//! `taglog search`: finds the tags that ever had a digest, in the state of the last audit.

use std::fmt::Write as _;

use clap::Args;
use serde_json::{Value, json};
use taglog_proto::{entry::Seen, name::Digest};

use super::{
    context::{Failure, Format, Global, Report, exit},
    output::age,
    session::{self, Session, now},
};
use taglog_audit::{DigestSearchResult, search};

/// Find every tag that ever had a digest, in the audited entries
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  taglog audit && taglog search sha256:9a3e0c0d…

Searches the state of 'taglog audit' and sends no requests. Each line is one sighting of the digest: tag, time, witness, \
log index, and whether the witness's latest observation of the tag still has it.
Exit code 1: no tag had the digest in the audited entries.")]
pub struct SearchArgs {
    /// The digest: sha256: or sha512: and lower-case hex
    digest: Digest,
}

/// Searches the state and reports the result.
pub fn run(global: &Global, args: &SearchArgs) -> Result<Report, Failure> {
    let session = Session::open_under(global, &session::policy(global)?)?;
    let log = &session.trust.log;
    let directory = session.memory.audit_directory(log);
    let searched = search(&directory, log, &Seen::Digest(args.digest)).map_err(Failure::usage)?;
    let output = match global.output {
        Format::Json => format!("{}\n", to_json(args.digest, &searched)),
        Format::Text => to_text(args.digest, &searched),
    };
    let exit = if searched.found.is_empty() { exit::VERDICT } else { exit::OK };
    Ok(Report { output, notes: Vec::new(), exit })
}

fn to_json(digest: Digest, searched: &DigestSearchResult) -> Value {
    let found = searched.found.iter().map(|found| {
        json!({
            "image": found.image.to_string(),
            "witness": found.witness.to_string(),
            "observed": found.observed.to_string(),
            "index": found.index,
            "current": found.current,
        })
    });
    json!({
        "digest": digest.to_string(),
        "found": found.collect::<Vec<_>>(),
        "size": searched.seal.map_or(0, |seal| seal.size + 1),
        "sealed": searched.seal.map(|seal| seal.time.to_string()),
    })
}

fn to_text(digest: Digest, searched: &DigestSearchResult) -> String {
    let mut text = String::new();
    for found in &searched.found {
        let current = if found.current { "still current" } else { "no longer" };
        // Writing to a String cannot fail.
        let _ =
            writeln!(text, "{}  {}  {}  entry {}  {current}", found.image, found.observed, found.witness, found.index);
    }
    if searched.found.is_empty() {
        let _ = writeln!(text, "{digest}: no tag ever had it");
    }
    if let Some(seal) = searched.seal {
        let (size, age) = (seal.size + 1, age(seal.time, now()));
        let _ = writeln!(text, "audited: {size} entries, sealed {} ({age})", seal.time);
    }
    text
}
