//! How fast an instance is beside others that use its machine, which no sidecar is told.

use std::fmt;
use std::time::Duration;

use proxy::config::fields::positive_duration;
use proxy::rng::stream;
use rand::RngExt as _;
use schemars::JsonSchema;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use sim::world::CapacityStep;
use toml::Spanned;

use crate::scenario::fields;

/// The most changes that one instance is put through.
pub(in crate::scenario) const MOST_STEPS: usize = 10_000;

/// A course of an instance's speed.
#[derive(Clone, Debug)]
pub enum Capacity {
    /// Changes at given instants, the same for each instance.
    Steps(Vec<Step>),
    /// Somebody else who comes and goes, at each instance at times of its own.
    Antagonist(Antagonist),
}

/// A change of speed.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// When, from the start of the run.
    #[serde(deserialize_with = "fields::spanned_duration")]
    #[schemars(with = "Duration")]
    pub at: Spanned<Duration>,
    /// How fast from then on, against what service times say.
    #[serde(deserialize_with = "fields::speed")]
    #[schemars(range(min = 0, max = 100))]
    pub factor: f64,
}

/// Somebody else on the machine. How long it stays and stays away is exponential.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Antagonist {
    /// How fast an instance is while it is there.
    #[serde(deserialize_with = "fields::speed")]
    #[schemars(range(min = 0, max = 100))]
    pub factor: f64,
    /// For how long it is there, on average.
    #[serde(deserialize_with = "positive_duration")]
    pub busy: Duration,
    /// For how long it is not, on average.
    #[serde(deserialize_with = "positive_duration")]
    pub free: Duration,
}

impl Capacity {
    /// The changes of an instance's speed up to `end`, in order.
    pub fn steps(&self, seed: u64, instance: &str, end: Duration) -> Vec<CapacityStep> {
        match self {
            Capacity::Steps(steps) => steps
                .iter()
                .map(|step| CapacityStep { at: *step.at.get_ref(), capacity: step.factor })
                .collect(),
            Capacity::Antagonist(antagonist) => antagonist.steps(seed, instance, end),
        }
    }
}

impl Antagonist {
    /// How many changes there are on average before `end`.
    pub fn expected_steps(&self, end: Duration) -> f64 {
        2.0 * end.as_secs_f64() / (self.busy + self.free).as_secs_f64()
    }

    fn steps(&self, seed: u64, instance: &str, end: Duration) -> Vec<CapacityStep> {
        let mut rng = stream(seed, &format!("capacity/{instance}"));
        let mut draw = |mean: Duration| {
            let seconds = -mean.as_secs_f64() * libm::log(1.0 - rng.random::<f64>());
            // The simulator steps in milliseconds, so less than one is no time.
            Duration::from_millis((seconds * 1e3).ceil().max(1.0) as u64)
        };
        let mut steps = Vec::new();
        let mut at = draw(self.free);
        while at < end && steps.len() < MOST_STEPS {
            let is_busy = steps.len() % 2 == 0;
            let capacity = if is_busy { self.factor } else { 1.0 };
            steps.push(CapacityStep { at, capacity });
            at += draw(if is_busy { self.busy } else { self.free });
        }
        steps
    }
}

impl<'de> Deserialize<'de> for Capacity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct CapacityVisitor;

        impl<'de> Visitor<'de> for CapacityVisitor {
            type Value = Capacity;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "a list of { at = \"10s\", factor = 0.5 }, or \
                     { factor = 0.5, busy = \"5s\", free = \"20s\" }",
                )
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Capacity, A::Error> {
                Antagonist::deserialize(MapAccessDeserializer::new(map)).map(Capacity::Antagonist)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Capacity, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(list)).map(Capacity::Steps)
            }
        }

        deserializer.deserialize_any(CapacityVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_antagonist_is_there_for_its_part_of_the_time_and_of_each_instance_on_its_own() {
        let [busy, free] = [5, 20].map(Duration::from_secs);
        let capacity = Capacity::Antagonist(Antagonist { factor: 0.3, busy, free });
        let end = Duration::from_secs(100_000);
        let steps = capacity.steps(1, "web-0", end);
        assert!(steps.is_sorted_by(|a, b| a.at < b.at));
        let there: Duration = steps.chunks_exact(2).map(|pair| pair[1].at - pair[0].at).sum();
        let share = there.as_secs_f64() / end.as_secs_f64();
        // A fifth; about 4000 periods, so within a few percent of it.
        assert!((share - 0.2).abs() < 0.015, "{share}");
        assert!(steps.iter().step_by(2).all(|step| step.capacity == 0.3));
        assert_eq!(steps, capacity.steps(1, "web-0", end));
        assert_ne!(steps, capacity.steps(1, "web-1", end));
        assert_ne!(steps, capacity.steps(2, "web-0", end));
    }
}
