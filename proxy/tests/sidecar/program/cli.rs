//! Arguments, files, exit codes: one line that says what is wrong and where.

use std::net::TcpListener;

use super::{Ended, config, run, sidecar};

/// Runs `sidecar --config` on a file with this text; the file's directory is left out of what it
/// says.
fn with_file(text: &str, more: &[&str]) -> Ended {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("mesh.toml");
    std::fs::write(&path, text).expect("a file");
    let mut ended = run(sidecar().arg("--config").arg(&path).args(more));
    let prefix = format!("{}/", directory.path().display());
    ended.stderr = ended.stderr.replace(&prefix, "");
    ended
}

fn assert_one_line(ended: &Ended, code: i32, line: &str) {
    assert_eq!((ended.stderr.as_str(), ended.stdout.as_str()), (format!("{line}\n").as_str(), ""));
    assert_eq!(ended.status.code(), Some(code), "{line}");
}

/// One line that says what is wrong, and below it the line of the file with a mark.
fn assert_quoted(ended: &Ended, source: &str, line: &str) {
    let lines: Vec<_> = ended.stderr.lines().collect();
    assert_eq!((lines.len(), lines[0], ended.stdout.as_str()), (4, line, ""));
    assert!(lines[2].ends_with(&format!(" | {source}")), "{}", ended.stderr);
    assert!(lines[3].ends_with('^'), "{}", ended.stderr);
    assert_eq!(ended.status.code(), Some(2), "{line}");
}

fn good() -> String {
    config(([127, 0, 0, 1], 9).into(), "")
}

#[test]
fn a_file_that_is_wrong_is_one_line_and_its_source_and_2() {
    let line = |wrong: &str| good().lines().position(|line| line == wrong).expect("there") + 1;
    let (cluster, timeout) = (line("cluster = \"web\""), line("timeout = \"1m\""));
    for (right, wrong, error) in [
        (
            "cluster = \"web\"",
            "cluster = \"wbe\"",
            format!(
                "{cluster}: routes[0].cluster: no cluster is called `wbe`; did you mean `web`? \
                 there is `web`"
            ),
        ),
        (
            "timeout = \"1m\"",
            "timeout = \"soon\"",
            format!(
                "{timeout}: routes[0].timeout: `soon` is not a duration; write a number and a unit, \
                 such as \"250ms\" or \"1m\""
            ),
        ),
        (
            "timeout = \"1m\"",
            "timeout = \"9999years\"",
            format!(
                "{timeout}: routes[0].timeout: `9999years` is too long; at most a year, such as \"1h\""
            ),
        ),
        (
            "timeout = \"1m\"",
            "timeuot = \"1m\"",
            format!(
                "{timeout}: routes[0].timeuot: unknown field `timeuot`; did you mean `timeout`?"
            ),
        ),
    ] {
        for check in [&[][..], &["--check"]] {
            let ended = with_file(&good().replacen(right, wrong, 1), check);
            assert_quoted(&ended, wrong, &format!("sidecar: mesh.toml:{error}"));
        }
    }
}

#[test]
fn a_file_that_is_not_there_is_one_line_and_2() {
    let ended = run(sidecar().args(["--config", "nowhere/mesh.toml"]));
    assert_one_line(&ended, 2, "sidecar: nowhere/mesh.toml: there is no such file");
}

#[test]
fn checking_a_good_file_says_so_and_stops() {
    let ended = with_file(&good(), &["--check"]);
    assert_one_line(&ended, 0, "sidecar: mesh.toml is right");
}

#[test]
fn a_port_in_use_is_one_line_and_1() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = taken.local_addr().expect("bound").to_string();
    for (section, name) in [("[[listeners]]\nname = \"in\"\n", "in"), ("[admin]\n", "admin")] {
        let right = format!("{section}listen = \"127.0.0.1:0\"");
        let text = good().replacen(&right, &right.replace("127.0.0.1:0", &addr), 1);
        assert!(text.contains(&addr));
        let line = format!(
            "sidecar: cannot listen on {addr} for `{name}`; choose an address that is free and \
             ours: Address already in use (os error 98)"
        );
        assert_one_line(&with_file(&text, &[]), 1, &line);
    }
}

#[test]
fn wrong_arguments_are_explained_and_2() {
    for (arguments, says) in [
        (&[][..], "--config <FILE>"),
        (&["--config"][..], "a value is required"),
        (&["--config", "x", "--chekc"][..], "unexpected argument '--chekc'"),
    ] {
        let ended = run(sidecar().args(arguments));
        assert_eq!(ended.status.code(), Some(2));
        assert!(ended.stderr.contains(says), "{}", ended.stderr);
        assert!(!ended.stderr.contains("panicked"));
    }
}
