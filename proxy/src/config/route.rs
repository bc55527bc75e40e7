//! A route as written.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http::header::{HeaderName, HeaderValue};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Name, fields};
use crate::policy::hedge::HedgeOptions;
use crate::policy::limit::rate::RateLimitOptions;
use crate::policy::retry::RetryOptions;

/// Which requests go to which cluster, and what is done for them on the way.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RouteConfig {
    /// The host that the request is for, without a port; any host if absent.
    pub host: Option<String>,
    /// The beginning of the path, in whole segments: `/api` matches `/api` and `/api/users`, not
    /// `/apiary`.
    #[serde(default = "root", deserialize_with = "fields::path_prefix")]
    pub prefix: String,
    /// The cluster's name.
    pub cluster: Name,
    /// Only endpoints with all of these labels; any endpoint if absent.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// From the request's head to the end of its response. 15 s, as Envoy's. A caller may ask for
    /// less, and gets no more.
    #[serde(default = "fifteen_seconds", deserialize_with = "fields::positive_duration")]
    #[serde(serialize_with = "fields::write_duration")]
    pub timeout: Duration,
    /// What is tried again.
    #[serde(default)]
    pub retry: RetryOptions,
    /// What is sent twice because it takes long; nothing if absent.
    pub hedge: Option<HedgeOptions>,
    /// How often requests may come; any number if absent.
    pub rate_limit: Option<RateLimitOptions>,
    /// What of a request the strategies that hash look at; if absent, they draw at random.
    pub hash: Option<HashOn>,
    /// What callers get while the cluster's circuit is open; 503 if absent.
    pub fallback: Option<Fallback>,
}

/// What of a request decides where a consistent hash sends it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum HashOn {
    /// The value of a header field.
    Header(
        #[serde(deserialize_with = "header_name", serialize_with = "fields::write_text")]
        HeaderName,
    ),
    /// The value of a cookie.
    Cookie(String),
    /// The address that the request comes from, without its port.
    Source,
}

/// An answer that is served in place of an upstream's.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Fallback {
    /// Its status. 200: a fallback is an answer.
    #[serde(default = "ok", deserialize_with = "status", serialize_with = "write_status")]
    pub status: StatusCode,
    /// Its body.
    #[serde(deserialize_with = "body", serialize_with = "write_bytes")]
    pub body: Bytes,
    /// Its `Content-Type`.
    #[serde(default = "text", deserialize_with = "header_value", serialize_with = "write_bytes")]
    pub content_type: HeaderValue,
}

impl RouteConfig {
    /// Everything to one cluster.
    pub fn all_to(cluster: impl Into<Name>, timeout: Duration) -> Self {
        Self {
            host: None,
            prefix: root(),
            cluster: cluster.into(),
            labels: BTreeMap::new(),
            timeout,
            retry: RetryOptions::default(),
            hedge: None,
            rate_limit: None,
            hash: None,
            fallback: None,
        }
    }
}

fn root() -> String {
    "/".to_owned()
}

fn fifteen_seconds() -> Duration {
    Duration::from_secs(15)
}

fn ok() -> StatusCode {
    StatusCode::OK
}

fn text() -> HeaderValue {
    HeaderValue::from_static("text/plain; charset=utf-8")
}

fn status<'de, D: Deserializer<'de>>(deserializer: D) -> Result<StatusCode, D::Error> {
    let code = u16::deserialize(deserializer)?;
    let right = (200..600).contains(&code);
    let status = StatusCode::from_u16(code).ok().filter(|_| right);
    status.ok_or_else(|| custom(format!("{code} is not a status; write one from 200 to 599")))
}

fn write_status<S: Serializer>(status: &StatusCode, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u16(status.as_u16())
}

fn write_bytes<S: Serializer>(text: &impl AsRef<[u8]>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&String::from_utf8_lossy(text.as_ref()))
}

fn body<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
    String::deserialize(deserializer).map(Bytes::from)
}

fn header_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<HeaderName, D::Error> {
    let name = String::deserialize(deserializer)?;
    name.parse().map_err(|_| custom(format!("`{name}` is not the name of a header field")))
}

fn header_value<'de, D: Deserializer<'de>>(deserializer: D) -> Result<HeaderValue, D::Error> {
    let value = String::deserialize(deserializer)?;
    value.parse().map_err(|_| custom(format!("`{value}` is not the value of a header field")))
}

fn custom<E: serde::de::Error>(message: String) -> E {
    E::custom(message)
}
