//! What the user asked for: text → checked settings.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Parser, ValueEnum};

use loadgen::{Arrivals, Plan, Target};

use super::Failure;

const EXAMPLES: &str = "\
Examples:
  Ten seconds at 2000 requests per second:
    loadgen -R 2000 -d 10s http://127.0.0.1:8080/

  Poisson arrivals, answers of use within 250 ms only, all percentiles:
    loadgen -R 500 -d 1m --arrival poisson --deadline 250ms --latency \\
        http://127.0.0.1:8080/search?q=mesh

  A thousand POSTs from a file, the record kept as JSON:
    loadgen -R 100 -n 1000 -X POST -H 'content-type: application/json' \\
        -b @body.json --format json -o run.json http://127.0.0.1:8080/items

Exit codes: 0 done, 1 failed to run, 2 wrong usage, 4 void: the numbers do not
measure what was asked.
";

/// Sends HTTP requests by the clock, whether or not the server keeps up, and
/// accounts for every one of them. Latency counts from the instant at which a
/// request was planned, so waiting for a slow server is part of it.
#[derive(Debug, Parser)]
#[command(name = "loadgen", version, max_term_width = 80, after_help = EXAMPLES)]
struct Args {
    /// What to request, as http://host:port/path
    url: String,

    /// Requests per second, over all connections
    #[arg(short = 'R', long, allow_hyphen_values = true)]
    rate: String,

    /// How long to send, such as 10s, 500ms or 2m [default: 10s]
    #[arg(short, long, allow_hyphen_values = true, conflicts_with = "count")]
    duration: Option<String>,

    /// How many requests to send, in place of a duration
    #[arg(short = 'n', long, allow_hyphen_values = true)]
    count: Option<String>,

    /// The most connections to open; they are opened as they are needed
    #[arg(short, long, default_value = "128", allow_hyphen_values = true)]
    connections: String,

    /// Threads to send from; connections and requests are shared out
    #[arg(short, long, default_value = "1", allow_hyphen_values = true)]
    threads: String,

    /// How arrivals are spread over time
    #[arg(long, value_enum, default_value = "constant")]
    arrival: Arrival,

    /// Seed of the Poisson arrivals
    #[arg(long, default_value = "0", allow_hyphen_values = true)]
    seed: String,

    /// Cancel a request this long after it was sent
    #[arg(long, default_value = "10s", allow_hyphen_values = true)]
    timeout: String,

    /// Count answers later than this after their planned instant as late, and
    /// do not send what is past it already
    #[arg(long, allow_hyphen_values = true)]
    deadline: Option<String>,

    /// Request method [default: GET, or POST with a body]
    #[arg(short = 'X', long)]
    method: Option<String>,

    /// A header field, as 'name: value'; may be given several times
    #[arg(short = 'H', long = "header", value_name = "FIELD")]
    headers: Vec<String>,

    /// Request body, or @FILE to read it from a file
    #[arg(short, long, allow_hyphen_values = true)]
    body: Option<String>,

    /// How to wait between requests: precise takes a whole core and is late by
    /// microseconds; coarse sleeps and is late by a millisecond or two
    #[arg(long, value_enum, default_value = "precise")]
    pacing: Pacing,

    /// Print more percentiles
    #[arg(long)]
    latency: bool,

    /// Format of the report
    #[arg(long, value_enum, default_value = "text")]
    format: Format,

    /// Write the report to a file
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Arrival {
    Constant,
    Poisson,
}

/// How to wait for planned instants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Pacing {
    Precise,
    Coarse,
}

impl Pacing {
    pub(super) fn name(self) -> &'static str {
        match self {
            Pacing::Precise => "precise",
            Pacing::Coarse => "coarse",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    Text,
    Json,
}

/// The arguments, understood.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) plan: Plan,
    pub(super) target: Target,
    pub(super) connections: usize,
    pub(super) threads: usize,
    pub(super) timeout: Duration,
    pub(super) deadline: Option<Duration>,
    pub(super) pacing: Pacing,
    pub(super) latency: bool,
    pub(super) format: Format,
    pub(super) output: Option<PathBuf>,
}

/// The settings; `None` when help or the version was asked for and has been printed.
pub(super) fn parse() -> Result<Option<Settings>, Failure> {
    match Args::try_parse() {
        Ok(args) => args.settle().map(Some),
        Err(error) => match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
                super::print(&error.render().to_string()).map(|()| None)
            }
            _ => Err(usage(one_line(&error.render().to_string()))),
        },
    }
}

impl Args {
    fn settle(self) -> Result<Settings, Failure> {
        let rate = number::<f64>(&self.rate, "--rate", "a number above 0, such as 2000")?;
        let seed = number::<u64>(&self.seed, "--seed", "a whole number from 0")?;
        let arrivals = match self.arrival {
            Arrival::Constant => Arrivals::Constant,
            Arrival::Poisson => Arrivals::Poisson,
        };
        let plan = match &self.count {
            Some(count) => {
                let count = number::<u64>(count, "--count", "a whole number from 1")?;
                Plan::with_count(arrivals, rate, count, seed)
            }
            None => {
                let text = self.duration.as_deref().unwrap_or("10s");
                Plan::new(arrivals, rate, duration(text, "--duration")?, seed)
            }
        };
        let connections = bounded(&self.connections, "--connections", 1, 65_535)?;
        let threads = bounded(&self.threads, "--threads", 1, 256)?;
        if threads > connections {
            return Err(usage(format!(
                "--threads {threads} need at least as many connections; raise -c to {threads} or \
                 more"
            )));
        }
        let timeout = duration(&self.timeout, "--timeout")?;
        let deadline = self.deadline.as_deref().map(|text| duration(text, "--deadline"));
        Ok(Settings {
            plan: plan.map_err(|e| usage(e.to_string()))?,
            target: self.target()?,
            connections,
            threads,
            timeout,
            deadline: deadline.transpose()?,
            pacing: self.pacing,
            latency: self.latency,
            format: self.format,
            output: self.output,
        })
    }

    fn target(&self) -> Result<Target, Failure> {
        let wrong = |e: loadgen::TargetError| usage(e.to_string());
        let mut target = Target::from_url(&self.url).map_err(wrong)?;
        let method = self.method.as_deref();
        if let Some(method) = method.or(self.body.as_ref().map(|_| "POST")) {
            target = target.with_method(method).map_err(wrong)?;
        }
        for field in &self.headers {
            let (name, value) = field.split_once(':').ok_or_else(|| {
                usage(format!("`{field}` is not a header field; write it as `name: value`"))
            })?;
            target = target.with_header(name, value.trim()).map_err(wrong)?;
        }
        if let Some(body) = &self.body {
            let bytes = match body.strip_prefix('@') {
                Some(path) => read_body(Path::new(path))?,
                None => body.as_bytes().to_vec(),
            };
            target = target.with_body(bytes).map_err(wrong)?;
        }
        Ok(target)
    }
}

fn read_body(path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path)
        .map_err(|e| usage(format!("cannot read the body from {}: {e}", path.display())))
}

fn number<T: std::str::FromStr>(text: &str, option: &str, wanted: &str) -> Result<T, Failure> {
    text.parse().map_err(|_| usage(format!("{option} {text}: give {wanted}")))
}

fn bounded(text: &str, option: &str, low: usize, high: usize) -> Result<usize, Failure> {
    let wanted = format!("a whole number from {low} to {high}");
    let value = number(text, option, &wanted)?;
    if (low..=high).contains(&value) {
        Ok(value)
    } else {
        Err(usage(format!("{option} {text}: give {wanted}")))
    }
}

/// More than nothing, and at most what the histograms tell apart.
fn duration(text: &str, option: &str) -> Result<Duration, Failure> {
    match humantime::parse_duration(text) {
        Ok(duration) if !duration.is_zero() && duration <= loadgen::plan::MAX_DURATION => {
            Ok(duration)
        }
        _ => Err(usage(format!("{option} {text}: give a time above 0, such as 10s, 500ms or 2m"))),
    }
}

fn usage(text: String) -> Failure {
    Failure::Usage(text)
}

/// The first paragraph of what clap says, on one line.
fn one_line(rendered: &str) -> String {
    let paragraph = rendered.split("\n\n").next().unwrap_or_default();
    let words: Vec<&str> = paragraph.split_whitespace().collect();
    let line = words.join(" ");
    format!("{}; see loadgen --help", line.strip_prefix("error: ").unwrap_or(&line))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_arguments_are_well_formed_and_their_help_fits_the_screen() {
        Args::command().debug_assert();
        let help = Args::command().render_long_help().to_string();
        for line in help.lines() {
            assert!(line.chars().count() <= 80, "{line}");
        }
    }

    #[test]
    fn a_complaint_is_one_line() {
        let error = Args::try_parse_from(["loadgen"]).unwrap_err();
        let line = one_line(&error.render().to_string());
        assert_eq!(
            line,
            "the following required arguments were not provided: --rate <RATE> <URL>; see \
             loadgen --help"
        );
    }
}
