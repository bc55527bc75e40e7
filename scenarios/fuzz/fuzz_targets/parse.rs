//! Whatever a file holds, reading it ends in a scenario, or in one error on one line.
//!
//! `.ci/fuzz 60 scenarios` runs it for a minute, beginning with the catalogue.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use scenarios::Scenario;

fuzz_target!(|text: &str| {
    match Scenario::parse(Path::new("fuzzed.toml"), text) {
        Ok(scenario) => {
            // What was accepted can be planned: nothing that it leads to may panic either.
            for variant in &scenario.variants {
                assert!(scenarios::plan::world(&scenario, variant, 1).is_ok());
            }
        }
        Err(error) => {
            assert_eq!(error.to_string().lines().count(), 1, "{error}");
            assert!(format!("{error:#}").lines().count() <= 4);
        }
    }
});
