//! Names and values of statistics, and the timeline.

use std::num::NonZeroUsize;
use std::time::Duration;

use http::StatusCode;
use proxy::error::Flag;
use proxy::telemetry::event::{
    AttemptEnd, AttemptKind, CircuitState, EjectionReason, GivenUp, Limit, RequestOutcome,
};
use proxy::telemetry::{ClusterId, Event, Telemetry, TelemetryParts, TimelineOptions};

use super::{at, clusters, request_end, telemetry};

/// One of each event, the request's own in order.
fn one_of_each() -> Vec<Event> {
    let (web, at) = (ClusterId(0), at(0, 0));
    let (status, latency) = (StatusCode::BAD_GATEWAY, Duration::from_millis(3));
    let (reason, lasts) = (EjectionReason::ConsecutiveErrors, Duration::from_secs(30));
    vec![
        Event::RequestReceived,
        Event::AttemptStarted { at, kind: AttemptKind::First },
        Event::AttemptAnswered { at, status, latency },
        Event::AttemptEnded { at, end: AttemptEnd::Discarded(status) },
        Event::RetryScheduled { cluster: web, after: lasts },
        Event::AttemptStarted { at, kind: AttemptKind::Retry },
        Event::AttemptEnded { at, end: AttemptEnd::PerTryTimedOut },
        Event::RetryGivenUp { cluster: web, why: GivenUp::Budget },
        Event::RequestEnded(request_end(RequestOutcome::Refused(Flag::UT), 504, 2)),
        Event::RetrySucceeded { cluster: web },
        Event::ConnectionOpened { at },
        Event::ConnectionClosed { at },
        Event::ConnectFailed { at },
        Event::QueueOverflowed { at },
        Event::QueueTimedOut { at },
        Event::LimitReached { cluster: web, limit: Limit::Connections },
        Event::NoneHealthy { cluster: web },
        Event::RateLimited,
        Event::EjectionOverflowed { at, reason: EjectionReason::Latency },
        Event::Ejected { at, reason, lasts },
        Event::Probed { at },
        Event::Returned { at },
        Event::HealthChanged { at, healthy: false },
        Event::PanicChanged { cluster: web, panics: true },
        Event::PlacedInPanic { cluster: web },
        Event::CircuitChanged { cluster: web, state: CircuitState::Open },
        Event::FallbackServed { cluster: web },
    ]
}

/// Every family there is, by name and type: what dashboards are built on.
#[test]
fn the_names_of_statistics() {
    let (telemetry, _) = telemetry();
    telemetry.listener("in");
    let text = telemetry.exposition();
    let names: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
    insta::assert_snapshot!(names.join("\n"));
}

/// Each event moves the series that it should, and no other.
#[test]
fn what_events_count() {
    let (telemetry, start) = telemetry();
    for event in one_of_each() {
        telemetry.emit(start, &event);
    }
    assert_eq!(telemetry.conservation().check_at_rest(), Ok(()));
    insta::assert_snapshot!(telemetry.plain_stats("", true));
}

#[test]
fn plain_statistics_can_be_narrowed_down() {
    let (telemetry, start) = telemetry();
    telemetry.emit(start, &Event::RequestReceived);
    let all = telemetry.plain_stats("", false);
    assert!(all.contains("sidecar_cluster_membership_healthy{cluster=\"db\"}: 1\n"), "{all}");
    assert!(!all.contains("_bucket"), "{all}");
    assert!(!telemetry.plain_stats("", true).contains(": 0\n"));
    let narrow = telemetry.plain_stats("downstream_rq_total", false);
    assert_eq!(narrow, "sidecar_downstream_rq_total: 1\n");
}

/// An endpoint is out for as long as one of two reasons holds.
#[test]
fn membership_follows_ejections_and_checks() {
    let (telemetry, now) = telemetry();
    let at = at(0, 1);
    let (reason, lasts) = (EjectionReason::Latency, Duration::from_secs(30));
    let healthy = |event| {
        telemetry.emit(now, &event);
        telemetry.plain_stats("cluster_membership_healthy{cluster=\"web\"}", false)
    };
    let line = |n| format!("sidecar_cluster_membership_healthy{{cluster=\"web\"}}: {n}\n");
    assert_eq!(healthy(Event::RequestReceived), line(2));
    assert_eq!(healthy(Event::Ejected { at, reason, lasts }), line(1));
    assert_eq!(healthy(Event::HealthChanged { at, healthy: false }), line(1));
    assert_eq!(healthy(Event::Returned { at }), line(1));
    assert_eq!(healthy(Event::HealthChanged { at, healthy: true }), line(2));
}

#[test]
fn the_timeline_keeps_what_is_rare_and_says_when_and_where() {
    let (telemetry, start) = telemetry();
    for (n, event) in (0..).zip(one_of_each()) {
        telemetry.emit(start + Duration::from_millis(250 * n), &event);
    }
    let lines = telemetry.timeline().snapshot().json_lines().expect("JSON");
    insta::assert_snapshot!(lines);
}

/// At its size nothing is forgotten; at one more, the oldest is, and that is counted.
#[test]
fn the_timeline_forgets_the_oldest() {
    let start = std::time::Instant::now();
    let size = NonZeroUsize::new(3).expect("not zero");
    let parts =
        TelemetryParts { timeline: TimelineOptions { size }, ..TelemetryParts::starting(start) };
    let telemetry = Telemetry::of(&clusters(), parts);
    let note = |n| telemetry.emit(start + Duration::from_secs(n), &Event::Probed { at: at(0, 0) });
    let seconds = || {
        let snapshot = telemetry.timeline().snapshot();
        (snapshot.moments.iter().map(|moment| moment.at.as_secs()).collect(), snapshot.dropped)
    };
    (1..=3).for_each(note);
    assert_eq!(seconds(), (vec![1, 2, 3], 0));
    note(4);
    assert_eq!(seconds(), (vec![2, 3, 4], 1));
    let lines = telemetry.timeline().snapshot().json_lines().expect("JSON");
    assert!(lines.starts_with("{\"count\":1,\"event\":\"dropped\"}\n"), "{lines}");
}
