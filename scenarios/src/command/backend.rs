//! `meshbench backend`: the simulator's backend model on a real socket.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use proxy::listener::{Options, serve};
use proxy::telemetry::ListenerStats;
use serde::{Deserialize, Serialize};
use sim::backend::{End, Errors, Identity, LogEntry, LogSink, MOST_WORKERS, Settings};
use sim::clock::Clock;
use sim::{Backend, ServiceTime};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::{HELD, say};

/// A settings document is a few hundred bytes.
const MOST_SETTINGS_BYTES: usize = 64 * 1024;

#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Address to serve on
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9001")]
    listen: SocketAddr,

    /// What it calls itself in the `x-backend` header of its answers
    #[arg(long, value_name = "NAME", default_value = "backend")]
    name: String,

    /// How long it works on a request: 10ms, normal:MEAN,SD, lognormal:MEDIAN,P99
    /// or exponential:MEAN
    #[arg(long, value_name = "TIME", default_value = "10ms")]
    service_time: ServiceTime,

    /// Requests that it works on at once; others queue. All of them if not given
    #[arg(long, value_name = "COUNT", value_parser = workers)]
    workers: Option<usize>,

    /// Probability that the work ends in a 500, from 0 to 1
    #[arg(long, value_name = "RATE", default_value = "0", value_parser = probability)]
    error_rate: f64,

    /// Where its random choices come from
    #[arg(long, default_value_t = 1)]
    seed: u64,

    /// Write a line of JSON for each request to this file
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,

    /// Address on which it can be changed while it runs
    #[arg(long, value_name = "ADDR")]
    control: Option<SocketAddr>,
}

const EXAMPLES: &str = "\
Examples:
  meshbench backend --listen 127.0.0.1:9001 --name web-0 --log web-0.jsonl
  meshbench backend --service-time lognormal:20ms,200ms --workers 4
  meshbench backend --control 127.0.0.1:9101
    curl 127.0.0.1:9101/settings
    curl 127.0.0.1:9101/settings -d '{\"service_time\": \"2s\"}'
    curl 127.0.0.1:9101/settings -d '{\"error_rate\": 0.5, \"hung\": false}'
    curl 127.0.0.1:9101/settings -d '{\"up\": false}'
    curl 127.0.0.1:9101/log";

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<u8> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the runtime")?
        .block_on(serve_until_signal(arguments))
}

async fn serve_until_signal(arguments: &Arguments) -> anyhow::Result<u8> {
    let settings = Settings {
        workers: arguments.workers,
        errors: Errors::at_rate(arguments.error_rate),
        ..Settings::healthy(arguments.service_time.clone())
    };
    let log = Log::open(arguments.log.as_deref())?;
    let name = arguments.name.clone();
    let identity = Identity { name, seed: arguments.seed, calls: Vec::new(), body: None };
    let backend = Backend::new(identity, settings, log.sink());
    let clock = Clock::start();
    let socket = bind(arguments.listen).await?;
    // The port that was given, or the one that the system chose for port 0.
    let addr = socket.local_addr().context("reading the address")?;
    let first = Mutex::new(Some(socket));
    let control = match arguments.control {
        Some(addr) => Some(bind(addr).await?),
        None => None,
    };
    say(&format!("{} listens on {addr}; {}", arguments.name, arguments.service_time));
    if let Some(control) = &control {
        let addr = control.local_addr().context("reading the address")?;
        say(&format!("{} is changed on {addr}", arguments.name));
    }
    let listen = || async {
        let first = first.lock().unwrap_or_else(PoisonError::into_inner).take();
        match first {
            Some(socket) => Ok(socket),
            None => bind(addr).await,
        }
    };
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
    tokio::select! {
        biased;
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        failed = backend.run(clock, listen) => failed?,
        () = serve_control(control, &backend, &log) => {}
    }
    let totals = log.close()?;
    say(&format!("{} {totals}", arguments.name));
    Ok(HELD)
}

async fn bind(addr: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(addr).await.with_context(|| {
        format!("cannot listen on {addr}; choose an address that is free and ours")
    })
}

fn workers(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count) if (1..=MOST_WORKERS).contains(&count) => Ok(count),
        _ => Err(format!("write a number from 1 to {MOST_WORKERS}")),
    }
}

fn probability(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(value) if (0.0..=1.0).contains(&value) => Ok(value),
        _ => Err("write a number from 0 to 1".to_owned()),
    }
}

/// Counts and writes down what the backend served.
#[derive(Clone)]
struct Log(Arc<Mutex<Book>>);

struct Book {
    totals: Totals,
    file: Option<BufWriter<File>>,
    /// The first failure to write; later lines are not tried.
    failed: Option<std::io::Error>,
}

/// Requests by how they ended.
#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Totals {
    ended: u64,
    ok: u64,
    errors: u64,
    cancelled: u64,
    crashed: u64,
}

impl std::fmt::Display for Totals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Totals { ended, ok, errors, cancelled, crashed } = self;
        write!(
            f,
            "served {ended} requests: {ok} ok, {errors} errors, {cancelled} cancelled, \
             {crashed} cut by a crash"
        )
    }
}

/// A line of the log file. Times are microseconds since the backend started.
#[derive(Serialize)]
struct Line {
    index: Option<u64>,
    arrived_us: u64,
    started_us: Option<u64>,
    ended_us: u64,
    end: &'static str,
    status: Option<u16>,
}

impl Log {
    fn open(path: Option<&Path>) -> anyhow::Result<Self> {
        let open = |path: &Path| {
            File::create(path).with_context(|| format!("cannot write the log {}", path.display()))
        };
        let file = path.map(open).transpose()?.map(BufWriter::new);
        let book = Book { totals: Totals::default(), file, failed: None };
        Ok(Self(Arc::new(Mutex::new(book))))
    }

    fn sink(&self) -> LogSink {
        let book = self.0.clone();
        Box::new(move |entry| book.lock().unwrap_or_else(PoisonError::into_inner).note(entry))
    }

    fn totals(&self) -> Totals {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).totals
    }

    /// Writes what is buffered.
    fn close(&self) -> anyhow::Result<Totals> {
        let mut book = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = book.failed.take() {
            return Err(error).context("writing the log");
        }
        if let Some(file) = &mut book.file {
            file.flush().context("writing the log")?;
        }
        Ok(book.totals)
    }
}

impl Book {
    fn note(&mut self, entry: &LogEntry) {
        let Some((end, at)) = entry.end else { return };
        let totals = &mut self.totals;
        totals.ended += 1;
        let (words, status) = match end {
            End::Answered(status) if status < StatusCode::BAD_REQUEST => {
                totals.ok += 1;
                ("answered", Some(status.as_u16()))
            }
            End::Answered(status) => {
                totals.errors += 1;
                ("answered", Some(status.as_u16()))
            }
            End::Cancelled => {
                totals.cancelled += 1;
                ("cancelled", None)
            }
            End::Crashed => {
                totals.crashed += 1;
                ("crashed", None)
            }
        };
        let micros = |time: Duration| time.as_micros() as u64;
        let line = Line {
            index: entry.index,
            arrived_us: micros(entry.arrived),
            started_us: entry.started.map(micros),
            ended_us: micros(at),
            end: words,
            status,
        };
        if let Some(file) = &mut self.file
            && self.failed.is_none()
        {
            let written = serde_json::to_writer(&mut *file, &line).map_err(std::io::Error::from);
            self.failed = written.and_then(|()| file.write_all(b"\n")).err();
        }
    }
}

/// Changes to a backend's settings; what is absent stays.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SettingsChange {
    service_time: Option<String>,
    workers: Option<usize>,
    error_rate: Option<f64>,
    hung: Option<bool>,
    up: Option<bool>,
}

/// A backend's settings, as they are shown.
#[derive(Serialize)]
struct SettingsView {
    service_time: String,
    workers: Option<usize>,
    error_rate: f64,
    hung: bool,
    up: bool,
}

async fn serve_control(socket: Option<TcpListener>, backend: &Backend, log: &Log) {
    let Some(socket) = socket else { return std::future::pending().await };
    let options =
        Options { max_connections: 16, drain_timeout: Duration::ZERO, ..Options::default() };
    let (backend, log) = (backend.clone(), log.clone());
    let service = move |_peer| {
        let (backend, log) = (backend.clone(), log.clone());
        move |request| {
            let (backend, log) = (backend.clone(), log.clone());
            async move { control(request, &backend, &log).await }
        }
    };
    serve(socket, service, options, ListenerStats::default(), CancellationToken::new()).await;
}

async fn control(
    request: Request<Incoming>,
    backend: &Backend,
    log: &Log,
) -> Response<Full<Bytes>> {
    match (request.method().clone(), request.uri().path()) {
        (Method::GET, "/settings") => settings(backend),
        (Method::GET, "/log") => json(&log.totals()),
        (Method::POST | Method::PUT, "/settings") => {
            let body = Limited::new(request.into_body(), MOST_SETTINGS_BYTES).collect().await;
            let body = match body {
                Ok(body) => body.to_bytes(),
                Err(error) => return plain(StatusCode::BAD_REQUEST, &error.to_string()),
            };
            match change(backend, &body) {
                Ok(()) => settings(backend),
                Err(reason) => plain(StatusCode::BAD_REQUEST, &reason),
            }
        }
        (_, "/settings" | "/log") => {
            plain(StatusCode::METHOD_NOT_ALLOWED, "GET /log, GET or POST /settings")
        }
        (_, path) => {
            plain(StatusCode::NOT_FOUND, &format!("there is no {path} here; /settings and /log"))
        }
    }
}

fn change(backend: &Backend, body: &[u8]) -> Result<(), String> {
    let change: SettingsChange = serde_json::from_slice(body).map_err(|e| e.to_string())?;
    let service_time = change.service_time.as_deref().map(str::parse).transpose()?;
    if change.error_rate.is_some_and(|rate| !(0.0..=1.0).contains(&rate)) {
        return Err("error_rate: write a number from 0 to 1".to_owned());
    }
    if change.workers.is_some_and(|count| !(1..=MOST_WORKERS).contains(&count)) {
        return Err(format!("workers: write a number from 1 to {MOST_WORKERS}"));
    }
    backend.change(|settings| {
        settings.service_time = service_time.unwrap_or(settings.service_time.clone());
        settings.workers = change.workers.or(settings.workers);
        settings.errors.rate = change.error_rate.unwrap_or(settings.errors.rate);
        settings.hung = change.hung.unwrap_or(settings.hung);
        settings.up = change.up.unwrap_or(settings.up);
    });
    Ok(())
}

fn settings(backend: &Backend) -> Response<Full<Bytes>> {
    let Settings { service_time, workers, errors, hung, up, .. } = backend.settings();
    let service_time = service_time.to_string();
    json(&SettingsView { service_time, workers, error_rate: errors.rate, hung, up })
}

fn json(value: &impl Serialize) -> Response<Full<Bytes>> {
    match serde_json::to_string(value) {
        Ok(text) => Response::new(Full::from(text + "\n")),
        Err(error) => plain(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

fn plain(status: StatusCode, line: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(format!("{line}\n")));
    *response.status_mut() = status;
    response
}
