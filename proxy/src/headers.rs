//! The fields that are ours, and those that may not be forwarded. Pure.

use http::Version;
use http::header::{
    CONNECTION, CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue, TE, TRANSFER_ENCODING,
    UPGRADE, VIA,
};

/// Says with Envoy's letters why the sidecar answered in an upstream's place.
pub static FLAGS: HeaderName = HeaderName::from_static("x-sidecar-flags");
/// Says the same in a sentence.
pub static REASON: HeaderName = HeaderName::from_static("x-sidecar-reason");
/// Says why a failure was not tried again.
pub static RETRY_GIVEN_UP: HeaderName = HeaderName::from_static("x-sidecar-retry-given-up");
/// Says that the endpoint was chosen although it was believed to be bad.
pub static PANIC: HeaderName = HeaderName::from_static("x-sidecar-panic");
/// Says which configuration answered, counted from 1.
pub static GENERATION: HeaderName = HeaderName::from_static("x-sidecar-config-generation");
/// Says that a limit refused the request, as Envoy does.
pub static OVERLOADED: HeaderName = HeaderName::from_static("x-envoy-overloaded");
/// Tells an endpoint which attempt it sees, and a caller how many there were, as Envoy does.
pub static ATTEMPT_COUNT: HeaderName = HeaderName::from_static("x-envoy-attempt-count");

/// Fields that speak of one connection only, whether or not `Connection` lists them
/// (RFC 9110 §7.6.1; `Proxy-Connection` and `Keep-Alive` from older practice).
static HOP_BY_HOP: [HeaderName; 5] = [
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    TRANSFER_ENCODING,
    UPGRADE,
    TE,
];

/// True of those, and of `Connection`. By text: to compare with six names one by one takes longer.
fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection" | "keep-alive" | "proxy-connection" | "transfer-encoding" | "upgrade" | "te"
    )
}

/// Removes what belongs to the connection a message came in on (RFC 9110 §7.6.1).
///
/// That includes `TE`: what the caller accepts of this connection says nothing about the next one.
pub fn strip_hop_by_hop(headers: &mut HeaderMap) {
    // Most messages have none of them, or `Connection` alone, and a pass over their few fields is
    // cheaper than seven look-ups, each of which hashes a name.
    let mut found = headers.keys().filter(|name| is_hop_by_hop(name));
    let is_only_connection = match (found.next(), found.next()) {
        (None, _) => return,
        (Some(name), None) => *name == CONNECTION,
        (Some(_), Some(_)) => false,
    };
    if !is_only_connection && headers.contains_key(TRANSFER_ENCODING) {
        // It overrides a length, which must then not be passed on (RFC 9112 §6.3): the next
        // recipient would believe it and take the rest of the body for another message.
        headers.remove(CONTENT_LENGTH);
    }
    for name in connection_options(headers) {
        // `Connection: host` must not take away what routes the message.
        if name != HOST {
            headers.remove(name);
        }
    }
    if !is_only_connection {
        for name in &HOP_BY_HOP {
            headers.remove(name);
        }
    }
}

/// Takes out `Connection`, and gives the fields that it lists.
fn connection_options(headers: &mut HeaderMap) -> Vec<HeaderName> {
    let mut names = Vec::new();
    for value in headers.get_all(CONNECTION) {
        let options = value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
        // What nearly every message says, and no field that is not removed anyhow.
        let fields = options.filter(|option| {
            !option.eq_ignore_ascii_case(b"keep-alive") && !option.eq_ignore_ascii_case(b"close")
        });
        names.extend(fields.filter_map(|field| HeaderName::from_bytes(field).ok()));
    }
    headers.remove(CONNECTION);
    names
}

/// True when a caller takes trailers (RFC 9110 §10.1.4).
pub fn accepts_trailers(headers: &HeaderMap) -> bool {
    // A pass over few fields is cheaper than a look-up.
    let fields = headers.iter().filter(|(name, _)| *name == TE);
    let mut codings = fields.flat_map(|(_, te)| te.as_bytes().split(|b| *b == b','));
    codings.any(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"trailers"))
}

/// Says that trailers are welcome on the next connection too.
pub fn accept_trailers(headers: &mut HeaderMap) {
    headers.insert(TE, HeaderValue::from_static("trailers"));
    headers.append(CONNECTION, HeaderValue::from_static("te"));
}

/// Adds ourselves to the intermediaries that a message has passed; `received` is the version it
/// came in (RFC 9110 §7.6.3).
pub fn append_via(headers: &mut HeaderMap, received: Version) {
    let via = if received == Version::HTTP_10 { "1.0 meshbench" } else { "1.1 meshbench" };
    headers.append(VIA, HeaderValue::from_static(via));
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::{prop, prop_assert_eq, proptest};

    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    fn stripped(pairs: &[(&'static str, &'static str)]) -> Vec<String> {
        let mut headers = headers(pairs);
        strip_hop_by_hop(&mut headers);
        headers.iter().map(|(n, v)| format!("{n}: {}", v.to_str().unwrap_or("?"))).collect()
    }

    #[test]
    fn connection_and_what_it_lists_go() {
        assert_eq!(
            stripped(&[
                ("host", "a"),
                ("connection", "close, X-Once"),
                ("x-once", "1"),
                ("keep-alive", "timeout=5"),
                ("upgrade", "websocket"),
                ("transfer-encoding", "chunked"),
                ("te", "trailers"),
                ("x-kept", "2"),
            ]),
            ["host: a", "x-kept: 2"]
        );
    }

    #[test]
    fn each_goes_also_when_it_comes_alone() {
        for name in HOP_BY_HOP.iter().chain([&CONNECTION]) {
            let mut headers = headers(&[("host", "a")]);
            headers.insert(name, HeaderValue::from_static("1"));
            strip_hop_by_hop(&mut headers);
            assert_eq!(headers.keys().collect::<Vec<_>>(), [HOST], "{name}");
        }
    }

    #[test]
    fn a_message_cannot_talk_us_out_of_its_host() {
        assert_eq!(stripped(&[("host", "a"), ("connection", "host")]), ["host: a"]);
    }

    #[test]
    fn a_length_beside_a_transfer_coding_goes() {
        assert_eq!(stripped(&[("transfer-encoding", "chunked"), ("content-length", "5")]), [""; 0]);
        let hidden = [
            ("connection", "transfer-encoding"),
            ("transfer-encoding", "x"),
            ("content-length", "5"),
        ];
        assert_eq!(stripped(&hidden), [""; 0]);
        assert_eq!(stripped(&[("content-length", "5")]), ["content-length: 5"]);
    }

    #[test]
    fn only_the_word_trailers_accepts_trailers() {
        let accepts = |te| accepts_trailers(&headers(&[("te", te)]));
        assert!(accepts("trailers") && accepts("deflate;q=0.5, Trailers"));
        assert!(!accepts("") && !accepts("deflate") && !accepts("trailers-not"));
    }

    proptest! {
        /// Whatever `Connection` says, nothing that it lists is left but the host, nothing
        /// hop-by-hop is left, and nothing else is lost.
        #[test]
        fn exactly_what_connection_lists_goes(
            fields in prop::collection::btree_set("x-[a-f]{1,2}", 0..8),
            listed in prop::collection::vec("(host|close|keep-alive|te|x-[a-f]{1,2}|[ ,;]{1,3})", 0..8),
            lines in 1..4usize,
        ) {
            let mut map = HeaderMap::new();
            map.insert(HOST, HeaderValue::from_static("a"));
            map.insert(TE, HeaderValue::from_static("trailers"));
            for field in &fields {
                map.insert(HeaderName::from_bytes(field.as_bytes())?, HeaderValue::from_static("1"));
            }
            for line in listed.chunks(listed.len().div_ceil(lines).max(1)) {
                map.append(CONNECTION, HeaderValue::from_str(&line.join(" , "))?);
            }
            strip_hop_by_hop(&mut map);
            let left: BTreeSet<_> = map.keys().map(HeaderName::to_string).collect();
            let mut expected: BTreeSet<_> =
                fields.into_iter().filter(|field| !listed.contains(field)).collect();
            expected.insert("host".to_owned());
            prop_assert_eq!(left, expected);
        }
    }
}
