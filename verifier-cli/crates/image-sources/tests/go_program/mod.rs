//! Programs in Go (tests/differential) around the parsers of other projects.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// Builds a program of tests/differential; `None`, and a message, where Go or the parsers' modules cannot be had.
pub fn build(name: &str) -> Option<PathBuf> {
    let source = programs().join(name);
    let go = |arguments: &[&str]| Command::new("go").current_dir(&source).args(arguments).output();
    let Ok(download) = go(&["mod", "download"]) else {
        skipped(&format!("{name}: Go is not installed"));
        return None;
    };
    if !download.status.success() && is_offline(&download) {
        skipped(&format!("{name}: the modules cannot be downloaded: {}", text(&download)));
        return None;
    }
    assert!(download.status.success(), "{}", text(&download));
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("differential-{name}"));
    let built = go(&["build", "-mod=readonly", "-o", program.to_str().unwrap(), "."]).unwrap();
    assert!(built.status.success(), "{}", text(&built));
    Some(program)
}

/// The directory of the programs.
pub fn programs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../tests/differential")
}

/// Says what is not compared, past the test harness, which shows the output of failed tests only.
pub fn skipped(what: &str) {
    let line = format!("SKIPPED, not compared with other parsers: {what}\n");
    std::io::stderr().write_all(line.as_bytes()).unwrap();
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Whether something could not be downloaded because of the network, or because this Go is too old and may not fetch
/// another.
fn is_offline(output: &Output) -> bool {
    let reasons = [
        "dial tcp",
        "lookup disabled",
        "no such host",
        "timeout",
        "connection refused",
        "connection reset",
        "toolchain not available",
        "download go1.",
        "requires go >=",
        "invalid go version",
        "Service Unavailable",
        "Bad Gateway",
        "unexpected EOF",
    ];
    reasons.iter().any(|reason| text(output).contains(reason))
}
