//! A log that breaks a rule, and one that shows different histories to different clients.

use crate::{
    directory_log::DirectoryLog,
    fixture::{MonitorFixture, OnceOutput},
};

const STDOUT: &str = "stale-after = \"36500d\"\n[[sink]]\nkind = \"stdout\"\n";

fn evidence(ran: &OnceOutput) -> String {
    let alert = ran.alerts.iter().find(|alert| alert["state"] == "event").unwrap();
    std::fs::read_to_string(alert["evidence"].as_str().unwrap_or_else(|| panic!("no evidence: {ran:?}"))).unwrap()
}

fn kinds(ran: &OnceOutput) -> Vec<&str> {
    ran.alerts.iter().map(|alert| alert["kind"].as_str().unwrap()).collect()
}

#[test]
fn a_violation_is_alerted_once_with_evidence() {
    let mut log = DirectoryLog::new();
    let fixture = MonitorFixture::new(&log.vkey(), "log", STDOUT);
    log.batch("a:1", "x", false);
    log.publish(&fixture.path("log"));
    assert_eq!(fixture.once(&[]).code, Some(0));
    log.batch("a:1", "y", false);
    log.batch("a:2", "z", true);
    log.publish(&fixture.path("log"));
    let ran = fixture.once(&[]);
    assert_eq!((ran.code, kinds(&ran)), (Some(4), vec!["retag", "violation"]), "{ran:?}");
    assert_eq!(ran.alerts[1]["index"], 7);
    let file = std::fs::read_to_string(ran.alerts[1]["evidence"].as_str().unwrap()).unwrap();
    assert!(
        taglog_proto::evidence::Evidence::from_json(file.as_bytes()).unwrap().proves_misbehaviour(&log.vkey()).is_ok()
    );
    let again = fixture.once(&[]);
    assert_eq!((again.code, again.alerts.len()), (Some(4), 0), "{again:?}");
}

#[test]
fn a_past_violation_is_alerted() {
    let mut log = DirectoryLog::new();
    log.batch("a:1", "x", true);
    let fixture = MonitorFixture::new(&log.vkey(), "log", STDOUT);
    log.publish(&fixture.path("log"));
    let ran = fixture.once(&[]);
    assert_eq!((ran.code, kinds(&ran)), (Some(4), vec!["violation"]), "{ran:?}");
}

#[test]
fn a_fork_of_two_valid_histories_is_alerted() {
    let mut log = DirectoryLog::new();
    log.batch("a:1", "x", false);
    let mut other = log.clone();
    log.batch("a:1", "y", false);
    other.batch("a:1", "z", false);
    let fixture = MonitorFixture::new(&log.vkey(), "log", STDOUT);
    log.publish(&fixture.path("log"));
    assert_eq!(fixture.once(&[]).code, Some(0));
    other.publish(&fixture.path("log"));
    let ran = fixture.once(&[]);
    assert_eq!((ran.code, kinds(&ran)), (Some(4), vec!["violation"]), "{ran:?}");
    let file = evidence(&ran);
    assert!(
        taglog_proto::evidence::Evidence::from_json(file.as_bytes()).unwrap().proves_misbehaviour(&log.vkey()).is_ok()
    );
}

#[test]
fn a_split_view_is_alerted_once() {
    let mut log = DirectoryLog::new();
    log.batch("a:1", "x", false);
    let mut other = log.clone();
    other.batch("a:1", "z", false);
    log.batch("a:1", "y", false);
    let fixture = MonitorFixture::new(&log.vkey(), "log", &format!("compare = [\"mirror\"]\n{STDOUT}"));
    log.publish(&fixture.path("log"));
    other.publish(&fixture.path("mirror"));
    let ran = fixture.once(&[]);
    assert_eq!((ran.code, kinds(&ran)), (Some(4), vec!["split-view"]), "{ran:?}");
    let file = evidence(&ran);
    assert!(
        taglog_proto::evidence::Evidence::from_json(file.as_bytes()).unwrap().proves_misbehaviour(&log.vkey()).is_ok()
    );
    log.batch("a:2", "x", false);
    log.publish(&fixture.path("log"));
    let again = fixture.once(&[]);
    assert_eq!((again.code, kinds(&again)), (Some(4), vec!["new-tag"]), "{again:?}");
}
