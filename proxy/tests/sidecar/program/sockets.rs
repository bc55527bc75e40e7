//! A few exchanges over TCP: what streams in memory cannot show.

use tokio::net::TcpSocket;

use super::{Program, accept, config, exchange, listen};

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
