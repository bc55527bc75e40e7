//! The model of a service instance, and its log: the ground truth.
//!
//! A backend takes a request off the wire, waits for a worker if it has a limited number of them,
//! works for as long as its distribution says, asks other services in between if it is made so,
//! and answers. Everything about it can be changed while it runs, which is how faults are made. It
//! serves the same way in the simulated network and on real sockets.
//!
//! Service draws are a function of the seed, of the request's index and of the attempt alone. So
//! every strategy, whichever backend it sends a request to, is compared on the same draw for it; and
//! a retry or a hedge has a draw of its own, or it would meet the fate of the first.
//!
//! Two paths are answered beside the work, as an agent in front of the application would: what
//! its load is ([`LOAD_PATH`]) and whether it is well ([`HEALTH_PATH`]).

mod door;
mod floor;
mod journal;
mod pause;
mod settings;
mod station;
mod visit;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Body;
use proxy::listener::{self, serve};
use proxy::rng::stream;
use proxy::seam::Accept;
use proxy::telemetry::ListenerStats;
use rand::RngExt as _;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::door::Door;
use self::floor::Floor;
use self::journal::Journal;
use self::visit::{Kept, Visit};
use crate::call::Call;
use crate::clock::Clock;

pub use journal::{End, LogEntry, LogSink};
pub use settings::{Abandoned, ColdStart, Errors, MOST_WORKERS, Only, Settings};
pub use station::Discipline;
pub(crate) use visit::Asked;

/// Carries a request's index in the plan, in decimal.
pub const INDEX_HEADER: &str = "x-request-index";
/// Carries the place of a call among all that are made for one request, as a number that has no
/// other meaning than to be different for each.
pub const PLACE_HEADER: &str = "x-request-place";
/// Which attempt of its request this is, in decimal, as the sidecar counts them; the first if it is
/// absent.
pub const ATTEMPT_HEADER: &str = "x-envoy-attempt-count";
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
pub(crate) const WORDS_PER_REQUEST: u128 = 16;
/// Connections that a backend holds open at once; more than the ports of a client.
const MOST_CONNECTIONS: usize = 100_000;

/// What a backend is, and stays.
#[derive(Clone)]
pub struct Identity {
    /// Its name, such as `web-3`.
    pub name: String,
    /// The run's seed, from which it draws.
    pub seed: u64,
    /// The services that it asks for each request: group after group, those of a group at once.
    pub calls: Vec<Vec<Call>>,
    /// What it answers if all goes well; a line with its name if `None`.
    pub body: Option<Bytes>,
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
    /// Where requests are worked on and wait.
    floor: Floor,
    /// When the process last started; `None` if it has been there for ever.
    started: Mutex<Option<Duration>>,
    /// Work for callers who have left.
    kept: Mutex<JoinSet<()>>,
    journal: Mutex<Journal>,
    probes: AtomicU64,
}

impl Backend {
    /// A backend that is not yet serving. Complete log entries go to `sink`.
    pub fn new(identity: Identity, settings: Settings, sink: LogSink) -> Self {
        Self {
            shared: Arc::new(Shared {
                identity,
                floor: Floor::new(settings.rules()),
                settings: Mutex::new(settings),
                changed: Notify::new(),
                started: Mutex::new(None),
                kept: Mutex::new(JoinSet::new()),
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
        self.with(Settings::clone)
    }

    fn with<R>(&self, look: impl FnOnce(&Settings) -> R) -> R {
        look(&lock(&self.shared.settings))
    }

    /// Changes it; requests that are being worked on keep the service time they drew, but go on at
    /// another speed if the capacity is another.
    pub fn change(&self, change: impl FnOnce(&mut Settings)) {
        let rules = {
            let mut settings = lock(&self.shared.settings);
            change(&mut settings);
            settings.rules()
        };
        self.shared.floor.set(rules);
        self.shared.changed.notify_waiters();
    }

    /// How often it has begun to call each service, by the services' places.
    pub fn calls_made(&self) -> BTreeMap<usize, u64> {
        let mut made = BTreeMap::new();
        for call in self.shared.identity.calls.iter().flatten() {
            *made.entry(call.spec.service).or_default() += call.made.load(Ordering::Relaxed);
        }
        made
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
        let mut is_first = true;
        loop {
            let was_there = is_first && self.with(|s| s.up && !s.is_cold_at_start());
            self.until(|settings| settings.up).await;
            *lock(&self.shared.started) = (!was_there).then(|| clock.elapsed());
            is_first = false;
            let socket = bind().await?;
            tokio::select! {
                biased;
                // What loses is dropped: the listener closes and its connections are cut.
                () = self.until(|settings| !settings.up) => {}
                () = self.serve(clock, Door::new(self.clone(), socket, &bind)) => {}
            }
            // What was done for those who had left dies with the process.
            *lock(&self.shared.kept) = JoinSet::new();
            lock(&self.shared.journal).forget_speed();
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
        let fails = self.with(|settings| settings.errors.rate >= 1.0);
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
        let visit = Visit::begin(self.clone(), Asked::of(&head.headers), clock);
        // The whole request is read first, as an application would; nothing of it is kept.
        while let Some(Ok(_frame)) = body.frame().await {}
        let status = if self.with(|settings| settings.abandoned) == Abandoned::Cancel {
            visit.attend(&head).await
        } else {
            Kept::new(visit, head).await
        };
        self.response(status)
    }

    fn response(&self, status: StatusCode) -> Response<Full<Bytes>> {
        let Identity { name, body, .. } = &self.shared.identity;
        let body = match body {
            Some(body) if status.is_success() => body.clone(),
            _ => Bytes::from(format!("hello from {name}\n")),
        };
        let mut response = Response::new(Full::from(body));
        *response.status_mut() = status;
        if let Ok(name) = HeaderValue::from_str(name) {
            response.headers_mut().insert(BACKEND_HEADER.clone(), name);
        }
        response
    }

    /// What fate has in store for a request whose work begins now.
    fn draw(&self, asked: Asked, number: u64, head: &http::request::Parts, now: Duration) -> Draw {
        let Identity { name, seed, .. } = &self.shared.identity;
        // Without an index there is nothing to compare on, and backends of one seed should differ.
        let (mut rng, block) = match (asked.index, asked.place, asked.attempt) {
            (Some(index), 0, 1) => (stream(*seed, "service"), index),
            // Each call for a request has a draw of its own,
            (Some(index), place, 1) => (stream(*seed, &format!("service/{place}")), index),
            // and so has each attempt.
            (Some(index), place, nth) => (stream(*seed, &format!("service/{place}/{nth}")), index),
            (None, ..) => (stream(*seed, &format!("service/{name}")), number),
        };
        rng.set_word_pos(u128::from(block) * WORDS_PER_REQUEST);
        let uniform = rng.random();
        let chance: f64 = rng.random();
        self.with(|settings| {
            let errors = &settings.errors;
            let fails = chance < errors.rate && errors.can_hit(&head.method, head.uri.path());
            let time = match &errors.time {
                Some(time) if fails => time.draw(uniform),
                _ => {
                    let factor = settings.slowdown * self.coldness(settings, now);
                    settings.service_time.draw(uniform).mul_f64(factor)
                }
            };
            Draw { time, error: fails.then_some(errors.status) }
        })
    }

    /// How many times as long work takes because of the last start.
    fn coldness(&self, settings: &Settings, now: Duration) -> f64 {
        match (settings.cold_start, *lock(&self.shared.started)) {
            (Some(cold), Some(start)) => cold.factor_at(now.saturating_sub(start)),
            _ => 1.0,
        }
    }

    /// Waits until the settings are as `wanted`.
    async fn until(&self, wanted: impl Fn(&Settings) -> bool) {
        loop {
            let mut changed = std::pin::pin!(self.shared.changed.notified());
            // Listening begins before looking, so that no change falls in between.
            changed.as_mut().enable();
            if self.with(&wanted) {
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that holds one of these locks can leave its data half changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
