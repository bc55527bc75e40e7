//! Counters read at one moment, and the sums of them.
//!
//! Nobody stops the path for a scrape, so a reading is not a moment but a while. It is made from the
//! end of a request to its beginning: the counter of what is last first. Whatever is seen to have
//! ended has then been seen to begin, and numbers in flight are never below what they are. Fields
//! stand in the order in which they are read.

use super::count::{CLASSES, Counter, CounterBy, Latencies, LatencyCounter, Switch, class};
use super::event::{
    AttemptEnd, AttemptKind, CircuitState, EjectionReason, GivenUp, Limit, Named as _, RequestEnd,
    RequestOutcome,
};
use crate::error::Flag;

pub(super) const KINDS: usize = AttemptKind::ALL.len();
pub(super) const REASONS: usize = EjectionReason::ALL.len();
const CLASS_COUNT: usize = CLASSES.len();

/// Something that can be added up over endpoints.
trait Sum {
    fn add(&mut self, other: &Self);
}

impl Sum for u64 {
    fn add(&mut self, other: &Self) {
        *self += other;
    }
}

impl<const N: usize> Sum for [u64; N] {
    fn add(&mut self, other: &Self) {
        for (own, more) in self.iter_mut().zip(other) {
            *own += more;
        }
    }
}

impl Sum for Latencies {
    fn add(&mut self, other: &Self) {
        Latencies::add(self, other);
    }
}

/// A struct of counters and, of the same fields, what they read.
macro_rules! book {
    ($counters:ident, $(#[$doc:meta])* $totals:ident {
        $($(#[$of:meta])* $field:ident: $counter:ty => $total:ty,)+
    }) => {
        #[derive(Debug, Default)]
        // Two cache lines, because processors fetch them in pairs: workers that count at different
        // endpoints do not slow each other down.
        #[repr(align(128))]
        pub(super) struct $counters { $(pub(super) $field: $counter,)+ }

        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct $totals { $($(#[$of])* pub $field: $total,)+ }

        impl $counters {
            pub(super) fn read(&self) -> $totals {
                $totals { $($field: self.$field.get(),)+ }
            }
        }

        impl $totals {
            /// Adds another's.
            pub fn add(&mut self, other: &Self) {
                $(Sum::add(&mut self.$field, &other.$field);)+
            }
        }
    };
}

impl Switch {
    fn get(&self) -> u64 {
        u64::from(self.is_on())
    }
}

book! {
    RequestCounters,
    /// What became of the requests that came in.
    RequestTotals {
        /// Attempts that ended requests had, all together.
        attempts: Counter => u64,
        /// Ended with an upstream's whole response below 500.
        ok: Counter => u64,
        /// Ended with an upstream's whole response of 500 and above.
        failed: Counter => u64,
        /// Answered or cut by us, by the place of the flag.
        refused: CounterBy<{ Flag::ALL.len() }> => [u64; Flag::ALL.len()],
        /// Ended by the caller.
        cancelled: Counter => u64,
        /// Statuses that callers were sent, by class.
        by_class: CounterBy<CLASS_COUNT> => [u64; CLASS_COUNT],
        /// From the head to the end.
        latency: LatencyCounter => Latencies,
        /// Refused by a rate limit.
        rate_limited: Counter => u64,
        /// Heads received.
        received: Counter => u64,
    }
}

book! {
    ClusterCounters,
    /// What happened to a cluster as a whole.
    ClusterTotals {
        /// Requests answered well by a later attempt than the first.
        retry_succeeded: Counter => u64,
        /// Failures not retried, by the place of the reason.
        retry_given_up: CounterBy<{ GivenUp::ALL.len() }> => [u64; GivenUp::ALL.len()],
        /// Retries that were to follow a wait.
        retry_scheduled: Counter => u64,
        /// Refused, by the place of the limit.
        limit_reached: CounterBy<{ Limit::ALL.len() }> => [u64; Limit::ALL.len()],
        /// Requests that found no endpoint.
        none_healthy: Counter => u64,
        /// Requests placed while the cluster panicked.
        placed_in_panic: Counter => u64,
        /// 1 while it panics.
        panics: Switch => u64,
        /// Changes to each state of the circuit.
        circuit_changed: CounterBy<{ CircuitState::ALL.len() }> => [u64; CircuitState::ALL.len()],
        /// 1 while the circuit refuses.
        circuit_is_open: Switch => u64,
        /// 1 while the circuit tries.
        circuit_is_half_open: Switch => u64,
        /// Fallbacks served.
        fallback_served: Counter => u64,
    }
}

book! {
    EndpointCounters,
    /// What happened at an endpoint, or at several.
    EndpointTotals {
        /// Attempts with a whole response, by class.
        completed: CounterBy<CLASS_COUNT> => [u64; CLASS_COUNT],
        /// Attempts whose response was dropped for another's, by class.
        discarded: CounterBy<CLASS_COUNT> => [u64; CLASS_COUNT],
        /// Attempts without a whole response: no connection, or it broke.
        failed: Counter => u64,
        /// Attempts whose request ran out of time.
        timed_out: Counter => u64,
        /// Attempts that ran out of their own time.
        per_try_timed_out: Counter => u64,
        /// Attempts that nobody waited for any more.
        cancelled: Counter => u64,
        /// Attempts that never left.
        refused: Counter => u64,
        /// Time to the response head.
        latency: LatencyCounter => Latencies,
        /// Attempts, by the place of their kind.
        attempts: CounterBy<KINDS> => [u64; KINDS],
        /// Requests refused because the queue was full.
        queue_overflowed: Counter => u64,
        /// Requests that waited in the queue for too long.
        queue_timed_out: Counter => u64,
        /// Connections closed.
        cx_closed: Counter => u64,
        /// Connections made.
        cx_opened: Counter => u64,
        /// Connections that could not be made.
        connect_failed: Counter => u64,
        /// Returns from an ejection.
        returned: Counter => u64,
        /// Trials during an ejection.
        probed: Counter => u64,
        /// Ejections, by the place of the reason.
        ejected: CounterBy<REASONS> => [u64; REASONS],
        /// Ejections that were not made because their detector only observes, by the place of the
        /// reason.
        detected: CounterBy<REASONS> => [u64; REASONS],
        /// Trials that failed.
        trial_failed: Counter => u64,
        /// Ejections that the limit forbade, by the place of the reason.
        ejection_overflowed: CounterBy<REASONS> => [u64; REASONS],
        /// 1 while it is ejected.
        is_ejected: Switch => u64,
        /// 1 while an active check finds it unhealthy.
        is_unhealthy: Switch => u64,
        /// 1 while it is one or the other, which could not be read from the two at one moment.
        is_out: Switch => u64,
    }
}

impl RequestCounters {
    pub(super) fn ended(&self, end: &RequestEnd) {
        // The reverse of the order in which they are read.
        self.latency.observe(end.elapsed);
        if let Some(status) = end.status {
            self.by_class.up(class(status));
        }
        match end.outcome {
            RequestOutcome::Ok => self.ok.up(),
            RequestOutcome::Failed => self.failed.up(),
            RequestOutcome::Refused(flag) => self.refused.up(flag as usize),
            RequestOutcome::Cancelled => self.cancelled.up(),
        }
        if end.attempts != 0 {
            self.attempts.add(end.attempts.into());
        }
    }
}

impl ClusterCounters {
    pub(super) fn circuit_changed(&self, state: CircuitState) {
        self.circuit_changed.up(state.place());
        self.circuit_is_open.set(state == CircuitState::Open);
        self.circuit_is_half_open.set(state == CircuitState::HalfOpen);
    }
}

impl EndpointCounters {
    pub(super) fn ended(&self, end: AttemptEnd) {
        match end {
            AttemptEnd::Completed(status) => self.completed.up(class(status)),
            AttemptEnd::Discarded(status) => self.discarded.up(class(status)),
            AttemptEnd::Failed => self.failed.up(),
            AttemptEnd::TimedOut => self.timed_out.up(),
            AttemptEnd::PerTryTimedOut => self.per_try_timed_out.up(),
            AttemptEnd::Cancelled => self.cancelled.up(),
            AttemptEnd::Refused => self.refused.up(),
        }
    }

    pub(super) fn set_ejected(&self, ejected: bool) {
        self.is_ejected.set(ejected);
        self.is_out.set(ejected || self.is_unhealthy.is_on());
    }

    pub(super) fn set_healthy(&self, healthy: bool) {
        self.is_unhealthy.set(!healthy);
        self.is_out.set(!healthy || self.is_ejected.is_on());
    }
}

impl EndpointTotals {
    /// Of an endpoint that is gone: nothing that it is counts any more, only what it did.
    pub(super) fn forget_state(&mut self) {
        self.is_ejected = 0;
        self.is_unhealthy = 0;
        self.is_out = 0;
    }
}

impl RequestTotals {
    /// Requests that ended, in whatever way.
    pub fn ended(&self) -> u64 {
        self.ok + self.failed + self.refused_in_all() + self.cancelled
    }

    /// Requests answered or cut by us, for whatever reason.
    pub fn refused_in_all(&self) -> u64 {
        self.refused.iter().sum()
    }

    /// Requests not ended; below zero only when one ended that never began.
    pub fn active(&self) -> i64 {
        self.received.cast_signed() - self.ended().cast_signed()
    }
}

impl EndpointTotals {
    /// Attempts of every kind.
    pub fn started(&self) -> u64 {
        self.attempts.iter().sum()
    }

    /// Attempts of one kind.
    pub fn of_kind(&self, kind: AttemptKind) -> u64 {
        self.attempts[kind.place()]
    }

    /// Attempts that ended, in whatever way.
    pub fn ended(&self) -> u64 {
        self.completed.iter().sum::<u64>()
            + self.discarded.iter().sum::<u64>()
            + self.failed
            + self.timed_out
            + self.per_try_timed_out
            + self.cancelled
            + self.refused
    }

    /// Attempts not ended; below zero only when one ended that never began.
    pub fn active(&self) -> i64 {
        self.started().cast_signed() - self.ended().cast_signed()
    }

    /// Connections open.
    pub fn cx_active(&self) -> i64 {
        self.cx_opened.cast_signed() - self.cx_closed.cast_signed()
    }

    /// Share of ended attempts that were answered below 500; attempts that nobody waited for and
    /// those that never left say nothing. `None` before the first.
    pub fn success_rate(&self) -> Option<f64> {
        let good: u64 =
            [&self.completed, &self.discarded].map(|by| by[..4].iter().sum()).iter().sum();
        let judged = self.ended() - self.cancelled - self.refused;
        (judged > 0).then(|| good as f64 / judged as f64)
    }
}

/// An endpoint's counters at one moment, by Envoy's names.
///
/// Each request placed is in exactly one place: `rq_total` is the sum of `rq_active` and all those
/// between it and `rq_retry`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[allow(missing_docs, reason = "the names are those of the statistics")]
pub struct EndpointSnapshot {
    pub rq_total: u64,
    pub rq_active: i64,
    pub rq_success: u64,
    pub rq_error: u64,
    pub rq_discarded: u64,
    pub rq_failed: u64,
    pub rq_timeout: u64,
    pub rq_per_try_timeout: u64,
    pub rq_cancelled: u64,
    pub rq_refused: u64,
    pub rq_retry: u64,
    pub rq_hedge: u64,
    pub rq_replay: u64,
    pub rq_pending_overflow: u64,
    pub cx_total: u64,
    pub cx_active: i64,
    pub cx_connect_fail: u64,
}

impl From<&EndpointTotals> for EndpointSnapshot {
    fn from(totals: &EndpointTotals) -> Self {
        Self {
            rq_total: totals.started(),
            rq_active: totals.active(),
            rq_success: totals.completed[..4].iter().sum(),
            rq_error: totals.completed[4],
            rq_discarded: totals.discarded.iter().sum(),
            rq_failed: totals.failed,
            rq_timeout: totals.timed_out,
            rq_per_try_timeout: totals.per_try_timed_out,
            rq_cancelled: totals.cancelled,
            rq_refused: totals.refused,
            rq_retry: totals.of_kind(AttemptKind::Retry),
            rq_hedge: totals.of_kind(AttemptKind::Hedge),
            rq_replay: totals.of_kind(AttemptKind::Replay),
            rq_pending_overflow: totals.queue_overflowed,
            cx_total: totals.cx_opened,
            cx_active: totals.cx_active(),
            cx_connect_fail: totals.connect_failed,
        }
    }
}
