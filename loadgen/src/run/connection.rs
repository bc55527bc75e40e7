//! One connection's life: open, carry requests one after the other, end.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::task::Poll;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use tower::Service;

use super::Options;
use super::desk::{Desk, Ending, Job};
use crate::exchange::{Alarm, Answer, Attempt, Broken, Connection};
use crate::observer::{Event, Failure, Observer};
use crate::response::Decoder;
use crate::target::Encoded;

/// What a connection needs to know.
pub(super) struct Worker<'a, 'o, C, O: ?Sized> {
    pub(super) desk: &'a RefCell<Desk<'o, O>>,
    pub(super) request: &'a Encoded,
    pub(super) options: &'a Options,
    pub(super) connect: C,
}

impl<C: Clone, O: ?Sized> Clone for Worker<'_, '_, C, O> {
    fn clone(&self) -> Self {
        Self {
            desk: self.desk,
            request: self.request,
            options: self.options,
            connect: self.connect.clone(),
        }
    }
}

impl<C, O> Worker<'_, '_, C, O>
where
    C: Service<String, Error = io::Error>,
    C::Response: AsyncRead + AsyncWrite + Unpin,
    O: Observer + ?Sized,
{
    /// Carries requests, beginning with the one handed to this slot, until there is no connection
    /// and nothing due.
    pub(super) async fn work(mut self, slot: usize) {
        let mut job = self.handed(slot).await;
        let mut connection = None;
        let mut scratch = Vec::new();
        let mut now = Instant::now();
        let mut alarm = pin!(Alarm::new(now + self.options.timeout));
        loop {
            self.desk.borrow_mut().begin(slot, job, now, connection.is_some());
            let ending = {
                let limit = now + self.options.timeout;
                let bytes = self.request.bytes(job.index, &mut scratch);
                let trip = Trip { slot, bytes, begun: now, limit };
                self.carry(&mut connection, trip, alarm.as_mut()).await
            };
            now = Instant::now();
            let open = connection.is_some();
            let next = self.desk.borrow_mut().finish(slot, ending, now, open);
            job = match next {
                Some(next) => next,
                None if !open => return,
                None => {
                    let next = self.handed(slot).await;
                    if let Some(idle) = &mut connection
                        && idle.is_stale().await
                    {
                        connection = None;
                    }
                    now = Instant::now();
                    next
                }
            };
        }
    }

    async fn handed(&self, slot: usize) -> Job {
        poll_fn(|cx| self.desk.borrow_mut().poll_handed(slot, cx.waker())).await
    }

    /// Sees one request to its end, and leaves `connection` open only if it can carry another.
    async fn carry(
        &mut self,
        connection: &mut Option<Connection<C::Response>>,
        trip: Trip<'_>,
        mut alarm: std::pin::Pin<&mut Alarm>,
    ) -> Ending {
        let mut sent = trip.begun;
        loop {
            let reused = connection.is_some();
            let mut open = match connection.take() {
                Some(open) => open,
                None => match self.open(&trip, alarm.as_mut()).await {
                    Ok((open, at)) => {
                        sent = at;
                        open
                    }
                    Err(ending) => return ending,
                },
            };
            self.desk.borrow_mut().sent(trip.slot, sent);
            let mut decoder = Decoder::new(self.request.is_head);
            let attempt = Attempt::new(trip.bytes, &mut decoder);
            match open.exchange(attempt, trip.limit, alarm.as_mut()).await {
                Ok(Answer { status, reusable }) => {
                    if reusable && !self.request.closes {
                        *connection = Some(open);
                    }
                    return Ending::Answered(status);
                }
                Err(Broken::TimedOut) => return Ending::TimedOut,
                // The server closed an idle connection as the request was on its way. Only what
                // may be done twice is sent twice (RFC 9110, section 9.2.2); the new connection
                // is not reused, so there is no third time.
                Err(Broken::Failed { silent: true, .. })
                    if reused && self.request.is_idempotent =>
                {
                    self.desk.borrow_mut().note(Event::Retried);
                }
                Err(Broken::Failed { failure, .. }) => {
                    self.desk.borrow_mut().note(Event::Failed(&failure));
                    return match failure {
                        Failure::Malformed(_) => Ending::Malformed(decoder.status()),
                        _ => Ending::Closed(decoder.status()),
                    };
                }
            }
        }
    }

    /// Opens a connection within the request's time, and says when it was open.
    async fn open(
        &mut self,
        trip: &Trip<'_>,
        mut alarm: std::pin::Pin<&mut Alarm>,
    ) -> Result<(Connection<C::Response>, Instant), Ending> {
        let asked = Instant::now();
        let mut dial = pin!(async {
            poll_fn(|cx| self.connect.poll_ready(cx)).await?;
            self.connect.call(self.options.address.clone()).await
        });
        let dialled = poll_fn(|cx| match dial.as_mut().poll(cx) {
            Poll::Ready(result) => Poll::Ready(Some(result)),
            Poll::Pending => alarm.as_mut().poll(cx, trip.limit).map(|()| None),
        })
        .await;
        match dialled {
            Some(Ok(io)) => {
                let now = Instant::now();
                self.desk.borrow_mut().note(Event::Connected { took: now - asked });
                Ok((Connection::new(io), now))
            }
            Some(Err(error)) => {
                let failure = Failure::Connect(error);
                self.desk.borrow_mut().note(Event::Failed(&failure));
                Err(Ending::NotConnected)
            }
            None => Err(Ending::TimedOut),
        }
    }
}

/// One request on its way.
struct Trip<'a> {
    slot: usize,
    bytes: &'a [u8],
    begun: Instant,
    limit: Instant,
}
