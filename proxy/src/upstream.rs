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
use tokio::time::{Instant, Sleep, sleep_until};

use crate::balance::Placement;
use crate::error::{Flag, Refusal};
use crate::policy::deadline;
use crate::policy::retry::Unsent;
use crate::pool::{Lease, OutBody};
use crate::replay::ReplayError;
use crate::task;

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

/// Sends a request to the endpoint it was placed on and waits for the head of the response.
///
/// # Errors
/// Whatever kept a response from coming. The placement is settled in every case.
// The request is in a box, like all that is large and lives across an await on this path: see
// `stack::Stack::call`.
pub async fn attempt(
    mut placement: Placement,
    request: Box<Request<OutBody>>,
    terms: Terms,
) -> Result<Response<UpstreamBody>, Failed> {
    let Terms { deadline, per_try, .. } = terms;
    let own = per_try.map(|limit| (Instant::now() + limit, limit));
    let until = own.map_or(deadline.at, |(at, _)| at.min(deadline.at));
    match tokio::time::timeout_at(until, exchange(&mut placement, request, terms, until)).await {
        Ok(Ok((response, lease))) => {
            placement.answered(&response);
            let status = response.status();
            let hold = Box::new(Hold { lease, placement, deadline, timer: None });
            Ok(response.map(|body| UpstreamBody::new(body, status, hold)))
        }
        Ok(Err(failed)) => {
            match failed.cause {
                Cause::Unsent(Unsent::Overflow) => placement.refused(),
                // Nothing is known of the endpoint.
                Cause::Final if is_callers(&failed.refusal) => placement.cancelled(),
                Cause::Reset { lost_race: true } => placement.lost_race(),
                _ => placement.failed(),
            }
            Err(failed)
        }
        Err(_elapsed) => Err(match own {
            Some((at, limit)) if at < deadline.at => {
                placement.per_try_timed_out();
                let refusal = Refusal::PerTryTimeout { limit };
                Failed { refusal, cause: Cause::PerTryTimeout }
            }
            _ => {
                placement.timed_out(deadline);
                let refusal = Refusal::Timeout { limit: deadline.limit };
                Failed { refusal, cause: Cause::Final }
            }
        }),
    }
}

fn is_callers(refusal: &Refusal) -> bool {
    matches!(refusal, Refusal::RequestBody | Refusal::CallerLeft)
}

async fn exchange(
    placement: &mut Placement,
    mut request: Box<Request<OutBody>>,
    terms: Terms,
    until: Instant,
) -> Result<(Response<Incoming>, Lease), Failed> {
    let pool = placement.endpoint().pool.clone();
    let mut lease = pool.lease().await.map_err(unsent)?;
    if terms.anew && lease.reused {
        lease = pool.replace(lease).await.map_err(unsent)?;
    }
    loop {
        // Only now: what was spent in our queue or on connecting is not the endpoint's any more.
        let now = Instant::now();
        let of_try = until.saturating_duration_since(now).max(deadline::LEAST);
        let left = terms.deadline.left(now).min(of_try);
        if deadline::stamp(request.headers_mut(), left, terms.is_grpc).is_err() {
            // Nobody can be told so little. The timer that is about to fire does the rest.
            lease.give_back();
            return std::future::pending().await;
        }
        let reused = lease.reused;
        let mut error = match lease.sender().try_send_request(*request).await {
            Ok(response) => return forwardable(response, placement).map(|r| (r, lease)),
            Err(error) => error,
        };
        match error.take_message() {
            // Closed by the endpoint while it was idle, and not a byte was sent: a request that
            // never left may go out again on a new connection whatever its method.
            Some(unsent_request) if reused => {
                *request = unsent_request;
                lease = pool.replace(lease).await.map_err(unsent)?;
            }
            Some(_unsent) => {
                let endpoint = placement.endpoint().addr.clone();
                let cause = Cause::Unsent(Unsent::ConnectFailure);
                return Err(Failed { refusal: Refusal::UpstreamClosed { endpoint }, cause });
            }
            None => {
                let at_once = placement.sent().elapsed() < LONGEST_RACE;
                let lost_race = reused && at_once && lease.is_silent();
                return Err(failed(error.error(), placement, lost_race));
            }
        }
    }
}

/// How long after its placement a request can have lost the race against an idle close: a round trip
/// within a mesh, with room for a slow one. What breaks later had been taken on.
const LONGEST_RACE: Duration = Duration::from_millis(50);

/// Of a pool that has no connection to give.
fn unsent(refusal: Refusal) -> Failed {
    let cause = match refusal {
        Refusal::ConnectFailure { .. } => Unsent::ConnectFailure,
        _ => Unsent::Overflow,
    };
    Failed { refusal, cause: Cause::Unsent(cause) }
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

fn failed(error: &hyper::Error, placement: &Placement, lost_race: bool) -> Failed {
    let endpoint = placement.endpoint().addr.clone();
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
    Failed { refusal: Refusal::UpstreamClosed { endpoint }, cause: Cause::Reset { lost_race } }
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
    status: StatusCode,
    /// `None` once the response is complete.
    hold: Option<Box<Hold>>,
}

/// What a response keeps hold of.
struct Hold {
    // Dropped first: the endpoint hears that nobody waits before anybody hears of the endpoint.
    lease: Lease,
    placement: Placement,
    deadline: Deadline,
    /// Armed by the first wait: most bodies are there with their head and never need it.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Hold {
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let at = self.deadline.at;
        self.timer.get_or_insert_with(|| Box::pin(sleep_until(at))).as_mut().poll(cx)
    }
}

impl UpstreamBody {
    fn new(body: Incoming, status: StatusCode, hold: Box<Hold>) -> Self {
        let mut new = Self { body, status, hold: Some(hold) };
        new.release_if_complete();
        new
    }

    /// The status that came with it.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// Drops it for another attempt's. A short rest is read in the background, because the
    /// connection is worth more than that; a long one costs the connection.
    pub fn discard(mut self) {
        let Some(hold) = self.hold.take() else { return };
        let Hold { lease, placement, .. } = *hold;
        placement.discarded();
        let rest = Limited::new(self.body, MOST_DISCARDED_BYTES).collect();
        task::spawn("response discard", async move {
            if let Ok(Ok(_rest)) = tokio::time::timeout(LONGEST_DISCARD, rest).await {
                lease.give_back();
            }
        });
    }

    /// True when nothing more will come of it.
    pub fn is_over(&self) -> bool {
        self.hold.is_none()
    }

    fn release_if_complete(&mut self) {
        if self.body.is_end_stream() {
            self.release();
        }
    }

    fn release(&mut self) {
        if let Some(hold) = self.hold.take() {
            let Hold { lease, placement, .. } = *hold;
            lease.give_back();
            placement.completed();
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
                if frame.is_trailers() {
                    // Nothing follows them, and nobody asks whether something does.
                    this.release();
                } else {
                    this.release_if_complete();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                // The head is out already: all that is left is to cut the caller's connection, so
                // that nobody takes the fragment for the whole.
                if let Some(mut hold) = this.hold.take() {
                    hold.placement.failed();
                }
                Poll::Ready(Some(Err(BodyError::Upstream(error))))
            }
            Poll::Ready(None) => {
                this.release();
                Poll::Ready(None)
            }
            Poll::Pending => {
                let Some(hold) = &mut this.hold else { return Poll::Pending };
                ready!(hold.poll_deadline(cx));
                let deadline = hold.deadline;
                hold.placement.timed_out(deadline);
                this.hold = None;
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
