//! The listener: draining, and bounds on connections and heads.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use crate::world::{Dialing, World};

const PATIENT: &str = "[[routes]]\ncluster = \"web\"\ntimeout = \"1h\"\n";
const GET: &str = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";

/// Requests in flight are finished, idle connections closed, and new ones not accepted.
#[tokio::test(start_paused = true)]
async fn draining_finishes_what_is_in_flight() {
    let mut world = World::with(Dialing::Works, "", PATIENT);
    let mut idle = world.caller();
    let mut caller = world.caller();
    caller.send(GET).await;
    let mut upstream = world.upstream().await;
    upstream.head().await;
    world.drain.cancel();
    idle.closed().await;
    let late = world.try_caller();
    assert!(late.is_none(), "nobody listens any more");
    sleep(Duration::from_secs(4)).await;
    upstream.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    let response = caller.message().await;
    assert_eq!((response.body.as_str(), response.field("connection")), ("ok", Some("close")));
    caller.closed().await;
    assert_eq!((&mut world.serving).await.expect("no panic"), 0);
    world.assert_at_rest();
}

#[tokio::test(start_paused = true)]
async fn draining_cuts_what_takes_too_long_and_says_how_many() {
    let mut world = World::with(Dialing::Works, "", PATIENT);
    let mut stays = world.caller();
    stays.send(GET).await;
    let mut upstream = world.upstream().await;
    upstream.head().await;
    let _idle = world.caller();
    let begun = Instant::now();
    world.drain.cancel();
    assert_eq!((&mut world.serving).await.expect("no panic"), 1);
    assert_eq!(begun.elapsed(), Duration::from_secs(5));
    stays.closed().await;
    upstream.closed().await;
    world.settle().await;
    world.assert_at_rest();
    assert_eq!(world.refused("DC"), 1);
}

/// A connection beyond the limit is accepted when another one ends.
#[tokio::test(start_paused = true)]
async fn connections_beyond_the_limit_wait() {
    let world = World::with(Dialing::IsRefused, "", PATIENT);
    let mut open: Vec<_> = (0..crate::world::MAX_CONNECTIONS).map(|_| world.caller()).collect();
    world.settle().await;
    let mut waits = world.caller();
    waits.send(GET).await;
    timeout(Duration::from_secs(1), waits.head()).await.expect_err("there is no room");
    drop(open.pop());
    assert_eq!(waits.message().await.status(), 503);
}
