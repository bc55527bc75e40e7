//! Whom a fault happens to: by name, by what is known of an instance, and by chance.

use proxy::rng::stream;
use rand::seq::SliceRandom as _;
use schemars::JsonSchema;
use serde::Deserialize;
use sim::world::EndpointSpec;
use toml::Spanned;

use super::Fault;

/// An instance, as faults are aimed at it.
#[derive(Clone, Debug)]
pub(in crate::scenario) struct Instance {
    /// Its name, such as `web-0`.
    pub(in crate::scenario) name: String,
    /// What else sidecars are told about it.
    pub(in crate::scenario) endpoint: EndpointSpec,
}

/// Which ones of several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum Chosen {
    /// The first.
    #[serde(rename = "first")]
    First,
    /// Those that the run's seed says, which are the same for all variants.
    #[serde(rename = "by seed")]
    BySeed,
}

impl Fault {
    /// Its targets as they are written.
    pub fn written(&self) -> impl Iterator<Item = &Spanned<String>> {
        self.target.iter().chain(&self.targets)
    }

    /// The places of all that it may happen to, in order.
    pub(in crate::scenario) fn candidates(&self, instances: &[Instance]) -> Vec<usize> {
        let hit = |place: &usize| self.is_aimed_at(&instances[*place]);
        (0..instances.len()).filter(hit).collect()
    }

    fn is_aimed_at(&self, instance: &Instance) -> bool {
        let by_name = self.written().next().is_none()
            || self.written().any(|target| matches(target.get_ref(), &instance.name));
        let zone = self.zone.as_ref().map(|zone| zone.get_ref());
        let in_zone = zone.is_none() || zone == instance.endpoint.zone.as_ref();
        let labels = &instance.endpoint.labels;
        let mut wanted = self.labels.iter();
        by_name && in_zone && wanted.all(|(key, value)| labels.get(key) == Some(value.get_ref()))
    }

    /// How many of its candidates it happens to.
    fn count(&self, candidates: usize) -> usize {
        let of_fraction = |fraction: f64| (candidates as f64 * fraction).ceil() as usize;
        let most = self.pick.as_ref().map_or(candidates, |pick| pick.get_ref().get());
        self.fraction.map_or(most, of_fraction).min(candidates)
    }

    /// Whether which ones it happens to is up to the seed.
    pub(in crate::scenario) fn is_by_seed(&self) -> bool {
        match &self.chosen {
            Some(chosen) => *chosen.get_ref() == Chosen::BySeed,
            None => self.pick.is_some(),
        }
    }

    /// The places of those that it happens to in a run with this seed, in order; `number` is its
    /// own place in the file.
    pub(in crate::scenario) fn places(
        &self,
        number: usize,
        instances: &[Instance],
        seed: u64,
    ) -> Vec<usize> {
        let mut places = self.candidates(instances);
        let count = self.count(places.len());
        if !self.is_by_seed() {
            places.truncate(count);
            return places;
        }
        let mut rng = stream(seed, &format!("fault/{number}/whom"));
        let (chosen, _) = places.partial_shuffle(&mut rng, count);
        let mut places = chosen.to_vec();
        places.sort_unstable();
        places
    }
}

/// True when `target`, a name or the beginning of one with `*` behind it, names this instance.
pub fn matches(target: &str, instance: &str) -> bool {
    match target.strip_suffix('*') {
        Some(beginning) => instance.starts_with(beginning),
        None => target == instance,
    }
}
