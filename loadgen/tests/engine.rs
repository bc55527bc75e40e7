//! The engine over in-memory streams and a paused clock: every wait is exact, and misbehaving
//! servers are scripted. Nothing here depends on how busy the machine is.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::cell::Cell;
use std::future::{Ready, pending};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use proptest::prelude::*;
use tokio::io::{
    AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, ReadBuf,
};
use tokio::task::LocalSet;
use tokio::time::Instant;
use tower::Service;

use loadgen::{
    Accounting, Arrivals, Event, Observer, Options, Outcome, Overflow, Plan, Recorder, RunEnd,
    Sample, SleepPacer, Target, TargetError,
};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// What a scripted server does with one request.
#[derive(Clone, Copy, Debug)]
enum Act {
    /// Answers after this long.
    Answer { after: Duration, bytes: &'static [u8] },
    /// Answers, and closes right after.
    AnswerAndClose(&'static [u8]),
    /// Closes without a word, after this long.
    Close { after: Duration },
    /// Does nothing, for ever.
    Stall,
    /// Sends a byte of a good answer every 10 ms.
    Trickle,
    /// Ends its half of the connection without an answer, and goes on listening.
    HalfClose,
    /// Sends this, and the connection is reset.
    Reset(&'static [u8]),
    /// Answers with a head of 64 kB, 1 kB at a time.
    HugeHead,
}

/// What a scripted server does when it is dialled.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Door {
    Open,
    Refuse,
    Ignore,
}

/// Decides from the number of a connection, the number of a request on it, and the time.
type Script = Rc<dyn Fn(u64, u64) -> Act>;

/// Dials a scripted server.
#[derive(Clone)]
struct Dialler {
    script: Script,
    door: Door,
    dialled: Rc<Cell<u64>>,
    /// Bytes that fit in a stream before a write has to wait.
    capacity: usize,
    /// Every byte that the servers received.
    heard: Rc<std::cell::RefCell<Vec<u8>>>,
}

impl Dialler {
    fn new(script: impl Fn(u64, u64) -> Act + 'static) -> Self {
        Self {
            script: Rc::new(script),
            door: Door::Open,
            dialled: Rc::default(),
            capacity: 1024,
            heard: Rc::default(),
        }
    }

    fn always(act: Act) -> Self {
        Self::new(move |_, _| act)
    }
}

/// A stream that ends in a reset, once it was told to and what came before has been read.
struct Wire {
    io: DuplexStream,
    reset: Rc<Cell<bool>>,
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        room: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = room.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, room))?;
        if room.filled().len() == before && self.reset.get() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

impl Service<String> for Dialler {
    type Response = Wire;
    type Error = io::Error;
    type Future = futures_util::future::Either<
        Ready<io::Result<Wire>>,
        std::future::Pending<io::Result<Wire>>,
    >;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: String) -> Self::Future {
        use futures_util::future::Either;
        match self.door {
            Door::Ignore => return Either::Right(pending()),
            Door::Refuse => {
                return Either::Left(std::future::ready(Err(
                    io::ErrorKind::ConnectionRefused.into()
                )));
            }
            Door::Open => {}
        }
        let connection = self.dialled.get();
        self.dialled.set(connection + 1);
        let (client, server) = tokio::io::duplex(self.capacity);
        let reset = Rc::new(Cell::new(false));
        tokio::task::spawn_local(serve(server, connection, self.clone(), reset.clone()));
        Either::Left(std::future::ready(Ok(Wire { io: client, reset })))
    }
}

async fn serve(mut stream: DuplexStream, connection: u64, dialler: Dialler, reset: Rc<Cell<bool>>) {
    let mut buffer = Vec::new();
    for request in 0.. {
        while !buffer.windows(4).any(|w| w == b"\r\n\r\n") {
            let before = buffer.len();
            match stream.read_buf(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(_) => dialler.heard.borrow_mut().extend_from_slice(&buffer[before..]),
            }
        }
        buffer.clear();
        match (dialler.script)(connection, request) {
            Act::Answer { after, bytes } => {
                // A timer of no length still takes a millisecond of a paused clock.
                if !after.is_zero() {
                    tokio::time::sleep(after).await;
                }
                if stream.write_all(bytes).await.is_err() {
                    return;
                }
            }
            Act::AnswerAndClose(bytes) => {
                let _ = stream.write_all(bytes).await;
                return;
            }
            Act::Close { after } => {
                tokio::time::sleep(after).await;
                return;
            }
            Act::Stall => pending().await,
            Act::HalfClose => {
                let _ = stream.shutdown().await;
                while matches!(stream.read(&mut [0; 64]).await, Ok(1..)) {}
                return;
            }
            Act::Reset(bytes) => {
                let _ = stream.write_all(bytes).await;
                reset.set(true);
                return;
            }
            Act::HugeHead => {
                let field = format!("a: {}\r\n", "x".repeat(1019));
                let mut head = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n".to_vec();
                (0..63).for_each(|_| head.extend_from_slice(field.as_bytes()));
                head.extend_from_slice(b"\r\n");
                if stream.write_all(&head).await.is_err() {
                    return;
                }
            }
            Act::Trickle => {
                for byte in OK {
                    tokio::time::sleep(ms(10)).await;
                    if stream.write_all(&[*byte]).await.is_err() {
                        return;
                    }
                }
            }
        }
    }
}

/// What a run yields, and each sample besides.
struct Ran {
    recorder: Recorder,
    samples: Vec<Sample>,
    end: RunEnd,
}

impl Ran {
    fn books(&self) -> Accounting {
        self.recorder.accounting
    }

    /// All that must hold after any run.
    fn check(&self, plan: &Plan) -> Result<(), TestCaseError> {
        prop_assert_eq!(self.recorder.verify(), Ok(()));
        prop_assert_eq!(self.books().planned, plan.len());
        let mut indices: Vec<u64> = self.samples.iter().map(|s| s.index).collect();
        indices.sort_unstable();
        prop_assert_eq!(indices, (0..plan.len()).collect::<Vec<_>>());
        let planned: Vec<Duration> = plan.instants().collect();
        for sample in &self.samples {
            // A closed loop's instants are made as it goes.
            let planned = planned.get(sample.index as usize);
            prop_assert!(planned.is_none_or(|at| *at == sample.planned), "{:?}", sample);
            if let Some(sent) = sample.sent {
                prop_assert!(sample.planned <= sent && sent <= sample.finished, "{:?}", sample);
            }
        }
        Ok(())
    }
}

fn target() -> Target {
    Target::from_url("http://server/").unwrap()
}

fn options() -> Options {
    with_target(Ok(target()))
}

fn with_target(target: Result<Target, TargetError>) -> Options {
    Options { timeout: ms(500), drain: ms(1000), ..Options::new(target.unwrap(), "server:80") }
}

fn run(plan: &Plan, options: Options, dialler: &Dialler) -> Ran {
    run_until(plan, options, dialler, None)
}

fn run_until(plan: &Plan, options: Options, dialler: &Dialler, stop: Option<Duration>) -> Ran {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let stop = async move {
        match stop {
            // A timer of no length would ring a millisecond later.
            Some(Duration::ZERO) => {}
            Some(after) => tokio::time::sleep(after).await,
            None => pending().await,
        }
    };
    let mut observer = (Recorder::new(), Vec::new());
    let engine =
        loadgen::run(plan.clone(), options, dialler.clone(), SleepPacer, stop, &mut observer);
    let end = LocalSet::new().block_on(&runtime, engine);
    let ran = Ran { recorder: observer.0, samples: observer.1, end };
    ran.check(plan).unwrap();
    ran
}

fn count(rate: f64, count: u64) -> Plan {
    Plan::with_count(Arrivals::Constant, rate, count, 0).unwrap()
}

#[test]
fn a_quick_server_is_asked_on_time_over_one_connection() {
    let dialler = Dialler::always(Act::Answer { after: ms(0), bytes: OK });
    let ran = run(&count(1000.0, 200), options(), &dialler);
    assert_eq!(ran.books().ok, 200);
    assert!(ran.samples.iter().all(|s| s.sent == Some(s.planned) && s.finished == s.planned));
    assert_eq!((dialler.dialled.get(), ran.recorder.reused), (1, 199));
    assert_eq!((ran.end.peak_in_flight, ran.end.interrupted), (1, false));
}

#[test]
fn each_kind_of_server_fills_its_own_bin() {
    let answer = |bytes| Act::Answer { after: ms(1), bytes };
    type Bin = fn(&Accounting) -> u64;
    let cases: [(Act, Bin); 18] = [
        (Act::HalfClose, |a| a.closed),
        (Act::Reset(b""), |a| a.closed),
        (Act::Reset(b"HTTP/1.1 200 OK\r\n\r\nuntil"), |a| a.closed),
        (Act::HugeHead, |a| a.ok),
        (answer(OK), |a| a.ok),
        (answer(b"HTTP/1.1 302 Found\r\ncontent-length: 0\r\n\r\n"), |a| a.ok),
        (answer(b"HTTP/1.1 404 No\r\ncontent-length: 0\r\n\r\n"), |a| a.status),
        (Act::AnswerAndClose(b"HTTP/1.1 200 OK\r\n\r\nuntil the end"), |a| a.ok),
        (Act::AnswerAndClose(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nab"), |a| a.closed),
        (Act::AnswerAndClose(b"HTTP/1.1 200 OK\r\nserv"), |a| a.closed),
        (Act::Close { after: ms(1) }, |a| a.closed),
        (answer(b"220 smtp.example ESMTP\r\n"), |a| a.malformed),
        (answer(b"\0\xff\r\n\r\n"), |a| a.malformed),
        (answer(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz"), |a| a.malformed),
        (Act::Stall, |a| a.timeout),
        (Act::Answer { after: ms(501), bytes: OK }, |a| a.timeout),
        (Act::Answer { after: ms(498), bytes: OK }, |a| a.ok),
        (Act::Trickle, |a| a.ok),
    ];
    for (act, bin) in cases {
        let ran = run(&count(100.0, 50), options(), &Dialler::always(act));
        assert_eq!(bin(&ran.books()), 50, "{act:?}: {:?}", ran.books());
    }
}

#[test]
fn a_server_that_cannot_be_reached_is_one_that_failed_to_connect() {
    let mut dialler = Dialler::always(Act::Stall);
    dialler.door = Door::Refuse;
    let ran = run(&count(100.0, 50), options(), &dialler);
    assert_eq!(ran.books().connect, 50);
    assert!(ran.recorder.failures.contains_key("connect: connection refused"));
    dialler.door = Door::Ignore;
    let ran = run(&count(100.0, 50), options(), &dialler);
    assert_eq!(ran.books().timeout, 50);
    assert!(ran.samples.iter().all(|s| s.sent.is_none() && s.response_time() == ms(500)));
}

/// A server that answers nothing between `from` and `to`, and at once otherwise.
fn frozen(from: Duration, to: Duration) -> Dialler {
    let start = Cell::new(None);
    Dialler::new(move |_, _| {
        // The first request is planned for the start, and so arrives then.
        let start: Instant = start.get().unwrap_or_else(|| {
            start.set(Some(Instant::now()));
            Instant::now()
        });
        let now = start.elapsed();
        let after = if now >= from && now < to { to - now } else { ms(0) };
        Act::Answer { after, bytes: OK }
    })
}

#[test]
fn a_stall_is_seen_by_everyone_who_would_have_asked_during_it() {
    // Frozen for 1 s of 10 s: a tenth of the requests waits, uniformly up to 1 s. So the share of
    // waits longer than w is (1 - w) / 10, and the quantile q > 0.9 is at 1 - 10 (1 - q).
    for connections in [1, 64, 1500] {
        let plan = Plan::new(Arrivals::Constant, 1000.0, ms(10_000), 0).unwrap();
        let options =
            Options { max_connections: connections, timeout: Duration::from_secs(10), ..options() };
        let ran = run(&plan, options.clone(), &frozen(ms(4000), ms(5000)));
        assert_eq!(ran.books().ok, 10_000);
        for q in [0.92, 0.95, 0.99, 0.999] {
            let expected = 1.0 - 10.0 * (1.0 - q);
            let measured = ran.recorder.response().quantile(q).as_secs_f64();
            assert!(
                (measured / expected - 1.0).abs() < 0.05,
                "{connections} connections, quantile {q}: {measured} for {expected}"
            );
        }
        assert!(ran.recorder.response().quantile(0.89) < ms(1));
        // The waits are no lag of the generator's.
        assert!(ran.recorder.send_lag.max() < ms(1));
        let again = run(&plan, options, &frozen(ms(4000), ms(5000)));
        assert_eq!(again.samples, ran.samples);
    }
}

#[test]
fn an_answer_at_the_deadline_is_in_time_and_one_after_it_is_late() {
    let dialler = Dialler::always(Act::Answer { after: ms(100), bytes: OK });
    let with = |deadline| {
        let options = Options { deadline: Some(deadline), ..options() };
        run(&count(10.0, 5), options, &dialler).books()
    };
    assert_eq!(with(ms(100)).ok, 5);
    let late = with(ms(100) - Duration::from_nanos(1));
    assert_eq!((late.ok, late.late, late.sent), (0, 5, 5));
}

#[test]
fn a_request_past_its_deadline_is_not_sent_and_one_at_it_is() {
    // The second request is due at 10 ms and finds a connection at 100 ms.
    let dialler = Dialler::always(Act::Answer { after: ms(100), bytes: OK });
    let with = |deadline| {
        let options = Options { deadline: Some(deadline), max_connections: 1, ..options() };
        run(&count(100.0, 2), options, &dialler)
    };
    let at = with(ms(90));
    assert_eq!((at.books().sent, at.books().shed), (2, 0));
    assert_eq!(at.recorder.connection_wait.count(), 1);
    let past = with(ms(90) - Duration::from_nanos(1));
    assert_eq!((past.books().sent, past.books().shed), (1, 1));
    let shed = past.samples.iter().find(|s| s.outcome == Outcome::Shed).unwrap();
    assert_eq!((shed.index, shed.sent, shed.response_time()), (1, None, ms(90)));
}

#[test]
fn a_timeout_is_a_sample_at_its_limit() {
    let ran = run(&count(100.0, 50), options(), &Dialler::always(Act::Stall));
    assert!(ran.samples.iter().all(|s| s.service_time() == Some(ms(500))));
    assert_eq!(ran.recorder.censored, 50);
    assert_eq!(ran.recorder.censored_from, Some(ms(500)));
    // One connection, so each waits for those before it: from the plan it is longer.
    let one = Options { max_connections: 1, drain: ms(10_000), ..options() };
    let ran = run(&count(100.0, 3), one, &Dialler::always(Act::Stall));
    let times: Vec<_> = ran.samples.iter().map(|s| s.response_time().as_millis()).collect();
    assert_eq!(times.len(), 3);
    assert!(times[0] == 500 && times[1].abs_diff(990) < 3 && times[2].abs_diff(1480) < 5);
}

#[test]
fn a_limit_that_is_reached_as_the_run_ends_is_a_timeout() {
    let stalled = Dialler::always(Act::Stall);
    let end = |stop| run_until(&count(100.0, 1), options(), &stalled, Some(stop)).books();
    assert_eq!((end(ms(499)).unfinished, end(ms(499)).timeout), (1, 0));
    assert_eq!((end(ms(500)).unfinished, end(ms(500)).timeout), (0, 1));
}

#[test]
fn the_end_of_the_drain_leaves_unfinished_and_unsent() {
    // Four of ten get a connection; nothing is ever answered.
    let options = Options { max_connections: 4, timeout: ms(60_000), drain: ms(200), ..options() };
    let ran = run(&count(100.0, 10), options, &Dialler::always(Act::Stall));
    assert_eq!((ran.books().unfinished, ran.books().unsent), (4, 6));
    assert_eq!((ran.end.elapsed, ran.end.interrupted), (ms(300), false));
    let first = ran.samples.iter().find(|s| s.index == 0).unwrap();
    assert_eq!(first.response_time(), ms(300));
    // Those that never got a connection have waited too.
    assert_eq!((ran.recorder.response().count(), ran.recorder.censored), (10, 10));
}

#[test]
fn an_interrupted_run_still_balances() {
    let plan = Plan::new(Arrivals::Poisson, 100.0, ms(10_000), 5).unwrap();
    let dialler = Dialler::always(Act::Answer { after: ms(300), bytes: OK });
    let ran = run_until(&plan, options(), &dialler, Some(ms(1000)));
    let books = ran.books();
    assert!(ran.end.interrupted);
    assert_eq!(ran.end.elapsed, ms(1000));
    let due = plan.instants().filter(|t| *t < ms(1000)).count() as u64;
    assert!(due - books.sent <= 1 && books.unfinished > 0 && books.ok > 0, "{books:?}");
    assert_eq!(books.unsent, plan.len() - books.sent);
    // What was not due yet has not waited, and is in no histogram.
    assert!(ran.recorder.response().count() - books.sent <= 1);
}

#[test]
fn a_run_that_is_stopped_at_once_sends_nothing() {
    // The first request is due at once and handed over, but no connection has begun it.
    let dialler = Dialler::always(Act::Answer { after: ms(0), bytes: OK });
    let ran = run_until(&count(100.0, 10), options(), &dialler, Some(ms(0)));
    assert_eq!((ran.books().unsent, dialler.dialled.get()), (10, 0));
}

#[test]
fn a_connection_that_ended_while_idle_is_noticed_before_it_is_used() {
    for method in ["GET", "POST"] {
        let dialler = Dialler::always(Act::AnswerAndClose(OK));
        let ran = run(&count(100.0, 20), with_target(target().with_method(method)), &dialler);
        assert_eq!((ran.books().ok, ran.recorder.retried), (20, 0));
        assert_eq!(dialler.dialled.get(), 20);
    }
}

#[test]
fn a_request_that_met_a_closing_connection_is_sent_again_if_that_is_safe() {
    // Each connection answers once, and closes at its second request, as if it had been closing
    // already.
    let script = |_, request| match request {
        0 => Act::Answer { after: ms(0), bytes: OK },
        _ => Act::Close { after: ms(40) },
    };
    let dialler = Dialler::new(script);
    let ran = run(&count(10.0, 20), options(), &dialler);
    assert_eq!((ran.books().ok, ran.recorder.retried), (20, 19));
    // The time that the first try took is part of the answer's.
    assert!(ran.samples.iter().all(|s| s.sent == Some(s.planned)));
    assert!(ran.samples[1..].iter().all(|s| s.response_time() == ms(40)));
    let ran =
        run(&count(10.0, 20), with_target(target().with_method("POST")), &Dialler::new(script));
    assert_eq!((ran.books().ok, ran.books().closed, ran.recorder.retried), (10, 10, 0));
    // On a new connection nothing is sent twice.
    let ran = run(&count(100.0, 20), options(), &Dialler::always(Act::Close { after: ms(0) }));
    assert_eq!((ran.books().closed, ran.recorder.retried), (20, 0));
}

#[test]
fn no_connection_is_reused_that_the_server_or_the_request_closes() {
    let closing: &[u8] = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
    let surplus: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\nHTTP/1.1";
    for bytes in [closing, surplus] {
        let dialler = Dialler::always(Act::Answer { after: ms(0), bytes });
        assert_eq!(run(&count(100.0, 20), options(), &dialler).books().ok, 20);
        assert_eq!(dialler.dialled.get(), 20);
    }
    let dialler = Dialler::always(Act::Answer { after: ms(0), bytes: OK });
    run(&count(100.0, 20), with_target(target().with_header("connection", "close")), &dialler);
    assert_eq!(dialler.dialled.get(), 20);
}

#[test]
fn the_index_header_numbers_the_requests() {
    let dialler = Dialler::always(Act::Answer { after: ms(3), bytes: OK });
    let index_header = Some(http::HeaderName::from_static("x-request-index"));
    run(&count(1000.0, 120), Options { index_header, ..options() }, &dialler);
    let heard = String::from_utf8(dialler.heard.take()).unwrap();
    let indices: Vec<u64> = heard
        .lines()
        .filter_map(|line| line.strip_prefix("x-request-index: "))
        .map(|index| index.parse().unwrap())
        .collect();
    assert_eq!(indices, (0..120).collect::<Vec<_>>());
}

#[test]
fn an_answer_before_the_end_of_the_request_is_heard() {
    // The body does not fit in the stream, and the server answers without reading it.
    let early: &[u8] = b"HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\n\r\n";
    let dialler = Dialler::always(Act::AnswerAndClose(early));
    let target = target().with_method("POST").unwrap().with_body(vec![b'x'; 100_000]);
    let ran = run(&count(100.0, 5), with_target(target), &dialler);
    assert_eq!((ran.books().status, ran.recorder.statuses()[&413].accounting.status), (5, 5));
}

#[test]
fn waits_without_a_bound_do_not_overflow() {
    let options = Options {
        timeout: Duration::MAX,
        drain: Duration::MAX,
        deadline: Some(Duration::MAX),
        ..options()
    };
    let dialler = Dialler::always(Act::Answer { after: ms(10), bytes: OK });
    assert_eq!(run(&count(100.0, 5), options, &dialler).books().ok, 5);
}

/// Keeps the largest lag: an observer that is neither vector nor recorder.
#[derive(Default)]
struct Lags(Duration);

impl Observer for Lags {
    fn observe(&mut self, _: &Sample) {}

    fn note(&mut self, event: Event<'_>) {
        if let Event::Begun { lag, .. } = event {
            self.0 = self.0.max(lag);
        }
    }
}

#[test]
fn a_plan_that_starts_later_is_kept_from_its_start() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let dialler = Dialler::always(Act::Answer { after: ms(0), bytes: OK });
    let mut lags = Lags::default();
    let end = LocalSet::new().block_on(&runtime, async {
        let options = Options { start: Some(Instant::now() + ms(70)), ..options() };
        let never = pending();
        loadgen::run(count(100.0, 3), options, dialler, SleepPacer, never, &mut lags).await
    });
    assert_eq!((lags.0, end.elapsed), (ms(0), ms(20)));
}

fn any_act() -> impl Strategy<Value = Act> {
    let answers: Vec<&'static [u8]> = vec![
        OK,
        b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\nuntil the end",
        b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 1\r\n\r\na",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"",
    ];
    let bytes = || prop::sample::select(answers.clone());
    prop_oneof![
        4 => (0_u64..300, bytes()).prop_map(|(after, bytes)| Act::Answer { after: ms(after), bytes }),
        1 => bytes().prop_map(Act::AnswerAndClose),
        1 => (0_u64..300).prop_map(|after| Act::Close { after: ms(after) }),
        1 => bytes().prop_map(Act::Reset),
        1 => Just(Act::Stall),
        1 => Just(Act::Trickle),
        1 => Just(Act::HalfClose),
        1 => Just(Act::HugeHead),
    ]
}

#[test]
fn skipping_sends_what_finds_room_on_time_and_nothing_else() {
    // Two at once, 100 ms each, so 20 per second of 100.
    let dialler = Dialler::always(Act::Answer { after: ms(100), bytes: OK });
    let limits = |overflow| Options { max_connections: 2, overflow, ..options() };
    let ran = run(&count(100.0, 100), limits(Overflow::Skip), &dialler);
    let books = ran.books();
    assert_eq!(books.ok + books.skipped, 100);
    assert!((18..=22).contains(&books.ok), "{books:?}");
    let sent = || ran.samples.iter().filter(|s| s.outcome == Outcome::Ok);
    assert!(sent().all(|s| s.response_time() < ms(115)));
    // Those skipped are told of when they were due, not when there was room again.
    let skipped = || ran.samples.iter().filter(|s| s.outcome == Outcome::Skipped);
    assert!(skipped().all(|s| s.finished - s.planned < ms(2)));
    let queued = Options { drain: ms(10_000), ..limits(Overflow::Queue) };
    let ran = run(&count(100.0, 100), queued, &dialler);
    assert_eq!((ran.books().ok, ran.books().skipped), (100, 0));
    assert!(ran.recorder.response().max() > ms(3900));
}

#[test]
fn fewer_may_be_in_flight_than_there_are_connections() {
    let dialler = Dialler::always(Act::Answer { after: ms(50), bytes: OK });
    let options = Options { max_in_flight: Some(3), ..options() };
    let ran = run(&count(1000.0, 30), options, &dialler);
    assert_eq!((ran.books().ok, ran.end.peak_in_flight), (30, 3));
    assert_eq!(ran.end.peak_connections, 3);
}

#[test]
fn a_request_is_cancelled_at_its_deadline_only_if_asked() {
    let dialler = Dialler::always(Act::Answer { after: ms(200), bytes: OK });
    let with = |cancel_at_deadline| {
        let deadline = Some(ms(100));
        run(&count(10.0, 5), Options { deadline, cancel_at_deadline, ..options() }, &dialler)
    };
    assert_eq!(with(false).books().late, 5);
    let cancelled = with(true);
    assert_eq!(cancelled.books().timeout, 5);
    assert!(cancelled.samples.iter().all(|s| s.response_time() == ms(100)));
}

#[test]
fn a_closed_loop_keeps_every_connection_busy() {
    let dialler = Dialler::always(Act::Answer { after: ms(10), bytes: OK });
    let plan = Plan::closed(ms(1000)).unwrap();
    let mut observer = (Recorder::new(), Vec::new());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let options = Options { max_connections: 4, ..options() };
    let engine = loadgen::run(plan, options, dialler.clone(), SleepPacer, pending(), &mut observer);
    let end = LocalSet::new().block_on(&runtime, engine);
    let books = observer.0.accounting;
    assert_eq!(observer.0.verify(), Ok(()));
    // Four at once for a second, 10 ms each and a millisecond of the clock's grain.
    assert!((340..=404).contains(&books.ok) && books.ok == books.planned, "{books:?}");
    assert_eq!((dialler.dialled.get(), end.peak_in_flight), (4, 4));
    assert!((end.mean_in_flight - end.observed_in_flight).abs() < 0.05, "{end:?}");
    assert!(observer.0.connection_wait.is_empty());
}

#[test]
fn a_closed_loop_that_is_refused_does_not_race() {
    let mut dialler = Dialler::always(Act::Stall);
    dialler.door = Door::Refuse;
    let plan = Plan::closed_with_count(50).unwrap();
    let ran = run(&plan, Options { max_connections: 2, ..options() }, &dialler);
    assert_eq!(ran.books().connect, 50);
    assert!(ran.end.elapsed >= ms(240), "{:?}", ran.end.elapsed);
}

#[test]
fn a_connection_is_worn_after_as_many_requests_as_it_may_carry() {
    let dialler = Dialler::always(Act::Answer { after: ms(0), bytes: OK });
    let worn = |n| Options { requests_per_connection: std::num::NonZeroU32::new(n), ..options() };
    for (n, connections) in [(1, 20), (4, 5), (20, 1)] {
        let before = dialler.dialled.get();
        assert_eq!(run(&count(100.0, 20), worn(n), &dialler).books().ok, 20);
        assert_eq!(dialler.dialled.get() - before, connections);
    }
}

#[test]
fn the_first_byte_is_told_apart_from_the_last() {
    let ran = run(&count(10.0, 5), options(), &Dialler::always(Act::Trickle));
    for sample in &ran.samples {
        let (sent, heard) = (sample.sent.unwrap(), sample.first_byte.unwrap());
        assert!((10..=12).contains(&(heard - sent).as_millis()), "{sample:?}");
        assert!(sample.finished - heard >= ms(300), "{sample:?}");
    }
}

/// Whatever happens in a millisecond, the run may be stopped in it.
#[test]
fn the_books_balance_at_every_instant_of_interruption() {
    let script = |connection, request| match (connection + request) % 5 {
        0 => Act::Answer { after: ms(7), bytes: OK },
        1 => Act::Trickle,
        2 => Act::Close { after: ms(3) },
        3 => Act::Reset(b"HTTP/1.1 2"),
        _ => Act::Stall,
    };
    let plan = Plan::new(Arrivals::Poisson, 200.0, ms(300), 3).unwrap();
    let limits = || Options { max_connections: 5, timeout: ms(60), drain: ms(100), ..options() };
    for stop in 0..=420 {
        let ran = run_until(&plan, limits(), &Dialler::new(script), Some(ms(stop)));
        assert_eq!(ran.books().planned, plan.len());
        let ended = ran.samples.iter().map(|s| s.finished).max().unwrap();
        assert!(ended <= ms(stop.max(1)), "{ended:?} at {stop}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever the servers do, whenever the run ends: each planned request is in the books once.
    #[test]
    fn every_planned_request_is_accounted_for(
        acts in prop::collection::vec(any_act(), 1..12),
        poisson: bool,
        seed: u64,
        rate in 20_u32..2000,
        max_connections in 1_usize..20,
        deadline in prop::option::of(0_u64..400),
        cancel_at_deadline: bool,
        skips: bool,
        closed: bool,
        drain in 0_u64..700,
        stop in prop::option::of(0_u64..1200),
        capacity in 1_usize..100,
    ) {
        let arrivals = if poisson { Arrivals::Poisson } else { Arrivals::Constant };
        let plan = match closed {
            true => Plan::closed_with_count(u64::from(rate)),
            false => Plan::new(arrivals, f64::from(rate), ms(500), seed),
        };
        let plan = plan.unwrap();
        // A closed loop ends when its requests do, or is stopped.
        let stop = stop.or(closed.then_some(1200));
        let mut dialler = Dialler::new(move |connection, request| {
            acts[(connection * 7 + request) as usize % acts.len()]
        });
        dialler.capacity = capacity;
        let options = Options {
            max_connections,
            deadline: deadline.map(ms),
            cancel_at_deadline,
            overflow: if skips { Overflow::Skip } else { Overflow::Queue },
            drain: ms(drain),
            timeout: ms(250),
            ..options()
        };
        let ran = run_until(&plan, options, &dialler, stop.map(ms));
        prop_assert!(ran.end.peak_in_flight <= max_connections);
        prop_assert!(ran.end.peak_connections <= max_connections);
        prop_assert!(closed || ran.end.elapsed <= ms(500 + drain + 1));
        let (by_times, by_count) = (ran.end.mean_in_flight, ran.end.observed_in_flight);
        prop_assert!((by_times - by_count).abs() < 0.05 * by_count + 0.2, "{:?}", ran.end);
    }
}
