//! `taglog keygen`: makes a witness's key.

use std::{fs, io::Write as _, os::unix::fs::OpenOptionsExt as _, path::PathBuf};

use clap::Args;
use taglog_proto::{name::WitnessName, note::SigningKey};

use super::{Failure, Report, session::config_path};

/// Make a witness's key: the secret goes to a file, the public vkey to standard output
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  taglog keygen witness.example/ams-1
  taglog keygen witness.example/ams-1 --key ./ams-1.key > ams-1.vkey")]
pub struct KeygenArgs {
    /// The witness's name for ever: a URL without scheme, of a-z, 0-9, '.', '_', '/', '-'
    name: String,
    /// Where to write the secret key, with mode 0600 [default: taglog/witness.key in the configuration directory]
    #[arg(long, value_name = "FILE", env = "TAGLOG_KEY")]
    key: Option<PathBuf>,
}

/// Makes a key. An existing file is never overwritten.
pub fn run(args: KeygenArgs) -> Result<Report, Failure> {
    WitnessName::parse(&args.name).map_err(Failure::usage)?;
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(Failure::failed)?;
    let key = SigningKey::from_seed(&args.name, &seed).map_err(Failure::usage)?;
    let path = args.key.map_or_else(|| config_path("witness.key"), Ok)?;
    write_secret(&path, &key).map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?;
    let mut report = Report::done(format!("{}\n", key.verifier_key()));
    report.notes = vec![
        format!("the secret key is in {}; keep a copy where nobody else can read it", path.display()),
        "give the vkey above to the operator of a log, who admits it as a witness".to_owned(),
    ];
    Ok(report)
}

fn write_secret(path: &std::path::Path, key: &SigningKey) -> std::io::Result<()> {
    if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
        fs::create_dir_all(directory)?;
    }
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    writeln!(file, "{}", key.to_secret_string())?;
    file.sync_all()
}
