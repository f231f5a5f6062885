//! A log that breaks a rule, and one that shows different histories to different people.

use crate::{
    directory_log::DirectoryLog,
    scene::{Ran, Scene},
};

const STDOUT: &str = "stale-after = \"36500d\"\n[[sink]]\nkind = \"stdout\"\n";

fn evidence(ran: &Ran) -> String {
    let alert = ran.alerts.iter().find(|alert| alert["state"] == "event").unwrap();
    std::fs::read_to_string(alert["evidence"].as_str().unwrap_or_else(|| panic!("no evidence: {ran:?}"))).unwrap()
}

fn kinds(ran: &Ran) -> Vec<&str> {
    ran.alerts.iter().map(|alert| alert["kind"].as_str().unwrap()).collect()
}

#[test]
fn a_violation_is_told_once_with_evidence() {
    let mut log = DirectoryLog::new();
    let scene = Scene::new(&log.vkey(), "log", STDOUT);
    log.batch("a:1", "x", false);
    log.publish(&scene.path("log"));
    assert_eq!(scene.once(&[]).code, Some(0));
    log.batch("a:1", "y", false);
    log.batch("a:2", "z", true);
    log.publish(&scene.path("log"));
    let ran = scene.once(&[]);
    assert_eq!((ran.code, kinds(&ran)), (Some(4), vec!["retag", "violation"]), "{ran:?}");
    assert_eq!(ran.alerts[1]["index"], 7);
    let file = std::fs::read_to_string(ran.alerts[1]["evidence"].as_str().unwrap()).unwrap();
    assert!(taglog_proto::evidence::Evidence::from_json(file.as_bytes()).unwrap().convict(&log.vkey()).is_ok());
    let again = scene.once(&[]);
    assert_eq!((again.code, again.alerts.len()), (Some(4), 0), "{again:?}");
}

#[test]
fn a_violation_in_the_past_is_told_too() {
    let mut log = DirectoryLog::new();
    log.batch("a:1", "x", true);
    let scene = Scene::new(&log.vkey(), "log", STDOUT);
    log.publish(&scene.path("log"));
    let ran = scene.once(&[]);
    assert_eq!((ran.code, kinds(&ran)), (Some(4), vec!["violation"]), "{ran:?}");
}

#[test]
fn a_fork_is_told_although_both_histories_are_right() {
    let mut log = DirectoryLog::new();
    log.batch("a:1", "x", false);
    let mut other = log.clone();
    log.batch("a:1", "y", false);
    other.batch("a:1", "z", false);
    let scene = Scene::new(&log.vkey(), "log", STDOUT);
    log.publish(&scene.path("log"));
    assert_eq!(scene.once(&[]).code, Some(0));
    other.publish(&scene.path("log"));
    let ran = scene.once(&[]);
    assert_eq!((ran.code, kinds(&ran)), (Some(4), vec!["violation"]), "{ran:?}");
    let file = evidence(&ran);
    assert!(taglog_proto::evidence::Evidence::from_json(file.as_bytes()).unwrap().convict(&log.vkey()).is_ok());
}

#[test]
fn a_split_view_is_told_once() {
    let mut log = DirectoryLog::new();
    log.batch("a:1", "x", false);
    let mut other = log.clone();
    other.batch("a:1", "z", false);
    log.batch("a:1", "y", false);
    let scene = Scene::new(&log.vkey(), "log", &format!("compare = [\"mirror\"]\n{STDOUT}"));
    log.publish(&scene.path("log"));
    other.publish(&scene.path("mirror"));
    let ran = scene.once(&[]);
    assert_eq!((ran.code, kinds(&ran)), (Some(4), vec!["split-view"]), "{ran:?}");
    let file = evidence(&ran);
    assert!(taglog_proto::evidence::Evidence::from_json(file.as_bytes()).unwrap().convict(&log.vkey()).is_ok());
    log.batch("a:2", "x", false);
    log.publish(&scene.path("log"));
    let again = scene.once(&[]);
    assert_eq!((again.code, kinds(&again)), (Some(4), vec!["new-tag"]), "{again:?}");
}
