//! The plan, scripted and as properties.

use super::*;
use proptest::prelude::*;

const SECOND: Duration = Duration::from_secs(1);

fn burst(size: u32) -> Arrivals {
    Arrivals::Burst(size.try_into().unwrap())
}

fn all(plan: &Plan) -> Vec<(u64, Duration)> {
    let mut cursor = plan.cursor();
    std::iter::from_fn(|| cursor.take_due(Duration::MAX)).collect()
}

fn any_arrivals() -> impl Strategy<Value = Arrivals> {
    prop_oneof![
        Just(Arrivals::Constant),
        Just(Arrivals::Poisson),
        Just(Arrivals::Uniform),
        (1_u32..50).prop_map(burst),
    ]
}

/// A plan of any kind but a closed one.
fn any_plan() -> impl Strategy<Value = Plan> {
    let fixed = (any_arrivals(), 20.0_f64..5000.0, any::<u64>())
        .prop_map(|(arrivals, rate, seed)| Plan::new(arrivals, rate, SECOND, seed));
    let staged =
        (any_arrivals(), prop::collection::vec((0_u64..900, 1.0_f64..900.0), 1..5), any::<u64>())
            .prop_map(|(arrivals, points, seed)| {
                let mut at = Duration::ZERO;
                let mut stages = vec![Stage { at, rate_per_s: 50.0 }];
                for (gap, rate_per_s) in points {
                    at += Duration::from_millis(gap + 500);
                    stages.push(Stage { at, rate_per_s });
                }
                Plan::staged(arrivals, &stages, seed)
            });
    let replayed = prop::collection::vec(0_u64..1000, 1..100).prop_map(|mut times| {
        times.sort_unstable();
        Plan::replay(times.into_iter().map(Duration::from_millis).collect())
    });
    prop_oneof![fixed, staged, replayed].prop_filter_map("nothing arrives", Result::ok)
}

#[test]
fn uniform_arrivals_have_one_request_in_each_slot() {
    let plan = Plan::new(Arrivals::Uniform, 1000.0, SECOND, 3).unwrap();
    assert_eq!(plan.len(), 1000);
    let mut offsets = 0.0;
    for (k, planned) in (0_u32..).zip(plan.instants()) {
        let slot = Duration::from_millis(1) * k;
        assert!(planned >= slot && planned < slot + Duration::from_millis(1));
        offsets += (planned - slot).as_secs_f64();
    }
    // The mean of a thousand uniform draws: half a slot, within four standard deviations.
    assert!((offsets - 0.5).abs() < 4.0 * (1000.0_f64 / 12.0).sqrt() / 1000.0, "{offsets}");
}

#[test]
fn a_burst_is_at_one_instant_and_keeps_the_rate() {
    let plan = Plan::new(burst(10), 100.0, SECOND, 0).unwrap();
    let millis: Vec<u128> = plan.instants().map(|t| t.as_millis()).collect();
    assert_eq!(millis, (0..100).map(|k| k / 10 * 100).collect::<Vec<u128>>());
}

#[test]
fn a_ramp_sends_the_area_under_it() {
    let stage = |seconds, rate_per_s| Stage { at: Duration::from_secs(seconds), rate_per_s };
    let plan = Plan::staged(Arrivals::Constant, &[stage(0, 0.0), stage(10, 200.0)], 0).unwrap();
    assert_eq!((plan.len(), plan.rate_per_s()), (1000, 100.0));
    let early = plan.instants().filter(|t| *t < Duration::from_secs(5)).count();
    assert_eq!(early, 250);
    let poisson = Plan::staged(Arrivals::Poisson, &[stage(0, 0.0), stage(10, 200.0)], 4).unwrap();
    let early = poisson.instants().filter(|t| *t < Duration::from_secs(5)).count();
    assert!(poisson.len().abs_diff(1000) < 127 && early.abs_diff(250) < 64, "{early}");
}

#[test]
fn stages_that_are_no_course_are_refused() {
    let stage = |seconds, rate_per_s| Stage { at: Duration::from_secs(seconds), rate_per_s };
    for stages in [
        vec![],
        vec![stage(0, 5.0)],
        vec![stage(1, 5.0), stage(2, 5.0)],
        vec![stage(0, 5.0), stage(2, 5.0), stage(1, 5.0)],
    ] {
        assert_eq!(Plan::staged(Arrivals::Constant, &stages, 0), Err(PlanError::Stages));
    }
    let silent = Plan::staged(Arrivals::Constant, &[stage(0, 0.0), stage(1, 0.0)], 0);
    assert_eq!(silent, Err(PlanError::Empty));
}

#[test]
fn a_closed_loop_plans_for_now_until_its_time_or_count_is_over() {
    let mut cursor = Plan::closed(SECOND).unwrap().cursor();
    let nano = Duration::from_nanos(1);
    assert_eq!(cursor.take_due(SECOND / 2), Some((0, SECOND / 2)));
    assert_eq!(cursor.take_due(SECOND - nano), Some((1, SECOND - nano)));
    assert!(cursor.peek().is_some());
    assert_eq!((cursor.take_due(SECOND), cursor.peek()), (None, None));
    let mut cursor = Plan::closed_with_count(3).unwrap().share(1, 2).cursor();
    assert_eq!(cursor.take_due(SECOND), Some((1, SECOND)));
    assert_eq!((cursor.take_due(SECOND), cursor.peek()), (None, None));
}

#[test]
fn constant_arrivals_are_k_over_rate_without_drift() {
    let plan = Plan::new(Arrivals::Constant, 3.0, Duration::from_secs(1000), 0).unwrap();
    assert_eq!(plan.len(), 3000);
    for (k, planned) in plan.instants().enumerate() {
        assert_eq!(planned.as_nanos(), k as u128 * 1_000_000_000 / 3);
    }
}

#[test]
fn an_arrival_at_the_end_is_outside_and_one_before_it_inside() {
    let at = |ns| Plan::new(Arrivals::Constant, 10.0, Duration::from_nanos(ns), 0).unwrap();
    assert_eq!(at(100_000_000).len(), 1);
    assert_eq!(at(100_000_001).len(), 2);
}

#[test]
fn poisson_arrivals_have_the_rate_and_the_spread_of_a_poisson_process() {
    let plan = Plan::new(Arrivals::Poisson, 1000.0, Duration::from_secs(100), 7).unwrap();
    // 100,000 expected, with a standard deviation of 316: four of them.
    assert!(plan.len().abs_diff(100_000) < 1265, "{}", plan.len());
    let times: Vec<f64> = plan.instants().map(|t| t.as_secs_f64()).collect();
    let gaps: Vec<f64> = times.windows(2).map(|w| w[1] - w[0]).collect();
    let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
    let variance = gaps.iter().map(|g| (g - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
    assert!((mean * 1000.0 - 1.0).abs() < 0.02, "{mean}");
    // An exponential's standard deviation is its mean.
    assert!((variance.sqrt() / mean - 1.0).abs() < 0.02, "{variance}");
}

#[test]
fn the_seed_decides_the_arrivals() {
    let draw = |seed| -> Vec<Duration> {
        Plan::new(Arrivals::Poisson, 50.0, SECOND, seed).unwrap().instants().collect()
    };
    assert_eq!(draw(1), draw(1));
    assert_ne!(draw(1), draw(2));
}

#[test]
fn a_counted_plan_has_the_count_and_the_same_instants() {
    for arrivals in [Arrivals::Constant, Arrivals::Poisson, Arrivals::Uniform, burst(7)] {
        let by_time = Plan::new(arrivals, 100.0, SECOND, 3).unwrap();
        let by_count = Plan::with_count(arrivals, 100.0, 40, 3).unwrap();
        assert_eq!(by_count.len(), 40);
        let expected: Vec<_> = by_time.instants().take(40).collect();
        assert_eq!(by_count.instants().collect::<Vec<_>>(), expected);
        assert!(expected[39] < by_count.end());
    }
}

#[test]
fn what_cannot_be_planned_is_refused() {
    let with_rate = |rate| Plan::new(Arrivals::Constant, rate, SECOND, 0);
    for rate in [0.0, -5.0, f64::NAN, f64::INFINITY, MAX_RATE * 1.01] {
        assert!(matches!(with_rate(rate), Err(PlanError::Rate(_))), "{rate}");
    }
    assert!(with_rate(MAX_RATE).is_ok());
    let lasting = |d| Plan::new(Arrivals::Constant, 1.0, d, 0);
    assert!(matches!(lasting(Duration::ZERO), Err(PlanError::Duration(_))));
    assert!(lasting(MAX_DURATION).is_ok());
    assert!(lasting(MAX_DURATION + Duration::from_nanos(1)).is_err());
    assert_eq!(Plan::with_count(Arrivals::Constant, 1.0, 0, 0), Err(PlanError::Empty));
    let most = Plan::with_count(Arrivals::Constant, MAX_RATE, MAX_PLANNED - 1, 0);
    assert!(most.is_ok());
    let more = Plan::with_count(Arrivals::Constant, MAX_RATE, MAX_PLANNED, 0);
    assert_eq!(more, Err(PlanError::TooLong { planned: MAX_PLANNED }));
    let slow = Plan::with_count(Arrivals::Constant, MIN_RATE, 1000, 0).unwrap_err();
    assert!(slow.to_string().contains("more than 31 days"), "{slow}");
}

proptest! {
    #[test]
    fn the_shares_together_are_the_plan(
        plan in any_plan(), workers in 1_u64..5,
    ) {
        let mut together: Vec<_> =
            (0..workers).flat_map(|w| all(&plan.share(w, workers))).collect();
        together.sort_unstable();
        prop_assert_eq!(&together, &all(&plan));
        prop_assert_eq!(together.len() as u64, plan.len());
        let shares: u64 = (0..workers).map(|w| plan.share(w, workers).len()).sum();
        prop_assert_eq!(shares, plan.len());
    }

    #[test]
    fn instants_rise_and_stay_before_the_end(plan in any_plan()) {
        let times: Vec<_> = plan.instants().collect();
        prop_assert_eq!(times.len() as u64, plan.len());
        prop_assert!(times.is_sorted());
        prop_assert!(times.iter().all(|t| *t < plan.end()));
    }
}
