//! The pages as a browser shows them, opened from disk: nothing complains, nothing is loaded, nothing
//! overflows on a phone or a desk, figures are there with and without the script, and its controls
//! work.
//!
//! Needs Chromium, or whatever `CHROMIUM` names. With `AXE`, the path of axe-core's `axe.min.js`, the
//! pages are also checked for accessibility: `.ci/page` does that.

#[path = "support/synthetic.rs"]
mod synthetic;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use reports::{PageExtras, RunRecord, write_page};
use synthetic::{ELEVEN, FOUR, Model, THREE, records};

const SMALL: Model = Model { rate: 100, ..ELEVEN };

/// The browser, or `None` when there is none; a machine that names one has to have it.
fn browser() -> Option<PathBuf> {
    if let Some(named) = env::var_os("CHROMIUM") {
        return Some(PathBuf::from(named));
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let names = ["chromium", "chromium-browser", "google-chrome", "chrome"];
    let mut candidates = env::split_paths(&path).flat_map(|dir| names.map(|name| dir.join(name)));
    candidates.find(|file| file.is_file())
}

/// Opens a page in the harness and returns what is wrong with it.
fn findings(browser: &Path, page: &Path, figures: usize, dark: bool) -> String {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let axe =
        env::var_os("AXE").map(|path| fs::read_to_string(path).expect("AXE names axe.min.js"));
    // Within a script of the harness, so nothing in it may end that.
    let axe = serde_json::to_string(&axe).expect("text is JSON").replace("</", "<\\/");
    let harness = include_str!("support/harness.html")
        .replace("= AXE;", &format!("= {axe};"))
        .replace("\"PAGE\"", &format!("\"file://{}\"", page.display()))
        .replace("FIGURES", &figures.to_string());
    let file = dir.path().join("harness.html");
    fs::write(&file, harness).expect("the harness can be written");
    let mut command = Command::new(browser);
    command
        .args(["--headless", "--disable-gpu", "--no-sandbox", "--no-first-run"])
        .args(["--allow-file-access-from-files", "--enable-logging=stderr"])
        .arg(format!("--user-data-dir={}", dir.path().join("profile").display()))
        // Whatever asks for a host gets none.
        .arg("--host-resolver-rules=MAP * ~NOTFOUND")
        .args(["--window-size=1500,1000", "--virtual-time-budget=60000"]);
    if dark {
        command.arg("--blink-settings=preferredColorScheme=0");
    }
    let output = command.arg("--dump-dom").arg(format!("file://{}", file.display())).output();
    let output = output.expect("the browser starts");
    let dom = String::from_utf8_lossy(&output.stdout);
    let log = String::from_utf8_lossy(&output.stderr);
    let result =
        dom.split_once("<pre id=\"result\">").and_then(|(_, rest)| rest.split_once("</pre>"));
    let result = result.map_or("no result", |(result, _)| result);
    let mut findings = match result.strip_prefix("finished") {
        Some(findings) => findings.trim().to_owned(),
        None => format!("the harness did not finish: {result}\n{log}"),
    };
    for line in log.lines().filter(|line| line.contains(":CONSOLE")) {
        // A page in a frame without scripts says that its script did not run, as it should.
        if !line.contains("Blocked script execution") {
            findings.push_str(&format!("\nconsole: {line}"));
        }
    }
    findings
}

#[allow(clippy::print_stderr, reason = "a test that did nothing has to say so")]
fn assert_fine(records: &[RunRecord], pages: &[(&str, usize)]) {
    let Some(browser) = browser() else {
        eprintln!("SKIPPED: no Chromium was found; install it, or name it in CHROMIUM");
        return;
    };
    let dir = tempfile::tempdir().expect("a temporary folder");
    write_page(records, &PageExtras::default(), dir.path()).expect("a page");
    for (page, figures) in pages {
        for dark in [false, true] {
            let findings = findings(&browser, &dir.path().join(page), *figures, dark);
            assert!(
                findings.is_empty(),
                "{page}, {}:\n{findings}",
                if dark { "dark" } else { "light" }
            );
        }
    }
}

#[test]
fn a_page_of_one_scenario_is_fine() {
    assert_fine(&records(&SMALL, &FOUR, &[1, 2, 3, 4, 5]), &[("index.html", 5)]);
}

#[test]
fn an_index_and_a_page_of_it_are_fine() {
    let mut all = records(&SMALL, &FOUR[..3], &[1, 2]);
    all.extend(records(&THREE, &FOUR[1..], &[1]));
    assert_fine(&all, &[("index.html", 0), ("scenario-gray-failure.html", 5)]);
}
