//! What commands that verify images share: the queries from arguments and files, and the verifier.

use std::collections::HashMap;

use taglog_proto::name::{Digest, Image};

use super::{
    context::{Failure, Global},
    session::{Logs, parse_reference, registry},
};
use taglog_image_sources::{Place, ScanResult};
use taglog_verify::{Dependencies, ImageQuery, UntaggedImage, VerificationOptions, Verifier, VerifyError};

/// A verifier for these logs with these options.
pub fn verifier(global: &Global, logs: &Logs, options: VerificationOptions) -> Result<Verifier, Failure> {
    let dependencies =
        Dependencies { logs: logs.clients()?, memory: logs.memory.clone(), registry: registry(global)?, options };
    Verifier::new(dependencies).map_err(Failure::usage)
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

/// Whether the fault is on this side. It takes precedence over a log that cannot be asked.
fn is_usage(error: &VerifyError) -> bool {
    match error {
        VerifyError::Memory { .. } => true,
        VerifyError::Several(errors) => errors.iter().any(is_usage),
        VerifyError::Misbehaved(_) | VerifyError::Client { .. } | VerifyError::InsufficientTrust { .. } => false,
    }
}

/// Queries: each image and digest once, with all places that name it.
#[derive(Debug, Default)]
pub struct ImageQueries {
    /// In order of first occurrence.
    pub all: Vec<ImageQuery>,
    /// Images without a tag.
    pub untagged: Vec<UntaggedImage>,
    numbers: HashMap<(Image, Option<Digest>), usize>,
}

impl ImageQueries {
    /// Queries for the arguments. One image with two digests is an error.
    pub fn of_arguments(images: &[String]) -> Result<ImageQueries, Failure> {
        let mut queries = ImageQueries::default();
        let mut digests = HashMap::new();
        for text in images {
            let (image, digest) = parse_reference(text)?;
            if *digests.entry(image.clone()).or_insert(digest) != digest {
                return Err(Failure::usage(format!("{image} is named twice, with different digests")));
            }
            queries.add(image, digest, None);
        }
        Ok(queries)
    }

    /// Adds the images that files name.
    pub fn add_found(&mut self, found: &ScanResult) {
        for named in &found.images {
            let (place, digest) = (named.place.clone(), named.reference.digest);
            match (named.image(), digest) {
                (Ok(image), digest) => self.add(image, digest, Some(place)),
                (Err(_), Some(digest)) => self.add_untagged(format!("{}@{digest}", named.reference.repository), place),
                // Cannot occur: without tag and digest the tag is `latest`.
                (Err(_), None) => {}
            }
        }
    }

    fn add(&mut self, image: Image, digest: Option<Digest>, place: Option<Place>) {
        let number = *self.numbers.entry((image.clone(), digest)).or_insert(self.all.len());
        match self.all.get_mut(number) {
            Some(existing) => existing.places.extend(place),
            None => self.all.push(ImageQuery { image, digest, places: place.into_iter().collect() }),
        }
    }

    fn add_untagged(&mut self, image: String, place: Place) {
        match self.untagged.iter_mut().find(|other| other.image == image) {
            Some(existing) => existing.places.push(place),
            None => self.untagged.push(UntaggedImage { image, places: vec![place] }),
        }
    }
}
