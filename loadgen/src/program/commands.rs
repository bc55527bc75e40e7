//! What the program does besides a single run: search, merge, compare, and its own papers.

use std::path::Path;
use std::process::ExitCode;

use clap::CommandFactory as _;

use loadgen::compare::{Difference, Unit, compare};
use loadgen::doubt::Verdict;
use loadgen::record::Record;
use loadgen::search::{Knee, Options, Phase, Search, Step};

use super::args::{CompareArgs, Format, Line, MergeArgs, SearchArgs};
use super::drive::{Kept, drive};
use super::live::Live;
use super::output::text::short;
use super::settings::{Load, bounded, number, slos, usage};
use super::{Failure, conclude, print};

/// A confirmation lasts so many times as long as a try.
const CONFIRM_TIMES: u32 = 2;

/// Finds the highest rate that meets the objectives.
pub(super) fn search(args: &SearchArgs) -> Result<ExitCode, Failure> {
    let above = "a number above 0";
    let from = number::<f64>(&args.from, "--from", above)?;
    let max = number::<f64>(&args.max, "--max", above)?;
    let precision = number::<f64>(&args.precision, "--precision", "a share such as 5")? / 100.0;
    if !(from > 0.0 && max >= from) {
        return Err(usage("--from has to be above 0 and no more than --max".to_owned()));
    }
    if !(0.001..=0.5).contains(&precision) {
        return Err(usage("--precision: give percent from 0.1 to 50".to_owned()));
    }
    let repeats = bounded(&args.repeats, "--repeats", 1, 99)? as u32;
    let load = Load::new(&args.load, Some(from))?;
    if load.slos.is_empty() {
        return Err(usage("a search needs an objective, such as --slo 'p99<250ms'".to_owned()));
    }
    if load.plan.is_closed() || args.load.stages.is_some() || args.load.replay.is_some() {
        return Err(usage("a search decides the rate: leave out --closed and the like".to_owned()));
    }
    let mut search = Search::new(Options { from, max, precision, repeats });
    print(&format!("{:>12}  {:<8} {:<7} measured\n", "requests/s", "phase", "holds"))?;
    loop {
        let (rate, phase) = match search.step() {
            Step::Found(knee) => return found(knee),
            Step::Try { rate, phase } => (rate, phase),
        };
        let mut tried = load.at_rate(rate)?;
        if phase == Phase::Confirm {
            tried.duration = tried.duration.map(|d| d * CONFIRM_TIMES);
            tried = tried.at_rate(rate)?;
        }
        let record = drive(&tried, &mut Live::silent(), Kept::default())?;
        let is_void = record.verdict() == Verdict::Void;
        let holds = !is_void && record.slos.iter().all(|slo| slo.holds);
        print(&tried_line(rate, phase, holds, &record))?;
        if record.interrupted {
            return Err(Failure::Run("interrupted before the knee was found".to_owned()));
        }
        search.record(holds);
    }
}

fn tried_line(rate: f64, phase: Phase, holds: bool, record: &Record) -> String {
    let mut words: Vec<String> =
        record.slos.iter().map(|s| format!("{}: {}", s.slo, s.measured)).collect();
    // Why a rate that met its objectives does not count, or only just.
    words.extend(record.doubts.iter().take(1).map(|d| format!("{}: {}", d.verdict, d.doubt)));
    let holds = if holds { "yes" } else { "no" };
    format!("{rate:>12.1}  {:<8} {holds:<7} {}\n", phase.name(), words.join("; "))
}

fn found(knee: Knee) -> Result<ExitCode, Failure> {
    let text = match (knee.holds, knee.fails) {
        (Some(holds), Some(fails)) => {
            format!(
                "The knee lies between {holds:.1} and {fails:.1} requests/s: {holds:.1} was \
                     confirmed, {fails:.1} failed\n"
            )
        }
        (Some(holds), None) => {
            format!("{holds:.1} requests/s were confirmed, and no more were tried; raise --max\n")
        }
        (None, _) => "No rate met the objectives; lower --from, or ask for less\n".to_owned(),
    };
    print(&text)?;
    Ok(if knee.holds.is_some() { ExitCode::SUCCESS } else { ExitCode::from(3) })
}

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

/// Prints differences.
pub(super) fn compare_two(args: &CompareArgs) -> Result<ExitCode, Failure> {
    let (a, b) = (read(&args.a)?, read(&args.b)?);
    let mut text = format!("{:<16}{:>12}{:>12}{:>12}   95 % interval\n", "", "A", "B", "B - A");
    for difference in compare(&a, &b) {
        text.push_str(&difference_line(&difference));
    }
    for (name, record) in [("A", &a), ("B", &b)] {
        if record.verdict() != Verdict::Valid {
            text.push_str(&format!("{name} is {}: compare with care\n", record.verdict));
        }
    }
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn difference_line(difference: &Difference) -> String {
    let write = |value: f64| match difference.unit {
        Unit::Seconds => {
            let sign = if value < 0.0 { "-" } else { "" };
            let size = std::time::Duration::from_secs_f64(value.abs());
            format!("{sign}{}", short(size))
        }
        Unit::Share => format!("{:.3} %", value * 100.0),
        Unit::PerSecond => format!("{value:.1}/s"),
    };
    let Difference { name, a, b, interval, .. } = difference;
    let between = match interval {
        Some((low, high)) => {
            let noise = if difference.is_within_noise() { "  within noise" } else { "" };
            format!("   {} to {}{noise}", write(*low), write(*high))
        }
        None => String::new(),
    };
    let (one, two, less) = (write(*a), write(*b), write(b - a));
    format!("{name:<16}{one:>12}{two:>12}{less:>12}{between}\n")
}

fn read(path: &Path) -> Result<Record, Failure> {
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

/// The schema of a record.
pub(super) fn schema() -> Result<ExitCode, Failure> {
    let schema = schemars::schema_for!(Record);
    let text = serde_json::to_string_pretty(&schema)
        .map_err(|e| Failure::Run(format!("cannot make the schema: {e}")))?;
    print(&format!("{text}\n")).map(|()| ExitCode::SUCCESS)
}
