//! One attempt: a request on a connection, and the response body that keeps hold of both.

use std::error::Error as _;
use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Instant, timeout_at};

use crate::balance::Placement;
use crate::error::{Flag, Refusal};
use crate::policy::deadline;
use crate::policy::retry::Unsent;
use crate::pool::{Asked, Granted, Lease, OutBody};
use crate::replay::ReplayError;
use crate::task;
use crate::telemetry::event::AttemptEnd;

/// When an exchange must be over, and what limit that came from.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    /// The instant.
    pub at: Instant,
    /// How long it was from the request's head.
    pub limit: Duration,
    /// The caller asked for less than the route gives. That an endpoint does not keep such a limit
    /// says nothing against it: else an impatient caller could have every endpoint ejected.
    pub is_callers: bool,
}

impl Deadline {
    /// What is left of it.
    pub fn left(&self, now: Instant) -> Duration {
        self.at.saturating_duration_since(now)
    }
}

/// Why an attempt brought no response head.
#[derive(Debug)]
pub struct Failed {
    /// What the caller is told if nothing better comes.
    pub refusal: Refusal,
    /// What it says about trying again.
    pub cause: Cause,
}

/// What a failed attempt says about trying again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Not a byte of the request was sent.
    Unsent(Unsent),
    /// The connection broke; the request may have been processed.
    Reset {
        /// The connection had been idle before and brought not one byte of an answer: most likely
        /// the endpoint closed it as we sent.
        lost_race: bool,
    },
    /// The attempt had no head within its own limit.
    PerTryTimeout,
    /// Not a byte was sent, because the cluster is at a limit that no other endpoint of it can get
    /// around. Envoy never retries what its circuit breakers refused.
    Full,
    /// Nothing that another attempt could mend: the time is up, or the caller's own request is
    /// broken.
    Final,
}

/// The terms of one attempt.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// When the whole request must be over.
    pub deadline: Deadline,
    /// How long this attempt may take until the head of the response.
    pub per_try: Option<Duration>,
    /// Whether the endpoint is told in gRPC's way how long it has.
    pub is_grpc: bool,
    /// Whether it needs a connection that has not been idle: a request that lost the race with an
    /// endpoint's idle close once may not lose it again.
    pub anew: bool,
}

impl Terms {
    /// When an attempt that was placed at `sent` must have a head, and the limit of its own that says
    /// so, if it is not that of the whole request.
    fn until(&self, sent: Instant) -> (Instant, Option<Duration>) {
        match self.per_try {
            Some(limit) if sent + limit < self.deadline.at => (sent + limit, Some(limit)),
            _ => (self.deadline.at, None),
        }
    }
}

/// Why there was no response.
enum Missed {
    Failed(Failed),
    /// Its time was up.
    Late(During),
}

/// What a request was doing when its time was up.
#[derive(Clone, Copy, PartialEq, Eq)]
enum During {
    /// Waiting in our queue, or leaving it too late to be of use: nobody was asked.
    Queue,
    Connect,
    Exchange,
}

/// Sends a request to the endpoint it was placed on and waits for the head of the response.
///
/// # Errors
/// Whatever kept a response from coming. The placement is settled in every case.
// The request is in a box, like all that is large and lives across an await on this path: see
// `stack::Stack::call`.
pub async fn attempt(
    mut placement: Placement,
    mut request: Box<Request<OutBody>>,
    terms: Terms,
) -> Result<Response<UpstreamBody>, Failed> {
    let (until, of_try) = terms.until(placement.sent());
    let mut stale = None;
    loop {
        let (lease, now) = match connection(&placement, stale.take(), &terms, until).await {
            Ok(lent) => lent,
            Err(missed) => return Err(settle(missed, placement, &terms, of_try)),
        };
        // Only now: what was spent in our queue or on connecting is not the endpoint's any more.
        let left = until.saturating_duration_since(now);
        if deadline::stamp(request.headers_mut(), left, terms.is_grpc).is_err() {
            // Nobody can be told so little.
            lease.give_back(now);
            return Err(settle(Missed::Late(During::Queue), placement, &terms, of_try));
        }
        let mut hold = Box::new(Hold { lease, placement, deadline: terms.deadline });
        let missed = match hold.lease.send(*request, until).await {
            Some(Ok(response)) => match forwardable(response, &hold.placement) {
                Ok(response) => {
                    let now = Instant::now();
                    hold.placement.answered(&response, now);
                    return Ok(response.map(|body| UpstreamBody::new(body, hold, now)));
                }
                Err(failed) => Missed::Failed(failed),
            },
            None => Missed::Late(During::Exchange),
            Some(Err(mut error)) => match error.take_message() {
                // Closed by the endpoint while it was idle, and not a byte was sent: a request that
                // never left may go out again on a new connection whatever its method.
                Some(unsent) if hold.lease.reused => {
                    *request = unsent;
                    placement = hold.placement;
                    stale = Some(hold.lease);
                    continue;
                }
                Some(_unsent) => {
                    let endpoint = hold.placement.endpoint().addr.clone();
                    let cause = Cause::Unsent(Unsent::ConnectFailure);
                    Missed::Failed(Failed { refusal: Refusal::UpstreamClosed { endpoint }, cause })
                }
                None => Missed::Failed(hold.failed(error.error())),
            },
        };
        // The connection goes first: see `Hold`.
        let Hold { lease, placement, .. } = *hold;
        drop(lease);
        return Err(settle(missed, placement, &terms, of_try));
    }
}

/// A connection for an attempt, and when it had it.
async fn connection(
    placement: &Placement,
    stale: Option<Lease>,
    terms: &Terms,
    until: Instant,
) -> Result<(Lease, Instant), Missed> {
    let now = placement.sent();
    let granted = match stale {
        Some(lease) => Granted::Unconnected(lease.renew()),
        None => match placement.endpoint().pool.ask(now).map_err(unsent)? {
            Asked::Granted(Granted::Lent(lease)) if !(terms.anew && lease.reused) => {
                return Ok((lease, now));
            }
            Asked::Granted(granted) => granted,
            // What is rare is in a box: see `retry::Call::attempt`.
            Asked::Queued(queued) => {
                let waiting = Box::pin(timeout_at(until, queued.wait()));
                let waited = waiting.await.map_err(|_elapsed| Missed::Late(During::Queue))?;
                waited.map_err(unsent)?
            }
        },
    };
    let unconnected = match granted {
        Granted::Unconnected(unconnected) => unconnected,
        Granted::Lent(lease) if terms.anew && lease.reused => lease.renew(),
        Granted::Lent(lease) => return Ok((lease, Instant::now())),
    };
    let connecting = Box::pin(timeout_at(until, unconnected.connect()));
    let connected = connecting.await.map_err(|_elapsed| Missed::Late(During::Connect))?;
    Ok((connected.map_err(unsent)?, Instant::now()))
}

/// Tells everybody what became of an attempt without a response.
fn settle(
    missed: Missed,
    mut placement: Placement,
    terms: &Terms,
    of_try: Option<Duration>,
) -> Failed {
    match missed {
        Missed::Failed(failed) => {
            match failed.cause {
                Cause::Unsent(Unsent::Overflow) | Cause::Full => {
                    placement.spared(AttemptEnd::Refused);
                }
                // Nothing is known of the endpoint.
                Cause::Final => placement.cancelled(),
                Cause::Reset { lost_race: true } => placement.spared(AttemptEnd::Failed),
                Cause::Unsent(_) | Cause::Reset { .. } | Cause::PerTryTimeout => placement.failed(),
            }
            failed
        }
        Missed::Late(during) => {
            let waited = during == During::Queue;
            if let Some(limit) = of_try {
                match waited {
                    true => placement.spared(AttemptEnd::PerTryTimedOut),
                    false => placement.per_try_timed_out(),
                }
                let cause = match during {
                    During::Queue => Cause::Unsent(Unsent::Overflow),
                    During::Connect => Cause::Unsent(Unsent::ConnectFailure),
                    During::Exchange => Cause::PerTryTimeout,
                };
                return Failed { refusal: Refusal::PerTryTimeout { limit }, cause };
            }
            match waited {
                true => placement.spared(AttemptEnd::TimedOut),
                false => placement.timed_out(terms.deadline),
            }
            let refusal = Refusal::Timeout { limit: terms.deadline.limit };
            Failed { refusal, cause: Cause::Final }
        }
    }
}

/// How long after its placement a request can have lost the race against an idle close: a round trip
/// within a mesh, with room for a slow one. What breaks later had been taken on.
const LONGEST_RACE: Duration = Duration::from_millis(50);

/// Of a pool that has no connection to give.
fn unsent(refusal: Refusal) -> Missed {
    let cause = match refusal {
        Refusal::ConnectFailure { .. } => Cause::Unsent(Unsent::ConnectFailure),
        // The cluster's limit, which no other endpoint of it is beyond.
        Refusal::LimitReached { .. } => Cause::Full,
        _ => Cause::Unsent(Unsent::Overflow),
    };
    Missed::Failed(Failed { refusal, cause })
}

/// A response that may be passed on: `101` would end HTTP on the connection, and we asked for no
/// such thing.
fn forwardable(
    response: Response<Incoming>,
    placement: &Placement,
) -> Result<Response<Incoming>, Failed> {
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let endpoint = placement.endpoint().addr.clone();
        let reason = "it switched protocols unasked".to_owned();
        let refusal = Refusal::UpstreamProtocol { endpoint, reason };
        return Err(Failed { refusal, cause: Cause::Reset { lost_race: false } });
    }
    Ok(response)
}

impl Hold {
    /// The connection broke, or brought nonsense.
    fn failed(&self, error: &hyper::Error) -> Failed {
        let endpoint = self.placement.endpoint().addr.clone();
        // What hyper blames on its user is the body that we gave it, which is the caller's.
        let of_body = error.source().and_then(|cause| cause.downcast_ref::<BodyFailure>());
        if let Some(failure) = of_body {
            let refusal = match failure {
                ReplayError::Stream(cause) if is_malformed(cause) => Refusal::RequestBody,
                _ => Refusal::CallerLeft,
            };
            return Failed { refusal, cause: Cause::Final };
        }
        if error.is_parse() {
            let refusal = Refusal::UpstreamProtocol { endpoint, reason: error.to_string() };
            return Failed { refusal, cause: Cause::Reset { lost_race: false } };
        }
        let at_once = self.placement.sent().elapsed() < LONGEST_RACE;
        let lost_race = self.lease.reused && at_once && self.lease.is_silent();
        Failed { refusal: Refusal::UpstreamClosed { endpoint }, cause: Cause::Reset { lost_race } }
    }
}

/// What can go wrong with the body of a request.
type BodyFailure = ReplayError<hyper::Error>;

/// True when a body's bytes are not what HTTP allows; else its stream ended or broke.
fn is_malformed(error: &hyper::Error) -> bool {
    let cause = error.source().and_then(|cause| cause.downcast_ref::<io::Error>());
    cause.is_some_and(|e| matches!(e.kind(), ErrorKind::InvalidData | ErrorKind::InvalidInput))
}

/// How much of a response that nobody wants is read, and for how long, to keep its connection: an
/// error page, and the time of a handshake.
const MOST_DISCARDED_BYTES: usize = 64 * 1024;
const LONGEST_DISCARD: Duration = Duration::from_secs(1);

/// The body of an upstream's response on its way to the caller.
///
/// It is pulled by the caller's connection, frame by frame, so a slow caller slows the endpoint
/// and nothing piles up here. It holds the connection and the placement until the last frame.
pub struct UpstreamBody {
    body: Incoming,
    state: BodyState,
}

enum BodyState {
    /// More is to come.
    Open(Box<Hold>),
    /// The response was complete at this instant.
    Complete(Instant),
    /// There will be no more of it.
    Cut,
}

/// What a response keeps hold of.
struct Hold {
    // Dropped first: the endpoint hears that nobody waits before anybody hears of the endpoint.
    lease: Lease,
    placement: Placement,
    deadline: Deadline,
}

impl UpstreamBody {
    /// Its head has come `now`.
    fn new(body: Incoming, hold: Box<Hold>, now: Instant) -> Self {
        let mut new = Self { body, state: BodyState::Open(hold) };
        if new.body.is_end_stream() {
            new.release(now);
        }
        new
    }

    /// Drops it for another attempt's. A short rest is read in the background, because the
    /// connection is worth more than that; a long one costs the connection.
    pub fn discard(self) {
        let BodyState::Open(hold) = self.state else { return };
        let Hold { lease, placement, .. } = *hold;
        placement.discarded();
        let rest = Limited::new(self.body, MOST_DISCARDED_BYTES).collect();
        task::spawn("response discard", async move {
            if let Ok(Ok(_rest)) = tokio::time::timeout(LONGEST_DISCARD, rest).await {
                lease.give_back(Instant::now());
            }
        });
    }

    /// When nothing more was to come of it, if that is so and it is complete.
    pub fn completed_at(&self) -> Option<Instant> {
        match self.state {
            BodyState::Complete(at) => Some(at),
            BodyState::Open(_) | BodyState::Cut => None,
        }
    }

    fn release(&mut self, now: Instant) {
        if let BodyState::Open(hold) = self.end(BodyState::Complete(now)) {
            let Hold { lease, placement, .. } = *hold;
            lease.give_back(now);
            placement.completed(now);
        }
    }

    /// Ends it, if it has not ended.
    // Open → (Complete | Cut)
    fn end(&mut self, state: BodyState) -> BodyState {
        match self.state {
            BodyState::Open(_) => std::mem::replace(&mut self.state, state),
            BodyState::Complete(_) | BodyState::Cut => BodyState::Cut,
        }
    }
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        match Pin::new(&mut this.body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                // Nothing follows trailers, and nobody asks whether something does.
                if frame.is_trailers() || this.body.is_end_stream() {
                    this.release(Instant::now());
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                // The head is out already: all that is left is to cut the caller's connection, so
                // that nobody takes the fragment for the whole.
                if let BodyState::Open(mut hold) = this.end(BodyState::Cut) {
                    hold.placement.failed();
                }
                Poll::Ready(Some(Err(BodyError::Upstream(error))))
            }
            Poll::Ready(None) => {
                this.release(Instant::now());
                Poll::Ready(None)
            }
            Poll::Pending => {
                let BodyState::Open(hold) = &mut this.state else { return Poll::Pending };
                let deadline = hold.deadline;
                ready!(hold.lease.poll_until(cx, deadline.at));
                hold.placement.timed_out(deadline);
                this.state = BodyState::Cut;
                Poll::Ready(Some(Err(BodyError::Timeout(deadline.limit))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Why a response body ended before it was complete.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The endpoint broke off.
    #[error("the upstream's response body broke off")]
    Upstream(#[source] hyper::Error),
    /// The route's time was up.
    #[error("the response was not complete within {}", humantime::format_duration(*.0))]
    Timeout(Duration),
}

impl BodyError {
    /// The response flag of a request whose response ended so.
    pub fn flag(&self) -> Flag {
        match self {
            BodyError::Upstream(error) if is_malformed(error) => Flag::UPE,
            BodyError::Upstream(_) => Flag::UC,
            BodyError::Timeout(_) => Flag::UT,
        }
    }
}
