//! The hosts of the client and of the backends.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;

use http::HeaderName;
use loadgen::{Sample, SleepPacer};
use proxy::config::EndpointAddr;
use proxy::seam::Accept;
use turmoil::net::{TcpListener, TcpStream};

use super::drain;
use crate::backend::{Backend, INDEX_HEADER};
use crate::clock::Clock;
use crate::trace::Trace;
use crate::world::{LoadSpec, SimError};

pub(super) const CLIENT: &str = "client";
pub(super) const SIDECARS: &str = "sidecars";
pub(super) const BACKENDS: &str = "backends";

/// Where the client's sidecar listens; those of calling instances follow.
pub(super) const FIRST_SIDECAR_PORT: u16 = 15_001;
const FIRST_BACKEND_PORT: u16 = 9_001;
pub(super) const MOST_BACKENDS: usize = (u16::MAX - FIRST_BACKEND_PORT) as usize;

/// Where the backend with this place listens.
pub(super) fn backend_address(place: usize) -> Result<EndpointAddr, SimError> {
    address(BACKENDS, FIRST_BACKEND_PORT, place)
}

/// The port that is `place` after the first of a host.
pub(super) fn address(host: &str, first: u16, place: usize) -> Result<EndpointAddr, SimError> {
    let port = usize::from(first) + place;
    EndpointAddr::parse(&format!("{host}:{port}")).map_err(SimError::Impossible)
}

/// Adds the host on which all backends run, each at its port.
pub(super) fn add_backends(
    sim: &mut turmoil::Sim<'static>,
    backends: impl Iterator<Item = Backend>,
) {
    let backends: Vec<_> = backends.zip(FIRST_BACKEND_PORT..).collect();
    sim.host(BACKENDS, move || {
        let backends = backends.clone();
        async move {
            let clock = Clock::start();
            let mut running = tokio::task::JoinSet::new();
            for (backend, port) in backends {
                running.spawn(async move { backend.run(clock, || Socket::bind(port)).await });
            }
            while let Some(ended) = running.join_next().await {
                ended??;
            }
            Ok(())
        }
    });
}

pub(super) fn add_client(
    sim: &mut turmoil::Sim<'static>,
    load: &LoadSpec,
    samples: Rc<RefCell<Vec<Sample>>>,
    trace: Trace,
) {
    let address = format!("{SIDECARS}:{FIRST_SIDECAR_PORT}");
    let mut options = loadgen::Options::new(load.mix.target_of(0).clone(), address.as_str());
    (options.seed, options.mix) = load.mix.at(&address);
    options.deadline = load.deadline;
    options.timeout = load.timeout;
    options.max_connections = load.max_connections;
    options.drain = drain(load);
    options.index_header = Some(HeaderName::from_static(INDEX_HEADER));
    let plan = load.plan.clone();
    sim.client(CLIENT, async move {
        let connect = tower::service_fn(|addr: String| TcpStream::connect(addr));
        let mut observer = |sample: &Sample| {
            let Sample { index, planned, sent, finished, outcome, status, .. } = sample;
            let outcome = outcome.name();
            trace.add(format_args!(
                "client {index} {planned:?} {sent:?} {finished:?} {outcome} {status:?}"
            ));
            samples.borrow_mut().push(*sample);
        };
        let never = std::future::pending();
        loadgen::run(plan, options, connect, SleepPacer, never, &mut observer).await;
        Ok(())
    });
}

/// turmoil's listener behind the proxy's seam.
pub(super) struct Socket(TcpListener);

impl Socket {
    pub(super) async fn bind(port: u16) -> io::Result<Self> {
        TcpListener::bind(("0.0.0.0", port)).await.map(Self)
    }
}

impl Accept for Socket {
    type Io = TcpStream;

    async fn accept(&self) -> io::Result<(TcpStream, std::net::SocketAddr)> {
        self.0.accept().await
    }
}
