//! What is retried, what is not and why, and that every retry is paid.

use std::cell::Cell;

use http::HeaderValue;
use proptest::prelude::{
    Just, Strategy, any, prop, prop_assert, prop_assert_eq, prop_oneof, proptest,
};

use super::*;
use crate::policy::budget::BudgetOptions;
use crate::rng::stream;

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn plenty() -> Budget {
    Budget::new(&BudgetOptions { min_per_second: 1_000_000, ..BudgetOptions::default() })
}

fn get() -> RequestFacts {
    RequestFacts::of(&Method::GET, BodyState::Replayable)
}

/// The first attempt of a GET, with much time left.
fn attempt(outcome: AttemptOutcome<'_>) -> Attempt<'_> {
    let remaining = Duration::from_secs(10);
    Attempt { request: get(), outcome, made: 1, remaining, expected_try: None }
}

fn judge(options: &RetryOptions, attempt: &Attempt<'_>) -> Verdict {
    options.judge(attempt, &mut plenty(), Instant::now(), &mut stream(1, "test"))
}

/// `accept`, `retry`, or why it is given up.
fn word(options: &RetryOptions, attempt: &Attempt<'_>) -> &'static str {
    match judge(options, attempt) {
        Verdict::Accept => "accept",
        Verdict::Retry { .. } => "retry",
        Verdict::GiveUp(reason) => reason.name(),
    }
}

fn wait(verdict: Verdict) -> Option<Duration> {
    match verdict {
        Verdict::Retry { after, .. } => Some(after),
        _ => None,
    }
}

fn response(code: u16, headers: &HeaderMap) -> AttemptOutcome<'_> {
    AttemptOutcome::Response { status: StatusCode::from_u16(code).expect("a status"), headers }
}

fn headers(name: &'static str, value: &str) -> HeaderMap {
    let value = HeaderValue::from_str(value).expect("a value");
    HeaderMap::from_iter([(HeaderName::from_static(name), value)])
}

#[test]
fn by_default_a_get_survives_a_crash_and_a_failing_endpoint() {
    let options = RetryOptions::default();
    let none = HeaderMap::new();
    for outcome in [
        AttemptOutcome::Unsent(Unsent::ConnectFailure),
        AttemptOutcome::Unsent(Unsent::RefusedStream),
        AttemptOutcome::Unsent(Unsent::Overflow),
        AttemptOutcome::Reset,
        AttemptOutcome::PerTryTimeout,
        response(500, &none),
        response(503, &none),
    ] {
        assert_eq!(word(&options, &attempt(outcome)), "retry", "{outcome:?}");
    }
    for code in [200, 304, 404, 409, 429] {
        assert_eq!(word(&options, &attempt(response(code, &none))), "accept", "{code}");
    }
    let unavailable = headers("grpc-status", "14");
    assert_eq!(word(&options, &attempt(response(200, &unavailable))), "accept");
}

/// RFC 9110 §9.2.2, row by row.
#[test]
fn what_may_have_been_carried_out_is_repeated_only_if_idempotent() {
    let methods = ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE", "POST", "PATCH", "CONNECT"];
    let methods = methods.iter().chain(&["PROPFIND", "get"]);
    let none = HeaderMap::new();
    let default = RetryOptions::default();
    let opted_in = RetryOptions { non_idempotent: true, ..RetryOptions::default() };
    for (place, name) in methods.enumerate() {
        let method = name.parse().expect("a method");
        let request = RequestFacts::of(&method, BodyState::Replayable);
        let of = |outcome| Attempt { request, ..attempt(outcome) };
        let processed =
            [response(503, &none), AttemptOutcome::Reset, AttemptOutcome::PerTryTimeout];
        for outcome in processed {
            let expected = if place < 6 { "retry" } else { "not_safe" };
            assert_eq!(word(&default, &of(outcome)), expected, "{name} {outcome:?}");
            assert_eq!(word(&opted_in, &of(outcome)), "retry", "{name} {outcome:?}");
        }
        for unsent in [Unsent::ConnectFailure, Unsent::RefusedStream, Unsent::Overflow] {
            let unsent = of(AttemptOutcome::Unsent(unsent));
            assert_eq!(word(&default, &unsent), "retry", "{name} unsent");
        }
        // Nor is a POST that succeeded reported as one that was not retried.
        assert_eq!(word(&default, &of(response(201, &none))), "accept");
    }
}

#[test]
fn a_body_that_is_not_there_any_more_is_not_sent_again() {
    let options = RetryOptions { non_idempotent: true, ..RetryOptions::default() };
    for (body, expected) in [
        (BodyState::Replayable, "retry"),
        (BodyState::TooLarge { limit: 10 }, "body_too_large"),
        (BodyState::Broken, "body_broken"),
    ] {
        let request = RequestFacts { body, ..get() };
        for outcome in [AttemptOutcome::Reset, AttemptOutcome::Unsent(Unsent::ConnectFailure)] {
            let attempt = Attempt { request, ..attempt(outcome) };
            assert_eq!(word(&options, &attempt), expected);
        }
    }
}

#[test]
fn as_many_retries_as_the_route_allows() {
    for max_retries in 1..4 {
        let options = RetryOptions { max_retries, ..RetryOptions::default() };
        let made = |made| Attempt { made, ..attempt(AttemptOutcome::Reset) };
        assert_eq!(word(&options, &made(max_retries)), "retry");
        assert_eq!(word(&options, &made(max_retries + 1)), "exhausted");
    }
    // Retries that are off give nothing up.
    let off = RetryOptions { max_retries: 0, ..RetryOptions::default() };
    assert_eq!(word(&off, &attempt(AttemptOutcome::Reset)), "accept");
}

#[test]
fn a_route_lists_statuses_and_fields_of_its_own() {
    let read = |on: &str| {
        let text = format!("on = [{on}]\nstatus_codes = [425]\nheaders = [\"x-try-again\"]");
        toml::from_str::<RetryOptions>(&text).expect("options")
    };
    let again = headers("x-try-again", "1");
    let none = HeaderMap::new();
    let by_status = read("\"retriable-status-codes\"");
    assert_eq!(word(&by_status, &attempt(response(425, &none))), "retry");
    assert_eq!(word(&by_status, &attempt(response(426, &none))), "accept");
    assert_eq!(word(&by_status, &attempt(response(200, &again))), "accept");
    let by_header = read("\"retriable-headers\"");
    assert_eq!(word(&by_header, &attempt(response(200, &again))), "retry");
    assert_eq!(word(&by_header, &attempt(response(425, &none))), "accept");
}

#[test]
fn no_retry_without_the_time_for_it() {
    let options = RetryOptions::default();
    let backoff = BackoffOptions { base: Duration::from_nanos(1), ..options.backoff };
    // A wait below one nanosecond is none: what is left is compared with the expected try alone.
    let options = RetryOptions { backoff, ..options };
    let with = |remaining, expected_try| Attempt {
        remaining,
        expected_try,
        ..attempt(AttemptOutcome::Reset)
    };
    assert_eq!(word(&options, &with(ms(10), Some(ms(9)))), "retry");
    assert_eq!(word(&options, &with(ms(10), Some(ms(10)))), "deadline");
    assert_eq!(word(&options, &with(Duration::from_nanos(1), None)), "retry");
    assert_eq!(word(&options, &with(Duration::ZERO, None)), "deadline");
    assert_eq!(word(&options, &with(ms(10), Some(Duration::MAX / 2))), "deadline");
}

#[test]
fn a_response_that_asks_for_time_gets_it_and_jitter_on_top() {
    let options = RetryOptions::default();
    let asks = headers("retry-after", "2");
    let mut rng = stream(1, "test");
    let waits: Vec<_> = (0..100)
        .filter_map(|_| {
            let attempt = attempt(response(503, &asks));
            wait(options.judge(&attempt, &mut plenty(), Instant::now(), &mut rng))
        })
        .collect();
    assert_eq!(waits.len(), 100);
    assert!(waits.iter().all(|wait| (ms(2000)..ms(2025)).contains(wait)), "{waits:?}");
    assert!(waits.iter().any(|wait| *wait != waits[0]), "they come back at once");
}

#[test]
fn a_response_that_asks_for_more_time_than_is_left_is_passed_on() {
    let options = RetryOptions::default();
    let asks = headers("retry-after", "2");
    let left = |remaining| Attempt { remaining, ..attempt(response(503, &asks)) };
    assert_eq!(word(&options, &left(ms(2000))), "pushback");
    assert_eq!(word(&options, &left(ms(2025))), "retry");
    // Time for the wait, but not for the try.
    let no_time = Attempt { expected_try: Some(ms(25)), ..left(ms(2025)) };
    assert_eq!(word(&options, &no_time), "deadline");
    // More than the cap is the cap.
    let asks = headers("retry-after", "99999999999999999999");
    let hour = Attempt { remaining: ms(3_600_000), ..attempt(response(503, &asks)) };
    let wait = wait(judge(&options, &hour)).expect("a retry");
    assert!((ms(300_000)..ms(300_025)).contains(&wait), "{wait:?}");
}

#[test]
fn a_response_that_says_no_is_believed() {
    let options = RetryOptions::default();
    for (name, value, expected) in [
        ("grpc-retry-pushback-ms", "-1", "pushback"),
        ("grpc-retry-pushback-ms", "10", "retry"),
        ("x-envoy-overloaded", "true", "overloaded"),
        ("x-envoy-ratelimited", "true", "overloaded"),
    ] {
        let said = headers(name, value);
        assert_eq!(word(&options, &attempt(response(503, &said))), expected, "{name}: {value}");
        assert_eq!(word(&options, &attempt(response(200, &said))), "accept", "{name}: {value}");
    }
}

#[test]
fn a_retry_is_paid_before_its_wait_and_a_refusal_is_free() {
    let now = Instant::now();
    let options = RetryOptions::default();
    let mut budget =
        Budget::new(&BudgetOptions { ratio: 0.2, min_per_second: 0, ..BudgetOptions::default() });
    (0..5).for_each(|_| budget.deposit(now));
    let mut rng = stream(1, "test");
    let mut judge =
        |attempt: Attempt<'_>, budget: &mut Budget| options.judge(&attempt, budget, now, &mut rng);
    let reset = attempt(AttemptOutcome::Reset);
    for free in [
        Attempt { made: 9, ..reset },
        Attempt { remaining: Duration::ZERO, ..reset },
        Attempt { request: RequestFacts::of(&Method::POST, BodyState::Replayable), ..reset },
        attempt(response(200, &HeaderMap::new())),
    ] {
        assert_eq!(wait(judge(free, &mut budget)), None);
        assert_eq!(budget.balance(now), 1);
    }
    let Verdict::Retry { reservation, .. } = judge(reset, &mut budget) else {
        panic!("there was one left");
    };
    assert_eq!(budget.balance(now), 0);
    assert_eq!(judge(reset, &mut budget), Verdict::GiveUp(GiveUp::Budget));
    // The request dies in the wait.
    budget.give_back(reservation);
    assert_eq!(budget.balance(now), 1);
}

#[test]
fn names_differ_and_all_are_listed_in_order() {
    for (place, reason) in GiveUp::ALL.into_iter().enumerate() {
        assert_eq!(reason as usize, place, "{}", reason.name());
    }
    let names: std::collections::BTreeSet<_> = GiveUp::ALL.map(GiveUp::name).into();
    assert_eq!(names.len(), GiveUp::ALL.len());
}

#[test]
fn an_empty_table_is_the_defaults_and_errors_say_what_would_be_right() {
    let read = |text: &str| toml::from_str::<RetryOptions>(text);
    assert_eq!(read("").expect("nothing is required"), RetryOptions::default());
    let whole = "on = [\"5xx\", \"unavailable\"]\nmax_retries = 1\nper_try_timeout = \"1s\"\n\
                 backoff = { base = \"1ms\", cap = \"2ms\" }\nnon_idempotent = true";
    let whole = read(whole).expect("a whole one");
    assert_eq!(whole.on, Conditions::of(&[Condition::Status5xx, Condition::GrpcUnavailable]));
    let wrong = [
        "on = [\"5xx\", \"gateway_error\"]",
        "status_codes = [600]",
        "status_codes = [99]",
        "headers = [\"not a name\"]",
        "per_try_timeout = \"0s\"",
        "max_retries = -1",
        "max_retry = 1",
        "backoff = { bass = \"1ms\" }",
    ];
    let error = |text: &str| match read(text) {
        Ok(_) => panic!("accepted: {text}"),
        Err(error) => error.message().split('\n').collect::<Vec<_>>().join("; "),
    };
    insta::assert_snapshot!(wrong.map(error).join("\n"));
}

fn outcomes() -> impl Strategy<Value = (Option<Unsent>, Option<u16>, bool)> {
    let unsent = prop_oneof![
        Just(Unsent::ConnectFailure),
        Just(Unsent::RefusedStream),
        Just(Unsent::Overflow),
    ];
    (prop::option::of(unsent), prop::option::of(200..600_u16), any::<bool>())
}

proptest! {
    /// Whatever the options and the attempt: what is retried was safe, affordable, in time and in
    /// number, its wait is bounded, and the budget pays exactly for it.
    #[test]
    fn a_retry_is_always_safe_paid_and_in_time(
        (unsent, status, per_try) in outcomes(),
        idempotent: bool, opt_in: bool, made in 1..5_u32, max_retries in 0..4_u32,
        remaining_ms in 0..5_000_u64, expected_ms in prop::option::of(0..5_000_u64),
        retry_after in prop::option::of(0..6_u64), deposits in 0..12_u32, seed: u64,
    ) {
        let mut fields = HeaderMap::new();
        if let Some(seconds) = retry_after {
            fields.insert(http::header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        let outcome = match (unsent, status) {
            (Some(unsent), _) => AttemptOutcome::Unsent(unsent),
            (None, Some(code)) => response(code, &fields),
            (None, None) if per_try => AttemptOutcome::PerTryTimeout,
            (None, None) => AttemptOutcome::Reset,
        };
        let request =
            RequestFacts { method_is_idempotent: idempotent, body: BodyState::Replayable };
        let (remaining, expected) = (ms(remaining_ms), expected_ms.map(ms));
        let attempt = Attempt { request, outcome, made, remaining, expected_try: expected };
        let options =
            RetryOptions { max_retries, non_idempotent: opt_in, ..RetryOptions::default() };
        let now = Instant::now();
        let mut budget =
            Budget::new(&BudgetOptions { min_per_second: 0, ..BudgetOptions::default() });
        (0..deposits).for_each(|_| budget.deposit(now));
        let before = budget.balance(now);

        let verdict = options.judge(&attempt, &mut budget, now, &mut stream(seed, "test"));
        let paid = before - budget.balance(now);
        let is_failure = unsent.is_some() || status.is_none_or(|code| code >= 500);
        prop_assert_eq!(verdict == Verdict::Accept, max_retries == 0 || !is_failure);
        match verdict {
            Verdict::Retry { after, .. } => {
                prop_assert_eq!(paid, 1);
                prop_assert!(idempotent || opt_in || unsent.is_some());
                prop_assert!(made <= max_retries);
                prop_assert!(remaining > after + expected.unwrap_or_default());
                let heard = retry_after.filter(|_| unsent.is_none() && status.is_some());
                let asked = Duration::from_secs(heard.unwrap_or(0));
                prop_assert!(after >= asked && after - asked < options.backoff.cap);
            }
            Verdict::Accept | Verdict::GiveUp(_) => prop_assert_eq!(paid, 0),
        }
    }
}

/// The accept path takes no random number: whether a request succeeds does not shift the waits of
/// those that do not.
#[test]
fn what_is_accepted_draws_nothing() {
    struct Counting(Cell<u32>);
    impl rand::rand_core::TryRng for Counting {
        type Error = std::convert::Infallible;
        fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
            self.0.set(self.0.get() + 1);
            Ok(0)
        }
        fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
            self.0.set(self.0.get() + 1);
            Ok(0)
        }
        fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Self::Error> {
            bytes.fill(0);
            Ok(())
        }
    }
    let options = RetryOptions::default();
    let mut rng = Counting(Cell::new(0));
    let none = HeaderMap::new();
    for (outcome, draws) in [(response(200, &none), 0), (AttemptOutcome::Reset, 1)] {
        let verdict = options.judge(&attempt(outcome), &mut plenty(), Instant::now(), &mut rng);
        assert_eq!(wait(verdict).is_some(), draws == 1);
        assert_eq!(rng.0.get(), draws);
    }
}
