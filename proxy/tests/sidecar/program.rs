//! The program `sidecar` on real sockets.

mod admin;
mod cli;
mod descriptors;
mod drain;
mod reload;
mod sockets;

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};

use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};

use crate::peer::{Message, Peer};

/// The program with its configuration in a file of its own; killed when dropped.
struct Program {
    child: Child,
    stderr: BufReader<ChildStderr>,
    proxy: SocketAddr,
    admin: SocketAddr,
    directory: TempDir,
}

/// What a run that ends by itself leaves.
struct Ended {
    status: ExitStatus,
    stdout: String,
    stderr: String,
}

fn sidecar() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sidecar"));
    command.env_remove("RUST_LOG").stdin(Stdio::null());
    command
}

fn run(command: &mut Command) -> Ended {
    let output = command.output().expect("the program can be started");
    Ended {
        status: output.status,
        stdout: String::from_utf8(output.stdout).expect("text"),
        stderr: String::from_utf8(output.stderr).expect("text"),
    }
}

/// A configuration with one listener, the admin endpoint, and one upstream.
fn config(upstream: SocketAddr, head: &str) -> String {
    format!(
        "{head}\n[admin]\nlisten = \"127.0.0.1:0\"\n\
         [[listeners]]\nname = \"in\"\nlisten = \"127.0.0.1:0\"\n\
         [[clusters]]\nname = \"web\"\nendpoints = [\"{upstream}\"]\n\
         [[routes]]\nprefix = \"/\"\ncluster = \"web\"\ntimeout = \"1m\"\n\
         retry.max_retries = 0\n"
    )
}

impl Program {
    /// Starts it and waits until it is ready.
    fn start(config: &str) -> Self {
        Self::start_in(None, config)
    }

    /// Starts it in a shell that is given the command line as its arguments.
    fn start_in(shell: Option<Command>, config: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("sidecar.toml");
        std::fs::write(&path, config).expect("a file");
        let mut command = sidecar();
        if let Some(mut shell) = shell {
            shell.arg(command.get_program()).env_remove("RUST_LOG").stdin(Stdio::null());
            command = shell;
        }
        command.arg("--config").arg(&path).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program can be started");
        let mut stderr = BufReader::new(child.stderr.take().expect("a pipe"));
        let mut address = |name: &str| {
            let line = line(&mut stderr);
            let address = line.strip_prefix(&format!("sidecar: {name} listens on "));
            address.and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("{line}"))
        };
        let (proxy, admin) = (address("in"), address("admin"));
        let ready = line(&mut stderr);
        assert!(ready.starts_with("sidecar: ready; seed "), "{ready}");
        Self { child, stderr, proxy, admin, directory }
    }

    fn line(&mut self) -> String {
        line(&mut self.stderr)
    }

    /// Writes the configuration file anew.
    fn rewrite(&self, config: &str) {
        std::fs::write(self.directory.path().join("sidecar.toml"), config).expect("a file");
    }

    fn terminate(&self) {
        self.signal("-TERM");
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        let killed = Command::new("kill").args([signal, &pid]).status().expect("kill(1)");
        assert!(killed.success());
    }

    /// How it ended, and what else it said.
    fn wait(mut self) -> (ExitStatus, String) {
        let mut rest = String::new();
        self.stderr.read_to_string(&mut rest).expect("text");
        (self.child.wait().expect("a child of ours"), rest)
    }

    async fn connect(&self) -> Peer<TcpStream> {
        Peer::new(TcpStream::connect(self.proxy).await.expect("it listens"))
    }

    async fn admin(&self, request_line: &str) -> Message {
        let mut peer = Peer::new(TcpStream::connect(self.admin).await.expect("it listens"));
        peer.send(format!("{request_line} HTTP/1.1\r\nhost: admin\r\n\r\n")).await;
        peer.message().await
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Nothing to do when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn line(stderr: &mut BufReader<ChildStderr>) -> String {
    let mut line = String::new();
    stderr.read_line(&mut line).expect("text");
    line.trim_end().to_owned()
}

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let addr = listener.local_addr().expect("bound");
    (listener, addr)
}

async fn accept(listener: &TcpListener) -> Peer<TcpStream> {
    Peer::new(listener.accept().await.expect("a connection").0)
}

/// One exchange over connections of its own.
async fn exchange(program: &Program, upstream: &TcpListener, answer: &str) -> Message {
    let mut caller = program.connect().await;
    caller.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let mut upstream = accept(upstream).await;
    upstream.head().await;
    upstream.send(answer).await;
    drop(upstream);
    caller.message().await
}
