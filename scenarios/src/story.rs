//! A run told in the order of time: what the client, the instances and the faults did. Pure.
//!
//! It is made of what both ends wrote down and of what sidecars say happened inside them, so it
//! needs no tracing and changes nothing in a run.

use std::fmt::Write as _;
use std::time::Duration;

use sim::RunResult;
use sim::backend::End;

use crate::chronicle::faults::whom;
use crate::scenario::Scenario;

/// Something that happened: when, to which request, and a line of words.
struct Moment {
    at: Duration,
    index: Option<u64>,
    words: String,
}

/// All of it, a line for each moment; only what is about the request `of`, if one is asked for,
/// and what happened to instances.
pub fn tell(scenario: &Scenario, result: &RunResult, of: Option<u64>) -> String {
    let mut moments = faults(scenario, result);
    moments.extend(sidecars(result));
    moments.extend(client(result));
    moments.extend(instances(scenario, result));
    // Stable, so that what is written first happened first where times are equal.
    moments.sort_by_key(|moment| moment.at);
    let mut text = String::new();
    for Moment { at, index, words } in moments {
        if of.is_some() && index.is_some() && index != of {
            continue;
        }
        let request = index.map_or_else(String::new, |index| format!("#{index}"));
        let at = format!("{:.3}", at.as_secs_f64());
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{at:>9} s  {request:>7}  {words}");
    }
    text
}

fn faults(scenario: &Scenario, result: &RunResult) -> Vec<Moment> {
    let names = scenario.instances();
    let mut moments = Vec::new();
    for fault in &result.faults {
        let target = whom(&names, fault);
        let caller = |caller: Option<usize>| caller.map_or("the client", |place| &names[place]);
        let whom = match fault.link() {
            Some(link) => format!("from {} to {target}", caller(link.caller)),
            None => target.to_owned(),
        };
        let kind = &fault.kind;
        moments.push(Moment { at: fault.at, index: None, words: format!("{whom}: {kind}") });
        let over = |at| Moment { at, index: None, words: format!("{whom}: {kind} is over") };
        moments.extend(fault.until.map(over));
    }
    moments
}

fn sidecars(result: &RunResult) -> impl Iterator<Item = Moment> {
    result.sidecar_events.iter().map(|event| {
        let words = format!("sidecar: {} {} {}", event.target, event.kind, event.detail);
        Moment { at: event.at, index: None, words: words.trim_end().to_owned() }
    })
}

fn client(result: &RunResult) -> impl Iterator<Item = Moment> {
    result.samples.iter().flat_map(|sample| {
        let index = Some(sample.index);
        let method = result.mix.target_of(sample.index).method().to_string();
        let sent = sample.sent.map(|at| {
            let lag = at.saturating_sub(sample.planned);
            let late = if lag.is_zero() { String::new() } else { format!(", {lag:?} late") };
            Moment { at, index, words: format!("client sends {method}{late}") }
        });
        let status = sample.status.map(|status| format!(" {status}")).unwrap_or_default();
        let took = sample.response_time();
        let words = format!("client: {}{status} after {took:?}", sample.outcome.name());
        sent.into_iter().chain([Moment { at: sample.finished, index, words }])
    })
}

fn instances(scenario: &Scenario, result: &RunResult) -> Vec<Moment> {
    let mut moments = Vec::new();
    for (name, log) in scenario.instances().iter().zip(&result.logs) {
        for entry in log {
            let index = entry.index;
            let mut push = |at, words: String| moments.push(Moment { at, index, words });
            push(entry.arrived, format!("{name} gets it"));
            if let Some(started) = entry.started.filter(|started| *started > entry.arrived) {
                push(started, format!("{name} begins"));
            }
            match entry.end {
                Some((End::Answered(status), at)) => push(at, format!("{name} answers {status}")),
                Some((End::Cancelled, at)) => push(at, format!("{name} is left by its caller")),
                Some((End::Crashed, at)) => push(at, format!("{name} dies with it")),
                None => {}
            }
        }
    }
    moments
}
