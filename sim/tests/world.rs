//! Small worlds whose outcome can be worked out by hand.
#![allow(clippy::unwrap_used, reason = "a test says by failing what is wrong")]

use std::time::Duration;

use http::StatusCode;
use loadgen::{Arrivals, Outcome, Plan};
use proxy::config::Balance;
use sim::backend::{End, LogEntry, Settings};
use sim::turmoil_engine::run;
use sim::world::{LoadSpec, SidecarSpec};
use sim::{BackendSpec, Fault, FaultKind, RunResult, ServiceTime, WorldSpec};

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// `backends` instances of 10 ms behind round robin, at 100 requests per second for 3 s.
fn spec(backends: usize) -> WorldSpec {
    WorldSpec {
        seed: 1,
        link_latency: ms(1),
        backends: (0..backends)
            .map(|n| BackendSpec {
                name: format!("web-{n}"),
                settings: Settings::healthy(ServiceTime::Constant(ms(10))),
            })
            .collect(),
        sidecar: SidecarSpec {
            balance: Balance::parse("round_robin").unwrap(),
            timeout: Duration::from_secs(5),
        },
        load: LoadSpec {
            plan: Plan::new(Arrivals::Constant, 100.0, Duration::from_secs(3), 1).unwrap(),
            deadline: None,
            timeout: Duration::from_secs(10),
            max_connections: 1000,
        },
        faults: vec![],
    }
}

fn fault(backend: usize, at: u64, until: u64, kind: FaultKind) -> Fault {
    Fault { at: ms(at), until: Some(ms(until)), backend, kind }
}

fn finish(spec: &WorldSpec) -> RunResult {
    run(spec, || true).unwrap().unwrap()
}

fn arrived_between(log: &[LogEntry], from: u64, until: u64) -> usize {
    log.iter().filter(|entry| (ms(from)..ms(until)).contains(&entry.arrived)).count()
}

#[test]
fn a_request_takes_four_links_and_its_service() {
    let result = finish(&spec(1));
    assert_eq!(result.samples.len(), 300);
    // The first also waits for two connections, a round trip each.
    for sample in &result.samples[5..] {
        assert_eq!(sample.outcome, Outcome::Ok);
        let time = sample.response_time();
        assert!((ms(14)..=ms(18)).contains(&time), "{time:?}");
    }
}

#[test]
fn the_books_of_client_sidecar_and_backends_agree() {
    let result = finish(&spec(3));
    assert_eq!(result.sidecar_requests, 300);
    assert_eq!(result.sidecar_placed, [100, 100, 100]);
    assert!(result.logs.iter().all(|log| log.len() == 100));
    let all_ok = |entry: &LogEntry| matches!(entry.end, Some((End::Answered(StatusCode::OK), _)));
    assert!(result.logs.iter().flatten().all(all_ok));
}

#[test]
fn a_crashed_process_refuses_connections_and_comes_back() {
    let mut spec = spec(2);
    for backend in &mut spec.backends {
        // Long enough for the crash to find requests in service.
        backend.settings.service_time = ServiceTime::Constant(ms(100));
    }
    spec.faults = vec![fault(0, 1000, 2000, FaultKind::Crash)];
    let result = finish(&spec);
    let log = &result.logs[0];
    assert_eq!(arrived_between(log, 1001, 2000), 0, "a dead process serves nobody");
    assert!(arrived_between(log, 2000, 3000) > 40, "it is back");
    let crashed = log.iter().filter(|e| matches!(e.end, Some((End::Crashed, _)))).count();
    assert!(crashed > 0, "requests were in service when it died");
    // Round robin sent it every other request all the same: cut ones got 502, refused ones 503.
    let with = |status| result.samples.iter().filter(|s| s.status == Some(status)).count();
    assert_eq!(with(502), crashed);
    assert_eq!(with(502) + with(503) + with(200), 300);
    assert!((40..=60).contains(&with(503)), "{} refused", with(503));
}

#[test]
fn a_dead_instance_is_no_sinkhole_for_peak_ewma() {
    let failed = |strategy: &str| {
        let mut spec = spec(10);
        spec.sidecar.balance = Balance::parse(strategy).unwrap();
        spec.load.plan = Plan::new(Arrivals::Poisson, 500.0, Duration::from_secs(20), 1).unwrap();
        spec.faults = vec![fault(0, 5000, 20_000, FaultKind::Crash)];
        finish(&spec).samples.iter().filter(|s| s.outcome != Outcome::Ok).count()
    };
    // Round robin goes on sending it a tenth of 500 a second for 15 s.
    assert!((700..800).contains(&failed("round_robin")), "{}", failed("round_robin"));
    assert!(failed("peak_ewma") < 10, "{}", failed("peak_ewma"));
}

#[test]
fn every_instance_is_tried_by_peak_ewma() {
    // Instances that are faster than the estimate of an untried one, at a load that one could carry.
    let mut spec = spec(3);
    spec.sidecar.balance = Balance::parse("peak_ewma").unwrap();
    spec.load.plan = Plan::new(Arrivals::Constant, 20.0, Duration::from_secs(30), 1).unwrap();
    let result = finish(&spec);
    assert!(result.logs.iter().all(|log| !log.is_empty()), "{:?}", result.sidecar_placed);
}

#[test]
fn a_hang_holds_everything_and_then_lets_it_go() {
    let mut spec = spec(1);
    spec.faults = vec![fault(0, 1000, 2000, FaultKind::Hang)];
    let result = finish(&spec);
    let ended_during = |s: &&loadgen::Sample| (ms(1005)..ms(2000)).contains(&s.finished);
    assert_eq!(result.samples.iter().filter(ended_during).count(), 0);
    assert!(result.samples.iter().all(|sample| sample.outcome == Outcome::Ok));
    let longest = result.samples.iter().map(loadgen::Sample::response_time).max().unwrap();
    assert!(longest >= ms(990), "{longest:?}");
}

#[test]
fn an_error_rate_is_a_rate() {
    let mut spec = spec(1);
    spec.faults = vec![fault(0, 0, 1000, FaultKind::ErrorRate(1.0))];
    spec.faults.push(fault(0, 2000, 3000, FaultKind::ErrorRate(0.5)));
    let result = finish(&spec);
    let errors = |from, until| {
        let failed = |s: &&loadgen::Sample| s.status == Some(500);
        let planned = |s: &&loadgen::Sample| (ms(from)..ms(until)).contains(&s.planned);
        result.samples.iter().filter(failed).filter(planned).count()
    };
    assert!(errors(0, 950) == 95 && errors(1050, 1950) == 0);
    assert!((35..=65).contains(&errors(2000, 3000)), "{}", errors(2000, 3000));
}

#[test]
fn one_worker_serves_one_at_a_time_in_order_of_arrival() {
    let mut spec = spec(1);
    // 9 ms of work every 10 ms, with bursts: a queue forms and drains.
    spec.backends[0].settings.workers = Some(1);
    spec.backends[0].settings.service_time = ServiceTime::Exponential { mean: ms(9) };
    let result = finish(&spec);
    let mut log = result.logs[0].clone();
    log.sort_by_key(|entry| entry.started);
    assert!(log.is_sorted_by_key(|entry| entry.arrived));
    let mut free = Duration::ZERO;
    let mut waited = 0;
    for entry in &log {
        let started = entry.started.unwrap();
        assert!(started >= free, "two at a time");
        waited += u32::from(started > entry.arrived);
        free = entry.end.unwrap().1;
    }
    assert!(waited > 50, "only {waited} had to wait");
}

#[test]
fn more_than_twenty_backends_share_a_host_and_all_serve() {
    let result = finish(&spec(25));
    assert!(result.logs.iter().all(|log| log.len() == 12));
}

#[test]
fn strategies_are_compared_on_the_same_arrivals_and_draws() {
    let mut spec = spec(3);
    for backend in &mut spec.backends {
        backend.settings.service_time = ServiceTime::Exponential { mean: ms(30) };
    }
    let worked = |strategy: &str| {
        let mut spec = spec.clone();
        spec.sidecar.balance = Balance::parse(strategy).unwrap();
        let mut by_index: Vec<_> = finish(&spec)
            .logs
            .iter()
            .flatten()
            .map(|e| (e.index.unwrap(), e.end.unwrap().1 - e.started.unwrap()))
            .collect();
        by_index.sort();
        by_index
    };
    assert_eq!(worked("round_robin"), worked("peak_ewma"));
}

#[test]
fn the_same_world_leaves_the_same_fingerprint() {
    let mut spec = spec(3);
    let first = finish(&spec).fingerprint;
    assert_eq!(first, finish(&spec).fingerprint);
    spec.seed = 2;
    assert_ne!(first, finish(&spec).fingerprint);
}

#[test]
fn a_run_can_be_given_up() {
    assert!(run(&spec(1), || false).unwrap().is_none());
}

#[test]
fn a_latency_that_cannot_be_simulated_is_refused() {
    for latency in [Duration::ZERO, Duration::from_micros(500)] {
        let error = run(&WorldSpec { link_latency: latency, ..spec(1) }, || true).unwrap_err();
        assert!(error.to_string().contains("whole milliseconds"), "{error}");
    }
}
