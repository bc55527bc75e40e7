//! The Markov chain of n exponential servers of which each arrival joins the shortest of some: the
//! value at finite n, for which there is no closed form. Pure.
//!
//! It shares nothing with the simulated mesh: no clock, no network, no sidecar, and a random stream
//! of its own. The time between events is never drawn: with equal servers the mean number of
//! requests is weighted by the expected time in each state, which is exact, and Little's law makes a
//! response time of it.

use proxy::rng::stream;
use rand::{Rng, RngExt as _};
use reports::verdict::Interval;

/// Independent chains, for the interval.
const CHAINS: usize = 20;
/// Events that a chain forgets, and those that it counts.
const FORGOTTEN: u32 = 100_000;
const COUNTED: u32 = 400_000;

/// How the compared servers are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sampling {
    /// All different.
    Distinct,
    /// One may be drawn twice, and is then compared with itself.
    WithReplacement,
}

/// Mean response time, in service times, with where it lies at this confidence. `None` when there
/// is nothing to choose from or the load is not below 1.
pub fn join_shortest(
    load: f64,
    servers: usize,
    choices: usize,
    sampling: Sampling,
    confidence: f64,
) -> Option<Interval> {
    let possible = (1..=servers).contains(&choices) && load > 0.0 && load < 1.0;
    if !possible {
        return None;
    }
    let means: Vec<f64> = (0..CHAINS)
        .map(|number| {
            let mut rng = stream(number as u64, "theory/chain");
            let mut chain = Chain::empty(load, servers, choices, sampling);
            for _ in 0..FORGOTTEN {
                chain.step(&mut rng);
            }
            let (mut area, mut time) = (0.0, 0.0);
            for _ in 0..COUNTED {
                let (requests, stay) = chain.step(&mut rng);
                area += requests * stay;
                time += stay;
            }
            area / time / (load * servers as f64)
        })
        .collect();
    Interval::of_mean(&means, confidence)
}

struct Chain {
    load: f64,
    sampling: Sampling,
    choices: usize,
    queues: Vec<u32>,
    /// Servers with a request.
    busy: usize,
    /// Those drawn for an arrival; kept for its memory.
    drawn: Vec<usize>,
}

impl Chain {
    fn empty(load: f64, servers: usize, choices: usize, sampling: Sampling) -> Self {
        let queues = vec![0; servers];
        Self { load, sampling, choices, queues, busy: 0, drawn: Vec::with_capacity(choices) }
    }

    /// One event; returns how many requests there were before it, and for how long on average.
    fn step(&mut self, rng: &mut impl Rng) -> (f64, f64) {
        let servers = self.queues.len();
        let requests: u32 = self.queues.iter().sum();
        let arrivals = self.load * servers as f64;
        let all = arrivals + self.busy as f64;
        if rng.random::<f64>() * all < arrivals {
            let queue = self.shortest(rng);
            self.busy += usize::from(self.queues[queue] == 0);
            self.queues[queue] += 1;
        } else {
            let nth = rng.random_range(0..self.busy);
            let busy = (0..servers).filter(|&server| self.queues[server] > 0).nth(nth);
            if let Some(server) = busy {
                self.queues[server] -= 1;
                self.busy -= usize::from(self.queues[server] == 0);
            }
        }
        (f64::from(requests), 1.0 / all)
    }

    /// The shortest of the drawn ones, ties by a fair draw.
    fn shortest(&mut self, rng: &mut impl Rng) -> usize {
        let servers = self.queues.len();
        let mut best = None;
        let mut ties = 0_u32;
        self.drawn.clear();
        while self.drawn.len() < self.choices {
            let server = rng.random_range(0..servers);
            if self.sampling == Sampling::Distinct && self.drawn.contains(&server) {
                continue;
            }
            self.drawn.push(server);
            let shorter = best.is_none_or(|best: usize| self.queues[server] < self.queues[best]);
            let equal = best.is_some_and(|best| self.queues[server] == self.queues[best]);
            ties = if shorter { 1 } else { ties + u32::from(equal) };
            if shorter || (equal && rng.random_range(0..ties) == 0) {
                best = Some(server);
            }
        }
        best.unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::theory::closed_forms::{mm1, shortest_of_infinitely_many};

    fn of(servers: usize, choices: usize, sampling: Sampling) -> Interval {
        join_shortest(0.7, servers, choices, sampling, 0.999).expect("an interval")
    }

    #[test]
    fn one_choice_is_a_random_split() {
        let interval = of(10, 1, Sampling::Distinct);
        assert!((interval.low..interval.high).contains(&mm1(0.7)), "{interval:?}");
    }

    #[test]
    fn many_servers_come_near_the_limit_from_above() {
        let limit = shortest_of_infinitely_many(0.7, 2);
        let (few, many) = (of(4, 2, Sampling::Distinct), of(100, 2, Sampling::Distinct));
        assert!(few.low > many.high && few.low > limit, "{few:?} {many:?}");
        assert!((0.99..1.03).contains(&(many.mean / limit)), "{many:?}");
    }

    #[test]
    fn drawing_the_same_twice_is_worse() {
        let (distinct, replaced) =
            (of(4, 2, Sampling::Distinct), of(4, 2, Sampling::WithReplacement));
        assert!(replaced.low > distinct.high * 1.05, "{distinct:?} {replaced:?}");
    }

    #[test]
    fn what_has_no_value_has_none() {
        assert_eq!(join_shortest(1.0, 4, 2, Sampling::Distinct, 0.95), None);
        assert_eq!(join_shortest(0.5, 4, 5, Sampling::Distinct, 0.95), None);
    }
}
