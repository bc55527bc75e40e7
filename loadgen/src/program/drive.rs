//! The run on real sockets: one runtime a thread, sharing the plan.

use std::io::{self, IsTerminal as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use loadgen::{Options, PrecisePacer, Recorder, RunEnd, Sample, SleepPacer, TcpDialler};

use super::Failure;
use super::args::{Pacing, Settings};

/// Time for all threads to get ready before the plan starts.
const LEAD: Duration = Duration::from_millis(20);

/// How often a terminal is told how far the run has come.
const PROGRESS_EVERY: Duration = Duration::from_secs(2);

/// What a run yielded.
pub(super) struct Measured {
    pub(super) recorder: Recorder,
    pub(super) end: RunEnd,
}

/// Connects once to see that it is possible, then carries out the plan.
pub(super) fn drive(settings: &Settings) -> Result<Measured, Failure> {
    let runtime = runtime()?;
    runtime.block_on(async {
        let address = preflight(settings).await?;
        let (stop, stopped) = watch::channel(false);
        let done = Arc::new(AtomicU64::new(0));
        let start = Instant::now() + LEAD;
        let mut results = Vec::new();
        for worker in 0..settings.threads {
            let share = Share { worker, address: address.clone(), start };
            let (send, receive) = oneshot::channel();
            let (settings, stopped, done) = (settings.clone(), stopped.clone(), done.clone());
            thread::Builder::new()
                .name(format!("loadgen-{worker}"))
                .spawn(move || {
                    // Nobody waits for the result only if the program is ending anyway.
                    let _ = send.send(work(&settings, share, stopped, &done));
                })
                .map_err(|e| Failure::Run(format!("cannot start a thread: {e}")))?;
            results.push(receive);
        }
        attend(settings, collect(results), &stop, &done).await
    })
}

/// Waits for the result; passes on Ctrl-C and tells a terminal how far things are.
async fn attend(
    settings: &Settings,
    result: impl Future<Output = Result<Measured, Failure>>,
    stop: &watch::Sender<bool>,
    done: &AtomicU64,
) -> Result<Measured, Failure> {
    let mut result = std::pin::pin!(result);
    let mut interrupt = std::pin::pin!(tokio::signal::ctrl_c());
    let mut ticks = tokio::time::interval(PROGRESS_EVERY);
    ticks.tick().await;
    let shows_progress = io::stderr().is_terminal();
    loop {
        tokio::select! {
            biased;
            result = &mut result => return result,
            interrupted = &mut interrupt => {
                // Without a handler the signal ends the program by itself.
                if interrupted.is_ok() {
                    stop.send_replace(true);
                }
                return result.await;
            }
            _ = ticks.tick(), if shows_progress => {
                let (done, planned) = (done.load(Ordering::Relaxed), settings.plan.len());
                // Progress is a courtesy: a terminal that has gone does not end the run.
                let _ = writeln!(io::stderr(), "{done} of {planned} requests done");
            }
        }
    }
}

async fn collect(
    results: Vec<oneshot::Receiver<Result<Measured, Failure>>>,
) -> Result<Measured, Failure> {
    let mut all = Measured { recorder: Recorder::new(), end: RunEnd::default() };
    for result in results {
        let lost = |_| Failure::Run("a worker thread ended without a result".to_owned());
        let one = result.await.map_err(lost)??;
        all.recorder.merge(&one.recorder);
        all.end.merge(&one.end);
    }
    Ok(all)
}

/// One worker's part in the run.
struct Share {
    worker: usize,
    address: String,
    start: Instant,
}

fn work(
    settings: &Settings,
    share: Share,
    mut stopped: watch::Receiver<bool>,
    done: &AtomicU64,
) -> Result<Measured, Failure> {
    let plan = settings.plan.share(share.worker as u64, settings.threads as u64);
    let surplus = usize::from(share.worker < settings.connections % settings.threads);
    let options = Options {
        deadline: settings.deadline,
        timeout: settings.timeout,
        drain: settings.timeout,
        max_connections: settings.connections / settings.threads + surplus,
        start: Some(share.start),
        ..Options::new(settings.target.clone(), share.address)
    };
    let count = |_: &Sample| {
        done.fetch_add(1, Ordering::Relaxed);
    };
    let mut observer = (Recorder::new(), count);
    let end = runtime()?.block_on(async {
        let stop = async {
            // The sender outlives the workers; were it gone, stopping would be right.
            let _ = stopped.wait_for(|stopped| *stopped).await;
        };
        match settings.pacing {
            Pacing::Precise => {
                loadgen::run(plan, options, TcpDialler, PrecisePacer, stop, &mut observer).await
            }
            Pacing::Coarse => {
                loadgen::run(plan, options, TcpDialler, SleepPacer, stop, &mut observer).await
            }
        }
    });
    Ok(Measured { recorder: observer.0, end })
}

fn runtime() -> Result<Runtime, Failure> {
    Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::Run(format!("cannot start the runtime: {e}")))
}

/// The address that answers, so that names are looked up once and not in each connection.
async fn preflight(settings: &Settings) -> Result<String, Failure> {
    let address = settings.target.address();
    let failed = |why: String| Failure::Run(format!("cannot connect to {address}: {why}"));
    let connect = TcpStream::connect(address.as_str());
    let stream = match tokio::time::timeout(settings.timeout, connect).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(e)) if e.kind() == io::ErrorKind::ConnectionRefused => {
            return Err(failed("connection refused; is the server running?".to_owned()));
        }
        Ok(Err(e)) => return Err(failed(format!("{e}; check the host and the port"))),
        Err(_) => {
            return Err(failed(format!("no answer within {:?}; check the host", settings.timeout)));
        }
    };
    stream.peer_addr().map(|peer| peer.to_string()).map_err(|e| failed(e.to_string()))
}
