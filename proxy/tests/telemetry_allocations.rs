//! Counting a request allocates nothing. A binary of its own, for its allocator.
#![allow(clippy::disallowed_methods, reason = "an arbitrary origin for a scripted clock")]
#![allow(unsafe_code, reason = "an allocator is unsafe by its trait; this one only counts")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::{Duration, Instant};

use http::StatusCode;
use proxy::policy::balance::EndpointId;
use proxy::telemetry::event::{AttemptEnd, AttemptKind, RequestEnd, RequestOutcome};
use proxy::telemetry::{ClusterId, ClusterLabels, EndpointRef, Event, Telemetry, TelemetryParts};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: everything is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promise is handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is handed on.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn the_events_of_a_request_allocate_nothing() {
    let name = "web".to_owned();
    let clusters = [ClusterLabels { name, endpoints: vec!["10.0.0.1:80".to_owned()] }];
    let now = Instant::now();
    let telemetry = Telemetry::of(&clusters, TelemetryParts::starting(now));
    let at = EndpointRef { cluster: ClusterId(0), endpoint: EndpointId(0) };
    let (status, elapsed) = (StatusCode::OK, Duration::from_millis(1));
    let before = ALLOCATIONS.get();
    for _ in 0..100 {
        telemetry.emit(now, &Event::RequestReceived);
        telemetry.emit(now, &Event::AttemptStarted { at, kind: AttemptKind::First });
        telemetry.emit(now, &Event::AttemptAnswered { at, status, latency: elapsed });
        telemetry.emit(now, &Event::AttemptEnded { at, end: AttemptEnd::Completed(status) });
        let (outcome, status) = (RequestOutcome::Ok, Some(status));
        let end = RequestEnd { outcome, status, elapsed, attempts: 1, line: None };
        telemetry.emit(now, &Event::RequestEnded(end));
    }
    assert_eq!(ALLOCATIONS.get() - before, 0);
    assert_eq!(telemetry.request_totals().ok, 100);
    let text = telemetry.exposition();
    assert!(ALLOCATIONS.get() > before && !text.is_empty(), "the allocator counts");
}
