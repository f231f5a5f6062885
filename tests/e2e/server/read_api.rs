//! Tiles, listings, header fields, and the endpoints about the log itself.

use std::collections::BTreeSet;

use serde_json::Value;
use taglog_proto::{
    merkle::{NodeReader as _, leaf_hash},
    tile::{TileKind, TilePath, decode_bundle},
};
use taglog_tests::{
    HttpResponse, Server, Witness, replay,
    witness::{digest, now},
};

const APP: &str = "registry.example/team/app:1.0";
/// The source of the router, to see that nothing in it is missing from the document.
const ROUTER: &str = include_str!("../../../log-server/src/http/mod.rs");

async fn log_with(witness: &Witness, tags: usize) -> Server {
    let server = Server::start(&[witness], "");
    let notes: Vec<_> = (0..tags).map(|i| witness.observe(&format!("r.example/a:{i:04}"), "x", now() - 100)).collect();
    server.add(&notes).await;
    server
}

#[tokio::test]
async fn every_tile_width_is_served_and_none_beyond_the_size() {
    let server = log_with(&Witness::new(1), 600).await;
    let log = replay(&server).await;
    let size = log.entries().len() as u64;
    assert!(size > 600);
    for end in 1..=size + 3 {
        let index = (end - 1) / 256;
        let width = (end - index * 256) as u16;
        let leaves = log.entries().iter().map(|entry| leaf_hash(entry).0).skip(256 * index as usize);
        let hashes = server.get(&format!("/tile/{}", TilePath { kind: TileKind::Hashes(0), index, width })).await;
        let bundle = server.get(&format!("/tile/{}", TilePath { kind: TileKind::Entries, index, width })).await;
        if end > size {
            assert_eq!((hashes.status, bundle.status), (404, 404), "beyond the published size: {end}");
            continue;
        }
        let want: Vec<u8> = leaves.take(usize::from(width)).flatten().collect();
        assert!(hashes.body == want, "hashes up to {end}");
        let entries = decode_bundle(&bundle.body, 256).unwrap();
        let got: Vec<u8> = entries.iter().flat_map(|entry| leaf_hash(entry).0).collect();
        assert!(got == want, "entries up to {end}");
    }
    for width in 1..=size / 256 {
        let tile = server.get(&format!("/tile/1/000.p/{width}")).await;
        let want: Vec<u8> = (0..width).flat_map(|index| log.node(8, index).unwrap().0).collect();
        assert!(tile.body == want, "level 1, width {width}");
    }
    assert_eq!(server.get(&format!("/tile/1/000.p/{}", size / 256 + 1)).await.status, 404);
}

#[tokio::test]
async fn gzip_is_used_when_accepted() {
    let server = log_with(&Witness::new(1), 300).await;
    let unpacking = reqwest::Client::builder().no_proxy().gzip(true).build().unwrap();
    for path in
        ["/checkpoint", "/tile/entries/000", "/tile/0/000", "/api/v1/lookup?image=r.example/a:0001", "/api/v1/log"]
    {
        let plain = server.get(path).await;
        assert_eq!((plain.status, plain.header("content-encoding")), (200, ""), "{path}");
        let packed = HttpResponse::of(server.request("GET", path).header("accept-encoding", "gzip")).await;
        assert_eq!(packed.header("content-encoding"), "gzip", "{path}");
        assert!(packed.header("vary").to_lowercase().contains("accept-encoding"), "{path}: {packed:?}");
        assert!(packed.body.starts_with(&[0x1f, 0x8b]), "{path}");
        let unpacked = HttpResponse::of(unpacking.get(format!("{}{path}", server.url))).await;
        assert!(unpacked.body == plain.body, "{path}");
    }
}

#[tokio::test]
async fn cross_origin_reads_are_allowed() {
    let server = log_with(&Witness::new(1), 1).await;
    let paths = ["/checkpoint", "/tile/0/000.p/1", "/api/v1/log", "/api/v1/lookup?image=r.example/a:0", "/nope"];
    for path in paths {
        let answer = HttpResponse::of(server.request("GET", path).header("origin", "https://viewer.example")).await;
        assert_eq!(answer.header("access-control-allow-origin"), "*", "{path}: {answer:?}");
    }
    let preflight = server
        .request("OPTIONS", "/api/v1/entries")
        .header("origin", "https://viewer.example")
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "content-type");
    let answer = HttpResponse::of(preflight).await;
    assert!(answer.status == 200 && answer.header("access-control-allow-origin") == "*", "{answer:?}");
    assert!(["*", "content-type"].contains(&answer.header("access-control-allow-headers")), "{answer:?}");
}

#[tokio::test]
async fn cache_control_and_content_type_of_each_endpoint() {
    let witness = Witness::new(1);
    let server = log_with(&witness, 1).await;
    assert_eq!(server.put(&format!("/api/v1/manifests/{}", digest("x")), "x").await.status, 201);
    let manifest = format!("/api/v1/manifests/{}", digest("x"));
    let for_ever = "public, max-age=31536000, immutable";
    for (path, cache, kind) in [
        ("/checkpoint", "no-cache", "text/plain; charset=utf-8"),
        ("/tile/0/000.p/1", for_ever, "application/octet-stream"),
        ("/tile/entries/000.p/1", for_ever, "application/octet-stream"),
        (&manifest, for_ever, "application/octet-stream"),
        ("/api/v1/lookup?image=r.example/a:0", "no-cache", "application/json"),
        ("/api/v1/proof/inclusion?index=0&size=1", "no-cache", "application/json"),
        ("/api/v1/tags?repository=r.example/a", "no-cache", "application/json"),
        ("/tile/0/000", "no-store", "application/problem+json"),
        ("/nope", "no-store", "application/problem+json"),
    ] {
        let answer = server.get(path).await;
        assert_eq!((answer.header("cache-control"), answer.header("content-type")), (cache, kind), "{path}");
    }
}

#[tokio::test]
async fn head_is_get_without_a_body() {
    let server = log_with(&Witness::new(1), 1).await;
    for path in ["/checkpoint", "/tile/0/000.p/1", "/api/v1/log"] {
        let (head, get) = (HttpResponse::of(server.request("HEAD", path)).await, server.get(path).await);
        assert_eq!((head.status, head.body.len()), (200, 0), "{path}");
        assert_eq!(head.header("content-type"), get.header("content-type"), "{path}");
    }
}

#[tokio::test]
async fn metrics_have_no_client_paths_as_labels() {
    let server = log_with(&Witness::new(1), 3).await;
    let size = server.size().await;
    server.get("/secret-path").await;
    server.get(&format!("/api/v1/digests/{}", digest("secret-digest"))).await;
    let metrics = server.get("/metrics").await;
    assert!(metrics.status == 200 && metrics.header("content-type").starts_with("text/plain"), "{metrics:?}");
    let text = metrics.text();
    for line in [
        &*format!("taglog_tree_size {size}"),
        &format!("taglog_published_size {size}"),
        &format!("taglog_entries_total {size}"),
        "taglog_tags 3",
        "taglog_batches_total 2",
        "taglog_http_requests_total{route=\"/api/v1/digests/{digest}\",status=\"200\"} 1",
        "taglog_http_requests_total{route=\"other\",status=\"404\"} 1",
    ] {
        assert!(text.lines().any(|found| found == line), "no {line:?} in {text}");
    }
    assert!(
        text.contains("taglog_last_seal_timestamp_seconds ") && text.contains("taglog_http_request_seconds_bucket")
    );
    assert!(!text.contains("secret") && !text.contains(&digest("secret-digest").to_string()), "{text}");
}

#[tokio::test]
async fn health_and_readiness() {
    let server = log_with(&Witness::new(1), 1).await;
    assert_eq!(server.get("/healthz").await.text(), "ok\n");
    let ready = server.get("/readyz").await;
    let json = ready.json();
    assert_eq!(
        (ready.status, &json["ready"], json["size"].as_u64()),
        (200, &Value::Bool(true), Some(server.size().await))
    );
    assert!(json["lastSeal"].as_str().unwrap().ends_with('Z'), "{json}");
    assert!(server.get("/").await.text().contains(&server.vkey.to_string()));
}

#[tokio::test]
async fn the_log_describes_itself() {
    let witness = Witness::new(1);
    let server = Server::start(&[&witness], "[limits]\nfuture = 60\n[quota]\nentries-per-second = 7");
    let json = server.get("/api/v1/log").await.json();
    assert_eq!((&json["origin"], &json["vkey"]), (&"log.example/test".into(), &server.vkey.to_string().into()));
    assert_eq!(json["roster"]["witnesses"], serde_json::json!([witness.vkey().to_string()]));
    assert_eq!(json["roster"]["limits"], serde_json::json!({ "future": 60, "past": 7_776_000, "quiet": 600 }));
    assert_eq!((&json["roster"]["index"], &json["limits"]["entriesPerSecond"]), (&0.into(), &7.into()));
    assert!(json["cosigners"].is_array() && json["versions"].is_object(), "{json}");
}

/// The routes in the source, as paths with `{parameters}`.
fn routes() -> BTreeSet<String> {
    let routers: Vec<&str> = ROUTER.split("Router::new()").collect();
    let [_, api, all] = routers[..] else { panic!("the router's source has another shape: look at this test") };
    let of = |source: &str, prefix: &str| -> Vec<String> {
        let found = source.split(".route(").skip(1).map(|rest| rest.trim_start().split('"').nth(1).unwrap().to_owned());
        found.map(|path| format!("{prefix}{path}")).collect()
    };
    of(api, "/api/v1").into_iter().chain(of(all, "")).collect()
}

#[tokio::test]
async fn the_openapi_document_has_every_route() {
    let server = Server::start(&[], "");
    let answer = server.get("/api/v1/openapi.json").await;
    assert_eq!(answer.header("content-type"), "application/json");
    let document = answer.json();
    assert!(document["openapi"].as_str().is_some_and(|version| version.starts_with("3.1.")), "{document}");
    let documented: BTreeSet<&String> = document["paths"].as_object().unwrap().keys().collect();
    let routes = routes();
    assert!(routes.len() >= 15, "{routes:?}");
    for route in &routes {
        // Slashes within a parameter are beyond OpenAPI, so tiles are documented in parts.
        let found = match route.split_once("{*") {
            Some((prefix, _)) => documented.iter().any(|path| path.starts_with(prefix)),
            None => documented.contains(route),
        };
        assert!(found, "{route} is not documented");
    }
    for path in documented {
        assert!(routes.contains(path) || path.starts_with("/tile/"), "{path} is documented and not there");
    }
}

#[tokio::test]
async fn every_documented_endpoint_exists() {
    let server = log_with(&Witness::new(1), 1).await;
    let document = server.get("/api/v1/openapi.json").await.json();
    let mut calls = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        let sample = path.replace("{level}", "0").replace("{index}", "000.p/1");
        let sample = sample.replace("{digest}", &digest("x").to_string());
        let methods = item.as_object().unwrap().keys().filter(|key| ["get", "put", "post"].contains(&key.as_str()));
        for method in methods {
            let answer = HttpResponse::of(server.request(&method.to_uppercase(), &sample)).await;
            assert!(!answer.text().contains("no such page") && answer.status != 405, "{method} {path}: {answer:?}");
            let responses = &document["paths"][path][method]["responses"];
            assert!(
                responses[answer.status.to_string()].is_object(),
                "{method} {path}: {} undocumented",
                answer.status
            );
            calls += 1;
        }
    }
    assert!(calls >= 17, "{calls} calls");
}

#[tokio::test]
async fn the_openapi_document_has_no_dangling_reference() {
    let server = Server::start(&[], "");
    let document = server.get("/api/v1/openapi.json").await.json();
    let text = document.to_string();
    let references: Vec<&str> = text.split(r#""$ref":"#).skip(1).map(|rest| rest.split('"').nth(1).unwrap()).collect();
    assert!(!references.is_empty());
    for reference in references {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
}

/// All rows of a listing, page by page.
async fn rows(server: &Server, first: &str, list: &str, next: impl Fn(&Value) -> String) -> (Vec<Value>, usize) {
    let (mut rows, mut pages, mut path) = (Vec::new(), 0, first.to_owned());
    loop {
        let json = server.get(&path).await.json();
        assert_eq!(json["proven"], Value::Bool(false), "{path}");
        assert_eq!(json["size"].as_u64().unwrap(), server.size().await);
        rows.extend(json[list].as_array().unwrap().clone());
        pages += 1;
        if json["next"].is_null() {
            return (rows, pages);
        }
        path = format!("{first}{}", next(&json["next"]));
        assert!(pages < 10, "pages without end");
    }
}

#[tokio::test]
async fn tags_are_listed_page_by_page() {
    let witness = Witness::new(1);
    let server = log_with(&witness, 2100).await;
    // Neighbours in the order of names, which must not show up.
    for name in ["r.example/a-b:1", "r.example/a/b:1", "r.example/aa:1", "r.example:80/a:1"] {
        server.submit(&witness.observe(name, "x", now())).await.added();
    }
    let next = |tag: &Value| format!("after={}", tag.as_str().unwrap());
    let (rows, pages) = rows(&server, "/api/v1/tags?repository=r.example/a&", "tags", next).await;
    let tags: Vec<&str> = rows.iter().map(|row| row["tag"].as_str().unwrap()).collect();
    let want: Vec<String> = (0..2100).map(|i| format!("{i:04}")).collect();
    assert!(tags == want && pages == 3, "{} tags in {pages} pages", tags.len());
    let line = &rows[7]["witnesses"][0];
    assert_eq!(
        (&line["witness"], &line["digest"]),
        (&witness.id().to_string().into(), &digest("x").to_string().into())
    );
    assert_eq!(line["sightings"], 1);
    let none = server.get("/api/v1/tags?repository=r.example/none").await.json();
    assert_eq!((&none["tags"], &none["next"]), (&Value::Array(vec![]), &Value::Null));
}

#[tokio::test]
async fn retags_are_listed_page_by_page() {
    let witness = Witness::new(1);
    let server = log_with(&witness, 1500).await;
    let name = |i: usize| format!("r.example/a:{i:04}");
    let changes: Vec<_> = (0..1300).map(|i| witness.observe(&name(i), "changed", now())).collect();
    let indices = server.add(&changes).await;
    // Neither a tag that is gone nor one that is seen again is retagged.
    server.add(&[witness.gone(&name(1400), now()), witness.observe(&name(1401), "x", now())]).await;
    let (got, pages) = rows(&server, "/api/v1/retags?", "retags", |index| format!("since={index}")).await;
    assert_eq!(pages, 2);
    let want: Vec<(u64, String)> = indices.iter().copied().zip((0..1300).map(name)).collect();
    let got: Vec<(u64, String)> =
        got.iter().map(|row| (row["index"].as_u64().unwrap(), row["image"].as_str().unwrap().to_owned())).collect();
    assert!(got == want);
    let rest = server.get(&format!("/api/v1/retags?since={}", indices[1290])).await.json();
    assert_eq!((rest["retags"].as_array().unwrap().len(), &rest["next"]), (10, &Value::Null));
}

#[tokio::test]
async fn retags_are_listed_whichever_witness_saw_them() {
    let (one, two) = (Witness::new(1), Witness::new(2));
    let server = Server::start(&[&one, &two], "");
    let t = now() - 100;
    let retagged =
        |json: Value| json["retags"].as_array().unwrap().iter().map(|r| r["image"].clone()).collect::<Vec<_>>();
    server.submit(&one.observe("r.example/two-witnesses:1", "a", t)).await.added();
    server.submit(&two.observe("r.example/two-witnesses:1", "b", t)).await.added();
    server.submit(&one.observe("r.example/gone-between:1", "a", t)).await.added();
    server.submit(&one.gone("r.example/gone-between:1", t + 1)).await.added();
    server.submit(&one.observe("r.example/gone-between:1", "b", t + 2)).await.added();
    server.submit(&one.observe("r.example/back-again:1", "a", t)).await.added();
    server.submit(&one.gone("r.example/back-again:1", t + 1)).await.added();
    server.submit(&one.observe("r.example/back-again:1", "a", t + 2)).await.added();
    let listed = retagged(server.get("/api/v1/retags").await.json());
    for name in ["r.example/two-witnesses:1", "r.example/gone-between:1"] {
        assert!(listed.contains(&name.into()), "{name} is retagged: {listed:?}");
    }
    assert!(!listed.contains(&"r.example/back-again:1".into()), "{listed:?}");
}

#[tokio::test]
async fn retags_within_one_batch_are_listed() {
    let witness = Witness::new(1);
    let server = Server::start(&[&witness], "");
    let (t, plain, gone) = (now(), "r.example/plain:1", "r.example/gone-between:1");
    server.add(&[witness.observe(plain, "a", t), witness.observe(plain, "b", t)]).await;
    server.add(&[witness.observe(gone, "a", t), witness.gone(gone, t), witness.observe(gone, "b", t)]).await;
    let listed = server.get("/api/v1/retags").await.json()["retags"].clone();
    let images: Vec<&str> = listed.as_array().unwrap().iter().map(|row| row["image"].as_str().unwrap()).collect();
    assert_eq!(images, [plain, gone]);
}

#[tokio::test]
async fn images_are_listed_by_digest() {
    let witness = Witness::new(1);
    let server = log_with(&witness, 1).await;
    let t = now();
    let mut indices = server.add(&[witness.observe(APP, "shared", t)]).await;
    indices.extend(server.add(&[witness.observe("r.example/b:1", "shared", t)]).await);
    server.add(&[witness.observe(APP, "other", t)]).await;
    server.add(&[witness.observe(APP, "shared", t + 1)]).await;
    let json = server.get(&format!("/api/v1/digests/{}", digest("shared"))).await.json();
    let want =
        serde_json::json!([{ "image": "r.example/b:1", "index": indices[1] }, { "image": APP, "index": indices[0] }]);
    assert_eq!(json["images"], want);
    assert_eq!((&json["proven"], &json["complete"]), (&Value::Bool(false), &Value::Bool(true)));
    let none = server.get(&format!("/api/v1/digests/{}", digest("none"))).await.json();
    assert_eq!(none["images"], Value::Array(vec![]));
    let many: Vec<_> = (0..1100).map(|i| witness.observe(&format!("r.example/c:{i}"), "many", now())).collect();
    server.add(&many).await;
    let json = server.get(&format!("/api/v1/digests/{}", digest("many"))).await.json();
    assert_eq!((json["images"].as_array().unwrap().len(), &json["complete"]), (1000, &Value::Bool(false)));
}

#[tokio::test]
async fn the_first_sighting_of_a_digest_is_listed_when_a_batch_has_two() {
    let witness = Witness::new(1);
    let server = Server::start(&[&witness], "");
    let notes = ["shared", "other", "shared"].iter().enumerate();
    let notes: Vec<_> = notes.map(|(i, content)| witness.observe(APP, content, now() + i as i64)).collect();
    let indices = server.add(&notes).await;
    let json = server.get(&format!("/api/v1/digests/{}", digest("shared"))).await.json();
    assert_eq!(json["images"], serde_json::json!([{ "image": APP, "index": indices[0] }]));
}
