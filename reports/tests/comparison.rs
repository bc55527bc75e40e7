//! Variants against a baseline, sets of runs against each other, curves over the rate.

#[path = "support/synthetic.rs"]
mod synthetic;

use reports::compare::{markdown, text};
use reports::record::{Reaction, WarningKind};
use reports::summary::{Knee, Mark, Metric, Pairing, warnings};
use reports::{
    PageExtras, ReportError, RunRecord, compare, summarise, summarise_against, write_page,
};
use synthetic::{FOUR, Model, THREE, records, run};

const SMALL: Model = Model { rate: 100, ..THREE };
const SEEDS: [u64; 5] = [1, 2, 3, 4, 5];

/// Round robin and peak EWMA, of which only the latter avoids the slow endpoint.
fn two() -> Vec<RunRecord> {
    records(&SMALL, &[FOUR[0], FOUR[3]], &SEEDS)
}

#[test]
fn the_better_variant_is_marked_against_the_baseline() {
    let summary = summarise(&two());
    let comparison = &summary[0].comparisons[0];
    assert_eq!((comparison.baseline.as_str(), comparison.rate_per_s), ("round_robin", 100.0));
    assert!(comparison.rows[0].differences.is_empty());
    let ewma = &comparison.rows[1];
    let mark = |metric| ewma.differences.iter().find(|d| d.metric == metric).map(|d| d.mark);
    assert_eq!(mark(Metric::Success), Some(Mark::Better));
    assert_eq!(mark(Metric::P99), Some(Mark::Better));
    assert_eq!(mark(Metric::WastedWork), Some(Mark::Better));
    // One attempt for each request, in both.
    assert_eq!(mark(Metric::Amplification), Some(Mark::NoneShown));
    // Round robin sent on to the endpoint that failed: it has no way back to be timed.
    assert_eq!(mark(Metric::TimeToRecover), Some(Mark::Unknown));
    let mut told = ewma.differences.iter().filter(|d| d.difference.is_some());
    assert!(told.all(|d| d.pairing == Pairing::Paired(5)));
    let backwards = summarise_against(&two(), Some("peak_ewma"));
    let round_robin = &backwards[0].comparisons[0].rows[0];
    let mark = |metric| round_robin.differences.iter().find(|d| d.metric == metric).map(|d| d.mark);
    assert_eq!(mark(Metric::Success), Some(Mark::Worse));
    // One of six is to be avoided: nobody is praised or blamed for its share.
    assert_eq!(mark(Metric::Jain), Some(Mark::NotJudged));
}

#[test]
fn who_fails_more_is_not_praised_for_being_quick() {
    let mut runs = two();
    for run in runs.iter_mut().filter(|run| run.variant == "peak_ewma") {
        let lost = run.accounting.ok / 2;
        run.accounting.ok -= lost;
        run.accounting.status += lost;
        run.events.clear();
    }
    let summary = summarise(&runs);
    let ewma = &summary[0].comparisons[0].rows[1];
    let mark = |metric| ewma.differences.iter().find(|d| d.metric == metric).map(|d| d.mark);
    assert_eq!(mark(Metric::Success), Some(Mark::Worse));
    assert_eq!(mark(Metric::P99), Some(Mark::NotJudged));
    assert_eq!(mark(Metric::WastedWork), Some(Mark::NotJudged));
}

#[test]
fn what_lacks_data_is_unknown_and_never_equal() {
    let mut runs = two();
    runs.truncate(6);
    for run in &mut runs {
        run.reactions.clear();
        run.endpoints.iter_mut().for_each(|e| e.busy_us = None);
    }
    // Five runs of one, one of the other: no pair to tell a spread of.
    let summary = summarise(&runs);
    let ewma = &summary[0].comparisons[0].rows[1];
    assert!(ewma.differences.iter().all(|d| d.mark == Mark::Unknown), "{ewma:?}");
    let detect = ewma.values.iter().find(|v| v.metric == Metric::TimeToDetect);
    assert_eq!(detect.map(|v| (v.value, v.missing)), Some((None, 1)));
}

#[test]
fn where_all_fail_there_is_nobody_to_turn_to() {
    let mut runs = two();
    for run in &mut runs {
        let Some(first) = run.reactions.first().cloned() else { continue };
        let others = run.endpoints.iter().filter(|endpoint| endpoint.name != first.target);
        let others: Vec<_> = others.map(|endpoint| endpoint.name.clone()).collect();
        let all = others.into_iter().map(|target| Reaction { target, ..first.clone() });
        run.reactions.extend(all);
    }
    let summary = summarise(&runs);
    let values = &summary[0].comparisons[0].rows[1].values;
    let detect = values.iter().find(|value| value.metric == Metric::TimeToDetect);
    assert_eq!(detect.map(|detect| detect.value), Some(None));
}

#[test]
fn other_seeds_are_compared_unpaired() {
    let mut runs = records(&SMALL, &FOUR[..1], &[1, 2, 3]);
    runs.extend(records(&SMALL, &FOUR[3..], &[7, 8, 9]));
    let summary = summarise(&runs);
    let ewma = &summary[0].comparisons[0].rows[1];
    let mut told = ewma.differences.iter().filter(|d| d.difference.is_some());
    assert!(told.all(|d| d.pairing == Pairing::Unpaired(3, 3)));
    let kinds: Vec<_> = warnings(&runs, &summary).iter().map(|doubt| doubt.kind).collect();
    assert_eq!(kinds, [WarningKind::Unpaired, WarningKind::FewSeeds]);
}

#[test]
fn nothing_differs_from_itself() {
    let runs = two();
    let compared = compare(&runs, &runs, 0.95);
    assert_eq!((compared.count(Mark::Worse), compared.count(Mark::Better)), (0, 0));
    // What one of them never turned away from, it did not turn back to.
    assert_eq!(compared.count(Mark::Unknown), 1);
    assert!(text(&compared).contains("No difference shown in 23 metrics"));
}

#[test]
fn before_and_after_as_text_and_markdown() {
    let before = records(&SMALL, &FOUR[3..], &SEEDS);
    // The same variant, after a change that made it blind to slow endpoints.
    let mut after = records(&SMALL, &FOUR[..1], &SEEDS);
    after.iter_mut().for_each(|run| run.variant = "peak_ewma".to_owned());
    let mut lone = run(&SMALL, &FOUR[1], 1);
    lone.scenario.name = "elsewhere".to_owned();
    after.push(lone);
    let compared = compare(&before, &after, 0.95);
    assert!(compared.count(Mark::Worse) > 3);
    let text = text(&compared);
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    insta::assert_snapshot!("text", text);
    insta::assert_snapshot!("markdown", markdown(&compared));
}

/// A variant at a rate of which only 150 a second can be answered.
fn at_rate(rate: u64, seed: u64) -> RunRecord {
    let mut run = run(&Model { rate, ..SMALL }, &FOUR[3], seed);
    run.variant = format!("peak_ewma@{rate}");
    run.settings.insert("load.rate".to_owned(), rate.to_string());
    run.settings.insert("balance".to_owned(), "peak_ewma".to_owned());
    let well = run.accounting.planned.min(150 * 30 + seed * 30);
    run.accounting.ok = well;
    run.accounting.late = run.accounting.planned - well;
    run.accounting.timeout = 0;
    run
}

#[test]
fn a_sweep_of_rates_has_a_knee() {
    let runs: Vec<RunRecord> =
        SEEDS.iter().flat_map(|seed| [100, 200, 400].map(|rate| at_rate(rate, *seed))).collect();
    let summary = summarise(&runs);
    assert_eq!(summary[0].comparisons.len(), 3);
    let [curve] = summary[0].knees.as_slice() else { panic!("{:?}", summary[0].knees) };
    assert_eq!(curve.family, "peak_ewma");
    let rates: Vec<f64> = curve.points.iter().map(|point| point.offered_per_s).collect();
    assert_eq!(rates, [100.0, 200.0, 400.0]);
    let goodput = curve.points[2].goodput.value.expect("a goodput");
    assert!((goodput - 153.0).abs() < 0.01, "{goodput}");
    // Of 200 between 151 and 155 are answered: 95 % is crossed a little above 100.
    let Knee::At { rate_per_s, interval: Some(bounds) } = curve.knee else {
        panic!("{:?}", curve.knee)
    };
    assert!((120.0..125.0).contains(&rate_per_s) && bounds.half() < 1.5, "{:?}", curve.knee);
    // All rates have one colour, and none is merged with another.
    assert!(summary[0].variants.iter().all(|v| v.place == 0 && v.seeds == SEEDS));

    let too_low: Vec<RunRecord> = runs.into_iter().filter(|r| r.plan.rate_per_s < 150.0).collect();
    let mut also: Vec<RunRecord> = SEEDS.map(|seed| at_rate(50, seed)).to_vec();
    also.extend(too_low);
    let summary = summarise(&also);
    assert_eq!(summary[0].knees[0].knee, Knee::Beyond { rate_per_s: 100.0 });
    let doubts = warnings(&also, &summary);
    assert!(doubts.iter().any(|doubt| doubt.kind == WarningKind::KneeNotReached), "{doubts:?}");
}

#[test]
fn what_tables_show_lies_beside_the_page() -> Result<(), ReportError> {
    let dir = tempfile::tempdir().expect("a folder");
    let mut all = records(&SMALL, &[FOUR[0], FOUR[3]], &[1, 2]);
    all.iter_mut().for_each(|run| run.scenario.name = "of-two".to_owned());
    all.extend([50, 100].map(|rate| at_rate(rate, 1)));
    write_page(&all, &PageExtras::default(), dir.path())?;
    let lines = |name: &str| -> Vec<String> {
        let path = dir.path().join(format!("data/{name}.csv"));
        let text = std::fs::read_to_string(path).expect("a file");
        text.lines().map(str::to_owned).collect()
    };
    // A line for the names; then of-two has two variants of three endpoints and two checks, and the
    // sweep two rates of one variant.
    let names = ["metrics", "differences", "checks", "endpoints", "knees", "events"];
    let counts = names.map(|name| lines(name).len());
    assert_eq!(counts, [1 + 4 * 12, 1 + 12, 1 + 4 * 2, 1 + 4 * 3, 1 + 2, 1 + 2]);
    assert_eq!(lines("checks")[1], "of-two,round_robin,simulated,success rate,0,2");
    assert_eq!(lines("events")[1], "of-two,,fault,web-0,10000,20000,slow: constant 400 ms");
    assert!(lines("differences")[1].starts_with("of-two,peak_ewma,round_robin,100,success,share,"));
    Ok(())
}

#[test]
fn empty_and_silent_runs_are_said_to_be() {
    assert!(summarise(&[]).is_empty());
    let mut silent = run(&SMALL, &FOUR[0], 1);
    silent.accounting = Default::default();
    silent.latency = Default::default();
    silent.intervals.clear();
    silent.endpoints.clear();
    silent.reactions.clear();
    let summary = summarise(&[silent.clone()]);
    let row = &summary[0].comparisons[0].rows[0];
    let known: Vec<_> = row.values.iter().filter(|v| v.value.is_some()).map(|v| v.metric).collect();
    // Nothing was answered in the time that was planned, which is a goodput of zero.
    assert_eq!(known, [Metric::Goodput]);
    let kinds: Vec<_> = warnings(&[silent], &summary).iter().map(|doubt| doubt.kind).collect();
    assert_eq!(kinds, [WarningKind::NotANumber, WarningKind::FewSeeds]);
}
