//! Connections to one endpoint: bounded, kept alive, and never shared by two requests.
//!
//! A request first takes a permit, of which there are as many as connections are allowed, and then
//! the connection that was used last, or dials. Idle connections only exist where permits are
//! free, so permits bound connections and requests in flight alike. Requests that find no permit
//! wait in order of arrival, in a queue that is bounded too.
//!
//! Responses cannot cross: a connection comes back only after its response was read to the end
//! and hyper says that it is ready for another request. In every other case it is dropped, which
//! closes it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
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
    sender: SendRequest<Incoming>,
    since: Instant,
}

/// The right to one connection, and the connection.
pub struct Lease {
    pool: Arc<Pool>,
    sender: SendRequest<Incoming>,
    permit: OwnedSemaphorePermit,
    /// True when the connection has served a request before, so that it may be closed already
    /// without our knowing.
    pub reused: bool,
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
            Some(sender) => Ok(Lease { pool: self.clone(), sender, permit, reused: true }),
            None => self.connect(permit).await,
        }
    }

    /// A new connection in place of a reused one that turned out to be closed.
    ///
    /// # Errors
    /// [`Refusal::ConnectFailure`].
    pub async fn replace(self: &Arc<Self>, stale: Lease) -> Result<Lease, Refusal> {
        self.connect(stale.permit).await
    }

    /// Closes idle connections that have not been used for the idle timeout.
    pub fn close_old(&self, now: Instant) {
        self.lock_idle().retain(|idle| self.is_fresh(idle, now));
    }

    /// Connections kept for later.
    pub fn idle_count(&self) -> usize {
        self.lock_idle().len()
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

    fn take_idle(&self) -> Option<SendRequest<Incoming>> {
        let now = Instant::now();
        let mut idle = self.lock_idle();
        while let Some(last) = idle.pop() {
            if self.is_fresh(&last, now) {
                return Some(last.sender);
            }
        }
        None
    }

    fn is_fresh(&self, idle: &Idle, now: Instant) -> bool {
        !idle.sender.is_closed() && now.duration_since(idle.since) < self.idle_timeout
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
        let (sender, connection) =
            http1::handshake(TokioIo::new(io)).await.map_err(|error| failed(error.to_string()))?;
        let open = self.stats.connection_opened();
        task::spawn("upstream connection", async move {
            let _open = open;
            if let Err(error) = connection.await {
                tracing::debug!(%error, "an upstream connection ended early");
            }
        });
        Ok(Lease { pool: self.clone(), sender, permit, reused: false })
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
        let Lease { pool, sender, permit, reused: _ } = self;
        pool.lock_idle().push(Idle { sender, since: Instant::now() });
        // Only now, so that who waits for the permit finds the connection.
        drop(permit);
    }
}

/// A place in the queue for a permit.
struct Pending<'a>(&'a Pool);

impl<'a> Pending<'a> {
    fn enter(pool: &'a Pool) -> Option<Self> {
        let entered = pool.pending.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |pending| {
            (pending < pool.max_pending).then_some(pending + 1)
        });
        entered.is_ok().then_some(Self(pool))
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        self.0.pending.fetch_sub(1, Ordering::Relaxed);
    }
}
