//! What an endpoint is charged with for failing, where requests are counted.
//!
//! An endpoint that fails at once never has a request in flight, so whoever counts requests in
//! flight finds it the idlest of all and sends it everything: the sinkhole. The remedy is Little's
//! law. A count is a rate times a time, so a failure that stays in the count for as long as a
//! failure *should* have taken weighs exactly as much as a slow answer of that length. It is what
//! Linkerd's load biaser does to latencies, in the currency of counts. A dead endpoint among
//! peers with a latency of L then gets about L / `failure_hold` of a fair share: enough to notice
//! that it is back, too little to hurt.
//!
//! The charges of an endpoint are one number that decays over the hold time, not a list of
//! requests: the mean is the same, and it costs two words and no queue. `Retry-After` keeps the
//! number from decaying until it has passed.

use std::time::{Duration, Instant};

use super::{EndpointId, keep};

/// Charges below this are forgotten: half a request decides nothing that a draw should not, and
/// without an end an idle endpoint would lose every tie for ever.
const FORGOTTEN: f64 = 0.5;

/// Charges per endpoint.
#[derive(Clone, Debug)]
pub(super) struct Penalties {
    /// Zero: failures are not charged.
    hold: Duration,
    max_retry_after: Duration,
    of: Vec<Option<Charge>>,
    /// The endpoints with a charge, in no order, so that nobody has to look at all of them.
    charged: Vec<EndpointId>,
}

/// Requests as of an instant, which may lie ahead.
#[derive(Clone, Copy, Debug)]
struct Charge {
    requests: f64,
    at: Instant,
}

impl Penalties {
    pub(super) fn new(endpoints: usize, hold: Duration, max_retry_after: Duration) -> Self {
        let charged = Vec::with_capacity(endpoints);
        Self { hold, max_retry_after, of: vec![None; endpoints], charged }
    }

    /// Takes over the charges of those that are kept.
    pub(super) fn succeed(&mut self, old: &Self, keeps: &[bool]) {
        keep(&mut self.of, &old.of, keeps);
        let charged = self.of.iter().enumerate().filter(|(_, charge)| charge.is_some());
        self.charged.extend(charged.map(|(place, _)| EndpointId(place)));
    }

    /// A request has failed.
    pub(super) fn failed(
        &mut self,
        endpoint: EndpointId,
        retry_after: Option<Duration>,
        now: Instant,
    ) {
        if self.hold.is_zero() {
            return;
        }
        let requests = self.requests(endpoint, now) + 1.0;
        let asked = retry_after.unwrap_or_default().min(self.max_retry_after);
        let charge = &mut self.of[endpoint.0];
        if charge.is_none() {
            self.charged.push(endpoint);
        }
        let earlier = charge.map_or(now, |charge| charge.at);
        *charge = Some(Charge { requests, at: earlier.max(now + asked) });
    }

    /// Requests that it is charged with now.
    pub(super) fn requests(&self, endpoint: EndpointId, now: Instant) -> f64 {
        let Some(Charge { requests, at }) = self.of[endpoint.0] else { return 0.0 };
        let elapsed = now.saturating_duration_since(at).as_secs_f64();
        let left = requests * libm::exp(-elapsed / self.hold.as_secs_f64());
        if left < FORGOTTEN { 0.0 } else { left }
    }

    pub(super) fn forget(&mut self, endpoint: EndpointId) {
        if self.of[endpoint.0].take().is_some() {
            self.charged.retain(|charged| *charged != endpoint);
        }
    }

    /// Calls `with` for each endpoint that has a charge, or had one when last asked, with what is
    /// left of it.
    pub(super) fn refresh(&mut self, now: Instant, mut with: impl FnMut(EndpointId, f64)) {
        for index in (0..self.charged.len()).rev() {
            let endpoint = self.charged[index];
            let requests = self.requests(endpoint, now);
            if requests == 0.0 {
                self.of[endpoint.0] = None;
                self.charged.swap_remove(index);
            }
            with(endpoint, requests);
        }
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "an arbitrary origin for a scripted clock")]
mod tests {
    use super::*;

    const A: EndpointId = EndpointId(0);

    fn penalties(hold_s: u64) -> Penalties {
        Penalties::new(2, Duration::from_secs(hold_s), Duration::from_secs(300))
    }

    #[test]
    fn a_charge_decays_and_is_forgotten_at_half_a_request() {
        let start = Instant::now();
        let mut penalties = penalties(5);
        penalties.failed(A, None, start);
        assert_eq!(penalties.requests(A, start), 1.0);
        // 5 s · ln 2 = 3.466 s.
        assert!(penalties.requests(A, start + Duration::from_millis(3465)) > 0.5);
        assert_eq!(penalties.requests(A, start + Duration::from_millis(3466)), 0.0);
    }

    #[test]
    fn a_steady_rate_of_failures_is_charged_as_little_says() {
        let mut now = Instant::now();
        let mut penalties = penalties(5);
        for _ in 0..1000 {
            now += Duration::from_millis(100);
            penalties.failed(A, None, now);
        }
        // 10/s · 5 s
        assert!((penalties.requests(A, now) - 50.0).abs() < 1.0);
    }

    #[test]
    fn retry_after_stops_the_decay_up_to_its_limit() {
        let start = Instant::now();
        for (asked, kept) in [(60, 60), (300, 300), (301, 300)] {
            let mut penalties = penalties(5);
            penalties.failed(A, Some(Duration::from_secs(asked)), start);
            let end = start + Duration::from_secs(kept);
            assert_eq!(penalties.requests(A, end), 1.0);
            assert!(penalties.requests(A, end + Duration::from_millis(1)) < 1.0);
        }
    }

    #[test]
    fn a_hold_of_zero_charges_nothing() {
        let start = Instant::now();
        let mut penalties = penalties(0);
        penalties.failed(A, None, start);
        assert_eq!(penalties.requests(A, start), 0.0);
    }

    #[test]
    fn refreshing_tells_of_each_charge_until_it_has_told_of_its_end() {
        let start = Instant::now();
        let mut penalties = penalties(5);
        penalties.failed(A, None, start);
        let mut told = Vec::new();
        for seconds in [0, 60, 61] {
            penalties.refresh(start + Duration::from_secs(seconds), |e, left| told.push((e, left)));
        }
        assert_eq!(told, [(A, 1.0), (A, 0.0)]);
        penalties.failed(A, None, start);
        penalties.forget(A);
        penalties.refresh(start, |_, _| panic!("nothing is charged"));
    }
}
