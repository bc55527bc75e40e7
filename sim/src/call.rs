//! What a backend asks of another service while it works: the second hop.
//!
//! An instance calls through its own sidecar, as an application in a mesh does, and hands on what
//! belongs to the request and not to the hop: how much time is left, who traces it, and which one
//! it is. It speaks plain HTTP/1.1 over a stream from [`proxy::seam`], one connection a call, and
//! the connection lives inside the future of the work: whoever drops the work, because its caller
//! has left, drops the call with it, and the next hop sees that within a link's latency.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::future::try_join_all;
use http::header::{HOST, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use proxy::config::EndpointAddr;
use proxy::rng::stream;
use proxy::seam::{Dialer, dial};
use rand::RngExt as _;
use xxhash_rust::xxh3::xxh3_64;

use crate::backend::{Asked, INDEX_HEADER, PLACE_HEADER, WORDS_PER_REQUEST};
use crate::world::CallSpec;

/// What is handed on from the request to the calls that it makes.
static PROPAGATED: [HeaderName; 4] = [
    HeaderName::from_static("x-envoy-expected-rq-timeout-ms"),
    HeaderName::from_static("grpc-timeout"),
    HeaderName::from_static("traceparent"),
    HeaderName::from_static(INDEX_HEADER),
];

/// A service that is called, and the way to it. Clones count together.
#[derive(Clone)]
pub struct Call {
    /// Opens a connection to the caller's own sidecar.
    pub dialer: Dialer,
    /// Where that listens for this service.
    pub sidecar: EndpointAddr,
    /// The service's name, as the `Host` of the call.
    pub service: HeaderValue,
    /// What is asked, and how often.
    pub spec: CallSpec,
    /// How many were begun.
    pub made: Arc<AtomicU64>,
}

/// On whose behalf calls are made.
pub(crate) struct Caller<'a> {
    pub(crate) head: &'a Parts,
    pub(crate) asked: Asked,
    pub(crate) seed: u64,
}

/// Makes all calls of a group at once; `place` is the group's among those of its instance. The
/// first that fails ends the others.
///
/// # Errors
/// As [`Call::make`].
pub(crate) async fn make_all(
    group: &[Call],
    caller: &Caller<'_>,
    place: usize,
) -> Result<(), StatusCode> {
    let places = group.iter().enumerate();
    match group {
        [only] => only.make(caller, [place, 0]).await,
        _ => try_join_all(places.map(|(at, call)| call.make(caller, [place, at]))).await.map(drop),
    }
}

impl Call {
    /// Makes a call as often as it is to be made, one after the other.
    ///
    /// # Errors
    /// The status with which the caller answers in turn: 504 when the called service's time was
    /// up, 502 for any other failure.
    async fn make(&self, caller: &Caller<'_>, place: [usize; 2]) -> Result<(), StatusCode> {
        for time in 0..self.spec.times.get() {
            let place = place_of(caller.asked, place, time);
            if !self.is_drawn(caller, place) {
                continue;
            }
            self.made.fetch_add(1, Ordering::Relaxed);
            match self.status(caller, place).await {
                Ok(status) if status < StatusCode::BAD_REQUEST => {}
                Ok(StatusCode::GATEWAY_TIMEOUT) => return Err(StatusCode::GATEWAY_TIMEOUT),
                Ok(_) | Err(_) => return Err(StatusCode::BAD_GATEWAY),
            }
        }
        Ok(())
    }

    /// Whether this one is made, which depends on the request and on the place of the call alone.
    fn is_drawn(&self, caller: &Caller<'_>, place: u64) -> bool {
        if self.spec.share >= 1.0 {
            return true;
        }
        let mut rng = stream(caller.seed, &format!("call/{place}"));
        rng.set_word_pos(u128::from(caller.asked.index.unwrap_or_default()) * WORDS_PER_REQUEST);
        rng.random::<f64>() < self.spec.share
    }

    async fn status(&self, caller: &Caller<'_>, place: u64) -> io::Result<StatusCode> {
        let stream = dial(self.dialer.clone(), self.sidecar.clone()).await?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        let exchange = async {
            let response = sender.send_request(self.request(caller, place)).await?;
            let status = response.status();
            // The whole answer is wanted; one that breaks off is a failure.
            let mut body = response.into_body();
            while let Some(frame) = body.frame().await {
                frame?;
            }
            Ok::<_, hyper::Error>(status)
        };
        let (mut exchange, mut connection) = (pin!(exchange), pin!(connection));
        let ended = tokio::select! {
            biased;
            ended = exchange.as_mut() => ended,
            // What the connection had for the exchange is there to be read after its end.
            _ = connection.as_mut() => exchange.await,
        };
        ended.map_err(io::Error::other)
    }

    fn request(&self, caller: &Caller<'_>, place: u64) -> Request<Empty<Bytes>> {
        let mut request = Request::new(Empty::new());
        *request.method_mut() = self.spec.method.as_ref().unwrap_or(&caller.head.method).clone();
        *request.uri_mut() = Uri::from(self.spec.path.clone());
        let headers = request.headers_mut();
        headers.insert(HOST, self.service.clone());
        headers.insert(HeaderName::from_static(PLACE_HEADER), HeaderValue::from(place));
        for name in &PROPAGATED {
            for value in caller.head.headers.get_all(name) {
                headers.append(name.clone(), value.clone());
            }
        }
        headers.extend(self.spec.headers.clone());
        request
    }
}

/// A number for each call that is made for a request, different from all others' and from 0.
fn place_of(parent: Asked, [group, member]: [usize; 2], time: u32) -> u64 {
    let mut bytes = [0; 40];
    let (parent, attempt) = (parent.place, u64::from(parent.attempt));
    let parts = [parent, group as u64, member as u64, u64::from(time), attempt];
    for (to, part) in bytes.chunks_exact_mut(8).zip(parts) {
        to.copy_from_slice(&part.to_le_bytes());
    }
    xxh3_64(&bytes).max(1)
}
