//! The JSON schema accepts what the reader accepts, and refuses what a schema can refuse.
#![allow(clippy::unwrap_used, reason = "a test says by failing what is wrong")]

use std::path::Path;

use jsonschema::Validator;
use scenarios::Scenario;
use serde_json::Value;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scenario.schema.json");

fn schema() -> Value {
    serde_json::to_value(scenarios::scenario::schema()).unwrap()
}

fn validator() -> Validator {
    jsonschema::validator_for(&schema()).unwrap()
}

fn json(toml: &str) -> Value {
    toml::from_str(toml).unwrap()
}

#[test]
fn the_file_in_the_repository_is_this_schema() {
    let text = serde_json::to_string_pretty(&schema()).unwrap() + "\n";
    if std::env::var_os("INSTA_UPDATE").is_some_and(|update| update == "always") {
        std::fs::write(FILE, &text).unwrap();
    }
    let hint = "write it again with `meshbench schema > scenarios/scenario.schema.json`";
    assert_eq!(std::fs::read_to_string(FILE).unwrap_or_default(), text, "{hint}");
}

#[test]
fn every_scenario_of_the_catalogue_is_valid() {
    let validator = validator();
    for scenario in scenarios::catalog::all().unwrap() {
        let errors: Vec<_> = validator
            .iter_errors(&json(&scenario.text))
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        assert!(errors.is_empty(), "{}: {errors:#?}", scenario.name);
    }
}

/// Every mistake that concerns one value alone; what contradicts something else is the reader's.
#[test]
fn wrong_files_are_not_valid() {
    let validator = validator();
    for name in [
        "missing-duration",
        "type-seeds-as-text",
        "type-services-as-table",
        "type-targets-as-text",
        "unit-duration-without",
        "unit-rate-as-text",
        "unit-body-without",
        "name-unknown-field",
        "name-unknown-strategy",
        "name-unknown-fault",
        "name-unknown-metric",
        "expect-confidence-of-certainty",
    ] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/malformed");
        let text = std::fs::read_to_string(folder.join(name).with_extension("toml")).unwrap();
        assert!(Scenario::parse(Path::new(name), &text).is_err());
        assert!(!validator.is_valid(&json(&text)), "{name} is valid by the schema");
    }
}

#[test]
fn fields_and_metrics_have_descriptions_for_editors() {
    let text = schema().to_string();
    assert!(text.contains("Arrivals per second, on average."));
    assert!(text.contains("\"success_rate\"") && text.contains("\"peak_ewma\""));
    // Links of the documentation would be read as they are.
    assert!(!text.contains("[`"), "{text}");
}
