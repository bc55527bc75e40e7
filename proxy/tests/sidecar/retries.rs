//! A failure that another endpoint, or the next moment, does not have never reaches the caller;
//! what may have been carried out is not carried out twice.

mod bodies;
mod budget;
mod waits;

use std::time::Duration;

use proxy::telemetry::event::AttemptKind;
use tokio::time::sleep;

use crate::script::{Act, Fleet, GET, OK, POST, Seen, UNAVAILABLE};

const THREE: [&str; 3] = ["a:80", "b:80", "c:80"];
/// Endpoints fail here on purpose, and are to stay.
const STAY: &str = "outlier.enabled = false";

/// The ways to fail of an endpoint that has the whole request.
fn failures() -> [Act; 4] {
    let partial = "HTTP/1.1 200 OK\r\nconte";
    [
        Act::say(UNAVAILABLE),
        Act::close(),
        Act::Last(partial.to_owned()),
        Act::say("no HTTP\r\n\r\n"),
    ]
}

#[tokio::test(start_paused = true)]
async fn a_get_that_failed_is_answered_by_another_endpoint() {
    for failure in failures() {
        let script = move |seen: &Seen| match seen.nth {
            0 => failure.clone(),
            _ => Act::say(OK),
        };
        let fleet = Fleet::new(&THREE, "", "", script);
        let answer = fleet.ask(GET).await;
        assert_eq!((answer.status(), answer.body.as_str()), (200, "ok"));
        assert_eq!(answer.field("x-envoy-attempt-count"), Some("2"));
        assert_eq!(answer.field("x-sidecar-retry-given-up"), None);
        let seen = fleet.seen();
        assert_eq!(seen.len(), 2);
        assert_ne!(seen[0].endpoint, seen[1].endpoint);
        assert_eq!((seen[0].attempt(), seen[1].attempt()), ("1", "2"));
        fleet.at_rest().await;
        let cluster = "{cluster=\"web\"}";
        let retried = format!("sidecar_cluster_upstream_rq_retry_success_total{cluster}");
        assert_eq!((fleet.metric(&retried), fleet.attempts(AttemptKind::Retry)), (1, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn what_succeeds_at_once_says_nothing_of_attempts() {
    let fleet = Fleet::new(&THREE, "", "", |_| Act::say(OK));
    let answer = fleet.ask(GET).await;
    assert_eq!(answer.field("x-envoy-attempt-count"), None);
    assert_eq!((fleet.seen().len(), fleet.seen()[0].attempt()), (1, "1"));
    fleet.at_rest().await;
}

/// Whatever was sent or not: with as many tries as endpoints, each is tried once, every time.
#[tokio::test(start_paused = true)]
async fn no_endpoint_is_tried_twice_while_there_is_another() {
    let cluster = format!("{STAY}\nretry_budget.min_per_second = 1000");
    for balance in ["round_robin", "random", "least_request", "peak_ewma"] {
        let cluster = format!("{cluster}\nbalance = \"{balance}\"");
        let fleet = Fleet::new(&THREE, &cluster, "", |_| Act::say(UNAVAILABLE));
        for _ in 0..30 {
            let answer = fleet.ask(GET).await;
            assert_eq!(answer.field("x-envoy-attempt-count"), Some("3"));
            assert_eq!(answer.field("x-sidecar-retry-given-up"), Some("exhausted"));
        }
        for three in fleet.seen_by().chunks(3) {
            let mut three = three.to_vec();
            three.sort();
            assert_eq!(three, THREE, "{balance}");
        }
        let refusing = Fleet::partly(&THREE, &cluster, "", |_| false, |_| Act::say(OK));
        for _ in 0..30 {
            let answer = refusing.ask(GET).await;
            assert_eq!((answer.status(), answer.flag()), (503, "UF"));
        }
        for three in refusing.dialled().chunks(3) {
            let mut three = three.to_vec();
            three.sort();
            assert_eq!(three, THREE, "{balance}");
        }
        fleet.at_rest().await;
        refusing.at_rest().await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_only_endpoint_is_tried_again() {
    for failure in failures() {
        let script = move |seen: &Seen| match seen.nth {
            0 | 1 => failure.clone(),
            _ => Act::say(OK),
        };
        let fleet = Fleet::new(&["a:80"], "", "", script);
        let answer = fleet.ask(GET).await;
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.field("x-envoy-attempt-count"), Some("3"));
        let tries: Vec<_> = fleet.seen().iter().map(|seen| seen.attempt().to_owned()).collect();
        assert_eq!(tries, ["1", "2", "3"]);
        fleet.at_rest().await;
    }
}

/// Istio's default did, and made payments twice.
#[tokio::test(start_paused = true)]
async fn a_post_that_may_have_been_carried_out_is_not_sent_again() {
    for failure in failures() {
        for method in ["POST", "PATCH", "PROPFIND"] {
            let failure = failure.clone();
            let fleet = Fleet::new(&THREE, "", "", move |_| failure.clone());
            let answer = fleet.ask(POST.replacen("POST", method, 1)).await;
            assert!(matches!(answer.status(), 502 | 503), "{}", answer.head);
            assert_eq!(answer.field("x-sidecar-retry-given-up"), Some("not_safe"));
            assert_eq!(fleet.seen().len(), 1);
            fleet.at_rest().await;
            let labels = "{cluster=\"web\",why=\"not_safe\"}";
            let series = "sidecar_cluster_upstream_rq_retry_given_up_total";
            assert_eq!(fleet.metric(&format!("{series}{labels}")), 1);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_route_can_opt_in_for_post() {
    for failure in failures() {
        let script = move |seen: &Seen| match seen.nth {
            0 => failure.clone(),
            _ => Act::say(OK),
        };
        let fleet = Fleet::new(&THREE, "", "retry.non_idempotent = true", script);
        assert_eq!(fleet.ask(POST).await.status(), 200);
        let seen = fleet.seen();
        assert_eq!((seen.len(), seen[1].request.body.as_str()), (2, "hello"));
        fleet.at_rest().await;
    }
}

/// Of a request that was never sent nothing was carried out.
#[tokio::test(start_paused = true)]
async fn a_post_that_was_never_sent_goes_elsewhere() {
    for _ in 0..10 {
        let fleet = Fleet::partly(&THREE, "", "", |to| to == "b:80", |_| Act::say(OK));
        let mut retried = 0;
        for _ in 0..10 {
            let answer = fleet.ask(POST).await;
            assert_eq!(answer.status(), 200, "{}", answer.head);
            retried += u32::from(answer.field("x-envoy-attempt-count").is_some());
        }
        assert!(retried > 0, "nobody was refused");
        assert_eq!(fleet.seen_by(), ["b:80"; 10]);
        assert!(fleet.seen().iter().all(|seen| seen.request.body == "hello"));
        fleet.at_rest().await;
    }
}

/// A full queue of ours is as good as no connection.
#[tokio::test(start_paused = true)]
async fn a_post_that_finds_a_full_queue_goes_elsewhere() {
    let cluster = "max_connections = 1\nmax_pending = 0\nbalance = \"random\"";
    let fleet = Fleet::new(&["a:80", "b:80"], cluster, "", |_| Act::later(1000, OK));
    let mut first = fleet.caller();
    first.send(POST).await;
    fleet.settle().await;
    let mut second = fleet.caller();
    second.send(POST).await;
    // Longer than any backoff.
    sleep(Duration::from_millis(100)).await;
    let mut both = fleet.seen_by();
    both.sort();
    assert_eq!(both, ["a:80", "b:80"]);
    // Now both are full.
    let answer = fleet.ask(POST).await;
    assert_eq!((answer.status(), answer.flag()), (503, "UO"));
    assert_eq!(answer.field("x-sidecar-retry-given-up"), Some("exhausted"));
    assert_eq!((first.message().await.status(), second.message().await.status()), (200, 200));
    assert_eq!(fleet.seen().len(), 2);
    fleet.at_rest().await;
}

#[tokio::test(start_paused = true)]
async fn a_caller_asks_for_fewer_retries_and_not_for_more() {
    for (asked, expected) in [("0", 1), ("1", 2), ("2", 3), ("9", 3)] {
        let fleet = Fleet::new(&THREE, STAY, "", |_| Act::say(UNAVAILABLE));
        let get = format!("GET / HTTP/1.1\r\nhost: a\r\nx-envoy-max-retries: {asked}\r\n\r\n");
        assert_eq!(fleet.ask(get).await.status(), 503);
        assert_eq!(fleet.seen().len(), expected, "asked for {asked}");
        assert!(fleet.seen().iter().all(|s| s.request.field("x-envoy-max-retries").is_none()));
        fleet.at_rest().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_caller_narrows_what_is_retried() {
    for (on, after_503, after_reset) in [
        ("gateway-error", 3, 3),
        ("reset", 1, 3),
        ("connect-failure", 1, 1),
        ("retriable-4xx", 1, 1),
    ] {
        let unavailable = Act::say(UNAVAILABLE);
        for (failure, expected) in [(unavailable, after_503), (Act::close(), after_reset)] {
            let fleet = Fleet::new(&THREE, STAY, "", move |_| failure.clone());
            let get = format!("GET / HTTP/1.1\r\nhost: a\r\nx-envoy-retry-on: {on}\r\n\r\n");
            fleet.ask(get).await;
            assert_eq!(fleet.seen().len(), expected, "{on}");
            fleet.at_rest().await;
        }
    }
    // What the route does not retry, nobody can ask for.
    let conflict = "HTTP/1.1 409 No\r\ncontent-length: 0\r\n\r\n";
    let fleet = Fleet::new(&THREE, STAY, "", |_| Act::say(conflict));
    fleet.ask("GET / HTTP/1.1\r\nhost: a\r\nx-envoy-retry-on: retriable-4xx\r\n\r\n").await;
    assert_eq!(fleet.seen().len(), 1);
}

/// The rest of a response that nobody wants is read, if it is short, because its connection is
/// worth more; one that is long, or slow, costs its connection.
#[tokio::test(start_paused = true)]
async fn a_discarded_response_keeps_its_connection_if_its_rest_is_short() {
    let head = |length: usize| format!("HTTP/1.1 503 No\r\ncontent-length: {length}\r\n\r\n");
    let short = Act::Say(head(10_000) + &"x".repeat(10_000));
    let long = Act::Say(head(100_000) + &"x".repeat(100_000));
    let slow = Act::Stall(head(10) + "half");
    for (failure, idle) in [(short, 2), (long, 1), (slow, 1)] {
        let script = move |seen: &Seen| match seen.nth {
            0 => failure.clone(),
            _ => Act::say(OK),
        };
        let fleet = Fleet::new(&["a:80", "b:80"], "", "", script);
        assert_eq!(fleet.ask(GET).await.status(), 200);
        // As long as the rest may take.
        sleep(Duration::from_millis(1001)).await;
        assert_eq!(fleet.idle(), idle);
        let discarded = fleet.stack.telemetry().conservation().attempts().discarded;
        assert_eq!(discarded.iter().sum::<u64>(), 1);
        fleet.at_rest().await;
    }
}
