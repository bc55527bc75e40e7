//! Agreement with theory: the simulator against values that nobody here made up.
//!
//! An [`Experiment`] is a scenario that queueing theory can solve, in the language of scenario files
//! and run as any other: through the load generator, the real sidecar, the network and the
//! backends. Each [`Claim`] about it has a value from a closed form or from a Markov chain that
//! shares nothing with the simulation. What is claimed and what was measured agree when the interval
//! over the seeds reaches the claimed value.
//!
//! # What a simulated path adds
//! Theory knows servers and queues; a request also crosses four links, on each of which it waits
//! for the next millisecond. The first experiment measures what that adds to a service time, and it
//! is taken out of the others. Servers and queues keep exact time, so nothing else is added. What is
//! left, that a path of 5 ms is not always exactly that, is [`RESOLUTION`].

pub mod chain;
pub mod closed_forms;
mod experiments;
mod observe;
mod runs;

use std::path::Path;
use std::time::Duration;

use proxy::config::Balance;
use reports::verdict::Interval;

pub use experiments::experiments;
pub use observe::{Observed, observe};
pub use runs::{Stopped, validate};

use crate::scenario::Scenario;

/// What two means may differ by for no reason but whole milliseconds, in seconds.
pub const RESOLUTION: f64 = 0.000_5;

/// A scenario with known answers.
#[derive(Clone, Debug)]
pub struct Experiment {
    /// Its name, as in `M/M/1`.
    pub name: String,
    /// The scenario.
    pub scenario: Scenario,
    /// Requests planned before this are left out: theory is about the steady state.
    pub warm_up: Duration,
    /// The mean of the service time as it is served, in seconds: the unit of all claims.
    pub service_time: f64,
    /// What is claimed about it.
    pub claims: Vec<Claim>,
    /// A strategy instead of the scenario's, to see whether a wrong one is noticed.
    pub balance: Option<Balance>,
    /// Latency is counted from the send instead of the plan, to see whether that is noticed.
    pub counts_from_the_send: bool,
}

/// Something that theory says of an experiment.
#[derive(Clone, Debug)]
pub struct Claim {
    /// About what.
    pub about: Statistic,
    /// The formula, or where the value is from.
    pub source: String,
    /// What it is.
    pub says: Says,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Statistic {
    /// The mean response time from the planned instant, less the path, in service times.
    Mean,
    /// That quantile of it.
    Quantile(f64),
    /// Requests in the backends on average, by their logs, over arrival rate times mean stay.
    Little,
    /// What the path adds to a service time, in milliseconds.
    Path,
}

/// What theory says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Says {
    /// This value.
    Equal(f64),
    /// A value that is itself known as an interval.
    Within(Interval),
    /// No less than this.
    AtLeast(f64),
    /// Between these.
    Between(f64, f64),
}

/// A claim and what came of it.
#[derive(Clone, Debug)]
pub struct Row {
    /// The experiment's name.
    pub experiment: String,
    /// The claim.
    pub claim: Claim,
    /// Over the seeds; `None` when there was nothing to measure.
    pub simulated: Option<Interval>,
    /// Whether both agree.
    pub agrees: bool,
}

impl Experiment {
    /// Reads a scenario that has one variant.
    ///
    /// # Panics
    /// When the text is no scenario; all of them are in this crate, and tests read each.
    fn new(name: &str, text: &str, warm_up: Duration, service_time: f64) -> Self {
        let scenario = Scenario::parse(Path::new("theory.toml"), text);
        let scenario = scenario.unwrap_or_else(|error| panic!("{name}: {error}"));
        Self {
            name: name.to_owned(),
            scenario,
            warm_up,
            service_time,
            claims: Vec::new(),
            balance: None,
            counts_from_the_send: false,
        }
    }

    fn claims(mut self, about: Statistic, source: impl Into<String>, says: Says) -> Self {
        self.claims.push(Claim { about, source: source.into(), says });
        self
    }

    /// The same with a plan of another length.
    ///
    /// # Panics
    /// When that is no whole number of milliseconds, or none at all.
    #[must_use]
    pub fn lasting(&self, duration: Duration) -> Self {
        let text = &self.scenario.text;
        let rest = text.lines().filter(|line| !line.starts_with("duration = "));
        let text: Vec<&str> = rest.collect();
        let text = format!("duration = \"{}ms\"\n{}", duration.as_millis(), text.join("\n"));
        let renewed = Self::new(&self.name, &text, self.warm_up, self.service_time);
        Self { scenario: renewed.scenario, ..self.clone() }
    }

    /// Judges all claims by what was observed with each seed. `path` is what the path adds, in
    /// seconds, and `confidence` that of each interval.
    pub fn judge(&self, observed: &[Observed], path: f64, confidence: f64) -> Vec<Row> {
        let row = |claim: &Claim| {
            let value = |seed: &Observed| seed.value(claim.about, self.service_time, path);
            let values: Option<Vec<f64>> = observed.iter().map(value).collect();
            let simulated = values.and_then(|values| Interval::of_mean(&values, confidence));
            let slack = match claim.about {
                Statistic::Mean | Statistic::Quantile(_) => RESOLUTION / self.service_time,
                Statistic::Little | Statistic::Path => 0.0,
            };
            Row {
                experiment: self.name.clone(),
                claim: claim.clone(),
                simulated,
                agrees: simulated.is_some_and(|simulated| claim.says.agrees(simulated, slack)),
            }
        };
        self.claims.iter().map(row).collect()
    }
}

impl Says {
    fn agrees(self, simulated: Interval, slack: f64) -> bool {
        let (low, high) = match self {
            Says::Equal(value) => (value, value),
            Says::Within(interval) => (interval.low, interval.high),
            Says::AtLeast(value) => (value, f64::INFINITY),
            // A range is no claim about where in it the value is, so all of the interval is in it.
            Says::Between(low, high) => return low <= simulated.low && simulated.high <= high,
        };
        simulated.low <= high + slack && simulated.high >= low - slack
    }
}
