//! How long a retry waits, and for whom a try takes too long.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{STAY, THREE};
use crate::peer::Message;
use crate::script::{Act, Fleet, GET, OK, POST, Seen, UNAVAILABLE};

/// The clock's step: a wait ends with the first one after it.
const STEP: Duration = Duration::from_millis(1);

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn fails_once_with(head: &'static str) -> impl Fn(&Seen) -> Act + Send + Sync {
    let failure = format!("HTTP/1.1 503 No\r\n{head}\r\ncontent-length: 0\r\n\r\n");
    move |seen| if seen.nth == 0 { Act::say(&failure) } else { Act::say(OK) }
}

async fn timed(fleet: &Fleet, request: &str) -> (Message, Duration) {
    let asked = Instant::now();
    let answer = fleet.ask(request).await;
    (answer, asked.elapsed())
}

/// Anywhere up to a bound that doubles, and everywhere: who fails together does not return
/// together.
#[tokio::test(start_paused = true)]
async fn waits_are_jittered_over_their_whole_range() {
    let cluster = format!("{STAY}\nretry_budget.min_per_second = 1000");
    let route = "retry.max_retries = 3\nretry.backoff = { base = \"100ms\", cap = \"300ms\" }";
    let fleet = Fleet::new(&THREE, &cluster, route, |_| Act::say(UNAVAILABLE));
    for _ in 0..100 {
        fleet.ask(GET).await;
    }
    let seen = fleet.seen();
    assert_eq!(seen.len(), 400);
    for (nth, bound) in [(0, ms(100)), (1, ms(200)), (2, ms(300))] {
        let mut waits: Vec<_> =
            seen.chunks(4).map(|tries| tries[nth + 1].at - tries[nth].at).collect();
        waits.sort();
        assert!(waits[99] <= bound + STEP, "{:?}", waits[99]);
        // Each quarter holds about a quarter of them.
        for quarter in 1..=3_u32 {
            let at = bound * quarter / 4;
            let below = waits.iter().filter(|wait| **wait < at).count();
            let expected = 25 * quarter as usize;
            assert!(below.abs_diff(expected) < 15, "{below} of 100 below {at:?}");
        }
    }
    fleet.at_rest().await;
}

#[tokio::test(start_paused = true)]
async fn a_response_that_asks_for_time_gets_it() {
    for (head, wait) in [
        ("retry-after: 2", ms(2000)),
        ("grpc-retry-pushback-ms: 200", ms(200)),
        ("grpc-retry-pushback-ms: 200\r\nretry-after: 2", ms(200)),
    ] {
        let fleet = Fleet::new(&THREE, "", "", fails_once_with(head));
        let (answer, elapsed) = timed(&fleet, GET).await;
        assert_eq!(answer.status(), 200);
        assert!((wait..=wait + ms(25) + STEP).contains(&elapsed), "{head}: {elapsed:?}");
        fleet.at_rest().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_response_that_asks_for_too_much_or_says_no_is_passed_on_at_once() {
    for (head, why) in [
        ("grpc-retry-pushback-ms: -1", "pushback"),
        ("grpc-retry-pushback-ms: soon", "pushback"),
        // The deadline is 15 s.
        ("retry-after: 15", "pushback"),
        ("retry-after: 99999999999999999999", "pushback"),
        ("x-envoy-overloaded: true", "overloaded"),
        ("x-envoy-ratelimited: true", "overloaded"),
    ] {
        let fleet = Fleet::new(&THREE, "", "", fails_once_with(head));
        let (answer, elapsed) = timed(&fleet, GET).await;
        assert_eq!((answer.status(), elapsed), (503, Duration::ZERO), "{head}");
        assert_eq!(answer.field("x-sidecar-retry-given-up"), Some(why), "{head}");
        assert_eq!((fleet.seen().len(), fleet.balance()), (1, 30), "{head}");
        fleet.at_rest().await;
    }
}

/// A try that takes too long is cut, and another endpoint is asked.
#[tokio::test(start_paused = true)]
async fn a_try_that_takes_too_long_is_made_elsewhere() {
    let script = |seen: &Seen| if seen.nth == 0 { Act::hang() } else { Act::say(OK) };
    let fleet = Fleet::new(&THREE, "", "retry.per_try_timeout = \"100ms\"", script);
    let started = Instant::now();
    let (answer, elapsed) = timed(&fleet, GET).await;
    assert_eq!(answer.status(), 200);
    assert!((ms(100)..=ms(125) + STEP).contains(&elapsed), "{elapsed:?}");
    let seen = fleet.seen();
    assert_ne!(seen[0].endpoint, seen[1].endpoint);
    assert_eq!((seen[0].told_ms(), seen[1].told_ms()), (100, 100));
    let left = fleet.left();
    assert_eq!((left.len(), &left[0].0), (1, &seen[0].endpoint));
    assert!(left[0].1 - started <= ms(100) + STEP);
    fleet.at_rest().await;
    assert_eq!(fleet.stack.telemetry().conservation().attempts().per_try_timed_out, 1);
}

#[tokio::test(start_paused = true)]
async fn a_post_that_took_too_long_may_have_been_carried_out() {
    let fleet = Fleet::new(&THREE, "", "retry.per_try_timeout = \"100ms\"", |_| Act::hang());
    let (answer, elapsed) = timed(&fleet, POST).await;
    assert_eq!((answer.status(), answer.flag()), (504, "UT"));
    assert_eq!(answer.field("x-sidecar-retry-given-up"), Some("not_safe"));
    assert!(elapsed <= ms(100) + STEP, "{elapsed:?}");
    assert_eq!(fleet.seen().len(), 1);
    fleet.at_rest().await;
}

/// A caller that asks for a shorter try gets it, and for a longer one does not.
#[tokio::test(start_paused = true)]
async fn a_caller_shortens_its_tries() {
    for (asked, expected) in [(40, 40), (400, 100)] {
        let route = "retry = { per_try_timeout = \"100ms\", max_retries = 1 }";
        let fleet = Fleet::new(&THREE, STAY, route, |_| Act::hang());
        let field = format!("x-envoy-upstream-rq-per-try-timeout-ms: {asked}");
        fleet.ask(format!("GET / HTTP/1.1\r\nhost: a\r\n{field}\r\n\r\n")).await;
        let told: Vec<_> = fleet.seen().iter().map(Seen::told_ms).collect();
        assert_eq!(told, [expected; 2]);
        fleet.at_rest().await;
    }
}

/// Once it is known what a try takes, none is begun that would not be answered in time.
#[tokio::test(start_paused = true)]
async fn no_retry_that_cannot_be_answered_in_time() {
    for (per_try_ms, retried) in [(900, false), (600, true)] {
        let script = |seen: &Seen| match seen.nth {
            // What is learnt: 200 ms.
            0..30 => Act::later(200, OK),
            30 => Act::hang(),
            _ => Act::later(200, OK),
        };
        let route = format!("timeout = \"1s\"\nretry.per_try_timeout = \"{per_try_ms}ms\"");
        let fleet = Fleet::new(&THREE, STAY, &route, script);
        for _ in 0..30 {
            assert_eq!(fleet.ask(GET).await.status(), 200);
        }
        let balance = fleet.balance();
        let (answer, elapsed) = timed(&fleet, GET).await;
        assert!(elapsed <= ms(1000) + STEP);
        if retried {
            assert_eq!((answer.status(), fleet.seen().len()), (200, 32));
        } else {
            assert_eq!((answer.status(), answer.flag(), fleet.seen().len()), (504, "UT", 31));
            assert_eq!(answer.field("x-sidecar-retry-given-up"), Some("deadline"));
            assert!(elapsed <= ms(900) + STEP, "told as soon as it is known");
            assert!(fleet.balance() >= balance, "what is not sent costs nothing");
        }
        sleep(ms(1)).await;
        fleet.at_rest().await;
    }
}
