//! `meshbench replay`: one run again, from its record or its scenario.

use std::path::Path;

use anyhow::Context as _;
use proxy::config::list;
use reports::RunRecord;
use reports::record::{Check, World};

use super::format::fit;
use super::{FAILED, HELD, MISSED, Usage, print};
use crate::catalog;
use crate::plan::{Job, world};
use crate::runner::run_here;
use crate::scenario::Scenario;
use crate::story;

#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// A record (.json), the name of a scenario of the catalogue, or the path of one
    what: String,

    /// The variant; needed for a scenario that has several
    #[arg(long, value_name = "NAME")]
    variant: Option<String>,

    /// The seed; needed for a scenario
    #[arg(long)]
    seed: Option<u64>,

    /// Also tell what happened, in the order of time; with a number, to that request alone
    #[arg(long, value_name = "REQUEST", num_args = 0..=1)]
    #[expect(clippy::option_option, reason = "clap's type of an option whose value may be absent")]
    trace: Option<Option<u64>>,
}

const EXAMPLES: &str = "\
Examples:
  meshbench replay report/records/flapping--default--seed-3.json
  meshbench replay flapping --variant default --seed 3 --trace
  meshbench replay swarm-17.toml --seed 17 --trace 42

Exit codes: 0 the same again, or all held, 1 not the same, or not run, 2 wrong
arguments or input, 3 the same again, and an expectation did not hold";

/// What is run again, and what it should come to.
struct Original {
    scenario: Scenario,
    variant: String,
    seed: u64,
    record: Option<RunRecord>,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<u8> {
    let Original { mut scenario, variant, seed, record } = original(arguments)?;
    if let Some(asked) = arguments.trace {
        print(trace(&scenario, &variant, seed, asked)?.trim_end())?;
        print("")?;
    }
    keep(&mut scenario, &variant);
    let scenarios = [scenario];
    let jobs = crate::plan::jobs(0, &scenarios[0], seed..=seed);
    let outcome = run_here(&scenarios, &jobs, &|| true);
    if let Some(broken) = outcome.broken.first() {
        let name = broken.job.describe(&scenarios);
        return Err(anyhow::anyhow!("{name}: {}", broken.reason));
    }
    let again = outcome.records.iter().find(|record| record.variant == variant);
    let again = again.context("the run was not made")?;
    print(&format!("{} / {variant} / seed {seed}", again.scenario.name))?;
    for check in &again.checks {
        let verdict = if check.missed_alone() { "missed" } else { "held  " };
        let text = format!("  {verdict}  {} {}: {}", check.what, check.wanted, check.measured);
        print(&fit(&text, 10))?;
    }
    let hash = again.trace_hash.as_deref().unwrap_or_default();
    let held = !again.checks.iter().any(Check::missed_alone);
    let verdict = if held { HELD } else { MISSED };
    let Some(record) = record else {
        print(&format!("\nTrace hash: {hash}"))?;
        return Ok(verdict);
    };
    if record.trace_hash.as_deref() == Some(hash) {
        print(&format!("\nThe same run: trace hash {hash}"))?;
        return Ok(verdict);
    }
    print(&format!("\nNot the same run: trace hash {hash}"))?;
    print(&format!("{:>17} recorded {}", "", record.trace_hash.as_deref().unwrap_or("none")))?;
    let (then, now) = (&record.environment, &again.environment);
    if then == now {
        print("Next: this is a defect, or meshbench was changed without a new version")?;
    } else {
        let text = format!(
            "Next: replay it with meshbench {} ({}), which recorded it; this is {} ({})",
            then.meshbench, then.engine, now.meshbench, now.engine
        );
        print(&fit(&text, 6))?;
    }
    Ok(FAILED)
}

fn original(arguments: &Arguments) -> anyhow::Result<Original> {
    let path = Path::new(&arguments.what);
    if path.extension().is_some_and(|extension| extension == "json") {
        if arguments.variant.is_some() || arguments.seed.is_some() {
            let message = "a record says its variant and its seed; leave --variant and --seed out";
            return Err(Usage(message.to_owned()).into());
        }
        let record = RunRecord::read(path).map_err(|error| Usage(error.to_string()))?;
        if record.world != World::Sim {
            let message = format!("{}: only what was simulated can be repeated", path.display());
            return Err(Usage(message).into());
        }
        let name = format!("{}.toml", record.scenario.name);
        let scenario = Scenario::parse(Path::new(&name), &record.scenario.text)?;
        let (variant, seed) = (record.variant.clone(), record.seed);
        known(&scenario, &variant)?;
        return Ok(Original { scenario, variant, seed, record: Some(record) });
    }
    let scenario = catalog::load(&arguments.what)?;
    let seed = arguments.seed.ok_or_else(|| Usage("say which with --seed".to_owned()))?;
    let variant = match (&arguments.variant, scenario.variants.as_slice()) {
        (Some(variant), _) => variant.clone(),
        (None, [only]) => only.name.clone(),
        (None, _) => String::new(),
    };
    known(&scenario, &variant)?;
    Ok(Original { scenario, variant, seed, record: None })
}

fn known(scenario: &Scenario, variant: &str) -> anyhow::Result<()> {
    if scenario.variant(variant).is_some() {
        return Ok(());
    }
    let names: Vec<_> = scenario.variants.iter().map(|variant| variant.name.as_str()).collect();
    let message = format!("--variant: {} compares {}", scenario.name, list(&names));
    Err(Usage(message).into())
}

/// Leaves the variant and those that it is compared with.
fn keep(scenario: &mut Scenario, variant: &str) {
    let about = scenario.expect.iter().filter(|expectation| expectation.is_about(variant));
    let bases: Vec<_> = about.filter_map(|expectation| expectation.compared_with.clone()).collect();
    scenario.variants.retain(|other| other.name == variant || bases.contains(&other.name));
}

fn trace(scenario: &Scenario, variant: &str, seed: u64, of: Option<u64>) -> anyhow::Result<String> {
    let place = scenario.variants.iter().position(|other| other.name == variant);
    let job = Job { scenario: 0, variant: place.unwrap_or_default(), seed };
    let spec =
        world(scenario, &scenario.variants[job.variant], seed).map_err(anyhow::Error::msg)?;
    let result = sim::turmoil_engine::run(&spec, || true)?.context("the run was given up")?;
    Ok(story::tell(scenario, &result, of))
}
