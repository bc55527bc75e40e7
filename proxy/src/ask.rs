//! One small question to an endpoint, on a connection of its own: health checks and load probes.
//!
//! Not through the pool: a question about an endpoint must not wait behind its requests, and must
//! be answered where a pool has given up.

use std::time::Duration;

use bytes::Bytes;
use http::header::{HOST, HeaderValue, USER_AGENT};
use http::{Method, Request, Response, Uri};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;

use crate::config::EndpointAddr;
use crate::pool::MAX_HEAD_BYTES;
use crate::seam::{Dialer, dial};

/// Why there was no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// No connection.
    #[error("connecting failed")]
    Connect(#[source] std::io::Error),
    /// No response, or none that is HTTP.
    #[error("no response")]
    Exchange(#[source] hyper::Error),
    /// The connection was closed without one.
    #[error("the connection was closed without a response")]
    Closed,
    /// None in time.
    #[error("no response within {}", humantime::format_duration(*.0))]
    Late(Duration),
}

/// Connects, and closes again.
///
/// # Errors
/// When that is not possible within `timeout`.
pub async fn connect(
    dialer: Dialer,
    addr: EndpointAddr,
    timeout: Duration,
) -> Result<(), AskError> {
    let dialing = tokio::time::timeout(timeout, dial(dialer, addr));
    let _io = dialing.await.map_err(|_| AskError::Late(timeout))?.map_err(AskError::Connect)?;
    Ok(())
}

/// The head of the response to `GET path`.
///
/// # Errors
/// When there is none within `timeout`.
pub async fn get(
    dialer: Dialer,
    addr: EndpointAddr,
    path: Uri,
    timeout: Duration,
) -> Result<Response<()>, AskError> {
    let exchange = async {
        let host = HeaderValue::from_str(addr.as_str()).unwrap_or(HeaderValue::from_static(""));
        let io = dial(dialer, addr).await.map_err(AskError::Connect)?;
        let (mut sender, connection) = http1::Builder::new()
            .max_buf_size(MAX_HEAD_BYTES)
            .handshake(TokioIo::new(io))
            .await
            .map_err(AskError::Exchange)?;
        let mut request = Request::new(Empty::<Bytes>::new());
        *request.method_mut() = Method::GET;
        *request.uri_mut() = path;
        request.headers_mut().insert(HOST, host);
        request.headers_mut().insert(USER_AGENT, HeaderValue::from_static("meshbench-check"));
        let response = sender.send_request(request);
        // The connection is driven here and dropped with the answer: nothing is left behind.
        let response: Response<Incoming> = tokio::select! {
            biased;
            response = response => response.map_err(AskError::Exchange)?,
            ended = connection => {
                return Err(ended.map_or_else(AskError::Exchange, |()| AskError::Closed));
            }
        };
        Ok(response.map(|_body| ()))
    };
    tokio::time::timeout(timeout, exchange).await.unwrap_or(Err(AskError::Late(timeout)))
}
