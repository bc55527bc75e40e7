//! A scenario's runs: one world for each variant and seed.

use loadgen::plan::Plan;
use sim::world::{LoadSpec, ServiceSpec};
use sim::{BackendSpec, WorldSpec};

use crate::scenario::{Scenario, Service, Variant};

/// One run to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// The scenario's place in the list that was asked for.
    pub scenario: usize,
    /// What is varied: its place in [`Scenario::variants`].
    pub variant: usize,
    /// What all randomness comes from.
    pub seed: u64,
}

impl Job {
    /// The variant that it runs.
    pub fn variant<'a>(&self, scenarios: &'a [Scenario]) -> &'a Variant {
        &scenarios[self.scenario].variants[self.variant]
    }

    /// Its name for people: `scenario / variant / seed n`.
    pub fn describe(&self, scenarios: &[Scenario]) -> String {
        let scenario = &scenarios[self.scenario].name;
        format!("{scenario} / {} / seed {}", self.variant(scenarios).name, self.seed)
    }
}

/// All runs of a scenario, seed by seed, so that the variants of a seed are done together.
pub fn jobs(place: usize, scenario: &Scenario, seeds: impl Iterator<Item = u64>) -> Vec<Job> {
    let variants = 0..scenario.variants.len();
    let of_seed =
        |seed| variants.clone().map(move |variant| Job { scenario: place, variant, seed });
    seeds.flat_map(of_seed).collect()
}

/// The world of a run. All variants of a seed differ in nothing but the variant: the same
/// arrivals, the same requests, the same service draws, the same faults.
///
/// # Errors
/// When the load cannot be planned, which a checked scenario's can.
pub fn world(scenario: &Scenario, variant: &Variant, seed: u64) -> Result<WorldSpec, String> {
    let file = &scenario.file;
    let end = scenario.duration();
    let entry = file.services[0].name.get_ref();
    let rate = variant.rate(file);
    Ok(WorldSpec {
        seed,
        link_latency: file.network.latency,
        faults: scenario.faults(seed),
        services: file.services.iter().map(|service| service_spec(scenario, service)).collect(),
        sidecar: variant.sidecar.clone(),
        load: LoadSpec {
            plan: Plan::new(file.load.arrivals, rate, end, seed).map_err(|e| e.to_string())?,
            mix: file.load.mix(entry, seed).map_err(|cannot| cannot.reason.into_inner())?,
            deadline: file.load.deadline,
            timeout: file.load.timeout,
            max_connections: file.load.max_in_flight.get(),
        },
    })
}

fn service_spec(scenario: &Scenario, service: &Service) -> ServiceSpec {
    let instances = service.instance_names().zip(service.endpoints());
    let settings = service.settings();
    // Names are checked when the scenario is read, so none is left out here.
    let place = |name: &str| {
        scenario.file.services.iter().position(|service| service.name.get_ref() == name)
    };
    ServiceSpec {
        name: service.name.get_ref().clone(),
        instances: instances
            .map(|(name, endpoint)| BackendSpec { name, settings, endpoint })
            .collect(),
        calls: service.calls.iter().filter_map(|called| place(called.get_ref())).collect(),
    }
}
