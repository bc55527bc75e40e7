//! What is behind a cluster's lock: the policies, and the order in which they are asked. Pure.
//!
//! 1. The gate ([`outlier`](crate::policy::outlier)) says whether an endpoint is due for a trial.
//! 2. Membership ([`membership`](crate::policy::membership)) says among which endpoints to choose.
//! 3. What this request has tried already is left out, while anything else is left.
//! 4. The strategy ([`balance`](crate::policy::balance)) picks.
//! 5. A pick that is still warming up stands with its ramp's probability and while it has no more
//!    than a fair part ([`slow_start`](crate::policy::slow_start)); else one that is warm is picked.

use std::time::{Duration, Instant};

use crate::config::ClusterConfig;
use crate::policy::balance::{Balancer, EndpointId, LoadEvent, Member, ProbeAnswer};
use crate::policy::budget::Budget;
use crate::policy::hedge::{DigestOptions, LatencyDigest};
use crate::policy::membership::{EndpointAttributes, Membership, Selector, SubsetId};
use crate::policy::outlier::{Epoch, GateState, Kind, Outcome, Outlier, Transition};
use crate::policy::ready::ReadySet;
use crate::policy::retry::{Attempt, RetryOptions, Verdict};
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
#[derive(Clone, Copy, Debug)]
pub(super) enum News {
    /// The gate of an endpoint moved, or should have.
    Gate(Transition),
    /// An ejected endpoint gets a request on trial.
    Trial(EndpointId),
    /// The cluster began or ceased to panic.
    Panic(bool),
}

/// How long an endpoint that is due for a trial waits for a request that can be repeated. Then any
/// will do: a service without such requests would never see it again.
const TRIAL_PATIENCE: Duration = Duration::from_secs(1);

/// The policies of a cluster.
pub(super) struct Policies {
    pub(super) balancer: Box<dyn Balancer>,
    pub(super) gate: Outlier,
    pub(super) membership: Membership,
    pub(super) budget: Budget,
    pub(super) latencies: LatencyDigest,
    /// So few endpoints are available that all are used.
    pub(super) panics: bool,
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

impl Policies {
    pub(super) fn new(config: &ClusterConfig, selectors: Vec<Selector>, seed: u64) -> Self {
        let endpoints = &config.endpoints;
        let members: Vec<_> = endpoints
            .iter()
            .map(|endpoint| Member {
                weight: endpoint.weight.get(),
                key: endpoint.address.as_str(),
            })
            .collect();
        let attributes = endpoints.iter().map(|endpoint| EndpointAttributes {
            priority: endpoint.priority,
            zone: endpoint.zone.clone(),
            labels: endpoint.labels.clone(),
            weight: endpoint.weight,
        });
        let rng = |what: &str| stream(seed, &format!("{what}/{}", config.name));
        let membership = config.membership.clone();
        Self {
            balancer: config.balance.0.build(&members, &config.balancer_options()),
            gate: Outlier::new(endpoints.len(), config.outlier)
                .with_ramp(config.slow_start.watch()),
            membership: Membership::new(attributes.collect(), selectors, membership),
            budget: Budget::new(&config.retry_budget),
            latencies: LatencyDigest::new(&DigestOptions::default()),
            panics: false,
            ramps: Ramps::new(config.slow_start),
            balance_rng: rng("balance"),
            outlier_rng: rng("outlier"),
            retry_rng: rng("retry"),
            rest: ReadySet::default(),
            transitions: Vec::new(),
            news: Vec::new(),
            asks: Vec::new(),
        }
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
        if want.kind != AttemptKind::First || self.gate.active_ejections() == 0 {
            return None;
        }
        let due = if want.may_probe { Some(now) } else { now.checked_sub(TRIAL_PATIENCE) };
        let membership = &self.membership;
        let serves = |endpoint| membership.serves(want.subset, endpoint);
        let (endpoint, epoch) = self.gate.take_probe(due?, serves)?;
        self.news.push(News::Trial(endpoint));
        Some(Chosen { endpoint, epoch, panics: false, on_trial: true })
    }

    fn pick(&mut self, want: &Want<'_>, now: Instant) -> Option<Chosen> {
        let Self { balancer, gate, membership, ramps, balance_rng: rng, rest, .. } = self;
        let choice = membership.choose(want.subset, rng)?;
        let untried = |endpoint: &EndpointId| !want.tried.contains(endpoint);
        let mut ready = choice.ready;
        if !want.tried.is_empty() {
            // Nearest first: what was chosen, then whatever else is available.
            let count = gate.len();
            rest.refill(count, |e| choice.ready.contains(e) && untried(&e));
            if rest.is_empty() {
                rest.refill(count, |e| membership.offers(want.subset, e) && untried(&e));
            }
            if !rest.is_empty() {
                ready = rest;
            }
        }
        let mut endpoint = balancer.pick(ready, want.key, now, rng)?;
        ramps.picking();
        let fair = || membership.fair_part(endpoint, ready);
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
        for transition in transitions.drain(..) {
            self.heed(transition, now);
        }
        self.transitions = transitions;
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
    pub(super) fn take_news(&mut self) -> (Vec<News>, Vec<EndpointId>) {
        (std::mem::take(&mut self.news), std::mem::take(&mut self.asks))
    }

    /// Passes on what the gate decided.
    fn heed(&mut self, transition: Transition, now: Instant) {
        let endpoint = transition.endpoint;
        let state = self.gate.state(endpoint);
        self.membership.set_available(endpoint, state.is_open());
        self.membership.set_ramping(endpoint, matches!(state, GateState::Ramping { .. }));
        if matches!(transition.kind, Kind::Returned | Kind::Healthy) {
            self.balancer.returned(endpoint, now);
        }
        self.news.push(News::Gate(transition));
        let panics = self.membership.loads(SubsetId::ALL).any(|(_, choice)| choice.panic);
        if std::mem::replace(&mut self.panics, panics) != panics {
            self.news.push(News::Panic(panics));
        }
    }
}
