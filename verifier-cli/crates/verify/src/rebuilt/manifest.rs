//! Indexes and manifests, as far as the comparison needs them (OCI image-spec v1.1; Docker's schema 2 is the same shape).

use std::collections::HashMap;

use oci_spec::image::{Descriptor, ImageIndex, ImageManifest, MediaType};
use serde_json::Value;
use taglog_proto::name::{Digest, Image, Reference};

use super::json;
use crate::platform::Platform;

/// The most manifests in one index: far more platforms than there are.
const MAX_ENTRIES: usize = 1000;
/// The most layers of one image. Docker's own limit is 127.
const MAX_LAYERS: usize = 1000;

const BASE_NAME: &str = "org.opencontainers.image.base.name";
const BASE_DIGEST: &str = "org.opencontainers.image.base.digest";

/// What a tag can point to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Document {
    Index(Vec<Entry>),
    Manifest(Manifest),
}

/// One line of an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) digest: Digest,
    /// What it is for; a runtime may take one without for anything.
    platform: Option<Platform>,
    pub(super) base: BaseNote,
}

/// An image for one platform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Manifest {
    pub(super) config: Digest,
    pub(super) layers: Vec<Digest>,
    pub(super) base: BaseNote,
}

/// What annotations say an image was built on. Whoever pushes an image writes them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct BaseNote {
    pub(super) name: Option<String>,
    pub(super) digest: Option<String>,
}

/// A base by its name in the log and the digest of what the image was built on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Base {
    pub(super) image: Image,
    pub(super) digest: Digest,
}

impl Document {
    /// Parses an index or a manifest. What could be read as both is neither.
    pub(super) fn parse(bytes: &[u8]) -> Result<Document, String> {
        let value = json::parse(bytes).map_err(|error| error.to_string())?;
        let has = |name: &str| value.get(name).is_some();
        match (has("manifests"), has("layers") || has("config")) {
            (true, false) => index(value).map(Document::Index),
            (false, true) => manifest(value).map(Document::Manifest),
            (true, true) => Err("it is index and image at once".to_owned()),
            (false, false) => Err("it is neither an index nor an image's manifest".to_owned()),
        }
    }

    /// Every manifest that a runtime on this platform might run, in the index's order; of a manifest, itself.
    pub(super) fn candidates(&self, own: &Digest, platform: &Platform) -> Vec<Entry> {
        match self {
            Document::Index(entries) => entries.iter().filter(|entry| entry.may_run_on(platform)).cloned().collect(),
            Document::Manifest(_) => vec![Entry { digest: *own, platform: None, base: BaseNote::default() }],
        }
    }
}

impl Entry {
    /// Runtimes differ in what they take. In doubt, this one might be taken.
    fn may_run_on(&self, platform: &Platform) -> bool {
        let Some(own) = &self.platform else { return true };
        let variants_differ = own.variant.is_some() && platform.variant.is_some() && own.variant != platform.variant;
        // Containerd reads these two as variants of `arm`, and takes an empty name for its own.
        let architecture = match own.architecture.as_str() {
            "armhf" | "armel" => "arm",
            "i386" => "386",
            other => other,
        };
        let fits = |own: &str, asked: &str| own.is_empty() || own == asked;
        fits(&own.os, &platform.os) && fits(architecture, &platform.architecture) && !variants_differ
    }
}

impl BaseNote {
    fn of(annotations: Option<&HashMap<String, String>>) -> BaseNote {
        let text = |key: &str| annotations.and_then(|annotations| annotations.get(key)).cloned();
        BaseNote { name: text(BASE_NAME), digest: text(BASE_DIGEST) }
    }

    /// What the two annotated places of one image say together.
    pub(super) fn joined(self, other: BaseNote) -> Result<BaseNote, String> {
        Ok(BaseNote { name: agreed(self.name, other.name)?, digest: agreed(self.digest, other.digest)? })
    }

    /// The base, if it is named in full.
    pub(super) fn base(&self) -> Result<Base, String> {
        let (Some(name), Some(digest)) = (&self.name, &self.digest) else {
            return Err(format!("it does not say on what it was built ({BASE_NAME} and {BASE_DIGEST})"));
        };
        let image = Reference::parse(name).and_then(|reference| match reference.tag {
            Some(_) => reference.image(),
            // As Docker reads it.
            None => Image::parse(&format!("{}:latest", reference.repository)),
        });
        let image = image.map_err(|error| format!("its base has no usable name: {error}"))?;
        let digest = Digest::parse(digest).map_err(|error| format!("its base has no usable digest: {error}"))?;
        Ok(Base { image, digest })
    }
}

fn agreed(one: Option<String>, other: Option<String>) -> Result<Option<String>, String> {
    match (one, other) {
        (Some(one), Some(other)) if one != other => {
            Err("the index and the manifest name different bases for it".to_owned())
        }
        (one, other) => Ok(one.or(other)),
    }
}

fn index(value: Value) -> Result<Vec<Entry>, String> {
    // `oci_spec` reads no `os.version`. It need not: two entries for one platform are never told apart here.
    let index: ImageIndex = serde_json::from_value(value).map_err(|error| error.to_string())?;
    check_version(index.schema_version())?;
    check_type(index.media_type().as_ref(), true)?;
    if index.manifests().len() > MAX_ENTRIES {
        return Err(format!("it lists more than {MAX_ENTRIES} manifests"));
    }
    index.manifests().iter().map(entry).collect()
}

fn entry(descriptor: &Descriptor) -> Result<Entry, String> {
    let platform = descriptor.platform().as_ref().map(|platform| {
        Platform::new(&platform.os().to_string(), &platform.architecture().to_string(), platform.variant().as_deref())
    });
    let base = BaseNote::of(descriptor.annotations().as_ref());
    Ok(Entry { digest: digest(descriptor)?, platform, base })
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
        base: BaseNote::of(manifest.annotations().as_ref()),
    })
}

fn check_version(version: u32) -> Result<(), String> {
    if version == 2 { Ok(()) } else { Err(format!("its schema version is {version}, not 2")) }
}

/// A document that states its type must state the one of its shape: some runtimes go by the one, some by the other
/// (CVE-2021-41190).
fn check_type(stated: Option<&MediaType>, is_index: bool) -> Result<(), String> {
    let Some(stated) = stated.map(MediaType::to_string) else { return Ok(()) };
    let right = match stated.as_str() {
        "application/vnd.oci.image.index.v1+json" | "application/vnd.docker.distribution.manifest.list.v2+json" => {
            is_index
        }
        "application/vnd.oci.image.manifest.v1+json" | "application/vnd.docker.distribution.manifest.v2+json" => {
            !is_index
        }
        _ => false,
    };
    if right { Ok(()) } else { Err("its media type is not that of its shape".to_owned()) }
}

fn digest(descriptor: &Descriptor) -> Result<Digest, String> {
    Digest::parse(descriptor.digest().as_ref()).map_err(|error| error.to_string())
}
