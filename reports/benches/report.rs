//! How long the report of two hundred runs takes: of two variants with many seeds, and of many
//! variants with few. Each has to stay below ten seconds.

#[path = "../tests/support/synthetic.rs"]
mod synthetic;

use criterion::{Criterion, criterion_group, criterion_main};
use reports::{PageExtras, RunRecord, load, write_page};
use synthetic::{ELEVEN, FOUR, Model, many_variants, records};

fn report(criterion: &mut Criterion) {
    let model = Model { rate: 100, ..ELEVEN };
    let seeds: Vec<u64> = (1..=100).collect();
    let sets: [(&str, Vec<RunRecord>); 2] = [
        ("two_variants", records(&model, &FOUR[2..], &seeds)),
        ("forty_variants", many_variants(&model, 40, 5)),
    ];
    let mut group = criterion.benchmark_group("report_of_200_runs");
    group.sample_size(10);
    for (name, all) in &sets {
        assert_eq!(all.len(), 200);
        let dir = tempfile::tempdir().expect("a temporary folder");
        write_page(all, &PageExtras::default(), dir.path()).expect("a page");
        let again = tempfile::tempdir().expect("a temporary folder");
        group.bench_function(*name, |bencher| {
            bencher.iter(|| {
                let loaded = load(&[dir.path().join("records")]).expect("the records");
                write_page(&loaded.records, &PageExtras::default(), again.path()).expect("a page")
            });
        });
    }
    group.finish();
}

criterion_group!(benches, report);
criterion_main!(benches);
