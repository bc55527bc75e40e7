//! A sidecar between callers and upstreams that are all in memory.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use proxy::Stack;
use proxy::config::EndpointAddr;
use proxy::listener::Options;
use proxy::policy::balance::EndpointId;
use proxy::seam::dialer;
use proxy::telemetry::{ClusterId, EndpointRef, EndpointSnapshot};
use tokio::io::duplex;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::memory::{BUFFER, Callers, MemoryPeer, listen, parse};
use crate::peer::{FOR_EVER, Message, Peer};

/// Connections that the listener takes.
pub(crate) const MAX_CONNECTIONS: usize = 50;
/// The rest of a configuration that has no opinion of its own.
pub(crate) const ROUTE: &str =
    "[[routes]]\ncluster = \"web\"\ntimeout = \"1s\"\nretry.max_retries = 0\n";

/// What becomes of an attempt to connect to an upstream.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialing {
    Works,
    IsRefused,
    Hangs,
}

pub(crate) struct World {
    pub(crate) stack: Arc<Stack>,
    /// The far ends of the connections that the sidecar makes.
    pub(crate) upstreams: mpsc::UnboundedReceiver<(EndpointAddr, MemoryPeer)>,
    pub(crate) dials: Arc<AtomicUsize>,
    pub(crate) drain: CancellationToken,
    pub(crate) serving: JoinHandle<usize>,
    callers: Callers,
    /// Upstream connections that stay open without anybody looking after them.
    kept: Vec<MemoryPeer>,
}

impl World {
    /// One endpoint, one route with a timeout of 1 s.
    pub(crate) fn new() -> Self {
        Self::with(Dialing::Works, "", ROUTE)
    }

    /// `limits` are lines of the cluster `web`, `routes` all routes.
    pub(crate) fn with(dialing: Dialing, limits: &str, routes: &str) -> Self {
        Self::listening("", dialing, limits, routes)
    }

    /// `listener` are lines of the listener `in`.
    pub(crate) fn listening(listener: &str, dialing: Dialing, limits: &str, routes: &str) -> Self {
        Self::of(
            dialing,
            &format!(
                "[[listeners]]\nname = \"in\"\nlisten = \"127.0.0.1:1\"\n{listener}\n\
             [[clusters]]\nname = \"web\"\nendpoints = [\"web:80\"]\n{limits}\n{routes}"
            ),
        )
    }

    /// Whatever a whole file says.
    pub(crate) fn of(dialing: Dialing, text: &str) -> Self {
        let config = parse(text);
        let (upstream, upstreams) = mpsc::unbounded_channel();
        let dials = Arc::new(AtomicUsize::new(0));
        let count = dials.clone();
        let dialer = dialer(move |addr: EndpointAddr| {
            count.fetch_add(1, Ordering::Relaxed);
            let upstream = upstream.clone();
            async move {
                match dialing {
                    Dialing::Works => {}
                    Dialing::IsRefused => return Err(io::ErrorKind::ConnectionRefused.into()),
                    Dialing::Hangs => std::future::pending().await,
                }
                let (near, far) = duplex(BUFFER);
                // A test that is over takes no more connections.
                let _ = upstream.send((addr, Peer::new(far)));
                Ok(near)
            }
        });
        let stack = Stack::new(&config, 1, dialer);
        let drain = CancellationToken::new();
        let options = Options {
            max_connections: MAX_CONNECTIONS,
            ..Options::new(&config.listeners[0], Duration::from_secs(5))
        };
        let (callers, serving) = listen(&stack, options, drain.clone());
        let serving = tokio::spawn(serving);
        Self { stack, upstreams, dials, drain, serving, callers, kept: Vec::new() }
    }

    /// A new caller's connection.
    pub(crate) fn caller(&self) -> MemoryPeer {
        self.try_caller().expect("the sidecar listens")
    }

    /// A new caller's connection, if anybody listens.
    pub(crate) fn try_caller(&self) -> Option<MemoryPeer> {
        self.callers.connect([127, 0, 0, 1]).map(Peer::new)
    }

    /// The next connection that the sidecar makes.
    pub(crate) async fn upstream(&mut self) -> MemoryPeer {
        self.upstream_of().await.1
    }

    /// The same, and which endpoint it is to.
    pub(crate) async fn upstream_of(&mut self) -> (String, MemoryPeer) {
        let next = timeout(FOR_EVER, self.upstreams.recv()).await;
        let (addr, peer) = next.expect("no connection was made").expect("the sidecar runs");
        (addr.to_string(), peer)
    }

    /// One exchange on new connections: what the upstream got and what the caller got.
    pub(crate) async fn exchange(&mut self, request: &str, response: &str) -> (Message, Message) {
        let mut caller = self.caller();
        caller.send(request).await;
        let mut upstream = self.upstream().await;
        let got = upstream.message().await;
        upstream.send(response).await;
        self.kept.push(upstream);
        (got, caller.message().await)
    }

    /// Sends a request and drops the upstream's connection once `before` is written.
    pub(crate) async fn broken(&mut self, before: &str) -> Message {
        let mut caller = self.caller();
        caller.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        let mut upstream = self.upstream().await;
        upstream.head().await;
        upstream.send(before).await;
        drop(upstream);
        caller.message().await
    }

    /// Requests received so far.
    pub(crate) fn received(&self) -> u64 {
        self.stack.telemetry().request_totals().received
    }

    /// The endpoint's counters, which must always add up.
    pub(crate) fn counts(&self) -> EndpointSnapshot {
        let at = EndpointRef { cluster: ClusterId(0), endpoint: EndpointId(0) };
        let counts = EndpointSnapshot::from(&self.stack.telemetry().endpoint_totals(at));
        let ended = counts.rq_success
            + counts.rq_error
            + counts.rq_discarded
            + counts.rq_timeout
            + counts.rq_per_try_timeout
            + counts.rq_failed
            + counts.rq_cancelled
            + counts.rq_refused;
        let active = u64::try_from(counts.rq_active).expect("a gauge of what there is");
        assert_eq!(counts.rq_total, ended + active, "{counts:?}");
        counts
    }

    pub(crate) fn idle(&self) -> usize {
        self.stack.clusters()[0].endpoints()[0].pool.idle_count()
    }

    /// Requests that were not answered in full, for one flag.
    pub(crate) fn refused(&self, flag: &str) -> u64 {
        self.metric(&format!("sidecar_downstream_rq_refused_total{{flag=\"{flag}\"}}"))
    }

    pub(crate) fn metric(&self, series: &str) -> u64 {
        let text = self.stack.telemetry().exposition();
        let value = text.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok());
        value.unwrap_or_else(|| panic!("no {series} in\n{text}"))
    }

    /// Lets everything run that can run now.
    pub(crate) async fn settle(&self) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }

    /// Nothing is under way any more, in any book.
    pub(crate) fn assert_at_rest(&self) {
        let cluster = &self.stack.clusters()[0];
        assert_eq!(self.counts().rq_active, 0);
        assert_eq!(cluster.load(EndpointId(0)).in_flight, 0);
        assert_eq!(self.metric("sidecar_cluster_upstream_rq_active{cluster=\"web\"}"), 0);
        assert_eq!(usize::try_from(self.counts().cx_active), Ok(self.idle()));
    }
}
