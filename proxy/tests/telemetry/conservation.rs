//! The books balance after any orderly sequence, while it happens and when it is over; and they do
//! not after a disorderly one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use http::StatusCode;
use proptest::prelude::*;
use proxy::error::Flag;
use proxy::telemetry::event::{AttemptEnd, AttemptKind, RequestOutcome};
use proxy::telemetry::{EndpointRef, Event, Telemetry};

use super::{at, request_end, telemetry};

/// A request that is under way.
#[derive(Default)]
struct Request {
    attempts: u32,
    open: Vec<(EndpointRef, bool)>,
    /// An attempt was completed, with this status.
    completed: Option<StatusCode>,
}

/// An orderly path: what it tells is what a shell without defects would.
struct Path {
    telemetry: Telemetry,
    now: Instant,
    requests: Vec<Request>,
    received: u64,
    started: u64,
    answered: u64,
}

impl Path {
    fn new() -> Self {
        let (telemetry, now) = telemetry();
        Self { telemetry, now, requests: Vec::new(), received: 0, started: 0, answered: 0 }
    }

    fn emit(&self, event: &Event) {
        self.telemetry.emit(self.now, event);
    }

    /// One step, chosen by `what`, of the request and the attempt chosen by `which`.
    fn step(&mut self, what: u8, which: usize) {
        let count = self.requests.len();
        match what % 8 {
            0 => {
                self.emit(&Event::RequestReceived);
                self.received += 1;
                self.requests.push(Request::default());
            }
            1..=3 if count > 0 => self.start(which % count, what, which),
            4 if count > 0 => self.answer(which % count),
            5 | 6 if count > 0 => self.end_attempt(which % count, which),
            7 if count > 0 => self.end_request(which % count, which),
            _ => {}
        }
    }

    fn start(&mut self, request: usize, what: u8, which: usize) {
        let later = if what.is_multiple_of(2) { AttemptKind::Retry } else { AttemptKind::Hedge };
        let kind = if self.requests[request].attempts == 0 { AttemptKind::First } else { later };
        let at = [at(0, 0), at(0, 1), at(1, 0)][which % 3];
        self.emit(&Event::AttemptStarted { at, kind });
        self.started += 1;
        self.requests[request].attempts += 1;
        self.requests[request].open.push((at, false));
    }

    fn answer(&mut self, request: usize) {
        let open = &mut self.requests[request].open;
        let Some((at, answered)) = open.iter_mut().find(|(_, answered)| !answered) else { return };
        *answered = true;
        let (at, status, latency) = (*at, StatusCode::OK, Duration::from_millis(7));
        self.answered += 1;
        self.emit(&Event::AttemptAnswered { at, status, latency });
    }

    fn end_attempt(&mut self, request: usize, which: usize) {
        let Some((at, answered)) = self.requests[request].open.pop() else { return };
        let status = [StatusCode::OK, StatusCode::NOT_FOUND, StatusCode::BAD_GATEWAY][which % 3];
        let ends = [
            AttemptEnd::Failed,
            AttemptEnd::TimedOut,
            AttemptEnd::PerTryTimedOut,
            AttemptEnd::Cancelled,
            AttemptEnd::Refused,
            AttemptEnd::Completed(status),
            AttemptEnd::Discarded(status),
        ];
        let possible = if answered { ends.len() } else { ends.len() - 2 };
        let end = ends[which % possible];
        if let AttemptEnd::Completed(status) = end {
            self.requests[request].completed = Some(status);
        }
        self.emit(&Event::AttemptEnded { at, end });
    }

    fn end_request(&mut self, request: usize, which: usize) {
        let Request { attempts, open, completed } = self.requests.swap_remove(request);
        for (at, _) in open {
            self.emit(&Event::AttemptEnded { at, end: AttemptEnd::Cancelled });
        }
        let outcome = match completed {
            Some(status) if status.is_server_error() => RequestOutcome::Failed,
            Some(_) => RequestOutcome::Ok,
            None if which.is_multiple_of(2) => RequestOutcome::Cancelled,
            None => RequestOutcome::Refused(Flag::ALL[which % Flag::ALL.len()]),
        };
        self.emit(&Event::RequestEnded(request_end(outcome, 200, attempts)));
    }

    /// The books say what happened, and add up.
    fn check(&self) -> Result<(), TestCaseError> {
        let books = self.telemetry.conservation();
        prop_assert_eq!(books.check(), Ok(()));
        prop_assert_eq!(books.requests.received, self.received);
        prop_assert_eq!(books.requests.active(), self.requests.len() as i64);
        let attempts = books.attempts();
        prop_assert_eq!(attempts.started(), self.started);
        prop_assert_eq!(attempts.latency.count(), self.answered);
        let open: usize = self.requests.iter().map(|request| request.open.len()).sum();
        prop_assert_eq!(attempts.active(), open as i64);
        Ok(())
    }
}

proptest! {
    #[test]
    fn orderly_books_balance(steps in prop::collection::vec((0_u8..8, 0_usize..1000), 0..300)) {
        let mut path = Path::new();
        for (what, which) in steps {
            path.step(what, which);
            path.check()?;
        }
        let busy = !path.requests.is_empty();
        prop_assert_eq!(path.telemetry.conservation().check_at_rest().is_err(), busy);
        while !path.requests.is_empty() {
            path.end_request(0, path.requests.len());
        }
        path.check()?;
        prop_assert_eq!(path.telemetry.conservation().check_at_rest(), Ok(()));
    }

    /// The cluster's sums are those of its endpoints, whatever happened.
    #[test]
    fn clusters_are_the_sum_of_their_endpoints(
        steps in prop::collection::vec((0_u8..8, 0_usize..1000), 0..100),
    ) {
        let mut path = Path::new();
        for (what, which) in steps {
            path.step(what, which);
        }
        for row in path.telemetry.cluster_rows() {
            let mut sum = proxy::telemetry::EndpointTotals::default();
            let books = path.telemetry.conservation();
            for endpoint in books.endpoints.iter().filter(|of| of.cluster == row.cluster) {
                sum.add(&endpoint.totals);
            }
            prop_assert_eq!(row.endpoints, sum);
        }
    }
}

/// Each defect of a shell, and the sentence that says so.
#[test]
fn disorderly_books_are_found_out() {
    let end = |outcome, attempts| Event::RequestEnded(request_end(outcome, 200, attempts));
    let started = |kind| Event::AttemptStarted { at: at(0, 1), kind };
    let ended = |end| Event::AttemptEnded { at: at(0, 1), end };
    let (first, failed) = (AttemptKind::First, AttemptEnd::Failed);
    let cases: &[(&str, Vec<Event>)] = &[
        (
            "a request ended twice",
            vec![
                Event::RequestReceived,
                end(RequestOutcome::Cancelled, 0),
                end(RequestOutcome::Cancelled, 0),
            ],
        ),
        ("a request never ended", vec![Event::RequestReceived]),
        (
            "an attempt ended twice",
            vec![Event::RequestReceived, started(first), ended(failed), ended(failed)],
        ),
        (
            "an attempt never ended",
            vec![Event::RequestReceived, started(first), end(RequestOutcome::Cancelled, 1)],
        ),
        (
            "an attempt that nobody counted",
            vec![
                Event::RequestReceived,
                started(first),
                ended(failed),
                end(RequestOutcome::Cancelled, 0),
            ],
        ),
        (
            "a response without a head",
            vec![
                Event::RequestReceived,
                started(first),
                ended(AttemptEnd::Completed(StatusCode::OK)),
            ],
        ),
        ("an answer from nowhere", vec![Event::RequestReceived, end(RequestOutcome::Ok, 0)]),
        ("two first attempts", vec![Event::RequestReceived, started(first), started(first)]),
        ("a connection closed twice", vec![Event::ConnectionClosed { at: at(1, 0) }]),
        ("a return without an ejection", vec![Event::Returned { at: at(1, 0) }]),
    ];
    let mut said = String::new();
    for (defect, events) in cases {
        let (telemetry, now) = telemetry();
        for event in events {
            telemetry.emit(now, event);
        }
        let found = telemetry.conservation().check_at_rest();
        said += &format!("{defect}\n    {}\n", found.expect_err(defect));
    }
    insta::assert_snapshot!(said);
}

/// Books that are being written balance whenever they are read.
#[test]
fn books_balance_under_the_pen() {
    let (telemetry, now) = telemetry();
    let telemetry = Arc::new(telemetry);
    let over = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..2)
        .map(|n| {
            let (telemetry, over) = (telemetry.clone(), over.clone());
            thread::spawn(move || {
                let (at, status) = (at(0, n), StatusCode::OK);
                while !over.load(Ordering::Relaxed) {
                    telemetry.emit(now, &Event::RequestReceived);
                    telemetry.emit(now, &Event::AttemptStarted { at, kind: AttemptKind::First });
                    let latency = Duration::from_millis(1);
                    telemetry.emit(now, &Event::AttemptAnswered { at, status, latency });
                    let end = AttemptEnd::Completed(status);
                    telemetry.emit(now, &Event::AttemptEnded { at, end });
                    let end = request_end(RequestOutcome::Ok, 200, 1);
                    telemetry.emit(now, &Event::RequestEnded(end));
                }
            })
        })
        .collect();
    // Until the writers have written a lot, however seldom they get a processor.
    let mut unbalanced = None;
    while unbalanced.is_none() && telemetry.request_totals().received < 2_000_000 {
        unbalanced = telemetry.conservation().check().err();
    }
    over.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.join().expect("a writer panicked");
    }
    assert_eq!(unbalanced, None);
    assert_eq!(telemetry.conservation().check_at_rest(), Ok(()));
}
