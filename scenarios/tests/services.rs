//! Services and load: what can be said of them, what it comes to, and each way to be wrong.
#![allow(clippy::unwrap_used, reason = "a test says by failing what is wrong")]

use std::path::Path;
use std::time::Duration;

use proxy::config::InputError;
use scenarios::Scenario;
use scenarios::plan::{jobs, world};
use scenarios::runner::run_all;
use sim::ServiceTime;
use sim::backend::{Abandoned, Discipline};

const GOOD: &str = r#"title = "t"
about = "a"
seeds = 1
duration = "10s"

[[services]]
name = "web"
instances = 2
service_time = { hyperexponential = { mean = "10ms", scv = 4.0 } }
discipline = "processor_sharing"
workers = 2
queue = 10
abandoned = "serve"
errors = { rate = 0.1, status = 503, time = { constant = "1ms" }, method = "POST", path = "/a" }
cold_start = { factor = 5, over = "2s", at_start = true }
capacity = [{ at = "2s", factor = 0.5 }, { at = "4s", factor = 1.0 }]
answer = "1KiB"
calls = [["add", "sub"], { service = "add", times = 8, method = "GET", path = "/x?l=1", share = 0.5, headers = { a = "b" } }]

[[services]]
name = "add"
instances = 1
service_time = { pareto = { min = "1ms", exponent = 2.5, max = "1s" } }
discipline = "lifo"
workers = 1
capacity = { factor = 0.3, busy = "1s", free = "4s" }
answer = "identity"
weight = 15

[[services]]
name = "sub"
instances = 1
service_time = { empirical = "times.csv" }

[load]
arrivals = "uniform"
stages = [{ at = "0s", rate = 10 }, { at = "5s", rate = 50 }, { at = "5s", rate = 20 }]
warm_up = "1s"
mix = [{ share = 1 }, { method = "POST", share = 1, headers = { env = "staging" }, deadline = "1s", idempotency_key = true }]
timeout = "5s"

[compare]
strategies = ["round_robin"]

[[expect]]
that = "success_rate"
at_least = 0.5
"#;

const TIMES: &str = "# ms,weight\n5,3\n10\n";

fn read(name: &str) -> Result<String, String> {
    match name {
        "times.csv" => Ok(TIMES.to_owned()),
        "odd.csv" => Ok("5\nfast\n".to_owned()),
        other => Err(format!("cannot read {other}: no such file")),
    }
}

fn parse(text: &str) -> Result<Scenario, InputError> {
    Scenario::parse_with(Path::new("mine.toml"), text, &read)
}

#[test]
fn all_that_is_said_of_services_reaches_the_world() {
    let scenario = parse(GOOD).unwrap();
    assert_eq!(scenario.files["times.csv"], TIMES);
    let spec = world(&scenario, &scenario.variants[0], 1).unwrap();
    let [web, add, sub] = spec.services.as_slice() else { panic!("{:?}", spec.services.len()) };
    let settings = &web.instances[0].settings;
    assert_eq!(settings.discipline, Discipline::ProcessorSharing);
    assert_eq!((settings.workers, settings.queue), (Some(2), Some(10)));
    assert_eq!(settings.abandoned, Abandoned::Serve);
    assert_eq!(settings.errors.to_string(), "errors: 10 % with 503 after constant 1ms of POST /a");
    assert!(settings.cold_start.unwrap().at_start);
    assert_eq!(web.instances[1].capacity.len(), 2);
    assert_eq!(web.instances[0].body.as_ref().unwrap().len(), 1024);
    let groups: Vec<Vec<_>> = web
        .calls
        .iter()
        .map(|group| group.iter().map(|c| (c.service, c.times.get(), c.share)).collect())
        .collect();
    assert_eq!(groups, [vec![(1, 1, 1.0), (2, 1, 1.0)], vec![(1, 8, 0.5)]]);
    assert_eq!(web.calls[1][0].path.as_str(), "/x?l=1");
    assert_eq!(web.calls[1][0].headers["a"], "b");
    let identity = add.instances[0].body.as_ref().unwrap();
    assert_eq!(&identity[..], b"{\"service\":\"add\",\"host\":\"add-0\",\"weight\":15}\n");
    assert!(!add.instances[0].capacity.is_empty());
    let ServiceTime::Empirical(times) = &sub.instances[0].settings.service_time else {
        panic!("{:?}", sub.instances[0].settings)
    };
    assert_eq!(times.file(), "times.csv");
}

#[test]
fn load_changes_and_its_beginning_is_not_looked_at() {
    let scenario = parse(GOOD).unwrap();
    let spec = world(&scenario, &scenario.variants[0], 1).unwrap();
    // 5 s from 10 to 50 a second, then 5 s of 20.
    let planned: Vec<_> = spec.load.plan.instants().collect();
    assert!((249..=250).contains(&planned.len()), "{}", planned.len());
    let early = planned.iter().filter(|at| **at < Duration::from_secs(5)).count();
    assert!((149..=151).contains(&early), "{early}");
    let end = Duration::from_secs(10);
    let window = scenario.expect[0].when.window(end, |_| None);
    assert_eq!(window, Some(Duration::from_secs(1)..end));
    let posts = (0..100).filter(|i| spec.load.mix.deadline_of(*i) == Some(Duration::from_secs(1)));
    let is_post = |index: u64| spec.load.mix.target_of(index).method() == "POST";
    let posts: Vec<_> = posts.collect();
    assert!((30..70).contains(&posts.len()) && posts.into_iter().all(is_post));
}

#[test]
fn a_call_graph_runs_and_its_books_balance() {
    let scenarios = [parse(GOOD).unwrap()];
    let run = || run_all(&scenarios, &jobs(0, &scenarios[0], 1..=1), &(), &|| true);
    let outcome = run();
    assert!(outcome.broken.is_empty(), "{:?}", outcome.broken);
    let record = &outcome.records[0];
    for check in &record.checks {
        assert!(check.held, "{}: {} wanted {}", check.what, check.measured, check.wanted);
    }
    assert_eq!(record.scenario.files["times.csv"], TIMES);
    assert_eq!(record.plan.warm_up_ms, Some(1000));
    assert_eq!(record.trace_hash, run().records[0].trace_hash);
}

/// The calculator: 16 calls for each request, one after the other.
#[test]
fn sixteen_calls_are_eight_of_each() {
    let text = r#"title = "t"
about = "a"
seeds = 1
duration = "5s"
services = [
    { name = "api", instances = 1, service_time = { constant = "2ms" }, calls = [
        { service = "add", times = 8, method = "GET", path = "/api/v1/execute/?l=1&r=2" },
        { service = "sub", times = 8, method = "GET", path = "/api/v1/execute/?l=3&r=2" },
    ] },
    { name = "add", instances = 2, service_time = { constant = "1ms" } },
    { name = "sub", instances = 2, service_time = { constant = "1ms" } },
]
load = { users = 5, timeout = "5s", mix = [{ method = "POST", path = "/api/v1/compute", body = "64B", share = 1 }] }
compare = { strategies = ["round_robin"] }
"#;
    let scenarios = [parse(text).unwrap()];
    let outcome = run_all(&scenarios, &jobs(0, &scenarios[0], 1..=1), &(), &|| true);
    let record = &outcome.records[0];
    assert!(record.checks[0].held, "{}", record.checks[0].measured);
    let arrived = |service: &str| -> Vec<u64> {
        let of = record.endpoints.iter().filter(|endpoint| endpoint.service == service);
        of.map(|endpoint| endpoint.total.arrived).collect()
    };
    let requests = arrived("api")[0];
    assert!(requests > 50 && requests == record.accounting.sent, "{requests}");
    for service in ["add", "sub"] {
        let arrived = arrived(service);
        assert_eq!(arrived.iter().sum::<u64>(), 8 * requests, "{service}");
        assert!(arrived.iter().all(|at_one| *at_one > 0), "{service}: {arrived:?}");
    }
    assert_eq!(record.plan.arrivals, "closed");
}

#[test]
fn each_way_to_be_wrong_about_services_and_load_has_one_line() {
    let cases = [
        ("scv = 4.0", "scv = 0.5"),
        ("hyperexponential", "gamma"),
        ("exponent = 2.5", "exponent = 1.0"),
        ("max = \"1s\"", "max = \"1ms\""),
        ("times.csv", "none.csv"),
        ("times.csv", "odd.csv"),
        ("\"processor_sharing\"", "\"fair\""),
        ("workers = 2\n", ""),
        ("workers = 1\n", ""),
        ("\"serve\"", "\"keep\""),
        ("status = 503", "status = 204"),
        ("method = \"POST\", path = \"/a\"", "method = \"post\""),
        ("path = \"/a\"", "path = \"a\""),
        ("errors = {", "error_rate = 0.5\nerrors = {"),
        ("{ at = \"4s\", factor = 1.0 }", "{ at = \"1s\", factor = 1.0 }"),
        ("at = \"4s\"", "at = \"10s\""),
        ("factor = 1.0 }]", "factor = -1.0 }]"),
        ("busy = \"1s\", free = \"4s\"", "busy = \"1ms\", free = \"1ms\""),
        ("busy = \"1s\", free = \"4s\"", "every = \"1s\""),
        ("\"1KiB\"", "\"big\""),
        ("[\"add\", \"sub\"]", "[]"),
        ("[\"add\", \"sub\"]", "[\"add\", [\"sub\"]]"),
        ("[\"add\", \"sub\"]", "[\"add\", \"mul\", \"sub\"]"),
        ("[\"add\", \"sub\"]", "[\"add\"]"),
        ("times = 8", "times = 0"),
        ("times = 8", "times = 5000"),
        ("share = 0.5", "share = 1.5"),
        ("\"/x?l=1\"", "\"x\""),
        ("a = \"b\"", "host = \"b\""),
        ("a = \"b\"", "\"a b\" = \"b\""),
        ("\"uniform\"", "\"often\""),
        ("\"uniform\"", "\"burst:0\""),
        ("arrivals = \"uniform\"\n", ""),
        ("{ at = \"0s\", rate = 10 }, ", ""),
        ("at = \"5s\", rate = 20", "at = \"1s\", rate = 20"),
        ("rate = 50", "rate = -50"),
        ("at = \"5s\", rate = 20", "at = \"50s\", rate = 20"),
        ("stages = [", "rate = 5\nstages = ["),
        ("stages", "# stages"),
        ("stages", "users = 5\n# stages"),
        ("arrivals = \"uniform\"\nstages", "users = 0\n# stages"),
        ("warm_up = \"1s\"", "warm_up = \"10s\""),
        ("env = \"staging\"", "content-length = \"5\""),
        ("deadline = \"1s\"", "deadline = \"0s\""),
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
