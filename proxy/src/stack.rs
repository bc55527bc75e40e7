//! The path of a request, assembled. Read this to see everything.
//!
//! ```text
//! listener → route → rate limit → deadline → admission → retry → balance → pool → upstream
//! ```

mod apply;
mod routing;

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::header::{
    CONTENT_TYPE, COOKIE, HOST, HeaderMap, HeaderValue, RETRY_AFTER, TRANSFER_ENCODING,
};
use http::{Method, Request, Response, StatusCode, Uri, Version};
use http_body_util::Full;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Instant, MissedTickBehavior, interval};
use xxhash_rust::xxh3::xxh3_64;

use self::apply::ClusterSlots;
pub use self::apply::{Applied, Refused};
use self::routing::Routing;
use crate::balance::Cluster;
use crate::config::{ClusterConfig, Config, HashOn};
use crate::error::{Flag, Refusal};
use crate::headers::{
    FLAGS, OVERLOADED, REASON, accept_trailers, accepts_trailers, append_via, strip_hop_by_hop,
};
use crate::health::HealthChecks;
use crate::limit::{Admission, hash_of};
use crate::listener::Peer;
use crate::policy::deadline::{Limit, Source};
use crate::policy::retry::Overrides;
use crate::replay::Replay;
use crate::retry::{Call, Journal};
use crate::route::Route;
use crate::seam::Dialer;
use crate::telemetry::event::{
    AccessLine, ClusterId, EndpointRef, Event, RequestEnd, RequestOutcome,
};
use crate::telemetry::trace::RequestSpan;
use crate::telemetry::{ClusterLabels, Telemetry, TelemetryParts};
use crate::upstream::{BodyError, Deadline, UpstreamBody};

/// How much of a reason fits into a field.
const MAX_REASON_BYTES: usize = 512;

/// A configured sidecar, without its listeners.
pub struct Stack {
    /// What is done with requests; replaced as a whole by [`Stack::apply`].
    routing: ArcSwap<Routing>,
    /// Held while the configuration changes.
    slots: Mutex<ClusterSlots>,
    dialer: Dialer,
    seed: u64,
    telemetry: Arc<Telemetry>,
}

impl Stack {
    /// The data path of a checked configuration.
    pub fn new(config: &Config, seed: u64, dialer: Dialer) -> Arc<Self> {
        let now = Instant::now();
        let parts = TelemetryParts::starting(now.into_std());
        Self::with_telemetry(config, seed, dialer, parts)
    }

    /// The same, with somewhere to write and to report to.
    pub fn with_telemetry(
        config: &Config,
        seed: u64,
        dialer: Dialer,
        parts: TelemetryParts,
    ) -> Arc<Self> {
        let telemetry = Arc::new(Telemetry::of(&labels(config), parts));
        let cluster = |(place, of): (usize, &ClusterConfig)| {
            let (id, subsets) = (ClusterId(place), config.subsets_of(of));
            let hold = Arc::default();
            Arc::new(Cluster::new(id, hold, of, subsets, seed, &dialer, &telemetry))
        };
        let clusters: Vec<_> = config.clusters.iter().enumerate().map(cluster).collect();
        let slots = Mutex::new(ClusterSlots::of(&clusters));
        let config = Arc::new(config.clone());
        let routing = Routing::new(config, clusters, telemetry.clone(), None);
        let routing = ArcSwap::from_pointee(routing);
        Arc::new(Self { routing, slots, dialer, seed, telemetry })
    }

    /// Answers one request from `peer`, by an upstream or in its place.
    // What is large and lives across an await is in boxes, here and in all that is awaited from
    // here. A future holds an argument twice, once as such and once as the variable that it
    // becomes, and is moved as a whole into what awaits it. Without the boxes a request and its
    // books are 6 KiB, of which most is copied several times.
    pub fn call(
        self: Arc<Self>,
        peer: Peer,
        request: Request<Incoming>,
    ) -> impl Future<Output = Response<ResponseBody>> + Send {
        let request = Box::new(request);
        async move {
            let mut books = Box::new(Books::open(self.routing.load_full(), peer, &request));
            let routing = books.routing.clone();
            match routing.forward(peer, request, &mut books).await {
                Ok(response) => {
                    books.status = response.status();
                    response.map(|body| ResponseBody::upstream(body, books))
                }
                Err(refusal) => {
                    tracing::debug!(%refusal, "request refused");
                    let fallback = books.fallback(&refusal);
                    let response = fallback.unwrap_or_else(|| refused(&refusal, &books.journal));
                    let (outcome, status) =
                        (RequestOutcome::Refused(refusal.flag()), response.status());
                    books.close(outcome, Some(status), Instant::now());
                    response
                }
            }
        }
    }

    /// The clusters, in the order of the configuration in force.
    pub fn clusters(&self) -> Vec<Arc<Cluster>> {
        self.routing.load().clusters.clone()
    }

    /// What was counted.
    pub fn telemetry(&self) -> &Arc<Telemetry> {
        &self.telemetry
    }

    /// Does what has to be done beside requests, for as long as it is polled: closes connections
    /// that are too old, and checks the health of endpoints.
    pub async fn tend(self: Arc<Self>) {
        let mut checks = HealthChecks::new(self.seed);
        let mut ticks = interval(SWEEP);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let now = ticks.tick().await;
            self.close_gone_clusters();
            let clusters = self.clusters();
            for cluster in &clusters {
                cluster.tidy(now);
            }
            checks.follow(&clusters);
        }
    }
}

impl Routing {
    async fn forward(
        &self,
        peer: Peer,
        mut request: Box<Request<Incoming>>,
        books: &mut Books,
    ) -> Result<Response<UpstreamBody>, Refusal> {
        let route = self.route(&request)?;
        books.route = Some(route.index);
        let treatment = &self.treatments[route.index];
        if let Some(limit) = &treatment.rate_limit {
            limit.check(peer, request.headers(), books.received).inspect_err(|_| {
                self.telemetry.emit(books.received.into_std(), &Event::RateLimited);
            })?;
        }
        let limit = Limit::of(request.headers(), route.timeout);
        if limit.remaining(Duration::ZERO).is_err() {
            return Err(Refusal::DeadlineExpired);
        }
        let cluster = &self.clusters[route.cluster];
        prepare(&mut request)?;
        books.admission = Some(cluster.admit(books.received)?);
        let asked = Overrides::take(request.headers_mut());
        let retry = treatment.retry.for_request(&asked);
        let (head, body) = request.into_parts();
        let mut call = Call {
            cluster,
            subset: treatment.subset,
            key: treatment.hash.as_ref().and_then(|on| hash_key(on, peer, &head.headers)),
            deadline: Deadline {
                at: books.received + limit.timeout,
                limit: limit.timeout,
                is_callers: limit.from != Source::Route,
            },
            is_grpc: limit.is_grpc,
            span: books.span.as_deref(),
            retry: &retry,
            hedge: treatment.hedge.as_ref(),
            body: Replay::new(body, retry.max_body_bytes),
            head,
        };
        let mut response = call.drive(books.received, &mut books.journal).await?;
        let headers = response.headers_mut();
        strip_hop_by_hop(headers);
        books.journal.describe(headers);
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
}

/// How often connections and endpoints are looked through where no request does. Idle connections
/// may live this much longer than their timeout, which is far below any that makes sense.
const SWEEP: Duration = Duration::from_millis(250);

fn labels(config: &Config) -> Vec<ClusterLabels> {
    let clusters = config.clusters.iter().map(|cluster| ClusterLabels {
        name: cluster.name.to_string(),
        endpoints: cluster.endpoints.iter().map(|e| e.address.to_string()).collect(),
    });
    clusters.collect()
}

fn line_of(peer: Peer, request: &Request<Incoming>, span: Option<&RequestSpan>) -> AccessLine {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    AccessLine {
        method: request.method().to_string(),
        host: request.headers().get(HOST).map(text).unwrap_or_default(),
        path: origin_form(request.uri()).to_string(),
        peer: Some(peer.0),
        trace_id: span.map(RequestSpan::trace_id),
        ..AccessLine::default()
    }
}

/// What strategies that hash go by, if the request has it.
fn hash_key(on: &HashOn, peer: Peer, headers: &HeaderMap) -> Option<u64> {
    match on {
        HashOn::Source => Some(hash_of(peer)),
        HashOn::Header(name) => headers.get(name).map(|value| xxh3_64(value.as_bytes())),
        HashOn::Cookie(name) => cookie(headers, name.as_bytes()).map(xxh3_64),
    }
}

/// The value of a cookie (RFC 6265 §4.2.1).
fn cookie<'a>(headers: &'a HeaderMap, name: &[u8]) -> Option<&'a [u8]> {
    let pairs = headers.get_all(COOKIE).iter().flat_map(|v| v.as_bytes().split(|b| *b == b';'));
    pairs.map(<[u8]>::trim_ascii).find_map(|pair| pair.strip_prefix(name)?.strip_prefix(b"="))
}

/// The host that a request is for (RFC 9112 §3.2): the target's authority if it has one, else the
/// `Host` field, of which HTTP/1.1 wants exactly one in either case.
fn host<B>(request: &Request<B>) -> Result<&str, Refusal> {
    // A pass over few fields is cheaper than a look-up.
    let mut fields = request.headers().iter().filter(|(name, _)| *name == HOST);
    let field = match fields.next() {
        Some((_, value)) => {
            value.to_str().map_err(|_| Refusal::BadRequest("the Host is not text"))?
        }
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
    IN_HOST[usize::from(byte)]
}

/// A table, because it is asked for every byte.
const IN_HOST: [bool; 256] = {
    let marks = b"-._~%!$&'()*+,;=:[]";
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        table[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let mut place = 0;
    while place < marks.len() {
        table[marks[place] as usize] = true;
        place += 1;
    }
    table
};

/// Makes a request that came in into one that may go out.
fn prepare(request: &mut Request<Incoming>) -> Result<(), Refusal> {
    if let Some(authority) = request.uri().authority() {
        let host = HeaderValue::from_str(authority.as_str())
            .map_err(|_| Refusal::BadRequest("the target's authority is not a host"))?;
        request.headers_mut().insert(HOST, host);
        *request.uri_mut() = origin_form(request.uri());
    } else if !request.headers().keys().any(|name| *name == HOST) {
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

fn refused(refusal: &Refusal, journal: &Journal) -> Response<ResponseBody> {
    let reason = refusal.to_string();
    let mut response = Response::new(ResponseBody::own(format!("{reason}\n").into()));
    *response.status_mut() = refusal.status();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    say_why(headers, refusal);
    journal.describe(headers);
    if let Some(retry_after) = refusal.retry_after() {
        // In whole seconds, and never too early (RFC 9110 §10.2.3).
        let seconds = retry_after.as_secs() + u64::from(retry_after.subsec_nanos() > 0);
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
    }
    if refusal.flag() == Flag::UO {
        headers.insert(OVERLOADED.clone(), HeaderValue::from_static("true"));
    }
    response
}

/// A refusal's letters and its sentence, for a response that stands for it.
fn say_why(headers: &mut HeaderMap, refusal: &Refusal) {
    headers.insert(FLAGS.clone(), HeaderValue::from_static(refusal.flag().letters()));
    // What a caller or a peer wrote may be long, or hold what a field value may not; the body has
    // it all.
    let reason = refusal.to_string();
    let start = reason.get(..MAX_REASON_BYTES).unwrap_or(&reason);
    if let Ok(start) = HeaderValue::from_str(start) {
        headers.insert(REASON.clone(), start);
    }
}

/// Counts how a request ended, once. A caller that leaves is noticed by the drop: nothing else
/// drops a request before its end.
struct Books {
    routing: Arc<Routing>,
    received: Instant,
    route: Option<usize>,
    admission: Option<Admission>,
    journal: Journal,
    /// What there is to write and to trace, if anybody wants it.
    line: Option<Box<AccessLine>>,
    /// In a box like the line: both are large, there seldom is one, and the books are moved often.
    span: Option<Box<RequestSpan>>,
    /// The upstream's, once it has answered.
    status: StatusCode,
    open: bool,
}

impl Books {
    fn open(routing: Arc<Routing>, peer: Peer, request: &Request<Incoming>) -> Self {
        let received = Instant::now();
        let telemetry = &routing.telemetry;
        telemetry.emit(received.into_std(), &Event::RequestReceived);
        let span = telemetry.tracer().start(received.into_std(), request, Some(peer.0));
        let span = span.map(Box::new);
        let line = telemetry.wants_lines();
        let line = line.then(|| Box::new(line_of(peer, request, span.as_deref())));
        let journal = Journal::default();
        Self {
            routing,
            received,
            route: None,
            admission: None,
            journal,
            line,
            span,
            status: StatusCode::OK,
            open: true,
        }
    }

    fn close(&mut self, outcome: RequestOutcome, status: Option<StatusCode>, now: Instant) {
        if !std::mem::take(&mut self.open) {
            return;
        }
        let elapsed = now.duration_since(self.received);
        if let Some(admission) = self.admission.take() {
            admission.ended(outcome, elapsed, now);
        }
        let attempts = self.journal.attempts;
        let line = self.line.take().map(|line| Arc::new(self.finished(*line)));
        let end = RequestEnd { outcome, status, elapsed, attempts, line };
        if let Some(span) = self.span.take() {
            span.end(now.into_std(), &end);
        }
        self.routing.telemetry.emit(now.into_std(), &Event::RequestEnded(end));
    }

    /// The upstream's response was complete at `now`.
    fn complete(&mut self, now: Instant) {
        let outcome = match self.status.is_server_error() {
            true => RequestOutcome::Failed,
            false => RequestOutcome::Ok,
        };
        self.close(outcome, Some(self.status), now);
    }

    /// The line with what is known only now.
    fn finished(&self, line: AccessLine) -> AccessLine {
        let cluster = self.route.and_then(|route| self.routing.cluster_of(route));
        let at = |endpoint| cluster.map(|cluster| EndpointRef { cluster, endpoint });
        let endpoint = self.journal.endpoint.as_ref().and_then(|endpoint| at(endpoint.id));
        AccessLine { cluster, endpoint, ..line }
    }

    /// What is served while a circuit is open, if its route says so.
    fn fallback(&self, refusal: &Refusal) -> Option<Response<ResponseBody>> {
        let Refusal::CircuitOpen { .. } = refusal else { return None };
        let fallback = self.routing.treatments[self.route?].fallback.as_ref()?;
        let mut response = Response::new(ResponseBody::own(fallback.body.clone()));
        *response.status_mut() = fallback.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, fallback.content_type.clone());
        say_why(headers, refusal);
        if let Some(cluster) = self.routing.cluster_of(self.route?) {
            let event = Event::FallbackServed { cluster };
            self.routing.telemetry.emit(Instant::now().into_std(), &event);
        }
        Some(response)
    }
}

impl Drop for Books {
    fn drop(&mut self) {
        if self.open {
            self.close(RequestOutcome::Cancelled, None, Instant::now());
        }
    }
}

/// A response body of either origin.
pub struct ResponseBody(Origin);

enum Origin {
    /// An upstream's, passed through.
    Upstream { body: UpstreamBody, books: Box<Books> },
    /// Our own words.
    Own(Full<Bytes>),
}

impl ResponseBody {
    fn upstream(body: UpstreamBody, mut books: Box<Books>) -> Self {
        if let Some(now) = body.completed_at() {
            books.complete(now);
        }
        Self(Origin::Upstream { body, books })
    }

    fn own(text: Bytes) -> Self {
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
            Origin::Upstream { body, books } => {
                let polled = Pin::new(&mut *body).poll_frame(cx);
                if let (Poll::Ready(Some(Ok(frame))), Some(line)) = (&polled, &mut books.line) {
                    line.bytes_sent += frame.data_ref().map_or(0, |data| data.len() as u64);
                }
                if let Poll::Ready(Some(Err(error))) = &polled {
                    let outcome = RequestOutcome::Refused(error.flag());
                    books.close(outcome, Some(books.status), Instant::now());
                } else if let Some(now) = body.completed_at() {
                    books.complete(now);
                }
                polled
            }
            Origin::Own(body) => Pin::new(body).poll_frame(cx).map_err(|never| match never {}),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Origin::Upstream { body, .. } => body.is_end_stream(),
            Origin::Own(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Origin::Upstream { body, .. } => body.size_hint(),
            Origin::Own(body) => body.size_hint(),
        }
    }
}
