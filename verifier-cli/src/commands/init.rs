//! `taglog init`: adds a log to the trust file.

use std::{fs, io::IsTerminal as _, path::Path, time::Duration};

use clap::Args;
use serde_json::json;
use taglog_proto::{
    checkpoint::SignedCheckpoint,
    cosignature::{Algorithm, CosignerKey},
    name::{Digest, HexBytes},
    note::VerifierKey,
};

use super::{
    context::{Failure, Format, Global, Report},
    session::trust_path,
};
use taglog_base::text::{for_terminal, one_line, path_line};
use taglog_log_client::{
    LogClient, LogDescription,
    trust::{Trust, TrustFile},
};

/// Trust a log: show who it is, ask, and write the trust file
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  taglog init https://log.example/taglog
  taglog init https://log.example/taglog --yes --vkey log.example/taglog+c6d2d89e+Abuv…
  taglog init https://log.example/taglog --cosigner a.example/c+4a…+BK… --cosigner b.example/c+9f…+BH… --quorum 1
  taglog init https://second.example/taglog --also

If the log has an ML-DSA-44 key beside its Ed25519 key, the trust file asks for the signatures of both. Cosigners are your \
own choice: those that the log names are shown, and never asked for by that, since a log that lies would name its friends. \
Know who they are, and give --cosigner for each that you believe.")]
pub struct InitArgs {
    /// The address of the log
    url: String,
    /// Do not ask: trust the keys in the log's own description, or those of --vkey
    #[arg(long)]
    yes: bool,
    /// The log's vkey, if you have it from its operator: any other is refused. Give its ML-DSA-44 vkey too if you have it
    #[arg(long, value_name = "VKEY")]
    vkey: Vec<String>,
    /// Believe the log only what cosigners have cosigned: the vkey of one; may be repeated
    #[arg(long, value_name = "VKEY")]
    cosigner: Vec<String>,
    /// How many of the cosigners must have cosigned [default: all]
    #[arg(long, value_name = "K", requires = "cosigner", value_parser = clap::value_parser!(u16).range(1..))]
    quorum: Option<u16>,
    /// Replace a trust file that trusts another log, or asks for other cosigners
    #[arg(long)]
    replace: bool,
    /// Trust this log besides those of the trust file, under the same cosigners
    #[arg(long, conflicts_with_all = ["replace", "cosigner"])]
    also: bool,
}

/// Fetches the log's description, checks that its keys sign its checkpoint, asks, writes.
pub async fn run(global: &Global, args: InitArgs) -> Result<Report, Failure> {
    args.vkey.iter().try_for_each(|vkey| check_form(vkey))?;
    let client = LogClient::new(&args.url, Duration::from_secs(global.timeout)).map_err(Failure::usage)?;
    let description = client.description().await.map_err(Failure::failed)?;
    let keys = DescribedKeys::of(&description)?;
    keys.check_wanted(&args.vkey)?;
    let checkpoint = client.checkpoint().await.map_err(Failure::failed)?;
    let checkpoint = SignedCheckpoint::parse(&checkpoint).map_err(Failure::failed)?;
    let size = checkpoint.verify(&keys.ed25519).map_err(Failure::misbehaved)?.size;

    let path = trust_path(global)?;
    let text = match args.also {
        true => extended(&path, &keys, client.url())?,
        false => wanted_text(&keys, client.url(), &args)?,
    };
    let file = TrustFile::parse(text.as_bytes()).map_err(Failure::usage)?;
    let trust = file.chosen(Some(keys.ed25519.name())).and_then(TrustFile::only).map_err(Failure::usage)?;
    trust.check(&checkpoint).map_err(Failure::failed)?;
    if !args.also {
        check_existing(&path, &trust, args.replace)?;
    }
    let named = named_cosigners(&description, &checkpoint, &trust);
    let summary = describe(&trust, size, &description.roster.witnesses, &named);
    if !args.yes {
        confirm(&summary)?;
    }
    write(&path, &text).map_err(|error| Failure::usage(format!("{}: {error}", path_line(&path))))?;
    Ok(match global.output {
        Format::Text => Report::done(format!("{summary}\nTrusted from now on: {}\n", path_line(&path))),
        Format::Json => {
            let log = &trust.log;
            let body = json!({
                "origin": log.name(), "vkey": log.to_string(), "fingerprint": fingerprint(log),
                "mlDsa": keys.ml_dsa.map(|key| key.to_string()),
                "cosigners": trust.policy().quorum_text(),
                "namedCosigners": named.iter().map(ToString::to_string).collect::<Vec<_>>(),
                "size": size, "trust": path.display().to_string(),
            });
            Report::done(format!("{body}\n"))
        }
    })
}

/// The public keys in a log's description.
struct DescribedKeys {
    ed25519: VerifierKey,
    ml_dsa: Option<CosignerKey>,
}

impl DescribedKeys {
    fn of(description: &LogDescription) -> Result<DescribedKeys, Failure> {
        let ed25519: VerifierKey = description.vkey.parse().map_err(Failure::failed)?;
        let others = description.vkeys.iter().filter_map(|vkey| vkey.parse::<CosignerKey>().ok());
        let mut ml_dsa = others.filter(|key| key.algorithm() == Algorithm::MlDsa44 && key.name() == ed25519.name());
        Ok(DescribedKeys { ml_dsa: ml_dsa.next(), ed25519 })
    }

    /// The lines of a trust file for this log.
    fn lines(&self, url: &str) -> String {
        let ml_dsa = self.ml_dsa.as_ref().map(|key| format!("log {key}\n")).unwrap_or_default();
        format!("log {} {url}\n{ml_dsa}", self.ed25519)
    }

    /// Checks the keys that the user has from the operator.
    fn check_wanted(&self, wanted: &[String]) -> Result<(), Failure> {
        let own: Vec<String> = [Some(self.ed25519.to_string()), self.ml_dsa.as_ref().map(CosignerKey::to_string)]
            .into_iter()
            .flatten()
            .collect();
        match wanted.iter().all(|vkey| own.contains(vkey)) {
            true => Ok(()),
            false => {
                let own = own.join(" and ");
                Err(Failure::misbehaved(format!("this log's key is {own}, not the one you gave: do not trust it")))
            }
        }
    }
}

/// Checks that this is a key of a log. A vkey has exactly one canonical encoding, so texts can be compared afterwards.
fn check_form(vkey: &str) -> Result<(), Failure> {
    match vkey.parse::<CosignerKey>() {
        Ok(key) if key.algorithm() == Algorithm::MlDsa44 => Ok(()),
        _ => vkey.parse::<VerifierKey>().map(drop).map_err(Failure::usage),
    }
}

/// The trust file for one log; cosigners are named after their keys.
fn wanted_text(keys: &DescribedKeys, url: &str, args: &InitArgs) -> Result<String, Failure> {
    let mut text = keys.lines(url);
    let mut names = Vec::new();
    for vkey in &args.cosigner {
        let key: CosignerKey = vkey.parse().map_err(Failure::usage)?;
        let name = format!("{}+{}", key.name(), key.key_id());
        text += &format!("witness {name} {key}\n");
        names.push(name);
    }
    let want = args.quorum.map_or_else(|| "all".to_owned(), |want| want.to_string());
    text += &match &names[..] {
        [] => "quorum none\n".to_owned(),
        names => format!("group cosigners {want} {}\nquorum cosigners\n", names.join(" ")),
    };
    let trust = TrustFile::parse(text.as_bytes()).and_then(TrustFile::only).map_err(Failure::usage)?;
    Ok(trust.to_text())
}

/// The existing trust file with the lines of this log appended.
fn extended(path: &Path, keys: &DescribedKeys, url: &str) -> Result<String, Failure> {
    let existing = fs::read_to_string(path).map_err(|error| Failure::usage(format!("{}: {error}", path_line(path))))?;
    Ok(format!("{}\n{}", existing.trim_end_matches('\n'), keys.lines(url)))
}

/// The cosigners that the log names and that have cosigned its checkpoint, without those of the trust file.
fn named_cosigners(description: &LogDescription, checkpoint: &SignedCheckpoint, trust: &Trust) -> Vec<CosignerKey> {
    let asked: Vec<&CosignerKey> = trust.policy().cosigners().iter().map(|cosigner| &cosigner.key).collect();
    let named = description.cosigners.iter().filter_map(|cosigner| cosigner.vkey.parse::<CosignerKey>().ok());
    named.filter(|key| !asked.contains(&key) && matches!(key.cosigned(checkpoint), Ok(Some(_)))).collect()
}

fn fingerprint(log: &VerifierKey) -> String {
    let Digest::Sha256(hash) = Digest::sha256(log.as_bytes()) else { return String::new() };
    let hex = HexBytes(&hash).to_string();
    let groups: Vec<String> =
        hex.as_bytes().chunks(4).map(|group| String::from_utf8_lossy(group).into_owned()).collect();
    groups.join(" ")
}

fn describe(trust: &Trust, size: u64, witnesses: &[String], named: &[CosignerKey]) -> String {
    let Trust { log, url, .. } = trust;
    let witnesses: Vec<String> = witnesses.iter().map(|vkey| format!("  {}", one_line(vkey))).collect();
    format!(
        "Log          {}\nAddress      {}\nVerifier key {log}\nFingerprint  {}\n{}Entries      {size}\nCosigners    {}\n{}\
         Witnesses    {}\n{}",
        log.name(),
        url.as_deref().unwrap_or(""),
        fingerprint(log),
        second_key(trust),
        cosigners(trust),
        suggestion(named),
        witnesses.len(),
        witnesses.join("\n"),
    )
}

fn second_key(trust: &Trust) -> String {
    let ml_dsa = trust.policy().logs().iter().find_map(|log| log.ml_dsa.as_ref());
    ml_dsa
        .map_or_else(String::new, |key| format!("Second key   ML-DSA-44, id {}: both must have signed\n", key.key_id()))
}

/// What cosigners the log names, which is no reason to believe them.
fn suggestion(named: &[CosignerKey]) -> String {
    if named.is_empty() {
        return String::new();
    }
    let keys: String = named.iter().map(|key| format!("  --cosigner {key}\n")).collect();
    format!(
        "The log also names these cosigners, which have cosigned its checkpoint; require those whose operators you know:\n{keys}"
    )
}

fn cosigners(trust: &Trust) -> String {
    match trust.policy().quorum_text() {
        Some(quorum) => quorum,
        None => "none: only the log's own signatures are required (see --cosigner)".to_owned(),
    }
}

/// Refuses to replace a trust file for another log without `--replace`.
fn check_existing(path: &Path, trust: &Trust, replace: bool) -> Result<(), Failure> {
    if replace || !path.exists() {
        return Ok(());
    }
    match TrustFile::read(path).and_then(TrustFile::only) {
        // A file that requires cosigners is not replaced by one without them.
        Ok(existing) if existing == *trust || (existing.log == trust.log && existing.is_plain()) => Ok(()),
        _ => Err(Failure::usage(format!(
            "{} exists and trusts something else, or asks for other cosigners: give --also to trust this log besides, \
             --replace, or another --trust",
            path_line(path)
        ))),
    }
}

fn confirm(description: &str) -> Result<(), Failure> {
    if !std::io::stdin().is_terminal() {
        let message = format!("{description}\nCompare the fingerprint with the operator's, and run again with --yes");
        return Err(Failure::usage(message));
    }
    let description = for_terminal(description, false);
    eprintln!("{description}\nCompare the fingerprint with what the log's operator publishes. Trust this log? [y/N]");
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).map_err(Failure::usage)?;
    if matches!(answer.trim(), "y" | "Y" | "yes") {
        Ok(())
    } else {
        Err(Failure::usage("not trusted; nothing was written"))
    }
}

fn write(path: &Path, text: &str) -> std::io::Result<()> {
    if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
        fs::create_dir_all(directory)?;
    }
    fs::write(path, text)
}
