//! A target as bytes on an HTTP/1.1 connection.

use bytes::Bytes;
use http::header::{CONNECTION, HOST};
use http::{HeaderName, Method};

use super::Target;
use super::template::{Draw, Template, push_decimal};

/// A target, encoded once as far as its requests are the same.
#[derive(Clone, Debug)]
pub(crate) struct Encoded {
    /// Request line and fields, without the length, the index and the empty line.
    head: Template,
    body: Template,
    /// The message says how long its body is.
    has_length: bool,
    /// Head and body, when every request is the same.
    whole: Option<Bytes>,
    /// `name: ` of the index field.
    index_field: Vec<u8>,
    pub(crate) is_head: bool,
    pub(crate) is_idempotent: bool,
    /// The request itself asks for the connection to end.
    pub(crate) closes: bool,
}

/// Where requests that differ are put together.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    message: Vec<u8>,
    body: Vec<u8>,
}

impl Encoded {
    pub(crate) fn new(target: &Target, index_header: Option<&HeaderName>) -> Encoded {
        let closes = target.headers.iter().any(|(name, value)| {
            let mut items = value.as_bytes().split(|byte| *byte == b',');
            name == CONNECTION && items.any(|i| i.trim_ascii().eq_ignore_ascii_case(b"close"))
        });
        let expects_body = [Method::POST, Method::PUT, Method::PATCH].contains(&target.method);
        let mut encoded = Encoded {
            head: target.template(&head(target)),
            body: target.body.clone(),
            has_length: expects_body || target.body.as_literal() != Some(b""),
            whole: None,
            index_field: index_header.map(|name| format!("{name}: ")).unwrap_or_default().into(),
            is_head: target.method == Method::HEAD,
            is_idempotent: target.method.is_idempotent(),
            closes,
        };
        let is_constant = index_header.is_none()
            && encoded.head.as_literal().is_some()
            && encoded.body.as_literal().is_some();
        if is_constant {
            let mut scratch = Scratch::default();
            encoded.bytes(Draw { seed: 0, index: 0 }, &mut scratch);
            encoded.whole = Some(scratch.message.into());
        }
        encoded
    }

    /// The bytes of one request.
    pub(crate) fn bytes<'a>(&'a self, draw: Draw, scratch: &'a mut Scratch) -> &'a [u8] {
        if let Some(whole) = &self.whole {
            return whole;
        }
        let Scratch { message, body } = scratch;
        message.clear();
        body.clear();
        let mut place = 0;
        self.head.render(draw, &mut place, message);
        self.body.render(draw, &mut place, body);
        if self.has_length {
            message.extend_from_slice(b"content-length: ");
            push_decimal(message, body.len() as u64);
            message.extend_from_slice(b"\r\n");
        }
        if !self.index_field.is_empty() {
            message.extend_from_slice(&self.index_field);
            push_decimal(message, draw.index);
            message.extend_from_slice(b"\r\n");
        }
        message.extend_from_slice(b"\r\n");
        message.extend_from_slice(body);
        message
    }
}

/// Request line and fields as text.
pub(super) fn head(target: &Target) -> Vec<u8> {
    let mut head = Vec::with_capacity(256);
    let mut line = |parts: [&[u8]; 3]| parts.iter().for_each(|p| head.extend_from_slice(p));
    line([target.method.as_str().as_bytes(), b" ", target.path_and_query.as_bytes()]);
    line([b" HTTP/1.1\r\n", b"", b""]);
    if !target.headers.iter().any(|(name, _)| name == HOST) {
        line([b"host: ", target.authority.as_str().as_bytes(), b"\r\n"]);
    }
    for (name, value) in &target.headers {
        line([name.as_str().as_bytes(), b": ", value.as_bytes()]);
        line([b"\r\n", b"", b""]);
    }
    head
}
