//! How response times spread over time: one column an interval, one row a step of the logarithm of
//! time, darker where there are more requests. It shows what percentiles hide: two groups of
//! requests, a fast and a slow one, instead of one with a long tail.

use std::collections::BTreeMap;

use super::axis::Axis;
use super::canvas::{Alternative, Drawing, draw};
use super::hover::{Hover, Series, times};
use super::marks::Rows;
use super::multiples::{end_s, runs_behind, time_axis};
use super::palette::look;
use super::panel::{Panel, Place, ROW, WIDTH, heading};
use super::shown::{Shown, planned};
use super::table::{Cell, Table};
use super::{Figure, FigureText};
use crate::format::significant;
use crate::record::RunRecord;
use crate::summary::VariantSummary;

/// Rows to a factor of ten.
const ROWS_A_DECADE: f64 = 12.0;
/// Columns at most; of longer runs several intervals share one.
const COLUMNS: usize = 120;
/// Shades, from one request to the most.
const SHADES: u32 = 8;

/// Requests by column and row.
type Cells = BTreeMap<(usize, i32), u64>;

/// Draws it for each variant, with one scale of time, of response time and of shades for all;
/// `None` when no run has what it needs.
pub(crate) fn heatmap(shown: &Shown<'_>) -> Option<Figure> {
    let longest = shown.variants().flat_map(|(_, runs)| runs).map(|r| planned(r).count()).max()?;
    let share = longest.div_ceil(COLUMNS).max(1);
    let all: Vec<(&VariantSummary, Cells)> =
        shown.variants().map(|(variant, runs)| (variant, cells(runs, share))).collect();
    let rows = || all.iter().flat_map(|(_, cells)| cells.keys().map(|(_, row)| *row));
    let (lowest, highest) = (rows().min()?, rows().max()?);
    let most = all.iter().flat_map(|(_, cells)| cells.values()).copied().max()?;
    let x = time_axis(shown.scenario);
    let (low, high) = (edge_ms(lowest), edge_ms(highest + 1));
    let y = Axis::logarithmic(low, high, "response time, ms (logarithmic)");
    let marks = Rows::of(shown);
    let place = Place { top: ROW + 2.0, right: 16.0, height: 170.0, rows: marks.count() };
    let title = "How response times spread over time".to_owned();
    let spans = spans(shown, share);
    let drawing = |(variant, cells): &(&VariantSummary, Cells)| -> Drawing {
        let alternative = in_words(&title, variant, cells, &spans);
        let drawing = draw((WIDTH, place.drawing_height()), alternative, |canvas| {
            let total: u64 = cells.values().sum();
            let gist = format!("{} requests", crate::format::grouped(total as i64));
            heading(canvas, look(variant.place), &variant.label, &gist);
            let panel = Panel::new(canvas, place, (&x, &y));
            marks.draw(&panel, variant);
            blocks(&panel, cells, &spans, most);
            canvas.readable(readable(&panel, variant, shown, &x));
        });
        drawing.about(variant.place)
    };
    let drawings = all.iter().map(drawing).collect();
    let caption = format!(
        "Each column is an interval, each row a range of response times; the darker, the more of \
         the requests planned then took that long, on a logarithmic scale up to {} in one cell. All \
         runs of a variant are added up, {}. {}",
        crate::format::grouped(most as i64),
        runs_behind(shown.scenario),
        marks.caption()
    );
    let data = data(&all, &spans);
    let text = FigureText { id: "heatmap".to_owned(), title, caption };
    Some(Figure { text, drawings, data })
}

fn row_of(ms: f64) -> i32 {
    (ms.max(1e-3).log10() * ROWS_A_DECADE + 1e-9).floor() as i32
}

fn edge_ms(row: i32) -> f64 {
    10f64.powf(f64::from(row) / ROWS_A_DECADE)
}

fn cells(runs: &[&RunRecord], share: usize) -> Cells {
    let mut cells = Cells::new();
    for run in runs {
        for (i, interval) in planned(run) {
            for (upper, count) in interval.response.iter().flat_map(|h| h.buckets()) {
                let row = row_of(upper.as_secs_f64() * 1e3);
                *cells.entry((i / share, row)).or_default() += count;
            }
        }
    }
    cells
}

/// From when to when each column goes, in seconds.
fn spans(shown: &Shown<'_>, share: usize) -> Vec<(f64, f64)> {
    let runs = shown.variants().flat_map(|(_, runs)| runs.iter().copied());
    let Some(longest) = runs.max_by_key(|r| planned(r).count()) else { return Vec::new() };
    let all: Vec<(f64, f64)> = planned(longest)
        .map(|(_, i)| (i.start_ms as f64 / 1e3, (i.start_ms + i.length_ms) as f64 / 1e3))
        .collect();
    all.chunks(share).map(|chunk| (chunk[0].0, chunk[chunk.len() - 1].1)).collect()
}

fn shade(count: u64, most: u64) -> u32 {
    let share = (1.0 + count as f64).ln() / (1.0 + most as f64).ln();
    ((share * f64::from(SHADES)).ceil() as u32).clamp(1, SHADES)
}

/// One block for neighbours of one column that have the same shade.
fn blocks(panel: &Panel<'_>, cells: &Cells, spans: &[(f64, f64)], most: u64) {
    let mut open: Option<(usize, i32, i32, u32)> = None;
    let close = |(column, from, to, shade): (usize, i32, i32, u32)| {
        let (start, end) = spans[column];
        let upper = (panel.x_at(start), panel.y_at(edge_ms(to + 1)));
        let lower = (panel.x_at(end), panel.y_at(edge_ms(from)));
        let opacity = 0.12 + 0.88 * f64::from(shade) / f64::from(SHADES);
        panel.canvas.block((upper, lower), look(0).color, opacity);
    };
    for (&(column, row), &count) in cells {
        let shade = shade(count, most);
        match &mut open {
            Some((c, _, to, s)) if *c == column && *to + 1 == row && *s == shade => *to = row,
            _ => {
                open.replace((column, row, row, shade)).into_iter().for_each(close);
            }
        }
    }
    open.into_iter().for_each(close);
}

fn readable(panel: &Panel<'_>, variant: &VariantSummary, shown: &Shown<'_>, x: &Axis) -> Hover {
    let timeline = &variant.timeline;
    let at = timeline.p50_ms.iter().flatten().map(|band| band.at_s);
    let series = |name: &str, bands: &[Option<crate::summary::Band>]| Series {
        name: name.to_owned(),
        unit: "ms",
        variant: variant.place,
        values: bands.iter().flatten().map(|b| Some(b.median)).collect(),
    };
    Hover {
        frame: panel.frame(),
        is_time: true,
        at: times(at, x),
        end_s: end_s(shown.scenario),
        series: vec![series("p50", &timeline.p50_ms), series("p99", &timeline.p99_ms)],
    }
}

fn in_words(
    title: &str,
    variant: &VariantSummary,
    cells: &Cells,
    spans: &[(f64, f64)],
) -> Alternative {
    let slowest = cells.keys().map(|(_, row)| *row).max().unwrap_or(0);
    let in_slowest = cells.iter().filter(|((_, row), _)| *row == slowest);
    let columns: Vec<usize> = in_slowest.map(|((column, _), _)| *column).collect();
    let when = match (columns.first(), columns.last()) {
        (Some(first), Some(last)) => {
            format!("{} to {} s", significant(spans[*first].0), significant(spans[*last].1))
        }
        _ => "no time".to_owned(),
    };
    let description = format!(
        "Response time in ms (logarithmic) over the time of the run in s. The slowest requests, of up \
         to {} ms, were planned from {when}.",
        significant(edge_ms(slowest + 1))
    );
    Alternative { title: format!("{title}, {}", variant.label), description }
}

fn data(all: &[(&VariantSummary, Cells)], spans: &[(f64, f64)]) -> Table {
    let columns = ["variant", "from_s", "until_s", "above_ms", "up_to_ms", "requests", "runs"];
    let mut table = Table::new(&columns);
    for (variant, cells) in all {
        for ((column, row), count) in cells {
            let (from, until) = spans[*column];
            table.rows.push(vec![
                Cell::text(&variant.label),
                Cell::number(from),
                Cell::number(until),
                Cell::number(edge_ms(*row)),
                Cell::number(edge_ms(row + 1)),
                Cell::number(*count as f64),
                Cell::number(variant.seeds.len() as f64),
            ]);
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_lies_in_its_row_and_more_is_darker() {
        for ms in [0.002, 0.999, 1.0, 9.99, 10.0, 167.3, 2_000.0] {
            let row = row_of(ms);
            assert!(edge_ms(row) <= ms * (1.0 + 1e-6) && ms < edge_ms(row + 1), "{ms}");
        }
        assert_eq!((shade(1, 1), shade(1_000, 1_000)), (SHADES, SHADES));
        assert!(shade(1, 100_000) < shade(1_000, 100_000));
    }
}
