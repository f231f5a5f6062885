//! An image taken apart: what it has from its base, and what is its own.

use std::fmt;

use serde_json::{Map, Value};
use taglog_proto::name::{Digest, Image, Repository};

use super::{
    configuration::{Configuration, Step, variable},
    manifest::{Base, BaseNote, Document, Entry},
    source::{BaseSightings, Kind, ManifestSource, Shelf},
};
use crate::platform::Platform;
use taglog_base::digest::short;
use taglog_policy::Why;

/// The most digests of a base that are looked into.
const MAX_SIGHTINGS: usize = 500;
/// A label that says when an image was built, and nothing else.
const BUILT: &str = "org.opencontainers.image.created";

/// An image for one platform, read.
#[derive(Clone, Debug)]
pub(super) struct Read {
    pub(super) digest: Digest,
    pub(super) layers: Vec<Digest>,
    pub(super) configuration: Configuration,
    pub(super) note: BaseNote,
}

/// A base that is logged.
#[derive(Clone, Debug)]
pub(super) struct Logged {
    pub(super) image: Image,
    /// The place of its digest among the sightings of that tag; greater is newer.
    pub(super) place: usize,
    pub(super) read: Read,
}

/// What an image adds to its base.
#[derive(Debug, PartialEq)]
pub(super) struct Own<'a> {
    pub(super) steps: &'a [Step],
    pub(super) layers: usize,
    pub(super) environment: Vec<&'a str>,
    pub(super) labels: Map<String, Value>,
}

/// What a tag of this repository points to, for all platforms.
pub(super) async fn document<S: ManifestSource, B: BaseSightings>(
    shelf: &Shelf<'_, S, B>,
    repository: &Repository,
    digest: &Digest,
) -> Result<Document, Why> {
    let bytes = shelf.get(repository, digest, Kind::Manifest).await?;
    Document::parse(&bytes).map_err(|error| not_understood(digest, &error))
}

fn not_understood(digest: &Digest, error: &dyn fmt::Display) -> Why {
    format!("{} is not understood: {error}", short(digest)).into()
}

/// The image that a digest stands for on this platform, if it is one and no more.
pub(super) async fn read<S: ManifestSource, B: BaseSightings>(
    shelf: &Shelf<'_, S, B>,
    repository: &Repository,
    candidates: &[Entry],
    platform: &Platform,
) -> Result<Read, Why> {
    let [entry] = candidates else {
        let how_many = if candidates.is_empty() { "no" } else { "more than one" };
        return Err(format!("there is {how_many} image for {platform} in it").into());
    };
    let Document::Manifest(manifest) = document(shelf, repository, &entry.digest).await? else {
        return Err(format!("{} is an index in an index", short(&entry.digest)).into());
    };
    let bytes = shelf.get(repository, &manifest.config, Kind::Configuration).await?;
    let configuration = Configuration::parse(&bytes).map_err(|error| not_understood(&manifest.config, &error))?;
    if configuration.diff_ids.len() != manifest.layers.len() {
        return Err(format!("{} and its configuration have different layers", short(&entry.digest)).into());
    }
    let note = entry.base.clone().joined(manifest.base)?;
    Ok(Read { digest: entry.digest, layers: manifest.layers, configuration, note })
}

/// The base that an image names, if that very base is logged.
pub(super) async fn logged<S: ManifestSource, B: BaseSightings>(
    shelf: &Shelf<'_, S, B>,
    base: &Base,
    platform: &Platform,
) -> Result<Logged, Why> {
    let Base { image, digest } = base;
    let sighted = shelf.sighted(image).await.map_err(|error| error.to_string())?;
    if sighted.is_empty() {
        return Err(format!("nothing is logged of its base {image}").into());
    }
    // Newest first: an image's base is mostly new when the image is.
    for (place, sighted) in sighted.iter().enumerate().rev().take(MAX_SIGHTINGS) {
        // One that cannot be had any more says nothing; the base may stand in another.
        let Ok(document) = document(shelf, &image.repository, sighted).await else { continue };
        let mut candidates = document.candidates(sighted, platform);
        // Builders note the digest of the index or that of the platform's manifest.
        if sighted != digest {
            candidates.retain(|candidate| candidate.digest == *digest);
        }
        if !candidates.is_empty() {
            let read = read(shelf, &image.repository, &candidates, platform).await;
            return Ok(Logged { image: image.clone(), place, read: read.map_err(|why| of_base(image, why))? });
        }
    }
    Err(format!("its base {image}@{} is not logged", short(digest)).into())
}

/// What is missing says itself of which repository it is.
fn of_base(image: &Image, why: Why) -> Why {
    match why {
        Why::Differs(what) => format!("its base {image}: {what}").into(),
        missing @ Why::Missing { .. } => missing,
    }
}

impl Read {
    /// What this image adds to its base, if its leading layers and history are those of the base.
    pub(super) fn own<'a>(&'a self, base: &Read) -> Result<Own<'a>, String> {
        let (mine, its) = (&self.configuration, &base.configuration);
        if !self.layers.starts_with(&base.layers) || !mine.diff_ids.starts_with(&its.diff_ids) {
            return Err("its leading layers are not those of its base".to_owned());
        }
        if !mine.history.starts_with(&its.history) {
            return Err("its history does not begin with that of its base".to_owned());
        }
        Ok(Own {
            steps: &mine.history[its.history.len()..],
            layers: self.layers.len() - base.layers.len(),
            environment: own_environment(mine, its)?,
            labels: own_labels(mine, its),
        })
    }
}

/// The variables that an image sets itself. All that its base sets must still be set.
fn own_environment<'a>(image: &'a Configuration, base: &Configuration) -> Result<Vec<&'a str>, String> {
    let (mine, its) = (image.environment()?, base.environment()?);
    if let Some(lost) = its.iter().find(|entry| !mine.iter().any(|own| variable(own) == variable(entry))) {
        return Err(format!("its environment lacks {:?}, which its base sets", variable(lost)));
    }
    Ok(mine.into_iter().filter(|entry| !its.contains(entry)).collect())
}

fn own_labels(image: &Configuration, base: &Configuration) -> Map<String, Value> {
    let inherited = base.labels();
    let own = |(key, value): &(String, Value)| key != BUILT && inherited.get(key) != Some(value);
    image.labels().into_iter().filter(own).collect()
}
