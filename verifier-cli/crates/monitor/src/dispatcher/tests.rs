use std::{
    sync::{Arc, Mutex},
    time::Instant,
};

use axum::{Json, Router, extract::State, http::StatusCode, routing::post};
use reqwest::Url;
use serde_json::Value;
use taglog_proto::note::{SigningKey, VerifierKey};
use tokio::net::TcpListener;

use super::*;
use crate::{
    alert::{Alert, AlertKind},
    alert_store::AlertStore,
    config::{SinkConfig, SinkTarget},
    sinks::webhook::Webhook,
};

const TIMEOUT: Duration = Duration::from_secs(20);

fn key() -> VerifierKey {
    SigningKey::from_seed("log.example/x", &[1; 32]).unwrap().verifier_key().clone()
}

/// Gives the status for the how-manieth request, and its body.
type Answer = Arc<dyn Fn(usize, &str) -> u16 + Send + Sync>;

/// What a receiver got, and how it decides what to answer.
#[derive(Clone)]
struct Receiver {
    got: Arc<Mutex<Vec<(String, u16)>>>,
    answer: Answer,
}

impl Receiver {
    /// `answer` is given how many requests there were before, and the message.
    async fn start(answer: impl Fn(usize, &str) -> u16 + Send + Sync + 'static) -> (Receiver, Url) {
        let receiver = Receiver { got: Arc::default(), answer: Arc::new(answer) };
        let take = |State(receiver): State<Receiver>, Json(alert): Json<Value>| async move {
            let message = alert["message"].as_str().unwrap().to_owned();
            let mut got = receiver.got.lock().unwrap();
            let status = (receiver.answer)(got.len(), &message);
            got.push((message, status));
            StatusCode::from_u16(status).unwrap()
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = Url::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
        let router = Router::new().route("/", post(take)).with_state(receiver.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        (receiver, url)
    }

    /// The alerts that were taken, in order.
    fn taken(&self) -> Vec<String> {
        let got = self.got.lock().unwrap();
        got.iter().filter(|(_, status)| *status < 300).map(|(message, _)| message.clone()).collect()
    }
}

struct Scene {
    store: AlertStore,
    outbox: Outbox,
    _home: tempfile::TempDir,
}

impl Scene {
    fn new(sinks: &[&str]) -> Scene {
        let home = tempfile::tempdir().unwrap();
        let sinks: Vec<SinkConfig> = sinks
            .iter()
            .map(|name| SinkConfig { name: (*name).to_owned(), kinds: None, target: SinkTarget::Stdout })
            .collect();
        let (store, outbox) = AlertStore::open(home.path(), &key(), &sinks).unwrap();
        Scene { store, outbox, _home: home }
    }

    fn raise(&mut self, messages: &[&str]) {
        for message in messages {
            let time = taglog_proto::time::Timestamp::UNIX_EPOCH;
            let alert = Alert::event(&key(), AlertKind::Retag, &[message], time, (*message).to_owned());
            self.store.raise(&alert).unwrap();
        }
        self.store.commit().unwrap();
    }

    fn webhook(&self, name: &str, url: Url) -> Dispatcher {
        Dispatcher::new(name, Sink::Webhook(Webhook::new(url, None).unwrap()), self.outbox.clone())
    }
}

async fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + TIMEOUT;
    while !condition() {
        assert!(Instant::now() < deadline, "waited for {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_failed_delivery_is_retried_until_it_succeeds_once() {
    let mut scene = Scene::new(&["hook"]);
    scene.raise(&["a", "b", "c"]);
    let (receiver, url) = Receiver::start(|before, _| if before < 2 { 503 } else { 200 }).await;
    scene.webhook("hook", url).drain().await.unwrap();
    let mut taken = receiver.taken();
    assert_eq!(receiver.got.lock().unwrap().len(), 5, "two failed, three were taken");
    taken.sort();
    assert_eq!(taken, ["a", "b", "c"]);
    assert_eq!(scene.outbox.pending_count("hook").unwrap(), 0);
}

#[tokio::test]
async fn a_rejected_alert_does_not_block_others() {
    let mut scene = Scene::new(&["hook"]);
    scene.raise(&["a", "poison", "b"]);
    let (receiver, url) = Receiver::start(|_, message| if message == "poison" { 422 } else { 200 }).await;
    let dispatcher = scene.webhook("hook", url);
    assert!(dispatcher.deliver_pending().await.is_err());
    assert_eq!(receiver.taken(), ["a", "b"]);
    assert_eq!(scene.outbox.pending_count("hook").unwrap(), 1, "it is tried again");
}

#[tokio::test]
async fn a_failing_sink_does_not_block_other_sinks() {
    let mut scene = Scene::new(&["bad", "good"]);
    let (bad, bad_url) = Receiver::start(|_, _| 500).await;
    let (good, good_url) = Receiver::start(|_, _| 200).await;
    let stop = CancellationToken::new();
    let tasks = [scene.webhook("bad", bad_url), scene.webhook("good", good_url)]
        .map(|dispatcher| tokio::spawn(dispatcher.run(stop.clone())));
    for message in ["a", "b"] {
        scene.raise(&[message]);
        wait_until(message, || good.taken().contains(&message.to_owned())).await;
    }
    wait_until("the bad one to be tried", || !bad.got.lock().unwrap().is_empty()).await;
    assert_eq!((good.taken().len(), bad.taken().len()), (2, 0));
    stop.cancel();
    for task in tasks {
        tokio::time::timeout(TIMEOUT, task).await.expect("a dispatcher does not end").unwrap();
    }
    assert_eq!(scene.outbox.pending_count("bad").unwrap(), 2, "nothing is given up");
}

#[tokio::test]
async fn new_alerts_are_delivered_at_once_and_an_empty_feed_is_written() {
    let mut scene = Scene::new(&["feed"]);
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("feed.xml");
    let dispatcher =
        Dispatcher::new("feed", Sink::Feed(Feed::new(path.clone(), 3, "log.example/x")), scene.outbox.clone());
    let stop = CancellationToken::new();
    let task = tokio::spawn(dispatcher.run(stop.clone()));
    wait_until("the feed", || path.exists()).await;
    scene.raise(&["a", "b", "c", "d"]);
    let has = |text: &str| std::fs::read_to_string(&path).unwrap().contains(&format!(">{text}</title>"));
    wait_until("the newest alert", || has("d")).await;
    assert!(has("b") && !has("a"), "three entries at most");
    wait_until("all to be delivered", || scene.outbox.pending_count("feed").unwrap() == 0).await;
    stop.cancel();
    tokio::time::timeout(TIMEOUT, task).await.unwrap().unwrap();
}
