//! When a fault is there: once, again and again, or by chance.

use std::time::Duration;

use proxy::config::fields::positive_duration;
use proxy::rng::stream;
use rand::RngExt as _;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{Fault, What};

/// How often one fault may come back: ten minutes of one a second.
pub(in crate::scenario) const MOST_REPETITIONS: usize = 600;

/// A fault that comes and goes as a Poisson process does.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Random {
    /// The mean time from the end of one to the beginning of the next.
    #[serde(deserialize_with = "positive_duration")]
    pub mean_between: Duration,
    /// The mean time for which one lasts.
    #[serde(deserialize_with = "positive_duration")]
    pub mean_length: Duration,
}

/// When a fault begins and ends; one that does not end by itself says `None`.
pub(in crate::scenario) type Times = Vec<(Duration, Option<Duration>)>;

impl Fault {
    /// When it is there in a run with this seed that ends at `end`, in order; `number` is its own
    /// place in the file.
    pub(in crate::scenario) fn times(&self, number: usize, end: Duration, seed: u64) -> Times {
        match &self.random {
            Some(random) => self.random_times(random.get_ref(), number, end, seed),
            None => self.planned_times(end),
        }
    }

    /// When it can be there in a run with any seed.
    pub(in crate::scenario) fn possible_times(&self, end: Duration) -> Times {
        // A deployment is over by then; when exactly depends on how many there are.
        if self.random.is_some() || matches!(self.what, What::RollingDeploy(_)) {
            return vec![(*self.at.get_ref(), Some(self.last(end)))];
        }
        self.planned_times(end)
    }

    /// Repetitions end by then.
    fn last(&self, end: Duration) -> Duration {
        self.until.as_ref().map_or(end, |until| end.min(*until.get_ref()))
    }

    fn planned_times(&self, end: Duration) -> Times {
        let at = *self.at.get_ref();
        let (Some(every), Some(lasts)) = (&self.every, self.lasts) else {
            return vec![(at, self.until.as_ref().map(|until| *until.get_ref()))];
        };
        let last = self.last(end);
        let begins = (0..MOST_REPETITIONS as u32).map(|n| at + *every.get_ref() * n);
        begins
            .take_while(|begin| *begin < last)
            .map(|begin| (begin, Some((begin + lasts).min(last))))
            .collect()
    }

    fn random_times(&self, random: &Random, number: usize, end: Duration, seed: u64) -> Times {
        let mut rng = stream(seed, &format!("fault/{number}/times"));
        let mut exponential = |mean: Duration| {
            let uniform: f64 = rng.random();
            // The simulator steps in milliseconds, and a fault of none is none.
            let millis = (-libm::log(1.0 - uniform) * mean.as_secs_f64() * 1e3).round();
            Duration::from_millis((millis as u64).max(1))
        };
        let (mut at, last) = (*self.at.get_ref(), self.last(end));
        let mut times = Vec::new();
        while times.len() < MOST_REPETITIONS {
            let begin = at + exponential(random.mean_between);
            at = begin + exponential(random.mean_length);
            if begin >= last {
                break;
            }
            times.push((begin, Some(at.min(last))));
        }
        times
    }
}
