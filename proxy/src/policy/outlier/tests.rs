//! The gate, scripted.

use std::time::{Duration, Instant};

use std::num::NonZeroU32;

use rand::{Rng, RngExt as _};

use super::*;
use crate::rng::{StreamRng, stream};

mod detection;
mod properties;
mod return_;

const A: EndpointId = EndpointId(0);
const B: EndpointId = EndpointId(1);

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

const OK: Outcome = Outcome::Success { latency: Duration::from_millis(20) };

#[allow(clippy::disallowed_methods, reason = "an arbitrary origin for a scripted clock")]
fn origin() -> Instant {
    Instant::now()
}

/// A cluster's gates with a clock to turn.
struct Cluster {
    outlier: Outlier,
    now: Instant,
    rng: StreamRng,
}

impl Cluster {
    fn new(endpoints: usize, options: OutlierOptions) -> Self {
        let outlier = Outlier::new(endpoints, options);
        Self { outlier, now: origin(), rng: stream(1, "test") }
    }

    /// Without jitter, so that times can be written down.
    fn exact(endpoints: usize) -> Self {
        Self::new(endpoints, OutlierOptions { jitter: 0.0, ..OutlierOptions::default() })
    }

    /// A request placed and answered now.
    fn one(&mut self, endpoint: EndpointId, outcome: Outcome) -> Option<Kind> {
        let epoch = self.outlier.epoch(endpoint);
        self.record(endpoint, epoch, outcome)
    }

    fn record(&mut self, endpoint: EndpointId, epoch: Epoch, outcome: Outcome) -> Option<Kind> {
        let transition = self.outlier.record(endpoint, epoch, outcome, self.now, &mut self.rng)?;
        assert_eq!(transition.endpoint, endpoint);
        Some(transition.kind)
    }

    /// So many of them; the last one's transition.
    fn many(&mut self, n: usize, endpoint: EndpointId, outcome: Outcome) -> Option<Kind> {
        (0..n).map(|_| self.one(endpoint, outcome)).last().flatten()
    }

    fn sweep(&mut self) -> Vec<Transition> {
        let mut out = Vec::new();
        self.outlier.sweep(self.now, &mut self.rng, &mut out);
        out
    }

    fn probe(&mut self) -> Option<(EndpointId, Epoch)> {
        self.outlier.take_probe(self.now, |_| true)
    }

    fn check(&mut self, endpoint: EndpointId, healthy: bool) -> Option<Kind> {
        let transition = self.outlier.health_checked(endpoint, healthy, self.now, &mut self.rng)?;
        assert_eq!(transition.endpoint, endpoint);
        Some(transition.kind)
    }

    /// Goes on to when the endpoint may be probed, and probes it.
    fn probe_with(&mut self, outcome: Outcome) -> Option<Kind> {
        let waits = (0..self.outlier.gates.len()).map(EndpointId);
        let until = waits.filter_map(|endpoint| match self.outlier.state(endpoint) {
            GateState::Ejected { until, .. } => Some(until),
            _ => None,
        });
        self.now = self.now.max(until.min()?);
        let (endpoint, epoch) = self.probe()?;
        self.record(endpoint, epoch, outcome)
    }

    /// Goes on under other rules; what that ends.
    fn follow(&mut self, options: OutlierOptions, checks: bool) -> Vec<Transition> {
        let mut next = Outlier::new(self.outlier.gates.len(), options);
        let mut out = Vec::new();
        next.inherit(&self.outlier, checks, self.now, &mut out);
        self.outlier = next;
        out
    }

    fn is_open(&self, endpoint: EndpointId) -> bool {
        self.outlier.state(endpoint).is_open()
    }
}

fn is_ejected_for(kind: Option<Kind>, reason: Reason) -> bool {
    matches!(kind, Some(Kind::Ejected { reason: it, .. }) if it == reason)
}

/// Lets a second pass in which each endpoint gets `per_second` requests whose outcomes `outcome`
/// draws; then sweeps.
fn second(
    cluster: &mut Cluster,
    per_second: u32,
    mut outcome: impl FnMut(EndpointId, &mut dyn Rng) -> Outcome,
) -> Vec<Transition> {
    let mut transitions = Vec::new();
    for _ in 0..per_second {
        for endpoint in (0..cluster.outlier.gates.len()).map(EndpointId) {
            if cluster.is_open(endpoint) {
                let outcome = outcome(endpoint, &mut cluster.rng);
                let kind = cluster.one(endpoint, outcome);
                transitions.extend(kind.map(|kind| Transition { endpoint, kind }));
            }
        }
        cluster.now += secs(1) / per_second;
    }
    // Divisions round down.
    cluster.now += ms(1);
    transitions.extend(cluster.sweep());
    transitions
}

fn fails(rng: &mut dyn Rng, probability: f64) -> Outcome {
    if rng.random::<f64>() < probability { Outcome::ServerError } else { OK }
}

/// Each way to be wrong, and what is said about it.
#[test]
fn the_configuration_is_checked() {
    let read = |text: &str| toml::from_str::<OutlierOptions>(text);
    assert_eq!(read(""), Ok(OutlierOptions::default()));
    let some = read(
        "base_ejection = \"1s\"\nconsecutive_errors = { threshold = 3, act = \"observe\" }\n\
         latency.factor = 3\nmax_ejection_percent = 34",
    )
    .unwrap();
    assert_eq!(some.base_ejection, secs(1));
    assert_eq!(some.consecutive_errors.act, Act::Observe);
    assert_eq!((some.consecutive_errors.threshold.get(), some.cap(3)), (3, 1));
    let errors: Vec<_> = [
        "interval = \"0s\"",
        "jitter = 1.5",
        "max_ejection_percent = 0",
        "max_ejection_percent = 101",
        "consecutive_errors = { threshold = 0 }",
        "consecutive_errors = { act = \"kill\" }",
        "latency.factor = 0.9",
        "success_rate = { min_gap = 0 }",
        "succes_rate = {}",
    ]
    .into_iter()
    .map(|text| read(text).unwrap_err().message().to_owned())
    .collect();
    insta::assert_snapshot!(errors.join("\n"));
}
