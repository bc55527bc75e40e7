//! Connections to an upstream: bounded, reused, never crossed.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use crate::memory::MemoryPeer;
use crate::world::{Dialing, ROUTE, World};

const GET: &str = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

async fn serve_one(upstream: &mut MemoryPeer, caller: &mut MemoryPeer) {
    upstream.message().await;
    upstream.send(OK).await;
    assert_eq!(caller.message().await.body, "ok");
}

#[tokio::test(start_paused = true)]
async fn requests_beyond_the_connections_wait_in_order() {
    let mut world = World::with(Dialing::Works, "max_connections = 2", ROUTE);
    let mut callers = Vec::new();
    for nth in 0..10 {
        let mut caller = world.caller();
        caller.send(format!("GET /{nth} HTTP/1.1\r\nhost: a\r\n\r\n")).await;
        world.settle().await;
        callers.push(caller);
    }
    let mut upstreams = [world.upstream().await, world.upstream().await];
    for (nth, caller) in callers.iter_mut().enumerate() {
        let upstream = &mut upstreams[nth % 2];
        let head = upstream.head().await;
        assert!(head.starts_with(&format!("GET /{nth} ")), "{head}");
        upstream.send(format!("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n{nth}")).await;
        assert_eq!(caller.message().await.body, nth.to_string());
    }
    assert_eq!(world.dials.load(Ordering::Relaxed), 2);
    world.settle().await;
    world.assert_at_rest();
    assert_eq!((world.idle(), world.counts().rq_success), (2, 10));
}

/// One on the connection and two waiting are taken; for a third that would wait, the one that has
/// waited longest is refused.
#[tokio::test(start_paused = true)]
async fn the_queue_is_bounded_and_gives_up_its_oldest() {
    let limits = "max_connections = 1\nmax_pending = 2";
    let mut world = World::with(Dialing::Works, limits, ROUTE);
    let mut callers = VecDeque::new();
    for nth in 0..6 {
        let mut caller = world.caller();
        caller.send(GET).await;
        world.settle().await;
        callers.push_back(caller);
        if nth >= 3 {
            // The first is being served.
            let mut refused = callers.remove(1).expect("one that waits");
            let response = refused.message().await;
            assert_eq!((response.status(), response.flag()), (503, "UO"));
            let overflows = "sidecar_cluster_upstream_rq_pending_overflow_total{cluster=\"web\"}";
            assert_eq!(world.metric(overflows), nth - 2);
        }
    }
    // Who gives up waiting makes room, so that nobody has to be refused.
    drop(callers.pop_back());
    world.settle().await;
    let mut last = world.caller();
    last.send(GET).await;
    callers.push_back(last);
    let mut upstream = world.upstream().await;
    for caller in &mut callers {
        serve_one(&mut upstream, caller).await;
    }
    world.settle().await;
    world.assert_at_rest();
    let counts = world.counts();
    assert_eq!((counts.rq_success, counts.rq_refused, counts.rq_cancelled), (3, 3, 1));
}

/// 1 ms before the limit a connection that comes free still serves, at it the request is refused,
/// whether or not anything comes free.
#[tokio::test(start_paused = true)]
async fn waiting_ends_at_the_queue_timeout() {
    let limits = "max_connections = 1\nqueue_timeout = \"500ms\"";
    for (free_after, status) in [(499, 200), (501, 503)] {
        let mut world = World::with(Dialing::Works, limits, ROUTE);
        let mut first = world.caller();
        first.send(GET).await;
        let mut upstream = world.upstream().await;
        upstream.head().await;
        let mut waits = world.caller();
        let since = Instant::now();
        waits.send(GET).await;
        sleep(Duration::from_millis(free_after)).await;
        upstream.send(OK).await;
        assert_eq!(first.message().await.status(), 200);
        if status == 200 {
            serve_one(&mut upstream, &mut waits).await;
        } else {
            let refused = waits.message().await;
            assert_eq!((refused.status(), refused.flag()), (503, "UO"));
            assert!(refused.body.contains("no connection free within 500ms"), "{}", refused.body);
            assert!(since.elapsed() < Duration::from_millis(503));
        }
        world.settle().await;
        world.assert_at_rest();
    }
}

/// Once the oldest has waited for 100 ms, the newest is served first.
#[tokio::test(start_paused = true)]
async fn a_queue_that_stands_is_served_from_its_end() {
    for (stands, order) in [(90, [0, 1, 2]), (110, [2, 1, 0])] {
        let mut world = World::with(Dialing::Works, "max_connections = 1", ROUTE);
        let mut first = world.caller();
        first.send(GET).await;
        let mut upstream = world.upstream().await;
        upstream.head().await;
        let mut callers = Vec::new();
        for nth in 0..3 {
            let mut caller = world.caller();
            caller.send(format!("GET /{nth} HTTP/1.1\r\nhost: a\r\n\r\n")).await;
            world.settle().await;
            callers.push(caller);
        }
        sleep(Duration::from_millis(stands - 3)).await;
        upstream.send(OK).await;
        for nth in order {
            let head = upstream.head().await;
            assert!(head.starts_with(&format!("GET /{nth} ")), "after {stands} ms: {head}");
            upstream.send(OK).await;
            assert_eq!(callers[nth].message().await.status(), 200);
        }
    }
}

/// With no queue at all, a free connection still serves.
#[tokio::test(start_paused = true)]
async fn no_queue_is_a_queue_of_none() {
    let limits = "max_connections = 1\nmax_pending = 0";
    let mut world = World::with(Dialing::Works, limits, ROUTE);
    let mut caller = world.caller();
    caller.send(GET).await;
    let mut upstream = world.upstream().await;
    let mut refused = world.caller();
    for _ in 0..2 {
        refused.send(GET).await;
        assert_eq!(refused.message().await.status(), 503);
    }
    serve_one(&mut upstream, &mut caller).await;
}

/// 1 ms before the idle timeout a connection is used again, at it no more.
#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_used_until_its_timeout() {
    for (idle, connections) in [(499, 1), (500, 2)] {
        let mut world = World::with(Dialing::Works, "idle_timeout = \"500ms\"", ROUTE);
        let mut caller = world.caller();
        caller.send(GET).await;
        let mut upstream = world.upstream().await;
        serve_one(&mut upstream, &mut caller).await;
        sleep(Duration::from_millis(idle)).await;
        caller.send(GET).await;
        if connections == 2 {
            upstream.closed().await;
            upstream = world.upstream().await;
        }
        serve_one(&mut upstream, &mut caller).await;
        assert_eq!(world.counts().cx_total, connections);
    }
}

#[tokio::test(start_paused = true)]
async fn old_connections_are_swept() {
    let mut world = World::with(Dialing::Works, "idle_timeout = \"500ms\"", ROUTE);
    let mut caller = world.caller();
    caller.send(GET).await;
    let mut upstream = world.upstream().await;
    serve_one(&mut upstream, &mut caller).await;
    let since = Instant::now();
    world.stack.clusters()[0].tidy(since + Duration::from_millis(499));
    assert_eq!(world.idle(), 1);
    world.stack.clusters()[0].tidy(since + Duration::from_millis(500));
    assert_eq!(world.idle(), 0);
    upstream.closed().await;
    world.settle().await;
    world.assert_at_rest();
}

/// The endpoint closed the connection while nobody used it. A request that was not sent yet goes
/// out on a new one, whatever its method: both when the close is known, and when it comes to light
/// only after the request was handed over.
#[tokio::test(start_paused = true)]
async fn a_connection_that_went_stale_costs_no_request() {
    let post = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello";
    for is_known in [true, false] {
        let mut world = World::new();
        let mut caller = world.caller();
        caller.send(GET).await;
        let mut upstream = world.upstream().await;
        serve_one(&mut upstream, &mut caller).await;
        world.settle().await;
        if is_known {
            drop(upstream);
            world.settle().await;
            caller.send(post).await;
        } else {
            // Neither yields, so the sidecar sees both at once, the request first.
            caller.send(post).await;
            drop(upstream);
        }
        let mut upstream = world.upstream().await;
        assert_eq!(upstream.message().await.body, "hello");
        upstream.send(OK).await;
        assert_eq!(caller.message().await.status(), 200);
        world.settle().await;
        world.assert_at_rest();
        let counts = world.counts();
        assert_eq!((counts.rq_success, counts.rq_failed, counts.cx_total), (2, 0, 2));
    }
}

/// Once it was sent it is not sent again: the upstream may have acted on it.
#[tokio::test(start_paused = true)]
async fn a_request_that_was_sent_is_not_sent_twice() {
    let mut world = World::new();
    let mut caller = world.caller();
    caller.send(GET).await;
    let mut upstream = world.upstream().await;
    serve_one(&mut upstream, &mut caller).await;
    world.settle().await;
    caller.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n").await;
    upstream.head().await;
    drop(upstream);
    assert_eq!(caller.message().await.flag(), "UC");
    assert_eq!(world.dials.load(Ordering::Relaxed), 1);
    world.settle().await;
    world.assert_at_rest();
}

/// A connection on which something came unasked is not used again: it would be taken for the
/// answer to the next request.
#[tokio::test(start_paused = true)]
async fn what_comes_unasked_answers_nobody() {
    for comes_with_the_answer in [true, false] {
        let mut world = World::new();
        let mut caller = world.caller();
        caller.send(GET).await;
        let mut upstream = world.upstream().await;
        upstream.head().await;
        let stray = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nstray";
        if comes_with_the_answer {
            upstream.send(format!("{OK}{stray}")).await;
        } else {
            upstream.send(OK).await;
        }
        assert_eq!(caller.message().await.body, "ok");
        if !comes_with_the_answer {
            upstream.send(stray).await;
        }
        world.settle().await;
        caller.send(GET).await;
        let mut next = world.upstream().await;
        serve_one(&mut next, &mut caller).await;
    }
}

/// The upstream never sees two connections where one is allowed, not even for a moment.
#[tokio::test(start_paused = true)]
async fn a_permit_is_free_only_when_its_connection_is_closed() {
    let mut world = World::with(Dialing::Works, "max_connections = 1", ROUTE);
    let mut leaves = world.caller();
    leaves.send(GET).await;
    let mut first = world.upstream().await;
    first.head().await;
    let mut waits = world.caller();
    waits.send(GET).await;
    world.settle().await;
    drop(leaves);
    let mut second = world.upstream().await;
    assert_eq!(world.counts().cx_active, 1);
    timeout(Duration::ZERO, first.closed()).await.expect("closed before the next is made");
    serve_one(&mut second, &mut waits).await;
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_closes_after_each_answer_is_connected_anew() {
    let closing = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok";
    let mut world = World::new();
    let mut caller = world.caller();
    for nth in 1..=3 {
        caller.send(GET).await;
        let mut upstream = world.upstream().await;
        upstream.head().await;
        upstream.send(closing).await;
        // The caller's connection stays.
        assert_eq!(caller.message().await.field("connection"), None);
        upstream.closed().await;
        assert_eq!((world.counts().cx_total, world.idle()), (nth, 0));
    }
}
