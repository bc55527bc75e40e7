//! `--watch`: what the processes under test use, and what happened over time, on real sockets.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use loadgen::record::Record;
use loadgen::watch::Watched;

/// A server within this process, which does something once before it answers the first request.
fn serve(first: impl FnOnce() + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let first = Arc::new(Mutex::new(Some(first)));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let first = first.clone();
            std::thread::spawn(move || {
                answer(stream, || {
                    let first = first.lock().unwrap().take();
                    first.into_iter().for_each(|first| first());
                });
            });
        }
    });
    url
}

/// Every request is in one segment, and so is its answer.
fn answer(mut stream: TcpStream, before: impl Fn()) {
    let mut buffer = [0; 4096];
    while let Ok(1..) = stream.read(&mut buffer) {
        before();
        if stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").is_err() {
            return;
        }
    }
}

fn loadgen(arguments: &str, url: &str) -> Output {
    let arguments = arguments.split_whitespace().chain([url]);
    Command::new(env!("CARGO_BIN_EXE_loadgen")).args(arguments).output().unwrap()
}

fn record(arguments: &str, url: &str) -> Record {
    let output = loadgen(&format!("--format json {arguments}"), url);
    assert!(matches!(output.status.code(), Some(0 | 4)), "{output:?}");
    Record::from_json(&String::from_utf8(output.stdout).unwrap()).unwrap()
}

/// A process that lives until it has nothing to read.
fn bystander() -> Child {
    Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap()
}

#[test]
fn what_a_server_uses_is_in_the_record_and_in_the_text() {
    let url = serve(|| ());
    let me = std::process::id();
    let line = format!("-R 500 -d 500ms --interval 50ms --watch {me}=server");
    let record = record(&line, &url);
    let [Watched { name, pid, cpu_ns, ended_ns, looks, .. }] = record.watched.as_slice() else {
        panic!("one process")
    };
    assert_eq!((name.as_str(), *pid, *ended_ns), ("server", me, None));
    let last = looks.last().unwrap();
    assert!(*cpu_ns > 0 && *cpu_ns / 1000 == last.cpu_us, "{looks:?}");
    assert!(looks.is_sorted_by_key(|look| (look.at_ms, look.cpu_us)), "{looks:?}");
    assert!(looks.iter().all(|look| look.memory_bytes > 0), "{looks:?}");
    // At the begin, and when the run is over: that is not before the last request was due.
    assert!(looks.len() >= 2 && looks[0].cpu_us == 0 && last.at_ms >= 498, "{looks:?}");

    let text = String::from_utf8(loadgen(&line, &url).stdout).unwrap();
    let rows: Vec<&str> = text.lines().skip_while(|l| !l.starts_with("  watched")).collect();
    let cells: Vec<&str> = rows[1].split_whitespace().collect();
    assert_eq!((cells[0], cells.len()), ("server", 7), "{text}");
    assert!(cells[1].ends_with('s') && cells[2].ends_with("µs") && cells[4] == "MiB", "{text}");
    assert!(rows.iter().all(|row| row.chars().count() <= 80), "{text}");
}

#[test]
fn a_series_holds_every_measured_request() {
    let url = serve(|| ());
    for threads in [1, 2] {
        let line = format!("-R 400 -d 500ms --warmup 250ms --interval 100ms -t {threads}");
        let record = record(&line, &url);
        let series = record.series.unwrap();
        assert_eq!(series.interval_ms, 100);
        let sum = |of: fn(&loadgen::series::SeriesInterval) -> u64| -> u64 {
            series.intervals.iter().map(of).sum()
        };
        let books = record.accounting;
        assert_eq!((books.planned, series.planned()), (200, 200));
        assert_eq!(sum(|i| i.accounting.ok), books.ok);
        assert_eq!(sum(|i| i.sent), books.sent);
        assert_eq!((sum(|i| i.good), sum(|i| i.failed)), (books.ok, 200 - books.ok));
        assert_eq!(sum(|i| i.response.count()), record.times["response"].count);
        assert_eq!(sum(|i| i.send_lag.count()), record.times["send_lag"].count);
        // The plan is even, and its first request is that of the begin.
        let planned = series.intervals.iter().map(|i| i.accounting.planned);
        assert_eq!(planned.take(5).collect::<Vec<_>>(), [40; 5]);
    }
}

#[test]
fn a_process_that_ends_is_a_doubt_and_no_failure() {
    let mut doomed = bystander();
    let mut other = bystander();
    let watch =
        format!("--watch {}=doomed --watch {}=other --interval 10ms", doomed.id(), other.id());
    let url = serve(move || {
        doomed.kill().unwrap();
        doomed.wait().unwrap();
    });
    let record = record(&format!("-R 500 -n 50 {watch}"), &url);
    assert!(other.try_wait().unwrap().is_none());
    other.kill().unwrap();
    other.wait().unwrap();
    let ended: Vec<bool> = record.watched.iter().map(|w| w.ended_ns.is_some()).collect();
    assert_eq!(ended, [true, false]);
    let doubts: Vec<_> = record.doubts.iter().filter(|d| d.doubt.contains("watched")).collect();
    assert_eq!(doubts.len(), 1);
    assert!(doubts[0].doubt.starts_with("doomed") && doubts[0].verdict == "suspect", "{doubts:?}");
}

#[test]
fn what_cannot_be_watched_is_told_before_the_run() {
    let mut gone = bystander();
    gone.kill().unwrap();
    gone.wait().unwrap();
    let me = std::process::id();
    let many = (1..=17).map(|pid| format!("--watch {pid}")).collect::<Vec<_>>().join(" ");
    for (line, words) in [
        (format!("--watch {}", gone.id()), "no process"),
        ("--watch proxy".to_owned(), "give PID or PID=NAME"),
        ("--watch 0".to_owned(), "give PID or PID=NAME"),
        (format!("--watch {me}="), "1 to 24 characters"),
        (format!("--watch {me}={}", "x".repeat(25)), "1 to 24 characters"),
        (format!("--watch {me}=a --watch {me}=b"), "is there twice"),
        (format!("--watch {me}=a --watch {}=a", std::os::unix::process::parent_id()), "called a"),
        (many, "at most 16"),
    ] {
        // Nobody listens there: it must not come so far.
        let output = loadgen(&format!("-R 10 -n 1 {line}"), "http://127.0.0.1:9/");
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{line}: {said}");
        assert!(said.contains(words) && said.lines().count() == 1, "{line}: {said}");
    }
}
