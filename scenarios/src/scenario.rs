//! The language of scenario files: TOML in, validated types out.
//!
//! Unknown fields are errors everywhere. A value that is wrong on its own is refused by its type
//! while it is read; what only contradicts something else is checked in [`Scenario::parse`].

mod check;
mod expectation;

use std::num::{NonZeroU64, NonZeroUsize};
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use loadgen::plan::Arrivals;
use proxy::config::{Balance, InputError, fields, source};
use serde::{Deserialize, Deserializer};
use sim::ServiceTime;
use sim::backend::MOST_WORKERS;
use toml::Spanned;

pub use expectation::{Bound, Expectation, Metric};

/// A checked scenario.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// The file's stem.
    pub name: String,
    /// The whole file.
    pub text: String,
    /// What a command calls it by: a name of the catalogue, or a path.
    pub called: String,
    /// What the file says.
    pub file: File,
}

/// A scenario as written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// One line.
    pub title: String,
    /// What a correct mesh does here, and why.
    pub about: String,
    /// How many seeds to run: 1 up to this.
    pub seeds: NonZeroU64,
    /// How long requests are planned for; whole milliseconds.
    #[serde(deserialize_with = "spanned_milliseconds")]
    pub duration: Spanned<Duration>,
    /// What runs behind the sidecar; exactly one service, for now.
    #[serde(deserialize_with = "one_service")]
    pub services: Vec<Service>,
    /// What the client does.
    pub load: Load,
    /// The network between all of them.
    #[serde(default)]
    pub network: Network,
    /// The sidecar's configuration.
    pub sidecar: Sidecar,
    /// What is compared.
    pub compare: Compare,
    /// What goes wrong, and when.
    #[serde(default)]
    pub faults: Vec<Fault>,
    /// What must hold.
    #[serde(default)]
    pub expect: Vec<Expectation>,
}

/// Instances of the same kind.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// Its name; instances are called `<name>-0`, `<name>-1`, ….
    #[serde(deserialize_with = "host_name")]
    pub name: String,
    /// How many instances there are.
    #[serde(deserialize_with = "instances")]
    pub instances: usize,
    /// How long one works on a request.
    pub service_time: ServiceTime,
    /// Requests that an instance works on at once; others queue. All of them if absent.
    #[serde(default, deserialize_with = "workers")]
    pub workers: Option<usize>,
    /// Probability that the work ends in an error.
    #[serde(default, deserialize_with = "probability")]
    pub error_rate: f64,
}

/// The client's plan.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Load {
    /// How arrivals are spread.
    #[serde(deserialize_with = "arrivals")]
    pub arrivals: Arrivals,
    /// Arrivals per second, on average.
    #[serde(deserialize_with = "rate")]
    pub rate: Spanned<f64>,
    /// An answer later than this after its planned instant is a failure, but is not cancelled.
    #[serde(default, deserialize_with = "fields::optional_positive_duration")]
    pub deadline: Option<Duration>,
    /// The client cancels a request this long after it sent it.
    #[serde(deserialize_with = "fields::positive_duration")]
    pub timeout: Duration,
    /// Requests in flight at most; beyond, they wait at the client.
    #[serde(default = "default_max_in_flight")]
    pub max_in_flight: NonZeroUsize,
}

/// The links.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Network {
    /// Time on the wire, one way.
    #[serde(deserialize_with = "whole_milliseconds")]
    pub latency: Duration,
}

impl Default for Network {
    /// 1 ms, the least that the simulator can tell from nothing.
    fn default() -> Self {
        Self { latency: Duration::from_millis(1) }
    }
}

/// What is configured the same for every variant.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sidecar {
    /// From a request's head to the end of its response.
    #[serde(deserialize_with = "fields::positive_duration")]
    pub timeout: Duration,
}

/// What differs between variants.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Compare {
    /// Balancing strategies; each is a variant.
    #[serde(deserialize_with = "fields::non_empty")]
    pub strategies: Vec<Spanned<Balance>>,
}

/// Something that goes wrong.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// The instance it happens to, such as `web-0`.
    pub target: Spanned<String>,
    /// When, from the start of the run.
    #[serde(deserialize_with = "spanned_duration")]
    pub at: Spanned<Duration>,
    /// When it is over; never if absent.
    #[serde(default, deserialize_with = "optional_spanned_duration")]
    pub until: Option<Spanned<Duration>>,
    /// What happens.
    pub what: What,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum What {
    /// Work takes this long instead.
    Slow(ServiceTime),
    /// Nothing moves: no request starts, none is answered.
    Hang,
    /// Work ends in an error with this probability.
    ErrorRate(#[serde(deserialize_with = "probability")] f64),
    /// The process dies, and starts again at the end.
    Crash,
}

/// A part of a run's time.
pub type Window = Range<Duration>;

impl Scenario {
    /// Checks the text of a file; `path` names the scenario and is for the errors.
    ///
    /// # Errors
    /// One [`InputError`] that names the file, the line, the field and what would be right.
    pub fn parse(path: &Path, text: &str) -> Result<Self, InputError> {
        let file: File = source::parse(path, text)?;
        check::check(&file, path, text)?;
        let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        Ok(Self {
            name: name.unwrap_or_default(),
            text: text.to_owned(),
            called: path.display().to_string(),
            file,
        })
    }

    /// The one service.
    pub fn service(&self) -> &Service {
        &self.file.services[0]
    }

    /// The names of all instances, in order.
    pub fn instances(&self) -> Vec<String> {
        instance_names(self.service())
    }
}

/// `web-0`, `web-1`, ….
fn instance_names(service: &Service) -> Vec<String> {
    (0..service.instances).map(|n| format!("{}-{n}", service.name)).collect()
}

/// Far more than any rate times any timeout of the catalogue needs, and as many as a client can
/// have ports for.
fn default_max_in_flight() -> NonZeroUsize {
    NonZeroUsize::new(20_000).unwrap_or(NonZeroUsize::MIN)
}

/// The most instances of a service that one simulation is asked to hold.
const MOST_INSTANCES: usize = 1000;

fn one_service<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Service>, D::Error> {
    let services = Vec::<Service>::deserialize(deserializer)?;
    if services.len() != 1 {
        let message = format!("there are {} services; write exactly one", services.len());
        return Err(serde::de::Error::custom(message));
    }
    Ok(services)
}

fn host_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let name = String::deserialize(deserializer)?;
    let right = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if name.is_empty() || name.len() > 40 || name.starts_with('-') || !name.chars().all(right) {
        let hint = "write up to 40 lower-case letters, digits and hyphens, such as \"web\"";
        return Err(serde::de::Error::custom(format!("`{name}` is not a name; {hint}")));
    }
    if matches!(name.as_str(), "client" | "sidecar" | "backends") {
        let message = format!("`{name}` is the name of another host; choose a different one");
        return Err(serde::de::Error::custom(message));
    }
    Ok(name)
}

fn instances<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    let count = usize::deserialize(deserializer)?;
    if !(1..=MOST_INSTANCES).contains(&count) {
        let message = format!("{count} is not from 1 to {MOST_INSTANCES}");
        return Err(serde::de::Error::custom(message));
    }
    Ok(count)
}

fn workers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<usize>, D::Error> {
    let count = usize::deserialize(deserializer)?;
    if !(1..=MOST_WORKERS).contains(&count) {
        let message = format!("{count} is not from 1 to {MOST_WORKERS}");
        return Err(serde::de::Error::custom(message));
    }
    Ok(Some(count))
}

fn probability<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let value = f64::deserialize(deserializer)?;
    if !(0.0..=1.0).contains(&value) {
        let message = format!("{value} is not a probability; write a number from 0 to 1");
        return Err(serde::de::Error::custom(message));
    }
    Ok(value)
}

fn rate<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Spanned<f64>, D::Error> {
    let rate = Spanned::<f64>::deserialize(deserializer)?;
    let value = *rate.get_ref();
    if !(value.is_finite() && value > 0.0) {
        let message = format!("{value} is not a rate; write requests per second, above 0");
        return Err(serde::de::Error::custom(message));
    }
    Ok(rate)
}

fn arrivals<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arrivals, D::Error> {
    match String::deserialize(deserializer)?.as_str() {
        "constant" => Ok(Arrivals::Constant),
        "poisson" => Ok(Arrivals::Poisson),
        other => {
            let hint = "there is `constant` and `poisson`";
            Err(serde::de::Error::custom(format!("no arrival process is called `{other}`; {hint}")))
        }
    }
}

/// A duration and where it stands.
fn spanned_duration<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Spanned<Duration>, D::Error> {
    let text = Spanned::<String>::deserialize(deserializer)?;
    let duration = fields::parse_duration(text.get_ref()).map_err(serde::de::Error::custom)?;
    Ok(Spanned::new(text.span(), duration))
}

fn optional_spanned_duration<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Spanned<Duration>>, D::Error> {
    spanned_duration(deserializer).map(Some)
}

fn spanned_milliseconds<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Spanned<Duration>, D::Error> {
    let duration = spanned_duration(deserializer)?;
    check_milliseconds(*duration.get_ref()).map_err(serde::de::Error::custom)?;
    Ok(duration)
}

fn whole_milliseconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let latency = fields::duration(deserializer)?;
    check_milliseconds(latency).map_err(serde::de::Error::custom)?;
    Ok(latency)
}

fn check_milliseconds(duration: Duration) -> Result<(), &'static str> {
    if duration.is_zero() || !duration.as_nanos().is_multiple_of(1_000_000) {
        return Err("the simulator steps in milliseconds; write whole ones, at least \"1ms\"");
    }
    Ok(())
}
