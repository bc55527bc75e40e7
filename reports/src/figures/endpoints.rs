//! What each backend did over time, by its own log: how long it took, and how much it had at once.

use super::axis::Axis;
use super::multiples::{Line, Plot, Spec, multiples};
use super::over_time::times_axis;
use super::palette::look;
use super::share::{GROUPING, endpoint_lines, has_groups};
use super::shown::{Shown, at_endpoint};
use super::{Figure, FigureText};
use crate::format::significant;
use crate::record::RunRecord;
use crate::summary::{Band, EndpointSummary, ServiceSummary, VariantSummary};

/// The 99th percentile of the time from arrival to answer at each backend of a service.
pub(crate) fn latency(shown: &Shown<'_>, service: &str) -> Option<Figure> {
    let p99 = |runs: &[&RunRecord], endpoint: &EndpointSummary| {
        at_endpoint(runs, &endpoint.name, |series, i| {
            Some(series.latency_us.get(i)?.as_ref()?.p99 as f64 / 1e3)
        })
    };
    let plots = plots(shown, service, "ms", &p99);
    let text = FigureText {
        id: format!("latency-{service}-over-time"),
        title: format!("Latency at the backends of {service} over time"),
        caption: format!(
            "The 99th percentile of the time from a request's arrival at a backend to its answer, by \
             the backends' own logs and by the interval of the arrival.{}",
            grouping(shown, service)
        ),
    };
    let y = times_axis(bands(&plots)?, "99th percentile at the backend, ms");
    let spec = Spec { text, y, height: 130.0, right: 74.0, limit: None, level: None };
    Some(multiples(shown, spec, &plots))
}

/// How many requests each backend of a service had at once.
pub(crate) fn in_flight(shown: &Shown<'_>, service: &str) -> Option<Figure> {
    let mean = |runs: &[&RunRecord], endpoint: &EndpointSummary| {
        at_endpoint(runs, &endpoint.name, |series, i| series.in_flight_mean.get(i).copied())
    };
    let plots = plots(shown, service, "requests", &mean);
    let text = FigureText {
        id: format!("in-flight-{service}-over-time"),
        title: format!("Requests in flight at the backends of {service} over time"),
        caption: format!(
            "Requests that were at a backend, waiting or worked on, as the mean over each interval, \
             by the backends' own logs.{}",
            grouping(shown, service)
        ),
    };
    let high = bands(&plots)?.map(|b| b.max).fold(0.0, f64::max);
    let y = Axis::from_zero(high, 4, "requests in flight, mean");
    let spec = Spec { text, y, height: 130.0, right: 74.0, limit: None, level: None };
    Some(multiples(shown, spec, &plots))
}

/// A value of an endpoint over time, over the runs of a variant.
type Value<'v> = dyn Fn(&[&RunRecord], &EndpointSummary) -> Vec<Option<Band>> + 'v;

fn of_service<'s>(variant: &'s VariantSummary, service: &str) -> Option<&'s ServiceSummary> {
    variant.services.iter().find(|s| s.name == service)
}

fn grouping(shown: &Shown<'_>, service: &str) -> &'static str {
    let mut services = shown.variants().filter_map(|(v, _)| of_service(v, service));
    if services.any(has_groups) { GROUPING } else { "" }
}

fn plots<'s>(
    shown: &Shown<'s>,
    service: &str,
    unit: &'static str,
    value: &Value<'_>,
) -> Vec<Plot<'s>> {
    let plot = |(variant, runs): (&'s VariantSummary, &[&RunRecord])| {
        let of_service = of_service(variant, service)?;
        let lines = endpoint_lines(look(variant.place), of_service, unit, |e| value(runs, e));
        Some(Plot { variant, gist: gist(&lines, of_service, unit), lines, lost: None })
    };
    shown.variants().filter_map(plot).collect()
}

/// The highest value at a backend with a fault.
fn gist(lines: &[Line], service: &ServiceSummary, unit: &str) -> String {
    let faulted = service.endpoints.iter().filter(|e| e.faulted);
    let lines = faulted.filter_map(|e| lines.iter().find(|line| line.name == e.name));
    let high = lines.filter_map(|line| {
        let medians = line.bands.iter().flatten().map(|band| band.median);
        Some((medians.reduce(f64::max)?, &line.name))
    });
    match high.reduce(|a, b| if b.0 > a.0 { b } else { a }) {
        Some((high, name)) => format!("{name} up to {} {unit}", significant(high)),
        None => String::new(),
    }
}

/// All values of the plots, or `None` when there are none.
fn bands<'p>(plots: &'p [Plot<'_>]) -> Option<impl Iterator<Item = &'p Band> + Clone> {
    let bands = plots.iter().flat_map(|p| &p.lines).flat_map(|l| l.bands.iter().flatten());
    bands.clone().next().map(|_| bands)
}
