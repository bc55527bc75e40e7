//! The histogram of one interval: small enough to keep one a second.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer as _, V2DeflateSerializer};
use serde::{Deserialize, Serialize};

use super::HIGHEST;

/// Two significant digits: every value read back is within 1 % of the one recorded, which is less
/// than a pixel of a heatmap.
const DIGITS: u8 = 2;

/// A histogram of durations in microseconds, from 1 µs to an hour, to two digits.
///
/// In a record it is one base64 string, in the format of
/// [`LatencyHistogram`](super::LatencyHistogram) with less precision: a second of a thousand
/// requests takes some 300 bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct CoarseHistogram {
    inner: Histogram<u64>,
}

impl Default for CoarseHistogram {
    fn default() -> Self {
        Self::new()
    }
}

impl CoarseHistogram {
    /// An empty one.
    ///
    /// # Panics
    /// Never: the precision is a constant that the histogram accepts.
    #[allow(clippy::unwrap_used, reason = "a constant precision, covered by every test here")]
    pub fn new() -> Self {
        Self { inner: Histogram::new(DIGITS).unwrap() }
    }

    /// Records one duration; those under 1 µs count as that, those over an hour as an hour.
    pub fn record(&mut self, duration: Duration) {
        let micros = duration.min(HIGHEST).as_micros() as u64;
        if self.inner.record(micros.max(1)).is_err() {
            unreachable!("the histogram grows with its values");
        }
    }

    /// Adds everything that another one recorded; exact.
    pub fn merge(&mut self, other: &Self) {
        if self.inner.add(&other.inner).is_err() {
            unreachable!("the histogram grows with its values");
        }
    }

    /// How many values were recorded.
    pub fn count(&self) -> u64 {
        self.inner.len()
    }

    /// True when nothing was recorded.
    pub fn is_empty(&self) -> bool {
        self.inner.is_empty()
    }

    /// The duration that a share `quantile` (0 to 1) of the values do not exceed; `None` when
    /// empty.
    pub fn quantile(&self, quantile: f64) -> Option<Duration> {
        let value = || Duration::from_micros(self.inner.value_at_quantile(quantile));
        (!self.is_empty()).then(value)
    }

    /// The filled buckets in rising order: the upper edge of each and how many values it holds.
    pub fn buckets(&self) -> impl Iterator<Item = (Duration, u64)> + '_ {
        self.inner
            .iter_recorded()
            .map(|v| (Duration::from_micros(v.value_iterated_to()), v.count_at_value()))
    }

    #[allow(clippy::unwrap_used, reason = "serialising into a Vec cannot fail")]
    fn to_base64(&self) -> String {
        // How far it has grown depends on the order in which values came, and is written too; of
        // equal histograms the text has to be equal.
        let mut fresh = Self::new();
        fresh.merge(self);
        let mut bytes = Vec::new();
        V2DeflateSerializer::new().serialize(&fresh.inner, &mut bytes).unwrap();
        STANDARD.encode(bytes)
    }

    fn from_base64(text: &str) -> Result<Self, String> {
        let bytes = STANDARD.decode(text).map_err(|error| error.to_string())?;
        let read: Histogram<u64> =
            Deserializer::new().deserialize(&mut bytes.as_slice()).map_err(|e| e.to_string())?;
        if read.max() > HIGHEST.as_micros() as u64 * 101 / 100 {
            return Err("it holds values of more than an hour".to_owned());
        }
        let mut histogram = Self::new();
        histogram.inner.add(&read).map_err(|error| error.to_string())?;
        Ok(histogram)
    }
}

impl schemars::JsonSchema for CoarseHistogram {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "CoarseHistogram".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "contentEncoding": "base64",
            "description": "HdrHistogram V2, compressed, to two digits; microseconds"
        })
    }
}

impl Serialize for CoarseHistogram {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_base64())
    }
}

impl<'de> Deserialize<'de> for CoarseHistogram {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let wrong = |reason| serde::de::Error::custom(format!("not a histogram: {reason}"));
        Self::from_base64(&text).map_err(wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(millis: impl Iterator<Item = u64>) -> CoarseHistogram {
        let mut histogram = CoarseHistogram::new();
        millis.for_each(|ms| histogram.record(Duration::from_millis(ms)));
        histogram
    }

    #[test]
    fn it_reads_back_equal_and_is_small() {
        let histogram = of((0..1000).map(|n| 5 + n * n / 5000));
        let text = histogram.to_base64();
        assert_eq!(CoarseHistogram::from_base64(&text), Ok(histogram));
        assert!(text.len() < 600, "{} bytes", text.len());
        assert!(CoarseHistogram::from_base64("no").is_err());
    }

    #[test]
    fn equal_ones_are_equal_text_in_whatever_order_they_were_filled() {
        let text = of(1..400).to_base64();
        assert_eq!(of((1..400).rev()).to_base64(), text);
        assert_eq!(CoarseHistogram::from_base64(&text).unwrap().to_base64(), text);
    }

    #[test]
    fn merged_it_is_what_it_would_have_been() {
        let mut merged = of(1..=50);
        merged.merge(&of(51..=100));
        assert_eq!(merged.quantile(0.9), of(1..=100).quantile(0.9));
        let p90 = merged.quantile(0.9).unwrap().as_secs_f64();
        assert!((p90 - 0.090).abs() < 0.0009, "{p90}");
        assert_eq!(CoarseHistogram::new().quantile(0.5), None);
    }

    #[test]
    fn longer_than_an_hour_is_an_hour() {
        let histogram = of([4_000_000_000].into_iter());
        let longest = histogram.quantile(1.0).unwrap();
        assert!(longest >= HIGHEST && longest < HIGHEST.mul_f64(1.01));
        assert_eq!(CoarseHistogram::from_base64(&histogram.to_base64()), Ok(histogram));
    }
}
