//! Bodies: nothing piles up, and nothing goes on without a reader.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use proxy::policy::balance::EndpointId;
use tokio::time::{Instant, sleep, timeout};

use crate::memory::MemoryPeer;
use crate::world::{Dialing, World};

const PATIENT: &str = "[[routes]]\ncluster = \"web\"\ntimeout = \"1h\"\n";
const HUGE: usize = 64 << 20;
static CHUNK: [u8; 8192] = [b'x'; 8192];
/// What may be on its way: a read-ahead and a write buffer of 64 KiB each, a chunk between them,
/// and two streams of 16 KiB.
const ON_ITS_WAY: usize = 256 * 1024;

/// Writes `HUGE` bytes and counts those that found room.
async fn pour(peer: &mut MemoryPeer, written: &AtomicUsize) {
    for _ in 0..HUGE / CHUNK.len() {
        peer.send(&CHUNK).await;
        written.fetch_add(CHUNK.len(), Ordering::Relaxed);
    }
}

async fn drink(peer: &mut MemoryPeer) {
    let mut left = HUGE;
    while left > 0 {
        let read = peer.discard().await;
        assert!(read > 0, "closed with {left} bytes to come");
        left -= read;
    }
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_stops_stops_the_upstream() {
    let mut world = World::with(Dialing::Works, "", PATIENT);
    let mut caller = world.caller();
    caller.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let mut upstream = world.upstream().await;
    upstream.head().await;
    let written = Arc::new(AtomicUsize::new(0));
    let count = written.clone();
    let pouring = tokio::spawn(async move {
        upstream.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {HUGE}\r\n\r\n")).await;
        pour(&mut upstream, &count).await;
        upstream
    });
    let head = caller.head().await;
    assert!(head.contains("content-length: 67108864"), "{head}");
    sleep(Duration::from_secs(10)).await;
    let stopped_at = written.load(Ordering::Relaxed);
    assert!(stopped_at <= ON_ITS_WAY, "{stopped_at} bytes were taken for nobody");
    drink(&mut caller).await;
    let _upstream = pouring.await.expect("everything was taken");
    world.settle().await;
    world.assert_at_rest();
    assert_eq!((world.counts().rq_success, world.idle()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_does_not_read_stops_the_caller() {
    let mut world = World::with(Dialing::Works, "", PATIENT);
    let mut caller = world.caller();
    let written = Arc::new(AtomicUsize::new(0));
    let count = written.clone();
    let pouring = tokio::spawn(async move {
        caller.send(format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {HUGE}\r\n\r\n")).await;
        pour(&mut caller, &count).await;
        caller
    });
    let mut upstream = world.upstream().await;
    sleep(Duration::from_secs(10)).await;
    let stopped_at = written.load(Ordering::Relaxed);
    assert!(stopped_at <= ON_ITS_WAY, "{stopped_at} bytes were taken for nobody");
    upstream.head().await;
    drink(&mut upstream).await;
    upstream.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let mut caller = pouring.await.expect("everything was taken");
    assert_eq!(caller.message().await.status(), 200);
    world.assert_at_rest();
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_leaves_before_the_head_takes_its_request_along() {
    let mut world = World::new();
    let mut caller = world.caller();
    caller.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let mut upstream = world.upstream().await;
    upstream.head().await;
    sleep(Duration::from_millis(100)).await;
    let left = Instant::now();
    drop(caller);
    upstream.closed().await;
    assert_eq!(left.elapsed(), Duration::ZERO);
    world.settle().await;
    world.assert_at_rest();
    assert_eq!((world.counts().rq_cancelled, world.refused("DC")), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_leaves_in_the_body_is_counted_once_too() {
    for head in ["content-length: 10", "transfer-encoding: chunked"] {
        let mut world = World::new();
        let mut caller = world.caller();
        caller.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        let mut upstream = world.upstream().await;
        upstream.head().await;
        upstream.send(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n")).await;
        caller.head().await;
        drop(caller);
        upstream.closed().await;
        world.settle().await;
        world.assert_at_rest();
        let counts = world.counts();
        assert_eq!((counts.rq_cancelled, counts.rq_success, world.refused("DC")), (1, 0, 1));
    }
}

/// An upstream may answer without reading all of the request. Its connection is then of no use
/// until the caller is done, and is not waited for long: a caller that never ends its upload must
/// not hold it for ever.
#[tokio::test(start_paused = true)]
async fn an_early_answer_does_not_leave_a_connection_behind() {
    let limits = "max_connections = 1\nqueue_timeout = \"2s\"";
    let mut world = World::with(Dialing::Works, limits, PATIENT);
    let mut stalled = world.caller();
    stalled.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\nhalf").await;
    let mut first = world.upstream().await;
    first.head().await;
    first.send("HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\n\r\n").await;
    let answered = Instant::now();
    assert_eq!(stalled.message().await.status(), 413);
    assert_eq!(first.take(4).await.as_deref(), Some("half"));

    let mut other = world.caller();
    other.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let mut second = world.upstream().await;
    assert_eq!(answered.elapsed(), Duration::from_secs(1));
    timeout(Duration::ZERO, first.closed()).await.expect("closed before another one is made");
    second.head().await;
    second.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    assert_eq!(other.message().await.status(), 200);
    world.settle().await;
    world.assert_at_rest();
    assert_eq!(world.counts().rq_success, 2);
}

/// When the caller does finish in time, the connection is kept.
#[tokio::test(start_paused = true)]
async fn an_early_answer_keeps_the_connection_if_the_upload_ends() {
    let mut world = World::new();
    let mut caller = world.caller();
    caller.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 8\r\n\r\nhalf").await;
    let mut upstream = world.upstream().await;
    upstream.head().await;
    upstream.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    assert_eq!(caller.message().await.status(), 200);
    sleep(Duration::from_millis(900)).await;
    assert_eq!(world.idle(), 0);
    caller.send("half").await;
    assert_eq!(upstream.take(8).await.as_deref(), Some("halfhalf"));
    world.settle().await;
    world.assert_at_rest();
    assert_eq!(world.idle(), 1);
}

/// Nobody asks a response for its deadline while its caller does not read; so the wait for the
/// caller has a bound of its own. A caller that reads a little, if late, is not cut.
#[tokio::test(start_paused = true)]
async fn a_caller_that_never_reads_again_is_let_go() {
    let mut world = World::with(Dialing::Works, "", PATIENT);
    let mut caller = world.caller();
    caller.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let mut upstream = world.upstream().await;
    upstream.head().await;
    let pouring = tokio::spawn(async move {
        upstream.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {HUGE}\r\n\r\n")).await;
        while upstream.try_send(&CHUNK).await.is_ok() {}
        Instant::now()
    });
    for _ in 0..3 {
        sleep(Duration::from_secs(59)).await;
        assert!(caller.discard().await > 0);
    }
    let last_read = Instant::now();
    let cut = pouring.await.expect("no panic");
    assert_eq!(cut - last_read, Duration::from_secs(60));
    world.settle().await;
    world.assert_at_rest();
    assert_eq!((world.counts().rq_cancelled, world.refused("DC")), (1, 1));
}

/// The balancer hears how each request ended: an answer is a latency, a caller that left in vain
/// says that it would have been more, a connection that broke counts as a long wait.
#[tokio::test(start_paused = true)]
async fn the_balancer_hears_how_requests_end() {
    let mut world = World::new();
    let get = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
    let estimate = |world: &World| {
        let load = world.stack.clusters()[0].load(EndpointId(0));
        load.latency_estimate.expect("peak_ewma has one")
    };
    let mut caller = world.caller();
    caller.send(get).await;
    let mut upstream = world.upstream().await;
    upstream.head().await;
    sleep(Duration::from_millis(20)).await;
    upstream.send(answer).await;
    caller.message().await;
    let answered = estimate(&world);
    assert_eq!(answered, Duration::from_millis(20));

    // Not one that could be sent again without harm, on a connection that was idle before.
    caller.send(get.replace("GET", "POST")).await;
    upstream.head().await;
    sleep(Duration::from_millis(100)).await;
    drop(upstream);
    assert_eq!(caller.message().await.status(), 502);
    let failed = estimate(&world);
    assert!(failed > Duration::from_secs(1), "{failed:?} would draw requests to a broken endpoint");

    caller.send(get).await;
    let mut upstream = world.upstream().await;
    upstream.head().await;
    sleep(Duration::from_millis(300)).await;
    drop(caller);
    upstream.closed().await;
    world.settle().await;
    let left = estimate(&world);
    assert!(left > Duration::from_millis(500), "{left:?} says less than twice the wait");
    sleep(Duration::from_secs(10)).await;
    assert!(estimate(&world) < left, "nobody waits any more");
    world.assert_at_rest();
}
