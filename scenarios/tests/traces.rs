//! The requests that a record tells: which they are, and that what is told of them is what happened.
#![allow(clippy::unwrap_used, reason = "a test says by failing what is wrong")]

use std::path::Path;

use reports::RunRecord;
use reports::record::{Chosen, RequestTrace};
use scenarios::Scenario;
use scenarios::plan::jobs;
use scenarios::runner::run_here;

/// Three instances that take 10 ms, something that happens to the first of them, and one way to
/// treat it.
fn run(what: &str, variant: &str) -> RunRecord {
    let text = format!(
        r#"title = "t"
about = "a"
seeds = 1
duration = "8s"
services = [{{ name = "web", instances = 3, service_time = {{ constant = "10ms" }} }}]
faults = [{{ target = "web-0", at = "3s", until = "5s", what = {what} }}]

[load]
arrivals = "constant"
rate = 100
timeout = "2s"

[[variants]]
name = "only"
balance = "round_robin"
cluster = {{ outlier = {{ enabled = false }} }}
{variant}
"#
    );
    first_run(&text)
}

fn first_run(text: &str) -> RunRecord {
    let scenarios = [Scenario::parse(Path::new("traces.toml"), text).unwrap()];
    let outcome = run_here(&scenarios, &jobs(0, &scenarios[0], 1..=1), &|| true);
    assert!(outcome.broken.is_empty(), "{}", outcome.broken[0].reason);
    outcome.records.into_iter().next().unwrap()
}

fn told(record: &RunRecord, chosen: Chosen) -> Vec<&RequestTrace> {
    record.traces.iter().filter(|trace| trace.chosen == chosen).collect()
}

#[test]
fn failures_are_told_from_the_whole_time_in_which_there_were_any() {
    let record = run("{ error_rate = 1.0 }", "route = { retry = { max_retries = 0 } }");
    let lost = record.accounting.planned - record.accounting.ok;
    assert!((60..=70).contains(&lost), "a third of 200 requests: {lost}");
    let failed = told(&record, Chosen::Failed);
    assert_eq!(failed.len(), 20);
    for trace in &failed {
        assert_eq!((trace.outcome.as_str(), trace.status), ("status", Some(500)));
        let [attempt] = trace.attempts.as_slice() else { panic!("{trace:?}") };
        let (seen, said) = (attempt.seen.as_ref().unwrap(), attempt.said.as_ref().unwrap());
        assert_eq!(attempt.endpoint, "web-0");
        assert_eq!(
            (said.kind.as_str(), said.end.as_str(), seen.end.as_str()),
            ("first", "500", "500")
        );
        assert!(trace.planned_us <= said.placed_us && said.placed_us <= seen.arrived_us);
        assert!(seen.ended_us.unwrap() <= trace.finished_us);
    }
    let planned: Vec<u64> = failed.iter().map(|trace| trace.planned_us).collect();
    assert!(planned.is_sorted(), "{planned:?}");
    assert!(planned[0] < 3_200_000 && planned[19] > 4_700_000, "{planned:?}");
}

#[test]
fn the_slowest_are_the_slowest() {
    let record = run("{ slow = { constant = \"300ms\" } }", "");
    let slowest = told(&record, Chosen::Slowest);
    assert_eq!(slowest.len(), 10);
    let most = slowest.iter().map(|trace| trace.response_us()).max().unwrap();
    let longest = record.latency.response_ok.max().as_micros() as u64;
    assert!(most.abs_diff(longest) <= longest / 500, "{most} and {longest}");
    for trace in slowest {
        let [attempt] = trace.attempts.as_slice() else { panic!("{trace:?}") };
        let seen = attempt.seen.as_ref().unwrap();
        let worked = seen.ended_us.unwrap() - seen.started_us.unwrap();
        assert_eq!((attempt.endpoint.as_str(), seen.end.as_str()), ("web-0", "200"));
        assert!((300_000..=302_000).contains(&worked), "{worked}");
        assert!(trace.response_us() >= worked);
    }
    assert_eq!(told(&record, Chosen::Failed).len(), 0);
}

#[test]
fn a_retry_is_told_with_its_reason_and_its_wait() {
    let record = run("{ error_rate = 1.0 }", "route = { retry = { max_retries = 2 } }");
    let retried: Vec<_> = record.traces.iter().filter(|trace| trace.attempts.len() > 1).collect();
    assert!(!retried.is_empty(), "no retried request is among the slowest");
    for trace in retried {
        let [first, again] = &trace.attempts[..2] else { unreachable!() };
        let (said, said_again) = (first.said.as_ref().unwrap(), again.said.as_ref().unwrap());
        assert_eq!((first.endpoint.as_str(), said.end.as_str()), ("web-0", "500"));
        assert_eq!(said_again.kind, "retry");
        assert_ne!(again.endpoint, "web-0", "it was tried where it had failed");
        let waited = said_again.placed_us - said.ended_us.unwrap();
        assert_eq!(said_again.backoff_us, Some(waited));
        assert_eq!(again.seen.as_ref().unwrap().end, "200");
    }
}

#[test]
fn calls_of_further_services_name_their_caller() {
    let record = first_run(
        r#"title = "t"
about = "a"
seeds = 1
duration = "3s"

[[services]]
name = "front"
instances = 2
service_time = { constant = "10ms" }
calls = "back"

[[services]]
name = "back"
instances = 2
service_time = { constant = "20ms" }

[load]
arrivals = "constant"
rate = 50
timeout = "2s"

[compare]
strategies = ["round_robin"]
"#,
    );
    let slowest = told(&record, Chosen::Slowest);
    assert_eq!(slowest.len(), 10);
    for trace in slowest {
        let [of_client, of_front] = trace.attempts.as_slice() else { panic!("{trace:?}") };
        assert_eq!(of_client.caller, None);
        assert_eq!(of_front.caller.as_ref(), Some(&of_client.endpoint));
        assert!(of_client.endpoint.starts_with("front") && of_front.endpoint.starts_with("back"));
        assert!(of_front.end_us().unwrap() <= of_client.end_us().unwrap());
    }
}

/// What the sidecar says it sent to each instance, by the intervals from `from` to `until` seconds.
fn sent_to(record: &RunRecord, endpoint: usize, from: usize, until: usize) -> u64 {
    record.endpoints[endpoint].series.placed[from..until].iter().sum()
}

#[test]
fn what_is_sent_is_what_arrives_and_what_a_dead_instance_never_saw() {
    let record = run("\"crash\"", "route = { retry = { max_retries = 0 } }");
    let arrived = |endpoint: usize, from: usize, until: usize| -> u64 {
        record.endpoints[endpoint].series.arrived[from..until].iter().sum()
    };
    let all: u64 = (0..3).map(|endpoint| sent_to(&record, endpoint, 0, 8)).sum();
    assert_eq!(all, record.accounting.sent, "one attempt for each request");
    for alive in [1, 2] {
        assert_eq!(sent_to(&record, alive, 0, 8), arrived(alive, 0, 8));
    }
    assert_eq!(arrived(0, 3, 5), 0);
    let share = sent_to(&record, 0, 3, 5);
    assert!((66..=67).contains(&share), "a third of 200: {share}");
    // And so a mesh that goes on sending there has not noticed.
    let [reaction] = record.reactions.as_slice() else { panic!("{:?}", record.reactions) };
    assert_eq!((reaction.detected_after_ms, reaction.watched_until_ms), (None, Some(8_000)));
}
