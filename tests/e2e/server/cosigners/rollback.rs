//! Old backups and forks are refused at the start, and stop a running server.

use taglog_proto::tile::decode_bundle;
use taglog_tests::{
    DataDirectory,
    fake_cosigner::Behaviour,
    replay,
    server::{ServerExit, copy_directory},
};

use super::fixture::{CosignedLogFixture, cosigned_by, published_beyond};

/// Replaces the store of a data directory by a copy of another.
fn restore(data: &DataDirectory, copy: &std::path::Path) {
    let store = data.path().join("db");
    std::fs::remove_dir_all(&store).unwrap();
    copy_directory(copy, &store);
}

/// A copy of the store as it is now. The server must be stopped.
fn backup(data: &DataDirectory, name: &str) -> std::path::PathBuf {
    let copy = data.path().join(name);
    copy_directory(&data.path().join("db"), &copy);
    copy
}

fn assert_final(refusal: &ServerExit, words: &[&str]) {
    assert_eq!(refusal.code, Some(3), "{refusal:?}");
    for word in words.iter().chain(&["Delete nothing", "newer copy of the data directory", "new origin"]) {
        assert!(refusal.message.contains(word), "no {word:?} in {}", refusal.message);
    }
}

#[tokio::test]
async fn an_old_backup_is_refused_at_every_start() {
    let fixture = CosignedLogFixture::new();
    let server = fixture.data.start();
    fixture.publish(&server, 1).await;
    let data = server.stop();
    let old = backup(&data, "old");
    let server = data.start();
    let published = fixture.publish(&server, 2).await;
    cosigned_by(&fixture, &server, &["a", "b", "c"]).await;
    server.stop();
    let new = backup(&data, "new");
    restore(&data, &old);
    let size = published.unverified().size;
    let excuses = ["--without-cosigner=a", "--without-cosigner=b", "--without-cosigner=c"];
    // Repeatedly, and --without-cosigner only excludes a cosigner that does not answer.
    for arguments in [&[][..], &[], &excuses] {
        let refusal = data.try_start(arguments).err().unwrap();
        assert_final(&refusal, &[&format!("it has cosigned {size} entries"), "cosigner a"]);
    }
    // A single cosigner that remembers is enough.
    for cosigner in &fixture.cosigners[..2] {
        cosigner.behave(Behaviour::Answer(500, "text/plain", "ill".to_owned()));
    }
    assert_final(&data.try_start(&[]).err().unwrap(), &["cosigner c"]);
    assert_final(&data.try_start(&excuses).err().unwrap(), &["cosigner c"]);
    // Nothing was sealed meanwhile, and the newer copy goes on.
    fixture.cosigners.iter().for_each(|cosigner| cosigner.behave(Behaviour::Honest));
    restore(&data, &new);
    let server = data.start();
    assert!(server.size().await >= size);
    fixture.publish(&server, 3).await;
    replay(&server).await;
    assert!(fixture.cosigners.iter().all(|cosigner| cosigner.refuted() == 0), "no fork was ever shown");
}

/// An old backup starts while all cosigners are excluded; a cosigner that returns stops it, running or starting.
#[tokio::test]
async fn the_server_stops_when_a_cosigner_sees_a_fork() {
    let fixture = CosignedLogFixture::new();
    let server = fixture.data.start();
    fixture.publish(&server, 1).await;
    let data = server.stop();
    let old = backup(&data, "old");
    let server = data.start();
    fixture.publish(&server, 2).await;
    cosigned_by(&fixture, &server, &["a", "b", "c"]).await;
    server.stop();
    restore(&data, &old);
    fixture.cosigners.iter().for_each(|cosigner| cosigner.stop_listening());
    let excuses = ["--without-cosigner=a", "--without-cosigner=b", "--without-cosigner=c"];
    let server = data.try_start_unpublished(&excuses).ok().unwrap();
    fixture.cosigners[0].listen_again();
    assert_final(&server.ended(), &["cosigner a"]);
    // Now the fork becomes longer than what was cosigned.
    fixture.cosigners[0].stop_listening();
    let server = data.try_start_unpublished(&excuses).ok().unwrap();
    for i in 10..20 {
        fixture.add(&server, i).await;
    }
    server.stop();
    fixture.cosigners[1].listen_again();
    let refusal = data.try_start(&["--without-cosigner=a", "--without-cosigner=c"]).err().unwrap();
    assert_final(&refusal, &["cosigner b", "as inconsistent", "not consistent with what was cosigned"]);
}

#[tokio::test]
async fn a_running_server_stops_when_a_cosigner_knows_a_larger_size() {
    let fixture = CosignedLogFixture::new();
    let server = fixture.data.start();
    fixture.publish(&server, 1).await;
    fixture.cosigners[2].behave(Behaviour::Answer(409, "text/x.tlog.size", "1000000\n".to_owned()));
    fixture.add(&server, 2).await;
    assert_final(&server.ended(), &["cosigner c", "it has cosigned 1000000 entries"]);
}

#[tokio::test]
async fn an_unreachable_cosigner_must_be_excluded_by_name_at_start() {
    let fixture = CosignedLogFixture::new();
    let server = fixture.data.start();
    fixture.publish(&server, 1).await;
    let data = server.stop();
    fixture.cosigners[0].stop_listening();
    let refusal = data.try_start(&[]).err().unwrap();
    assert_eq!(refusal.code, Some(1), "{refusal:?}");
    assert!(refusal.message.contains("--without-cosigner a") && !refusal.message.contains("  b: "), "{refusal:?}");
    let refusal = data.try_start(&["--without-cosigner", "b"]).err().unwrap();
    assert_eq!(refusal.code, Some(1), "an excuse for another: {refusal:?}");
    let refusal = data.try_start(&["--without-cosigner", "nobody"]).err().unwrap();
    assert!(refusal.code == Some(1) && refusal.message.contains("no cosigner of that name"), "{refusal:?}");
    let server = data.try_start(&["--without-cosigner", "a"]).ok().unwrap();
    fixture.publish(&server, 2).await;
    server.stop();
    fixture.cosigners[0].listen_again();
    for (fault, words) in [
        (Behaviour::Answer(404, "text/plain", String::new()), "does not know this log"),
        (Behaviour::Answer(403, "text/plain", String::new()), "does not accept the signature"),
        (Behaviour::Hang, "no answer within"),
        (Behaviour::OtherKey, "no valid cosignature"),
    ] {
        fixture.cosigners[0].behave(fault);
        let refusal = data.try_start(&[]).err().unwrap();
        assert!(refusal.code == Some(1) && refusal.message.contains(words), "{refusal:?}");
    }
    fixture.cosigners[0].behave(Behaviour::Honest);
    data.start().stop();
}

#[tokio::test]
async fn without_cosigner_is_refused_for_a_log_without_cosigners() {
    let data = DataDirectory::init();
    let refusal = data.try_start(&["--without-cosigner", "a"]).err().unwrap();
    assert!(refusal.code == Some(1) && refusal.message.contains("no cosigner of that name"), "{refusal:?}");
}

/// A key whose store was lost looks like a new log.
#[tokio::test]
async fn a_lost_store_does_not_start_a_second_history() {
    let fixture = CosignedLogFixture::new();
    let server = fixture.data.start();
    fixture.publish(&server, 1).await;
    cosigned_by(&fixture, &server, &["a", "b", "c"]).await;
    let data = server.stop();
    let kept = backup(&data, "kept");
    std::fs::remove_dir_all(data.path().join("db")).unwrap();
    assert_final(&data.try_start(&[]).err().unwrap(), &["it has cosigned"]);
    let _ = std::fs::create_dir_all(data.path().join("db"));
    restore(&data, &kept);
    replay(&data.start()).await;
}

/// A cosigner that reads before it cosigns finds the entries at the log that asks it, even while that starts.
#[tokio::test]
async fn while_the_log_starts_an_auditing_cosigner_can_read_it() {
    let fixture = CosignedLogFixture::new();
    let server = fixture.data.start();
    fixture.publish(&server, 1).await;
    let data = server.stop();
    fixture.cosigners[0].behave(Behaviour::Busy);
    let address = taglog_tests::server::lasting_address();
    let (reading, ready) = (address.clone(), std::sync::atomic::AtomicBool::new(false));
    let read = async {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let url = format!("http://{reading}/api/v1/candidate/entries?from=0&to=3");
        let body = super::fixture::eventually("the entries", || async {
            let answer = client.get(&url).send().await.ok()?;
            answer.status().is_success().then_some(answer.bytes().await.ok()?)
        })
        .await;
        assert_eq!(decode_bundle(&body, 10).unwrap().len(), 3);
        assert!(!ready.load(std::sync::atomic::Ordering::SeqCst), "it does not wait for the busy one");
        let refused = client.post(format!("http://{reading}/api/v1/entries")).header("content-type", "text/plain");
        assert_eq!(refused.body("x").send().await.unwrap().status(), 503);
        fixture.cosigners[0].behave(Behaviour::Honest);
    };
    let start = tokio::task::spawn_blocking(move || data.start_at(&address));
    read.await;
    ready.store(true, std::sync::atomic::Ordering::SeqCst);
    let server = start.await.unwrap();
    let index = fixture.add(&server, 2).await;
    published_beyond(&server, index).await;
}

/// The time of the newest cosignature bounds the clock of a log that starts.
#[tokio::test]
async fn no_seal_is_written_by_a_clock_far_ahead_of_the_cosigners() {
    let fixture = CosignedLogFixture::new();
    let server = fixture.data.start();
    fixture.publish(&server, 1).await;
    let data = server.stop();
    fixture.cosigners.iter().for_each(|cosigner| cosigner.set_clock(-7200));
    // The roster is sealed at the start only if it changes.
    data.configure(&[], super::fixture::SETTINGS);
    let refusal = data.try_start(&[]).err().unwrap();
    assert!(refusal.code == Some(1) && refusal.message.contains("--accept-clock"), "{refusal:?}");
    fixture.cosigners[1].set_clock(0);
    data.start().stop();
    fixture.cosigners[1].set_clock(-7200);
    data.configure(&[&fixture.witness], super::fixture::SETTINGS);
    data.start_with(&["--accept-clock"]).stop();
}
