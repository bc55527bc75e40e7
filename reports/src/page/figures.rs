//! The figures of a scenario, each with its caption and the ways to its files.

use super::{Bitmaps, Content};
use crate::figures::{self, DrawError, Drawing, Figure, Shown};
use crate::html::escape;
use crate::naming::slug;

/// All figures of a scenario, in reading order.
pub(super) fn all(shown: &Shown<'_>) -> Vec<Figure> {
    let scenario = shown.scenario;
    let mut services: Vec<&str> = Vec::new();
    for service in scenario.variants.iter().flat_map(|v| &v.services) {
        // One endpoint has all of its service's requests; a plot of that says nothing.
        if !services.contains(&service.name.as_str()) && service.endpoints.len() > 1 {
            services.push(&service.name);
        }
    }
    // Who sweeps rates asks for the knee.
    let mut all: Vec<Figure> = figures::knee(shown).into_iter().collect();
    all.push(figures::percentiles(scenario));
    all.extend(services.iter().map(|service| figures::share_in_total(scenario, service)));
    // The load generator's own records have no intervals.
    let over_time = scenario.variants.iter().any(|v| !v.timeline.offered_per_s.is_empty());
    all.extend(over_time.then(|| figures::response(shown)));
    all.extend(figures::heatmap(shown));
    all.extend(over_time.then(|| figures::goodput(shown)));
    all.extend(figures::throughput(shown));
    for service in &services {
        all.push(figures::share_over_time(shown, service));
        all.extend(figures::latency(shown, service));
        all.extend(figures::in_flight(shown, service));
    }
    all.extend(figures::distribution(shown));
    all.extend(figures::difference(shown));
    all.extend(figures::amplification(shown));
    all.extend(figures::budget(shown));
    all.extend(figures::resources(shown));
    all.extend(figures::send_lag(shown));
    all
}

pub(super) fn html(content: &Content<'_>, all: &[Figure]) -> Result<String, DrawError> {
    let mut html = String::new();
    // Neighbours of one drawing each stand beside each other.
    for group in all.chunk_by(|a, b| a.drawings.len() == 1 && b.drawings.len() == 1) {
        let figures: Vec<String> =
            group.iter().map(|f| figure(content, f)).collect::<Result<_, _>>()?;
        match group.len() {
            1 => html.push_str(&figures.concat()),
            _ => html.push_str(&format!("<div class=\"pair\">\n{}</div>\n", figures.concat())),
        }
    }
    Ok(html)
}

/// Drawings of one figure that stand open: two rows of three on a wide page.
const AT_ONCE: usize = 6;

/// How many of so many drawings stand open. One alone is not worth folding away.
fn shown_at_once(drawings: usize) -> usize {
    if drawings <= AT_ONCE + 1 { drawings } else { AT_ONCE }
}

fn figure(content: &Content<'_>, figure: &Figure) -> Result<String, DrawError> {
    let drawing = |d: &Drawing| Ok(format!("<div class=\"drawing\">\n{}</div>\n", d.inline()?));
    let drawings = figure.drawings.iter().map(drawing).collect::<Result<Vec<_>, DrawError>>()?;
    let (first, more) = drawings.split_at(drawings.len().min(shown_at_once(drawings.len())));
    let more = match more.len() {
        0 => String::new(),
        n => format!(
            "<details>\n<summary>{n} more, on the same scales</summary>\n\
             <div class=\"drawings\">\n{}</div>\n</details>\n",
            more.concat()
        ),
    };
    let text = &figure.text;
    let title = escape(&text.title);
    let stem = format!("figures/{}/{}", content.folder, slug(&text.id));
    let file = |ending: &str, name: &str| {
        format!("<a href=\"{stem}.{ending}\">{name}<span class=\"unseen\"> of {title}</span></a>")
    };
    let pictures = match content.extras.bitmaps {
        Bitmaps::Written => format!("{} or {}", file("svg", "SVG"), file("png", "PNG")),
        Bitmaps::LeftOut => file("svg", "SVG"),
    };
    Ok(format!(
        "<figure>\n<figcaption><b>{title}</b> {}</figcaption>\n<div class=\"drawings\">\n{}</div>\n\
         {more}<p class=\"files\">The data as {}, the picture as {}</p>\n</figure>\n",
        escape(&text.caption),
        first.concat(),
        file("csv", "CSV"),
        pictures,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_drawings_are_folded_and_one_alone_is_not() {
        assert_eq!(shown_at_once(AT_ONCE), AT_ONCE);
        assert_eq!(shown_at_once(AT_ONCE + 1), AT_ONCE + 1);
        assert_eq!(shown_at_once(AT_ONCE + 2), AT_ONCE);
    }
}
