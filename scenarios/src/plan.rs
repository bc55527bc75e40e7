//! A scenario's runs: one world for each variant and seed.

use sim::world::{EndpointSpec, LoadSpec, ServiceSpec};
use sim::{BackendSpec, CallSpec, WorldSpec, fault};

use crate::scenario::{CallTable, Scenario, Service, Variant, WrittenCall};

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
    let faults = scenario.faults(seed);
    let mut services: Vec<_> =
        file.services.iter().map(|service| service_spec(scenario, service, seed)).collect();
    let instances = services.iter_mut().flat_map(|service| &mut service.instances);
    for (place, instance) in instances.enumerate() {
        instance.listed = fault::is_listed(&faults, place);
    }
    let entry = file.services[0].name.get_ref();
    Ok(WorldSpec {
        seed,
        link_latency: file.network.latency,
        pushes: fault::pushes(&faults, &variant.sidecar, &variant.pushed),
        services,
        faults,
        sidecar: variant.sidecar.clone(),
        load: LoadSpec {
            plan: file.load.plan(variant.rate(), end, seed).map_err(|e| e.to_string())?,
            mix: file.load.mix(entry, seed).map_err(|cannot| cannot.reason.into_inner())?,
            deadline: file.load.deadline,
            timeout: file.load.timeout,
            clients: file.load.clients.get(),
            max_connections: file.load.max_in_flight(),
        },
    })
}

fn service_spec(scenario: &Scenario, service: &Service, seed: u64) -> ServiceSpec {
    let settings = service.settings();
    let instance = |(name, endpoint): (String, EndpointSpec)| {
        let capacity = service.capacity.as_ref().map(|capacity| capacity.get_ref());
        let capacity = capacity.map(|of| of.steps(seed, &name, scenario.duration()));
        BackendSpec {
            capacity: capacity.unwrap_or_default(),
            body: service.body(&name, &endpoint),
            endpoint,
            ..BackendSpec::new(name, settings.clone())
        }
    };
    // Names are checked when the scenario is read, so none is left out here.
    let call = |WrittenCall { table, .. }: WrittenCall| {
        let services = &scenario.file.services;
        let service = services.iter().position(|other| *other.name.get_ref() == table.service)?;
        let CallTable { times, method, path, headers, share, .. } = table;
        Some(CallSpec { service, times, method, path, headers, share })
    };
    let groups = service.call_groups().into_iter();
    ServiceSpec {
        name: service.name.get_ref().clone(),
        instances: service.instance_names().zip(service.endpoints()).map(instance).collect(),
        calls: groups.map(|group| group.into_iter().filter_map(call).collect()).collect(),
    }
}
