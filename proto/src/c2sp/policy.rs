//! Trust policies (c2sp.org/tlog-policy): logs, cosigners, and how many of them must have cosigned.
//!
//! ```text
//! log <vkey> [<url>]
//! witness <name> <vkey> [<url>]
//! group <name> <all, any or a number> <name>...
//! quorum <name, or none>
//! ```
//!
//! C2SP's "witness" lines are this project's cosigners. One thing is added: where a log has an
//! ML-DSA-44 vkey beside the Ed25519 vkey of the same name, both must have signed.

use std::{collections::HashSet, fmt};

use thiserror::Error;

use crate::c2sp::{
    checkpoint::{CheckpointError, SignedCheckpoint},
    cosignature::{Algorithm, CosignerKey},
    encoding::from_decimal,
    note::{MAX_SIGNATURES, NoteError, VerifierKey},
    time::Timestamp,
};

/// The most bytes of a policy that are read.
pub const MAX_POLICY: usize = 512 * 1024;
/// The most logs, and the most groups.
const MAX_LINES: usize = 64;
/// The most cosigners: all of them fit into one note beside the log's own two signatures.
const MAX_COSIGNERS: usize = MAX_SIGNATURES - 2;

/// Why a policy was refused.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum PolicyError {
    /// A line that is malformed or not allowed.
    #[error("line {line}: {why}")]
    Line {
        /// Counted from 1.
        line: usize,
        /// Why it was refused.
        why: String,
    },
    /// A rule about the policy as a whole.
    #[error("{0}")]
    Whole(String),
}

/// A log whose checkpoints are accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyLog {
    /// Its Ed25519 key; the name is its origin.
    pub key: VerifierKey,
    /// Its ML-DSA-44 key: when there is one, both must have signed.
    pub ml_dsa: Option<CosignerKey>,
    /// The prefix of its HTTP paths.
    pub url: Option<String>,
}

/// A cosigner that the policy names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyCosigner {
    /// Its name in the policy; octets that are not UTF-8 are written as `\xff`.
    pub name: String,
    /// Its Ed25519 or ML-DSA-44 key.
    pub key: CosignerKey,
    /// The submission prefix of c2sp.org/tlog-witness.
    pub url: Option<String>,
}

/// A node of the quorum: a cosigner, or `want` of the members, which stand before it in [`TrustPolicy::voters`].
#[derive(Clone, Debug, PartialEq, Eq)]
enum Voter {
    Cosigner(usize),
    Group { name: String, want: usize, members: Vec<usize> },
}

/// A policy: logs, cosigners, and the quorum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustPolicy {
    logs: Vec<PolicyLog>,
    cosigners: Vec<PolicyCosigner>,
    voters: Vec<Voter>,
    quorum: Option<usize>,
}

/// Who cosigned a checkpoint that has a quorum.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Quorate {
    /// Every cosigner of the policy that cosigned, in the policy's order, and when: by its name in the policy.
    pub cosignatures: Vec<(String, Timestamp)>,
    /// The greatest t such that the cosignatures made at t or later are still a quorum; `None` with `quorum none`.
    pub fresh: Option<Timestamp>,
    /// Cosigners whose lines do not verify. The quorum holds without them; somebody tampered with the lines.
    pub faulty: Vec<String>,
}

/// Why a checkpoint is not accepted.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum QuorumError {
    /// No log of the policy has this origin.
    #[error("the policy has no log {0:?}")]
    UnknownLog(String),
    /// The log's own signatures are not there or do not verify.
    #[error(transparent)]
    Log(#[from] CheckpointError),
    /// Too few cosigners.
    #[error("too few cosigners: want {want}; {}{}", have_text(have), faulty_text(faulty))]
    NotMet {
        /// Who cosigned.
        have: Vec<(String, Timestamp)>,
        /// The quorum as text: `2 of (a, b, c)`.
        want: String,
        /// Whose lines do not verify.
        faulty: Vec<String>,
    },
}

fn have_text(have: &[(String, Timestamp)]) -> String {
    let names: Vec<&str> = have.iter().map(|(name, _)| name.as_str()).collect();
    if names.is_empty() { "none of them cosigned".to_owned() } else { format!("cosigned by {}", names.join(", ")) }
}

fn faulty_text(faulty: &[String]) -> String {
    if faulty.is_empty() { String::new() } else { format!("; the lines of {} do not verify", faulty.join(", ")) }
}

impl TrustPolicy {
    /// Reads a policy.
    pub fn parse(text: &[u8]) -> Result<TrustPolicy, PolicyError> {
        Parser::read(text)
    }

    /// A policy of one log that asks for no cosigners.
    pub fn of_log(log: PolicyLog) -> TrustPolicy {
        TrustPolicy { logs: vec![log], cosigners: Vec::new(), voters: Vec::new(), quorum: None }
    }

    /// The same policy for this log alone: no other log's checkpoint is accepted in its place.
    pub fn for_log(&self, log: &PolicyLog) -> TrustPolicy {
        TrustPolicy { logs: vec![log.clone()], ..self.clone() }
    }

    /// Its logs; none when they are known from elsewhere.
    pub fn logs(&self) -> &[PolicyLog] {
        &self.logs
    }

    /// Its cosigners, whether the quorum needs them or not.
    pub fn cosigners(&self) -> &[PolicyCosigner] {
        &self.cosigners
    }

    /// Whether any cosignature is wanted: false with `quorum none`.
    pub fn needs_cosigners(&self) -> bool {
        self.quorum.is_some()
    }

    /// The quorum as text: `2 of (a, b, c)`; `None` with `quorum none`.
    pub fn quorum_text(&self) -> Option<String> {
        self.quorum.map(|quorum| self.text_of(quorum))
    }

    /// Evaluates a checkpoint: the signatures of a log of the policy, if it has logs, and the quorum.
    ///
    /// A line that bears a cosigner's name and key id and does not verify counts for nothing and is reported:
    /// anyone who passes a checkpoint on can add such a line, which must not make the checkpoint unusable.
    pub fn evaluate(&self, signed: &SignedCheckpoint) -> Result<Quorate, QuorumError> {
        self.evaluate_log(signed)?;
        let (mut times, mut quorate) = (Vec::new(), Quorate::default());
        for PolicyCosigner { name, key, .. } in &self.cosigners {
            let time = key.cosigned(signed).unwrap_or_else(|_| {
                quorate.faulty.push(name.clone());
                None
            });
            quorate.cosignatures.extend(time.map(|time| (name.clone(), time)));
            times.push(time);
        }
        let Some(quorum) = self.quorum else { return Ok(quorate) };
        match self.fresh(quorum, &times) {
            Some(fresh) => Ok(Quorate { fresh: Some(fresh), ..quorate }),
            None => Err(QuorumError::NotMet {
                have: quorate.cosignatures,
                want: self.text_of(quorum),
                faulty: quorate.faulty,
            }),
        }
    }

    /// Any one of the logs of this origin must have signed, with all the keys that the policy has of it.
    fn evaluate_log(&self, signed: &SignedCheckpoint) -> Result<(), QuorumError> {
        if self.logs.is_empty() {
            return Ok(());
        }
        let origin = &signed.unverified().origin;
        let mut error = QuorumError::UnknownLog(origin.chars().take(80).collect());
        for log in self.logs.iter().filter(|log| log.key.name() == origin) {
            match log.verify(signed) {
                Ok(()) => return Ok(()),
                Err(refused) => error = refused.into(),
            }
        }
        Err(error)
    }

    /// The time of each voter, in order; a group's is the `want`-th greatest of its members'. Every name is a member
    /// of at most one group, so that is the greatest time at which the group still stands.
    fn fresh(&self, quorum: usize, times: &[Option<Timestamp>]) -> Option<Timestamp> {
        let mut fresh: Vec<Option<Timestamp>> = Vec::with_capacity(self.voters.len());
        for voter in &self.voters {
            fresh.push(match voter {
                Voter::Cosigner(cosigner) => times[*cosigner],
                Voter::Group { want, members, .. } => {
                    let mut members: Vec<_> = members.iter().map(|member| fresh[*member]).collect();
                    members.sort_unstable_by(|a, b| b.cmp(a));
                    members[want - 1]
                }
            });
        }
        fresh[quorum]
    }

    /// A node as text: `2 of (x1, x2, any of (y1, y2))`.
    fn text_of(&self, quorum: usize) -> String {
        let mut words: Vec<String> = Vec::with_capacity(self.voters.len());
        for voter in &self.voters {
            words.push(match voter {
                Voter::Cosigner(cosigner) => self.cosigners[*cosigner].name.clone(),
                Voter::Group { want, members, .. } => {
                    let names: Vec<&str> = members.iter().map(|member| words[*member].as_str()).collect();
                    format!("{want} of ({})", names.join(", "))
                }
            });
        }
        words.swap_remove(quorum)
    }

    fn name(&self, voter: usize) -> &str {
        match &self.voters[voter] {
            Voter::Cosigner(cosigner) => &self.cosigners[*cosigner].name,
            Voter::Group { name, .. } => name,
        }
    }

    /// The policy as text, without the comments that it was read with.
    pub fn to_text(&self) -> String {
        self.to_string()
    }
}

impl fmt::Display for TrustPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = |url: &Option<String>| url.as_ref().map(|url| format!(" {url}")).unwrap_or_default();
        for log in &self.logs {
            writeln!(f, "log {}{}", log.key, url(&log.url))?;
        }
        // A key stands once, though logs of one name may share it.
        let ml_dsa: HashSet<String> =
            self.logs.iter().filter_map(|log| Some(log.ml_dsa.as_ref()?.to_string())).collect();
        let mut ml_dsa: Vec<String> = ml_dsa.into_iter().collect();
        ml_dsa.sort_unstable();
        ml_dsa.iter().try_for_each(|key| writeln!(f, "log {key}"))?;
        for voter in &self.voters {
            match voter {
                Voter::Cosigner(cosigner) => {
                    let cosigner = &self.cosigners[*cosigner];
                    writeln!(f, "witness {} {}{}", cosigner.name, cosigner.key, url(&cosigner.url))?;
                }
                Voter::Group { name, want, members } => {
                    let members: Vec<&str> = members.iter().map(|member| self.name(*member)).collect();
                    writeln!(f, "group {name} {want} {}", members.join(" "))?;
                }
            }
        }
        writeln!(f, "quorum {}", self.quorum.map_or("none", |quorum| self.name(quorum)))
    }
}

impl PolicyLog {
    /// Checks the log's own signatures on a checkpoint: Ed25519, and ML-DSA-44 where the policy has such a key.
    pub fn verify(&self, signed: &SignedCheckpoint) -> Result<(), CheckpointError> {
        signed.verify(&self.key)?;
        match &self.ml_dsa {
            Some(key) if !key.signed(signed)? => {
                let id = format!("{}+{} (ML-DSA-44)", key.name(), key.key_id());
                Err(NoteError::NotSigned(id).into())
            }
            _ => Ok(()),
        }
    }
}

/// The lines read so far.
#[derive(Default)]
struct Parser {
    logs: Vec<PolicyLog>,
    /// ML-DSA-44 keys of logs, which may stand before the Ed25519 key.
    ml_dsa: Vec<(usize, CosignerKey, Option<String>)>,
    cosigners: Vec<PolicyCosigner>,
    voters: Vec<Voter>,
    names: Vec<String>,
    /// Which voters are members of a group already.
    taken: HashSet<usize>,
    keys: HashSet<Vec<u8>>,
    quorum: Option<Option<usize>>,
}

impl Parser {
    fn read(text: &[u8]) -> Result<TrustPolicy, PolicyError> {
        if text.len() > MAX_POLICY {
            return Err(PolicyError::Whole(format!("a policy has at most {MAX_POLICY} bytes")));
        }
        let whole = |why: &str| PolicyError::Whole(why.to_owned());
        // A missing last newline is accepted.
        let lines = text.strip_suffix(b"\n").unwrap_or(text);
        let mut parser = Parser::default();
        for (line, octets) in (1..).zip(lines.split(|octet| *octet == b'\n')) {
            parser.line(line, octets).map_err(|why| PolicyError::Line { line, why })?;
        }
        let quorum =
            parser.quorum.ok_or_else(|| whole("there is no 'quorum' line; 'quorum none' asks for no cosigners"))?;
        parser.give_ml_dsa_keys()?;
        let Parser { logs, cosigners, voters, .. } = parser;
        Ok(TrustPolicy { logs, cosigners, voters, quorum })
    }

    fn line(&mut self, number: usize, octets: &[u8]) -> Result<(), String> {
        if octets.iter().any(|octet| matches!(octet, 0..=8 | 10..=31 | 127)) {
            return Err("a control character other than tab: lines end in a newline alone".to_owned());
        }
        let words = octets.split(|octet| matches!(octet, b' ' | b'\t')).filter(|word| !word.is_empty());
        let words: Vec<String> = words.map(word).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        match &words[..] {
            [] => Ok(()),
            [first, ..] if first.starts_with('#') => Ok(()),
            ["log", vkey] => self.log(number, vkey, None),
            ["log", vkey, url] => self.log(number, vkey, Some((*url).to_owned())),
            ["witness", name, vkey] => self.cosigner(name, vkey, None),
            ["witness", name, vkey, url] => self.cosigner(name, vkey, Some((*url).to_owned())),
            ["group", name, want, members @ ..] => self.group(name, want, members),
            ["quorum", name] => self.set_quorum(name),
            _ => {
                Err("want 'log <vkey> [<url>]', 'witness <name> <vkey> [<url>]', 'group <name> <all, any or a number> \
                      <name>...' or 'quorum <name>'"
                    .to_owned())
            }
        }
    }

    fn log(&mut self, line: usize, vkey: &str, url: Option<String>) -> Result<(), String> {
        if self.logs.len() + self.ml_dsa.len() == MAX_LINES {
            return Err(format!("more than {MAX_LINES} logs"));
        }
        let ml_dsa = vkey.parse::<CosignerKey>().ok().filter(|key| key.algorithm() == Algorithm::MlDsa44);
        match ml_dsa {
            Some(key) => {
                self.new_key(b'l', &key.public_bytes(), "log")?;
                self.ml_dsa.push((line, key, url));
            }
            None => {
                let key: VerifierKey = vkey.parse().map_err(|error: NoteError| error.to_string())?;
                self.new_key(b'l', key.as_bytes(), "log")?;
                self.logs.push(PolicyLog { key, ml_dsa: None, url });
            }
        }
        Ok(())
    }

    fn cosigner(&mut self, name: &str, vkey: &str, url: Option<String>) -> Result<(), String> {
        if self.cosigners.len() == MAX_COSIGNERS {
            return Err(format!("more than {MAX_COSIGNERS} witnesses"));
        }
        let key: CosignerKey = vkey.parse().map_err(|error: NoteError| error.to_string())?;
        self.new_key(b'c', &key.public_bytes(), "witness")?;
        self.define(name, Voter::Cosigner(self.cosigners.len()))?;
        self.cosigners.push(PolicyCosigner { name: name.to_owned(), key, url });
        Ok(())
    }

    fn group(&mut self, name: &str, want: &str, members: &[&str]) -> Result<(), String> {
        if self.voters.len() - self.cosigners.len() == MAX_LINES {
            return Err(format!("more than {MAX_LINES} groups"));
        }
        let count = members.len();
        let want = match want {
            "all" => Some(count),
            "any" => Some(1),
            number => from_decimal(number).and_then(|number| usize::try_from(number).ok()),
        };
        let want = want.filter(|want| (1..=count).contains(want)).ok_or(format!(
            "want 'all', 'any' or a number from 1 to the number of members ({count}), and at least one member"
        ))?;
        let members: Vec<usize> = members.iter().map(|member| self.member(member)).collect::<Result<_, _>>()?;
        self.define(name, Voter::Group { name: name.to_owned(), want, members })
    }

    fn member(&mut self, name: &str) -> Result<usize, String> {
        let member = self.find(name)?;
        if self.taken.insert(member) { Ok(member) } else { Err(format!("{name:?} is a member of a group already")) }
    }

    fn set_quorum(&mut self, name: &str) -> Result<(), String> {
        if self.quorum.is_some() {
            return Err("a second quorum".to_owned());
        }
        self.quorum = Some(if name == "none" { None } else { Some(self.find(name)?) });
        Ok(())
    }

    fn find(&self, name: &str) -> Result<usize, String> {
        let found = self.names.iter().position(|known| known == name);
        found.ok_or_else(|| format!("no line before this one defines {name:?}"))
    }

    fn define(&mut self, name: &str, voter: Voter) -> Result<(), String> {
        if name == "none" {
            return Err("'none' cannot be defined".to_owned());
        }
        if self.find(name).is_ok() {
            return Err(format!("{name:?} is defined already"));
        }
        self.names.push(name.to_owned());
        self.voters.push(voter);
        Ok(())
    }

    /// Keys are the same when their bytes are, whatever their names.
    fn new_key(&mut self, role: u8, key: &[u8], what: &str) -> Result<(), String> {
        let is_new = self.keys.insert([&[role], key].concat());
        if is_new { Ok(()) } else { Err(format!("a second {what} with this key")) }
    }

    fn give_ml_dsa_keys(&mut self) -> Result<(), PolicyError> {
        for (line, key, url) in std::mem::take(&mut self.ml_dsa) {
            let error = |why: &str| PolicyError::Line { line, why: why.to_owned() };
            let mut found = false;
            for log in self.logs.iter_mut().filter(|log| log.key.name() == key.name()) {
                if log.ml_dsa.is_some() {
                    return Err(error("a second ML-DSA-44 key for this log"));
                }
                log.ml_dsa = Some(key.clone());
                log.url = log.url.take().or_else(|| url.clone());
                found = true;
            }
            if !found {
                return Err(error("the policy needs the log's Ed25519 key too, on a 'log' line of its own"));
            }
        }
        Ok(())
    }
}

/// A word as text; octets that are not UTF-8 are opaque, and are written `\xff`.
fn word(octets: &[u8]) -> String {
    let mut text = String::new();
    for chunk in octets.utf8_chunks() {
        text.push_str(chunk.valid());
        chunk.invalid().iter().for_each(|octet| text.push_str(&format!("\\x{octet:02x}")));
    }
    text
}
