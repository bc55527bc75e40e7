//! What holds for every strategy.
#![allow(clippy::disallowed_methods, reason = "an arbitrary origin for a scripted clock")]

use std::collections::BTreeSet;

use proptest::prelude::{
    Just, TestCaseError, any, prop, prop_assert, prop_assert_eq, prop_oneof, proptest,
};
use proptest::strategy::Strategy as Generate;

use super::*;
use crate::rng::stream;

/// Names of endpoints.
pub(super) fn keys(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("10.0.0.{n}:8080")).collect()
}

/// Members of these names and weights.
pub(super) fn members<'a>(keys: &'a [String], weights: &[u32]) -> Vec<Member<'a>> {
    keys.iter().zip(weights).map(|(key, weight)| Member { weight: *weight, key }).collect()
}

/// A random but orderly life of requests against one balancer.
#[derive(Clone, Debug)]
enum Step {
    Pick { key: Option<u64> },
    Finish { nth: usize, latency_ms: u64, how: u8 },
    Probed { endpoint: usize, in_flight: Option<u32> },
    Ready { mask: u16 },
    Returned { endpoint: usize },
}

fn steps() -> impl Generate<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => any::<Option<u64>>().prop_map(|key| Step::Pick { key }),
        4 => (0..64usize, 0..3_000u64, 0..4u8)
            .prop_map(|(nth, latency_ms, how)| Step::Finish { nth, latency_ms, how }),
        2 => (0..12usize, any::<Option<u32>>())
            .prop_map(|(endpoint, in_flight)| Step::Probed { endpoint, in_flight }),
        1 => prop_oneof![any::<u16>(), Just(u16::MAX)].prop_map(|mask| Step::Ready { mask }),
        1 => (0..12usize).prop_map(|endpoint| Step::Returned { endpoint }),
    ];
    prop::collection::vec(step, 1..200)
}

/// Small rings and tables: thousands of them are built.
fn options(choices: Choices) -> BalancerOptions {
    BalancerOptions {
        least_request: LeastRequestOptions { choices, ..Default::default() },
        least_time: LeastTimeOptions { choices, ..Default::default() },
        ring_hash: RingHashOptions { points: 5, max_points: 300, ..Default::default() },
        maglev: MaglevOptions { table_size: 101, ..Default::default() },
        ..BalancerOptions::default()
    }
}

proptest! {
    /// Every strategy picks only what is ready, counts exactly what is in flight, asks only the
    /// ready for their load, and does the same again from the same seed.
    #[test]
    fn picks_are_ready_counted_and_repeatable(
        weights in prop::collection::vec(prop_oneof![1..4u32, any::<u32>().prop_map(|w| w.max(1))], 1..12),
        seed: u64, steps in steps(),
        choices in prop_oneof![Just(Choices::All), (2..=Choices::MOST).prop_map(Choices::Of)],
    ) {
        for strategy in STRATEGIES {
            let first = play(strategy, &weights, &options(choices), seed, &steps)?;
            let second = play(strategy, &weights, &options(choices), seed, &steps)?;
            prop_assert_eq!(first, second, "{} is not repeatable", strategy.name);
        }
    }
}

fn play(
    strategy: &Strategy,
    weights: &[u32],
    options: &BalancerOptions,
    seed: u64,
    steps: &[Step],
) -> Result<Vec<EndpointId>, TestCaseError> {
    let endpoints = weights.len();
    let names = keys(endpoints);
    let mut balancer = strategy.build(&members(&names, weights), options);
    let mut ready = ReadySet::all(endpoints);
    let mut rng = stream(seed, "test");
    let mut now = Instant::now();
    let mut open: Vec<EndpointId> = Vec::new();
    let mut drawn = Vec::new();
    for step in steps {
        now += Duration::from_millis(7);
        match *step {
            Step::Pick { key } => {
                let pick = balancer.pick(&ready, key, now, &mut rng);
                prop_assert_eq!(pick.is_none(), ready.is_empty(), "{}", strategy.name);
                if let Some(endpoint) = pick {
                    prop_assert!(ready.contains(endpoint), "{} of {ready:?}", strategy.name);
                    balancer.observe(endpoint, LoadEvent::Sent, now);
                    open.push(endpoint);
                    drawn.push(endpoint);
                }
                let before = drawn.len();
                balancer.probes(&ready, now, &mut rng, &mut drawn);
                let asked: BTreeSet<_> = drawn[before..].iter().copied().collect();
                prop_assert_eq!(asked.len(), drawn.len() - before, "asked twice");
                prop_assert!(asked.into_iter().all(|endpoint| ready.contains(endpoint)));
            }
            Step::Finish { nth, latency_ms, how } if !open.is_empty() => {
                let endpoint = open.swap_remove(nth % open.len());
                let elapsed = Duration::from_millis(latency_ms);
                let event = match how {
                    0 => LoadEvent::Answered { latency: elapsed },
                    1 => LoadEvent::Failed { elapsed, retry_after: None },
                    2 => LoadEvent::Failed { elapsed, retry_after: Some(elapsed * 1000) },
                    _ => LoadEvent::Cancelled { elapsed },
                };
                balancer.observe(endpoint, event, now);
                balancer.observe(endpoint, LoadEvent::Ended, now);
            }
            Step::Finish { .. } => {}
            Step::Probed { endpoint, in_flight } => {
                let answer = in_flight
                    .map(|in_flight| ProbeAnswer { in_flight, latency: Duration::from_millis(9) });
                balancer.probed(EndpointId(endpoint % endpoints), answer, now);
            }
            Step::Ready { mask } => ready.refill(endpoints, |e| mask & (1 << e.0) != 0),
            Step::Returned { endpoint } => {
                balancer.returned(EndpointId(endpoint % endpoints), now);
            }
        }
        for i in (0..endpoints).map(EndpointId) {
            let expected = open.iter().filter(|e| **e == i).count() as u32;
            prop_assert_eq!(balancer.load(i, now).in_flight, expected, "{}", strategy.name);
        }
    }
    Ok(drawn)
}

#[test]
fn two_distinct_gives_every_ordered_pair_and_never_the_same_twice() {
    let ready = ReadySet::all(3);
    let mut rng = stream(1, "test");
    let pairs: BTreeSet<_> = (0..1000).filter_map(|_| two_distinct(&ready, &mut rng)).collect();
    assert_eq!(pairs.len(), 6);
    assert!(pairs.iter().all(|(a, b)| a != b));
}

#[test]
fn names_are_unique_and_found() {
    let names: BTreeSet<_> = STRATEGIES.iter().map(|s| s.name).collect();
    assert_eq!(names.len(), STRATEGIES.len());
    assert!(names.iter().all(|name| Strategy::named(name).is_some()));
    assert!(Strategy::named("fastest").is_none());
}

#[test]
fn a_strategy_can_be_built_over_nothing() {
    let now = Instant::now();
    for strategy in STRATEGIES {
        let mut balancer = strategy.build(&[], &BalancerOptions::default());
        let (none, mut rng) = (ReadySet::all(0), stream(1, "test"));
        assert_eq!(balancer.pick(&none, Some(1), now, &mut rng), None, "{}", strategy.name);
        let mut ask = Vec::new();
        balancer.probes(&none, now + Duration::from_secs(9), &mut rng, &mut ask);
        assert!(ask.is_empty());
    }
}

#[test]
fn options_are_tables_that_refuse_what_they_do_not_know() {
    let read = |text: &str| toml::from_str::<BalancerOptions>(text).map_err(|e| e.to_string());
    assert_eq!(read(""), Ok(BalancerOptions::default()));
    let mut expected = BalancerOptions::default();
    expected.least_request.choices = Choices::All;
    expected.peak_ewma.decay = Duration::from_secs(20);
    expected.ring_hash.slack = f64::INFINITY;
    expected.maglev.slack = 1.0;
    let text = "least_request.choices = \"all\"\npeak_ewma.decay = \"20s\"\n\
                ring_hash.slack = inf\nmaglev.slack = 1";
    assert_eq!(read(text), Ok(expected));
    for (wrong, told) in [
        ("peak_ewma.decays = \"1s\"", "unknown field `decays`"),
        ("peak_ewma.decay = \"0s\"", "longer than 0"),
        ("ring_hash.slack = 0", "must be above 0"),
        ("ring_hash.slack = nan", "must be above 0"),
        ("ring_hash.points = 0", "at least 1"),
        ("prequal.cold_share = 1.5", "from 0 to 1"),
    ] {
        let error = read(wrong).unwrap_err();
        assert!(error.contains(told), "{error}");
    }
}

/// A dead endpoint fails at once, and so never has a request in flight.
#[test]
fn a_dead_endpoint_is_no_sinkhole() {
    let world = world::World {
        seconds: 30,
        work: |endpoint, _, _| {
            if endpoint.0 == 0 {
                world::Work::Fail(Duration::from_millis(1))
            } else {
                world::Work::Answer(Duration::from_millis(100))
            }
        },
        ..world::World::new(10, 1000)
    };
    for choices in [Choices::Of(2), Choices::All] {
        for name in ["least_request", "least_time", "peak_ewma", "prequal"] {
            let strategy = Strategy::named(name).unwrap();
            let outcomes = world::run(strategy, &options(choices), &world, 1);
            let failed = outcomes.iter().filter(|outcome| outcome.latency.is_none()).count();
            // A fair share of the 30,000 is 3000; 100 ms of 5 s of that are 60.
            assert!(failed <= 150, "{name}, {choices:?}: {failed} failed");
        }
    }
}
