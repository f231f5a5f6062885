//! A log that lies as it is told, and who replays it: `taglog audit`, cosigners, mirrors, and whoever compares. Each test
//! is named like the attack; `verifier-cli/docs/ATTACKS.md` has all of them in one table.

// A test fails where it unwraps.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod cli_common;

#[path = "dishonest_auditor/audit.rs"]
mod audit;
#[path = "dishonest_auditor/copies.rs"]
mod copies;
#[path = "dishonest_auditor/cosigners.rs"]
mod cosigners;

use std::path::Path;

use cli_common::User;
use taglog_tests::{DishonestLog, Witness};

/// Somebody who trusts this log.
fn user_of(log: &DishonestLog) -> User {
    let user = User::new();
    user.trust(log.vkey(), &log.url);
    user
}

/// What was kept convicts the log before anybody who has its key and nothing else; with another key it does not.
fn convicts(log: &DishonestLog, file: &Path, kind: &str) {
    let stranger = User::new();
    let (file, vkey) = (file.to_str().unwrap(), log.vkey().to_string());
    let judged = stranger.run_json(&["evidence", "verify", "--vkey", &vkey, file]).exits(0).json();
    let full_kind = format!("taglog/evidence/{kind}@v1");
    assert_eq!((&judged["convicts"], &judged["kind"]), (&true.into(), &full_kind.as_str().into()), "{judged}");
    let other = Witness::new(77).vkey().to_string();
    stranger.run(&["evidence", "verify", "--vkey", &other, file]).exits(1);
}
