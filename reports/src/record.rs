//! The run record: everything one run left behind, as one versioned JSON document.
//!
//! A record belongs to one (scenario, world, system, variant, seed). Reports read records and
//! nothing else, so records of several machines and days can be copied into one folder, compared
//! and drawn. Everything in it is computed from the client's record and the backends' logs, but for
//! what the proxy said about itself: fields called `said`, and what it placed on each endpoint
//! ([`EndpointSeries::placed`], and the reactions made of it). That explains and compares, and no
//! verdict rests on it.
//!
//! `series` is what happened over time, `trace` what happened to single requests. `earlier` reads
//! records of the schema before this one, `client` those of the load generator alone, and `layout`
//! is how a record looks as text.

mod check;
mod client;
mod earlier;
mod layout;
mod series;
mod trace;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

pub use loadgen::histogram::CoarseHistogram;
use loadgen::{Accounting, LatencyHistogram};
use serde::{Deserialize, Serialize};

pub use self::check::{Check, Unit};
pub use self::series::{
    EndpointRecord, EndpointSeries, Interval, Quantiles, Reaction, ResourceSample, SaidInInterval,
    Served, Throughput,
};
pub use self::trace::{AttemptTrace, Chosen, RequestTrace, SaidAttempt, SeenAttempt};
use crate::naming::slug;

/// The schema that this build writes. It also reads `meshbench.run/1`, which lacks what has come
/// since, and the load generator's own.
pub const SCHEMA: &str = "meshbench.run/2";

/// The longest record that is read, in bytes: some hundred times what a run of a minute needs.
pub const LONGEST: u64 = 256 * 1024 * 1024;

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
    /// Which of the things compared this is, such as a strategy.
    pub variant: String,
    /// What distinguishes the variant, where the scenario spans a matrix: the setting, such as
    /// `route.retry.budget`, and its value. `load.rate` is the rate, for knee curves. Empty for a
    /// variant that is written out.
    pub settings: BTreeMap<String, String>,
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
    /// How soon the mesh turned away from each endpoint at which something went wrong, and back to
    /// it: its first fault each, by what sidecars say they sent there.
    pub reactions: Vec<Reaction>,
    /// Faults, and what the sidecars say of themselves (ejections, trials, returns, panic,
    /// circuits, pushes), on the run's clock, in order of time.
    pub events: Vec<Event>,
    /// Some requests, told: the slowest and some of those that failed, in order of their indexes.
    pub traces: Vec<RequestTrace>,
    /// Processor time and memory of the processes of a live run; empty for a simulated one.
    pub resources: Vec<ResourceSample>,
    /// What was expected of this run, and what was measured.
    pub checks: Vec<Check>,
    /// Doubts about this run, each with a remedy.
    pub warnings: Vec<Warning>,
    /// Hash over every event of a simulated run, as hexadecimal; equal for equal seeds.
    pub trace_hash: Option<String>,
}

impl RunRecord {
    /// Whether there was another endpoint to turn to when a fault began: the only one of a service
    /// gets all of its requests, whatever happens to it, and where all fail none is to be left.
    pub fn had_a_choice(&self, reaction: &Reaction) -> bool {
        let own = self.endpoints.iter().find(|known| known.name == reaction.target);
        let Some(own) = own else { return true };
        let failed = |name: &str| {
            let mut of_it = self.reactions.iter().filter(|other| other.target == name);
            of_it.any(|other| (other.from_ms..other.until_ms).contains(&reaction.from_ms))
        };
        self.endpoints.iter().any(|other| other.service == own.service && !failed(&other.name))
    }

    /// Reads a record from a file.
    ///
    /// # Errors
    /// When the file cannot be read, is not a record, or is one of a version that this build does
    /// not know; the error names the file.
    pub fn read(path: &Path) -> Result<Self, RecordError> {
        let failed = |source| RecordError::Io { path: path.to_owned(), source };
        let bytes = fs::metadata(path).map_err(failed)?.len();
        if bytes > LONGEST {
            return Err(RecordError::TooLong { path: path.to_owned(), bytes });
        }
        let text = fs::read_to_string(path).map_err(failed)?;
        Self::from_json(&text, path)
    }

    /// Parses a record; `origin` is what an error names. A record of schema 1 or of the load
    /// generator is converted: what it does not have is absent.
    ///
    /// # Errors
    /// When the text is not a record, or is one of a version that this build does not know.
    pub fn from_json(text: &str, origin: &Path) -> Result<Self, RecordError> {
        let malformed = |source| RecordError::Malformed { path: origin.to_owned(), source };
        // The version is read first: a record of another version should say that, and not name
        // the first field that differs.
        let header: Header = serde_json::from_str(text).map_err(malformed)?;
        if header.schema == earlier::SCHEMA {
            let record: earlier::RunRecord = serde_json::from_str(text).map_err(malformed)?;
            let record = Self::from(record);
            record.validate(origin)?;
            return Ok(record);
        }
        if header.schema == loadgen::record::SCHEMA {
            let record = serde_json::from_str(text).map_err(malformed)?;
            let record = client::run(record, origin);
            record.validate(origin)?;
            return Ok(record);
        }
        check_schema(&header.schema, origin)?;
        let record: Self = serde_json::from_str(text).map_err(malformed)?;
        record.validate(origin)?;
        Ok(record)
    }

    /// The record as JSON, as [`RunRecord::write`] writes it; the same record gives the same bytes.
    ///
    /// # Errors
    /// When a number in it is not finite.
    pub fn to_json(&self) -> Result<String, RecordError> {
        layout::to_json(self)
            .map_err(|source| RecordError::Unwritable { name: self.file_name(), source })
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
    /// When the schema is another one, the planned rate is not a usable number, or the series of an
    /// endpoint are not as long as the run.
    pub fn validate(&self, origin: &Path) -> Result<(), RecordError> {
        check_schema(&self.schema, origin)?;
        let rate = self.plan.rate_per_s;
        if !rate.is_finite() || rate < 0.0 {
            return Err(RecordError::Rate { path: origin.to_owned(), rate });
        }
        let intervals = self.intervals.len();
        match self.endpoints.iter().find(|endpoint| !endpoint.series.has_length(intervals)) {
            None => Ok(()),
            Some(endpoint) => Err(RecordError::Series {
                path: origin.to_owned(),
                endpoint: endpoint.name.clone(),
                intervals,
            }),
        }
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
        "{path}: the record has schema `{found}`, this build reads `{SCHEMA}` and \
         `meshbench.run/1`; read it with the meshbench that wrote it, or run the scenario again",
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
    /// The series of an endpoint do not match the run's intervals.
    #[error(
        "{path}: the series of {endpoint} are not of one value for each of the {intervals} \
         intervals; the record is damaged",
        path = path.display()
    )]
    Series {
        /// The file.
        path: PathBuf,
        /// The endpoint.
        endpoint: String,
        /// Intervals of the run.
        intervals: usize,
    },
    /// The file is too long to be a record.
    #[error(
        "{path}: {bytes} bytes are too long for a record, which has {LONGEST} at most",
        path = path.display()
    )]
    TooLong {
        /// The file.
        path: PathBuf,
        /// How long it is.
        bytes: u64,
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
    /// The texts of the files that it refers to, by the names that it gives them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<String, String>,
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
    /// The machine, for live runs: platform, processors, what else matters. Two machines' runs are
    /// told apart by it.
    #[serde(default)]
    pub machine: Option<String>,
    /// When a live run began, in seconds since 1970. A simulated run has no date.
    #[serde(default)]
    pub started_unix_s: Option<u64>,
}

/// The load that was planned.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanSummary {
    /// `constant`, `poisson`, `uniform` or `burst`; `closed` where callers wait for answers.
    pub arrivals: String,
    /// Mean arrivals per second; 0 for a closed loop, which has no rate of its own.
    pub rate_per_s: f64,
    /// How much of the beginning expectations do not look at unless they say so, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warm_up_ms: Option<u64>,
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
    /// What sort of doubt it is.
    #[serde(default)]
    pub kind: WarningKind,
    /// What is doubtful.
    pub doubt: String,
    /// What would mend it.
    pub remedy: String,
}

/// What sort of doubt a warning is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WarningKind {
    /// A record that could not be read, and is missing from the report.
    Unreadable,
    /// An identity that must hold does not: a defect of what measured.
    Unbalanced,
    /// A number that cannot be: not finite, or from nothing.
    NotANumber,
    /// The client could not do what was planned, so it measured itself too.
    ClientSaturated,
    /// The machine had other things to do.
    NoisyMachine,
    /// Times were longer than the histogram reaches.
    Clamped,
    /// An expectation was not judged.
    Unjudged,
    /// Variants did not meet the same requests, or not by the same text or program.
    Unpaired,
    /// Too few seeds to know how far another would differ.
    FewSeeds,
    /// The offered load never exceeded what the service can do.
    KneeNotReached,
    /// The record is of an earlier schema and lacks what has come since.
    EarlierSchema,
    /// Anything else.
    #[default]
    Other,
}
