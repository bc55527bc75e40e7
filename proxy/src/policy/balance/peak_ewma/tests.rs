//! Scripted lives of endpoints under peak EWMA.
#![allow(clippy::disallowed_methods, reason = "an arbitrary origin for a scripted clock")]

use super::super::tests::{keys, members};
use super::super::{BalancerOptions, Strategy, world};
use super::*;
use crate::rng::stream;

const A: EndpointId = EndpointId(0);
const B: EndpointId = EndpointId(1);

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn fresh(weights: &[u32]) -> PeakEwma {
    PeakEwma::new(&members(&keys(weights.len()), weights), PeakEwmaOptions::default())
}

fn estimate_ms(balancer: &PeakEwma, endpoint: EndpointId, now: Instant) -> u128 {
    balancer.load(endpoint, now).latency_estimate.map_or(0, |d| d.as_millis())
}

fn answer(balancer: &mut PeakEwma, endpoint: EndpointId, latency: Duration, now: Instant) {
    balancer.observe(endpoint, LoadEvent::Sent, now);
    balancer.observe(endpoint, LoadEvent::Answered { latency }, now);
    balancer.observe(endpoint, LoadEvent::Ended, now);
}

#[test]
fn a_peak_is_believed_at_once_and_forgiven_over_the_decay_time() {
    let start = Instant::now();
    let mut balancer = fresh(&[1; 2]);
    answer(&mut balancer, A, ms(100), start);
    answer(&mut balancer, A, ms(1000), start);
    assert_eq!(estimate_ms(&balancer, A, start), 1000);
    // One decay time later an observation of 100 ms moves it to 100 + 900/e.
    let later = start + Duration::from_secs(10);
    answer(&mut balancer, A, ms(100), later);
    assert_eq!(estimate_ms(&balancer, A, later), 431);
}

#[test]
fn an_endpoint_that_is_avoided_is_tried_again() {
    let start = Instant::now();
    let mut balancer = fresh(&[1; 2]);
    let mut rng = stream(1, "test");
    answer(&mut balancer, A, ms(1000), start);
    answer(&mut balancer, B, ms(100), start);
    assert_eq!(balancer.pick(&ReadySet::all(2), None, start, &mut rng), Some(B));
    // B goes on answering in 100 ms; A, unobserved, falls below it after 10 s · ln 10 = 23 s.
    let second = |n| start + Duration::from_secs(n);
    for n in 1..=23 {
        answer(&mut balancer, B, ms(100), second(n));
        assert_eq!(
            balancer.pick(&ReadySet::all(2), None, second(n), &mut rng),
            Some(B),
            "after {n} s"
        );
    }
    answer(&mut balancer, B, ms(100), second(24));
    assert_eq!(balancer.pick(&ReadySet::all(2), None, second(24), &mut rng), Some(A));
}

/// One request that is given up after `elapsed`; returns when.
fn give_up(balancer: &mut PeakEwma, elapsed: Duration, start: Instant) -> Instant {
    let end = start + elapsed;
    balancer.observe(A, LoadEvent::Sent, start);
    balancer.observe(A, LoadEvent::Cancelled { elapsed }, end);
    balancer.observe(A, LoadEvent::Ended, end);
    end
}

#[test]
fn a_cancelled_request_raises_the_estimate_and_never_lowers_it() {
    let start = Instant::now();
    for (elapsed, estimate) in [(50, 199), (98, 198), (100, 200), (1000, 2000)] {
        let mut balancer = fresh(&[1; 1]);
        answer(&mut balancer, A, ms(200), start);
        let end = give_up(&mut balancer, ms(elapsed), start);
        assert_eq!(estimate_ms(&balancer, A, end), estimate, "given up after {elapsed} ms");
    }
}

#[test]
fn silence_adds_up_over_cancelled_requests_until_an_answer() {
    let mut now = Instant::now();
    let mut balancer = fresh(&[1; 1]);
    for (waited, estimate) in [(1, 2000), (2, 4000), (3, 6000)] {
        // Idle time between the requests is not silence.
        now = give_up(&mut balancer, ms(1000), now + Duration::from_secs(5));
        assert_eq!(estimate_ms(&balancer, A, now), estimate, "{waited} s waited in all");
    }
    answer(&mut balancer, A, ms(100), now);
    let end = give_up(&mut balancer, ms(100), now);
    assert!(estimate_ms(&balancer, A, end) < 6000);
}

#[test]
fn an_endpoint_that_hangs_does_not_look_better_with_time() {
    let start = Instant::now();
    let mut balancer = fresh(&[1; 2]);
    let mut rng = stream(1, "test");
    answer(&mut balancer, A, ms(100), start);
    balancer.observe(A, LoadEvent::Sent, start);
    for n in 1..=60 {
        let now = start + Duration::from_secs(n);
        answer(&mut balancer, B, ms(100), now);
        assert_eq!(balancer.pick(&ReadySet::all(2), None, now, &mut rng), Some(B), "after {n} s");
        assert!(estimate_ms(&balancer, A, now) >= u128::from(n) * 1000);
    }
}

#[test]
fn an_endpoint_that_fails_at_once_is_avoided_and_tried_again() {
    let start = Instant::now();
    let mut balancer = fresh(&[1; 2]);
    let mut rng = stream(1, "test");
    balancer.observe(A, LoadEvent::Sent, start);
    balancer.observe(A, LoadEvent::Failed { elapsed: ms(1), retry_after: None }, start);
    balancer.observe(A, LoadEvent::Ended, start);
    // B answers in 100 ms; A falls below that after 200 ms · ln 50 = 782 ms, and not after the
    // 39 s that its decay time would take.
    for (after, expected) in [(0, B), (400, B), (782, B), (783, A)] {
        let now = start + ms(after);
        answer(&mut balancer, B, ms(100), now);
        let picked = balancer.pick(&ReadySet::all(2), None, now, &mut rng);
        assert_eq!(picked, Some(expected), "after {after} ms");
    }
}

#[test]
fn a_failure_teaches_nothing_about_latency() {
    let start = Instant::now();
    let mut balancer = fresh(&[1; 2]);
    answer(&mut balancer, A, ms(100), start);
    balancer.observe(A, LoadEvent::Sent, start);
    balancer.observe(A, LoadEvent::Failed { elapsed: ms(1), retry_after: None }, start);
    assert_eq!(estimate_ms(&balancer, A, start), 5000);
    // 100 ms · e^-0.2; of the failure 12 ms are left.
    assert_eq!(estimate_ms(&balancer, A, start + ms(1200)), 88);
    assert_eq!(estimate_ms(&balancer, A, start + ms(2000)), 81);
}

#[test]
fn an_endpoint_that_was_never_tried_is_tried_in_time() {
    let start = Instant::now();
    let mut balancer = fresh(&[1; 2]);
    let mut rng = stream(1, "test");
    // A is faster than the default of 30 ms; B falls below it after 10 s · ln 3 = 11 s.
    let picks: Vec<_> = (0..=11)
        .filter_map(|n| {
            let now = start + Duration::from_secs(n);
            answer(&mut balancer, A, ms(10), now);
            balancer.pick(&ReadySet::all(2), None, now, &mut rng)
        })
        .collect();
    assert_eq!(picks.split_last(), Some((&B, &[A; 11][..])));
}

#[test]
fn requests_in_flight_multiply_the_estimate() {
    let now = Instant::now();
    let mut balancer = fresh(&[1; 2]);
    let mut rng = stream(1, "test");
    answer(&mut balancer, A, ms(100), now);
    answer(&mut balancer, B, ms(190), now);
    assert_eq!(balancer.pick(&ReadySet::all(2), None, now, &mut rng), Some(A));
    balancer.observe(A, LoadEvent::Sent, now);
    assert_eq!(balancer.pick(&ReadySet::all(2), None, now, &mut rng), Some(B));
}

#[test]
fn weights_divide_the_cost() {
    let now = Instant::now();
    let mut balancer = fresh(&[1, 3]);
    let mut rng = stream(1, "test");
    answer(&mut balancer, A, ms(101), now);
    answer(&mut balancer, B, ms(100), now);
    // Of 101/1 and 100 (n + 1)/3 for n requests on B, the second is less up to n = 2.
    for expected in [B, B, B, A] {
        assert_eq!(balancer.pick(&ReadySet::all(2), None, now, &mut rng), Some(expected));
        balancer.observe(B, LoadEvent::Sent, now);
    }
}

#[test]
fn a_failure_counts_as_a_long_wait_until_what_it_asked_for_is_over() {
    let start = Instant::now();
    let fail = |known_ms: u64, retry_after: Option<u64>, read_after_s: u64| {
        let mut balancer = fresh(&[1]);
        answer(&mut balancer, A, ms(known_ms), start);
        let retry_after = retry_after.map(Duration::from_secs);
        balancer.observe(A, LoadEvent::Sent, start);
        balancer.observe(A, LoadEvent::Failed { elapsed: ms(1), retry_after }, start);
        estimate_ms(&balancer, A, start + Duration::from_secs(read_after_s))
    };
    assert_eq!(fail(100, None, 0), 5000);
    assert_eq!(fail(7000, Some(6), 0), 7000);
    for (asked, kept) in [(60, 60), (300, 300), (301, 300)] {
        assert_eq!(fail(100, Some(asked), kept), 5000);
        // 5 s · e^-5
        assert_eq!(fail(100, Some(asked), kept + 1), 33);
    }
}

#[test]
fn an_endpoint_that_returns_is_cold_and_keeps_its_count() {
    let start = Instant::now();
    let mut balancer = fresh(&[1]);
    answer(&mut balancer, A, ms(2000), start);
    balancer.observe(A, LoadEvent::Sent, start);
    let later = start + Duration::from_secs(60);
    assert_eq!(estimate_ms(&balancer, A, later), 60_000);
    balancer.returned(A, later);
    assert_eq!(estimate_ms(&balancer, A, later), 30);
    assert_eq!(balancer.load(A, later).in_flight, 1);
    // Cold, not believed to have been cold for a minute.
    assert_eq!(estimate_ms(&balancer, A, later + ms(20)), 29);
}

#[test]
fn ten_contradictions_in_a_row_halve_the_estimate() {
    let now = Instant::now();
    let lives: [(&[u64], u128); 4] = [
        (&[499; 9], 1000),
        (&[499; 10], 500),
        (&[499, 499, 499, 499, 499, 500, 499, 499, 499, 499, 499], 1000),
        (&[500; 50], 1000),
    ];
    for (answers, estimate) in lives {
        let mut balancer = fresh(&[1]);
        answer(&mut balancer, A, ms(1000), now);
        answers.iter().for_each(|latency| answer(&mut balancer, A, ms(*latency), now));
        assert_eq!(estimate_ms(&balancer, A, now), estimate, "after {answers:?}");
    }
}

/// The share of endpoint 0 in per mille of all requests sent from one second to another.
fn share(outcomes: &[world::Outcome], seconds: std::ops::Range<u64>) -> usize {
    let span = Duration::from_secs(seconds.start)..Duration::from_secs(seconds.end);
    let sent = outcomes.iter().filter(|outcome| span.contains(&outcome.sent));
    sent.clone().filter(|outcome| outcome.endpoint == A).count() * 1000 / sent.count()
}

/// The experiment beyond-round-robin, in miniature.
fn pause(contradictions: u32, give_up: Option<Duration>) -> Vec<world::Outcome> {
    let options = BalancerOptions {
        peak_ewma: PeakEwmaOptions { contradictions, ..PeakEwmaOptions::default() },
        ..BalancerOptions::default()
    };
    let world = world::World {
        seconds: 75,
        give_up,
        work: |endpoint, at, _| {
            let is_paused = endpoint == A && (15..45).contains(&at.as_secs());
            world::Work::Answer(ms(if is_paused { 2000 } else { 167 }))
        },
        ..world::World::new(11, 1000)
    };
    world::run(Strategy::named("peak_ewma").unwrap(), &options, &world, 1)
}

#[test]
fn a_pause_costs_little_and_is_forgiven_in_seconds() {
    for give_up in [None, Some(ms(1000))] {
        let by_time = pause(0, give_up);
        let contradicted = pause(10, give_up);
        // A fair share is 91 per mille. During the pause nothing changes.
        assert!(share(&contradicted, 18..45) <= 2, "{}", share(&contradicted, 18..45));
        assert_eq!(share(&contradicted, 18..45), share(&by_time, 18..45));
        assert!(share(&by_time, 55..60) < 45, "{}", share(&by_time, 55..60));
        assert!(share(&contradicted, 55..60) > 45, "{}", share(&contradicted, 55..60));
    }
}
