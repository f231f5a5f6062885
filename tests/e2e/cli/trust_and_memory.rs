//! `taglog init`, the trust file, the memory of verified checkpoints, and usage errors of every command.

use std::process::Stdio;

use taglog_tests::cli_fixture::{APP, User, add, pinned, proxy::Proxy, wait, with_same_key};
use taglog_tests::{Server, Witness, server::ORIGIN, witness::now};

fn log() -> Server {
    let witness = Witness::new(1);
    let server = Server::start(&[&witness], "");
    add(&server, &[witness.observe(APP, "a", now())]);
    server
}

#[test]
fn init_shows_the_identity_of_the_log_and_writes_the_trust_file() {
    let server = log();
    let user = User::new();
    let vkey = server.vkey.to_string();
    let asked = user.run(&["init", &server.url]).exits(2).prints(&[ORIGIN, &vkey, "Fingerprint", "--yes"]);
    assert!(!user.path("trust").exists(), "nobody has agreed: {asked:?}");
    let witness = Witness::new(1).vkey().to_string();
    user.run(&["init", &server.url, "--yes"]).exits(0).prints(&[
        ORIGIN,
        &vkey,
        &server.url,
        &witness,
        "Trusted from now on",
    ]);
    let trust = user.read("trust");
    assert!(trust.contains(&format!("log {vkey} {}\n", server.url)) && trust.ends_with("quorum none\n"), "{trust}");
    user.run(&["verify", &pinned(APP, "a")]).exits(0);
    user.run(&["init", &format!("{}/", server.url), "--yes"]).exits(0);
    assert_eq!(user.read("trust"), trust, "again is no change");

    let answer = user.run_json(&["init", &server.url, "--yes", "--vkey", &vkey]).exits(0).json();
    assert_eq!((&answer["origin"], &answer["vkey"]), (&ORIGIN.into(), &vkey.into()));
    let fingerprint = answer["fingerprint"].as_str().unwrap();
    assert!(fingerprint.len() == 79 && asked.stderr.contains(fingerprint), "{fingerprint}");
    user.run(&["init", &server.url, "--yes", "--trust", &user.argument("new/directory/trust")]).exits(0);
    assert!(user.path("new/directory/trust").exists());
}

#[test]
fn init_refuses_another_key_than_the_one_given() {
    let (server, other) = (log(), log());
    let user = User::new();
    let wrong = other.vkey.to_string();
    let refused = user.run(&["init", &server.url, "--yes", "--vkey", &wrong]).exits(4).has_empty_stdout();
    refused.prints(&["do not trust it", &server.vkey.to_string()]);
    assert!(!user.path("trust").exists());
}

/// A malformed key is the user's mistake, not the log's.
#[test]
fn init_reports_a_malformed_vkey() {
    let server = log();
    let user = User::new();
    let vkey = server.vkey.to_string();
    for bad in ["", "nonsense", &vkey[..vkey.len() - 1]] {
        user.run(&["init", &server.url, "--yes", "--vkey", bad]).exits(2).has_empty_stdout();
        assert!(!user.path("trust").exists());
    }
}

#[test]
fn init_does_not_replace_another_trust_file_by_accident() {
    let (server, other) = (log(), log());
    let user = User::trusting(&server);
    let trust = user.read("trust");
    user.run(&["init", &other.url, "--yes"]).exits(2).prints(&[&user.argument("trust"), "--replace"]);
    assert_eq!(user.read("trust"), trust);
    user.write("trust", "my notes\n");
    user.run(&["init", &other.url, "--yes"]).exits(2).prints(&["--replace"]);
    assert_eq!(user.read("trust"), "my notes\n");
    user.run(&["init", &other.url, "--yes", "--replace"]).exits(0);
    assert!(user.read("trust").contains(&other.vkey.to_string()));
    user.run(&["verify", &pinned(APP, "a")]).exits(0);
}

#[test]
fn init_refuses_a_server_that_is_no_log() {
    let server = log();
    let user = User::new();
    user.run(&["init", "http://127.0.0.1:1", "--yes"]).exits(3).prints(&["cannot reach the log at http://127.0.0.1:1"]);
    user.run(&["init", &format!("{}/tile", server.url), "--yes"]).exits(3);
    for bad in ["nonsense", "ftp://log.example", "/a/path", "log.example/taglog", ""] {
        user.run(&["init", bad, "--yes"]).exits(2).prints(&["not the http or https address"]);
    }
    let forged = Proxy::editing(&server, "/checkpoint", |text| text.replacen('\n', "\n9", 1));
    user.run(&["init", &forged.url, "--yes"]).exits(4).has_empty_stdout().prints(&["does not verify"]);
    let (one, two) = (server.vkey.to_string(), Witness::new(1).vkey().to_string());
    let claims = Proxy::editing(&server, "/api/v1/log", move |text| text.replace(&one, &two));
    user.run(&["init", &claims.url, "--yes"]).exits(4).has_empty_stdout();
    let control =
        Proxy::editing(&server, "/api/v1/log", |text| text.replace("witness.example", "\\u001b[2Jwitness.example"));
    let shown = user.run(&["init", &control.url]);
    assert!(!shown.stderr.contains('\u{1b}'), "the log steers the terminal: {shown:?}");
    assert!(!user.path("trust").exists());
}

#[test]
fn invalid_trust_files_are_refused() {
    let server = log();
    let (user, url, vkey) = (User::new(), &server.url, server.vkey.to_string());
    let log = format!("log {vkey} {url}");
    let image = pinned(APP, "a");
    let missing = user.run(&["verify", &image]).exits(2).has_empty_stdout();
    missing.prints(&[&user.argument("trust"), "taglog init"]);
    let cosigner = Witness::new(8).vkey().to_string();
    for (text, words) in [
        (String::new(), &["no 'quorum' line"][..]),
        (format!("{log}\n"), &["no 'quorum' line"]),
        ("quorum none\n".to_owned(), &["no 'log' line"]),
        (format!("{log}\n{log}\nquorum none\n"), &["line 2", "second log"]),
        (format!("{log}\nwitness c {cosigner}\nquorum c\n"), &["line 2", "cosigners"]),
        (format!("{log}\nquorum c\n"), &["line 2", "defines \"c\""]),
        (format!("{log}\ngroup g 1 c\nquorum none\n"), &["line 2", "defines \"c\""]),
        (format!("{log}\nquorum none\nquorum none\n"), &["line 3", "second quorum"]),
        (format!("{log} more\nquorum none\n"), &["line 1"]),
        (format!("log {} {url}\nquorum none\n", &vkey[..vkey.len() - 4]), &["line 1"]),
        ("log\nquorum none\n".to_owned(), &["line 1"]),
        (format!("Log {vkey}\nquorum none\n"), &["line 1", "want 'log"]),
        (format!("log {vkey} ftp://x\nquorum none\n"), &["ftp://x", "not the http or https address"]),
    ] {
        user.write("trust", &text);
        for command in ["verify", "observe", "history"] {
            user.use_key(&Witness::new(1));
            user.run(&[command, &image]).exits(2).has_empty_stdout().prints(words);
        }
    }
    user.write("trust", format!("# the log\n\n  log\t{vkey}   {url}\nquorum none"));
    user.run(&["verify", &image]).exits(0);
}

/// There may be several trust files, and the environment may name one that the user has forgotten.
#[test]
fn a_bad_trust_file_is_named_by_its_path() {
    let user = User::new();
    for text in ["", "nonsense\n"] {
        let file = user.write("trust", text);
        user.run(&["history", APP]).exits(2).prints(&["trust file", &file]);
    }
}

#[test]
fn a_checkpoint_by_another_key_is_misbehaviour() {
    let (server, other) = (log(), log());
    let user = User::new();
    user.trust(&other.vkey, &server.url);
    user.run(&["verify", &pinned(APP, "a")]).exits(4).prints(&["THE LOG MISBEHAVES", "not signed by"]);
    assert!(user.remembered().is_empty());
}

#[test]
fn the_newest_verified_checkpoint_is_remembered() {
    let witness = Witness::new(1);
    let server = log();
    let user = User::trusting(&server);
    assert!(user.remembered().is_empty());
    for i in 0..3 {
        user.run(&["history", APP]).exits(0);
        assert_eq!(user.remembered(), [wait(server.checkpoint()).to_string()], "one file for one log");
        add(&server, &[witness.observe(APP, "a", now() + 1 + i)]);
        user.run(&["verify", &pinned(APP, "a")]).exits(0);
        assert_eq!(user.remembered(), [wait(server.checkpoint()).to_string()]);
    }
    // Another log, even of the same origin, has a memory of its own.
    let other = log();
    user.trust(&other.vkey, &other.url);
    user.run(&["history", APP]).exits(0);
    assert_eq!(user.remembered().len(), 2);
}

#[test]
fn a_damaged_memory_is_not_replaced() {
    let server = log();
    let user = User::witnessing(&server, &Witness::new(1));
    let image = pinned(APP, "a");
    user.run(&["verify", &image]).exits(0);
    let good = user.remembered().remove(0);
    let directory = std::fs::read_dir(user.path("state")).unwrap().map(|entry| entry.unwrap().path());
    let file = directory.into_iter().find(|path| path.extension().is_some_and(|e| e == "checkpoint")).unwrap();
    let name = file.to_str().unwrap().to_owned();
    let foreign = wait(log().checkpoint()).to_string();
    for damaged in ["", "nonsense", &good[..good.len() / 2], &good.replacen('\n', "\n9", 1), &foreign] {
        std::fs::write(&file, damaged).unwrap();
        user.run(&["verify", &image]).exits(2).has_empty_stdout().prints(&[&name, "damaged", "find out why"]);
        user.run(&["history", APP]).exits(2).prints(&[&name, "damaged"]);
        assert_eq!(user.remembered(), [damaged], "it is left for people to look at");
    }
    std::fs::write(&file, &good).unwrap();
    user.run(&["verify", &image]).exits(0);
    std::fs::remove_file(&file).unwrap();
    user.run(&["verify", &image]).exits(0);
    assert_eq!(user.remembered(), [good]);
}

/// A witness must not log what it then cannot account for.
#[test]
fn a_damaged_memory_is_detected_before_anything_is_submitted() {
    let server = log();
    let user = User::witnessing(&server, &Witness::new(1));
    user.run(&["history", APP]).exits(0);
    let entries = std::fs::read_dir(user.path("state")).unwrap().map(|entry| entry.unwrap().path());
    let file = entries.into_iter().find(|path| path.extension().is_some_and(|e| e == "checkpoint")).unwrap();
    std::fs::write(file, "nonsense").unwrap();
    let size = wait(server.size());
    let digest = taglog_tests::cli_fixture::other_digest().to_string();
    user.run(&["observe", "--digest", &digest, "registry.example/team/new:1"]).exits(2).prints(&["damaged"]);
    assert_eq!(wait(server.size()), size, "the observation was logged all the same");
}

#[test]
fn a_memory_that_cannot_be_written_is_an_error() {
    let server = log();
    let user = User::trusting(&server);
    user.write("state", "a file, no directory");
    user.run(&["verify", &pinned(APP, "a")]).exits(2).prints(&[&user.argument("state")]);
    assert_eq!(user.read("state"), "a file, no directory");
}

/// With nothing but a home directory: the defaults of the XDG base directories.
#[test]
fn files_are_in_the_users_directories_by_default() {
    let server = log();
    let user = User::new();
    let run = |arguments: &[&str]| {
        let mut command = user.command(arguments);
        for variable in ["TAGLOG_TRUST", "TAGLOG_STATE", "TAGLOG_KEY"] {
            command.env_remove(variable);
        }
        taglog_tests::cli_fixture::CommandOutput::of(arguments, command.output().unwrap())
    };
    run(&["keygen", "witness.example/home"]).exits(0);
    run(&["init", &server.url, "--yes"]).exits(0);
    run(&["verify", &pinned(APP, "a")]).exits(0);
    for file in [".config/taglog/witness.key", ".config/taglog/trust", ".local/state/taglog"] {
        assert!(user.path(file).exists(), "{file}");
    }
}

/// Two logs with one key and one history so far: the memory does not care where a log is served.
#[test]
fn memory_is_stored_by_key_and_not_by_address() {
    let server = log();
    let user = User::trusting(&server);
    user.run(&["history", APP]).exits(0);
    let twin = with_same_key(&server, &[&Witness::new(1)]).start();
    user.trust(&server.vkey, &twin.url);
    user.run(&["history", APP]).exits(4).prints(&["THE LOG MISBEHAVES"]);
    user.run(&["init", &twin.url, "--yes"]).exits(0);
    user.run(&["history", APP]).exits(4).prints(&["THE LOG MISBEHAVES"]);
}

#[test]
fn usage_errors_are_named() {
    let server = log();
    let user = User::witnessing(&server, &Witness::new(1));
    let digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let long = format!("a.example/{}:1", "a".repeat(300));
    let alone = format!("busybox@{digest}");
    let wrong: &[(&[&str], &[&str])] = &[
        (&[], &["Usage"]),
        (&["nosuch"], &["nosuch", "Usage"]),
        (&["--timeout", "x", "history", APP], &["--timeout", "x"]),
        (&["--output", "xml", "history", APP], &["--output", "xml", "json"]),
        (&["verify"], &["IMAGE"]),
        (&["verify", "--bogus", APP], &["--bogus"]),
        (&["verify", "UPPER/x:1"], &["UPPER/x"]),
        (&["verify", "a b"], &["a b"]),
        (&["verify", ""], &["repository"]),
        (&["verify", "busybox:"], &["tag"]),
        (&["verify", "busybox:-x"], &["-x"]),
        (&["verify", "a.example/b:1@sha256:12"], &["sha256:12", "64"]),
        (&["verify", "a.example/b:1@md5:12"], &["md5:12"]),
        (&["verify", "https://a.example/b:1"], &["registry"]),
        (&["verify", "git+https://a.example/b:1"], &["git+"]),
        (&["verify", &long], &["255"]),
        (&["verify", &alone], &[&alone, "names no tag"]),
        (&["verify", "--max-age", "5", APP], &["--max-age", "24h"]),
        (&["verify", "--max-age", "-5s", APP], &["-5"]),
        (&["verify", "--freshness", "soon", APP], &["--freshness", "soon"]),
        (&["verify", "--freshness", "99999999999999999999d", APP], &["--freshness"]),
        (&["verify", "--witnesses", "0", APP], &["--witnesses", "0"]),
        (&["verify", "--witnesses", "many", APP], &["--witnesses", "many"]),
        (&["verify", "--moving", "!", APP], &["\"!\""]),
        (&["verify", "--witness", "w1", APP], &["w1", "hex digits"]),
        (&["verify", "--print-digest", "--output", "json", APP], &["--print-digest", "--output"]),
        (&["verify", "--save", "a", "--offline", "b"], &["--save", "--offline"]),
        (&["verify", "--offline"], &["--offline"]),
        (&["observe"], &["IMAGE"]),
        (&["observe", "--digest", digest], &["IMAGE"]),
        (&["observe", "a.example/b:1:2"], &["1:2"]),
        (&["history"], &["IMAGE"]),
        (&["history", APP, APP], &[APP]),
        (&["history", "a.example/b:!"], &["!"]),
        (&["inspect"], &["FILE"]),
        (&["inspect", "nowhere"], &["nowhere"]),
        (&["inspect", "."], &["."]),
        (&["keygen"], &["NAME"]),
        (&["keygen", ""], &["name"]),
        (&["keygen", "Upper.Example"], &["Upper.Example"]),
        (&["keygen", "a+b"], &["a+b"]),
        (&["init"], &["URL"]),
        (&["init", "log.example"], &["log.example"]),
    ];
    for (arguments, words) in wrong {
        let ran = user.run(arguments);
        assert_eq!(ran.code, 2, "{ran:?}");
        assert!(ran.stdout.is_empty() && !ran.stderr.is_empty(), "{ran:?}");
        ran.prints(words);
    }
}

#[test]
fn a_timeout_of_zero_is_a_usage_error() {
    let server = log();
    User::trusting(&server).run(&["history", APP, "--timeout", "0"]).exits(2).prints(&["--timeout"]);
}

#[test]
fn every_command_has_help_with_an_example() {
    let user = User::new();
    for command in ["init", "keygen", "observe", "verify", "history", "inspect"] {
        let help = user.run(&[command, "--help"]).exits(0).prints(&[
            "Usage: taglog",
            "Examples:",
            &format!("taglog {command} "),
        ]);
        assert_eq!(user.run(&["help", command]).exits(0).stdout, help.stdout);
        user.run(&[command, "-h"]).exits(0).prints(&["Usage: taglog"]);
    }
    let help = user.run(&["--help"]).exits(0).prints(&["Examples:", "Exit codes:"]);
    for command in ["init", "keygen", "observe", "verify", "history", "inspect"] {
        assert!(help.stdout.contains(&format!("  {command} ")), "{command}");
    }
    let verify = user.run(&["verify", "--help"]).exits(0).prints(&["Exit codes:"]);
    for verdict in "ok moving new retagged behind mismatch unknown uncovered stale incomplete misbehaved".split(' ') {
        assert!(verify.stdout.contains(&format!("  {verdict} ")), "{verdict}");
    }
    user.run(&["--version"]).exits(0).prints(&["taglog 0."]);
}

/// The exit code of a command whose output is closed.
fn without_reader(user: &User, arguments: &[&str], errors_too: bool) -> Option<i32> {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let errors = if errors_too { Stdio::from(writer.try_clone().unwrap()) } else { Stdio::null() };
    user.command(arguments).stdout(writer).stderr(errors).status().unwrap().code()
}

/// `taglog … | head -0`, and the same with `2>&1` before the bar.
#[test]
fn closing_stdout_early_is_no_error() {
    let server = log();
    let user = User::trusting(&server);
    user.write("checkpoint", wait(server.checkpoint()).to_string());
    let (good, bad) = (pinned(APP, "a"), pinned(APP, "b"));
    let runs: [&[&str]; 6] = [
        &["verify", &good],
        &["verify", &bad],
        &["history", APP],
        &["inspect", "checkpoint"],
        &["--help"],
        &["nosuch"],
    ];
    for arguments in runs {
        let want = user.run(arguments).code;
        assert_eq!(without_reader(&user, arguments, false), Some(want), "{arguments:?}");
        assert_eq!(without_reader(&user, arguments, true), Some(want), "{arguments:?} 2>&1");
    }
}

/// What goes to standard error must not end in a panic either.
#[test]
fn closing_stderr_early_is_no_error() {
    let user = User::new();
    for arguments in [&["verify", APP][..], &["keygen", "witness.example/w"]] {
        let want = if arguments[0] == "keygen" { 0 } else { 2 };
        assert_eq!(without_reader(&user, arguments, true), Some(want), "{arguments:?} 2>&1");
    }
}
