//! Statistics against numbers worked out by hand.

#[path = "support/synthetic.rs"]
mod synthetic;

use std::time::Duration;

use loadgen::{Accounting, LatencyHistogram};
use reports::record::{Interval, RunRecord, Warning, WarningKind};
use reports::summary::{Band, Spread, doubts};
use reports::{summarise, summary_table};
use synthetic::{ELEVEN, FOUR, Model, THREE, records, run, success_check};

/// A run of which `ok` of a hundred requests took 10 ms, and the rest 1 s until they were given up.
fn plain(variant: &str, seed: u64, ok: u64) -> RunRecord {
    let mut record = run(&Model { rate: 1, ..THREE }, &FOUR[0], seed);
    record.variant = variant.to_owned();
    record.replay = format!("meshbench run plain --variant {variant} --seed {seed}");
    record.accounting = Accounting { planned: 100, sent: 100, ok, ..Accounting::default() };
    record.accounting.timeout = 100 - ok;
    record.plan.timeout_ms = 1000;
    record.latency.censored_from_us = (ok < 100).then_some(1_000_000);
    record.latency.response = LatencyHistogram::new();
    for request in 0..100 {
        let ms = if request < ok { 10 } else { 1000 };
        record.latency.response.record(Duration::from_millis(ms));
    }
    record.checks = vec![success_check(ok as f64 / 100.0)];
    (record.checks[0].at_least, record.checks[0].held) = (Some(0.95), ok >= 95);
    record.checks[0].wanted = "≥ 95 %".to_owned();
    record
}

#[test]
fn success_is_the_mean_over_seeds_with_its_range() {
    let runs = [plain("a", 2, 90), plain("a", 1, 100), plain("a", 3, 98)];
    let summary = summarise(&runs);
    let a = &summary[0].variants[0];
    assert_eq!(a.seeds, [1, 2, 3]);
    assert_eq!(a.success, Spread { mean: 0.96, min: 0.9, max: 1.0 });
    assert_eq!((a.accounting.planned, a.accounting.ok, a.accounting.timeout), (300, 288, 12));
    assert_eq!(a.held(), (2, 3));
    assert_eq!(summary[0].held(), (2, 3));
}

#[test]
fn percentiles_come_from_the_merged_histogram() {
    // Seed 1 alone has a p99 of 10 ms, seed 2 of 1 s; the mean of the two would be 505 ms. Merged,
    // 10 of 200 requests took 1 s: the p95 is 10 ms, and what lies above is 1 s.
    let summary = summarise(&[plain("a", 1, 100), plain("a", 2, 90)]);
    let a = &summary[0].variants[0];
    let near = |value: f64, ms: f64| (value - ms).abs() <= ms / 1000.0;
    assert_eq!(a.response.count(), 200);
    assert!(near(a.quantile_ms(0.95).0, 10.0) && !a.quantile_ms(0.95).1);
    assert!(near(a.quantile_ms(0.951).0, 1000.0) && a.quantile_ms(0.951).1);
    assert!(near(a.p99_ms.min, 10.0) && near(a.p99_ms.max, 1000.0));
}

#[test]
fn the_eleven_backends_have_the_shares_of_the_model() {
    let summary = summarise(&records(&ELEVEN, &FOUR[..1], &[1, 2]));
    let round_robin = &summary[0].variants[0];
    // 60 000 requests a run in turn over 11: the first backend gets 5455. Of the 30 000 under the
    // fault, from the 15 000th on, it gets 2727, and all of them are given up.
    let slow = &round_robin.services[0].endpoints[0];
    assert_eq!((slow.total.arrived, slow.total.cancelled), (2 * 5455, 2 * 2727));
    assert_eq!(slow.share, 5455.0 / 60_000.0);
    assert_eq!(slow.share_in_fault, Some(2727.0 / 30_000.0));
    assert_eq!(round_robin.success.mean, 1.0 - 2727.0 / 60_000.0);
    assert_eq!(round_robin.abandoned(), 2 * 2727);
    let faulted: Vec<bool> = round_robin.endpoints().map(|e| e.faulted).collect();
    assert_eq!(faulted, [[true].as_slice(), &[false; 10]].concat());
    assert_eq!(round_robin.services[0].endpoints[1].share_in_fault, None);
}

#[test]
fn an_interval_is_the_median_over_seeds_between_the_extremes() {
    let mut runs = [plain("a", 1, 100), plain("a", 2, 100), plain("a", 3, 100)];
    for (run, planned) in runs.iter_mut().zip([10, 40, 20]) {
        let accounting = Accounting { planned, ok: planned / 2, ..Accounting::default() };
        run.intervals =
            vec![Interval { start_ms: 0, length_ms: 500, accounting, ..Interval::default() }];
    }
    let summary = summarise(&runs);
    let timeline = &summary[0].variants[0].timeline;
    let band = |median, min, max| Some(Band { at_s: 0.25, median, min, max });
    assert_eq!(timeline.offered_per_s, [band(40.0, 20.0, 80.0)]);
    assert_eq!(timeline.ok_per_s, [band(20.0, 10.0, 40.0)]);
    assert_eq!(timeline.p99_ms, [None]);
    assert_eq!(timeline.end_s, 0.5);
}

#[test]
fn intervals_behind_the_plan_are_left_out() {
    let mut run = plain("a", 1, 100);
    let planned = summarise(&[run.clone()])[0].variants[0].timeline.clone();
    run.intervals.push(Interval { start_ms: 30_000, length_ms: 1000, ..Interval::default() });
    assert_eq!(summarise(&[run])[0].variants[0].timeline, planned);
}

#[test]
fn runs_of_two_systems_are_never_merged() {
    let mut other = plain("a", 1, 90);
    other.system = "envoy 1.40".to_owned();
    let summary = summarise(&[plain("a", 1, 100), other]);
    let labels: Vec<&str> = summary[0].variants.iter().map(|v| v.label.as_str()).collect();
    assert_eq!(labels, ["a, meshbench-sidecar 0.1.0", "a, envoy 1.40"]);
}

#[test]
fn a_variant_keeps_its_place_in_every_scenario() {
    let mut elsewhere = plain("b", 1, 100);
    elsewhere.scenario.name = "elsewhere".to_owned();
    let summary = summarise(&[plain("a", 1, 100), plain("b", 1, 100), elsewhere]);
    let places = |i: usize| summary[i].variants.iter().map(|v| v.place).collect::<Vec<_>>();
    assert_eq!((places(0), places(1)), (vec![0, 1], vec![1]));
}

#[test]
fn doubts_are_said_once_with_their_remedy() {
    let mut runs = [plain("a", 1, 100), plain("a", 2, 100), plain("b", 1, 100)];
    for run in &mut runs[..2] {
        run.warnings.push(Warning {
            kind: WarningKind::ClientSaturated,
            doubt: "the client fell behind".to_owned(),
            remedy: "lower the rate".to_owned(),
        });
    }
    runs[2].accounting.ok = 3;
    let doubts = doubts(&runs, &summarise(&runs));
    insta::assert_snapshot!(doubts.join("\n"), @r"
    gray-failure, b, seed 1 (1 run): the accounting does not balance: sent = ok + late + status + invalid + connect + closed + malformed + timeout + unfinished reads 100 = 3. Do not trust its rates; this is a defect of the load generator.
    gray-failure, a (2 runs): the client fell behind. Lower the rate.
    gray-failure: the variants ran with different seeds (a 1, 2; b 1), so they did not meet the same arrivals. Run the missing seeds.
    gray-failure: only 1 seed per variant, so nothing is known about how far another seed would differ. Run at least 5.
    ");
}

#[test]
fn the_table_fits_a_terminal() {
    let mut runs: Vec<RunRecord> = (1..=3).map(|s| plain("round_robin", s, 100 - 5 * s)).collect();
    runs.extend((1..=3).map(|s| plain("a_strategy_with_a_very_long_name", s, 100)));
    let table = summary_table(&runs);
    insta::assert_snapshot!(table, @r"
    gray-failure: One of three backends is a hundred times slower for ten seconds
      simulated, 6 runs, 1/s for 30 s, deadline 250 ms, timeout 1 s

      variant                runs       success %   p50 ms   p99 ms p99.9 ms  held
      round_robin               3     90.00 ±5.00     10.0        –        –  ✗ 1/3
      a_strategy_with_a_ver…    3          100 ±0     10.0        –        –  ✓ 3/3

      ✗ round_robin, seeds 2, 3: success rate
        wanted ≥ 95 %, measured 90 % with seed 2; it held in 1 of 3 runs
        meshbench run plain --variant round_robin --seed 2

      success: mean over seeds ± half their range; p50 to p99.9: all runs merged;
      –: fewer than ten requests beyond it; ≥: lower bound, requests were given up
    ");
    assert!(table.lines().all(|line| line.chars().count() <= 80));
    assert_eq!(summary_table(&[]), "");
}
