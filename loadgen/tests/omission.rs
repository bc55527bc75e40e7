//! Coordinated omission, on real sockets: what a server that stands still does to everyone who
//! would have asked it, and what becomes of requests that it never gets to.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use loadgen::record::Record;
use rustix::process::{Pid, Signal, kill_process};

/// How long one request takes all of the server, in milliseconds. Only its presence makes
/// [`server_process`] one.
const WORK: &str = "LOADGEN_TEST_WORK_MS";

/// A server in a process of its own, which can be stopped.
struct Server {
    child: Child,
    url: String,
}

impl Server {
    fn start(work_ms: u64) -> Server {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "server_process", "--nocapture"])
            .env(WORK, work_ms.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = lines
            .map_while(Result::ok)
            .find_map(|line| line.split_once("listening ").map(|(_, address)| address.to_owned()));
        Server { child, url: format!("http://{}/", address.unwrap()) }
    }

    /// The longest time for which the server did not run, in seconds, by its own clock.
    fn absence(&self) -> f64 {
        let address = self.url.trim_start_matches("http://").trim_end_matches('/');
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(b"GET /absence HTTP/1.1\r\n\r\n").unwrap();
        let mut nanos = String::new();
        stream.read_to_string(&mut nanos).unwrap();
        nanos.parse::<f64>().unwrap() / 1e9
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The longest time for which this process did not run, in nanoseconds, by a thread that looks at
/// the clock every millisecond: how long it really was frozen.
#[allow(clippy::disallowed_methods, reason = "a server on the machine's own clock")]
fn longest_absence() -> Arc<AtomicU64> {
    let longest = Arc::new(AtomicU64::new(0));
    let told = longest.clone();
    std::thread::spawn(move || {
        let mut last = Instant::now();
        loop {
            std::thread::sleep(Duration::from_millis(1));
            let now = Instant::now();
            let absent = u64::try_from((now - last).as_nanos()).unwrap();
            told.fetch_max(absent, Ordering::Relaxed);
            last = now;
        }
    });
    longest
}

/// Not a test but the server, when it is told to be one.
#[test]
fn server_process() {
    let Ok(work) = std::env::var(WORK) else { return };
    let work = Duration::from_millis(work.parse().unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    println!("\nlistening {}", listener.local_addr().unwrap());
    let turn = Arc::new(Mutex::new(()));
    let absence = longest_absence();
    for stream in listener.incoming().map_while(Result::ok) {
        let (turn, absence) = (turn.clone(), absence.clone());
        std::thread::spawn(move || serve(stream, work, &turn, &absence));
    }
}

fn serve(mut stream: TcpStream, work: Duration, turn: &Mutex<()>, absence: &AtomicU64) {
    stream.set_nodelay(true).unwrap();
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = stream.read(&mut buffer) {
        if buffer[..length].starts_with(b"GET /absence ") {
            let nanos = absence.load(Ordering::Relaxed).to_string();
            let _ = stream.write_all(nanos.as_bytes());
            return;
        }
        if !work.is_zero() {
            let _turn = turn.lock().unwrap();
            std::thread::sleep(work);
        }
        if stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").is_err() {
            return;
        }
    }
}

fn loadgen(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    command.args(["--format", "json", "--quiet"]).args(arguments);
    command.stdout(Stdio::piped());
    command
}

fn record(output: &Output) -> Record {
    Record::from_json(&String::from_utf8_lossy(&output.stdout)).unwrap()
}

/// The longest pause of the machine, as a share of the freeze, with which a run is judged by the
/// freeze alone.
const QUIET: f64 = 0.01;

/// How often a machine is asked for a run without such a pause.
const TRIES: u32 = 3;

/// A run of 10 s with a server that stands still in it, and how long that really was, in seconds.
fn frozen_run() -> (Record, f64) {
    let server = Server::start(0);
    let run = loadgen(&["-R", "1000", "-d", "10s", "-c", "64", &server.url]).spawn().unwrap();
    std::thread::sleep(Duration::from_secs(4));
    server.signal(Signal::STOP);
    std::thread::sleep(Duration::from_secs(1));
    server.signal(Signal::CONT);
    let record = record(&run.wait_with_output().unwrap());
    (record, server.absence())
}

#[test]
fn a_frozen_server_is_seen_by_everyone_who_would_have_asked() {
    let pause = |record: &Record| record.machine.hiccups.histogram.max().as_secs_f64();
    let mut tries = 1;
    let (record, frozen) = loop {
        let (record, frozen) = frozen_run();
        if pause(&record) < QUIET * frozen || tries == TRIES {
            break (record, frozen);
        }
        tries += 1;
    };
    assert_eq!(record.accounting.ok, 10_000, "{:?}", record.accounting);
    // Frozen for F of 10 s: the share of waits longer than w is (F - w) / 10, so the quantile q
    // is at F - 10 (1 - q). How long F was, the server has measured. On a machine that never had
    // a quiet moment, the longest pause of the generator's own side is added, as the watcher has
    // measured it.
    let pause = Some(pause(&record)).filter(|pause| *pause >= QUIET * frozen).unwrap_or_default();
    for q in [0.97, 0.99, 0.999] {
        let expected = frozen - 10.0 * (1.0 - q);
        let measured = record.times["response"].histogram.quantile(q).as_secs_f64();
        let off = (measured - expected).abs();
        println!("quantile {q}: {measured:.4} for {expected:.4}, {:.2} %", 100.0 * off / expected);
        assert!(
            off < 0.05 * expected + pause,
            "quantile {q}: {measured} for {expected}, frozen for {frozen}, pause {pause}"
        );
    }
    // What a tool prints that counts from the send: nothing of it.
    let service = record.times["service"].histogram.quantile(0.98).as_secs_f64();
    assert!(service < 0.5 * (frozen - 0.2), "{service}");
}

#[test]
fn what_a_slow_server_never_answered_is_reported_to_the_last_request() {
    // 40 requests per second, and 100 are asked for.
    let server = Server::start(25);
    let arguments = ["-R", "100", "-d", "4s", "--timeout", "1s", "-c", "200", &server.url];
    let output = loadgen(&arguments).output().unwrap();
    let record = record(&output);
    let books = record.accounting;
    assert_eq!(output.status.code(), Some(4), "{books:?}");
    assert_eq!(books.planned, 400);
    assert!(books.ok <= 5 * 40 + 1, "{books:?}");
    assert_eq!(books.ok + books.timeout + books.unfinished + books.unsent, 400, "{books:?}");
    assert!(books.success_rate() < 0.6);
    let doubts: Vec<&str> = record.doubts.iter().map(|d| d.doubt.as_str()).collect();
    assert!(doubts.iter().any(|doubt| doubt.contains("were not answered")), "{doubts:?}");
    // An objective that is missed is so too, whatever else the run is.
    let gated = loadgen(&["--slo", "success>=99%"]).args(arguments).output().unwrap();
    assert!(matches!(gated.status.code(), Some(3 | 4)));
    assert!(!self::record(&gated).slos[0].holds);
}
