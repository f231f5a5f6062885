//! The verifier as a library, as an admission controller would use it, with a real log and a registry that counts requests.

// A test fails where it unwraps.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use taglog_log_client::{LogClient, memory::Memory, trust::Trust};
use taglog_oci_registry::{Registry, RegistryOptions};
use taglog_policy::{Policy, Verdict, lock::Lock};
use taglog_proto::{
    entry::Seen,
    name::{Digest, Image},
};
use taglog_tests::{
    Server, Witness,
    hostile_registry::{HostileRegistry, ManifestResponse, manifest_digest},
    witness::now,
};
use taglog_verify::{
    Conclusion, Dependencies, ImageQuery, TrustedLog, Verification, VerificationOptions, Verifier, VerifyError,
    saved::{self, ProofFileError},
};

const LONG: Duration = Duration::from_secs(600);

struct LibraryFixture {
    server: Server,
    registry: HostileRegistry,
    witness: Witness,
    state: tempfile::TempDir,
}

impl LibraryFixture {
    fn new() -> LibraryFixture {
        let witness = Witness::new(1);
        let server = Server::start(&[&witness], "");
        LibraryFixture { server, registry: HostileRegistry::start(), witness, state: tempfile::tempdir().unwrap() }
    }

    /// An image that the registry serves and the witness has seen for three days.
    async fn image(&self, tag: &str) -> Image {
        let name = self.registry.set(&format!("team/app:{tag}"), ManifestResponse::serves(tag));
        let note = self.witness.see(&name, Seen::Digest(manifest_digest(tag)), now() - 3 * 86_400);
        self.server.add(&[note]).await;
        Image::parse(&name).unwrap()
    }

    fn verifier(&self) -> Verifier {
        Verifier::new(self.dependencies(1, Policy::without_file())).unwrap()
    }

    /// Dependencies with this many logs, all of them this one.
    fn dependencies(&self, logs: usize, policy: Policy) -> Dependencies {
        let log = TrustedLog {
            client: LogClient::new(&self.server.url, Duration::from_secs(10)).unwrap(),
            trust: Trust::of_log(self.server.vkey.clone(), None),
        };
        Dependencies {
            logs: vec![log; logs],
            memory: Memory::new(self.state.path().to_owned()),
            registry: Registry::new(RegistryOptions::default()).unwrap(),
            options: VerificationOptions {
                policy,
                lock: Lock::default(),
                locked: false,
                settled: false,
                platform: None,
            },
        }
    }
}

fn query(image: &Image, digest: Option<Digest>) -> ImageQuery {
    ImageQuery { image: image.clone(), digest, places: Vec::new() }
}

fn verdicts(verification: &Verification) -> Vec<Verdict> {
    verification.results.iter().map(|result| result.evaluation.verdict).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn clones_verify_concurrently_on_any_thread() {
    let fixture = LibraryFixture::new();
    let images = [fixture.image("1").await, fixture.image("2").await];
    let verifier = fixture.verifier();
    let ask = |image: &Image| {
        let (verifier, query) = (verifier.clone(), query(image, None));
        tokio::spawn(async move { verifier.verify(vec![query]).await })
    };
    let asking: Vec<_> = images.iter().cycle().take(10).map(ask).collect();
    for result in asking {
        let verification = result.await.unwrap().unwrap();
        assert_eq!((verdicts(&verification), verification.conclusion()), (vec![Verdict::Ok], Conclusion::Passes));
    }
    assert!(verifier.verify(Vec::new()).await.unwrap().results.is_empty());
}

/// The log is asked once for each image; the registry every time, because it may serve another digest by then.
#[tokio::test(flavor = "multi_thread")]
async fn cached_answers_are_not_requested_again() {
    let fixture = LibraryFixture::new();
    let (one, two) = (fixture.image("1").await, fixture.image("2").await);
    let keeping = fixture.verifier().with_cache(LONG);
    let forgetful = fixture.verifier();
    let both = || vec![query(&one, None), query(&two, None)];
    assert_eq!(verdicts(&keeping.verify(both()).await.unwrap()), [Verdict::Ok, Verdict::Ok]);
    assert_eq!(verdicts(&forgetful.verify(both()).await.unwrap()), [Verdict::Ok, Verdict::Ok]);
    let asked = fixture.registry.seen().len();
    let three = fixture.image("3").await;
    // The log grows; cached answers keep their checkpoint.
    let note = fixture.witness.see(&two.to_string(), Seen::Digest(manifest_digest("evil")), now());
    fixture.server.add(&[note]).await;
    let more = vec![query(&three, None), query(&two, None)];
    let verification = keeping.verify(more).await.unwrap();
    assert_eq!(verdicts(&verification), [Verdict::Ok, Verdict::Ok], "kept for as long as was allowed");
    assert_eq!(verification.lookups[0].parts.len(), 2, "each under its own checkpoint");
    assert_eq!(verdicts(&forgetful.verify(both()).await.unwrap()), [Verdict::Ok, Verdict::Retagged]);
    assert!(fixture.registry.seen().len() > asked, "registries are asked every time");

    let LibraryFixture { server, registry, state, .. } = fixture;
    drop(server.stop());
    registry.set("team/app:1", ManifestResponse::serves("evil"));
    assert_eq!(verdicts(&keeping.verify(vec![query(&one, None)]).await.unwrap()), [Verdict::Mismatch]);
    let pinned = vec![query(&one, Some(manifest_digest("1")))];
    assert_eq!(verdicts(&keeping.verify(pinned.clone()).await.unwrap()), [Verdict::Ok]);
    assert!(matches!(forgetful.verify(pinned).await, Err(VerifyError::Client { .. })));
    let unknown = Image::parse("registry.example/team/other:1").unwrap();
    assert!(matches!(keeping.verify(vec![query(&unknown, None)]).await, Err(VerifyError::Client { .. })));
    drop(state);
}

#[tokio::test(flavor = "multi_thread")]
async fn cached_answers_expire() {
    let fixture = LibraryFixture::new();
    let one = fixture.image("1").await;
    let verifier = fixture.verifier().with_cache(Duration::from_nanos(1));
    let ask = || verifier.verify(vec![query(&one, Some(manifest_digest("1")))]);
    assert_eq!(verdicts(&ask().await.unwrap()), [Verdict::Ok]);
    let note = fixture.witness.see(&one.to_string(), Seen::Digest(manifest_digest("evil")), now());
    fixture.server.add(&[note]).await;
    assert_eq!(verdicts(&ask().await.unwrap()), [Verdict::Retagged]);
}

/// An index belongs to one log, so with several logs `until` must name one.
#[tokio::test(flavor = "multi_thread")]
async fn an_until_without_a_log_is_refused_with_several_logs() {
    let fixture = LibraryFixture::new();
    let file = fixture.state.path().join("taglog.toml");
    let text = format!("[witnesses]\ntrusted = [{{ id = \"{}\", until = 7 }}]\n", fixture.witness.id());
    std::fs::write(&file, text).unwrap();
    let policy = Policy::read(&file).unwrap();
    assert!(Verifier::new(fixture.dependencies(1, policy.clone())).is_ok(), "there is only one log to mean");
    let dependencies = fixture.dependencies(2, policy);
    let trusted: Vec<Trust> = dependencies.logs.iter().map(|log| log.trust.clone()).collect();
    let answered =
        saved::verify(&fixture.state.path().join("none.tagproof"), &trusted, &dependencies.options, vec![], None).await;
    assert!(matches!(answered, Err(ProofFileError::Policy(_))), "{answered:?}");
    let refused = Verifier::new(dependencies).err().unwrap();
    assert_eq!((&refused.witness, refused.policy), (&fixture.witness.id(), file));
}
