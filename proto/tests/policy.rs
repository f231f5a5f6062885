//! Trust policies: every rule of c2sp.org/tlog-policy, and the quorum against a plain evaluation.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use proptest::prelude::*;
use taglog_proto::{
    checkpoint::{Checkpoint, SignedCheckpoint},
    cosignature::{Algorithm, CosignerSigningKey},
    merkle::Hash,
    note::{NoteSignature, SigningKey},
    policy::{PolicyError, QuorumError, TrustPolicy},
    time::Timestamp,
};

fn log_key() -> SigningKey {
    SigningKey::from_seed("log.example/x", &[1; 32]).unwrap()
}

fn ml_dsa_log_key() -> CosignerSigningKey {
    CosignerSigningKey::from_seed("log.example/x", Algorithm::MlDsa44, &[2; 32]).unwrap()
}

fn cosigner(number: u8) -> CosignerSigningKey {
    CosignerSigningKey::from_seed(&format!("cosigner.example/{number}"), Algorithm::Ed25519, &[100 + number; 32])
        .unwrap()
}

fn vkey(number: u8) -> String {
    cosigner(number).key().to_string()
}

fn checkpoint() -> SignedCheckpoint {
    Checkpoint { origin: "log.example/x".into(), size: 7, root: Hash::of(b"root") }.sign(&log_key())
}

fn time(seconds: i64) -> Timestamp {
    Timestamp::from_unix(seconds).unwrap()
}

fn cosigned_by(who: &[(u8, i64)]) -> SignedCheckpoint {
    let signed = checkpoint();
    let lines: Vec<NoteSignature> =
        who.iter().map(|(number, seconds)| cosigner(*number).cosign(&signed, time(*seconds)).unwrap()).collect();
    signed.with_signatures(lines)
}

fn parse(text: &str) -> Result<TrustPolicy, PolicyError> {
    TrustPolicy::parse(text.as_bytes())
}

/// The two groups of the example in the specification.
fn example() -> String {
    let mut text = format!("# who is trusted\nlog {}\n\n", log_key().verifier_key());
    for (number, name) in (0..).zip(["X1", "X2", "X3", "Y1", "Y2", "Y3"]) {
        text += &format!("witness {name} {} https://{name}.example/\n", vkey(number));
    }
    text + "group X-witnesses 2 X1 X2 X3\n\tgroup  Y-witnesses any\tY1 Y2 Y3 \n \t \ngroup X-and-Y all X-witnesses Y-witnesses\nquorum X-and-Y\n"
}

#[test]
fn the_example_of_the_specification_is_evaluated() {
    let policy = parse(&example()).unwrap();
    assert_eq!((policy.logs().len(), policy.cosigners().len(), policy.needs_cosigners()), (1, 6, true));
    assert_eq!(policy.cosigners()[1].url.as_deref(), Some("https://X2.example/"));
    assert_eq!(parse(&policy.to_text()).unwrap(), policy);
    let quorate = policy.evaluate(&cosigned_by(&[(0, 50), (2, 30), (4, 90), (1, 40)])).unwrap();
    let names: Vec<(&str, i64)> =
        quorate.cosignatures.iter().map(|(name, time)| (name.as_str(), time.unix())).collect();
    assert_eq!(names, [("X1", 50), ("X2", 40), ("X3", 30), ("Y2", 90)]);
    // X1 and X2 with Y2: the third of the X is not needed, so its age does not matter.
    assert_eq!((quorate.fresh, quorate.faulty), (Some(time(40)), vec![]));
    for few in [&[(0, 50), (1, 50)][..], &[(0, 50), (3, 50), (4, 50), (5, 50)], &[]] {
        let QuorumError::NotMet { have, want, .. } = policy.evaluate(&cosigned_by(few)).unwrap_err() else { panic!() };
        assert_eq!((have.len(), want.as_str()), (few.len(), "2 of (2 of (X1, X2, X3), 1 of (Y1, Y2, Y3))"));
    }
}

#[test]
fn a_quorum_can_be_one_cosigner_or_none() {
    let log = format!("log {}\n", log_key().verifier_key());
    let none = parse(&format!("{log}witness a {}\nquorum none\n", vkey(0))).unwrap();
    assert!(!none.needs_cosigners());
    assert_eq!(none.evaluate(&checkpoint()).unwrap().fresh, None);
    // It is shown all the same.
    assert_eq!(none.evaluate(&cosigned_by(&[(0, 9)])).unwrap().cosignatures, [("a".to_owned(), time(9))]);
    assert_eq!(parse(&format!("{log}quorum none")), parse(&format!("{log}quorum none\n")));
    let one = parse(&format!("{log}witness a {}\nwitness b {}\nquorum a\n", vkey(0), vkey(1))).unwrap();
    assert_eq!(one.evaluate(&cosigned_by(&[(0, 9), (1, 12)])).unwrap().fresh, Some(time(9)));
    let error = one.evaluate(&cosigned_by(&[(1, 12)])).unwrap_err().to_string();
    assert_eq!(error, "too few cosigners: want a; cosigned by b");
}

#[test]
fn false_lines_count_for_nothing_and_are_reported() {
    let policy = parse(&format!(
        "log {}\nwitness a {}\nwitness b {}\nwitness c {}\ngroup g 2 a b c\nquorum g\n",
        log_key().verifier_key(),
        vkey(0),
        vkey(1),
        vkey(2)
    ))
    .unwrap();
    let spoil = |signed: &SignedCheckpoint, line: usize| {
        let mut line = signed.note().signatures[line].clone();
        *line.signature.last_mut().unwrap() ^= 1;
        signed.with_signatures([line])
    };
    let three = cosigned_by(&[(0, 10), (1, 20), (2, 30)]);
    let quorate = policy.evaluate(&spoil(&three, 3)).unwrap();
    assert_eq!((quorate.fresh, quorate.faulty), (Some(time(10)), vec!["c".to_owned()]));
    let error = policy.evaluate(&spoil(&cosigned_by(&[(0, 10), (2, 30)]), 2)).unwrap_err().to_string();
    assert_eq!(error, "too few cosigners: want 2 of (a, b, c); cosigned by a; the lines of c do not verify");
}

#[test]
fn the_log_must_have_signed_with_all_its_keys() {
    let (ed25519, ml_dsa) = (log_key(), ml_dsa_log_key());
    let lines = [
        format!("log {} https://log.example/x\n", ed25519.verifier_key()),
        format!("log {}\n", ml_dsa.key()),
        "quorum none\n".to_owned(),
    ];
    let signed = checkpoint();
    let both = signed.with_signatures([ml_dsa.cosign(&signed, time(5)).unwrap()]);
    for order in [[0, 1, 2], [1, 0, 2], [2, 1, 0]] {
        let policy = parse(&order.map(|line| lines[line].as_str()).concat()).unwrap();
        assert_eq!((policy.logs().len(), &policy.logs()[0].ml_dsa), (1, &Some(ml_dsa.key().clone())));
        assert_eq!(parse(&policy.to_text()).unwrap(), policy);
        assert!(policy.evaluate(&both).is_ok());
        let error = policy.evaluate(&signed).unwrap_err().to_string();
        assert!(error.contains("ML-DSA-44"), "{error}");
        let mut forged = ml_dsa.cosign(&signed, time(5)).unwrap();
        forged.signature[200] ^= 1;
        assert!(policy.evaluate(&signed.with_signatures([forged])).is_err());
    }
    let alone = parse(&[lines[0].as_str(), "quorum none\n"].concat()).unwrap();
    assert!(alone.evaluate(&signed).is_ok());
    let foreign = SigningKey::from_seed("log.example/x", &[7; 32]).unwrap();
    assert!(matches!(alone.evaluate(&signed.unverified().sign(&foreign)), Err(QuorumError::Log(_))));
    let elsewhere = SigningKey::from_seed("log.example/y", &[7; 32]).unwrap();
    let elsewhere = Checkpoint { origin: "log.example/y".into(), ..signed.unverified().clone() }.sign(&elsewhere);
    assert_eq!(alone.evaluate(&elsewhere), Err(QuorumError::UnknownLog("log.example/y".into())));
    // Any one of the logs will do, and where there is none the caller knows the log.
    let second = format!("{}log {}\nquorum none\n", lines[0], foreign.verifier_key());
    assert!(parse(&second).unwrap().evaluate(&signed).is_ok());
    assert!(parse(&second).unwrap().evaluate(&signed.unverified().sign(&foreign)).is_ok());
    assert!(parse("quorum none\n").unwrap().evaluate(&elsewhere).is_ok());
}

#[test]
fn malformed_policies_are_refused() {
    let w = |name: &str, number| format!("witness {name} {}\n", vkey(number));
    let (a, b) = (w("a", 0), w("b", 1));
    let log = format!("log {}\n", log_key().verifier_key());
    let other_name = CosignerSigningKey::from_seed("other", Algorithm::Ed25519, &[100; 32]).unwrap();
    for (bad, want) in [
        (String::new(), "no 'quorum' line"),
        (format!("{log}{a}"), "no 'quorum' line"),
        ("quorum none\nquorum none\n".to_owned(), "line 2: a second quorum"),
        ("quorum a\n".to_owned(), "line 1: no line before this one defines \"a\""),
        (format!("quorum a\n{a}"), "line 1: no line before"),
        ("quorum\n".to_owned(), "line 1: want"),
        ("quorum none none\n".to_owned(), "line 1: want"),
        ("quorum none\r\n".to_owned(), "line 1: a control character"),
        ("quorum\u{c}none\n".to_owned(), "line 1: a control character"),
        ("# \u{7f}\nquorum none\n".to_owned(), "line 1: a control character"),
        (format!("{log}{log}quorum none\n"), "line 2: a second log"),
        (format!("log {}\nquorum none\n", vkey(0)), "line 1: verifier key"),
        (format!("log {}\nquorum none\n", ml_dsa_log_key().key()), "line 1: the policy needs the log's Ed25519 key"),
        (format!("witness a {}\nquorum none\n", log_key().verifier_key()), "line 1: verifier key"),
        (format!("{a}{}quorum none\n", w("a", 1)), "line 2: \"a\" is defined already"),
        (format!("{a}{}quorum none\n", w("b", 0)), "line 2: a second witness"),
        (format!("{a}witness b {}\nquorum none\n", other_name.key()), "line 2: a second witness"),
        (format!("{}quorum none\n", w("none", 0)), "line 1: 'none'"),
        (format!("{a}group none any a\nquorum none\n"), "line 2: 'none'"),
        (format!("{a}group g any none\nquorum g\n"), "line 2: no line"),
        (format!("{a}group a any a\nquorum a\n"), "line 2: \"a\" is defined"),
        (format!("{a}group g any\nquorum g\n"), "line 2: want 'all'"),
        (format!("{a}group g\nquorum g\n"), "line 2: want 'log"),
        (format!("{a}group g 0 a\nquorum g\n"), "line 2: want 'all'"),
        (format!("{a}group g 2 a\nquorum g\n"), "line 2: want 'all'"),
        (format!("{a}group g 01 a\nquorum g\n"), "line 2: want 'all'"),
        (format!("{a}group g most a\nquorum g\n"), "line 2: want 'all'"),
        (format!("{a}group g any g\nquorum g\n"), "line 2: no line"),
        (format!("{a}group g any h\ngroup h any a\nquorum g\n"), "line 2: no line"),
        (format!("{a}group g any a a\nquorum g\n"), "line 2: \"a\" is a member"),
        (format!("{a}{b}group g any a\ngroup h all a b\nquorum h\n"), "line 4: \"a\" is a member"),
        (format!("{a}Group g any a\nquorum a\n"), "line 2: want"),
        (format!("{a}witness b {} url more\nquorum a\n", vkey(1)), "line 2: want"),
    ] {
        let message = parse(&bad).unwrap_err().to_string();
        assert!(message.contains(want), "{bad:?}: {message}");
    }
    assert!(parse(&format!("{}\nquorum none\n", "#".repeat(600 << 10))).is_err());
}

#[test]
fn names_are_octets() {
    let mut text = "# \u{e9} and ".to_owned().into_bytes();
    text.extend_from_slice(b"\xff\xfe\nwitness \xff ");
    text.extend_from_slice(
        format!("{}\nwitness \u{212a} {}\nwitness K {} http://\u{e9}/\n", vkey(0), vkey(1), vkey(2)).as_bytes(),
    );
    text.extend_from_slice(b"group g all \xff K\nquorum g\n");
    let policy = TrustPolicy::parse(&text).unwrap();
    // A Kelvin sign is no K.
    let names: Vec<&str> = policy.cosigners().iter().map(|cosigner| cosigner.name.as_str()).collect();
    assert_eq!(names, ["\\xff", "\u{212a}", "K"]);
    assert!(policy.evaluate(&cosigned_by(&[(0, 1), (1, 1)])).is_err());
    assert!(policy.evaluate(&cosigned_by(&[(0, 1), (2, 1)])).is_ok());
    assert_eq!(parse(&policy.to_text()).unwrap(), policy);
}

#[test]
fn policies_of_the_sizes_in_the_specification_are_read() {
    let (mut text, mut names) = (String::new(), Vec::new());
    for number in 0..32 {
        let log = SigningKey::from_seed(&format!("log.example/{number}"), &[number + 1; 32]).unwrap();
        text +=
            &format!("log {}\nwitness w{number} {}\ngroup g{number} any w{number}\n", log.verifier_key(), vkey(number));
        names.push(format!("g{number}"));
    }
    let full = format!("{text}group all-of-them 31 {}\nquorum all-of-them\n", names.join(" "));
    assert_eq!(parse(&full).unwrap().cosigners().len(), 32);
    let many: String = (0..63).map(|number| format!("witness w{number} {}\n", vkey(number))).collect();
    let message = parse(&format!("{many}quorum w0\n")).unwrap_err().to_string();
    assert!(message.contains("line 63: more than 62"), "{message}");
}

/// A quorum as a tree, for the plain evaluation.
#[derive(Clone, Debug)]
enum Tree {
    Cosigner,
    Group(u8, Vec<Tree>),
}

fn tree() -> impl Strategy<Value = Tree> {
    Just(Tree::Cosigner).prop_recursive(3, 10, 4, |inner| {
        (any::<u8>(), prop::collection::vec(inner, 1..4)).prop_map(|(want, members)| {
            let want = want % members.len() as u8 + 1;
            Tree::Group(want, members)
        })
    })
}

/// Writes the lines of a tree; returns its name. Cosigners are numbered as they come.
fn write(tree: &Tree, text: &mut String, cosigners: &mut u8, groups: &mut u8) -> String {
    match tree {
        Tree::Cosigner => {
            let name = format!("w{cosigners}");
            text.push_str(&format!("witness {name} {}\n", vkey(*cosigners)));
            *cosigners += 1;
            name
        }
        Tree::Group(want, members) => {
            let members: Vec<String> = members.iter().map(|member| write(member, text, cosigners, groups)).collect();
            let name = format!("g{groups}");
            text.push_str(&format!("group {name} {want} {}\n", members.join(" ")));
            *groups += 1;
            name
        }
    }
}

/// Whether those who cosigned at `since` or later are a quorum.
fn stands(tree: &Tree, times: &BTreeMap<u8, i64>, since: i64, next: &mut u8) -> bool {
    match tree {
        Tree::Cosigner => {
            let cosigned = times.get(next).is_some_and(|time| *time >= since);
            *next += 1;
            cosigned
        }
        Tree::Group(want, members) => {
            let standing: Vec<bool> = members.iter().map(|member| stands(member, times, since, next)).collect();
            standing.into_iter().filter(|stands| *stands).count() >= usize::from(*want)
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn the_quorum_and_its_age(tree in tree(), times in prop::collection::btree_map(0..10u8, 1..20i64, 0..10)) {
        let (mut text, mut cosigners, mut groups) = (String::new(), 0, 0);
        let name = write(&tree, &mut text, &mut cosigners, &mut groups);
        let policy = parse(&format!("{text}quorum {name}\n")).unwrap();
        prop_assert_eq!(&parse(&policy.to_text()).unwrap(), &policy);
        let who: Vec<(u8, i64)> = times.iter().map(|(number, time)| (*number, *time)).collect();
        let fresh = policy.evaluate(&cosigned_by(&who)).ok().map(|quorate| quorate.fresh.unwrap().unix());
        let expected = (1..20).filter(|since| stands(&tree, &times, *since, &mut 0)).max();
        prop_assert_eq!(fresh, expected);
    }

    #[test]
    fn arbitrary_policies_never_panic(text in prop::collection::vec(any::<u8>(), 0..200), place in any::<prop::sample::Index>(), new in any::<u8>()) {
        let _ = TrustPolicy::parse(&text);
        let mut mutant = example().into_bytes();
        let place = place.index(mutant.len());
        mutant[place] = new;
        if let Ok(policy) = TrustPolicy::parse(&mutant) {
            prop_assert_eq!(parse(&policy.to_text()).unwrap(), policy);
        }
    }
}
