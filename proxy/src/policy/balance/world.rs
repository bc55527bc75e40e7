//! A small world for tests: clients, a balancer, and servers that queue.
//!
//! It answers in milliseconds what a strategy does to latencies. Real connections, deadlines and
//! faults are the scenario catalogue's.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use super::tests::{keys, members};
use super::{Balancer, BalancerOptions, EndpointId, LoadEvent, ProbeAnswer, Strategy};
use crate::policy::ready::ReadySet;
use crate::rng::{StreamRng, stream};

/// What a server makes of a request.
pub(super) enum Work {
    Answer(Duration),
    Fail(Duration),
}

/// What is simulated.
pub(super) struct World {
    pub(super) endpoints: usize,
    /// Requests per second, at even distances.
    pub(super) rate: u64,
    pub(super) seconds: u64,
    /// Requests at once per server; others queue.
    pub(super) workers: usize,
    /// How long callers wait.
    pub(super) give_up: Option<Duration>,
    /// What a request that a server begins with at this time comes to.
    pub(super) work: fn(EndpointId, Duration, &mut StreamRng) -> Work,
}

impl World {
    /// Servers without queues, for a minute, each answer in 100 ms.
    pub(super) fn new(endpoints: usize, rate: u64) -> Self {
        let work = |_, _, _: &mut StreamRng| Work::Answer(Duration::from_millis(100));
        Self { endpoints, rate, seconds: 60, workers: usize::MAX, give_up: None, work }
    }
}

/// What became of a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outcome {
    pub(super) sent: Duration,
    pub(super) endpoint: EndpointId,
    /// `None` when it failed or was given up.
    pub(super) latency: Option<Duration>,
}

/// Latencies in ascending order, requests without one last.
pub(super) fn latencies(outcomes: &[Outcome]) -> Vec<Duration> {
    let mut all: Vec<_> = outcomes.iter().map(|o| o.latency.unwrap_or(Duration::MAX)).collect();
    all.sort_unstable();
    all
}

enum Event {
    Arrives,
    Done { job: usize, failed: bool },
    GivenUp(usize),
    Probed(EndpointId),
}

#[derive(Clone, Copy)]
struct Job {
    sent: Duration,
    endpoint: EndpointId,
    /// `None` while the caller waits.
    outcome: Option<Outcome>,
}

#[derive(Default)]
struct Server {
    busy: usize,
    queue: VecDeque<usize>,
    /// The latencies of the last answers.
    recent: VecDeque<Duration>,
}

struct Run<'a> {
    world: &'a World,
    balancer: Box<dyn Balancer>,
    origin: Instant,
    picks: StreamRng,
    works: StreamRng,
    ready: ReadySet,
    servers: Vec<Server>,
    jobs: Vec<Job>,
    events: BTreeMap<(Duration, usize), Event>,
    scheduled: usize,
}

/// How long a probe and its answer are under way.
const PROBE: Duration = Duration::from_millis(1);

/// Plays a world to its end.
#[allow(clippy::disallowed_methods, reason = "an arbitrary origin for a scripted clock")]
pub(super) fn run(
    strategy: &Strategy,
    options: &BalancerOptions,
    world: &World,
    seed: u64,
) -> Vec<Outcome> {
    let names = keys(world.endpoints);
    let mut run = Run {
        world,
        balancer: strategy.build(&members(&names, &vec![1; world.endpoints]), options),
        origin: Instant::now(),
        picks: stream(seed, "picks"),
        works: stream(seed, "work"),
        ready: ReadySet::all(world.endpoints),
        servers: (0..world.endpoints).map(|_| Server::default()).collect(),
        jobs: Vec::new(),
        events: BTreeMap::new(),
        scheduled: 0,
    };
    for n in 0..world.rate * world.seconds {
        run.schedule(Duration::from_secs(n) / world.rate as u32, Event::Arrives);
    }
    while let Some(((now, _), event)) = run.events.pop_first() {
        run.handle(event, now);
    }
    run.jobs.iter().map(|job| job.outcome.unwrap()).collect()
}

impl Run<'_> {
    fn schedule(&mut self, at: Duration, event: Event) {
        self.scheduled += 1;
        self.events.insert((at, self.scheduled), event);
    }

    fn handle(&mut self, event: Event, now: Duration) {
        match event {
            Event::Arrives => self.arrives(now),
            Event::Done { job, failed } => self.done(job, failed, now),
            Event::GivenUp(job) => {
                let elapsed = now - self.jobs[job].sent;
                self.settle(job, LoadEvent::Cancelled { elapsed }, None, now);
            }
            Event::Probed(endpoint) => {
                let server = &self.servers[endpoint.0];
                let mut recent: Vec<_> = server.recent.iter().copied().collect();
                recent.sort_unstable();
                let latency = recent.get(recent.len() / 2).copied().unwrap_or_default();
                let in_flight = (server.busy + server.queue.len()) as u32;
                let answer = ProbeAnswer { in_flight, latency };
                self.balancer.probed(endpoint, Some(answer), self.origin + now);
            }
        }
    }

    fn arrives(&mut self, now: Duration) {
        let at = self.origin + now;
        let endpoint = self.balancer.pick(&self.ready, None, at, &mut self.picks).unwrap();
        self.balancer.observe(endpoint, LoadEvent::Sent, at);
        let mut ask = Vec::new();
        self.balancer.probes(&self.ready, at, &mut self.picks, &mut ask);
        for asked in ask {
            self.schedule(now + PROBE, Event::Probed(asked));
        }
        self.jobs.push(Job { sent: now, endpoint, outcome: None });
        let job = self.jobs.len() - 1;
        if let Some(patience) = self.world.give_up {
            self.schedule(now + patience, Event::GivenUp(job));
        }
        let server = &mut self.servers[endpoint.0];
        if server.busy < self.world.workers {
            self.begin(job, now);
        } else {
            server.queue.push_back(job);
        }
    }

    fn begin(&mut self, job: usize, now: Duration) {
        let endpoint = self.jobs[job].endpoint;
        self.servers[endpoint.0].busy += 1;
        let (takes, failed) = match (self.world.work)(endpoint, now, &mut self.works) {
            Work::Answer(takes) => (takes, false),
            Work::Fail(takes) => (takes, true),
        };
        self.schedule(now + takes, Event::Done { job, failed });
    }

    fn done(&mut self, job: usize, failed: bool, now: Duration) {
        let Job { sent, endpoint, .. } = self.jobs[job];
        let server = &mut self.servers[endpoint.0];
        server.busy -= 1;
        if server.recent.len() == 8 {
            server.recent.pop_front();
        }
        let latency = now - sent;
        server.recent.push_back(latency);
        if let Some(next) = server.queue.pop_front() {
            self.begin(next, now);
        }
        if failed {
            let event = LoadEvent::Failed { elapsed: latency, retry_after: None };
            self.settle(job, event, None, now);
        } else {
            self.settle(job, LoadEvent::Answered { latency }, Some(latency), now);
        }
    }

    /// The first end of a request is the one that counts.
    fn settle(&mut self, job: usize, event: LoadEvent, latency: Option<Duration>, now: Duration) {
        let Job { sent, endpoint, outcome } = &mut self.jobs[job];
        if outcome.is_none() {
            *outcome = Some(Outcome { sent: *sent, endpoint: *endpoint, latency });
            self.balancer.observe(*endpoint, event, self.origin + now);
            self.balancer.observe(*endpoint, LoadEvent::Ended, self.origin + now);
        }
    }
}
