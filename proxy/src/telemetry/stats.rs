//! The handles that the path counts with.

use std::time::Duration;

use http::StatusCode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

use crate::error::Flag;

/// Counts what happens at a listener.
#[derive(Clone, Debug, Default)]
pub struct ListenerStats {
    pub(super) cx_total: Counter,
    pub(super) cx_active: Gauge,
    pub(super) accept_fail: Counter,
    pub(super) panic: Counter,
}

impl ListenerStats {
    /// A connection was accepted; it is open until the guard is dropped.
    pub fn connection_opened(&self) -> Open {
        self.cx_total.inc();
        Open::new([&self.cx_active])
    }

    /// `accept` failed.
    pub fn accept_failed(&self) {
        self.accept_fail.inc();
    }

    /// A connection's task panicked.
    pub fn task_panicked(&self) {
        self.panic.inc();
    }
}

/// Counts requests as they come in and as we answer them ourselves.
#[derive(Clone, Debug)]
pub struct RequestStats {
    pub(super) total: Counter,
    pub(super) refused: [Counter; Flag::ALL.len()],
}

impl RequestStats {
    /// A request head was received.
    pub fn received(&self) {
        self.total.inc();
    }

    /// A request was not answered by an upstream in full.
    pub fn refused(&self, flag: Flag) {
        self.refused[flag as usize].inc();
    }

    /// Requests received so far.
    pub fn total(&self) -> u64 {
        self.total.get()
    }
}

/// Counts what is sent to an endpoint; what can only happen at an endpoint is counted for its
/// cluster too.
#[derive(Clone, Debug)]
pub struct EndpointStats {
    pub(super) own: UpstreamStats,
    pub(super) cluster: UpstreamStats,
}

impl EndpointStats {
    /// A request was placed on it.
    pub fn request_sent(&self) {
        for stats in [&self.own, &self.cluster] {
            stats.rq_total.inc();
            stats.rq_active.inc();
        }
    }

    /// A response head arrived.
    pub fn answered(&self, latency: Duration) {
        for stats in [&self.own, &self.cluster] {
            stats.rq_time.observe(latency.as_secs_f64());
        }
    }

    /// A response was complete.
    pub fn completed(&self, status: StatusCode) {
        let class = usize::from(status.as_u16() / 100).clamp(1, 5);
        self.both(|stats| &stats.rq_by_class[class - 1]);
    }

    /// A request placed is over, in whatever way.
    pub fn request_ended(&self) {
        for stats in [&self.own, &self.cluster] {
            stats.rq_active.dec();
        }
    }

    /// The route's time was up.
    pub fn timed_out(&self) {
        self.both(|stats| &stats.rq_timeout);
    }

    /// No whole response: no connection, or it broke.
    pub fn failed(&self) {
        self.both(|stats| &stats.rq_failed);
    }

    /// The caller left before the end of the response.
    pub fn cancelled(&self) {
        self.both(|stats| &stats.rq_cancelled);
    }

    /// Its queue was full.
    pub fn overflowed(&self) {
        self.both(|stats| &stats.rq_pending_overflow);
    }

    /// A connection could not be made.
    pub fn connect_failed(&self) {
        self.both(|stats| &stats.cx_connect_fail);
    }

    /// A connection was made; it is open until the guard is dropped.
    pub fn connection_opened(&self) -> Open {
        self.both(|stats| &stats.cx_total);
        Open::new([&self.own.cx_active, &self.cluster.cx_active])
    }

    /// What it has counted so far.
    pub fn snapshot(&self) -> EndpointSnapshot {
        let own = &self.own;
        EndpointSnapshot {
            rq_total: own.rq_total.get(),
            rq_active: own.rq_active.get(),
            rq_success: own.rq_by_class[..4].iter().map(Counter::get).sum(),
            rq_error: own.rq_by_class[4].get(),
            rq_timeout: own.rq_timeout.get(),
            rq_failed: own.rq_failed.get(),
            rq_cancelled: own.rq_cancelled.get(),
            cx_total: own.cx_total.get(),
            cx_active: own.cx_active.get(),
            cx_connect_fail: own.cx_connect_fail.get(),
        }
    }

    fn both(&self, counter: impl Fn(&UpstreamStats) -> &Counter) {
        counter(&self.own).inc();
        counter(&self.cluster).inc();
    }
}

/// An endpoint's counters at one moment, by Envoy's names.
///
/// Each request placed is in exactly one place: `rq_total` is the sum of `rq_active`,
/// `rq_success` (whole responses below 500), `rq_error` (the others), `rq_timeout`, `rq_failed`
/// and `rq_cancelled`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[allow(missing_docs, reason = "the names are those of the statistics")]
pub struct EndpointSnapshot {
    pub rq_total: u64,
    pub rq_active: i64,
    pub rq_success: u64,
    pub rq_error: u64,
    pub rq_timeout: u64,
    pub rq_failed: u64,
    pub rq_cancelled: u64,
    pub cx_total: u64,
    pub cx_active: i64,
    pub cx_connect_fail: u64,
}

#[derive(Clone, Debug)]
pub(super) struct UpstreamStats {
    pub(super) rq_total: Counter,
    pub(super) rq_active: Gauge,
    pub(super) rq_timeout: Counter,
    pub(super) rq_failed: Counter,
    pub(super) rq_cancelled: Counter,
    pub(super) rq_pending_overflow: Counter,
    pub(super) rq_by_class: [Counter; 5],
    pub(super) rq_time: Histogram,
    pub(super) cx_total: Counter,
    pub(super) cx_active: Gauge,
    pub(super) cx_connect_fail: Counter,
}

/// Counts as open until it is dropped.
#[derive(Debug)]
pub struct Open(Vec<Gauge>);

impl Open {
    fn new<const N: usize>(gauges: [&Gauge; N]) -> Self {
        for gauge in gauges {
            gauge.inc();
        }
        Self(gauges.into_iter().cloned().collect())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        for gauge in &self.0 {
            gauge.dec();
        }
    }
}
