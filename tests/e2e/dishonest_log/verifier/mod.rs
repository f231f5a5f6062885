//! A log that lies as it is told, and what those who look up, submit and watch notice of it. What they cannot notice is
//! said here too: each such test has its counterpart among the auditors' (`dishonest_auditor.rs`), and
//! `verifier-cli/docs/ATTACKS.md` has all of them in one table.

// A test fails where it unwraps.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod cli_common;

#[path = "dishonest_verifier/agent.rs"]
mod agent;
#[path = "dishonest_verifier/attacks.rs"]
mod attacks;
#[path = "dishonest_verifier/honest.rs"]
mod honest;

use cli_common::User;
use taglog_tests::{DishonestLog, Witness, dishonest::attack};

/// The log, as [`attack::begun`], and somebody who uses it.
struct Scene {
    log: DishonestLog,
    user: User,
}

impl Scene {
    /// The user has verified nothing yet, and is the first witness.
    fn new() -> Scene {
        let log = attack::begun();
        let user = User::new();
        user.trust(log.vkey(), &log.url);
        user.use_key(&Witness::new(1));
        Scene { log, user }
    }
}
