//! Dialling real sockets. Other worlds pass in a service of their own.

mod tls;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tower::Service;

pub use tls::{TlsError, TlsOptions};

/// Opens TCP connections to `host:port`, with Nagle's algorithm off: a request is one write, and
/// must not wait for the acknowledgement of the one before it.
#[derive(Clone, Copy, Debug, Default)]
pub struct TcpDialler;

impl Service<String> for TcpDialler {
    type Response = TcpStream;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, address: String) -> Self::Future {
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Ok(stream)
        })
    }
}

/// Where one `host:port` is, and whether TLS is spoken there.
#[derive(Clone, Debug)]
pub struct Place {
    /// Found once, before the run: a name is not looked up for each connection.
    pub address: SocketAddr,
    /// How to speak TLS, and to whom.
    pub tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
}

/// Opens connections to places that were found beforehand, with or without TLS.
#[derive(Clone, Debug, Default)]
pub struct Dialler {
    places: Arc<BTreeMap<String, Place>>,
}

impl Dialler {
    /// A dialler to these places, by `host:port`.
    pub fn new(places: BTreeMap<String, Place>) -> Dialler {
        Dialler { places: Arc::new(places) }
    }
}

impl Service<String> for Dialler {
    type Response = Stream;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Stream>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, address: String) -> Self::Future {
        let place = self.places.get(&address).cloned();
        Box::pin(async move {
            let place = place.ok_or(io::ErrorKind::NotFound)?;
            let stream = TcpStream::connect(place.address).await?;
            stream.set_nodelay(true)?;
            let Some((config, name)) = place.tls else { return Ok(Stream::Plain(stream)) };
            let wanted = config.alpn_protocols.first().cloned();
            let stream =
                TlsConnector::from(config).connect(name, stream).await.map_err(tls::refused)?;
            let spoken = stream.get_ref().1.alpn_protocol();
            // A server that says nothing speaks HTTP/1.1.
            if spoken != wanted.as_deref() && (spoken.is_some() || wanted.as_deref() == Some(b"h2"))
            {
                return Err(io::Error::other("TLS: the server does not speak this HTTP version"));
            }
            Ok(Stream::Tls(Box::new(stream)))
        })
    }
}

/// A connection with or without TLS.
#[derive(Debug)]
pub enum Stream {
    /// Bytes as they are.
    Plain(TcpStream),
    /// Bytes that nobody else can read.
    Tls(Box<TlsStream<TcpStream>>),
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        room: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, room),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, room),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Stream::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
        }
    }
}
