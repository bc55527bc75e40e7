//! What goes back to the caller: the service's response, or why there is none.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Response;
use http::header::{CONNECTION, CONTENT_TYPE, HeaderValue};
use hyper::body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::exchange::{Exchange, Refusal};
use crate::headers::{FLAGS, REASON};

pin_project! {
    /// A response body of either origin.
    #[project = Projected]
    pub(super) enum Answer<B> {
        /// The service's. It is over when this is dropped, sent in full or not.
        Service { #[pin] body: B, over: Over },
        /// Our own words.
        Own { text: Bytes },
    }
}

/// Says, when dropped, that a response is over.
pub(super) struct Over(Exchange);

impl Drop for Over {
    fn drop(&mut self) {
        self.0.response_over();
    }
}

/// The service's response.
pub(super) fn answered<B>(response: Response<B>, exchange: &Exchange) -> Response<Answer<B>> {
    exchange.response_begun();
    let over = Over(exchange.clone());
    response.map(|body| Answer::Service { body, over })
}

/// Says why, and ends the connection.
pub(super) fn refused<B>(refusal: Refusal, exchange: &Exchange) -> Response<Answer<B>> {
    exchange.refusal_begun();
    let reason = refusal.to_string();
    let field = HeaderValue::from_str(&reason);
    let mut response = Response::new(Answer::Own { text: Bytes::from(reason + "\n") });
    *response.status_mut() = refusal.status();
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(FLAGS.clone(), HeaderValue::from_static(refusal.flag().letters()));
    if let Ok(field) = field {
        headers.insert(REASON.clone(), field);
    }
    response
}

impl<B: Body<Data = Bytes>> Body for Answer<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match self.project() {
            Projected::Service { body, .. } => body.poll_frame(cx),
            Projected::Own { text } if text.is_empty() => Poll::Ready(None),
            Projected::Own { text } => Poll::Ready(Some(Ok(Frame::data(std::mem::take(text))))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Answer::Service { body, .. } => body.is_end_stream(),
            Answer::Own { text } => text.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Answer::Service { body, .. } => body.size_hint(),
            Answer::Own { text } => SizeHint::with_exact(text.len() as u64),
        }
    }
}
