//! What to distrust: doubts that the runs raised themselves, and those that show only when the
//! records are put beside each other. Data, each with a remedy; the texts are made of it.

use loadgen::histogram::HIGHEST;
use serde::Serialize;

use super::{FEW_SEEDS, Knee, ScenarioSummary};
use crate::format::{plural, rate, seeds};
use crate::record::{RunRecord, WarningKind, World};

/// A doubt about one run, several, or all of a scenario.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Doubt {
    /// What sort of doubt it is; the gravest come first.
    pub kind: WarningKind,
    /// What it is about: a scenario, and a variant or a seed of it.
    pub about: String,
    /// What is doubtful: a sentence without its full stop.
    pub doubt: String,
    /// What would mend it: a sentence without its full stop; empty if nothing would.
    pub remedy: String,
}

impl Doubt {
    /// As one line to read.
    pub fn text(&self) -> String {
        self.text_about(&self.about)
    }

    /// The same of something else.
    fn text_about(&self, about: &str) -> String {
        let Doubt { doubt, remedy, .. } = self;
        let remedy = match remedy.chars().next() {
            None => String::new(),
            Some(first) => {
                let rest = &remedy[first.len_utf8()..];
                format!(" {}{rest}.", first.to_uppercase())
            }
        };
        format!("{about}: {doubt}.{remedy}")
    }
}

/// These doubts as lines to read; what is doubtful in the same way of several things is said once.
pub fn in_lines(doubts: &[Doubt]) -> Vec<String> {
    let mut lines: Vec<(&Doubt, Vec<&str>)> = Vec::new();
    for doubt in doubts {
        let same = |of: &&mut (&Doubt, Vec<&str>)| {
            (of.0.kind, &of.0.doubt, &of.0.remedy) == (doubt.kind, &doubt.doubt, &doubt.remedy)
        };
        match lines.iter_mut().find(same) {
            Some((_, about)) => about.push(&doubt.about),
            None => lines.push((doubt, vec![&doubt.about])),
        }
    }
    let line = |(doubt, about): &(&Doubt, Vec<&str>)| match about.len() {
        0..=MOST => doubt.text_about(&about.join("; ")),
        all => doubt.text_about(&format!("{} and {} more", about[..NAMED].join("; "), all - NAMED)),
    };
    lines.iter().map(line).collect()
}

/// With more than this, what a doubt is about is named in part and counted.
const MOST: usize = 6;
/// How many of them are then named.
const NAMED: usize = 3;

/// Doubts about these records as lines to read, the gravest first.
pub fn doubts(records: &[RunRecord], scenarios: &[ScenarioSummary]) -> Vec<String> {
    warnings(records, scenarios).iter().map(Doubt::text).collect()
}

/// Doubts about these records, the gravest first.
pub fn warnings(records: &[RunRecord], scenarios: &[ScenarioSummary]) -> Vec<Doubt> {
    let mut doubts = Vec::new();
    let mut gathered: Vec<Gathered> = Vec::new();
    for record in records {
        for doubt in of_run(record) {
            // The same doubt of many runs is said once, with their number.
            match gathered.iter_mut().find(|known| known.is_like(&doubt)) {
                Some(known) => known.add(&doubt),
                None => gathered.push(Gathered { doubt, runs: 1, varies: false }),
            }
        }
    }
    for scenario in scenarios {
        differing(records, scenario, &mut doubts);
        unpaired(scenario, &mut doubts);
        few_seeds(scenario, &mut doubts);
        knees(scenario, &mut doubts);
    }
    doubts.extend(gathered.into_iter().map(Gathered::said));
    doubts.sort_by_key(|doubt| doubt.kind);
    doubts
}

/// A doubt that several runs have.
struct Gathered {
    /// As the first of them has it.
    doubt: Doubt,
    runs: usize,
    /// Whether their numbers differ.
    varies: bool,
}

impl Gathered {
    /// Whether it differs in numbers alone.
    fn is_like(&self, doubt: &Doubt) -> bool {
        let known = &self.doubt;
        (known.kind, &known.about, &known.remedy) == (doubt.kind, &doubt.about, &doubt.remedy)
            && words_of(&known.doubt) == words_of(&doubt.doubt)
    }

    fn add(&mut self, doubt: &Doubt) {
        self.runs += 1;
        self.varies |= self.doubt.doubt != doubt.doubt;
    }

    fn said(self) -> Doubt {
        let Self { doubt, runs, varies } = self;
        Doubt {
            about: format!("{} ({})", doubt.about, plural(runs, "run")),
            doubt: match varies {
                true => format!("{}, in the first of them", doubt.doubt),
                false => doubt.doubt,
            },
            ..doubt
        }
    }
}

fn words_of(text: &str) -> String {
    text.chars().filter(|c| !c.is_ascii_digit() && *c != '.').collect()
}

/// What a run says of itself, and what its numbers say.
fn of_run(record: &RunRecord) -> Vec<Doubt> {
    let about = format!("{}, {}", record.scenario.name, record.variant);
    let doubt = |kind, doubt: &str, remedy: &str| Doubt {
        kind,
        about: about.clone(),
        doubt: doubt.trim_end_matches('.').to_owned(),
        remedy: remedy.trim_end_matches('.').to_owned(),
    };
    let mut doubts: Vec<Doubt> =
        record.warnings.iter().map(|w| doubt(w.kind, &w.doubt, &w.remedy)).collect();
    if let Err(imbalance) = record.accounting.verify() {
        let seed = record.seed;
        doubts.push(Doubt {
            about: format!("{about}, seed {seed}"),
            ..doubt(
                WarningKind::Unbalanced,
                &imbalance.to_string(),
                "do not trust its rates; this is a defect of the load generator",
            )
        });
    }
    let not_sent = record.accounting.shed + record.accounting.skipped + record.accounting.unsent;
    if not_sent * 100 > record.accounting.planned {
        doubts.push(doubt(
            WarningKind::ClientSaturated,
            "the client did not send more than one in a hundred of the planned requests",
            "raise its bound on requests in flight, or lower the rate",
        ));
    }
    let lag = record.latency.send_lag.quantile(0.99);
    if record.world == World::Sim && lag > SIMULATED_LAG {
        doubts.push(doubt(
            WarningKind::ClientSaturated,
            "the simulated client sent late, because requests waited for a place in flight",
            "raise load.max_in_flight; response times contain the wait, service times do not",
        ));
    }
    if record.latency.response.max() >= HIGHEST {
        doubts.push(doubt(
            WarningKind::Clamped,
            "some response times are longer than the histogram reaches, and count as an hour",
            "shorten the timeout to less than an hour",
        ));
    }
    if record.accounting.planned == 0 {
        doubts.push(doubt(
            WarningKind::NotANumber,
            "no request was planned, so there are no rates and no percentiles",
            "lengthen the run or raise its rate",
        ));
    }
    doubts
}

/// A simulated client has nothing else to do: the simulator's clock ticks in milliseconds, and a
/// few of them are the connection.
const SIMULATED_LAG: std::time::Duration = std::time::Duration::from_millis(5);

fn differing(records: &[RunRecord], summary: &ScenarioSummary, doubts: &mut Vec<Doubt>) {
    let name = &summary.scenario.name;
    let runs = || records.iter().filter(|r| r.scenario.name == *name);
    let doubt = |doubt: &str, remedy: &str| Doubt {
        kind: WarningKind::Unpaired,
        about: name.clone(),
        doubt: doubt.to_owned(),
        remedy: remedy.to_owned(),
    };
    if runs().any(|r| r.scenario.text != summary.scenario.text) {
        doubts.push(doubt(
            "its records come from different texts of the scenario, and are compared all the same",
            "run all of them again from one text",
        ));
    }
    let versions = |r: &RunRecord| r.environment.meshbench.clone();
    if let Some(first) = runs().next().map(versions)
        && runs().any(|r| versions(r) != first)
    {
        doubts.push(doubt(
            "its records were written by different versions of meshbench",
            "run all of them again with one",
        ));
    }
    let machines = |r: &RunRecord| r.environment.machine.clone();
    if let Some(first) = runs().next().map(machines)
        && runs().any(|r| r.world == World::Live && machines(r) != first)
    {
        doubts.push(doubt(
            "its live runs are of different machines, and are compared all the same",
            "run all of them on one machine",
        ));
    }
}

fn unpaired(scenario: &ScenarioSummary, doubts: &mut Vec<Doubt>) {
    let Some(first) = scenario.variants.first() else { return };
    if scenario.variants.iter().all(|v| v.seeds == first.seeds) {
        return;
    }
    let sets: Vec<String> =
        scenario.variants.iter().map(|v| format!("{} {}", v.label, seeds(&v.seeds))).collect();
    doubts.push(Doubt {
        kind: WarningKind::Unpaired,
        about: scenario.scenario.name.clone(),
        doubt: format!(
            "the variants ran with different seeds ({}), so they did not meet the same arrivals",
            sets.join("; ")
        ),
        remedy: "run the missing seeds".to_owned(),
    });
}

fn few_seeds(scenario: &ScenarioSummary, doubts: &mut Vec<Doubt>) {
    let fewest = scenario.variants.iter().map(|v| v.seeds.len()).min().unwrap_or(0);
    if fewest >= FEW_SEEDS {
        return;
    }
    let consequence = match fewest {
        1 => "nothing is known about how far another seed would differ",
        _ => "the range over seeds is likely narrower than the truth",
    };
    doubts.push(Doubt {
        kind: WarningKind::FewSeeds,
        about: scenario.scenario.name.clone(),
        doubt: format!("only {} per variant, so {consequence}", plural(fewest, "seed")),
        remedy: format!("run at least {FEW_SEEDS}"),
    });
}

fn knees(scenario: &ScenarioSummary, doubts: &mut Vec<Doubt>) {
    for curve in &scenario.knees {
        let (doubt, remedy) = match curve.knee {
            Knee::Beyond { rate_per_s } => (
                format!("it kept up with {}/s, so its knee was not reached", rate(rate_per_s)),
                "add higher rates",
            ),
            Knee::Below { rate_per_s } => (
                format!("it did not keep up with {}/s, so its knee lies below", rate(rate_per_s)),
                "add lower rates",
            ),
            Knee::Unknown => {
                ("no seed ran at every rate, so it has no knee".to_owned(), "run the missing seeds")
            }
            Knee::At { .. } => continue,
        };
        doubts.push(Doubt {
            kind: WarningKind::KneeNotReached,
            about: format!("{}, {}", scenario.scenario.name, curve.family),
            doubt,
            remedy: remedy.to_owned(),
        });
    }
}
