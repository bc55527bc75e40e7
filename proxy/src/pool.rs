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

use std::future::Future;
use std::num::NonZeroU64;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use pin_project_lite::pin_project;
use tokio::sync::oneshot;
use tokio::time::Instant;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use self::heard::Heard;
use self::permit::{Found, Permit, Place, State};
use crate::alarm::Alarm;
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

/// What keeps an endpoint's place taken: whoever may still speak of the endpoint by its place, such
/// as a request or an open connection, has one, or something that has one.
#[derive(Debug, Default)]
pub struct SeatHold {
    /// The same for its cluster.
    _cluster: Arc<()>,
}

impl SeatHold {
    /// On an endpoint of the cluster that `cluster` is a hold on.
    pub fn new(cluster: &Arc<()>) -> Arc<Self> {
        Arc::new(Self { _cluster: cluster.clone() })
    }
}

/// Whose connections a pool is to hold.
pub struct PoolParts {
    /// The endpoint's place.
    pub at: EndpointRef,
    /// Where it is.
    pub addr: EndpointAddr,
    /// What keeps its place taken.
    pub hold: Arc<SeatHold>,
}

/// The connections to one endpoint.
pub struct Pool {
    at: EndpointRef,
    hold: Arc<SeatHold>,
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
    alarm: Alarm,
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
    _hold: Arc<SeatHold>,
    telemetry: Arc<Telemetry>,
}

impl Open {
    fn new(pool: &Pool) -> Self {
        pool.emit(&Event::ConnectionOpened { at: pool.at });
        Self { at: pool.at, _hold: pool.hold.clone(), telemetry: pool.telemetry.clone() }
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
    /// The connection's, for the deadlines of its requests one after the other.
    alarm: Alarm,
    heard_before: u64,
    /// True when the connection has served a request before, so that it may be closed already
    /// without our knowing.
    pub reused: bool,
}

/// What a request gets that comes for a connection.
pub(crate) enum Asked {
    /// All are in use.
    Queued(Queued),
    /// It may have one.
    Granted(Granted),
}

/// A request that has its permit.
pub(crate) enum Granted {
    /// And a connection, which was idle.
    Lent(Lease),
    /// And has to make one.
    Unconnected(Unconnected),
}

/// A place in the queue; dropping it gives it up.
pub(crate) struct Queued {
    pool: Arc<Pool>,
    place: Place,
    /// Among those who wait.
    room: Room,
}

/// The right to make a connection; dropping it passes it on.
pub struct Unconnected {
    permit: Permit,
    room: Room,
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
        parts: PoolParts,
        dialer: Dialer,
        config: &ClusterConfig,
        breaker: Arc<Breaker>,
        telemetry: Arc<Telemetry>,
    ) -> Self {
        let PoolParts { at, addr, hold } = parts;
        let max_connections = config.max_connections.get();
        let queue = config.shed_options();
        Self {
            at,
            addr,
            hold,
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
    pub async fn lease(self: &Arc<Self>) -> Result<Lease, Refusal> {
        let granted = match self.ask(Instant::now())? {
            Asked::Granted(granted) => granted,
            Asked::Queued(queued) => queued.wait().await?,
        };
        match granted {
            Granted::Lent(lease) => Ok(lease),
            Granted::Unconnected(unconnected) => unconnected.connect().await,
        }
    }

    /// The same step by step, so that who runs out of time knows what took it. This one takes none.
    ///
    /// # Errors
    /// [`Refusal::Overflow`] and [`Refusal::LimitReached`].
    pub(crate) fn ask(self: &Arc<Self>, now: Instant) -> Result<Asked, Refusal> {
        match self.find(now) {
            Found::Permit(permit, idle) => self.grant(permit, idle).map(Asked::Granted),
            Found::Place(place) => {
                let room = self.room(Kind::Pending, Limit::Pending)?;
                Ok(Asked::Queued(Queued { pool: self.clone(), place, room }))
            }
            Found::Full => {
                self.emit(&Event::QueueOverflowed { at: self.at });
                Err(self.overflow())
            }
        }
    }

    fn grant(&self, permit: Permit, idle: Option<Connection>) -> Result<Granted, Refusal> {
        // Only connections in use count: idle ones to one endpoint must not keep requests from
        // another.
        let room = self.room(Kind::Connection, Limit::Connections)?;
        Ok(match idle {
            Some(connection) => Granted::Lent(Lease::new(connection, permit, room, true)),
            None => Granted::Unconnected(Unconnected { permit, room }),
        })
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

    /// What keeps its endpoint's place taken.
    pub fn hold(&self) -> &Arc<SeatHold> {
        &self.hold
    }

    /// True when it belongs to the endpoint that `hold` is on.
    pub fn is_of(&self, hold: &Arc<SeatHold>) -> bool {
        Arc::ptr_eq(&self.hold, hold)
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

    async fn dial(self: &Arc<Self>) -> Result<Connection, Refusal> {
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
        self.open(io).await.map_err(|error| failed(error.to_string()))
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
        Ok(Connection { sender, close, terms, alarm: Alarm::default(), idle_since: now })
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

impl Queued {
    /// Waits for its turn.
    ///
    /// # Errors
    /// As [`Pool::lease`], but for connecting.
    pub(crate) async fn wait(self) -> Result<Granted, Refusal> {
        let Self { pool, place, room } = self;
        let permit = place.permit().await?;
        drop(room);
        let idle = pool.lock().take_idle(&pool, Instant::now());
        pool.grant(permit, idle)
    }
}

impl Unconnected {
    /// Makes the connection.
    ///
    /// # Errors
    /// [`Refusal::ConnectFailure`].
    pub async fn connect(self) -> Result<Lease, Refusal> {
        let Self { permit, room } = self;
        let Some(pool) = permit.pool() else {
            unreachable!("only the end of a lease puts its permit back")
        };
        let connection = pool.dial().await?;
        Ok(Lease::new(connection, permit, room, false))
    }
}

impl Lease {
    fn new(connection: Connection, permit: Permit, room: Room, reused: bool) -> Self {
        let Connection { sender, close, mut terms, alarm, idle_since: _ } = connection;
        terms.requests_left = terms.requests_left.map(|left| left.saturating_sub(1));
        let heard_before = terms.heard.bytes();
        Self { sender, hold: Hold(Some((close, permit))), room, terms, alarm, heard_before, reused }
    }

    /// Sends a request on it and waits for the head of the response, until `until`: `None` is given
    /// when there was none by then.
    pub fn send(&mut self, request: Request<OutBody>, until: Instant) -> Sent<'_, impl Answer> {
        Sent { answer: self.sender.try_send_request(request), alarm: &mut self.alarm, until }
    }

    /// Waits until another request may be sent on it.
    ///
    /// # Errors
    /// When it is closed.
    pub async fn ready(&mut self) -> hyper::Result<()> {
        self.sender.ready().await
    }

    /// Ready once `due` has come.
    pub(crate) fn poll_until(&mut self, cx: &mut Context<'_>, due: Instant) -> Poll<()> {
        self.alarm.poll(cx, due)
    }

    /// Gives it up for the right to a new connection.
    pub fn renew(self) -> Unconnected {
        let Self { mut hold, room, .. } = self;
        match hold.0.take() {
            Some((_close, permit)) => Unconnected { permit, room },
            None => unreachable!("only the end of a lease takes its permit"),
        }
    }

    /// True while not one byte has come since it was lent. A request that failed on a
    /// [`Lease::reused`] connection in silence most likely met the endpoint's idle close and was
    /// never read; as that is not certain, it may be sent again if doing it twice does no harm.
    pub fn is_silent(&self) -> bool {
        self.terms.heard.bytes() == self.heard_before
    }

    /// Gives the connection back after its response was read to the end, which was `now`.
    pub fn give_back(mut self, now: Instant) {
        if self.sender.is_ready() {
            self.keep(now);
        } else if !self.sender.is_closed() {
            task::spawn("connection return", async move {
                if let Ok(Ok(())) = tokio::time::timeout(SETTLE, self.ready()).await {
                    self.keep(Instant::now());
                }
            });
        }
    }

    fn keep(mut self, now: Instant) {
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
        let Lease { sender, terms, alarm, .. } = self;
        state.idle.push(Connection { sender, close, terms, alarm, idle_since: now });
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

/// What becomes of a request on a connection, by hyper.
pub trait Answer: Future<Output = Answered> {}

impl<F: Future<Output = Answered>> Answer for F {}

type Answered = Result<Response<Incoming>, TrySendError<Request<OutBody>>>;

pin_project! {
    /// Waits for the head of a response, and not for too long.
    pub struct Sent<'a, F> {
        #[pin]
        answer: F,
        alarm: &'a mut Alarm,
        until: Instant,
    }
}

impl<F: Answer> Future for Sent<'_, F> {
    type Output = Option<Answered>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        match this.answer.poll(cx) {
            Poll::Ready(answered) => Poll::Ready(Some(answered)),
            Poll::Pending => this.alarm.poll(cx, *this.until).map(|()| None),
        }
    }
}
