//! The reference of the configuration says what is true: it has every field, and the values that
//! it calls defaults are the defaults.

use std::collections::BTreeSet;
use std::path::Path;

use proxy::Config;
use proxy::policy::balance::STRATEGIES;

const REFERENCE: &str = include_str!("../sidecar-reference.toml");
/// The least that is a configuration, with what the reference has where there is no default.
const MINIMAL: &str = r#"
[[listeners]]
name = "outbound"
listen = "127.0.0.1:15001"
[[clusters]]
name = "web"
endpoints = ["127.0.0.1:9001"]
[[routes]]
cluster = "web"
"#;
/// The same, with all that is off by default in the least form that turns it on.
const EVERYTHING: &str = r#"
seed = 1
workers = 2
admin = { listen = "127.0.0.1:9901" }
access_log = {}
tracing = { otlp_endpoint = "http://127.0.0.1:4318/v1/traces" }
[[listeners]]
name = "outbound"
listen = "127.0.0.1:15001"
[[clusters]]
name = "web"
endpoints = ["127.0.0.1:9001"]
max_connection_age = "1h"
max_requests_per_connection = 10000
membership.zone = "eu-1a"
health_check.kind = { http = { path = "/healthz" } }
concurrency = {}
circuit = {}
[[routes]]
host = "web.example"
cluster = "web"
hash = { header = "x-user" }
fallback = { body = "try later\n" }
rate_limit = { rate = 100.0, burst = 100 }
retry.per_try_timeout = "1s"
hedge = { after = "500ms", percentile = 0.95 }
"#;

/// The reference with everything in it that is off by default.
fn uncommented() -> String {
    let lines = REFERENCE.lines().map(|line| line.strip_prefix("#= ").unwrap_or(line));
    lines.collect::<Vec<_>>().join("\n")
}

/// All that a configuration says, a value a line; where in the file a name stands is left out.
fn told(text: &str) -> Vec<String> {
    let config =
        Config::parse(Path::new("sidecar.toml"), text).unwrap_or_else(|error| panic!("{error}"));
    let lines = format!("{config:#?}");
    let mut is_name = false;
    let lines = lines.lines().filter(|line| {
        is_name = match line.trim() {
            "Spanned {" => true,
            "}," | "}" => false,
            _ => is_name,
        };
        !(is_name && line.trim_start().starts_with("span:"))
    });
    lines.map(str::to_owned).collect()
}

/// Names of fields and tables in a text, comments left out.
fn names(text: &str) -> BTreeSet<String> {
    fn walk(value: &toml::Value, path: &str, names: &mut BTreeSet<String>) {
        match value {
            toml::Value::Table(table) => {
                for (key, value) in table {
                    let path = format!("{path}.{key}");
                    walk(value, &path, names);
                    names.insert(path);
                }
            }
            toml::Value::Array(items) => {
                items.iter().for_each(|item| walk(item, path, names));
            }
            _ => {}
        }
    }
    let value: toml::Table = toml::from_str(text).unwrap_or_else(|error| panic!("{error}"));
    let mut names = BTreeSet::new();
    walk(&toml::Value::Table(value), "", &mut names);
    names
}

#[test]
fn what_is_written_as_a_default_is_the_default() {
    assert_eq!(told(REFERENCE), told(MINIMAL));
}

#[test]
fn so_it_is_of_what_is_off_by_default() {
    assert_eq!(told(&uncommented()), told(EVERYTHING));
}

/// What `/config_dump` shows has every default in it, and is read as what it was made from.
#[test]
fn what_is_shown_is_what_holds() {
    for text in [MINIMAL, EVERYTHING] {
        let config = Config::parse(Path::new("sidecar.toml"), text).expect("it is right");
        let mut shown = serde_json::to_value(&config).expect("it can be shown");
        leave_out_nothing(&mut shown);
        let shown = toml::to_string(&shown).expect("it can be written");
        assert_eq!(told(&shown), told(text));
        let without: Vec<_> = names(REFERENCE).difference(&names(&shown)).cloned().collect();
        assert_eq!(without, [""; 0], "defaults that are not shown");
    }
}

/// Takes out what is null, for which TOML has no word.
fn leave_out_nothing(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::Object(fields) => {
            fields.retain(|_, field| !field.is_null());
            fields.values_mut().for_each(leave_out_nothing);
        }
        serde_json::Value::Array(items) => items.iter_mut().for_each(leave_out_nothing),
        _ => {}
    }
}

/// Or else the comparison compares nothing.
#[test]
fn a_wrong_default_would_be_noticed() {
    let whole = uncommented();
    let changes = [
        ("drain_timeout = \"30s\"", "drain_timeout = \"31s\""),
        ("overprovisioning = 1.4", "overprovisioning = 1.5"),
        ("points = 160", "points = 161"),
        ("table_size = 65537", "table_size = 257"),
        ("subset_fallback = \"any\"", "subset_fallback = \"none\""),
        ("max_keys = 16384", "max_keys = 16383"),
        ("cold_share = 0.84", "cold_share = 0.8"),
        ("max_hedges = 1", "max_hedges = 2"),
    ];
    for (right, wrong) in changes {
        assert!(whole.contains(right), "`{right}` is no longer there to be changed");
        assert_ne!(told(&whole.replacen(right, wrong, 1)), told(EVERYTHING), "{wrong}");
    }
}

/// The fields that there are, from the mouth of the parser: it lists them when it meets one that
/// there is not. A new field has to be written into the reference.
#[test]
fn every_field_is_there() {
    let whole = uncommented();
    let names = names(&whole);
    let table: toml::Table = toml::from_str(&whole).expect("the reference is TOML");
    let mut tables = 0;
    for path in tables_of(&toml::Value::Table(table.clone()), &mut Vec::new()) {
        let mut wrong = toml::Value::Table(table.clone());
        insert(&mut wrong, &path);
        let text = toml::to_string(&wrong).expect("it can be written");
        let error = Config::parse(Path::new("sidecar.toml"), &text).err();
        // What takes any key, such as labels, has no fields to list.
        let Some(error) = error else { continue };
        let error = error.to_string();
        if path.last().is_some_and(|key| CHOICES.contains(&key.as_str())) {
            continue;
        }
        // Nor has what takes any key and wants text for it.
        let Some((_, known)) = error.split_once("there is ") else { continue };
        tables += 1;
        for field in known.split('`').skip(1).step_by(2) {
            let here: String = path.iter().map(|key| format!(".{key}")).collect();
            let full = format!("{here}.{field}");
            let is_there = names.contains(&full) || OPTIONAL.contains(&full.as_str());
            assert!(is_there, "{full} is not in the reference");
        }
    }
    assert!(tables >= 30, "only {tables} tables were looked at");
}

/// Values that are one of several tables; the comment beside them has the others.
const CHOICES: [&str; 3] = ["hash", "by", "kind"];
/// What has no default and no example of its own; the comment beside its table has it.
const OPTIONAL: [&str; 1] = [".clusters.endpoints.zone"];

/// The paths of all tables; those in a list go by the first.
fn tables_of(value: &toml::Value, path: &mut Vec<String>) -> Vec<Vec<String>> {
    let mut all = Vec::new();
    match value {
        toml::Value::Table(table) => {
            all.push(path.clone());
            for (key, value) in table {
                path.push(key.clone());
                all.extend(tables_of(value, path));
                path.pop();
            }
        }
        toml::Value::Array(items) => {
            all.extend(items.first().map(|item| tables_of(item, path)).unwrap_or_default());
        }
        _ => {}
    }
    all
}

/// A field that there is not, in the table at `path`.
fn insert(value: &mut toml::Value, path: &[String]) {
    match (value, path) {
        (toml::Value::Array(items), path) => insert(&mut items[0], path),
        (toml::Value::Table(table), []) => {
            table.insert("no_such_field".to_owned(), toml::Value::Boolean(true));
        }
        (toml::Value::Table(table), [key, rest @ ..]) => insert(&mut table[key.as_str()], rest),
        _ => unreachable!("a path leads through tables and lists"),
    }
}

#[test]
fn every_strategy_is_named() {
    for strategy in STRATEGIES {
        assert!(REFERENCE.contains(strategy.name), "{}", strategy.name);
    }
}
