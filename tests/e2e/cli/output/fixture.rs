//! Files that name images of every verdict, and a user who verifies them.

use taglog_tests::{Server, Witness, witness::now};

use taglog_tests::cli_fixture::{User, add, pinned};

const DAY: i64 = 86_400;
/// Has only ever been one digest.
pub const FINE: &str = "registry.example/team/fine:1.0";
/// Was seen for the first time a moment ago.
pub const YOUNG: &str = "registry.example/team/young:1.0";
/// Has been two digests.
pub const MOVED: &str = "registry.example/team/moved:1.0";
/// In an unreachable registry.
pub const SILENT: &str = "127.0.0.1:1/team/silent:1.0";

/// A log, and files in a user's home.
pub struct OutputFixture {
    pub user: User,
    pub server: Server,
}

impl OutputFixture {
    pub fn new() -> OutputFixture {
        let witness = Witness::new(1);
        let server = Server::start(&[&witness], "");
        let at = now() - 3 * DAY;
        add(&server, &[witness.observe(FINE, "fine", at), witness.observe(MOVED, "good", at)]);
        add(&server, &[witness.observe(MOVED, "evil", at + DAY), witness.observe(YOUNG, "young", now())]);
        let user = User::trusting(&server);
        // The ages of digests count here as they do for everybody.
        std::fs::remove_file(user.path("taglog.toml")).unwrap();
        user.write("fine.yaml", pod(&[&pinned(FINE, "fine")]));
        user.write("young.yaml", pod(&[&pinned(YOUNG, "young")]));
        user.write("moved.yaml", pod(&[&pinned(FINE, "fine"), &pinned(MOVED, "evil")]));
        user.write("silent.yaml", pod(&[SILENT]));
        user.write("Dockerfile", "ARG BASE\nFROM scratch\nFROM $BASE\n");
        let digest = pinned("", "untagged");
        user.write("untagged.yaml", pod(&[&format!("registry.example/team/fine{digest}")]));
        OutputFixture { user, server }
    }
}

/// A pod whose containers have these images, the first of them in line 8, the next in line 10.
pub fn pod(images: &[&str]) -> String {
    let container = |image: &&str| format!("  - name: c\n    image: {image}\n");
    let containers: String = images.iter().map(container).collect();
    format!("apiVersion: v1\nkind: Pod\nmetadata:\n  name: p\nspec:\n  containers:\n{containers}")
}

/// The arguments that verify everything, to exit code 1.
pub const EVERYTHING: [&str; 13] = [
    "verify",
    "-f",
    "fine.yaml",
    "-f",
    "young.yaml",
    "-f",
    "moved.yaml",
    "-f",
    "silent.yaml",
    "-f",
    "Dockerfile",
    "-f",
    "untagged.yaml",
];
