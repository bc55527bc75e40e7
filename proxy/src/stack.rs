//! The path of a request, assembled. Read this to see everything.
//!
//! ```text
//! listener → route → deadline → balance → pool → upstream
//! ```

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, HeaderName, HeaderValue};
use http::{Method, Request, Response, Uri, Version};
use http_body_util::Full;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::Instant;

use crate::balance::Cluster;
use crate::config::Config;
use crate::error::{Flag, Refusal};
use crate::headers::{append_via, strip_hop_by_hop};
use crate::route::{Route, RouteTable};
use crate::seam::Dialer;
use crate::telemetry::{RequestStats, Telemetry};
use crate::upstream::{BodyError, Deadline, UpstreamBody, attempt};

/// Says with Envoy's letters why the sidecar answered in an upstream's place.
pub static FLAGS_HEADER: HeaderName = HeaderName::from_static("x-sidecar-flags");
/// Says the same in a sentence.
pub static REASON_HEADER: HeaderName = HeaderName::from_static("x-sidecar-reason");

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
        let left = Left { stats: &self.requests, armed: true };
        let answer = self.forward(request).await;
        left.disarm();
        match answer {
            Ok(response) => response.map(ResponseBody::Upstream),
            Err(refusal) => {
                self.requests.refused(refusal.flag());
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
/// `Host` field, of which HTTP/1.1 wants exactly one.
fn host<B>(request: &Request<B>) -> Result<&str, Refusal> {
    let mut fields = request.headers().get_all(HOST).iter();
    let field = fields.next();
    if fields.next().is_some() {
        return Err(Refusal::BadRequest("more than one Host field"));
    }
    if let Some(authority) = request.uri().authority() {
        return Ok(authority.as_str());
    }
    match field {
        Some(value) => value.to_str().map_err(|_| Refusal::BadRequest("the Host is not text")),
        None if request.version() == Version::HTTP_11 => {
            Err(Refusal::BadRequest("HTTP/1.1 requests need a Host field"))
        }
        None => Ok(""),
    }
}

/// Makes a request that came in into one that may go out.
fn prepare(request: &mut Request<Incoming>) -> Result<(), Refusal> {
    if let Some(authority) = request.uri().authority() {
        let host = HeaderValue::from_str(authority.as_str())
            .map_err(|_| Refusal::BadRequest("the target's authority is not a host"))?;
        request.headers_mut().insert(HOST, host);
        *request.uri_mut() = origin_form(request.uri());
    }
    strip_hop_by_hop(request.headers_mut());
    append_via(request.headers_mut());
    *request.version_mut() = Version::HTTP_11;
    Ok(())
}

fn origin_form(uri: &Uri) -> Uri {
    uri.path_and_query().cloned().map_or_else(Uri::default, Uri::from)
}

fn refused(refusal: &Refusal) -> Response<ResponseBody> {
    let reason = refusal.to_string();
    let mut response = Response::new(ResponseBody::Own(Full::from(format!("{reason}\n"))));
    *response.status_mut() = refusal.status();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(FLAGS_HEADER.clone(), HeaderValue::from_static(refusal.flag().letters()));
    // A host or a peer's words may hold what a field value may not; the body still has them.
    if let Ok(reason) = HeaderValue::from_str(&reason) {
        headers.insert(REASON_HEADER.clone(), reason);
    }
    response
}

/// Counts a caller that left: nothing else drops a request before its answer.
struct Left<'a> {
    stats: &'a RequestStats,
    armed: bool,
}

impl Left<'_> {
    fn disarm(mut self) {
        self.armed = false;
    }
}

impl Drop for Left<'_> {
    fn drop(&mut self) {
        if self.armed {
            self.stats.refused(Flag::DC);
        }
    }
}

/// A response body of either origin.
pub enum ResponseBody {
    /// An upstream's, passed through.
    Upstream(UpstreamBody),
    /// Our own words.
    Own(Full<Bytes>),
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            ResponseBody::Upstream(body) => Pin::new(body).poll_frame(cx),
            ResponseBody::Own(body) => {
                Pin::new(body).poll_frame(cx).map_err(|never| match never {})
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            ResponseBody::Upstream(body) => body.is_end_stream(),
            ResponseBody::Own(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            ResponseBody::Upstream(body) => body.size_hint(),
            ResponseBody::Own(body) => body.size_hint(),
        }
    }
}
