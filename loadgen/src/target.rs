//! What is sent: a request, checked once and encoded once.
//!
//! Path, field values and body may have places that differ from request to request:
//! `{{index}}` is the request's number in the plan, `{{random 1..1000}}` a number between those,
//! `{{hex 16}}` so many random digits.

mod encoded;
mod mix;
mod template;

use http::header::{CONTENT_LENGTH, EXPECT, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, Version};

pub(crate) use encoded::{Encoded, Scratch};
pub use mix::{Aim, MAX_TARGETS, MAX_WEIGHT, Mix};
pub(crate) use template::Draw;
use template::Template;

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
    scheme: Scheme,
    /// As written, its places not filled in.
    path_and_query: String,
    authority: Authority,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Template,
}

impl Target {
    /// A GET of a URL such as `http://host:port/path`, or https.
    ///
    /// # Errors
    /// When the text is not such a URL, or has a place that is none.
    pub fn from_url(url: &str) -> Result<Target, TargetError> {
        let unusable = || TargetError::Url(url.to_owned());
        // Places are checked as the text that they stand for.
        let uri: Uri = sampled(url.as_bytes())?.parse().map_err(|_| unusable())?;
        let scheme = uri.scheme().filter(|s| [Scheme::HTTP, Scheme::HTTPS].contains(s));
        let scheme = scheme.cloned().ok_or_else(unusable)?;
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
        let behind_scheme = url.split_once("://").map(|(_, rest)| rest).unwrap_or_default();
        // Fails when a place stands within the authority.
        let path = behind_scheme.strip_prefix(authority.as_str()).ok_or_else(unusable)?;
        let path = path.split('#').next().unwrap_or_default();
        // A query right behind the authority stands for a query of the root.
        let root = if path.starts_with('/') { "" } else { "/" };
        Ok(Target {
            method: Method::GET,
            scheme,
            path_and_query: format!("{root}{path}"),
            authority: authority.clone(),
            headers: Vec::new(),
            body: Template::default(),
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
    /// When name or value is not allowed in HTTP, a place is none, the head would grow over
    /// [`MAX_REQUEST_HEAD`], or the field belongs to the framing, which the generator decides:
    /// `content-length`, `transfer-encoding`, `trailer`, `te`, `expect` and `upgrade`.
    pub fn with_header(mut self, name: &str, value: &str) -> Result<Target, TargetError> {
        let field = || format!("{name}: {value}");
        let parsed: HeaderName = name.parse().map_err(|_| TargetError::Header(field()))?;
        let value: HeaderValue = value.parse().map_err(|_| TargetError::Header(field()))?;
        if [CONTENT_LENGTH, TRANSFER_ENCODING, TRAILER, TE, EXPECT, UPGRADE].contains(&parsed) {
            return Err(TargetError::Framing(parsed.as_str().to_owned()));
        }
        Template::parse(value.as_bytes())?;
        self.headers.push((parsed, value));
        if encoded::head(&self).len() > MAX_REQUEST_HEAD {
            return Err(TargetError::HeadTooLong);
        }
        Ok(self)
    }

    /// The same with a body, which is sent as it stands, with its length.
    ///
    /// # Errors
    /// When the body is longer than [`MAX_BODY`].
    pub fn with_body(mut self, body: impl AsRef<[u8]>) -> Result<Target, TargetError> {
        let body = body.as_ref();
        if body.len() > MAX_BODY {
            return Err(TargetError::BodyTooLong { length: body.len() });
        }
        self.body = Template::literal(body);
        Ok(self)
    }

    /// The same with a body whose places are filled in for each request.
    ///
    /// # Errors
    /// When the body is longer than [`MAX_BODY`], or a place is none.
    pub fn with_body_template(mut self, body: impl AsRef<[u8]>) -> Result<Target, TargetError> {
        let body = body.as_ref();
        if body.len() > MAX_BODY {
            return Err(TargetError::BodyTooLong { length: body.len() });
        }
        self.body = Template::parse(body)?;
        Ok(self)
    }

    /// The address that the URL names, as `host:port`; port 80 or 443 if it names none. What is
    /// dialled is said apart from it, in [`Aim::address`].
    pub fn address(&self) -> String {
        let usual = if self.is_tls() { 443 } else { 80 };
        format!("{}:{}", self.authority.host(), self.authority.port_u16().unwrap_or(usual))
    }

    /// The host that the URL names, without a port; an IPv6 address without its brackets.
    pub fn host(&self) -> &str {
        self.authority.host().trim_start_matches('[').trim_end_matches(']')
    }

    /// True for an https URL.
    pub fn is_tls(&self) -> bool {
        self.scheme == Scheme::HTTPS
    }

    /// The request's method.
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// The request's path and query, its places not filled in.
    pub fn path_and_query(&self) -> &str {
        &self.path_and_query
    }

    /// The URL that is requested, its places not filled in.
    pub fn url(&self) -> String {
        format!("{}://{}{}", self.scheme, self.authority, self.path_and_query)
    }

    /// The request without its body for HTTP/2, where fields of one connection have no place
    /// (RFC 9113, section 8.2.2).
    pub(crate) fn h2_head(
        &self,
        draw: Draw,
        index_header: Option<&HeaderName>,
    ) -> http::Request<()> {
        let mut place = 0;
        let mut text = Vec::new();
        self.template(self.path_and_query.as_bytes()).render(draw, &mut place, &mut text);
        let path = PathAndQuery::try_from(text.as_slice());
        let mut headers = HeaderMap::with_capacity(self.headers.len());
        let mut authority = self.authority.clone();
        for (name, value) in &self.headers {
            if name == HOST {
                authority = Authority::try_from(value.as_bytes()).unwrap_or(authority);
                continue;
            }
            if [http::header::CONNECTION.as_str(), "keep-alive", "proxy-connection"]
                .contains(&name.as_str())
            {
                continue;
            }
            text.clear();
            self.template(value.as_bytes()).render(draw, &mut place, &mut text);
            if let Ok(value) = HeaderValue::from_bytes(&text) {
                headers.append(name, value);
            }
        }
        if let Some(name) = index_header {
            headers.append(name, HeaderValue::from(draw.index));
        }
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(self.scheme.clone());
        parts.authority = Some(authority);
        parts.path_and_query = Some(path.unwrap_or(PathAndQuery::from_static("/")));
        let mut request = http::Request::new(());
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
        *request.version_mut() = Version::HTTP_2;
        *request.headers_mut() = headers;
        request
    }

    /// The body of one request.
    pub(crate) fn h2_body(&self, draw: Draw) -> Vec<u8> {
        // Behind the places of the head, of which there are fewer.
        let mut place = 1 << 32;
        let mut body = Vec::new();
        self.body.render(draw, &mut place, &mut body);
        body
    }

    /// True when every request is the same.
    pub(crate) fn is_constant(&self) -> bool {
        self.template(&encoded::head(self)).as_literal().is_some()
            && self.body.as_literal().is_some()
    }

    /// Text of this target with its places; each was checked as it was put in.
    fn template(&self, text: &[u8]) -> Template {
        Template::parse(text).unwrap_or_else(|_| Template::literal(text))
    }
}

/// Text with its places filled in, to check what it will look like.
fn sampled(text: &[u8]) -> Result<String, TargetError> {
    let mut out = Vec::new();
    Template::parse(text)?.render(Draw { seed: 0, index: 0 }, &mut 0, &mut out);
    Ok(String::from_utf8_lossy(&out).into_owned())
}

/// A request that cannot be sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// Not a URL of the form wanted.
    #[error("`{0}` is not a URL to request; write it as http://host:port/path")]
    Url(String),
    /// A place that is none.
    #[error(
        "`{{{{{0}}}}}` is no place; write {{{{index}}}}, {{{{random 1..1000}}}} or {{{{hex 16}}}}"
    )]
    Template(String),
    /// No targets, or too many.
    #[error("{count} targets cannot be asked; give 1 to {MAX_TARGETS}")]
    Count {
        /// How many there are.
        count: usize,
    },
    /// Not a weight.
    #[error("a weight of {weight} cannot be drawn by; give a whole number from 1 to {MAX_WEIGHT}")]
    Weight {
        /// The weight.
        weight: u32,
    },
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
        let draw = Draw { seed: 0, index };
        String::from_utf8(encoded.bytes(draw, &mut Scratch::default()).to_vec()).unwrap()
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
            ("https://example/", "example:443"),
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
        assert!(matches!(Target::from_url("http://h/{{x}}"), Err(TargetError::Template(_))));
        assert!(matches!(Target::from_url("http://{{index}}/"), Err(TargetError::Url(_))));
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

    #[test]
    fn places_are_filled_in_and_the_length_is_that_of_the_filled_body() {
        let target = Target::from_url("http://h/{{index}}?q={{random 5..5}}#f").unwrap();
        let target = target.with_method("PUT").unwrap().with_header("a", "b{{index}}").unwrap();
        let target = target.with_body_template("<{{index}}>").unwrap();
        assert_eq!(
            text(&target, None, 120),
            "PUT /120?q=5 HTTP/1.1\r\nhost: h\r\na: b120\r\ncontent-length: 5\r\n\r\n<120>"
        );
        let head = target.h2_head(Draw { seed: 0, index: 7 }, None);
        assert_eq!(head.uri(), "http://h/7?q=5");
        assert_eq!(head.headers()["a"], "b7");
        assert_eq!(target.h2_body(Draw { seed: 0, index: 7 }), b"<7>");
    }

    proptest! {
        #[test]
        fn any_text_is_a_target_or_an_error(url: String, method: String, name: String) {
            let _ = Target::from_url(&url);
            let target = Target::from_url("http://h/").unwrap();
            let _ = target.clone().with_method(&method);
            let _ = target.with_header(&name, &url);
        }
    }
}
