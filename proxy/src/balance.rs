//! A cluster's endpoints, and the shell around the policies that choose among them.
//!
//! A request is placed on an endpoint by [`Cluster::place`] and stays there as a [`Placement`]
//! until it ends, in whatever way. The placement tells the policies what became of it, and the
//! rest of the world by one event each.

mod placement;
mod policies;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

pub use self::placement::Placement;
pub use self::policies::Want;
use self::policies::{News, Policies};
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
use crate::policy::slow_start::SlowStartOptions;
use crate::pool::Pool;
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
    /// In the order of the configuration; an [`EndpointId`] is a place in it.
    pub endpoints: Vec<Endpoint>,
    /// How its endpoints are checked, if they are.
    pub health_check: Option<HealthCheckOptions>,
    /// What requests have to pass.
    pub(crate) limits: Limits,
    slow_start: SlowStartOptions,
    /// One lock a cluster, held for a decision or an event and never across an await. Counts are
    /// exact that way, which is worth more here than the tens of nanoseconds.
    policies: Mutex<Policies>,
    dialer: Dialer,
    telemetry: Arc<Telemetry>,
}

/// One endpoint of a cluster.
pub struct Endpoint {
    /// What is known of it from the configuration.
    pub config: EndpointConfig,
    /// Where it is.
    pub addr: EndpointAddr,
    /// Connections to it.
    pub pool: Arc<Pool>,
}

impl Cluster {
    /// A cluster without any connection yet. `subsets` are the labels that routes ask for. Its
    /// random choices are the streams `balance/<name>`, `outlier/<name>` and `retry/<name>` of
    /// `seed`.
    pub fn new(
        id: ClusterId,
        config: &ClusterConfig,
        subsets: &[BTreeMap<String, String>],
        seed: u64,
        dialer: &Dialer,
        telemetry: &Arc<Telemetry>,
    ) -> Self {
        let limits = Limits::new(config, Instant::now());
        let endpoints = config.endpoints.iter().enumerate().map(|(place, endpoint)| {
            let at = EndpointRef { cluster: id, endpoint: EndpointId(place) };
            let breaker = limits.breaker.clone();
            let pool = Pool::new(at, dialer.clone(), config, breaker, telemetry.clone());
            let addr = endpoint.address.clone();
            Endpoint { config: endpoint.clone(), addr, pool: Arc::new(pool) }
        });
        Self {
            id,
            name: config.name.as_str().to_owned(),
            strategy: config.balance.0.name,
            endpoints: endpoints.collect(),
            health_check: config.health_check.clone(),
            limits,
            slow_start: config.slow_start,
            policies: Mutex::new(Policies::new(config, subsets.to_vec(), seed)),
            dialer: dialer.clone(),
            telemetry: telemetry.clone(),
        }
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
    pub fn place(self: &Arc<Self>, want: &Want<'_>) -> Option<Placement> {
        let now = Instant::now();
        let chosen = self.with_policies(now, |policies| policies.choose(want, now.into_std()));
        let Some(chosen) = chosen else {
            self.emit(now, &Event::NoneHealthy { cluster: self.id });
            return None;
        };
        if chosen.panics {
            self.emit(now, &Event::PlacedInPanic { cluster: self.id });
        }
        self.emit(now, &Event::AttemptStarted { at: self.at(chosen.endpoint), kind: want.kind });
        Some(Placement::new(self.clone(), chosen, now))
    }

    /// What to do about an attempt's outcome. A retry has its room among the retries at once.
    pub(crate) fn judge(&self, retry: &RetryOptions, attempt: Attempt<'_>) -> Verdict {
        let now = Instant::now();
        let verdict = self.lock().judge(retry, attempt, now.into_std());
        match verdict {
            Verdict::Retry { reservation, .. } if !self.limits.breaker.try_enter(Room::Retry) => {
                self.lock().budget.give_back(reservation);
                let event = Event::LimitReached { cluster: self.id, limit: Limit::Retries };
                self.emit(now, &event);
                Verdict::GiveUp(GiveUp::Budget)
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
    pub(crate) fn health_checked(self: &Arc<Self>, endpoint: EndpointId, healthy: bool) {
        let now = Instant::now();
        self.with_policies(now, |policies| {
            policies.health_checked(endpoint, healthy, now.into_std());
        });
    }

    /// An endpoint has said what its load is, or has not answered.
    pub(crate) fn probed(&self, endpoint: EndpointId, answer: Option<ProbeAnswer>) {
        self.lock().probed(endpoint, answer, Instant::now().into_std());
    }

    /// Does what time brings: looks at windows that are over, closes old connections.
    pub fn tidy(self: &Arc<Self>, now: Instant) {
        self.with_policies(now, |policies| policies.sweep(now.into_std()));
        for endpoint in &self.endpoints {
            endpoint.pool.close_old(now);
        }
    }

    /// The endpoints with these labels. All of them, if no route was to ask for the labels.
    pub fn subset(&self, labels: &BTreeMap<String, String>) -> SubsetId {
        self.lock().membership.subset(labels).unwrap_or(SubsetId::ALL)
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
            GateState::Ramping { since } => self.slow_start.factor(since, now.into_std()),
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
                self.endpoints[endpoint.0].pool.set_accepting(true);
                Event::Probed { at: self.at(endpoint) }
            }
            News::Gate(transition) => {
                let pool = &self.endpoints[transition.endpoint.0].pool;
                match transition.kind {
                    Kind::Ejected { .. } | Kind::ProbeFailed { .. } | Kind::Unhealthy => {
                        pool.set_accepting(false);
                        pool.close_idle();
                    }
                    Kind::Returned | Kind::Healthy => pool.set_accepting(true),
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
