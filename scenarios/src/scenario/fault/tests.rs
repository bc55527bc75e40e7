use std::collections::BTreeMap;

use sim::world::EndpointSpec;

use super::*;

const WHEN: &str = "at = \"1s\"\nwhat = \"hang\"";

fn fault(text: &str) -> Fault {
    toml::from_str(text).unwrap()
}

fn s(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// `web-0` to `web-4`, of which the last two are in zone b and of version 2, and `db-0`.
fn instances() -> Vec<Instance> {
    let instance = |name: String, zone: &str, version: &str| Instance {
        name,
        endpoint: EndpointSpec {
            zone: Some(zone.to_owned()),
            labels: BTreeMap::from([("v".to_owned(), version.to_owned())]),
            ..EndpointSpec::default()
        },
    };
    let web = |n: usize| {
        let late = n > 2;
        let (zone, version) = if late { ("b", "2") } else { ("a", "1") };
        instance(format!("web-{n}"), zone, version)
    };
    (0..5).map(web).chain([instance("db-0".to_owned(), "b", "1")]).collect()
}

fn places(whom: &str, seed: u64) -> Vec<usize> {
    fault(&format!("{whom}\n{WHEN}")).places(0, &instances(), seed)
}

#[test]
fn targets_are_names_patterns_and_parts() {
    assert_eq!(places("target = \"web-3\"", 1), [3]);
    assert_eq!(places("targets = [\"db-0\", \"web-1\", \"web-1\"]", 1), [1, 5]);
    assert_eq!(places("target = \"web-*\"", 1), [0, 1, 2, 3, 4]);
    assert_eq!(places("target = \"web-*\"\nfraction = 0.5", 1), [0, 1, 2]);
    assert_eq!(places("target = \"*\"\nfraction = 0.01", 1), [0]);
    assert!(places("target = \"cache-*\"", 1).is_empty());
}

#[test]
fn targets_are_zones_and_labels() {
    assert_eq!(places("zone = \"b\"", 1), [3, 4, 5]);
    assert_eq!(places("labels = { v = \"2\" }", 1), [3, 4]);
    assert_eq!(places("target = \"web-*\"\nzone = \"a\"\nlabels = { v = \"1\" }", 1), [0, 1, 2]);
    assert_eq!(places("zone = \"a\"\npick = 2\nchosen = \"first\"", 1), [0, 1]);
    assert!(places("zone = \"a\"\nlabels = { v = \"2\" }", 1).is_empty());
}

#[test]
fn the_seed_chooses_anew_for_each_seed_and_the_same_for_each_variant() {
    let all: Vec<_> = (0..60).map(|seed| places("target = \"web-*\"\npick = 2", seed)).collect();
    assert_eq!(all[7], places("target = \"web-*\"\npick = 2", 7));
    assert!(all.iter().all(|chosen| chosen.len() == 2 && chosen[0] < chosen[1]));
    let mut different = all.clone();
    different.sort();
    different.dedup();
    assert_eq!(different.len(), 10, "every pair of five comes up");
    let third = places("target = \"web-*\"\nfraction = 0.3\nchosen = \"by seed\"", 1);
    assert_eq!(third.len(), 2);
    // Another fault of the same file chooses for itself.
    let other = fault(&format!("target = \"web-*\"\npick = 2\n{WHEN}"));
    let others: Vec<_> = (0..60).map(|seed| other.places(1, &instances(), seed)).collect();
    assert_ne!(all, others);
}

#[test]
fn a_repeated_fault_ends_with_its_time_or_the_run() {
    let text = "target = \"web-0\"\nat = \"1s\"\nevery = \"5s\"\nfor = \"2s\"\nwhat = \"crash\"";
    let all = fault(text).times(0, s(12), 1);
    assert_eq!(all, [(s(1), Some(s(3))), (s(6), Some(s(8))), (s(11), Some(s(12)))]);
    let until = fault(&format!("{text}\nuntil = \"7s\"")).times(0, s(12), 1);
    assert_eq!(until, [(s(1), Some(s(3))), (s(6), Some(s(7)))]);
}

#[test]
fn a_random_fault_follows_its_means_and_its_seed() {
    let fault = fault(
        "target = \"web-0\"\nat = \"1s\"\nuntil = \"1001s\"\nwhat = \"pause\"\n\
         random = { mean_between = \"8s\", mean_length = \"2s\" }",
    );
    let times = |seed| fault.times(0, s(2000), seed);
    assert_eq!(times(1), times(1));
    assert_ne!(times(1), times(2));
    let (mut count, mut length) = (0_usize, Duration::ZERO);
    for seed in 0..20 {
        let mut before = s(1);
        for (begin, end) in times(seed) {
            let end = end.unwrap();
            assert!(before < begin && begin < end && end <= s(1001));
            (count, length, before) = (count + 1, length + (end - begin), end);
        }
    }
    // 100 a seed, give or take 10, and 2 s each.
    assert!((1850..2150).contains(&count), "{count}");
    let mean = length.as_secs_f64() / count as f64;
    assert!((1.85..2.15).contains(&mean), "{mean}");
}
