//! Hosts, links and time, by turmoil.
//!
//! turmoil steps all hosts through simulated time in ticks of 1 ms, on one thread, so a run is a
//! function of its [`WorldSpec`]. What it would leave to chance is set here: its seed, its epoch
//! and the latency of its links.
//!
//! There are three hosts, whatever the size of the world: one of the client, one of all sidecars
//! and one of all backends, told apart by port; and a fourth if strangers take part. The cost of a tick grows with the cube of the
//! hosts, and nothing that is modelled belongs to a host: a crash is that of a process, and is
//! played inside its host.

mod hosts;
mod sayings;
mod sidecars;
mod strangers;
mod wall_clock;
mod ways;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use loadgen::Sample;

use self::hosts::add_client;
use self::sidecars::Sidecars;
use crate::backend::{Backend, Identity, LogEntry, Settings};
use crate::fault::{Change, Fault, FaultKind, InstanceFault, timeline};
use crate::trace::Trace;
use crate::world::{BackendSpec, LoadSpec, RunResult, ServiceSpec, SimError, WorldSpec};

/// The engine in records.
pub const ENGINE: &str = "turmoil 0.7.2, 1 ms ticks";

/// Names that the engine gives to hosts.
pub const HOST_NAMES: [&str; 4] =
    [hosts::CLIENT, hosts::SIDECARS, hosts::BACKENDS, strangers::STRANGERS];

/// Simulated time after the plan in which answers still count; then they are unfinished. Longer
/// than any timeout that a scenario may set is waited in vain, so the timeout is added.
const DRAIN_MARGIN: Duration = Duration::from_secs(1);
/// How often it is looked whether all is at rest: each 10 ms.
const TICKS_BETWEEN_LOOKS: u32 = 10;
/// Segments in flight per connection direction; more than the default, which a burst of connects
/// within one tick overruns.
const TCP_CAPACITY: usize = 4096;

/// A list that a host adds to and the engine takes when all is over.
type Shared<T> = Arc<Mutex<Vec<T>>>;

/// Runs a world to its end; gives up with `None` as soon as `keep_going` says no.
///
/// # Errors
/// When the world cannot be built, or a part of it panics.
pub fn run(spec: &WorldSpec, keep_going: impl Fn() -> bool) -> Result<Option<RunResult>, SimError> {
    check(spec)?;
    let panics = proxy::task::panics();
    let result = catch_unwind(AssertUnwindSafe(|| World::new(spec)?.run(spec, keep_going)))
        .map_err(|panic| SimError::Panicked(panic_text(panic.as_ref())))??;
    if proxy::task::panics() != panics {
        return Err(SimError::Panicked("a spawned task; its message is on stderr".to_owned()));
    }
    Ok(result)
}

fn check(spec: &WorldSpec) -> Result<(), SimError> {
    let impossible = |message: &str| Err(SimError::Impossible(message.to_owned()));
    let latency = spec.link_latency;
    if latency.is_zero() || !latency.subsec_nanos().is_multiple_of(1_000_000) {
        return Err(SimError::Impossible(format!(
            "a link latency of {} cannot be simulated; it must be whole milliseconds, at least 1",
            humantime::format_duration(latency)
        )));
    }
    let backends = spec.backends().count();
    let listed = |service: &ServiceSpec| service.instances.iter().any(|instance| instance.listed);
    if !spec.services.iter().all(listed) || backends == 0 {
        return impossible(
            "each service needs a listed instance, and the client a service to call",
        );
    }
    if backends > hosts::MOST_BACKENDS {
        return impossible("there are more backends than ports");
    }
    if spec.load.clients == 0 {
        return impossible("there is no client");
    }
    if sidecars::count(spec) > sidecars::MOST_SIDECARS {
        return impossible("there are more sidecars than ports");
    }
    let places = spec.services.iter().enumerate();
    let forward = |to: &usize, from: usize| *to > from && *to < spec.services.len();
    if !places.clone().all(|(from, service)| service.called().iter().all(|to| forward(to, from))) {
        return impossible("a service can only call one that stands later in the list");
    }
    if spec.faults.iter().filter_map(Fault::instance).any(|place| place >= backends) {
        return impossible("a fault happens to a backend that is not there");
    }
    let links: BTreeSet<_> = sidecars::links(spec).collect();
    if !spec.faults.iter().filter_map(Fault::link).all(|link| links.contains(&link)) {
        return impossible("a fault happens to a link between two that do not talk");
    }
    if spec.pushes.iter().any(|push| push.kind.backend().is_some_and(|place| place >= backends)) {
        return impossible("a push is about a backend that is not there");
    }
    Ok(())
}

/// A simulation about to start, and the books it will leave.
struct World {
    sim: turmoil::Sim<'static>,
    backends: Vec<(Backend, Shared<LogEntry>)>,
    sidecars: Sidecars,
    samples: Rc<RefCell<Vec<Sample>>>,
    strangers: strangers::Books,
    trace: Trace,
}

impl World {
    fn new(spec: &WorldSpec) -> Result<Self, SimError> {
        let mut sim = builder(spec).build();
        let trace = Trace::default();
        let sidecars = Sidecars::new(spec)?;
        let mut backends = Vec::new();
        let places = spec.services_of_backends().enumerate();
        for (backend, (place, service)) in spec.backends().zip(places) {
            let log = Shared::default();
            let sink = logging_sink(&backend.name, log.clone(), trace.clone());
            let calls = sidecars.calls_of(spec, place, service)?;
            let BackendSpec { name, settings, body, .. } = backend.clone();
            let identity = Identity { name, seed: spec.seed, calls, body };
            backends.push((Backend::new(identity, settings, sink), log));
        }
        hosts::add_backends(&mut sim, backends.iter().map(|(backend, _)| backend.clone()));
        sidecars.add_to(&mut sim);
        let samples = Rc::new(RefCell::new(Vec::with_capacity(expected_samples(spec))));
        add_client(&mut sim, &spec.load, samples.clone(), trace.clone());
        let strangers = strangers::Books::default();
        strangers::add(&mut sim, spec, &strangers, &trace);
        Ok(Self { sim, backends, sidecars, samples, strangers, trace })
    }

    fn run(
        mut self,
        spec: &WorldSpec,
        keep_going: impl Fn() -> bool,
    ) -> Result<Option<RunResult>, SimError> {
        let healthy: Vec<_> = spec.backends().map(|backend| backend.settings.clone()).collect();
        let mut changes = timeline(&spec.faults).into_iter().peekable();
        let mut pushes: Vec<_> = spec.pushes.iter().collect();
        pushes.sort_by_key(|push| push.at);
        let mut pushes = pushes.into_iter().peekable();
        let mut steps = capacity_steps(spec).into_iter().peekable();
        loop {
            let now = self.sim.elapsed();
            while let Some((_, place, capacity)) = steps.next_if(|(at, ..)| *at <= now) {
                let backend = &self.backends[place].0;
                backend.change(|settings| settings.capacity = capacity);
                self.trace.add(format_args!("capacity {} {capacity} {now:?}", backend.name()));
            }
            while let Some(change) = changes.next_if(|change| change.at <= now) {
                self.make(&change, &healthy, now);
            }
            while let Some(push) = pushes.next_if(|push| push.at <= now) {
                self.sidecars.push(push);
                let (kind, to, about) = (&push.kind, push.to, push.kind.backend());
                self.trace.add(format_args!("push {kind} {about:?} {to:?} {now:?}"));
            }
            if self.sim.step().map_err(|error| SimError::Engine(error.to_string()))? {
                let result = self.finish(spec);
                let leaks = self.settle(spec)?;
                return Ok(Some(RunResult { leaks, ..result }));
            }
            if !keep_going() {
                return Ok(None);
            }
        }
    }

    fn make(&mut self, change: &Change, healthy: &[Settings], now: Duration) {
        let Change { fault, begins, .. } = change;
        let backend = |place: usize| &self.backends[place].0;
        let name = match &fault.kind {
            FaultKind::Instance(place, kind) => {
                kind.apply(*begins, backend(*place), &healthy[*place]);
                if let InstanceFault::ClockSkew(millis) = kind {
                    self.sidecars.skew(*place, if *begins { *millis } else { 0 });
                }
                backend(*place).name().to_owned()
            }
            // The link itself has known of it from the beginning.
            FaultKind::Link(link, _) => {
                let caller = link.caller.map_or(hosts::CLIENT, |place| backend(place).name());
                format!("{caller}/{}", backend(link.instance).name())
            }
            FaultKind::Strangers(_) => strangers::STRANGERS.to_owned(),
            // What sidecars are told stands in the world beside its faults.
            FaultKind::Push(_) => hosts::SIDECARS.to_owned(),
        };
        self.trace.add(format_args!("fault {name} {} {begins} {now:?}", fault.kind));
    }

    /// Lets what was given up come to its end, which is no part of the run any more, and says what
    /// does not.
    fn settle(&mut self, spec: &WorldSpec) -> Result<Vec<String>, SimError> {
        let until = self.sim.elapsed() + settling(spec);
        loop {
            let held = self.held(spec);
            if held.is_empty() || self.sim.elapsed() >= until {
                return Ok(held);
            }
            for _ in 0..TICKS_BETWEEN_LOOKS {
                self.sim.step().map_err(|error| SimError::Engine(error.to_string()))?;
            }
        }
    }

    /// What is in use now.
    fn held(&self, spec: &WorldSpec) -> Vec<String> {
        let end = spec.load.plan.end();
        let disturbed = spec.faults.iter().any(|fault| fault.until.is_none_or(|until| until > end));
        let mut held = self.sidecars.unrest(spec);
        // A fault that lasts is free to keep what it has.
        for (backend, _) in self.backends.iter().filter(|_| !disturbed) {
            let count = backend.in_work().len();
            if count > 0 {
                held.push(format!("{} still works on {count} requests", backend.name()));
            }
        }
        held
    }

    fn finish(&self, spec: &WorldSpec) -> RunResult {
        let logs = self.backends.iter().map(|(backend, log)| {
            let mut entries = take(log);
            entries.extend(backend.in_work());
            entries
        });
        RunResult {
            logs: logs.collect(),
            calls: self.backends.iter().map(|(backend, _)| backend.calls_made()).collect(),
            probes: self.backends.iter().map(|(backend, _)| backend.probes()).collect(),
            samples: self.samples.take(),
            mix: spec.load.mix.clone(),
            faults: spec.faults.clone(),
            strangers: *self.strangers.lock().unwrap_or_else(PoisonError::into_inner),
            sidecars: self.sidecars.books(),
            flagged: self.sidecars.flagged(),
            sidecar_events: self.sidecars.events(),
            sayings: self.sidecars.sayings(),
            budget: self.sidecars.budget(),
            leaks: Vec::new(),
            fingerprint: self.trace.fingerprint(),
        }
    }
}

/// How many there will be; for a closed loop, which nobody can count beforehand, none.
fn expected_samples(spec: &WorldSpec) -> usize {
    if spec.load.plan.is_counted() { spec.load.plan.len() as usize } else { 0 }
}

/// All changes of capacity in order: when, of which backend, to what.
fn capacity_steps(spec: &WorldSpec) -> Vec<(Duration, usize, f64)> {
    let backends = spec.backends().enumerate();
    let steps = backends.flat_map(|(place, backend)| {
        backend.capacity.iter().map(move |step| (step.at, place, step.capacity))
    });
    let mut steps: Vec<_> = steps.collect();
    steps.sort_by_key(|(at, place, _)| (*at, *place));
    steps
}

fn builder(spec: &WorldSpec) -> turmoil::Builder {
    let load = &spec.load;
    let mut builder = turmoil::Builder::new();
    builder
        .rng_seed(spec.seed)
        .epoch(SystemTime::UNIX_EPOCH)
        .tick_duration(Duration::from_millis(1))
        .simulation_duration(load.plan.end() + drain(load) + DRAIN_MARGIN + settling(spec))
        .min_message_latency(spec.link_latency)
        .max_message_latency(spec.link_latency)
        .tcp_capacity(TCP_CAPACITY)
        .ephemeral_ports(1024..=65_535);
    builder
}

/// How long what was given up may take to end: a connect that nobody waits for any more, and the
/// news of the end on its way through all services.
fn settling(spec: &WorldSpec) -> Duration {
    let hops = 4 * (1 + spec.services.len() as u32);
    spec.sidecar.cluster.connect_timeout + spec.link_latency * hops + DRAIN_MARGIN
}

/// How long after the plan's end answers are waited for: until the last request has had its time.
fn drain(load: &LoadSpec) -> Duration {
    load.timeout + DRAIN_MARGIN
}

fn logging_sink(name: &str, log: Shared<LogEntry>, trace: Trace) -> crate::backend::LogSink {
    let name = name.to_owned();
    Box::new(move |entry| {
        let LogEntry { index, arrived, started, end } = entry;
        trace.add(format_args!("backend {name} {index:?} {arrived:?} {started:?} {end:?}"));
        log.lock().unwrap_or_else(PoisonError::into_inner).push(*entry);
    })
}

fn take<T>(shared: &Shared<T>) -> Vec<T> {
    std::mem::take(&mut *shared.lock().unwrap_or_else(PoisonError::into_inner))
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message").to_owned()
}
