//! One lane's life: take a request, see it to its end, take the next.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use tower::Service;

use super::desk::{Begin, Desk, Ending, Job, Moment};
use super::h1::Connections;
use super::h2::{Driver, Group, Outlines};
use super::tally::Tally;
use super::{Options, Protocol};
use crate::exchange::Alarm;
use crate::expect::Inspector;
use crate::observer::{Event, Failure, Observer};
use crate::target::{Draw, Encoded, Scratch};

/// How long a lane of a closed loop rests when it could not connect: without an answer to wait
/// for, it would ask a machine that refuses as fast as it can.
const REST: Duration = Duration::from_millis(10);

/// What the lanes of a run have in common.
pub(super) struct Shared<'a, 'o, C: Service<String>, O: ?Sized> {
    pub(super) desk: &'a RefCell<Desk<'o, O>>,
    pub(super) options: &'a Options,
    pub(super) connections: Rc<Tally>,
    /// What is dialled, and which of it each target needs.
    pub(super) addresses: Vec<String>,
    places: Vec<usize>,
    pub(super) encoded: Vec<Encoded>,
    pub(super) outlines: Outlines,
    connect: C,
    start: Instant,
    is_closed_loop: bool,
    /// For each address, the connections whose streams are lanes.
    groups: Vec<Vec<Group>>,
    /// Connections that lanes have opened and someone has to drive.
    drivers: RefCell<Vec<Driver<C::Response>>>,
}

impl<'a, 'o, C, O> Shared<'a, 'o, C, O>
where
    C: Service<String, Error = io::Error> + Clone,
    C::Response: AsyncRead + AsyncWrite + Unpin,
    O: Observer + ?Sized,
{
    pub(super) fn new(
        desk: &'a RefCell<Desk<'o, O>>,
        options: &'a Options,
        connect: C,
        start: Instant,
        is_closed_loop: bool,
    ) -> Self {
        let (addresses, places) = options.mix.addresses();
        let targets = options.mix.aims().iter().map(|aim| &aim.target);
        let index_header = options.index_header.as_ref();
        let groups = match options.protocol {
            Protocol::Http1 => Vec::new(),
            Protocol::Http2 { .. } => {
                let group = || (0..options.max_connections).map(|_| Group::default()).collect();
                addresses.iter().map(|_| group()).collect()
            }
        };
        Shared {
            desk,
            options,
            connections: Rc::new(Tally::new(options.gauges.as_ref(), |g| &g.connections)),
            addresses,
            places,
            encoded: targets.clone().map(|t| Encoded::new(t, index_header)).collect(),
            outlines: Outlines::new(targets, index_header),
            connect,
            start,
            is_closed_loop,
            groups,
            drivers: RefCell::default(),
        }
    }

    /// Connections that have been opened since this was last asked.
    pub(super) fn take_drivers(&self) -> Vec<Driver<C::Response>> {
        // Nothing is allocated for an empty answer, which is nearly every one.
        std::mem::take(&mut *self.drivers.borrow_mut())
    }

    pub(super) fn drive(&self, driver: Driver<C::Response>) {
        self.drivers.borrow_mut().push(driver);
    }

    /// Dials an address within a request's time, and says when the connection was open.
    pub(super) async fn dial(
        &self,
        address: usize,
        limit: Instant,
        mut alarm: Pin<&mut Alarm>,
    ) -> Result<C::Response, Ending> {
        let asked = Instant::now();
        let mut connect = self.connect.clone();
        let mut dial = pin!(async {
            poll_fn(|cx| connect.poll_ready(cx)).await?;
            connect.call(self.addresses[address].clone()).await
        });
        let dialled = poll_fn(|cx| match dial.as_mut().poll(cx) {
            Poll::Ready(result) => Poll::Ready(Some(result)),
            Poll::Pending => alarm.as_mut().poll(cx, limit).map(|()| None),
        })
        .await;
        match dialled {
            Some(Ok(io)) => {
                let took = asked.elapsed();
                self.desk.borrow_mut().note(Event::Connected { took });
                Ok(io)
            }
            Some(Err(error)) => {
                self.desk.borrow_mut().note(Event::Failed(&Failure::Connect(error)));
                Err(Ending::NotConnected)
            }
            None => Err(Ending::TimedOut),
        }
    }

    fn now(&self) -> Moment {
        let at = Instant::now();
        Moment { at, elapsed: at.saturating_duration_since(self.start) }
    }

    /// When a request is cancelled.
    fn limit(&self, job: &Job, begun: Instant) -> Instant {
        let limit = begun + self.options.timeout;
        match self.options.deadline {
            Some(deadline) if self.options.cancel_at_deadline => {
                let due = self.start + job.planned;
                due.checked_add(deadline).map_or(limit, |late| limit.min(late))
            }
            _ => limit,
        }
    }
}

/// One request on its way.
pub(super) struct Trip {
    pub(super) slot: usize,
    pub(super) target: usize,
    /// Which of the addresses its target has.
    pub(super) address: usize,
    pub(super) draw: Draw,
    pub(super) limit: Instant,
}

/// What carries the requests of a lane.
enum Carrier<'a, IO> {
    /// Connections of its own, one for each address.
    Own(Connections<IO>),
    /// A stream at a time of one shared connection to each address.
    Shared(&'a [Vec<Group>]),
}

pub(super) struct Lane<'a, 'o, C: Service<String>, O: ?Sized> {
    shared: &'a Shared<'a, 'o, C, O>,
    slot: usize,
    carrier: Carrier<'a, C::Response>,
    inspector: Inspector,
    scratch: Scratch,
}

impl<'a, 'o, C, O> Lane<'a, 'o, C, O>
where
    C: Service<String, Error = io::Error> + Clone,
    C::Response: AsyncRead + AsyncWrite + Unpin,
    O: Observer + ?Sized,
{
    pub(super) fn new(shared: &'a Shared<'a, 'o, C, O>, slot: usize) -> Self {
        let carrier = match shared.options.protocol {
            Protocol::Http1 => Carrier::Own(Connections::new(shared.addresses.len())),
            Protocol::Http2 { .. } => Carrier::Shared(&shared.groups),
        };
        let inspector = Inspector::new(&shared.options.expect);
        Lane { shared, slot, carrier, inspector, scratch: Scratch::default() }
    }

    /// Carries requests, beginning with the one handed to this slot, until there is no connection
    /// and nothing due.
    pub(super) async fn work(mut self) {
        let Shared { desk, options, .. } = *self.shared;
        let mut job = self.handed().await;
        let mut now = self.shared.now();
        let mut alarm = pin!(Alarm::new(self.shared.limit(&job, now.at)));
        loop {
            let target = options.mix.pick(options.seed, job.index);
            let draw = Draw { seed: options.seed, index: job.index };
            let address = self.shared.places[target];
            let limit = self.shared.limit(&job, now.at);
            let reused = self.has_connection(address);
            desk.borrow_mut().begin(self.slot, Begin { job, target, now, limit, reused });
            self.inspector.reset();
            let trip = Trip { slot: self.slot, target, address, draw, limit };
            let ending = self.carry(&trip, alarm.as_mut()).await;
            now = self.shared.now();
            desk.borrow_mut().finish(self.slot, ending, self.inspector.backend(), now);
            if ending == Ending::NotConnected && self.shared.is_closed_loop {
                tokio::time::sleep(REST).await;
                now = self.shared.now();
            }
            let open = self.stays();
            let next = desk.borrow_mut().next(self.slot, now, open);
            job = match next {
                Some(next) => next,
                None if !open => return,
                None => {
                    let next = self.handed().await;
                    if let Carrier::Own(connections) = &mut self.carrier {
                        connections.drop_stale().await;
                    }
                    now = self.shared.now();
                    next
                }
            };
        }
    }

    async fn handed(&self) -> Job {
        poll_fn(|cx| self.shared.desk.borrow_mut().poll_handed(self.slot, cx.waker())).await
    }

    fn has_connection(&self, address: usize) -> bool {
        match &self.carrier {
            Carrier::Own(connections) => connections.has(address),
            Carrier::Shared(groups) => self.group(groups, address).is_open(),
        }
    }

    /// True if the lane is worth keeping: it has a connection, or shares one.
    fn stays(&self) -> bool {
        match &self.carrier {
            Carrier::Own(connections) => connections.has_any(),
            Carrier::Shared(_) => true,
        }
    }

    fn group<'g>(&self, groups: &'g [Vec<Group>], address: usize) -> &'g Group {
        let groups = &groups[address];
        // Neighbouring lanes on different connections: a few requests already use them all.
        &groups[self.slot % groups.len()]
    }

    async fn carry(&mut self, trip: &Trip, alarm: Pin<&mut Alarm>) -> Ending {
        let shared = self.shared;
        if let Carrier::Shared(groups) = self.carrier {
            let group = self.group(groups, trip.address);
            return group.carry(shared, trip, &mut self.inspector, alarm).await;
        }
        let Carrier::Own(connections) = &mut self.carrier else { unreachable!("just looked") };
        let encoded = &shared.encoded[trip.target];
        let bytes = encoded.bytes(trip.draw, &mut self.scratch);
        connections.carry(shared, trip, bytes, &mut self.inspector, alarm).await
    }
}
