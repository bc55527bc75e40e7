//! What is behind a cluster's lock: the policies, and the order in which they are asked. Pure.
//!
//! 1. The gate ([`outlier`](crate::policy::outlier)) says whether an endpoint is due for a trial.
//! 2. Membership ([`membership`](crate::policy::membership)) says among which endpoints to choose.
//! 3. What this request has tried already is left out, while anything else is left.
//! 4. The strategy ([`balance`](crate::policy::balance)) picks.
//! 5. A pick that is still warming up stands with its ramp's probability and while it has no more
//!    than a fair part ([`slow_start`](crate::policy::slow_start)); else one that is warm is picked.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::Endpoint;
use super::seats::Seats;
use crate::config::{ClusterConfig, EndpointConfig};
use crate::policy::balance::{Balancer, EndpointId, LoadEvent, Member, ProbeAnswer};
use crate::policy::budget::Budget;
use crate::policy::hedge::{DigestOptions, LatencyDigest};
use crate::policy::membership::{EndpointAttributes, Membership, Selector, SubsetId};
use crate::policy::outlier::{Epoch, GateState, Kind, Outcome, Outlier, Transition};
use crate::policy::ready::ReadySet;
use crate::policy::retry::{Attempt, RetryOptions, Verdict};
use crate::policy::slots::{Fate, Seating};
use crate::policy::slow_start::Ramps;
use crate::rng::{StreamRng, stream};
use crate::telemetry::event::AttemptKind;

/// What a request wants of its endpoint.
#[derive(Clone, Copy, Debug)]
pub struct Want<'a> {
    /// Why it is placed.
    pub kind: AttemptKind,
    /// Which endpoints will do.
    pub subset: SubsetId,
    /// What strategies that hash go by.
    pub key: Option<u64>,
    /// Where it has been.
    pub tried: &'a [EndpointId],
    /// It could be repeated if it were lost on an endpoint on trial.
    pub may_probe: bool,
}

/// An endpoint for a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chosen {
    pub(super) endpoint: EndpointId,
    /// Its gate's, so that a late answer is known as one.
    pub(super) epoch: Epoch,
    /// So few endpoints are available that all are used.
    pub(super) panics: bool,
    /// It was ejected, and this request decides whether it is back.
    pub(super) on_trial: bool,
}

/// Something that others have to hear of.
#[derive(Clone)]
pub(super) enum News {
    /// The gate of an endpoint moved, or should have.
    Gate(Arc<Endpoint>, Transition),
    /// An ejected endpoint gets a request on trial.
    Trial(Arc<Endpoint>),
    /// The cluster began or ceased to panic.
    Panic(bool),
}

/// How long an endpoint that is due for a trial waits for a request that can be repeated. Then any
/// will do: a service without such requests would never see it again.
const TRIAL_PATIENCE: Duration = Duration::from_secs(1);

/// The policies of a cluster.
pub(super) struct Policies {
    pub(super) seats: Seats,
    pub(super) balancer: Box<dyn Balancer>,
    pub(super) gate: Outlier,
    pub(super) membership: Membership,
    pub(super) budget: Budget,
    pub(super) latencies: LatencyDigest,
    /// So few endpoints are available that all are used.
    pub(super) panics: bool,
    /// Another cluster has taken the place of this one: whoever is judged here is not judged for
    /// anybody.
    pub(super) superseded: bool,
    /// Labels that routes ask for, and who still asks for them: a [`SubsetId`] that a request in
    /// flight has must not come to mean another subset.
    subsets: Vec<(Selector, Weak<()>)>,
    ramps: Ramps,
    balance_rng: StreamRng,
    outlier_rng: StreamRng,
    retry_rng: StreamRng,
    /// What is left when something is left out; kept for its memory.
    rest: ReadySet,
    transitions: Vec<Transition>,
    /// What has happened since somebody asked.
    news: Vec<News>,
    /// Endpoints to ask for their load.
    asks: Vec<EndpointId>,
}

/// An update that was prepared without the lock.
pub(super) struct Update {
    pub(super) seating: Seating,
    /// All that are listed from now on.
    pub(super) endpoints: Vec<Arc<Endpoint>>,
    pub(super) balancer: Box<dyn Balancer>,
    pub(super) selectors: Vec<Selector>,
}

impl Policies {
    /// For the first or a later `life` of a cluster. Each has random streams of its own, those of the
    /// first are `balance/<name>`, `outlier/<name>` and `retry/<name>` of `seed`.
    pub(super) fn new(
        config: &ClusterConfig,
        seats: Seats,
        selectors: Vec<Selector>,
        (seed, life): (u64, u64),
        now: Instant,
    ) -> Self {
        let rng = |what: &str| match life {
            0 => stream(seed, &format!("{what}/{}", config.name)),
            _ => stream(seed, &format!("{what}/{}/{life}", config.name)),
        };
        let gate = Outlier::new(seats.len(), config.outlier).with_ramp(config.slow_start.watch());
        let membership = config.membership.clone();
        let by_place = (0..seats.len()).map(|place| seats.get(EndpointId(place)));
        let mut new = Self {
            balancer: config.balance.0.build(&members(by_place), &config.balancer_options()),
            gate,
            membership: Membership::new(Vec::new(), Vec::new(), membership),
            budget: Budget::new(&config.retry_budget),
            latencies: LatencyDigest::new(&DigestOptions::default()),
            panics: false,
            superseded: false,
            subsets: Vec::new(),
            ramps: Ramps::new(config.slow_start),
            balance_rng: rng("balance"),
            outlier_rng: rng("outlier"),
            retry_rng: rng("retry"),
            rest: ReadySet::default(),
            transitions: Vec::new(),
            news: Vec::new(),
            asks: Vec::new(),
            seats,
        };
        let fate = |place| new.seats.get(EndpointId(place)).map_or(Fate::Leaves, |_| Fate::Stays);
        let fates: Vec<_> = (0..new.seats.len()).map(fate).collect();
        if fates.contains(&Fate::Leaves) {
            new.gate.reseat(&fates, now, &mut new.transitions);
        }
        new.reseat_membership(&fates, selectors);
        new
    }

    /// What of `old` holds under other rules: what is known of latencies, who is ejected and what
    /// `checks` have said, and, where its rules are the same, the retry budget.
    pub(super) fn inherit(&mut self, old: &Self, same_budget: bool, checks: bool, now: Instant) {
        self.latencies = old.latencies.clone();
        if same_budget {
            self.budget = old.budget.clone();
        }
        let mut transitions = std::mem::take(&mut self.transitions);
        self.gate.inherit(&old.gate, checks, now, &mut transitions);
        self.panics = old.panics;
        for endpoint in (0..self.seats.len()).map(EndpointId) {
            let is_open = self.follow_gate(endpoint).is_open();
            if let Some(endpoint) = self.seats.get(endpoint) {
                endpoint.pool.set_accepting(is_open && !endpoint.config.draining);
            }
        }
        self.heed_all(transitions, now);
        self.note_panic();
    }

    /// Frees places that nobody holds any more, and says where `endpoints` will be, and which
    /// subsets there will be when routes ask for `subsets`.
    pub(super) fn plan(
        &mut self,
        endpoints: &[EndpointConfig],
        subsets: Vec<Selector>,
    ) -> (Seating, Vec<Selector>) {
        self.seats.release();
        (self.seats.plan(endpoints), self.selectors(subsets))
    }

    /// The labels of all subsets, when `wanted` are asked for and others may still be in use.
    fn selectors(&self, wanted: Vec<Selector>) -> Vec<Selector> {
        let mut wanted: Vec<_> = wanted.into_iter().map(Some).collect();
        let mut all: Vec<Option<Selector>> = Vec::with_capacity(self.subsets.len());
        for (selector, hold) in &self.subsets {
            let asked = wanted.iter_mut().find(|new| new.as_ref() == Some(selector));
            let is_asked = asked.is_some_and(|new| new.take().is_some());
            all.push((is_asked || hold.strong_count() > 0).then(|| selector.clone()));
        }
        for new in wanted.into_iter().flatten() {
            match all.iter_mut().find(|place| place.is_none()) {
                Some(place) => *place = Some(new),
                None => all.push(Some(new)),
            }
        }
        while all.last().is_some_and(Option::is_none) {
            all.pop();
        }
        // A free place in the middle means everything, and is nobody's.
        all.into_iter().map(Option::unwrap_or_default).collect()
    }

    /// Whether there are exactly these subsets.
    pub(super) fn has_subsets(&self, selectors: &[Selector]) -> bool {
        self.subsets.iter().map(|(selector, _)| selector).eq(selectors)
    }

    /// Puts an update in force. Returns who has left.
    pub(super) fn reseat(&mut self, update: Update, now: Instant) -> Vec<Arc<Endpoint>> {
        let Update { seating, endpoints, balancer, selectors } = update;
        let fates = &seating.fates;
        let left = self.seats.reseat(endpoints, fates);
        let keeps: Vec<_> = fates.iter().map(|fate| fate.keeps_counts()).collect();
        let old = std::mem::replace(&mut self.balancer, balancer);
        self.balancer.succeed(old, &keeps, now);
        let mut transitions = std::mem::take(&mut self.transitions);
        self.gate.reseat(fates, now, &mut transitions);
        self.reseat_membership(fates, selectors);
        for (place, fate) in fates.iter().enumerate() {
            if *fate == Fate::Returns {
                self.balancer.returned(EndpointId(place), now);
            }
            let ramping = matches!(self.gate.state(EndpointId(place)), GateState::Ramping { .. });
            self.membership.set_ramping(EndpointId(place), ramping);
        }
        self.heed_all(transitions, now);
        self.note_panic();
        left
    }

    fn reseat_membership(&mut self, fates: &[Fate], selectors: Vec<Selector>) {
        let places = (0..self.seats.len()).map(EndpointId);
        let attributes = places.clone().map(|place| {
            let EndpointConfig { priority, zone, labels, weight, .. } =
                self.seats.get(place)?.config.clone();
            Some(EndpointAttributes { priority, zone, labels, weight })
        });
        let attributes = attributes.collect();
        self.membership.reseat(attributes, fates, selectors.clone());
        for place in places {
            let draining = self.seats.get(place).is_some_and(|e| e.config.draining);
            self.membership.set_draining(place, draining);
        }
        let before = std::mem::take(&mut self.subsets);
        let mut before = before.into_iter();
        self.subsets = selectors
            .into_iter()
            .map(|selector| match before.next() {
                Some((same, hold)) if same == selector => (selector, hold),
                _ => (selector, Weak::new()),
            })
            .collect();
    }

    /// The endpoints with these labels, all if no route was to ask for them, and what keeps the
    /// answer from meaning others later.
    pub(super) fn subset(&mut self, labels: &Selector) -> (SubsetId, Option<Arc<()>>) {
        let Some(id) = self.membership.subset(labels) else { return (SubsetId::ALL, None) };
        let known = self.subsets.iter_mut().find(|(selector, _)| selector == labels);
        let hold = known.map(|(_, weak)| {
            weak.upgrade().unwrap_or_else(|| {
                let hold = Arc::new(());
                *weak = Arc::downgrade(&hold);
                hold
            })
        });
        (id, hold)
    }

    /// An endpoint for a request, which is counted on it at once.
    pub(super) fn choose(&mut self, want: &Want<'_>, now: Instant) -> Option<Chosen> {
        if self.gate.next_sweep().is_some_and(|due| due <= now) {
            self.sweep(now);
        }
        if want.kind == AttemptKind::First {
            self.budget.deposit(now);
        }
        let chosen = match self.on_trial(want, now) {
            Some(chosen) => chosen,
            None => self.pick(want, now)?,
        };
        self.balancer.observe(chosen.endpoint, LoadEvent::Sent, now);
        Some(chosen)
    }

    /// An endpoint that is due for a trial, if this request may be the one.
    fn on_trial(&mut self, want: &Want<'_>, now: Instant) -> Option<Chosen> {
        let none = self.gate.active_ejections() == 0 || self.superseded;
        if want.kind != AttemptKind::First || none {
            return None;
        }
        let due = if want.may_probe { Some(now) } else { now.checked_sub(TRIAL_PATIENCE) };
        let membership = &self.membership;
        let serves = |endpoint| membership.serves(want.subset, endpoint);
        let (endpoint, epoch) = self.gate.take_probe(due?, serves)?;
        self.news.extend(self.seats.get(endpoint).cloned().map(News::Trial));
        Some(Chosen { endpoint, epoch, panics: false, on_trial: true })
    }

    fn pick(&mut self, want: &Want<'_>, now: Instant) -> Option<Chosen> {
        let Self { balancer, gate, membership, ramps, balance_rng: rng, rest, .. } = self;
        let choice = membership.choose(want.subset, rng)?;
        let untried = |endpoint: &EndpointId| !want.tried.contains(endpoint);
        let (mut ready, mut weight) = (choice.ready, choice.weight);
        if !want.tried.is_empty() {
            // Nearest first: what was chosen, then whatever else is available.
            let count = gate.len();
            rest.refill(count, |e| choice.ready.contains(e) && untried(&e));
            if rest.is_empty() {
                rest.refill(count, |e| membership.offers(want.subset, e) && untried(&e));
            }
            if !rest.is_empty() {
                (weight, ready) = (membership.weight_of(rest), rest);
            }
        }
        let mut endpoint = balancer.pick(ready, want.key, now, rng)?;
        ramps.picking();
        let fair = || membership.weight(endpoint) as f64 / weight as f64;
        if let GateState::Ramping { since } = gate.state(endpoint)
            && !ramps.stands(endpoint, since, fair, now, rng)
        {
            let second = balancer.pick(choice.settled, want.key, now, rng);
            endpoint = second.filter(untried).unwrap_or(endpoint);
        }
        balancer.probes(choice.ready, now, rng, &mut self.asks);
        let epoch = gate.epoch(endpoint);
        Some(Chosen { endpoint, epoch, panics: choice.panic, on_trial: false })
    }

    /// What happened to a request, for the strategy.
    pub(super) fn observe(&mut self, endpoint: EndpointId, event: LoadEvent, now: Instant) {
        self.balancer.observe(endpoint, event, now);
        if let LoadEvent::Answered { latency } = event {
            self.latencies.record(latency, now);
        }
    }

    /// What became of a request, for the gate.
    pub(super) fn record(
        &mut self,
        endpoint: EndpointId,
        epoch: Epoch,
        outcome: Outcome,
        now: Instant,
    ) {
        if self.superseded {
            return;
        }
        let rng = &mut self.outlier_rng;
        if let Some(transition) = self.gate.record(endpoint, epoch, outcome, now, rng) {
            self.heed(transition, now);
        }
    }

    /// A request on trial said nothing about the endpoint.
    pub(super) fn abandon_trial(&mut self, endpoint: EndpointId, epoch: Epoch, now: Instant) {
        self.gate.probe_abandoned(endpoint, epoch, now);
    }

    /// An active check has a verdict.
    pub(super) fn health_checked(&mut self, endpoint: EndpointId, healthy: bool, now: Instant) {
        if self.superseded {
            return;
        }
        let rng = &mut self.outlier_rng;
        if let Some(transition) = self.gate.health_checked(endpoint, healthy, now, rng) {
            self.heed(transition, now);
        }
    }

    /// An endpoint has said what its load is, or has not answered.
    pub(super) fn probed(
        &mut self,
        endpoint: EndpointId,
        answer: Option<ProbeAnswer>,
        now: Instant,
    ) {
        self.balancer.probed(endpoint, answer, now);
    }

    /// Looks at what has piled up since the last time.
    pub(super) fn sweep(&mut self, now: Instant) {
        let mut transitions = std::mem::take(&mut self.transitions);
        self.gate.sweep(now, &mut self.outlier_rng, &mut transitions);
        self.heed_all(transitions, now);
        if let Some(choice) = self.membership.choose(SubsetId::ALL, &mut self.balance_rng) {
            self.balancer.probes(choice.ready, now, &mut self.balance_rng, &mut self.asks);
        }
        for endpoint in (0..self.gate.len()).map(EndpointId) {
            let ramping = matches!(self.gate.state(endpoint), GateState::Ramping { .. });
            self.membership.set_ramping(endpoint, ramping);
        }
    }

    /// What to do after an attempt.
    pub(super) fn judge(
        &mut self,
        retry: &RetryOptions,
        mut attempt: Attempt<'_>,
        now: Instant,
    ) -> Verdict {
        attempt.expected_try = self.latencies.expected(now);
        retry.judge(&attempt, &mut self.budget, now, &mut self.retry_rng)
    }

    /// What has happened since the last call, and whom to ask for their load.
    pub(super) fn take_news(&mut self) -> (Vec<News>, Vec<Arc<Endpoint>>) {
        let asks = self.asks.drain(..).filter_map(|place| self.seats.get(place).cloned());
        (std::mem::take(&mut self.news), asks.collect())
    }

    /// Passes on all that the gate decided, and keeps the memory for the next time.
    fn heed_all(&mut self, mut transitions: Vec<Transition>, now: Instant) {
        for transition in transitions.drain(..) {
            self.heed(transition, now);
        }
        self.transitions = transitions;
    }

    /// Tells membership where an endpoint stands.
    fn follow_gate(&mut self, endpoint: EndpointId) -> GateState {
        let state = self.gate.state(endpoint);
        self.membership.set_available(endpoint, state.is_open());
        self.membership.set_ramping(endpoint, matches!(state, GateState::Ramping { .. }));
        state
    }

    /// Passes on what the gate decided.
    fn heed(&mut self, transition: Transition, now: Instant) {
        let endpoint = transition.endpoint;
        self.follow_gate(endpoint);
        if matches!(transition.kind, Kind::Returned | Kind::Healthy) {
            self.balancer.returned(endpoint, now);
        }
        self.news.extend(self.seats.get(endpoint).cloned().map(|e| News::Gate(e, transition)));
        self.note_panic();
    }

    fn note_panic(&mut self) {
        let panics = self.panics_now();
        if std::mem::replace(&mut self.panics, panics) != panics {
            self.news.push(News::Panic(panics));
        }
    }

    fn panics_now(&self) -> bool {
        self.membership.loads(SubsetId::ALL).any(|(_, choice)| choice.panic)
    }
}

/// What strategies are told of whoever sits at each place.
pub(super) fn members<'a>(
    by_place: impl Iterator<Item = Option<&'a Arc<Endpoint>>>,
) -> Vec<Member<'a>> {
    let nobody = Member { weight: 0, key: "" };
    let member = |endpoint: &'a Arc<Endpoint>| Member {
        weight: endpoint.config.weight.get(),
        key: endpoint.addr.as_str(),
    };
    by_place.map(|endpoint| endpoint.map_or(nobody, member)).collect()
}
