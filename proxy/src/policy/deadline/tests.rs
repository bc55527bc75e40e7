//! What is read, what is passed on, and that it never grows.

use proptest::prelude::{Strategy, prop, prop_assert, prop_assert_eq, prop_oneof, proptest};

use super::*;

const ROUTE: Duration = Duration::from_secs(15);

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn limit(name: &HeaderName, value: &str) -> Limit {
    let mut headers = HeaderMap::new();
    headers.insert(name.clone(), HeaderValue::from_str(value).expect("a value"));
    Limit::of(&headers, ROUTE)
}

#[test]
fn without_a_word_the_routes_limit_holds() {
    let limit = Limit::of(&HeaderMap::new(), ROUTE);
    let expected = Limit { timeout: ROUTE, from: Source::Route, is_grpc: false, malformed: false };
    assert_eq!(limit, expected);
}

#[test]
fn grpc_timeouts_are_read_in_every_unit() {
    let cases = [
        ("99999999n", Duration::from_nanos(99_999_999)),
        ("250000u", ms(250)),
        ("250m", ms(250)),
        ("2S", ms(2_000)),
        ("0m", Duration::ZERO),
        ("00000001S", ms(1_000)),
    ];
    for (value, expected) in cases {
        let read = limit(&GRPC_TIMEOUT, value);
        assert_eq!((read.timeout, read.from), (expected, Source::GrpcTimeout), "{value}");
        assert!(read.is_grpc && !read.malformed, "{value}");
    }
    // Longer than the route's.
    for value in ["1M", "1H", "99999999H"] {
        let read = limit(&GRPC_TIMEOUT, value);
        assert_eq!((read.timeout, read.from), (ROUTE, Source::Route), "{value}");
        assert!(!read.malformed, "{value}");
    }
}

#[test]
fn what_cannot_be_read_is_ignored_and_noticed() {
    let grpc = ["", "m", "1", "1s", "1 S", "-1S", "+1S", "1.5S", "000000001S", "1Sm"];
    let ms = ["", " ", "+5", "5ms", "0x5", "1e3", "18446744073709551616", "--5", "-"];
    let cases = grpc.iter().map(|value| (&GRPC_TIMEOUT, *value));
    let cases = cases.chain(ms.iter().map(|value| (&UPSTREAM_TIMEOUT, *value)));
    let cases = cases.chain(ms.iter().map(|value| (&EXPECTED_TIMEOUT, *value)));
    for (name, value) in cases.chain([(&UPSTREAM_TIMEOUT, "-5")]) {
        let read = limit(name, value);
        assert_eq!((read.timeout, read.from), (ROUTE, Source::Route), "{name}: {value}");
        assert!(read.malformed, "{name}: {value}");
    }
}

#[test]
fn nothing_left_is_over_and_no_limit_is_not_for_callers_to_ask() {
    for (name, value) in
        [(&EXPECTED_TIMEOUT, "0"), (&EXPECTED_TIMEOUT, "-5"), (&GRPC_TIMEOUT, "0n")]
    {
        assert_eq!(limit(name, value).remaining(Duration::ZERO), Err(Over), "{name}: {value}");
    }
    let asked = limit(&UPSTREAM_TIMEOUT, "0");
    assert_eq!((asked.timeout, asked.malformed), (ROUTE, false));
}

#[test]
fn the_shortest_of_all_holds() {
    let mut headers = HeaderMap::new();
    for (name, value) in [
        (&GRPC_TIMEOUT, "3S"),
        (&EXPECTED_TIMEOUT, "2000"),
        (&UPSTREAM_TIMEOUT, "2500"),
        // A second line of a field cannot hide behind the first.
        (&UPSTREAM_TIMEOUT, "1500"),
        (&UPSTREAM_TIMEOUT, "soon"),
    ] {
        headers.append(name.clone(), HeaderValue::from_static(value));
    }
    let read = Limit::of(&headers, ROUTE);
    assert_eq!((read.timeout, read.from), (ms(1500), Source::UpstreamTimeout));
    assert!(read.malformed);
}

#[test]
fn a_request_with_less_than_a_millisecond_is_over() {
    let limit = limit(&EXPECTED_TIMEOUT, "100");
    assert_eq!(limit.remaining(ms(99)), Ok(ms(1)));
    assert_eq!(limit.remaining(ms(99) + Duration::from_nanos(1)), Err(Over));
    assert_eq!(limit.remaining(ms(101)), Err(Over));
    assert_eq!(limit.for_attempt(ms(99) + Duration::from_nanos(1), None), Err(Over));
}

#[test]
fn an_attempt_has_its_own_limit_or_the_rest_of_the_whole() {
    let limit = limit(&EXPECTED_TIMEOUT, "100");
    assert_eq!(limit.for_attempt(ms(30), None), Ok(ms(70)));
    assert_eq!(limit.for_attempt(ms(30), Some(ms(50))), Ok(ms(50)));
    assert_eq!(limit.for_attempt(ms(60), Some(ms(50))), Ok(ms(40)));
    assert_eq!(limit.for_attempt(ms(60), Some(Duration::from_micros(5))), Ok(LEAST));
}

#[test]
fn the_next_hop_is_told_what_is_left_rounded_down() {
    let mut headers = HeaderMap::new();
    headers.insert(UPSTREAM_TIMEOUT.clone(), HeaderValue::from_static("9000"));
    headers.insert(EXPECTED_TIMEOUT.clone(), HeaderValue::from_static("9000"));
    assert_eq!(stamp(&mut headers, Duration::from_micros(1_999), false), Ok(()));
    assert_eq!(headers.get(&EXPECTED_TIMEOUT), Some(&HeaderValue::from_static("1")));
    assert_eq!(headers.len(), 1);
    assert_eq!(stamp(&mut headers, Duration::from_micros(999), true), Err(Over));
    assert_eq!(headers.len(), 1);
    assert_eq!(stamp(&mut headers, Duration::from_micros(1_999), true), Ok(()));
    assert_eq!(headers.get(&GRPC_TIMEOUT), Some(&HeaderValue::from_static("1999000n")));
}

#[test]
fn grpc_timeouts_take_the_finest_unit_that_fits() {
    for (left, encoded) in [
        (Duration::from_nanos(99_999_999), "99999999n"),
        (Duration::from_nanos(100_000_999), "100000u"),
        (Duration::from_micros(100_000_000), "100000m"),
        (ms(100_000_000), "100000S"),
        (Duration::from_secs(100_000_000), "1666666M"),
        (Duration::from_secs(100_000_000 * 60), "1666666H"),
        (Duration::MAX, "99999999H"),
    ] {
        assert_eq!(encode_grpc_timeout(left), encoded, "{left:?}");
    }
}

#[test]
fn grpc_is_told_from_what_only_begins_like_it() {
    let is = |value: &'static str| {
        is_grpc(&HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(value))]))
    };
    for grpc in ["application/grpc", "application/grpc+proto", "Application/gRPC; a=b"] {
        assert!(is(grpc), "{grpc}");
    }
    for other in ["application/grpc-web", "application/grpcx", "application/json", "", "grpc"] {
        assert!(!is(other), "{other}");
    }
    assert!(!is_grpc(&HeaderMap::new()));
}

/// A duration of any size: what falls into one unit of `grpc-timeout` is not all there is.
fn durations() -> impl Strategy<Value = Duration> {
    prop_oneof![
        (0..5_000_000_u64).prop_map(Duration::from_nanos),
        (0..5_000_000_u64).prop_map(Duration::from_micros),
        (0..5_000_000_u64).prop_map(Duration::from_millis),
        (0..50_000_000_000_u64).prop_map(Duration::from_secs),
    ]
}

proptest! {
    /// What the next hop reads is no longer than what this one read, less what has passed since
    /// and less than an attempt may take; and a request that is over tells nobody anything.
    #[test]
    fn a_deadline_only_shrinks_from_hop_to_hop(
        came in durations(), route in durations(), elapsed in durations(),
        per_try in prop::option::of(durations()), is_grpc: bool,
    ) {
        let mut headers = HeaderMap::new();
        let came_ms = u64::try_from(came.as_millis())?;
        headers.insert(EXPECTED_TIMEOUT.clone(), HeaderValue::from(came_ms));
        if is_grpc {
            headers.insert(GRPC_TIMEOUT.clone(), encode_grpc_timeout(came));
        }
        let limit = Limit::of(&headers, route);
        prop_assert!(limit.timeout <= route && limit.timeout <= came);
        let left = limit.for_attempt(elapsed, per_try);
        prop_assert_eq!(left.is_err(), limit.timeout < elapsed + LEAST);
        let Ok(left) = left else { return Ok(()) };
        prop_assert!(left >= LEAST && left <= limit.timeout - elapsed);
        prop_assert!(per_try.is_none_or(|per_try| left <= per_try.max(LEAST)));
        prop_assert_eq!(stamp(&mut headers, left, limit.is_grpc), Ok(()));
        let next = Limit::of(&headers, Duration::MAX);
        prop_assert!(next.timeout <= left, "{:?} is passed on of {left:?}", next.timeout);
        prop_assert!(next.timeout >= LEAST && !next.malformed);
        prop_assert_eq!(next.is_grpc, is_grpc);
    }

    /// What is written can be read, loses less than the unit's share of eight digits, and gains
    /// nothing.
    #[test]
    fn grpc_timeouts_are_read_as_they_were_written(left in durations()) {
        let written = encode_grpc_timeout(left);
        let text = written.to_str()?;
        prop_assert!(text.len() <= GRPC_DIGITS + 1);
        let read = grpc_timeout(text).expect("what was written");
        prop_assert!(read <= left && left - read <= left / 100_000, "{text} of {left:?}");
    }

    /// No text makes a deadline longer, nor breaks anything.
    #[test]
    fn no_text_lengthens_a_deadline(text in "[ -~]{0,12}|[0-9]{1,10}[HMSmun]?") {
        for name in [&GRPC_TIMEOUT, &UPSTREAM_TIMEOUT, &EXPECTED_TIMEOUT] {
            prop_assert!(limit(name, &text).timeout <= ROUTE);
        }
    }
}
