//! The program, against small servers on the loopback device: counts and exit codes, never times.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use loadgen::LatencyHistogram;

/// How a test server treats each request.
#[derive(Clone, Copy)]
enum Kind {
    /// Answers with this.
    Answers(&'static [u8]),
    /// Says nothing.
    Silent,
    /// Sends a body without end.
    Endless,
}

/// A server on a port of its own, counting the requests that it read.
struct Server {
    url: String,
    served: Arc<AtomicU64>,
    last_head: Arc<std::sync::Mutex<String>>,
    _runtime: tokio::runtime::Runtime,
}

impl Server {
    fn start(kind: Kind) -> Server {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_io()
            .build()
            .unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let url = format!("http://{}/path?q=1", listener.local_addr().unwrap());
        let served = Arc::new(AtomicU64::new(0));
        let last_head = Arc::new(std::sync::Mutex::new(String::new()));
        let (count, head) = (served.clone(), last_head.clone());
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, kind, count.clone(), head.clone()));
            }
        });
        Server { url, served, last_head, _runtime: runtime }
    }

    /// Runs the program with arguments split at spaces, and the server's URL behind them.
    fn measure(&self, arguments: &str) -> Output {
        loadgen(arguments.split_whitespace().chain([self.url.as_str()]))
    }

    fn json(&self, arguments: &str) -> Value {
        let output = self.measure(&format!("--format json {arguments}"));
        assert_ran(&output);
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

async fn serve(
    mut stream: TcpStream,
    kind: Kind,
    served: Arc<AtomicU64>,
    head: Arc<std::sync::Mutex<String>>,
) {
    let mut buffer = Vec::new();
    loop {
        let end = loop {
            if let Some(at) = buffer.windows(4).position(|w| w == b"\r\n\r\n") {
                break at + 4;
            }
            if !matches!(stream.read_buf(&mut buffer).await, Ok(1..)) {
                return;
            }
        };
        let text = String::from_utf8_lossy(&buffer[..end]).into_owned();
        let length = text
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .map_or(0, |length| length.parse().unwrap());
        while buffer.len() < end + length {
            if !matches!(stream.read_buf(&mut buffer).await, Ok(1..)) {
                return;
            }
        }
        *head.lock().unwrap() = String::from_utf8_lossy(&buffer[..end + length]).into_owned();
        buffer.drain(..end + length);
        served.fetch_add(1, Ordering::SeqCst);
        match kind {
            Kind::Answers(bytes) => stream.write_all(bytes).await.unwrap_or_default(),
            Kind::Silent => {}
            Kind::Endless => {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
                while stream.write_all(&[b'x'; 65_536]).await.is_ok() {}
                return;
            }
        }
    }
}

fn loadgen<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Output {
    Command::new(env!("CARGO_BIN_EXE_loadgen")).args(arguments).output().unwrap()
}

/// The run was made and reported. On a busy machine the generator may be so late that it calls
/// the run void, and rightly so.
fn assert_ran(output: &Output) {
    assert!(matches!(output.status.code(), Some(0 | 4)), "{output:?}");
}

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

fn scratch(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name)
}

#[test]
fn the_report_agrees_with_the_server() {
    let server = Server::start(Kind::Answers(OK));
    let report = server.json("-R 500 -n 200 --pacing coarse");
    assert_eq!(server.served.load(Ordering::SeqCst), 200);
    assert_eq!(report["schema"], "meshbench.loadgen/2");
    assert_eq!(report["accounting"]["planned"], 200);
    assert_eq!(report["accounting"]["ok"], 200);
    assert_eq!(report["statuses"]["200"]["accounting"]["ok"], 200);
    assert_eq!(report["asked"]["targets"][0], format!("GET {}", server.url));
    assert_eq!(report["asked"]["rate_per_s"], 500.0);
    let encoded = report["times"]["response"]["histogram"].as_str().unwrap();
    let histogram = LatencyHistogram::from_base64(encoded).unwrap();
    assert_eq!(histogram.count(), 200);
    let p99 = report["times"]["response"]["quantiles_ns"]["p99"].as_u64();
    assert_eq!(p99.map(u128::from), Some(histogram.quantile(0.99).as_nanos()));
}

#[test]
fn threads_share_the_plan() {
    let server = Server::start(Kind::Answers(OK));
    let report = server.json("-R 1000 -n 301 -t 3 -c 7 --arrival poisson --seed 4");
    assert_eq!(server.served.load(Ordering::SeqCst), 301);
    assert_eq!(report["accounting"]["ok"], 301);
    assert_eq!(report["asked"]["seed"], 4);
    assert!(report["connections"]["opened"].as_u64().unwrap() <= 7);
}

#[test]
fn the_request_is_what_was_asked_for() {
    let server = Server::start(Kind::Answers(OK));
    let body = scratch("body.txt");
    std::fs::write(&body, "from a file").unwrap();
    let at_body = format!("@{}", body.display());
    let arguments = ["-R", "100", "-n", "1", "-X", "PUT", "-H", "x-a:  b c ", "-b"];
    let output = loadgen(arguments.into_iter().chain([at_body.as_str(), server.url.as_str()]));
    assert_ran(&output);
    let head = server.last_head.lock().unwrap().clone();
    assert!(head.starts_with("PUT /path?q=1 HTTP/1.1\r\nhost: 127.0.0.1:"), "{head}");
    assert!(head.contains("\r\nx-a: b c\r\ncontent-length: 11\r\n"), "{head}");
    assert!(head.ends_with("\r\n\r\nfrom a file"), "{head}");
    // A body makes it a POST.
    server.measure("-R 100 -n 1 -b text");
    assert!(server.last_head.lock().unwrap().starts_with("POST "));
}

#[test]
fn the_text_fits_the_screen_and_names_what_went_wrong() {
    let busy = b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n";
    for (kind, words) in [
        (Kind::Answers(OK), vec!["planned", "requests/s", "response time", "send lag", "Verdict"]),
        (Kind::Answers(busy), vec!["status 503", "status 400 or more, or not expected"]),
        (Kind::Answers(b"nonsense\r\n\r\n"), vec!["malformed", "invalid HTTP version"]),
        (Kind::Silent, vec!["timeout", "cancelled at the timeout", "≥"]),
    ] {
        let server = Server::start(kind);
        let timeout = if matches!(kind, Kind::Silent) { "50ms" } else { "1m" };
        for latency in ["", "--latency"] {
            let output = server.measure(&format!("-R 200 -n 4 --timeout {timeout} {latency}"));
            let text = String::from_utf8(output.stdout).unwrap();
            for word in &words {
                assert!(text.contains(word), "no `{word}` in\n{text}");
            }
            for line in text.lines() {
                assert!(line.chars().count() <= 80 && line.trim_end() == line, "{line:?}");
            }
        }
    }
}

#[test]
fn an_endless_body_is_cut_off_by_the_timeout() {
    let server = Server::start(Kind::Endless);
    let report = server.json("-R 100 -n 3 -c 2 --timeout 100ms");
    let books = &report["accounting"];
    let ended = books["timeout"].as_u64().unwrap() + books["unfinished"].as_u64().unwrap();
    assert_eq!((books["planned"].as_u64(), books["ok"].as_u64()), (Some(3), Some(0)));
    assert_eq!(ended + books["unsent"].as_u64().unwrap(), 3, "{books}");
}

#[test]
fn a_report_goes_to_the_file_and_replaces_what_was_there() {
    let server = Server::start(Kind::Answers(OK));
    let path = scratch("report.json");
    std::fs::write(&path, "x".repeat(100_000)).unwrap();
    let output = server.measure(&format!("-R 100 -n 5 --format json -o {}", path.display()));
    assert_ran(&output);
    assert_eq!(output.stdout, b"");
    let report: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    assert_eq!(report["accounting"]["ok"], 5);
}

#[test]
fn a_run_without_a_request_is_void() {
    let server = Server::start(Kind::Answers(OK));
    let output = server.measure("-R 100 -n 5 --deadline 1ns --pacing coarse");
    // Even the quickest timer is later than that.
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(4), "{text}");
    assert!(text.contains("no request was sent"), "{text}");
}

#[test]
fn what_cannot_be_run_fails_with_one_line() {
    // A port that was free a moment ago, and that no server is given while this one is bound to
    // it without listening.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let url = format!("http://{}/", socket.local_addr().unwrap());
    let output = loadgen(["-R", "5", &url]);
    complains(&output, 1, "connection refused; is the server running?");

    let server = Server::start(Kind::Answers(OK));
    let output = server.measure("-R 5 -n 1 -o /nonexistent/report");
    complains(&output, 1, "cannot write /nonexistent/report");
    assert_eq!(server.served.load(Ordering::SeqCst), 0);
}

#[test]
fn wrong_usage_fails_with_one_line_that_says_what_would_be_right() {
    for (arguments, words) in [
        ("http://h/", "-R 1000 for a rate, or --closed"),
        ("-R 5", "<URL>"),
        ("-R 5 --closed http://h/", "cannot be used with"),
        ("-R 5 --stages 0:1,1s:2 http://h/", "cannot be used with"),
        ("--stages 1s:5,2s:6 http://h/", "the first at 0"),
        ("--stages 0:many http://h/", "write points such as"),
        ("--replay /nonexistent http://h/", "--replay /nonexistent"),
        ("-R 5 --arrival burst:0 http://h/", "such as burst:10"),
        ("-R 5 --expect-status 2xx http://h/", "such as 200,300-399"),
        ("-R 5 --slo p99 http://h/", "is no objective"),
        ("-R 5 --cancel http://h/", "--deadline"),
        ("-R 5 --streams 4 http://h/", "--http2"),
        ("-R 5 --targets /nonexistent", "/nonexistent"),
        ("-R 5 http://h/{{nothing}}", "is no place"),
        ("-R 5 --warmup 1s -n 5 http://h/", "cannot be used with"),
        ("search http://h/", "a search needs an objective"),
        ("search --slo p50<1s --closed http://h/", "leave out --closed"),
        ("merge", "<RECORDS>..."),
        ("-R -5 http://h/", "must lie between"),
        ("-R 0 http://h/", "must lie between"),
        ("-R NaN http://h/", "must lie between"),
        ("-R 1e99 http://h/", "must lie between"),
        ("-R many http://h/", "--rate many: give a number above 0"),
        ("-R 5 h", "write it as http://host:port/path"),
        ("-R 5 http://h:99999/", "write it as http://host:port/path"),
        ("-R 5 -d 0s http://h/", "--duration 0s: give a time above 0"),
        ("-R 5 -d -1s http://h/", "--duration -1s: give a time above 0"),
        ("-R 5 -d 10 http://h/", "such as 10s"),
        ("-R 5 -d 1000000h http://h/", "--duration 1000000h: give at most 31 days"),
        ("-R 5 -n 0 http://h/", "no request would be sent"),
        ("-R 5 -n 1 -d 1s http://h/", "cannot be used with"),
        ("-R 9e6 -d 1h http://h/", "is too long"),
        ("-R 5 -c 0 http://h/", "give a whole number from 1 to 65535"),
        ("-R 5 -c 99999999999999999999 http://h/", "give a whole number from 1 to 65535"),
        ("-R 5 -t 9 -c 8 http://h/", "raise -c"),
        ("-R 5 --seed -1 http://h/", "give a whole number from 0"),
        ("-R 5 --timeout soon http://h/", "--timeout soon"),
        ("-R 5 --arrival never http://h/", "constant, poisson"),
        ("-R 5 --format xml http://h/", "text, json"),
        ("-R 5 -X A/B http://h/", "write GET, POST"),
        ("-R 5 -H nothing http://h/", "write it as `name: value`"),
        ("-R 5 -H content-length:3 http://h/", "is set by the generator"),
        ("-R 5 -b @/nonexistent http://h/", "cannot read the body from /nonexistent"),
        ("-R 5 --fast http://h/", "unexpected argument '--fast'"),
    ] {
        complains(&loadgen(arguments.split_whitespace()), 2, words);
    }
}

fn complains(output: &Output, code: i32, words: &str) {
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(code), "{text}");
    assert_eq!(output.stdout, b"");
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.starts_with("loadgen: ") && text.contains(words), "no `{words}` in {text}");
}

#[test]
fn help_and_version_are_no_failure() {
    let help = loadgen(["--help"]);
    assert_eq!(help.status.code(), Some(0));
    assert!(String::from_utf8(help.stdout).unwrap().contains("Examples:"));
    assert_eq!(loadgen(["--version"]).status.code(), Some(0));
}

#[cfg(unix)]
#[test]
fn an_interrupt_ends_the_run_with_the_whole_report() {
    let server = Server::start(Kind::Answers(OK));
    let child = Command::new(env!("CARGO_BIN_EXE_loadgen"))
        .args(["-R", "200", "-d", "1h", "--pacing", "coarse", "--format", "json", &server.url])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    while server.served.load(Ordering::SeqCst) < 10 {
        std::thread::yield_now();
    }
    let killed = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(killed.success());
    let output = child.wait_with_output().unwrap();
    assert_ran(&output);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["interrupted"], true);
    let books = &report["accounting"];
    assert_eq!(books["planned"], 720_000);
    assert_eq!(
        books["sent"].as_u64().unwrap() + books["unsent"].as_u64().unwrap(),
        720_000,
        "{books}"
    );
    assert!(books["sent"].as_u64().unwrap() >= 10, "{books}");
}
