//! `docker taglog`: the program as a plugin of the Docker CLI, when it runs under the name `docker-taglog`.
//!
//! Docker calls a plugin with the argument `docker-cli-plugin-metadata` for its description, and otherwise with the whole
//! command line: `docker --context x taglog verify …` becomes `docker-taglog --context x taglog verify …`, and `docker help
//! taglog` becomes `docker-taglog help taglog` (docker/cli, `cli-plugins/manager`).

use std::{ffi::OsString, os::unix::process::CommandExt as _, path::Path, process::Command};

use serde_json::json;

/// The file name of the plugin.
const PLUGIN: &str = "docker-taglog";
/// The name of the command in the Docker CLI.
const NAME: &str = "taglog";
/// The options of `docker` itself that take a value.
const WITH_VALUE: [&str; 10] =
    ["--config", "-c", "--context", "-H", "--host", "-l", "--log-level", "--tlscacert", "--tlscert", "--tlskey"];

/// How the program was called.
#[derive(Debug, PartialEq, Eq)]
pub enum Invocation {
    /// Docker requests the description of the plugin: print this.
    Metadata(String),
    /// A command line; its first argument is the program name for help texts.
    Run(Vec<OsString>),
    /// As `Run`, but with another directory for Docker's configuration.
    Configured {
        /// The value of `docker --config`.
        directory: OsString,
        /// The arguments of the plugin, from `taglog` on.
        arguments: Vec<OsString>,
    },
}

/// Parses the program's arguments, of which the first is the program name.
pub fn read(arguments: impl IntoIterator<Item = OsString>) -> Invocation {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let is_plugin = arguments.first().is_some_and(|program| Path::new(program).file_stem() == Some(PLUGIN.as_ref()));
    if is_plugin { read_plugin(&arguments[1..]) } else { Invocation::Run(arguments) }
}

fn read_plugin(arguments: &[OsString]) -> Invocation {
    if arguments.first().is_some_and(|first| first == "docker-cli-plugin-metadata") {
        return Invocation::Metadata(metadata());
    }
    let (directory, rest) = without_docker_options(arguments);
    match (directory, rest) {
        (Some(directory), rest) => Invocation::Configured { directory, arguments: rest.to_vec() },
        (None, [help, name, rest @ ..]) if help == "help" && name == NAME => run([&["help".into()], rest].concat()),
        (None, [name, rest @ ..]) if name == NAME => run(rest.to_vec()),
        (None, rest) => run(rest.to_vec()),
    }
}

fn run(arguments: Vec<OsString>) -> Invocation {
    Invocation::Run([vec!["docker taglog".into()], arguments].concat())
}

/// The value of `--config`, and the arguments after Docker's own options.
fn without_docker_options(mut arguments: &[OsString]) -> (Option<OsString>, &[OsString]) {
    let mut directory = None;
    while let [option, rest @ ..] = arguments {
        let Some(text) = option.to_str().filter(|text| text.starts_with('-')) else { break };
        arguments = match (text.strip_prefix("--config="), rest) {
            (Some(value), _) => {
                directory = Some(value.into());
                rest
            }
            (None, [value, rest @ ..]) if WITH_VALUE.contains(&text) => {
                if text == "--config" {
                    directory = Some(value.clone());
                }
                rest
            }
            _ => rest,
        };
    }
    (directory, arguments)
}

fn metadata() -> String {
    let metadata = json!({
        "SchemaVersion": "0.1.0",
        "Vendor": "taglog",
        "Version": env!("CARGO_PKG_VERSION"),
        "ShortDescription": "Verify container tags with a transparency log",
    });
    format!("{metadata}\n")
}

/// Executes the plugin again with `DOCKER_CONFIG` set: the credential helpers also read it from the environment.
///
/// Returns only on failure.
pub fn reexec(directory: &OsString, arguments: &[OsString]) -> std::io::Error {
    match std::env::current_exe() {
        Ok(program) => Command::new(program).arg0(PLUGIN).env("DOCKER_CONFIG", directory).args(arguments).exec(),
        Err(error) => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn invocation(arguments: &[&str]) -> Invocation {
        read(arguments.iter().map(OsString::from))
    }

    fn runs(arguments: &[&str]) -> Invocation {
        Invocation::Run(arguments.iter().map(OsString::from).collect())
    }

    #[test]
    fn under_its_own_name_arguments_are_unchanged() {
        for arguments in [&["/usr/bin/taglog", "verify", "x"][..], &["taglog", "docker-cli-plugin-metadata"], &[]] {
            assert_eq!(invocation(arguments), runs(arguments));
        }
    }

    #[test]
    fn docker_s_own_options_are_skipped() {
        let want = runs(&["docker taglog", "verify", "-c", "x"]);
        for before in [
            &[][..],
            &["-D"],
            &["--context", "taglog"],
            &["-c", "taglog", "--tls"],
            &["--context=taglog", "--host", "tcp://taglog:1", "--log-level", "debug"],
        ] {
            let arguments = [&["/x/docker-taglog"], before, &["taglog", "verify", "-c", "x"]].concat();
            assert_eq!(invocation(&arguments), want, "{arguments:?}");
        }
        assert_eq!(
            invocation(&["docker-taglog", "help", "taglog", "verify"]),
            runs(&["docker taglog", "help", "verify"])
        );
        assert_eq!(invocation(&["docker-taglog", "taglog", "--help"]), runs(&["docker taglog", "--help"]));
        assert_eq!(invocation(&["docker-taglog", "--context"]), runs(&["docker taglog"]), "a value is missing");
    }

    #[test]
    fn the_configuration_directory_of_docker_is_used() {
        let want = |directory: &str| Invocation::Configured {
            directory: directory.into(),
            arguments: ["taglog", "verify", "--config", "x"].map(OsString::from).to_vec(),
        };
        let rest = ["taglog", "verify", "--config", "x"];
        assert_eq!(invocation(&[&["docker-taglog", "--config", "/c"], &rest[..]].concat()), want("/c"));
        assert_eq!(invocation(&[&["docker-taglog", "-D", "--config=/d"], &rest[..]].concat()), want("/d"));
    }
}
