//! The story of some requests: the slowest, and some of those that failed.
//!
//! Arrivals, work and ends come from the backends' logs; what a sidecar says of its attempts is put
//! beside them. Both are told apart in the record.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use loadgen::{Outcome, Sample};
use reports::record::{AttemptTrace, Chosen, RequestTrace, SaidAttempt, SeenAttempt};
use sim::RunResult;
use sim::backend::{End, LogEntry};
use sim::world::{Said, Saying};

use super::micros;
use crate::scenario::Scenario;

/// Requests that are told because they were slow: a page shows as many as fit on it.
const SLOWEST: usize = 10;
/// Requests that are told because they failed.
const FAILED: usize = 20;
/// Attempts that are told of one request. One that crosses several services with retries at each
/// may have thousands.
const MOST_ATTEMPTS: usize = 40;

pub(super) fn of(scenario: &Scenario, result: &RunResult) -> Vec<RequestTrace> {
    let chosen = chosen(&result.samples);
    let wanted: BTreeSet<u64> = chosen.iter().map(|(_, sample)| sample.index).collect();
    let names = scenario.instances();
    let mut seen: BTreeMap<u64, Vec<Arrival<'_>>> = BTreeMap::new();
    for (backend, log) in result.logs.iter().enumerate() {
        for entry in log {
            let Some(index) = entry.index.filter(|index| wanted.contains(index)) else { continue };
            seen.entry(index).or_default().push(Arrival { backend, entry });
        }
    }
    let mut said: BTreeMap<u64, Vec<&Saying>> = BTreeMap::new();
    for saying in result.sayings.iter().filter(|saying| wanted.contains(&saying.index)) {
        said.entry(saying.index).or_default().push(saying);
    }
    let caller_of = |sidecar: usize| {
        let caller = result.sidecars.get(sidecar).and_then(|books| books.caller);
        caller.map(|backend| names[backend].clone())
    };
    let mut traces: Vec<_> = chosen
        .into_iter()
        .map(|(chosen, sample)| {
            let seen = seen.remove(&sample.index).unwrap_or_default();
            let said = said.remove(&sample.index).unwrap_or_default();
            let target = result.mix.target_of(sample.index);
            let flagged = result.flagged.iter().find(|f| f.index == Some(sample.index));
            let gave_up = said.iter().filter(|saying| saying.sidecar == 0);
            let mut gave_up = gave_up.filter_map(|saying| match saying.said {
                Said::GaveUp { why } => Some(why.to_owned()),
                _ => None,
            });
            RequestTrace {
                index: sample.index,
                chosen,
                request: format!("{} {}", target.method(), target.path_and_query()),
                planned_us: micros(sample.planned),
                sent_us: sample.sent.map(micros),
                finished_us: micros(sample.finished),
                outcome: sample.outcome.name().to_owned(),
                status: sample.status,
                flags: flagged.map(|flagged| flagged.flags.clone()),
                said_gave_up: gave_up.next_back(),
                attempts: attempts(seen, &said, &names, caller_of),
            }
        })
        .collect();
    traces.sort_by_key(|trace| trace.index);
    traces
}

/// The requests to be told, and why.
fn chosen(samples: &[Sample]) -> Vec<(Chosen, &Sample)> {
    let (mut well, mut failed): (Vec<&Sample>, Vec<&Sample>) =
        samples.iter().partition(|sample| sample.outcome == Outcome::Ok);
    well.sort_by_key(|sample| (std::cmp::Reverse(sample.response_time()), sample.index));
    well.truncate(SLOWEST);
    failed.sort_by_key(|sample| sample.index);
    let kept = failed.len().min(FAILED);
    // Spread evenly, so that they tell of all of the time in which something failed.
    let failed = (0..kept).map(|n| failed[n * failed.len() / kept]);
    let slowest = well.into_iter().map(|sample| (Chosen::Slowest, sample));
    slowest.chain(failed.map(|sample| (Chosen::Failed, sample))).collect()
}

/// An entry of a backend's log.
struct Arrival<'a> {
    backend: usize,
    entry: &'a LogEntry,
}

/// An attempt that a sidecar speaks of.
struct Placed {
    sidecar: usize,
    backend: usize,
    at: Duration,
    kind: &'static str,
    backoff: Option<Duration>,
    /// When and how it ended, if that was said.
    end: Option<(Duration, String)>,
    seen: Option<SeenAttempt>,
}

fn attempts(
    mut seen: Vec<Arrival<'_>>,
    said: &[&Saying],
    names: &[String],
    caller_of: impl Fn(usize) -> Option<String>,
) -> Vec<AttemptTrace> {
    let mut placed = placed(said);
    seen.sort_by_key(|arrival| arrival.entry.arrived);
    let mut unspoken = Vec::new();
    for Arrival { backend, entry } in seen {
        // What arrived belongs to the last attempt that was placed there before.
        let own = placed.iter_mut().rev().find(|attempt| {
            attempt.backend == backend && attempt.at <= entry.arrived && attempt.seen.is_none()
        });
        match own {
            Some(attempt) => attempt.seen = Some(seen_attempt(entry)),
            None => unspoken.push(AttemptTrace {
                caller: None,
                endpoint: names[backend].clone(),
                seen: Some(seen_attempt(entry)),
                said: None,
            }),
        }
    }
    let spoken = placed.into_iter().map(|attempt| AttemptTrace {
        caller: caller_of(attempt.sidecar),
        endpoint: names[attempt.backend].clone(),
        seen: attempt.seen,
        said: Some(SaidAttempt {
            placed_us: micros(attempt.at),
            kind: attempt.kind.to_owned(),
            backoff_us: attempt.backoff.map(micros),
            ended_us: attempt.end.as_ref().map(|(at, _)| micros(*at)),
            end: attempt.end.map_or_else(|| "open".to_owned(), |(_, how)| how),
        }),
    });
    let mut attempts: Vec<_> = spoken.chain(unspoken).collect();
    attempts.sort_by_key(AttemptTrace::start_us);
    attempts.truncate(MOST_ATTEMPTS);
    attempts
}

/// What sidecars say of the attempts of one request.
fn placed(said: &[&Saying]) -> Vec<Placed> {
    let mut placed: Vec<Placed> = Vec::new();
    for Saying { sidecar, at, said, .. } in said {
        let (backend, how) = match *said {
            Said::Placed { backend, kind } => {
                let own = placed.iter().filter(|attempt| attempt.sidecar == *sidecar);
                let last_end = own.filter_map(|attempt| attempt.end.as_ref()).map(|end| end.0);
                let failed_at = last_end.max().filter(|_| matches!(kind, "retry" | "replay"));
                let backoff = failed_at.map(|failed_at| at.saturating_sub(failed_at));
                let (sidecar, at) = (*sidecar, *at);
                let (end, seen) = (None, None);
                placed.push(Placed { sidecar, backend, at, kind, backoff, end, seen });
                continue;
            }
            Said::Answered { backend, status } => (backend, status.as_u16().to_string()),
            Said::Ended { backend, how } => (backend, how.to_owned()),
            Said::GaveUp { .. } => continue,
        };
        let own = |attempt: &&mut Placed| {
            (attempt.sidecar, attempt.backend) == (*sidecar, backend) && attempt.end.is_none()
        };
        if let Some(attempt) = placed.iter_mut().find(own) {
            attempt.end = Some((*at, how));
        }
    }
    placed
}

fn seen_attempt(entry: &LogEntry) -> SeenAttempt {
    let end = match entry.end {
        None => "open".to_owned(),
        Some((End::Answered(status), _)) => status.as_u16().to_string(),
        Some((End::Cancelled, _)) => "cancelled".to_owned(),
        Some((End::Crashed, _)) => "crashed".to_owned(),
    };
    SeenAttempt {
        arrived_us: micros(entry.arrived),
        started_us: entry.started.map(micros),
        ended_us: entry.end.map(|(_, at)| micros(at)),
        end,
    }
}
