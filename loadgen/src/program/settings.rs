//! What was asked for: text → checked settings.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::HeaderName;

use loadgen::dial::TlsOptions;
use loadgen::record::Asked;
use loadgen::slo::Slo;
use loadgen::{Aim, Arrivals, Expect, Mix, Overflow, Plan, Protocol, Stage, Target};

use super::Failure;
use super::args::{Format, LoadArgs, OverflowArg, Pacing, RunArgs};
use super::targets;

/// The most processes that are watched: each costs a look at every interval.
const MOST_WATCHED: usize = 16;

/// The longest name of one: a column of the report.
const LONGEST_NAME: usize = 24;

/// The arguments of a run, understood.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) load: Load,
    pub(super) format: Format,
    pub(super) output: Option<PathBuf>,
    pub(super) series: Series,
    pub(super) watch: Vec<Wanted>,
}

/// A process to watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) pid: u32,
    pub(super) name: Option<String>,
}

/// Outputs that are written while the run goes on, and the distribution at its end.
#[derive(Clone, Debug)]
pub(super) struct Series {
    pub(super) every: Duration,
    pub(super) hdr_log: Option<PathBuf>,
    pub(super) hgrm: Option<PathBuf>,
    pub(super) csv: Option<PathBuf>,
    pub(super) prometheus: Option<SocketAddr>,
}

/// The load, understood.
#[derive(Clone, Debug)]
pub(super) struct Load {
    pub(super) plan: Plan,
    pub(super) arrivals: Arrivals,
    /// How long to send, but for the warm-up; `None` if a count is to be sent.
    pub(super) duration: Option<Duration>,
    stages: Option<String>,
    pub(super) seed: u64,
    pub(super) warmup: Duration,
    pub(super) mix: Mix,
    pub(super) tls: TlsOptions,
    pub(super) expect: Expect,
    pub(super) protocol: Protocol,
    pub(super) connections: usize,
    pub(super) threads: usize,
    pub(super) timeout: Duration,
    pub(super) deadline: Option<Duration>,
    pub(super) cancel: bool,
    pub(super) drain: Duration,
    pub(super) max_in_flight: Option<usize>,
    pub(super) overflow: Overflow,
    pub(super) requests_per_connection: Option<NonZeroU32>,
    pub(super) pacing: Pacing,
    pub(super) slos: Vec<Slo>,
    pub(super) latency: bool,
    pub(super) quiet: bool,
}

impl Settings {
    pub(super) fn new(args: &RunArgs) -> Result<Settings, Failure> {
        Ok(Settings {
            load: Load::new(&args.load, None)?,
            format: args.format,
            output: args.output.clone(),
            watch: wanted(&args.watch)?,
            series: Series {
                every: duration(&args.interval, "--interval")?,
                hdr_log: args.hdr_log.clone(),
                hgrm: args.hgrm.clone(),
                csv: args.csv.clone(),
                prometheus: args.prometheus,
            },
        })
    }
}

impl Load {
    /// The load; `rate` in place of the one on the line, for who decides it elsewhere.
    pub(super) fn new(args: &LoadArgs, rate: Option<f64>) -> Result<Load, Failure> {
        let seed = number::<u64>(&args.seed, "--seed", "a whole number from 0")?;
        let arrivals = arrivals(&args.arrival)?;
        let warmup = match args.warmup.as_str() {
            "0" | "0s" => Duration::ZERO,
            text => duration(text, "--warmup")?,
        };
        let planned = plan(args, Asking { rate, arrivals, seed, warmup })?;
        let connections = bounded(&args.connections, "--connections", 1, 65_535)?;
        let threads = bounded(&args.threads, "--threads", 1, 256)?;
        if threads > connections {
            return Err(usage(format!(
                "--threads {threads} need at least as many connections; raise -c to {threads} or \
                 more"
            )));
        }
        let max_in_flight = optional_bounded(args.max_in_flight.as_deref(), "--max-in-flight")?;
        if max_in_flight.is_some_and(|bound| bound < threads) {
            return Err(usage("--max-in-flight needs at least one for each thread".to_owned()));
        }
        let streams = bounded(&args.streams, "--streams", 1, 10_000)?;
        let per_connection =
            optional_bounded(args.requests_per_connection.as_deref(), "--requests-per-connection")?;
        let per_connection = per_connection.and_then(|n| NonZeroU32::new(n as u32));
        if args.http2 && per_connection.is_some() {
            return Err(usage("--requests-per-connection is for HTTP/1.1 only".to_owned()));
        }
        let timeout = duration(&args.timeout, "--timeout")?;
        let deadline = args.deadline.as_deref().map(|text| duration(text, "--deadline"));
        let drain = args.drain.as_deref().map(|text| duration(text, "--drain"));
        Ok(Load {
            plan: planned.plan,
            duration: planned.duration,
            stages: args.stages.clone(),
            arrivals,
            seed,
            warmup,
            mix: mix(args)?,
            tls: TlsOptions {
                authorities: args.cacert.clone(),
                identity: args.cert.clone().zip(args.key.clone()),
                is_insecure: args.insecure,
                is_http2: args.http2,
            },
            expect: expect(args)?,
            protocol: if args.http2 { Protocol::Http2 { streams } } else { Protocol::Http1 },
            connections,
            threads,
            timeout,
            deadline: deadline.transpose()?,
            cancel: args.cancel,
            drain: drain.transpose()?.unwrap_or(timeout),
            max_in_flight,
            overflow: match args.overflow {
                OverflowArg::Queue => Overflow::Queue,
                OverflowArg::Skip => Overflow::Skip,
            },
            requests_per_connection: per_connection,
            pacing: args.pacing,
            slos: slos(&args.slos)?,
            latency: args.latency,
            quiet: args.quiet,
        })
    }

    /// The same at another rate.
    pub(super) fn at_rate(&self, rate: f64) -> Result<Load, Failure> {
        let duration = self.duration.unwrap_or(Duration::from_secs(10)) + self.warmup;
        let plan = Plan::new(self.arrivals, rate, duration, self.seed).map_err(wrong)?;
        Ok(Load { plan, ..self.clone() })
    }

    /// True when connections are encrypted to some target.
    pub(super) fn uses_tls(&self) -> bool {
        self.mix.aims().iter().any(|aim| aim.target.is_tls())
    }

    /// What was asked for, as it is kept.
    pub(super) fn asked(&self) -> Asked {
        let nanos = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let aims = self.mix.aims();
        let named = |aim: &Aim| format!("{} {}", aim.target.method(), aim.target.url());
        let spoken = match self.protocol {
            Protocol::Http1 => "http/1.1",
            Protocol::Http2 { .. } => "h2",
        };
        let arrivals = match (self.plan.pattern(), self.arrivals) {
            (loadgen::plan::Pattern::Closed, _) => "closed".to_owned(),
            (loadgen::plan::Pattern::Replay, _) => "replay".to_owned(),
            (_, Arrivals::Burst(size)) => format!("burst:{size}"),
            (_, arrivals) => arrivals.name().to_owned(),
        };
        Asked {
            targets: aims.iter().map(named).collect(),
            arrivals,
            rate_per_s: (!self.plan.is_closed()).then(|| self.plan.rate_per_s()),
            stages: self.stages.clone(),
            duration_ns: self.duration.map(nanos),
            count: self.plan.is_counted().then(|| self.plan.len()),
            warmup_ns: nanos(self.warmup),
            seed: self.seed,
            protocol: format!("{spoken}{}", if self.uses_tls() { "+tls" } else { "" }),
            connections: self.connections as u64,
            streams: match self.protocol {
                Protocol::Http1 => 1,
                Protocol::Http2 { streams } => streams as u64,
            },
            threads: self.threads as u64,
            timeout_ns: nanos(self.timeout),
            deadline_ns: self.deadline.map(nanos),
            drain_ns: nanos(self.drain),
            overflow: match self.overflow {
                Overflow::Queue => "queue".to_owned(),
                Overflow::Skip => "skip".to_owned(),
            },
            pacing: self.pacing.name().to_owned(),
        }
    }
}

/// What a plan is made from besides its own options.
struct Asking {
    rate: Option<f64>,
    arrivals: Arrivals,
    seed: u64,
    warmup: Duration,
}

struct Planned {
    plan: Plan,
    duration: Option<Duration>,
}

fn plan(args: &LoadArgs, asking: Asking) -> Result<Planned, Failure> {
    let Asking { rate, arrivals, seed, warmup } = asking;
    let by_end = |plan: Plan| Planned { duration: Some(plan.end()), plan };
    if let Some(text) = &args.stages {
        let plan = Plan::staged(arrivals, &stages(text)?, seed).map_err(wrong)?;
        return within(by_end(plan), warmup);
    }
    if let Some(path) = &args.replay {
        let named = |why: String| usage(format!("--replay {}: {why}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|e| named(e.to_string()))?;
        let times = loadgen::plan::parse_timestamps(&text).map_err(|e| named(e.to_string()))?;
        let plan = Plan::replay(times).map_err(|e| named(e.to_string()))?;
        return within(by_end(plan), warmup);
    }
    let count = args.count.as_deref();
    let count = count.map(|text| number::<u64>(text, "--count", "a whole number from 1"));
    let count = count.transpose()?;
    let lasting = duration(args.duration.as_deref().unwrap_or("10s"), "--duration")?;
    if args.closed {
        let plan = match count {
            Some(count) => Plan::closed_with_count(count),
            None => Plan::closed(lasting + warmup),
        };
        let plan = plan.map_err(wrong)?;
        return Ok(Planned { plan, duration: count.is_none().then_some(lasting) });
    }
    let typed = args.rate.as_deref();
    let typed = typed.map(|text| number(text, "--rate", "a number above 0, such as 2000"));
    let rate = rate.or(typed.transpose()?).ok_or_else(|| {
        let how = "say how fast: -R 1000 for a rate, or --closed for as fast as answers come";
        usage(how.to_owned())
    })?;
    let plan = match count {
        Some(count) => Plan::with_count(arrivals, rate, count, seed),
        None => Plan::new(arrivals, rate, lasting + warmup, seed),
    };
    Ok(Planned { plan: plan.map_err(wrong)?, duration: count.is_none().then_some(lasting) })
}

/// A plan of its own length has its warm-up within.
fn within(planned: Planned, warmup: Duration) -> Result<Planned, Failure> {
    let end = planned.plan.end();
    if warmup >= end {
        return Err(usage(format!("--warmup takes all of the plan's {end:?}; shorten it")));
    }
    Ok(Planned { duration: Some(end - warmup), ..planned })
}

fn arrivals(text: &str) -> Result<Arrivals, Failure> {
    let burst = text.strip_prefix("burst:").and_then(|size| size.parse().ok());
    match (text, burst) {
        ("constant", _) => Ok(Arrivals::Constant),
        ("poisson", _) => Ok(Arrivals::Poisson),
        ("uniform", _) => Ok(Arrivals::Uniform),
        (_, Some(size)) => Ok(Arrivals::Burst(size)),
        _ => Err(usage(format!(
            "--arrival {text}: give constant, poisson, uniform or burst:K, such as burst:10"
        ))),
    }
}

fn stages(text: &str) -> Result<Vec<Stage>, Failure> {
    let unreadable = || usage(format!("--stages {text}: write points such as 0:100,30s:5000"));
    let point = |point: &str| {
        let (at, rate) = point.trim().split_once(':')?;
        let at = if at == "0" { Duration::ZERO } else { humantime::parse_duration(at).ok()? };
        Some(Stage { at, rate_per_s: rate.parse().ok()? })
    };
    text.split(',').map(|p| point(p).ok_or_else(unreadable)).collect()
}

fn mix(args: &LoadArgs) -> Result<Mix, Failure> {
    if let Some(path) = &args.targets {
        return targets::read(path);
    }
    if args.urls.is_empty() {
        return Err(usage("say what to request: a <URL>, or --targets FILE".to_owned()));
    }
    let body = args.body.as_deref().map(body).transpose()?;
    let aims = args.urls.iter().map(|url| {
        let mut target = Target::from_url(url).map_err(wrong)?;
        if let Some(method) = args.method.as_deref().or(body.as_ref().map(|_| "POST")) {
            target = target.with_method(method).map_err(wrong)?;
        }
        for field in &args.headers {
            let (name, value) = field.split_once(':').ok_or_else(|| {
                usage(format!("`{field}` is not a header field; write it as `name: value`"))
            })?;
            target = target.with_header(name, value.trim()).map_err(wrong)?;
        }
        if let Some(body) = &body {
            target = match args.raw_body {
                true => target.with_body(body),
                false => target.with_body_template(body),
            }
            .map_err(wrong)?;
        }
        Ok(Aim { address: target.address(), target, weight: 1 })
    });
    Mix::new(aims.collect::<Result<_, Failure>>()?).map_err(wrong)
}

fn body(text: &str) -> Result<Vec<u8>, Failure> {
    match text.strip_prefix('@') {
        Some(path) => std::fs::read(Path::new(path))
            .map_err(|e| usage(format!("cannot read the body from {path}: {e}"))),
        None => Ok(text.as_bytes().to_vec()),
    }
}

fn expect(args: &LoadArgs) -> Result<Expect, Failure> {
    let header = args.backend_header.as_deref().map(|name| {
        name.parse::<HeaderName>()
            .map_err(|_| usage(format!("--backend-header {name}: give the name of a header field")))
    });
    Ok(Expect {
        statuses: args.expect_status.as_deref().map(statuses).transpose()?,
        body: args.expect_body.clone().map(String::into_bytes),
        backend_header: header.transpose()?,
    })
}

fn statuses(text: &str) -> Result<Vec<RangeInclusive<u16>>, Failure> {
    let range = |part: &str| {
        let (low, high) = part.trim().split_once('-').unwrap_or((part.trim(), part.trim()));
        let (low, high) = (low.parse().ok()?, high.parse().ok()?);
        (100 <= low && low <= high && high <= 999).then_some(low..=high)
    };
    let unreadable =
        || usage(format!("--expect-status {text}: write statuses such as 200,300-399"));
    text.split(',').map(|part| range(part).ok_or_else(unreadable)).collect()
}

/// The processes to watch: each once.
fn wanted(texts: &[String]) -> Result<Vec<Wanted>, Failure> {
    if texts.len() > MOST_WATCHED {
        return Err(usage(format!("--watch: give at most {MOST_WATCHED} processes")));
    }
    let one = |text: &String| {
        let (pid, name) = match text.split_once('=') {
            Some((pid, name)) => (pid, Some(name.to_owned())),
            None => (text.as_str(), None),
        };
        let fits = |name: &String| {
            let length = name.chars().count();
            (1..=LONGEST_NAME).contains(&length) && !name.chars().any(char::is_control)
        };
        let pid = pid.parse().ok().filter(|pid| *pid > 0);
        pid.filter(|_| name.iter().all(fits)).map(|pid| Wanted { pid, name }).ok_or_else(|| {
            usage(format!(
                "--watch {text}: give PID or PID=NAME, such as 4711=proxy; a name has 1 to \
                 {LONGEST_NAME} characters"
            ))
        })
    };
    let all = texts.iter().map(one).collect::<Result<Vec<Wanted>, Failure>>()?;
    let twice = |(i, wanted): &(usize, &Wanted)| all[..*i].iter().any(|w| w.pid == wanted.pid);
    match all.iter().enumerate().find(twice) {
        Some((_, wanted)) => Err(usage(format!("--watch: {} is there twice", wanted.pid))),
        None => Ok(all),
    }
}

pub(super) fn slos(texts: &[String]) -> Result<Vec<Slo>, Failure> {
    texts.iter().map(|text| text.parse().map_err(wrong)).collect()
}

pub(super) fn number<T: std::str::FromStr>(
    text: &str,
    option: &str,
    wanted: &str,
) -> Result<T, Failure> {
    text.parse().map_err(|_| usage(format!("{option} {text}: give {wanted}")))
}

pub(super) fn bounded(text: &str, option: &str, low: usize, high: usize) -> Result<usize, Failure> {
    let wanted = format!("a whole number from {low} to {high}");
    let value = number(text, option, &wanted)?;
    if (low..=high).contains(&value) {
        Ok(value)
    } else {
        Err(usage(format!("{option} {text}: give {wanted}")))
    }
}

fn optional_bounded(text: Option<&str>, option: &str) -> Result<Option<usize>, Failure> {
    text.map(|text| bounded(text, option, 1, 1_000_000)).transpose()
}

/// More than nothing, and at most as long as a plan may be.
pub(super) fn duration(text: &str, option: &str) -> Result<Duration, Failure> {
    match humantime::parse_duration(text) {
        Ok(duration) if duration > loadgen::plan::MAX_DURATION => {
            Err(usage(format!("{option} {text}: give at most 31 days")))
        }
        Ok(duration) if !duration.is_zero() => Ok(duration),
        _ => Err(usage(format!("{option} {text}: give a time above 0, such as 10s, 500ms or 2m"))),
    }
}

fn wrong(error: impl std::fmt::Display) -> Failure {
    usage(error.to_string())
}

pub(super) fn usage(text: String) -> Failure {
    Failure::Usage(text)
}
