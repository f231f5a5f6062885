//! Slow and silent clients time out and do not delay others.

use std::time::{Duration, Instant};

use taglog_tests::{Server, Witness, witness::now};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// The server's limits are 10 s for a head and 15 s for the next part of a body; machines are shared.
const CUT_OFF: Duration = Duration::from_secs(30);
/// How long other clients may have to wait meanwhile.
const AT_ONCE: Duration = Duration::from_secs(9);

/// Sends the beginning of a request, and nothing after it.
async fn stall(server: &Server, beginning: &str) -> TcpStream {
    let mut stream = TcpStream::connect(&server.address).await.unwrap();
    stream.write_all(beginning.as_bytes()).await.unwrap();
    stream
}

/// Everything until the server closes the connection; `None` when it does not within `timeout`.
async fn read_until_cut_off(mut stream: TcpStream, timeout: Duration) -> Option<String> {
    let mut answer = Vec::new();
    let read = tokio::time::timeout(timeout, stream.read_to_end(&mut answer)).await;
    // A connection that is reset is cut off as well.
    read.is_ok().then(|| String::from_utf8_lossy(&answer).into_owned())
}

async fn assert_serves_at_once(server: &Server) {
    let start = Instant::now();
    let answer = server.get("/checkpoint").await;
    assert!(answer.status == 200 && start.elapsed() < AT_ONCE, "{answer:?} after {:?}", start.elapsed());
}

#[tokio::test]
async fn an_incomplete_request_head_times_out() {
    let server = Server::start(&[], "");
    let stalled = [
        "GET /checkpoint HTTP/1.1\r\nhost: x\r\n",
        "GET /checkpoint HTTP/1.1\r\nhost: log.example\r\nuser-agent: ",
        "POST /api/v1/entries HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\ncontent-type: text/plain",
    ];
    let mut waiting = Vec::new();
    for beginning in stalled {
        waiting.push((beginning, stall(&server, beginning).await));
    }
    assert_serves_at_once(&server).await;
    for (beginning, stream) in waiting {
        assert!(read_until_cut_off(stream, CUT_OFF).await.is_some(), "still open: {beginning:?}");
    }
}

#[tokio::test]
async fn a_request_head_sent_byte_by_byte_times_out() {
    let server = Server::start(&[], "");
    let mut stream = stall(&server, "GET /checkpoint HTTP/1.1\r\nx: ").await;
    let start = Instant::now();
    // Each write is progress, so only a limit on the whole head helps.
    while stream.write_all(b"a").await.is_ok() {
        assert!(start.elapsed() < CUT_OFF, "still open");
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

#[tokio::test]
async fn an_incomplete_body_times_out() {
    let server = Server::start(&[], "");
    let head = "POST /api/v1/entries HTTP/1.1\r\nhost: x\r\ncontent-type: text/plain\r\ncontent-length: 500\r\n\r\n";
    let stalled = stall(&server, &format!("{head}taglog/observation@v1\n")).await;
    assert_serves_at_once(&server).await;
    let answer = read_until_cut_off(stalled, CUT_OFF).await.expect("still open");
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("urn:taglog:problem:body-incomplete"), "{answer}");
}

#[tokio::test]
async fn an_endless_body_is_cut_off_at_the_size_limit() {
    let server = Server::start(&[], "");
    let head = "POST /api/v1/lookup HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n";
    let mut stream = stall(&server, head).await;
    let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x10000));
    let mut sent = 0;
    while stream.write_all(chunk.as_bytes()).await.is_ok() {
        sent += 0x10000;
        assert!(sent < 64 << 20, "the server reads {sent} bytes of a body that is limited to 512 KiB");
    }
    assert_serves_at_once(&server).await;
}

#[tokio::test]
async fn connections_that_send_nothing_time_out() {
    let server = Server::start(&[], "");
    let mut waiting = Vec::new();
    // Nothing at all, a fitting beginning of both versions of HTTP, and the beginning of HTTP/2.
    for beginning in ["", "P", "PRI * HTTP/2.0\r\n\r\nSM"] {
        waiting.push((beginning, stall(&server, beginning).await));
    }
    assert_serves_at_once(&server).await;
    let deadline = Instant::now() + CUT_OFF;
    for (beginning, stream) in waiting {
        let timeout = deadline.saturating_duration_since(Instant::now());
        assert!(read_until_cut_off(stream, timeout).await.is_some(), "still open after {CUT_OFF:?}: {beginning:?}");
    }
}

#[tokio::test]
async fn idle_connections_are_closed() {
    let server = Server::start(&[], "");
    let stream = stall(&server, "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let answer = read_until_cut_off(stream, CUT_OFF).await.expect("still open");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn connections_that_send_nothing_do_not_block_others() {
    let server = Server::start(&[], "max-connections = 16");
    let mut silent = Vec::new();
    for _ in 0..16 {
        silent.push(stall(&server, "").await);
    }
    let answer = tokio::time::timeout(CUT_OFF, server.get("/checkpoint")).await;
    assert!(answer.is_ok_and(|answer| answer.status == 200), "16 silent connections lock everyone out");
}

#[tokio::test]
async fn many_idle_connections_do_not_delay_others() {
    let witness = Witness::new(1);
    let server = Server::start(&[&witness], "");
    let mut idle = Vec::new();
    for _ in 0..400 {
        let mut stream = stall(&server, "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await;
        // Idle after a request that was answered.
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200");
        idle.push(stream);
    }
    assert_serves_at_once(&server).await;
    server.submit(&witness.observe("r.example/a:1", "x", now())).await.added();
    // Nor do they keep it from stopping.
    let start = Instant::now();
    server.stop();
    assert!(start.elapsed() < AT_ONCE, "stopped after {:?}", start.elapsed());
}

#[tokio::test]
async fn a_client_that_does_not_read_does_not_prevent_shutdown() {
    let witness = Witness::new(1);
    let server = Server::start(&[&witness], "");
    let manifest = "x".repeat(4 << 20);
    server.submit(&witness.observe("r.example/a:1", &manifest, now())).await.added();
    let path = format!("/api/v1/manifests/{}", taglog_tests::witness::digest(&manifest));
    assert_eq!(server.put(&path, manifest).await.status, 201);
    // 400 MB of responses, more than any socket buffers, and the client does not read.
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
    let mut stream = stall(&server, &request.repeat(100)).await;
    stream.read_exact(&mut [0; 12]).await.unwrap();
    assert_serves_at_once(&server).await;
    // Requests under way get 30 s to end.
    server.stop();
}
