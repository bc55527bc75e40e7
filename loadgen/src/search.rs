//! Finds the highest rate that meets its objectives: grow, bisect, repeat near the knee, confirm.
//!
//! Near the knee a run passes once and fails the next time, so a plain bisection ends wherever
//! its luck left it. Here each rate near the end is tried several times and goes by the majority,
//! and the rate found has to hold in a run of its own; if it does not, the search goes on below
//! it. The answer is an interval: what was confirmed, and what failed.
//!
//! This decides which rate to try; trying it is someone else's.

/// How a search goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// The first rate, in requests per second.
    pub from: f64,
    /// The highest rate to try, in requests per second.
    pub max: f64,
    /// Up to which share of the rate it is to be known; 0.05 by default, which is what two runs
    /// of the same thing differ by.
    pub precision: f64,
    /// How often a rate near the knee is tried; an odd number, 3 by default.
    pub repeats: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self { from: 100.0, max: crate::plan::MAX_RATE, precision: 0.05, repeats: 3 }
    }
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Step {
    /// Make a run at this rate, and tell whether it met its objectives.
    Try {
        /// Requests per second.
        rate: f64,
        /// Why.
        phase: Phase,
    },
    /// The search is over.
    Found(Knee),
}

/// Why a rate is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Doubling until one fails.
    Grow,
    /// Halving the distance.
    Bisect,
    /// Once more, because the knee is near.
    Repeat,
    /// The last word on the rate that was found.
    Confirm,
}

impl Phase {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Grow => "grow",
            Phase::Bisect => "bisect",
            Phase::Repeat => "repeat",
            Phase::Confirm => "confirm",
        }
    }
}

/// What was found, in requests per second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Knee {
    /// The highest rate that was confirmed; `None` if none was.
    pub holds: Option<f64>,
    /// The lowest rate that failed; `None` if none did.
    pub fails: Option<f64>,
}

/// The rates are this close together when repeating begins, as a multiple of the precision.
const NEAR: f64 = 4.0;

/// After so many runs the answer is what there is: a server that passes by chance has no knee.
const MAX_RUNS: u32 = 100;

/// A search under way.
#[derive(Clone, Debug)]
pub struct Search {
    options: Options,
    /// The highest rate that held.
    low: Option<f64>,
    /// The lowest rate that failed.
    high: Option<f64>,
    at: Option<At>,
    runs: u32,
}

/// The rate that is being tried.
#[derive(Clone, Copy, Debug)]
struct At {
    rate: f64,
    phase: Phase,
    held: u32,
    failed: u32,
}

impl Search {
    /// Nothing tried yet.
    ///
    /// # Panics
    /// When a rate or the precision is not above zero, or there are no repeats.
    pub fn new(options: Options) -> Search {
        assert!(options.from > 0.0 && options.max >= options.from, "rates rise from above zero");
        assert!(options.precision > 0.0 && options.repeats > 0, "there is an end");
        Search { options, low: None, high: None, at: None, runs: 0 }
    }

    /// What to do next.
    pub fn step(&mut self) -> Step {
        if self.runs >= MAX_RUNS {
            return Step::Found(Knee { holds: None, fails: self.high });
        }
        let at = *self.at.get_or_insert_with(|| {
            let (rate, phase) = choose(&self.options, self.low, self.high);
            At { rate, phase, held: 0, failed: 0 }
        });
        let is_confirmed = at.phase == Phase::Confirm && at.held > 0;
        if is_confirmed {
            return Step::Found(Knee { holds: Some(at.rate), fails: self.high });
        }
        if at.rate < crate::plan::MIN_RATE.max(self.options.from / 1024.0) {
            return Step::Found(Knee { holds: None, fails: self.high });
        }
        let phase = if at.held + at.failed > 0 { Phase::Repeat } else { at.phase };
        Step::Try { rate: at.rate, phase }
    }

    /// Tells whether the run at the rate that was asked for met its objectives.
    pub fn record(&mut self, held: bool) {
        self.runs += 1;
        let Some(at) = &mut self.at else { return };
        if held {
            at.held += 1;
        } else {
            at.failed += 1;
        }
        let at = *at;
        let majority = if is_near(&self.options, self.low, self.high) && at.phase != Phase::Confirm
        {
            self.options.repeats / 2 + 1
        } else {
            1
        };
        if at.held >= majority {
            if at.phase != Phase::Confirm {
                self.low = Some(at.rate);
                self.at = None;
            }
        } else if at.failed >= majority {
            self.high = Some(self.high.map_or(at.rate, |high| high.min(at.rate)));
            // What failed to be confirmed never held, nor did anything above it.
            self.low = self.low.filter(|low| *low < at.rate);
            self.at = None;
        }
    }
}

fn is_near(options: &Options, low: Option<f64>, high: Option<f64>) -> bool {
    match (low, high) {
        (Some(low), Some(high)) => high - low <= NEAR * options.precision * high,
        _ => false,
    }
}

fn choose(options: &Options, low: Option<f64>, high: Option<f64>) -> (f64, Phase) {
    match (low, high) {
        (None, None) => (options.from, Phase::Grow),
        (Some(low), None) if low >= options.max => (low, Phase::Confirm),
        (Some(low), None) => ((low * 2.0).min(options.max), Phase::Grow),
        // Nothing holds yet: down as fast as up.
        (None, Some(high)) => (high / 2.0, Phase::Grow),
        (Some(low), Some(high)) if high - low <= options.precision * high => (low, Phase::Confirm),
        (Some(low), Some(high)) => (f64::midpoint(low, high), Phase::Bisect),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn search(options: Options, mut holds: impl FnMut(f64) -> bool) -> (Knee, u32) {
        let mut search = Search::new(options);
        for runs in 0.. {
            match search.step() {
                Step::Try { rate, .. } => {
                    assert!(rate <= options.max);
                    search.record(holds(rate));
                }
                Step::Found(knee) => return (knee, runs),
            }
        }
        unreachable!("a search ends")
    }

    #[test]
    fn a_sharp_knee_is_found_within_the_precision() {
        for knee in [3.0, 99.0, 101.0, 1234.5, 80_000.0] {
            let (found, runs) = search(Options::default(), |rate| rate <= knee);
            let (holds, fails) = (found.holds.unwrap(), found.fails.unwrap());
            assert!(holds <= knee && knee < fails, "{found:?} for {knee}");
            assert!(fails - holds <= 0.05 * fails && runs < 40, "{found:?} after {runs}");
        }
    }

    #[test]
    fn what_always_holds_ends_at_the_bound_and_what_never_does_ends_without() {
        let options = Options { max: 1000.0, ..Options::default() };
        assert_eq!(search(options, |_| true).0, Knee { holds: Some(1000.0), fails: None });
        assert_eq!(search(options, |_| false).0.holds, None);
    }

    #[test]
    fn a_rate_that_is_not_confirmed_is_given_up() {
        let mut confirmations = 0;
        let mut search = Search::new(Options::default());
        let found = loop {
            match search.step() {
                Step::Found(knee) => break knee,
                Step::Try { rate, phase: Phase::Confirm } => {
                    confirmations += 1;
                    search.record(rate <= 900.0);
                }
                Step::Try { rate, .. } => search.record(rate <= 1000.0),
            }
        };
        assert!(confirmations > 1 && found.holds.unwrap() <= 900.0, "{found:?}");
    }

    proptest! {
        /// A blurred knee: the chance to hold falls from 1 to 0 between 0.9 and 1.1 of it.
        #[test]
        fn a_blurred_knee_is_found_near_it(knee in 150.0_f64..50_000.0, seed: u64) {
            let mut state = seed | 1;
            let (found, runs) = search(Options::default(), |rate| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let draw = (state >> 11) as f64 / (1_u64 << 53) as f64;
                draw < ((1.1 * knee - rate) / (0.2 * knee)).clamp(0.0, 1.0)
            });
            prop_assert!(runs <= MAX_RUNS);
            if let Some(holds) = found.holds {
                prop_assert!(holds > 0.6 * knee && holds <= 1.1 * knee, "{} for {}", holds, knee);
            }
        }
    }
}
