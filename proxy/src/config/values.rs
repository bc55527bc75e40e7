//! Values that check themselves.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use toml::Spanned;

use super::suggest;
use crate::policy::balance::{STRATEGIES, Strategy};

/// A name, and where in the file it stands, which is no part of what it is.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(transparent)]
pub struct Name(Spanned<String>);

impl Name {
    /// The name.
    pub fn as_str(&self) -> &str {
        self.0.get_ref()
    }

    /// Where in the file it stands.
    pub(super) fn span(&self) -> Range<usize> {
        self.0.span()
    }
}

impl From<&str> for Name {
    fn from(name: &str) -> Self {
        Self(Spanned::new(0..0, name.to_owned()))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// `host:port` of an endpoint; the host may be a name, which is resolved at each dial.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EndpointAddr(Arc<str>);

impl EndpointAddr {
    /// Checks that `text` has a host and a port.
    ///
    /// # Errors
    /// Says what is missing.
    pub fn parse(text: &str) -> Result<Self, String> {
        let hint = format!("`{text}` is not an endpoint; write host:port, such as 127.0.0.1:9001");
        let (host, port) = text.rsplit_once(':').ok_or(&hint)?;
        let port_is_right = port.parse::<u16>().is_ok_and(|port| port != 0);
        let bare_v6 = host.contains(':') && !(host.starts_with('[') && host.ends_with(']'));
        if host.is_empty() || bare_v6 || !port_is_right || text.contains(['/', ' ']) {
            return Err(hint);
        }
        Ok(Self(text.into()))
    }

    /// The text as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EndpointAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for EndpointAddr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for EndpointAddr {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// A strategy that exists.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Balance(pub &'static Strategy);

impl Balance {
    /// The strategy of this name.
    ///
    /// # Errors
    /// Lists the names that there are.
    pub fn parse(name: &str) -> Result<Self, String> {
        Strategy::named(name).map(Self).ok_or_else(|| {
            let known: Vec<_> = STRATEGIES.iter().map(|strategy| strategy.name).collect();
            format!("no strategy is called `{name}`; {}", suggest(name, &known))
        })
    }
}

impl Default for Balance {
    /// The first registered strategy whose choice follows latency; see `policy::balance`.
    fn default() -> Self {
        Self(Strategy::named("peak_ewma").unwrap_or(&STRATEGIES[0]))
    }
}

impl Serialize for Balance {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.name)
    }
}

impl<'de> Deserialize<'de> for Balance {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}
