//! A peer that does not read must not be waited for without end.
//!
//! While a caller does not read, hyper does not ask for more of its response, so no deadline of
//! the response's own would ever be looked at, and the upstream connection behind it would be
//! held for as long as the caller likes.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use crate::seam::{Io, poll_write_slices};
use crate::telemetry::ListenerStats;

/// A stream whose writes fail once the peer has not read for a while.
pub(super) struct Stalling<I> {
    io: I,
    /// How long a write may find no room at all.
    limit: Duration,
    stats: Arc<ListenerStats>,
    /// Armed by a write that finds no room, disarmed by one that does.
    timer: Option<Pin<Box<Sleep>>>,
}

impl<I: Io> Stalling<I> {
    pub(super) fn new(io: I, limit: Duration, stats: Arc<ListenerStats>) -> Self {
        Self { io, limit, stats, timer: None }
    }

    fn bounded<T>(
        &mut self,
        cx: &mut Context<'_>,
        wrote: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if wrote.is_ready() {
            self.timer = None;
            return wrote;
        }
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(self.limit)));
        ready!(timer.as_mut().poll(cx));
        self.stats.write_timeout();
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<I: Io> AsyncWrite for Stalling<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.bounded(cx, wrote)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wrote = poll_write_slices(Pin::new(&mut self.io), cx, slices);
        self.bounded(cx, wrote)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        self.bounded(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let closed = Pin::new(&mut self.io).poll_shutdown(cx);
        self.bounded(cx, closed)
    }
}

impl<I: Io> AsyncRead for Stalling<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}
