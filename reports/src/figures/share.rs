//! Who got the requests: shares of the backends, in total and over time.

use super::axis::Axis;
use super::canvas::{Align, Alternative, Font, Stroke, draw};
use super::multiples::{Line, Plot, Spec, multiples};
use super::palette::{Dash, GRID, INK, Look, MUTED, Marker, SHADE, look};
use super::panel::{Panel, Place, WIDTH, fitted, font};
use super::shown::Shown;
use super::table::{Cell, Table};
use super::{Figure, FigureText};
use crate::format::{plural, share};
use crate::summary::{Band, EndpointSummary, ScenarioSummary, ServiceSummary};

/// Up to this many endpoints each has a line of its own; above, those without a fault are one band.
const LINES: usize = 4;

/// Up to this many endpoints without a fault have a ring each; above, they are one bar.
const RINGS: usize = 40;

/// Draws the share of each endpoint over the whole run, a row a variant.
pub(crate) fn share_in_total(scenario: &ScenarioSummary, service: &str) -> Figure {
    let rows: Vec<(usize, &ServiceSummary)> = services(scenario, service);
    let fair = rows.first().map_or(1.0, |(_, s)| s.fair_share());
    let shares = rows.iter().flat_map(|(_, s)| &s.endpoints).map(|e| e.share * 100.0);
    let x = Axis::from_zero(shares.fold(fair * 100.0, f64::max), 5, "share of requests, %");
    let y = Axis::with_ticks((0.0, 1.0), Vec::new(), "");
    // About as tall as the curve beside it.
    let pitch = (290.0 / rows.len().max(1) as f64).clamp(42.0, 70.0);
    let place = Place { top: 0.0, right: 16.0, height: rows.len() as f64 * pitch + 10.0, rows: 0 };
    let title = format!("Share of each backend of {service}");
    let described: Vec<String> = rows.iter().map(|(i, s)| in_words(scenario, *i, s)).collect();
    let alternative =
        Alternative { title: title.clone(), description: format!("{}.", described.join("; ")) };
    let drawing = draw((WIDTH, place.drawing_height()), alternative, |canvas| {
        let panel = Panel::new(canvas, place, (&x, &y));
        let fair_x = panel.x_at(fair * 100.0);
        let stroke = Stroke { color: MUTED, width: 1.25, dash: Dash::FINE };
        canvas.line(&[(fair_x, panel.top - 4.0), (fair_x, panel.bottom)], stroke);
        let label = format!("equal share {}", share(fair));
        let muted = font(Align::Left);
        let latest = canvas.width - 2.0 - muted.width(&label);
        let label_x = (fair_x - muted.width(&label) / 2.0).min(latest);
        canvas.text(&label, (label_x, panel.top - 13.0), muted);
        for (row, (i, service)) in rows.iter().enumerate() {
            let y = panel.top + 14.0 + row as f64 * pitch;
            let variant = &scenario.variants[*i];
            row_of_dots(&panel, y, &variant.label, (look(variant.place), service));
        }
    });
    let healthy = |s: &ServiceSummary| s.endpoints.iter().filter(|e| !e.faulted).count();
    let many = rows.iter().any(|(_, s)| healthy(s) > RINGS);
    let caption = format!(
        "Attempts that sidecars sent to each backend, of all that they sent to {service} (of systems \
         that were not asked: what arrived there), over the whole of {}. {}: backends without a \
         fault; filled with colour: those that had one.",
        plural(scenario.runs(), "run"),
        if many { "The grey bar" } else { "Rings" }
    );
    let text = FigureText { id: format!("share-{service}"), title, caption };
    Figure { text, drawings: vec![drawing], data: totals(scenario, &rows) }
}

fn totals(scenario: &ScenarioSummary, rows: &[(usize, &ServiceSummary)]) -> Table {
    let columns = ["variant", "endpoint", "arrived", "share", "share_in_fault", "runs"];
    let mut table = Table::new(&columns);
    for (i, service) in rows {
        let variant = &scenario.variants[*i];
        for endpoint in &service.endpoints {
            table.rows.push(vec![
                Cell::text(&variant.label),
                Cell::text(&endpoint.name),
                Cell::number(endpoint.total.arrived as f64),
                Cell::number(endpoint.share),
                Cell::number(endpoint.share_in_fault),
                Cell::number(variant.seeds.len() as f64),
            ]);
        }
    }
    table
}

fn row_of_dots(panel: &Panel<'_>, y: f64, name: &str, (look, service): (Look, &ServiceSummary)) {
    let canvas = panel.canvas;
    let ink = Font { color: INK, bold: true, ..font(Align::Left) };
    let room = panel.right - panel.left;
    panel.remark(&fitted(name, ink, room), (panel.left + 2.0, y - 6.0), ink);
    let y = y + 16.0;
    canvas.line(&[(panel.left, y), (panel.right, y)], Stroke::solid(GRID, 1.0));
    let others: Vec<f64> =
        service.endpoints.iter().filter(|e| !e.faulted).map(|e| e.share * 100.0).collect();
    if others.len() > RINGS {
        let (low, high) = others.iter().fold((f64::MAX, 0.0), |(l, h), s| (s.min(l), s.max(h)));
        let bar = ((panel.x_at(low) - 1.0, y - 4.0), (panel.x_at(high) + 1.0, y + 4.0));
        canvas.block(bar, SHADE, 0.6);
    } else {
        for share in others {
            canvas.marker(Marker::Ring, (panel.x_at(share), y), SHADE, 4.0);
        }
    }
    for endpoint in service.endpoints.iter().filter(|e| e.faulted) {
        let at = (panel.x_at(endpoint.share * 100.0), y);
        let marker = if look.marker == Marker::Ring { Marker::Disc } else { look.marker };
        canvas.marker(marker, at, look.color, 5.5);
    }
}

fn in_words(scenario: &ScenarioSummary, variant: usize, service: &ServiceSummary) -> String {
    let endpoint = |e: &EndpointSummary| format!("{} {}", e.name, share(e.share));
    let shown: Vec<String> = service.endpoints.iter().filter(|e| e.faulted).map(endpoint).collect();
    let others = service.endpoints.iter().filter(|e| !e.faulted).map(|e| e.share);
    let (low, high) = (others.clone().fold(1.0, f64::min), others.fold(0.0, f64::max));
    let others = format!("others {} to {}", share(low), share(high));
    let all = shown.into_iter().chain((low <= high).then_some(others));
    format!("{}: {}", scenario.variants[variant].label, all.collect::<Vec<_>>().join(", "))
}

/// Draws the share of each endpoint over time, a plot a variant.
pub(crate) fn share_over_time(shown: &Shown<'_>, service: &str) -> Figure {
    let scenario = shown.scenario;
    let services = services(scenario, service);
    let fair = services.first().map_or(1.0, |(_, s)| s.fair_share());
    let plot = |(i, service): &(usize, &ServiceSummary)| {
        let variant = &scenario.variants[*i];
        let lines = endpoint_lines(look(variant.place), service, "%", in_percent);
        Plot { variant, gist: gist(service), lines, lost: None }
    };
    let plots: Vec<Plot<'_>> = services.iter().map(plot).collect();
    let shares = plots.iter().flat_map(|p| &p.lines).flat_map(|l| l.bands.iter().flatten());
    let highest = shares.map(|b| b.max).fold(fair * 100.0, f64::max);
    let grouped = services.iter().any(|(_, s)| has_groups(s));
    let grouping = if grouped { GROUPING } else { "" };
    let text = FigureText {
        id: format!("share-{service}-over-time"),
        title: format!("Share of the backends of {service} over time"),
        caption: format!(
            "Attempts sent to each backend, whether or not they arrived, of all sent to {service}, per \
             interval. Dotted: an equal share, {}.{grouping}",
            share(fair)
        ),
    };
    let y = Axis::from_zero(highest, 4, "share of requests, %");
    let level = Some(fair * 100.0);
    multiples(shown, Spec { text, y, height: 130.0, right: 74.0, limit: None, level }, &plots)
}

/// What the first endpoint with a fault got while it lasted.
fn gist(service: &ServiceSummary) -> String {
    let shares = service.endpoints.iter().filter_map(|e| Some((e, e.share_in_fault?)));
    match shares.into_iter().next() {
        Some((endpoint, in_fault)) => format!("{} in fault {}", endpoint.name, share(in_fault)),
        None => String::new(),
    }
}

/// What is said of lines that stand for several endpoints.
pub(super) const GROUPING: &str =
    " A line that stands for several backends is their mean, and its band spans them.";

/// Whether there are too many endpoints for a line each.
pub(super) fn has_groups(service: &ServiceSummary) -> bool {
    service.endpoints.len() > LINES
}

/// The lines of a plot: an endpoint each, or the endpoints without a fault together.
pub(super) fn endpoint_lines(
    look: Look,
    service: &ServiceSummary,
    unit: &'static str,
    value: impl Fn(&EndpointSummary) -> Vec<Option<Band>>,
) -> Vec<Line> {
    let (faulted, others): (Vec<_>, Vec<_>) = service.endpoints.iter().partition(|e| e.faulted);
    let few = !has_groups(service);
    let mut lines: Vec<Line> = Vec::new();
    if few {
        for (n, endpoint) in others.iter().enumerate() {
            let stroke = Stroke { color: SHADE, width: 1.5, dash: super::palette::look(n).dash };
            lines.push(line(&endpoint.name, unit, value(endpoint), stroke));
        }
    } else if !others.is_empty() {
        let name = match faulted.is_empty() {
            true => format!("all {}", others.len()),
            false => format!("other {}", others.len()),
        };
        let all: Vec<Vec<Option<Band>>> = others.iter().map(|e| value(e)).collect();
        lines.push(line(&name, unit, together(&all), Stroke::solid(SHADE, 1.5)));
    }
    if faulted.len() > LINES {
        let all: Vec<Vec<Option<Band>>> = faulted.iter().map(|e| value(e)).collect();
        let name = match others.is_empty() {
            true => format!("all {}", all.len()),
            false => format!("{} faulted", all.len()),
        };
        lines.push(line(&name, unit, together(&all), Stroke::solid(look.color, 2.25)));
        return lines;
    }
    for (n, endpoint) in faulted.iter().enumerate() {
        // Lines of one colour differ by their dashes.
        let dash = super::palette::look(n).dash;
        let stroke = Stroke { color: look.color, width: 2.25, dash };
        lines.push(line(&endpoint.name, unit, value(endpoint), stroke));
    }
    lines
}

fn line(name: &str, unit: &'static str, bands: Vec<Option<Band>>, stroke: Stroke) -> Line {
    Line { name: name.to_owned(), unit, bands, stroke, range: true, named: true }
}

/// Mean of the endpoints' medians, between their extremes.
fn together(endpoints: &[Vec<Option<Band>>]) -> Vec<Option<Band>> {
    let longest = endpoints.iter().map(Vec::len).max().unwrap_or(0);
    let at = |i: usize| {
        let bands = endpoints.iter().filter_map(|bands| bands.get(i).copied().flatten());
        let bands: Vec<Band> = bands.collect();
        let first = bands.first()?;
        Some(Band {
            at_s: first.at_s,
            median: bands.iter().map(|b| b.median).sum::<f64>() / bands.len() as f64,
            min: bands.iter().map(|b| b.median).fold(f64::INFINITY, f64::min),
            max: bands.iter().map(|b| b.median).fold(0.0, f64::max),
        })
    };
    (0..longest).map(at).collect()
}

/// An endpoint's share over time.
fn in_percent(endpoint: &EndpointSummary) -> Vec<Option<Band>> {
    let scaled = |Band { at_s, median, min, max }| Band {
        at_s,
        median: median * 100.0,
        min: min * 100.0,
        max: max * 100.0,
    };
    endpoint.share_over_time.iter().map(|band| band.map(scaled)).collect()
}

/// The service in each variant that has it, with the variant's position.
fn services<'s>(scenario: &'s ScenarioSummary, name: &str) -> Vec<(usize, &'s ServiceSummary)> {
    let found = |(i, v): (usize, &'s crate::summary::VariantSummary)| {
        v.services.iter().find(|s| s.name == name).map(|s| (i, s))
    };
    scenario.variants.iter().enumerate().filter_map(found).collect()
}
