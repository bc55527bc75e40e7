//! Carries out runs on all cores, and puts the verdicts into their records.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use reports::record::RunRecord;
use sim::turmoil_engine;

use crate::chronicle::record;
use crate::conservation;
use crate::invariants;
use crate::judge::{judge, without_base};
use crate::measure::{Measured, measure};
use crate::plan::{Job, world};
use crate::scenario::Scenario;

/// What came of a list of jobs.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The records of those that were carried out, in the order of the jobs.
    pub records: Vec<RunRecord>,
    /// Those that were not, because the run was stopped.
    pub not_run: Vec<Job>,
    /// Those that could not be carried out, which is never the fault of what was simulated.
    pub broken: Vec<Broken>,
}

/// A job that could not be carried out.
#[derive(Clone, Debug)]
pub struct Broken {
    /// Which.
    pub job: Job,
    /// Why.
    pub reason: String,
}

/// Hears how far a list of jobs has got. Called from several threads.
pub trait Progress: Sync {
    /// A job is finished.
    fn finished(&self, job: &Job);
}

/// No progress.
impl Progress for () {
    fn finished(&self, _: &Job) {}
}

/// A finished run, and the values that its scenario's expectations are about.
struct Finished {
    record: RunRecord,
    values: Vec<Measured>,
}

/// Carries out `jobs` on as many threads as there are cores. Each simulation has one thread to
/// itself, so how many run beside it changes nothing in it. When `keep_going` says no, what is
/// running is given up and the rest not begun.
pub fn run_all(
    scenarios: &[Scenario],
    jobs: &[Job],
    progress: &dyn Progress,
    keep_going: &(dyn Fn() -> bool + Sync),
) -> Outcome {
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<Option<Result<Finished, String>>>> =
        Mutex::new(jobs.iter().map(|_| None).collect());
    let work = || {
        while keep_going() {
            let place = next.fetch_add(1, Ordering::Relaxed);
            let Some(job) = jobs.get(place) else { return };
            let Some(result) = run_one(&scenarios[job.scenario], job, &keep_going).transpose()
            else {
                return;
            };
            done.lock().unwrap_or_else(PoisonError::into_inner)[place] = Some(result);
            progress.finished(job);
        }
    };
    let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN).get();
    std::thread::scope(|scope| {
        for _ in 0..cores.min(jobs.len()) {
            scope.spawn(work);
        }
    });
    let done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    judge_all(scenarios, jobs, &done)
}

/// Carries out `jobs` one after the other on this thread, such as all variants of one seed. When
/// `keep_going` says no, what is running is given up and the rest not begun.
pub fn run_here(scenarios: &[Scenario], jobs: &[Job], keep_going: &dyn Fn() -> bool) -> Outcome {
    let run = |job: &Job| run_one(&scenarios[job.scenario], job, keep_going).transpose();
    let done: Vec<_> = jobs.iter().map(run).collect();
    judge_all(scenarios, jobs, &done)
}

fn run_one(
    scenario: &Scenario,
    job: &Job,
    keep_going: &dyn Fn() -> bool,
) -> Result<Option<Finished>, String> {
    let variant = &scenario.variants[job.variant];
    let world = world(scenario, variant, job.seed)?;
    let result = turmoil_engine::run(&world, keep_going).map_err(|error| error.to_string())?;
    let Some(result) = result else { return Ok(None) };
    let mut record = record(scenario, job, &result);
    record.checks = vec![
        conservation::check(scenario, &record.accounting, &result),
        invariants::check(scenario, variant, &result),
    ];
    let expectations = scenario.expect.iter();
    let values = expectations.map(|e| measure(scenario, variant, e, &result)).collect();
    Ok(Some(Finished { record, values }))
}

fn judge_all(
    scenarios: &[Scenario],
    jobs: &[Job],
    done: &[Option<Result<Finished, String>>],
) -> Outcome {
    let mut outcome = Outcome::default();
    for (job, result) in jobs.iter().zip(done) {
        let finished = match result {
            Some(Ok(finished)) => finished,
            Some(Err(reason)) => {
                outcome.broken.push(Broken { job: job.clone(), reason: reason.clone() });
                continue;
            }
            None => {
                outcome.not_run.push(job.clone());
                continue;
            }
        };
        let scenario = &scenarios[job.scenario];
        let mut record = finished.record.clone();
        for (place, expectation) in scenario.expect.iter().enumerate() {
            let variant = &job.variant(scenarios).name;
            if !expectation.is_about(variant) {
                continue;
            }
            let value = &finished.values[place];
            let Some(base) = &expectation.compared_with else {
                record.checks.push(judge(scenario, expectation, variant, value, None));
                continue;
            };
            match finished_twin(scenarios, jobs, done, job, base) {
                Some(twin) => {
                    let base = Some(&twin.values[place]);
                    record.checks.push(judge(scenario, expectation, variant, value, base));
                }
                None => record.warnings.push(without_base(scenario, expectation, base)),
            }
        }
        outcome.records.push(record);
    }
    outcome
}

/// The finished run of another variant with the same scenario and seed.
fn finished_twin<'a>(
    scenarios: &[Scenario],
    jobs: &[Job],
    done: &'a [Option<Result<Finished, String>>],
    job: &Job,
    variant: &str,
) -> Option<&'a Finished> {
    let is_twin = |other: &Job| {
        (other.scenario, other.seed) == (job.scenario, job.seed)
            && other.variant(scenarios).name == variant
    };
    done[jobs.iter().position(is_twin)?].as_ref()?.as_ref().ok()
}
