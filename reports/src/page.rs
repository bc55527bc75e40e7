//! HTML files that open from disk, on a desk, a phone and paper, with figures, data and records
//! beside them.
//!
//! A scenario is one page: `verdict` says what was asked and what came of it, `comparison` has the
//! numbers, with `metrics` against a baseline, `figures` draws them, `told` follows one run,
//! `reproduce` says how to get the same again. Records of several scenarios make a page each, and
//! `index` is the way in. `shell` is what is around each page. A page needs no network, and says all
//! that it says without its script.

mod comparison;
mod figures;
mod index;
mod metrics;
mod reproduce;
mod shell;
mod told;
mod verdict;

use std::fs;
use std::path::{Path, PathBuf};

use crate::data;
use crate::figures::{DrawError, Figure, Shown};
use crate::naming::slug;
use crate::record::{RecordError, RunRecord};
use crate::summary::{Doubt, ScenarioSummary, in_lines, summarise_against, warnings, world_name};

/// What a page says that is in no record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PageExtras {
    /// The heading of the first page; when empty, the title of the only scenario or a general one.
    pub title: String,
    /// What wrote the page, such as `meshbench 0.1.0`.
    pub generator: String,
    /// The command that repeats everything on the page; left out when empty.
    pub command: String,
    /// Runs that were planned and not made, such as after Ctrl-C, each in a few words.
    pub not_run: Vec<String>,
    /// Runs that ended without a record, each with the reason.
    pub broken: Vec<String>,
    /// Further remarks on what to distrust, one sentence each.
    pub remarks: Vec<String>,
    /// The variant that the others are compared with; `round_robin`, or else the first, if absent.
    pub baseline: Option<String>,
    /// Whether figures are written as PNG too, which is most of a report's bytes and time.
    pub bitmaps: Bitmaps,
}

/// Whether figures are written as PNG.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Bitmaps {
    /// Beside the SVG.
    #[default]
    Written,
    /// Not at all, and no page links to them.
    LeftOut,
}

/// Why no page was written.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// There is nothing to report.
    #[error("no run records were given, so there is nothing to report; run a scenario first")]
    Empty,
    /// A record could not be read, written or interpreted.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// Two records claim to be the same run, and merging them would count it twice.
    #[error("two records are of the same run, {scenario}, {variant}, seed {seed}; remove one")]
    Duplicate {
        /// The scenario.
        scenario: String,
        /// The variant.
        variant: String,
        /// The seed.
        seed: u64,
    },
    /// A file or folder could not be written.
    #[error("{path}: {reason}", path = path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the file system said. Not the source of this error, which says it already.
        reason: std::io::Error,
    },
    /// A figure could not be drawn.
    #[error(transparent)]
    Draw(#[from] DrawError),
}

/// Writes a report into a folder, and returns the path of `index.html` in it.
///
/// Beside it are the records, below `records`, every figure as SVG, PNG and CSV, below `figures`, and
/// what the tables show as CSV, below `data`. Of several scenarios each has a page of its own, which
/// the index links to. The folders are made where they are missing. The same records and extras give
/// the same bytes.
///
/// # Errors
/// When there are no records, one is of another schema, two are of the same run, a figure cannot be
/// drawn, or a file cannot be written.
pub fn write_page(
    records: &[RunRecord],
    extras: &PageExtras,
    dir: &Path,
) -> Result<PathBuf, ReportError> {
    let names = file_names(records)?;
    let scenarios = summarise_against(records, extras.baseline.as_deref());
    let pages = pages(records, &names, extras, &scenarios)?;
    let files = Files { dir };
    for (name, table) in data::tables(&scenarios) {
        files.write("data", name, table.to_csv()?.as_bytes())?;
    }
    for (record, name) in records.iter().zip(&names) {
        record.write(&files.below("records", name)?)?;
    }
    for page in &pages {
        for figure in &page.figures {
            let folder = format!("figures/{}", page.folder);
            let write = |ending: &str, bytes: &[u8]| {
                files.write(&folder, &format!("{}.{ending}", slug(&figure.text.id)), bytes)
            };
            let sheet = figure.sheet();
            write("svg", sheet.svg()?.as_bytes())?;
            if extras.bitmaps == Bitmaps::Written {
                write("png", &sheet.png()?)?;
            }
            write("csv", figure.data.to_csv()?.as_bytes())?;
        }
        files.write("", &page.file, page.html.as_bytes())?;
    }
    Ok(dir.join(INDEX))
}

/// The way into a report.
const INDEX: &str = "index.html";

/// Where a report is written.
struct Files<'d> {
    dir: &'d Path,
}

impl Files<'_> {
    /// The path of a file in a folder of the report, which is made.
    fn below(&self, folder: &str, name: &str) -> Result<PathBuf, ReportError> {
        let folder = self.dir.join(folder);
        fs::create_dir_all(&folder)
            .map_err(|reason| ReportError::Io { path: folder.clone(), reason })?;
        Ok(folder.join(name))
    }

    fn write(&self, folder: &str, name: &str, bytes: &[u8]) -> Result<(), ReportError> {
        let path = self.below(folder, name)?;
        fs::write(&path, bytes).map_err(|reason| ReportError::Io { path, reason })
    }
}

/// A file name for each record, all different.
fn file_names(records: &[RunRecord]) -> Result<Vec<String>, ReportError> {
    if records.is_empty() {
        return Err(ReportError::Empty);
    }
    fn run(r: &RunRecord) -> impl PartialEq + '_ {
        let rate = r.plan.rate_per_s.to_bits();
        let started = r.environment.started_unix_s;
        let of = (&r.scenario.name, &r.variant, &r.system, r.world);
        (of, r.seed, rate, started, &r.environment.machine)
    }
    let mut names: Vec<String> = Vec::with_capacity(records.len());
    for (i, record) in records.iter().enumerate() {
        record.validate(Path::new(&record.file_name()))?;
        if records[..i].iter().any(|r| run(r) == run(record)) {
            return Err(ReportError::Duplicate {
                scenario: record.scenario.name.clone(),
                variant: record.variant.clone(),
                seed: record.seed,
            });
        }
        let mut name = record.file_name();
        if names.contains(&name) {
            // The same seed on another system or in another world.
            let stem = name.trim_end_matches(".json");
            name = format!("{stem}--{}-{}.json", world_name(record.world), slug(&record.system));
        }
        let stem = name.trim_end_matches(".json").to_owned();
        let mut copy = 1;
        while names.contains(&name) {
            // Names that differ only in what a file name cannot hold.
            copy += 1;
            name = format!("{stem}--{copy}.json");
        }
        names.push(name);
    }
    Ok(names)
}

/// One page and what is drawn on it.
struct Written {
    file: String,
    html: String,
    /// Where its figures are, below `figures`.
    folder: String,
    figures: Vec<Figure>,
}

/// What all parts of a scenario's page are made from.
struct Content<'r> {
    scenario: &'r ScenarioSummary,
    /// The scenario's runs, each with the name of its file.
    runs: Vec<(&'r RunRecord, &'r str)>,
    extras: &'r PageExtras,
    /// What to distrust about the scenario.
    doubts: Vec<String>,
    /// Where its figures are, from the page.
    folder: String,
}

fn pages(
    records: &[RunRecord],
    names: &[String],
    extras: &PageExtras,
    scenarios: &[ScenarioSummary],
) -> Result<Vec<Written>, ReportError> {
    let doubts = warnings(records, scenarios);
    let alone = scenarios.len() == 1;
    let mut pages = Vec::new();
    for scenario in scenarios {
        let name = &scenario.scenario.name;
        let runs = records.iter().zip(names).filter(|(r, _)| r.scenario.name == *name);
        let about_it = |doubt: &&Doubt| {
            let rest = doubt.about.strip_prefix(name);
            alone || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with([',', ' ']))
        };
        let content = Content {
            scenario,
            runs: runs.map(|(record, file)| (record, file.as_str())).collect(),
            extras,
            doubts: in_lines(&doubts.iter().filter(about_it).cloned().collect::<Vec<_>>()),
            folder: slug(name),
        };
        let file = if alone { INDEX.to_owned() } else { file_of(scenario) };
        pages.push(written(&content, file, alone)?);
    }
    if !alone {
        let html = index::html(scenarios, records, extras, &in_lines(&doubts));
        let (file, folder) = (INDEX.to_owned(), String::new());
        pages.push(Written { file, html, folder, figures: Vec::new() });
    }
    Ok(pages)
}

/// The page of one scenario; `alone` when it is the only one of the report.
fn written(content: &Content<'_>, file: String, alone: bool) -> Result<Written, ReportError> {
    let scenario = content.scenario;
    let runs = content.runs.iter().map(|(run, _)| *run);
    let figures = figures::all(&Shown::of(scenario, runs));
    let title = match content.extras.title.as_str() {
        title if alone && !title.is_empty() => title.to_owned(),
        _ => scenario.scenario.title.clone(),
    };
    let page = shell::Page {
        title,
        lead: verdict::lead(content, alone),
        up: (!alone).then(|| (INDEX, "All scenarios".to_owned())),
        parts: vec![
            ("verdict", "Verdict", verdict::html(content, alone)),
            ("comparison", "Comparison", comparison::html(scenario)),
            ("figures", "Figures", figures::html(content, &figures)?),
            ("told", "One run, told", told::html(content)),
            ("reproduce", "Reproduce", reproduce::html(content)),
        ],
    };
    let html = page.html(content.extras);
    Ok(Written { file, html, folder: content.folder.clone(), figures })
}

/// The page of a scenario that is one of several. Never `index.html`.
fn file_of(scenario: &ScenarioSummary) -> String {
    format!("scenario-{}.html", slug(&scenario.scenario.name))
}

/// Where a variant's expectations stand on its scenario's page, by its place among the variants.
fn variant_anchor(place: usize) -> String {
    format!("variant-{place}")
}

/// A verdict as sign and word, for those who do not see the colour.
fn verdict_mark(passed: bool, must_fail: bool) -> &'static str {
    match passed {
        true if must_fail => "<span class=\"meant\">◇ missed, as meant</span>",
        true => "<span class=\"pass\">✓ held</span>",
        false => "<span class=\"fail\">✗ failed</span>",
    }
}
