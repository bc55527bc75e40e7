//! Services: who there is, what they are like, and who calls whom.

use toml::{Table, Value};

use super::draw::{Draw, int, put, table, time};

const NAMES: [&str; 4] = ["web", "api", "db", "cache"];

/// What the other parts have to know of the services.
pub(super) struct Topology {
    pub(super) services: Vec<Service>,
    latency_ms: u64,
    /// True when some instances may have to carry what is meant for all, because priorities, zones
    /// or hashes send it there.
    pub(super) uneven: bool,
}

pub(super) struct Service {
    pub(super) name: &'static str,
    pub(super) instances: u64,
    /// The mean of its service time.
    pub(super) mean_ms: u64,
    /// Share of the work that fails without any fault.
    pub(super) error_rate: f64,
    /// Whether its instances have a number of workers.
    pub(super) limited: bool,
    /// Whether they go on with what nobody waits for any more.
    works_on: bool,
    /// The place of the service that calls it.
    caller: Option<usize>,
    table: Table,
}

/// The most that arrives in a second; the services have room for it.
pub(super) const MOST_RATE: u64 = 100;

pub(super) fn draw(seed: u64) -> Topology {
    let draw = &mut Draw::new(seed, "topology");
    let count = draw.pick(&[1, 1, 1, 2, 2, 3, 4]);
    let uneven = draw.chance(0.3);
    let latency_ms = draw.pick(&[1, 1, 2, 5, 20]);
    let names = &NAMES[..count];
    let mut services: Vec<_> = names.iter().map(|name| service(draw, name, uneven)).collect();
    calls(draw, &mut services);
    // Who calls is busy for as long as the called are.
    let mut busy_ms = 0;
    for service in services.iter_mut().rev() {
        busy_ms += service.mean_ms;
        workers(draw, service, busy_ms, uneven);
        busy_ms += CROSSINGS * latency_ms;
    }
    Topology { services, latency_ms, uneven }
}

/// How often a call crosses a link: two connects, there and back, each through a sidecar.
const CROSSINGS: u64 = 8;

fn service(draw: &mut Draw, name: &'static str, uneven: bool) -> Service {
    let instances = draw.pick(&[1, 2, 2, 3, 3, 4, 5, 8]);
    let mean_ms = draw.int(2, 40);
    let mut service = Service {
        name,
        instances,
        mean_ms,
        error_rate: 0.0,
        limited: false,
        works_on: false,
        caller: None,
        table: Table::new(),
    };
    put(&mut service.table, "name", name);
    match uneven {
        true => groups(draw, &mut service),
        false => put(&mut service.table, "instances", int(instances)),
    }
    service_time(draw, &mut service);
    error_rate(draw, &mut service);
    cold_start(draw, &mut service);
    service
}

/// Instances that sidecars are told different things about.
fn groups(draw: &mut Draw, service: &mut Service) {
    let group = |draw: &mut Draw, instances: u64| {
        let mut group = Table::new();
        put(&mut group, "instances", int(instances));
        if draw.chance(0.5) {
            put(&mut group, "weight", int(draw.int(1, 9)));
        }
        if draw.chance(0.5) {
            put(&mut group, "zone", draw.pick(&["a", "b"]));
        }
        if draw.chance(0.4) {
            put(&mut group, "priority", int(draw.int(0, 1)));
        }
        Value::Table(group)
    };
    let first = draw.int(1, service.instances);
    let rest = service.instances - first;
    let sizes = [first, rest].into_iter().filter(|size| *size > 0);
    let groups: Vec<_> = sizes.map(|size| group(draw, size)).collect();
    // Priorities have to begin with 0.
    put(&mut service.table, "groups", groups);
}

fn service_time(draw: &mut Draw, service: &mut Service) {
    let mean = service.mean_ms;
    let value = match draw.int(0, 5) {
        0 => table([("constant", time(mean))]),
        1 => table([("exponential", table([("mean", time(mean))]))]),
        2 => {
            let sd = time(draw.int(0, mean / 2));
            table([("normal", table([("mean", time(mean)), ("sd", sd)]))])
        }
        3 => {
            let max = time(mean * 2);
            table([("uniform", table([("min", time(0)), ("max", max)]))])
        }
        4 => {
            let scv = draw.int(1, 4) as f64;
            table([("hyperexponential", table([("mean", time(mean)), ("scv", scv.into())]))])
        }
        _ => {
            // The mean of one with p99 = 8 medians is 1.5 medians.
            let median = (mean * 2 / 3).max(1);
            let p99 = time(median * draw.int(2, 8));
            table([("lognormal", table([("median", time(median)), ("p99", p99)]))])
        }
    };
    put(&mut service.table, "service_time", value);
}

/// With room for the load, and where it may go to one instance alone, room at each for all of it.
fn workers(draw: &mut Draw, service: &mut Service, busy_ms: u64, uneven: bool) {
    if draw.chance(0.4) {
        return;
    }
    service.limited = true;
    let busy = MOST_RATE * busy_ms;
    let spread = if uneven { 1 } else { service.instances };
    // At most a third of them is busy, of which half may be out.
    let least = (busy * 3).div_ceil(1000 * spread) + 1;
    put(&mut service.table, "workers", int(draw.int(least, least * 3)));
    if draw.chance(0.5) {
        put(&mut service.table, "queue", int(draw.int(50, 500)));
    }
    if draw.chance(0.4) {
        put(&mut service.table, "discipline", draw.pick(&["lifo", "processor_sharing"]));
    }
    if draw.chance(0.3) {
        service.works_on = true;
        put(&mut service.table, "abandoned", draw.pick(&["dequeue", "serve"]));
    }
}

fn error_rate(draw: &mut Draw, service: &mut Service) {
    if draw.chance(0.2) {
        service.error_rate = draw.number(0.01, 0.03);
        put(&mut service.table, "error_rate", service.error_rate);
    }
}

fn cold_start(draw: &mut Draw, service: &mut Service) {
    if draw.chance(0.2) {
        let factor = draw.int(2, 5) as f64;
        let over = draw.time(500, 3000);
        put(&mut service.table, "cold_start", table([("factor", factor.into()), ("over", over)]));
    }
}

/// Each service but the first is called by the one before it, or all of them by the first, one
/// after the other or at once.
fn calls(draw: &mut Draw, services: &mut [Service]) {
    if services.len() > 2 && draw.chance(0.4) {
        let called: Vec<_> =
            services[1..].iter().map(|service| Value::from(service.name)).collect();
        let calls = match draw.chance(0.5) {
            true => called,
            false => vec![Value::from(called)],
        };
        put(&mut services[0].table, "calls", calls);
        services[1..].iter_mut().for_each(|service| service.caller = Some(0));
        return;
    }
    for place in 1..services.len() {
        let called = services[place].name;
        put(&mut services[place - 1].table, "calls", called);
        services[place].caller = Some(place - 1);
    }
}

impl Topology {
    pub(super) fn services(&self) -> Vec<Value> {
        self.services.iter().map(|service| Value::Table(service.table.clone())).collect()
    }

    pub(super) fn network(&self) -> Value {
        table([("latency", time(self.latency_ms))])
    }

    /// The share of requests that no service fails when each is asked once.
    pub(super) fn success_rate(&self) -> f64 {
        self.services.iter().map(|service| 1.0 - service.error_rate).product()
    }

    /// The services whose callers all stop in time. One that works on for nobody calls others late,
    /// and its sidecar cannot know how old the request is that it does so for.
    pub(super) fn called_in_time(&self) -> Vec<&'static str> {
        let mut in_time = vec![true; self.services.len()];
        // Callers stand above those that they call.
        for (place, service) in self.services.iter().enumerate() {
            if let Some(caller) = service.caller {
                in_time[place] = in_time[caller] && !self.services[caller].works_on;
            }
        }
        let services = self.services.iter().zip(in_time);
        services.filter(|(_, in_time)| *in_time).map(|(service, _)| service.name).collect()
    }

    /// How long a request takes in all, with much to spare, when nothing is wrong.
    pub(super) fn usual_ms(&self) -> u64 {
        let services = self.services.iter();
        // The 99.9th percentile of the widest draw is some 12 means; each hop is crossed with a
        // connect and back.
        services.map(|service| service.mean_ms * 15 + self.latency_ms * 10).sum::<u64>() + 200
    }
}
