//! Results in JUnit's XML.

use anyhow::Context as _;
use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};
use reports::RunRecord;

use super::format::percent;
use crate::runner::Broken;
use crate::sweep::tally::{Expected, Tally};

/// A sweep: a suite for each scenario, a case for each expectation of a variant.
pub(super) fn of_sweep(tallies: &[Tally]) -> anyhow::Result<String> {
    let mut report = Report::new("meshbench sweep");
    for tally in tallies.iter().filter(|tally| tally.seeds > 0) {
        let mut suite = TestSuite::new(&tally.scenario);
        for expected in &tally.expectations {
            let status = match expected.verdict() {
                (true, _) => TestCaseStatus::success(),
                (false, reason) => missed(tally, expected, reason),
            };
            let name = format!("{} {}", expected.what, expected.wanted);
            suite.add_test_case(case(&tally.scenario, &expected.variant, &name, status));
        }
        for broken in &tally.broken {
            suite.add_test_case(case(&tally.scenario, "run", &broken.run, error(&broken.reason)));
        }
        report.add_test_suite(suite);
    }
    report.to_string().context("writing JUnit's XML")
}

fn missed(tally: &Tally, expected: &Expected, reason: Option<String>) -> TestCaseStatus {
    let (low, high) = expected.interval();
    let mut message = format!(
        "as expected with {} of {} seeds ({} to {})",
        expected.met,
        expected.judged,
        percent(low),
        percent(high)
    );
    if let Some(worst) = &expected.worst {
        message += &format!("; worst: seed {}, {}", worst.seed, worst.measured);
    }
    message += &reason.map(|reason| format!("; {reason}")).unwrap_or_default();
    let replays = tally.failures.iter().filter(|failure| failure.variant == expected.variant);
    let replays: Vec<_> = replays.take(20).map(|failure| failure.replay.as_str()).collect();
    failure(&message, &replays.join("\n"))
}

/// Runs: a suite for each scenario, a case for each check of each run.
pub(super) fn of_runs(
    records: &[RunRecord],
    broken: &[(String, Broken)],
) -> anyhow::Result<String> {
    let mut report = Report::new("meshbench run");
    let mut names: Vec<&str> = Vec::new();
    let known = records.iter().map(|record| record.scenario.name.as_str());
    for name in known.chain(broken.iter().map(|(name, _)| name.as_str())) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    for name in names {
        let mut suite = TestSuite::new(name);
        for record in records.iter().filter(|record| record.scenario.name == name) {
            let of = format!("{} / seed {}", record.variant, record.seed);
            for check in &record.checks {
                let status = if !check.missed_alone() {
                    TestCaseStatus::success()
                } else {
                    let message = format!("wanted {}, measured {}", check.wanted, check.measured);
                    failure(&message, &record.replay)
                };
                suite.add_test_case(case(name, &of, &check.what, status));
            }
        }
        for (_, broken) in broken.iter().filter(|(of, _)| of == name) {
            let of = format!("seed {}", broken.job.seed);
            suite.add_test_case(case(name, &of, "the run", error(&broken.reason)));
        }
        report.add_test_suite(suite);
    }
    report.to_string().context("writing JUnit's XML")
}

fn case(scenario: &str, of: &str, name: &str, status: TestCaseStatus) -> TestCase {
    let mut case = TestCase::new(format!("{of}: {name}"), status);
    case.set_classname(scenario);
    case
}

fn failure(message: &str, text: &str) -> TestCaseStatus {
    let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
    status.set_message(message).set_description(text);
    status
}

fn error(message: &str) -> TestCaseStatus {
    let mut status = TestCaseStatus::non_success(NonSuccessKind::Error);
    status.set_message(message);
    status
}
