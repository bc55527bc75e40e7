//! Services: what stands behind a sidecar, and who calls whom.

mod calls;
mod capacity;

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};
use hyper::body::Bytes;
use proxy::config::fields::positive_duration;
use schemars::JsonSchema;
use serde::Deserialize;
use sim::ServiceTime;
use sim::backend::{Abandoned, Discipline, Errors, Only, Settings};
use sim::world::EndpointSpec;
use toml::Spanned;

use super::{fields, schema};

pub(super) use calls::MOST_CALLS;
pub use calls::{CallTable, Calls, TooDeep, WrittenCall};
pub(super) use capacity::MOST_STEPS;
pub use capacity::{Antagonist, Capacity, Step};

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
    #[schemars(with = "ServiceTime")]
    pub service_time: Spanned<ServiceTime>,
    /// Who is worked on first.
    #[schemars(with = "Option<Discipline>")]
    pub discipline: Option<Spanned<Discipline>>,
    /// Requests that an instance works on at once; others queue. All of them if absent.
    #[serde(default, deserialize_with = "fields::workers")]
    pub workers: Option<usize>,
    /// Requests that may wait for a worker; one more gets 503 at once. Any number if absent.
    #[schemars(with = "Option<usize>")]
    pub queue: Option<Spanned<usize>>,
    /// What becomes of a request whose caller has left.
    #[serde(default)]
    pub abandoned: Abandoned,
    /// Probability that the work ends in an error.
    #[serde(default, deserialize_with = "fields::probability")]
    #[schemars(range(min = 0, max = 1))]
    pub error_rate: f64,
    /// The same, with more to say.
    #[schemars(with = "Option<ErrorModel>")]
    pub errors: Option<Spanned<ErrorModel>>,
    /// How slow an instance is after a start.
    pub cold_start: Option<ColdStart>,
    /// How its speed changes in time, which no sidecar is told.
    #[schemars(with = "Option<schema::CapacityForm>")]
    pub capacity: Option<Spanned<Capacity>>,
    /// What it answers if all goes well.
    #[serde(default, deserialize_with = "fields::answer")]
    #[schemars(with = "schema::AnswerForm")]
    pub answer: Answer,
    /// The services that an instance calls for each request, in between equal parts of its work.
    #[schemars(with = "Option<schema::CallsForm>")]
    pub calls: Option<Spanned<Calls>>,
}

/// What an instance answers if all goes well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Answer {
    /// A line with its name.
    #[default]
    Greeting,
    /// So many bytes.
    Bytes(usize),
    /// Who it is, as JSON: `{"service":"a","host":"a-0","weight":15}`.
    Identity,
}

/// Work that fails.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ErrorModel {
    /// With this probability.
    #[serde(deserialize_with = "fields::probability")]
    #[schemars(range(min = 0, max = 1))]
    pub rate: f64,
    /// Answered with this.
    #[serde(default = "internal_error", deserialize_with = "fields::error_status")]
    #[schemars(with = "u16", range(min = 400, max = 599))]
    pub status: StatusCode,
    /// After this, instead of the time that the work would have taken.
    pub time: Option<ServiceTime>,
    /// Only requests with this method.
    #[serde(default, deserialize_with = "fields::optional_method")]
    #[schemars(with = "Option<String>")]
    pub method: Option<Method>,
    /// Only requests whose path begins like this.
    #[serde(default, deserialize_with = "fields::optional_path_beginning")]
    pub path: Option<String>,
}

fn internal_error() -> StatusCode {
    StatusCode::INTERNAL_SERVER_ERROR
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
    /// Whether the instances that are there when the run begins are cold too.
    #[serde(default)]
    pub at_start: bool,
}

impl Service {
    /// How many instances there are, in all groups.
    pub fn instance_count(&self) -> usize {
        let of_groups: usize = self.groups.iter().map(|group| group.instances).sum();
        self.instances.unwrap_or(of_groups)
    }

    /// True when its instances call the service of this name.
    pub fn does_call(&self, name: &str) -> bool {
        self.call_groups().iter().flatten().any(|call| call.table.service == name)
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

    /// The services that an instance calls for each request: group after group, those of a group
    /// at once. None in a service whose calls were not checked.
    pub fn call_groups(&self) -> Vec<Vec<WrittenCall>> {
        let calls = self.calls.as_ref();
        let groups = calls.map(|calls| calls.get_ref().groups(calls.span()));
        groups.and_then(Result::ok).unwrap_or_default()
    }

    /// What it says if all goes well; a line with its name if `None`.
    pub fn body(&self, instance: &str, endpoint: &EndpointSpec) -> Option<Bytes> {
        match self.answer {
            Answer::Greeting => None,
            Answer::Bytes(length) => Some(Bytes::from(vec![b'x'; length])),
            Answer::Identity => {
                let weight = endpoint.weight.map_or(1, NonZeroU32::get);
                let service = self.name.get_ref();
                Some(Bytes::from(format!(
                    "{{\"service\":\"{service}\",\"host\":\"{instance}\",\"weight\":{weight}}}\n"
                )))
            }
        }
    }

    fn error_model(&self) -> Errors {
        let Some(model) = &self.errors else { return Errors::at_rate(self.error_rate) };
        let ErrorModel { rate, status, time, method, path } = model.get_ref().clone();
        let only = (method.is_some() || path.is_some()).then(|| Arc::new(Only { method, path }));
        Errors { rate, status, time, only }
    }

    /// What an instance is like without faults.
    pub fn settings(&self) -> Settings {
        let cold_start = self.cold_start.map(|ColdStart { factor, over, at_start }| {
            sim::backend::ColdStart { factor, over, at_start }
        });
        Settings {
            discipline: self.discipline.as_ref().map(|d| *d.get_ref()).unwrap_or_default(),
            workers: self.workers,
            queue: self.queue.as_ref().map(|queue| *queue.get_ref()),
            abandoned: self.abandoned,
            errors: self.error_model(),
            cold_start,
            ..Settings::healthy(self.service_time.get_ref().clone())
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
