//! What the tables of a report show, as CSV: one file for each, in long form, a line for each number
//! or group of numbers that belong together. Empty cells are values that there are not. Each figure
//! brings its own data.

use crate::figures::{Cell, Table};
use crate::record::Served;
use crate::summary::{
    Knee, MetricUnit, MetricValue, Pairing, ScenarioSummary, VariantSummary, world_name,
};

/// Each file's name and what is in it.
pub(crate) fn tables(scenarios: &[ScenarioSummary]) -> Vec<(&'static str, Table)> {
    vec![
        ("metrics.csv", metrics(scenarios)),
        ("differences.csv", differences(scenarios)),
        ("checks.csv", checks(scenarios)),
        ("endpoints.csv", endpoints(scenarios)),
        ("knees.csv", knees(scenarios)),
        ("events.csv", events(scenarios)),
    ]
}

/// A line of a table.
fn push(table: &mut Table, row: Vec<String>) {
    assert_eq!(row.len(), table.columns.len(), "a row has a cell for each column");
    table.rows.push(row.into_iter().map(Cell::Text).collect());
}

/// Scenario, variant, world: the cells that say what a line is about.
fn about(scenario: &ScenarioSummary, variant: &VariantSummary) -> Vec<String> {
    vec![
        scenario.scenario.name.clone(),
        variant.label.clone(),
        world_name(variant.world).to_owned(),
    ]
}

fn each(
    scenarios: &[ScenarioSummary],
) -> impl Iterator<Item = (&ScenarioSummary, &VariantSummary)> {
    scenarios.iter().flat_map(|scenario| scenario.variants.iter().map(move |v| (scenario, v)))
}

fn number(value: Option<f64>) -> String {
    value.filter(|value| value.is_finite()).map(|value| value.to_string()).unwrap_or_default()
}

fn ends(value: &MetricValue) -> [String; 2] {
    [number(value.interval.map(|b| b.low)), number(value.interval.map(|b| b.high))]
}

fn metrics(scenarios: &[ScenarioSummary]) -> Table {
    let mut table = Table::new(&[
        "scenario",
        "variant",
        "rate_per_s",
        "metric",
        "unit",
        "value",
        "low_95",
        "high_95",
        "lower_bound",
        "runs",
        "runs_without",
    ]);
    for scenario in scenarios {
        for comparison in &scenario.comparisons {
            for row in &comparison.rows {
                for value in &row.values {
                    let [low, high] = ends(value);
                    push(
                        &mut table,
                        vec![
                            scenario.scenario.name.clone(),
                            row.label.clone(),
                            comparison.rate_per_s.to_string(),
                            value.metric.name().to_owned(),
                            unit(value.metric.unit()).to_owned(),
                            number(value.value),
                            low,
                            high,
                            value.is_bound.to_string(),
                            value.runs.to_string(),
                            value.missing.to_string(),
                        ],
                    );
                }
            }
        }
    }
    table
}

fn unit(unit: MetricUnit) -> &'static str {
    match unit {
        MetricUnit::Share => "share",
        MetricUnit::PerSecond => "per_second",
        MetricUnit::Milliseconds => "ms",
        MetricUnit::Factor => "factor",
    }
}

fn differences(scenarios: &[ScenarioSummary]) -> Table {
    let mut table = Table::new(&[
        "scenario",
        "variant",
        "baseline",
        "rate_per_s",
        "metric",
        "unit",
        "difference",
        "low_95",
        "high_95",
        "mark",
        "pairs",
        "runs",
        "baseline_runs",
    ]);
    for scenario in scenarios {
        for comparison in &scenario.comparisons {
            for row in &comparison.rows {
                for difference in &row.differences {
                    let [pairs, runs, of_baseline] = match difference.pairing {
                        Pairing::Paired(pairs) => [pairs, pairs, pairs].map(|n| n.to_string()),
                        Pairing::Unpaired(a, b) => [String::new(), b.to_string(), a.to_string()],
                    };
                    push(
                        &mut table,
                        vec![
                            scenario.scenario.name.clone(),
                            row.label.clone(),
                            comparison.baseline.clone(),
                            comparison.rate_per_s.to_string(),
                            difference.metric.name().to_owned(),
                            unit(difference.metric.unit()).to_owned(),
                            number(difference.difference),
                            number(difference.interval.map(|b| b.low)),
                            number(difference.interval.map(|b| b.high)),
                            difference.mark.word().to_owned(),
                            pairs,
                            runs,
                            of_baseline,
                        ],
                    );
                }
            }
        }
    }
    table
}

fn checks(scenarios: &[ScenarioSummary]) -> Table {
    let mut table = Table::new(&["scenario", "variant", "world", "check", "held", "runs"]);
    for (scenario, variant) in each(scenarios) {
        for check in &variant.checks {
            let (held, runs) = check.held();
            let mut row = about(scenario, variant);
            row.extend([check.what.clone(), held.to_string(), runs.to_string()]);
            push(&mut table, row);
        }
    }
    table
}

fn endpoints(scenarios: &[ScenarioSummary]) -> Table {
    let mut table = Table::new(&[
        "scenario",
        "variant",
        "world",
        "endpoint",
        "faulted",
        "share",
        "share_in_fault",
        "utilisation",
        "wasted",
        "arrived",
        "ok",
        "errors",
        "cancelled",
        "crashed",
    ]);
    for (scenario, variant) in each(scenarios) {
        for endpoint in variant.endpoints() {
            let Served { arrived, ok, errors, cancelled, crashed } = endpoint.total;
            let mut row = about(scenario, variant);
            row.extend([endpoint.name.clone(), endpoint.faulted.to_string()]);
            row.extend([
                number(Some(endpoint.share)),
                number(endpoint.share_in_fault),
                number(endpoint.utilisation),
                number(endpoint.wasted),
            ]);
            row.extend([arrived, ok, errors, cancelled, crashed].map(|count| count.to_string()));
            push(&mut table, row);
        }
    }
    table
}

fn knees(scenarios: &[ScenarioSummary]) -> Table {
    let mut table = Table::new(&[
        "scenario",
        "variant",
        "offered_per_s",
        "goodput_per_s",
        "goodput_low_95",
        "goodput_high_95",
        "p99_ms",
        "p99_low_95",
        "p99_high_95",
        "success",
        "knee_per_s",
    ]);
    for scenario in scenarios {
        for curve in &scenario.knees {
            let knee = match curve.knee {
                Knee::At { rate_per_s, .. } => rate_per_s.to_string(),
                Knee::Beyond { rate_per_s } => format!(">{rate_per_s}"),
                Knee::Below { rate_per_s } => format!("<{rate_per_s}"),
                Knee::Unknown => String::new(),
            };
            for point in &curve.points {
                let [goodput_low, goodput_high] = ends(&point.goodput);
                let [p99_low, p99_high] = ends(&point.p99);
                push(
                    &mut table,
                    vec![
                        scenario.scenario.name.clone(),
                        curve.family.clone(),
                        point.offered_per_s.to_string(),
                        number(point.goodput.value),
                        goodput_low,
                        goodput_high,
                        number(point.p99.value),
                        p99_low,
                        p99_high,
                        number(point.success.value),
                        knee.clone(),
                    ],
                );
            }
        }
    }
    table
}

/// Faults, and what the sidecars said in the run of the first seed of each variant.
fn events(scenarios: &[ScenarioSummary]) -> Table {
    let columns = ["scenario", "variant", "kind", "target", "at_ms", "until_ms", "detail"];
    let mut table = Table::new(&columns);
    for scenario in scenarios {
        let faults = scenario.faults.iter().map(|event| (String::new(), event));
        let acts = scenario.variants.iter();
        let acts = acts.flat_map(|v| v.acts.iter().map(|event| (v.label.clone(), event)));
        for (variant, event) in faults.chain(acts) {
            push(
                &mut table,
                vec![
                    scenario.scenario.name.clone(),
                    variant,
                    event.kind.clone(),
                    event.target.clone(),
                    event.at_ms.to_string(),
                    event.until_ms.map(|ms| ms.to_string()).unwrap_or_default(),
                    event.detail.clone(),
                ],
            );
        }
    }
    table
}
