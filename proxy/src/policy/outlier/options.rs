//! What may be configured of the gate, and why the defaults are what they are.

use std::num::NonZeroU32;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Reason;
use crate::config::fields;

/// What a detector does when it has found something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Act {
    /// It does not look.
    Off,
    /// It says so and changes nothing: how to try a threshold on live traffic.
    Observe,
    /// It ejects the endpoint.
    #[default]
    Eject,
}

/// When endpoints are ejected and how they come back, `[clusters.outlier]`.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct OutlierOptions {
    /// Whether anything is ejected for what its requests met. On: a mesh that leaves a dead
    /// endpoint in rotation loses 1/N of its traffic. Active health checks work without it.
    pub enabled: bool,
    /// Responses with a status of 500 and above without a success between. Envoy's five: at an
    /// error rate of 1 % it happens by chance once in 10^10 requests, and a dead endpoint costs
    /// five.
    pub consecutive_errors: Consecutive,
    /// Responses with 502, 503 or 504 without another response between. Five, and ejecting: Envoy
    /// leaves it off, yet a gateway's error is the one that a working process does not send.
    pub consecutive_gateway_errors: Consecutive,
    /// Connections refused, reset or timed out without a response between. Five, as Envoy's.
    pub consecutive_local_origin: Consecutive,
    /// Failures compared with the peers'.
    pub success_rate: SuccessRate,
    /// Failures in themselves.
    pub failure_percentage: FailurePercentage,
    /// Latency compared with the peers'.
    pub latency: Latency,
    /// The time between two sweeps of the detectors that look at windows; a window is the last ten
    /// of these and the one under way. 1 s: a fault is seen within a few seconds, and a sweep
    /// over 300 endpoints costs 0.15 ms. Envoy's 10 s is a long outage.
    #[serde(deserialize_with = "fields::positive_duration")]
    #[serde(serialize_with = "fields::write_duration")]
    pub interval: Duration,
    /// How long the first ejection lasts; each further one twice as long as the last. 2 s, not
    /// Envoy's 30 s: who comes back there comes back in full, so a return that is too early costs
    /// five requests, while here it costs the one that probes. Linkerd begins at 1 s.
    #[serde(deserialize_with = "fields::positive_duration")]
    #[serde(serialize_with = "fields::write_duration")]
    pub base_ejection: Duration,
    /// The longest ejection, jitter left out. 60 s, as Linkerd's: at one probe a minute a dead
    /// endpoint costs next to nothing, and 300 s, Envoy's, would only make the recovery late. Less
    /// than `base_ejection` counts as that.
    #[serde(deserialize_with = "fields::positive_duration")]
    #[serde(serialize_with = "fields::write_duration")]
    pub max_ejection: Duration,
    /// By how much of itself an ejection may be longer, evenly drawn. 0.5, as Linkerd's: the
    /// sidecars that saw the same fault must not all probe at the same moment.
    #[serde(deserialize_with = "fields::ratio")]
    pub jitter: f64,
    /// How long an endpoint must be in rotation for its next ejection to be a step shorter. 30 s:
    /// longer than the flapping that escalation is for.
    #[serde(deserialize_with = "fields::positive_duration")]
    #[serde(serialize_with = "fields::write_duration")]
    pub forgive_after: Duration,
    /// How many successes it must show in that time. 10: Envoy forgives an endpoint that was sent
    /// nothing, which proves nothing.
    pub forgive_successes: u32,
    /// The greatest share of the cluster's endpoints that may be ejected at once, in percent. At
    /// least one of two or more may always go, and one must always stay. 50, not Envoy's 10, at
    /// which nothing is ever ejected from fewer than ten: a fault of half the fleet (a zone, half
    /// a rollout) is ordinary, and beyond half the comparison with peers is blind and the panic
    /// threshold near. The price: a fault common to all takes out half before it is refused; see
    /// *Common faults* in the module's documentation for what bounds that.
    #[serde(deserialize_with = "fields::percent")]
    pub max_ejection_percent: f64,
}

impl Default for OutlierOptions {
    fn default() -> Self {
        Self {
            enabled: true,
            consecutive_errors: Consecutive::default(),
            consecutive_gateway_errors: Consecutive::default(),
            consecutive_local_origin: Consecutive::default(),
            success_rate: SuccessRate::default(),
            failure_percentage: FailurePercentage::default(),
            latency: Latency::default(),
            interval: Duration::from_secs(1),
            base_ejection: Duration::from_secs(2),
            max_ejection: Duration::from_secs(60),
            jitter: 0.5,
            forgive_after: Duration::from_secs(30),
            forgive_successes: 10,
            max_ejection_percent: 50.0,
        }
    }
}

impl OutlierOptions {
    /// What the detector behind `reason` does.
    pub fn act(&self, reason: Reason) -> Act {
        match reason {
            Reason::ConsecutiveErrors => self.consecutive_errors.act,
            Reason::ConsecutiveGatewayErrors => self.consecutive_gateway_errors.act,
            Reason::ConsecutiveLocalOrigin => self.consecutive_local_origin.act,
            Reason::SuccessRate => self.success_rate.act,
            Reason::FailurePercentage => self.failure_percentage.act,
            Reason::Latency => self.latency.act,
        }
    }

    /// How many of `endpoints` may be ejected at once.
    pub fn cap(&self, endpoints: usize) -> usize {
        let share = libm::floor(endpoints as f64 * self.max_ejection_percent / 100.0) as usize;
        share.max(1).min(endpoints.saturating_sub(1))
    }

    /// How long the ejection lasts that is an endpoint's `times`-th, jitter left out.
    pub fn ejection(&self, times: u32) -> Duration {
        let doubled = 1_u32 << times.saturating_sub(1).min(31);
        let longest = self.max_ejection.max(self.base_ejection);
        self.base_ejection.saturating_mul(doubled).min(longest)
    }
}

/// A detector of failures in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Consecutive {
    /// What it does.
    pub act: Act,
    /// How many. Five, see where it is used.
    pub threshold: NonZeroU32,
}

impl Default for Consecutive {
    fn default() -> Self {
        Self { act: Act::Eject, threshold: NonZeroU32::MIN.saturating_add(4) }
    }
}

/// The detector of endpoints that fail more often than their peers. All of its conditions must
/// hold; `peers` says how they are computed.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct SuccessRate {
    /// What it does.
    pub act: Act,
    /// Requests in the window from which an endpoint is judged, and judged against. 20: the odds
    /// below see to it that few requests must show much.
    pub min_requests: NonZeroU32,
    /// How far its failure rate must be above the peers' median. 0.05: retries hide less than
    /// that, and throwing away capacity would cost more.
    #[serde(deserialize_with = "fields::positive_ratio")]
    pub min_gap: f64,
    /// How many robust standard deviations of the peers it must be above their median. 3, the
    /// usual bound for this estimator (Hampel's): peers that differ among themselves differ.
    #[serde(deserialize_with = "fields::factor")]
    pub spread_factor: f64,
    /// How many times likelier its failures must be if it has a rate of its own than if it shares
    /// its peers'. 10,000: chance does that about once in 10^5 windows, which is days, and costs
    /// an ejection of 2 s; against clean peers a failure rate of 10 % shows it after 218 requests
    /// of one of two endpoints, 98 of one of four, 18 of one of 300.
    #[serde(deserialize_with = "fields::factor")]
    pub min_odds: f64,
}

impl Default for SuccessRate {
    fn default() -> Self {
        Self {
            act: Act::Eject,
            min_requests: NonZeroU32::MIN.saturating_add(19),
            min_gap: 0.05,
            spread_factor: 3.0,
            min_odds: 10_000.0,
        }
    }
}

/// The detector of endpoints that fail often, whatever their peers do.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct FailurePercentage {
    /// What it does.
    pub act: Act,
    /// Requests in the window from which an endpoint is judged. 20: at a failure rate of 20 % ten
    /// or more of 20 fail by chance 26 times in 10,000.
    pub min_requests: NonZeroU32,
    /// The failure rate, in percent. 50: it is for what the others do not see, a majority that
    /// fails (peers are no measure) with successes between (five in a row is rare). Envoy's 85 is
    /// reached in a row after 8 requests; and at 50 five in a row happen every 62 requests anyway,
    /// so a common fault is treated no worse for it.
    #[serde(deserialize_with = "fields::percent")]
    pub threshold: f64,
}

impl Default for FailurePercentage {
    fn default() -> Self {
        Self { act: Act::Eject, min_requests: NonZeroU32::MIN.saturating_add(19), threshold: 50.0 }
    }
}

/// The detector of endpoints that are slower than their peers. All of its conditions must hold.
///
/// It ejects by default, and is no rival to a balancer that avoids slow endpoints (peak EWMA):
/// what such a balancer avoids gets fewer than `min_requests`, and is not judged. So it acts where
/// nothing else does, under round robin, random and hashing. Where the balancer avoids well, its
/// trickle is better than an ejection, which takes away all of the endpoint's capacity.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Latency {
    /// What it does.
    pub act: Act,
    /// Answers in the window from which an endpoint is judged, and judged against. 20: the median
    /// of so many is within a factor of 2 of the truth in 98 % of windows even where the p99 is ten
    /// times the median.
    pub min_requests: NonZeroU32,
    /// Which quantile is compared, from 0 to 1. The median: a tail has causes that are not the
    /// endpoint's (large requests, a slow dependency), a median five times that of its peers not.
    #[serde(deserialize_with = "fields::ratio")]
    pub quantile: f64,
    /// How many times the median of its peers' quantiles its own must be. 5: hardware generations
    /// and distant zones differ by 2 or 3, swapping and throttled processes by 10.
    #[serde(deserialize_with = "fields::factor")]
    pub factor: f64,
    /// How many robust standard deviations of the peers' quantiles it must be above their median.
    /// 3, as for failures.
    #[serde(deserialize_with = "fields::factor")]
    pub spread_factor: f64,
    /// What its quantile must reach in any case. 50 ms: 5 ms beside 1 ms is five times as slow and
    /// nobody's problem.
    #[serde(deserialize_with = "fields::duration")]
    #[serde(serialize_with = "fields::write_duration")]
    pub floor: Duration,
}

impl Default for Latency {
    fn default() -> Self {
        Self {
            act: Act::Eject,
            min_requests: NonZeroU32::MIN.saturating_add(19),
            quantile: 0.5,
            factor: 5.0,
            spread_factor: 3.0,
            floor: Duration::from_millis(50),
        }
    }
}
