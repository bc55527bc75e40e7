//! SIGTERM.

use tokio::net::TcpStream;

use super::{Program, accept, config, listen};

#[tokio::test]
async fn what_is_in_flight_is_finished_and_nothing_new_begun() {
    let (upstream, addr) = listen().await;
    let mut program = Program::start(&config(addr, ""));
    let mut caller = program.connect().await;
    caller.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let mut upstream = accept(&upstream).await;
    upstream.head().await;
    assert_eq!(program.admin("GET /ready").await.status(), 200);

    program.terminate();
    assert_eq!(program.line(), "sidecar: draining for at most 30s");
    // The line comes before the deed.
    while program.admin("GET /ready").await.status() == 200 {}
    while TcpStream::connect(program.proxy).await.is_ok() {}
    assert_eq!(program.admin("GET /ready").await.body, "DRAINING\n");

    upstream.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    let response = caller.message().await;
    assert_eq!((response.status(), response.field("connection")), (200, Some("close")));
    let (status, said) = program.wait();
    assert_eq!((status.code(), said.as_str()), (Some(0), "sidecar: drained\n"));
}

#[tokio::test]
async fn what_takes_too_long_is_cut_and_counted() {
    let (upstream, addr) = listen().await;
    let mut program = Program::start(&config(addr, "drain_timeout = \"10ms\""));
    let mut caller = program.connect().await;
    caller.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let mut upstream = accept(&upstream).await;
    upstream.head().await;
    program.terminate();
    assert_eq!(program.line(), "sidecar: draining for at most 10ms");
    caller.closed().await;
    upstream.closed().await;
    let (status, said) = program.wait();
    assert_eq!(status.code(), Some(0));
    assert_eq!(said, "sidecar: drained; 1 connection was still busy and had to be cut\n");
}
