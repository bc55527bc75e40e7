//! A sidecar before several upstreams, each of which does what it is told until it is told
//! something else.
//!
//! [`World`](crate::world::World) hands each connection to its test. What is tested with a fleet is
//! what hundreds of requests amount to, so its upstreams answer by themselves, refuse connections
//! one by one, and know load probes and health checks from requests; and its callers have
//! addresses.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use http::Request;
use http_body_util::BodyExt as _;
use proxy::Stack;
use proxy::admin::{Admin, Controls, Sidecar};
use proxy::config::EndpointAddr;
use proxy::listener::Options;
use proxy::policy::balance::EndpointId;
use proxy::seam::dialer;
use proxy::telemetry::{ClusterId, EndpointRef, EndpointSnapshot};
use tokio::io::{DuplexStream, duplex};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::memory::{BUFFER, Callers, MemoryPeer, listen, parse};
use crate::peer::{Message, Peer};

pub(crate) const GET: &str = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
pub(crate) const POST: &str = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nhi";
/// Where upstreams are asked whether they are well.
pub(crate) const HEALTH_PATH: &str = "/healthz";

/// What an upstream does with a request.
#[derive(Clone)]
pub(crate) enum Does {
    /// Answers with this status.
    Answers(u16),
    /// Answers with this status after this long.
    Takes(Duration, u16),
    /// Answers every n-th request with 500 and the others with 200.
    FailsEvery(usize),
    /// Works on as many at once as there are permits, for so long each; others queue.
    Works(Arc<Semaphore>, Duration),
    /// Closes the connection in place of an answer.
    Closes,
    /// Never answers.
    Hangs,
    /// Refuses connections.
    Refuses,
}

/// An upstream, as it is told and as it saw things.
#[derive(Clone)]
pub(crate) struct Upstream {
    pub(crate) does: Does,
    /// What it answers to health checks; with `None` it does not.
    pub(crate) health: Option<u16>,
    /// Requests in flight and microseconds, as it answers to load probes.
    pub(crate) load: (u32, u64),
    /// The heads of requests, checks and probes apart.
    pub(crate) seen: Vec<String>,
    pub(crate) checks: usize,
    pub(crate) probes: usize,
    /// Connections that were made to it, and that are open.
    pub(crate) connections: usize,
    pub(crate) open: usize,
}

impl Default for Upstream {
    fn default() -> Self {
        Self {
            does: Does::Answers(200),
            health: Some(200),
            load: (0, 1000),
            seen: Vec::new(),
            checks: 0,
            probes: 0,
            connections: 0,
            open: 0,
        }
    }
}

#[derive(Clone, Default)]
struct Upstreams(Arc<Mutex<BTreeMap<String, Upstream>>>);

impl Upstreams {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Upstream>> {
        self.0.lock().expect("no upstream panicked")
    }

    fn with<T>(&self, name: &str, act: impl FnOnce(&mut Upstream) -> T) -> T {
        act(self.lock().get_mut(name).unwrap_or_else(|| panic!("there is no {name}")))
    }
}

pub(crate) struct Fleet {
    pub(crate) stack: Arc<Stack>,
    start: Instant,
    upstreams: Upstreams,
    callers: Callers,
    /// Ends with the fleet.
    _running: JoinSet<()>,
}

impl Fleet {
    /// `endpoints` are addresses; `cluster` and `route` are further lines of the cluster `web` and
    /// of its only route.
    pub(crate) fn new(endpoints: &[&str], cluster: &str, route: &str) -> Self {
        Self::of(&format!(
            "[[clusters]]\nname = \"web\"\nendpoints = {endpoints:?}\n{cluster}\n\
             [[routes]]\ncluster = \"web\"\n{route}\n"
        ))
    }

    /// A configuration without its listener. Its health checks and sweeps run.
    pub(crate) fn of(text: &str) -> Self {
        let text = format!("listeners = [{{ name = \"in\", listen = \"127.0.0.1:1\" }}]\n{text}");
        let config = parse(&text);
        let upstreams = Upstreams::default();
        for endpoint in config.clusters.iter().flat_map(|cluster| &cluster.endpoints) {
            upstreams.lock().insert(endpoint.address.to_string(), Upstream::default());
        }
        let dialled = upstreams.clone();
        let dialer = dialer(move |addr: EndpointAddr| {
            let upstreams = dialled.clone();
            async move { connect(addr.as_str(), upstreams) }
        });
        let stack = Stack::new(&config, 1, dialer);
        let options = Options::new(&config.listeners[0], FOREVER);
        let (callers, serving) = listen(&stack, options, CancellationToken::new());
        let mut running = JoinSet::new();
        running.spawn(async move {
            serving.await;
        });
        running.spawn(stack.clone().tend());
        Self { stack, start: Instant::now(), upstreams, callers, _running: running }
    }

    /// From now on.
    pub(crate) fn tell(&self, upstream: &str, does: Does) {
        self.upstreams.with(upstream, |upstream| upstream.does = does);
    }

    /// Changes anything about an upstream.
    pub(crate) fn change(&self, upstream: &str, change: impl FnOnce(&mut Upstream)) {
        self.upstreams.with(upstream, change);
    }

    /// An upstream as it is now.
    pub(crate) fn upstream(&self, upstream: &str) -> Upstream {
        self.upstreams.with(upstream, |upstream| upstream.clone())
    }

    /// How many requests an upstream has seen.
    pub(crate) fn seen(&self, upstream: &str) -> usize {
        self.upstreams.with(upstream, |upstream| upstream.seen.len())
    }

    /// A caller's connection, from this address.
    pub(crate) fn caller(&self, source: [u8; 4]) -> MemoryPeer {
        Peer::new(self.callers.connect(source).expect("the sidecar listens"))
    }

    /// A request under way, on a connection of its own. Aborting it is its caller leaving.
    pub(crate) fn start(&self, request: &str) -> JoinHandle<Message> {
        self.start_from([127, 0, 0, 1], request)
    }

    pub(crate) fn start_from(&self, source: [u8; 4], request: &str) -> JoinHandle<Message> {
        let (mut caller, request) = (self.caller(source), request.to_owned());
        tokio::spawn(async move {
            caller.send(request).await;
            caller.message().await
        })
    }

    /// A request and its answer.
    pub(crate) async fn ask(&self, request: &str) -> Message {
        self.ask_from([127, 0, 0, 1], request).await
    }

    pub(crate) async fn ask_from(&self, source: [u8; 4], request: &str) -> Message {
        let answer = self.start_from(source, request).await.expect("an answer");
        self.check();
        answer
    }

    /// So many GETs, one after the other; which upstreams answered, by count.
    pub(crate) async fn gets(&self, count: usize) -> BTreeMap<String, usize> {
        let mut by = BTreeMap::new();
        for _ in 0..count {
            let answer = self.ask(GET).await;
            *by.entry(answerer(&answer).to_owned()).or_default() += 1;
        }
        by
    }

    /// GETs until an upstream has seen so many more.
    pub(crate) async fn gets_until_seen(&self, upstream: &str, more: usize) {
        let wanted = self.seen(upstream) + more;
        for _ in 0..100 * more {
            if self.seen(upstream) >= wanted {
                return;
            }
            self.ask(GET).await;
        }
        panic!("{upstream} has seen {} requests, not {wanted}", self.seen(upstream));
    }

    /// What the admin page says of an endpoint; `None` if it says nothing.
    pub(crate) async fn page(&self, endpoint: &str, key: &str) -> Option<String> {
        let sidecar = Sidecar { stack: self.stack.clone(), start: self.start, workers: 1, seed: 1 };
        let admin = Admin::of(Arc::new(sidecar), Arc::new(Controls::default()));
        let request = Request::get("/clusters").body(()).expect("a request");
        let page = admin.answer(&request).into_body().collect().await.expect("a page").to_bytes();
        let page = String::from_utf8(page.into()).expect("text");
        let start = match endpoint {
            "" => format!("web::{key}::"),
            _ => format!("web::{endpoint}::{key}::"),
        };
        page.lines().find_map(|line| line.strip_prefix(&start).map(str::to_owned))
    }

    pub(crate) async fn state(&self, endpoint: &str) -> String {
        self.page(endpoint, "state").await.expect("each endpoint has a state")
    }

    /// A line for each moment: `a:80 ejected consecutive_errors for 2s`.
    pub(crate) fn timeline(&self) -> Vec<String> {
        let moments = self.stack.telemetry().timeline().snapshot().moments;
        let lines = moments.iter().map(|moment| {
            let whose = moment.endpoint.as_deref().unwrap_or("web");
            format!("{whose} {} {}", moment.what.name(), moment.what.detail()).trim().to_owned()
        });
        lines.collect()
    }

    /// The timeline, less what was there before.
    pub(crate) fn timeline_after(&self, before: usize) -> Vec<String> {
        self.timeline().split_off(before)
    }

    pub(crate) fn metric(&self, series: &str) -> u64 {
        let text = self.stack.telemetry().exposition();
        let value = text.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok());
        value.unwrap_or_else(|| panic!("no {series} in\n{text}"))
    }

    /// A counter of the cluster that has a further label.
    pub(crate) fn counted(&self, name: &str, key: &str, value: &str) -> u64 {
        self.metric(&format!("sidecar_cluster_{name}{{cluster=\"web\",{key}=\"{value}\"}}"))
    }

    /// A counter or gauge of the cluster.
    pub(crate) fn cluster(&self, name: &str) -> u64 {
        self.metric(&format!("sidecar_cluster_{name}{{cluster=\"web\"}}"))
    }

    /// Requests that no upstream answered in full, by flag.
    pub(crate) fn refused(&self, flag: &str) -> u64 {
        self.metric(&format!("sidecar_downstream_rq_refused_total{{flag=\"{flag}\"}}"))
    }

    /// The counters of an endpoint of the first cluster.
    pub(crate) fn counts(&self, endpoint: usize) -> EndpointSnapshot {
        let at = EndpointRef { cluster: ClusterId(0), endpoint: EndpointId(endpoint) };
        EndpointSnapshot::from(&self.stack.telemetry().endpoint_totals(at))
    }

    /// Idle connections to an endpoint of the first cluster.
    pub(crate) fn idle(&self, endpoint: usize) -> usize {
        self.stack.clusters()[0].endpoints()[endpoint].pool.idle_count()
    }

    /// The books balance.
    pub(crate) fn check(&self) {
        self.stack.telemetry().conservation().check().expect("the books balance");
    }

    /// Nothing is under way, and the books balance; and what upstreams saw is what was sent.
    pub(crate) async fn check_at_rest(&self) {
        settle().await;
        let books = self.stack.telemetry().conservation();
        books.check_at_rest().expect("the books balance at rest");
        let seen: usize = self.upstreams.lock().values().map(|upstream| upstream.seen.len()).sum();
        let totals = books.attempts();
        let never_sent = totals.refused + totals.connect_failed;
        assert_eq!(totals.started() - never_sent, seen as u64, "attempts and what upstreams saw");
        assert_eq!(proxy::task::panics(), 0);
    }
}

/// Longer than any test.
const FOREVER: Duration = Duration::from_secs(3600);

/// Lets everything run that can run now.
pub(crate) async fn settle() {
    sleep(Duration::from_millis(1)).await;
}

pub(crate) async fn seconds(seconds: f64) {
    sleep(Duration::from_secs_f64(seconds)).await;
}

/// The upstream that gave an answer, or `none`.
pub(crate) fn answerer(answer: &Message) -> &str {
    answer.field("x-upstream").unwrap_or("none")
}

/// Every refusal says why in a flag and in a sentence.
pub(crate) fn assert_refused(answer: &Message, status: u16, flag: &str) {
    assert_eq!((answer.status(), answer.flag()), (status, flag), "{answer:?}");
    let reason = answer.field("x-sidecar-reason").unwrap_or_default();
    assert!(!reason.is_empty(), "{answer:?}");
    assert_eq!(answer.body, format!("{reason}\n"));
}

fn connect(name: &str, upstreams: Upstreams) -> io::Result<DuplexStream> {
    let refuses = upstreams.with(name, |upstream| {
        let refuses = matches!(upstream.does, Does::Refuses);
        upstream.connections += usize::from(!refuses);
        upstream.open += usize::from(!refuses);
        refuses
    });
    if refuses {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    let (near, far) = duplex(BUFFER);
    let name = name.to_owned();
    tokio::spawn(async move {
        answer_all(Peer::new(far), &name, &upstreams).await;
        upstreams.with(&name, |upstream| upstream.open -= 1);
    });
    Ok(near)
}

/// Answers what comes on a connection until either side closes it.
async fn answer_all(mut peer: MemoryPeer, name: &str, upstreams: &Upstreams) {
    while let Ok(request) = peer.try_message().await {
        let answer = answer(&request.head, name, upstreams).await;
        match answer {
            Answer::Text(text) if peer.try_send(&text).await.is_ok() => {}
            Answer::Text(_) | Answer::Close => return,
            Answer::Never => while peer.discard().await > 0 {},
        }
    }
}

enum Answer {
    Text(String),
    Close,
    Never,
}

async fn answer(head: &str, name: &str, upstreams: &Upstreams) -> Answer {
    let with = |status: u16| {
        Answer::Text(format!(
            "HTTP/1.1 {status} X\r\nx-upstream: {name}\r\ncontent-length: 0\r\n\r\n"
        ))
    };
    match head.split(' ').nth(1) {
        Some(proxy::probe::LOAD_PATH) => {
            let (rif, latency) = upstreams.with(name, |upstream| {
                upstream.probes += 1;
                upstream.load
            });
            let (rif_field, latency_field) =
                (proxy::probe::IN_FLIGHT_FIELD, proxy::probe::LATENCY_FIELD);
            return Answer::Text(format!(
                "HTTP/1.1 200 OK\r\n{rif_field}: {rif}\r\n{latency_field}: {latency}\r\n\
                 content-length: 0\r\n\r\n"
            ));
        }
        Some(HEALTH_PATH) => {
            let health = upstreams.with(name, |upstream| {
                upstream.checks += 1;
                upstream.health
            });
            return health.map_or(Answer::Never, with);
        }
        _ => {}
    }
    let (does, nth) = upstreams.with(name, |upstream| {
        upstream.seen.push(head.to_owned());
        (upstream.does.clone(), upstream.seen.len())
    });
    match does {
        Does::Answers(status) => with(status),
        Does::FailsEvery(n) => with(if nth.is_multiple_of(n) { 500 } else { 200 }),
        Does::Takes(time, status) => {
            sleep(time).await;
            with(status)
        }
        Does::Works(workers, time) => {
            let _worker = workers.acquire().await.expect("never closed");
            sleep(time).await;
            with(200)
        }
        // A connection may be older than what its upstream was told.
        Does::Closes | Does::Refuses => Answer::Close,
        Does::Hangs => Answer::Never,
    }
}
