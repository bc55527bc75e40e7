//! The client: how much of what it asks, and how long it waits.

use toml::{Table, Value};

use super::draw::{Draw, int, put, table, time};
use super::topology::{MOST_RATE, Topology};

pub(super) struct Load {
    pub(super) table: Table,
    pub(super) needs: Needs,
}

/// What a sidecar has to leave room for.
pub(super) struct Needs {
    /// The least time that a request must have.
    pub(super) least_ms: u64,
}

pub(super) fn draw(seed: u64, topology: &Topology) -> Load {
    let draw = &mut Draw::new(seed, "load");
    let least_ms = topology.usual_ms();
    let mut load = Table::new();
    put(&mut load, "arrivals", draw.pick(&["poisson", "poisson", "constant"]));
    put(&mut load, "rate", int(draw.int(20, MOST_RATE)));
    if draw.chance(0.25) {
        put(&mut load, "clients", int(draw.int(2, 4)));
    }
    put(&mut load, "timeout", time(draw.int(least_ms, least_ms * 4) + 1000));
    mix(draw, &mut load);
    headers(draw, &mut load, least_ms);
    if draw.chance(0.3) {
        put(&mut load, "deadline", time(draw.int(least_ms, least_ms * 2)));
    }
    Load { table: load, needs: Needs { least_ms } }
}

fn mix(draw: &mut Draw, load: &mut Table) {
    let kinds: Vec<Value> = match draw.int(0, 3) {
        0 => return,
        1 => vec![table([("method", "POST".into()), ("share", 1.0.into()), ("body", body(draw))])],
        _ => {
            let share = draw.number(0.1, 0.9);
            let post = [
                ("method", "POST".into()),
                ("path", "/a".into()),
                ("share", share.into()),
                ("body", body(draw)),
            ];
            vec![table([("share", (1.0 - share).into())]), table(post)]
        }
    };
    put(load, "mix", kinds);
}

fn body(draw: &mut Draw) -> Value {
    draw.pick(&["10B", "1KiB", "20KiB", "100KiB"]).into()
}

fn headers(draw: &mut Draw, load: &mut Table, least_ms: u64) {
    if draw.chance(0.3) {
        let ms = draw.int(least_ms, least_ms * 2).to_string();
        put(load, "headers", table([("x-envoy-upstream-rq-timeout-ms", ms.into())]));
    }
}
