//! What goes wrong, with whom, and when.

mod resolve;
mod times;
mod what;
mod whom;

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::time::Duration;

use proxy::config::fields::optional_positive_duration;
use schemars::JsonSchema;
use serde::Deserialize;
use toml::Spanned;

use super::fields;

pub(super) use resolve::{Callers, resolve};
pub(super) use times::MOST_REPETITIONS;
pub use times::Random;
use what::Subject;
pub use what::{Churn, Delay, Deploy, ErrorKind, Leave, PushedTables, SlowHeads, Way, What};
pub(super) use whom::Instance;
pub use whom::{Chosen, matches};

/// Something that goes wrong.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// The instance it happens to, such as `web-0`, or all of `web-*`.
    #[schemars(with = "Option<String>")]
    pub target: Option<Spanned<String>>,
    /// Several of them, instead.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub targets: Vec<Spanned<String>>,
    /// Only those in this zone.
    #[schemars(with = "Option<String>")]
    pub zone: Option<Spanned<String>>,
    /// Only those with all of these labels.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, String>")]
    pub labels: BTreeMap<String, Spanned<String>>,
    /// Only this part of them, rounded up.
    #[serde(default, deserialize_with = "fields::optional_fraction")]
    #[schemars(range(max = 1), extend("exclusiveMinimum" = 0))]
    pub fraction: Option<f64>,
    /// Only so many of them.
    #[schemars(with = "Option<NonZeroUsize>")]
    pub pick: Option<Spanned<NonZeroUsize>>,
    /// Which ones: for a fraction the first, otherwise chosen by the seed, if absent.
    #[schemars(with = "Option<Chosen>")]
    pub chosen: Option<Spanned<Chosen>>,
    /// For links: whose calls it happens to, `client` or instances; all that call if absent.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub from: Vec<Spanned<String>>,
    /// For links: on which way; both if absent.
    #[schemars(with = "Option<Way>")]
    pub way: Option<Spanned<Way>>,
    /// When, from the start of the run.
    #[serde(deserialize_with = "fields::spanned_duration")]
    #[schemars(with = "Duration")]
    pub at: Spanned<Duration>,
    /// When it is over; never if absent.
    #[serde(default, deserialize_with = "fields::optional_spanned_duration")]
    #[schemars(with = "Option<Duration>")]
    pub until: Option<Spanned<Duration>>,
    /// It comes back this long after each time it began.
    #[serde(default, deserialize_with = "fields::optional_spanned_duration")]
    #[schemars(with = "Option<Duration>")]
    pub every: Option<Spanned<Duration>>,
    /// And lasts this long each time.
    #[serde(default, rename = "for", deserialize_with = "optional_positive_duration")]
    pub lasts: Option<Duration>,
    /// It comes and goes by chance, instead.
    #[schemars(with = "Option<Random>")]
    pub random: Option<Spanned<Random>>,
    /// What happens.
    pub what: What,
}

#[cfg(test)]
mod tests;
