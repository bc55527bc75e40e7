//! What can be asked for on the command line.

use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand, ValueEnum};

use super::Failure;
use super::settings::usage;

const EXAMPLES: &str = "\
Examples:
  2000 requests per second for ten seconds, all percentiles:
    loadgen -R 2000 -d 10s --latency http://127.0.0.1:8080/
  As many as 32 connections carry, over HTTP/2:
    loadgen --closed -c 32 --http2 https://example.net/
  A gate for CI, Poisson arrivals, the record kept:
    loadgen -R 500 -d 1m --warmup 5s --arrival poisson --slo 'p99<250ms' \\
        --slo 'errors<0.1%' --format json -o run.json http://127.0.0.1:8080/

Exit codes: 0 done, 1 failed to run, 2 wrong usage, 3 an objective was missed,
4 void: the numbers do not measure what was asked.
";

/// Sends HTTP requests by the clock, whether or not the server keeps up, and
/// accounts for every one of them.
///
/// Latency counts from the instant at which a request was planned, so waiting
/// for a slow server is part of it.
#[derive(Debug, Parser)]
#[command(
    name = "loadgen",
    version,
    max_term_width = 80,
    after_help = EXAMPLES,
    args_conflicts_with_subcommands = true,
    disable_help_subcommand = true,
    subcommand_negates_reqs = true
)]
pub(super) struct Line {
    #[command(subcommand)]
    pub(super) command: Option<Command>,

    #[command(flatten)]
    pub(super) run: RunArgs,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Find the highest rate that meets the objectives
    Search(Box<SearchArgs>),
    /// Combine the JSON records of several machines exactly
    Merge(MergeArgs),
    /// Print the differences of two JSON records with their intervals
    Compare(CompareArgs),
    /// Print the manual page, of a command if one is named
    Man {
        /// Which command
        command: Option<String>,
    },
    /// Print the completions of a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Print the JSON schema of a record
    Schema {
        /// Of which document
        #[arg(value_enum, default_value = "record")]
        document: Document,
    },
}

/// A run.
#[derive(Clone, Debug, Args)]
pub(super) struct RunArgs {
    #[command(flatten)]
    pub(super) load: LoadArgs,

    /// Format of the report: text or json
    #[arg(
        long,
        value_enum,
        default_value = "text",
        value_name = "FORMAT",
        hide_possible_values = true
    )]
    pub(super) format: Format,

    /// Write the report to a file
    #[arg(short, long, value_name = "FILE")]
    pub(super) output: Option<PathBuf>,

    /// Write an HdrHistogram V2 interval log of response times
    #[arg(long, value_name = "FILE", hide_short_help = true)]
    pub(super) hdr_log: Option<PathBuf>,

    /// Write the percentile distribution of response times (.hgrm)
    #[arg(long, value_name = "FILE", hide_short_help = true)]
    pub(super) hgrm: Option<PathBuf>,

    /// Write a time series as comma-separated values
    #[arg(long, value_name = "FILE", hide_short_help = true)]
    pub(super) csv: Option<PathBuf>,

    /// Watch a process: how much processor time and memory it uses; repeatable
    ///
    /// With all that it started, by /proc, at each interval. For example
    /// loadgen -R 2000 --watch $(pidof -s haproxy)=haproxy http://127.0.0.1:80/
    #[arg(long, value_name = "PID[=NAME]", allow_hyphen_values = true, hide_short_help = true)]
    pub(super) watch: Vec<String>,

    /// Length of an interval of record, log, series, exposition and watching
    #[arg(long, value_name = "TIME", default_value = "1s", hide_short_help = true)]
    pub(super) interval: String,

    /// Serve Prometheus metrics at this address while running, such as
    /// 127.0.0.1:9100
    #[arg(long, value_name = "ADDRESS", hide_short_help = true)]
    pub(super) prometheus: Option<std::net::SocketAddr>,
}

/// The load, and how it is judged.
#[derive(Clone, Debug, Args)]
pub(super) struct LoadArgs {
    /// What to request, such as http://host:port/path
    ///
    /// Several are asked in equal shares. Paths, headers and bodies may have
    /// {{index}}, {{random 1..1000}} and {{hex 16}} in them, which differ from
    /// request to request.
    #[arg(value_name = "URL")]
    pub(super) urls: Vec<String>,

    /// Requests per second, over all connections
    #[arg(short = 'R', long, allow_hyphen_values = true, value_name = "RATE")]
    pub(super) rate: Option<String>,

    /// As fast as answers come, in place of a rate
    ///
    /// A closed loop: each connection asks again as soon as it is answered.
    /// It finds what a server can carry, and hides every wait that it causes.
    #[arg(long, conflicts_with_all = ["rate", "stages", "replay", "arrival", "deadline"])]
    pub(super) closed: bool,

    /// How long, such as 500ms or 2m [default: 10s]
    #[arg(short, long, allow_hyphen_values = true, conflicts_with = "count", value_name = "TIME")]
    pub(super) duration: Option<String>,

    /// How many requests, in place of a duration
    #[arg(
        short = 'n',
        long,
        allow_hyphen_values = true,
        conflicts_with = "warmup",
        value_name = "N"
    )]
    pub(super) count: Option<String>,

    /// The most connections to one address
    ///
    /// They are opened as they are needed.
    #[arg(short, long, default_value = "128", allow_hyphen_values = true, value_name = "N")]
    pub(super) connections: String,

    /// Threads to send from
    ///
    /// Connections and requests are shared out among them.
    #[arg(short, long, default_value = "1", allow_hyphen_values = true, value_name = "N")]
    pub(super) threads: String,

    /// constant, poisson, uniform or burst:K
    ///
    /// How arrivals are spread over time: evenly; as independent users; one in
    /// each gap at random; K at once.
    #[arg(long, default_value = "constant", value_name = "HOW")]
    pub(super) arrival: String,

    /// A rate that changes evenly between points, such as 0:100,30s:5000; two
    /// points at one time are a step
    #[arg(long, value_name = "POINTS", hide_short_help = true,
        conflicts_with_all = ["rate", "duration", "count", "replay"])]
    pub(super) stages: Option<String>,

    /// Send at the times in a file, one a line, in seconds
    #[arg(long, value_name = "FILE", hide_short_help = true,
        conflicts_with_all = ["rate", "duration", "count", "arrival"])]
    pub(super) replay: Option<PathBuf>,

    /// Seed of arrivals, targets and random places
    #[arg(long, default_value = "0", allow_hyphen_values = true, hide_short_help = true)]
    pub(super) seed: String,

    /// Send this long before measuring
    ///
    /// The duration counts from its end. Stages and replays have it within.
    #[arg(long, value_name = "TIME", default_value = "0s", allow_hyphen_values = true)]
    pub(super) warmup: String,

    /// Wait this long for answers after the last request [default: the
    /// timeout]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, hide_short_help = true)]
    pub(super) drain: Option<String>,

    /// Cancel a request after this long on the wire
    #[arg(long, default_value = "10s", allow_hyphen_values = true, value_name = "TIME")]
    pub(super) timeout: String,

    /// Later answers are late; what is past it is not sent
    ///
    /// It counts from the planned instant. Answers later than this are counted
    /// as late, and requests past it before they could be sent are shed.
    #[arg(long, allow_hyphen_values = true, value_name = "TIME")]
    pub(super) deadline: Option<String>,

    /// Cancel what is in flight at its deadline
    #[arg(long, requires = "deadline", hide_short_help = true)]
    pub(super) cancel: bool,

    /// The most requests in flight [default: as many as connections and
    /// streams carry]
    #[arg(long, value_name = "N", allow_hyphen_values = true, hide_short_help = true)]
    pub(super) max_in_flight: Option<String>,

    /// What a request does that finds no room: it waits, and its clock runs,
    /// or it is not sent
    #[arg(long, value_enum, default_value = "queue", hide_short_help = true)]
    pub(super) overflow: OverflowArg,

    /// Close a connection after so many requests; 1 for a new one each time
    #[arg(long, value_name = "N", allow_hyphen_values = true, hide_short_help = true)]
    pub(super) requests_per_connection: Option<String>,

    /// Request method [default: GET; POST with a body]
    #[arg(short = 'X', long, value_name = "NAME")]
    pub(super) method: Option<String>,

    /// A header field, as 'name: value'; repeatable
    #[arg(short = 'H', long = "header", value_name = "FIELD")]
    pub(super) headers: Vec<String>,

    /// Request body, or @FILE to read it from a file
    #[arg(short, long, allow_hyphen_values = true, value_name = "TEXT")]
    pub(super) body: Option<String>,

    /// Take {{ in the body as it stands
    #[arg(long, hide_short_help = true)]
    pub(super) raw_body: bool,

    /// A TOML file of [[targets]] with url, weight, method, headers and body
    #[arg(long, value_name = "FILE", conflicts_with_all = ["urls", "method", "headers", "body"],
        hide_short_help = true)]
    pub(super) targets: Option<PathBuf>,

    /// Speak HTTP/1.1, which is the default
    #[arg(long, conflicts_with = "http2", hide_short_help = true)]
    pub(super) http1: bool,

    /// Speak HTTP/2
    ///
    /// Negotiated over https, taken for granted over http.
    #[arg(long)]
    pub(super) http2: bool,

    /// The most streams on one HTTP/2 connection
    #[arg(
        long,
        default_value = "100",
        allow_hyphen_values = true,
        requires = "http2",
        hide_short_help = true
    )]
    pub(super) streams: String,

    /// Trust these certificates (PEM) in place of the system's
    #[arg(long, value_name = "FILE", hide_short_help = true)]
    pub(super) cacert: Option<PathBuf>,

    /// Trust any server
    #[arg(short = 'k', long, conflicts_with = "cacert", hide_short_help = true)]
    pub(super) insecure: bool,

    /// Show this certificate (PEM) to servers that ask
    #[arg(long, value_name = "FILE", requires = "key", hide_short_help = true)]
    pub(super) cert: Option<PathBuf>,

    /// The key (PEM) of that certificate
    #[arg(long, value_name = "FILE", requires = "cert", hide_short_help = true)]
    pub(super) key: Option<PathBuf>,

    /// Statuses that are well, such as 200,300-399 [default: below 400]
    #[arg(long, value_name = "STATUSES", hide_short_help = true)]
    pub(super) expect_status: Option<String>,

    /// Text that each good answer has to contain
    #[arg(long, value_name = "TEXT", hide_short_help = true)]
    pub(super) expect_body: Option<String>,

    /// Tell backends apart by this response header
    #[arg(long, value_name = "NAME", hide_short_help = true)]
    pub(super) backend_header: Option<String>,

    /// How to wait between requests: precise is late by microseconds and
    /// sleeps where that costs nothing; spin never sleeps; coarse is late by a
    /// millisecond or two
    #[arg(long, value_enum, default_value = "precise", hide_short_help = true)]
    pub(super) pacing: Pacing,

    /// An objective: 'p99<250ms', 'errors<0.1%'; repeatable
    ///
    /// Exit code 3 if it is missed. Times are response, response_ok, service,
    /// service_ok, first_byte, send_lag, connection_wait and connect, as in
    /// service:p99.9<=1s; also mean, max, errors, success and rate>=990.
    #[arg(long = "slo", value_name = "BOUND")]
    pub(super) slos: Vec<String>,

    /// Print more percentiles
    #[arg(long)]
    pub(super) latency: bool,

    /// No progress
    #[arg(short, long, hide_short_help = true)]
    pub(super) quiet: bool,
}

/// A search.
#[derive(Clone, Debug, Args)]
pub(super) struct SearchArgs {
    #[command(flatten)]
    pub(super) load: LoadArgs,

    /// The first rate to try
    #[arg(long, default_value = "100", allow_hyphen_values = true)]
    pub(super) from: String,

    /// The highest rate to try
    #[arg(long, default_value = "1000000", allow_hyphen_values = true)]
    pub(super) max: String,

    /// How closely to find it, in percent of the rate
    #[arg(long, default_value = "5", allow_hyphen_values = true)]
    pub(super) precision: String,

    /// How often to try a rate near the knee
    #[arg(long, default_value = "3", allow_hyphen_values = true)]
    pub(super) repeats: String,

    /// Format of the report: text, or json with every run
    #[arg(
        long,
        value_enum,
        default_value = "text",
        value_name = "FORMAT",
        hide_possible_values = true
    )]
    pub(super) format: Format,

    /// Write the report to a file
    #[arg(short, long, value_name = "FILE")]
    pub(super) output: Option<PathBuf>,
}

/// A merge.
#[derive(Clone, Debug, Args)]
pub(super) struct MergeArgs {
    /// JSON records
    #[arg(required = true)]
    pub(super) records: Vec<PathBuf>,

    /// Format of the report
    #[arg(long, value_enum, default_value = "text")]
    pub(super) format: Format,

    /// Write the report to a file
    #[arg(short, long, value_name = "FILE")]
    pub(super) output: Option<PathBuf>,

    /// An objective to hold the whole against
    #[arg(long = "slo", value_name = "BOUND")]
    pub(super) slos: Vec<String>,

    /// Print more percentiles
    #[arg(long)]
    pub(super) latency: bool,
}

/// A comparison.
#[derive(Clone, Debug, Args)]
pub(super) struct CompareArgs {
    /// The JSON record to compare with
    pub(super) a: PathBuf,

    /// The JSON record to compare
    pub(super) b: PathBuf,

    /// Format of the differences
    #[arg(long, value_enum, default_value = "text")]
    pub(super) format: Format,
}

/// What has a schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Document {
    /// What a run writes with --format json
    Record,
    /// What a search writes
    Search,
    /// What a comparison writes
    Compare,
}

/// What becomes of requests that find no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum OverflowArg {
    Queue,
    Skip,
}

/// How to wait for planned instants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Pacing {
    Precise,
    Spin,
    Coarse,
}

impl Pacing {
    pub(super) fn name(self) -> &'static str {
        match self {
            Pacing::Precise => "precise",
            Pacing::Spin => "spin",
            Pacing::Coarse => "coarse",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    Text,
    Json,
}

/// The line as it was typed; `None` when help or the version was asked for and has been printed.
pub(super) fn parse() -> Result<Option<Line>, Failure> {
    match Line::try_parse() {
        Ok(line) => Ok(Some(line)),
        Err(error) => match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
                super::print(&error.render().to_string()).map(|()| None)
            }
            _ => Err(usage(one_line(&error.render().to_string()))),
        },
    }
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
        Line::command().debug_assert();
        for help in [Line::command().render_long_help(), Line::command().render_help()] {
            for line in help.to_string().lines() {
                assert!(line.chars().count() <= 80, "{line}");
            }
        }
        // One screen for a newcomer, and everything for who asks for it.
        let short = Line::command().render_help().to_string();
        assert!(short.lines().count() <= 52, "{} lines\n{short}", short.lines().count());
        assert_eq!(short.matches("\n    loadgen ").count(), 3);
        let long = Line::command().render_long_help().to_string();
        for argument in Line::command().get_arguments().filter_map(clap::Arg::get_long) {
            assert!(long.contains(&format!("--{argument}")), "{argument}");
        }
    }

    #[test]
    fn a_complaint_is_one_line() {
        let error = Line::try_parse_from(["loadgen", "merge"]).unwrap_err();
        let line = one_line(&error.render().to_string());
        assert_eq!(
            line,
            "the following required arguments were not provided: <RECORDS>...; see loadgen --help"
        );
    }
}
