//! Which endpoint a request goes to: by weight, by what it carries, by label, zone and priority,
//! by what endpoints say of their load, and by what was tried before.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proxy::policy::balance::STRATEGIES;

use crate::fleet::{Does, Fleet, GET, answerer, seconds, settle};

const NO_RETRIES: &str = "retry.max_retries = 0";
const FIVE: [&str; 5] = ["a:80", "b:80", "c:80", "d:80", "e:80"];

/// A cluster whose endpoints are tables.
fn of_tables(endpoints: &str, cluster: &str, routes: &str) -> Fleet {
    Fleet::of(&format!(
        "[[clusters]]\nname = \"web\"\nendpoints = [{endpoints}]\noutlier.jitter = 0.0\n{cluster}\n\
         {routes}"
    ))
}

const ALL_ROUTES: &str = "[[routes]]\ncluster = \"web\"\nretry.max_retries = 0\n";

/// Takes an endpoint out by a health check, which is immediate and in nobody's way.
async fn take_out(fleet: &Fleet, endpoint: &str) {
    fleet.change(endpoint, |upstream| upstream.health = Some(503));
    seconds(7.1).await;
    assert_eq!(fleet.state(endpoint).await, "unhealthy");
}

const CHECKED: &str = "health_check.kind = { http = { path = \"/healthz\" } }\n\
                       slow_start.window = \"0s\"";

/// 15:10 is 3:2 in every five, not only in the long run.
#[tokio::test(start_paused = true)]
async fn weights_are_kept_in_every_round() {
    let endpoints = "{ address = \"a:80\", weight = 15 }, { address = \"b:80\", weight = 10 }";
    let fleet = of_tables(endpoints, "balance = \"weighted_round_robin\"", ALL_ROUTES);
    for _ in 0..10 {
        let by = fleet.gets(5).await;
        assert_eq!((by["a:80"], by["b:80"]), (3, 2));
    }
    assert_eq!(fleet.page("a:80", "weight").await.as_deref(), Some("15"));
    fleet.check_at_rest().await;
}

/// What a request with this field and from this address carries.
fn keyed(nth: u8) -> String {
    format!(
        "GET / HTTP/1.1\r\nhost: a\r\nx-user: user-{nth}\r\n\
         cookie: other=1; session=s{nth}; last=2\r\n\r\n"
    )
}

/// Equal keys go to one endpoint, keys spread, and only those of an endpoint that is out move.
#[tokio::test(start_paused = true)]
async fn equal_keys_stick_to_an_endpoint_until_it_is_out() {
    for strategy in ["ring_hash", "maglev"] {
        for hash in ["{ header = \"x-user\" }", "{ cookie = \"session\" }", "\"source\""] {
            let cluster = format!("balance = \"{strategy}\"\n{CHECKED}");
            let fleet = Fleet::new(&FIVE, &cluster, &format!("{NO_RETRIES}\nhash = {hash}"));
            let places = async || {
                let mut places = BTreeMap::new();
                for nth in 0..40 {
                    let source = [10, 0, 0, nth];
                    let answer = fleet.ask_from(source, &keyed(nth)).await;
                    places.insert(nth, answerer(&answer).to_owned());
                }
                places
            };
            let before = places().await;
            let used: BTreeSet<_> = before.values().collect();
            assert_eq!(used.len(), 5, "{strategy} by {hash}: {before:?}");
            assert_eq!(places().await, before, "{strategy} by {hash}");
            take_out(&fleet, "b:80").await;
            let without = places().await;
            for (key, place) in &before {
                match place.as_str() {
                    "b:80" => assert_ne!(without[key], "b:80"),
                    _ => assert_eq!(&without[key], place, "{strategy} by {hash}: {key} moved"),
                }
            }
            fleet.change("b:80", |upstream| upstream.health = Some(200));
            seconds(3.0).await;
            assert_eq!(places().await, before, "{strategy} by {hash}: and back");
            fleet.check_at_rest().await;
        }
    }
}

/// A cookie of a longer name, or what is no cookie at all, is no key: requests spread.
#[tokio::test(start_paused = true)]
async fn without_its_key_a_request_goes_anywhere() {
    let route = format!("{NO_RETRIES}\nhash = {{ cookie = \"session\" }}");
    let fleet = Fleet::new(&FIVE, "balance = \"maglev\"", &route);
    let mut used = BTreeSet::new();
    for _ in 0..60 {
        let request = "GET / HTTP/1.1\r\nhost: a\r\ncookie: sessions=1; my-session=2\r\n\r\n";
        used.insert(answerer(&fleet.ask(request).await).to_owned());
    }
    assert_eq!(used.len(), 5);
    fleet.check_at_rest().await;
}

#[tokio::test(start_paused = true)]
async fn a_route_with_labels_reaches_only_endpoints_that_have_them() {
    let endpoints = "{ address = \"a:80\", labels = { v = \"1\" } }, \
                     { address = \"b:80\", labels = { v = \"2\", x = \"y\" } }, \
                     { address = \"c:80\", labels = { v = \"2\" } }";
    let routes = "[[routes]]\nprefix = \"/v2\"\ncluster = \"web\"\nlabels = { v = \"2\" }\n\
                  retry.max_retries = 0\n\
                  [[routes]]\nprefix = \"/none\"\ncluster = \"web\"\nlabels = { v = \"3\" }\n\
                  retry.max_retries = 0\n\
                  [[routes]]\ncluster = \"web\"\nretry.max_retries = 0\n";
    for (fallback, none) in [("any", 200), ("none", 503)] {
        let cluster = format!(
            "balance = \"round_robin\"\nmembership.subset_fallback = \"{fallback}\"\n{CHECKED}"
        );
        let fleet = of_tables(endpoints, &cluster, routes);
        let mut used = BTreeSet::new();
        for _ in 0..20 {
            let answer = fleet.ask("GET /v2 HTTP/1.1\r\nhost: a\r\n\r\n").await;
            used.insert(answerer(&answer).to_owned());
        }
        assert_eq!(used.into_iter().collect::<Vec<_>>(), ["b:80", "c:80"]);
        assert_eq!(fleet.gets(9).await.len(), 3);
        let answer = fleet.ask("GET /none HTTP/1.1\r\nhost: a\r\n\r\n").await;
        assert_eq!(answer.status(), none);
        if none == 503 {
            crate::fleet::assert_refused(&answer, 503, "UH");
            assert_eq!(fleet.cluster("upstream_cx_none_healthy_total"), 1);
        }
        fleet.check_at_rest().await;
    }
}

/// The own zone first; as it loses endpoints, what it can no longer carry spills.
#[tokio::test(start_paused = true)]
async fn the_own_zone_is_preferred_and_spills_as_its_health_falls() {
    let endpoint = |name, zone| format!("{{ address = \"{name}:80\", zone = \"{zone}\" }}");
    let endpoints = [("a", "x"), ("b", "x"), ("c", "x"), ("d", "y"), ("e", "y"), ("f", "y")];
    let endpoints = endpoints.map(|(name, zone)| endpoint(name, zone)).join(", ");
    let cluster = format!("balance = \"random\"\nmembership.zone = \"x\"\n{CHECKED}");
    let fleet = of_tables(&endpoints, &cluster, ALL_ROUTES);
    let in_zone = async |count| {
        let by = fleet.gets(count).await;
        ["a:80", "b:80", "c:80"].iter().filter_map(|name| by.get(*name)).sum::<usize>()
    };
    assert_eq!(in_zone(60).await, 60);
    take_out(&fleet, "a:80").await;
    // Two of three, trusted with 40 % more than their share: 93 %.
    let share = in_zone(400).await;
    assert!((340..395).contains(&share), "{share} of 400");
    take_out(&fleet, "b:80").await;
    let share = in_zone(400).await;
    assert!((100..260).contains(&share), "{share} of 400");
    fleet.check_at_rest().await;
}

#[tokio::test(start_paused = true)]
async fn a_lower_priority_is_used_as_the_first_fails() {
    let endpoint = |name, priority| format!("{{ address = \"{name}:80\", priority = {priority} }}");
    let endpoints = [("a", 0), ("b", 0), ("c", 1), ("d", 1)];
    let endpoints = endpoints.map(|(name, priority)| endpoint(name, priority)).join(", ");
    let cluster = format!("balance = \"random\"\n{CHECKED}");
    let fleet = of_tables(&endpoints, &cluster, ALL_ROUTES);
    let second = async |count| {
        let by = fleet.gets(count).await;
        ["c:80", "d:80"].iter().filter_map(|name| by.get(*name)).sum::<usize>()
    };
    assert_eq!(second(60).await, 0);
    take_out(&fleet, "a:80").await;
    // One of two carries 0.5 · 1.4 = 70 %.
    let share = second(400).await;
    assert!((90..150).contains(&share), "{share} of 400");
    take_out(&fleet, "b:80").await;
    assert_eq!(second(60).await, 60);
    assert_eq!(fleet.cluster("lb_panic"), 0, "those of the second priority are all there");
    fleet.check_at_rest().await;
}

/// Probes are asked on connections of their own, are nobody's requests, and decide.
#[tokio::test(start_paused = true)]
async fn prequal_probes_steer_and_are_counted_as_nothing() {
    // One of three is a third of all answers: with the default, 0.84, it would not count as hot.
    let cluster = "balance = \"prequal\"\nprequal.cold_share = 0.6";
    let fleet = Fleet::new(&["a:80", "b:80", "c:80"], cluster, NO_RETRIES);
    for (name, latency) in [("a:80", 50_000), ("b:80", 1000), ("c:80", 50_000)] {
        fleet.change(name, |upstream| upstream.load = (1, latency));
    }
    seconds(1.0).await;
    let idle: usize = ["a:80", "b:80", "c:80"].map(|name| fleet.upstream(name).probes).iter().sum();
    assert!(idle >= 2, "{idle} without any request");
    let served = async || {
        let mut by = BTreeMap::new();
        for _ in 0..200 {
            *by.entry(answerer(&fleet.ask(GET).await).to_owned()).or_insert(0) += 1;
            seconds(0.01).await;
        }
        by
    };
    let by = served().await;
    assert!(by["b:80"] > 150, "the fast one: {by:?}");
    // Now others keep it busy, which only it can know.
    fleet.change("b:80", |upstream| upstream.load = (200, 1000));
    served().await;
    let by = served().await;
    assert!(by.get("b:80").is_none_or(|count| *count < 20), "the busy one: {by:?}");
    settle().await;
    for (place, name) in ["a:80", "b:80", "c:80"].into_iter().enumerate() {
        let (upstream, counts) = (fleet.upstream(name), fleet.counts(place));
        assert!(upstream.probes > 0);
        assert_eq!(counts.rq_total, upstream.seen.len() as u64);
        let own = usize::try_from(counts.cx_total).expect("a count");
        assert_eq!(upstream.connections, own + upstream.probes, "each on its own");
        assert!(upstream.seen.iter().all(|head| head.starts_with("GET / ")));
    }
    fleet.check_at_rest().await;
}

/// With every strategy: what failed is not tried again while anything else is left.
#[tokio::test(start_paused = true)]
async fn a_retry_avoids_what_was_tried() {
    for strategy in STRATEGIES {
        let cluster = format!(
            "balance = \"{}\"\noutlier.enabled = false\nretry_budget.min_per_second = 100",
            strategy.name
        );
        let route = "retry.max_retries = 2\nhash = { header = \"x-user\" }";
        let fleet = Fleet::new(&["a:80", "b:80", "c:80"], &cluster, route);
        fleet.tell("a:80", Does::Answers(503));
        fleet.tell("b:80", Does::Closes);
        for nth in 0..20 {
            let answer = fleet.ask(&keyed(nth)).await;
            let who = (answer.status(), answerer(&answer));
            assert_eq!(who, (200, "c:80"), "{}: {answer:?}", strategy.name);
            seconds(0.1).await;
        }
        fleet.check_at_rest().await;
        // None of them works: each is tried exactly once.
        fleet.tell("c:80", Does::Answers(500));
        let before = FIVE[..3].iter().map(|name| fleet.seen(name)).collect::<Vec<_>>();
        let answer = fleet.ask(&keyed(1)).await;
        assert!(answer.status() >= 500);
        assert_eq!(answer.field("x-envoy-attempt-count"), Some("3"));
        assert_eq!(answer.field("x-sidecar-retry-given-up"), Some("exhausted"));
        for (name, before) in FIVE.iter().zip(before) {
            assert_eq!(fleet.seen(name), before + 1, "{}: {name}", strategy.name);
        }
        fleet.check_at_rest().await;
    }
}

/// Under every strategy one that is back is warmed up, also under those that like idle ones.
#[tokio::test(start_paused = true)]
async fn a_returned_endpoint_is_warmed_up_under_every_strategy() {
    for strategy in STRATEGIES {
        let cluster = format!(
            "balance = \"{}\"\nhealth_check.kind = {{ http = {{ path = \"/healthz\" }} }}\n\
             slow_start = {{ window = \"100s\", min_factor = 0.1 }}",
            strategy.name
        );
        let fleet = Fleet::new(&["a:80", "b:80"], &cluster, NO_RETRIES);
        for name in ["a:80", "b:80"] {
            fleet.tell(name, Does::Takes(Duration::from_millis(5), 200));
        }
        take_out(&fleet, "b:80").await;
        fleet.gets(20).await;
        fleet.change("b:80", |upstream| upstream.health = Some(200));
        seconds(2.1).await;
        assert_eq!(fleet.state("b:80").await, "ramping");
        let before = fleet.seen("b:80");
        for _ in 0..200 {
            fleet.ask(GET).await;
        }
        let got = fleet.seen("b:80") - before;
        // A tenth of anything up to all, with room for luck.
        assert!(got < 50, "{}: {got} of 200", strategy.name);
        fleet.check_at_rest().await;
    }
}
