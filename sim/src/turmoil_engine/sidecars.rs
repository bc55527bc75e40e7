//! The sidecars: the client's, and one for each service that an instance calls.
//!
//! All of them run on one host, each at its port, with streams of random numbers of their own.
//! Everything that the engine knows of the sidecar's configuration and of its books is in this
//! file.

mod rest;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock, PoisonError};
use std::time::Duration;

use http::header::HeaderValue;
use hyper::body::Incoming;
use proxy::config::{
    ClusterConfig, EndpointAddr, EndpointConfig, ListenerConfig, Name, RouteConfig,
};
use proxy::listener::{self, Peer, serve};
use proxy::rng::stream;
use proxy::seam::{BoxedIo, Dialer, dialer};
use proxy::stack::{FLAGS_HEADER, ResponseBody};
use proxy::telemetry::event::AttemptKind;
use proxy::telemetry::{Tap, TelemetryParts, TimelineOptions, TracingOptions};
use proxy::{Config, Stack};
use rand::Rng as _;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use turmoil::net::TcpStream;

use super::hosts::{CLIENT, FIRST_SIDECAR_PORT, SIDECARS, Socket, address, backend_address};
use super::{Shared, sayings, take};
use crate::backend::index_of;
use crate::call::Call;
use crate::clock::Clock;
use crate::fault::{FaultKind, LinkId};
use crate::link::Schedule;
use crate::link::wire::Link;
use crate::world::{
    BackendSpec, EndpointSpec, Flagged, Saying, SidecarBooks, SidecarEvent, SimError, WorldSpec,
};

pub(super) const MOST_SIDECARS: usize = (u16::MAX - FIRST_SIDECAR_PORT) as usize;

/// All sidecars of a world: the client's first.
pub(super) struct Sidecars {
    all: Vec<Sidecar>,
    /// The names of the instances, by their addresses.
    names: BTreeMap<String, String>,
    /// What the client's answered with flags.
    flagged: Shared<Flagged>,
    /// What the client's said of its retry budget, by second.
    budget: Shared<(u64, u64)>,
    /// What they said of single requests.
    sayings: Shared<Saying>,
}

/// One sidecar, between one caller and one service.
#[derive(Clone)]
struct Sidecar {
    /// The calling backend's place; `None` for the client.
    caller: Option<usize>,
    /// The called service's place.
    service: usize,
    /// The places of the called service's backends.
    members: Vec<usize>,
    listener: ListenerConfig,
    config: Config,
    seed: u64,
    /// The run's, from which its links draw.
    run_seed: u64,
    /// The links of its endpoints on which something goes wrong, by their addresses.
    disturbed: BTreeMap<String, Disturbed>,
    /// Made when its host starts, because its clock is the host's.
    stack: Arc<OnceLock<Arc<Stack>>>,
}

/// A link before its clock runs.
#[derive(Clone)]
struct Disturbed {
    schedule: Schedule,
    name: String,
}

/// Who calls what: the client, then each call of each instance.
fn pairs(spec: &WorldSpec) -> impl Iterator<Item = (Option<usize>, usize)> {
    let of_backends = spec.services_of_backends().enumerate().flat_map(|(backend, service)| {
        spec.services[service].calls.iter().map(move |called| (Some(backend), *called))
    });
    std::iter::once((None, 0)).chain(of_backends)
}

/// The ways from sidecars to the instances that they call.
pub(super) fn links(spec: &WorldSpec) -> impl Iterator<Item = LinkId> {
    pairs(spec).flat_map(|(caller, service)| {
        let places = spec.services_of_backends().enumerate();
        let called = places.filter(move |(_, of)| *of == service);
        called.map(move |(instance, _)| LinkId { caller, instance })
    })
}

/// How many sidecars there are.
pub(super) fn count(spec: &WorldSpec) -> usize {
    pairs(spec).count()
}

impl Sidecars {
    pub(super) fn new(spec: &WorldSpec) -> Result<Self, SimError> {
        let new = |((caller, service), port)| Sidecar::new(spec, caller, service, port);
        let all = pairs(spec).zip(FIRST_SIDECAR_PORT..).map(new).collect::<Result<_, _>>()?;
        let name = |(place, backend): (usize, &BackendSpec)| {
            Ok((backend_address(place)?.to_string(), backend.name.clone()))
        };
        let names = spec.backends().enumerate().map(name).collect::<Result<_, SimError>>()?;
        let (flagged, budget, sayings) = Default::default();
        Ok(Self { all, names, flagged, budget, sayings })
    }

    /// The calls of an instance, through its sidecars.
    pub(super) fn calls_of(
        &self,
        spec: &WorldSpec,
        backend: usize,
        service: usize,
    ) -> Result<Vec<Call>, SimError> {
        let first = self.all.iter().position(|sidecar| sidecar.caller == Some(backend));
        let calls = spec.services[service].calls.iter().zip(first.unwrap_or_default()..);
        calls
            .map(|(called, place)| {
                let name = &spec.services[*called].name;
                let impossible =
                    |_| SimError::Impossible(format!("`{name}` is not a service's name"));
                Ok(Call {
                    dialer: simulated_dialer(),
                    sidecar: address(SIDECARS, FIRST_SIDECAR_PORT, place)?,
                    service: HeaderValue::from_str(name).map_err(impossible)?,
                })
            })
            .collect()
    }

    /// Adds the host of all of them.
    pub(super) fn add_to(&self, sim: &mut turmoil::Sim<'static>) {
        let all = self.all.clone();
        let (flagged, budget) = (self.flagged.clone(), self.budget.clone());
        let sayings = self.sayings.clone();
        sim.host(SIDECARS, move || {
            let (all, sayings) = (all.clone(), sayings.clone());
            let (flagged, budget) = (flagged.clone(), budget.clone());
            async move {
                let clock = Clock::start();
                let mut running = tokio::task::JoinSet::new();
                for (place, sidecar) in all.into_iter().enumerate() {
                    let socket = Socket::bind(sidecar.listener.listen.port()).await?;
                    let members = sidecar.members.clone();
                    let tap = sayings::listen(sayings.clone(), place, members, clock);
                    // What instances get from their sidecars, they turn into answers of their own.
                    let (flagged, budget) = (flagged.clone(), budget.clone());
                    let notes = Notes { clock, flagged, budget };
                    let notes = sidecar.caller.is_none().then_some(notes);
                    running.spawn(sidecar.serve(socket, tap, notes));
                }
                while let Some(ended) = running.join_next().await {
                    ended?;
                }
                Ok(())
            }
        });
    }

    /// What they say they did.
    pub(super) fn books(&self) -> Vec<SidecarBooks> {
        self.all.iter().map(Sidecar::books).collect()
    }

    /// What they say happened inside them.
    pub(super) fn events(&self) -> Vec<SidecarEvent> {
        self.all.iter().flat_map(|sidecar| sidecar.events(&self.names)).collect()
    }

    /// What each of them still holds, in sentences that name whose sidecar it is.
    pub(super) fn unrest(&self, spec: &WorldSpec) -> Vec<String> {
        let all = self.all.iter().filter_map(|sidecar| {
            let unrest = sidecar.unrest()?;
            let backend = sidecar.caller.and_then(|place| spec.backends().nth(place));
            let whose = backend.map_or("the client", |backend| backend.name.as_str());
            Some(format!("the sidecar of {whose}: {unrest}"))
        });
        all.collect()
    }

    /// The answers of the client's sidecar that carried flags.
    pub(super) fn flagged(&self) -> Vec<Flagged> {
        take(&self.flagged)
    }

    /// What the client's sidecar said of its retry budget: a second, and what was left in it.
    pub(super) fn budget(&self) -> Vec<(u64, u64)> {
        take(&self.budget)
    }

    /// What they said of single requests.
    pub(super) fn sayings(&self) -> Vec<Saying> {
        take(&self.sayings)
    }
}

/// What is noted of the answers of the client's sidecar.
#[derive(Clone)]
struct Notes {
    clock: Clock,
    flagged: Shared<Flagged>,
    budget: Shared<(u64, u64)>,
}

impl Notes {
    /// An answer is about to be sent.
    fn take(&self, index: Option<u64>, stack: &Stack, response: &http::Response<ResponseBody>) {
        let at = self.clock.elapsed();
        let flags = response.headers().get(&FLAGS_HEADER).and_then(|f| f.to_str().ok());
        if let Some(flags) = flags {
            let note = Flagged { index, at, flags: flags.to_owned() };
            self.flagged.lock().unwrap_or_else(PoisonError::into_inner).push(note);
        }
        let Some(cluster) = stack.clusters().first() else { return };
        let now = (at.as_secs(), cluster.retry_balance());
        let mut budget = self.budget.lock().unwrap_or_else(PoisonError::into_inner);
        match budget.last_mut() {
            Some(last) if last.0 == now.0 => *last = now,
            _ => budget.push(now),
        }
    }
}

impl Sidecar {
    fn new(
        spec: &WorldSpec,
        caller: Option<usize>,
        service: usize,
        port: u16,
    ) -> Result<Self, SimError> {
        let name = || Name::from(spec.services[service].name.as_str());
        let listener = ListenerConfig::new("outbound", ([0, 0, 0, 0], port).into());
        let all = spec.backends().zip(spec.services_of_backends()).enumerate();
        let (members, called): (Vec<_>, Vec<_>) =
            all.filter(|(_, (_, of))| *of == service).map(|(at, (of, _))| (at, of)).unzip();
        let endpoints = members.iter().zip(called);
        let endpoints = endpoints
            .map(|(place, backend)| Ok(endpoint(backend_address(*place)?, &backend.endpoint)))
            .collect::<Result<_, SimError>>()?;
        let cluster = ClusterConfig { name: name(), endpoints, ..spec.sidecar.cluster.clone() };
        let config = Config {
            seed: Some(spec.seed),
            workers: None,
            drain_timeout: Duration::ZERO,
            admin: None,
            access_log: None,
            tracing: TracingOptions::default(),
            timeline: TimelineOptions::default(),
            as_read: String::new(),
            listeners: vec![listener.clone()],
            clusters: vec![cluster],
            routes: vec![RouteConfig { cluster: name(), ..spec.sidecar.route.clone() }],
        };
        let seed = match caller {
            None => spec.seed,
            // Two sidecars of one seed must not make the same choices at the same time.
            Some(place) => stream(spec.seed, &format!("sidecar/{place}/{service}")).next_u64(),
        };
        let disturbed = disturbed(spec, caller)?;
        let (run_seed, stack) = (spec.seed, Arc::default());
        Ok(Self { caller, service, members, listener, config, seed, run_seed, disturbed, stack })
    }

    /// Made at the first call; `tap` hears what it says.
    fn stack(&self, tap: Tap) -> Arc<Stack> {
        let start = Instant::now().into_std();
        let parts = TelemetryParts { tap: Some(tap), ..TelemetryParts::starting(start) };
        let new = || Stack::with_telemetry(&self.config, self.seed, self.dialer(), parts);
        self.stack.get_or_init(new).clone()
    }

    /// Its way to its endpoints: nothing lies between where nothing ever goes wrong.
    fn dialer(&self) -> Dialer {
        if self.disturbed.is_empty() {
            return simulated_dialer();
        }
        let clock = Clock::start();
        let link = |(addr, Disturbed { schedule, name }): (&String, &Disturbed)| {
            let link = Link::new(schedule.clone(), clock, (self.run_seed, name));
            (addr.clone(), Arc::new(link))
        };
        let links: Arc<BTreeMap<_, _>> = Arc::new(self.disturbed.iter().map(link).collect());
        dialer(move |addr: EndpointAddr| {
            let link = links.get(addr.as_str()).cloned();
            async move {
                let connect = || TcpStream::connect(addr.as_str());
                match link {
                    Some(link) => link.connect(connect).await,
                    None => Ok(Box::new(connect().await?) as BoxedIo),
                }
            }
        })
    }

    /// Serves on `socket` until dropped; takes notes of the answers, if there are to be any.
    async fn serve(self, socket: Socket, tap: Tap, notes: Option<Notes>) {
        let options = listener::Options {
            // A simulation has no date, and the real one would differ from run to run.
            date_header: false,
            ..listener::Options::new(&self.listener, Duration::ZERO)
        };
        let stack = self.stack(tap);
        let stats = stack.telemetry().listener(self.listener.name.as_str());
        let mut tending = tokio::task::JoinSet::new();
        tending.spawn(stack.clone().tend());
        let answer = move |peer: Peer, request: http::Request<Incoming>| {
            let (stack, notes) = (stack.clone(), notes.clone());
            async move {
                let index = index_of(request.headers());
                let response = sayings::about(index, stack.clone().call(peer, request)).await;
                if let Some(notes) = notes {
                    notes.take(index, &stack, &response);
                }
                response
            }
        };
        let service = move |peer| {
            let answer = answer.clone();
            move |request| answer(peer, request)
        };
        serve(socket, service, options, stats, CancellationToken::new()).await;
    }

    /// What its timeline remembers.
    fn events(&self, names: &BTreeMap<String, String>) -> Vec<SidecarEvent> {
        let Some(stack) = self.stack.get() else { return Vec::new() };
        let moments = stack.telemetry().timeline().snapshot().moments;
        let events = moments.into_iter().map(|moment| {
            let address = moment.endpoint.as_deref();
            let target = address.and_then(|address| names.get(address)).map(String::as_str);
            SidecarEvent {
                at: moment.at,
                until: None,
                kind: moment.what.name(),
                target: target.unwrap_or(&moment.cluster).to_owned(),
                detail: moment.what.detail(),
            }
        });
        events.collect()
    }

    /// The one place where the sidecar's own counters are read.
    fn books(&self) -> SidecarBooks {
        let books =
            SidecarBooks { caller: self.caller, service: self.service, ..SidecarBooks::default() };
        let Some(stack) = self.stack.get() else { return books };
        let conservation = stack.telemetry().conservation();
        let attempts = conservation.attempts();
        SidecarBooks {
            requests: conservation.requests.received,
            placed: conservation.endpoints.iter().map(|row| row.totals.started()).collect(),
            retries: attempts.of_kind(AttemptKind::Retry),
            hedges: attempts.of_kind(AttemptKind::Hedge),
            most_ejected: self.most_ejected(),
            imbalance: conservation.check().err().map(|imbalance| imbalance.to_string()),
            ..books
        }
    }
}

/// The links of a caller's sidecar on which something goes wrong.
fn disturbed(
    spec: &WorldSpec,
    caller: Option<usize>,
) -> Result<BTreeMap<String, Disturbed>, SimError> {
    let names: Vec<_> = spec.backends().map(|backend| backend.name.as_str()).collect();
    let whose = caller.map_or(CLIENT, |place| names[place]);
    let mut faults: BTreeMap<usize, Vec<_>> = BTreeMap::new();
    for fault in &spec.faults {
        if let FaultKind::Link(link, kind) = fault.kind
            && link.caller == caller
        {
            let window = fault.at..fault.until.unwrap_or(Duration::MAX);
            faults.entry(link.instance).or_default().push((window, kind));
        }
    }
    let links = faults.into_iter().map(|(place, faults)| {
        let schedule = Schedule::new(spec.link_latency, faults);
        let name = format!("{whose}/{}", names[place]);
        Ok((backend_address(place)?.to_string(), Disturbed { schedule, name }))
    });
    links.collect()
}

/// An instance as the sidecar's configuration has it.
fn endpoint(addr: EndpointAddr, spec: &EndpointSpec) -> EndpointConfig {
    let plain = EndpointConfig::at(addr);
    EndpointConfig {
        weight: spec.weight.unwrap_or(plain.weight),
        zone: spec.zone.clone(),
        priority: spec.priority.unwrap_or(plain.priority),
        labels: spec.labels.clone(),
        ..plain
    }
}

fn simulated_dialer() -> Dialer {
    dialer(|addr: EndpointAddr| async move { TcpStream::connect(addr.as_str()).await })
}
