//! Accepting connections, and letting go of them.
//!
//! One loop serves the sidecar's listeners, its admin endpoint and the backends, in both worlds.
//! Dropping it aborts every connection at once, which is what a process crash looks like from
//! outside; draining it lets requests in flight finish first.

mod stall;

use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::stall::Stalling;
use crate::pool::MAX_HEAD_BYTES;
use crate::seam::{Accept, Io};
use crate::task;
use crate::telemetry::ListenerStats;

/// How long to wait after `accept` failed, for instance for want of descriptors. Short enough not
/// to be noticed, long enough not to spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// How to serve.
#[derive(Clone, Debug)]
pub struct Options {
    /// Connections held open at once.
    pub max_connections: usize,
    /// How long a request head may take to arrive.
    pub header_timeout: Duration,
    /// Whether responses without a `Date` get one; a simulation has no date.
    pub date_header: bool,
    /// How long requests in flight may go on once draining begins.
    pub drain_timeout: Duration,
}

/// Serves HTTP/1.1 until `drain` is cancelled and the requests then in flight are done, or
/// [`Options::drain_timeout`] after it.
///
/// Returns the number of connections that had to be cut when the time was up.
pub async fn serve<A, S, F, B>(
    accept: A,
    service: S,
    options: Options,
    stats: ListenerStats,
    drain: CancellationToken,
) -> usize
where
    A: Accept,
    S: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut connections = JoinSet::new();
    loop {
        let has_room = connections.len() < options.max_connections;
        tokio::select! {
            biased;
            () = drain.cancelled() => break,
            Some(ended) = connections.join_next() => note_panic(ended, &stats),
            accepted = accept.accept(), if has_room => match accepted {
                Ok((io, _peer)) => {
                    let connection = connection(io, service.clone(), options.clone(), drain.child_token());
                    let open = stats.connection_opened();
                    connections.spawn(async move {
                        let _open = open;
                        connection.await;
                    });
                }
                Err(error) => {
                    stats.accept_failed();
                    tracing::warn!(%error, "accepting a connection failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(accept);
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

async fn connection<I, S, F, B>(io: I, service: S, options: Options, drain: CancellationToken)
where
    I: Io,
    S: Fn(Request<Incoming>) -> F,
    F: Future<Output = Response<B>>,
    B: Body<Data = Bytes> + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let service = service_fn(|request| {
        let response = service(request);
        async move { Ok::<_, Infallible>(response.await) }
    });
    let mut serving = pin!(
        hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(options.header_timeout)
            .max_buf_size(MAX_HEAD_BYTES)
            .auto_date_header(options.date_header)
            .serve_connection(TokioIo::new(Stalling::new(io)), service)
    );
    let result = tokio::select! {
        biased;
        result = serving.as_mut() => result,
        () = drain.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = result {
        // The peer's doing, as a rule: it left, or what it sent was not HTTP and was answered 400.
        tracing::debug!(%error, "a connection ended early");
    }
}

fn note_panic(ended: Result<(), tokio::task::JoinError>, stats: &ListenerStats) {
    if let Err(error) = ended
        && error.is_panic()
    {
        stats.task_panicked();
        task::note_panic("downstream connection");
    }
}
