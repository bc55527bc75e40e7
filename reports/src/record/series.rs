//! What happened over time, and at each endpoint.

use loadgen::{Accounting, LatencyHistogram};
use serde::{Deserialize, Serialize};

use super::CoarseHistogram;

/// One interval of the run, overall, by the client's record and the backends' logs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Interval {
    /// When it begins, in milliseconds from the start of the run.
    pub start_ms: u64,
    /// How long it is, in milliseconds.
    pub length_ms: u64,
    /// Requests planned in it, and what became of them in the end.
    pub accounting: Accounting,
    /// The response-time quantiles of the requests planned in it, in microseconds, censored ones
    /// included at their limit; `None` when there were none.
    pub response_us: Option<Quantiles>,
    /// The response times behind those, for a heatmap and for percentiles over several intervals or
    /// runs; `None` in records of schema 1.
    pub response: Option<CoarseHistogram>,
    /// From the planned instant to the send, for the requests planned in it that were sent, in
    /// microseconds; `None` when there were none.
    pub send_lag_us: Option<Quantiles>,
    /// What happened in it, whenever the requests were planned; `None` in records of schema 1.
    pub throughput: Option<Throughput>,
    /// What the client's sidecar says it did in it; `None` when it was not asked.
    pub said: Option<SaidInInterval>,
}

/// What happened in an interval, each thing at its own instant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Throughput {
    /// Requests that the client sent.
    pub sent: u64,
    /// Requests that were answered well and in time: goodput.
    pub good: u64,
    /// Requests that ended in any other way.
    pub failed: u64,
    /// Requests that arrived at the instances which the client's sidecar calls, by their logs:
    /// attempts of all sorts.
    pub attempts: u64,
    /// Answers of the client's sidecar that carried a response flag, and so came from no upstream.
    pub refused: u64,
}

/// What a sidecar says it did in an interval. It explains a figure, and no verdict rests on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SaidInInterval {
    /// First attempts placed on an endpoint.
    pub first: u64,
    /// Attempts after a failed one.
    pub retries: u64,
    /// Attempts beside one that took long.
    pub hedges: u64,
    /// Failures that would have been tried again, had the retry budget allowed it.
    pub over_budget: u64,
    /// Retries that the budget would have allowed at the last request of the interval; `None` when
    /// there was no request or there is no budget.
    pub budget_left: Option<u64>,
}

/// Quantiles of a time, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quantiles {
    /// Median.
    pub p50: u64,
    /// 90th percentile.
    pub p90: u64,
    /// 99th percentile.
    pub p99: u64,
    /// Largest.
    pub max: u64,
}

/// What one backend saw, by its own log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndpointRecord {
    /// Service and instance, such as `web-3`.
    pub name: String,
    /// The service it is an instance of.
    pub service: String,
    /// Requests that it works on at once; `None` when it works on all that are there.
    pub workers: Option<u64>,
    /// All that it saw.
    pub total: Served,
    /// Time that its workers spent on requests, in microseconds; two at once count twice. `None` in
    /// records of schema 1.
    pub busy_us: Option<u64>,
    /// The part of it that came to nothing: work that was not answered well, or whose answer
    /// nobody was waiting for, or for a request that failed all the same. `None` as above.
    pub wasted_us: Option<u64>,
    /// From a request's arrival at the backend to its end there, for the completed ones.
    pub latency: LatencyHistogram,
    /// The same over time.
    pub series: EndpointSeries,
}

impl EndpointRecord {
    /// What was sent here in each interval, as the sidecars say; of systems that were not asked,
    /// what arrived.
    pub fn sent_here(&self) -> &[u64] {
        if self.series.placed.is_empty() { &self.series.arrived } else { &self.series.placed }
    }

    /// All that was sent here, as [`sent_here`](Self::sent_here).
    pub fn attempts(&self) -> u64 {
        match self.sent_here() {
            [] => self.total.arrived,
            sent => sent.iter().sum(),
        }
    }
}

/// An endpoint over the intervals of its run. Each list has one value for each of
/// [`RunRecord::intervals`](super::RunRecord::intervals), by position; lists that are not known, as
/// in records of schema 1, are empty.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndpointSeries {
    /// Attempts that sidecars say they sent there in the interval, whether or not they arrived: who
    /// is down keeps no log. Empty where no sidecar was asked.
    #[serde(default)]
    pub placed: Vec<u64>,
    /// Requests that arrived in the interval.
    pub arrived: Vec<u64>,
    /// Of those that arrived in it: answered below 400.
    pub ok: Vec<u64>,
    /// Of those: answered with 400 or more.
    pub errors: Vec<u64>,
    /// Of those: abandoned by the caller.
    pub cancelled: Vec<u64>,
    /// Of those: killed with the process.
    pub crashed: Vec<u64>,
    /// Requests that were there, waiting or worked on: the mean over the interval's time.
    pub in_flight_mean: Vec<f64>,
    /// The most that were there at one instant.
    pub in_flight_peak: Vec<u64>,
    /// Time that its workers spent in the interval, in microseconds.
    pub busy_us: Vec<u64>,
    /// The part of it that came to nothing, in microseconds.
    pub wasted_us: Vec<u64>,
    /// From arrival to answer, for the requests that arrived in it and were answered; `None` where
    /// there were none.
    pub latency_us: Vec<Option<Quantiles>>,
}

impl EndpointSeries {
    /// Whether each list has this length, or is not known.
    pub(super) fn has_length(&self, intervals: usize) -> bool {
        let of_log = [&self.arrived, &self.ok, &self.errors, &self.cancelled, &self.crashed];
        let of_time = [&self.in_flight_peak, &self.busy_us, &self.wasted_us];
        let fits = |length: usize| length == intervals || length == 0;
        of_log.iter().chain(&of_time).all(|list| fits(list.len()))
            && fits(self.placed.len())
            && fits(self.in_flight_mean.len())
            && fits(self.latency_us.len())
    }
}

/// Counts of a backend's log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Served {
    /// Requests that arrived.
    pub arrived: u64,
    /// Answered below 400.
    pub ok: u64,
    /// Answered with 400 or more.
    pub errors: u64,
    /// Abandoned by the caller before they were answered.
    pub cancelled: u64,
    /// Killed with the process.
    pub crashed: u64,
}

/// How soon the mesh reacted to a fault at an endpoint, by the share of its service's requests that
/// was sent there in a second.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reaction {
    /// The endpoint.
    pub target: String,
    /// What went wrong there.
    pub fault: String,
    /// When it began, in milliseconds from the start of the run.
    pub from_ms: u64,
    /// When it was over; the end of the run for what lasts.
    pub until_ms: u64,
    /// What is said of its recovery rests on the time until then: the next fault of the endpoint, or
    /// the end of the run. `None` in records that were written before this was told apart.
    #[serde(default)]
    pub watched_until_ms: Option<u64>,
    /// From its begin until the share stayed below half of a fair one, in milliseconds; `None` when
    /// it did not before the fault was over.
    pub detected_after_ms: Option<u64>,
    /// From its end until the share was at least half of a fair one, in milliseconds; `None` when
    /// that was not seen, or the fault lasted to the end of the run.
    pub recovered_after_ms: Option<u64>,
}

/// What a process of a live run used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResourceSample {
    /// When, in milliseconds from the start of the run.
    pub at_ms: u64,
    /// Which process, such as `sidecar` or `loadgen`.
    pub process: String,
    /// Processor time that it had used until then since the start of the run, in microseconds.
    pub cpu_us: u64,
    /// Memory that it had then (resident set), in bytes.
    pub memory_bytes: u64,
}
