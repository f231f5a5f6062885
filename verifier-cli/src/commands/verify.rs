//! `taglog verify`: may these images be deployed?

use std::{
    collections::BTreeMap,
    io::IsTerminal as _,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use indicatif::ProgressBar;
use serde_json::{Value, json};
use taglog_proto::{
    name::{Digest, Image, Tag, WitnessId},
    tag_proof::{MAX_TAG_PROOF, TagProof},
    time::Timestamp,
};
use tokio::task::JoinSet;

use super::{
    Failure, Format, Global, Report, exit, output,
    session::{Session, now, parse_reference, registry},
};
use crate::{
    client::lookup::{Looked, look_up, verify_saved},
    duration::parse_duration,
    policy::{Judgement, Policy, Verdict, judge},
    registry::{Registry, RegistryError},
};

/// Registries asked at once.
const PARALLEL: usize = 32;
/// How far a seal may be dated after our own clock.
const FUTURE_TOLERANCE: i64 = 300;

/// Check that images are what their tags have always been
#[derive(Debug, Args)]
#[command(after_help = format!("\
Examples:
  taglog verify busybox:1.36.1 registry.example/team/app:v1
  docker pull $(taglog verify --print-digest busybox:1.36.1)
  taglog verify --save app.tagproof registry.example/team/app:v1
  taglog verify --offline app.tagproof registry.example/team/app:v1@sha256:3fbc…

Verdicts:
  ok          enough witnesses sighted this digest and no other, freshly enough       passes
  moving      the tag may move, and this is the newest digest                         passes
  new         fewer witnesses than --witnesses asks for have sighted it               fails
  retagged    the tag has pointed to more than one digest                             fails
  behind      the registry serves an older digest of a tag that may move              fails
  mismatch    the registry serves a digest that no witness has seen                   fails
  unknown     nothing is logged for the tag                                           fails
  uncovered   nothing is logged for the whole repository                              fails
  stale       what is known is too old                                                fails
  incomplete  the log did not give whole lists                                        fails
  misbehaved  a proof is false, or the log contradicts itself; what shows it is kept  fails

{}", super::EXIT_CODES))]
pub struct VerifyArgs {
    /// Images: repository:tag, with @digest to check that digest without asking the registry
    #[arg(value_name = "IMAGE[@DIGEST]", required_unless_present = "offline")]
    images: Vec<String>,
    /// Print only repository@digest of each image, and nothing unless all pass
    #[arg(long, conflicts_with = "output")]
    print_digest: bool,
    /// Write the proofs to a file, for --offline
    #[arg(long, value_name = "FILE.tagproof", conflicts_with = "offline")]
    save: Option<PathBuf>,
    /// Check saved proofs, without network; without images, everything in the file
    #[arg(long, value_name = "FILE.tagproof")]
    offline: Option<PathBuf>,
    /// A tag that may move, besides 'latest'; may be repeated
    #[arg(long, value_name = "TAG")]
    moving: Vec<String>,
    /// How many witnesses must have sighted the digest
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    witnesses: u16,
    /// Count only this witness (name+id); may be repeated
    #[arg(long, value_name = "ID")]
    witness: Vec<String>,
    /// The oldest log state to accept [default: 1h; with --offline any, its age is shown]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    max_age: Option<Duration>,
    /// How recently a witness must have vouched for a digest
    #[arg(long, default_value = "7d", value_name = "DURATION", value_parser = parse_duration)]
    freshness: Duration,
}

/// What is asked about one image.
struct Question {
    image: Image,
    /// The digest after '@'.
    digest: Option<Digest>,
}

/// One image, what the registry serves, and what follows.
struct Answer {
    image: Image,
    served: Option<Digest>,
    judgement: Judgement,
}

/// One look-up for all images, the registries in parallel, a verdict for each.
pub async fn run(global: &Global, args: VerifyArgs) -> Result<Report, Failure> {
    let policy = policy(&args)?;
    let questions = questions(&args.images)?;
    let session = Session::open(global)?;
    match &args.offline {
        Some(path) => offline(global, &args, &session, &policy, path, questions),
        None => online(global, &args, &session, &policy, questions).await,
    }
}

fn policy(args: &VerifyArgs) -> Result<Policy, Failure> {
    let mut moving =
        args.moving.iter().map(|tag| Tag::parse(tag)).collect::<Result<Vec<_>, _>>().map_err(Failure::usage)?;
    moving.extend(Tag::parse("latest"));
    let witnesses =
        args.witness.iter().map(|id| WitnessId::parse(id)).collect::<Result<_, _>>().map_err(Failure::usage)?;
    Ok(Policy { witnesses, quorum: usize::from(args.witnesses), moving, freshness: args.freshness })
}

/// Each image once; the same image with two digests is a contradiction.
fn questions(images: &[String]) -> Result<Vec<Question>, Failure> {
    let mut questions: Vec<Question> = Vec::new();
    for text in images {
        let (image, digest) = parse_reference(text)?;
        match questions.iter().find(|question| question.image == image) {
            Some(question) if question.digest != digest => {
                return Err(Failure::usage(format!("{image} is named twice, with different digests")));
            }
            Some(_) => {}
            None => questions.push(Question { image, digest }),
        }
    }
    Ok(questions)
}

async fn online(
    global: &Global,
    args: &VerifyArgs,
    session: &Session,
    policy: &Policy,
    questions: Vec<Question>,
) -> Result<Report, Failure> {
    let (client, log) = (session.client()?, &session.trust.log);
    let remembered = session.memory.load(log).map_err(Failure::usage)?;
    let images: Vec<Image> = questions.iter().map(|question| question.image.clone()).collect();
    let registry = registry(global)?;
    let (looked, served) =
        tokio::join!(look_up(&client, log, &images, remembered.as_ref()), ask_registries(&registry, &questions),);
    let looked = looked.map_err(|error| session.failure(error));
    let looked = match looked {
        Err(failure) if failure.exit == exit::MISBEHAVED => return Ok(misbehaved(global, args, &images, &failure)),
        looked => looked?,
    };
    if let Some(newest) = looked.newest() {
        session.memory.advance(log, remembered.as_ref(), newest).map_err(Failure::usage)?;
    }
    if let Some(path) = &args.save {
        save(path, &looked)?;
    }
    let max_age = Some(args.max_age.unwrap_or(Duration::from_secs(3600)));
    let mut notes = Vec::new();
    let mut answers = Vec::new();
    for question in questions {
        match served.get(&question.image) {
            Some(Err(error)) => notes.push(error.to_string()),
            Some(Ok(digest)) => {
                let judgement = judge_one(&looked, &question.image, Some(*digest), policy, max_age, Some(now()));
                answers.push(Answer { image: question.image, served: Some(*digest), judgement });
            }
            None => notes.push(format!("{}: the registry was not asked", question.image)),
        }
    }
    Ok(report(global, args, &looked, &answers, notes))
}

/// Digests by image: those written after '@', and what registries say for the others.
async fn ask_registries(registry: &Registry, questions: &[Question]) -> BTreeMap<Image, Result<Digest, RegistryError>> {
    let (pinned, open): (Vec<&Question>, Vec<&Question>) = questions.iter().partition(|q| q.digest.is_some());
    let pinned = pinned.into_iter().filter_map(|q| q.digest.map(|digest| (q.image.clone(), Ok(digest))));
    let mut served: BTreeMap<Image, Result<Digest, RegistryError>> = pinned.collect();
    let progress = progress(open.len());
    let mut waiting = open.into_iter().map(|question| question.image.clone());
    let mut asking = JoinSet::new();
    loop {
        while asking.len() < PARALLEL
            && let Some(image) = waiting.next()
        {
            let registry = registry.clone();
            asking.spawn(async move {
                let digest = registry.head(&image).await;
                (image, digest)
            });
        }
        match asking.join_next().await {
            Some(Ok((image, digest))) => served.insert(image, digest),
            // A task that panicked leaves its image unasked, which is reported.
            Some(Err(_)) => None,
            None => break,
        };
        progress.inc(1);
    }
    progress.finish_and_clear();
    served
}

/// A progress bar where it helps: on a terminal, for more than a handful of images.
fn progress(count: usize) -> ProgressBar {
    if count > 4 && std::io::stderr().is_terminal() { ProgressBar::new(count as u64) } else { ProgressBar::hidden() }
}

fn offline(
    global: &Global,
    args: &VerifyArgs,
    session: &Session,
    policy: &Policy,
    path: &Path,
    questions: Vec<Question>,
) -> Result<Report, Failure> {
    let proofs = read_proofs(path)?;
    let looked = verify_saved(proofs, &session.trust.log)
        .map_err(|error| Failure::misbehaved(format!("{} does not verify: {error}", path.display())))?;
    let questions = if questions.is_empty() { everything_in(&looked) } else { questions };
    let mut answers = Vec::new();
    for Question { image, digest } in questions {
        if looked.report(&image).is_none() {
            return Err(Failure::usage(format!("{} does not answer for {image}", path.display())));
        }
        let judgement = judge_one(&looked, &image, digest, policy, args.max_age, None);
        answers.push(Answer { image, served: digest, judgement });
    }
    Ok(report(global, args, &looked, &answers, Vec::new()))
}

fn everything_in(looked: &Looked) -> Vec<Question> {
    let images = looked.parts.iter().flat_map(|part| &part.images);
    images.map(|report| Question { image: report.image.clone(), digest: None }).collect()
}

/// Reads the proofs of a file.
pub fn read_proofs(path: &Path) -> Result<Vec<TagProof>, Failure> {
    let fault = |error: String| Failure::usage(format!("{}: {error}", path.display()));
    let length = std::fs::metadata(path).map_err(|error| fault(error.to_string()))?.len();
    if length > MAX_TAG_PROOF as u64 {
        return Err(fault(format!("it is over {MAX_TAG_PROOF} bytes")));
    }
    let text = std::fs::read_to_string(path).map_err(|error| fault(error.to_string()))?;
    parse_proofs(&text).map_err(fault)
}

/// Parses one tag proof in any layout, or several, one a line.
pub fn parse_proofs(text: &str) -> Result<Vec<TagProof>, String> {
    let parse = |part: &str| TagProof::from_json(part.as_bytes()).map_err(|error| error.to_string());
    match parse(text) {
        Ok(only) => Ok(vec![only]),
        Err(error) if text.trim().is_empty() => Err(format!("it is empty ({error})")),
        Err(error) => text.lines().map(parse).collect::<Result<_, _>>().map_err(|_| error),
    }
}

fn save(path: &Path, looked: &Looked) -> Result<(), Failure> {
    let lines: String = looked.proofs.iter().map(|proof| format!("{}\n", proof.to_json())).collect();
    std::fs::write(path, lines).map_err(|error| Failure::usage(format!("{}: {error}", path.display())))
}

/// The age of the proof comes first: an old answer says nothing about now. Without a time from which
/// freshness counts, it counts from the seal of the proof.
fn judge_one(
    looked: &Looked,
    image: &Image,
    served: Option<Digest>,
    policy: &Policy,
    max_age: Option<Duration>,
    freshness_from: Option<Timestamp>,
) -> Judgement {
    let part = looked.parts.iter().find_map(|part| part.report(image).map(|report| (part, report)));
    let Some((part, report)) = part else {
        return Judgement::fails(Verdict::Incomplete, "the log did not answer for this image");
    };
    let age = now().unix() - part.seal.time.unix();
    if max_age.is_some_and(|limit| age > i64::try_from(limit.as_secs()).unwrap_or(i64::MAX)) {
        return Judgement::fails(Verdict::Stale, format!("the log's last seal is {age} s old: it may be frozen"));
    }
    if age < -FUTURE_TOLERANCE {
        let reason = format!("the log's last seal is dated {} s in the future: check the clocks", -age);
        return Judgement::fails(Verdict::Stale, reason);
    }
    judge(report, served, policy, freshness_from.unwrap_or(part.seal.time))
}

fn misbehaved(global: &Global, args: &VerifyArgs, images: &[Image], failure: &Failure) -> Report {
    let judgement = Judgement::fails(Verdict::Misbehaved, failure.message.clone());
    let output = match global.output {
        _ if args.print_digest => String::new(),
        Format::Text => images.iter().map(|image| format!("{:<10}  {image}\n", Verdict::Misbehaved)).collect(),
        Format::Json => {
            let rows: Vec<Value> =
                images.iter().map(|image| output::judgement_json(None, &image.to_string(), None, &judgement)).collect();
            format!("{}\n", json!({ "passes": false, "log": null, "images": rows, "errors": [failure.message] }))
        }
    };
    Report { output, notes: vec![failure.message.clone()], exit: exit::MISBEHAVED }
}

fn report(global: &Global, args: &VerifyArgs, looked: &Looked, answers: &[Answer], notes: Vec<String>) -> Report {
    let all_pass = answers.iter().all(|answer| answer.judgement.verdict.passes());
    let exit = match (all_pass, notes.is_empty()) {
        (false, _) => exit::VERDICT,
        (true, false) => exit::FAILED,
        (true, true) => exit::OK,
    };
    let output = match (args.print_digest, global.output) {
        (true, _) if exit == exit::OK => digests(answers),
        (true, _) => String::new(),
        (false, Format::Text) => text(looked, answers),
        (false, Format::Json) => as_json(looked, answers, &notes, exit == exit::OK),
    };
    let mut notes = notes;
    if args.print_digest {
        let failed = answers.iter().filter(|answer| !answer.judgement.verdict.passes());
        notes.extend(failed.map(|a| format!("{}: {}: {}", a.image, a.judgement.verdict, a.judgement.reason)));
    }
    Report { output, notes, exit }
}

fn digests(answers: &[Answer]) -> String {
    let line = |answer: &Answer| {
        answer.judgement.digest.map(|digest| format!("{}@{digest}\n", answer.image.repository)).unwrap_or_default()
    };
    answers.iter().map(line).collect()
}

fn text(looked: &Looked, answers: &[Answer]) -> String {
    let mut text = String::new();
    for Answer { image, served, judgement } in answers {
        text += &format!("{:<10}  {image}\n            {}\n", judgement.verdict, judgement.reason);
        if let Some(served) = served {
            text += &format!("            now {served}\n");
        }
        if !judgement.verdict.passes()
            && let Some(report) = looked.report(image)
        {
            text += &output::history_lines(report, "            ");
        }
    }
    if let Some(part) = looked.oldest() {
        let (checkpoint, age) = (&part.checkpoint, output::age(part.seal.time, now()));
        text +=
            &format!("log {} at {} entries, sealed {} ({age})\n", checkpoint.origin, checkpoint.size, part.seal.time);
    }
    text
}

fn as_json(looked: &Looked, answers: &[Answer], errors: &[String], passes: bool) -> String {
    let row = |answer: &Answer| {
        let Answer { image, served, judgement } = answer;
        let served = served.map(|digest| digest.to_string());
        output::judgement_json(looked.report(image), &image.to_string(), served, judgement)
    };
    let rows: Vec<Value> = answers.iter().map(row).collect();
    let log = looked.oldest().map(|part| output::log_json(part, now()));
    format!("{}\n", json!({ "passes": passes, "log": log, "images": rows, "errors": errors }))
}
