//! Accepting connections, and letting go of them.
//!
//! One loop serves the sidecar's listeners, its admin endpoint and the backends, in both worlds.
//! Dropping it aborts every connection at once, which is what a process crash looks like from
//! outside; draining it lets requests in flight finish first.
//!
//! Around hyper, each connection has three parts that its callers cannot be trusted without:
//! `strict` refuses what could be read in two ways ([`framing`] decides), `watch` limits how
//! long a caller may take, `stall` how long it may not read. What they know of the request under
//! way is in `exchange`, and `answer` is what goes back.

mod answer;
mod exchange;
pub mod framing;
mod stall;
mod strict;
mod watch;

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::answer::{Answer, answered, refused};
use self::exchange::{Exchange, Refusal, Wait};
use self::framing::Limits;
use self::stall::Stalling;
use self::strict::Strict;
use self::watch::{Patience, Watch};
use crate::config::ListenerConfig;
use crate::pool::MAX_HEAD_BYTES;
use crate::seam::{Accept, Io};
use crate::task;
use crate::telemetry::ListenerStats;

/// How long to wait after `accept` failed for want of something, descriptors above all. Short
/// enough not to be noticed, long enough not to spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// Where a connection comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Peer(pub SocketAddr);

/// How to serve. The defaults are those of [`ListenerConfig`], and 30 s for a drain.
#[derive(Clone, Debug)]
pub struct Options {
    /// Connections held open at once.
    pub max_connections: usize,
    /// How long a connection may be open without a request.
    pub idle_timeout: Duration,
    /// How long a request head may take, from its first byte to its last.
    pub header_timeout: Duration,
    /// How long a request body that is waited for may make no progress.
    pub body_timeout: Duration,
    /// How long a caller may leave no room for its response.
    pub write_timeout: Duration,
    /// Whether a caller that has closed its sending half is still answered.
    pub half_close: bool,
    /// Whether responses without a `Date` get one; a simulation has no date.
    pub date_header: bool,
    /// How long requests in flight may go on once draining begins.
    pub drain_timeout: Duration,
}

impl Options {
    /// What a configuration says.
    pub fn new(config: &ListenerConfig, drain_timeout: Duration) -> Self {
        Self {
            max_connections: config.max_connections.get(),
            idle_timeout: config.idle_timeout,
            header_timeout: config.header_timeout,
            body_timeout: config.body_timeout,
            write_timeout: config.write_timeout,
            half_close: config.half_close,
            date_header: true,
            drain_timeout,
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        Self::new(&ListenerConfig::new("default", nowhere), Duration::from_secs(30))
    }
}

/// Serves HTTP/1.1 until `drain` is cancelled and the requests then in flight are done, or
/// [`Options::drain_timeout`] after it.
///
/// `service` is asked once for each connection, and what it gives once for each request.
///
/// Returns the number of connections that had to be cut when the time was up.
pub async fn serve<A, S, T, F, B>(
    accept: A,
    service: S,
    options: Options,
    stats: ListenerStats,
    drain: CancellationToken,
) -> usize
where
    A: Accept,
    S: Fn(Peer) -> T + Send + Sync + 'static,
    T: Fn(Request<Incoming>) -> F + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut connections = JoinSet::new();
    let (options, stats) = (Arc::new(options), Arc::new(stats));
    let closing = Arc::new(Closing::default());
    loop {
        let has_room = connections.len() < options.max_connections;
        tokio::select! {
            biased;
            () = drain.cancelled() => break,
            Some(ended) = connections.join_next() => note_panic(ended, &stats),
            accepted = accept.accept(), if has_room => match accepted {
                Ok((io, peer)) => {
                    let connection = Connection {
                        options: options.clone(),
                        stats: stats.clone(),
                        drain: closing.clone(),
                        exchange: Exchange::default(),
                    };
                    let (open, service) = (stats.connection_opened(), service(Peer(peer)));
                    connections.spawn(async move {
                        let _open = open;
                        connection.serve(io, service).await;
                    });
                }
                Err(error) => {
                    stats.accept_failed();
                    tracing::warn!(%error, "accepting a connection failed");
                    if !is_of_the_peer(&error) {
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                }
            },
        }
    }
    drop(accept);
    closing.begin();
    let finish = async {
        while let Some(ended) = connections.join_next().await {
            note_panic(ended, &stats);
        }
    };
    // On a timeout the set is dropped, and with it every connection that is left.
    if tokio::time::timeout(options.drain_timeout, finish).await.is_err() {
        return connections.len();
    }
    0
}

/// True when a connection ended before it was accepted: the next one may be sound.
fn is_of_the_peer(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset)
}

fn note_panic(ended: Result<(), tokio::task::JoinError>, stats: &ListenerStats) {
    if let Err(error) = ended
        && error.is_panic()
    {
        stats.task_panicked();
        task::note_panic("downstream connection");
    }
}

/// One connection, without its stream and its service.
struct Connection {
    options: Arc<Options>,
    stats: Arc<ListenerStats>,
    drain: Arc<Closing>,
    exchange: Exchange,
}

/// Tells connections that they are to end with the request under way.
#[derive(Default)]
struct Closing {
    /// Asked whenever a connection does anything, which the token would take a lock for.
    begun: AtomicBool,
    wakes: CancellationToken,
}

impl Closing {
    fn begin(&self) {
        self.begun.store(true, Ordering::Release);
        self.wakes.cancel();
    }

    fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Acquire)
    }
}

/// How a connection ended.
enum End {
    /// By the rules of HTTP, or by the caller's doing.
    Served(hyper::Result<()>),
    /// No request came.
    Idle,
    /// In the middle of a response, because the rest of its request is of no use.
    Cut,
}

impl Connection {
    async fn serve<I, T, F, B>(self, io: I, service: T)
    where
        I: Io,
        T: Fn(Request<Incoming>) -> F,
        F: Future<Output = Response<B>>,
        B: Body<Data = Bytes> + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let service = service_fn(|request| {
            // A request that stands in for a refused one must not reach the service.
            let is_sound = self.exchange.refusal().is_none();
            let response = is_sound.then(|| Box::pin(service(request)));
            UnlessRefused { response, exchange: self.exchange.clone() }
        });
        let io = Stalling::new(io, self.options.write_timeout, self.stats.clone());
        let io = Strict::new(io, Limits::default(), self.exchange.clone());
        let serving = pin!(
            hyper::server::conn::http1::Builder::new()
                // Ours are in `watch`.
                .header_read_timeout(None)
                .half_close(self.options.half_close)
                .max_buf_size(MAX_HEAD_BYTES)
                .auto_date_header(self.options.date_header)
                .serve_connection(TokioIo::new(io), service)
        );
        match self.drive(serving).await {
            // The peer's doing, as a rule: it left.
            End::Served(Err(error)) => tracing::debug!(%error, "a connection ended early"),
            End::Cut => tracing::debug!("a connection was cut: its request cannot be completed"),
            End::Served(Ok(())) | End::Idle => {}
        }
    }

    /// Lets hyper run, and after it has done what it could, looks at what it waits for.
    async fn drive<C: Serving>(&self, mut serving: Pin<&mut C>) -> End {
        let patience = Patience {
            request: self.options.idle_timeout,
            head: self.options.header_timeout,
            body: self.options.body_timeout,
        };
        let mut watch = Watch::new(patience);
        let mut woken = pin!(self.drain.wakes.cancelled());
        let (mut is_waiting, mut is_told, mut is_counted) = (false, false, false);
        poll_fn(|cx| {
            if !std::mem::replace(&mut is_waiting, true) {
                // Once is enough: a connection stays in its task. The flag says the rest.
                let _ = woken.as_mut().poll(cx);
            }
            let is_draining = self.drain.has_begun();
            // A head that has begun still becomes a request: hyper, which has not seen it, would
            // close at once.
            if is_draining && !is_told && !self.exchange.is_in_head() {
                is_told = true;
                serving.as_mut().graceful_shutdown();
            }
            let served = serving.as_mut().poll(cx);
            if !is_counted && let Some(refusal) = self.exchange.refusal() {
                is_counted = true;
                self.count(refusal);
            }
            if let Poll::Ready(result) = served {
                return Poll::Ready(End::Served(result));
            }
            if let Poll::Ready(wait) = watch.poll(cx, self.exchange.waits_for()) {
                match wait {
                    Wait::Request => {
                        self.stats.idle_timeout();
                        return Poll::Ready(End::Idle);
                    }
                    Wait::Head => self.refuse(cx, Refusal::HeaderTimeout(patience.head)),
                    Wait::Body => self.refuse(cx, Refusal::BodyTimeout(patience.body)),
                }
            }
            if self.exchange.must_be_cut() {
                if !is_counted && let Some(refusal) = self.exchange.refusal() {
                    self.count(refusal);
                }
                return Poll::Ready(End::Cut);
            }
            let may_be_told = is_draining && !is_told && !self.exchange.is_in_head();
            if self.exchange.release() || may_be_told {
                cx.waker().wake_by_ref();
            }
            Poll::Pending
        })
        .await
    }

    fn refuse(&self, cx: &Context<'_>, refusal: Refusal) {
        self.exchange.refuse(refusal);
        cx.waker().wake_by_ref();
    }

    fn count(&self, refusal: Refusal) {
        self.stats.refused(refusal.flag());
        match refusal {
            Refusal::Malformed(_) => self.stats.protocol_error(),
            Refusal::HeaderTimeout(_) => self.stats.header_timeout(),
            Refusal::BodyTimeout(_) => self.stats.body_timeout(),
        }
    }
}

/// The service's response, unless there is no service to ask or its request stops coming. The
/// service's work ends then, and what it does upstream with it. Of a body that is malformed the
/// service hears itself, as the body's error, and it has books to keep on that.
struct UnlessRefused<F> {
    /// In a box, because hyper keeps room for a future in each connection, busy or idle: the
    /// sidecar's has 2 KiB.
    response: Option<Pin<Box<F>>>,
    exchange: Exchange,
}

impl<F, B> Future for UnlessRefused<F>
where
    F: Future<Output = Response<B>>,
{
    type Output = Result<Response<Answer<B>>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { response, exchange } = &mut *self;
        let answer = match (exchange.refusal(), response) {
            (None | Some(Refusal::Malformed(_)), Some(response)) => {
                answered(ready!(response.as_mut().poll(cx)), exchange)
            }
            (Some(refusal), _) => refused(refusal, exchange),
            // A refusal is never taken back.
            (None, None) => return Poll::Pending,
        };
        Poll::Ready(Ok(answer))
    }
}

/// hyper's connection, without its many parameters.
trait Serving: Future<Output = hyper::Result<()>> {
    fn graceful_shutdown(self: Pin<&mut Self>);
}

impl<I, S, B> Serving for hyper::server::conn::http1::Connection<I, S>
where
    S: hyper::service::HttpService<Incoming, ResBody = B>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    I: hyper::rt::Read + hyper::rt::Write + Unpin,
    B: Body + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    fn graceful_shutdown(self: Pin<&mut Self>) {
        hyper::server::conn::http1::Connection::graceful_shutdown(self);
    }
}
