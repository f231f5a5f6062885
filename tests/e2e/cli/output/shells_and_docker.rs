//! Shell completions, man pages, and `taglog` as a plugin of Docker's command line.

use std::{
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;
use taglog_tests::binary;

use super::fixture::{FINE, MOVED, OutputFixture};
use taglog_tests::cli_fixture::{CommandOutput, User, pinned};

/// The commands that help texts list under a command.
fn commands_under(user: &User, command: &[&str]) -> Vec<String> {
    let help = user.run(&[command, &["--help"]].concat()).exits(0).stdout;
    let Some((_, list)) = help.split_once("Commands:\n") else { return Vec::new() };
    let names = list.lines().take_while(|line| !line.is_empty()).filter(|line| line.starts_with("  "));
    let names = names.filter(|line| !line.starts_with("   ")).map(|line| line.split_whitespace().next().unwrap());
    names.filter(|name| *name != "help").map(str::to_owned).collect()
}

#[test]
fn every_command_has_a_man_page() {
    let user = User::new();
    let answer = user.run_json(&["man", "new/man1"]).exits(0).json();
    let mut want = vec!["taglog.1".to_owned()];
    for command in commands_under(&user, &[]) {
        want.push(format!("taglog-{command}.1"));
        want.extend(commands_under(&user, &[&command]).iter().map(|sub| format!("taglog-{command}-{sub}.1")));
    }
    want.sort();
    let mut pages: Vec<&str> = answer["pages"].as_array().unwrap().iter().map(|page| page.as_str().unwrap()).collect();
    pages.sort_unstable();
    assert_eq!(pages, want);
    assert!(want.len() > 20, "{want:?}");
    for page in &want {
        let text = user.read(&format!("new/man1/{page}"));
        for heading in [".TH ", ".SH NAME", ".SH SYNOPSIS", ".SH OPTIONS"] {
            assert!(text.contains(heading), "{page}: {heading}");
        }
    }
    let verify = user.read("new/man1/taglog-verify.1");
    for section in [".SH EXAMPLES", ".SH VERDICTS", ".SH \"EXIT CODES\"", "TAGLOG_TRUST"] {
        assert!(verify.contains(section), "{section}: {verify}");
    }
    user.run(&["man", "new/man1"]).exits(0).prints(&["man pages in new/man1"]);
    user.write("file", "");
    user.run(&["man", "file/man1"]).exits(2).prints(&["file/man1"]);
}

/// What bash offers when a person presses the tabulator after these words.
fn offered(script: &Path, words: &[&str]) -> Vec<String> {
    let test = "source \"$0\"; COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); \
                _taglog taglog \"${COMP_WORDS[COMP_CWORD]}\" \"${COMP_WORDS[COMP_CWORD - 1]}\"; \
                printf '%s\\n' \"${COMPREPLY[@]}\"";
    let output = Command::new("bash").args(["--norc", "-c", test]).arg(script).args(words).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn shells_complete_commands_and_options() {
    let user = User::new();
    let script = user.run(&["completions", "bash"]).exits(0).stdout;
    let script = PathBuf::from(user.write("completions.bash", script));
    assert_eq!(offered(&script, &["taglog", "ver"]), ["verify"]);
    assert!(offered(&script, &["taglog", "verify", "--off"]).contains(&"--offline".to_owned()));
    assert_eq!(offered(&script, &["taglog", "verify", "--output", "sa"]), ["sarif"]);
    assert_eq!(offered(&script, &["taglog", "completions", "fi"]), ["fish"]);
    for (shell, word) in [("zsh", "#compdef taglog"), ("fish", "complete -c taglog"), ("elvish", "taglog")] {
        assert!(user.run(&["completions", shell]).exits(0).stdout.contains(word), "{shell}");
    }
    let answer = user.run_json(&["completions", "powershell"]).exits(0).json();
    assert!(answer["shell"] == "powershell" && answer["script"].as_str().unwrap().contains("taglog"));
    user.run(&["completions", "tcsh"]).exits(2).prints(&["bash", "zsh"]);
}

/// Docker's directory of plugins, with taglog in it.
fn plugin(user: &User) -> PathBuf {
    std::fs::create_dir_all(user.path("docker/cli-plugins")).unwrap();
    let plugin = user.path("docker/cli-plugins/docker-taglog");
    symlink(binary("taglog"), &plugin).unwrap();
    plugin
}

fn call(user: &User, program: &Path, arguments: &[&str]) -> CommandOutput {
    let like = user.command(&[]);
    let mut command = Command::new(program);
    command.args(arguments).env_clear().current_dir(user.path(""));
    command.envs(like.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output: Output = command.output().unwrap();
    CommandOutput::of(arguments, output)
}

/// Docker's command line asks for the metadata, then passes its own arguments on, as they are.
#[test]
fn works_as_a_plugin_called_as_docker_does() {
    let fixture = OutputFixture::new();
    let (user, plugin) = (&fixture.user, plugin(&fixture.user));
    let metadata: Value = call(user, &plugin, &["docker-cli-plugin-metadata"]).exits(0).json();
    assert_eq!((&metadata["SchemaVersion"], &metadata["Vendor"]), (&"0.1.0".into(), &"taglog".into()));
    assert!(metadata["ShortDescription"].is_string() && metadata["Version"].is_string(), "{metadata}");
    let (fine, moved) = (pinned(FINE, "fine"), pinned(MOVED, "evil"));
    call(user, &plugin, &["taglog", "verify", &fine]).exits(0).prints(&["ok "]);
    call(user, &plugin, &["--context", "taglog", "-D", "taglog", "verify", &moved]).exits(1).prints(&["retagged"]);
    call(user, &plugin, &["taglog", "--help"]).exits(0).prints(&["Usage: docker taglog"]);
    call(user, &plugin, &["help", "taglog", "verify"]).exits(0).prints(&["Usage: docker taglog verify"]);
    call(user, &plugin, &["taglog", "no-such-command"]).exits(2).prints(&["docker taglog"]);
    // Under its own name it is no plugin.
    user.run(&["docker-cli-plugin-metadata"]).exits(2);
}

/// Credentials are looked for where `docker --config` says.
#[test]
fn docker_s_configuration_is_used() {
    let fixture = OutputFixture::new();
    let (user, plugin) = (&fixture.user, plugin(&fixture.user));
    // A registry that requires a login, since without that no client looks for credentials. Its list of users is empty.
    let users = user.write("users", "");
    let login = format!("auth:\n  htpasswd:\n    realm: test\n    path: {users}\n");
    let registry = taglog_tests::Registry::start_with(&login);
    let image = format!("{}:1.0", registry.repository("team/app"));
    user.write("docker/config.json", "this is no JSON");
    let elsewhere = user.argument("docker");
    let broken = ["--config", &elsewhere, "taglog", "verify", &image];
    call(user, &plugin, &broken).exits(3).prints(&["config.json is not JSON"]);
    let answered = call(user, &plugin, &["taglog", "verify", &image]).exits(3);
    assert!(!answered.stdout.contains("config.json"), "{answered:?}");
}

/// With the real command line of Docker, where there is one. It needs no daemon.
#[test]
fn works_as_a_plugin_of_the_real_docker() {
    let path = std::env::var_os("PATH").unwrap();
    let Some(docker) = std::env::split_paths(&path).map(|directory| directory.join("docker")).find(|p| p.is_file())
    else {
        eprintln!("there is no docker here: the plugin was tested in the way docker calls it only");
        return;
    };
    let fixture = OutputFixture::new();
    let user = &fixture.user;
    plugin(user);
    let config = user.argument("docker");
    let docker = |arguments: &[&str]| call(user, &docker, &[&["--config", &config], arguments].concat());
    docker(&["--help"]).exits(0).prints(&["taglog*"]);
    docker(&["taglog", "verify", &pinned(FINE, "fine")]).exits(0).prints(&["ok "]);
    docker(&["taglog", "verify", &pinned(MOVED, "evil")]).exits(1).prints(&["retagged"]);
    docker(&["help", "taglog", "verify"]).exits(0).prints(&["Usage: docker taglog verify"]);
}
