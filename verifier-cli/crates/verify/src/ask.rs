//! The verifier of live images: one look-up in each log, the registries in parallel, a verdict for each.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures_util::{
    FutureExt as _, StreamExt as _,
    future::{BoxFuture, join_all},
    stream,
};
use taglog_base::progress::{SharedProgress, Silent};
use taglog_proto::{
    name::{Digest, Image},
    time::Timestamp,
};
use thiserror::Error;

use super::{
    Answer, Question, Unanswered, Verification,
    cache::Cache,
    inquiry::{Inquiry, Record},
    rules::{Moment, Rules},
    served::{self, Served},
};
use taglog_log_client::{
    ClientError, LogClient,
    lookup::{LogLookup, LookupError, look_up},
    memory::{Memory, MemoryError},
    trust::{InsufficientTrust, Trust},
};
use taglog_oci_registry::Registry;
use taglog_policy::UnclearUntil;

/// Images for which manifests are read at once.
const PARALLEL: usize = 8;

/// A log that is asked.
#[derive(Clone)]
pub struct Log {
    /// The way to it.
    pub client: LogClient,
    /// What makes an answer of it believed.
    pub trust: Trust,
}

/// What a verifier works with.
pub struct Parts {
    /// The logs, no two of one origin. All are asked, and what has nothing to say of an image is not held against it.
    pub logs: Vec<Log>,
    /// Where checkpoints are remembered, and evidence is kept.
    pub memory: Memory,
    /// The way to registries.
    pub registry: Registry,
    /// What is demanded of images.
    pub rules: Rules,
}

/// Why there is no verification, or no look-up.
#[derive(Debug, Error)]
pub enum VerifyError {
    /// What each log did that misbehaves, and where that is kept as evidence; one or more.
    #[error("{}", .0.join("; "))]
    Misbehaved(Vec<String>),
    /// What is remembered of a log cannot be used.
    #[error("log {log}: {error}")]
    Memory {
        /// The log's origin.
        log: String,
        /// What went wrong.
        error: MemoryError,
    },
    /// Several of the logs gave no answer, each for one of the other reasons.
    #[error("{}", in_words(.0))]
    Several(Vec<VerifyError>),
    /// A log could not be asked.
    #[error("log {log}: {error}")]
    Client {
        /// The log's origin.
        log: String,
        /// What went wrong.
        error: ClientError,
    },
    /// Too few cosigners stand behind what a log says.
    #[error("log {log}: {error}")]
    InsufficientTrust {
        /// The log's origin.
        log: String,
        /// Who is missing.
        error: InsufficientTrust,
    },
}

fn in_words(errors: &[VerifyError]) -> String {
    errors.iter().map(VerifyError::to_string).collect::<Vec<_>>().join("; ")
}

/// Verifies images. Cheap to clone; clones share connections, log-ins, memory and cache.
#[derive(Clone)]
pub struct Verifier {
    parts: Arc<Parts>,
    /// One for each log.
    caches: Arc<Vec<Cache>>,
    progress: SharedProgress,
}

impl Verifier {
    /// A verifier that asks the logs every time. Sends nothing.
    ///
    /// # Errors
    /// A policy that leaves open which of the logs it means.
    pub fn new(parts: Parts) -> Result<Verifier, UnclearUntil> {
        parts.rules.policy.check_until(parts.logs.iter().map(|log| log.trust.origin()))?;
        let verifier = Verifier { parts: Arc::new(parts), caches: Arc::default(), progress: Silent::shared() };
        Ok(verifier.keeping(Duration::ZERO))
    }

    /// This verifier with a cache of its own, which answers for the logs for as long as `keep`. What counts against
    /// `max-age` is still the age of the checkpoint that was verified.
    pub fn keeping(self, keep: Duration) -> Verifier {
        let caches = self.parts.logs.iter().map(|_| Cache::new(keep)).collect();
        Verifier { caches: Arc::new(caches), ..self }
    }

    /// This verifier, showing on `progress` how many registries have answered.
    pub fn showing(self, progress: SharedProgress) -> Verifier {
        Verifier { progress, ..self }
    }

    /// Answers all questions with one look-up in each log. A log that misbehaves is no error but the verdict on every
    /// image, whatever the others say.
    ///
    /// # Errors
    /// [`VerifyError`], but not that a log misbehaves. None says anything against the images or a log.
    pub async fn verify(&self, questions: Vec<Question>) -> Result<Verification, VerifyError> {
        if questions.is_empty() {
            return Ok(Verification::default());
        }
        let logged = self.logged(&questions);
        let (looked, served) = tokio::join!(
            self.look_up(&logged),
            served::ask(&self.parts.registry, self.open(&questions), self.progress.as_ref())
        );
        let looked = match looked {
            Err(VerifyError::Misbehaved(alarms)) => return Ok(self.misbehaved(questions, alarms)),
            looked => looked?,
        };
        let (record, now) = (Record::default(), Timestamp::from_system_time(SystemTime::now()));
        // Boxed, or else the compiler cannot tell that all this may move between threads.
        let hear = |question| self.hear(&looked, &record, &served, question, now).boxed();
        let hearings: Vec<BoxFuture<'_, Result<Answer, Unanswered>>> = questions.iter().cloned().map(hear).collect();
        let heard: Vec<Result<Answer, Unanswered>> = stream::iter(hearings).buffered(PARALLEL).collect().await;
        let (documents, bases, alarms) = record.close();
        if !alarms.is_empty() {
            return Ok(self.misbehaved(questions, alarms));
        }
        let mut verification = Verification { looked, bases, documents, ..Verification::default() };
        for answer in heard {
            match answer {
                Ok(answer) => verification.answers.push(answer),
                Err(unanswered) => verification.unanswered.push(unanswered),
            }
        }
        Ok(verification)
    }

    /// Looks images up by their names in the logs, with one request for each log: what each of them answers, verified,
    /// in their order. The registries are not asked.
    ///
    /// # Errors
    /// [`VerifyError`]. That one log misbehaves is not hidden by another that cannot be asked.
    pub async fn look_up(&self, logged: &[Image]) -> Result<Vec<LogLookup>, VerifyError> {
        let asking = self.parts.logs.iter().zip(&*self.caches).map(|(log, cache)| self.looked(log, cache, logged));
        let (mut answered, mut alarms, mut errors) = (Vec::new(), Vec::new(), Vec::new());
        for looked in join_all(asking).await {
            match looked {
                Ok(looked) => answered.push(looked),
                Err(VerifyError::Misbehaved(more)) => alarms.extend(more),
                Err(error) => errors.push(error),
            }
        }
        match (errors.pop(), &errors[..]) {
            _ if !alarms.is_empty() => Err(VerifyError::Misbehaved(alarms)),
            (None, _) => Ok(answered),
            (Some(only), []) => Err(only),
            (Some(last), _) => {
                errors.push(last);
                Err(VerifyError::Several(errors))
            }
        }
    }

    /// The images whose registries must be asked, each once.
    fn open(&self, questions: &[Question]) -> Vec<Image> {
        if self.parts.rules.settled {
            return Vec::new();
        }
        let open = questions.iter().filter(|question| question.digest.is_none());
        open.map(|question| question.image.clone()).collect::<BTreeSet<Image>>().into_iter().collect()
    }

    /// The images by their names in the log, each once.
    fn logged(&self, questions: &[Question]) -> Vec<Image> {
        let mut names = BTreeSet::new();
        let logged = questions.iter().map(|question| self.parts.rules.policy.logged_name(&question.image));
        logged.filter(|image| names.insert(image.clone())).collect()
    }

    async fn looked(&self, log: &Log, cache: &Cache, logged: &[Image]) -> Result<LogLookup, VerifyError> {
        let (memory, Log { client, trust }) = (&self.parts.memory, log);
        let (known, missing) = cache.parts(logged);
        if missing.is_empty() {
            return Ok(LogLookup { log: trust.origin().to_owned(), proofs: Vec::new(), parts: known });
        }
        let unusable = |error| VerifyError::Memory { log: trust.origin().to_owned(), error };
        let remembered = memory.load(&trust.log).map_err(unusable)?;
        let looked = look_up(client, trust, &missing, remembered.as_ref()).await;
        let mut looked = looked.map_err(|error| by(error, trust, memory))?;
        if let Some(newest) = looked.newest() {
            memory.advance(&trust.log, remembered.as_ref(), newest).map_err(unusable)?;
        }
        cache.keep_parts(&looked.parts);
        looked.parts.extend(known);
        Ok(looked)
    }

    async fn hear(
        &self,
        looked: &[LogLookup],
        record: &Record,
        served: &Served,
        question: Question,
        now: Timestamp,
    ) -> Result<Answer, Unanswered> {
        let Parts { logs, rules, .. } = &*self.parts;
        let digest = match rules.settled {
            true => question.digest,
            false => Some(known_digest(&question, served)?),
        };
        let hearing = rules.hear(&question.image, Moment::Live(now));
        let (logged, asked) = (hearing.logged.repository.clone(), question.image.repository.clone());
        let inquiries: Vec<Inquiry> = logs
            .iter()
            .zip(&*self.caches)
            .zip(looked)
            .map(|((log, cache), looked)| {
                Inquiry::saved(rules, looked, cache, record).asking(&self.parts, log, &logged, &asked)
            })
            .collect();
        Ok(hearing.answer(question, digest, &inquiries).await)
    }

    fn misbehaved(&self, questions: Vec<Question>, alarms: Vec<String>) -> Verification {
        Verification::misbehaved(&self.parts.rules, questions, alarms)
    }
}

/// The digest of the question, or what the registry says.
fn known_digest(question: &Question, served: &Served) -> Result<Digest, Unanswered> {
    let problem = match (question.digest, served.get(&question.image)) {
        (Some(digest), _) => return Ok(digest),
        (None, Some(Ok(digest))) => return Ok(*digest),
        (None, Some(Err(error))) => error.to_string(),
        (None, None) => "the registry was not asked".to_owned(),
    };
    Err(Unanswered { what: question.image.to_string(), places: question.places.clone(), problem })
}

/// What went wrong with this log; what shows misbehaviour is kept.
fn by(error: LookupError, trust: &Trust, memory: &Memory) -> VerifyError {
    let log = trust.origin().to_owned();
    match error {
        LookupError::Misbehaved(it) => VerifyError::Misbehaved(vec![memory.alarm(&trust.log, &it.error, &it.evidence)]),
        LookupError::Client(error) => VerifyError::Client { log, error },
        LookupError::InsufficientTrust(error) => VerifyError::InsufficientTrust { log, error },
    }
}
