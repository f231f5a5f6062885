//! `docker taglog`: this program as a plugin of Docker's command line, when it runs under the name `docker-taglog`.
//!
//! Docker asks a plugin what it is by the argument `docker-cli-plugin-metadata`, and else passes its whole command line
//! on: `docker --context x taglog verify …` becomes `docker-taglog --context x taglog verify …`, and `docker help
//! taglog` becomes `docker-taglog help taglog` (docker/cli, `cli-plugins/manager`).

use std::{ffi::OsString, os::unix::process::CommandExt as _, path::Path, process::Command};

use serde_json::json;

/// The name of the program under which it is a plugin.
const PLUGIN: &str = "docker-taglog";
/// The name of the command in Docker's command line.
const NAME: &str = "taglog";
/// The options of `docker` itself that have a value.
const WITH_VALUE: [&str; 10] =
    ["--config", "-c", "--context", "-H", "--host", "-l", "--log-level", "--tlscacert", "--tlscert", "--tlskey"];

/// What the program is asked to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Asked {
    /// Docker wants to know what the plugin is: print this.
    Metadata(String),
    /// A command line, with the name that help texts show first.
    Run(Vec<OsString>),
    /// The same in another environment: Docker's configuration is in this directory.
    Configured {
        /// What `docker --config` names.
        directory: OsString,
        /// The arguments of the plugin, from `taglog` on.
        arguments: Vec<OsString>,
    },
}

/// Reads the program's arguments, its own name first.
pub fn read(arguments: impl IntoIterator<Item = OsString>) -> Asked {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let is_plugin = arguments.first().is_some_and(|program| Path::new(program).file_stem() == Some(PLUGIN.as_ref()));
    if is_plugin { read_plugin(&arguments[1..]) } else { Asked::Run(arguments) }
}

fn read_plugin(arguments: &[OsString]) -> Asked {
    if arguments.first().is_some_and(|first| first == "docker-cli-plugin-metadata") {
        return Asked::Metadata(metadata());
    }
    let (directory, rest) = without_docker_options(arguments);
    match (directory, rest) {
        (Some(directory), rest) => Asked::Configured { directory, arguments: rest.to_vec() },
        (None, [help, name, rest @ ..]) if help == "help" && name == NAME => run([&["help".into()], rest].concat()),
        (None, [name, rest @ ..]) if name == NAME => run(rest.to_vec()),
        (None, rest) => run(rest.to_vec()),
    }
}

fn run(arguments: Vec<OsString>) -> Asked {
    Asked::Run([vec!["docker taglog".into()], arguments].concat())
}

/// What follows Docker's own options, and the directory that `--config` names.
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

/// Becomes the plugin once more, with Docker's configuration where `docker --config` says: the environment is the one
/// place in which every part of the program, and every credential helper, looks for it.
///
/// Returns only when that fails: why.
pub fn again(directory: &OsString, arguments: &[OsString]) -> std::io::Error {
    match std::env::current_exe() {
        Ok(program) => Command::new(program).arg0(PLUGIN).env("DOCKER_CONFIG", directory).args(arguments).exec(),
        Err(error) => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(arguments: &[&str]) -> Asked {
        read(arguments.iter().map(OsString::from))
    }

    fn runs(arguments: &[&str]) -> Asked {
        Asked::Run(arguments.iter().map(OsString::from).collect())
    }

    #[test]
    fn under_its_own_name_nothing_changes() {
        for arguments in [&["/usr/bin/taglog", "verify", "x"][..], &["taglog", "docker-cli-plugin-metadata"], &[]] {
            assert_eq!(asked(arguments), runs(arguments));
        }
    }

    #[test]
    fn docker_s_own_options_are_passed_over() {
        let want = runs(&["docker taglog", "verify", "-c", "x"]);
        for before in [
            &[][..],
            &["-D"],
            &["--context", "taglog"],
            &["-c", "taglog", "--tls"],
            &["--context=taglog", "--host", "tcp://taglog:1", "--log-level", "debug"],
        ] {
            let arguments = [&["/x/docker-taglog"], before, &["taglog", "verify", "-c", "x"]].concat();
            assert_eq!(asked(&arguments), want, "{arguments:?}");
        }
        assert_eq!(asked(&["docker-taglog", "help", "taglog", "verify"]), runs(&["docker taglog", "help", "verify"]));
        assert_eq!(asked(&["docker-taglog", "taglog", "--help"]), runs(&["docker taglog", "--help"]));
        assert_eq!(asked(&["docker-taglog", "--context"]), runs(&["docker taglog"]), "a value is missing");
    }

    #[test]
    fn docker_s_configuration_is_where_docker_says() {
        let want = |directory: &str| Asked::Configured {
            directory: directory.into(),
            arguments: ["taglog", "verify", "--config", "x"].map(OsString::from).to_vec(),
        };
        let rest = ["taglog", "verify", "--config", "x"];
        assert_eq!(asked(&[&["docker-taglog", "--config", "/c"], &rest[..]].concat()), want("/c"));
        assert_eq!(asked(&[&["docker-taglog", "-D", "--config=/d"], &rest[..]].concat()), want("/d"));
    }
}
