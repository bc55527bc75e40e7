//! What following the requests of a connection costs: a head of 300 bytes, the same in two pieces,
//! and a body of 64 KiB behind a length and in chunks.
//!
//! `cargo bench -p proxy --bench strict`
#![allow(missing_docs, reason = "criterion's macros make public items")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use proxy::listener::framing::{Framing, Limits, Step};

const HEAD: &str = "GET /catalogue/items/4711?currency=EUR&expand=prices HTTP/1.1\r\n\
    host: catalogue.shop.svc.cluster.local\r\n\
    user-agent: checkout/1.42\r\n\
    accept: application/json\r\n\
    accept-encoding: gzip, br\r\n\
    traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n\
    x-request-id: 6f1c8a52-5f3c-4f0a-9d0e-42b7a\r\n\r\n";

/// Everything passes; returns how many steps it took.
fn follow(framing: &mut Framing, mut input: &[u8]) -> usize {
    let mut steps = 0;
    while !input.is_empty() {
        match framing.advance(input) {
            Ok(Step::Pass(length)) => input = &input[length..],
            _ => return 0,
        }
        steps += 1;
    }
    steps
}

fn strict(criterion: &mut Criterion) {
    assert_eq!(HEAD.len(), 300);
    let mut group = criterion.benchmark_group("strict");
    let mut framing = Framing::new(Limits::default());
    group.bench_function("head", |bencher| {
        bencher.iter(|| follow(&mut framing, black_box(HEAD.as_bytes())));
    });
    group.bench_function("head_in_two_pieces", |bencher| {
        bencher.iter(|| {
            let _ = black_box(framing.advance(black_box(&HEAD.as_bytes()[..150])));
            follow(&mut framing, black_box(HEAD.as_bytes()))
        });
    });
    let body = "x".repeat(65_536);
    let sized = format!("PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 65536\r\n\r\n{body}");
    let chunk = format!("1000\r\n{}\r\n", &body[..4096]).repeat(16);
    let chunked =
        format!("PUT / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{chunk}0\r\n\r\n");
    for (name, request) in [("sized_body", sized), ("chunked_body", chunked)] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| follow(&mut framing, black_box(request.as_bytes())));
        });
    }
    group.finish();
}

criterion_group!(benches, strict);
criterion_main!(benches);
