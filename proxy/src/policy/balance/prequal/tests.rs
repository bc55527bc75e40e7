//! Scripted pools, and the shape of the paper's result.
#![allow(clippy::disallowed_methods, reason = "an arbitrary origin for a scripted clock")]

use rand::RngExt as _;

use super::super::tests::{keys, members};
use super::super::world::{Work, World, latencies, run};
use super::super::{BalancerOptions, Strategy};
use super::*;
use crate::rng::stream;

const A: EndpointId = EndpointId(0);
const B: EndpointId = EndpointId(1);
const C: EndpointId = EndpointId(2);

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn fresh(endpoints: usize) -> Prequal {
    Prequal::new(&members(&keys(endpoints), &vec![1; endpoints]), PrequalOptions::default())
}

fn probed(
    balancer: &mut Prequal,
    endpoint: EndpointId,
    in_flight: u32,
    latency_ms: u64,
    now: Instant,
) {
    balancer.probed(endpoint, Some(ProbeAnswer { in_flight, latency: ms(latency_ms) }), now);
}

fn pick(balancer: &mut Prequal, endpoints: usize, now: Instant) -> EndpointId {
    let ready = ReadySet::all(endpoints);
    balancer.pick(&ready, None, now, &mut stream(1, "test")).unwrap()
}

/// How often each endpoint is picked in 200 picks of clones, so that none uses up the pool.
fn picks(balancer: &Prequal, endpoints: usize, now: Instant) -> Vec<usize> {
    let mut rng = stream(1, "test");
    let mut seen = vec![0; endpoints];
    for _ in 0..200 {
        let ready = ReadySet::all(endpoints);
        seen[balancer.clone().pick(&ready, None, now, &mut rng).unwrap().0] += 1;
    }
    seen
}

#[test]
fn the_fastest_of_the_cold_is_picked_and_of_the_hot_the_least_loaded() {
    let now = Instant::now();
    let mut balancer = fresh(3);
    // Six recent answers of 2 and one of 9: the 84 % quantile of seven is the sixth.
    (0..5).for_each(|_| probed(&mut balancer, A, 2, 50, now));
    probed(&mut balancer, B, 2, 40, now);
    probed(&mut balancer, C, 9, 1, now);
    assert_eq!(picks(&balancer, 3, now), [0, 200, 0]);
    // With a request each on A and B, all are above 2.
    balancer.observe(A, LoadEvent::Sent, now);
    balancer.observe(B, LoadEvent::Sent, now);
    balancer.observe(B, LoadEvent::Sent, now);
    assert_eq!(picks(&balancer, 3, now), [200, 0, 0]);
}

#[test]
fn an_answer_is_good_for_a_second_and_with_one_the_pick_is_random() {
    let now = Instant::now();
    let mut balancer = fresh(2);
    probed(&mut balancer, A, 0, 10, now);
    let alone = picks(&balancer, 2, now);
    assert!(alone.iter().all(|n| (60..140).contains(n)), "{alone:?}");
    probed(&mut balancer, B, 0, 20, now);
    assert_eq!(picks(&balancer, 2, now + ms(1000)), [200, 0]);
    let expired = picks(&balancer, 2, now + ms(1001));
    assert!(expired.iter().all(|n| (60..140).contains(n)), "{expired:?}");
}

#[test]
fn an_answer_is_used_as_often_as_its_gain_says() {
    let uses = |endpoints| {
        let mut balancer = fresh(endpoints);
        (0..1000).map(|_| balancer.uses()).sum::<u32>()
    };
    // 2 / ((1 − 16/n) · 3 − 1): at 100 endpoints 1.3157…, at 32 it is 4.
    assert_eq!(uses(100), 1315);
    assert!((3999..=4000).contains(&uses(32)), "{}", uses(32));
    // From 24 down nothing is gained.
    assert_eq!((uses(25), uses(24), uses(2)), (16_000, 16_000, 16_000));
    assert_eq!(uses(1_000_000), 1000);
}

#[test]
fn used_up_and_removed_answers_leave_the_pool() {
    let now = Instant::now();
    let mut balancer = fresh(1_000_000);
    let four = [A, B, C, EndpointId(3)];
    four.into_iter().zip([40, 10, 30, 20]).for_each(|(e, ms)| probed(&mut balancer, e, 0, ms, now));
    assert_eq!(pick(&mut balancer, 1_000_000, now), B);
    // The oldest went first, the one that was used up with it.
    balancer.observe(B, LoadEvent::Sent, now);
    assert_eq!([A, B].map(|endpoint| balancer.pool.latency(endpoint)), [None, None]);
    assert_eq!(balancer.pool.len(), 2);
    pick(&mut balancer, 1_000_000, now);
    assert_eq!(balancer.pool.len(), 2, "two are left to compare");
}

#[test]
fn the_worst_goes_after_the_oldest() {
    let now = Instant::now();
    let mut balancer = fresh(5);
    (0..5)
        .zip([1, 50, 2, 3, 4])
        .for_each(|(e, ms)| probed(&mut balancer, EndpointId(e), 0, ms, now));
    pick(&mut balancer, 5, now);
    pick(&mut balancer, 5, now);
    assert_eq!([0, 1].map(|e| balancer.pool.latency(EndpointId(e))), [None, None]);
}

#[test]
fn failures_are_remembered_where_probes_praise() {
    let now = Instant::now();
    let mut balancer = fresh(2);
    probed(&mut balancer, A, 0, 1, now);
    probed(&mut balancer, B, 0, 10, now);
    assert_eq!(picks(&balancer, 2, now), [200, 0]);
    balancer.observe(A, LoadEvent::Failed { elapsed: ms(1), retry_after: None }, now);
    assert_eq!(picks(&balancer, 2, now), [0, 200]);
    // A failed probe takes the answer too, and the random pick remembers.
    balancer.probed(B, None, now);
    balancer.probed(B, None, now);
    assert_eq!((balancer.pool.len(), picks(&balancer, 2, now)), (1, vec![200, 0]));
}

#[test]
fn queries_earn_probes_and_pauses_get_one_at_a_time() {
    let start = Instant::now();
    let ready = ReadySet::all(10);
    let mut balancer = fresh(10);
    let mut rng = stream(1, "test");
    let mut asked = |balancer: &mut Prequal, now| {
        let mut ask = vec![EndpointId(99)];
        balancer.probes(&ready, now, &mut rng, &mut ask);
        assert_eq!(ask[0], EndpointId(99), "it appends");
        ask.sort_unstable();
        ask.dedup();
        ask.len() - 1
    };
    assert_eq!(asked(&mut balancer, start), 0);
    pick(&mut balancer, 10, start);
    assert_eq!(asked(&mut balancer, start), 3);
    assert_eq!(asked(&mut balancer, start + ms(249)), 0);
    assert_eq!(asked(&mut balancer, start + ms(250)), 1);
    assert_eq!(asked(&mut balancer, start + ms(499)), 0);
    for _ in 0..100 {
        pick(&mut balancer, 10, start);
    }
    // At most a pool's worth, and no endpoint twice.
    assert_eq!(asked(&mut balancer, start + ms(499)), 10);
}

/// Ten servers at 70 % load, one of which has lost two thirds of its speed to a neighbour.
fn squeezed() -> World {
    World {
        seconds: 30,
        workers: 4,
        work: |endpoint, _, rng| {
            let mean_ms = if endpoint == A { 60.0 } else { 20.0 };
            Work::Answer(ms(1).mul_f64(mean_ms * -libm::log(1.0 - rng.random::<f64>())))
        },
        ..World::new(10, 1300)
    }
}

#[test]
fn where_capacity_is_lost_the_tail_beats_round_robin_and_random() {
    let p99 = |name| {
        let strategy = Strategy::named(name).unwrap();
        let outcomes = run(strategy, &BalancerOptions::default(), &squeezed(), 1);
        latencies(&outcomes)[outcomes.len() * 99 / 100]
    };
    let prequal = p99("prequal");
    for name in ["weighted_round_robin", "random"] {
        assert!(p99(name) > prequal * 10, "{name}: {:?}, prequal: {prequal:?}", p99(name));
    }
}

/// With few endpoints the answers of one are a large part of all. It is hot all the same.
#[test]
fn one_hot_endpoint_is_seen_among_however_few() {
    let now = Instant::now();
    for endpoints in 2..=12 {
        let (mut balancer, mut rng) = (fresh(endpoints), stream(endpoints as u64, "test"));
        let (ready, mut asks, mut hot) = (ReadySet::all(endpoints), Vec::new(), 0);
        for query in 0..300 {
            let picked = balancer.pick(&ready, None, now, &mut rng).unwrap();
            // Once the first answers are there.
            hot += u32::from(picked == A && query > 50);
            balancer.probes(&ready, now, &mut rng, &mut asks);
            for endpoint in asks.drain(..) {
                // The hot one is the fastest, as one that fails at once is.
                let (in_flight, latency_ms) = if endpoint == A { (50, 1) } else { (1, 20) };
                probed(&mut balancer, endpoint, in_flight, latency_ms, now);
            }
        }
        assert_eq!(hot, 0, "of {endpoints}");
    }
}
