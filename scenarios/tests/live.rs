//! The data path on real sockets: backends as processes, the sidecar and the load generator as the
//! libraries that their programs are made of.
#![allow(clippy::unwrap_used, reason = "a test says by failing what is wrong")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use loadgen::{Arrivals, Options, Plan, PrecisePacer, Recorder, Target, TcpDialler};
use proxy::Stack;
use proxy::config::Config;
use proxy::listener::{self, serve};
use proxy::seam::tcp_dialer;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// A `meshbench backend` of our own, ended when dropped.
struct Backend {
    child: Child,
    addr: SocketAddr,
    /// Where it can be changed, if it was asked to.
    control: Option<SocketAddr>,
    log: std::path::PathBuf,
}

impl Backend {
    fn start(dir: &Path, name: &str, more: &[&str]) -> Self {
        let log = dir.join(format!("{name}.jsonl"));
        let mut child = Command::new(env!("CARGO_BIN_EXE_meshbench"))
            .args(["backend", "--listen", "127.0.0.1:0", "--name", name, "--log"])
            .arg(&log)
            .args(more)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut address_after = |words: &str| -> SocketAddr {
            let line = lines.next().unwrap().unwrap();
            let rest = line.split(words).nth(1).unwrap_or_else(|| panic!("{line}"));
            rest.split(';').next().unwrap_or(rest).parse().unwrap()
        };
        let addr = address_after("listens on ");
        let control = more.contains(&"--control").then(|| address_after("is changed on "));
        Self { child, addr, control, log }
    }

    /// Ends it as a supervisor would, and returns the lines of its log.
    fn stop(mut self) -> Vec<serde_json::Value> {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        assert!(self.child.wait().unwrap().success());
        let text = std::fs::read_to_string(&self.log).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One plain request on a connection of its own.
fn get(addr: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(addr).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: web\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn the_counts_of_client_sidecar_and_backends_agree_exactly() {
    let dir = tempfile::tempdir().unwrap();
    let backends: Vec<_> = (0..3)
        .map(|n| Backend::start(dir.path(), &format!("web-{n}"), &["--service-time", "2ms"]))
        .collect();
    let endpoints: Vec<_> = backends.iter().map(|b| format!("{:?}", b.addr.to_string())).collect();
    let text = format!(
        "[[listeners]]\nname = \"out\"\nlisten = \"127.0.0.1:0\"\n\
         [[clusters]]\nname = \"web\"\nendpoints = [{}]\nbalance = \"round_robin\"\n\
         [[routes]]\ncluster = \"web\"\n",
        endpoints.join(", ")
    );
    let config = Config::parse(Path::new("live.toml"), &text).unwrap();
    let stack = Stack::new(&config, 1, tcp_dialer());

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let recorder = runtime.block_on(async {
        let socket = TcpListener::bind(config.listeners[0].listen).await.unwrap();
        let addr = socket.local_addr().unwrap();
        let options = listener::Options {
            max_connections: 1000,
            drain_timeout: Duration::from_secs(5),
            ..listener::Options::default()
        };
        let stats = stack.telemetry().listener("out");
        let service = {
            let stack = stack.clone();
            move |peer| {
                let stack = stack.clone();
                move |request| stack.clone().call(peer, request)
            }
        };
        let drain = CancellationToken::new();
        let server = tokio::spawn(serve(socket, service, options, stats, drain.clone()));
        let plan = Plan::new(Arrivals::Poisson, 2000.0, Duration::from_secs(2), 1).unwrap();
        let target = Target::from_url(&format!("http://{addr}/hello")).unwrap();
        let options = Options::new(target, addr.to_string());
        let mut recorder = Recorder::new();
        let never = std::future::pending();
        loadgen::run(plan, options, TcpDialler, PrecisePacer::default(), never, &mut recorder)
            .await;
        drain.cancel();
        assert_eq!(server.await.unwrap(), 0, "connections had to be cut");
        recorder
    });

    recorder.verify().unwrap();
    let accounting = recorder.accounting;
    assert!(accounting.planned > 3000, "{accounting:?}");
    assert_eq!(accounting.ok, accounting.planned, "{accounting:?}");
    let books = stack.telemetry().conservation();
    assert_eq!(books.requests.received, accounting.sent);
    let exposition = stack.telemetry().exposition();
    let line =
        format!("sidecar_cluster_upstream_rq_total{{cluster=\"web\"}} {}\n", accounting.sent);
    assert!(exposition.contains(&line), "{line} is not in\n{exposition}");
    let mut served = 0;
    for (backend, endpoint) in backends.into_iter().zip(&books.endpoints) {
        let log = backend.stop();
        assert_eq!(log.len() as u64, endpoint.totals.started());
        assert!(log.iter().all(|line| line["status"] == 200));
        served += log.len() as u64;
    }
    assert_eq!(served, accounting.sent);
}

#[test]
fn a_backend_changes_while_it_runs() {
    let dir = tempfile::tempdir().unwrap();
    let more = ["--service-time", "1ms", "--control", "127.0.0.1:0"];
    let backend = Backend::start(dir.path(), "web-0", &more);
    let control = backend.control.unwrap();
    assert!(get(backend.addr, "/").starts_with("HTTP/1.1 200"));

    let post = |body: &str| {
        let mut stream = TcpStream::connect(control).unwrap();
        let head = "POST /settings HTTP/1.1\r\nhost: c\r\nconnection: close\r\n";
        write!(stream, "{head}content-length: {}\r\n\r\n{body}", body.len()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    };
    assert!(post("{\"error_rate\": 1.0}").starts_with("HTTP/1.1 200"));
    assert!(get(backend.addr, "/").starts_with("HTTP/1.1 500"));
    assert!(post("{\"error_rate\": 2.0}").starts_with("HTTP/1.1 400"));
    assert!(post("{\"eror_rate\": 0.0}").starts_with("HTTP/1.1 400"));
    assert!(get(control, "/log").contains("\"errors\":1"));

    let log = backend.stop();
    let statuses: Vec<_> = log.iter().map(|line| line["status"].as_u64()).collect();
    assert_eq!(statuses, [Some(200), Some(500)]);
}
