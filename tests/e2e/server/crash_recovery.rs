//! The server is killed at random moments under load, again and again. What was acknowledged is in the log where it was
//! acknowledged, the log is one history, and it passes an audit.

use std::{collections::BTreeMap, time::Duration};

use taglog_proto::{
    checkpoint::SignedCheckpoint,
    merkle::{Hash, verify_consistency},
};
use taglog_tests::{
    DataDirectory, Server, SubmissionResult, Witness,
    process::Process,
    random::{self, Random},
    replay,
    replay::assert_prefix,
    witness::now,
};

const ROUNDS: u64 = 60;
const CLIENTS: u8 = 4;
/// Tags of each client: few, so that tags change and their order matters.
const TAGS: u64 = 50;

/// One witness that submits, and remembers what it was told.
struct SubmittingClient {
    witness: Witness,
    random: Random,
    next: u64,
    start: i64,
    /// Sent and not answered: to be sent again before anything else.
    pending: Vec<Vec<u8>>,
    acknowledged: Vec<(Vec<u8>, u64)>,
    /// Answered as duplicates: they were in the log although the crash came before the answer.
    survived: u64,
    checkpoints: BTreeMap<u64, SignedCheckpoint>,
}

impl SubmittingClient {
    fn new(number: u8, seed: u64) -> SubmittingClient {
        let random = Random::new(seed ^ (u64::from(number) << 32));
        SubmittingClient {
            witness: Witness::new(number),
            random,
            next: 0,
            start: now() - 1_000_000,
            pending: Vec::new(),
            acknowledged: Vec::new(),
            survived: 0,
            checkpoints: BTreeMap::new(),
        }
    }

    /// Submits until the server is gone.
    async fn run(&mut self, server: &Server) {
        loop {
            if self.pending.is_empty() {
                let count = if self.random.below(2) == 0 { 1 } else { 1 + self.random.below(60) };
                self.pending = (0..count).map(|_| self.observation()).collect();
            }
            let Some(outcomes) = self.submit(server).await else { return };
            self.remember(&outcomes);
            let Ok(answer) = taglog_tests::HttpResponse::try_of(server.request("GET", "/checkpoint")).await else {
                return;
            };
            let checkpoint = SignedCheckpoint::parse(&answer.body).unwrap();
            checkpoint.verify(&server.vkey).unwrap();
            self.see(checkpoint);
        }
    }

    fn observation(&mut self) -> Vec<u8> {
        self.next += 1;
        let name = format!("{}.example/a:{}", self.witness.vkey().name().replace('/', "."), self.next % TAGS);
        // Later than all before, so that the order rule holds when they arrive in order.
        self.witness.observe(&name, &self.next.to_string(), self.start + self.next as i64)
    }

    /// A single note goes as such, more as a bundle.
    async fn submit(&self, server: &Server) -> Option<Vec<SubmissionResult>> {
        match &self.pending[..] {
            [note] => {
                let request = server.request("POST", "/api/v1/entries").header("content-type", "text/plain");
                let answer = taglog_tests::HttpResponse::try_of(request.body(note.clone())).await.ok()?;
                assert_eq!(answer.status, 200, "{answer:?}");
                Some(vec![SubmissionResult::of(&answer.json()[0])])
            }
            notes => server.try_submit_bundle(notes).await,
        }
    }

    fn remember(&mut self, outcomes: &[SubmissionResult]) {
        self.survived +=
            outcomes.iter().filter(|outcome| matches!(outcome, SubmissionResult::Duplicate(_))).count() as u64;
        let indices = outcomes.iter().map(SubmissionResult::index);
        self.acknowledged.extend(std::mem::take(&mut self.pending).into_iter().zip(indices));
    }

    fn see(&mut self, checkpoint: SignedCheckpoint) {
        let size = checkpoint.unverified().size;
        let largest = self.checkpoints.last_key_value().map_or(0, |(size, _)| *size);
        assert!(size >= largest, "the published size went back from {largest} to {size}");
        let covered = self.acknowledged.last().is_none_or(|(_, index)| *index < size);
        assert!(covered, "the checkpoint of size {size} does not cover what was acknowledged before");
        let earlier = self.checkpoints.insert(size, checkpoint.clone());
        let same = earlier.is_none_or(|earlier| earlier.unverified().root == checkpoint.unverified().root);
        assert!(same, "two roots of size {size}: a fork");
    }
}

/// Runs all clients until the server is killed after `life`.
async fn round(data: &DataDirectory, clients: &mut [SubmittingClient], life: Duration) {
    let server = data.start();
    let [a, b, c, d] = clients else { panic!("want {CLIENTS} clients") };
    let kill = async {
        // The moment is the point of the test; there is no condition to wait for.
        tokio::time::sleep(life).await;
        std::process::Command::new("kill").args(["-KILL", &server.id().to_string()]).status().unwrap();
    };
    tokio::join!(a.run(&server), b.run(&server), c.run(&server), d.run(&server), kill);
    drop(server);
}

/// Kills a server that may not even be listening yet.
fn kill_while_starting(data: &DataDirectory, life: Duration) {
    let mut process = Process::spawn(&mut data.run_command());
    std::thread::sleep(life);
    process.kill();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_entries_survive_sigkill_at_random_moments() {
    let seed = random::seed();
    let mut random = Random::new(seed);
    let mut clients: Vec<SubmittingClient> = (1..=CLIENTS).map(|number| SubmittingClient::new(number, seed)).collect();
    let witnesses: Vec<Witness> = (1..=CLIENTS).map(Witness::new).collect();
    let quota = "[quota]\nentries-per-second = 1000000\nsightings-per-tag-per-hour = 1000000";
    let data = DataDirectory::with(&witnesses.iter().collect::<Vec<_>>(), quota);
    for i in 0..ROUNDS {
        if i % 10 == 9 {
            kill_while_starting(&data, Duration::from_millis(random.below(60)));
        }
        round(&data, &mut clients, Duration::from_millis(5 + random.below(396))).await;
    }
    let server = data.start();
    let log = replay(&server).await;
    for client in &clients {
        check_acknowledged(&server, client, log.entries()).await;
        check_checkpoints(&server, client, &log).await;
    }
    check_no_statement_twice(log.entries());
    let total: usize = clients.iter().map(|client| client.acknowledged.len()).sum();
    let survived: u64 = clients.iter().map(|client| client.survived).sum();
    println!("{total} entries acknowledged, {survived} of them after a crash had cut off the first answer");
    assert!(total > 1000, "only {total} entries: the clients did not get going");
}

async fn check_acknowledged(server: &Server, client: &SubmittingClient, entries: &[Vec<u8>]) {
    for (note, index) in &client.acknowledged {
        assert!(entries[*index as usize] == *note, "entry {index} was acknowledged and is not there");
    }
    for chunk in client.acknowledged.chunks(2000) {
        let notes: Vec<Vec<u8>> = chunk.iter().map(|(note, _)| note.clone()).collect();
        let want: Vec<SubmissionResult> = chunk.iter().map(|(_, index)| SubmissionResult::Duplicate(*index)).collect();
        assert!(server.submit_bundle(&notes).await == want, "not answered as before");
    }
}

/// By the server's own proofs and by those from the replayed log.
async fn check_checkpoints(server: &Server, client: &SubmittingClient, log: &taglog_memory_log::MemoryLog) {
    let new = log.checkpoint(server.vkey.name());
    for old in client.checkpoints.values() {
        assert_prefix(old, log);
        let old = old.unverified();
        let path = format!("/api/v1/proof/consistency?from={}&to={}", old.size, new.size);
        let json = server.get(&path).await.json();
        let proof = json["proof"].as_array().unwrap().iter().map(|hash| Hash::from_base64(hash.as_str().unwrap()));
        let proof: Vec<Hash> = proof.map(Option::unwrap).collect();
        verify_consistency(old.size, new.size, &proof, &old.root, &new.root).unwrap();
    }
}

/// Deduplication holds across crashes.
fn check_no_statement_twice(entries: &[Vec<u8>]) {
    let mut statements: Vec<&[u8]> = entries.iter().map(Vec::as_slice).collect();
    statements.retain(|entry| entry.starts_with(b"taglog/observation@v1\n"));
    let all = statements.len();
    statements.sort_unstable();
    statements.dedup();
    assert_eq!(statements.len(), all, "a statement stands in the log twice");
}
