//! The command `search`: runs at one rate after another, and what is said of them.

use std::fs::File;
use std::process::ExitCode;

use schemars::JsonSchema;
use serde::Serialize;

use loadgen::doubt::Verdict;
use loadgen::record::{DoubtRecord, Record, SloRecord};
use loadgen::search::{Knee, Options, Phase, Search, Step};

use super::args::{Format, SearchArgs};
use super::drive::{Kept, drive};
use super::live::Live;
use super::settings::{Load, bounded, number, usage};
use super::{Failure, deliver, json, open, print};

/// The version of [`Found`].
const SCHEMA: &str = "meshbench.loadgen.search/1";

/// What `--format json` writes.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(title = "Search")]
pub(super) struct Found {
    /// `meshbench.loadgen.search/1`.
    schema: String,
    /// Of the load generator.
    version: String,
    /// The first rate, in requests per second.
    from_per_s: f64,
    /// The highest rate that may be tried.
    max_per_s: f64,
    /// Up to which share of the rate it was to be known.
    precision: f64,
    /// How often a rate near the knee was tried.
    repeats: u32,
    /// The objectives, as they were written.
    slos: Vec<String>,
    /// Each run, in order.
    tries: Vec<Tried>,
    /// The highest rate that was confirmed; none if no rate was.
    holds_per_s: Option<f64>,
    /// The lowest rate that failed; none if no rate did.
    fails_per_s: Option<f64>,
}

/// One run of a search.
#[derive(Debug, Serialize, JsonSchema)]
struct Tried {
    /// Requests per second.
    rate_per_s: f64,
    /// `grow`, `bisect`, `repeat` or `confirm`.
    phase: String,
    /// It met all objectives and is not void.
    holds: bool,
    /// `valid`, `suspect` or `void`.
    verdict: String,
    /// The objectives and what was measured.
    slos: Vec<SloRecord>,
    /// What speaks against believing the run.
    doubts: Vec<DoubtRecord>,
}

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
    let file = args.output.as_deref().map(open).transpose()?;
    let options = Options { from, max, precision, repeats };
    let mut search = Search::new(options);
    let mut tries = Vec::new();
    say(args, &format!("{:>12}  {:<8} {:<7} measured\n", "requests/s", "phase", "holds"))?;
    loop {
        let (rate, phase) = match search.step() {
            Step::Found(knee) => {
                return found(args, &Found::new(options, &load, tries, knee), file);
            }
            Step::Try { rate, phase } => (rate, phase),
        };
        let mut tried = load.at_rate(rate)?;
        if phase == Phase::Confirm {
            tried.duration = tried.duration.map(|d| d * CONFIRM_TIMES);
            tried = tried.at_rate(rate)?;
        }
        let record = drive(&tried, &mut Live::silent(), Kept::default())?;
        let is_over = record.interrupted;
        let is_void = record.verdict() == Verdict::Void;
        let holds = !is_void && record.slos.iter().all(|slo| slo.holds);
        let tried = Tried::new(rate, phase, holds, record);
        say(args, &tried.line())?;
        if is_over {
            return Err(Failure::Run("interrupted before the knee was found".to_owned()));
        }
        tries.push(tried);
        search.record(holds);
    }
}

/// As the search goes on: to standard error where the report is a document.
fn say(args: &SearchArgs, line: &str) -> Result<(), Failure> {
    match args.format {
        Format::Text if args.output.is_none() => print(line),
        _ if args.load.quiet => Ok(()),
        _ => {
            // Nobody may be listening; the document comes all the same.
            let _ = std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes());
            Ok(())
        }
    }
}

fn found(args: &SearchArgs, found: &Found, file: Option<File>) -> Result<ExitCode, Failure> {
    let rendered = match args.format {
        Format::Text => found.sentence(),
        Format::Json => json(found),
    };
    deliver(&rendered, file)?;
    Ok(if found.holds_per_s.is_some() { ExitCode::SUCCESS } else { ExitCode::from(3) })
}

impl Tried {
    fn new(rate_per_s: f64, phase: Phase, holds: bool, record: Record) -> Self {
        let Record { verdict, slos, doubts, .. } = record;
        Self { rate_per_s, phase: phase.name().to_owned(), holds, verdict, slos, doubts }
    }

    fn line(&self) -> String {
        let Self { rate_per_s, phase, .. } = self;
        let mut words: Vec<String> =
            self.slos.iter().map(|s| format!("{}: {}", s.slo, s.measured)).collect();
        // Why a rate that met its objectives does not count, or only just.
        words.extend(self.doubts.iter().take(1).map(|d| format!("{}: {}", d.verdict, d.doubt)));
        let holds = if self.holds { "yes" } else { "no" };
        format!("{rate_per_s:>12.1}  {phase:<8} {holds:<7} {}\n", words.join("; "))
    }
}

impl Found {
    fn new(options: Options, load: &Load, tries: Vec<Tried>, knee: Knee) -> Self {
        let Options { from, max, precision, repeats } = options;
        Self {
            schema: SCHEMA.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            from_per_s: from,
            max_per_s: max,
            precision,
            repeats,
            slos: load.slos.iter().map(ToString::to_string).collect(),
            tries,
            holds_per_s: knee.holds,
            fails_per_s: knee.fails,
        }
    }

    fn sentence(&self) -> String {
        match (self.holds_per_s, self.fails_per_s) {
            (Some(holds), Some(fails)) => format!(
                "The knee lies between {holds:.1} and {fails:.1} requests/s: {holds:.1} was \
                 confirmed, {fails:.1} failed\n"
            ),
            (Some(holds), None) => format!(
                "{holds:.1} requests/s were confirmed, and no more were tried; raise --max\n"
            ),
            (None, _) => "No rate met the objectives; lower --from, or ask for less\n".to_owned(),
        }
    }
}
