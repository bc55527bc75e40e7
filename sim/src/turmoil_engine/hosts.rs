//! The hosts of the client and of the backends.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::join_all;
use http::HeaderName;
use loadgen::{Outcome, Plan, Sample, SleepPacer};
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
    let clients: Vec<_> = (0..load.clients).map(|number| client(load, number)).collect();
    let mix = load.mix.clone();
    sim.client(CLIENT, async move {
        let clients = clients.into_iter().map(|(plan, options)| {
            let connect = tower::service_fn(|addr: String| TcpStream::connect(addr));
            let (samples, trace, mix) = (&samples, &trace, &mix);
            async move {
                let mut observer = |sample: &Sample| {
                    let sample = &judged(*sample, mix.deadline_of(sample.index));
                    let Sample { index, planned, sent, finished, outcome, status, .. } = sample;
                    let outcome = outcome.name();
                    trace.add(format_args!(
                        "client {index} {planned:?} {sent:?} {finished:?} {outcome} {status:?}"
                    ));
                    samples.borrow_mut().push(*sample);
                };
                let never = std::future::pending();
                loadgen::run(plan, options, connect, SleepPacer, never, &mut observer).await;
            }
        });
        join_all(clients).await;
        Ok(())
    });
}

/// What the client with this number, from 0, does: its part of the plan, through its own sidecar.
fn client(load: &LoadSpec, number: usize) -> (Plan, loadgen::Options) {
    // `MOST_SIDECARS` are checked before.
    let address = format!("{SIDECARS}:{}", usize::from(FIRST_SIDECAR_PORT) + number);
    let mut options = loadgen::Options::new(load.mix.target_of(0).clone(), address.as_str());
    (options.seed, options.mix) = load.mix.at(&address);
    options.deadline = load.deadline;
    options.timeout = load.timeout;
    // The first ones have one more, where they cannot have the same.
    let part = load.max_connections / load.clients;
    let rest = load.max_connections % load.clients;
    options.max_connections = (part + usize::from(number < rest)).max(1);
    options.drain = drain(load);
    options.index_header = Some(HeaderName::from_static(INDEX_HEADER));
    let plan = match load.clients {
        1 => load.plan.clone(),
        clients => load.plan.share(number as u64, clients as u64),
    };
    (plan, options)
}

/// A sample by the deadline that its request has of its own, which takes the place of the common
/// one.
fn judged(sample: Sample, own: Option<Duration>) -> Sample {
    let Some(own) = own else { return sample };
    match sample.outcome {
        Outcome::Ok | Outcome::Late => {
            let in_time = sample.response_time() <= own;
            let outcome = if in_time { Outcome::Ok } else { Outcome::Late };
            Sample { outcome, ..sample }
        }
        _ => sample,
    }
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
