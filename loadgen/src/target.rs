//! What is sent: one request, checked once, encoded once.

use bytes::Bytes;
use http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderName, HeaderValue, Method, Uri};

/// The longest body of a request, in bytes; it is kept once, or once a connection when requests
/// carry their index.
pub const MAX_BODY: usize = 64 * 1024 * 1024;

/// The most bytes of head that a target may ask for; servers refuse far shorter ones.
pub const MAX_REQUEST_HEAD: usize = 64 * 1024;

/// The request that is sent over and over.
///
/// A target is valid by construction: whatever could break the message's framing is refused when
/// it is put in.
///
/// ```
/// use loadgen::Target;
///
/// let target = Target::from_url("http://127.0.0.1:8080/search?q=mesh")?;
/// assert_eq!(target.address(), "127.0.0.1:8080");
/// # Ok::<(), loadgen::TargetError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    method: Method,
    path_and_query: PathAndQuery,
    authority: Authority,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Bytes,
}

impl Target {
    /// A GET of a URL such as `http://host:port/path`.
    ///
    /// # Errors
    /// When the text is not such a URL; https is not supported yet.
    pub fn from_url(url: &str) -> Result<Target, TargetError> {
        let unusable = || TargetError::Url(url.to_owned());
        let uri: Uri = url.parse().map_err(|_| unusable())?;
        if uri.scheme() == Some(&Scheme::HTTPS) {
            return Err(TargetError::Https);
        }
        if uri.scheme() != Some(&Scheme::HTTP) {
            return Err(unusable());
        }
        let authority = uri.authority().ok_or_else(unusable)?;
        // A port that is no port would otherwise read as the default one.
        let port_is_sound = match authority.as_str().strip_prefix(authority.host()) {
            Some("") => true,
            Some(rest) => rest.starts_with(':') && matches!(authority.port_u16(), Some(1..)),
            None => false,
        };
        if authority.host().is_empty() || !port_is_sound {
            return Err(unusable());
        }
        let path = uri.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
        Ok(Target {
            method: Method::GET,
            path_and_query: path,
            authority: authority.clone(),
            headers: Vec::new(),
            body: Bytes::new(),
        })
    }

    /// The same with another method.
    ///
    /// # Errors
    /// When the text is no method, or is CONNECT, which opens a tunnel and has no response to
    /// time.
    pub fn with_method(mut self, method: &str) -> Result<Target, TargetError> {
        let parsed = Method::from_bytes(method.as_bytes())
            .map_err(|_| TargetError::Method(method.to_owned()))?;
        if parsed == Method::CONNECT {
            return Err(TargetError::Method(method.to_owned()));
        }
        self.method = parsed;
        Ok(self)
    }

    /// The same with one more header field. A `host` field takes the place of the URL's.
    ///
    /// # Errors
    /// When name or value is not allowed in HTTP, the head would grow over
    /// [`MAX_REQUEST_HEAD`], or the field belongs to the framing, which the generator decides:
    /// `content-length`, `transfer-encoding`, `trailer`, `te`, `expect` and `upgrade`.
    pub fn with_header(mut self, name: &str, value: &str) -> Result<Target, TargetError> {
        let field = || format!("{name}: {value}");
        let parsed: HeaderName = name.parse().map_err(|_| TargetError::Header(field()))?;
        let value: HeaderValue = value.parse().map_err(|_| TargetError::Header(field()))?;
        if [CONTENT_LENGTH, TRANSFER_ENCODING, TRAILER, TE, EXPECT, UPGRADE].contains(&parsed) {
            return Err(TargetError::Framing(parsed.as_str().to_owned()));
        }
        self.headers.push((parsed, value));
        if Encoded::new(&self, None).head.len() > MAX_REQUEST_HEAD {
            return Err(TargetError::HeadTooLong);
        }
        Ok(self)
    }

    /// The same with a body, which is sent with its length.
    ///
    /// # Errors
    /// When the body is longer than [`MAX_BODY`].
    pub fn with_body(mut self, body: impl Into<Bytes>) -> Result<Target, TargetError> {
        self.body = body.into();
        if self.body.len() > MAX_BODY {
            return Err(TargetError::BodyTooLong { length: self.body.len() });
        }
        Ok(self)
    }

    /// The address that the URL names, as `host:port`; port 80 if it names none. What is dialled
    /// is said apart from it, in [`Options::address`](crate::Options::address).
    pub fn address(&self) -> String {
        format!("{}:{}", self.authority.host(), self.authority.port_u16().unwrap_or(80))
    }

    /// The request's method.
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// The request's path and query.
    pub fn path_and_query(&self) -> &str {
        self.path_and_query.as_str()
    }

    /// The URL that is requested.
    pub fn url(&self) -> String {
        format!("http://{}{}", self.authority, self.path_and_query)
    }
}

/// A target as bytes.
#[derive(Clone, Debug)]
pub(crate) struct Encoded {
    /// Request line and fields; without the empty line if an index field is to follow.
    head: Vec<u8>,
    body: Bytes,
    /// Head and body, when every request is the same.
    whole: Option<Bytes>,
    /// `name: ` of the index field.
    index_field: Vec<u8>,
    pub(crate) is_head: bool,
    pub(crate) is_idempotent: bool,
    /// The request itself asks for the connection to end.
    pub(crate) closes: bool,
}

impl Encoded {
    pub(crate) fn new(target: &Target, index_header: Option<&HeaderName>) -> Encoded {
        let mut head = Vec::with_capacity(256);
        let mut field = |parts: [&[u8]; 4]| parts.iter().for_each(|p| head.extend_from_slice(p));
        let path = target.path_and_query.as_str();
        // A query right behind the authority stands for a query of the root.
        let root: &[u8] = if path.starts_with('/') { b"" } else { b"/" };
        field([target.method.as_str().as_bytes(), b" ", root, path.as_bytes()]);
        field([b" HTTP/1.1", b"\r\n", b"", b""]);
        if !target.headers.iter().any(|(name, _)| name == HOST) {
            field([b"host", b": ", target.authority.as_str().as_bytes(), b"\r\n"]);
        }
        for (name, value) in &target.headers {
            field([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"]);
        }
        let expects_body = [Method::POST, Method::PUT, Method::PATCH].contains(&target.method);
        if expects_body || !target.body.is_empty() {
            let length = target.body.len().to_string();
            field([b"content-length", b": ", length.as_bytes(), b"\r\n"]);
        }
        let index_field = index_header.map(|name| format!("{name}: ")).unwrap_or_default();
        let whole = index_header
            .is_none()
            .then(|| Bytes::from([head.as_slice(), b"\r\n", target.body.as_ref()].concat()));
        let closes = target.headers.iter().any(|(name, value)| {
            let items = value.as_bytes().split(|byte| *byte == b',');
            name == CONNECTION
                && items.into_iter().any(|i| i.trim_ascii().eq_ignore_ascii_case(b"close"))
        });
        Encoded {
            head,
            body: target.body.clone(),
            whole,
            index_field: index_field.into_bytes(),
            is_head: target.method == Method::HEAD,
            is_idempotent: target.method.is_idempotent(),
            closes,
        }
    }

    /// The bytes of the request with this index; `scratch` is where they are put together if
    /// requests differ.
    pub(crate) fn bytes<'a>(&'a self, index: u64, scratch: &'a mut Vec<u8>) -> &'a [u8] {
        if let Some(whole) = &self.whole {
            return whole;
        }
        scratch.clear();
        scratch.extend_from_slice(&self.head);
        scratch.extend_from_slice(&self.index_field);
        push_decimal(scratch, index);
        scratch.extend_from_slice(b"\r\n\r\n");
        scratch.extend_from_slice(&self.body);
        scratch
    }
}

/// Appends a number in decimal, without allocating.
fn push_decimal(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0_u8; 20];
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[start..]);
}

/// A request that cannot be sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// Not a URL of the form wanted.
    #[error("`{0}` is not a URL to request; write it as http://host:port/path")]
    Url(String),
    /// An https URL.
    #[error("https is not supported yet; use an http URL")]
    Https,
    /// Not a method that can be timed.
    #[error("`{0}` is not a method to request; write GET, POST or the like")]
    Method(String),
    /// Not a header field.
    #[error("`{0}` is not a header field; write it as `name: value`")]
    Header(String),
    /// A field that the generator sets itself.
    #[error("the header field `{0}` is set by the generator, or changes how messages end")]
    Framing(String),
    /// Too many or too long fields.
    #[error("the request head is longer than {MAX_REQUEST_HEAD} bytes")]
    HeadTooLong,
    /// Too long a body.
    #[error("a body of {length} bytes is too long; at most {MAX_BODY} are sent")]
    BodyTooLong {
        /// The length of the body in bytes.
        length: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(target: &Target, index_header: Option<&HeaderName>, index: u64) -> String {
        let encoded = Encoded::new(target, index_header);
        String::from_utf8(encoded.bytes(index, &mut Vec::new()).to_vec()).unwrap()
    }

    #[test]
    fn a_request_is_encoded_with_host_fields_length_and_index() {
        let get = Target::from_url("http://h:81?q").unwrap();
        assert_eq!(text(&get, None, 7), "GET /?q HTTP/1.1\r\nhost: h:81\r\n\r\n");
        let post = get.with_method("POST").unwrap().with_header("A", "b c").unwrap();
        let post = post.with_header("Host", "other").unwrap().with_body("xyz").unwrap();
        let name = HeaderName::from_static("x-index");
        assert_eq!(
            text(&post, Some(&name), 120),
            "POST /?q HTTP/1.1\r\na: b c\r\nhost: other\r\ncontent-length: 3\r\n\
             x-index: 120\r\n\r\nxyz"
        );
    }

    #[test]
    fn addresses_have_a_port() {
        for (url, address) in [
            ("http://example", "example:80"),
            ("http://example:8080/x", "example:8080"),
            ("http://[::1]:9/", "[::1]:9"),
            ("HTTP://example/", "example:80"),
        ] {
            assert_eq!(Target::from_url(url).unwrap().address(), address);
        }
    }

    #[test]
    fn what_is_no_url_is_refused() {
        for url in [
            "",
            "localhost",
            "localhost:80",
            "/path",
            "http://",
            "http:///x",
            "http://h:99999/",
            "http://h:0/",
            "http://h:/",
            "http://u@h/",
            "ftp://h/",
            "http://h/a b",
            "http://h:x/",
        ] {
            assert_eq!(Target::from_url(url), Err(TargetError::Url(url.to_owned())), "{url}");
        }
        assert_eq!(Target::from_url("https://h/"), Err(TargetError::Https));
    }

    #[test]
    fn what_would_break_the_message_is_refused() {
        let target = Target::from_url("http://h/").unwrap();
        for (name, value) in [("a b", "c"), ("", "c"), ("a", "b\r\nc: d"), ("a:", "b")] {
            assert!(target.clone().with_header(name, value).is_err(), "{name}: {value}");
        }
        for name in ["Content-Length", "transfer-encoding", "expect", "upgrade", "te"] {
            let refused = target.clone().with_header(name, "1");
            assert!(matches!(refused, Err(TargetError::Framing(_))), "{name}");
        }
        for method in ["", "A B", "CONNECT"] {
            assert!(target.clone().with_method(method).is_err(), "{method}");
        }
        let long = "x".repeat(MAX_REQUEST_HEAD);
        assert_eq!(target.with_header("a", &long), Err(TargetError::HeadTooLong));
    }

    proptest! {
        #[test]
        fn numbers_read_as_written(number: u64) {
            let mut out = Vec::new();
            push_decimal(&mut out, number);
            prop_assert_eq!(String::from_utf8(out).unwrap(), number.to_string());
        }

        #[test]
        fn any_text_is_a_target_or_an_error(url: String, method: String, name: String) {
            let _ = Target::from_url(&url);
            let target = Target::from_url("http://h/").unwrap();
            let _ = target.clone().with_method(&method);
            let _ = target.with_header(&name, &url);
        }
    }
}
