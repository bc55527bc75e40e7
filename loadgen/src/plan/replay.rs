//! Planned instants from a file: what really happened, asked again.
//!
//! One instant a line: seconds as a decimal number, of any origin (a log's Unix time will do), or
//! with a unit as in `1.5s` or `250ms`. The first is the start. Empty lines and lines that begin
//! with `#` say nothing. Digits are read as they stand and not through floating point, which would
//! round a Unix time to a quarter of a microsecond.

use std::time::Duration;

use super::{MAX_PLANNED, PlanError};

/// Reads a timestamp file's text into offsets from its first instant.
///
/// # Errors
/// Names the first line that is no instant, or comes before the one above it.
pub fn parse_timestamps(text: &str) -> Result<Vec<Duration>, PlanError> {
    let mut instants: Vec<Duration> = Vec::new();
    let mut first = None;
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let instant = seconds(line)
            .or_else(|| humantime::parse_duration(line).ok())
            .ok_or(PlanError::Timestamp { line: number })?;
        let offset = instant
            .checked_sub(*first.get_or_insert(instant))
            .filter(|offset| instants.last().is_none_or(|last| last <= offset))
            .ok_or(PlanError::TimestampOrder { line: number })?;
        if instants.len() as u64 >= MAX_PLANNED {
            return Err(PlanError::TooLong { planned: MAX_PLANNED + 1 });
        }
        instants.push(offset);
    }
    Ok(instants)
}

/// A decimal number of seconds; digits beyond the ninth place are dropped.
fn seconds(text: &str) -> Option<Duration> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) {
        return None;
    }
    let nanos = fraction.bytes().chain(std::iter::repeat(b'0')).take(9);
    let nanos = nanos.fold(0, |sum, byte| sum * 10 + u32::from(byte - b'0'));
    Some(Duration::new(whole.parse().ok()?, nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_count_from_the_first_and_keep_their_nanoseconds() {
        let text =
            "# from the access log\n1700000000.123456789\n\n1700000000.123456790\n1700000002\n";
        let nanos: Vec<u128> =
            parse_timestamps(text).unwrap().iter().map(Duration::as_nanos).collect();
        assert_eq!(nanos, [0, 1, 1_876_543_211]);
        let units = parse_timestamps("0s\n250ms\n1s\n1s").unwrap();
        assert_eq!(units.iter().map(Duration::as_millis).collect::<Vec<_>>(), [0, 250, 1000, 1000]);
    }

    #[test]
    fn a_line_that_is_no_time_or_goes_back_is_named() {
        for (text, error) in [
            ("1\nsoon\n", PlanError::Timestamp { line: 2 }),
            ("-1\n", PlanError::Timestamp { line: 1 }),
            (".5\n", PlanError::Timestamp { line: 1 }),
            ("1e3\n", PlanError::Timestamp { line: 1 }),
            ("5\n\n7\n6\n", PlanError::TimestampOrder { line: 4 }),
            ("5\n4\n", PlanError::TimestampOrder { line: 2 }),
        ] {
            assert_eq!(parse_timestamps(text), Err(error), "{text:?}");
        }
    }
}
