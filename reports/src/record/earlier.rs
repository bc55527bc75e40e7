//! Records of schema 1, which had less: read, and converted.
//!
//! A record is kept for years, so it is converted rather than refused. What schema 1 did not write
//! down is absent afterwards, never zero, and the report says that it is missing.

use std::collections::BTreeMap;

use loadgen::{Accounting, LatencyHistogram};
use serde::Deserialize;

use super::{
    Check, Environment, Event, Latencies, PlanSummary, Quantiles, ScenarioText, Served, Warning,
    WarningKind, World,
};

/// The schema that these types are.
pub(super) const SCHEMA: &str = "meshbench.run/1";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RunRecord {
    #[serde(rename = "schema")]
    _schema: String,
    scenario: ScenarioText,
    world: World,
    system: String,
    variant: String,
    seed: u64,
    replay: String,
    environment: Environment,
    plan: PlanSummary,
    accounting: Accounting,
    latency: Latencies,
    intervals: Vec<Interval>,
    endpoints: Vec<EndpointRecord>,
    events: Vec<Event>,
    checks: Vec<OldCheck>,
    warnings: Vec<Warning>,
    trace_hash: Option<String>,
}

/// It had no numbers.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OldCheck {
    what: String,
    wanted: String,
    measured: String,
    passed: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Interval {
    start_ms: u64,
    length_ms: u64,
    accounting: Accounting,
    response_us: Option<Quantiles>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EndpointRecord {
    name: String,
    service: String,
    total: Served,
    latency: LatencyHistogram,
    intervals: Vec<Served>,
}

impl From<RunRecord> for super::RunRecord {
    fn from(old: RunRecord) -> Self {
        let mut warnings = old.warnings;
        warnings.push(Warning {
            kind: WarningKind::EarlierSchema,
            doubt: "the record is of schema 1, which has no heatmap, no utilisation, no times to \
                    detect and recover, and no traces"
                .to_owned(),
            remedy: "run it again to have them".to_owned(),
        });
        Self {
            schema: super::SCHEMA.to_owned(),
            scenario: old.scenario,
            world: old.world,
            system: old.system,
            variant: old.variant,
            settings: BTreeMap::new(),
            seed: old.seed,
            replay: old.replay,
            environment: old.environment,
            plan: old.plan,
            accounting: old.accounting,
            latency: old.latency,
            intervals: old.intervals.into_iter().map(super::Interval::from).collect(),
            endpoints: old.endpoints.into_iter().map(super::EndpointRecord::from).collect(),
            reactions: Vec::new(),
            events: old.events,
            traces: Vec::new(),
            resources: Vec::new(),
            checks: old.checks.into_iter().map(Check::from).collect(),
            warnings,
            trace_hash: old.trace_hash,
        }
    }
}

impl From<OldCheck> for Check {
    fn from(old: OldCheck) -> Self {
        Self {
            what: old.what,
            wanted: old.wanted,
            measured: old.measured,
            held: old.passed,
            ..Check::default()
        }
    }
}

impl From<Interval> for super::Interval {
    fn from(old: Interval) -> Self {
        let Interval { start_ms, length_ms, accounting, response_us } = old;
        Self { start_ms, length_ms, accounting, response_us, ..Self::default() }
    }
}

impl From<EndpointRecord> for super::EndpointRecord {
    fn from(old: EndpointRecord) -> Self {
        let list = |of: fn(&Served) -> u64| old.intervals.iter().map(of).collect();
        let series = super::EndpointSeries {
            arrived: list(|served| served.arrived),
            ok: list(|served| served.ok),
            errors: list(|served| served.errors),
            cancelled: list(|served| served.cancelled),
            crashed: list(|served| served.crashed),
            ..super::EndpointSeries::default()
        };
        Self {
            name: old.name,
            service: old.service,
            workers: None,
            total: old.total,
            busy_us: None,
            wasted_us: None,
            latency: old.latency,
            series,
        }
    }
}
