//! Sidecars that are told something while they run.
#![allow(clippy::unwrap_used, reason = "a test says by failing what is wrong")]

use std::time::Duration;

use loadgen::{Arrivals, Outcome, Plan, Target};
use proxy::config::Balance;
use sim::backend::{LogEntry, Settings};
use sim::turmoil_engine::run;
use sim::world::{LoadSpec, SidecarSpec};
use sim::{
    BackendSpec, Fault, FaultKind, InstanceFault, Push, PushKind, PushTo, RunResult, ServiceSpec,
    ServiceTime, WorldSpec,
};

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn sidecar(balance: &str) -> SidecarSpec {
    let balance = Balance::parse(balance).unwrap();
    let mut sidecar = SidecarSpec::new(balance, Duration::from_secs(5));
    sidecar.route.retry.max_retries = 0;
    sidecar.cluster.slow_start.window = Duration::ZERO;
    sidecar
}

/// Three instances of 100 ms, of which `listed` are known from the start; 100 requests a second
/// for 3 s.
fn spec(listed: usize) -> WorldSpec {
    let target = Target::from_url("http://web/").unwrap();
    let settings = Settings::healthy(ServiceTime::Constant(ms(100)));
    let instance = |n| BackendSpec {
        listed: n < listed,
        ..BackendSpec::new(format!("web-{n}"), settings.clone())
    };
    let instances = (0..3).map(instance).collect();
    WorldSpec {
        seed: 1,
        link_latency: ms(1),
        services: vec![ServiceSpec { name: "web".to_owned(), instances, calls: vec![] }],
        sidecar: sidecar("round_robin"),
        load: LoadSpec {
            plan: Plan::new(Arrivals::Constant, 100.0, Duration::from_secs(3), 1).unwrap(),
            mix: target.with_method("POST").unwrap().into(),
            deadline: None,
            timeout: Duration::from_secs(10),
            max_connections: 1000,
            clients: 1,
        },
        faults: vec![],
        pushes: vec![],
    }
}

fn push(at: u64, kind: PushKind) -> Push {
    Push { at: ms(at), to: PushTo::All, kind }
}

/// Runs it; whatever is pushed, nobody may lose a request, and all books must agree.
fn finish(spec: &WorldSpec) -> RunResult {
    let result = run(spec, || true).unwrap().unwrap();
    let failed: Vec<_> = result.samples.iter().filter(|s| s.outcome != Outcome::Ok).collect();
    assert!(failed.is_empty(), "{failed:?}");
    let [books] = result.sidecars.as_slice() else { panic!("one sidecar") };
    let arrived: Vec<_> = result.logs.iter().map(|log| log.len() as u64).collect();
    assert_eq!(books.placed, arrived, "by instance, listed or not");
    assert_eq!((books.requests, &books.imbalance), (300, &None));
    result
}

fn arrived(log: &[LogEntry], from: u64, until: u64) -> usize {
    log.iter().filter(|entry| (ms(from)..ms(until)).contains(&entry.arrived)).count()
}

#[test]
fn scaling_up_and_down_loses_nothing() {
    let mut spec = spec(2);
    spec.pushes = vec![
        push(1000, PushKind::List(2)),
        push(2000, PushKind::Drain(0)),
        push(2500, PushKind::Unlist(0)),
    ];
    let result = finish(&spec);
    let [first, second, third] = result.logs.as_slice() else { panic!("three") };
    assert_eq!(arrived(third, 0, 1000), 0, "nobody knew of it");
    assert!((30..=36).contains(&arrived(third, 1010, 2010)), "it has its share at once");
    assert_eq!(arrived(first, 2005, 4000), 0, "nothing for one that drains");
    assert!((48..=52).contains(&arrived(second, 2010, 3010)));
    let told: Vec<_> = result
        .sidecar_events
        .iter()
        .map(|event| (event.at.as_millis(), event.kind, event.target.as_str()))
        .collect();
    let applied = |at| (at, "config_applied", "sidecar");
    assert_eq!(told, [applied(1000), applied(2000), applied(2500)]);
}

/// One after the other is drained, restarted and listed again, at a load that never pauses.
#[test]
fn a_rolling_deploy_costs_nobody_anything() {
    let mut spec = spec(3);
    for (place, at) in [(0, 200), (1, 1100), (2, 2000)] {
        spec.pushes.push(push(at, PushKind::Drain(place)));
        spec.pushes.push(push(at + 700, PushKind::List(place)));
        let (from, until) = (ms(at + 300), Some(ms(at + 600)));
        spec.faults.push(Fault {
            at: from,
            until,
            kind: FaultKind::Instance(place, InstanceFault::Crash),
        });
    }
    let result = finish(&spec);
    assert!(result.logs.iter().all(|log| log.len() > 50), "all take part");
}

#[test]
fn without_a_drain_the_same_deploy_would_be_noticed() {
    let mut spec = spec(3);
    let kind = FaultKind::Instance(0, InstanceFault::Crash);
    spec.faults.push(Fault { at: ms(1000), until: Some(ms(1300)), kind });
    let result = run(&spec, || true).unwrap().unwrap();
    assert!(result.samples.iter().any(|sample| sample.outcome != Outcome::Ok));
}

#[test]
fn a_new_configuration_is_in_force_and_a_wrong_one_is_not() {
    let mut spec = spec(3);
    let mut weighted = sidecar("weighted_round_robin");
    weighted.cluster.max_pending = 7;
    spec.services[0].instances[0].endpoint.weight = std::num::NonZeroU32::new(8);
    spec.pushes = vec![
        push(500, PushKind::Break),
        push(1000, PushKind::Configure(Box::new(weighted))),
        push(1500, PushKind::Break),
    ];
    let result = finish(&spec);
    assert!((32..=35).contains(&arrived(&result.logs[0], 0, 1000)));
    assert!((158..=162).contains(&arrived(&result.logs[0], 1005, 3010)), "8 of 10");
    let kinds: Vec<_> = result.sidecar_events.iter().map(|event| event.kind).collect();
    assert_eq!(kinds, ["config_refused", "config_applied", "config_refused"]);
}

#[test]
fn the_same_pushes_are_the_same_run() {
    let mut spec = spec(2);
    spec.sidecar = sidecar("prequal");
    spec.pushes = vec![push(700, PushKind::List(2)), push(1500, PushKind::Unlist(1))];
    assert_eq!(finish(&spec).fingerprint, finish(&spec).fingerprint);
    let other = finish(&WorldSpec { pushes: vec![], ..spec.clone() });
    assert_ne!(other.fingerprint, finish(&spec).fingerprint);
}

#[test]
fn a_push_about_nobody_is_refused() {
    let mut spec = spec(2);
    spec.pushes = vec![push(0, PushKind::List(3))];
    let error = run(&spec, || true).unwrap_err().to_string();
    assert_eq!(error, "a push is about a backend that is not there");
}
