//! What happened, on a time axis: each fault is a labelled bar above the plot and a shade through
//! it; what a sidecar did about it is a row of marks below the bars.

use plotters::style::RGBColor;

use super::canvas::{Align, Font, Stroke};
use super::palette::{Dash, INK, LIMIT, MUTED, Marker, SHADE};
use super::panel::{GAP, Panel, ROW, TEXT, fitted, font};
use super::shown::{Shown, planned};
use crate::record::{Event, RunRecord};
use crate::summary::VariantSummary;

/// Rows of labelled faults; those of more share the last one.
const LANES: usize = 4;

/// One row above the plot: faults of one sort on one target.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Lane {
    label: String,
    /// Begin and end in milliseconds; without an end for what does not last.
    spans: Vec<(u64, Option<u64>)>,
}

/// From when to when, in seconds, and how many.
type Retries = (f64, f64, u64);

/// The rows above each plot of a scenario.
pub(super) struct Rows {
    faults: Vec<Lane>,
    /// Whether there is one for what the sidecars did: in all plots or in none, so that they have
    /// one size.
    acts: bool,
    /// When each variant's first run retried.
    retries: Vec<(usize, Vec<Retries>)>,
}

impl Rows {
    pub(super) fn of(shown: &Shown<'_>) -> Self {
        let scenario = shown.scenario;
        let drawn = |event: &Event| mark_of(&event.kind).is_some();
        let acts = scenario.variants.iter().flat_map(|variant| &variant.acts).any(drawn);
        let retries = shown.variants().map(|(v, runs)| (v.place, retries(runs))).collect();
        Self { faults: lanes(&scenario.faults), acts, retries }
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.faults.len() + usize::from(self.acts) + usize::from(self.retried())
    }

    fn retried(&self) -> bool {
        self.retries.iter().any(|(_, retries)| !retries.is_empty())
    }

    /// Draws them and shades the plot; before anything that should lie above the shade.
    pub(super) fn draw(&self, panel: &Panel<'_>, variant: &VariantSummary) {
        let acts = &variant.acts;
        let first = panel.top - GAP - self.count() as f64 * ROW;
        let middle = |row: usize| first + (row as f64 + 0.5) * ROW;
        // Once, however many faults there are at a time, so that what is drawn over it stays legible.
        for (at, until) in merged(self.faults.iter().flat_map(|lane| &lane.spans)) {
            let (from, to) = between(panel, at, until);
            panel.canvas.block(((from, panel.top), (to, panel.bottom)), SHADE, 0.14);
        }
        for (row, lane) in self.faults.iter().enumerate() {
            draw_lane(panel, lane, middle(row));
        }
        let mine = self.retries.iter().filter(|(place, _)| *place == variant.place);
        let most = self.retries.iter().flat_map(|(_, r)| r).map(|r| r.2).max().unwrap_or(1);
        for (from, until, count) in mine.flat_map(|(_, retries)| retries) {
            // As high as there were retries, so that a few and many differ.
            let high = (ROW - 4.0) * (*count as f64 / most as f64).max(0.15);
            let base = middle(self.count() - 1) + ROW / 2.0 - 2.0;
            let until = panel.x_at(*until).max(panel.x_at(*from) + 1.0);
            let corners = ((panel.x_at(*from), base - high), (until, base));
            panel.canvas.block(corners, INK, 0.7);
        }
        // Those that matter most lie on top.
        for (kinds, marker, color) in MARKS {
            let of_kind = acts.iter().filter(|event| kinds.contains(&event.kind.as_str()));
            for event in of_kind {
                let x = panel.x_at(event.at_ms as f64 / 1e3);
                // A run may go on after the last interval of its plan.
                if x <= panel.right {
                    panel.canvas.marker(marker, (x, middle(self.faults.len())), color, 3.5);
                }
            }
        }
    }

    /// What shade and marks are.
    pub(super) fn caption(&self) -> String {
        let faults = if self.faults.is_empty() {
            "No fault was injected."
        } else {
            "Shaded: while a fault lasts."
        };
        let acts = if self.acts {
            " Marks, of each variant's first seed: \u{25b2} an instance is ejected, \u{25cb} it gets a \
             request on trial, \u{25c6} it is back, \u{25a0} panic begins or ends, a circuit changes, \
             or a configuration is pushed."
        } else {
            ""
        };
        let retries = if self.retried() {
            let most = self.retries.iter().flat_map(|(_, retries)| retries).map(|r| r.2).max();
            format!(
                " Dark columns above a plot: retries of each variant's first seed in each interval, \
                 the highest {}.",
                crate::format::grouped(most.unwrap_or(0) as i64)
            )
        } else {
            String::new()
        };
        format!("{faults}{acts}{retries}")
    }
}

/// The kinds of events that are drawn, and how; later ones over earlier ones.
const MARKS: [(&[&str], Marker, RGBColor); 4] = [
    (&["probed"], Marker::Ring, MUTED),
    (&["panic_began", "panic_ended", "circuit_changed", "pushed"], Marker::Square, SHADE),
    (&["ejected", "unhealthy"], Marker::Triangle, LIMIT),
    (&["returned", "healthy"], Marker::Diamond, INK),
];

/// The intervals of the first run in which its sidecar retried.
fn retries(runs: &[&RunRecord]) -> Vec<Retries> {
    let intervals = runs.first().into_iter().flat_map(|run| planned(run)).map(|(_, i)| i);
    let retried = intervals.filter_map(|i| {
        let count = i.said?.retries;
        let (from, until) = (i.start_ms as f64 / 1e3, (i.start_ms + i.length_ms) as f64 / 1e3);
        (count > 0).then_some((from, until, count))
    });
    retried.collect()
}

fn mark_of(kind: &str) -> Option<Marker> {
    MARKS.iter().find(|(kinds, ..)| kinds.contains(&kind)).map(|(_, marker, _)| *marker)
}

/// Sorts faults into rows: one for each target and sort of fault, or where those are too many, one
/// for each sort.
fn lanes(faults: &[Event]) -> Vec<Lane> {
    let each = by_label(faults, |fault| format!("{} {}", fault.target, fault.detail));
    if each.len() <= LANES {
        return each;
    }
    let mut lanes = by_label(faults, |fault| {
        let mut targets: Vec<&str> = Vec::new();
        for same in faults.iter().filter(|other| other.detail == fault.detail) {
            if !targets.contains(&same.target.as_str()) {
                targets.push(&same.target);
            }
        }
        match targets.as_slice() {
            [one] => format!("{one} {}", fault.detail),
            [one, two] => format!("{one}, {two} {}", fault.detail),
            more => format!("{} instances {}", more.len(), fault.detail),
        }
    });
    if lanes.len() > LANES {
        let rest = lanes.split_off(LANES - 1);
        let label = format!("{} other faults", rest.len());
        let spans = rest.into_iter().flat_map(|l| l.spans).collect();
        lanes.push(Lane { label, spans });
    }
    lanes
}

fn by_label(faults: &[Event], label: impl Fn(&Event) -> String) -> Vec<Lane> {
    let mut lanes: Vec<Lane> = Vec::new();
    for fault in faults {
        let label = label(fault);
        let span = (fault.at_ms, fault.until_ms);
        match lanes.iter_mut().find(|lane| lane.label == label) {
            Some(lane) => lane.spans.push(span),
            None => lanes.push(Lane { label, spans: vec![span] }),
        }
    }
    lanes
}

/// Stretches of time that last, joined where they touch, in milliseconds and by their beginning.
fn merged<'s>(spans: impl IntoIterator<Item = &'s (u64, Option<u64>)>) -> Vec<(u64, u64)> {
    let lasting = spans.into_iter().filter_map(|(at, until)| Some((*at, (*until)?)));
    let mut lasting: Vec<(u64, u64)> = lasting.collect();
    lasting.sort_unstable();
    let mut merged: Vec<(u64, u64)> = Vec::new();
    for (at, until) in lasting {
        match merged.last_mut() {
            Some((_, end)) if at <= *end => *end = until.max(*end),
            _ => merged.push((at, until)),
        }
    }
    merged
}

/// The places of two instants, at least a line apart.
fn between(panel: &Panel<'_>, at_ms: u64, until_ms: u64) -> (f64, f64) {
    let from = panel.x_at(at_ms as f64 / 1e3);
    (from, panel.x_at(until_ms as f64 / 1e3).max(from + 1.0))
}

/// One row of bars, and lines at their ends.
fn draw_lane(panel: &Panel<'_>, lane: &Lane, middle: f64) {
    for (at, until) in merged(&lane.spans) {
        let (from, to) = between(panel, at, until);
        let half = ROW / 2.0 - 2.0;
        panel.canvas.block(((from, middle - half), (to, middle + half)), SHADE, 0.35);
        for edge in [from, to] {
            let line = [(edge, middle + half), (edge, panel.bottom)];
            panel.canvas.line(&line, Stroke { color: SHADE, width: 1.0, dash: Dash::FINE });
        }
    }
    for (at, _) in lane.spans.iter().filter(|(_, until)| until.is_none()) {
        let x = panel.x_at(*at as f64 / 1e3);
        let line = [(x, middle), (x, panel.bottom)];
        let stroke = Stroke { color: LIMIT, width: 1.0, dash: Dash::FINE };
        panel.canvas.line(&line, stroke);
        panel.canvas.marker(Marker::Triangle, (x, middle), LIMIT, 4.0);
    }
    name(panel, lane, middle);
}

/// Names a row, over its bars, which are light enough to read through: from where the first begins,
/// or about the middle of an only bar that is too short, and always within the drawing.
fn name(panel: &Panel<'_>, lane: &Lane, y: f64) {
    let Some((at, until)) = lane.spans.first() else { return };
    let ink = Font { color: INK, size: TEXT - 1.0, ..font(Align::Left) };
    let label = fitted(&lane.label, ink, panel.canvas.width - 4.0);
    let width = ink.width(&label);
    let begin = panel.x_at(*at as f64 / 1e3);
    let wanted = match until.map(|until| panel.x_at(until as f64 / 1e3)) {
        Some(end) if lane.spans.len() == 1 && end - begin < width + 8.0 => {
            (begin + end - width) / 2.0
        }
        Some(_) => begin + 5.0,
        None => begin + 8.0,
    };
    let latest = panel.canvas.width - 2.0 - width;
    panel.canvas.text(&label, (wanted.min(latest).max(2.0), y), ink);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(target: &str, at_ms: u64) -> Event {
        let (kind, detail) = ("fault".to_owned(), "crash".to_owned());
        Event { at_ms, until_ms: Some(at_ms + 5), kind, target: target.to_owned(), detail }
    }

    #[test]
    fn a_fault_that_repeats_keeps_its_row_and_many_share_the_last() {
        let flapping = [fault("web-0", 0), fault("web-0", 10)];
        assert_eq!(lanes(&flapping).len(), 1);
        assert_eq!(lanes(&flapping)[0].spans.len(), 2);
        let names = ["a", "b", "c", "d", "e", "f"];
        let of = |details: &dyn Fn(usize) -> String| -> Vec<Event> {
            let each = names.iter().enumerate();
            each.map(|(i, name)| Event { detail: details(i), ..fault(name, 0) }).collect()
        };
        let alike = of(&|_| "crash".to_owned());
        assert_eq!(lanes(&alike[..LANES]).len(), LANES);
        assert_eq!(lanes(&alike[..LANES])[0].label, "a crash");
        assert_eq!(lanes(&alike).len(), 1);
        assert_eq!(lanes(&alike)[0].label, "6 instances crash");
        let unlike = of(&|i| format!("loss: {i} %"));
        assert_eq!(lanes(&unlike).len(), LANES);
        assert_eq!(lanes(&unlike)[LANES - 1].label, "3 other faults");
    }

    #[test]
    fn faults_at_one_time_are_one_stretch() {
        let spans = [(20, Some(30)), (0, Some(5)), (5, Some(9)), (7, None), (22, Some(25))];
        assert_eq!(merged(&spans), [(0, 9), (20, 30)]);
        assert_eq!(merged(&[(7, None)]), []);
    }
}
