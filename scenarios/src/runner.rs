//! Carries out runs on all cores, and puts the verdicts into their records.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use reports::record::{Check, RunRecord};
use sim::RunResult;
use sim::turmoil_engine;

use crate::chronicle::record;
use crate::judge::{judge, not_judged};
use crate::measure::{Value, measure};
use crate::plan::{Job, world};
use crate::scenario::{Expectation, Scenario};

/// What came of a list of jobs.
#[derive(Debug)]
pub struct Outcome {
    /// The records of those that were carried out, in the order of the jobs.
    pub records: Vec<RunRecord>,
    /// Those that were not, because the run was stopped.
    pub not_run: Vec<Job>,
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

/// Why a job failed, which is never the fault of what was simulated.
#[derive(Debug, thiserror::Error)]
#[error("{job}: {reason}")]
pub struct JobError {
    /// The job, for people.
    pub job: String,
    /// What happened.
    pub reason: String,
}

/// A finished run, and the values that its scenario's expectations are about.
struct Finished {
    record: RunRecord,
    values: Vec<Option<Value>>,
}

/// Carries out `jobs` on as many threads as there are cores. Each simulation has one thread to
/// itself, so how many run beside it changes nothing in it. When `keep_going` says no, what is
/// running is given up and the rest not begun.
///
/// # Errors
/// The first job that could not be carried out.
pub fn run_all(
    scenarios: &[Scenario],
    jobs: &[Job],
    progress: &dyn Progress,
    keep_going: &(dyn Fn() -> bool + Sync),
) -> Result<Outcome, JobError> {
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<Option<Finished>>> = Mutex::new(jobs.iter().map(|_| None).collect());
    let failed: Mutex<Option<JobError>> = Mutex::new(None);
    let has_failed = || failed.lock().unwrap_or_else(PoisonError::into_inner).is_some();
    let go_on = || keep_going() && !has_failed();
    let work = || {
        while go_on() {
            let place = next.fetch_add(1, Ordering::Relaxed);
            let Some(job) = jobs.get(place) else { return };
            match run_one(&scenarios[job.scenario], job, &go_on) {
                Ok(Some(finished)) => {
                    done.lock().unwrap_or_else(PoisonError::into_inner)[place] = Some(finished);
                    progress.finished(job);
                }
                Ok(None) => return,
                Err(reason) => {
                    let error = JobError { job: job.describe(scenarios), reason };
                    failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                }
            }
        }
    };
    let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN).get();
    std::thread::scope(|scope| {
        for _ in 0..cores.min(jobs.len()) {
            scope.spawn(work);
        }
    });
    if let Some(error) = failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    let done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(judge_all(scenarios, jobs, done))
}

fn run_one(
    scenario: &Scenario,
    job: &Job,
    keep_going: &dyn Fn() -> bool,
) -> Result<Option<Finished>, String> {
    let world = world(scenario, job.variant, job.seed).map_err(|error| error.to_string())?;
    let result = turmoil_engine::run(&world, keep_going).map_err(|error| error.to_string())?;
    let Some(result) = result else { return Ok(None) };
    let mut record = record(scenario, job, &result);
    record.checks = vec![every_request_is_accounted_for(&record, &result)];
    let expectations = scenario.file.expect.iter();
    let values = expectations.map(|e| measure(scenario, e, &result)).collect();
    Ok(Some(Finished { record, values }))
}

/// The check that every run has to pass: the client's books balance, and the sidecar and the
/// backends have seen what the client says it sent.
///
/// Where callers cancel, connections break or processes die, a request may end on its way, so
/// each step may have seen fewer than the one before it, and never more.
fn every_request_is_accounted_for(record: &RunRecord, result: &RunResult) -> Check {
    let accounting = &record.accounting;
    let arrived: u64 = record.endpoints.iter().map(|endpoint| endpoint.total.arrived).sum();
    let placed: u64 = result.sidecar_placed.iter().sum();
    let received = result.sidecar_requests;
    let sent = accounting.sent;
    let undisturbed = accounting.ok + accounting.late + accounting.status == accounting.planned
        && record.endpoints.iter().all(|e| e.total.cancelled + e.total.crashed == 0);
    let agree = if undisturbed {
        sent == received && received == placed && placed == arrived
    } else {
        sent >= received && received >= placed && placed >= arrived
    };
    let measured = match accounting.verify() {
        Ok(()) => {
            format!("{sent} sent, {received} received, {placed} placed, {arrived} arrived")
        }
        Err(imbalance) => imbalance.to_string(),
    };
    Check {
        what: "requests at the client, the sidecar (in and out) and the instances".to_owned(),
        wanted: if undisturbed { "all equal" } else { "none appears on the way" }.to_owned(),
        passed: agree && accounting.verify().is_ok(),
        measured,
    }
}

fn judge_all(scenarios: &[Scenario], jobs: &[Job], done: Vec<Option<Finished>>) -> Outcome {
    let mut records = Vec::new();
    let mut not_run = Vec::new();
    for (job, finished) in jobs.iter().zip(&done) {
        let Some(finished) = finished else {
            not_run.push(job.clone());
            continue;
        };
        let scenario = &scenarios[job.scenario];
        let mut record = finished.record.clone();
        for (place, expectation) in scenario.file.expect.iter().enumerate() {
            if !is_about(expectation, job) {
                continue;
            }
            let value = finished.values[place];
            match &expectation.compared_with {
                None => record.checks.push(judge(scenario, expectation, value, None)),
                Some(base) => {
                    let base = base.get_ref();
                    let same = |other: &Job| {
                        (other.scenario, other.seed) == (job.scenario, job.seed)
                            && other.variant == *base
                    };
                    let at = jobs.iter().position(same);
                    match at.and_then(|at| done[at].as_ref()).and_then(|f| f.values[place]) {
                        Some(base) => {
                            record.checks.push(judge(scenario, expectation, value, Some(base)));
                        }
                        None => {
                            record.warnings.push(not_judged(scenario, expectation, base.0.name));
                        }
                    }
                }
            }
        }
        records.push(record);
    }
    Outcome { records, not_run }
}

fn is_about(expectation: &Expectation, job: &Job) -> bool {
    expectation
        .of
        .as_ref()
        .is_none_or(|variants| variants.iter().any(|variant| *variant.get_ref() == job.variant))
}
