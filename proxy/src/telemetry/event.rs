//! What happens on the path, as values: the one source of all that is counted, logged, traced and
//! drawn.
//!
//! The shell says each thing once, by [`Telemetry::emit`](super::Telemetry::emit). Who counts, who
//! logs and who draws listen to the same words, so that they cannot disagree.
//!
//! Reasons are enums and not text: a counter for each is then there from the start, at zero, and
//! found by its place.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

use crate::error::Flag;
use crate::policy::balance::EndpointId;
pub use crate::policy::limit::circuit::CircuitState;
pub use crate::policy::outlier::Reason as EjectionReason;
pub use crate::policy::retry::GiveUp as GivenUp;

/// Something with a fixed set of names, each at its place.
pub trait Named: Copy + 'static {
    /// All there are, in the order of declaration.
    const ALL: &'static [Self];
    /// As statistics, logs and pages spell it.
    fn name(self) -> &'static str;
    /// Its place in [`Named::ALL`].
    fn place(self) -> usize;
}

/// The names of an enum that a policy owns, in the order of its declaration.
macro_rules! names_of {
    ($type:ident { $($variant:ident = $name:literal,)+ }) => {
        impl Named for $type {
            const ALL: &'static [Self] = &[$($type::$variant),+];
            fn name(self) -> &'static str {
                match self { $($type::$variant => $name),+ }
            }
            fn place(self) -> usize {
                self as usize
            }
        }

        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(Named::name(*self))
            }
        }
    };
}

/// An enum of our own and its names: the variants and their spelling, written once.
macro_rules! named {
    ($(#[$of:meta])* $type:ident { $($(#[$doc:meta])* $variant:ident = $name:literal,)+ }) => {
        $(#[$of])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $type { $($(#[$doc])* $variant,)+ }

        names_of! { $type { $($variant = $name,)+ } }
    };
}

names_of! {
    GivenUp {
        NotSafe = "not_safe",
        Exhausted = "exhausted",
        Budget = "budget",
        LimitReached = "limit_reached",
        Deadline = "deadline",
        BodyTooLarge = "body_too_large",
        BodyBroken = "body_broken",
        Pushback = "pushback",
        Overloaded = "overloaded",
    }
}

names_of! {
    EjectionReason {
        ConsecutiveErrors = "consecutive_errors",
        ConsecutiveGatewayErrors = "consecutive_gateway_errors",
        ConsecutiveLocalOrigin = "consecutive_local_origin",
        SuccessRate = "success_rate",
        FailurePercentage = "failure_percentage",
        Latency = "latency",
    }
}

names_of! {
    CircuitState {
        Closed = "closed",
        Open = "open",
        HalfOpen = "half_open",
    }
}

/// A cluster's place in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId(pub usize);

/// An endpoint of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointRef {
    /// The cluster.
    pub cluster: ClusterId,
    /// Its place in it.
    pub endpoint: EndpointId,
}

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// A request head was received.
    RequestReceived,
    /// A request is over: exactly one for each [`Event::RequestReceived`].
    RequestEnded(RequestEnd),
    /// A request was placed on an endpoint.
    AttemptStarted {
        /// Where.
        at: EndpointRef,
        /// Why.
        kind: AttemptKind,
    },
    /// The head of an endpoint's response arrived.
    AttemptAnswered {
        /// Where.
        at: EndpointRef,
        /// Its status.
        status: StatusCode,
        /// From the attempt's start.
        latency: Duration,
    },
    /// An attempt is over: exactly one for each [`Event::AttemptStarted`].
    AttemptEnded {
        /// Where.
        at: EndpointRef,
        /// How.
        end: AttemptEnd,
    },
    /// Another attempt will be made after a wait.
    RetryScheduled {
        /// For.
        cluster: ClusterId,
        /// The wait.
        after: Duration,
    },
    /// A failure was one to retry, and is not retried.
    RetryGivenUp {
        /// For.
        cluster: ClusterId,
        /// What forbids it.
        why: GivenUp,
    },
    /// A request whose first attempt failed was answered well by a later one.
    RetrySucceeded {
        /// For.
        cluster: ClusterId,
    },
    /// A connection to an endpoint was made.
    ConnectionOpened {
        /// Where.
        at: EndpointRef,
    },
    /// It is closed.
    ConnectionClosed {
        /// Where.
        at: EndpointRef,
    },
    /// A connection could not be made.
    ConnectFailed {
        /// Where.
        at: EndpointRef,
    },
    /// The endpoint's queue was full, and its oldest request was refused.
    QueueOverflowed {
        /// Where.
        at: EndpointRef,
    },
    /// A request waited in the endpoint's queue for longer than that allows.
    QueueTimedOut {
        /// Where.
        at: EndpointRef,
    },
    /// A limit of the cluster refused a request or a retry.
    LimitReached {
        /// For.
        cluster: ClusterId,
        /// Which.
        limit: Limit,
    },
    /// A request found no endpoint to be placed on.
    NoneHealthy {
        /// In.
        cluster: ClusterId,
    },
    /// A rate limit refused a request.
    RateLimited,
    /// An endpoint was taken out.
    Ejected {
        /// Where.
        at: EndpointRef,
        /// What gave it away.
        reason: EjectionReason,
        /// For how long, before it is probed.
        lasts: Duration,
    },
    /// An endpoint that should have been taken out was not, because too many are.
    EjectionOverflowed {
        /// Where.
        at: EndpointRef,
        /// As for an ejection.
        reason: EjectionReason,
    },
    /// A detector that only observes would have taken an endpoint out.
    Detected {
        /// Where.
        at: EndpointRef,
        /// As for an ejection.
        reason: EjectionReason,
    },
    /// An endpoint failed its trial, and stays out.
    TrialFailed {
        /// Where.
        at: EndpointRef,
        /// For how long, before it is probed again.
        lasts: Duration,
    },
    /// An ejected endpoint gets one request on trial.
    Probed {
        /// Where.
        at: EndpointRef,
    },
    /// An ejected endpoint is back.
    Returned {
        /// Where.
        at: EndpointRef,
    },
    /// An active check changed its mind about an endpoint.
    HealthChanged {
        /// Where.
        at: EndpointRef,
        /// What it thinks now.
        healthy: bool,
    },
    /// So few endpoints are available that all are used again, or no longer so.
    PanicChanged {
        /// Of.
        cluster: ClusterId,
        /// Whether it panics now.
        panics: bool,
    },
    /// A request was placed while its cluster panicked.
    PlacedInPanic {
        /// Of.
        cluster: ClusterId,
    },
    /// A cluster's circuit opened, tries again, or closed.
    CircuitChanged {
        /// Of.
        cluster: ClusterId,
        /// What it is now.
        state: CircuitState,
    },
    /// A new configuration is in force.
    ConfigApplied {
        /// How many there have been; the one that the sidecar started with was the first.
        generation: u64,
        /// Endpoints that it added, in all clusters.
        added: usize,
        /// Endpoints that it took away.
        removed: usize,
    },
    /// A new configuration was wrong; the old one is still in force.
    ConfigRefused,
    /// A fallback was served in place of an upstream's answer.
    FallbackServed {
        /// Of.
        cluster: ClusterId,
    },
}

named! {
    /// Why a request is placed on an endpoint.
    AttemptKind {
        /// Its first attempt.
        First = "first",
        /// An earlier one failed.
        Retry = "retry",
        /// An earlier one takes long.
        Hedge = "hedge",
        /// An earlier one lost the race against the end of an idle connection.
        Replay = "replay",
    }
}

named! {
    /// What limits a cluster.
    Limit {
        /// Connections; Envoy's `upstream_cx_overflow`.
        Connections = "connections",
        /// Requests that wait.
        Pending = "pending",
        /// Requests in flight.
        Requests = "requests",
        /// Retries in flight.
        Retries = "retries",
        /// Requests in flight, as many as measured latency lets be useful.
        Concurrency = "concurrency",
        /// The cluster's circuit.
        Circuit = "circuit",
    }
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptEnd {
    /// With a whole response, forwarded or read to its end.
    Completed(StatusCode),
    /// With a response that was dropped for another attempt's.
    Discarded(StatusCode),
    /// Without a whole response: no connection, or it broke.
    Failed,
    /// The request's time was up.
    TimedOut,
    /// The time of this attempt was up.
    PerTryTimedOut,
    /// The caller left, or another attempt was faster.
    Cancelled,
    /// It never left: the endpoint's queue or our limits refused it.
    Refused,
}

/// How a request ended.
#[derive(Clone, Debug)]
pub struct RequestEnd {
    /// In which way.
    pub outcome: RequestOutcome,
    /// The status that the caller was sent, if any.
    pub status: Option<StatusCode>,
    /// From its head to its end.
    pub elapsed: Duration,
    /// Attempts made.
    pub attempts: u32,
    /// What an access log would write; `None` while there is no log. Shared, so that handing it to
    /// the writer copies nothing.
    pub line: Option<Arc<AccessLine>>,
}

/// The ways in which a request can end. Each request received is in exactly one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestOutcome {
    /// An upstream's whole response below 500.
    Ok,
    /// An upstream's whole response of 500 and above.
    Failed,
    /// Answered by us, or cut by us after an upstream's head; the flag says why.
    Refused(Flag),
    /// The caller left.
    Cancelled,
}

impl RequestOutcome {
    /// As statistics and logs spell it.
    pub fn name(self) -> &'static str {
        match self {
            RequestOutcome::Ok => "ok",
            RequestOutcome::Failed => "failed",
            RequestOutcome::Refused(_) => "refused",
            RequestOutcome::Cancelled => "cancelled",
        }
    }

    /// Its response flag: why no upstream answered in full.
    pub fn flag(self) -> Option<Flag> {
        match self {
            RequestOutcome::Ok | RequestOutcome::Failed => None,
            RequestOutcome::Refused(flag) => Some(flag),
            RequestOutcome::Cancelled => Some(Flag::DC),
        }
    }
}

impl AttemptEnd {
    /// As traces spell it.
    pub fn name(self) -> &'static str {
        match self {
            AttemptEnd::Completed(_) => "completed",
            AttemptEnd::Discarded(_) => "discarded",
            AttemptEnd::Failed => "failed",
            AttemptEnd::TimedOut => "timeout",
            AttemptEnd::PerTryTimedOut => "per_try_timeout",
            AttemptEnd::Cancelled => "cancelled",
            AttemptEnd::Refused => "refused",
        }
    }

    /// The status of its response, if it had a whole one.
    pub fn status(self) -> Option<StatusCode> {
        match self {
            AttemptEnd::Completed(status) | AttemptEnd::Discarded(status) => Some(status),
            _ => None,
        }
    }
}

/// What an access log knows of a request beside how it ended.
#[derive(Clone, Debug, Default)]
pub struct AccessLine {
    /// Its method.
    pub method: String,
    /// Its `Host`.
    pub host: String,
    /// Its path and query.
    pub path: String,
    /// The cluster that it was routed to.
    pub cluster: Option<ClusterId>,
    /// The endpoint that answered, or was tried last.
    pub endpoint: Option<EndpointRef>,
    /// Where it came from.
    pub peer: Option<std::net::SocketAddr>,
    /// Its trace, in hexadecimal.
    pub trace_id: Option<String>,
    /// Bytes of the response body that were sent on.
    pub bytes_sent: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places<T: Named>() -> Vec<usize> {
        T::ALL.iter().map(|of| of.place()).collect()
    }

    /// Counters are kept by place: a name out of order would be counted as another.
    #[test]
    fn names_stand_in_their_places_and_are_those_of_the_policies() {
        let counted = |places: Vec<usize>| assert!(places.iter().copied().eq(0..places.len()));
        counted(places::<GivenUp>());
        counted(places::<EjectionReason>());
        counted(places::<CircuitState>());
        counted(places::<AttemptKind>());
        counted(places::<Limit>());
        assert!(GivenUp::ALL.iter().all(|why| Named::name(*why) == why.name()));
        let reasons = <EjectionReason as Named>::ALL;
        assert!(reasons.iter().all(|reason| Named::name(*reason) == reason.as_str()));
    }
}
