use std::time::Duration;

use loadgen::LatencyHistogram;
use proptest::prelude::*;
use statrs::distribution::{ContinuousCDF as _, Normal};

use super::*;

/// A small generator (SplitMix64), so that the draws are the same everywhere.
struct Draws(u64);

impl Draws {
    /// From 0 to 1, neither included.
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64 + f64::EPSILON / 4.0
    }

    fn normal(&mut self, sd: f64) -> f64 {
        Normal::new(0.0, sd).unwrap().inverse_cdf(self.uniform())
    }
}

fn of_mean(values: &[f64]) -> Sections<'_> {
    Sections { center: mean(values).unwrap(), of_runs: values }
}

fn share(hits: usize, of: usize) -> f64 {
    hits as f64 / of as f64
}

#[test]
fn intervals_of_means_cover_and_pairs_make_them_narrow() {
    // Two variants that differ by 0.7; what the seeds have in common varies by 5, the rest by 1.
    const TRIALS: usize = 1500;
    let (mut covered, mut covered_unpaired) = (0, 0);
    let (mut width, mut width_unpaired) = (0.0, 0.0);
    let mut draws = Draws(1);
    for _ in 0..TRIALS {
        let (mut a, mut b) = (Vec::new(), Vec::new());
        for _ in 0..10 {
            let common = draws.normal(5.0);
            a.push(100.0 + common + draws.normal(1.0));
            b.push(100.7 + common + draws.normal(1.0));
        }
        let of_pairs = paired(of_mean(&a), of_mean(&b), CONFIDENCE).unwrap();
        covered += usize::from(of_pairs.low <= 0.7 && 0.7 <= of_pairs.high);
        width += of_pairs.half();
        // The same differences between seeds that have nothing in common.
        let others: Vec<f64> =
            (0..10).map(|_| 100.7 + draws.normal(5.0) + draws.normal(1.0)).collect();
        let of_others = unpaired(of_mean(&a), of_mean(&others), CONFIDENCE).unwrap();
        covered_unpaired += usize::from(of_others.low <= 0.7 && 0.7 <= of_others.high);
        width_unpaired += of_others.half();
    }
    let (paired, unpaired) = (share(covered, TRIALS), share(covered_unpaired, TRIALS));
    assert!((0.92..=0.98).contains(&paired), "{paired} of the paired intervals cover");
    assert!((0.92..=0.98).contains(&unpaired), "{unpaired} of the unpaired intervals cover");
    assert!(width * 3.0 < width_unpaired, "{width} is not much less than {width_unpaired}");
}

#[test]
fn intervals_of_merged_percentiles_cover() {
    // Exponential times with means of 100 and 120 ms, by the same draws.
    const TRIALS: usize = 400;
    for quantile in [0.5, 0.9] {
        let truth = 0.020 * (1.0_f64 / (1.0 - quantile)).ln();
        let mut covered = 0;
        let mut draws = Draws(7);
        for _ in 0..TRIALS {
            let mut sides = [(); 2].map(|()| (LatencyHistogram::new(), Vec::new()));
            for _ in 0..10 {
                let mut runs = [(); 2].map(|()| LatencyHistogram::new());
                for _ in 0..400 {
                    let draw = -draws.uniform().ln();
                    runs[0].record(Duration::from_secs_f64(0.100 * draw));
                    runs[1].record(Duration::from_secs_f64(0.120 * draw));
                }
                for ((merged, of_runs), run) in sides.iter_mut().zip(runs) {
                    merged.merge(&run);
                    of_runs.push(run.quantile(quantile).as_secs_f64());
                }
            }
            let [a, b] = &sides;
            let sections = |(merged, of_runs): &'_ (LatencyHistogram, Vec<f64>)| {
                (merged.quantile(quantile).as_secs_f64(), of_runs.clone())
            };
            let ((a, of_a), (b, of_b)) = (sections(a), sections(b));
            let a = Sections { center: a, of_runs: &of_a };
            let b = Sections { center: b, of_runs: &of_b };
            let bounds = paired(a, b, CONFIDENCE).unwrap();
            covered += usize::from(bounds.low <= truth && truth <= bounds.high);
        }
        let covered = share(covered, TRIALS);
        assert!((0.92..=0.98).contains(&covered), "{covered} of the intervals of {quantile} cover");
    }
}

#[test]
fn students_t_is_students() {
    // Tables: 2.776 for 4 degrees of freedom, 2.262 for 9, 12.706 for 1.
    for (freedom, t) in [(4.0, 2.776), (9.0, 2.262), (1.0, 12.706)] {
        assert!((student(freedom, 0.95).unwrap() - t).abs() < 5e-4);
    }
    // 1, 2, 3: mean 2, standard error 1/√3, t of 4.303.
    let bounds = of_mean(&[1.0, 2.0, 3.0]).interval(0.95).unwrap();
    assert!((bounds.half() - 4.303 / 3.0_f64.sqrt()).abs() < 1e-3, "{bounds:?}");
}

#[test]
fn too_little_gives_no_interval() {
    assert_eq!(Sections { center: 1.0, of_runs: &[1.0] }.interval(0.95), None);
    assert_eq!(Sections { center: f64::NAN, of_runs: &[1.0, 2.0] }.interval(0.95), None);
    assert_eq!(of_mean(&[1.0, f64::INFINITY]).interval(0.95), None);
    assert_eq!(paired(of_mean(&[1.0, 2.0]), of_mean(&[1.0, 2.0, 3.0]), 0.95), None);
    assert_eq!(unpaired(of_mean(&[1.0]), of_mean(&[1.0, 2.0]), 0.95), None);
    assert_eq!(
        (mean(&[]), jain(&[]), jain(&[0.0]), max_over_mean(&[0.0])),
        (None, None, None, None)
    );
}

#[test]
fn equal_runs_differ_by_exactly_nothing() {
    let values = [0.5, 0.25, 0.75];
    let bounds = paired(of_mean(&values), of_mean(&values), 0.95).unwrap();
    assert_eq!((bounds.low, bounds.high, bounds.excludes_zero()), (0.0, 0.0, false));
}

proptest! {
    #[test]
    fn fairness_stays_within_its_bounds(values in prop::collection::vec(0.0..1e6_f64, 1..50)) {
        let n = values.len() as f64;
        if let Some(index) = jain(&values) {
            prop_assert!(index >= 1.0 / n - 1e-9 && index <= 1.0 + 1e-9);
            let factor = max_over_mean(&values).unwrap();
            prop_assert!(factor >= 1.0 - 1e-9 && factor <= n + 1e-9);
        }
    }

    #[test]
    fn more_confidence_is_a_wider_interval(values in prop::collection::vec(-1e6..1e6_f64, 2..30)) {
        let of = |confidence| of_mean(&values).interval(confidence).unwrap();
        let (narrow, wide) = (of(0.9), of(0.99));
        prop_assert!(wide.low <= narrow.low && narrow.high <= wide.high);
        let swapped = paired(of_mean(&values), of_mean(&vec![0.0; values.len()]), 0.95).unwrap();
        let straight = of(0.95);
        prop_assert!((swapped.low + straight.high).abs() <= 1e-6 * straight.high.abs().max(1.0));
    }
}
