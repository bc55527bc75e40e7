//! What doubts are found from.

use std::time::Duration;

use super::Doubt;
use crate::histogram::LatencyHistogram;
use crate::plan::Plan;
use crate::recorder::Recorder;
use crate::run::RunEnd;
use crate::watch::Watched;

/// A lag that is not the generator's fault: what a busy machine's scheduler adds even to a bare
/// loop.
const LAG_FLOOR: Duration = Duration::from_micros(100);

/// A median lag this long is no noise of a timer or of a scheduler.
const LAG_HOPELESS: Duration = Duration::from_millis(10);

/// Sent and planned rate may differ by this share, the usual bound of load generators.
const RATE_TOLERANCE: f64 = 0.01;

/// So many of the requests may wait for a connection: the 99th percentile is then still theirs
/// who did not.
const WAITED_TOLERANCE: f64 = 0.01;

/// So many planned requests may be without an answer, for the same reason.
const UNANSWERED_TOLERANCE: f64 = 0.01;

/// With more than this share unanswered even the 90th percentile is a lower bound.
const UNANSWERED_HOPELESS: f64 = 0.1;

/// A thread that runs more than this share of its time has queues of its own: at 85 % a random
/// arrival waits for several times its own work.
const SATURATED: f64 = 0.85;

/// By how much the two ways to know the mean in flight may differ: a share, and a number for runs
/// with next to nothing in flight.
const LITTLE_TOLERANCE: (f64, f64) = (0.05, 0.05);

/// Ten requests beyond the 99th percentile.
const SAMPLES_WANTED: u64 = 1000;

/// A pause of the machine that is longer than any scheduler's time slice.
const HICCUP: Duration = Duration::from_millis(20);

/// What the machine did while it ran.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Machine {
    /// Processor time that each sending thread used.
    pub thread_cpu: Vec<Duration>,
    /// Processor time of the whole process, its helpers included.
    pub process_cpu: Duration,
    /// The threads slept when there was nothing to do, so that their processor time is work.
    pub is_cpu_work: bool,
    /// Lag of a bare spin loop on the sending threads, before and after the run; empty if it was
    /// not measured.
    pub floor: LatencyHistogram,
    /// By how much a watcher overslept; empty if there was none.
    pub hiccups: LatencyHistogram,
    /// What the processes used that were watched.
    pub watched: Vec<Watched>,
}

/// All that is known of a run.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    /// What was wanted.
    pub plan: &'a Plan,
    /// How much of the plan's begin is not measured.
    pub warmup: Duration,
    /// What became of it.
    pub recorder: &'a Recorder,
    /// How it ended.
    pub end: &'a RunEnd,
    /// What the machine did.
    pub machine: &'a Machine,
}

impl Evidence<'_> {
    pub(super) fn doubts(&self) -> Vec<Doubt> {
        let Evidence { plan, recorder, end, .. } = *self;
        let books = &recorder.accounting;
        let mut doubts = Vec::new();
        if let Err(imbalance) = recorder.verify() {
            doubts.push(Doubt::Unbalanced(imbalance.to_string()));
        }
        if books.sent == 0 {
            doubts.push(Doubt::NothingSent);
        }
        doubts.extend(recorder.shortage.map(Doubt::Shortage));
        doubts.extend(self.unanswered());
        if !plan.is_closed() {
            doubts.extend(self.late_sends());
            let (intended, achieved) =
                (intended_rate(plan, recorder), achieved_rate(plan, recorder, end));
            if books.sent > 0 && achieved < intended * (1.0 - RATE_TOLERANCE) {
                doubts.push(Doubt::BelowRate { intended, achieved });
            }
        }
        let waited = recorder.connection_wait.count();
        if waited as f64 > books.sent as f64 * WAITED_TOLERANCE {
            doubts.push(Doubt::PoolExhausted { waited, sent: books.sent });
        }
        if books.skipped as f64 > books.planned as f64 * UNANSWERED_TOLERANCE {
            doubts.push(Doubt::Skipped { skipped: books.skipped, planned: books.planned });
        }
        doubts.extend(self.machine_doubts());
        let response = recorder.response();
        if books.sent > 0 && response.count() < SAMPLES_WANTED {
            let samples = response.count();
            doubts.push(Doubt::FewSamples { samples, wanted: SAMPLES_WANTED });
        }
        if response.clamped() > 0 {
            doubts.push(Doubt::Clamped(response.clamped()));
        }
        if end.interrupted {
            doubts.push(Doubt::Interrupted);
        }
        doubts
    }

    fn unanswered(&self) -> Option<Doubt> {
        let books = &self.recorder.accounting;
        let unsent = if self.end.interrupted { 0 } else { books.unsent };
        let missing = books.timeout + books.unfinished + unsent;
        let share = missing as f64 / books.planned.max(1) as f64;
        (share > UNANSWERED_TOLERANCE && books.sent > 0).then_some(Doubt::Unanswered {
            missing,
            planned: books.planned,
            hopeless: share > UNANSWERED_HOPELESS,
        })
    }

    fn late_sends(&self) -> Option<Doubt> {
        let lag = &self.recorder.send_lag;
        let (p50, p99) = (lag.quantile(0.5), lag.quantile(0.99));
        let gap = Duration::from_secs_f64(1.0 / self.plan.rate_per_s());
        let limit = (gap / 10).max(LAG_FLOOR);
        let floor = &self.machine.floor;
        (p99 > limit).then(|| Doubt::LateSends {
            p99,
            limit,
            floor: (!floor.is_empty()).then(|| floor.quantile(0.99)),
            hopeless: p50 > LAG_HOPELESS.max(gap),
        })
    }

    fn machine_doubts(&self) -> Vec<Doubt> {
        let Evidence { end, machine, .. } = *self;
        let mut doubts = Vec::new();
        let busiest = machine.thread_cpu.iter().max().copied().unwrap_or_default();
        let share = busiest.as_secs_f64() / end.elapsed.as_secs_f64().max(f64::MIN_POSITIVE);
        if machine.is_cpu_work && share > SATURATED {
            doubts.push(Doubt::Saturated { share: share.min(1.0) });
        }
        let (by_times, by_count) = (end.mean_in_flight, end.observed_in_flight);
        let (relative, absolute) = LITTLE_TOLERANCE;
        if (by_times - by_count).abs() > absolute + relative * by_times.max(by_count) {
            doubts.push(Doubt::LittlesLaw { by_times, by_count });
        }
        let worst = machine.hiccups.max();
        if worst > HICCUP {
            doubts.push(Doubt::Hiccups { worst });
        }
        doubts.extend(machine.watched.iter().filter_map(|watched| {
            let after = Duration::from_nanos(watched.ended_ns?);
            Some(Doubt::WatchedEnded { name: watched.name.clone(), after })
        }));
        doubts
    }
}

/// Planned requests per second of the plan's time, or as many as were sent in a closed loop. For
/// Poisson arrivals it differs from the rate asked for as the draw does.
pub fn intended_rate(plan: &Plan, recorder: &Recorder) -> f64 {
    if plan.is_closed() {
        return per_second(recorder.total().sent, recorder.last_send);
    }
    per_second(recorder.total().planned, plan.end())
}

/// Sent requests per second of the plan's time, or of as long as it took to send them all; of the
/// time until the interruption, if there was one.
pub fn achieved_rate(plan: &Plan, recorder: &Recorder, end: &RunEnd) -> f64 {
    let span =
        if end.interrupted || plan.is_closed() { plan.end().min(end.elapsed) } else { plan.end() };
    per_second(recorder.total().sent, span.max(recorder.last_send))
}

/// Whole responses per second of the run's time.
pub fn answered_rate(plan: &Plan, recorder: &Recorder, end: &RunEnd) -> f64 {
    let span =
        if end.interrupted || plan.is_closed() { end.elapsed } else { end.elapsed.max(plan.end()) };
    per_second(recorder.total().answered(), span)
}

fn per_second(count: u64, span: Duration) -> f64 {
    if span.is_zero() { 0.0 } else { count as f64 / span.as_secs_f64() }
}
