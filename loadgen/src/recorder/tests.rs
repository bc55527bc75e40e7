//! What is recorded, merged and checked.

use super::*;
use proptest::prelude::*;

fn any_sample() -> impl Strategy<Value = (Sample, bool)> {
    let outcomes = vec![
        Outcome::Ok,
        Outcome::Late,
        Outcome::Status,
        Outcome::Timeout,
        Outcome::Unfinished,
        Outcome::Shed,
        Outcome::Unsent,
    ];
    let times = (0_u64..5000, 0_u64..5000, 0_u64..5000);
    (prop::sample::select(outcomes), times, any::<bool>()).prop_map(
        |(outcome, (planned, lag, service), waited)| {
            let planned = Duration::from_millis(planned);
            let sent = planned + Duration::from_millis(lag);
            let answered = matches!(outcome, Outcome::Ok | Outcome::Late | Outcome::Status);
            let sample = Sample {
                index: 0,
                planned,
                sent: outcome.was_sent().then_some(sent),
                finished: sent + Duration::from_millis(service),
                outcome,
                status: answered.then_some(200),
                target: 0,
                backend: None,
                first_byte: answered.then_some(sent),
            };
            (sample, waited)
        },
    )
}

fn record(samples: &[(Sample, bool)]) -> Recorder {
    let mut recorder = Recorder::new().with_series(Duration::from_millis(10));
    for (sample, waited) in samples {
        if let Some(sent) = sample.sent {
            let planned = sample.planned;
            let lag = sent - planned;
            recorder.note(Event::Begun { planned, lag, waited: *waited, reused: true });
        }
        recorder.observe(sample);
    }
    recorder
}

proptest! {
    #[test]
    fn parts_merged_are_the_whole(
        samples in prop::collection::vec(any_sample(), 0..40),
        cut: prop::sample::Index,
    ) {
        let whole = record(&samples);
        prop_assert_eq!(whole.verify(), Ok(()));
        let (one, other) = samples.split_at(cut.index(samples.len() + 1));
        let mut merged = record(one);
        merged.merge(&record(other));
        prop_assert_eq!(merged, whole);
    }
}

#[test]
fn an_answer_that_nobody_noted_is_an_imbalance() {
    let mut recorder = Recorder::new();
    let at = Duration::ZERO;
    recorder.observe(&Sample {
        index: 0,
        planned: at,
        sent: Some(at),
        finished: at,
        outcome: Outcome::Ok,
        status: Some(200),
        target: 0,
        backend: None,
        first_byte: Some(at),
    });
    assert_eq!(recorder.verify().map_err(|i| i.identity), Err("send_lag + connection_wait = sent"));
}
