//! What an endpoint did over the last ten intervals, exactly.
//!
//! A ring of one slot per interval and the sum of all slots: a slot that leaves the ring is taken
//! off the sum. Nothing decays, so an hour of good service does not outvote the last ten seconds,
//! which is what makes an average blind to a fault that has just begun. Linkerd's breaker keeps the
//! same kind of ring for its success rate; here each slot has a histogram of latencies as well.
//!
//! All memory is taken at construction: 7.7 KiB for each endpoint.

use std::time::Duration;

/// Whole intervals in a window; the one under way comes on top. With intervals of 1 s that is 10 s,
/// over which Envoy too judges rates.
pub(super) const INTERVALS: usize = 10;

/// Cells of a histogram to each doubling of latency: a quantile is right to 6 %, and what is asked
/// of it is whether it is several times another.
const CELLS_PER_OCTAVE: usize = 8;
/// Latencies below 2^17 ns, 0.13 ms, share the first cell: no network and no floor is below.
const FIRST_OCTAVE: u32 = 17;
/// Latencies from 2^37 ns, 137 s, share the last cell: no deadline is beyond.
const OCTAVES: usize = 20;
const CELLS: usize = 1 + OCTAVES * CELLS_PER_OCTAVE;

/// What happened within one interval, or within all of them.
#[derive(Clone, Debug)]
struct Slot {
    succeeded: u32,
    failed: u32,
    latencies: [u32; CELLS],
}

impl Slot {
    const EMPTY: Self = Self { succeeded: 0, failed: 0, latencies: [0; CELLS] };

    fn subtract(&mut self, other: &Self) {
        self.succeeded -= other.succeeded;
        self.failed -= other.failed;
        for (mine, theirs) in self.latencies.iter_mut().zip(&other.latencies) {
            *mine -= theirs;
        }
    }
}

/// Counts and latencies of one endpoint over a sliding window.
#[derive(Clone, Debug)]
pub(super) struct Window {
    /// Slot of interval `t` at `t % len`; the newest is the one of `interval`.
    slots: Box<[Slot]>,
    sum: Slot,
    interval: u64,
}

impl Window {
    pub(super) fn new() -> Self {
        Self {
            slots: vec![Slot::EMPTY; INTERVALS + 1].into_boxed_slice(),
            sum: Slot::EMPTY,
            interval: 0,
        }
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.slots.fill(Slot::EMPTY);
        self.sum = Slot::EMPTY;
    }

    /// Moves on to `interval`; what is too old by then is taken off.
    pub(super) fn advance(&mut self, interval: u64) {
        let slots = self.slots.len() as u64;
        if interval.saturating_sub(self.interval) >= slots {
            self.clear();
            self.interval = interval;
        }
        while self.interval < interval {
            self.interval += 1;
            let oldest = &mut self.slots[(self.interval % slots) as usize];
            self.sum.subtract(oldest);
            *oldest = Slot::EMPTY;
        }
    }

    fn count(&mut self, count: impl Fn(&mut Slot)) {
        let newest = (self.interval % self.slots.len() as u64) as usize;
        count(&mut self.slots[newest]);
        count(&mut self.sum);
    }

    pub(super) fn succeeded(&mut self) {
        self.count(|slot| slot.succeeded += 1);
    }

    pub(super) fn failed(&mut self) {
        self.count(|slot| slot.failed += 1);
    }

    pub(super) fn took(&mut self, latency: Duration) {
        let cell = cell_of(latency);
        self.count(|slot| slot.latencies[cell] += 1);
    }

    /// Requests that succeeded or failed.
    pub(super) fn requests(&self) -> u32 {
        self.sum.succeeded + self.sum.failed
    }

    /// The share of [`Window::requests`] that failed, 0 when there are none.
    pub(super) fn failure_rate(&self) -> f64 {
        f64::from(self.sum.failed) / f64::from(self.requests().max(1))
    }

    /// The latency that a share `quantile` of at least `min_requests` requests did not exceed, to
    /// within 6 %; `None` if there are fewer.
    pub(super) fn latency(&self, quantile: f64, min_requests: u32) -> Option<Duration> {
        let latencies: u32 = self.sum.latencies.iter().sum();
        if latencies == 0 || latencies < min_requests {
            return None;
        }
        let rank = libm::ceil(quantile * f64::from(latencies)).max(1.0);
        let mut seen = 0;
        let reached = |count: &u32| {
            seen += count;
            f64::from(seen) >= rank
        };
        let cell = self.sum.latencies.iter().position(reached).unwrap_or(CELLS - 1);
        Some(middle_of(cell))
    }
}

fn cell_of(latency: Duration) -> usize {
    let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
    if nanos < 1 << FIRST_OCTAVE {
        return 0;
    }
    let octave = nanos.ilog2();
    // The three bits after the leading one.
    let within = (nanos >> (octave - 3)) as usize % CELLS_PER_OCTAVE;
    let cell = 1 + (octave - FIRST_OCTAVE) as usize * CELLS_PER_OCTAVE + within;
    cell.min(CELLS - 1)
}

fn middle_of(cell: usize) -> Duration {
    let Some(above) = cell.checked_sub(1) else {
        return Duration::from_nanos(1 << (FIRST_OCTAVE - 1));
    };
    let octave = 1_u64 << (FIRST_OCTAVE as usize + above / CELLS_PER_OCTAVE);
    let eighth = octave / CELLS_PER_OCTAVE as u64;
    Duration::from_nanos(octave + (above % CELLS_PER_OCTAVE) as u64 * eighth + eighth / 2)
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::{any, prop, prop_assert, prop_assert_eq, proptest};

    use super::*;

    #[test]
    fn a_failure_is_gone_after_ten_more_intervals() {
        let mut window = Window::new();
        window.advance(5);
        window.failed();
        window.advance(15);
        assert_eq!(window.requests(), 1);
        window.advance(16);
        assert_eq!(window.requests(), 0);
    }

    #[test]
    fn the_quantile_needs_its_requests() {
        let mut window = Window::new();
        (0..19).for_each(|_| window.took(Duration::from_millis(100)));
        assert_eq!(window.latency(0.5, 20), None);
        window.took(Duration::from_secs(10));
        let near = |quantile, seconds: f64| {
            let is = window.latency(quantile, 20).map_or(0.0, |d| d.as_secs_f64());
            (is / seconds - 1.0).abs() <= 0.0625
        };
        assert!(near(0.0, 0.1) && near(0.5, 0.1) && near(0.95, 0.1));
        assert!(near(0.951, 10.0) && near(1.0, 10.0));
    }

    proptest! {
        /// Every latency falls into a cell whose middle is near, and longer ones into later cells.
        #[test]
        fn cells_are_near_and_in_order(nanos in (1u64 << 17)..(1 << 37), more in 0u64..(1 << 37)) {
            let middle = middle_of(cell_of(Duration::from_nanos(nanos))).as_nanos() as f64;
            prop_assert!((middle / nanos as f64 - 1.0).abs() <= 0.0625);
            let longer = cell_of(Duration::from_nanos(nanos + more));
            prop_assert!(longer >= cell_of(Duration::from_nanos(nanos)) && longer < CELLS);
        }

        /// The sum is what a list of the last intervals says, whatever intervals are left out.
        #[test]
        fn the_sum_is_exact(steps in prop::collection::vec((0u64..14, any::<bool>()), 1..200)) {
            let mut window = Window::new();
            let mut list = VecDeque::new();
            let mut interval = 0;
            for (skip, failed) in steps {
                interval += skip;
                window.advance(interval);
                if failed { window.failed() } else { window.succeeded() }
                window.took(Duration::from_millis(1 + interval));
                list.push_back((interval, failed));
                list.retain(|(at, _)| at + INTERVALS as u64 >= interval);
                let failures = list.iter().filter(|(_, failed)| *failed).count();
                prop_assert_eq!(window.requests() as usize, list.len());
                prop_assert_eq!(window.sum.failed as usize, failures);
                prop_assert_eq!(window.sum.latencies.iter().sum::<u32>() as usize, list.len());
            }
        }
    }
}
