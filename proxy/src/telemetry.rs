//! What the sidecar says about itself: statistics, a timeline, an access log, traces.
//!
//! The path tells each thing once, as an [`Event`], and [`Telemetry::emit`] counts it, remembers it
//! and logs it; so the numbers on a dashboard, the lines in a log and the marks on a plot cannot
//! disagree. A per-request event costs an index and a few atomic additions: no lock, no look-up, no
//! allocation, so that measuring does not change what is measured.
//!
//! `books` counts, `families` names, [`conservation`] checks that the counts add up. [`timeline`]
//! remembers what is rare, [`access_log`] writes what is not, [`trace`] follows one request.

pub mod access_log;
mod books;
pub mod conservation;
mod count;
pub mod event;
mod families;
mod stats;
pub mod timeline;
mod totals;
pub mod trace;

use std::fmt::{self, Write as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime};

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

pub use access_log::{AccessLog, AccessLogOptions};
pub use books::{ClusterRow, EndpointRow};
pub use conservation::{Conservation, Imbalance};
pub use count::Latencies;
pub use event::{ClusterId, EndpointRef, Event};
pub use stats::{ListenerStats, Open};
pub use timeline::{Timeline, TimelineOptions};
pub use totals::{ClusterTotals, EndpointSnapshot, EndpointTotals, RequestTotals};
pub use trace::{Tracer, TracingOptions};

use self::access_log::Record;
use self::books::Books;
use self::event::RequestEnd;
use self::stats::Refused;
use crate::config::EndpointAddr;

/// What time it is outside, for people and other programs to read.
pub type WallClock = Arc<dyn Fn() -> SystemTime + Send + Sync>;

/// Hears every event at its instant, after it was counted and in the task in which it happened. It
/// must not ask the sidecar anything but [`Telemetry::endpoint_address`]: a lock may be held.
pub type Tap = Arc<dyn Fn(Instant, &Event) + Send + Sync>;

/// A cluster's name and the addresses of its endpoints, in the order of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterLabels {
    /// Its name.
    pub name: String,
    /// `host:port` of each endpoint.
    pub endpoints: Vec<String>,
}

/// What [`Telemetry`] is made of, beside the names.
pub struct TelemetryParts {
    /// When the sidecar started; the timeline's zero.
    pub start: Instant,
    /// How much the timeline remembers.
    pub timeline: TimelineOptions,
    /// What time it is outside.
    pub wall_clock: WallClock,
    /// Where lines for requests go; nowhere if absent.
    pub access_log: Option<AccessLog>,
    /// Where spans go.
    pub tracer: Tracer,
    /// Who else hears of everything, such as a simulation that tells single requests; nobody if
    /// absent.
    pub tap: Option<Tap>,
}

impl TelemetryParts {
    /// A sidecar that starts at `start`, with neither log nor traces, and whose wall clock stands.
    pub fn starting(start: Instant) -> Self {
        Self {
            start,
            timeline: TimelineOptions::default(),
            wall_clock: Arc::new(|| SystemTime::UNIX_EPOCH),
            access_log: None,
            tracer: Tracer::off(),
            tap: None,
        }
    }
}

/// Everything that is counted, remembered, logged and traced.
pub struct Telemetry {
    registry: Mutex<Registry>,
    downstream: DownstreamFamilies,
    books: Arc<Books>,
    timeline: Timeline,
    wall_clock: WallClock,
    access_log: Option<AccessLog>,
    tracer: Tracer,
    tap: Option<Tap>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ListenerLabels {
    listener: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefusedLabels {
    listener: String,
    flag: &'static str,
}

struct DownstreamFamilies {
    cx_total: Family<ListenerLabels, Counter>,
    cx_active: Family<ListenerLabels, Gauge>,
    accept_fail: Family<ListenerLabels, Counter>,
    panic: Family<ListenerLabels, Counter>,
    protocol_error: Family<ListenerLabels, Counter>,
    idle_timeout: Family<ListenerLabels, Counter>,
    header_timeout: Family<ListenerLabels, Counter>,
    body_timeout: Family<ListenerLabels, Counter>,
    write_timeout: Family<ListenerLabels, Counter>,
    refused: Family<RefusedLabels, Counter>,
}

impl Telemetry {
    /// Nothing counted yet. An [`EndpointRef`] is a place in `clusters`.
    pub fn of(clusters: &[ClusterLabels], parts: TelemetryParts) -> Self {
        let mut registry = Registry::with_prefix("sidecar");
        let books = Arc::new(Books::new(clusters));
        let downstream = DownstreamFamilies::register(&mut registry);
        families::register(&mut registry, &books);
        Self {
            registry: Mutex::new(registry),
            downstream,
            books,
            timeline: Timeline::new(parts.start, parts.timeline),
            wall_clock: parts.wall_clock,
            access_log: parts.access_log,
            tracer: parts.tracer,
            tap: parts.tap,
        }
    }

    /// Something happened at `now`.
    ///
    /// # Panics
    /// When the event names a cluster or an endpoint that there is not: a defect.
    pub fn emit(&self, now: Instant, event: &Event) {
        self.books.count(event);
        self.timeline.note(now, event, &self.books);
        if let Event::RequestEnded(end @ RequestEnd { line: Some(_), .. }) = event {
            self.log(end);
        }
        if let Some(tap) = &self.tap {
            tap(now, event);
        }
    }

    fn log(&self, end: &RequestEnd) {
        let (Some(log), Some(line)) = (&self.access_log, &end.line) else { return };
        let cluster = line.cluster.or(line.endpoint.map(|at| at.cluster));
        log.write(Record {
            time: (self.wall_clock)().checked_sub(end.elapsed).unwrap_or(SystemTime::UNIX_EPOCH),
            cluster: cluster.map(|cluster| self.books.cluster_name(cluster)),
            endpoint: line.endpoint.map(|at| self.books.endpoint_address(at)),
            line: line.clone(),
            end: end.clone(),
        });
    }

    /// The address of the endpoint that has this place now. Asks for no lock.
    ///
    /// # Panics
    /// When there is no such endpoint: a defect.
    pub fn endpoint_address(&self, at: EndpointRef) -> Arc<str> {
        self.books.endpoint_address(at)
    }

    /// A cluster of this id begins, without endpoints.
    pub(crate) fn open_cluster(&self, cluster: ClusterId, name: &str) {
        self.books.open(cluster, name.into());
    }

    /// Nobody speaks of a cluster any more.
    pub(crate) fn close_cluster(&self, cluster: ClusterId) {
        self.books.close(cluster);
    }

    /// Who sits at which place of a cluster from now on, and whether it is listed. Must be said
    /// before anything is told of somebody new.
    pub(crate) fn seat(&self, cluster: ClusterId, seats: &[Option<(EndpointAddr, bool)>]) {
        let labels = seats.iter().map(|seat| {
            let (address, listed) = seat.as_ref()?;
            Some((address.as_str().into(), *listed))
        });
        self.books.seat(cluster, &labels.collect::<Vec<_>>());
    }

    /// Whether a request's end should bring an [`event::AccessLine`].
    pub fn wants_lines(&self) -> bool {
        self.access_log.is_some()
    }

    /// The log of requests, to flush and to reopen.
    pub fn access_log(&self) -> Option<&AccessLog> {
        self.access_log.as_ref()
    }

    /// Starts spans.
    pub fn tracer(&self) -> &Tracer {
        &self.tracer
    }

    /// What changed, and when.
    pub fn timeline(&self) -> &Timeline {
        &self.timeline
    }

    /// The books, to see whether they balance.
    pub fn conservation(&self) -> Conservation {
        Conservation::of(&self.books)
    }

    /// What became of requests so far.
    pub fn request_totals(&self) -> RequestTotals {
        self.books.requests.read()
    }

    /// What happened at an endpoint so far.
    ///
    /// # Panics
    /// When there is no such endpoint: a defect.
    pub fn endpoint_totals(&self, at: EndpointRef) -> EndpointTotals {
        self.books.endpoint_totals(at)
    }

    /// What happened to each cluster so far.
    pub fn cluster_rows(&self) -> Vec<ClusterRow> {
        self.books.cluster_rows()
    }

    /// The handles of a listener.
    pub fn listener(&self, name: &str) -> ListenerStats {
        let labels = ListenerLabels { listener: name.to_owned() };
        let families = &self.downstream;
        ListenerStats {
            cx_total: families.cx_total.get_or_create_owned(&labels),
            cx_active: families.cx_active.get_or_create_owned(&labels),
            accept_fail: families.accept_fail.get_or_create_owned(&labels),
            panic: families.panic.get_or_create_owned(&labels),
            protocol_error: families.protocol_error.get_or_create_owned(&labels),
            idle_timeout: families.idle_timeout.get_or_create_owned(&labels),
            header_timeout: families.header_timeout.get_or_create_owned(&labels),
            body_timeout: families.body_timeout.get_or_create_owned(&labels),
            write_timeout: families.write_timeout.get_or_create_owned(&labels),
            refused: Refused { by: families.refused.clone(), listener: labels.listener },
        }
    }

    /// Everything in the OpenMetrics text format, which Prometheus reads.
    pub fn exposition(&self) -> String {
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::new();
        let encoded = text::encode_registry(&mut text, &registry)
            .and_then(|()| self.encode_own(&mut text))
            .and_then(|()| text::encode_eof(&mut text));
        if encoded.is_err() {
            // Writing to a String cannot fail; saying so beats a silent empty page.
            let _ = writeln!(text, "# the exposition could not be encoded");
        }
        text
    }

    /// What telemetry itself lost, which is what makes the rest of it worth believing; and what
    /// happened to the sidecar as a whole.
    fn encode_own(&self, text: &mut String) -> fmt::Result {
        let log = self.access_log.as_ref().map(AccessLog::counts).unwrap_or_default();
        let spans = self.tracer.counts().unwrap_or_default();
        let rows = [
            ("access_log_written", "Lines written", log.written),
            ("access_log_dropped", "Lines dropped because too many waited", log.dropped),
            ("access_log_failed", "Lines that could not be written", log.failed),
            ("tracing_spans_exported", "Spans that the collector took", spans.exported),
            ("tracing_spans_failed", "Spans that it did not take", spans.failed),
            ("tracing_spans_dropped", "Spans dropped because too many waited", spans.dropped),
            ("timeline_dropped", "Moments forgotten for newer ones", self.timeline.dropped()),
            ("config_applied", "Updates put in force", self.books.config_applied.get()),
            ("config_refused", "Updates that were wrong", self.books.config_refused.get()),
        ];
        let mut own = Registry::with_prefix("sidecar");
        for (name, help, value) in rows {
            own.register(name, help, prometheus_client::metrics::counter::ConstCounter::new(value));
        }
        text::encode_registry(text, &own)
    }

    /// The same as `name: value` lines for people, without the buckets of histograms; only those
    /// that hold `filter`, and those that are not zero if `used_only`.
    pub fn plain_stats(&self, filter: &str, used_only: bool) -> String {
        let mut text = String::new();
        for line in self.exposition().lines().filter(|line| !line.starts_with('#')) {
            let Some((series, value)) = line.rsplit_once(' ') else { continue };
            let is_bucket = series.split('{').next().is_some_and(|name| name.ends_with("_bucket"));
            let is_used = value.parse::<f64>().is_ok_and(|value| value != 0.0);
            if !is_bucket && series.contains(filter) && (is_used || !used_only) {
                let _ = writeln!(text, "{series}: {value}");
            }
        }
        text
    }
}

impl fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { books, tracer, access_log, .. } = self;
        let mut telemetry = f.debug_struct("Telemetry");
        telemetry.field("books", books).field("tracer", tracer).field("access_log", access_log);
        telemetry.finish_non_exhaustive()
    }
}

impl DownstreamFamilies {
    fn register(registry: &mut Registry) -> Self {
        let new = Self {
            cx_total: Family::default(),
            cx_active: Family::default(),
            accept_fail: Family::default(),
            panic: Family::default(),
            protocol_error: Family::default(),
            idle_timeout: Family::default(),
            header_timeout: Family::default(),
            body_timeout: Family::default(),
            write_timeout: Family::default(),
            refused: Family::default(),
        };
        let downstream = registry.sub_registry_with_prefix("downstream");
        downstream.register("cx", "Connections accepted", new.cx_total.clone());
        downstream.register("cx_active", "Connections open", new.cx_active.clone());
        downstream.register("cx_accept_fail", "Failures to accept", new.accept_fail.clone());
        downstream.register("cx_panic", "Connections lost to a defect", new.panic.clone());
        let help = "Connections ended by a malformed request";
        downstream.register("cx_protocol_error", help, new.protocol_error.clone());
        let help = "Connections closed because no request came";
        downstream.register("cx_idle_timeout", help, new.idle_timeout.clone());
        let help = "Connections cut because their caller did not read";
        downstream.register("cx_write_timeout", help, new.write_timeout.clone());
        let help = "Requests whose head took too long";
        downstream.register("rq_header_timeout", help, new.header_timeout.clone());
        let help = "Requests whose body stopped coming";
        downstream.register("rq_body_timeout", help, new.body_timeout.clone());
        let help = "Requests that the listener refused, by response flag";
        downstream.register("rq_refused", help, new.refused.clone());
        new
    }
}
