//! `taglog observe`: resolves tags at their registries, and reports the digests to the log.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};
use taglog_proto::{
    entry::{Observation, Seen},
    name::{Digest, Image},
    note::SigningKey,
    policy::Quorate,
};

use super::{
    context::{Failure, Format, Global, Report},
    output::cosignatures_json,
    session::{Session, config_path, now, parse_reference, registry},
};
use taglog_log_client::key::read_key;
use taglog_log_client::{LogClient, lookup::check_growth, receipt::ReceiptChecker};
use taglog_oci_registry::{Manifest, ManifestReference, Registry};

/// Ask registries what tags point to, and report it to the log as a witness
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  taglog observe busybox:1.36.1 --key ./ams-1.key
  taglog observe --digest sha256:3fbc… registry.example/team/app:v1

The registry is asked with HEAD, then the manifest is fetched and must hash to the digest. Each
observation is signed, submitted, and only reported as logged when its receipt verifies.")]
pub struct ObserveArgs {
    /// Images: repository:tag
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
    /// The witness's secret key [default: taglog/witness.key in the configuration directory]
    #[arg(long, value_name = "FILE", env = "TAGLOG_KEY")]
    key: Option<PathBuf>,
    /// State this digest instead of asking the registry (one image only)
    #[arg(long, value_name = "DIGEST")]
    digest: Option<String>,
}

/// Observes each image in turn. One that fails does not stop the others.
pub async fn run(global: &Global, args: ObserveArgs) -> Result<Report, Failure> {
    let session = Session::open(global)?;
    let witness = Witness {
        client: session.client()?,
        registry: registry(global)?,
        key: read_key(&args.key.map_or_else(|| config_path("witness.key"), Ok)?).map_err(Failure::usage)?,
        session: &session,
    };
    let stated = args.digest.as_deref().map(Digest::parse).transpose().map_err(Failure::usage)?;
    if stated.is_some() && args.images.len() != 1 {
        return Err(Failure::usage("--digest states the digest of one image: name exactly one"));
    }
    let images = args.images.iter().map(|text| parse_reference(text)).collect::<Result<Vec<_>, _>>()?;
    let contradicted = images.iter().find(|(_, written)| written.is_some() && stated.is_some() && *written != stated);
    if let Some((image, _)) = contradicted {
        return Err(Failure::usage(format!("{image}: --digest and the digest after '@' contradict each other")));
    }
    let mut report = Report::done("");
    let mut rows = Vec::new();
    for (image, written) in images {
        match witness.observe(&image, stated.or(written)).await {
            Ok(observed) => rows.push(observed),
            Err(failure) => {
                report.exit = report.exit.max(failure.exit);
                report.notes.push(format!("{image}: {}", failure.message));
                rows.push(json!({ "image": image.to_string(), "error": failure.message }));
            }
        }
    }
    report.output = match global.output {
        Format::Json => format!("{}\n", Value::from(rows)),
        Format::Text => rows.iter().filter(|row| row["error"].is_null()).map(text_row).collect(),
    };
    Ok(report)
}

fn text_row(row: &Value) -> String {
    let text = |key: &str| row[key].as_str().unwrap_or("").to_owned();
    let (image, digest, status, kept) = (text("image"), text("digest"), text("status"), text("manifest"));
    format!("{image}  {digest}  {status} as entry {}; manifest {kept}\n", row["index"])
}

/// The clients and the key for observations.
struct Witness<'a> {
    session: &'a Session,
    client: LogClient,
    registry: Registry,
    key: SigningKey,
}

impl Witness<'_> {
    async fn observe(&self, image: &Image, stated: Option<Digest>) -> Result<Value, Failure> {
        let (digest, manifest) = match stated {
            Some(digest) => (digest, None),
            None => self.ask(image).await.map(|manifest| (manifest.digest, Some(manifest)))?,
        };
        let entry = Observation::sign(image.clone(), Seen::Digest(digest), now(), &self.key).map_err(Failure::usage)?;
        let (index, status, cosigned) = self.submit(&entry).await?;
        let kept = match manifest {
            None => "not fetched".to_owned(),
            Some(manifest) => match self.client.put_manifest(&digest, manifest.bytes).await {
                Ok(()) => "kept by the log".to_owned(),
                Err(error) => format!("not kept by the log: {error}"),
            },
        };
        Ok(json!({
            "image": image.to_string(), "digest": digest.to_string(), "observed": entry.observed.to_string(),
            "witness": entry.signature.witness.to_string(), "index": index, "status": status, "manifest": kept,
            "cosignatures": cosignatures_json(&cosigned),
        }))
    }

    /// Resolves the tag by HEAD, and fetches the manifest, which must hash to the digest.
    async fn ask(&self, image: &Image) -> Result<Manifest, Failure> {
        let digest = self.registry.head(image).await.map_err(Failure::failed)?;
        let reference = ManifestReference::Digest(digest);
        self.registry.manifest(&image.repository, &reference).await.map_err(Failure::failed)
    }

    /// Submits the entry and verifies its receipt, under a checkpoint with the quorum that is consistent with the remembered
    /// one.
    async fn submit(&self, entry: &Observation) -> Result<(u64, &'static str, Quorate), Failure> {
        let (log, memory) = (&self.session.trust.log, &self.session.memory);
        // Before the submission: another process may meanwhile remember a newer checkpoint than the receipt's.
        let remembered = memory.load(log).map_err(Failure::usage)?;
        let (index, duplicate, proof) = self.client.submit(&entry.to_string()).await.map_err(Failure::failed)?;
        let mut checker = ReceiptChecker::new(log, self.key.verifier_key());
        let receipt = checker.check(&proof, &entry.to_string(), index, duplicate).map_err(|error| {
            self.session.misbehaved(&error, &json!({ "entry": entry.to_string(), "receipt": proof }))
        })?;
        check_growth(&self.client, remembered.as_ref(), &receipt.checkpoint)
            .await
            .map_err(|error| self.session.failure(error))?;
        let cosigned = self.session.trust.check(&receipt.checkpoint).map_err(|error| {
            Failure::failed(format!("submitted as entry {index} according to the log, but {error}"))
        })?;
        memory.advance(log, remembered.as_ref(), &receipt.checkpoint).map_err(Failure::usage)?;
        Ok((index, if duplicate { "duplicate" } else { "added" }, cosigned))
    }
}
