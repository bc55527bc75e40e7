//! A second request because the first takes long: paid, safe, and cancelled when it loses.

use std::time::Duration;

use proxy::rng::stream;
use proxy::telemetry::event::AttemptKind;
use rand::RngExt as _;
use tokio::time::{Instant, sleep};

use crate::script::{Act, Fleet, GET, OK, POST, Seen, UNAVAILABLE};

const THREE: [&str; 3] = ["a:80", "b:80", "c:80"];
const STAY: &str = "outlier.enabled = false";
const AFTER_50_MS: &str = "hedge.after = \"50ms\"";

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn first_hangs(seen: &Seen) -> Act {
    if seen.nth == 0 { Act::hang() } else { Act::say(OK) }
}

/// The same moment, but for the step of the clock.
fn assert_at(moment: Instant, expected: Instant) {
    let apart = moment.max(expected) - moment.min(expected);
    assert!(apart <= ms(1), "{apart:?} apart");
}

#[tokio::test(start_paused = true)]
async fn a_straggler_is_hedged_and_cancelled() {
    let fleet = Fleet::new(&THREE, "", AFTER_50_MS, first_hangs);
    let asked = Instant::now();
    let answer = fleet.ask(GET).await;
    assert_eq!((answer.status(), answer.field("x-envoy-attempt-count")), (200, Some("2")));
    assert_at(Instant::now(), asked + ms(50));
    let seen = fleet.seen();
    assert_eq!(seen.len(), 2);
    assert_ne!(seen[0].endpoint, seen[1].endpoint);
    assert_eq!((seen[0].attempt(), seen[1].attempt()), ("1", "2"));
    fleet.settle().await;
    let left = fleet.left();
    assert_eq!((left.len(), &left[0].0), (1, &seen[0].endpoint));
    assert_at(left[0].1, asked + ms(50));
    fleet.at_rest().await;
    let attempts = fleet.stack.telemetry().conservation().attempts();
    let kinds = [AttemptKind::First, AttemptKind::Retry, AttemptKind::Hedge];
    assert_eq!(kinds.map(|kind| attempts.of_kind(kind)), [1, 0, 1]);
    assert_eq!((attempts.cancelled, attempts.failed), (1, 0));
}

/// The first may still win.
#[tokio::test(start_paused = true)]
async fn a_hedge_that_loses_is_cancelled_too() {
    let script = |seen: &Seen| if seen.nth == 0 { Act::later(70, OK) } else { Act::hang() };
    let fleet = Fleet::new(&THREE, "", AFTER_50_MS, script);
    let asked = Instant::now();
    assert_eq!(fleet.ask(GET).await.status(), 200);
    assert_at(Instant::now(), asked + ms(70));
    fleet.settle().await;
    let left = fleet.left();
    assert_eq!((left.len(), &left[0].0), (1, &fleet.seen()[1].endpoint));
    assert_at(left[0].1, asked + ms(70));
    fleet.at_rest().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_answered_in_time_is_not_hedged() {
    for (takes, hedges) in [(48, 0), (52, 1)] {
        let fleet = Fleet::new(&THREE, "", AFTER_50_MS, move |_| Act::later(takes, OK));
        fleet.ask(GET).await;
        assert_eq!(fleet.attempts(AttemptKind::Hedge), hedges, "{takes} ms");
        fleet.at_rest().await;
    }
}

/// As many as the route allows, each later than the last, each elsewhere.
#[tokio::test(start_paused = true)]
async fn no_more_hedges_than_allowed() {
    let route = "timeout = \"1s\"\nhedge = { after = \"50ms\", max_hedges = 2 }";
    let fleet = Fleet::new(&["a:80", "b:80", "c:80", "d:80"], "", route, |_| Act::hang());
    let asked = Instant::now();
    let answer = fleet.ask(GET).await;
    assert_eq!((answer.status(), answer.flag()), (504, "UT"));
    let seen = fleet.seen();
    assert_eq!(seen.len(), 3);
    for (nth, seen) in (0..).zip(&seen) {
        assert_at(seen.at, asked + ms(50) * nth);
        assert!(seen.told_ms() <= 1000 - 50 * u64::from(nth), "told {} ms", seen.told_ms());
    }
    let mut seen_by = fleet.seen_by();
    seen_by.sort();
    seen_by.dedup();
    assert_eq!(seen_by.len(), 3);
    fleet.settle().await;
    assert!(fleet.left().iter().all(|(_, at)| *at <= asked + ms(1001)));
    fleet.at_rest().await;
}

/// Nothing is hedged before it is known what is long; then only what is.
#[tokio::test(start_paused = true)]
async fn the_delay_follows_the_percentile() {
    let script = |seen: &Seen| match seen.nth {
        0 | 21 => Act::later(500, OK),
        _ => Act::later(20, OK),
    };
    let fleet = Fleet::new(&THREE, STAY, "hedge.percentile = 0.5", script);
    for _ in 0..21 {
        fleet.ask(GET).await;
    }
    assert_eq!(fleet.attempts(AttemptKind::Hedge), 0);
    let asked = Instant::now();
    assert_eq!(fleet.ask(GET).await.status(), 200);
    // 20 ms, rounded up by a sixteenth at most, and 20 ms for the hedge.
    let took = asked.elapsed();
    assert!((ms(40)..=ms(44)).contains(&took), "{took:?}");
    assert_eq!(fleet.attempts(AttemptKind::Hedge), 1);
    fleet.at_rest().await;
}

/// Stragglers that are cut are not forgotten: if only what was answered counted, the percentile
/// would sink, more would be hedged, and it would sink further.
#[tokio::test(start_paused = true)]
async fn the_percentile_does_not_sink_by_hedging() {
    // From 10 ms to 1.28 s, each doubling as likely as the others.
    let script = |seen: &Seen| {
        let share: f64 = stream(seen.nth as u64, "latency").random();
        Act::later((10.0 * libm::exp2(7.0 * share)) as u64, OK)
    };
    let cluster = format!("{STAY}\nretry_budget.ratio = 1.0");
    let fleet = Fleet::new(&THREE, &cluster, "hedge.percentile = 0.8", script);
    let mut before = 0;
    for round in 0..4 {
        for _ in 0..500 {
            fleet.ask(GET).await;
        }
        let hedges = fleet.attempts(AttemptKind::Hedge);
        let share = (hedges - before) as f64 / 500.0;
        assert!((0.1..0.32).contains(&share), "{share} were hedged in round {round}");
        before = hedges;
    }
    fleet.at_rest().await;
}

#[tokio::test(start_paused = true)]
async fn hedges_are_paid_from_the_retry_budget() {
    let cluster = "outlier.enabled = false\nretry_budget.ratio = 0.0\n\
                   retry_budget.window = \"1s\"\nretry_budget.min_per_second = 1";
    let fleet = Fleet::new(&THREE, cluster, AFTER_50_MS, |_| Act::later(200, OK));
    let mut callers = [fleet.caller(), fleet.caller(), fleet.caller()];
    for caller in &mut callers {
        caller.send(GET).await;
    }
    sleep(ms(100)).await;
    assert_eq!((fleet.seen().len(), fleet.balance()), (4, 0));
    for caller in &mut callers {
        assert_eq!(caller.message().await.status(), 200);
    }
    assert_eq!(fleet.attempts(AttemptKind::Hedge), 1);
    // A failure now finds nothing left, until the window is over.
    fleet.at_rest().await;
    sleep(ms(1100)).await;
    assert_eq!(fleet.balance(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_post_is_not_hedged_even_where_it_is_retried() {
    for route in [AFTER_50_MS, "hedge.after = \"50ms\"\nretry.non_idempotent = true"] {
        let fleet = Fleet::new(&THREE, "", route, |_| Act::later(200, OK));
        assert_eq!(fleet.ask(POST).await.status(), 200);
        assert_eq!((fleet.seen().len(), fleet.balance()), (1, 30));
        fleet.at_rest().await;
    }
}

/// Two attempts cannot read one caller.
#[tokio::test(start_paused = true)]
async fn what_is_not_there_in_full_is_not_hedged() {
    for (pause, hedges) in [(20, 1), (60, 0)] {
        let fleet = Fleet::new(&THREE, "", AFTER_50_MS, |_| Act::later(200, OK));
        let mut caller = fleet.caller();
        caller.send("PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nfirst").await;
        sleep(ms(pause)).await;
        assert_eq!(fleet.dialled().len(), 1);
        caller.send("other").await;
        assert_eq!(caller.message().await.status(), 200);
        assert_eq!(fleet.attempts(AttemptKind::Hedge), hedges, "after {pause} ms");
        assert!(fleet.seen().iter().all(|seen| seen.request.body == "firstother"));
        fleet.at_rest().await;
    }
}

/// One failure, judged once, whoever failed last.
#[tokio::test(start_paused = true)]
async fn when_both_fail_there_is_one_failure() {
    let both_fail = |seen: &Seen| match seen.nth {
        0 | 1 => Act::later(100, UNAVAILABLE),
        _ => Act::say(OK),
    };
    let fleet = Fleet::new(&THREE, STAY, AFTER_50_MS, both_fail);
    let answer = fleet.ask(GET).await;
    assert_eq!((answer.status(), answer.field("x-envoy-attempt-count")), (200, Some("3")));
    let mut seen_by = fleet.seen_by();
    seen_by.sort();
    assert_eq!(seen_by, THREE, "the retry went where nobody was asked yet");
    let scheduled = "sidecar_cluster_upstream_rq_retry_scheduled_total{cluster=\"web\"}";
    assert_eq!((fleet.metric(scheduled), fleet.attempts(AttemptKind::Retry)), (1, 1));
    assert_eq!(fleet.balance(), 28, "a hedge and a retry");
    fleet.at_rest().await;

    let route = format!("{AFTER_50_MS}\nretry.max_retries = 0");
    let fleet = Fleet::new(&THREE, STAY, &route, |_| Act::later(100, UNAVAILABLE));
    assert_eq!(fleet.ask(GET).await.status(), 503);
    assert_eq!(fleet.seen().len(), 2);
    fleet.at_rest().await;
    assert_eq!(fleet.stack.telemetry().request_totals().failed, 1);
}

/// A failure does not end the wait for the other; and its connection is not thrown away.
#[tokio::test(start_paused = true)]
async fn one_failure_of_two_is_none() {
    let script = |seen: &Seen| match seen.nth {
        0 => Act::later(60, UNAVAILABLE),
        _ => Act::later(60, OK),
    };
    let fleet = Fleet::new(&THREE, "", AFTER_50_MS, script);
    let asked = Instant::now();
    assert_eq!(fleet.ask(GET).await.status(), 200);
    assert_at(Instant::now(), asked + ms(110));
    assert_eq!(fleet.attempts(AttemptKind::Retry), 0);
    fleet.at_rest().await;
    assert_eq!(fleet.idle(), 2);
}

/// Both are cancelled at once with their caller.
#[tokio::test(start_paused = true)]
async fn a_caller_that_leaves_takes_both_along() {
    let fleet = Fleet::new(&THREE, "", AFTER_50_MS, |_| Act::hang());
    let mut caller = fleet.caller();
    caller.send(GET).await;
    sleep(ms(100)).await;
    assert_eq!(fleet.seen().len(), 2);
    let left = Instant::now();
    drop(caller);
    fleet.settle().await;
    assert_eq!(fleet.left().iter().filter(|(_, at)| *at == left).count(), 2);
    fleet.at_rest().await;
}

/// A hedge is paid like a retry, but is none: it uses up none of those that the route allows.
#[tokio::test(start_paused = true)]
async fn hedges_are_not_counted_as_retries() {
    let script = |seen: &Seen| match seen.nth {
        0 => Act::later(100, UNAVAILABLE),
        1 => Act::later(60, UNAVAILABLE),
        2 => Act::say(UNAVAILABLE),
        _ => Act::say(OK),
    };
    let fleet = Fleet::new(&THREE, STAY, "hedge.after = \"50ms\"\nretry.max_retries = 2", script);
    let answer = fleet.ask(GET).await;
    assert_eq!((answer.status(), answer.field("x-envoy-attempt-count")), (200, Some("4")));
    let kinds = [AttemptKind::First, AttemptKind::Retry, AttemptKind::Hedge];
    assert_eq!(kinds.map(|kind| fleet.attempts(kind)), [1, 2, 1]);
    fleet.at_rest().await;
}
