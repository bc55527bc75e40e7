//! What a response says about being tried again.
//!
//! - `x-envoy-overloaded` and `x-envoy-ratelimited` are a peer's word that it turned the request
//!   away on purpose. As in Envoy, that is never retried.
//! - `grpc-retry-pushback-ms` (gRFC A6): milliseconds to wait; what is negative or cannot be read
//!   means no retry.
//! - `retry-after` (RFC 9110 §10.2.3): seconds, or a date. A date is read as seconds after the
//!   response's own `date`, since both are from one clock: no clock of ours is asked, which could
//!   be off, and which a simulation does not have. A date without `date` says to wait for a time
//!   that we cannot know, so it is taken as a no. What is neither is ignored, as if it were not
//!   there.

use std::time::Duration;

use http::header::{HeaderMap, HeaderValue};

use Pushback::After;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pushback {
    /// It does not say anything.
    None,
    /// Not before that.
    After(Duration),
    /// Not at all.
    Never,
    /// Not at all, because there is too much already.
    Overloaded,
}

impl Pushback {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let (mut grpc, mut http, mut date) = (None, None, None);
        // The fields are few: one pass is cheaper than a look-up for each name.
        for (name, value) in headers {
            match name.as_str() {
                "x-envoy-overloaded" | "x-envoy-ratelimited" => return Pushback::Overloaded,
                "grpc-retry-pushback-ms" => grpc = Some(value),
                "retry-after" => http = Some(value),
                "date" => date = Some(value),
                _ => {}
            }
        }
        match (grpc, http) {
            (Some(grpc), _) => grpc_pushback(grpc),
            (None, Some(http)) => retry_after(http, date),
            (None, None) => Pushback::None,
        }
    }
}

/// gRFC A6 has 32 bits with a sign; a negative number cannot be read as one without.
fn grpc_pushback(value: &HeaderValue) -> Pushback {
    let ms = text(value).and_then(|text| text.parse::<u32>().ok());
    ms.map_or(Pushback::Never, |ms| After(Duration::from_millis(ms.into())))
}

fn retry_after(value: &HeaderValue, date: Option<&HeaderValue>) -> Pushback {
    let Some(value) = text(value) else { return Pushback::None };
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than fit are still a long time.
        return After(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let Ok(until) = httpdate::parse_http_date(value) else { return Pushback::None };
    let sent = date.and_then(text).and_then(|date| httpdate::parse_http_date(date).ok());
    match sent {
        Some(sent) => After(until.duration_since(sent).unwrap_or(Duration::ZERO)),
        None => Pushback::Never,
    }
}

fn text(value: &HeaderValue) -> Option<&str> {
    value.to_str().ok().map(str::trim)
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;

    fn of(pairs: &[(&'static str, &'static str)]) -> Pushback {
        let field = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        Pushback::of(&pairs.iter().map(field).collect())
    }

    fn after(seconds: u64) -> Pushback {
        After(Duration::from_secs(seconds))
    }

    #[test]
    fn seconds_are_waited_for_and_nonsense_is_ignored() {
        assert_eq!(of(&[]), Pushback::None);
        assert_eq!(of(&[("retry-after", "0")]), after(0));
        assert_eq!(of(&[("retry-after", " 120 ")]), after(120));
        assert_eq!(of(&[("retry-after", "99999999999999999999999")]), after(u64::MAX));
        for nonsense in ["", "soon", "-1", "+1", "1.5", "1 2"] {
            assert_eq!(of(&[("retry-after", nonsense)]), Pushback::None, "{nonsense}");
        }
    }

    #[test]
    fn a_date_counts_from_the_responses_own() {
        let until = ("retry-after", "Fri, 31 Dec 1999 23:59:59 GMT");
        assert_eq!(of(&[until, ("date", "Fri, 31 Dec 1999 23:59:50 GMT")]), after(9));
        assert_eq!(of(&[until, ("date", "Sat, 01 Jan 2000 00:00:00 GMT")]), after(0));
        assert_eq!(of(&[until]), Pushback::Never);
        assert_eq!(of(&[until, ("date", "today")]), Pushback::Never);
    }

    #[test]
    fn grpc_pushback_is_milliseconds_or_a_no() {
        let grpc = |value| of(&[("grpc-retry-pushback-ms", value), ("retry-after", "9")]);
        assert_eq!(grpc("0"), after(0));
        assert_eq!(grpc("2000"), after(2));
        for no in ["-1", "-2147483648", "", "soon", "1.5", "4294967296"] {
            assert_eq!(grpc(no), Pushback::Never, "{no}");
        }
    }

    #[test]
    fn a_peer_that_turns_away_on_purpose_is_left_alone() {
        let wait = ("retry-after", "0");
        assert_eq!(of(&[("x-envoy-overloaded", "true"), wait]), Pushback::Overloaded);
        assert_eq!(of(&[("x-envoy-ratelimited", "true"), wait]), Pushback::Overloaded);
    }
}
