//! The parts of indexes and manifests that the comparison needs (OCI image-spec v1.1; Docker's schema 2 has the same
//! structure).

use std::collections::HashMap;

use oci_spec::image::{Descriptor, ImageIndex, ImageManifest, MediaType};
use serde_json::Value;
use taglog_proto::name::{Digest, Image, Reference};

use super::json;
use crate::platform::Platform;

/// The most manifests in one index, far more than there are platforms.
const MAX_ENTRIES: usize = 1000;
/// The most layers of one image. Docker's own limit is 127.
const MAX_LAYERS: usize = 1000;

const BASE_NAME: &str = "org.opencontainers.image.base.name";
const BASE_DIGEST: &str = "org.opencontainers.image.base.digest";

/// A document that a tag can point to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Document {
    Index(Vec<IndexEntry>),
    Manifest(Manifest),
}

/// One descriptor of an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct IndexEntry {
    pub(super) digest: Digest,
    /// The platform; a runtime may choose an entry without one for any platform.
    platform: Option<Platform>,
    pub(super) base: BaseAnnotations,
}

/// An image for one platform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Manifest {
    pub(super) config: Digest,
    pub(super) layers: Vec<Digest>,
    pub(super) base: BaseAnnotations,
}

/// The annotations that name the base image. Whoever pushes an image controls them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct BaseAnnotations {
    pub(super) name: Option<String>,
    pub(super) digest: Option<String>,
}

/// A base image, and the digest that the image was built on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BaseReference {
    pub(super) image: Image,
    pub(super) digest: Digest,
}

impl Document {
    /// Parses an index or a manifest. A document that could be read as both is rejected.
    pub(super) fn parse(bytes: &[u8]) -> Result<Document, String> {
        let value = json::parse(bytes).map_err(|error| error.to_string())?;
        let has = |name: &str| value.get(name).is_some();
        match (has("manifests"), has("layers") || has("config")) {
            (true, false) => index(value).map(Document::Index),
            (false, true) => manifest(value).map(Document::Manifest),
            (true, true) => Err("it is an index and a manifest at once".to_owned()),
            (false, false) => Err("it is neither an index nor an image manifest".to_owned()),
        }
    }

    /// Every entry that a runtime on this platform might choose, in order; of a manifest, the manifest itself, whose
    /// digest is `digest`.
    pub(super) fn candidates(&self, digest: &Digest, platform: &Platform) -> Vec<IndexEntry> {
        match self {
            Document::Index(entries) => entries.iter().filter(|entry| entry.may_run_on(platform)).cloned().collect(),
            Document::Manifest(_) => {
                vec![IndexEntry { digest: *digest, platform: None, base: BaseAnnotations::default() }]
            }
        }
    }
}

impl IndexEntry {
    /// Runtimes differ in what they choose, so this is true in doubt.
    fn may_run_on(&self, platform: &Platform) -> bool {
        let Some(own) = &self.platform else { return true };
        let variants_differ = own.variant.is_some() && platform.variant.is_some() && own.variant != platform.variant;
        // containerd reads the first two as variants of `arm`, and an empty name as its own platform.
        let architecture = match own.architecture.as_str() {
            "armhf" | "armel" => "arm",
            "i386" => "386",
            other => other,
        };
        let fits = |own: &str, asked: &str| own.is_empty() || own == asked;
        fits(&own.os, &platform.os) && fits(architecture, &platform.architecture) && !variants_differ
    }
}

impl BaseAnnotations {
    fn of(annotations: Option<&HashMap<String, String>>) -> BaseAnnotations {
        let text = |key: &str| annotations.and_then(|annotations| annotations.get(key)).cloned();
        BaseAnnotations { name: text(BASE_NAME), digest: text(BASE_DIGEST) }
    }

    /// Merges the annotations of the index entry and of the manifest.
    ///
    /// # Errors
    /// They contradict each other.
    pub(super) fn merged(self, other: BaseAnnotations) -> Result<BaseAnnotations, String> {
        Ok(BaseAnnotations { name: merge(self.name, other.name)?, digest: merge(self.digest, other.digest)? })
    }

    /// The base image, if both annotations are there.
    pub(super) fn reference(&self) -> Result<BaseReference, String> {
        let (Some(name), Some(digest)) = (&self.name, &self.digest) else {
            return Err(format!("it does not name its base image (annotations {BASE_NAME} and {BASE_DIGEST})"));
        };
        let image = Reference::parse(name).and_then(|reference| match reference.tag {
            Some(_) => reference.image(),
            // As Docker does.
            None => Image::parse(&format!("{}:latest", reference.repository)),
        });
        let image = image.map_err(|error| format!("the name of its base image is invalid: {error}"))?;
        let digest =
            Digest::parse(digest).map_err(|error| format!("the digest of its base image is invalid: {error}"))?;
        Ok(BaseReference { image, digest })
    }
}

fn merge(one: Option<String>, other: Option<String>) -> Result<Option<String>, String> {
    match (one, other) {
        (Some(one), Some(other)) if one != other => {
            Err("the index and the manifest name different base images".to_owned())
        }
        (one, other) => Ok(one.or(other)),
    }
}

fn index(value: Value) -> Result<Vec<IndexEntry>, String> {
    // `oci_spec` does not read `os.version`. It need not: several entries for one platform are rejected.
    let index: ImageIndex = serde_json::from_value(value).map_err(|error| error.to_string())?;
    check_version(index.schema_version())?;
    check_type(index.media_type().as_ref(), true)?;
    if index.manifests().len() > MAX_ENTRIES {
        return Err(format!("it lists more than {MAX_ENTRIES} manifests"));
    }
    index.manifests().iter().map(entry).collect()
}

fn entry(descriptor: &Descriptor) -> Result<IndexEntry, String> {
    let platform = descriptor.platform().as_ref().map(|platform| {
        Platform::new(&platform.os().to_string(), &platform.architecture().to_string(), platform.variant().as_deref())
    });
    let base = BaseAnnotations::of(descriptor.annotations().as_ref());
    Ok(IndexEntry { digest: digest(descriptor)?, platform, base })
}

fn manifest(value: Value) -> Result<Manifest, String> {
    let manifest: ImageManifest = serde_json::from_value(value).map_err(|error| error.to_string())?;
    check_version(manifest.schema_version())?;
    check_type(manifest.media_type().as_ref(), false)?;
    if manifest.layers().len() > MAX_LAYERS {
        return Err(format!("it has more than {MAX_LAYERS} layers"));
    }
    Ok(Manifest {
        config: digest(manifest.config())?,
        layers: manifest.layers().iter().map(digest).collect::<Result<_, _>>()?,
        base: BaseAnnotations::of(manifest.annotations().as_ref()),
    })
}

fn check_version(version: u32) -> Result<(), String> {
    if version == 2 { Ok(()) } else { Err(format!("its schema version is {version}, not 2")) }
}

/// A media type, if there is one, must match the structure: some runtimes go by the type, others by the structure
/// (CVE-2021-41190).
fn check_type(stated: Option<&MediaType>, is_index: bool) -> Result<(), String> {
    let Some(stated) = stated.map(MediaType::to_string) else { return Ok(()) };
    let matches = match stated.as_str() {
        "application/vnd.oci.image.index.v1+json" | "application/vnd.docker.distribution.manifest.list.v2+json" => {
            is_index
        }
        "application/vnd.oci.image.manifest.v1+json" | "application/vnd.docker.distribution.manifest.v2+json" => {
            !is_index
        }
        _ => false,
    };
    if matches { Ok(()) } else { Err("its media type does not match its structure".to_owned()) }
}

fn digest(descriptor: &Descriptor) -> Result<Digest, String> {
    Digest::parse(descriptor.digest().as_ref()).map_err(|error| error.to_string())
}
