//! Everything that the program writes, against a small server: read back and compared.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use loadgen::LatencyHistogram;
use loadgen::record::Record;

const SCHEMA: &str = include_str!("../schema/loadgen-2.json");

/// Answers each request with its path, and names itself by whether the path is even.
struct Server {
    address: String,
    _runtime: tokio::runtime::Runtime,
}

impl Server {
    fn start() -> Server {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_io().build();
        let runtime = runtime.unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        runtime.spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let mut buffer = Vec::new();
                    while matches!(stream.read_buf(&mut buffer).await, Ok(1..)) {
                        while let Some(end) = buffer.windows(4).position(|w| w == b"\r\n\r\n") {
                            let head: Vec<u8> = buffer.drain(..end + 4).collect();
                            let head = String::from_utf8(head).unwrap();
                            let path = head.split(' ').nth(1).unwrap().to_owned();
                            let name = if path.len().is_multiple_of(2) { "even" } else { "odd" };
                            let answer = format!(
                                "HTTP/1.1 200 OK\r\nx-backend: {name}\r\ncontent-length: {}\r\n\r\n{path}",
                                path.len()
                            );
                            if stream.write_all(answer.as_bytes()).await.is_err() {
                                return;
                            }
                        }
                    }
                });
            }
        });
        Server { address, _runtime: runtime }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

fn loadgen(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_loadgen")).args(arguments).output().unwrap()
}

fn json(output: &Output) -> Value {
    assert!(matches!(output.status.code(), Some(0 | 3 | 4)), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn scratch(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name)
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn the_record_follows_the_schema_that_is_shipped() {
    let printed = loadgen(&["schema"]);
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/schema/loadgen-2.json");
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        std::fs::write(path, &printed.stdout).unwrap();
    }
    let printed = String::from_utf8(printed.stdout).unwrap();
    assert_eq!(printed, text(Path::new(path)), "run this test with UPDATE_SCHEMA=1");
    let server = Server::start();
    let url = server.url("/{{index}}");
    let output = loadgen(&[
        "-R",
        "500",
        "-n",
        "100",
        "--format",
        "json",
        "--backend-header",
        "x-backend",
        "--slo",
        "p50<1h",
        "--watch",
        &format!("{}=tests", std::process::id()),
        &url,
        &server.url("/b"),
    ]);
    let record = json(&output);
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let errors: Vec<String> = validator.iter_errors(&record).map(|e| e.to_string()).collect();
    assert_eq!(errors, Vec::<String>::new());
    let mut broken = record.clone();
    broken["accounting"]["ok"] = "all".into();
    assert!(!validator.is_valid(&broken));
    assert!(record["series"].is_object() && record["watched"][0]["name"] == "tests");
    // Both targets, and both names that the server goes by.
    let of = |what: &str| record[what].as_object().unwrap().len();
    assert_eq!((of("targets"), of("backends")), (2, 2));
    let sum: u64 = record["backends"]
        .as_object()
        .unwrap()
        .values()
        .map(|p| p["accounting"]["ok"].as_u64().unwrap())
        .sum();
    assert_eq!(sum, 100);
}

#[test]
fn log_series_and_distribution_hold_every_request() {
    let server = Server::start();
    let (log, csv, hgrm) = (scratch("o.hlog"), scratch("o.csv"), scratch("o.hgrm"));
    let record = json(&loadgen(&[
        "-R",
        "400",
        "-d",
        "1s",
        "--format",
        "json",
        "--interval",
        "250ms",
        "--hdr-log",
        log.to_str().unwrap(),
        "--csv",
        csv.to_str().unwrap(),
        "--hgrm",
        hgrm.to_str().unwrap(),
        &server.url("/"),
    ]));
    let whole = record["times"]["response"]["histogram"].as_str().unwrap();
    let whole = LatencyHistogram::from_base64(whole).unwrap();
    let mut merged = LatencyHistogram::new();
    let lines: Vec<String> = text(&log)
        .lines()
        .filter(|line| !line.starts_with('#') && !line.starts_with('"'))
        .map(str::to_owned)
        .collect();
    for line in &lines {
        let encoded = line.split(',').next_back().unwrap();
        merged.merge(&LatencyHistogram::from_base64(encoded).unwrap());
    }
    assert!(lines.len() >= 4, "{lines:?}");
    assert_eq!(merged, whole);
    let csv = text(&csv);
    let rows: Vec<Vec<&str>> = csv.lines().map(|line| line.split(',').collect()).collect();
    let ok = rows[0].iter().position(|name| *name == "ok").unwrap();
    let sum: u64 = rows[1..].iter().map(|row| row[ok].parse::<u64>().unwrap()).sum();
    assert_eq!(sum, record["accounting"]["ok"].as_u64().unwrap());
    assert!(text(&hgrm).contains(&format!("Total count    = {:12}", whole.count())));
}

#[test]
fn objectives_decide_the_exit_code() {
    let server = Server::start();
    let url = server.url("/");
    let run = |slo: &str| {
        let output = loadgen(&["-R", "2000", "-n", "2000", "--slo", slo, &url]);
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, text) = run("p50<1ns");
    // A void run is void first.
    assert!(matches!(code, Some(3 | 4)) && text.contains("MISSED"), "{text}");
    let (code, text) = run("p50<1h");
    assert!(matches!(code, Some(0 | 4)) && text.contains("objective p50<1h met"), "{text}");
}

#[test]
fn a_warm_up_is_counted_and_not_measured() {
    let server = Server::start();
    let record = json(&loadgen(&[
        "-R",
        "200",
        "-d",
        "500ms",
        "--warmup",
        "500ms",
        "--format",
        "json",
        &server.url("/"),
    ]));
    assert_eq!(record["warmup"]["planned"], 100);
    assert_eq!(record["accounting"]["planned"], 100);
    assert_eq!(record["times"]["response"]["count"], 100);
}

#[test]
fn a_closed_loop_asks_as_many_as_were_asked_for() {
    let server = Server::start();
    for threads in ["1", "3"] {
        let record = json(&loadgen(&[
            "--closed",
            "-n",
            "1000",
            "-c",
            "7",
            "-t",
            threads,
            "--format",
            "json",
            &server.url("/"),
        ]));
        assert_eq!(record["accounting"]["ok"], 1000);
        assert!(record["in_flight"]["peak"].as_u64().unwrap() <= 7);
        assert_eq!(record["connections"]["opened"], 7);
    }
    let record = json(&loadgen(&[
        "--closed",
        "-d",
        "200ms",
        "-c",
        "2",
        "--format",
        "json",
        &server.url("/"),
    ]));
    let books = &record["accounting"];
    assert!(books["ok"].as_u64().unwrap() > 0 && books["planned"] == books["sent"], "{books}");
}

#[test]
fn answers_are_checked_for_what_was_expected() {
    let server = Server::start();
    let url = server.url("/needle{{index}}");
    let run = |arguments: &[&str]| {
        let mut all = vec!["-R", "500", "-n", "50", "--format", "json"];
        all.extend_from_slice(arguments);
        all.push(&url);
        json(&loadgen(&all))["accounting"].clone()
    };
    assert_eq!(run(&["--expect-body", "needle4"])["ok"], 11);
    assert_eq!(run(&["--expect-body", "needle4"])["invalid"], 39);
    assert_eq!(run(&["--expect-status", "201-299,404"])["status"], 50);
}

#[test]
fn times_from_a_file_are_replayed() {
    let server = Server::start();
    let path = scratch("times.txt");
    std::fs::write(&path, "1700000000.0\n1700000000.05\n1700000000.05\n1700000000.2\n").unwrap();
    let record =
        json(&loadgen(&["--replay", path.to_str().unwrap(), "--format", "json", &server.url("/")]));
    assert_eq!(record["accounting"]["ok"], 4);
    assert_eq!(record["asked"]["arrivals"], "replay");
}

#[test]
fn records_are_merged_exactly_and_compared() {
    let server = Server::start();
    let files = ["a.json", "b.json"].map(scratch);
    let mut counts = 0;
    for (file, count) in files.iter().zip(["300", "500"]) {
        let path = file.to_str().unwrap();
        loadgen(&["-R", "1000", "-n", count, "--format", "json", "-o", path, &server.url("/")]);
        counts += Record::from_json(&text(file)).unwrap().accounting.planned;
    }
    let [a, b] = files.each_ref().map(|file| file.to_str().unwrap());
    let merged = json(&loadgen(&["merge", "--format", "json", a, b]));
    assert_eq!(merged["accounting"]["planned"], counts);
    assert_eq!(merged["times"]["response"]["count"], 800);
    let [one, two] = files.each_ref().map(|f| Record::from_json(&text(f)).unwrap());
    let mut histogram = one.times["response"].histogram.clone();
    histogram.merge(&two.times["response"].histogram);
    assert_eq!(merged["times"]["response"]["histogram"], histogram.to_base64());
    let report = String::from_utf8(loadgen(&["merge", a, b]).stdout).unwrap();
    assert!(report.contains("2 records taken together"), "{report}");
    let compared = loadgen(&["compare", a, b]);
    assert_eq!(compared.status.code(), Some(0));
    let compared = String::from_utf8(compared.stdout).unwrap();
    assert!(compared.contains("response p50") && compared.contains(" to "), "{compared}");
    std::fs::write(&files[0], "{}").unwrap();
    let broken = loadgen(&["compare", a, b]);
    assert_eq!(broken.status.code(), Some(1));
    assert!(String::from_utf8(broken.stderr).unwrap().contains("schema none where"));
}

#[test]
fn a_search_ends_at_the_highest_rate_that_it_may_try() {
    let server = Server::start();
    let output = loadgen(&[
        "search",
        "-d",
        "100ms",
        "--from",
        "50",
        "--max",
        "100",
        "--slo",
        "success>=0%",
        "--timeout",
        "1s",
        &server.url("/"),
    ]);
    let text = String::from_utf8(output.stdout).unwrap();
    // On a machine that is too busy to send on time nothing counts.
    let (expected, code) = match text.contains("void") {
        true => ("requests/s", output.status.code()),
        false => ("100.0 requests/s were confirmed", Some(0)),
    };
    assert!(text.contains(expected) && output.status.code() == code, "{text}");
}

#[test]
fn a_search_and_a_comparison_are_documents_too() {
    let validator = |of: &str| {
        let schema: Value = serde_json::from_slice(&loadgen(&["schema", of]).stdout).unwrap();
        jsonschema::validator_for(&schema).unwrap()
    };
    let server = Server::start();
    let url = server.url("/");
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("search.json");
    let to_file = file.to_str().unwrap();
    let line =
        "search -d 100ms --from 50 --max 100 --slo success>=0% --slo errors<=100% --format json -o";
    let args: Vec<&str> = line.split(' ').chain([to_file, &url]).collect();
    let output = loadgen(&args);
    assert_eq!(output.stdout, b"", "the document is in the file");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("requests/s  phase"), "{said}");
    let found: Value = serde_json::from_str(&text(&file)).unwrap();
    assert!(validator("search").is_valid(&found), "{found}");
    let tries = found["tries"].as_array().unwrap();
    assert_eq!(tries.len(), said.lines().count() - 1);
    assert!(tries.iter().all(|one| one["slos"].as_array().unwrap().len() == 2), "{found}");
    let is_last_word = |one: &Value| one["phase"] == "confirm";
    assert_eq!(said.contains("confirm"), tries.iter().any(is_last_word), "{said}");
    let confirmed = tries.iter().any(|one| one["phase"] == "confirm" && one["holds"] == true);
    let code = if confirmed { 0 } else { 3 };
    assert_eq!((output.status.code(), found["holds_per_s"].is_null()), (Some(code), !confirmed));
    // One run, against itself.
    let record = directory.path().join("run.json");
    let record = record.to_str().unwrap();
    loadgen(&["-n", "20", "-R", "200", "--format", "json", "-o", record, &url]);
    let compared = json(&loadgen(&["compare", record, record, "--format", "json"]));
    assert!(validator("compare").is_valid(&compared), "{compared}");
    let differences = compared["differences"].as_array().unwrap();
    assert!(!differences.is_empty() && differences.iter().all(|d| d["a"] == d["b"]), "{compared}");
}

#[test]
fn metrics_are_served_while_it_runs() {
    let server = Server::start();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap().to_string();
    drop(free);
    let mut child = Command::new(env!("CARGO_BIN_EXE_loadgen"))
        .args(["-R", "200", "-d", "1h", "--interval", "100ms", "--prometheus", &address])
        .arg(server.url("/"))
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    // However long it takes until an interval is over: only a program that ended is a failure.
    let page = loop {
        let page = scrape(&address).unwrap_or_default();
        let is_there = page.lines().any(|line| {
            line.strip_prefix("loadgen_requests_total{outcome=\"ok\"} ")
                .is_some_and(|n| n.parse::<u64>().unwrap() > 0)
        });
        // Counters move at once, latencies with the first whole interval.
        if is_there && page.contains("{quantile=") {
            break page;
        }
        assert!(child.try_wait().unwrap().is_none(), "it ended");
        std::thread::yield_now();
    };
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(page.contains("loadgen_response_time_seconds{quantile=\"0.99\"}"), "{page}");
    assert!(page.ends_with("# EOF\n"), "{page}");
}

fn scrape(address: &str) -> std::io::Result<String> {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect(address)?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

#[test]
fn papers_are_printed() {
    let man = String::from_utf8(loadgen(&["man"]).stdout).unwrap();
    assert!(man.contains(".TH loadgen") && man.contains("\\-\\-deadline"), "{man}");
    let man = String::from_utf8(loadgen(&["man", "search"]).stdout).unwrap();
    assert!(man.contains(".TH loadgen-search") && man.contains("\\-\\-precision"), "{man}");
    let unknown = loadgen(&["man", "rest"]);
    assert_eq!(unknown.status.code(), Some(2));
    let said = String::from_utf8(unknown.stderr).unwrap();
    assert!(said.contains("name one of search, merge, compare"), "{said}");
    for (shell, words) in [("bash", "complete -F"), ("zsh", "#compdef"), ("fish", "complete -c")] {
        let script = String::from_utf8(loadgen(&["completions", shell]).stdout).unwrap();
        assert!(script.contains(words), "{shell}");
    }
}

#[test]
fn too_few_descriptors_are_one_line_before_the_run() {
    let server = Server::start();
    let command = format!(
        "ulimit -n 64; exec {} -R 10 -n 10 -c 1000 {}",
        env!("CARGO_BIN_EXE_loadgen"),
        server.url("/")
    );
    let output = Command::new("sh").args(["-c", &command]).output().unwrap();
    let complaint = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{complaint}");
    assert_eq!(complaint.lines().count(), 1, "{complaint}");
    assert!(complaint.contains("ulimit -n 1032"), "{complaint}");
}
