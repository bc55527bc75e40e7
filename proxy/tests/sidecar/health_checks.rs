//! Endpoints that are asked whether they are well, and how that agrees with what requests say.

use std::time::Duration;

use crate::fleet::{Does, Fleet, GET, POST, answerer, seconds, settle};

const HTTP: &str = "health_check.kind = { http = { path = \"/healthz\" } }";
const TCP: &str = "health_check.kind = \"tcp\"";
const EXACT: &str = "balance = \"round_robin\"\noutlier.jitter = 0.0";
const NO_RETRIES: &str = "retry.max_retries = 0";

fn checked(check: &str) -> Fleet {
    Fleet::new(&["a:80", "b:80"], &format!("{EXACT}\n{check}"), NO_RETRIES)
}

#[tokio::test(start_paused = true)]
async fn an_http_check_takes_an_endpoint_out_and_brings_it_back() {
    let fleet = checked(HTTP);
    fleet.gets(10).await;
    assert_eq!(fleet.state("b:80").await, "ready");
    fleet.change("b:80", |b| b.health = Some(503));
    // An interval of 5 s at the most, then two more at the fast one of 1 s.
    seconds(7.1).await;
    assert_eq!(fleet.state("b:80").await, "unhealthy");
    assert_eq!(fleet.cluster("health_check_unhealthy"), 1);
    assert_eq!(fleet.cluster("membership_healthy"), 1);
    assert_eq!(fleet.timeline(), ["b:80 unhealthy"]);
    assert_eq!(fleet.idle(1), 0, "its connections are closed");
    let seen = fleet.seen("b:80");
    for _ in 0..20 {
        assert_eq!(fleet.gets(5).await["a:80"], 5);
        seconds(0.5).await;
    }
    assert_eq!(fleet.seen("b:80"), seen, "no request finds out for it");
    fleet.change("b:80", |b| b.health = Some(200));
    seconds(2.1).await;
    assert_eq!(fleet.state("b:80").await, "ramping");
    assert_eq!(fleet.timeline(), ["b:80 unhealthy", "b:80 healthy"]);
    assert_eq!(fleet.cluster("health_check_unhealthy"), 0);
    seconds(10.0).await;
    assert_eq!(fleet.gets(10).await["b:80"], 5);
    fleet.check_at_rest().await;
}

/// There is no history that the first one could contradict.
#[tokio::test(start_paused = true)]
async fn the_first_check_decides_alone() {
    let fleet = checked(HTTP);
    fleet.change("b:80", |b| b.health = Some(500));
    settle().await;
    assert_eq!(fleet.state("b:80").await, "unhealthy");
    assert_eq!(fleet.gets(10).await["a:80"], 10);
    fleet.check_at_rest().await;
}

#[tokio::test(start_paused = true)]
async fn one_failed_check_or_two_take_nobody_out() {
    let fleet = checked(HTTP);
    settle().await;
    let checks = fleet.upstream("b:80").checks;
    fleet.change("b:80", |b| b.health = Some(500));
    while fleet.upstream("b:80").checks < checks + 2 {
        seconds(0.01).await;
    }
    fleet.change("b:80", |b| b.health = Some(200));
    seconds(20.0).await;
    assert_eq!(fleet.timeline(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_check_without_an_answer_fails_when_its_time_is_over() {
    let fleet = checked(HTTP);
    settle().await;
    fleet.change("b:80", |b| b.health = None);
    // Each takes its whole second, from which the fast interval runs.
    seconds(8.1).await;
    assert_eq!(fleet.state("b:80").await, "unhealthy");
    assert!(fleet.upstream("b:80").open <= 1, "none is left behind");
}

#[tokio::test(start_paused = true)]
async fn a_tcp_check_takes_an_endpoint_out_and_brings_it_back() {
    let fleet = checked(TCP);
    settle().await;
    fleet.tell("b:80", Does::Refuses);
    seconds(7.1).await;
    assert_eq!(fleet.state("b:80").await, "unhealthy");
    assert_eq!(fleet.gets(10).await["a:80"], 10);
    fleet.tell("b:80", Does::Answers(200));
    seconds(2.1).await;
    assert_eq!(fleet.state("b:80").await, "ramping");
    assert_eq!(fleet.seen("b:80"), 0, "without any request");
    fleet.check_at_rest().await;
}

/// They go on connections of their own, and are nobody's requests.
#[tokio::test(start_paused = true)]
async fn checks_are_counted_as_nothing() {
    for check in [HTTP, TCP] {
        let fleet = checked(check);
        seconds(60.0).await;
        for (place, name) in ["a:80", "b:80"].into_iter().enumerate() {
            let upstream = fleet.upstream(name);
            assert!(upstream.connections >= 12, "{} in a minute", upstream.connections);
            assert_eq!((upstream.seen.len(), upstream.open), (0, 0));
            assert!(check == TCP || upstream.checks == upstream.connections);
            let counts = fleet.counts(place);
            assert_eq!((counts.rq_total, counts.cx_total, counts.cx_active), (0, 0, 0));
        }
        assert_eq!(fleet.metric("sidecar_downstream_rq_total"), 0);
        fleet.check_at_rest().await;
    }
}

/// A check of connections is the trial of an endpoint that could not be connected to.
#[tokio::test(start_paused = true)]
async fn a_check_that_passes_ends_an_ejection_for_what_it_proves() {
    let fleet = checked(TCP);
    settle().await;
    fleet.tell("b:80", Does::Refuses);
    for _ in 0..10 {
        fleet.ask(GET).await;
    }
    let reason = fleet.page("b:80", "ejection_reason").await;
    assert_eq!(reason.as_deref(), Some("consecutive_local_origin"));
    fleet.tell("b:80", Does::Answers(200));
    seconds(5.1).await;
    assert_eq!(fleet.state("b:80").await, "ramping");
    assert_eq!(fleet.seen("b:80"), 0, "no request was on trial");
    let last = fleet.timeline().pop();
    assert_eq!(last.as_deref(), Some("b:80 returned"));
    fleet.check_at_rest().await;
}

#[tokio::test(start_paused = true)]
async fn a_check_that_passes_ends_no_ejection_for_errors() {
    let fleet = checked(HTTP);
    fleet.tell("b:80", Does::Answers(500));
    fleet.gets_until_seen("b:80", 5).await;
    let seen = fleet.seen("b:80");
    seconds(60.0).await;
    assert!(fleet.upstream("b:80").checks > 10);
    assert_eq!((fleet.state("b:80").await, fleet.seen("b:80")), ("ejected".to_owned(), seen));
    fleet.tell("b:80", Does::Answers(200));
    assert_eq!(answerer(&fleet.ask(POST).await), "b:80", "a request does");
    settle().await;
    assert_eq!(fleet.state("b:80").await, "ramping");
    fleet.check_at_rest().await;
}

/// What is out for both reasons is back when both are gone.
#[tokio::test(start_paused = true)]
async fn an_ejection_outlasts_the_check_that_failed_beside_it() {
    let fleet = checked(HTTP);
    settle().await;
    fleet.tell("b:80", Does::Answers(500));
    fleet.gets_until_seen("b:80", 5).await;
    fleet.change("b:80", |b| b.health = Some(500));
    seconds(7.1).await;
    assert_eq!(fleet.state("b:80").await, "unhealthy");
    let seen = fleet.seen("b:80");
    fleet.gets(20).await;
    assert_eq!(fleet.seen("b:80"), seen, "no trial for what is known to be down");
    fleet.change("b:80", |b| b.health = Some(200));
    seconds(2.1).await;
    assert_eq!(fleet.state("b:80").await, "ejected");
    assert_eq!(fleet.gets(1).await["b:80"], 1, "long overdue");
    fleet.tell("b:80", Does::Takes(Duration::from_millis(1), 200));
    fleet.check_at_rest().await;
}
