//! Matrices of variants: what they make, and what is wrong with them.

#![allow(clippy::unwrap_used, reason = "a test says by failing what is wrong")]

use std::path::Path;

use scenarios::Scenario;

fn parse(compared: &str) -> Result<Scenario, String> {
    let text = format!(
        r#"
title = "t"
about = "a"
seeds = 1
duration = "10s"
{compared}
[[services]]
name = "web"
instances = 2
service_time = {{ constant = "10ms" }}

[load]
arrivals = "poisson"
rate = 50
timeout = "1s"
"#
    );
    Scenario::parse(Path::new("m.toml"), &text).map_err(|error| error.to_string())
}

fn names(scenario: &Scenario) -> Vec<&str> {
    scenario.variants.iter().map(|variant| variant.name.as_str()).collect()
}

#[test]
fn every_combination_is_a_variant() {
    let scenario = parse(
        "[matrix]\nbalance = [\"random\", \"peak_ewma\"]\n\
         \"route.retry.max_retries\" = [0, 2]\nload.rate = [100, 200.5]",
    );
    let scenario = scenario.unwrap();
    assert_eq!(
        names(&scenario),
        [
            "random+max_retries=0@100",
            "random+max_retries=0@200.5",
            "random+max_retries=2@100",
            "random+max_retries=2@200.5",
            "peak_ewma+max_retries=0@100",
            "peak_ewma+max_retries=0@200.5",
            "peak_ewma+max_retries=2@100",
            "peak_ewma+max_retries=2@200.5",
        ]
    );
    let last = &scenario.variants[7];
    assert_eq!(last.sidecar.cluster.balance.0.name, "peak_ewma");
    assert_eq!(last.sidecar.route.retry.max_retries, 2);
    assert_eq!(last.rate(), Some(200.5));
    assert_eq!(last.settings["route.retry.max_retries"], "2");
    assert_eq!(last.settings["load.rate"], "200.5");
}

#[test]
fn a_matrix_multiplies_what_is_compared() {
    let scenario = parse(
        "[compare]\nstrategies = [\"random\", \"peak_ewma\"]\n\
         [[variants]]\nname = \"impatient\"\nroute = { timeout = \"1s\" }\n\
         [matrix.cluster]\nretry_budget.ratio = [0.1, 0.2]",
    );
    let scenario = scenario.unwrap();
    let ratios = ["ratio=0.1", "ratio=0.2"];
    let want: Vec<String> = ["random", "peak_ewma", "impatient"]
        .iter()
        .flat_map(|base| ratios.map(|ratio| format!("{base}+{ratio}")))
        .collect();
    assert_eq!(names(&scenario), want);
    assert_eq!(scenario.variants[4].sidecar.route.timeout.as_secs(), 1);
    assert_eq!(scenario.variants[0].rate(), None);
}

#[test]
fn what_is_wrong_with_a_matrix_is_said_at_its_line() {
    let wrong = [
        "matrix = 3",
        "[matrix]",
        "[matrix]\nbalance = []",
        "[matrix]\nbalance = \"random\"",
        "[matrix]\nbalance = [\"rondom\"]",
        "[matrix]\nbalance = [\"random\", \"random\"]",
        "[matrix]\nload.rate = [0]",
        "[matrix]\nload.rate = [1e12]",
        "[matrix]\nload.timeout = [\"1s\"]",
        "[matrix]\ncluster.name = [\"a\"]",
        "[matrix]\n\"route.retry.max_retries\" = [-1]",
        "[matrix]\n\"route.retry.on\" = [[\"5xx\"]]",
        "[matrix]\nroute.prefix = [\"/a\"]",
        "[compare]\nstrategies = [\"random\"]\n[matrix]\nbalance = [\"random\"]",
        "[matrix]\nload.rate = [1,2,3,4,5,6,7,8,9,10,11,12,13,14,15]\n\
         route.retry.max_retries = [1,2,3,4,5,6,7,8,9,10,11,12,13,14,15]",
    ];
    for compared in wrong {
        let error = parse(compared).expect_err(compared);
        assert!(error.starts_with("m.toml"), "{error}");
        assert!(error.contains("matrix"), "{compared}: {error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}
