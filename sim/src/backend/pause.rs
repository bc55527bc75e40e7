//! A process that stands still for a while, as in a garbage collection, and then goes on.
//!
//! From outside it is seen by what it does not read: the kernel goes on opening connections and
//! taking bytes. A caller that leaves is noticed afterwards. Work is a computation here, so it ends
//! later by as long as the pause was.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Backend;

/// A connection that a backend does not read from while it stands still.
pub(super) struct Pausing<S> {
    backend: Backend,
    io: S,
    /// There while it does.
    resumed: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl<S> Pausing<S> {
    pub(super) fn new(backend: Backend, io: S) -> Self {
        Self { backend, io, resumed: None }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Pausing<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.resumed.is_none() && this.backend.with(|settings| settings.paused) {
            let backend = this.backend.clone();
            this.resumed =
                Some(Box::pin(async move { backend.until(|settings| !settings.paused).await }));
        }
        if let Some(resumed) = &mut this.resumed {
            ready!(resumed.as_mut().poll(cx));
            this.resumed = None;
        }
        Pin::new(&mut this.io).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Pausing<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}
