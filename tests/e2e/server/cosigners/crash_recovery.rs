//! The server is killed at random moments while cosigners are asked. No cosigner ever sees a fork.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use taglog_proto::merkle::Hash;
use taglog_tests::{
    HttpResponse, Server,
    fake_cosigner::Behaviour,
    process::{Process, TIMEOUT},
    random::{self, Random},
    replay,
    replay::assert_prefix,
};

use super::fixture::{CosignedLogFixture, SETTINGS};

const ROUNDS: u64 = 25;

/// Submits until the server is gone; keeps what it was told and every checkpoint that was published.
async fn submit(
    fixture: &CosignedLogFixture,
    server: &Server,
    next: &mut usize,
    acknowledged: &mut BTreeMap<u64, Vec<u8>>,
    roots: &mut BTreeMap<u64, Hash>,
) {
    loop {
        *next += 1;
        let note = fixture.observation(*next);
        let Some(outcomes) = server.try_submit_bundle(std::slice::from_ref(&note)).await else { return };
        acknowledged.insert(outcomes[0].index(), note);
        let Ok(answer) = HttpResponse::try_of(server.request("GET", "/checkpoint")).await else { return };
        if answer.status != 200 {
            continue;
        }
        let checkpoint = taglog_proto::checkpoint::SignedCheckpoint::parse(&answer.body).unwrap();
        assert!(fixture.judge(&checkpoint).cosignatures.len() >= 2);
        let (size, root) = (checkpoint.unverified().size, checkpoint.unverified().root);
        let largest = roots.last_key_value().map_or(0, |(size, _)| *size);
        assert!(size >= largest, "the published size went back from {largest} to {size}");
        assert_eq!(*roots.entry(size).or_insert(root), root, "two roots of size {size}: a fork");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_cosigner_sees_a_fork_after_sigkill_at_random_moments() {
    let mut random = Random::new(random::seed());
    let fixture = CosignedLogFixture::with(&format!("{SETTINGS}\n[quota]\nentries-per-second = 1000000"));
    let (mut next, mut acknowledged, mut roots) = (0, BTreeMap::new(), BTreeMap::new());
    let (mut round, deadline) = (0, Instant::now() + TIMEOUT);
    while round < ROUNDS || (acknowledged.len().min(roots.len()) <= 5 && Instant::now() < deadline) {
        if round % 5 == 4 {
            let mut process = Process::spawn(&mut fixture.data.run_command());
            std::thread::sleep(Duration::from_millis(random.below(100)));
            process.kill();
        }
        let slow = Behaviour::Slow(Duration::from_millis(random.below(60)));
        fixture.cosigners[(round % 3) as usize].behave(slow);
        let server = fixture.data.start();
        // A slow machine needs longer lives for anything to happen in them.
        let life = Duration::from_millis(5 + random.below(300) + 50 * round.saturating_sub(ROUNDS));
        round += 1;
        let kill = async {
            // The moment is the point of the test; there is no condition to wait for.
            tokio::time::sleep(life).await;
            std::process::Command::new("kill").args(["-KILL", &server.id().to_string()]).status().unwrap();
        };
        tokio::join!(submit(&fixture, &server, &mut next, &mut acknowledged, &mut roots), kill);
    }
    let server = fixture.data.start();
    // Once this is published, and only seals follow, what cosigners have seen before is covered.
    let cosigned: Vec<_> = fixture.cosigners.iter().map(|cosigner| cosigner.checkpoint().unwrap()).collect();
    fixture.publish(&server, next + 1).await;
    let log = replay(&server).await;
    for (index, note) in &acknowledged {
        assert!(log.entries()[*index as usize] == *note, "entry {index} was acknowledged and is lost");
    }
    cosigned.iter().for_each(|checkpoint| assert_prefix(checkpoint, &log));
    for cosigner in &fixture.cosigners {
        assert_eq!(cosigner.refuted(), 0, "{} was shown a fork", cosigner.name);
    }
    println!("{} entries acknowledged, {} checkpoints seen", acknowledged.len(), roots.len());
    assert!(acknowledged.len() > 5 && roots.len() > 5, "the test did not get going");
}
