//! The commands of `meshbench`.

mod backend;
mod compare;
mod format;
mod interrupt;
mod junit;
mod list;
mod progress;
mod replay;
mod report;
mod run;
mod schema;
mod span;
mod swarm;
mod sweep;
mod validate;

use std::io::{ErrorKind, Write as _};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use proxy::config::InputError;

/// Everything that was expected held.
const HELD: u8 = 0;
/// It could not be carried out.
const FAILED: u8 = 1;
/// The arguments or an input file are wrong. clap uses the same.
const USAGE: u8 = 2;
/// An expectation did not hold.
const MISSED: u8 = 3;
/// Stopped by Ctrl-C, as a shell would say it.
const INTERRUPTED: u8 = 130;

/// Simulates a service mesh under load and faults, compares balancing strategies, and writes a
/// report.
///
/// Without a command it runs the whole catalogue.
#[derive(Parser)]
#[command(name = "meshbench", version, max_term_width = 80, after_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Run scenarios in the simulator and write a report
    Run(run::Arguments),
    /// Run scenarios with many seeds, on all cores and several machines
    Sweep(sweep::Arguments),
    /// Write a report of any set of records
    Report(report::Arguments),
    /// Compare two sets of records
    Compare(compare::Arguments),
    /// Run random scenarios under what must always hold
    Swarm(swarm::Arguments),
    /// Run one run again, and compare it with its record
    Replay(replay::Arguments),
    /// List the scenarios of the catalogue
    List(list::Arguments),
    /// Print the JSON schema of scenario files, for editors
    Schema,
    /// Hold the simulator against queueing theory
    Validate(validate::Arguments),
    /// Serve a backend model on a real socket
    Backend(backend::Arguments),
}

const EXAMPLES: &str = "\
Examples:
  meshbench                                    the whole catalogue → report/index.html
  meshbench run skewed-latency --seeds 20      one scenario, more seeds
  meshbench run mine.toml --out mine           a file of your own
  meshbench run beyond-round-robin --variant peak_ewma --seed 3
                                               one run again
  meshbench sweep flapping --seeds 1000        many seeds, on all cores
  meshbench swarm --time 5m                    random scenarios
  meshbench backend --listen 127.0.0.1:9001 --service-time lognormal:20ms,200ms
                                               a server to measure against

Exit codes: 0 every expectation held, 1 failed to run, 2 wrong arguments or
input, 3 an expectation did not hold, 130 stopped by Ctrl-C";

/// Arguments that are each right and together wrong.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Usage(String);

/// Reads the arguments, does what they say, and returns the exit code.
pub fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        None => run::run(&run::Arguments::default()),
        Some(Command::Run(arguments)) => run::run(&arguments),
        Some(Command::Sweep(arguments)) => sweep::run(&arguments),
        Some(Command::Report(arguments)) => report::run(&arguments),
        Some(Command::Compare(arguments)) => compare::run(&arguments),
        Some(Command::Swarm(arguments)) => swarm::run(&arguments),
        Some(Command::Replay(arguments)) => replay::run(&arguments),
        Some(Command::List(arguments)) => list::run(&arguments),
        Some(Command::Schema) => schema::run(),
        Some(Command::Validate(arguments)) => validate::run(&arguments),
        Some(Command::Backend(arguments)) => backend::run(&arguments),
    };
    match done {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            let wrong_input = error.downcast_ref::<InputError>();
            match wrong_input {
                // With the line of the file.
                Some(error) => say(&format!("meshbench: {error:#}")),
                None => say(&format!("meshbench: {error:#}")),
            }
            let usage = wrong_input.is_some() || error.is::<Usage>();
            ExitCode::from(if usage { USAGE } else { FAILED })
        }
    }
}

/// A line for people, beside the output. Nobody reading it is no reason to fail.
fn say(line: &str) {
    // In one write, so that the lines of processes that share a terminal do not mix.
    let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
}

/// A line of the output. A reader that has had enough, such as `head`, is no reason to fail; a
/// disk that is full is one.
fn print(line: &str) -> anyhow::Result<()> {
    match std::io::stdout().write_all(format!("{line}\n").as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(error).context("writing the output")
        }
        _ => Ok(()),
    }
}
