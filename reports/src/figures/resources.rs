//! What the processes of live runs used: processor time and memory against the rate of requests.

use std::collections::BTreeMap;

use super::axis::Axis;
use super::canvas::{Align, Alternative, Drawing, draw};
use super::palette::look;
use super::panel::{Panel, Place, ROW, WIDTH, fitted, font, sample};
use super::shown::Shown;
use super::table::{Cell, Table};
use super::{Figure, FigureText};
use crate::format::{plural, significant};
use crate::record::{ResourceSample, RunRecord};

/// One process of one run.
struct Use {
    /// The variant.
    label: String,
    /// The same without its rate: what a legend names.
    family: String,
    place: usize,
    process: String,
    /// Requests sent, per second.
    rate: f64,
    /// Processor time, in cores.
    cores: f64,
    /// The most memory that it had, in MiB.
    memory_mib: f64,
}

/// Draws both; `None` when no run was live.
pub(crate) fn resources(shown: &Shown<'_>) -> Option<Figure> {
    let mut uses: Vec<Use> = Vec::new();
    for (variant, runs) in shown.variants() {
        for run in runs {
            uses.extend(of_run(run).into_iter().map(|u| Use {
                label: variant.label.clone(),
                family: variant.family.clone(),
                place: variant.place,
                ..u
            }));
        }
    }
    // The client is measured with what it measures, and is not what is compared.
    uses.retain(|u| u.process != "loadgen");
    let fastest = uses.iter().map(|u| u.rate).reduce(f64::max)?;
    let x = Axis::from_zero(fastest, 5, "requests sent per second");
    let most = |of: fn(&Use) -> f64| uses.iter().map(of).fold(0.0, f64::max);
    let cpu = Axis::from_zero(most(|u| u.cores), 4, "processor time, cores");
    let memory = Axis::from_zero(most(|u| u.memory_mib), 4, "memory, MiB, the most");
    let title = "Processor time and memory against rate".to_owned();
    let drawings = vec![
        one(&uses, &title, (&x, &cpu), |u| u.cores),
        one(&uses, &title, (&x, &memory), |u| u.memory_mib),
    ];
    let runs: usize = shown.variants().map(|(_, runs)| runs.len()).sum();
    let caption = format!(
        "A point for each process of each of {}: processor time over the whole run, left, and the \
         most memory that it had (resident set), right. Only runs on one machine can be compared.",
        plural(runs, "run")
    );
    let text = FigureText { id: "resources".to_owned(), title, caption };
    Some(Figure { text, drawings, data: data(&uses) })
}

fn of_run(run: &RunRecord) -> Vec<Use> {
    let mut by_process: BTreeMap<&str, Vec<&ResourceSample>> = BTreeMap::new();
    for sample in &run.resources {
        by_process.entry(&sample.process).or_default().push(sample);
    }
    let seconds = |ms: u64| ms as f64 / 1e3;
    let of = |(process, samples): (&str, Vec<&ResourceSample>)| {
        let last = samples.iter().max_by_key(|s| s.at_ms).filter(|s| s.at_ms > 0)?;
        let memory = samples.iter().map(|s| s.memory_bytes).max()?;
        Some(Use {
            label: String::new(),
            family: String::new(),
            place: 0,
            process: process.to_owned(),
            rate: run.accounting.sent as f64 / seconds(run.plan.duration_ms.max(1)),
            cores: last.cpu_us as f64 / 1e6 / seconds(last.at_ms),
            memory_mib: memory as f64 / f64::from(1 << 20),
        })
    };
    by_process.into_iter().filter_map(of).collect()
}

fn one(uses: &[Use], title: &str, (x, y): (&Axis, &Axis), of: fn(&Use) -> f64) -> Drawing {
    let mut names: Vec<(usize, String)> = Vec::new();
    for u in uses {
        let name = (u.place, format!("{}, {}", u.family, u.process));
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let words = uses.iter().map(|u| {
        let (value, rate) = (significant(of(u)), significant(u.rate));
        format!("{}, {}: {value} at {rate}", u.label, u.process)
    });
    let description = format!(
        "{} over {}. {}.",
        y.in_words(),
        x.in_words(),
        words.collect::<Vec<_>>().join("; ")
    );
    let alternative = Alternative { title: format!("{title}: {}", y.title), description };
    let place = Place { top: names.len() as f64 * ROW + 4.0, right: 16.0, height: 180.0, rows: 0 };
    draw((WIDTH, place.drawing_height()), alternative, |canvas| {
        for (i, (place, name)) in names.iter().enumerate() {
            let y = (i as f64 + 0.5) * ROW;
            sample(canvas, (2.0, y), look(*place), look(*place).dash);
            let font = font(Align::Left);
            canvas.text(&fitted(name, font, WIDTH - 40.0), (34.0, y), font);
        }
        let panel = Panel::new(canvas, place, (x, y));
        for u in uses {
            let look = look(u.place);
            canvas.of_variant(u.place, || {
                canvas.marker(look.marker, panel.at((u.rate, of(u))), look.color, 4.5);
            });
        }
    })
}

fn data(uses: &[Use]) -> Table {
    let mut table = Table::new(&[
        "variant",
        "process",
        "requests_per_s",
        "cores",
        "memory_mib",
        "us_a_request",
    ]);
    for u in uses {
        table.rows.push(vec![
            Cell::text(&u.label),
            Cell::text(&u.process),
            Cell::number(u.rate),
            Cell::number(u.cores),
            Cell::number(u.memory_mib),
            Cell::number((u.rate > 0.0).then(|| u.cores * 1e6 / u.rate)),
        ]);
    }
    table
}
