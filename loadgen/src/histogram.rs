//! Latencies, kept as an HDR histogram of nanoseconds; `coarse` is a smaller one, for each of many
//! intervals.

mod coarse;

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer as _, V2DeflateSerializer};
use serde::{Deserialize, Serialize};

pub use coarse::CoarseHistogram;

/// The longest time kept apart from longer ones; anything above is recorded as this.
pub const HIGHEST: Duration = Duration::from_secs(3600);

/// Three significant digits: every value read back is within 0.1 % of the one recorded.
const DIGITS: u8 = 3;

/// A histogram of durations from 1 ns to [`HIGHEST`], exact to three significant digits.
///
/// It grows with the longest value, so that many small ones cost little: 8 kB to begin with, 140 kB
/// once it holds 100 ms, 260 kB at most.
///
/// In a record it is one base64 string: the HdrHistogram V2 format, compressed, which
/// HdrHistogram's tools in other languages read as it is.
#[derive(Clone, Debug, PartialEq)]
pub struct LatencyHistogram {
    inner: Histogram<u64>,
    clamped: u64,
}

impl Default for LatencyHistogram {
    fn default() -> Self {
        Self::new()
    }
}

impl LatencyHistogram {
    /// An empty histogram.
    ///
    /// # Panics
    /// Never: the precision is a constant that the histogram accepts.
    #[allow(clippy::unwrap_used, reason = "a constant precision, covered by every test here")]
    pub fn new() -> Self {
        Self { inner: Histogram::new(DIGITS).unwrap(), clamped: 0 }
    }

    /// Records one duration; those under 1 ns count as 1 ns, those over [`HIGHEST`] as
    /// [`HIGHEST`] and are counted by [`LatencyHistogram::clamped`].
    pub fn record(&mut self, duration: Duration) {
        if duration > HIGHEST {
            self.clamped += 1;
        }
        let nanos = duration.min(HIGHEST).as_nanos() as u64;
        if self.inner.record(nanos.max(1)).is_err() {
            unreachable!("the histogram grows with its values");
        }
    }

    /// Adds everything that another histogram recorded; exact.
    pub fn merge(&mut self, other: &LatencyHistogram) {
        self.clamped += other.clamped;
        if self.inner.add(&other.inner).is_err() {
            unreachable!("the histogram grows with its values");
        }
    }

    /// The duration that a share `quantile` (0 to 1) of the values do not exceed; zero when empty.
    pub fn quantile(&self, quantile: f64) -> Duration {
        Duration::from_nanos(self.inner.value_at_quantile(quantile))
    }

    /// The mean; zero when empty.
    pub fn mean(&self) -> Duration {
        Duration::from_nanos(self.inner.mean().round() as u64)
    }

    /// The largest value, to three digits; zero when empty.
    pub fn max(&self) -> Duration {
        Duration::from_nanos(self.inner.max())
    }

    /// The smallest value, to three digits; zero when empty.
    pub fn min(&self) -> Duration {
        Duration::from_nanos(if self.is_empty() { 0 } else { self.inner.min() })
    }

    /// How many values were recorded.
    pub fn count(&self) -> u64 {
        self.inner.len()
    }

    /// The quantiles between which the true one lies with 95 % confidence, were the values
    /// independent: the order statistics by the binomial distribution, in its normal
    /// approximation (Hyndman & Fan's setting; Conover, *Practical Nonparametric Statistics*,
    /// section 3.2). Both are zero when empty.
    pub fn quantile_interval(&self, quantile: f64) -> (Duration, Duration) {
        let n = self.count() as f64;
        if n == 0.0 {
            return (Duration::ZERO, Duration::ZERO);
        }
        let half = 1.96 * libm::sqrt(quantile * (1.0 - quantile) / n);
        let at = |q: f64| self.quantile(q.clamp(0.0, 1.0));
        (at(quantile - half), at(quantile + half + 1.0 / n))
    }

    /// How many of them were longer than [`HIGHEST`] and are kept as that.
    pub fn clamped(&self) -> u64 {
        self.clamped
    }

    /// True when nothing was recorded.
    pub fn is_empty(&self) -> bool {
        self.inner.is_empty()
    }

    /// The filled buckets in rising order: the upper edge of each and how many values it holds.
    pub fn buckets(&self) -> impl Iterator<Item = (Duration, u64)> + '_ {
        self.inner
            .iter_recorded()
            .map(|v| (Duration::from_nanos(v.value_iterated_to()), v.count_at_value()))
    }

    /// The histogram behind it, in nanoseconds, for HdrHistogram's own writers.
    pub fn as_hdr(&self) -> &Histogram<u64> {
        &self.inner
    }

    /// The HdrHistogram V2 compressed encoding in base64.
    ///
    /// # Panics
    /// Never: writing into memory does not fail.
    #[allow(clippy::unwrap_used, reason = "serialising into a Vec cannot fail")]
    pub fn to_base64(&self) -> String {
        // How far it has grown depends on the order in which values came, and is written too; of
        // equal histograms the text has to be equal.
        let mut fresh = Self::new();
        fresh.merge(self);
        let mut bytes = Vec::new();
        V2DeflateSerializer::new().serialize(&fresh.inner, &mut bytes).unwrap();
        STANDARD.encode(bytes)
    }

    /// Reads what [`LatencyHistogram::to_base64`] wrote.
    ///
    /// # Errors
    /// When the text is not base64, or not an HdrHistogram V2 encoding in these bounds.
    pub fn from_base64(text: &str) -> Result<Self, HistogramError> {
        let bytes = STANDARD.decode(text).map_err(|e| HistogramError(e.to_string()))?;
        let read: Histogram<u64> = Deserializer::new()
            .deserialize(&mut bytes.as_slice())
            .map_err(|e| HistogramError(e.to_string()))?;
        let mut histogram = Self::new();
        histogram.inner.add(&read).map_err(|e| HistogramError(e.to_string()))?;
        Ok(histogram)
    }
}

impl schemars::JsonSchema for LatencyHistogram {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "LatencyHistogram".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "contentEncoding": "base64",
            "description": "HdrHistogram V2, compressed; nanoseconds"
        })
    }
}

impl Serialize for LatencyHistogram {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_base64())
    }
}

impl<'de> Deserialize<'de> for LatencyHistogram {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::from_base64(&text).map_err(serde::de::Error::custom)
    }
}

/// Text that is not one of our histograms.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an HdrHistogram V2 histogram in base64: {0}")]
pub struct HistogramError(String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_encoded_histogram_reads_back_equal() {
        let mut histogram = LatencyHistogram::new();
        for ms in [1, 10, 10, 250, 3_599_000] {
            histogram.record(Duration::from_millis(ms));
        }
        assert_eq!(LatencyHistogram::from_base64(&histogram.to_base64()), Ok(histogram));
    }

    #[test]
    fn equal_histograms_are_equal_text_in_whatever_order_they_were_filled() {
        let of = |all: &[u64]| {
            let mut histogram = LatencyHistogram::new();
            all.iter().for_each(|us| histogram.record(Duration::from_micros(*us)));
            histogram
        };
        let rising: Vec<u64> = (1..400).map(|n| n * 997).collect();
        let falling: Vec<u64> = rising.iter().rev().copied().collect();
        let text = of(&rising).to_base64();
        assert_eq!(of(&falling).to_base64(), text);
        assert_eq!(LatencyHistogram::from_base64(&text).unwrap().to_base64(), text);
    }

    #[test]
    fn what_is_longer_than_the_top_is_counted_as_clamped() {
        let mut histogram = LatencyHistogram::new();
        histogram.record(HIGHEST);
        assert_eq!((histogram.count(), histogram.clamped()), (1, 0));
        histogram.record(HIGHEST + Duration::from_nanos(1));
        assert_eq!((histogram.count(), histogram.clamped()), (2, 1));
    }

    #[test]
    fn text_that_is_no_histogram_is_refused() {
        assert!(LatencyHistogram::from_base64("not base64!").is_err());
        assert!(LatencyHistogram::from_base64("AAAA").is_err());
    }
}
