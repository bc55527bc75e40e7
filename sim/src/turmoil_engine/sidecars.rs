//! The sidecars: the client's, and one for each service that an instance calls.
//!
//! All of them run on one host, each at its port, with streams of random numbers of their own.
//! Everything that the engine knows of the sidecar's configuration and of its books is in this
//! file.

mod rest;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use http::header::HeaderValue;
use hyper::body::Incoming;
use proxy::config::{
    ClusterConfig, EndpointAddr, EndpointConfig, ListenerConfig, Name, RouteConfig,
};
use proxy::headers::FLAGS;
use proxy::listener::{self, Peer, serve};
use proxy::rng::stream;
use proxy::stack::ResponseBody;
use proxy::telemetry::event::AttemptKind;
use proxy::telemetry::{EndpointRef, Tap, TelemetryParts, TimelineOptions, TracingOptions};
use proxy::{Config, Stack};
use rand::Rng as _;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::hosts::{FIRST_SIDECAR_PORT, SIDECARS, Socket, address, backend_address};
use super::wall_clock::SkewedClock;
use super::ways::{Ways, simulated_dialer};
use super::{Shared, sayings, take};
use crate::backend::Asked;
use crate::call::Call;
use crate::clock::Clock;
use crate::fault::LinkId;
use crate::push::{Push, PushKind};
use crate::world::{
    BackendSpec, CallSpec, EndpointSpec, Flagged, Saying, SidecarBooks, SidecarEvent, SidecarSpec,
    SimError, WorldSpec,
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
    /// The places of the called service's backends, by their addresses.
    members: BTreeMap<String, usize>,
    listener: ListenerConfig,
    /// What it has been told so far.
    told: Arc<Mutex<Told>>,
    /// What it is told while it runs. It takes note by itself, because its clock is its host's.
    pushes: mpsc::UnboundedSender<Config>,
    inbox: Arc<Mutex<Option<mpsc::UnboundedReceiver<Config>>>>,
    seed: u64,
    /// To its endpoints.
    ways: Ways,
    /// What its host believes the time to be.
    wall_clock: SkewedClock,
    /// Made when its host starts, because its clock is the host's.
    stack: Arc<OnceLock<Arc<Stack>>>,
}

/// What a control plane has told a sidecar.
struct Told {
    service: Name,
    sidecar: SidecarSpec,
    /// The service's instances, and whether the sidecar is to know of them.
    instances: Vec<Instance>,
}

struct Instance {
    /// Its place among all backends.
    backend: usize,
    endpoint: EndpointConfig,
    is_listed: bool,
}

/// Who calls what: the clients, then each call of each instance.
fn pairs(spec: &WorldSpec) -> impl Iterator<Item = (Option<usize>, usize)> {
    let of_backends = spec.services_of_backends().enumerate().flat_map(|(backend, service)| {
        spec.services[service].called().into_iter().map(move |called| (Some(backend), called))
    });
    std::iter::repeat_n((None, 0), spec.load.clients).chain(of_backends)
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
        let new = |((caller, service), place)| Sidecar::new(spec, caller, service, place);
        let all = pairs(spec).zip(0..).map(new).collect::<Result<_, _>>()?;
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
    ) -> Result<Vec<Vec<Call>>, SimError> {
        let call = |call: &CallSpec| {
            let is_for = |sidecar: &Sidecar| {
                (sidecar.caller, sidecar.service) == (Some(backend), call.service)
            };
            let place = self.all.iter().position(is_for).unwrap_or_default();
            let name = &spec.services[call.service].name;
            let impossible = |_| SimError::Impossible(format!("`{name}` is not a service's name"));
            Ok(Call {
                dialer: simulated_dialer(),
                sidecar: address(SIDECARS, FIRST_SIDECAR_PORT, place)?,
                service: HeaderValue::from_str(name).map_err(impossible)?,
                spec: call.clone(),
                made: Arc::default(),
            })
        };
        let groups = spec.services[service].calls.iter();
        groups.map(|group| group.iter().map(call).collect()).collect()
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
                    let backend_at = sidecar.backends_by_place();
                    let tap = sayings::listen(sayings.clone(), place, backend_at, clock);
                    // What instances get from their sidecars, they turn into answers of their own.
                    let (flagged, budget) = (flagged.clone(), budget.clone());
                    let notes = Notes { clock, flagged, budget: (place == 0).then_some(budget) };
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

    /// Makes the wall clock of an instance's sidecars wrong by so many milliseconds.
    pub(super) fn skew(&self, caller: usize, millis: i64) {
        let its = self.all.iter().filter(|sidecar| sidecar.caller == Some(caller));
        its.for_each(|sidecar| sidecar.wall_clock.skew(millis));
    }

    /// Tells those that `push` is for.
    pub(super) fn push(&self, push: &Push) {
        let meant = self.all.iter().filter(|sidecar| push.to.reaches(sidecar.caller));
        meant.for_each(|sidecar| sidecar.push(&push.kind));
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

/// What is noted of the answers of a client's sidecar.
#[derive(Clone)]
struct Notes {
    clock: Clock,
    flagged: Shared<Flagged>,
    /// Only of the first client's: sums of budgets say nothing.
    budget: Option<Shared<(u64, u64)>>,
}

impl Notes {
    /// An answer is about to be sent.
    fn take(&self, index: Option<u64>, stack: &Stack, response: &http::Response<ResponseBody>) {
        let at = self.clock.elapsed();
        let flags = response.headers().get(&FLAGS).and_then(|f| f.to_str().ok());
        if let Some(flags) = flags {
            let note = Flagged { index, at, flags: flags.to_owned() };
            self.flagged.lock().unwrap_or_else(PoisonError::into_inner).push(note);
        }
        let clusters = stack.clusters();
        let (Some(cluster), Some(budget)) = (clusters.first(), &self.budget) else { return };
        let now = (at.as_secs(), cluster.retry_balance());
        let mut budget = budget.lock().unwrap_or_else(PoisonError::into_inner);
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
        place: u16,
    ) -> Result<Self, SimError> {
        let listen = ([0, 0, 0, 0], FIRST_SIDECAR_PORT + place).into();
        let listener = ListenerConfig { listen, ..spec.sidecar.listener.clone() };
        let backends = spec.backends().zip(spec.services_of_backends()).enumerate();
        let instances = backends
            .filter(|(_, (_, of))| *of == service)
            .map(|(place, (backend, _))| {
                let endpoint = endpoint(backend_address(place)?, &backend.endpoint);
                Ok(Instance { backend: place, endpoint, is_listed: backend.listed })
            })
            .collect::<Result<Vec<_>, SimError>>()?;
        let member = |of: &Instance| (of.endpoint.address.to_string(), of.backend);
        let members = instances.iter().map(member).collect();
        let name = Name::from(spec.services[service].name.as_str());
        let told = Told { service: name, sidecar: spec.sidecar.clone(), instances };
        let seed = match caller {
            None if place == 0 => spec.seed,
            // Two sidecars of one seed must not make the same choices at the same time.
            None => stream(spec.seed, &format!("sidecar/client-{place}")).next_u64(),
            Some(place) => stream(spec.seed, &format!("sidecar/{place}/{service}")).next_u64(),
        };
        let ways = Ways::of(spec, caller)?;
        let (pushes, inbox) = mpsc::unbounded_channel();
        Ok(Self {
            caller,
            service,
            members,
            listener,
            told: Arc::new(Mutex::new(told)),
            pushes,
            inbox: Arc::new(Mutex::new(Some(inbox))),
            seed,
            ways,
            wall_clock: SkewedClock::default(),
            stack: Arc::default(),
        })
    }

    /// The configuration that it should have by now.
    fn config(&self) -> Config {
        lock(&self.told).config(&self.listener, self.seed)
    }

    /// Tells it something.
    fn push(&self, kind: &PushKind) {
        let mut told = lock(&self.told);
        if kind.backend().is_some_and(|place| told.instance(place).is_none()) {
            return;
        }
        told.heed(kind);
        let mut config = told.config(&self.listener, self.seed);
        if matches!(kind, PushKind::Break) {
            config.routes.iter_mut().for_each(|route| route.cluster = "nowhere".into());
        }
        // One that is over needs no telling.
        let _ = self.pushes.send(config);
    }

    /// Which backend has a place in its arrays at the moment.
    fn backends_by_place(&self) -> impl Fn(EndpointRef) -> Option<usize> + Send + Sync + 'static {
        // Weak, or what it says would keep it for ever.
        let (stack, members) = (Arc::downgrade(&self.stack), self.members.clone());
        move |at| {
            let stack = stack.upgrade()?;
            let address = stack.get()?.telemetry().endpoint_address(at);
            members.get(&*address).copied()
        }
    }

    /// Made at the first call; `tap` hears what it says.
    fn stack(&self, tap: Tap) -> Arc<Stack> {
        let new = || {
            let parts = TelemetryParts {
                tap: Some(tap),
                wall_clock: self.wall_clock.clone().started(),
                ..TelemetryParts::starting(Instant::now().into_std())
            };
            Stack::with_telemetry(&self.config(), self.seed, self.ways.dialer(), parts)
        };
        self.stack.get_or_init(new).clone()
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
        let inbox = lock(&self.inbox).take();
        tending.spawn(heed_pushes(stack.clone(), inbox));
        let answer = move |peer: Peer, request: http::Request<Incoming>| {
            let (stack, notes) = (stack.clone(), notes.clone());
            async move {
                let index = Asked::of(request.headers()).index;
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
                target: target.or(moment.cluster.as_deref()).unwrap_or("sidecar").to_owned(),
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
        let placed = |instance: &Instance| {
            let address = instance.endpoint.address.as_str();
            let rows = conservation.endpoints.iter().filter(|row| *row.endpoint == *address);
            rows.map(|row| row.totals.started()).sum()
        };
        SidecarBooks {
            requests: conservation.requests.received,
            placed: lock(&self.told).instances.iter().map(placed).collect(),
            retries: attempts.of_kind(AttemptKind::Retry),
            hedges: attempts.of_kind(AttemptKind::Hedge),
            replays: attempts.of_kind(AttemptKind::Replay),
            most_ejected: self.most_ejected(),
            imbalance: conservation.check().err().map(|imbalance| imbalance.to_string()),
            ..books
        }
    }
}

impl Told {
    fn instance(&mut self, backend: usize) -> Option<&mut Instance> {
        self.instances.iter_mut().find(|instance| instance.backend == backend)
    }

    fn heed(&mut self, kind: &PushKind) {
        if let PushKind::Configure(sidecar) = kind {
            self.sidecar = SidecarSpec::clone(sidecar);
        }
        let Some(instance) = kind.backend().and_then(|place| self.instance(place)) else { return };
        match kind {
            PushKind::List(_) => {
                instance.is_listed = true;
                instance.endpoint.draining = false;
            }
            PushKind::Drain(_) => instance.endpoint.draining = true,
            PushKind::Unlist(_) => instance.is_listed = false,
            PushKind::Configure(_) | PushKind::Break => {}
        }
    }

    fn config(&self, listener: &ListenerConfig, seed: u64) -> Config {
        let listed = self.instances.iter().filter(|instance| instance.is_listed);
        let endpoints = listed.map(|instance| instance.endpoint.clone()).collect();
        let (name, cluster) = (self.service.clone(), self.sidecar.cluster.clone());
        Config {
            seed: Some(seed),
            workers: None,
            drain_timeout: Duration::ZERO,
            admin: None,
            access_log: None,
            tracing: TracingOptions::default(),
            timeline: TimelineOptions::default(),
            listeners: vec![listener.clone()],
            clusters: vec![ClusterConfig { name, endpoints, ..cluster }],
            routes: vec![RouteConfig {
                cluster: self.service.clone(),
                ..self.sidecar.route.clone()
            }],
        }
    }
}

/// Does what it is told, as long as somebody may tell it something.
async fn heed_pushes(stack: Arc<Stack>, inbox: Option<mpsc::UnboundedReceiver<Config>>) {
    let Some(mut inbox) = inbox else { return };
    while let Some(config) = inbox.recv().await {
        // What it refuses stands in its timeline.
        let _ = stack.apply(config);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
