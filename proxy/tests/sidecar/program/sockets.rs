//! A few exchanges over TCP: what streams in memory cannot show.

use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpSocket, TcpStream};

use super::{Program, accept, config, exchange, listen};
use crate::peer::Peer;

#[tokio::test]
async fn requests_and_answers_pass() {
    let (upstream, addr) = listen().await;
    let program = Program::start(&config(addr, "workers = 2"));
    let body = "x".repeat(300_000);
    let mut caller = program.connect().await;
    for nth in 0..3 {
        let request =
            format!("POST /{nth} HTTP/1.1\r\nhost: a\r\ncontent-length: 300000\r\n\r\n{body}");
        let answer =
            format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 300000\r\n\r\n{body}");
        let ((), response) = tokio::join!(
            async {
                let mut upstream = accept(&upstream).await;
                let got = upstream.message().await;
                assert!(got.head.starts_with(&format!("POST /{nth} ")), "{}", got.head);
                assert_eq!(got.body, body);
                upstream.send(answer).await;
            },
            async {
                caller.send(request).await;
                caller.message().await
            }
        );
        assert_eq!(response.status(), 200);
        assert_eq!(response.body, body);
        assert!(response.field("date").is_some(), "{}", response.head);
    }
}

#[tokio::test]
async fn an_upstream_that_does_not_listen_is_503() {
    // Bound and not listening, so that nobody else listens there meanwhile.
    let reserved = TcpSocket::new_v4().expect("a socket");
    reserved.bind(([127, 0, 0, 1], 0).into()).expect("a free port");
    let addr = reserved.local_addr().expect("bound");
    let program = Program::start(&config(addr, ""));
    let mut caller = program.connect().await;
    caller.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let response = caller.message().await;
    assert_eq!((response.status(), response.flag()), (503, "UF"));
    assert!(response.body.contains(&addr.to_string()), "{}", response.body);
}

#[tokio::test]
async fn an_upstream_that_hangs_up_is_502() {
    let (upstream, addr) = listen().await;
    let program = Program::start(&config(addr, ""));
    let response = exchange(&program, &upstream, "").await;
    assert_eq!((response.status(), response.flag()), (502, "UC"));
}

#[tokio::test]
async fn a_caller_that_leaves_is_noticed_upstream() {
    let (upstream, addr) = listen().await;
    let program = Program::start(&config(addr, ""));
    let mut caller = program.connect().await;
    caller.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let mut upstream = accept(&upstream).await;
    upstream.head().await;
    drop(caller);
    upstream.closed().await;
}

/// A reset is noticed as a close is, and whoever closes its sending half has left too.
#[tokio::test]
async fn a_caller_that_resets_or_half_closes_is_noticed_upstream() {
    let (upstream, addr) = listen().await;
    let program = Program::start(&config(addr, ""));
    for resets in [true, false] {
        let mut stream = TcpStream::connect(program.proxy).await.expect("it listens");
        stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.expect("it reads");
        let mut upstream = accept(&upstream).await;
        upstream.head().await;
        if resets {
            stream.set_zero_linger().expect("a socket");
            drop(stream);
            upstream.closed().await;
        } else {
            let mut caller = Peer::new(stream);
            caller.finish().await;
            upstream.closed().await;
            caller.closed().await;
        }
    }
}

/// Unless that is configured to be otherwise.
#[tokio::test]
async fn a_caller_that_half_closes_is_answered_where_that_is_wished_for() {
    let (upstream, addr) = listen().await;
    let text = config(addr, "").replace("name = \"in\"", "name = \"in\"\nhalf_close = true");
    let program = Program::start(&text);
    let mut caller = program.connect().await;
    caller.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    caller.finish().await;
    let mut upstream = accept(&upstream).await;
    upstream.head().await;
    upstream.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    assert_eq!(caller.message().await.body, "ok");
    caller.closed().await;
}

/// A refusal reaches a caller that is still sending: a close with unread input would reset it.
#[tokio::test]
async fn a_refusal_is_not_lost_to_a_caller_that_goes_on_sending() {
    let (_upstream, addr) = listen().await;
    let program = Program::start(&config(addr, ""));
    let mut caller = program.connect().await;
    caller.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1, 1\r\n\r\n").await;
    let chunk = vec![b'x'; 10_000];
    for _ in 0..100 {
        caller.send(&chunk).await;
    }
    assert_eq!(caller.message().await.status(), 400);
    caller.closed().await;
}
