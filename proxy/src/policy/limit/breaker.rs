//! How many of a kind there are at once, across a cluster.
//!
//! Envoy's circuit breakers (`circuit_breaker.proto`), which are none: they count and refuse. They
//! prevent one slow cluster from holding all memory, descriptors and callers of the sidecar: by
//! Little's law a cluster that takes ten times as long holds ten times as much, and nothing else
//! would stop it.
//!
//! The counts are atomics, so that a [`Breaker`] is shared without a lock; it is still a pure
//! function of the calls made. A count never exceeds its limit, not even for a moment, and no
//! entry is refused while there is room: an add that is taken back would do both.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A request from its placement to the end of its response.
    Request,
    /// A request that waits for a connection.
    Pending,
    /// A second or later attempt, from its decision to its end.
    Retry,
    /// A connection to any endpoint, while a request uses it.
    Connection,
}

impl Kind {
    /// All of them, in declaration order.
    pub const ALL: [Kind; 4] = [Kind::Request, Kind::Pending, Kind::Retry, Kind::Connection];
}

/// The limits of a [`Breaker`], for a whole cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct BreakerOptions {
    /// Requests at once. 1024, as Envoy: at 100 ms each that is 10,000 a second, more than one
    /// application sends; and with bodies of some 64 KiB under way they hold 64 MiB.
    pub max_requests: NonZeroUsize,
    /// Requests that wait for a connection. 1024, as Envoy; 0 lets nobody wait.
    pub max_pending: usize,
    /// Retries at once; 0 forbids them. Envoy's 3 is meant to stand alone. Beside a retry budget of
    /// 20 % it would be the smaller of the two from 15 requests in flight on, and the budget would
    /// never be felt. 256 is above 20 % of `max_requests`: it only catches a budget set too high.
    pub max_retries: usize,
    /// Connections in use. 1024, as Envoy, and as many as there can be requests. Idle ones do not
    /// count: they would keep requests from endpoints that have none.
    pub max_connections: NonZeroUsize,
}

impl Default for BreakerOptions {
    fn default() -> Self {
        const MANY: NonZeroUsize = match NonZeroUsize::new(1024) {
            Some(many) => many,
            None => NonZeroUsize::MIN,
        };
        Self { max_requests: MANY, max_pending: 1024, max_retries: 256, max_connections: MANY }
    }
}

/// Counts what there is at once, up to a limit each.
#[derive(Debug)]
pub struct Breaker {
    gates: [Gate; Kind::ALL.len()],
}

#[derive(Debug)]
struct Gate {
    limit: usize,
    inside: AtomicUsize,
}

impl Breaker {
    /// Nothing is inside.
    pub fn new(options: &BreakerOptions) -> Self {
        let gate = |limit| Gate { limit, inside: AtomicUsize::new(0) };
        // In the order of `Kind`.
        let gates = [
            gate(options.max_requests.get()),
            gate(options.max_pending),
            gate(options.max_retries),
            gate(options.max_connections.get()),
        ];
        Self { gates }
    }

    /// True when there was room, which is now taken until [`Breaker::leave`].
    #[must_use]
    pub fn try_enter(&self, kind: Kind) -> bool {
        let Gate { limit, inside } = &self.gates[kind as usize];
        // Relaxed: the count guards no other memory.
        let entered = inside.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| {
            (count < *limit).then_some(count + 1)
        });
        entered.is_ok()
    }

    /// Frees the room of one that entered.
    ///
    /// # Panics
    /// When none is inside: the caller's books are wrong, and the limit would be gone.
    pub fn leave(&self, kind: Kind) {
        let left = self.gates[kind as usize].inside.fetch_update(
            Ordering::Relaxed,
            Ordering::Relaxed,
            |count| count.checked_sub(1),
        );
        assert!(left.is_ok(), "one more {kind:?} left than entered");
    }

    /// How many are inside.
    pub fn inside(&self, kind: Kind) -> usize {
        self.gates[kind as usize].inside.load(Ordering::Relaxed)
    }

    /// How many may be.
    pub fn limit(&self, kind: Kind) -> usize {
        self.gates[kind as usize].limit
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop, prop_assert_eq, proptest};

    use super::*;

    fn small() -> BreakerOptions {
        let three = NonZeroUsize::new(3).expect("three");
        BreakerOptions {
            max_requests: three,
            max_pending: 2,
            max_retries: 0,
            max_connections: NonZeroUsize::MIN,
        }
    }

    #[test]
    fn the_limit_enters_and_one_more_does_not() {
        let breaker = Breaker::new(&small());
        let limits =
            [(Kind::Request, 3), (Kind::Pending, 2), (Kind::Retry, 0), (Kind::Connection, 1)];
        for (kind, limit) in limits {
            assert_eq!(breaker.limit(kind), limit);
            for _ in 0..limit {
                assert!(breaker.try_enter(kind), "{kind:?}");
            }
            assert!(!breaker.try_enter(kind), "{kind:?}");
            if limit > 0 {
                breaker.leave(kind);
                assert!(breaker.try_enter(kind), "{kind:?} has room again");
            }
        }
    }

    #[test]
    #[should_panic(expected = "one more Retry left than entered")]
    fn who_did_not_enter_cannot_leave() {
        Breaker::new(&small()).leave(Kind::Retry);
    }

    #[test]
    fn kinds_are_listed_in_order() {
        for (place, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, place);
        }
    }

    #[test]
    fn unknown_limits_are_refused_and_the_others_default() {
        let some: BreakerOptions = toml::from_str("max_retries = 3").expect("a limit");
        assert_eq!(some, BreakerOptions { max_retries: 3, ..BreakerOptions::default() });
        assert!(toml::from_str::<BreakerOptions>("max_retry = 3").is_err());
        assert!(toml::from_str::<BreakerOptions>("max_requests = 0").is_err());
    }

    proptest! {
        /// Each kind counts for itself, exactly and up to its limit.
        #[test]
        fn counts_are_exact(steps in prop::collection::vec((0..4usize, any::<bool>()), 0..200)) {
            let breaker = Breaker::new(&small());
            let mut inside = [0; 4];
            for (place, enters) in steps {
                let kind = Kind::ALL[place];
                if enters {
                    let had_room = inside[place] < breaker.limit(kind);
                    prop_assert_eq!(breaker.try_enter(kind), had_room);
                    inside[place] += usize::from(had_room);
                } else if inside[place] > 0 {
                    breaker.leave(kind);
                    inside[place] -= 1;
                }
                for (place, kind) in Kind::ALL.into_iter().enumerate() {
                    prop_assert_eq!(breaker.inside(kind), inside[place]);
                }
            }
        }
    }

    /// Threads at once never see more inside than the limit, and leave none behind.
    #[test]
    fn the_limit_holds_between_threads() {
        let breaker = Breaker::new(&small());
        let entered = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..10_000 {
                        if breaker.try_enter(Kind::Request) {
                            let inside = entered.fetch_add(1, Ordering::SeqCst) + 1;
                            assert!(inside <= 3, "{inside} inside");
                            entered.fetch_sub(1, Ordering::SeqCst);
                            breaker.leave(Kind::Request);
                        }
                    }
                });
            }
        });
        assert_eq!(breaker.inside(Kind::Request), 0);
    }
}
