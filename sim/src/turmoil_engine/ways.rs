//! The ways of a sidecar to its endpoints: straight, or over a link on which something goes wrong.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use proxy::config::EndpointAddr;
use proxy::seam::{BoxedIo, Dialer, dialer};
use turmoil::net::TcpStream;

use super::hosts::{CLIENT, backend_address};
use crate::clock::Clock;
use crate::fault::FaultKind;
use crate::link::Schedule;
use crate::link::wire::Link;
use crate::world::{SimError, WorldSpec};

/// The ways of one sidecar, before its clock runs.
#[derive(Clone)]
pub(super) struct Ways {
    /// The run's, from which links draw.
    seed: u64,
    /// Where something goes wrong, by the addresses of the endpoints.
    disturbed: BTreeMap<String, Disturbed>,
}

#[derive(Clone)]
struct Disturbed {
    schedule: Schedule,
    name: String,
}

impl Ways {
    /// Those of a caller's sidecar.
    pub(super) fn of(spec: &WorldSpec, caller: Option<usize>) -> Result<Self, SimError> {
        let names: Vec<_> = spec.backends().map(|backend| backend.name.as_str()).collect();
        let whose = caller.map_or(CLIENT, |place| names[place]);
        let mut faults: BTreeMap<usize, Vec<_>> = BTreeMap::new();
        for fault in &spec.faults {
            if let FaultKind::Link(link, kind) = fault.kind
                && link.caller == caller
            {
                let window = fault.at..fault.until.unwrap_or(Duration::MAX);
                faults.entry(link.instance).or_default().push((window, kind));
            }
        }
        let links = faults.into_iter().map(|(place, faults)| {
            let schedule = Schedule::new(spec.link_latency, faults);
            let name = format!("{whose}/{}", names[place]);
            Ok((backend_address(place)?.to_string(), Disturbed { schedule, name }))
        });
        Ok(Self { seed: spec.seed, disturbed: links.collect::<Result<_, SimError>>()? })
    }

    /// Opens connections. Call it when the run begins, on the sidecar's host. Nothing lies between
    /// where nothing ever goes wrong.
    pub(super) fn dialer(&self) -> Dialer {
        if self.disturbed.is_empty() {
            return simulated_dialer();
        }
        let clock = Clock::start();
        let link = |(addr, Disturbed { schedule, name }): (&String, &Disturbed)| {
            let link = Link::new(schedule.clone(), clock, (self.seed, name));
            (addr.clone(), Arc::new(link))
        };
        let links: Arc<BTreeMap<_, _>> = Arc::new(self.disturbed.iter().map(link).collect());
        dialer(move |addr: EndpointAddr| {
            let link = links.get(addr.as_str()).cloned();
            async move {
                let connect = || TcpStream::connect(addr.as_str());
                match link {
                    Some(link) => link.connect(connect).await,
                    None => Ok(Box::new(connect().await?) as BoxedIo),
                }
            }
        })
    }
}

pub(super) fn simulated_dialer() -> Dialer {
    dialer(|addr: EndpointAddr| async move { TcpStream::connect(addr.as_str()).await })
}
