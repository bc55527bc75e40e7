//! The document itself: every field, with its unit. What is done with it is in the room above.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::accounting::Accounting;
use crate::histogram::LatencyHistogram;
use crate::series::Series;
use crate::watch::Watched;

/// One run, or several taken together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Always `meshbench.loadgen/2`.
    pub schema: String,
    /// The version of the program that wrote it.
    pub version: String,
    /// How many runs are taken together here; 1 for one that was just made.
    pub runs: u64,
    /// What was asked for.
    pub asked: Asked,
    /// Where every measured request went.
    pub accounting: Accounting,
    /// Where the requests of the warm-up went.
    pub warmup: Accounting,
    /// How fast.
    pub rate: Rate,
    /// From the start to the end, in nanoseconds.
    pub elapsed_ns: u64,
    /// It was stopped before its end.
    pub interrupted: bool,
    /// Requests in flight.
    pub in_flight: InFlight,
    /// Connections.
    pub connections: Connections,
    /// Measured requests with a whole response, by status.
    pub statuses: BTreeMap<u16, Portion>,
    /// Measured requests by target, if there are several.
    pub targets: BTreeMap<String, Portion>,
    /// Measured requests by the backend that answered, if they say.
    pub backends: BTreeMap<String, Portion>,
    /// Failed requests by cause.
    pub failures: BTreeMap<String, u64>,
    /// Every kind of time.
    pub times: BTreeMap<String, Times>,
    /// What happened over time; none of runs that do not fit into one series, and in records from
    /// before it was kept.
    #[serde(default)]
    pub series: Option<Series>,
    /// What the machine did.
    pub machine: MachineRecord,
    /// What the processes used that were watched.
    #[serde(default)]
    pub watched: Vec<Watched>,
    /// What the run was held to.
    pub slos: Vec<SloRecord>,
    /// `valid`, `suspect` or `void`.
    pub verdict: String,
    /// What speaks against believing it.
    pub doubts: Vec<DoubtRecord>,
}

/// What was asked for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    /// The requests, as `GET http://…`.
    pub targets: Vec<String>,
    /// `constant`, `poisson`, `uniform`, `burst:K`, `replay` or `closed`.
    pub arrivals: String,
    /// Requests per second over the whole plan; none in a closed loop.
    pub rate_per_s: Option<f64>,
    /// The course of a changing rate, as it was written.
    pub stages: Option<String>,
    /// How long requests were to be sent, in nanoseconds; none if a count was to be sent.
    pub duration_ns: Option<u64>,
    /// How many requests, if that was known beforehand.
    pub count: Option<u64>,
    /// How long of that is not measured.
    pub warmup_ns: u64,
    /// The seed of all that is random.
    pub seed: u64,
    /// `http/1.1` or `h2`, and `+tls`.
    pub protocol: String,
    /// The most connections to one address.
    pub connections: u64,
    /// The most streams on one connection.
    pub streams: u64,
    /// Threads.
    pub threads: u64,
    /// When a request is cancelled, in nanoseconds from its send.
    pub timeout_ns: u64,
    /// How long an answer is of use, in nanoseconds from its planned instant.
    pub deadline_ns: Option<u64>,
    /// How long answers were waited for after the plan's end.
    pub drain_ns: u64,
    /// What became of requests that found no room: `queue` or `skip`.
    pub overflow: String,
    /// `precise`, `spin` or `coarse`.
    pub pacing: String,
}

/// Requests per second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// Planned.
    pub intended_per_s: f64,
    /// Sent.
    pub achieved_per_s: f64,
    /// With a whole response.
    pub answered_per_s: f64,
}

/// Requests in flight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InFlight {
    /// The most at once; of several runs, the sum of theirs.
    pub peak: u64,
    /// On average, by the requests' own times.
    pub mean: f64,
    /// On average, by counting. By Little's law it is equal.
    pub observed_mean: f64,
}

/// Connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Connections {
    /// The most open at once; of several runs, the sum of theirs.
    pub peak: u64,
    /// Opened in all.
    pub opened: u64,
    /// Requests that were given an open one.
    pub reused: u64,
    /// Requests sent a second time because an idle one had ended.
    pub retried: u64,
}

/// Some of the requests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Portion {
    /// Where they went.
    pub accounting: Accounting,
    /// Response times, from the planned instant.
    pub response: Times,
    /// Service times, from the send.
    pub service: Times,
}

/// A histogram, and what most readers want from it. Nanoseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Times {
    /// How many values.
    pub count: u64,
    /// How many of them were over an hour and are kept as that.
    pub clamped: u64,
    /// The mean.
    pub mean_ns: u64,
    /// The largest.
    pub max_ns: u64,
    /// Usual quantiles.
    pub quantiles_ns: BTreeMap<String, u64>,
    /// Values from here on may be lower bounds: requests without an answer are in the histogram
    /// with the time that they had waited.
    pub censored_from_ns: Option<u64>,
    /// HdrHistogram V2, compressed, in base64.
    pub histogram: LatencyHistogram,
}

/// What the machine did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MachineRecord {
    /// Operating system and architecture.
    pub platform: String,
    /// Processors that the program could use.
    pub processors: u64,
    /// Processor time of each sending thread.
    pub thread_cpu_ns: Vec<u64>,
    /// Processor time of the whole process.
    pub process_cpu_ns: u64,
    /// Lag of a bare spin loop on the sending threads.
    pub floor: Times,
    /// By how much a sleeping thread overslept.
    pub hiccups: Times,
}

/// A bound and whether it holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SloRecord {
    /// As it was written.
    pub slo: String,
    /// It holds.
    pub holds: bool,
    /// What was measured.
    pub measured: String,
}

/// A doubt in words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DoubtRecord {
    /// What it alone makes of the run.
    pub verdict: String,
    /// What speaks against the run.
    pub doubt: String,
    /// What to do about it.
    pub remedy: String,
}
