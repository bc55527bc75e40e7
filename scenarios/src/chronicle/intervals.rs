//! What happened in each interval, by the client's record and the backends' logs.

use std::time::Duration;

use loadgen::{Accounting, LatencyHistogram, Outcome};
use reports::record::{CoarseHistogram, Interval, SaidInInterval, Throughput};
use sim::RunResult;
use sim::world::Said;

use super::{interval_count, interval_of, millis, place, quantiles, spans};
use crate::scenario::{Scenario, Variant};

/// The intervals of a run. What happens after the end of the plan is in none of them.
pub(super) fn of(scenario: &Scenario, variant: &Variant, result: &RunResult) -> Vec<Interval> {
    let duration = scenario.duration();
    let throughput = throughput(scenario, result);
    let said = said(scenario, variant, result);
    let planned = planned(duration, result);
    let parts = planned.into_iter().zip(throughput).zip(said);
    spans(duration)
        .zip(parts)
        .map(|((start, length), ((planned, throughput), said))| Interval {
            start_ms: millis(start),
            length_ms: millis(length),
            accounting: planned.accounting,
            response_us: quantiles(&planned.response),
            response: Some(planned.coarse),
            send_lag_us: quantiles(&planned.send_lag),
            throughput: Some(throughput),
            said: Some(said),
        })
        .collect()
}

/// What became of the requests that were planned in an interval.
#[derive(Clone, Default)]
struct Planned {
    accounting: Accounting,
    response: LatencyHistogram,
    coarse: CoarseHistogram,
    send_lag: LatencyHistogram,
}

fn planned(duration: Duration, result: &RunResult) -> Vec<Planned> {
    let count = interval_count(duration);
    let mut parts = vec![Planned::default(); count];
    for sample in &result.samples {
        let Some(part) = parts.get_mut(interval_of(sample.planned, count)) else { continue };
        part.accounting.add(sample.outcome);
        part.response.record(sample.response_time());
        part.coarse.record(sample.response_time());
        if let Some(sent) = sample.sent {
            part.send_lag.record(sent.saturating_sub(sample.planned));
        }
    }
    parts
}

fn throughput(scenario: &Scenario, result: &RunResult) -> Vec<Throughput> {
    let mut parts = vec![Throughput::default(); interval_count(scenario.duration())];
    let mut count = |at: Duration, field: fn(&mut Throughput) -> &mut u64| {
        if let Some(part) = parts.get_mut(place(at)) {
            *field(part) += 1;
        }
    };
    for sample in &result.samples {
        if let Some(sent) = sample.sent {
            count(sent, |part| &mut part.sent);
        }
        match sample.outcome {
            Outcome::Ok => count(sample.finished, |part| &mut part.good),
            _ => count(sample.finished, |part| &mut part.failed),
        }
    }
    let logs = result.logs.iter().zip(scenario.services_of_instances());
    for entry in logs.filter(|(_, service)| *service == 0).flat_map(|(log, _)| log) {
        count(entry.arrived, |part| &mut part.attempts);
    }
    for flagged in &result.flagged {
        count(flagged.at, |part| &mut part.refused);
    }
    parts
}

/// What the client's sidecar, the first of all, says it did.
fn said(scenario: &Scenario, variant: &Variant, result: &RunResult) -> Vec<SaidInInterval> {
    let mut parts = vec![SaidInInterval::default(); interval_count(scenario.duration())];
    for saying in result.sayings.iter().filter(|saying| saying.sidecar == 0) {
        let Some(part) = parts.get_mut(place(saying.at)) else { continue };
        match saying.said {
            Said::Placed { kind: "first", .. } => part.first += 1,
            Said::Placed { kind: "retry", .. } => part.retries += 1,
            Said::Placed { .. } => part.hedges += 1,
            Said::GaveUp { why: "budget" } => part.over_budget += 1,
            Said::GaveUp { .. } | Said::Answered { .. } | Said::Ended { .. } => {}
        }
    }
    let route = &variant.sidecar.route;
    if route.retry.max_retries > 0 || route.hedge.is_some() {
        for (second, left) in &result.budget {
            let part = parts.get_mut(place(Duration::from_secs(*second)));
            part.into_iter().for_each(|part| part.budget_left = Some(*left));
        }
    }
    parts
}
