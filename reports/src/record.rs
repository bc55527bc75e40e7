//! The run record: everything one run left behind, as one versioned JSON document.
//!
//! A record belongs to one (scenario, world, system, variant, seed). Reports read records and
//! nothing else, so records of several machines and days can be copied into one folder, compared
//! and drawn. Everything in it is computed from the client's record and the backends' logs; what
//! the proxy said about itself appears only as something that was checked.

mod check;

use std::fs;
use std::path::{Path, PathBuf};

use loadgen::{Accounting, LatencyHistogram};
use serde::{Deserialize, Serialize};

pub use check::{Check, Unit};

use crate::naming::slug;

/// The schema that this build writes, and the only one that it reads.
pub const SCHEMA: &str = "meshbench.run/1";

/// One run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunRecord {
    /// Always [`SCHEMA`].
    pub schema: String,
    /// What was asked.
    pub scenario: ScenarioText,
    /// Where it ran.
    pub world: World,
    /// What was under test, such as `meshbench-sidecar 0.1.0`.
    pub system: String,
    /// Which of the things compared this is; for the first scenarios, the strategy.
    pub variant: String,
    /// All randomness of the run comes from it.
    pub seed: u64,
    /// The command that repeats this one run.
    pub replay: String,
    /// What it ran on and in.
    pub environment: Environment,
    /// What the client set out to do.
    pub plan: PlanSummary,
    /// Where every planned request went.
    pub accounting: Accounting,
    /// How long requests took, by the client's record.
    pub latency: Latencies,
    /// What happened in each interval, by the client's record; a request belongs to the interval
    /// of its planned instant.
    pub intervals: Vec<Interval>,
    /// What each backend saw, by its own log.
    pub endpoints: Vec<EndpointRecord>,
    /// Faults, and later ejections, retries and pushes, on the run's clock.
    pub events: Vec<Event>,
    /// What was expected of this run, and what was measured.
    pub checks: Vec<Check>,
    /// Doubts about this run, each with a remedy.
    pub warnings: Vec<Warning>,
    /// Hash over every event of a simulated run, as hexadecimal; equal for equal seeds.
    pub trace_hash: Option<String>,
}

impl RunRecord {
    /// Reads a record from a file.
    ///
    /// # Errors
    /// When the file cannot be read, is not a record, or is one of another schema version; the
    /// error names the file.
    pub fn read(path: &Path) -> Result<Self, RecordError> {
        let failed = |source| RecordError::Io { path: path.to_owned(), source };
        let text = fs::read_to_string(path).map_err(failed)?;
        Self::from_json(&text, path)
    }

    /// Parses a record; `origin` is what an error names.
    ///
    /// # Errors
    /// When the text is not a record, or is one of another schema version.
    pub fn from_json(text: &str, origin: &Path) -> Result<Self, RecordError> {
        let malformed = |source| RecordError::Malformed { path: origin.to_owned(), source };
        // The version is read first: a record of another version should say that, and not name
        // the first field that differs.
        let header: Header = serde_json::from_str(text).map_err(malformed)?;
        check_schema(&header.schema, origin)?;
        serde_json::from_str(text).map_err(malformed)
    }

    /// The record as JSON, as [`RunRecord::write`] writes it; the same record gives the same bytes.
    ///
    /// # Errors
    /// When a number in it is not finite.
    pub fn to_json(&self) -> Result<String, RecordError> {
        let mut text = serde_json::to_string_pretty(self)
            .map_err(|source| RecordError::Unwritable { name: self.file_name(), source })?;
        text.push('\n');
        Ok(text)
    }

    /// Writes the record to a file.
    ///
    /// # Errors
    /// When the file cannot be written, or the record is not of this build's schema.
    pub fn write(&self, path: &Path) -> Result<(), RecordError> {
        self.validate(path)?;
        fs::write(path, self.to_json()?)
            .map_err(|source| RecordError::Io { path: path.to_owned(), source })
    }

    /// Refuses a record that this build cannot interpret; `origin` is what the error names.
    ///
    /// # Errors
    /// When the schema is another one, or the planned rate or length is not a usable number.
    pub fn validate(&self, origin: &Path) -> Result<(), RecordError> {
        check_schema(&self.schema, origin)?;
        let rate = self.plan.rate_per_s;
        if !rate.is_finite() || rate < 0.0 {
            return Err(RecordError::Rate { path: origin.to_owned(), rate });
        }
        Ok(())
    }

    /// The name that its file has beside a page: `<scenario>--<variant>--seed-<n>.json`, with
    /// whatever a file name should not contain replaced by `_`.
    pub fn file_name(&self) -> String {
        let (scenario, variant) = (slug(&self.scenario.name), slug(&self.variant));
        format!("{scenario}--{variant}--seed-{}.json", self.seed)
    }
}

/// The part of a record that every version has.
#[derive(Deserialize)]
struct Header {
    schema: String,
}

fn check_schema(schema: &str, origin: &Path) -> Result<(), RecordError> {
    if schema == SCHEMA {
        return Ok(());
    }
    Err(RecordError::Schema { path: origin.to_owned(), found: schema.to_owned() })
}

/// Why a record could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The file system said no.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the file system said.
        source: std::io::Error,
    },
    /// The text is not a record.
    #[error("{path}: not a run record: {source}", path = path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong, with line and column.
        source: serde_json::Error,
    },
    /// The record has a version that this build does not read.
    #[error(
        "{path}: the record has schema `{found}`, this build reads `{SCHEMA}`; run the scenario \
         again, or read the record with the meshbench that wrote it",
        path = path.display()
    )]
    Schema {
        /// The file.
        path: PathBuf,
        /// The version found.
        found: String,
    },
    /// The plan has a rate that is no rate.
    #[error("{path}: the planned rate is {rate}, which is not a rate", path = path.display())]
    Rate {
        /// The file.
        path: PathBuf,
        /// The rate found.
        rate: f64,
    },
    /// The record has no JSON form.
    #[error("{name}: cannot be written as JSON: {source}")]
    Unwritable {
        /// The name its file would have.
        name: String,
        /// What is wrong.
        source: serde_json::Error,
    },
}

/// The scenario as its author wrote it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScenarioText {
    /// The file's stem.
    pub name: String,
    /// One line.
    pub title: String,
    /// What a correct mesh does here, and why; paragraphs are separated by an empty line.
    pub about: String,
    /// The whole file.
    pub text: String,
}

/// Where a run took place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum World {
    /// A simulated network on a simulated clock.
    Sim,
    /// Processes on real sockets.
    Live,
}

/// What produced the record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Environment {
    /// The version of meshbench.
    pub meshbench: String,
    /// The simulation engine or the operating system, with its version.
    pub engine: String,
}

/// The load that was planned.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanSummary {
    /// `constant` or `poisson`.
    pub arrivals: String,
    /// Mean arrivals per second.
    pub rate_per_s: f64,
    /// Length of the plan, in milliseconds.
    pub duration_ms: u64,
    /// An answer later than this after its planned instant is a failure, but is not cancelled.
    pub deadline_ms: Option<u64>,
    /// The caller cancels a request this long after it sent it.
    pub timeout_ms: u64,
}

/// Histograms of time, one value a request.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Latencies {
    /// From the planned instant to the end, for every planned request. Those without an answer
    /// count with the time after which they were given up, so it is a lower bound for them.
    pub response: LatencyHistogram,
    /// The shortest of those lower bounds, in microseconds; a percentile at or above it may be one
    /// itself. `None` when every request was answered or failed.
    pub censored_from_us: Option<u64>,
    /// As `response`, for the requests that were answered well and in time.
    pub response_ok: LatencyHistogram,
    /// From the send to the end, for every request sent.
    pub service: LatencyHistogram,
    /// From the planned instant to the send, for every request sent.
    pub send_lag: LatencyHistogram,
}

/// One interval of the run, overall, by the client's record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
    /// All that it saw.
    pub total: Served,
    /// From a request's arrival at the backend to its end there, for the completed ones.
    pub latency: LatencyHistogram,
    /// The same per interval; the intervals are those of [`RunRecord::intervals`] by position, and
    /// a request belongs to the interval in which it arrived.
    pub intervals: Vec<Served>,
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

/// Something that happened, for the time axes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// When, in milliseconds from the start of the run.
    pub at_ms: u64,
    /// When it was over, for what lasts.
    pub until_ms: Option<u64>,
    /// What sort of thing it is: `fault`, or what a sidecar says of itself, such as `ejected`.
    pub kind: String,
    /// What it happened to, such as `web-0`.
    pub target: String,
    /// What happened, in a few words, such as `slow: constant 2s`.
    pub detail: String,
}

/// A doubt about a run, as data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Warning {
    /// What is doubtful.
    pub doubt: String,
    /// What would mend it.
    pub remedy: String,
}
