//! How a plan is carried out.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use tokio::time::Instant;

use super::Gauges;
use crate::expect::Expect;
use crate::target::{Mix, Target};

/// The longest timeout and drain; longer ones are taken for this, so that instants do not
/// overflow.
pub const MAX_WAIT: Duration = Duration::from_secs(365 * 24 * 3600);

/// How a plan is carried out.
#[derive(Clone, Debug)]
pub struct Options {
    /// What is sent where.
    pub mix: Mix,
    /// The seed of what differs from request to request: targets drawn by weight, and random
    /// places in them. 0 by default, so that two runs ask for the same.
    pub seed: u64,
    /// What answers are checked for.
    pub expect: Expect,
    /// How requests share a connection.
    pub protocol: Protocol,
    /// How long after its planned instant an answer is of use. A whole answer that comes later is
    /// late, but not cancelled; a request that is past it before it could be sent is shed.
    pub deadline: Option<Duration>,
    /// Cancel what is in flight at its deadline. Off by default: over HTTP/1.1 it costs the
    /// connection, and so loads the server with what a patient caller would spare it.
    pub cancel_at_deadline: bool,
    /// How long one request may take from the begin of work on it, connecting included. Then it
    /// is cancelled by closing its connection, and recorded as having taken exactly this long.
    pub timeout: Duration,
    /// The bound on connections to one address, and so on requests in flight. They are opened as
    /// they are needed.
    pub max_connections: usize,
    /// A lower bound on requests in flight over all, if there is to be one.
    pub max_in_flight: Option<usize>,
    /// What becomes of a request that is due while the bound is reached.
    pub overflow: Overflow,
    /// How many requests one connection carries before it is closed; any number if `None`.
    pub requests_per_connection: Option<NonZeroU32>,
    /// How long after the plan's end answers are waited for.
    pub drain: Duration,
    /// If set, each request carries its index in the plan, in decimal, in this header field.
    pub index_header: Option<HeaderName>,
    /// The instant that the plan counts from, for workers that start together; the begin of the
    /// run if `None`.
    pub start: Option<Instant>,
    /// Where workers of the same run count together.
    pub gauges: Option<Arc<Gauges>>,
}

impl Options {
    /// Ten seconds' timeout, longer than which no one waits for a page; as long to drain, so that
    /// each request sent ends by itself; 128 connections, which carry 12,800 requests per second
    /// of 10 ms each; what is due beyond them waits, and its clock runs.
    pub fn new(target: Target, address: impl Into<String>) -> Self {
        Self {
            mix: Mix::single(target, address.into()),
            seed: 0,
            expect: Expect::default(),
            protocol: Protocol::Http1,
            deadline: None,
            cancel_at_deadline: false,
            timeout: Duration::from_secs(10),
            max_connections: 128,
            max_in_flight: None,
            overflow: Overflow::Queue,
            requests_per_connection: None,
            drain: Duration::from_secs(10),
            index_header: None,
            start: None,
            gauges: None,
        }
    }

    /// How many requests may be in flight.
    pub fn max_lanes(&self) -> usize {
        let lanes = match self.protocol {
            Protocol::Http1 => self.max_connections,
            Protocol::Http2 { streams } => self.max_connections.saturating_mul(streams),
        };
        lanes.min(self.max_in_flight.unwrap_or(usize::MAX))
    }
}

/// How requests share a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// One after the other, never pipelined: a pipelined answer waits for those before it, and
    /// would time them too.
    #[default]
    Http1,
    /// As streams side by side.
    Http2 {
        /// The most at once on one connection. Servers commonly allow 100 to 250.
        streams: usize,
    },
}

/// What becomes of a request that is due while as many are in flight as may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overflow {
    /// It waits for a lane, and its clock runs.
    #[default]
    Queue,
    /// It is not sent.
    Skip,
}
