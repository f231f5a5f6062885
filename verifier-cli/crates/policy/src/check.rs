//! Finds mistakes in a policy that parses: rules without effect, exceptions that have ended, and witnesses that are not
//! in the log's roster.

use std::{collections::BTreeSet, fmt, time::Duration};

use taglog_proto::{name::WitnessId, time::Timestamp};

use crate::{
    Policy,
    demands::{Ignore, TrustedWitness},
    file::Rule,
};
use taglog_base::duration::in_words;

/// How long before its end an `ignore` or an `exclude` is reported.
pub const IGNORE_ENDS_SOON: Duration = Duration::from_secs(14 * 86_400);

/// How severe a diagnostic is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// For information.
    Note,
    /// A mistake.
    Problem,
}

/// One finding about a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Whether it is a mistake or for information.
    pub severity: Severity,
    /// The line of the file, counted from 1.
    pub line: usize,
    /// What is wrong, and what to do.
    pub message: String,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = if self.severity == Severity::Problem { "problem" } else { "note" };
        write!(f, "line {}: {severity}: {}", self.line, self.message)
    }
}

/// All diagnostics about a policy at this time, in the order of the file.
pub fn diagnostics(policy: &Policy, now: Timestamp) -> Vec<Diagnostic> {
    let Some(file) = &policy.file else { return Vec::new() };
    let mut diagnostics = Vec::new();
    for (number, rule) in file.rules.iter().enumerate() {
        let mut report = |severity, message| diagnostics.push(Diagnostic { severity, line: rule.line, message });
        let mirrored = rule.repositories.iter().filter_map(|pattern| {
            file.mirrors.hides(pattern.prefix()).map(|mirror| {
                format!(
                    "{pattern} never matches: {mirror} is a mirror, and rules match images by their name in the log"
                )
            })
        });
        mirrored.for_each(|message| report(Severity::Problem, message));
        if let Some(message) = shadowed(rule, &file.rules[..number]) {
            report(Severity::Problem, message);
        }
        let ignore = rule.ignore.as_ref();
        if let Some((severity, message)) =
            ignore.and_then(|ignore| end(ignore, "'ignore'", "these images must pass", now))
        {
            report(severity, message);
        }
    }
    for exclusion in &file.exclusions {
        let end = end(&exclusion.ignore, "'exclude'", "what it covers is checked", now);
        diagnostics.extend(end.map(|(severity, message)| Diagnostic { severity, line: exclusion.line, message }));
    }
    diagnostics.sort_by_key(|diagnostic| diagnostic.line);
    diagnostics
}

/// Diagnostics about the witnesses that a policy names and the log's roster does not have. Only a witness in the roster
/// can vouch for a digest, so a mistyped id makes nothing pass. A witness with `until` may have left the roster.
pub fn unlisted_witnesses(policy: &Policy, roster: &BTreeSet<WitnessId>) -> Vec<Diagnostic> {
    let Some(file) = &policy.file else { return Vec::new() };
    let line = file.trusted_line;
    let unlisted = file.trusted.iter().filter(|witness| !roster.contains(&witness.id));
    let mut diagnostics: Vec<Diagnostic> = unlisted.map(|witness| unlisted_witness(witness, line)).collect();
    let known = file.trusted.len() - diagnostics.len();
    let rules = file.rules.iter().filter_map(|rule| Some((rule.agree?.get().into(), rule.line)));
    let short = file.agree.into_iter().chain(rules).filter(|(agree, _)| !diagnostics.is_empty() && *agree > known);
    let too_few = short.map(|(agree, line)| Diagnostic {
        severity: Severity::Problem,
        line,
        message: format!(
            "agree = {agree}, but only {known} of the trusted witnesses are in the log's roster: nothing can pass"
        ),
    });
    let too_few: Vec<Diagnostic> = too_few.collect();
    diagnostics.extend(too_few);
    diagnostics
}

fn unlisted_witness(witness: &TrustedWitness, line: usize) -> Diagnostic {
    let id = &witness.id;
    match witness.until {
        None => {
            let message =
                format!("{id} is not in the log's roster, so it vouches for nothing: correct the id or remove it");
            Diagnostic { severity: Severity::Problem, line, message }
        }
        Some(until) => {
            let message = format!(
                "{id} is no longer in the log's roster: what it saw before entry {until} still counts as history"
            );
            Diagnostic { severity: Severity::Note, line, message }
        }
    }
}

/// The message for a rule without effect: earlier rules set all of its keys for every image that it matches.
fn shadowed(rule: &Rule, before: &[Rule]) -> Option<String> {
    let covering: Vec<&Rule> = before.iter().filter(|earlier| earlier.covers(rule)).collect();
    let decided: BTreeSet<&str> = covering.iter().flat_map(|earlier| earlier.keys()).collect();
    let last = covering.last().filter(|_| rule.keys().is_subset(&decided))?;
    let keys: Vec<&str> = rule.keys().into_iter().collect();
    let (keys, line) = (keys.join(", "), last.line);
    Some(format!("this rule has no effect: rules up to line {line} set {keys} for every image that it matches"))
}

/// What to say about the end of an exception, if it has ended or soon does.
fn end(ignore: &Ignore, key: &str, then: &str, now: Timestamp) -> Option<(Severity, String)> {
    let left = ignore.until.unix().saturating_sub(now.unix());
    let until = ignore.until;
    match u64::try_from(left) {
        Err(_) | Ok(0) => {
            let message = format!("{key} ended on {until}: {then} again; remove it or set a later day");
            Some((Severity::Problem, message))
        }
        Ok(left) if left <= IGNORE_ENDS_SOON.as_secs() => {
            let left = in_words(left);
            Some((Severity::Note, format!("{key} ends on {until}, in {left}: {then} from then on")))
        }
        Ok(_) => None,
    }
}
