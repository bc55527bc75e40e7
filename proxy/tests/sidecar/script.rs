//! A sidecar before endpoints that follow a script, and the books, which are checked at every step.
//!
//! [`crate::world::World`] is played by hand, one connection at a time; here each endpoint decides
//! by itself, so that a test can say what all of them do and look at what they saw.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use proxy::Stack;
use proxy::config::EndpointAddr;
use proxy::listener::Options;
use proxy::policy::balance::EndpointId;
use proxy::seam::{Dialer, dialer};
use proxy::stack::{Applied, Refused};
use proxy::telemetry::event::AttemptKind;
use tokio::io::duplex;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::memory::{BUFFER, Callers, MemoryPeer, listen, parse};
use crate::peer::{Message, Peer};
use crate::world::MAX_CONNECTIONS;

pub(crate) const GET: &str = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
pub(crate) const POST: &str = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello";
pub(crate) const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
pub(crate) const UNAVAILABLE: &str = "HTTP/1.1 503 No\r\ncontent-length: 2\r\n\r\nno";

/// What an endpoint does about a request.
#[derive(Clone)]
pub(crate) enum Act {
    /// Sends this and takes the next request.
    Say(String),
    /// The same, after a while.
    Later(Duration, String),
    /// Sends this and closes the connection.
    Last(String),
    /// Sends this, and then nothing until the sidecar goes.
    Stall(String),
}

impl Act {
    pub(crate) fn say(text: &str) -> Self {
        Act::Say(text.to_owned())
    }

    pub(crate) fn later(ms: u64, text: &str) -> Self {
        Act::Later(Duration::from_millis(ms), text.to_owned())
    }

    pub(crate) fn close() -> Self {
        Act::Last(String::new())
    }

    pub(crate) fn hang() -> Self {
        Act::Stall(String::new())
    }
}

/// A request that an endpoint got.
#[derive(Clone)]
pub(crate) struct Seen {
    pub(crate) endpoint: String,
    /// How many came before it, to any endpoint.
    pub(crate) nth: usize,
    /// How many came before it on its connection.
    pub(crate) nth_there: usize,
    pub(crate) at: Instant,
    pub(crate) request: Arc<Message>,
}

impl Seen {
    /// What the sidecar says of the time that is left.
    pub(crate) fn told_ms(&self) -> u64 {
        let told = self.request.field("x-envoy-expected-rq-timeout-ms").expect("it is told");
        told.parse().expect("a number")
    }

    pub(crate) fn attempt(&self) -> &str {
        self.request.field("x-envoy-attempt-count").expect("it is told")
    }
}

#[derive(Default)]
struct Log {
    dialled: Vec<String>,
    seen: Vec<Seen>,
    /// When connections were closed by the sidecar although their answers were not complete.
    left: Vec<(String, Instant)>,
    stack: OnceLock<Weak<Stack>>,
}

type Shared = Arc<Mutex<Log>>;

/// A sidecar with one listener.
pub(crate) struct Fleet {
    pub(crate) stack: Arc<Stack>,
    log: Shared,
    callers: Callers,
}

/// A configuration with one listener, the cluster `web` and one route to it.
pub(crate) fn config(endpoints: &[&str], cluster: &str, route: &str) -> String {
    format!(
        "[[listeners]]\nname = \"in\"\nlisten = \"127.0.0.1:1\"\n\
         [[clusters]]\nname = \"web\"\nendpoints = {endpoints:?}\n{cluster}\n\
         [[routes]]\ncluster = \"web\"\n{route}\n"
    )
}

impl Fleet {
    /// Endpoints that all follow `script`. `cluster` and `route` are lines of the configuration.
    pub(crate) fn new(
        endpoints: &[&str],
        cluster: &str,
        route: &str,
        script: impl Fn(&Seen) -> Act + Send + Sync + 'static,
    ) -> Self {
        Self::partly(endpoints, cluster, route, |_| true, script)
    }

    /// The same, where only those take connections of whom `listens` is true.
    pub(crate) fn partly(
        endpoints: &[&str],
        cluster: &str,
        route: &str,
        listens: impl Fn(&str) -> bool + Send + Sync + 'static,
        script: impl Fn(&Seen) -> Act + Send + Sync + 'static,
    ) -> Self {
        let log = Shared::default();
        let (for_dialer, plan) = (log.clone(), Arc::new((listens, script)));
        let dialer = dialer(move |addr: EndpointAddr| {
            let (log, plan) = (for_dialer.clone(), plan.clone());
            async move {
                let endpoint = addr.to_string();
                lock(&log).dialled.push(endpoint.clone());
                if !plan.0(&endpoint) {
                    return Err(io::ErrorKind::ConnectionRefused.into());
                }
                let (near, far) = duplex(BUFFER);
                tokio::spawn(async move {
                    follow(Peer::new(far), endpoint, &log, &plan.1).await;
                });
                Ok(near)
            }
        });
        Self::dialling(&config(endpoints, cluster, route), 1, dialer, log)
    }

    /// A sidecar whose only endpoint is the listener of `next`.
    pub(crate) fn before(next: &Fleet, cluster: &str, route: &str) -> Self {
        let callers = next.callers.clone();
        let dialer = dialer(move |_| {
            let near = callers.connect([127, 0, 0, 1]);
            async move { near.ok_or_else(|| io::ErrorKind::ConnectionRefused.into()) }
        });
        Self::dialling(&config(&["next:80"], cluster, route), 2, dialer, Shared::default())
    }

    fn dialling(text: &str, seed: u64, dialer: Dialer, log: Shared) -> Self {
        let config = parse(text);
        let stack = Stack::new(&config, seed, dialer);
        lock(&log).stack.set(Arc::downgrade(&stack)).expect("set once");
        let options = Options {
            max_connections: MAX_CONNECTIONS * 100,
            ..Options::new(&config.listeners[0], Duration::from_secs(5))
        };
        let (callers, serving) = listen(&stack, options, CancellationToken::new());
        tokio::spawn(serving);
        Self { stack, log, callers }
    }

    /// Puts another configuration in force.
    pub(crate) fn apply(
        &self,
        endpoints: &[&str],
        cluster: &str,
        route: &str,
    ) -> Result<Applied, Refused> {
        self.stack.apply(parse(&config(endpoints, cluster, route)))
    }

    /// A new caller's connection.
    pub(crate) fn caller(&self) -> MemoryPeer {
        Peer::new(self.callers.connect([127, 0, 0, 1]).expect("the sidecar listens"))
    }

    /// One exchange on a connection of its own.
    pub(crate) async fn ask(&self, request: impl AsRef<[u8]>) -> Message {
        let mut caller = self.caller();
        caller.send(request).await;
        let answer = caller.message().await;
        self.check();
        answer
    }

    /// The requests that endpoints got, in their order.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        lock(&self.log).seen.clone()
    }

    /// Who got them.
    pub(crate) fn seen_by(&self) -> Vec<String> {
        self.seen().into_iter().map(|seen| seen.endpoint).collect()
    }

    /// The connections that were asked for.
    pub(crate) fn dialled(&self) -> Vec<String> {
        lock(&self.log).dialled.clone()
    }

    /// Whom the sidecar left before they had answered, and when.
    pub(crate) fn left(&self) -> Vec<(String, Instant)> {
        lock(&self.log).left.clone()
    }

    pub(crate) fn metric(&self, series: &str) -> u64 {
        let text = self.stack.telemetry().exposition();
        let value = text.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok());
        value.unwrap_or_else(|| panic!("no {series} in\n{text}"))
    }

    /// Attempts made for this reason.
    pub(crate) fn attempts(&self, kind: AttemptKind) -> u64 {
        self.stack.telemetry().conservation().attempts().of_kind(kind)
    }

    /// What the budget would grant now.
    pub(crate) fn balance(&self) -> u64 {
        self.stack.clusters()[0].retry_balance()
    }

    pub(crate) fn idle(&self) -> usize {
        self.stack.clusters()[0].endpoints().iter().map(|e| e.pool.idle_count()).sum()
    }

    /// Lets everything run that can run now.
    pub(crate) async fn settle(&self) {
        sleep(Duration::from_millis(1)).await;
        self.check();
    }

    /// What must hold at any moment.
    pub(crate) fn check(&self) {
        check(&self.stack);
    }

    /// What must hold once nothing is under way: the books balance and nothing is held.
    pub(crate) async fn at_rest(&self) {
        self.settle().await;
        if let Err(imbalance) = self.stack.telemetry().conservation().check_at_rest() {
            panic!("{imbalance}");
        }
        let cluster = &self.stack.clusters()[0];
        for (place, endpoint) in cluster.endpoints().iter().enumerate() {
            let pool = endpoint.pool.snapshot();
            assert_eq!((pool.in_use, pool.waiting), (0, 0), "{}", endpoint.addr);
            assert_eq!(cluster.load(EndpointId(place)).in_flight, 0, "{}", endpoint.addr);
        }
        assert_eq!(proxy::task::panics(), 0);
    }
}

fn check(stack: &Stack) {
    if let Err(imbalance) = stack.telemetry().conservation().check() {
        panic!("{imbalance}");
    }
}

fn lock(log: &Shared) -> MutexGuard<'_, Log> {
    log.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Serves one connection by the script.
async fn follow(
    mut peer: MemoryPeer,
    endpoint: String,
    log: &Shared,
    script: &impl Fn(&Seen) -> Act,
) {
    let mut nth_there = 0;
    while let Ok(request) = peer.try_message().await {
        let seen = {
            let mut log = lock(log);
            let (nth, request) = (log.seen.len(), Arc::new(request));
            let at = Instant::now();
            let seen = Seen { endpoint: endpoint.clone(), nth, nth_there, at, request };
            log.seen.push(seen.clone());
            if let Some(stack) = log.stack.get().and_then(Weak::upgrade) {
                check(&stack);
            }
            seen
        };
        nth_there += 1;
        let left = match script(&seen) {
            Act::Say(text) => peer.try_send(text).await.is_err(),
            Act::Later(after, text) => tokio::select! {
                () = sleep(after) => peer.try_send(text).await.is_err(),
                _ = peer.rest() => true,
            },
            Act::Last(text) => {
                // Whoever has left does not hear it.
                let _ = peer.try_send(text).await;
                return;
            }
            Act::Stall(text) => {
                let _ = peer.try_send(text).await;
                peer.rest().await;
                true
            }
        };
        if left {
            lock(log).left.push((endpoint, Instant::now()));
            return;
        }
    }
}
