//! Queues, capacity and call graphs through the whole path: client, sidecar, instance.
#![allow(clippy::unwrap_used, reason = "a test says by failing what is wrong")]

use std::num::NonZeroU32;
use std::time::Duration;

use http::StatusCode;
use loadgen::{Arrivals, Outcome, Plan, Target};
use proxy::config::Balance;
use sim::backend::{Abandoned, ColdStart, Discipline, End, LogEntry, Settings};
use sim::turmoil_engine::run;
use sim::world::{CapacityStep, LoadSpec, SidecarSpec};
use sim::{BackendSpec, CallSpec, RunResult, ServiceSpec, ServiceTime, WorldSpec};

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// One instance that works for `work` on each of the requests at `instants`.
fn spec(work: &str, instants: &[u64], change: impl Fn(&mut Settings)) -> WorldSpec {
    let mut sidecar = SidecarSpec::new(Balance::parse("round_robin").unwrap(), ms(60_000));
    sidecar.cluster.outlier.enabled = false;
    sidecar.route.retry.max_retries = 0;
    let load = LoadSpec {
        plan: Plan::replay(instants.iter().map(|at| ms(*at)).collect()).unwrap(),
        mix: Target::from_url("http://web/").unwrap().into(),
        deadline: None,
        timeout: ms(60_000),
        max_connections: 1000,
        clients: 1,
    };
    WorldSpec::new(vec![service("web", work, change)], sidecar, load)
}

fn service(name: &str, work: &str, change: impl Fn(&mut Settings)) -> ServiceSpec {
    let mut settings = Settings::healthy(work.parse().unwrap());
    change(&mut settings);
    ServiceSpec {
        name: name.to_owned(),
        instances: vec![BackendSpec::new(format!("{name}-0"), settings)],
        calls: vec![],
    }
}

fn finish(spec: &WorldSpec) -> RunResult {
    run(spec, || true).unwrap().unwrap()
}

/// When each request arrived, began and ended at the instance, in milliseconds after the first
/// arrival.
fn times(result: &RunResult) -> Vec<[f64; 3]> {
    let mut log = result.logs[0].clone();
    log.sort_by_key(|entry| entry.index);
    let first = log.iter().map(|entry| entry.arrived).min().unwrap();
    let since = |at: Duration| (at - first).as_secs_f64() * 1e3;
    log.iter()
        .map(|e| [since(e.arrived), since(e.started.unwrap()), since(e.end.unwrap().1)])
        .collect()
}

#[test]
fn lifo_serves_who_came_last() {
    let one = |s: &mut Settings| (s.workers, s.discipline) = (Some(1), Discipline::Lifo);
    let result = finish(&spec("10ms", &[0, 2, 4], one));
    assert_eq!(times(&result), [[0.0, 0.0, 10.0], [2.0, 20.0, 30.0], [4.0, 10.0, 20.0]]);
}

#[test]
fn who_shares_a_worker_takes_as_long_as_the_books_say() {
    let one =
        |s: &mut Settings| (s.workers, s.discipline) = (Some(1), Discipline::ProcessorSharing);
    let result = finish(&spec("10ms", &[0, 5], one));
    // 5 ms alone, then 10 ms for the other 5; the second has had 5 by then, and 5 alone.
    assert_eq!(times(&result), [[0.0, 0.0, 15.0], [5.0, 5.0, 20.0]]);
}

#[test]
fn a_busy_queue_loses_no_time_to_a_coarse_clock() {
    // 400 requests of 2.3 ms, one worker, all at once: 920 ms, and not 400 times 3.
    let one = |s: &mut Settings| s.workers = Some(1);
    let result = finish(&spec("2ms 300us", &[0; 400], one));
    let last = times(&result).into_iter().map(|[.., end]| end).fold(0.0, f64::max);
    assert!((last - 920.0).abs() < 0.01, "{last}");
}

#[test]
fn a_hidden_change_of_capacity_slows_what_is_in_work() {
    let mut spec = spec("10ms", &[0, 100, 200], |_| {});
    let step = |at, capacity| CapacityStep { at: ms(at), capacity };
    spec.services[0].instances[0].capacity = vec![step(90, 0.5), step(190, 1.0)];
    let worked: Vec<_> = times(&finish(&spec)).iter().map(|[_, from, to]| to - from).collect();
    assert_eq!(worked, [10.0, 20.0, 10.0]);
}

#[test]
fn instances_that_are_there_from_the_beginning_can_be_cold() {
    let cold = |at_start| {
        let cold = ColdStart { factor: 3.0, over: ms(100), at_start };
        let spec = spec("10ms", &[46, 200], |settings| settings.cold_start = Some(cold));
        times(&finish(&spec))
            .iter()
            .map(|[_, from, to]| (to - from).round() as u64)
            .collect::<Vec<_>>()
    };
    // Half warm after 50 ms: twice as long.
    assert_eq!((cold(true), cold(false)), (vec![20, 10], vec![10, 10]));
}

#[test]
fn servers_differ_in_what_they_do_for_callers_who_have_left() {
    let entries = |abandoned| {
        let mut spec = spec("100ms", &[0, 1, 2], |settings| {
            (settings.workers, settings.abandoned) = (Some(1), abandoned);
        });
        // All callers leave after 50 ms.
        spec.load.timeout = ms(50);
        // A later one, so that the run lasts.
        spec.load.plan = Plan::replay([0, 1, 2, 1000].map(ms).into()).unwrap();
        let result = finish(&spec);
        let mut log = result.logs[0].clone();
        log.sort_by_key(|entry| entry.index);
        let end = |entry: &LogEntry| {
            entry.end.map(|(end, at)| (end, ((at - entry.arrived).as_millis() + 5) / 10))
        };
        log[..3].iter().map(end).collect::<Vec<_>>()
    };
    let left = |tens| Some((End::Cancelled, tens));
    assert_eq!(entries(Abandoned::Cancel), [left(5), left(5), left(5)]);
    // The one in work is finished; the others never begin.
    assert_eq!(entries(Abandoned::Dequeue), [left(10), left(5), left(5)]);
    assert_eq!(entries(Abandoned::Serve), [left(10), left(20), left(30)]);
}

/// `web` calls `a` and `b` at once, then `c` three times.
fn graph() -> WorldSpec {
    let mut spec = spec("6ms", &[0, 500, 1000], |_| {});
    let calls = |service, times| CallSpec {
        times: NonZeroU32::new(times).unwrap(),
        ..CallSpec::once(service)
    };
    spec.services[0].calls = vec![vec![calls(1, 1), calls(2, 1)], vec![calls(3, 3)]];
    for (name, work) in [("a", "40ms"), ("b", "20ms"), ("c", "10ms")] {
        spec.services.push(service(name, work, |_| {}));
    }
    spec
}

#[test]
fn calls_go_out_at_once_and_one_after_the_other() {
    let result = finish(&graph());
    assert!(result.samples.iter().all(|sample| sample.outcome == Outcome::Ok));
    let arrived: Vec<_> = result.logs.iter().map(Vec::len).collect();
    assert_eq!(arrived, [3, 3, 3, 9]);
    let called: Vec<_> =
        result.calls[0].iter().map(|(service, count)| (*service, *count)).collect();
    assert_eq!(called, [(1, 3), (2, 3), (3, 9)]);
    // `a` and `b` begin together; the calls of `c` do not overlap.
    let [a, b] = [&result.logs[1][1], &result.logs[2][1]];
    assert!(a.arrived.abs_diff(b.arrived) <= ms(2));
    let c: Vec<_> = result.logs[3].iter().filter(|entry| entry.index == Some(1)).collect();
    assert!(c.windows(2).all(|pair| pair[1].arrived > pair[0].end.unwrap().1));
    // 6 ms of its own, the longer of two, three times 10, and the ways.
    let [_, from, to] = times(&result)[1];
    assert!((76.0..106.0).contains(&(to - from)), "{}", to - from);
    let mut requests: Vec<_> = result.sidecars.iter().map(|b| (b.service, b.requests)).collect();
    requests.sort_unstable();
    assert_eq!(requests, [(0, 3), (1, 3), (2, 3), (3, 9)]);
    assert_eq!(result.fingerprint, finish(&graph()).fingerprint);
}

#[test]
fn each_call_of_a_request_has_a_draw_of_its_own() {
    let mut spec = graph();
    spec.services[3].instances[0].settings.service_time = "exponential:10ms".parse().unwrap();
    let result = finish(&spec);
    let worked = |e: &LogEntry| e.end.unwrap().1 - e.started.unwrap();
    let mut all: Vec<_> = result.logs[3].iter().map(worked).collect();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 9, "no two are equal");
    // And it is the same whatever else is different: here, when it is made.
    spec.services[1].instances[0].settings.service_time = ServiceTime::Constant(ms(3));
    let again = finish(&spec);
    let by_index = |result: &RunResult| {
        let entries = result.logs[3].iter().map(|e| (e.index, worked(e)));
        entries.collect::<Vec<_>>()
    };
    assert_eq!(by_index(&result), by_index(&again));
}

#[test]
fn one_call_that_fails_ends_those_beside_it() {
    let mut spec = graph();
    spec.services[2].instances[0].settings.errors.rate = 1.0;
    let result = finish(&spec);
    assert!(result.samples.iter().all(|sample| sample.status == Some(502)));
    assert!(result.logs[3].is_empty(), "what comes afterwards is not called");
    let ended = result.logs[1].iter().map(|entry| entry.end.unwrap().0);
    assert!(ended.take(2).all(|end| end == End::Cancelled));
    let failed = |e: &LogEntry| matches!(e.end, Some((End::Answered(StatusCode::BAD_GATEWAY), _)));
    assert!(result.logs[0].iter().all(failed));
}

#[test]
fn a_share_of_calls_is_the_same_for_every_strategy() {
    let mut spec = spec("1ms", &[0], |_| {});
    spec.load.plan = Plan::new(Arrivals::Constant, 100.0, Duration::from_secs(5), 1).unwrap();
    spec.services[0].calls = vec![vec![CallSpec { share: 0.3, ..CallSpec::once(1) }]];
    spec.services.push(service("a", "1ms", |_| {}));
    let called = |strategy: &str| {
        let mut spec = spec.clone();
        spec.sidecar.cluster.balance = Balance::parse(strategy).unwrap();
        let mut called: Vec<_> = finish(&spec).logs[1].iter().filter_map(|e| e.index).collect();
        called.sort_unstable();
        called
    };
    let first = called("round_robin");
    // 150 expected of 500, with a standard deviation of 10.
    assert!((105..=195).contains(&first.len()), "{}", first.len());
    assert_eq!(first, called("random"));
}

#[test]
fn a_closed_loop_has_as_many_in_flight_as_it_has_users() {
    let mut spec = spec("10ms", &[0], |settings| settings.workers = Some(2));
    spec.load.plan = Plan::closed(Duration::from_secs(2)).unwrap();
    spec.load.max_connections = 6;
    let result = finish(&spec);
    // Two workers of 10 ms are never idle: 200 a second.
    let served = result.logs[0].len();
    assert!((395..=406).contains(&served), "{served}");
}
