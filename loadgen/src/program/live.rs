//! What is seen and written while a run goes on: the line on a terminal, the interval log, the
//! time series, the exposition.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, SystemTime};

use indicatif::{ProgressBar, ProgressStyle};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::Instant;

use loadgen::LatencyHistogram;
use loadgen::interval::Interval;

use super::Failure;
use super::exposition::Exposition;
use super::output::csv::Series as Csv;
use super::output::hdr_log::HdrLog;
use super::settings::{Load, Series};

/// How often something is shown where there is no terminal.
const PLAIN_EVERY: Duration = Duration::from_secs(10);

/// An interval of one worker.
pub(super) struct News {
    pub(super) worker: usize,
    pub(super) interval: Interval,
}

/// Everyone who is told of intervals.
pub(super) struct Live {
    every: Option<Duration>,
    hdr_log: Option<HdrLog<File>>,
    csv: Option<Csv<File>>,
    exposition: Option<Arc<Exposition>>,
    shows: bool,
    /// Response times of all intervals so far.
    response: LatencyHistogram,
}

impl Live {
    /// Opens everything that is to be written, and the listener of the exposition.
    #[allow(clippy::disallowed_methods, reason = "the log says when the run was, by the calendar")]
    pub(super) fn open(series: &Series, load: &Load) -> Result<Live, Failure> {
        let start = SystemTime::now();
        let written = |what: io::Error| Failure::Run(format!("cannot write: {what}"));
        let hdr_log = series.hdr_log.as_deref().map(create).transpose()?;
        let csv = series.csv.as_deref().map(create).transpose()?;
        let exposition = match series.prometheus {
            Some(address) => Some(Exposition::serve(address)?),
            None => None,
        };
        Ok(Live {
            every: Some(series.every),
            hdr_log: hdr_log.map(|f| HdrLog::new(f, start)).transpose().map_err(written)?,
            csv: csv.map(|f| Csv::new(f, &load.plan)).transpose().map_err(written)?,
            exposition,
            shows: !load.quiet,
            response: LatencyHistogram::new(),
        })
    }

    /// Nobody is told anything.
    pub(super) fn silent() -> Live {
        Live {
            every: None,
            hdr_log: None,
            csv: None,
            exposition: None,
            shows: false,
            response: LatencyHistogram::new(),
        }
    }

    /// The length of an interval, if anyone is told of them.
    pub(super) fn every(&self) -> Option<Duration> {
        let wanted = self.hdr_log.is_some() || self.csv.is_some() || self.exposition.is_some();
        self.every.filter(|_| wanted || self.shows)
    }

    /// Waits for the result, passes on Ctrl-C and a polite request to end, and tells everyone of the intervals meanwhile.
    pub(super) async fn attend<T>(
        &mut self,
        load: &Load,
        heard: Receiver<News>,
        result: impl Future<Output = Result<T, Failure>>,
        stop: &watch::Sender<bool>,
        start: Instant,
    ) -> Result<T, Failure> {
        let mut gathered = Gathered::new(load.threads);
        let mut line = Line::new(self.shows, load, start);
        let mut result = std::pin::pin!(result);
        let mut ticks = tokio::time::interval(Duration::from_millis(100));
        let unheard = |e: io::Error| Failure::Run(format!("cannot listen for signals: {e}"));
        let mut interrupt = signal(SignalKind::interrupt()).map_err(unheard)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(unheard)?;
        let mut asked = 0;
        let ended = loop {
            tokio::select! {
                biased;
                result = &mut result => break result,
                _ = async { tokio::select! { _ = interrupt.recv() => (), _ = terminate.recv() => () } } => {
                    asked += 1;
                    // Who asks twice does not want to wait for a report.
                    if asked > 1 {
                        return Err(Failure::Run("interrupted twice: no report".to_owned()));
                    }
                    stop.send_replace(true);
                }
                _ = ticks.tick() => {
                    heard.try_iter().for_each(|news| gathered.add(news));
                    self.tell(&mut gathered, &mut line, false)?;
                }
            }
        };
        let measured = ended?;
        heard.try_iter().for_each(|news| gathered.add(news));
        self.tell(&mut gathered, &mut line, true)?;
        line.end();
        Ok(measured)
    }

    /// Tells of the intervals that are whole; at the end, of all.
    fn tell(
        &mut self,
        gathered: &mut Gathered,
        line: &mut Line,
        is_end: bool,
    ) -> Result<(), Failure> {
        while let Some(interval) = gathered.next(is_end) {
            let written = |e: io::Error| Failure::Run(format!("cannot write an interval: {e}"));
            self.response.merge(&interval.response);
            if let Some(log) = &mut self.hdr_log {
                log.write(&interval).map_err(written)?;
            }
            if let Some(csv) = &mut self.csv {
                csv.write(&interval).map_err(written)?;
            }
            if let Some(exposition) = &self.exposition {
                exposition.update(&interval, &self.response);
            }
            line.show(&interval);
        }
        Ok(())
    }
}

pub(super) fn create(path: &Path) -> Result<File, Failure> {
    File::create(path).map_err(|e| Failure::Run(format!("cannot write {}: {e}", path.display())))
}

/// Intervals of all workers, until each is whole.
struct Gathered {
    parts: BTreeMap<u64, (usize, Interval)>,
    /// How far each worker has come.
    upto: Vec<u64>,
}

impl Gathered {
    fn new(workers: usize) -> Gathered {
        Gathered { parts: BTreeMap::new(), upto: vec![0; workers] }
    }

    fn add(&mut self, News { worker, interval }: News) {
        self.upto[worker] = interval.index + 1;
        match self.parts.get_mut(&interval.index) {
            Some((count, whole)) => {
                *count += 1;
                whole.merge(&interval);
            }
            None => {
                self.parts.insert(interval.index, (1, interval));
            }
        }
    }

    /// The next interval that every worker has passed.
    fn next(&mut self, is_end: bool) -> Option<Interval> {
        let (index, (count, _)) = self.parts.first_key_value()?;
        let is_whole = *count == self.upto.len() || self.upto.iter().all(|upto| upto > index);
        (is_whole || is_end).then(|| self.parts.pop_first().map(|(_, (_, whole))| whole))?
    }
}

/// What is shown on standard error: one line that changes on a terminal, a line now and then
/// elsewhere. It is a courtesy: a terminal that has gone does not end the run.
struct Line {
    bar: Option<ProgressBar>,
    shows: bool,
    shown: Duration,
    start: Instant,
    total: Option<Duration>,
}

impl Line {
    fn new(shows: bool, load: &Load, start: Instant) -> Line {
        let bar = (shows && io::stderr().is_terminal()).then(|| {
            let length = load.plan.end().as_secs();
            let style = ProgressStyle::with_template("{elapsed_precise} {wide_bar} {msg}");
            let bar = ProgressBar::new(length);
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar
        });
        let total = (load.plan.end() < loadgen::plan::MAX_DURATION).then(|| load.plan.end());
        Line { bar, shows, shown: Duration::ZERO, start, total }
    }

    fn show(&mut self, interval: &Interval) {
        if !self.shows {
            return;
        }
        let books = &interval.accounting;
        let failed = books.planned - books.ok;
        let text = format!(
            "{:.0}/s sent, {:.0}/s answered, p99 {:.1?}, {failed} not ok",
            interval.sent_per_s(),
            interval.answered_per_s(),
            interval.response.quantile(0.99),
        );
        let elapsed = interval.start + interval.length;
        match &self.bar {
            Some(bar) => {
                bar.set_position(elapsed.as_secs());
                bar.set_message(text);
            }
            None if elapsed >= self.shown + PLAIN_EVERY => {
                self.shown = elapsed;
                let of = self.total.map(|total| format!(" of {total:.0?}")).unwrap_or_default();
                let now = self.start.elapsed();
                let _ = writeln!(io::stderr(), "{now:.0?}{of}: {text}");
            }
            None => {}
        }
    }

    fn end(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn news(worker: usize, index: u64) -> News {
        let mut intervals = Vec::new();
        let mut timeline =
            loadgen::interval::Timeline::new(Duration::from_secs(1), |i| intervals.push(i));
        timeline.advance(Duration::from_secs(index + 1));
        drop(timeline);
        News { worker, interval: intervals.remove(index as usize) }
    }

    #[test]
    fn an_interval_is_told_when_every_worker_has_passed_it() {
        let mut gathered = Gathered::new(2);
        gathered.add(news(0, 0));
        gathered.add(news(0, 1));
        assert!(gathered.next(false).is_none());
        gathered.add(news(1, 0));
        assert_eq!(gathered.next(false).map(|i| i.index), Some(0));
        assert!(gathered.next(false).is_none());
        assert_eq!(gathered.next(true).map(|i| i.index), Some(1));
        assert!(gathered.next(true).is_none());
    }
}
