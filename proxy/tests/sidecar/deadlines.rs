//! No work for nobody: the six properties of a deadline, each by itself.
//!
//! What the caller allows travels with the request as time that is left; it only becomes less.

use std::time::Duration;

use futures_util::future::join_all;
use proxy::policy::balance::EndpointId;
use proxy::policy::outlier::GateState;
use tokio::time::{Instant, sleep};

use crate::peer::Message;
use crate::script::{Act, Fleet, GET, OK, Seen, UNAVAILABLE};

const THREE: [&str; 3] = ["a:80", "b:80", "c:80"];
const STAY: &str = "outlier.enabled = false";
const ONE_SECOND: &str = "timeout = \"1s\"";

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn get(fields: &str) -> String {
    format!("GET / HTTP/1.1\r\nhost: a\r\n{fields}\r\n\r\n")
}

async fn timed(fleet: &Fleet, request: impl AsRef<[u8]>) -> (Message, Duration) {
    let asked = Instant::now();
    let answer = fleet.ask(request).await;
    (answer, asked.elapsed())
}

/// In microseconds; only the units that occur here.
fn grpc_us(seen: &Seen) -> Option<u64> {
    let value = seen.request.field("grpc-timeout")?;
    let (digits, unit) = value.split_at(value.len() - 1);
    let number: u64 = digits.parse().expect("a number");
    Some(match unit {
        "n" => number.div_ceil(1000),
        "u" => number,
        "m" => number * 1000,
        "S" => number * 1_000_000,
        other => panic!("unit {other}"),
    })
}

/// No endpoint was told more than what was left of `limit` when it got the request.
fn assert_never_more_than_left(fleet: &Fleet, asked: Instant, limit: Duration) {
    for seen in fleet.seen() {
        let left = limit.saturating_sub(seen.at - asked);
        let told = Duration::from_millis(seen.told_ms());
        let (attempt, at) = (seen.attempt(), seen.at - asked);
        assert!(told <= left, "attempt {attempt} was told {told:?} after {at:?} of {limit:?}");
        // Nor much less: it is no use to be told nothing.
        assert!(left - told <= ms(2), "attempt {attempt} was told {told:?} of {left:?}");
        if let Some(us) = grpc_us(&seen) {
            assert!(Duration::from_micros(us) <= left);
        }
    }
}

// 1. What the next hop is told is no more than what is left.

#[tokio::test(start_paused = true)]
async fn each_attempt_is_told_what_is_left() {
    for fields in [
        "x-envoy-expected-rq-timeout-ms: 800",
        "x-envoy-upstream-rq-timeout-ms: 800",
        "grpc-timeout: 800m",
        "grpc-timeout: 800000u\r\nx-envoy-expected-rq-timeout-ms: 900",
    ] {
        let script = |seen: &Seen| match seen.nth {
            0 | 1 => Act::later(200, UNAVAILABLE),
            _ => Act::later(200, OK),
        };
        let fleet = Fleet::new(&THREE, STAY, ONE_SECOND, script);
        let asked = Instant::now();
        assert_eq!(fleet.ask(get(fields)).await.status(), 200);
        let seen = fleet.seen();
        assert_eq!(seen.len(), 3);
        assert_never_more_than_left(&fleet, asked, ms(800));
        for seen in seen {
            assert_eq!(grpc_us(&seen).is_some(), fields.starts_with("grpc"), "{fields}");
            assert_eq!(seen.request.field("x-envoy-upstream-rq-timeout-ms"), None);
        }
        fleet.at_rest().await;
    }
}

/// The wait in our queue, and that for the connection, are not the next hop's to spend again.
#[tokio::test(start_paused = true)]
async fn what_was_waited_here_is_taken_off() {
    let script = |_: &Seen| Act::later(300, OK);
    let fleet = Fleet::new(&["a:80"], "max_connections = 1", ONE_SECOND, script);
    let asked = Instant::now();
    let mut callers = [fleet.caller(), fleet.caller()];
    for caller in &mut callers {
        caller.send(get("grpc-timeout: 800m")).await;
    }
    for caller in &mut callers {
        assert_eq!(caller.message().await.status(), 200);
    }
    let waits: Vec<_> = fleet.seen().iter().map(|seen| seen.at - asked).collect();
    assert!(waits[1] >= ms(300), "{waits:?}");
    assert_never_more_than_left(&fleet, asked, ms(800));
    fleet.at_rest().await;
}

#[tokio::test(start_paused = true)]
async fn each_hop_is_told_what_is_left() {
    let script = |seen: &Seen| match seen.nth {
        0 => Act::later(200, UNAVAILABLE),
        _ => Act::later(200, OK),
    };
    // The inner hop waits longer than the outer, if it is let.
    let inner = Fleet::new(&THREE, STAY, "timeout = \"15s\"", script);
    let outer = Fleet::before(&inner, STAY, ONE_SECOND);
    for fields in ["x-envoy-upstream-rq-timeout-ms: 800", "grpc-timeout: 800m"] {
        let asked = Instant::now();
        let nth = inner.seen().len();
        assert_eq!(outer.ask(get(fields)).await.status(), 200);
        for seen in &inner.seen()[nth..] {
            let left = ms(800) - (seen.at - asked);
            assert!(Duration::from_millis(seen.told_ms()) <= left, "{fields}");
            assert!(grpc_us(seen).is_none_or(|us| Duration::from_micros(us) <= left), "{fields}");
        }
    }
    assert_eq!(inner.seen().len(), 3);
    outer.at_rest().await;
    inner.at_rest().await;
}

/// And when it is over at the first hop, it is over at the last.
#[tokio::test(start_paused = true)]
async fn both_hops_give_up_together() {
    let inner = Fleet::new(&THREE, STAY, "timeout = \"15s\"", |_| Act::hang());
    let outer = Fleet::before(&inner, STAY, ONE_SECOND);
    let asked = Instant::now();
    let answer = outer.ask(get("x-envoy-upstream-rq-timeout-ms: 400")).await;
    assert_eq!((answer.status(), answer.flag()), (504, "UT"));
    assert!((ms(399)..=ms(401)).contains(&asked.elapsed()), "{:?}", asked.elapsed());
    inner.settle().await;
    let left = inner.left();
    assert_eq!((left.len(), inner.seen().len()), (1, 1));
    assert!(left[0].1 - asked <= ms(401), "{:?}", left[0].1 - asked);
    outer.at_rest().await;
    inner.at_rest().await;
}

// 2. With nothing left, no upstream is asked.

#[tokio::test(start_paused = true)]
async fn what_is_over_on_arrival_is_refused_at_once() {
    for fields in [
        "x-envoy-expected-rq-timeout-ms: 0",
        "x-envoy-expected-rq-timeout-ms: -5",
        "grpc-timeout: 0n",
        "grpc-timeout: 0S\r\nx-envoy-expected-rq-timeout-ms: 800",
        // It could not be told of less than a millisecond.
        "grpc-timeout: 999u",
    ] {
        let fleet = Fleet::new(&THREE, "", "", |_| Act::say(OK));
        let (answer, elapsed) = timed(&fleet, get(fields)).await;
        assert_eq!((answer.status(), answer.flag()), (504, "DT"), "{fields}");
        assert!(answer.field("x-sidecar-reason").is_some());
        assert_eq!(elapsed, Duration::ZERO);
        assert_eq!((fleet.dialled().len(), fleet.seen().len()), (0, 0), "{fields}");
        fleet.at_rest().await;
        assert_eq!(fleet.metric("sidecar_downstream_rq_refused_total{flag=\"DT\"}"), 1);
    }
    let fleet = Fleet::new(&THREE, "", "", |_| Act::say(OK));
    assert_eq!(fleet.ask(get("grpc-timeout: 1m")).await.status(), 200, "1 ms is some");
}

#[tokio::test(start_paused = true)]
async fn what_expires_in_our_queue_asks_nobody() {
    let cluster = "max_connections = 1\nqueue_timeout = \"10s\"";
    let fleet = Fleet::new(&["a:80"], cluster, ONE_SECOND, |_| Act::later(900, OK));
    let mut first = fleet.caller();
    first.send(GET).await;
    fleet.settle().await;
    let (answer, elapsed) = timed(&fleet, get("x-envoy-expected-rq-timeout-ms: 100")).await;
    assert_eq!((answer.status(), answer.flag()), (504, "UT"));
    assert!((ms(99)..=ms(101)).contains(&elapsed), "{elapsed:?}");
    assert_eq!(first.message().await.status(), 200);
    // Nor is it asked later.
    sleep(ms(500)).await;
    assert_eq!((fleet.dialled().len(), fleet.seen().len()), (1, 1));
    fleet.at_rest().await;
}

/// Less is left than the next hop could be told of: it would refuse the request, a round trip
/// later.
#[tokio::test(start_paused = true)]
async fn what_comes_out_of_our_queue_too_late_asks_nobody() {
    for (limit, asked_too) in [("100500u", false), ("102500u", true)] {
        let cluster = "max_connections = 1\nqueue_timeout = \"10s\"";
        let script = |seen: &Seen| match seen.nth {
            0 => Act::later(100, OK),
            _ => Act::say(OK),
        };
        let fleet = Fleet::new(&["a:80"], cluster, ONE_SECOND, script);
        let mut first = fleet.caller();
        first.send(GET).await;
        while fleet.seen().is_empty() {
            tokio::task::yield_now().await;
        }
        let answer = fleet.ask(get(&format!("grpc-timeout: {limit}"))).await;
        assert_eq!(answer.status(), if asked_too { 200 } else { 504 });
        assert_eq!(first.message().await.status(), 200);
        assert_eq!(fleet.seen().len(), 1 + usize::from(asked_too), "{limit}");
        fleet.at_rest().await;
    }
}

// 3. No retry that cannot be answered in time.

#[tokio::test(start_paused = true)]
async fn no_retry_beyond_the_deadline() {
    // The backoff is drawn up to 25 ms, which is what there is.
    let fleet = Fleet::new(&THREE, STAY, ONE_SECOND, |_| Act::later(80, UNAVAILABLE));
    for _ in 0..20 {
        let asked = Instant::now();
        let answer = fleet.ask(get("x-envoy-upstream-rq-timeout-ms: 82")).await;
        assert_eq!(answer.status(), if asked.elapsed() < ms(82) { 503 } else { 504 });
    }
    let deadlines: Vec<_> = fleet.seen().iter().map(Seen::told_ms).collect();
    assert!(deadlines.iter().all(|told| *told > 0), "{deadlines:?}");
    fleet.at_rest().await;
}

/// What a try takes is known after some: 200 ms. With less left none is begun, with more it is.
#[tokio::test(start_paused = true)]
async fn no_retry_that_would_be_answered_too_late() {
    for (limit, tries) in [(350, 1), (460, 2)] {
        let script = |seen: &Seen| match seen.nth {
            0..30 => Act::later(200, OK),
            30 => Act::later(200, UNAVAILABLE),
            _ => Act::later(200, OK),
        };
        let fleet = Fleet::new(&THREE, STAY, ONE_SECOND, script);
        for _ in 0..30 {
            fleet.ask(GET).await;
        }
        let fields = format!("x-envoy-upstream-rq-timeout-ms: {limit}");
        let (answer, elapsed) = timed(&fleet, get(&fields)).await;
        assert_eq!(fleet.seen().len(), 30 + tries, "{limit}");
        if tries == 1 {
            let why = answer.field("x-sidecar-retry-given-up");
            assert_eq!((answer.status(), why), (503, Some("deadline")));
            assert!(elapsed <= ms(201), "told as soon as it is known: {elapsed:?}");
        } else {
            assert_eq!(answer.status(), 200);
        }
        fleet.at_rest().await;
    }
}

// 4. When it fires, the upstream is left at once.

#[tokio::test(start_paused = true)]
async fn the_upstream_is_left_when_the_time_is_up() {
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf";
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n";
    for part in ["", "HTTP/1.1 200 O", head, chunked] {
        let script = move |_: &Seen| Act::Stall(part.to_owned());
        let fleet = Fleet::new(&THREE, "", "timeout = \"200ms\"", script);
        let asked = Instant::now();
        let mut caller = fleet.caller();
        caller.send(GET).await;
        let got = caller.rest();
        let got = tokio::time::timeout(ms(300), got).await;
        fleet.settle().await;
        let left = fleet.left();
        assert_eq!((left.len(), fleet.seen().len()), (1, 1), "{part:?}");
        let at = left[0].1 - asked;
        assert!((ms(199)..=ms(201)).contains(&at), "left after {at:?} of {part:?}");
        if part.contains("half") {
            // The caller is cut, so that it does not take the part for the whole.
            assert!(got.expect("cut").ends_with(if part == head { "half" } else { "half\r\n" }));
        }
        drop(caller);
        fleet.at_rest().await;
        assert_eq!(fleet.stack.telemetry().conservation().attempts().timed_out, 1);
        assert_eq!(fleet.metric("sidecar_downstream_rq_refused_total{flag=\"UT\"}"), 1);
    }
}

// 5. Callers may only shorten it.

#[tokio::test(start_paused = true)]
async fn a_caller_shortens_its_deadline_and_nothing_else() {
    for (fields, limit) in [
        ("x-envoy-upstream-rq-timeout-ms: 300", 300),
        ("x-envoy-expected-rq-timeout-ms: 300", 300),
        ("grpc-timeout: 300m", 300),
        ("grpc-timeout: 300m\r\nx-envoy-upstream-rq-timeout-ms: 400", 300),
        ("x-envoy-upstream-rq-timeout-ms: 5000", 1000),
        ("x-envoy-expected-rq-timeout-ms: 5000", 1000),
        ("grpc-timeout: 1H", 1000),
        // "No limit" to Envoy, which is not a caller's to say.
        ("x-envoy-upstream-rq-timeout-ms: 0", 1000),
        ("x-envoy-upstream-rq-timeout-ms: soon", 1000),
        ("grpc-timeout: 123456789S", 1000),
    ] {
        let fleet = Fleet::new(&THREE, "", ONE_SECOND, |_| Act::hang());
        let asked = Instant::now();
        let (answer, elapsed) = timed(&fleet, get(fields)).await;
        assert_eq!((answer.status(), answer.flag()), (504, "UT"), "{fields}");
        assert!((ms(limit - 1)..=ms(limit + 1)).contains(&elapsed), "{fields}: {elapsed:?}");
        assert_never_more_than_left(&fleet, asked, ms(limit));
        fleet.at_rest().await;
    }
}

// 6. The clock starts at the head.

#[tokio::test(start_paused = true)]
async fn a_slow_body_is_on_the_requests_own_time() {
    let fleet = Fleet::new(&THREE, "", ONE_SECOND, |_| Act::hang());
    let mut caller = fleet.caller();
    let asked = Instant::now();
    caller.send("PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nfirst").await;
    sleep(ms(700)).await;
    caller.send("other").await;
    let answer = caller.message().await;
    assert_eq!((answer.status(), answer.flag()), (504, "UT"));
    let elapsed = asked.elapsed();
    assert!((ms(999)..=ms(1001)).contains(&elapsed), "{elapsed:?} from the head");
    fleet.at_rest().await;
}

/// Requests that run out of time in our own queue say nothing against the endpoint that they waited
/// for; one that is sent and not answered does.
#[tokio::test(start_paused = true)]
async fn who_waits_in_our_queue_blames_nobody() {
    let cluster = "max_connections = 1\nqueue_timeout = \"5s\"\nbalance = \"round_robin\"";
    let fleet = Fleet::new(&["a:80", "b:80"], cluster, ONE_SECOND, |_| Act::later(900, OK));
    let answers = join_all((0..16).map(|_| fleet.ask(GET))).await;
    let good = answers.iter().filter(|answer| answer.status() == 200).count();
    assert_eq!(good, 2);
    assert!(answers.iter().all(|answer| answer.status() == 200 || answer.flag() == "UT"));
    assert_eq!(fleet.seen().len(), 4, "the others waited");
    assert_eq!(fleet.metric("sidecar_cluster_upstream_rq_timeout_total{cluster=\"web\"}"), 14);
    let clusters = fleet.stack.clusters();
    let states = [0, 1].map(|place| clusters[0].state(EndpointId(place)));
    assert_eq!(states, [GateState::Available; 2]);
    fleet.at_rest().await;
}
