//! What the program does with records of earlier runs, and its own papers.

use std::path::Path;
use std::process::ExitCode;

use clap::CommandFactory as _;

use loadgen::record::Record;

use super::args::{Document, Format, Line, MergeArgs};
use super::compare::Comparison;
use super::search::Found;
use super::settings::{slos, usage};
use super::{Failure, conclude, print};

/// Combines records.
pub(super) fn merge(args: &MergeArgs) -> Result<ExitCode, Failure> {
    let mut records = args.records.iter().map(|path| read(path));
    let mut whole = records.next().ok_or_else(|| usage("no records to merge".to_owned()))??;
    for record in records {
        whole.merge(&record?);
    }
    whole.judge(&slos(&args.slos)?);
    let render = |record: &Record| match args.format {
        Format::Text => super::output::text::render(record, args.latency),
        Format::Json => super::json(record),
    };
    let file = args.output.as_deref().map(super::open).transpose()?;
    conclude(&whole, render, file)
}

pub(super) fn read(path: &Path) -> Result<Record, Failure> {
    let named = |why: String| Failure::Run(format!("{}: {why}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|e| named(e.to_string()))?;
    Record::from_json(&text).map_err(|e| named(e.to_string()))
}

/// The manual page, of the whole or of one command.
pub(super) fn manual(command: Option<&str>) -> Result<ExitCode, Failure> {
    let mut line = Line::command();
    // Only then do commands know their full names.
    line.build();
    if let Some(name) = command {
        let names: Vec<&str> = line.get_subcommands().map(|c| c.get_name()).collect();
        let unknown = || usage(format!("no command {name}; name one of {}", names.join(", ")));
        line = line.find_subcommand(name).ok_or_else(unknown)?.clone();
    }
    let mut page = Vec::new();
    clap_mangen::Man::new(line)
        .render(&mut page)
        .map_err(|e| Failure::Run(format!("cannot make the manual page: {e}")))?;
    print(&String::from_utf8_lossy(&page)).map(|()| ExitCode::SUCCESS)
}

/// A shell's completions.
pub(super) fn completions(shell: clap_complete::Shell) -> Result<ExitCode, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Line::command(), "loadgen", &mut script);
    print(&String::from_utf8_lossy(&script)).map(|()| ExitCode::SUCCESS)
}

/// The schema of a document.
pub(super) fn schema(of: Document) -> Result<ExitCode, Failure> {
    let schema = match of {
        Document::Record => schemars::schema_for!(Record),
        Document::Search => schemars::schema_for!(Found),
        Document::Compare => schemars::schema_for!(Comparison),
    };
    let text = serde_json::to_string_pretty(&schema)
        .map_err(|e| Failure::Run(format!("cannot make the schema: {e}")))?;
    print(&format!("{text}\n")).map(|()| ExitCode::SUCCESS)
}
