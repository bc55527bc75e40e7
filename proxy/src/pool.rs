//! Connections to one endpoint: bounded, kept alive, and never shared by two requests.
//!
//! A request first takes a permit, of which there are as many as connections are allowed, and then
//! the connection that was used last, or dials. Idle connections only exist where permits are
//! free, so permits bound connections and requests in flight alike. Requests that find no permit
//! wait in a queue that is bounded in length and in time; [`crate::policy::limit::shed`] says who
//! of them is next and who gives up.
//!
//! Responses cannot cross: a connection comes back only after its response was read to the end
//! and hyper says that it is ready for another request. In every other case it is closed, and only
//! then is its permit free: the endpoint never sees more connections in use than it is allowed.

mod heard;
mod permit;

use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::sync::oneshot;
use tokio::time::Instant;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use self::heard::Heard;
use self::permit::{Found, Permit, State};
use crate::config::{ClusterConfig, EndpointAddr};
use crate::error::Refusal;
use crate::policy::limit::breaker::{Breaker, Kind};
use crate::policy::limit::shed::{ShedOptions, ShedQueue};
use crate::replay::ReplayBody;
use crate::seam::{BoxedIo, Dialer, dial};
use crate::task;
use crate::telemetry::Telemetry;
use crate::telemetry::event::{EndpointRef, Event, Limit, Named as _};

/// The body of the requests that are sent.
pub type OutBody = ReplayBody<Incoming>;

/// How long a connection whose response is complete may take to become ready again. It waits for
/// the rest of a request body that the endpoint answered without reading; past this, closing is
/// cheaper.
const SETTLE: Duration = Duration::from_secs(1);

/// Bytes that a message head may have, and that are read ahead of whoever reads. 64 KiB, about
/// Envoy's 60; hyper's own bound is 400.
pub(crate) const MAX_HEAD_BYTES: usize = 64 * 1024;

/// By how much of the configured age the ages of two connections differ at most, to either side.
const AGE_JITTER: f64 = 0.1;

/// The connections to one endpoint.
pub struct Pool {
    at: EndpointRef,
    addr: EndpointAddr,
    dialer: Dialer,
    connect_timeout: Duration,
    idle_timeout: Duration,
    max_age: Option<Duration>,
    max_requests: Option<NonZeroU64>,
    queue: ShedOptions,
    max_connections: usize,
    state: Mutex<State>,
    /// Connections made so far.
    made: AtomicU64,
    /// The cluster's limits, of which its pools have a part each.
    breaker: Arc<Breaker>,
    telemetry: Arc<Telemetry>,
}

/// What a pool holds at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolSnapshot {
    /// Connections lent, being made or being closed.
    pub in_use: usize,
    /// Connections kept for later, those included that the endpoint has closed since.
    pub idle: usize,
    /// Requests that wait for a connection.
    pub waiting: usize,
}

/// The near end of a connection; its task has the other. Dropping it closes the connection.
struct Connection {
    sender: SendRequest<OutBody>,
    close: oneshot::Sender<Permit>,
    terms: Terms,
    idle_since: Instant,
}

/// How long a connection may be used.
struct Terms {
    retires_at: Option<Instant>,
    requests_left: Option<u64>,
    heard: Heard,
}

impl Terms {
    fn allow_another(&self, now: Instant) -> bool {
        self.requests_left != Some(0) && self.retires_at.is_none_or(|at| now < at)
    }
}

impl Connection {
    fn is_usable(&self, idle_timeout: Duration, now: Instant) -> bool {
        !self.sender.is_closed()
            && now.duration_since(self.idle_since) < idle_timeout
            && self.terms.allow_another(now)
    }
}

/// A part of what a cluster allows at once, until it is dropped.
struct Room {
    breaker: Arc<Breaker>,
    kind: Kind,
}

impl Drop for Room {
    fn drop(&mut self) {
        self.breaker.leave(self.kind);
    }
}

/// A connection that is open, until it is dropped.
struct Open {
    at: EndpointRef,
    telemetry: Arc<Telemetry>,
}

impl Open {
    fn new(pool: &Pool) -> Self {
        pool.emit(&Event::ConnectionOpened { at: pool.at });
        Self { at: pool.at, telemetry: pool.telemetry.clone() }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let now = Instant::now().into_std();
        self.telemetry.emit(now, &Event::ConnectionClosed { at: self.at });
    }
}

/// The right to one connection, and the connection.
pub struct Lease {
    sender: SendRequest<OutBody>,
    hold: Hold,
    /// Freed with the lease.
    room: Room,
    terms: Terms,
    heard_before: u64,
    /// True when the connection has served a request before, so that it may be closed already
    /// without our knowing.
    pub reused: bool,
}

/// A permit that, unless it is taken back, outlives its connection.
struct Hold(Option<(oneshot::Sender<Permit>, Permit)>);

impl Drop for Hold {
    fn drop(&mut self) {
        if let Some((close, permit)) = self.0.take() {
            // A connection that has ended already gives the permit back in the error.
            drop(close.send(permit));
        }
    }
}

impl Pool {
    /// An empty pool.
    pub fn new(
        at: EndpointRef,
        dialer: Dialer,
        config: &ClusterConfig,
        breaker: Arc<Breaker>,
        telemetry: Arc<Telemetry>,
    ) -> Self {
        let max_connections = config.max_connections.get();
        let queue = config.shed_options();
        Self {
            at,
            addr: config.endpoints[at.endpoint.0].address.clone(),
            dialer,
            connect_timeout: config.connect_timeout,
            idle_timeout: config.idle_timeout,
            max_age: config.max_connection_age,
            max_requests: config.max_requests_per_connection,
            queue,
            max_connections,
            state: Mutex::new(State {
                free: max_connections,
                idle: Vec::new(),
                waiting: ShedQueue::new(queue),
                is_accepting: true,
            }),
            made: AtomicU64::new(0),
            breaker,
            telemetry,
        }
    }

    /// A connection to send one request on: an idle one, or a new one. Dropping the future gives
    /// up its place in the queue, or its permit, at once.
    ///
    /// # Errors
    /// [`Refusal::Overflow`] when too many wait, [`Refusal::QueueTimeout`] when it has waited for
    /// too long, [`Refusal::ConnectFailure`] when no connection can be made.
    // What is rare is in a box: see `retry::Call::attempt`.
    pub async fn lease(self: &Arc<Self>) -> Result<Lease, Refusal> {
        let (permit, idle) = match self.find() {
            Found::Permit(permit, idle) => (permit, idle),
            Found::Place(place) => {
                let _room = self.room(Kind::Pending, Limit::Pending)?;
                let permit = Box::pin(place.permit()).await?;
                (permit, self.lock().take_idle(self, Instant::now()))
            }
            Found::Full => {
                self.emit(&Event::QueueOverflowed { at: self.at });
                return Err(self.overflow());
            }
        };
        // Only connections in use count: idle ones to one endpoint must not keep requests from
        // another.
        let room = self.room(Kind::Connection, Limit::Connections)?;
        match idle {
            Some(connection) => Ok(Lease::new(connection, permit, room, true)),
            None => Box::pin(self.connect(permit, room)).await,
        }
    }

    /// A new connection in place of a reused one that turned out to be closed.
    ///
    /// # Errors
    /// [`Refusal::ConnectFailure`].
    pub async fn replace(self: &Arc<Self>, stale: Lease) -> Result<Lease, Refusal> {
        let Lease { mut hold, room, .. } = stale;
        match hold.0.take() {
            Some((_close, permit)) => Box::pin(self.connect(permit, room)).await,
            None => unreachable!("only the end of a lease takes its permit"),
        }
    }

    /// Closes idle connections that have not been used for the idle timeout, or are too old.
    pub fn close_old(&self, now: Instant) {
        self.lock().idle.retain(|idle| idle.is_usable(self.idle_timeout, now));
    }

    /// Closes all idle connections now, as for an endpoint that was ejected, drained or removed.
    /// Those in use go on.
    pub fn close_idle(&self) {
        let idle = std::mem::take(&mut self.lock().idle);
        drop(idle);
    }

    /// Whether connections that come back are kept. While they are not, they serve those who wait
    /// already and are closed then. To empty a pool for good, call this before
    /// [`Pool::close_idle`].
    pub fn set_accepting(&self, is_accepting: bool) {
        self.lock().is_accepting = is_accepting;
    }

    /// Open connections kept for later.
    pub fn idle_count(&self) -> usize {
        self.lock().idle.iter().filter(|idle| !idle.sender.is_closed()).count()
    }

    /// What it holds now.
    pub fn snapshot(&self) -> PoolSnapshot {
        let state = self.lock();
        PoolSnapshot {
            in_use: self.max_connections - state.free,
            idle: state.idle.len(),
            waiting: state.waiting.len(),
        }
    }

    fn overflow(&self) -> Refusal {
        Refusal::Overflow { endpoint: self.addr.clone(), limit: self.queue.max_waiting }
    }

    /// A part of what the cluster allows at once.
    fn room(&self, kind: Kind, limit: Limit) -> Result<Room, Refusal> {
        if self.breaker.try_enter(kind) {
            return Ok(Room { breaker: self.breaker.clone(), kind });
        }
        self.emit(&Event::LimitReached { cluster: self.at.cluster, limit });
        let bound = self.breaker.limit(kind);
        Err(Refusal::LimitReached { of: self.addr.to_string(), limit: limit.name(), bound })
    }

    fn emit(&self, event: &Event) {
        self.telemetry.emit(Instant::now().into_std(), event);
    }

    async fn connect(self: &Arc<Self>, permit: Permit, room: Room) -> Result<Lease, Refusal> {
        let failed = |reason: String| {
            self.emit(&Event::ConnectFailed { at: self.at });
            Refusal::ConnectFailure { endpoint: self.addr.clone(), reason }
        };
        let dialing = dial(self.dialer.clone(), self.addr.clone());
        let io = match tokio::time::timeout(self.connect_timeout, dialing).await {
            Ok(Ok(io)) => io,
            Ok(Err(error)) => return Err(failed(error.to_string())),
            Err(_elapsed) => {
                let limit = humantime::format_duration(self.connect_timeout);
                return Err(failed(format!("no connection within {limit}")));
            }
        };
        match self.open(io).await {
            Ok(connection) => Ok(Lease::new(connection, permit, room, false)),
            Err(error) => Err(failed(error.to_string())),
        }
    }

    /// Begins HTTP on a stream, in a task of its own.
    async fn open(&self, io: BoxedIo) -> Result<Connection, hyper::Error> {
        let now = Instant::now();
        let heard = Heard::default();
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(MAX_HEAD_BYTES)
            .handshake(TokioIo::new(heard.count(io)))
            .await?;
        let open = Open::new(self);
        let (close, closing) = oneshot::channel();
        task::spawn("upstream connection", async move {
            let permit = tokio::select! {
                biased;
                ended = connection => {
                    if let Err(error) = ended {
                        tracing::debug!(%error, "an upstream connection ended early");
                    }
                    None
                }
                // hyper alone would not do: it goes on while a request body is under way.
                permit = closing => permit.ok(),
            };
            drop(open);
            drop(permit);
        });
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        let terms = Terms {
            retires_at: self.max_age.map(|age| now + self.jittered(age, number)),
            requests_left: self.max_requests.map(NonZeroU64::get),
            heard,
        };
        Ok(Connection { sender, close, terms, idle_since: now })
    }

    /// An age that differs from connection to connection, and is the same in every run.
    fn jittered(&self, age: Duration, number: u64) -> Duration {
        let hash = xxh3_64_with_seed(self.addr.as_str().as_bytes(), number);
        let share = hash as f64 / u64::MAX as f64;
        age.mul_f64(1.0 - AGE_JITTER + 2.0 * AGE_JITTER * share)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that holds the lock can leave the state half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lease {
    fn new(connection: Connection, permit: Permit, room: Room, reused: bool) -> Self {
        let Connection { sender, close, mut terms, idle_since: _ } = connection;
        terms.requests_left = terms.requests_left.map(|left| left.saturating_sub(1));
        let heard_before = terms.heard.bytes();
        Self { sender, hold: Hold(Some((close, permit))), room, terms, heard_before, reused }
    }

    /// Sends on it.
    pub fn sender(&mut self) -> &mut SendRequest<OutBody> {
        &mut self.sender
    }

    /// True while not one byte has come since it was lent. A request that failed on a
    /// [`Lease::reused`] connection in silence most likely met the endpoint's idle close and was
    /// never read; as that is not certain, it may be sent again if doing it twice does no harm.
    pub fn is_silent(&self) -> bool {
        self.terms.heard.bytes() == self.heard_before
    }

    /// Gives the connection back after its response was read to the end.
    pub fn give_back(mut self) {
        if self.sender.is_ready() {
            self.keep();
        } else if !self.sender.is_closed() {
            task::spawn("connection return", async move {
                if let Ok(Ok(())) = tokio::time::timeout(SETTLE, self.sender.ready()).await {
                    self.keep();
                }
            });
        }
    }

    fn keep(mut self) {
        let now = Instant::now();
        let Some((close, permit)) = self.hold.0.take() else {
            unreachable!("only the end of a lease takes its permit")
        };
        let Some(pool) = permit.pool() else {
            unreachable!("a lease has its permit");
        };
        let mut state = pool.lock();
        let is_wanted = state.is_accepting || !state.waiting.is_empty();
        if !is_wanted || !self.terms.allow_another(now) {
            drop(state);
            // Closed, and only then is the permit free.
            self.hold.0 = Some((close, permit));
            return;
        }
        let Lease { sender, terms, .. } = self;
        state.idle.push(Connection { sender, close, terms, idle_since: now });
        if state.waiting.is_empty() {
            state.free += 1;
            drop(state);
            permit.put_back();
        } else {
            // Whoever waits finds the connection.
            drop(state);
            drop(permit);
        }
    }
}
