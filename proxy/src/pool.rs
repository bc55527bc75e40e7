//! Connections to one endpoint: bounded, kept alive, and never shared by two requests.
//!
//! A request first takes a permit, of which there are as many as connections are allowed, and then
//! the connection that was used last, or dials. Idle connections only exist where permits are
//! free, so permits bound connections and requests in flight alike. Requests that find no permit
//! wait in order of arrival, in a queue that is bounded too.
//!
//! Responses cannot cross: a connection comes back only after its response was read to the end
//! and hyper says that it is ready for another request. In every other case it is closed, and only
//! then is its permit free: the endpoint never sees more connections in use than it is allowed.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::Instant;

use crate::config::{ClusterConfig, EndpointAddr};
use crate::error::Refusal;
use crate::seam::{Dialer, dial};
use crate::task;
use crate::telemetry::EndpointStats;

/// How long a connection whose response is complete may take to become ready again. It waits for
/// the rest of a request body that the endpoint answered without reading; past this, closing is
/// cheaper.
const SETTLE: Duration = Duration::from_secs(1);

/// Bytes that a message head may have, and that are read ahead of whoever reads. 64 KiB, about
/// Envoy's 60; hyper's own bound is 400.
pub(crate) const MAX_HEAD_BYTES: usize = 64 * 1024;

/// The connections to one endpoint.
pub struct Pool {
    addr: EndpointAddr,
    dialer: Dialer,
    connect_timeout: Duration,
    idle_timeout: Duration,
    /// Most recently used last. Using that one first lets the others grow old and be closed.
    idle: Mutex<Vec<Idle>>,
    permits: Arc<Semaphore>,
    pending: AtomicUsize,
    max_pending: usize,
    stats: EndpointStats,
}

struct Idle {
    connection: Connection,
    since: Instant,
}

/// The near end of a connection; its task has the other. Dropping it closes the connection.
struct Connection {
    sender: SendRequest<Incoming>,
    close: oneshot::Sender<OwnedSemaphorePermit>,
}

/// The right to one connection, and the connection.
pub struct Lease {
    pool: Arc<Pool>,
    sender: SendRequest<Incoming>,
    hold: Hold,
    /// True when the connection has served a request before, so that it may be closed already
    /// without our knowing.
    pub reused: bool,
}

/// A permit that, unless it is taken back, outlives its connection.
struct Hold(Option<(oneshot::Sender<OwnedSemaphorePermit>, OwnedSemaphorePermit)>);

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
        addr: EndpointAddr,
        dialer: Dialer,
        config: &ClusterConfig,
        stats: EndpointStats,
    ) -> Self {
        Self {
            addr,
            dialer,
            connect_timeout: config.connect_timeout,
            idle_timeout: config.idle_timeout,
            idle: Mutex::new(Vec::new()),
            permits: Arc::new(Semaphore::new(config.max_connections.get())),
            pending: AtomicUsize::new(0),
            max_pending: config.max_pending,
            stats,
        }
    }

    /// A connection to send one request on: an idle one, or a new one.
    ///
    /// # Errors
    /// [`Refusal::Overflow`] when too many wait already, [`Refusal::ConnectFailure`] when no
    /// connection can be made.
    pub async fn lease(self: &Arc<Self>) -> Result<Lease, Refusal> {
        let permit = self.permit().await?;
        match self.take_idle() {
            Some(connection) => Ok(self.lend(connection, permit, true)),
            None => self.connect(permit).await,
        }
    }

    /// A new connection in place of a reused one that turned out to be closed.
    ///
    /// # Errors
    /// [`Refusal::ConnectFailure`].
    pub async fn replace(self: &Arc<Self>, mut stale: Lease) -> Result<Lease, Refusal> {
        let permit = match stale.hold.0.take() {
            Some((_close, permit)) => permit,
            None => self.permit().await?,
        };
        self.connect(permit).await
    }

    /// Closes idle connections that have not been used for the idle timeout.
    pub fn close_old(&self, now: Instant) {
        self.lock_idle().retain(|idle| self.is_fresh(idle, now));
    }

    /// Open connections kept for later.
    pub fn idle_count(&self) -> usize {
        self.lock_idle().iter().filter(|idle| !idle.connection.sender.is_closed()).count()
    }

    async fn permit(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        if let Ok(permit) = self.permits.clone().try_acquire_owned() {
            return Ok(permit);
        }
        let Some(_pending) = Pending::enter(self) else {
            self.stats.overflowed();
            return Err(Refusal::Overflow { endpoint: self.addr.clone(), limit: self.max_pending });
        };
        match self.permits.clone().acquire_owned().await {
            Ok(permit) => Ok(permit),
            Err(_closed) => unreachable!("the semaphore is never closed"),
        }
    }

    fn lend(
        self: &Arc<Self>,
        connection: Connection,
        permit: OwnedSemaphorePermit,
        reused: bool,
    ) -> Lease {
        let Connection { sender, close } = connection;
        Lease { pool: self.clone(), sender, hold: Hold(Some((close, permit))), reused }
    }

    fn take_idle(&self) -> Option<Connection> {
        let now = Instant::now();
        let mut idle = self.lock_idle();
        while let Some(last) = idle.pop() {
            if self.is_fresh(&last, now) {
                return Some(last.connection);
            }
        }
        None
    }

    fn is_fresh(&self, idle: &Idle, now: Instant) -> bool {
        !idle.connection.sender.is_closed() && now.duration_since(idle.since) < self.idle_timeout
    }

    async fn connect(self: &Arc<Self>, permit: OwnedSemaphorePermit) -> Result<Lease, Refusal> {
        let failed = |reason: String| {
            self.stats.connect_failed();
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
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(MAX_HEAD_BYTES)
            .handshake(TokioIo::new(io))
            .await
            .map_err(|error| failed(error.to_string()))?;
        let open = self.stats.connection_opened();
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
        Ok(self.lend(Connection { sender, close }, permit, false))
    }

    fn lock_idle(&self) -> std::sync::MutexGuard<'_, Vec<Idle>> {
        // Nothing that holds the lock can leave the list half changed.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lease {
    /// Sends on it.
    pub fn sender(&mut self) -> &mut SendRequest<Incoming> {
        &mut self.sender
    }

    /// The pool that it came from.
    pub fn pool(&self) -> &Arc<Pool> {
        &self.pool
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

    fn keep(self) {
        let Lease { pool, sender, mut hold, reused: _ } = self;
        if let Some((close, permit)) = hold.0.take() {
            let connection = Connection { sender, close };
            pool.lock_idle().push(Idle { connection, since: Instant::now() });
            // Only now, so that who waits for the permit finds the connection.
            drop(permit);
        }
    }
}

/// A place in the queue for a permit.
struct Pending<'a>(&'a Pool);

impl<'a> Pending<'a> {
    fn enter(pool: &'a Pool) -> Option<Self> {
        let entered = pool.pending.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |pending| {
            (pending < pool.max_pending).then_some(pending + 1)
        });
        // Not `then_some`: a place that was never taken must not be dropped, which would free one.
        entered.is_ok().then(|| Self(pool))
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        self.0.pending.fetch_sub(1, Ordering::Relaxed);
    }
}
