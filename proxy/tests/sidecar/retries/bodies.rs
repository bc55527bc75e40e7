//! What was sent is sent again byte for byte, or the response says why it was not.

use std::time::Duration;

use tokio::time::sleep;

use super::{STAY, THREE};
use crate::script::{Act, Fleet, OK, Seen, UNAVAILABLE};

fn fails_twice(seen: &Seen) -> Act {
    match seen.nth {
        0 => Act::say(UNAVAILABLE),
        1 => Act::close(),
        _ => Act::say(OK),
    }
}

/// 40,000 bytes of which no two parts are alike.
fn body() -> String {
    (0..8_000).map(|nth| format!("{nth:04};")).collect()
}

#[tokio::test(start_paused = true)]
async fn a_sized_body_is_replayed() {
    let fleet = Fleet::new(&THREE, "", "", fails_twice);
    let body = body();
    let head = format!("PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n", body.len());
    let answer = fleet.ask(head + &body).await;
    assert_eq!((answer.status(), answer.field("x-envoy-attempt-count")), (200, Some("3")));
    let seen = fleet.seen();
    assert_eq!(seen.len(), 3);
    for seen in seen {
        assert_eq!(seen.request.field("content-length"), Some("40000"));
        assert!(seen.request.body == body, "attempt {}", seen.attempt());
    }
    fleet.at_rest().await;
}

#[tokio::test(start_paused = true)]
async fn a_chunked_body_is_replayed_with_its_trailers() {
    let fleet = Fleet::new(&THREE, "", "", fails_twice);
    let head = "PUT / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n";
    let chunks = "5\r\nfirst\r\n1\r\n;\r\n6\r\nsecond\r\n0\r\nx-sum: 12\r\n\r\n";
    let mut caller = fleet.caller();
    caller.send(head).await;
    // In pieces that have nothing to do with the chunks.
    for piece in chunks.as_bytes().chunks(7) {
        caller.send(piece).await;
        sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(caller.message().await.status(), 200);
    let seen = fleet.seen();
    assert_eq!(seen.len(), 3);
    for seen in seen {
        assert_eq!(seen.request.field("transfer-encoding"), Some("chunked"));
        assert_eq!(seen.request.body, "first;secondx-sum: 12\r\n", "attempt {}", seen.attempt());
    }
    fleet.at_rest().await;
}

/// At the limit a body is kept, beyond it not; that is said, and costs the request nothing else.
#[tokio::test(start_paused = true)]
async fn a_body_that_is_too_long_is_sent_on_and_not_again() {
    let sized = |length: usize| {
        let head = format!("PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n");
        head + &"x".repeat(length)
    };
    let chunked = |length: usize| {
        let head = "PUT / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
        head.to_owned() + &"1\r\nx\r\n".repeat(length) + "0\r\n\r\n"
    };
    for request in [&sized as &dyn Fn(usize) -> String, &chunked] {
        for (length, is_kept) in [(100, true), (101, false)] {
            let fleet = Fleet::new(&THREE, STAY, "retry.max_body_bytes = 100", fails_twice);
            let answer = fleet.ask(request(length)).await;
            let why = answer.field("x-sidecar-retry-given-up");
            let expected = if is_kept { (200, None, 3) } else { (503, Some("body_too_large"), 1) };
            assert_eq!((answer.status(), why, fleet.seen().len()), expected, "{length}");
            assert_eq!(fleet.seen()[0].request.body.len(), length);
            fleet.at_rest().await;

            let well = Fleet::new(&THREE, STAY, "retry.max_body_bytes = 100", |_| Act::say(OK));
            let answer = well.ask(request(length)).await;
            assert_eq!((answer.status(), answer.field("x-sidecar-retry-given-up")), (200, None));
        }
    }
}

/// No endpoint is blamed, none is asked again, and the caller's end is counted as its own.
#[tokio::test(start_paused = true)]
async fn a_caller_that_breaks_off_its_body_is_nobodys_failure() {
    let requests = [
        "PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nhalf",
        "PUT / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    ];
    for request in requests {
        let fleet = Fleet::new(&["a:80"], "", "", |_| Act::say(OK));
        // Far more than eject an endpoint.
        for _ in 0..20 {
            let mut caller = fleet.caller();
            caller.send(request).await;
            fleet.settle().await;
            drop(caller);
            fleet.settle().await;
        }
        fleet.at_rest().await;
        let attempts = fleet.stack.telemetry().conservation().attempts();
        assert_eq!((attempts.started(), attempts.failed, attempts.cancelled), (20, 0, 20));
        let requests = fleet.stack.telemetry().request_totals();
        assert_eq!((requests.ok, requests.failed), (0, 0));
        let state = fleet.stack.clusters()[0].state(proxy::policy::balance::EndpointId(0));
        assert_eq!(state, proxy::policy::outlier::GateState::Available);
        assert_eq!(fleet.dialled().len(), 20, "tried again");
    }
}

/// What is malformed is the caller's fault as well, and it is told so.
#[tokio::test(start_paused = true)]
async fn a_malformed_body_is_not_tried_again() {
    let fleet = Fleet::new(&THREE, "", "", |_| Act::say(OK));
    let head = "PUT / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n";
    let mut caller = fleet.caller();
    caller.send(head).await;
    fleet.settle().await;
    caller.send("nonsense\r\n").await;
    let answer = caller.message().await;
    assert_eq!((answer.status(), answer.flag()), (400, "DPE"));
    assert_eq!((fleet.dialled().len(), fleet.seen().len()), (1, 0));
    fleet.at_rest().await;
}
