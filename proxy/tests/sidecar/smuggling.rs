//! Requests that two recipients could read differently: refused, and nothing of them passed on.
//!
//! What is refused is listed with `listener::framing`; here is that a refusal comes in its turn,
//! ends the connection, and reaches no upstream, over the whole path and however it is split.

use tokio::time::{Duration, sleep};

use crate::world::{Dialing, World};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const GET: &str = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
/// What a smuggler wants an upstream to take for a request.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n";

fn heads() -> Vec<(u16, String)> {
    let bad = [
        "content-length: 5\r\ntransfer-encoding: chunked",
        "transfer-encoding: chunked\r\ncontent-length: 5",
        "content-length: 5\r\ncontent-length: 6",
        "content-length: 5\r\ncontent-length: 5",
        "content-length: 5, 5",
        "content-length: +5",
        "transfer-encoding: xchunked",
        "transfer-encoding: chunked, identity",
        "transfer-encoding: chunked, chunked",
        "transfer-encoding: \u{b}chunked",
        "transfer-encoding: chunked\u{e9}",
        "transfer-encoding:\r\n chunked",
        "transfer-encoding : chunked",
        "x: y\ntransfer-encoding: chunked",
        "x: y\rtransfer-encoding: chunked",
        "x: \0",
        " x: y",
        "host: b",
    ];
    let mut heads: Vec<_> = bad
        .iter()
        .map(|fields| (400, format!("POST / HTTP/1.1\r\nhost: a\r\n{fields}\r\n\r\n0\r\n\r\n")))
        .collect();
    heads.extend([
        (400, "GET / HTTP/1.1\nhost: a\n\n".to_owned()),
        (400, "GET / a HTTP/1.1\r\nhost: a\r\n\r\n".to_owned()),
        (400, "GET / HTTP/1.1\r\n\r\n".to_owned()),
        (400, "POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n".to_owned()),
        (400, "nonsense\r\n\r\n".to_owned()),
        (505, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned()),
        (431, format!("GET / HTTP/1.1\r\nhost: a\r\n{}\r\n", "x: y\r\n".repeat(100))),
        (431, format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "y".repeat(65_536))),
        (414, format!("GET /{} HTTP/1.1\r\nhost: a\r\n\r\n", "y".repeat(65_536))),
    ]);
    heads
}

/// At the start of a connection, and split so that hyper could have seen half of it.
#[tokio::test(start_paused = true)]
async fn a_head_that_can_be_read_in_two_ways_is_refused() {
    let world = World::new();
    let heads = heads();
    for (status, head) in &heads {
        for cut in [0, 10, 30] {
            let mut caller = world.caller();
            let (start, rest) = head.split_at(cut.min(head.len()));
            caller.send(start).await;
            world.settle().await;
            // Not all of a head that is too large finds a reader.
            let _ = caller.try_send(format!("{rest}{SMUGGLED}")).await;
            let answer = caller.message().await;
            assert_eq!((answer.status(), answer.flag()), (*status, "DPE"), "{head:?}");
            assert_eq!(answer.field("connection"), Some("close"));
            assert!(answer.field("x-sidecar-reason").is_some_and(|reason| !reason.is_empty()));
            caller.closed().await;
        }
    }
    let refused = world.metric("sidecar_downstream_cx_protocol_error_total{listener=\"in\"}");
    assert_eq!(refused, 3 * heads.len() as u64);
    assert_eq!((world.counts().rq_total, world.received()), (0, 0));
    assert_eq!(world.dials.load(std::sync::atomic::Ordering::Relaxed), 0);
}

/// Behind sound requests a refusal waits for its turn.
#[tokio::test(start_paused = true)]
async fn a_refusal_comes_behind_the_answers_to_earlier_requests() {
    for (status, head) in heads().into_iter().filter(|(_, head)| head.len() < 1000) {
        let mut world = World::new();
        let mut caller = world.caller();
        caller.send(format!("{GET}{GET}{head}{SMUGGLED}")).await;
        let mut upstream = world.upstream().await;
        for _ in 0..2 {
            assert!(upstream.head().await.starts_with("GET / "));
            sleep(Duration::from_millis(100)).await;
            upstream.send(OK).await;
            assert_eq!(caller.message().await.body, "ok");
        }
        assert_eq!(caller.message().await.status(), status, "{head:?}");
        caller.closed().await;
        world.settle().await;
        world.assert_at_rest();
        assert_eq!((world.counts().rq_total, world.idle()), (2, 1));
    }
}

const BODIES: [&str; 10] = [
    "0x5\r\nhello\r\n0\r\n\r\n",
    "+5\r\nhello\r\n0\r\n\r\n",
    "5 \r\nhello\r\n0\r\n\r\n",
    "5\nhello\r\n0\r\n\r\n",
    "5;a\nb\r\nhello\r\n0\r\n\r\n",
    "fffffffffffffffff\r\nhello\r\n0\r\n\r\n",
    "5\r\nhello0\r\n\r\n",
    "5\r\nhello\n0\r\n\r\n",
    "0\r\nhost: b\r\n\r\n",
    "0\r\nx : y\r\n\r\n",
];
const CHUNKED: &str = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";

/// A body that comes with its head is judged before the head is passed on.
#[tokio::test(start_paused = true)]
async fn a_body_that_can_be_read_in_two_ways_is_refused_with_its_head() {
    let world = World::new();
    for body in BODIES {
        let mut caller = world.caller();
        caller.send(format!("{CHUNKED}{body}{SMUGGLED}")).await;
        let answer = caller.message().await;
        assert_eq!((answer.status(), answer.field("connection")), (400, Some("close")), "{body:?}");
        caller.closed().await;
    }
    assert_eq!((world.counts().rq_total, world.received()), (0, 0));
}

/// One that comes later is broken off: the upstream never sees an end of it.
#[tokio::test(start_paused = true)]
async fn a_body_that_turns_bad_is_broken_off() {
    for body in BODIES {
        let mut world = World::new();
        let mut caller = world.caller();
        caller.send(format!("{CHUNKED}3\r\nabc\r\n")).await;
        let mut upstream = world.upstream().await;
        upstream.head().await;
        caller.send(format!("{body}{SMUGGLED}")).await;
        let answer = caller.message().await;
        assert_eq!((answer.status(), answer.flag()), (400, "DPE"), "{body:?}");
        caller.closed().await;
        let got = upstream.rest().await;
        assert!(!got.contains("0\r\n\r\n") && !got.contains("smuggled"), "{body:?}: {got:?}");
        world.settle().await;
        world.assert_at_rest();
        assert_eq!((world.counts().rq_cancelled, world.idle()), (1, 0));
    }
}

/// When the response has begun, all that is left is to cut it.
#[tokio::test(start_paused = true)]
async fn a_body_that_turns_bad_behind_a_response_cuts_it() {
    let mut world = World::with(Dialing::Works, "", crate::world::ROUTE);
    let mut caller = world.caller();
    caller.send(format!("{CHUNKED}3\r\nabc\r\n")).await;
    let mut upstream = world.upstream().await;
    upstream.head().await;
    upstream.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\no").await;
    caller.head().await;
    caller.send("xyz\r\n").await;
    assert_eq!(caller.rest().await, "o");
    assert!(!upstream.rest().await.ends_with("0\r\n\r\n"));
    world.settle().await;
    world.assert_at_rest();
}

/// Pipelined requests of every kind, split anywhere, arrive as they were sent.
#[tokio::test(start_paused = true)]
async fn sound_requests_arrive_whole_however_they_are_split() {
    let sent = "\r\nPOST /1 HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello\
                GET /2 HTTP/1.1\r\nhost: a\r\n\r\n\r\n\
                POST /3 HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n\
                3;x=y\r\nhel\r\n2\r\nlo\r\n0\r\nx-sum: 5\r\n\r\n\
                GET /4 HTTP/1.1\r\nhost: a\r\n\r\n";
    for step in 1..=sent.len() {
        let mut world = World::new();
        let mut caller = world.caller();
        let mut upstream = None;
        let (mut got, mut pieces) = (Vec::new(), sent.as_bytes().chunks(step));
        while got.len() < 4 {
            if let Some(piece) = pieces.next() {
                caller.send(piece).await;
                tokio::task::yield_now().await;
            }
            if pieces.len() > 0 {
                continue;
            }
            if upstream.is_none() {
                upstream = Some(world.upstream().await);
            }
            if let Some(upstream) = &mut upstream {
                let message = upstream.message().await;
                let target = message.head.split(' ').nth(1).map(str::to_owned);
                got.push((target.unwrap_or_default(), message.body));
                upstream.send(OK).await;
                assert_eq!(caller.message().await.body, "ok", "in steps of {step}");
            }
        }
        let bodies = [("/1", "hello"), ("/2", ""), ("/3", "hello"), ("/4", "")];
        for ((target, body), (wanted, start)) in got.iter().zip(bodies) {
            assert_eq!(target, wanted, "in steps of {step}");
            assert!(body.starts_with(start), "{body:?} in steps of {step}");
        }
        assert_eq!(world.counts().cx_total, 1);
    }
}
