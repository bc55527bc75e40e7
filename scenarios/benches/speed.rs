//! How fast the simulator is, for the four scenarios that the report opens with.
//!
//! One iteration is one seed with all variants, on one core, judged and recorded. The throughput
//! is of requests that the client planned, so it reads as requests per second of wall time; sixty
//! seconds divided by the time is seeds per minute and core.

use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use scenarios::catalog;
use scenarios::plan::jobs;
use scenarios::runner::run_here;

const SCENARIOS: [&str; 4] =
    ["instance-crash", "persistent-errors", "deadline-expiry", "skewed-latency"];

fn speed(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("one_seed");
    group.sample_size(10).warm_up_time(Duration::from_millis(1));
    for name in SCENARIOS {
        let scenarios = [catalog::load(name).expect("the catalogue has it")];
        let all = jobs(0, &scenarios[0], 1..=1);
        let requests = |seed| {
            let outcome = run_here(&scenarios, &jobs(0, &scenarios[0], seed..=seed), &|| true);
            assert_eq!(outcome.records.len(), all.len());
            outcome.records.iter().map(|record| record.accounting.planned).sum::<u64>()
        };
        group.throughput(Throughput::Elements(requests(1)));
        group.bench_function(name, |bencher| bencher.iter(|| requests(1)));
    }
    group.finish();
}

criterion_group!(benches, speed);
criterion_main!(benches);
