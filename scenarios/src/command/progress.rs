//! How far the runs have got: a bar on a terminal, plain lines elsewhere.

use std::sync::Mutex;
use std::sync::PoisonError;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

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
