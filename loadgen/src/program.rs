//! The program's rooms, in the order in which they are entered.

mod args;
mod drive;
mod json;
mod text;

use std::fs::File;
use std::io::{self, Write as _};
use std::process::ExitCode;

use loadgen::doubt::{self, Doubt, Verdict};

use args::{Format, Settings};
use drive::Measured;

/// Everything that a report is made from.
struct Report<'a> {
    settings: &'a Settings,
    measured: &'a Measured,
    doubts: Vec<Doubt>,
    verdict: Verdict,
}

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

/// The program from its arguments to its exit code: 0, or 4 if the run is void.
pub(crate) fn run() -> Result<ExitCode, Failure> {
    let Some(settings) = args::parse()? else { return Ok(ExitCode::SUCCESS) };
    // Opened before the run: a report that cannot be written is a run for nothing.
    let file = settings.output.as_ref().map(|path| open(path)).transpose()?;

    let measured = drive::drive(&settings)?;
    let doubts = Doubt::of(&settings.plan, &measured.recorder, &measured.end);
    let verdict = doubt::verdict(&doubts);
    let report = Report { settings: &settings, measured: &measured, doubts, verdict };
    let rendered = match settings.format {
        Format::Text => text::render(&report),
        Format::Json => json::render(&report),
    };

    match file {
        Some(file) => replace(file, &rendered)
            .map_err(|e| Failure::Run(format!("cannot write the report: {e}")))?,
        None => print(&rendered)?,
    }
    Ok(if verdict == Verdict::Void { ExitCode::from(4) } else { ExitCode::SUCCESS })
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
