//! The way back.

use super::*;

fn eject(cluster: &mut Cluster, endpoint: EndpointId) {
    assert!(matches!(cluster.many(5, endpoint, Outcome::LocalOrigin), Some(Kind::Ejected { .. })));
}

#[test]
fn exactly_one_probe_when_the_time_is_over() {
    let mut cluster = Cluster::exact(3);
    eject(&mut cluster, A);
    cluster.now += secs(2) - Duration::from_nanos(1);
    assert_eq!(cluster.probe(), None);
    cluster.now += Duration::from_nanos(1);
    let (endpoint, epoch) = cluster.probe().unwrap();
    assert_eq!((endpoint, cluster.outlier.state(A)), (A, GateState::HalfOpen));
    cluster.now += secs(100);
    assert_eq!(cluster.probe(), None);
    assert_eq!(cluster.record(A, epoch, OK), Some(Kind::Returned));
    assert_eq!(cluster.outlier.state(A), GateState::Ramping { since: cluster.now });
    assert_eq!(cluster.outlier.active_ejections(), 0);
    // The same answer twice is a late one.
    assert_eq!(cluster.record(A, epoch, Outcome::LocalOrigin), None);
}

#[test]
fn a_ramp_ends_at_the_sweep_after_its_watch() {
    let mut cluster = Cluster::exact(2);
    eject(&mut cluster, A);
    assert_eq!(cluster.probe_with(OK), Some(Kind::Returned));
    cluster.now += secs(30) - ms(1);
    cluster.sweep();
    assert!(matches!(cluster.outlier.state(A), GateState::Ramping { .. }));
    cluster.now += secs(1);
    cluster.sweep();
    assert_eq!(cluster.outlier.state(A), GateState::Available);
}

#[test]
fn each_failed_probe_doubles_the_ejection_up_to_the_longest() {
    let mut cluster = Cluster::exact(2);
    eject(&mut cluster, A);
    let mut lasted = Vec::new();
    for times in 2..=8 {
        let Some(Kind::ProbeFailed { until, times: now_times }) =
            cluster.probe_with(Outcome::ServerError)
        else {
            panic!("the probe did not fail");
        };
        assert_eq!(now_times, times);
        lasted.push((until - cluster.now).as_secs());
    }
    assert_eq!(lasted, [4, 8, 16, 32, 60, 60, 60]);
}

#[test]
fn answers_from_before_the_ejection_change_nothing() {
    let mut cluster = Cluster::exact(2);
    let before = cluster.outlier.epoch(A);
    eject(&mut cluster, A);
    let ejected = cluster.outlier.state(A);
    for _ in 0..100 {
        assert_eq!(cluster.record(A, before, Outcome::ServerError), None);
        assert_eq!(cluster.record(A, before, OK), None);
    }
    assert_eq!(cluster.outlier.state(A), ejected);
    // Nor does what panic sends to it meanwhile decide for the probe.
    let panicked = cluster.outlier.epoch(A);
    cluster.now += secs(2);
    let (_, probe) = cluster.probe().unwrap();
    assert_eq!(cluster.one(A, Outcome::ServerError), None);
    assert_eq!(cluster.record(A, panicked, OK), None);
    assert_eq!(cluster.outlier.state(A), GateState::HalfOpen);
    assert_eq!(cluster.record(A, probe, OK), Some(Kind::Returned));
    assert_eq!([before, panicked, probe].map(|old| cluster.record(A, old, OK)), [None; 3]);
    // 100 old failures and 4 new ones are 4 failures.
    (0..100).for_each(|_| assert_eq!(cluster.record(A, panicked, Outcome::ServerError), None));
    assert_eq!(cluster.many(4, A, Outcome::ServerError), None);
}

#[test]
fn a_probe_that_says_nothing_is_sent_again_and_one_that_hung_has_failed() {
    let mut cluster = Cluster::exact(2);
    eject(&mut cluster, A);
    cluster.now += secs(2);
    let (_, first) = cluster.probe().unwrap();
    cluster.outlier.probe_abandoned(A, first, cluster.now);
    let (_, second) = cluster.probe().unwrap();
    assert_ne!(first, second);
    // An abandonment that comes late is not this probe's.
    cluster.outlier.probe_abandoned(A, first, cluster.now);
    assert_eq!(cluster.outlier.state(A), GateState::HalfOpen);
    // Nothing is known of the peers: 5 · 50 ms.
    assert_eq!(cluster.record(A, second, Outcome::Cancelled { elapsed: ms(249) }), None);
    let (_, third) = cluster.probe().unwrap();
    let hung = cluster.record(A, third, Outcome::Cancelled { elapsed: ms(250) });
    assert_eq!(hung, Some(Kind::ProbeFailed { until: cluster.now + secs(4), times: 2 }));
}

#[test]
fn a_probe_for_latency_must_be_fast_by_the_peers_measure() {
    for (latency, is_back) in [(ms(90), true), (ms(110), false)] {
        let mut cluster = Cluster::exact(3);
        second(&mut cluster, 20, |endpoint, _| {
            let latency = if endpoint == A { ms(200) } else { ms(20) };
            Outcome::Success { latency }
        });
        assert!(!cluster.is_open(A));
        let kind = cluster.probe_with(Outcome::Success { latency });
        assert_eq!(matches!(kind, Some(Kind::Returned)), is_back, "{kind:?}");
    }
    // One that was ejected for errors has only to answer.
    let mut cluster = Cluster::exact(3);
    second(&mut cluster, 20, |_, _| OK);
    eject(&mut cluster, A);
    let late = Outcome::Success { latency: secs(5) };
    assert_eq!(cluster.probe_with(late), Some(Kind::Returned));
}

#[test]
fn escalation_is_forgiven_for_success_and_not_for_silence() {
    let eject_again = |serve: &mut dyn FnMut(&mut Cluster)| {
        let mut cluster = Cluster::exact(2);
        eject(&mut cluster, A);
        cluster.probe_with(Outcome::LocalOrigin);
        cluster.probe_with(OK);
        for _ in 0..40 {
            serve(&mut cluster);
            cluster.now += secs(1);
            cluster.sweep();
        }
        match cluster.many(5, A, Outcome::LocalOrigin) {
            Some(Kind::Ejected { times, .. }) => times,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(eject_again(&mut |_| {}), 3);
    assert_eq!(eject_again(&mut |cluster| assert_eq!(cluster.one(A, OK), None)), 2);
    let mut few = 9;
    let mut nine = |cluster: &mut Cluster| {
        if few > 0 {
            few -= 1;
            cluster.one(A, OK);
        }
    };
    assert_eq!(eject_again(&mut nine), 3);
}

/// Up 5 s, down 5 s, for ten minutes, at 100 requests a second.
#[test]
fn a_flapping_endpoint_is_ejected_less_and_less_often() {
    let mut cluster = Cluster::new(4, OutlierOptions::default());
    let start = cluster.now;
    let mut ejected_in_minute = [0; 10];
    let mut failed = 0;
    while cluster.now < start + secs(600) {
        let elapsed = cluster.now - start;
        let is_down = elapsed.as_secs() % 10 >= 5;
        cluster.sweep();
        let placed = match cluster.probe() {
            Some(probe) => Some(probe),
            None if cluster.is_open(A) => Some((A, cluster.outlier.epoch(A))),
            None => None,
        };
        if let Some((endpoint, epoch)) = placed {
            failed += u32::from(is_down);
            let outcome = if is_down { Outcome::LocalOrigin } else { OK };
            if let Some(Kind::Ejected { .. }) = cluster.record(endpoint, epoch, outcome) {
                ejected_in_minute[elapsed.as_secs() as usize / 60] += 1;
            }
        }
        cluster.now += ms(10);
    }
    let ejections: u32 = ejected_in_minute.iter().sum();
    assert!((2..=15).contains(&ejections), "{ejected_in_minute:?}");
    assert!(ejected_in_minute[0] >= 2, "{ejected_in_minute:?}");
    assert!(ejected_in_minute[2..].iter().all(|n| *n <= 2), "{ejected_in_minute:?}");
    assert!(failed <= 6 * ejections + 20, "{failed} requests lost");
}

/// After an outage of everybody, the first success brings the others back within the base time.
#[test]
fn one_return_is_news_for_all() {
    let mut cluster = Cluster::exact(10);
    for endpoint in (0..5).map(EndpointId) {
        eject(&mut cluster, endpoint);
    }
    for _ in 0..25 {
        assert!(matches!(cluster.probe_with(Outcome::LocalOrigin), Some(Kind::ProbeFailed { .. })));
    }
    assert_eq!(cluster.probe_with(OK), Some(Kind::Returned));
    cluster.now += secs(2);
    for _ in 0..4 {
        let (endpoint, epoch) = cluster.probe().unwrap();
        assert_eq!(cluster.record(endpoint, epoch, OK), Some(Kind::Returned));
    }
    assert_eq!(cluster.outlier.active_ejections(), 0);
}

#[test]
fn an_active_check_takes_out_at_once_and_beyond_the_cap() {
    let mut cluster = Cluster::exact(3);
    let late = cluster.outlier.epoch(A);
    for endpoint in [A, B, EndpointId(2)] {
        assert_eq!(cluster.check(endpoint, false), Some(Kind::Unhealthy));
        assert_eq!(cluster.check(endpoint, false), None);
        assert_eq!(cluster.outlier.state(endpoint), GateState::Unhealthy);
    }
    assert_eq!(cluster.outlier.active_ejections(), 0);
    assert_eq!(cluster.many(20, A, Outcome::LocalOrigin), None);
    assert_eq!(cluster.check(A, true), Some(Kind::Healthy));
    assert_eq!(cluster.check(A, true), None);
    assert_eq!(cluster.outlier.state(A), GateState::Ramping { since: cluster.now });
    // It is the only one in rotation, and stays.
    assert_eq!(cluster.record(A, late, Outcome::LocalOrigin), None);
    let kept = Some(Kind::Overflow { reason: Reason::ConsecutiveLocalOrigin });
    assert_eq!(cluster.many(5, A, Outcome::LocalOrigin), kept);
}

#[test]
fn a_check_that_passes_is_a_probe_for_who_could_not_be_reached() {
    let mut cluster = Cluster::exact(4);
    eject(&mut cluster, A);
    assert!(cluster.many(5, B, Outcome::ServerError).is_some());
    cluster.now += secs(2) - ms(1);
    assert_eq!(cluster.check(A, true), None);
    cluster.now += ms(1);
    assert_eq!(cluster.check(A, true), Some(Kind::Returned));
    cluster.now += secs(10);
    assert_eq!(cluster.check(B, true), None);
    assert!(!cluster.is_open(B));
}

#[test]
fn who_is_down_by_check_is_not_probed_until_it_is_up() {
    let mut cluster = Cluster::exact(4);
    eject(&mut cluster, A);
    cluster.now += secs(2);
    let (_, probe) = cluster.probe().unwrap();
    assert_eq!(cluster.check(A, false), Some(Kind::Unhealthy));
    assert_eq!(cluster.record(A, probe, OK), None);
    cluster.now += secs(100);
    assert_eq!(cluster.probe(), None);
    // It was ejected because it could not be reached; now it was.
    assert_eq!(cluster.check(A, true), Some(Kind::Returned));

    assert!(cluster.many(5, B, Outcome::ServerError).is_some());
    assert_eq!(cluster.check(B, false), Some(Kind::Unhealthy));
    cluster.now += secs(100);
    assert_eq!(cluster.check(B, true), Some(Kind::HealthyButEjected));
    assert_eq!(cluster.probe().map(|(endpoint, _)| endpoint), Some(B));
}

#[test]
fn other_rules_are_no_pardon_but_where_they_allow_less() {
    let told = |kind| move |place| Transition { endpoint: EndpointId(place), kind };
    let (returned, healthy) = (told(Kind::Returned), told(Kind::Healthy));
    let mut cluster = Cluster::exact(6);
    for (wait, place) in [(0, 3), (100, 1), (200, 4)] {
        cluster.now += ms(wait);
        eject(&mut cluster, EndpointId(place));
    }
    cluster.check(EndpointId(5), false);
    let standing: Vec<_> = (0..6).map(|place| cluster.outlier.state(EndpointId(place))).collect();
    let rules = cluster.outlier.options;
    let other = OutlierOptions { base_ejection: secs(7), ..rules };
    for rules in [rules, other] {
        assert_eq!(cluster.follow(rules, true), []);
        let now: Vec<_> = (0..6).map(|place| cluster.outlier.state(EndpointId(place))).collect();
        assert_eq!(now, standing);
        assert_eq!(cluster.outlier.active_ejections(), 3);
    }
    // A third of six; who would have been tried first is back.
    let less = OutlierOptions { max_ejection_percent: 34.0, ..rules };
    assert_eq!(cluster.follow(less, true), [returned(3)]);
    assert_eq!(cluster.follow(less, false), [healthy(5)], "nobody checks any more");
    let off = OutlierOptions { enabled: false, ..rules };
    assert_eq!(cluster.follow(off, false), [returned(1), returned(4)]);
    assert_eq!((cluster.outlier.active_ejections(), cluster.probe()), (0, None));
}

#[test]
fn a_probe_under_way_when_the_rules_change_is_sent_again() {
    let mut cluster = Cluster::exact(2);
    eject(&mut cluster, A);
    cluster.now += secs(2);
    let (_, first) = cluster.probe().unwrap();
    assert_eq!(cluster.follow(cluster.outlier.options, false), []);
    let (endpoint, second) = cluster.probe().unwrap();
    assert_eq!((endpoint, first == second), (A, false));
    assert_eq!(cluster.record(A, second, OK), Some(Kind::Returned));
}

#[test]
fn who_is_ejected_is_back_when_the_others_have_left() {
    let mut cluster = Cluster::exact(4);
    eject(&mut cluster, A);
    eject(&mut cluster, B);
    let mut out = Vec::new();
    let fates = [Fate::Stays, Fate::Stays, Fate::Stays, Fate::Leaves];
    cluster.outlier.reseat(&fates, cluster.now, &mut out);
    assert_eq!(out.len(), 1, "one of three may be out");
    let fates = [Fate::Stays, Fate::Stays, Fate::Leaves, Fate::Leaves];
    cluster.outlier.reseat(&fates, cluster.now, &mut out);
    assert_eq!(out.len(), 1, "and one of two");
    let fates = [Fate::Leaves, Fate::Stays, Fate::Leaves, Fate::Leaves];
    cluster.outlier.reseat(&fates, cluster.now, &mut out);
    assert!(cluster.is_open(B), "and not the only one");
}
