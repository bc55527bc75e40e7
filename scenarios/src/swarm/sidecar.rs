//! The sidecar's configuration: any part of it, with room for the load.

use proxy::policy::balance::STRATEGIES;
use toml::{Table, Value};

use super::draw::{Draw, int, put, table, time};
use super::load::Needs;
use super::topology::{MOST_RATE, Topology};

/// How likely each part is to differ from its default.
const SOME: f64 = 0.3;

/// The `[sidecar]` of a scenario.
pub(super) fn draw(seed: u64, topology: &Topology, needs: &Needs) -> Table {
    let draw = &mut Draw::new(seed, "sidecar");
    let mut sidecar = Table::new();
    let mut cluster = Table::new();
    let parts: [fn(&mut Draw, &mut Table); 10] = [
        outlier,
        retry_budget,
        slow_start,
        limits,
        connections,
        queues,
        health_check,
        concurrency,
        circuit,
        membership,
    ];
    for part in parts {
        if draw.chance(SOME) {
            part(draw, &mut cluster);
        }
    }
    put(&mut sidecar, "cluster", cluster);
    put(&mut sidecar, "route", route(seed, topology, needs));
    sidecar
}

/// One or two strategies, each a variant.
pub(super) fn variants(seed: u64) -> Vec<Value> {
    let draw = &mut Draw::new(seed, "variants");
    let mut strategies: Vec<_> = STRATEGIES.iter().map(|strategy| strategy.name).collect();
    let count = draw.pick(&[1, 1, 2]);
    let one = |_| {
        let name = strategies.remove(draw.int(0, strategies.len() as u64 - 1) as usize);
        table([("name", name.into()), ("balance", name.into())])
    };
    (0..count).map(one).collect()
}

fn outlier(draw: &mut Draw, cluster: &mut Table) {
    let mut outlier = Table::new();
    if draw.chance(0.15) {
        put(&mut outlier, "enabled", false);
    }
    if draw.chance(0.5) {
        put(&mut outlier, "max_ejection_percent", draw.int(1, 100) as f64);
    }
    if draw.chance(0.5) {
        put(&mut outlier, "base_ejection", draw.time(100, 4000));
        put(&mut outlier, "max_ejection", draw.time(4000, 8000));
    }
    if draw.chance(0.3) {
        put(&mut outlier, "interval", draw.time(100, 3000));
    }
    for detector in ["consecutive_errors", "consecutive_gateway_errors", "consecutive_local_origin"]
    {
        if draw.chance(0.3) {
            let act = draw.pick(&["off", "observe", "eject"]);
            let threshold = int(draw.int(1, 10));
            put(&mut outlier, detector, table([("act", act.into()), ("threshold", threshold)]));
        }
    }
    for detector in ["success_rate", "failure_percentage", "latency"] {
        if draw.chance(0.3) {
            let act = draw.pick(&["off", "observe", "eject"]);
            put(&mut outlier, detector, table([("act", act.into())]));
        }
    }
    put(cluster, "outlier", outlier);
}

fn retry_budget(draw: &mut Draw, cluster: &mut Table) {
    let budget = [
        ("ratio", draw.number(0.0, 0.5).into()),
        ("min_per_second", int(draw.int(0, 10))),
        ("window", draw.time(1000, 10_000)),
    ];
    put(cluster, "retry_budget", table(budget));
}

fn slow_start(draw: &mut Draw, cluster: &mut Table) {
    let ramp = [
        ("window", draw.time(100, 8000)),
        ("aggression", draw.number(0.5, 2.0).into()),
        ("min_factor", draw.number(0.02, 0.5).into()),
    ];
    put(cluster, "slow_start", table(ramp));
}

fn limits(draw: &mut Draw, cluster: &mut Table) {
    let mut limits = Table::new();
    if draw.chance(0.5) {
        put(&mut limits, "max_requests", int(draw.int(MOST_RATE, 1000)));
    }
    if draw.chance(0.5) {
        put(&mut limits, "max_retries", int(draw.int(0, 50)));
    }
    if draw.chance(0.5) {
        put(&mut limits, "max_pending", int(draw.int(MOST_RATE, 1000)));
    }
    if draw.chance(0.5) {
        put(&mut limits, "max_connections", int(draw.int(MOST_RATE, 1000)));
    }
    put(cluster, "limits", limits);
}

/// As many for each endpoint as could be busy if it had all of the load.
fn connections(draw: &mut Draw, cluster: &mut Table) {
    if draw.chance(0.6) {
        put(cluster, "max_connections", int(draw.int(MOST_RATE / 3, MOST_RATE)));
    }
    if draw.chance(0.5) {
        put(cluster, "idle_timeout", draw.time(10, 5000));
    }
    if draw.chance(0.3) {
        put(cluster, "max_connection_age", draw.time(100, 5000));
    }
    if draw.chance(0.3) {
        put(cluster, "max_requests_per_connection", int(draw.int(1, 50)));
    }
    if draw.chance(0.3) {
        put(cluster, "connect_timeout", draw.time(200, 2000));
    }
}

fn queues(draw: &mut Draw, cluster: &mut Table) {
    put(cluster, "max_pending", int(draw.int(20, 500)));
    put(cluster, "queue_timeout", draw.time(500, 3000));
    if draw.chance(0.5) {
        put(cluster, "newest_first_after", draw.time(0, 500));
    }
}

fn health_check(draw: &mut Draw, cluster: &mut Table) {
    let http = table([("http", table([("path", "/.well-known/health".into())]))]);
    let kind = draw.pick(&["tcp".into(), http]);
    let check = [
        ("kind", kind),
        ("interval", draw.time(200, 3000)),
        ("fast_interval", draw.time(100, 1000)),
        ("timeout", draw.time(100, 1000)),
        ("healthy_threshold", int(draw.int(1, 3))),
        ("unhealthy_threshold", int(draw.int(1, 4))),
    ];
    put(cluster, "health_check", table(check));
}

/// The least that it may come to leaves room for all of the load.
fn concurrency(draw: &mut Draw, cluster: &mut Table) {
    let least = MOST_RATE;
    let limit = [
        ("min", int(least)),
        ("initial", int(draw.int(least, 2 * least))),
        ("max", int(draw.int(2 * least, 10 * least))),
    ];
    put(cluster, "concurrency", table(limit));
}

fn circuit(draw: &mut Draw, cluster: &mut Table) {
    let circuit = [
        ("failure_rate", draw.number(0.5, 1.0).into()),
        ("min_requests", int(draw.int(5, 50))),
        ("window", draw.time(1000, 5000)),
        ("open_for", draw.time(100, 1000)),
        ("max_open_for", draw.time(1000, 3000)),
        ("probes", int(draw.int(1, 5))),
    ];
    put(cluster, "circuit", table(circuit));
}

fn membership(draw: &mut Draw, cluster: &mut Table) {
    let mut membership = Table::new();
    if draw.chance(0.5) {
        put(&mut membership, "zone", draw.pick(&["a", "b", "c"]));
        put(&mut membership, "local_zone_min_endpoints", int(draw.int(1, 3)));
    }
    if draw.chance(0.7) {
        put(&mut membership, "panic_threshold", draw.number(0.0, 1.0));
    }
    if draw.chance(0.3) {
        put(&mut membership, "overprovisioning", draw.number(1.0, 2.0));
    }
    put(cluster, "membership", membership);
}

fn route(seed: u64, topology: &Topology, needs: &Needs) -> Table {
    let draw = &mut Draw::new(seed, "route");
    let least = needs.least_ms;
    let mut route = Table::new();
    if draw.chance(0.6) {
        put(&mut route, "timeout", time(draw.int(least, least * 4)));
    }
    if draw.chance(0.5) {
        retry(draw, &mut route, least);
    }
    if draw.chance(SOME) {
        hedge(draw, &mut route);
    }
    if draw.chance(0.15) {
        let rate = draw.int(2 * MOST_RATE, 10 * MOST_RATE) as f64;
        put(&mut route, "rate_limit", table([("rate", rate.into()), ("burst", int(MOST_RATE))]));
    }
    // All requests come from one address, and so all go to one instance.
    let one_can_do_all = topology.uneven || topology.services.iter().all(|s| !s.limited);
    if draw.chance(SOME) && one_can_do_all {
        put(&mut route, "hash", "source");
    }
    route
}

fn retry(draw: &mut Draw, route: &mut Table, least_ms: u64) {
    let mut retry = Table::new();
    put(&mut retry, "max_retries", int(draw.int(0, 5)));
    if draw.chance(0.5) {
        put(&mut retry, "per_try_timeout", time(draw.int(least_ms / 2, least_ms * 2)));
    }
    if draw.chance(0.5) {
        let base = draw.int(1, 100);
        let backoff = [("base", time(base)), ("cap", time(draw.int(base, 500)))];
        put(&mut retry, "backoff", table(backoff));
    }
    if draw.chance(0.3) {
        let on = ["5xx", "gateway-error", "reset", "connect-failure", "refused-stream"];
        put(&mut retry, "on", Vec::<Value>::from([draw.pick(&on).into(), draw.pick(&on).into()]));
    }
    put(route, "retry", retry);
}

fn hedge(draw: &mut Draw, route: &mut Table) {
    let mut hedge = Table::new();
    put(&mut hedge, "after", draw.time(5, 500));
    if draw.chance(0.5) {
        put(&mut hedge, "percentile", draw.number(0.5, 0.99));
    }
    if draw.chance(0.3) {
        put(&mut hedge, "max_hedges", int(draw.int(1, 3)));
    }
    put(route, "hedge", hedge);
}
