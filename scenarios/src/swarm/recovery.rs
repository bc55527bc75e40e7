//! What is expected of every scenario of the swarm beside what is expected of every run.

use toml::Value;

use super::draw::{Draw, table, time};
use super::faults::Fault;
use super::topology::Topology;

/// The quiet that a mesh gets after the last fault: more than the slowest work that a fault leaves
/// behind, the longest pause of a circuit and the ramp of who returns.
const QUIET_MS: u64 = 15_000;
/// The part of the run in which all has to be well again.
const WELL_MS: u64 = 5_000;
/// What a few requests may lose by chance.
const CHANCE: f64 = 0.02;
/// The same where work fails by itself: three standard errors of the fewest requests there may be.
const CHANCE_WITH_ERRORS: f64 = 0.12;

/// When things are expected.
pub(super) struct Times {
    well_from_ms: u64,
    /// Whether an attempt that is late was begun late.
    late_is_late: bool,
    pub(super) end_ms: u64,
}

impl Times {
    pub(super) fn draw(seed: u64, faults: &[Fault]) -> Self {
        let draw = &mut Draw::new(seed, "times");
        let over = faults.iter().map(|fault| fault.until_ms).max().unwrap_or_default();
        let quiet = if faults.is_empty() { draw.int(500, 2000) } else { QUIET_MS };
        let well_from_ms = over + quiet;
        let late_is_late = !faults.iter().any(|fault| fault.holds_back);
        Self { well_from_ms, late_is_late, end_ms: well_from_ms + WELL_MS }
    }

    pub(super) fn expectations(&self, topology: &Topology) -> Vec<Value> {
        let rate = topology.success_rate();
        let chance = if rate < 1.0 { CHANCE_WITH_ERRORS } else { CHANCE };
        let at_least = ((rate - chance) * 100.0).floor() / 100.0;
        let well = table([
            ("that", "success_rate".into()),
            ("from", time(self.well_from_ms)),
            ("at_least", at_least.into()),
        ]);
        if !self.late_is_late {
            return vec![well];
        }
        let late = topology.called_in_time().into_iter().map(|service| {
            let target = format!("{service}-*").into();
            table([("that", "late_starts".into()), ("target", target), ("at_most", 0.into())])
        });
        std::iter::once(well).chain(late).collect()
    }
}
