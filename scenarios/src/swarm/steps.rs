//! The ways in which a scenario becomes smaller, those that save most first. Pure.
//!
//! A step changes the `nth` place where it applies and says false behind the last. What it makes
//! need not be valid: the parser sorts that out.

use std::time::Duration;

use toml::{Table, Value};

use super::draw::{int, table, time};

/// One way.
pub(super) type Step = fn(&mut Table, usize) -> bool;

/// In the order in which they are tried.
pub(super) const ALL: &[Step] = &[
    drop_variant,
    drop_half_of_faults,
    drop_fault,
    drop_last_service,
    halve_instances,
    drop_instance,
    plain_instances,
    drop_setting,
    drop_load_field,
    drop_service_field,
    plain_service_time,
    fault_once,
    fault_on_one,
    plain_slowness,
    begin_earlier,
    end_earlier,
    drop_expectation,
    halve_rate,
    plain_fields,
];

fn list<'a>(table: &'a mut Table, key: &str) -> Option<&'a mut Vec<Value>> {
    table.get_mut(key).and_then(Value::as_array_mut)
}

/// The nth of a list of tables.
fn nth_of<'a>(table: &'a mut Table, key: &str, nth: usize) -> Option<&'a mut Table> {
    list(table, key)?.get_mut(nth)?.as_table_mut()
}

fn drop_from(table: &mut Table, key: &str, nth: usize, least: usize) -> bool {
    let Some(list) = list(table, key) else { return false };
    if nth >= list.len() || list.len() <= least {
        return false;
    }
    list.remove(nth);
    if list.is_empty() {
        table.remove(key);
    }
    true
}

fn drop_variant(scenario: &mut Table, nth: usize) -> bool {
    drop_from(scenario, "variants", nth, 1)
}

fn drop_half_of_faults(scenario: &mut Table, nth: usize) -> bool {
    let Some(faults) = list(scenario, "faults") else { return false };
    if faults.len() < 2 || nth > 1 {
        return false;
    }
    let rest = faults.split_off(faults.len() / 2);
    if nth == 1 {
        *faults = rest;
    }
    true
}

fn drop_fault(scenario: &mut Table, nth: usize) -> bool {
    drop_from(scenario, "faults", nth, 0)
}

/// The last service and whoever calls it by name no more.
fn drop_last_service(scenario: &mut Table, nth: usize) -> bool {
    let Some(services) = list(scenario, "services") else { return false };
    if nth > 0 || services.len() < 2 {
        return false;
    }
    let gone = services.pop();
    let name = gone.as_ref().and_then(|service| service.get("name")).and_then(Value::as_str);
    let name = name.unwrap_or_default().to_owned();
    for service in services.iter_mut().filter_map(Value::as_table_mut) {
        let calls = match service.get_mut("calls") {
            Some(Value::Array(calls)) => {
                for at_once in calls.iter_mut().filter_map(Value::as_array_mut) {
                    at_once.retain(|call| !names(call, &name));
                }
                let is_empty = |call: &Value| call.as_array().is_some_and(Vec::is_empty);
                calls.retain(|call| !names(call, &name) && !is_empty(call));
                calls.is_empty()
            }
            Some(call) => names(call, &name),
            None => false,
        };
        if calls {
            service.remove("calls");
        }
    }
    drop_faults_on(scenario, &name);
    true
}

/// True when a call, a name or a table with one in it, is to this service.
fn names(call: &Value, service: &str) -> bool {
    let of_table = call.as_table().is_some_and(|table| table.values().any(|v| names(v, service)));
    call.as_str() == Some(service) || of_table
}

fn drop_faults_on(scenario: &mut Table, service: &str) {
    let Some(faults) = list(scenario, "faults") else { return };
    let beginning = format!("{service}-");
    faults.retain(|fault| {
        let target = fault.get("target").and_then(Value::as_str);
        !target.is_some_and(|target| target.starts_with(&beginning))
    });
    if faults.is_empty() {
        scenario.remove("faults");
    }
}

/// How many instances a service has, in all groups.
pub(super) fn instances(service: &Table) -> i64 {
    let count = |of: &Table| of.get("instances").and_then(Value::as_integer).unwrap_or_default();
    let groups = service.get("groups").and_then(Value::as_array);
    let groups = groups.into_iter().flatten().filter_map(Value::as_table);
    count(service) + groups.map(count).sum::<i64>()
}

fn halve_instances(scenario: &mut Table, nth: usize) -> bool {
    fewer_instances(scenario, nth, |count| count / 2)
}

fn drop_instance(scenario: &mut Table, nth: usize) -> bool {
    fewer_instances(scenario, nth, |count| count - 1)
}

/// Of a service without groups; faults on who is gone then happen to the first.
fn fewer_instances(scenario: &mut Table, nth: usize, less: fn(i64) -> i64) -> bool {
    let Some(service) = nth_of(scenario, "services", nth) else { return false };
    let name = service.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
    let Some(Value::Integer(count)) = service.get_mut("instances") else { return true };
    *count = less(*count).max(1);
    let count = *count;
    let Some(faults) = list(scenario, "faults") else { return true };
    for fault in faults.iter_mut().filter_map(Value::as_table_mut) {
        let Some(Value::String(target)) = fault.get_mut("target") else { continue };
        let place = target.strip_prefix(&format!("{name}-")).and_then(|n| n.parse::<i64>().ok());
        if place.is_some_and(|place| place >= count) {
            *target = format!("{name}-0");
        }
    }
    true
}

/// A number in place of groups.
fn plain_instances(scenario: &mut Table, nth: usize) -> bool {
    let Some(service) = nth_of(scenario, "services", nth) else { return false };
    if service.contains_key("groups") {
        let count = instances(service);
        service.remove("groups");
        service.insert("instances".into(), Value::Integer(count));
    }
    true
}

/// A table or a field of the sidecar's, the tables first.
fn drop_setting(scenario: &mut Table, nth: usize) -> bool {
    let mut paths = Vec::new();
    let Some(sidecar) = scenario.get("sidecar") else { return false };
    collect(sidecar, &mut vec!["sidecar".to_owned()], &mut paths);
    paths.sort_by_key(Vec::len);
    let Some(path) = paths.get(nth) else { return false };
    remove(scenario, path);
    true
}

fn collect(value: &Value, at: &mut Vec<String>, paths: &mut Vec<Vec<String>>) {
    paths.push(at.clone());
    for (key, value) in value.as_table().into_iter().flatten() {
        at.push(key.clone());
        collect(value, at, paths);
        at.pop();
    }
}

fn remove(table: &mut Table, path: &[String]) {
    match path {
        [last] => drop(table.remove(last)),
        [first, rest @ ..] => {
            if let Some(inner) = table.get_mut(first).and_then(Value::as_table_mut) {
                remove(inner, rest);
            }
        }
        [] => {}
    }
}

fn drop_load_field(scenario: &mut Table, nth: usize) -> bool {
    const FIELDS: [&str; 5] = ["headers", "deadline", "mix", "max_in_flight", "clients"];
    let Some(field) = FIELDS.get(nth) else { return false };
    if let Some(load) = scenario.get_mut("load").and_then(Value::as_table_mut) {
        load.remove(*field);
    }
    true
}

/// Whatever a service can be without.
fn drop_service_field(scenario: &mut Table, nth: usize) -> bool {
    const NEEDED: [&str; 5] = ["name", "instances", "groups", "service_time", "calls"];
    let Some(services) = list(scenario, "services") else { return false };
    let optional = services.iter().enumerate().flat_map(|(place, service)| {
        let keys = service.as_table().into_iter().flat_map(Table::keys);
        keys.filter(|key| !NEEDED.contains(&key.as_str())).map(move |key| (place, key.clone()))
    });
    let Some((place, key)) = optional.collect::<Vec<_>>().into_iter().nth(nth) else {
        return false;
    };
    if let Some(service) = services[place].as_table_mut() {
        service.remove(&key);
    }
    true
}

fn plain_service_time(scenario: &mut Table, nth: usize) -> bool {
    let Some(service) = nth_of(scenario, "services", nth) else { return false };
    service.insert("service_time".into(), table([("constant", "10ms".into())]));
    true
}

fn fault_once(scenario: &mut Table, nth: usize) -> bool {
    let Some(fault) = nth_of(scenario, "faults", nth) else { return false };
    for field in ["every", "for", "random"] {
        fault.remove(field);
    }
    true
}

/// One instance in place of several or of another: of the first service, or of the same.
fn fault_on_one(scenario: &mut Table, nth: usize) -> bool {
    let first = nth_of(scenario, "services", 0).and_then(|first| first.get("name").cloned());
    let Some(fault) = nth_of(scenario, "faults", nth / 2) else { return false };
    if let Some(Value::String(target)) = fault.get_mut("target")
        && let Some((own, _)) = target.rsplit_once('-')
        && let Some(first) = first.as_ref().and_then(Value::as_str)
    {
        *target = format!("{}-0", if nth.is_multiple_of(2) { first } else { own });
        fault.remove("fraction");
        fault.remove("pick");
    }
    true
}

fn plain_slowness(scenario: &mut Table, nth: usize) -> bool {
    let Some(fault) = nth_of(scenario, "faults", nth) else { return false };
    if let Some(slow) = fault.get_mut("what").and_then(|what| what.get_mut("slow")) {
        *slow = table([("constant", "1s".into())]);
    }
    true
}

/// Milliseconds of a written time.
fn ms(value: &Value) -> Option<u64> {
    let time: Duration = proxy::config::fields::parse_duration(value.as_str()?).ok()?;
    u64::try_from(time.as_millis()).ok()
}

/// All instants of the scenario, each with the table that it stands in.
fn move_times(scenario: &mut Table, by: impl Fn(u64) -> u64) {
    let shift = |table: &mut Table, key: &str| {
        if let Some(at) = table.get(key).and_then(ms) {
            table.insert(key.to_owned(), time(by(at)));
        }
    };
    shift(scenario, "duration");
    for (key, fields) in [("faults", ["at", "until"]), ("expect", ["from", "until"])] {
        for entry in list(scenario, key).into_iter().flatten().filter_map(Value::as_table_mut) {
            fields.iter().for_each(|field| shift(entry, field));
        }
    }
}

/// Less time before the first fault.
fn begin_earlier(scenario: &mut Table, nth: usize) -> bool {
    const LEAD: [u64; 2] = [100, 1000];
    let Some(lead) = LEAD.get(nth) else { return false };
    let faults = list(scenario, "faults").into_iter().flatten();
    let first = faults.filter_map(|fault| fault.get("at").and_then(ms)).min();
    let Some(early) = first.and_then(|first| first.checked_sub(*lead)) else { return true };
    move_times(scenario, |at| at.saturating_sub(early));
    true
}

/// Less time at the end, for what is not about the end.
fn end_earlier(scenario: &mut Table, nth: usize) -> bool {
    const PARTS: [u64; 3] = [2, 4, 8];
    let Some(part) = PARTS.get(nth) else { return false };
    let Some(duration) = scenario.get("duration").and_then(ms) else { return false };
    scenario.insert("duration".into(), time((duration - duration / part).max(1)));
    true
}

fn drop_expectation(scenario: &mut Table, nth: usize) -> bool {
    drop_from(scenario, "expect", nth, 0)
}

fn halve_rate(scenario: &mut Table, nth: usize) -> bool {
    let load = scenario.get_mut("load").and_then(Value::as_table_mut);
    let Some(rate) = load.and_then(|load| load.get_mut("rate")) else { return false };
    if nth > 0 {
        return false;
    }
    if let Some(number) = rate.as_integer().filter(|number| *number > 1) {
        *rate = Value::Integer(number / 2);
    }
    true
}

/// The plainest of what has to be written.
fn plain_fields(scenario: &mut Table, nth: usize) -> bool {
    let load = scenario.get_mut("load").and_then(Value::as_table_mut);
    match (nth, load) {
        (0, Some(load)) => load.insert("arrivals".into(), "constant".into()),
        (1, Some(load)) => load.insert("timeout".into(), "2s".into()),
        (2, _) => scenario.remove("network"),
        (3, _) => {
            scenario.insert("variants".into(), vec![table([("name", "default".into())])].into())
        }
        (4, _) => scenario.insert("seeds".into(), int(1)),
        _ => return false,
    };
    true
}
