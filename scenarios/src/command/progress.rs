//! How far the runs have got: a bar on a terminal, plain lines elsewhere.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use indicatif::{HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::Instant;

use super::say;
use crate::plan::Job;
use crate::runner::Progress;
use crate::scenario::Scenario;

/// Reports on a list of jobs.
pub(super) struct Reporter<'a> {
    scenarios: &'a [Scenario],
    total: u64,
    bar: ProgressBar,
    /// Jobs finished, for the plain lines.
    finished: Mutex<u64>,
}

impl<'a> Reporter<'a> {
    /// A reporter on stderr.
    pub(super) fn new(scenarios: &'a [Scenario], total: u64) -> Self {
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
        let template = "{bar:16} {pos}/{len} runs, {elapsed} gone, about {eta} to go  {wide_msg}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("█▌░"));
        }
        bar.enable_steady_tick(std::time::Duration::from_millis(500));
        Self { scenarios, total, bar, finished: Mutex::new(0) }
    }

    /// Takes the bar away.
    pub(super) fn close(&self) {
        self.bar.finish_and_clear();
    }
}

impl Progress for Reporter<'_> {
    fn finished(&self, job: &Job) {
        let mut finished = self.finished.lock().unwrap_or_else(PoisonError::into_inner);
        *finished += 1;
        if !self.bar.is_hidden() {
            self.bar.set_message(self.scenarios[job.scenario].name.clone());
            self.bar.inc(1);
            return;
        }
        // A line for each tenth of the work.
        let tenth = |done: u64| done * 10 / self.total.max(1);
        if tenth(*finished) != tenth(*finished - 1) {
            let name = job.describe(self.scenarios);
            say(&format!("{finished:>4} of {} runs done; last: {name}", self.total));
        }
    }
}

/// Between two plain lines about work of unknown length, at least.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Reports on work that is counted: seeds of a sweep, scenarios of a swarm.
pub(super) struct Counted {
    what: &'static str,
    total: Option<u64>,
    time: Option<Duration>,
    bar: ProgressBar,
    began: Instant,
    state: Mutex<State>,
}

struct State {
    done: u64,
    said: Instant,
}

impl Counted {
    /// A reporter on stderr of `total` things, if their number is known, or of what can be done in
    /// a time.
    pub(super) fn new(what: &'static str, total: Option<u64>, time: Option<Duration>) -> Self {
        let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr());
        let template = match total {
            Some(_) => "{bar:16} {pos}/{len}, {elapsed} gone, about {eta} to go  {wide_msg}",
            None => "{spinner} {pos}, {elapsed} gone  {wide_msg}",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("█▌░"));
        }
        bar.enable_steady_tick(Duration::from_millis(500));
        let began = Instant::now();
        Self { what, total, time, bar, began, state: Mutex::new(State { done: 0, said: began }) }
    }

    /// One more is done, lately of `name`; `failed` have failed so far.
    pub(super) fn advance(&self, name: &str, failed: u64) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.done += 1;
        let failures = if failed > 0 { format!("{failed} failed; ") } else { String::new() };
        if !self.bar.is_hidden() {
            self.bar.set_message(format!("{failures}{name}"));
            self.bar.inc(1);
            return;
        }
        let now = Instant::now();
        if now - state.said < LINE_EVERY {
            return;
        }
        state.said = now;
        let of = self.total.map(|total| format!(" of {total}")).unwrap_or_default();
        let left = self.left(state.done, now);
        let left = left.map(|left| format!(", about {} to go", HumanDuration(left)));
        let left = left.unwrap_or_default();
        say(&format!("{}{of} {} done{left}; {failures}last: {name}", state.done, self.what));
    }

    /// Takes the bar away.
    pub(super) fn close(&self) {
        self.bar.finish_and_clear();
    }

    /// How long it still takes: the less of what is left to do and of what is left of its time.
    fn left(&self, done: u64, now: Instant) -> Option<Duration> {
        let gone = now - self.began;
        let of_work = self.total.map(|total| {
            let left = total.saturating_sub(done) as f64;
            Duration::try_from_secs_f64(gone.as_secs_f64() * left / done.max(1) as f64)
                .unwrap_or(Duration::MAX)
        });
        let of_time = self.time.map(|time| time.saturating_sub(gone));
        of_work.into_iter().chain(of_time).min()
    }
}
