//! Bursts of retries, which a figure marks as it marks a fault.

use crate::record::{Event, RunRecord};

/// Retries above this part of the first attempts of an interval are a burst: half of what the
/// default budget lets through.
const BURST_SHARE: f64 = 0.1;
/// And at least so many, or a quiet interval is full of them.
const BURST_LEAST: u64 = 10;

/// The times in which the sidecar says that it tried again much; what it gave up for its budget
/// counts, because it would have.
pub(super) fn retry_bursts(run: &RunRecord) -> Vec<Event> {
    let mut bursts: Vec<(u64, u64, u64, f64)> = Vec::new();
    for interval in &run.intervals {
        let Some(said) = interval.said else { continue };
        let wanted = said.retries + said.over_budget;
        let share = wanted as f64 / said.first.max(1) as f64;
        if wanted < BURST_LEAST || share <= BURST_SHARE {
            continue;
        }
        let end = interval.start_ms + interval.length_ms;
        match bursts.last_mut() {
            Some((_, until, retries, most)) if *until == interval.start_ms => {
                *until = end;
                *retries += wanted;
                *most = most.max(share);
            }
            _ => bursts.push((interval.start_ms, end, wanted, share)),
        }
    }
    let event = |(at_ms, until_ms, retries, most): (u64, u64, u64, f64)| Event {
        at_ms,
        until_ms: Some(until_ms),
        kind: "retry_burst".to_owned(),
        target: "client".to_owned(),
        detail: format!("{retries} retries wanted, up to {:.0} % of requests", most * 100.0),
    };
    bursts.into_iter().map(event).collect()
}
