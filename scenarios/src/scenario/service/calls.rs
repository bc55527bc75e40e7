//! What a service calls for each request, as it is written: a name, a table, or a list of both, in
//! which a list within the list is called at once.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU32;
use std::ops::Range;

use http::uri::PathAndQuery;
use http::{HeaderMap, Method};
use schemars::JsonSchema;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use toml::Spanned;

use crate::scenario::fields;

/// The most calls that one request may cause at one instance: beyond it, nothing is learned that
/// fewer would not teach.
pub(in crate::scenario) const MOST_CALLS: u32 = 1000;

/// Calls as written: `"a"`, `["a", "b"]`, `[["a", "b"], "c"]`, `{ service = "a", times = 8 }`.
#[derive(Clone, Debug)]
pub enum Calls {
    /// A service, once.
    Name(String),
    /// A service in more detail.
    Long(Box<CallTable>),
    /// One after the other; at once, in a list within a list.
    List(Vec<Spanned<Calls>>),
}

/// A call in detail.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CallTable {
    /// The service that is called.
    pub service: String,
    /// How often, one after the other.
    #[serde(default = "once")]
    pub times: NonZeroU32,
    /// The method; that of the request it is made for if absent.
    #[serde(default, deserialize_with = "fields::optional_method")]
    #[schemars(with = "Option<String>")]
    pub method: Option<Method>,
    /// What is asked for.
    #[serde(default = "root", deserialize_with = "fields::path")]
    #[schemars(with = "String")]
    pub path: PathAndQuery,
    /// Fields that it carries, in place of what is handed on under their names.
    #[serde(default, deserialize_with = "fields::headers")]
    #[schemars(with = "BTreeMap<String, String>")]
    pub headers: HeaderMap,
    /// The probability that it is made, each time.
    #[serde(default = "always", deserialize_with = "fields::fraction")]
    #[schemars(range(max = 1), extend("exclusiveMinimum" = 0))]
    pub share: f64,
}

fn once() -> NonZeroU32 {
    NonZeroU32::MIN
}

fn root() -> PathAndQuery {
    PathAndQuery::from_static("/")
}

fn always() -> f64 {
    1.0
}

/// One call, and where it stands.
#[derive(Clone, Debug)]
pub struct WrittenCall {
    /// What is said of it.
    pub table: CallTable,
    /// Its place in the file.
    pub span: Range<usize>,
}

/// Lists are deeper than lists within a list.
#[derive(Clone, Debug)]
pub struct TooDeep(pub Range<usize>);

impl Calls {
    /// The calls in groups, those of a group at once, group after group.
    ///
    /// # Errors
    /// When a list stands in a list that stands in a list.
    pub fn groups(&self, span: Range<usize>) -> Result<Vec<Vec<WrittenCall>>, TooDeep> {
        let Calls::List(steps) = self else { return Ok(vec![vec![self.single(span)?]]) };
        let group = |step: &Spanned<Calls>| match step.get_ref() {
            Calls::List(members) => {
                members.iter().map(|member| member.get_ref().single(member.span())).collect()
            }
            call => Ok(vec![call.single(step.span())?]),
        };
        steps.iter().map(group).collect()
    }

    fn single(&self, span: Range<usize>) -> Result<WrittenCall, TooDeep> {
        let table = match self {
            Calls::Name(service) => CallTable {
                service: service.clone(),
                times: once(),
                method: None,
                path: root(),
                headers: HeaderMap::new(),
                share: always(),
            },
            Calls::Long(table) => (**table).clone(),
            Calls::List(_) => return Err(TooDeep(span)),
        };
        Ok(WrittenCall { table, span })
    }
}

impl<'de> Deserialize<'de> for Calls {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct CallsVisitor;

        impl<'de> Visitor<'de> for CallsVisitor {
            type Value = Calls;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a service's name, a table with `service`, or a list of them")
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<Calls, E> {
                Ok(Calls::Name(name.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Calls, A::Error> {
                let table = CallTable::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Calls::Long(Box::new(table)))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Calls, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(list)).map(Calls::List)
            }
        }

        deserializer.deserialize_any(CallsVisitor)
    }
}
