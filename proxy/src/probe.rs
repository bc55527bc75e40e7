//! Asking endpoints for their load, for the strategies that want to know: the shell around the
//! probes of [`crate::policy::balance`].

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Response, Uri};

use crate::ask;
use crate::balance::{Cluster, Endpoint};
use crate::policy::balance::ProbeAnswer;
use crate::task;

/// Where an endpoint says what its load is.
pub const LOAD_PATH: &str = "/.well-known/load";
/// Requests that it is working on or has queued.
pub const IN_FLIGHT_FIELD: &str = "x-load-rif";
/// What a request can expect to take, in microseconds; left out by who has not answered any yet.
pub const LATENCY_FIELD: &str = "x-load-latency-us";

/// An answer that takes longer would be of the past.
const PATIENCE: Duration = Duration::from_secs(1);

/// Asks in the background; the strategy hears of it either way.
pub(crate) fn ask(cluster: &Arc<Cluster>, endpoint: Arc<Endpoint>) {
    let cluster = cluster.clone();
    task::spawn("load probe", async move {
        let addr = endpoint.addr.clone();
        let path = Uri::from_static(LOAD_PATH);
        let answer = ask::get(cluster.dialer(), addr, path, PATIENCE).await;
        cluster.probed(&endpoint, answer.ok().as_ref().and_then(answer_of));
    });
}

fn answer_of(response: &Response<()>) -> Option<ProbeAnswer> {
    if !response.status().is_success() {
        return None;
    }
    let in_flight = number(response.headers(), IN_FLIGHT_FIELD)?;
    // Who has answered nothing yet does not know. It has to be asked first to ever know: taken for
    // failed, it would be left alone for ever.
    let latency = match response.headers().contains_key(LATENCY_FIELD) {
        true => number(response.headers(), LATENCY_FIELD)?,
        false => 0,
    };
    let in_flight = u32::try_from(in_flight).ok()?;
    Some(ProbeAnswer { in_flight, latency: Duration::from_micros(latency) })
}

fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(fields: &[(&'static str, &'static str)]) -> Option<ProbeAnswer> {
        let mut response = Response::new(());
        for (name, value) in fields {
            response.headers_mut().insert(*name, http::HeaderValue::from_static(value));
        }
        answer_of(&response)
    }

    #[test]
    fn who_has_answered_nothing_yet_is_worth_a_request_and_who_talks_nonsense_is_not() {
        let of = |in_flight, micros| {
            Some(ProbeAnswer { in_flight, latency: Duration::from_micros(micros) })
        };
        assert_eq!(answer(&[(IN_FLIGHT_FIELD, "3"), (LATENCY_FIELD, "250")]), of(3, 250));
        assert_eq!(answer(&[(IN_FLIGHT_FIELD, "3")]), of(3, 0));
        assert_eq!(answer(&[(IN_FLIGHT_FIELD, "3"), (LATENCY_FIELD, "soon")]), None);
        assert_eq!(answer(&[(LATENCY_FIELD, "250")]), None);
    }
}
