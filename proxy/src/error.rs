//! Why a request was not answered by an upstream, and what the caller is told.

use std::time::Duration;

use http::StatusCode;

use crate::config::EndpointAddr;

/// A reason to answer a request ourselves.
///
/// Each has one status, one response flag (Envoy's letters, because people know them) and one
/// sentence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The request cannot be understood well enough to be routed.
    #[error("bad request: {0}")]
    BadRequest(&'static str),
    /// A method that this proxy does not carry.
    #[error("the method {0} is not supported")]
    MethodNotSupported(http::Method),
    /// No route matches.
    #[error("no route for host `{host}` and path `{path}`")]
    NoRoute {
        /// The host that was asked for.
        host: String,
        /// The path that was asked for.
        path: String,
    },
    /// The cluster has no endpoint that may be used.
    #[error("cluster `{cluster}` has no endpoint to send to")]
    NoEndpoint {
        /// The cluster's name.
        cluster: String,
    },
    /// The endpoint's connections are all in use, its queue is full, and this request is the one
    /// that has waited longest.
    #[error("{endpoint} has {limit} requests waiting for a connection, which is the limit")]
    Overflow {
        /// The endpoint.
        endpoint: EndpointAddr,
        /// The queue's bound.
        limit: usize,
    },
    /// The endpoint's connections are all in use and none came free in time.
    #[error("{endpoint} had no connection free within {}", humantime::format_duration(*.limit))]
    QueueTimeout {
        /// The endpoint.
        endpoint: EndpointAddr,
        /// How long a request may wait.
        limit: Duration,
    },
    /// No connection could be made.
    #[error("connecting to {endpoint} failed: {reason}")]
    ConnectFailure {
        /// The endpoint.
        endpoint: EndpointAddr,
        /// The operating system's reason.
        reason: String,
    },
    /// The connection ended before a whole response head.
    #[error("{endpoint} closed the connection before it answered")]
    UpstreamClosed {
        /// The endpoint.
        endpoint: EndpointAddr,
    },
    /// What came back was not HTTP, or not what can be forwarded.
    #[error("{endpoint} answered with something that is not valid HTTP: {reason}")]
    UpstreamProtocol {
        /// The endpoint.
        endpoint: EndpointAddr,
        /// What was wrong with it.
        reason: String,
    },
    /// The request's time was up.
    #[error("no response within {}", humantime::format_duration(*.limit))]
    Timeout {
        /// The route's timeout, or the caller's if that was shorter.
        limit: Duration,
    },
    /// The last attempt's own time was up.
    #[error("no response to the last attempt within {}", humantime::format_duration(*.limit))]
    PerTryTimeout {
        /// The limit of an attempt.
        limit: Duration,
    },
    /// The caller's time was up before the request was here.
    #[error("the caller's deadline had passed on arrival")]
    DeadlineExpired,
    /// The route's rate limit.
    #[error("too many requests; the next is welcome in {}", humantime::format_duration(rounded(*.retry_after)))]
    RateLimited {
        /// When that is.
        retry_after: Duration,
    },
    /// The cluster has as much work as its limits allow.
    #[error("`{of}` cannot be asked: its cluster is at its limit of {bound} {limit}")]
    LimitReached {
        /// The cluster's name, or the address of one of its endpoints.
        of: String,
        /// What is limited.
        limit: &'static str,
        /// How much of it there may be.
        bound: usize,
    },
    /// So many requests to the cluster failed that none is sent for a while.
    #[error("cluster `{cluster}` fails too often; it is left alone for a while")]
    CircuitOpen {
        /// The cluster's name.
        cluster: String,
        /// When it is tried again; `None` while that is under way.
        retry_after: Option<Duration>,
    },
    /// The caller's request body is malformed.
    #[error("the request body is not valid HTTP")]
    RequestBody,
    /// The caller left in the middle of its request body.
    #[error("the request body ended early")]
    CallerLeft,
}

/// A duration as people want to read it, in whole milliseconds.
pub(crate) fn rounded(duration: Duration) -> Duration {
    Duration::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).max(1))
}

/// Response flags, in the letters of Envoy's access logs.
///
/// The order is that of [`Flag::ALL`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flag {
    /// No route.
    NR,
    /// No healthy upstream.
    UH,
    /// Upstream overflow.
    UO,
    /// Upstream connection failure.
    UF,
    /// Upstream connection closed.
    UC,
    /// Upstream protocol error.
    UPE,
    /// Upstream timeout.
    UT,
    /// The deadline had passed on arrival.
    DT,
    /// Rate limited.
    RL,
    /// Circuit open.
    CO,
    /// Downstream protocol error.
    DPE,
    /// Downstream closed before the response was complete.
    DC,
    /// A stream stood still: the caller did not go on with its request.
    SI,
}

impl Flag {
    /// All of them, in declaration order.
    pub const ALL: [Flag; 13] = [
        Flag::NR,
        Flag::UH,
        Flag::UO,
        Flag::UF,
        Flag::UC,
        Flag::UPE,
        Flag::UT,
        Flag::DT,
        Flag::RL,
        Flag::CO,
        Flag::DPE,
        Flag::DC,
        Flag::SI,
    ];

    /// Its letters.
    pub fn letters(self) -> &'static str {
        match self {
            Flag::NR => "NR",
            Flag::UH => "UH",
            Flag::UO => "UO",
            Flag::UF => "UF",
            Flag::UC => "UC",
            Flag::UPE => "UPE",
            Flag::UT => "UT",
            Flag::DT => "DT",
            Flag::RL => "RL",
            Flag::CO => "CO",
            Flag::DPE => "DPE",
            Flag::DC => "DC",
            Flag::SI => "SI",
        }
    }
}

impl Refusal {
    /// What the caller gets.
    pub fn status(&self) -> StatusCode {
        match self {
            Refusal::BadRequest(_) | Refusal::RequestBody | Refusal::CallerLeft => {
                StatusCode::BAD_REQUEST
            }
            Refusal::MethodNotSupported(_) => StatusCode::NOT_IMPLEMENTED,
            Refusal::NoRoute { .. } => StatusCode::NOT_FOUND,
            Refusal::NoEndpoint { .. }
            | Refusal::Overflow { .. }
            | Refusal::LimitReached { .. }
            | Refusal::CircuitOpen { .. }
            | Refusal::QueueTimeout { .. }
            | Refusal::ConnectFailure { .. } => StatusCode::SERVICE_UNAVAILABLE,
            Refusal::RateLimited { .. } => StatusCode::TOO_MANY_REQUESTS,
            Refusal::UpstreamClosed { .. } | Refusal::UpstreamProtocol { .. } => {
                StatusCode::BAD_GATEWAY
            }
            Refusal::Timeout { .. } | Refusal::PerTryTimeout { .. } | Refusal::DeadlineExpired => {
                StatusCode::GATEWAY_TIMEOUT
            }
        }
    }

    /// When the caller may come back, if that is known.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Refusal::RateLimited { retry_after } => Some(*retry_after),
            Refusal::CircuitOpen { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// Its response flag.
    pub fn flag(&self) -> Flag {
        match self {
            Refusal::BadRequest(_) | Refusal::MethodNotSupported(_) | Refusal::RequestBody => {
                Flag::DPE
            }
            Refusal::CallerLeft => Flag::DC,
            Refusal::NoRoute { .. } => Flag::NR,
            Refusal::NoEndpoint { .. } => Flag::UH,
            Refusal::Overflow { .. }
            | Refusal::QueueTimeout { .. }
            | Refusal::LimitReached { .. } => Flag::UO,
            Refusal::ConnectFailure { .. } => Flag::UF,
            Refusal::UpstreamClosed { .. } => Flag::UC,
            Refusal::UpstreamProtocol { .. } => Flag::UPE,
            Refusal::Timeout { .. } | Refusal::PerTryTimeout { .. } => Flag::UT,
            Refusal::DeadlineExpired => Flag::DT,
            Refusal::RateLimited { .. } => Flag::RL,
            Refusal::CircuitOpen { .. } => Flag::CO,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counters are kept by place: a flag out of order would be counted as another.
    #[test]
    fn flags_are_listed_in_order_and_differ() {
        for (place, flag) in Flag::ALL.into_iter().enumerate() {
            assert_eq!(flag as usize, place, "{}", flag.letters());
        }
        let letters: std::collections::BTreeSet<_> = Flag::ALL.map(Flag::letters).into();
        assert_eq!(letters.len(), Flag::ALL.len());
    }
}
