//! What is kept of a run: one document, versioned, from which everything else is made.
//!
//! Reports, comparisons and merged runs read this and nothing else, so that what one machine wrote
//! another can read years later. Its schema is `loadgen/schema/loadgen-2.json`, made from these
//! types and checked against them.

mod document;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::doubt::{self, Doubt, Evidence, Verdict};
use crate::histogram::LatencyHistogram;
use crate::recorder::{Part, Recorder};
use crate::series::{Series, SeriesError};
use crate::slo::Slo;
pub use document::{
    Asked, Connections, DoubtRecord, InFlight, MachineRecord, Portion, Rate, Record, SloRecord,
    Times,
};

/// The version of this document; another number means that readers have to be adapted.
pub const SCHEMA: &str = "meshbench.loadgen/2";

const QUANTILES: [(&str, f64); 8] = [
    ("p50", 0.5),
    ("p75", 0.75),
    ("p90", 0.9),
    ("p95", 0.95),
    ("p99", 0.99),
    ("p99.9", 0.999),
    ("p99.99", 0.9999),
    ("p99.999", 0.99999),
];

impl Times {
    /// The numbers of a histogram whose values are lower bounds from `censored_from` on.
    pub fn new(histogram: &LatencyHistogram, censored_from: Option<Duration>) -> Times {
        let quantile = |(name, q): (&str, f64)| (name.to_owned(), nanos(histogram.quantile(q)));
        Times {
            count: histogram.count(),
            clamped: histogram.clamped(),
            mean_ns: nanos(histogram.mean()),
            max_ns: nanos(histogram.max()),
            quantiles_ns: QUANTILES.map(quantile).into(),
            censored_from_ns: censored_from.map(nanos),
            histogram: histogram.clone(),
        }
    }

    /// Adds the values of another record; exact.
    fn merge(&mut self, other: &Times) {
        let mut histogram = self.histogram.clone();
        histogram.merge(&other.histogram);
        let clamped = self.clamped + other.clamped;
        let from = self.censored_from_ns.into_iter().chain(other.censored_from_ns).min();
        *self = Times::new(&histogram, from.map(Duration::from_nanos));
        // Not part of the histogram's encoding.
        self.clamped = clamped;
    }
}

impl Portion {
    fn new(part: &Part) -> Portion {
        Portion {
            accounting: part.accounting,
            response: Times::new(&part.response, None),
            service: Times::new(&part.service, None),
        }
    }

    fn merge(&mut self, other: &Portion) {
        self.accounting.merge(&other.accounting);
        self.response.merge(&other.response);
        self.service.merge(&other.service);
    }
}

impl Record {
    /// The record of a run that has just ended.
    pub fn new(asked: Asked, evidence: &Evidence<'_>) -> Record {
        let Evidence { plan, recorder, end, machine, .. } = *evidence;
        let doubts = Doubt::of(evidence);
        let mut targets: BTreeMap<String, Portion> = BTreeMap::new();
        for (name, part) in asked.targets.iter().zip(&recorder.targets) {
            // The same request may be there twice, with other headers.
            let portion = BTreeMap::from([(name.clone(), Portion::new(part))]);
            merge_maps(&mut targets, &portion, Portion::merge);
        }
        Record {
            schema: SCHEMA.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            runs: 1,
            accounting: recorder.accounting,
            warmup: recorder.warmup,
            rate: Rate {
                intended_per_s: doubt::intended_rate(plan, recorder),
                achieved_per_s: doubt::achieved_rate(plan, recorder, end),
                answered_per_s: doubt::answered_rate(plan, recorder, end),
            },
            elapsed_ns: nanos(end.elapsed),
            interrupted: end.interrupted,
            in_flight: InFlight {
                peak: end.peak_in_flight as u64,
                mean: end.mean_in_flight,
                observed_mean: end.observed_in_flight,
            },
            connections: Connections {
                peak: end.peak_connections as u64,
                opened: recorder.connect.count(),
                reused: recorder.reused,
                retried: recorder.retried,
            },
            statuses: recorder.statuses().iter().map(|(s, p)| (*s, Portion::new(p))).collect(),
            targets,
            backends: recorder.backends().map(|(n, p)| (n.to_owned(), Portion::new(p))).collect(),
            failures: recorder.failures.clone(),
            times: times(recorder),
            series: recorder.series.clone(),
            machine: MachineRecord {
                platform: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
                processors: std::thread::available_parallelism().map_or(0, |n| n.get() as u64),
                thread_cpu_ns: machine.thread_cpu.iter().copied().map(nanos).collect(),
                process_cpu_ns: nanos(machine.process_cpu),
                floor: Times::new(&machine.floor, None),
                hiccups: Times::new(&machine.hiccups, None),
            },
            watched: machine.watched.clone(),
            slos: Vec::new(),
            verdict: doubt::verdict(&doubts).name().to_owned(),
            doubts: doubts.iter().map(DoubtRecord::new).collect(),
            asked,
        }
    }

    /// Holds the run against bounds and keeps what came of it.
    pub fn judge(&mut self, slos: &[Slo]) {
        let judged = slos.iter().map(|slo| slo.judge(self)).map(|judgement| SloRecord {
            slo: judgement.slo,
            holds: judgement.holds,
            measured: judgement.measured,
        });
        self.slos = judged.collect();
    }

    /// Adds a run that another machine made at the same time: counts and histograms exactly,
    /// rates as sums. The bounds have to be judged again.
    pub fn merge(&mut self, other: &Record) {
        self.runs += other.runs;
        self.accounting.merge(&other.accounting);
        self.warmup.merge(&other.warmup);
        self.rate.intended_per_s += other.rate.intended_per_s;
        self.rate.achieved_per_s += other.rate.achieved_per_s;
        self.rate.answered_per_s += other.rate.answered_per_s;
        self.elapsed_ns = self.elapsed_ns.max(other.elapsed_ns);
        self.interrupted |= other.interrupted;
        self.in_flight.peak += other.in_flight.peak;
        self.in_flight.mean += other.in_flight.mean;
        self.in_flight.observed_mean += other.in_flight.observed_mean;
        self.connections.peak += other.connections.peak;
        self.connections.opened += other.connections.opened;
        self.connections.reused += other.connections.reused;
        self.connections.retried += other.connections.retried;
        merge_maps(&mut self.statuses, &other.statuses, Portion::merge);
        merge_maps(&mut self.targets, &other.targets, Portion::merge);
        merge_maps(&mut self.backends, &other.backends, Portion::merge);
        merge_maps(&mut self.failures, &other.failures, |mine, theirs| *mine += theirs);
        merge_maps(&mut self.times, &other.times, Times::merge);
        self.machine.thread_cpu_ns.extend_from_slice(&other.machine.thread_cpu_ns);
        self.machine.process_cpu_ns += other.machine.process_cpu_ns;
        self.machine.floor.merge(&other.machine.floor);
        self.machine.hiccups.merge(&other.machine.hiccups);
        self.series = match (self.series.take(), &other.series) {
            (Some(mut mine), Some(theirs)) => mine.merge(theirs).then_some(mine),
            _ => None,
        };
        self.watched.extend_from_slice(&other.watched);
        self.slos.clear();
        let mine = verdict_named(&self.verdict).max(verdict_named(&other.verdict));
        self.verdict = mine.name().to_owned();
        for doubt in &other.doubts {
            if !self.doubts.contains(doubt) {
                self.doubts.push(doubt.clone());
            }
        }
    }

    /// What the run is worth.
    pub fn verdict(&self) -> Verdict {
        verdict_named(&self.verdict)
    }

    /// Reads a document.
    ///
    /// # Errors
    /// When it is none, is of another version, or its accounting or that of its series does not
    /// balance; says where.
    pub fn from_json(text: &str) -> Result<Record, RecordError> {
        let value: serde_json::Value = serde_json::from_str(text).map_err(RecordError::Json)?;
        let schema = value.get("schema").and_then(|schema| schema.as_str());
        if schema != Some(SCHEMA) {
            let found = schema.unwrap_or("none").to_owned();
            return Err(RecordError::Schema { found });
        }
        let mut record: Record = serde_json::from_value(value).map_err(RecordError::Json)?;
        record.accounting.verify().map_err(RecordError::Imbalance)?;
        record.series.iter().try_for_each(Series::verify).map_err(RecordError::Series)?;
        record.schema = SCHEMA.to_owned();
        Ok(record)
    }
}

impl DoubtRecord {
    fn new(doubt: &Doubt) -> DoubtRecord {
        DoubtRecord {
            verdict: doubt.verdict().name().to_owned(),
            doubt: doubt.to_string(),
            remedy: doubt.remedy().to_owned(),
        }
    }
}

/// Why text is no record.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Not the document.
    #[error("not a record of loadgen: {0}")]
    Json(#[source] serde_json::Error),
    /// Of another version.
    #[error("schema {found} where {SCHEMA} is wanted; write it with --format json")]
    Schema {
        /// What it says.
        found: String,
    },
    /// It was changed, or written by a defect.
    #[error("{0}")]
    Imbalance(#[source] crate::accounting::Imbalance),
    /// The same of its intervals.
    #[error("{0}")]
    Series(#[source] SeriesError),
}

/// An unknown word is the gravest: nobody vouches for it.
fn verdict_named(name: &str) -> Verdict {
    [Verdict::Valid, Verdict::Suspect]
        .into_iter()
        .find(|v| v.name() == name)
        .unwrap_or(Verdict::Void)
}

fn merge_maps<K: Clone + Ord, V: Clone>(
    mine: &mut BTreeMap<K, V>,
    theirs: &BTreeMap<K, V>,
    merge: impl Fn(&mut V, &V),
) {
    for (key, value) in theirs {
        match mine.get_mut(key) {
            Some(known) => merge(known, value),
            None => {
                mine.insert(key.clone(), value.clone());
            }
        }
    }
}

fn times(recorder: &Recorder) -> BTreeMap<String, Times> {
    let r = recorder;
    [
        ("response", Times::new(&r.response(), r.censored_from)),
        ("response_ok", Times::new(&r.response_ok(), None)),
        ("service", Times::new(&r.service(), r.service_censored_from)),
        ("service_ok", Times::new(&r.service_ok(), None)),
        ("send_lag", Times::new(&r.send_lag, None)),
        ("connection_wait", Times::new(&r.connection_wait, None)),
        ("connect", Times::new(&r.connect, None)),
        ("first_byte", Times::new(&r.first_byte(), None)),
    ]
    .map(|(name, times)| (name.to_owned(), times))
    .into()
}

/// Whole nanoseconds; over five centuries are as many as can be written.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
pub(crate) mod tests;
