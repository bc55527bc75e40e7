//! The percentile distribution in the format that HdrHistogram's plotter reads: value in
//! milliseconds, percentile, count, 1/(1−percentile).

use std::fmt::Write as _;

use loadgen::LatencyHistogram;

/// Lines for each halving of the distance to 100 %, as HdrHistogram's own tools have by default.
const TICKS: u32 = 5;

/// Nanoseconds of a millisecond.
const SCALE: f64 = 1e6;

pub(in crate::program) fn render(histogram: &LatencyHistogram) -> String {
    let hdr = histogram.as_hdr();
    let mut out = String::from("       Value     Percentile TotalCount 1/(1-Percentile)\n\n");
    let mut count = 0;
    // Writing into a string does not fail.
    for step in hdr.iter_quantiles(TICKS) {
        count += step.count_since_last_iteration();
        let value = step.value_iterated_to() as f64 / SCALE;
        let quantile = step.quantile_iterated_to();
        let _ = write!(out, "{value:12.3} {quantile:2.12} {count:10}");
        let _ = match quantile < 1.0 {
            true => writeln!(out, " {:14.2}", 1.0 / (1.0 - quantile)),
            false => writeln!(out),
        };
    }
    let (mean, deviation) = (hdr.mean() / SCALE, hdr.stdev() / SCALE);
    let _ = writeln!(out, "#[Mean    = {mean:12.3}, StdDeviation   = {deviation:12.3}]");
    let max = hdr.max() as f64 / SCALE;
    let _ = writeln!(out, "#[Max     = {max:12.3}, Total count    = {:12}]", hdr.len());
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_distribution_rises_to_all_of_the_values() {
        let mut histogram = LatencyHistogram::new();
        (1..=1000).for_each(|ms| histogram.record(Duration::from_millis(ms)));
        let text = render(&histogram);
        let rows: Vec<Vec<f64>> = text
            .lines()
            .skip(2)
            .filter(|line| !line.starts_with('#'))
            .map(|line| line.split_whitespace().map(|n| n.parse().unwrap()).collect())
            .collect();
        assert!(rows.windows(2).all(|w| w[0][0] <= w[1][0] && w[0][2] <= w[1][2]));
        assert_eq!(rows.last().unwrap()[1..3], [1.0, 1000.0]);
        let median = rows.iter().find(|row| row[1] == 0.5).unwrap();
        assert!((median[0] - 500.0).abs() < 1.0 && median[3] == 2.0, "{median:?}");
        assert!(text.contains("Total count    =         1000"), "{text}");
    }
}
