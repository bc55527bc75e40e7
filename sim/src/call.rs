//! What a backend asks of another service while it works: the second hop.
//!
//! An instance calls through its own sidecar, as an application in a mesh does, and hands on what
//! belongs to the request and not to the hop: how much time is left, who traces it, and which one
//! it is. It speaks plain HTTP/1.1 over a stream from [`proxy::seam`], one connection a call, and
//! the connection lives inside the future of the work: whoever drops the work, because its caller
//! has left, drops the call with it, and the next hop sees that within a link's latency.

use std::io;
use std::pin::pin;

use bytes::Bytes;
use http::header::{HOST, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use proxy::config::EndpointAddr;
use proxy::seam::{Dialer, dial};

use crate::backend::INDEX_HEADER;

/// What is handed on from the request to the calls that it makes.
static PROPAGATED: [HeaderName; 4] = [
    HeaderName::from_static("x-envoy-expected-rq-timeout-ms"),
    HeaderName::from_static("grpc-timeout"),
    HeaderName::from_static("traceparent"),
    HeaderName::from_static(INDEX_HEADER),
];

/// A service that is called, and the way to it.
#[derive(Clone)]
pub struct Call {
    /// Opens a connection to the caller's own sidecar.
    pub dialer: Dialer,
    /// Where that listens for this service.
    pub sidecar: EndpointAddr,
    /// The service's name, as the `Host` of the call.
    pub service: HeaderValue,
}

impl Call {
    /// Makes one call on behalf of a request with this method and these fields.
    ///
    /// # Errors
    /// The status with which the caller answers in turn: 504 when the called service's time was
    /// up, 502 for any other failure.
    pub async fn make(&self, method: &Method, headers: &HeaderMap) -> Result<(), StatusCode> {
        match self.status(method, headers).await {
            Ok(status) if status < StatusCode::BAD_REQUEST => Ok(()),
            Ok(StatusCode::GATEWAY_TIMEOUT) => Err(StatusCode::GATEWAY_TIMEOUT),
            Ok(_) | Err(_) => Err(StatusCode::BAD_GATEWAY),
        }
    }

    async fn status(&self, method: &Method, headers: &HeaderMap) -> io::Result<StatusCode> {
        let stream = dial(self.dialer.clone(), self.sidecar.clone()).await?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        let exchange = async {
            let response = sender.send_request(self.request(method, headers)).await?;
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

    fn request(&self, method: &Method, headers: &HeaderMap) -> Request<Empty<Bytes>> {
        let mut request = Request::new(Empty::new());
        *request.method_mut() = method.clone();
        request.headers_mut().insert(HOST, self.service.clone());
        for name in &PROPAGATED {
            for value in headers.get_all(name) {
                request.headers_mut().append(name.clone(), value.clone());
            }
        }
        request
    }
}
