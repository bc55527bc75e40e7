//! Whether a request that failed is tried again, and when.
//!
//! A retry hides a fault that another endpoint, or the next moment, does not have. It does harm in
//! three ways, and each has its answer here:
//!
//! - **It repeats what was done.** A payment that was made before its connection broke is made
//!   twice: Istio retried POST on 503 by default, with that result. So only what is safe by RFC
//!   9110 §9.2.2 and RFC 9113 §8.7 is retried: any request of which nothing was sent, else the
//!   idempotent methods alone. A route can opt in to more; a header cannot.
//! - **It multiplies load** when everything fails. So each retry is paid from a [`Budget`], which
//!   bounds their sum; the limit for one request bounds only that one's.
//! - **It is for nobody** when the caller is gone by the time it is answered. So there is none
//!   unless more time is left than the backoff and what a try is expected to take.
//!
//! The conditions are Envoy's, in Envoy's words, because people's configurations have them. Unlike
//! Envoy's, what is not retried is never silent: each [`GiveUp`] has a name, for a header and a
//! counter.

mod conditions;
mod overrides;
mod pushback;

use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderName, Method, StatusCode};
use rand::Rng;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::backoff::BackoffOptions;
use super::budget::{Budget, Reservation};
use crate::config::fields;

pub use conditions::{Condition, Conditions};
pub use overrides::Overrides;
use pushback::Pushback;

/// When and how often the requests of a route are tried again.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetryOptions {
    /// What counts as a failure to retry, in Envoy's words. By default `5xx`, `gateway-error`,
    /// `reset`, `connect-failure` and `refused-stream`: all that an endpoint's crash looks like,
    /// so that a GET does not notice it. That is wide because safety and the budget are not left
    /// to this list.
    pub on: Conditions,
    /// Tries beyond the first. 2: with one endpoint in three broken, one request in 27 still
    /// fails, and with a broken one left out, none. More is rarely answered in time. 0 turns
    /// retries off.
    pub max_retries: u32,
    /// How long one try may take, if less than the route's timeout. None by default: how long is
    /// too long depends on the service, and a limit that is too short makes load out of slowness.
    #[serde(deserialize_with = "fields::optional_positive_duration")]
    #[serde(serialize_with = "fields::write_optional_duration")]
    pub per_try_timeout: Option<Duration>,
    /// How long to wait before each.
    pub backoff: BackoffOptions,
    /// Retries POST and the like although they may have been carried out. False: only who knows
    /// that the service recognises a repetition can say so. gRPC is POST, so its conditions are of
    /// little use without.
    pub non_idempotent: bool,
    /// How much of a request body is kept for a retry. 64 KiB, as Linkerd's: nearly all bodies of
    /// calls between services, and 64 MiB for a thousand of them at once. A longer body is
    /// sent on all the same, and not retried.
    pub max_body_bytes: usize,
    /// The statuses of `retriable-status-codes`.
    #[serde(deserialize_with = "status_codes", serialize_with = "write_status_codes")]
    pub status_codes: Vec<StatusCode>,
    /// The response fields of `retriable-headers`: one that is there is enough.
    #[serde(deserialize_with = "header_names", serialize_with = "write_header_names")]
    pub headers: Vec<HeaderName>,
    /// The longest wait that a response can ask for with `retry-after` or `grpc-retry-pushback-ms`;
    /// more is taken as this. 300 s, as Linkerd's: longer than any caller waits, so in practice the
    /// deadline decides.
    #[serde(deserialize_with = "fields::positive_duration")]
    #[serde(serialize_with = "fields::write_duration")]
    pub max_retry_after: Duration,
    /// Whether callers may ask for more than the route has, with `x-envoy-max-retries` and its
    /// like. False: they may ask for less. See [`Overrides`].
    pub trust_callers: bool,
}

impl Default for RetryOptions {
    fn default() -> Self {
        Self {
            on: Conditions::default(),
            max_retries: 2,
            per_try_timeout: None,
            backoff: BackoffOptions::default(),
            non_idempotent: false,
            max_body_bytes: 64 * 1024,
            status_codes: Vec::new(),
            headers: Vec::new(),
            max_retry_after: Duration::from_secs(300),
            trust_callers: false,
        }
    }
}

/// Why not a byte of a request was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsent {
    /// No connection: refused, timed out, failed in TLS, or an idle one that was closed under us.
    ConnectFailure,
    /// The endpoint said that it did not begin: `REFUSED_STREAM`, or `GOAWAY` with a lower last
    /// stream (RFC 9113 §8.7).
    RefusedStream,
    /// Our own pool or queue for the endpoint is full.
    Overflow,
}

/// What became of one attempt, as the shell saw it.
#[derive(Clone, Copy, Debug)]
pub enum AttemptOutcome<'a> {
    /// No byte of the request was sent.
    Unsent(Unsent),
    /// The connection broke before a response head; the request may have been carried out.
    Reset,
    /// No response head within the limit per try, while the deadline is not over.
    PerTryTimeout,
    /// A response head came.
    Response {
        /// Its status.
        status: StatusCode,
        /// Its fields. A `grpc-status` among them is one of a trailers-only response.
        headers: &'a HeaderMap,
    },
}

/// Whether a request's body can be sent once more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyState {
    /// All of it that was read is still there.
    Replayable,
    /// A part of it was let go because it was too much to keep.
    TooLarge {
        /// How many bytes are kept.
        limit: usize,
    },
    /// The caller's stream failed: nobody will ever have the whole.
    Broken,
}

/// What matters about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestFacts {
    /// Whether doing it twice is as good as once, by RFC 9110 §9.2.2.
    pub method_is_idempotent: bool,
    /// Whether its body can be sent once more.
    pub body: BodyState,
}

impl RequestFacts {
    /// The facts of a request as of now.
    pub fn of(method: &Method, body: BodyState) -> Self {
        Self { method_is_idempotent: is_idempotent(method), body }
    }
}

/// The methods that RFC 9110 §9.2.2 calls idempotent. Of a method that it does not know, nobody
/// has promised anything.
pub fn is_idempotent(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE | Method::PUT | Method::DELETE
    )
}

/// An attempt that is over, to be judged.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    /// The request that it was one of.
    pub request: RequestFacts,
    /// What became of it.
    pub outcome: AttemptOutcome<'a>,
    /// Attempts made so far, this one included and hedges not.
    pub made: u32,
    /// What is left of the deadline.
    pub remaining: Duration,
    /// What another try is expected to take; `None` if nothing is known.
    pub expected_try: Option<Duration>,
}

/// What to do after an attempt.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// Pass the outcome on: it is no failure, or none that this route retries.
    Accept,
    /// Try once more.
    Retry {
        /// After this wait.
        after: Duration,
        /// Pays for it. Give it back if the request dies in the wait.
        reservation: Reservation,
    },
    /// Pass the outcome on, although it would have been retried but for this.
    GiveUp(GiveUp),
}

/// Why a failure that the route retries was not retried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum GiveUp {
    /// The request may have been carried out, and doing it twice is not known to be harmless.
    NotSafe,
    /// As many retries as the route allows were made.
    Exhausted,
    /// The cluster's budget has none left.
    Budget,
    /// As many retries are under way in the cluster as its limits allow.
    LimitReached,
    /// Another try would not be answered in time.
    Deadline,
    /// The body was too long to be kept.
    BodyTooLarge,
    /// The caller's body failed.
    BodyBroken,
    /// The endpoint asked not to be tried again, or not within the time that is left.
    Pushback,
    /// The endpoint said that it is overloaded or limits its rate.
    Overloaded,
}

impl GiveUp {
    /// All of them, in declaration order.
    pub const ALL: [GiveUp; 9] = [
        GiveUp::NotSafe,
        GiveUp::Exhausted,
        GiveUp::Budget,
        GiveUp::LimitReached,
        GiveUp::Deadline,
        GiveUp::BodyTooLarge,
        GiveUp::BodyBroken,
        GiveUp::Pushback,
        GiveUp::Overloaded,
    ];

    /// Its name in headers and statistics.
    pub fn name(self) -> &'static str {
        match self {
            GiveUp::NotSafe => "not_safe",
            GiveUp::Exhausted => "exhausted",
            GiveUp::Budget => "budget",
            GiveUp::LimitReached => "limit_reached",
            GiveUp::Deadline => "deadline",
            GiveUp::BodyTooLarge => "body_too_large",
            GiveUp::BodyBroken => "body_broken",
            GiveUp::Pushback => "pushback",
            GiveUp::Overloaded => "overloaded",
        }
    }
}

impl RetryOptions {
    /// What to do after `attempt`. Takes a retry out of `budget` when, and only when, the verdict
    /// is [`Verdict::Retry`].
    pub fn judge(
        &self,
        attempt: &Attempt<'_>,
        budget: &mut Budget,
        now: Instant,
        rng: &mut dyn Rng,
    ) -> Verdict {
        if !self.covers(&attempt.outcome) {
            return Verdict::Accept;
        }
        let after = match self.permit(attempt, rng) {
            Ok(after) => after,
            Err(reason) => return Verdict::GiveUp(reason),
        };
        // Last, so that what is refused for another reason costs nothing.
        match budget.try_reserve(now) {
            Some(reservation) => Verdict::Retry { after, reservation },
            None => Verdict::GiveUp(GiveUp::Budget),
        }
    }

    /// Whether an outcome is a failure that this route retries at all. When it is not,
    /// [`RetryOptions::judge`] accepts it: who asks here first needs no lock for the many
    /// requests that succeed.
    pub fn covers(&self, outcome: &AttemptOutcome<'_>) -> bool {
        if self.max_retries == 0 {
            return false;
        }
        match outcome {
            AttemptOutcome::Unsent(unsent) => self.on.cover_unsent(*unsent),
            AttemptOutcome::Reset | AttemptOutcome::PerTryTimeout => self.on.cover_reset(),
            AttemptOutcome::Response { status, headers } => {
                self.on.cover_status(*status)
                    || self.on.cover_grpc(headers)
                    || self.on.has(Condition::RetriableStatusCodes)
                        && self.status_codes.contains(status)
                    || self.on.has(Condition::RetriableHeaders)
                        && self.headers.iter().any(|name| headers.contains_key(name))
            }
        }
    }

    /// The wait before another attempt, if everything but the budget allows one.
    fn permit(&self, attempt: &Attempt<'_>, rng: &mut dyn Rng) -> Result<Duration, GiveUp> {
        let was_unsent = matches!(attempt.outcome, AttemptOutcome::Unsent(_));
        if !(was_unsent || attempt.request.method_is_idempotent || self.non_idempotent) {
            return Err(GiveUp::NotSafe);
        }
        match attempt.request.body {
            BodyState::Replayable => {}
            BodyState::TooLarge { .. } => return Err(GiveUp::BodyTooLarge),
            BodyState::Broken => return Err(GiveUp::BodyBroken),
        }
        let retries = attempt.made.saturating_sub(1);
        if retries >= self.max_retries {
            return Err(GiveUp::Exhausted);
        }
        let asked = match attempt.outcome {
            AttemptOutcome::Response { headers, .. } => self.asked_wait(headers)?,
            _ => Duration::ZERO,
        };
        if asked >= attempt.remaining {
            return Err(if asked.is_zero() { GiveUp::Deadline } else { GiveUp::Pushback });
        }
        // On top of what was asked for: else all that were asked the same would come back at once.
        let after = asked + self.backoff.draw(retries, rng);
        let needed = after + attempt.expected_try.unwrap_or(Duration::ZERO);
        if attempt.remaining <= needed {
            return Err(GiveUp::Deadline);
        }
        Ok(after)
    }

    /// The wait that a response asks for; none if it does not.
    fn asked_wait(&self, headers: &HeaderMap) -> Result<Duration, GiveUp> {
        match Pushback::of(headers) {
            Pushback::None => Ok(Duration::ZERO),
            Pushback::After(wait) => Ok(wait.min(self.max_retry_after)),
            Pushback::Never => Err(GiveUp::Pushback),
            Pushback::Overloaded => Err(GiveUp::Overloaded),
        }
    }
}

fn write_status_codes<S: Serializer>(
    codes: &[StatusCode],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(codes.iter().map(StatusCode::as_u16))
}

fn write_header_names<S: Serializer>(
    names: &[HeaderName],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(names.iter().map(HeaderName::as_str))
}

fn status_codes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<StatusCode>, D::Error> {
    let read = |code: u16| {
        let status = StatusCode::from_u16(code).ok().filter(|status| status.as_u16() < 600);
        status.ok_or_else(|| {
            let message = format!("`{code}` is not a status; write 100 to 599, such as 425");
            serde::de::Error::custom(message)
        })
    };
    Vec::<u16>::deserialize(deserializer)?.into_iter().map(read).collect()
}

fn header_names<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<HeaderName>, D::Error> {
    let read = |name: String| {
        name.parse().map_err(|_| {
            let message = format!("`{name}` is not a field name, such as \"x-try-again\"");
            serde::de::Error::custom(message)
        })
    };
    Vec::<String>::deserialize(deserializer)?.into_iter().map(read).collect()
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "an arbitrary origin for a scripted clock")]
mod tests;
