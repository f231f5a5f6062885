//! Splits an image into what it has from its base image and its own content.

use std::fmt;

use serde_json::{Map, Value};
use taglog_proto::name::{Digest, Image, Repository};

use super::{
    configuration::{Configuration, HistoryStep, variable},
    documents::{BaseSightings, DocumentCache, DocumentKind, ManifestSource},
    manifest::{BaseAnnotations, BaseReference, Document, IndexEntry},
};
use crate::platform::Platform;
use taglog_base::digest::short;
use taglog_policy::UnexplainedReason;

/// The most digests of a base that are read, newest first.
const MAX_SIGHTINGS: usize = 500;
/// The label with the build time, which changes in every build.
const CREATED_LABEL: &str = "org.opencontainers.image.created";

/// An image for one platform, with its manifest and configuration.
#[derive(Clone, Debug)]
pub(super) struct PlatformImage {
    pub(super) digest: Digest,
    pub(super) layers: Vec<Digest>,
    pub(super) configuration: Configuration,
    pub(super) base: BaseAnnotations,
}

/// A base image whose digest is logged.
#[derive(Clone, Debug)]
pub(super) struct LoggedBase {
    pub(super) image: Image,
    /// The position of its digest among the sighted digests of the tag; greater is newer.
    pub(super) position: usize,
    pub(super) content: PlatformImage,
}

/// What an image adds to its base.
#[derive(Debug, PartialEq)]
pub(super) struct OwnContent<'a> {
    pub(super) steps: &'a [HistoryStep],
    pub(super) layers: usize,
    pub(super) environment: Vec<&'a str>,
    pub(super) labels: Map<String, Value>,
}

/// Reads and parses the index or manifest with this digest.
pub(super) async fn document<S: ManifestSource, B: BaseSightings>(
    cache: &DocumentCache<'_, S, B>,
    repository: &Repository,
    digest: &Digest,
) -> Result<Document, UnexplainedReason> {
    let bytes = cache.get(repository, digest, DocumentKind::Manifest).await?;
    Document::parse(&bytes).map_err(|error| not_comparable(digest, &error))
}

fn not_comparable(digest: &Digest, error: &dyn fmt::Display) -> UnexplainedReason {
    format!("{} cannot be compared: {error}", short(digest)).into()
}

/// Reads the only candidate for this platform.
pub(super) async fn read<S: ManifestSource, B: BaseSightings>(
    cache: &DocumentCache<'_, S, B>,
    repository: &Repository,
    candidates: &[IndexEntry],
    platform: &Platform,
) -> Result<PlatformImage, UnexplainedReason> {
    let [entry] = candidates else {
        let how_many = if candidates.is_empty() { "no" } else { "more than one" };
        return Err(format!("it contains {how_many} image for {platform}").into());
    };
    let Document::Manifest(manifest) = document(cache, repository, &entry.digest).await? else {
        return Err(format!("{} is an index within an index", short(&entry.digest)).into());
    };
    let bytes = cache.get(repository, &manifest.config, DocumentKind::Configuration).await?;
    let configuration = Configuration::parse(&bytes).map_err(|error| not_comparable(&manifest.config, &error))?;
    if configuration.diff_ids.len() != manifest.layers.len() {
        return Err(format!("{} and its configuration list different numbers of layers", short(&entry.digest)).into());
    }
    let base = entry.base.clone().merged(manifest.base)?;
    Ok(PlatformImage { digest: entry.digest, layers: manifest.layers, configuration, base })
}

/// Reads the base that an image names, if that digest is logged.
pub(super) async fn logged<S: ManifestSource, B: BaseSightings>(
    cache: &DocumentCache<'_, S, B>,
    base: &BaseReference,
    platform: &Platform,
) -> Result<LoggedBase, UnexplainedReason> {
    let BaseReference { image, digest } = base;
    let sighted = cache.sighted(image).await.map_err(|error| error.to_string())?;
    if sighted.is_empty() {
        return Err(format!("its base image {image} is not logged").into());
    }
    // Newest first: a new image mostly has a new base.
    for (position, sighted) in sighted.iter().enumerate().rev().take(MAX_SIGHTINGS) {
        // Skip documents that are not available: another index may list the base.
        let Ok(document) = document(cache, &image.repository, sighted).await else { continue };
        let mut candidates = document.candidates(sighted, platform);
        // Builders annotate the digest of the index or that of the platform's manifest.
        if sighted != digest {
            candidates.retain(|candidate| candidate.digest == *digest);
        }
        if !candidates.is_empty() {
            let content = read(cache, &image.repository, &candidates, platform).await;
            let content = content.map_err(|reason| of_base(image, reason))?;
            return Ok(LoggedBase { image: image.clone(), position, content });
        }
    }
    Err(format!("its base image {image}@{} is not logged", short(digest)).into())
}

/// Adds the base's name to a difference. A missing document names its repository already.
fn of_base(image: &Image, reason: UnexplainedReason) -> UnexplainedReason {
    match reason {
        UnexplainedReason::Difference(difference) => format!("its base image {image}: {difference}").into(),
        missing @ UnexplainedReason::MissingDocument { .. } => missing,
    }
}

impl PlatformImage {
    /// What this image adds to its base, if its leading layers and history are those of the base.
    pub(super) fn own_content<'a>(&'a self, base: &PlatformImage) -> Result<OwnContent<'a>, String> {
        let (image, parent) = (&self.configuration, &base.configuration);
        if !self.layers.starts_with(&base.layers) || !image.diff_ids.starts_with(&parent.diff_ids) {
            return Err("its leading layers are not those of its base".to_owned());
        }
        if !image.history.starts_with(&parent.history) {
            return Err("its history does not begin with that of its base".to_owned());
        }
        Ok(OwnContent {
            steps: &image.history[parent.history.len()..],
            layers: self.layers.len() - base.layers.len(),
            environment: own_environment(image, parent)?,
            labels: own_labels(image, parent),
        })
    }
}

/// The variables that an image sets itself.
///
/// # Errors
/// A variable of the base is not set any more.
fn own_environment<'a>(image: &'a Configuration, base: &Configuration) -> Result<Vec<&'a str>, String> {
    let (variables, inherited) = (image.environment()?, base.environment()?);
    if let Some(lost) = inherited.iter().find(|entry| !variables.iter().any(|own| variable(own) == variable(entry))) {
        return Err(format!("its environment lacks {:?}, which its base sets", variable(lost)));
    }
    Ok(variables.into_iter().filter(|entry| !inherited.contains(entry)).collect())
}

fn own_labels(image: &Configuration, base: &Configuration) -> Map<String, Value> {
    let inherited = base.labels();
    let own = |(key, value): &(String, Value)| key != CREATED_LABEL && inherited.get(key) != Some(value);
    image.labels().into_iter().filter(own).collect()
}
