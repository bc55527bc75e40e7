//! What a caller says about the retries of its own request.
//!
//! Envoy's request fields, read here and taken out, so that the next sidecar does not retry on top.
//! In Envoy they replace the number of retries and add to the conditions, and its edge strips them
//! because a stranger could ask for a hundred. Here the route decides whom to believe:
//!
//! - **By default a caller can only ask for less**: fewer retries, fewer conditions, a shorter limit
//!   per try. That needs no trust.
//! - **With `trust_callers`** it replaces the number of retries and the limit per try and adds
//!   conditions, as in Envoy. The budget, the deadline and what is safe hold all the same: there is
//!   no field with which a caller could have a POST repeated.
//!
//! What cannot be read, and conditions that are not known, are ignored as in Envoy.

use std::borrow::Cow;
use std::time::Duration;

use http::header::{HeaderMap, HeaderName, HeaderValue};

use super::{Condition, Conditions, RetryOptions};

static MAX_RETRIES: HeaderName = HeaderName::from_static("x-envoy-max-retries");
static RETRY_ON: HeaderName = HeaderName::from_static("x-envoy-retry-on");
static RETRY_GRPC_ON: HeaderName = HeaderName::from_static("x-envoy-retry-grpc-on");
static PER_TRY_TIMEOUT: HeaderName =
    HeaderName::from_static("x-envoy-upstream-rq-per-try-timeout-ms");

/// What a request asked for; nothing, for nearly all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `x-envoy-max-retries`.
    pub max_retries: Option<u32>,
    /// The conditions of `x-envoy-retry-on`.
    pub on: Option<Conditions>,
    /// The conditions of `x-envoy-retry-grpc-on`.
    pub grpc_on: Option<Conditions>,
    /// `x-envoy-upstream-rq-per-try-timeout-ms`; 0, which is no limit, counts as not said.
    pub per_try_timeout: Option<Duration>,
}

impl Overrides {
    /// Reads what a request asks for, and takes the fields out of it.
    pub fn take(headers: &mut HeaderMap) -> Self {
        // Nearly every request has none, and a pass over its fields is cheaper than four look-ups.
        if !headers.keys().any(|name| name.as_str().starts_with("x-envoy-")) {
            return Self::default();
        }
        let max_retries = take(headers, &MAX_RETRIES, |text| text.parse().ok());
        let on = take(headers, &RETRY_ON, |text| Some(conditions(text).without(Conditions::GRPC)));
        let grpc_on =
            take(headers, &RETRY_GRPC_ON, |text| Some(conditions(text).and(Conditions::GRPC)));
        let per_try_timeout = take(headers, &PER_TRY_TIMEOUT, |text| text.parse().ok())
            .filter(|ms| *ms > 0)
            .map(Duration::from_millis);
        Self { max_retries, on, grpc_on, per_try_timeout }
    }
}

impl RetryOptions {
    /// These options as one request has them. Costs nothing for a request that asks for nothing.
    pub fn for_request(&self, asked: &Overrides) -> Cow<'_, RetryOptions> {
        if *asked == Overrides::default() {
            return Cow::Borrowed(self);
        }
        let mut options = self.clone();
        let trusted = self.trust_callers;
        if let Some(retries) = asked.max_retries {
            options.max_retries = if trusted { retries } else { retries.min(self.max_retries) };
        }
        if let Some(timeout) = asked.per_try_timeout {
            let shorter = self.per_try_timeout.map_or(timeout, |own| own.min(timeout));
            options.per_try_timeout = Some(if trusted { timeout } else { shorter });
        }
        let http = self.on.without(Conditions::GRPC);
        let grpc = self.on.and(Conditions::GRPC);
        let choose = |own: Conditions, asked: Option<Conditions>| match asked {
            None => own,
            Some(asked) if trusted => own.or(asked),
            Some(asked) => own.and(asked),
        };
        // Each field speaks of its own kind: who asks for a gRPC condition says nothing about 503.
        options.on = choose(http, asked.on).or(choose(grpc, asked.grpc_on));
        Cow::Owned(options)
    }
}

fn take<T>(
    headers: &mut HeaderMap,
    name: &HeaderName,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Option<T> {
    let value: HeaderValue = headers.remove(name)?;
    value.to_str().ok().map(str::trim).and_then(parse)
}

fn conditions(text: &str) -> Conditions {
    let known = text.split(',').filter_map(|word| Condition::named(word.trim()));
    known.fold(Conditions::NONE, |all, condition| all.or(Conditions::of(&[condition])))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(pairs: &[(&'static str, &'static str)]) -> Overrides {
        let mut headers: HeaderMap = pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect();
        let asked = Overrides::take(&mut headers);
        assert!(headers.is_empty(), "left for the next hop: {headers:?}");
        asked
    }

    fn max_retries(options: &RetryOptions, value: &'static str) -> u32 {
        options.for_request(&asked(&[("x-envoy-max-retries", value)])).max_retries
    }

    fn per_try_ms(options: &RetryOptions, value: &'static str) -> Option<u128> {
        let asked = asked(&[("x-envoy-upstream-rq-per-try-timeout-ms", value)]);
        options.for_request(&asked).per_try_timeout.map(|timeout| timeout.as_millis())
    }

    fn trusting() -> RetryOptions {
        RetryOptions { trust_callers: true, ..RetryOptions::default() }
    }

    #[test]
    fn a_request_that_asks_for_nothing_borrows_the_routes() {
        let options = RetryOptions::default();
        assert!(matches!(options.for_request(&asked(&[])), Cow::Borrowed(_)));
    }

    #[test]
    fn callers_get_fewer_retries_and_trusted_ones_more() {
        for (value, untrusted, trusted) in
            [("0", 0, 0), ("1", 1, 1), ("2", 2, 2), ("3", 2, 3), ("-1", 2, 2), ("many", 2, 2)]
        {
            assert_eq!(max_retries(&RetryOptions::default(), value), untrusted, "{value}");
            assert_eq!(max_retries(&trusting(), value), trusted, "{value} trusted");
        }
    }

    #[test]
    fn callers_get_shorter_tries_and_trusted_ones_any() {
        let own = Some(Duration::from_millis(100));
        let limited = RetryOptions { per_try_timeout: own, ..RetryOptions::default() };
        let trusting = RetryOptions { per_try_timeout: own, ..trusting() };
        for (value, unlimited, untrusted, trusted) in [
            ("50", Some(50), Some(50), Some(50)),
            ("150", Some(150), Some(100), Some(150)),
            ("0", None, Some(100), Some(100)),
            ("soon", None, Some(100), Some(100)),
        ] {
            assert_eq!(per_try_ms(&RetryOptions::default(), value), unlimited, "{value}");
            assert_eq!(per_try_ms(&limited, value), untrusted, "{value}");
            assert_eq!(per_try_ms(&trusting, value), trusted, "{value} trusted");
        }
    }

    #[test]
    fn callers_narrow_conditions_and_trusted_ones_add_to_them() {
        use Condition::{GatewayError, GrpcInternal, GrpcUnavailable, Reset, Retriable4xx};
        let own = Conditions::of(&[GatewayError, Reset, GrpcUnavailable]);
        let route = RetryOptions { on: own, ..RetryOptions::default() };
        let trusting = RetryOptions { trust_callers: true, ..route.clone() };
        let on = |options: &RetryOptions, pairs: &[_]| options.for_request(&asked(pairs)).on;

        // An unknown word is ignored, and a word of the other kind is not heard.
        let http = [("x-envoy-retry-on", "reset, retriable-4xx,unavailable,new-in-envoy-9")];
        assert_eq!(on(&route, &http), Conditions::of(&[Reset, GrpcUnavailable]));
        assert_eq!(on(&trusting, &http), own.or(Conditions::of(&[Retriable4xx])));

        let grpc = [("x-envoy-retry-grpc-on", "internal,5xx")];
        assert_eq!(on(&route, &grpc), Conditions::of(&[GatewayError, Reset]));
        assert_eq!(on(&trusting, &grpc), own.or(Conditions::of(&[GrpcInternal])));

        let nothing = [("x-envoy-retry-on", ""), ("x-envoy-retry-grpc-on", "")];
        assert_eq!(on(&route, &nothing), Conditions::NONE);
        assert_eq!(on(&trusting, &nothing), own);
    }
}
