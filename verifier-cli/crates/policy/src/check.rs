//! What cannot be meant in a policy that can be read: rules that never decide anything, images that are ignored for longer
//! than they were to be, and witnesses that the log does not know.

use std::{collections::BTreeSet, fmt, time::Duration};

use taglog_proto::{name::WitnessId, time::Timestamp};

use super::{Policy, Rule, TrustedWitness};
use taglog_base::duration::in_words;

/// An ignored image is spoken of so long before it is judged again.
pub const IGNORE_ENDS_SOON: Duration = Duration::from_secs(14 * 86_400);

/// How much a remark matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Gravity {
    /// Worth knowing.
    Note,
    /// Not what was meant.
    Problem,
}

/// One thing to say about a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    /// How much it matters.
    pub gravity: Gravity,
    /// The line of the file, counted from 1.
    pub line: usize,
    /// What it is, and what to do.
    pub what: String,
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gravity = if self.gravity == Gravity::Problem { "problem" } else { "note" };
        write!(f, "line {}: {gravity}: {}", self.line, self.what)
    }
}

/// Everything there is to say about a policy at this time, in the order of the file.
pub fn remarks(policy: &Policy, now: Timestamp) -> Vec<Remark> {
    let Some(file) = &policy.file else { return Vec::new() };
    let mut remarks = Vec::new();
    for (number, rule) in file.rules.iter().enumerate() {
        let mut remark = |gravity, what| remarks.push(Remark { gravity, line: rule.line, what });
        let hidden = rule.repositories.iter().filter_map(|pattern| {
            file.mirrors.hides(pattern.prefix()).map(|mirror| {
                format!(
                    "{pattern} never matches: {mirror} is a mirror, and \
                 rules speak of images by their name in the log"
                )
            })
        });
        hidden.for_each(|what| remark(Gravity::Problem, what));
        if let Some(what) = shadowed(rule, &file.rules[..number]) {
            remark(Gravity::Problem, what);
        }
        if let Some((gravity, what)) = ignored(rule, now) {
            remark(gravity, what);
        }
    }
    remarks
}

/// What there is to say about the witnesses that a policy names, given those in the log's roster. Only a witness in the
/// roster can vouch for a digest, so one that was misspelled lets nothing pass; one whose key is to be believed up to an
/// entry may well have left.
pub fn strangers(policy: &Policy, roster: &BTreeSet<WitnessId>) -> Vec<Remark> {
    let Some(file) = &policy.file else { return Vec::new() };
    let line = file.trusted_line;
    let strangers = file.trusted.iter().filter(|witness| !roster.contains(&witness.id));
    let mut remarks: Vec<Remark> = strangers.map(|witness| stranger(witness, line)).collect();
    let known = file.trusted.len() - remarks.len();
    let rules = file.rules.iter().filter_map(|rule| Some((rule.agree?.get().into(), rule.line)));
    let short = file.agree.into_iter().chain(rules).filter(|(agree, _)| !remarks.is_empty() && *agree > known);
    let too_few = short.map(|(agree, line)| Remark {
        gravity: Gravity::Problem,
        line,
        what: format!(
            "{agree} witnesses are to agree, and only {known} of those that are trusted are in the log's roster"
        ),
    });
    let too_few: Vec<Remark> = too_few.collect();
    remarks.extend(too_few);
    remarks
}

fn stranger(witness: &TrustedWitness, line: usize) -> Remark {
    let id = &witness.id;
    match witness.until {
        None => {
            let what = format!(
                "{id} is not in the log's roster, so its word lets nothing pass: correct the id or take it out"
            );
            Remark { gravity: Gravity::Problem, line, what }
        }
        Some(until) => {
            let what = format!(
                "{id} is not in the log's roster any more: what it saw before entry {until} still counts as history"
            );
            Remark { gravity: Gravity::Note, line, what }
        }
    }
}

/// A rule that decides nothing, because rules before it have decided everything it says for all that it speaks of.
fn shadowed(rule: &Rule, before: &[Rule]) -> Option<String> {
    let covering: Vec<&Rule> = before.iter().filter(|earlier| earlier.covers(rule)).collect();
    let decided: BTreeSet<&str> = covering.iter().flat_map(|earlier| earlier.keys()).collect();
    let last = covering.last().filter(|_| rule.keys().is_subset(&decided))?;
    let keys: Vec<&str> = rule.keys().into_iter().collect();
    let (keys, line) = (keys.join(", "), last.line);
    Some(format!("this rule never decides anything: rules up to line {line} have set {keys} for all that it speaks of"))
}

fn ignored(rule: &Rule, now: Timestamp) -> Option<(Gravity, String)> {
    let ignore = rule.ignore.as_ref()?;
    let left = ignore.until.unix().saturating_sub(now.unix());
    let until = ignore.until;
    match u64::try_from(left) {
        Err(_) | Ok(0) => {
            Some((Gravity::Problem, format!("ignored until {until}, which is over: these images are judged again")))
        }
        Ok(left) if left <= IGNORE_ENDS_SOON.as_secs() => {
            Some((Gravity::Note, format!("ignored until {until}: in {} these images are judged again", in_words(left))))
        }
        Ok(_) => None,
    }
}
