//! A forwarder without any policy: what hyper itself costs, in front of one upstream.
//!
//! `.ci/sidecar-cost` puts it beside the sidecar. One thread, one stack of idle connections, no
//! limits, no timeouts, no checks: not for any other use.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use anyhow::Context as _;
use bytes::Bytes;
use http::header::CONNECTION;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{LocalSet, spawn_local};

/// Connections that are not in use, and where new ones go.
struct Pool {
    upstream: SocketAddr,
    idle: RefCell<Vec<SendRequest<Incoming>>>,
}

impl Pool {
    async fn connection(&self) -> anyhow::Result<SendRequest<Incoming>> {
        let idle = self.idle.borrow_mut().pop();
        if let Some(sender) = idle.filter(SendRequest::is_ready) {
            return Ok(sender);
        }
        let stream = TcpStream::connect(self.upstream).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        spawn_local(connection);
        Ok(sender)
    }
}

/// A response body that gives its connection back at its end.
struct Returning {
    body: Incoming,
    sender: Option<SendRequest<Incoming>>,
    pool: Rc<Pool>,
}

impl Returning {
    fn note_end(&mut self) {
        if self.body.is_end_stream()
            && let Some(sender) = self.sender.take()
        {
            self.pool.idle.borrow_mut().push(sender);
        }
    }
}

impl Body for Returning {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        self.note_end();
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

async fn forward(
    pool: Rc<Pool>,
    mut request: Request<Incoming>,
) -> anyhow::Result<Response<Returning>> {
    let mut sender = pool.connection().await?;
    request.headers_mut().remove(CONNECTION);
    let response = sender.send_request(request).await?;
    Ok(response.map(|body| {
        let mut returning = Returning { body, sender: Some(sender), pool };
        returning.note_end();
        returning
    }))
}

async fn serve(listener: TcpListener, pool: Rc<Pool>) -> anyhow::Result<()> {
    loop {
        let (stream, _peer) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let pool = pool.clone();
        let service = service_fn(move |request| forward(pool.clone(), request));
        spawn_local(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

fn main() -> anyhow::Result<()> {
    let mut addresses = std::env::args().skip(1).map(|text| text.parse::<SocketAddr>());
    let (Some(Ok(listen)), Some(Ok(upstream))) = (addresses.next(), addresses.next()) else {
        anyhow::bail!("usage: bare LISTEN UPSTREAM, both as address:port");
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let pool = Rc::new(Pool { upstream, idle: RefCell::default() });
    LocalSet::new().block_on(&runtime, async {
        let listener = TcpListener::bind(listen).await.context("listening")?;
        serve(listener, pool).await
    })
}
