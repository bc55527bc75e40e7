//! How much time a request has, and what the next hop is told of it.
//!
//! The failure that this prevents is work for nobody: a request whose caller has given up, carried
//! through queues and tried again. A limit therefore travels with the request, as *time left*, as
//! gRPC does it, so that clocks need not agree; it becomes shorter with each hop and each attempt,
//! and a request that arrives with none left is refused without asking anybody. Envoy sends the
//! limit of the whole request instead, however much of it has passed.
//!
//! # Who may say what
//! The route's limit, `grpc-timeout`, `x-envoy-upstream-rq-timeout-ms` and
//! `x-envoy-expected-rq-timeout-ms` are all upper bounds, and the shortest holds. So a caller can
//! shorten its own deadline and nothing else, and needs no trust for that.
//!
//! - **A value that cannot be read is ignored**, as Envoy does and some gRPC servers do not: the
//!   route's limit still holds, and refusing the request would turn a caller's typing error into an
//!   outage. [`Limit::malformed`] says that it happened, so that it can be counted.
//! - **`x-envoy-upstream-rq-timeout-ms: 0`** lifts Envoy's route timeout. To wait longer is not a
//!   caller's to ask for, so here it says nothing.
//! - **`0` or less in the other two** is what a hop sends when nothing is left: the request is over.
//!
//! # What the next hop is told
//! `x-envoy-expected-rq-timeout-ms`, and `grpc-timeout` if the request speaks gRPC or brought one:
//! what is left of the whole and of this attempt, whichever is less, always rounded down. Less than
//! a millisecond cannot be said in the first without saying 0, which Envoy's users read as "no
//! limit"; a request that has less left is over, see [`LEAST`].

use std::time::Duration;

use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};

/// How long a caller of gRPC waits (gRPC over HTTP/2, "Requests").
pub static GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
/// How long a caller wants the sidecar to wait, in milliseconds.
pub static UPSTREAM_TIMEOUT: HeaderName = HeaderName::from_static("x-envoy-upstream-rq-timeout-ms");
/// How long the previous hop waits, in milliseconds.
pub static EXPECTED_TIMEOUT: HeaderName = HeaderName::from_static("x-envoy-expected-rq-timeout-ms");

/// The least that can be passed on. With less left a request is over: it would be refused at the
/// next hop, one round trip later.
pub const LEAST: Duration = Duration::from_millis(1);

/// Where the limit of a request came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The route's configuration.
    Route,
    /// `grpc-timeout`.
    GrpcTimeout,
    /// `x-envoy-upstream-rq-timeout-ms`.
    UpstreamTimeout,
    /// `x-envoy-expected-rq-timeout-ms`.
    ExpectedTimeout,
}

impl Source {
    /// Its name, for counters and logs.
    pub fn name(self) -> &'static str {
        match self {
            Source::Route => "route",
            Source::GrpcTimeout => "grpc-timeout",
            Source::UpstreamTimeout => "x-envoy-upstream-rq-timeout-ms",
            Source::ExpectedTimeout => "x-envoy-expected-rq-timeout-ms",
        }
    }
}

/// How long a request has, from its head to the end of its response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// The shortest of all limits. Zero when the request was over before it came.
    pub timeout: Duration,
    /// Which of them it is.
    pub from: Source,
    /// Whether the next hop is told in gRPC's way too.
    pub is_grpc: bool,
    /// Whether the request brought a limit that could not be read.
    pub malformed: bool,
}

/// A request has no time left that the next hop could be told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("less than 1 ms is left of the deadline")]
pub struct Over;

impl Limit {
    /// The limit of a request that came with `headers` on a route that waits for `route_timeout`.
    pub fn of(headers: &HeaderMap, route_timeout: Duration) -> Self {
        let (is_grpc, malformed) = (false, false);
        let mut limit = Self { timeout: route_timeout, from: Source::Route, is_grpc, malformed };
        // One pass over the few fields of a request is cheaper than four look-ups, and sees every
        // line of a field: none can hide behind the first.
        for (name, value) in headers {
            match name.as_str() {
                "content-type" => limit.is_grpc |= is_grpc_type(value),
                "grpc-timeout" => {
                    limit.is_grpc = true;
                    limit.narrow(value, Source::GrpcTimeout, grpc_timeout);
                }
                "x-envoy-upstream-rq-timeout-ms" => {
                    limit.narrow(value, Source::UpstreamTimeout, upstream_timeout);
                }
                "x-envoy-expected-rq-timeout-ms" => {
                    limit.narrow(value, Source::ExpectedTimeout, expected_timeout);
                }
                _ => {}
            }
        }
        limit
    }

    fn narrow(&mut self, value: &HeaderValue, from: Source, parse: fn(&str) -> Option<Duration>) {
        match value.to_str().ok().and_then(parse) {
            Some(timeout) if timeout < self.timeout => {
                (self.timeout, self.from) = (timeout, from);
            }
            Some(_) => {}
            None => self.malformed = true,
        }
    }

    /// What is left after `elapsed` since the request's head.
    ///
    /// # Errors
    /// When it is less than [`LEAST`]: answer 504 and ask no upstream. True of a request that was
    /// over on arrival, of one that waited too long in a queue, and of one that was tried too long.
    pub fn remaining(&self, elapsed: Duration) -> Result<Duration, Over> {
        let left = self.timeout.saturating_sub(elapsed);
        if left < LEAST { Err(Over) } else { Ok(left) }
    }

    /// How long an attempt that starts `elapsed` after the request's head may take.
    ///
    /// # Errors
    /// As [`Limit::remaining`]. A limit per try below [`LEAST`] is taken as that.
    pub fn for_attempt(
        &self,
        elapsed: Duration,
        per_try: Option<Duration>,
    ) -> Result<Duration, Over> {
        let left = self.remaining(elapsed)?;
        Ok(per_try.map_or(left, |per_try| left.min(per_try.max(LEAST))))
    }
}

/// Tells the next hop that it has `left`, which is what [`Limit::for_attempt`] gave, and takes out
/// what was meant for us. Once for each attempt: a later one has less.
///
/// # Errors
/// When `left` is less than [`LEAST`]; nothing is changed then.
pub fn stamp(headers: &mut HeaderMap, left: Duration, is_grpc: bool) -> Result<(), Over> {
    if left < LEAST {
        return Err(Over);
    }
    let ms = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
    headers.remove(&UPSTREAM_TIMEOUT);
    // By way of a string, which becomes a value as it is; a number is copied once more.
    let ms = HeaderValue::try_from(ms.to_string()).unwrap_or_else(|_| HeaderValue::from(ms));
    headers.insert(EXPECTED_TIMEOUT.clone(), ms);
    if is_grpc {
        headers.insert(GRPC_TIMEOUT.clone(), encode_grpc_timeout(left));
    }
    Ok(())
}

/// True for `application/grpc` and its message formats, such as `application/grpc+proto`; not for
/// gRPC-Web, which has a content type and rules of its own.
pub fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(is_grpc_type)
}

fn is_grpc_type(value: &HeaderValue) -> bool {
    let name = b"application/grpc";
    match value.as_bytes().split_at_checked(name.len()) {
        Some((start, [] | [b'+' | b';' | b' ', ..])) => start.eq_ignore_ascii_case(name),
        _ => false,
    }
}

/// Digits that a `TimeoutValue` may have.
const GRPC_DIGITS: usize = 8;

/// The units of `grpc-timeout`, finest first, with their length in nanoseconds.
const GRPC_UNITS: [(u8, u64); 6] = [
    (b'n', 1),
    (b'u', 1_000),
    (b'm', 1_000_000),
    (b'S', 1_000_000_000),
    (b'M', 60 * 1_000_000_000),
    (b'H', 3600 * 1_000_000_000),
];

fn grpc_timeout(text: &str) -> Option<Duration> {
    let (unit, digits) = text.as_bytes().split_last()?;
    let (_, unit_ns) = GRPC_UNITS.iter().find(|(letter, _)| letter == unit)?;
    if digits.len() > GRPC_DIGITS {
        return None;
    }
    let value = u32::try_from(whole_number(digits)?).ok()?;
    // 99,999,999 hours fit into a duration with room to spare.
    Some(Duration::from_nanos(*unit_ns) * value)
}

/// In the finest unit in which eight digits are enough, rounded down.
fn encode_grpc_timeout(left: Duration) -> HeaderValue {
    let most = 10_u128.pow(GRPC_DIGITS as u32) - 1;
    let in_unit = |unit_ns: u64| left.as_nanos() / u128::from(unit_ns);
    let (unit, value) = GRPC_UNITS
        .iter()
        .map(|(unit, unit_ns)| (*unit, in_unit(*unit_ns)))
        .find(|(_, value)| *value <= most)
        // Beyond eleven thousand years.
        .unwrap_or((b'H', most));
    let text = format!("{value}{}", char::from(unit));
    HeaderValue::try_from(text).unwrap_or(const { HeaderValue::from_static("0n") })
}

fn upstream_timeout(text: &str) -> Option<Duration> {
    let ms = whole_number(text.as_bytes())?;
    // 0 asks for no limit, which is not the caller's to ask for.
    Some(if ms == 0 { Duration::MAX } else { Duration::from_millis(ms) })
}

fn expected_timeout(text: &str) -> Option<Duration> {
    match text.strip_prefix('-') {
        Some(digits) => whole_number(digits.as_bytes()).map(|_| Duration::ZERO),
        None => whole_number(text.as_bytes()).map(Duration::from_millis),
    }
}

/// Digits only: `u64::from_str` would take a `+` too.
fn whole_number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests;
