//! The program's rooms, in the order in which they are entered.

mod args;
mod commands;
mod compare;
mod drive;
mod exposition;
mod live;
mod output;
mod search;
mod settings;
mod targets;

use std::fs::File;
use std::io::{self, Write as _};
use std::process::ExitCode;

use loadgen::doubt::Verdict;
use loadgen::record::Record;

use args::{Command, Format};
use drive::Kept;
use live::Live;
use settings::Settings;

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The arguments make no sense.
    #[error("{0}")]
    Usage(String),
    /// The run could not be made, or its report not be written.
    #[error("{0}")]
    Run(String),
}

impl Failure {
    /// 1 for a run that failed, 2 for wrong usage.
    pub(crate) fn code(&self) -> ExitCode {
        match self {
            Failure::Run(_) => ExitCode::from(1),
            Failure::Usage(_) => ExitCode::from(2),
        }
    }
}

/// The program from its arguments to its exit code.
pub(crate) fn run() -> Result<ExitCode, Failure> {
    let Some(line) = args::parse()? else { return Ok(ExitCode::SUCCESS) };
    match &line.command {
        None => measure(&Settings::new(&line.run)?),
        Some(Command::Search(args)) => search::search(args),
        Some(Command::Merge(args)) => commands::merge(args),
        Some(Command::Compare(args)) => compare::compare_two(args),
        Some(Command::Man { command }) => commands::manual(command.as_deref()),
        Some(Command::Completions { shell }) => commands::completions(*shell),
        Some(Command::Schema { document }) => commands::schema(*document),
    }
}

/// One run and its report.
fn measure(settings: &Settings) -> Result<ExitCode, Failure> {
    let subjects = drive::subjects(&settings.watch)?;
    // Opened before the run: a report that cannot be written is a run for nothing.
    let file = settings.output.as_deref().map(open).transpose()?;
    let hgrm = settings.series.hgrm.as_deref().map(live::create).transpose()?;
    let mut live = Live::open(&settings.series, &settings.load)?;

    let kept = Kept {
        every: settings.series.every,
        series: settings.format == Format::Json,
        watch: subjects,
    };
    let record = drive::drive(&settings.load, &mut live, kept)?;
    if let (Some(file), Some(times)) = (hgrm, record.times.get("response")) {
        replace(file, &output::hgrm::render(&times.histogram))
            .map_err(|e| Failure::Run(format!("cannot write the distribution: {e}")))?;
    }
    let render = |record: &Record| match settings.format {
        Format::Text => output::text::render(record, settings.load.latency),
        Format::Json => json(record),
    };
    conclude(&record, render, file)
}

/// Writes the report and finds the exit code: 0, 3 if an objective was missed, 4 if the run is
/// void, which also an objective that was met does not make good.
fn conclude(
    record: &Record,
    render: impl FnOnce(&Record) -> String,
    file: Option<File>,
) -> Result<ExitCode, Failure> {
    deliver(&render(record), file)?;
    Ok(if record.verdict() == Verdict::Void {
        ExitCode::from(4)
    } else if record.slos.iter().any(|slo| !slo.holds) {
        ExitCode::from(3)
    } else {
        ExitCode::SUCCESS
    })
}

/// Writes a report to where it is wanted.
fn deliver(report: &str, file: Option<File>) -> Result<(), Failure> {
    match file {
        Some(file) => {
            replace(file, report).map_err(|e| Failure::Run(format!("cannot write the report: {e}")))
        }
        None => print(report),
    }
}

/// A document as one line of JSON.
fn json(document: &impl serde::Serialize) -> String {
    let text = serde_json::to_string(document);
    // Its keys are text and its numbers finite: there is nothing that JSON cannot say.
    text.map(|text| text + "\n").unwrap_or_default()
}

/// One line on standard error. If nobody can read it there, the exit code still says it.
pub(crate) fn complain(failure: &Failure) {
    let _ = io::stderr().write_all(format!("loadgen: {failure}\n").as_bytes());
}

/// Standard output; a reader that has seen enough and gone is no failure.
fn print(text: &str) -> Result<(), Failure> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::Run(format!("cannot write the report: {error}")))
        }
        _ => Ok(()),
    }
}

/// Opens the report's file, and leaves what is in it until there is something to replace it.
fn open(path: &std::path::Path) -> Result<File, Failure> {
    File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(|e| Failure::Run(format!("cannot write {}: {e}", path.display())))
}

fn replace(mut file: File, text: &str) -> io::Result<()> {
    // Devices and pipes have no length to set.
    if file.metadata()?.is_file() {
        file.set_len(0)?;
    }
    file.write_all(text.as_bytes())
}
