//! The path of a request, assembled. Read this to see everything.
//!
//! ```text
//! listener → route → deadline → balance → pool → upstream
//! ```

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, HeaderName, HeaderValue, TRANSFER_ENCODING};
use http::{Method, Request, Response, Uri, Version};
use http_body_util::Full;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::Instant;

use crate::balance::Cluster;
use crate::config::Config;
use crate::error::{Flag, Refusal};
use crate::headers::{accept_trailers, accepts_trailers, append_via, strip_hop_by_hop};
use crate::route::{Route, RouteTable};
use crate::seam::Dialer;
use crate::telemetry::{RequestStats, Telemetry};
use crate::upstream::{BodyError, Deadline, UpstreamBody, attempt};

/// Says with Envoy's letters why the sidecar answered in an upstream's place.
pub static FLAGS_HEADER: HeaderName = HeaderName::from_static("x-sidecar-flags");
/// Says the same in a sentence.
pub static REASON_HEADER: HeaderName = HeaderName::from_static("x-sidecar-reason");

/// How much of it fits into a field.
const MAX_REASON_BYTES: usize = 512;

/// A configured sidecar, without its listeners.
pub struct Stack {
    routes: RouteTable,
    clusters: Vec<Arc<Cluster>>,
    requests: RequestStats,
    telemetry: Telemetry,
}

impl Stack {
    /// The data path of a checked configuration.
    pub fn new(config: &Config, seed: u64, dialer: Dialer) -> Arc<Self> {
        let telemetry = Telemetry::new();
        let clusters: Vec<_> = config
            .clusters
            .iter()
            .map(|cluster| Arc::new(Cluster::new(cluster, seed, &dialer, &telemetry)))
            .collect();
        let place = |name: &str| clusters.iter().position(|cluster| cluster.name == name);
        Arc::new(Self {
            routes: RouteTable::new(&config.routes, place),
            requests: telemetry.requests(),
            clusters,
            telemetry,
        })
    }

    /// Answers one request, by an upstream or in its place.
    pub async fn call(self: Arc<Self>, request: Request<Incoming>) -> Response<ResponseBody> {
        self.requests.received();
        let mut books = Books { stack: self, open: true };
        let answer = books.stack.forward(request).await;
        match answer {
            Ok(response) => response.map(|body| ResponseBody::upstream(body, books)),
            Err(refusal) => {
                books.close_with(refusal.flag());
                tracing::debug!(%refusal, "request refused");
                refused(&refusal)
            }
        }
    }

    async fn forward(
        &self,
        mut request: Request<Incoming>,
    ) -> Result<Response<UpstreamBody>, Refusal> {
        let received = Instant::now();
        let route = self.route(&request)?;
        let deadline = Deadline { at: received + route.timeout, limit: route.timeout };
        let cluster = &self.clusters[route.cluster];
        prepare(&mut request)?;
        let Some(placement) = cluster.place() else {
            return Err(Refusal::NoEndpoint { cluster: cluster.name.clone() });
        };
        let mut response = attempt(placement, request, deadline).await?;
        strip_hop_by_hop(response.headers_mut());
        // Each side of us speaks its own version; hyper writes the one that its peer asked for.
        *response.version_mut() = Version::HTTP_11;
        Ok(response)
    }

    fn route(&self, request: &Request<Incoming>) -> Result<&Route, Refusal> {
        if *request.method() == Method::CONNECT {
            return Err(Refusal::MethodNotSupported(Method::CONNECT));
        }
        let host = host(request)?;
        let path = request.uri().path();
        self.routes
            .find(host, path)
            .ok_or_else(|| Refusal::NoRoute { host: host.to_owned(), path: path.to_owned() })
    }

    /// The clusters, in the order of the configuration.
    pub fn clusters(&self) -> &[Arc<Cluster>] {
        &self.clusters
    }

    /// What was counted.
    pub fn telemetry(&self) -> &Telemetry {
        &self.telemetry
    }

    /// Requests received so far.
    pub fn requests(&self) -> u64 {
        self.requests.total()
    }

    /// Closes upstream connections that nobody has used for their cluster's idle timeout.
    pub fn close_old_connections(&self, now: Instant) {
        for endpoint in self.clusters.iter().flat_map(|cluster| &cluster.endpoints) {
            endpoint.pool.close_old(now);
        }
    }
}

/// The host that a request is for (RFC 9112 §3.2): the target's authority if it has one, else the
/// `Host` field, of which HTTP/1.1 wants exactly one in either case.
fn host<B>(request: &Request<B>) -> Result<&str, Refusal> {
    let mut fields = request.headers().get_all(HOST).iter();
    let field = match fields.next() {
        Some(value) => value.to_str().map_err(|_| Refusal::BadRequest("the Host is not text"))?,
        None if request.version() == Version::HTTP_11 => {
            return Err(Refusal::BadRequest("HTTP/1.1 requests need a Host field"));
        }
        None => "",
    };
    if fields.next().is_some() {
        return Err(Refusal::BadRequest("more than one Host field"));
    }
    let host = request.uri().authority().map_or(field, |authority| authority.as_str());
    if !host.bytes().all(may_be_in_host) {
        return Err(Refusal::BadRequest("the Host holds what a host may not"));
    }
    Ok(host)
}

/// What `uri-host [ ":" port ]` is made of (RFC 3986 §3.2.2). No `@`: who puts user information
/// into a target means to mislead somebody (RFC 9110 §4.2.4).
fn may_be_in_host(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:[]".contains(&byte)
}

/// Makes a request that came in into one that may go out.
fn prepare(request: &mut Request<Incoming>) -> Result<(), Refusal> {
    if let Some(authority) = request.uri().authority() {
        let host = HeaderValue::from_str(authority.as_str())
            .map_err(|_| Refusal::BadRequest("the target's authority is not a host"))?;
        request.headers_mut().insert(HOST, host);
        *request.uri_mut() = origin_form(request.uri());
    } else if !request.headers().contains_key(HOST) {
        // HTTP/1.0 may leave it out; as HTTP/1.1 it must be there, if empty (RFC 9112 §3.2).
        request.headers_mut().insert(HOST, HeaderValue::from_static(""));
    }
    let received = std::mem::replace(request.version_mut(), Version::HTTP_11);
    // Or else hyper would leave the body out of a GET.
    let is_chunked = request.body().size_hint().exact().is_none();
    let headers = request.headers_mut();
    let accepts_trailers = accepts_trailers(headers);
    strip_hop_by_hop(headers);
    if accepts_trailers {
        accept_trailers(headers);
    }
    if is_chunked {
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    append_via(headers, received);
    Ok(())
}

fn origin_form(uri: &Uri) -> Uri {
    uri.path_and_query().cloned().map_or_else(Uri::default, Uri::from)
}

fn refused(refusal: &Refusal) -> Response<ResponseBody> {
    let reason = refusal.to_string();
    let mut response = Response::new(ResponseBody::own(format!("{reason}\n")));
    *response.status_mut() = refusal.status();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(FLAGS_HEADER.clone(), HeaderValue::from_static(refusal.flag().letters()));
    // What a caller or a peer wrote may be long, or hold what a field value may not; the body has
    // it all.
    let start = reason.get(..MAX_REASON_BYTES).unwrap_or(&reason);
    if let Ok(start) = HeaderValue::from_str(start) {
        headers.insert(REASON_HEADER.clone(), start);
    }
    response
}

/// Counts how a request ended, once. A caller that leaves is noticed by the drop: nothing else
/// drops a request before its end.
struct Books {
    stack: Arc<Stack>,
    open: bool,
}

impl Books {
    fn close(&mut self) {
        self.open = false;
    }

    fn close_with(&mut self, flag: Flag) {
        if std::mem::take(&mut self.open) {
            self.stack.requests.refused(flag);
        }
    }
}

impl Drop for Books {
    fn drop(&mut self) {
        self.close_with(Flag::DC);
    }
}

/// A response body of either origin.
pub struct ResponseBody(Origin);

enum Origin {
    /// An upstream's, passed through.
    Upstream(UpstreamBody, Books),
    /// Our own words.
    Own(Full<Bytes>),
}

impl ResponseBody {
    fn upstream(body: UpstreamBody, mut books: Books) -> Self {
        if body.is_over() {
            books.close();
        }
        Self(Origin::Upstream(body, books))
    }

    fn own(text: String) -> Self {
        Self(Origin::Own(Full::from(text)))
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.get_mut().0 {
            Origin::Upstream(body, books) => {
                let polled = Pin::new(&mut *body).poll_frame(cx);
                match &polled {
                    Poll::Ready(Some(Err(error))) => books.close_with(error.flag()),
                    _ if body.is_over() => books.close(),
                    _ => {}
                }
                polled
            }
            Origin::Own(body) => Pin::new(body).poll_frame(cx).map_err(|never| match never {}),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Origin::Upstream(body, _) => body.is_end_stream(),
            Origin::Own(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Origin::Upstream(body, _) => body.size_hint(),
            Origin::Own(body) => body.size_hint(),
        }
    }
}
