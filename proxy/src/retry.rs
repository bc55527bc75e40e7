//! Drives a request through its attempts: the shell around [`crate::policy::retry`].
//!
//! ```text
//! place → attempt (→ hedges beside it) → judge → wait → place …
//! ```
//!
//! Everything that another attempt needs is kept from the start: the head is cloned for each, the
//! body is kept as far as its bound goes ([`crate::replay`]). What was tried is not tried again
//! while there is anything else.

mod race;

use std::sync::Arc;

use http::header::HeaderValue;
use http::request::Parts;
use http::{HeaderMap, Request, Response};
use hyper::body::Incoming;
use tokio::time::Instant;

use crate::balance::{Cluster, Endpoint, Placement, Want};
use crate::error::Refusal;
use crate::headers::{ATTEMPT_COUNT, PANIC, RETRY_GIVEN_UP};
use crate::policy::balance::EndpointId;
use crate::policy::budget::Reservation;
use crate::policy::hedge::HedgeOptions;
use crate::policy::membership::SubsetId;
use crate::policy::retry::{
    Attempt, AttemptOutcome, BodyState, GiveUp, RequestFacts, RetryOptions, Verdict,
};
use crate::replay::Replay;
use crate::telemetry::event::{AttemptKind, Event};
use crate::telemetry::trace::{self, RequestSpan};
use crate::upstream::{Cause, Deadline, Failed, Terms, UpstreamBody, attempt};

/// A request on its way to a cluster.
pub struct Call<'a> {
    /// Where to.
    pub cluster: &'a Arc<Cluster>,
    /// Which of its endpoints.
    pub subset: SubsetId,
    /// What strategies that hash go by.
    pub key: Option<u64>,
    /// When it must be over.
    pub deadline: Deadline,
    /// Whether the next hop is told in gRPC's way how long it has.
    pub is_grpc: bool,
    /// Its span, if it is traced.
    pub span: Option<&'a RequestSpan>,
    /// What is tried again.
    pub retry: &'a RetryOptions,
    /// What is sent twice.
    pub hedge: Option<&'a HedgeOptions>,
    /// The request without its body.
    pub head: Parts,
    /// Its body.
    pub body: Replay<Incoming>,
}

/// What became of a call beside its answer.
#[derive(Clone, Default)]
pub struct Journal {
    /// Attempts made.
    pub attempts: u32,
    /// Those of them that were hedges. A hedge is no retry: it uses up none of those that the route
    /// allows, as in Envoy, and is bounded by the budget that it shares with them.
    pub hedges: u32,
    /// Why there was no further one, where there should have been.
    pub gave_up: Option<GiveUp>,
    /// It was placed while its cluster panicked.
    pub panicked: bool,
    /// The endpoint that was tried last; it keeps its place until the request is over.
    pub endpoint: Option<Arc<Endpoint>>,
}

type Outcome = Result<Response<UpstreamBody>, Failed>;

impl Journal {
    /// Says in a response's fields what was done for it.
    pub(crate) fn describe(&self, headers: &mut HeaderMap) {
        if self.attempts > 1 {
            headers.insert(ATTEMPT_COUNT.clone(), HeaderValue::from(self.attempts));
        }
        if let Some(why) = self.gave_up {
            headers.insert(RETRY_GIVEN_UP.clone(), HeaderValue::from_static(why.name()));
        }
        if self.panicked {
            headers.insert(PANIC.clone(), HeaderValue::from_static("true"));
        }
    }
}

impl Call<'_> {
    /// Makes attempts until one is good, or no further one is allowed; the first of them `now`.
    /// `journal` is up to date even when this is dropped on the way.
    ///
    /// # Errors
    /// The last attempt's, when there was no response.
    pub async fn drive(
        &mut self,
        mut now: Instant,
        journal: &mut Journal,
    ) -> Result<Response<UpstreamBody>, Refusal> {
        let cluster = self.cluster;
        let mut tried = Vec::new();
        let mut kind = AttemptKind::First;
        let (mut replayed, mut retried) = (false, false);
        let mut reserved: Option<Reserved<'_>> = None;
        loop {
            let Some(placement) = self.place(kind, &tried, journal, now) else {
                return Err(Refusal::NoEndpoint { cluster: self.cluster.name.clone() });
            };
            let endpoint = placement.id();
            if let Some(reserved) = &mut reserved {
                // To drop it is to use it.
                reserved.reservation = None;
            }
            let outcome = self.attempt(placement, kind, replayed, &mut tried, journal).await;
            drop(reserved.take());
            if let Ok(response) = &outcome
                && !self.retry.covers(&outcome_of(response))
            {
                if retried {
                    let event = Event::RetrySucceeded { cluster: self.cluster.id };
                    self.cluster.emit(Instant::now(), &event);
                }
                return conclude(outcome);
            }
            tried.push(endpoint);
            now = Instant::now();
            // The endpoint closed an idle connection as we sent: the race is nobody's failure, and
            // is repeated once without asking the budget, if repeating is safe. From then on on
            // new connections: an endpoint that closes one idle connection closes them all.
            let lost_race =
                matches!(&outcome, Err(Failed { cause: Cause::Reset { lost_race: true }, .. }));
            if lost_race && !replayed && self.is_repeatable() {
                (kind, replayed) = (AttemptKind::Replay, true);
                continue;
            }
            let made = journal.attempts - journal.hedges - u32::from(replayed);
            match self.judge(&outcome, made, now) {
                Verdict::Accept => return conclude(outcome),
                Verdict::GiveUp(why) => {
                    journal.gave_up = Some(why);
                    let event = Event::RetryGivenUp { cluster: self.cluster.id, why };
                    self.cluster.emit(now, &event);
                    return conclude(outcome);
                }
                Verdict::Retry { after, reservation } => {
                    (kind, retried) = (AttemptKind::Retry, true);
                    let reservation = Some(reservation);
                    reserved = Some(Reserved { cluster, reservation });
                    let event = Event::RetryScheduled { cluster: self.cluster.id, after };
                    self.cluster.emit(now, &event);
                    if let Ok(response) = outcome {
                        response.into_body().discard();
                    }
                    if !after.is_zero() {
                        Box::pin(tokio::time::sleep(after)).await;
                        now = Instant::now();
                    }
                }
            }
        }
    }

    fn place(
        &self,
        kind: AttemptKind,
        tried: &[EndpointId],
        journal: &mut Journal,
        now: Instant,
    ) -> Option<Placement> {
        let want = Want {
            kind,
            subset: self.subset,
            key: self.key,
            tried,
            // A request on trial may be lost; better one that can be had again.
            may_probe: kind == AttemptKind::First
                && self.retry.max_retries > 0
                && self.is_repeatable(),
        };
        let placement = self.cluster.place(&want, now)?;
        journal.attempts += 1;
        journal.hedges += u32::from(kind == AttemptKind::Hedge);
        journal.panicked |= placement.in_panic();
        journal.endpoint = Some(placement.endpoint().clone());
        Some(placement)
    }

    async fn attempt(
        &mut self,
        placement: Placement,
        kind: AttemptKind,
        anew: bool,
        tried: &mut Vec<EndpointId>,
        journal: &mut Journal,
    ) -> Outcome {
        match self.hedge.and_then(|hedge| self.cluster.hedge_delay(hedge)) {
            None => self.send(placement, kind, anew, journal.attempts).await,
            // In a box, like everything that is rare and awaited on the path of a request: see
            // `stack::Stack::call`.
            Some(delay) => {
                let first = self.send(placement, kind, anew, journal.attempts);
                Box::pin(self.race(first, delay, tried, journal)).await
            }
        }
    }

    /// One attempt, as the `nth`; on a connection that was not idle before, if `anew`.
    fn send(
        &mut self,
        mut placement: Placement,
        kind: AttemptKind,
        anew: bool,
        nth: u32,
    ) -> impl Future<Output = Outcome> + use<> {
        // The copy is for a later attempt: the original has room for what is added to it.
        let kept = self.head.clone();
        let mut head = std::mem::replace(&mut self.head, kept);
        if let Some(span) = self.span {
            let (cluster, endpoint) = (self.cluster.name.as_str(), placement.endpoint());
            let about =
                trace::Attempt { cluster, endpoint: endpoint.addr.as_str(), number: nth, kind };
            let span = span.attempt(placement.sent().into_std(), about);
            span.inject(&mut head.headers);
            placement.trace(span);
        }
        head.headers.insert(ATTEMPT_COUNT.clone(), count(nth));
        let request = Box::new(Request::from_parts(head, self.body.attempt()));
        let per_try = self.retry.per_try_timeout;
        let terms = Terms { deadline: self.deadline, per_try, is_grpc: self.is_grpc, anew };
        attempt(placement, request, terms)
    }

    fn judge(&self, outcome: &Outcome, made: u32, now: Instant) -> Verdict {
        let outcome = match outcome {
            Ok(response) => outcome_of(response),
            Err(Failed { cause: Cause::Unsent(unsent), .. }) => AttemptOutcome::Unsent(*unsent),
            Err(Failed { cause: Cause::Reset { .. }, .. }) => AttemptOutcome::Reset,
            Err(Failed { cause: Cause::PerTryTimeout, .. }) => AttemptOutcome::PerTryTimeout,
            Err(Failed { cause: Cause::Final | Cause::Full, .. }) => return Verdict::Accept,
        };
        let remaining = self.deadline.left(now);
        let request = self.facts();
        let attempt = Attempt { request, outcome, made, remaining, expected_try: None };
        self.cluster.judge(self.retry, attempt, now)
    }

    fn facts(&self) -> RequestFacts {
        RequestFacts::of(&self.head.method, self.body.state())
    }

    /// True when it could be sent again without harm.
    fn is_repeatable(&self) -> bool {
        let RequestFacts { method_is_idempotent, body } = self.facts();
        method_is_idempotent && body == BodyState::Replayable
    }
}

/// A place among the retries of a cluster, and in its budget. A caller that leaves during the wait
/// leaves the latter to others.
struct Reserved<'a> {
    cluster: &'a Cluster,
    /// `None` once it is used.
    reservation: Option<Reservation>,
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        self.cluster.retry_ended(self.reservation.take());
    }
}

/// The number of an attempt. Nearly all are the first, which allocates nothing.
fn count(nth: u32) -> HeaderValue {
    if nth == 1 { HeaderValue::from_static("1") } else { HeaderValue::from(nth) }
}

fn outcome_of(response: &Response<UpstreamBody>) -> AttemptOutcome<'_> {
    AttemptOutcome::Response { status: response.status(), headers: response.headers() }
}

fn conclude(outcome: Outcome) -> Result<Response<UpstreamBody>, Refusal> {
    outcome.map_err(|failed| failed.refusal)
}
