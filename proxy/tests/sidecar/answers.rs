//! What a caller is told when no upstream answers it.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::world::{Dialing, ROUTE, World};

const GET: &str = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// Requests that are refused before any upstream is asked, with status and flag.
#[tokio::test(start_paused = true)]
async fn what_cannot_be_routed_is_refused_without_an_attempt() {
    let cases = [
        ("GET /apiary HTTP/1.1\r\nhost: a\r\n\r\n", 404, "NR"),
        ("GET /api HTTP/1.1\r\n\r\n", 400, "DPE"),
        ("GET /api HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n", 400, "DPE"),
        ("GET /api HTTP/1.1\r\nhost: a b\r\n\r\n", 400, "DPE"),
        ("GET /api HTTP/1.1\r\nhost: a/b\r\n\r\n", 400, "DPE"),
        ("GET http://a/api HTTP/1.1\r\n\r\n", 400, "DPE"),
        ("GET http://good@a/api HTTP/1.1\r\nhost: a\r\n\r\n", 400, "DPE"),
        ("CONNECT a:80 HTTP/1.1\r\nhost: a:80\r\n\r\n", 501, "DPE"),
        // Refused by hyper, because it is not a URI.
        ("GET http:// HTTP/1.1\r\nhost: a\r\n\r\n", 400, "none"),
    ];
    let world = World::with(Dialing::Works, "", "[[routes]]\nprefix = \"/api\"\ncluster = \"web\"");
    for (request, status, flag) in cases {
        let mut caller = world.caller();
        caller.send(request).await;
        let response = caller.message().await;
        assert_eq!((response.status(), response.flag()), (status, flag), "{request:?}");
    }
    assert_eq!(world.counts().rq_total, 0);
    // What the listener refuses for the sake of its Host is no request yet.
    assert_eq!(world.metric("sidecar_downstream_cx_protocol_error_total{listener=\"in\"}"), 3);
    assert_eq!((world.refused("NR"), world.refused("DPE"), world.refused("DC")), (1, 4, 0));
}

#[tokio::test(start_paused = true)]
async fn a_refusal_says_why_in_fields_and_body() {
    let world = World::with(Dialing::Works, "", "[[routes]]\nprefix = \"/api\"\ncluster = \"web\"");
    let mut caller = world.caller();
    caller.send(GET).await;
    let response = caller.message().await;
    let reason = "no route for host `a` and path `/`";
    assert_eq!(response.field("x-sidecar-reason"), Some(reason));
    assert_eq!(response.body, format!("{reason}\n"));
    // A caller cannot make us send a field of any length.
    caller.send(format!("GET /{} HTTP/1.1\r\nhost: a\r\n\r\n", "x".repeat(5000))).await;
    let response = caller.message().await;
    assert_eq!(response.field("x-sidecar-reason").map(str::len), Some(512));
    assert!(response.body.len() > 5000);
}

/// 1 s − 1 ms is in time; at 1 s it is over, and not a millisecond later.
#[tokio::test(start_paused = true)]
async fn the_limit_on_a_head_is_exact() {
    for (answer_after, status, elapsed) in [(999, 200, 999), (1001, 504, 1000)] {
        let mut world = World::new();
        let mut caller = world.caller();
        let sent = Instant::now();
        caller.send(GET).await;
        let mut upstream = world.upstream().await;
        let (response, ()) = tokio::join!(
            async {
                let response = caller.message().await;
                assert_eq!(sent.elapsed(), Duration::from_millis(elapsed));
                response
            },
            async {
                upstream.head().await;
                sleep(Duration::from_millis(answer_after)).await;
                if status == 200 {
                    upstream.send(OK).await;
                } else {
                    upstream.closed().await;
                }
            }
        );
        assert_eq!(response.status(), status);
        assert_eq!(response.flag(), if status == 200 { "none" } else { "UT" });
        world.settle().await;
        world.assert_at_rest();
        assert_eq!(world.counts().rq_timeout, u64::from(status == 504));
        assert_eq!(world.refused("UT"), u64::from(status == 504));
    }
}

/// The head is out, so there is no status to tell it with: the connection is cut.
#[tokio::test(start_paused = true)]
async fn a_body_that_stalls_is_cut_at_the_limit() {
    for (head, part) in
        [("content-length: 10", "hello"), ("transfer-encoding: chunked", "5\r\nhello\r\n")]
    {
        let mut world = World::new();
        let mut caller = world.caller();
        let sent = Instant::now();
        caller.send(GET).await;
        let mut upstream = world.upstream().await;
        upstream.head().await;
        upstream.send(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n{part}")).await;
        assert!(caller.head().await.contains(head));
        assert_eq!(caller.rest().await, part, "no end of a body that did not end");
        assert_eq!(sent.elapsed(), Duration::from_secs(1));
        upstream.closed().await;
        world.settle().await;
        world.assert_at_rest();
        assert_eq!((world.counts().rq_timeout, world.counts().rq_success), (1, 0));
        assert_eq!((world.refused("UT"), world.refused("DC")), (1, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_breaks_off_or_is_garbled_is_cut() {
    for (message, flag) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello", "UC"),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\nxyz\r\n", "UPE"),
    ] {
        let mut world = World::new();
        let mut caller = world.caller();
        caller.send(GET).await;
        let mut upstream = world.upstream().await;
        upstream.head().await;
        upstream.send(message).await;
        drop(upstream);
        caller.head().await;
        let rest = caller.rest().await;
        assert!(!rest.ends_with("0\r\n\r\n") && rest.len() < 12, "{rest:?}");
        world.settle().await;
        world.assert_at_rest();
        assert_eq!((world.counts().rq_failed, world.refused(flag), world.refused("DC")), (1, 1, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_cannot_be_made_is_503() {
    for (dialing, elapsed, reason) in [
        (Dialing::IsRefused, 0, "connection refused"),
        (Dialing::Hangs, 300, "no connection within 300ms"),
    ] {
        let world = World::with(dialing, "connect_timeout = \"300ms\"", ROUTE);
        let mut caller = world.caller();
        let sent = Instant::now();
        caller.send(GET).await;
        let response = caller.message().await;
        assert_eq!(sent.elapsed(), Duration::from_millis(elapsed));
        assert_eq!((response.status(), response.flag()), (503, "UF"));
        assert!(response.body.contains(reason), "{}", response.body);
        world.assert_at_rest();
        assert_eq!((world.counts().rq_failed, world.counts().cx_connect_fail), (1, 1));
    }
}

/// A route may be more impatient than its cluster's connect timeout.
#[tokio::test(start_paused = true)]
async fn the_route_timeout_covers_connecting() {
    let world = World::with(Dialing::Hangs, "connect_timeout = \"5s\"", ROUTE);
    let mut caller = world.caller();
    let sent = Instant::now();
    caller.send(GET).await;
    assert_eq!(caller.message().await.status(), 504);
    assert_eq!(sent.elapsed(), Duration::from_secs(1));
    world.assert_at_rest();
}

#[tokio::test(start_paused = true)]
async fn what_is_no_answer_is_502() {
    let switching = "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n";
    for (answer, flag) in [
        ("", "UC"),
        ("HTTP/1.1 200 OK\r\ncontent-le", "UC"),
        ("HTTP/1.1 100 Continue\r\n\r\n", "UC"),
        ("SSH-2.0-OpenSSH_9.2\r\n\r\n", "UPE"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab", "UPE"),
        ("HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n", "UPE"),
        (switching, "UPE"),
    ] {
        let mut world = World::new();
        let response = world.broken(answer).await;
        assert_eq!((response.status(), response.flag()), (502, flag), "{answer:?}");
        world.settle().await;
        world.assert_at_rest();
        assert_eq!((world.counts().rq_failed, world.refused(flag)), (1, 1));
    }
}

/// What the caller does wrong is not held against the endpoint.
#[tokio::test(start_paused = true)]
async fn a_broken_request_body_is_the_callers_doing() {
    let head = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n";
    let mut world = World::new();
    let mut caller = world.caller();
    caller.send(head).await;
    let mut upstream = world.upstream().await;
    upstream.head().await;
    caller.send("xyz\r\n").await;
    let response = caller.message().await;
    assert_eq!((response.status(), response.flag()), (400, "DPE"));
    assert_eq!(upstream.rest().await, "5\r\nhello\r\n", "the end of the body is not made up");

    let mut caller = world.caller();
    caller.send(head).await;
    let mut upstream = world.upstream().await;
    upstream.head().await;
    drop(caller);
    assert_eq!(upstream.rest().await, "5\r\nhello\r\n");
    world.settle().await;
    world.assert_at_rest();
    let counts = world.counts();
    assert_eq!((counts.rq_failed, counts.rq_cancelled), (0, 2));
    assert_eq!((world.refused("DPE"), world.refused("DC")), (1, 1));
}
