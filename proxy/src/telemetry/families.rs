//! Every statistic's name, and how it is read from the books.
//!
//! Names follow Envoy's (`upstream_rq_total`, `upstream_cx_active`, …) under the prefix `sidecar_`,
//! labelled instead of spliced. Cluster and endpoint series share one list, so that they have the
//! same names and neither has one that the other lacks; the exposition is made from the lists when
//! somebody scrapes, by a `Collector` of prometheus-client.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::exemplar::Exemplar;
use prometheus_client::registry::{Registry, Unit};

use super::books::{Books, ClusterRow};
use super::count::{CLASSES, Latencies};
use super::event::{AttemptKind, CircuitState, EjectionReason, GivenUp, Limit, Named};
use super::totals::{EndpointTotals, RequestTotals};
use crate::error::Flag;

/// A statistic of `T`. Counters get `_total` at the end of their names by the encoder.
struct Family<T> {
    name: &'static str,
    help: &'static str,
    value: Value<T>,
}

enum Value<T> {
    Counter(fn(&T) -> u64),
    Gauge(fn(&T) -> i64),
    /// By a further label: its key, then its values.
    CounterBy(&'static str, fn(&T) -> Vec<(&'static str, u64)>),
    GaugeBy(&'static str, fn(&T) -> Vec<(&'static str, u64)>),
    Seconds(fn(&T) -> &Latencies),
}

type Label<'a> = (&'static str, &'a str);

const fn counter<T>(name: &'static str, help: &'static str, of: fn(&T) -> u64) -> Family<T> {
    Family { name, help, value: Value::Counter(of) }
}

const fn gauge<T>(name: &'static str, help: &'static str, of: fn(&T) -> i64) -> Family<T> {
    Family { name, help, value: Value::Gauge(of) }
}

const fn counter_by<T>(
    name: &'static str,
    key: &'static str,
    help: &'static str,
    of: fn(&T) -> Vec<(&'static str, u64)>,
) -> Family<T> {
    Family { name, help, value: Value::CounterBy(key, of) }
}

const fn seconds<T>(name: &'static str, help: &'static str, of: fn(&T) -> &Latencies) -> Family<T> {
    Family { name, help, value: Value::Seconds(of) }
}

/// Counts by place, with their names.
fn by_name<N: Named>(counts: &[u64]) -> Vec<(&'static str, u64)> {
    N::ALL.iter().map(|of| of.name()).zip(counts.iter().copied()).collect()
}

fn by_class(counts: &[u64]) -> Vec<(&'static str, u64)> {
    CLASSES.into_iter().zip(counts.iter().copied()).collect()
}

/// `sidecar_downstream_…`, without labels.
const DOWNSTREAM: &[Family<RequestTotals>] = &[
    counter("rq", "Requests received", |t| t.received),
    gauge("rq_active", "Requests not ended", |t| t.active()),
    counter_by("rq_outcome", "outcome", "Requests ended, each in one way", |t| {
        let refused = t.refused_in_all();
        vec![("ok", t.ok), ("failed", t.failed), ("refused", refused), ("cancelled", t.cancelled)]
    }),
    counter_by(
        "rq_refused",
        "flag",
        "Requests that no upstream answered in full, by response flag; DC holds callers that left",
        |t| {
            let left = |flag| if flag == Flag::DC { t.cancelled } else { 0 };
            Flag::ALL.map(|flag| (flag.letters(), t.refused[flag as usize] + left(flag))).into()
        },
    ),
    counter_by("rq_class", "class", "Statuses sent to callers", |t| by_class(&t.by_class)),
    counter("rq_attempts", "Attempts that ended requests had", |t| t.attempts),
    counter("rq_rate_limited", "Requests refused by a rate limit", |t| t.rate_limited),
    seconds("rq_time", "Time from a request's head to its end", |t| &t.latency),
];

/// `sidecar_cluster_…` and `sidecar_endpoint_…`.
const UPSTREAM: &[Family<EndpointTotals>] = &[
    counter("upstream_rq", "Requests placed on an endpoint", EndpointTotals::started),
    gauge("upstream_rq_active", "Requests not ended", EndpointTotals::active),
    counter_by("upstream_rq_kind", "kind", "Requests placed, by reason", |t| {
        by_name::<AttemptKind>(&t.attempts)
    }),
    counter("upstream_rq_retry", "Retries", |t| t.of_kind(AttemptKind::Retry)),
    counter("upstream_rq_hedge", "Hedges", |t| t.of_kind(AttemptKind::Hedge)),
    counter("upstream_rq_replay", "Repetitions of what an idle connection's end lost", |t| {
        t.of_kind(AttemptKind::Replay)
    }),
    counter_by("upstream_rq_class", "class", "Whole responses by status class", |t| {
        by_class(&t.completed)
    }),
    counter_by("upstream_rq_discarded", "class", "Responses dropped for another attempt's", |t| {
        by_class(&t.discarded)
    }),
    counter(
        "upstream_rq_failed",
        "Requests without a whole response: no connection, or it broke",
        |t| t.failed,
    ),
    counter("upstream_rq_timeout", "Route timeouts", |t| t.timed_out),
    counter("upstream_rq_per_try_timeout", "Timeouts of one attempt", |t| t.per_try_timed_out),
    counter(
        "upstream_rq_cancelled",
        "Requests that nobody waited for any more: the caller left or another attempt was faster",
        |t| t.cancelled,
    ),
    counter("upstream_rq_refused", "Requests that never left", |t| t.refused),
    counter(
        "upstream_rq_pending_overflow",
        "Requests refused because the endpoint's queue was full",
        |t| t.queue_overflowed,
    ),
    counter("upstream_rq_pending_timeout", "Requests that waited in the queue for too long", |t| {
        t.queue_timed_out
    }),
    seconds("upstream_rq_time", "Time to the response head", |t| &t.latency),
    counter("upstream_cx", "Connections made", |t| t.cx_opened),
    gauge("upstream_cx_active", "Connections open", EndpointTotals::cx_active),
    counter("upstream_cx_connect_fail", "Connections that could not be made", |t| t.connect_failed),
    counter_by("outlier_detection_ejections_enforced", "reason", "Ejections", |t| {
        by_name::<EjectionReason>(&t.ejected)
    }),
    counter_by("outlier_detection_ejections_detected", "reason", "Ejections, if allowed", |t| {
        let not = t.ejection_overflowed.iter().zip(t.detected).map(|(over, seen)| over + seen);
        let all = t.ejected.iter().zip(not).map(|(done, not)| done + not);
        by_name::<EjectionReason>(&all.collect::<Vec<_>>())
    }),
    counter(
        "outlier_detection_ejections_overflow",
        "Ejections that did not happen because too many endpoints were out",
        |t| t.ejection_overflowed.iter().sum(),
    ),
    gauge("outlier_detection_ejections_active", "Endpoints that are ejected now", |t| {
        t.is_ejected.cast_signed()
    }),
    counter("outlier_detection_probes", "Requests on trial to ejected endpoints", |t| t.probed),
    counter("outlier_detection_probes_failed", "Trials that failed", |t| t.trial_failed),
    counter("outlier_detection_returns", "Ends of an ejection", |t| t.returned),
    gauge("health_check_unhealthy", "Endpoints that active checks find unhealthy", |t| {
        t.is_unhealthy.cast_signed()
    }),
];

/// `sidecar_cluster_…`, which no endpoint has.
const CLUSTER: &[Family<ClusterRow>] = &[
    gauge("membership_total", "Endpoints", |row| row.members.cast_signed()),
    gauge("membership_healthy", "Endpoints neither ejected nor found unhealthy", |row| {
        row.members.cast_signed() - row.endpoints.is_out.cast_signed()
    }),
    counter("upstream_cx_none_healthy", "Requests that found no endpoint", |row| {
        row.totals.none_healthy
    }),
    counter("upstream_cx_overflow", "Requests refused by the limit of connections", |row| {
        row.totals.limit_reached[Limit::Connections as usize]
    }),
    counter_by("limit_reached", "limit", "Requests and retries refused by a limit", |row| {
        by_name::<Limit>(&row.totals.limit_reached)
    }),
    counter("upstream_rq_retry_scheduled", "Retries decided on, before their wait", |row| {
        row.totals.retry_scheduled
    }),
    counter("upstream_rq_retry_success", "Requests answered well by a later attempt", |row| {
        row.totals.retry_succeeded
    }),
    counter(
        "upstream_rq_retry_overflow",
        "Failures not retried for want of budget or room",
        |row| {
            let given_up = |why: GivenUp| row.totals.retry_given_up[why as usize];
            given_up(GivenUp::Budget) + given_up(GivenUp::LimitReached)
        },
    ),
    counter("upstream_rq_retry_limit_exceeded", "Failures of last attempts", |row| {
        row.totals.retry_given_up[GivenUp::Exhausted as usize]
    }),
    counter_by("upstream_rq_retry_given_up", "why", "Failures not retried", |row| {
        by_name::<GivenUp>(&row.totals.retry_given_up)
    }),
    counter("lb_healthy_panic", "Requests placed while the cluster panicked", |row| {
        row.totals.placed_in_panic
    }),
    gauge("lb_panic", "1 while so few endpoints are available that all are used", |row| {
        row.totals.panics.cast_signed()
    }),
    Family {
        name: "circuit_state",
        help: "1 for the state that the circuit is in",
        value: Value::GaugeBy("state", circuit_state),
    },
    counter_by("circuit_changes", "state", "Changes of the circuit, by what to", |row| {
        by_name::<CircuitState>(&row.totals.circuit_changed)
    }),
    counter("fallback_served", "Fallbacks served", |row| row.totals.fallback_served),
];

fn circuit_state(row: &ClusterRow) -> Vec<(&'static str, u64)> {
    let (open, half_open) = (row.totals.circuit_is_open, row.totals.circuit_is_half_open);
    // Between two switches a scrape may see both or none; open is what is safe to say.
    let half_open = half_open * (1 - open);
    let value = |state| match state {
        CircuitState::Closed => 1 - open - half_open,
        CircuitState::Open => open,
        CircuitState::HalfOpen => half_open,
    };
    CircuitState::ALL.iter().map(|state| (state.name(), value(*state))).collect()
}

/// Registers all of them.
pub(super) fn register(registry: &mut Registry, books: &Arc<Books>) {
    for (prefix, scope) in [
        ("downstream", Scope::Downstream),
        ("cluster", Scope::Cluster),
        ("endpoint", Scope::Endpoint),
    ] {
        let collector = BooksCollector { books: books.clone(), scope };
        registry.sub_registry_with_prefix(prefix).register_collector(Box::new(collector));
    }
}

#[derive(Debug)]
struct BooksCollector {
    books: Arc<Books>,
    scope: Scope,
}

#[derive(Debug)]
enum Scope {
    Downstream,
    Cluster,
    Endpoint,
}

impl Collector for BooksCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        match self.scope {
            Scope::Downstream => {
                let totals = self.books.requests.read();
                encode_all(&mut encoder, DOWNSTREAM, &[(&[], &totals)])
            }
            Scope::Cluster => {
                let rows = self.books.cluster_rows();
                let labels: Vec<_> = rows.iter().map(|row| [("cluster", &*row.cluster)]).collect();
                let labelled = || labels.iter().zip(&rows).map(|(labels, row)| (&labels[..], row));
                let sums: Vec<_> = labelled().map(|(of, row)| (of, &row.endpoints)).collect();
                encode_all(&mut encoder, UPSTREAM, &sums)?;
                encode_all(&mut encoder, CLUSTER, &labelled().collect::<Vec<_>>())
            }
            Scope::Endpoint => {
                let rows = self.books.endpoint_rows();
                let labels: Vec<_> = rows
                    .iter()
                    .map(|row| [("cluster", &*row.cluster), ("endpoint", &*row.endpoint)])
                    .collect();
                let rows = labels.iter().zip(&rows).map(|(of, row)| (&of[..], &row.totals));
                encode_all(&mut encoder, UPSTREAM, &rows.collect::<Vec<_>>())
            }
        }
    }
}

fn encode_all<T>(
    encoder: &mut DescriptorEncoder<'_>,
    families: &[Family<T>],
    rows: &[(&[Label<'_>], &T)],
) -> fmt::Result {
    for Family { name, help, value } in families {
        let (kind, unit) = match value {
            Value::Counter(_) | Value::CounterBy(..) => (MetricType::Counter, None),
            Value::Gauge(_) | Value::GaugeBy(..) => (MetricType::Gauge, None),
            Value::Seconds(_) => (MetricType::Histogram, Some(&Unit::Seconds)),
        };
        let mut metric = encoder.encode_descriptor(name, help, unit, kind)?;
        for (labels, of) in rows {
            encode(&mut metric, value, labels, of)?;
        }
    }
    Ok(())
}

fn encode<T>(
    metric: &mut MetricEncoder<'_>,
    value: &Value<T>,
    labels: &[Label<'_>],
    of: &T,
) -> fmt::Result {
    match value {
        Value::CounterBy(key, read) => each_value(key, read(of), labels, |labels, value| {
            metric.encode_family(&labels)?.encode_counter(&value, NO_EXEMPLAR)
        }),
        Value::GaugeBy(key, read) => each_value(key, read(of), labels, |labels, value| {
            metric.encode_family(&labels)?.encode_gauge(&value)
        }),
        // A family of no labels would be written with empty braces.
        _ if labels.is_empty() => encode_one(metric, value, of),
        _ => encode_one(&mut metric.encode_family(&labels)?, value, of),
    }
}

const NO_EXEMPLAR: Option<&Exemplar<NoLabelSet, u64>> = None;

fn encode_one<T>(metric: &mut MetricEncoder<'_>, value: &Value<T>, of: &T) -> fmt::Result {
    match value {
        Value::Counter(read) => metric.encode_counter(&read(of), NO_EXEMPLAR),
        Value::Gauge(read) => metric.encode_gauge(&read(of)),
        Value::Seconds(read) => {
            let latencies = read(of);
            let buckets: Vec<_> = latencies.buckets().collect();
            let (sum, count) = (latencies.sum_s(), latencies.count());
            metric.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
        }
        Value::CounterBy(..) | Value::GaugeBy(..) => Ok(()),
    }
}

fn each_value(
    key: &'static str,
    values: Vec<(&'static str, u64)>,
    labels: &[Label<'_>],
    mut encode: impl FnMut(&[Label<'_>], u64) -> fmt::Result,
) -> fmt::Result {
    for (name, value) in values {
        let labels: Vec<_> = labels.iter().copied().chain([(key, name)]).collect();
        encode(&labels, value)?;
    }
    Ok(())
}
