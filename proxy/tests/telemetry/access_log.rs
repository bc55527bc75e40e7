//! Lines for requests: what they say, and what happens when they cannot be written.

use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use proxy::error::Flag;
use proxy::telemetry::access_log::AccessLogCounts;
use proxy::telemetry::event::{AccessLine, RequestOutcome};
use proxy::telemetry::{AccessLog, AccessLogOptions, ClusterId, Event, Telemetry, TelemetryParts};

use super::{at, clusters, request_end, wall_clock};

/// Far longer than any of this takes: it ends a test that would hang.
const FOR_EVER: Duration = Duration::from_secs(60);

/// What was written, behind a gate.
#[derive(Clone, Default)]
struct Paper(Arc<(Mutex<Sheet>, Condvar)>);

#[derive(Default)]
struct Sheet {
    text: Vec<u8>,
    shut: bool,
}

impl Paper {
    fn text(&self) -> String {
        String::from_utf8(self.0.0.lock().expect("a lock").text.clone()).expect("text")
    }

    fn shut(&self, shut: bool) {
        self.0.0.lock().expect("a lock").shut = shut;
        self.0.1.notify_all();
    }
}

impl Write for Paper {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sheet = self.0.0.lock().expect("a lock");
        let mut sheet = self.0.1.wait_while(sheet, |sheet| sheet.shut).expect("a lock");
        sheet.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn telemetry(log: AccessLog) -> Telemetry {
    let mut parts = TelemetryParts::starting(Instant::now());
    parts.access_log = Some(log);
    parts.wall_clock = wall_clock();
    Telemetry::of(&clusters(), parts)
}

fn on(paper: &Paper, buffer: usize) -> Telemetry {
    let buffer = NonZeroUsize::new(buffer).expect("not zero");
    let paper = paper.clone();
    telemetry(AccessLog::over(buffer, move || Ok(Box::new(paper.clone()))).expect("a log"))
}

fn line(path: &str) -> AccessLine {
    AccessLine {
        method: "GET".to_owned(),
        host: "web.mesh".to_owned(),
        path: path.to_owned(),
        cluster: Some(ClusterId(0)),
        endpoint: Some(at(0, 1)),
        peer: Some(([127, 0, 0, 1], 4321).into()),
        trace_id: Some("4bf92f3577b34da6a3ce929d0e0e4736".to_owned()),
        bytes_sent: 512,
    }
}

fn end(telemetry: &Telemetry, outcome: RequestOutcome, line: AccessLine) {
    assert!(telemetry.wants_lines());
    let mut end = request_end(outcome, 200, 2);
    end.line = Some(Arc::new(line));
    telemetry.emit(Instant::now(), &Event::RequestEnded(end));
}

async fn flush(telemetry: &Telemetry) -> AccessLogCounts {
    let log = telemetry.access_log().expect("a log");
    assert!(log.flush(FOR_EVER).await, "the log was not flushed");
    log.counts()
}

#[tokio::test]
async fn a_line_says_all_of_a_request() {
    let paper = Paper::default();
    let telemetry = on(&paper, 8);
    end(&telemetry, RequestOutcome::Ok, line("/a?b=\"c\""));
    end(&telemetry, RequestOutcome::Refused(Flag::UT), AccessLine::default());
    end(&telemetry, RequestOutcome::Cancelled, line("/"));
    assert_eq!(flush(&telemetry).await.written, 3);
    insta::assert_snapshot!(paper.text());
}

/// The path never waits: what does not fit is counted, and the rest is written once it can be.
#[tokio::test]
async fn a_stalled_disk_costs_lines_and_nothing_else() {
    const LINES: u64 = 1000;
    const BUFFER: u64 = 4;
    let paper = Paper::default();
    paper.shut(true);
    let telemetry = on(&paper, BUFFER as usize);
    for _ in 0..LINES {
        end(&telemetry, RequestOutcome::Ok, line("/"));
    }
    let log = telemetry.access_log().expect("a log");
    // The channel's, and what the thread may have taken out of it before it got stuck.
    assert!(log.counts().dropped >= LINES - BUFFER - (BUFFER + 2), "{log:?}");
    paper.shut(false);
    let AccessLogCounts { written, dropped, failed } = flush(&telemetry).await;
    assert_eq!((written + dropped, failed), (LINES, 0));
    assert!(written >= BUFFER);
    assert_eq!(paper.text().lines().count() as u64, written);
    let stats = telemetry.exposition();
    assert!(stats.contains(&format!("sidecar_access_log_dropped_total {dropped}\n")), "{stats}");
}

/// A file that was moved away keeps its lines, and the next ones are in a new file.
#[tokio::test]
async fn a_rotated_log_goes_on_in_a_new_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let (path, moved) = (folder.path().join("access.log"), folder.path().join("access.log.1"));
    let options = AccessLogOptions { path: path.clone(), ..AccessLogOptions::default() };
    let telemetry = telemetry(AccessLog::open(&options).expect("a log"));
    end(&telemetry, RequestOutcome::Ok, line("/before"));
    flush(&telemetry).await;
    std::fs::rename(&path, &moved).expect("moved");
    telemetry.access_log().expect("a log").reopen();
    end(&telemetry, RequestOutcome::Ok, line("/after"));
    flush(&telemetry).await;
    let read = |path| std::fs::read_to_string(path).expect("a file");
    let (before, after) = (read(&moved), read(&path));
    assert!(before.contains("/before") && !before.contains("/after"), "{before}");
    assert!(after.contains("/after") && !after.contains("/before"), "{after}");
}

/// A disk that is full loses lines whole, and says how many.
#[tokio::test]
async fn lines_that_cannot_be_written_are_counted() {
    struct Full(Arc<AtomicBool>, Paper);
    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.0.load(Ordering::Relaxed) {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.1.write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let (full, paper) = (Arc::new(AtomicBool::new(true)), Paper::default());
    let sink = (full.clone(), paper.clone());
    let buffer = NonZeroUsize::new(1000).expect("not zero");
    let log = AccessLog::over(buffer, move || Ok(Box::new(Full(sink.0.clone(), sink.1.clone()))));
    let telemetry = telemetry(log.expect("a log"));
    for _ in 0..100 {
        end(&telemetry, RequestOutcome::Ok, line("/"));
    }
    let counts = flush(&telemetry).await;
    assert!(counts.failed > 0 && counts.written > 0, "{counts:?}");
    assert_eq!((counts.written + counts.failed, counts.dropped), (100, 0));
    full.store(false, Ordering::Relaxed);
    end(&telemetry, RequestOutcome::Ok, line("/last"));
    let counts = flush(&telemetry).await;
    let text = paper.text();
    assert_eq!(text.lines().count() as u64, counts.written);
    for line in text.lines() {
        serde_json::from_str::<serde_json::Value>(line).expect("a whole line");
    }
}

#[test]
fn a_log_that_cannot_be_opened_is_one_sentence() {
    let path = "/nowhere/access.log".into();
    let error = AccessLog::open(&AccessLogOptions { path, ..AccessLogOptions::default() });
    let error = error.expect_err("there is no such folder").to_string();
    assert_eq!(
        error,
        "cannot write the access log /nowhere/access.log; name a file in a directory that is \
         there, or `-`"
    );
}

#[test]
fn options_are_checked_while_they_are_read() {
    let read = |text| toml::from_str::<AccessLogOptions>(text);
    assert_eq!(read("").expect("defaults"), AccessLogOptions::default());
    assert_eq!(read("buffer = 1").expect("a bound").buffer.get(), 1);
    assert!(read("buffer = 0").is_err());
    assert!(read("pth = \"-\"").is_err());
}
