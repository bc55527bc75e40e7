//! How the program behaves towards whoever watches and stops it: on a terminal and off it, asked
//! to end once and twice.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use loadgen::record::Record;
use rustix::process::{Pid, Signal, kill_process};

/// A server that answers at once, and counts.
struct Server {
    url: String,
    served: Arc<AtomicU64>,
}

impl Server {
    fn start() -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let served = Arc::new(AtomicU64::new(0));
        let count = served.clone();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                let count = count.clone();
                std::thread::spawn(move || {
                    let mut buffer = [0; 4096];
                    while matches!(stream.read(&mut buffer), Ok(1..)) {
                        count.fetch_add(1, Ordering::SeqCst);
                        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
                        if stream.write_all(answer).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Server { url, served }
    }

    /// A run of an hour that has begun.
    fn asked(&self) -> Child {
        let before = self.served.load(Ordering::SeqCst);
        let child = Command::new(env!("CARGO_BIN_EXE_loadgen"))
            .args(["-R", "200", "-d", "1h", "--quiet", "--format", "json", &self.url])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        while self.served.load(Ordering::SeqCst) < before + 5 {
            std::thread::yield_now();
        }
        child
    }
}

fn signal(child: &Child, signals: &[Signal]) {
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    signals.iter().for_each(|signal| kill_process(pid, *signal).unwrap());
}

#[test]
fn a_terminal_has_one_line_that_changes_and_then_the_report() {
    let server = Server::start();
    let command =
        format!("{} -R 200 -d 1s --interval 200ms {}", env!("CARGO_BIN_EXE_loadgen"), server.url);
    // A terminal for the program to be on, and what it would show.
    let output = Command::new("script")
        .args(["--quiet", "--return", "--command", &command, "/dev/null"])
        .env("TERM", "xterm")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let shown = String::from_utf8(output.stdout).unwrap();
    let (live, report) = shown.split_once(&server.url).unwrap();
    for words in ["/s sent, ", "/s answered, p99 ", " not ok"] {
        assert!(live.contains(words), "no `{words}` in {live:?}");
    }
    // It changes in place, and is gone when the report comes.
    assert!(live.matches('\r').count() > 2 && live.contains("\u{1b}[2K"), "{live:?}");
    assert!(live.matches('\n').count() <= 1, "{live:?}");
    assert!(report.contains("Verdict: ") && !report.contains('\u{1b}'), "{report:?}");
}

#[test]
fn elsewhere_nothing_is_drawn() {
    let server = Server::start();
    let output = Command::new(env!("CARGO_BIN_EXE_loadgen"))
        .args(["-R", "200", "-d", "500ms", "--interval", "100ms", &server.url])
        .output()
        .unwrap();
    for bytes in [&output.stdout, &output.stderr] {
        assert!(!bytes.contains(&b'\r') && !bytes.contains(&0x1b), "{output:?}");
    }
}

/// The whole report of a run that was ended early.
fn is_whole(output: &Output) {
    assert!(matches!(output.status.code(), Some(0 | 4)), "{output:?}");
    let record = Record::from_json(&String::from_utf8_lossy(&output.stdout)).unwrap();
    let books = record.accounting;
    assert!(record.interrupted && books.sent >= 5 && books.planned == 720_000, "{books:?}");
    books.verify().unwrap();
}

#[test]
fn who_asks_it_to_end_has_the_whole_report() {
    let server = Server::start();
    for asks in [Signal::TERM, Signal::INT] {
        let child = server.asked();
        signal(&child, &[asks]);
        is_whole(&child.wait_with_output().unwrap());
    }
}

#[test]
fn who_asks_twice_does_not_wait_for_a_report() {
    let server = Server::start();
    let child = server.asked();
    // Both have come before it can act on the first.
    signal(&child, &[Signal::STOP, Signal::INT, Signal::TERM, Signal::CONT]);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(output.stdout, b"");
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(said, "loadgen: interrupted twice: no report\n");
}
