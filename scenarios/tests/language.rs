//! The language: its documentation is itself a scenario, configurations are merged as they are
//! written, and each way to be wrong has one line.
#![allow(clippy::unwrap_used, reason = "a test says by failing what is wrong")]

use std::num::NonZeroU32;
use std::path::Path;
use std::time::Duration;

use proxy::config::InputError;
use scenarios::Scenario;

#[test]
fn the_example_in_contributing_is_a_scenario() -> Result<(), InputError> {
    let text = include_str!("../../CONTRIBUTING.md");
    let block = text.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next());
    let scenario = Scenario::parse(Path::new("example.toml"), block.unwrap_or_default())?;
    assert_eq!(scenario.expect.len(), 5);
    assert_eq!(scenario.variants.len(), 4);
    Ok(())
}

#[test]
fn every_scenario_of_the_catalogue_expects_something() -> Result<(), InputError> {
    for scenario in scenarios::catalog::all()? {
        assert!(!scenario.expect.is_empty(), "{}", scenario.name);
        assert!(scenario.file.seeds.get() >= 3, "{}", scenario.name);
    }
    Ok(())
}

/// What nobody can fail tells nobody apart.
#[test]
fn every_scenario_of_the_catalogue_tells_good_from_bad() -> Result<(), InputError> {
    for scenario in scenarios::catalog::all()? {
        let judges = scenario.expect.iter().any(|expectation| !expectation.must_fail.is_empty());
        assert!(judges, "no variant of {} has to miss anything", scenario.name);
    }
    Ok(())
}

const GOOD: &str = r#"title = "t"
about = "a"
seeds = 1
duration = "10s"

[[services]]
name = "web"
service_time = { constant = "10ms" }
zone = "a"
labels = { app = "web" }
groups = [{ instances = 2, weight = 3 }, { instances = 1, zone = "b", labels = { v = "2" } }]
calls = "db"

[[services]]
name = "db"
instances = 2
service_time = { constant = "10ms" }
cold_start = { factor = 5, over = "10s" }

[load]
arrivals = "constant"
rate = 10
mix = [{ share = 4 }, { method = "POST", share = 1, body = "1KiB", path = "/x" }]
headers = { x-envoy-upstream-rq-timeout-ms = "500" }
timeout = "1s"

[sidecar]
timeout = "2s"

[sidecar.cluster]
max_pending = 7
balance = "random"

[sidecar.cluster.peak_ewma]
decay = "3s"
default_latency = "9ms"

[compare]
strategies = ["round_robin"]

[[variants]]
name = "common"

[[variants]]
name = "own"
balance = "peak_ewma"
cluster = { max_pending = 8, peak_ewma = { decay = "4s" } }
route = { timeout = "1s" }

[[faults]]
target = "db-*"
at = "1s"
every = "2s"
for = "1s"
what = { errors = { rate = 0.5, status = 503, time = "1ms" } }

[[expect]]
that = "time_to_recover"
target = "db-0"
at_most = "1s"
"#;

const ERRORS: &str = "{ errors = { rate = 0.5, status = 503, time = \"1ms\" } }";
/// A fault's time and kind, and the same with its target.
const WHOLE: &str = "at = \"1s\"\nevery = \"2s\"\nfor = \"1s\"\n\
                     what = { errors = { rate = 0.5, status = 503, time = \"1ms\" } }";
const AIMED: &str = "target = \"db-*\"\nat = \"1s\"\nevery = \"2s\"\nfor = \"1s\"\n\
                     what = { errors = { rate = 0.5, status = 503, time = \"1ms\" } }";
const PUSHES: &str = "at = \"1s\"\nwhat = \"wrong_push\"\n\n[[faults]]\nat = \"5s\"\n\
                      what = { push = { cluster = { max_pending = 1 } } }";
const EVERY: &str = "every = \"2s\"\nfor = \"1s\"";
/// What may be there at the same time as the other, and with the same.
const CLASH: &str = "[[faults]]\ntarget = \"*\"\npick = 1\nat = \"7s\"\nuntil = \"9s\"\n\
                     what = { error_rate = 0.1 }\n\n[[expect]]";

fn parse(text: &str) -> Result<Scenario, InputError> {
    Scenario::parse(Path::new("mine.toml"), text)
}

#[test]
fn a_variant_says_what_differs_from_the_common_configuration() {
    let scenario = parse(GOOD).unwrap();
    let said: Vec<_> = scenario
        .variants
        .iter()
        .map(|variant| {
            let (cluster, route) = (&variant.sidecar.cluster, &variant.sidecar.route);
            let peak_ewma = &cluster.peak_ewma;
            (
                variant.name.as_str(),
                cluster.balance.0.name,
                cluster.max_pending,
                (peak_ewma.decay.as_secs(), peak_ewma.default_latency.as_millis()),
                route.timeout.as_secs(),
            )
        })
        .collect();
    assert_eq!(
        said,
        [
            ("round_robin", "round_robin", 7, (3, 9), 2),
            ("common", "random", 7, (3, 9), 2),
            ("own", "peak_ewma", 8, (4, 9), 1),
        ]
    );
    // What nobody says is as the sidecar has it.
    let silent = GOOD.replace("timeout = \"2s\"", "");
    let route = |scenario: &Scenario| scenario.variants[0].sidecar.route.timeout;
    assert_eq!(route(&parse(&silent).unwrap()), Duration::from_secs(15));
}

#[test]
fn instances_are_told_apart_by_their_group() {
    let scenario = parse(GOOD).unwrap();
    assert_eq!(scenario.instances(), ["web-0", "web-1", "web-2", "db-0", "db-1"]);
    assert_eq!(scenario.services_of_instances(), [0, 0, 0, 1, 1]);
    let told = scenario.file.services[0].endpoints();
    let told: Vec<_> = told.iter().map(|e| (e.weight, e.zone.as_deref(), e.labels.len())).collect();
    let three = NonZeroU32::new(3);
    assert_eq!(told, [(three, Some("a"), 1), (three, Some("a"), 1), (None, Some("b"), 2)]);
}

#[test]
fn faults_are_resolved_by_the_seed_alone() {
    let text = GOOD
        .replace("target = \"db-*\"", "target = \"db-*\"\npick = 1")
        .replace(EVERY, "random = { mean_between = \"1s\", mean_length = \"1s\" }")
        .replace(ERRORS, "{ loss = 0.1 }\nfrom = [\"web-0\", \"web-2\"]\nway = \"responses\"");
    let scenario = parse(&text).unwrap();
    let faults = scenario.faults(1);
    assert_eq!(faults, scenario.faults(1));
    assert_ne!(faults, scenario.faults(2));
    let links: Vec<_> = faults[..2].iter().filter_map(sim::Fault::link).collect();
    assert_eq!(links.iter().map(|link| link.caller).collect::<Vec<_>>(), [Some(0), Some(2)]);
    assert!(links[0].instance >= 3 && links[0].instance == links[1].instance);
    assert_eq!(faults[0].kind.to_string(), "loss: 10 % of responses");
}

#[test]
fn a_deployment_is_one_after_the_other() {
    let deploy = "at = \"1s\"\nwhat = { rolling_deploy = { drain = \"1s\", down = \"500ms\", pause = \"2s\" } }";
    let scenario = parse(&GOOD.replace(WHOLE, deploy)).unwrap();
    let of: Vec<_> = scenario
        .faults(1)
        .iter()
        .map(|f| (f.instance(), f.kind.to_string(), f.at.as_millis(), f.until.unwrap().as_millis()))
        .collect();
    let (drain, crash) = ("drain".to_owned(), "crash".to_owned());
    let want = [
        (Some(3), drain.clone(), 1000, 2500),
        (Some(3), crash.clone(), 2000, 2500),
        (Some(4), drain, 4500, 6000),
        (Some(4), crash, 5500, 6000),
    ];
    assert_eq!(of, want);
}

#[test]
fn one_that_leaves_is_drained_then_gone() {
    let leave = "at = \"0s\"\nuntil = \"4s\"\nwhat = { leave = { drain = \"0s\" } }";
    let scenario = parse(&GOOD.replace(WHOLE, leave)).unwrap();
    let faults = scenario.faults(1);
    assert!(!sim::fault::is_listed(&faults, 3) && sim::fault::is_listed(&faults, 0));
    let kinds: Vec<_> = faults.iter().map(|fault| fault.kind.to_string()).collect();
    assert_eq!(kinds, ["crash", "not listed", "crash", "not listed"]);
}

#[test]
fn a_push_is_over_what_each_variant_has() {
    let push = "at = \"1s\"\nwhat = { push = { cluster = { max_pending = 99 }, route = { prefix = \"/a\" } } }";
    let text = GOOD.replace(AIMED, push);
    let text = text.split("[[expect]]").next().unwrap();
    let scenario = parse(text).unwrap();
    let own = scenario.variant("own").unwrap();
    assert_eq!((own.sidecar.cluster.max_pending, own.pushed[0].cluster.max_pending), (8, 99));
    assert_eq!(own.pushed[0].cluster.balance.0.name, "peak_ewma");
    assert_eq!(own.pushed[0].route.timeout, Duration::from_secs(1));
}

#[test]
fn each_way_to_be_wrong_has_one_line() {
    let cases = [
        ("max_pending = 7", "max_pendin = 7"),
        ("max_pending = 7", "max_pending = \"many\""),
        ("max_pending = 8", "max_pendin = 8"),
        ("max_pending = 8", "max_pending = -8"),
        ("decay = \"3s\"", "decay = \"0s\""),
        ("decay = \"4s\"", "decay = \"soon\""),
        ("balance = \"random\"", "balance = \"fastest\""),
        ("max_pending = 7", "name = \"mine\""),
        ("max_pending = 8", "balance = \"random\""),
        ("[sidecar.cluster]", "[sidecar.route]\ntimeout = \"3s\"\n\n[sidecar.cluster]"),
        ("route = { timeout = \"1s\" }", "route = { timout = \"1s\" }"),
        ("route = { timeout = \"1s\" }", "route = { cluster = \"web\" }"),
        ("name = \"common\"", "name = \"round_robin\""),
        ("name = \"common\"", "name = \"a b\""),
        ("share = 4", "share = 0"),
        ("\"POST\"", "\"PO ST\""),
        ("\"1KiB\"", "\"1K\""),
        ("\"/x\"", "\"x\""),
        ("x-envoy-upstream-rq-timeout-ms", "content-length"),
        ("calls = \"db\"", "calls = \"web\""),
        ("calls = \"db\"", ""),
        ("instances = 2\nservice", "service"),
        ("name = \"db\"", "name = \"web\""),
        ("factor = 5", "factor = 0.5"),
        ("db-*", "cache-*"),
        ("target = \"db-*\"", "targets = []"),
        ("target = \"db-*\"", "target = \"db-*\"\ntargets = [\"db-0\"]"),
        ("target = \"db-*\"", "zone = \"c\""),
        ("target = \"db-*\"", "labels = { v = \"3\" }"),
        ("target = \"db-*\"", "labels = { version = \"2\" }"),
        ("target = \"db-*\"", "target = \"db-*\"\nzone = \"b\""),
        ("target = \"db-*\"", "target = \"db-*\"\nfraction = 0.0"),
        ("target = \"db-*\"", "target = \"db-*\"\npick = 0"),
        ("target = \"db-*\"", "target = \"db-*\"\npick = 3"),
        ("target = \"db-*\"", "target = \"db-*\"\npick = 1\nfraction = 0.5"),
        ("target = \"db-*\"", "target = \"db-*\"\nchosen = \"by seed\""),
        ("target = \"db-*\"", "target = \"db-*\"\npick = 1\nchosen = \"at will\""),
        ("target = \"db-*\"", "target = \"db-*\"\nfrom = [\"client\"]"),
        ("target = \"db-*\"", "target = \"db-*\"\nway = \"requests\""),
        (ERRORS, "\"black_hole\"\nfrom = [\"db-0\"]"),
        (ERRORS, "\"black_hole\"\nfrom = [\"client\"]"),
        (ERRORS, "\"black_hole\"\nway = \"up\""),
        (ERRORS, "{ loss = 2 }"),
        (ERRORS, "{ delay = { jitter = \"1ms\" } }"),
        (ERRORS, "{ slow_by = 0.5 }"),
        (ERRORS, "\"explode\""),
        (ERRORS, "{ clock_skew = \"-2days\" }"),
        (ERRORS, "{ churn = { every = \"1ms\" } }"),
        (ERRORS, "{ slow_heads = { connections = 0, every = \"1ms\" } }"),
        (ERRORS, "{ leave = { drain = \"1s\" } }"),
        (ERRORS, "{ rolling_deploy = { drain = \"1s\", down = \"1s\", pause = \"1s\" } }"),
        (
            WHOLE,
            "at = \"7s\"\nwhat = { rolling_deploy = { drain = \"1s\", down = \"1s\", pause = \"0s\" } }",
        ),
        (AIMED, "at = \"1s\"\nwhat = { push = { cluster = { max_pendin = 1 } } }"),
        (AIMED, "at = \"1s\"\nwhat = { push = { cluster = { name = \"mine\" } } }"),
        (AIMED, "at = \"1s\"\nwhat = { push = { route = { timeout = \"soon\" } } }"),
        (AIMED, PUSHES),
        (EVERY, "random = { mean_between = \"1s\", mean_length = \"0s\" }"),
        (EVERY, "random = { mean_between = \"1s\" }"),
        (EVERY, "random = { mean_between = \"1ms\", mean_length = \"1ms\" }"),
        ("for = \"1s\"", "for = \"1s\"\nrandom = { mean_between = \"1s\", mean_length = \"1s\" }"),
        ("at = \"1s\"", "at = \"10s\""),
        ("at = \"1s\"", "at = \"1s\"\nuntil = \"500ms\""),
        ("[[expect]]", CLASH),
        ("for = \"1s\"", "for = \"2s\""),
        ("for = \"1s\"", ""),
        ("every = \"2s\"", ""),
        ("status = 503", "status = 200"),
        ("target = \"db-0\"", "target = \"web-0\""),
        ("target = \"db-0\"", ""),
        ("target = \"db-0\"", "target = \"db-0\"\nmethod = \"GET\""),
        ("at_most = \"1s\"", "at_most = \"1s\"\nof = [\"fastest\"]"),
    ];
    let complaint = |(right, wrong): &(&str, &str)| {
        assert!(GOOD.contains(right), "{right}");
        let text = GOOD.replacen(right, wrong, 1);
        match parse(&text) {
            Ok(_) => panic!("accepted `{wrong}` for `{right}`"),
            Err(error) => error.to_string(),
        }
    };
    let lines: Vec<_> = cases.iter().map(complaint).collect();
    assert!(lines.iter().all(|line| line.lines().count() == 1));
    insta::assert_snapshot!(lines.join("\n"));
}
