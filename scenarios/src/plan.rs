//! A scenario's runs: one world for each variant and seed.

use loadgen::plan::{Plan, PlanError};
use proxy::config::Balance;
use sim::backend::Settings;
use sim::world::{LoadSpec, SidecarSpec};
use sim::{BackendSpec, Fault, FaultKind, WorldSpec};

use crate::scenario::{Scenario, What};

/// One run to be made.
#[derive(Clone, Debug)]
pub struct Job {
    /// The scenario's place in the list that was asked for.
    pub scenario: usize,
    /// What is varied.
    pub variant: Balance,
    /// What all randomness comes from.
    pub seed: u64,
}

impl Job {
    /// Its name for people: `scenario / variant / seed n`.
    pub fn describe(&self, scenarios: &[Scenario]) -> String {
        let scenario = &scenarios[self.scenario].name;
        format!("{scenario} / {} / seed {}", self.variant.0.name, self.seed)
    }
}

/// All runs of a scenario, seed by seed, so that the variants of a seed are done together.
pub fn jobs(place: usize, scenario: &Scenario, seeds: impl Iterator<Item = u64>) -> Vec<Job> {
    let variants = &scenario.file.compare.strategies;
    seeds
        .flat_map(|seed| {
            let job = move |variant| Job { scenario: place, variant, seed };
            variants.iter().map(move |variant| job(*variant.get_ref()))
        })
        .collect()
}

/// The world of a run. All variants of a seed differ in nothing but the variant: the same
/// arrivals, the same service draws, the same faults.
///
/// # Errors
/// When the rate and the duration do not make a plan.
pub fn world(scenario: &Scenario, variant: Balance, seed: u64) -> Result<WorldSpec, PlanError> {
    let file = &scenario.file;
    let service = scenario.service();
    let names = scenario.instances();
    let mut settings = Settings::healthy(service.service_time);
    settings.workers = service.workers;
    settings.error_rate = service.error_rate;
    let place = |name: &str| names.iter().position(|known| known == name);
    let faults = file.faults.iter().filter_map(|fault| {
        // Targets are checked when the scenario is read, so none is left out here.
        let backend = place(fault.target.get_ref())?;
        let until = fault.until.as_ref().map(|until| *until.get_ref());
        Some(Fault { at: *fault.at.get_ref(), until, backend, kind: kind(fault.what) })
    });
    Ok(WorldSpec {
        seed,
        link_latency: file.network.latency,
        faults: faults.collect(),
        backends: names.iter().map(|name| BackendSpec { name: name.clone(), settings }).collect(),
        sidecar: SidecarSpec { balance: variant, timeout: file.sidecar.timeout },
        load: LoadSpec {
            plan: Plan::new(
                file.load.arrivals,
                *file.load.rate.get_ref(),
                *file.duration.get_ref(),
                seed,
            )?,
            deadline: file.load.deadline,
            timeout: file.load.timeout,
            max_connections: file.load.max_in_flight.get(),
        },
    })
}

/// The simulator's name for a fault.
pub fn kind(what: What) -> FaultKind {
    match what {
        What::Slow(time) => FaultKind::Slow(time),
        What::Hang => FaultKind::Hang,
        What::ErrorRate(rate) => FaultKind::ErrorRate(rate),
        What::Crash => FaultKind::Crash,
    }
}
