//! A rate that changes over time: straight lines between points.
//!
//! The expected number of requests up to an instant is the area under the rate. Request k stands
//! where that area reaches k, which for straight lines is the root of a quadratic: closed form
//! again, so that no stage inherits an error from the one before it.

use std::time::Duration;

use super::PlanError;

/// One point of a changing rate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stage {
    /// From the start of the plan.
    pub at: Duration,
    /// Requests per second at that instant. Between two points the rate changes evenly; two
    /// points at the same instant are a step.
    pub rate_per_s: f64,
}

/// Points of a rate, and the area under it up to each.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Profile {
    stages: Vec<Stage>,
    /// Requests expected before each point.
    area: Vec<f64>,
}

impl Profile {
    pub(super) fn new(stages: &[Stage]) -> Result<Profile, PlanError> {
        let sound = stages.len() >= 2
            && stages[0].at.is_zero()
            && stages.windows(2).all(|pair| pair[0].at <= pair[1].at);
        if !sound {
            return Err(PlanError::Stages);
        }
        for stage in stages {
            // A stage may pause; a rate is otherwise bound as everywhere.
            if stage.rate_per_s != 0.0 {
                super::check_rate(stage.rate_per_s)?;
            }
        }
        let mut area = vec![0.0];
        for pair in stages.windows(2) {
            let seconds = (pair[1].at - pair[0].at).as_secs_f64();
            let before = area.last().copied().unwrap_or_default();
            area.push(before + seconds * (pair[0].rate_per_s + pair[1].rate_per_s) / 2.0);
        }
        Ok(Profile { stages: stages.to_vec(), area })
    }

    pub(super) fn stages(&self) -> &[Stage] {
        &self.stages
    }

    /// The last point.
    pub(super) fn end(&self) -> Duration {
        self.stages.last().map(|stage| stage.at).unwrap_or_default()
    }

    /// Requests expected in all.
    pub(super) fn expected(&self) -> f64 {
        self.area.last().copied().unwrap_or_default()
    }

    /// When the area under the rate reaches `requests`; `None` if it never does.
    pub(super) fn instant(&self, requests: f64) -> Option<Duration> {
        if requests >= self.expected() {
            return None;
        }
        // The last point that has no more than that before it.
        let at = self.area.partition_point(|area| *area <= requests).saturating_sub(1);
        let (from, to) = (self.stages.get(at)?, self.stages.get(at + 1)?);
        let missing = requests - self.area[at];
        let seconds = (to.at - from.at).as_secs_f64();
        let slope = (to.rate_per_s - from.rate_per_s) / seconds;
        // slope/2 · t² + rate · t = missing, written so that neither a flat line nor one that
        // starts at zero divides by nothing, and nothing cancels.
        let root = libm::sqrt((from.rate_per_s * from.rate_per_s + 2.0 * slope * missing).max(0.0));
        let divisor = from.rate_per_s + root;
        let offset = if divisor > 0.0 { 2.0 * missing / divisor } else { 0.0 };
        Some(from.at + Duration::from_nanos((offset.clamp(0.0, seconds) * 1e9) as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stage(seconds: u64, rate_per_s: f64) -> Stage {
        Stage { at: Duration::from_secs(seconds), rate_per_s }
    }

    #[test]
    fn a_ramp_reaches_half_of_its_requests_at_the_root_of_a_half() {
        let profile = Profile::new(&[stage(0, 0.0), stage(10, 200.0)]).unwrap();
        assert_eq!(profile.expected(), 1000.0);
        let half = profile.instant(500.0).unwrap().as_secs_f64();
        assert!((half - 10.0 * 0.5_f64.sqrt()).abs() < 1e-6, "{half}");
        assert_eq!(profile.instant(0.0), Some(Duration::ZERO));
        assert_eq!(profile.instant(1000.0), None);
    }

    #[test]
    fn a_step_and_a_pause_are_where_they_were_put() {
        let stages = [
            stage(0, 10.0),
            stage(1, 10.0),
            stage(1, 0.0),
            stage(3, 0.0),
            stage(3, 10.0),
            stage(4, 10.0),
        ];
        let profile = Profile::new(&stages).unwrap();
        assert_eq!(profile.instant(9.0).unwrap().as_millis(), 900);
        assert_eq!(profile.instant(10.0).unwrap().as_millis(), 3000);
        assert_eq!(profile.instant(15.0).unwrap().as_millis(), 3500);
    }

    proptest! {
        #[test]
        fn instants_rise_with_the_requests_and_match_the_area(
            points in prop::collection::vec((0_u64..20, 0.0_f64..500.0), 2..6), share in 0.0_f64..1.0,
        ) {
            let mut at = 0;
            let stages: Vec<Stage> = points.iter().enumerate().map(|(i, (gap, rate))| {
                at += if i == 0 { 0 } else { *gap };
                stage(at, rate.max(0.001))
            }).collect();
            let profile = Profile::new(&stages).unwrap();
            let wanted = profile.expected() * share;
            let Some(instant) = profile.instant(wanted) else { return Ok(()) };
            prop_assert!(instant <= profile.end());
            // The area up to there, by the trapezium rule, is what was asked for.
            let t = instant.as_secs_f64();
            let mut area = 0.0;
            for pair in stages.windows(2) {
                let (a, b) = (pair[0].at.as_secs_f64(), pair[1].at.as_secs_f64());
                if t <= a || a == b { continue; }
                let upto = t.min(b);
                let rate = pair[0].rate_per_s
                    + (pair[1].rate_per_s - pair[0].rate_per_s) * (upto - a) / (b - a);
                area += (upto - a) * (pair[0].rate_per_s + rate) / 2.0;
            }
            prop_assert!((area - wanted).abs() < 1e-3, "{} for {}", area, wanted);
        }
    }
}
