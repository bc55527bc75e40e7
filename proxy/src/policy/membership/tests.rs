//! Who may be picked, scripted, and what holds for all.

use std::num::NonZeroU32;

use proptest::prelude::{any, prop, prop_assert, prop_assert_eq, proptest};

use super::*;
use crate::rng::stream;

fn endpoint(priority: u32, zone: &str) -> EndpointAttributes {
    let zone = (!zone.is_empty()).then(|| zone.to_owned());
    EndpointAttributes { priority, zone, ..EndpointAttributes::default() }
}

fn labelled(labels: &[(&str, &str)]) -> EndpointAttributes {
    EndpointAttributes { labels: selector(labels), ..EndpointAttributes::default() }
}

fn selector(labels: &[(&str, &str)]) -> Selector {
    labels.iter().map(|(label, value)| ((*label).to_owned(), (*value).to_owned())).collect()
}

fn cluster(endpoints: Vec<EndpointAttributes>, options: MembershipOptions) -> Membership {
    Membership::new(endpoints, Vec::new(), options)
}

fn in_zone(zone: &str) -> MembershipOptions {
    MembershipOptions { zone: Some(zone.to_owned()), ..MembershipOptions::default() }
}

fn take_out(membership: &mut Membership, endpoints: std::ops::Range<usize>) {
    endpoints.for_each(|endpoint| membership.set_available(EndpointId(endpoint), false));
}

/// Share in percent, priority, panic and members of each candidate set.
fn shown(membership: &Membership, subset: SubsetId) -> Vec<(u32, u32, bool, Vec<usize>)> {
    let loads = membership.loads(subset);
    loads
        .map(|(load, choice)| {
            let members = choice.ready.as_slice().iter().map(|endpoint| endpoint.0).collect();
            (libm::round(load * 100.0) as u32, choice.priority, choice.panic, members)
        })
        .collect()
}

/// The table in Envoy's documentation of priority levels, with levels of 100.
#[test]
fn priorities_spill_as_in_envoys_table() {
    for (healthy, loads) in [
        ([100, 100], [100, 0]),
        ([72, 100], [100, 0]),
        ([71, 100], [99, 1]),
        ([50, 100], [70, 30]),
        ([25, 100], [35, 65]),
        ([0, 100], [0, 100]),
        ([25, 25], [50, 50]),
        ([5, 65], [7, 93]),
    ] {
        let endpoints = (0..200).map(|i| endpoint(u32::from(i >= 100), "")).collect();
        let mut membership = cluster(endpoints, MembershipOptions::default());
        take_out(&mut membership, healthy[0]..100);
        take_out(&mut membership, 100 + healthy[1]..200);
        let mut is = [0, 0];
        shown(&membership, SubsetId::ALL).iter().for_each(|(load, p, ..)| is[*p as usize] = *load);
        assert_eq!(is, loads, "{healthy:?} %");
    }
}

#[test]
fn panic_begins_just_below_the_threshold() {
    let panics = |endpoints: usize, out: usize| {
        let mut membership =
            cluster(vec![endpoint(0, ""); endpoints], MembershipOptions::default());
        take_out(&mut membership, 0..out);
        let mut rng = stream(1, "test");
        let choice = membership.choose(SubsetId::ALL, &mut rng).unwrap();
        let everybody = choice.ready.len() == endpoints;
        assert!(everybody == (choice.panic || out == 0));
        choice.panic
    };
    for endpoints in 1..40 {
        for out in 0..=endpoints {
            let is_below = 2 * (endpoints - out) < endpoints;
            assert_eq!(panics(endpoints, out), is_below, "{out} of {endpoints} out");
        }
    }
}

#[test]
fn a_standby_that_can_serve_prevents_panic() {
    let endpoints = || (0..8).map(|i| endpoint(u32::from(i >= 4), "")).collect();
    let mut membership = cluster(endpoints(), MembershipOptions::default());
    take_out(&mut membership, 0..3);
    assert_eq!(
        shown(&membership, SubsetId::ALL),
        [(35, 0, false, vec![3]), (65, 1, false, vec![4, 5, 6, 7])]
    );
    // 1.4 · (0.25 + 0.25) carries 70 %: now the threshold counts.
    take_out(&mut membership, 4..7);
    assert_eq!(
        shown(&membership, SubsetId::ALL),
        [(50, 0, true, vec![0, 1, 2, 3]), (50, 1, true, vec![4, 5, 6, 7])]
    );
    take_out(&mut membership, 0..8);
    assert_eq!(shown(&membership, SubsetId::ALL), [(100, 0, true, vec![0, 1, 2, 3])]);
}

#[test]
fn without_a_threshold_nothing_available_is_nothing() {
    let options = MembershipOptions { panic_threshold: 0.0, ..MembershipOptions::default() };
    let mut membership = cluster(vec![endpoint(0, ""); 3], options);
    take_out(&mut membership, 0..2);
    assert_eq!(shown(&membership, SubsetId::ALL), [(100, 0, false, vec![2])]);
    take_out(&mut membership, 2..3);
    assert!(membership.choose(SubsetId::ALL, &mut stream(1, "test")).is_none());
}

#[test]
fn who_is_draining_gets_nothing_and_is_not_missed() {
    let mut membership = cluster(vec![endpoint(0, ""); 4], MembershipOptions::default());
    (0..3).for_each(|i| membership.set_draining(EndpointId(i), true));
    assert_eq!(shown(&membership, SubsetId::ALL), [(100, 0, false, vec![3])]);
    take_out(&mut membership, 3..4);
    assert_eq!(shown(&membership, SubsetId::ALL), [(100, 0, true, vec![3])]);
    membership.set_draining(EndpointId(3), true);
    assert!(membership.choose(SubsetId::ALL, &mut stream(1, "test")).is_none());
    membership.set_draining(EndpointId(0), false);
    assert_eq!(shown(&membership, SubsetId::ALL), [(100, 0, false, vec![0])]);
}

#[test]
fn the_own_zone_is_preferred_and_spills_what_it_must() {
    let endpoints = (0..20).map(|i| endpoint(0, if i < 10 { "a" } else { "b" })).collect();
    let mut membership = cluster(endpoints, in_zone("a"));
    let loads = |membership: &Membership| -> Vec<_> {
        let loads = membership.loads(SubsetId::ALL);
        loads.map(|(load, choice)| (libm::round(load * 100.0) as u32, choice.locality)).collect()
    };
    assert_eq!(loads(&membership), [(100, Locality::Local)]);
    take_out(&mut membership, 0..2);
    assert_eq!(loads(&membership), [(100, Locality::Local)]);
    take_out(&mut membership, 2..3);
    assert_eq!(loads(&membership), [(98, Locality::Local), (2, Locality::Remote)]);
    take_out(&mut membership, 3..9);
    assert_eq!(loads(&membership), [(14, Locality::Local), (86, Locality::Remote)]);
    take_out(&mut membership, 9..10);
    assert_eq!(loads(&membership), [(100, Locality::Remote)]);
    // Panic is of the level, and knows no zones.
    take_out(&mut membership, 10..11);
    assert_eq!(loads(&membership), [(100, Locality::Local)]);
    let (_, choice) = membership.loads(SubsetId::ALL).next().unwrap();
    assert!(choice.panic && choice.ready.len() == 20);
}

#[test]
fn a_zone_needs_enough_endpoints_to_be_preferred() {
    for (local, locality) in [(1, Locality::Any), (2, Locality::Local)] {
        let endpoints = (0..6).map(|i| endpoint(0, if i < local { "a" } else { "b" })).collect();
        let membership = cluster(endpoints, in_zone("a"));
        let (_, choice) = membership.loads(SubsetId::ALL).next().unwrap();
        assert_eq!(choice.locality, locality);
    }
    let membership = cluster(vec![endpoint(0, ""); 6], MembershipOptions::default());
    assert_eq!(membership.loads(SubsetId::ALL).next().unwrap().1.locality, Locality::Any);
}

#[test]
fn weights_count_as_capacity() {
    let heavy = EndpointAttributes {
        weight: NonZeroU32::MIN.saturating_add(2),
        ..EndpointAttributes::default()
    };
    let mut membership =
        cluster(vec![heavy, endpoint(0, ""), endpoint(0, "")], MembershipOptions::default());
    take_out(&mut membership, 1..3);
    assert!(!membership.loads(SubsetId::ALL).next().unwrap().1.panic);
    membership.set_available(EndpointId(1), true);
    membership.set_available(EndpointId(0), false);
    assert!(membership.loads(SubsetId::ALL).next().unwrap().1.panic);
}

#[test]
fn an_empty_subset_falls_back_as_it_is_told() {
    let endpoints = || vec![labelled(&[("v", "1"), ("x", "y")]), labelled(&[("v", "2")])];
    let selectors = || {
        vec![selector(&[("v", "1")]), selector(&[("v", "3")]), selector(&[("v", "2"), ("x", "y")])]
    };
    for fallback in [SubsetFallback::Any, SubsetFallback::None] {
        let options = MembershipOptions { subset_fallback: fallback, ..Default::default() };
        let mut membership = Membership::new(endpoints(), selectors(), options);
        let ids: Vec<_> = selectors().iter().map(|s| membership.subset(s).unwrap()).collect();
        let all = match fallback {
            SubsetFallback::Any => vec![(100, 0, false, vec![0, 1])],
            SubsetFallback::None => Vec::new(),
        };
        assert_eq!(shown(&membership, ids[0]), [(100, 0, false, vec![0])]);
        assert_eq!(shown(&membership, ids[1]), all);
        assert_eq!(shown(&membership, ids[2]), all);
        // What is only ejected is not missing: the subset panics and stays itself.
        take_out(&mut membership, 0..1);
        assert_eq!(shown(&membership, ids[0]), [(100, 0, true, vec![0])]);
        membership.set_draining(EndpointId(0), true);
        let rest = if all.is_empty() { all } else { vec![(100, 0, false, vec![1])] };
        assert_eq!(shown(&membership, ids[0]), rest);
    }
    let membership = Membership::new(endpoints(), selectors(), MembershipOptions::default());
    assert_eq!(membership.subset(&selector(&[])), Some(SubsetId::ALL));
    assert_eq!(membership.subset(&selector(&[("v", "9")])), None);
}

#[test]
fn the_settled_are_those_that_do_not_ramp_unless_all_do() {
    let mut membership = cluster(vec![endpoint(0, ""); 3], MembershipOptions::default());
    let settled = |membership: &Membership| {
        membership.loads(SubsetId::ALL).next().unwrap().1.settled.as_slice().to_vec()
    };
    membership.set_ramping(EndpointId(1), true);
    assert_eq!(settled(&membership), [EndpointId(0), EndpointId(2)]);
    (0..3).for_each(|i| membership.set_ramping(EndpointId(i), true));
    assert_eq!(settled(&membership).len(), 3);
    membership.set_ramping(EndpointId(1), false);
    assert_eq!(settled(&membership), [EndpointId(1)]);
}

#[test]
fn a_single_candidate_set_draws_nothing_and_several_are_drawn_by_their_loads() {
    let endpoints = (0..20).map(|i| endpoint(0, if i < 10 { "a" } else { "b" })).collect();
    let mut membership = cluster(endpoints, in_zone("a"));
    let mut rng = stream(1, "test");
    assert!(membership.choose(SubsetId::ALL, &mut rng).is_some());
    assert_eq!(rng.random::<u64>(), stream(1, "test").random::<u64>());
    take_out(&mut membership, 0..5);
    let mut local = 0;
    for _ in 0..10_000 {
        let choice = membership.choose(SubsetId::ALL, &mut rng).unwrap();
        local += u32::from(choice.locality == Locality::Local);
    }
    assert!((6_850..7_150).contains(&local), "{local}");
}

proptest! {
    /// While anybody is there, there is a choice; loads are 1 together; members are members.
    #[test]
    fn a_choice_is_there_adds_up_and_belongs(
        attributes in prop::collection::vec((0..3u32, 0..3usize, 0..2usize, 1..5u32), 1..30),
        status in prop::collection::vec((any::<bool>(), any::<bool>(), any::<bool>()), 30),
        threshold in 0.01..=1.0, overprovisioning in 1.0..3.0, seed: u64,
    ) {
        let endpoints: Vec<_> = attributes.iter().map(|(priority, zone, label, weight)| {
            EndpointAttributes {
                weight: NonZeroU32::new(*weight).unwrap(),
                labels: selector(&[("v", ["1", "2"][*label])]),
                ..endpoint(*priority, ["a", "b", ""][*zone])
            }
        }).collect();
        let wanted = selector(&[("v", "1")]);
        let options = MembershipOptions {
            panic_threshold: threshold,
            overprovisioning,
            subset_fallback: SubsetFallback::None,
            ..in_zone("a")
        };
        let mut membership = Membership::new(endpoints.clone(), vec![wanted], options);
        for (index, (available, ramping, draining)) in status[..endpoints.len()].iter().enumerate() {
            membership.set_available(EndpointId(index), *available);
            membership.set_ramping(EndpointId(index), *ramping);
            membership.set_draining(EndpointId(index), *draining && index % 3 == 0);
        }
        let mut rng = stream(seed, "test");
        for (subset, label) in [(SubsetId::ALL, None), (SubsetId(1), Some("1"))] {
            let is_member = |index: usize| {
                label.is_none_or(|label| endpoints[index].labels["v"] == label)
                    && !membership.status[index].draining
            };
            let somebody = (0..endpoints.len()).any(is_member);
            let choice = membership.choose(subset, &mut rng);
            prop_assert_eq!(choice.is_some(), somebody);
            let total: f64 = membership.loads(subset).map(|(load, _)| load).sum();
            prop_assert!(!somebody || (total - 1.0).abs() < 1e-9, "{total}");
            for (load, choice) in membership.loads(subset) {
                prop_assert!(load > 0.0 && !choice.ready.is_empty() && !choice.settled.is_empty());
                prop_assert_eq!(choice.weight, membership.weight_of(choice.ready));
                for endpoint in choice.ready.as_slice() {
                    prop_assert!(is_member(endpoint.0));
                    prop_assert_eq!(endpoints[endpoint.0].priority, choice.priority);
                    prop_assert!(choice.panic || membership.status[endpoint.0].available);
                }
                prop_assert!(choice.settled.as_slice().iter().all(|e| choice.ready.contains(*e)));
            }
        }
    }
}
