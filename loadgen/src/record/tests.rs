//! Records written, read, merged.

use super::*;
use crate::doubt::Machine;
use crate::observer::{Event, Observer as _};
use crate::plan::{Arrivals, Plan};
use crate::run::RunEnd;
use crate::sample::{Outcome, Sample};

/// A run whose requests took so many milliseconds.
pub(crate) fn record_of(millis: impl Iterator<Item = u64>) -> Record {
    let mut recorder = Recorder::new().with_series(Duration::from_millis(10));
    let sent = Duration::ZERO;
    for (index, millis) in (0..).zip(millis) {
        recorder.note(Event::Begun { planned: sent, lag: sent, waited: false, reused: true });
        recorder.observe(&Sample {
            index,
            planned: sent,
            sent: Some(sent),
            first_byte: Some(Duration::from_millis(millis)),
            finished: Duration::from_millis(millis),
            outcome: Outcome::Ok,
            status: Some(200),
            target: 0,
            backend: None,
        });
    }
    let plan = Plan::with_count(Arrivals::Constant, 100.0, recorder.accounting.planned, 0).unwrap();
    let end = RunEnd { elapsed: plan.end(), ..RunEnd::default() };
    let machine = Machine::default();
    let warmup = Duration::ZERO;
    Record::new(
        Asked::default(),
        &Evidence { plan: &plan, warmup, recorder: &recorder, end: &end, machine: &machine },
    )
}

#[test]
fn a_record_reads_back_as_written() {
    let mut record = record_of(1..=50);
    record.judge(&["p50<1s".parse().unwrap()]);
    let text = serde_json::to_string(&record).unwrap();
    assert_eq!(Record::from_json(&text).unwrap(), record);
}

#[test]
fn parts_merged_are_the_whole() {
    let whole = record_of(1..=300);
    let mut merged = record_of(1..=100);
    merged.merge(&record_of(101..=300));
    assert_eq!(merged.accounting, whole.accounting);
    assert_eq!(merged.times["response"], whole.times["response"]);
    assert_eq!(merged.statuses, whole.statuses);
    assert_eq!(merged.runs, 2);
    assert!(merged.series.is_some() && merged.series == whole.series);
}

#[test]
fn a_record_from_before_there_were_series_reads() {
    let mut value = serde_json::to_value(record_of(1..=3)).unwrap();
    let fields = value.as_object_mut().unwrap();
    assert!(fields.remove("series").is_some() && fields.remove("watched").is_some());
    let read = Record::from_json(&value.to_string()).unwrap();
    assert_eq!((read.series, read.watched), (None, Vec::new()));
}

#[test]
fn what_is_no_record_is_refused() {
    let text = serde_json::to_string(&record_of(1..=3)).unwrap();
    for (broken, words) in [
        ("{}".to_owned(), "schema none where"),
        (text.replace("loadgen/2", "loadgen/9"), "loadgen/9 where"),
        (text.replace("\"planned\":3", "\"planned\":4"), "does not balance"),
        (text.replace("\"runs\"", "\"walks\""), "walks"),
        (text.replace("\"interval_ms\":10", "\"interval_ms\":0"), "interval_ms is 0"),
        ("no json".to_owned(), "not a record"),
    ] {
        let error = Record::from_json(&broken).unwrap_err().to_string();
        assert!(error.contains(words), "no `{words}` in {error}");
    }
}
