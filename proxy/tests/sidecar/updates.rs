//! A configuration that changes under way.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;
use proxy::policy::balance::EndpointId;
use proxy::policy::outlier::GateState;
use proxy::stack::Refused;
use tokio::time::sleep;

use crate::script::{Act, Fleet, GET, OK, UNAVAILABLE};

const ROUND_ROBIN: &str = "balance = \"round_robin\"\nslow_start.window = \"0s\"";
const NO_RETRY: &str = "retry.max_retries = 0";

fn fleet(endpoints: &[&str]) -> Fleet {
    Fleet::new(endpoints, ROUND_ROBIN, NO_RETRY, |_| Act::say(OK))
}

async fn ask_times(fleet: &Fleet, times: usize) -> BTreeSet<String> {
    let before = fleet.seen().len();
    for _ in 0..times {
        assert_eq!(fleet.ask(GET).await.status(), 200);
    }
    fleet.seen_by().split_off(before).into_iter().collect()
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[tokio::test(start_paused = true)]
async fn an_added_endpoint_gets_traffic_and_a_removed_one_none() {
    let fleet = fleet(&["a:80", "b:80"]);
    assert_eq!(ask_times(&fleet, 4).await, names(&["a:80", "b:80"]));
    let applied = fleet.apply(&["b:80", "c:80"], ROUND_ROBIN, NO_RETRY).expect("it is right");
    assert_eq!((applied.generation, applied.endpoints_added, applied.endpoints_removed), (2, 1, 1));
    assert_eq!(ask_times(&fleet, 8).await, names(&["b:80", "c:80"]));
    fleet.at_rest().await;
    assert_eq!(fleet.stack.generation(), 2);
    assert_eq!(fleet.metric("sidecar_config_applied_total"), 1);
    assert_eq!(fleet.metric("sidecar_cluster_membership_total{cluster=\"web\"}"), 2);
    // What the removed one did is still a part of what the cluster did.
    assert_eq!(fleet.metric("sidecar_cluster_upstream_rq_total{cluster=\"web\"}"), 12);
}

#[tokio::test(start_paused = true)]
async fn a_removed_endpoint_finishes_what_it_has_and_its_idle_connections_close() {
    let fleet = Fleet::new(&["a:80"], ROUND_ROBIN, NO_RETRY, |seen| match seen.nth {
        0 | 1 => Act::later(1000, OK),
        _ => Act::say(OK),
    });
    // Two at once make two connections; then one of them is idle and the other in use.
    let pair = async { tokio::join!(fleet.ask(GET), fleet.ask(GET)) }.await;
    assert_eq!((pair.0.status(), pair.1.status()), (200, 200));
    let slow = async {
        let mut caller = fleet.caller();
        caller.send(GET).await;
        caller.message().await
    };
    assert_eq!(fleet.idle(), 2);
    assert_eq!(slow.await.status(), 200);
    fleet.apply(&["b:80"], ROUND_ROBIN, NO_RETRY).expect("it is right");
    fleet.settle().await;
    assert_eq!(fleet.metric("sidecar_cluster_upstream_cx_active{cluster=\"web\"}"), 0);
    assert_eq!(ask_times(&fleet, 4).await, names(&["b:80"]));
    fleet.at_rest().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_in_flight_on_a_removed_endpoint_is_answered() {
    let fleet = Fleet::new(&["a:80"], ROUND_ROBIN, NO_RETRY, |seen| match &*seen.endpoint {
        "a:80" => Act::later(500, OK),
        _ => Act::say(OK),
    });
    let under_way = async { fleet.ask(GET).await };
    let update = async {
        sleep(Duration::from_millis(100)).await;
        fleet.apply(&["b:80"], ROUND_ROBIN, NO_RETRY).expect("it is right");
        assert_eq!(ask_times(&fleet, 2).await, names(&["b:80"]));
    };
    let (answer, ()) = tokio::join!(under_way, update);
    assert_eq!(answer.status(), 200);
    fleet.settle().await;
    let active = |of: &str| {
        fleet.metric(&format!("sidecar_cluster_upstream_{of}_active{{cluster=\"web\"}}"))
    };
    // The connection of the removed one is closed when its answer is complete.
    assert_eq!((active("rq"), active("cx")), (0, 1));
    fleet.at_rest().await;
}

#[tokio::test(start_paused = true)]
async fn a_draining_endpoint_gets_nothing_new_and_comes_back() {
    let fleet = fleet(&["a:80", "b:80"]);
    assert_eq!(ask_times(&fleet, 4).await.len(), 2);
    let drain = "balance = \"round_robin\"\n[[clusters.endpoints]]\naddress = \"a:80\"\ndraining = true\n\
                 [[clusters.endpoints]]\naddress = \"b:80\"\n";
    let text = crate::script::config(&[], drain, NO_RETRY).replace("endpoints = []\n", "");
    let text = text.replace("balance = \"round_robin\"", ROUND_ROBIN);
    let config = proxy::Config::parse(std::path::Path::new("test.toml"), &text).expect("right");
    assert_eq!(fleet.stack.apply(config).expect("it is right").endpoints_altered, 1);
    fleet.settle().await;
    assert_eq!(fleet.idle(), 1, "its idle connection is closed");
    assert_eq!(ask_times(&fleet, 4).await, names(&["b:80"]));
    fleet.apply(&["a:80", "b:80"], ROUND_ROBIN, NO_RETRY).expect("it is right");
    assert_eq!(ask_times(&fleet, 4).await, names(&["a:80", "b:80"]));
    assert_eq!(fleet.idle(), 2, "its connections are kept again");
}

#[tokio::test(start_paused = true)]
async fn who_stays_stays_ejected() {
    let fleet = Fleet::new(&["a:80", "b:80"], ROUND_ROBIN, NO_RETRY, |seen| {
        Act::say(if seen.endpoint == "a:80" { UNAVAILABLE } else { OK })
    });
    for _ in 0..20 {
        fleet.ask(GET).await;
    }
    let state = || fleet.stack.clusters()[0].state(EndpointId(0));
    assert!(matches!(state(), GateState::Ejected { .. }));
    fleet.apply(&["c:80", "b:80", "a:80"], ROUND_ROBIN, NO_RETRY).expect("it is right");
    assert!(matches!(state(), GateState::Ejected { .. }), "other endpoints are no pardon");
    let other_rules = format!("{ROUND_ROBIN}\nconnect_timeout = \"2s\"");
    fleet.apply(&["c:80", "b:80", "a:80"], &other_rules, NO_RETRY).expect("it is right");
    assert!(matches!(state(), GateState::Ejected { .. }), "nor are new connections");
    fleet.apply(&["c:80", "b:80"], &other_rules, NO_RETRY).expect("it is right");
    assert_eq!(fleet.metric("sidecar_cluster_membership_healthy{cluster=\"web\"}"), 2);
    fleet.at_rest().await;
}

#[tokio::test(start_paused = true)]
async fn a_flip_under_load_costs_nobody_anything() {
    let fleet = Fleet::new(&["a:80", "b:80"], ROUND_ROBIN, NO_RETRY, |_| Act::later(20, OK));
    let load = join_all((0..400).map(|n| {
        let fleet = &fleet;
        async move {
            sleep(Duration::from_millis(n)).await;
            fleet.ask(GET).await.status()
        }
    }));
    let flips = async {
        let sets: [&[&str]; 4] = [&["c:80"], &["a:80", "c:80"], &["b:80"], &["a:80", "b:80"]];
        let rules = [ROUND_ROBIN, "balance = \"peak_ewma\"", "max_connections = 500"];
        for n in 0..40 {
            sleep(Duration::from_millis(10)).await;
            fleet.apply(sets[n % 4], rules[n % 3], NO_RETRY).expect("it is right");
        }
    };
    let (statuses, ()) = tokio::join!(load, flips);
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    fleet.at_rest().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_wrong_changes_nothing() {
    let fleet = fleet(&["a:80"]);
    let text = crate::script::config(&["b:80"], ROUND_ROBIN, NO_RETRY);
    let config = |text: &str| {
        proxy::Config::parse(std::path::Path::new("test.toml"), text).expect("it can be read")
    };
    let mut nowhere = config(&text);
    nowhere.routes[0].cluster = "wbe".into();
    let refused = fleet.stack.apply(nowhere).expect_err("it goes nowhere");
    assert_eq!(
        refused.to_string(),
        "routes[0].cluster: no cluster is called `wbe`; there is `web`"
    );
    let moved = config(&text.replace("127.0.0.1:1", "127.0.0.1:2"));
    let refused = fleet.stack.apply(moved).expect_err("it listens elsewhere");
    assert_eq!(refused, Refused::NeedsRestart { what: "`listeners`".to_owned() });
    let mut empty = config(&text);
    empty.clusters[0].endpoints.clear();
    let applied = fleet.stack.apply(empty).expect("it is heeded as far as it says something");
    assert_eq!(applied.kept_last_good, ["web"]);
    assert_eq!(ask_times(&fleet, 2).await, names(&["a:80"]));
    assert_eq!(fleet.metric("sidecar_config_refused_total"), 2);
    assert_eq!(fleet.stack.generation(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_thousand_updates_leave_nothing_behind() {
    let fleet = fleet(&["e0:80"]);
    let mut most = 0;
    for n in 1..1000 {
        let name = format!("e{n}:80");
        let rules = if n % 7 == 0 { "balance = \"maglev\"" } else { ROUND_ROBIN };
        fleet.apply(&[&name], rules, NO_RETRY).expect("it is right");
        assert_eq!(fleet.ask(GET).await.status(), 200);
        let place = fleet.stack.clusters()[0].endpoints()[0].id.0;
        most = most.max(place);
    }
    assert!(most <= 2, "places are used again: {most}");
    fleet.at_rest().await;
    assert_eq!(fleet.metric("sidecar_cluster_upstream_cx_active{cluster=\"web\"}"), 1);
    assert_eq!(fleet.metric("sidecar_cluster_upstream_rq_total{cluster=\"web\"}"), 999);
    let rows = fleet.stack.telemetry().conservation().endpoints.len();
    assert!(rows <= 260, "{rows} rows are remembered");
}

#[tokio::test(start_paused = true)]
async fn clusters_come_and_go() {
    let fleet = fleet(&["a:80"]);
    let one = crate::script::config(&["a:80"], ROUND_ROBIN, NO_RETRY);
    let other = one.replace("\"web\"", "\"db\"").replace("a:80", "b:80");
    let config = |text: &str| {
        proxy::Config::parse(std::path::Path::new("test.toml"), text).expect("it can be read")
    };
    for _ in 0..20 {
        fleet.stack.apply(config(&other)).expect("it is right");
        assert_eq!(ask_times(&fleet, 2).await, names(&["b:80"]));
        fleet.stack.apply(config(&one)).expect("it is right");
        assert_eq!(ask_times(&fleet, 2).await, names(&["a:80"]));
    }
    fleet.settle().await;
    fleet.at_rest().await;
    assert!(fleet.stack.clusters()[0].id.0 <= 2, "ids are used again");
    assert_eq!(fleet.stack.telemetry().conservation().attempts().started(), 80);
}

#[tokio::test(start_paused = true)]
async fn an_open_circuit_stays_open_while_its_own_rules_are_the_same() {
    const CIRCUIT: &str = "circuit = { min_requests = 10, open_for = \"60s\" }";
    let rules = |more: &str| format!("{ROUND_ROBIN}\noutlier.enabled = false\n{more}");
    let fleet = Fleet::new(&["a:80"], &rules(CIRCUIT), NO_RETRY, |_| Act::say(UNAVAILABLE));
    let reached = || async {
        let before = fleet.seen().len();
        fleet.ask(GET).await;
        fleet.seen().len() - before
    };
    let is_open = || fleet.metric("sidecar_cluster_circuit_state{cluster=\"web\",state=\"open\"}");
    for _ in 0..10 {
        assert_eq!(reached().await, 1);
    }
    assert_eq!((reached().await, is_open()), (0, 1));
    fleet
        .apply(&["a:80"], &rules(&format!("{CIRCUIT}\nconnect_timeout = \"2s\"")), NO_RETRY)
        .expect("it is right");
    assert_eq!((reached().await, is_open()), (0, 1), "new connections change nothing about it");
    fleet
        .apply(&["a:80"], &rules("circuit = { min_requests = 20 }"), NO_RETRY)
        .expect("it is right");
    assert_eq!(
        (is_open(), reached().await),
        (0, 1),
        "another circuit begins closed, and it is told"
    );
    fleet.at_rest().await;
}

#[tokio::test(start_paused = true)]
async fn who_is_ejected_is_told_to_be_back_when_nobody_ejects_any_more() {
    let fleet = Fleet::new(&["a:80", "b:80"], ROUND_ROBIN, NO_RETRY, |seen| {
        Act::say(if seen.endpoint == "a:80" { UNAVAILABLE } else { OK })
    });
    for _ in 0..20 {
        fleet.ask(GET).await;
    }
    let ejected =
        || fleet.metric("sidecar_cluster_outlier_detection_ejections_active{cluster=\"web\"}");
    assert_eq!(ejected(), 1);
    let slower = ROUND_ROBIN.replace("0s", "3s");
    fleet.apply(&["a:80", "b:80"], &slower, NO_RETRY).expect("it is right");
    assert_eq!(ejected(), 1, "another ramp is no pardon");
    let off = format!("{ROUND_ROBIN}\noutlier.enabled = false");
    fleet.apply(&["a:80", "b:80"], &off, NO_RETRY).expect("it is right");
    assert_eq!(ejected(), 0);
    fleet.at_rest().await;
}
