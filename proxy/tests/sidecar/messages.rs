//! What is passed on, and what is not.

use crate::world::World;

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const GET: &str = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";

fn first_line(head: &str) -> &str {
    head.lines().next().unwrap_or("")
}

/// The order of fields with different names means nothing.
fn sorted_lines(head: &str) -> Vec<&str> {
    let mut lines: Vec<_> = head.lines().collect();
    lines.sort_unstable();
    lines
}

#[tokio::test(start_paused = true)]
async fn what_speaks_of_one_connection_is_not_passed_on() {
    let request = "GET /a?b=c HTTP/1.1\r\nhost: a:80\r\nconnection: close, x-hop\r\nx-hop: 1\r\n\
                   keep-alive: 5\r\nproxy-connection: x\r\nupgrade: websocket\r\nte: deflate\r\n\
                   via: 1.0 other\r\nx-end: 2\r\n\r\n";
    let response = "HTTP/1.1 200 Fine\r\nconnection: x-hop\r\nx-hop: 1\r\nkeep-alive: 5\r\n\
                    upgrade: h2c\r\nx-end: 2\r\ncontent-length: 2\r\n\r\nok";
    let mut world = World::new();
    let (got, answer) = world.exchange(request, response).await;
    let got = sorted_lines(&got.head);
    let expected = [
        "",
        "GET /a?b=c HTTP/1.1",
        "host: a:80",
        "via: 1.0 other",
        "via: 1.1 meshbench",
        "x-end: 2",
        "x-envoy-attempt-count: 1",
        "x-envoy-expected-rq-timeout-ms: 1000",
    ];
    assert_eq!(got, expected);
    // `close` is our own, because the caller asked for it.
    let expected = ["", "HTTP/1.1 200 Fine", "connection: close", "content-length: 2", "x-end: 2"];
    assert_eq!(sorted_lines(&answer.head), expected);
    assert_eq!(answer.body, "ok");
    // What was said about the caller's connection did not close ours to the upstream.
    world.settle().await;
    assert_eq!(world.idle(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_target_goes_out_in_origin_form_with_its_authority_as_host() {
    let request = "GET http://b:81/x?y HTTP/1.1\r\nhost: a\r\n\r\n";
    let (got, answer) = World::new().exchange(request, OK).await;
    assert_eq!(first_line(&got.head), "GET /x?y HTTP/1.1");
    assert_eq!((got.field("host"), answer.status()), (Some("b:81"), 200));

    let (got, _) = World::new().exchange("OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n", OK).await;
    assert_eq!(first_line(&got.head), "OPTIONS * HTTP/1.1");
}

#[tokio::test(start_paused = true)]
async fn an_http_1_0_caller_is_served_in_its_version() {
    let mut world = World::new();
    let mut caller = world.caller();
    caller.send("GET / HTTP/1.0\r\n\r\n").await;
    let mut upstream = world.upstream().await;
    let got = upstream.message().await;
    assert_eq!(first_line(&got.head), "GET / HTTP/1.1");
    assert_eq!((got.field("host"), got.field("via")), (Some(""), Some("1.0 meshbench")));
    upstream
        .send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n")
        .await;
    let head = caller.head().await;
    assert_eq!(first_line(&head), "HTTP/1.0 200 OK");
    assert!(!head.contains("chunked"), "{head}");
    assert_eq!(caller.rest().await, "ok");
}

/// An upstream that speaks HTTP/1.0 ends its body by closing.
#[tokio::test(start_paused = true)]
async fn an_http_1_0_upstream_is_understood() {
    let mut world = World::new();
    let answer = world.broken("HTTP/1.0 200 OK\r\n\r\nok").await;
    assert_eq!((first_line(&answer.head), answer.body.as_str()), ("HTTP/1.1 200 OK", "ok"));
    world.settle().await;
    world.assert_at_rest();
    assert_eq!(world.counts().rq_success, 1);
}

/// A length without a body, and no body where there can be none: the next response on the same
/// connections is not taken for it.
#[tokio::test(start_paused = true)]
async fn responses_without_a_body_leave_both_connections_in_order() {
    let mut world = World::new();
    let mut caller = world.caller();
    caller.send("HEAD / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let mut upstream = world.upstream().await;
    let cases = [
        ("HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n", Some("1000")),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", None),
        // hyper leaves this length out, as it may (RFC 9110 §8.6).
        ("HTTP/1.1 304 Not Modified\r\ncontent-length: 7\r\n\r\n", None),
        ("HTTP/1.1 204 No Content\r\n\r\n", None),
    ];
    for (nth, (answer, length)) in cases.into_iter().enumerate() {
        let method = if nth < 2 { "HEAD" } else { "GET" };
        if nth > 0 {
            caller.send(format!("{method} / HTTP/1.1\r\nhost: a\r\n\r\n")).await;
        }
        assert!(upstream.head().await.starts_with(method));
        upstream.send(answer).await;
        let head = caller.head().await;
        assert_eq!(first_line(&head), first_line(answer));
        assert_eq!(crate::peer::field(&head, "content-length"), length);
    }
    caller.send(GET).await;
    upstream.head().await;
    upstream.send(OK).await;
    assert_eq!(caller.message().await.body, "ok");
    assert_eq!((world.counts().cx_total, world.counts().rq_success), (1, 5));
}

/// RFC 9112 §6.3: a length that a transfer coding overrides must not reach the caller, who might
/// believe it and take the rest for the next response. (A request with both is refused.)
#[tokio::test(start_paused = true)]
async fn a_length_beside_chunks_is_not_passed_on() {
    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n\
                  5\r\nhello\r\n0\r\n\r\n";
    let (_, got) = World::new().exchange(GET, answer).await;
    assert_eq!((got.field("content-length"), got.body.as_str()), (None, "hello"));
}

/// `Connection` may list anything, but must not take away a body's end.
#[tokio::test(start_paused = true)]
async fn a_length_cannot_be_listed_away() {
    let request = "POST / HTTP/1.1\r\nhost: a\r\nconnection: content-length\r\n\
                   content-length: 5\r\n\r\nhello";
    let (got, _) = World::new().exchange(request, OK).await;
    assert_eq!((got.field("content-length"), got.body.as_str()), (Some("5"), "hello"));
}

#[tokio::test(start_paused = true)]
async fn chunks_and_trailers_are_passed_on_in_both_directions() {
    let request = "POST / HTTP/1.1\r\nhost: a\r\nte: trailers\r\nconnection: te\r\n\
                   trailer: x-sum\r\ntransfer-encoding: chunked\r\n\r\n\
                   5\r\nhello\r\n6\r\n world\r\n0\r\nx-sum: 11\r\n\r\n";
    let answer = "HTTP/1.1 200 OK\r\ntrailer: x-check\r\ntransfer-encoding: chunked\r\n\r\n\
                  2\r\nok\r\n0\r\nx-check: 2\r\n\r\n";
    let mut world = World::new();
    let (got, answer) = world.exchange(request, answer).await;
    assert_eq!(got.body, "hello worldx-sum: 11\r\n");
    assert_eq!((got.field("te"), got.field("connection")), (Some("trailers"), Some("te")));
    assert_eq!(answer.body, "okx-check: 2\r\n");
    world.settle().await;
    world.assert_at_rest();
    assert_eq!((world.idle(), world.counts().rq_success, world.refused("DC")), (1, 1, 0));
}

/// A caller that did not ask for trailers gets the body without them.
#[tokio::test(start_paused = true)]
async fn trailers_that_nobody_wants_are_left_out() {
    let answer = "HTTP/1.1 200 OK\r\ntrailer: x-check\r\ntransfer-encoding: chunked\r\n\r\n\
                  2\r\nok\r\n0\r\nx-check: 2\r\n\r\n";
    let mut world = World::new();
    let (got, answer) = world.exchange(GET, answer).await;
    assert_eq!((got.field("te"), answer.body.as_str()), (None, "ok"));
    world.settle().await;
    world.assert_at_rest();
    assert_eq!((world.idle(), world.refused("DC")), (1, 0));
}

/// A GET may have a body; one of unknown length is no exception.
#[tokio::test(start_paused = true)]
async fn the_body_of_a_get_is_passed_on() {
    let chunked =
        "GET / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    let sized = "GET / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello";
    for request in [chunked, sized] {
        let (got, _) = World::new().exchange(request, OK).await;
        assert_eq!(got.body, "hello");
    }
}

/// The caller waits for `100 Continue`, and gets exactly one.
#[tokio::test(start_paused = true)]
async fn an_expectation_is_met_once() {
    let mut world = World::new();
    let mut caller = world.caller();
    caller
        .send("POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n")
        .await;
    let mut upstream = world.upstream().await;
    upstream.head().await;
    upstream.send("HTTP/1.1 100 Continue\r\n\r\n").await;
    assert_eq!(caller.head().await, "HTTP/1.1 100 Continue\r\n\r\n");
    caller.send("hello").await;
    assert_eq!(upstream.take(5).await.as_deref(), Some("hello"));
    upstream.send(OK).await;
    assert_eq!(caller.message().await.status(), 200);
}

/// Requests may be sent ahead; answers come one by one and in order.
#[tokio::test(start_paused = true)]
async fn pipelined_requests_are_answered_in_order() {
    let mut world = World::new();
    let mut caller = world.caller();
    caller.send("GET /1 HTTP/1.1\r\nhost: a\r\n\r\nGET /2 HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let mut upstream = world.upstream().await;
    for nth in ["1", "2"] {
        let head = upstream.head().await;
        assert!(head.starts_with(&format!("GET /{nth} ")), "{head}");
        world.settle().await;
        upstream.send(format!("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n{nth}")).await;
        assert_eq!(caller.message().await.body, nth);
    }
    assert_eq!(world.counts().cx_total, 1);
}

/// An upgrade is not passed on, and the connection goes on as before.
#[tokio::test(start_paused = true)]
async fn an_upgrade_that_is_not_made_changes_nothing() {
    let mut world = World::new();
    let mut caller = world.caller();
    caller
        .send("GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")
        .await;
    let mut upstream = world.upstream().await;
    for _ in 0..2 {
        let head = upstream.head().await;
        assert!(!head.contains("upgrade"), "{head}");
        upstream.send(OK).await;
        assert_eq!(caller.message().await.body, "ok");
        caller.send(GET).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_head_has_a_bound() {
    let field = |length: usize| {
        format!("GET / HTTP/1.1\r\nhost: a\r\nx-long: {}\r\n\r\n", "x".repeat(length))
    };
    let (got, _) = World::new().exchange(&field(60_000), OK).await;
    assert_eq!(got.field("x-long").map(str::len), Some(60_000));
    let world = World::new();
    let mut caller = world.caller();
    // Not all of it finds a reader.
    let _ = caller.try_send(field(70_000)).await;
    assert_eq!(caller.message().await.status(), 431);
}
