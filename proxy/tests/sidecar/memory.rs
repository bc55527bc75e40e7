//! A sidecar's listener in memory, for all harnesses here.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use proxy::listener::{Options, serve};
use proxy::seam::Accept;
use proxy::{Config, Stack};
use tokio::io::{DuplexStream, duplex};
use tokio::sync::{Mutex, mpsc};
use tokio_util::sync::CancellationToken;

use crate::peer::Peer;

/// Bytes that a stream holds before its writer has to wait.
pub(crate) const BUFFER: usize = 16 * 1024;

pub(crate) type MemoryPeer = Peer<DuplexStream>;

/// Where callers connect.
#[derive(Clone)]
pub(crate) struct Callers(mpsc::UnboundedSender<(DuplexStream, SocketAddr)>);

impl Callers {
    /// A caller's connection, if anybody listens.
    pub(crate) fn connect(&self, from: [u8; 4]) -> Option<DuplexStream> {
        let (near, far) = duplex(BUFFER);
        let from = SocketAddr::from((from, 1));
        self.0.send((far, from)).ok().map(|()| near)
    }
}

struct Listener(Mutex<mpsc::UnboundedReceiver<(DuplexStream, SocketAddr)>>);

impl Accept for Listener {
    type Io = DuplexStream;

    async fn accept(&self) -> io::Result<(DuplexStream, SocketAddr)> {
        match self.0.lock().await.recv().await {
            Some(accepted) => Ok(accepted),
            None => std::future::pending().await,
        }
    }
}

/// The configuration in a text.
pub(crate) fn parse(text: &str) -> Config {
    Config::parse(Path::new("test.toml"), text).expect("a right configuration")
}

/// What serves `stack` when it is run; it ends after `drain`.
pub(crate) fn listen(
    stack: &Arc<Stack>,
    options: Options,
    drain: CancellationToken,
) -> (Callers, impl Future<Output = usize> + Send + use<>) {
    let (callers, accepted) = mpsc::unbounded_channel();
    let options = Options { date_header: false, ..options };
    let stats = stack.telemetry().listener("in");
    let stack = stack.clone();
    let service = move |peer| {
        let stack = stack.clone();
        move |request| stack.clone().call(peer, request)
    };
    let serving = serve(Listener(Mutex::new(accepted)), service, options, stats, drain);
    (Callers(callers), serving)
}
