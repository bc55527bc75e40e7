//! Dialling real sockets. Other worlds pass in a service of their own.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::net::TcpStream;
use tower::Service;

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
