//! What auditors, cosigners, mirrors and whoever compares saved answers detect.

mod audit;
mod cosigners;
mod mirror_and_compare;

use std::path::Path;

use taglog_tests::cli_fixture::User;
use taglog_tests::{DishonestLog, Witness};

/// A user who trusts this log.
fn user_trusting(log: &DishonestLog) -> User {
    let user = User::new();
    user.trust(log.vkey(), &log.url);
    user
}

/// The kept evidence proves misbehaviour to anybody who has the log's key and nothing else; with another key it proves
/// nothing.
fn proves_misbehaviour(log: &DishonestLog, file: &Path, kind: &str) {
    let stranger = User::new();
    let (file, vkey) = (file.to_str().unwrap(), log.vkey().to_string());
    let judged = stranger.run_json(&["evidence", "verify", "--vkey", &vkey, file]).exits(0).json();
    let full_kind = format!("taglog/evidence/{kind}@v1");
    assert_eq!((&judged["convicts"], &judged["kind"]), (&true.into(), &full_kind.as_str().into()), "{judged}");
    let other = Witness::new(77).vkey().to_string();
    stranger.run(&["evidence", "verify", "--vkey", &other, file]).exits(1);
}
