use super::*;

const MINIMAL: &str = r#"
    trust = "trust"
    state = "/var/lib/taglog-monitor"
    [[watch]]
    repository = "busybox"
    [[sink]]
    kind = "stdout"
"#;

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text, Path::new("/etc/taglog/monitor.toml"))
}

#[test]
fn absent_keys_have_defaults() {
    let config = parse(MINIMAL).unwrap();
    assert_eq!(config.trust, Path::new("/etc/taglog/trust"));
    assert_eq!((config.log, config.listen, config.interval), (None, None, Duration::from_secs(60)));
    let all = Wanted { retag: true, new_tag: true, disagreement: true };
    assert_eq!(config.watches[0].wanted, all);
    assert_eq!((config.sinks[0].name.as_str(), &config.sinks[0].kinds), ("stdout", &None));
    assert_eq!(config.delays.silence, Duration::from_secs(48 * 3600));
}

#[test]
fn every_key_is_read() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("secret"), "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz\n").unwrap();
    let text = r#"
        trust = "trust"
        log = "mirror"
        state = "state"
        compare = ["https://mirror.example/taglog", "copy"]
        listen = "127.0.0.1:9471"
        interval = "10s"
        witnesses = ["witness.example/ams-1+5f0bbd1a"]
        disagree-after = "1h"
        silent-after = "2h"
        stale-after = "3h"
        frozen-after = "4h"
        unreachable-after = "5h"
        [[watch]]
        repository = "glob:ghcr.io/team/*"
        tags = ["semver:>=1", "stable"]
        exclude = ["glob:*-rc*"]
        alerts = ["retag"]
        [[sink]]
        kind = "webhook"
        name = "pager"
        alerts = ["violation", "split-view"]
        url = "https://hooks.example/x?token=y"
        secret-file = "secret"
        [[sink]]
        kind = "mail"
        command = ["/bin/mail"]
        from = "taglog <taglog@example.org>"
        to = ["ops@example.org"]
        [[sink]]
        kind = "feed"
        path = "feed.xml"
        entries = 7
    "#;
    let config = Config::parse(text, &directory.path().join("monitor.toml")).unwrap();
    assert_eq!(config.log, Some(directory.path().join("mirror").display().to_string()));
    let copy = directory.path().join("copy").display().to_string();
    assert_eq!(config.compare, ["https://mirror.example/taglog", &copy]);
    let hours = |n: u64| Duration::from_secs(n * 3600);
    let want = AlertDelays {
        disagreement: hours(1),
        silence: hours(2),
        staleness: hours(3),
        frozenness: hours(4),
        unreachable: hours(5),
    };
    assert_eq!(config.delays, want);
    let names: Vec<&str> = config.sinks.iter().map(|sink| sink.name.as_str()).collect();
    assert_eq!(names, ["pager", "mail", "feed"]);
    assert!(config.sinks[0].takes(AlertKind::Violation) && !config.sinks[0].takes(AlertKind::Retag));
    assert!(config.sinks[1].takes(AlertKind::Retag));
    assert!(matches!(&config.sinks[2].target, SinkTarget::Feed { entries: 7, path } if path.ends_with("feed.xml")));
    assert!(!format!("{config:?}").contains("MDEyMzQ1"), "the secret is shown");
}

#[test]
fn invalid_values_are_rejected_with_their_place() {
    let with = |from: &str, to: &str| {
        assert!(MINIMAL.contains(from), "{from:?} is not in it");
        MINIMAL.replace(from, to)
    };
    let top = |line: &str| format!("{line}\n{MINIMAL}");
    let more = |lines: &str| format!("{MINIMAL}\n{lines}");
    for (text, want) in [
        (with("[[sink]]\n    kind = \"stdout\"", ""), "sink: name at least one"),
        (with("\"busybox\"", "\"busybox:1\""), "its tags go into 'tags'"),
        (with("\"busybox\"", "\"glob:[\""), "repository"),
        (with("\"busybox\"", "\"busybox\"\ntags = []"), "at least one tag"),
        (with("\"busybox\"", "\"busybox\"\nalerts = []"), "at least one of retag"),
        (with("\"busybox\"", "\"busybox\"\nalerts = [\"x\"]"), "unknown variant"),
        (with("\"stdout\"", "\"stdout\"\nname = \"a b\""), "sink, name"),
        (with("\"stdout\"", "\"stdout\"\nalerts = []"), "at least one kind"),
        (with("\"stdout\"", "\"stdout\"\nalerts = [\"nothing\"]"), "unknown variant"),
        (with("\"stdout\"", "\"stdout\"\nurl = \"x\""), "unknown field"),
        (with("\"stdout\"", "\"pigeon\""), "unknown variant"),
        (more("[[sink]]\nkind = \"stdout\""), "the name is taken"),
        (more("[[sink]]\nkind = \"webhook\"\nurl = \"ftp://x\""), "https://"),
        (more("[[sink]]\nkind = \"webhook\"\nurl = \"x\""), "url"),
        (more("[[sink]]\nkind = \"webhook\"\nurl = \"http://x\"\nsecret-file = \"absent\""), "absent"),
        (more("[[sink]]\nkind = \"mail\"\nfrom = \"a@b.example\"\nto = []"), "at least one receiver"),
        (more("[[sink]]\nkind = \"mail\"\nfrom = \"a\"\nto = [\"a@b.example\"]"), "from"),
        (more("[[sink]]\nkind = \"mail\"\nfrom = \"a@b.example\\nBcc: x@y.example\"\nto = [\"a@b.example\"]"), "from"),
        (
            more("[[sink]]\nkind = \"mail\"\nfrom = \"a@b.example\"\nto = [\"a@b.example, c@d.example\"]"),
            "want one address",
        ),
        (more("[[sink]]\nkind = \"mail\"\ncommand = []\nfrom = \"a@b.example\"\nto = [\"a@b.example\"]"), "command"),
        (more("[[sink]]\nkind = \"feed\"\npath = \"x\"\nentries = 0"), "entries"),
        (top("interval = \"0s\""), "at least 1s"),
        (top("silent-after = \"soon\""), "line 1"),
        (top("silent-after = \"99999999d\""), "silent-after"),
        (top("witnesses = [\"x\"]"), "witnesses"),
        (top("intervall = \"1h\""), "unknown field"),
    ] {
        let message = parse(&text).map(|_| ()).expect_err(want).to_string();
        assert!(
            message.contains(want) && message.contains("monitor.toml") || message.contains("absent"),
            "{want}: {message}"
        );
    }
}
