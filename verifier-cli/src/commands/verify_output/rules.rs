//! The rules of reports: one for each verdict, and for other statements about an image.

/// A kind of statement about an image.
pub struct ReportRule {
    /// The name in taglog: a verdict, or another kind.
    pub name: &'static str,
    /// A short description.
    pub short: &'static str,
    pub meaning: &'static str,
    /// What the user should do.
    pub remedy: &'static str,
    /// The severity for GitHub's code scanning, from 0.0 to 10.0.
    pub severity: &'static str,
}

const fn rule(
    name: &'static str,
    short: &'static str,
    meaning: &'static str,
    remedy: &'static str,
    severity: &'static str,
) -> ReportRule {
    ReportRule { name, short, meaning, remedy, severity }
}

/// All rules. The position of a rule is its index in SARIF, so new rules come last.
pub static RULES: [ReportRule; 20] = [
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
        "Policy lets the tag move, and this is the newest digest that enough witnesses have sighted.",
        "Nothing; pin the digest to build the same thing again.",
        "0.0",
    ),
    rule(
        "approved",
        "Approved by a person",
        "The tag was moved, and a person approved this digest in taglog.lock.",
        "Nothing.",
        "0.0",
    ),
    rule(
        "rebuilt",
        "Retagged, as a rebuild would be",
        "The tag was moved, and what changed is consistent with a rebuild on a new base. That does not make it safe.",
        "Review what changed; approve the digest with 'taglog approve', or pin the one before.",
        "3.0",
    ),
    rule(
        "new",
        "Not vouched for yet",
        "The digest was first seen very recently, or by too few witnesses: a fresh tag cannot have a history.",
        "Wait until enough witnesses have known the digest for long enough, or use an older release.",
        "4.0",
    ),
    rule(
        "disputed",
        "Witnesses disagree",
        "One trusted witness contradicts all others.",
        "Ask the operator of that witness; a registry may serve different content to different places.",
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
        "Do not deploy. Try again when the witnesses have had time to check the tag; then ask the publisher.",
        "9.0",
    ),
    rule(
        "unknown",
        "Nothing is logged for the tag",
        "No trusted witness has ever reported this tag.",
        "Have a witness watch it ('taglog observe' or 'taglog witness'), or correct its name.",
        "5.0",
    ),
    rule(
        "uncovered",
        "Nothing is logged for the repository",
        "No trusted witness has ever reported a tag of this repository.",
        "Have a witness watch it ('taglog observe' or 'taglog witness').",
        "5.0",
    ),
    rule(
        "stale",
        "The state of the log is too old",
        "The state of the log, or the last report of the witnesses, is older than policy allows.",
        "Check whether the log and the witnesses are up; otherwise newer entries may be withheld from you.",
        "6.0",
    ),
    rule(
        "incomplete",
        "Lists are missing",
        "The log did not give the whole list of sightings that policy needs.",
        "Try again; if it does not help, tell the operator of the log.",
        "6.0",
    ),
    rule(
        "misbehaved",
        "The log misbehaves",
        "A proof is false, or the log contradicts what it signed before. The evidence is kept.",
        "Do not trust this log, and publish the evidence.",
        "10.0",
    ),
    rule(
        "unanswered",
        "The registry could not be asked",
        "The registry gave no digest for this image, so there is no verdict.",
        "Follow what the message says: log in, correct the name, or try again.",
        "5.0",
    ),
    rule(
        "left-out",
        "An image reference that cannot be resolved",
        "The file names an image in a way that cannot be resolved: a variable without a value, an invalid name, or a kind of \
         file that is not read.",
        "Follow what the message says; or exclude it in taglog.toml, with a reason and an end.",
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
        "Check the verdict; then run 'taglog pin --update', or correct the digest.",
        "8.0",
    ),
    rule(
        "excluded",
        "Deliberately not checked",
        "An exception in taglog.toml covers it, or the file itself says that the image is built here.",
        "Review the reason from time to time.",
        "0.0",
    ),
];

/// The row with this name.
pub fn rule_of(name: &str) -> Option<&'static ReportRule> {
    RULES.iter().find(|rule| rule.name == name)
}

/// The index of the row with this name.
pub fn index(name: &str) -> Option<usize> {
    RULES.iter().position(|rule| rule.name == name)
}

/// The id of a rule in reports: `taglog/retagged`.
pub fn id(name: &str) -> String {
    format!("taglog/{name}")
}
