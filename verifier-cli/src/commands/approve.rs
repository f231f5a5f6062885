//! `taglog approve`: records that a person reviewed a digest and lets it pass.

use clap::Args;
use serde_json::{Value, json};
use taglog_proto::{
    entry::Seen,
    name::{Digest, Image},
    tag_proof::ImageReport,
};

use super::{
    context::{Failure, Format, Global, Report, exit},
    output,
    session::{self, Logs, now, parse_reference},
    verification,
};
use taglog_base::text::path_line;
use taglog_log_client::lookup::LogLookup;
use taglog_policy::{
    Demands, Evaluation, EvaluationInput, Policy, evaluate,
    lock::{Approval, Lock},
};
use taglog_verify::VerificationOptions;

/// Record that a person has reviewed a digest of a tag, and lets it pass
#[derive(Debug, Args)]
#[command(after_help = format!("\
Examples:
  taglog approve busybox:1.36.1@sha256:3fbc… --reason 'rebuilt on the new base, checked the layers'
  taglog approve registry.example/team/app:v1@sha256:9a3e… --by ada@team.example --reason 'hotfix, release notes read'

Writes a line into taglog.lock, beside the policy or in the working directory, for code review: image, digest, day, \
who, why. From then on 'taglog verify' lets exactly that digest pass under that tag, whatever else the tag has been, \
with the verdict 'approved'. A trusted witness must have sighted the digest under the tag, unless --unseen is given.

{}", super::context::EXIT_CODES))]
pub struct ApproveArgs {
    /// The image and the digest: repository:tag@digest
    #[arg(value_name = "IMAGE@DIGEST")]
    image: String,
    /// Why it may pass, in one line
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Who approves it
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
    /// Approve it though no witness has sighted it; the log is not asked
    #[arg(long)]
    unseen: bool,
}

/// The state of the tag in one log before the approval.
struct LogState {
    log: String,
    report: ImageReport,
    demands: Demands,
    evaluation: Evaluation,
}

/// Looks the image up, checks that the digest was sighted, and adds the approval.
pub async fn run(global: &Global, args: ApproveArgs) -> Result<Report, Failure> {
    let policy = session::policy(global)?;
    let (path, lock) = session::lock(&policy)?;
    let (image, digest) = parse_reference(&args.image)?;
    let digest = digest.ok_or_else(|| Failure::usage(format!("{image}: name the digest too: {image}@sha256:…")))?;
    let logged = policy.logged_name(&image);
    let approval =
        Approval::new(logged.clone(), digest, &args.reason, args.by.as_deref(), now()).map_err(Failure::usage)?;
    let states = if args.unseen { Vec::new() } else { look_up(global, &policy, &lock, &logged, digest).await? };
    if !args.unseen && !states.iter().any(|state| state.sighted(digest)) {
        return Ok(not_sighted(global, &states, &logged, digest));
    }
    Lock::update(&path, approval.clone()).map_err(Failure::usage)?;
    let output = match global.output {
        Format::Text => {
            let before = before_text(&states, &lock, &logged);
            format!("{before}approved    {logged}@{digest}\n            recorded in {}\n", path_line(&path))
        }
        Format::Json => {
            let before: Vec<Value> = states.iter().map(LogState::json).collect();
            let Approval { date, by, reason, .. } = &approval;
            let approved = json!({ "date": date, "by": by, "reason": reason, "lock": path.display().to_string() });
            let (image, digest) = (logged.to_string(), digest.to_string());
            format!("{}\n", json!({ "image": image, "digest": digest, "approved": approved, "before": before }))
        }
    };
    Ok(Report::done(output))
}

/// One look-up in each log, verified; the registry is not asked.
async fn look_up(
    global: &Global,
    policy: &Policy,
    lock: &Lock,
    logged: &Image,
    digest: Digest,
) -> Result<Vec<LogState>, Failure> {
    let options = VerificationOptions {
        policy: policy.clone(),
        lock: lock.clone(),
        locked: false,
        settled: false,
        platform: None,
    };
    let verifier = verification::verifier(global, &Logs::open(global, policy)?, options)?;
    let lookups = verifier.look_up(std::slice::from_ref(logged)).await?;
    let state = |lookup: &LogLookup| -> Result<LogState, Failure> {
        let report = lookup.report(logged).ok_or_else(|| Failure::failed("the log did not answer"))?.clone();
        let (demands, approved) = (policy.demands(logged).in_log(&lookup.log), lock.approved(logged));
        let served = Some(digest);
        let input = EvaluationInput { report: &report, served, demands: &demands, approved: &approved, now: now() };
        let evaluation = evaluate(&input);
        Ok(LogState { log: lookup.log.clone(), report, demands, evaluation })
    };
    lookups.iter().map(state).collect()
}

impl LogState {
    /// Whether a trusted witness has sighted the digest.
    fn sighted(&self, digest: Digest) -> bool {
        self.report.witnesses.iter().any(|witness| {
            let trusted = self.demands.trusts(&witness.line.witness);
            trusted.is_some_and(|trusted| {
                let counts = |index: u64| trusted.until.is_none_or(|until| index < until);
                let sightings = witness.sightings.iter().map(|sighted| sighted.sighting);
                let mut counting = sightings.filter(|sighting| counts(sighting.index));
                counting.any(|sighting| sighting.seen == Seen::Digest(digest))
            })
        })
    }

    fn json(&self) -> Value {
        output::log_evaluation_json(&self.log, &self.evaluation, Some(&self.report))
    }
}

/// The history of the tag, and earlier approvals.
fn before_text(states: &[LogState], lock: &Lock, logged: &Image) -> String {
    let mut text = String::new();
    for LogState { log, report, evaluation, .. } in states {
        text += &format!("{:<10}  {logged} in {log}\n            {}\n", evaluation.verdict, evaluation.reason);
        text += &output::history_lines(report, "            ");
    }
    for before in lock.of(logged).filter(|_| !states.is_empty()) {
        text += &format!("            {} was approved on {}: {}\n", before.digest, before.date, before.reason);
    }
    text
}

fn not_sighted(global: &Global, states: &[LogState], logged: &Image, digest: Digest) -> Report {
    let note = format!(
        "nothing was approved: no trusted witness has sighted {digest} under {logged}; check the digest, wait for the \
         witnesses, or approve it anyway with --unseen"
    );
    let output = match global.output {
        Format::Text => states.iter().map(|state| output::history_lines(&state.report, "  ")).collect(),
        Format::Json => {
            let (image, digest) = (logged.to_string(), digest.to_string());
            let before: Vec<Value> = states.iter().map(LogState::json).collect();
            format!("{}\n", json!({ "image": image, "digest": digest, "approved": null, "before": before }))
        }
    };
    Report { output, notes: vec![note], exit: exit::VERDICT }
}
