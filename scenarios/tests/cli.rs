//! `meshbench` as its users meet it: exit codes, and one clear line for each mistake.
#![allow(clippy::unwrap_used, reason = "a test says by failing what is wrong")]

use std::process::{Command, Output};

fn meshbench(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_meshbench")).args(args).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A file that differs from one of the catalogue in one place.
fn altered(from: &str, to: &str) -> tempfile::NamedTempFile {
    let scenario = scenarios::catalog::load("deadline-expiry").unwrap();
    assert!(scenario.text.contains(from), "{from} is not in the file");
    let file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
    std::fs::write(file.path(), scenario.text.replacen(from, to, 1)).unwrap();
    file
}

/// The complaint about a file, without its folder.
fn complaint(from: &str, to: &str) -> String {
    let file = altered(from, to);
    let path = file.path().to_str().unwrap();
    let output = meshbench(&["run", path]);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    let text = stderr(&output);
    // One line that says what is wrong; below it, the line of the file.
    let (first, rest) = text.split_once('\n').unwrap();
    assert!(rest.is_empty() || rest.lines().count() == 3, "not one error:\n{text}");
    first.trim().replace(path, "FILE")
}

/// The first ends in the middle of the second, which would end with it.
const TWO_FAULTS: &str = "\
[[faults]]
target = \"web-0\"
at = \"1s\"
until = \"3s\"
what = \"hang\"

[[faults]]
target = \"web-0\"
at = \"2s\"
what = \"hang\"

[[expect]]";

#[test]
fn wrong_files_get_one_line_that_says_where_and_what() {
    let cases = [
        ("rate = 300", "rate = -300"),
        ("rate = 300", "rat = 300"),
        ("rate = 300", "rate = 3000000"),
        ("rate = 300", "rate = 1e308"),
        ("duration = \"20s\"", "duration = \"40d\""),
        ("instances = 3", "instances = 3\nworkers = 4000000000000000000"),
        ("p99 = \"2s\"", "p99 = \"2ms\""),
        ("\"random\"", "\"round_robin\""),
        ("instances = 3", "instances = 0"),
        ("\"poisson\"", "\"bursty\""),
        ("p99 = \"2s\"", "p99 = \"two\""),
        ("\"random\"", "\"fastest\""),
        ("status = 504\n", "\n"),
        ("at_most = \"510ms\"", "at_most = 510"),
        ("at_most = 0.122", "at_most = \"2s\""),
        ("seeds = 5", "seeds = 0"),
        ("[compare]", "[compare"),
        ("timeout = \"500ms\"", "timeout = \"0s\""),
        ("that = \"max\"", "that = \"max\"\ntarget = \"web-0\""),
        ("that = \"longest_work\"", "that = \"share\"\ntarget = \"web-7\""),
        ("[[expect]]", TWO_FAULTS),
        (
            "[[expect]]",
            "[[faults]]\ntarget = \"web-0\"\nat = \"20s\"\nwhat = \"hang\"\n\n[[expect]]",
        ),
        (
            "[[expect]]",
            "[[faults]]\ntarget = \"db-0\"\nat = \"1s\"\nwhat = \"crash\"\n\n[[expect]]",
        ),
    ];
    let lines: Vec<_> = cases.iter().map(|(from, to)| complaint(from, to)).collect();
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn what_is_not_there_is_said() {
    let output = meshbench(&["run", "no-such-scenario"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("skewed-latency"), "{}", stderr(&output));
    let output = meshbench(&["run", "no/such/file.toml"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("there is no such file"), "{}", stderr(&output));
    let output = meshbench(&["run", "skewed-latency", "skewed-latency"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("named twice"), "{}", stderr(&output));
    let output = meshbench(&["run", "skewed-latency", "--out", "Cargo.toml"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("Cargo.toml"), "{}", stderr(&output));
    let output = meshbench(&["run", "skewed-latency", "--variant", "fastest"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("peak_ewma"), "{}", stderr(&output));
}

#[test]
fn a_missed_expectation_is_exit_code_3_and_names_its_replay() {
    let file = altered("at_most = \"505ms\"", "at_most = \"1ms\"");
    let out = tempfile::tempdir().unwrap();
    let path = file.path().to_str().unwrap();
    let dir = out.path().to_str().unwrap();
    let args = ["run", path, "--variant", "random", "--seed", "2", "--out", dir];
    let output = meshbench(&args);
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("longest work at an instance"), "{text}");
    assert!(text.contains("--variant random --seed 2"), "{text}");
    assert!(out.path().join("index.html").is_file());
    assert_eq!(std::fs::read_dir(out.path().join("records")).unwrap().count(), 1);
}

#[test]
fn the_replay_of_a_comparison_compares() {
    let scenario = scenarios::catalog::load("skewed-latency").unwrap();
    let text = scenario.text.replace("at_most = 0.5", "at_most = 0.0001");
    let file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
    std::fs::write(file.path(), text).unwrap();
    let out = tempfile::tempdir().unwrap();
    let (path, dir) = (file.path().to_str().unwrap(), out.path().to_str().unwrap());
    let output = meshbench(&["run", path, "--variant", "peak_ewma", "--seed", "1", "--out", dir]);
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    assert!(String::from_utf8_lossy(&output.stdout).contains("0.0001 × round_robin"));
}

#[test]
fn more_runs_than_a_report_holds_are_refused() {
    let output = meshbench(&["run", "skewed-latency", "--seeds", "18446744073709551615"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("fewer seeds"), "{}", stderr(&output));
}

#[test]
fn the_catalogue_is_listed() {
    let output = meshbench(&["list"]);
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    for name in scenarios::catalog::names() {
        assert!(text.contains(name), "{name}");
    }
}

#[test]
fn a_backend_whose_port_is_taken_says_so() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    let output = meshbench(&["backend", "--listen", &addr]);
    assert_eq!(output.status.code(), Some(1));
    let text = stderr(&output);
    assert!(text.contains(&addr) && text.lines().count() == 1, "{text}");
}
