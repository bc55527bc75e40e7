//! The engine: hands planned requests to lanes and sees each to its end.
//!
//! A lane carries one request after the other: over a connection of its own, or over one of the
//! streams of an HTTP/2 connection. The open-loop queue is a cursor into the plan. When a request
//! comes due and a lane is idle, the dispatcher hands it over; when none is, it opens one, up to
//! the bound; when the bound is reached, the request waits, and the first lane to finish takes it,
//! or it is skipped, as asked. There is no other queue, and nothing to drop from one. A closed
//! loop is a plan whose next request is always due, so that the bound alone decides.
//!
//! Everything runs in the future that [`run`] returns, on one thread and without spawned tasks:
//! lanes are polled in the order in which they were woken, so a simulated run depends on nothing
//! but the simulation, and dropping the future ends it all.

mod desk;
mod h1;
mod h2;
mod lane;
mod options;
mod tally;

use std::cell::RefCell;
use std::pin::pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use tower::Service;

use crate::observer::Observer;
use crate::pacer::Pacer;
use crate::plan::Plan;
use desk::Desk;
use lane::{Lane, Shared};
pub use options::{MAX_WAIT, Options, Overflow, Protocol};
pub use tally::{Gauge, Gauges};

/// How a run ended.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RunEnd {
    /// From the start to the end of the run.
    pub elapsed: Duration,
    /// It was stopped before every request had come to its end.
    pub interrupted: bool,
    /// The most requests in flight at once.
    pub peak_in_flight: usize,
    /// The mean number of requests in flight: the time that requests spent in flight, by their
    /// own records, over that of the run.
    pub mean_in_flight: f64,
    /// The same as it was seen by counting at each change. By Little's law it is equal.
    pub observed_in_flight: f64,
    /// The most connections open at once.
    pub peak_connections: usize,
}

impl RunEnd {
    /// Adds what another worker of the same run did at the same time. The peaks are added up, so
    /// they are upper bounds from then on, unless [`Gauges`] tell them.
    pub fn merge(&mut self, other: &RunEnd) {
        self.elapsed = self.elapsed.max(other.elapsed);
        self.interrupted |= other.interrupted;
        self.peak_in_flight += other.peak_in_flight;
        self.mean_in_flight += other.mean_in_flight;
        self.observed_in_flight += other.observed_in_flight;
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
/// When `max_connections` or the streams of a connection are zero.
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
    assert!(options.max_lanes() > 0, "a run needs at least one connection and stream");
    options.timeout = options.timeout.min(MAX_WAIT);
    options.drain = options.drain.min(MAX_WAIT);
    let start = options.start.unwrap_or_else(Instant::now);
    let desk = RefCell::new(Desk::new(&plan, &options, start, observer));
    let shared = Shared::new(&desk, &options, connect, start, plan.is_closed());

    let mut lanes = FuturesUnordered::new();
    let mut drivers = FuturesUnordered::new();
    let mut stop = pin!(stop);
    let mut drained = pin!(tokio::time::sleep_until(start + plan.end() + options.drain));
    let interrupted = loop {
        let step = desk.borrow_mut().dispatch(Instant::now());
        for slot in step.opened {
            lanes.push(Lane::new(&shared, slot).work());
        }
        let in_flight = step.in_flight;
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
            while let Poll::Ready(Some(())) = lanes.poll_next_unpin(cx) {}
            // Connections that lanes share are driven beside them.
            drivers.extend(shared.take_drivers().into_iter().map(h2::Driver::run));
            while let Poll::Ready(Some(())) = drivers.poll_next_unpin(cx) {}
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
    let peak_connections = shared.connections.peak();
    // Closes every connection before the books are.
    drop((lanes, drivers));
    drop(shared);
    RunEnd { peak_connections, ..desk.into_inner().close(end, interrupted) }
}

/// Why the dispatcher wakes.
enum Wake {
    /// A request may have come due, a lane idle, or the last answer been had.
    Dispatch,
    AllEnded,
    Drained,
    Stopped,
}

/// What the dispatcher has to do after it has handed out what was due.
struct Step {
    /// Slots that need a lane; the first request of each is there.
    opened: Vec<usize>,
    /// Something is in flight.
    in_flight: bool,
    /// When to look again; `None` if nothing is to be handed out before a lane is idle.
    next_due: Option<Instant>,
}

/// What changed while the lanes were polled.
struct News {
    /// The dispatcher's last step is out of date.
    changed: bool,
    /// Every planned request has come to its end.
    all_ended: bool,
}
