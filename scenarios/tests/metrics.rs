//! Each metric, of a run that is written down here and can be counted by hand.
#![allow(clippy::unwrap_used, reason = "a test says by failing what is wrong")]

use std::path::Path;
use std::time::Duration;

use http::StatusCode;
use loadgen::{Outcome, Sample};
use scenarios::Scenario;
use scenarios::measure::{Value, measure};
use sim::RunResult;
use sim::backend::{End, LogEntry};
use sim::trace::Fingerprint;
use sim::world::Flagged;

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
services = [{{ name = "web", instances = 2, service_time = {{ constant = "10ms" }} }}]
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
        samples,
        mix: scenario.file.load.mix("web", 1).unwrap(),
        faults: scenario.faults(1),
        logs,
        probes: vec![0, 0],
        sidecars: vec![],
        flagged: vec![Flagged { index: Some(101), at: ms(5060), flags: "UF,URX".to_owned() }],
        sidecar_events: vec![],
        sayings: vec![],
        budget: vec![],
        fingerprint: Fingerprint { hash: 0, events: 0 },
    }
}

fn measured(expectation: &str) -> Option<Value> {
    let is_time = ["time_to", "longest"].iter().any(|word| expectation.contains(word));
    let bound = if is_time { "at_most = \"1s\"" } else { "at_most = 1" };
    let scenario = scenario(&format!("{expectation}\n{bound}"));
    let (variant, expect) = (&scenario.variants[0], &scenario.file.expect[0]);
    measure(&scenario, variant, expect, &result(&scenario))
}

fn of(metric: &str, more: &str) -> Option<Value> {
    measured(&format!("that = \"{metric}\"\n{more}"))
}

#[test]
fn requests_are_counted_at_both_ends() {
    assert_eq!(of("success_rate", ""), Some(Value::Share(0.995)));
    assert_eq!(of("status_share", "status = 503"), Some(Value::Share(0.005)));
    // Twenty a second, of which one failed; 4 s to 6 s.
    let two_seconds = "from = \"4s\"\nuntil = \"6s\"";
    assert_eq!(of("goodput", two_seconds), Some(Value::PerSecond(19.5)));
    assert_eq!(of("arrivals", two_seconds), Some(Value::Count(41)));
    assert_eq!(of("arrivals", "target = \"web-0\"\nuntil = \"3s\""), Some(Value::Count(30)));
    // 200 requests, two arrivals too many, one too few, and one that came late.
    assert_eq!(of("amplification", ""), Some(Value::Factor(202.0 / 200.0)));
    assert_eq!(of("most_seen", ""), Some(Value::Count(3)));
    assert_eq!(of("most_seen", "until = \"4s\""), Some(Value::Count(1)));
}

#[test]
fn methods_are_told_apart() {
    let scenario = scenario("that = \"success_rate\"\nat_most = 1");
    let mix = scenario.file.load.mix("web", 1).unwrap();
    let count = |method| (0..200).filter(|i| mix.target_of(*i).method() == method).count() as u64;
    assert_eq!(count("GET") + count("POST"), 200);
    let gets = of("arrivals", "method = \"GET\"").unwrap().number() as u64;
    let posts = of("arrivals", "method = \"POST\"").unwrap().number() as u64;
    assert_eq!(gets + posts, 201);
    assert!(posts.abs_diff(count("POST")) <= 2 && count("POST") > 30);
    let method = mix.target_of(100).method().as_str();
    let other = if method == "GET" { "POST" } else { "GET" };
    assert_eq!(of("most_seen", &format!("method = \"{method}\"")), Some(Value::Count(3)));
    // Of the other method, none is seen more often than the one that came late.
    assert!(of("most_seen", &format!("method = \"{other}\"")).unwrap().number() <= 2.0);
}

#[test]
fn shares_follow_time() {
    let web_0 = |metric, more: &str| of(metric, &format!("target = \"web-0\"\n{more}"));
    assert_eq!(web_0("share", "until = \"3s\""), Some(Value::Share(0.5)));
    assert_eq!(web_0("share", "from = \"3s\"\nuntil = \"8s\""), Some(Value::Share(0.0)));
    assert_eq!(web_0("peak_share", "until = \"3s\""), Some(Value::Share(0.5)));
    assert_eq!(web_0("peak_share", "from = \"3s\"\nuntil = \"8s\""), Some(Value::Share(0.0)));
    // It fails from 2 s on and gets its last request before 3 s: the second that begins at 2.5 s is
    // the last with a quarter of the requests, and the next one begins a tenth later.
    assert_eq!(web_0("time_to_detect", ""), Some(Value::Time(ms(600))));
    // It is well at 6 s and has requests from 8 s on: a quarter in the second from 7.5 s on.
    assert_eq!(web_0("time_to_recover", ""), Some(Value::Time(ms(1500))));
    // Of no requests there is no share.
    let never = "from = \"9990ms\"\nuntil = \"9991ms\"";
    assert_eq!((web_0("share", never), web_0("peak_share", never)), (None, None));
}

#[test]
fn attempts_past_the_deadline_and_flags_are_counted() {
    // One second, two links of 1 ms and a tick each are 1004 ms; it arrived at 1005.
    assert_eq!(of("late_starts", "until = \"10s\""), Some(Value::Count(0)));
    let scenario = scenario("that = \"late_starts\"\nat_most = 0");
    let mut result = result(&scenario);
    let late = result.logs[1].last_mut().unwrap();
    late.arrived = ms(9999);
    result.samples[199].sent = Some(ms(9999 - 1004));
    let measure = |result: &RunResult| {
        measure(&scenario, &scenario.variants[0], &scenario.file.expect[0], result)
    };
    assert_eq!(measure(&result), Some(Value::Count(0)));
    result.samples[199].sent = Some(ms(9999 - 1005));
    assert_eq!(measure(&result), Some(Value::Count(1)));
    assert_eq!(of("flagged", "flag = \"URX\""), Some(Value::Count(1)));
    assert_eq!(of("flagged", "flag = \"UR\""), Some(Value::Count(0)));
    assert_eq!(of("longest_work", "target = \"web-1\""), Some(Value::Time(ms(10))));
}
