//! Proof files (`.tagproof`): an online verification saves its proofs, and images are verified with them offline.

use std::{
    collections::BTreeSet,
    fs::{self, Permissions},
    io::{self, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde::{Deserialize, Serialize};
use taglog_proto::{
    name::{Digest, Image},
    tag_proof::{MAX_TAG_PROOF, TagProof},
    time::Timestamp,
};
use thiserror::Error;

use super::{
    Documents, ImageQuery, Verification,
    cache::Cache,
    evaluate::ImageEvaluator,
    log_source::{LogSource, Recorder},
    options::{EvaluationTime, VerificationOptions},
};
use taglog_base::text::{one_line, path_line};
use taglog_log_client::{
    lookup::{LogLookup, SavedProofError, SavedProofFault, verify_saved},
    trust::{InsufficientTrust, Trust},
};
use taglog_policy::AmbiguousUntil;

/// The `type` of the line with the attachments.
const ATTACHMENTS_TYPE: &str = "taglog/beside-proofs@v1";

/// Why a proof file cannot be used.
#[derive(Debug, Error)]
pub enum ProofFileError {
    /// The file cannot be read, is too large or has no proofs, or a document in it has another digest, which is no
    /// fault of the log.
    #[error("{path}: {why}", path = path_line(.path))]
    Unusable {
        /// The proof file.
        path: PathBuf,
        /// What is wrong, for users.
        why: String,
    },
    /// The policy does not say to which log an `until` belongs.
    #[error(transparent)]
    Policy(#[from] AmbiguousUntil),
    /// The file has no proof of an image by one of the logs.
    #[error("{path} has no proof of {image} by the log {log}", path = path_line(.path))]
    Missing {
        /// The proof file.
        path: PathBuf,
        /// The image, with the places in files that name it.
        image: String,
        /// The origin of the log.
        log: String,
    },
    /// The file has no proof by one of the logs.
    #[error("{path} has no proof by the log {log}", path = path_line(.path))]
    NoProof {
        /// The proof file.
        path: PathBuf,
        /// The origin of the log.
        log: String,
    },
    /// The proofs are valid, but a checkpoint lacks the quorum of cosignatures.
    #[error("{path}: log {log}: {error}", path = path_line(.path))]
    InsufficientTrust {
        /// The proof file.
        path: PathBuf,
        /// The origin of the log.
        log: String,
        /// Which cosignatures are missing.
        error: Box<InsufficientTrust>,
    },
}

/// Verifies images offline with a proof file; without queries, every image for which it was saved. Each of these logs
/// must have a proof in it; proofs of other logs are ignored. Any age is accepted unless `max_age` is given. Ages of
/// digests are measured at the times of the seals in the file. A false proof is not an error: the verdict on every
/// image is then `misbehaved`. The file cannot tell whether the log or somebody else is to blame.
///
/// # Errors
/// [`ProofFileError`].
pub async fn verify(
    path: &Path,
    logs: &[Trust],
    options: &VerificationOptions,
    queries: Vec<ImageQuery>,
    max_age: Option<Duration>,
) -> Result<Verification, ProofFileError> {
    options.policy.check_until(logs.iter().map(Trust::origin))?;
    let ProofFile { proofs, attachments } = read(path, logs.len())?;
    let claimed = claimed_images(&proofs);
    let lookups = match verify_saved(proofs, logs) {
        Ok(lookups) => lookups,
        Err(SavedProofError { log, why: SavedProofFault::Missing }) => {
            return Err(ProofFileError::NoProof { path: path.to_owned(), log });
        }
        Err(SavedProofError { log, why: SavedProofFault::InsufficientTrust(error) }) => {
            return Err(ProofFileError::InsufficientTrust { path: path.to_owned(), log, error: Box::new(error) });
        }
        Err(SavedProofError { log, why: SavedProofFault::Proof(error) }) => {
            let queries = if queries.is_empty() { saved_queries(claimed, &attachments.asked) } else { queries };
            let alarm = format!("{} does not verify: log {log}: {error}", path_line(path));
            return Ok(Verification::misbehaved(options, queries, vec![alarm]));
        }
    };
    let queries = if queries.is_empty() { saved_queries(proven_images(&lookups), &attachments.asked) } else { queries };
    let time = EvaluationTime::Saved(Timestamp::from_system_time(SystemTime::now()), max_age);
    let (recorder, cache) = (Recorder::with_documents(attachments.documents), Cache::new(Duration::ZERO));
    let source = |lookup| LogSource::recorded(options, lookup, &cache, &recorder);
    let sources: Vec<LogSource> = lookups.iter().map(source).collect();
    let mut results = Vec::new();
    for query in queries {
        let evaluator = ImageEvaluator::new(options, &query.image, time);
        if let Some(lookup) = lookups.iter().find(|lookup| lookup.report(&evaluator.logged).is_none()) {
            let (path, image, log) = (path.to_owned(), query.to_string(), lookup.log.clone());
            return Err(ProofFileError::Missing { path, image, log });
        }
        let served = query.digest;
        results.push(evaluator.result(query, served, &sources).await);
    }
    drop(sources);
    Ok(Verification { results, lookups, ..Verification::default() })
}

/// The images that unverified proofs name.
fn claimed_images(proofs: &[TagProof]) -> Vec<Image> {
    proofs.iter().flat_map(|proof| &proof.images).filter_map(|result| Image::parse(&result.image).ok()).collect()
}

/// The images that verified proofs name.
fn proven_images(lookups: &[LogLookup]) -> Vec<Image> {
    let parts = lookups.iter().flat_map(|lookup| &lookup.parts);
    parts.flat_map(|part| &part.lookup.images).map(|report| report.image.clone()).collect()
}

/// A query for each image for which the file was saved; if it does not say, for each image in it.
fn saved_queries(images: Vec<Image>, asked: &[Image]) -> Vec<ImageQuery> {
    let mut seen = BTreeSet::new();
    let images = images.into_iter().filter(|image| asked.is_empty() || asked.contains(image));
    let images = images.filter(|image| seen.insert(image.clone()));
    images.map(|image| ImageQuery { image, digest: None, places: Vec::new() }).collect()
}

/// The parsed content of a proof file.
struct ProofFile {
    proofs: Vec<TagProof>,
    attachments: Attachments,
}

/// What is saved in addition to the proofs.
#[derive(Default)]
struct Attachments {
    asked: Vec<Image>,
    documents: Documents,
}

/// [`Attachments`] as one line of JSON. It need not be trusted: images without a proof fail, and documents are verified
/// by their digests.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AttachmentsJson {
    /// [`ATTACHMENTS_TYPE`].
    #[serde(rename = "type")]
    kind: String,
    /// The images that were asked about, by the names in the log.
    asked: Vec<String>,
    /// Raw manifests and configurations.
    documents: Vec<DocumentJson>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DocumentJson {
    digest: String,
    /// In base64.
    bytes: String,
}

impl Attachments {
    fn parse(line: &str) -> Result<Attachments, String> {
        let json: AttachmentsJson = serde_json::from_str(line).map_err(|error| error.to_string())?;
        if json.kind != ATTACHMENTS_TYPE {
            return Err(format!("type {:?} is not supported", one_line(&json.kind)));
        }
        let asked = json.asked.iter().map(|image| Image::parse(image).map_err(|error| error.to_string()));
        let documents = json.documents.iter().map(|document| {
            let digest = Digest::parse(&document.digest).map_err(|error| error.to_string())?;
            let bytes = BASE64_STANDARD.decode(&document.bytes).map_err(|error| error.to_string())?;
            let fits = digest.matches(&bytes).then(|| (digest, bytes.into()));
            fits.ok_or_else(|| {
                format!("the document stored as {digest} has another digest: the file is damaged, save it again")
            })
        });
        Ok(Attachments { asked: asked.collect::<Result<_, _>>()?, documents: documents.collect::<Result<_, _>>()? })
    }

    fn to_json(&self) -> String {
        let document = |(digest, bytes): (&Digest, &Arc<[u8]>)| DocumentJson {
            digest: digest.to_string(),
            bytes: BASE64_STANDARD.encode(bytes),
        };
        let json = AttachmentsJson {
            kind: ATTACHMENTS_TYPE.to_owned(),
            asked: self.asked.iter().map(Image::to_string).collect(),
            documents: self.documents.iter().map(document).collect(),
        };
        // Strings and lists always serialize.
        serde_json::to_string(&json).unwrap_or_default()
    }
}

/// Reads a file of at most [`MAX_TAG_PROOF`] bytes for each of this number of logs.
fn read(path: &Path, logs: usize) -> Result<ProofFile, ProofFileError> {
    let unusable = |why: String| ProofFileError::Unusable { path: path.to_owned(), why };
    let length = fs::metadata(path).map_err(|error| unusable(error.to_string()))?.len();
    let most = MAX_TAG_PROOF.saturating_mul(logs);
    if length > most as u64 {
        return Err(unusable(format!("it is larger than {most} bytes")));
    }
    let text = fs::read_to_string(path).map_err(|error| unusable(error.to_string()))?;
    parse(&text).map_err(unusable)
}

/// Parses the proofs in a text: one in any layout, or several, one a line. Attachments are ignored.
///
/// # Errors
/// What is wrong with the text.
pub fn parse_proofs(text: &str) -> Result<Vec<TagProof>, String> {
    parse(text).map(|file| file.proofs)
}

fn parse(text: &str) -> Result<ProofFile, String> {
    let parse = |part: &str| TagProof::from_json(part.as_bytes()).map_err(|error| error.to_string());
    let (lines, attachments): (Vec<&str>, Vec<&str>) = text.lines().partition(|line| !line.contains(ATTACHMENTS_TYPE));
    let proofs = match parse(text) {
        Ok(only) => vec![only],
        Err(error) if text.trim().is_empty() => return Err(format!("it is empty ({error})")),
        Err(error) => lines.into_iter().map(parse).collect::<Result<_, _>>().map_err(|_| error)?,
    };
    let attachments = match attachments[..] {
        [] => Attachments::default(),
        [only] => Attachments::parse(only)?,
        _ => return Err(format!("it has more than one line of {ATTACHMENTS_TYPE}")),
    };
    Ok(ProofFile { proofs, attachments })
}

/// Writes the proofs of a verification, one a line, and its attachments. The file is replaced atomically.
///
/// # Errors
/// What the system says.
pub fn save(path: &Path, verification: &Verification) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Readable by everyone, subject to the umask: there are no secrets in it.
    let mut builder = tempfile::Builder::new();
    let mut file = builder.permissions(Permissions::from_mode(0o666)).tempfile_in(directory)?;
    let lookups = verification.lookups.iter().chain(&verification.bases);
    for proof in lookups.flat_map(|lookup| &lookup.proofs) {
        writeln!(file, "{}", proof.to_json())?;
    }
    if !(verification.bases.is_empty() && verification.documents.is_empty()) {
        let parts = verification.lookups.iter().flat_map(|lookup| &lookup.parts);
        let asked = parts.flat_map(|part| &part.lookup.images);
        let asked: BTreeSet<Image> = asked.map(|report| report.image.clone()).collect();
        let asked = asked.into_iter().collect();
        writeln!(file, "{}", Attachments { asked, documents: verification.documents.clone() }.to_json())?;
    }
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}
