//! Do the books balance?
//!
//! Two equations have to hold at any moment:
//!
//! - received = ok + failed + refused + cancelled + active, of requests;
//! - first + retries + hedges = completed + discarded + failed + timed out + per-try timed out +
//!   cancelled + refused + active, of attempts, for each endpoint and so for each cluster.
//!
//! A gauge that goes up with each beginning and down with each end would make both true of any
//! nonsense, so `active` is not counted but is what remains. What can be false is what is checked:
//! that it is not negative; that the two books, which are written in different places, agree on what
//! both know; and, when nothing is under way, that nothing remains. An attempt that is placed and
//! never ended, or a request that is ended twice, is caught by that.

use super::books::{Books, EndpointRow};
use super::event::AttemptKind;
use super::totals::{EndpointTotals, RequestTotals};

/// The books at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conservation {
    /// What became of requests.
    pub requests: RequestTotals,
    /// What became of attempts at each endpoint that there is or was; by place, those that are gone
    /// last. Those that are not remembered are summed up without an address.
    pub endpoints: Vec<EndpointRow>,
}

/// The books do not balance, which is a defect; the sentence says where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Imbalance(String);

impl Conservation {
    pub(super) fn of(books: &Books) -> Self {
        // See `totals`: what is last first. Attempts end before their requests do, and begin after.
        let mut requests = books.requests.read();
        let endpoints = books.all_endpoint_rows();
        requests.received = books.requests.received.get();
        Self { requests, endpoints }
    }

    /// All endpoints together.
    pub fn attempts(&self) -> EndpointTotals {
        let mut sum = EndpointTotals::default();
        for row in &self.endpoints {
            sum.add(&row.totals);
        }
        sum
    }

    /// What must hold at any moment.
    ///
    /// # Errors
    /// A sentence with the first equation that does not.
    pub fn check(&self) -> Result<(), Imbalance> {
        let requests = &self.requests;
        at_most(requests.ended(), requests.received, || "requests ended and received".to_owned())?;
        for EndpointRow { cluster, endpoint, totals } in &self.endpoints {
            let of = |what| move || format!("{what} at {cluster}/{endpoint}");
            at_most(totals.ended(), totals.started(), of("attempts ended and started"))?;
            at_most(answered(totals), totals.latency.count(), of("responses and their heads"))?;
            at_most(totals.latency.count(), totals.started(), of("heads and attempts"))?;
            at_most(totals.cx_closed, totals.cx_opened, of("connections closed and made"))?;
            at_most(totals.returned, totals.ejected.iter().sum(), of("returns and ejections"))?;
        }
        let attempts = self.attempts();
        let first = attempts.of_kind(AttemptKind::First);
        at_most(first, requests.received, || "first attempts and requests received".to_owned())?;
        at_most(requests.attempts, attempts.started(), || {
            "attempts of requests that ended and attempts started".to_owned()
        })?;
        at_most(requests.ok + requests.failed, attempts.completed.iter().sum(), || {
            "requests answered by upstreams and attempts completed".to_owned()
        })
    }

    /// What must hold when nothing is under way, too.
    ///
    /// # Errors
    /// A sentence with the first equation that does not.
    pub fn check_at_rest(&self) -> Result<(), Imbalance> {
        self.check()?;
        let requests = &self.requests;
        equal(requests.ended(), requests.received, || "requests ended and received".to_owned())?;
        for EndpointRow { cluster, endpoint, totals } in &self.endpoints {
            let of = |what| move || format!("{what} at {cluster}/{endpoint}");
            equal(totals.ended(), totals.started(), of("attempts ended and started"))?;
        }
        equal(requests.attempts, self.attempts().started(), || {
            "attempts of requests and attempts started".to_owned()
        })
    }
}

fn answered(totals: &EndpointTotals) -> u64 {
    totals.completed.iter().chain(&totals.discarded).sum()
}

fn at_most(part: u64, whole: u64, what: impl Fn() -> String) -> Result<(), Imbalance> {
    if part <= whole {
        return Ok(());
    }
    Err(Imbalance(format!("{}: {part} is more than {whole}", what())))
}

fn equal(one: u64, other: u64, what: impl Fn() -> String) -> Result<(), Imbalance> {
    if one == other {
        return Ok(());
    }
    Err(Imbalance(format!("{}: {one} is not {other}, with nothing under way", what())))
}
