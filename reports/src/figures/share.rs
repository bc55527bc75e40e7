//! Who got the requests: shares of the backends, in total and over time.

use super::Figure;
use super::axis::Axis;
use super::canvas::{Align, Alternative, DrawError, Font, Stroke, draw};
use super::marks::Rows;
use super::over_time::{seeds_and_bands, time_axis};
use super::palette::{Dash, GRID, INK, Look, MUTED, Marker, SHADE, look};
use super::panel::{Panel, Place, ROW, WIDTH, fitted, font, heading};
use crate::format::{plural, share};
use crate::summary::{Band, EndpointSummary, ScenarioSummary, ServiceSummary};

/// Up to this many endpoints each has a line of its own; above, those without a fault are one band.
const LINES: usize = 4;

/// Up to this many endpoints without a fault have a ring each; above, they are one bar.
const RINGS: usize = 40;

/// Draws the share of each endpoint over the whole run, a row a variant.
///
/// # Errors
/// When plotters refuses to draw.
pub(crate) fn share_in_total(
    scenario: &ScenarioSummary,
    service: &str,
) -> Result<Figure, DrawError> {
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
    let drawing = draw((WIDTH, place.drawing_height()), &alternative, |canvas| {
        let panel = Panel::new(canvas, place, (&x, &y))?;
        let fair_x = panel.x_at(fair * 100.0);
        let stroke = Stroke { color: MUTED, width: 1.25, dash: Dash::FINE };
        canvas.line(&[(fair_x, panel.top - 4.0), (fair_x, panel.bottom)], stroke)?;
        let label = format!("equal share {}", share(fair));
        let muted = font(Align::Left);
        let latest = canvas.width - 2.0 - muted.width(&label);
        let label_x = (fair_x - muted.width(&label) / 2.0).min(latest);
        canvas.text(&label, (label_x, panel.top - 13.0), muted)?;
        for (row, (i, service)) in rows.iter().enumerate() {
            let y = panel.top + 14.0 + row as f64 * pitch;
            let variant = &scenario.variants[*i];
            row_of_dots(&panel, y, &variant.label, (look(variant.place), service))?;
        }
        Ok(())
    })?;
    let healthy = |s: &ServiceSummary| s.endpoints.iter().filter(|e| !e.faulted).count();
    let many = rows.iter().any(|(_, s)| healthy(s) > RINGS);
    let caption = format!(
        "Requests that arrived at each backend, of all that arrived at {service}, by the backends' \
         own logs over the whole of {}. {}: backends without a fault; filled with colour: those \
         that had one.",
        plural(scenario.runs(), "run"),
        if many { "The grey bar" } else { "Rings" }
    );
    Ok(Figure { drawings: vec![drawing], title, caption })
}

fn row_of_dots(
    panel: &Panel<'_, '_>,
    y: f64,
    name: &str,
    (look, service): (Look, &ServiceSummary),
) -> Result<(), DrawError> {
    let canvas = panel.canvas;
    let ink = Font { color: INK, bold: true, ..font(Align::Left) };
    let room = panel.right - panel.left;
    panel.remark(&fitted(name, ink, room), (panel.left + 2.0, y - 6.0), ink)?;
    let y = y + 16.0;
    canvas.line(&[(panel.left, y), (panel.right, y)], Stroke::solid(GRID, 1.0))?;
    let others: Vec<f64> =
        service.endpoints.iter().filter(|e| !e.faulted).map(|e| e.share * 100.0).collect();
    if others.len() > RINGS {
        let (low, high) = others.iter().fold((f64::MAX, 0.0), |(l, h), s| (s.min(l), s.max(h)));
        let bar = ((panel.x_at(low) - 1.0, y - 4.0), (panel.x_at(high) + 1.0, y + 4.0));
        canvas.block(bar, SHADE, 0.6)?;
    } else {
        for share in others {
            canvas.marker(Marker::Ring, (panel.x_at(share), y), SHADE, 4.0)?;
        }
    }
    for endpoint in service.endpoints.iter().filter(|e| e.faulted) {
        let at = (panel.x_at(endpoint.share * 100.0), y);
        let marker = if look.marker == Marker::Ring { Marker::Disc } else { look.marker };
        canvas.marker(marker, at, look.color, 5.5)?;
    }
    Ok(())
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
///
/// # Errors
/// When plotters refuses to draw.
pub(crate) fn share_over_time(
    scenario: &ScenarioSummary,
    service: &str,
) -> Result<Figure, DrawError> {
    let panels = services(scenario, service);
    let x = time_axis(scenario);
    let fair = panels.first().map_or(1.0, |(_, s)| s.fair_share());
    let lines = |s: &ServiceSummary| lines_of(s).into_iter().flat_map(|l| l.series);
    let shares = panels.iter().flat_map(|(_, s)| lines(s)).flatten().map(|b| b.max * 100.0);
    let y = Axis::from_zero(shares.fold(fair * 100.0, f64::max), 4, "share of requests, %");
    let rows = Rows::of(scenario);
    let title = format!("Share of the backends of {service} over time");
    let place = Place { top: ROW + 2.0, right: 74.0, height: 130.0, rows: rows.count() };
    let drawings = panels.iter().map(|(i, service)| {
        let variant = &scenario.variants[*i];
        let alternative = Alternative {
            title: format!("{title}, {}", variant.label),
            description: format!(
                "{} over {}. {}.",
                y.in_words(),
                x.in_words(),
                in_words(scenario, *i, service)
            ),
        };
        draw((WIDTH, place.drawing_height()), &alternative, |canvas| {
            let look = look(variant.place);
            heading(canvas, look, &variant.label, &gist(service))?;
            let panel = Panel::new(canvas, place, (&x, &y))?;
            rows.draw(&panel, &variant.acts)?;
            let level = Stroke { color: MUTED, width: 1.25, dash: Dash::FINE };
            panel.level(fair * 100.0, level)?;
            draw_lines(&panel, look, service)
        })
    });
    let drawings = drawings.collect::<Result<Vec<_>, _>>()?;
    let grouped = panels.iter().any(|(_, s)| s.endpoints.len() > LINES);
    let grouping = if grouped {
        " The grey band spans the backends that had no fault, each for itself; the grey line is \
         their mean."
    } else {
        ""
    };
    let caption = format!(
        "Arrivals at each backend, of all at {service}, per interval, by the backends' own logs. \
         Dotted: an equal share, {}.{grouping} {} {}",
        share(fair),
        seeds_and_bands(scenario),
        rows.caption()
    );
    Ok(Figure { drawings, title, caption })
}

/// What the first endpoint with a fault got while it lasted.
fn gist(service: &ServiceSummary) -> String {
    let shares = service.endpoints.iter().filter_map(|e| Some((e, e.share_in_fault?)));
    match shares.into_iter().next() {
        Some((endpoint, in_fault)) => format!("{} in fault {}", endpoint.name, share(in_fault)),
        None => String::new(),
    }
}

/// One line of a plot: an endpoint, or the endpoints without a fault together.
struct Line {
    name: String,
    faulted: bool,
    series: Vec<Option<Band>>,
}

fn lines_of(service: &ServiceSummary) -> Vec<Line> {
    let line = |e: &EndpointSummary| Line {
        name: e.name.clone(),
        faulted: e.faulted,
        series: e.share_over_time.clone(),
    };
    if service.endpoints.len() <= LINES {
        return service.endpoints.iter().map(line).collect();
    }
    let (faulted, others): (Vec<_>, Vec<_>) = service.endpoints.iter().partition(|e| e.faulted);
    let mut lines: Vec<Line> = Vec::new();
    if !others.is_empty() {
        let name = match faulted.is_empty() {
            true => format!("all {}", others.len()),
            false => format!("other {}", others.len()),
        };
        lines.push(Line { name, faulted: false, series: together(&others) });
    }
    lines.extend(faulted.into_iter().take(LINES).map(line));
    lines
}

/// Mean of the endpoints' medians, between their extremes.
fn together(endpoints: &[&EndpointSummary]) -> Vec<Option<Band>> {
    let longest = endpoints.iter().map(|e| e.share_over_time.len()).max().unwrap_or(0);
    let at = |i: usize| {
        let bands = endpoints.iter().filter_map(|e| e.share_over_time.get(i).copied().flatten());
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

fn draw_lines(
    panel: &Panel<'_, '_>,
    look: Look,
    service: &ServiceSummary,
) -> Result<(), DrawError> {
    let mut ends: Vec<(f64, String, Font)> = Vec::new();
    let lines: Vec<Line> = lines_of(service);
    for (n, line) in lines.iter().enumerate() {
        let scaled: Vec<Option<Band>> = line.series.iter().map(|b| b.map(in_percent)).collect();
        let color = if line.faulted { look.color } else { SHADE };
        let width = if line.faulted { 2.25 } else { 1.5 };
        // Lines of one colour differ by their dashes.
        let same = lines[..n].iter().filter(|l| l.faulted == line.faulted).count();
        panel.range(&scaled, color)?;
        panel.median(&scaled, Stroke { color, width, dash: super::palette::look(same).dash })?;
        if let Some(last) = scaled.iter().flatten().last() {
            let color = if line.faulted { look.color } else { MUTED };
            let font = Font { color, ..font(Align::Left) };
            let room = panel.canvas.width - panel.right - 8.0;
            ends.push((last.median, fitted(&line.name, font, room), font));
        }
    }
    panel.name_ends(&ends)
}

fn in_percent(band: Band) -> Band {
    let Band { at_s, median, min, max } = band;
    Band { at_s, median: median * 100.0, min: min * 100.0, max: max * 100.0 }
}

/// The service in each variant that has it, with the variant's position.
fn services<'s>(scenario: &'s ScenarioSummary, name: &str) -> Vec<(usize, &'s ServiceSummary)> {
    let found = |(i, v): (usize, &'s crate::summary::VariantSummary)| {
        v.services.iter().find(|s| s.name == name).map(|s| (i, s))
    };
    scenario.variants.iter().enumerate().filter_map(found).collect()
}
