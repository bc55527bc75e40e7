//! What each backend did, by its own log.

use std::time::Duration;

use http::StatusCode;
use loadgen::{LatencyHistogram, Outcome, Sample};
use reports::record::{EndpointRecord, EndpointSeries, Served};
use sim::RunResult;
use sim::backend::{End, LogEntry};
use sim::world::Said;

use super::{interval_count, interval_of, micros, quantiles, spans};
use crate::scenario::Scenario;

pub(super) fn of(scenario: &Scenario, result: &RunResult) -> Vec<EndpointRecord> {
    let satisfied = Satisfied::of(&result.samples);
    let services = scenario.services_of_instances();
    let placed = placed(scenario.duration(), result);
    let logs = scenario.instances().into_iter().zip(&result.logs).zip(services).zip(placed);
    logs.map(|(((name, log), service), placed)| {
        let service = &scenario.file.services[service];
        let time = time(scenario.duration(), log, &satisfied);
        let (total, latency, by_arrival) = by_arrival(scenario.duration(), log);
        EndpointRecord {
            name,
            service: service.name.get_ref().clone(),
            workers: service.settings().workers.map(|workers| workers as u64),
            total,
            busy_us: Some(time.busy_us.iter().sum()),
            wasted_us: Some(time.wasted_us.iter().sum()),
            latency,
            series: EndpointSeries { placed, ..merged(by_arrival, time) },
        }
    })
    .collect()
}

/// For each backend and interval, the attempts that sidecars say they sent there.
fn placed(duration: Duration, result: &RunResult) -> Vec<Vec<u64>> {
    let count = interval_count(duration);
    let mut placed = vec![vec![0; count]; result.logs.len()];
    for saying in &result.sayings {
        if let Said::Placed { backend, .. } = saying.said
            && let Some(of) = placed[backend].get_mut(interval_of(saying.at, count))
        {
            *of += 1;
        }
    }
    placed
}

fn merged(by_arrival: EndpointSeries, time: EndpointSeries) -> EndpointSeries {
    EndpointSeries {
        in_flight_mean: time.in_flight_mean,
        in_flight_peak: time.in_flight_peak,
        busy_us: time.busy_us,
        wasted_us: time.wasted_us,
        ..by_arrival
    }
}

/// When each request of the plan was answered well and in time, if it was.
struct Satisfied(Vec<Option<Duration>>);

impl Satisfied {
    fn of(samples: &[Sample]) -> Self {
        let mut at = vec![None; samples.len()];
        for sample in samples.iter().filter(|sample| sample.outcome == Outcome::Ok) {
            if let Some(at) = at.get_mut(sample.index as usize) {
                *at = Some(sample.finished);
            }
        }
        Self(at)
    }

    /// Whether the work on an entry came to nothing: it was not answered well, its request was
    /// answered before by another, or failed all the same.
    fn is_wasted(&self, entry: &LogEntry) -> bool {
        let Some((End::Answered(status), at)) = entry.end else { return true };
        if status >= StatusCode::BAD_REQUEST {
            return true;
        }
        let Some(index) = entry.index else { return false };
        let satisfied = self.0.get(index as usize).copied().flatten();
        satisfied.is_none_or(|satisfied| at > satisfied)
    }
}

/// Counts and latencies, each entry in the interval of its arrival.
fn by_arrival(duration: Duration, log: &[LogEntry]) -> (Served, LatencyHistogram, EndpointSeries) {
    let count = interval_count(duration);
    let mut total = Served::default();
    let mut latency = LatencyHistogram::new();
    let mut served = vec![Served::default(); count];
    let mut latencies = vec![LatencyHistogram::new(); count];
    for entry in log {
        let interval = interval_of(entry.arrived, count);
        count_entry(&mut total, entry);
        count_entry(&mut served[interval], entry);
        if let Some((End::Answered(_), at)) = entry.end {
            latency.record(at.saturating_sub(entry.arrived));
            latencies[interval].record(at.saturating_sub(entry.arrived));
        }
    }
    let list = |of: fn(&Served) -> u64| served.iter().map(of).collect();
    let series = EndpointSeries {
        arrived: list(|served| served.arrived),
        ok: list(|served| served.ok),
        errors: list(|served| served.errors),
        cancelled: list(|served| served.cancelled),
        crashed: list(|served| served.crashed),
        latency_us: latencies.iter().map(quantiles).collect(),
        ..EndpointSeries::default()
    };
    (total, latency, series)
}

fn count_entry(served: &mut Served, entry: &LogEntry) {
    served.arrived += 1;
    match entry.end {
        Some((End::Answered(status), _)) if status < StatusCode::BAD_REQUEST => served.ok += 1,
        Some((End::Answered(_), _)) => served.errors += 1,
        Some((End::Cancelled, _)) => served.cancelled += 1,
        Some((End::Crashed, _)) => served.crashed += 1,
        // Still being worked on when the run ended.
        None => {}
    }
}

/// How many requests were there and for how long they were worked on, at each instant of the plan;
/// the other lists stay empty.
fn time(duration: Duration, log: &[LogEntry], satisfied: &Satisfied) -> EndpointSeries {
    let spans: Vec<_> = spans(duration).collect();
    let mut there = vec![Duration::ZERO; spans.len()];
    let mut busy = there.clone();
    let mut wasted = there.clone();
    for entry in log {
        let end = entry.end.map_or(duration, |(_, at)| at);
        add_overlaps(&mut there, &spans, entry.arrived, end);
        let Some(started) = entry.started else { continue };
        add_overlaps(&mut busy, &spans, started, end);
        if satisfied.is_wasted(entry) {
            add_overlaps(&mut wasted, &spans, started, end);
        }
    }
    let mean = |(there, (_, length)): (&Duration, &(Duration, Duration))| {
        let mean = there.as_secs_f64() / length.as_secs_f64();
        (mean * 1e3).round() / 1e3
    };
    EndpointSeries {
        in_flight_mean: there.iter().zip(&spans).map(mean).collect(),
        in_flight_peak: peaks(&spans, log),
        busy_us: busy.into_iter().map(micros).collect(),
        wasted_us: wasted.into_iter().map(micros).collect(),
        ..EndpointSeries::default()
    }
}

/// Adds to each span what it has in common with the time from `start` to `end`.
fn add_overlaps(
    sums: &mut [Duration],
    spans: &[(Duration, Duration)],
    start: Duration,
    end: Duration,
) {
    let first = super::place(start).min(spans.len());
    for (sum, (begin, length)) in sums.iter_mut().zip(spans).skip(first) {
        if *begin >= end {
            break;
        }
        *sum += (*begin + *length).min(end).saturating_sub(start.max(*begin));
    }
}

/// The most requests that were there at one instant of each span.
fn peaks(spans: &[(Duration, Duration)], log: &[LogEntry]) -> Vec<u64> {
    let arrivals = log.iter().map(|entry| (entry.arrived, 1));
    let ends = log.iter().filter_map(|entry| entry.end).map(|(_, at)| (at, -1));
    let mut steps: Vec<(Duration, i64)> = arrivals.chain(ends).collect();
    // At one instant those that leave go first: who follows another never met it.
    steps.sort_unstable();
    let mut steps = steps.into_iter().peekable();
    let mut there = 0;
    let of_span = |(begin, length): &(Duration, Duration)| {
        let mut peak = there;
        while let Some((_, step)) = steps.next_if(|(at, _)| *at < *begin + *length) {
            there += step;
            peak = peak.max(there);
        }
        peak.max(0) as u64
    };
    spans.iter().map(of_span).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn entry(index: u64, arrived: u64, started: u64, end: Option<(End, u64)>) -> LogEntry {
        let end = end.map(|(end, at)| (end, ms(at)));
        LogEntry { index: Some(index), arrived: ms(arrived), started: Some(ms(started)), end }
    }

    const OK: End = End::Answered(StatusCode::OK);

    #[test]
    fn time_is_split_over_the_intervals_that_it_falls_in() {
        // Request 0 is answered in time, 1 is abandoned, 2 is still there at the end.
        let log = [
            entry(0, 500, 800, Some((OK, 1300))),
            entry(1, 900, 1300, Some((End::Cancelled, 1500))),
            entry(2, 2000, 2000, None),
        ];
        let satisfied = Satisfied(vec![Some(ms(1301)), None, None]);
        let series = time(ms(2500), &log, &satisfied);
        assert_eq!(series.in_flight_mean, [0.6, 0.8, 1.0]);
        assert_eq!(series.in_flight_peak, [2, 2, 1]);
        assert_eq!(series.busy_us, [200_000, 500_000, 500_000]);
        assert_eq!(series.wasted_us, [0, 200_000, 500_000]);
    }

    #[test]
    fn work_is_wasted_that_nobody_waited_for() {
        let satisfied = Satisfied(vec![Some(ms(100)), None]);
        let wasted = |index, end| satisfied.is_wasted(&entry(index, 0, 0, end));
        assert!(!wasted(0, Some((OK, 99))));
        assert!(wasted(0, Some((OK, 101))), "another attempt was faster");
        assert!(wasted(1, Some((OK, 99))), "its request failed");
        assert!(wasted(0, Some((End::Crashed, 99))));
        assert!(wasted(0, Some((End::Answered(StatusCode::BAD_GATEWAY), 99))));
        assert!(wasted(0, None));
    }

    #[test]
    fn who_follows_another_never_met_it() {
        let log = [entry(0, 0, 0, Some((OK, 100))), entry(1, 100, 100, Some((OK, 1700)))];
        let spans: Vec<_> = spans(ms(3000)).collect();
        assert_eq!(peaks(&spans, &log), [1, 1, 0]);
    }
}
