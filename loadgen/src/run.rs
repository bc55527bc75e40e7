//! The engine: hands planned requests to connections and sees each to its end.
//!
//! The open-loop queue is a cursor into the plan. When a request comes due and a connection is
//! idle, the dispatcher hands it over; when none is, it opens one, up to the bound; when the bound
//! is reached, the request waits, and the first connection to finish takes it. There is no other
//! queue, and nothing to drop from one.
//!
//! Everything runs in the future that [`run`] returns, on one thread and without spawned tasks:
//! connections are polled in the order in which they were woken, so a simulated run depends on
//! nothing but the simulation, and dropping the future ends it all.

mod connection;
mod desk;

use std::cell::RefCell;
use std::pin::pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use http::HeaderName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use tower::Service;

use crate::observer::Observer;
use crate::pacer::Pacer;
use crate::plan::Plan;
use crate::target::{Encoded, Target};
use connection::Worker;
use desk::Desk;

/// The longest timeout and drain; longer ones are taken for this, so that instants do not
/// overflow.
pub const MAX_WAIT: Duration = Duration::from_secs(365 * 24 * 3600);

/// How a plan is carried out.
#[derive(Clone, Debug)]
pub struct Options {
    /// What is sent.
    pub target: Target,
    /// What is dialled, as `host:port`.
    pub address: String,
    /// How long after its planned instant an answer is of use. A whole answer that comes later is
    /// late, but not cancelled; a request that is past it before it could be sent is shed.
    pub deadline: Option<Duration>,
    /// How long one request may take from the begin of work on it, connecting included. Then it
    /// is cancelled by closing its connection, and recorded as having taken exactly this long.
    pub timeout: Duration,
    /// The bound on connections, and so on requests in flight. They are opened as they are
    /// needed.
    pub max_connections: usize,
    /// How long after the plan's end answers are waited for.
    pub drain: Duration,
    /// If set, each request carries its index in the plan, in decimal, in this header field.
    pub index_header: Option<HeaderName>,
    /// The instant that the plan counts from, for workers that start together; the begin of the
    /// run if `None`.
    pub start: Option<Instant>,
}

impl Options {
    /// Ten seconds' timeout, longer than which no one waits for a page; as long to drain, so that
    /// each request sent ends by itself; 128 connections, which carry 12,800 requests per second
    /// of 10 ms each.
    pub fn new(target: Target, address: impl Into<String>) -> Self {
        Self {
            target,
            address: address.into(),
            deadline: None,
            timeout: Duration::from_secs(10),
            max_connections: 128,
            drain: Duration::from_secs(10),
            index_header: None,
            start: None,
        }
    }
}

/// How a run ended.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RunEnd {
    /// From the start to the end of the run.
    pub elapsed: Duration,
    /// It was stopped before every request had come to its end.
    pub interrupted: bool,
    /// The most requests in flight at once.
    pub peak_in_flight: usize,
    /// The mean number of requests in flight.
    pub mean_in_flight: f64,
    /// The most connections open at once.
    pub peak_connections: usize,
}

impl RunEnd {
    /// Adds what another worker of the same run did at the same time. The peaks are added up, so
    /// they are upper bounds from then on.
    pub fn merge(&mut self, other: &RunEnd) {
        self.elapsed = self.elapsed.max(other.elapsed);
        self.interrupted |= other.interrupted;
        self.peak_in_flight += other.peak_in_flight;
        self.mean_in_flight += other.mean_in_flight;
        self.peak_connections += other.peak_connections;
    }
}

/// Carries out a plan and tells `observer` what became of each request; it ends when all have
/// come to an end, the drain time is over, or `stop` is ready.
///
/// Requests in flight at the end are recorded as unfinished and their connections closed; those
/// whose turn had not come are recorded as unsent. The future is not `Send`: a run belongs to one
/// thread. Dropping it before it is ready leaves the requests in flight unrecorded.
///
/// # Panics
/// When `max_connections` is zero.
pub async fn run<C, P, O>(
    plan: Plan,
    mut options: Options,
    connect: C,
    mut pacer: P,
    stop: impl Future<Output = ()>,
    observer: &mut O,
) -> RunEnd
where
    C: Service<String, Error = std::io::Error> + Clone,
    C::Response: AsyncRead + AsyncWrite + Unpin,
    P: Pacer,
    O: Observer + ?Sized,
{
    assert!(options.max_connections > 0, "a run needs at least one connection");
    options.timeout = options.timeout.min(MAX_WAIT);
    options.drain = options.drain.min(MAX_WAIT);
    let start = options.start.unwrap_or_else(Instant::now);
    let request = Encoded::new(&options.target, options.index_header.as_ref());
    let desk = RefCell::new(Desk::new(&plan, &options, start, observer));
    let worker = Worker { desk: &desk, request: &request, options: &options, connect };

    let mut workers = FuturesUnordered::new();
    let mut stop = pin!(stop);
    let mut drained = pin!(tokio::time::sleep_until(start + plan.end() + options.drain));
    let interrupted = loop {
        let step = desk.borrow_mut().dispatch(Instant::now());
        for slot in step.opened {
            workers.push(worker.clone().work(slot));
        }
        let in_flight = step.in_flight > 0;
        let mut due = pin!(async {
            match step.next_due {
                Some(instant) => pacer.wait_until(instant, in_flight).await,
                None => std::future::pending().await,
            }
        });
        let mut poll = |cx: &mut Context<'_>| {
            if stop.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Wake::Stopped);
            }
            while let Poll::Ready(Some(())) = workers.poll_next_unpin(cx) {}
            let news = desk.borrow_mut().take_news(in_flight);
            if news.all_ended {
                return Poll::Ready(Wake::AllEnded);
            }
            if news.changed || due.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Wake::Dispatch);
            }
            drained.as_mut().poll(cx).map(|()| Wake::Drained)
        };
        match std::future::poll_fn(&mut poll).await {
            Wake::Dispatch => {}
            Wake::AllEnded | Wake::Drained => break false,
            Wake::Stopped => break true,
        }
    };
    let end = Instant::now();
    // Closes every connection before the books are.
    drop(workers);
    desk.into_inner().close(end, interrupted)
}

/// Why the dispatcher wakes.
enum Wake {
    /// A request may have come due, a connection idle, or the last answer been had.
    Dispatch,
    AllEnded,
    Drained,
    Stopped,
}

/// What the dispatcher has to do after it has handed out what was due.
struct Step {
    /// Slots that need a connection; the first request of each is there.
    opened: Vec<usize>,
    in_flight: usize,
    /// When to look again; `None` if nothing is to be handed out before a connection is idle.
    next_due: Option<Instant>,
}

/// What changed while the connections were polled.
struct News {
    /// The dispatcher's last step is out of date.
    changed: bool,
    /// Every planned request has come to its end.
    all_ended: bool,
}
