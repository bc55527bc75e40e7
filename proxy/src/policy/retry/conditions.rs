//! What counts as a failure to retry, in the words of Envoy's `retry_on` and `retry_grpc_on`.
//!
//! They are as wide as Envoy's, with one difference. Envoy never retries what its own circuit
//! breaker refused, which bounds a whole cluster; here each endpoint has a queue of its own, so
//! another one may well have room. [`Unsent::Overflow`] is therefore covered by `5xx` and
//! `gateway-error`, as the 503 that it would be.

use std::fmt;

use http::{HeaderMap, HeaderName, StatusCode};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Unsent;
use crate::config::list;

/// One condition of Envoy's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// `5xx`: any status from 500 to 599, and no response at all.
    Status5xx,
    /// `gateway-error`: 502, 503 and 504, and no response at all.
    GatewayError,
    /// `reset`: no response at all.
    Reset,
    /// `connect-failure`: no connection.
    ConnectFailure,
    /// `refused-stream`: the endpoint refused to begin.
    RefusedStream,
    /// `retriable-4xx`: 409, as in Envoy.
    Retriable4xx,
    /// `retriable-status-codes`: a status that the route lists.
    RetriableStatusCodes,
    /// `retriable-headers`: a response field that the route lists.
    RetriableHeaders,
    /// `cancelled`: gRPC status 1.
    GrpcCancelled,
    /// `deadline-exceeded`: gRPC status 4.
    GrpcDeadlineExceeded,
    /// `resource-exhausted`: gRPC status 8.
    GrpcResourceExhausted,
    /// `internal`: gRPC status 13.
    GrpcInternal,
    /// `unavailable`: gRPC status 14.
    GrpcUnavailable,
}

/// Each condition with its word: first those of HTTP, then those of gRPC.
const WORDS: [(Condition, &str); 13] = [
    (Condition::Status5xx, "5xx"),
    (Condition::GatewayError, "gateway-error"),
    (Condition::Reset, "reset"),
    (Condition::ConnectFailure, "connect-failure"),
    (Condition::RefusedStream, "refused-stream"),
    (Condition::Retriable4xx, "retriable-4xx"),
    (Condition::RetriableStatusCodes, "retriable-status-codes"),
    (Condition::RetriableHeaders, "retriable-headers"),
    (Condition::GrpcCancelled, "cancelled"),
    (Condition::GrpcDeadlineExceeded, "deadline-exceeded"),
    (Condition::GrpcResourceExhausted, "resource-exhausted"),
    (Condition::GrpcInternal, "internal"),
    (Condition::GrpcUnavailable, "unavailable"),
];

static GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

impl Condition {
    /// The condition of a word.
    pub fn named(word: &str) -> Option<Self> {
        WORDS.iter().find(|(_, known)| *known == word).map(|(condition, _)| *condition)
    }

    const fn bit(self) -> u16 {
        1 << self as u16
    }
}

/// A set of conditions; any of them is enough.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Conditions(u16);

impl Conditions {
    /// No condition: nothing is retried.
    pub const NONE: Conditions = Conditions(0);
    /// All those of gRPC's status.
    pub const GRPC: Conditions = Conditions::of(&[
        Condition::GrpcCancelled,
        Condition::GrpcDeadlineExceeded,
        Condition::GrpcResourceExhausted,
        Condition::GrpcInternal,
        Condition::GrpcUnavailable,
    ]);
    const NO_RESPONSE: Conditions =
        Conditions::of(&[Condition::Status5xx, Condition::GatewayError, Condition::Reset]);
    const GATEWAY: Conditions = Conditions::of(&[Condition::Status5xx, Condition::GatewayError]);

    /// The set of these.
    pub const fn of(conditions: &[Condition]) -> Self {
        let (mut bits, mut next) = (0, 0);
        while next < conditions.len() {
            bits |= conditions[next].bit();
            next += 1;
        }
        Self(bits)
    }

    /// Whether it holds this one.
    pub const fn has(self, condition: Condition) -> bool {
        self.0 & condition.bit() != 0
    }

    /// What is in either.
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What is in both.
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// What is in this and not in the other.
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    const fn has_any(self, others: Self) -> bool {
        self.0 & others.0 != 0
    }

    pub(super) fn cover_unsent(self, unsent: Unsent) -> bool {
        match unsent {
            Unsent::ConnectFailure => self.cover_reset() || self.has(Condition::ConnectFailure),
            Unsent::RefusedStream => self.cover_reset() || self.has(Condition::RefusedStream),
            Unsent::Overflow => self.has_any(Self::GATEWAY),
        }
    }

    pub(super) fn cover_reset(self) -> bool {
        self.has_any(Self::NO_RESPONSE)
    }

    pub(super) fn cover_status(self, status: StatusCode) -> bool {
        match status.as_u16() {
            502..=504 => self.has_any(Self::GATEWAY),
            500..=599 => self.has(Condition::Status5xx),
            409 => self.has(Condition::Retriable4xx),
            _ => false,
        }
    }

    pub(super) fn cover_grpc(self, headers: &HeaderMap) -> bool {
        if !self.has_any(Self::GRPC) {
            return false;
        }
        let condition = match headers.get(&GRPC_STATUS).map(|status| status.as_bytes()) {
            Some(b"1") => Condition::GrpcCancelled,
            Some(b"4") => Condition::GrpcDeadlineExceeded,
            Some(b"8") => Condition::GrpcResourceExhausted,
            Some(b"13") => Condition::GrpcInternal,
            Some(b"14") => Condition::GrpcUnavailable,
            _ => return false,
        };
        self.has(condition)
    }
}

impl Default for Conditions {
    fn default() -> Self {
        Self::of(&[
            Condition::Status5xx,
            Condition::GatewayError,
            Condition::Reset,
            Condition::ConnectFailure,
            Condition::RefusedStream,
        ])
    }
}

impl fmt::Debug for Conditions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = WORDS.iter().filter(|(condition, _)| self.has(*condition));
        f.debug_set().entries(words.map(|(_, word)| word)).finish()
    }
}

impl Serialize for Conditions {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let words = WORDS.iter().filter(|(condition, _)| self.has(*condition));
        serializer.collect_seq(words.map(|(_, word)| word))
    }
}

impl<'de> Deserialize<'de> for Conditions {
    /// A list of words.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut conditions = Self::NONE;
        for word in Vec::<String>::deserialize(deserializer)? {
            let condition = Condition::named(&word).ok_or_else(|| {
                let known = list(&WORDS.map(|(_, word)| word));
                let message = format!("`{word}` is not a condition to retry on; there is {known}");
                serde::de::Error::custom(message)
            })?;
            conditions = conditions.or(Self::of(&[condition]));
        }
        Ok(conditions)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_conditions_are_one_to_one() {
        let mut all = Conditions::NONE;
        for (condition, word) in WORDS {
            assert_eq!(Condition::named(word), Some(condition));
            assert!(!all.has(condition), "{word} shares a bit");
            all = all.or(Conditions::of(&[condition]));
        }
        assert_eq!(all.0.count_ones() as usize, WORDS.len());
        assert_eq!(Condition::named("5XX"), None);
    }

    /// Who covers what, for each condition alone: a table that has to be changed on purpose.
    #[test]
    fn each_condition_covers_what_envoys_does() {
        let grpc = |status: &'static str| {
            let status = http::HeaderValue::from_static(status);
            HeaderMap::from_iter([(GRPC_STATUS.clone(), status)])
        };
        let codes = [400, 409, 429, 499, 500, 501, 502, 503, 504, 505, 599, 600];
        let mut table = String::new();
        for (condition, word) in WORDS {
            let on = Conditions::of(&[condition]);
            let mut covered: Vec<String> = Vec::new();
            let mut note = |covers: bool, what: String| covers.then(|| covered.push(what));
            note(on.cover_unsent(Unsent::ConnectFailure), "no connection".to_owned());
            note(on.cover_unsent(Unsent::RefusedStream), "refused stream".to_owned());
            note(on.cover_unsent(Unsent::Overflow), "overflow".to_owned());
            note(on.cover_reset(), "reset".to_owned());
            for code in codes {
                let status = StatusCode::from_u16(code).expect("a status");
                note(on.cover_status(status), code.to_string());
            }
            for status in ["0", "1", "4", "8", "13", "14", "x"] {
                note(on.cover_grpc(&grpc(status)), format!("grpc {status}"));
            }
            table += &format!("{word}: {}\n", covered.join(", "));
        }
        insta::assert_snapshot!(table);
    }
}
