//! A log that signs with two keys, Ed25519 and ML-DSA-44: whoever trusts both believes nothing that only one has signed.

// A test fails where it unwraps.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod cli_common;

use cli_common::{APP, Ran, User, add, pinned, proxy::Proxy, same_key, wait};
use serde_json::Value;
use taglog_proto::cosignature::{Algorithm, CosignerSigningKey};
use taglog_tests::{
    Data, Server, Witness,
    witness::{now, time},
};

const MIRROR: [&str; 3] = ["mirror", "--directory", "copy"];

/// A log with both keys, and somebody who trusts it as `taglog init` makes them.
struct Scene {
    witness: Witness,
    server: Server,
    user: User,
}

impl Scene {
    fn new() -> Scene {
        let witness = Witness::new(1);
        let data = Data::init_with(&["--ml-dsa"]);
        data.configure(&[&witness], "");
        let server = data.start();
        add(&server, &[witness.observe(APP, "a", now() - 100)]);
        let user = User::new();
        user.run(&["init", &server.url, "--yes"]).exits(0).says(&["Second key   ML-DSA-44", "both must have signed"]);
        Scene { witness, server, user }
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

/// Not believed; and no misbehaviour, since anybody on the way can leave a line out.
fn is_refused(ran: Ran) {
    ran.exits(3).says(&["(ML-DSA-44)"]);
}

#[test]
fn everything_asks_for_both() {
    let scene = Scene::new();
    let relay = scene.stripping();
    for command in [&["verify", &pinned(APP, "a")][..], &["audit"], &MIRROR, &["evidence", "compare", "--with", "copy"]]
    {
        is_refused(scene.user.run(&[command, &["--log", &relay.url]].concat()));
        assert!(!scene.user.path("copy/checkpoint").exists() && scene.user.remembered().is_empty());
    }
}

#[test]
fn a_mirror_keeps_what_both_have_signed() {
    let scene = Scene::new();
    let relay = scene.stripping();
    scene.user.run(&MIRROR).exits(0);
    let before = scene.user.read("copy/checkpoint");
    add(&scene.server, &[scene.witness.observe(APP, "b", now() - 50)]);
    is_refused(scene.user.run(&[&MIRROR[..], &["--log", &relay.url]].concat()));
    assert_eq!(scene.user.read("copy/checkpoint"), before);
    scene.user.run(&MIRROR).exits(0);
    assert_ne!(scene.user.read("copy/checkpoint"), before);
    scene.user.run(&[&MIRROR[..], &["--check"]].concat()).exits(0);
    let stripped = stripped(&scene.user.read("copy/checkpoint"));
    scene.user.write("copy/checkpoint", stripped);
    is_refused(scene.user.run(&[&MIRROR[..], &["--check"]].concat()));
    // With one key in the trust file, one signature is enough.
    let user = User::trusting(&scene.server);
    user.run(&[&MIRROR[..], &["--log", &relay.url]].concat()).exits(0);
}

/// Who has the Ed25519 key alone, such as a thief, can show two histories, and is convicted by them.
#[test]
fn the_ed25519_signature_convicts_alone() {
    let scene = Scene::new();
    scene.user.run(&MIRROR).exits(0);
    let before = scene.user.read("copy/checkpoint");
    let twin = same_key(&scene.server, &[&scene.witness]).start();
    add(&twin, &[scene.witness.observe(APP, "evil", now() - 100), scene.witness.observe(APP, "worse", now() - 90)]);
    let compare = ["evidence", "compare", "--with", "copy", "--log", &twin.url];
    scene.user.run(&compare).exits(4).says(&["THE LOG MISBEHAVES", "(ML-DSA-44)"]);
    let file = scene.user.evidence().pop().unwrap();
    scene.user.run(&["evidence", "verify", file.to_str().unwrap()]).exits(0).says(&["CONVICTS"]);
    scene.user.run(&["mirror", &twin.url, "--directory", "copy"]).exits(4).says(&["THE LOG MISBEHAVES"]);
    assert_eq!(scene.user.read("copy/checkpoint"), before);
}

#[test]
fn init_takes_both_keys_and_shows_cosigners_without_asking_for_them() {
    let scene = Scene::new();
    let (ml_dsa, vkey) = (scene.ml_dsa(), scene.server.vkey.to_string());
    let trust = scene.user.read("trust");
    assert!(trust.contains(&format!("\nlog {ml_dsa}\n")) && trust.ends_with("quorum none\n"), "{trust}");
    let init = |more: &[&str]| {
        let user = User::new();
        let ran = user.run_json(&[&["init", &scene.server.url, "--yes"], more].concat());
        assert_eq!(user.path("trust").exists(), ran.code == 0);
        ran
    };
    let answer = init(&["--vkey", &vkey, "--vkey", &ml_dsa]).exits(0).json();
    assert_eq!((&answer["mlDsa"], &answer["cosigners"]), (&ml_dsa.as_str().into(), &Value::Null), "{answer}");
    let other = CosignerSigningKey::from_seed(scene.server.vkey.name(), Algorithm::MlDsa44, &[9; 32]).unwrap();
    init(&["--vkey", &vkey, "--vkey", &other.key().to_string()]).exits(4).says(&["do not trust it"]);
    init(&["--vkey", "nonsense"]).exits(2);
    // Who asks for both keys is not talked out of one.
    let relay = without_second_key(&scene);
    scene.user.run(&["init", &relay.url, "--yes"]).exits(2).says(&["--replace"]);
    assert_eq!(scene.user.read("trust"), trust);

    let [one, two] = [1, 2].map(cosigner);
    let relay = naming_cosigners(&scene.server);
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
fn without_second_key(scene: &Scene) -> Proxy {
    Proxy::editing(&scene.server, "api/v1/log", |text| {
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
