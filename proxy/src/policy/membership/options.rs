//! What is said of endpoints and of how to prefer some of them.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

use crate::config::fields;

/// What is known of an endpoint before it has served anything.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct EndpointAttributes {
    /// Endpoints with a higher number get traffic only as those with a lower one become too few.
    pub priority: u32,
    /// Where it is: a data centre, an availability zone.
    pub zone: Option<String>,
    /// What selectors ask for.
    pub labels: BTreeMap<String, String>,
    /// Its capacity compared with the others'. Shares of what is available are shares of weight.
    pub weight: NonZeroU32,
}

impl Default for EndpointAttributes {
    fn default() -> Self {
        Self { priority: 0, zone: None, labels: BTreeMap::new(), weight: NonZeroU32::MIN }
    }
}

/// Labels that an endpoint must have, with these values; it may have others.
pub type Selector = BTreeMap<String, String>;

/// What a subset without any endpoint means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SubsetFallback {
    /// Any endpoint will do.
    #[default]
    Any,
    /// No endpoint will do.
    None,
}

/// How endpoints are preferred, `[clusters.membership]`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct MembershipOptions {
    /// The zone that this sidecar is in, whose endpoints are preferred. None: no zone is.
    pub zone: Option<String>,
    /// The share of available endpoints below which availability is not believed: all endpoints
    /// are picked. 0 never. 0.5, as Envoy's: when half of a service is called bad, it is as likely
    /// that the judgement is, and the other half could not carry the load anyway.
    #[serde(deserialize_with = "fields::ratio")]
    pub panic_threshold: f64,
    /// How much more than its share each endpoint is trusted to carry before traffic spills to the
    /// next priority or to other zones. 1.4, as Envoy's: nothing spills until 28.6 % are out, and
    /// what is left runs at most 40 % above its usual load.
    #[serde(deserialize_with = "fields::factor")]
    pub overprovisioning: f64,
    /// Endpoints that the own zone must have, available or not, to be preferred. 2: with one, all
    /// callers of the zone would lean on it and its every fault would be theirs.
    pub local_zone_min_endpoints: usize,
    /// What a subset without any endpoint means. Any: a label that nobody has (yet) is more often
    /// a rollout under way than a wish to fail. Envoy's default is none.
    pub subset_fallback: SubsetFallback,
}

impl Default for MembershipOptions {
    fn default() -> Self {
        Self {
            zone: None,
            panic_threshold: 0.5,
            overprovisioning: 1.4,
            local_zone_min_endpoints: 2,
            subset_fallback: SubsetFallback::default(),
        }
    }
}
