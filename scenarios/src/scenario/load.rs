//! What the client does.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::time::Duration;

use loadgen::Target;
use loadgen::plan::Arrivals;
use proxy::config::fields::{optional_positive_duration, positive_duration};
use schemars::JsonSchema;
use serde::Deserialize;
use sim::mix::Mix;
use toml::Spanned;

use super::{fields, schema};

/// The client's plan.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Load {
    /// How arrivals are spread.
    #[serde(deserialize_with = "fields::arrivals")]
    #[schemars(with = "schema::ArrivalsName")]
    pub arrivals: Arrivals,
    /// Arrivals per second, on average.
    #[serde(deserialize_with = "fields::rate")]
    #[schemars(with = "f64", extend("exclusiveMinimum" = 0))]
    pub rate: Spanned<f64>,
    /// What is sent, by shares; only `GET /` if absent.
    #[serde(default)]
    #[schemars(with = "Vec<RequestKind>")]
    pub mix: Vec<Spanned<RequestKind>>,
    /// Fields that each request carries.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, String>")]
    pub headers: BTreeMap<String, Spanned<String>>,
    /// An answer later than this after its planned instant is a failure, but is not cancelled.
    #[serde(default, deserialize_with = "optional_positive_duration")]
    pub deadline: Option<Duration>,
    /// The client cancels a request this long after it sent it.
    #[serde(deserialize_with = "positive_duration")]
    pub timeout: Duration,
    /// Requests in flight at most; beyond, they wait at the client.
    #[serde(default = "fields::default_max_in_flight")]
    pub max_in_flight: NonZeroUsize,
}

/// One sort of request.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RequestKind {
    /// Its method.
    #[serde(default = "get")]
    pub method: String,
    /// What is asked for.
    #[serde(default = "root")]
    pub path: String,
    /// How many requests are of this sort, as a part of the sum of all shares.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub share: f64,
    /// How long its body is, in bytes.
    #[serde(default, deserialize_with = "fields::byte_count")]
    #[schemars(with = "schema::ByteCount")]
    pub body: usize,
}

fn get() -> String {
    "GET".to_owned()
}

fn root() -> String {
    "/".to_owned()
}

/// Something that cannot be sent: which field, where it stands, and why.
#[derive(Clone, Debug)]
pub struct CannotSend {
    /// The field, such as `load.mix[1]`.
    pub field: String,
    /// Why not.
    pub reason: Spanned<String>,
}

impl Load {
    /// The requests to `service`: which is the n-th is a function of the seed and n alone.
    ///
    /// # Errors
    /// Says what cannot be sent.
    pub fn mix(&self, service: &str, seed: u64) -> Result<Mix, CannotSend> {
        let cannot = |error: &dyn ToString| CannotSend {
            field: "load.mix".to_owned(),
            reason: Spanned::new(self.rate.span(), error.to_string()),
        };
        let plain = Target::from_url(&format!("http://{service}/")).map_err(|e| cannot(&e))?;
        let plain = self.with_headers(plain)?;
        let mut targets = Vec::new();
        for (index, kind) in self.mix.iter().enumerate() {
            let cannot = |reason| CannotSend {
                field: format!("load.mix[{index}]"),
                reason: Spanned::new(kind.span(), reason),
            };
            let target = kind.get_ref().target(service).map_err(cannot)?;
            targets.push((self.with_headers(target)?, kind.get_ref().share));
        }
        if targets.is_empty() {
            return Ok(plain.into());
        }
        Mix::new(seed, targets).map_err(|error| cannot(&error))
    }

    fn with_headers(&self, mut target: Target) -> Result<Target, CannotSend> {
        for (name, value) in &self.headers {
            target = target.with_header(name, value.get_ref()).map_err(|error| CannotSend {
                field: format!("load.headers.{name}"),
                reason: Spanned::new(value.span(), error.to_string()),
            })?;
        }
        Ok(target)
    }
}

impl RequestKind {
    fn target(&self, service: &str) -> Result<Target, String> {
        if !(self.share.is_finite() && self.share > 0.0) {
            let share = self.share;
            return Err(format!("{share} is not a share; write a number above 0, such as 0.8"));
        }
        if !self.path.starts_with('/') {
            return Err(format!("the path `{}` must begin with `/`, such as \"/a\"", self.path));
        }
        let target = Target::from_url(&format!("http://{service}{}", self.path));
        let target = target.and_then(|target| target.with_method(&self.method));
        let with_body = |target: Target| match self.body {
            0 => Ok(target),
            length => target.with_body(vec![b'x'; length]),
        };
        target.and_then(with_body).map_err(|error| error.to_string())
    }
}
