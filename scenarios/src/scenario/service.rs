//! Services: what stands behind a sidecar, and who calls whom.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use proxy::config::fields::positive_duration;
use schemars::JsonSchema;
use serde::Deserialize;
use sim::ServiceTime;
use sim::backend::{Errors, Settings};
use sim::world::EndpointSpec;
use toml::Spanned;

use super::fields;

/// Instances that can serve the same requests.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// Its name; instances are called `<name>-0`, `<name>-1`, ….
    #[serde(deserialize_with = "fields::service_name")]
    #[schemars(with = "String")]
    pub name: Spanned<String>,
    /// How many instances there are; absent if there are groups.
    #[serde(default, deserialize_with = "fields::optional_instances")]
    #[schemars(range(min = 1, max = 1000))]
    pub instances: Option<usize>,
    /// Instances that sidecars are told different things about.
    #[serde(default)]
    pub groups: Vec<Group>,
    /// The part of the requests of each instance, against the others'.
    pub weight: Option<NonZeroU32>,
    /// Where they stand.
    pub zone: Option<String>,
    /// 0 is used first.
    pub priority: Option<u32>,
    /// What subsets are chosen by.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// How long one works on a request.
    pub service_time: ServiceTime,
    /// Requests that an instance works on at once; others queue. All of them if absent.
    #[serde(default, deserialize_with = "fields::workers")]
    pub workers: Option<usize>,
    /// Requests that may wait for a worker; one more gets 503 at once. Any number if absent.
    pub queue: Option<usize>,
    /// Probability that the work ends in an error.
    #[serde(default, deserialize_with = "fields::probability")]
    #[schemars(range(min = 0, max = 1))]
    pub error_rate: f64,
    /// How slow an instance is after a crash.
    pub cold_start: Option<ColdStart>,
    /// The service that an instance calls once for each request, after half of its work.
    #[schemars(with = "Option<String>")]
    pub calls: Option<Spanned<String>>,
}

/// Some of a service's instances.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// How many they are.
    #[serde(deserialize_with = "fields::instances")]
    #[schemars(range(min = 1, max = 1000))]
    pub instances: usize,
    /// As [`Service::weight`], which it takes the place of; so do the fields below.
    pub weight: Option<NonZeroU32>,
    /// As [`Service::zone`].
    pub zone: Option<String>,
    /// As [`Service::priority`].
    pub priority: Option<u32>,
    /// Beside [`Service::labels`].
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

/// Work takes longer after a start.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ColdStart {
    /// How many times as long the first request takes.
    #[serde(deserialize_with = "fields::slowdown")]
    #[schemars(range(min = 1, max = 1000))]
    pub factor: f64,
    /// The time in which that falls to 1, in a straight line.
    #[serde(deserialize_with = "positive_duration")]
    pub over: Duration,
}

impl Service {
    /// How many instances there are, in all groups.
    pub fn instance_count(&self) -> usize {
        let of_groups: usize = self.groups.iter().map(|group| group.instances).sum();
        self.instances.unwrap_or(of_groups)
    }

    /// True when its instances call the service of this name.
    pub fn does_call(&self, name: &str) -> bool {
        self.calls.iter().any(|called| called.get_ref() == name)
    }

    /// `web-0`, `web-1`, ….
    pub fn instance_names(&self) -> impl Iterator<Item = String> {
        (0..self.instance_count()).map(|n| format!("{}-{n}", self.name.get_ref()))
    }

    /// What sidecars are told about each instance, in order.
    pub fn endpoints(&self) -> Vec<EndpointSpec> {
        let common = EndpointSpec {
            weight: self.weight,
            zone: self.zone.clone(),
            priority: self.priority,
            labels: self.labels.clone(),
        };
        if self.groups.is_empty() {
            return vec![common; self.instance_count()];
        }
        let of_group = |group: &Group| vec![group.endpoint(&common); group.instances];
        self.groups.iter().flat_map(of_group).collect()
    }

    /// What an instance is like without faults.
    pub fn settings(&self) -> Settings {
        let cold_start = self
            .cold_start
            .map(|ColdStart { factor, over }| sim::backend::ColdStart { factor, over });
        Settings {
            workers: self.workers,
            queue: self.queue,
            errors: Errors::at_rate(self.error_rate),
            cold_start,
            ..Settings::healthy(self.service_time)
        }
    }
}

impl Group {
    /// What it says, and `common` where it is silent.
    fn endpoint(&self, common: &EndpointSpec) -> EndpointSpec {
        let mut labels = common.labels.clone();
        labels.extend(self.labels.clone());
        EndpointSpec {
            weight: self.weight.or(common.weight),
            zone: self.zone.clone().or_else(|| common.zone.clone()),
            priority: self.priority.or(common.priority),
            labels,
        }
    }
}
