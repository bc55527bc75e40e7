//! The simulator agrees with queueing theory; and where something is wrong on purpose, it does not.
//!
//! A part of `meshbench validate`, with fewer seeds. Each injected mistake is one that simulators
//! and load generators have made.

use std::time::{Duration, Instant as Clock};

use proxy::config::Balance;
use proxy::policy::balance::{Balancer, EndpointId, EndpointLoad, LoadEvent, Member, Strategy};
use proxy::policy::ready::ReadySet;
use rand::{Rng, RngExt as _};
use scenarios::theory::{Experiment, Row, Statistic, experiments, validate};

/// The experiment that measures the path, and this one.
fn with_path(name: &str) -> Vec<Experiment> {
    let wanted = |experiment: &Experiment| ["no queue", name].contains(&experiment.name.as_str());
    let found: Vec<_> = experiments().into_iter().filter(wanted).collect();
    assert_eq!(found.len(), 2, "no experiment is called {name}");
    found
}

fn rows(experiments: &[Experiment], seeds: u64) -> Vec<Row> {
    let seeds: Vec<u64> = (1..=seeds).collect();
    validate(experiments, &seeds, &|_| {}, &|| true).expect("runs that end well")
}

fn means_agree(experiments: &[Experiment], seeds: u64) -> bool {
    let rows = rows(experiments, seeds);
    let is_mean = |row: &&Row| row.claim.about == Statistic::Mean;
    rows.iter().filter(is_mean).all(|row| row.agrees)
}

#[test]
fn a_random_split_and_one_queue_agree_with_theory() {
    for name in ["M/M/1, random over 10", "M/M/10, one queue"] {
        for row in rows(&with_path(name), 5) {
            assert!(row.agrees, "{row:?}");
        }
    }
}

#[test]
fn a_missing_warm_up_is_noticed() {
    let right = with_path("M/M/1, short runs");
    assert!(means_agree(&right, 24));
    let mut wrong = right;
    // The same length of counting, from an empty system.
    let counted = wrong[1].scenario.duration() - wrong[1].warm_up;
    wrong[1] = wrong[1].lasting(counted);
    wrong[1].warm_up = Duration::ZERO;
    assert!(!means_agree(&wrong, 24));
}

#[test]
fn latency_from_the_send_is_noticed() {
    let mut experiments = with_path("M/G/1, queue at the client");
    assert!(means_agree(&experiments, 5));
    experiments[1].counts_from_the_send = true;
    assert!(!means_agree(&experiments, 5));
}

#[test]
fn two_picks_that_may_be_the_same_are_noticed() {
    let mut experiments = with_path("shorter of two of 2, ρ = 0.7");
    assert!(means_agree(&experiments, 8));
    experiments[1].balance = Some(Balance(&WITH_REPLACEMENT));
    assert!(!means_agree(&experiments, 8));
}

static WITH_REPLACEMENT: Strategy = Strategy::new(
    "with_replacement",
    "the less busy of two random endpoints, which may be the same one",
    |members: &[Member<'_>], _| Box::new(WithReplacement(vec![0; members.len()])),
);

/// Requests in flight by endpoint.
struct WithReplacement(Vec<u32>);

impl Balancer for WithReplacement {
    fn pick(
        &mut self,
        ready: &ReadySet,
        _key: Option<u64>,
        _now: Clock,
        rng: &mut dyn Rng,
    ) -> Option<EndpointId> {
        let mut draw = || ready.as_slice()[rng.random_range(0..ready.len())];
        let (a, b) = (draw(), draw());
        Some(if self.0[b.0] < self.0[a.0] { b } else { a })
    }

    fn observe(&mut self, endpoint: EndpointId, event: LoadEvent, _now: Clock) {
        match event {
            LoadEvent::Sent => self.0[endpoint.0] += 1,
            LoadEvent::Ended => self.0[endpoint.0] -= 1,
            _ => {}
        }
    }

    // Nobody comes or goes here.
    fn succeed(&mut self, _before: Box<dyn Balancer>, _stays: &[bool], _now: Clock) {}

    fn load(&self, endpoint: EndpointId, _now: Clock) -> EndpointLoad {
        let in_flight = self.0[endpoint.0];
        EndpointLoad { in_flight, weight: 1, latency_estimate: None, penalty: 0.0 }
    }
}
