//! Each metric, of a run that is written down here and can be counted by hand.
#![allow(clippy::unwrap_used, reason = "a test says by failing what is wrong")]

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use http::StatusCode;
use loadgen::{Outcome, Sample};
use scenarios::Scenario;
use scenarios::judge::judge;
use scenarios::measure::{Measured, measure};
use scenarios::scenario::Metric;
use sim::RunResult;
use sim::backend::{End, LogEntry};
use sim::trace::Fingerprint;
use sim::world::{Flagged, SidecarEvent, StrangerBooks};

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Two instances, one of which fails from 2 s to 6 s; every fourth request or so is a POST.
fn scenario(expectation: &str) -> Scenario {
    let text = format!(
        r#"title = "t"
about = "a"
seeds = 1
duration = "10s"
services = [{{ name = "web", groups = [{{ instances = 1, zone = "a" }}, {{ instances = 1, zone = "b", labels = {{ v = "2" }} }}], service_time = {{ constant = "10ms" }} }}]
sidecar = {{ timeout = "1s" }}
compare = {{ strategies = ["round_robin"] }}
faults = [{{ target = "web-0", at = "2s", until = "6s", what = "crash" }}]

[load]
arrivals = "constant"
rate = 20
mix = [{{ share = 3 }}, {{ method = "POST", share = 1 }}]
timeout = "5s"

[[expect]]
{expectation}
"#
    );
    Scenario::parse(Path::new("metrics.toml"), &text).unwrap()
}

/// A request every 50 ms, which arrives at once and is answered after 10 ms; round robin, but
/// `web-0` gets none from 3 s to 8 s. Request 100 arrives three times, request 101 not at all, and
/// request 199 once more when nobody waits any more.
fn result(scenario: &Scenario) -> RunResult {
    let mut samples = Vec::new();
    let mut logs = vec![Vec::new(), Vec::new()];
    let entry = |index: u64, at: Duration| LogEntry {
        index: Some(index),
        arrived: at,
        started: Some(at),
        end: Some((End::Answered(StatusCode::OK), at + ms(10))),
    };
    for index in 0..200 {
        let at = ms(50 * index);
        let fails = index == 101;
        samples.push(Sample {
            index,
            planned: at,
            sent: Some(at),
            finished: at + ms(10),
            outcome: if fails { Outcome::Status } else { Outcome::Ok },
            status: Some(if fails { 503 } else { 200 }),
            first_byte: None,
            target: 0,
            backend: None,
        });
        let is_out = (ms(3000)..ms(8000)).contains(&at);
        let place = if is_out { 1 } else { index as usize % 2 };
        let times = match index {
            100 => 3,
            101 => 0,
            _ => 1,
        };
        (0..times).for_each(|_| logs[place].push(entry(index, at)));
    }
    logs[1].push(entry(199, ms(50 * 199 + 1005)));
    RunResult {
        leaks: Vec::new(),
        samples,
        mix: scenario.file.load.mix("web", 1).unwrap(),
        faults: scenario.faults(1),
        strangers: StrangerBooks::default(),
        logs,
        calls: vec![BTreeMap::new(); 2],
        probes: vec![0, 0],
        sidecars: vec![],
        flagged: vec![Flagged { index: Some(101), at: ms(5060), flags: "UF,URX".to_owned() }],
        sidecar_events: vec![],
        sayings: vec![],
        budget: vec![],
        fingerprint: Fingerprint { hash: 0, events: 0 },
    }
}

fn measured(expectation: &str) -> Measured {
    let scenario = scenario(&bounded(expectation));
    measure(&scenario, &scenario.variants[0], &scenario.expect[0], &result(&scenario))
}

/// The same with a bound that fits the metric.
fn bounded(expectation: &str) -> String {
    let name = expectation.split('"').nth(1).unwrap();
    let is_time = Metric::parse(name).unwrap().unit() == scenarios::scenario::Unit::Time;
    format!("{expectation}\nat_most = {}", if is_time { "\"1s\"" } else { "1" })
}

fn of(metric: &str, more: &str) -> Measured {
    measured(&format!("that = \"{metric}\"\n{more}"))
}

fn number(number: f64) -> Measured {
    Measured::Number(number)
}

#[test]
fn requests_are_counted_at_both_ends() {
    assert_eq!(of("success_rate", ""), number(0.995));
    assert_eq!(of("status_share", "status = 503"), number(0.005));
    // Twenty a second, of which one failed; 4 s to 6 s.
    let two_seconds = "from = \"4s\"\nuntil = \"6s\"";
    assert_eq!(of("goodput", two_seconds), number(19.5));
    assert_eq!(of("arrivals", two_seconds), number(41.0));
    assert_eq!(of("arrivals", "target = \"web-0\"\nuntil = \"3s\""), number(30.0));
    // 200 requests, two arrivals too many, one too few, and one that came late.
    assert_eq!(of("amplification", ""), number(202.0 / 200.0));
    assert_eq!(of("most_seen", ""), number(3.0));
    assert_eq!(of("most_seen", "until = \"4s\""), number(1.0));
}

#[test]
fn methods_are_told_apart() {
    let scenario = scenario("that = \"success_rate\"\nat_most = 1");
    let mix = scenario.file.load.mix("web", 1).unwrap();
    let count = |method| (0..200).filter(|i| mix.target_of(*i).method() == method).count() as u64;
    assert_eq!(count("GET") + count("POST"), 200);
    let gets = of("arrivals", "method = \"GET\"").number().unwrap() as u64;
    let posts = of("arrivals", "method = \"POST\"").number().unwrap() as u64;
    assert_eq!(gets + posts, 201);
    assert!(posts.abs_diff(count("POST")) <= 2 && count("POST") > 30);
    let method = mix.target_of(100).method().as_str();
    let other = if method == "GET" { "POST" } else { "GET" };
    assert_eq!(of("most_seen", &format!("method = \"{method}\"")), number(3.0));
    // Of the other method, none is seen more often than the one that came late.
    assert!(of("most_seen", &format!("method = \"{other}\"")).number().unwrap() <= 2.0);
}

#[test]
fn shares_follow_time() {
    let web_0 = |metric, more: &str| of(metric, &format!("target = \"web-0\"\n{more}"));
    assert_eq!(web_0("share", "until = \"3s\""), number(0.5));
    assert_eq!(web_0("share", "from = \"3s\"\nuntil = \"8s\""), number(0.0));
    assert_eq!(web_0("peak_share", "until = \"3s\""), number(0.5));
    assert_eq!(web_0("peak_share", "from = \"3s\"\nuntil = \"8s\""), number(0.0));
    // It fails from 2 s on and gets its last request before 3 s: the second that begins at 2.5 s is
    // the last with a quarter of the requests, and the next one begins a tenth later.
    assert_eq!(web_0("time_to_detect", ""), number(0.6));
    // It is well at 6 s and has requests from 8 s on: a quarter in the second from 7.5 s on.
    assert_eq!(web_0("time_to_recover", ""), number(1.5));
    // Of no requests there is no share.
    let never = "from = \"9990ms\"\nuntil = \"9991ms\"";
    assert!(matches!(web_0("share", never), Measured::Nothing(_)));
    assert!(matches!(web_0("peak_share", never), Measured::Nothing(_)));
}

#[test]
fn attempts_past_the_deadline_and_flags_are_counted() {
    // One second, two links of 1 ms and a tick each are 1004 ms; it arrived at 1005.
    assert_eq!(of("late_starts", "until = \"10s\""), number(0.0));
    let scenario = scenario("that = \"late_starts\"\nat_most = 0");
    let mut result = result(&scenario);
    let late = result.logs[1].last_mut().unwrap();
    late.arrived = ms(9999);
    result.samples[199].sent = Some(ms(9999 - 1004));
    let measure =
        |result: &RunResult| measure(&scenario, &scenario.variants[0], &scenario.expect[0], result);
    assert_eq!(measure(&result), number(0.0));
    result.samples[199].sent = Some(ms(9999 - 1005));
    assert_eq!(measure(&result), number(1.0));
    assert_eq!(of("flagged", "flag = \"URX\""), number(1.0));
    assert_eq!(of("flagged", "flag = \"UR\""), number(0.0));
    assert_eq!(of("longest_work", "target = \"web-1\""), number(0.01));
}

#[test]
fn response_times_have_any_percentile_that_there_are_enough_requests_for() {
    for metric in ["min", "mean", "p50", "p99", "max", "work_p50", "work_p99"] {
        let Measured::Number(seconds) = of(metric, "") else { panic!("{metric}") };
        assert!((seconds - 0.01).abs() < 1e-4, "{metric}: {seconds}");
    }
    assert_eq!(
        of("p99.9", ""),
        Measured::Nothing("p99.9 is of at least 1000 requests, and there were 200".to_owned())
    );
    // A hundred requests, from 5 s on: one lies beyond the 99th percentile.
    assert!(matches!(of("p99", "from = \"5s\""), Measured::Number(_)));
    assert!(matches!(of("p99", "from = \"5050ms\""), Measured::Nothing(_)));
    assert!(matches!(of("p99", "status = 503"), Measured::Nothing(_)));
    assert_eq!(of("max", "status = 503"), number(0.01));
}

#[test]
fn windows_may_count_from_a_fault() {
    // It fails from 2 s to 6 s; twenty requests a second.
    assert_eq!(
        of("arrivals", "during = \"web-0\""),
        of("arrivals", "from = \"2s\"\nuntil = \"6s\"")
    );
    assert_eq!(of("arrivals", "after = \"web-0\""), of("arrivals", "from = \"6s\""));
    let second = "after = \"web-0\"\nfrom = \"1s\"\nuntil = \"2s\"";
    assert_eq!(of("arrivals", second), of("arrivals", "from = \"7s\"\nuntil = \"8s\""));
    assert_eq!(of("throughput", second), number(20.0));
}

#[test]
fn paths_and_groups_of_instances_are_told_apart() {
    let all = of("arrivals", "").number().unwrap();
    assert_eq!(of("arrivals", "path = \"/\""), number(all));
    assert_eq!(of("arrivals", "path = \"/*\""), number(all));
    let [a, b] = ["a", "b"].map(|zone| of("arrivals", &format!("zone = \"{zone}\"")));
    assert_eq!(a.number().unwrap() + b.number().unwrap(), all);
    assert_eq!(of("arrivals", "labels = { v = \"2\" }"), b);
    assert_eq!(of("arrivals", "target = \"web-1\""), b);
    assert_eq!(of("share", "zone = \"b\""), of("share", "target = \"web-1\""));
}

#[test]
fn work_that_nobody_could_use_is_wasted() {
    let scenario = scenario("that = \"wasted_work\"\nat_most = 1");
    let mut result = result(&scenario);
    let measure =
        |result: &RunResult| measure(&scenario, &scenario.variants[0], &scenario.expect[0], result);
    // 201 times 10 ms, all of them in time.
    assert_eq!(measure(&result), number(0.0));
    let entry = |started: u64, end: (End, Duration)| LogEntry {
        index: Some(5),
        arrived: ms(250),
        started: Some(ms(started)),
        end: Some(end),
    };
    // Cancelled work is wasted from its start; a wait for a worker is no work.
    result.logs[0].push(entry(300, (End::Cancelled, ms(400))));
    assert_eq!(measure(&result), number(0.1 / 2.11));
    // What a crash ended is lost, and not for nothing.
    result.logs[0].push(entry(300, (End::Crashed, ms(400))));
    assert_eq!(measure(&result), number(0.1 / 2.21));
    // Sent at 250 ms, of use for a second.
    result.logs[0].push(entry(950, (End::Answered(StatusCode::OK), ms(1250))));
    assert_eq!(measure(&result), number(0.1 / 2.51));
    result.logs[0].push(entry(950, (End::Answered(StatusCode::OK), ms(1251))));
    assert_eq!(measure(&result), number(0.401 / 2.811));
}

#[test]
fn utilisation_is_busy_time_over_the_capacity_that_was_there() {
    // Before anything goes wrong both are equally busy.
    assert_eq!(of("jain", "until = \"2s\""), number(1.0));
    assert_eq!(of("max_over_mean", "until = \"2s\""), number(1.0));
    // From 6 s to 8 s it is up again, and without a request: one of two does all the work.
    let idle = "from = \"6s\"\nuntil = \"8s\"";
    assert_eq!(of("jain", idle), number(0.5));
    assert_eq!(of("max_over_mean", idle), number(2.0));
    // Up from 1 s to 2 s alone: its ten requests are as many as the other has in a second.
    let Measured::Number(jain) = of("jain", "from = \"1s\"\nuntil = \"3s\"") else { panic!() };
    assert!(jain > 0.89 && jain < 1.0, "{jain}");
    // While it is down there is but one.
    assert!(matches!(of("jain", "from = \"3s\"\nuntil = \"6s\""), Measured::Nothing(_)));
}

#[test]
fn requests_at_a_time_are_counted_at_both_ends() {
    assert_eq!(of("peak_in_flight", ""), number(1.0));
    assert_eq!(of("peak_in_work", ""), number(3.0));
    assert_eq!(of("peak_in_work", "until = \"4s\""), number(1.0));
    assert_eq!(of("most_at_one", ""), number(3.0));
    assert_eq!(of("most_at_one", "target = \"web-1\"\nuntil = \"4s\""), number(1.0));
}

#[test]
fn ejections_are_held_against_the_faults() {
    let said = |that: &str, events: &[(u64, &'static str, &str)]| {
        let scenario = scenario(&bounded(&format!("that = \"{that}\"")));
        let event = |(at, kind, target): &(u64, &'static str, &str)| SidecarEvent {
            at: ms(*at),
            until: None,
            kind,
            target: (*target).to_owned(),
            detail: String::new(),
        };
        let sidecar_events = events.iter().map(event).collect();
        let result = RunResult { sidecar_events, ..result(&scenario) };
        measure(&scenario, &scenario.variants[0], &scenario.expect[0], &result)
    };
    let right = (2500, "ejected", "web-0");
    let wrong = (2500, "ejected", "web-1");
    assert_eq!(said("ejections", &[]), number(0.0));
    assert_eq!(said("ejections", &[right, (3000, "returned", "web-0"), wrong]), number(2.0));
    assert_eq!(said("ejection_precision", &[right, wrong]), number(0.5));
    assert!(matches!(said("ejection_precision", &[]), Measured::Nothing(_)));
    assert_eq!(said("ejection_recall", &[right]), number(1.0));
    assert_eq!(said("ejection_recall", &[wrong]), number(0.0));
    // Answers of the fault may come for two seconds after its end, which is at 6 s.
    assert_eq!(said("ejection_precision", &[(7999, "ejected", "web-0")]), number(1.0));
    assert_eq!(said("ejection_precision", &[(8000, "ejected", "web-0")]), number(0.0));
    // It was out already, or had returned.
    assert_eq!(said("ejection_recall", &[(1000, "ejected", "web-0")]), number(1.0));
    let returned = [(1000, "ejected", "web-0"), (1500, "returned", "web-0")];
    assert_eq!(said("ejection_recall", &returned), number(0.0));
}

/// What each metric needs to be asked for.
fn needed(metric: &str) -> &'static str {
    match metric {
        "share" | "peak_share" | "time_to_detect" | "time_to_recover" => "target = \"web-0\"",
        "status_share" => "status = 503",
        "flagged" => "flag = \"UH\"",
        _ => "",
    }
}

#[test]
fn without_data_nothing_is_judged_whatever_the_metric() {
    for metric in Metric::names() {
        let text = bounded(&format!("that = \"{metric}\"\n{}", needed(metric)));
        let scenario = scenario(&text);
        let nothing = RunResult {
            samples: vec![],
            logs: vec![vec![], vec![]],
            flagged: vec![],
            ..result(&scenario)
        };
        let expectation = &scenario.expect[0];
        let measured = measure(&scenario, &scenario.variants[0], expectation, &nothing);
        if metric == "ejection_recall" {
            // The faults are its data: that none was answered is a finding.
            assert_eq!(measured, number(0.0));
            continue;
        }
        assert!(matches!(measured, Measured::Nothing(_)), "{metric}: {measured:?}");
        let mut check = judge(&scenario, expectation, "round_robin", &measured, None);
        assert!(check.missed_alone() && !check.held, "{check:?}");
        check.must_fail = true;
        assert!(check.missed_alone(), "{check:?}");
    }
}

#[test]
fn what_never_happened_took_longer_than_any_time() {
    let scenario = scenario("that = \"time_to_recover <= 1s\"\ntarget = \"web-0\"");
    let expectation = &scenario.expect[0];
    let check = judge(&scenario, expectation, "round_robin", &Measured::Never, None);
    assert!(!check.held && check.not_judged.is_none() && check.measured == "never", "{check:?}");
    let nothing = Measured::Nothing("nobody came".to_owned());
    let of_nothing = judge(&scenario, expectation, "round_robin", &nothing, None);
    assert_eq!(of_nothing.not_judged.as_deref(), Some("nothing to measure: nobody came"));
}
