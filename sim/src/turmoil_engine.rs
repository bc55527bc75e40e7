//! Hosts, links and time, by turmoil.
//!
//! turmoil steps all hosts through simulated time in ticks of 1 ms, on one thread, so a run is a
//! function of its [`WorldSpec`]. What it would leave to chance is set here: its seed, its epoch
//! and the latency of its links.

use std::cell::RefCell;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use http::HeaderName;
use loadgen::{Sample, SleepPacer, Target};
use proxy::config::{ClusterConfig, EndpointAddr, ListenerConfig, RouteConfig};
use proxy::listener::{self, serve};
use proxy::seam::{Accept, dialer};
use proxy::{Config, Stack};
use tokio_util::sync::CancellationToken;
use turmoil::net::{TcpListener, TcpStream};

use crate::backend::{Backend, INDEX_HEADER, LogEntry};
use crate::clock::Clock;
use crate::fault::timeline;
use crate::trace::Trace;
use crate::world::{LoadSpec, RunResult, SimError, WorldSpec};

/// The engine in records.
pub const ENGINE: &str = "turmoil 0.7.2, 1 ms ticks";

/// Backends up to this number get a host each; more are packed onto one, by port. The cost of a
/// tick grows with the cube of the hosts.
const MOST_HOSTS: usize = 20;
const SIDECAR_PORT: u16 = 15_001;
const FIRST_BACKEND_PORT: u16 = 9_001;
/// Simulated time after the plan in which answers still count; then they are unfinished. Longer
/// than any timeout that a scenario may set is waited in vain, so the timeout is added.
const DRAIN_MARGIN: Duration = Duration::from_secs(1);
/// Segments in flight per connection direction; more than the default, which a burst of connects
/// within one tick overruns.
const TCP_CAPACITY: usize = 4096;

type Log = Arc<Mutex<Vec<LogEntry>>>;

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
    let latency = spec.link_latency;
    if latency.is_zero() || !latency.subsec_nanos().is_multiple_of(1_000_000) {
        return Err(SimError::Impossible(format!(
            "a link latency of {} cannot be simulated; it must be whole milliseconds, at least 1",
            humantime::format_duration(latency)
        )));
    }
    if spec.backends.len() > usize::from(u16::MAX - FIRST_BACKEND_PORT) {
        return Err(SimError::Impossible("there are more backends than ports".to_owned()));
    }
    Ok(())
}

/// A simulation about to start, and the books it will leave.
struct World {
    sim: turmoil::Sim<'static>,
    backends: Vec<(Backend, Log)>,
    stack: Arc<Stack>,
    samples: Rc<RefCell<Vec<Sample>>>,
    trace: Trace,
}

impl World {
    fn new(spec: &WorldSpec) -> Result<Self, SimError> {
        let mut sim = builder(spec).build();
        let trace = Trace::default();
        let mut backends = Vec::new();
        for backend in &spec.backends {
            let log = Log::default();
            let sink = logging_sink(&backend.name, log.clone(), trace.clone());
            let new = Backend::new(&backend.name, spec.seed, backend.settings, sink);
            backends.push((new, log));
        }
        let addresses = add_backend_hosts(&mut sim, &backends);
        let stack = add_sidecar(&mut sim, spec, &addresses)?;
        let samples = Rc::new(RefCell::new(Vec::with_capacity(spec.load.plan.len() as usize)));
        add_client(&mut sim, &spec.load, samples.clone(), trace.clone())?;
        Ok(Self { sim, backends, stack, samples, trace })
    }

    fn run(
        mut self,
        spec: &WorldSpec,
        keep_going: impl Fn() -> bool,
    ) -> Result<Option<RunResult>, SimError> {
        let mut changes = timeline(&spec.faults).into_iter().peekable();
        loop {
            let now = self.sim.elapsed();
            while let Some(change) = changes.next_if(|change| change.at <= now) {
                let place = change.fault.backend;
                let backend = &self.backends[place].0;
                change.apply(backend, &spec.backends[place].settings);
                let (name, begins) = (backend.name(), change.begins);
                self.trace.add(format_args!("fault {name} {} {begins} {now:?}", change.fault.kind));
            }
            if self.sim.step().map_err(|error| SimError::Engine(error.to_string()))? {
                return Ok(Some(self.finish()));
            }
            if !keep_going() {
                return Ok(None);
            }
        }
    }

    fn finish(self) -> RunResult {
        let logs = self.backends.iter().map(|(backend, log)| {
            let mut entries =
                std::mem::take(&mut *log.lock().unwrap_or_else(PoisonError::into_inner));
            entries.extend(backend.in_work());
            entries
        });
        let endpoints = self.stack.clusters().iter().flat_map(|cluster| &cluster.endpoints);
        RunResult {
            logs: logs.collect(),
            samples: self.samples.take(),
            sidecar_requests: self.stack.requests(),
            sidecar_placed: endpoints.map(|e| e.stats.snapshot().rq_total).collect(),
            fingerprint: self.trace.fingerprint(),
        }
    }
}

fn builder(spec: &WorldSpec) -> turmoil::Builder {
    let load = &spec.load;
    let mut builder = turmoil::Builder::new();
    builder
        .rng_seed(spec.seed)
        .epoch(SystemTime::UNIX_EPOCH)
        .tick_duration(Duration::from_millis(1))
        .simulation_duration(load.plan.end() + drain(load) + DRAIN_MARGIN)
        .min_message_latency(spec.link_latency)
        .max_message_latency(spec.link_latency)
        .tcp_capacity(TCP_CAPACITY)
        .ephemeral_ports(1024..=65_535);
    builder
}

/// How long after the plan's end answers are waited for: until the last request has had its time.
fn drain(load: &LoadSpec) -> Duration {
    load.timeout + DRAIN_MARGIN
}

fn logging_sink(name: &str, log: Log, trace: Trace) -> crate::backend::LogSink {
    let name = name.to_owned();
    Box::new(move |entry| {
        let LogEntry { index, arrived, started, end } = entry;
        trace.add(format_args!("backend {name} {index:?} {arrived:?} {started:?} {end:?}"));
        log.lock().unwrap_or_else(PoisonError::into_inner).push(*entry);
    })
}

/// Adds the backends and returns where each of them listens.
fn add_backend_hosts(
    sim: &mut turmoil::Sim<'static>,
    backends: &[(Backend, Log)],
) -> Vec<(String, u16)> {
    let packed = backends.len() > MOST_HOSTS;
    let addresses: Vec<_> = backends
        .iter()
        .zip(FIRST_BACKEND_PORT..)
        .map(|((backend, _), port)| {
            let host = if packed { "backends" } else { backend.name() };
            (host.to_owned(), port)
        })
        .collect();
    let all: Vec<_> = backends
        .iter()
        .zip(&addresses)
        .map(|((backend, _), (_, port))| (backend.clone(), *port))
        .collect();
    if packed {
        add_host(sim, "backends", all);
    } else {
        for one in all {
            let name = one.0.name().to_owned();
            add_host(sim, &name, vec![one]);
        }
    }
    addresses
}

/// A host on which these backends run, each at its port.
fn add_host(sim: &mut turmoil::Sim<'static>, name: &str, backends: Vec<(Backend, u16)>) {
    sim.host(name, move || {
        let backends = backends.clone();
        async move {
            let clock = Clock::start();
            let mut running = tokio::task::JoinSet::new();
            for (backend, port) in backends {
                running.spawn(async move { backend.run(clock, || Socket::bind(port)).await });
            }
            while let Some(ended) = running.join_next().await {
                ended??;
            }
            Ok(())
        }
    });
}

fn add_sidecar(
    sim: &mut turmoil::Sim<'static>,
    spec: &WorldSpec,
    addresses: &[(String, u16)],
) -> Result<Arc<Stack>, SimError> {
    let endpoints = addresses
        .iter()
        .map(|(host, port)| EndpointAddr::parse(&format!("{host}:{port}")))
        .collect::<Result<Vec<_>, _>>()
        .map_err(SimError::Impossible)?;
    let listener = ListenerConfig::new("outbound", ([0, 0, 0, 0], SIDECAR_PORT).into());
    let config = Config {
        seed: Some(spec.seed),
        workers: None,
        drain_timeout: Duration::ZERO,
        admin: None,
        listeners: vec![listener.clone()],
        clusters: vec![ClusterConfig::new("service", endpoints, spec.sidecar.balance)],
        routes: vec![RouteConfig::all_to("service", spec.sidecar.timeout)],
    };
    let connect = |addr: EndpointAddr| async move { TcpStream::connect(addr.as_str()).await };
    let stack = Stack::new(&config, spec.seed, dialer(connect));
    let options = listener::Options {
        max_connections: listener.max_connections.get(),
        header_timeout: listener.header_timeout,
        // A simulation has no date, and the real one would differ from run to run.
        date_header: false,
        drain_timeout: Duration::ZERO,
    };
    let serving = stack.clone();
    sim.host("sidecar", move || {
        let (stack, options) = (serving.clone(), options.clone());
        async move {
            let socket = Socket::bind(SIDECAR_PORT).await?;
            let stats = stack.telemetry().listener("outbound");
            let service = move |request| stack.clone().call(request);
            serve(socket, service, options, stats, CancellationToken::new()).await;
            Ok(())
        }
    });
    Ok(stack)
}

fn add_client(
    sim: &mut turmoil::Sim<'static>,
    load: &LoadSpec,
    samples: Rc<RefCell<Vec<Sample>>>,
    trace: Trace,
) -> Result<(), SimError> {
    let impossible = |error: loadgen::TargetError| SimError::Impossible(error.to_string());
    let target = Target::from_url("http://service/").map_err(impossible)?;
    let mut options = loadgen::Options::new(target, format!("sidecar:{SIDECAR_PORT}"));
    options.deadline = load.deadline;
    options.timeout = load.timeout;
    options.max_connections = load.max_connections;
    options.drain = drain(load);
    options.index_header = Some(HeaderName::from_static(INDEX_HEADER));
    let plan = load.plan.clone();
    sim.client("client", async move {
        let connect = tower::service_fn(|addr: String| TcpStream::connect(addr));
        let mut observer = |sample: &Sample| {
            let Sample { index, planned, sent, finished, outcome, status } = sample;
            let outcome = outcome.name();
            trace.add(format_args!(
                "client {index} {planned:?} {sent:?} {finished:?} {outcome} {status:?}"
            ));
            samples.borrow_mut().push(*sample);
        };
        let never = std::future::pending();
        loadgen::run(plan, options, connect, SleepPacer, never, &mut observer).await;
        Ok(())
    });
    Ok(())
}

/// turmoil's listener behind the proxy's seam.
struct Socket(TcpListener);

impl Socket {
    async fn bind(port: u16) -> io::Result<Self> {
        TcpListener::bind(("0.0.0.0", port)).await.map(Self)
    }
}

impl Accept for Socket {
    type Io = TcpStream;

    async fn accept(&self) -> io::Result<(TcpStream, std::net::SocketAddr)> {
        self.0.accept().await
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message").to_owned()
}
