//! Retries are paid from a budget, before they wait.

use std::sync::Arc;
use std::time::Duration;

use proxy::rng::stream;
use proxy::telemetry::event::AttemptKind;
use rand::RngExt as _;
use tokio::time::{Instant, sleep, sleep_until};

use super::{STAY, THREE};
use crate::script::{Act, Fleet, GET, OK, Seen, UNAVAILABLE};

/// One retry a second and no more.
const ONE: &str = "outlier.enabled = false\nretry_budget.ratio = 0.0\n\
                   retry_budget.window = \"1s\"\nretry_budget.min_per_second = 1";
const IN_A_WHILE: &str = "HTTP/1.1 503 No\r\nretry-after: 1\r\ncontent-length: 2\r\n\r\nno";

/// Sends `rate` requests a second for `seconds`, at random times.
async fn load(fleet: &Arc<Fleet>, seed: u64, rate: u32, seconds: u32) -> u32 {
    let start = Instant::now();
    let mut rng = stream(seed, "arrivals");
    let length_us = u64::from(seconds) * 1_000_000;
    let requests = rate * seconds;
    let asking: Vec<_> = (0..requests)
        .map(|_| {
            let at = start + Duration::from_micros(rng.random_range(0..length_us));
            let fleet = fleet.clone();
            tokio::spawn(async move {
                sleep_until(at).await;
                fleet.ask(GET).await.status()
            })
        })
        .collect();
    for asked in asking {
        assert_eq!(asked.await.expect("no panic"), 503);
    }
    requests
}

/// At any rate, and whether endpoints refuse connections or requests, detectors on or off: no more
/// than one try for each request, a fifth of one, and the reserve of each window begun.
#[tokio::test(start_paused = true)]
async fn a_total_outage_is_amplified_by_the_budget_and_no_more() {
    let (seconds, ratio, reserve) = (25, 0.2, 30_u32);
    let windows = 3;
    for (seed, rate) in [(1, 1), (2, 2), (3, 10), (4, 10), (5, 50), (6, 100)] {
        for (listens, cluster) in [(true, STAY), (true, ""), (false, STAY), (false, "")] {
            let fleet = Arc::new(Fleet::partly(
                &THREE,
                cluster,
                "",
                move |_| listens,
                |_| Act::say(UNAVAILABLE),
            ));
            let requests = load(&fleet, seed, rate, seconds).await;
            fleet.at_rest().await;
            let first = fleet.attempts(AttemptKind::First);
            let retries = fleet.attempts(AttemptKind::Retry);
            let bound = f64::from(requests) * ratio + f64::from(reserve * windows);
            assert_eq!(first, u64::from(requests));
            assert!(retries as f64 <= bound, "{retries} retries of {requests} at {rate}/s");
            // Nor is it less than it could be.
            let affordable = (f64::from(requests) * ratio) as u64 + u64::from(reserve);
            assert!(retries >= affordable.min(u64::from(requests)) * 9 / 10, "only {retries}");
            if listens {
                assert_eq!(fleet.seen().len() as u64, first + retries);
            }
        }
    }
}

/// Else all who wait would find the retry that only one of them can have.
#[tokio::test(start_paused = true)]
async fn a_retry_is_reserved_before_its_wait() {
    let script = |seen: &Seen| match seen.nth {
        0 | 1 => Act::say(IN_A_WHILE),
        _ => Act::say(OK),
    };
    let fleet = Fleet::new(&THREE, ONE, "", script);
    let mut first = fleet.caller();
    first.send(GET).await;
    fleet.settle().await;
    assert_eq!((fleet.seen().len(), fleet.balance()), (1, 0), "it is reserved and waits");
    let asked = Instant::now();
    let refused = fleet.ask(GET).await;
    assert_eq!(asked.elapsed(), Duration::ZERO);
    assert_eq!(refused.field("x-sidecar-retry-given-up"), Some("budget"));
    assert_eq!((refused.status(), fleet.seen().len()), (503, 2));
    assert_eq!(first.message().await.status(), 200);
    fleet.at_rest().await;
}

#[tokio::test(start_paused = true)]
async fn who_leaves_during_the_wait_gives_the_retry_back() {
    let fleet = Fleet::new(&THREE, ONE, "", |_| Act::say(IN_A_WHILE));
    let mut caller = fleet.caller();
    assert_eq!(fleet.balance(), 1);
    caller.send(GET).await;
    fleet.settle().await;
    assert_eq!(fleet.balance(), 0);
    sleep(Duration::from_millis(500)).await;
    drop(caller);
    fleet.settle().await;
    assert_eq!((fleet.balance(), fleet.seen().len()), (1, 1));
    fleet.at_rest().await;
    assert_eq!(fleet.attempts(AttemptKind::Retry), 0);
}

/// It was sent: the endpoint has the load, whoever waits for the answer.
#[tokio::test(start_paused = true)]
async fn who_leaves_during_the_retry_does_not() {
    let script = |seen: &Seen| match seen.nth {
        0 => Act::say(UNAVAILABLE),
        _ => Act::hang(),
    };
    let fleet = Fleet::new(&THREE, ONE, "", script);
    let mut caller = fleet.caller();
    caller.send(GET).await;
    // Longer than the backoff.
    sleep(Duration::from_millis(30)).await;
    assert_eq!((fleet.balance(), fleet.seen().len()), (0, 2));
    let left = Instant::now();
    drop(caller);
    fleet.settle().await;
    assert_eq!(fleet.balance(), 0);
    assert_eq!(fleet.left(), [(fleet.seen()[1].endpoint.clone(), left)]);
    fleet.at_rest().await;
}
