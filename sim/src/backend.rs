//! The model of a service instance, and its log: the ground truth.
//!
//! A backend takes a request off the wire, waits for a worker if it has a limited number of them,
//! works for as long as its distribution says, and answers. Everything about it can be changed
//! while it runs, which is how faults are made. It serves the same way in the simulated network
//! and on real sockets.
//!
//! Service draws are a function of the seed and of the request's index alone. So every strategy,
//! whichever backend it sends a request to, is compared on the same draw for it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Body;
use proxy::listener::{self, serve};
use proxy::rng::stream;
use proxy::seam::Accept;
use proxy::telemetry::ListenerStats;
use rand::RngExt as _;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::service_time::ServiceTime;

/// Carries a request's index in the plan, in decimal.
pub const INDEX_HEADER: &str = "x-request-index";
/// Says in a response which backend it came from.
pub static BACKEND_HEADER: HeaderName = HeaderName::from_static("x-backend");

/// 32-bit words of the draw stream that belong to one request: one ChaCha block.
const WORDS_PER_REQUEST: u128 = 16;
/// The most workers that a backend can have: far more than requests that can be in flight.
pub const MOST_WORKERS: usize = 1_000_000;
/// Connections that a backend holds open at once; more than the ports of a client.
const MOST_CONNECTIONS: usize = 100_000;

/// What a backend is like at the moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// How long it works on a request.
    pub service_time: ServiceTime,
    /// Requests that it works on at once, at most [`MOST_WORKERS`]; others wait in order of arrival.
    /// `None`: all of them.
    pub workers: Option<usize>,
    /// Probability that the work ends in an error, 0 to 1.
    pub error_rate: f64,
    /// While set, no request moves on: none starts and none is answered.
    pub hung: bool,
    /// While not set, its process is dead: nothing listens.
    pub up: bool,
}

impl Settings {
    /// A healthy backend that works on any number of requests at once.
    pub fn healthy(service_time: ServiceTime) -> Self {
        Self { service_time, workers: None, error_rate: 0.0, hung: false, up: true }
    }
}

/// One line of a backend's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// The request's index in the plan, if it carried one.
    pub index: Option<u64>,
    /// When it arrived, from the start of the run.
    pub arrived: Duration,
    /// When work on it began; `None` if it never did.
    pub started: Option<Duration>,
    /// How and when it ended; `None` while it is being worked on.
    pub end: Option<(End, Duration)>,
}

/// How a request ended at the backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It was answered with this status.
    Answered(StatusCode),
    /// The caller left before it was answered.
    Cancelled,
    /// The process died.
    Crashed,
}

/// Receives each entry of a log when it is complete.
pub type LogSink = Box<dyn FnMut(&LogEntry) + Send>;

/// One instance of a service. Clones share it.
#[derive(Clone)]
pub struct Backend {
    shared: Arc<Shared>,
}

struct Shared {
    name: String,
    seed: u64,
    settings: Mutex<Settings>,
    /// Wakes whoever waits for a change of the settings, in order of arrival.
    changed: Notify,
    /// Workers that are free; not used while their number is unlimited.
    workers: Mutex<Arc<Semaphore>>,
    journal: Mutex<Journal>,
}

struct Journal {
    /// By a number of ours, in order of arrival.
    open: BTreeMap<u64, LogEntry>,
    next: u64,
    sink: LogSink,
}

impl Backend {
    /// A backend that is not yet serving. `seed` is the run's; complete log entries go to `sink`.
    pub fn new(name: impl Into<String>, seed: u64, settings: Settings, sink: LogSink) -> Self {
        let workers = Mutex::new(Arc::new(Semaphore::new(permits(settings.workers))));
        let journal = Journal { open: BTreeMap::new(), next: 0, sink };
        Self {
            shared: Arc::new(Shared {
                name: name.into(),
                seed,
                settings: Mutex::new(settings),
                changed: Notify::new(),
                workers,
                journal: Mutex::new(journal),
            }),
        }
    }

    /// Its name, such as `web-3`.
    pub fn name(&self) -> &str {
        &self.shared.name
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
        lock(&self.shared.journal).open.values().copied().collect()
    }

    /// Serves whenever it is up, on a socket from `bind`; never returns unless binding fails.
    ///
    /// # Errors
    /// That of `bind`.
    pub async fn run<A, F, E>(&self, clock: Clock, bind: impl Fn() -> F) -> Result<(), E>
    where
        A: Accept,
        F: Future<Output = Result<A, E>>,
    {
        loop {
            self.until(|settings| settings.up).await;
            let socket = bind().await?;
            tokio::select! {
                biased;
                // What loses is dropped: the listener closes and its connections are cut.
                () = self.until(|settings| !settings.up) => {}
                () = self.serve(clock, socket) => {}
            }
        }
    }

    /// Serves on `socket` until dropped.
    pub async fn serve<A: Accept>(&self, clock: Clock, socket: A) {
        let options = listener::Options {
            max_connections: MOST_CONNECTIONS,
            header_timeout: Duration::from_secs(24 * 3600),
            date_header: false,
            drain_timeout: Duration::ZERO,
        };
        let backend = self.clone();
        let service = move |request| {
            let backend = backend.clone();
            async move { backend.answer(request, clock).await }
        };
        serve(socket, service, options, ListenerStats::default(), CancellationToken::new()).await;
    }

    /// Works on one request.
    pub async fn answer<B>(&self, request: Request<B>, clock: Clock) -> Response<Full<Bytes>>
    where
        B: Body + Unpin,
    {
        let index = index_of(&request);
        let mut visit = Visit::begin(self, index, clock);
        // The whole request is read first, as an application would; nothing of it is kept.
        let mut body = request.into_body();
        while let Some(Ok(_frame)) = body.frame().await {}
        self.until(|settings| !settings.hung).await;
        let worker = self.worker().await;
        visit.started();
        let (time, failed) = self.draw(index, visit.number);
        tokio::time::sleep(time).await;
        self.until(|settings| !settings.hung).await;
        drop(worker);
        let status = if failed { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::OK };
        visit.answered(status);
        self.response(status)
    }

    fn response(&self, status: StatusCode) -> Response<Full<Bytes>> {
        let name = &self.shared.name;
        let mut response = Response::new(Full::from(format!("hello from {name}\n")));
        *response.status_mut() = status;
        if let Ok(name) = HeaderValue::from_str(name) {
            response.headers_mut().insert(BACKEND_HEADER.clone(), name);
        }
        response
    }

    /// The service time of a request, and whether its work ends in an error.
    fn draw(&self, index: Option<u64>, number: u64) -> (Duration, bool) {
        let settings = self.settings();
        // Without an index there is nothing to compare on, and backends of one seed should differ.
        let (mut rng, place) = match index {
            Some(index) => (stream(self.shared.seed, "service"), index),
            None => (stream(self.shared.seed, &format!("service/{}", self.shared.name)), number),
        };
        rng.set_word_pos(u128::from(place) * WORDS_PER_REQUEST);
        let time = settings.service_time.draw(rng.random());
        let failed = rng.random::<f64>() < settings.error_rate;
        (time, failed)
    }

    /// Waits for a worker, unless there are as many as anyone wants.
    async fn worker(&self) -> Option<OwnedSemaphorePermit> {
        self.settings().workers?;
        let workers = lock(&self.shared.workers).clone();
        // The set of workers is never closed; without one the request goes on at once.
        workers.acquire_owned().await.ok()
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

fn permits(workers: Option<usize>) -> usize {
    workers.unwrap_or(MOST_WORKERS).min(MOST_WORKERS)
}

fn index_of<B>(request: &Request<B>) -> Option<u64> {
    request.headers().get(INDEX_HEADER)?.to_str().ok()?.parse().ok()
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
        let entry = LogEntry { index, arrived: clock.elapsed(), started: None, end: None };
        let mut journal = lock(&backend.shared.journal);
        let number = journal.next;
        journal.next += 1;
        journal.open.insert(number, entry);
        Self { backend, number, clock, answered: None }
    }

    fn started(&mut self) {
        if let Some(entry) = lock(&self.backend.shared.journal).open.get_mut(&self.number) {
            entry.started = Some(self.clock.elapsed());
        }
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
        let at = self.clock.elapsed();
        let mut journal = lock(&self.backend.shared.journal);
        if let Some(mut entry) = journal.open.remove(&self.number) {
            entry.end = Some((end, at));
            (journal.sink)(&entry);
        }
    }
}
