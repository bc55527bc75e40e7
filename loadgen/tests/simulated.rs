//! The engine inside a simulated network, as a simulation's client host runs it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::cell::RefCell;
use std::future::pending;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tower::Service;
use turmoil::net::{TcpListener, TcpStream};

use loadgen::{Arrivals, Options, Plan, Recorder, Sample, SleepPacer, Target};

#[derive(Clone, Copy)]
struct Dialler;

impl Service<String> for Dialler {
    type Response = TcpStream;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, address: String) -> Self::Future {
        Box::pin(TcpStream::connect(address))
    }
}

async fn serve(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = Vec::new();
    while stream.read_buf(&mut buffer).await? > 0 {
        if buffer.ends_with(b"\r\n\r\n") {
            buffer.clear();
            tokio::time::sleep(Duration::from_millis(5)).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await?;
        }
    }
    Ok(())
}

/// One simulated run of 2 s at 200 requests per second, with the server crashed from 0.5 s and
/// back at 1 s.
fn simulate(seed: u64) -> (Recorder, Vec<Sample>) {
    let mut sim = turmoil::Builder::new()
        .rng_seed(seed)
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(Duration::from_millis(20))
        .build();
    sim.host("server", || async {
        let listener = TcpListener::bind("0.0.0.0:80").await?;
        loop {
            let (stream, _) = listener.accept().await?;
            tokio::spawn(serve(stream));
        }
    });
    let result = Rc::new(RefCell::new((Recorder::new(), Vec::new())));
    let observer = result.clone();
    sim.client("client", async move {
        let plan = Plan::new(Arrivals::Poisson, 200.0, Duration::from_secs(2), seed)?;
        let target = Target::from_url("http://server/")?;
        let options =
            Options { timeout: Duration::from_millis(300), ..Options::new(target, "server:80") };
        let mut both = (Recorder::new(), Vec::new());
        loadgen::run(plan, options, Dialler, SleepPacer, pending(), &mut both).await;
        *observer.borrow_mut() = both;
        Ok(())
    });
    let mut crashed = false;
    let mut bounced = false;
    while !sim.step().unwrap() {
        if !crashed && sim.elapsed() >= Duration::from_millis(500) {
            crashed = true;
            sim.crash("server");
        }
        if !bounced && sim.elapsed() >= Duration::from_secs(1) {
            bounced = true;
            sim.bounce("server");
        }
    }
    drop(sim);
    let Ok(result) = Rc::try_unwrap(result) else { panic!("the client has ended") };
    result.into_inner()
}

#[test]
fn a_simulated_run_balances_and_repeats_exactly() {
    let (recorder, samples) = simulate(11);
    assert_eq!(recorder.verify(), Ok(()));
    let books = recorder.accounting;
    assert!(books.ok > 200 && books.sent == books.planned, "{books:?}");
    // Half a second of 200 per second met a server that was gone.
    let lost = books.connect + books.closed + books.timeout;
    assert!((50..150).contains(&lost), "{books:?}");
    assert_eq!(simulate(11), (recorder, samples.clone()));
    assert_ne!(simulate(12).1, samples);
}
