//! As long as no test makes it lie, every tool accepts it as a log: otherwise the detected lies would prove nothing.

use taglog_proto::tile::{TileKind, decode_bundle};
use taglog_tests::{
    DishonestLog, HttpResponse, Witness,
    replay::{audit_entries, tile_paths},
    witness::{digest, now},
};

use super::{DishonestLogFixture, agent::WatchedLogFixture};
use taglog_tests::cli_fixture::{APP, other_digest, pinned, wait};

fn get(log: &DishonestLog, path: &str) -> HttpResponse {
    wait(HttpResponse::of(reqwest::Client::builder().no_proxy().build().unwrap().get(format!("{}{path}", log.url))))
}

#[test]
fn an_honest_log_is_accepted_by_every_command() {
    let (DishonestLogFixture { log, user }, two) = (DishonestLogFixture::new(), Witness::new(2));
    assert_eq!(user.verdict(&[&pinned(APP, "a")]), "ok");
    let digest = other_digest().to_string();
    user.run(&["observe", "--digest", &digest, APP]).exits(0).prints(&["added"]);
    assert_eq!(user.verdict(&[&pinned(APP, "a")]), "retagged");
    let history = user.run_json(&["history", APP]).exits(0).json();
    assert!(history.to_string().contains(&digest), "{history}");
    // It grows, and proves that it only grows.
    log.add(&[two.observe(APP, "b", now()), two.confirm("registry.example/team/app", now())]);
    let remembered = user.remembered();
    assert_eq!(user.verdict(&[&pinned(APP, "b")]), "retagged");
    assert_ne!(user.remembered(), remembered);
    assert!(user.evidence().is_empty());
    let fresh = taglog_tests::cli_fixture::User::new();
    fresh.run(&["init", &log.url, "--yes"]).exits(0).prints(&[&log.vkey().to_string()]);
}

#[test]
fn an_honest_log_refuses_as_the_server_does() {
    let fixture = DishonestLogFixture::new();
    fixture.user.use_key(&Witness::new(9));
    let digest = other_digest().to_string();
    fixture.user.run(&["observe", "--digest", &digest, APP]).exits(3).prints(&["unknown-witness"]);
}

#[test]
fn a_witness_agent_delivers_to_an_honest_log() {
    let fixture = WatchedLogFixture::new();
    let ended = fixture.agent.once();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    fixture.move_to("two");
    let ended = fixture.agent.once();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let status = fixture.agent.status();
    assert_eq!((status.pending(), status.alarms().len()), (0, 0), "{status:?}");
    assert_eq!(status.log(fixture.log.vkey())["delivered"], 2, "{status:?}");
    audit_entries(fixture.log.history().memory().entries());
}

/// What auditors and cosigners read: tiles, bundles, and what is not published yet.
#[test]
fn an_honest_log_passes_an_audit() {
    let (DishonestLogFixture { log, .. }, one) = (DishonestLogFixture::new(), Witness::new(1));
    for i in 0..150 {
        let image = format!("registry.example/team/many:{i}");
        log.add(&[one.observe(&image, "x", now())]);
    }
    let size = log.size();
    assert!(size > 256, "more than one tile");
    let mut entries = Vec::new();
    for path in tile_paths(TileKind::Entries, size) {
        let answer = get(&log, &format!("/tile/{path}"));
        entries.extend(decode_bundle(&answer.body, 256).unwrap().into_iter().map(<[u8]>::to_vec));
    }
    let audited = audit_entries(&entries);
    assert_eq!(audited.checkpoint(log.vkey().name()), *log.checkpoint().unverified());
    log.checkpoint().verify(log.vkey()).unwrap();
    assert_eq!(get(&log, "/checkpoint").text(), log.checkpoint().to_string());
    assert_eq!(get(&log, "/tile/0/000").body.len(), 256 * 32);
    assert_eq!(get(&log, "/tile/1/000.p/1").body, {
        use taglog_proto::merkle::NodeReader as _;
        audited.node(8, 0).unwrap().0
    });
    assert_eq!(get(&log, "/tile/2/000.p/1").problem(), (404, "not-found".to_owned()));
    let candidate = get(&log, &format!("/api/v1/candidate/entries?from=2&to={size}"));
    let candidate: Vec<Vec<u8>> =
        decode_bundle(&candidate.body, 1000).unwrap().into_iter().map(<[u8]>::to_vec).collect();
    assert_eq!(candidate, entries[2..]);
    let manifest = format!("/api/v1/manifests/{}", digest("x"));
    assert_eq!(get(&log, &manifest).status, 404);
}
