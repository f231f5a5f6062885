//! `taglog verify`: checks whether images may be deployed.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use taglog_proto::name::{Tag, WitnessId};

use super::{
    context::{Failure, Global, Report},
    progress_bar::Bar,
    session::{self, Logs},
    source_options::SourceOptions,
    verification::{self, ImageQueries},
    verify_output::{OutputOptions, ReportArgs, report},
};
use taglog_base::duration::parse_duration;
use taglog_base::text::path_line;
use taglog_image_sources as sources;
use taglog_policy::Overrides;
use taglog_verify::platform::Platform;
use taglog_verify::{
    Verification, VerificationOptions,
    saved::{self, ProofFileError},
};

/// Check that images are what their tags have always been
#[derive(Debug, Args)]
#[command(after_help = format!("\
Examples:
  taglog verify busybox:1.36.1 registry.example/team/app:v1
  taglog verify -f Dockerfile -f compose.yaml -f k8s/
  helm template chart | taglog verify -f -
  docker pull $(taglog verify --print-digest busybox:1.36.1)
  taglog verify --print-digest --settled node:22-slim
  taglog verify -f k8s/ --save deploy.tagproof
  taglog verify -f k8s/ --offline deploy.tagproof
  taglog verify -f . --output github --report sarif=taglog.sarif --report junit=taglog.xml

Verdicts:
  ok          enough witnesses sighted this digest and no other, freshly enough       passes
  moving      the tag may move, and this is the newest digest                         passes
  approved    the tag has moved, and a person approved this digest (taglog.lock)      passes
  rebuilt     the tag has moved, and it looks like a rebuild on a new base            passes, warns
  new         first seen not long ago, or by too few witnesses                        warns or fails
  disputed    one witness contradicts all others                                      fails
  retagged    the tag has pointed to more than one digest                             fails
  behind      the registry serves an older digest of a tag that may move              fails
  mismatch    the registry serves a digest that no witness has seen                   fails
  unknown     nothing is logged for the tag                                           fails
  uncovered   nothing is logged for the whole repository                              fails
  stale       the state of the log or of the witnesses is too old                     fails
  incomplete  a log did not give complete lists                                       fails
  misbehaved  a proof is false, or the log contradicts itself; the evidence is kept   fails

{}

{}", super::source_options::FILE_KINDS, super::context::EXIT_CODES))]
pub struct VerifyArgs {
    /// Images: repository:tag, with @digest to check that digest without asking the registry; or name files with -f
    #[arg(value_name = "IMAGE[@DIGEST]")]
    images: Vec<String>,
    /// Check all images that this file names; a directory is walked, - is standard input; may be repeated
    #[arg(short, long, value_name = "FILE")]
    file: Vec<PathBuf>,
    #[command(flatten)]
    sources: SourceOptions,
    /// Print only repository@digest of each image, and nothing unless all pass
    #[arg(long, conflicts_with = "output")]
    print_digest: bool,
    /// With --print-digest: not what the registry serves, but the newest digest that is old enough (min-age, else 24 h)
    #[arg(long, requires = "print_digest")]
    settled: bool,
    /// Let only digests pass that are in taglog.lock
    #[arg(long)]
    locked: bool,
    /// Let this platform's own manifest pass where the index that lists it passes, as in linux/amd64
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<Platform>,
    /// Write the proofs to a file, for --offline
    #[arg(long, value_name = "FILE.tagproof", conflicts_with = "offline")]
    save: Option<PathBuf>,
    /// Check saved proofs, without network; without images, everything in the file
    #[arg(long, value_name = "FILE.tagproof")]
    offline: Option<PathBuf>,
    /// A tag that may move, besides what policy says; may be repeated
    #[arg(long, value_name = "TAG")]
    moving: Vec<String>,
    /// How many witnesses must have sighted the digest [default: what policy says, else 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    witnesses: Option<u16>,
    /// Count only this witness (name+id); may be repeated
    #[arg(long, value_name = "ID")]
    witness: Vec<String>,
    /// How long ago enough witnesses must have first seen the digest [default: what policy says; else younger than 24 h
    /// warns]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    min_age: Option<Duration>,
    /// The oldest log state to accept, by its quorum of cosignatures, or by its seal where the trust file asks for
    /// none [default: what policy says, else 1h; with --offline any, its age is shown]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    max_age: Option<Duration>,
    /// How recently a witness must have vouched for a digest [default: what policy says, else 7d]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    freshness: Option<Duration>,
    #[command(flatten)]
    reports: ReportArgs,
}

const NOTHING_TO_VERIFY: &str = "nothing to verify: give an IMAGE, or files and directories that name images with -f FILE, \
                                 as in 'taglog verify -f .'; --help has examples";

/// One look-up for all images in each log, the registries in parallel, a verdict for each image.
pub async fn run(global: &Global, args: VerifyArgs) -> Result<Report, Failure> {
    if args.images.is_empty() && args.file.is_empty() && args.offline.is_none() {
        return Err(Failure::usage(NOTHING_TO_VERIFY));
    }
    let options = options(global, &args)?;
    let mut queries = ImageQueries::of_arguments(&args.images)?;
    let policy = &options.policy;
    let found = sources::read_with(&args.file, &args.sources.options(policy)?).map_err(Failure::usage)?;
    let notes = if args.file.is_empty() { Vec::new() } else { args.sources.notes(policy, &found.skipped) };
    queries.add_found(&found);
    let logs = Logs::open(global, &options.policy)?;
    let output =
        OutputOptions { format: global.report, print_digest: args.print_digest, reports: args.reports.clone() };
    let untagged = std::mem::take(&mut queries.untagged);
    let verification = match &args.offline {
        // Without queries, a proof file answers for all of its images; files that name no image must not cause that.
        Some(_) if queries.all.is_empty() && !args.file.is_empty() => Verification::default(),
        Some(path) => offline(&args, &logs, &options, path, queries).await?,
        None => online(global, &args, &logs, options, queries).await?,
    };
    let (left_out, excluded) = (found.left_out, found.excluded);
    let mut report = report(&output, &Verification { left_out, excluded, untagged, ..verification })?;
    report.notes.extend(notes);
    Ok(report)
}

fn options(global: &Global, args: &VerifyArgs) -> Result<VerificationOptions, Failure> {
    let moving = args.moving.iter().map(|tag| Tag::parse(tag)).collect::<Result<_, _>>().map_err(Failure::usage)?;
    let witnesses =
        args.witness.iter().map(|id| WitnessId::parse(id)).collect::<Result<_, _>>().map_err(Failure::usage)?;
    let overrides = Overrides {
        witnesses,
        agree: args.witnesses.map(usize::from),
        moving,
        max_age: args.max_age,
        freshness: args.freshness,
        min_age: args.min_age,
    };
    let policy = session::policy(global)?.overriding(overrides);
    let (_, lock) = session::lock(&policy)?;
    Ok(VerificationOptions {
        policy,
        lock,
        locked: args.locked,
        settled: args.settled,
        platform: args.platform.clone(),
    })
}

async fn online(
    global: &Global,
    args: &VerifyArgs,
    logs: &Logs,
    options: VerificationOptions,
    queries: ImageQueries,
) -> Result<Verification, Failure> {
    let verifier = verification::verifier(global, logs, options)?.with_progress(Bar::images(queries.all.len()));
    let verification = verifier.verify(queries.all).await?;
    if let Some(path) = args.save.as_ref().filter(|_| !verification.lookups.is_empty()) {
        saved::save(path, &verification).map_err(|error| Failure::usage(format!("{}: {error}", path_line(path))))?;
    }
    Ok(verification)
}

async fn offline(
    args: &VerifyArgs,
    logs: &Logs,
    options: &VerificationOptions,
    path: &Path,
    queries: ImageQueries,
) -> Result<Verification, Failure> {
    let answered = saved::verify(path, &logs.trusted, options, queries.all, args.max_age).await;
    answered.map_err(|error| match &error {
        ProofFileError::Unusable { .. }
        | ProofFileError::Missing { .. }
        | ProofFileError::NoProof { .. }
        | ProofFileError::Policy(_) => Failure::usage(error),
        ProofFileError::InsufficientTrust { .. } => Failure::failed(error),
    })
}
