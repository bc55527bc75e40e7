//! What goes wrong: some faults of different kinds, all of which end.

use toml::{Table, Value};

use super::draw::{Draw, int, put, table, time};
use super::topology::Topology;

/// A fault as it is written, and when it is over for good.
pub(super) struct Fault {
    table: Table,
    pub(super) until_ms: u64,
    /// Whether what was sent in time may arrive late because of it.
    pub(super) holds_back: bool,
}

/// One sort of fault: what is written as `what`.
type Kind = fn(&mut Draw) -> Value;

/// Two faults of one kind must not meet at an instance, so each kind is drawn once at most.
const KINDS: [Kind; 11] =
    [slow, hang, errors, refuse, stop, link, drain, clock_skew, churn, slow_heads, push];

/// What does not happen to instances.
const OF_NOBODY: [&str; 4] = ["churn", "slow_heads", "push", "wrong_push"];

/// What comes once: it has a course of its own.
const ONCE: [&str; 2] = ["leave", "rolling_deploy"];

/// After them, what was sent in time may arrive late.
const HOLDING_BACK: [&str; 4] = ["pause", "black_hole", "loss", "delay"];

pub(super) fn draw(seed: u64, topology: &Topology) -> Vec<Fault> {
    let draw = &mut Draw::new(seed, "faults");
    let mut kinds = KINDS.to_vec();
    let count = draw.pick(&[0, 1, 1, 2, 2, 3, 4]);
    (0..count)
        .map(|_| {
            let kind = kinds.remove(draw.int(0, kinds.len() as u64 - 1) as usize);
            fault(draw, topology, kind)
        })
        .collect()
}

pub(super) fn tables(faults: &[Fault]) -> Vec<Value> {
    faults.iter().map(|fault| Value::Table(fault.table.clone())).collect()
}

fn fault(draw: &mut Draw, topology: &Topology, kind: Kind) -> Fault {
    let mut fault = Table::new();
    let what = kind(draw);
    let is = |name: &&str| what.as_str() == Some(name) || what.get(*name).is_some();
    if !OF_NOBODY.iter().any(is) {
        targets(draw, topology, &mut fault);
    }
    let (at, until) = times(draw, &mut fault);
    let mut until_ms = until;
    if ONCE.iter().any(is) {
        for field in ["random", "every", "for"] {
            fault.remove(field);
        }
    }
    if is(&"rolling_deploy") {
        fault.remove("until");
        let most = topology.services.iter().map(|service| service.instances).max();
        until_ms = at + LONGEST_TURN_MS * most.unwrap_or_default();
    }
    let holds_back = HOLDING_BACK.iter().any(is);
    put(&mut fault, "what", what);
    Fault { table: fault, until_ms, holds_back }
}

/// One instance, or some or all of a service.
fn targets(draw: &mut Draw, topology: &Topology, fault: &mut Table) {
    let service = &topology.services[draw.int(0, topology.services.len() as u64 - 1) as usize];
    if draw.chance(0.6) {
        let instance = draw.int(0, service.instances - 1);
        put(fault, "target", format!("{}-{instance}", service.name));
        return;
    }
    put(fault, "target", format!("{}-*", service.name));
    match draw.int(0, 3) {
        0 => {}
        1 => put(fault, "pick", int(draw.int(1, service.instances))),
        _ => put(fault, "fraction", draw.number(0.2, 1.0)),
    }
}

/// Once, or again and again; when it begins, and when it is over for good.
fn times(draw: &mut Draw, fault: &mut Table) -> (u64, u64) {
    let at = draw.int(500, 5000);
    let until = at + draw.int(200, 6000);
    put(fault, "at", time(at));
    put(fault, "until", time(until));
    if draw.chance(0.15) {
        let random = [("mean_between", draw.time(100, 2000)), ("mean_length", draw.time(50, 1000))];
        put(fault, "random", table(random));
    } else if draw.chance(0.25) {
        let every = draw.int(200, 2000);
        put(fault, "every", time(every));
        put(fault, "for", time(draw.int(50, every - 50)));
    }
    (at, until)
}

fn slow(draw: &mut Draw) -> Value {
    if draw.chance(0.3) {
        return table([("slow_by", (draw.int(2, 50) as f64).into())]);
    }
    table([("slow", table([("constant", draw.time(100, 4000))]))])
}

fn hang(draw: &mut Draw) -> Value {
    draw.pick(&["hang", "hang_new", "pause"]).into()
}

fn link(draw: &mut Draw) -> Value {
    match draw.int(0, 2) {
        0 => "black_hole".into(),
        1 => table([("loss", draw.number(0.01, 0.3).into())]),
        _ => {
            let delay = [("latency", draw.time(1, 300)), ("jitter", draw.time(0, 100))];
            table([("delay", table(delay))])
        }
    }
}

fn errors(draw: &mut Draw) -> Value {
    let mut errors = Table::new();
    put(&mut errors, "rate", draw.number(0.05, 1.0));
    put(&mut errors, "status", int(draw.pick(&[500, 502, 503, 504, 599])));
    if draw.chance(0.5) {
        put(&mut errors, "time", draw.time(1, 100));
    }
    table([("errors", Value::Table(errors))])
}

fn refuse(_: &mut Draw) -> Value {
    "refuse".into()
}

/// The longest that a deployment takes for one instance.
const LONGEST_TURN_MS: u64 = 500 + 800 + 300;

/// Processes end, with warning or without.
fn stop(draw: &mut Draw) -> Value {
    let drain = |draw: &mut Draw| ("drain", draw.time(0, 500));
    match draw.int(0, 2) {
        0 => "crash".into(),
        1 => table([("leave", table([drain(draw)]))]),
        _ => {
            let (down, pause) = (draw.time(100, 800), draw.time(0, 300));
            let deploy = [drain(draw), ("down", down), ("pause", pause)];
            table([("rolling_deploy", table(deploy))])
        }
    }
}

fn drain(_: &mut Draw) -> Value {
    "drain".into()
}

fn clock_skew(draw: &mut Draw) -> Value {
    let sign = draw.pick(&["", "-"]);
    table([("clock_skew", format!("{sign}{}ms", draw.int(1, 60_000)).into())])
}

fn churn(draw: &mut Draw) -> Value {
    table([("churn", table([("every", draw.time(5, 100))]))])
}

fn slow_heads(draw: &mut Draw) -> Value {
    let heads = [("connections", int(draw.int(1, 30))), ("every", draw.time(50, 500))];
    table([("slow_heads", table(heads))])
}

/// What is pushed changes nothing that invariants are computed from.
fn push(draw: &mut Draw) -> Value {
    if draw.chance(0.3) {
        return "wrong_push".into();
    }
    let balance = draw.pick(&["round_robin", "least_request", "peak_ewma", "prequal", "random"]);
    let cluster = match draw.chance(0.5) {
        true => table([("balance", balance.into())]),
        false => table([("slow_start", table([("window", draw.time(0, 5000))]))]),
    };
    table([("push", table([("cluster", cluster)]))])
}
