//! What is found, how soon, and what is left alone.

use super::*;

#[test]
fn the_fifth_in_a_row_ejects_and_a_success_between_starts_anew() {
    for (outcome, reason) in [
        (Outcome::ServerError, Reason::ConsecutiveErrors),
        (Outcome::Gateway, Reason::ConsecutiveErrors),
        (Outcome::LocalOrigin, Reason::ConsecutiveLocalOrigin),
    ] {
        let mut cluster = Cluster::exact(2);
        assert_eq!(cluster.many(4, A, outcome), None);
        assert_eq!(cluster.one(A, OK), None);
        assert_eq!(cluster.many(4, A, outcome), None);
        assert!(is_ejected_for(cluster.one(A, outcome), reason));
        assert!(!cluster.is_open(A) && cluster.is_open(B));
        assert_eq!(cluster.outlier.active_ejections(), 1);
    }
}

#[test]
fn the_kinds_of_failure_are_counted_apart() {
    let mut cluster = Cluster::exact(2);
    // A refused connection says nothing about responses; a response ends the refusals.
    for _ in 0..4 {
        assert_eq!(cluster.one(A, Outcome::LocalOrigin), None);
        assert_eq!(cluster.one(A, Outcome::ServerError), None);
    }
    assert_eq!(cluster.many(4, A, Outcome::LocalOrigin), None);
    assert!(is_ejected_for(cluster.one(A, Outcome::ServerError), Reason::ConsecutiveErrors));
}

#[test]
fn gateway_errors_have_a_threshold_of_their_own() {
    let three = Consecutive { threshold: NonZeroU32::MIN.saturating_add(2), act: Act::Eject };
    let options = OutlierOptions { consecutive_gateway_errors: three, ..Default::default() };
    let mut cluster = Cluster::new(2, options);
    assert_eq!(cluster.many(2, A, Outcome::Gateway), None);
    assert_eq!(cluster.one(A, Outcome::ServerError), None);
    let mut cluster = Cluster::new(2, options);
    let third = cluster.many(3, A, Outcome::Gateway);
    assert!(is_ejected_for(third, Reason::ConsecutiveGatewayErrors));
}

#[test]
fn a_detector_may_be_off_or_only_observe() {
    let with = |act| {
        let consecutive_errors = Consecutive { act, ..Consecutive::default() };
        Cluster::new(2, OutlierOptions { consecutive_errors, ..Default::default() })
    };
    let mut observed = with(Act::Observe);
    let found = Some(Kind::Detected { reason: Reason::ConsecutiveErrors });
    assert_eq!(observed.many(5, A, Outcome::ServerError), found);
    assert_eq!(observed.many(4, A, Outcome::ServerError), None);
    assert_eq!(observed.one(A, Outcome::ServerError), found);
    assert!(observed.is_open(A));
    assert_eq!(with(Act::Off).many(100, A, Outcome::ServerError), None);
    let off = OutlierOptions { enabled: false, ..Default::default() };
    let mut off = Cluster::new(2, off);
    assert_eq!(off.many(100, A, Outcome::LocalOrigin), None);
    assert_eq!(off.outlier.next_sweep(), None);
}

#[test]
fn a_caller_that_leaves_says_nothing_about_failures() {
    let mut cluster = Cluster::exact(2);
    cluster.many(4, A, Outcome::LocalOrigin);
    cluster.many(50, A, Outcome::Cancelled { elapsed: ms(10) });
    assert!(cluster.one(A, Outcome::LocalOrigin).is_some());
}

/// (1 − p⁵)/(p⁵(1 − p)) requests in the mean: 62 at p = 0.5.
#[test]
fn five_in_a_row_take_as_long_as_theory_says() {
    for (p, expected) in [(0.5, 62.0), (0.8, 10.259), (1.0, 5.0)] {
        let mut rng = stream(1, "coin");
        let runs = 20_000;
        let mut requests = 0;
        let mut cluster = Cluster::exact(2);
        for _ in 0..runs {
            cluster.outlier = Outlier::new(2, OutlierOptions::default());
            while cluster.is_open(A) {
                cluster.one(A, fails(&mut rng, p));
                requests += 1;
            }
        }
        let mean = f64::from(requests) / f64::from(runs);
        assert!((mean / expected - 1.0).abs() < 0.03, "{mean} at {p}");
    }
}

/// How many sweeps until A, which fails so often, is out; the others fail at 0.5 %.
fn sweeps_until_found(endpoints: usize, per_second: u32, p: f64, seed: u64) -> usize {
    let mut cluster = Cluster::exact(endpoints);
    cluster.rng = stream(seed, "test");
    for sweep in 1..=60 {
        let transitions = second(&mut cluster, per_second, |endpoint, rng| {
            fails(rng, if endpoint == A { p } else { 0.005 })
        });
        assert!(transitions.iter().all(|t| t.endpoint == A), "{transitions:?}");
        if !cluster.is_open(A) {
            return sweep;
        }
    }
    usize::MAX
}

#[test]
fn an_endpoint_that_fails_now_and_then_is_found_within_a_few_sweeps() {
    for endpoints in [2, 3, 4, 10] {
        for (per_second, p, at_most) in [(100, 0.1, 6), (100, 0.3, 2), (20, 0.3, 5)] {
            let slowest =
                (1..=20).map(|seed| sweeps_until_found(endpoints, per_second, p, seed)).max();
            let what = format!("{p} at {per_second}/s among {endpoints}");
            assert!(slowest.is_some_and(|sweeps| sweeps <= at_most), "{what}: {slowest:?}");
        }
    }
}

#[test]
fn half_of_the_endpoints_may_be_bad_at_once() {
    for endpoints in [2, 4, 10, 30] {
        let mut cluster = Cluster::exact(endpoints);
        let bad = endpoints / 2;
        for _ in 0..10 {
            second(&mut cluster, 100, |endpoint, rng| {
                fails(rng, if endpoint.0 < bad { 0.3 } else { 0.0 })
            });
        }
        let out: Vec<_> = (0..endpoints).filter(|i| !cluster.is_open(EndpointId(*i))).collect();
        assert_eq!(out, (0..bad).collect::<Vec<_>>());
    }
}

#[test]
fn failures_that_all_share_eject_nobody() {
    for p in [0.01, 0.05, 0.2] {
        for endpoints in [2, 3, 10] {
            let mut cluster = Cluster::exact(endpoints);
            // In a row they would come by chance: this is about the comparison.
            cluster.outlier.options.consecutive_errors.act = Act::Off;
            for _ in 0..300 {
                let found = second(&mut cluster, 30, |_, rng| fails(rng, p));
                assert_eq!(found, [], "at {p} among {endpoints}");
            }
        }
    }
}

/// Successes between reset a streak, and when most fail peers are no measure.
#[test]
fn a_majority_that_fails_every_other_request_is_found_by_percentage() {
    let mut cluster = Cluster::exact(4);
    let mut n = 0;
    let mut every_other = |endpoint: EndpointId, _: &mut dyn Rng| {
        n += 1;
        let fails = endpoint.0 != 3 && (n / 4) % 2 == 0;
        if fails { Outcome::ServerError } else { OK }
    };
    let found = second(&mut cluster, 20, &mut every_other);
    let reasons: Vec<_> = found
        .iter()
        .map(|t| match t.kind {
            Kind::Ejected { reason, .. } => ("ejected", reason),
            Kind::Overflow { reason } => ("kept", reason),
            _ => ("other", Reason::Latency),
        })
        .collect();
    let percentage = Reason::FailurePercentage;
    assert_eq!(reasons, [("ejected", percentage), ("ejected", percentage), ("kept", percentage)]);
}

fn took(latency: Duration) -> Outcome {
    Outcome::Success { latency }
}

#[test]
fn an_endpoint_slower_than_its_peers_is_ejected() {
    for endpoints in [2, 3, 10] {
        let mut cluster = Cluster::exact(endpoints);
        let found = second(&mut cluster, 20, |endpoint, _| {
            took(if endpoint == A { ms(200) } else { ms(20) })
        });
        assert_eq!(found.len(), 1);
        assert!(is_ejected_for(Some(found[0].kind), Reason::Latency));
        assert!(!cluster.is_open(A));
    }
}

#[test]
fn slowness_that_all_share_or_few_requests_show_ejects_nobody() {
    let mut cluster = Cluster::exact(4);
    for n in 0..30 {
        let latency = if n < 10 { ms(20) } else { ms(2000) };
        assert_eq!(second(&mut cluster, 20, |_, _| took(latency)), []);
    }
    // 19 requests in a window, 1 s under way included.
    let mut quiet = Cluster::exact(4);
    for n in 0..30 {
        let latency = |endpoint| if endpoint == A { ms(2000) } else { ms(20) };
        let requests = if n % 11 == 0 { 19 } else { 0 };
        for endpoint in (0..4).map(EndpointId) {
            quiet.many(requests, endpoint, took(latency(endpoint)));
        }
        quiet.now += secs(1);
        assert_eq!(quiet.sweep(), [], "in second {n}");
    }
}

/// A hanging endpoint whose callers give up is slow, not silent.
#[test]
fn callers_that_give_up_late_show_slowness_and_those_that_give_up_early_nothing() {
    for (elapsed, is_found) in [(ms(1000), true), (ms(10), false)] {
        let mut cluster = Cluster::exact(3);
        second(&mut cluster, 20, |_, _| OK);
        for _ in 0..3 {
            second(&mut cluster, 20, |endpoint, _| {
                if endpoint == A { Outcome::Cancelled { elapsed } } else { OK }
            });
        }
        assert_eq!(!cluster.is_open(A), is_found, "after {elapsed:?}");
    }
}

#[test]
fn a_sweep_that_is_late_sees_the_same_window() {
    let bad = |endpoint| if endpoint == A { took(ms(200)) } else { OK };
    for (wait, is_found) in [(secs(10), true), (secs(11), false)] {
        let mut cluster = Cluster::exact(2);
        assert_eq!(cluster.sweep(), []);
        for endpoint in [A, B] {
            cluster.many(20, endpoint, bad(endpoint));
        }
        cluster.now += wait;
        assert_eq!(!cluster.sweep().is_empty(), is_found, "after {wait:?}");
    }
}
