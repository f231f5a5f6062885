//! `taglog approve`: a person has looked at a digest, and lets it pass.

use clap::Args;
use serde_json::{Value, json};
use taglog_proto::{
    entry::Seen,
    name::{Digest, Image},
    tag_proof::ImageReport,
};

use super::{
    context::{Failure, Format, Global, Report, exit},
    judging, output,
    session::{self, Logs, now, parse_reference},
};
use taglog_log_client::lookup::LogLookup;
use taglog_policy::{
    Case, Demands, Judgement, Policy, judge,
    lock::{Approval, Lock},
};
use taglog_verify::Rules;

/// Record that a person has looked at a digest of a tag, and lets it pass
#[derive(Debug, Args)]
#[command(after_help = format!("\
Examples:
  taglog approve busybox:1.36.1@sha256:3fbc… --reason 'rebuilt on the new base, checked the layers'
  taglog approve registry.example/team/app:v1@sha256:9a3e… --by ada@team.example --reason 'hotfix, release notes read'

Writes a line into taglog.lock, beside the policy or in the working directory, for code review: image, digest, day, \
who, why. From then on 'taglog verify' lets exactly that digest pass under that tag, whatever else the tag has been, \
with the verdict 'approved'. A witness that counts must have sighted the digest under the tag, unless --unseen is given.

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

/// What one log says of the digest before it is approved.
struct Known {
    log: String,
    report: ImageReport,
    demands: Demands,
    judgement: Judgement,
}

/// Look the image up, see that the digest was sighted, write the line.
pub async fn run(global: &Global, args: ApproveArgs) -> Result<Report, Failure> {
    let policy = session::policy(global)?;
    let (path, lock) = session::lock(&policy)?;
    let (image, digest) = parse_reference(&args.image)?;
    let digest = digest.ok_or_else(|| Failure::usage(format!("{image}: name the digest too: {image}@sha256:…")))?;
    let logged = policy.logged_name(&image);
    let approval =
        Approval::new(logged.clone(), digest, &args.reason, args.by.as_deref(), now()).map_err(Failure::usage)?;
    let known = if args.unseen { Vec::new() } else { look(global, &policy, &lock, &logged, digest).await? };
    if !args.unseen && !known.iter().any(|known| known.sighted(digest)) {
        return Ok(not_sighted(global, &known, &logged, digest));
    }
    Lock::update(&path, approval.clone()).map_err(Failure::usage)?;
    let output = match global.output {
        Format::Text => {
            let before = before_text(&known, &lock, &logged);
            format!("{before}approved    {logged}@{digest}\n            recorded in {}\n", path.display())
        }
        Format::Json => {
            let before: Vec<Value> = known.iter().map(Known::json).collect();
            let Approval { date, by, reason, .. } = &approval;
            let approved = json!({ "date": date, "by": by, "reason": reason, "lock": path.display().to_string() });
            let (image, digest) = (logged.to_string(), digest.to_string());
            format!("{}\n", json!({ "image": image, "digest": digest, "approved": approved, "before": before }))
        }
    };
    Ok(Report::done(output))
}

/// One look-up in each log, verified; the registry is not asked.
async fn look(
    global: &Global,
    policy: &Policy,
    lock: &Lock,
    logged: &Image,
    digest: Digest,
) -> Result<Vec<Known>, Failure> {
    let rules = Rules { policy: policy.clone(), lock: lock.clone(), locked: false, settled: false, platform: None };
    let verifier = judging::verifier(global, &Logs::open(global, policy)?, rules)?;
    let looked = verifier.look_up(std::slice::from_ref(logged)).await?;
    let known = |looked: &LogLookup| -> Result<Known, Failure> {
        let report = looked.report(logged).ok_or_else(|| Failure::failed("the log did not answer"))?.clone();
        let (demands, approved) = (policy.demands(logged).in_log(&looked.log), lock.approved(logged));
        let served = Some(digest);
        let case = Case { report: &report, served, demands: &demands, approved: &approved, now: now() };
        let judgement = judge(&case);
        Ok(Known { log: looked.log.clone(), report, demands, judgement })
    };
    looked.iter().map(known).collect()
}

impl Known {
    /// Whether a witness whose word counts has sighted the digest.
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
        output::log_answer_json(&self.log, &self.judgement, Some(&self.report))
    }
}

/// What the tag was and is, and what was approved before.
fn before_text(known: &[Known], lock: &Lock, logged: &Image) -> String {
    let mut text = String::new();
    for Known { log, report, judgement, .. } in known {
        text += &format!("{:<10}  {logged} in {log}\n            {}\n", judgement.verdict, judgement.reason);
        text += &output::history_lines(report, "            ");
    }
    for before in lock.of(logged).filter(|_| !known.is_empty()) {
        text += &format!("            {} was approved on {}: {}\n", before.digest, before.date, before.reason);
    }
    text
}

fn not_sighted(global: &Global, known: &[Known], logged: &Image, digest: Digest) -> Report {
    let note = format!(
        "{logged}: no witness that counts has sighted {digest} under this tag, nothing was approved; check the digest, or \
         wait for the witnesses; --unseen approves it all the same"
    );
    let output = match global.output {
        Format::Text => known.iter().map(|known| output::history_lines(&known.report, "  ")).collect(),
        Format::Json => {
            let (image, digest) = (logged.to_string(), digest.to_string());
            let before: Vec<Value> = known.iter().map(Known::json).collect();
            format!("{}\n", json!({ "image": image, "digest": digest, "approved": null, "before": before }))
        }
    };
    Report { output, notes: vec![note], exit: exit::VERDICT }
}
