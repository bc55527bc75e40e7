//! What the client does.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::time::Duration;

use loadgen::Target;
use loadgen::plan::{Arrivals, Plan, PlanError, Stage};
use proxy::config::fields::{duration, optional_positive_duration, positive_duration};
use schemars::JsonSchema;
use serde::Deserialize;
use sim::mix::Mix;
use toml::Spanned;

use super::{fields, schema};

/// The client's plan.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Load {
    /// How arrivals are spread; not for `users`.
    #[serde(default, deserialize_with = "fields::arrivals")]
    #[schemars(with = "Option<schema::ArrivalsName>")]
    pub arrivals: Option<Spanned<Arrivals>>,
    /// Arrivals per second, on average.
    #[serde(default, deserialize_with = "fields::rate")]
    #[schemars(with = "Option<f64>", extend("exclusiveMinimum" = 0))]
    pub rate: Option<Spanned<f64>>,
    /// Arrivals per second that change, instead: points, between which the rate changes evenly.
    #[schemars(with = "Option<Vec<StagePoint>>")]
    pub stages: Option<Spanned<Vec<StagePoint>>>,
    /// So many callers who ask again when they have been answered, instead: a closed loop.
    #[serde(default, deserialize_with = "fields::users")]
    #[schemars(with = "Option<NonZeroUsize>")]
    pub users: Option<Spanned<usize>>,
    /// Clients that share all that, request by request in turn, each with a sidecar of its own that
    /// knows nothing of the others'.
    #[serde(default = "fields::one", deserialize_with = "fields::clients")]
    #[schemars(range(min = 1, max = 100))]
    pub clients: NonZeroUsize,
    /// How much of the beginning expectations do not look at unless they say so.
    #[serde(default, deserialize_with = "fields::optional_positive_spanned_duration")]
    #[schemars(with = "Option<Duration>")]
    pub warm_up: Option<Spanned<Duration>>,
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
    /// Fields that it carries beside those of [`Load::headers`].
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// As [`Load::deadline`], which it takes the place of.
    #[serde(default, deserialize_with = "optional_positive_duration")]
    pub deadline: Option<Duration>,
    /// Whether it carries an `idempotency-key` of its own, by which an application knows a
    /// repetition.
    #[serde(default)]
    pub idempotency_key: bool,
}

/// A point of a changing rate.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StagePoint {
    /// From the start of the run.
    #[serde(deserialize_with = "duration")]
    pub at: Duration,
    /// Requests per second then. Two points at one instant are a step.
    #[schemars(range(min = 0))]
    pub rate: f64,
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
    /// When requests are wanted, for a run of this length; `rate` takes the place of the file's own.
    ///
    /// # Errors
    /// Says what cannot be planned.
    pub fn plan(
        &self,
        rate: Option<f64>,
        duration: Duration,
        seed: u64,
    ) -> Result<Plan, PlanError> {
        let arrivals = self.arrivals.as_ref().map(|arrivals| *arrivals.get_ref());
        let arrivals = arrivals.unwrap_or_default();
        if self.users.is_some() {
            return Plan::closed(duration);
        }
        let rate = rate.or(self.rate.as_ref().map(|rate| *rate.get_ref()));
        match (&self.stages, rate) {
            (Some(stages), _) => {
                Plan::staged(arrivals, &stages_of(stages.get_ref(), duration), seed)
            }
            (None, Some(rate)) => Plan::new(arrivals, rate, duration, seed),
            (None, None) => Err(PlanError::Empty),
        }
    }

    /// Requests in flight at most.
    pub fn max_in_flight(&self) -> usize {
        self.users.as_ref().map_or(self.max_in_flight.get(), |users| *users.get_ref())
    }

    /// How arrivals are spread, in a word.
    pub fn arrivals_name(&self) -> &'static str {
        let arrivals = self.arrivals.as_ref().map(|arrivals| arrivals.get_ref().name());
        arrivals.unwrap_or("closed")
    }

    /// Arrivals per second on average; 0 for a closed loop.
    pub fn mean_rate_per_s(&self, rate: Option<f64>, duration: Duration) -> f64 {
        let rate = self.plan(rate, duration, 0).map(|plan| plan.rate_per_s());
        rate.ok().filter(|rate| rate.is_finite()).unwrap_or_default()
    }

    /// Where expectations begin to look.
    pub fn looked_at_from(&self) -> Duration {
        self.warm_up.as_ref().map(|warm_up| *warm_up.get_ref()).unwrap_or_default()
    }

    /// Where it says how much there is to do.
    pub(super) fn amount(&self) -> Option<(&'static str, Range<usize>)> {
        let rate = self.rate.as_ref().map(|rate| ("rate", rate.span()));
        let stages = self.stages.as_ref().map(|stages| ("stages", stages.span()));
        let users = self.users.as_ref().map(|users| ("users", users.span()));
        rate.or(stages).or(users)
    }

    /// The requests to `service`: which is the n-th is a function of the seed and n alone.
    ///
    /// # Errors
    /// Says what cannot be sent.
    pub fn mix(&self, service: &str, seed: u64) -> Result<Mix, CannotSend> {
        let cannot = |error: &dyn ToString| CannotSend {
            field: "load.mix".to_owned(),
            reason: Spanned::new(
                self.amount().map(|(_, at)| at).unwrap_or_default(),
                error.to_string(),
            ),
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
        let deadlines = self.mix.iter().map(|kind| kind.get_ref().deadline).collect();
        let mix = Mix::new(seed, targets).map_err(|error| cannot(&error))?;
        Ok(mix.with_deadlines(deadlines))
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
        let mut target = target.and_then(with_body).map_err(|error| error.to_string())?;
        let key = self.idempotency_key.then_some(("idempotency-key", "{{index}}"));
        let headers = self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in headers.chain(key) {
            target = target.with_header(name, value).map_err(|error| error.to_string())?;
        }
        Ok(target)
    }
}

/// The points of a rate as the load generator wants them: from the beginning to the end.
fn stages_of(points: &[StagePoint], end: Duration) -> Vec<Stage> {
    let point = |point: &StagePoint| Stage { at: point.at, rate_per_s: point.rate };
    let mut stages: Vec<_> = points.iter().map(point).collect();
    // What is said last holds to the end.
    if let Some(last) = stages.last().copied().filter(|last| last.at < end) {
        stages.push(Stage { at: end, ..last });
    }
    stages
}
