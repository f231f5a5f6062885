//! The monitor is killed at random moments, again and again, while the log grows and the webhook fails now and then.
//! Every alert arrives, and the alert store has it once.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use taglog_tests::{Server, Witness, witness::now};

use crate::fixture::{MonitorFixture, WebhookReceiver, wait};

const ROUNDS: u64 = 12;

#[test]
fn no_alert_is_lost_or_duplicated_by_sigkill() {
    let witness = Witness::new(1);
    let server = Server::start(&[&witness], "[quota]\nsightings-per-tag-per-hour = 100000\n");
    // Each failure ends a round of deliveries: while it lasts, many alerts wait.
    let calm = Arc::new(AtomicBool::new(false));
    let is_calm = Arc::clone(&calm);
    let receiver =
        WebhookReceiver::start(move |asked| if asked % 3 == 1 && !is_calm.load(Relaxed) { 500 } else { 200 });
    let sinks = format!(
        "[[sink]]\nkind = \"webhook\"\nurl = {:?}\n[[sink]]\nkind = \"feed\"\npath = \"alerts.xml\"\nentries = 1000\n",
        receiver.url
    );
    let fixture = MonitorFixture::new(&server.vkey, &server.url, &sinks);
    let start = now() - 10_000;
    wait(server.add(&[witness.observe("registry.example/app:0", "0", start)]));
    assert_eq!(fixture.once(&[]).code, Some(0));

    let seed = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().subsec_nanos();
    let mut random = u64::from(seed) | 1;
    let (mut indices, mut content) = (BTreeSet::new(), 1_i64);
    for _ in 0..ROUNDS {
        let mut monitor = fixture.start(&[]);
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let lifetime = Duration::from_millis(100 + (random >> 33) % 1500);
        let end = std::time::Instant::now() + lifetime;
        while std::time::Instant::now() < end {
            let notes: Vec<Vec<u8>> = (content..content + 3)
                .map(|n| witness.observe("registry.example/app:0", &n.to_string(), start + n))
                .collect();
            content += 3;
            indices.extend(wait(server.add(&notes)));
        }
        monitor.kill();
    }
    calm.store(true, Relaxed);
    let ran = fixture.once(&[]);
    assert!(matches!(ran.code, Some(0 | 1)), "seed {seed}: {ran:?}");

    let mut arrived: BTreeMap<u64, BTreeSet<String>> = BTreeMap::new();
    for alert in receiver.taken() {
        assert_eq!(alert["kind"], "retag", "{alert}");
        let id = alert["id"].as_str().unwrap().to_owned();
        arrived.entry(alert["index"].as_u64().unwrap()).or_default().insert(id);
    }
    assert_eq!(arrived.keys().copied().collect::<BTreeSet<_>>(), indices, "seed {seed}");
    assert!(arrived.values().all(|ids| ids.len() == 1), "seed {seed}: one alert has one id");
    let feed = std::fs::read_to_string(fixture.path("alerts.xml")).unwrap();
    let ids: Vec<&str> = feed.split("urn:taglog:alert:").skip(1).map(|rest| &rest[..32]).collect();
    let distinct: BTreeSet<&str> = ids.iter().copied().collect();
    assert_eq!((ids.len(), distinct.len()), (indices.len().min(1000), ids.len()), "seed {seed}");
}
