//! Nothing leaks: after thousands of requests that end in every bad way that two sockets allow, the
//! program holds the descriptors, threads, connections and requests that it held before.
//!
//! It is a test of its own because it needs the machine's attention for some seconds, and because
//! the program's descriptors are counted from outside.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use proxy::rng::stream;
use rand::RngExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, timeout};

/// Requests in each of two rounds; the first also fills what may be kept.
const REQUESTS: usize = 5_000;
/// Callers at once.
const CALLERS: usize = 200;
/// Longer than any limit of the configuration; what takes so long hangs.
const LONG: Duration = Duration::from_secs(20);
/// What memory may differ by between the rounds: a leak of 2 KiB for each request is more.
const SLACK_KIB: usize = 8 * 1024;

/// Limits so short that all of them are met.
const CONFIG: &str = "
workers = 2
[admin]
listen = \"127.0.0.1:0\"
[[listeners]]
name = \"in\"
listen = \"127.0.0.1:0\"
idle_timeout = \"300ms\"
header_timeout = \"150ms\"
body_timeout = \"150ms\"
write_timeout = \"200ms\"
[[clusters]]
name = \"web\"
endpoints = [\"UPSTREAM\"]
idle_timeout = \"200ms\"
[[routes]]
cluster = \"web\"
timeout = \"250ms\"
";

struct Sidecar {
    child: Child,
    addr: SocketAddr,
    admin: SocketAddr,
    stderr: BufReader<std::process::ChildStderr>,
    _directory: tempfile::TempDir,
}

impl Sidecar {
    fn start(upstream: SocketAddr) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("sidecar.toml");
        let config = CONFIG.replace("UPSTREAM", &upstream.to_string());
        std::fs::write(&path, config).expect("a file");
        let mut command = Command::new(env!("CARGO_BIN_EXE_sidecar"));
        command.arg("--config").arg(&path).env_remove("RUST_LOG").env("RUST_LOG", "error");
        let mut child = command.stderr(Stdio::piped()).spawn().expect("the program starts");
        let mut stderr = BufReader::new(child.stderr.take().expect("a pipe"));
        let mut address = || {
            let mut line = String::new();
            stderr.read_line(&mut line).expect("text");
            let address = line.trim().rsplit(' ').next().and_then(|word| word.parse().ok());
            address.unwrap_or_else(|| panic!("no address: {line}"))
        };
        let (addr, admin) = (address(), address());
        let mut ready = String::new();
        stderr.read_line(&mut ready).expect("text");
        assert!(ready.contains("ready"), "{ready}");
        Self { child, addr, admin, stderr, _directory: directory }
    }

    fn count(&self, what: &str) -> usize {
        let path = PathBuf::from(format!("/proc/{}/{what}", self.child.id()));
        std::fs::read_dir(path).expect("it runs").count()
    }

    fn memory_kib(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
        kib.unwrap_or_else(|| panic!("no size in {status}"))
    }

    async fn metrics(&self) -> String {
        let mut stream = TcpStream::connect(self.admin).await.expect("it listens");
        let request = "GET /stats/prometheus HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).await.expect("it reads");
        let mut text = String::new();
        stream.read_to_string(&mut text).await.expect("it answers");
        text
    }

    /// Waits until nothing is under way and no more descriptors are open than `descriptors`.
    async fn at_rest(&self, descriptors: usize) {
        let series = [
            "sidecar_downstream_cx_active{listener=\"in\"}",
            "sidecar_downstream_cx_panic_total{listener=\"in\"}",
            "sidecar_cluster_upstream_rq_active{cluster=\"web\"}",
            "sidecar_cluster_upstream_cx_active{cluster=\"web\"}",
        ];
        let begun = Instant::now();
        loop {
            let text = self.metrics().await;
            let left: Vec<_> = series.iter().map(|name| (name, value(&text, name))).collect();
            // The admin connection of a moment ago may still be closing.
            sleep(Duration::from_millis(50)).await;
            let open = self.count("fd");
            if left.iter().all(|(_, value)| *value == 0) && open <= descriptors {
                return;
            }
            let is_patient = begun.elapsed() < LONG;
            assert!(is_patient, "{open} descriptors instead of {descriptors}, {left:?}");
            sleep(Duration::from_millis(200)).await;
        }
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn value(text: &str, series: &str) -> u64 {
    let value = text.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok());
    value.unwrap_or_else(|| panic!("no {series} in\n{text}"))
}

/// An upstream that does to a request what its path says.
async fn upstream(listener: TcpListener) {
    loop {
        let (stream, _) = listener.accept().await.expect("a connection");
        tokio::spawn(async move {
            // An error is the other side leaving, which is what this is about.
            let _ = behave(stream).await;
        });
    }
}

async fn behave(mut stream: TcpStream) -> std::io::Result<()> {
    const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    let mut buffer = Vec::new();
    loop {
        let end = loop {
            if let Some(at) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        };
        let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
        let path = head.split(' ').nth(1).unwrap_or("/");
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length = length.and_then(|length| length.parse().ok()).unwrap_or(0);
        match path {
            "/crash" => return Ok(()),
            "/reset" => {
                stream.set_zero_linger()?;
                return Ok(());
            }
            "/hang" => {
                while stream.read_buf(&mut buffer).await? > 0 {}
                return Ok(());
            }
            "/garbage" => return stream.write_all(b"no HTTP at all\r\n\r\n").await,
            "/half" => {
                return stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf").await;
            }
            "/early" => stream.write_all(OK).await?,
            _ => {}
        }
        while buffer.len() < end + length {
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        }
        buffer.drain(..end + length);
        match path {
            "/early" => {}
            "/big" => {
                let chunk = vec![b'x'; 64 * 1024];
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4194304\r\n\r\n").await?;
                for _ in 0..64 {
                    stream.write_all(&chunk).await?;
                }
            }
            "/slow" => {
                sleep(Duration::from_millis(20)).await;
                stream.write_all(OK).await?;
            }
            _ => stream.write_all(OK).await?,
        }
    }
}

const PATHS: [&str; 9] =
    ["/ok", "/slow", "/crash", "/reset", "/hang", "/garbage", "/half", "/early", "/big"];

/// One caller with one fate.
async fn call(addr: SocketAddr, rng: &mut (impl rand::Rng + Send)) -> std::io::Result<()> {
    let path = PATHS[rng.random_range(0..PATHS.len())];
    let body = if rng.random_bool(0.3) { rng.random_range(1..100_000) } else { 0 };
    let head = format!("POST {path} HTTP/1.1\r\nhost: a\r\ncontent-length: {body}\r\n\r\n");
    let mut request = head.clone().into_bytes();
    request.resize(head.len() + body, b'x');
    let cut = rng.random_range(0..=request.len());
    let fate = rng.random_range(0..12);
    let wait = Duration::from_millis(rng.random_range(0..30));
    let mut stream = TcpStream::connect(addr).await?;
    let mut scratch = vec![0; 64 * 1024];
    match fate {
        // Whole exchanges, on one connection as long as it lasts.
        0..3 => {
            for _ in 0..3 {
                stream.write_all(&request).await?;
                if stream.read(&mut scratch).await? == 0 {
                    break;
                }
                sleep(wait).await;
            }
        }
        3 => {
            let request = String::from_utf8_lossy(&request).replace("HTTP/1.1", "HTTP/1.0");
            stream.write_all(request.as_bytes()).await?;
        }
        // Leaves, in the middle of its request or behind it.
        4 => stream.write_all(&request[..cut]).await?,
        5 => {
            stream.write_all(&request[..cut]).await?;
            sleep(wait).await;
            stream.set_zero_linger()?;
            return Ok(());
        }
        6 => {
            stream.write_all(&request).await?;
            stream.set_zero_linger()?;
            sleep(wait).await;
            return Ok(());
        }
        // Leaves in the middle of the response.
        7 => {
            stream.write_all(&request).await?;
            let _ = stream.read(&mut scratch[..20]).await?;
        }
        // Half-closes.
        8 => {
            stream.write_all(&request[..cut]).await?;
            stream.shutdown().await?;
        }
        // Stops in the middle of a head or a body.
        9 => stream.write_all(&request[..cut.min(rng.random_range(1..200))]).await?,
        // Does not read, and leaves when it has been cut.
        10 => {
            stream.write_all(b"GET /big HTTP/1.1\r\nhost: a\r\n\r\n").await?;
            sleep(Duration::from_millis(400)).await;
            return Ok(());
        }
        // Smuggles.
        _ => stream.write_all(b"POST / HTTP/1.1\r\ntransfer-encoding: x\r\n\r\n0\r\n\r\n").await?,
    }
    if matches!(fate, 4 | 7) {
        return Ok(());
    }
    while stream.read(&mut scratch).await? > 0 {}
    Ok(())
}

async fn round(addr: SocketAddr, name: &'static str) {
    let begun = Arc::new(AtomicUsize::new(0));
    let callers = (0..CALLERS).map(|caller| {
        let begun = begun.clone();
        tokio::spawn(async move {
            let mut rng = stream(caller as u64, name);
            while begun.fetch_add(1, Ordering::Relaxed) < REQUESTS {
                // How it ends is the caller's own affair; that it ends is not.
                let _ = timeout(LONG, call(addr, &mut rng)).await.expect("a caller hangs");
            }
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await.expect("no panic");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_left_of_ten_thousand_requests() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let addr = listener.local_addr().expect("bound");
    let upstream = tokio::spawn(upstream(listener));
    let sidecar = Sidecar::start(addr);
    sidecar.metrics().await;
    sleep(Duration::from_millis(200)).await;
    let (descriptors, threads) = (sidecar.count("fd"), sidecar.count("task"));

    round(sidecar.addr, "first").await;
    sidecar.at_rest(descriptors).await;
    let memory = sidecar.memory_kib();
    round(sidecar.addr, "second").await;
    sidecar.at_rest(descriptors).await;
    assert_eq!((sidecar.count("fd"), sidecar.count("task")), (descriptors, threads));
    let grown = sidecar.memory_kib().saturating_sub(memory);
    assert!(grown < SLACK_KIB, "{grown} KiB more than after the first round");

    // All limits were met, and the program has nothing to complain of.
    let text = sidecar.metrics().await;
    for name in [
        "cx_idle_timeout",
        "cx_write_timeout",
        "cx_protocol_error",
        "rq_header_timeout",
        "rq_body_timeout",
    ] {
        let series = format!("sidecar_downstream_{name}_total{{listener=\"in\"}}");
        assert!(value(&text, &series) > 0, "no {name}");
    }
    let mut sidecar = sidecar;
    sidecar.child.kill().expect("it runs");
    let mut said = String::new();
    std::io::Read::read_to_string(&mut sidecar.stderr, &mut said).expect("text");
    assert_eq!(said, "", "it complained");
    upstream.abort();
}
