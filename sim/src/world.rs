//! What there is in a simulated world, and what is left when its run is over.

use std::time::Duration;

use loadgen::Sample;
use loadgen::plan::Plan;

use crate::backend::{LogEntry, Settings};
use crate::fault::Fault;
use crate::trace::Fingerprint;

/// A world before its run.
#[derive(Clone, Debug)]
pub struct WorldSpec {
    /// All randomness comes from it.
    pub seed: u64,
    /// Time on the wire, one way, on every link; whole milliseconds.
    pub link_latency: Duration,
    /// The instances behind the sidecar.
    pub backends: Vec<BackendSpec>,
    /// The sidecar between the client and them.
    pub sidecar: SidecarSpec,
    /// What the client does.
    pub load: LoadSpec,
    /// What goes wrong.
    pub faults: Vec<Fault>,
}

/// An instance.
#[derive(Clone, Debug)]
pub struct BackendSpec {
    /// Its name, such as `web-3`; a host name, so lower-case letters, digits and hyphens.
    pub name: String,
    /// What it is like without faults.
    pub settings: Settings,
}

/// The sidecar under test. It has one cluster with all backends.
#[derive(Clone, Debug)]
pub struct SidecarSpec {
    /// How it chooses among them.
    pub balance: proxy::config::Balance,
    /// From a request's head to the end of its response.
    pub timeout: Duration,
}

/// The client.
#[derive(Clone, Debug)]
pub struct LoadSpec {
    /// When it sends.
    pub plan: Plan,
    /// An answer later than this after its planned instant is a failure, but is not cancelled.
    pub deadline: Option<Duration>,
    /// The client cancels a request this long after it sent it.
    pub timeout: Duration,
    /// Requests that it has in flight at most.
    pub max_connections: usize,
}

/// What a run left behind: the client's record and the backends' logs.
#[derive(Clone, Debug)]
pub struct RunResult {
    /// One for each planned request, in the order in which they ended.
    pub samples: Vec<Sample>,
    /// The log of each backend, in the order of [`WorldSpec::backends`]: complete entries in the
    /// order in which they ended, then those that were still being worked on.
    pub logs: Vec<Vec<LogEntry>>,
    /// Requests that the sidecar says it received.
    pub sidecar_requests: u64,
    /// Requests that the sidecar says it placed on each backend.
    pub sidecar_placed: Vec<u64>,
    /// Equal for equal worlds.
    pub fingerprint: Fingerprint,
}

/// Why a run did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum SimError {
    /// The engine failed, or a host of it did.
    #[error("the simulation failed: {0}")]
    Engine(String),
    /// A part of the world panicked.
    #[error("a simulated host panicked: {0}; this is a defect")]
    Panicked(String),
    /// What the world was asked to be is impossible.
    #[error("{0}")]
    Impossible(String),
}
