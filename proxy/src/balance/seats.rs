//! Who sits where in a cluster: the shell around [`crate::policy::slots`].

use std::sync::{Arc, Weak};

use super::Endpoint;
use crate::config::{EndpointAddr, EndpointConfig};
use crate::policy::balance::EndpointId;
use crate::policy::slots::{Fate, Seating, Slot, seat};
use crate::pool::{Pool, SeatHold};

/// The places of a cluster's endpoints.
#[derive(Default)]
pub(super) struct Seats {
    by_place: Vec<Seat>,
    /// The listed ones, in the order of the configuration.
    listed: Vec<EndpointId>,
}

enum Seat {
    Listed(Arc<Endpoint>),
    /// It is on no list any more. It has its place as long as anybody holds it.
    Leaving {
        address: EndpointAddr,
        hold: Weak<SeatHold>,
        pool: Weak<Pool>,
    },
    Free,
}

impl Seats {
    /// The endpoint at a place, if it is listed.
    pub(super) fn get(&self, endpoint: EndpointId) -> Option<&Arc<Endpoint>> {
        match self.by_place.get(endpoint.0) {
            Some(Seat::Listed(endpoint)) => Some(endpoint),
            _ => None,
        }
    }

    /// Whether `endpoint` is listed. One that was put in its place with other attributes is the
    /// same; one of the same place and another time is not.
    pub(super) fn has(&self, endpoint: &Endpoint) -> bool {
        self.get(endpoint.id).is_some_and(|listed| listed.pool.is_of(endpoint.pool.hold()))
    }

    /// The listed endpoints, in the order of the configuration.
    pub(super) fn listed(&self) -> Vec<Arc<Endpoint>> {
        self.listed.iter().filter_map(|place| self.get(*place)).cloned().collect()
    }

    /// How many places there are.
    pub(super) fn len(&self) -> usize {
        self.by_place.len()
    }

    /// By place, whose it is and whether it is listed.
    pub(super) fn labels(&self) -> Vec<Option<(EndpointAddr, bool)>> {
        let labels = self.by_place.iter().map(|seat| match seat {
            Seat::Listed(endpoint) => Some((endpoint.addr.clone(), true)),
            Seat::Leaving { address, .. } => Some((address.clone(), false)),
            Seat::Free => None,
        });
        labels.collect()
    }

    /// Frees the places of those that left and whom nobody holds any more; true if there were any.
    pub(super) fn release(&mut self) -> bool {
        let mut freed = false;
        for seat in &mut self.by_place {
            if let Seat::Leaving { hold, .. } = seat
                && hold.strong_count() == 0
            {
                *seat = Seat::Free;
                freed = true;
            }
        }
        freed
    }

    /// Where each of `wanted` is to sit.
    pub(super) fn plan(&self, wanted: &[EndpointConfig]) -> Seating {
        let slots: Vec<_> = self
            .by_place
            .iter()
            .map(|seat| match seat {
                Seat::Listed(endpoint) => Slot::Listed(endpoint.addr.clone()),
                Seat::Leaving { address, .. } => Slot::Leaving(address.clone()),
                Seat::Free => Slot::Free,
            })
            .collect();
        let wanted: Vec<_> = wanted.iter().map(|endpoint| endpoint.address.clone()).collect();
        seat(&slots, &wanted)
    }

    /// The pool of whoever has or had this place, if it is still there.
    pub(super) fn pool(&self, endpoint: EndpointId) -> Option<Arc<Pool>> {
        match self.by_place.get(endpoint.0)? {
            Seat::Listed(endpoint) => Some(endpoint.pool.clone()),
            Seat::Leaving { pool, .. } => pool.upgrade(),
            Seat::Free => None,
        }
    }

    /// What keeps the place taken, if anything does.
    pub(super) fn hold(&self, endpoint: EndpointId) -> Option<Arc<SeatHold>> {
        match self.by_place.get(endpoint.0)? {
            Seat::Listed(endpoint) => Some(endpoint.pool.hold().clone()),
            Seat::Leaving { hold, .. } => hold.upgrade(),
            Seat::Free => None,
        }
    }

    /// Seats `endpoints`, which are all that are listed from now on, in their order. Returns those
    /// that have left.
    pub(super) fn reseat(
        &mut self,
        endpoints: Vec<Arc<Endpoint>>,
        fates: &[Fate],
    ) -> Vec<Arc<Endpoint>> {
        let mut left = Vec::new();
        self.by_place.truncate(fates.len());
        self.by_place.resize_with(fates.len(), || Seat::Free);
        for (seat, fate) in self.by_place.iter_mut().zip(fates) {
            if *fate == Fate::Leaves && matches!(seat, Seat::Listed(_)) {
                let Seat::Listed(endpoint) = std::mem::replace(seat, Seat::Free) else { continue };
                *seat = Seat::Leaving {
                    address: endpoint.addr.clone(),
                    hold: Arc::downgrade(endpoint.pool.hold()),
                    pool: Arc::downgrade(&endpoint.pool),
                };
                left.push(endpoint);
            }
        }
        self.listed = endpoints.iter().map(|endpoint| endpoint.id).collect();
        for endpoint in endpoints {
            let place = endpoint.id.0;
            self.by_place[place] = Seat::Listed(endpoint);
        }
        left
    }

    /// The same places for a cluster that goes on under other rules, with `endpoints` in them.
    pub(super) fn inherited(&self, endpoints: Vec<Arc<Endpoint>>) -> Self {
        let mut by_place: Vec<_> = self
            .by_place
            .iter()
            .map(|seat| match seat {
                Seat::Leaving { address, hold, pool } => Seat::Leaving {
                    address: address.clone(),
                    hold: hold.clone(),
                    pool: pool.clone(),
                },
                Seat::Listed(_) | Seat::Free => Seat::Free,
            })
            .collect();
        let listed = endpoints.iter().map(|endpoint| endpoint.id).collect();
        for endpoint in endpoints {
            let place = endpoint.id.0;
            by_place[place] = Seat::Listed(endpoint);
        }
        Self { by_place, listed }
    }
}
