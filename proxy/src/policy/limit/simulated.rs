//! Many callers and few workers on a scripted clock, to try a limit on.
//!
//! An M/M/c queue: Poisson arrivals, exponential work, `c` workers. What stands between is a
//! [`Line`]; everything else, and all that is random, is the same for each.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::{Duration, Instant};

use rand::RngExt as _;

use crate::rng::{StreamRng, stream};

/// One piece of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Job {
    pub(super) arrived: Instant,
    work: Duration,
}

/// What stands between arrivals and workers.
pub(super) trait Line {
    /// Takes a job, or refuses it.
    fn arrive(&mut self, job: Job, now: Instant);
    /// The job for a worker that is free.
    fn next(&mut self, now: Instant) -> Option<Job>;
    /// A job is done.
    fn done(&mut self, _job: Job, _now: Instant) {}
}

/// First in, first out, without any bound.
impl Line for VecDeque<Job> {
    fn arrive(&mut self, job: Job, _now: Instant) {
        self.push_back(job);
    }

    fn next(&mut self, _now: Instant) -> Option<Job> {
        self.pop_front()
    }
}

/// What to simulate.
#[derive(Clone, Copy)]
pub(super) struct Setup {
    pub(super) seed: u64,
    pub(super) workers: usize,
    /// Mean time that a job takes a worker.
    pub(super) work: Duration,
    /// Arrivals as a multiple of what the workers can do.
    pub(super) load: f64,
    /// How long jobs arrive; what happens in the first half is not counted.
    pub(super) span: Duration,
}

/// What happened in the second half.
pub(super) struct Outcome {
    pub(super) arrived: usize,
    /// From arrival to the end of the work, in milliseconds and ascending.
    pub(super) latencies_ms: Vec<f64>,
}

impl Outcome {
    /// The latency that this share of the jobs done did not exceed.
    pub(super) fn quantile_ms(&self, share: f64) -> f64 {
        let rank = (self.latencies_ms.len() as f64 * share) as usize;
        self.latencies_ms[rank.min(self.latencies_ms.len() - 1)]
    }
}

impl Setup {
    /// Jobs a second that the workers can do.
    pub(super) fn capacity(&self) -> f64 {
        self.workers as f64 / self.work.as_secs_f64()
    }

    /// Lets it happen.
    pub(super) fn run(&self, line: &mut impl Line, start: Instant) -> Outcome {
        let (from, end) = (start + self.span / 2, start + self.span);
        let (mut arrivals, mut works) = (stream(self.seed, "arrivals"), stream(self.seed, "work"));
        let gap = Duration::from_secs_f64(1.0 / (self.capacity() * self.load));
        let mut working = BinaryHeap::new();
        let mut outcome = Outcome { arrived: 0, latencies_ms: Vec::new() };
        let mut arrival = start + exponential(&mut arrivals, gap);
        while arrival < end {
            let done = working.peek().map(|Reverse((at, _)): &Reverse<(Instant, Job)>| *at);
            let now = match done {
                Some(at) if at <= arrival => {
                    if let Some(Reverse((_, job))) = working.pop() {
                        line.done(job, at);
                        if at >= from {
                            outcome.latencies_ms.push((at - job.arrived).as_secs_f64() * 1e3);
                        }
                    }
                    at
                }
                _ => {
                    let job = Job { arrived: arrival, work: exponential(&mut works, self.work) };
                    line.arrive(job, arrival);
                    outcome.arrived += usize::from(arrival >= from);
                    let now = arrival;
                    arrival += exponential(&mut arrivals, gap);
                    now
                }
            };
            while working.len() < self.workers {
                let Some(job) = line.next(now) else { break };
                working.push(Reverse((now + job.work, job)));
            }
        }
        outcome.latencies_ms.sort_by(f64::total_cmp);
        outcome
    }
}

fn exponential(rng: &mut StreamRng, mean: Duration) -> Duration {
    let uniform: f64 = rng.random();
    mean.mul_f64(-libm::log(1.0 - uniform))
}
