//! The `traceparent` field (W3C Trace Context, <https://www.w3.org/TR/trace-context/>, §3.2).
//!
//! opentelemetry's propagator is not used: it takes identifiers that are too short, forwards only the
//! first of several `tracestate` fields and adds an empty one where there was none. A proxy has to
//! leave `tracestate` as it came, and that is easiest by not touching it.

use std::fmt;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::trace::{SpanId, TraceId};
use rand::Rng;

/// Carries the identifiers of a trace and of the span that is the parent.
pub static TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// Carries what vendors add; it belongs to the trace of the `traceparent` beside it.
pub static TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

const SAMPLED: u8 = 0x01;
/// That the trace's identifier is random (Level 2, §3.2.2.5.2). Passed on, as it has to be.
const RANDOM: u8 = 0x02;

/// Where in which trace we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    /// The trace.
    pub trace: TraceId,
    /// The span within it.
    pub span: SpanId,
    flags: u8,
}

impl Context {
    /// A trace that begins here.
    pub fn root(sampled: bool, rng: &mut dyn Rng) -> Self {
        let mut trace = [0; 16];
        rng.fill_bytes(&mut trace);
        // All zeros would be no identifier; one in 2^128 needs an answer too.
        trace[15] |= u8::from(trace == [0; 16]);
        let flags = RANDOM | if sampled { SAMPLED } else { 0 };
        Self { trace: TraceId::from_bytes(trace), span: span(rng), flags }
    }

    /// Another span of the same trace.
    pub fn child(&self, rng: &mut dyn Rng) -> Self {
        Self { span: span(rng), ..*self }
    }

    /// Whether spans of this trace are kept.
    pub fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// What a request carries: `None` for none, several, or one that is wrong.
    pub fn extract(headers: &HeaderMap) -> Option<Self> {
        let mut fields = headers.get_all(&TRACEPARENT).iter();
        let field = fields.next()?;
        if fields.next().is_some() {
            return None;
        }
        Self::parse(field.as_bytes())
    }

    /// `version "-" trace-id "-" parent-id "-" flags`, in lower-case hexadecimal. Later versions may
    /// go on after another dash (§4.3).
    fn parse(text: &[u8]) -> Option<Self> {
        let (head, rest) = text.split_at_checked(55)?;
        let dashes = [2, 35, 52].iter().all(|place| head[*place] == b'-');
        let version = hex::<1>(&head[..2])?[0];
        let goes_on = version != 0 && rest.starts_with(b"-");
        if !dashes || version == 0xff || !(rest.is_empty() || goes_on) {
            return None;
        }
        let trace = TraceId::from_bytes(hex(&head[3..35])?);
        let span = SpanId::from_bytes(hex(&head[36..52])?);
        let flags = hex::<1>(&head[53..])?[0] & (SAMPLED | RANDOM);
        (trace != TraceId::INVALID && span != SpanId::INVALID).then_some(Self {
            trace,
            span,
            flags,
        })
    }

    /// Makes a request carry it.
    pub fn inject(&self, headers: &mut HeaderMap) {
        if let Ok(value) = HeaderValue::from_str(&self.to_string()) {
            headers.insert(&TRACEPARENT, value);
        }
    }
}

impl fmt::Display for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-{:02x}", self.trace, self.span, self.flags)
    }
}

fn span(rng: &mut dyn Rng) -> SpanId {
    SpanId::from_bytes(rng.next_u64().max(1).to_be_bytes())
}

/// Lower-case hexadecimal of exactly `N` bytes.
fn hex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    if text.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rng::stream;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn parse(text: &str) -> Option<String> {
        Context::parse(text.as_bytes()).map(|context| context.to_string())
    }

    #[test]
    fn what_is_right_is_taken() {
        assert_eq!(parse(GOOD).as_deref(), Some(GOOD));
        let of_later_version = GOOD.replacen("00", "cc", 1);
        assert_eq!(parse(&of_later_version).as_deref(), Some(GOOD));
        assert_eq!(parse(&format!("{of_later_version}-what-ever")).as_deref(), Some(GOOD));
        let flags = format!("{}ff", &GOOD[..53]);
        assert_eq!(parse(&flags), Some(format!("{}03", &GOOD[..53])), "unknown flags are cleared");
    }

    /// The cases of W3C's own test suite.
    #[test]
    fn what_is_wrong_is_not() {
        let cases = [
            String::new(),
            GOOD[..54].to_owned(),
            format!("{GOOD}-"),
            format!("{GOOD}0"),
            format!("{}0", GOOD.replacen("00", "cc", 1)),
            GOOD.replacen("00", "ff", 1),
            GOOD.replacen("00", ".0", 1),
            GOOD.replace('f', "F"),
            GOOD.replace('-', "_"),
            GOOD.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            GOOD.replace("00f067aa0ba902b7", &"0".repeat(16)),
            GOOD.replace("4bf9", "+bf9"),
            format!("{}.1", &GOOD[..53]),
        ];
        for case in cases {
            assert_eq!(parse(&case), None, "{case}");
        }
    }

    #[test]
    fn two_parents_are_none() {
        let mut headers = HeaderMap::new();
        headers.append(&TRACEPARENT, HeaderValue::from_static(GOOD));
        assert!(Context::extract(&headers).is_some());
        headers.append(&TRACEPARENT, HeaderValue::from_static(GOOD));
        assert_eq!(Context::extract(&headers), None);
    }

    proptest! {
        #[test]
        fn what_is_sent_is_read_back(seed: u64, sampled: bool) {
            let mut rng = stream(seed, "trace");
            let root = Context::root(sampled, &mut rng);
            let child = root.child(&mut rng);
            let mut headers = HeaderMap::new();
            child.inject(&mut headers);
            prop_assert_eq!(Context::extract(&headers), Some(child));
            prop_assert_eq!((child.trace, child.is_sampled()), (root.trace, sampled));
            prop_assert_ne!(child.span, root.span);
        }

        #[test]
        fn no_text_is_a_panic(text: Vec<u8>) {
            let _ = Context::parse(&text);
        }
    }
}
