//! What a sidecar still holds when all is over, and how many endpoints it had ejected at once.

use std::collections::BTreeSet;

use proxy::telemetry::timeline::What;

use super::Sidecar;

impl Sidecar {
    /// What it still holds, in a sentence; `None` of a sidecar at rest.
    pub(super) fn unrest(&self) -> Option<String> {
        let stack = self.stack.get()?;
        if let Err(imbalance) = stack.telemetry().conservation().check_at_rest() {
            return Some(imbalance.to_string());
        }
        let clusters = stack.clusters();
        let endpoints = clusters.iter().flat_map(|cluster| cluster.endpoints());
        let mut held = endpoints.map(|endpoint| (endpoint.addr.clone(), endpoint.pool.snapshot()));
        held.find_map(|(addr, pool)| match (pool.in_use, pool.waiting) {
            (0, 0) => None,
            (0, waiting) => Some(format!("{waiting} requests wait for a connection to {addr}")),
            (used, _) => Some(format!("{used} connections to {addr} are in use")),
        })
    }

    /// The most endpoints that were ejected at the same time, by its timeline.
    pub(super) fn most_ejected(&self) -> usize {
        let Some(stack) = self.stack.get() else { return 0 };
        let (mut out, mut most) = (BTreeSet::new(), 0);
        for moment in stack.telemetry().timeline().snapshot().moments {
            let Some(endpoint) = moment.endpoint else { continue };
            match moment.what {
                What::Ejected { .. } => drop(out.insert(endpoint)),
                What::Returned => drop(out.remove(&endpoint)),
                _ => {}
            }
            most = most.max(out.len());
        }
        most
    }
}
