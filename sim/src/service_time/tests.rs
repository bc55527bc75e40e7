//! Draws against closed forms.

use proptest::prelude::{prop, prop_assert, proptest};
use proxy::rng::stream;
use rand::RngExt as _;

use super::*;

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn time(text: &str) -> ServiceTime {
    text.parse().unwrap()
}

const DRAWS: usize = 100_000;

/// Sorted draws in milliseconds.
fn draws(of: &ServiceTime) -> Vec<f64> {
    let mut rng = stream(1, "test");
    let mut draws: Vec<_> = (0..DRAWS).map(|_| of.draw(rng.random()).as_secs_f64() * 1e3).collect();
    draws.sort_by(f64::total_cmp);
    draws
}

/// How far the empirical distribution may be from the true one anywhere: Kolmogorov and Smirnov's
/// bound, which one sample in a million exceeds.
fn bound() -> f64 {
    (((2.0 / 1e-6_f64).ln()) / (2.0 * DRAWS as f64)).sqrt()
}

/// Compares all draws with a distribution function over milliseconds.
fn follows(text: &str, cdf: impl Fn(f64) -> f64) {
    let draws = draws(&time(text));
    for (place, value) in draws.iter().enumerate() {
        let below = place as f64 / DRAWS as f64;
        let off = (cdf(*value) - below).abs();
        assert!(off < bound() + 1.0 / DRAWS as f64, "{text}: {value} ms is off by {off}");
    }
}

/// Compares the mean with the true one, within five standard errors.
fn has_mean(text: &str, mean: f64, sd: f64) {
    let drawn = draws(&time(text)).iter().sum::<f64>() / DRAWS as f64;
    let tolerance = 5.0 * sd / (DRAWS as f64).sqrt();
    assert!((drawn - mean).abs() < tolerance, "{text}: {drawn} is not {mean} ± {tolerance}");
}

fn normal_cdf(z: f64) -> f64 {
    libm::erfc(-z / std::f64::consts::SQRT_2) / 2.0
}

#[test]
fn draws_follow_their_distribution_everywhere() {
    follows("uniform:5ms,15ms", |x| (x - 5.0) / 10.0);
    follows("exponential:10ms", |x| 1.0 - (-x / 10.0).exp());
    follows("normal:167ms,5ms", |x| normal_cdf((x - 167.0) / 5.0));
    // Truncated: what lies below zero of a bell of mean 1 and deviation 1 is not drawn.
    let below = normal_cdf(-1.0);
    follows("normal:10ms,10ms", |x| (normal_cdf((x - 10.0) / 10.0) - below) / (1.0 - below));
    let spread = 10f64.ln() / 2.326_347_874_040_841;
    follows("lognormal:20ms,200ms", |x| normal_cdf((x / 20.0).ln() / spread));
    follows("pareto:5ms,2.5", |x| 1.0 - (5.0 / x).powf(2.5));
    // Balanced means: shares of 0.887 and 0.113 for a squared coefficient of variation of 4.
    let p = (1.0 + (3.0f64 / 5.0).sqrt()) / 2.0;
    let phase = |share: f64, x: f64| share * (1.0 - (-x * 2.0 * share / 10.0).exp());
    follows("hyperexponential:10ms,4", |x| phase(p, x) + phase(1.0 - p, x));
}

#[test]
fn means_and_variances_are_those_of_the_books() {
    has_mean("10ms", 10.0, 1e-9);
    has_mean("uniform:5ms,15ms", 10.0, 10.0 / 12f64.sqrt());
    has_mean("exponential:10ms", 10.0, 10.0);
    has_mean("hyperexponential:10ms,4", 10.0, 20.0);
    // m·a/(a−1), with the standard deviation of the same book.
    has_mean("pareto:6ms,3", 9.0, 6.0 * (3.0f64 / (4.0 * 1.0)).sqrt());
    // Mean of a bell at 1 ± 1 above zero: 1 + φ(−1)/(1−Φ(−1)).
    let lift = (-0.5f64).exp() / std::f64::consts::TAU.sqrt() / (1.0 - normal_cdf(-1.0));
    has_mean("normal:10ms,10ms", 10.0 * (1.0 + lift), 10.0);
    let draws = draws(&time("hyperexponential:10ms,4"));
    let second = draws.iter().map(|x| x * x).sum::<f64>() / DRAWS as f64;
    assert!((second / 100.0 - 5.0).abs() < 0.3, "E[S²]/E[S]² is 1 + 4, not {}", second / 100.0);
}

#[test]
fn a_bounded_pareto_stays_below_its_maximum() {
    let bounded = Pareto::new(ms(5), 1.1, Some(ms(500))).unwrap();
    let draws = draws(&ServiceTime::Pareto(bounded));
    assert!(draws[0] >= 5.0 && draws[DRAWS - 1] <= 500.0);
    let below = |x: f64| (1.0 - (5.0 / x).powf(1.1)) / (1.0 - 0.01f64.powf(1.1));
    assert!((below(draws[DRAWS / 2]) - 0.5).abs() < bound());
}

const KINDS: [&str; 8] = [
    "10ms",
    "uniform:0ms,50ms",
    "normal:10ms,5ms",
    "normal:1ms,10ms",
    "lognormal:10ms,50ms",
    "exponential:10ms",
    "hyperexponential:10ms,20",
    "pareto:1ms,3",
];

#[test]
fn the_extreme_draws_are_finite() {
    for uniform in [[0.0, 0.0], [1.0 - f64::EPSILON / 2.0; 2]] {
        for of in KINDS.map(time) {
            assert!(of.draw(uniform) < Duration::from_secs(600), "{of}");
        }
    }
    // A tail without a bound is cut at a day.
    assert_eq!(time("pareto:1s,1.01").draw([1.0 - f64::EPSILON / 2.0, 0.0]), LONGEST);
}

proptest! {
    #[test]
    fn inverted_draws_rise_with_their_number(a in 0.0..1.0f64, b in 0.0..1.0f64) {
        let (low, high) = if a < b { (a, b) } else { (b, a) };
        for of in ["uniform:0ms,50ms", "exponential:10ms", "pareto:1ms,3", "normal:1ms,10ms"] {
            let of = time(of);
            prop_assert!(of.draw([low, 0.5]) <= of.draw([high, 0.5]), "{}", of);
        }
    }

    #[test]
    fn no_draw_panics_or_is_longer_than_a_day(
        kind in prop::sample::select(KINDS.to_vec()), a in 0.0..1.0f64, b in 0.0..1.0f64,
    ) {
        prop_assert!(time(kind).draw([a, b]) <= LONGEST);
    }
}

#[test]
fn the_short_form_is_read_or_explained() {
    assert_eq!("10ms".parse(), Ok(ServiceTime::Constant(ms(10))));
    assert_eq!("normal:167ms,5ms".parse(), Ok(ServiceTime::Normal { mean: ms(167), sd: ms(5) }));
    for wrong in [
        "",
        "ten",
        "normal:5ms",
        "normal:0ms,5ms",
        "gamma:5ms",
        "lognormal:9ms,3ms",
        "lognormal:0s,1s",
        "uniform:9ms,9ms",
        "hyperexponential:10ms,0.9",
        "hyperexponential:10ms",
        "pareto:1ms,1",
        "pareto:0ms,2",
    ] {
        assert!(wrong.parse::<ServiceTime>().is_err(), "{wrong}");
    }
    let said = KINDS.map(|kind| time(kind).to_string());
    assert_eq!(said[6], "hyperexponential, mean 10ms, variation² 20");
    assert_eq!(said[7], "pareto from 1ms, exponent 3");
}
