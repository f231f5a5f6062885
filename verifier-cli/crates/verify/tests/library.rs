//! The verifier as a library, as an admission controller or a proxy would use it: real log, a registry that counts.

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
    Conclusion, Log, Parts, Question, Rules, Verification, Verifier, VerifyError,
    saved::{self, FileError},
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
        Verifier::new(self.parts(1, Policy::without_file())).unwrap()
    }

    /// What a verifier of so many logs works with; all are this one.
    fn parts(&self, logs: usize, policy: Policy) -> Parts {
        let log = Log {
            client: LogClient::new(&self.server.url, Duration::from_secs(10)).unwrap(),
            trust: Trust::of_log(self.server.vkey.clone(), None),
        };
        Parts {
            logs: vec![log; logs],
            memory: Memory::new(self.state.path().to_owned()),
            registry: Registry::new(RegistryOptions::default()).unwrap(),
            rules: Rules { policy, lock: Lock::default(), locked: false, settled: false, platform: None },
        }
    }
}

fn question(image: &Image, digest: Option<Digest>) -> Question {
    Question { image: image.clone(), digest, places: Vec::new() }
}

fn verdicts(verification: &Verification) -> Vec<Verdict> {
    verification.answers.iter().map(|answer| answer.judgement.verdict).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn clones_answer_at_once_on_any_thread() {
    let fixture = LibraryFixture::new();
    let images = [fixture.image("1").await, fixture.image("2").await];
    let verifier = fixture.verifier();
    let ask = |image: &Image| {
        let (verifier, question) = (verifier.clone(), question(image, None));
        tokio::spawn(async move { verifier.verify(vec![question]).await })
    };
    let asking: Vec<_> = images.iter().cycle().take(10).map(ask).collect();
    for answer in asking {
        let verification = answer.await.unwrap().unwrap();
        assert_eq!((verdicts(&verification), verification.conclusion()), (vec![Verdict::Ok], Conclusion::Passes));
    }
    assert!(verifier.verify(Vec::new()).await.unwrap().answers.is_empty());
}

/// The log is asked once for each image; the registry each time, for it may serve something else by now.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_is_not_asked_again() {
    let fixture = LibraryFixture::new();
    let (one, two) = (fixture.image("1").await, fixture.image("2").await);
    let keeping = fixture.verifier().keeping(LONG);
    let forgetful = fixture.verifier();
    let both = || vec![question(&one, None), question(&two, None)];
    assert_eq!(verdicts(&keeping.verify(both()).await.unwrap()), [Verdict::Ok, Verdict::Ok]);
    assert_eq!(verdicts(&forgetful.verify(both()).await.unwrap()), [Verdict::Ok, Verdict::Ok]);
    let asked = fixture.registry.seen().len();
    let three = fixture.image("3").await;
    // The log grows, and what is kept stays what it was under its own checkpoint.
    let note = fixture.witness.see(&two.to_string(), Seen::Digest(manifest_digest("evil")), now());
    fixture.server.add(&[note]).await;
    let more = vec![question(&three, None), question(&two, None)];
    let verification = keeping.verify(more).await.unwrap();
    assert_eq!(verdicts(&verification), [Verdict::Ok, Verdict::Ok], "kept for as long as was allowed");
    assert_eq!(verification.looked[0].parts.len(), 2, "each under its own checkpoint");
    assert_eq!(verdicts(&forgetful.verify(both()).await.unwrap()), [Verdict::Ok, Verdict::Retagged]);
    assert!(fixture.registry.seen().len() > asked, "registries are asked every time");

    let LibraryFixture { server, registry, state, .. } = fixture;
    drop(server.stop());
    registry.set("team/app:1", ManifestResponse::serves("evil"));
    assert_eq!(verdicts(&keeping.verify(vec![question(&one, None)]).await.unwrap()), [Verdict::Mismatch]);
    let pinned = vec![question(&one, Some(manifest_digest("1")))];
    assert_eq!(verdicts(&keeping.verify(pinned.clone()).await.unwrap()), [Verdict::Ok]);
    assert!(matches!(forgetful.verify(pinned).await, Err(VerifyError::Client { .. })));
    let unknown = Image::parse("registry.example/team/other:1").unwrap();
    assert!(matches!(keeping.verify(vec![question(&unknown, None)]).await, Err(VerifyError::Client { .. })));
    drop(state);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_kept_beyond_its_time() {
    let fixture = LibraryFixture::new();
    let one = fixture.image("1").await;
    let verifier = fixture.verifier().keeping(Duration::from_nanos(1));
    let ask = || verifier.verify(vec![question(&one, Some(manifest_digest("1")))]);
    assert_eq!(verdicts(&ask().await.unwrap()), [Verdict::Ok]);
    let note = fixture.witness.see(&one.to_string(), Seen::Digest(manifest_digest("evil")), now());
    fixture.server.add(&[note]).await;
    assert_eq!(verdicts(&ask().await.unwrap()), [Verdict::Retagged]);
}

/// An index is one in one log: with several, nobody can tell which is meant.
#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_may_be_one_of_any_log_is_refused() {
    let fixture = LibraryFixture::new();
    let file = fixture.state.path().join("taglog.toml");
    let text = format!("[witnesses]\ntrusted = [{{ id = \"{}\", until = 7 }}]\n", fixture.witness.id());
    std::fs::write(&file, text).unwrap();
    let policy = Policy::read(&file).unwrap();
    assert!(Verifier::new(fixture.parts(1, policy.clone())).is_ok(), "there is only one log to mean");
    let parts = fixture.parts(2, policy);
    let trusted: Vec<Trust> = parts.logs.iter().map(|log| log.trust.clone()).collect();
    let answered =
        saved::verify(&fixture.state.path().join("none.tagproof"), &trusted, &parts.rules, vec![], None).await;
    assert!(matches!(answered, Err(FileError::Policy(_))), "{answered:?}");
    let refused = Verifier::new(parts).err().unwrap();
    assert_eq!((&refused.witness, refused.policy), (&fixture.witness.id(), file));
}
