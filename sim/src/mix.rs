//! Requests that differ: a share of this target, a share of that one.
//!
//! Which target the n-th request of a plan has is a function of the seed and of n alone, as its
//! planned instant is. So two variants that are compared with one seed are asked the same, request
//! by request, however differently they answer; and afterwards the target of any index can be
//! looked up without having been recorded.

use std::time::Duration;

use loadgen::{Aim, Target, TargetError};

/// Targets, their shares, and the seed that says which request has which.
#[derive(Clone, Debug, PartialEq)]
pub struct Mix {
    seed: u64,
    mix: loadgen::Mix,
    /// Of each target, in order; none if there are fewer.
    deadlines: Vec<Option<Duration>>,
}

/// Weights are whole numbers: shares are kept to a millionth of their sum.
const WHOLE: f64 = 1_000_000.0;

impl Mix {
    /// A mix of targets by their shares, which are weights: 4 and 1 say the same as 0.8 and 0.2.
    ///
    /// # Errors
    /// When there is no target or too many, or a share is not above a millionth of their sum.
    pub fn new(seed: u64, targets: Vec<(Target, f64)>) -> Result<Self, TargetError> {
        let sum: f64 = targets.iter().map(|(_, share)| share.max(0.0)).sum();
        let aims = targets.into_iter().map(|(target, share)| Aim {
            address: target.address(),
            // Saturates: what is no number, or below zero, becomes 0 and is refused.
            weight: (share / sum * WHOLE).round() as u32,
            target,
        });
        Ok(Self { seed, mix: loadgen::Mix::new(aims.collect())?, deadlines: Vec::new() })
    }

    /// The same, with a deadline for each target that has one of its own: what takes longer from
    /// its planned instant on is late.
    #[must_use]
    pub fn with_deadlines(self, deadlines: Vec<Option<Duration>>) -> Self {
        Self { deadlines, ..self }
    }

    /// The deadline that the request with this index has of its own.
    pub fn deadline_of(&self, index: u64) -> Option<Duration> {
        if self.deadlines.is_empty() {
            return None;
        }
        self.deadlines.get(self.mix.pick(self.seed, index)).copied().flatten()
    }

    /// The target of the request with this index in the plan.
    pub fn target_of(&self, index: u64) -> &Target {
        &self.mix.aims()[self.mix.pick(self.seed, index)].target
    }

    /// What may be sent, each once.
    pub fn targets(&self) -> impl Iterator<Item = &Target> {
        self.mix.aims().iter().map(|aim| &aim.target)
    }

    /// What the load generator is told: the seed, and the same targets, all dialled at `address`.
    pub(crate) fn at(&self, address: &str) -> (u64, loadgen::Mix) {
        (self.seed, self.mix.clone().dialled_at(address))
    }
}

impl From<Target> for Mix {
    /// Every request the same.
    fn from(target: Target) -> Self {
        let address = target.address();
        Self { seed: 0, mix: loadgen::Mix::single(target, address), deadlines: Vec::new() }
    }
}
