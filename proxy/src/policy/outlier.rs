//! The gate on each endpoint: out when it is worse than it should be, back by one probe.
//!
//! The failure it prevents: an endpoint that is broken but still listed takes its share of the
//! traffic, and under strategies that like idle or fast endpoints more than that. The detectors
//! are those of Envoy (outlier_detection.proto) with latency added; the way back is Linkerd's and
//! Finagle's single probe, then a ramp.
//!
//! ```text
//!             a detector acts                its time is over
//! Available ──────────────────▶ Ejected ─────────────────────▶ HalfOpen: exactly one request
//!     ▲                            ▲                               │         │
//!     │ ramp over                  └── it fails: twice as long ────┘         │
//! Ramping ◀──────────────────────────────────────────────── it succeeds ─────┘
//! ```
//!
//! # What differs from Envoy, and why
//! - **Peers** are compared by median and likelihood, not by mean and deviation: see `peers`.
//! - **Short first ejections** with a probe in place of 30 s and a return in full.
//! - **Escalation falls with observed success**, not with silence.
//! - **Late answers change nothing.** Requests that were in flight at an ejection still fail for
//!   seconds; counted, they would eject the endpoint again as soon as it returns. Each request
//!   carries the [`Epoch`] of its placement, and one of another epoch is ignored.
//! - **The cap** lets one of two go and never the last one that is in rotation. Ejections that it
//!   refused are told apart ([`Kind::Overflow`]), because they mean that the fault is common.
//!
//! # Common faults
//! When all endpoints fail for one cause, half of them are ejected before the cap holds, and their
//! probes fail until the cause is gone. Then a full minute might pass until each is probed. So the
//! first probe that succeeds is taken as news for all: whatever else is ejected is probed within
//! [`OutlierOptions::base_ejection`]. That costs a dead endpoint one probe for each return of
//! another, and returns are rare.
//!
//! # Active checks
//! A verdict of `health` is kept beside all this: an endpoint that is down by check is out
//! ([`GateState::Unhealthy`]) at once, without regard to the cap, as in Envoy: the check *knows*,
//! and when it is the check that is wrong the panic threshold is the guard. A check that passes
//! serves as the probe of an endpoint that was ejected because it could not be reached, because
//! that is what it proves. For errors and latency it proves nothing: the fault that health checks
//! do not see is the usual reason to have this gate.

mod event;
mod gate;
mod options;
mod peers;
#[cfg(test)]
mod tests;
mod window;

use std::time::{Duration, Instant};

use rand::{Rng, RngExt as _};

use super::balance::EndpointId;
use super::slots::Fate;
use super::slow_start::SlowStartOptions;
pub use event::{Epoch, GateState, Kind, Outcome, Reason, Transition};
use gate::{Gate, Phase};
pub use options::{Act, Consecutive, FailurePercentage, Latency, OutlierOptions, SuccessRate};
use peers::{Peers, Showing};

/// The gates of a cluster.
///
/// The shell stamps each placement with [`Outlier::epoch`], reports what became of it by
/// [`Outlier::record`], and before each pick calls [`Outlier::sweep`] when it is due and
/// [`Outlier::take_probe`]. Whatever it is told by a [`Transition`] it tells
/// [`Membership`](super::membership::Membership).
#[derive(Clone, Debug)]
pub struct Outlier {
    options: OutlierOptions,
    /// How long a returned endpoint counts as ramping.
    ramp: Duration,
    gates: Vec<Gate>,
    /// How many are ejected or half-open.
    ejected: usize,
    /// No probe is due before this; `None` when nothing waits for one.
    next_probe: Option<Instant>,
    /// The interval under way and its end, which is not known before the first event.
    interval: u64,
    interval_ends: Option<Instant>,
    next_sweep: Option<Instant>,
    /// The median of the endpoints' latencies at the last sweep that saw any.
    typical: Option<Duration>,
    peers: Peers,
    suspects: Vec<(EndpointId, Reason)>,
}

impl Outlier {
    /// Gates of endpoints `0..endpoints`, all open.
    pub fn new(endpoints: usize, options: OutlierOptions) -> Self {
        Self {
            options,
            ramp: SlowStartOptions::default().watch(),
            gates: vec![Gate::new(); endpoints],
            ejected: 0,
            next_probe: None,
            interval: 0,
            interval_ends: None,
            next_sweep: None,
            typical: None,
            peers: Peers::with_capacity(endpoints),
            suspects: Vec::with_capacity(endpoints),
        }
    }

    /// The same, with returned endpoints in [`GateState::Ramping`] for this long:
    /// [`SlowStartOptions::watch`], if its window is not the default.
    #[must_use]
    pub fn with_ramp(self, ramp: Duration) -> Self {
        Self { ramp, ..self }
    }

    /// The endpoints have changed: `fates` says what each place is from now on. Who stays keeps all
    /// that is known of it; who is new or back begins in [`GateState::Ramping`], and answers to
    /// what was sent to it before do not count; who leaves is forgotten, and is no peer to anybody.
    /// When those that are left are fewer than the cap is for, ejections end, as `out` then says.
    pub fn reseat(&mut self, fates: &[Fate], now: Instant, out: &mut Vec<Transition>) {
        self.interval_at(now);
        self.gates.truncate(fates.len());
        self.gates.resize_with(fates.len(), Gate::new);
        for (gate, fate) in self.gates.iter_mut().zip(fates) {
            if *fate != Fate::Stays {
                let since = fate.is_listed().then_some(now).filter(|_| !self.ramp.is_zero());
                gate.begin(fate.is_listed(), Phase::Open { since });
            }
        }
        let is_out = |gate: &&Gate| !matches!(gate.phase, Phase::Open { .. });
        self.ejected = self.gates.iter().filter(is_out).count();
        self.lift_excess(now, out);
    }

    /// Goes on from what `old` knew of the same places, under the rules of this one. That a rule
    /// changes is no news about an endpoint: ejections stand, and so does what checks have said.
    /// Ended, and told in `out`, is only what these rules do not allow: every ejection if there is
    /// no detection any more, those above the cap, and the verdicts if nobody `checks` any more.
    ///
    /// Requests in flight report to the old one, so whoever is on trial there may be tried here at
    /// once. What its windows hold counts on only where the rules are the same.
    pub fn inherit(&mut self, old: &Self, checks: bool, now: Instant, out: &mut Vec<Transition>) {
        self.gates.clone_from(&old.gates);
        self.ejected = old.ejected;
        if self.options == old.options {
            self.interval = old.interval;
            self.interval_ends = old.interval_ends;
            self.next_sweep = old.next_sweep;
            self.typical = old.typical;
        }
        for (place, gate) in self.gates.iter_mut().enumerate() {
            match gate.phase {
                Phase::HalfOpen { reason, .. } => gate.enter(Phase::Ejected { until: now, reason }),
                phase if self.options != old.options => gate.enter(phase),
                Phase::Open { .. } | Phase::Ejected { .. } => {}
            }
            if gate.unhealthy && !checks {
                gate.unhealthy = false;
                let is_open = matches!(gate.phase, Phase::Open { .. });
                let kind = if is_open { Kind::Healthy } else { Kind::HealthyButEjected };
                out.push(Transition { endpoint: EndpointId(place), kind });
            }
        }
        self.lift_excess(now, out);
    }

    /// Ends ejections that the rules do not allow, because there are others or fewer endpoints than
    /// there were: first of whoever was to be tried first. A probe that is under way decides for
    /// itself.
    // Ejected → Open
    fn lift_excess(&mut self, now: Instant, out: &mut Vec<Transition>) {
        let listed = self.gates.iter().filter(|gate| gate.listed).count();
        let cap = if self.options.enabled { self.options.cap(listed) } else { 0 };
        while self.ejected > cap {
            let ejected = self.gates.iter().enumerate();
            let first = ejected.filter_map(|(place, gate)| match gate.phase {
                Phase::Ejected { until, .. } => Some((until, place)),
                Phase::Open { .. } | Phase::HalfOpen { .. } => None,
            });
            let Some((_, place)) = first.min() else { break };
            self.ejected -= 1;
            self.gates[place].enter(Phase::Open { since: Some(now) });
            out.push(Transition { endpoint: EndpointId(place), kind: Kind::Returned });
        }
        self.find_next_probe();
    }

    /// Stamped on each ordinary placement.
    pub fn epoch(&self, endpoint: EndpointId) -> Epoch {
        self.gates[endpoint.0].epoch
    }

    /// Where it stands.
    pub fn state(&self, endpoint: EndpointId) -> GateState {
        let gate = &self.gates[endpoint.0];
        if gate.unhealthy {
            return GateState::Unhealthy;
        }
        match gate.phase {
            Phase::Open { since: None } => GateState::Available,
            Phase::Open { since: Some(since) } => GateState::Ramping { since },
            Phase::Ejected { until, reason } => {
                GateState::Ejected { until, reason, times: gate.times }
            }
            Phase::HalfOpen { .. } => GateState::HalfOpen,
        }
    }

    /// How many places there are for endpoints.
    pub fn len(&self) -> usize {
        self.gates.len()
    }

    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.gates.is_empty()
    }

    /// How many endpoints are ejected or half-open. What is only down by active check is not.
    pub fn active_ejections(&self) -> usize {
        self.ejected
    }

    /// When to sweep next; `None` before there is anything to look at.
    pub fn next_sweep(&self) -> Option<Instant> {
        self.next_sweep
    }

    /// What became of a request that was placed on `endpoint` in `epoch`. An outcome of another
    /// epoch than the endpoint's present one changes nothing.
    pub fn record(
        &mut self,
        endpoint: EndpointId,
        epoch: Epoch,
        outcome: Outcome,
        now: Instant,
        rng: &mut dyn Rng,
    ) -> Option<Transition> {
        if !self.options.enabled {
            return None;
        }
        let interval = self.interval_at(now);
        let gate = &mut self.gates[endpoint.0];
        if !gate.listed {
            return None;
        }
        match gate.phase {
            // Open → (Open | Ejected)
            Phase::Open { .. } if epoch == gate.epoch && !gate.unhealthy => {
                gate.window.advance(interval);
                gate.count(outcome, self.typical);
                let reason = gate.streak(&self.options)?;
                self.detected(endpoint, reason, now, rng)
            }
            // HalfOpen → (Open | Ejected)
            Phase::HalfOpen { probe, reason } if epoch == probe => {
                self.probed(endpoint, reason, outcome, now, rng)
            }
            Phase::Open { .. } | Phase::Ejected { .. } | Phase::HalfOpen { .. } => None,
        }
    }

    /// Looks at the windows, and appends what comes of it to `out`. To be called before a pick when
    /// [`Outlier::next_sweep`] has come; how late does not matter to what the windows hold.
    pub fn sweep(&mut self, now: Instant, rng: &mut dyn Rng, out: &mut Vec<Transition>) {
        if self.next_sweep.is_none_or(|due| now < due) {
            return;
        }
        let interval = self.interval_at(now);
        self.next_sweep = self.interval_ends;
        for gate in self.gates.iter_mut().filter(|gate| gate.listed) {
            gate.window.advance(interval);
            gate.settle(self.ramp, now);
            if gate.is_open() {
                gate.forgive(&self.options, now);
            }
        }
        if !self.options.enabled {
            return;
        }
        self.find_suspects();
        let suspects = std::mem::take(&mut self.suspects);
        for (endpoint, reason) in &suspects {
            // Two detectors may have found the same one.
            if self.gates[endpoint.0].is_open() {
                out.extend(self.detected(*endpoint, *reason, now, rng));
            }
        }
        self.suspects = suspects;
    }

    /// An ejected endpoint whose time is over by `now`, and that `serves` the request at hand: it
    /// becomes half-open, and the caller must place exactly one request on it, with the epoch that
    /// comes along, and then call [`Outlier::record`] or [`Outlier::probe_abandoned`] with that
    /// epoch. Costs nothing while nothing is due.
    // Ejected → HalfOpen
    pub fn take_probe(
        &mut self,
        now: Instant,
        serves: impl Fn(EndpointId) -> bool,
    ) -> Option<(EndpointId, Epoch)> {
        if self.next_probe.is_none_or(|due| now < due) {
            return None;
        }
        let due = |gate: &Gate| match gate.phase {
            Phase::Ejected { until, reason } if until <= now && !gate.unhealthy => {
                Some((until, reason))
            }
            _ => None,
        };
        // Who has waited longest is first.
        let waiting = self.gates.iter().enumerate();
        let first = waiting
            .filter(|(index, _)| serves(EndpointId(*index)))
            .filter_map(|(index, gate)| due(gate).map(|(until, reason)| (until, index, reason)))
            .min();
        let taken = first.map(|(_, index, reason)| {
            let gate = &mut self.gates[index];
            let probe = Epoch(gate.epoch.0 + 1);
            gate.phase = Phase::HalfOpen { probe, reason };
            (EndpointId(index), probe)
        });
        self.find_next_probe();
        taken
    }

    /// The probe came to nothing that says anything about the endpoint (it was never sent, its
    /// caller left): it may be probed again at once.
    // HalfOpen → Ejected
    pub fn probe_abandoned(&mut self, endpoint: EndpointId, epoch: Epoch, now: Instant) {
        let gate = &mut self.gates[endpoint.0];
        if let Phase::HalfOpen { probe, reason } = gate.phase
            && probe == epoch
        {
            gate.enter(Phase::Ejected { until: now, reason });
            self.find_next_probe();
        }
    }

    /// An active check has a verdict, new or the same as before.
    pub fn health_checked(
        &mut self,
        endpoint: EndpointId,
        healthy: bool,
        now: Instant,
        rng: &mut dyn Rng,
    ) -> Option<Transition> {
        self.interval_at(now);
        let gate = &mut self.gates[endpoint.0];
        if !gate.listed {
            return None;
        }
        let was_unhealthy = std::mem::replace(&mut gate.unhealthy, !healthy);
        let kind = match (gate.phase, healthy) {
            // (Open | Ejected | HalfOpen) → Unhealthy
            (_, false) if was_unhealthy => return None,
            (Phase::HalfOpen { reason, .. }, false) => {
                gate.enter(Phase::Ejected { until: now, reason });
                Kind::Unhealthy
            }
            (phase, false) => {
                gate.enter(phase);
                Kind::Unhealthy
            }
            // Unhealthy → Open
            (Phase::Open { .. }, true) if was_unhealthy => {
                gate.enter(Phase::Open { since: Some(now) });
                Kind::Healthy
            }
            // (Ejected | HalfOpen) → Open: the check is the probe.
            (Phase::Ejected { until, reason: Reason::ConsecutiveLocalOrigin }, true)
                if until <= now =>
            {
                self.give_back(endpoint, now, rng)
            }
            (Phase::Ejected { .. }, true) if was_unhealthy => Kind::HealthyButEjected,
            (_, true) => return None,
        };
        self.find_next_probe();
        Some(Transition { endpoint, kind })
    }

    /// The number of the interval that `now` is in.
    fn interval_at(&mut self, now: Instant) -> u64 {
        let length = self.options.interval;
        let Some(ends) = self.interval_ends else {
            self.interval_ends = Some(now + length);
            self.next_sweep = self.interval_ends;
            return self.interval;
        };
        if now >= ends {
            let late = now.duration_since(ends).as_nanos();
            let further = u64::try_from(late / length.as_nanos()).unwrap_or(u64::MAX);
            let into = Duration::from_nanos_u128(late % length.as_nanos());
            self.interval = self.interval.saturating_add(further).saturating_add(1);
            self.interval_ends = Some(now + length - into);
        }
        self.interval
    }

    /// Fills `suspects`: whoever fails before whoever is slow, the worst first, so that they go
    /// while the cap allows.
    fn find_suspects(&mut self) {
        let Self { options, gates, peers, suspects, .. } = self;
        suspects.clear();
        let open = |requests_from: u32| {
            let gates = gates.iter().enumerate().filter(|(_, gate)| gate.is_open());
            gates.filter_map(move |(index, gate)| {
                let requests = gate.window.requests();
                (requests >= requests_from).then(|| Showing {
                    endpoint: EndpointId(index),
                    value: gate.window.failure_rate(),
                    requests,
                })
            })
        };
        if options.success_rate.act != Act::Off {
            peers.refill(open(options.success_rate.min_requests.get()));
            peers.failing(&options.success_rate, |showing| {
                suspects.push((showing.endpoint, Reason::SuccessRate));
            });
        }
        if options.failure_percentage.act != Act::Off {
            peers.refill(open(options.failure_percentage.min_requests.get()));
            peers.from(options.failure_percentage.threshold / 100.0, |showing| {
                suspects.push((showing.endpoint, Reason::FailurePercentage));
            });
        }
        // Also when nobody is ejected for it: probes and cancelled requests are judged by it.
        let Latency { quantile, min_requests, .. } = options.latency;
        let slowness = gates.iter().enumerate().filter_map(|(index, gate)| {
            let open = gate.is_open().then_some(gate)?;
            let latency = open.window.latency(quantile, min_requests.get())?;
            let value = latency.as_secs_f64();
            Some(Showing { endpoint: EndpointId(index), value, requests: min_requests.get() })
        });
        peers.refill(slowness);
        if let Some(median) = peers.median() {
            self.typical = Some(Duration::from_secs_f64(median));
        }
        if options.latency.act != Act::Off {
            peers.slow(&options.latency, |showing| {
                suspects.push((showing.endpoint, Reason::Latency));
            });
        }
    }

    /// A detector has found `endpoint`, which is open.
    // Open → (Open | Ejected)
    fn detected(
        &mut self,
        endpoint: EndpointId,
        reason: Reason,
        now: Instant,
        rng: &mut dyn Rng,
    ) -> Option<Transition> {
        let open = self.gates.iter().filter(|gate| gate.is_open()).count();
        let listed = self.gates.iter().filter(|gate| gate.listed).count();
        let is_allowed = self.ejected < self.options.cap(listed) && open > 1;
        let kind = match self.options.act(reason) {
            Act::Off => return None,
            Act::Observe => Kind::Detected { reason },
            Act::Eject if !is_allowed => Kind::Overflow { reason },
            Act::Eject => {
                self.ejected += 1;
                let (until, times) = self.shut(endpoint, reason, now, rng);
                Kind::Ejected { reason, until, times }
            }
        };
        Some(Transition { endpoint, kind })
    }

    /// The outcome of a probe.
    // HalfOpen → (Open | Ejected)
    fn probed(
        &mut self,
        endpoint: EndpointId,
        reason: Reason,
        outcome: Outcome,
        now: Instant,
        rng: &mut dyn Rng,
    ) -> Option<Transition> {
        let too_slow = self.too_slow();
        let is_well = match outcome {
            // One answer is enough to say that it works, not that it is fast.
            Outcome::Success { latency } => {
                reason != Reason::Latency || latency.as_secs_f64() < too_slow
            }
            Outcome::ServerError | Outcome::Gateway | Outcome::LocalOrigin => false,
            Outcome::Cancelled { elapsed } if elapsed.as_secs_f64() < too_slow => {
                let probe = Epoch(self.gates[endpoint.0].epoch.0 + 1);
                self.probe_abandoned(endpoint, probe, now);
                return None;
            }
            Outcome::Cancelled { .. } => false,
        };
        let kind = if is_well {
            self.give_back(endpoint, now, rng)
        } else {
            let (until, times) = self.shut(endpoint, reason, now, rng);
            Kind::ProbeFailed { until, times }
        };
        Some(Transition { endpoint, kind })
    }

    /// The latency, in seconds, from which a probe is as slow as what endpoints are ejected for.
    fn too_slow(&self) -> f64 {
        let Latency { factor, floor, .. } = self.options.latency;
        // Before anything is known the floor stands for what is typical.
        let typical = self.typical.unwrap_or(floor);
        (typical.as_secs_f64() * factor).max(floor.as_secs_f64())
    }

    /// Ejects, or goes on ejecting.
    // (Open | HalfOpen) → Ejected
    fn shut(
        &mut self,
        endpoint: EndpointId,
        reason: Reason,
        now: Instant,
        rng: &mut dyn Rng,
    ) -> (Instant, u32) {
        let gate = &mut self.gates[endpoint.0];
        gate.times = gate.times.saturating_add(1);
        let longer = 1.0 + self.options.jitter * rng.random::<f64>();
        let until = now + self.options.ejection(gate.times).mul_f64(longer);
        gate.enter(Phase::Ejected { until, reason });
        self.find_next_probe();
        (until, self.gates[endpoint.0].times)
    }

    /// Puts it in rotation again. What ended its fault may have ended that of others.
    // (Ejected | HalfOpen) → Open
    fn give_back(&mut self, endpoint: EndpointId, now: Instant, rng: &mut dyn Rng) -> Kind {
        self.ejected -= 1;
        self.gates[endpoint.0].enter(Phase::Open { since: Some(now) });
        for gate in &mut self.gates {
            if let Phase::Ejected { until, .. } = &mut gate.phase {
                let soon = self.options.base_ejection.mul_f64(rng.random::<f64>());
                *until = (*until).min(now + soon);
            }
        }
        self.find_next_probe();
        Kind::Returned
    }

    fn find_next_probe(&mut self) {
        let waiting = self.gates.iter().filter(|gate| !gate.unhealthy);
        self.next_probe = waiting
            .filter_map(|gate| match gate.phase {
                Phase::Ejected { until, .. } => Some(until),
                Phase::Open { .. } | Phase::HalfOpen { .. } => None,
            })
            .min();
    }
}
