//! Looking at a running sidecar, and turning the few things on it that can be turned.
//!
//! Paths are Envoy's, because people's hands know them. What changes something takes POST alone: a
//! page that is fetched by a crawler or a prefetching browser must not end a process.
//!
//! What is shown comes from an [`Inspect`], which the shell is; what is turned is in [`Controls`],
//! which the shell listens to.

mod sidecar;
mod view;

use std::fmt::{self, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

pub use sidecar::Sidecar;
pub use view::{ClusterView, EjectionView, EndpointState, EndpointView, ServerView};

use crate::headers::GENERATION;
use crate::telemetry::Telemetry;

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
const JSON_LINES: &str = "application/jsonl";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A sidecar as the admin endpoint sees it.
pub trait Inspect: Send + Sync {
    /// Its clusters, in the order of the configuration.
    fn clusters(&self) -> Vec<ClusterView>;

    /// The process.
    fn server_info(&self) -> ServerView;

    /// The configuration in force with all that it leaves to defaults, as JSON.
    fn config_dump(&self) -> String;

    /// What it counted and remembers.
    fn telemetry(&self) -> &Telemetry;
}

/// What can be turned from outside.
#[derive(Debug, Default)]
pub struct Controls {
    /// Cancelled when listeners are to close and what is in flight is to finish; the process stays.
    pub drain_listeners: CancellationToken,
    /// Cancelled when the process is to drain and end, as by SIGTERM.
    pub quit: CancellationToken,
    fails_health_checks: AtomicBool,
    reload: OnceLock<Reload>,
}

/// Reads the configuration again and puts it in force; says what that did, or why it is not.
struct Reload(Box<dyn Fn() -> Result<String, String> + Send + Sync>);

impl fmt::Debug for Reload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reload")
    }
}

impl Controls {
    /// Whether checks from outside are to fail, so that others stop sending.
    pub fn fails_health_checks(&self) -> bool {
        self.fails_health_checks.load(Ordering::Acquire)
    }

    /// What is to be done when somebody wants the configuration to be read again; the first call
    /// counts.
    pub fn reload_by(&self, reload: impl Fn() -> Result<String, String> + Send + Sync + 'static) {
        // There is one shell, and it calls this once.
        let _ = self.reload.set(Reload(Box::new(reload)));
    }
}

/// Answers requests about a sidecar.
#[derive(Clone)]
pub struct Admin {
    inspect: Arc<dyn Inspect>,
    controls: Arc<Controls>,
}

/// What a path does.
#[derive(Clone, Copy)]
enum Page {
    Shows(fn(&Admin, &str) -> Response<Full<Bytes>>),
    Turns(fn(&Controls) -> &'static str),
    /// Turns something that may not want to.
    Tries(fn(&Controls) -> Result<String, String>),
}

/// Every path there is, with what it does in one line.
const PAGES: &[(&str, &str, Page)] = &[
    ("/ready", "200 while requests are welcome, 503 while not", Page::Shows(Admin::ready)),
    ("/server_info", "version, uptime, workers, seed", Page::Shows(Admin::server_info)),
    (
        "/config_dump",
        "the configuration in force, defaults included",
        Page::Shows(Admin::config_dump),
    ),
    (
        "/clusters",
        "endpoints with state, load and counts; ?format=json",
        Page::Shows(Admin::clusters),
    ),
    ("/events", "ejections, panics and the like, as JSON lines", Page::Shows(Admin::events)),
    ("/stats", "counters as name: value; ?filter=TEXT, ?usedonly", Page::Shows(Admin::stats)),
    ("/stats/prometheus", "all statistics as OpenMetrics", Page::Shows(Admin::prometheus)),
    (
        "/healthcheck/fail",
        "POST: /ready fails, so that others stop sending",
        Page::Turns(|controls| {
            controls.fails_health_checks.store(true, Ordering::Release);
            "health checks fail\n"
        }),
    ),
    (
        "/healthcheck/ok",
        "POST: takes that back",
        Page::Turns(|controls| {
            controls.fails_health_checks.store(false, Ordering::Release);
            "health checks pass\n"
        }),
    ),
    (
        "/reload",
        "POST: reads the configuration again, as SIGHUP does",
        Page::Tries(|controls| match controls.reload.get() {
            Some(Reload(reload)) => reload(),
            None => Err("it was not read from anywhere".to_owned()),
        }),
    ),
    (
        "/drain_listeners",
        "POST: no new connections; what is in flight finishes",
        Page::Turns(|controls| {
            controls.drain_listeners.cancel();
            "draining listeners\n"
        }),
    ),
    (
        "/quitquitquit",
        "POST: drains, then ends the process",
        Page::Turns(|controls| {
            controls.quit.cancel();
            "quitting\n"
        }),
    ),
];

impl Admin {
    /// Shows what `inspect` tells and turns `controls`.
    pub fn of(inspect: Arc<dyn Inspect>, controls: Arc<Controls>) -> Self {
        Self { inspect, controls }
    }

    /// Answers one request.
    pub fn answer<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        let path = request.uri().path();
        if path == "/" {
            return show(request.method(), || reply(StatusCode::OK, TEXT, index()));
        }
        let query = request.uri().query().unwrap_or_default();
        match PAGES.iter().find(|(of, ..)| *of == path) {
            Some((.., Page::Shows(page))) => show(request.method(), || page(self, query)),
            Some((.., Page::Turns(turn))) if *request.method() == Method::POST => {
                reply(StatusCode::OK, TEXT, turn(&self.controls).to_owned())
            }
            Some((.., Page::Tries(attempt))) if *request.method() == Method::POST => {
                let (status, text) = match attempt(&self.controls) {
                    Ok(done) => (StatusCode::OK, done),
                    Err(why) => (StatusCode::UNPROCESSABLE_ENTITY, why),
                };
                reply(status, TEXT, text + "\n")
            }
            Some((.., Page::Turns(_) | Page::Tries(_))) => {
                not_allowed("POST", "only POST, because it acts\n")
            }
            None => {
                let hint = format!("there is no {path} here; there is\n{}", index());
                reply(StatusCode::NOT_FOUND, TEXT, hint)
            }
        }
    }

    fn ready(&self, _query: &str) -> Response<Full<Bytes>> {
        let Controls { drain_listeners, quit, .. } = &*self.controls;
        if drain_listeners.is_cancelled() || quit.is_cancelled() {
            return reply(StatusCode::SERVICE_UNAVAILABLE, TEXT, "DRAINING\n".to_owned());
        }
        if self.controls.fails_health_checks() {
            return reply(StatusCode::SERVICE_UNAVAILABLE, TEXT, "FAILING\n".to_owned());
        }
        reply(StatusCode::OK, TEXT, "LIVE\n".to_owned())
    }

    fn server_info(&self, _query: &str) -> Response<Full<Bytes>> {
        json(&self.inspect.server_info())
    }

    fn config_dump(&self, _query: &str) -> Response<Full<Bytes>> {
        self.numbered(reply(StatusCode::OK, JSON, self.inspect.config_dump()))
    }

    fn clusters(&self, query: &str) -> Response<Full<Bytes>> {
        let clusters = self.inspect.clusters();
        self.numbered(match parameter(query, "format") {
            Some("json") => json(&clusters),
            _ => reply(StatusCode::OK, TEXT, view::clusters_text(&clusters)),
        })
    }

    /// Says of a page which configuration it is of.
    fn numbered(&self, mut page: Response<Full<Bytes>>) -> Response<Full<Bytes>> {
        let generation = self.inspect.server_info().config_generation;
        page.headers_mut().insert(&GENERATION, HeaderValue::from(generation));
        page
    }

    fn events(&self, _query: &str) -> Response<Full<Bytes>> {
        match self.inspect.telemetry().timeline().snapshot().json_lines() {
            Ok(lines) => reply(StatusCode::OK, JSON_LINES, lines),
            Err(error) => broken(&error),
        }
    }

    fn stats(&self, query: &str) -> Response<Full<Bytes>> {
        let filter = parameter(query, "filter").unwrap_or_default();
        let used_only = parameter(query, "usedonly").is_some();
        let stats = self.inspect.telemetry().plain_stats(filter, used_only);
        reply(StatusCode::OK, TEXT, stats)
    }

    fn prometheus(&self, _query: &str) -> Response<Full<Bytes>> {
        reply(StatusCode::OK, OPEN_METRICS, self.inspect.telemetry().exposition())
    }
}

/// A line for each page.
fn index() -> String {
    let mut text = String::new();
    for (path, summary, _) in PAGES {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{path:<19}{summary}");
    }
    text
}

/// The value of a query's `key`, as it is written; empty when it has none.
fn parameter<'a>(query: &'a str, key: &str) -> Option<&'a str> {
    let pair = |part: &'a str| part.split_once('=').unwrap_or((part, ""));
    query.split('&').map(pair).find_map(|(of, value)| (of == key).then_some(value))
}

fn show(method: &Method, page: impl FnOnce() -> Response<Full<Bytes>>) -> Response<Full<Bytes>> {
    match *method {
        Method::GET | Method::HEAD => page(),
        _ => not_allowed("GET, HEAD", "only GET and HEAD\n"),
    }
}

fn not_allowed(allowed: &'static str, hint: &str) -> Response<Full<Bytes>> {
    let mut response = reply(StatusCode::METHOD_NOT_ALLOWED, TEXT, hint.to_owned());
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    response
}

fn json<T: Serialize>(value: &T) -> Response<Full<Bytes>> {
    match serde_json::to_string_pretty(value) {
        Ok(json) => reply(StatusCode::OK, JSON, json + "\n"),
        Err(error) => broken(&error),
    }
}

fn broken(error: &serde_json::Error) -> Response<Full<Bytes>> {
    reply(StatusCode::INTERNAL_SERVER_ERROR, TEXT, format!("{error}\n"))
}

fn reply(status: StatusCode, content_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
