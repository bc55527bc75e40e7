//! The metrics of a run under way, for Prometheus.
//!
//! Counters for what was sent and how it ended, and quantiles of
//! response times: a scrape sees what has ended by the last whole interval.

use std::net::SocketAddr;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use prometheus_client::encoding::{EncodeLabelSet, text::encode};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;

use loadgen::interval::Interval;
use loadgen::{LatencyHistogram, Outcome};

use super::Failure;

/// What OpenMetrics text is.
const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct QuantileLabel {
    quantile: &'static str,
}

const QUANTILES: [(&str, f64); 5] =
    [("0.5", 0.5), ("0.9", 0.9), ("0.99", 0.99), ("0.999", 0.999), ("1", 1.0)];

type Seconds = Gauge<f64, AtomicU64>;

/// The metrics, and the listener that shows them.
pub(super) struct Exposition {
    registry: Mutex<Registry>,
    sent: Counter,
    outcomes: Family<OutcomeLabel, Counter>,
    /// Of the last interval.
    recent: Family<QuantileLabel, Seconds>,
    /// Of the run so far.
    overall: Family<QuantileLabel, Seconds>,
    interval: Gauge<f64, AtomicU64>,
}

impl Exposition {
    /// Listens, and answers for as long as the program runs, on a thread of its own.
    pub(super) fn serve(address: SocketAddr) -> Result<Arc<Exposition>, Failure> {
        let failed = |e: std::io::Error| Failure::Run(format!("cannot serve on {address}: {e}"));
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let listener = runtime.block_on(TcpListener::bind(address)).map_err(failed)?;
        let exposition = Arc::new(Exposition::new());
        let shown = exposition.clone();
        std::thread::Builder::new()
            .name("exposition".to_owned())
            .spawn(move || runtime.block_on(answer(listener, shown)))
            .map_err(failed)?;
        Ok(exposition)
    }

    fn new() -> Exposition {
        let mut registry = Registry::with_prefix("loadgen");
        let (sent, outcomes) = (Counter::default(), Family::default());
        let (recent, overall): (Family<_, Seconds>, Family<_, Seconds>) = Default::default();
        let interval = Gauge::default();
        registry.register("requests_sent", "Requests on which work began", sent.clone());
        registry.register(
            "requests",
            "Planned requests that came to their end, by outcome",
            outcomes.clone(),
        );
        registry.register(
            "response_time_interval_seconds",
            "Response time from the planned instant, over the last interval",
            recent.clone(),
        );
        registry.register(
            "response_time_seconds",
            "Response time from the planned instant, over the run so far",
            overall.clone(),
        );
        registry.register(
            "elapsed_seconds",
            "How far the run has come, in whole intervals",
            interval.clone(),
        );
        let registry = Mutex::new(registry);
        Exposition { registry, sent, outcomes, recent, overall, interval }
    }

    /// Adds an interval; `overall` holds all response times so far.
    pub(super) fn update(&self, interval: &Interval, overall: &LatencyHistogram) {
        self.sent.inc_by(interval.begun);
        for outcome in Outcome::ALL {
            let label = OutcomeLabel { outcome: outcome.name() };
            self.outcomes.get_or_create(&label).inc_by(interval.accounting.count(outcome));
        }
        for (name, q) in QUANTILES {
            let label = QuantileLabel { quantile: name };
            let seconds = |histogram: &LatencyHistogram| histogram.quantile(q).as_secs_f64();
            self.recent.get_or_create(&label).set(seconds(&interval.response));
            self.overall.get_or_create(&label).set(seconds(overall));
        }
        self.interval.set((interval.start + interval.length).as_secs_f64());
    }

    fn render(&self) -> String {
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::new();
        // Writing into a string does not fail.
        let _ = encode(&mut text, &registry);
        text
    }
}

async fn answer(listener: TcpListener, exposition: Arc<Exposition>) {
    let local = tokio::task::LocalSet::new();
    local
        .run_until(async {
            // A listener that has failed fails for good: the run goes on without it.
            while let Ok((stream, _)) = listener.accept().await {
                let exposition = exposition.clone();
                let service = service_fn(move |request| {
                    std::future::ready(Ok::<_, hyper::Error>(page(&exposition, &request)))
                });
                tokio::task::spawn_local(async move {
                    let http = hyper::server::conn::http1::Builder::new();
                    // A scraper that goes is none of the run's business.
                    let _ = http.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        })
        .await;
}

fn page(exposition: &Exposition, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let is_metrics = request.uri().path() == "/metrics";
    let mut response = Response::new(Full::default());
    if is_metrics && [Method::GET, Method::HEAD].contains(request.method()) {
        *response.body_mut() = Full::from(exposition.render());
        let value = http::HeaderValue::from_static(CONTENT_TYPE);
        response.headers_mut().insert(http::header::CONTENT_TYPE, value);
    } else {
        *response.status_mut() = StatusCode::NOT_FOUND;
        *response.body_mut() = Full::from("metrics are at /metrics\n");
    }
    response
}
