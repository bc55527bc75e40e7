//! What is refused before it is placed or while it waits: at once, with a reason, and counted.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use crate::fleet::{Does, Fleet, GET, answerer, assert_refused, seconds, settle};
use crate::peer::Message;

const NO_RETRIES: &str = "retry.max_retries = 0";

fn one(cluster: &str, route: &str) -> Fleet {
    Fleet::new(&["a:80"], cluster, &format!("{NO_RETRIES}\n{route}"))
}

fn slow() -> Does {
    Does::Takes(Duration::from_millis(500), 200)
}

/// So many requests at once; their answers in the order of asking.
async fn at_once(fleet: &Fleet, count: usize) -> Vec<Message> {
    let mut asked: Vec<JoinHandle<Message>> = Vec::new();
    for _ in 0..count {
        asked.push(fleet.start(GET));
        // In order.
        settle().await;
    }
    let mut answers = Vec::new();
    for answer in asked {
        answers.push(answer.await.expect("an answer"));
    }
    answers
}

/// The time until the next one is welcome is told in whole seconds, and never too short.
#[tokio::test(start_paused = true)]
async fn a_rate_limit_of_a_route_refuses_with_the_time_to_wait() {
    let fleet = one("", "rate_limit = { rate = 0.4, burst = 3 }");
    for _ in 0..3 {
        assert_eq!(fleet.ask(GET).await.status(), 200);
    }
    let answer = fleet.ask(GET).await;
    assert_refused(&answer, 429, "RL");
    assert_eq!(answer.field("retry-after"), Some("3"), "of 2.5 s");
    assert_eq!((fleet.seen("a:80"), fleet.counts(0).rq_total), (3, 3));
    assert_eq!(fleet.refused("RL"), 1);
    assert_eq!(fleet.metric("sidecar_downstream_rq_rate_limited_total"), 1);
    seconds(2.4).await;
    let answer = fleet.ask(GET).await;
    assert_eq!((answer.status(), answer.field("retry-after")), (429, Some("1")));
    seconds(0.1).await;
    assert_eq!(fleet.ask(GET).await.status(), 200);
    assert_eq!(fleet.seen("a:80"), 4);
    fleet.check_at_rest().await;
}

#[tokio::test(start_paused = true)]
async fn a_rate_limit_by_source_or_header_is_each_ones_own() {
    let limit = "rate_limit = { rate = 1, burst = 2, by = \"source\" }";
    let fleet = one("", limit);
    for source in [[10, 0, 0, 1], [10, 0, 0, 2]] {
        for status in [200, 200, 429] {
            assert_eq!(fleet.ask_from(source, GET).await.status(), status, "{source:?}");
        }
    }
    fleet.check_at_rest().await;

    let limit = "rate_limit = { rate = 1, burst = 2, by = { header = \"x-user\" } }";
    let fleet = one("", limit);
    for user in ["x-user: ann\r\n", "x-user: bob\r\n", "", "x-other: 1\r\n"] {
        let request = format!("GET / HTTP/1.1\r\nhost: a\r\n{user}\r\n");
        // Whoever leaves the field out shares one bucket with all who do.
        let expected = if user.starts_with("x-other") { [429; 3] } else { [200, 200, 429] };
        for status in expected {
            assert_eq!(fleet.ask(&request).await.status(), status, "{user:?}");
        }
    }
    fleet.check_at_rest().await;
}

/// An overflow is answered with 503 and says that it is one; the other side sees nothing of it.
fn assert_overflow(answer: &Message) {
    assert_refused(answer, 503, "UO");
    assert_eq!(answer.field("x-envoy-overloaded"), Some("true"));
}

#[tokio::test(start_paused = true)]
async fn a_cluster_takes_as_many_requests_as_it_may() {
    let fleet = one("limits.max_requests = 3", "");
    fleet.tell("a:80", slow());
    let answers = at_once(&fleet, 5).await;
    assert!(answers[..3].iter().all(|answer| answer.status() == 200));
    answers[3..].iter().for_each(assert_overflow);
    assert_eq!((fleet.seen("a:80"), fleet.refused("UO")), (3, 2));
    assert_eq!(fleet.counted("limit_reached_total", "limit", "requests"), 2);
    assert_eq!(fleet.ask(GET).await.status(), 200, "there is room again");
    fleet.check_at_rest().await;
}

#[tokio::test(start_paused = true)]
async fn a_cluster_makes_as_many_connections_as_it_may() {
    let cluster = "balance = \"round_robin\"\nlimits.max_connections = 3";
    let fleet = Fleet::new(&["a:80", "b:80"], cluster, "");
    fleet.tell("a:80", slow());
    fleet.tell("b:80", slow());
    let answers = at_once(&fleet, 4).await;
    assert!(answers[..3].iter().all(|answer| answer.status() == 200));
    assert_overflow(&answers[3]);
    // It is the cluster's limit: another of its endpoints is no way around it.
    assert_eq!(fleet.cluster("upstream_rq_retry_total"), 0);
    assert_eq!(fleet.cluster("upstream_cx_overflow_total"), 1);
    assert_eq!(fleet.counted("limit_reached_total", "limit", "connections"), 1);
    assert_eq!(fleet.seen("a:80") + fleet.seen("b:80"), 3);
    fleet.check_at_rest().await;
}

#[tokio::test(start_paused = true)]
async fn as_many_requests_wait_in_a_cluster_as_may() {
    let fleet = one("max_connections = 1\nlimits.max_pending = 2", "");
    fleet.tell("a:80", slow());
    let answers = at_once(&fleet, 4).await;
    assert_overflow(&answers[3]);
    assert!(answers[..2].iter().all(|answer| answer.status() == 200));
    assert_eq!(fleet.counted("limit_reached_total", "limit", "pending"), 1);
    fleet.check_at_rest().await;
}

#[tokio::test(start_paused = true)]
async fn as_many_retries_are_made_as_may() {
    let cluster = "limits.max_retries = 0\nbalance = \"round_robin\"";
    let fleet = Fleet::new(&["a:80", "b:80"], cluster, "");
    fleet.tell("b:80", Does::Answers(503));
    let mut failed = 0;
    for _ in 0..4 {
        let answer = fleet.ask(GET).await;
        failed += u64::from(answer.status() == 503);
        let why = (answer.status() == 503).then_some("limit_reached");
        assert_eq!(answer.field("x-sidecar-retry-given-up"), why);
    }
    assert_eq!(failed, 2);
    assert_eq!(fleet.counted("limit_reached_total", "limit", "retries"), failed);
    assert_eq!(fleet.cluster("upstream_rq_retry_total"), 0);
    fleet.check_at_rest().await;
}

/// Who has waited longest goes first: the others may still be in time.
#[tokio::test(start_paused = true)]
async fn a_full_queue_refuses_the_oldest() {
    let cluster = "max_connections = 1\nmax_pending = 2\nqueue_timeout = \"5s\"";
    let fleet = one(cluster, "");
    fleet.tell("a:80", slow());
    let began = Instant::now();
    let served = fleet.start(GET);
    settle().await;
    let oldest = fleet.start(GET);
    settle().await;
    let younger = fleet.start(GET);
    settle().await;
    let youngest = fleet.start(GET);
    let answer = oldest.await.expect("an answer");
    assert_overflow(&answer);
    assert!(began.elapsed() < Duration::from_millis(10), "at once");
    assert_eq!(fleet.cluster("upstream_rq_pending_overflow_total"), 1);
    assert_eq!(served.await.expect("an answer").status(), 200);
    // They have waited for longer than a burst lasts: the newest is first.
    assert_eq!(youngest.await.expect("an answer").status(), 200);
    assert!(!younger.is_finished());
    assert_eq!(younger.await.expect("an answer").status(), 200);
    fleet.check_at_rest().await;
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_longer_than_the_queue_timeout() {
    let fleet = one("max_connections = 1\nqueue_timeout = \"200ms\"", "");
    fleet.tell("a:80", slow());
    let served = fleet.start(GET);
    settle().await;
    let began = Instant::now();
    let answer = fleet.ask(GET).await;
    assert_overflow(&answer);
    let waited = began.elapsed();
    assert!((200..205).contains(&waited.as_millis()), "{waited:?}");
    assert_eq!(fleet.cluster("upstream_rq_pending_timeout_total"), 1);
    assert_eq!(served.await.expect("an answer").status(), 200);
    assert_eq!(fleet.seen("a:80"), 1);
    fleet.check_at_rest().await;
}

/// Twice what the upstream can do: with a limit that follows latency, what is let in is answered
/// in about the time of an upstream that is just busy, and what is not is refused in no time.
#[tokio::test(start_paused = true)]
async fn at_twice_the_capacity_latency_stays_bounded_and_refusals_are_immediate() {
    const SECONDS: u32 = 20;
    let (limited, refused) = overload("concurrency = {}", SECONDS).await;
    let (unlimited, _) = overload("", SECONDS).await;
    assert!(refused.iter().all(Duration::is_zero), "{:?}", refused.iter().max());
    assert!(refused.len() > 1000, "only {} refused", refused.len());
    let capacity = 200 * SECONDS as usize * 3 / 4;
    assert!(limited.len() > capacity * 9 / 10, "{} of {capacity} answered", limited.len());
    let (bounded, grown) = (p99(limited), p99(unlimited));
    // Five times the work itself; the queue without a limit grows until callers give up.
    assert!(bounded <= Duration::from_millis(250), "{bounded:?}");
    assert!(grown >= Duration::from_secs(1), "{grown:?}: or this test shows nothing");
}

/// 400 requests a second for an upstream of 10 workers that take 50 ms: how long it took to answer
/// those that came after the first quarter, and to refuse any.
async fn overload(cluster: &str, seconds: u32) -> (Vec<Duration>, Vec<Duration>) {
    let fleet = one(cluster, "timeout = \"3s\"");
    fleet.tell("a:80", Does::Works(Arc::new(Semaphore::new(10)), Duration::from_millis(50)));
    let began = Instant::now();
    let mut asked = Vec::new();
    for nth in 0..400 * seconds {
        sleep_until(began + Duration::from_micros(2500) * nth).await;
        let (started, answer) = (Instant::now(), fleet.start(GET));
        asked.push(tokio::spawn(async move {
            let answer = answer.await.expect("an answer");
            (answer, started, started.elapsed())
        }));
    }
    let (mut served, mut refused) = (Vec::new(), Vec::new());
    let settled = began + Duration::from_secs(seconds.into()) / 4;
    for asked in asked {
        let (answer, started, took) = asked.await.expect("an answer");
        match answer.flag() {
            "UO" => {
                assert_overflow(&answer);
                refused.push(took);
            }
            _ if started < settled => {}
            _ => served.push(took),
        }
    }
    if !cluster.is_empty() {
        let counted = fleet.counted("limit_reached_total", "limit", "concurrency");
        assert_eq!(counted, refused.len() as u64);
        let page = fleet.page("", "concurrency").await.expect("a limit");
        assert!((10..40).contains(&page.parse::<u32>().expect("a number")), "{page}");
        fleet.check_at_rest().await;
    }
    (served, refused)
}

fn p99(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() * 99 / 100]
}

const CIRCUIT: &str = "circuit = { min_requests = 10, open_for = \"5s\" }\noutlier.enabled = false";

/// Opens the circuit of a cluster that fails always.
async fn opened(route: &str) -> Fleet {
    let fleet = one(CIRCUIT, route);
    fleet.tell("a:80", Does::Answers(500));
    for _ in 0..10 {
        assert_eq!(fleet.page("", "circuit").await.as_deref(), Some("closed"));
        assert_eq!(fleet.ask(GET).await.status(), 500);
    }
    settle().await;
    assert_eq!(fleet.page("", "circuit").await.as_deref(), Some("open"));
    fleet
}

#[tokio::test(start_paused = true)]
async fn an_open_circuit_refuses_until_it_has_tried_and_succeeded() {
    let fleet = opened("").await;
    for _ in 0..5 {
        assert_refused(&fleet.ask(GET).await, 503, "CO");
    }
    assert_eq!((fleet.seen("a:80"), fleet.refused("CO")), (10, 5));
    assert_eq!(fleet.counted("limit_reached_total", "limit", "circuit"), 5);
    assert_eq!(fleet.timeline(), ["web circuit_changed open"]);
    // It fails still, and pauses for longer.
    seconds(5.0).await;
    assert_eq!(fleet.ask(GET).await.status(), 500);
    settle().await;
    assert_refused(&fleet.ask(GET).await, 503, "CO");
    seconds(9.0).await;
    assert_refused(&fleet.ask(GET).await, 503, "CO");
    // It is well: three are let through at once, and close it.
    fleet.tell("a:80", slow());
    seconds(1.0).await;
    let answers = at_once(&fleet, 5).await;
    let statuses: Vec<_> = answers.iter().map(Message::status).collect();
    assert_eq!(statuses, [200, 200, 200, 503, 503]);
    settle().await;
    assert_eq!(fleet.page("", "circuit").await.as_deref(), Some("closed"));
    let changes = ["open", "half_open", "open", "half_open", "closed"];
    assert_eq!(fleet.timeline(), changes.map(|state| format!("web circuit_changed {state}")));
    assert_eq!(fleet.ask(GET).await.status(), 200);
    fleet.check_at_rest().await;
}

#[tokio::test(start_paused = true)]
async fn a_routes_fallback_is_served_while_the_circuit_is_open() {
    let fallback =
        "fallback = { status = 203, body = \"[]\", content_type = \"application/json\" }";
    let fleet = opened(fallback).await;
    let answer = fleet.ask(GET).await;
    assert_eq!((answer.status(), answer.body.as_str()), (203, "[]"));
    assert_eq!(answer.field("content-type"), Some("application/json"));
    assert_eq!((answer.flag(), answerer(&answer)), ("CO", "none"));
    let reason = answer.field("x-sidecar-reason").unwrap_or_default();
    assert!(reason.contains("fails too often"), "{answer:?}");
    assert_eq!((fleet.seen("a:80"), fleet.refused("CO")), (10, 1));
    assert_eq!(fleet.cluster("fallback_served_total"), 1);
    let class = "sidecar_downstream_rq_class_total{class=\"2xx\"}";
    assert_eq!(fleet.metric(class), 1, "what the caller was sent");
    fleet.check_at_rest().await;
}
