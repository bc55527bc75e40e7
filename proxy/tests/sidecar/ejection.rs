//! An endpoint that fails goes out, and comes back by one request: as callers, upstreams, counters
//! and the admin page see it.

use std::time::Duration;

use crate::fleet::{Does, Fleet, GET, POST, answerer, seconds, settle};

/// Exact times, and no retries that would hide what happens.
const EXACT: &str = "balance = \"round_robin\"\noutlier.jitter = 0.0\nslow_start.window = \"10s\"";
const NO_RETRIES: &str = "retry.max_retries = 0";

fn two() -> Fleet {
    Fleet::new(&["a:80", "b:80"], EXACT, NO_RETRIES)
}

/// With retries, so that a GET can be put on trial.
fn two_with_retries() -> Fleet {
    Fleet::new(&["a:80", "b:80"], EXACT, "")
}

/// Ejects `b:80`, which then is told to do something else.
async fn eject_b(fleet: &Fleet, then: Does) {
    fleet.tell("b:80", Does::Answers(500));
    fleet.gets_until_seen("b:80", 5).await;
    settle().await;
    assert_eq!(fleet.state("b:80").await, "ejected");
    fleet.tell("b:80", then);
}

#[tokio::test(start_paused = true)]
async fn five_errors_in_a_row_eject_and_four_do_not() {
    let fleet = two();
    for _ in 0..3 {
        fleet.tell("b:80", Does::Answers(500));
        fleet.gets_until_seen("b:80", 4).await;
        assert_eq!(fleet.state("b:80").await, "ready");
        fleet.tell("b:80", Does::Answers(200));
        fleet.gets_until_seen("b:80", 1).await;
    }
    assert_eq!(fleet.timeline(), Vec::<String>::new());
    eject_b(&fleet, Does::Answers(200)).await;
    assert_eq!(fleet.timeline(), ["b:80 ejected consecutive_errors for 2s"]);
    let reason = fleet.page("b:80", "ejection_reason").await;
    assert_eq!(reason.as_deref(), Some("consecutive_errors"));
    assert_eq!(fleet.page("b:80", "weight").await.as_deref(), Some("0"));
    assert_eq!(fleet.page("a:80", "state").await.as_deref(), Some("ready"));
    assert_eq!(fleet.cluster("membership_healthy"), 1);
    assert_eq!(fleet.cluster("outlier_detection_ejections_active"), 1);
    let enforced = "outlier_detection_ejections_enforced_total";
    assert_eq!(fleet.counted(enforced, "reason", "consecutive_errors"), 1);

    let seen = fleet.seen("b:80");
    assert_eq!(fleet.gets(30).await["a:80"], 30);
    seconds(1.9).await;
    assert_eq!(fleet.gets(30).await["a:80"], 30);
    assert_eq!(fleet.seen("b:80"), seen, "nothing is sent to what is out");
    fleet.check_at_rest().await;
}

/// Each kind of failure, by its name.
#[tokio::test(start_paused = true)]
async fn the_reason_of_an_ejection_is_what_failed() {
    let slow = Duration::from_secs(9);
    let cases = [
        (Does::Answers(500), "consecutive_errors"),
        (Does::Answers(503), "consecutive_gateway_errors"),
        (Does::Refuses, "consecutive_local_origin"),
        (Does::Closes, "consecutive_local_origin"),
        (Does::Hangs, "consecutive_local_origin"),
        (Does::Takes(slow, 200), "consecutive_local_origin"),
    ];
    for (does, reason) in cases {
        let route = format!("{NO_RETRIES}\ntimeout = \"100ms\"");
        // Each detector alone: an error of a gateway is an error, too.
        let others = match reason {
            "consecutive_gateway_errors" => "outlier.consecutive_errors.act = \"off\"",
            _ => "",
        };
        let fleet = Fleet::new(&["a:80", "b:80"], &format!("{EXACT}\n{others}"), &route);
        fleet.tell("b:80", does);
        for _ in 0..10 {
            assert_ne!(fleet.state("b:80").await, "ejected", "too early for {reason}");
            fleet.ask(GET).await;
        }
        let shown = fleet.page("b:80", "ejection_reason").await;
        assert_eq!(shown.as_deref(), Some(reason));
    }
}

#[tokio::test(start_paused = true)]
async fn exactly_one_request_is_on_trial_and_success_brings_the_endpoint_back() {
    let fleet = two_with_retries();
    eject_b(&fleet, Does::Takes(Duration::from_millis(100), 200)).await;
    let seen = fleet.seen("b:80");
    seconds(2.0).await;
    let trial = fleet.start(GET);
    settle().await;
    assert_eq!((fleet.seen("b:80"), fleet.state("b:80").await), (seen + 1, "probing".to_owned()));
    assert_eq!(fleet.gets(20).await["a:80"], 20, "one at a time");
    let answer = trial.await.expect("an answer");
    assert_eq!((answer.status(), answerer(&answer)), (200, "b:80"));
    settle().await;
    assert_eq!(fleet.state("b:80").await, "ramping");
    let moments = fleet.timeline();
    assert_eq!(moments[1..], ["b:80 probed", "b:80 returned"]);
    assert_eq!(fleet.cluster("outlier_detection_probes_total"), 1);
    assert_eq!(fleet.cluster("outlier_detection_returns_total"), 1);
    assert_eq!(fleet.cluster("outlier_detection_ejections_active"), 0);
    fleet.check_at_rest().await;
}

/// Its share grows from a tenth to all of it, and the page says so.
#[tokio::test(start_paused = true)]
async fn an_endpoint_that_is_back_gets_a_growing_share() {
    let fleet = two_with_retries();
    eject_b(&fleet, Does::Answers(200)).await;
    seconds(2.0).await;
    assert_eq!(answerer(&fleet.ask(GET).await), "b:80", "on trial");
    let mut shares = Vec::new();
    for _ in 0..11 {
        let before = fleet.seen("b:80");
        for _ in 0..200 {
            fleet.ask(GET).await;
            seconds(0.005).await;
        }
        shares.push(fleet.seen("b:80") - before);
        if shares.len() == 5 {
            let weight = fleet.page("b:80", "weight").await.expect("a weight");
            let weight: f64 = weight.parse().expect("a number");
            assert!((0.45..0.55).contains(&weight), "{weight}");
        }
    }
    // Of 100, which is half: a tenth, a half, all of it.
    assert!((2..25).contains(&shares[0]), "{shares:?}");
    assert!((30..65).contains(&shares[4]), "{shares:?}");
    assert!((80..100).contains(&shares[9]), "{shares:?}");
    assert_eq!(shares[10], 100, "{shares:?}");
    assert_eq!(fleet.state("b:80").await, "ready");
    fleet.check_at_rest().await;
}

/// A request on trial may be lost, so one that can be had again is preferred.
#[tokio::test(start_paused = true)]
async fn a_request_that_can_be_repeated_goes_on_trial_first() {
    let fleet = two_with_retries();
    eject_b(&fleet, Does::Answers(500)).await;
    seconds(2.1).await;
    let seen = fleet.seen("b:80");
    for _ in 0..5 {
        assert_eq!(answerer(&fleet.ask(POST).await), "a:80");
    }
    let answer = fleet.ask(GET).await;
    assert_eq!((answer.status(), answerer(&answer)), (200, "a:80"), "tried again elsewhere");
    assert_eq!(fleet.seen("b:80"), seen + 1);
    assert!(fleet.upstream("b:80").seen[seen].starts_with("GET "));
    fleet.check_at_rest().await;
}

#[tokio::test(start_paused = true)]
async fn a_service_without_such_requests_comes_back_a_second_later() {
    let fleet = two_with_retries();
    eject_b(&fleet, Does::Answers(200)).await;
    seconds(2.9).await;
    assert_eq!(answerer(&fleet.ask(POST).await), "a:80", "there might still come a GET");
    seconds(0.1).await;
    assert_eq!(answerer(&fleet.ask(POST).await), "b:80");
    settle().await;
    assert_eq!(fleet.state("b:80").await, "ramping");
    fleet.check_at_rest().await;
}

#[tokio::test(start_paused = true)]
async fn a_failed_trial_makes_the_ejection_twice_as_long() {
    let fleet = two_with_retries();
    eject_b(&fleet, Does::Answers(500)).await;
    for (wait, next) in [(2.0, "4s"), (4.0, "8s"), (8.0, "16s")] {
        let (moments, seen) = (fleet.timeline().len(), fleet.seen("b:80"));
        seconds(wait - 0.1).await;
        fleet.gets(5).await;
        assert_eq!(fleet.seen("b:80"), seen, "not before {wait} s");
        seconds(0.1).await;
        fleet.gets(5).await;
        assert_eq!(fleet.seen("b:80"), seen + 1, "one after {wait} s");
        let failed = format!("b:80 trial_failed out for {next} more");
        assert_eq!(fleet.timeline_after(moments), ["b:80 probed", &failed]);
    }
    assert_eq!(fleet.cluster("outlier_detection_probes_failed_total"), 3);
    fleet.check_at_rest().await;
}

#[tokio::test(start_paused = true)]
async fn late_answers_from_before_the_ejection_change_nothing() {
    let fleet = two_with_retries();
    fleet.tell("b:80", Does::Takes(Duration::from_secs(6), 500));
    let late: Vec<_> = (0..16).map(|_| fleet.start(POST)).collect();
    settle().await;
    assert_eq!(fleet.seen("b:80"), 8, "that many will fail late");
    fleet.tell("b:80", Does::Takes(Duration::from_millis(1500), 200));
    let well: Vec<_> = (0..4).map(|_| fleet.start(POST)).collect();
    settle().await;
    eject_b(&fleet, Does::Answers(200)).await;
    for answer in well {
        assert_eq!(answer.await.expect("an answer").status(), 200);
    }
    settle().await;
    assert_eq!(fleet.state("b:80").await, "ejected", "late success is no trial");
    seconds(0.6).await;
    assert_eq!(answerer(&fleet.ask(GET).await), "b:80", "on trial when it is due");
    let moments = fleet.timeline().len();
    let mut failed = 0;
    for answer in late {
        failed += usize::from(answer.await.expect("an answer").status() == 500);
    }
    settle().await;
    assert_eq!(failed, 8);
    assert_eq!(
        (fleet.state("b:80").await, fleet.timeline().len()),
        ("ramping".to_owned(), moments)
    );
    fleet.check_at_rest().await;
}

/// One of two may go, the last one never.
#[tokio::test(start_paused = true)]
async fn never_all_endpoints_are_ejected() {
    let fleet = two();
    fleet.tell("a:80", Does::Answers(500));
    fleet.tell("b:80", Does::Answers(500));
    fleet.gets(50).await;
    let states = [fleet.state("a:80").await, fleet.state("b:80").await];
    assert_eq!(states.iter().filter(|state| *state == "ejected").count(), 1, "{states:?}");
    assert_eq!(fleet.cluster("membership_healthy"), 1);
    assert!(fleet.cluster("outlier_detection_ejections_overflow_total") > 0);
    let overflowed = |line: &String| line.contains("ejection_overflowed consecutive_errors");
    assert!(fleet.timeline().iter().any(overflowed), "{:?}", fleet.timeline());
    assert_eq!(fleet.cluster("lb_panic"), 0, "half is not less than half");
    fleet.check_at_rest().await;
}

#[tokio::test(start_paused = true)]
async fn an_only_endpoint_stays() {
    let fleet = Fleet::new(&["a:80"], EXACT, NO_RETRIES);
    fleet.tell("a:80", Does::Answers(500));
    assert_eq!(fleet.gets(20).await["a:80"], 20);
    assert_eq!(fleet.state("a:80").await, "ready");
    fleet.check_at_rest().await;
}

#[tokio::test(start_paused = true)]
async fn connections_of_an_ejected_endpoint_close() {
    let fleet = two();
    fleet.tell("b:80", Does::Takes(Duration::from_millis(10), 200));
    let warm: Vec<_> = (0..12).map(|_| fleet.start(GET)).collect();
    for answer in warm {
        answer.await.expect("an answer");
    }
    settle().await;
    assert_eq!((fleet.idle(1), fleet.upstream("b:80").open), (6, 6));
    fleet.tell("b:80", Does::Takes(Duration::from_millis(500), 200));
    let in_use: Vec<_> = (0..4).map(|_| fleet.start(GET)).collect();
    settle().await;
    assert_eq!((fleet.idle(1), fleet.upstream("b:80").open), (4, 6));
    eject_b(&fleet, Does::Answers(200)).await;
    assert_eq!((fleet.idle(1), fleet.upstream("b:80").open), (0, 2), "idle ones close at once");
    for answer in in_use {
        assert_eq!(answer.await.expect("an answer").status(), 200, "those in use go on");
    }
    settle().await;
    assert_eq!((fleet.idle(1), fleet.upstream("b:80").open), (0, 0), "and are not kept");
    assert_eq!(fleet.counts(1).cx_active, 0);
    seconds(3.0).await;
    assert_eq!(answerer(&fleet.ask(GET).await), "b:80");
    settle().await;
    assert_eq!(fleet.idle(1), 1, "it is back, and so are its connections");
    fleet.check_at_rest().await;
}

/// With fewer than half of the endpoints available the judgement is not believed, and says so.
#[tokio::test(start_paused = true)]
async fn below_half_the_cluster_panics_and_says_so() {
    let names = ["a:80", "b:80", "c:80", "d:80"];
    let cluster = format!("{EXACT}\noutlier.max_ejection_percent = 100");
    let fleet = Fleet::new(&names, &cluster, NO_RETRIES);
    for name in &names[1..3] {
        fleet.tell(name, Does::Answers(500));
    }
    fleet.gets(40).await;
    assert_eq!(fleet.cluster("membership_healthy"), 2);
    assert_eq!((fleet.cluster("lb_panic"), fleet.cluster("lb_healthy_panic_total")), (0, 0));
    assert_eq!(fleet.ask(GET).await.field("x-sidecar-panic"), None);
    fleet.tell("d:80", Does::Answers(500));
    fleet.gets_until_seen("d:80", 5).await;
    assert_eq!((fleet.cluster("membership_healthy"), fleet.cluster("lb_panic")), (1, 1));
    let before = fleet.cluster("lb_healthy_panic_total");
    let seen: Vec<_> = names.iter().map(|name| fleet.seen(name)).collect();
    for _ in 0..40 {
        let answer = fleet.ask(GET).await;
        assert_eq!(answer.field("x-sidecar-panic"), Some("true"), "{answer:?}");
    }
    for (name, seen) in names.iter().zip(seen) {
        assert_eq!(fleet.seen(name), seen + 10, "{name}");
    }
    assert_eq!(fleet.cluster("lb_healthy_panic_total"), before + 40);
    assert_eq!(fleet.page("", "panics").await.as_deref(), Some("true"));
    assert!(fleet.timeline().contains(&"web panic_began".to_owned()));
    for name in names {
        fleet.tell(name, Does::Answers(200));
    }
    for _ in 0..50 {
        seconds(0.1).await;
        fleet.ask(GET).await;
    }
    assert_eq!((fleet.cluster("membership_healthy"), fleet.cluster("lb_panic")), (4, 0));
    assert!(fleet.timeline().contains(&"web panic_ended".to_owned()));
    assert_eq!(fleet.ask(GET).await.field("x-sidecar-panic"), None);
    fleet.check_at_rest().await;
}

/// Whoever left has said nothing about the endpoint.
#[tokio::test(start_paused = true)]
async fn a_trial_whose_caller_leaves_is_tried_again() {
    let fleet = two_with_retries();
    eject_b(&fleet, Does::Hangs).await;
    let moments = fleet.timeline().len();
    seconds(2.0).await;
    let seen = fleet.seen("b:80");
    for nth in 1..=3 {
        let leaves = fleet.start(GET);
        settle().await;
        assert_eq!((fleet.seen("b:80"), fleet.state("b:80").await), (seen + nth, "probing".into()));
        leaves.abort();
        settle().await;
        assert_eq!(fleet.state("b:80").await, "ejected");
        assert_eq!(fleet.upstream("b:80").open, 0, "its connection is closed");
    }
    fleet.tell("b:80", Does::Answers(200));
    assert_eq!(answerer(&fleet.ask(GET).await), "b:80");
    settle().await;
    assert_eq!(fleet.state("b:80").await, "ramping");
    assert_eq!(fleet.timeline_after(moments).last().map(String::as_str), Some("b:80 returned"));
    fleet.check_at_rest().await;
}

/// A third of its answers are errors, never five in a row.
#[tokio::test(start_paused = true)]
async fn an_endpoint_that_fails_more_often_than_its_peers_is_ejected() {
    let fleet = Fleet::new(&["a:80", "b:80", "c:80", "d:80"], EXACT, NO_RETRIES);
    fleet.tell("b:80", Does::FailsEvery(3));
    for _ in 0..400 {
        fleet.ask(GET).await;
        seconds(0.01).await;
        if !fleet.timeline().is_empty() {
            break;
        }
    }
    assert_eq!(fleet.timeline(), ["b:80 ejected success_rate for 2s"]);
    let enforced = "outlier_detection_ejections_enforced_total";
    assert_eq!(fleet.counted(enforced, "reason", "success_rate"), 1);
    assert_eq!(fleet.page("b:80", "ejection_reason").await.as_deref(), Some("success_rate"));
    fleet.check_at_rest().await;
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_is_slower_than_its_peers_is_ejected() {
    let fleet = Fleet::new(&["a:80", "b:80", "c:80", "d:80"], EXACT, NO_RETRIES);
    for name in ["a:80", "c:80", "d:80"] {
        fleet.tell(name, Does::Takes(Duration::from_millis(10), 200));
    }
    fleet.tell("b:80", Does::Takes(Duration::from_millis(200), 200));
    let mut under_way = Vec::new();
    for _ in 0..300 {
        under_way.push(fleet.start(GET));
        seconds(0.01).await;
    }
    for answer in under_way {
        assert_eq!(answer.await.expect("an answer").status(), 200);
    }
    assert_eq!(fleet.timeline()[0], "b:80 ejected latency for 2s");
    let enforced = "outlier_detection_ejections_enforced_total";
    assert!(fleet.counted(enforced, "reason", "latency") > 0);
    assert!(fleet.timeline().iter().all(|moment| moment.starts_with("b:80")), "nobody else");
    fleet.check_at_rest().await;
}
