//! A listener that can be shut while the connections that came through it go on.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use proxy::seam::Accept;

use super::pause::Pausing;
use super::{Backend, lock};

/// The listening socket of a backend, which is closed while the backend refuses connections and
/// opened again afterwards.
pub(super) struct Door<A, B> {
    backend: Backend,
    socket: Mutex<Option<Arc<A>>>,
    bind: B,
}

impl<A, B> Door<A, B> {
    pub(super) fn new(backend: Backend, socket: A, bind: B) -> Self {
        Self { backend, socket: Mutex::new(Some(Arc::new(socket))), bind }
    }
}

impl<A, B, F, E> Accept for Door<A, B>
where
    A: Accept + Sync,
    B: Fn() -> F + Send + Sync,
    F: Future<Output = Result<A, E>> + Send,
    E: fmt::Display + Send,
{
    type Io = Pausing<A::Io>;

    async fn accept(&self) -> io::Result<(Pausing<A::Io>, SocketAddr)> {
        loop {
            let held = lock(&self.socket).clone();
            let socket = match held {
                Some(socket) => socket,
                None => {
                    self.backend.until(|settings| !settings.refusing).await;
                    let bound = (self.bind)().await;
                    let socket = Arc::new(bound.map_err(|e| io::Error::other(e.to_string()))?);
                    *lock(&self.socket) = Some(socket.clone());
                    socket
                }
            };
            tokio::select! {
                biased;
                () = self.backend.until(|settings| settings.refusing) => {
                    *lock(&self.socket) = None;
                }
                accepted = socket.accept() => {
                    let (io, peer) = accepted?;
                    return Ok((Pausing::new(self.backend.clone(), io), peer));
                }
            }
        }
    }
}
