//! The run on real sockets: one runtime a thread, sharing the plan.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use loadgen::dial::Place;
use loadgen::doubt::{Evidence, Machine};
use loadgen::interval::{Interval, Timeline};
use loadgen::machine::{self, Watcher};
use loadgen::record::Record;
use loadgen::run::Gauges;
use loadgen::watch::{AtWork, Schedule, Subject, Watch};
use loadgen::{
    Dialler, Event, LatencyHistogram, Observer, Options, PrecisePacer, Recorder, RunEnd, Sample,
    SleepPacer, SpinPacer,
};

use super::Failure;
use super::args::Pacing;
use super::live::{Live, News};
use super::settings::{Load, Wanted, usage};

/// Time for all threads to get ready before the plan starts.
const LEAD: Duration = Duration::from_millis(20);

/// How long a bare loop is measured before the run, and again after it: five thousand instants.
const FLOOR: Duration = Duration::from_millis(100);

/// Descriptors that are no connections of the run.
const SPARE_DESCRIPTORS: u64 = 32;

/// What is kept besides the books and histograms of the whole run.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// The length of an interval.
    pub(super) every: Duration,
    /// What happened in each.
    pub(super) series: bool,
    /// What these processes used.
    pub(super) watch: Vec<Subject>,
}

/// Finds the processes that are to be watched.
pub(super) fn subjects(wanted: &[Wanted]) -> Result<Vec<Subject>, Failure> {
    let mut subjects: Vec<Subject> = Vec::new();
    for Wanted { pid, name } in wanted {
        let subject = Subject::find(*pid, name.clone());
        let subject = subject.map_err(|why| usage(format!("--watch {pid}: {why}")))?;
        if subjects.iter().any(|other| other.name() == subject.name()) {
            let name = subject.name();
            return Err(usage(format!(
                "--watch {pid}: another one is called {name} too; name each, as in {pid}={name}-2"
            )));
        }
        subjects.push(subject);
    }
    Ok(subjects)
}

/// Carries out the load after connecting once to see that it is possible; `live` is told how it
/// goes.
pub(super) fn drive(load: &Load, live: &mut Live, kept: Kept) -> Result<Record, Failure> {
    check_descriptors(load)?;
    let runtime = runtime()?;
    let gauges = Arc::new(Gauges::default());
    let watcher = Watcher::start()
        .map_err(|e| Failure::Run(format!("cannot start the watcher's thread: {e}")))?;
    let cpu_before = machine::process_cpu();
    let mut watch = None;
    let measured = runtime.block_on(async {
        let dialler = preflight(load).await?;
        let (stop, stopped) = watch::channel(false);
        let stop = Arc::new(stop);
        let (news, heard) = std::sync::mpsc::channel();
        let measures_floor = measures_floor(load);
        let start = Instant::now() + LEAD + if measures_floor { FLOOR } else { Duration::ZERO };
        let begin = start + load.warmup;
        let begins_in = begin.saturating_duration_since(Instant::now());
        let mut at_work = None;
        if !kept.watch.is_empty() {
            let schedule = Schedule { begins_in, every: kept.every };
            let started = Watch::start(kept.watch, schedule).map_err(unstarted)?;
            (watch, at_work) = (Some(started.0), Some(started.1));
        }
        let mut results = Vec::new();
        for worker in 0..load.threads {
            let share = Share {
                worker,
                dialler: dialler.clone(),
                start,
                every: live.every(),
                series: kept.series.then_some(kept.every),
                at_work: at_work.clone(),
                news: news.clone(),
                gauges: gauges.clone(),
                stop: stop.clone(),
                stopped: stopped.clone(),
            };
            let (send, receive) = oneshot::channel();
            let load = load.clone();
            thread::Builder::new()
                .name(format!("loadgen-{worker}"))
                .spawn(move || {
                    // Nobody waits for the result only if the program is ending anyway.
                    let _ = send.send(work(&load, share));
                })
                .map_err(unstarted)?;
            results.push(receive);
        }
        drop((news, at_work));
        live.attend(load, heard, collect(results), &stop, start).await
    });
    let mut measured = measured?;
    measured.machine.hiccups = watcher.finish();
    measured.machine.watched = watch.map(Watch::finish).unwrap_or_default();
    measured.machine.process_cpu = machine::process_cpu().saturating_sub(cpu_before);
    // What threads counted together; the sum of their peaks is only an upper bound.
    measured.end.peak_in_flight = gauges.in_flight.peak();
    measured.end.peak_connections = gauges.connections.peak();
    let Measured { recorder, end, machine } = &measured;
    let evidence = Evidence { plan: &load.plan, warmup: load.warmup, recorder, end, machine };
    let mut record = Record::new(load.asked(), &evidence);
    record.judge(&load.slos);
    Ok(record)
}

fn unstarted(error: io::Error) -> Failure {
    Failure::Run(format!("cannot start a thread: {error}"))
}

/// A bare loop would be in the way where nothing is paced by polling.
fn measures_floor(load: &Load) -> bool {
    !load.plan.is_closed() && load.pacing != Pacing::Coarse
}

/// What a run yielded.
pub(super) struct Measured {
    recorder: Recorder,
    end: RunEnd,
    machine: Machine,
}

async fn collect(
    results: Vec<oneshot::Receiver<Result<Measured, Failure>>>,
) -> Result<Measured, Failure> {
    let mut all: Option<Measured> = None;
    for result in results {
        let lost = |_| Failure::Run("a worker thread ended without a result".to_owned());
        let one = result.await.map_err(lost)??;
        match &mut all {
            None => all = Some(one),
            Some(all) => {
                all.recorder.merge(&one.recorder);
                all.end.merge(&one.end);
                all.machine.thread_cpu.extend(one.machine.thread_cpu);
                all.machine.floor.merge(&one.machine.floor);
            }
        }
    }
    all.ok_or_else(|| Failure::Run("no thread has worked".to_owned()))
}

/// One worker's part in the run.
struct Share {
    worker: usize,
    dialler: Dialler,
    start: Instant,
    every: Option<Duration>,
    /// The length of an interval of the record's series.
    series: Option<Duration>,
    /// Held while requests are sent and answered.
    at_work: Option<AtWork>,
    news: Sender<News>,
    gauges: Arc<Gauges>,
    stop: Arc<watch::Sender<bool>>,
    stopped: watch::Receiver<bool>,
}

/// Everything that is told of a worker's requests.
struct Told<F> {
    recorder: Recorder,
    timeline: Option<Timeline<F>>,
    stop: Arc<watch::Sender<bool>>,
}

/// Shared between the run and the clock that cuts it into intervals.
struct Teller<F>(Rc<RefCell<Told<F>>>);

impl<F: FnMut(Interval)> Observer for Teller<F> {
    fn observe(&mut self, sample: &Sample) {
        let mut told = self.0.borrow_mut();
        told.recorder.observe(sample);
        if let Some(timeline) = &mut told.timeline {
            timeline.observe(sample);
        }
    }

    fn note(&mut self, event: Event<'_>) {
        let mut told = self.0.borrow_mut();
        told.recorder.note(event);
        if let Some(timeline) = &mut told.timeline {
            timeline.note(event);
        }
        // Without ports or descriptors no request tells anything more: end, and say so.
        if let Event::Failed(failure) = event
            && failure.shortage().is_some()
        {
            told.stop.send_replace(true);
        }
    }
}

fn work(load: &Load, share: Share) -> Result<Measured, Failure> {
    let (worker, threads) = (share.worker, load.threads);
    let plan = load.plan.share(worker as u64, threads as u64);
    let part = |whole: usize| whole / threads + usize::from(worker < whole % threads);
    let options = Options {
        mix: load.mix.clone(),
        seed: load.seed,
        expect: load.expect.clone(),
        protocol: load.protocol,
        deadline: load.deadline,
        cancel_at_deadline: load.cancel,
        timeout: load.timeout,
        max_connections: part(load.connections),
        max_in_flight: load.max_in_flight.map(part),
        overflow: load.overflow,
        requests_per_connection: load.requests_per_connection,
        drain: load.drain,
        start: Some(share.start),
        gauges: Some(share.gauges),
        ..Options::new(load.mix.aims()[0].target.clone(), String::new())
    };
    let news = share.news;
    let hand_on = move |interval| {
        // The other side has gone only if the program is ending anyway.
        let _ = news.send(News { worker, interval });
    };
    let recorder = Recorder::with(load.warmup, load.mix.aims().len());
    let told = Rc::new(RefCell::new(Told {
        recorder: match share.series {
            Some(every) => recorder.with_series(every),
            None => recorder,
        },
        timeline: share.every.map(|every| Timeline::new(every, hand_on)),
        stop: share.stop,
    }));
    let mut machine = Machine { floor: floor(load), ..Machine::default() };
    let cpu_before = machine::thread_cpu();
    let mut stopped = share.stopped;
    let end = runtime()?.block_on(async {
        let stop = async {
            // The sender outlives the workers; were it gone, stopping would be right.
            let _ = stopped.wait_for(|stopped| *stopped).await;
        };
        let mut teller = Teller(told.clone());
        let dialler = share.dialler;
        let run = async {
            match load.pacing {
                Pacing::Precise => {
                    let pacer = PrecisePacer::default();
                    loadgen::run(plan, options, dialler, pacer, stop, &mut teller).await
                }
                Pacing::Spin => {
                    loadgen::run(plan, options, dialler, SpinPacer, stop, &mut teller).await
                }
                Pacing::Coarse => {
                    loadgen::run(plan, options, dialler, SleepPacer, stop, &mut teller).await
                }
            }
        };
        match share.every {
            Some(every) => tokio::select! {
                end = run => end,
                never = cut(share.start, every, &told) => match never {},
            },
            None => run.await,
        }
    });
    drop(share.at_work);
    machine.thread_cpu = vec![machine::thread_cpu().saturating_sub(cpu_before)];
    machine.is_cpu_work = load.plan.is_closed() || load.pacing == Pacing::Coarse;
    machine.floor.merge(&floor(load));
    let Ok(told) = Rc::try_unwrap(told) else {
        return Err(Failure::Run("a run has ended and is still told of".to_owned()));
    };
    let Told { recorder, timeline, .. } = told.into_inner();
    if let Some(timeline) = timeline {
        timeline.finish();
    }
    Ok(Measured { recorder, end, machine })
}

fn floor(load: &Load) -> LatencyHistogram {
    if measures_floor(load) { machine::spin_floor(FLOOR) } else { LatencyHistogram::new() }
}

/// Ends intervals on time, also while nothing is answered.
async fn cut<F: FnMut(Interval)>(
    start: Instant,
    every: Duration,
    told: &RefCell<Told<F>>,
) -> std::convert::Infallible {
    let mut ticks = tokio::time::interval_at(start + every, every);
    loop {
        ticks.tick().await;
        let elapsed = Instant::now().saturating_duration_since(start);
        if let Some(timeline) = &mut told.borrow_mut().timeline {
            timeline.advance(elapsed);
        }
    }
}

fn runtime() -> Result<Runtime, Failure> {
    Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::Run(format!("cannot start the runtime: {e}")))
}

/// Fails before the run where it would fail in its midst.
fn check_descriptors(load: &Load) -> Result<(), Failure> {
    let (addresses, connections) = (addresses(load).len() as u64, load.connections as u64);
    let needed = addresses * connections + SPARE_DESCRIPTORS;
    match machine::raise_descriptor_limit() {
        Some(limit) if limit < needed => Err(Failure::Run(format!(
            "{connections} connections to {addresses} addresses need {needed} file descriptors, \
             and {limit} are allowed; lower -c, or raise the limit with ulimit -n {needed}"
        ))),
        _ => Ok(()),
    }
}

/// What is dialled: the name of each address's host, if TLS is spoken there.
fn addresses(load: &Load) -> BTreeMap<String, Option<String>> {
    let aims = load.mix.aims().iter();
    aims.map(|aim| {
        let host = aim.target.is_tls().then(|| aim.target.host().to_owned());
        (aim.address.clone(), host)
    })
    .collect()
}

/// Finds the places behind the addresses, so that names are looked up once and not for each
/// connection.
async fn preflight(load: &Load) -> Result<Dialler, Failure> {
    let config = match load.uses_tls() {
        true => Some(load.tls.build().map_err(|e| Failure::Run(e.to_string()))?),
        false => None,
    };
    let mut places = BTreeMap::new();
    for (address, host) in addresses(load) {
        let found = reach(&address, load.timeout).await?;
        let tls = match (host, &config) {
            (Some(host), Some(config)) => {
                let name = ServerName::try_from(host)
                    .map_err(|e| Failure::Run(format!("cannot speak TLS to {address}: {e}")))?;
                Some((config.clone(), name))
            }
            _ => None,
        };
        places.insert(address, Place { address: found, tls });
    }
    let mut dialler = Dialler::new(places);
    // The handshake too: a certificate that nobody trusts fails once and not at every request.
    for (address, _) in addresses(load).into_iter().filter(|(_, host)| host.is_some()) {
        let failed = |why: String| Failure::Run(format!("cannot connect to {address}: {why}"));
        let dial = tower::Service::call(&mut dialler, address.clone());
        match tokio::time::timeout(load.timeout, dial).await {
            Ok(Ok(_)) => {}
            Ok(Err(e)) => {
                return Err(failed(format!("{e}; see --cacert, --insecure, --cert and --http2")));
            }
            Err(_) => return Err(failed("no answer to the TLS handshake".to_owned())),
        }
    }
    Ok(dialler)
}

/// The address that answers.
async fn reach(address: &str, timeout: Duration) -> Result<SocketAddr, Failure> {
    let failed = |why: String| Failure::Run(format!("cannot connect to {address}: {why}"));
    let stream = match tokio::time::timeout(timeout, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(e)) if e.kind() == io::ErrorKind::ConnectionRefused => {
            return Err(failed("connection refused; is the server running?".to_owned()));
        }
        Ok(Err(e)) => return Err(failed(format!("{e}; check the host and the port"))),
        Err(_) => return Err(failed(format!("no answer within {timeout:?}; check the host"))),
    };
    stream.peer_addr().map_err(|e| failed(e.to_string()))
}
