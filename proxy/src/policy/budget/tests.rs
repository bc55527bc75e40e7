//! What the budget grants, bucket by bucket, and that it never grants more.

use proptest::prelude::{Strategy, prop, prop_assert, prop_assert_eq, prop_oneof, proptest};

use super::*;

fn budget(ratio: f64, min_per_second: u32) -> Budget {
    Budget::new(&BudgetOptions { ratio, min_per_second, ..BudgetOptions::default() })
}

fn deposits(budget: &mut Budget, count: u32, now: Instant) {
    for _ in 0..count {
        budget.deposit(now);
    }
}

/// How many are granted until one is not.
fn drain(budget: &mut Budget, now: Instant) -> u32 {
    (0..1_000_000).find(|_| budget.try_reserve(now).is_none()).unwrap_or(u32::MAX)
}

#[test]
fn the_reserve_is_there_without_any_request() {
    let now = Instant::now();
    let mut budget = Budget::new(&BudgetOptions::default());
    assert_eq!(budget.balance(now), 30);
    assert_eq!(drain(&mut budget, now), 30);
    assert_eq!(budget.balance(now), 0);
}

#[test]
fn five_requests_are_one_retry_and_four_are_none() {
    let now = Instant::now();
    let mut budget = budget(0.2, 0);
    deposits(&mut budget, 4, now);
    assert_eq!(drain(&mut budget, now), 0);
    deposits(&mut budget, 1, now);
    assert_eq!(drain(&mut budget, now), 1);
}

#[test]
fn ratios_that_binary_fractions_miss_are_exact() {
    // 0.29 · 100 is 28.999999999999996 in floating point, and 1 / 0.3 is not 3 requests.
    for (ratio, requests, retries) in
        [(0.29, 100, 29), (0.29, 99, 28), (0.3, 10, 3), (1.0, 7, 7), (0.0, 1000, 0)]
    {
        let now = Instant::now();
        let mut budget = budget(ratio, 0);
        deposits(&mut budget, requests, now);
        assert_eq!(drain(&mut budget, now), retries, "{requests} requests at {ratio}");
    }
}

#[test]
fn deposits_expire_with_their_bucket() {
    let start = Instant::now();
    let mut budget = budget(0.2, 0);
    budget.deposit(start); // the origin
    let at = |ms| start + Duration::from_millis(ms);
    deposits(&mut budget, 50, at(1_999));
    assert_eq!(budget.balance(at(10_999)), 10);
    assert_eq!(budget.balance(at(11_000)), 0);
    assert_eq!(drain(&mut budget, at(11_000)), 0);
}

#[test]
fn what_was_taken_is_missed_for_a_window() {
    let start = Instant::now();
    let mut budget = budget(0.0, 1);
    let at = |ms| start + Duration::from_millis(ms);
    assert_eq!(drain(&mut budget, at(0)), 10);
    assert_eq!(drain(&mut budget, at(9_999)), 0);
    assert_eq!(drain(&mut budget, at(10_000)), 10);
}

#[test]
fn what_is_given_back_can_be_reserved_again() {
    let start = Instant::now();
    let mut budget = budget(0.0, 1);
    let first = budget.try_reserve(start).expect("the reserve is whole");
    drain(&mut budget, start);
    budget.give_back(first);
    assert_eq!(drain(&mut budget, start), 1);
}

#[test]
fn what_is_given_back_after_its_window_is_worth_nothing() {
    let start = Instant::now();
    let mut budget = budget(0.0, 1);
    let old = budget.try_reserve(start).expect("the reserve is whole");
    let later = start + Duration::from_secs(10);
    assert_eq!(drain(&mut budget, later), 10);
    budget.give_back(old);
    assert_eq!(drain(&mut budget, later), 0);
}

#[test]
fn a_clock_that_goes_back_changes_nothing() {
    let start = Instant::now() + Duration::from_secs(60);
    let mut budget = budget(0.2, 0);
    budget.deposit(start);
    deposits(&mut budget, 9, start + Duration::from_secs(5));
    assert_eq!(drain(&mut budget, start - Duration::from_secs(30)), 2);
}

#[test]
fn a_window_of_nanoseconds_and_a_long_silence_are_survived() {
    let start = Instant::now();
    let options = BudgetOptions { window: Duration::from_nanos(1), ..BudgetOptions::default() };
    let mut budget = Budget::new(&options);
    budget.deposit(start);
    budget.deposit(start + Duration::from_secs(366 * 24 * 3600));
    assert_eq!(budget.balance(start), 0);
}

/// In a total outage every request fails and every failure asks for two retries.
#[test]
fn an_outage_amplifies_by_the_ratio_and_the_reserve_at_any_rate() {
    for rate in [1_u32, 10, 100, 1_000] {
        let start = Instant::now();
        let options = BudgetOptions::default();
        let mut budget = Budget::new(&options);
        let (seconds, mut retries) = (60_u32, 0_u32);
        for n in 0..rate * seconds {
            let now = start + Duration::from_secs(1) * n / rate;
            budget.deposit(now);
            retries += (0..2).filter(|_| budget.try_reserve(now).is_some()).count() as u32;
        }
        let bound = rate * seconds / 5 + options.min_per_second * seconds;
        assert!(retries <= bound, "{retries} retries at {rate}/s, above {bound}");
        // Nor does it hold back what it could give.
        assert!(retries >= (bound * 9 / 10).min(2 * rate * seconds), "{retries} at {rate}/s");
    }
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Request,
    Retry,
    RetryGivenBack,
}

fn events() -> impl Strategy<Value = Vec<(u64, Event)>> {
    let event = prop_oneof![
        3 => prop::strategy::Just(Event::Request),
        3 => prop::strategy::Just(Event::Retry),
        1 => prop::strategy::Just(Event::RetryGivenBack),
    ];
    // Bursts, pauses within the window, and pauses beyond it.
    let gap_ms = prop_oneof![6 => 0..3_u64, 3 => 0..2_500_u64, 1 => 0..25_000_u64];
    prop::collection::vec((gap_ms, event), 1..400)
}

proptest! {
    /// Whatever happens, in the window of every retry and over the whole life, retries stay within
    /// the bounds that the module promises; and what is refused would have broken the first.
    #[test]
    fn retries_never_exceed_the_share_and_the_reserve(
        events in events(), percent in 0..=100_u64, min_per_second in 0..4_u32,
    ) {
        let start = Instant::now();
        let mut budget = budget(percent as f64 / 100.0, min_per_second);
        let reserve = u64::from(min_per_second) * 10;
        // The first event is where buckets begin.
        budget.deposit(start);
        let (mut ms, mut requests, mut retries) = (0, vec![0], Vec::new());
        for (gap_ms, event) in events {
            ms += gap_ms;
            let now = start + Duration::from_millis(ms);
            let bucket = ms / 1000;
            let in_window =
                |times: &[u64]| times.iter().filter(|time| **time + 10 > bucket).count() as u64;
            let fits = |retries: u64, requests: u64, reserve: u64| {
                retries * 100 <= percent * requests + reserve * 100
            };
            if let Event::Request = event {
                budget.deposit(now);
                requests.push(bucket);
            } else {
                let expected = fits(in_window(&retries) + 1, in_window(&requests), reserve);
                match (budget.try_reserve(now), event) {
                    (None, _) => prop_assert!(!expected),
                    (Some(unused), Event::RetryGivenBack) => budget.give_back(unused),
                    (Some(_used), _) => {
                        prop_assert!(expected);
                        retries.push(bucket);
                    }
                }
            }
            let windows = (bucket + 1).div_ceil(10);
            prop_assert!(fits(retries.len() as u64, requests.len() as u64, reserve * windows));
            // What was deposited early may have expired before what was taken.
            let income = percent * in_window(&requests) + reserve * 100;
            let left = income.saturating_sub(in_window(&retries) * 100);
            prop_assert_eq!(budget.balance(now), left / 100);
        }
    }
}
