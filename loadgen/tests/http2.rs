//! HTTP/2 over in-memory streams and a paused clock, against a real server of the protocol.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::cell::Cell;
use std::future::{Ready, pending, ready};
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use h2::server::SendResponse;
use http::{Request, Response};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::task::LocalSet;
use tower::Service;

use loadgen::{
    Arrivals, Expect, Options, Outcome, Plan, Protocol, Recorder, RunEnd, Sample, SleepPacer,
    Target,
};

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// What a server does with a stream, by its number on the connection.
#[derive(Clone, Copy, Debug)]
enum Act {
    Answer {
        after: Duration,
        status: u16,
    },
    Reset(Reason),
    Stall,
    /// Ends the connection once this stream has been read.
    Leave,
    /// Says something that is no HTTP/2.
    Garbage,
}

#[derive(Clone)]
struct Dialler {
    script: Rc<dyn Fn(u64, u64) -> Act>,
    dialled: Rc<Cell<u64>>,
    /// Bytes of content that servers received.
    received: Rc<Cell<usize>>,
}

impl Dialler {
    fn new(script: impl Fn(u64, u64) -> Act + 'static) -> Self {
        Self { script: Rc::new(script), dialled: Rc::default(), received: Rc::default() }
    }
}

impl Service<String> for Dialler {
    type Response = DuplexStream;
    type Error = io::Error;
    type Future = Ready<io::Result<DuplexStream>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: String) -> Self::Future {
        let connection = self.dialled.get();
        self.dialled.set(connection + 1);
        let (client, server) = tokio::io::duplex(64 * 1024);
        tokio::task::spawn_local(serve(server, connection, self.clone()));
        ready(Ok(client))
    }
}

async fn serve(mut io: DuplexStream, connection: u64, dialler: Dialler) {
    if matches!((dialler.script)(connection, 0), Act::Garbage) {
        let _ = io.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        let _ = io.read(&mut [0; 1024]).await;
        return;
    }
    let Ok(mut server) = h2::server::handshake(io).await else { return };
    for stream in 0.. {
        let Some(Ok((request, respond))) = server.accept().await else { return };
        let act = (dialler.script)(connection, stream);
        if matches!(act, Act::Leave) {
            return;
        }
        tokio::task::spawn_local(answer(act, request, respond, dialler.clone()));
    }
}

async fn answer(
    act: Act,
    request: Request<h2::RecvStream>,
    mut respond: SendResponse<Bytes>,
    dialler: Dialler,
) {
    let path = request.uri().path().to_owned();
    let mut body = request.into_body();
    while let Some(Ok(data)) = body.data().await {
        dialler.received.set(dialler.received.get() + data.len());
        let _ = body.flow_control().release_capacity(data.len());
    }
    match act {
        Act::Answer { after, status } => {
            if !after.is_zero() {
                tokio::time::sleep(after).await;
            }
            let head = Response::builder().status(status).header("x-backend", "one").body(());
            let Ok(mut stream) = respond.send_response(head.unwrap(), false) else { return };
            let _ = stream.send_data(Bytes::from(path), true);
        }
        Act::Reset(reason) => respond.send_reset(reason),
        Act::Stall | Act::Leave | Act::Garbage => pending().await,
    }
}

fn options(streams: usize) -> Options {
    let target = Target::from_url("http://server/path{{index}}").unwrap();
    Options {
        protocol: Protocol::Http2 { streams },
        max_connections: 2,
        timeout: ms(500),
        drain: ms(1000),
        ..Options::new(target, "server:80")
    }
}

fn run(plan: &Plan, options: Options, dialler: &Dialler) -> (Recorder, Vec<Sample>, RunEnd) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let mut observer = (Recorder::new(), Vec::new());
    let engine =
        loadgen::run(plan.clone(), options, dialler.clone(), SleepPacer, pending(), &mut observer);
    let end = LocalSet::new().block_on(&runtime, engine);
    observer.0.verify().unwrap();
    assert_eq!(observer.0.accounting.planned, plan.len());
    (observer.0, observer.1, end)
}

fn count(rate: f64, count: u64) -> Plan {
    Plan::with_count(Arrivals::Constant, rate, count, 0).unwrap()
}

const OK: Act = Act::Answer { after: Duration::ZERO, status: 200 };

#[test]
fn streams_share_the_connections() {
    let dialler = Dialler::new(|_, _| Act::Answer { after: ms(100), status: 200 });
    let expect = Expect {
        body: Some(b"/path".to_vec()),
        backend_header: Some("x-backend".parse().unwrap()),
        ..Expect::default()
    };
    let (recorder, samples, end) =
        run(&count(100.0, 50), Options { expect, ..options(10) }, &dialler);
    assert_eq!(recorder.accounting.ok, 50);
    assert_eq!((dialler.dialled.get(), end.peak_connections), (2, 2));
    assert!((9..=12).contains(&end.peak_in_flight), "{}", end.peak_in_flight);
    assert!(samples.iter().all(|s| s.response_time() >= ms(100) && s.response_time() < ms(104)));
    assert_eq!(recorder.backends().map(|(name, _)| name).collect::<Vec<_>>(), ["one"]);
}

#[test]
fn more_than_the_streams_wait_and_their_clocks_run() {
    let dialler = Dialler::new(|_, _| Act::Answer { after: ms(100), status: 200 });
    let (recorder, _, end) = run(&count(1000.0, 40), options(2), &dialler);
    assert_eq!((recorder.accounting.ok, end.peak_in_flight), (40, 4));
    assert!(recorder.connection_wait.count() >= 36);
    assert!(recorder.response().max() > ms(900));
}

#[test]
fn each_kind_of_server_fills_its_own_bin() {
    let cases: [(Act, Outcome); 6] = [
        (OK, Outcome::Ok),
        (Act::Answer { after: ms(1), status: 503 }, Outcome::Status),
        (Act::Reset(Reason::INTERNAL_ERROR), Outcome::Closed),
        (Act::Stall, Outcome::Timeout),
        (Act::Answer { after: ms(501), status: 200 }, Outcome::Timeout),
        (Act::Garbage, Outcome::Malformed),
    ];
    for (act, outcome) in cases {
        let dialler = Dialler::new(move |_, _| act);
        let (recorder, samples, _) = run(&count(100.0, 30), options(8), &dialler);
        let books = recorder.accounting;
        let in_bin = books.count(outcome);
        let in_bin = if matches!(act, Act::Garbage) { in_bin + books.closed } else { in_bin };
        assert_eq!(in_bin, 30, "{act:?}: {books:?} {:?}", recorder.failures);
        if outcome == Outcome::Timeout {
            assert!(samples.iter().all(|s| s.service_time() == Some(ms(500))), "{act:?}");
            // Only the stream is cancelled, not the connection that others use.
            assert_eq!(dialler.dialled.get(), 2);
        }
    }
}

#[test]
fn a_connection_that_ends_is_replaced_and_a_refused_stream_sent_again() {
    let dialler = Dialler::new(|_, stream| if stream == 3 { Act::Leave } else { OK });
    let (recorder, ..) = run(&count(100.0, 40), options(1), &dialler);
    assert_eq!(recorder.accounting.ok, 40, "{:?}", recorder.failures);
    assert!(recorder.retried > 5 && dialler.dialled.get() > 5);
    let dialler = Dialler::new(|connection, stream| match (connection, stream) {
        (0, 1) => Act::Reset(Reason::REFUSED_STREAM),
        _ => OK,
    });
    let (recorder, ..) = run(&count(100.0, 10), options(1), &dialler);
    assert_eq!((recorder.accounting.ok, recorder.retried), (10, 1), "{:?}", recorder.failures);
}

#[test]
fn bodies_are_sent_whole() {
    let dialler = Dialler::new(|_, _| OK);
    let target = Target::from_url("http://server/").unwrap().with_method("POST").unwrap();
    let target = target.with_body(vec![b'x'; 300_000]).unwrap();
    let options = Options { mix: loadgen::Mix::single(target, "s:1".to_owned()), ..options(2) };
    let (recorder, ..) = run(&count(100.0, 10), options, &dialler);
    assert_eq!((recorder.accounting.ok, dialler.received.get()), (10, 3_000_000));
}
