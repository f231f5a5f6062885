//! What can be said of an image: the rules of SARIF, in one table.

/// One thing that can be said.
pub struct Rule {
    /// Its name in taglog: a verdict, or what went wrong.
    pub name: &'static str,
    /// A phrase for headings.
    pub short: &'static str,
    /// What it means.
    pub meaning: &'static str,
    /// What to do.
    pub remedy: &'static str,
    /// How severe GitHub's code scanning shows it, from 0.0 to 10.0.
    pub severity: &'static str,
}

const fn rule(
    name: &'static str,
    short: &'static str,
    meaning: &'static str,
    remedy: &'static str,
    severity: &'static str,
) -> Rule {
    Rule { name, short, meaning, remedy, severity }
}

/// All of them. A row's place in the table is its index in SARIF; new rows come last.
pub const RULES: [Rule; 19] = [
    rule(
        "ok",
        "Only ever this digest",
        "Enough trusted witnesses have sighted this digest under the tag and no other, freshly enough.",
        "Nothing.",
        "0.0",
    ),
    rule(
        "moving",
        "The newest digest of a tag that may move",
        "Policy lets the tag move, and this is the newest digest that enough witnesses see.",
        "Nothing; pin the digest to build the same thing again.",
        "0.0",
    ),
    rule(
        "approved",
        "Approved by a person",
        "The tag was moved, and a person approved this very digest in taglog.lock.",
        "Nothing.",
        "0.0",
    ),
    rule(
        "rebuilt",
        "Retagged, as a rebuild would be",
        "The tag was moved, and what changed is consistent with a rebuild on a new base. That does not make it safe.",
        "Look at what changed; approve the digest with 'taglog approve', or pin the one before.",
        "3.0",
    ),
    rule(
        "new",
        "Not vouched for yet",
        "The digest was first seen very recently, or by too few witnesses: a fresh tag cannot have a history.",
        "Wait until it has aged, or take an older release.",
        "4.0",
    ),
    rule(
        "disputed",
        "Witnesses disagree",
        "One trusted witness stands alone against the others.",
        "Ask its operator; a registry may serve different content to different places.",
        "7.0",
    ),
    rule(
        "retagged",
        "The tag was moved",
        "More than one digest was sighted under this tag, and nothing explains it.",
        "Do not deploy. Find out from the publisher why; then approve the digest with 'taglog approve', or pin another.",
        "9.0",
    ),
    rule(
        "behind",
        "An older digest is served",
        "The registry, often a mirror or a cache, serves an older digest than the newest that is logged.",
        "Refresh the mirror, or pull from the publisher's registry.",
        "6.0",
    ),
    rule(
        "mismatch",
        "A digest that nobody has seen",
        "The registry serves a digest that no witness has seen under this tag.",
        "Do not deploy. Look again when witnesses have had time to look; then ask the publisher.",
        "9.0",
    ),
    rule(
        "unknown",
        "Nothing is logged for the tag",
        "No witness that counts has ever reported this tag.",
        "Have a witness watch it ('taglog observe' or 'taglog witness'), or correct its name.",
        "5.0",
    ),
    rule(
        "uncovered",
        "Nothing is logged for the repository",
        "No witness that counts has ever reported a tag of this repository.",
        "Have a witness watch it ('taglog observe' or 'taglog witness').",
        "5.0",
    ),
    rule(
        "stale",
        "What is known is too old",
        "The log's state, or the last word of the witnesses, is older than policy allows.",
        "Look at the log's and the witnesses' state; they may be down, or something hides what is newer.",
        "6.0",
    ),
    rule(
        "incomplete",
        "Lists are missing",
        "The log did not give the whole list of sightings that policy needs.",
        "Ask again; if it lasts, tell the log's operator.",
        "6.0",
    ),
    rule(
        "misbehaved",
        "The log misbehaves",
        "A proof is false, or the log contradicts what it signed before. What shows it is kept.",
        "Trust nothing of this log, and publish the evidence.",
        "10.0",
    ),
    rule(
        "unanswered",
        "The registry could not be asked",
        "The registry gave no digest for this image, so nothing can be said of it.",
        "Follow what the message says: log in, correct the name, or try again.",
        "5.0",
    ),
    rule(
        "left-out",
        "An image that cannot be told from the file",
        "The file names an image in a way that does not say which: a variable without a value, a broken name.",
        "Give the variable a value ('--build-arg'), or write the name out.",
        "5.0",
    ),
    rule(
        "untagged",
        "Named by its digest alone",
        "The file names the image by its digest, which nobody can move.",
        "Nothing.",
        "0.0",
    ),
    rule(
        "unpinned",
        "No digest is written beside the tag",
        "The file names an image by its tag alone, so what is deployed can change without a change of the file.",
        "Run 'taglog pin' on the file.",
        "5.0",
    ),
    rule(
        "pin-fails",
        "A pinned digest does not verify",
        "The digest written in the file does not pass.",
        "Look at the verdict; then run 'taglog pin --update', or correct the digest.",
        "8.0",
    ),
];

/// Where a name stands in the table.
pub fn index(name: &str) -> Option<usize> {
    RULES.iter().position(|rule| rule.name == name)
}

/// The id of a rule in reports: `taglog/retagged`.
pub fn id(name: &str) -> String {
    format!("taglog/{name}")
}
