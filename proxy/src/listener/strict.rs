//! Lets through to hyper what [`framing`](super::framing) finds sound, one request at a time.
//!
//! hyper's API does not show a head as it was on the wire, so the check stands in front of it. A
//! head that is not whole, or not sound, never reaches hyper, and so never an upstream. In its
//! place hyper reads [`STAND_IN`], a request of our own, which the service answers with the reason:
//! that way a refusal takes its turn behind the answers to earlier requests, and is written by the
//! same code as they are.
//!
//! A request that was sent ahead waits here and not in hyper's buffer, because hyper looks for the
//! end of its input only while that buffer is empty: a caller that pipelined and left would not be
//! noticed until its first answer.

use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use super::exchange::{Exchange, Input, Refusal};
use super::framing::{Framing, Limits, Step};
use crate::seam::Io;

/// What hyper reads in place of a request that is refused.
const STAND_IN: &[u8] = b"GET / HTTP/1.1\r\nhost:\r\n\r\n";

/// Bytes sent ahead that are kept while an earlier request is answered. One head's worth: more is
/// left in the kernel's buffer, where it slows the caller down.
const MOST_AHEAD: usize = crate::pool::MAX_HEAD_BYTES;

/// How long what a caller still sends is read and dropped after our last word. Closing a socket
/// with unread bytes resets it, and a reset takes the answer away that the caller has not read
/// (RFC 9112 §9.6). nginx's `lingering_timeout` is 5 s; within a mesh a second is many round trips.
const LINGER: Duration = Duration::from_secs(1);

/// A stream whose input is sound HTTP/1.1 requests, or ends.
pub(super) struct Strict<I> {
    io: I,
    framing: Framing,
    exchange: Exchange,
    /// Input that hyper has not had yet.
    held: BytesMut,
    /// How much of it is sound.
    sound: usize,
    /// The rest of it was not looked at, or was while less of it was there.
    is_news: bool,
    lingering: Option<Pin<Box<Sleep>>>,
}

/// The verdict on a stretch of input.
#[derive(Clone, Copy, Default)]
struct Verdict {
    /// Bytes at its start to be dropped.
    skipped: usize,
    /// Bytes after them that are sound.
    sound: usize,
}

impl<I: Io> Strict<I> {
    pub(super) fn new(io: I, limits: Limits, exchange: Exchange) -> Self {
        Self {
            io,
            framing: Framing::new(limits),
            exchange,
            held: BytesMut::new(),
            sound: 0,
            is_news: false,
            lingering: None,
        }
    }

    /// The next request has to wait for the answer to the one before.
    fn must_wait(&self) -> bool {
        self.framing.is_between() && !self.exchange.is_answered()
    }

    /// Looks at input up to the end of a request.
    fn judge(&mut self, input: &[u8]) -> Verdict {
        let Verdict { mut skipped, mut sound } = Verdict::default();
        while skipped + sound < input.len() && (sound == 0 || !self.framing.is_between()) {
            let is_head = !self.framing.is_in_body();
            match self.framing.advance(&input[skipped + sound..]) {
                Ok(Step::Pass(length)) => {
                    sound += length;
                    if is_head {
                        self.exchange.request_passed();
                    }
                }
                Ok(Step::Skip(length)) => skipped += length,
                Ok(Step::Hold) => break,
                Err(violation) => {
                    self.exchange.refuse(Refusal::Malformed(violation));
                    break;
                }
            }
        }
        self.is_news = self.framing.is_between();
        if sound > 0 {
            self.exchange.input_passed(self.input());
        }
        Verdict { skipped, sound }
    }

    fn judge_held(&mut self) {
        let held = std::mem::take(&mut self.held);
        let Verdict { skipped, sound } = self.judge(&held);
        self.held = held;
        self.held.advance(skipped);
        self.sound = sound;
    }

    /// Input that was read straight into hyper's buffer behind `before`, as nearly all is: what is
    /// sound of it stays there.
    fn judge_read(&mut self, out: &mut ReadBuf<'_>, before: usize) {
        let Verdict { skipped, sound } = self.judge(&out.filled()[before..]);
        let read = &out.filled()[before + skipped..];
        if skipped == 0 {
            self.held.extend_from_slice(&read[sound..]);
            out.set_filled(before + sound);
        } else {
            self.held.extend_from_slice(read);
            self.sound = sound;
            out.set_filled(before);
        }
    }

    fn hand_over(&mut self, out: &mut ReadBuf<'_>) {
        let length = self.sound.min(out.remaining());
        out.put_slice(&self.held[..length]);
        self.held.advance(length);
        self.sound -= length;
    }

    fn input(&self) -> Input {
        match self.framing.is_in_body() {
            true => Input::Body,
            false if self.held.len() == self.sound => Input::Between,
            false => Input::Head,
        }
    }

    fn poll_input(&mut self, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            if self.sound > 0 {
                self.hand_over(out);
                return Poll::Ready(Ok(()));
            }
            // What else the caller has to say is not HTTP that we understand.
            if let Some(refusal) = self.exchange.refusal() {
                match refusal {
                    Refusal::Malformed(violation) if self.framing.is_in_body() => {
                        return Poll::Ready(Err(io::Error::new(ErrorKind::InvalidData, violation)));
                    }
                    _ if self.framing.is_in_body() => return Poll::Pending,
                    _ if !self.exchange.is_answered() => return Poll::Pending,
                    _ => {}
                }
                self.held = BytesMut::from(STAND_IN);
                self.sound = STAND_IN.len();
                self.exchange.request_passed();
                continue;
            }
            let must_wait = self.must_wait();
            if self.is_news && !self.held.is_empty() && !must_wait {
                self.judge_held();
                continue;
            }
            if must_wait && self.held.len() >= MOST_AHEAD {
                self.exchange.starved(self.input(), true);
                return Poll::Pending;
            }
            let before = out.filled().len();
            let Poll::Ready(read) = Pin::new(&mut self.io).poll_read(cx, out) else {
                let is_withheld = must_wait && !self.held.is_empty();
                self.exchange.starved(self.input(), is_withheld);
                return Poll::Pending;
            };
            if read.is_err() || out.filled().len() == before {
                return Poll::Ready(read);
            }
            if self.held.is_empty() && !must_wait {
                self.judge_read(out, before);
                if out.filled().len() > before {
                    return Poll::Ready(Ok(()));
                }
            } else {
                self.held.extend_from_slice(&out.filled()[before..]);
                out.set_filled(before);
                self.is_news = true;
            }
        }
    }

    /// Reads and drops what comes, until the caller closes or [`LINGER`] is over.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let timer = self.lingering.get_or_insert_with(|| Box::pin(sleep(LINGER)));
        let mut scratch = [0; 4096];
        loop {
            if timer.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            let mut scratch = ReadBuf::new(&mut scratch);
            let read = ready!(Pin::new(&mut self.io).poll_read(cx, &mut scratch));
            if read.is_err() || scratch.filled().is_empty() {
                return Poll::Ready(());
            }
        }
    }
}

impl<I: Io> AsyncRead for Strict<I> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.get_mut().poll_input(cx, out)
    }
}

impl<I: Io> AsyncWrite for Strict<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.lingering.is_none() {
            ready!(Pin::new(&mut this.io).poll_shutdown(cx))?;
        }
        if this.exchange.refusal().is_some() || this.framing.is_in_body() {
            ready!(this.poll_linger(cx));
        }
        Poll::Ready(Ok(()))
    }
}
