//! The normal distribution, and what is left of it above zero.

use std::f64::consts::{SQRT_2, TAU};
use std::time::Duration;

use super::seconds;

/// Beyond this many standard deviations less than one draw in a thousand million lies.
const NEVER: f64 = 6.0;

/// A normal draw that is not below zero.
///
/// Where the bell as good as never reaches there, it is drawn from as it is. Otherwise it is
/// inverted: a share of what lies above zero, looked up.
pub(super) fn draw(mean: Duration, sd: Duration, uniform: [f64; 2]) -> Duration {
    let (mean, sd) = (mean.as_secs_f64(), sd.as_secs_f64());
    if mean >= NEVER * sd {
        return seconds(mean + sd * standard_normal(uniform));
    }
    // Looked up by the share that is left above, where the long tail is.
    let above_zero = above(-mean / sd);
    seconds(mean + sd * quantile_above((1.0 - uniform[0]) * above_zero))
}

/// Box and Muller's transformation.
pub(super) fn standard_normal([radius, angle]: [f64; 2]) -> f64 {
    libm::sqrt(-2.0 * libm::log(1.0 - radius)) * libm::cos(TAU * angle)
}

/// The share of the standard normal distribution that lies above `z`.
fn above(z: f64) -> f64 {
    libm::erfc(z / SQRT_2) / 2.0
}

/// The value above which this share lies, from 0 to 1, by bisection: the function is monotonous,
/// 60 halvings are exact to the last bits, and no table of coefficients has to be believed.
fn quantile_above(share: f64) -> f64 {
    let (mut low, mut high) = (-40.0, 40.0);
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        if above(middle) > share {
            low = middle;
        } else {
            high = middle;
        }
    }
    (low + high) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_tables() {
        let cases = [(0.5, 0.0), (0.025, 1.959_963_984_540_054), (0.99, -2.326_347_874_040_841)];
        for (share, z) in cases {
            assert!((quantile_above(share) - z).abs() < 1e-9, "{share}");
        }
    }
}
