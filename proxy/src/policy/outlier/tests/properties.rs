//! What holds whatever happens.

use proptest::prelude::{
    Just, TestCaseError, any, prop, prop_assert, prop_assert_eq, prop_oneof, proptest,
};
use proptest::strategy::Strategy;

use super::*;

#[derive(Clone, Copy, Debug)]
enum Step {
    /// Requests, all with one outcome, placed now.
    Requests {
        endpoint: usize,
        kind: u8,
        n: u8,
    },
    /// The outcome of the oldest placement that is remembered.
    Late {
        endpoint: usize,
        kind: u8,
    },
    /// Takes a probe if there is one, and answers the one that was taken before.
    Probe {
        kind: u8,
    },
    Check {
        endpoint: usize,
        healthy: bool,
    },
    Wait {
        ms: u64,
    },
    /// Other rules from now on.
    Rules {
        percent: f64,
        enabled: bool,
        checks: bool,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let endpoint = 0..12usize;
    prop::collection::vec(
        prop_oneof![
            6 => (endpoint.clone(), 0..5u8, 1..30u8)
                .prop_map(|(endpoint, kind, n)| Step::Requests { endpoint, kind, n }),
            1 => (endpoint.clone(), 0..5u8).prop_map(|(endpoint, kind)| Step::Late { endpoint, kind }),
            3 => (0..6u8).prop_map(|kind| Step::Probe { kind }),
            1 => (endpoint, any::<bool>())
                .prop_map(|(endpoint, healthy)| Step::Check { endpoint, healthy }),
            4 => (0..5_000u64).prop_map(|ms| Step::Wait { ms }),
            1 => Just(Step::Wait { ms: 100_000 }),
            1 => (1.0..=100.0, any::<bool>(), any::<bool>())
                .prop_map(|(percent, enabled, checks)| Step::Rules { percent, enabled, checks }),
        ],
        1..200,
    )
}

fn outcome(kind: u8) -> Outcome {
    match kind {
        0 => OK,
        1 => Outcome::ServerError,
        2 => Outcome::Gateway,
        3 => Outcome::LocalOrigin,
        4 => Outcome::Cancelled { elapsed: ms(700) },
        _ => Outcome::Cancelled { elapsed: ms(1) },
    }
}

proptest! {
    #[test]
    fn the_cap_holds_one_stays_and_the_same_seed_does_the_same(
        endpoints in 1..12usize, percent in 1.0..=100.0, seed: u64, steps in steps(),
    ) {
        let first = play(endpoints, percent, seed, &steps)?;
        let second = play(endpoints, percent, seed, &steps)?;
        prop_assert_eq!(first, second);
    }

    #[test]
    fn the_cap_lets_one_of_two_go_and_never_all(endpoints in 0..1000usize, percent in 0.1..=100.0) {
        let options = OutlierOptions { max_ejection_percent: percent, ..Default::default() };
        let cap = options.cap(endpoints);
        prop_assert!(cap < endpoints || endpoints == 0);
        prop_assert_eq!(cap >= 1, endpoints >= 2);
        prop_assert!(cap <= 1 || cap as f64 <= endpoints as f64 * percent / 100.0);
    }

    #[test]
    fn an_ejection_lasts_its_time_and_at_most_the_jitter_more(seed: u64, probes in 0..12u32) {
        let mut cluster = Cluster::new(2, OutlierOptions::default());
        cluster.rng = stream(seed, "test");
        let mut kind = cluster.many(5, A, Outcome::ServerError);
        for _ in 0..probes {
            kind = cluster.probe_with(Outcome::ServerError);
        }
        let least = cluster.outlier.options.ejection(probes + 1);
        let (Some(Kind::Ejected { until, .. }) | Some(Kind::ProbeFailed { until, .. })) = kind
        else { panic!("{kind:?}") };
        prop_assert!(least <= until - cluster.now && until - cluster.now < least.mul_f64(1.5));
    }
}

fn play(
    endpoints: usize,
    percent: f64,
    seed: u64,
    steps: &[Step],
) -> Result<Vec<(Duration, Transition)>, TestCaseError> {
    let options = OutlierOptions { max_ejection_percent: percent, ..Default::default() };
    let mut cluster = Cluster::new(endpoints, options);
    cluster.rng = stream(seed, "test");
    let origin = cluster.now;
    let mut log = Vec::new();
    let first_epochs: Vec<_> =
        (0..endpoints).map(|i| cluster.outlier.epoch(EndpointId(i))).collect();
    let mut probe = None;
    for step in steps {
        let before: Vec<_> = (0..endpoints).map(|i| cluster.outlier.state(EndpointId(i))).collect();
        let mut kinds = Vec::new();
        match *step {
            Step::Requests { endpoint, kind, n } => {
                let endpoint = EndpointId(endpoint % endpoints);
                for _ in 0..n {
                    kinds.push((endpoint, cluster.one(endpoint, outcome(kind))));
                }
            }
            Step::Late { endpoint, kind } => {
                let endpoint = EndpointId(endpoint % endpoints);
                let epoch = first_epochs[endpoint.0];
                let is_late = epoch != cluster.outlier.epoch(endpoint);
                let result = cluster.record(endpoint, epoch, outcome(kind));
                prop_assert!(!is_late || result.is_none());
                kinds.push((endpoint, result));
            }
            Step::Probe { kind } => {
                if let Some((endpoint, epoch)) = probe.take() {
                    kinds.push((endpoint, cluster.record(endpoint, epoch, outcome(kind))));
                }
                probe = cluster.probe();
                if let Some((endpoint, _)) = probe {
                    let half_open = cluster.outlier.state(endpoint) == GateState::HalfOpen;
                    prop_assert!(half_open && !before[endpoint.0].is_open());
                }
            }
            Step::Check { endpoint, healthy } => {
                let endpoint = EndpointId(endpoint % endpoints);
                kinds.push((endpoint, cluster.check(endpoint, healthy)));
            }
            Step::Wait { ms: wait } => {
                cluster.now += ms(wait);
                kinds.extend(cluster.sweep().into_iter().map(|t| (t.endpoint, Some(t.kind))));
            }
            Step::Rules { percent, enabled, checks } => {
                let options =
                    OutlierOptions { max_ejection_percent: percent, enabled, ..Default::default() };
                let transitions = cluster.follow(options, checks);
                for Transition { endpoint, kind } in &transitions {
                    prop_assert!(!before[endpoint.0].is_open(), "{endpoint:?} {kind:?}");
                }
                for endpoint in (0..endpoints).map(EndpointId) {
                    let is_told = transitions.iter().any(|told| told.endpoint == endpoint);
                    let is_open = cluster.is_open(endpoint);
                    prop_assert!(is_told || is_open == before[endpoint.0].is_open());
                }
                kinds.extend(transitions.into_iter().map(|t| (t.endpoint, Some(t.kind))));
            }
        }
        for (endpoint, kind) in kinds {
            let kind = kind.map(|kind| (cluster.now - origin, Transition { endpoint, kind }));
            log.extend(kind);
        }
        agree(&cluster, &before, step)?;
    }
    // Absolute instants differ between two plays.
    Ok(log
        .into_iter()
        .map(|(at, transition)| (at, relative(transition, origin, cluster_origin())))
        .collect())
}

/// One origin for all plays.
fn cluster_origin() -> Instant {
    use std::sync::OnceLock;
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    *ORIGIN.get_or_init(origin)
}

fn relative(transition: Transition, from: Instant, to: Instant) -> Transition {
    let kind = match transition.kind {
        Kind::Ejected { reason, until, times } => {
            Kind::Ejected { reason, until: to + (until - from), times }
        }
        Kind::ProbeFailed { until, times } => {
            Kind::ProbeFailed { until: to + (until - from), times }
        }
        kind => kind,
    };
    Transition { kind, ..transition }
}

fn agree(cluster: &Cluster, before: &[GateState], step: &Step) -> Result<(), TestCaseError> {
    let outlier = &cluster.outlier;
    let all = (0..before.len()).map(EndpointId);
    let states: Vec<_> = all.map(|endpoint| outlier.state(endpoint)).collect();
    let phases = outlier.gates.iter().filter(|gate| !matches!(gate.phase, Phase::Open { .. }));
    prop_assert_eq!(phases.count(), outlier.active_ejections());
    let cap = if outlier.options.enabled { outlier.options.cap(before.len()) } else { 0 };
    prop_assert!(outlier.active_ejections() <= cap);
    // Only an active check takes the last one out.
    let open = |states: &[GateState]| states.iter().any(|state| state.is_open());
    let is_check = matches!(step, Step::Check { .. });
    prop_assert!(!open(before) || open(&states) || is_check, "{step:?}: {before:?} to {states:?}");
    Ok(())
}
