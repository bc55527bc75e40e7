//! Random choices, and how they are written.

use proxy::rng::{StreamRng, stream};
use rand::RngExt as _;
use toml::{Table, Value};

/// A named stream of choices.
pub(super) struct Draw(StreamRng);

impl Draw {
    /// The choices of one part of the scenario of `seed`.
    pub(super) fn new(seed: u64, part: &str) -> Self {
        Self(stream(seed, &format!("swarm/{part}")))
    }

    /// True with this probability.
    pub(super) fn chance(&mut self, probability: f64) -> bool {
        self.0.random_bool(probability)
    }

    /// A whole number of a range, its end included.
    pub(super) fn int(&mut self, least: u64, most: u64) -> u64 {
        self.0.random_range(least..=most)
    }

    /// A number of a range, to hundredths, so that files can be read.
    pub(super) fn number(&mut self, least: f64, most: f64) -> f64 {
        let least = (least * 100.0).round() as u64;
        self.int(least, (most * 100.0).round() as u64) as f64 / 100.0
    }

    /// One of several.
    pub(super) fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.0.random_range(0..of.len())].clone()
    }

    /// A time in a range of milliseconds.
    pub(super) fn time(&mut self, least_ms: u64, most_ms: u64) -> Value {
        time(self.int(least_ms, most_ms))
    }
}

/// A time as files have it.
pub(super) fn time(ms: u64) -> Value {
    format!("{ms}ms").into()
}

/// A table of these fields.
pub(super) fn table<const N: usize>(fields: [(&str, Value); N]) -> Value {
    Value::Table(fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}

/// Adds a field.
pub(super) fn put(table: &mut Table, key: &str, value: impl Into<Value>) {
    table.insert(key.to_owned(), value.into());
}

/// A whole number as TOML has it; those drawn here are small.
pub(super) fn int(number: u64) -> Value {
    Value::Integer(i64::try_from(number).unwrap_or(i64::MAX))
}
