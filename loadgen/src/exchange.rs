//! One request and its response on one connection.
//!
//! Writing and reading go on together, so that a server that answers before it has read the whole
//! request is heard. Nothing of a body is kept.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use crate::expect::Inspector;
use crate::observer::Failure;
use crate::response::{Decoder, MAX_HEAD};

/// Room for a usual response. Small, so that what all connections read into stays in the cache;
/// a response that fills it doubles it, up to [`MAX_HEAD`].
const READ_BUFFER: usize = 1024;

/// After this many reads that did not have to wait, the clock is looked at and others get a turn:
/// a server that sends without end must not outrun its timeout.
const READS_PER_TURN: u32 = 32;

/// A keep-alive connection between two requests, or during one.
pub(crate) struct Connection<IO> {
    io: IO,
    buffer: Vec<u8>,
    /// Bytes of the buffer that have arrived and are not used yet.
    filled: usize,
    decoder: Decoder,
}

/// What a whole response said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// When its first byte arrived, if it did not arrive all at once.
    pub(crate) heard: Option<Instant>,
    /// The connection may be used again.
    pub(crate) reusable: bool,
}

/// Why there is no whole response.
#[derive(Debug)]
pub(crate) enum Broken {
    /// The time was up.
    TimedOut,
    /// The connection ended or failed, before any byte of a response if `silent`.
    Failed { failure: Failure, silent: bool },
}

/// One try to get a response.
pub(crate) struct Attempt<'a> {
    request: &'a [u8],
    written: usize,
    flushed: bool,
    /// Writing failed; the response may still be there to read.
    write_error: Option<io::Error>,
    inspector: &'a mut Inspector,
    /// When the first byte of the response arrived.
    heard: Option<Instant>,
}

impl<'a> Attempt<'a> {
    pub(crate) fn new(request: &'a [u8], inspector: &'a mut Inspector) -> Self {
        Self { request, written: 0, flushed: false, write_error: None, inspector, heard: None }
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Connection<IO> {
    pub(crate) fn new(io: IO) -> Self {
        Self { io, buffer: vec![0; READ_BUFFER], filled: 0, decoder: Decoder::new(false) }
    }

    /// The status of the response, as soon as its head has arrived.
    pub(crate) fn status(&self) -> Option<u16> {
        self.decoder.status()
    }

    /// True if the connection, idle till now, has ended or received what nobody asked for.
    ///
    /// It costs no system call as long as the runtime has heard nothing from the socket.
    pub(crate) async fn is_stale(&mut self) -> bool {
        poll_fn(|cx| Poll::Ready(self.poll_read(cx).is_ready())).await
    }

    /// Sends the request, a HEAD if `is_head`, and waits for the whole response, until `limit`.
    pub(crate) async fn exchange(
        &mut self,
        mut attempt: Attempt<'_>,
        is_head: bool,
        limit: Instant,
        mut alarm: Pin<&mut Alarm>,
    ) -> Result<Answer, Broken> {
        self.decoder.reset(is_head);
        poll_fn(|cx| {
            self.poll_write(cx, &mut attempt);
            for _ in 0..READS_PER_TURN {
                match self.poll_answer(cx, &mut attempt) {
                    Poll::Ready(Some(result)) => return Poll::Ready(result),
                    Poll::Ready(None) => {}
                    Poll::Pending => {
                        return alarm.as_mut().poll(cx, limit).map(|()| Err(Broken::TimedOut));
                    }
                }
            }
            if Instant::now() >= limit {
                return Poll::Ready(Err(Broken::TimedOut));
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await
    }

    /// Writes as much of the request as the connection takes.
    fn poll_write(&mut self, cx: &mut Context<'_>, attempt: &mut Attempt<'_>) {
        while attempt.write_error.is_none() && !attempt.flushed {
            let rest = &attempt.request[attempt.written..];
            let result = if rest.is_empty() {
                Pin::new(&mut self.io).poll_flush(cx).map_ok(|()| attempt.flushed = true)
            } else {
                Pin::new(&mut self.io).poll_write(cx, rest).map(|result| match result {
                    Ok(0) => Err(io::ErrorKind::WriteZero.into()),
                    Ok(count) => {
                        attempt.written += count;
                        Ok(())
                    }
                    Err(error) => Err(error),
                })
            };
            match result {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => attempt.write_error = Some(error),
                Poll::Pending => return,
            }
        }
    }

    /// Reads once. `None` when the response needs more.
    fn poll_answer(
        &mut self,
        cx: &mut Context<'_>,
        attempt: &mut Attempt<'_>,
    ) -> Poll<Option<Result<Answer, Broken>>> {
        let failed = |failure, silent| Some(Err(Broken::Failed { failure, silent }));
        let count = match ready!(self.poll_read(cx)) {
            Ok(count) => count,
            Err(read_error) => {
                let error = attempt.write_error.take().unwrap_or(read_error);
                return Poll::Ready(failed(Failure::Closed(error), attempt.heard.is_none()));
            }
        };
        if count == 0 {
            if attempt.heard.is_some() && self.decoder.end_of_input().is_ok() {
                return Poll::Ready(Some(Ok(self.answer(attempt))));
            }
            let eof = || io::ErrorKind::UnexpectedEof.into();
            let error = attempt.write_error.take().unwrap_or_else(eof);
            return Poll::Ready(failed(Failure::Closed(error), attempt.heard.is_none()));
        }
        let used = match self.decoder.feed_to(&self.buffer[..self.filled], attempt.inspector) {
            Ok(used) => used,
            Err(error) => return Poll::Ready(failed(Failure::Malformed(error), false)),
        };
        // Nearly always all of it: moving nothing is not free.
        if used < self.filled {
            self.buffer.copy_within(used..self.filled, 0);
        }
        self.filled -= used;
        if self.decoder.is_done() {
            return Poll::Ready(Some(Ok(self.answer(attempt))));
        }
        // An answer that comes whole needs no second look at the clock.
        attempt.heard.get_or_insert_with(Instant::now);
        Poll::Ready(None)
    }

    fn answer(&self, attempt: &Attempt<'_>) -> Answer {
        Answer {
            status: self.decoder.status().unwrap_or_default(),
            heard: attempt.heard,
            // Not after bytes that nobody asked for, nor when the request was not read whole.
            reusable: self.decoder.is_reusable() && self.filled == 0 && attempt.flushed,
        }
    }

    /// Reads what is there into the buffer; 0 at the connection's end.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.filled == self.buffer.len() {
            // Full of what cannot be used yet, a head: one byte over the bound is enough for the
            // decoder to refuse it.
            let grown = (self.buffer.len() * 2).min(MAX_HEAD + 1);
            self.buffer.resize(grown, 0);
        }
        let mut room = ReadBuf::new(&mut self.buffer[self.filled..]);
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut room))?;
        let count = room.filled().len();
        self.filled += count;
        if self.filled == self.buffer.len() && self.filled < MAX_HEAD {
            self.buffer.resize(self.filled * 2, 0);
        }
        Poll::Ready(Ok(count))
    }
}

/// A timer that is set once and reset only when it rings too early for the request of the day:
/// arming a timer for each request would cost more than parsing its response.
pub(crate) struct Alarm {
    sleep: Pin<Box<Sleep>>,
    /// Who is woken when it rings: asking again would change nothing.
    asked: Option<Waker>,
}

impl Alarm {
    pub(crate) fn new(first: Instant) -> Self {
        Self { sleep: Box::pin(tokio::time::sleep_until(first)), asked: None }
    }

    /// Ready once `limit` has passed; limits must not go back in time.
    pub(crate) fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>, limit: Instant) -> Poll<()> {
        let will_wake = |waker: &Waker| waker.will_wake(cx.waker());
        if !self.sleep.is_elapsed() && self.asked.as_ref().is_some_and(will_wake) {
            return Poll::Pending;
        }
        while self.sleep.as_mut().poll(cx).is_ready() {
            if self.sleep.deadline() >= limit {
                self.asked = None;
                return Poll::Ready(());
            }
            self.sleep.as_mut().reset(limit);
        }
        self.asked = Some(cx.waker().clone());
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expect::Expect;
    use std::time::Duration;

    /// A server that is never out of words: each read yields at once, till it closes.
    struct Talker {
        reads_left: u32,
    }

    impl AsyncRead for Talker {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            room: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            if let Some(left) = self.reads_left.checked_sub(1) {
                self.reads_left = left;
                room.put_slice(b"HTTP/1.1 200 OK\r\n\r\n");
            }
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncWrite for Talker {
        fn poll_write(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    async fn listen(reads: u32, patience: Duration) -> Result<Answer, Broken> {
        let limit = Instant::now() + patience;
        let mut inspector = Inspector::new(&Expect::default());
        let attempt = Attempt::new(b"GET / HTTP/1.1\r\n\r\n", &mut inspector);
        let alarm = std::pin::pin!(Alarm::new(limit));
        Connection::new(Talker { reads_left: reads }).exchange(attempt, false, limit, alarm).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_never_pauses_does_not_outrun_its_timeout() {
        let reads = 10 * READS_PER_TURN;
        let answer = listen(reads, Duration::from_secs(1)).await;
        assert!(matches!(answer, Ok(Answer { status: 200, reusable: false, .. })), "{answer:?}");
        let answer = listen(reads, Duration::ZERO).await;
        assert!(matches!(answer, Err(Broken::TimedOut)), "{answer:?}");
    }
}
