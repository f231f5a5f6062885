//! What look-ups, submissions and the witness agent detect, and what they cannot detect: each test of the latter has
//! its counterpart in `auditor`.

mod agent;
mod attacks;
mod honest_log;

use taglog_tests::cli_fixture::User;
use taglog_tests::{DishonestLog, Witness, dishonest::attack};

/// The log, as [`attack::begun`], and a user of it.
struct DishonestLogFixture {
    log: DishonestLog,
    user: User,
}

impl DishonestLogFixture {
    /// The user has verified nothing yet, and is the first witness.
    fn new() -> DishonestLogFixture {
        let log = attack::begun();
        let user = User::new();
        user.trust(log.vkey(), &log.url);
        user.use_key(&Witness::new(1));
        DishonestLogFixture { log, user }
    }
}
