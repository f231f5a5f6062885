//! Proofs in files (`.tagproof`): what an online verification leaves behind, and answers from it without network.

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
    Documents, Question, Verification,
    cache::Cache,
    inquiry::{Inquiry, Record},
    rules::{Moment, Rules},
};
use taglog_log_client::{
    lookup::{LogLookup, SavedProofError, SavedProofFault, verify_saved},
    printable,
    trust::{InsufficientTrust, Trust},
};
use taglog_policy::UnclearUntil;

/// The `type` of the line beside the proofs.
const BESIDE: &str = "taglog/beside-proofs@v1";

/// Why a file of proofs answers nothing.
#[derive(Debug, Error)]
pub enum FileError {
    /// It cannot be read, is too large, or holds no proofs; or a document in it is not the one that it should be, which is
    /// no word of the log's.
    #[error("{path}: {why}")]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The policy leaves open which of the logs it means.
    #[error(transparent)]
    Policy(#[from] UnclearUntil),
    /// An image that was asked about is not in it, or not by each log.
    #[error("{path} does not answer for {image}: there is no proof of it by {log}")]
    Missing {
        /// The file.
        path: PathBuf,
        /// The image, with the places that name it.
        image: String,
        /// The origin of the log that does not answer.
        log: String,
    },
    /// It has no proof by one of the logs.
    #[error("{path} does not answer: there is no proof of it by {log}")]
    NoProof {
        /// The file.
        path: PathBuf,
        /// The origin of the log.
        log: String,
    },
    /// Nothing in it is false, and too few cosigners stand behind one of the logs.
    #[error("{path}: log {log}: {error}")]
    InsufficientTrust {
        /// The file.
        path: PathBuf,
        /// The origin of the log.
        log: String,
        /// Who is missing.
        error: Box<InsufficientTrust>,
    },
}

/// Answers from a file; without questions, for everything that was asked when it was saved. Each of these logs must
/// answer in it; other logs' proofs are passed over. Any age will do unless `max_age` is given. What the file says of
/// times counts from its own seals. A false proof is no error but the verdict on every image, as of a log that
/// misbehaves: whether it or somebody after it is to blame, the file cannot tell.
///
/// # Errors
/// [`FileError`].
pub async fn verify(
    path: &Path,
    logs: &[Trust],
    rules: &Rules,
    questions: Vec<Question>,
    max_age: Option<Duration>,
) -> Result<Verification, FileError> {
    rules.policy.check_until(logs.iter().map(Trust::origin))?;
    let Bundle { proofs, beside } = read(path, logs.len())?;
    let claimed = claimed(&proofs);
    let looked = match verify_saved(proofs, logs) {
        Ok(looked) => looked,
        Err(SavedProofError { log, why: SavedProofFault::Missing }) => {
            return Err(FileError::NoProof { path: path.to_owned(), log });
        }
        Err(SavedProofError { log, why: SavedProofFault::InsufficientTrust(error) }) => {
            return Err(FileError::InsufficientTrust { path: path.to_owned(), log, error: Box::new(error) });
        }
        Err(SavedProofError { log, why: SavedProofFault::Proof(error) }) => {
            let questions = if questions.is_empty() { asked(claimed, &beside.asked) } else { questions };
            let alarm = format!("{} does not verify: log {log}: {error}", path.display());
            return Ok(Verification::misbehaved(rules, questions, vec![alarm]));
        }
    };
    let questions = if questions.is_empty() { asked(proven(&looked), &beside.asked) } else { questions };
    let moment = Moment::Saved(Timestamp::from_system_time(SystemTime::now()), max_age);
    let (record, cache) = (Record::of(beside.documents), Cache::new(Duration::ZERO));
    let inquiries: Vec<Inquiry> = looked.iter().map(|looked| Inquiry::saved(rules, looked, &cache, &record)).collect();
    let mut answers = Vec::new();
    for question in questions {
        let hearing = rules.hear(&question.image, moment);
        if let Some(looked) = looked.iter().find(|looked| looked.report(&hearing.logged).is_none()) {
            let (path, image, log) = (path.to_owned(), question.to_string(), looked.log.clone());
            return Err(FileError::Missing { path, image, log });
        }
        let served = question.digest;
        answers.push(hearing.answer(question, served, &inquiries).await);
    }
    drop(inquiries);
    Ok(Verification { answers, looked, ..Verification::default() })
}

/// The images that proofs say they are about.
fn claimed(proofs: &[TagProof]) -> Vec<Image> {
    proofs.iter().flat_map(|proof| &proof.images).filter_map(|answer| Image::parse(&answer.image).ok()).collect()
}

/// The images that verified proofs are about.
fn proven(looked: &[LogLookup]) -> Vec<Image> {
    let parts = looked.iter().flat_map(|looked| &looked.parts);
    parts.flat_map(|part| &part.lookup.images).map(|report| report.image.clone()).collect()
}

/// Each image in a file that was asked about; where the file does not say, each image in it.
fn asked(images: Vec<Image>, asked: &[Image]) -> Vec<Question> {
    let mut seen = BTreeSet::new();
    let images = images.into_iter().filter(|image| asked.is_empty() || asked.contains(image));
    let images = images.filter(|image| seen.insert(image.clone()));
    images.map(|image| Question { image, digest: None, places: Vec::new() }).collect()
}

/// What a file holds.
struct Bundle {
    proofs: Vec<TagProof>,
    beside: Beside,
}

/// What stands beside the proofs.
#[derive(Default)]
struct Beside {
    asked: Vec<Image>,
    documents: Documents,
}

/// [`Beside`] as one line of JSON. Nothing in it is believed: images without proofs answer nothing, and documents prove
/// themselves by their hashes.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct BesideJson {
    /// [`BESIDE`].
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

impl Beside {
    fn parse(line: &str) -> Result<Beside, String> {
        let json: BesideJson = serde_json::from_str(line).map_err(|error| error.to_string())?;
        if json.kind != BESIDE {
            return Err(format!("type {:?} is not known here", printable(&json.kind)));
        }
        let asked = json.asked.iter().map(|image| Image::parse(image).map_err(|error| error.to_string()));
        let documents = json.documents.iter().map(|document| {
            let digest = Digest::parse(&document.digest).map_err(|error| error.to_string())?;
            let bytes = BASE64_STANDARD.decode(&document.bytes).map_err(|error| error.to_string())?;
            let fits = digest.matches(&bytes).then(|| (digest, bytes.into()));
            fits.ok_or_else(|| {
                format!("the document kept as {digest} does not hash to that: it is damaged, save it again")
            })
        });
        Ok(Beside { asked: asked.collect::<Result<_, _>>()?, documents: documents.collect::<Result<_, _>>()? })
    }

    fn to_json(&self) -> String {
        let document = |(digest, bytes): (&Digest, &Arc<[u8]>)| DocumentJson {
            digest: digest.to_string(),
            bytes: BASE64_STANDARD.encode(bytes),
        };
        let json = BesideJson {
            kind: BESIDE.to_owned(),
            asked: self.asked.iter().map(Image::to_string).collect(),
            documents: self.documents.iter().map(document).collect(),
        };
        // Strings and lists always serialize.
        serde_json::to_string(&json).unwrap_or_default()
    }
}

/// Reads a file that may hold as much for each of so many logs.
fn read(path: &Path, logs: usize) -> Result<Bundle, FileError> {
    let unusable = |why: String| FileError::Unusable { path: path.to_owned(), why };
    let length = fs::metadata(path).map_err(|error| unusable(error.to_string()))?.len();
    let most = MAX_TAG_PROOF.saturating_mul(logs);
    if length > most as u64 {
        return Err(unusable(format!("it is over {most} bytes")));
    }
    let text = fs::read_to_string(path).map_err(|error| unusable(error.to_string()))?;
    parse(&text).map_err(unusable)
}

/// Parses the proofs in a text: one in any layout, or several, one a line. What stands beside them is passed over.
///
/// # Errors
/// What is wrong with the text.
pub fn parse_proofs(text: &str) -> Result<Vec<TagProof>, String> {
    parse(text).map(|bundle| bundle.proofs)
}

fn parse(text: &str) -> Result<Bundle, String> {
    let parse = |part: &str| TagProof::from_json(part.as_bytes()).map_err(|error| error.to_string());
    let (lines, beside): (Vec<&str>, Vec<&str>) = text.lines().partition(|line| !line.contains(BESIDE));
    let proofs = match parse(text) {
        Ok(only) => vec![only],
        Err(error) if text.trim().is_empty() => return Err(format!("it is empty ({error})")),
        Err(error) => lines.into_iter().map(parse).collect::<Result<_, _>>().map_err(|_| error)?,
    };
    let beside = match beside[..] {
        [] => Beside::default(),
        [only] => Beside::parse(only)?,
        _ => return Err(format!("it has more than one line of {BESIDE}")),
    };
    Ok(Bundle { proofs, beside })
}

/// Writes what a verification rests on: its proofs, one a line, and what was read beside them. The file is there whole
/// or not at all.
///
/// # Errors
/// What the system says.
pub fn save(path: &Path, verification: &Verification) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Readable for all, as far as the user's mask lets it be: there are no secrets in it.
    let mut builder = tempfile::Builder::new();
    let mut file = builder.permissions(Permissions::from_mode(0o666)).tempfile_in(directory)?;
    let looked = verification.looked.iter().chain(&verification.bases);
    for proof in looked.flat_map(|looked| &looked.proofs) {
        writeln!(file, "{}", proof.to_json())?;
    }
    if !(verification.bases.is_empty() && verification.documents.is_empty()) {
        let asked = verification.looked.iter().flat_map(|looked| &looked.parts).flat_map(|part| &part.lookup.images);
        let asked: BTreeSet<Image> = asked.map(|report| report.image.clone()).collect();
        let asked = asked.into_iter().collect();
        writeln!(file, "{}", Beside { asked, documents: verification.documents.clone() }.to_json())?;
    }
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}
