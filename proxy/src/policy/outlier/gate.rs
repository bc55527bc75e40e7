//! What is remembered of one endpoint.

use std::time::{Duration, Instant};

use super::window::Window;
use super::{Act, Epoch, Outcome, OutlierOptions, Reason};

/// Where an endpoint stands as to what its requests met. What active checks say lies beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// In rotation; `since` while it ramps after its return.
    Open { since: Option<Instant> },
    /// Out until `until`, then waiting for a probe.
    Ejected { until: Instant, reason: Reason },
    /// Out, with a probe under way whose outcome carries this epoch.
    HalfOpen { probe: Epoch, reason: Reason },
}

/// Failures since the last success, by kind.
#[derive(Clone, Copy, Debug, Default)]
struct Streaks {
    errors: u32,
    gateway: u32,
    local_origin: u32,
}

/// One endpoint.
#[derive(Clone, Debug)]
pub(super) struct Gate {
    pub(super) phase: Phase,
    /// There is an endpoint behind it. What was sent to one that has left may still be answered.
    pub(super) listed: bool,
    /// An active check says that it is down.
    pub(super) unhealthy: bool,
    /// What outcomes of ordinary requests must carry to count.
    pub(super) epoch: Epoch,
    /// Ejections not yet forgiven: the exponent of the next one's duration.
    pub(super) times: u32,
    pub(super) window: Window,
    streaks: Streaks,
    /// From when, and how many, successes are counted towards forgiveness.
    good_since: Option<Instant>,
    good: u32,
}

impl Gate {
    pub(super) fn new() -> Self {
        Self {
            phase: Phase::Open { since: None },
            listed: true,
            unhealthy: false,
            epoch: Epoch(0),
            times: 0,
            window: Window::new(),
            streaks: Streaks::default(),
            good_since: None,
            good: 0,
        }
    }

    /// In rotation by every account.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open { .. }) && !self.unhealthy && self.listed
    }

    /// Another endpoint, or none, is behind it from now on.
    pub(super) fn begin(&mut self, listed: bool, phase: Phase) {
        self.enter(phase);
        self.listed = listed;
        self.unhealthy = false;
        self.times = 0;
    }

    /// Starts afresh: what was sent before no longer counts, nor what is known from it.
    pub(super) fn enter(&mut self, phase: Phase) {
        // Two, because a probe carries the one between.
        self.epoch = Epoch(self.epoch.0 + 2);
        self.phase = phase;
        self.window.clear();
        self.streaks = Streaks::default();
        self.good_since = None;
        self.good = 0;
    }

    /// Counts an outcome of an ordinary request.
    ///
    /// The three streaks are apart, as in Envoy's split mode: a response of any kind proves that
    /// the connection works and ends the streak of local failures; a local failure proves nothing
    /// about responses and leaves theirs alone.
    pub(super) fn count(&mut self, outcome: Outcome, typical: Option<Duration>) {
        match outcome {
            Outcome::Success { latency } => {
                self.streaks = Streaks::default();
                self.good = self.good.saturating_add(1);
                self.window.succeeded();
                self.window.took(latency);
            }
            Outcome::ServerError => {
                self.streaks.errors += 1;
                self.streaks.gateway = 0;
                self.streaks.local_origin = 0;
                self.window.failed();
            }
            Outcome::Gateway => {
                self.streaks.errors += 1;
                self.streaks.gateway += 1;
                self.streaks.local_origin = 0;
                self.window.failed();
            }
            Outcome::LocalOrigin => {
                self.streaks.local_origin += 1;
                self.window.failed();
            }
            // It would have taken at least so long. A wait that any healthy endpoint would have
            // needed too says nothing, and would make the endpoint look fast.
            Outcome::Cancelled { elapsed } => {
                if typical.is_some_and(|typical| elapsed >= typical) {
                    self.window.took(elapsed);
                }
            }
        }
    }

    /// The streak that has reached its threshold, if one has; it begins anew, so that what is done
    /// about it is done once for each so many failures.
    pub(super) fn streak(&mut self, options: &OutlierOptions) -> Option<Reason> {
        let streaks = [
            (&mut self.streaks.errors, options.consecutive_errors, Reason::ConsecutiveErrors),
            (
                &mut self.streaks.gateway,
                options.consecutive_gateway_errors,
                Reason::ConsecutiveGatewayErrors,
            ),
            (
                &mut self.streaks.local_origin,
                options.consecutive_local_origin,
                Reason::ConsecutiveLocalOrigin,
            ),
        ];
        let (streak, _, reason) = streaks.into_iter().find(|(streak, detector, _)| {
            detector.act != Act::Off && **streak >= detector.threshold.get()
        })?;
        *streak = 0;
        Some(reason)
    }

    /// Takes back a step of the escalation once it has served well for long enough.
    pub(super) fn forgive(&mut self, options: &OutlierOptions, now: Instant) {
        if self.times == 0 {
            return;
        }
        let since = *self.good_since.get_or_insert(now);
        let long_enough = now.saturating_duration_since(since) >= options.forgive_after;
        if long_enough && self.good >= options.forgive_successes {
            self.times -= 1;
            self.good_since = Some(now);
            self.good = 0;
        }
    }

    /// Ends the ramp when it has lasted `ramp`.
    pub(super) fn settle(&mut self, ramp: Duration, now: Instant) {
        if let Phase::Open { since: Some(since) } = self.phase
            && now.saturating_duration_since(since) >= ramp
        {
            self.phase = Phase::Open { since: None };
        }
    }
}
