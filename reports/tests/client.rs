//! Records of the load generator alone are live runs: they are compared, and have knees.

use std::fs;
use std::path::Path;
use std::time::Duration;

use loadgen::doubt::{Evidence, Machine};
use loadgen::record::{Asked, Record};
use loadgen::watch::{Look, Watched};
use loadgen::{Arrivals, Event, Observer as _, Outcome, Plan, Recorder, RunEnd, Sample};
use reports::record::{Interval, Throughput, World};
use reports::summary::{Knee, Mark, Metric, summarise};
use reports::{PageExtras, RunRecord, load, write_page};

const SECOND: Duration = Duration::from_secs(1);

/// What `loadgen` writes of a second with answers after `ms`, of which it got so many.
fn json(rate: u64, ms: u64, answered: u64, seed: u64) -> String {
    let record = record(Recorder::new(), (rate, seed), ms, answered);
    serde_json::to_string(&record).expect("a record is JSON")
}

fn record(mut recorder: Recorder, (rate, seed): (u64, u64), ms: u64, answered: u64) -> Record {
    let plan = Plan::new(Arrivals::Constant, rate as f64, SECOND, seed).expect("a plan");
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
    Record::new(asked, &evidence)
}

/// The same with four intervals and a process that was watched.
fn whole(rate: u64, answered: u64) -> Record {
    let mut recorder = Recorder::new().with_series(SECOND / 4);
    for index in 0..rate {
        let planned = SECOND * index as u32 / rate as u32;
        let lag = Duration::from_micros(10 + index);
        recorder.note(Event::Begun { planned, lag, waited: false, reused: true });
    }
    let mut record = record(recorder, (rate, 1), 5, answered);
    let look =
        |(at_ms, cpu_us, mib): (u64, u64, u64)| Look { at_ms, cpu_us, memory_bytes: mib << 20 };
    // The last look is when the last answer was given up, long after the plan's end.
    let looks =
        [(0, 0, 8), (250, 10_000, 9), (500, 20_000, 12), (1000, 40_000, 11), (2000, 44_000, 11)];
    record.watched = vec![Watched {
        name: "haproxy".to_owned(),
        pid: 4711,
        processes: 2,
        cpu_ns: 44_000_000,
        memory_peak_bytes: 12 << 20,
        memory_last_bytes: 11 << 20,
        ended_ns: None,
        looks: looks.map(look).to_vec(),
    }];
    record
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

fn read(record: &Record, file: &str) -> RunRecord {
    let text = serde_json::to_string(record).expect("a record is JSON");
    RunRecord::from_json(&text, Path::new(file)).expect("a live run")
}

#[test]
fn what_happened_over_time_is_kept() {
    let record = read(&whole(200, 190), "haproxy@200.json");
    let starts: Vec<_> = record.intervals.iter().map(|i| (i.start_ms, i.length_ms)).collect();
    // The last ten were given up after a second, behind the plan's end.
    assert_eq!(starts[..4], [(0, 250), (250, 250), (500, 250), (750, 250)]);
    let sum = |of: fn(&Interval) -> u64| -> u64 { record.intervals.iter().map(of).sum() };
    assert_eq!((sum(|i| i.accounting.planned), sum(|i| i.accounting.ok)), (200, 190));
    let throughput = |of: fn(&Throughput) -> u64| -> u64 {
        record.intervals.iter().filter_map(|i| i.throughput.as_ref()).map(of).sum()
    };
    assert_eq!((throughput(|t| t.sent), throughput(|t| t.good)), (200, 190));
    assert_eq!(throughput(|t| t.failed), 10);
    assert_eq!(record.intervals[3].accounting.timeout, 10);
    assert_eq!(record.intervals[3].throughput.map(|t| t.failed), Some(0));
    let response = record.intervals[0].response.as_ref().expect("its response times");
    assert_eq!(response.count(), 50);
    let quantiles = record.intervals[0].response_us.expect("their quantiles");
    assert!((5000..5100).contains(&quantiles.p50) && quantiles.p50 <= quantiles.max);
    let lag = record.intervals[1].send_lag_us.expect("send lags");
    assert!((84..=86).contains(&lag.p50) && (108..=110).contains(&lag.max), "{lag:?}");
    // It is no matter of meshbench's own that is not known.
    assert!(record.intervals.iter().all(|i| i.said.is_none()));
}

#[test]
fn a_run_that_was_cut_off_or_ends_within_an_interval_has_a_short_one() {
    let mut record = whole(200, 200);
    record.asked.duration_ns = Some(900_000_000);
    let lengths = |record: &Record| -> Vec<u64> {
        read(record, "a.json").intervals.iter().take(4).map(|i| i.length_ms).collect()
    };
    assert_eq!(lengths(&record), [250, 250, 250, 150]);
    (record.asked.duration_ns, record.interrupted) = (Some(3_600_000_000_000), true);
    record.elapsed_ns = 800_000_000;
    assert_eq!(lengths(&record), [250, 250, 250, 50]);
}

#[test]
fn figures_over_time_and_of_what_processes_used() {
    let runs =
        [read(&whole(100, 100), "haproxy@100.json"), read(&whole(200, 190), "haproxy@200.json")];
    let used: Vec<_> = runs[0].resources.iter().map(|r| (r.at_ms, r.cpu_us)).collect();
    assert_eq!(used, [(0, 0), (250, 10_000), (500, 20_000), (1000, 40_000), (2000, 44_000)]);
    let dir = tempfile::tempdir().expect("a temporary folder");
    write_page(&runs, &PageExtras::default(), dir.path()).expect("a page");
    let csv = |name: &str| {
        let path = dir.path().join(format!("figures/loadgen/{name}.csv"));
        fs::read_to_string(path).expect(name)
    };
    // Cores until the plan's end, and all of the time by all of the requests.
    insta::assert_snapshot!(csv("resources"), @r#"
    variant,process,requests_per_s,cores,memory_mib,us_a_request
    "haproxy, 100/s",haproxy,100,0.04,12,440
    "haproxy, 200/s",haproxy,200,0.04,12,220
    "#);
    insta::assert_snapshot!("live-throughput", csv("throughput-over-time"));
    insta::assert_snapshot!("live-send-lag", csv("send-lag-over-time"));
    for name in ["heatmap", "knee", "response-over-time", "goodput-over-time"] {
        assert!(csv(name).lines().count() > 2, "{name}");
    }
}
