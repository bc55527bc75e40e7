//! An endpoint as written: an address, or a table with what else there is to say.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU32;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::EndpointAddr;

/// An endpoint: `"127.0.0.1:9001"`, or `{ address = "127.0.0.1:9001", weight = 2 }`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EndpointConfig {
    /// Where it is.
    pub address: EndpointAddr,
    /// Its share beside those of the others, for strategies that have weights. 1.
    pub weight: NonZeroU32,
    /// Where it stands; nearer ones are preferred.
    pub zone: Option<String>,
    /// 0 is used first; others when those before them fail.
    pub priority: u32,
    /// What routes may ask for.
    pub labels: BTreeMap<String, String>,
    /// It is about to go: what it has it finishes, and it gets nothing new, not even when nothing
    /// else is left.
    pub draining: bool,
}

impl EndpointConfig {
    /// An endpoint of which only the address is known.
    pub fn at(address: EndpointAddr) -> Self {
        let labels = BTreeMap::new();
        Self { address, weight: NonZeroU32::MIN, zone: None, priority: 0, labels, draining: false }
    }
}

/// The most levels of priority: each costs a step of arithmetic, and nobody has ten.
const MOST_PRIORITIES: u32 = 16;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    address: EndpointAddr,
    #[serde(default = "one")]
    weight: NonZeroU32,
    zone: Option<String>,
    #[serde(default, deserialize_with = "priority")]
    priority: u32,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    draining: bool,
}

fn one() -> NonZeroU32 {
    NonZeroU32::MIN
}

fn priority<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let priority = u32::deserialize(deserializer)?;
    if priority >= MOST_PRIORITIES {
        let message = format!("{priority} is not a priority; write 0 to {}", MOST_PRIORITIES - 1);
        return Err(D::Error::custom(message));
    }
    Ok(priority)
}

impl<'de> Deserialize<'de> for EndpointConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AddressOrTable)
    }
}

struct AddressOrTable;

impl<'de> Visitor<'de> for AddressOrTable {
    type Value = EndpointConfig;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("host:port, or a table with an `address`")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<EndpointConfig, E> {
        EndpointAddr::parse(text).map(EndpointConfig::at).map_err(E::custom)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<EndpointConfig, A::Error> {
        let table = Table::deserialize(MapAccessDeserializer::new(map))?;
        let Table { address, weight, zone, priority, labels, draining } = table;
        Ok(EndpointConfig { address, weight, zone, priority, labels, draining })
    }
}
