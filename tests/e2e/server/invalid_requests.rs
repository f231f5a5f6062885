//! Invalid requests: each with its documented status and problem type, nothing recorded, and the server goes on
//! serving.

use taglog_proto::tile::encode_bundle;
use taglog_tests::{
    HttpResponse, Server, SubmissionResult, Witness,
    process::TIMEOUT,
    replay::fetch_entries,
    witness::{digest, now, time},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

const APP: &str = "registry.example/team/app:1.0";
const BUNDLE: &str = "application/octet-stream";

/// A log with one witness and one observation of [`APP`].
async fn log() -> (Server, Witness) {
    let witness = Witness::new(1);
    let server = Server::start(&[&witness], "");
    server.submit(&witness.observe(APP, "first", now() - 100)).await.added();
    (server, witness)
}

/// Nothing but seals came after `before`, and good input is still taken.
async fn assert_unharmed(server: &Server, witness: &Witness, before: u64) {
    let entries = fetch_entries(server, server.size().await).await;
    let recorded = entries[before as usize..].iter().filter(|entry| !entry.starts_with(b"taglog/seal@v1\n"));
    assert_eq!(recorded.count(), 0, "bad input was recorded");
    let good = witness.observe("registry.example/team/other:1.0", "good", now());
    let index = server.submit(&good).await.added();
    assert!(index < server.size().await);
}

fn assert_problem(what: &str, answer: &HttpResponse, status: u16, kind: &str) {
    assert_eq!(answer.problem(), (status, kind.to_owned()), "{what}: {answer:?}");
}

/// The text of an observation, well-formed but for what a test replaces.
fn text(repository: &str, tag: &str, digest: &str, observed: &str) -> String {
    format!("taglog/observation@v1\nrepository {repository}\ntag {tag}\ndigest {digest}\nobserved {observed}\n")
}

#[tokio::test]
async fn malformed_notes_are_refused() {
    let (server, witness) = log().await;
    let before = server.size().await;
    let (good_digest, observed) = (digest("x").to_string(), time(now()).to_string());
    let repository = |name: &str| witness.note(&text(name, "1.0", &good_digest, &observed));
    let tag = |tag: &str| witness.note(&text("r.example/a", tag, &good_digest, &observed));
    let seen = |digest: &str| witness.note(&text("r.example/a", "1.0", digest, &observed));
    let at = |observed: &str| witness.note(&text("r.example/a", "1.0", &good_digest, observed));
    let good = String::from_utf8(at(&observed)).unwrap();
    let second = Witness::new(2).key.sign(good.split_once("\n\n").unwrap().0).to_string();
    let bad: Vec<(&str, Vec<u8>)> = vec![
        ("nothing", vec![]),
        ("no entry", b"hello\n".to_vec()),
        ("not UTF-8", vec![0xff; 40]),
        ("NUL bytes", vec![0; 40]),
        ("an unknown kind", witness.note("taglog/observation@v2\nrepository r.example/a\n")),
        ("no signature", good.split_once("— ").unwrap().0.as_bytes().to_vec()),
        ("two signatures", format!("{good}{second}").into_bytes()),
        ("the same signature twice", format!("{good}{}", good.split_once("\n\n").unwrap().1).into_bytes()),
        ("no final newline", good.trim_end().as_bytes().to_vec()),
        ("CRLF", good.replace('\n', "\r\n").into_bytes()),
        ("two notes", format!("{good}{good}").into_bytes()),
        ("a line too many", witness.note(&format!("{}more 1\n", text("r.example/a", "1", &good_digest, &observed)))),
        ("upper-case host", repository("R.example/a")),
        ("trailing dot", repository("r.example./a")),
        ("port 443", repository("r.example:443/a")),
        ("no host", repository("library/busybox")),
        ("Docker's short name", repository("docker.io/busybox")),
        ("Docker's other host", repository("index.docker.io/library/busybox")),
        ("a Git repository", repository("git+https://git.example/a")),
        ("a path that climbs", repository("r.example/../a")),
        ("256 bytes of repository", repository(&format!("r.example/{}", "a".repeat(246)))),
        ("tag with newline", tag("1.0\nx")),
        ("tag with space", tag("1 0")),
        ("empty tag", tag("")),
        ("tag of 129 bytes", tag(&"a".repeat(129))),
        ("digest too short", seen(&good_digest[..70])),
        ("digest too long", seen(&format!("{good_digest}0"))),
        ("upper-case digest", seen(&good_digest.to_uppercase().replace("SHA", "sha"))),
        ("unknown digest", seen("md5:d41d8cd98f00b204e9800998ecf8427e")),
        ("sha512 with 64 digits", seen(&good_digest.replace("sha256", "sha512"))),
        ("time with fraction", at("2026-11-23T02:05:00.5Z")),
        ("time with zone", at("2026-11-23T02:05:00+00:00")),
        ("30 February", at("2026-02-30T02:05:00Z")),
    ];
    for (what, note) in &bad {
        assert_problem(what, &server.post_note(note).await, 400, "malformed-entry");
    }
    // The same in one bundle: each is answered, none is taken.
    let notes: Vec<Vec<u8>> = bad.into_iter().map(|(_, note)| note).collect();
    let outcomes = server.submit_bundle(&notes).await;
    assert!(
        outcomes.iter().all(|outcome| *outcome == SubmissionResult::Refused("malformed-entry".into())),
        "{outcomes:?}"
    );
    assert_unharmed(&server, &witness, before).await;
}

#[tokio::test]
async fn oversized_bodies_are_refused() {
    let (server, witness) = log().await;
    let before = server.size().await;
    let long_text = text(&format!("r.example/{}", "a".repeat(1000)), "1", &digest("x").to_string(), "now");
    let long = server.post_note(&witness.note(&long_text)).await;
    assert_problem("a note of over 1024 bytes", &long, 413, "entry-too-long");
    assert_problem("a note of 70,000 bytes", &server.post_note(&[b'a'; 70_000]).await, 413, "entry-too-long");
    assert_too_large(&server, "POST /api/v1/entries", 8 << 20).await;
    assert_too_large(&server, "POST /api/v1/lookup", 512 << 10).await;
    // 16,384 empty entries are few bytes, and one more is too many.
    let answer = server.post("/api/v1/entries", BUNDLE, vec![0; 2 * 16_385]).await;
    assert_problem("16,385 entries", &answer, 400, "malformed-bundle");
    assert_unharmed(&server, &witness, before).await;
}

/// Sends one byte more than the limit, and reads the answer at the same time: the server may answer
/// and close before it has read all.
async fn assert_too_large(server: &Server, call: &str, limit: usize) {
    let length = limit + 1;
    let head = format!("{call} HTTP/1.1\r\nhost: x\r\ncontent-type: text/plain\r\ncontent-length: {length}\r\n\r\n");
    let (mut from, mut to) = TcpStream::connect(&server.address).await.unwrap().into_split();
    let sending = tokio::spawn(async move {
        let sent = to.write_all(&[head.as_bytes(), &vec![b' '; length]].concat()).await;
        // Handed back, because dropping this half would close the connection before the answer.
        (to, sent)
    });
    let mut answer = [0; 1024];
    let count = tokio::time::timeout(TIMEOUT, from.read(&mut answer)).await.expect("no answer").unwrap();
    let answer = String::from_utf8_lossy(&answer[..count]);
    assert!(answer.starts_with("HTTP/1.1 413 "), "{call} of {length} bytes: {answer}");
    assert!(answer.contains("application/problem+json"), "{answer}");
    sending.abort();
}

#[tokio::test]
async fn signatures_by_others_are_refused() {
    let (server, witness) = log().await;
    let before = server.size().await;
    let image = "registry.example/team/app:2.0";
    let unknown = Witness::new(9).observe(image, "x", now());
    assert_problem("unknown witness", &server.post_note(&unknown).await, 403, "unknown-witness");
    // The right name with another key has another key id, and so is another witness.
    let other_key = Witness::named(witness.vkey().name(), 9);
    let note = other_key.observe(image, "x", now());
    assert_problem("right name, other key", &server.post_note(&note).await, 403, "unknown-witness");
    // The right name and key id, signed with another key.
    let (text, mut line) = split(&note, &other_key);
    line.key_id = witness.vkey().key_id();
    let note = format!("{text}\n{line}").into_bytes();
    assert_problem("right id, other key", &server.post_note(&note).await, 403, "bad-signature");
    // A true signature of another text.
    let (text, line) = split(&witness.observe(image, "x", now()), &witness);
    let note = format!("{}\n{line}", text.replace("tag 2.0", "tag 3.0")).into_bytes();
    assert_problem("another text", &server.post_note(&note).await, 403, "bad-signature");
    for bit in [0, 255, 256, 511] {
        let (text, mut line) = split(&witness.observe(image, "x", now()), &witness);
        line.signature[bit / 8] ^= 1 << (bit % 8);
        let note = format!("{text}\n{line}").into_bytes();
        assert_problem("a flipped bit", &server.post_note(&note).await, 403, "bad-signature");
    }
    assert_unharmed(&server, &witness, before).await;
}

/// The text of a note and its signature line, made anew.
fn split(note: &[u8], witness: &Witness) -> (String, taglog_proto::note::NoteSignature) {
    let text = format!("{}\n", std::str::from_utf8(note).unwrap().split_once("\n\n").unwrap().0);
    let line = witness.key.sign(&text);
    (text, line)
}

#[tokio::test]
async fn times_out_of_range_are_refused() {
    let (server, witness) = log().await;
    let before = server.size().await;
    let (past, hour) = (7_776_000, 3600);
    for (at, kind) in [
        (now() + hour, "in-future"),
        (253_402_207_200, "in-future"),
        (now() - past - hour, "too-old"),
        (0, "too-old"),
        (-62_000_000_000, "too-old"),
    ] {
        for note in [witness.observe("r.example/a:1", "x", at), witness.confirm("registry.example/team/app", at)] {
            assert_problem(&at.to_string(), &server.post_note(&note).await, 422, kind);
        }
    }
    assert_unharmed(&server, &witness, before).await;
    server.submit(&witness.observe("r.example/a:1", "x", now() - past + hour)).await.added();
    server.submit(&witness.observe("r.example/a:1", "x", now() + 200)).await.added();
}

#[tokio::test]
async fn submitted_rosters_and_seals_are_refused() {
    let (server, witness) = log().await;
    let before = server.size().await;
    let own = fetch_entries(&server, 2).await;
    for entry in &own {
        assert_problem("the log's own entry", &server.post_note(entry).await, 400, "not-a-statement");
    }
    let outcomes = server.submit_bundle(&own).await;
    assert_eq!(outcomes, vec![SubmissionResult::Refused("not-a-statement".into()); 2]);
    assert_unharmed(&server, &witness, before).await;
}

#[tokio::test]
async fn truncated_bundles_are_refused_whole() {
    let (server, witness) = log().await;
    let before = server.size().await;
    let notes = [witness.observe("r.example/a:1", "x", now()), witness.observe("r.example/a:2", "x", now())];
    let bundle = encode_bundle(notes.iter().map(Vec::as_slice)).unwrap();
    // Also where the first entry is whole.
    for cut in [1, 2, 30, notes[0].len() + 1, notes[0].len() + 3, notes[0].len() + 100, bundle.len() - 1] {
        let answer = server.post("/api/v1/entries", BUNDLE, bundle[..cut].to_vec()).await;
        assert_problem(&format!("cut at {cut}"), &answer, 400, "malformed-bundle");
    }
    assert_unharmed(&server, &witness, before).await;
}

#[tokio::test]
async fn an_invalid_entry_does_not_affect_others_in_its_bundle() {
    let (server, witness) = log().await;
    let old = witness.observe("r.example/old:1", "x", now());
    let old_index = server.submit(&old).await.added();
    let good = |tag: u32| witness.observe(&format!("r.example/a:{tag}"), "x", now());
    let notes = [
        good(1),
        b"bad".to_vec(),
        good(2),
        Witness::new(9).observe("r.example/a:3", "x", now()),
        witness.observe("r.example/a:4", "x", now() + 86_400),
        old,
        witness.confirm("r.example/never-seen", now()),
        vec![],
        good(5),
    ];
    let outcomes = server.submit_bundle(&notes).await;
    let first = outcomes[0].added();
    let refused = |kind: &str| SubmissionResult::Refused(kind.to_owned());
    let want = [
        SubmissionResult::Added(first),
        refused("malformed-entry"),
        SubmissionResult::Added(first + 1),
        refused("unknown-witness"),
        refused("in-future"),
        SubmissionResult::Duplicate(old_index),
        refused("nothing-to-confirm"),
        refused("malformed-entry"),
        SubmissionResult::Added(first + 2),
    ];
    assert_eq!(outcomes, want);
    let entries = fetch_entries(&server, server.size().await).await;
    for (place, note) in [(0, &notes[0]), (1, &notes[2]), (2, &notes[8])] {
        assert_eq!(entries[first as usize + place], *note);
    }
}

#[tokio::test]
async fn an_empty_bundle_gets_an_empty_response() {
    let (server, witness) = log().await;
    let before = server.size().await;
    assert!(server.submit_bundle(&[]).await.is_empty());
    assert_unharmed(&server, &witness, before).await;
}

#[tokio::test]
async fn other_content_types_are_refused() {
    let (server, witness) = log().await;
    let before = server.size().await;
    let note = witness.observe("r.example/a:1", "x", now());
    for kind in ["application/json", "text/html", "text/plainx", "multipart/form-data", ""] {
        let answer = server.post("/api/v1/entries", kind, note.clone()).await;
        assert_problem(kind, &answer, 415, "unsupported-media-type");
    }
    let answer = HttpResponse::of(server.request("POST", "/api/v1/entries").body(note.clone())).await;
    assert_problem("no content type", &answer, 415, "unsupported-media-type");
    assert_unharmed(&server, &witness, before).await;
    let answer = server.post("/api/v1/entries", "text/plain; charset=utf-8", note).await;
    assert_eq!(answer.status, 200, "parameters of a media type: {answer:?}");
}

#[tokio::test]
async fn an_unknown_wait_is_refused() {
    let (server, witness) = log().await;
    let before = server.size().await;
    let note = witness.observe("r.example/a:1", "x", now());
    for wait in ["cosigned", "", "Published", "true"] {
        let answer = server.post(&format!("/api/v1/entries?wait={wait}"), "text/plain", note.clone()).await;
        assert_problem(wait, &answer, 400, "malformed-request");
    }
    assert_unharmed(&server, &witness, before).await;
}

#[tokio::test]
async fn unknown_parameters_of_a_submission_are_refused() {
    let (server, witness) = log().await;
    let before = server.size().await;
    let note = witness.observe("r.example/a:1", "x", now());
    for query in ["wiat=published", "wait=published&wait=published", "x", "wait=published&x=1"] {
        let answer = server.post(&format!("/api/v1/entries?{query}"), "text/plain", note.clone()).await;
        assert_problem(query, &answer, 400, "malformed-request");
    }
    assert_unharmed(&server, &witness, before).await;
}

/// Requests `GET path` one after the other.
async fn assert_gets(server: &Server, status: u16, kind: &str, paths: &[&str]) {
    for path in paths {
        assert_problem(path, &server.get(path).await, status, kind);
    }
}

#[tokio::test]
async fn tiles_that_do_not_exist_are_not_found() {
    let (server, witness) = log().await;
    let before = server.size().await;
    let beyond = [format!("/tile/0/000.p/{}", before + 1), format!("/tile/entries/000.p/{}", before + 1)];
    assert_gets(&server, 404, "not-found", &[&beyond[0], &beyond[1]]).await;
    let paths = [
        "/tile/0/000",
        "/tile/entries/000",
        "/tile/1/000.p/1",
        "/tile/0/001.p/1",
        "/tile/0/x001/000.p/1",
        "/tile/63/000.p/1",
        "/tile/64/000.p/1",
        "/tile/255/000.p/1",
        "/tile/256/000.p/1",
        "/tile/-1/000.p/1",
        "/tile/x/000.p/1",
        "/tile/0",
        "/tile/0/",
        "/tile/0/0.p/1",
        "/tile/0/000.p/",
        "/tile/0/000.p/0",
        "/tile/0/000.p/01",
        "/tile/0/000.p/256",
        "/tile/0/000.p/65537",
        "/tile/0/000.p/1/",
        "/tile/00/000.p/1",
        "/tile/0//000.p/1",
        "/tile/0/x000/000.p/1",
        "/tile/Entries/000.p/1",
        "/tile/0/x999/x999/x999/x999/x999/x999/x999/999",
        "/tile/data/000.p/1",
        "/tile/",
        "/tile",
    ];
    assert_gets(&server, 404, "not-found", &paths).await;
    assert_unharmed(&server, &witness, before).await;
}

#[tokio::test]
async fn paths_that_are_not_utf8_are_refused_as_problems() {
    let (server, witness) = log().await;
    let before = server.size().await;
    for path in ["/tile/%ff/000.p/1", "/api/v1/digests/%ff", "/api/v1/manifests/%ff"] {
        let answer = server.get(path).await;
        assert!(matches!(answer.problem().0, 400 | 404), "{path}: {answer:?}");
    }
    assert_unharmed(&server, &witness, before).await;
}

#[tokio::test]
async fn proofs_out_of_range_are_refused() {
    let (server, witness) = log().await;
    let size = server.size().await;
    let next = size + 1;
    let out_of_range = [
        format!("inclusion?index={size}&size={size}"),
        format!("inclusion?index=0&size={next}"),
        "inclusion?index=0&size=0".to_owned(),
        format!("inclusion?index={}&size={}", u64::MAX, u64::MAX),
        format!("consistency?from=1&to={next}"),
        format!("consistency?from=0&to={size}"),
        format!("consistency?from={size}&to=1"),
        "consistency?from=0&to=0".to_owned(),
    ];
    for path in out_of_range {
        assert_gets(&server, 422, "size-out-of-range", &[&format!("/api/v1/proof/{path}")]).await;
    }
    let malformed = [
        "inclusion",
        "inclusion?index=0",
        "inclusion?index=x&size=1",
        "inclusion?index=-1&size=1",
        "inclusion?index=0&size=18446744073709551616",
        "inclusion?index=0&size=1&more=1",
        "inclusion?index=0&index=0&size=1",
        "consistency?from=1",
        "consistency?from=1&to=",
        "consistency?from=1&to=2&image=a",
    ];
    for path in malformed {
        assert_gets(&server, 400, "malformed-request", &[&format!("/api/v1/proof/{path}")]).await;
    }
    assert_unharmed(&server, &witness, size).await;
}

#[tokio::test]
async fn bad_lookups_are_refused() {
    let (server, witness) = log().await;
    let size = server.size().await;
    let get = |query: &str| format!("/api/v1/lookup?{query}");
    let app = format!("image={APP}");
    let malformed =
        ["", "x=1", "from=1", &format!("{app}&{app}"), &format!("{app}&from=x"), &format!("{app}&from=1&from=1")];
    for query in malformed.iter().copied().chain([&*format!("{app}&page=-1"), &format!("{app}&page=01")]) {
        assert_gets(&server, 400, "malformed-request", &[&get(query)]).await;
    }
    assert_gets(&server, 400, "malformed-request", &["/api/v1/lookup"]).await;
    let malformed = ["busybox", "registry.example/team/app", "Registry.example/a:1", "r.example/a:", "r.example/a:%00"];
    for image in malformed {
        assert_gets(
            &server,
            400,
            "malformed-image",
            &[&get(&format!("image={image}")), &get(&format!("{app}&image={image}"))],
        )
        .await;
    }
    for from in [0, size + 1, (1 << 53) - 1] {
        assert_gets(&server, 422, "size-out-of-range", &[&get(&format!("{app}&from={from}"))]).await;
    }
    assert_unharmed(&server, &witness, size).await;
}

#[tokio::test]
async fn bad_posted_lookups_are_refused() {
    let (server, witness) = log().await;
    let size = server.size().await;
    let list = |count: usize| (0..count).map(|i| format!("\"r.example/a:{i}\"")).collect::<Vec<_>>().join(",");
    let malformed = [
        String::new(),
        "null".to_owned(),
        "[]".to_owned(),
        "{}".to_owned(),
        r#"{"images":[]}"#.to_owned(),
        format!(r#"{{"images":[{}]}}"#, list(1001)),
        format!(r#"{{"images":["{APP}","{APP}"]}}"#),
        format!(r#"{{"images":["{APP}"],"form":1}}"#),
        format!(r#"{{"images":["{APP}"],"images":["{APP}"]}}"#),
        format!(r#"{{"images":["{APP}"],"from":-1}}"#),
        format!(r#"{{"images":["{APP}"],"from":1.5}}"#),
        format!(r#"{{"images":"{APP}"}}"#),
        format!(r#"{{"images":["{APP}"]}}x"#),
    ];
    for body in malformed {
        let answer = server.post("/api/v1/lookup", "application/json", body.clone()).await;
        assert_problem(&body[..body.len().min(80)], &answer, 400, "malformed-request");
    }
    let answer = server.post("/api/v1/lookup", "application/json", r#"{"images":["busybox"]}"#).await;
    assert_problem("malformed", &answer, 400, "malformed-image");
    for from in [0, size + 1, u64::MAX] {
        let body = format!(r#"{{"images":["{APP}"],"from":{from}}}"#);
        let answer = server.post("/api/v1/lookup", "application/json", body).await;
        assert_problem(&from.to_string(), &answer, 422, "size-out-of-range");
    }
    assert_unharmed(&server, &witness, size).await;
}

#[tokio::test]
async fn bad_listings_are_refused() {
    let (server, witness) = log().await;
    let size = server.size().await;
    let malformed = [
        "/api/v1/tags",
        "/api/v1/tags?repository=r.example/a&x=1",
        "/api/v1/tags?after=1",
        "/api/v1/retags?since=x",
        "/api/v1/retags?since=-1",
        "/api/v1/retags?x=1",
    ];
    assert_gets(&server, 400, "malformed-request", &malformed).await;
    let repositories =
        ["/api/v1/tags?repository=busybox", "/api/v1/tags?repository=", "/api/v1/tags?repository=R.example/a"];
    assert_gets(&server, 400, "malformed-repository", &repositories).await;
    let digests = ["/api/v1/digests/x", "/api/v1/digests/sha256:00", "/api/v1/digests/gone", "/api/v1/manifests/x"];
    assert_gets(&server, 400, "malformed-digest", &digests).await;
    assert_unharmed(&server, &witness, size).await;
}

#[tokio::test]
async fn unknown_pages_are_not_found() {
    let (server, witness) = log().await;
    let size = server.size().await;
    let paths =
        ["/nope", "/api", "/api/v1", "/api/v1/", "/api/v1/nope", "/api/v2/log", "/checkpoint/", "/api/v1/lookup/x"];
    assert_gets(&server, 404, "not-found", &paths).await;
    for path in ["/nope", "/api/v1/nope"] {
        assert_problem(path, &server.post(path, "text/plain", "x").await, 404, "not-found");
    }
    assert_unharmed(&server, &witness, size).await;
}

#[tokio::test]
async fn other_methods_are_refused() {
    let (server, witness) = log().await;
    let size = server.size().await;
    let digest = digest("x");
    for (method, path, allowed) in [
        ("POST", "/checkpoint".to_owned(), "GET"),
        ("PUT", "/tile/0/000.p/1".to_owned(), "GET"),
        ("GET", "/api/v1/entries".to_owned(), "POST"),
        ("DELETE", "/api/v1/entries".to_owned(), "POST"),
        ("PUT", "/api/v1/lookup".to_owned(), "POST"),
        ("POST", format!("/api/v1/manifests/{digest}"), "PUT"),
        ("DELETE", format!("/api/v1/manifests/{digest}"), "PUT"),
        ("POST", "/api/v1/log".to_owned(), "GET"),
        ("BREW", "/healthz".to_owned(), "GET"),
    ] {
        let answer = HttpResponse::of(server.request(method, &path)).await;
        assert_problem(&path, &answer, 405, "method-not-allowed");
        // RFC 9110, section 15.5.6: a 405 names what is allowed.
        assert!(answer.header("allow").contains(allowed), "{method} {path}: {answer:?}");
    }
    assert_unharmed(&server, &witness, size).await;
}

#[tokio::test]
async fn manifests_of_unlogged_digests_are_refused() {
    let (server, witness) = log().await;
    let put = |content: &'static str, digest: String| {
        let server = &server;
        async move { server.put(&format!("/api/v1/manifests/{digest}"), content).await }
    };
    let size = server.size().await;
    assert_problem("unknown", &put("unknown", digest("unknown").to_string()).await, 422, "manifest-not-named");
    assert_problem("wrong", &put("other", digest("first").to_string()).await, 422, "digest-mismatch");
    assert_problem("malformed", &put("first", "sha256:1".to_owned()).await, 400, "malformed-digest");
    assert_too_large(&server, &format!("PUT /api/v1/manifests/{}", digest("first")), 4 << 20).await;
    let path = format!("/api/v1/manifests/{}", digest("first"));
    assert_problem("not kept", &server.get(&path).await, 404, "not-found");
    assert_unharmed(&server, &witness, size).await;
    assert_eq!(put("first", digest("first").to_string()).await.status, 201, "the digest is in the log");
}

#[tokio::test]
async fn a_manifest_named_by_a_stored_index_is_accepted() {
    let (server, witness) = log().await;
    let (platform, config) = (r#"{"platform":1}"#, r#"{"config":1}"#);
    let digests = (digest(platform), digest(config));
    let index = format!(r#"{{"manifests":[{{"digest":"{}"}}],"config":{{"digest":"{}"}}}}"#, digests.0, digests.1);
    server.submit(&witness.observe("r.example/multi:1", &index, now())).await.added();
    let path = |content: &str| format!("/api/v1/manifests/{}", digest(content));
    assert_problem("before", &server.put(&path(platform), platform).await, 422, "manifest-not-named");
    assert_eq!(server.put(&path(&index), index.clone()).await.status, 201);
    for content in [platform, config] {
        assert_eq!(server.put(&path(content), content).await.status, 201);
        assert_eq!(server.put(&path(content), content).await.status, 200, "kept already");
    }
    for content in [platform, config, &index] {
        let kept = server.get(&path(content)).await;
        assert_eq!((kept.status, kept.text()), (200, content.to_owned()));
        assert_eq!(kept.header("x-content-type-options"), "nosniff");
        assert_eq!(kept.header("cache-control"), "public, max-age=31536000, immutable");
    }
}
