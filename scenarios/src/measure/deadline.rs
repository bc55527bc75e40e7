//! Until when an answer is of use, and attempts that reach an instance after that. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use sim::backend::LogEntry;

use super::scope::Scope;
use crate::scenario::{Scenario, Variant};

/// Times are whole milliseconds in the simulator, and a wait that ends at the same one as a
/// message arrives may be seen before or after it.
const TICK: Duration = Duration::from_millis(1);

/// Until when the answer to each request is of use.
pub(super) struct Deadline {
    /// The least of the route's limit and of those that the client names in a header.
    limit: Duration,
    /// When a request was sent, and until when the client counts its answer.
    requests: BTreeMap<u64, (Duration, Option<Duration>)>,
}

impl Deadline {
    pub(super) fn new(scope: &Scope<'_>, variant: &Variant) -> Self {
        let limit = variant.sidecar.route.timeout;
        let limit = callers_limits(scope.scenario).fold(limit, Duration::min);
        let deadline = scope.scenario.file.load.deadline;
        let until = |planned: Duration| deadline.map(|deadline| planned + deadline);
        let sent = scope.result.samples.iter();
        let sent = sent.filter_map(|s| Some((s.index, (s.sent?, until(s.planned)))));
        Self { limit, requests: sent.collect() }
    }

    /// When the time that its callers gave a request is up, counted from its send.
    fn up(&self, index: u64) -> Option<Duration> {
        self.requests.get(&index).map(|(sent, _)| *sent + self.limit)
    }

    /// The same, or when the client stops counting its answer, if that is earlier.
    pub(super) fn of_use_until(&self, index: u64) -> Option<Duration> {
        let (_, until) = self.requests.get(&index)?;
        self.up(index).into_iter().chain(*until).min()
    }
}

/// How many attempts reached a target after the time of their request was up. What is on its way
/// to the instance when it ends is not late.
pub(super) fn late_starts(scope: &Scope<'_>, variant: &Variant) -> usize {
    let deadline = Deadline::new(scope, variant);
    let depths = depths(scope.scenario);
    let late = scope.targets().map(|place| {
        let way = way(scope.scenario, depths[scope.services[place]]);
        let is_late = |entry: &&LogEntry| {
            let up = entry.index.and_then(|index| deadline.up(index));
            up.is_some_and(|up| entry.arrived > up + way)
        };
        scope.arrivals_at(place).filter(is_late).count()
    });
    late.sum()
}

/// The times that each request of the client asks for.
fn callers_limits(scenario: &Scenario) -> impl Iterator<Item = Duration> {
    scenario.file.load.headers.iter().filter_map(|(name, value)| {
        let value = value.get_ref();
        match name.to_ascii_lowercase().as_str() {
            "x-envoy-upstream-rq-timeout-ms" | "x-envoy-expected-rq-timeout-ms" => {
                value.parse().ok().map(Duration::from_millis)
            }
            "grpc-timeout" => grpc_timeout(value),
            _ => None,
        }
    })
}

/// A number and one letter for its unit, as gRPC over HTTP/2 writes it.
fn grpc_timeout(value: &str) -> Option<Duration> {
    let (number, unit) = value.split_at_checked(value.len().checked_sub(1)?)?;
    let number: u64 = number.parse().ok()?;
    match unit {
        "H" => number.checked_mul(3600).map(Duration::from_secs),
        "M" => number.checked_mul(60).map(Duration::from_secs),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

/// How many services a request passes before it reaches each of them.
fn depths(scenario: &Scenario) -> Vec<u32> {
    let services = &scenario.file.services;
    let mut depths = vec![0; services.len()];
    // Callers stand above those that they call.
    for (place, service) in services.iter().enumerate() {
        let called = service.call_groups().into_iter().flatten().map(|call| call.table.service);
        let called: Vec<_> = called.collect();
        for other in place + 1..services.len() {
            if called.contains(services[other].name.get_ref()) {
                depths[other] = depths[other].max(depths[place] + 1);
            }
        }
    }
    depths
}

/// The longest that a request of a caller that gives up in time may take to arrive: to the first
/// sidecar and from it to an instance; and for each further service, the news of its end to the
/// instance and its sidecar, and what that one sent last.
fn way(scenario: &Scenario, depth: u32) -> Duration {
    let hops = 2 + 3 * depth;
    (scenario.file.network.latency + TICK) * hops
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grpc_timeouts_are_read() {
        assert_eq!(grpc_timeout("500m"), Some(Duration::from_millis(500)));
        assert_eq!(grpc_timeout("2S"), Some(Duration::from_secs(2)));
        for wrong in ["", "m", "5", "5s", "-1m", "5é"] {
            assert_eq!(grpc_timeout(wrong), None, "{wrong}");
        }
    }
}
