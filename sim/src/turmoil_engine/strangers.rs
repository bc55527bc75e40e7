//! Clients that mean no good, or know no better: what they do to the client's sidecar, beside the
//! client.
//!
//! Each fault of theirs is played by tasks on a host of their own, which is there only if a world
//! has such a fault.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use turmoil::net::TcpStream;

use super::hosts::{FIRST_SIDECAR_PORT, SIDECARS};
use crate::clock::Clock;
use crate::fault::{FaultKind, StrangerFault};
use crate::trace::Trace;
use crate::world::{StrangerBooks, WorldSpec};

pub(super) const STRANGERS: &str = "strangers";

/// How a request begins that never comes to its end.
const HEAD: &[u8] = b"GET / HTTP/1.1\r\nhost: stranger\r\nx-endless: ";
/// How long one waits before it opens another connection in place of one that was cut.
const PAUSE: Duration = Duration::from_millis(100);

/// What they saw, shared by all of them.
pub(super) type Books = Arc<Mutex<StrangerBooks>>;

/// Adds their host, if there are any.
pub(super) fn add(sim: &mut turmoil::Sim<'static>, spec: &WorldSpec, books: &Books, trace: &Trace) {
    let of_strangers = spec.faults.iter().filter_map(|fault| match fault.kind {
        FaultKind::Strangers(kind) => Some((fault.at, fault.until, kind)),
        _ => None,
    });
    let faults: Vec<_> = of_strangers.collect();
    if faults.is_empty() {
        return;
    }
    let (books, trace) = (books.clone(), trace.clone());
    sim.host(STRANGERS, move || {
        let (faults, books, trace) = (faults.clone(), books.clone(), trace.clone());
        async move {
            let clock = Clock::start();
            let mut running = JoinSet::new();
            for (at, until, kind) in faults {
                // What never ends is over with the simulation.
                let until = until.map_or_else(far_away, |until| clock.instant(until));
                let stranger =
                    Stranger { clock, until, books: books.clone(), trace: trace.clone() };
                running.spawn(async move {
                    sleep_until(clock.instant(at)).await;
                    stranger.misbehave(kind).await;
                });
            }
            while let Some(ended) = running.join_next().await {
                ended?;
            }
            // A host that ends is no longer there.
            std::future::pending().await
        }
    });
}

fn far_away() -> Instant {
    Instant::now() + Duration::from_secs(86_400 * 365)
}

#[derive(Clone)]
struct Stranger {
    clock: Clock,
    until: Instant,
    books: Books,
    trace: Trace,
}

impl Stranger {
    async fn misbehave(self, kind: StrangerFault) {
        match kind {
            StrangerFault::Churn { every } => self.churn(every).await,
            StrangerFault::SlowHeads { connections, every } => {
                let mut running = JoinSet::new();
                for _ in 0..connections {
                    let stranger = self.clone();
                    running.spawn(async move { stranger.slow_heads(every).await });
                }
                running.join_all().await;
            }
        }
    }

    /// Opens a connection every so often, and closes it at once.
    async fn churn(&self, every: Duration) {
        let mut next = Instant::now();
        while next < self.until {
            sleep_until(next).await;
            next += every;
            // Who does not get through in time gives up, so that they do not become ever more.
            let _ = timeout_at(next.min(self.until), self.connect()).await;
        }
    }

    /// Sends a head, a byte at a time, and begins anew when it is cut.
    async fn slow_heads(&self, every: Duration) {
        while Instant::now() < self.until {
            let Ok(Ok(stream)) = timeout_at(self.until, self.connect()).await else {
                sleep(PAUSE).await;
                continue;
            };
            if timeout_at(self.until, dribble(stream, every)).await.is_err() {
                return;
            }
            self.books().cut += 1;
            self.trace.add(format_args!("stranger cut {:?}", self.clock.elapsed()));
            sleep(PAUSE).await;
        }
    }

    async fn connect(&self) -> io::Result<TcpStream> {
        let stream = TcpStream::connect((SIDECARS, FIRST_SIDECAR_PORT)).await;
        match &stream {
            Ok(_) => self.books().opened += 1,
            Err(_) => self.books().refused += 1,
        }
        stream
    }

    fn books(&self) -> MutexGuard<'_, StrangerBooks> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns when the other side has had enough.
async fn dribble(stream: TcpStream, every: Duration) {
    let (mut from, mut to) = tokio::io::split(stream);
    let write = async {
        for byte in HEAD.iter().copied().chain(std::iter::repeat(b'a')) {
            if to.write_all(&[byte]).await.is_err() {
                break;
            }
            sleep(every).await;
        }
    };
    let read = async {
        let mut buffer = [0; 1024];
        while from.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
    };
    tokio::select! {
        biased;
        () = read => {}
        () = write => {}
    }
}
