//! Small worlds whose outcome can be worked out by hand.
#![allow(clippy::unwrap_used, reason = "a test says by failing what is wrong")]

use std::time::Duration;

use http::StatusCode;
use loadgen::{Arrivals, Outcome, Plan, Target};
use proxy::config::Balance;
use sim::backend::{
    ColdStart, End, Errors, HEALTH_PATH, Identity, LATENCY_HEADER, LOAD_PATH, LogEntry, RIF_HEADER,
    Settings,
};
use sim::clock::Clock;
use sim::mix::Mix;
use sim::turmoil_engine::run;
use sim::world::{LoadSpec, SidecarSpec};
use sim::{
    Backend, BackendSpec, CallSpec, Fault, FaultKind, InstanceFault, RunResult, ServiceSpec,
    ServiceTime, WorldSpec,
};

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn balance(name: &str) -> Balance {
    Balance::parse(name).unwrap()
}

/// A sidecar that leaves everything as it comes: what is tested here is the world around it.
fn passive_sidecar() -> SidecarSpec {
    let mut sidecar = SidecarSpec::new(balance("round_robin"), Duration::from_secs(5));
    sidecar.cluster.outlier.enabled = false;
    sidecar.route.retry.max_retries = 0;
    sidecar
}

fn get() -> Target {
    Target::from_url("http://web/").unwrap()
}

/// A service of `count` instances of 10 ms that calls nobody.
fn service(name: &str, count: usize) -> ServiceSpec {
    let settings = Settings::healthy(ServiceTime::Constant(ms(10)));
    let instance = |n| BackendSpec::new(format!("{name}-{n}"), settings.clone());
    ServiceSpec {
        name: name.to_owned(),
        instances: (0..count).map(instance).collect(),
        calls: vec![],
    }
}

/// `backends` instances of 10 ms behind round robin, at 100 requests per second for 3 s.
fn spec(backends: usize) -> WorldSpec {
    WorldSpec {
        seed: 1,
        link_latency: ms(1),
        services: vec![service("web", backends)],
        sidecar: passive_sidecar(),
        load: LoadSpec {
            plan: Plan::new(Arrivals::Constant, 100.0, Duration::from_secs(3), 1).unwrap(),
            mix: get().into(),
            deadline: None,
            timeout: Duration::from_secs(10),
            max_connections: 1000,
            clients: 1,
        },
        faults: vec![],
        pushes: vec![],
    }
}

/// The same for every instance of the first service.
fn set(spec: &mut WorldSpec, change: impl Fn(&mut Settings)) {
    spec.services[0].instances.iter_mut().for_each(|backend| change(&mut backend.settings));
}

fn statuses(result: &RunResult, status: u16) -> usize {
    result.samples.iter().filter(|sample| sample.status == Some(status)).count()
}

fn fault(backend: usize, at: u64, until: u64, kind: InstanceFault) -> Fault {
    Fault { at: ms(at), until: Some(ms(until)), kind: FaultKind::Instance(backend, kind) }
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
    let [sidecar] = result.sidecars.as_slice() else { panic!("{:?}", result.sidecars) };
    assert_eq!((sidecar.caller, sidecar.service, sidecar.requests), (None, 0, 300));
    assert_eq!(sidecar.placed, [100, 100, 100]);
    assert!(result.logs.iter().all(|log| log.len() == 100));
    let all_ok = |entry: &LogEntry| matches!(entry.end, Some((End::Answered(StatusCode::OK), _)));
    assert!(result.logs.iter().flatten().all(all_ok));
}

#[test]
fn a_crashed_process_refuses_connections_and_comes_back() {
    let mut spec = spec(2);
    // Long enough for the crash to find requests in service.
    set(&mut spec, |settings| settings.service_time = ServiceTime::Constant(ms(100)));
    // Nothing that a sidecar may send again when an idle connection turns out to be closed.
    spec.load.mix = get().with_method("POST").unwrap().into();
    spec.faults = vec![fault(0, 1000, 2000, InstanceFault::Crash)];
    let result = finish(&spec);
    let log = &result.logs[0];
    assert_eq!(arrived_between(log, 1001, 2000), 0, "a dead process serves nobody");
    assert!(arrived_between(log, 2000, 3000) > 40, "it is back");
    let crashed = log.iter().filter(|e| matches!(e.end, Some((End::Crashed, _)))).count();
    assert!(crashed > 0, "requests were in service when it died");
    // Round robin sent it every other request all the same: cut ones got 502, refused ones 503.
    let with = |status| statuses(&result, status);
    assert_eq!(with(502), crashed);
    assert_eq!(with(502) + with(503) + with(200), 300);
    assert!((40..=60).contains(&with(503)), "{} refused", with(503));
}

#[test]
fn a_dead_instance_is_no_sinkhole_for_peak_ewma() {
    let failed = |strategy: &str| {
        let mut spec = spec(10);
        spec.sidecar.cluster.balance = balance(strategy);
        spec.load.plan = Plan::new(Arrivals::Poisson, 500.0, Duration::from_secs(20), 1).unwrap();
        spec.faults = vec![fault(0, 5000, 20_000, InstanceFault::Crash)];
        finish(&spec).samples.iter().filter(|s| s.outcome != Outcome::Ok).count()
    };
    // Round robin goes on sending it a tenth of 500 a second for 15 s.
    assert!((700..800).contains(&failed("round_robin")), "{}", failed("round_robin"));
    assert!(failed("peak_ewma") < 40, "{}", failed("peak_ewma"));
}

#[test]
fn every_instance_is_tried_by_peak_ewma() {
    // Instances that are faster than the estimate of an untried one, at a load that one could carry.
    let mut spec = spec(3);
    spec.sidecar.cluster.balance = balance("peak_ewma");
    spec.load.plan = Plan::new(Arrivals::Constant, 20.0, Duration::from_secs(30), 1).unwrap();
    let result = finish(&spec);
    assert!(result.logs.iter().all(|log| !log.is_empty()), "{:?}", result.sidecars);
}

#[test]
fn a_hang_holds_everything_and_then_lets_it_go() {
    let mut spec = spec(1);
    spec.faults = vec![fault(0, 1000, 2000, InstanceFault::Hang)];
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
    spec.faults = vec![fault(0, 0, 1000, InstanceFault::Errors(Errors::at_rate(1.0)))];
    spec.faults.push(fault(0, 2000, 3000, InstanceFault::Errors(Errors::at_rate(0.5))));
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
    set(&mut spec, |settings| {
        settings.workers = Some(1);
        settings.service_time = ServiceTime::Exponential { mean: ms(9) };
    });
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
fn many_backends_share_a_host_and_all_serve() {
    let result = finish(&spec(25));
    assert!(result.logs.iter().all(|log| log.len() == 12));
}

#[test]
fn strategies_are_compared_on_the_same_arrivals_and_draws() {
    let mut spec = spec(3);
    set(&mut spec, |settings| settings.service_time = ServiceTime::Exponential { mean: ms(30) });
    let worked = |strategy: &str| {
        let mut spec = spec.clone();
        spec.sidecar.cluster.balance = balance(strategy);
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

/// Half of the attempts fail, and not half of the requests all of theirs: 1/16 of 300 fail four
/// times, give or take four deviations.
#[test]
fn each_attempt_has_a_draw_of_its_own() {
    let mut spec = spec(4);
    set(&mut spec, |settings| settings.errors = Errors::at_rate(0.5));
    spec.sidecar.route.retry.max_retries = 3;
    spec.sidecar.cluster.retry_budget.min_per_second = 1_000_000;
    let result = finish(&spec);
    let failed = statuses(&result, 500);
    assert!((2..=36).contains(&failed), "{failed}");
}

#[test]
fn which_requests_are_posts_is_the_same_for_every_strategy() {
    let mut spec = spec(2);
    let post = get().with_method("POST").unwrap().with_body(vec![0; 1024]).unwrap();
    spec.load.mix = Mix::new(1, vec![(get(), 0.8), (post, 0.2)]).unwrap();
    let result = finish(&spec);
    let posts = (0..300).filter(|&index| result.mix.target_of(index).method() == "POST").count();
    assert!((40..=80).contains(&posts), "{posts}");
    assert!(result.samples.iter().all(|sample| sample.outcome == Outcome::Ok));
    spec.sidecar.cluster.balance = balance("random");
    assert_eq!(result.mix, finish(&spec).mix);
}

#[test]
fn an_error_has_the_status_and_the_time_that_it_is_given() {
    let mut spec = spec(1);
    let time = Some(ServiceTime::Constant(ms(1)));
    let errors = Errors { status: StatusCode::SERVICE_UNAVAILABLE, time, ..Errors::at_rate(1.0) };
    spec.faults = vec![fault(0, 1000, 2000, InstanceFault::Errors(errors))];
    let result = finish(&spec);
    assert!((95..=101).contains(&statuses(&result, 503)), "{}", statuses(&result, 503));
    for entry in &result.logs[0] {
        let (end, at) = entry.end.unwrap();
        let failed = end == End::Answered(StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(at - entry.started.unwrap(), if failed { ms(1) } else { ms(10) });
    }
}

#[test]
fn who_refuses_connections_goes_on_with_those_that_are_open() {
    let mut spec = spec(1);
    // The sidecar's one connection is open by then, and is enough.
    spec.faults = vec![fault(0, 1000, 2000, InstanceFault::Refuse)];
    spec.load.plan = Plan::new(Arrivals::Constant, 20.0, Duration::from_secs(3), 1).unwrap();
    assert_eq!(statuses(&finish(&spec), 200), 60);
    // Here none is open when it begins, and it opens again at its end.
    spec.faults = vec![fault(0, 0, 2000, InstanceFault::Refuse)];
    let result = finish(&spec);
    assert_eq!((statuses(&result, 503), statuses(&result, 200)), (40, 20));
}

#[test]
fn a_full_queue_is_answered_at_once_and_a_queue_with_room_is_not() {
    let refused = |queue| {
        let mut spec = spec(1);
        // Ten requests at once, one of which is worked on.
        spec.load.plan = Plan::with_count(Arrivals::Constant, 10_000.0, 10, 1).unwrap();
        set(&mut spec, |settings| (settings.workers, settings.queue) = (Some(1), Some(queue)));
        statuses(&finish(&spec), 503)
    };
    assert_eq!((refused(8), refused(9)), (1, 0));
}

#[test]
fn work_after_a_restart_is_slow_and_warms_up() {
    let mut spec = spec(1);
    let cold = ColdStart { factor: 5.0, over: Duration::from_secs(1), at_start: false };
    set(&mut spec, |settings| settings.cold_start = Some(cold));
    spec.faults = vec![fault(0, 500, 1000, InstanceFault::Crash)];
    let result = finish(&spec);
    let longest = |from: u64, until: u64| {
        let window = ms(from)..ms(until);
        let inside = result.logs[0].iter().filter(|entry| window.contains(&entry.arrived));
        let work = |entry: &LogEntry| Some(entry.end?.1 - entry.started?);
        inside.filter_map(work).max().unwrap()
    };
    // Warm at the beginning of the run, five times as slow at first, then three times, then warm.
    assert_eq!(longest(0, 480), ms(10));
    assert!((ms(48)..=ms(50)).contains(&longest(1000, 1100)), "{:?}", longest(1000, 1100));
    assert!((ms(28)..=ms(31)).contains(&longest(1500, 1600)), "{:?}", longest(1500, 1600));
    assert_eq!(longest(2001, 3000), ms(10));
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

/// `web` calls `db`, which works for `work`; the sidecars give each request `limit`.
fn two_hops(work: u64, limit: u64) -> WorldSpec {
    let mut spec = spec(2);
    let mut db = service("db", 2);
    db.instances.iter_mut().for_each(|i| i.settings.service_time = ServiceTime::Constant(ms(work)));
    spec.services[0].calls = vec![vec![CallSpec::once(1)]];
    spec.services.push(db);
    spec.sidecar.route.timeout = ms(limit);
    spec
}

#[test]
fn a_service_calls_another_through_a_sidecar_of_each_instance() {
    let result = finish(&two_hops(20, 5000));
    assert!(result.samples.iter().all(|sample| sample.outcome == Outcome::Ok));
    // Half of 10 ms, the call, the other half.
    let longest = result.samples[10..].iter().map(loadgen::Sample::response_time).max().unwrap();
    assert!((ms(34)..=ms(44)).contains(&longest), "{longest:?}");
    let sizes: Vec<_> = result.logs.iter().map(Vec::len).collect();
    assert_eq!(sizes[..2], [150, 150]);
    assert_eq!(sizes[2] + sizes[3], 300);
    let books: Vec<_> = result.sidecars.iter().map(|b| (b.caller, b.service, b.requests)).collect();
    assert_eq!(books, [(None, 0, 300), (Some(0), 1, 150), (Some(1), 1, 150)]);
    // The index goes with the request.
    let mut indexes: Vec<_> = result.logs[2..].iter().flatten().filter_map(|e| e.index).collect();
    indexes.sort_unstable();
    assert_eq!(indexes, (0..300).collect::<Vec<_>>());
}

#[test]
fn what_goes_wrong_behind_a_service_is_answered_and_given_up() {
    // Its own sidecar's limit is not longer than the client's, which begins earlier.
    let result = finish(&two_hops(1000, 100));
    assert_eq!(statuses(&result, 504), 300);
    // The run is over with the last answer, before the news of it is everywhere.
    for entry in result.logs[2..].iter().flatten().filter(|e| e.index.unwrap() < 290) {
        let (end, at) = entry.end.unwrap();
        assert_eq!(end, End::Cancelled);
        assert!(at - entry.arrived <= ms(105), "worked on for {:?}", at - entry.arrived);
    }
    // A caller answers 502 in its own name for whatever else its callee answers.
    let mut spec = two_hops(20, 5000);
    spec.faults =
        [2, 3].map(|db| fault(db, 0, 9000, InstanceFault::Errors(Errors::at_rate(1.0)))).into();
    assert_eq!(statuses(&finish(&spec), 502), 300);
}

#[test]
fn a_world_that_runs_in_a_circle_is_refused() {
    let mut spec = two_hops(20, 5000);
    spec.services[1].calls = vec![vec![CallSpec::once(0)]];
    let error = run(&spec, || true).unwrap_err();
    assert!(error.to_string().contains("later in the list"), "{error}");
}

/// One request to a backend that serves nothing else, by path.
async fn ask(backend: &Backend, path: &str) -> http::Response<http_body_util::Full<bytes::Bytes>> {
    let request = http::Request::get(path).body(http_body_util::Full::default()).unwrap();
    let request: http::Request<http_body_util::Full<bytes::Bytes>> = request;
    backend.answer(request, Clock::start()).await
}

fn lone_backend() -> Backend {
    let identity = Identity { name: "web-0".to_owned(), seed: 1, calls: vec![], body: None };
    let settings = Settings::healthy(ServiceTime::Constant(ms(10)));
    Backend::new(identity, settings, Box::new(|_| {}))
}

#[tokio::test(start_paused = true)]
async fn load_is_told_beside_the_work() {
    let backend = lone_backend();
    backend.change(|settings| settings.workers = Some(1));
    let told = |response: &http::Response<_>| {
        let field = |name| Some(response.headers().get(name)?.to_str().unwrap().to_owned());
        (field(&RIF_HEADER), field(&LATENCY_HEADER))
    };
    assert_eq!(told(&ask(&backend, LOAD_PATH).await), (Some("0".to_owned()), None));
    assert!(ask(&backend, "/").await.status().is_success());
    let busy = async { tokio::join!(ask(&backend, "/"), ask(&backend, "/"), ask(&backend, "/")) };
    let probe = async {
        tokio::time::sleep(ms(5)).await;
        // One is worked on and two wait; the probe waits for nobody.
        let before = tokio::time::Instant::now();
        let response = ask(&backend, LOAD_PATH).await;
        assert_eq!(before.elapsed(), Duration::ZERO);
        response
    };
    let (_, response) = tokio::join!(busy, probe);
    assert_eq!(told(&response), (Some("3".to_owned()), Some("10000".to_owned())));
    assert_eq!(backend.probes(), 2);
}

#[tokio::test(start_paused = true)]
async fn health_follows_errors_and_hangs() {
    let backend = lone_backend();
    let status = |response: http::Response<_>| response.status().as_u16();
    for (rate, wanted) in [(0.0, 200), (0.99, 200), (1.0, 503)] {
        backend.change(|settings| settings.errors.rate = rate);
        assert_eq!(status(ask(&backend, HEALTH_PATH).await), wanted, "{rate}");
    }
    backend.change(|settings| settings.hung = true);
    let hung = tokio::time::timeout(Duration::from_secs(60), ask(&backend, HEALTH_PATH)).await;
    assert!(hung.is_err(), "a hung process answers nobody");
    assert!(backend.in_work().is_empty(), "probes are in no log");
}

#[test]
fn clients_share_a_plan_and_each_has_a_sidecar_of_its_own() {
    let mut spec = spec(3);
    spec.load.clients = 4;
    let result = finish(&spec);
    let planned = spec.load.plan.len();
    let mut indexes: Vec<_> = result.samples.iter().map(|sample| sample.index).collect();
    indexes.sort_unstable();
    assert_eq!(indexes, (0..planned).collect::<Vec<_>>());
    assert!(result.samples.iter().all(|sample| sample.outcome == Outcome::Ok));
    let received: Vec<_> = result.sidecars.iter().map(|books| books.requests).collect();
    assert_eq!(received.len(), 4);
    assert!(received.iter().all(|received| received.abs_diff(planned / 4) <= 1), "{received:?}");
    assert_eq!(result.fingerprint, finish(&spec).fingerprint);
}
