//! The model of a service instance, and its log: the ground truth.
//!
//! A backend takes a request off the wire, waits for a worker if it has a limited number of them,
//! works for as long as its distribution says, asks other services in between if it is made so,
//! and answers. Everything about it can be changed while it runs, which is how faults are made. It
//! serves the same way in the simulated network and on real sockets.
//!
//! Service draws are a function of the seed and of the request's index alone. So every strategy,
//! whichever backend it sends a request to, is compared on the same draw for it.
//!
//! Two paths are answered beside the work, as an agent in front of the application would: what
//! its load is ([`LOAD_PATH`]) and whether it is well ([`HEALTH_PATH`]).

mod door;
mod journal;
mod pause;
mod settings;

use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Body;
use proxy::listener::{self, serve};
use proxy::rng::stream;
use proxy::seam::Accept;
use proxy::telemetry::ListenerStats;
use rand::RngExt as _;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use self::door::Door;
use self::journal::Journal;
use crate::call::Call;
use crate::clock::Clock;

pub use journal::{End, LogEntry, LogSink};
pub use settings::{ColdStart, Errors, MOST_WORKERS, Settings};

/// Carries a request's index in the plan, in decimal.
pub const INDEX_HEADER: &str = "x-request-index";
/// Says in a response which backend it came from.
pub static BACKEND_HEADER: HeaderName = HeaderName::from_static("x-backend");

/// `GET` of it says in [`RIF_HEADER`] and [`LATENCY_HEADER`] how busy the backend is, for
/// balancers that probe.
pub const LOAD_PATH: &str = "/.well-known/load";
/// `GET` of it is answered with 200, or with 503 while every request would fail.
pub const HEALTH_PATH: &str = "/.well-known/health";
/// Requests that are in work or wait, in decimal.
pub static RIF_HEADER: HeaderName = HeaderName::from_static("x-load-rif");
/// The median latency of recent answers at about that number of requests, in microseconds; absent
/// before the first answer.
pub static LATENCY_HEADER: HeaderName = HeaderName::from_static("x-load-latency-us");

/// 32-bit words of the draw stream that belong to one request: one ChaCha block.
const WORDS_PER_REQUEST: u128 = 16;
/// Connections that a backend holds open at once; more than the ports of a client.
const MOST_CONNECTIONS: usize = 100_000;

/// What a backend is, and stays.
#[derive(Clone)]
pub struct Identity {
    /// Its name, such as `web-3`.
    pub name: String,
    /// The run's seed, from which it draws.
    pub seed: u64,
    /// The services that it asks for each request, one after the other.
    pub calls: Vec<Call>,
}

/// One instance of a service. Clones share it.
#[derive(Clone)]
pub struct Backend {
    shared: Arc<Shared>,
}

struct Shared {
    identity: Identity,
    settings: Mutex<Settings>,
    /// Wakes whoever waits for a change of the settings, in order of arrival.
    changed: Notify,
    /// Workers that are free; not used while their number is unlimited.
    workers: Mutex<Arc<Semaphore>>,
    /// Requests that wait for one.
    waiting: AtomicUsize,
    /// When the process last started, unless it has been there from the beginning.
    restarted: Mutex<Option<Duration>>,
    journal: Mutex<Journal>,
    probes: AtomicU64,
}

impl Backend {
    /// A backend that is not yet serving. Complete log entries go to `sink`.
    pub fn new(identity: Identity, settings: Settings, sink: LogSink) -> Self {
        let workers = Mutex::new(Arc::new(Semaphore::new(permits(settings.workers))));
        Self {
            shared: Arc::new(Shared {
                identity,
                settings: Mutex::new(settings),
                changed: Notify::new(),
                workers,
                waiting: AtomicUsize::new(0),
                restarted: Mutex::new(None),
                journal: Mutex::new(Journal::new(sink)),
                probes: AtomicU64::new(0),
            }),
        }
    }

    /// Its name, such as `web-3`.
    pub fn name(&self) -> &str {
        &self.shared.identity.name
    }

    /// What it is like now.
    pub fn settings(&self) -> Settings {
        *lock(&self.shared.settings)
    }

    /// Changes it; requests that are being worked on keep the service time they drew.
    pub fn change(&self, change: impl FnOnce(&mut Settings)) {
        let (before, after) = {
            let mut settings = lock(&self.shared.settings);
            let before = *settings;
            change(&mut settings);
            (before, *settings)
        };
        if before.workers != after.workers {
            // Those who hold or wait for a worker of the old set finish with it.
            *lock(&self.shared.workers) = Arc::new(Semaphore::new(permits(after.workers)));
        }
        self.shared.changed.notify_waiters();
    }

    /// Requests that are here now, in order of arrival.
    pub fn in_work(&self) -> Vec<LogEntry> {
        lock(&self.shared.journal).open().collect()
    }

    /// How often it was asked for its load or its health.
    pub fn probes(&self) -> u64 {
        self.shared.probes.load(Ordering::Relaxed)
    }

    /// Serves whenever it is up, on a socket from `bind`; never returns unless binding fails.
    ///
    /// # Errors
    /// That of `bind`.
    pub async fn run<A, F, E>(
        &self,
        clock: Clock,
        bind: impl Fn() -> F + Send + Sync,
    ) -> Result<(), E>
    where
        A: Accept + Sync,
        F: Future<Output = Result<A, E>> + Send,
        E: fmt::Display + Send,
    {
        loop {
            self.until(|settings| settings.up).await;
            let socket = bind().await?;
            tokio::select! {
                biased;
                // What loses is dropped: the listener closes and its connections are cut.
                () = self.until(|settings| !settings.up) => {}
                () = self.serve(clock, Door::new(self.clone(), socket, &bind)) => {}
            }
            lock(&self.shared.journal).forget_speed();
            self.until(|settings| settings.up).await;
            *lock(&self.shared.restarted) = Some(clock.elapsed());
        }
    }

    /// Serves on `socket` until dropped.
    pub async fn serve<A: Accept>(&self, clock: Clock, socket: A) {
        let options = listener::Options {
            max_connections: MOST_CONNECTIONS,
            // Longer than any scenario: a backend does not fail by itself.
            idle_timeout: Duration::from_secs(24 * 3600),
            date_header: false,
            drain_timeout: Duration::ZERO,
            ..listener::Options::default()
        };
        let backend = self.clone();
        let service = move |_peer| {
            let backend = backend.clone();
            move |request| {
                let backend = backend.clone();
                async move { backend.answer(request, clock).await }
            }
        };
        serve(socket, service, options, ListenerStats::default(), CancellationToken::new()).await;
    }

    /// Answers one request.
    pub async fn answer<B>(&self, request: Request<B>, clock: Clock) -> Response<Full<Bytes>>
    where
        B: Body + Unpin,
    {
        match request.uri().path() {
            LOAD_PATH if request.method() == Method::GET => self.tell_load().await,
            HEALTH_PATH if request.method() == Method::GET => self.tell_health().await,
            _ => self.work(request, clock).await,
        }
    }

    async fn tell_load(&self) -> Response<Full<Bytes>> {
        self.shared.probes.fetch_add(1, Ordering::Relaxed);
        self.until(|settings| !settings.hung).await;
        let (in_flight, latency) = {
            let journal = lock(&self.shared.journal);
            (journal.in_flight(), journal.usual_latency())
        };
        let mut response = Response::new(Full::default());
        let headers = response.headers_mut();
        headers.insert(RIF_HEADER.clone(), in_flight.into());
        if let Some(micros) = latency.and_then(|latency| u64::try_from(latency.as_micros()).ok()) {
            headers.insert(LATENCY_HEADER.clone(), micros.into());
        }
        response
    }

    async fn tell_health(&self) -> Response<Full<Bytes>> {
        self.shared.probes.fetch_add(1, Ordering::Relaxed);
        self.until(|settings| !settings.hung).await;
        let fails = self.settings().errors.rate >= 1.0;
        let mut response = Response::new(Full::default());
        *response.status_mut() =
            if fails { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
        response
    }

    /// Works on one request.
    async fn work<B>(&self, request: Request<B>, clock: Clock) -> Response<Full<Bytes>>
    where
        B: Body + Unpin,
    {
        let (head, mut body) = request.into_parts();
        let index = index_of(&head.headers);
        let mut visit = Visit::begin(self, index, clock);
        // The whole request is read first, as an application would; nothing of it is kept.
        while let Some(Ok(_frame)) = body.frame().await {}
        self.until(|settings| !settings.holds_new()).await;
        let Ok(worker) = self.worker().await else {
            visit.answered(StatusCode::SERVICE_UNAVAILABLE);
            return self.response(StatusCode::SERVICE_UNAVAILABLE);
        };
        visit.started();
        let draw = self.draw(index, visit.number, clock.elapsed());
        let called = self.work_and_call(draw.time, &head).await;
        self.until(|settings| !settings.hung).await;
        drop(worker);
        let status = match (called, draw.error) {
            (Err(status), _) | (Ok(()), Some(status)) => status,
            (Ok(()), None) => StatusCode::OK,
        };
        visit.answered(status);
        self.response(status)
    }

    /// The work in equal parts, with a call between each two of them.
    async fn work_and_call(
        &self,
        time: Duration,
        head: &http::request::Parts,
    ) -> Result<(), StatusCode> {
        let calls = &self.shared.identity.calls;
        let part = time / u32::try_from(calls.len() + 1).unwrap_or(u32::MAX);
        self.sleep(part).await;
        for call in calls {
            self.until(|settings| !settings.hung).await;
            call.make(&head.method, &head.headers).await?;
            self.sleep(part).await;
        }
        Ok(())
    }

    fn response(&self, status: StatusCode) -> Response<Full<Bytes>> {
        let name = self.name();
        let mut response = Response::new(Full::from(format!("hello from {name}\n")));
        *response.status_mut() = status;
        if let Ok(name) = HeaderValue::from_str(name) {
            response.headers_mut().insert(BACKEND_HEADER.clone(), name);
        }
        response
    }

    /// What fate has in store for a request whose work begins now.
    fn draw(&self, index: Option<u64>, number: u64, now: Duration) -> Draw {
        let settings = self.settings();
        let Identity { name, seed, .. } = &self.shared.identity;
        // Without an index there is nothing to compare on, and backends of one seed should differ.
        let (mut rng, place) = match index {
            Some(index) => (stream(*seed, "service"), index),
            None => (stream(*seed, &format!("service/{name}")), number),
        };
        rng.set_word_pos(u128::from(place) * WORDS_PER_REQUEST);
        let uniform = rng.random();
        let errors = settings.errors;
        let error = (rng.random::<f64>() < errors.rate).then_some(errors.status);
        let time = match (error, errors.time) {
            (Some(_), Some(time)) => time.draw(uniform),
            _ => {
                let factor = settings.slowdown * self.coldness(&settings, now);
                settings.service_time.draw(uniform).mul_f64(factor)
            }
        };
        Draw { time, error }
    }

    /// How many times as long work takes because of the last start.
    fn coldness(&self, settings: &Settings, now: Duration) -> f64 {
        match (settings.cold_start, *lock(&self.shared.restarted)) {
            (Some(cold), Some(start)) => cold.factor_at(now.saturating_sub(start)),
            _ => 1.0,
        }
    }

    /// Waits for a worker, unless there are as many as anyone wants.
    async fn worker(&self) -> Result<Option<OwnedSemaphorePermit>, QueueFull> {
        let settings = self.settings();
        if settings.workers.is_none() {
            return Ok(None);
        }
        let workers = lock(&self.shared.workers).clone();
        // A worker that becomes free belongs to those who wait, so this overtakes nobody.
        if let Ok(worker) = workers.clone().try_acquire_owned() {
            return Ok(Some(worker));
        }
        let waiting = Waiting::begin(&self.shared.waiting);
        if settings.queue.is_some_and(|most| waiting.before >= most) {
            return Err(QueueFull);
        }
        // The set of workers is never closed; without one the request goes on at once.
        Ok(workers.acquire_owned().await.ok())
    }

    /// Waits until the settings are as `wanted`.
    async fn until(&self, wanted: impl Fn(&Settings) -> bool) {
        loop {
            let mut changed = std::pin::pin!(self.shared.changed.notified());
            // Listening begins before looking, so that no change falls in between.
            changed.as_mut().enable();
            if wanted(&self.settings()) {
                return;
            }
            changed.await;
        }
    }
}

/// What becomes of one request.
struct Draw {
    time: Duration,
    /// The status of the error that the work ends in, if it does.
    error: Option<StatusCode>,
}

/// No worker is free and no more may wait.
struct QueueFull;

/// One request in the queue.
struct Waiting<'a> {
    count: &'a AtomicUsize,
    /// How many others were there first.
    before: usize,
}

impl<'a> Waiting<'a> {
    fn begin(count: &'a AtomicUsize) -> Self {
        Self { count, before: count.fetch_add(1, Ordering::Relaxed) }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}

fn permits(workers: Option<usize>) -> usize {
    workers.unwrap_or(MOST_WORKERS).min(MOST_WORKERS)
}

/// The index that a request carries.
pub(crate) fn index_of(headers: &HeaderMap) -> Option<u64> {
    headers.get(INDEX_HEADER)?.to_str().ok()?.parse().ok()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that holds one of these locks can leave its data half changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One request at a backend: writes its line of the log, whatever way it ends.
struct Visit<'a> {
    backend: &'a Backend,
    number: u64,
    clock: Clock,
    answered: Option<StatusCode>,
}

impl<'a> Visit<'a> {
    fn begin(backend: &'a Backend, index: Option<u64>, clock: Clock) -> Self {
        let number = lock(&backend.shared.journal).begin(index, clock.elapsed());
        Self { backend, number, clock, answered: None }
    }

    fn started(&mut self) {
        lock(&self.backend.shared.journal).started(self.number, self.clock.elapsed());
    }

    fn answered(mut self, status: StatusCode) {
        self.answered = Some(status);
    }
}

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        let end = match self.answered {
            Some(status) => End::Answered(status),
            None if self.backend.settings().up => End::Cancelled,
            None => End::Crashed,
        };
        lock(&self.backend.shared.journal).end(self.number, end, self.clock.elapsed());
    }
}
