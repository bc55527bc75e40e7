//! What must hold in every run, whatever is simulated, beside the conservation of requests. Pure.
//!
//! - **At rest**: when all is over, no sidecar has a request, an attempt or a connection in use,
//!   nobody waits for one, and no instance works on anything or holds a connection that no sidecar
//!   knows of.
//! - **Retry budget**: retries and hedges of each sidecar stay within what its budget grants over
//!   the run.
//! - **Ejection cap**: no sidecar has had more endpoints ejected at once than it may.
//! - **Once**: a request that is not idempotent reached an instance of the first service once,
//!   unless the route says that it may be sent again.

use std::collections::BTreeMap;
use std::time::Duration;

use proxy::config::ClusterConfig;
use reports::record::Check;
use sim::RunResult;

use crate::scenario::{Scenario, Variant};

/// Holds all of them against one run.
pub fn check(scenario: &Scenario, variant: &Variant, result: &RunResult) -> Check {
    let all = [
        ("at rest", at_rest(result)),
        ("retry budget", retry_budget(scenario, variant, result)),
        ("ejection cap", ejection_cap(scenario, variant, result)),
        ("once", once(scenario, variant, result)),
    ];
    let count = all.len();
    let mut broken = all.into_iter().filter_map(|(name, broken)| Some((name, broken?)));
    let first = broken.next();
    Check {
        metric: "invariants".to_owned(),
        what: "invariants of every run".to_owned(),
        wanted: "all hold".to_owned(),
        held: first.is_none(),
        measured: match first {
            Some((name, broken)) => format!("{name}: {broken}"),
            None => format!("all {count} hold"),
        },
        ..Check::default()
    }
}

fn at_rest(result: &RunResult) -> Option<String> {
    result.leaks.first().cloned()
}

fn retry_budget(scenario: &Scenario, variant: &Variant, result: &RunResult) -> Option<String> {
    let cluster = &variant.sidecar.cluster;
    let lasted = result.samples.iter().map(|sample| sample.finished).max().unwrap_or_default();
    result.sidecars.iter().find_map(|books| {
        let again = books.retries + books.hedges;
        let granted = granted(cluster, books.requests, lasted.max(scenario.duration()));
        (again > granted).then(|| {
            let service = scenario.file.services[books.service].name.get_ref();
            format!(
                "{again} retries and hedges to {service} for {} requests, {granted} granted",
                books.requests
            )
        })
    })
}

/// The bound that the budget promises over its life: see `proxy::policy::budget`.
fn granted(cluster: &ClusterConfig, requests: u64, lasted: Duration) -> u64 {
    let budget = &cluster.retry_budget;
    // Whole windows, and one more for buckets that are cut at other instants than the run.
    let windows = lasted.as_nanos().div_ceil(budget.window.as_nanos().max(1)) + 1;
    let reserve = f64::from(budget.min_per_second) * budget.window.as_secs_f64();
    (budget.ratio * requests as f64 + reserve * windows as f64).ceil() as u64
}

fn ejection_cap(scenario: &Scenario, variant: &Variant, result: &RunResult) -> Option<String> {
    result.sidecars.iter().find_map(|books| {
        let service = &scenario.file.services[books.service];
        let endpoints = service.instance_count();
        let cap = variant.sidecar.cluster.outlier.cap(endpoints);
        (books.most_ejected > cap).then(|| {
            let (name, most) = (service.name.get_ref(), books.most_ejected);
            format!("{most} of {endpoints} instances of {name} ejected at once, {cap} may be")
        })
    })
}

fn once(scenario: &Scenario, variant: &Variant, result: &RunResult) -> Option<String> {
    if variant.sidecar.route.retry.non_idempotent {
        return None;
    }
    let services = scenario.services_of_instances();
    let entry = result.logs.iter().zip(&services).filter(|(_, service)| **service == 0);
    let mut seen: BTreeMap<u64, u64> = BTreeMap::new();
    for index in entry.flat_map(|(log, _)| log).filter_map(|entry| entry.index) {
        *seen.entry(index).or_default() += 1;
    }
    let again = seen.into_iter().find(|(index, times)| {
        *times > 1 && !is_idempotent(result.mix.target_of(*index).method().as_str())
    });
    again.map(|(index, times)| {
        let method = result.mix.target_of(index).method();
        format!("request {index}, a {method}, reached instances {times} times")
    })
}

/// RFC 9110, section 9.2.2.
fn is_idempotent(method: &str) -> bool {
    matches!(method, "GET" | "HEAD" | "OPTIONS" | "TRACE" | "PUT" | "DELETE")
}

#[cfg(test)]
mod tests {
    use proxy::config::Balance;

    use super::*;

    #[test]
    fn a_budget_grants_its_share_and_its_reserve() {
        let cluster = ClusterConfig::new("web", Vec::new(), Balance::default());
        let seconds = Duration::from_secs;
        // 0.2 of 1000, and 30 in each of two windows and of the one that is cut.
        assert_eq!(granted(&cluster, 1000, seconds(20)), 290);
        assert_eq!(granted(&cluster, 0, Duration::ZERO), 30);
    }

    #[test]
    fn what_may_be_sent_again() {
        assert!(is_idempotent("DELETE") && !is_idempotent("POST") && !is_idempotent("PATCH"));
    }
}
