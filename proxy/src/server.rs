//! Binds what the configuration names, serves, drains.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use proxy::admin::{Admin, Controls, Sidecar};
use proxy::config::ListenerConfig;
use proxy::listener::{Options, serve};
use proxy::rng::stream;
use proxy::seam::tcp_dialer;
use proxy::telemetry::trace::{Exporter, Tracer, TracerParts};
use proxy::telemetry::{AccessLog, TelemetryParts};
use proxy::{Config, Stack};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::say;

/// How long the last lines and spans may take to be written once everything else is over.
const FLUSH: Duration = Duration::from_secs(2);

/// Runs until SIGTERM or SIGINT and the requests then in flight are done.
///
/// # Errors
/// When an address cannot be listened on.
pub(crate) async fn run(
    config: Config,
    path: &Path,
    seed: u64,
    workers: usize,
) -> anyhow::Result<()> {
    // First of all: once we say that we are ready, a signal must not kill us any more.
    let stop = StopSignals::new()?;
    let controls = Arc::new(Controls::default());
    let drain = controls.drain_listeners.clone();
    let exporter = exporter(&config)?;
    let parts = telemetry_parts(&config, seed, exporter.clone())?;
    let stack = Stack::with_telemetry(&config, seed, tcp_dialer(), parts);
    let (of_admin, from) = (stack.clone(), path.to_owned());
    controls.reload_by(move || reload(&of_admin, &from));
    let mut servers = JoinSet::new();
    let mut bound = Vec::new();
    for listener in &config.listeners {
        let socket = bind(listener.name.as_str(), listener.listen).await?;
        bound.push((listener.name.to_string(), socket.local_addr()?));
        let stack = stack.clone();
        let stats = stack.telemetry().listener(listener.name.as_str());
        let options = Options::new(listener, config.drain_timeout);
        let service = move |peer| {
            let stack = stack.clone();
            move |request| stack.clone().call(peer, request)
        };
        servers.spawn(serve(socket, service, options, stats, drain.clone()));
    }
    // The admin endpoint outlives the listeners: whoever watches a drain wants to see its end.
    let _admin = match &config.admin {
        Some(admin) => {
            let socket = bind("admin", admin.listen).await?;
            bound.push(("admin".to_owned(), socket.local_addr()?));
            let start = Instant::now();
            let sidecar = Sidecar { stack: stack.clone(), start, workers, seed };
            Some(serve_admin(socket, sidecar, controls.clone()))
        }
        None => None,
    };
    let tending = tokio::spawn(stack.clone().tend());
    let reloading = tokio::spawn(reload_on_hangup(stack.clone(), path.to_owned())?);
    for (name, addr) in &bound {
        say(&format!("{name} listens on {addr}"));
    }
    say(&format!("ready; seed {seed}"));
    stop.received(&controls.quit).await;
    say(&format!("draining for at most {}", humantime::format_duration(config.drain_timeout)));
    drain.cancel();
    let mut cut = 0;
    while let Some(result) = servers.join_next().await {
        cut += result.context("a listener's task failed")?;
    }
    tending.abort();
    reloading.abort();
    flush(&stack, exporter).await;
    match cut {
        0 => say("drained"),
        1 => say("drained; 1 connection was still busy and had to be cut"),
        n => say(&format!("drained; {n} connections were still busy and had to be cut")),
    }
    Ok(())
}

async fn bind(name: &str, addr: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(addr).await.with_context(|| {
        format!("cannot listen on {addr} for `{name}`; choose an address that is free and ours")
    })
}

fn exporter(config: &Config) -> anyhow::Result<Option<Arc<Exporter>>> {
    let Some(endpoint) = &config.tracing.otlp_endpoint else { return Ok(None) };
    Ok(Some(Exporter::start(endpoint, &config.tracing, Handle::current())?))
}

fn telemetry_parts(
    config: &Config,
    seed: u64,
    exporter: Option<Arc<Exporter>>,
) -> anyhow::Result<TelemetryParts> {
    let mut parts = TelemetryParts::starting(Instant::now().into_std());
    #[allow(clippy::disallowed_methods, reason = "the wall clock comes in here and nowhere else")]
    let wall_clock = Arc::new(SystemTime::now);
    parts.wall_clock = wall_clock.clone();
    parts.timeline = config.timeline;
    parts.access_log = config.access_log.as_ref().map(AccessLog::open).transpose()?;
    if let Some(sink) = exporter {
        let sample_ratio = config.tracing.sample_ratio;
        let rng = stream(seed, "trace");
        parts.tracer = Tracer::new(TracerParts { sample_ratio, rng, wall_clock, sink });
    }
    Ok(parts)
}

/// SIGHUP reads the configuration again, and lets a log that was moved away be rotated by opening the
/// file that has its name now.
fn reload_on_hangup(stack: Arc<Stack>, path: PathBuf) -> anyhow::Result<impl Future<Output = ()>> {
    let mut hangup = signal(SignalKind::hangup()).context("listening for SIGHUP")?;
    Ok(async move {
        while hangup.recv().await.is_some() {
            if let Some(log) = stack.telemetry().access_log() {
                log.reopen();
            }
            // It has said how it went.
            let _ = reload(&stack, &path);
        }
    })
}

/// Reads the configuration again and puts it in force. A file that is wrong, or that asks for what
/// only a new process can do, changes nothing.
fn reload(stack: &Stack, path: &Path) -> Result<String, String> {
    let result = match Config::load(path) {
        Ok(config) => stack.apply(config).map_err(|e| format!("{}: {e}", path.display())),
        Err(error) => {
            stack.refuse();
            Err(error.to_string())
        }
    };
    let result = result
        .map(|applied| applied.to_string())
        .map_err(|error| format!("{error}; configuration {} stays in force", stack.generation()));
    let (Ok(line) | Err(line)) = &result;
    say(line);
    result
}

async fn flush(stack: &Stack, exporter: Option<Arc<Exporter>>) {
    if let Some(log) = stack.telemetry().access_log()
        && !log.flush(FLUSH).await
    {
        say("the last lines of the access log could not be written in time");
    }
    if let Some(exporter) = exporter
        && !exporter.flush(FLUSH).await
    {
        say("the last spans could not be exported in time");
    }
}

/// Serves the admin endpoint until the returned set is dropped.
fn serve_admin(socket: TcpListener, sidecar: Sidecar, controls: Arc<Controls>) -> JoinSet<usize> {
    let stats = sidecar.stack.telemetry().listener("admin");
    let config = ListenerConfig::new("admin", SocketAddr::from(([127, 0, 0, 1], 0)));
    let options = Options::new(&config, Duration::ZERO);
    let admin = Admin::of(Arc::new(sidecar), controls);
    let service = move |_peer| {
        let admin = admin.clone();
        move |request| {
            let response = admin.answer(&request);
            async move { response }
        }
    };
    let mut set = JoinSet::new();
    set.spawn(serve(socket, service, options, stats, CancellationToken::new()));
    set
}

/// SIGTERM and SIGINT.
struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    fn new() -> anyhow::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate()).context("listening for SIGTERM")?,
            interrupt: signal(SignalKind::interrupt()).context("listening for SIGINT")?,
        })
    }

    async fn received(mut self, quit: &CancellationToken) {
        tokio::select! {
            biased;
            () = quit.cancelled() => {}
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
