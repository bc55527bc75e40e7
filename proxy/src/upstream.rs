//! One attempt: a request on a connection, and the response body that keeps hold of both.

use std::error::Error as _;
use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::balance::Placement;
use crate::error::{Flag, Refusal};
use crate::pool::Lease;

/// When an exchange must be over, and what limit that came from.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    /// The instant.
    pub at: Instant,
    /// How long it was from the request's head.
    pub limit: Duration,
}

/// Sends a request to the endpoint it was placed on and waits for the head of the response.
///
/// # Errors
/// Whatever kept a response from coming. The placement is settled in every case.
pub async fn attempt(
    mut placement: Placement,
    request: Request<Incoming>,
    deadline: Deadline,
) -> Result<Response<UpstreamBody>, Refusal> {
    let exchange = exchange(&mut placement, request);
    match tokio::time::timeout_at(deadline.at, exchange).await {
        Ok(Ok((response, lease))) => {
            placement.answered(response.status());
            Ok(response.map(|body| UpstreamBody::new(body, lease, placement, deadline)))
        }
        Ok(Err(refusal)) => {
            match refusal {
                // Nothing is known of the endpoint.
                Refusal::RequestBody | Refusal::CallerLeft => placement.cancelled(),
                _ => placement.failed(),
            }
            Err(refusal)
        }
        Err(_elapsed) => {
            placement.timed_out();
            Err(Refusal::Timeout { limit: deadline.limit })
        }
    }
}

async fn exchange(
    placement: &mut Placement,
    request: Request<Incoming>,
) -> Result<(Response<Incoming>, Lease), Refusal> {
    let pool = placement.endpoint().pool.clone();
    let mut lease = pool.lease().await?;
    let mut request = request;
    loop {
        let error = match lease.sender().try_send_request(request).await {
            Ok(response) => return forwardable(response, placement).map(|r| (r, lease)),
            Err(error) => error,
        };
        let mut error = error;
        match error.take_message() {
            // Closed by the endpoint while it was idle, and not a byte was sent: a request that
            // never left may go out again on a new connection whatever its method.
            Some(unsent) if lease.reused => {
                request = unsent;
                lease = pool.replace(lease).await?;
            }
            _ => return Err(refusal(error.error(), placement)),
        }
    }
}

/// A response that may be passed on: `101` would end HTTP on the connection, and we asked for no
/// such thing.
fn forwardable(
    response: Response<Incoming>,
    placement: &Placement,
) -> Result<Response<Incoming>, Refusal> {
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Err(Refusal::UpstreamProtocol {
            endpoint: placement.endpoint().addr.clone(),
            reason: "it switched protocols unasked".to_owned(),
        });
    }
    Ok(response)
}

fn refusal(error: &hyper::Error, placement: &Placement) -> Refusal {
    let endpoint = placement.endpoint().addr.clone();
    let of_body = error.source().and_then(|cause| cause.downcast_ref::<hyper::Error>());
    match of_body {
        // What hyper blames on its user is the body that we gave it, which is the caller's.
        Some(cause) if error.is_user() && is_malformed(cause) => Refusal::RequestBody,
        Some(_) if error.is_user() => Refusal::CallerLeft,
        _ if error.is_parse() => Refusal::UpstreamProtocol { endpoint, reason: error.to_string() },
        _ => Refusal::UpstreamClosed { endpoint },
    }
}

/// True when a body's bytes are not what HTTP allows; else its stream ended or broke.
fn is_malformed(error: &hyper::Error) -> bool {
    let cause = error.source().and_then(|cause| cause.downcast_ref::<io::Error>());
    cause.is_some_and(|e| matches!(e.kind(), ErrorKind::InvalidData | ErrorKind::InvalidInput))
}

/// The body of an upstream's response on its way to the caller.
///
/// It is pulled by the caller's connection, frame by frame, so a slow caller slows the endpoint
/// and nothing piles up here. It holds the connection and the placement until the last frame.
pub struct UpstreamBody {
    body: Incoming,
    /// `None` once the response is complete.
    hold: Option<(Lease, Placement)>,
    deadline: Deadline,
    /// Armed by the first wait: most bodies are there with their head and never need it.
    timer: Option<Pin<Box<Sleep>>>,
}

impl UpstreamBody {
    fn new(body: Incoming, lease: Lease, placement: Placement, deadline: Deadline) -> Self {
        let mut new = Self { body, hold: Some((lease, placement)), deadline, timer: None };
        new.release_if_complete();
        new
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
        if let Some((lease, placement)) = self.hold.take() {
            lease.give_back();
            placement.completed();
        }
    }

    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let at = self.deadline.at;
        self.timer.get_or_insert_with(|| Box::pin(sleep_until(at))).as_mut().poll(cx)
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
                if let Some((_lease, mut placement)) = this.hold.take() {
                    placement.failed();
                }
                Poll::Ready(Some(Err(BodyError::Upstream(error))))
            }
            Poll::Ready(None) => {
                this.release();
                Poll::Ready(None)
            }
            Poll::Pending if this.hold.is_none() => Poll::Pending,
            Poll::Pending => {
                ready!(this.poll_deadline(cx));
                if let Some((_lease, mut placement)) = this.hold.take() {
                    placement.timed_out();
                }
                Poll::Ready(Some(Err(BodyError::Timeout(this.deadline.limit))))
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
