//! Callers that are slow, silent or gone.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::memory::MemoryPeer;
use crate::world::{Dialing, ROUTE, World};

const GET: &str = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const PATIENT: &str = "[[routes]]\ncluster = \"web\"\ntimeout = \"1h\"\n";
const POST: &str = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\n";
/// Told apart by their length.
const LIMITS: &str = "idle_timeout = \"100s\"\nheader_timeout = \"7s\"\nbody_timeout = \"20s\"";
const IDLE: Duration = Duration::from_secs(100);
const HEADER: Duration = Duration::from_secs(7);
const BODY: Duration = Duration::from_secs(20);

fn world() -> World {
    World::listening(LIMITS, Dialing::Works, "", PATIENT)
}

/// What was counted: idle connections, heads, bodies, and writes that took too long.
fn timeouts(world: &World) -> [u64; 4] {
    ["cx_idle", "rq_header", "rq_body", "cx_write"].map(|name| {
        world.metric(&format!("sidecar_downstream_{name}_timeout_total{{listener=\"in\"}}"))
    })
}

/// One exchange on connections that stay open.
async fn exchange(world: &mut World, caller: &mut MemoryPeer) -> MemoryPeer {
    caller.send(GET).await;
    let mut upstream = world.upstream().await;
    upstream.head().await;
    upstream.send(OK).await;
    assert_eq!(caller.message().await.body, "ok");
    upstream
}

#[tokio::test(start_paused = true)]
async fn a_connection_on_which_no_request_comes_is_closed() {
    let world = world();
    let begun = Instant::now();
    world.caller().closed().await;
    assert_eq!((begun.elapsed(), timeouts(&world)), (IDLE, [1, 0, 0, 0]));
}

/// From the end of the response on, however long it took.
#[tokio::test(start_paused = true)]
async fn idleness_begins_when_a_response_ends() {
    let mut world = world();
    let mut caller = world.caller();
    sleep(IDLE - Duration::from_secs(1)).await;
    caller.send(GET).await;
    let mut upstream = world.upstream().await;
    upstream.head().await;
    sleep(IDLE * 2).await;
    upstream.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\no").await;
    caller.head().await;
    sleep(IDLE * 2).await;
    upstream.send("k").await;
    assert_eq!(caller.take(2).await.as_deref(), Some("ok"));
    let over = Instant::now();
    // An empty line is not the beginning of a request.
    sleep(Duration::from_secs(1)).await;
    caller.send("\r\n").await;
    caller.closed().await;
    assert_eq!((over.elapsed(), timeouts(&world)), (IDLE, [1, 0, 0, 0]));
}

/// The limit holds for the whole head, from its first byte on: a slow loris that sends a byte now
/// and then gains nothing by it.
#[tokio::test(start_paused = true)]
async fn a_head_that_trickles_in_is_answered_408() {
    let mut world = world();
    for is_used in [false, true] {
        let mut caller = world.caller();
        let _upstream = if is_used { Some(exchange(&mut world, &mut caller).await) } else { None };
        sleep(Duration::from_secs(30)).await;
        let begun = Instant::now();
        for byte in GET.as_bytes().chunks(1).take(7) {
            caller.send(byte).await;
            sleep(Duration::from_millis(900)).await;
        }
        let answer = caller.message().await;
        assert_eq!(begun.elapsed(), HEADER);
        assert_eq!((answer.status(), answer.flag()), (408, "SI"));
        assert_eq!(answer.field("connection"), Some("close"));
        assert!(answer.body.contains("7s"), "{}", answer.body);
        caller.closed().await;
    }
    assert_eq!(timeouts(&world), [0, 2, 0, 0]);
    let counted = "sidecar_downstream_rq_refused_total{listener=\"in\",flag=\"SI\"} 2\n";
    assert!(world.stack.telemetry().exposition().contains(counted));
    assert_eq!(world.counts().rq_total, 1, "nothing of it reached an upstream");
}

#[tokio::test(start_paused = true)]
async fn a_head_that_is_just_in_time_is_served() {
    let mut world = world();
    let mut caller = world.caller();
    for _ in 0..2 {
        caller.send(&GET[..20]).await;
        sleep(HEADER - Duration::from_millis(2)).await;
        caller.send(&GET[20..]).await;
        let mut upstream = world.upstream().await;
        upstream.head().await;
        upstream.send("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n").await;
        assert_eq!(caller.message().await.status(), 200);
    }
    assert_eq!(timeouts(&world), [0; 4]);
}

/// A head that was sent ahead does not have to be complete before it is its turn.
#[tokio::test(start_paused = true)]
async fn a_head_behind_a_slow_answer_has_time() {
    let mut world = world();
    let mut caller = world.caller();
    caller.send(format!("{GET}{}", &GET[..20])).await;
    let mut upstream = world.upstream().await;
    upstream.head().await;
    sleep(HEADER * 3).await;
    upstream.send(OK).await;
    assert_eq!(caller.message().await.body, "ok");
    sleep(HEADER - Duration::from_millis(2)).await;
    caller.send(&GET[20..]).await;
    upstream.head().await;
    upstream.send(OK).await;
    assert_eq!(caller.message().await.body, "ok");
    assert_eq!(timeouts(&world), [0; 4]);
}

/// Every byte of a body begins the limit anew; then 408, and the upstream is rid of it.
#[tokio::test(start_paused = true)]
async fn a_body_that_stops_coming_is_answered_408() {
    let chunked =
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n3\r\n";
    for (head, mut pieces) in [(POST, 9), (chunked, 2)] {
        let mut world = world();
        let mut caller = world.caller();
        caller.send(head).await;
        let mut upstream = world.upstream().await;
        upstream.head().await;
        while pieces > 0 {
            sleep(BODY - Duration::from_millis(2)).await;
            caller.send("x").await;
            pieces -= 1;
        }
        let stopped = Instant::now();
        let answer = caller.message().await;
        assert_eq!(stopped.elapsed(), BODY);
        assert_eq!((answer.status(), answer.field("connection")), (408, Some("close")));
        caller.closed().await;
        assert!(!upstream.rest().await.ends_with("0\r\n\r\n"), "an end was made up");
        world.settle().await;
        world.assert_at_rest();
        assert_eq!((timeouts(&world), world.counts().rq_cancelled), ([0, 0, 1, 0], 1));
    }
}

/// When the response has begun, nobody can be told any more.
#[tokio::test(start_paused = true)]
async fn a_body_that_stops_coming_behind_a_response_is_cut() {
    let mut world = world();
    let mut caller = world.caller();
    caller.send(POST).await;
    let mut upstream = world.upstream().await;
    upstream.head().await;
    upstream.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\no").await;
    caller.head().await;
    let begun = Instant::now();
    assert_eq!(caller.rest().await, "o");
    upstream.closed().await;
    world.settle().await;
    world.assert_at_rest();
    assert_eq!(timeouts(&world), [0, 0, 1, 0]);
    assert!(begun.elapsed() <= BODY + Duration::from_millis(1));
}

/// A body that nobody reads is not late: the upstream is.
#[tokio::test(start_paused = true)]
async fn a_body_that_nobody_reads_is_not_timed() {
    let mut world = world();
    let mut caller = world.caller();
    let length = 1 << 20;
    let body = vec![b'x'; length];
    let sending = tokio::spawn(async move {
        caller
            .send(format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n"))
            .await;
        caller.send(body).await;
        caller
    });
    let mut upstream = world.upstream().await;
    sleep(BODY * 3).await;
    upstream.head().await;
    assert_eq!(upstream.take(length).await.map(|body| body.len()), Some(length));
    upstream.send(OK).await;
    let mut caller = sending.await.expect("everything was taken");
    assert_eq!((caller.message().await.status(), timeouts(&world)), (200, [0; 4]));
}

/// Fifty callers that all do nothing cost another one nothing.
#[tokio::test(start_paused = true)]
async fn slow_callers_do_not_harm_others() {
    let mut world = world();
    let mut slow: Vec<_> = (1..crate::world::MAX_CONNECTIONS).map(|_| world.caller()).collect();
    for (nth, caller) in slow.iter_mut().enumerate() {
        caller.send(if nth % 2 == 0 { &GET[..20] } else { "GET" }).await;
    }
    let mut caller = world.caller();
    let begun = Instant::now();
    exchange(&mut world, &mut caller).await;
    assert_eq!(begun.elapsed(), Duration::ZERO);
    sleep(HEADER).await;
    for caller in &mut slow {
        assert_eq!(caller.message().await.status(), 408);
    }
}

/// The wait for a caller that does not read is counted, and its length is configuration.
#[tokio::test(start_paused = true)]
async fn a_caller_that_does_not_read_is_cut() {
    let mut world = World::listening("write_timeout = \"3s\"", Dialing::Works, "", PATIENT);
    let mut caller = world.caller();
    caller.send(GET).await;
    let mut upstream = world.upstream().await;
    upstream.head().await;
    upstream.send("HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n").await;
    let begun = Instant::now();
    let chunk = vec![b'x'; 8192];
    while upstream.try_send(&chunk).await.is_ok() {}
    assert_eq!((begun.elapsed(), timeouts(&world)), (Duration::from_secs(3), [0, 0, 0, 1]));
    world.settle().await;
    world.assert_at_rest();
}

/// A request sent ahead hides nothing: the caller that leaves behind it is noticed at once.
#[tokio::test(start_paused = true)]
async fn a_caller_that_sent_ahead_and_leaves_is_noticed() {
    let mut world = world();
    let mut caller = world.caller();
    caller.send(format!("{GET}{GET}{}", &GET[..10])).await;
    let mut upstream = world.upstream().await;
    upstream.head().await;
    let left = Instant::now();
    drop(caller);
    upstream.closed().await;
    assert_eq!(left.elapsed(), Duration::ZERO);
    world.settle().await;
    world.assert_at_rest();
    assert_eq!((world.counts().rq_total, world.counts().rq_cancelled), (1, 1));
}

/// By default whoever closes its sending half is taken to have left (as in Envoy and nginx).
#[tokio::test(start_paused = true)]
async fn a_caller_that_half_closes_has_left() {
    let mut world = world();
    let mut caller = world.caller();
    caller.send(GET).await;
    let mut upstream = world.upstream().await;
    upstream.head().await;
    caller.finish().await;
    upstream.closed().await;
    caller.closed().await;
    world.settle().await;
    world.assert_at_rest();
    assert_eq!(world.counts().rq_cancelled, 1);
}

/// Where it is wished for, it is answered, and also what it sent ahead.
#[tokio::test(start_paused = true)]
async fn a_caller_that_half_closes_is_answered_where_that_is_wished_for() {
    let mut world = World::listening("half_close = true", Dialing::Works, "", ROUTE);
    let mut caller = world.caller();
    caller.send(format!("{GET}{GET}")).await;
    caller.finish().await;
    let mut upstream = world.upstream().await;
    for _ in 0..2 {
        upstream.head().await;
        sleep(Duration::from_millis(500)).await;
        upstream.send(OK).await;
        assert_eq!(caller.message().await.body, "ok");
    }
    caller.closed().await;
    world.settle().await;
    world.assert_at_rest();
    assert_eq!(world.counts().rq_success, 2);
}

/// A drain lets a head that has begun become a request.
#[tokio::test(start_paused = true)]
async fn a_head_that_has_begun_is_waited_for_while_draining() {
    let mut world = World::new();
    let mut caller = world.caller();
    let upstream = exchange(&mut world, &mut caller).await;
    let mut upstream = upstream;
    caller.send(&GET[..20]).await;
    world.settle().await;
    world.drain.cancel();
    sleep(Duration::from_secs(1)).await;
    caller.send(&GET[20..]).await;
    upstream.head().await;
    upstream.send(OK).await;
    let answer = caller.message().await;
    assert_eq!((answer.body.as_str(), answer.field("connection")), ("ok", Some("close")));
    assert_eq!((&mut world.serving).await.expect("no panic"), 0);
}
