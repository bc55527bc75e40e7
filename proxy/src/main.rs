//! The program `sidecar`: arguments, signals, runtime. Everything else is the library's.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser;
use mimalloc::MiMalloc;
use proxy::Config;
use proxy::config::InputError;
use rand::TryRng as _;
use rand::rngs::SysRng;

mod server;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// A reference sidecar: carries HTTP/1.1 requests to the endpoint that is likely to answer first.
#[derive(Parser)]
#[command(version, max_term_width = 80, after_help = EXAMPLES)]
struct Arguments {
    /// The configuration file, in TOML
    #[arg(long, value_name = "FILE")]
    config: PathBuf,

    /// Check the configuration file and stop
    #[arg(long)]
    check: bool,
}

const EXAMPLES: &str = "\
Examples:
  sidecar --config sidecar.toml            run until SIGTERM or Ctrl-C, then drain
  sidecar --config sidecar.toml --check    only say whether the file is right
  kill -HUP PID                            read the file again; nobody loses a request
  RUST_LOG=debug sidecar --config …        with a line for each refused request

A small configuration:
  [admin]
  listen = \"127.0.0.1:9901\"
  [[listeners]]
  name = \"outbound\"
  listen = \"127.0.0.1:15001\"
  [[clusters]]
  name = \"web\"
  endpoints = [\"127.0.0.1:9001\", \"127.0.0.1:9002\"]
  [[routes]]
  cluster = \"web\"

Exit codes: 0 drained, 1 failed to run, 2 wrong arguments or configuration";

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    start_logging();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let wrong_input = error.downcast_ref::<InputError>();
            match wrong_input {
                // With the line of the file.
                Some(error) => say(&format!("{error:#}")),
                None => say(&format!("{error:#}")),
            }
            let usage = wrong_input.is_some();
            ExitCode::from(if usage { 2 } else { 1 })
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let config = Config::load(&arguments.config)?;
    if arguments.check {
        say(&format!("{} is right", arguments.config.display()));
        return Ok(());
    }
    let seed = match config.seed {
        Some(seed) => seed,
        None => SysRng.try_next_u64().context("drawing a seed from the operating system")?,
    };
    let workers = workers(&config);
    let runtime = runtime(workers).context("starting the worker threads")?;
    runtime.block_on(server::run(config, &arguments.config, seed, workers))
}

/// One for each core, unless the configuration says otherwise.
fn workers(config: &Config) -> usize {
    let cores = || std::thread::available_parallelism().unwrap_or(std::num::NonZeroUsize::MIN);
    config.workers.unwrap_or_else(cores).get()
}

/// One worker needs no locks between threads; more share the work by stealing it.
fn runtime(workers: usize) -> io::Result<tokio::runtime::Runtime> {
    let mut builder = if workers == 1 {
        tokio::runtime::Builder::new_current_thread()
    } else {
        tokio::runtime::Builder::new_multi_thread()
    };
    builder.worker_threads(workers).enable_all().build()
}

fn start_logging() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).init();
}

/// A line to the user. Nobody has to be listening, which `eprintln!` would panic over.
fn say(line: &str) {
    let _ = writeln!(io::stderr(), "sidecar: {line}");
}
