//! The HdrHistogram V2 interval log of response times, which HdrHistogram's own tools read and
//! merge. Values are nanoseconds; the largest of an interval is given in milliseconds, as the
//! format wants it.

use std::io::{self, Write};
use std::time::SystemTime;

use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, IntervalLogWriterError};

use loadgen::interval::Interval;

/// Nanoseconds of a millisecond.
const SCALE: f64 = 1e6;

/// A log that is written interval by interval.
pub(in crate::program) struct HdrLog<W> {
    out: W,
}

impl<W: Write> HdrLog<W> {
    /// Begins the log of a run that starts at this time.
    pub(in crate::program) fn new(mut out: W, start: SystemTime) -> io::Result<HdrLog<W>> {
        IntervalLogWriterBuilder::new()
            .add_comment("response times in nanoseconds, from the planned instant")
            .with_start_time(start)
            .with_base_time(start)
            .with_max_value_divisor(SCALE)
            .begin_log_with(&mut out, &mut V2DeflateSerializer::new())?;
        Ok(HdrLog { out })
    }

    /// Adds an interval, and sees to it that it is written: who ends the program loses at most
    /// the one that is under way.
    pub(in crate::program) fn write(&mut self, interval: &Interval) -> io::Result<()> {
        // The crate's writer borrows what it writes to for as long as it lives, so each interval
        // has one of its own, of whose lines only the last is wanted.
        let mut lines = Vec::new();
        IntervalLogWriterBuilder::new()
            .with_max_value_divisor(SCALE)
            .begin_log_with(&mut lines, &mut V2DeflateSerializer::new())?
            .write_histogram(interval.response.as_hdr(), interval.start, interval.length, None)
            .map_err(|error| match error {
                IntervalLogWriterError::IoError(error) => error,
                IntervalLogWriterError::SerializeError(error) => io::Error::other(error),
            })?;
        let line = lines.trim_ascii_end().rsplit(|byte| *byte == b'\n').next();
        self.out.write_all(line.unwrap_or_default())?;
        self.out.write_all(b"\n")?;
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hdrhistogram::Histogram;
    use hdrhistogram::serialization::Deserializer;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
    use std::time::Duration;

    #[test]
    fn the_log_reads_back_as_what_was_recorded() {
        let mut intervals = Vec::new();
        let second = Duration::from_secs(1);
        let mut timeline = loadgen::interval::Timeline::new(second, |i| intervals.push(i));
        timeline.advance(second * 3);
        drop(timeline);
        for (n, interval) in (1..).zip(&mut intervals) {
            (1..100).for_each(|k| interval.response.record(Duration::from_micros(n * k)));
        }
        let mut bytes = Vec::new();
        let mut log = HdrLog::new(&mut bytes, SystemTime::UNIX_EPOCH + second).unwrap();
        intervals.iter().for_each(|interval| log.write(interval).unwrap());
        let mut read = Vec::new();
        for entry in IntervalLogIterator::new(&bytes) {
            if let LogEntry::Interval(entry) = entry.unwrap() {
                use base64::Engine as _;
                let text = entry.encoded_histogram();
                let raw = base64::engine::general_purpose::STANDARD.decode(text).unwrap();
                let histogram: Histogram<u64> =
                    Deserializer::new().deserialize(&mut raw.as_slice()).unwrap();
                read.push((entry.start_timestamp(), entry.duration(), histogram));
            }
        }
        assert_eq!(read.len(), 3);
        for (read, interval) in read.iter().zip(&intervals) {
            assert_eq!((read.0, read.1), (interval.start, interval.length));
            assert_eq!(&read.2, interval.response.as_hdr());
        }
    }
}
