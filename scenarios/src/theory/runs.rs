//! Carries out experiments, and has their claims judged.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use sim::RunResult;
use sim::turmoil_engine;

use super::{Experiment, Observed, Row, Statistic, observe};
use crate::plan;

/// That of all rows together; each row's is higher, so that a table of many is not bound to have
/// one that differs by chance.
const CONFIDENCE: f64 = 0.99;

/// Why nothing was judged.
#[derive(Debug, PartialEq, Eq)]
pub enum Stopped {
    /// Somebody wanted it so.
    Interrupted,
    /// A run was not what theory is about, or was not possible.
    Broken(String),
}

/// Every experiment with every seed, on all cores. The first one says what the path adds to a
/// service time. `done` hears after each run how many there were.
///
/// # Errors
/// When it was stopped, or a run could not be carried out.
pub fn validate(
    experiments: &[Experiment],
    seeds: &[u64],
    done: &(dyn Fn(usize) + Sync),
    keep_going: &(dyn Fn() -> bool + Sync),
) -> Result<Vec<Row>, Stopped> {
    let observed = observe_all(experiments, seeds, done, keep_going)?;
    let rows: usize = experiments.iter().map(|experiment| experiment.claims.len()).sum();
    let confidence = 1.0 - (1.0 - CONFIDENCE) / rows.max(1) as f64;
    let path = path(experiments, &observed);
    let all = experiments.iter().zip(&observed);
    Ok(all.flat_map(|(experiment, seeds)| experiment.judge(seeds, path, confidence)).collect())
}

/// What the path adds, in seconds, over all seeds of the first experiment.
fn path(experiments: &[Experiment], observed: &[Vec<Observed>]) -> f64 {
    let (Some(experiment), Some(seeds)) = (experiments.first(), observed.first()) else {
        return 0.0;
    };
    let value = |seed: &Observed| seed.value(Statistic::Path, experiment.service_time, 0.0);
    let values: Vec<f64> = seeds.iter().filter_map(value).collect();
    values.iter().sum::<f64>() / values.len().max(1) as f64 / 1e3
}

fn observe_all(
    experiments: &[Experiment],
    seeds: &[u64],
    done: &(dyn Fn(usize) + Sync),
    keep_going: &(dyn Fn() -> bool + Sync),
) -> Result<Vec<Vec<Observed>>, Stopped> {
    let jobs: Vec<(usize, u64)> = (0..experiments.len())
        .flat_map(|place| seeds.iter().map(move |&seed| (place, seed)))
        .collect();
    let (next, finished) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let results: Mutex<Vec<Option<Result<Observed, String>>>> =
        Mutex::new(jobs.iter().map(|_| None).collect());
    let work = || {
        loop {
            let job = next.fetch_add(1, Ordering::Relaxed);
            let Some(&(place, seed)) = jobs.get(job) else { return };
            let result = observe_one(&experiments[place], seed, &keep_going).transpose();
            let Some(result) = result else { return };
            results.lock().unwrap_or_else(PoisonError::into_inner)[job] = Some(result);
            done(finished.fetch_add(1, Ordering::Relaxed) + 1);
        }
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(work);
        }
    });
    let results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    let mut results = results.into_iter().map(|result| match result {
        Some(result) => result.map_err(Stopped::Broken),
        None => Err(Stopped::Interrupted),
    });
    experiments.iter().map(|_| results.by_ref().take(seeds.len()).collect()).collect()
}

fn observe_one(
    experiment: &Experiment,
    seed: u64,
    keep_going: &dyn Fn() -> bool,
) -> Result<Option<Observed>, String> {
    let named = |error: String| format!("{}, seed {seed}: {error}", experiment.name);
    let scenario = &experiment.scenario;
    let mut world = plan::world(scenario, &scenario.variants[0], seed).map_err(named)?;
    if let Some(balance) = experiment.balance {
        world.sidecar.cluster.balance = balance;
    }
    let result = turmoil_engine::run(&world, keep_going).map_err(|e| named(e.to_string()))?;
    let Some(mut result) = result else { return Ok(None) };
    if experiment.counts_from_the_send {
        count_from_the_send(&mut result);
    }
    observe(&result, experiment.warm_up, scenario.duration()).map(Some).map_err(named)
}

/// The mistake that hides every queue before the send.
fn count_from_the_send(result: &mut RunResult) {
    for sample in &mut result.samples {
        sample.planned = sample.sent.unwrap_or(sample.planned);
    }
}
