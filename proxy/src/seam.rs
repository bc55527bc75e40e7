//! What differs between a real network and a simulated one: dialling and listening.

use std::future::Future;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tower::util::BoxCloneSyncService;
use tower::{Service, service_fn};

use crate::config::EndpointAddr;

/// A byte stream of either world.
pub trait Io: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> Io for T {}

/// A byte stream whose world has been forgotten.
pub type BoxedIo = Box<dyn Io>;

/// Opens connections. It has no timeout of its own: who dials brings one.
pub type Dialer = BoxCloneSyncService<EndpointAddr, BoxedIo, io::Error>;

/// A dialler over `connect`, the way to open a stream of one world.
pub fn dialer<F, Fut, S>(connect: F) -> Dialer
where
    F: Fn(EndpointAddr) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = io::Result<S>> + Send + 'static,
    S: Io,
{
    BoxCloneSyncService::new(service_fn(move |addr| {
        let connecting = connect(addr);
        async move { Ok(Box::new(connecting.await?) as BoxedIo) }
    }))
}

/// As much as is copied to be written in one piece.
const SHORT_BYTES: usize = 512;

/// Writes `slices`, or a part of them. What is short goes as one piece, by `send`: for the kernel that
/// is less work than `writev`, more than it takes to copy a small message.
pub(crate) fn poll_write_slices<I: AsyncWrite>(
    io: Pin<&mut I>,
    cx: &mut Context<'_>,
    slices: &[IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    if let [one] = slices {
        return io.poll_write(cx, one);
    }
    let mut piece = [0; SHORT_BYTES];
    let mut filled = 0;
    for slice in slices {
        let Some(room) = piece.get_mut(filled..filled + slice.len()) else {
            return io.poll_write_vectored(cx, slices);
        };
        room.copy_from_slice(slice);
        filled += slice.len();
    }
    io.poll_write(cx, &piece[..filled])
}

/// Real sockets.
pub fn tcp_dialer() -> Dialer {
    dialer(|addr: EndpointAddr| async move {
        let stream = TcpStream::connect(addr.as_str()).await?;
        // A request is one write; waiting to fill a segment would only delay it.
        stream.set_nodelay(true)?;
        Ok(stream)
    })
}

/// Opens one connection through `dialer`.
///
/// # Errors
/// The operating system's.
pub async fn dial(mut dialer: Dialer, addr: EndpointAddr) -> io::Result<BoxedIo> {
    std::future::poll_fn(|cx| dialer.poll_ready(cx)).await?;
    dialer.call(addr).await
}

/// Accepts connections.
pub trait Accept: Send {
    /// The stream of this world.
    type Io: Io;

    /// The next connection and where it comes from.
    fn accept(&self) -> impl Future<Output = io::Result<(Self::Io, SocketAddr)>> + Send;
}

impl Accept for TcpListener {
    type Io = TcpStream;

    async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let (stream, peer) = TcpListener::accept(self).await?;
        stream.set_nodelay(true)?;
        Ok((stream, peer))
    }
}
