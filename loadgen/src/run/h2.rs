//! Requests as streams of HTTP/2 connections that lanes share.
//!
//! The `h2` crate is used as it is, and not through hyper's client: it neither spawns tasks nor
//! sets timers, so a run stays one future, and it costs a fifth less for each request where
//! connections carry few streams. Windows are large because content is thrown away as it comes:
//! a small window would measure round trips.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::task::Poll;

use bytes::Bytes;
use h2::client::{self, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderName, Request};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Mutex;
use tokio::time::Instant;
use tower::Service;

use super::desk::Ending;
use super::lane::{Shared, Trip};
use super::tally::Counted;
use crate::exchange::Alarm;
use crate::expect::Inspector;
use crate::observer::{Event, Failure, Observer};
use crate::response::Visit as _;
use crate::target::{Draw, Target};

/// Content that a server may send ahead on one stream, in bytes.
const STREAM_WINDOW: u32 = 1024 * 1024;

/// Content that a server may send ahead on one connection, in bytes.
const CONNECTION_WINDOW: u32 = 16 * 1024 * 1024;

/// A request's head and its body.
type Whole = (Request<()>, Bytes);

/// Requests, made once where all of a target's are the same.
pub(super) struct Outlines {
    targets: Vec<(Target, Option<Whole>)>,
    index_header: Option<HeaderName>,
}

impl Outlines {
    pub(super) fn new<'t>(
        targets: impl Iterator<Item = &'t Target>,
        index_header: Option<&HeaderName>,
    ) -> Outlines {
        let outline = |target: &Target| {
            let draw = Draw { seed: 0, index: 0 };
            let is_constant = target.is_constant() && index_header.is_none();
            let constant =
                is_constant.then(|| (target.h2_head(draw, None), target.h2_body(draw).into()));
            (target.clone(), constant)
        };
        Outlines { targets: targets.map(outline).collect(), index_header: index_header.cloned() }
    }

    fn request(&self, trip: &Trip) -> Whole {
        let (target, constant) = &self.targets[trip.target];
        match constant {
            Some((head, body)) => (head.clone(), body.clone()),
            None => {
                let head = target.h2_head(trip.draw, self.index_header.as_ref());
                (head, target.h2_body(trip.draw).into())
            }
        }
    }
}

/// An open connection, which does its work only while it is polled.
pub(super) struct Driver<IO> {
    connection: client::Connection<IO, Bytes>,
    _counted: Counted,
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Driver<IO> {
    pub(super) async fn run(self) {
        // Why it ended, its streams have been told.
        let _ = self.connection.await;
    }
}

/// One connection that lanes share. The first that needs it opens it, while the others wait at
/// the lock, each no longer than its request's time.
#[derive(Default)]
pub(super) struct Group {
    sender: Mutex<Option<SendRequest<Bytes>>>,
}

/// Why there is no whole response: the stream failed, behind a head with this status if there was
/// one.
struct Broken {
    error: h2::Error,
    status: Option<u16>,
}

impl Group {
    pub(super) fn is_open(&self) -> bool {
        self.sender.try_lock().is_ok_and(|sender| sender.is_some())
    }

    /// Sees one request to its end.
    pub(super) async fn carry<C, O>(
        &self,
        shared: &Shared<'_, '_, C, O>,
        trip: &Trip,
        inspector: &mut Inspector,
        mut alarm: Pin<&mut Alarm>,
    ) -> Ending
    where
        C: Service<String, Error = io::Error> + Clone,
        C::Response: AsyncRead + AsyncWrite + Unpin,
        O: Observer + ?Sized,
    {
        let is_idempotent = shared.encoded[trip.target].is_idempotent;
        loop {
            let (sender, reused) = match self.lend(shared, trip, alarm.as_mut()).await {
                Ok(lent) => lent,
                Err(ending) => return ending,
            };
            shared.desk.borrow_mut().sent(trip.slot, Some(Instant::now()));
            let result = {
                let request = shared.outlines.request(trip);
                let exchange = pin!(exchange(sender, request, &mut *inspector));
                within(exchange, trip.limit, alarm.as_mut()).await
            };
            let Broken { error, status } = match result {
                None => return Ending::TimedOut,
                Some(Ok(answer)) => return answer,
                Some(Err(broken)) => broken,
            };
            // A refused stream was not looked at (RFC 9113, section 8.7); a connection that ends
            // before it answers may have been ending as the request was on its way.
            let refused = error.reason() == Some(Reason::REFUSED_STREAM);
            if status.is_none() && reused && (refused || is_idempotent && !error.is_reset()) {
                *self.sender.lock().await = None;
                inspector.reset();
                shared.desk.borrow_mut().note(Event::Retried);
                continue;
            }
            let failure = failure(error);
            shared.desk.borrow_mut().note(Event::Failed(&failure));
            return match failure {
                Failure::MalformedStream(_) => Ending::Malformed(status),
                _ => Ending::Closed(status),
            };
        }
    }

    /// The right to send on the connection, and whether it was open already.
    async fn lend<C, O>(
        &self,
        shared: &Shared<'_, '_, C, O>,
        trip: &Trip,
        mut alarm: Pin<&mut Alarm>,
    ) -> Result<(SendRequest<Bytes>, bool), Ending>
    where
        C: Service<String, Error = io::Error> + Clone,
        C::Response: AsyncRead + AsyncWrite + Unpin,
        O: Observer + ?Sized,
    {
        let lock = pin!(self.sender.lock());
        let locked = within(lock, trip.limit, alarm.as_mut()).await;
        let Some(mut place) = locked else { return Err(Ending::TimedOut) };
        if let Some(sender) = &*place {
            let mut sender = sender.clone();
            if poll_fn(|cx| sender.poll_ready(cx)).await.is_ok() {
                return Ok((sender, true));
            }
            *place = None;
        }
        let io = shared.dial(trip.address, trip.limit, alarm.as_mut()).await?;
        let mut builder = client::Builder::new();
        builder
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .enable_push(false);
        let handshake = pin!(builder.handshake(io));
        match within(handshake, trip.limit, alarm).await {
            None => Err(Ending::TimedOut),
            Some(Err(error)) => {
                shared.desk.borrow_mut().note(Event::Failed(&failure(error)));
                Err(Ending::Closed(None))
            }
            Some(Ok((sender, connection))) => {
                let counted = Counted::new(&shared.connections);
                shared.drive(Driver { connection, _counted: counted });
                *place = Some(sender.clone());
                Ok((sender, false))
            }
        }
    }
}

/// Sends a request and reads its answer to the end.
async fn exchange(
    mut sender: SendRequest<Bytes>,
    (head, body): Whole,
    inspector: &mut Inspector,
) -> Result<Ending, Broken> {
    let broken = |status: Option<u16>| move |error: h2::Error| Broken { error, status };
    let (response, stream) = sender.send_request(head, body.is_empty()).map_err(broken(None))?;
    let mut sending = pin!(async {
        // A server may answer and stop reading: what it answers counts, not that.
        let _ = send(stream, body).await;
        std::future::pending::<()>().await;
    });
    let mut receiving = pin!(async {
        let response = response.await.map_err(broken(None))?;
        let status = response.status().as_u16();
        inspector.headers(response.headers());
        let mut content = response.into_body();
        let heard = if content.is_end_stream() { None } else { Some(Instant::now()) };
        receive(&mut content, inspector).await.map_err(broken(Some(status)))?;
        Ok(Ending::Answered { status, satisfied: inspector.is_satisfied(), heard })
    });
    poll_fn(|cx| {
        let _ = sending.as_mut().poll(cx);
        receiving.as_mut().poll(cx)
    })
    .await
}

async fn receive(content: &mut RecvStream, inspector: &mut Inspector) -> Result<(), h2::Error> {
    while let Some(data) = content.data().await {
        let data = data?;
        inspector.content(&data);
        content.flow_control().release_capacity(data.len())?;
    }
    content.trailers().await.map(|_| ())
}

async fn send(mut stream: SendStream<Bytes>, mut body: Bytes) -> Result<(), h2::Error> {
    while !body.is_empty() {
        stream.reserve_capacity(body.len());
        let Some(room) = poll_fn(|cx| stream.poll_capacity(cx)).await.transpose()? else { break };
        let piece = body.split_to(room.min(body.len()));
        stream.send_data(piece, body.is_empty())?;
    }
    Ok(())
}

/// The future's output, unless the limit passes first.
async fn within<F: Future>(
    mut future: Pin<&mut F>,
    limit: Instant,
    mut alarm: Pin<&mut Alarm>,
) -> Option<F::Output> {
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => alarm.as_mut().poll(cx, limit).map(|()| None),
    })
    .await
}

/// Whose fault it was: what this side found wrong is malformed, the rest is an end.
fn failure(error: h2::Error) -> Failure {
    if error.is_io() {
        let lost = || io::ErrorKind::UnexpectedEof.into();
        Failure::Closed(error.into_io().unwrap_or_else(lost))
    } else if error.is_library() {
        Failure::MalformedStream(error)
    } else {
        Failure::StreamEnded(error)
    }
}
