//! The documentation of the language is itself a scenario.

use std::path::Path;

use proxy::config::InputError;
use scenarios::Scenario;

#[test]
fn the_example_in_contributing_is_a_scenario() -> Result<(), InputError> {
    let text = include_str!("../../CONTRIBUTING.md");
    let block = text.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next());
    let scenario = Scenario::parse(Path::new("example.toml"), block.unwrap_or_default())?;
    assert_eq!(scenario.file.expect.len(), 3);
    Ok(())
}

#[test]
fn every_scenario_of_the_catalogue_expects_something() -> Result<(), InputError> {
    for scenario in scenarios::catalog::all()? {
        assert!(!scenario.file.expect.is_empty(), "{}", scenario.name);
        assert!(scenario.file.seeds.get() >= 5, "{}", scenario.name);
    }
    Ok(())
}
