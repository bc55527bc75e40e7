//! Asking endpoints for their load, for the strategies that want to know: the shell around the
//! probes of [`crate::policy::balance`].

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Response, Uri};

use crate::ask;
use crate::balance::Cluster;
use crate::policy::balance::{EndpointId, ProbeAnswer};
use crate::task;

/// Where an endpoint says what its load is.
pub const LOAD_PATH: &str = "/.well-known/load";
/// Requests that it is working on or has queued.
pub const IN_FLIGHT_FIELD: &str = "x-load-rif";
/// What a request can expect to take, in microseconds.
pub const LATENCY_FIELD: &str = "x-load-latency-us";

/// An answer that takes longer would be of the past.
const PATIENCE: Duration = Duration::from_secs(1);

/// Asks in the background; the strategy hears of it either way.
pub(crate) fn ask(cluster: &Arc<Cluster>, endpoint: EndpointId) {
    let cluster = cluster.clone();
    task::spawn("load probe", async move {
        let addr = cluster.endpoints[endpoint.0].addr.clone();
        let path = Uri::from_static(LOAD_PATH);
        let answer = ask::get(cluster.dialer(), addr, path, PATIENCE).await;
        cluster.probed(endpoint, answer.ok().as_ref().and_then(answer_of));
    });
}

fn answer_of(response: &Response<()>) -> Option<ProbeAnswer> {
    if !response.status().is_success() {
        return None;
    }
    let in_flight = number(response.headers(), IN_FLIGHT_FIELD)?;
    let latency = number(response.headers(), LATENCY_FIELD)?;
    let in_flight = u32::try_from(in_flight).ok()?;
    Some(ProbeAnswer { in_flight, latency: Duration::from_micros(latency) })
}

fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}
