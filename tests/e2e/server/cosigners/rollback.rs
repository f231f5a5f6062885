//! Old backups and forks are refused at the start, and end a server that runs.

use taglog_proto::tile::decode_bundle;
use taglog_tests::{
    Data,
    cosigner::Behaviour,
    replay,
    server::{Refusal, copy_directory},
};

use super::common::{Scene, cosigned_by, published_beyond};

/// Replaces the store of a data directory by a copy of another.
fn restore(data: &Data, copy: &std::path::Path) {
    let store = data.path().join("db");
    std::fs::remove_dir_all(&store).unwrap();
    copy_directory(copy, &store);
}

/// A copy of the store as it is now. The server must be stopped.
fn backup(data: &Data, name: &str) -> std::path::PathBuf {
    let copy = data.path().join(name);
    copy_directory(&data.path().join("db"), &copy);
    copy
}

fn assert_final(refusal: &Refusal, words: &[&str]) {
    assert_eq!(refusal.code, Some(3), "{refusal:?}");
    for word in words.iter().chain(&["Delete nothing", "newer copy of the data directory", "new origin"]) {
        assert!(refusal.message.contains(word), "no {word:?} in {}", refusal.message);
    }
}

#[tokio::test]
async fn an_old_backup_is_refused_for_ever() {
    let scene = Scene::new();
    let server = scene.data.start();
    scene.publish(&server, 1).await;
    let data = server.stop();
    let old = backup(&data, "old");
    let server = data.start();
    let published = scene.publish(&server, 2).await;
    cosigned_by(&scene, &server, &["a", "b", "c"]).await;
    server.stop();
    let new = backup(&data, "new");
    restore(&data, &old);
    let size = published.unverified().size;
    let excuses = ["--without-cosigner=a", "--without-cosigner=b", "--without-cosigner=c"];
    // Again and again, and an excuse is for silence alone.
    for arguments in [&[][..], &[], &excuses] {
        let refusal = data.try_start(arguments).err().unwrap();
        assert_final(&refusal, &[&format!("it has cosigned {size} entries"), "cosigner a"]);
    }
    // A single one that remembers is enough.
    for cosigner in &scene.cosigners[..2] {
        cosigner.behave(Behaviour::Answer(500, "text/plain", "ill".to_owned()));
    }
    assert_final(&data.try_start(&[]).err().unwrap(), &["cosigner c"]);
    assert_final(&data.try_start(&excuses).err().unwrap(), &["cosigner c"]);
    // Nothing was sealed meanwhile, and the newer copy goes on.
    scene.cosigners.iter().for_each(|cosigner| cosigner.behave(Behaviour::Honest));
    restore(&data, &new);
    let server = data.start();
    assert!(server.size().await >= size);
    scene.publish(&server, 3).await;
    replay(&server).await;
    assert!(scene.cosigners.iter().all(|cosigner| cosigner.refuted() == 0), "no fork was ever shown");
}

/// An old backup goes on without anyone to ask; whoever comes back ends it, running or starting.
#[tokio::test]
async fn a_fork_is_stopped_as_soon_as_a_cosigner_sees_it() {
    let scene = Scene::new();
    let server = scene.data.start();
    scene.publish(&server, 1).await;
    let data = server.stop();
    let old = backup(&data, "old");
    let server = data.start();
    scene.publish(&server, 2).await;
    cosigned_by(&scene, &server, &["a", "b", "c"]).await;
    server.stop();
    restore(&data, &old);
    scene.cosigners.iter().for_each(|cosigner| cosigner.go_away());
    let excuses = ["--without-cosigner=a", "--without-cosigner=b", "--without-cosigner=c"];
    let server = data.try_start_unpublished(&excuses).ok().unwrap();
    scene.cosigners[0].come_back();
    assert_final(&server.ended(), &["cosigner a"]);
    // Now the fork becomes longer than what was cosigned.
    scene.cosigners[0].go_away();
    let server = data.try_start_unpublished(&excuses).ok().unwrap();
    for i in 10..20 {
        scene.add(&server, i).await;
    }
    server.stop();
    scene.cosigners[1].come_back();
    let refusal = data.try_start(&["--without-cosigner=a", "--without-cosigner=c"]).err().unwrap();
    assert_final(&refusal, &["cosigner b", "as inconsistent", "not consistent with what was cosigned"]);
}

#[tokio::test]
async fn a_larger_size_ends_a_running_server() {
    let scene = Scene::new();
    let server = scene.data.start();
    scene.publish(&server, 1).await;
    scene.cosigners[2].behave(Behaviour::Answer(409, "text/x.tlog.size", "1000000\n".to_owned()));
    scene.add(&server, 2).await;
    assert_final(&server.ended(), &["cosigner c", "it has cosigned 1000000 entries"]);
}

#[tokio::test]
async fn a_cosigner_that_gives_no_answer_needs_an_excuse() {
    let scene = Scene::new();
    let server = scene.data.start();
    scene.publish(&server, 1).await;
    let data = server.stop();
    scene.cosigners[0].go_away();
    let refusal = data.try_start(&[]).err().unwrap();
    assert_eq!(refusal.code, Some(1), "{refusal:?}");
    assert!(refusal.message.contains("--without-cosigner a") && !refusal.message.contains("  b: "), "{refusal:?}");
    let refusal = data.try_start(&["--without-cosigner", "b"]).err().unwrap();
    assert_eq!(refusal.code, Some(1), "an excuse for another: {refusal:?}");
    let refusal = data.try_start(&["--without-cosigner", "nobody"]).err().unwrap();
    assert!(refusal.code == Some(1) && refusal.message.contains("no cosigner of that name"), "{refusal:?}");
    let server = data.try_start(&["--without-cosigner", "a"]).ok().unwrap();
    scene.publish(&server, 2).await;
    server.stop();
    scene.cosigners[0].come_back();
    for (fault, words) in [
        (Behaviour::Answer(404, "text/plain", String::new()), "does not know this log"),
        (Behaviour::Answer(403, "text/plain", String::new()), "does not accept the signature"),
        (Behaviour::Hang, "no answer within"),
        (Behaviour::OtherKey, "no valid cosignature"),
    ] {
        scene.cosigners[0].behave(fault);
        let refusal = data.try_start(&[]).err().unwrap();
        assert!(refusal.code == Some(1) && refusal.message.contains(words), "{refusal:?}");
    }
    scene.cosigners[0].behave(Behaviour::Honest);
    data.start().stop();
}

#[tokio::test]
async fn a_log_without_cosigners_takes_no_excuses() {
    let data = Data::init();
    let refusal = data.try_start(&["--without-cosigner", "a"]).err().unwrap();
    assert!(refusal.code == Some(1) && refusal.message.contains("no cosigner of that name"), "{refusal:?}");
}

/// A key whose store was lost looks like a new log.
#[tokio::test]
async fn a_lost_store_does_not_begin_a_second_history() {
    let scene = Scene::new();
    let server = scene.data.start();
    scene.publish(&server, 1).await;
    cosigned_by(&scene, &server, &["a", "b", "c"]).await;
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
    let scene = Scene::new();
    let server = scene.data.start();
    scene.publish(&server, 1).await;
    let data = server.stop();
    scene.cosigners[0].behave(Behaviour::Busy);
    let address = taglog_tests::server::lasting_address();
    let (reading, ready) = (address.clone(), std::sync::atomic::AtomicBool::new(false));
    let read = async {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let url = format!("http://{reading}/api/v1/candidate/entries?from=0&to=3");
        let body = super::common::eventually("the entries", || async {
            let answer = client.get(&url).send().await.ok()?;
            answer.status().is_success().then_some(answer.bytes().await.ok()?)
        })
        .await;
        assert_eq!(decode_bundle(&body, 10).unwrap().len(), 3);
        assert!(!ready.load(std::sync::atomic::Ordering::SeqCst), "it does not wait for the busy one");
        let refused = client.post(format!("http://{reading}/api/v1/entries")).header("content-type", "text/plain");
        assert_eq!(refused.body("x").send().await.unwrap().status(), 503);
        scene.cosigners[0].behave(Behaviour::Honest);
    };
    let start = tokio::task::spawn_blocking(move || data.start_at(&address));
    read.await;
    ready.store(true, std::sync::atomic::Ordering::SeqCst);
    let server = start.await.unwrap();
    let index = scene.add(&server, 2).await;
    published_beyond(&server, index).await;
}

/// The time of the newest cosignature bounds the clock of a log that starts (DESIGN 3.2).
#[tokio::test]
async fn a_clock_far_ahead_of_the_cosigners_does_not_seal() {
    let scene = Scene::new();
    let server = scene.data.start();
    scene.publish(&server, 1).await;
    let data = server.stop();
    scene.cosigners.iter().for_each(|cosigner| cosigner.set_clock(-7200));
    // The roster is sealed at the start only if it changes.
    data.configure(&[], super::common::SETTINGS);
    let refusal = data.try_start(&[]).err().unwrap();
    assert!(refusal.code == Some(1) && refusal.message.contains("--accept-clock"), "{refusal:?}");
    scene.cosigners[1].set_clock(0);
    data.start().stop();
    scene.cosigners[1].set_clock(-7200);
    data.configure(&[&scene.witness], super::common::SETTINGS);
    data.start_with(&["--accept-clock"]).stop();
}
