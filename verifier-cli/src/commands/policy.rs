//! `taglog policy`: checks a policy, and explains what applies to an image.

use std::{collections::BTreeSet, fmt::Write as _, path::Path, path::PathBuf};

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use taglog_proto::{
    name::{Image, WitnessId},
    note::VerifierKey,
};

use super::{
    context::{Failure, Format, Global, Report, exit},
    output,
    session::{self, Logs, now, parse_reference},
};
use taglog_base::duration::exactly;
use taglog_base::text::{one_line, path_line};
use taglog_policy::{
    Demands, Exclusion, FILE_NAME, Policy, TrustedWitness, WARN_AGE,
    check::{Diagnostic, Severity, diagnostics, unlisted_witnesses},
    lock::{Approval, Lock},
};
use taglog_verify::TrustedLog;

/// Check a policy, and show which line of it applies to an image and why
#[derive(Debug, Args)]
pub struct PolicyArgs {
    #[command(subcommand)]
    command: PolicyCommand,
}

#[derive(Debug, Subcommand)]
enum PolicyCommand {
    Check(CheckArgs),
    Explain(ExplainArgs),
}

/// Check that a policy can be read and has no mistakes
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  taglog policy check
  taglog policy check deploy/taglog.toml
  taglog policy check --online

Reads the policy, the trust file that it names and the lock beside it. Problems are rules without effect, and an 'ignore' or \
an 'exclude' that has ended. One that ends within 14 days is a note.

Works without network, unless --online is given: then the log is asked for its roster (GET /api/v1/log, without a proof), \
and a witness that the policy names and the roster does not have is a problem too.

Exit codes:
  0  there are no problems
  1  there are problems
  2  the policy, its trust file or its lock cannot be read, or there is none
  3  with --online: the log could not be asked, or it is not the trusted one")]
struct CheckArgs {
    /// The policy [default: the one that 'taglog verify' would take]
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// Ask the log whether the witnesses that the policy names are in its roster
    #[arg(long)]
    online: bool,
}

/// Show what applies to images, which line decides it, and why
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  taglog policy explain busybox:1.36.1
  taglog policy explain --policy none --output json registry.k8s.io/pause:3.10

Works without network. What publishers document about their tags is a list shipped with taglog; each entry names its source.")]
struct ExplainArgs {
    /// Images: repository:tag
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
}

/// Runs one of the commands of `taglog policy`.
pub async fn run(global: &Global, args: &PolicyArgs) -> Result<Report, Failure> {
    match &args.command {
        PolicyCommand::Check(args) => check(global, args).await,
        PolicyCommand::Explain(args) => explain(global, args),
    }
}

async fn check(global: &Global, args: &CheckArgs) -> Result<Report, Failure> {
    let policy = match &args.file {
        Some(path) => Policy::read(path).map_err(Failure::usage)?,
        None => session::policy(global)?,
    };
    let none = || format!("there is no {FILE_NAME} in this directory or above it: name a policy file");
    let path = policy.path().ok_or_else(|| Failure::usage(none()))?.to_owned();
    if let Some(trust) = policy.trust_path() {
        session::check_until(&policy, &session::trust_file(&trust)?)?;
    }
    let (_, lock) = session::lock(&policy)?;
    let roster = if args.online { Some(roster(global, &policy).await?) } else { None };
    let mut found = diagnostics(&policy, now());
    found.extend(roster.iter().flat_map(|roster| unlisted_witnesses(&policy, roster)));
    found.sort_by_key(|diagnostic| diagnostic.line);
    let problems = found.iter().any(|diagnostic| diagnostic.severity == Severity::Problem);
    let output = match global.output {
        Format::Json => format!("{}\n", check_json(&path, &policy, &lock, &found, roster.as_ref())),
        Format::Text => check_text(&path, &policy, &lock, &found, roster.as_ref()),
    };
    Ok(Report { output, notes: Vec::new(), exit: if problems { exit::VERDICT } else { exit::OK } })
}

/// The witnesses in the rosters that the logs serve, without a proof: enough to find a mistyped id.
async fn roster(global: &Global, policy: &Policy) -> Result<BTreeSet<WitnessId>, Failure> {
    let mut all = BTreeSet::new();
    for TrustedLog { client, trust } in Logs::open(global, policy)?.clients()? {
        let description = client.description().await.map_err(Failure::failed)?;
        let trusted = trust.log.to_string();
        if description.vkey != trusted {
            let other = one_line(&description.vkey);
            return Err(Failure::failed(format!(
                "the log at that address is {other}, but the trust file names {trusted}"
            )));
        }
        for vkey in &description.roster.witnesses {
            let failed = |error: &dyn std::fmt::Display| Failure::failed(format!("the log's roster: {error}"));
            let vkey: VerifierKey = vkey.parse().map_err(|error| failed(&error))?;
            let id = WitnessId::parse(&format!("{}+{}", vkey.name(), vkey.key_id())).map_err(|error| failed(&error))?;
            all.insert(id);
        }
    }
    Ok(all)
}

fn check_text(
    path: &Path,
    policy: &Policy,
    lock: &Lock,
    diagnostics: &[Diagnostic],
    roster: Option<&BTreeSet<WitnessId>>,
) -> String {
    let (path, rules, approvals) = (path_line(path), policy.rules().len(), lock.approvals().len());
    let diagnostics: String = diagnostics.iter().map(|diagnostic| format!("{path}: {diagnostic}\n")).collect();
    let (trusted, exclusions) = (policy.trusted().len(), policy.exclusions().len());
    let exclusions = if exclusions == 0 { String::new() } else { format!(", {exclusions} exceptions for files") };
    let witnesses = match roster {
        _ if trusted == 0 => String::new(),
        Some(roster) => format!(", {trusted} witnesses (the log's roster has {})", roster.len()),
        None => format!(", {trusted} witnesses (--online compares them with the log's roster)"),
    };
    format!("{diagnostics}{path}: {rules} rules, {approvals} approved digests{exclusions}{witnesses}\n")
}

fn check_json(
    path: &Path,
    policy: &Policy,
    lock: &Lock,
    diagnostics: &[Diagnostic],
    roster: Option<&BTreeSet<WitnessId>>,
) -> Value {
    let diagnostic = |diagnostic: &Diagnostic| {
        let gravity = if diagnostic.severity == Severity::Problem { "problem" } else { "note" };
        json!({ "line": diagnostic.line, "gravity": gravity, "what": diagnostic.message })
    };
    json!({
        "policy": path.display().to_string(),
        "rules": policy.rules().len(),
        "exclusions": policy.exclusions().len(),
        "approved": lock.approvals().len(),
        "trusted": policy.trusted().len(),
        "roster": roster.map(|roster| roster.iter().map(WitnessId::to_string).collect::<Vec<_>>()),
        "remarks": diagnostics.iter().map(diagnostic).collect::<Vec<_>>(),
    })
}

/// What policy demands of one image.
struct ImagePolicy<'a> {
    image: Image,
    logged: Image,
    demands: Demands,
    approvals: Vec<&'a Approval>,
}

fn explain(global: &Global, args: &ExplainArgs) -> Result<Report, Failure> {
    let policy = session::policy(global)?;
    let (_, lock) = session::lock(&policy)?;
    let mut images = Vec::new();
    for text in &args.images {
        let (image, _) = parse_reference(text)?;
        let logged = policy.logged_name(&image);
        let (demands, approvals) = (policy.demands(&logged), lock.of(&logged).collect());
        images.push(ImagePolicy { image, logged, demands, approvals });
    }
    let output = match global.output {
        Format::Text => images.iter().map(image_policy_text).collect::<String>() + &exclusions_text(&policy),
        Format::Json => {
            let images: Vec<Value> = images.iter().map(image_policy_json).collect();
            let path = policy.path().map(|path| path.display().to_string());
            let exclusions: Vec<Value> = policy.exclusions().iter().map(exclusion_json).collect();
            format!("{}\n", json!({ "policy": path, "images": images, "exclusions": exclusions }))
        }
    };
    Ok(Report::done(output))
}

fn exclusion_json(exclusion: &Exclusion) -> Value {
    let Exclusion { ignore, line, .. } = exclusion;
    let applies = exclusion.applies(now());
    json!({ "line": line, "reason": ignore.reason, "until": ignore.until.to_string(), "applies": applies })
}

/// The exceptions for files, which can also be about these images.
fn exclusions_text(policy: &Policy) -> String {
    let exclusions = policy.exclusions().iter().map(|exclusion| {
        let Exclusion { ignore, line, .. } = exclusion;
        let over = if exclusion.applies(now()) { "" } else { " (which has ended)" };
        format!("exception for files, line {line}, until {}{over}: {}\n", ignore.until, ignore.reason)
    });
    exclusions.collect()
}

fn image_policy_text(policy: &ImagePolicy) -> String {
    let ImagePolicy { image, logged, demands, approvals } = policy;
    let min_age = match demands.min_age {
        Some(min_age) => format!("{}, a younger digest fails", exactly(min_age)),
        None => format!("none, a digest younger than {} is new and passes with a warning", exactly(WARN_AGE)),
    };
    let mut rows = vec![
        ("expect", demands.expectation.to_string()),
        ("agree", demands.agree.to_string()),
        ("min-age", min_age),
        ("max-age", exactly(demands.max_age)),
        ("freshness", exactly(demands.freshness)),
    ];
    if logged != image {
        rows.insert(0, ("in the log", logged.to_string()));
    }
    if demands.trusted.is_empty() {
        rows.push(("trusted", "every witness of the log".to_owned()));
    }
    rows.extend(demands.trusted.iter().map(|witness| ("trusted", format!("{}{}", witness.id, until_text(witness)))));
    if let Some(ignore) = &demands.ignore {
        let over = if ignore.applies(now()) { "" } else { " (which has ended)" };
        rows.push(("ignored", format!("until {}{over}: {}", ignore.until, ignore.reason)));
    }
    rows.extend(approvals.iter().map(|approval| {
        let by = approval.by.as_ref().map(|by| format!(" by {by}")).unwrap_or_default();
        ("approved", format!("{} on {}{by}: {}", approval.digest, approval.date, approval.reason))
    }));
    rows.extend(demands.because.iter().map(|because| ("because", because.clone())));
    let mut text = format!("{image}\n");
    for (key, value) in rows {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {key:<10}  {value}");
    }
    text
}

fn until_text(witness: &TrustedWitness) -> String {
    match witness.until.filter(|_| witness.until_in.is_empty()) {
        Some(until) => format!(", until entry {until}"),
        None => witness.until_in.iter().map(|(log, until)| format!(", until entry {until} of {log}")).collect(),
    }
}

fn image_policy_json(policy: &ImagePolicy) -> Value {
    let ImagePolicy { image, logged, demands, approvals } = policy;
    let trusted = demands.trusted.iter().map(output::trusted_json);
    let ignore = demands.ignore.as_ref().map(|ignore| {
        let applies = ignore.applies(now());
        json!({ "reason": ignore.reason, "until": ignore.until.to_string(), "applies": applies })
    });
    let approved = approvals.iter().map(|approval| {
        let Approval { digest, date, by, reason, .. } = approval;
        json!({ "digest": digest.to_string(), "date": date, "by": by, "reason": reason })
    });
    json!({
        "image": image.to_string(),
        "logged": logged.to_string(),
        "expect": demands.expectation,
        "agree": demands.agree,
        "minAgeSeconds": demands.min_age.map(|age| age.as_secs()),
        "maxAgeSeconds": demands.max_age.as_secs(),
        "freshnessSeconds": demands.freshness.as_secs(),
        "trusted": trusted.collect::<Vec<_>>(),
        "ignore": ignore,
        "approved": approved.collect::<Vec<_>>(),
        "because": demands.because,
    })
}
