//! The handles that a listener counts with.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::RefusedLabels;
use crate::error::Flag;

/// Counts what happens at a listener.
#[derive(Clone, Debug, Default)]
pub struct ListenerStats {
    pub(super) cx_total: Counter,
    pub(super) cx_active: Gauge,
    pub(super) accept_fail: Counter,
    pub(super) panic: Counter,
    pub(super) protocol_error: Counter,
    pub(super) idle_timeout: Counter,
    pub(super) header_timeout: Counter,
    pub(super) body_timeout: Counter,
    pub(super) write_timeout: Counter,
    pub(super) refused: Refused,
}

/// Requests that did not reach the service, which has no books on them.
#[derive(Clone, Debug, Default)]
pub(super) struct Refused {
    pub(super) by: Family<RefusedLabels, Counter>,
    pub(super) listener: String,
}

impl ListenerStats {
    /// A connection was accepted; it is open until the guard is dropped.
    pub fn connection_opened(&self) -> Open {
        self.cx_total.inc();
        Open::new(&self.cx_active)
    }

    /// `accept` failed.
    pub fn accept_failed(&self) {
        self.accept_fail.inc();
    }

    /// A connection's task panicked.
    pub fn task_panicked(&self) {
        self.panic.inc();
    }

    /// A connection ended because a request on it was malformed.
    pub fn protocol_error(&self) {
        self.protocol_error.inc();
    }

    /// A connection was closed because no request came on it.
    pub fn idle_timeout(&self) {
        self.idle_timeout.inc();
    }

    /// A request's head took too long.
    pub fn header_timeout(&self) {
        self.header_timeout.inc();
    }

    /// A request's body stopped coming.
    pub fn body_timeout(&self) {
        self.body_timeout.inc();
    }

    /// A request was refused by the listener itself, with this flag.
    pub fn refused(&self, flag: Flag) {
        let Refused { by, listener } = &self.refused;
        let labels = RefusedLabels { listener: listener.clone(), flag: flag.letters() };
        by.get_or_create_owned(&labels).inc();
    }

    /// A connection was cut because its caller did not read.
    pub fn write_timeout(&self) {
        self.write_timeout.inc();
    }
}

/// Counts as open until it is dropped.
#[derive(Debug)]
pub struct Open(Gauge);

impl Open {
    fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}
