//! Records that look like those of real runs, made from a small model and a seed.
//!
//! The model is no simulator: it draws an endpoint and a time for each request, so that the numbers
//! of a report can be foreseen.

#![allow(dead_code, unreachable_pub, reason = "each program that includes this file uses a part")]

use std::time::Duration;

use loadgen::{Accounting, LatencyHistogram, Outcome};
use reports::record::{
    AttemptTrace, Check, Chosen, CoarseHistogram, EndpointRecord, EndpointSeries, Environment,
    Event, Interval, Latencies, PlanSummary, Quantiles, Reaction, RequestTrace, RunRecord, SCHEMA,
    SaidAttempt, SaidInInterval, ScenarioText, SeenAttempt, Served, Throughput, Unit, World,
};

/// How a variant treats an endpoint that it knows to be slow.
#[derive(Clone, Copy)]
pub struct Variant {
    /// Its name.
    pub name: &'static str,
    /// Share of the requests that the faulted endpoint gets while its fault lasts, per ten
    /// thousand.
    pub faulted_share: u64,
}

/// One scenario of the model.
#[derive(Clone, Copy)]
pub struct Model {
    /// Its name.
    pub name: &'static str,
    /// Its title.
    pub title: &'static str,
    /// Endpoints of the service; the first is the one with the fault.
    pub endpoints: usize,
    /// Requests per second.
    pub rate: u64,
    /// Length, in seconds.
    pub seconds: u64,
    /// Median service time, in microseconds.
    pub median_us: u64,
    /// Service time under the fault, in microseconds.
    pub slow_us: u64,
    /// Begin and end of the fault, in seconds.
    pub fault_s: (u64, u64),
    /// Answers later than this count as late, in milliseconds.
    pub deadline_ms: Option<u64>,
    /// Requests are given up after this, in milliseconds.
    pub timeout_ms: u64,
}

/// The experiment of eleven backends, one of which takes 2 s from 15 s to 45 s.
pub const ELEVEN: Model = Model {
    name: "skewed-latency",
    title: "One of eleven backends takes two seconds for half a minute",
    endpoints: 11,
    rate: 1000,
    seconds: 60,
    median_us: 167_000,
    slow_us: 2_000_000,
    fault_s: (15, 45),
    deadline_ms: Some(1000),
    timeout_ms: 1000,
};

/// Three quick backends, one of which becomes a hundred times slower.
pub const THREE: Model = Model {
    name: "gray-failure",
    title: "One of three backends is a hundred times slower for ten seconds",
    endpoints: 3,
    rate: 300,
    seconds: 30,
    median_us: 4_000,
    slow_us: 400_000,
    fault_s: (10, 20),
    deadline_ms: Some(250),
    timeout_ms: 2000,
};

/// Four strategies for eleven endpoints.
pub const FOUR: [Variant; 4] = [
    Variant { name: "round_robin", faulted_share: 909 },
    Variant { name: "random", faulted_share: 909 },
    Variant { name: "least_request", faulted_share: 85 },
    Variant { name: "peak_ewma", faulted_share: 9 },
];

/// The records of these variants and seeds.
pub fn records(model: &Model, variants: &[Variant], seeds: &[u64]) -> Vec<RunRecord> {
    let runs = variants.iter().flat_map(|v| seeds.iter().map(move |s| (v, s)));
    runs.map(|(variant, seed)| run(model, variant, *seed)).collect()
}

/// So many variants with so many seeds each, under names of their own.
pub fn many_variants(model: &Model, variants: usize, seeds: u64) -> Vec<RunRecord> {
    let seeds: Vec<u64> = (1..=seeds).collect();
    let named = |i: usize| {
        let mut all = records(model, &FOUR[i % FOUR.len()..=i % FOUR.len()], &seeds);
        all.iter_mut().for_each(|run| run.variant = format!("{}-{i}", run.variant));
        all
    };
    (0..variants).flat_map(named).collect()
}

/// One run.
pub fn run(model: &Model, variant: &Variant, seed: u64) -> RunRecord {
    let mut draws = Draws(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ variant.faulted_share);
    let mut log = Log::new(model);
    for request in 0..model.rate * model.seconds {
        let planned_us = request * 1_000_000 / model.rate;
        let second = planned_us / 1_000_000;
        let faulted = (model.fault_s.0..model.fault_s.1).contains(&second);
        let endpoint = pick(model, variant, request, faulted, &mut draws);
        let median = if faulted && endpoint == 0 { model.slow_us } else { model.median_us };
        log.book(second as usize, endpoint, service_us(median, &mut draws));
    }
    log.record(model, variant, seed)
}

fn pick(model: &Model, variant: &Variant, request: u64, faulted: bool, draws: &mut Draws) -> usize {
    let endpoints = model.endpoints as u64;
    let even = match variant.name {
        "round_robin" => request % endpoints,
        _ => draws.below(endpoints),
    };
    if !faulted || ["round_robin", "random"].contains(&variant.name) {
        return even as usize;
    }
    match draws.below(10_000) < variant.faulted_share {
        true => 0,
        false => 1 + draws.below(endpoints - 1) as usize,
    }
}

/// Around the median by a few per cent, with a thin tail of up to twice as much.
fn service_us(median: u64, draws: &mut Draws) -> u64 {
    let sum: u64 = (0..4).map(|_| draws.below(1000)).sum();
    let body = median * (9_400 + sum * 3 / 10) / 10_000;
    match draws.below(500) {
        0 => body + draws.below(median),
        _ => body,
    }
}

/// A small generator (SplitMix64), so that the records are the same everywhere.
struct Draws(u64);

impl Draws {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

struct Log {
    accounting: Accounting,
    latency: Latencies,
    intervals: Vec<(Accounting, Vec<u64>)>,
    endpoints: Vec<EndpointRecord>,
    traces: Vec<RequestTrace>,
    deadline_us: u64,
    timeout_us: u64,
}

impl Log {
    fn new(model: &Model) -> Self {
        let seconds = model.seconds as usize;
        let endpoint = |i: usize| EndpointRecord {
            name: format!("web-{i}"),
            service: "web".to_owned(),
            workers: Some(16),
            total: Served::default(),
            busy_us: Some(0),
            wasted_us: Some(0),
            latency: LatencyHistogram::new(),
            series: series(seconds),
        };
        Self {
            accounting: Accounting::default(),
            latency: Latencies::default(),
            intervals: vec![(Accounting::default(), Vec::new()); seconds],
            endpoints: (0..model.endpoints).map(endpoint).collect(),
            traces: Vec::new(),
            deadline_us: model.deadline_ms.unwrap_or(u64::MAX / 1000) * 1000,
            timeout_us: model.timeout_ms * 1000,
        }
    }

    fn book(&mut self, second: usize, endpoint: usize, service_us: u64) {
        let given_up = service_us >= self.timeout_us;
        let response_us = service_us.min(self.timeout_us);
        let outcome = match response_us {
            _ if given_up => Outcome::Timeout,
            us if us > self.deadline_us => Outcome::Late,
            _ => Outcome::Ok,
        };
        let response = Duration::from_micros(response_us);
        self.accounting.add(outcome);
        self.latency.response.record(response);
        if given_up {
            self.latency.censored_from_us = Some(self.timeout_us);
        }
        self.latency.service.record(response);
        self.latency.send_lag.record(Duration::from_micros(20));
        if outcome == Outcome::Ok {
            self.latency.response_ok.record(response);
        }
        self.intervals[second].0.add(outcome);
        self.intervals[second].1.push(response_us);
        self.tell(second, endpoint, response_us, outcome);
        let endpoint = &mut self.endpoints[endpoint];
        endpoint.total.arrived += 1;
        endpoint.total.ok += u64::from(!given_up);
        endpoint.total.cancelled += u64::from(given_up);
        endpoint.series.arrived[second] += 1;
        endpoint.series.ok[second] += u64::from(!given_up);
        endpoint.series.cancelled[second] += u64::from(given_up);
        endpoint.series.busy_us[second] += response_us;
        endpoint.series.in_flight_mean[second] += response_us as f64 / 1e6;
        endpoint.series.in_flight_peak[second] = 1 + response_us / 50_000;
        let wasted = if outcome == Outcome::Ok { 0 } else { response_us };
        endpoint.series.wasted_us[second] += wasted;
        for (sum, more) in [(&mut endpoint.busy_us, response_us), (&mut endpoint.wasted_us, wasted)]
        {
            *sum = sum.map(|sum| sum + more);
        }
        let times = endpoint.series.latency_us[second].get_or_insert_default();
        times.max = times.max.max(response_us);
        (times.p50, times.p90, times.p99) = (response_us, times.max, times.max);
        if !given_up {
            endpoint.latency.record(response);
        }
    }

    /// Every hundredth failure and one request in a thousand.
    fn tell(&mut self, second: usize, endpoint: usize, response_us: u64, outcome: Outcome) {
        let index = self.accounting.planned - 1;
        let failures = self.accounting.planned - self.accounting.ok;
        let chosen = match outcome {
            Outcome::Ok if index.is_multiple_of(1000) => Chosen::Slowest,
            Outcome::Ok => return,
            _ if failures.is_multiple_of(100) => Chosen::Failed,
            _ => return,
        };
        let planned_us = second as u64 * 1_000_000;
        let finished_us = planned_us + response_us;
        let given_up = outcome == Outcome::Timeout;
        let word = |ok: &str, given_up_word: &str| match given_up {
            true => given_up_word.to_owned(),
            false => ok.to_owned(),
        };
        self.traces.push(RequestTrace {
            index,
            chosen,
            request: "GET /".to_owned(),
            planned_us,
            sent_us: Some(planned_us + 20),
            finished_us,
            outcome: outcome.name().to_owned(),
            status: (!given_up).then_some(200),
            flags: None,
            attempts: vec![AttemptTrace {
                caller: None,
                endpoint: format!("web-{endpoint}"),
                seen: Some(SeenAttempt {
                    arrived_us: planned_us + 1_000,
                    started_us: Some(planned_us + 1_000),
                    ended_us: Some(finished_us),
                    end: word("200", "cancelled"),
                }),
                said: Some(SaidAttempt {
                    placed_us: planned_us + 500,
                    kind: "first".to_owned(),
                    backoff_us: None,
                    ended_us: Some(finished_us),
                    end: word("200", "cancelled"),
                }),
            }],
            said_gave_up: None,
        });
    }

    fn record(self, model: &Model, variant: &Variant, seed: u64) -> RunRecord {
        let success = self.accounting.success_rate() * 100.0;
        let p99 = self.latency.response.quantile(0.99).as_millis();
        let interval = |(i, (accounting, times)): (usize, (Accounting, Vec<u64>))| Interval {
            start_ms: i as u64 * 1000,
            length_ms: 1000,
            accounting,
            response: Some(coarse(&times)),
            response_us: quantiles(times),
            send_lag_us: Some(Quantiles { p50: 20, p90: 20, p99: 20, max: 20 }),
            throughput: Some(Throughput {
                sent: accounting.sent,
                good: accounting.ok,
                failed: accounting.planned - accounting.ok,
                attempts: accounting.sent,
                refused: 0,
            }),
            said: Some(SaidInInterval {
                first: accounting.sent,
                budget_left: Some(accounting.planned / 5),
                ..SaidInInterval::default()
            }),
        };
        let (name, seconds) = (model.name, model.fault_s);
        RunRecord {
            schema: SCHEMA.to_owned(),
            scenario: scenario(model),
            world: World::Sim,
            system: "meshbench-sidecar 0.1.0".to_owned(),
            variant: variant.name.to_owned(),
            settings: std::collections::BTreeMap::new(),
            seed,
            replay: format!("meshbench run {name} --variant {} --seed {seed}", variant.name),
            environment: Environment {
                meshbench: "0.1.0".to_owned(),
                engine: "turmoil 0.7.2".to_owned(),
                machine: None,
                started_unix_s: None,
            },
            plan: PlanSummary {
                arrivals: "constant".to_owned(),
                warm_up_ms: None,
                rate_per_s: model.rate as f64,
                duration_ms: model.seconds * 1000,
                deadline_ms: model.deadline_ms,
                timeout_ms: model.timeout_ms,
            },
            accounting: self.accounting,
            latency: self.latency,
            intervals: self.intervals.into_iter().enumerate().map(interval).collect(),
            endpoints: self.endpoints,
            reactions: vec![Reaction {
                target: "web-0".to_owned(),
                fault: format!("slow: constant {} ms", model.slow_us / 1000),
                from_ms: seconds.0 * 1000,
                until_ms: seconds.1 * 1000,
                watched_until_ms: Some(model.seconds * 1000),
                // Only who sends it less has noticed.
                detected_after_ms: (variant.faulted_share < 500).then_some(400 + seed),
                recovered_after_ms: Some(100),
            }],
            traces: self.traces,
            resources: Vec::new(),
            events: vec![Event {
                at_ms: seconds.0 * 1000,
                until_ms: Some(seconds.1 * 1000),
                kind: "fault".to_owned(),
                target: "web-0".to_owned(),
                detail: format!("slow: constant {} ms", model.slow_us / 1000),
            }],
            checks: vec![success_check(success / 100.0), p99_check(p99 as f64 / 1e3)],
            warnings: Vec::new(),
            trace_hash: Some(format!("{:016x}", Draws(seed).below(u64::MAX))),
        }
    }
}

/// A success rate of which 99 % are asked.
pub fn success_check(rate: f64) -> Check {
    Check {
        metric: "success_rate".to_owned(),
        what: "success rate".to_owned(),
        wanted: "≥ 99 %".to_owned(),
        measured: format!("{:.2} %", rate * 100.0),
        unit: Some(Unit::Share),
        value: Some(rate),
        at_least: Some(0.99),
        at_most: None,
        compared_with: None,
        base: None,
        confidence: None,
        must_fail: false,
        not_judged: None,
        held: rate >= 0.99,
    }
}

fn p99_check(seconds: f64) -> Check {
    Check {
        metric: "p99".to_owned(),
        what: "p99 of the response time".to_owned(),
        wanted: "≤ 500 ms".to_owned(),
        measured: format!("{} ms", seconds * 1e3),
        unit: Some(Unit::Time),
        value: Some(seconds),
        at_least: None,
        at_most: Some(0.5),
        held: seconds <= 0.5,
        ..success_check(1.0)
    }
}

fn series(seconds: usize) -> EndpointSeries {
    let zeros = || vec![0; seconds];
    EndpointSeries {
        // Nobody asks these sidecars: what arrived is what was sent.
        placed: Vec::new(),
        arrived: zeros(),
        ok: zeros(),
        errors: zeros(),
        cancelled: zeros(),
        crashed: zeros(),
        in_flight_mean: vec![0.0; seconds],
        in_flight_peak: zeros(),
        busy_us: zeros(),
        wasted_us: zeros(),
        latency_us: vec![None; seconds],
    }
}

fn coarse(times_us: &[u64]) -> CoarseHistogram {
    let mut histogram = CoarseHistogram::new();
    times_us.iter().for_each(|us| histogram.record(Duration::from_micros(*us)));
    histogram
}

fn quantiles(mut times: Vec<u64>) -> Option<Quantiles> {
    times.sort_unstable();
    let max = *times.last()?;
    let at = |percent: usize| times[(times.len() * percent).div_ceil(100).max(1) - 1];
    Some(Quantiles { p50: at(50), p90: at(90), p99: at(99), max })
}

fn scenario(model: &Model) -> ScenarioText {
    ScenarioText {
        files: Default::default(),
        name: model.name.to_owned(),
        title: model.title.to_owned(),
        about: "A backend that still answers, only slowly, is what health checks miss and what \
                round robin keeps feeding: it gets its equal share, and every request of that \
                share is lost to the deadline.\n\nA strategy that looks at how long answers take \
                notices within a few requests and sends them elsewhere. It must come back to the \
                backend when the fault is over."
            .to_owned(),
        text: format!(
            "title = \"{}\"\n\n[services.web]\ninstances = {}\n\n[load]\nrate = \"{}/s\"\nduration \
             = \"{}s\"\n\n[[fault]]\ntarget = \"web-0\"\nfrom = \"{}s\"\nuntil = \"{}s\"\n",
            model.title,
            model.endpoints,
            model.rate,
            model.seconds,
            model.fault_s.0,
            model.fault_s.1
        ),
    }
}
