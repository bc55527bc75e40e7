//! Each doubt, at its bound.

use super::*;
use crate::observer::{Event, Observer as _};
use crate::plan::{Arrivals, Plan};
use crate::recorder::Recorder;
use crate::run::RunEnd;
use crate::sample::{Outcome, Sample};

/// 1000 requests in 10 s, each late by `lag`; `waiting` of them for a connection, `sent` of them
/// sent, `lost` of those without an answer.
struct Case {
    lag: Duration,
    waiting: u64,
    sent: u64,
    lost: u64,
    machine: Machine,
    end: RunEnd,
}

impl Default for Case {
    fn default() -> Self {
        let end = RunEnd { elapsed: Duration::from_secs(10), ..RunEnd::default() };
        let machine = Machine::default();
        Case { lag: Duration::ZERO, waiting: 0, sent: 1000, lost: 0, machine, end }
    }
}

impl Case {
    fn doubts(&self) -> Vec<Doubt> {
        let plan = Plan::new(Arrivals::Constant, 100.0, Duration::from_secs(10), 0).unwrap();
        let mut recorder = Recorder::new();
        for (index, planned) in (0..).zip(plan.instants()) {
            let lag = self.lag;
            let at = planned + lag;
            let outcome = match index {
                index if index < self.lost => Outcome::Timeout,
                index if index < self.sent => Outcome::Ok,
                _ => Outcome::Shed,
            };
            if outcome.was_sent() {
                let waited = index < self.waiting;
                recorder.note(Event::Begun { planned, lag, waited, reused: true });
            }
            recorder.observe(&Sample {
                index,
                planned,
                sent: outcome.was_sent().then_some(at),
                first_byte: outcome.was_answered().then_some(at),
                finished: at,
                outcome,
                status: outcome.was_answered().then_some(200),
                target: 0,
                backend: None,
            });
        }
        Doubt::of(&Evidence {
            plan: &plan,
            warmup: Duration::ZERO,
            recorder: &recorder,
            end: &self.end,
            machine: &self.machine,
        })
    }
}

#[test]
fn a_run_on_time_is_valid_and_one_that_is_late_by_a_tenth_of_the_gap_is_not() {
    let late = |micros| Case { lag: Duration::from_micros(micros), ..Case::default() }.doubts();
    assert_eq!(verdict(&late(990)), Verdict::Valid);
    let doubts = late(1010);
    assert!(matches!(doubts[..], [Doubt::LateSends { hopeless: false, .. }]), "{doubts:?}");
    assert_eq!(verdict(&late(11_000)), Verdict::Void);
}

#[test]
fn one_waiting_request_in_a_hundred_is_tolerated_and_more_are_not() {
    let waiting = |waiting| Case { waiting, ..Case::default() }.doubts();
    assert_eq!(waiting(10), []);
    assert_eq!(waiting(11), [Doubt::PoolExhausted { waited: 11, sent: 1000 }]);
}

#[test]
fn a_hundredth_less_than_planned_is_tolerated_and_more_is_not() {
    let sent = |sent| Case { sent, ..Case::default() }.doubts();
    assert_eq!(sent(990), []);
    assert!(matches!(sent(989)[..], [Doubt::BelowRate { .. }]));
    assert_eq!(verdict(&sent(0)), Verdict::Void);
}

#[test]
fn a_tenth_without_an_answer_is_suspect_and_more_is_void() {
    let lost = |lost| Case { lost, ..Case::default() }.doubts();
    assert_eq!(lost(10), []);
    assert_eq!(verdict(&lost(11)), Verdict::Suspect);
    assert_eq!(verdict(&lost(100)), Verdict::Suspect);
    assert_eq!(verdict(&lost(101)), Verdict::Void);
}

#[test]
fn a_busy_thread_is_a_doubt_only_if_it_sleeps_when_it_may() {
    let busy = |millis, is_cpu_work| {
        let thread_cpu = vec![Duration::from_millis(millis)];
        Case {
            machine: Machine { thread_cpu, is_cpu_work, ..Machine::default() },
            ..Case::default()
        }
        .doubts()
    };
    assert_eq!(busy(8500, true), []);
    assert!(matches!(busy(8501, true)[..], [Doubt::Saturated { .. }]));
    assert_eq!(busy(10_000, false), []);
}

#[test]
fn two_ways_to_count_what_is_in_flight_have_to_agree() {
    let counted = |observed_in_flight| {
        let end = RunEnd { mean_in_flight: 10.0, observed_in_flight, ..Case::default().end };
        Case { end, ..Case::default() }.doubts()
    };
    assert_eq!(counted(10.5), []);
    assert!(matches!(counted(10.7)[..], [Doubt::LittlesLaw { .. }]));
    assert!(matches!(counted(9.4)[..], [Doubt::LittlesLaw { .. }]));
}

#[test]
fn a_long_pause_of_the_machine_is_a_doubt() {
    let paused = |millis| {
        let mut machine = Machine::default();
        machine.hiccups.record(Duration::from_millis(millis));
        Case { machine, ..Case::default() }.doubts()
    };
    assert_eq!(paused(19), []);
    assert!(matches!(paused(21)[..], [Doubt::Hiccups { .. }]));
}

#[test]
fn a_lag_that_the_machine_explains_has_another_remedy() {
    let lag = |floor_micros| {
        let mut machine = Machine::default();
        machine.floor.record(Duration::from_micros(floor_micros));
        let case = Case { lag: Duration::from_millis(2), machine, ..Case::default() };
        case.doubts()[0].remedy()
    };
    assert_ne!(lag(1100), lag(100));
    assert!(lag(1100).contains("machine"));
}
