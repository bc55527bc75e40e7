//! One run, followed from fault to detection to ejection to recovery, and the requests that tell it.

use super::Content;
use crate::format::{grouped, plural, significant};
use crate::html::escape;
use crate::record::{AttemptTrace, Chosen, Event, Reaction, RequestTrace, RunRecord};
use crate::summary::VariantSummary;

/// Moments that are told one by one before the rest is only counted.
const MOMENTS: usize = 40;
/// Requests of each sort that are told.
const REQUESTS: usize = 5;

pub(super) fn html(content: &Content<'_>) -> String {
    let mut html = "<p>The first run of each variant: what was done to it, how soon that showed in \
                    where requests went, what its sidecars say they did, and some of the requests \
                    that took longest or failed. Arrivals, starts and ends at backends are from the \
                    backends' own logs; placements, backoffs and reasons are what the sidecar says. \
                    The records tell the same of every other run.</p>\n"
        .to_owned();
    let several = content.scenario.variants.len() > 1;
    for (i, variant) in content.scenario.variants.iter().enumerate() {
        let is_first = |r: &&RunRecord| variant.has(r) && Some(&r.seed) == variant.seeds.first();
        if let Some(run) = content.runs.iter().map(|(run, _)| *run).find(is_first) {
            // The one that is most worth reading is open.
            let open = !several || i == worst(content);
            html.push_str(&told(variant, run, open));
        }
    }
    html
}

/// The variant that lost the most.
fn worst(content: &Content<'_>) -> usize {
    let rates = content.scenario.variants.iter().enumerate().map(|(i, v)| (i, v.success.mean));
    rates.min_by(|a, b| a.1.total_cmp(&b.1)).map_or(0, |(i, _)| i)
}

fn told(variant: &VariantSummary, run: &RunRecord, open: bool) -> String {
    format!(
        "<details{}>\n<summary>{}, seed {}</summary>\n{}{}{}</details>\n",
        if open { " open" } else { "" },
        escape(&variant.label),
        run.seed,
        timeline(run),
        requests(run, Chosen::Slowest, "The slowest that were answered well"),
        requests(run, Chosen::Failed, "Some that failed"),
    )
}

fn timeline(run: &RunRecord) -> String {
    let mut moments: Vec<(u64, String)> = Vec::new();
    for event in &run.events {
        moments.push((event.at_ms, of_event(event)));
        if let Some(until) = event.until_ms.filter(|_| event.kind == "fault") {
            moments.push((until, format!("{}: {} is over", event.target, event.detail)));
        }
    }
    let told = run.reactions.iter().filter(|reaction| run.had_a_choice(reaction));
    told.for_each(|reaction| moments.extend(of_reaction(reaction)));
    moments.sort_by_key(|(at, _)| *at);
    let suffered = suffered(run);
    let more = match moments.len().saturating_sub(MOMENTS) {
        0 => String::new(),
        more => format!("<p class=\"note\">{} more in the record.</p>\n", grouped(more as i64)),
    };
    let items: String = moments.iter().take(MOMENTS).map(|(at, what)| moment(*at, what)).collect();
    match items.is_empty() {
        true => format!("<p>Nothing was done to it, and it did nothing of note.</p>\n{suffered}"),
        false => format!("<ol class=\"moments\">\n{items}</ol>\n{more}{suffered}"),
    }
}

fn moment(at_ms: u64, what: &str) -> String {
    let at = significant(at_ms as f64 / 1e3);
    format!("<li><b>{at}\u{a0}s</b> {}</li>\n", escape(what))
}

fn of_event(event: &Event) -> String {
    let detail = match event.detail.as_str() {
        "" => String::new(),
        detail => format!(": {detail}"),
    };
    match event.kind.as_str() {
        "fault" => format!("{} begins{detail}", event.target),
        kind => format!("{} {}{detail}", event.target, kind.replace('_', " ")),
    }
}

/// When the faulted backend stopped getting its share, and when it got it back.
fn of_reaction(reaction: &Reaction) -> Vec<(u64, String)> {
    let target = &reaction.target;
    let took = |ms: u64| match ms {
        0..100 => "at once".to_owned(),
        ms => format!("{} s", significant(ms as f64 / 1e3)),
    };
    let detected = match reaction.detected_after_ms {
        Some(after) => (
            reaction.from_ms + after,
            format!(
                "{target} is sent less than half of an equal share, {} after the fault began",
                took(after)
            ),
        ),
        None => (
            reaction.until_ms,
            format!("{target} was sent at least half of an equal share while the fault lasted"),
        ),
    };
    // Where nobody left there is no way back.
    let recovered = reaction.detected_after_ms.and(reaction.recovered_after_ms);
    let recovered = recovered.map(|after| {
        let text = format!(
            "{target} is sent at least half of an equal share again, {} after the fault was over",
            took(after)
        );
        (reaction.until_ms + after, text)
    });
    std::iter::once(detected).chain(recovered).collect()
}

/// How many requests failed, and when.
fn suffered(run: &RunRecord) -> String {
    let lost = |i: &&crate::record::Interval| i.accounting.planned > i.accounting.ok;
    let mut hurt = run.intervals.iter().filter(lost);
    let Some(first) = hurt.next() else {
        return "<p>No request of it failed.</p>\n".to_owned();
    };
    let last = run.intervals.iter().rfind(lost).unwrap_or(first);
    let failed = run.accounting.planned.saturating_sub(run.accounting.ok);
    format!(
        "<p>{} of {} requests failed, all of them planned within the intervals from {} to {} s.</p>\n",
        grouped(failed as i64),
        grouped(run.accounting.planned as i64),
        significant(first.start_ms as f64 / 1e3),
        significant((last.start_ms + last.length_ms) as f64 / 1e3)
    )
}

fn requests(run: &RunRecord, chosen: Chosen, heading: &str) -> String {
    let mut some: Vec<&RequestTrace> = run.traces.iter().filter(|t| t.chosen == chosen).collect();
    if some.is_empty() {
        return String::new();
    }
    let of = some.len();
    match chosen {
        Chosen::Slowest => {
            some.sort_by_key(|t| std::cmp::Reverse(t.response_us()));
            some.truncate(REQUESTS);
        }
        // Over the whole time in which there were any.
        Chosen::Failed => some = spread(&some),
    }
    let rows: String = some.iter().map(|trace| request(trace)).collect();
    let caption = match of > some.len() {
        true => format!("{heading}: {} of the {of} in the record", some.len()),
        false => format!("{heading}: {}", plural(of, "request")),
    };
    format!(
        "<div class=\"table\" tabindex=\"0\" role=\"region\" aria-label=\"{heading}, {}, seed {}\">\n\
         <table class=\"words\">\n<caption>{caption}</caption>\n<thead><tr>\
         <th scope=\"col\">request</th><th scope=\"col\">planned<small>s</small></th>\
         <th scope=\"col\">took<small>ms</small></th><th scope=\"col\">outcome</th>\
         <th scope=\"col\">attempts</th></tr></thead>\n<tbody>\n{rows}</tbody>\n</table>\n</div>\n",
        escape(&run.variant),
        run.seed,
    )
}

fn spread<'t>(all: &[&'t RequestTrace]) -> Vec<&'t RequestTrace> {
    let take = all.len().min(REQUESTS);
    (0..take).map(|i| all[i * all.len() / take]).collect()
}

fn request(trace: &RequestTrace) -> String {
    let status = trace.status.map_or(String::new(), |status| format!(" {status}"));
    let flags = trace.flags.as_ref().map_or(String::new(), |flags| format!(", flags {flags}"));
    let lag = match trace.sent_us.map(|sent| sent.saturating_sub(trace.planned_us)) {
        Some(lag) if lag >= 1_000 => format!("<div>sent {} ms late</div>", ms(lag)),
        Some(_) => String::new(),
        None => "<div>never sent</div>".to_owned(),
    };
    let attempts: String = trace.attempts.iter().map(|a| attempt(trace, a)).collect();
    let none = if attempts.is_empty() && trace.sent_us.is_some() {
        "<div>placed on no backend</div>"
    } else {
        ""
    };
    let gave_up = trace
        .said_gave_up
        .as_ref()
        .map_or(String::new(), |why| format!("<div>no further attempt: {}</div>", escape(why)));
    let attempts = match attempts.is_empty() {
        true => attempts,
        false => format!("<ol>{attempts}</ol>"),
    };
    format!(
        "<tr><th scope=\"row\">{} <small>number {}</small></th><td>{}</td><td>{}</td><td>{}</td>\
         <td>{lag}{attempts}{none}{gave_up}</td></tr>\n",
        escape(&trace.request),
        grouped(trace.index as i64),
        significant(trace.planned_us as f64 / 1e6),
        ms(trace.response_us()),
        escape(&format!("{}{status}{flags}", trace.outcome)),
    )
}

/// One attempt in words: where, why, when after the plan, what it waited for, how it ended.
fn attempt(trace: &RequestTrace, attempt: &AttemptTrace) -> String {
    let mut parts = vec![match &attempt.caller {
        None => attempt.endpoint.clone(),
        Some(caller) => format!("{caller} calls {}", attempt.endpoint),
    }];
    if let Some(said) = attempt.said.as_ref().filter(|said| said.kind != "first") {
        let backoff = said.backoff_us.filter(|us| *us > 0);
        let backoff = backoff.map(|us| format!(" after a backoff of {} ms", ms(us)));
        parts.push(format!("{}{}", said.kind, backoff.unwrap_or_default()));
    }
    if let Some(start) = attempt.start_us() {
        parts.push(format!("from {} ms", ms(start.saturating_sub(trace.planned_us))));
    }
    if let Some(way) = attempt.way_us() {
        parts.push(format!("{} ms on the way", ms(way)));
    }
    match &attempt.seen {
        Some(seen) => {
            let queued = seen.started_us.map(|s| s.saturating_sub(seen.arrived_us));
            if let Some(queued) = queued.filter(|us| *us > 0) {
                parts.push(format!("{} ms in its queue", ms(queued)));
            }
            let there = seen.ended_us.map(|end| end.saturating_sub(seen.arrived_us));
            let there = there.map_or(String::new(), |us| format!(" after {} ms there", ms(us)));
            parts.push(format!("{}{there}", seen.end));
        }
        None => parts.push("never arrived".to_owned()),
    }
    let said = attempt
        .said
        .as_ref()
        .filter(|said| attempt.seen.as_ref().is_none_or(|seen| seen.end != said.end));
    if let Some(said) = said {
        parts.push(format!("the sidecar says {}", said.end.replace('_', " ")));
    }
    format!("<li>{}</li>", escape(&parts.join(", ")))
}

fn ms(us: u64) -> String {
    significant(us as f64 / 1e3)
}
