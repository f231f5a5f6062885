//! `taglog keygen`: generates the key of a witness or a cosigner.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use clap::Args;
use serde_json::json;
use taglog_proto::{
    cosignature::{Algorithm, CosignerSigningKey},
    name::WitnessName,
    note::SigningKey,
};

use super::{
    context::{Failure, Format, Global, Report},
    session::config_path,
};
use taglog_base::text::path_line;

/// Generate the key of a witness or a cosigner: the secret key goes to a file, the vkey to standard output
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  taglog keygen witness.example/ams-1
  taglog keygen witness.example/ams-1 --key ./ams-1.key > ams-1.vkey
  taglog keygen --cosigner cosigner.example/ams --key ./cosigner.key
  taglog keygen --cosigner cosigner.example/ams --ml-dsa --key ./cosigner-ml-dsa.key")]
pub struct KeygenArgs {
    /// The permanent name of the witness: a URL without scheme, of a-z, 0-9, '.', '_', '/', '-'
    #[arg(required_unless_present = "cosigner")]
    name: Option<String>,
    /// Generate a cosigner's key with this name instead (a URL without scheme), for Ed25519 cosignatures
    #[arg(long, value_name = "NAME", conflicts_with = "name")]
    cosigner: Option<String>,
    /// Generate an ML-DSA-44 key for the cosigner, which is secure against quantum computers
    #[arg(long, requires = "cosigner", conflicts_with = "name")]
    ml_dsa: bool,
    /// Where to write the secret key, with mode 0600 [default: taglog/witness.key, cosigner.key or cosigner-ml-dsa.key
    /// in the configuration directory]
    #[arg(long, value_name = "FILE", env = "TAGLOG_KEY")]
    key: Option<PathBuf>,
}

/// A new key, its default file name, and a hint for the user.
struct NewKey {
    vkey: String,
    secret: String,
    file: &'static str,
    next: &'static str,
}

/// Generates a key. An existing file is never overwritten.
pub fn run(global: &Global, args: KeygenArgs) -> Result<Report, Failure> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(Failure::failed)?;
    let made = match (&args.name, &args.cosigner) {
        (_, Some(name)) => cosigner(name, args.ml_dsa, &seed)?,
        (name, None) => witness(name.as_deref().unwrap_or_default(), &seed)?,
    };
    let path = args.key.map_or_else(|| config_path(made.file), Ok)?;
    write_secret(&path, &made.secret).map_err(|error| unwritten(&path, &error))?;
    let mut report = Report::done(match global.output {
        Format::Text => format!("{}\n", made.vkey),
        Format::Json => format!("{}\n", json!({ "vkey": made.vkey, "key": path.display().to_string() })),
    });
    report.notes = vec![
        format!("the secret key is in {}; keep a copy where nobody else can read it", path_line(&path)),
        made.next.to_owned(),
    ];
    Ok(report)
}

fn witness(name: &str, seed: &[u8; 32]) -> Result<NewKey, Failure> {
    WitnessName::parse(name).map_err(Failure::usage)?;
    let key = SigningKey::from_seed(name, seed).map_err(Failure::usage)?;
    Ok(NewKey {
        vkey: key.verifier_key().to_string(),
        secret: key.to_secret_string(),
        file: "witness.key",
        next: "give the vkey above to the operator of a log, who admits it as a witness",
    })
}

fn cosigner(name: &str, ml_dsa: bool, seed: &[u8; 32]) -> Result<NewKey, Failure> {
    let (algorithm, file) = match ml_dsa {
        true => (Algorithm::MlDsa44, "cosigner-ml-dsa.key"),
        false => (Algorithm::Ed25519, "cosigner.key"),
    };
    let key = CosignerSigningKey::from_seed(name, algorithm, seed).map_err(Failure::usage)?;
    Ok(NewKey {
        vkey: key.key().to_string(),
        secret: key.to_secret_string(),
        file,
        next: "publish the vkey above: logs and those who verify name it in their policies",
    })
}

fn unwritten(path: &Path, error: &io::Error) -> Failure {
    let path = path_line(path);
    Failure::usage(match error.kind() {
        io::ErrorKind::AlreadyExists => format!("{path} exists, and a key is never overwritten: give another --key"),
        _ => format!("{path}: {error}"),
    })
}

fn write_secret(path: &Path, secret: &str) -> io::Result<()> {
    if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
        fs::create_dir_all(directory)?;
    }
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    writeln!(file, "{secret}")?;
    file.sync_all()
}
