//! Looking at a running sidecar: readiness, statistics, endpoints.
//!
//! Paths are Envoy's, because people's hands know them.

use std::fmt::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::policy::balance::EndpointId;
use crate::stack::Stack;
use crate::telemetry::EndpointSnapshot;

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

const INDEX: &str = "\
/ready                  200 while requests are welcome, 503 while draining
/stats/prometheus       counters, gauges and histograms
/clusters               endpoints with their counts and load
/clusters?format=json   the same for machines
";

/// What the admin endpoint shows.
#[derive(Clone)]
pub struct Admin {
    stack: Arc<Stack>,
    drain: CancellationToken,
}

impl Admin {
    /// Shows `stack`, which is not ready any more once `drain` is cancelled.
    pub fn new(stack: Arc<Stack>, drain: CancellationToken) -> Self {
        Self { stack, drain }
    }

    /// Answers one request.
    pub fn answer<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        let path = request.uri().path();
        if !matches!(path, "/" | "/ready" | "/stats/prometheus" | "/clusters") {
            let hint = format!("there is no {path} here; there is\n{INDEX}");
            return reply(StatusCode::NOT_FOUND, TEXT, hint);
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut response =
                reply(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET and HEAD\n".to_owned());
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        match path {
            "/ready" if self.drain.is_cancelled() => {
                reply(StatusCode::SERVICE_UNAVAILABLE, TEXT, "DRAINING\n".to_owned())
            }
            "/ready" => reply(StatusCode::OK, TEXT, "LIVE\n".to_owned()),
            "/stats/prometheus" => {
                reply(StatusCode::OK, OPEN_METRICS, self.stack.telemetry().exposition())
            }
            "/clusters" if request.uri().query() == Some("format=json") => self.clusters_json(),
            "/clusters" => reply(StatusCode::OK, TEXT, clusters_text(&self.clusters())),
            _ => reply(StatusCode::OK, TEXT, INDEX.to_owned()),
        }
    }

    fn clusters_json(&self) -> Response<Full<Bytes>> {
        match serde_json::to_string_pretty(&self.clusters()) {
            Ok(json) => reply(StatusCode::OK, JSON, json + "\n"),
            Err(error) => reply(StatusCode::INTERNAL_SERVER_ERROR, TEXT, format!("{error}\n")),
        }
    }

    fn clusters(&self) -> Vec<ClusterView> {
        let clusters = self.stack.clusters().iter();
        clusters
            .map(|cluster| ClusterView {
                name: cluster.name.clone(),
                balance: cluster.strategy,
                endpoints: cluster
                    .endpoints
                    .iter()
                    .enumerate()
                    .map(|(place, endpoint)| EndpointView {
                        address: endpoint.addr.to_string(),
                        counts: endpoint.stats.snapshot(),
                        cx_idle: endpoint.pool.idle_count(),
                        latency_estimate_ms: cluster
                            .load(EndpointId(place))
                            .latency_estimate
                            .map(|latency| latency.as_secs_f64() * 1e3),
                    })
                    .collect(),
            })
            .collect()
    }
}

#[derive(Serialize)]
struct ClusterView {
    name: String,
    balance: &'static str,
    endpoints: Vec<EndpointView>,
}

#[derive(Serialize)]
struct EndpointView {
    address: String,
    #[serde(flatten)]
    counts: EndpointSnapshot,
    cx_idle: usize,
    latency_estimate_ms: Option<f64>,
}

/// Envoy's `cluster::endpoint::key::value` lines.
fn clusters_text(clusters: &[ClusterView]) -> String {
    let mut text = String::new();
    for cluster in clusters {
        let _ = writeln!(text, "{}::balance::{}", cluster.name, cluster.balance);
        for endpoint in &cluster.endpoints {
            let counts = &endpoint.counts;
            let rows = [
                ("rq_total", counts.rq_total.to_string()),
                ("rq_active", counts.rq_active.to_string()),
                ("rq_success", counts.rq_success.to_string()),
                ("rq_error", counts.rq_error.to_string()),
                ("rq_timeout", counts.rq_timeout.to_string()),
                ("rq_failed", counts.rq_failed.to_string()),
                ("rq_cancelled", counts.rq_cancelled.to_string()),
                ("cx_total", counts.cx_total.to_string()),
                ("cx_active", counts.cx_active.to_string()),
                ("cx_idle", endpoint.cx_idle.to_string()),
                ("cx_connect_fail", counts.cx_connect_fail.to_string()),
            ];
            for (key, value) in rows {
                let _ = writeln!(text, "{}::{}::{key}::{value}", cluster.name, endpoint.address);
            }
            if let Some(ms) = endpoint.latency_estimate_ms {
                let (name, address) = (&cluster.name, &endpoint.address);
                let _ = writeln!(text, "{name}::{address}::latency_estimate_ms::{ms:.3}");
            }
        }
    }
    text
}

fn reply(status: StatusCode, content_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
