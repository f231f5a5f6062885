//! `taglog completions`: scripts with which shells complete this command.

use clap::{Args, Command};
use clap_complete::{Shell, generate};
use serde_json::json;

use super::context::{Failure, Format, Global, Report};

/// Print a script with which a shell completes taglog's commands and options
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  taglog completions bash > ~/.local/share/bash-completion/completions/taglog
  taglog completions zsh > ~/.zfunc/_taglog
  taglog completions fish > ~/.config/fish/completions/taglog.fish")]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

/// The script, on standard output.
pub fn run(global: &Global, args: &CompletionsArgs, command: &mut Command) -> Result<Report, Failure> {
    let mut script = Vec::new();
    generate(args.shell, command, "taglog", &mut script);
    let script = String::from_utf8(script).map_err(Failure::failed)?;
    Ok(Report::done(match global.output {
        Format::Text => script,
        Format::Json => format!("{}\n", json!({ "shell": args.shell.to_string(), "script": script })),
    }))
}
