//! One HTML file that opens from disk, on a desk, a phone and paper, with the records beside it.
//!
//! In reading order: `verdict` says what was run and what came of it, `section` shows one scenario,
//! `reproduce` says how to get the same again. The page needs no network and no script.

mod reproduce;
mod section;
mod verdict;

use std::fs;
use std::path::{Path, PathBuf};

use crate::figures::DrawError;
use crate::html::escape;
use crate::naming::slug;
use crate::record::{RecordError, RunRecord};
use crate::summary::{ScenarioSummary, doubts, summarise, world_name};

/// What a page says that is in no record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PageExtras {
    /// The page's heading; when empty, the title of its only scenario or a general one.
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
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the file system said.
        source: std::io::Error,
    },
    /// A figure could not be drawn.
    #[error(transparent)]
    Draw(#[from] DrawError),
}

/// Writes `dir/index.html`, and every record below `dir/records`, and returns the page's path.
///
/// The folders are made where they are missing. The same records and extras give the same bytes.
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
    let html = page(records, &names, extras)?;
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| ReportError::Io { path, source }
    };
    let folder = dir.join("records");
    fs::create_dir_all(&folder).map_err(failed(&folder))?;
    for (record, name) in records.iter().zip(&names) {
        record.write(&folder.join(name))?;
    }
    let path = dir.join("index.html");
    fs::write(&path, html).map_err(failed(&path))?;
    Ok(path)
}

/// A file name for each record, all different.
fn file_names(records: &[RunRecord]) -> Result<Vec<String>, ReportError> {
    if records.is_empty() {
        return Err(ReportError::Empty);
    }
    let run = |r: &RunRecord| {
        (r.scenario.name.clone(), r.variant.clone(), r.system.clone(), r.world, r.seed)
    };
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

/// What all parts of the page are made from.
struct Content<'r> {
    records: &'r [RunRecord],
    names: &'r [String],
    scenarios: &'r [ScenarioSummary],
    extras: &'r PageExtras,
    doubts: Vec<String>,
}

fn page(
    records: &[RunRecord],
    names: &[String],
    extras: &PageExtras,
) -> Result<String, ReportError> {
    let scenarios = summarise(records);
    let doubts = doubts(records, &scenarios);
    let content = Content { records, names, scenarios: &scenarios, extras, doubts };
    let mut body = verdict::html(&content);
    for scenario in &scenarios {
        body.push_str(&section::html(scenario)?);
    }
    body.push_str(&reproduce::html(&content));
    body.push_str(&footer(extras));
    Ok(format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{}</title>\n<style>\n{}</style>\n</head>\n<body>\n<main>\n{body}</main>\n</body>\n\
         </html>\n",
        escape(&content.title()),
        include_str!("page/style.css"),
    ))
}

impl Content<'_> {
    fn title(&self) -> String {
        match (self.extras.title.as_str(), self.scenarios) {
            ("", [only]) => only.scenario.title.clone(),
            ("", all) => format!("{} scenarios", all.len()),
            (title, _) => title.to_owned(),
        }
    }
}

/// The anchor of a scenario's section.
fn anchor(scenario: &ScenarioSummary) -> String {
    format!("scenario-{}", slug(&scenario.scenario.name))
}

/// A verdict as sign and word, for those who do not see the colour.
fn verdict_mark(passed: bool) -> &'static str {
    match passed {
        true => "<span class=\"pass\">✓ held</span>",
        false => "<span class=\"fail\">✗ failed</span>",
    }
}

fn footer(extras: &PageExtras) -> String {
    let generator = match extras.generator.as_str() {
        "" => String::new(),
        name => format!("<p>Written by {}.</p>\n", escape(name)),
    };
    format!("<footer>\n<h2>What the words mean</h2>\n{WORDS}{generator}</footer>\n")
}

const WORDS: &str = "<dl>\n\
<dt>Response time</dt><dd>From the instant at which a request was planned, not from when it was \
sent, to the last byte of its answer. A client that falls behind cannot hide that. Requests without \
an answer count with the time after which they were given up.</dd>\n\
<dt>Success</dt><dd>Answered below 400 and before the deadline, of all that were planned. What was \
never sent counts against it.</dd>\n\
<dt>Late</dt><dd>Answered well, but after the deadline; a failure.</dd>\n\
<dt>Timeout</dt><dd>Given up by the caller; a failure.</dd>\n\
<dt>Wasted</dt><dd>Requests that a backend had begun and nobody waited for any more.</dd>\n\
<dt>Goodput</dt><dd>Successes per second, by the time at which the requests were planned.</dd>\n\
<dt>Share</dt><dd>Requests that arrived at one backend, of all that arrived at its service, by the \
backends' own logs.</dd>\n\
<dt>p99</dt><dd>99 of 100 requests took at most this long. Percentiles of several runs come from \
their merged histograms, never from averages of percentiles.</dd>\n\
</dl>\n";
