//! What may not be forwarded. Pure.

use http::header::{
    CONNECTION, HeaderMap, HeaderName, HeaderValue, TE, TRANSFER_ENCODING, UPGRADE, VIA,
};

/// Fields that speak of one connection only, whether or not `Connection` lists them
/// (RFC 9110 §7.6.1; `Proxy-Connection` and `Keep-Alive` from older practice).
static HOP_BY_HOP: [HeaderName; 6] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    TRANSFER_ENCODING,
    UPGRADE,
    TE,
];

/// Removes what belongs to the connection a message came in on (RFC 9110 §7.6.1).
///
/// That includes `TE`: what the caller accepts of this connection says nothing about the next one.
pub fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let listed: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| HeaderName::from_bytes(name.trim().as_bytes()).ok())
        .collect();
    for name in &listed {
        // `Connection: host` must not take away what routes the message.
        if *name != http::header::HOST {
            headers.remove(name);
        }
    }
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
}

/// Adds ourselves to the intermediaries that a message has passed (RFC 9110 §7.6.3).
pub fn append_via(headers: &mut HeaderMap) {
    headers.append(VIA, HeaderValue::from_static("1.1 meshbench"));
}

#[cfg(test)]
mod tests {
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
    fn a_message_cannot_talk_us_out_of_its_host() {
        assert_eq!(stripped(&[("host", "a"), ("connection", "host")]), ["host: a"]);
    }
}
