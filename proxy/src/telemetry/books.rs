//! Who counts what: an event finds its counters by place and adds to them.
//!
//! The path counts each thing once, at the endpoint where it happened. What a cluster did is the sum
//! over its endpoints, taken when somebody asks; so a cluster's numbers cannot differ from those of
//! its endpoints, and an attempt costs half of the additions.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;

use super::ClusterLabels;
use super::count::Counter;
use super::event::{ClusterId, EndpointRef, Event, Named as _};
use super::totals::{
    ClusterCounters, ClusterTotals, EndpointCounters, EndpointTotals, RequestCounters,
};

/// All counters that events reach.
#[derive(Debug, Default)]
pub(super) struct Books {
    pub(super) requests: RequestCounters,
    /// Configurations that were put in force after the first.
    pub(super) config_applied: Counter,
    /// Those that were not.
    pub(super) config_refused: Counter,
    /// Replaced when clusters or endpoints come and go. What was counted is behind handles that
    /// the old and the new table share, so that nothing is lost on the way.
    table: ArcSwap<Table>,
    /// Held while the table is replaced.
    replacing: Mutex<()>,
}

#[derive(Clone, Debug, Default)]
struct Table {
    /// By [`ClusterId`].
    clusters: Vec<Option<ClusterBook>>,
    /// What was counted at endpoints of clusters that are gone.
    gone: EndpointTotals,
}

#[derive(Clone, Debug)]
struct ClusterBook {
    name: Arc<str>,
    counters: Arc<ClusterCounters>,
    /// By place.
    endpoints: Vec<Option<EndpointBook>>,
    /// Endpoints that were here, the latest last, should they be back.
    past: VecDeque<EndpointBook>,
    /// What was counted at endpoints that are not even remembered.
    gone: EndpointTotals,
}

#[derive(Clone, Debug)]
struct EndpointBook {
    address: Arc<str>,
    /// It is listed, and not only finishing what it has.
    listed: bool,
    counters: Arc<EndpointCounters>,
}

/// Endpoints of a cluster that are remembered after they have gone, so that one that is back goes
/// on where it stopped, and a record of a run has a row for each. 256: half a megabyte, and more
/// than a rolling deploy of a large service replaces. Older ones are only counted as a sum.
const MOST_PAST: usize = 256;

/// One endpoint's reading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointRow {
    /// The cluster's name.
    pub cluster: Arc<str>,
    /// The endpoint's address.
    pub endpoint: Arc<str>,
    /// What it counted.
    pub totals: EndpointTotals,
}

/// One cluster's reading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterRow {
    /// Its name.
    pub cluster: Arc<str>,
    /// Endpoints that it has.
    pub members: u64,
    /// The sum over its endpoints.
    pub endpoints: EndpointTotals,
    /// What happened to it as a whole.
    pub totals: ClusterTotals,
}

impl EndpointBook {
    fn new(address: Arc<str>, listed: bool) -> Self {
        Self { address, listed, counters: Arc::default() }
    }

    fn read(&self) -> EndpointTotals {
        let mut totals = self.counters.read();
        if !self.listed {
            // Nobody says any more what it is; it is nothing that a cluster has.
            totals.forget_state();
        }
        totals
    }
}

impl ClusterBook {
    fn all(&self) -> impl Iterator<Item = &EndpointBook> {
        self.endpoints.iter().flatten().chain(&self.past)
    }

    /// Puts endpoints in their places; who is not among them is past.
    fn seat(&mut self, seats: &[Option<(Arc<str>, bool)>]) {
        let mut before: Vec<_> = self.endpoints.drain(..).collect();
        for (place, seat) in seats.iter().enumerate() {
            let Some((address, listed)) = seat else {
                self.endpoints.push(None);
                continue;
            };
            let is_it = |book: &EndpointBook| book.address == *address;
            let same = before.get_mut(place).and_then(|book| book.take_if(|book| is_it(book)));
            let known = same.or_else(|| {
                let place = self.past.iter().position(is_it)?;
                self.past.remove(place)
            });
            let book = known.unwrap_or_else(|| EndpointBook::new(address.clone(), *listed));
            if *listed && !book.listed {
                book.counters.set_ejected(false);
                book.counters.set_healthy(true);
            }
            self.endpoints.push(Some(EndpointBook { listed: *listed, ..book }));
        }
        for book in before.into_iter().flatten() {
            self.past.push_back(EndpointBook { listed: false, ..book });
        }
        while self.past.len() > MOST_PAST
            && let Some(oldest) = self.past.pop_front()
        {
            // Nobody holds its place, so nobody counts at it any more.
            self.gone.add(&oldest.read());
        }
    }
}

impl Books {
    pub(super) fn new(clusters: &[ClusterLabels]) -> Self {
        let books = Self::default();
        for (place, labels) in clusters.iter().enumerate() {
            let id = ClusterId(place);
            books.open(id, labels.name.as_str().into());
            let seats = labels.endpoints.iter().map(|at| Some((at.as_str().into(), true)));
            books.seat(id, &seats.collect::<Vec<_>>());
        }
        books
    }

    /// A cluster of this id begins.
    pub(super) fn open(&self, cluster: ClusterId, name: Arc<str>) {
        self.replace(|table| {
            let len = table.clusters.len().max(cluster.0 + 1);
            table.clusters.resize(len, None);
            table.close(cluster);
            table.clusters[cluster.0] = Some(ClusterBook {
                name,
                counters: Arc::default(),
                endpoints: Vec::new(),
                past: VecDeque::new(),
                gone: EndpointTotals::default(),
            });
        });
    }

    /// Nobody speaks of the cluster any more.
    pub(super) fn close(&self, cluster: ClusterId) {
        self.replace(|table| table.close(cluster));
    }

    /// Who sits at which place of a cluster from now on, and is listed.
    pub(super) fn seat(&self, cluster: ClusterId, seats: &[Option<(Arc<str>, bool)>]) {
        self.replace(|table| {
            if let Some(Some(book)) = table.clusters.get_mut(cluster.0) {
                book.seat(seats);
            }
        });
    }

    fn replace(&self, change: impl FnOnce(&mut Table)) {
        let _one_at_a_time = self.replacing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut table = Table::clone(&self.table.load());
        change(&mut table);
        self.table.store(Arc::new(table));
    }

    /// # Panics
    /// When there is no such cluster: a defect.
    pub(super) fn cluster_name(&self, cluster: ClusterId) -> Arc<str> {
        self.table.load().cluster(cluster).name.clone()
    }

    /// # Panics
    /// When there is no such endpoint: a defect.
    pub(super) fn endpoint_address(&self, at: EndpointRef) -> Arc<str> {
        self.table.load().endpoint(at).address.clone()
    }

    /// # Panics
    /// When there is no such endpoint: a defect.
    pub(super) fn endpoint_totals(&self, at: EndpointRef) -> EndpointTotals {
        self.table.load().endpoint(at).read()
    }

    /// Counts an event.
    pub(super) fn count(&self, event: &Event) {
        match event {
            Event::RequestReceived => self.requests.received.up(),
            Event::RequestEnded(end) => self.requests.ended(end),
            Event::RateLimited => self.requests.rate_limited.up(),
            Event::ConfigApplied { .. } => self.config_applied.up(),
            Event::ConfigRefused => self.config_refused.up(),
            _ => self.table.load().count(event),
        }
    }

    /// A reading of every endpoint that there is or was: what of them is not remembered stands
    /// behind them, as a row without an address.
    pub(super) fn all_endpoint_rows(&self) -> Vec<EndpointRow> {
        let table = self.table.load();
        let mut rows = Vec::new();
        for cluster in table.clusters.iter().flatten() {
            rows.extend(cluster.all().map(|book| cluster.row(book)));
            rows.extend(gone(&cluster.name, &cluster.gone));
        }
        rows.extend(gone(&"".into(), &table.gone));
        rows
    }

    /// A reading of every listed endpoint.
    pub(super) fn endpoint_rows(&self) -> Vec<EndpointRow> {
        let table = self.table.load();
        let rows = |cluster: &ClusterBook| {
            let listed = cluster.endpoints.iter().flatten().filter(|book| book.listed);
            listed.map(|book| cluster.row(book)).collect::<Vec<_>>()
        };
        table.clusters.iter().flatten().flat_map(rows).collect()
    }

    /// A reading of every cluster.
    pub(super) fn cluster_rows(&self) -> Vec<ClusterRow> {
        let row = |cluster: &ClusterBook| {
            let mut endpoints = cluster.gone.clone();
            for endpoint in cluster.all() {
                endpoints.add(&endpoint.read());
            }
            let listed = cluster.endpoints.iter().flatten().filter(|book| book.listed);
            ClusterRow {
                cluster: cluster.name.clone(),
                members: listed.count() as u64,
                endpoints,
                totals: cluster.counters.read(),
            }
        };
        self.table.load().clusters.iter().flatten().map(row).collect()
    }
}

impl ClusterBook {
    fn row(&self, book: &EndpointBook) -> EndpointRow {
        let (cluster, endpoint) = (self.name.clone(), book.address.clone());
        EndpointRow { cluster, endpoint, totals: book.read() }
    }
}

fn gone(cluster: &Arc<str>, totals: &EndpointTotals) -> Option<EndpointRow> {
    let row =
        || EndpointRow { cluster: cluster.clone(), endpoint: "".into(), totals: totals.clone() };
    (totals.started() > 0 || totals.cx_opened > 0).then(row)
}

impl Table {
    fn close(&mut self, cluster: ClusterId) {
        let Some(book) = self.clusters.get_mut(cluster.0).and_then(Option::take) else { return };
        self.gone.add(&book.gone);
        book.all().for_each(|endpoint| self.gone.add(&endpoint.read()));
        self.gone.forget_state();
    }

    fn cluster(&self, cluster: ClusterId) -> &ClusterBook {
        match self.clusters.get(cluster.0) {
            Some(Some(book)) => book,
            _ => panic!("{cluster:?} is not there"),
        }
    }

    fn endpoint(&self, at: EndpointRef) -> &EndpointBook {
        match self.cluster(at.cluster).endpoints.get(at.endpoint.0) {
            Some(Some(book)) => book,
            _ => panic!("{at:?} is not there"),
        }
    }

    /// Counts an event that happened to a cluster.
    fn count(&self, event: &Event) {
        let cluster = |cluster: &ClusterId| &*self.cluster(*cluster).counters;
        let endpoint = |at: &EndpointRef| &*self.endpoint(*at).counters;
        match event {
            Event::RequestReceived
            | Event::RequestEnded(_)
            | Event::RateLimited
            | Event::ConfigApplied { .. }
            | Event::ConfigRefused => {}
            Event::AttemptStarted { at, kind } => endpoint(at).attempts.up(kind.place()),
            Event::AttemptAnswered { at, latency, .. } => {
                endpoint(at).latency.observe(*latency);
            }
            Event::AttemptEnded { at, end } => endpoint(at).ended(*end),
            Event::ConnectionOpened { at } => endpoint(at).cx_opened.up(),
            Event::ConnectionClosed { at } => endpoint(at).cx_closed.up(),
            Event::ConnectFailed { at } => endpoint(at).connect_failed.up(),
            Event::QueueOverflowed { at } => endpoint(at).queue_overflowed.up(),
            Event::QueueTimedOut { at } => endpoint(at).queue_timed_out.up(),
            Event::Ejected { at, reason, .. } => {
                endpoint(at).ejected.up(reason.place());
                endpoint(at).set_ejected(true);
            }
            Event::EjectionOverflowed { at, reason } => {
                endpoint(at).ejection_overflowed.up(reason.place());
            }
            Event::Detected { at, reason } => endpoint(at).detected.up(reason.place()),
            Event::TrialFailed { at, .. } => endpoint(at).trial_failed.up(),
            Event::Probed { at } => endpoint(at).probed.up(),
            Event::Returned { at } => {
                endpoint(at).returned.up();
                endpoint(at).set_ejected(false);
            }
            Event::HealthChanged { at, healthy } => endpoint(at).set_healthy(*healthy),
            Event::RetryScheduled { cluster: of, .. } => cluster(of).retry_scheduled.up(),
            Event::RetryGivenUp { cluster: of, why } => {
                cluster(of).retry_given_up.up(why.place());
            }
            Event::RetrySucceeded { cluster: of } => cluster(of).retry_succeeded.up(),
            Event::LimitReached { cluster: of, limit } => {
                cluster(of).limit_reached.up(limit.place());
            }
            Event::NoneHealthy { cluster: of } => cluster(of).none_healthy.up(),
            Event::PanicChanged { cluster: of, panics } => cluster(of).panics.set(*panics),
            Event::PlacedInPanic { cluster: of } => cluster(of).placed_in_panic.up(),
            Event::CircuitChanged { cluster: of, state } => {
                cluster(of).circuit_changed(*state);
            }
            Event::FallbackServed { cluster: of } => cluster(of).fallback_served.up(),
        }
    }
}
