//! `meshbench report` and `meshbench compare` as their users meet them, with records of real runs.
#![allow(clippy::unwrap_used, reason = "a test says by failing what is wrong")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Two variants, one of which is slower by what it picks.
const SCENARIO: &str = r#"title = "One of three is slow"
about = "a"
seeds = 5
duration = "4s"
services = [{ name = "web", instances = 3, service_time = { constant = "10ms" } }]
faults = [{ target = "web-0", at = "1s", what = { slow = { constant = "200ms" } } }]
compare = { strategies = ["round_robin", "peak_ewma"] }

[load]
arrivals = "poisson"
rate = 100
timeout = "2s"
"#;

fn meshbench(dir: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_meshbench")).current_dir(dir).args(args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A folder with the records of both variants, in folders of their names and as one variant.
fn records() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("slow.toml"), SCENARIO).unwrap();
    let output = meshbench(dir.path(), &["run", "slow.toml", "--out", "all"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    for variant in ["round_robin", "peak_ewma"] {
        let own = dir.path().join(variant);
        fs::create_dir(&own).unwrap();
        for file in files(&dir.path().join("all/records")) {
            let record = fs::read_to_string(&file).unwrap();
            let named = format!("\"variant\": \"{variant}\"");
            if record.contains(&named) {
                let record = record.replace(&named, "\"variant\": \"ours\"");
                fs::write(own.join(file.file_name().unwrap()), record).unwrap();
            }
        }
        assert_eq!(files(&own).len(), 5);
    }
    dir
}

fn files(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn worse_is_exit_code_3_and_better_or_equal_is_none() {
    let dir = records();
    let compare = |a: &str, b: &str, more: &[&str]| {
        let output = meshbench(dir.path(), &[&["compare", a, b], more].concat());
        assert_eq!(text(&output.stderr), "");
        (output.status.code(), text(&output.stdout))
    };
    let (code, shown) = compare("peak_ewma", "round_robin", &[]);
    assert_eq!(code, Some(3), "{shown}");
    assert!(shown.contains("slow / ours: 5 pairs of seeds"), "{shown}");
    assert!(shown.lines().any(|line| line.contains("p99 ms") && line.ends_with("worse")));
    assert!(
        shown.lines().all(|line| line.chars().count() <= 80),
        "wider than a terminal:\n{shown}"
    );
    let (code, shown) = compare("round_robin", "round_robin", &[]);
    assert_eq!(code, Some(0), "{shown}");
    assert!(shown.contains("No difference shown"), "{shown}");
    let (code, shown) = compare("peak_ewma", "round_robin", &["--format", "markdown"]);
    assert_eq!(code, Some(3), "{shown}");
    assert!(shown.starts_with("### ") && shown.contains("| **worse** |"), "{shown}");
    let (_, shown) = compare("peak_ewma", "round_robin", &["--format", "json"]);
    let json: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(json["groups"][0]["metrics"].as_array().unwrap().len(), 12);
}

#[test]
fn a_single_run_on_one_side_is_no_comparison() {
    let dir = records();
    let one = files(&dir.path().join("peak_ewma")).remove(0);
    let name = one.to_str().unwrap();
    for (a, b, side) in [(name, "peak_ewma", "A has"), ("peak_ewma", name, "B has")] {
        let output = meshbench(dir.path(), &["compare", a, b]);
        let (shown, said) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(2), "{shown}{said}");
        assert!(shown.contains(&format!("nothing can be told: {side} a single run,")), "{shown}");
        assert!(shown.contains("run at least 5 seeds of"), "{shown}");
        assert!(said.starts_with("meshbench: nothing can be told of so few runs"), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}

#[test]
fn what_cannot_be_read_is_named_and_the_page_says_so_at_its_top() {
    let dir = records();
    let one = files(&dir.path().join("peak_ewma")).remove(0);
    let whole = fs::read_to_string(&one).unwrap();
    fs::write(dir.path().join("peak_ewma/cut.json"), &whole[..3000]).unwrap();
    let older = whole.replace("meshbench.run/2", "meshbench.run/0");
    fs::write(dir.path().join("peak_ewma/older.json"), older).unwrap();
    let output = meshbench(dir.path(), &["report", "peak_ewma", "--out", "page"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let said = text(&output.stderr);
    assert_eq!(said.lines().count(), 2, "{said}");
    assert!(said.contains("cut.json: not a run record"), "{said}");
    assert!(said.contains("older.json: the record has schema `meshbench.run/0`"), "{said}");
    let page = fs::read_to_string(dir.path().join("page/index.html")).unwrap();
    let place = |words: &str| page.find(words).unwrap_or_else(|| panic!("{words} is not there"));
    assert!(place("What to distrust") < place("cut.json: not a run record"));
    assert!(place("older.json") < place("<section id=\"comparison\""));
}

#[test]
fn wrong_input_is_one_line_and_exit_code_2() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("empty")).unwrap();
    let cases: [(&[&str], &str); 6] = [
        (&["report", "nowhere"], "meshbench: nowhere: "),
        (&["report", "empty"], "meshbench: there are no records to report"),
        (&["compare", "nowhere", "empty"], "meshbench: nowhere: "),
        (&["compare", "empty", "empty"], "meshbench: empty: there are no records in it"),
        (&["compare", "empty", "empty", "--confidence", "1"], "meshbench: --confidence: 1 is not"),
        (&["report", "empty", "--baseline", "nobody"], "meshbench: there are no records"),
    ];
    for (args, wanted) in cases {
        let output = meshbench(dir.path(), args);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {said}");
        assert!(said.starts_with(wanted) && said.lines().count() == 1, "{args:?}: {said}");
    }
}

#[test]
fn a_place_that_cannot_be_written_is_named_once() {
    let dir = records();
    fs::write(dir.path().join("file"), "").unwrap();
    let output = meshbench(dir.path(), &["report", "peak_ewma", "--out", "file"]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert_eq!(said.matches("Not a directory").count(), 1, "{said}");
    let output = meshbench(dir.path(), &["report", "peak_ewma", "--baseline", "nobody"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("no record is of a variant called nobody"));
}
