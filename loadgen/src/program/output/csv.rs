//! A time series: one line an interval, for spreadsheets and plots. Times are milliseconds.

use std::io::{self, Write};
use std::time::Duration;

use loadgen::interval::Interval;
use loadgen::{Outcome, Plan};

const QUANTILES: [(&str, f64); 5] =
    [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p999", 0.999), ("max", 1.0)];

/// A series that is written interval by interval.
pub(in crate::program) struct Series<W> {
    out: W,
    /// The planned instants that no interval has passed yet.
    planned: std::iter::Peekable<Box<dyn Iterator<Item = Duration>>>,
}

impl<W: Write> Series<W> {
    /// Begins a series of this plan.
    pub(in crate::program) fn new(mut out: W, plan: &Plan) -> io::Result<Series<W>> {
        let outcomes = Outcome::ALL.map(Outcome::name).join(",");
        let quantiles = QUANTILES.map(|(name, _)| format!("{name}_ms")).join(",");
        writeln!(out, "start_s,intended_per_s,sent_per_s,answered_per_s,{outcomes},{quantiles}")?;
        let instants: Box<dyn Iterator<Item = Duration>> = Box::new(plan.instants());
        Ok(Series { out, planned: instants.peekable() })
    }

    /// Adds an interval, and sees to it that it is written.
    pub(in crate::program) fn write(&mut self, interval: &Interval) -> io::Result<()> {
        let end = interval.start + interval.length;
        let mut planned = 0_u64;
        while self.planned.next_if(|instant| *instant < end).is_some() {
            planned += 1;
        }
        let intended = planned as f64 / interval.length.as_secs_f64();
        let (sent, answered) = (interval.sent_per_s(), interval.answered_per_s());
        let start = interval.start.as_secs_f64();
        write!(self.out, "{start:.3},{intended:.1},{sent:.1},{answered:.1}")?;
        for outcome in Outcome::ALL {
            write!(self.out, ",{}", interval.accounting.count(outcome))?;
        }
        for (_, quantile) in QUANTILES {
            let value = interval.response.quantile(quantile).as_secs_f64() * 1e3;
            write!(self.out, ",{value:.6}")?;
        }
        writeln!(self.out)?;
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use loadgen::Arrivals;

    #[test]
    fn each_interval_is_a_line_of_as_many_fields_as_there_are_names() {
        let second = Duration::from_secs(1);
        let plan = Plan::new(Arrivals::Constant, 50.0, second * 2, 0).unwrap();
        let mut intervals = Vec::new();
        let mut timeline = loadgen::interval::Timeline::new(second, |i| intervals.push(i));
        timeline.advance(second * 3);
        drop(timeline);
        let mut bytes = Vec::new();
        let mut series = Series::new(&mut bytes, &plan).unwrap();
        intervals.iter().for_each(|interval| series.write(interval).unwrap());
        let text = String::from_utf8(bytes).unwrap();
        let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split(',').collect()).collect();
        assert_eq!(rows.len(), 4);
        assert!(rows.iter().all(|row| row.len() == rows[0].len()));
        let intended: Vec<&str> = rows[1..].iter().map(|row| row[1]).collect();
        assert_eq!(intended, ["50.0", "50.0", "0.0"]);
    }
}
