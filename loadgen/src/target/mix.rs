//! Which target a request is for, where there are several.

use super::template::Draw;
use super::{Target, TargetError};

/// The most targets in one run: each has its own histograms.
pub const MAX_TARGETS: usize = 1000;

/// The largest weight.
pub const MAX_WEIGHT: u32 = 1_000_000;

/// The draw that decides the target; templates count their own from 0.
const PLACE: u64 = u64::MAX;

/// Targets with weights. The target of request k is a function of the seed and k.
#[derive(Clone, Debug, PartialEq)]
pub struct Mix {
    aims: Vec<Aim>,
    /// Weights added up to and including each.
    upto: Vec<u64>,
}

/// One target, and where it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Aim {
    /// What is sent.
    pub target: Target,
    /// What is dialled, as `host:port`.
    pub address: String,
    /// Its share is this out of the sum of all weights.
    pub weight: u32,
}

impl Mix {
    /// One target only.
    pub fn single(target: Target, address: String) -> Mix {
        Mix { aims: vec![Aim { target, address, weight: 1 }], upto: vec![1] }
    }

    /// Several targets.
    ///
    /// # Errors
    /// When there are none or more than [`MAX_TARGETS`], or a weight is zero or over
    /// [`MAX_WEIGHT`].
    pub fn new(aims: Vec<Aim>) -> Result<Mix, TargetError> {
        if aims.is_empty() || aims.len() > MAX_TARGETS {
            return Err(TargetError::Count { count: aims.len() });
        }
        if let Some(aim) = aims.iter().find(|aim| !(1..=MAX_WEIGHT).contains(&aim.weight)) {
            return Err(TargetError::Weight { weight: aim.weight });
        }
        let upto = aims.iter().scan(0, |sum, aim| {
            *sum += u64::from(aim.weight);
            Some(*sum)
        });
        Ok(Mix { upto: upto.collect(), aims })
    }

    /// All targets, in the order of their numbers.
    pub fn aims(&self) -> &[Aim] {
        &self.aims
    }

    /// The same targets and weights, all dialled at `address`.
    #[must_use]
    pub fn dialled_at(mut self, address: &str) -> Mix {
        for aim in &mut self.aims {
            address.clone_into(&mut aim.address);
        }
        self
    }

    /// The number of the target that request `index` is for.
    pub fn pick(&self, seed: u64, index: u64) -> usize {
        match self.upto.as_slice() {
            [_] => 0,
            [.., sum] => {
                let drawn = Draw { seed, index }.below(PLACE, *sum);
                self.upto.partition_point(|upto| *upto <= drawn)
            }
            [] => unreachable!("a mix has a target"),
        }
    }

    /// The addresses, each once, and which of them each target has.
    pub(crate) fn addresses(&self) -> (Vec<String>, Vec<usize>) {
        let mut addresses: Vec<String> = Vec::new();
        let places = self.aims.iter().map(|aim| {
            addresses.iter().position(|known| *known == aim.address).unwrap_or_else(|| {
                addresses.push(aim.address.clone());
                addresses.len() - 1
            })
        });
        let places = places.collect();
        (addresses, places)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aim(url: &str, weight: u32) -> Aim {
        let target = Target::from_url(url).unwrap();
        Aim { address: target.address(), target, weight }
    }

    #[test]
    fn targets_are_drawn_by_their_weights() {
        let mix = Mix::new(vec![aim("http://a/", 1), aim("http://b/", 3), aim("http://a/x", 6)]);
        let mix = mix.unwrap();
        let mut counts = [0_u32; 3];
        (0..10_000).for_each(|index| counts[mix.pick(5, index)] += 1);
        // Four standard deviations of a binomial of 10,000.
        for (count, expected) in counts.into_iter().zip([1000_u32, 3000, 6000]) {
            assert!(count.abs_diff(expected) < 200, "{counts:?}");
        }
        assert_eq!(mix.addresses(), (vec!["a:80".to_owned(), "b:80".to_owned()], vec![0, 1, 0]));
        assert!((0..100).any(|index| mix.pick(5, index) != mix.pick(6, index)));
    }

    #[test]
    fn a_mix_has_a_target_and_weights_in_bounds() {
        assert_eq!(Mix::new(vec![]), Err(TargetError::Count { count: 0 }));
        for (weight, is_ok) in [(0, false), (1, true), (MAX_WEIGHT, true), (MAX_WEIGHT + 1, false)]
        {
            assert_eq!(Mix::new(vec![aim("http://a/", weight)]).is_ok(), is_ok, "{weight}");
        }
    }
}
