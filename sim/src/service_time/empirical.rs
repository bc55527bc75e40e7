//! Values that were measured, and how often each is drawn.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use super::{LONGEST, seconds, written};

/// The most lines that are read: a day at one a second.
const MOST_VALUES: usize = 100_000;

/// Values from a file: one a line, in milliseconds, such as `12.5`, or with a weight behind a
/// comma, such as `12.5,3`. Empty lines and lines that begin with `#` are passed over.
///
/// It is written as the file's name, and knows no values until [`Empirical::read`] has them.
#[derive(Clone, Debug, PartialEq, JsonSchema)]
#[schemars(with = "String")]
pub struct Empirical {
    file: String,
    /// Values in order, each with the share of the draws that are at most it.
    upto: Arc<[(f64, Duration)]>,
}

impl<'de> Deserialize<'de> for Empirical {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::of_file)
    }
}

impl Empirical {
    /// Values that are still to be read from a file of this name.
    pub fn of_file(file: String) -> Self {
        Self { file, upto: Arc::default() }
    }

    /// The file's name, as it is written.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Takes the values from the text of the file.
    ///
    /// # Errors
    /// Says which line is wrong and what would be right, or that there is none.
    pub fn read(&mut self, text: &str) -> Result<(), String> {
        let lines = text.lines().enumerate().map(|(at, line)| (at + 1, line.trim()));
        let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        let mut values = Vec::new();
        for (number, line) in lines {
            if values.len() == MOST_VALUES {
                return Err(format!("line {number}: at most {MOST_VALUES} values are read"));
            }
            let value = parse(line).ok_or_else(|| {
                format!(
                    "line {number}: `{line}` is not a value; write milliseconds, such as 12.5, or \
                     with a weight, 12.5,3"
                )
            })?;
            values.push(value);
        }
        if values.is_empty() {
            return Err("there is no value in it; write one a line, in milliseconds".to_owned());
        }
        values.sort_by_key(|(value, _)| *value);
        let all: f64 = values.iter().map(|(_, weight)| weight).sum();
        let mut sum = 0.0;
        let upto = values.into_iter().map(|(value, weight)| {
            sum += weight;
            (sum / all, value)
        });
        self.upto = upto.collect();
        Ok(())
    }

    pub(super) fn draw(&self, uniform: f64) -> Duration {
        let place = self.upto.partition_point(|(upto, _)| *upto <= uniform);
        // The last share may have come out a little below 1.
        let value = self.upto.get(place).or(self.upto.last());
        value.map_or(Duration::ZERO, |(_, value)| *value)
    }
}

/// `12.5` or `12.5,3`.
fn parse(line: &str) -> Option<(Duration, f64)> {
    let (value, weight) = line.split_once(',').unwrap_or((line, "1"));
    let value: f64 = value.trim().parse().ok()?;
    let weight: f64 = weight.trim().parse().ok()?;
    let in_bounds = (0.0..=LONGEST.as_secs_f64() * 1e3).contains(&value);
    let counts = weight > 0.0 && weight <= 1e12;
    (in_bounds && counts).then(|| (seconds(value / 1e3), weight))
}

impl fmt::Display for Empirical {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "empirical, {}", self.file)?;
        match (self.upto.first(), self.upto.last()) {
            (Some((_, least)), Some((_, most))) => {
                write!(f, ", {} to {}", written(*least), written(*most))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Empirical, String> {
        let mut empirical = Empirical::of_file("times.txt".to_owned());
        empirical.read(text).map(|()| empirical)
    }

    #[test]
    fn values_are_drawn_as_often_as_their_weights_say() {
        let times = read("# ms, weight\n30, 1\n\n10.5,2\n20,1\n").unwrap();
        let ms = |uniform| times.draw(uniform).as_secs_f64() * 1e3;
        let drawn = [0.0, 0.49, 0.5, 0.74, 0.75, 0.999_999].map(ms);
        assert_eq!(drawn, [10.5, 10.5, 20.0, 20.0, 30.0, 30.0]);
        assert_eq!(times.to_string(), "empirical, times.txt, 10ms 500us to 30ms");
    }

    #[test]
    fn a_line_that_is_no_value_is_named() {
        for (text, line) in [
            ("1\nfast", "line 2"),
            ("-1", "line 1"),
            ("1,0", "line 1"),
            ("NaN", "line 1"),
            ("1,inf", "line 1"),
            ("# nothing\n", "no value"),
        ] {
            assert!(read(text).is_err_and(|error| error.contains(line)), "{text}");
        }
    }
}
