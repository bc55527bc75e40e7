//! What the gate is told, and what it says.

use std::time::{Duration, Instant};

use crate::policy::balance::EndpointId;

/// Between two changes of an endpoint's gate. An outcome counts only in the one that its request
/// was placed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Epoch(pub(super) u64);

/// What became of a request, as far as it says something about the endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A response below 500.
    Success {
        /// Time to the response head.
        latency: Duration,
    },
    /// A response of 500 or above that is not [`Outcome::Gateway`].
    ServerError,
    /// A 502, 503 or 504: an error of what stands before the application.
    Gateway,
    /// No response by the endpoint's doing: the connection failed or broke, or the sidecar's time
    /// for it was up.
    LocalOrigin,
    /// The caller left before there was a response.
    Cancelled {
        /// Time waited in vain: the latency is at least this.
        elapsed: Duration,
    },
}

impl Outcome {
    /// Of a response with this status, `latency` after it was asked for.
    pub fn of_status(status: u16, latency: Duration) -> Self {
        match status {
            502..=504 => Self::Gateway,
            500.. => Self::ServerError,
            _ => Self::Success { latency },
        }
    }
}

/// What an endpoint is ejected for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// [`OutlierOptions::consecutive_errors`](super::OutlierOptions::consecutive_errors).
    ConsecutiveErrors,
    /// [`OutlierOptions::consecutive_gateway_errors`](super::OutlierOptions::consecutive_gateway_errors).
    ConsecutiveGatewayErrors,
    /// [`OutlierOptions::consecutive_local_origin`](super::OutlierOptions::consecutive_local_origin).
    ConsecutiveLocalOrigin,
    /// [`OutlierOptions::success_rate`](super::OutlierOptions::success_rate).
    SuccessRate,
    /// [`OutlierOptions::failure_percentage`](super::OutlierOptions::failure_percentage).
    FailurePercentage,
    /// [`OutlierOptions::latency`](super::OutlierOptions::latency).
    Latency,
}

impl Reason {
    /// As metrics and configuration spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ConsecutiveErrors => "consecutive_errors",
            Self::ConsecutiveGatewayErrors => "consecutive_gateway_errors",
            Self::ConsecutiveLocalOrigin => "consecutive_local_origin",
            Self::SuccessRate => "success_rate",
            Self::FailurePercentage => "failure_percentage",
            Self::Latency => "latency",
        }
    }
}

/// A change of an endpoint's gate, or one that was called for and not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    /// Whose.
    pub endpoint: EndpointId,
    /// Which.
    pub kind: Kind,
}

/// What a [`Transition`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It is out.
    Ejected {
        /// What for.
        reason: Reason,
        /// When it will be probed.
        until: Instant,
        /// Ejections that have not been forgiven, this one included.
        times: u32,
    },
    /// The probe failed: it stays out.
    ProbeFailed {
        /// When it will be probed again.
        until: Instant,
        /// As in [`Kind::Ejected`].
        times: u32,
    },
    /// Its ejection is over: it is back, and ramps.
    Returned,
    /// Its detector only observes, and would have ejected it.
    Detected {
        /// What for.
        reason: Reason,
    },
    /// It would be out if the cap allowed.
    Overflow {
        /// What for.
        reason: Reason,
    },
    /// An active check says that it is down: it is out.
    Unhealthy,
    /// An active check says that it is up again: it is back, and ramps.
    Healthy,
    /// An active check says that it is up, but it is still ejected.
    HealthyButEjected,
}

/// Where an endpoint stands, for the balancer and for people to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GateState {
    /// In rotation.
    Available,
    /// In rotation again, at the share that [`slow_start`](crate::policy::slow_start) allows.
    Ramping {
        /// Since when it is back.
        since: Instant,
    },
    /// Out, until it is probed.
    Ejected {
        /// When that will be.
        until: Instant,
        /// What for.
        reason: Reason,
        /// Ejections that have not been forgiven, this one included.
        times: u32,
    },
    /// Out, with its probe under way.
    HalfOpen,
    /// Out, because an active check says that it is down.
    Unhealthy,
}

impl GateState {
    /// True when requests may be placed on it.
    pub fn is_open(self) -> bool {
        matches!(self, Self::Available | Self::Ramping { .. })
    }
}
