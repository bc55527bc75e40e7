//! Faults and links, whose effects on a small world can be worked out by hand.
#![allow(clippy::unwrap_used, reason = "a test says by failing what is wrong")]

use std::time::Duration;

use loadgen::{Arrivals, Outcome, Plan, Sample, Target};
use proxy::config::Balance;
use sim::backend::{End, Settings};
use sim::fault::pushes;
use sim::link::{LinkFault, LinkFaultKind, Way};
use sim::turmoil_engine::run;
use sim::world::{LoadSpec, SidecarSpec};
use sim::{
    BackendSpec, CallSpec, Fault, FaultKind, InstanceFault, LinkId, PushFault, RunResult,
    ServiceSpec, ServiceTime, StrangerFault, WorldSpec,
};

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// A service of `count` instances of 10 ms that calls nobody.
fn service(name: &str, count: usize) -> ServiceSpec {
    let instance = |n| {
        BackendSpec::new(format!("{name}-{n}"), Settings::healthy(ServiceTime::Constant(ms(10))))
    };
    ServiceSpec {
        name: name.to_owned(),
        instances: (0..count).map(instance).collect(),
        calls: vec![],
    }
}

/// `backends` instances of 10 ms behind round robin and a sidecar that leaves everything as it
/// comes, at 100 requests per second for 4 s.
fn spec(backends: usize, faults: Vec<Fault>) -> WorldSpec {
    let mut sidecar = SidecarSpec::new(Balance::parse("round_robin").unwrap(), ms(5000));
    sidecar.cluster.outlier.enabled = false;
    sidecar.cluster.slow_start.window = ms(0);
    sidecar.cluster.connect_timeout = ms(4000);
    sidecar.route.retry.max_retries = 0;
    WorldSpec {
        seed: 1,
        link_latency: ms(1),
        services: vec![service("web", backends)],
        load: LoadSpec {
            plan: Plan::new(Arrivals::Constant, 100.0, ms(4000), 1).unwrap(),
            mix: Target::from_url("http://web/").unwrap().into(),
            deadline: None,
            timeout: ms(10_000),
            max_connections: 1000,
            clients: 1,
        },
        pushes: pushes(&faults, &sidecar, &[]),
        sidecar,
        faults,
    }
}

fn fault(place: usize, at: u64, until: u64, kind: InstanceFault) -> Fault {
    Fault { at: ms(at), until: Some(ms(until)), kind: FaultKind::Instance(place, kind) }
}

/// On the link of the client's sidecar.
fn of_link(instance: usize, at: u64, until: u64, way: Way, kind: LinkFaultKind) -> Fault {
    let link = LinkId { caller: None, instance };
    let kind = FaultKind::Link(link, LinkFault { way, kind });
    Fault { at: ms(at), until: Some(ms(until)), kind }
}

fn finish(spec: &WorldSpec) -> RunResult {
    run(spec, || true).unwrap().unwrap()
}

/// Response times of the requests planned in a time, in milliseconds.
fn times(result: &RunResult, from: u64, until: u64) -> Vec<u128> {
    let planned = |s: &&Sample| (ms(from)..ms(until)).contains(&s.planned);
    result.samples.iter().filter(planned).map(|s| s.response_time().as_millis()).collect()
}

fn longest(result: &RunResult, from: u64, until: u64) -> u128 {
    times(result, from, until).into_iter().max().unwrap()
}

fn all_ok(result: &RunResult) -> bool {
    result.samples.iter().all(|sample| sample.outcome == Outcome::Ok)
}

/// How many arrived at an instance in a time, in milliseconds.
fn arrived(result: &RunResult, place: usize, from: u64, until: u64) -> usize {
    let window = ms(from)..ms(until);
    result.logs[place].iter().filter(|entry| window.contains(&entry.arrived)).count()
}

#[test]
fn a_paused_process_reads_nothing_and_works_on_afterwards() {
    let mut spec = spec(1, vec![fault(0, 1000, 2000, InstanceFault::Pause)]);
    spec.services[0].instances[0].settings.service_time = ServiceTime::Constant(ms(100));
    let result = finish(&spec);
    assert!(all_ok(&result));
    assert_eq!(arrived(&result, 0, 1001, 2000), 0, "it reads nothing");
    // What was in work takes as much longer as the pause was.
    let caught =
        |entry: &&sim::backend::LogEntry| (ms(910)..ms(990)).contains(&entry.started.unwrap());
    let mut work = result.logs[0].iter().filter(caught).map(|e| e.end.unwrap().1 - e.arrived);
    assert!(work.all(|time| (ms(1099)..=ms(1101)).contains(&time)));
    // Connections were opened all the same, and their requests come in the moment it goes on.
    assert!(arrived(&result, 0, 2000, 2002) > 90, "{}", arrived(&result, 0, 2000, 2002));
}

#[test]
fn a_caller_that_leaves_a_paused_process_is_noticed_afterwards() {
    let mut spec = spec(1, vec![fault(0, 1000, 2000, InstanceFault::Pause)]);
    spec.services[0].instances[0].settings.service_time = ServiceTime::Constant(ms(300));
    spec.sidecar.route.timeout = ms(500);
    let result = finish(&spec);
    let ends = result.logs[0].iter().filter_map(|entry| entry.end);
    let cancelled: Vec<_> = ends.filter(|(end, _)| *end == End::Cancelled).collect();
    assert!(cancelled.len() > 20, "{}", cancelled.len());
    assert!(cancelled.iter().all(|(_, at)| *at >= ms(2000)));
}

#[test]
fn a_hang_of_new_work_lets_the_old_work_end() {
    let mut spec = spec(1, vec![fault(0, 1000, 2000, InstanceFault::HangNew)]);
    spec.services[0].instances[0].settings.service_time = ServiceTime::Constant(ms(200));
    let result = finish(&spec);
    assert!(all_ok(&result));
    assert!(longest(&result, 800, 980) < 220, "begun before, and not held");
    assert!(longest(&result, 1010, 1020) > 1150);
    assert!(arrived(&result, 0, 1001, 2000) > 90, "requests are read");
    let started =
        |entry: &&sim::backend::LogEntry| (ms(1001)..ms(2000)).contains(&entry.started.unwrap());
    assert_eq!(result.logs[0].iter().filter(started).count(), 0);
}

#[test]
fn slow_by_a_factor_and_slow_by_a_distribution_compose() {
    let slow = InstanceFault::Slow(ServiceTime::Constant(ms(50)));
    let faults = vec![fault(0, 1000, 3000, InstanceFault::SlowBy(3.0)), fault(0, 2000, 4000, slow)];
    let result = finish(&spec(1, faults));
    let work = |from: u64, until: u64| {
        let inside = result.logs[0].iter().filter(|e| (ms(from)..ms(until)).contains(&e.arrived));
        let mut work: Vec<_> =
            inside.map(|e| (e.end.unwrap().1 - e.started.unwrap()).as_millis()).collect();
        work.dedup();
        work
    };
    assert_eq!((work(10, 1000), work(1000, 2000)), (vec![10], vec![30]));
    assert_eq!((work(2000, 3000), work(3000, 4000)), (vec![150], vec![50]));
}

#[test]
fn a_black_hole_holds_what_is_sent_and_new_connections() {
    let hole = |way| of_link(0, 1000, 2000, way, LinkFaultKind::BlackHole);
    for way in [Way::Both, Way::Requests] {
        let result = finish(&spec(1, vec![hole(way)]));
        assert!(all_ok(&result));
        assert_eq!(arrived(&result, 0, 1001, 2000), 0, "nothing arrives");
        // On the open connections the first request after 1 s is sent again after 0.2, 0.4, 0.8 s,
        // so it arrives 1.4 s after it was sent; a SYN comes through at its second attempt.
        let longest = longest(&result, 1000, 2000);
        assert!((1400..1450).contains(&longest), "{longest}");
    }
    // Only the answers are held, and the SYNs' answers too.
    let result = finish(&spec(1, vec![hole(Way::Responses)]));
    assert!(all_ok(&result));
    assert!(arrived(&result, 0, 1001, 2000) > 0, "what has a connection arrives");
    assert!(longest(&result, 1000, 2000) >= 1000);
}

#[test]
fn a_black_hole_is_between_two_and_nobody_else() {
    let hole = of_link(0, 1000, 9000, Way::Both, LinkFaultKind::BlackHole);
    let mut spec = spec(2, vec![hole]);
    spec.sidecar.route.timeout = ms(300);
    let result = finish(&spec);
    let lost = result.samples.iter().filter(|s| s.status == Some(504)).count();
    assert!((148..=152).contains(&lost), "every other request from 1 s on: {lost}");
    assert_eq!(arrived(&result, 0, 1005, 4000), 0);
    assert!(arrived(&result, 1, 1005, 4000) >= 149);
}

#[test]
fn a_link_with_a_delay_takes_so_much_longer_each_way() {
    let delay = LinkFaultKind::Delay { latency: ms(20), jitter: ms(10) };
    let result = finish(&spec(1, vec![of_link(0, 1000, 3000, Way::Both, delay)]));
    assert!(all_ok(&result));
    let (usual, slow) = (times(&result, 100, 990), times(&result, 1500, 2900));
    assert!(usual.iter().all(|time| (13..=18).contains(time)), "{usual:?}");
    assert!(slow.iter().all(|time| (53..=80).contains(time)), "{slow:?}");
    assert!(slow.iter().min() != slow.iter().max(), "jitter is anew for each segment");
    let one_way = of_link(0, 1000, 3000, Way::Responses, delay);
    let times = times(&finish(&spec(1, vec![one_way])), 1500, 2900);
    assert!(times.iter().all(|time| (33..=49).contains(time)), "{times:?}");
}

#[test]
fn loss_is_seen_as_bytes_that_are_late_and_never_as_an_error() {
    let loss = of_link(0, 0, 9000, Way::Both, LinkFaultKind::Loss(0.05));
    let mut spec = spec(1, vec![loss]);
    spec.load.plan = Plan::new(Arrivals::Constant, 100.0, ms(20_000), 1).unwrap();
    spec.faults[0].until = None;
    let result = finish(&spec);
    assert!(all_ok(&result));
    assert!(result.sidecars[0].imbalance.is_none());
    let times = times(&result, 0, 20_000);
    // A request and its answer are a segment each: 1 − 0.95² = 9.75 % of 2000 are late.
    let late = times.iter().filter(|time| **time >= 200).count();
    assert!((150..=240).contains(&late), "{late}");
    assert!(times.iter().all(|time| *time < 20 || *time >= 200), "or not late at all");
}

#[test]
fn a_crash_and_a_black_hole_compose() {
    let hole = of_link(0, 1000, 2000, Way::Both, LinkFaultKind::BlackHole);
    let result = finish(&spec(1, vec![hole, fault(0, 1500, 3000, InstanceFault::Crash)]));
    // The death is heard of when the link is open again; until then callers wait.
    let failed: Vec<_> =
        result.samples.iter().filter(|s| s.outcome != Outcome::Ok).map(|s| s.finished).collect();
    assert!(!failed.is_empty() && failed.iter().all(|at| *at >= ms(2000)), "{failed:?}");
    assert_eq!(arrived(&result, 0, 1005, 3000), 0);
    assert!(arrived(&result, 0, 3000, 4100) > 90, "it is back");
}

#[test]
fn an_instance_that_calls_has_links_of_its_own() {
    let mut spec = spec(2, vec![]);
    spec.services[0].calls = vec![vec![CallSpec::once(1)]];
    spec.services.push(service("db", 1));
    let delay = LinkFaultKind::Delay { latency: ms(50), jitter: ms(0) };
    let link = LinkId { caller: Some(1), instance: 2 };
    let kind = FaultKind::Link(link, LinkFault { way: Way::Both, kind: delay });
    spec.faults = vec![Fault { at: ms(0), until: None, kind }];
    let result = finish(&spec);
    assert!(all_ok(&result));
    let work = |place: usize| {
        let usual = result.logs[place].iter().skip(5);
        let usual = usual.map(|e| (e.end.unwrap().1 - e.arrived).as_millis());
        // At most a new connection on the link comes on top.
        (usual.clone().min().unwrap(), usual.max().unwrap())
    };
    assert!(work(0).0 >= 22 && work(0).1 <= 40, "{:?}", work(0));
    assert!(work(1).0 >= 122 && work(1).1 <= 240, "{:?}", work(1));
}

#[test]
fn disturbed_worlds_leave_the_same_fingerprint() {
    let faults = vec![
        of_link(0, 500, 3000, Way::Both, LinkFaultKind::Loss(0.1)),
        of_link(1, 1000, 2000, Way::Requests, LinkFaultKind::BlackHole),
        of_link(2, 0, 4000, Way::Both, LinkFaultKind::Delay { latency: ms(5), jitter: ms(30) }),
        fault(2, 1000, 2000, InstanceFault::Pause),
        fault(0, 2000, 3000, InstanceFault::HangNew),
    ];
    let mut spec = spec(3, faults);
    let first = finish(&spec).fingerprint;
    assert_eq!(first, finish(&spec).fingerprint);
    spec.seed = 2;
    assert_ne!(first, finish(&spec).fingerprint);
}

#[test]
fn a_link_between_two_that_do_not_talk_is_refused() {
    let mut spec = spec(2, vec![]);
    let link = LinkId { caller: Some(0), instance: 1 };
    let hole = LinkFault { way: Way::Both, kind: LinkFaultKind::BlackHole };
    spec.faults = vec![Fault { at: ms(0), until: None, kind: FaultKind::Link(link, hole) }];
    let error = run(&spec, || true).unwrap_err();
    assert!(error.to_string().contains("do not talk"), "{error}");
}

#[test]
fn an_instance_that_is_drained_before_it_stops_loses_nothing() {
    let stop = |drained: bool| {
        let mut faults = vec![fault(0, 1500, 2500, InstanceFault::Crash)];
        if drained {
            faults.push(fault(0, 1000, 2500, InstanceFault::Drain));
        }
        let mut spec = spec(2, faults);
        let time = ServiceTime::Constant(ms(100));
        spec.services[0].instances.iter_mut().for_each(|i| i.settings.service_time = time.clone());
        finish(&spec)
    };
    let result = stop(true);
    assert!(all_ok(&result));
    assert_eq!(arrived(&result, 0, 1005, 2500), 0, "nothing new");
    let ended = result.logs[0].iter().filter(|e| e.end.unwrap().1 > ms(1005)).count();
    assert!(ended > 8, "what was there was answered");
    assert!(arrived(&result, 0, 2500, 4000) > 60, "and it is back");
    assert!(!all_ok(&stop(false)), "bad manners are noticed");
}

#[test]
fn who_is_not_listed_gets_nothing_until_it_is() {
    let mut faults = vec![fault(1, 0, 2000, InstanceFault::Unlisted)];
    faults.push(fault(1, 0, 2000, InstanceFault::Crash));
    faults.push(fault(0, 3000, 9000, InstanceFault::Unlisted));
    let mut spec = spec(2, faults);
    spec.services[0].instances[1].listed = sim::fault::is_listed(&spec.faults, 1);
    let result = finish(&spec);
    assert!(all_ok(&result));
    assert_eq!(arrived(&result, 1, 0, 2000), 0);
    let share = arrived(&result, 1, 2000, 3000);
    assert!((48..=52).contains(&share), "half of them: {share}");
    assert_eq!(arrived(&result, 0, 3005, 4000), 0);
}

#[test]
fn a_pushed_configuration_is_in_force_while_it_lasts() {
    let mut spec = spec(1, vec![]);
    let mut other = spec.sidecar.clone();
    other.route.timeout = ms(5);
    let push = FaultKind::Push(PushFault::Configuration(0));
    spec.faults = vec![Fault { at: ms(1000), until: Some(ms(2000)), kind: push }];
    spec.pushes = pushes(&spec.faults, &spec.sidecar, &[other]);
    let result = finish(&spec);
    let late: Vec<_> =
        result.samples.iter().filter(|s| s.status == Some(504)).map(|s| s.planned).collect();
    assert!((98..=101).contains(&late.len()), "{}", late.len());
    assert!(late.iter().all(|at| (ms(998)..ms(2000)).contains(at)));
    // One that is wrong is refused, and changes nothing.
    let wrong = FaultKind::Push(PushFault::Wrong);
    spec.faults = vec![Fault { at: ms(1000), until: None, kind: wrong }];
    spec.pushes = pushes(&spec.faults, &spec.sidecar, &[]);
    let result = finish(&spec);
    assert!(all_ok(&result));
    assert!(result.sidecar_events.iter().any(|event| event.kind.contains("refused")));
}

#[test]
fn strangers_come_and_go_and_others_do_not_notice() {
    let of_strangers =
        |kind| Fault { at: ms(500), until: Some(ms(3500)), kind: FaultKind::Strangers(kind) };
    let churn = of_strangers(StrangerFault::Churn { every: ms(10) });
    let slow = StrangerFault::SlowHeads { connections: 50, every: ms(100) };
    let undisturbed = longest(&finish(&spec(1, vec![])), 100, 4000);
    let result = finish(&spec(1, vec![churn.clone(), of_strangers(slow)]));
    assert!(all_ok(&result));
    let strangers = result.strangers;
    assert!((345..=351).contains(&strangers.opened), "{strangers:?}");
    assert_eq!((strangers.refused, strangers.cut), (0, 0));
    assert!(longest(&result, 100, 4000) <= undisturbed + 2);
    assert_eq!(result.sidecars[0].requests, 400, "a head without an end is no request");
    let again = finish(&spec(1, vec![churn, of_strangers(slow)]));
    assert_eq!(result.fingerprint, again.fingerprint);
}

#[test]
fn a_head_that_takes_too_long_is_cut() {
    let slow = StrangerFault::SlowHeads { connections: 3, every: ms(1000) };
    let kind = FaultKind::Strangers(slow);
    let mut spec = spec(1, vec![Fault { at: ms(0), until: None, kind }]);
    // The sidecar's limit on a head is a minute at most.
    spec.load.plan = Plan::new(Arrivals::Constant, 1.0, ms(70_000), 1).unwrap();
    let result = finish(&spec);
    assert!(all_ok(&result));
    assert!(result.strangers.cut >= 3 && result.strangers.opened >= 6, "{:?}", result.strangers);
}

#[test]
fn a_clock_that_is_wrong_changes_nothing() {
    let skewed = |millis: i64| {
        let mut spec = spec(2, vec![]);
        spec.services[0].calls = vec![vec![CallSpec::once(1)]];
        spec.services.push(service("db", 2));
        // About as long as it takes, so that some are in time and some are not.
        spec.sidecar.route.timeout = ms(32);
        let db = &mut spec.services[1].instances;
        db.iter_mut().for_each(|i| {
            i.settings.service_time = ServiceTime::Exponential { mean: ms(10) };
        });
        let skew = InstanceFault::ClockSkew(millis);
        spec.faults = vec![fault(0, 0, 3000, skew.clone()), fault(1, 1000, 4000, skew)];
        let result = finish(&spec);
        let ends: Vec<_> = result.samples.iter().map(|s| (s.index, s.finished, s.status)).collect();
        (ends, result.logs)
    };
    let right = skewed(0);
    let late = right.0.iter().filter(|(_, _, status)| *status == Some(504)).count();
    assert!((20..380).contains(&late), "{late}");
    assert!(right == skewed(5000) && right == skewed(-5000));
}
