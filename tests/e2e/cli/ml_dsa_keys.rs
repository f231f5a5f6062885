//! A log that signs with two keys, Ed25519 and ML-DSA-44: whoever trusts both accepts nothing that only one has signed.

use serde_json::Value;
use taglog_proto::cosignature::{Algorithm, CosignerSigningKey};
use taglog_tests::cli_fixture::{APP, CommandOutput, User, add, pinned, proxy::Proxy, wait, with_same_key};
use taglog_tests::{
    DataDirectory, Server, Witness,
    witness::{now, time},
};

const MIRROR: [&str; 3] = ["mirror", "--directory", "copy"];

/// A log with both keys, and a user whose trust file `taglog init` has made.
struct TwoKeysFixture {
    witness: Witness,
    server: Server,
    user: User,
}

impl TwoKeysFixture {
    fn new() -> TwoKeysFixture {
        let witness = Witness::new(1);
        let data = DataDirectory::init_with(&["--ml-dsa"]);
        data.configure(&[&witness], "");
        let server = data.start();
        add(&server, &[witness.observe(APP, "a", now() - 100)]);
        let user = User::new();
        user.run(&["init", &server.url, "--yes"]).exits(0).prints(&["Second key   ML-DSA-44", "both must have signed"]);
        TwoKeysFixture { witness, server, user }
    }

    /// The log's second vkey.
    fn ml_dsa(&self) -> String {
        wait(self.server.get("/api/v1/log")).json()["vkeys"][1].as_str().unwrap().to_owned()
    }

    /// A relay that leaves the ML-DSA-44 signature out of every checkpoint.
    fn stripping(&self) -> Proxy {
        Proxy::answering(&self.server, |_, body| match serde_json::from_slice::<Value>(&body) {
            Ok(mut value) => {
                if let Some(Value::String(checkpoint)) = value.get_mut("checkpoint") {
                    *checkpoint = stripped(checkpoint);
                }
                serde_json::to_vec(&value).unwrap()
            }
            Err(_) => match String::from_utf8(body) {
                Ok(text) if text.contains("\n\n— ") => stripped(&text).into_bytes(),
                Ok(text) => text.into_bytes(),
                Err(error) => error.into_bytes(),
            },
        })
    }
}

/// The checkpoint with its first signature alone.
fn stripped(checkpoint: &str) -> String {
    let (text, signatures) = checkpoint.split_once("\n\n").unwrap();
    let lines: Vec<&str> = signatures.lines().filter(|line| line.len() < 1000).collect();
    assert!(lines.len() < signatures.lines().count(), "nothing was left out of {checkpoint}");
    format!("{text}\n\n{}\n", lines.join("\n"))
}

/// Refused, but not as misbehaviour: anyone between log and user can remove a line.
fn is_refused(ran: CommandOutput) {
    ran.exits(3).prints(&["(ML-DSA-44)"]);
}

#[test]
fn every_command_requires_both_signatures() {
    let fixture = TwoKeysFixture::new();
    let relay = fixture.stripping();
    for command in [&["verify", &pinned(APP, "a")][..], &["audit"], &MIRROR, &["evidence", "compare", "--with", "copy"]]
    {
        is_refused(fixture.user.run(&[command, &["--log", &relay.url]].concat()));
        assert!(!fixture.user.path("copy/checkpoint").exists() && fixture.user.remembered().is_empty());
    }
}

#[test]
fn a_mirror_keeps_both_signatures() {
    let fixture = TwoKeysFixture::new();
    let relay = fixture.stripping();
    fixture.user.run(&MIRROR).exits(0);
    let before = fixture.user.read("copy/checkpoint");
    add(&fixture.server, &[fixture.witness.observe(APP, "b", now() - 50)]);
    is_refused(fixture.user.run(&[&MIRROR[..], &["--log", &relay.url]].concat()));
    assert_eq!(fixture.user.read("copy/checkpoint"), before);
    fixture.user.run(&MIRROR).exits(0);
    assert_ne!(fixture.user.read("copy/checkpoint"), before);
    fixture.user.run(&[&MIRROR[..], &["--check"]].concat()).exits(0);
    let stripped = stripped(&fixture.user.read("copy/checkpoint"));
    fixture.user.write("copy/checkpoint", stripped);
    is_refused(fixture.user.run(&[&MIRROR[..], &["--check"]].concat()));
    // With one key in the trust file, one signature is enough.
    let user = User::trusting(&fixture.server);
    user.run(&[&MIRROR[..], &["--log", &relay.url]].concat()).exits(0);
}

/// A holder of the Ed25519 key alone, such as a thief, can show two histories, and these prove misbehaviour.
#[test]
fn the_ed25519_signature_alone_proves_misbehaviour() {
    let fixture = TwoKeysFixture::new();
    fixture.user.run(&MIRROR).exits(0);
    let before = fixture.user.read("copy/checkpoint");
    let twin = with_same_key(&fixture.server, &[&fixture.witness]).start();
    add(&twin, &[fixture.witness.observe(APP, "evil", now() - 100), fixture.witness.observe(APP, "worse", now() - 90)]);
    let compare = ["evidence", "compare", "--with", "copy", "--log", &twin.url];
    fixture.user.run(&compare).exits(4).prints(&["THE LOG MISBEHAVES", "(ML-DSA-44)"]);
    let file = fixture.user.evidence().pop().unwrap();
    fixture.user.run(&["evidence", "verify", file.to_str().unwrap()]).exits(0).prints(&["PROVES MISBEHAVIOUR"]);
    fixture.user.run(&["mirror", &twin.url, "--directory", "copy"]).exits(4).prints(&["THE LOG MISBEHAVES"]);
    assert_eq!(fixture.user.read("copy/checkpoint"), before);
}

#[test]
fn init_takes_both_keys_and_shows_cosigners_without_asking_for_them() {
    let fixture = TwoKeysFixture::new();
    let (ml_dsa, vkey) = (fixture.ml_dsa(), fixture.server.vkey.to_string());
    let trust = fixture.user.read("trust");
    assert!(trust.contains(&format!("\nlog {ml_dsa}\n")) && trust.ends_with("quorum none\n"), "{trust}");
    let init = |more: &[&str]| {
        let user = User::new();
        let ran = user.run_json(&[&["init", &fixture.server.url, "--yes"], more].concat());
        assert_eq!(user.path("trust").exists(), ran.code == 0);
        ran
    };
    let answer = init(&["--vkey", &vkey, "--vkey", &ml_dsa]).exits(0).json();
    assert_eq!((&answer["mlDsa"], &answer["cosigners"]), (&ml_dsa.as_str().into(), &Value::Null), "{answer}");
    let other = CosignerSigningKey::from_seed(fixture.server.vkey.name(), Algorithm::MlDsa44, &[9; 32]).unwrap();
    init(&["--vkey", &vkey, "--vkey", &other.key().to_string()]).exits(4).prints(&["do not trust it"]);
    init(&["--vkey", "nonsense"]).exits(2);
    // A user who requires both keys is not downgraded to one.
    let relay = without_second_key(&fixture);
    fixture.user.run(&["init", &relay.url, "--yes"]).exits(2).prints(&["--replace"]);
    assert_eq!(fixture.user.read("trust"), trust);

    let [one, two] = [1, 2].map(cosigner);
    let relay = naming_cosigners(&fixture.server);
    let user = User::new();
    let ran = user.run(&["init", &relay.url, "--yes"]).exits(0);
    assert!(ran.stdout.contains(&format!("--cosigner {}\n", one.key())), "{ran:?}");
    assert!(!ran.stdout.contains(&two.key().to_string()), "it has not cosigned: {ran:?}");
    assert!(user.read("trust").ends_with("quorum none\n"), "what the log names is not asked for");
    let again = ["init", &relay.url, "--yes", "--replace", "--cosigner", &one.key().to_string()];
    let answer = user.run_json(&again).exits(0).json();
    assert_eq!(answer["namedCosigners"], Value::Array(vec![]), "{answer}");
}

fn cosigner(number: u8) -> CosignerSigningKey {
    CosignerSigningKey::from_seed(&format!("cosigner.example/{number}"), Algorithm::Ed25519, &[number; 32]).unwrap()
}

/// A relay that hides the second key.
fn without_second_key(fixture: &TwoKeysFixture) -> Proxy {
    Proxy::editing(&fixture.server, "api/v1/log", |text| {
        let mut about: Value = serde_json::from_str(&text).unwrap();
        about["vkeys"].as_array_mut().unwrap().truncate(1);
        about.to_string()
    })
}

/// A relay that names two cosigners, of which only the first has cosigned.
fn naming_cosigners(server: &Server) -> Proxy {
    let cosigners = [1, 2].map(cosigner);
    Proxy::answering(server, move |path, body| {
        if path.contains("api/v1/log") {
            let mut about: Value = serde_json::from_slice(&body).unwrap();
            let vkeys = cosigners.iter().map(|cosigner| serde_json::json!({ "vkey": cosigner.key().to_string() }));
            about["cosigners"] = vkeys.chain([serde_json::json!({ "vkey": "nonsense" })]).collect();
            return about.to_string().into_bytes();
        }
        let Ok(signed) = taglog_proto::checkpoint::SignedCheckpoint::parse(&body) else { return body };
        let line = cosigners[0].cosign(&signed, time(now())).unwrap();
        signed.with_signatures(vec![line]).to_string().into_bytes()
    })
}
