//! A cluster's endpoints, and the shell around the policies that choose among them.
//!
//! A request is placed on an endpoint by [`Cluster::place`] and stays there as a [`Placement`]
//! until it ends, in whatever way. The placement tells the policies what became of it, and the
//! rest of the world by one event each.

mod placement;
mod policies;
mod seats;
mod update;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

pub use self::placement::Placement;
pub use self::policies::Want;
use self::policies::{News, Policies};
use self::seats::Seats;
pub use self::update::Changed;
use self::update::Pools;
use crate::config::{ClusterConfig, EndpointAddr, EndpointConfig};
use crate::error::Refusal;
use crate::limit::{Admission, Limits};
use crate::policy::balance::{EndpointId, EndpointLoad, ProbeAnswer};
use crate::policy::budget::Reservation;
use crate::policy::health::HealthCheckOptions;
use crate::policy::hedge::{HedgeOptions, Waiting};
use crate::policy::limit::breaker::Kind as Room;
use crate::policy::membership::SubsetId;
use crate::policy::outlier::{GateState, Kind};
use crate::policy::retry::{Attempt, GiveUp, RetryOptions, Verdict};
use crate::pool::{Pool, SeatHold};
use crate::probe;
use crate::seam::Dialer;
use crate::telemetry::Telemetry;
use crate::telemetry::event::{CircuitState, ClusterId, EndpointRef, Event, Limit};

/// Endpoints that can serve the same requests.
pub struct Cluster {
    /// Its place in the configuration.
    pub id: ClusterId,
    /// Its name in the configuration.
    pub name: String,
    /// The strategy's name.
    pub strategy: &'static str,
    /// How its endpoints are checked, if they are.
    pub health_check: Option<HealthCheckOptions>,
    /// What requests have to pass.
    pub(crate) limits: Limits,
    /// Everything but the endpoints, to see whether an update changes it.
    config: ClusterConfig,
    /// What keeps its [`ClusterId`] its own.
    hold: Arc<()>,
    /// How many clusters of its name and its id there were before it.
    life: u64,
    seed: u64,
    /// One lock a cluster, held for a decision or an event and never across an await. Counts are
    /// exact that way, which is worth more here than the tens of nanoseconds.
    policies: Mutex<Policies>,
    dialer: Dialer,
    telemetry: Arc<Telemetry>,
}

/// One endpoint of a cluster.
pub struct Endpoint {
    /// Its place, which is its own while anybody holds this.
    pub id: EndpointId,
    /// What is known of it from the configuration.
    pub config: EndpointConfig,
    /// Where it is.
    pub addr: EndpointAddr,
    /// Connections to it.
    pub pool: Arc<Pool>,
}

impl Cluster {
    /// A cluster without any connection yet; `id` is its own while anybody holds `hold`. `subsets` are the labels that routes ask for. Its
    /// random choices are the streams `balance/<name>`, `outlier/<name>` and `retry/<name>` of
    /// `seed`.
    pub fn new(
        id: ClusterId,
        hold: Arc<()>,
        config: &ClusterConfig,
        subsets: Vec<BTreeMap<String, String>>,
        seed: u64,
        dialer: &Dialer,
        telemetry: &Arc<Telemetry>,
    ) -> Self {
        let now = Instant::now();
        let limits = Limits::new(config, now);
        let mut seats = Seats::default();
        let seating = seats.plan(&config.endpoints);
        let places = seating.places.iter().zip(&config.endpoints);
        let breaker = &limits.breaker;
        let pools = Pools { cluster: id, config, breaker, dialer, telemetry };
        let endpoints = places.map(|(place, endpoint)| {
            Endpoint::of(*place, endpoint, pools.make(*place, endpoint, SeatHold::new(&hold)))
        });
        seats.reseat(endpoints.collect(), &seating.fates);
        telemetry.seat(id, &seats.labels());
        let policies = Policies::new(config, seats, subsets, (seed, 0), now.into_std());
        Self {
            id,
            name: config.name.as_str().to_owned(),
            strategy: config.balance.0.name,
            health_check: config.health_check.clone(),
            config: ClusterConfig { endpoints: Vec::new(), ..config.clone() },
            limits,
            hold,
            life: 0,
            seed,
            policies: Mutex::new(policies),
            dialer: dialer.clone(),
            telemetry: telemetry.clone(),
        }
    }

    /// Its endpoints, in the order of the configuration.
    pub fn endpoints(&self) -> Vec<Arc<Endpoint>> {
        self.lock().seats.listed()
    }

    /// Lets a request in.
    ///
    /// # Errors
    /// [`Refusal::CircuitOpen`] or [`Refusal::LimitReached`].
    pub(crate) fn admit(self: &Arc<Self>, now: Instant) -> Result<Admission, Refusal> {
        Admission::ask(self, now)
    }

    /// Picks an endpoint and counts a request on it, in one step, so that two requests cannot both
    /// see it idle. `None` when there is no endpoint to pick.
    pub fn place(self: &Arc<Self>, want: &Want<'_>, now: Instant) -> Option<Placement> {
        let chosen = self.with_policies(now, |policies| {
            let chosen = policies.choose(want, now.into_std())?;
            Some((chosen, policies.seats.get(chosen.endpoint)?.clone()))
        });
        let Some((chosen, endpoint)) = chosen else {
            self.emit(now, &Event::NoneHealthy { cluster: self.id });
            return None;
        };
        if chosen.panics {
            self.emit(now, &Event::PlacedInPanic { cluster: self.id });
        }
        self.emit(now, &Event::AttemptStarted { at: self.at(chosen.endpoint), kind: want.kind });
        Some(Placement::new(self.clone(), endpoint, chosen, now))
    }

    /// What to do about an attempt's outcome. A retry has its room among the retries at once.
    pub(crate) fn judge(
        &self,
        retry: &RetryOptions,
        attempt: Attempt<'_>,
        now: Instant,
    ) -> Verdict {
        let verdict = self.lock().judge(retry, attempt, now.into_std());
        match verdict {
            Verdict::Retry { reservation, .. } if !self.limits.breaker.try_enter(Room::Retry) => {
                self.lock().budget.give_back(reservation);
                let event = Event::LimitReached { cluster: self.id, limit: Limit::Retries };
                self.emit(now, &event);
                Verdict::GiveUp(GiveUp::LimitReached)
            }
            other => other,
        }
    }

    /// A retry is over; what was reserved for it and not used comes back.
    pub(crate) fn retry_ended(&self, unused: Option<Reservation>) {
        self.limits.breaker.leave(Room::Retry);
        if let Some(reservation) = unused {
            self.lock().budget.give_back(reservation);
        }
    }

    /// After which wait a hedge is worth sending, if that is known yet.
    pub(crate) fn hedge_delay(&self, hedge: &HedgeOptions) -> Option<Duration> {
        hedge.delay(&self.lock().latencies, Instant::now().into_std())
    }

    /// Takes a hedge out of the retry budget, if this request may have one now.
    pub(crate) fn reserve_hedge(&self, hedge: &HedgeOptions, mut waiting: Waiting) -> bool {
        let now = Instant::now().into_std();
        let policies = &mut *self.lock();
        waiting.expected_try = policies.latencies.expected(now);
        hedge.reserve(&waiting, &mut policies.budget, now).is_some()
    }

    /// A request sent at `sent` is cut, because a hedge was answered first. It would have taken
    /// longer still.
    pub(crate) fn overtaken(&self, sent: Instant) {
        let now = Instant::now();
        self.lock().latencies.record(now.duration_since(sent), now.into_std());
    }

    /// An active check has seen an endpoint.
    pub(crate) fn health_checked(self: &Arc<Self>, endpoint: &Endpoint, healthy: bool) {
        let now = Instant::now();
        self.with_policies(now, |policies| {
            if policies.seats.has(endpoint) {
                policies.health_checked(endpoint.id, healthy, now.into_std());
            }
        });
    }

    /// An endpoint has said what its load is, or has not answered.
    pub(crate) fn probed(&self, endpoint: &Endpoint, answer: Option<ProbeAnswer>) {
        let mut policies = self.lock();
        if policies.seats.has(endpoint) {
            policies.probed(endpoint.id, answer, Instant::now().into_std());
        }
    }

    /// Does what time brings: looks at windows that are over, closes old connections.
    pub fn tidy(self: &Arc<Self>, now: Instant) {
        let endpoints = self.with_policies(now, |policies| {
            policies.sweep(now.into_std());
            if policies.seats.release() {
                self.telemetry.seat(self.id, &policies.seats.labels());
            }
            policies.seats.listed()
        });
        for endpoint in endpoints {
            endpoint.pool.close_old(now);
        }
    }

    /// The endpoints with these labels; all of them, if no route was to ask for the labels. What
    /// comes along has to be kept for as long as the answer is used.
    pub fn subset(&self, labels: &BTreeMap<String, String>) -> (SubsetId, Option<Arc<()>>) {
        self.lock().subset(labels)
    }

    /// Opens connections to its endpoints.
    pub(crate) fn dialer(&self) -> Dialer {
        self.dialer.clone()
    }

    /// What the retry budget would grant now.
    pub fn retry_balance(&self) -> u64 {
        self.lock().budget.balance(Instant::now().into_std())
    }

    /// What the strategy believes about an endpoint now.
    pub fn load(&self, endpoint: EndpointId) -> EndpointLoad {
        self.lock().balancer.load(endpoint, Instant::now().into_std())
    }

    /// Whether an endpoint may be picked, and if not, why.
    pub fn state(&self, endpoint: EndpointId) -> GateState {
        self.lock().gate.state(endpoint)
    }

    /// How much of its share an endpoint in this state gets, 0 to 1.
    pub fn factor(&self, gate: GateState, now: Instant) -> f64 {
        match gate {
            GateState::Available => 1.0,
            GateState::Ramping { since } => self.config.slow_start.factor(since, now.into_std()),
            GateState::Ejected { .. } | GateState::HalfOpen | GateState::Unhealthy => 0.0,
        }
    }

    /// How many requests may be in flight, where that follows latency.
    pub fn concurrency(&self) -> Option<u32> {
        self.limits.concurrency()
    }

    /// The state of its circuit, if it has one.
    pub fn circuit(&self, now: Instant) -> Option<CircuitState> {
        self.limits.circuit(now)
    }

    /// True while so few endpoints are available that all are used.
    pub fn panics(&self) -> bool {
        self.lock().panics
    }

    pub(crate) fn emit(&self, now: Instant, event: &Event) {
        self.telemetry.emit(now.into_std(), event);
    }

    fn at(&self, endpoint: EndpointId) -> EndpointRef {
        EndpointRef { cluster: self.id, endpoint }
    }

    /// Asks the policies, and then acts on what they have decided beside the answer.
    fn with_policies<T>(self: &Arc<Self>, now: Instant, ask: impl FnOnce(&mut Policies) -> T) -> T {
        let (answer, news, asks) = {
            let mut policies = self.lock();
            let answer = ask(&mut policies);
            let (news, asks) = policies.take_news();
            (answer, news, asks)
        };
        for news in news {
            self.heed(news, now);
        }
        for endpoint in asks {
            probe::ask(self, endpoint);
        }
        answer
    }

    /// Closes and opens what has changed, and says so.
    fn heed(&self, news: News, now: Instant) {
        let event = match news {
            News::Panic(panics) => Event::PanicChanged { cluster: self.id, panics },
            News::Trial(endpoint) => {
                endpoint.pool.set_accepting(true);
                Event::Probed { at: self.at(endpoint.id) }
            }
            News::Gate(endpoint, transition) => {
                let pool = &endpoint.pool;
                match transition.kind {
                    Kind::Ejected { .. } | Kind::ProbeFailed { .. } | Kind::Unhealthy => {
                        pool.set_accepting(false);
                        pool.close_idle();
                    }
                    Kind::Returned | Kind::Healthy => {
                        let is_open = self.state(endpoint.id).is_open();
                        pool.set_accepting(is_open && !endpoint.config.draining);
                    }
                    Kind::Detected { .. } | Kind::Overflow { .. } | Kind::HealthyButEjected => {}
                }
                event_of(self.at(transition.endpoint), transition.kind, now)
            }
        };
        self.emit(now, &event);
    }

    fn lock(&self) -> MutexGuard<'_, Policies> {
        // A panic inside a policy is a defect; its state is still the best there is.
        self.policies.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The words for a move of an endpoint's gate.
fn event_of(at: EndpointRef, kind: Kind, now: Instant) -> Event {
    let from_now = |until: std::time::Instant| until.saturating_duration_since(now.into_std());
    match kind {
        Kind::Ejected { reason, until, .. } => {
            Event::Ejected { at, reason, lasts: from_now(until) }
        }
        Kind::ProbeFailed { until, .. } => Event::TrialFailed { at, lasts: from_now(until) },
        Kind::Returned => Event::Returned { at },
        Kind::Detected { reason } => Event::Detected { at, reason },
        Kind::Overflow { reason } => Event::EjectionOverflowed { at, reason },
        Kind::Unhealthy => Event::HealthChanged { at, healthy: false },
        Kind::Healthy | Kind::HealthyButEjected => Event::HealthChanged { at, healthy: true },
    }
}

#[cfg(test)]
mod tests;
