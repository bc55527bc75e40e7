//! What there is in a simulated world, and what is left when its run is over.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::time::Duration;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, StatusCode};
use loadgen::Sample;
use loadgen::plan::Plan;
use proxy::config::{Balance, ClusterConfig, ListenerConfig, RouteConfig};

use crate::backend::{LogEntry, Settings};
use crate::fault::Fault;
use crate::mix::Mix;
use crate::push::Push;
use crate::trace::Fingerprint;

/// A world before its run.
#[derive(Clone, Debug)]
pub struct WorldSpec {
    /// All randomness comes from it.
    pub seed: u64,
    /// Time on the wire, one way, on every link; whole milliseconds.
    pub link_latency: Duration,
    /// The services; the client calls the first of them.
    pub services: Vec<ServiceSpec>,
    /// What every sidecar is like: the client's, and that of each instance that calls.
    pub sidecar: SidecarSpec,
    /// What the client does.
    pub load: LoadSpec,
    /// What goes wrong.
    pub faults: Vec<Fault>,
    /// What sidecars are told while they run; at the same instant, in this order.
    pub pushes: Vec<Push>,
}

impl WorldSpec {
    /// A world in which nothing goes wrong: seed 1, links of 1 ms.
    pub fn new(services: Vec<ServiceSpec>, sidecar: SidecarSpec, load: LoadSpec) -> Self {
        let link_latency = Duration::from_millis(1);
        Self {
            seed: 1,
            link_latency,
            services,
            sidecar,
            load,
            faults: Vec::new(),
            pushes: Vec::new(),
        }
    }

    /// All instances: those of the first service, then those of the second, ….
    pub fn backends(&self) -> impl Iterator<Item = &BackendSpec> {
        self.services.iter().flat_map(|service| &service.instances)
    }

    /// For each instance in the order of [`WorldSpec::backends`], the place of its service.
    pub fn services_of_backends(&self) -> impl Iterator<Item = usize> {
        let services = self.services.iter().enumerate();
        services.flat_map(|(place, service)| std::iter::repeat_n(place, service.instances.len()))
    }
}

/// Instances that can serve the same requests.
#[derive(Clone, Debug)]
pub struct ServiceSpec {
    /// Its name: that of its cluster in the sidecars that call it.
    pub name: String,
    /// Its instances.
    pub instances: Vec<BackendSpec>,
    /// What an instance asks of other services for each request, through its own sidecar: group
    /// after group, those of a group at once.
    pub calls: Vec<Vec<CallSpec>>,
}

impl ServiceSpec {
    /// The places of the services that it calls, each once, in order.
    pub fn called(&self) -> BTreeSet<usize> {
        self.calls.iter().flatten().map(|call| call.service).collect()
    }
}

/// A call of another service.
#[derive(Clone, Debug)]
pub struct CallSpec {
    /// The place of the service in [`WorldSpec::services`]: later than the caller's, so that no
    /// request runs in a circle.
    pub service: usize,
    /// How often it is made, one after the other.
    pub times: NonZeroU32,
    /// Its method; that of the request it is made for if `None`.
    pub method: Option<Method>,
    /// What is asked for.
    pub path: PathAndQuery,
    /// Fields that it carries, in place of what is handed on under their names.
    pub headers: HeaderMap,
    /// The probability that it is made, each time; 1 for always.
    pub share: f64,
}

impl CallSpec {
    /// `GET /` or the like, once for each request.
    pub fn once(service: usize) -> Self {
        let (times, path) = (NonZeroU32::MIN, PathAndQuery::from_static("/"));
        Self { service, times, method: None, path, headers: HeaderMap::new(), share: 1.0 }
    }
}

/// An instance.
#[derive(Clone, Debug)]
pub struct BackendSpec {
    /// Its name, such as `web-3`; a host name, so lower-case letters, digits and hyphens.
    pub name: String,
    /// What it is like without faults.
    pub settings: Settings,
    /// What sidecars are told about it beside its address.
    pub endpoint: EndpointSpec,
    /// Whether sidecars know of it from the start; else from a [`crate::PushKind::List`] on.
    pub listed: bool,
    /// How its capacity changes in time, which no sidecar is told.
    pub capacity: Vec<CapacityStep>,
    /// What it answers if all goes well; a line with its name if `None`.
    pub body: Option<Bytes>,
}

impl BackendSpec {
    /// An instance of which there is nothing special to say.
    pub fn new(name: impl Into<String>, settings: Settings) -> Self {
        let (endpoint, capacity) = (EndpointSpec::default(), Vec::new());
        Self { name: name.into(), settings, endpoint, listed: true, capacity, body: None }
    }
}

/// A change of the speed at which an instance works.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CapacityStep {
    /// When, from the start of the run.
    pub at: Duration,
    /// The capacity from then on: [`Settings::capacity`].
    pub capacity: f64,
}

/// What sidecars are told about an instance beside its address; what is absent is not said.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EndpointSpec {
    /// Its part of the requests, against the others'.
    pub weight: Option<NonZeroU32>,
    /// Where it stands.
    pub zone: Option<String>,
    /// 0 is used first.
    pub priority: Option<u32>,
    /// What subsets are chosen by.
    pub labels: BTreeMap<String, String>,
}

/// The sidecar under test. It has one cluster for each service that is called through it.
#[derive(Clone, Debug)]
pub struct SidecarSpec {
    /// The cluster, but for its name and its endpoints.
    pub cluster: ClusterConfig,
    /// The route to it, but for the cluster's name.
    pub route: RouteConfig,
    /// The listener, but for its name and its address. A push does not change it.
    pub listener: ListenerConfig,
}

impl SidecarSpec {
    /// A strategy and a limit, from a request's head to the end of its response; everything else
    /// as the sidecar has it by default.
    pub fn new(balance: Balance, timeout: Duration) -> Self {
        Self {
            cluster: ClusterConfig::new("service", Vec::new(), balance),
            route: RouteConfig::all_to("service", timeout),
            listener: ListenerConfig::new("outbound", ([0, 0, 0, 0], 0).into()),
        }
    }
}

/// The client, or several.
#[derive(Clone, Debug)]
pub struct LoadSpec {
    /// When it sends.
    pub plan: Plan,
    /// What it sends.
    pub mix: Mix,
    /// An answer later than this after its planned instant is a failure, but is not cancelled.
    pub deadline: Option<Duration>,
    /// The client cancels a request this long after it sent it.
    pub timeout: Duration,
    /// Requests that are in flight at most.
    pub max_connections: usize,
    /// Clients that share the plan, request by request in turn, each through a sidecar of its own
    /// that knows nothing of the others'. At least 1.
    pub clients: usize,
}

/// What a run left behind: the client's record, the backends' logs, and what the sidecars say.
#[derive(Clone, Debug)]
pub struct RunResult {
    /// One for each planned request, in the order in which they ended.
    pub samples: Vec<Sample>,
    /// What was sent; says the method of each index.
    pub mix: Mix,
    /// What went wrong.
    pub faults: Vec<Fault>,
    /// What those saw who called beside the client.
    pub strangers: StrangerBooks,
    /// The log of each backend, in the order of [`WorldSpec::backends`]: complete entries in the
    /// order in which they ended, then those that were still being worked on.
    pub logs: Vec<Vec<LogEntry>>,
    /// For each backend, how often it has begun to call each service, by the services' places.
    pub calls: Vec<BTreeMap<usize, u64>>,
    /// For each backend, how often it was asked for its load or its health, which is in no log.
    pub probes: Vec<u64>,
    /// What the sidecars say they did: the client's first, then those of the instances that call,
    /// in the order of [`WorldSpec::backends`].
    pub sidecars: Vec<SidecarBooks>,
    /// The answers of the client's sidecar that carried response flags, in the order of their
    /// heads.
    pub flagged: Vec<Flagged>,
    /// What the sidecars say happened inside them: for time axes, never for a verdict.
    pub sidecar_events: Vec<SidecarEvent>,
    /// What the sidecars say of single requests, in the order in which they said it: to tell a
    /// request's story, never for a verdict.
    pub sayings: Vec<Saying>,
    /// Retries that the client's sidecar says its budget would have granted, when the last request
    /// of a second was answered: the second, from 0, and the number.
    pub budget: Vec<(u64, u64)>,
    /// What is still held when all is over and has had time to end: requests, attempts, connections
    /// in use, and work at instances at which nothing goes wrong then.
    pub leaks: Vec<String>,
    /// Equal for equal worlds.
    pub fingerprint: Fingerprint,
}

/// What one sidecar says it did, to be checked against the logs of both its sides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SidecarBooks {
    /// The backend that calls through it, by its place in [`WorldSpec::backends`]; `None` for the
    /// client.
    pub caller: Option<usize>,
    /// The service that is called, by its place in [`WorldSpec::services`].
    pub service: usize,
    /// Requests received.
    pub requests: u64,
    /// Attempts placed on each of the service's instances, listed now or not.
    pub placed: Vec<u64>,
    /// How many of those were repetitions of a request after a failure.
    pub retries: u64,
    /// How many of those were sent before an earlier one had failed.
    pub hedges: u64,
    /// How many were repeated because an idle connection ended as they were sent on it.
    pub replays: u64,
    /// The most of the service's instances that were ejected at the same time.
    pub most_ejected: usize,
    /// What does not add up in its own books.
    pub imbalance: Option<String>,
}

/// What became of the connections of [`crate::FaultKind::Strangers`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StrangerBooks {
    /// Connections that were opened.
    pub opened: u64,
    /// Connections that were refused.
    pub refused: u64,
    /// Connections that the sidecar closed before the stranger did.
    pub cut: u64,
}

/// An answer that carried response flags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flagged {
    /// The request's index in the plan, if it carried one.
    pub index: Option<u64>,
    /// When the sidecar sent its head.
    pub at: Duration,
    /// The flags, such as `UH`.
    pub flags: String,
}

/// Something that a sidecar says happened inside it, such as an ejection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SidecarEvent {
    /// When, from the start of the run.
    pub at: Duration,
    /// When it was over, for what lasts and has ended.
    pub until: Option<Duration>,
    /// What sort of thing it is, in one word, such as `ejection`.
    pub kind: &'static str,
    /// What it happened to, such as `web-0`.
    pub target: String,
    /// What happened, in a few words.
    pub detail: String,
}

/// Something that a sidecar says of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Saying {
    /// The request's index in the plan.
    pub index: u64,
    /// Which sidecar, by its place in [`RunResult::sidecars`].
    pub sidecar: usize,
    /// When, from the start of the run.
    pub at: Duration,
    /// What.
    pub said: Said,
}

/// What a sidecar says of one request. A backend is known by its place in
/// [`WorldSpec::backends`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// An attempt was placed.
    Placed {
        /// Where.
        backend: usize,
        /// Why: `first`, `retry` or `hedge`.
        kind: &'static str,
    },
    /// The head of an attempt's answer came.
    Answered {
        /// From where.
        backend: usize,
        /// Its status.
        status: StatusCode,
    },
    /// An attempt was over without an answer, or before the end of one.
    Ended {
        /// Where.
        backend: usize,
        /// How, such as `timeout`.
        how: &'static str,
    },
    /// After a failure there was no further attempt.
    GaveUp {
        /// What forbade it, such as `budget`.
        why: &'static str,
    },
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
