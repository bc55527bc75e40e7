//! Numbers as people read them: enough digits to tell values apart, and never more than there are.

use std::time::Duration;

use crate::record::Unit;

/// How many requests must lie beyond a percentile before it is worth stating.
pub(crate) const SUPPORT: f64 = 10.0;

/// Whether `count` values say anything about this quantile (0 to 1).
pub(crate) fn supported(quantile: f64, count: u64) -> bool {
    // The slack absorbs the rounding of 1 − 0.999.
    (1.0 - quantile) * count as f64 >= SUPPORT - 1e-6
}

/// Digits after the point for a success rate: more as it nears 100 %, where they matter.
pub(crate) fn success_digits(rate: f64) -> usize {
    match 1.0 - rate {
        failures if failures <= 0.0 => 0,
        failures if failures >= 1e-3 => 2,
        failures if failures >= 1e-4 => 3,
        _ => 4,
    }
}

/// A rate from 0 to 1 in percent, without the sign. Only a rate of exactly 1 reads 100.
pub(crate) fn percent(rate: f64, digits: usize) -> String {
    let shown = format!("{:.digits$}", rate * 100.0);
    if rate < 1.0 && shown.starts_with("100") {
        return format!("{:.digits$}", 100.0 - 10f64.powi(-(digits as i32)));
    }
    shown
}

/// A success rate in percent with its sign, with as many digits as it deserves.
pub(crate) fn success(rate: f64) -> String {
    format!("{}\u{a0}%", percent(rate, success_digits(rate)))
}

/// A share from 0 to 1 in percent, to three digits.
pub(crate) fn share(rate: f64) -> String {
    format!("{}\u{a0}%", significant(rate * 100.0))
}

/// Three significant digits, or all digits before the point.
pub(crate) fn significant(value: f64) -> String {
    match value.abs() {
        v if v >= 99.95 => grouped(value.round() as i64),
        v if v >= 9.995 => format!("{value:.1}"),
        v if v >= 0.9995 => trim_zero(format!("{value:.2}")),
        _ => trim_zero(format!("{value:.3}")),
    }
}

fn trim_zero(text: String) -> String {
    if text.trim_matches(['0', '.']).is_empty() { "0".to_owned() } else { text }
}

/// Milliseconds as a number.
pub(crate) fn as_ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// Requests per second, with no more digits than it has.
pub(crate) fn rate(per_s: f64) -> String {
    if per_s.fract() == 0.0 { grouped(per_s as i64) } else { significant(per_s) }
}

/// Keeps a number and its unit on one line.
const NBSP: char = '\u{a0}';

/// A number in its unit, as an expectation gives it: `99.952 %`, `12.3 ms`, `1.2 ×`.
pub fn in_unit(unit: Unit, number: f64) -> String {
    let (digits, sign) = parts(unit, number);
    format!("{digits}{sign}")
}

/// The least and the greatest of some numbers: `98.5 … 412 ms`, or one if they read the same.
pub(crate) fn range(unit: Unit, numbers: &[f64]) -> String {
    let least = numbers.iter().copied().fold(f64::INFINITY, f64::min);
    let most = numbers.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let ((low, low_sign), (high, high_sign)) = (parts(unit, least), parts(unit, most));
    match (low == high, low_sign == high_sign) {
        (true, true) => format!("{low}{low_sign}"),
        (false, true) => format!("{low} … {high}{high_sign}"),
        (_, false) => format!("{low}{low_sign} … {high}{high_sign}"),
    }
}

/// The digits of a number, and the sign of its unit.
fn parts(unit: Unit, number: f64) -> (String, String) {
    let trimmed = |text: String| match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    };
    match unit {
        Unit::Share => (trimmed(format!("{:.3}", number * 100.0)), format!("{NBSP}%")),
        Unit::Count | Unit::Number => (trimmed(format!("{number:.3}")), String::new()),
        Unit::PerSecond => (format!("{number:.1}"), format!("{NBSP}/s")),
        Unit::Factor => (trimmed(format!("{number:.3}")), format!("{NBSP}×")),
        Unit::Time if number.abs() >= 10.0 => (format!("{number:.1}"), format!("{NBSP}s")),
        Unit::Time => (trimmed(format!("{:.1}", number * 1e3)), format!("{NBSP}ms")),
    }
}

/// A whole number of milliseconds in the unit that suits it.
pub(crate) fn span(ms: u64) -> String {
    match ms {
        ms if ms >= 1000 && ms.is_multiple_of(1000) => format!("{} s", grouped((ms / 1000) as i64)),
        ms if ms >= 1000 => format!("{} s", significant(ms as f64 / 1000.0)),
        ms => format!("{ms} ms"),
    }
}

/// A whole number with its thousands set apart by a narrow space that does not break.
pub(crate) fn grouped(value: i64) -> String {
    let digits = value.unsigned_abs().to_string();
    let mut text = String::new();
    if value < 0 {
        text.push('−');
    }
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

/// A mean count: whole when it is large, one digit when it is small.
pub(crate) fn mean_count(total: u64, runs: usize) -> String {
    let mean = total as f64 / runs.max(1) as f64;
    if mean >= 10.0 || mean.fract() == 0.0 {
        grouped(mean.round() as i64)
    } else if mean < 0.05 {
        "<0.1".to_owned()
    } else {
        format!("{mean:.1}")
    }
}

/// `1 run`, `2 runs`.
pub(crate) fn plural(count: usize, noun: &str) -> String {
    format!("{} {noun}{}", grouped(count as i64), if count == 1 { "" } else { "s" })
}

/// Seeds in their order, runs of neighbours as a range: `1–5, 9`.
pub(crate) fn seeds(seeds: &[u64]) -> String {
    let mut spans: Vec<(u64, u64)> = Vec::new();
    for &seed in seeds {
        match spans.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(seed) => *last = seed,
            _ => spans.push((seed, seed)),
        }
    }
    let text = |(first, last): &(u64, u64)| match last - first {
        0 => first.to_string(),
        1 => format!("{first}, {last}"),
        _ => format!("{first}–{last}"),
    };
    spans.iter().map(text).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_their_unit() {
        let share = |share| in_unit(Unit::Share, share);
        assert_eq!(
            [share(0.0), share(1.0), share(0.95455)],
            ["0\u{a0}%", "100\u{a0}%", "95.455\u{a0}%"]
        );
        let time = |seconds| in_unit(Unit::Time, seconds);
        assert_eq!(
            [time(0.0005), time(0.502), time(12.0), time(-0.1)],
            ["0.5\u{a0}ms", "502\u{a0}ms", "12.0\u{a0}s", "-100\u{a0}ms"]
        );
        assert_eq!(in_unit(Unit::Count, 300.0), "300");
        assert_eq!(in_unit(Unit::PerSecond, 199.54), "199.5\u{a0}/s");
        assert_eq!(in_unit(Unit::Factor, 1.2), "1.2\u{a0}×");
        assert_eq!(range(Unit::Time, &[0.412, 0.0985, 0.1]), "98.5 … 412\u{a0}ms");
        assert_eq!(range(Unit::Time, &[0.9, 11.0]), "900\u{a0}ms … 11.0\u{a0}s");
        assert_eq!(range(Unit::Count, &[0.0, 0.0]), "0");
    }

    #[test]
    fn only_a_perfect_rate_reads_one_hundred() {
        assert_eq!(success(1.0), "100\u{a0}%");
        assert_eq!(success(0.999_999_9), "99.9999\u{a0}%");
        assert_eq!(success(0.999_51), "99.951\u{a0}%");
        assert_eq!(success(0.999), "99.90\u{a0}%");
        assert_eq!(success(0.0), "0.00\u{a0}%");
    }

    #[test]
    fn times_keep_three_digits() {
        let ms = |us| significant(as_ms(Duration::from_micros(us)));
        assert_eq!(
            [ms(0), ms(12), ms(1_234), ms(12_345), ms(123_456), ms(1_234_567)],
            ["0", "0.012", "1.23", "12.3", "123", "1\u{202f}235"]
        );
        assert_eq!([span(250), span(1000), span(1500)], ["250 ms", "1 s", "1.50 s"]);
    }

    #[test]
    fn a_percentile_needs_ten_requests_beyond_it() {
        assert!(supported(0.999, 10_000));
        assert!(!supported(0.999, 9_999));
        assert!(!supported(0.5, 0));
    }

    #[test]
    fn neighbouring_seeds_are_a_range() {
        assert_eq!(seeds(&[1, 2, 3, 4, 5, 9]), "1–5, 9");
        assert_eq!(seeds(&[7, u64::MAX]), format!("7, {}", u64::MAX));
        assert_eq!(seeds(&[]), "");
    }

    #[test]
    fn small_means_keep_a_digit() {
        assert_eq!(
            [mean_count(7, 5), mean_count(0, 5), mean_count(60_000, 5)],
            ["1.4", "0", "12\u{202f}000"]
        );
    }
}
