//! Endpoint health allocates nothing on the path of a request, nor when it sweeps.
//!
//! A program of its own, because it counts through the global allocator; and one test, because
//! tests beside it would be counted too.
#![allow(missing_docs, reason = "a test")]
#![allow(unsafe_code, reason = "implementing GlobalAlloc is unsafe; this passes on to System")]
#![allow(clippy::disallowed_methods, reason = "the origin of a scripted clock")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::{Duration, Instant};

use proxy::policy::balance::EndpointId;
use proxy::policy::membership::{EndpointAttributes, Membership, MembershipOptions, SubsetId};
use proxy::policy::outlier::{Outcome, Outlier, OutlierOptions, Transition};
use proxy::rng::{StreamRng, stream};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call is passed on unchanged to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller keeps the contract, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations(work: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

const ENDPOINTS: usize = 30;

/// Three minutes in which endpoints fail, are slow, are ejected, probed and given back.
fn live(outlier: &mut Outlier, start: Instant, rng: &mut StreamRng, out: &mut Vec<Transition>) {
    for n in 0..180_000_u64 {
        let now = start + Duration::from_millis(n);
        if outlier.next_sweep().is_some_and(|due| now >= due) {
            outlier.sweep(now, rng, out);
        }
        let ordinary = EndpointId(n as usize % ENDPOINTS);
        let (endpoint, epoch) = match outlier.take_probe(now, |_| true) {
            Some(probe) => probe,
            None if outlier.state(ordinary).is_open() => (ordinary, outlier.epoch(ordinary)),
            None => continue,
        };
        let is_bad_time = n / 10_000 % 2 == 0;
        let latency = Duration::from_millis(if endpoint.0 == 5 && is_bad_time { 900 } else { 20 });
        let outcome = match endpoint.0 {
            0..3 if is_bad_time => Outcome::Gateway,
            3..5 if is_bad_time && n % 7 < 3 => Outcome::ServerError,
            7 => Outcome::Cancelled { elapsed: latency },
            _ => Outcome::Success { latency },
        };
        out.extend(outlier.record(endpoint, epoch, outcome, now, rng));
    }
}

#[test]
fn nothing_is_allocated_for_a_request() {
    assert_eq!(allocations(|| drop(std::hint::black_box(Box::new(1)))), 1, "the counter works");

    let mut rng = stream(1, "test");
    let mut outlier = Outlier::new(ENDPOINTS, OutlierOptions::default());
    let mut out = Vec::with_capacity(10_000);
    let start = Instant::now();
    assert_eq!(allocations(|| live(&mut outlier, start, &mut rng, &mut out)), 0);
    assert!(out.len() > 50 && out.len() < out.capacity(), "{} transitions", out.len());

    let zone = |index: usize| Some(["a", "b"][index % 2].to_owned());
    let attributes = (0..ENDPOINTS)
        .map(|index| EndpointAttributes { zone: zone(index), ..Default::default() })
        .collect();
    let options = MembershipOptions { zone: Some("a".to_owned()), ..Default::default() };
    let mut membership = Membership::new(attributes, Vec::new(), options);
    (0..ENDPOINTS / 2).for_each(|index| membership.set_available(EndpointId(index), false));
    let choices = allocations(|| {
        (0..1000).for_each(|_| assert!(membership.choose(SubsetId::ALL, &mut rng).is_some()));
    });
    assert_eq!(choices, 0);
}
