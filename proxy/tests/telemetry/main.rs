//! Telemetry as its users meet it: events in; statistics, timeline, lines, spans and pages out.
#![allow(clippy::disallowed_methods, reason = "arbitrary origins for scripted clocks")]

mod access_log;
mod admin;
mod conservation;
mod statistics;
mod trace;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use http::StatusCode;
use proxy::policy::balance::EndpointId;
use proxy::telemetry::WallClock;
use proxy::telemetry::event::{RequestEnd, RequestOutcome};
use proxy::telemetry::{ClusterId, ClusterLabels, EndpointRef, Telemetry, TelemetryParts};

/// `web` with two endpoints and `db` with one.
fn clusters() -> Vec<ClusterLabels> {
    let labels = |name: &str, endpoints: &[&str]| ClusterLabels {
        name: name.to_owned(),
        endpoints: endpoints.iter().map(|&endpoint| endpoint.to_owned()).collect(),
    };
    vec![labels("web", &["10.0.0.1:80", "10.0.0.2:80"]), labels("db", &["10.0.1.1:5432"])]
}

fn at(cluster: usize, endpoint: usize) -> EndpointRef {
    EndpointRef { cluster: ClusterId(cluster), endpoint: EndpointId(endpoint) }
}

fn telemetry() -> (Telemetry, Instant) {
    let start = Instant::now();
    (Telemetry::of(&clusters(), TelemetryParts::starting(start)), start)
}

/// 2026-01-02T03:04:05.678Z.
fn wall_clock() -> WallClock {
    Arc::new(|| SystemTime::UNIX_EPOCH + Duration::from_millis(1_767_323_045_678))
}

fn request_end(outcome: RequestOutcome, status: u16, attempts: u32) -> RequestEnd {
    RequestEnd {
        outcome,
        status: StatusCode::from_u16(status).ok(),
        elapsed: Duration::from_micros(12_345),
        attempts,
        line: None,
    }
}
