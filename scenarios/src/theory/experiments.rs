//! The experiments, each with its claims.

use std::time::Duration;

use super::chain::{Sampling, join_shortest};
use super::closed_forms::{
    mg1, mm1, mm1_quantile, mmc, processor_sharing, round_robin, round_robin_quantile,
    shortest_of_infinitely_many,
};
use super::{Experiment, Says, Statistic};

/// The mean of the exponential service times as it is drawn: fifty times a simulated clock's tick.
const MEAN: Duration = Duration::from_millis(50);
/// Servers of most experiments: enough requests in little simulated time.
const SERVERS: u32 = 10;
/// Requests that each run counts, about.
const REQUESTS: f64 = 20_000.0;
/// What four links add, and the wait of an answer for the next millisecond, in seconds.
const LINKS: f64 = 0.004_5;
/// How sure the values of Markov chains are.
const CONFIDENCE: f64 = 0.999;

/// What stands behind the sidecar, and how it is asked.
struct Setting {
    servers: u32,
    workers: Option<u32>,
    service_time: String,
    discipline: &'static str,
    /// The mean of that as it is served, in seconds.
    mean: f64,
    load: f64,
    balance: &'static str,
    max_in_flight: u32,
}

impl Setting {
    /// Exponential servers with a worker each.
    fn exponential(balance: &'static str, load: f64) -> Self {
        Self {
            servers: SERVERS,
            workers: Some(1),
            service_time: format!("{{ exponential = {{ mean = \"{}ms\" }} }}", MEAN.as_millis()),
            discipline: "fifo",
            mean: MEAN.as_secs_f64(),
            load,
            balance,
            max_in_flight: 20_000,
        }
    }

    /// Servers with a worker each whose service times have this squared coefficient of variation.
    fn hyperexponential(variation: f64, load: f64) -> Self {
        let mean = MEAN.as_millis();
        Self {
            service_time: format!(
                "{{ hyperexponential = {{ mean = \"{mean}ms\", scv = {variation:.1} }} }}"
            ),
            ..Self::exponential("random", load)
        }
    }

    /// Arrivals per second.
    fn rate(&self) -> f64 {
        let at_once = self.servers * self.workers.unwrap_or(1);
        self.load * f64::from(at_once) / self.mean
    }

    /// Long enough to forget an empty start: about ten times the relaxation time of M/M/1.
    fn warm_up(&self) -> Duration {
        let root = 1.0 - self.load.sqrt();
        Duration::from_secs_f64((10.0 * self.mean / (root * root)).ceil())
    }

    fn experiment(&self, name: &str) -> Experiment {
        let length = Duration::from_secs_f64((REQUESTS / self.rate()).ceil());
        little(self.experiment_of(name, self.warm_up(), length))
    }

    fn experiment_of(&self, name: &str, warm_up: Duration, length: Duration) -> Experiment {
        let workers = self.workers.map(|workers| format!("workers = {workers}"));
        let text = format!(
            r#"title = "{name}"
about = "Queueing theory knows the answer."
seeds = 1
duration = "{seconds}s"

[[services]]
name = "web"
instances = {servers}
service_time = {service_time}
discipline = "{discipline}"
{workers}

[load]
arrivals = "poisson"
rate = {rate}
timeout = "1h"
max_in_flight = {max_in_flight}

[sidecar]
timeout = "1h"
cluster = {{ outlier = {{ enabled = false }}, queue_timeout = "1h" }}
route = {{ retry = {{ max_retries = 0 }} }}

[[variants]]
name = "theory"
balance = "{balance}"
cluster = {{ least_request = {{ choices = {choices} }} }}
"#,
            seconds = (warm_up + length).as_secs(),
            servers = self.servers,
            service_time = self.service_time,
            discipline = self.discipline,
            workers = workers.unwrap_or_default(),
            rate = self.rate(),
            max_in_flight = self.max_in_flight,
            balance = self.balance.trim_end_matches("_of_all"),
            choices = if self.balance.ends_with("_of_all") { "\"all\"" } else { "2" },
        );
        Experiment::new(name, &text, warm_up, self.mean)
    }
}

/// Little's law, of runs that are long against the time a request stays: what crosses the ends of a
/// window is counted on one side only.
fn little(experiment: Experiment) -> Experiment {
    experiment.claims(Statistic::Little, "Little: L / (λ W)", Says::Between(0.99, 1.01))
}

/// All of them. The first measures what the path adds, which is taken out of the others.
pub fn experiments() -> Vec<Experiment> {
    let mut all = vec![path(), random(), short_runs(), one_queue(), client_queue(), in_turn()];
    all.extend([10, 2].map(|servers| shorter_of_two(0.7, servers)));
    all.push(shortest_of_all());
    all.extend([constant(), lognormal(), hyperexponential()]);
    all.extend([1.0, 4.0].map(shared));
    all
}

/// No queue at all: four links of 1 ms, and the waits of an arrival and of an answer for the next
/// millisecond. The work is not constant, or answers would not have to wait.
fn path() -> Experiment {
    let setting = Setting {
        workers: None,
        service_time: "{ normal = { mean = \"50ms\", sd = \"5ms\" } }".to_owned(),
        load: 0.5,
        ..Setting::exponential("random", 0.5)
    };
    let seconds = Duration::from_secs;
    let experiment = setting.experiment_of("no queue", Duration::ZERO, seconds(10));
    experiment.claims(Statistic::Path, "4 links of 1 ms, ticks", Says::Between(4.0, 6.0))
}

fn random() -> Experiment {
    let load = 0.7;
    Setting::exponential("random", load)
        .experiment("M/M/1, random over 10")
        .claims(Statistic::Mean, "1/(1−ρ)", Says::Equal(mm1(load)))
        .claims(Statistic::Quantile(0.5), "ln 2/(1−ρ)", Says::Equal(mm1_quantile(load, 0.5)))
        .claims(Statistic::Quantile(0.99), "ln 100/(1−ρ)", Says::Equal(mm1_quantile(load, 0.99)))
}

/// Runs shorter than the time in which an empty system fills: the warm-up is what makes them right.
fn short_runs() -> Experiment {
    let load = 0.8;
    let setting = Setting::exponential("random", load);
    setting.experiment_of("M/M/1, short runs", setting.warm_up(), Duration::from_secs(3)).claims(
        Statistic::Mean,
        "1/(1−ρ)",
        Says::Equal(mm1(load)),
    )
}

fn one_queue() -> Experiment {
    let load = 0.7;
    let setting =
        Setting { servers: 1, workers: Some(SERVERS), ..Setting::exponential("random", load) };
    setting.experiment("M/M/10, one queue").claims(
        Statistic::Mean,
        "Erlang C",
        Says::Equal(mmc(load, SERVERS)),
    )
}

/// The queue is at the client, which has one connection to servers that are never busy: latency
/// counts from the planned instant, or this is missed. The connection is busy with the links too.
fn client_queue() -> Experiment {
    let mean = MEAN.as_secs_f64();
    let (load, busy) = (0.7, mean + LINKS);
    let setting = Setting {
        servers: 1,
        workers: None,
        load: load * mean / busy,
        max_in_flight: 1,
        ..Setting::exponential("random", load)
    };
    let spread = (mean / busy) * (mean / busy);
    // Of which `busy` itself is the links and the service.
    let response = 1.0 + (mg1(load, spread) - 1.0) * busy / mean;
    let length = Duration::from_secs_f64((REQUESTS / 4.0 / setting.rate()).ceil());
    setting.experiment_of("M/G/1, queue at the client", setting.warm_up(), length).claims(
        Statistic::Mean,
        "Pollaczek, Khinchine",
        Says::Equal(response),
    )
}

fn in_turn() -> Experiment {
    let load = 0.7;
    let p99 = round_robin_quantile(load, SERVERS, 0.99);
    Setting::exponential("round_robin", load)
        .experiment("E10/M/1, round robin over 10")
        .claims(Statistic::Mean, "1/(1−σ)", Says::Equal(round_robin(load, SERVERS)))
        .claims(Statistic::Quantile(0.99), "ln 100/(1−σ)", Says::Equal(p99))
}

fn shorter_of_two(load: f64, servers: u32) -> Experiment {
    let experiment = Setting { servers, ..Setting::exponential("least_request", load) }
        .experiment(&format!("shorter of two of {servers}, ρ = {load}"));
    let limit = shortest_of_infinitely_many(load, 2);
    let chain = join_shortest(load, servers as usize, 2, Sampling::Distinct, CONFIDENCE);
    let experiment = match chain {
        Some(chain) => experiment.claims(Statistic::Mean, "Markov chain", Says::Within(chain)),
        None => experiment,
    };
    experiment.claims(Statistic::Mean, "limit of n → ∞", Says::AtLeast(limit))
}

fn shortest_of_all() -> Experiment {
    let load = 0.7;
    let all = SERVERS as usize;
    let experiment = Setting::exponential("least_request_of_all", load)
        .experiment("shortest of all 10, ρ = 0.7")
        .claims(Statistic::Mean, "≥ M/M/10", Says::AtLeast(mmc(load, SERVERS)));
    match join_shortest(load, all, all, Sampling::Distinct, CONFIDENCE) {
        Some(chain) => experiment.claims(Statistic::Mean, "Markov chain", Says::Within(chain)),
        None => experiment,
    }
}

fn constant() -> Experiment {
    let load = 0.7;
    let setting = Setting {
        service_time: format!("{{ constant = \"{}ms\" }}", MEAN.as_millis()),
        mean: MEAN.as_secs_f64(),
        ..Setting::exponential("random", load)
    };
    setting.experiment("M/D/1, random over 10").claims(
        Statistic::Mean,
        "Pollaczek, Khinchine",
        Says::Equal(mg1(load, 0.0)),
    )
}

fn lognormal() -> Experiment {
    let load = 0.6;
    let (median, p99) = (0.040_f64, 0.160_f64);
    // The 99th percentile of a normal law is 2.326 deviations above its mean.
    let sigma = libm::log(p99 / median) / 2.326_347_874;
    let variance = sigma * sigma;
    let mean = median * libm::exp(variance / 2.0);
    // The squared coefficient of variation.
    let spread = libm::exp(variance) - 1.0;
    let setting = Setting {
        service_time: "{ lognormal = { median = \"40ms\", p99 = \"160ms\" } }".to_owned(),
        mean,
        ..Setting::exponential("random", load)
    };
    setting.experiment("M/G/1, log-normal, random over 10").claims(
        Statistic::Mean,
        "Pollaczek, Khinchine",
        Says::Equal(mg1(load, spread)),
    )
}

/// More variable than exponential: what waits behind a long one waits long.
fn hyperexponential() -> Experiment {
    let (load, variation) = (0.6, 4.0);
    Setting::hyperexponential(variation, load).experiment("M/H2/1, random over 10").claims(
        Statistic::Mean,
        "Pollaczek, Khinchine",
        Says::Equal(mg1(load, variation)),
    )
}

/// Nobody waits behind anybody: how variable the work is does not matter.
fn shared(variation: f64) -> Experiment {
    let load = 0.6;
    let setting =
        Setting { discipline: "processor_sharing", ..Setting::hyperexponential(variation, load) };
    setting.experiment(&format!("M/G/1-PS, c² = {variation}")).claims(
        Statistic::Mean,
        "1/(1−ρ)",
        Says::Equal(processor_sharing(load)),
    )
}
