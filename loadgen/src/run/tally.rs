//! How many of something there are now, and were at most.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What the workers of one run count together: a peak over all threads is not the sum of their
/// peaks, which need not have come at the same time.
#[derive(Debug, Default)]
pub struct Gauges {
    /// Requests in flight.
    pub in_flight: Gauge,
    /// Open connections.
    pub connections: Gauge,
}

/// A number that threads share, and the most it was.
#[derive(Debug, Default)]
pub struct Gauge {
    now: AtomicUsize,
    peak: AtomicUsize,
}

impl Gauge {
    /// The number now.
    pub fn now(&self) -> usize {
        self.now.load(Ordering::Relaxed)
    }

    /// The most it was.
    pub fn peak(&self) -> usize {
        self.peak.load(Ordering::Relaxed)
    }
}

/// One of the gauges.
type Which = fn(&Gauges) -> &Gauge;

/// One worker's count, which also moves the gauge that it shares with others.
#[derive(Debug)]
pub(super) struct Tally {
    now: Cell<usize>,
    peak: Cell<usize>,
    shared: Option<(Arc<Gauges>, Which)>,
}

impl Tally {
    pub(super) fn new(gauges: Option<&Arc<Gauges>>, which: Which) -> Tally {
        let shared = gauges.map(|gauges| (gauges.clone(), which));
        Tally { now: Cell::new(0), peak: Cell::new(0), shared }
    }

    pub(super) fn now(&self) -> usize {
        self.now.get()
    }

    pub(super) fn peak(&self) -> usize {
        self.peak.get()
    }

    pub(super) fn up(&self) {
        self.now.set(self.now.get() + 1);
        self.peak.set(self.peak.get().max(self.now.get()));
        if let Some((gauges, which)) = &self.shared {
            let gauge = which(gauges);
            let now = gauge.now.fetch_add(1, Ordering::Relaxed) + 1;
            gauge.peak.fetch_max(now, Ordering::Relaxed);
        }
    }

    pub(super) fn down(&self) {
        self.now.set(self.now.get() - 1);
        if let Some((gauges, which)) = &self.shared {
            which(gauges).now.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Counted for as long as it lives.
#[derive(Debug)]
pub(super) struct Counted(Rc<Tally>);

impl Counted {
    pub(super) fn new(tally: &Rc<Tally>) -> Counted {
        tally.up();
        Counted(tally.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.down();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_share_a_gauge_and_keep_their_own_count() {
        let gauges = Arc::new(Gauges::default());
        let tally = || Rc::new(Tally::new(Some(&gauges), |g| &g.connections));
        let (one, two) = (tally(), tally());
        let held = Counted::new(&one);
        drop(Counted::new(&one));
        let other = Counted::new(&two);
        assert_eq!((one.peak(), two.peak(), gauges.connections.peak()), (2, 1, 2));
        drop((held, other));
        assert_eq!((one.now(), gauges.connections.now()), (0, 0));
    }
}
