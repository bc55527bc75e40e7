//! A program that has run out of descriptors goes on with what it has.

use std::process::Command;

use tokio::net::TcpStream;

use super::{Program, accept, config, listen};
use crate::peer::Peer;

/// More than the program needs for itself and for a few connections, and fewer than are opened.
const LIMIT: usize = 40;

async fn failures(admin: &mut Peer<TcpStream>) -> u64 {
    admin.send("GET /stats/prometheus HTTP/1.1\r\nhost: admin\r\n\r\n").await;
    let text = admin.message().await.body;
    let series = "sidecar_downstream_cx_accept_fail_total{listener=\"in\"}";
    let value = text.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok());
    value.unwrap_or_else(|| panic!("no {series} in\n{text}"))
}

#[tokio::test]
async fn open_connections_are_served_when_no_more_can_be_accepted() {
    let (listener, addr) = listen().await;
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("ulimit -n {LIMIT} && exec \"$0\" \"$@\"")]);
    let program = Program::start_in(Some(shell), &config(addr, "workers = 1"));
    let mut admin = Peer::new(TcpStream::connect(program.admin).await.expect("it listens"));
    assert_eq!(failures(&mut admin).await, 0);

    let request = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    let mut caller = program.connect().await;
    caller.send(request).await;
    let mut upstream = accept(&listener).await;
    upstream.head().await;
    upstream.send(answer).await;
    assert_eq!(caller.message().await.body, "ok");

    // The kernel takes these; the program cannot.
    let mut crowd = Vec::new();
    for _ in 0..2 * LIMIT {
        crowd.push(program.connect().await);
    }
    while failures(&mut admin).await == 0 {
        tokio::task::yield_now().await;
    }
    caller.send(request).await;
    upstream.head().await;
    upstream.send(answer).await;
    assert_eq!(caller.message().await.body, "ok");

    drop(crowd);
    let mut late = program.connect().await;
    late.send(request).await;
    upstream.head().await;
    upstream.send(answer).await;
    assert_eq!(late.message().await.body, "ok");
}
