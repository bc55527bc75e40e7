//! The language of scenario files: TOML in, validated types out.
//!
//! Unknown fields are errors everywhere. A value that is wrong on its own is refused by its type
//! while it is read; what only contradicts something else is checked in [`Scenario::parse`].

mod check;
mod expectation;
mod fault;
mod fields;
mod files;
mod formula;
mod load;
mod metric;
mod schema;
mod service;
mod variant;

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use proxy::config::{InputError, source};
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::IgnoredAny;
use toml::Spanned;

pub use expectation::{Anchor, Bound, Expectation, Instances, Requests, When, WrittenExpectation};
pub use fault::{
    Chosen, Churn, Delay, Deploy, ErrorKind, Fault, Leave, PushedTables, Random, SlowHeads, Way,
    What, matches,
};
pub use files::ReadFile;
pub use load::{CannotSend, Load, RequestKind, StagePoint};
pub use metric::{Metric, Percentile};
pub use reports::record::Unit;
pub use schema::schema;
pub use service::{
    Answer, Antagonist, CallTable, Calls, Capacity, ColdStart, ErrorModel, Group, Service, Step,
    TooDeep, WrittenCall,
};
pub use variant::{Compare, Sidecar, Variant, Written};

/// A checked scenario.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// The file's stem.
    pub name: String,
    /// The whole file.
    pub text: String,
    /// The files that it refers to, by the names that it gives them.
    pub files: BTreeMap<String, String>,
    /// What a command calls it by: a name of the catalogue, or a path.
    pub called: String,
    /// What the file says.
    pub file: File,
    /// What is compared.
    pub variants: Vec<Variant>,
    /// What must hold, and of which variants.
    pub expect: Vec<Expectation>,
}

/// A scenario as written.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// One line.
    pub title: String,
    /// What a correct mesh does here, and why.
    pub about: String,
    /// How many seeds to run: 1 up to this.
    pub seeds: NonZeroU64,
    /// How long requests are planned for; whole milliseconds.
    #[serde(deserialize_with = "fields::spanned_milliseconds")]
    #[schemars(with = "Duration")]
    pub duration: Spanned<Duration>,
    /// What there is; the client calls the first service, through its sidecar.
    #[serde(deserialize_with = "proxy::config::fields::non_empty")]
    pub services: Vec<Service>,
    /// What the client does.
    pub load: Load,
    /// The network between all of them.
    #[serde(default)]
    pub network: Network,
    /// What is configured the same for every variant.
    #[serde(default)]
    pub sidecar: Sidecar,
    /// Variants in short.
    pub compare: Option<Compare>,
    /// Variants written out.
    #[serde(default)]
    pub variants: Vec<Written>,
    /// Settings and the values of each that are compared, read later: every combination is a
    /// variant.
    #[schemars(with = "Option<schema::SidecarTable>")]
    pub matrix: Option<IgnoredAny>,
    /// What goes wrong, and when.
    #[serde(default)]
    pub faults: Vec<Fault>,
    /// What must hold.
    #[serde(default)]
    pub expect: Vec<WrittenExpectation>,
}

/// The links.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Network {
    /// Time on the wire, one way.
    #[serde(deserialize_with = "fields::whole_milliseconds")]
    pub latency: Duration,
}

impl Default for Network {
    /// 1 ms, the least that the simulator can tell from nothing.
    fn default() -> Self {
        Self { latency: Duration::from_millis(1) }
    }
}

/// A part of a run's time.
pub type Window = Range<Duration>;

impl Scenario {
    /// Checks the text of a file; `path` names the scenario and is for the errors.
    ///
    /// # Errors
    /// One [`InputError`] that names the file, the line, the field and what would be right.
    pub fn parse(path: &Path, text: &str) -> Result<Self, InputError> {
        Self::parse_with(path, text, &files::beside(path))
    }

    /// As [`Scenario::parse`], with another way to the files that it refers to, such as those that
    /// a record keeps.
    ///
    /// # Errors
    /// As [`Scenario::parse`].
    pub fn parse_with(path: &Path, text: &str, read: ReadFile<'_>) -> Result<Self, InputError> {
        let mut file: File = source::parse(path, text)?;
        let files = files::read(&mut file, path, text, read)?;
        let variants = variant::variants(&file, path, text)?;
        let expect = check::check(&file, &variants, path, text)?;
        let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        Ok(Self {
            name: name.unwrap_or_default(),
            text: text.to_owned(),
            files,
            called: path.display().to_string(),
            file,
            variants,
            expect,
        })
    }

    /// How long requests are planned for.
    pub fn duration(&self) -> Duration {
        *self.file.duration.get_ref()
    }

    /// The names of all instances, service by service.
    pub fn instances(&self) -> Vec<String> {
        self.file.instances()
    }

    /// For each instance, the place of its service.
    pub fn services_of_instances(&self) -> Vec<usize> {
        let services = self.file.services.iter().enumerate();
        services.flat_map(|(place, of)| std::iter::repeat_n(place, of.instance_count())).collect()
    }

    /// What goes wrong in the runs with this seed, the same for all variants.
    pub fn faults(&self, seed: u64) -> Vec<sim::Fault> {
        fault::resolve(&self.file, seed)
    }

    /// The variant of this name.
    pub fn variant(&self, name: &str) -> Option<&Variant> {
        self.variants.iter().find(|variant| variant.name == name)
    }
}

impl File {
    /// The names of all instances, service by service.
    fn instances(&self) -> Vec<String> {
        self.services.iter().flat_map(Service::instance_names).collect()
    }

    /// When the first fault that may hit an instance of this name or pattern can be there, from its
    /// first begin to its last end; `None` if there is none. One that never ends lasts to the end.
    fn possible_fault(&self, target: &str) -> Option<Window> {
        let (names, inventory) = (self.instances(), self.inventory());
        let end = *self.duration.get_ref();
        let hits = |fault: &&Fault| {
            fault.candidates(&inventory).into_iter().any(|place| matches(target, &names[place]))
        };
        let spans = self.faults.iter().filter(hits).filter_map(|fault| {
            let times = fault.possible_times(end);
            Some(times.first()?.0..times.last()?.1.unwrap_or(end).min(end))
        });
        spans.min_by_key(|span| span.start)
    }

    /// All instances, as faults are aimed at them.
    fn inventory(&self) -> Vec<fault::Instance> {
        let of_service = |service: &Service| {
            let instances = service.instance_names().zip(service.endpoints());
            instances.map(|(name, endpoint)| fault::Instance { name, endpoint }).collect::<Vec<_>>()
        };
        self.services.iter().flat_map(of_service).collect()
    }
}
