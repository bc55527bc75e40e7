//! What this machine runs out of, on real sockets: one clear message and an end, never a run that
//! is stuck.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::net::TcpListener;
use std::process::{Command, Output};

/// Only its presence makes [`inside_a_network_of_few_ports`] more than nothing.
const FEW_PORTS: &str = "LOADGEN_TEST_FEW_PORTS";

/// A server that takes every connection and never answers, so that each request needs another.
fn silent(address: &str) -> String {
    let listener = TcpListener::bind(address).unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let _kept: Vec<_> = listener.incoming().map_while(Result::ok).collect();
    });
    url
}

/// An hour was asked for, and it ended by itself: void, for a reason that is said once.
fn ended_early(output: &Output, reason: &str) {
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(4), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(text.matches(&format!("this machine is {reason}")).count(), 1, "{text}");
    assert!(text.contains(&format!("connect: {reason}")), "{text}");
}

#[test]
fn descriptors_that_run_out_end_the_run_and_are_named() {
    // Enough by the count before the run, and others have taken most of them.
    let script = r#"ulimit -n 64; for n in $(seq 10 42); do eval "exec $n</dev/null"; done
        exec "$0" --quiet -R 200 -d 1h --timeout 1h -c 30 "$1""#;
    let loadgen = env!("CARGO_BIN_EXE_loadgen");
    let url = silent("127.0.0.1:0");
    let output = Command::new("bash").args(["-c", script, loadgen, &url]).output().unwrap();
    ended_early(&output, "out of file descriptors");
}

#[test]
fn ports_that_run_out_end_the_run_and_are_named() {
    let unshare = || Command::new("unshare");
    let may = unshare().args(["-rn", "true"]).status().is_ok_and(|status| status.success());
    if !may {
        eprintln!("skipped: this machine does not give away network namespaces");
        return;
    }
    let test = std::env::current_exe().unwrap();
    let output = unshare()
        .arg("-rn")
        .arg(test)
        .args(["--exact", "inside_a_network_of_few_ports", "--nocapture"])
        .env(FEW_PORTS, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

/// Not a test but what the one above does in a network of its own.
#[test]
fn inside_a_network_of_few_ports() {
    if std::env::var_os(FEW_PORTS).is_none() {
        return;
    }
    let script = "ip link set lo up && echo 50000 50010 > /proc/sys/net/ipv4/ip_local_port_range";
    assert!(Command::new("sh").args(["-c", script]).status().unwrap().success());
    let url = silent("127.0.0.1:8080");
    let output = Command::new(env!("CARGO_BIN_EXE_loadgen"))
        .args(["--quiet", "-R", "200", "-d", "1h", "--timeout", "1h", "-c", "100", &url])
        .output()
        .unwrap();
    ended_early(&output, "out of local ports");
}
