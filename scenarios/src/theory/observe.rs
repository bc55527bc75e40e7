//! What one run of an experiment shows, from the client's record and the backends' logs. Pure.

use std::time::Duration;

use loadgen::Outcome;
use sim::RunResult;
use sim::backend::LogEntry;

use super::Statistic;

/// One run, after its warm-up.
#[derive(Clone, Debug)]
pub struct Observed {
    /// Response times from the planned instant, in seconds, in order of size.
    pub responses: Vec<f64>,
    /// Requests in the backends, averaged over time.
    pub present: f64,
    /// Arrivals at the backends per second.
    pub arrivals: f64,
    /// How long one stayed, on average, in seconds.
    pub stay: f64,
}

/// Looks at a run from `warm_up` to `end`, the end of its plan.
///
/// # Errors
/// When a request came to another end than a good answer: theory knows no failures.
pub fn observe(result: &RunResult, warm_up: Duration, end: Duration) -> Result<Observed, String> {
    if let Some(bad) = result.samples.iter().find(|sample| sample.outcome != Outcome::Ok) {
        let (index, outcome) = (bad.index, bad.outcome.name());
        return Err(format!("request {index} ended as `{outcome}`; theory knows no failures"));
    }
    let steady = result.samples.iter().filter(|sample| sample.planned >= warm_up);
    let mut responses: Vec<f64> =
        steady.map(|sample| sample.response_time().as_secs_f64()).collect();
    responses.sort_by(f64::total_cmp);

    let length = (end - warm_up).as_secs_f64();
    let stays: Vec<_> = result.logs.iter().flatten().filter_map(stay).collect();
    let within = |(from, to): &(Duration, Duration)| {
        (*to).min(end).saturating_sub((*from).max(warm_up)).as_secs_f64()
    };
    let arrived: Vec<f64> = stays
        .iter()
        .filter(|(from, _)| (warm_up..end).contains(from))
        .map(|(from, to)| (*to - *from).as_secs_f64())
        .collect();
    Ok(Observed {
        responses,
        present: stays.iter().map(within).sum::<f64>() / length,
        arrivals: arrived.len() as f64 / length,
        stay: arrived.iter().sum::<f64>() / arrived.len().max(1) as f64,
    })
}

/// When a request came to a backend and when it left.
fn stay(entry: &LogEntry) -> Option<(Duration, Duration)> {
    entry.end.map(|(_, left)| (entry.arrived, left))
}

impl Observed {
    /// A statistic, in its own unit; `None` when there was nothing to measure.
    pub(super) fn value(&self, about: Statistic, service_time: f64, path: f64) -> Option<f64> {
        if self.responses.is_empty() {
            return None;
        }
        let in_service_times = |response: f64| (response - path) / service_time;
        let mean = || self.responses.iter().sum::<f64>() / self.responses.len() as f64;
        Some(match about {
            Statistic::Mean => in_service_times(mean()),
            Statistic::Quantile(part) => {
                // The smallest response that at least this part do not exceed.
                let rank = (part * self.responses.len() as f64).ceil() as usize;
                in_service_times(self.responses[rank.clamp(1, self.responses.len()) - 1])
            }
            Statistic::Little => self.present / (self.arrivals * self.stay),
            Statistic::Path => (mean() - service_time) * 1e3,
        })
    }
}
