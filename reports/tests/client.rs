//! Records of the load generator alone are live runs: they are compared, and have knees.

use std::fs;
use std::path::Path;
use std::time::Duration;

use loadgen::doubt::{Evidence, Machine};
use loadgen::record::{Asked, Record};
use loadgen::{Arrivals, Observer as _, Outcome, Plan, Recorder, RunEnd, Sample};
use reports::record::World;
use reports::summary::{Knee, Mark, Metric, summarise};
use reports::{PageExtras, RunRecord, load, write_page};

const SECOND: Duration = Duration::from_secs(1);

/// What `loadgen` writes of a second with answers after `ms`, of which it got so many.
fn json(rate: u64, ms: u64, answered: u64, seed: u64) -> String {
    let plan = Plan::new(Arrivals::Constant, rate as f64, SECOND, seed).expect("a plan");
    let mut recorder = Recorder::new();
    for index in 0..rate {
        let planned = SECOND * index as u32 / rate as u32;
        let is_answered = index < answered;
        let (outcome, took) = match is_answered {
            true => (Outcome::Ok, Duration::from_micros(1000 * ms + seed * index)),
            false => (Outcome::Timeout, SECOND),
        };
        recorder.observe(&Sample {
            index,
            planned,
            sent: Some(planned),
            first_byte: None,
            finished: planned + took,
            outcome,
            status: is_answered.then_some(200),
            target: 0,
            backend: None,
        });
    }
    let end = RunEnd { elapsed: SECOND, ..RunEnd::default() };
    let machine = Machine::default();
    let warmup = Duration::ZERO;
    let evidence =
        Evidence { plan: &plan, warmup, recorder: &recorder, end: &end, machine: &machine };
    let asked = Asked {
        targets: vec!["GET http://127.0.0.1:15001/hello".to_owned()],
        arrivals: "constant".to_owned(),
        rate_per_s: Some(rate as f64),
        duration_ns: Some(1_000_000_000),
        seed,
        connections: 8,
        threads: 1,
        timeout_ns: 1_000_000_000,
        ..Asked::default()
    };
    serde_json::to_string(&Record::new(asked, &evidence)).expect("a record is JSON")
}

#[test]
fn what_the_client_wrote_is_kept() {
    let record = RunRecord::from_json(&json(200, 5, 190, 3), Path::new("haproxy@3.json"));
    let record = record.expect("a live run");
    assert_eq!((record.variant.as_str(), record.world, record.seed), ("haproxy", World::Live, 3));
    assert_eq!((record.accounting.planned, record.accounting.ok), (200, 190));
    assert_eq!(record.accounting.timeout, 10);
    assert_eq!(record.latency.response.count(), 200);
    assert_eq!(record.latency.response_ok.count(), 190);
    assert_eq!(record.latency.censored_from_us, Some(1_000_000));
    assert_eq!(
        record.replay,
        "loadgen -R 200 -d 1000ms --arrival constant --seed 3 -c 8 -t 1 \
         http://127.0.0.1:15001/hello"
    );
    assert!(record.warnings.iter().any(|warning| warning.doubt.contains("void")));
    let of_another_version = json(200, 5, 200, 1).replace("meshbench.loadgen/2", "loadgen/9");
    let refused = RunRecord::from_json(&of_another_version, Path::new("x.json"));
    assert!(refused.is_err_and(|error| error.to_string().contains("`loadgen/9`")));
}

#[test]
fn runs_at_several_rates_are_compared_and_have_knees_and_a_page() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    for seed in 1..=3 {
        for rate in [200, 400] {
            let file = |name: &str| dir.path().join(format!("{name}@{rate}-{seed}.json"));
            fs::write(file("direct"), json(rate, 2, rate, seed)).expect("a file");
            let answered = if rate == 400 { 300 - seed } else { 200 };
            fs::write(file("proxied"), json(rate, 4, answered, seed)).expect("a file");
        }
    }
    let loaded = load(&[dir.path().to_owned()]).expect("the folder");
    assert_eq!(loaded.skipped, []);
    let scenarios = summarise(&loaded.records);
    let [scenario] = scenarios.as_slice() else { panic!("one scenario") };
    let knees: Vec<_> = scenario.knees.iter().map(|k| (k.family.as_str(), k.knee)).collect();
    assert_eq!(knees[0], ("direct", Knee::Beyond { rate_per_s: 400.0 }));
    assert!(matches!(knees[1], ("proxied", Knee::At { rate_per_s, .. }) if rate_per_s < 300.0));
    let proxied = &scenario.comparisons[0].rows[1];
    let p50 = proxied.differences.iter().find(|d| d.metric == Metric::P50).expect("p50");
    assert_eq!(p50.mark, Mark::Worse);
    let out = tempfile::tempdir().expect("a temporary folder");
    let page = write_page(&loaded.records, &PageExtras::default(), out.path()).expect("a page");
    let html = fs::read_to_string(page).expect("the page");
    for words in ["Where the knee is", "Response time by percentile", "400 per second", "live"] {
        assert!(html.contains(words), "{words} is missing");
    }
    // Doubts that differ in their numbers are one.
    assert_eq!(html.matches("planned requests were not answered, in the first of them").count(), 1);
    assert!(html.contains("200 to 400 per second"));
    // What only a simulation, or a backend's log, knows.
    for words in ["How response times spread", "Share of each backend", "over time</b>"] {
        assert!(!html.contains(words), "{words} says nothing here");
    }
}
