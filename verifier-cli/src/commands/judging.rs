//! What commands that judge images share: the questions that arguments and files put, and the verifier.

use std::collections::HashMap;

use taglog_proto::name::{Digest, Image};

use super::{
    context::{Failure, Global},
    session::{Logs, parse_reference, registry},
};
use taglog_image_sources::{Place, ScanResult};
use taglog_verify::{Parts, Question, Rules, Untagged, Verifier, VerifyError};

/// A verifier with these rules.
pub fn verifier(global: &Global, logs: &Logs, rules: Rules) -> Result<Verifier, Failure> {
    let parts = Parts { logs: logs.clients()?, memory: logs.memory.clone(), registry: registry(global)?, rules };
    Verifier::new(parts).map_err(Failure::usage)
}

impl From<VerifyError> for Failure {
    fn from(error: VerifyError) -> Failure {
        match &error {
            VerifyError::Misbehaved(_) => Failure::misbehaved(error),
            _ if is_usage(&error) => Failure::usage(error),
            _ => Failure::failed(error),
        }
    }
}

/// Whether the fault is on this side. It is graver than a log that gives no answer.
fn is_usage(error: &VerifyError) -> bool {
    match error {
        VerifyError::Memory { .. } => true,
        VerifyError::Several(errors) => errors.iter().any(is_usage),
        VerifyError::Misbehaved(_) | VerifyError::Client { .. } | VerifyError::InsufficientTrust { .. } => false,
    }
}

/// Images as questions: each image and digest once, with all the places that name it.
#[derive(Debug, Default)]
pub struct Questions {
    /// In the order in which they were first named.
    pub all: Vec<Question>,
    /// What has no tag.
    pub untagged: Vec<Untagged>,
    numbers: HashMap<(Image, Option<Digest>), usize>,
}

impl Questions {
    /// The images named as arguments. The same one with two digests is a contradiction.
    pub fn of_arguments(images: &[String]) -> Result<Questions, Failure> {
        let mut questions = Questions::default();
        let mut digests = HashMap::new();
        for text in images {
            let (image, digest) = parse_reference(text)?;
            if *digests.entry(image.clone()).or_insert(digest) != digest {
                return Err(Failure::usage(format!("{image} is named twice, with different digests")));
            }
            questions.add(image, digest, None);
        }
        Ok(questions)
    }

    /// Adds what files name.
    pub fn add_found(&mut self, found: &ScanResult) {
        for named in &found.images {
            let (place, digest) = (named.place.clone(), named.reference.digest);
            match (named.image(), digest) {
                (Ok(image), digest) => self.add(image, digest, Some(place)),
                (Err(_), Some(digest)) => self.add_untagged(format!("{}@{digest}", named.reference.repository), place),
                // What has neither tag nor digest is `latest`.
                (Err(_), None) => {}
            }
        }
    }

    fn add(&mut self, image: Image, digest: Option<Digest>, place: Option<Place>) {
        let number = *self.numbers.entry((image.clone(), digest)).or_insert(self.all.len());
        match self.all.get_mut(number) {
            Some(known) => known.places.extend(place),
            None => self.all.push(Question { image, digest, places: place.into_iter().collect() }),
        }
    }

    fn add_untagged(&mut self, what: String, place: Place) {
        match self.untagged.iter_mut().find(|other| other.what == what) {
            Some(known) => known.places.push(place),
            None => self.untagged.push(Untagged { what, places: vec![place] }),
        }
    }
}
