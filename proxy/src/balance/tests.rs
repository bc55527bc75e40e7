//! What holds for a cluster whose endpoints and rules change while it is used.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::Response;
use proptest::prelude::{
    TestCaseError, any, prop, prop_assert, prop_assert_eq, prop_oneof, proptest,
};
use proptest::strategy::Strategy as Generate;
use tokio::io::DuplexStream;

use super::*;
use crate::config::Balance;
use crate::policy::balance::STRATEGIES;
use crate::seam::dialer;
use crate::telemetry::TelemetryParts;
use crate::telemetry::event::AttemptKind;

/// Endpoints that come and go.
const NAMES: u8 = 9;

#[derive(Clone, Debug)]
enum Step {
    /// Lists those of one set, of which those of the other drain, under one of some rules.
    Update {
        listed: BTreeSet<u8>,
        draining: u16,
        rules: u8,
    },
    Place {
        key: Option<u64>,
    },
    End {
        nth: usize,
        how: u8,
    },
    Check {
        nth: usize,
        healthy: bool,
    },
    Wait {
        ms: u64,
    },
    Tidy,
}

fn steps() -> impl Generate<Value = Vec<Step>> {
    let step = prop_oneof![
        2 => (prop::collection::btree_set(0..NAMES, 1..6), any::<u16>(), 0..6_u8)
            .prop_map(|(listed, draining, rules)| Step::Update { listed, draining, rules }),
        6 => any::<Option<u64>>().prop_map(|key| Step::Place { key }),
        5 => (0..64_usize, 0..6_u8).prop_map(|(nth, how)| Step::End { nth, how }),
        1 => (0..6_usize, any::<bool>()).prop_map(|(nth, healthy)| Step::Check { nth, healthy }),
        1 => (0..4000_u64).prop_map(|ms| Step::Wait { ms }),
        1 => prop::strategy::Just(Step::Tidy),
    ];
    prop::collection::vec(step, 1..120)
}

fn config(balance: &'static str, listed: &BTreeSet<u8>, draining: u16, rules: u8) -> ClusterConfig {
    let endpoint = |name: &u8| {
        let address = EndpointAddr::parse(&format!("e{name}:80")).expect("an address");
        let draining = draining & (1 << name) != 0;
        EndpointConfig { draining, ..EndpointConfig::at(address) }
    };
    let endpoints = listed.iter().map(endpoint).collect();
    let balance = Balance::parse(balance).expect("a strategy");
    let mut config = ClusterConfig::new("web", endpoints, balance);
    config.ring_hash.points = 5;
    config.maglev.table_size = 101;
    match rules {
        0 => config.balance = Balance::parse("round_robin").expect("a strategy"),
        1 => config.max_pending = 7,
        2 => config.outlier.enabled = false,
        _ => {}
    }
    config
}

struct Play {
    cluster: Arc<Cluster>,
    telemetry: Arc<Telemetry>,
    before: Vec<Arc<Cluster>>,
    open: Vec<(Arc<Cluster>, Placement)>,
    listed: BTreeMap<String, bool>,
    most_at_once: usize,
}

impl Play {
    fn new(balance: &'static str) -> Self {
        let first = BTreeSet::from([0, 1]);
        let config = config(balance, &first, 0, 9);
        let parts = TelemetryParts::starting(Instant::now().into_std());
        let telemetry = Arc::new(Telemetry::of(&[], parts));
        telemetry.open_cluster(ClusterId(0), "web");
        let refuse =
            dialer(|_| async { Err::<DuplexStream, _>(io::ErrorKind::ConnectionRefused.into()) });
        let hold = Arc::default();
        let cluster = Cluster::new(ClusterId(0), hold, &config, Vec::new(), 1, &refuse, &telemetry);
        let listed = listed_of(&config);
        let (before, open) = (Vec::new(), Vec::new());
        Self { cluster: Arc::new(cluster), telemetry, before, open, listed, most_at_once: 2 }
    }

    async fn step(&mut self, balance: &'static str, step: &Step) -> Result<(), TestCaseError> {
        match step {
            Step::Update { listed, draining, rules } => {
                let config = config(balance, listed, *draining, *rules);
                let (new, _) = self.cluster.updated(&config, Vec::new());
                if !Arc::ptr_eq(&new, &self.cluster) {
                    self.before.push(std::mem::replace(&mut self.cluster, new));
                }
                self.before.iter().for_each(|before| before.shrink_to(&config.endpoints));
                self.listed = listed_of(&config);
            }
            Step::Place { key } => {
                self.telemetry.emit(Instant::now().into_std(), &Event::RequestReceived);
                let kind = AttemptKind::First;
                let want =
                    Want { kind, subset: SubsetId::ALL, key: *key, tried: &[], may_probe: true };
                let placement = self.cluster.place(&want, Instant::now());
                let usable = self.listed.values().any(|draining| !draining);
                prop_assert_eq!(placement.is_some(), usable, "{:?}", self.listed);
                if let Some(placement) = placement {
                    let draining = self.listed.get(placement.endpoint().addr.as_str());
                    prop_assert_eq!(draining, Some(&false), "{}", placement.endpoint().addr);
                    self.open.push((self.cluster.clone(), placement));
                }
            }
            Step::End { nth, how } if !self.open.is_empty() => {
                let now = Instant::now();
                let (_, mut placement) = self.open.swap_remove(nth % self.open.len());
                let answer =
                    |status: u16| Response::builder().status(status).body(()).expect("one");
                match how {
                    0 => placement.failed(),
                    1 => placement.cancelled(),
                    2 => drop(placement),
                    3 => {
                        placement.answered(&answer(503), now);
                        placement.completed(now);
                    }
                    _ => {
                        placement.answered(&answer(200), now);
                        placement.completed(now);
                    }
                }
            }
            Step::End { .. } => {}
            Step::Check { nth, healthy } => {
                let endpoints = self.cluster.endpoints();
                self.cluster.health_checked(&endpoints[nth % endpoints.len()], *healthy);
            }
            Step::Wait { ms } => tokio::time::advance(Duration::from_millis(*ms)).await,
            Step::Tidy => self.cluster.tidy(Instant::now()),
        }
        self.check()
    }

    fn check(&mut self) -> Result<(), TestCaseError> {
        if let Err(imbalance) = self.telemetry.conservation().check() {
            return Err(TestCaseError::fail(imbalance.to_string()));
        }
        for endpoint in self.cluster.endpoints() {
            let here = |(cluster, placement): &&(Arc<Cluster>, Placement)| {
                Arc::ptr_eq(cluster, &self.cluster) && placement.id() == endpoint.id
            };
            let here: Vec<_> = self.open.iter().filter(here).collect();
            let load = self.cluster.load(endpoint.id);
            prop_assert_eq!(load.in_flight as usize, here.len(), "{}", &endpoint.addr);
            prop_assert!(here.iter().all(|(_, it)| it.endpoint().addr == endpoint.addr));
        }
        let spoken_of = self.open.iter().map(|(_, placement)| placement.endpoint().addr.as_str());
        let there: BTreeSet<_> = spoken_of.chain(self.listed.keys().map(String::as_str)).collect();
        self.most_at_once = self.most_at_once.max(there.len());
        // One more for each that has left since places were last looked through.
        let bound = self.most_at_once + usize::from(NAMES);
        prop_assert!(self.cluster.lock().seats.len() <= bound);
        let rows = self.telemetry.cluster_rows();
        prop_assert_eq!(rows[0].members as usize, self.listed.len());
        // What is told of who is out is what is so.
        let states = self.cluster.endpoints().into_iter().map(|e| self.cluster.state(e.id));
        let out = states.filter(|state| !state.is_open()).count();
        prop_assert_eq!(rows[0].endpoints.is_out as usize, out);
        Ok(())
    }
}

fn listed_of(config: &ClusterConfig) -> BTreeMap<String, bool> {
    config.endpoints.iter().map(|e| (e.address.to_string(), e.draining)).collect()
}

fn play(balance: &'static str, steps: &[Step]) -> Result<(), TestCaseError> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_time().start_paused(true).build().expect("a runtime");
    runtime.block_on(async {
        let mut play = Play::new(balance);
        for step in steps {
            play.step(balance, step).await?;
        }
        // Everything that is open ends, and nothing is lost or counted twice.
        let placed = play.telemetry.conservation().attempts().started();
        play.open.clear();
        play.check()?;
        let all = play.telemetry.conservation().attempts();
        prop_assert_eq!((all.started(), all.ended()), (placed, placed));
        // And then nobody holds a place who is not listed.
        tokio::time::advance(Duration::from_secs(9)).await;
        for _ in 0..9 {
            tokio::task::yield_now().await;
        }
        play.before.clear();
        play.cluster.tidy(Instant::now());
        let labels = play.cluster.lock().seats.labels();
        prop_assert!(labels.iter().flatten().all(|(_, listed)| *listed), "{labels:?}");
        Ok(())
    })
}

proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]
    /// Nobody is placed on what is not listed or drains, and nobody is refused while there is
    /// anything else; counts are exact, also of those that were placed before a change; all books
    /// balance; and places are given back.
    #[test]
    fn endpoints_come_and_go(steps in steps()) {
        for strategy in STRATEGIES {
            play(strategy.name, &steps)?;
        }
    }
}

/// A retry of a request that began before must not go where nothing may be sent any more, also when
/// nothing of the old list is left.
#[tokio::test(start_paused = true)]
async fn the_last_requests_of_a_former_cluster_go_to_nobody_who_left() {
    let mut play = Play::new("round_robin");
    let place = |cluster: &Arc<Cluster>| {
        let kind = AttemptKind::Retry;
        let want = Want { kind, subset: SubsetId::ALL, key: None, tried: &[], may_probe: false };
        cluster.place(&want, Instant::now()).map(|placement| placement.endpoint().addr.to_string())
    };
    let update = |listed: &[u8], rules| Step::Update {
        listed: listed.iter().copied().collect(),
        draining: 0,
        rules,
    };
    // Other rules: another cluster takes over.
    play.step("round_robin", &update(&[0, 1], 2)).await.expect("books that balance");
    let former = play.before[0].clone();
    assert!(place(&former).is_some());
    play.step("round_robin", &update(&[1, 2], 2)).await.expect("books that balance");
    assert_eq!(place(&former).as_deref(), Some("e1:80"));
    play.step("round_robin", &update(&[2, 3], 2)).await.expect("books that balance");
    assert_eq!(place(&former), None);
    assert!(place(&play.cluster).is_some());
}
