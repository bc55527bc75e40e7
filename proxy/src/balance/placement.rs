//! A request on an endpoint, from the pick to the end of the response.

use std::sync::Arc;
use std::time::Duration;

use http::header::RETRY_AFTER;
use http::{Response, StatusCode};
use tokio::time::Instant;

use super::policies::Chosen;
use super::{Cluster, Endpoint};
use crate::policy::balance::{EndpointId, LoadEvent};
use crate::policy::outlier::{Epoch, Outcome};
use crate::telemetry::event::{AttemptEnd, Event};
use crate::telemetry::trace::AttemptSpan;
use crate::upstream::Deadline;

/// A request on an endpoint.
///
/// It keeps the books of the policies and of telemetry: whatever way the request ends, dropping
/// this says so. An endpoint is judged by its errors as soon as the head tells of one, and by its
/// successes when they are complete: a response that breaks off was none.
pub struct Placement {
    cluster: Arc<Cluster>,
    /// It also keeps the endpoint's place taken.
    endpoint: Arc<Endpoint>,
    epoch: Epoch,
    in_panic: bool,
    on_trial: bool,
    sent: Instant,
    stage: Stage,
    /// In a box, because it is large, there seldom is one, and placements are moved often.
    span: Option<Box<AttemptSpan>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// No response head yet.
    Waiting,
    /// The head of a response has arrived.
    Answered { status: StatusCode, latency: Duration },
    /// How it ended is known and counted.
    Settled,
}

impl Placement {
    pub(super) fn new(
        cluster: Arc<Cluster>,
        endpoint: Arc<Endpoint>,
        chosen: Chosen,
        now: Instant,
    ) -> Self {
        let Chosen { epoch, panics, on_trial, .. } = chosen;
        let stage = Stage::Waiting;
        Self { cluster, endpoint, epoch, in_panic: panics, on_trial, sent: now, stage, span: None }
    }

    /// Where the request is.
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// The same, as a place in the cluster.
    pub fn id(&self) -> EndpointId {
        self.endpoint.id
    }

    /// When it was placed.
    pub fn sent(&self) -> Instant {
        self.sent
    }

    /// It is traced by `span`, which ends with it.
    pub fn trace(&mut self, span: AttemptSpan) {
        self.span = Some(Box::new(span));
    }

    /// True when it was placed while the cluster panicked.
    pub fn in_panic(&self) -> bool {
        self.in_panic
    }

    /// A response head has arrived.
    // Waiting → Answered
    pub fn answered<B>(&mut self, response: &Response<B>, now: Instant) {
        assert!(self.stage == Stage::Waiting, "a request is answered once");
        let status = response.status();
        let latency = now.duration_since(self.sent);
        self.stage = Stage::Answered { status, latency };
        if let Some(span) = &mut self.span {
            span.answered(status);
        }
        let load = if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
            LoadEvent::Failed { elapsed: latency, retry_after: retry_after(response) }
        } else {
            LoadEvent::Answered { latency }
        };
        // What is on trial is judged at once: the response may be an endless stream.
        let judged_now = status.is_server_error() || self.on_trial;
        let outcome = judged_now.then(|| Outcome::of_status(status.as_u16(), latency));
        let (endpoint, epoch, std_now) = (self.id(), self.epoch, now.into_std());
        self.cluster.with_policies(now, |policies| {
            policies.observe(endpoint, load, std_now);
            if let Some(outcome) = outcome {
                policies.record(endpoint, epoch, outcome, std_now);
            }
        });
        let at = self.cluster.at(self.id());
        self.cluster.emit(now, &Event::AttemptAnswered { at, status, latency });
    }

    /// The response is complete.
    // Answered → Settled
    pub fn completed(mut self, now: Instant) {
        self.whole(AttemptEnd::Completed, now);
    }

    /// The response was good enough to be complete, and is dropped for another attempt's.
    // Answered → Settled
    pub fn discarded(mut self) {
        self.whole(AttemptEnd::Discarded, Instant::now());
    }

    fn whole(&mut self, end: impl Fn(StatusCode) -> AttemptEnd, now: Instant) {
        if let Stage::Answered { status, latency } = self.stage {
            self.stage = Stage::Settled;
            let outcome = (!status.is_server_error() && !self.on_trial)
                .then_some(Outcome::Success { latency });
            self.end(end(status), None, outcome, now);
        }
    }

    /// There will be no response, or no more of it, and that is the endpoint's doing.
    pub fn failed(&mut self) {
        let failed = |elapsed| LoadEvent::Failed { elapsed, retry_after: None };
        self.settle(AttemptEnd::Failed, failed, |_| Some(Outcome::LocalOrigin));
    }

    /// It ended, and the endpoint had no part in that: the request never left, because our own limits
    /// kept it, or it met an idle connection that the endpoint was closing. That is the endpoint's
    /// to do, and five callers that meet it doing so are no reason to eject it; if it is gone, new
    /// connections will say so.
    pub fn spared(&mut self, end: AttemptEnd) {
        let cancelled = |_| LoadEvent::Cancelled { elapsed: Duration::ZERO };
        self.settle(end, cancelled, |_| None);
    }

    /// The request's time is up.
    pub fn timed_out(&mut self, deadline: Deadline) {
        let cancelled = |elapsed| LoadEvent::Cancelled { elapsed };
        self.settle(AttemptEnd::TimedOut, cancelled, |elapsed| {
            Some(if deadline.is_callers {
                Outcome::Cancelled { elapsed }
            } else {
                Outcome::LocalOrigin
            })
        });
    }

    /// The attempt's own time is up.
    pub fn per_try_timed_out(&mut self) {
        let cancelled = |elapsed| LoadEvent::Cancelled { elapsed };
        self.settle(AttemptEnd::PerTryTimedOut, cancelled, |_| Some(Outcome::LocalOrigin));
    }

    /// The caller left, or broke off its request, or another attempt was faster.
    pub fn cancelled(&mut self) {
        let cancelled = |elapsed| LoadEvent::Cancelled { elapsed };
        self.settle(AttemptEnd::Cancelled, cancelled, |elapsed| {
            Some(Outcome::Cancelled { elapsed })
        });
    }

    /// Only the first settlement counts. The balancer hears of it only while no head has arrived:
    /// after that, the request has told it its latency.
    // Waiting → Settled, Answered → Settled
    fn settle(
        &mut self,
        end: AttemptEnd,
        load: impl Fn(Duration) -> LoadEvent,
        outcome: impl Fn(Duration) -> Option<Outcome>,
    ) {
        let stage = std::mem::replace(&mut self.stage, Stage::Settled);
        if stage == Stage::Settled {
            return;
        }
        let now = Instant::now();
        let elapsed = now.duration_since(self.sent);
        let load = (stage == Stage::Waiting).then(|| load(elapsed));
        self.end(end, load, outcome(elapsed), now);
    }

    /// The request is over: the last that anybody hears of it.
    fn end(
        &mut self,
        end: AttemptEnd,
        load: Option<LoadEvent>,
        outcome: Option<Outcome>,
        now: Instant,
    ) {
        let on_trial = self.on_trial;
        let (endpoint, epoch, std_now) = (self.id(), self.epoch, now.into_std());
        self.cluster.with_policies(now, |policies| {
            if let Some(load) = load {
                policies.observe(endpoint, load, std_now);
            }
            policies.observe(endpoint, LoadEvent::Ended, std_now);
            match outcome {
                Some(outcome) => policies.record(endpoint, epoch, outcome, std_now),
                None if on_trial => policies.abandon_trial(endpoint, epoch, std_now),
                None => {}
            }
        });
        if let Some(span) = self.span.take() {
            span.end(std_now, end);
        }
        let at = self.cluster.at(self.id());
        self.cluster.emit(now, &Event::AttemptEnded { at, end });
    }
}

impl Drop for Placement {
    fn drop(&mut self) {
        // Nobody else drops a request before its end than a caller that leaves.
        self.cancelled();
    }
}

/// How long the endpoint asks to be left alone, in whole seconds. Dates are not read: they need
/// clocks that agree.
fn retry_after<B>(response: &Response<B>) -> Option<Duration> {
    let seconds = response.headers().get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}
